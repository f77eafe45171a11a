//! What is accepted stands in Git, as a person would have written it; and a run that was stopped is repeated to the same end.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tests::git::{URL, git};
use tests::record::{config_map, stamp};
use tests::{Cluster, Output, Together, wait_until};

use crate::LIMIT;

/// A cluster of their own: what a given cluster follows is not ours to push to.
fn cluster() -> (std::sync::Arc<Cluster>, MutexGuard<'static, ()>) {
    static CLUSTER: Together = Together::new(|| Cluster::own("accept"));
    // One repository, and one branch that Flux follows: one after the other.
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    (CLUSTER.get(), turn)
}

/// The changes of an incident, when all of them were seen in the cluster.
fn pending(cluster: &Cluster, incident: &str, count: usize) -> Vec<String> {
    wait_until("the changes to be seen", LIMIT, || {
        let changes = cluster.changes(incident);
        let seen = changes.iter().filter(|change| change["status"]["phase"] == "Pending");
        let names: Vec<String> =
            seen.filter_map(|change| change["metadata"]["name"].as_str().map(str::to_owned)).collect();
        if names.len() == count { Ok(names) } else { Err(json!(changes).to_string()) }
    })
    .unwrap()
}

/// A hook of the server that refuses every push.
fn refuse(cluster: &Cluster) {
    let hook = cluster.flux().fleet.bare.join("hooks/pre-receive");
    fs::write(&hook, "#!/bin/sh\necho 'fleet: closed for the night'\nexit 1\n").unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
}

fn accept_in_clone(cluster: &Cluster, args: &[&str]) -> Output {
    cluster.plugin("alice").current_dir(&cluster.flux().fleet.clone).run(&[&["accept"], args].concat())
}

fn verdict_of(cluster: &Cluster, change: &str) -> Value {
    let status = cluster.change(change)["status"].clone();
    json!({"phase": status["phase"], "by": status["by"], "note": status["note"], "git": status["git"]})
}

