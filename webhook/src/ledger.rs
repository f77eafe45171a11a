//! Keeps the record of a write before the write is let in.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use breakglass::api::BreakglassChange;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, ResourceExt};
use serde_json::json;

use crate::said::said;

/// How long the record may take. A write that cannot be recorded in this time is refused.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Writes the record. When it returns, the record is in etcd.
///
/// # Errors
/// Where it is not, for whatever reason: the write must then be refused.
pub async fn keep(client: &Client, change: &BreakglassChange) -> Result<()> {
    let changes: Api<BreakglassChange> = Api::all(client.clone());
    tokio::time::timeout(TIMEOUT, create(&changes, change)).await.context("the API server took too long")??;
    tokio::spawn(say_admitted(changes, change.name_any()));
    Ok(())
}

async fn create(changes: &Api<BreakglassChange>, change: &BreakglassChange) -> Result<()> {
    let name = change.name_any();
    match changes.create(&PostParams::default(), change).await {
        Ok(_) => return Ok(()),
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        Err(error) => return Err(said(error)),
    }
    // The name proves what the change is, so the one that exists is an earlier call about the same write: the API server
    // asks again about a delete, and about a create whose generated name was taken.
    let earlier = changes.get(&name).await.map_err(said)?;
    if earlier.spec.target == change.spec.target {
        return Ok(());
    }
    // With a generated name, the first try of the create never landed. With one and the same name, this is a copy of an
    // object that was stamped earlier, and the earlier record stays.
    if earlier.spec.target.name == change.spec.target.name {
        bail!("{name} is the record of an earlier write");
    }
    let preconditions = Preconditions { uid: earlier.uid(), resource_version: None };
    changes
        .delete(&name, &DeleteParams { preconditions: Some(preconditions), ..Default::default() })
        .await
        .map_err(said)?;
    changes.create(&PostParams::default(), change).await.map_err(said)?;
    Ok(())
}

/// Says so in the status. Nothing waits for it: a change without a phase is one that was admitted.
async fn say_admitted(changes: Api<BreakglassChange>, name: String) {
    let status = json!({"status": {"phase": "Admitted"}});
    if let Err(error) = changes.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await {
        tracing::warn!("setting the phase of {name}: {:#}", said(error));
    }
}
