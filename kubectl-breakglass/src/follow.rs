//! New records, as they come: a watch that goes on where the last one ended.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use futures::TryStreamExt;
use kube::api::{Api, DynamicObject, WatchEvent, WatchParams};

use crate::connect::Connection;
use crate::error::Result;
use crate::explain::{Doing, explain};
use crate::ledger::{self, Keep, Which, read_record};
use crate::row_state::RowState;
use crate::rows::Row;

/// How long to wait before a watch that failed is started again.
const PAUSE: Duration = Duration::from_secs(1);

/// How often a watch may fail in a row before it is given up.
const TRIES: u32 = 10;

/// Follows records from where a LIST ended.
pub struct Follow<'a> {
    /// The cluster.
    pub cluster: &'a Connection,
    /// Which records.
    pub which: Which,
    /// How much of each.
    pub keep: Keep,
    /// What is known of each already: only what is new is shown.
    pub seen: BTreeMap<String, RowState>,
    /// From where to go on.
    pub version: String,
}

impl Follow<'_> {
    /// Shows every record that is new or has another state, until it fails for good or `show` does.
    ///
    /// # Errors
    /// What the cluster answers, explained; or what `show` returns.
    pub async fn run(mut self, mut show: impl FnMut(Row) -> Result<()>) -> Result<()> {
        let api = Api::<DynamicObject>::all_with(self.cluster.client.clone(), &ledger::resource());
        let mut failed = 0;
        loop {
            let selector = self.which.selector();
            let params = WatchParams { bookmarks: true, ..WatchParams::default().labels(&selector) };
            let outcome = self.one_watch(&api, &params, &mut show, &mut failed).await?;
            if let ControlFlow::Break(error) = outcome {
                failed += 1;
                if failed > TRIES {
                    return Err(explain(&error, Doing::Reading("the records"), &self.cluster.server));
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn one_watch(
        &mut self,
        api: &Api<DynamicObject>,
        params: &WatchParams,
        show: &mut impl FnMut(Row) -> Result<()>,
        failed: &mut u32,
    ) -> Result<ControlFlow<kube::Error>> {
        let stream = match api.watch(params, &self.version).await {
            Ok(stream) => stream,
            Err(kube::Error::Api(status)) if status.code == 410 => return self.list_again(show).await,
            Err(error) => return Ok(ControlFlow::Break(error)),
        };
        let mut events = std::pin::pin!(stream);
        loop {
            match events.try_next().await {
                Ok(None) => return Ok(ControlFlow::Continue(())),
                Ok(Some(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                    *failed = 0;
                    self.version = object.metadata.resource_version.clone().unwrap_or_default();
                    if let Ok(record) = read_record(object, self.keep) {
                        self.take(Row::of_record(record), show)?;
                    }
                }
                Ok(Some(WatchEvent::Bookmark(bookmark))) => self.version = bookmark.metadata.resource_version,
                Ok(Some(WatchEvent::Deleted(_))) => {}
                Ok(Some(WatchEvent::Error(status))) if status.code == 410 => return self.list_again(show).await,
                Ok(Some(WatchEvent::Error(status))) => return Ok(ControlFlow::Break(kube::Error::Api(status))),
                Err(error) => return Ok(ControlFlow::Break(error)),
            }
        }
    }

    /// The server no longer knows what happened since: what is there now is compared with what was seen.
    async fn list_again(&mut self, show: &mut impl FnMut(Row) -> Result<()>) -> Result<ControlFlow<kube::Error>> {
        let ledger = ledger::read(self.cluster, &self.which, self.keep).await?;
        self.version = ledger.version;
        for record in ledger.records {
            self.take(Row::of_record(record), show)?;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn take(&mut self, row: Row, show: &mut impl FnMut(Row) -> Result<()>) -> Result<()> {
        let name = row.change_name.clone().unwrap_or_default();
        match self.seen.insert(name, row.state) {
            Some(before) if before == row.state => Ok(()),
            // A live object may say more than its record does yet.
            Some(RowState::Pending) if row.state == RowState::Admitted => Ok(()),
            Some(_) | None => show(row),
        }
    }
}
