//! Replicas are killed, held and left without a leader: what is lost is what was under way in them, and they come back by
//! themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::load::{AT_ONCE, Load, Until};
use tests::node::{NODES, Running};
use tests::replicas::HOME;
use tests::{Cluster, Setup, Together, wait_until};

use crate::{LIMIT, check_refused};

/// How long a leader that says nothing is believed to be one, and how often the others look.
const LEASE: Duration = Duration::from_secs(15 + 3);

/// The longest that the API server waits for an answer of ours, and a little for itself.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The one cluster of this file, with alice at work in prod; one test at a time, since each takes its replicas apart.
fn cluster() -> (Arc<Cluster>, MutexGuard<'static, ()>) {
    static TURN: Mutex<()> = Mutex::new(());
    static CLUSTER: Together = Together::new(|| {
        let cluster = Setup::new("replicas").nodes().flux().start().unwrap();
        cluster.install_manifests().unwrap();
        cluster.open("alice", "INC-630", "prod");
        cluster
    });
    let cluster = CLUSTER.get();
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    cluster.wait_rolled_out().unwrap();
    wait_until("all to be well", LIMIT, || cluster.watcher().is_well(2)).unwrap();
    (cluster, turn)
}

/// Kills the processes that `victim` picks as soon as they are there, for as long as `meanwhile` takes.
fn keep_killing<T>(cluster: &Cluster, victim: impl Fn(&Running) -> bool + Sync, meanwhile: impl FnOnce() -> T) -> T {
    struct Stop<'s>(&'s AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Acquire) {
                for running in cluster.nodes().running().iter().filter(|running| victim(running)) {
                    // It may be gone by now.
                    let _ = tests::process::send("KILL", &running.id.to_string());
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let _stop = Stop(&stop);
        meanwhile()
    })
}

/// The pod that leads, and runs.
fn leader_of(cluster: &Cluster) -> String {
    wait_until("a leader", LIMIT, || {
        let leader = cluster.watcher().leader().map_err(|error| format!("{error:#}"))?;
        cluster.nodes().process(&leader).map(|running| running.pod).map_err(|error| error.to_string())
    })
    .unwrap()
}

/// What landed according to the API server's own log, by object: how often.
fn landed(cluster: &Cluster, user: &str) -> BTreeMap<String, usize> {
    let log = std::fs::read_to_string(cluster.directory().join("logs/audit.log")).unwrap();
    let mut landed = BTreeMap::new();
    for event in log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let (object, verb) = (&event["objectRef"], event["verb"].as_str().unwrap_or_default());
        let name = object["name"].as_str().unwrap_or_default();
        let is_write = ["create", "update", "patch", "delete"].contains(&verb) && name.starts_with("load-");
        let done = event["stage"] == "ResponseComplete" && event["responseStatus"]["code"].as_u64() < Some(300);
        if is_write && done && event["user"]["username"] == user && object["namespace"] == "prod" {
            *landed.entry(name.to_owned()).or_default() += 1;
        }
    }
    landed
}

