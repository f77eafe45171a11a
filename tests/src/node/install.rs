//! breakglass installed from manifests/ as it is, run by the nodes.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Nodes;
use crate::cluster::Cluster;
use crate::users;
use crate::wait::wait_until;

/// What people install.
pub const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests");

/// How long after the rollout the API server may take to ask the webhook.
const LIMIT: Duration = Duration::from_secs(60);

impl Cluster {
    /// Its nodes.
    ///
    /// # Panics
    /// When it has none, as without [`crate::Setup::nodes`].
    #[must_use]
    pub fn nodes(&self) -> &Nodes {
        self.nodes.as_ref().unwrap_or_else(|| panic!("this cluster has no nodes of ours"))
    }

    /// Installs breakglass from manifests/, waits until its Deployment is rolled out, and until prod is closed.
    ///
    /// # Errors
    /// When the API server refuses a manifest, or a replica does not become ready: with what the pods say.
    pub fn install_manifests(&self) -> Result<()> {
        self.install(&self.manifests(MANIFESTS.as_ref())?)
    }

    /// The documents that a folder of manifests stands for.
    ///
    /// # Errors
    /// When kustomize cannot read it.
    pub fn manifests(&self, folder: &Path) -> Result<String> {
        self.kubectl("admin").try_ok(&["kustomize", &folder.display().to_string()], "")
    }

    /// The same with these documents, such as those of another version.
    ///
    /// # Errors
    /// When the API server refuses one, or a replica does not become ready: with what the pods say.
    pub fn install(&self, manifests: &str) -> Result<()> {
        let admin = self.kubectl("admin");
        // Server-side, since the CRDs are larger than the annotation that a client-side apply leaves.
        admin.try_ok(&["apply", "--server-side", "-f", "-"], manifests).context("applying the manifests")?;
        admin.try_ok(&["apply", "--server-side", "-f", "-"], users::BREAKGLASS_RIGHTS)?;
        self.wait_rolled_out()?;
        let alice = self.kubectl("alice");
        wait_until("prod to be closed", LIMIT, || {
            let output = alice.run(&["-n", "prod", "create", "configmap", "breakglass-probe", "--dry-run=server"]);
            if output.stderr.contains("break-glass token") { Ok(()) } else { Err(format!("a dry run: {output}")) }
        })
    }

    /// Waits until the webhook's Deployment is rolled out.
    ///
    /// # Errors
    /// When it is not within two minutes: with what the pods say.
    pub fn wait_rolled_out(&self) -> Result<()> {
        let admin = self.kubectl("admin").namespace("breakglass-system");
        let rollout = ["rollout", "status", "deployment/breakglass-webhook", "--timeout=120s"];
        admin.try_ok(&rollout, "").map(drop).with_context(|| {
            let pods = admin.run(&["get", "pods", "-o", "wide"]);
            format!("{pods}\nthe log of each pod is {}/logs/<pod>.log", self.directory().display())
        })
    }
}
