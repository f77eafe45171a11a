//! The webhook is down, killed in the middle, or spoken to by somebody else than the API server: prod stays shut, robots and
//! everything else go on, and it comes back without help.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tests::record::{change_of, config_map, stamp};
use tests::{Cluster, Output, Together, probe, wait_until};

use crate::{LIMIT, check_refused};

/// R-02, K-14: while the webhook is away prod is shut to people and open to engines and controllers, an admin has a way in,
/// and it comes back by itself; also when it dies under writes.
#[test]
fn while_the_webhook_is_away_prod_is_shut_and_everything_else_goes_on() {
    let cluster = Cluster::own("failure");
    cluster.namespace("prod-away");
    let token = cluster.open("alice", "INC-160", "prod-away");
    let alice = cluster.kubectl("alice");
    alice.ok(&["-n", "prod-away", "create", "configmap", "settings"]);

    cluster.webhook().kill();
    people(&cluster, &token);
    robots(&cluster);
    cluster.webhook().start().unwrap();

    killed_in_the_middle(&cluster);
}

/// The API server could not ask, and so said no.
fn is_shut(output: &Output) -> bool {
    output.status == 1 && output.stderr.contains("failed calling webhook \"gate.breakglass.dev\"")
}

fn people(cluster: &Cluster, token: &str) {
    let alice = cluster.kubectl("alice");
    for args in [
        &["create", "configmap", "another"][..],
        &["annotate", "configmap", "settings", "note=mine"],
        &["delete", "configmap", "settings"],
    ] {
        let refused = alice.clone().namespace("prod-away").run(args);
        assert!(is_shut(&refused), "{args:?}: {refused}");
    }
    let created = alice.run(&["-n", "dev", "create", "configmap", "settings"]);
    assert_eq!((created.status, created.stderr.as_str()), (0, ""), "{created}");
    assert!(stamp(&alice.json(&["-n", "dev", "get", "configmap", "settings"])).is_empty());

    // No token is opened or closed unseen, and the plugin says what is wrong.
    for (args, why) in [
        (&["open", "INC-161", "-n", "prod-away", "--reason", "r"][..], "nobody filled in the token's user and times: "),
        (&["close", token], "the breakglass webhook did not answer while closing a token: "),
    ] {
        let refused = cluster.plugin("alice").run(args);
        assert_eq!(refused.status, 1, "{refused}");
        assert!(refused.stderr.starts_with(&format!("error: {why}")), "{refused}");
        assert!(refused.stderr.contains("\nhint: kubectl -n breakglass-system get pods\n"), "{refused}");
    }

    // The last resort, which needs a cluster admin.
    let admin = cluster.kubectl("admin");
    let refused = admin.run(&["-n", "prod-away", "create", "configmap", "by-admin"]);
    assert!(is_shut(&refused), "{refused}");
    cluster.set_scene(&["-n", "prod-away", "create", "configmap", "by-admin"], "");
}

fn robots(cluster: &Cluster) {
    // Flux applies what is pushed.
    let fleet = &cluster.flux().fleet;
    let text = std::fs::read_to_string(fleet.clone.join("prod/api.yaml")).unwrap();
    let text = text.replace("LOG_LEVEL: info", "LOG_LEVEL: debug");
    let commit = fleet.push("api: log more", &[("prod/api.yaml", &text)]).unwrap();
    cluster.flux().wait_applied(&commit).unwrap();
    let settings = cluster.kubectl("alice").json(&["-n", "prod", "get", "configmap", "api-settings"]);
    assert_eq!(settings["data"]["LOG_LEVEL"], "debug");

    // Controllers make what is asked for, and clear away what is left, in prod as well.
    let flux = cluster.kubectl("flux").namespace("prod-away");
    let replica_sets = || flux.ok(&["get", "replicasets", "-l", "app=web", "-o", "name"]);
    flux.ok(&["create", "deployment", "web", "--image=registry.example.com/web:1"]);
    wait_until("a ReplicaSet", LIMIT, || if replica_sets().is_empty() { Err("none".to_owned()) } else { Ok(()) })
        .unwrap();
    flux.ok(&["delete", "deployment", "web"]);
    wait_until("the ReplicaSet to go", LIMIT, || match replica_sets() {
        left if left.is_empty() => Ok(()),
        left => Err(left),
    })
    .unwrap();
}

