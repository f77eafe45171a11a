//! Nobody approves a token by writing that somebody did, and nobody widens one that is there.

use serde_json::{Value, json};
use tests::{Kubectl, Output, wait_until};

use crate::LIMIT;
use crate::gate_token::{cluster, document, from_now, set_status};

/// What the schema says of an edit.
const IMMUTABLE: &str = "a token's spec is immutable: open another one";

const TOKENS: &str = "/apis/breakglass.dev/v1alpha1/breakglasstokens";

/// Who may be somebody else: an admin, as kubectl's flags have it.
const AS_CAROL: [&str; 6] =
    ["--as", "carol@example.com", "--as-group", "approvers", "--as-group", "system:authenticated"];
const AS_ALICE: [&str; 4] = ["--as", "alice@example.com", "--as-group", "system:masters"];
const AS_BOB: [&str; 4] = ["--as", "bob@example.com", "--as-group", "system:masters"];
const AS_WEBHOOK: [&str; 6] = [
    "--as",
    "system:serviceaccount:breakglass-system:breakglass-webhook",
    "--as-uid",
    "0e7e2a3c-0000-4000-8000-000000000003",
    "--as-group",
    "system:masters",
];
const AS_FLUX: [&str; 4] =
    ["--as", "system:serviceaccount:flux-system:kustomize-controller", "--as-group", "system:masters"];
const OVERRIDE: [&str; 6] = ["--as", "admin", "--as-group", "system:masters", "--as-group", "breakglass.dev:override"];

fn token(name: &str) -> Value {
    cluster().kubectl("admin").json(&["get", "breakglasstoken", name])
}

/// What an approval makes of the status of a token.
pub(crate) fn active(by: &str) -> Value {
    json!({"phase": "Active", "approvals": [{"user": by, "time": from_now(0), "note": "go ahead"}]})
}

/// The holder's write to a namespace.
fn write(holder: &str, namespace: &str) -> Output {
    cluster().kubectl(holder).namespace(namespace).run(&["create", "configmap", "settings"])
}

/// Holds that a token waits for approval, whatever was written about it, and lets nothing in.
///
/// Each test has a holder of its own: a newer token of another test would be named instead.
#[track_caller]
fn check_waiting(name: &str, holder: &str, namespace: &str) {
    let status = token(name)["status"].clone();
    assert!(status["approvals"].is_null() && status["phase"] != "Active", "{status}");
    let expected = format!(
        "guarded is run by GitOps: configmaps \"settings\" (create) by {holder}@example.com needs a break-glass token, \
         and {name} waits for approval by approvers. They type: kubectl breakglass approve {name}"
    );
    assert_eq!(write(holder, namespace).refusal(), expected);
}

/// Sends a write until it meets no other: the webhook writes to the status of tokens as well.
fn without_conflict(send: impl Fn() -> Output) -> Output {
    wait_until("a write without a conflict", LIMIT, || match send() {
        ran if ran.stderr.contains("(Conflict)") => Err(ran.to_string()),
        ran => Ok(ran),
    })
    .unwrap()
}

/// Every way in which a client can write an object or its status, with what it was answered.
fn in_every_way(
    kubectl: &Kubectl,
    who: &[&str],
    name: &str,
    change: &Value,
    status: bool,
) -> Vec<(&'static str, Output)> {
    let subresource: &[&str] = if status { &["--subresource=status"] } else { &[] };
    let run = |args: &[&str], input: &str| kubectl.run_with_input(&[args, subresource, who].concat(), input);
    let patch = |kind: &str, text: &str| run(&["patch", "breakglasstoken", name, kind, "-p", text], "");
    let steps: Vec<Value> = change
        .as_object()
        .unwrap()
        .iter()
        .map(|(field, value)| json!({"op": "add", "path": format!("/{field}"), "value": value}))
        .collect();
    let changed = || {
        let mut object = token(name);
        json_patch::merge(&mut object, change);
        object
    };
    let applied = || {
        let mut object = changed();
        object["metadata"] = json!({"name": name});
        object.to_string()
    };
    let path = format!("{TOKENS}/{name}{}", if status { "/status" } else { "" });
    let raw = |text: &str| kubectl.run_with_input(&[&["replace", "--raw", &path, "-f", "-"], who].concat(), text);
    let apply = ["apply", "--server-side", "--force-conflicts", "--field-manager=hand", "-f", "-"];
    vec![
        ("merge patch", without_conflict(|| patch("--type=merge", &change.to_string()))),
        ("JSON patch", without_conflict(|| patch("--type=json", &json!(steps).to_string()))),
        ("replace", without_conflict(|| run(&["replace", "-f", "-"], &changed().to_string()))),
        ("PUT", without_conflict(|| raw(&changed().to_string()))),
        ("server-side apply", without_conflict(|| run(&apply, &applied()))),
    ]
}

