//! The admission webhook. Modules stand in the order in which a request meets them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use prometheus_client::metrics::counter::Counter;
use rustls::crypto::SecureRandom;
use tokio::net::TcpListener;
use tokio::sync::watch;

// Flags.
pub mod config;
// Lines on stderr that nobody waits for.
pub mod logs;
// Sockets: TLS, bounded connections, a graceful stop.
mod listen;
// The connections there are, and who has to make room.
mod peers;
// The certificates that are gone by, and the Secret they live in.
mod tls;
// Paths, limits, and what is answered when there is nothing to decide.
mod routes;
// A review from the wire into memory, as far as there is room.
mod body;
// AdmissionReview bytes → Write; answer → bytes.
pub mod review;
// READ THIS FIRST: one write from arrival to answer.
mod admit;
// Everything that one decision rests on.
mod scene;
// Writes to our own kinds.
mod own;
// The record, kept before a write is let in.
mod ledger;
// Writes to one object come one after another.
mod turn;
// What the ledger says of an object.
mod past;
// What becomes of a write that was let in.
mod follow;
// What is known of a change, written down.
mod status;
// Every change comes to its end.
mod settle;
// The object of a change, as it is now.
mod target;
// The stamp of a scale goes onto the scaled object.
mod parent;
// What the writer is told.
mod advise;
// The Kustomization that applies an object.
mod kustomization;
// What we know of the cluster now.
mod cluster;
// The policy → the webhook configurations.
mod register;
// Which replica runs the loops.
mod leader;
// Token life, for people who look.
mod tokens;
// Changes whose time to decide is over.
mod debt;
// Live and ready.
mod health;
// What this replica says of itself.
mod replica;
// Every metric.
pub mod metrics;
// Events on the objects concerned.
mod notice;
// What the API server said, in its own words.
mod said;

use config::Config;

/// How long the API server may take to answer what the webhook starts with, and how soon it is asked again.
const START_TIMEOUT: Duration = Duration::from_secs(10);
const START_EVERY: Duration = Duration::from_secs(1);

/// How often the webhook tries to reach itself until it does.
const REACH_EVERY: Duration = Duration::from_millis(100);

/// Runs the webhook until it is told to stop.
///
/// # Errors
/// What keeps it from starting: no API server, no rights, no port.
pub async fn serve(config: Config, log_lines_lost: Counter) -> Result<()> {
    // Before anything is waited for: whoever ends a pod that is still starting need not wait either.
    let mut signals = listen::Signals::new()?;
    let server = tokio::select! {
        biased;
        () = signals.received() => {
            tracing::info!("told to stop while starting");
            return Ok(());
        }
        server = start(&config, log_lines_lost) => server?,
    };
    server.serve(signals, config.lameduck()).await;
    Ok(())
}

