//! What the ledger says of the object of a write: whether its stamp is a copy, and whether the write undoes what was done.

use anyhow::Result;
use breakglass::api::{BreakglassChange, ChangePhase};
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
pub async fn undone(cluster: &Cluster, rules: &Rules, key: &Key, write: &Write<'_>) -> Result<Vec<String>> {
    if write.verb != Verb::Update || !write.can_carry_stamp() {
        return Ok(Vec::new());
    }
    let before = Keys::of_object(write.before.as_ref());
    let mut next = before.annotation(stamp::CHANGE).map(str::to_owned);
    let mut names = Vec::new();
    while let Some(name) = next.take() {
        if names.len() == DEPTH {
            return Ok(Vec::new());
        }
        let Some(change) = cluster.live_change(&name).await? else { return Ok(Vec::new()) };
        let Some(was) = change.spec.before.as_ref().filter(|_| is_whole(&change)) else { return Ok(Vec::new()) };
        names.push(name);
        let earlier = was.pointer("/metadata/annotations").and_then(|map| map.get(stamp::CHANGE));
        match earlier.and_then(|name| name.as_str()) {
            Some(earlier) => next = Some(earlier.to_owned()),
            None if record::puts_back(write, rules, key, was) => return Ok(names),
            None => return Ok(Vec::new()),
        }
    }
    Ok(Vec::new())
}

/// Whether the record says what the object was: all of it, and of the object itself.
fn is_whole(change: &BreakglassChange) -> bool {
    let settled = change.status.as_ref().is_some_and(|status| status.phase == Some(ChangePhase::Settled));
    !settled && !change.spec.truncated && change.spec.subresource.is_none() && !change.name_any().is_empty()
}
