//! The way between the webhook and the API server: gone, deaf, leading to a server that lags, or to one that was restored from a
//! backup. What is decided is decided by what is stored now, or not at all.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::client::Client;
use tests::proxy::Proxy;
use tests::webhook::Webhook;
use tests::{Cluster, Kubectl, Setup, Together, probe, wait_until};

use crate::gate_token::document;
use crate::{LIMIT, check_refused};

/// In this time a watch that nobody answers any more is noticed and opened anew: the API server ends one after 30 s, the client
/// gives it up five seconds later, and tries again at once.
const CAUGHT_UP: Duration = Duration::from_secs(45);

const TOKENS: &str = "/apis/breakglass.dev/v1alpha1/breakglasstokens";

/// A cluster in which one test at a time puts something between its webhook and its API server.
fn cluster() -> (Arc<Cluster>, MutexGuard<'static, ()>) {
    static TURN: Mutex<()> = Mutex::new(());
    static CLUSTER: Together = Together::new(|| {
        let cluster = Setup::new("cut-off").webhook().start().unwrap_or_else(|error| panic!("{error:#}"));
        for namespace in ["prod-cut", "dev-cut"] {
            cluster.namespace(namespace);
        }
        cluster
    });
    let cluster = CLUSTER.get();
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    cluster.webhook().kill();
    (cluster, turn)
}

/// The webhook behind a proxy that leads to the API server at this address.
fn behind(cluster: &Cluster, url: &str) -> (Webhook, Proxy) {
    let proxy = Proxy::to(url.rsplit_once(':').unwrap().1.parse().unwrap()).unwrap();
    let webhook = cluster.webhook().copy().through(&format!("https://127.0.0.1:{}", proxy.port())).unwrap();
    webhook.start().unwrap();
    (webhook, proxy)
}

fn server(admin: &Kubectl) -> String {
    admin.ok(&["config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"])
}

fn cut_off_seconds(webhook: &Webhook, watch: &str) -> Result<f64, String> {
    webhook.metric(&format!("breakglass_watch_cut_off_seconds{{watch=\"{watch}\"}}"))
}

/// while the API server cannot be reached, prod is shut to whoever has a token too, dev goes on, and the process stays as it
/// is: alive, ready for what it can do, and saying for how long it has heard nothing. When the way is back, so is everything.
#[test]
fn without_a_way_to_the_api_server_prod_is_shut_and_it_comes_back_by_itself() {
    let (cluster, _turn) = cluster();
    let (webhook, proxy) = behind(&cluster, &server(&cluster.kubectl("admin")));
    cluster.open("alice", "INC-609", "prod-cut");
    let alice = cluster.kubectl("alice").namespace("prod-cut");
    alice.ok(&["create", "configmap", "settings"]);
    for watch in ["policy", "tokens", "namespaces", "changes"] {
        assert_eq!(cut_off_seconds(&webhook, watch), Ok(0.0), "{watch}");
    }

    proxy.close();
    let above = |least: f64| {
        wait_until(&format!("every watch to be cut off for {least} s"), LIMIT, || {
            for watch in ["policy", "tokens", "namespaces", "changes"] {
                let seconds = cut_off_seconds(&webhook, watch)?;
                if seconds <= least {
                    return Err(format!("{watch}: {seconds}"));
                }
            }
            Ok(())
        })
        .unwrap();
    };
    above(0.0);
    for args in [&["create", "configmap", "another"][..], &["delete", "configmap", "settings"]] {
        let ran = alice.run(args);
        assert!(ran.status == 1 && ran.stderr.contains("failed calling webhook \"gate.breakglass.dev\""), "{ran}");
    }
    cluster.kubectl("alice").ok(&["-n", "dev-cut", "create", "configmap", "settings"]);
    above(5.0);
    for port_page in ["/livez", "/readyz"] {
        // Ready, too: it is no fault of this replica's, and another one would know no more.
        probe::https(webhook.port(), port_page).unwrap();
        probe::http(webhook.metrics_port(), port_page).unwrap();
    }

    proxy.open();
    wait_until("prod to be open again", LIMIT, || {
        let ran = alice.run(&["delete", "configmap", "settings", "--ignore-not-found"]);
        if ran.status == 0 { Ok(()) } else { Err(ran.to_string()) }
    })
    .unwrap();
    wait_until("no watch to be cut off", LIMIT, || {
        match ["policy", "tokens", "namespaces", "changes"].map(|watch| cut_off_seconds(&webhook, watch)) {
            seconds if seconds.iter().all(|seconds| *seconds == Ok(0.0)) => Ok(()),
            seconds => Err(format!("{seconds:?}")),
        }
    })
    .unwrap();
}

