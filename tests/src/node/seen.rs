//! What the cluster holds now that concerns us, from watches: our pods, the nodes, our Services and where they lead.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use serde_json::Value;
use tokio::sync::watch;

/// The one namespace whose pods are run.
pub(crate) const NAMESPACE: &str = "breakglass-system";

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Pods of our namespace.
    Pods,
    /// Nodes.
    Nodes,
    /// Services of our namespace.
    Services,
    /// EndpointSlices of our namespace.
    Slices,
}

type Objects = BTreeMap<String, Arc<Value>>;

/// All objects of the four kinds, by name.
#[derive(Debug)]
pub(crate) struct Seen {
    objects: RwLock<BTreeMap<Kind, Objects>>,
    changed: watch::Sender<u64>,
}

impl Seen {
    pub(crate) fn new() -> Self {
        Self { objects: RwLock::default(), changed: watch::Sender::new(0) }
    }

    /// The objects of one kind, in the order of their names.
    pub(crate) fn all(&self, kind: Kind) -> Vec<Arc<Value>> {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        objects.get(&kind).into_iter().flat_map(BTreeMap::values).cloned().collect()
    }

    /// The pod of that uid.
    pub(crate) fn pod(&self, uid: &str) -> Option<Arc<Value>> {
        self.all(Kind::Pods).into_iter().find(|pod| pod["metadata"]["uid"] == uid)
    }

    /// Told after every change, of whatever kind.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Follows one kind with this client until the task ends.
    pub(crate) async fn follow(self: Arc<Self>, client: kube::Client, kind: Kind) {
        let (group, version, name, plural) = match kind {
            Kind::Pods => ("", "v1", "Pod", "pods"),
            Kind::Nodes => ("", "v1", "Node", "nodes"),
            Kind::Services => ("", "v1", "Service", "services"),
            Kind::Slices => ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
        };
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, name), plural);
        let api: Api<DynamicObject> = match kind {
            Kind::Nodes => Api::all_with(client, &resource),
            Kind::Pods | Kind::Services | Kind::Slices => Api::namespaced_with(client, NAMESPACE, &resource),
        };
        let mut listed = Objects::new();
        let mut events = kube::runtime::watcher(api, watcher::Config::default()).default_backoff().boxed();
        loop {
            match events.try_next().await {
                Ok(Some(Event::Init)) => listed.clear(),
                Ok(Some(Event::InitApply(object))) => put(&mut listed, &object),
                Ok(Some(Event::InitDone)) => self.change(kind, |known| *known = std::mem::take(&mut listed)),
                Ok(Some(Event::Apply(object))) => self.change(kind, |known| put(known, &object)),
                Ok(Some(Event::Delete(object))) => self.change(kind, |known| {
                    known.remove(object.metadata.name.as_deref().unwrap_or_default());
                }),
                Ok(None) => return,
                // The API server is away; the watch waits and tries again.
                Err(_) => {}
            }
        }
    }

    fn change(&self, kind: Kind, change: impl FnOnce(&mut Objects)) {
        change(self.objects.write().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default());
        self.changed.send_modify(|count| *count += 1);
    }
}

fn put(objects: &mut Objects, object: &DynamicObject) {
    let name = object.metadata.name.clone().unwrap_or_default();
    objects.insert(name, Arc::new(serde_json::to_value(object).unwrap_or_default()));
}
