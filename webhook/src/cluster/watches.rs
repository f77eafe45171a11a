//! The watches: what is listed first and then heard of, and what is done about one that failed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use backon::{BackoffBuilder as _, ExponentialBuilder};
use breakglass::api::{BreakglassChange, BreakglassPolicy, BreakglassToken, POLICY_NAME};
use breakglass::rules::Rules;
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, PartialObjectMeta};
use kube::runtime::watcher::{self, Event, watcher as watch};

use super::changes::Changes;
use super::contact::Contact;
use super::{Cluster, Labels, TokensByUser, parsed};

/// A watch that has been silent for this long is opened again. kube's default would leave a dead connection unnoticed
/// for five minutes; a token or a policy must not be that old.
const WATCH_SECONDS: u32 = 30;

/// The pauses between two tries to watch again: soon, since prod waits for it, and never long, since a replica that has
/// caught up late is one that decides late. Each is another length, so that replicas do not come all at once.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

impl Cluster {
    /// Follows the cluster until the process ends.
    pub async fn follow(self: Arc<Self>) {
        tokio::join!(self.follow_policy(), self.follow_tokens(), self.follow_namespaces(), self.follow_changes());
    }

    async fn follow_policy(&self) {
        let config = watch_config().fields(&format!("metadata.name={POLICY_NAME}"));
        let mut seen = None;
        each(
            || watch(self.api::<BreakglassPolicy>(), config.clone()),
            ("policy", &self.policy_contact),
            |event| match event {
                Event::Init => seen = None,
                Event::InitApply(policy) => seen = Some(policy),
                Event::InitDone => {
                    self.enforce(seen.take());
                    self.policy_listed.store(true, Ordering::Release);
                }
                Event::Apply(policy) => self.enforce(Some(policy)),
                Event::Delete(_) => self.enforce(None),
            },
        )
        .await;
    }

    /// Puts a policy in force. One that cannot be read changes nothing: admission refuses those, so it came in while the
    /// webhook was not asked, and neither guessing nor falling back to less is safe.
    fn enforce(&self, policy: Option<DynamicObject>) {
        let rules = match policy {
            None => Rules::built_in().context("the built-in policy"),
            Some(object) => object
                .try_parse::<BreakglassPolicy>()
                .context("the policy object")
                .and_then(|policy| Rules::new(policy.spec).context("the policy object")),
        };
        match rules {
            Ok(rules) => {
                self.rules.store(Arc::new(rules));
                self.policy_changed.notify_one();
            }
            Err(error) => tracing::error!("the policy in force stays: {error:#}"),
        }
    }

    async fn follow_tokens(&self) {
        let mut listing = TokensByUser::default();
        let put = |tokens: &mut TokensByUser, object| {
            if let Some(token) = parsed::<BreakglassToken>(object) {
                tokens.entry(token.spec.user.clone()).or_default().insert(token.name_any(), token);
            }
        };
        each(
            || watch(self.api::<BreakglassToken>(), watch_config()),
            ("tokens", &self.tokens.contact),
            |event| match event {
                Event::Init => listing = TokensByUser::default(),
                Event::InitApply(object) => put(&mut listing, object),
                Event::InitDone => self.tokens.replace(std::mem::take(&mut listing)),
                Event::Apply(object) => self.tokens.write(|tokens| put(tokens, object)),
                Event::Delete(object) => self.tokens.write(|tokens| {
                    // By name alone: a spec that no longer parses must not keep a token alive.
                    tokens.retain(|_, mine| {
                        mine.remove(&object.name_any());
                        !mine.is_empty()
                    });
                }),
            },
        )
        .await;
    }

    async fn follow_namespaces(&self) {
        let api: Api<PartialObjectMeta<Namespace>> = Api::all(self.client.clone());
        let mut listing = HashMap::new();
        let put = |namespaces: &mut HashMap<String, Labels>, namespace: PartialObjectMeta<Namespace>| {
            namespaces.insert(namespace.name_any(), namespace.metadata.labels.unwrap_or_default());
        };
        each(
            || watch(api.clone(), watch_config()),
            ("namespaces", &self.namespaces.contact),
            |event| match event {
                Event::Init => listing = HashMap::new(),
                Event::InitApply(namespace) => put(&mut listing, namespace),
                Event::InitDone => self.namespaces.replace(std::mem::take(&mut listing)),
                Event::Apply(namespace) => self.namespaces.write(|namespaces| put(namespaces, namespace)),
                Event::Delete(namespace) => self.namespaces.write(|namespaces| {
                    namespaces.remove(&namespace.name_any());
                }),
            },
        )
        .await;
    }

    async fn follow_changes(&self) {
        let api: Api<PartialObjectMeta<BreakglassChange>> = Api::all(self.client.clone());
        let mut listing = Changes::default();
        each(
            || watch(api.clone(), watch_config()),
            ("changes", &self.changes.contact),
            |event| match event {
                Event::Init => listing = Changes::default(),
                Event::InitApply(change) => listing.put(&change),
                Event::InitDone => self.changes.replace(std::mem::take(&mut listing)),
                Event::Apply(change) => self.changes.write(|changes| changes.put(&change)),
                Event::Delete(change) => self.changes.write(|changes| changes.remove(&change.name_any())),
            },
        )
        .await;
    }
}

fn watch_config() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS)
}

/// Hands over every event of a watch, which begins anew after every error, each time later.
///
/// Anew is with a listing: an API server that was restored from a backup numbers its objects lower than before, and would say
/// nothing of them to a watch that goes on where it was.
async fn each<K, S: Stream<Item = Result<Event<K>, watcher::Error>>>(
    watch: impl Fn() -> S,
    (what, contact): (&str, &Contact),
    mut take: impl FnMut(Event<K>),
) {
    let (soon, late) = RETRY;
    let pauses = ExponentialBuilder::new().with_min_delay(soon).with_max_delay(late).with_jitter().without_max_times();
    let mut pause = pauses.build();
    loop {
        let mut events = std::pin::pin!(watch());
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    // That a listing begins is said before anybody is asked.
                    if !matches!(event, Event::Init) {
                        contact.heard();
                        pause = pauses.build();
                    }
                    take(event);
                }
                Err(error) => {
                    contact.failed(Instant::now());
                    tracing::warn!("watching {what}: {error}; trying again");
                    break;
                }
            }
        }
        tokio::time::sleep(pause.next().unwrap_or(late)).await;
    }
}
