//! Every write that a token lets in shows in the API server's own audit log, and is counted.

use serde_json::{Value, json};
use tests::{Cluster, Kubectl, wait_until};

use crate::LIMIT;
use crate::gate_token::cluster;

/// What the audit log says about alice's requests in a namespace, reads left out.
fn audited(cluster: &Cluster, namespace: &str) -> Vec<Value> {
    let log = std::fs::read_to_string(cluster.directory().join("logs/audit.log")).unwrap();
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let read = |event: &Value| ["get", "list", "watch"].contains(&event["verb"].as_str().unwrap_or_default());
    events
        .filter(|event| event["user"]["username"] == "alice@example.com")
        .filter(|event| event["objectRef"]["namespace"] == namespace && event["stage"] == "ResponseComplete")
        .filter(|event| !read(event))
        .collect()
}

/// K-13: each write that a token lets in stands in the API server's audit log with the token's name and uid, and is counted
/// in the token's status; what is refused stands there without.
#[test]
fn every_write_under_a_token_is_audited_with_it_and_counted() {
    let cluster = cluster();
    cluster.namespace("prod-audit");
    let alice: Kubectl = cluster.kubectl("alice").namespace("prod-audit");
    let refused = alice.run(&["create", "configmap", "settings"]);
    assert!(refused.our_refusal().is_some(), "{refused}");
    let name = cluster.open("alice", "INC-436", "prod-audit");

    alice.ok(&["create", "configmap", "settings"]);
    alice.ok(&["label", "configmap", "settings", "tier=one"]);
    let applied =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"k": "v"}});
    alice.ok_with_input(&["apply", "--server-side", "-f", "-"], &applied.to_string());
    alice.ok(&["create", "deployment", "web", "--image=registry.example.com/web:1", "--replicas=0"]);
    alice.ok(&["scale", "deployment", "web", "--replicas=2"]);
    let pod = wait_until("a Pod", LIMIT, || match alice.ok(&["get", "pods", "-o", "name"]).lines().next() {
        Some(pod) => Ok(pod.trim_start_matches("pod/").to_owned()),
        None => Err("none".to_owned()),
    })
    .unwrap();
    // There is no node that it would run on: it is let in by us and then goes nowhere. By POST, which is one request.
    let exec = alice.clone().env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false").run(&["exec", &pod, "--", "true"]);
    assert!(exec.stderr.contains("does not have a host assigned"), "{exec}");
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}});
    let path = format!("/api/v1/namespaces/prod-audit/pods/{pod}/eviction");
    alice.ok_with_input(&["create", "--raw", &path, "-f", "-"], &eviction.to_string());
    alice.ok(&["delete", "configmap", "settings"]);

    let token = cluster.kubectl("admin").json(&["get", "breakglasstoken", &name]);
    let proof = format!("{name} {}", token["metadata"]["uid"].as_str().unwrap());
    let changes = cluster.changes("INC-436");
    let recorded = |change: &Value| changes.iter().any(|known| known["metadata"]["name"] == *change);
    let events = wait_until("the audit log to have all of them", LIMIT, || match audited(&cluster, "prod-audit") {
        events if events.len() >= 9 => Ok(events),
        events => Err(format!("{} events", events.len())),
    })
    .unwrap();
    let what = |event: &Value| {
        format!("{} {}/{}", event["verb"], event["objectRef"]["resource"], event["objectRef"]["subresource"])
    };
    let (let_in, others): (Vec<&Value>, Vec<&Value>) =
        events.iter().partition(|event| !event["annotations"]["gate.breakglass.dev/token"].is_null());
    for event in &let_in {
        let said = |key: &str| &event["annotations"][format!("gate.breakglass.dev/{key}")];
        assert_eq!((said("token"), said("incident")), (&json!(proof), &json!("INC-436")), "{event:#}");
        assert!(recorded(said("change")), "{event:#}");
    }
    assert_eq!(let_in.len(), 8, "{:#?}", events.iter().map(what).collect::<Vec<_>>());
    assert_eq!(others.len(), 1, "{others:#?}");
    assert_eq!(others[0]["responseStatus"]["code"], 403);

    // A write that met another is tried again by the API server, which asks again: one request, and then two records.
    let counted = let_in.len()..=changes.len();
    wait_until("the count of writes", LIMIT, || {
        let status = cluster.kubectl("admin").json(&["get", "breakglasstoken", &name])["status"].clone();
        let writes = status["writes"].as_u64().and_then(|writes| usize::try_from(writes).ok());
        if writes.is_some_and(|writes| counted.contains(&writes)) { Ok(()) } else { Err(status.to_string()) }
    })
    .unwrap();
}
