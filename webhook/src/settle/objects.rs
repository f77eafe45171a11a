//! Which open changes have to be looked at, while it leads: those whose objects somebody wrote to.
//!
//! One watch for each kind that has open changes, of metadata alone and of stamped objects alone: what nobody writes to costs
//! nothing. What leaves no stamp, as a delete, is looked at in turn, one every few seconds.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use breakglass::api::{BreakglassChange, Timestamp};
use breakglass::engine::Engine;
use breakglass::hold;
use breakglass::stamp;
use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt;
use kube::ResourceExt;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, PartialObjectMeta};
use kube::runtime::watcher::{self, Event, watcher as watch_stream};
use tokio::task::JoinHandle;

use crate::cluster::Cluster;
use crate::follow::FIELD_MANAGER;
use crate::leader::Leading;
use crate::said::said;

/// How often is looked what is due. Looking is in memory.
const EVERY: Duration = Duration::from_millis(500);

/// How long a change is left alone after it was looked at, whatever happens to its object: a status may change every second.
const AT_MOST_EVERY: Duration = Duration::from_secs(10);

/// How often one of the changes is looked at that no watch shows. Three requests each: below one a second, however many there
/// are; a dozen of them are all seen within a minute.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// How many records are read at once to learn the kinds of their objects.
const PAGE: u32 = 500;

/// How long a kind is left alone that could not be watched: for want of a right, it may be for ever.
const WATCH_AGAIN: Duration = Duration::from_secs(60);

/// How much later than the time in a stamp the API server may note the very write that put it on.
const OWN_WRITE: TimeDelta = TimeDelta::seconds(3);

/// How young a stamp is whose object is looked at when it is first listed: somebody may have written to it within `OWN_WRITE`, before
/// its kind was watched, and that does not show. A kind is learned within seconds of its first change.
const YOUNG: TimeDelta = TimeDelta::seconds(60);

/// The stamps whose objects are owed for.
const OPEN: &str = "breakglass.dev/state in (pending,deferred,accepted)";

/// A kind as a client asks for it.
type Kind = (String, String);

/// The objects of one kind with an open stamp, by uid.
type Stamped = HashMap<String, Seen>;

/// What is known of a stamped object.
#[derive(Debug)]
struct Seen {
    /// The change that its stamp names.
    change: String,
    /// A digest of who has written to it, and when.
    written: u64,
}

/// What is watched, and what it showed.
#[derive(Debug, Default)]
struct Watched {
    objects: HashMap<Kind, Stamped>,
    /// Changes to be looked at, not before then.
    due: BTreeMap<String, Instant>,
    /// When one was looked at last.
    looked: HashMap<String, Instant>,
}

impl Watched {
    /// Has a change looked at: at once, or as soon as it may be again.
    fn notice(&mut self, change: String) {
        let now = Instant::now();
        let at = self.looked.get(&change).map_or(now, |last| (*last + AT_MOST_EVERY).max(now));
        self.due.entry(change).or_insert(at);
    }

    fn take_due(&mut self) -> Vec<String> {
        let now = Instant::now();
        let due: Vec<String> = self.due.iter().filter(|(_, at)| **at <= now).map(|(name, _)| name.clone()).collect();
        self.looked.retain(|_, last| last.elapsed() < AT_MOST_EVERY);
        for name in &due {
            self.due.remove(name);
            self.looked.insert(name.clone(), now);
        }
        due
    }

    fn put(&mut self, kind: &Kind, object: &PartialObjectMeta<DynamicObject>, (is_new, now): (IsNew, DateTime<Utc>)) {
        let Some(change) = object.annotations().get(stamp::CHANGE).cloned() else { return };
        let written = digest(object);
        let objects = self.objects.entry(kind.clone()).or_default();
        let seen = objects.insert(object.uid().unwrap_or_default(), Seen { change: change.clone(), written });
        // Times are whole seconds: two writes of one client in one second look like one.
        let is_same = seen.is_some_and(|seen| seen.written == written && seen.change == change)
            && last_written(object).is_none_or(|last| now - last >= OWN_WRITE);
        // What is held has an end that nobody writes to it.
        let held = hold::is_held(object.annotations());
        if !is_same && (is_new == IsNew::News || held || is_young(object, now) || is_written_since(object)) {
            self.notice(change);
        }
    }

