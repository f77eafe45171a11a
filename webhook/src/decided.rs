//! What a verdict means for what people look at: the record's labels, by which it is listed, and the stamp on its object, which
//! is taken off when the change is settled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use breakglass::api::BreakglassChange;
use breakglass::record::UNTIL;
use breakglass::stamp::{self, State};
use futures::StreamExt;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Map, Value, json};

use crate::cluster::Cluster;
use crate::follow::FIELD_MANAGER;
use crate::leader::Leading;
use crate::said::said;
use crate::target;

/// How often it is asked which changes were written to. Asking is in memory.
const EVERY: Duration = Duration::from_millis(500);

/// How many changes are taken up in one round: what a new leader finds is spread over many.
const AT_ONCE: usize = 100;

/// How many changes are looked at at the same time.
const WIDTH: usize = 4;

/// How long a change is left alone that could not be followed: for want of a right, it may be for ever.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// How often a stamp is written whose object somebody else wrote to at the same moment.
const TRIES: usize = 5;

/// How long one change may take: a round does not hang on it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Follows verdicts while it leads.
pub async fn keep(cluster: Arc<Cluster>, leading: Leading) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failed: Vec<(Instant, String)> = Vec::new();
    loop {
        tick.tick().await;
        if !leading.now() {
            continue;
        }
        let due = failed.extract_if(.., |(since, _)| since.elapsed() >= AGAIN_AFTER);
        due.for_each(|(_, name)| cluster.touch(&name));
        let touched = cluster.take_touched(AT_ONCE);
        let followed = futures::stream::iter(touched)
            .map(|name| {
                let cluster = cluster.clone();
                async move {
                    let followed = tokio::time::timeout(TIMEOUT, follow(&cluster, &name)).await;
                    (name, followed.unwrap_or_else(|_| bail!("it took longer than {TIMEOUT:?}")))
                }
            })
            .buffer_unordered(WIDTH);
        let results: Vec<(String, Result<()>)> = followed.collect().await;
        for (name, error) in results.into_iter().filter_map(|(name, result)| Some((name, result.err()?))) {
            tracing::warn!("following the verdict on {name}: {error:#}");
            failed.push((Instant::now(), name));
        }
    }
}

async fn follow(cluster: &Cluster, name: &str) -> Result<()> {
    let changes: Api<BreakglassChange> = Api::all(cluster.client().clone());
    let Some(change) = changes.get_opt(name).await.map_err(said).context("reading the change")? else { return Ok(()) };
    let status = change.status.clone().unwrap_or_default();
    let state = State::of_phase(status.phase);
    if state == State::Admitted {
        return Ok(());
    }
    // The stamp first: with the label of the record in place nobody would look again.
    let mut tries = 0;
    while !restamp(cluster, &change, state).await? {
        tries += 1;
        ensure!(tries < TRIES, "others kept writing to its object");
    }
    let until = status.until.filter(|_| state == State::Deferred).map(|until| until.to_string());
    let labelled = change.labels().get(stamp::STATE).map(String::as_str) == Some(state.as_str());
    if labelled && change.annotations().get(UNTIL) == until.as_ref() {
        return Ok(());
    }
    let patch = json!({"metadata": {
        "labels": {stamp::STATE: state.as_str()},
        "annotations": {UNTIL: until},
    }});
    match changes.patch_metadata(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(said(error)).context("labelling the change"),
    }
}

/// Has the stamp say what the record says, where it speaks of this change; false where somebody else wrote first.
async fn restamp(cluster: &Cluster, change: &BreakglassChange, state: State) -> Result<bool> {
    let target = &change.spec.target;
    let Some(found) = target::look(cluster.client(), target, false).await? else { return Ok(true) };
    let wanted = state.on_object().map(State::as_str);
    let is_mine =
        found.change() == Some(change.name_any().as_str()) && target.uid.as_ref().is_none_or(|uid| *uid == found.uid);
    if !is_mine || found.state.as_deref() == wanted {
        return Ok(true);
    }
    let annotations: Map<String, Value> = match wanted {
        Some(_) => Map::new(),
        None => stamp::ANNOTATIONS.iter().map(|&key| (key.to_owned(), Value::Null)).collect(),
    };
    // Conditional on what was read: whoever writes meanwhile puts a stamp of their own on.
    let patch = json!({"metadata": {
        "resourceVersion": found.version,
        "annotations": annotations,
        "labels": {stamp::STATE: wanted},
    }});
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..Default::default() };
    match target::api(cluster.client(), target).patch_metadata(&target.name, &params, &Patch::Merge(&patch)).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(true),
        Err(kube::Error::Api(status)) if status.is_conflict() => Ok(false),
        Err(error) => Err(said(error)).context("writing the stamp"),
    }
}
