//! HTTP: which path is which call, how much is read, and what is answered when there is nothing to decide.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use breakglass::write::Write;
use futures::FutureExt;
use tokio::sync::Semaphore;

use crate::admit::{Admission, Outcome, Unavailable};
use crate::health::Health;
use crate::own;
use crate::register::{GATE_PATH, STAMP_PATH};
use crate::review::{self, Asked};

/// The largest review that is read. The API server takes writes of 3 MiB; JSON writes some characters as six bytes, and an
/// update carries two objects (apiserver pkg/server/config.go).
const BODY_LIMIT: usize = 32 * 1024 * 1024;

/// The most that all reviews under way may take together, in KiB: with what parsing adds, well below the memory limit of
/// the Deployment. Beyond it calls are put off, not queued.
const BUDGET_KIB: usize = 96 * 1024;

/// How long a review may take to arrive: the largest one at 10 MB/s. While it does, it holds its share of the budget.
const BODY_TIMEOUT: Duration = Duration::from_secs(4);

/// How long a call may take where the API server does not say: its own default.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);

/// The longest deadline that the API server can be configured to give.
const LONGEST_DEADLINE: Duration = Duration::from_secs(30);

/// What the handlers share.
pub struct Shared {
    /// Decides.
    pub admission: Admission,
    /// Says whether it can.
    pub health: Arc<Health>,
    budget: Semaphore,
}

impl Shared {
    /// With the whole budget free.
    pub fn new(admission: Admission, health: Arc<Health>) -> Arc<Self> {
        Arc::new(Self { admission, health, budget: Semaphore::new(BUDGET_KIB) })
    }
}

#[derive(Clone, Copy)]
enum Call {
    Stamp,
    Gate,
}

/// All paths.
pub fn router(shared: Arc<Shared>) -> Router {
    let stamp = |State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap, body: Body| async move {
        answer(&shared, Call::Stamp, &uri, &headers, body).await
    };
    let gate = |State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap, body: Body| async move {
        answer(&shared, Call::Gate, &uri, &headers, body).await
    };
    Router::new()
        .route(STAMP_PATH, post(stamp))
        .route(GATE_PATH, post(gate))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(shared)
}

async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    match shared.health.not_ready() {
        None => "ok\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

/// One call from its bytes to its answer. Whatever goes wrong, the answer is never `allowed: true`.
async fn answer(shared: &Shared, call: Call, uri: &Uri, headers: &HeaderMap, body: Body) -> Response {
    let deadline = deadline(uri);
    let decided = AssertUnwindSafe(tokio::time::timeout(deadline, bounded(shared, call, headers, body))).catch_unwind();
    let mut response = match decided.await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => put_off("there was not enough time to decide"),
        Err(_) => {
            tracing::error!("a bug: the call panicked; it is not let in");
            (StatusCode::INTERNAL_SERVER_ERROR, "this is a bug in breakglass: see the webhook's log\n").into_response()
        }
    };
    if shared.health.is_stopping() {
        // The API server keeps connections for 90 seconds: have it open the next one to another replica.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn bounded(shared: &Shared, call: Call, headers: &HeaderMap, body: Body) -> Response {
    if let Some(why) = shared.health.cannot_decide() {
        return put_off(&why);
    }
    let json =
        |value: &HeaderValue| value.to_str().is_ok_and(|text| text.split(';').next() == Some("application/json"));
    if !headers.get(header::CONTENT_TYPE).is_some_and(json) {
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, "a review is application/json\n").into_response();
    }
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let Some(size) = length else {
        return (StatusCode::LENGTH_REQUIRED, "say how long the review is\n").into_response();
    };
    if size > BODY_LIMIT {
        return (StatusCode::PAYLOAD_TOO_LARGE, "no review is that large\n").into_response();
    }
    let permits = u32::try_from(size / 1024 + 1).unwrap_or(u32::MAX);
    let Ok(_held) = shared.budget.try_acquire_many(permits) else {
        return put_off("too many reviews at once");
    };
    match tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, size)).await {
        Ok(Ok(bytes)) => decided(shared, call, bytes).await,
        Ok(Err(error)) => {
            (StatusCode::BAD_REQUEST, format!("the review did not arrive whole: {error}\n")).into_response()
        }
        Err(_) => (StatusCode::REQUEST_TIMEOUT, "the review took too long to arrive\n").into_response(),
    }
}

