//! Every object that carries a stamp: found by our label, read from its metadata.

use std::collections::BTreeMap;

use breakglass::stamp::{self, Keys};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde::Deserialize;

use crate::connect::Connection;
use crate::discover::{Kind, Kinds};
use crate::scan::{Look, Scan, Where, scan};

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

/// Lists every object with a stamp, of those that the selector selects.
pub async fn stamped(cluster: &Connection, kinds: &Kinds, place: &Where, selector: &str) -> Scan<Stamped> {
    scan(cluster, kinds, place, &Stamps { selector, read }).await
}

/// The ReplicaSets that carry a copy of their Deployment's annotations. No stamp, and no label to find them by: only who takes
/// everything away asks for them.
pub async fn copies(cluster: &Connection, replica_sets: &Kind) -> Scan<Stamped> {
    let mut kinds = Kinds::default();
    kinds.listable.push(replica_sets.clone());
    scan(cluster, &kinds, &Where::Everywhere, &Stamps { selector: "", read: copied }).await
}

struct Stamps<'s> {
    selector: &'s str,
    read: fn(&Kind, Metadata) -> Option<Stamped>,
}

impl Look for Stamps<'_> {
    type Metadata = Metadata;
    type Found = Stamped;

    fn selector(&self) -> &str {
        self.selector
    }

    fn look(&self, kind: &Kind, metadata: Metadata) -> Option<Stamped> {
        (self.read)(kind, metadata)
    }

    fn uid(found: &Stamped) -> &str {
        &found.uid
    }
}

/// The part of an object that is read here. managedFields are passed over without a look: they are as deep as the object, and
/// one that is deeper than 128 levels would make the whole kind unreadable.
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

/// Reads the stamp of an object, if it is one.
///
/// The label alone is none: Endpoints and EndpointSlices copy the labels of their Service, metrics those of their pod.
/// A ReplicaSet under a Deployment has copies of its annotations.
fn read(kind: &Kind, metadata: Metadata) -> Option<Stamped> {
    let owners = metadata.owner_references.as_deref().unwrap_or_default();
    let copied = kind.resource.kind == "ReplicaSet"
        && owners.iter().any(|owner| owner.controller == Some(true) && owner.kind == "Deployment");
    let keys = metadata.keys();
    if copied || keys.annotation(stamp::USER).is_none() {
        return None;
    }
    let state = keys.labels.get(stamp::STATE)?.clone();
    metadata.stamped(kind, keys, state)
}

/// Reads the annotations of an object that are ours, whoever put them there.
fn copied(kind: &Kind, metadata: Metadata) -> Option<Stamped> {
    let keys = metadata.keys();
    if keys.is_empty() {
        return None;
    }
    let state = keys.labels.get(stamp::STATE).cloned().unwrap_or_default();
    metadata.stamped(kind, keys, state)
}

impl Metadata {
    /// What is ours on the object.
    fn keys(&self) -> Keys {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        Keys::of(self.annotations.as_ref().unwrap_or(&NONE), self.labels.as_ref().unwrap_or(&NONE))
    }

    fn stamped(self, kind: &Kind, keys: Keys, state: String) -> Option<Stamped> {
        Some(Stamped {
            kind: kind.clone(),
            namespace: self.namespace,
            name: self.name?,
            // What has no uid is not stored: it is computed from something that is.
            uid: self.uid?,
            state,
            annotations: keys.annotations,
        })
    }
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
