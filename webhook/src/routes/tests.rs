//! The router without a cluster.

use axum::body::Body;
use axum::http::{HeaderMap, Request};
use breakglass::seal::Key;
use chrono::{DateTime, Utc};
use clap::Parser as _;
use tower::ServiceExt as _;

use super::*;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::follow::Follower;
use crate::metrics::Metrics;
use crate::notice::{Kind, Notice, Notices};
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
    let nowhere = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
    webhook(|| kube::Client::try_from(nowhere).unwrap(), callers, chrono::Utc::now)
}

/// A webhook whose API server is this client.
fn webhook(client: impl FnOnce() -> kube::Client, callers: Callers, clock: fn() -> DateTime<Utc>) -> Arc<Shared> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = client();
    let cluster = Cluster::new(client.clone()).unwrap();
    let config = Config::parse_from(["breakglass-webhook"]);
    let metrics = Arc::new(Metrics::new(Default::default()));
    let notices = Notices::new(client, "replica".to_owned(), metrics.clone());
    let ca = ca::make_ca(Utc::now()).unwrap();
    let leaf = ca::make_leaf(&ca, &config.server_name(), Utc::now()).unwrap();
    let certificates = Certificates::new(Stored { ca, leaf, next: None, previous: None }).unwrap();
    let told = (metrics.clone(), notices.clone());
    let registrar = Registrar::new(cluster.clone(), &config, certificates.clone(), told);
    let (stop, _) = tokio::sync::watch::channel(false);
    let named = (config.server_name(), Utc::now as fn() -> DateTime<Utc>);
    let health = Health::new(cluster.clone(), registrar, certificates, named, stop);
    let admission = Admission {
        follower: Follower::new(cluster.clone(), clock),
        cluster,
        key: Key::new([7; Key::BYTES]),
        clock,
        random: || 7,
        turns: Turns::default(),
        metrics,
        notices,
    };
    Shared::new(admission, health, callers)
}

/// An API server that has nothing to list, in which nothing happens.
fn empty() -> kube::Client {
    let service = tower::service_fn(|request: Request<kube::client::Body>| async move {
        if request.uri().query().is_some_and(|query| query.contains("watch=true")) {
            std::future::pending::<()>().await;
        }
        let list =
            serde_json::json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": []});
        Ok::<_, std::convert::Infallible>(axum::http::Response::new(kube::client::Body::from(
            list.to_string().into_bytes(),
        )))
    });
    kube::Client::new(service, "default")
}

async fn ask(method: &str, path: &str, body: &str) -> (StatusCode, HeaderMap, String) {
    ask_of(&unreached(Callers::Any), method, path, body).await
}

async fn ask_of(shared: &Arc<Shared>, method: &str, path: &str, body: &str) -> (StatusCode, HeaderMap, String) {
    let request = Request::builder().method(method).uri(path);
    let request = request.header("content-type", "application/json").header("content-length", body.len());
    let response = router(shared.clone()).oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let body = axum::body::to_bytes(response.into_body(), body::LIMIT).await.unwrap();
    (status, headers, String::from_utf8(body.to_vec()).unwrap())
}

/// R-08: before everything is listed, no review is decided: the API server is told to come again; who asks for readiness is
/// told what is missing, and the process is alive all the while.
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
    for path in ["/livez", "/healthz"] {
        assert_eq!(ask("GET", path, "").await.0, StatusCode::OK);
    }
    let (status, _, body) = ask("GET", "/readyz?verbose", "").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        body,
        "[+]running ok\n\
         [-]listed failed: not listed yet: the policy, tokens, namespaces\n\
         [+]certificate ok\n\
         [-]reached failed: not reached over TLS under its own name yet\n\
         [-]registered failed: the webhook configurations do not have the API server call us yet, or do not trust our \
         certificate\n\
         readyz check failed\n"
    );
    assert_eq!(ask("GET", GATE_PATH, "").await.0, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(ask("POST", "/elsewhere", "").await.0, StatusCode::NOT_FOUND);
}

