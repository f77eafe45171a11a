//! What this replica says of itself: a Lease of its own in our namespace, for `kubectl breakglass doctor`. Nothing is decided
//! by it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use breakglass::api::{Timestamp, TokenPhase};
use breakglass::report::{self, Report};
use chrono::{DateTime, Utc};
use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;
use tokio::sync::watch;

use crate::cluster::Cluster;
use crate::follow::FIELD_MANAGER;
use crate::health::Health;
use crate::leader::Leading;
use crate::metrics::{CertificateLabel, Metrics, PhaseLabel, StateLabel, WatchLabel};
use crate::register::Registrar;
use crate::said::said;
use crate::tls::{Certificates, ca};

/// How often it says so in any case.
const EVERY: Duration = Duration::from_secs(report::EVERY_SECONDS as u64);

/// How often it looks whether there is something new to say: people look right after an install.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long saying it may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What a replica left behind that did not go with its pod, the leader takes away after this.
const STALE: Duration = Duration::from_secs(3_600);

/// What a report is made of.
pub struct Replica {
    /// The name of its pod.
    pub name: String,
    /// The pod's uid: with the pod goes the Lease.
    pub pod_uid: Option<String>,
    /// Knows which watches are cut off.
    pub cluster: Arc<Cluster>,
    /// Knows why it is not ready.
    pub health: Arc<Health>,
    /// Counts repairs.
    pub registrar: Arc<Registrar>,
    /// Knows when they end.
    pub certificates: Arc<Certificates>,
    /// Counts failed records.
    pub metrics: Arc<Metrics>,
    /// Whether it leads.
    pub leading: Leading,
    /// Says what time it is here.
    pub clock: fn() -> DateTime<Utc>,
}

impl Replica {
    /// Says it until the webhook stops: when something has changed, and now and then.
    pub async fn report(self: Arc<Self>, leases: Api<Lease>, stopping: watch::Receiver<bool>) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last: Option<(Report, Instant)> = None;
        while !*stopping.borrow() {
            tick.tick().await;
            let report = self.now();
            if last.as_ref().is_some_and(|(said, at)| at.elapsed() < EVERY && is_same(said, &report)) {
                continue;
            }
            match tokio::time::timeout(TIMEOUT, self.say(&leases, &report)).await {
                Ok(Ok(())) => last = Some((report, Instant::now())),
                Ok(Err(error)) => tracing::warn!("saying how this replica is: {error:#}"),
                Err(_) => tracing::warn!("saying how this replica is took longer than {TIMEOUT:?}"),
            }
        }
    }

    async fn say(&self, leases: &Api<Lease>, report: &Report) -> Result<()> {
        let name = format!("{}{}", report::NAME_PREFIX, self.name);
        let report = serde_json::to_string(report).context("writing the report")?;
        let owner = self
            .pod_uid
            .as_ref()
            .map(|uid| json!([{"apiVersion": "v1", "kind": "Pod", "name": self.name, "uid": uid}]));
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "labels": {report::LABEL: "true"}, "annotations": {report::ANNOTATION: report},
                "ownerReferences": owner},
            "spec": {"holderIdentity": self.name, "renewTime": (self.clock)().format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()},
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        leases.patch(&name, &params, &Patch::Apply(lease)).await.map_err(said).context("writing the Lease")?;
        if self.leading.now() { self.tidy(leases).await } else { Ok(()) }
    }

    /// Sets the metrics that say how things are, and not how often something happened.
    pub fn gauge(&self) {
        let (metrics, now) = (&self.metrics, (self.clock)());
        metrics.ready.set(i64::from(self.health.not_ready().is_empty()));
        metrics.leader.set(i64::from(self.leading.now()));
        for (watch, time) in self.cluster.cut_off() {
            metrics.cut_off.get_or_create_owned(&WatchLabel { watch }).set(time.as_secs_f64());
        }
        let shown = self.certificates.shown();
        for (certificate, pem) in [("ca", &shown.ca.certificate), ("leaf", &shown.leaf.certificate)] {
            let end = ca::end(pem).map_or(0, |end| end.timestamp());
            metrics.certificate_ends.get_or_create_owned(&CertificateLabel { certificate }).set(end);
        }
        let phases = self.cluster.tokens_by_phase();
        for phase in TokenPhase::ALL {
            let label = PhaseLabel { phase: phase.as_str() };
            metrics.tokens.get_or_create_owned(&label).set(phases.get(phase.as_str()).copied().unwrap_or_default());
        }
        for (state, number) in self.cluster.changes_by_state() {
            metrics.changes.get_or_create_owned(&StateLabel { state }).set(number);
        }
        let debt = self.cluster.debt(now);
        let number = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
        metrics.debt.set(number(debt.changes));
        metrics.overdue.set(number(debt.overdue.len()));
        metrics.oldest.set(debt.oldest.map_or(0.0, |made| (now - made).as_seconds_f64()));
    }

    fn now(&self) -> Report {
        let shown = self.certificates.shown();
        let ends = [("ca", &shown.ca.certificate), ("leaf", &shown.leaf.certificate)];
        let ends = ends.into_iter().filter_map(|(name, pem)| Some((name.to_owned(), Timestamp::new(ca::end(pem)?))));
        let watches = self.cluster.cut_off().into_iter();
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        Report {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            not_ready: self.health.not_ready(),
            leads: self.leading.now(),
            certificates: ends.collect::<BTreeMap<_, _>>(),
            watches: watches.map(|(name, time)| (name.to_owned(), seconds(time))).collect(),
            failed_records: self.metrics.records_failed.get(),
            repairs: self.registrar.repairs(),
        }
    }

    /// Takes away what replicas left behind whose pod did not take it along.
    async fn tidy(&self, leases: &Api<Lease>) -> Result<()> {
        let all = ListParams::default().labels(&format!("{}=true", report::LABEL));
        for lease in leases.list(&all).await.map_err(said).context("listing the replicas")? {
            let said_at = lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref());
            let said_at = said_at.and_then(|time| DateTime::from_timestamp(time.0.as_second(), 0));
            let age = said_at.map(|at| ((self.clock)() - at).to_std().unwrap_or_default());
            if age.is_none_or(|age| age > STALE) {
                let name = lease.name_any();
                leases
                    .delete(&name, &DeleteParams::default())
                    .await
                    .map_err(said)
                    .with_context(|| format!("deleting {name}"))?;
            }
        }
        Ok(())
    }
}

/// Whether two reports say the same, but for what grows all the time.
fn is_same(said: &Report, now: &Report) -> bool {
    let still = |report: &Report| Report { watches: BTreeMap::new(), ..report.clone() };
    still(said) == still(now)
}
