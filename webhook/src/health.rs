//! Live and ready, and the sentence that says why not.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use crate::cluster::Cluster;
use crate::register::Registrar;
use crate::tls::Certificates;

/// What readiness rests on.
pub struct Health {
    cluster: Arc<Cluster>,
    registrar: Arc<Registrar>,
    certificates: Arc<Certificates>,
    server_name: String,
    clock: fn() -> DateTime<Utc>,
    reached_itself: AtomicBool,
    stopping: watch::Sender<bool>,
}

/// One thing that has to be so.
pub struct Check {
    /// What is looked at, in a word.
    pub name: &'static str,
    /// Why it is not so; `None` where it is.
    pub why: Option<String>,
}

impl Health {
    /// Not ready yet.
    pub fn new(
        cluster: Arc<Cluster>,
        registrar: Arc<Registrar>,
        certificates: Arc<Certificates>,
        (server_name, clock): (String, fn() -> DateTime<Utc>),
        stopping: watch::Sender<bool>,
    ) -> Arc<Self> {
        let reached_itself = AtomicBool::new(false);
        Arc::new(Self { cluster, registrar, certificates, server_name, clock, reached_itself, stopping })
    }

    /// The webhook has been reached over TLS under its own name, as the API server will.
    pub fn say_reached(&self) {
        self.reached_itself.store(true, Ordering::Release);
    }

    /// From here on the webhook is on its way out: it still answers, and asks for no more.
    pub fn say_stopping(&self) {
        self.stopping.send_replace(true);
    }

    /// Whether the webhook is on its way out.
    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Why no decision can be made; `None` where it can.
    pub fn cannot_decide(&self) -> Option<String> {
        let missing = self.cluster.missing();
        (!missing.is_empty()).then(|| format!("not listed yet: {}", missing.join(", ")))
    }

    /// Everything that has to be so before the API server is sent here.
    pub fn checks(&self) -> [Check; 5] {
        let reached = self.reached_itself.load(Ordering::Acquire);
        let registered = self.registrar.is_registered();
        [
            Check { name: "running", why: self.is_stopping().then(|| "stopping".to_owned()) },
            Check { name: "listed", why: self.cannot_decide() },
            Check { name: "certificate", why: self.certificates.shown().unsound(&self.server_name, (self.clock)()) },
            Check {
                name: "reached",
                why: (!reached).then(|| "not reached over TLS under its own name yet".to_owned()),
            },
            Check {
                name: "registered",
                why: (!registered).then(|| {
                    "the webhook configurations do not have the API server call us yet, or do not trust our certificate"
                        .to_owned()
                }),
            },
        ]
    }

    /// Why the webhook is not ready, a reason each; empty where it is.
    pub fn not_ready(&self) -> Vec<String> {
        self.checks().into_iter().filter_map(|check| check.why).collect()
    }
}

/// Every check in a line, as Kubernetes' own servers print them.
pub fn verbose(checks: &[Check]) -> String {
    let mut text = String::new();
    for Check { name, why } in checks {
        // Writing into memory does not fail.
        let _ = match why {
            None => writeln!(text, "[+]{name} ok"),
            Some(why) => writeln!(text, "[-]{name} failed: {why}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_is_a_line_and_one_that_fails_says_why() {
        let checks = [Check { name: "running", why: None }, Check { name: "listed", why: Some("not yet".to_owned()) }];
        assert_eq!(verbose(&checks), "[+]running ok\n[-]listed failed: not yet\n");
    }
}
