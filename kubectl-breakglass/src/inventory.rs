//! Inventory: everything that engines say they have applied to this cluster.

use std::collections::{BTreeSet, HashMap};

use breakglass::api::Target;
use breakglass::engine::{Owner, inventory as list};
use kube::api::{Api, DynamicObject, ListParams};
use serde_json::Value;

use crate::connect::Connection;
use crate::discover::Kinds;
use crate::error::Result;
use crate::explain::Doing;
use crate::scan::PAGE;

/// The kinds that list what they have applied.
const KEEPERS: [(&str, &str); 3] = [
    ("kustomize.toolkit.fluxcd.io", "Kustomization"),
    ("helm.toolkit.fluxcd.io", "HelmRelease"),
    ("argoproj.io", "Application"),
];

/// How an Application names the cluster that Argo CD runs in (argo-cd pkg/apis/application/v1alpha1, KubernetesInternalAPIServerAddr).
const HERE: [&str; 2] = ["https://kubernetes.default.svc", "in-cluster"];

/// What engines have applied.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// Who lists an object: a place in `keepers`.
    listed: HashMap<String, usize>,
    /// `Kustomization flux-system/prod`, …
    keepers: Vec<String>,
    /// Those that keep no list, so that the marks of an object are all there is: charts, of Flux before 2.7.
    listless: BTreeSet<String>,
    /// Kinds of keepers that I may not read: there, the marks of an object are believed.
    pub unreadable: BTreeSet<&'static str>,
}

impl Inventory {
    /// Whether no engine is here, or none that has applied anything.
    fn is_empty(&self) -> bool {
        self.keepers.is_empty() && self.unreadable.is_empty()
    }

    /// What a person should know of how much a list is worth that was made by it, where this many kinds could not be read.
    pub fn doubts(&self, unreadable: usize) -> Vec<String> {
        let mut doubts = Vec::new();
        if self.is_empty() {
            doubts.push(
                "no engine here says that it has applied anything: neither Flux nor Argo CD owns an object".to_owned(),
            );
        }
        let believed =
            |kind| format!("you may not read every {kind}: who is labelled as the object of one is believed");
        doubts.extend(self.unreadable.iter().map(believed));
        match unreadable {
            0 => {}
            1 => doubts.push("1 kind is not readable everywhere with your rights: some may be missing".to_owned()),
            more => {
                doubts.push(format!("{more} kinds are not readable everywhere with your rights: some may be missing"))
            }
        }
        doubts
    }

    /// The engine's object that an object is owned by: the one that lists it, or, where there is no list, the one that it names.
    pub fn owner(&self, target: &Target, claim: Option<&Owner>) -> Option<String> {
        if let Some(keeper) = self.listed.get(&list::id(target)) {
            return self.keepers.get(*keeper).cloned();
        }
        let claim = claim?;
        let name = claim.to_string();
        (self.listless.contains(&name) || self.unreadable.contains(claim.kind)).then_some(name)
    }

    /// One Kustomization that lists these, for tests.
    #[cfg(test)]
    pub fn of_flux(ids: &[&str]) -> Self {
        let mut inventory = Self::default();
        let entries: Vec<Value> = ids.iter().map(|id| serde_json::json!({"id": id, "v": "v1"})).collect();
        let keeper = serde_json::json!({"metadata": {"namespace": "flux-system", "name": "prod"},
            "status": {"inventory": {"entries": entries}}});
        inventory.add("Kustomization", &keeper);
        inventory
    }

    /// Takes in what one keeper lists.
    fn add(&mut self, kind: &str, keeper: &Value) {
        let text = |pointer: &str| keeper.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let destination = ["/spec/destination/server", "/spec/destination/name"].map(text);
        let elsewhere = match kind {
            "Application" => !destination.iter().any(|name| HERE.contains(name)),
            _ => !list::applies_here(keeper),
        };
        // What it has applied is in another cluster.
        if elsewhere {
            return;
        }
        let name = format!("{kind} {}/{}", text("/metadata/namespace"), text("/metadata/name"));
        let place = self.keepers.len();
        let ids: Option<Vec<String>> = match kind {
            "Application" => keeper
                .pointer("/status/resources")
                .and_then(Value::as_array)
                .map(|list| list.iter().filter_map(id_of_resource).collect()),
            _ => {
                let entries = keeper.pointer("/status/inventory/entries").and_then(Value::as_array);
                entries.map(|list| list.iter().filter_map(|entry| entry["id"].as_str().map(str::to_owned)).collect())
            }
        };
        match ids {
            Some(ids) => self.listed.extend(ids.into_iter().map(|id| (id, place))),
            None if kind == "HelmRelease" => {
                self.listless.insert(name.clone());
            }
            None => {}
        }
        self.keepers.push(name);
    }
}

/// An object that an Application lists, under the name that Flux would give it.
fn id_of_resource(resource: &Value) -> Option<String> {
    let text = |field: &str| resource.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let group = text("group");
    let api_version = if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") };
    let target = Target {
        api_version,
        kind: resource.get("kind")?.as_str()?.to_owned(),
        resource: String::new(),
        namespace: Some(text("namespace")).filter(|namespace| !namespace.is_empty()),
        name: resource.get("name")?.as_str()?.to_owned(),
        uid: None,
    };
    Some(list::id(&target))
}

