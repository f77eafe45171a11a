//! Tokens that are many, malformed, gone, or known to a replica that has not heard of their end yet: what counts is what is
//! stored now.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};
use tests::client::Client;
use tests::proxy::Proxy;
use tests::raw::Raw;
use tests::review::{dry_run, review};
use tests::{Cluster, Setup, probe, wait_until};

use crate::gate_token::{cluster, document};
use crate::{LIMIT, check_refused};

const TOKENS: &str = "/apis/breakglass.dev/v1alpha1/breakglasstokens";
const DEFINITION: &str = "breakglasstokens.breakglass.dev";

/// Who is asked for nothing, as the API server reads it.
const OVERRIDE: [(&str, &str); 3] = [
    ("impersonate-user", "admin"),
    ("impersonate-group", "system:masters"),
    ("impersonate-group", "breakglass.dev:override"),
];

/// What a webhook answers to a delete by `user`: it carries no stamp, so one call says all.
fn ask(webhook: &mut Raw, user: &str, namespace: &str) -> Value {
    let review = dry_run(review(user, "DELETE", (namespace, "settings")));
    webhook.post("/gate", review.to_string().as_bytes()).unwrap().response()
}

/// The token under which a dry run is let in; what is said instead where none does.
fn let_in_under(answer: &Value) -> Result<String, String> {
    let said = answer["warnings"][0].as_str().unwrap_or_default();
    let token = said.strip_prefix("let in under ").and_then(|rest| rest.split_once(';'));
    token.map(|(token, _)| token.to_owned()).ok_or_else(|| answer.to_string())
}

/// K-08: whatever is asked after the close of a token was answered is refused under it, by every replica: the window is
/// none, also where a replica hears of the close much later.
#[test]
fn a_closed_token_is_closed_on_every_replica_at_once() {
    let cluster = cluster();
    cluster.namespace("prod-replicas");
    let admin = cluster.kubectl("admin");
    let server = admin.ok(&["config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"]);
    let proxy = Proxy::to(server.rsplit_once(':').unwrap().1.parse().unwrap()).unwrap();
    let second = cluster.webhook().second(&admin, Some(&format!("https://127.0.0.1:{}", proxy.port()))).unwrap();
    let replicas = [cluster.webhook().port(), second.port()];
    let alice = Client::new(&cluster.kubectl("alice"), &[]).unwrap();
    for round in 0..8 {
        let name = format!("inc-450-r{round:04}");
        let spec = json!({"namespaces": ["prod-replicas"]});
        assert_eq!(alice.json("POST", TOKENS, &document(&name, &spec)).unwrap().status, 201);
        let (closed, let_in) = (AtomicBool::new(false), [const { AtomicUsize::new(0) }; 2]);
        // Each is asked without a break, before, during and after the close.
        std::thread::scope(|scope| {
            let asking = [0, 1].map(|replica| {
                let (closed, let_in, name) = (&closed, &let_in[replica], &name);
                scope.spawn(move || {
                    let mut webhook = Raw::connect(replicas[replica]).unwrap();
                    loop {
                        let over = closed.load(Ordering::SeqCst);
                        let answer = ask(&mut webhook, "alice@example.com", "prod-replicas");
                        if let_in_under(&answer).as_ref() == Ok(name) {
                            assert!(!over, "{name} lets in after it was closed: {answer}");
                            let_in.fetch_add(1, Ordering::SeqCst);
                        } else if over && !answer.is_null() {
                            return answer;
                        }
                    }
                })
            });
            let both = wait_until("both replicas to let in", LIMIT, || {
                let counts = let_in.each_ref().map(|count| count.load(Ordering::SeqCst));
                if counts.iter().all(|&count| count > 3) { Ok(()) } else { Err(format!("{counts:?}")) }
            });
            if round == 7 {
                // The second hears no more of its watch: what it knows stays as it is.
                proxy.cut();
            }
            let status = json!({"status": {"phase": "Closed"}});
            let answer = alice.json("PATCH", &format!("{TOKENS}/{name}/status"), &status);
            closed.store(true, Ordering::SeqCst);
            both.unwrap();
            assert_eq!(answer.unwrap().status, 200);
            for answer in asking.map(|thread| thread.join().unwrap()) {
                let why = answer["warnings"][0].as_str().unwrap();
                assert!(why.starts_with("without --dry-run this is refused: prod is run by GitOps: "), "{answer}");
            }
        });
    }
    second.stop().unwrap();
}

