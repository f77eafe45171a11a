//! What is put into an object's metadata: stamps that are not true, marks of engines, owners, finalizers, labels of prod.

use serde_json::{Value, json};

use super::random::Random;

/// Metadata of a new object that says to be more than it is.
pub(super) fn forged(random: &mut Random) -> Value {
    match random.below(8) {
        0 | 1 => stamp(random),
        2 => flux(),
        3 => json!({"ownerReferences": [owner(random)]}),
        4 => json!({"finalizers": ["example.com/fuzz"]}),
        5 => json!({"labels": {"breakglass.dev/exempt": "true", "admission.gatekeeper.sh/ignore": "true"}}),
        6 => json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0}),
        _ => json!({}),
    }
}

/// A change of an object's metadata, as a merge patch.
pub(super) fn edit(random: &mut Random) -> Value {
    match random.below(8) {
        0 | 1 => stamp(random),
        2 => flux(),
        3 => json!({"ownerReferences": [owner(random)]}),
        4 => json!({"finalizers": ["example.com/fuzz"]}),
        5 => json!({"finalizers": null}),
        6 => json!({"labels": {"breakglass.dev/exempt": "true", "breakglass.dev/environment": "dev"}}),
        _ => json!({"annotations": {"fuzz": random.name()}}),
    }
}

/// A change of a Namespace that would take it out of prod, or hide that it is.
pub(super) fn of_namespace(random: &mut Random) -> Value {
    match random.below(6) {
        0 => json!({"labels": {"breakglass.dev/environment": null}}),
        1 => json!({"labels": {"breakglass.dev/environment": "dev"}}),
        2 => json!({"labels": {"kubernetes.io/metadata.name": "breakglass-system"}}),
        3 => json!({"labels": {"kubernetes.io/metadata.name": "dev", "fuzz": random.name()}}),
        4 => json!({"labels": null}),
        _ => edit(random),
    }
}

/// A merge patch as a JSON patch, by JSON pointers of its own.
pub(super) fn as_json_patch(edit: &Value) -> Value {
    let mut steps = Vec::new();
    collect(edit, String::new(), &mut steps);
    json!(steps)
}

fn collect(edit: &Value, path: String, steps: &mut Vec<Value>) {
    match edit.as_object() {
        // These are on every object of the scene; a whole object in a place where there may be none is added as it is.
        Some(fields)
            if ["", "/metadata", "/metadata/labels", "/metadata/annotations", "/spec"].contains(&path.as_str()) =>
        {
            for (key, value) in fields {
                collect(value, format!("{path}/{}", key.replace('~', "~0").replace('/', "~1")), steps);
            }
        }
        _ => steps.push(json!({"op": "add", "path": path, "value": edit})),
    }
}

fn stamp(random: &mut Random) -> Value {
    let change = format!("inc-500-{}", random.name().replace('-', ""));
    json!({
        "annotations": {
            "breakglass.dev/user": "alice@example.com",
            "breakglass.dev/time": "2026-01-01T00:00:00Z",
            "breakglass.dev/operation": "Create",
            "breakglass.dev/manager": "kubectl",
            "breakglass.dev/incident": "INC-500",
            "breakglass.dev/token": "inc-500-aaaaa",
            "breakglass.dev/change": change,
        },
        "labels": {"breakglass.dev/state": random.pick(&["pending", "accepted", "noted"])},
    })
}

fn flux() -> Value {
    json!({"labels": {"kustomize.toolkit.fluxcd.io/name": "prod", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"},
        "annotations": {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"}})
}

/// An owner that is not there: whoever is owned by it is collected.
fn owner(random: &mut Random) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "name": random.name(), "uid": "0e7e2a3c-0000-4000-8000-000000000001",
        "controller": random.percent(50), "blockOwnerDeletion": false})
}
