//! The router without a cluster.

use axum::body::Body;
use axum::http::{HeaderMap, Request};
use breakglass::seal::Key;
use clap::Parser as _;
use tower::ServiceExt as _;

use super::*;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::follow::Follower;
use crate::metrics::Metrics;
use crate::notice::Notices;
use crate::register::Registrar;
use crate::tls::plan::Stored;
use crate::tls::{Certificates, ca};
use crate::turn::Turns;

/// H-12: a timeout that is missing, zero or no number means the default one.
#[test]
fn a_deadline_is_what_the_api_server_says_within_reason() {
    for (uri, seconds) in [
        ("/gate?timeout=5s", 5),
        ("/gate?a=b&timeout=7s", 7),
        ("/gate", 10),
        ("/gate?timeout=0s", 10),
        ("/gate?timeout=abc", 10),
        ("/gate?timeout=-1s", 10),
        ("/gate?timeout=99999s", 30),
    ] {
        assert_eq!(deadline(&uri.parse().unwrap()), Duration::from_secs(seconds), "{uri}");
    }
}

/// A webhook that has not reached its API server yet. Nothing listens on port 1.
fn unreached(callers: Callers) -> Arc<Shared> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let nowhere = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
    let client = kube::Client::try_from(nowhere).unwrap();
    let cluster = Cluster::new(client.clone()).unwrap();
    let config = Config::parse_from(["breakglass-webhook"]);
    let metrics = Arc::new(Metrics::new());
    let notices = Notices::new(client, "replica".to_owned(), metrics.clone());
    let ca = ca::make_ca(chrono::Utc::now()).unwrap();
    let leaf = ca::make_leaf(&ca, &config.server_name(), chrono::Utc::now()).unwrap();
    let certificates = Certificates::new(Stored { ca, leaf, next: None, previous: None }).unwrap();
    let told = (metrics.clone(), notices.clone());
    let registrar = Registrar::new(cluster.clone(), &config, certificates.clone(), told);
    let (stop, _) = tokio::sync::watch::channel(false);
    let named = (config.server_name(), chrono::Utc::now as fn() -> chrono::DateTime<chrono::Utc>);
    let health = Health::new(cluster.clone(), registrar, certificates, named, stop);
    let admission = Admission {
        follower: Follower::new(cluster.clone(), chrono::Utc::now),
        cluster,
        key: Key::new([7; Key::BYTES]),
        clock: chrono::Utc::now,
        random: || 7,
        turns: Turns::default(),
        metrics,
        notices,
    };
    Shared::new(admission, health, callers)
}

async fn ask(method: &str, path: &str, body: &str) -> (StatusCode, HeaderMap, String) {
    let request = Request::builder().method(method).uri(path).body(Body::from(body.to_owned())).unwrap();
    let response = router(unreached(Callers::Any)).oneshot(request).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let body = axum::body::to_bytes(response.into_body(), body::LIMIT).await.unwrap();
    (status, headers, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn before_everything_is_listed_nothing_is_let_in_and_nothing_is_final() {
    for path in [STAMP_PATH, GATE_PATH] {
        let (status, headers, body) = ask("POST", path, "{}").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(headers[header::RETRY_AFTER], "1");
        assert_eq!(body, "not listed yet: the policy, tokens, namespaces\n");
    }
    let (status, _, body) = ask("GET", "/readyz", "").await;
    assert_eq!((status, body.contains("not listed yet")), (StatusCode::SERVICE_UNAVAILABLE, true));
    assert_eq!(ask("GET", "/livez", "").await.0, StatusCode::OK);
    assert_eq!(ask("GET", GATE_PATH, "").await.0, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(ask("POST", "/elsewhere", "").await.0, StatusCode::NOT_FOUND);
}
