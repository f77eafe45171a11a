//! What we know of the cluster now: the policy, tokens by user, namespaces, changes by token; each from a watch, and asked
//! for live where not knowing must not mean "no".

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use breakglass::api::{BreakglassChange, BreakglassToken, Target};
use breakglass::fate::{History, Link};
use breakglass::record::NAMESPACE_LABEL;
use breakglass::rules::Rules;
use breakglass::stamp;
use chrono::{DateTime, Utc};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::{Client, Resource, ResourceExt};
use serde_json::value::RawValue;
use tokio::sync::Notify;

use crate::said::{Said, said};
use crate::target;

// The ledger, in brief.
mod changes;
// Whether a watch still reaches the API server.
mod contact;
// Live lookups of tokens, at a bounded rate.
mod lookups;
// The four watches.
mod watches;

use changes::Changes;
pub use changes::{Debt, STATUS_MANAGER};
use contact::Contact;
use lookups::Lookups;

/// How long the API server may take to answer what a write waits for.
const LIVE_TIMEOUT: Duration = Duration::from_secs(2);

/// How many open changes of one person in one place are looked through at once. Who has more has them looked at one by one.
const OPEN_PAGE: u32 = 200;

/// A cache, and whether it has seen the whole cluster once.
#[derive(Debug)]
struct Cache<T> {
    data: RwLock<T>,
    listed: AtomicBool,
    contact: Contact,
}

impl<T: Default> Cache<T> {
    fn new() -> Self {
        Self { data: RwLock::default(), listed: AtomicBool::new(false), contact: Contact::default() }
    }

    fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        // A panic while writing leaves whole entries: nothing here is changed in two steps.
        look(&self.data.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.data.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Takes the place of what was known, after a whole listing.
    fn replace(&self, data: T) {
        self.write(|known| *known = data);
        self.listed.store(true, Ordering::Release);
    }

    fn is_listed(&self) -> bool {
        self.listed.load(Ordering::Acquire)
    }
}

type TokensByUser = HashMap<String, BTreeMap<String, BreakglassToken>>;
type Labels = BTreeMap<String, String>;
/// The API server does not know what a token is.
#[derive(Debug, thiserror::Error)]
#[error("the definition of BreakglassTokens is gone, and no tokens can be read")]
pub struct DefinitionGone;

/// What we know of the cluster.
pub struct Cluster {
    client: Client,
    rules: ArcSwap<Rules>,
    policy_listed: AtomicBool,
    policy_contact: Contact,
    tokens: Cache<TokensByUser>,
    namespaces: Cache<HashMap<String, Labels>>,
    changes: Cache<Changes>,
    lookups: Lookups,
    /// Told whenever another policy is in force.
    pub policy_changed: Notify,
}

impl Cluster {
    /// Knows nothing yet but the built-in policy.
    ///
    /// # Errors
    /// Where the built-in policy is unsound, which a test excludes.
    pub fn new(client: Client) -> Result<Arc<Self>> {
        Ok(Arc::new(Self {
            client,
            rules: ArcSwap::from_pointee(Rules::built_in().context("reading the built-in policy")?),
            policy_listed: AtomicBool::new(false),
            policy_contact: Contact::default(),
            tokens: Cache::new(),
            namespaces: Cache::new(),
            changes: Cache::new(),
            lookups: Lookups::default(),
            policy_changed: Notify::new(),
        }))
    }

    /// What has not been listed yet, for readiness.
    pub fn missing(&self) -> Vec<&'static str> {
        let caches = [
            ("the policy", self.policy_listed.load(Ordering::Acquire)),
            ("tokens", self.tokens.is_listed()),
            ("namespaces", self.namespaces.is_listed()),
        ];
        caches.into_iter().filter(|(_, listed)| !listed).map(|(name, _)| name).collect()
    }

    /// For how long each watch has not reached the API server.
    pub fn cut_off(&self) -> [(&'static str, Duration); 4] {
        let now = Instant::now();
        [
            ("policy", self.policy_contact.cut_off(now)),
            ("tokens", self.tokens.contact.cut_off(now)),
            ("namespaces", self.namespaces.contact.cut_off(now)),
            ("changes", self.changes.contact.cut_off(now)),
        ]
    }

    /// The policy in force.
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    /// A client, for what is asked live.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The tokens of a user, as far as the watch has told.
    pub fn tokens_of(&self, user: &str) -> Vec<BreakglassToken> {
        self.tokens.read(|tokens| tokens.get(user).map(|mine| mine.values().cloned().collect()).unwrap_or_default())
    }

    /// All tokens that `wanted` picks.
    pub fn tokens_where(&self, wanted: impl Fn(&BreakglassToken) -> bool) -> Vec<BreakglassToken> {
        self.tokens
            .read(|tokens| tokens.values().flat_map(BTreeMap::values).filter(|token| wanted(token)).cloned().collect())
    }

    /// How many tokens are in which phase, as their status has it.
    pub fn tokens_by_phase(&self) -> HashMap<&'static str, i64> {
        let phase = |token: &BreakglassToken| token.status.as_ref().and_then(|status| status.phase);
        self.tokens.read(|tokens| {
            tokens.values().flat_map(BTreeMap::values).filter_map(phase).fold(HashMap::new(), |mut counts, phase| {
                *counts.entry(phase.as_str()).or_default() += 1;
                counts
            })
        })
    }

