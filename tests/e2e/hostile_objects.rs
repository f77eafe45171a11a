//! Objects as large, as deep and as odd as the API server takes them: they are decided like any other.

use serde_json::{Value, json};
use tests::client::{Answer, Client};
use tests::protobuf::{self, deployment};

use crate::hostile::{MEMORY_LIMIT, cluster};

pub(crate) fn client(person: &str) -> Client {
    Client::new(&cluster().kubectl(person), &[]).unwrap()
}

/// Holds that we refused a write to the closed namespace, with a sentence that begins and ends as ever.
#[track_caller]
pub(crate) fn check_refused(answer: &Answer, subject: &str) {
    let message = answer.message();
    assert_eq!(answer.status, 403, "{message:.500}");
    let start = format!("denied the request: prod is run by GitOps: {subject} needs a break-glass token");
    assert!(message.contains(&start), "{message:.500}");
    assert!(
        message.ends_with("Open one: kubectl breakglass open <incident> -n prod-closed --reason \"…\""),
        "{message:.500}"
    );
}

#[track_caller]
pub(crate) fn check_done(answer: &Answer) {
    assert!(answer.status == 200 || answer.status == 201, "{} {:.500}", answer.status, answer.message());
}

/// The annotations of an object of any depth: what reads all of it here stops at 128 levels.
fn our_annotation(person: &str, namespace: &str, object: &str, key: &str) -> String {
    let path = format!("jsonpath={{.metadata.annotations.breakglass\\.dev/{key}}}");
    cluster().kubectl(person).namespace(namespace).ok(&["get", object, "-o", &path])
}

/// What is on record of an object in the open namespace.
pub(crate) fn records(name: &str) -> Vec<Value> {
    let of = |change: &Value| change["spec"]["target"]["name"] == name;
    cluster().changes("INC-465").into_iter().filter(of).collect()
}

