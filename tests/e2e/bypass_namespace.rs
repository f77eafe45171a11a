//! Ways around through the Namespace: its deletion, its labels, its name, its subresources, and the moment it is made.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tests::client::Client;
use tests::http::{JSON, MERGE, STRATEGIC, refused};
use tests::record::stamp;
use tests::{Cluster, Http, wait_until};

use crate::LIMIT;
use crate::bypass::check_gated;

const LABEL: &str = "breakglass.dev/environment";

/// Who skips us, as headers.
const SCENE: [(&str, &str); 3] = [
    ("impersonate-user", "admin"),
    ("impersonate-group", "system:masters"),
    ("impersonate-group", "breakglass.dev:override"),
];

/// How often a race is run: each time it may go otherwise.
const RACES: usize = 20;

fn admin() -> Http {
    Http::new(&Cluster::shared().kubectl("admin"), "bypass/1")
}

fn namespace(name: &str, labels: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

#[track_caller]
fn check(answer: kube::Result<Value>, what: &str, verb: &str) {
    check_gated(answer, ("prod", &format!("{what} ({verb}) by admin"), "--environment prod"));
}

/// S-04: a namespace that is prod by its name or by its label is not deleted, and does not lose its label, by any verb, by
/// any patch and through no subresource, without a token; nor does one become prod.
#[test]
fn no_verb_and_no_subresource_takes_a_namespace_out_of_prod_or_into_it() {
    let cluster = Cluster::shared();
    let admin = admin();
    for name in ["prod-kept", "dev-kept", "dev-plain"] {
        cluster.namespace(name);
    }
    cluster.set_scene(&["label", "namespace", "dev-kept", &format!("{LABEL}=prod")], "");
    let read = |name: &str| cluster.kubectl("admin").json(&["get", "namespace", name]);
    let out = json!({"metadata": {"labels": {LABEL: null}}});
    let staging = json!({"metadata": {"labels": {LABEL: "staging"}}});
    let bare = json!({"metadata": {"labels": null}});
    let into = json!({"metadata": {"labels": {LABEL: "prod"}}});
    let renamed = json!({"metadata": {"labels": {"kubernetes.io/metadata.name": "dev"}}});
    for (name, edits) in [
        ("prod-kept", &[&staging, &renamed][..]),
        ("dev-kept", &[&out, &staging, &bare, &renamed]),
        ("dev-plain", &[&into]),
    ] {
        let before = read(name);
        let path = format!("/api/v1/namespaces/{name}");
        for edit in edits {
            for subresource in ["", "/status"] {
                let (path, what) = (format!("{path}{subresource}"), format!("namespaces{subresource} \"{name}\""));
                check(admin.patch(MERGE, &path, edit), &what, "update");
                check(admin.patch(STRATEGIC, &path, edit), &what, "update");
                let mut whole = before.clone();
                json_patch::merge(&mut whole, edit);
                check(admin.patch(JSON, &path, &json!(json_patch::diff(&before, &whole))), &what, "update");
                check(admin.send("PUT", &path, &whole.to_string()), &what, "update");
            }
            // A PUT here takes the labels as they come.
            let mut whole = before.clone();
            json_patch::merge(&mut whole, edit);
            let what = format!("namespaces/finalize \"{name}\"");
            check(admin.send("PUT", &format!("{path}/finalize"), &whole.to_string()), &what, "update");
        }
        assert_eq!(read(name), before);
    }
    for name in ["prod-kept", "dev-kept"] {
        for options in [json!({}), json!({"propagationPolicy": "Orphan"}), json!({"gracePeriodSeconds": 0})] {
            let answer = admin.send("DELETE", &format!("/api/v1/namespaces/{name}"), &options.to_string());
            check(answer, &format!("namespaces \"{name}\""), "delete");
        }
        // Without the finalizer of its content it would be gone at once, and what is in it left to nobody.
        let mut whole = read(name);
        whole["spec"]["finalizers"] = json!([]);
        let answer = admin.send("PUT", &format!("/api/v1/namespaces/{name}/finalize"), &whole.to_string());
        check(answer, &format!("namespaces/finalize \"{name}\""), "update");
        assert_eq!(read(name)["metadata"]["deletionTimestamp"], Value::Null);
    }
}

/// S-04: the label that carries a namespace's name is the API server's to write, and labels that only look like ours guard
/// nothing and free nothing.
#[test]
fn no_other_label_says_what_a_namespace_is() {
    let admin = admin();
    let create =
        |name: &str, labels: Value| admin.send("POST", "/api/v1/namespaces", &namespace(name, &labels).to_string());
    for (name, labels) in [
        ("prod-named-otherwise", json!({"kubernetes.io/metadata.name": "dev"})),
        ("prod-named-home", json!({"kubernetes.io/metadata.name": "breakglass-system"})),
        ("prod-called-dev", json!({LABEL: "dev"})),
        ("dev-called-prod", json!({LABEL: "prod", "kubernetes.io/metadata.name": "dev"})),
    ] {
        check(create(name, labels), &format!("namespaces \"{name}\""), "create");
    }
    let looks = json!({"environment": "prod", "breakglass.dev/Environment": "prod", LABEL: "Prod",
        "kubernetes.io/metadata.name": "prod"});
    let made = create("dev-looks-guarded", looks).unwrap();
    assert_eq!(made["metadata"]["labels"]["kubernetes.io/metadata.name"], "dev-looks-guarded");
    let path = "/api/v1/namespaces/dev-looks-guarded/configmaps";
    let written = admin.send("POST", path, &json!({"metadata": {"name": "settings"}}).to_string()).unwrap();
    assert_eq!(stamp(&written)["state"], "noted");
}

/// L-14: a Namespace whose name the API server makes is stamped like any other.
#[test]
fn a_namespace_whose_name_is_made_for_it_is_stamped() {
    let admin = admin();
    let create = |prefix: &str| {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": prefix}});
        admin.send("POST", "/api/v1/namespaces", &object.to_string())
    };
    let made = create("dev-made-").unwrap();
    assert_eq!((stamp(&made)["user"].as_str(), stamp(&made)["state"].as_str()), ("admin", "noted"), "{made:#}");
    let (code, message) = refused(create("prod-made-"));
    assert!(code == 403 && message.contains("prod is run by GitOps: namespaces \"prod-made-"), "{message}");
}

/// S-05: who writes into a namespace that is labelled prod from its first moment, and that we have not heard of, is refused.
#[test]
fn a_namespace_that_was_made_this_moment_is_prod_already() {
    let cluster = Cluster::shared();
    let scene = Client::new(&cluster.kubectl("admin"), &SCENE).unwrap();
    let admin = admin();
    let labels = json!({LABEL: "prod"});
    let mut early = 0;
    for race in 0..RACES {
        let name = format!("dev-race-{race}");
        let path = format!("/api/v1/namespaces/{name}/configmaps");
        let made = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Somebody who cannot wait for it.
            let impatient = scope.spawn(|| {
                let admin = Http::new(&cluster.kubectl("admin"), "bypass/1");
                let mut answers = Vec::new();
                while !made.load(Ordering::Relaxed) {
                    answers.push(admin.send("POST", &path, &settings()));
                }
                answers
            });
            let answer = scene.json("POST", "/api/v1/namespaces", &namespace(&name, &labels)).unwrap();
            let written = admin.send("POST", &path, &settings());
            made.store(true, Ordering::Relaxed);
            assert_eq!(answer.status, 201, "{answer:?}");
            check_gated(written, ("prod", "configmaps \"settings\" (create) by admin", &format!("-n {name}")));
            for answer in impatient.join().unwrap() {
                // Or it was not there yet.
                if !matches!(&answer, Err(kube::Error::Api(status)) if status.code == 404) {
                    early += 1;
                    check_gated(answer, ("prod", "configmaps \"settings\" (create) by admin", &format!("-n {name}")));
                }
            }
        });
    }
    assert!(early > 0, "nobody wrote before the namespace was known");
}

fn settings() -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}}).to_string()
}

/// S-05: what was a dev namespace under the same name a moment ago is prod from its first moment, whoever remembers it.
#[test]
fn a_namespace_that_was_made_again_is_what_it_is_now() {
    let cluster = Cluster::shared();
    let scene = Client::new(&cluster.kubectl("admin"), &SCENE).unwrap();
    let admin = admin();
    let path = "/api/v1/namespaces/dev-again";
    for _ in 0..3 {
        for (labels, guarded) in [(json!({}), false), (json!({LABEL: "prod"}), true)] {
            let made = wait_until("the namespace to be made", LIMIT, || {
                let made = scene.json("POST", "/api/v1/namespaces", &namespace("dev-again", &labels)).unwrap();
                if made.status == 201 { Ok(()) } else { Err(made.message()) }
            });
            made.unwrap();
            let written = admin.send("POST", &format!("{path}/configmaps"), &settings());
            if guarded {
                check_gated(written, ("prod", "configmaps \"settings\" (create) by admin", "-n dev-again"));
            } else {
                assert_eq!(stamp(&written.unwrap())["state"], "noted");
            }
            assert_eq!(scene.json("DELETE", path, &json!({})).unwrap().status, 200);
        }
    }
}
