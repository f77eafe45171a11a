//! Replicas as a test looks at them: what each shows, what each counts, and what the API server is told to believe.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::http::Http;
use crate::kubectl::Kubectl;
use crate::node::Running;
use crate::probe;

/// Where the replicas live.
pub const HOME: &str = "breakglass-system";

/// The name that the API server calls them by.
pub const SERVER_NAME: &str = "breakglass-webhook.breakglass-system.svc";

/// The Secret with their CA and leaf.
pub const TLS_SECRET: &str = "breakglass-webhook-tls";

/// The ports of a replica, as the Deployment has them.
const HTTPS: u16 = 8443;
const METRICS: u16 = 8080;

/// The two kinds of webhook configurations.
const CONFIGURATIONS: [&str; 2] = ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"];

/// Somebody who looks often, without a process for each look.
pub struct Watcher<'c> {
    cluster: &'c Cluster,
    http: Http,
}

impl Cluster {
    /// Somebody who looks at the replicas as admin.
    #[must_use]
    pub fn watcher(&self) -> Watcher<'_> {
        Watcher { cluster: self, http: Http::new(&self.kubectl("admin"), "breakglass-tests/watcher") }
    }

    /// kubectl as admin, where the replicas live.
    #[must_use]
    pub fn home(&self) -> Kubectl {
        self.kubectl("admin").namespace(HOME)
    }

    /// Asks for a new `ca` or `leaf` now, as people do.
    ///
    /// # Panics
    /// When kubectl exits with anything but 0.
    pub fn rotate(&self, what: &str) {
        let wish = format!("breakglass.dev/rotate={what}");
        self.set_scene(&["-n", HOME, "annotate", "--overwrite", "secret", TLS_SECRET, &wish], "");
    }
}

impl Watcher<'_> {
    /// What the Secret holds, as text.
    ///
    /// # Errors
    /// When it is not there.
    pub fn secret(&self) -> Result<BTreeMap<String, String>> {
        let secret = self.get(&format!("/api/v1/namespaces/{HOME}/secrets/{TLS_SECRET}"))?;
        let data = secret["data"].as_object().into_iter().flatten();
        data.map(|(key, value)| {
            let bytes = BASE64.decode(value.as_str().unwrap_or_default())?;
            Ok((key.clone(), String::from_utf8_lossy(&bytes).into_owned()))
        })
        .collect()
    }

    /// Puts this in the place of what the Secret holds, as somebody who knows no better.
    ///
    /// # Panics
    /// When kubectl exits with anything but 0.
    pub fn put_secret(&self, data: &BTreeMap<String, String>) {
        let data: BTreeMap<_, _> = data.iter().map(|(key, value)| (key, BASE64.encode(value))).collect();
        let patch = json!([{"op": "add", "path": "/data", "value": data}]).to_string();
        self.cluster.set_scene(&["-n", HOME, "patch", "secret", TLS_SECRET, "--type=json", "-p", &patch], "");
    }

    /// Whether somebody's wish for a new certificate is still to be granted.
    ///
    /// # Errors
    /// When the Secret is not there.
    pub fn wished(&self) -> Result<bool> {
        let secret = self.get(&format!("/api/v1/namespaces/{HOME}/secrets/{TLS_SECRET}"))?;
        Ok(!secret["metadata"]["annotations"]["breakglass.dev/rotate"].is_null())
    }

    /// What the API server believes: the one caBundle of all calls of both configurations.
    ///
    /// # Errors
    /// When a configuration is not there, or its calls do not agree.
    pub fn trusted(&self) -> Result<[String; 2]> {
        let bundle = |plural: &str| -> Result<String> {
            let path = format!("/apis/admissionregistration.k8s.io/v1/{plural}/breakglass");
            let configuration = self.get(&path)?;
            let calls = configuration["webhooks"].as_array().cloned().unwrap_or_default();
            let mut bundles: Vec<_> =
                calls.iter().filter_map(|call| call["clientConfig"]["caBundle"].as_str()).collect();
            ensure!(!calls.is_empty() && bundles.len() == calls.len(), "{plural}: a call trusts nobody");
            bundles.dedup();
            ensure!(bundles.len() == 1, "{plural}: the calls do not agree whom to trust");
            Ok(String::from_utf8_lossy(&BASE64.decode(bundles[0])?).into_owned())
        };
        Ok([bundle(CONFIGURATIONS[0])?, bundle(CONFIGURATIONS[1])?])
    }

    /// The leaf that a replica shows to whoever trusts these CAs alone.
    ///
    /// # Errors
    /// Why it is not reached, or not believed.
    pub fn leaf(&self, replica: &Running, trusted: &str) -> Result<Vec<u8>, String> {
        probe::leaf_at(SocketAddr::from((replica.address, HTTPS)), SERVER_NAME, trusted)
    }

    /// Whether every replica shows the leaf that the Secret holds, and both configurations make the API server believe it.
    ///
    /// # Errors
    /// Why not.
    pub fn is_well(&self, replicas: usize) -> Result<(), String> {
        let said = |error: anyhow::Error| format!("{error:#}");
        let (secret, running) = (self.secret().map_err(said)?, self.cluster.nodes().running());
        if running.len() != replicas {
            return Err(format!("{replicas} replicas are wanted, there are {running:?}"));
        }
        let text = |key: &str| secret.get(key).cloned().ok_or_else(|| format!("the Secret holds no {key}"));
        let stored = probe::der(&text("tls.crt")?)?;
        for trusted in self.trusted().map_err(said)? {
            for replica in &running {
                if self.leaf(replica, &trusted)? != stored {
                    return Err(format!("{} shows another leaf than the Secret holds", replica.pod));
                }
            }
            if trusted.trim() != text("ca.crt")?.trim() {
                return Err("the API server trusts another CA, too, or none".to_owned());
            }
        }
        Ok(())
    }

    /// The sum of a metric over all replicas, labels included in its name; nothing where none has it.
    #[must_use]
    pub fn metric(&self, name: &str) -> f64 {
        self.cluster.nodes().running().iter().map(|replica| self.metric_of(replica, name).unwrap_or_default()).sum()
    }

    /// A metric of one replica, labels included in its name.
    #[must_use]
    pub fn metric_of(&self, replica: &Running, name: &str) -> Option<f64> {
        let page = probe::page_at(SocketAddr::from((replica.address, METRICS)), "/metrics").ok()?;
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned))?;
        line.trim().parse().ok()
    }

    /// The Events of that reason about an object of this kind.
    ///
    /// # Panics
    /// When they cannot be read.
    #[must_use]
    pub fn events(&self, reason: &str, kind: &str) -> Vec<Value> {
        let list = self.get("/apis/events.k8s.io/v1/events").unwrap_or_else(|error| panic!("{error:#}"));
        let mut events = list["items"].as_array().cloned().unwrap_or_default();
        events.retain(|event| event["reason"] == reason && event["regarding"]["kind"] == kind);
        events
    }

    /// The name of the pod that leads, as its Lease says; empty where nobody does.
    ///
    /// # Errors
    /// When there is no Lease.
    pub fn leader(&self) -> Result<String> {
        let lease = self.get(&format!("/apis/coordination.k8s.io/v1/namespaces/{HOME}/leases/breakglass-webhook"))?;
        Ok(lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned())
    }

    /// One object, or one list.
    ///
    /// # Errors
    /// When there is none.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.http.send("GET", path, "").with_context(|| format!("reading {path}"))
    }
}
