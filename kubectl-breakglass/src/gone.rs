//! Whether what was deleted is gone: a delete leaves no object that could carry its stamp.

use breakglass::api::{Operation, Target};
use futures::StreamExt;

use crate::connect::Connection;
use crate::live::api;
use crate::row_state::RowState;
use crate::rows::Row;
use crate::scan::PARALLEL;

/// How many deletes are looked at, the latest first. Beyond, they stay what the ledger says of them.
const MOST: usize = 500;

/// Turns deletes that were let in into pending ones where the object is gone. What I may not look at stays as it is.
pub async fn confirm_deletes(cluster: &Connection, rows: &mut [Row]) {
    let admitted = |row: &&mut Row| {
        row.state == RowState::Admitted && row.operation.as_deref() == Some(Operation::Delete.as_str())
    };
    futures::stream::iter(rows.iter_mut().rev().filter(admitted).take(MOST))
        .for_each_concurrent(PARALLEL, |row| async move {
            if is_gone(cluster, &row.target).await {
                row.state = RowState::Pending;
            }
        })
        .await;
}

/// Whether no object of that name is there, or another one in its place.
async fn is_gone(cluster: &Connection, target: &Target) -> bool {
    let api = api(cluster, target);
    match cluster.patiently(|| api.get_metadata_opt(&target.name)).await {
        Some(Ok(Some(found))) => found.metadata.uid.is_some() && found.metadata.uid != target.uid,
        Some(Ok(None)) => true,
        Some(Err(_)) | None => false,
    }
}
