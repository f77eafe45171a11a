//! Live and ready, and the sentence that says why not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cluster::Cluster;
use crate::register::Registrar;

/// What readiness rests on.
pub struct Health {
    cluster: Arc<Cluster>,
    registrar: Arc<Registrar>,
    reached_itself: AtomicBool,
    stopping: AtomicBool,
}

impl Health {
    /// Not ready yet.
    pub fn new(cluster: Arc<Cluster>, registrar: Arc<Registrar>) -> Arc<Self> {
        let (reached_itself, stopping) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { cluster, registrar, reached_itself, stopping })
    }

    /// The webhook has been reached over TLS under its own name, as the API server will.
    pub fn say_reached(&self) {
        self.reached_itself.store(true, Ordering::Release);
    }

    /// From here on the webhook is on its way out: it still answers, and asks for no more.
    pub fn say_stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Whether the webhook is on its way out.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Why no decision can be made; `None` where it can.
    pub fn cannot_decide(&self) -> Option<String> {
        let missing = self.cluster.missing();
        (!missing.is_empty()).then(|| format!("not listed yet: {}", missing.join(", ")))
    }

    /// Why the webhook is not ready; `None` where it is.
    pub fn not_ready(&self) -> Option<String> {
        if self.is_stopping() {
            return Some("stopping".to_owned());
        }
        if let Some(why) = self.cannot_decide() {
            return Some(why);
        }
        if !self.reached_itself.load(Ordering::Acquire) {
            return Some("not reached over TLS under its own name yet".to_owned());
        }
        (!self.registrar.is_registered())
            .then(|| "the webhook configurations do not have the API server call us yet".to_owned())
    }
}
