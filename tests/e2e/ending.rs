//! The webhook is told to end, hangs, is gone where nobody is kept out, or is not there yet: what was begun is answered, and
//! nothing is left behind.

use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use tests::client::Client;
use tests::raw::{Raw, request};
use tests::record::config_map;
use tests::review::{dry_run, review};
use tests::webhook::Webhook;
use tests::{Cluster, Setup, Together, probe, wait_until};

use crate::LIMIT;

/// How long a pod is given to end: `terminationGracePeriodSeconds` in manifests/webhook/deployment.yaml.
const GRACE: Duration = Duration::from_secs(40);

/// A cluster whose webhook one test at a time ends; each begins by ending the one that runs.
fn cluster() -> (Arc<Cluster>, MutexGuard<'static, ()>) {
    static TURN: Mutex<()> = Mutex::new(());
    static CLUSTER: Together = Together::new(|| {
        let cluster = Setup::new("ending").webhook().start().unwrap_or_else(|error| panic!("{error:#}"));
        for namespace in ["prod-ending", "dev-ending"] {
            cluster.namespace(namespace);
        }
        cluster
    });
    let cluster = CLUSTER.get();
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    cluster.webhook().kill();
    (cluster, turn)
}

/// A review that is refused, with a uid of its own.
fn refused(uid: &str) -> Vec<u8> {
    let mut review = review("carol@example.com", "DELETE", ("prod-ending", "settings"));
    review["request"]["uid"] = json!(uid);
    review.to_string().into_bytes()
}

/// A connection that is about to ask, and what it asks.
fn slow(port: u16, uid: &str) -> (Raw, Vec<u8>, String) {
    let mut raw = Raw::connect(port).unwrap();
    raw.shake().unwrap();
    (raw, request("/gate", &refused(uid)), uid.to_owned())
}

fn begin(calls: &mut [(Raw, Vec<u8>, String)]) {
    for (raw, whole, _) in calls {
        raw.send(&whole[..whole.len() / 2]).unwrap();
    }
}

fn finish(calls: &mut [(Raw, Vec<u8>, String)]) {
    for (raw, whole, _) in &mut *calls {
        raw.send(&whole[whole.len() / 2..]).unwrap();
    }
    for (raw, _, uid) in calls {
        let answer = raw.answer().unwrap();
        let response = answer.response();
        assert_eq!(
            (answer.status, &response["uid"], &response["allowed"]),
            (200, &json!(uid), &json!(false)),
            "{answer:?}"
        );
    }
}

