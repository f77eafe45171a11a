//! The parent of a scale: a Scale carries no annotations of its own, so the scaled object is stamped right after, by us.

use std::time::Duration;

use anyhow::{Context, Result};
use breakglass::api::{BreakglassChange, Target, Timestamp};
use breakglass::engine::{HOLD, Owner};
use breakglass::record::{self, FOLLOWS};
use breakglass::stamp::{self, Keys, Stamp};
use breakglass::write::Write;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::said::said;
use crate::target::{self, Patched};

/// When a scale that needs no token is looked for, in milliseconds after the answer.
const LOOKS: [u64; 7] = [5, 20, 50, 100, 200, 500, 1_000];

/// A scaled object, the number it was scaled to, and the stamp that says so.
#[derive(Clone, Debug)]
pub struct Parent {
    target: Target,
    replicas: i64,
    /// The version that was scaled; unknown for what the leader takes up later.
    version: Option<String>,
    keys: Keys,
    time: Timestamp,
}

impl Parent {
    /// Of a scale on record.
    pub fn of_change(change: &BreakglassChange) -> Self {
        let spec = &change.spec;
        let before = spec.before.as_ref().and_then(|before| before.pointer("/spec/replicas")).and_then(Value::as_i64);
        let step = spec.patch.iter().find(|step| step.path == "/spec/replicas");
        // Zero is left out of a Scale.
        let replicas = match step {
            Some(step) => step.value.as_ref().and_then(Value::as_i64).unwrap_or(0),
            None => before.unwrap_or(0),
        };
        let stamp = Stamp::of_change(&change.name_any(), spec);
        Self { target: spec.target.clone(), replicas, version: None, keys: stamp.keys(), time: spec.time }
    }

    /// Of a scale that needs no token, with the stamp that says who scaled.
    pub fn of_write(write: &Write<'_>, stamp: &Stamp) -> Option<Self> {
        let before = &write.before.as_ref()?.metadata;
        let after: Value = serde_json::from_str(write.after.as_ref()?.raw.get()).ok()?;
        let replicas = after.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0);
        let version = Some(before.resource_version.clone());
        Some(Self { target: record::target(write), replicas, version, keys: stamp.keys(), time: stamp.time })
    }
}

/// Stamps the parent in the background, once the scale is seen.
pub fn stamp_later(client: Client, parent: Parent) {
    tokio::spawn(async move {
        for pause in LOOKS {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let stamped = async {
                match scaled(&client, &parent).await? {
                    Sight::Scaled(scaled) => stamp(&client, *scaled, None).await,
                    Sight::Moving | Sight::Otherwise => Ok(false),
                }
            };
            match stamped.await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!("stamping {} {}: {error:#}", parent.target.resource, parent.target.name),
            }
        }
    });
}

/// What is to be seen of a scale.
#[derive(Debug)]
pub enum Sight<'p> {
    /// The parent is scaled so.
    Scaled(Box<Scaled<'p>>),
    /// It is, and somebody writes to it at this moment.
    Moving,
    /// It is not scaled so.
    Otherwise,
}

/// A parent that was seen scaled, as it was then.
#[derive(Debug)]
pub struct Scaled<'p> {
    parent: &'p Parent,
    found: target::Object,
}

/// Looks whether the scale is to be seen.
///
/// # Errors
/// Where the API server does not say.
pub async fn scaled<'p>(client: &Client, parent: &'p Parent) -> Result<Sight<'p>> {
    let api = target::api(client, &parent.target);
    let scale = match api.get_subresource("scale", &parent.target.name).await {
        Ok(scale) => scale,
        Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(Sight::Otherwise),
        Err(error) => return Err(said(error)).context("reading the scale"),
    };
    let replicas = scale.data.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0);
    let version = scale.resource_version();
    if replicas != parent.replicas || scale.uid() != parent.target.uid || version == parent.version {
        return Ok(Sight::Otherwise);
    }
    let found = target::look(client, &parent.target, false).await?;
    Ok(match found.filter(|found| Some(&found.version) == version.as_ref()) {
        Some(found) => Sight::Scaled(Box::new(Scaled { parent, found })),
        None => Sight::Moving,
    })
}

/// Stamps the parent of a scale that was seen; false where it has changed since.
///
/// # Errors
/// Where the API server refuses the stamp.
pub async fn stamp(client: &Client, scaled: Scaled<'_>, change: Option<&BreakglassChange>) -> Result<bool> {
    let Scaled { parent, found } = scaled;
    let present = Keys::of(&found.annotations, &Default::default());
    if Stamp::time_in(&present).is_some_and(|time| time.instant() > parent.time.instant()) {
        // Somebody has written since: theirs is the stamp that holds.
        return Ok(true);
    }
    if let (Some(change), Some(follows)) = (change, found.change()) {
        let changes: Api<BreakglassChange> = Api::all(client.clone());
        let patch = json!({"metadata": {"annotations": {FOLLOWS: follows}}});
        let linked = changes.patch_metadata(&change.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await;
        linked.map_err(said).context("linking the change to the one before")?;
    }
    let value = |key: &str| match parent.keys.annotation(key) {
        Some("") if key == stamp::MANAGER => json!(found.scaler.as_deref().unwrap_or_default()),
        value => json!(value),
    };
    let mut annotations: serde_json::Map<String, Value> =
        stamp::ANNOTATIONS.iter().map(|&key| (key.to_owned(), value(key))).collect();
    let can_be_held = found.owner.as_ref().is_some_and(Owner::can_be_held);
    if change.is_some_and(|change| change.spec.hold) && can_be_held {
        annotations.insert(HOLD.0.to_owned(), json!(HOLD.1));
    }
    let metadata = json!({"annotations": annotations, "labels": parent.keys.labels});
    let patched = target::patch(client, &parent.target, &found.version, metadata).await;
    Ok(patched.context("stamping the parent of a scale")? == Patched::Done)
}
