//! Reviews as the API server sends them, put to the webhook past it: at a moment, or in a shape, that no client can choose.

use serde_json::{Value, json};

/// A review of a write to a ConfigMap by `user`.
#[must_use]
pub fn review(user: &str, operation: &str, (namespace, name): (&str, &str)) -> Value {
    let new = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace},
        "data": {"key": "new"}});
    let mut old = new.clone();
    old["metadata"]["uid"] = json!("0e7e2a3c-0000-4000-8000-000000000001");
    old["metadata"]["resourceVersion"] = json!("7");
    old["data"]["key"] = json!("old");
    let (new, old) = match operation {
        "CREATE" => (new, Value::Null),
        "DELETE" => (Value::Null, old),
        _ => (new, old),
    };
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "0e7e2a3c-0000-4000-8000-000000000002",
        "kind": {"group": "", "version": "v1", "kind": "ConfigMap"},
        "resource": {"group": "", "version": "v1", "resource": "configmaps"},
        "name": name, "namespace": namespace, "operation": operation,
        "userInfo": {"username": user, "groups": ["system:authenticated"]},
        "object": new, "oldObject": old, "dryRun": false,
        "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions", "fieldManager": "kubectl-create"}}})
}

/// The same as a dry run, which asks for the decision and leaves no record.
#[must_use]
pub fn dry_run(mut review: Value) -> Value {
    review["request"]["dryRun"] = json!(true);
    review
}
