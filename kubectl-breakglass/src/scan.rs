//! Every object that carries a stamp: one LIST a kind, by our label, metadata only.

use std::collections::{BTreeMap, BTreeSet};

use breakglass::stamp;
use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DynamicObject, ListParams, Request};
use kube::core::ListMeta;
use serde::Deserialize;
use tokio::sync::OnceCell;

use crate::connect::Connection;
use crate::discover::{Kind, Kinds};
use crate::explain::root_cause;
use crate::rights::Rights;

/// How many objects a page has, as with kubectl.
pub const PAGE: u32 = 500;

/// How many kinds are listed at a time: enough to hide the way to the server, too few to trouble it.
pub const PARALLEL: usize = 16;

/// An object that carries a stamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamped {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace, if it lives in one.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// What the stamp says.
    pub annotations: BTreeMap<&'static str, String>,
    /// What the label says.
    pub state: String,
}

/// Where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Where {
    /// Everywhere that I may.
    Everywhere,
    /// In these namespaces.
    In(Vec<String>),
}

/// What a scan found, and what it could not see.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// Objects with a stamp, each once.
    pub stamped: Vec<Stamped>,
    /// Kinds that I may not list everywhere.
    pub unreadable: BTreeSet<String>,
    /// One sentence for each kind that could not be listed for another reason.
    pub failures: Vec<String>,
}

/// Lists every kind.
pub async fn scan(cluster: &Connection, kinds: &Kinds, place: &Where, selector: &str) -> Scan {
    let mut scan = Scan { failures: kinds.failures.clone(), ..Scan::default() };
    // Asked for once, and only when a kind may not be listed everywhere.
    let rights = OnceCell::new();
    let kinds = kinds.listable.iter().filter(|kind| kind.namespaced || *place == Where::Everywhere);
    let found: Vec<Scan> = futures::stream::iter(kinds)
        .map(|kind| one_kind(cluster, kind, place, selector, &rights))
        .buffer_unordered(PARALLEL)
        .collect()
        .await;
    let mut uids = BTreeSet::new();
    for one in found {
        // One object may be served under two groups, as Events are.
        scan.stamped.extend(one.stamped.into_iter().filter(|object| uids.insert(object.uid.clone())));
        scan.unreadable.extend(one.unreadable);
        scan.failures.extend(one.failures);
    }
    scan.failures.sort();
    scan
}

/// One kind: everywhere at once if I may, else in each namespace that I can see.
async fn one_kind(cluster: &Connection, kind: &Kind, place: &Where, selector: &str, rights: &OnceCell<Rights>) -> Scan {
    let mut scan = Scan::default();
    let api = Api::<DynamicObject>::all_with(cluster.client.clone(), &kind.resource);
    let namespaces: Vec<&str> = match place {
        Where::In(namespaces) => namespaces.iter().map(String::as_str).collect(),
        Where::Everywhere => match pages(cluster, &api, kind, selector, read).await {
            Err(Failure::Forbidden) => {
                scan.unreadable.insert(kind.name());
                if !kind.namespaced {
                    return scan;
                }
                rights.get_or_init(|| Rights::read(cluster)).await.where_listable(kind).collect()
            }
            outcome => {
                scan.take(kind, outcome);
                return scan;
            }
        },
    };
    for namespace in namespaces {
        let api = Api::<DynamicObject>::namespaced_with(cluster.client.clone(), namespace, &kind.resource);
        let outcome = pages(cluster, &api, kind, selector, read).await;
        scan.take(kind, outcome);
    }
    scan
}

/// The ReplicaSets that carry a copy of their Deployment's annotations. No stamp, and no label to find them by: only who takes
/// everything away asks for them.
pub async fn copies(cluster: &Connection, replica_sets: &Kind) -> Scan {
    let api = Api::<DynamicObject>::all_with(cluster.client.clone(), &replica_sets.resource);
    let mut scan = Scan::default();
    scan.take(replica_sets, pages(cluster, &api, replica_sets, "", copied).await);
    scan
}

impl Scan {
    /// Adds what another scan found.
    pub fn append(&mut self, other: Self) {
        self.stamped.extend(other.stamped);
        self.unreadable.extend(other.unreadable);
        self.failures.extend(other.failures);
    }

    fn take(&mut self, kind: &Kind, outcome: Result<Vec<Stamped>, Failure>) {
        match outcome {
            Ok(stamped) => self.stamped.extend(stamped),
            Err(Failure::Forbidden) => {
                self.unreadable.insert(kind.name());
            }
            Err(Failure::Gone) => {}
            Err(Failure::Other(why)) => self.failures.push(format!("{} could not be listed: {why}", kind.name())),
        }
    }
}

enum Failure {
    Forbidden,
    Gone,
    Other(String),
}

