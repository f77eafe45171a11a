//! What is read of managedFields as the API server writes them: server-side apply, updates, subresources.

use serde_json::json;

use super::*;

/// A Deployment that Flux applied, somebody edited and scaled, and the control plane reports on.
fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "api", "namespace": "prod", "labels": {"app": "api", "kustomize.toolkit.fluxcd.io/name": "prod"},
            "annotations": {"breakglass.dev/user": "alice@example.com", "note": "mine"},
            "finalizers": ["example.com/a", "example.com/b"],
            "managedFields": [
                {"manager": "kustomize-controller", "operation": "Apply", "apiVersion": "apps/v1", "time": "2026-11-20T10:00:00Z",
                    "fieldsType": "FieldsV1", "fieldsV1": {
                        "f:metadata": {"f:labels": {"f:app": {}, "f:kustomize.toolkit.fluxcd.io/name": {}}},
                        "f:spec": {"f:selector": {}, "f:template": {"f:metadata": {"f:labels": {"f:app": {}}},
                            "f:spec": {"f:containers": {"k:{\"name\":\"api\"}": {".": {}, "f:name": {}, "f:image": {},
                                "f:args": {}, "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":
                                    {".": {}, "f:containerPort": {}}}}}}}}}},
                {"manager": "kubectl-edit", "operation": "Update", "apiVersion": "apps/v1", "time": "2026-11-20T12:00:00Z",
                    "fieldsType": "FieldsV1", "fieldsV1": {
                        "f:metadata": {"f:annotations": {".": {}, "f:note": {}},
                            "f:finalizers": {".": {}, "v:\"example.com/b\"": {}}},
                        "f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"api\"}": {"f:image": {}},
                            "k:{\"name\":\"sidecar\"}": {".": {}, "f:name": {}, "f:resources": {".": {}, "f:limits":
                                {".": {}, "f:cpu": {}, "f:memory": {}}}}}}}}}},
                {"manager": "kubectl", "operation": "Update", "apiVersion": "apps/v1", "subresource": "scale",
                    "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
                {"manager": "kube-controller-manager", "operation": "Update", "apiVersion": "apps/v1", "subresource": "status",
                    "time": "2026-11-20T12:00:05Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:status": {"f:conditions": {".": {},
                        "k:{\"type\":\"Available\"}": {".": {}, "f:type": {}, "f:status": {}}}, "f:replicas": {}}}}]},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "api"}}, "progressDeadlineSeconds": 600,
            "template": {"metadata": {"labels": {"app": "api"}}, "spec": {"containers": [
                {"name": "sidecar", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}},
                {"name": "api", "image": "api:2", "args": ["a", "b"],
                    "ports": [{"containerPort": 80, "protocol": "TCP"}]}]}}},
        "status": {"replicas": 3, "conditions": [{"type": "Available", "status": "True", "reason": "x"}]}})
}

const CONTAINERS: &str = "/spec/template/spec/containers";

#[test]
fn a_field_is_its_managers_and_what_is_one_piece_is_whole() {
    let object = deployment();
    let managers = managers(&object);
    for (pointer, expected) in [
        ("/spec/replicas", &["kubectl"][..]),
        // One piece: everything in it is the engine's.
        ("/spec/selector", &["kustomize-controller"]),
        ("/spec/selector/matchLabels/app", &["kustomize-controller"]),
        (&format!("{CONTAINERS}/1/args/0"), &["kustomize-controller"]),
        // Shared: both said so.
        (&format!("{CONTAINERS}/1/image"), &["kustomize-controller", "kubectl-edit"]),
        // By index in the pointer, by key in the fields.
        (&format!("{CONTAINERS}/0/name"), &["kubectl-edit"]),
        (&format!("{CONTAINERS}/1/name"), &["kustomize-controller"]),
        (&format!("{CONTAINERS}/1/ports/0/containerPort"), &["kustomize-controller"]),
        // A default of the server, in an item that is the engine's.
        (&format!("{CONTAINERS}/1/ports/0/protocol"), &[]),
        (&format!("{CONTAINERS}/1/ports/0"), &[]),
        // All of a map, where each of its fields is theirs.
        (&format!("{CONTAINERS}/0/resources"), &["kubectl-edit"]),
        (&format!("{CONTAINERS}/0"), &["kubectl-edit"]),
        (CONTAINERS, &[]),
        ("/metadata/labels", &["kustomize-controller"]),
        ("/metadata/labels/kustomize.toolkit.fluxcd.io~1name", &["kustomize-controller"]),
        ("/metadata/annotations/note", &["kubectl-edit"]),
        ("/metadata/annotations/breakglass.dev~1user", &[]),
        ("/metadata/annotations", &[]),
        ("/metadata/finalizers/1", &["kubectl-edit"]),
        ("/metadata/finalizers/0", &[]),
        ("/status/conditions/0/status", &["kube-controller-manager"]),
        ("/status/conditions/0/reason", &[]),
        ("/spec/progressDeadlineSeconds", &[]),
        ("/spec/paused", &[]),
        (&format!("{CONTAINERS}/7/name"), &[]),
        (&format!("{CONTAINERS}/api/name"), &[]),
        ("/spec/replicas/deeper", &[]),
        ("", &[]),
    ] {
        let found: Vec<_> = owners(&managers, &object, pointer).iter().map(|one| one.name.as_str()).collect();
        assert_eq!(found, expected, "{pointer}");
    }
}