    /// How many changes are in which state.
    pub fn changes_by_state(&self) -> HashMap<&'static str, i64> {
        self.changes.read(Changes::by_state)
    }

    /// The changes that nobody has decided yet.
    pub fn debt(&self, now: DateTime<Utc>) -> Debt {
        let rules = self.rules();
        let of = |environment: &str| rules.environment_of_record(environment);
        self.changes.read(|changes| changes.debt(|environment| of(environment).debt.decide_within.delta(), now))
    }

    /// How many changes each token has let in; `None` before they have been listed once.
    pub fn writes_by_token(&self) -> Option<HashMap<String, i64>> {
        self.changes.is_listed().then(|| self.changes.read(Changes::writes_by_token))
    }

    /// The changes that have not been seen in the cluster yet, with the time they were made at.
    pub fn admitted(&self) -> Vec<(String, DateTime<Utc>)> {
        self.changes.read(Changes::admitted)
    }

    /// Hands over, once, changes that somebody decided about.
    pub fn take_touched(&self, most: usize) -> Vec<String> {
        let mut taken = Vec::new();
        self.changes.write(|changes| taken = changes.take_touched(most));
        taken
    }

    /// Has a change handed over again.
    pub fn touch(&self, name: &str) {
        self.changes.write(|changes| changes.touch(name));
    }

    /// Has the open ones among this change, and those that its object carried before it, handed over again.
    pub fn touch_all(&self, name: &str) {
        self.changes.write(|changes| {
            for name in changes.open_chain(name) {
                changes.touch(&name);
            }
        });
    }

    /// The changes that were seen in the cluster and are not settled, in order.
    pub fn open_changes(&self) -> Vec<String> {
        self.changes.read(Changes::open)
    }

    /// The open ones among this change, and those that its object carried before it, the latest first.
    pub fn open_chain(&self, name: &str) -> Vec<String> {
        self.changes.read(|changes| changes.open_chain(name))
    }

    /// The changes that found the object of this one with its stamp on it, or with a stamp of theirs, and are not settled.
    pub fn open_followers(&self, name: &str) -> Vec<String> {
        self.changes.read(|changes| changes.open_followers(name))
    }

    /// Whether this change has not been seen in the cluster yet, as far as the watch has told.
    pub fn is_admitted(&self, name: &str) -> bool {
        self.changes.read(|changes| changes.is_admitted(name))
    }

    /// The tokens of a user as the API server has them now.
    ///
    /// One lookup serves everybody who has been waiting for it; see [`Lookups`].
    ///
    /// # Errors
    /// Where the API server does not answer in time.
    pub async fn live_tokens_of(&self, user: &str) -> Result<Vec<BreakglassToken>> {
        self.lookups
            .of(user, || async {
                let by_user = ListParams::default().fields(&format!("spec.user={}", escaped(user)));
                let listed = in_time("looking up tokens", self.api::<BreakglassToken>().list(&by_user)).await;
                // A list is not found where nobody knows its kind.
                let gone = |error: &anyhow::Error| error.downcast_ref::<Said>().is_some_and(|said| said.code == 404);
                let list = listed.map_err(|error| if gone(&error) { DefinitionGone.into() } else { error })?;
                Ok(list.items.into_iter().filter_map(parsed).collect())
            })
            .await
    }

    /// A token as the API server has it now; `None` where it is gone.
    ///
    /// # Errors
    /// Where the API server does not answer in time.
    pub async fn live_token(&self, name: &str) -> Result<Option<BreakglassToken>> {
        let object = in_time("confirming the token", self.api::<BreakglassToken>().get_opt(name)).await?;
        Ok(object.and_then(parsed))
    }

    /// A change as the API server has it now; `None` where there is none.
    ///
    /// # Errors
    /// Where the API server does not answer in time.
    pub async fn live_change(&self, name: &str) -> Result<Option<BreakglassChange>> {
        let changes: Api<BreakglassChange> = Api::all(self.client.clone());
        in_time("reading a change", changes.get_opt(name)).await
    }

    /// The open changes that a user made in a namespace, or to what is in none; at most a page of them.
    ///
    /// # Errors
    /// Where the API server does not answer in time.
    pub async fn open_changes_by(&self, user: &str, namespace: Option<&str>) -> Result<Vec<BreakglassChange>> {
        let place = match namespace {
            Some(namespace) => format!("{NAMESPACE_LABEL}={namespace}"),
            None => format!("!{NAMESPACE_LABEL}"),
        };
        let which = ListParams::default()
            .fields(&format!("spec.user={}", escaped(user)))
            .labels(&format!("{place},{}!=settled", stamp::STATE))
            .limit(OPEN_PAGE);
        let changes: Api<BreakglassChange> = Api::all(self.client.clone());
        Ok(in_time("reading changes", changes.list(&which)).await?.items)
    }

    /// The kind of the object of a write, as it says itself; `None` where there is no such object, or we may not look.
    ///
    /// # Errors
    /// Where the API server does not answer in time.
    pub async fn kind_of(&self, target: &Target) -> Result<Option<String>> {
        let api = target::api(&self.client, target);
        let found = tokio::time::timeout(LIVE_TIMEOUT, api.get_opt(&target.name)).await;
        let found = found.context("looking at what is scaled took too long")?;
        Ok(found.ok().flatten().and_then(|object| object.types).map(|types| types.kind))
    }

    /// A pod, as it is now; `None` where there is none.
    ///
    /// # Errors
    /// Where the API server does not answer in time, or we may not look.
    pub async fn pod(&self, namespace: &str, name: &str) -> Result<Option<Box<RawValue>>> {
        let pods: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, &ApiResource::erase::<Pod>(&()));
        let found = in_time("reading the pod", pods.get_opt(name)).await?;
        found.map(|pod| serde_json::value::to_raw_value(&pod).context("reading the pod")).transpose()
    }

    /// Whether a change of that name is on record now.
    ///
    /// # Errors
    /// Where the API server does not answer in time.
    pub async fn has_record(&self, name: &str) -> Result<bool> {
        let found = in_time("looking for the record", self.api::<BreakglassChange>().get_metadata_opt(name)).await?;
        Ok(found.is_some())
    }

    /// The labels of a namespace; asked for live where the watch has not told of it yet, since a namespace that we do not
    /// know may well be prod. A namespace that does not exist has none.
    ///
    /// # Errors
    /// Where the API server does not answer in time.
    pub async fn namespace_labels(&self, name: &str) -> Result<Labels> {
        if let Some(labels) = self.namespaces.read(|namespaces| namespaces.get(name).cloned()) {
            return Ok(labels);
        }
        self.live_namespace_labels(name).await
    }

    /// The labels of a namespace as the API server has them now.
    ///
    /// # Errors
    /// Where the API server does not answer in time.
    pub async fn live_namespace_labels(&self, name: &str) -> Result<Labels> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let found = in_time("reading the namespace", namespaces.get_metadata_opt(name)).await?;
        Ok(found.and_then(|namespace| namespace.metadata.labels).unwrap_or_default())
    }

    /// Objects of our kinds are read loosely first: one that does not parse must not keep us from the others.
    fn api<K: Resource<DynamicType = ()>>(&self) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &ApiResource::erase::<K>(&()))
    }
}

impl History for Cluster {
    fn link(&self, name: &str) -> Option<Link> {
        self.changes.read(|changes| changes.link(name))
    }

    fn is_followed(&self, name: &str) -> bool {
        self.changes.read(|changes| changes.is_followed(name))
    }
}

/// A value in a field selector (apimachinery pkg/fields/selector.go EscapeValue): names from a directory have commas in them.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=")
}

/// What the API server answers while a write waits for it, and no longer.
async fn in_time<T>(what: &'static str, answer: impl Future<Output = kube::Result<T>>) -> Result<T> {
    let answer = tokio::time::timeout(LIVE_TIMEOUT, answer).await;
    answer.with_context(|| format!("{what} took too long"))?.map_err(said).context(what)
}

fn parsed<K: Resource<DynamicType = ()> + serde::de::DeserializeOwned>(object: DynamicObject) -> Option<K> {
    let name = object.name_any();
    match object.try_parse() {
        Ok(parsed) => Some(parsed),
        Err(error) => {
            tracing::warn!("{} {name} is passed over: {error}", K::kind(&()));
            None
        }
    }
}
