//! What is decided about a change: taken from who gives it, seen where people look, and nothing else is said of a change.

use serde_json::{Value, json};
use tests::record::{change_of, config_map, stamp};
use tests::{Cluster, Output, wait_until};

use crate::LIMIT;

/// A ConfigMap that alice changed in `namespace` under `incident`; the change, when it is pending.
fn changed(incident: &str, namespace: &str) -> String {
    let cluster = Cluster::shared();
    cluster.namespace(namespace);
    cluster.open("alice", incident, namespace);
    cluster.set_scene(&["-n", namespace, "create", "-f", "-"], &config_map("settings", "one"));
    let alice = cluster.kubectl("alice").namespace(namespace);
    alice.ok(&["patch", "configmap", "settings", "-p", r#"{"data": {"key": "two"}}"#]);
    let change = change_of(&alice.json(&["get", "configmap", "settings"]));
    Cluster::shared().wait_for_field(&change, ("/status/phase", "Pending"), LIMIT);
    change
}

/// What the label of the stamp says.
#[track_caller]
fn wait_for_stamp(namespace: &str, expected: Option<&str>) {
    let kubectl = Cluster::shared().kubectl("admin").namespace(namespace);
    wait_until(&format!("the stamp to say {expected:?}"), LIMIT, || {
        let stamp = stamp(&kubectl.json(&["get", "configmap", "settings"]));
        if stamp.get("state").map(String::as_str) == expected { Ok(()) } else { Err(format!("{stamp:?}")) }
    })
    .unwrap();
}

/// Writes fields of a change's status by hand.
fn say(person: &str, change: &str, status: &Value) -> Output {
    let patch = json!({"status": status}).to_string();
    let args = ["patch", "breakglasschange", change, "--subresource=status", "--type=merge", "-p", &patch];
    Cluster::shared().kubectl(person).run(&args)
}

#[test]
fn what_is_deferred_is_listed_with_its_date_and_stamped_so() {
    let change = changed("INC-195", "prod-deferred");
    let cluster = Cluster::shared();
    let bob = cluster.plugin("bob").namespace("prod-deferred");

    // Only asked about: nothing is kept.
    let until = ["--until", "3d", "--reason", "after the audit"];
    let asked = bob.ok(&[&["defer", "configmap/settings", "--dry-run"], &until[..]].concat());
    assert!(asked.ends_with(" (server dry run): configmap/settings in prod-deferred\n"), "{asked}");
    assert_eq!(cluster.change(&change)["status"]["phase"], "Pending");

    let said = bob.ok(&[&["defer", "configmap/settings"], &until[..]].concat());
    let status = cluster.change(&change)["status"].clone();
    let date = status["until"].as_str().unwrap();
    let name = format!("breakglasschange.breakglass.dev/{change}");
    assert_eq!(said, format!("{name} deferred until {date}: configmap/settings in prod-deferred\n"));
    for (field, value) in
        [("phase", "Deferred"), ("verdict", "Deferred"), ("by", "bob@example.com"), ("note", "after the audit")]
    {
        assert_eq!(status[field], value, "{status}");
    }
    Cluster::shared().wait_for_field(&change, ("/metadata/labels/breakglass.dev~1state", "deferred"), LIMIT);
    wait_for_stamp("prod-deferred", Some("deferred"));
    let listed = bob.json(&["list", "--incident", "INC-195"]);
    let row = &listed["items"][0];
    assert_eq!((&row["state"], &row["decideBy"]), (&json!("deferred"), &json!(date)), "{listed}");

    // A write that changes nothing leaves the verdict alone; one that does is another change.
    let alice = cluster.kubectl("alice").namespace("prod-deferred");
    alice.ok(&["patch", "configmap", "settings", "-p", r#"{"data": {"key": "two"}}"#]);
    wait_for_stamp("prod-deferred", Some("deferred"));
    alice.ok(&["patch", "configmap", "settings", "-p", r#"{"data": {"key": "three"}}"#]);
    let object = alice.json(&["get", "configmap", "settings"]);
    assert!(change_of(&object) != change && stamp(&object)["state"] == "pending", "{object}");
    assert_eq!(cluster.change(&change)["status"]["phase"], "Deferred");

    // Another verdict takes its place.
    let other = change_of(&object);
    Cluster::shared().wait_for_field(&other, ("/status/phase", "Pending"), LIMIT);
    let ran = say("carol", &other, &json!({"verdict": "Accepted"}));
    assert_eq!(ran.status, 0, "{ran}");
    assert_eq!(cluster.change(&other)["status"]["by"], "carol@example.com");
    wait_for_stamp("prod-deferred", Some("accepted"));
}

#[test]
fn a_verdict_is_taken_from_who_may_give_it_and_nothing_else_is_said() {
    let change = changed("INC-196", "prod-decided");
    let cluster = Cluster::shared();
    let before = cluster.change(&change)["status"].clone();
    let soon = (chrono::Utc::now() + chrono::TimeDelta::days(1)).to_rfc3339();
    let late = (chrono::Utc::now() + chrono::TimeDelta::days(15)).to_rfc3339();
    for (status, expected) in [
        (
            json!({"verdict": "Accepted", "by": "bob@example.com"}),
            "a verdict is its giver's: carol@example.com cannot decide as bob@example.com",
        ),
        (json!({"phase": "Settled", "outcome": "InGit"}), "only the verdict is a person's to write"),
        (json!({"verdict": "Accepted", "outcome": "InGit"}), "only the verdict is a person's to write"),
        (json!({"verdict": "Deferred", "until": soon}), "say why it is deferred"),
        (json!({"verdict": "Deferred", "note": "later"}), "say until when it is deferred"),
        (json!({"verdict": "Deferred", "note": "later", "until": late}), "a change may be deferred for 14d"),
    ] {
        let refusal = say("carol", &change, &status);
        assert!(refusal.refusal().starts_with(&format!("no verdict on {change}: {expected}")), "{status}: {refusal}");
    }
    // Who may not write the status of changes is refused by the API server itself.
    let stranger = cluster.kubectl("admin").run(&[
        "--as=nobody@example.com",
        "patch",
        "breakglasschange",
        &change,
        "--subresource=status",
        "--type=merge",
        "-p",
        r#"{"status": {"verdict": "Accepted"}}"#,
    ]);
    assert!(stranger.status == 1 && stranger.stderr.contains("Forbidden"), "{stranger}");
    assert_eq!(cluster.change(&change)["status"], before);

    // Of several, all or none.
    let carol = cluster.plugin("carol").namespace("prod-decided");
    let until = ["--until", "15d", "--reason", "later"];
    let refused = carol.run(&[&["defer", "--incident", "INC-196"], &until[..]].concat());
    assert!(
        refused.status == 1 && refused.stderr.contains("configmap/settings in prod-decided: no verdict on"),
        "{refused}"
    );
    for (args, status, said) in [
        (&["defer", "configmap/settings", "--until", "soon", "--reason", "r"][..], 2, "write it as 3d"),
        (&["defer", "configmap/settings", "--until", "1d", "--reason", " "], 2, "give a reason"),
        (&["defer", "--until", "1d", "--reason", "r"], 2, "CHANGE|KIND/NAME"),
        (&["defer", "--incident", "INC-1960", "--until", "1d", "--reason", "r"], 1, "INC-1960 owes nothing"),
    ] {
        let ran = carol.run(args);
        assert!(ran.status == status && ran.stderr.contains(said), "{args:?}: {ran}");
    }
    assert_eq!(cluster.change(&change)["status"], before);
}