/// All pages of one LIST, each object read by `read`.
async fn pages(
    cluster: &Connection,
    api: &Api<DynamicObject>,
    kind: &Kind,
    selector: &str,
    read: fn(&Kind, Metadata) -> Option<Stamped>,
) -> Result<Vec<Stamped>, Failure> {
    let mut params = ListParams::default().labels(selector).limit(PAGE);
    let mut stamped = Vec::new();
    let mut restarted = false;
    loop {
        let page = match cluster.patiently(|| list(cluster, api, &params)).await {
            Some(Ok(page)) => page,
            None => return Err(Failure::Other("no answer in time".to_owned())),
            Some(Err(kube::Error::Api(status))) => match status.code {
                403 => return Err(Failure::Forbidden),
                // Gone a moment ago, a CRD for one; or it cannot be listed after all, whatever discovery says.
                404 | 405 => return Err(Failure::Gone),
                // The list grew old while it was read: from the start, once.
                410 if !restarted => {
                    restarted = true;
                    stamped.clear();
                    params.continue_token = None;
                    continue;
                }
                _ => return Err(Failure::Other(status.message)),
            },
            Some(Err(error)) => return Err(Failure::Other(root_cause(&error))),
        };
        stamped.extend(page.items.unwrap_or_default().into_iter().filter_map(|object| read(kind, object.metadata)));
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            return Ok(stamped);
        }
    }
}

/// The part of a LIST that is read here. managedFields are passed over without a look: they are as deep as the object, and
/// one that is deeper than 128 levels would make the whole kind unreadable.
#[derive(Deserialize)]
struct Page {
    metadata: ListMeta,
    /// Go writes none as null.
    items: Option<Vec<Listed>>,
}

#[derive(Deserialize)]
struct Listed {
    metadata: Metadata,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
}

async fn list(cluster: &Connection, api: &Api<DynamicObject>, params: &ListParams) -> kube::Result<Page> {
    let request = Request::new(api.resource_url()).list_metadata(params).map_err(kube::Error::BuildRequest)?;
    cluster.client.request(request).await
}

/// Reads the stamp of an object, if it is one.
///
/// The label alone is none: Endpoints and EndpointSlices copy the labels of their Service, metrics those of their pod.
/// A ReplicaSet under a Deployment has copies of its annotations.
fn read(kind: &Kind, metadata: Metadata) -> Option<Stamped> {
    let owners = metadata.owner_references.unwrap_or_default();
    let copied = kind.resource.kind == "ReplicaSet"
        && owners.iter().any(|owner| owner.controller == Some(true) && owner.kind == "Deployment");
    let (annotations, labels) = (metadata.annotations.unwrap_or_default(), metadata.labels.unwrap_or_default());
    let keys = stamp::Keys::of(&annotations, &labels);
    if copied || keys.annotation(stamp::USER).is_none() {
        return None;
    }
    Some(Stamped {
        kind: kind.clone(),
        namespace: metadata.namespace,
        name: metadata.name?,
        // What has no uid is not stored: it is computed from something that is.
        uid: metadata.uid?,
        state: keys.labels.get(stamp::STATE)?.clone(),
        annotations: keys.annotations,
    })
}

/// Reads the annotations of an object that are ours, whoever put them there.
fn copied(kind: &Kind, metadata: Metadata) -> Option<Stamped> {
    let (annotations, labels) = (metadata.annotations.unwrap_or_default(), metadata.labels.unwrap_or_default());
    let keys = stamp::Keys::of(&annotations, &labels);
    if keys.is_empty() {
        return None;
    }
    Some(Stamped {
        kind: kind.clone(),
        namespace: metadata.namespace,
        name: metadata.name?,
        uid: metadata.uid?,
        state: keys.labels.get(stamp::STATE).cloned().unwrap_or_default(),
        annotations: keys.annotations,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_annotations_and_label_on_an_object_of_its_own() {
        let metadata = |owner: Option<&str>, uid: Option<&str>, user: Option<&str>| -> Metadata {
            let mut metadata = serde_json::json!({"name": "api", "namespace": "prod", "uid": uid,
                "labels": {"breakglass.dev/state": "pending"}});
            if let Some(user) = user {
                metadata["annotations"] = serde_json::json!({"breakglass.dev/user": user});
            }
            if let Some(owner) = owner {
                metadata["ownerReferences"] = serde_json::json!([
                    {"apiVersion": "apps/v1", "kind": owner, "name": "api", "uid": "o", "controller": true}]);
            }
            serde_json::from_value(metadata).unwrap()
        };
        let (alice, uid) = (Some("alice@example.com"), Some("u"));
        for (name, metadata, expected) in [
            ("Deployment", metadata(None, uid, alice), true),
            ("ReplicaSet", metadata(Some("Deployment"), uid, alice), false),
            ("ReplicaSet", metadata(None, uid, alice), true),
            ("Deployment", metadata(Some("Fleet"), uid, alice), true),
            ("EndpointSlice", metadata(Some("Service"), uid, None), false),
            ("PodMetrics", metadata(None, None, alice), false),
        ] {
            assert_eq!(read(&Kind::in_apps(name), metadata.clone()).is_some(), expected, "{name} {metadata:?}");
        }
    }
}