/// Two people write without a break: alice under a token, bob without. The webhook dies under them, and comes back.
fn killed_in_the_middle(cluster: &Cluster) {
    cluster.namespace("prod-killed");
    cluster.open("alice", "INC-162", "prod-killed");
    let alice = cluster.kubectl("alice").namespace("prod-killed");
    let bob = cluster.kubectl("bob").namespace("prod-killed");
    alice.ok_with_input(&["create", "-f", "-"], &config_map("settings", "0"));
    let over = AtomicBool::new(false);
    let (let_in, refused) = std::thread::scope(|scope| {
        let alice = scope.spawn(|| {
            let mut let_in = 0;
            while !over.load(Ordering::Relaxed) {
                let patch = json!({"data": {"key": (let_in + 1).to_string()}}).to_string();
                let ran = alice.run(&["patch", "configmap", "settings", "-p", &patch]);
                assert!(ran.status == 0 || is_shut(&ran), "{ran}");
                let_in += usize::from(ran.status == 0);
            }
            let_in
        });
        let bob = scope.spawn(|| {
            let mut refused = Vec::new();
            while !over.load(Ordering::Relaxed) {
                refused.push(bob.run(&["create", "configmap", "by-bob"]));
            }
            refused
        });
        // It dies while both are at it, and stays away until somebody has seen that.
        let written = || cluster.changes("INC-162").len();
        let more_than = |least: usize| {
            wait_until("writes to be let in", LIMIT, || match written() {
                now if now > least => Ok(now),
                now => Err(format!("{now} of more than {least}")),
            })
        };
        let begun = more_than(3);
        cluster.webhook().kill();
        let admin = cluster.kubectl("admin").run(&["-n", "prod-killed", "create", "configmap", "by-admin"]);
        let started = cluster.webhook().start();
        let again = more_than(written() + 3);
        // Before anything may panic: the two threads would not end.
        over.store(true, Ordering::Relaxed);
        begun.unwrap();
        started.unwrap();
        again.unwrap();
        assert!(is_shut(&admin), "{admin}");
        (alice.join().unwrap(), bob.join().unwrap())
    });

    for ran in refused.iter().filter(|ran| !is_shut(ran)) {
        check_refused(ran, "configmaps \"by-bob\" (create) by bob@example.com", "-n prod-killed");
    }
    assert_eq!(alice.ok(&["get", "configmap", "by-bob", "--ignore-not-found"]), "");
    // What was let in is on record; a write may have been on record and then not have landed, never the other way.
    let changes = cluster.changes("INC-162");
    assert!(changes.len() > let_in, "{let_in} patches and a create were let in, and {} are on record", changes.len());
    let last = change_of(&alice.json(&["get", "configmap", "settings"]));
    assert!(changes.iter().any(|change| change["metadata"]["name"] == last.as_str()));
}

/// H-01, H-02, H-03: what is no review is an error of who sent it, and a deep one is decided like any other.
#[test]
fn what_is_no_review_is_never_let_in_and_ends_nothing() {
    // The process itself is asked, past the API server: of a given cluster we do not know where it listens.
    let port = deep().webhook().port();
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u-1", "kind": {"group": "", "version": "v1", "kind": "ConfigMap"},
        "resource": {"group": "", "version": "v1", "resource": "configmaps"}, "name": "a", "namespace": "prod",
        "operation": "CREATE", "userInfo": {"username": "carol@example.com", "groups": []},
        "object": {"metadata": {"name": "a"}}, "oldObject": null, "dryRun": false, "options": null}});
    let changed = |pointer: &str, value: Value| {
        let mut review = review.clone();
        *review.pointer_mut(pointer).unwrap() = value;
        review.to_string().into_bytes()
    };
    let whole = review.to_string().into_bytes();
    let mut nested = whole.clone();
    nested.truncate(nested.len() - 2);
    let junk: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("no JSON", b"hello".to_vec()),
        ("no object", b"[]".to_vec()),
        ("null", b"null".to_vec()),
        ("cut short", nested),
        ("half", whole[..whole.len() / 2].to_vec()),
        ("twice", [&whole[..], &whole[..]].concat()),
        ("an older version", changed("/apiVersion", json!("admission.k8s.io/v1beta1"))),
        ("another kind", changed("/kind", json!("Pod"))),
        ("no request", changed("/request", Value::Null)),
        ("no uid", changed("/request/uid", json!(""))),
        ("a uid that is none", changed("/request/uid", json!(7))),
        ("a uid without end", changed("/request/uid", json!("u".repeat(10_000)))),
        ("an unknown operation", changed("/request/operation", json!("GET"))),
        ("no user", changed("/request/userInfo", Value::Null)),
        ("3 MiB of spaces", vec![b' '; 3 << 20]),
        ("3 MiB of brackets", vec![b'['; 3 << 20]),
        ("3 MiB of one string", [&b"\""[..], &vec![b'x'; 3 << 20], b"\""].concat()),
        ("3 MiB that is no text", vec![0xff; 3 << 20]),
    ];
    for (what, body) in &junk {
        for path in ["/gate", "/stamp"] {
            let (status, answer) = probe::post(port, path, body).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(status, 400, "{path} {what}: {answer}");
            assert!(!answer.contains("\"allowed\""), "{path} {what}: {answer}");
        }
    }

    // A review that is one is decided, also where its object is as deep as the API server lets it be.
    let deep = format!("{}1{}", "{\"a\":".repeat(1_000), "}".repeat(1_000));
    let text = review.to_string().replace(r#""object":{"#, &format!(r#""object":{{"data":{deep},"#));
    for body in [whole, text.into_bytes()] {
        let (status, answer) = probe::post(port, "/gate?timeout=10s", &body).unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let response = &answer["response"];
        assert_eq!((status, &response["uid"], &response["allowed"]), (200, &json!("u-1"), &json!(false)));
        let message = response["status"]["message"].as_str().unwrap();
        assert!(
            message.starts_with("prod is run by GitOps: configmaps \"a\" (create) by carol@example.com"),
            "{message}"
        );
        let (status, answer) = probe::post(port, "/stamp", &body).unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((status, &answer["response"]["patch"]), (200, &Value::Null), "the mutating call never refuses");
    }
    probe::https(port, "/livez").unwrap();
    probe::https(port, "/readyz").unwrap();
}

