//! What the writer is told when a write is let in: what was recorded, how long the token lives, and who will undo it.

use std::time::Duration;

use breakglass::api::{BreakglassChange, BreakglassToken};
use breakglass::engine::Owner;
use breakglass::record;
use chrono::{DateTime, Utc};
use kube::{Client, ResourceExt};

use crate::kustomization;

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
    if let Some(owner) = record::owner(spec).filter(|_| spec.hold) {
        warnings.push(format!(
            "held: {owner} owns this object in Git, and leaves it as it is until Git says the same, or until {}",
            spec.decide_by
        ));
    } else if let Some(owner) = record::owner(spec) {
        let interval = interval(client, &owner).await;
        warnings.push(format!("{owner} owns this object in Git and {}", owner.undoes(interval.as_deref())));
    }
    warnings
}

/// Rounded up: a token with seconds to live has a minute, not none.
fn minutes_left(token: &BreakglassToken, now: DateTime<Utc>) -> i64 {
    ((token.spec.expires_at.instant() - now).num_seconds() + 59) / 60
}

/// The interval of the Kustomization that owns the object, where it can be read in time.
async fn interval(client: &Client, owner: &Owner) -> Option<String> {
    let found = tokio::time::timeout(TIMEOUT, kustomization::owned_by(client, owner)).await.ok()?.ok()??;
    found.interval().map(str::to_owned)
}