/// K-09: with a thousand tokens of many people, and a third of them closed, what is let in is what a list of them says, and
/// the watch has missed none of it. (The short form of the row's 100,000.)
#[test]
fn what_is_let_in_is_what_is_stored() {
    const TOKENS_MADE: usize = 1_000;
    let cluster = cluster();
    for namespace in ["prod-many-0", "prod-many-1"] {
        cluster.namespace(namespace);
    }
    let admin = Client::new(&cluster.kubectl("admin"), &OVERRIDE).unwrap();
    let user = |index: usize| format!("alice+{}@example.com", index / 2);
    for index in 0..TOKENS_MADE {
        let spec = json!({"user": user(index), "namespaces": [format!("prod-many-{}", index % 2)]});
        let made = admin.json("POST", TOKENS, &document(&format!("inc-451-t{index:04}"), &spec)).unwrap();
        assert_eq!(made.status, 201, "{made:?}");
    }
    let list = || {
        let selected = format!("{TOKENS}?fieldSelector=spec.incident%3DINC-451");
        let list: Value = serde_json::from_str(&admin.json("GET", &selected, &json!({})).unwrap().body).unwrap();
        list["items"].as_array().unwrap().clone()
    };
    let phase = |token: &Value| token["status"]["phase"].as_str().unwrap_or_default().to_owned();
    // The phase is written from what the watch has told: it has told of all of them.
    wait_until("all of them to be active", LIMIT, || {
        match list().iter().filter(|token| phase(token) != "Active").count() {
            0 => Ok(()),
            left => Err(format!("{left} are not")),
        }
    })
    .unwrap();
    for index in (0..TOKENS_MADE).step_by(3) {
        let status = json!({"status": {"phase": "Closed"}});
        let path = format!("{TOKENS}/inc-451-t{index:04}/status");
        assert_eq!(admin.json("PATCH", &path, &status).unwrap().status, 200);
    }

    let stored = list();
    assert_eq!(stored.len(), TOKENS_MADE);
    let mut webhook = Raw::connect(cluster.webhook().port()).unwrap();
    for token in &stored {
        let spec = &token["spec"];
        let (user, namespace) = (spec["user"].as_str().unwrap(), spec["namespaces"][0].as_str().unwrap());
        let answer = ask(&mut webhook, user, namespace);
        let expected = token["metadata"]["name"].as_str().filter(|_| phase(token) == "Active");
        assert_eq!(let_in_under(&answer).ok().as_deref(), expected, "{user} in {namespace}: {answer}");
        // The stamp rests on what the watch has told alone.
        let create = review(user, "CREATE", (namespace, "settings")).to_string();
        let stamped = webhook.post("/stamp", create.as_bytes()).unwrap().response();
        assert_eq!(stamped["patch"].is_null(), expected.is_none(), "{user} in {namespace}: {stamped}");
    }
}

/// A cluster of a test's own that needs no Flux.
fn own(name: &str) -> Cluster {
    Setup::new(name).webhook().start().unwrap_or_else(|error| panic!("{error:#}"))
}

/// Takes out of the definition of tokens what keeps malformed ones out of etcd.
fn let_anything_be_a_token(cluster: &Cluster) {
    let mut definition = cluster.kubectl("admin").json(&["get", "customresourcedefinition", DEFINITION]);
    let anything = |properties: Value| json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": properties});
    // What can be selected by has to have a type.
    let text = json!({"type": "string"});
    let spec = anything(json!({"user": text, "incident": text, "environment": text}));
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
        anything(json!({"spec": spec, "status": anything(json!({}))}));
    cluster.set_scene(&["replace", "-f", "-"], &definition.to_string());
    let admin = Client::new(&cluster.kubectl("admin"), &OVERRIDE).unwrap();
    let mut nothing = document("inc-452-none0", &json!({}));
    nothing["spec"] = json!({});
    wait_until("the API server to take anything", LIMIT, || {
        match admin.json("POST", &format!("{TOKENS}?dryRun=All"), &nothing).unwrap() {
            answer if answer.status == 201 => Ok(()),
            answer => Err(answer.message()),
        }
    })
    .unwrap();
}

