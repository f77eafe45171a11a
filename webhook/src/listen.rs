//! Sockets: TLS handshakes off the accept loop, bounded connections, times and headers, a graceful stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::health::Health;
use crate::peers::{Peer, Peers};
use crate::tls::callers;

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may wait for the whole head of its next request. It counts while the connection is idle, too, and
/// the API server keeps idle ones for 90 s: closing first would lose the call that is just being sent (apimachinery pkg/util/net/http.go).
const HEAD_TIMEOUT: Duration = Duration::from_secs(300);

/// The largest head of a request, and the most fields in one. The API server sends about ten short ones.
const HEAD_LIMIT: usize = 16 * 1024;
const HEAD_FIELDS: usize = 64;

/// How many calls one connection may have under way. With HTTP/2 the API server sends all of its calls over one or two.
const STREAMS: u32 = 1_024;

/// How long calls under way may take to end once the webhook stops: more than the longest timeout of a call.
const DRAIN: Duration = Duration::from_secs(15);

/// SIGTERM and SIGINT, from when this is made: until then, and after it is dropped, they end the process.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens for them.
    ///
    /// # Errors
    /// Where they cannot be listened for.
    pub fn new() -> Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("listening for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("listening for SIGINT")?,
        })
    }

    /// Returns with the next of either.
    pub async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// What serves, once everything has started.
pub struct Server {
    /// Where it listens.
    pub listener: TcpListener,
    /// What it shows.
    pub tls: Arc<rustls::ServerConfig>,
    /// What it answers.
    pub router: Router,
    /// Told when it stops.
    pub health: Arc<Health>,
    /// Who is connected.
    pub peers: Arc<Peers>,
}

impl Server {
    /// Serves until a signal comes; then goes on for `lameduck` while it asks for no more calls, and drains.
    pub async fn serve(self, mut signals: Signals, lameduck: Duration) {
        let Self { listener, tls, router, health, peers } = self;
        let acceptor = TlsAcceptor::from(tls);
        let graceful = GracefulShutdown::new();
        let mut stop = None;
        loop {
            let stopped = async {
                match stop {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stopped => break,
                () = signals.received() => {}
                accepted = accept(&listener, &peers) => {
                    // Where there is no room for it, and nobody to make any, it is closed at once.
                    if let Some(stream) = accepted
                        && let Some(peer) = peers.join()
                    {
                        tokio::spawn(connection(stream, peer, acceptor.clone(), (router.clone(), graceful.watcher())));
                    }
                    continue;
                }
            }
            // A second signal is the same wish.
            if stop.is_none() {
                health.say_stopping();
                stop = Some(tokio::time::Instant::now() + lameduck);
                tracing::info!("stopping in {lameduck:?}: not ready, and still answering");
            }
        }
        drop(listener);
        if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
            tracing::warn!("some calls did not end within {DRAIN:?}");
        }
    }
}

async fn accept(listener: &TcpListener, peers: &Peers) -> Option<TcpStream> {
    peers.room().await;
    match listener.accept().await {
        Ok((stream, _)) => Some(stream),
        Err(error) => {
            // Out of file descriptors, most likely: accepting again at once would only spin.
            tracing::warn!("accepting a connection: {error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

async fn connection(
    stream: TcpStream,
    mut peer: Peer,
    acceptor: TlsAcceptor,
    (router, watcher): (Router, hyper_util::server::graceful::Watcher),
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("setting TCP_NODELAY: {error}");
    }
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)) => shaken,
        () = peer.ended() => return,
    };
    let stream = match shaken {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!("TLS handshake: {error}"),
        Err(_) => return tracing::debug!("TLS handshake took longer than {HANDSHAKE_TIMEOUT:?}"),
    };
    peer.name = stream.get_ref().1.peer_certificates().and_then(|chain| callers::name(chain.first()?));
    let peer = Arc::new(peer);
    let service = TowerToHyperService::new(router.layer(Extension(peer.clone())));
    let served = builder().serve_connection(TokioIo::new(stream), service).into_owned();
    tokio::select! {
        result = watcher.watch(served) => {
            if let Err(error) = result {
                tracing::debug!("serving a connection: {error}");
            }
        }
        () = peer.ended() => {}
    }
}

/// How HTTP is spoken: the times and the limits of one connection.
fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_LIMIT)
        .max_headers(HEAD_FIELDS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .max_header_list_size(HEAD_LIMIT as u32)
        .max_concurrent_streams(STREAMS);
    builder
}

/// The same socket twice: for whoever serves it first, and for who takes over.
///
/// # Errors
/// Where the system gives no second handle to it.
pub fn shared(listener: TcpListener) -> Result<(TcpListener, TcpListener)> {
    let listener = listener.into_std().context("sharing the socket")?;
    let second = listener.try_clone().context("sharing the socket")?;
    Ok((TcpListener::from_std(listener)?, TcpListener::from_std(second)?))
}

/// Serves without TLS until the process ends: metrics and health, to whoever asks.
///
/// # Errors
/// Where the socket is gone.
pub async fn serve_plain(listener: TcpListener, router: Router) -> Result<()> {
    axum::serve(listener, router).await.context("serving metrics")
}

/// Reaches the webhook as the API server will: over TLS, under its own name, trusting its CA alone.
///
/// # Errors
/// What would keep the API server from reaching it, too.
pub async fn reach(address: SocketAddr, server_name: &str, ca: &str) -> Result<()> {
    let mut roots = rustls::RootCertStore::empty();
    let certificate = rustls::pki_types::CertificateDer::from_pem_slice(ca.as_bytes()).context("reading the CA")?;
    roots.add(certificate).context("trusting the CA")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("choosing the versions of TLS")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
    let name = ServerName::try_from(server_name.to_owned()).context("reading our own name")?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.context("shaking hands with ourselves")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// a connection that has been idle for longer than the API server keeps one (90 s) still answers: we never close
    /// first, so no call is lost on the way. Only one that is idle far longer goes.
    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_outlives_the_api_servers_patience() {
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let service = TowerToHyperService::new(Router::new().route("/", get(|| async { "ok\n" })));
        let served = tokio::spawn(builder().serve_connection(TokioIo::new(server), service).into_owned());
        for idle in [0, 85, 90, 95, 290] {
            tokio::time::sleep(Duration::from_secs(idle)).await;
            client.write_all(b"GET / HTTP/1.1\r\nHost: webhook\r\n\r\n").await.unwrap();
            let mut answer = vec![0; 1024];
            let read = client.read(&mut answer).await.unwrap();
            assert!(answer[..read].starts_with(b"HTTP/1.1 200 OK\r\n"), "after {idle} s: {read} bytes");
        }
        assert!(!served.is_finished());
        tokio::time::sleep(HEAD_TIMEOUT + Duration::from_secs(1)).await;
        // An answer of 408 may come first.
        client.read_to_end(&mut Vec::new()).await.unwrap();
        assert!(served.is_finished());
    }
}
