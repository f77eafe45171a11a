//! Every kind that can be listed, each once, in the version that the server prefers.

use std::collections::BTreeSet;

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIGroup;
use kube::api::ApiResource;
use kube::core::discovery::v2::{APIGroupDiscovery, APIVersionDiscovery};

use crate::connect::Connection;
use crate::error::Result;
use crate::explain::{Doing, root_cause};
use crate::scan::PARALLEL;

/// A kind that can be listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its names.
    pub resource: ApiResource,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

impl Kind {
    /// `deployments.apps`.
    pub fn name(&self) -> String {
        dotted(&self.resource.plural, &self.resource.group)
    }

    /// A kind of the group apps, for tests.
    #[cfg(test)]
    pub fn in_apps(kind: &str) -> Self {
        let resource = ApiResource {
            group: "apps".into(),
            version: "v1".into(),
            api_version: "apps/v1".into(),
            kind: kind.into(),
            plural: format!("{}s", kind.to_lowercase()),
        };
        Self { resource, namespaced: true }
    }
}

/// `Deployment.apps`, `Pod`: a name and its group, if it has one.
pub fn dotted(name: &str, group: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") }
}

/// The kinds, and the groups that did not answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kinds {
    /// What can be listed.
    pub listable: Vec<Kind>,
    /// One sentence for each group whose kinds are unknown.
    pub failures: Vec<String>,
    /// Plural and group, seen in an earlier version.
    seen: BTreeSet<(String, String)>,
}

impl Kinds {
    /// Adds what one version of a group serves. Versions come in the server's order of preference: the first counts.
    fn add(&mut self, resource: ApiResource, namespaced: bool, verbs: &[String]) {
        let subresource = resource.plural.contains('/');
        if subresource || !verbs.iter().any(|verb| verb == "list") {
            return;
        }
        // Records and tokens carry labels of the same names; they are the ledger, not what it is about.
        if resource.group == breakglass::api::GROUP && resource.plural != "breakglasspolicies" {
            return;
        }
        if self.seen.insert((resource.plural.clone(), resource.group.clone())) {
            self.listable.push(Kind { resource, namespaced });
        }
    }

    fn add_group(&mut self, group: APIGroupDiscovery) {
        let name = group.metadata.and_then(|metadata| metadata.name).unwrap_or_default();
        for version in group.versions {
            self.add_version(&name, version);
        }
    }

    fn add_version(&mut self, group: &str, version: APIVersionDiscovery) {
        let number = version.version.unwrap_or_default();
        if version.freshness.as_deref() == Some("Stale") {
            let name = if group.is_empty() { number.clone() } else { format!("{group}/{number}") };
            self.failures.push(format!("the kinds of {name} may be missing: its API server does not answer"));
        }
        for resource in version.resources {
            let Some(plural) = resource.resource else { continue };
            let kind = resource.response_kind.unwrap_or_default();
            // Some kinds are served under one group and answer as another; the URL is the group's.
            let resource_of = ApiResource {
                group: group.to_owned(),
                version: number.clone(),
                api_version: if group.is_empty() { number.clone() } else { format!("{group}/{number}") },
                kind: kind.kind.unwrap_or_else(|| plural.clone()),
                plural,
            };
            self.add(resource_of, resource.scope.as_deref() == Some("Namespaced"), &resource.verbs);
        }
    }
}

/// Asks the server which kinds it serves: in two requests where it can say it all at once, else group by group.
///
/// # Errors
/// When the server does not answer at all.
pub async fn discover(cluster: &Connection) -> Result<Kinds> {
    let doing = Doing::Asking("which kinds there are");
    let mut kinds = Kinds::default();
    let (core, groups) = futures::join!(
        cluster.ask(doing, cluster.client.list_core_api_versions_aggregated()),
        cluster.ask(doing, cluster.client.list_api_groups_aggregated())
    );
    // A server that does not know the question answers another one, in which nothing is found.
    match (core, groups) {
        (Ok(core), Ok(groups)) if !core.items.is_empty() && !groups.items.is_empty() => {
            core.items.into_iter().chain(groups.items).for_each(|group| kinds.add_group(group));
        }
        _ => one_by_one(cluster, &mut kinds).await?,
    }
    Ok(kinds)
}

/// As servers before 1.30 want to be asked, and those whose answer was not understood.
async fn one_by_one(cluster: &Connection, kinds: &mut Kinds) -> Result<()> {
    let doing = Doing::Asking("which kinds there are");
    let core = cluster.ask(doing, cluster.client.list_core_api_versions()).await?;
    let groups = cluster.ask(doing, cluster.client.list_api_groups()).await?;
    let versions = core.versions.into_iter().chain(groups.groups.into_iter().flat_map(preferred_first));
    let answers: Vec<_> = futures::stream::iter(versions)
        .map(|version| async move {
            let answer = if version.contains('/') {
                cluster.bounded(cluster.client.list_api_group_resources(&version)).await
            } else {
                cluster.bounded(cluster.client.list_core_api_resources(&version)).await
            };
            (version, answer)
        })
        .buffered(PARALLEL)
        .collect()
        .await;
    for (version, answer) in answers {
        let list = match answer {
            Some(Ok(list)) => list,
            Some(Err(error)) => {
                kinds.failures.push(format!("the kinds of {version} are unknown: {}", root_cause(&error)));
                continue;
            }
            None => {
                kinds.failures.push(format!("the kinds of {version} are unknown: no answer in time"));
                continue;
            }
        };
        let (group, number) = version.split_once('/').unwrap_or(("", &version));
        for resource in list.resources {
            let names = ApiResource {
                group: group.to_owned(),
                version: number.to_owned(),
                api_version: version.clone(),
                kind: resource.kind,
                plural: resource.name,
            };
            kinds.add(names, resource.namespaced, &resource.verbs);
        }
    }
    Ok(())
}

fn preferred_first(group: APIGroup) -> Vec<String> {
    let preferred = group.preferred_version.map(|version| version.group_version);
    let mut versions: Vec<String> = group.versions.into_iter().map(|version| version.group_version).collect();
    versions.sort_by_key(|version| Some(version) != preferred.as_ref());
    versions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_listed_once_and_only_if_it_can_be() {
        let group: APIGroupDiscovery = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "apps"},
            "versions": [
                {"version": "v1", "resources": [
                    {"resource": "deployments", "responseKind": {"group": "apps", "version": "v1", "kind": "Deployment"},
                        "scope": "Namespaced", "verbs": ["get", "list"],
                        "subresources": [{"subresource": "scale", "verbs": ["get"]}]},
                    {"resource": "tickets", "scope": "Cluster", "verbs": ["create"]}]},
                {"version": "v1beta1", "freshness": "Stale", "resources": [
                    {"resource": "deployments", "scope": "Namespaced", "verbs": ["list"]},
                    {"resource": "oldies", "scope": "Cluster", "verbs": ["list"]}]}],
        }))
        .unwrap();
        let mut kinds = Kinds::default();
        kinds.add_group(group);
        let found: Vec<_> =
            kinds.listable.iter().map(|kind| (kind.name(), kind.resource.version.as_str(), kind.namespaced)).collect();
        assert_eq!(found, [("deployments.apps".to_owned(), "v1", true), ("oldies.apps".to_owned(), "v1beta1", false)]);
        assert_eq!(kinds.failures, ["the kinds of apps/v1beta1 may be missing: its API server does not answer"]);
    }
}