    /// The changes that the watches show.
    fn shown(&self) -> Vec<String> {
        self.objects.values().flat_map(HashMap::values).map(|seen| seen.change.clone()).collect()
    }
}

/// Whether an object comes with a listing, or because something happened to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IsNew {
    Listed,
    News,
}

/// Who wrote to an object, and when; what its controllers say in its status is left out.
fn digest(object: &PartialObjectMeta<DynamicObject>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for entry in object.managed_fields().iter().filter(|entry| entry.subresource.as_deref() != Some("status")) {
        (&entry.manager, &entry.operation, entry.time.as_ref().map(|time| time.0.as_second())).hash(&mut hasher);
    }
    object.metadata.deletion_timestamp.is_some().hash(&mut hasher);
    hasher.finish()
}

/// When somebody wrote to it last.
fn last_written(object: &PartialObjectMeta<DynamicObject>) -> Option<DateTime<Utc>> {
    let writes = object.managed_fields().iter().filter(|entry| entry.subresource.as_deref() != Some("status"));
    let times = writes.filter_map(|entry| entry.time.as_ref().map(|time| time.0.as_second()));
    times.max().and_then(|second| DateTime::from_timestamp(second, 0))
}

/// When its stamp was put on an object, if that can be read.
fn stamped(object: &PartialObjectMeta<DynamicObject>) -> Option<DateTime<Utc>> {
    object.annotations().get(stamp::TIME)?.parse::<Timestamp>().ok().map(Timestamp::instant)
}

/// Whether an object was stamped a moment ago.
fn is_young(object: &PartialObjectMeta<DynamicObject>, now: DateTime<Utc>) -> bool {
    stamped(object).is_some_and(|stamped| now - stamped < YOUNG)
}

/// Whether somebody, or an engine, has written to an object since its stamp was put on.
fn is_written_since(object: &PartialObjectMeta<DynamicObject>) -> bool {
    let Some(stamped) = stamped(object) else { return true };
    object.managed_fields().iter().any(|entry| {
        let manager = entry.manager.as_deref().unwrap_or_default();
        let time = entry.time.as_ref().and_then(|time| DateTime::<Utc>::from_timestamp(time.0.as_second(), 0));
        let from = if Engine::of_manager(manager).is_some() { TimeDelta::zero() } else { OWN_WRITE };
        entry.subresource.as_deref() != Some("status")
            && manager != FIELD_MANAGER
            && time.is_some_and(|time| time >= stamped + from)
    })
}

/// Watches objects while it leads.
pub struct Objects {
    cluster: Arc<Cluster>,
    clock: fn() -> DateTime<Utc>,
    watched: Arc<Mutex<Watched>>,
    watches: HashMap<Kind, Watch>,
    /// Changes of which the kind of their object is known.
    known: HashSet<String>,
    /// Where the sweep has come to.
    swept: Option<String>,
}

/// A watch, or the time of one that failed.
enum Watch {
    Running(JoinHandle<()>),
    Failed(Instant),
}

impl Drop for Objects {
    fn drop(&mut self) {
        for watch in self.watches.values() {
            if let Watch::Running(task) = watch {
                task.abort();
            }
        }
    }
}

/// Has changes looked at for as long as the process runs; all that is known is forgotten with the lead.
pub async fn keep(cluster: Arc<Cluster>, leading: Leading, clock: fn() -> DateTime<Utc>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut objects: Option<Objects> = None;
    let mut sweep = Instant::now();
    loop {
        tick.tick().await;
        if !leading.now() || cluster.writes_by_token().is_none() {
            objects = None;
            continue;
        }
        let objects = match &mut objects {
            Some(objects) => objects,
            None => objects.insert(Objects::begin(cluster.clone(), clock).await),
        };
        objects.lock().take_due().iter().for_each(|name| objects.cluster.touch_all(name));
        if sweep.elapsed() >= SWEEP_EVERY {
            sweep = Instant::now();
            objects.sweep().await;
        }
    }
}

