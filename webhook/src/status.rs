//! What is known of a change, written down: its status, and the label by which it is listed.

use anyhow::{Context, Result};
use breakglass::api::{BreakglassChange, ChangePhase, Outcome, Timestamp};
use breakglass::stamp::{self, State};
use chrono::{DateTime, Utc};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use crate::cluster::{Cluster, STATUS_MANAGER};
use crate::said::said;

/// Writes the end of a change. Whether it is closed; not, where somebody else wrote first.
///
/// # Errors
/// Where the API server does not take it.
pub async fn close(cluster: &Cluster, change: &BreakglassChange, outcome: Outcome, now: DateTime<Utc>) -> Result<bool> {
    if change.status.as_ref().is_some_and(|status| status.phase == Some(ChangePhase::Settled)) {
        return Ok(true);
    }
    let at = Timestamp::new(now);
    let status = json!({"phase": ChangePhase::Settled, "outcome": outcome, "settledAt": at});
    if write(cluster, change, status).await?.is_none() {
        return Ok(false);
    }
    label(cluster, &change.name_any(), State::Settled).await.map(|()| true)
}

/// Writes the station that a change has come to; `None` where somebody else wrote first.
///
/// # Errors
/// Where the API server does not take it.
pub async fn say(cluster: &Cluster, change: &BreakglassChange, phase: ChangePhase) -> Result<Option<BreakglassChange>> {
    write(cluster, change, json!({"phase": phase})).await
}

/// Conditional on what was read: a verdict that is being written at this moment stays, and nothing is written.
async fn write(cluster: &Cluster, change: &BreakglassChange, status: Value) -> Result<Option<BreakglassChange>> {
    let changes: Api<BreakglassChange> = Api::all(cluster.client().clone());
    let patch = json!({"metadata": {"resourceVersion": change.resource_version()}, "status": status});
    let params = PatchParams { field_manager: Some(STATUS_MANAGER.to_owned()), ..Default::default() };
    match changes.patch_status(&change.name_any(), &params, &Patch::Merge(&patch)).await {
        Ok(written) => Ok(Some(written)),
        Err(kube::Error::Api(status)) if status.is_conflict() => Ok(None),
        Err(error) => Err(said(error)).context("writing the status of a change"),
    }
}

/// Writes the label by which a change is listed.
///
/// # Errors
/// Where the API server does not take it.
pub async fn label(cluster: &Cluster, name: &str, state: State) -> Result<()> {
    let changes: Api<BreakglassChange> = Api::all(cluster.client().clone());
    let patch = json!({"metadata": {"labels": {stamp::STATE: state.as_str()}}});
    let labelled = changes.patch_metadata(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
    labelled.map_err(said).context("labelling a change").map(drop)
}