/// H-03: an object of 200, 1,000 or as many levels as the API server takes is decided, stamped and recorded like a flat one, as
/// a custom resource and as the data of a ControllerRevision.
#[test]
fn depth_changes_no_decision() {
    let (alice, admin) = (client("alice"), client("admin"));
    let nested = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    // Go's JSON stops at 10,000 levels, of which an object in a review has some fewer, and its managedFields more.
    for (depth, revisions_only) in [(200, false), (1_000, false), (9_990, false), (9_999, true)] {
        let name = format!("deep-{depth}");
        let widget = format!(
            r#"{{"apiVersion":"e2e.example.com/v1","kind":"Widget","metadata":{{"name":"{name}"}},"spec":{{"size":1,"deep":{}}}}}"#,
            nested(depth - 1)
        );
        let revision = format!(
            r#"{{"apiVersion":"apps/v1","kind":"ControllerRevision","metadata":{{"name":"{name}"}},"revision":1,"data":{}}}"#,
            nested(depth)
        );
        for (who, person, client, path, plural, body, change) in [
            ("widget", "alice", &alice, "/apis/e2e.example.com/v1", "widgets", widget, r#"{"spec":{"size":2}}"#),
            (
                "controllerrevision",
                "admin",
                &admin,
                "/apis/apps/v1",
                "controllerrevisions",
                revision,
                r#"{"revision":2}"#,
            ),
        ] {
            if revisions_only && plural == "widgets" {
                continue;
            }
            let path = |namespace: &str| format!("{path}/namespaces/{namespace}/{plural}");
            let create = |namespace: &str| {
                client.send("POST", &path(namespace), ("application/json", body.clone().into_bytes())).unwrap()
            };
            let one = |namespace: &str| format!("{}/{name}", path(namespace));
            let patch = |namespace: &str| {
                let body = ("application/merge-patch+json", change.as_bytes().to_vec());
                client.send("PATCH", &one(namespace), body).unwrap()
            };
            let group = if plural == "widgets" { "e2e.example.com" } else { "apps" };
            let user = if person == "admin" { "admin" } else { "alice@example.com" };
            check_refused(&create("prod-closed"), &format!("{plural}.{group} \"{name}\" (create) by {user}"));
            for namespace in ["dev-open", "prod-open"] {
                check_done(&create(namespace));
                check_done(&patch(namespace));
                assert_eq!(our_annotation(person, namespace, &format!("{who}/{name}"), "operation"), "Update");
            }
            let last = our_annotation(person, "prod-open", &format!("{who}/{name}"), "change");
            let change = cluster().change(&last);
            assert_eq!((&change["spec"]["operation"], &change["spec"]["truncated"]), (&json!("Update"), &json!(true)));
            check_done(&client.send("DELETE", &one("prod-open"), ("application/json", Vec::new())).unwrap());
            check_done(&client.send("DELETE", &one("dev-open"), ("application/json", Vec::new())).unwrap());
        }
    }
}

/// The path of Deployments.
fn deployments(namespace: &str) -> String {
    format!("/apis/apps/v1/namespaces/{namespace}/deployments")
}

/// H-04: 1.4 MB of characters that JSON writes as six bytes, or that take four, in a create and in an update, where the review
/// has both objects: refused, let in and recorded like a small one, in the memory that there is.
#[test]
fn characters_that_grow_change_no_decision() {
    let (alice, bob) = (client("alice"), client("bob"));
    for (name, character) in [("less-than", '<'), ("line", '\u{2028}'), ("control", '\u{1}'), ("emoji", '\u{1f600}')] {
        let value = character.to_string().repeat(1_400_000 / character.len_utf8());
        let body = |version: u8| {
            (protobuf::CONTENT_TYPE, deployment(name, &format!("registry.example.com/web:{version}"), &value))
        };
        let by = |user: &str, verb: &str| format!("deployments.apps \"{name}\" ({verb}) by {user}@example.com");
        check_refused(&alice.send("POST", &deployments("prod-closed"), body(1)).unwrap(), &by("alice", "create"));
        let namespaces = if name == "less-than" { &["prod-open", "dev-open"][..] } else { &["prod-open"] };
        for namespace in namespaces {
            check_done(&alice.send("POST", &deployments(namespace), body(1)).unwrap());
            let one = format!("{}/{name}", deployments(namespace));
            check_done(&alice.send("PUT", &one, body(2)).unwrap());
            let operation = our_annotation("alice", namespace, &format!("deployment/{name}"), "operation");
            assert_eq!(operation, "Update", "{name} in {namespace}");
        }
        let one = format!("{}/{name}", deployments("prod-open"));
        let refused = bob.send("PUT", &one, body(3)).unwrap();
        assert!(
            refused.status == 403 && refused.message().contains(&by("bob", "update")),
            "{:.500}",
            refused.message()
        );
        let last = cluster().change(&our_annotation("alice", "prod-open", &format!("deployment/{name}"), "change"));
        assert_eq!((&last["spec"]["operation"], &last["spec"]["truncated"]), (&json!("Update"), &json!(true)));
        check_done(&alice.send("DELETE", &one, ("application/json", Vec::new())).unwrap());
    }
    check_memory();
}

#[track_caller]
fn check_memory() {
    let peak = cluster().webhook().peak_memory().unwrap();
    assert!(peak < MEMORY_LIMIT, "it took {} MiB", peak >> 20);
}

/// H-05: the largest write that the API server takes, 3 MiB of protobuf, is 18 MiB as a review, and 27 with what it replaces:
/// refused without a token, let in under one. (etcd takes half of it and refuses the rest by itself.)
#[test]
fn the_largest_write_is_decided() {
    let (alice, bob) = (client("alice"), client("bob"));
    let body =
        |size: usize| (protobuf::CONTENT_TYPE, deployment("largest", "registry.example.com/web:1", &"<".repeat(size)));
    let most = 3 * 1024 * 1024 - 1_024;
    let refused = alice.send("POST", &deployments("prod-closed"), body(most)).unwrap();
    check_refused(&refused, "deployments.apps \"largest\" (create) by alice@example.com");
    let too_large = alice.send("POST", &deployments("prod-closed"), body(most + 2_048)).unwrap();
    assert_eq!(too_large.status, 413, "the API server takes more than 3 MiB: {:.500}", too_large.message());

    check_done(&alice.send("POST", &deployments("prod-open"), body(1_400_000)).unwrap());
    let one = format!("{}/largest", deployments("prod-open"));
    let refused = bob.send("PUT", &one, body(most)).unwrap();
    assert!(
        refused.message().contains("deployments.apps \"largest\" (update) by bob@example.com"),
        "{:.500}",
        refused.message()
    );
    let known = records("largest").len();
    let past_us = alice.send("PUT", &one, body(most)).unwrap();
    assert!(past_us.status == 500 && past_us.message().contains("larger than max"), "{:.500}", past_us.message());
    assert!(records("largest").len() > known, "it was let in without a record");
    check_done(&alice.send("DELETE", &one, ("application/json", Vec::new())).unwrap());
    check_memory();
}
