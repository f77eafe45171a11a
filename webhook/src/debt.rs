//! Tells of changes whose time to decide is over: an Event on each, once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use breakglass::api::BreakglassChange;
use chrono::{DateTime, Utc};

use crate::cluster::Cluster;
use crate::leader::Leading;
use crate::notice::{Kind, Notice, Notices};

/// How often the changes are looked at. Looking is in memory, over all of them.
const EVERY: Duration = Duration::from_secs(30);

/// How many are told of in one round. After a week-end of many there are Events for all of them within minutes, and the queue
/// keeps room for others.
const AT_ONCE: usize = 20;

/// Tells of them while it leads.
pub async fn tell(cluster: Arc<Cluster>, notices: Notices, leading: Leading, clock: fn() -> DateTime<Utc>) {
    let mut told = BTreeSet::new();
    loop {
        tokio::time::sleep(EVERY).await;
        if !leading.now() {
            continue;
        }
        let overdue = cluster.debt(clock()).overdue;
        told.retain(|name| overdue.binary_search(name).is_ok());
        for name in overdue.into_iter().filter(|name| !told.contains(name)).take(AT_ONCE).collect::<Vec<_>>() {
            let text = format!("nobody has decided this change in time. See: kubectl breakglass list | grep {name}");
            notices.say(Notice::named::<BreakglassChange>(&name, Kind::Warning, "ChangeOverdue", text));
            told.insert(name);
        }
    }
}
