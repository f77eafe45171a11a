//! The Lease: one replica runs the loops, all replicas admit. Losing it costs nothing but time.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::sync::watch;

use crate::said::said;

/// The name of the Lease.
pub const LEASE: &str = "breakglass-webhook";

/// How long a leader that says nothing is believed to be one.
const DURATION: Duration = Duration::from_secs(15);

/// How often the lease is looked at, and renewed: several times within its duration, so that one failed request is none.
const EVERY: Duration = Duration::from_secs(3);

/// Whether this replica leads.
#[derive(Clone, Debug)]
pub struct Leading(watch::Receiver<Option<Instant>>);

impl Leading {
    /// Whether it does now. By the clock, too: a process that was held past the end of its Lease leads no more when it goes on,
    /// before it has looked at the Lease, and writes nothing of what it knew back then.
    pub fn now(&self) -> bool {
        self.0.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Returns when it begins or ends to.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // Who would say it is gone: nothing changes any more.
            std::future::pending::<()>().await;
        }
    }
}

/// Where it is said.
#[derive(Debug)]
pub struct Lead(watch::Sender<Option<Instant>>);

impl Lead {
    /// Until then, or not; told to those who wait where that is news.
    fn say(&self, until: Option<Instant>) {
        self.0.send_if_modified(|now| std::mem::replace(now, until).is_some() != until.is_some());
    }

    /// Says that the time is over, where it is.
    fn lapse(&self) {
        self.0.send_if_modified(|now| now.take_if(|until| *until <= Instant::now()).is_some());
    }
}

/// Nobody leads yet.
pub fn leading() -> (Lead, Leading) {
    let (lead, leading) = watch::channel(None);
    (Lead(lead), Leading(leading))
}

/// Tries to lead until the webhook stops, and says whether it does. Who stops gives the lease back: the next one leads at once.
///
/// Every write the loops make is conditional on what they read, so two leaders for a moment do no harm.
pub async fn campaign(
    leases: Api<Lease>,
    identity: String,
    clock: fn() -> DateTime<Utc>,
    lead: Lead,
    mut stopping: watch::Receiver<bool>,
) {
    let mut seen: Option<(String, Instant)> = None;
    let mut tick = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = stopped(&mut stopping) => {
                lead.say(None);
                match tokio::time::timeout(EVERY, give_back(&leases, &identity)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::warn!("giving the lease back: {error:#}"),
                    Err(_) => tracing::warn!("giving the lease back: the API server took too long"),
                }
                return;
            }
        }
        let asked = Instant::now();
        match tokio::time::timeout(EVERY, attempt(&leases, &identity, clock(), &mut seen)).await {
            Ok(Ok(leads)) => {
                // Steps down before another may step up.
                lead.say(leads.then(|| asked + (DURATION - EVERY)));
            }
            Ok(Err(error)) => tracing::warn!("renewing the lease: {error:#}"),
            Err(_) => tracing::warn!("renewing the lease: the API server took too long"),
        }
        lead.lapse();
    }
}

/// Takes or renews the lease if it is free. Whether we lead.
async fn attempt(
    leases: &Api<Lease>,
    identity: &str,
    now: DateTime<Utc>,
    seen: &mut Option<(String, Instant)>,
) -> Result<bool> {
    let mine = |transitions: i32, acquired: Option<MicroTime>| LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: acquired.or_else(|| micro(now)),
        renew_time: micro(now),
        lease_transitions: Some(transitions),
        ..Default::default()
    };
    let Some(mut lease) = leases.get_opt(LEASE).await.map_err(said).context("reading the lease")? else {
        let metadata = ObjectMeta { name: Some(LEASE.to_owned()), ..Default::default() };
        let lease = Lease { metadata, spec: Some(mine(0, None)) };
        return won(leases.create(&PostParams::default(), &lease).await);
    };
    let spec = lease.spec.take().unwrap_or_default();
    let holder = spec.holder_identity.clone().unwrap_or_default();
    let version = lease.metadata.resource_version.clone().unwrap_or_default();
    // Time is measured here, from when we saw the lease change: the holder's clock says nothing.
    let since = match seen {
        Some((known, since)) if *known == version => *since,
        _ => seen.insert((version, Instant::now())).1,
    };
    let transitions = spec.lease_transitions.unwrap_or_default();
    lease.spec = Some(if holder == identity {
        mine(transitions, spec.acquire_time)
    } else if holder.is_empty() || since.elapsed() > DURATION {
        mine(transitions + 1, None)
    } else {
        return Ok(false);
    });
    won(leases.replace(LEASE, &PostParams::default(), &lease).await)
}

/// Returns when the webhook stops.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // Who would say it is gone: that is an end, too.
    let _ = stopping.wait_for(|&stopping| stopping).await;
}

/// Leaves the lease without a holder, if it is ours.
async fn give_back(leases: &Api<Lease>, identity: &str) -> Result<()> {
    let Some(mut lease) = leases.get_opt(LEASE).await.map_err(said).context("reading the lease")? else {
        return Ok(());
    };
    let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_deref() == Some(identity)) else {
        return Ok(());
    };
    spec.holder_identity = None;
    won(leases.replace(LEASE, &PostParams::default(), &lease).await).map(drop)
}

fn won(result: kube::Result<Lease>) -> Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
        Err(error) => Err(said(error)).context("writing the lease"),
    }
}

fn micro(at: DateTime<Utc>) -> Option<MicroTime> {
    jiff::Timestamp::from_microsecond(at.timestamp_micros()).ok().map(MicroTime)
}
