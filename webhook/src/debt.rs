//! Tells of changes whose time to decide is over: an Event on each, once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use breakglass::api::BreakglassChange;
use breakglass::record::INCIDENT_LABEL;
use chrono::{DateTime, Utc};
use kube::ResourceExt;
use kube::api::{Api, PartialObjectMeta};

use crate::cluster::Cluster;
use crate::leader::Leading;
use crate::notice::{Kind, Notice, Notices};

/// How often the changes are looked at. Looking is in memory, over all of them.
const EVERY: Duration = Duration::from_secs(30);

/// How many are told of in one round. After a week-end of many there are Events for all of them within minutes, and the queue
/// keeps room for others.
const AT_ONCE: usize = 20;

/// How long looking at one may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Tells of them while it leads.
pub async fn tell(cluster: Arc<Cluster>, notices: Notices, leading: Leading, clock: fn() -> DateTime<Utc>) {
    let changes = Api::all(cluster.client().clone());
    let mut told = BTreeSet::new();
    loop {
        tokio::time::sleep(EVERY).await;
        if !leading.now() {
            continue;
        }
        let overdue = cluster.debt(clock()).overdue;
        told.retain(|name| overdue.binary_search(name).is_ok());
        for name in overdue.into_iter().filter(|name| !told.contains(name)).take(AT_ONCE).collect::<Vec<_>>() {
            if let Some(change) = look(&changes, &name).await {
                notices.say(notice(&change));
                told.insert(name);
            }
        }
    }
}

/// The change as it is: without its uid, `kubectl describe` would not show the Event. What does not answer is asked again in
/// the next round.
async fn look(changes: &Api<BreakglassChange>, name: &str) -> Option<PartialObjectMeta<BreakglassChange>> {
    tokio::time::timeout(TIMEOUT, changes.get_metadata_opt(name)).await.ok()?.ok()?
}

fn notice(change: &PartialObjectMeta<BreakglassChange>) -> Notice {
    let name = change.name_any();
    let incident = change.labels().get(INCIDENT_LABEL).map_or_else(String::new, |incident| format!("{incident}: "));
    let text = format!("{incident}nobody has decided this change in time. See: kubectl breakglass show {name}");
    Notice::about(change, Kind::Warning, "ChangeOverdue", text)
}
