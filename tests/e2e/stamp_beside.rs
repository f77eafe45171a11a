//! Beside other people's webhooks: nothing of them leaves a false stamp, and what they change belongs to the write.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::Utc;
use serde_json::{Value, json};
use tests::audit::stamped;
use tests::other_webhook::{Asked, OtherWebhook, Reaction};
use tests::record::{after, change_of, config_map, stamp, without_noise};
use tests::{Cluster, Kubectl, wait_until};

use crate::LIMIT;

/// Everything off, ours and not.
fn strips() -> Reaction {
    Reaction::Patch(json!([{"op": "add", "path": "/metadata/annotations", "value": {}},
        {"op": "add", "path": "/metadata/labels", "value": {}}]))
}

/// bob in place of who it was, long ago, and nothing owed.
fn forges() -> Reaction {
    let annotation = |key: &str, value: &str| {
        let path = format!("/metadata/annotations/breakglass.dev~1{key}");
        json!({"op": "add", "path": path, "value": value})
    };
    Reaction::Patch(json!([
        annotation("user", "bob@example.com"),
        annotation("time", "2020-01-01T00:00:00Z"),
        annotation("change", "inc-1-0000000000000000"),
        {"op": "add", "path": "/metadata/labels/breakglass.dev~1state", "value": "accepted"},
    ]))
}

/// Holds that the object says of the last write what is true: alice did it, and her change is what is stored.
#[track_caller]
fn check_stamp(object: &Value, operation: &str) {
    let stamp = stamp(object);
    let said = (stamp["user"].as_str(), stamp["operation"].as_str());
    assert_eq!(said, ("alice@example.com", operation), "{object:#}");
    assert!(stamp["time"].as_str() > "2026", "{stamp:?}");
    if object["metadata"]["namespace"].as_str().unwrap().starts_with("prod") {
        assert_eq!((stamp.len(), stamp["state"].as_str()), (8, "pending"), "{stamp:?}");
        assert_eq!(after(&Cluster::shared().change(&stamp["change"])), without_noise(object));
    } else {
        assert_eq!((stamp.len(), stamp["state"].as_str()), (5, "noted"), "{stamp:?}");
    }
}

fn settings(alice: &Kubectl) -> Value {
    alice.json(&["get", "configmap", "settings"])
}

/// L-11: where a webhook after ours strips or forges the stamp, ours is asked again and puts it right.
#[test]
fn a_webhook_that_spoils_the_stamp_does_not_have_the_last_word() {
    let cluster = Cluster::shared();
    for (namespace, name, reaction) in [
        ("prod-beside-strip", "zz-strip-prod", strips as fn() -> Reaction),
        ("prod-beside-forge", "zz-forge-prod", forges),
        ("dev-beside-strip", "zz-strip-dev", strips),
        ("dev-beside-forge", "zz-forge-dev", forges),
    ] {
        cluster.namespace(namespace);
        let incident = format!("INC-470-{name}");
        if namespace.starts_with("prod") {
            cluster.open("alice", &incident, namespace);
        }
        let other = OtherWebhook::start(cluster, Asked::Mutating, (name, namespace), move |_| reaction());
        let alice = cluster.kubectl("alice").namespace(namespace);
        for (args, operation, value) in [
            (&["create", "-f", "-"][..], "Create", "one"),
            (&["replace", "-f", "-"], "Update", "two"),
            (&["apply", "--server-side", "--force-conflicts", "-f", "-"], "Update", "three"),
        ] {
            alice.ok_with_input(args, &config_map("settings", value));
            let object = settings(&alice);
            assert_eq!(object["data"]["key"], value);
            check_stamp(&object, operation);
        }
        assert_eq!(other.take_seen().len(), 3, "{name}: asked once for each write, so ours had the last word");
        let changes = if namespace.starts_with("prod") { 3 } else { 0 };
        assert_eq!(cluster.changes(&incident).len(), changes, "{name}");
    }
}