/// Reads the inventories of every engine that the server knows the kinds of.
///
/// # Errors
/// When the cluster does not answer. What may not be read is said in the inventory.
pub async fn inventory(cluster: &Connection, kinds: &Kinds) -> Result<Inventory> {
    let mut inventory = Inventory::default();
    for (group, name) in KEEPERS {
        let is_it = |resource: &kube::api::ApiResource| resource.group == group && resource.kind == name;
        let Some(kind) = kinds.listable.iter().find(|kind| is_it(&kind.resource)) else { continue };
        let api = Api::<DynamicObject>::all_with(cluster.client.clone(), &kind.resource);
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let page = async || match api.list(&params).await {
                Ok(page) => Ok(Some(page)),
                Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(None),
                Err(error) => Err(error),
            };
            let Some(page) = cluster.ask_again(Doing::Asking("what engines have applied"), page).await? else {
                inventory.unreadable.insert(name);
                break;
            };
            for keeper in page.items {
                inventory.add(name, &serde_json::to_value(keeper).unwrap_or_default());
            }
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                break;
            }
        }
    }
    Ok(inventory)
}

#[cfg(test)]
mod tests {
    use breakglass::engine::Engine;
    use serde_json::json;

    use super::*;

    fn target(name: &str) -> Target {
        Target {
            api_version: "apps/v1".to_owned(),
            kind: "Deployment".to_owned(),
            resource: "deployments".to_owned(),
            namespace: Some("prod".to_owned()),
            name: name.to_owned(),
            uid: None,
        }
    }

    fn claim(engine: Engine, kind: &'static str, name: &str) -> Owner {
        Owner { engine, kind, namespace: Some("apps".to_owned()), name: name.to_owned() }
    }

    fn listing(name: &str, ids: &[&str]) -> Value {
        let entries: Vec<Value> = ids.iter().map(|id| json!({"id": id, "v": "v1"})).collect();
        json!({"metadata": {"namespace": "apps", "name": name}, "spec": {}, "status": {"inventory": {"entries": entries}}})
    }

    fn application(name: &str, server: &str) -> Value {
        json!({"metadata": {"namespace": "argocd", "name": name}, "spec": {"destination": {"server": server}},
            "status": {"resources": [{"group": "apps", "kind": "Deployment", "namespace": "prod", "name": name},
                {"kind": "Namespace", "name": "prod", "version": "v1"}]}})
    }

    #[test]
    fn an_object_is_owned_by_who_lists_it_and_not_by_whom_it_names() {
        let mut inventory = Inventory::default();
        assert!(inventory.doubts(1)[0].starts_with("no engine here"));
        inventory.add("Kustomization", &listing("prod", &["prod_api_apps_Deployment", "prod_x__ConfigMap"]));
        inventory.add("HelmRelease", &json!({"metadata": {"namespace": "apps", "name": "old"}, "spec": {}}));
        inventory.add("HelmRelease", &listing("new", &["prod_chart_apps_Deployment"]));
        inventory.add("Application", &application("shop", "https://kubernetes.default.svc"));
        inventory.add("Application", &application("far", "https://eu.example.com"));
        let mut remote = listing("remote", &["prod_remote_apps_Deployment"]);
        remote["spec"] = json!({"kubeConfig": {"secretRef": {"name": "eu"}}});
        inventory.add("Kustomization", &remote);
        let (kustomization, release) = (
            |name: &str| Some(claim(Engine::Flux, "Kustomization", name)),
            |name: &str| Some(claim(Engine::Flux, "HelmRelease", name)),
        );
        for (name, claim, expected) in [
            ("api", None, Some("Kustomization apps/prod")),
            ("api", kustomization("other"), Some("Kustomization apps/prod")),
            ("chart", None, Some("HelmRelease apps/new")),
            ("shop", None, Some("Application argocd/shop")),
            ("far", None, None),
            ("remote", kustomization("remote"), None),
            // A label alone, where there is a list: it lies.
            ("mine", kustomization("prod"), None),
            ("mine", release("new"), None),
            // Where there is none, it is all there is; but the chart has to exist.
            ("mine", release("old"), Some("HelmRelease apps/old")),
            ("mine", release("gone"), None),
            ("mine", None, None),
        ] {
            assert_eq!(inventory.owner(&target(name), claim.as_ref()).as_deref(), expected, "{name} {claim:?}");
        }
        assert_eq!(inventory.doubts(0), Vec::<String>::new());
        inventory.unreadable.insert("Kustomization");
        let doubts = inventory.doubts(2);
        assert!(doubts[0].starts_with("you may not read every Kustomization") && doubts[1].starts_with("2 kinds are"));
        let believed = inventory.owner(&target("mine"), kustomization("prod").as_ref());
        assert_eq!(believed.as_deref(), Some("Kustomization apps/prod"));
    }
}
