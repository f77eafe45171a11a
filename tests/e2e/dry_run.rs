//! A dry run leaves nothing: no object, no record, no use of the token; and kubectl diff shows what would change.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tests::record::{config_map, stamp};
use tests::{Cluster, Http, wait_until};

use crate::LIMIT;

/// What kubectl rollout restart sends; it has no dry run of its own.
const RESTART: &str =
    r#"{"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}}}"#;

/// L-13: every verb of kubectl with --dry-run=server, without a token, under one, and in dev.
#[test]
fn a_dry_run_of_any_verb_leaves_nothing() {
    let cluster = Cluster::shared();
    for namespace in ["prod-rehearsal", "dev-rehearsal"] {
        cluster.namespace(namespace);
        let flux = cluster.kubectl("flux").namespace(namespace);
        flux.ok_with_input(&["create", "-f", "-"], &config_map("settings", "one"));
        flux.ok(&["create", "deployment", "api", "--image=registry.example.com/api:1", "--replicas=0"]);
    }
    check_dry_runs("dev-rehearsal", "");
    check_dry_runs("prod-rehearsal", "without --dry-run this is refused: prod is run by GitOps: ");
    let token = cluster.open("alice", "INC-477", "prod-rehearsal");
    check_dry_runs("prod-rehearsal", &format!("let in under {token}; a dry run leaves no record"));
    assert_eq!(cluster.changes("INC-477"), [] as [Value; 0]);

    // Uses are counted by the records there are: one write, one use, and none of the dry runs before it.
    cluster.kubectl("alice").ok(&["-n", "prod-rehearsal", "label", "configmap", "settings", "tier=web"]);
    wait_until("the one use to be counted", LIMIT, || {
        let status = cluster.kubectl("admin").json(&["get", "breakglasstokens", &token])["status"].clone();
        if status["writes"] == 1 { Ok(()) } else { Err(status.to_string()) }
    })
    .unwrap();
    assert_eq!(cluster.changes("INC-477").len(), 1);
}

/// Has alice rehearse every verb, and holds that each goes well, with this warning, and leaves everything as it was.
#[track_caller]
fn check_dry_runs(namespace: &str, expected: &str) {
    let alice = Cluster::shared().kubectl("alice").namespace(namespace);
    let seen = || {
        let maps = alice.json(&["get", "configmaps", "--show-managed-fields"])["items"].clone();
        // Not its status, which the controller writes when it gets to it.
        let deployment = alice.json(&["get", "deployment", "api"]);
        (maps, deployment["metadata"]["generation"].clone(), stamp(&deployment))
    };
    let before = seen();
    for (args, input) in [
        (&["create", "-f", "-"][..], config_map("another", "one")),
        (&["apply", "-f", "-"], config_map("settings", "two")),
        (&["apply", "--server-side", "--force-conflicts", "-f", "-"], config_map("settings", "two")),
        (&["replace", "-f", "-"], config_map("settings", "two")),
        (&["patch", "configmap", "settings", "-p", r#"{"data": {"key": "two"}}"#], String::new()),
        (&["label", "configmap", "settings", "tier=web"], String::new()),
        (&["delete", "configmap", "settings"], String::new()),
        (&["delete", "configmaps", "--all"], String::new()),
        (&["scale", "deployment", "api", "--replicas=2"], String::new()),
        (&["set", "image", "deployment/api", "api=registry.example.com/api:2"], String::new()),
        (&["patch", "deployment", "api", "-p", RESTART], String::new()),
    ] {
        let ran = alice.run_with_input(&[args, &["--dry-run=server"]].concat(), &input);
        assert_eq!(ran.status, 0, "{args:?}: {ran}");
        let warned =
            ran.warnings().into_iter().find(|warning| !warning.contains(" kubectl apply ")).unwrap_or_default();
        assert!(warned.starts_with(expected) && warned.is_empty() == expected.is_empty(), "{args:?}: {ran}");
        assert_eq!(seen(), before, "{args:?}");
    }
}

/// L-13: an eviction as a dry run, too, which is a create of another kind.
#[test]
fn a_dry_run_of_an_eviction_leaves_nothing() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-rehearsed-eviction");
    let flux = cluster.kubectl("flux").namespace("prod-rehearsed-eviction");
    flux.ok(&["run", "api", "--image=registry.example.com/api:1"]);
    cluster.open("alice", "INC-478", "prod-rehearsed-eviction");
    let alice = Http::new(&cluster.kubectl("alice"), "http/1");
    // The API server takes either for a dry run.
    for (query, options) in [("?dryRun=All", json!({})), ("", json!({"dryRun": ["All"]}))] {
        let path = format!("/api/v1/namespaces/prod-rehearsed-eviction/pods/api/eviction{query}");
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "api"},
            "deleteOptions": options});
        alice.send("POST", &path, &eviction.to_string()).unwrap();
        assert_eq!(flux.json(&["get", "pod", "api"])["metadata"]["deletionTimestamp"], Value::Null);
        assert_eq!(cluster.changes("INC-478"), [] as [Value; 0], "{options}");
    }
}

