//! Metadata: the part of an object by which it is told who made it, and who has written to it since.

use std::collections::BTreeMap;

use breakglass::api::{Target, Timestamp};
use breakglass::engine::Owner;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::discover::Kind;

/// The managers of what Kubernetes itself runs: the names of its programs, which they write under (apiserver
/// pkg/endpoints/handlers/create.go prefixFromUserAgent).
const CONTROL_PLANE: [&str; 5] =
    ["kube-controller-manager", "kube-apiserver", "kube-scheduler", "kubelet", "cloud-controller-manager"];

/// What is read of an object's metadata.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
    creation_timestamp: Option<Timestamp>,
    managed_fields: Option<Vec<Entry>>,
}

/// One entry of managedFields.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Entry {
    /// The name that the client gave.
    pub manager: String,
    /// `Apply` or `Update`.
    pub operation: String,
    /// The subresource that was written to.
    pub subresource: String,
    /// When something in it changed last.
    pub time: Option<Timestamp>,
    /// What is the manager's, unread: it may be deeper than one can read.
    pub fields_v1: Option<Box<RawValue>>,
}

impl Entry {
    /// Whether a part of Kubernetes wrote it, by the name that it gave.
    pub fn is_control_plane(&self) -> bool {
        CONTROL_PLANE.contains(&self.manager.as_str())
    }
}

impl Metadata {
    /// The object, by its names; nothing for what is not stored, and has no uid.
    pub fn target(&self, kind: &Kind) -> Option<Target> {
        Some(Target {
            api_version: kind.resource.api_version.clone(),
            kind: kind.resource.kind.clone(),
            resource: kind.resource.plural.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone()?,
            uid: Some(self.uid.clone()?),
        })
    }

    /// Its name.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Its namespace.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// A label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// Its labels.
    pub fn labels(&self) -> BTreeMap<String, String> {
        self.labels.clone().unwrap_or_default()
    }

    /// An annotation, if it says something.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// When it was made.
    pub fn created(&self) -> Option<Timestamp> {
        self.creation_timestamp
    }

    /// Whether it was made for another object, as a pod is for its ReplicaSet.
    pub fn is_child(&self) -> bool {
        self.owner_references.as_ref().is_some_and(|owners| !owners.is_empty())
    }

    /// Who has written to it.
    pub fn entries(&self) -> &[Entry] {
        self.managed_fields.as_deref().unwrap_or_default()
    }

    /// The engine's object that it says owns it.
    pub fn claim(&self) -> Option<Owner> {
        let none = BTreeMap::new();
        Owner::of(self.labels.as_ref().unwrap_or(&none), self.annotations.as_ref().unwrap_or(&none))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn managed_fields_deeper_than_one_can_read_do_not_hide_the_object() {
        let deep = format!("{}{{}}{}", "{\"f:a\":".repeat(2_000), "}".repeat(2_000));
        let text = format!(
            r#"{{"name": "api", "uid": "u", "managedFields": [{{"manager": "any", "time": null, "fieldsV1": {deep}}}]}}"#
        );
        let metadata: Metadata = serde_json::from_str(&text).unwrap();
        assert_eq!(metadata.entries()[0].fields_v1.as_ref().unwrap().get(), deep);
        assert!(metadata.target(&Kind::in_apps("Deployment")).is_some());
    }
}