/// K-10: a token that lacks fields, has words that nobody knows, stars, or no end is nobody's permission for anything, and
/// keeps no other token from letting in; also where a token that lives is made into such a one.
#[test]
fn a_malformed_token_is_none_and_harms_no_other() {
    let cluster = own("malformed");
    cluster.namespace("prod-malformed");
    let good = cluster.open("bob", "INC-452", "prod-malformed");
    let_anything_be_a_token(&cluster);
    let bob = cluster.kubectl("bob").namespace("prod-malformed");
    let write = |user: &str| {
        let who = ["--as", user, "--as-group", "system:masters"];
        cluster.kubectl("admin").run(&[&["-n", "prod-malformed", "create", "configmap", "settings"], &who[..]].concat())
    };
    let without = |field: &str| json!({"spec": {field: null}});
    let spec = |field: &str, value: Value| json!({"spec": {field: value}});
    let approvals: Vec<Value> =
        (0..20_000).map(|number| json!({"user": format!("carol+{number}@example.com")})).collect();
    for (index, change) in [
        without("incident"),
        without("reason"),
        without("user"),
        without("environment"),
        without("openedAt"),
        without("expiresAt"),
        json!({"spec": null}),
        spec("user", json!("*")),
        spec("user", json!("")),
        spec("environment", json!("*")),
        spec("environment", json!("")),
        spec("namespaces", json!("*")),
        spec("namespaces", json!("prod-malformed")),
        spec("namespaces", json!(["*"])),
        spec("namespaces", json!([{"name": "prod-malformed"}])),
        spec("namespaces", json!({"prod-malformed": true})),
        spec("namespaces", json!((0..10_000).map(|number| format!("prod-{number}")).collect::<Vec<_>>())),
        spec("expiresAt", json!("never")),
        spec("expiresAt", json!(9_999_999_999_u64)),
        spec("expiresAt", json!("2126-99-99T00:00:00Z")),
        spec("openedAt", json!("yesterday")),
        spec("ttl", json!(3_600)),
        spec("ttl", json!("for ever")),
        json!({"status": {"phase": "Super"}}),
        json!({"status": {"phase": ["Active"]}}),
        json!({"status": {"phase": "Active", "approvals": "all"}}),
        json!({"status": {"phase": "Active", "approvals": approvals}}),
        json!({"status": {"phase": "Active", "closedAt": "never"}}),
        json!({"status": {"phase": "Active", "writes": -1.5}}),
    ]
    .into_iter()
    .enumerate()
    {
        let (name, user) = (format!("inc-453-m{index:04}"), format!("alice+{index}@example.com"));
        let token = document(&name, &json!({"user": user, "namespaces": ["prod-malformed"]}));
        let mut malformed = token.clone();
        json_patch::merge(&mut malformed, &change);
        let said = change.to_string().chars().take(80).collect::<String>();
        if change["status"].is_null() {
            cluster.set_scene(&["create", "-f", "-"], &malformed.to_string());
        } else {
            cluster.set_scene(&["create", "-f", "-"], &token.to_string());
            crate::gate_token::set_status(&cluster, &name, &change["status"]);
        }
        check_refused(&write(&user), &format!("configmaps \"settings\" (create) by {user}"), "-n prod-malformed");
        let answer = ask(&mut Raw::connect(cluster.webhook().port()).unwrap(), "bob@example.com", "prod-malformed");
        assert_eq!(let_in_under(&answer).as_ref(), Ok(&good), "after {said}");
    }

    // One that lives and is known.
    let name = "inc-454-aaaaa";
    cluster.set_scene(&["create", "-f", "-"], &document(name, &json!({"user": "carol@example.com"})).to_string());
    assert_eq!(write("carol@example.com").status, 0);
    for change in [spec("namespaces", json!("*")), spec("namespaces", json!(["*"])), spec("user", json!("*"))] {
        cluster.set_scene(&["patch", "breakglasstoken", name, "--type=merge", "-p", &change.to_string()], "");
        let refused = write("carol@example.com");
        check_refused(&refused, "configmaps \"settings\" (create) by carol@example.com", "-n prod-malformed");
    }
    // Neither does one keep a webhook from starting.
    cluster.webhook().restart().unwrap();
    bob.ok(&["delete", "configmap", "settings"]);
    assert_eq!(cluster.changes("INC-452").len(), 1);
}