/// L-11: where a webhook has the last word and spoils the stamp with it, the gate refuses the write.
#[test]
fn a_webhook_that_insists_gets_nothing_into_prod() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-insist");
    cluster.open("alice", "INC-471", "prod-insist");
    let alice = cluster.kubectl("alice").namespace("prod-insist");
    alice.ok_with_input(&["create", "-f", "-"], &config_map("settings", "one"));
    let before = settings(&alice);
    for (name, reaction) in [("zz-insist-strip", strips as fn() -> Reaction), ("zz-insist-forge", forges)] {
        let site = (name, "prod-insist");
        let other = OtherWebhook::start(cluster, Asked::MutatingAgain, site, move |_| reaction());
        for (args, object) in [
            (&["replace", "-f", "-"][..], config_map("settings", "two")),
            (&["create", "-f", "-"], config_map("another", "one")),
        ] {
            let refused = alice.run_with_input(args, &object);
            let start = "this write is not let in, because the object does not carry the stamp of this very write";
            assert!(refused.refusal().starts_with(start), "{refused}");
            assert_eq!(other.take_seen().len(), 2, "{name} had the last word");
        }
        assert_eq!(alice.json(&["get", "configmap", "settings"]), before, "{name}");
        assert_eq!(alice.ok(&["get", "configmap", "another", "--ignore-not-found"]), "");
    }
    assert_eq!(cluster.changes("INC-471").len(), 1, "only the create");
}

/// L-11: where a webhook has the last word in dev, what lands carries no false stamp.
#[test]
fn a_webhook_that_insists_gets_no_false_stamp_into_dev() {
    let cluster = Cluster::shared();
    cluster.namespace("dev-insist");
    let alice = cluster.kubectl("alice").namespace("dev-insist");
    let _other = OtherWebhook::start(cluster, Asked::MutatingAgain, ("zz-insist-dev", "dev-insist"), |_| forges());
    for (operation, args) in [("Create", ["create", "-f", "-"]), ("Update", ["replace", "-f", "-"])] {
        // Refused or true: either will do.
        if alice.run_with_input(&args, &config_map("settings", operation)).status == 0 {
            check_stamp(&settings(&alice), operation);
        }
    }
}

/// L-12: webhooks before and after ours change the object, and ours is asked again: its stamp stays what it was, down to
/// the second, and there is one change, of what is stored.
#[test]
fn what_other_webhooks_change_belongs_to_the_write_and_moves_no_stamp() {
    let cluster = Cluster::shared();
    for (namespace, names) in
        [("prod-round", ["aa-round-prod", "zz-round-prod"]), ("dev-round", ["aa-round", "zz-round"])]
    {
        cluster.namespace(namespace);
        let guarded = namespace.starts_with("prod");
        let incident = "INC-472";
        if guarded {
            cluster.open("alice", incident, namespace);
        }
        // Before ours, and again after the other, each time with another value.
        let count = AtomicUsize::new(0);
        let _before = OtherWebhook::start(cluster, Asked::MutatingAgain, (names[0], namespace), move |_| {
            let count = count.fetch_add(1, Ordering::Relaxed).to_string();
            Reaction::Patch(json!([{"op": "add", "path": "/data/before", "value": count}]))
        });
        // After ours, which is asked again in another second than the first time.
        let after_ours = OtherWebhook::start(cluster, Asked::Mutating, (names[1], namespace), |request| {
            next_second();
            let value = request["object"]["data"]["key"].clone();
            Reaction::Patch(json!([{"op": "add", "path": "/data/after", "value": value}]))
        });
        let alice = cluster.kubectl("alice").namespace(namespace);
        for (index, (operation, args)) in
            [("Create", ["create", "-f", "-"]), ("Update", ["replace", "-f", "-"])].into_iter().enumerate()
        {
            alice.ok_with_input(&args, &config_map("settings", operation));
            let object = settings(&alice);
            let data = json!({"key": operation, "after": operation, "before": (2 * index + 1).to_string()});
            assert_eq!(object["data"], data, "the first was asked again");
            let [seen] = &after_ours.take_seen()[..] else { panic!("the second was asked once") };
            assert_eq!(stamp(&object), stamp(&seen["object"]), "what we said the first time stays");
            check_stamp(&object, operation);
            check_asked_again(namespace, if index == 0 { "create" } else { "update" });
            if guarded {
                assert_eq!(cluster.changes(incident).len(), index + 1);
            }
        }
    }
}

