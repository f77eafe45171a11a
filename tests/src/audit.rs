//! The API server's audit log: who asked for what, how it was answered, and what webhooks left there.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::cluster::Cluster;
use crate::wait::wait_until;

/// The API server writes a line after it has answered.
const LIMIT: Duration = Duration::from_secs(10);

impl Cluster {
    /// The line of the last request by `user` of which `is_it` is true.
    ///
    /// # Panics
    /// When there is none, as in a cluster that was given without its log beside its kubeconfig.
    #[track_caller]
    #[must_use]
    pub fn audited(&self, user: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let given = std::env::var_os("KUBECONFIG_BREAKGLASS_TEST").filter(|_| self.webhook.is_none());
        let directory = given.as_deref().and_then(|kubeconfig| Path::new(kubeconfig).parent());
        let path = directory.unwrap_or(self.directory()).join("logs/audit.log");
        let found = wait_until("a line in the audit log", LIMIT, || {
            let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            // The last line may be half written.
            let events = text.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let mut mine =
                events.filter(|event| event["stage"] == "ResponseComplete" && event["user"]["username"] == user);
            mine.find(|event| is_it(event)).ok_or_else(|| format!("no such request of {user}"))
        });
        found.unwrap_or_else(|error| panic!("{error:#}"))
    }
}

/// Whether our stamping call changed the object, for each time that it was asked in the course of one request.
#[must_use]
pub fn stamped(event: &Value) -> Vec<bool> {
    let annotations = event["annotations"].as_object().into_iter().flatten();
    let rounds = annotations
        .filter(|(key, _)| key.starts_with("mutation.webhook.admission.k8s.io/"))
        .filter_map(|(_, value)| serde_json::from_str::<Value>(value.as_str()?).ok());
    rounds.filter(|round| round["webhook"] == "stamp.breakglass.dev").map(|round| round["mutated"] == true).collect()
}
