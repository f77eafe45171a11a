//! What becomes of a write that was let in: seen in the cluster, refused by somebody else after us, undone, tried again.

use std::time::Duration;

use serde_json::{Value, json};
use tests::other_webhook::{Asked, OtherWebhook, Reaction};
use tests::record::{after, change_of, config_map, stamp, without_noise};
use tests::{Cluster, wait_until};

use crate::LIMIT;

/// Longer than the time after which a write that was not seen never was: the API server could be working on it until then.
const NEVER_LIMIT: Duration = Duration::from_secs(150);

fn names(changes: &[Value]) -> Vec<String> {
    changes.iter().map(|change| change["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_write_that_landed_is_pending_however_it_was_made() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-seen");
    cluster.open("alice", "INC-180", "prod-seen");
    let alice = cluster.kubectl("alice").namespace("prod-seen");
    alice.ok(&["create", "deployment", "api", "--image=registry.example.com/api:1"]);
    alice.ok(&["scale", "deployment", "api", "--replicas=0"]);
    alice.ok(&["scale", "deployment", "api", "--replicas=2"]);
    alice.ok(&["set", "image", "deployment/api", "api=registry.example.com/api:2"]);
    alice.ok_with_input(&["create", "-f", "-"], &config_map("settings", "one"));
    alice.ok(&["delete", "configmap", "settings"]);
    let pod = wait_until("a Pod", LIMIT, || {
        let pods = alice.ok(&["get", "pods", "-o", "jsonpath={.items[*].metadata.name}"]);
        pods.split(' ').next().filter(|name| !name.is_empty()).map(str::to_owned).ok_or(pods.clone())
    })
    .unwrap();
    // It has no node yet, so nothing runs in it; the connection is let in all the same.
    assert_ne!(alice.run(&["exec", &pod, "--", "true"]).status, 0);
    // What the API server tried twice leaves one record, once it is known which of the two landed.
    let changes = wait_until("a change for each write", LIMIT, || {
        let changes = cluster.changes("INC-180");
        let count = |operation: &str| changes.iter().filter(|change| change["spec"]["operation"] == operation).count();
        let counts = ["Create", "Scale", "Update", "Delete", "Exec"].map(count);
        // kubectl knocks twice where a connection fails.
        if let [2, 2, 1, 1, 1 | 2] = counts { Ok(changes) } else { Err(format!("{counts:?}")) }
    })
    .unwrap();
    for name in names(&changes) {
        cluster.wait_for_phase(&name, ("Pending", None), LIMIT);
    }
}

#[test]
fn a_write_that_a_later_check_refused_never_landed() {
    let cluster = Cluster::shared();
    for namespace in ["prod-quota", "prod-other"] {
        cluster.namespace(namespace);
        cluster.open("alice", &format!("INC-181-{namespace}"), namespace);
    }
    cluster.set_scene(&["-n", "prod-quota", "create", "quota", "none", "--hard=count/configmaps=0"], "");
    wait_until("the quota to be counted", LIMIT, || {
        let status = cluster.kubectl("admin").namespace("prod-quota").json(&["get", "quota", "none"])["status"].clone();
        if status["hard"].is_null() { Err(status.to_string()) } else { Ok(()) }
    })
    .unwrap();
    let alice = cluster.kubectl("alice");
    alice.clone().namespace("prod-other").ok_with_input(&["create", "-f", "-"], &config_map("settings", "one"));
    let other =
        OtherWebhook::start(cluster, Asked::Validating, ("zz-denies", "prod-other"), |_| Reaction::Deny("not today"));
    for (namespace, args, why) in [
        ("prod-quota", &["create", "configmap", "refused"][..], "exceeded quota"),
        ("prod-other", &["patch", "configmap", "settings", "-p", r#"{"data": {"key": "two"}}"#], "not today"),
    ] {
        let refused = alice.clone().namespace(namespace).run(args);
        assert!(refused.status != 0 && refused.stderr.contains(why), "{refused}");
    }
    drop(other);
    for (namespace, operation) in [("prod-quota", "Create"), ("prod-other", "Update")] {
        let changes = cluster.changes(&format!("INC-181-{namespace}"));
        let refused = changes.iter().find(|change| change["spec"]["operation"] == operation).unwrap();
        let name = refused["metadata"]["name"].as_str().unwrap();
        cluster.wait_for_phase(name, ("Settled", Some("NeverLanded")), NEVER_LIMIT);
    }
    let landed = change_of(&alice.clone().namespace("prod-other").json(&["get", "configmap", "settings"]));
    cluster.wait_for_phase(&landed, ("Pending", None), LIMIT);
    let listed = cluster.plugin("alice").ok(&["list", "-n", "prod-quota", "-o", "name"]);
    assert!(!listed.contains("inc-181-prod-quota"), "nothing is owed for what never was: {listed}");
}

#[test]
fn an_undo_takes_the_stamp_off_and_settles_what_it_undid() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-undone");
    let flux = cluster.kubectl("flux").namespace("prod-undone");
    let alice = cluster.kubectl("alice").namespace("prod-undone");
    let clients: [(&str, &[&str]); 4] = [
        ("patch", &["patch", "configmap", "patch", "-p", r#"{"data": {"key": "one"}}"#]),
        ("replace", &["replace", "-f", "-"]),
        ("apply", &["apply", "-f", "-"]),
        ("server", &["apply", "--server-side", "--force-conflicts", "-f", "-"]),
    ];
    for (name, undo) in clients {
        let incident = format!("INC-182-{name}");
        flux.ok_with_input(&["create", "-f", "-"], &config_map(name, "one"));
        let before = flux.json(&["get", "configmap", name]);
        let token = cluster.open("alice", &incident, "prod-undone");
        for value in ["two", "three"] {
            alice.ok(&["patch", "configmap", name, "-p", &json!({"data": {"key": value}}).to_string()]);
        }
        assert_eq!(stamp(&alice.json(&["get", "configmap", name]))["state"], "pending");
        alice.ok_with_input(undo, &config_map(name, "one"));
        let object = alice.json(&["get", "configmap", name]);
        // Two that were opened in one second are as new as each other.
        cluster.plugin("alice").ok(&["close", &token]);
        assert!(stamp(&object).is_empty(), "{name}: {object:#}");
        assert_eq!(object["data"], before["data"]);

        let changes = cluster.changes(&incident);
        assert_eq!(changes.len(), 3, "{name}: {:?}", names(&changes));
        for change in names(&changes) {
            cluster.wait_for_phase(&change, ("Settled", Some("Undone")), LIMIT);
        }
        let undone: Vec<_> = changes.iter().filter(|change| !change["spec"]["undoes"].is_null()).collect();
        let [undone] = &undone[..] else { panic!("one of them undid the others: {changes:#?}") };
        assert_eq!(undone["spec"]["undoes"].as_array().unwrap().len(), 2);
        assert_eq!(after(undone), without_noise(&object), "{name}");
    }
}

#[test]
fn half_an_undo_is_a_change_like_any_other() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-half");
    cluster.open("alice", "INC-183", "prod-half");
    let alice = cluster.kubectl("alice").namespace("prod-half");
    cluster
        .kubectl("flux")
        .namespace("prod-half")
        .ok_with_input(&["create", "-f", "-"], &config_map("settings", "one"));
    for value in ["two", "three", "two"] {
        alice.ok(&["patch", "configmap", "settings", "-p", &json!({"data": {"key": value}}).to_string()]);
    }
    // What was made under a token is not undone by making it what it was right after.
    alice.ok_with_input(&["create", "-f", "-"], &config_map("made", "one"));
    for value in ["two", "one"] {
        alice.ok(&["patch", "configmap", "made", "-p", &json!({"data": {"key": value}}).to_string()]);
    }
    for name in ["settings", "made"] {
        assert_eq!(stamp(&alice.json(&["get", "configmap", name]))["state"], "pending", "{name}");
    }
    let changes = cluster.changes("INC-183");
    assert_eq!(changes.len(), 6);
    for name in names(&changes) {
        cluster.wait_for_phase(&name, ("Pending", None), LIMIT);
    }
}

#[test]
fn a_change_that_nobody_followed_is_found_after_a_restart() {
    let cluster = Cluster::own("follow");
    cluster.namespace("prod-lost");
    cluster.open("alice", "INC-184", "prod-lost");
    let alice = cluster.kubectl("alice").namespace("prod-lost");
    alice.ok_with_input(&["create", "-f", "-"], &config_map("settings", "one"));
    let first = change_of(&alice.json(&["get", "configmap", "settings"]));
    cluster.wait_for_phase(&first, ("Pending", None), LIMIT);
    // As if the replica had died between its answer and its first look.
    let webhook = cluster.webhook();
    webhook.stop().unwrap();
    let scene = |args: &[&str]| cluster.set_scene(args, "");
    let (status, label) =
        (r#"{"status": {"phase": "Admitted"}}"#, r#"{"metadata": {"labels": {"breakglass.dev/state": "admitted"}}}"#);
    scene(&["patch", "breakglasschange", &first, "--subresource=status", "--type=merge", "-p", status]);
    scene(&["patch", "breakglasschange", &first, "--type=merge", "-p", label]);
    webhook.start().unwrap();
    cluster.wait_for_phase(&first, ("Pending", None), LIMIT);
}
