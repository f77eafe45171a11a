//! Gives a held object back to its engine: never before Git says the same, unless the change is over, or time is up.

use anyhow::{Context, Result, bail};
use breakglass::api::{BreakglassChange, Target, Verdict};
use breakglass::engine::HOLD;
use breakglass::hold;
use chrono::{DateTime, Utc};
use kube::ResourceExt;
use serde_json::json;

use crate::cluster::Cluster;
use crate::kustomization::Kustomization;
use crate::target::{self, Patched};

/// How often it is tried where others write to the object at the same moment.
const TRIES: usize = 5;

/// Why a hold is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// The engine applies the very commit that accepts the change.
    InGit,
    /// Its time is up.
    Late,
}

/// Whether the hold of this change is over.
pub fn is_over(
    cluster: &Cluster,
    change: &BreakglassChange,
    kustomization: Option<&Kustomization>,
    now: DateTime<Utc>,
) -> Option<Over> {
    let status = change.status.clone().unwrap_or_default();
    let accepted = status.git.as_ref().filter(|_| status.verdict == Some(Verdict::Accepted));
    let commit = accepted.and_then(|git| git.commit.as_deref());
    if commit.is_some() && kustomization.and_then(Kustomization::commit) == commit {
        return Some(Over::InGit);
    }
    let rules = cluster.rules();
    let debt = &rules.environment_of_record(&change.spec.environment).debt;
    (now >= hold::end(&change.spec, &status, debt).instant()).then_some(Over::Late)
}

/// Gives the object of a settled change back, unless another change of it is open and holds it. Whether it was held.
///
/// # Errors
/// Where the API server does not take it, or others keep writing to the object.
pub async fn after(cluster: &Cluster, change: &BreakglassChange) -> Result<bool> {
    let found = target::look(cluster.client(), &change.spec.target, false).await?;
    let Some(found) = found.filter(|found| hold::is_held(&found.annotations)) else { return Ok(false) };
    for other in found.change().map(|carried| cluster.open_chain(carried)).unwrap_or_default() {
        if other != change.name_any() && cluster.live_change(&other).await?.is_some_and(|other| other.spec.hold) {
            return Ok(false);
        }
    }
    release(cluster, &change.spec.target).await
}

/// Takes off what holds the object. Whether it was held.
///
/// # Errors
/// Where the API server does not take it, or others keep writing to the object.
pub async fn release(cluster: &Cluster, target: &Target) -> Result<bool> {
    let client = cluster.client();
    for _ in 0..TRIES {
        let found = target::look(client, target, false).await?;
        let Some(found) = found.filter(|found| hold::is_held(&found.annotations)) else { return Ok(false) };
        let metadata = json!({"annotations": {HOLD.0: null}});
        let patched = target::patch(client, target, &found.version, metadata).await;
        match patched.context("giving the object back to its engine")? {
            Patched::Done => return Ok(true),
            Patched::Gone => return Ok(false),
            Patched::Late => {}
        }
    }
    bail!("others kept writing to its object")
}