/// at 200 writes a second one of two replicas is killed. What fails is what was under way in it, within a second; every
/// write that landed is on record, and prod stays closed to whoever has no token.
#[test]
fn a_killed_replica_loses_what_was_under_way_in_it() {
    let (cluster, _turn) = cluster();
    let load = Load::start(&cluster.kubectl("alice"), "prod", 200, Until::Stopped).unwrap();
    wait_until(
        "the writes to flow",
        LIMIT,
        || if load.landed() > 100 { Ok(()) } else { Err(load.landed().to_string()) },
    )
    .unwrap();
    let victim = cluster.nodes().running()[0].clone();
    let killed = load.elapsed();
    cluster.nodes().kill(&victim.pod).unwrap();
    let refused = cluster.kubectl("bob").run(&["-n", "prod", "create", "configmap", "meanwhile"]);
    assert_eq!(refused.status, 1, "{refused}");
    wait_until("the killed one to be back", LIMIT, || {
        let back = cluster.nodes().process(&victim.pod).map_err(|error| error.to_string())?;
        if back.id == victim.id { Err("the same".to_owned()) } else { cluster.watcher().is_well(2) }
    })
    .unwrap();
    let before = load.landed();
    wait_until("more writes", LIMIT, || if load.landed() > before + 50 { Ok(()) } else { Err(before.to_string()) })
        .unwrap();
    let tally = load.stop().unwrap();
    println!("killed at {killed:?}, the last failure at {:?}\n{tally}", tally.failed_last);
    // Each write is two calls of ours, and what was under way is not more than the load has at once.
    assert!(tally.failed <= AT_ONCE * 2, "{tally}");
    if tally.failed > 0 {
        assert!(
            tally.failed_last < killed + Duration::from_secs(10),
            "killed at {killed:?}: {:?}\n{tally}",
            tally.failed_last
        );
    }
    check_refused(
        &cluster.kubectl("bob").run(&["-n", "prod", "create", "configmap", "meanwhile"]),
        "configmaps \"meanwhile\" (create) by bob@example.com",
        "-n prod",
    );

    let mut recorded = BTreeMap::<String, usize>::new();
    for change in cluster.changes("INC-630") {
        *recorded.entry(change["spec"]["target"]["name"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    let landed = landed(&cluster, "alice@example.com");
    assert!(landed.values().sum::<usize>() as u64 >= tally.landed, "the audit log is short");
    let unrecorded: Vec<_> = landed.iter().filter(|(name, count)| recorded.get(*name) < Some(*count)).collect();
    assert!(unrecorded.is_empty(), "landed, and not on record as often: {unrecorded:?}");
}

/// both replicas die again and again. The API server refuses alice's write to prod within its timeout, dev is written to,
/// Flux goes on in prod, controllers go on; and when nothing kills them any more, both are back without a hand.
#[test]
fn without_any_replica_prod_waits_and_all_else_goes_on() {
    let (cluster, _turn) = cluster();
    let alice = cluster.kubectl("alice");
    let fleet = &cluster.flux().fleet;
    let object = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: from-git, namespace: prod}\ndata: {key: one}\n";
    let list =
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [api.yaml, from-git.yaml]\n";
    let began = keep_killing(
        &cluster,
        |_| true,
        || {
            let down = wait_until("prod to be shut", LIMIT, || {
                let asked = Instant::now();
                let ran = alice.run(&["-n", "prod", "create", "configmap", "while-down", "--dry-run=server"]);
                let shut = ran.stderr.contains("failed calling webhook \"gate.breakglass.dev\"");
                if shut { Ok(asked.elapsed()) } else { Err(ran.to_string()) }
            });
            assert!(down.unwrap() < TIMEOUT);
            for round in 0..3 {
                let asked = Instant::now();
                let ran = alice.run(&["-n", "prod", "create", "configmap", "while-down"]);
                assert!(ran.status == 1 && ran.stderr.contains("failed calling webhook"), "{ran}");
                assert!(asked.elapsed() < TIMEOUT, "{:?}", asked.elapsed());
                alice.ok(&["-n", "dev", "create", "configmap", &format!("while-down-{round}")]);
            }
            alice.ok(&["-n", "dev", "create", "deployment", "web", "--image=registry.example.com/web:1"]);
            wait_until("the controllers to make its Pod", LIMIT, || {
                let pods = alice.ok(&["-n", "dev", "get", "pods", "-l", "app=web", "-o", "name"]);
                if pods.is_empty() { Err("none".to_owned()) } else { Ok(()) }
            })
            .unwrap();
            let files = [("prod/from-git.yaml", object), ("prod/kustomization.yaml", list)];
            let commit = fleet.push("prod: while breakglass is down", &files).unwrap();
            cluster.flux().wait_applied(&commit).unwrap();
            Instant::now()
        },
    );
    alice.ok(&["-n", "prod", "get", "configmap", "from-git"]);
    wait_until("both to be back", LIMIT, || cluster.watcher().is_well(2)).unwrap();
    cluster.wait_rolled_out().unwrap();
    println!("back after {:?}", began.elapsed());
    alice.ok(&["-n", "prod", "create", "configmap", "while-down"]);
}

/// the leader dies and does not come back: another leads within the time of the Lease, and meanwhile writes are served.
/// A leader that is asked to stop gives the Lease back, and another leads at once.
#[test]
fn another_leads_when_the_leader_is_gone() {
    let (cluster, _turn) = cluster();
    let watcher = cluster.watcher();
    let leader = leader_of(&cluster);
    let (load, took) = keep_killing(
        &cluster,
        |running| running.pod == leader,
        || {
            // Calls that were under way in it are another test's.
            wait_until("the endpoint to be gone", LIMIT, || {
                let path = format!("/apis/discovery.k8s.io/v1/namespaces/{HOME}/endpointslices");
                let slices = watcher.get(&path).map_err(|error| error.to_string())?;
                let mut endpoints = slices["items"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default());
                let serves =
                    |one: &Value| one["targetRef"]["name"] == leader.as_str() && one["conditions"]["ready"] == true;
                if endpoints.any(|one| serves(&one)) { Err(slices.to_string()) } else { Ok(()) }
            })
            .unwrap();
            // Those who go by the EndpointSlice hear of it a little later.
            wait_until("the other to be asked alone", LIMIT, || {
                let ask =
                    || cluster.kubectl("alice").run(&["-n", "prod", "create", "configmap", "lead", "--dry-run=server"]);
                (0..5).try_for_each(|_| {
                    Some(ask()).filter(|ran| ran.status != 0).map_or(Ok(()), |ran| Err(ran.to_string()))
                })
            })
            .unwrap();
            let alice = cluster.kubectl("alice");
            let load = Load::start(&alice, "prod", 50, Until::Stopped).unwrap();
            let began = Instant::now();
            wait_until("another leader", LEASE + Duration::from_secs(10), || match watcher.leader() {
                Ok(now) if now != leader && !now.is_empty() => Ok(()),
                now => Err(format!("{now:?}")),
            })
            .unwrap();
            (load, began.elapsed())
        },
    );
    println!("another leads after {took:?}");
    assert!(took < LEASE + Duration::from_secs(10), "{took:?}");
    let tally = load.stop().unwrap();
    println!("{tally}");
    assert!(tally.landed >= 10 && tally.failed == 0, "{tally}");
    wait_until("all to be well", LIMIT, || watcher.is_well(2)).unwrap();

    let leader = leader_of(&cluster);
    let began = Instant::now();
    cluster.set_scene(&["-n", HOME, "delete", "pod", &leader, "--wait=false"], "");
    wait_until("another leader", Duration::from_secs(10), || match watcher.leader() {
        Ok(now) if now != leader && !now.is_empty() => Ok(()),
        now => Err(format!("{now:?}")),
    })
    .unwrap();
    println!("given back: another leads after {:?}", began.elapsed());
}

/// a leader that is held for longer than the Lease and then goes on believes for a moment to lead: what it writes then is
/// no worse than what the other wrote. Both configurations and the Secret are sound at every look.
#[test]
fn a_leader_that_slept_does_no_damage() {
    let (cluster, _turn) = cluster();
    let watcher = cluster.watcher();
    let leader = leader_of(&cluster);
    cluster.nodes().signal(&leader, "STOP").unwrap();
    wait_until("another leader", LEASE + Duration::from_secs(10), || match watcher.leader() {
        Ok(now) if now != leader && !now.is_empty() => Ok(()),
        now => Err(format!("{now:?}")),
    })
    .unwrap();
    // Something that the sleeper knows nothing of: the next CA is in use, the policy is another one.
    let before = watcher.secret().unwrap();
    cluster.rotate("ca");
    wait_until("the new CA in use", LIMIT, || match watcher.secret() {
        Ok(secret) if secret["ca.crt"] != before["ca.crt"] => Ok(()),
        secret => Err(format!("{:?}", secret.map(|secret| secret.into_keys().collect::<Vec<_>>()))),
    })
    .unwrap();
    let awake = cluster.nodes().running().into_iter().find(|running| running.pod != leader).unwrap();
    let now = watcher.secret().unwrap();
    wait_until("the new leaf", LIMIT, || watcher.leaf(&awake, &now["ca.crt"])).unwrap();

    cluster.nodes().signal(&leader, "CONT").unwrap();
    let (began, mut looks) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(8) {
        for trusted in watcher.trusted().unwrap() {
            watcher.leaf(&awake, &trusted).unwrap_or_else(|error| panic!("after {:?}: {error}", began.elapsed()));
            assert!(trusted.contains(now["ca.crt"].trim()), "after {:?}", began.elapsed());
        }
        let secret = watcher.secret().unwrap();
        assert_eq!((&secret["ca.crt"], &secret["tls.crt"]), (&now["ca.crt"], &now["tls.crt"]));
        looks += 1;
    }
    println!("{looks} looks");
    let leaders = || {
        let running = cluster.nodes().running();
        running.iter().filter_map(|replica| watcher.metric_of(replica, "breakglass_leader")).sum::<f64>()
    };
    assert!((leaders() - 1.0).abs() < 0.1, "{} lead", leaders());
    wait_until("all to be well", LIMIT * 2, || watcher.is_well(2)).unwrap();
}

/// both nodes lose their power, and the pods of the webhook are deleted meanwhile: new ones can be made while nobody
/// answers for them, and with the nodes all of it comes back without a hand.
#[test]
fn a_cluster_without_nodes_comes_back_with_them() {
    let (cluster, _turn) = cluster();
    let (home, alice) = (cluster.home(), cluster.kubectl("alice"));
    let names = || -> BTreeSet<String> {
        home.ok(&["get", "pods", "-l", "app.kubernetes.io/name=breakglass", "-o", "name"])
            .lines()
            .map(str::to_owned)
            .collect()
    };
    let lost = names();
    NODES.iter().for_each(|node| cluster.nodes().stop_node(node).unwrap());
    assert_eq!(cluster.nodes().running(), []);
    home.ok(&["delete", "pods", "--all", "--force", "--grace-period=0"]);
    wait_until("two new pods", LIMIT, || {
        let now = names();
        if now.len() == 2 && now.is_disjoint(&lost) { Ok(()) } else { Err(format!("{now:?}, after {lost:?}")) }
    })
    .unwrap();
    let shut = alice.run(&["-n", "prod", "create", "configmap", "cold"]);
    assert!(shut.status == 1 && shut.stderr.contains("failed calling webhook"), "{shut}");

    NODES.iter().for_each(|node| cluster.nodes().start_node(node));
    let began = Instant::now();
    cluster.wait_rolled_out().unwrap();
    wait_until("all to be well", LIMIT, || cluster.watcher().is_well(2)).unwrap();
    println!("well again after {:?}", began.elapsed());
    wait_until("prod to be open to alice", LIMIT, || {
        let ran = alice.run(&["-n", "prod", "create", "configmap", "cold"]);
        if ran.status == 0 { Ok(()) } else { Err(ran.to_string()) }
    })
    .unwrap();
}
