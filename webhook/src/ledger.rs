//! Keeps the record of a write before the write is let in.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use breakglass::api::{BreakglassChange, Outcome};
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use kube::{Client, ResourceExt};

use crate::said::said;

/// How long the record may take. A write that cannot be recorded in this time is refused.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Writes the record, and gives it as it is in etcd.
///
/// # Errors
/// Where it is not there, for whatever reason: the write must then be refused.
pub async fn keep(client: &Client, change: &BreakglassChange) -> Result<BreakglassChange> {
    let changes: Api<BreakglassChange> = Api::all(client.clone());
    tokio::time::timeout(TIMEOUT, create(&changes, change)).await.context("the API server took too long")?
}

async fn create(changes: &Api<BreakglassChange>, change: &BreakglassChange) -> Result<BreakglassChange> {
    let name = change.name_any();
    match changes.create(&PostParams::default(), change).await {
        Ok(kept) => return Ok(kept),
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        Err(error) => return Err(said(error)),
    }
    // The name proves what the change is, so the one that exists is an earlier call about the same write: the API server
    // asks again about a delete, and about a create whose generated name was taken.
    let earlier = changes.get(&name).await.map_err(said)?;
    let over = earlier.status.as_ref().is_some_and(|status| status.outcome == Some(Outcome::NeverLanded));
    if earlier.spec.target == change.spec.target && !over {
        return Ok(earlier);
    }
    // With a generated name, the first try of the create never landed; nor did a delete that was refused by somebody else
    // and is asked for again. With one and the same name otherwise, this is a copy of an object that was stamped earlier,
    // and the earlier record stays.
    if earlier.spec.target.name == change.spec.target.name && !over {
        bail!("{name} is the record of an earlier write");
    }
    let preconditions = Preconditions { uid: earlier.uid(), resource_version: None };
    changes
        .delete(&name, &DeleteParams { preconditions: Some(preconditions), ..Default::default() })
        .await
        .map_err(said)?;
    changes.create(&PostParams::default(), change).await.map_err(said)
}
