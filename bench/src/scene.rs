//! Where it is measured: one cluster with our webhook in it, and one without, where a webhook that does nothing can be put.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tests::binaries::Ours;
use tests::{Cluster, Setup};
use tokio::runtime::Runtime;

use crate::etcd::Etcd;
use crate::load::{Call, Load, Target, same};
use crate::process::Watched;
use crate::serve::Server;

/// Writes as somebody who is asked for no token.
pub const OVERRIDE: [&str; 6] =
    ["--as", "admin", "--as-group", "system:masters", "--as-group", "breakglass.dev:override"];

/// The programs under measure, as a release has them.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Our webhook.
    pub webhook: PathBuf,
    /// The webhook that does nothing.
    pub noop: PathBuf,
    /// Our plugin.
    pub plugin: PathBuf,
}

/// A cluster, its processes, and what calls it.
pub struct Scene {
    /// The cluster.
    pub cluster: Cluster,
    /// Its webhook: ours, or the one that does nothing.
    pub webhook: Server,
    /// Its API server.
    pub api_server: Watched,
    /// Its etcd.
    pub etcd: Etcd,
    /// What the load runs on.
    pub runtime: Arc<Runtime>,
}

impl Scene {
    /// A cluster with our webhook. What the cluster started is ended, and started again as a child of ours.
    ///
    /// # Errors
    /// What does not start.
    pub fn ours(programs: &Programs, runtime: &Arc<Runtime>) -> Result<Self> {
        let ours = Ours { webhook: programs.webhook.clone(), plugin: programs.plugin.clone() };
        let cluster = Setup::new("bench").webhook().programs(ours).start()?;
        let port = cluster.webhook().port();
        let running = Watched::by_argument(&format!("127.0.0.1:{port}"))?;
        let mut webhook = Server::like(running, port, cluster.directory())?;
        cluster.webhook().kill();
        webhook.start()?;
        Self::around(cluster, webhook, runtime)
    }

    /// A cluster without it. Nobody calls the webhook that does nothing before [`Self::register`].
    ///
    /// # Errors
    /// What does not start.
    pub fn bare(programs: &Programs, runtime: &Arc<Runtime>) -> Result<Self> {
        let ours = Ours { webhook: programs.webhook.clone(), plugin: programs.plugin.clone() };
        let cluster = Setup::new("bench-bare").programs(ours).start()?;
        let webhook = Server::noop(&programs.noop, cluster.directory())?;
        Self::around(cluster, webhook, runtime)
    }

    fn around(mut cluster: Cluster, webhook: Server, runtime: &Arc<Runtime>) -> Result<Self> {
        let plane = cluster.control_plane().context("the control plane is ours")?;
        let (api_server, etcd) = (Watched(plane.api_server.process.id()), Etcd::new(&plane.etcd.url));
        Ok(Self { cluster, webhook, api_server, etcd, runtime: Arc::clone(runtime) })
    }

    /// Has the API server ask the webhook that does nothing about what is written in these namespaces: once to change it and
    /// once to check it, by the name of a Service and so over HTTP/1.1, as it asks ours.
    ///
    /// # Errors
    /// What the API server refuses.
    pub fn register(&self, namespaces: &[&str]) -> Result<()> {
        let authority = STANDARD.encode(std::fs::read(self.cluster.directory().join("noop.crt"))?);
        let admin = self.cluster.kubectl("admin");
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "noop", "namespace": "default"},
            "spec": {"type": "ExternalName", "externalName": "localhost"}});
        admin.try_ok(&["apply", "--server-side", "-f", "-"], &service.to_string())?;
        for (kind, path) in [("MutatingWebhookConfiguration", "/read"), ("ValidatingWebhookConfiguration", "/read")] {
            let document = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
                "metadata": {"name": "noop"}, "webhooks": [{
                    "name": "noop.bench.example.com", "admissionReviewVersions": ["v1"], "failurePolicy": "Fail",
                    "clientConfig": {"caBundle": authority, "service":
                        {"namespace": "default", "name": "noop", "path": path, "port": self.webhook.port}},
                    "namespaceSelector": {"matchExpressions": [
                        {"key": "kubernetes.io/metadata.name", "operator": "In", "values": namespaces}]},
                    "rules": [{"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"],
                        "scope": "*"}],
                    "sideEffects": "None"}]});
            admin.try_ok(&["apply", "--server-side", "-f", "-"], &document.to_string())?;
        }
        Ok(())
    }

    /// Opens a token for alice in prod.
    ///
    /// # Errors
    /// When it is refused.
    pub fn open_token(&self) -> Result<String> {
        let name = format!("inc-900001-{}", random_end());
        let token = json!({"apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassToken", "metadata": {"name": name},
            "spec": {"incident": "INC-900001", "reason": "a benchmark", "environment": "prod", "ttl": "3h"}});
        let opened =
            self.one("alice", Call::post("/apis/breakglass.dev/v1alpha1/breakglasstokens", token.to_string()))?;
        anyhow::ensure!(opened.0 == 201, "opening a token: {}", opened.1);
        Ok(name)
    }

    /// The API server as this person.
    ///
    /// # Errors
    /// When their kubeconfig cannot be used.
    pub fn person(&self, name: &str) -> Result<Target> {
        Target::api(self.cluster.kubectl(name).kubeconfig())
    }

    /// Sends one call as this person; its status and what was wrong with it.
    ///
    /// # Errors
    /// When their kubeconfig cannot be used.
    pub fn one(&self, person: &str, call: Call) -> Result<(u16, String)> {
        let run = Load::new(&self.runtime, &self.person(person)?, 1).closed(1, &same(call));
        let answer = run.answers.first().context("one call has one answer")?;
        Ok((answer.status, answer.text.clone()))
    }

    /// Makes an object as somebody who is asked for no token.
    ///
    /// # Errors
    /// What the API server refuses.
    pub fn make(&self, object: &Value) -> Result<()> {
        let args = [&["apply", "--server-side", "--force-conflicts", "-f", "-"], &OVERRIDE[..]].concat();
        self.cluster.kubectl("admin").try_ok(&args, &object.to_string())?;
        Ok(())
    }
}

/// Five characters that no other token of this run has.
pub fn random_end() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut number = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut end = String::new();
    for _ in 0..5 {
        end.push(char::from(b"bcdfghjklmnpqrst"[(number % 16) as usize]));
        number /= 16;
    }
    end
}
