//! Asks the cluster where an object comes from.

use breakglass::api::Target;
use breakglass::engine::inventory;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use serde_json::Value;

use super::{Applied, Origin, Repository, SourceRef, claim, is_kustomization};
use crate::connect::Connection;
use crate::error::Result;
use crate::explain::Doing;
use crate::print::object;
use crate::scan::PAGE;

/// Where the object comes from: as it is now, or, of one that is gone, as it was.
///
/// The Kustomization that its labels name is asked first; all of them where that one does not list it.
///
/// # Errors
/// When Kustomizations may not be read, or the cluster does not answer.
pub async fn origin(cluster: &Connection, target: &Target, object: Option<&Value>) -> Result<Origin> {
    if let Some(claim) = object.and_then(claim).filter(is_kustomization)
        && let Some(namespace) = &claim.namespace
        && let Some(claimed) = get(cluster, &kustomizations(), (namespace, &claim.name)).await?
    {
        let origin = Origin::of(target, object, &[claimed]);
        if origin.applied_by.is_some() {
            return Ok(origin);
        }
    }
    Ok(Origin::of(target, object, &all(cluster).await?))
}

/// Every Kustomization that applies to this cluster from a Git repository.
///
/// # Errors
/// When Kustomizations may not be read, or the cluster does not answer.
pub async fn applied_from_git(cluster: &Connection) -> Result<Vec<Applied>> {
    let all = all(cluster).await?;
    let applied = all.iter().filter(|kustomization| inventory::applies_here(kustomization)).filter_map(Applied::of);
    Ok(applied.filter(|applied| applied.source.kind == "GitRepository").collect())
}

/// The repository behind a source; `None` where there is no such GitRepository, or it is another kind of source.
///
/// # Errors
/// When it may not be read, or the cluster does not answer.
pub async fn repository(cluster: &Connection, source: &SourceRef) -> Result<Option<Repository>> {
    let resource = flux("source", "GitRepository", "gitrepositories");
    if source.kind != resource.kind {
        return Ok(None);
    }
    Ok(get(cluster, &resource, (&source.namespace, &source.name)).await?.as_ref().and_then(Repository::of))
}

/// Every Kustomization; none where Flux is not there.
async fn all(cluster: &Connection) -> Result<Vec<Value>> {
    let api = Api::<DynamicObject>::all_with(cluster.client.clone(), &kustomizations());
    let mut params = ListParams::default().limit(PAGE);
    let mut found = Vec::new();
    loop {
        let page = async || match api.list(&params).await {
            Ok(page) => Ok(Some(page)),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
            Err(error) => Err(error),
        };
        let doing = Doing::Asking("which Kustomization of Flux applies it");
        let Some(page) = cluster.ask_again(doing, page).await? else { return Ok(found) };
        for kustomization in &page.items {
            found.push(object::value(kustomization)?);
        }
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            return Ok(found);
        }
    }
}

async fn get(cluster: &Connection, resource: &ApiResource, (namespace, name): (&str, &str)) -> Result<Option<Value>> {
    let api = Api::<DynamicObject>::namespaced_with(cluster.client.clone(), namespace, resource);
    let found = cluster.ask_again(Doing::Asking("Flux where the object comes from"), || api.get_opt(name)).await?;
    found.as_ref().map(object::value).transpose()
}

fn kustomizations() -> ApiResource {
    flux("kustomize", "Kustomization", "kustomizations")
}

fn flux(group: &str, kind: &str, plural: &str) -> ApiResource {
    let (group, version) = (format!("{group}.toolkit.fluxcd.io"), "v1".to_owned());
    let api_version = format!("{group}/{version}");
    ApiResource { group, version, api_version, kind: kind.to_owned(), plural: plural.to_owned() }
}