/// A webhook that has listed everything, of which there is nothing.
async fn listed(clock: fn() -> DateTime<Utc>) -> Arc<Shared> {
    let shared = webhook(empty, Callers::Any, clock);
    tokio::spawn(shared.admission.cluster.clone().follow());
    for _ in 0..1_000 {
        if shared.health.cannot_decide().is_none() {
            return shared;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{:?}", shared.health.cannot_decide());
}

/// R-08: what has been listed is not enough: the webhook has to have reached itself and to be registered, and not to be on
/// its way out.
#[tokio::test]
async fn each_thing_that_is_missing_keeps_it_from_being_ready() {
    let shared = listed(Utc::now).await;
    let failed = || shared.health.checks().into_iter().filter(|check| check.why.is_some()).map(|check| check.name);
    assert_eq!(failed().collect::<Vec<_>>(), ["reached", "registered"]);
    shared.health.say_reached();
    assert_eq!(failed().collect::<Vec<_>>(), ["registered"]);
    let (status, _, body) = ask_of(&shared, "GET", "/readyz", "").await;
    assert_eq!((status, body.contains("configurations")), (StatusCode::SERVICE_UNAVAILABLE, true), "{body}");
    // It decides whatever it is asked by then.
    assert_eq!(ask_of(&shared, "POST", GATE_PATH, REVIEW).await.0, StatusCode::OK);
    shared.health.say_stopping();
    assert_eq!(failed().collect::<Vec<_>>(), ["running", "registered"]);
    let (status, headers, _) = ask_of(&shared, "POST", GATE_PATH, REVIEW).await;
    assert_eq!((status, &headers[header::CONNECTION]), (StatusCode::OK, &HeaderValue::from_static("close")));
}

/// A write to dev.
const REVIEW: &str = r#"{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "u-1",
    "kind": {"group": "", "version": "v1", "kind": "ConfigMap"},
    "resource": {"group": "", "version": "v1", "resource": "configmaps"}, "name": "a", "namespace": "dev",
    "operation": "CREATE", "userInfo": {"username": "carol@example.com", "groups": []},
    "object": {"metadata": {"name": "a"}}, "oldObject": null, "dryRun": false, "options": null}}"#;

/// R-16: a bug in one call costs that call: it is answered with 500 and counted, and the next one is decided as if nothing
/// had been.
#[tokio::test]
async fn a_panic_ends_one_call_and_no_other() {
    static BROKEN: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    let broken = |now| BROKEN.store(now, std::sync::atomic::Ordering::SeqCst);
    let shared = listed(|| match BROKEN.load(std::sync::atomic::Ordering::SeqCst) {
        true => panic!("the clock has stopped"),
        false => Utc::now(),
    })
    .await;
    for round in 1..=3 {
        for path in [STAMP_PATH, GATE_PATH] {
            broken(true);
            let (status, _, body) = ask_of(&shared, "POST", path, REVIEW).await;
            assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
            assert_eq!(body, "this is a bug in breakglass: see the webhook's log\n");
            broken(false);
            let (status, _, body) = ask_of(&shared, "POST", path, REVIEW).await;
            assert_eq!((status, body.contains(r#""allowed":true"#)), (StatusCode::OK, true), "{body}");
        }
        let metrics = &shared.admission.metrics;
        assert_eq!((metrics.panics.get(), metrics.in_flight.get()), (2 * round, 0));
    }
    assert_eq!(ask_of(&shared, "GET", "/livez", "").await.0, StatusCode::OK);
}

/// R-14: who hangs up before the answer is no longer counted as under way.
#[tokio::test]
async fn a_call_that_is_dropped_in_the_middle_is_not_under_way() {
    let shared = listed(Utc::now).await;
    let body = Body::from_stream(futures::stream::pending::<Result<&'static str, std::convert::Infallible>>());
    let request = Request::builder().method("POST").uri(GATE_PATH);
    let request = request.header("content-type", "application/json").header("content-length", 100);
    let call = router(shared.clone()).oneshot(request.body(body).unwrap());
    assert!(tokio::time::timeout(Duration::from_millis(50), call).await.is_err());
    assert_eq!(shared.admission.metrics.in_flight.get(), 0);
}

/// R-20: Events that cannot be written wait up to a number, and beyond it are counted; who says one waits for nothing.
#[tokio::test(start_paused = true)]
async fn events_that_nobody_takes_are_counted_and_nobody_waits() {
    let metrics = Arc::new(Metrics::new(Default::default()));
    let silent = tower::service_fn(|_: Request<kube::client::Body>| {
        std::future::pending::<Result<axum::http::Response<kube::client::Body>, std::convert::Infallible>>()
    });
    let notices = Notices::new(kube::Client::new(silent, "default"), "replica".to_owned(), metrics.clone());
    for _ in 0..100 {
        notices.say(Notice::about_secret("breakglass-webhook-tls", Kind::Normal, "Said", "something"));
    }
    let at_once = metrics.events_dropped.get();
    assert_eq!(at_once, 100 - 64);
    // Each of the others is given up in its turn.
    tokio::time::sleep(Duration::from_secs(64 * 6)).await;
    assert_eq!(metrics.events_dropped.get(), 100);
}
