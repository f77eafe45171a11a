//! Whether one replica runs the loops: without it nothing is repaired, and no token's phase is kept.

use chrono::{DateTime, TimeDelta, Utc};
use k8s_openapi::api::coordination::v1::Lease;

use super::{Finding, HOME, Level, written};

const CHECK: &str = "leader";

/// The Lease of the leader.
pub const LEASE: &str = "breakglass-webhook";

/// The leader renews every three seconds; another takes over after fifteen.
const LATE: TimeDelta = TimeDelta::seconds(20);

/// What is found at `now`, by the API server's clock. `living` are the names of pods and of replicas that report.
pub fn leader(lease: Option<&Lease>, living: &[String], now: DateTime<Utc>) -> Vec<Finding> {
    let problem = |message: String| {
        let hint = format!("kubectl -n {HOME} logs -l app.kubernetes.io/name=breakglass --tail=20");
        Finding::new(Level::Problem, CHECK, message).hint(hint).object(format!("lease.coordination.k8s.io/{LEASE}"))
    };
    let without = "nobody repairs the webhook configurations, and no token's phase is kept";
    let Some(lease) = lease else { return vec![problem(format!("no replica leads: {without}"))] };
    let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
    if holder.is_empty() {
        return vec![problem(format!("no replica leads: {without}"))];
    }
    let since = written(&lease.metadata).map(|written| now - written);
    if let Some(since) = since.filter(|since| *since > LATE) {
        return vec![problem(format!(
            "{holder} has not renewed its lead for {} s, and nobody took over: {without}",
            since.num_seconds()
        ))];
    }
    if !living.is_empty() && !living.contains(&holder) {
        return vec![problem(format!(
            "{holder} leads, and is no replica of the Deployment: somebody else holds the Lease"
        ))];
    }
    vec![Finding::new(Level::Ok, CHECK, format!("{holder} leads"))]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_leader_is_a_replica_that_renews_its_lead() {
        let now: DateTime<Utc> = "2026-11-20T12:00:00Z".parse().unwrap();
        let lease = |holder: &str, age: i64| -> Lease {
            let managed = json!([{"manager": "webhook", "operation": "Update", "time": now - TimeDelta::seconds(age)}]);
            serde_json::from_value(json!({"metadata": {"managedFields": managed}, "spec": {"holderIdentity": holder}}))
                .unwrap()
        };
        let living = ["a".to_owned(), "b".to_owned()];
        for (given, level, message) in [
            (Some(lease("a", 3)), Level::Ok, "a leads"),
            (Some(lease("a", 20)), Level::Ok, "a leads"),
            (Some(lease("a", 21)), Level::Problem, "a has not renewed its lead for 21 s"),
            (Some(lease("x", 3)), Level::Problem, "x leads, and is no replica"),
            (Some(lease("", 3)), Level::Problem, "no replica leads"),
            (None, Level::Problem, "no replica leads"),
        ] {
            let found = leader(given.as_ref(), &living, now);
            assert!(found[0].level == level && found[0].message.starts_with(message), "{found:#?}");
        }
    }
}
