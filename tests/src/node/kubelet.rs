//! In the place of a kubelet: registers its node, renews its Lease, and runs the pods that are bound to it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::Shared;
use super::api::{Api, Failure, now, now_micros};
use super::pod::Worker;
use super::seen::Kind;

/// How often it says that it is there, as a kubelet does. The node-lifecycle-controller waits 50 s.
const BEAT: Duration = Duration::from_secs(10);

/// Where the Leases of nodes lie.
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

/// One node of the cluster.
pub(super) struct Kubelet {
    shared: Arc<Shared>,
    api: Api,
    name: String,
    /// Its address, which leads nowhere.
    host: String,
}

impl Kubelet {
    pub(super) fn new(shared: Arc<Shared>, api: Api, number: usize) -> Self {
        Self { shared, api, name: super::NODES[number].to_owned(), host: format!("10.0.0.{}", number + 1) }
    }

    /// Runs it, with power and without, until the task ends.
    pub(super) async fn run(self) {
        let mut dark = self.shared.dark.subscribe();
        loop {
            if dark.wait_for(|dark| !dark.contains(&self.name)).await.is_err() {
                return;
            }
            tokio::select! {
                // First: a node without power does not say another word.
                biased;
                _ = dark.wait_for(|dark| dark.contains(&self.name)) => {}
                () = self.powered() => {}
            }
        }
    }

    /// What it does while it has power; its pods end with this.
    async fn powered(&self) {
        self.register().await;
        let mut workers = JoinSet::new();
        let mut known = BTreeSet::new();
        let mut changes = self.shared.seen.changes();
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = beat.tick() => self.beat().await,
                changed = changes.changed() => if changed.is_err() { return },
            }
            while workers.try_join_next().is_some() {}
            for pod in self.shared.seen.all(Kind::Pods) {
                let uid = pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
                if pod["spec"]["nodeName"] == self.name.as_str() && known.insert(uid) {
                    let place = (self.name.as_str(), self.host.as_str());
                    workers.spawn(Worker::new(Arc::clone(&self.shared), self.api.clone(), place, pod).run());
                }
            }
        }
    }

    async fn register(&self) {
        let labels = json!({"kubernetes.io/hostname": self.name, "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64"});
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name, "labels": labels}});
        while let Err(Failure::Silent | Failure::Refused(401 | 403 | 429 | 500..)) =
            self.api.send("POST", "/api/v1/nodes", &node).await
        {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// That it is there and ready.
    async fn beat(&self) {
        let ready = json!({"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "it is",
            "lastHeartbeatTime": now()});
        let room = json!({"cpu": "2", "memory": "4Gi", "pods": "110"});
        let addresses = json!([{"type": "InternalIP", "address": self.host}, {"type": "Hostname", "address": self.name}]);
        let mut status = json!({"conditions": [ready], "capacity": room, "allocatable": room, "addresses": addresses});
        if !self.was_ready() {
            status["conditions"][0]["lastTransitionTime"] = json!(now());
        }
        let _ = self.api.patch(&format!("/api/v1/nodes/{}/status", self.name), &json!({"status": status})).await;
        let spec = json!({"holderIdentity": self.name, "leaseDurationSeconds": 40, "renewTime": now_micros()});
        let lease = |spec: &Value| {
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": self.name, "namespace": "kube-node-lease"}, "spec": spec})
        };
        let path = format!("{LEASES}/{}", self.name);
        if let Err(Failure::Refused(404)) = self.api.patch(&path, &json!({"spec": spec})).await {
            let _ = self.api.send("POST", LEASES, &lease(&spec)).await;
        }
    }

    fn was_ready(&self) -> bool {
        let nodes = self.shared.seen.all(Kind::Nodes);
        let conditions = nodes.iter().filter(|node| node["metadata"]["name"] == self.name.as_str());
        let mut conditions = conditions.flat_map(|node| node["status"]["conditions"].as_array().into_iter().flatten());
        conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    }
}
