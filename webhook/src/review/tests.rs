//! What is no review, and what an answer looks like.

use super::*;
use serde_json::{Value, json};

fn review(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut review = json!({"apiVersion": API_VERSION, "kind": KIND, "request": {
        "uid": "u-1", "kind": {"group": "", "version": "v1", "kind": "ConfigMap"},
        "resource": {"group": "", "version": "v1", "resource": "configmaps"}, "name": "a", "namespace": "prod",
        "operation": "CREATE", "userInfo": {"username": "alice@example.com", "groups": ["developers"]},
        "object": {"metadata": {"name": "a"}}, "oldObject": null, "dryRun": false,
        "options": {"fieldManager": "kubectl-create"}}});
    change(&mut review);
    review.to_string().into_bytes()
}

#[test]
fn a_review_is_read() {
    let bytes = review(|_| {});
    let Asked { uid, write } = read(&bytes).unwrap();
    assert_eq!((uid.as_str(), write.name.as_str(), write.manager.as_str()), ("u-1", "a", "kubectl-create"));
    assert!(write.before.is_none() && write.after.is_some());
    assert_eq!(write.namespace.as_deref(), Some("prod"));
}

#[test]
fn the_manager_is_the_newest_entry_where_the_client_named_none() {
    let bytes = review(|review| {
        review["request"]["options"] = json!({});
        review["request"]["object"]["metadata"]["managedFields"] = json!([{"manager": "old", "operation": "Update", "time": "2026-01-01T00:00:00Z"}, {"manager": "curl", "operation": "Update", "time": "2026-02-01T00:00:00Z"}]);
    });
    assert_eq!(read(&bytes).unwrap().write.manager, "curl");
}

#[test]
fn what_is_no_review_is_malformed_and_never_a_panic() {
    let whole = review(|_| {});
    for end in 0..whole.len() {
        assert!(read(&whole[..end]).is_err(), "cut at {end}");
    }
    type Change = fn(&mut Value);
    let cases: [(&str, Change); 7] = [
        ("version", |review| review["apiVersion"] = json!("admission.k8s.io/v1beta1")),
        ("kind", |review| review["kind"] = json!("Pod")),
        ("no request", |review| review["request"] = Value::Null),
        ("no uid", |review| review["request"]["uid"] = json!("")),
        ("a huge uid", |review| review["request"]["uid"] = json!("x".repeat(300))),
        ("a uid of another type", |review| review["request"]["uid"] = json!(7)),
        ("an operation", |review| review["request"]["operation"] = json!("READ")),
    ];
    for (what, change) in cases {
        assert!(read(&review(change)).is_err(), "{what}");
    }
    assert!(read(&vec![b'['; 3 << 20]).is_err());
    let twice = String::from_utf8(whole).unwrap().replacen("\"uid\":\"u-1\"", "\"uid\":\"u-1\",\"uid\":\"u-2\"", 1);
    assert!(read(twice.as_bytes()).is_err(), "two uids");
}

#[test]
fn an_array_is_nobody_and_no_resource() {
    let everybody = json!(["system:apiserver", "u", ["system:masters"], {}]);
    type Change = fn(&mut Value, Value);
    let cases: [(&str, Change, Value); 4] = [
        ("userInfo", |review, array| review["request"]["userInfo"] = array, everybody),
        ("resource", |review, array| review["request"]["resource"] = array, json!(["", "v1", "configmaps"])),
        ("kind", |review, array| review["request"]["kind"] = array, json!(["ConfigMap"])),
        ("request", |review, array| review["request"] = array, json!(["u-1", {"kind": "ConfigMap"}])),
    ];
    for (what, change, array) in cases {
        let error = read(&review(|review| change(review, array))).unwrap_err().to_string();
        assert!(error.contains("expected an object"), "{what}: {error}");
    }
    assert!(read(br#"["admission.k8s.io/v1", "AdmissionReview", null]"#).is_err());
}

#[test]
fn what_is_wrong_is_said_in_few_words() {
    for field in ["operation", "apiVersion"] {
        let bytes = review(|review| {
            let place = if field == "operation" { &mut review["request"] } else { review };
            place[field] = json!("x".repeat(100_000));
        });
        assert!(read(&bytes).unwrap_err().to_string().len() < 2 * TEXT_LIMIT, "{field}");
    }
}

#[test]
fn depth_does_not_matter() {
    let text = String::from_utf8(review(|_| {})).unwrap();
    let deep = format!("{{\"x\":{}1{},\"metadata\":{{\"name\":\"a\"}}}}", "[".repeat(9_999), "]".repeat(9_999));
    let bytes = text.replace(r#""object":{"metadata":{"name":"a"}}"#, &format!("\"object\":{deep}"));
    assert_eq!(read(bytes.as_bytes()).unwrap().write.after.unwrap().metadata.name, "a");
}

#[test]
fn an_answer_is_what_the_api_server_reads() {
    let refused: Value = serde_json::from_slice(&Answer::refuse("no").write("u-1").unwrap()).unwrap();
    assert_eq!(refused["response"]["allowed"], false);
    assert_eq!(refused["response"]["status"], json!({"code": 403, "reason": "Forbidden", "message": "no"}));
    let mut answer = Answer::allow();
    answer.warnings.push("ü".repeat(1_000));
    answer.patch.push(OwnStep::set("/spec/user", "alice"));
    let allowed: Value = serde_json::from_slice(&answer.write("u-1").unwrap()).unwrap();
    assert_eq!(allowed["response"]["warnings"][0].as_str().unwrap().chars().count(), TEXT_LIMIT);
    let patch = base64::engine::general_purpose::STANDARD.decode(allowed["response"]["patch"].as_str().unwrap());
    let patch: Value = serde_json::from_slice(&patch.unwrap()).unwrap();
    assert_eq!(patch, json!([{"op": "add", "path": "/spec/user", "value": "alice"}]));
}
