//! The policy → the webhook configurations; keeps them so. Rendering is `breakglass::register`, the loop is the leader's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use breakglass::register::render;
use breakglass::rules::Rules;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ServiceReference, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, Resource, ResourceExt};
use tokio::sync::watch;

use crate::cluster::Cluster;
use crate::config::Config;
use crate::said::said;

pub use breakglass::register::{GATE_PATH, NAME, STAMP_PATH};

#[cfg(test)]
mod tests;

/// The label with the version of the webhook that rendered a configuration.
const VERSION_LABEL: &str = "app.kubernetes.io/version";

/// How often the configurations are looked at when nothing happens. Nothing tells us of an edit to them (the API server
/// sends those to no webhook), and five seconds is what a detection may take.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How long one look may take, repairs included.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// Keeps the configurations what the policy says.
pub struct Registrar {
    client: Client,
    cluster: Arc<Cluster>,
    calls: WebhookClientConfig,
    namespace: String,
    registered: AtomicBool,
}

impl Registrar {
    /// Will register calls to the Service of `config`, trusted by `ca`.
    pub fn new(cluster: Arc<Cluster>, config: &Config, ca: &str) -> Arc<Self> {
        let calls = WebhookClientConfig {
            ca_bundle: Some(ByteString(ca.as_bytes().to_vec())),
            service: Some(ServiceReference {
                name: config.service.clone(),
                namespace: config.namespace.clone(),
                port: Some(i32::from(config.service_port)),
                path: None,
            }),
            url: None,
        };
        let client = cluster.client().clone();
        let namespace = config.namespace.clone();
        Arc::new(Self { client, cluster, calls, namespace, registered: AtomicBool::new(false) })
    }

    /// Whether the API server calls us.
    pub fn is_registered(&self) -> bool {
        self.registered.load(Ordering::Acquire)
    }

    /// Looks at the configurations for ever; writes them while it is the leader.
    pub async fn run(self: Arc<Self>, leading: watch::Receiver<bool>) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        let mut leading = leading;
        let mut said = String::new();
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.cluster.policy_changed.notified() => {}
                Ok(()) = leading.changed() => {}
            }
            if !self.cluster.missing().is_empty() {
                // Without the policy we would register the built-in one, and open what it does not guard.
                continue;
            }
            let leads = *leading.borrow_and_update();
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
        let metadata = ObjectMeta {
            name: Some(NAME.to_owned()),
            labels: Some([(VERSION_LABEL.to_owned(), env!("CARGO_PKG_VERSION").to_owned())].into()),
            // Deleting the namespace takes the configurations with it: no lock is left that nobody answers.
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Namespace".to_owned(),
                name: home.name_any(),
                uid: home.uid().unwrap_or_default(),
                ..Default::default()
            }]),
            ..Default::default()
        };
        let rules: &Rules = &self.cluster.rules();
        let mutating = MutatingWebhookConfiguration {
            metadata: metadata.clone(),
            webhooks: Some(render::mutating(rules, &self.calls)),
        };
        let validating = ValidatingWebhookConfiguration {
            metadata,
            webhooks: Some(render::validating(rules, &self.calls, &self.namespace)),
        };
        // The gate first: a stamp without a gate would be let in unrecorded.
        Ok(self.keep(validating, leads).await? && self.keep(mutating, leads).await?)
    }

    /// A replica that does not lead is content with a configuration that trusts it: during an upgrade, the leader is of
    /// another version and renders otherwise, and waiting for it would keep the new replicas from ever taking its place.
    async fn keep<K: Configuration>(&self, wanted: K, leads: bool) -> Result<bool> {
        let api: Api<K> = Api::all(self.client.clone());
        let kind = K::kind(&()).into_owned();
        let Some(live) = api.get_opt(NAME).await.map_err(said).with_context(|| format!("reading the {kind}"))? else {
            if leads {
                api.create(&PostParams::default(), &wanted)
                    .await
                    .map_err(said)
                    .with_context(|| format!("creating the {kind}"))?;
                tracing::info!("registered the {kind}");
            }
            return Ok(leads);
        };
        // Others may label what they like.
        let ours =
            |object: &K| (object.labels().get(VERSION_LABEL).cloned(), Resource::meta(object).owner_references.clone());
        if live.calls_as(&wanted) && ours(&live) == ours(&wanted) {
            return Ok(true);
        }
        if !leads {
            return Ok(live.trusts(&self.calls));
        }
        let mut wanted = wanted;
        Resource::meta_mut(&mut wanted).resource_version = live.resource_version();
        api.replace(NAME, &PostParams::default(), &wanted)
            .await
            .map_err(said)
            .with_context(|| format!("replacing the {kind}"))?;
        tracing::warn!("the {kind} was not what the policy says; it is now");
        Ok(true)
    }
}

/// What is asked of either kind of configuration.
trait Configuration:
    Resource<DynamicType = (), Scope = k8s_openapi::ClusterResourceScope>
    + Clone
    + std::fmt::Debug
    + serde::de::DeserializeOwned
    + serde::Serialize
{
    /// Whether both have the same webhooks.
    fn calls_as(&self, other: &Self) -> bool;

    /// Whether the API server would believe us when it calls by it.
    fn trusts(&self, calls: &WebhookClientConfig) -> bool;
}

impl Configuration for MutatingWebhookConfiguration {
    fn calls_as(&self, other: &Self) -> bool {
        self.webhooks == other.webhooks
    }

    fn trusts(&self, calls: &WebhookClientConfig) -> bool {
        self.webhooks.iter().flatten().all(|webhook| webhook.client_config.ca_bundle == calls.ca_bundle)
    }
}

impl Configuration for ValidatingWebhookConfiguration {
    fn calls_as(&self, other: &Self) -> bool {
        self.webhooks == other.webhooks
    }

    fn trusts(&self, calls: &WebhookClientConfig) -> bool {
        self.webhooks.iter().flatten().all(|webhook| webhook.client_config.ca_bundle == calls.ca_bundle)
    }
}
