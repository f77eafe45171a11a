//! The Kustomization of Flux that applies an object, as far as what we say and settle hangs on it.

use anyhow::{Context, Result};
use breakglass::api::{Span, Target};
use breakglass::engine::{self, Owner, inventory};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use serde_json::Value;

use crate::said::said;

/// What it says.
#[derive(Debug)]
pub struct Kustomization(Value);

impl Kustomization {
    /// How often it applies, as it is written.
    pub fn interval(&self) -> Option<&str> {
        self.0.pointer("/spec/interval")?.as_str()
    }

    /// The same as a length; `None` where it is written in a way that we do not read.
    pub fn every(&self) -> Option<std::time::Duration> {
        self.interval()?.parse::<Span>().ok()?.delta().to_std().ok()
    }

    /// Whether somebody has it paused.
    pub fn is_suspended(&self) -> bool {
        self.0.pointer("/spec/suspend") == Some(&Value::Bool(true))
    }

    /// The commit that it applied last; `None` before it has applied any, or where its source is none of Git.
    pub fn commit(&self) -> Option<&str> {
        engine::commit(self.0.pointer("/status/lastAppliedRevision")?.as_str()?)
    }

    /// Whether it means to apply this object.
    pub fn lists(&self, target: &Target) -> bool {
        inventory::lists(&self.0, target)
    }
}

/// The Kustomization that `owner` names; `None` where it names something else, or there is none.
///
/// # Errors
/// Where the API server does not say.
pub async fn owned_by(client: &Client, owner: &Owner) -> Result<Option<Kustomization>> {
    let Some(namespace) = owner.namespace.as_deref().filter(|_| owner.kind == "Kustomization") else { return Ok(None) };
    let kind = GroupVersionKind::gvk("kustomize.toolkit.fluxcd.io", "v1", "Kustomization");
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk(&kind));
    let found = api.get_opt(&owner.name).await.map_err(said).context("reading the Kustomization")?;
    found.map(|object| serde_json::to_value(object).map(Kustomization).context("reading the Kustomization")).transpose()
}
