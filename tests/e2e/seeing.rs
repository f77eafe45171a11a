//! What was done is seen: one change in full, and what is left of it.

use serde_json::json;
use tests::record::{change_of, config_map};
use tests::{Cluster, wait_until};

use crate::LIMIT;

#[test]
fn a_change_is_shown_and_compared_with_what_is_there_now() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-shown");
    cluster.open("alice", "INC-197", "prod-shown");
    let alice = cluster.kubectl("alice").namespace("prod-shown");
    let plugin = cluster.plugin("alice").namespace("prod-shown");
    cluster.set_scene(&["-n", "prod-shown", "create", "-f", "-"], &config_map("settings", "one"));

    alice.ok(&["patch", "configmap", "settings", "-p", r#"{"data": {"key": "two"}}"#]);
    let change = change_of(&alice.json(&["get", "configmap", "settings"]));
    wait_until("the change to be pending", LIMIT, || {
        let phase = cluster.change(&change)["status"]["phase"].clone();
        if phase == "Pending" { Ok(()) } else { Err(phase.to_string()) }
    })
    .unwrap();
    let shown = plugin.ok(&["show", &change]);
    for line in [
        &format!("Change:      {change}"),
        "Object:      configmap/settings in prod-shown",
        "Operation:   Update by alice@example.com through kubectl-patch",
        "State:       pending, to be decided by ",
        "  /data/key: \"one\" → \"two\"",
    ] {
        assert!(shown.contains(line), "{line}\n{shown}");
    }
    // It grows older while we look.
    let ageless =
        |shown: &str| shown.lines().filter(|line| !line.starts_with("Written:")).collect::<Vec<_>>().join("\n");
    assert_eq!(ageless(&plugin.ok(&["show", "cm/settings"])), ageless(&shown));
    assert_eq!(plugin.json(&["show", "configmap/settings"])["metadata"]["name"], json!(change));
    assert_eq!(
        plugin.ok(&["show", "cm/settings", "-o", "name"]),
        format!("breakglasschange.breakglass.dev/{change}\n")
    );

    // What it did; nobody has written since.
    let name = "configmap/settings in prod-shown";
    let did = format!("--- {name} before {change}\n+++ {name} after {change}\n");
    let lines = "@@ -1,6 +1,6 @@\n apiVersion: v1\n data:\n-  key: one\n+  key: two\n kind: ConfigMap\n metadata:\n   name: settings\n";
    let diff = plugin.run(&["diff", &change]);
    assert_eq!((diff.status, diff.stdout.as_str()), (1, format!("{did}{lines}").as_str()), "{diff}");

    // Somebody else writes: what has changed since is told as well, and both together for the object.
    alice.ok(&["patch", "configmap", "settings", "-p", r#"{"data": {"other": "three"}}"#]);
    let diff = plugin.run(&["diff", &change]);
    assert_eq!(diff.status, 1, "{diff}");
    assert!(diff.stdout.contains(&format!("--- {name} after {change}\n+++ {name} now\n")), "{diff}");
    assert!(diff.stdout.contains("+  other: three\n"), "{diff}");
    let both = plugin.run(&["diff", "configmap/settings"]);
    assert_eq!(both.status, 1, "{both}");
    assert!(both.stdout.contains("-  key: one\n+  key: two\n+  other: three\n"), "{both}");

    // It is what it was: nothing is left.
    cluster.set_scene(&["-n", "prod-shown", "replace", "-f", "-"], &config_map("settings", "one"));
    let diff = plugin.run(&["diff", &change]);
    assert_eq!(diff.status, 0, "{diff}");
    assert!(diff.stdout.contains("+  key: two\n"), "what it did is still told: {diff}");
}

#[test]
fn a_scale_and_a_delete_are_compared_in_their_own_terms() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-compared");
    cluster.open("alice", "INC-198", "prod-compared");
    let alice = cluster.kubectl("alice").namespace("prod-compared");
    let plugin = cluster.plugin("alice").namespace("prod-compared");
    let scene = |args: &[&str]| cluster.set_scene(&[&["-n", "prod-compared"], args].concat(), "");
    scene(&["create", "deployment", "api", "--image=registry.example.com/api:1", "--replicas=1"]);
    scene(&["create", "secret", "generic", "keys", "--from-literal=a=canary-7f21"]);

    alice.ok(&["scale", "deployment", "api", "--replicas=3"]);
    let diff = wait_until("the scale to be on record", LIMIT, || {
        let diff = plugin.run(&["diff", "deploy/api"]);
        if diff.status == 1 && !diff.stdout.is_empty() { Ok(diff) } else { Err(diff.to_string()) }
    })
    .unwrap();
    assert!(diff.stdout.contains("-  replicas: 1\n+  replicas: 3\n"), "{diff}");
    scene(&["scale", "deployment", "api", "--replicas=1"]);
    assert_eq!(plugin.run(&["diff", "deploy/api"]).status, 0);

    alice.ok(&["delete", "secret", "keys"]);
    let diff = plugin.run(&["diff", "secret/keys"]);
    assert_eq!(diff.status, 1, "{diff}");
    assert!(diff.stdout.contains("-kind: Secret\n") && !diff.stdout.contains("canary"), "{diff}");

    for (args, status, said) in [
        (&["diff", "inc-198-nothing"][..], 2, "there is no change"),
        (&["show", "inc-198-nothing"], 1, "hint: kubectl breakglass list"),
        (&["show", "configmap/nothing"], 1, "no change of configmap/nothing in prod-compared is on record"),
        (&["show", "nothings/a"], 2, "the server has no kind"),
        (&["diff", "a/b/c"], 2, "name a change, or KIND/NAME"),
    ] {
        let ran = plugin.run(args);
        assert!(ran.status == status && ran.stderr.contains(said), "{args:?}: {ran}");
    }
}
