//! What is gone is on record as it was: deletes of one and of many, and evictions.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tests::http::refused;
use tests::record::{after, config_map, without_noise};
use tests::{Cluster, Http, wait_until};

use crate::LIMIT;

/// One request deletes several objects: refused without a token, and under one a change for each, under its own name and
/// with what it was.
#[test]
fn a_delete_of_many_is_a_change_for_each() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-many");
    let flux = cluster.kubectl("flux").namespace("prod-many");
    for (name, tier) in [("one", "web"), ("two", "web"), ("three", "web"), ("kept", "data")] {
        let mut object: Value = serde_json::from_str(&config_map(name, name)).unwrap();
        object["metadata"]["labels"] = json!({"tier": tier});
        flux.ok_with_input(&["create", "-f", "-"], &object.to_string());
    }
    let alice = Http::new(&cluster.kubectl("alice"), "http/1");
    let path = "/api/v1/namespaces/prod-many/configmaps?labelSelector=tier%3Dweb";
    let delete = || alice.send("DELETE", path, "");
    let seen = || -> BTreeMap<String, Value> {
        let objects = flux.json(&["get", "configmaps", "-l", "tier"])["items"].as_array().unwrap().clone();
        objects.into_iter().map(|object| (object["metadata"]["name"].as_str().unwrap().to_owned(), object)).collect()
    };
    let (code, message) = refused(delete());
    assert!(code == 403 && message.contains("(delete) by alice@example.com needs a break-glass token"), "{message}");
    assert_eq!(seen().len(), 4);

    cluster.open("alice", "INC-494", "prod-many");
    // One of them carries a stamp, which is part of what it was.
    cluster.kubectl("alice").ok(&["-n", "prod-many", "annotate", "configmap", "two", "note=mine"]);
    let before = seen();
    delete().unwrap();
    assert_eq!(seen().keys().collect::<Vec<_>>(), ["kept"]);
    let changes = cluster.changes("INC-494");
    let deletes: BTreeMap<&str, &Value> = changes
        .iter()
        .filter(|change| change["spec"]["operation"] == "Delete")
        .map(|change| (change["spec"]["target"]["name"].as_str().unwrap(), change))
        .collect();
    assert_eq!(deletes.keys().collect::<Vec<_>>(), [&"one", &"three", &"two"]);
    for (name, change) in deletes {
        assert_eq!(change["spec"]["before"], without_noise(&before[name]));
        assert_eq!(after(change), Value::Null);
        assert_eq!(change["spec"]["target"]["uid"], before[name]["metadata"]["uid"]);
    }
    assert_eq!(changes.len(), 4, "an annotation and three deletes");
}

/// L-05: an eviction ends a Pod without a DELETE: refused without a token, and under one on record with the Pod as it was and
/// who it really was, whatever the Eviction says in our keys.
#[test]
fn an_eviction_is_on_record_with_the_pod() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-evicted");
    let flux = cluster.kubectl("flux").namespace("prod-evicted");
    wait_until("the service account of Pods", LIMIT, || {
        let args = ["run", "api", "--image=registry.example.com/api:1", "--labels=app=api"];
        flux.try_ok(&args, "").map(drop).map_err(|error| format!("{error:#}"))
    })
    .unwrap();
    let alice = Http::new(&cluster.kubectl("alice"), "http/1");
    let forged = json!({"breakglass.dev/user": "bob@example.com", "breakglass.dev/change": "inc-1-0000000000000000"});
    let metadata = json!({"name": "api", "annotations": forged});
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}).to_string();
    let evict = || alice.send("POST", "/api/v1/namespaces/prod-evicted/pods/api/eviction", &eviction);
    let (code, message) = refused(evict());
    assert!(
        code == 403 && message.contains("pods/eviction \"api\" (create) by alice@example.com needs a"),
        "{message}"
    );
    let pod = flux.json(&["get", "pod", "api"]);
    assert_eq!(pod["metadata"]["deletionTimestamp"], Value::Null);

    cluster.open("alice", "INC-495", "prod-evicted");
    evict().unwrap();
    // It is on no node, so nobody has to end it first.
    assert_eq!(flux.ok(&["get", "pods", "-o", "name"]), "");
    let changes = cluster.changes("INC-495");
    let [change] = &changes[..] else { panic!("{changes:#?}") };
    let spec = &change["spec"];
    assert_eq!((&spec["operation"], &spec["subresource"]), (&json!("Evict"), &json!("eviction")));
    assert_eq!(spec["user"], "alice@example.com");
    let wanted = json!({"apiVersion": "v1", "kind": "Pod", "resource": "pods", "namespace": "prod-evicted", "name": "api",
        "uid": pod["metadata"]["uid"]});
    assert_eq!(spec["target"], wanted);
    assert_eq!(spec["before"], without_noise(&pod));
    assert_eq!(after(change), Value::Null);
}
