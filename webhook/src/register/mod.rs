//! The policy → the webhook configurations; keeps them so. Rendering is `breakglass::register`, the loop is the leader's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use breakglass::register::render;
pub use breakglass::register::{GATE_PATH, NAME, STAMP_PATH};
use breakglass::rules::Rules;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ServiceReference, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, ResourceExt};
use tokio::sync::watch;

use crate::cluster::Cluster;
use crate::config::{Config, Source};
use crate::leader::Leading;
use crate::metrics::{Metrics, RepairLabels};
use crate::notice::{Kind, Notice, Notices};
use crate::said::said;
use crate::tls::Certificates;

use configuration::Configuration;

// What is asked of either kind of configuration.
mod configuration;
#[cfg(test)]
mod tests;

/// The label with the version of the webhook that rendered a configuration.
const VERSION_LABEL: &str = "app.kubernetes.io/version";

/// By this cert-manager knows whose CA to put into a configuration.
const INJECT: (&str, &str) = ("cert-manager.io/inject-ca-from", "breakglass-webhook");

/// How often the configurations are looked at when nothing happens. Nothing tells us of an edit to them (the API server
/// sends those to no webhook), and five seconds is what a detection may take.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How often it is seen whether everything is listed, at the start.
const LISTED_EVERY: Duration = Duration::from_millis(20);

/// How long one look may take, repairs included.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// Keeps the configurations what the policy says.
pub struct Registrar {
    client: Client,
    cluster: Arc<Cluster>,
    certificates: Arc<Certificates>,
    source: Source,
    service: ServiceReference,
    namespace: String,
    metrics: Arc<Metrics>,
    notices: Notices,
    registered: AtomicBool,
    repairs: AtomicU64,
    /// What was last in place, by kind: whatever else is found was written by somebody else.
    in_place: Mutex<BTreeMap<&'static str, String>>,
    /// The certificates that both configurations trust, and since when.
    trusted: Mutex<BTreeMap<String, Instant>>,
}

impl Registrar {
    /// Will register calls to the Service of `config`, trusted by `certificates`.
    pub fn new(
        cluster: Arc<Cluster>,
        config: &Config,
        certificates: Arc<Certificates>,
        (metrics, notices): (Arc<Metrics>, Notices),
    ) -> Arc<Self> {
        let service = ServiceReference {
            name: config.service.clone(),
            namespace: config.namespace.clone(),
            port: Some(i32::from(config.service_port)),
            path: None,
        };
        Arc::new(Self {
            client: cluster.client().clone(),
            cluster,
            certificates,
            source: config.certificates,
            service,
            namespace: config.namespace.clone(),
            metrics,
            notices,
            registered: AtomicBool::new(false),
            repairs: AtomicU64::new(0),
            in_place: Mutex::default(),
            trusted: Mutex::default(),
        })
    }

    /// Whether the API server calls us.
    pub fn is_registered(&self) -> bool {
        self.registered.load(Ordering::Acquire)
    }

    /// How many times a configuration was put right since we started.
    pub fn repairs(&self) -> u64 {
        self.repairs.load(Ordering::Relaxed)
    }

    /// For how long both configurations have trusted this certificate, as far as we have seen.
    pub fn trusted_for(&self, certificate: &str) -> Duration {
        let trusted = self.trusted.lock().unwrap_or_else(PoisonError::into_inner);
        trusted.get(certificate.trim()).map_or(Duration::ZERO, Instant::elapsed)
    }

