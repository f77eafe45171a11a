//! The write that put a change back is a change as well, and is settled with it: it owes nothing.

use std::collections::BTreeSet;

use anyhow::Result;
use breakglass::api::{BreakglassChange, BreakglassChangeSpec, ChangePhase, Outcome, Verdict};
use breakglass::put_back::{is_the_way_back, part};
use breakglass::record::FOLLOWS;
use chrono::{DateTime, Utc};
use kube::ResourceExt;

use crate::cluster::Cluster;
use crate::{status, target};

/// How many changes one write is looked through for as what it put back.
const DEPTH: usize = 32;

/// Settles the write that put `change` back, where there is one on record. False where somebody else wrote to that record at the
/// same moment, as who follows it does: then it has to be tried again, while `change` is open.
///
/// # Errors
/// Where the API server does not say, or does not take it.
pub async fn settle(cluster: &Cluster, change: &BreakglassChange, now: DateTime<Utc>) -> Result<bool> {
    let name = change.name_any();
    // Where nothing is stamped, who rejected wrote it; else it found the stamp of what it put back, or its own stamp is there.
    let target = &change.spec.target;
    let mut candidates = match change.status.as_ref().and_then(|status| status.by.as_deref()) {
        Some(by) => cluster.open_changes_by(by, target.namespace.as_deref()).await?,
        None => Vec::new(),
    };
    candidates.retain(|other| other.spec.target.name == target.name);
    let found = target::look(cluster.client(), target, false).await?;
    let mut named: BTreeSet<String> = cluster.open_followers(&name).into_iter().collect();
    named.extend(found.and_then(|found| found.change().map(str::to_owned)));
    for other in named {
        if !candidates.iter().any(|candidate| candidate.name_any() == other) {
            candidates.extend(cluster.live_change(&other).await?);
        }
    }
    for way in candidates.iter().filter(|way| way.name_any() != name) {
        let phase = way.status.as_ref().and_then(|status| status.phase);
        let is_open = phase != Some(ChangePhase::Settled);
        if is_open
            && is_way_back(cluster, way, change).await?
            && !status::close(cluster, way, Outcome::PutBack, now).await?
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The changes that were made to the same part of the object before this one and are rejected, the latest first; the writes that
/// put some of them back already are passed over.
///
/// # Errors
/// Where the API server does not say.
pub async fn rejected_before(cluster: &Cluster, change: &BreakglassChange) -> Result<Vec<BreakglassChangeSpec>> {
    let mut rejected = Vec::new();
    let mut next = change.annotations().get(FOLLOWS).cloned();
    for _ in 0..DEPTH {
        let Some(name) = next.take() else { break };
        let Some(earlier) = cluster.live_change(&name).await? else { break };
        let status = earlier.status.clone().unwrap_or_default();
        let is_rejected = status.verdict == Some(Verdict::Rejected);
        if !is_rejected && status.outcome != Some(Outcome::PutBack) {
            break;
        }
        next = earlier.annotations().get(FOLLOWS).cloned();
        if is_rejected && part(&earlier.spec) == part(&change.spec) {
            rejected.push(earlier.spec);
        }
    }
    Ok(rejected)
}

/// Whether this write put back what was rejected, as far as it found it there.
///
/// # Errors
/// Where the API server does not say.
pub async fn is_one(cluster: &Cluster, way: &BreakglassChange) -> Result<bool> {
    let rejected = rejected_before(cluster, way).await?;
    let rejected: Vec<&BreakglassChangeSpec> = rejected.iter().collect();
    Ok((1..=rejected.len()).any(|count| is_the_way_back(&way.spec, &rejected[..count])))
}

/// Whether `way` put back `change`, alone or with others that were rejected.
async fn is_way_back(cluster: &Cluster, way: &BreakglassChange, change: &BreakglassChange) -> Result<bool> {
    if is_one(cluster, way).await? {
        return Ok(true);
    }
    // What is made anew carries nothing that says what was there before.
    Ok(is_the_way_back(&way.spec, &[&change.spec]))
}
