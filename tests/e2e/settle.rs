//! Every change comes to its end by what is seen: undone by the engine, in Git, gone.

use std::time::Duration;

use serde_json::Value;
use tests::record::{change_of, config_map, stamp};
use tests::{Cluster, wait_until};

use crate::LIMIT;

/// Flux' interval here is ten seconds, and what seems to be in Git is believed after one of them.
const NOTICED_WITHIN: Duration = Duration::from_secs(60);

/// Waits until a change is settled so.
#[track_caller]
fn until(cluster: &Cluster, change: &str, outcome: &str) {
    cluster.wait_for_phase(change, ("Settled", Some(outcome)), NOTICED_WITHIN);
}

fn image(object: &Value) -> &str {
    object["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap()
}

#[test]
fn a_hotfix_on_what_flux_owns_is_undone_by_it_or_is_in_git() {
    // Its own: what a given cluster follows is not ours to push to.
    let cluster = Cluster::own("settle");
    cluster.open("alice", "INC-856", "prod");
    let alice = cluster.kubectl("alice").namespace("prod");
    let get = || alice.json(&["get", "deployment", "api"]);
    let before = get();
    let hotfix = "registry.example.com/api:hotfix";
    let set = ["set", "image", "deployment/api", &format!("api={hotfix}")];
    let ran = alice.run(&set);
    let warned = "Kustomization flux-system/prod owns this object in Git and undoes it within 10s";
    assert_eq!(ran.warnings()[1..], [warned], "{ran}");
    let change = change_of(&get());
    until(&cluster, &change, "UndoneByEngine");
    let after = get();
    assert!(stamp(&after).is_empty() && image(&after) == image(&before), "{after:#}");
    wait_until("an Event that says so", LIMIT, || {
        let args = ["-n", "default", "get", "events", "-o", "json"];
        let events = cluster.kubectl("admin").ok(&args);
        if events.contains("UndoneByEngine") { Ok(()) } else { Err(events) }
    })
    .unwrap();

    // Kept from Flux, then said in Git, then given back: it never leaves the hotfix's value.
    let hold = |value: &str| {
        let annotation = format!("kustomize.toolkit.fluxcd.io/reconcile{value}");
        cluster.set_scene(&["-n", "prod", "annotate", "--overwrite", "deployment", "api", &annotation], "");
    };
    hold("=disabled");
    alice.ok(&set);
    let change = change_of(&get());
    let fleet = &cluster.flux().fleet;
    let text = std::fs::read_to_string(fleet.clone.join("prod/api.yaml")).unwrap();
    let commit = fleet.push("prod: hotfix", &[("prod/api.yaml", &text.replace(image(&before), hotfix))]).unwrap();
    cluster.flux().wait_applied(&commit).unwrap();
    assert_eq!(cluster.change(&change)["status"]["phase"], "Pending", "Flux does not look at it");
    hold("-");
    until(&cluster, &change, "InGit");
    let after = get();
    assert!(stamp(&after).is_empty() && image(&after) == hotfix, "{after:#}");

    // Deleted by hand, made again by Flux.
    alice.ok(&["delete", "deployment", "api"]);
    let changes = cluster.changes("INC-856");
    let deleted = changes.iter().find(|change| change["spec"]["operation"] == "Delete").unwrap();
    until(&cluster, deleted["metadata"]["name"].as_str().unwrap(), "UndoneByEngine");
}

#[test]
fn what_is_gone_and_what_somebody_undid_is_owed_no_more() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-settled");
    cluster.open("alice", "INC-857", "prod-settled");
    let alice = cluster.kubectl("alice").namespace("prod-settled");
    let scene = |args: &[&str], input: &str| cluster.set_scene(&[&["-n", "prod-settled"], args].concat(), input);
    for name in ["gone", "undone", "taken"] {
        scene(&["create", "-f", "-"], &config_map(name, "one"));
        alice.ok(&["patch", "configmap", name, "-p", r#"{"data": {"key": "two"}}"#]);
    }
    let change = |name: &str| change_of(&alice.json(&["get", "configmap", name]));
    let [gone, undone, taken] = ["gone", "undone", "taken"].map(change);
    scene(&["delete", "configmap", "gone"], "");
    scene(&["patch", "configmap", "undone", "-p", r#"{"data": {"key": "one"}}"#], "");
    // A delete under a token is a debt of its own, and what it took away is owed until that is decided.
    alice.ok(&["delete", "configmap", "taken"]);
    until(cluster, &gone, "Gone");
    until(cluster, &undone, "Undone");
    assert_eq!(cluster.change(&taken)["status"]["phase"], "Pending");
    let changes = cluster.changes("INC-857");
    let deleted = changes.iter().find(|change| change["spec"]["operation"] == "Delete").unwrap();
    let deleted = deleted["metadata"]["name"].as_str().unwrap();
    let verdict = r#"{"status": {"verdict": "Accepted"}}"#;
    let args = ["patch", "breakglasschange", deleted, "--subresource=status", "--type=merge", "-p", verdict];
    cluster.kubectl("carol").ok(&args);
    until(cluster, deleted, "Gone");
    until(cluster, &taken, "Gone");
}