    /// Looks at the configurations until the webhook stops; writes them while it is the leader. Who is on the way out repairs
    /// nothing: it may be that all of it is to go.
    pub async fn run(self: Arc<Self>, leading: Leading, stopping: watch::Receiver<bool>) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut leading = leading;
        let mut said = String::new();
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.cluster.policy_changed.notified() => {}
                () = self.certificates.changed.notified() => {}
                () = leading.changed() => {}
            }
            if *stopping.borrow() {
                return;
            }
            // Without the policy we would register the built-in one, and open what it does not guard. Readiness waits for this.
            while !self.cluster.missing().is_empty() && !*stopping.borrow() {
                tokio::time::sleep(LISTED_EVERY).await;
            }
            let leads = leading.now();
            let looked = tokio::time::timeout(LOOK_TIMEOUT, self.look(leads)).await;
            match looked.unwrap_or_else(|_| Err(anyhow::anyhow!("the API server took longer than {LOOK_TIMEOUT:?}"))) {
                Ok(registered) => {
                    self.registered.store(registered, Ordering::Release);
                    said.clear();
                }
                // Once, not every two seconds.
                Err(error) if said == format!("{error:#}") => {}
                Err(error) => {
                    said = format!("{error:#}");
                    tracing::error!("registering the webhooks: {said}");
                }
            }
        }
    }

    /// Compares, and repairs where it leads. Whether both configurations have the API server call us.
    async fn look(&self, leads: bool) -> Result<bool> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let home = namespaces.get_metadata(&self.namespace).await.map_err(said).context("reading our own namespace")?;
        let metadata = self.metadata(&home.name_any(), home.uid().unwrap_or_default());
        let calls = WebhookClientConfig {
            ca_bundle: Some(ByteString(self.certificates.bundle().concat().into_bytes())),
            service: Some(self.service.clone()),
            url: None,
        };
        let rules: &Rules = &self.cluster.rules();
        let mutating = MutatingWebhookConfiguration {
            metadata: metadata.clone(),
            webhooks: Some(render::mutating(rules, &calls)),
        };
        let validating = ValidatingWebhookConfiguration {
            metadata,
            webhooks: Some(render::validating(rules, &calls, &self.namespace)),
        };
        // The gate first: a stamp without a gate would be let in unrecorded.
        let gate = self.keep(validating, leads).await?;
        let stamp = self.keep(mutating, leads).await?;
        self.see(&gate & &stamp);
        let shown = self.certificates.shown().ca.certificate.trim().to_owned();
        Ok(gate.contains(&shown) && stamp.contains(&shown))
    }

    fn metadata(&self, home: &str, uid: String) -> ObjectMeta {
        let inject = (self.source == Source::CertManager).then(|| {
            let (key, certificate) = INJECT;
            [(key.to_owned(), format!("{home}/{certificate}"))].into()
        });
        ObjectMeta {
            name: Some(NAME.to_owned()),
            labels: Some([(VERSION_LABEL.to_owned(), env!("CARGO_PKG_VERSION").to_owned())].into()),
            annotations: inject,
            // Deleting the namespace takes the configurations with it: no lock is left that nobody answers.
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Namespace".to_owned(),
                name: home.to_owned(),
                uid,
                ..Default::default()
            }]),
            ..Default::default()
        }
    }

    /// Notes what the API server trusts now.
    fn see(&self, trusted: BTreeSet<String>) {
        let mut known = self.trusted.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|certificate, _| trusted.contains(certificate));
        for certificate in trusted {
            known.entry(certificate).or_insert_with(Instant::now);
        }
    }

    /// The certificates that this configuration trusts afterwards.
    ///
    /// A replica that does not lead is content with what is there: during an upgrade, the leader is of another version and
    /// renders otherwise, and waiting for it would keep the new replicas from ever taking its place.
    async fn keep<K: Configuration>(&self, wanted: K, leads: bool) -> Result<BTreeSet<String>> {
        let api: Api<K> = Api::all(self.client.clone());
        let kind = K::kind(&()).into_owned();
        let mut wanted = wanted;
        let live = api.get_opt(NAME).await.map_err(said).with_context(|| format!("reading the {kind}"))?;
        let Some(live) = live else {
            if !leads {
                return Ok(BTreeSet::new());
            }
            let made = api
                .create(&PostParams::default(), &wanted)
                .await
                .map_err(said)
                .with_context(|| format!("creating the {kind}"))?;
            tracing::info!("registered the {kind}");
            self.put(&made, &wanted, "deleted");
            return Ok(wanted.trusted());
        };
        if self.source == Source::CertManager {
            wanted.trust_as(&live);
        }
        if !leads || is_so(&live, &wanted) {
            if leads {
                self.note(&wanted);
            }
            return Ok(live.trusted());
        }
        wanted.meta_mut().resource_version = live.resource_version();
        let made = api
            .replace(NAME, &PostParams::default(), &wanted)
            .await
            .map_err(said)
            .with_context(|| format!("replacing the {kind}"))?;
        self.put(&made, &wanted, "edited");
        Ok(wanted.trusted())
    }

    /// Something was written. It was a repair where what we want is what had been in place: then somebody else took it away.
    fn put<K: Configuration>(&self, made: &K, wanted: &K, found: &'static str) {
        let before = self.note(wanted);
        let kind = K::kind(&());
        if before.is_none_or(|before| before != rendered(wanted)) {
            tracing::info!("the {kind} says what the policy and the certificates say now");
            return;
        }
        self.repairs.fetch_add(1, Ordering::Relaxed);
        self.metrics.repairs.get_or_create_owned(&RepairLabels { kind: K::KIND, found }).inc();
        let text = format!("somebody had {found} this {kind}; it is again what the policy says");
        tracing::warn!("{text}");
        let action = if found == "deleted" { "CreateAgain" } else { "PutBack" };
        self.notices.say(Notice::about(made, Kind::Warning, "RegistrationRepaired", text).doing(action));
    }

    /// Notes what is in place, and gives what was.
    fn note<K: Configuration>(&self, wanted: &K) -> Option<String> {
        let mut known = self.in_place.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(K::KIND, rendered(wanted))
    }
}

/// Whether it is as it should be. Others may label and annotate what they like.
fn is_so<K: Configuration>(live: &K, wanted: &K) -> bool {
    let annotated = wanted.annotations().iter().all(|(key, value)| live.annotations().get(key) == Some(value));
    let label = |object: &K| object.labels().get(VERSION_LABEL).cloned();
    annotated
        && label(live) == label(wanted)
        && live.meta().owner_references == wanted.meta().owner_references
        && live.calls_as(wanted)
}

/// What is compared between two looks: everything but the version of the object.
fn rendered<K: Configuration>(wanted: &K) -> String {
    let mut wanted = wanted.clone();
    wanted.meta_mut().resource_version = None;
    serde_json::to_string(&wanted).unwrap_or_default()
}
