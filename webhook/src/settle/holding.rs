//! Keeps an engine from an object, and gives it back: never before Git says the same, unless the change is over, a person wants it,
//! or time is up.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use breakglass::api::{BreakglassChange, ChangePhase, HoldState, Target, Verdict};
use breakglass::engine::HOLD;
use breakglass::hold;
use chrono::{DateTime, Utc};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::sight::Sight;
use crate::cluster::Cluster;
use crate::kustomization::{self, Kustomization};
use crate::target::{self, Patched};

/// How often it is tried where others write to the object at the same moment.
const TRIES: usize = 5;

/// Why a hold is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// The engine applies the very commit that accepts the change.
    InGit,
    /// Somebody gave it back.
    Released,
    /// Its time is up.
    Late,
}

/// What is to be done about the hold of a change that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Nothing: it holds nothing.
    None,
    /// The engine is kept from the object, and is to be.
    Held,
    /// The engine is to be kept from the object, and is not.
    Wanted,
    /// The engine is kept from the object, and is not to be any longer.
    Over(Over),
}

/// Looks at the hold of a change.
pub fn of(
    cluster: &Cluster,
    change: &BreakglassChange,
    (sight, kustomization): (Option<&Sight>, Option<&Kustomization>),
    now: DateTime<Utc>,
) -> Hold {
    let Some(sight) = sight.filter(|_| hold::is_ours(change)) else { return Hold::None };
    match (sight.is_held, is_over(cluster, change, kustomization, now)) {
        (true, Some(over)) => Hold::Over(over),
        (true, None) => Hold::Held,
        // What the write itself held and somebody has let go since, they had a reason to; who says so afterwards wants it.
        (false, None) => {
            let is_said = hold::said(change).is_some_and(|hold| hold.state == HoldState::Held);
            let can = sight.owner.as_ref().is_some_and(|owner| owner.can_be_held());
            if is_said && can { Hold::Wanted } else { Hold::None }
        }
        (false, Some(_)) => Hold::None,
    }
}

/// Whether the engine has applied the very commit that is proven to say what was accepted.
pub fn is_applied(change: &BreakglassChange, kustomization: Option<&Kustomization>) -> bool {
    let status = change.status.as_ref().filter(|status| status.verdict == Some(Verdict::Accepted));
    let commit = status.and_then(|status| status.git.as_ref()?.commit.as_deref());
    commit.is_some() && kustomization.and_then(Kustomization::commit) == commit
}

/// Whether the hold of this change is over.
fn is_over(
    cluster: &Cluster,
    change: &BreakglassChange,
    kustomization: Option<&Kustomization>,
    now: DateTime<Utc>,
) -> Option<Over> {
    if !hold::holds(change) {
        return Some(Over::Released);
    }
    if is_applied(change, kustomization) {
        return Some(Over::InGit);
    }
    let status = change.status.clone().unwrap_or_default();
    let rules = cluster.rules();
    let debt = &rules.environment_of_record(&change.spec.environment).debt;
    (now >= hold::end(&change.spec, &status, debt).instant()).then_some(Over::Late)
}

/// Gives the object of a change back whose hold is over, unless another change of it is open and has it held. Whether it was held
/// until now.
///
/// # Errors
/// Where the API server does not take it, or others keep writing to the object.
pub async fn give_back(cluster: &Cluster, change: &BreakglassChange, now: DateTime<Utc>) -> Result<bool> {
    let (client, target) = (cluster.client(), &change.spec.target);
    let found = target::look(client, target, false).await?;
    let Some(found) = found.filter(|found| hold::is_held(&found.annotations)) else { return Ok(false) };
    let kustomization = match &found.owner {
        Some(owner) => kustomization::owned_by(client, owner).await?,
        None => None,
    };
    for other in found.change().map(|carried| cluster.open_chain(carried)).unwrap_or_default() {
        if other == change.name_any() {
            continue;
        }
        let other = cluster.live_change(&other).await?.filter(is_open);
        if other.is_some_and(|other| is_over(cluster, &other, kustomization.as_ref(), now).is_none()) {
            return Ok(false);
        }
    }
    annotate(cluster, target, hold::is_held, Value::Null).await
}

fn is_open(change: &BreakglassChange) -> bool {
    change.status.as_ref().is_none_or(|status| status.phase != Some(ChangePhase::Settled))
}

/// Keeps the engine from the object. Whether it was kept from it only now.
///
/// # Errors
/// Where the API server does not take it, or others keep writing to the object.
pub async fn hold(cluster: &Cluster, target: &Target) -> Result<bool> {
    annotate(cluster, target, |annotations| !hold::is_held(annotations), HOLD.1.into()).await
}

/// Sets what holds the object where `is_due`; null is "take it off".
async fn annotate(
    cluster: &Cluster,
    target: &Target,
    is_due: impl Fn(&BTreeMap<String, String>) -> bool,
    value: Value,
) -> Result<bool> {
    let client = cluster.client();
    for _ in 0..TRIES {
        let found = target::look(client, target, false).await?;
        let Some(found) = found.filter(|found| is_due(&found.annotations)) else { return Ok(false) };
        let metadata = json!({"annotations": {HOLD.0: value}});
        let patched = target::patch(client, target, &found.version, metadata).await;
        match patched.context("keeping the engine from the object, or giving it back")? {
            Patched::Done => return Ok(true),
            Patched::Gone => return Ok(false),
            Patched::Late => {}
        }
    }
    bail!("others kept writing to its object")
}
