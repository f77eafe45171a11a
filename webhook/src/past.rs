//! What the ledger says of the object of a write: whether its stamp is a copy, and whether the write undoes what was done.

use anyhow::Result;
use breakglass::api::{BreakglassChange, ChangePhase};
use breakglass::mark;
use breakglass::record;
use breakglass::rules::Rules;
use breakglass::seal::Key;
use breakglass::stamp::{self, Keys};
use breakglass::write::{Verb, Write};
use kube::ResourceExt;

use crate::cluster::Cluster;

/// How many changes back an undo is looked for. Each costs one request; an object that was written to more often under
/// one incident is undone step by step.
const DEPTH: usize = 8;

/// The changes that a write undoes, the latest first: it puts the object back to what it was before all of its pending
/// changes. Empty where it does not.
///
/// # Errors
/// Where the API server does not say.
pub async fn undone(cluster: &Cluster, rules: &Rules, key: &Key, write: &Write<'_>) -> Result<Vec<BreakglassChange>> {
    let mut changes = Vec::new();
    if write.verb != Verb::Update || !write.can_carry_stamp() || mark::changes_nothing(write) {
        return Ok(changes);
    }
    let before = Keys::of_object(write.before.as_ref());
    let mut next = before.annotation(stamp::CHANGE).map(str::to_owned);
    while let Some(name) = next.take() {
        if changes.len() == DEPTH {
            return Ok(Vec::new());
        }
        let Some(change) = cluster.live_change(&name).await?.filter(is_whole) else { return Ok(Vec::new()) };
        let was = change.spec.before.as_ref().and_then(|was| was.pointer("/metadata/annotations"));
        next = was.and_then(|was| was.get(stamp::CHANGE)?.as_str()).map(str::to_owned);
        changes.push(change);
    }
    Ok(if record::undoes(write, rules, key, &changes) { changes } else { Vec::new() })
}

/// Whether the record says what the object was: all of it, and of the object itself.
fn is_whole(change: &BreakglassChange) -> bool {
    let settled = change.status.as_ref().is_some_and(|status| status.phase == Some(ChangePhase::Settled));
    let spec = &change.spec;
    !settled && !spec.truncated && spec.subresource.is_none() && spec.before.is_some() && !change.name_any().is_empty()
}