/// a watch on which nothing comes any more, although it is open, is opened anew with a listing: tokens that were opened and
/// closed meanwhile are known as they are, none twice and none lost.
#[test]
fn a_watch_that_nobody_answers_is_opened_anew() {
    let (cluster, _turn) = cluster();
    let admin = cluster.kubectl("admin");
    let (webhook, proxy) = behind(&cluster, &server(&admin));
    let alice = Client::new(&cluster.kubectl("alice"), &[]).unwrap();
    let open = |name: &str| {
        let token = document(name, &json!({"namespaces": ["prod-cut"]}));
        assert_eq!(alice.json("POST", TOKENS, &token).unwrap().status, 201);
    };
    let close = |name: &str| {
        let status = json!({"status": {"phase": "Closed"}});
        assert_eq!(alice.json("PATCH", &format!("{TOKENS}/{name}/status"), &status).unwrap().status, 200);
    };
    // What the webhook knows is the number of each phase; tokens of other tests may be there, and rest.
    let known = |phase: &str| webhook.metric(&format!("breakglass_tokens{{phase=\"{phase}\"}}")).unwrap();
    (0..6).for_each(|index| open(&format!("inc-610-a{index:04}")));
    let stored = |phase: &str| {
        let list = admin.json(&["get", "breakglasstokens"]);
        let items = list["items"].as_array().unwrap();
        items.iter().filter(|token| token["status"]["phase"] == phase).count() as f64
    };
    let agree = |limit: Duration, least: f64| {
        wait_until("the webhook to know what is stored", limit, || {
            let pairs = ["Active", "Closed"].map(|phase| (phase, stored(phase), known(phase)));
            let same = pairs.iter().all(|(_, stored, known)| stored == known) && pairs[0].1 >= least;
            if same { Ok(pairs) } else { Err(format!("{pairs:?}")) }
        })
        .unwrap()
    };
    let before = agree(LIMIT, 6.0);

    proxy.cut();
    let begun = Instant::now();
    (0..3).for_each(|index| close(&format!("inc-610-a{index:04}")));
    (0..2).for_each(|index| open(&format!("inc-610-b{index:04}")));
    let after = agree(CAUGHT_UP, before[0].1 - 1.0);
    eprintln!("caught up after {:?}", begun.elapsed());
    assert_eq!(after.map(|(_, stored, _)| stored), [before[0].1 - 3.0 + 2.0, before[1].1 + 3.0]);
}

/// with two API servers, of which the webhook asks one whose watches lag, a token that is closed at the other one lets in
/// nothing more, and one that is opened there lets in: what admits is read when it is needed. What is known from watches alone
/// is as old as they are: the stamp, without which a create under a new token is refused until the watch has told of it, the
/// policy, and the labels of namespaces that are known. A watch that says nothing is opened anew after half a minute.
#[test]
fn a_token_closed_at_one_api_server_is_closed_at_the_other() {
    let (cluster, _turn) = cluster();
    let second = cluster.second_api_server().unwrap();
    let (_webhook, proxy) = behind(&cluster, &second.url);
    let maps = "/api/v1/namespaces/prod-cut/configmaps";
    let [alice, bob] = ["alice", "bob"].map(|person| Client::new(&cluster.kubectl(person), &[]).unwrap());
    let change = |person: &Client, method: &str, path: &str, body: &Value| {
        let answer = person.json(method, path, body).unwrap();
        assert!(answer.status < 300, "{answer:?}");
    };
    let create = |person: &Client, name: &str| {
        change(person, "POST", maps, &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}));
    };
    let close = |person: &Client, token: &str| {
        change(person, "PATCH", &format!("{TOKENS}/{token}/status"), &json!({"status": {"phase": "Closed"}}));
    };
    let is_let_in = |person: &Client, method: &str, path: &str, body: &Value| {
        let answer = person.json(method, path, body).unwrap();
        let refused = answer.status == 403 && answer.message().contains("prod is run by GitOps");
        assert!(answer.status < 300 || refused, "{answer:?}");
        !refused
    };
    let token = cluster.open("bob", "INC-612", "prod-cut");
    (0..6).for_each(|index| create(&bob, &format!("lagging-{index}")));

    proxy.cut();
    create(&bob, "known");
    close(&bob, &token);
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "closed"}});
    assert!(!is_let_in(&bob, "POST", maps, &map), "let in under a token that is closed");
    for token in cluster.kubectl("admin").json(&["get", "breakglasstokens"])["items"].as_array().unwrap() {
        // Of other tests.
        if token["spec"]["user"] == "alice@example.com" && token["status"]["phase"] != "Closed" {
            close(&alice, token["metadata"]["name"].as_str().unwrap());
        }
    }
    for round in 0..3 {
        let path = |index: usize| format!("{maps}/lagging-{}", round * 2 + index);
        let token = format!("inc-612-r{round:04}");
        change(&alice, "POST", TOKENS, &document(&token, &json!({"namespaces": ["prod-cut"]})));
        assert!(is_let_in(&alice, "DELETE", &path(0), &json!({})), "not let in under a new token");
        close(&alice, &token);
        assert!(!is_let_in(&alice, "DELETE", &path(1), &json!({})), "let in under a token that is closed");
    }
}