#[test]
fn an_image_and_a_scale_become_one_commit_whatever_ends_the_run_before() {
    let (cluster, _turn) = cluster();
    cluster.set_api("api");
    let fleet = &cluster.flux().fleet;
    let main = || git(&fleet.bare, &["rev-parse", "main"]).unwrap();
    let held = cluster.suspend_flux();
    cluster.open("alice", "INC-860", "prod");
    let alice = cluster.kubectl("alice").namespace("prod");
    alice.ok(&["set", "image", "deployment/api", "api=registry.example.com/api:1.0.1"]);
    alice.ok(&["scale", "deployment/api", "--replicas=4"]);
    let changes = pending(&cluster, "INC-860", 2);

    // She is in the middle of something else.
    fs::write(fleet.clone.join("prod/api.yaml"), "unsaved").unwrap();
    let (before, old) = (fleet.persons_own(), main());

    // A dry run shows the diff, and keeps nothing.
    let dry = accept_in_clone(&cluster, &["--incident", "INC-860", "--dry-run"]);
    assert_eq!(dry.status, 0, "{dry}");
    let lines: Vec<&str> = dry.stdout.lines().filter(|line| line.starts_with(['-', '+'])).collect();
    assert_eq!(
        lines,
        [
            "--- a/prod/api.yaml",
            "+++ b/prod/api.yaml",
            "-  replicas: 2   # enough for a Sunday",
            "+  replicas: 4   # enough for a Sunday",
            "-        image: \"registry.example.com/api:1.0.0\"  # {\"$imagepolicy\": \"flux-system:api\"}",
            "+        image: \"registry.example.com/api:1.0.1\"  # {\"$imagepolicy\": \"flux-system:api\"}",
        ],
        "{dry}"
    );
    assert!(dry.stderr.contains("Dry run, nothing was kept"), "{dry}");
    assert_eq!(fleet.git(&["branch", "--list", "breakglass/INC-860"]).unwrap(), "");
    assert!(changes.iter().all(|change| verdict_of(&cluster, change)["phase"] == "Pending"));

    // The push is refused: the commit is here, and no verdict was given.
    refuse(&cluster);
    let push = ["--incident", "INC-860", "--push", "--note", "the load stays"];
    let refused = accept_in_clone(&cluster, &push);
    assert_eq!(refused.status, 1, "{refused}");
    assert!(
        refused.stderr.contains("closed for the night") && refused.stderr.contains("no verdict was given"),
        "{refused}"
    );
    assert!(changes.iter().all(|change| verdict_of(&cluster, change)["phase"] == "Pending"));
    let commit = fleet.git(&["rev-parse", "breakglass/INC-860"]).unwrap();
    assert_eq!((main(), fleet.persons_own()), (old.clone(), before.clone()));

    // Again, from elsewhere: the same commit, pushed, merged, and the verdict.
    fs::remove_file(fleet.bare.join("hooks/pre-receive")).unwrap();
    let clone = fleet.clone.to_string_lossy().into_owned();
    let again = cluster.plugin("alice").run(&[&["accept", "--repo", &clone], &push[..]].concat());
    assert_eq!(again.status, 0, "{again}");
    assert!(again.stderr.contains("fleet: merged breakglass/INC-860 into main"), "{again}");
    assert!(!again.stderr.contains("Next:"), "{again}");
    assert_eq!((main(), fleet.persons_own()), (commit.clone(), before.clone()));
    assert_eq!(git(&fleet.bare, &["rev-list", "--count", &format!("{old}..main")]).unwrap(), "1");
    let place = json!({"repository": URL, "branch": "breakglass/INC-860", "commit": commit, "path": "prod/api.yaml"});
    let expected = json!({"phase": "Accepted", "by": "alice@example.com", "note": "the load stays", "git": place});
    for change in &changes {
        assert_eq!(verdict_of(&cluster, change), expected);
        assert!(again.stdout.contains(&format!("breakglasschange.breakglass.dev/{change} accepted, in ")), "{again}");
    }
    let trailers = git(&fleet.bare, &["log", "-1", "--format=%(trailers:only)", "main"]).unwrap();
    for change in &changes {
        assert!(trailers.contains(&format!("Breakglass-Change: {change}\n")), "{trailers}");
    }
    for trailer in
        ["Breakglass-Incident: INC-860\n", "Breakglass-Token: inc-860-", "Breakglass-User: alice@example.com"]
    {
        assert_eq!(trailers.matches(trailer).count(), 1, "{trailers}");
    }

    // Once more: nothing is committed, nothing is decided twice, and it says the same.
    let third = accept_in_clone(&cluster, &push);
    assert_eq!(third.status, 0, "{third}");
    assert!(third.stderr.contains("Nothing to commit: main says it already."), "{third}");
    assert_eq!((main(), fleet.persons_own()), (commit.clone(), before));
    assert!(changes.iter().all(|change| verdict_of(&cluster, change)["phase"] == "Accepted"));
    assert_eq!(fleet.git(&["worktree", "list"]).unwrap().lines().count(), 1);
    fleet.git(&["checkout", "--quiet", "--", "."]).unwrap();

    // A later change of the incident is a commit more; what was decided before stays decided.
    alice.ok(&["scale", "deployment/api", "--replicas=5"]);
    let later = pending(&cluster, "INC-860", 1);
    let more = cluster.plugin("alice").run(&["accept", "-n", "prod", "deployment/api", "--push", "--repo", &clone]);
    assert_eq!(more.status, 0, "{more}");
    let last = main();
    assert_eq!(git(&fleet.bare, &["rev-parse", "main~1"]).unwrap(), commit);
    assert_eq!(verdict_of(&cluster, &later[0])["git"]["commit"], json!(last));
    // What the leader has seen of them since, aside.
    let decided = |change: &String| verdict_of(&cluster, change)["git"] == expected["git"];
    assert!(changes.iter().all(decided));

    // And the engine applies what the cluster says already: not before its source has the commit, or it would undo the hotfix.
    wait_until("the source to have the commit", LIMIT, || {
        let source = ["-n", "flux-system", "get", "gitrepositories.source.toolkit.fluxcd.io", "fleet"];
        let revision = [&source[..], &["-o", "jsonpath={.status.artifact.revision}"]].concat();
        let revision = cluster.kubectl("admin").ok(&revision);
        if revision.ends_with(&last) { Ok(()) } else { Err(revision) }
    })
    .unwrap();
    drop(held);
    cluster.flux().wait_applied(&last).unwrap();
    let object = alice.json(&["get", "deployment", "api"]);
    assert_eq!(object["spec"]["replicas"], 5);
    assert_eq!(object["spec"]["template"]["spec"]["containers"][0]["image"], "registry.example.com/api:1.0.1");
    wait_until("every change to be settled, and the stamp gone", LIMIT, || {
        let changes = cluster.changes("INC-860");
        let outcomes: Vec<&Value> = changes.iter().map(|change| &change["status"]["outcome"]).collect();
        // The first scale is no longer what anything says.
        let of = |outcome: &str| outcomes.iter().filter(|found| **found == outcome).count();
        let object = alice.json(&["get", "deployment", "api"]);
        if (of("InGit"), of("Superseded")) == (2, 1) && stamp(&object).is_empty() {
            Ok(())
        } else {
            Err(format!("{outcomes:?} {object}"))
        }
    })
    .unwrap();
}