async fn decided(shared: &Shared, call: Call, bytes: Bytes) -> Response {
    let begun = Instant::now();
    let Asked { uid, write } = match review::read(&bytes) {
        Ok(asked) => asked,
        Err(malformed) => {
            tracing::warn!("{malformed}");
            return (StatusCode::BAD_REQUEST, format!("{malformed}\n")).into_response();
        }
    };
    let admission = &shared.admission;
    let outcome = match (call, own::is_ours(&write.resource)) {
        (Call::Stamp, false) => admission.stamp(&write).await,
        (Call::Gate, false) => admission.gate(&write).await,
        (Call::Stamp, true) => Ok(own::fill(admission, &write)),
        (Call::Gate, true) => own::check(admission, &write).await,
    };
    log(call, &uid, &write, &outcome, begun.elapsed());
    match outcome.and_then(|outcome| outcome.answer.write(&uid).map_err(|error| Unavailable(error.into()))) {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(unavailable) => put_off(&unavailable.to_string()),
    }
}

/// The API server tries again after a second, within its timeout; without the header it would fail at once.
fn put_off(why: &str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], format!("{why}\n")).into_response()
}

/// What the API server has left, which it says as `?timeout=5s`.
fn deadline(uri: &Uri) -> Duration {
    let said = uri.query().unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("timeout="));
    let seconds = said.and_then(|text| text.strip_suffix('s')?.parse::<u64>().ok()).filter(|&seconds| seconds > 0);
    seconds.map_or(DEFAULT_DEADLINE, Duration::from_secs).min(LONGEST_DEADLINE)
}

/// One line a decision. Never bodies.
fn log(call: Call, uid: &str, write: &Write<'_>, outcome: &Result<Outcome, Unavailable>, took: Duration) {
    let call = match call {
        Call::Stamp => "stamp",
        Call::Gate => "gate",
    };
    let (writer, decision, why) = match outcome {
        Ok(outcome) => (outcome.writer.as_str(), outcome.decision, outcome.why.to_owned()),
        Err(unavailable) => ("", "Unavailable", unavailable.to_string()),
    };
    tracing::info!(
        call,
        uid,
        user = write.requester.user,
        writer,
        operation = write.operation().as_str(),
        resource = write.resource.qualified(),
        subresource = write.resource.subresource.as_deref().unwrap_or_default(),
        namespace = write.namespace.as_deref().unwrap_or_default(),
        name = write.display_name(),
        manager = write.manager,
        dry_run = write.dry_run,
        decision,
        why,
        milliseconds = took.as_secs_f64() * 1_000.0,
        "decided"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Cluster;
    use crate::config::Config;
    use crate::follow::Follower;
    use crate::register::Registrar;
    use crate::turn::Turns;
    use axum::http::Request;
    use breakglass::seal::Key;
    use clap::Parser as _;
    use tower::ServiceExt as _;

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

    /// The router of a webhook that has not reached its API server yet. Nothing listens on port 1.
    fn unreached() -> Router {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let nowhere = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let cluster = Cluster::new(kube::Client::try_from(nowhere).unwrap()).unwrap();
        let registrar = Registrar::new(cluster.clone(), &Config::parse_from(["breakglass-webhook"]), "");
        let health = Health::new(cluster.clone(), registrar);
        let admission = Admission {
            follower: Follower::new(cluster.clone(), chrono::Utc::now),
            cluster,
            key: Key::new([7; Key::BYTES]),
            clock: chrono::Utc::now,
            random: || 7,
            turns: Turns::default(),
        };
        router(Shared::new(admission, health))
    }

    async fn ask(method: &str, path: &str, body: &str) -> (StatusCode, HeaderMap, String) {
        let request = Request::builder().method(method).uri(path).body(Body::from(body.to_owned())).unwrap();
        let response = unreached().oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let body = axum::body::to_bytes(response.into_body(), BODY_LIMIT).await.unwrap();
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
}
