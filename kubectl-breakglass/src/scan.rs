//! Every object of every kind, metadata only: one LIST a kind, page by page, of which only what somebody looks for is kept.

use std::collections::BTreeSet;

use futures::StreamExt;
use kube::api::{Api, DynamicObject, ListParams, Request};
use kube::core::ListMeta;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

use crate::connect::Connection;
use crate::discover::{Kind, Kinds};
use crate::explain::root_cause;
use crate::rights::Rights;

/// How many objects a page has, as with kubectl: each side makes or reads a page in one piece, and holds no more of them than are
/// under way.
pub const PAGE: u32 = 500;

/// How many kinds are listed at a time: enough to hide the way to the server, too few to trouble it.
pub const PARALLEL: usize = 16;

/// Where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Where {
    /// Everywhere that I may.
    Everywhere,
    /// In these namespaces.
    In(Vec<String>),
}

/// What somebody looks for.
pub trait Look {
    /// The part of an object's metadata that is read.
    type Metadata: DeserializeOwned + Send + 'static;
    /// What is kept of an object.
    type Found;

    /// The labels that the server narrows by; empty for all.
    fn selector(&self) -> &str;

    /// What is kept of this object; nothing where it is not looked for.
    fn look(&self, kind: &Kind, metadata: Self::Metadata) -> Option<Self::Found>;

    /// Its uid: one object may be served under two groups, and is found once.
    fn uid(found: &Self::Found) -> &str;
}

/// What a scan found, and what it could not see.
#[derive(Clone, Debug)]
pub struct Scan<T> {
    /// What was looked for, each once.
    pub objects: Vec<T>,
    /// Kinds that I may not list everywhere.
    pub unreadable: BTreeSet<String>,
    /// One sentence for each kind that could not be listed for another reason.
    pub failures: Vec<String>,
}

impl<T> Default for Scan<T> {
    fn default() -> Self {
        Self { objects: Vec::new(), unreadable: BTreeSet::new(), failures: Vec::new() }
    }
}

/// Lists every kind.
pub async fn scan<L: Look>(cluster: &Connection, kinds: &Kinds, place: &Where, what: &L) -> Scan<L::Found> {
    let mut scan = Scan { failures: kinds.failures.clone(), ..Scan::default() };
    // Asked for once, and only when a kind may not be listed everywhere.
    let reader = Reader { cluster, place, what, rights: OnceCell::new() };
    let kinds = kinds.listable.iter().filter(|kind| kind.namespaced || *place == Where::Everywhere);
    let found: Vec<Scan<L::Found>> =
        futures::stream::iter(kinds).map(|kind| reader.one_kind(kind)).buffer_unordered(PARALLEL).collect().await;
    let mut uids = BTreeSet::new();
    for one in found {
        // One object may be served under two groups, as Events are.
        scan.objects.extend(one.objects.into_iter().filter(|object| uids.insert(L::uid(object).to_owned())));
        scan.unreadable.extend(one.unreadable);
        scan.failures.extend(one.failures);
    }
    scan.failures.sort();
    scan
}

struct Reader<'r, L> {
    cluster: &'r Connection,
    place: &'r Where,
    what: &'r L,
    rights: OnceCell<Rights>,
}

impl<L: Look> Reader<'_, L> {
    /// One kind: everywhere at once if I may, else in each namespace that I can see.
    async fn one_kind(&self, kind: &Kind) -> Scan<L::Found> {
        let mut scan = Scan::default();
        let client = &self.cluster.client;
        let api = Api::<DynamicObject>::all_with(client.clone(), &kind.resource);
        let namespaces: Vec<&str> = match self.place {
            Where::In(namespaces) => namespaces.iter().map(String::as_str).collect(),
            Where::Everywhere => match self.pages(&api, kind).await {
                Err(Failure::Forbidden) => {
                    scan.unreadable.insert(kind.name());
                    if !kind.namespaced {
                        return scan;
                    }
                    let rights = self.rights.get_or_init(|| Rights::read(self.cluster)).await;
                    rights.where_listable(kind).collect()
                }
                outcome => {
                    scan.take(kind, outcome);
                    return scan;
                }
            },
        };
        for namespace in namespaces {
            let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &kind.resource);
            let outcome = self.pages(&api, kind).await;
            scan.take(kind, outcome);
        }
        scan
    }

    /// All pages of one LIST, each object looked at as it comes.
    async fn pages(&self, api: &Api<DynamicObject>, kind: &Kind) -> Result<Vec<L::Found>, Failure> {
        let mut params = ListParams::default().labels(self.what.selector()).limit(PAGE);
        let mut found = Vec::new();
        let mut restarted = false;
        loop {
            let page = match self.cluster.patiently(|| list::<L::Metadata>(self.cluster, api, &params)).await {
                Some(Ok(page)) => page,
                None => return Err(Failure::Other("no answer in time".to_owned())),
                Some(Err(kube::Error::Api(status))) => match status.code {
                    403 => return Err(Failure::Forbidden),
                    // Gone a moment ago, a CRD for one; or it cannot be listed after all, whatever discovery says.
                    404 | 405 => return Err(Failure::Gone),
                    // The list grew old while it was read: from the start, once.
                    410 if !restarted => {
                        restarted = true;
                        found.clear();
                        params.continue_token = None;
                        continue;
                    }
                    _ => return Err(Failure::Other(status.message)),
                },
                Some(Err(error)) => return Err(Failure::Other(root_cause(&error))),
            };
            let objects = page.items.unwrap_or_default().into_iter();
            found.extend(objects.filter_map(|object| self.what.look(kind, object.metadata)));
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                return Ok(found);
            }
        }
    }
}

impl<T> Scan<T> {
    /// Adds what another scan found.
    pub fn append(&mut self, other: Self) {
        self.objects.extend(other.objects);
        self.unreadable.extend(other.unreadable);
        self.failures.extend(other.failures);
    }

    fn take(&mut self, kind: &Kind, outcome: Result<Vec<T>, Failure>) {
        match outcome {
            Ok(objects) => self.objects.extend(objects),
            Err(Failure::Forbidden) => {
                self.unreadable.insert(kind.name());
            }
            Err(Failure::Gone) => {}
            Err(Failure::Other(why)) => self.failures.push(format!("{} could not be listed: {why}", kind.name())),
        }
    }
}

enum Failure {
    Forbidden,
    Gone,
    Other(String),
}

/// The part of a LIST that is read here.
#[derive(Deserialize)]
struct Page<M> {
    metadata: ListMeta,
    /// Go writes none as null.
    items: Option<Vec<Listed<M>>>,
}

#[derive(Deserialize)]
struct Listed<M> {
    metadata: M,
}

async fn list<M: DeserializeOwned + Send + 'static>(
    cluster: &Connection,
    api: &Api<DynamicObject>,
    params: &ListParams,
) -> kube::Result<Page<M>> {
    let request = Request::new(api.resource_url()).list_metadata(params).map_err(kube::Error::BuildRequest)?;
    cluster.page(request).await
}
