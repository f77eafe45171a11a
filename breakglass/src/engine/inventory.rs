//! The inventory of a Kustomization: its own word on what it applies.

use serde_json::Value;

use crate::api::Target;

/// The name of an object in an inventory: `<namespace>_<name>_<group>_<kind>`, where a colon of a name, as in those of roles,
/// is two underscores (fluxcd/cli-utils pkg/object/objmetadata.go).
pub fn id(target: &Target) -> String {
    let namespace = target.namespace.as_deref().unwrap_or_default();
    format!("{namespace}_{}_{}_{}", target.name.replace(':', "__"), target.group(), target.kind)
}

/// Whether a Kustomization, or a HelmRelease, applies to the cluster that it lives in, and not through a kubeconfig to another
/// (fluxcd/kustomize-controller docs/spec/v1/kustomizations.md, "KubeConfig reference").
pub fn applies_here(keeper: &Value) -> bool {
    keeper.pointer("/spec/kubeConfig").is_none_or(Value::is_null)
}

/// Whether the inventory of this Kustomization lists the object of this cluster.
pub fn lists(kustomization: &Value, target: &Target) -> bool {
    let id = id(target);
    let entries = kustomization.pointer("/status/inventory/entries").and_then(Value::as_array);
    let mut ids = entries.into_iter().flatten().filter_map(|entry| entry.get("id")?.as_str());
    applies_here(kustomization) && ids.any(|entry| entry == id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_object_is_listed_by_its_place_and_kind() {
        let target = |group: &str, kind: &str, namespace: Option<&str>, name: &str| Target {
            api_version: format!("{group}v1"),
            kind: kind.to_owned(),
            resource: String::new(),
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
            uid: None,
        };
        let entries = ["prod_api_apps_Deployment", "_a__b_rbac.authorization.k8s.io_ClusterRole", "prod_s__ConfigMap"];
        let entries: Vec<Value> = entries.iter().map(|id| json!({"id": id, "v": "v1"})).collect();
        let kustomization = json!({"status": {"inventory": {"entries": entries}}});
        for (target, listed) in [
            (target("apps/", "Deployment", Some("prod"), "api"), true),
            (target("rbac.authorization.k8s.io/", "ClusterRole", None, "a:b"), true),
            (target("", "ConfigMap", Some("prod"), "s"), true),
            (target("", "ConfigMap", Some("dev"), "s"), false),
            (target("apps/", "StatefulSet", Some("prod"), "api"), false),
        ] {
            assert_eq!(lists(&kustomization, &target), listed, "{target:?}");
            // What lives in another cluster is not this object, whatever it is called.
            let mut remote = kustomization.clone();
            remote["spec"] = json!({"kubeConfig": {"secretRef": {"name": "eu"}}});
            assert!(!lists(&remote, &target), "{target:?}");
        }
        assert!(!lists(&json!({}), &target("", "ConfigMap", Some("prod"), "s")));
    }
}