/// an API server that comes back over what etcd had stored earlier is believed: a token that was opened since is gone and
/// lets nothing in, one that was there lets in again if it was open then; and what is changed from there on is heard of, although
/// its number is lower than what was heard before.
#[test]
fn what_was_restored_from_a_backup_is_what_counts() {
    let mut cluster = Setup::new("restored").webhook().start().unwrap_or_else(|error| panic!("{error:#}"));
    cluster.namespace("prod-restored");
    cluster.open("bob", "INC-611", "prod-restored");
    let bob = cluster.kubectl("bob").namespace("prod-restored");
    bob.ok(&["create", "configmap", "before"]);
    let copy = cluster.back_up().unwrap();

    cluster.open("alice", "INC-613", "prod-restored");
    let alice = cluster.kubectl("alice").namespace("prod-restored");
    alice.ok(&["create", "configmap", "since"]);
    // The numbers run ahead.
    let admin = Client::new(&cluster.kubectl("admin"), &[]).unwrap();
    for index in 0..300 {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("ahead-{index}")}});
        assert_eq!(admin.json("POST", "/api/v1/namespaces/dev/configmaps", &map).unwrap().status, 201);
    }
    cluster.restore(&copy).unwrap();

    let ran =
        wait_until("the API server to ask the webhook", LIMIT, || match alice.run(&["create", "configmap", "again"]) {
            ran if ran.our_refusal().is_some() => Ok(ran),
            ran if ran.status == 0 => panic!("let in under a token that is gone"),
            ran => Err(ran.to_string()),
        })
        .unwrap();
    check_refused(&ran, "configmaps \"again\" (create) by alice@example.com", "-n prod-restored");
    assert!(!ran.refusal().contains("inc-613"), "{ran}");
    bob.ok(&["create", "configmap", "again"]);
    let maps = bob.ok(&["get", "configmaps", "-o", "name"]);
    assert!(maps.contains("configmap/before") && !maps.contains("since"), "{maps}");

    // A policy is only heard of through a watch.
    let spec = json!({"environments": [
        {"name": "prod", "namespaces": ["prod", "prod-*", "staging"], "writes": "RequireToken"},
        {"name": "dev", "namespaces": ["*"], "writes": "Stamp"}]});
    let policy = json!({"apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassPolicy",
        "metadata": {"name": "default"}, "spec": spec});
    cluster.kubectl("admin").ok_with_input(&["apply", "-f", "-"], &policy.to_string());
    wait_until("the policy to be in force", LIMIT, || {
        let ran = cluster.kubectl("alice").run(&["-n", "staging", "create", "configmap", "probe", "--dry-run=server"]);
        if ran.warnings().is_empty() { Err(ran.to_string()) } else { Ok(()) }
    })
    .unwrap();
    // It is stored, and its number is below those that were given out before.
    wait_until("the token that is gone to be forgotten", LIMIT, || {
        let active = cluster.webhook().metric("breakglass_tokens{phase=\"Active\"}")?;
        if active == 1.0 { Ok(()) } else { Err(format!("{active} tokens are active")) }
    })
    .unwrap();
}