/// A widget with a number below `depth` levels of nesting.
fn widget(name: &str, size: u32, depth: usize) -> String {
    let deep = format!("{}{size}{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    format!(
        r#"{{"apiVersion": "e2e.example.com/v1", "kind": "Widget", "metadata": {{"name": "{name}"}},
            "spec": {{"deep": {deep}}}}}"#
    )
}

/// A cluster for these: whoever reads all objects of a cluster may stumble over theirs.
fn deep() -> Arc<Cluster> {
    static DEEP: Together = Together::new(|| Cluster::own("deep"));
    DEEP.get()
}

/// H-03: an object of 1,000 levels is stamped, refused, let in, recorded and deleted like a flat one.
#[test]
fn an_object_a_thousand_levels_deep_is_decided_like_a_shallow_one() {
    let cluster = deep();
    for namespace in ["prod-deep", "dev-deep"] {
        cluster.namespace(namespace);
        cluster.widgets(namespace).unwrap();
    }
    let widget = |size| widget("deep", size, 1_000);
    // Not as JSON: what reads that here stops at 128 levels.
    let annotation = |namespace: &str, key: &str| {
        let path = format!("jsonpath={{.metadata.annotations.breakglass\\.dev/{key}}}");
        cluster.kubectl("alice").namespace(namespace).ok(&["get", "widget", "deep", "-o", &path])
    };
    let replace = ["replace", "-f", "-"];

    let dev = cluster.kubectl("alice").namespace("dev-deep");
    dev.ok_with_input(&["create", "-f", "-"], &widget(1));
    dev.ok_with_input(&replace, &widget(2));
    assert_eq!(annotation("dev-deep", "operation"), "Update");

    let alice = cluster.kubectl("alice").namespace("prod-deep");
    let create = || alice.run_with_input(&["create", "-f", "-"], &widget(1));
    check_refused(&create(), "widgets.e2e.example.com \"deep\" (create) by alice@example.com", "-n prod-deep");
    cluster.open("alice", "INC-163", "prod-deep");
    let created = create();
    assert_eq!(created.status, 0, "{created}");
    alice.ok_with_input(&replace, &widget(2));
    let change = cluster.change(&annotation("prod-deep", "change"));
    assert_eq!((&change["spec"]["operation"], &change["spec"]["truncated"]), (&json!("Update"), &json!(true)));
    alice.ok_with_input(&replace, &widget(2));
    alice.ok(&["delete", "widget", "deep"]);
    assert_eq!(cluster.changes("INC-163").len(), 3, "create, replace and delete; what changes nothing is no change");
}

#[test]
fn an_object_a_thousand_levels_deep_is_listed_and_hides_no_other() {
    let cluster = deep();
    cluster.namespace("dev-listed");
    cluster.widgets("dev-listed").unwrap();
    let alice = cluster.kubectl("alice").namespace("dev-listed");
    for (name, depth) in [("shallow", 1), ("deep", 1_000)] {
        alice.ok_with_input(&["create", "-f", "-"], &widget(name, 1, depth));
    }
    let listed = cluster.plugin("alice").run(&["list", "-n", "dev-listed", "-o", "name"]);
    assert_eq!(listed.status, 0, "{listed}");
    let mut names: Vec<&str> = listed.stdout.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["widget.e2e.example.com/deep", "widget.e2e.example.com/shallow"]);
}

#[test]
fn an_object_almost_too_deep_for_a_record_does_not_make_the_ledger_unreadable() {
    let cluster = deep();
    cluster.namespace("prod-depths");
    cluster.widgets("prod-depths").unwrap();
    let token = cluster.open("alice", "INC-164", "prod-depths");
    let alice = cluster.kubectl("alice").namespace("prod-depths");
    // A reader that stops at 128 levels reads each of these objects, but not each of them inside of something.
    let depths = [100, 116, 120, 122, 124, 126, 128];
    for depth in depths {
        let name = format!("deep-{depth}");
        alice.ok_with_input(&["create", "-f", "-"], &widget(&name, 1, depth));
        alice.ok_with_input(&["replace", "-f", "-"], &widget(&name, 2, depth));
    }
    let count = depths.len() * 2;
    let listed = cluster.plugin("alice").run(&["list", "--incident", "INC-164", "--count"]);
    assert_eq!((listed.status, listed.stdout.trim()), (0, count.to_string().as_str()), "{listed}");
    // The webhook still counts what it let in, and ends the token when its time is up.
    wait_until("the count of writes", LIMIT, || {
        let status = cluster.kubectl("admin").json(&["get", "breakglasstoken", &token])["status"].clone();
        if status["writes"] == count { Ok(()) } else { Err(status.to_string()) }
    })
    .unwrap();
}
