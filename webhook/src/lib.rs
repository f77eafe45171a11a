//! The admission webhook. Modules stand in the order in which a request meets them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use chrono::Utc;
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use rustls::crypto::SecureRandom;
use tokio::net::TcpListener;
use tokio::sync::watch;

// Flags.
pub mod config;
// Sockets: TLS, bounded connections, a graceful stop.
mod listen;
// The certificate that is shown, and the Secret it lives in.
mod tls;
// Paths, limits, and what is answered when there is nothing to decide.
mod routes;
// AdmissionReview bytes → Write; answer → bytes.
pub mod review;
// READ THIS FIRST: one write from arrival to answer.
mod admit;
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
// The object of a change, as it is now.
mod target;
// The stamp of a scale goes onto the scaled object.
mod parent;
// What the writer is told.
mod advise;
// What we know of the cluster now.
mod cluster;
// The policy → the webhook configurations.
mod register;
// Which replica runs the loops.
mod leader;
// Token life, for people who look.
mod tokens;
// Live and ready.
mod health;
// What the API server said, in its own words.
mod said;

use config::Config;

/// How often the webhook tries to reach itself until it does.
const REACH_EVERY: Duration = Duration::from_millis(100);

/// Silences the API server's client, whatever RUST_LOG says.
const QUIET_CLIENT: &str = "kube_client=off";

/// Logs to stderr, as text on a terminal and as JSON elsewhere; RUST_LOG chooses what.
pub fn start_logging() {
    use std::io::IsTerminal as _;
    use tracing_subscriber::filter::LevelFilter;
    let mut filter =
        tracing_subscriber::EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    // The client logs whole bodies of answers that it cannot read. What went wrong is said where it matters.
    if let Ok(quiet) = QUIET_CLIENT.parse() {
        filter = filter.add_directive(quiet);
    }
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() { logs.init() } else { logs.json().flatten_event(true).init() }
}

/// Runs the webhook until it is told to stop.
///
/// # Errors
/// What keeps it from starting: no API server, no rights, no port.
pub async fn serve(config: Config) -> Result<()> {
    // One provider for the whole process, before anything can choose another. It is only refused when it is there already.
    let provider = rustls::crypto::ring::default_provider();
    let random = provider.secure_random;
    provider.install_default().ok();

    let client = config.client().await?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &config.namespace);
    let certificates = tls::secret::certificates(&secrets, &config.server_name(), Utc::now()).await?;
    let key = tls::secret::key(&secrets, || random_bytes(random)).await?;
    let shown = tls::Shown::new(&certificates.leaf)?;
    tokio::spawn(tls::renew::run(secrets, config.server_name(), certificates.clone(), shown.clone(), Utc::now));

    let cluster = cluster::Cluster::new(client.clone())?;
    tokio::spawn(cluster.clone().follow());

    let identity = match config.identity.clone() {
        Some(name) => name,
        None => format!("{:08x}", u32::from_be_bytes(random_bytes(random)?)),
    };
    let (lead, leading) = watch::channel(false);
    tokio::spawn(leader::campaign(Api::namespaced(client, &config.namespace), identity, Utc::now, lead));
    let registrar = register::Registrar::new(cluster.clone(), &config, &certificates.ca);
    tokio::spawn(registrar.clone().run(leading.clone()));
    tokio::spawn(tokens::keep(cluster.clone(), leading.clone(), Utc::now));
    let follower = follow::Follower::new(cluster.clone(), Utc::now);
    tokio::spawn(follower.clone().keep(leading));

    let health = health::Health::new(cluster.clone(), registrar);
    let listener = TcpListener::bind(config.listen).await.with_context(|| format!("listening on {}", config.listen))?;
    let address = listener.local_addr().context("asking for our own address")?;
    tokio::spawn(reach_itself(health.clone(), address, config.server_name(), certificates.ca));
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "serving");

    let admission = admit::Admission {
        cluster,
        key,
        clock: Utc::now,
        random: random_number,
        follower,
        turns: turn::Turns::default(),
    };
    let router = routes::router(routes::Shared::new(admission, health.clone()));
    let tls = Arc::new(shown.server_config()?);
    listen::serve(listener, tls, router, health, config.lameduck()).await
}

/// Tries until it succeeds: readiness waits for it.
async fn reach_itself(health: Arc<health::Health>, mut address: std::net::SocketAddr, name: String, ca: String) {
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    while let Err(error) = listen::reach(address, &name, &ca).await {
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
