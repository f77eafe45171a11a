//! W-7: a cluster's own traffic. A hundred writes as they come: how many reach a webhook, and what the API server pays.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use serde_json::json;
use tests::users::Login;

use crate::bench::Bench;
use crate::load::{Call, Load, Target, same};
use crate::process::cpu_of;
use crate::scene::Scene;
use crate::stats::{Figure, Random, Ratio, rounds};

/// How many hundreds of writes make a figure.
const HUNDREDS: usize = 2;

/// What is written how often of a hundred. An assumption, to be replaced by what an audit log counts.
const MIX: [(Write, usize); 7] = [
    (Write::NodeLease, 38),
    (Write::LeaderLease, 7),
    (Write::PodStatus, 20),
    (Write::NodeStatus, 10),
    (Write::Event, 10),
    (Write::EndpointSlice, 5),
    (Write::Person, 10),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Write {
    NodeLease,
    LeaderLease,
    PodStatus,
    NodeStatus,
    Event,
    EndpointSlice,
    Person,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    None,
    NoneAgain,
    Ours,
}

/// Measures it.
///
/// # Errors
/// When a cluster does not start, or a write is refused.
pub fn mix(bench: &mut Bench) -> Result<()> {
    let count = bench.rounds(9);
    let (ours, bare) = bench.both()?;
    let mut writers = (writers(ours)?, writers(bare)?);
    let mut number = 0;
    // The first of each warms up; then the log is counted.
    hundred(&mut writers.0, &mut number)?;
    let before = ours.webhook.decided()?;
    hundred(&mut writers.0, &mut number)?;
    let hops = ours.webhook.decided()? - before;
    let figures = rounds(count, &[Side::None, Side::NoneAgain, Side::Ours], |side| {
        let (scene, writers) = if side == Side::Ours { (&*ours, &mut writers.0) } else { (&*bare, &mut writers.1) };
        let ((), cpu) = cpu_of(&[scene.api_server], || (0..HUNDREDS).try_for_each(|_| hundred(writers, &mut number)))?;
        Ok(Figure { cpu: cpu.as_secs_f64() * 1e3 / HUNDREDS as f64, ..Figure::default() })
    })?;
    let column = |side| {
        let found = figures.iter().find(|(found, _)| *found == side);
        found.map(|(_, figures)| figures.column(|figure| figure.cpu)).unwrap_or_default()
    };
    let (none, again, ours) = (column(Side::None), column(Side::NoneAgain), column(Side::Ours));
    bench.report.goal("reviews per 100 writes (10 of them a person's, in dev)", hops.to_string(), "10", hops == 10);
    let ratio = Ratio::of(&ours, &none);
    let value = format!("{ratio}; {:.0} ms without", crate::stats::median(&none));
    bench.report.goal("API server's CPU per 100 writes: ours / none", value, "≤ 1.05", ratio.median <= 1.05);
    bench.report.same_twice("100 writes without a webhook", Ratio::of(&again, &none));
    Ok(())
}

type Writers = BTreeMap<Write, Load>;

/// One connection for each who writes, with the rights and the objects it takes.
fn writers(scene: &Scene) -> Result<Writers> {
    let rights = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "bench"}, "rules": [
            {"apiGroups": ["", "coordination.k8s.io", "discovery.k8s.io"], "verbs": ["create", "update", "patch"],
             "resources": ["leases", "nodes/status", "pods/status", "events", "endpointslices"]}]},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "bench"},
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "bench"}, "subjects": [
            {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes"},
            {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:kube-controller-manager"},
            {"kind": "ServiceAccount", "namespace": "kube-system", "name": "endpointslice-controller"}]}]});
    scene.make(&rights)?;
    let lease = |namespace: &str| {
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "n1", "namespace": namespace},
            "spec": {"holderIdentity": "n1", "leaseDurationSeconds": 40}})
    };
    for object in [
        lease("kube-node-lease"),
        lease("kube-system"),
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "mixed", "namespace": "prod"},
            "spec": {"containers": [{"name": "api", "image": "registry.example.com/api:1"}]}}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "endpoints": [],
            "metadata": {"name": "api-x", "namespace": "prod"}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mixed", "namespace": "dev"}}),
    ] {
        scene.make(&object)?;
    }
    let cluster = &scene.cluster;
    let target = |kubeconfig: &Path| Target::api(kubeconfig);
    let node = target(cluster.part("system:node:n1", "system:nodes").kubeconfig())?;
    let manager = target(cluster.part("system:kube-controller-manager", "").kubeconfig())?;
    let args = ["-n", "kube-system", "create", "token", "endpointslice-controller"];
    let token = cluster.set_scene(&args, "").trim().to_owned();
    let slices = target(cluster.login("endpointslice-controller", &Login::Token(token)).kubeconfig())?;
    let alice = scene.person("alice")?;
    let who = |write| match write {
        Write::LeaderLease => &manager,
        Write::EndpointSlice => &slices,
        Write::Person => &alice,
        Write::NodeLease | Write::PodStatus | Write::NodeStatus | Write::Event => &node,
    };
    Ok(MIX.iter().map(|&(write, _)| (write, Load::new(&scene.runtime, who(write), 1))).collect())
}

/// A hundred writes, in an order of their own.
fn hundred(writers: &mut Writers, number: &mut usize) -> Result<()> {
    let mut order: Vec<Write> = MIX.iter().flat_map(|&(write, share)| vec![write; share]).collect();
    Random::new(*number as u64).shuffle(&mut order);
    for write in order {
        *number += 1;
        let Some(load) = writers.get_mut(&write) else { continue };
        let run = load.closed(1, &same(call(write, *number)));
        run.all(&format!("{write:?}"), |answer| matches!(answer.status, 200 | 201))?;
    }
    Ok(())
}

fn call(write: Write, number: usize) -> Call {
    let patch = |path: &str, body: serde_json::Value| Call {
        method: "PATCH",
        media_type: "application/merge-patch+json",
        ..Call::post(path, body.to_string())
    };
    let time = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    let lease = json!({"spec": {"renewTime": time}});
    let number = number.to_string();
    match write {
        Write::NodeLease => patch("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1", lease),
        Write::LeaderLease => patch("/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/n1", lease),
        Write::PodStatus => patch(
            "/api/v1/namespaces/prod/pods/mixed/status",
            json!({"status": {"phase": "Running", "message": number, "hostIP": "10.0.0.1"}}),
        ),
        Write::NodeStatus => patch(
            "/api/v1/nodes/n1/status",
            json!({"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady",
                "message": number, "lastHeartbeatTime": time.split('.').next().map(|time| format!("{time}Z"))}]}}),
        ),
        Write::Event => Call::post(
            "/api/v1/namespaces/prod/events",
            json!({"apiVersion": "v1", "kind": "Event", "metadata": {"generateName": "mixed.", "namespace": "prod"},
                "involvedObject": {"kind": "Pod", "namespace": "prod", "name": "mixed"}, "reason": "Pulled",
                "message": "Container image already present on machine", "type": "Normal", "count": 1,
                "source": {"component": "kubelet", "host": "n1"}})
            .to_string(),
        ),
        Write::EndpointSlice => patch(
            "/apis/discovery.k8s.io/v1/namespaces/prod/endpointslices/api-x",
            json!({"metadata": {"annotations": {"endpoints.kubernetes.io/last-change-trigger-time": time}}}),
        ),
        Write::Person => patch("/api/v1/namespaces/dev/configmaps/mixed", json!({"data": {"number": number}})),
    }
}
