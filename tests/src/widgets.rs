//! A kind that nobody else knows: how custom resources are treated, and objects of any shape.

use anyhow::Result;

use crate::cluster::Cluster;
use crate::users::wait_until_may;

/// `widgets.e2e.example.com`, and the right of who may edit a namespace to write them.
const WIDGETS: &str = include_str!("widgets.yaml");

impl Cluster {
    /// Installs the kind, if it is not there, and waits until alice may write it in `namespace`.
    ///
    /// # Errors
    /// When the API server does not take it.
    pub fn widgets(&self, namespace: &str) -> Result<()> {
        // Server-side, which is one request an object: tests that install it at once do not stumble over each other.
        self.set_scene(&["apply", "--server-side", "-f", "-"], WIDGETS);
        let crd = ["wait", "--for=condition=Established", "--timeout=60s", "crd/widgets.e2e.example.com"];
        self.kubectl("admin").try_ok(&crd, "")?;
        wait_until_may(&self.kubectl("alice"), ["create", "widgets.e2e.example.com"], namespace)
    }
}