/// Waits for another second by the clock: stamps have whole ones.
fn next_second() {
    let now = Utc::now().timestamp();
    wait_until("the next second", LIMIT, || if Utc::now().timestamp() > now { Ok(()) } else { Err(now.to_string()) })
        .unwrap();
}

/// Holds that the API server asked us a second time about the last such request, and that we changed nothing then.
#[track_caller]
fn check_asked_again(namespace: &str, verb: &str) {
    let event = Cluster::shared()
        .audited("alice@example.com", |event| event["objectRef"]["namespace"] == namespace && event["verb"] == verb);
    assert_eq!(stamped(&event), [true, false], "{event:#}");
}

/// L-12: alice changes nothing and another webhook does: then it is her change. Another webhook takes back what alice
/// changes: then nothing changed, and nothing is owed.
#[test]
fn a_write_is_judged_by_what_other_webhooks_make_of_it() {
    let cluster = Cluster::shared();
    for (namespace, name) in [("prod-made", "zz-made-prod"), ("dev-made", "zz-made")] {
        cluster.namespace(namespace);
        let guarded = namespace.starts_with("prod");
        if guarded {
            cluster.open("alice", "INC-473", namespace);
        }
        let alice = cluster.kubectl("alice").namespace(namespace);
        alice.ok_with_input(&["create", "-f", "-"], &config_map("settings", "one"));
        let raw = || alice.ok(&["get", "--raw", &format!("/api/v1/namespaces/{namespace}/configmaps/settings")]);
        let first = settings(&alice);
        let before = raw();
        {
            let old = json!([{"op": "add", "path": "/data/key", "value": "one"}]);
            let takes_back = move |_: &Value| Reaction::Patch(old.clone());
            let _other = OtherWebhook::start(cluster, Asked::Mutating, (name, namespace), takes_back);
            alice.ok(&["patch", "configmap", "settings", "-p", r#"{"data": {"key": "two"}}"#]);
            assert_eq!(without_times(&raw()), without_times(&before));
        }
        next_second();
        let value = Arc::new(AtomicUsize::new(0));
        let _other = OtherWebhook::start(cluster, Asked::Mutating, (name, namespace), move |_| {
            let value = value.fetch_add(1, Ordering::Relaxed).to_string();
            Reaction::Patch(json!([{"op": "add", "path": "/data/other", "value": value}]))
        });
        alice.ok(&["patch", "configmap", "settings", "-p", r#"{"data": {"key": "one"}}"#]);
        let object = settings(&alice);
        assert_eq!(object["data"], json!({"key": "one", "other": "0"}));
        check_stamp(&object, "Update");
        assert_ne!(stamp(&object)["time"], stamp(&first)["time"]);
        if guarded {
            assert_ne!(change_of(&object), change_of(&first));
            assert_eq!(cluster.changes("INC-473").len(), 2, "the create and the last");
        }
    }
}

/// An object but for who owns which field since when: the API server writes that down before it asks webhooks.
fn without_times(object: &str) -> Value {
    let mut object: Value = serde_json::from_str(object).unwrap();
    let metadata = object["metadata"].as_object_mut().unwrap();
    metadata.remove("managedFields");
    metadata.remove("resourceVersion");
    object
}

/// What another webhook refuses after us has been let in by us, and never lands: its record says so in the end.
#[test]
fn a_write_that_another_webhook_refuses_never_landed() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-denied");
    cluster.open("alice", "INC-474", "prod-denied");
    let site = ("zz-denied", "prod-denied");
    let _other = OtherWebhook::start(cluster, Asked::Validating, site, |_| Reaction::Deny("not on a Friday"));
    let alice = cluster.kubectl("alice").namespace("prod-denied");
    let refused = alice.run_with_input(&["create", "-f", "-"], &config_map("settings", "one"));
    assert_eq!(refused.status, 1, "{refused}");
    assert!(refused.stderr.ends_with("denied the request: not on a Friday\n"), "{refused}");
    wait_until("every record to say that nothing landed", LIMIT, || {
        let changes = cluster.changes("INC-474");
        let statuses: Vec<&Value> = changes.iter().map(|change| &change["status"]).collect();
        let never = |status: &&Value| status["phase"] == "Settled" && status["outcome"] == "NeverLanded";
        if statuses.iter().all(never) { Ok(()) } else { Err(format!("{statuses:?}")) }
    })
    .unwrap();
}