#[test]
fn an_entry_says_who_in_which_way_and_when() {
    let object = deployment();
    let entries: Vec<_> = managers(&object)
        .into_iter()
        .map(|one| (one.name, one.operation, one.subresource, one.time.map(|time| time.to_string())))
        .collect();
    let text = |text: &str| text.to_owned();
    let some = |word: &str| Some(text(word));
    assert_eq!(entries.len(), 4);
    assert_eq!(entries[0], (text("kustomize-controller"), text("Apply"), None, some("2026-11-20T10:00:00Z")));
    assert_eq!(entries[2], (text("kubectl"), text("Update"), some("scale"), None));
    assert_eq!(managers(&json!({"metadata": {}})), []);
    assert_eq!(managers(&json!({"metadata": {"managedFields": [{"operation": "Update"}, 7]}})), []);
}

#[test]
fn what_is_owned_is_listed_as_paths_with_the_keys_of_items() {
    let object = deployment();
    let managers = managers(&object);
    assert_eq!(
        managers[1].owned.paths(),
        [
            "/metadata/annotations/note",
            "/metadata/finalizers[example.com/b]",
            "/spec/template/spec/containers[name=api]/image",
            "/spec/template/spec/containers[name=sidecar]/name",
            "/spec/template/spec/containers[name=sidecar]/resources/limits/cpu",
            "/spec/template/spec/containers[name=sidecar]/resources/limits/memory",
        ]
    );
    let limits = format!("{CONTAINERS}/0/resources");
    assert!(managers[1].owned.goes_below(&object, &limits) && !managers[0].owned.goes_below(&object, &limits));
    assert!(!managers[0].owned.goes_below(&object, "/spec/selector"));
    // What was removed since by somebody else is not there.
    let other = json!({"spec": {"replicas": 3}});
    assert!(!managers[1].owned.covers(&other, "/metadata/annotations/note"));
}

#[test]
fn whoever_owns_the_field_itself_comes_before_who_owns_something_around_it() {
    let entry = |name: &str, fields: Value| json!({"manager": name, "operation": "Apply", "fieldsV1": fields});
    let object = json!({"data": {"a": "1", "b": "2"}, "list": [1, 2], "metadata": {"managedFields": [
        entry("empty", json!({"f:data": {}})), entry("fields", json!({"f:data": {"f:a": {}}})),
        entry("places", json!({"f:list": {"i:0": {}, "v:2": {}}})), entry("odd", json!({"x:y": {}, "k:{": {}, "f:data": 7}))]}});
    let managers = managers(&object);
    for (pointer, expected) in [
        ("/data/a", "fields"),
        ("/data/b", "empty odd"),
        ("/data", "empty odd"),
        ("/list", "places"),
        ("/list/0", "places"),
        ("/list/1", "places"),
    ] {
        let found: Vec<_> = owners(&managers, &object, pointer).iter().map(|one| one.name.as_str()).collect();
        assert_eq!(found.join(" "), expected, "{pointer}");
    }
}
