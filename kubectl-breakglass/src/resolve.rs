//! From a word that kubectl takes for a kind, short names included, to the kind that the server means.

use kube::api::ApiResource;
use kube::core::discovery::v2::APIGroupDiscovery;

use crate::connect::Connection;
use crate::discover::dotted;
use crate::error::{CommandError, Result};
use crate::explain::Doing;

/// A kind, whether or not it can be listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its names.
    pub resource: ApiResource,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

/// Asks the server which kind a word means.
///
/// # Errors
/// When no kind has that name, or the server does not answer.
pub async fn resolve(cluster: &Connection, word: &str) -> Result<Found> {
    let doing = Doing::Asking("which kinds there are");
    let (core, groups) = futures::join!(
        cluster.ask(doing, cluster.client.list_core_api_versions_aggregated()),
        cluster.ask(doing, cluster.client.list_api_groups_aggregated())
    );
    let groups: Vec<APIGroupDiscovery> = core?.items.into_iter().chain(groups?.items).collect();
    find(&groups, word)
        .ok_or_else(|| CommandError::usage(format!("the server has no kind {word:?}")).hint("kubectl api-resources"))
}

/// The first kind that has a name: its plural, its singular, its kind, a short name, or one of them with its group behind it.
/// Groups come in the server's order of preference, and so do their versions.
fn find(groups: &[APIGroupDiscovery], word: &str) -> Option<Found> {
    let word = word.to_lowercase();
    for group in groups {
        let name = group.metadata.as_ref().and_then(|metadata| metadata.name.clone()).unwrap_or_default();
        for version in &group.versions {
            let number = version.version.clone().unwrap_or_default();
            for resource in &version.resources {
                let plural = resource.resource.clone().unwrap_or_default();
                let kind = resource.response_kind.as_ref().and_then(|kind| kind.kind.clone()).unwrap_or_default();
                let names = [Some(plural.clone()), resource.singular_resource.clone(), Some(kind.to_lowercase())];
                let mut names = names.into_iter().flatten().chain(resource.short_names.iter().cloned());
                let is_it = |known: String| {
                    word == known
                        || word == dotted(&known, &name)
                        || word == format!("{known}.{number}.{name}").trim_end_matches('.')
                };
                if !names.any(is_it) {
                    continue;
                }
                let api_version = if name.is_empty() { number.clone() } else { format!("{name}/{number}") };
                let namespaced = resource.scope.as_deref() == Some("Namespaced");
                let resource = ApiResource { group: name, version: number, api_version, kind, plural };
                return Some(Found { resource, namespaced });
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_kind_is_found_by_every_name_that_kubectl_takes() {
        let resource = |plural: &str, singular: &str, kind: &str, short: &[&str], scope: &str| {
            json!({"resource": plural, "singularResource": singular, "responseKind": {"kind": kind}, "shortNames": short,
                "scope": scope, "verbs": ["get"]})
        };
        let groups = json!([
            {"metadata": {"name": ""}, "versions": [{"version": "v1", "resources": [
                resource("pods", "pod", "Pod", &["po"], "Namespaced"),
                resource("events", "event", "Event", &["ev"], "Namespaced")]}]},
            {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [
                resource("deployments", "deployment", "Deployment", &["deploy"], "Namespaced")]}]},
            {"metadata": {"name": "events.k8s.io"}, "versions": [{"version": "v1", "resources": [
                resource("events", "event", "Event", &["ev"], "Namespaced")]}]},
            {"metadata": {"name": "rbac.authorization.k8s.io"}, "versions": [{"version": "v1", "resources": [
                resource("clusterroles", "clusterrole", "ClusterRole", &[], "Cluster")]}]}]);
        let groups: Vec<APIGroupDiscovery> = serde_json::from_value(groups).unwrap();
        let named = |word: &str| {
            find(&groups, word).map(|found| (dotted(&found.resource.plural, &found.resource.group), found.namespaced))
        };
        let deployments = || Some(("deployments.apps".to_owned(), true));
        for word in ["deploy", "deployment", "Deployments", "Deployment", "deployments.apps", "deploy.v1.apps"] {
            assert_eq!(named(word), deployments(), "{word}");
        }
        assert_eq!(named("po"), Some(("pods".to_owned(), true)));
        assert_eq!(named("pod.v1"), Some(("pods".to_owned(), true)));
        assert_eq!(named("ev"), Some(("events".to_owned(), true)));
        assert_eq!(named("events.events.k8s.io"), Some(("events.events.k8s.io".to_owned(), true)));
        assert_eq!(named("ClusterRole"), Some(("clusterroles.rbac.authorization.k8s.io".to_owned(), false)));
        assert_eq!(named("deploys"), None);
    }
}
