//! The nodes of a test cluster do what kubelets, kube-scheduler and kube-proxy do, so that replicas live as in production.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tests::load::{Load, Until};
use tests::node::{IMAGE, Running};
use tests::{Cluster, Kubectl, OVERRIDE, Setup, Together, wait_until};

use crate::{LIMIT, check_refused};

/// The one cluster of this file, with breakglass installed; one test at a time, since each takes its replicas apart.
fn cluster() -> (Arc<Cluster>, MutexGuard<'static, ()>) {
    static TURN: Mutex<()> = Mutex::new(());
    static CLUSTER: Together = Together::new(|| {
        let cluster = Setup::new("nodes").nodes().start().unwrap();
        cluster.install_manifests().unwrap();
        // Before any test of this file moves one.
        let running = cluster.nodes().running();
        let nodes: BTreeSet<&str> = running.iter().map(|running| running.node.as_str()).collect();
        assert_eq!(nodes, BTreeSet::from(["node-1", "node-2"]), "{running:?}");
        cluster
    });
    let cluster = CLUSTER.get();
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    cluster.wait_rolled_out().unwrap();
    (cluster, turn)
}

fn system(cluster: &Cluster) -> Kubectl {
    cluster.kubectl("admin").namespace("breakglass-system")
}

fn pods(cluster: &Cluster) -> Vec<Value> {
    system(cluster).json(&["get", "pods"])["items"].as_array().unwrap().clone()
}

fn names(running: &[Running]) -> BTreeSet<String> {
    running.iter().map(|running| running.pod.clone()).collect()
}

/// Two replicas run, on two nodes at first, and the API server reaches them by the Service's address.
#[test]
fn two_replicas_are_ready_on_two_nodes_and_answer_through_the_service() {
    let (cluster, _turn) = cluster();
    wait_until("two replicas to run", LIMIT, || {
        let running = cluster.nodes().running();
        if running.len() == 2 { Ok(()) } else { Err(format!("{running:?}")) }
    })
    .unwrap();
    let service = system(&cluster).json(&["get", "service", "breakglass-webhook"]);
    assert_eq!(service["spec"]["type"], "ClusterIP");
    assert!(service["spec"]["clusterIP"].as_str().unwrap().starts_with("127."), "{service:#}");
    let refused = cluster.kubectl("bob").run(&["-n", "prod", "create", "configmap", "settings"]);
    check_refused(&refused, "configmaps \"settings\" (create) by bob@example.com", "-n prod");
}

/// A rollout brings new pods before the old ones go, and the old ones end by themselves after SIGTERM. Writes go on.
#[test]
fn a_rollout_replaces_each_pod_and_no_write_fails() {
    let (cluster, _turn) = cluster();
    let before = names(&cluster.nodes().running());
    cluster.open("alice", "INC-600", "prod");
    let load = Load::start(&cluster.kubectl("alice"), "prod", 5, Until::Stopped).unwrap();
    cluster.set_scene(&["-n", "breakglass-system", "rollout", "restart", "deployment/breakglass-webhook"], "");
    cluster.wait_rolled_out().unwrap();
    wait_until("the old pods to be gone", LIMIT, || {
        let now = names(&cluster.nodes().running());
        if now.len() == 2 && now.is_disjoint(&before) { Ok(()) } else { Err(format!("{before:?} became {now:?}")) }
    })
    .unwrap();
    let tally = load.stop().unwrap();
    println!("{tally}");
    assert!(tally.landed > 0 && tally.failed == 0, "{tally}");
    for pod in before {
        let log = std::fs::read_to_string(cluster.directory().join(format!("logs/{pod}.log"))).unwrap();
        assert!(log.contains("stopping in "), "{pod} was not asked: {log}");
    }
}

/// a drain takes one replica at a time: with one left that is ready, the budget refuses to evict it.
#[test]
fn a_drain_moves_a_replica_and_keeps_the_budget() {
    let (cluster, _turn) = cluster();
    let admin = cluster.kubectl("admin");
    let drain = |node: &str, time: &str| {
        let args = ["drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout", time];
        // Without a token, which breakglass asks everybody for who takes its own pods away.
        admin.run(&[&args[..], &OVERRIDE].concat())
    };
    let output = drain("node-1", "100s");
    assert_eq!(output.status, 0, "{output}");
    cluster.wait_rolled_out().unwrap();
    let running = cluster.nodes().running();
    assert!(running.len() == 2 && running.iter().all(|running| running.node == "node-2"), "{running:?}");

    // With both nodes cordoned the second eviction would leave nobody.
    let output = drain("node-2", "20s");
    assert_ne!(output.status, 0, "{output}");
    assert!(output.stderr.contains("disruption budget"), "{output}");
    assert_eq!(cluster.nodes().running().len(), 1);
    let waiting = wait_until("the pod without a place", LIMIT, || {
        let pods = pods(&cluster);
        let waiting = pods.iter().find(|pod| pod["status"]["conditions"][0]["reason"] == "Unschedulable");
        waiting.cloned().ok_or_else(|| format!("{pods:?}"))
    })
    .unwrap();
    assert_eq!(waiting["status"]["phase"], "Pending");
    cluster.set_scene(&["uncordon", "node-1", "node-2"], "");
    cluster.wait_rolled_out().unwrap();
}

