//! What is written under a token that holds stays as it was written, until Git says the same; then it is given back, and nothing
//! flickers.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;
use tests::record::stamp;
use tests::{Cluster, Kubectl, wait_until};

use crate::LIMIT;

/// What is accepted is given back as soon as Flux has applied the commit, and believed after one of its intervals more.
const SETTLED_WITHIN: Duration = Duration::from_secs(90);

const HELD: &str = "kustomize.toolkit.fluxcd.io/reconcile";

fn image(object: &Value) -> &str {
    object["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap()
}

/// What a watch of the Deployment shows, a line each time that it is written to.
struct Watch {
    shown: PathBuf,
    kubectl: Child,
}

impl Watch {
    fn start(alice: &Kubectl) -> Self {
        let shown = std::env::temp_dir().join(format!("breakglass-hold-watch-{}", std::process::id()));
        let line = "jsonpath={.spec.replicas} {.spec.template.spec.containers[0].image}{\"\\n\"}";
        let mut command = alice.command(&["get", "deployment", "api", "--watch", "-o", line]);
        let kubectl = command.stdin(Stdio::null()).stdout(fs::File::create(&shown).unwrap()).spawn().unwrap();
        let watch = Self { shown, kubectl };
        wait_until("the watch to show the object", LIMIT, || {
            if watch.seen().is_empty() { Err("nothing".to_owned()) } else { Ok(()) }
        })
        .unwrap();
        watch
    }

    fn seen(&self) -> Vec<String> {
        fs::read_to_string(&self.shown).unwrap().lines().map(str::to_owned).collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.kubectl.kill();
        let _ = self.kubectl.wait();
        let _ = fs::remove_file(&self.shown);
    }
}

#[test]
fn a_held_hotfix_stays_until_git_says_the_same_and_nothing_flickers() {
    // Its own: what a given cluster follows is not ours to push to.
    let cluster = Cluster::own("hold");
    let reason = ["-n", "prod", "--reason", "a test", "--hold", "--yes"];
    cluster.plugin("alice").ok(&[&["open", "INC-859"], &reason[..]].concat());
    let alice = cluster.kubectl("alice").namespace("prod");
    let get = || alice.json(&["get", "deployment", "api"]);
    let hotfix = "registry.example.com/api:hotfix";
    let ran = alice.run(&["set", "image", "deployment/api", &format!("api={hotfix}")]);
    let held = "held: Kustomization flux-system/prod owns this object in Git, and leaves it as it is";
    assert!(ran.warnings()[1..][0].starts_with(held), "{ran}");
    alice.ok(&["scale", "deployment", "api", "--replicas=5"]);
    // The scale is stamped right after, and what it scaled is held already.
    let written = wait_until("the scale to be stamped", LIMIT, || {
        let object = get();
        if stamp(&object)["operation"] == "Scale" { Ok(object) } else { Err(format!("{:?}", stamp(&object))) }
    })
    .unwrap();
    assert_eq!(written["metadata"]["annotations"][HELD], "disabled");
    let watch = Watch::start(&alice);
    for _ in 0..3 {
        cluster.reconcile(LIMIT);
    }
    // What a record says of it, a hold is no part of.
    let plugin = cluster.plugin("alice").namespace("prod");
    let diff = plugin.run(&["diff", "deployment/api"]);
    assert!(diff.status == 1 && !diff.stdout.contains(HELD), "{diff}");

    let fleet = &cluster.flux().fleet;
    let before = fleet.git(&["rev-parse", "HEAD"]).unwrap();
    let clone = fleet.clone.to_string_lossy();
    plugin.ok(&["accept", "--incident", "INC-859", "--repo", &clone, "--push"]);
    fleet.git(&["pull", "--quiet", "origin", "main"]).unwrap();
    let lines = fleet.git(&["diff", "--unified=0", &before, "HEAD"]).unwrap();
    let lines: Vec<&str> =
        lines.lines().filter(|line| line.starts_with(['+', '-']) && !line.contains("api.yaml")).collect();
    let expected = [
        "-  replicas: 2",
        "+  replicas: 5",
        "-        image: registry.example.com/api:1.0.0",
        "+        image: registry.example.com/api:hotfix",
    ];
    assert_eq!(lines, expected);
    wait_until("both changes to be in Git", SETTLED_WITHIN, || {
        let changes = cluster.changes("INC-859");
        let told: Vec<String> = changes.iter().map(|change| change["status"]["outcome"].to_string()).collect();
        if told.len() == 2 && told.iter().all(|outcome| outcome == "\"InGit\"") {
            Ok(())
        } else {
            Err(format!("{told:?}"))
        }
    })
    .unwrap();
    let settled = wait_until("the stamp and the hold to be gone", LIMIT, || {
        let object = get();
        let held = object["metadata"]["annotations"].get(HELD).is_some();
        if stamp(&object).is_empty() && !held { Ok(object) } else { Err(object["metadata"]["annotations"].to_string()) }
    })
    .unwrap();
    assert_eq!((image(&settled), &settled["spec"]["replicas"]), (hotfix, &Value::from(5)));
    // It never was anything else, while it was given back and stripped of its stamp.
    let seen = wait_until("the watch to have seen that", LIMIT, || {
        let seen = watch.seen();
        if seen.len() >= 3 { Ok(seen) } else { Err(format!("{seen:?}")) }
    })
    .unwrap();
    assert!(seen.iter().all(|line| *line == format!("5 {hotfix}")), "{seen:?}");
    assert!(fs::read_to_string(fleet.clone.join("prod/api.yaml")).unwrap().starts_with("# The shop's API"));
}

#[test]
fn what_is_rejected_is_put_back_and_not_held_any_more() {
    let cluster = Cluster::own("unhold");
    let reason = ["-n", "prod", "--reason", "a test", "--hold", "--yes"];
    cluster.plugin("alice").ok(&[&["open", "INC-858-held"], &reason[..]].concat());
    let alice = cluster.kubectl("alice").namespace("prod");
    let get = || alice.json(&["get", "deployment", "api"]);
    let before = get();
    alice.ok(&["set", "image", "deployment/api", "api=registry.example.com/api:hotfix"]);
    assert_eq!(get()["metadata"]["annotations"][HELD], "disabled");
    wait_until("the change to be pending", LIMIT, || {
        let phase = cluster.changes("INC-858-held")[0]["status"]["phase"].clone();
        if phase == "Pending" { Ok(()) } else { Err(phase.to_string()) }
    })
    .unwrap();
    let done = cluster.plugin("alice").namespace("prod").run(&["reject", "deployment/api"]);
    assert!(done.status == 0 && done.stderr.contains("(PutBack)"), "{done}");
    let after = get();
    assert_eq!(after["spec"], before["spec"]);
    assert!(after["metadata"]["annotations"].get(HELD).is_none(), "{after:#}");
    wait_until("both changes to be settled", LIMIT, || {
        let changes = cluster.changes("INC-858-held");
        let told: Vec<String> = changes.iter().map(|change| change["status"]["outcome"].to_string()).collect();
        if told.len() == 2 && told.iter().all(|outcome| outcome == "\"PutBack\"") {
            Ok(())
        } else {
            Err(format!("{told:?}"))
        }
    })
    .unwrap();
}

/// Whoever takes a held hotfix back by hand leaves nothing behind: no stamp, no debt, and nothing that keeps Flux away.
#[test]
fn what_is_undone_by_hand_is_undone_and_not_held_any_more() {
    let cluster = Cluster::own("undone-held");
    let reason = ["-n", "prod", "--reason", "a test", "--hold", "--yes"];
    cluster.plugin("alice").ok(&[&["open", "INC-865"], &reason[..]].concat());
    let alice = cluster.kubectl("alice").namespace("prod");
    let get = || alice.json(&["get", "deployment", "api"]);
    let before = get();
    let set = |image: &str| alice.run(&["set", "image", "deployment/api", &format!("api={image}")]);
    for hotfix in ["registry.example.com/api:hotfix", "registry.example.com/api:hotter"] {
        set(hotfix);
        assert_eq!(get()["metadata"]["annotations"][HELD], "disabled");
    }
    let undo = set(image(&before));
    assert!(undo.status == 0 && undo.warnings().iter().all(|warning| !warning.starts_with("held: ")), "{undo}");
    let after = get();
    assert_eq!(after["spec"], before["spec"]);
    assert!(stamp(&after).is_empty() && after["metadata"]["annotations"].get(HELD).is_none(), "{after:#}");
    wait_until("all three to be settled", LIMIT, || {
        let changes = cluster.changes("INC-865");
        let told: Vec<String> = changes.iter().map(|change| change["status"]["outcome"].to_string()).collect();
        let undone = told.iter().all(|outcome| outcome == "\"Undone\"");
        if told.len() == 3 && undone { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .unwrap();
}