/// The definition of tokens as it is installed.
const INSTALLED: &str = include_str!("../../manifests/crds/breakglasstokens.yaml");

fn establish(cluster: &Cluster, definition: &str) {
    cluster.set_scene(&["apply", "--server-side", "-f", "-"], definition);
    let crd = format!("crd/{DEFINITION}");
    cluster.kubectl("admin").ok(&["wait", "--for=condition=Established", "--timeout=60s", &crd]);
}

/// K-11: without the definition of tokens, or with another in its place, prod is closed and dev goes on; when the definition
/// is back, no token of before is, and new ones let in without help.
#[test]
fn tokens_that_are_gone_with_their_definition_do_not_come_back() {
    let cluster = own("definition");
    cluster.namespace("prod-definition");
    let alice = cluster.kubectl("alice").namespace("prod-definition");
    let name = cluster.open("alice", "INC-457", "prod-definition");
    alice.ok(&["create", "configmap", "settings"]);
    let token = cluster.kubectl("admin").json(&["get", "breakglasstoken", &name]);

    cluster.set_scene(&["delete", "customresourcedefinition", DEFINITION], "");
    let is_let_in = || alice.run(&["delete", "configmap", "settings"]).status == 0;
    assert!(!is_let_in(), "let in without a token");
    cluster.kubectl("alice").ok(&["-n", "dev", "create", "configmap", "settings"]);
    probe::https(cluster.webhook().port(), "/livez").unwrap();

    // Of the same name and group, but to be had in a namespace: whoever may write there would make their own.
    let namespaced = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": DEFINITION}, "spec": {"group": "breakglass.dev", "scope": "Namespaced",
        "names": {"plural": "breakglasstokens", "singular": "breakglasstoken", "kind": "BreakglassToken"},
        "versions": [{"name": "v1alpha1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
            {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}});
    establish(&cluster, &namespaced.to_string());
    let mut copy = document(&name, &token["spec"]);
    copy["status"] = token["status"].clone();
    let admin = Client::new(&cluster.kubectl("admin"), &OVERRIDE).unwrap();
    wait_until("an object of that kind", LIMIT, || {
        let path = TOKENS.replace("/breakglasstokens", "/namespaces/dev/breakglasstokens");
        match admin.json("POST", &path, &copy).unwrap() {
            answer if answer.status == 201 => Ok(()),
            answer => Err(answer.message()),
        }
    })
    .unwrap();
    assert!(!is_let_in(), "let in under an object of another kind");

    cluster.set_scene(&["delete", "customresourcedefinition", DEFINITION], "");
    establish(&cluster, INSTALLED);
    let refused = wait_until("a refusal", LIMIT, || match alice.run(&["delete", "configmap", "settings"]) {
        ran if ran.our_refusal().is_some() => Ok(ran),
        ran if ran.status == 0 => panic!("let in under a token that is gone"),
        ran => Err(ran.to_string()),
    })
    .unwrap();
    let subject = "configmaps \"settings\" (delete) by alice@example.com";
    check_refused(&refused, subject, "-n prod-definition");
    assert!(!refused.refusal().contains("inc-457"), "{refused}");

    // The same name, made anew, is another token; and the status says what the watch has heard.
    let spec = json!({"namespaces": ["prod-definition"]});
    cluster.kubectl("alice").ok_with_input(&["create", "-f", "-"], &document(&name, &spec).to_string());
    assert!(is_let_in(), "not let in under a new token");
    wait_until("the status of the new token", LIMIT, || {
        let status = cluster.kubectl("admin").json(&["get", "breakglasstoken", &name])["status"].clone();
        if status["phase"] == "Active" { Ok(()) } else { Err(status.to_string()) }
    })
    .unwrap();
}

/// K-11: who is not let in because tokens cannot be read is told so.
#[test]
fn without_the_definition_of_tokens_a_person_is_told_what_is_missing() {
    let cluster = own("undefined");
    cluster.namespace("prod-undefined");
    cluster.set_scene(&["delete", "customresourcedefinition", DEFINITION], "");
    let ran = cluster.kubectl("alice").namespace("prod-undefined").run(&["create", "configmap", "settings"]);
    assert!(ran.status == 1 && ran.stderr.contains("tokens"), "{ran}");
}
