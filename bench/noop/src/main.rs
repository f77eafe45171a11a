//! A webhook that lets everything in: the same server, TLS and allocator as ours, and no decision. It is the floor.
//!
//! `noop ADDRESS CA-FILE` makes a certificate for localhost, writes its CA to CA-FILE and serves:
//! `/read` parses the review for its uid, as the smallest honest webhook does; `/look` finds the uid and reads nothing else.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What the largest review takes: as the webhook's limit.
const BODY_LIMIT: usize = 32 * 1024 * 1024;

#[derive(Deserialize)]
struct Review<'a> {
    #[serde(borrow)]
    request: Request<'a>,
}

#[derive(Deserialize)]
struct Request<'a> {
    uid: &'a str,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let address: SocketAddr = args.next().context("usage: noop ADDRESS CA-FILE")?.parse()?;
    let file = args.next().context("usage: noop ADDRESS CA-FILE")?;
    let (tls, authority) = tls()?;
    let listener = TcpListener::bind(address).await?;
    std::fs::write(file, authority)?;
    let router = Router::new()
        .route("/read", post(async |body: Body| answer(body, read).await))
        .route("/look", post(async |body: Body| answer(body, look).await))
        .route("/readyz", get(async || "ok\n"));
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    loop {
        let (stream, _) = listener.accept().await?;
        let (acceptor, router) = (acceptor.clone(), router.clone());
        tokio::spawn(async move {
            stream.set_nodelay(true).ok();
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let mut builder = Builder::new(TokioExecutor::new());
            builder.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(300));
            let served = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
            served.await.ok();
        });
    }
}

async fn answer(body: Body, uid: fn(&Bytes) -> Option<&str>) -> Response {
    let Ok(bytes) = axum::body::to_bytes(body, BODY_LIMIT).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let Some(uid) = uid(&bytes) else { return StatusCode::BAD_REQUEST.into_response() };
    let body = format!(
        "{{\"apiVersion\":\"admission.k8s.io/v1\",\"kind\":\"AdmissionReview\",\
         \"response\":{{\"uid\":\"{uid}\",\"allowed\":true}}}}"
    );
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn read(bytes: &Bytes) -> Option<&str> {
    Some(serde_json::from_slice::<Review<'_>>(bytes).ok()?.request.uid)
}

/// The API server writes the uid first.
fn look(bytes: &Bytes) -> Option<&str> {
    let head = bytes.get(..bytes.len().min(400))?;
    let head = std::str::from_utf8(head).or_else(|error| std::str::from_utf8(&head[..error.valid_up_to()])).ok()?;
    let (_, rest) = head.split_once("\"uid\":\"")?;
    rest.split_once('"').map(|(uid, _)| uid)
}

fn tls() -> Result<(rustls::ServerConfig, String)> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new(["localhost", "127.0.0.1", "noop.default.svc"].map(str::to_owned))?
        .signed_by(&key, &issuer)?;
    let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], private)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((config, issuer.pem()))
}
