//! In the place of kube-scheduler: binds each pod of ours to the node with the fewest of them, as its spec prefers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::api::{Api, now};
use super::seen::{Kind, NAMESPACE, Seen};

/// How often pods that found no place are looked at again, though nothing changed.
const AGAIN: Duration = Duration::from_secs(1);

/// Binds pods until the task ends.
pub(crate) async fn schedule(seen: Arc<Seen>, api: Api) {
    let mut changes = seen.changes();
    // What was bound and where, and what was told to have no place: the watch tells of both a little later.
    let (mut bound, mut told) = (BTreeMap::new(), BTreeSet::new());
    loop {
        let (pods, nodes) = (seen.all(Kind::Pods), seen.all(Kind::Nodes));
        for pod in &pods {
            let uid = uid(pod);
            let unbound = pod["spec"]["nodeName"].is_null() && pod["metadata"]["deletionTimestamp"].is_null();
            if !unbound || pod["spec"]["schedulerName"] != "default-scheduler" || bound.contains_key(&uid) {
                continue;
            }
            let places: Vec<&str> = pods.iter().filter_map(|pod| place(pod, &bound)).collect();
            match choose(pod, &nodes, &places) {
                Ok(node) => {
                    if bind(&api, pod, &node).await {
                        bound.insert(uid, node);
                    }
                }
                Err(why) => {
                    if told.insert((uid, why.clone())) {
                        tell(&api, pod, &why).await;
                    }
                }
            }
        }
        let _ = tokio::time::timeout(AGAIN, changes.changed()).await;
    }
}

fn uid(pod: &Value) -> String {
    pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
}

/// Where a pod is, or will be as soon as the watch knows.
fn place<'a>(pod: &'a Value, bound: &'a BTreeMap<String, String>) -> Option<&'a str> {
    pod["spec"]["nodeName"].as_str().or_else(|| bound.get(&uid(pod)).map(String::as_str))
}

async fn bind(api: &Api, pod: &Value, node: &str) -> bool {
    let metadata = json!({"name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]});
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": metadata,
        "target": {"apiVersion": "v1", "kind": "Node", "name": node}});
    api.send("POST", &format!("{}/binding", path(pod)), &binding).await.is_ok()
}

async fn tell(api: &Api, pod: &Value, why: &str) {
    let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why,
        "lastTransitionTime": now()});
    let _ = api.patch(&format!("{}/status", path(pod)), &json!({"status": {"conditions": [condition]}})).await;
}

/// Where a pod of ours lies in the API.
pub(crate) fn path(pod: &Value) -> String {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}")
}

/// The node with the fewest pods (`places` has one entry a pod) of those that take this one, or why none does.
fn choose(pod: &Value, nodes: &[Arc<Value>], places: &[&str]) -> Result<String, String> {
    let name = |node: &Value| node["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let on = |node: &str| places.iter().filter(|place| **place == node).count();
    let taking = nodes.iter().filter(|node| takes(node, pod)).map(|node| name(node));
    taking.min_by_key(|node| (on(node), node.clone())).ok_or_else(|| {
        format!("0/{} nodes are available: each is cordoned, tainted or not ready.", nodes.len())
    })
}

/// Whether a node is ready, not cordoned, and has no taint that the pod does not tolerate.
fn takes(node: &Value, pod: &Value) -> bool {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let ready = list(&node["status"]["conditions"])
        .iter()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
    let tolerations = list(&pod["spec"]["tolerations"]);
    let tolerated = |taint: &Value| {
        taint["effect"] == "PreferNoSchedule" || tolerations.iter().any(|toleration| tolerates(toleration, taint))
    };
    ready && node["spec"]["unschedulable"] != true && list(&node["spec"]["taints"]).iter().all(tolerated)
}

fn tolerates(toleration: &Value, taint: &Value) -> bool {
    let is_or_any = |field: &str| toleration[field].is_null() || toleration[field] == taint[field];
    let exists = toleration["operator"] == "Exists";
    is_or_any("effect") && is_or_any("key") && (exists || toleration["value"] == taint["value"])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, unschedulable: bool, taints: Value) -> Arc<Value> {
        Arc::new(json!({"metadata": {"name": name}, "spec": {"unschedulable": unschedulable, "taints": taints},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}}))
    }

    #[test]
    fn pods_spread_over_the_nodes_that_take_them() {
        let pod = json!({"spec": {"tolerations": [
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}]}});
        let placed = ["node-1"];
        let (one, two) = (node("node-1", false, json!(null)), node("node-2", false, json!(null)));
        assert_eq!(choose(&pod, &[one.clone(), two], &placed).unwrap(), "node-2");
        let cordoned = node("node-2", true, json!(null));
        assert_eq!(choose(&pod, &[one, cordoned.clone()], &placed).unwrap(), "node-1");
        let taint = |effect: &str| json!([{"key": "node.kubernetes.io/not-ready", "effect": effect}]);
        assert!(choose(&pod, &[cordoned.clone(), node("node-1", false, taint("NoSchedule"))], &placed).is_err());
        assert!(choose(&pod, &[cordoned, node("node-1", false, taint("NoExecute"))], &placed).is_ok());
    }
}