/// L-13: kubectl diff of what is there is empty; of something else it shows that and, at most, the stamp it would get.
#[test]
fn a_diff_shows_the_change_alone() {
    let cluster = Cluster::shared();
    for (namespace, guarded) in [("prod-diff", true), ("dev-diff", false)] {
        cluster.namespace(namespace);
        let alice = cluster.kubectl("alice").namespace(namespace);
        cluster.kubectl("flux").namespace(namespace).ok_with_input(&["create", "-f", "-"], &config_map("flux", "one"));
        let token = guarded.then(|| cluster.open("alice", "INC-479", namespace));
        alice.ok_with_input(&["apply", "-f", "-"], &config_map("settings", "one"));
        alice.ok_with_input(&["apply", "--server-side", "-f", "-"], &config_map("applied", "one"));
        let (client, server) =
            (&["diff", "-f", "-"][..], &["diff", "--server-side", "--force-conflicts", "-f", "-"][..]);
        for round in ["open", "closed"] {
            if let Some(token) = token.as_ref().filter(|_| round == "closed") {
                cluster.plugin("alice").ok(&["close", token]);
            }
            // What was applied by one of the two is not the same to the other: kubectl keeps a copy of what it applied.
            for (name, mode) in [("settings", client), ("applied", server), ("flux", client), ("flux", server)] {
                let object = alice.json(&["get", "configmap", name]);
                assert_eq!(stamp(&object).is_empty(), name == "flux");
                let same = alice.run_with_input(mode, &config_map(name, "one"));
                assert_eq!((same.status, same.stdout.as_str()), (0, ""), "{round} {name} {mode:?}: {same}");
                let other = alice.run_with_input(mode, &config_map(name, "two"));
                assert_eq!(other.status, 1, "{round} {name} {mode:?}: {other}");
                let (ours, theirs): (BTreeSet<&str>, BTreeSet<&str>) =
                    changed_lines(&other.stdout).partition(|line| is_of_a_stamp(line));
                assert_eq!(theirs, BTreeSet::from(["-  key: one", "+  key: two"]), "{round} {name} {mode:?}: {other}");
                let refused = guarded && round == "closed";
                assert_eq!(ours.is_empty(), refused, "the stamp that it would get, if it is let in: {other}");
            }
        }
        assert_eq!(cluster.changes("INC-479").len(), 2, "only the creates");
    }
}

/// The lines of a unified diff that say what differs.
fn changed_lines(diff: &str) -> impl Iterator<Item = &str> {
    let head = |line: &&str| line.starts_with("---") || line.starts_with("+++");
    diff.lines().filter(|line| line.starts_with(['-', '+'])).filter(move |line| !head(line))
}

/// One of our keys, or the field that is made to hold them.
fn is_of_a_stamp(line: &str) -> bool {
    line.contains(" breakglass.dev/") || line == "+  annotations:" || line == "+  labels:"
}