impl Objects {
    /// Watches the kinds of all changes that are open.
    async fn begin(cluster: Arc<Cluster>, clock: fn() -> DateTime<Utc>) -> Self {
        let watched = Arc::default();
        let mut objects = Self { cluster, clock, watched, watches: HashMap::new(), known: HashSet::new(), swept: None };
        if let Err(error) = objects.learn_all().await {
            tracing::warn!("learning what open changes were made to: {error:#}; they are looked at one by one");
        }
        objects
    }

    async fn learn_all(&mut self) -> Result<()> {
        let changes: Api<BreakglassChange> = Api::all(self.cluster.client().clone());
        let mut page = ListParams::default().labels("breakglass.dev/state!=settled").limit(PAGE);
        loop {
            let list = changes.list(&page).await.map_err(said).context("listing open changes")?;
            list.items.iter().for_each(|change| self.learn(change));
            page.continue_token = list.metadata.continue_.filter(|token| !token.is_empty());
            if page.continue_token.is_none() {
                return Ok(());
            }
        }
    }

    /// Has the kind of the object of a change watched.
    fn learn(&mut self, change: &BreakglassChange) {
        self.known.insert(change.name_any());
        let resource = change.spec.target.api_resource();
        let kind = (resource.api_version.clone(), resource.plural.clone());
        if let Some(Watch::Running(task)) = self.watches.get(&kind)
            && task.is_finished()
        {
            self.watches.insert(kind.clone(), Watch::Failed(Instant::now()));
            self.lock().objects.remove(&kind);
        }
        match self.watches.get(&kind) {
            Some(Watch::Running(_)) => return,
            Some(Watch::Failed(since)) if since.elapsed() < WATCH_AGAIN => return,
            Some(Watch::Failed(_)) | None => {}
        }
        let task = tokio::spawn(watch((self.cluster.clone(), self.clock), self.watched.clone(), resource));
        self.watches.insert(kind, Watch::Running(task));
    }

    /// Looks at one change that no watch shows: the next one.
    async fn sweep(&mut self) {
        let Some(next) = self.next() else { return };
        // Each time: a watch that failed is tried again by the changes that it does not show.
        match self.cluster.live_change(&next).await {
            Ok(Some(change)) => self.learn(&change),
            Ok(None) => {}
            Err(error) => tracing::warn!("learning what {next} was made to: {error:#}"),
        }
        self.cluster.touch(&next);
        self.swept = Some(next);
    }

