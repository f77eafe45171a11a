//! Nodes: what a kubelet writes is never looked at, and what it takes to keep a cluster running goes on.

use serde_json::{Value, json};
use tests::audit::stamped;
use tests::http::STRATEGIC;
use tests::record::stamp;
use tests::{Cluster, Http, wait_until};

use crate::LIMIT;

const NODE: &str = "system:node:n1";

/// L-17: a kubelet registers, renews its lease, makes mirror pods, writes status, tells of events and deletes Pods in prod
/// as anywhere; endpoints follow. Nothing of it is stamped, nothing asks us, and a stamp that is there stays.
#[test]
fn a_kubelet_and_what_follows_from_it_is_not_looked_at() {
    // Its own: a Node is everybody's.
    let cluster = Cluster::own("node");
    let bind = ["create", "clusterrolebinding", "n1", "--clusterrole=system:node", "--user", NODE];
    cluster.set_scene(&bind, "");
    cluster.namespace("prod-node");
    let kubelet = Http::new(&cluster.part(NODE, "system:nodes"), "kubelet/1");
    let admin = cluster.kubectl("admin");
    let get = |path: &str| -> Value { serde_json::from_str(&admin.ok(&["get", "--raw", path])).unwrap() };
    let send = |method: &str, path: &str, object: Value| {
        kubelet.send(method, path, &object.to_string()).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    };
    let patch =
        |path: &str, patch: Value| kubelet.patch(STRATEGIC, path, &patch).unwrap_or_else(|error| panic!("{error}"));

    let ready = json!([{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "it is"}]);
    wait_until("the right to register", LIMIT, || {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}).to_string();
        kubelet.send("POST", "/api/v1/nodes", &node).map_err(|error| error.to_string())
    })
    .unwrap();
    patch("/api/v1/nodes/n1/status", json!({"status": {"conditions": ready, "capacity": {"cpu": "4", "pods": "10"}}}));
    assert!(stamp(&get("/api/v1/nodes/n1")).is_empty());

    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "n1", "namespace": "kube-node-lease"}, "spec": {"holderIdentity": "n1"}});
    let mut lease = send("POST", leases, lease);
    for second in 0..3 {
        lease["spec"]["renewTime"] = json!(format!("2026-11-20T12:00:0{second}.000000Z"));
        lease = send("PUT", &format!("{leases}/n1"), lease);
        assert!(stamp(&lease).is_empty());
    }

    for namespace in ["kube-system", "prod-node"] {
        let mirror = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "static-n1",
            "annotations": {"kubernetes.io/config.mirror": "a", "kubernetes.io/config.hash": "a"}},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "registry.example.com/static:1"}],
                     "tolerations": [{"operator": "Exists"}]}});
        let pods = format!("/api/v1/namespaces/{namespace}/pods");
        assert!(stamp(&send("POST", &pods, mirror)).is_empty());
        patch(&format!("{pods}/static-n1/status"), json!({"status": {"phase": "Running"}}));
        assert!(stamp(&get(&format!("{pods}/static-n1"))).is_empty());
        let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"generateName": "started."},
            "reason": "Started", "type": "Normal", "involvedObject": {"kind": "Pod", "namespace": namespace, "name": "static-n1"}});
        assert!(stamp(&send("POST", &format!("/api/v1/namespaces/{namespace}/events"), event)).is_empty());
    }

    // A Deployment whose one Pod somebody binds, and which the kubelet says to be running.
    let flux = cluster.kubectl("flux").namespace("prod-node");
    flux.ok(&["create", "deployment", "web", "--image=registry.example.com/web:1"]);
    flux.ok(&["expose", "deployment", "web", "--port=80"]);
    let pod = wait_until("the Pod", LIMIT, || {
        let pods = flux.json(&["get", "pods", "-l", "app=web"]);
        pods["items"][0]["metadata"]["name"].as_str().map(str::to_owned).ok_or_else(|| pods.to_string())
    })
    .unwrap();
    let path = format!("/api/v1/namespaces/prod-node/pods/{pod}");
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "n1"}});
    cluster.set_scene(&["create", "--raw", &format!("{path}/binding"), "-f", "-"], &binding.to_string());
    cluster.open("alice", "INC-493", "prod-node");
    cluster.kubectl("alice").ok(&["-n", "prod-node", "annotate", "pod", &pod, "note=mine"]);
    let stamped_by_alice = stamp(&get(&path));
    assert_eq!(stamped_by_alice["user"], "alice@example.com");
    let running = json!({"status": {"phase": "Running", "podIP": "10.0.0.7", "podIPs": [{"ip": "10.0.0.7"}],
        "conditions": [{"type": "Ready", "status": "True"}]}});
    patch(&format!("{path}/status"), running);
    assert_eq!(stamp(&get(&path)), stamped_by_alice);

    // Who follows: the slice of the Service, the count of the Deployment, and what controllers tell.
    let slice = wait_until("the address in an EndpointSlice", LIMIT, || {
        let slices = flux.json(&["get", "endpointslices", "-l", "kubernetes.io/service-name=web"]);
        let slice = slices["items"][0].clone();
        if slice["endpoints"][0]["addresses"] == json!(["10.0.0.7"]) { Ok(slice) } else { Err(slices.to_string()) }
    })
    .unwrap();
    assert!(stamp(&slice).is_empty(), "{slice:#}");
    wait_until("the Deployment to be available", LIMIT, || {
        let status = flux.json(&["get", "deployment", "web"])["status"].clone();
        if status["availableReplicas"] == 1 { Ok(()) } else { Err(status.to_string()) }
    })
    .unwrap();
    let events = wait_until("events of controllers", LIMIT, || {
        let events = flux.json(&["get", "events"])["items"].as_array().unwrap().clone();
        if events.iter().any(|event| event["reason"] == "ScalingReplicaSet") {
            Ok(events)
        } else {
            Err(format!("{events:?}"))
        }
    })
    .unwrap();
    assert!(events.iter().all(|event| stamp(event).is_empty()), "{events:#?}");

    // The last word on a Pod is the kubelet's.
    send("DELETE", &path, json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}));
    wait_until("another Pod in its place", LIMIT, || {
        let pods = flux.json(&["get", "pods", "-l", "app=web"]);
        let names: Vec<&Value> = pods["items"].as_array().unwrap().iter().map(|pod| &pod["metadata"]["name"]).collect();
        if names.len() == 1 && *names[0] != json!(pod) { Ok(()) } else { Err(format!("{names:?}")) }
    })
    .unwrap();

    assert_eq!(cluster.changes("INC-493").len(), 1, "alice's one write");
    for verb in ["create", "update", "patch", "delete"] {
        let event = cluster.audited(NODE, |event| event["verb"] == verb);
        assert!(stamped(&event).is_empty(), "we were asked: {event:#}");
    }
}
