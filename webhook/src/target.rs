//! The object of a change, as it is now.

use anyhow::{Context, Result};
use breakglass::api::Target;
use breakglass::engine::Owner;
use breakglass::stamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::follow::FIELD_MANAGER;
use crate::said::said;

/// What is there.
#[derive(Debug)]
pub struct Object {
    /// Its uid.
    pub uid: String,
    /// Its version.
    pub version: String,
    /// Whether it is on its way out.
    pub leaving: bool,
    /// Its annotations.
    pub annotations: std::collections::BTreeMap<String, String>,
    /// Which object of an engine its marks name.
    pub owner: Option<Owner>,
    /// What the label of its stamp says.
    pub state: Option<String>,
    /// Who scaled it last, as managedFields says.
    pub scaler: Option<String>,
    /// All of it, where that was asked for and can be read.
    pub body: Option<Value>,
}

impl Object {
    /// The change that its stamp names.
    pub fn change(&self) -> Option<&str> {
        self.annotations.get(stamp::CHANGE).map(String::as_str)
    }
}

/// Where objects like the target are.
pub fn api(client: &Client, target: &Target) -> Api<DynamicObject> {
    let resource = target.api_resource();
    match &target.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// What became of a patch that holds for one version of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patched {
    /// It is written.
    Done,
    /// Somebody else wrote first.
    Late,
    /// There is no such object.
    Gone,
}

/// Patches the metadata of the version that was looked at, and of no other: whoever writes meanwhile puts a stamp of their own on.
///
/// # Errors
/// Where the API server does not take it.
pub async fn patch(client: &Client, target: &Target, version: &str, mut metadata: Value) -> Result<Patched> {
    metadata["resourceVersion"] = version.into();
    let patch = Patch::Merge(json!({"metadata": metadata}));
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..Default::default() };
    match api(client, target).patch_metadata(&target.name, &params, &patch).await {
        Ok(_) => Ok(Patched::Done),
        Err(kube::Error::Api(status)) if status.is_conflict() => Ok(Patched::Late),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Patched::Gone),
        Err(error) => Err(said(error)),
    }
}

/// Looks at it; `None` where there is none. Only its metadata is asked for unless the `body` is needed: a Secret's values
/// never come here.
///
/// # Errors
/// Where the API server does not say, for want of rights too.
pub async fn look(client: &Client, target: &Target, body: bool) -> Result<Option<Object>> {
    if target.name.is_empty() {
        return Ok(None);
    }
    let api = api(client, target);
    let what = || format!("looking at {} {}", target.resource, target.name);
    let object = match body {
        true => api.get_opt(&target.name).await,
        false => api
            .get_metadata_opt(&target.name)
            .await
            .map(|found| found.map(|found| DynamicObject { types: None, metadata: found.metadata, data: Value::Null })),
    };
    let Some(object) = object.map_err(said).with_context(what)? else { return Ok(None) };
    Ok(Some(Object {
        uid: object.uid().unwrap_or_default(),
        version: object.resource_version().unwrap_or_default(),
        leaving: object.metadata.deletion_timestamp.is_some(),
        annotations: object.annotations().clone(),
        owner: Owner::of(object.labels(), object.annotations()),
        state: object.labels().get(stamp::STATE).cloned(),
        scaler: scaler(object.managed_fields()),
        body: if body { serde_json::to_value(&object).ok() } else { None },
    }))
}

/// The manager of the last write to the scale subresource. The call that lets a scale in is not told of it: a Scale carries
/// no managedFields there (registry/apps/deployment/storage scaleFromDeployment).
fn scaler(entries: &[ManagedFieldsEntry]) -> Option<String> {
    let scales = entries.iter().filter(|entry| entry.subresource.as_deref() == Some("scale"));
    let last = scales.max_by_key(|entry| entry.time.as_ref().map(|time| time.0));
    last.and_then(|entry| entry.manager.clone())
}