#[test]
fn a_run_that_ended_after_its_push_is_repeated_to_the_same_end() {
    let (cluster, _turn) = cluster();
    cluster.set_api("cart");
    let fleet = &cluster.flux().fleet;
    let held = cluster.suspend_flux();
    cluster.open("alice", "INC-864", "prod");
    cluster.kubectl("alice").namespace("prod").ok(&["scale", "deployment/cart", "--replicas=6"]);
    let changes = pending(&cluster, "INC-864", 1);
    refuse(&cluster);
    let refused = accept_in_clone(&cluster, &["--incident", "INC-864", "--push"]);
    assert_eq!(refused.status, 1, "{refused}");
    fs::remove_file(fleet.bare.join("hooks/pre-receive")).unwrap();
    // What it would have done next, and then no verdict. Merged, and the branch is taken away, as servers do.
    fleet.git(&["push", "--quiet", "origin", "breakglass/INC-864"]).unwrap();
    fleet.git(&["push", "--quiet", "origin", ":breakglass/INC-864"]).unwrap();
    let main = git(&fleet.bare, &["rev-parse", "main"]).unwrap();
    let again = accept_in_clone(&cluster, &["--incident", "INC-864", "--push"]);
    assert_eq!(again.status, 0, "{again}");
    assert!(again.stderr.contains("Nothing to commit: main says it already."), "{again}");
    let place = json!({"repository": URL, "branch": "breakglass/INC-864", "commit": main, "path": "prod/cart.yaml"});
    assert_eq!(verdict_of(&cluster, &changes[0])["git"], place);
    assert_eq!(git(&fleet.bare, &["rev-parse", "main"]).unwrap(), main);
    drop(held);
}

#[test]
fn what_was_made_by_hand_becomes_a_file() {
    let (cluster, _turn) = cluster();
    cluster.set_api("shop");
    let fleet = &cluster.flux().fleet;
    cluster.open("alice", "INC-863", "prod");
    let alice = cluster.kubectl("alice").namespace("prod");
    alice.ok(&["create", "configmap", "banner", "--from-literal=text=closed"]);
    pending(&cluster, "INC-863", 1);
    let accepted = accept_in_clone(&cluster, &["--incident", "INC-863", "--path", "./prod/banner.yaml", "--push"]);
    assert_eq!(accepted.status, 0, "{accepted}");
    let text = git(&fleet.bare, &["show", "main:prod/banner.yaml"]).unwrap();
    assert!(text.contains("name: banner") && text.contains("text: closed"), "{text}");
    for noise in ["uid", "resourceVersion", "managedFields", "creationTimestamp", "breakglass.dev"] {
        assert!(!text.contains(noise), "{noise}: {text}");
    }
    let list = git(&fleet.bare, &["show", "main:prod/kustomization.yaml"]).unwrap();
    assert!(list.contains("- banner.yaml"), "{list}");
    cluster.flux().wait_applied(&git(&fleet.bare, &["rev-parse", "main"]).unwrap()).unwrap();
    let owner = &alice.json(&["get", "configmap", "banner"])["metadata"]["labels"];
    assert_eq!(owner["kustomize.toolkit.fluxcd.io/name"], "prod");
}

#[test]
fn what_was_undone_is_not_written_and_the_field_is_named() {
    let (cluster, _turn) = cluster();
    cluster.set_api("stock");
    let held = cluster.suspend_flux();
    cluster.open("alice", "INC-861", "prod");
    cluster.kubectl("alice").namespace("prod").ok(&["scale", "deployment/stock", "--replicas=7"]);
    let changes = pending(&cluster, "INC-861", 1);
    cluster.set_scene(&["-n", "prod", "scale", "deployment/stock", "--replicas=3"], "");
    let refused = accept_in_clone(&cluster, &["--incident", "INC-861"]);
    assert_eq!(refused.status, 1, "{refused}");
    let expected = format!("/spec/replicas is 3, and {} made it 7", changes[0]);
    assert!(refused.stderr.contains(&expected), "{refused}");
    drop(held);
}