/// Starts everything, in the order in which one thing needs the other.
async fn start(config: &Config, log_lines_lost: Counter) -> Result<listen::Server> {
    // One provider for the whole process, before anything can choose another. It is only refused when it is there already.
    let provider = rustls::crypto::ring::default_provider();
    let random = provider.secure_random;
    provider.install_default().ok();

    let client = config.client().await?;
    let plain = config.metrics_listen;
    let plain = TcpListener::bind(plain).await.with_context(|| format!("listening on {plain} for metrics"))?;
    let (plain, until_started) = listen::shared(plain)?;
    let until_started = tokio::spawn(listen::serve_plain(until_started, routes::starting_router()));
    let name = match config.identity.clone() {
        Some(name) => name,
        None => format!("{:08x}", u32::from_be_bytes(random_bytes(random)?)),
    };
    let metrics = Arc::new(metrics::Metrics::new(log_lines_lost));
    let notices = notice::Notices::new(client.clone(), name.clone(), metrics.clone());
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &config.namespace);
    let key = until_answered(|| tls::secret::key(&secrets, || random_bytes(random))).await;
    let rotation = rotation(config, &secrets, &metrics);
    let certificates = tls::Certificates::new(until_answered(|| rotation.begin()).await)?;

    let cluster = cluster::Cluster::new(client.clone())?;
    tokio::spawn(cluster.clone().follow());
    let (lead, leading) = leader::leading();
    let (stop, stopping) = watch::channel(false);
    let leases: Api<Lease> = Api::namespaced(client, &config.namespace);
    tokio::spawn(leader::campaign(leases.clone(), name.clone(), Utc::now, lead, stopping.clone()));
    let told = (metrics.clone(), notices.clone());
    let registrar = register::Registrar::new(cluster.clone(), config, certificates.clone(), told);
    tokio::spawn(registrar.clone().run(leading.clone(), stopping.clone()));
    tokio::spawn(rotation.keep(certificates.clone(), registrar.clone(), notices.clone(), leading.clone()));
    tokio::spawn(tokens::keep(cluster.clone(), leading.clone(), Utc::now));
    tokio::spawn(debt::tell(cluster.clone(), notices.clone(), leading.clone(), Utc::now));
    let follower = follow::Follower::new(cluster.clone(), Utc::now);
    tokio::spawn(follower.clone().keep(leading.clone()));
    let settler = settle::Settler {
        cluster: cluster.clone(),
        key: key.clone(),
        notices: notices.clone(),
        clock: Utc::now,
        claims: Default::default(),
    };
    tokio::spawn(Arc::new(settler).keep(leading.clone()));
    tokio::spawn(settle::objects::keep(cluster.clone(), leading.clone(), Utc::now));

    let named = (config.server_name(), Utc::now as fn() -> DateTime<Utc>);
    let health = health::Health::new(cluster.clone(), registrar.clone(), certificates.clone(), named, stop);
    let replica = replica::Replica {
        name,
        pod_uid: config.pod_uid.clone(),
        cluster: cluster.clone(),
        health: health.clone(),
        registrar,
        certificates: certificates.clone(),
        metrics: metrics.clone(),
        leading,
        clock: Utc::now,
    };
    let admission = admit::Admission {
        cluster,
        key,
        clock: Utc::now,
        random: random_number,
        follower,
        turns: turn::Turns::default(),
        metrics: metrics.clone(),
        notices,
    };
    let callers = callers(config, &secrets).await;
    let allowed = match &callers {
        Some(_) => routes::Callers::Certified(config.client_name.clone()),
        None => routes::Callers::Any,
    };
    let shared = routes::Shared::new(admission, health.clone(), allowed);

    let listener = TcpListener::bind(config.listen).await.with_context(|| format!("listening on {}", config.listen))?;
    let address = listener.local_addr().context("asking for our own address")?;
    tokio::spawn(reach_itself(health.clone(), address, config.server_name(), certificates.clone()));
    tracing::info!(%address, metrics = %plain.local_addr().context("asking for our own address")?, version = env!("CARGO_PKG_VERSION"), "serving");
    let replica = Arc::new(replica);
    until_started.abort();
    tokio::spawn(listen::serve_plain(plain, routes::plain_router(shared.clone(), replica.clone())));
    tokio::spawn(replica.report(leases, stopping));
    let tls = Arc::new(certificates.server_config(callers)?);
    let peers = peers::Peers::new(metrics);
    Ok(listen::Server { listener, tls, router: routes::router(shared), health, peers })
}

fn rotation(config: &Config, secrets: &Api<Secret>, metrics: &Arc<metrics::Metrics>) -> tls::rotate::Rotation {
    tls::rotate::Rotation {
        secrets: secrets.clone(),
        source: config.certificates,
        server_name: config.server_name(),
        clock: Utc::now,
        metrics: metrics.clone(),
    }
}

/// Who may call; everybody, where nobody says how to tell.
async fn callers(config: &Config, secrets: &Api<Secret>) -> Option<Arc<tls::callers::Callers>> {
    let name = config.client_ca_secret.as_ref()?;
    let callers = until_answered(|| tls::callers::Callers::new(secrets, name)).await;
    tokio::spawn(callers.clone().keep(secrets.clone(), name.clone()));
    Some(callers)
}

/// What has to be read before anything can be served, asked for until it is there. A cluster that comes back from nothing has
/// its API server when it has it; whoever gives up meanwhile waits for the kubelet, which takes ever longer to start it again.
async fn until_answered<T>(ask: impl AsyncFn() -> Result<T>) -> T {
    let mut said = String::new();
    loop {
        let answer = tokio::time::timeout(START_TIMEOUT, ask()).await;
        match answer.unwrap_or_else(|_| Err(anyhow::anyhow!("the API server took longer than {START_TIMEOUT:?}"))) {
            Ok(answer) => return answer,
            // Once, not every second.
            Err(error) if said == format!("{error:#}") => {}
            Err(error) => {
                said = format!("{error:#}");
                tracing::error!("not started yet, trying again: {said}");
            }
        }
        tokio::time::sleep(START_EVERY).await;
    }
}

/// Tries until it succeeds: readiness waits for it.
async fn reach_itself(
    health: Arc<health::Health>,
    mut address: std::net::SocketAddr,
    name: String,
    certificates: Arc<tls::Certificates>,
) {
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    while let Err(error) = listen::reach(address, &name, &certificates.shown().ca.certificate).await {
        tracing::warn!("reaching ourselves: {error:#}");
        tokio::time::sleep(REACH_EVERY).await;
    }
    health.say_reached();
}

fn random_bytes<const N: usize>(random: &dyn SecureRandom) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    match random.fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(_) => anyhow::bail!("the system gives no random bytes"),
    }
}

/// A number that makes two changes of one second different. It keeps no secret: the key does.
fn random_number() -> u32 {
    use std::hash::{BuildHasher, Hasher};
    // Every RandomState is seeded anew.
    let hash = std::hash::RandomState::new().build_hasher().finish();
    u32::try_from(hash >> 32).unwrap_or_default()
}