    /// Whose turn it is: what is new comes first, for its kind may be.
    fn next(&mut self) -> Option<String> {
        let open = self.cluster.open_changes();
        let shown: HashSet<String> =
            self.lock().shown().iter().flat_map(|name| self.cluster.open_chain(name)).collect();
        self.known.retain(|name| open.binary_search(name).is_ok());
        self.known.extend(shown.iter().cloned());
        let unseen: Vec<String> = open.into_iter().filter(|name| !shown.contains(name)).collect();
        let is_after = |name: &&String| self.swept.as_ref().is_none_or(|last| *name > last);
        let new = unseen.iter().find(|name| !self.known.contains(*name));
        new.or_else(|| unseen.iter().find(is_after)).or_else(|| unseen.first()).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows the stamped objects of one kind until that fails.
async fn watch(
    (cluster, now): (Arc<Cluster>, fn() -> DateTime<Utc>),
    watched: Arc<Mutex<Watched>>,
    resource: ApiResource,
) {
    let kind = (resource.api_version.clone(), resource.plural.clone());
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(cluster.client().clone(), &resource);
    let mut events = std::pin::pin!(watch_stream(api, watcher::Config::default().labels(OPEN)));
    let mut listing: HashSet<String> = HashSet::new();
    while let Some(event) = events.next().await {
        let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Ok(Event::Init) => listing.clear(),
            Ok(Event::InitApply(object)) => {
                listing.extend(object.uid());
                watched.put(&kind, &object, (IsNew::Listed, now()));
            }
            // What is not listed any more has gone, or lost its stamp, while nobody watched.
            Ok(Event::InitDone) => {
                let gone = watched.objects.entry(kind.clone()).or_default().extract_if(|uid, _| !listing.contains(uid));
                let gone: Vec<String> = gone.map(|(_, seen)| seen.change).collect();
                gone.into_iter().for_each(|change| watched.notice(change));
            }
            Ok(Event::Apply(object)) => watched.put(&kind, &object, (IsNew::News, now())),
            Ok(Event::Delete(object)) => {
                let objects = watched.objects.entry(kind.clone()).or_default();
                if let Some(seen) = objects.remove(&object.uid().unwrap_or_default()) {
                    watched.notice(seen.change);
                }
            }
            Err(error) => {
                tracing::warn!("watching stamped {}: {error}; its changes are looked at one by one", kind.1);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn object(uid: &str, change: &str, fields: Value) -> PartialObjectMeta<DynamicObject> {
        serde_json::from_value(json!({"metadata": {"name": "api", "uid": uid, "managedFields": fields,
            "annotations": {stamp::CHANGE: change, stamp::TIME: "2026-11-20T12:00:00Z"}}}))
        .unwrap()
    }

    fn field(manager: &str, time: &str, subresource: Option<&str>) -> Value {
        json!({"manager": manager, "operation": "Update", "time": format!("2026-11-20T{time}Z"),
            "subresource": subresource})
    }

    #[test]
    fn an_object_is_looked_at_when_somebody_wrote_to_it_after_its_stamp() {
        for (fields, expected) in [
            (json!([field("kubectl-edit", "12:00:01", None)]), false),
            (json!([field("kubectl-edit", "12:00:01", None), field("breakglass", "13:00:00", None)]), false),
            (json!([field("kube-controller-manager", "13:00:00", Some("status"))]), false),
            (json!([field("kubectl-edit", "12:00:03", None)]), true),
            (json!([field("kustomize-controller", "12:00:00", None)]), true),
            (json!([field("kustomize-controller", "11:59:59", None)]), false),
            (json!([field("kubectl", "12:00:05", Some("scale"))]), true),
        ] {
            assert_eq!(is_written_since(&object("u", "c", fields.clone())), expected, "{fields}");
        }
    }

    #[test]
    fn what_a_controller_says_in_the_status_is_no_news() {
        let kind = ("apps/v1".to_owned(), "deployments".to_owned());
        let written = field("kustomize-controller", "12:00:07", None);
        let mut watched = Watched::default();
        let at = |time: &str| (IsNew::News, format!("2026-11-20T{time}Z").parse().unwrap());
        watched.put(&kind, &object("u", "c", json!([written])), at("12:00:07"));
        assert_eq!(watched.take_due(), ["c"]);
        let status = field("kube-controller-manager", "12:00:09", Some("status"));
        watched.put(&kind, &object("u", "c", json!([written, status])), at("12:00:11"));
        assert!(watched.due.is_empty());
        // Two writes in one second look alike.
        watched.put(&kind, &object("u", "c", json!([written])), at("12:00:08"));
        assert!(watched.due.contains_key("c"));
        watched.due.clear();
        // Looked at a moment ago: it waits.
        watched.put(&kind, &object("u", "c", json!([field("kustomize-controller", "12:00:11", None)])), at("12:00:11"));
        assert!(watched.take_due().is_empty() && watched.due.contains_key("c"));
        assert_eq!(watched.shown(), ["c"]);
    }

    #[test]
    fn what_was_stamped_a_moment_ago_is_looked_at_when_it_is_listed() {
        let kind = ("v1".to_owned(), "configmaps".to_owned());
        for (now, expected) in [("12:00:59", &["c"][..]), ("12:01:00", &[])] {
            let mut watched = Watched::default();
            let listed = (IsNew::Listed, format!("2026-11-20T{now}Z").parse().unwrap());
            watched.put(&kind, &object("u", "c", json!([field("kubectl-patch", "12:00:00", None)])), listed);
            assert_eq!(watched.take_due(), expected, "{now}");
        }
    }
}
