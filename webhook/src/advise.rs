//! What the writer is told when a write is let in: what was recorded, how long the token lives, and who will undo it.

use std::time::Duration;

use breakglass::api::{BreakglassChange, BreakglassToken};
use breakglass::engine::Owner;
use chrono::{DateTime, Utc};
use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::{Client, ResourceExt};

/// How long Flux may be asked for its interval. A nicety must not slow a write down.
const TIMEOUT: Duration = Duration::from_millis(300);

/// The warnings to a write that is let in under a token.
pub async fn on_admission(
    client: &Client,
    change: &BreakglassChange,
    token: &BreakglassToken,
    now: DateTime<Utc>,
) -> Vec<String> {
    let spec = &change.spec;
    let left = minutes_left(token, now);
    let mut warnings = vec![format!(
        "{}: let in under {} ({left}m left), recorded as {}. To be decided by {}. See: kubectl breakglass list --incident {}",
        spec.incident,
        token.name_any(),
        change.name_any(),
        spec.decide_by,
        spec.incident,
    )];
    if let Some(owner) = owner(change) {
        let interval = interval(client, &owner).await;
        warnings.push(format!("{owner} owns this object in Git and {}", owner.undoes(interval.as_deref())));
    }
    warnings
}

/// Rounded up: a token with seconds to live has a minute, not none.
fn minutes_left(token: &BreakglassToken, now: DateTime<Utc>) -> i64 {
    ((token.spec.expires_at.instant() - now).num_seconds() + 59) / 60
}

fn owner(change: &BreakglassChange) -> Option<Owner> {
    let metadata = change.spec.before.as_ref()?.get("metadata")?;
    let map = |field: &str| serde_json::from_value(metadata.get(field)?.clone()).ok();
    Owner::of(&map("labels").unwrap_or_default(), &map("annotations").unwrap_or_default())
}

/// The interval of the Kustomization that owns the object, where it can be read in time.
async fn interval(client: &Client, owner: &Owner) -> Option<String> {
    if owner.kind != "Kustomization" {
        return None;
    }
    let kind = GroupVersionKind::gvk("kustomize.toolkit.fluxcd.io", "v1", "Kustomization");
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), owner.namespace.as_deref()?, &ApiResource::from_gvk(&kind));
    let object = tokio::time::timeout(TIMEOUT, api.get(&owner.name)).await.ok()?.ok()?;
    Some(object.data.get("spec")?.get("interval")?.as_str()?.to_owned())
}