#[test]
fn what_nothing_in_git_says_takes_a_file_or_a_reason() {
    let (cluster, _turn) = cluster();
    cluster.namespace("prod-accept");
    cluster.open("alice", "INC-862", "prod-accept");
    for name in ["settings", "other"] {
        cluster.set_scene(&["-n", "prod-accept", "create", "-f", "-"], &config_map(name, "one"));
    }
    cluster.set_scene(&["-n", "prod-accept", "create", "secret", "generic", "login", "--from-literal=key=one"], "");
    let alice = cluster.kubectl("alice").namespace("prod-accept");
    alice.ok(&["patch", "configmap", "settings", "-p", r#"{"data": {"key": "two"}}"#]);
    alice.ok(&["patch", "secret", "login", "-p", r#"{"stringData": {"key": "hunter2"}}"#]);
    alice.ok(&["delete", "configmap", "other"]);
    let changes = pending(&cluster, "INC-862", 3);
    let accept = |args: &[&str]| {
        let alice = cluster.plugin("alice").namespace("prod-accept").current_dir(&cluster.flux().fleet.clone);
        alice.run(&[&["accept"], args].concat())
    };
    for (args, words) in [
        (&["configmap/settings"][..], "no engine applies configmap/settings in prod-accept: say which file"),
        (&["configmap/settings", "--path", "elsewhere/settings.yaml"], "no Kustomization of Flux applies elsewhere/"),
        (&["configmap/other"], "no engine applies it, and it is gone, so there is nothing to write to Git"),
        (&["secret/login"], "none of them is written to Git. These differ: /data/key\n"),
        (&["--incident", "INC-862", "--path", "prod/a.yaml"], "name the one object"),
    ] {
        let refused = accept(args);
        assert!(refused.status != 0 && refused.stderr.contains(words), "{args:?}: {refused}");
        assert!(!refused.stderr.contains("hunter2") && !refused.stderr.contains("aHVudGVyMg"), "{refused}");
    }
    let done = accept(&["--incident", "INC-862", "--no-commit", "--note", "kept elsewhere"]);
    assert_eq!(done.status, 0, "{done}");
    for change in &changes {
        let verdict = verdict_of(&cluster, change);
        assert_eq!((&verdict["phase"], &verdict["git"]), (&json!("Accepted"), &Value::Null), "{verdict}");
    }
    // What is decided is not rejected along with the rest of an incident.
    let rest = cluster.plugin("alice").namespace("prod-accept").run(&["reject", "--incident", "INC-862"]);
    assert!(rest.status == 0 && rest.stderr.contains("was accepted, and is left alone"), "{rest}");
    assert!(rest.stderr.contains("Nothing was rejected."), "{rest}");
}

/// Stands for the tool of a host that is out of reach: it lists what it was told to open.
const GH: &str = r#"#!/bin/sh
echo "$*" >> "$0.told"
case "$2" in
list) cat "$0.open" 2>/dev/null || echo '[]' ;;
create) echo '[{"url": "https://git.example.com/fleet/pull/7"}]' > "$0.open" ;;
esac
"#;

#[test]
fn what_is_pushed_is_proposed_once() {
    let (cluster, _turn) = cluster();
    cluster.set_api("quay");
    let held = cluster.suspend_flux();
    let fleet = &cluster.flux().fleet;
    cluster.open("alice", "INC-865", "prod");
    cluster.kubectl("alice").namespace("prod").ok(&["scale", "deployment/quay", "--replicas=6"]);
    let changes = cluster.wait_for_changes("INC-865", ("Pending", 1), LIMIT);
    let bin = cluster.directory().join("gh");
    fs::create_dir_all(&bin).unwrap();
    let gh = bin.join("gh");
    fs::write(&gh, GH).unwrap();
    fs::set_permissions(&gh, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}:/usr/bin:/bin", bin.display(), cluster.bin().display());
    let propose = || {
        let alice = cluster.plugin("alice").env("PATH", &path).current_dir(&fleet.clone);
        alice.run(&["accept", "--incident", "INC-865", "--pr"])
    };
    // Nobody has merged it.
    let hook = fleet.bare.join("hooks/post-receive");
    fs::rename(&hook, hook.with_extension("off")).unwrap();
    let before = git(&fleet.bare, &["rev-parse", "main"]).unwrap();
    let (first, again) = (propose(), propose());
    fs::rename(hook.with_extension("off"), &hook).unwrap();
    for ran in [&first, &again] {
        assert_eq!(ran.status, 0, "{ran}");
        assert!(ran.stderr.contains("Proposed: https://git.example.com/fleet/pull/7."), "{ran}");
        let next = "Next: have https://git.example.com/fleet/pull/7 merged into main, which the engine follows.";
        assert!(ran.stderr.contains(next), "{ran}");
    }
    let told = fs::read_to_string(bin.join("gh.told")).unwrap();
    let created =
        "pr create --head breakglass/INC-865 --base main --title INC-865: deployment.apps/quay in prod --body ";
    assert!(told.matches("pr create").count() == 1 && told.contains(created), "{told}");
    assert!(told.contains("Breakglass-Change: "), "{told}");
    assert_eq!(git(&fleet.bare, &["rev-parse", "main"]).unwrap(), before);
    let place = &cluster.change(changes[0]["metadata"]["name"].as_str().unwrap())["status"]["git"];
    assert_eq!(place["commit"], json!(git(&fleet.bare, &["rev-parse", "breakglass/INC-865"]).unwrap()));
    drop(held);
}