/// told to end while fifty calls are under way, and told again, it answers all of them, and those that come over
/// connections that are kept, which it tells to open others; what has begun when it stops listening is answered, too; and it is
/// gone in time, by its own will.
#[test]
fn what_is_under_way_when_it_is_told_to_end_is_answered() {
    let (cluster, _turn) = cluster();
    let lameduck = Duration::from_secs(6);
    let webhook = cluster.webhook().copy().with_flags(&["--lameduck=6"]);
    webhook.start().unwrap();
    let port = webhook.port();
    let mut kept: Vec<Raw> = (0..10).map(|_| Raw::connect(port).unwrap()).collect();
    for kept in &mut kept {
        assert_eq!(kept.post("/gate", &refused("kept")).unwrap().status, 200);
    }
    let mut fifty: Vec<_> = (0..50).map(|index| slow(port, &format!("slow-{index}"))).collect();
    let mut last: Vec<_> = (0..10).map(|index| slow(port, &format!("last-{index}"))).collect();

    begin(&mut fifty);
    wait_until("fifty reviews under way", LIMIT, || match webhook.metric("breakglass_reviews_in_flight")? {
        number if number >= 50.0 => Ok(()),
        number => Err(number.to_string()),
    })
    .unwrap();
    webhook.signal("TERM").unwrap();
    let told = Instant::now();
    finish(&mut fifty);
    wait_until("it to say that it is not ready", LIMIT, || {
        let ready = probe::page(webhook.metrics_port(), "/readyz")?;
        if ready == "stopping\n" { Ok(()) } else { Err(ready) }
    })
    .unwrap();
    webhook.signal("TERM").unwrap();
    for kept in &mut kept {
        let answer = kept.post("/gate", &refused("late")).unwrap();
        assert_eq!((answer.status, &answer.response()["uid"]), (200, &json!("late")));
        assert!(answer.head.to_lowercase().contains("\r\nconnection: close\r\n"), "{}", answer.head);
    }
    wait_until("the last moment", LIMIT, || {
        let left = lameduck.saturating_sub(told.elapsed());
        if left < Duration::from_secs(1) { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .unwrap();
    begin(&mut last);
    wait_until("it to listen no more", LIMIT, || match Raw::connect(port) {
        Ok(_) => Err("it does".to_owned()),
        Err(_) => Ok(()),
    })
    .unwrap();
    finish(&mut last);
    let status = webhook.ended(GRACE).unwrap();
    assert!(status.success(), "{status}");
    assert!(told.elapsed() < GRACE);
}

/// Whether a process does something of its own at SIGTERM: bit 14 of the mask that the kernel shows.
fn listens_for_signals(webhook: &Webhook) -> Result<(), String> {
    let id = webhook.id().map_err(|error| error.to_string())?;
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).map_err(|error| error.to_string())?;
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or_default().trim().to_owned();
    let mask = u64::from_str_radix(&caught, 16).map_err(|error| format!("{caught}: {error}"))?;
    if mask & 1 << 14 == 0 { Err(caught) } else { Ok(()) }
}

/// told to end while it still waits for its API server, it ends at once, and well.
#[test]
fn what_is_not_ready_yet_ends_at_once_when_it_is_told() {
    let (cluster, _turn) = cluster();
    // Takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", silent.local_addr().unwrap());
    let webhook = cluster.webhook().copy().through(&url).unwrap();
    for _ in 0..3 {
        webhook.launch().unwrap();
        wait_until("it to listen for signals", LIMIT, || listens_for_signals(&webhook)).unwrap();
        webhook.signal("TERM").unwrap();
        let status = webhook.ended(LIMIT).unwrap();
        assert!(status.success(), "{status}");
    }
}

/// a webhook that hangs keeps prod shut, and nobody waits longer than the API server does; what it gave up leaves nothing
/// behind, and when it goes on, so does prod.
#[test]
fn a_webhook_that_hangs_keeps_prod_shut_and_leaves_nothing_behind() {
    let (cluster, _turn) = cluster();
    let webhook = cluster.webhook().copy();
    webhook.start().unwrap();
    cluster.open("alice", "INC-614", "prod-ending");
    let alice = cluster.kubectl("alice").namespace("prod-ending");
    alice.ok(&["create", "configmap", "before"]);
    let before = webhook.metric("breakglass_connections").unwrap();

    webhook.signal("STOP").unwrap();
    let took = std::thread::scope(|scope| {
        let writes = (0..8).map(|index| {
            let alice = alice.clone();
            scope.spawn(move || {
                let begun = Instant::now();
                let ran = alice.run(&["create", "configmap", &format!("hung-{index}")]);
                (ran, begun.elapsed())
            })
        });
        let writes: Vec<_> = writes.collect();
        writes.into_iter().map(|write| write.join().unwrap()).collect::<Vec<_>>()
    });
    webhook.signal("CONT").unwrap();
    for (ran, took) in took {
        assert!(ran.status == 1 && ran.stderr.contains("failed calling webhook \"gate.breakglass.dev\""), "{ran}");
        assert!(ran.stderr.contains("deadline") || ran.stderr.contains("imeout"), "{ran}");
        assert!(took < LIMIT, "{took:?}");
    }
    wait_until("nothing to be under way", LIMIT, || {
        let under_way = webhook.metric("breakglass_reviews_in_flight")?;
        let connections = webhook.metric("breakglass_connections")?;
        let well = under_way == 0.0 && connections <= before + 4.0;
        if well { Ok(()) } else { Err(format!("{under_way} reviews, {connections} connections, {before} before")) }
    })
    .unwrap();
    alice.ok(&["create", "configmap", "after"]);
    let maps = alice.ok(&["get", "configmaps", "-o", "name"]);
    assert!(!maps.contains("hung-"), "{maps}");
    the_time_that_the_api_server_has_left_is_all_there_is(webhook.port());
}

fn the_time_that_the_api_server_has_left_is_all_there_is(port: u16) {
    let whole = request("/gate?timeout=1s", &refused("never-whole"));
    let mut webhook = Raw::connect(port).unwrap();
    webhook.shake().unwrap();
    webhook.send(&whole[..whole.len() - 1]).unwrap();
    let begun = Instant::now();
    let answer = webhook.answer().unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (503, "there was not enough time to decide\n"));
    assert!(answer.head.to_lowercase().contains("\r\nretry-after: 1\r\n"), "{}", answer.head);
    // Well before the ten seconds that it has where nobody says.
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

/// How often the API server let something pass because it could not ask us.
fn failed_open(cluster: &Cluster) -> u64 {
    let metrics = cluster.kubectl("admin").ok(&["get", "--raw", "/metrics"]);
    let ours = metrics.lines().filter(|line| {
        line.starts_with("apiserver_admission_webhook_fail_open_count{") && line.contains(".breakglass.dev\"")
    });
    ours.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

/// with no webhook, what fails open passes, and the API server says so: in its audit log and in its metrics.
#[test]
fn what_passes_because_nobody_answers_is_seen() {
    let (cluster, _turn) = cluster();
    let before = failed_open(&cluster);
    let alice = cluster.kubectl("alice").namespace("dev-ending");
    alice.ok_with_input(&["create", "-f", "-"], &config_map("open", "one"));
    alice.ok_with_input(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &config_map("open", "two"));
    let event = cluster.audited("alice@example.com", |event| {
        event["verb"] == "create"
            && event["objectRef"]["name"] == "open"
            && event["objectRef"]["namespace"] == "dev-ending"
    });
    assert_eq!(event["responseStatus"]["code"], 201);
    let annotations = event["annotations"].as_object().unwrap();
    let opened = annotations.iter().filter(|(key, _)| key.starts_with("failed-open."));
    let by: Vec<&str> = opened.filter_map(|(_, name)| name.as_str()).collect();
    assert!(!by.is_empty() && by.iter().all(|name| name.ends_with(".breakglass.dev")), "{annotations:?}");
    let after = failed_open(&cluster);
    assert!(after >= before + 2, "{before}, and then {after}");
    alice.ok(&["delete", "configmap", "open"]);
}

/// while it ends, writes through the API server are let in and refused as ever.
#[test]
fn while_it_ends_the_api_server_is_answered() {
    let (cluster, _turn) = cluster();
    let webhook = cluster.webhook().copy().with_flags(&["--lameduck=8"]);
    webhook.start().unwrap();
    cluster.open("alice", "INC-605", "prod-ending");
    let [alice, bob] = ["alice", "bob"].map(|person| Client::new(&cluster.kubectl(person), &[]).unwrap());
    webhook.signal("TERM").unwrap();
    for index in 0..3 {
        let maps = "/api/v1/namespaces/prod-ending/configmaps";
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("ending-{index}")}});
        assert_eq!(alice.json("POST", maps, &map).unwrap().status, 201);
        let refused = bob.json("DELETE", &format!("{maps}/ending-{index}"), &json!({})).unwrap();
        assert!(refused.status == 403 && refused.message().contains("prod is run by GitOps"), "{refused:?}");
    }
    let status = webhook.ended(GRACE).unwrap();
    assert!(status.success(), "{status}");
    let body = dry_run(review("bob@example.com", "DELETE", ("prod-ending", "x"))).to_string();
    assert!(probe::post(webhook.port(), "/gate", body.as_bytes()).is_err(), "it still answers");
}