/// K-04: neither the holder, nor another person, nor an approver, nor an admin, nor who claims to be the webhook, an
/// approver or an engine gets an approval into a token by any write; and the holder's own would count for nothing.
#[test]
fn nobody_approves_by_writing_that_somebody_did() {
    let cluster = cluster();
    cluster.namespace("guarded-alone");
    let name = cluster.open("bob", "INC-440", "guarded-alone");
    check_waiting(&name, "bob", "guarded-alone");

    let change = json!({"status": active("carol@example.com")});
    let only_the_end = format!("only the end of a token is a person's to write: kubectl breakglass close {name}");
    for (person, who) in [
        ("alice", &[][..]),
        ("bob", &[]),
        ("carol", &[]),
        ("admin", &[]),
        ("admin", &AS_CAROL),
        ("admin", &AS_BOB),
        ("admin", &AS_WEBHOOK),
        ("admin", &AS_FLUX),
    ] {
        let kubectl = cluster.kubectl(person);
        for (way, ran) in in_every_way(&kubectl, who, &name, &change, true) {
            assert_eq!(ran.our_refusal(), Some(only_the_end.as_str()), "{person} {who:?} by {way}: {ran}");
        }
        // Through the object itself no status is written, and most may not write to it at all.
        for (way, ran) in in_every_way(&kubectl, who, &name, &change, false) {
            let forbidden = ran.stderr.contains("(Forbidden)") && ran.stderr.contains("cannot ");
            assert!(ran.status == 0 || forbidden, "{person} {who:?} by {way}: {ran}");
        }
        check_waiting(&name, "bob", "guarded-alone");
    }

    // What must not get in, and what it would do if it did.
    set_status(&cluster, &name, &active("bob@example.com"));
    let refused = write("bob", "guarded-alone");
    assert!(refused.refusal().contains(" waits for approval by approvers"), "{refused}");
    set_status(&cluster, &name, &active("carol@example.com"));
    assert_eq!(write("bob", "guarded-alone").status, 0);
}

/// K-04: what is created with an approval in it, copied from an approved token, or made again under the name of one, has
/// none; and an approved token is deleted by nobody.
#[test]
fn an_approval_is_not_brought_along() {
    let cluster = cluster();
    for namespace in ["guarded-first", "guarded-copy", "guarded-again"] {
        cluster.namespace(namespace);
    }
    let alice = cluster.kubectl("alice");
    let spec = |namespace: &str| json!({"environment": "guarded", "namespaces": [namespace]});
    let mut born = document("inc-441-aaaaa", &spec("guarded-first"));
    born["status"] = active("carol@example.com");
    alice.ok_with_input(&["create", "-f", "-"], &born.to_string());
    check_waiting("inc-441-aaaaa", "alice", "guarded-first");
    // By PATCH, for who may.
    born = document("inc-441-bbbbb", &spec("guarded-first"));
    born["status"] = active("carol@example.com");
    let apply = ["apply", "--server-side", "-f", "-"];
    cluster.kubectl("admin").ok_with_input(&[&apply[..], &AS_ALICE].concat(), &born.to_string());
    cluster.plugin("alice").ok(&["close", "inc-441-aaaaa"]);
    check_waiting("inc-441-bbbbb", "alice", "guarded-first");

    // One that was approved, and its copy for another namespace.
    let approved = "inc-441-ccccc";
    let original = document(approved, &spec("guarded-again"));
    alice.ok_with_input(&["create", "-f", "-"], &original.to_string());
    set_status(&cluster, approved, &active("carol@example.com"));
    assert_eq!(write("alice", "guarded-again").status, 0);
    let mut copy = token(approved);
    copy["metadata"] = json!({"name": "inc-441-ddddd", "uid": copy["metadata"]["uid"],
        "labels": copy["metadata"]["labels"], "annotations": copy["metadata"]["annotations"]});
    copy["spec"]["namespaces"] = json!(["guarded-copy"]);
    alice.ok_with_input(&["create", "-f", "-"], &copy.to_string());
    check_waiting("inc-441-ddddd", "alice", "guarded-copy");

    // The same name again, after a delete that nobody is let to do.
    let stays = format!("a token is part of the record and stays. End it with: kubectl breakglass close {approved}");
    let delete = ["delete", "breakglasstoken", approved];
    let all = ["delete", "breakglasstokens", "--field-selector", "spec.incident=INC-441"];
    let admin = cluster.kubectl("admin");
    for who in [&[][..], &AS_ALICE, &AS_CAROL, &AS_WEBHOOK, &AS_FLUX] {
        let refused = admin.run(&[&delete[..], who].concat());
        let forbidden = refused.stderr.contains("cannot delete resource");
        assert!(forbidden || refused.our_refusal() == Some(stays.as_str()), "{who:?}: {refused}");
    }
    assert!(alice.run(&delete).stderr.contains("cannot delete resource"));
    assert!(admin.run(&all).our_refusal().is_some());
    cluster.set_scene(&delete, "");
    let mut again = original;
    again["status"] = active("carol@example.com");
    alice.ok_with_input(&["create", "-f", "-"], &again.to_string());
    let refused = alice.run(&["-n", "guarded-again", "delete", "configmap", "settings"]);
    assert!(refused.refusal().contains(&format!(", and {approved} waits for approval by approvers")), "{refused}");
}

