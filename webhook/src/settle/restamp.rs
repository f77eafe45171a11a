//! Has the stamp on an object speak of the latest change that is open, in its state; or takes it off.

use anyhow::{Context, Result, ensure};
use breakglass::api::{BreakglassChange, Target};
use breakglass::stamp::{self, Keys, Stamp, State};
use kube::ResourceExt;
use kube::api::Api;
use serde_json::{Map, Value, json};

use crate::cluster::Cluster;
use crate::said::said;
use crate::target::{self, Patched};

/// How often a stamp is written whose object somebody else wrote to at the same moment.
const TRIES: usize = 5;

/// How many changes back one is looked for that is open.
const DEPTH: usize = 32;

/// Writes the stamp of the target, where it is not what it should be. Of an object without a stamp nothing is said: who took it
/// off had a reason.
///
/// # Errors
/// Where the API server does not take it, or others keep writing to the object.
pub async fn restamp(cluster: &Cluster, target: &Target) -> Result<()> {
    let mut tries = 0;
    while !try_to(cluster, target).await? {
        tries += 1;
        ensure!(tries < TRIES, "others kept writing to its object");
    }
    Ok(())
}

/// False where somebody else wrote first.
async fn try_to(cluster: &Cluster, target: &Target) -> Result<bool> {
    let Some(found) = target::look(cluster.client(), target, false).await? else { return Ok(true) };
    let Some(carried) = found.change() else { return Ok(true) };
    let Some(latest) = latest_open(cluster, carried).await? else { return Ok(true) };
    let all =
        |keys: &Keys| stamp::ANNOTATIONS.iter().map(|&key| (key.to_owned(), json!(keys.annotation(key)))).collect();
    let (annotations, state): (Map<String, Value>, Option<State>) = match &latest {
        Latest::None => (all(&Keys::default()), None),
        Latest::Of(change, state) if change.name_any() == carried => (Map::new(), Some(*state)),
        Latest::Of(change, state) => (all(&Stamp::of_change(&change.name_any(), &change.spec).keys()), Some(*state)),
    };
    let state = state.map(State::as_str);
    if annotations.is_empty() && found.state.as_deref() == state {
        return Ok(true);
    }
    let metadata = json!({"annotations": annotations, "labels": {stamp::STATE: state}});
    let patched = target::patch(cluster.client(), target, &found.version, metadata).await;
    Ok(patched.context("writing the stamp")? != Patched::Late)
}

/// What the stamp of an object is to speak of.
enum Latest {
    /// This change, which is in this state.
    Of(Box<BreakglassChange>, State),
    /// Nothing: all are settled.
    None,
}

/// The change itself, or the one that its object carried before it, and so on, that is open; `None` where that is not on record:
/// a record that somebody deleted is no proof of anything.
async fn latest_open(cluster: &Cluster, name: &str) -> Result<Option<Latest>> {
    let changes: Api<BreakglassChange> = Api::all(cluster.client().clone());
    let mut next = Some(name.to_owned());
    for _ in 0..DEPTH {
        let Some(name) = next else { return Ok(Some(Latest::None)) };
        let found = changes.get_opt(&name).await.map_err(said).context("reading what the object carries")?;
        let Some(change) = found else { return Ok(None) };
        let phase = change.status.as_ref().and_then(|status| status.phase);
        if let Some(state) = State::of_phase(phase).on_object() {
            return Ok(Some(Latest::Of(Box::new(change), state)));
        }
        next = change.annotations().get(breakglass::record::FOLLOWS).cloned();
    }
    Ok(None)
}