/// A killed process is started again in its pod, and counted.
#[test]
fn a_killed_process_is_started_again() {
    let (cluster, _turn) = cluster();
    let victim = cluster.nodes().running()[0].clone();
    cluster.nodes().kill(&victim.pod).unwrap();
    let again = wait_until("another process", LIMIT, || {
        let running = cluster.nodes().process(&victim.pod).map_err(|error| error.to_string())?;
        if running.id == victim.id { Err("the killed one".to_owned()) } else { Ok(running) }
    })
    .unwrap();
    assert_eq!((again.node, again.address), (victim.node, victim.address));
    cluster.wait_rolled_out().unwrap();
    let pod = system(&cluster).json(&["get", "pod", &victim.pod]);
    let status = &pod["status"]["containerStatuses"][0];
    assert!(status["restartCount"].as_u64().unwrap() >= 1, "{status:#}");
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 137, "{status:#}");
}

/// A process that hangs is not ready, gets no new connections, and is ready again when it goes on.
#[test]
fn a_process_that_hangs_is_not_ready() {
    let (cluster, _turn) = cluster();
    let victim = cluster.nodes().running()[0].clone();
    let ready = |wanted: bool| {
        wait_until("the readiness to follow", LIMIT, || {
            let pod = system(&cluster).json(&["get", "pod", &victim.pod]);
            let ready = &pod["status"]["containerStatuses"][0]["ready"];
            if *ready == wanted { Ok(()) } else { Err(pod["status"].to_string()) }
        })
        .unwrap();
    };
    ready(true);
    cluster.nodes().signal(&victim.pod, "STOP").unwrap();
    ready(false);
    cluster.nodes().signal(&victim.pod, "CONT").unwrap();
    ready(true);
}

/// An image that no node has is waited for, and the replicas that are there go on.
#[test]
fn an_unknown_image_waits_and_the_old_replicas_stay() {
    let (cluster, _turn) = cluster();
    let before = names(&cluster.nodes().running());
    let set = |image: &str| {
        let image = format!("webhook={image}");
        cluster.set_scene(&["-n", "breakglass-system", "set", "image", "deployment/breakglass-webhook", &image], "");
    };
    set("breakglass-webhook:none");
    wait_until("the reason", LIMIT, || {
        let pods = pods(&cluster);
        let reason = |pod: &Value| pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].clone();
        let found = pods.iter().any(|pod| reason(pod) == "ErrImageNeverPull");
        if found { Ok(()) } else { Err(json!(pods).to_string()) }
    })
    .unwrap();
    assert_eq!(names(&cluster.nodes().running()), before);
    set(IMAGE);
    cluster.wait_rolled_out().unwrap();
}

/// A node that loses its power says so to nobody; its replica's connections hang, and prod can be written to all the same.
#[test]
fn a_node_without_power_is_gone_and_comes_back() {
    let (cluster, _turn) = cluster();
    cluster.open("alice", "INC-601", "prod");
    cluster.nodes().stop_node("node-1").unwrap();
    let running = cluster.nodes().running();
    assert!(!running.is_empty() && running.iter().all(|running| running.node == "node-2"), "{running:?}");
    cluster.nodes().start_node("node-1");
    wait_until("both replicas to run", Duration::from_secs(90), || {
        let running = cluster.nodes().running();
        if running.len() == 2 { Ok(()) } else { Err(format!("{running:?}")) }
    })
    .unwrap();
    cluster.wait_rolled_out().unwrap();
    cluster.kubectl("alice").ok(&["-n", "prod", "create", "configmap", "after-the-power-cut"]);
}

/// The writes of a load are as many as were due, and none is lost sight of.
#[test]
fn a_load_sends_what_is_due() {
    let (cluster, _turn) = cluster();
    let alice = cluster.kubectl("alice");
    let tally = Load::start(&alice, "dev", 100, Until::Writes(200)).unwrap().wait().unwrap();
    assert_eq!((tally.landed, tally.failed, tally.dropped), (200, 0, 0), "{tally}");
    assert_eq!(tally.times.len(), 200);

    // Nobody let carol write: each failure is told, with what was said.
    let refused = Load::start(&cluster.kubectl("carol"), "dev", 100, Until::Writes(30)).unwrap().wait().unwrap();
    assert_eq!((refused.landed, refused.failed, refused.failures.len()), (0, 30, 20), "{refused}");
    assert!(refused.failures[0].why.starts_with("403: "), "{refused}");
}