/// K-05: what a token permits stays what it was when it was opened, for every client and every person, the override group
/// among them, before and after an approval.
#[test]
fn the_scope_of_a_token_never_changes() {
    let cluster = cluster();
    cluster.namespace("guarded-scope");
    let name = "inc-442-aaaaa";
    let spec = json!({"user": "carol@example.com", "environment": "guarded", "namespaces": ["guarded-scope"]});
    cluster.set_scene(&["create", "-f", "-"], &document(name, &spec).to_string());
    let opened = token(name)["spec"].clone();
    for (field, value) in [
        ("user", json!("bob@example.com")),
        ("environment", json!("prod")),
        ("namespaces", json!(["guarded-scope", "prod"])),
        ("namespaces", json!([])),
        ("namespaces", Value::Null),
        ("expiresAt", json!(from_now(239))),
        ("openedAt", json!(from_now(-1))),
        ("ttl", json!("4h")),
        ("incident", json!("INC-443")),
        ("reason", json!("another")),
    ] {
        let patch = json!({"spec": {field: value}}).to_string();
        for who in [&[][..], &OVERRIDE] {
            let args = ["patch", "breakglasstoken", name, "--type=merge", "-p", &patch];
            let refused = cluster.kubectl("admin").run(&[&args, who].concat());
            assert!(refused.status == 1 && refused.stderr.contains(IMMUTABLE), "{patch} {who:?}: {refused}");
        }
    }
    check_immutable(name, &opened);
    set_status(&cluster, name, &active("bob@example.com"));
    check_immutable(name, &opened);
    // Labels and annotations of other tools are not its scope.
    cluster.kubectl("admin").ok(&["label", "breakglasstoken", name, "team=shop"]);
    assert_eq!(token(name)["spec"], opened);
}

/// Holds that no client widens a token, whoever types: by the object the schema refuses it, by the status it is passed over.
#[track_caller]
fn check_immutable(name: &str, opened: &Value) {
    let cluster = cluster();
    let mut wider = opened.clone();
    wider["namespaces"] = json!(["guarded-scope", "guarded-first"]);
    let change = json!({"spec": wider});
    for who in [&[][..], &AS_CAROL, &AS_WEBHOOK, &OVERRIDE] {
        for (way, ran) in in_every_way(&cluster.kubectl("admin"), who, name, &change, false) {
            let refused = ran.stderr.contains(IMMUTABLE) || ran.stderr.contains("cannot ");
            assert!(ran.status == 1 && refused, "{who:?} by {way}: {ran}");
        }
    }
    for (person, who) in [("alice", &[][..]), ("carol", &[]), ("admin", &OVERRIDE)] {
        for (way, ran) in in_every_way(&cluster.kubectl(person), who, name, &change, true) {
            assert_eq!(ran.status, 0, "{person} by {way}: {ran}");
        }
    }
    assert_eq!(&token(name)["spec"], opened);
}
