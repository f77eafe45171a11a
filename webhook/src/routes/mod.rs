//! HTTP: which path is which call, how much is read, and what is answered when there is nothing to decide.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use breakglass::write::Write;
use futures::FutureExt;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Semaphore;

use crate::admit::{Admission, Outcome, Unavailable};
use crate::body::{self, Unread};
use crate::health::{self, Health};
use crate::metrics::{self, DecisionLabels, ReasonLabel};
use crate::own;
use crate::peers::Peer;
use crate::register::{GATE_PATH, STAMP_PATH};
use crate::replica::Replica;
use crate::review::{self, Asked};

/// How long a call may take where the API server does not say: its own default.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);

/// The longest deadline that the API server can be configured to give.
const LONGEST_DEADLINE: Duration = Duration::from_secs(30);

/// How many reviews are answered at once. Three API servers let 200 writes each be under way at a time, of which each asks one
/// thing at a time (kube-apiserver, --max-mutating-requests-inflight); what comes beyond would only wait until nobody waits for it.
const REVIEWS: usize = 640;

/// What the handlers share.
pub struct Shared {
    /// Decides.
    pub admission: Admission,
    /// Says whether it can.
    pub health: Arc<Health>,
    callers: Callers,
    budget: Semaphore,
    reviews: Semaphore,
}

/// Whose calls are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Callers {
    /// Everybody's who gets here.
    Any,
    /// Those with a certificate that was believed, under this name where one is given.
    Certified(Option<String>),
}

impl Shared {
    /// With the whole budget free.
    pub fn new(admission: Admission, health: Arc<Health>, callers: Callers) -> Arc<Self> {
        Arc::new(Self {
            admission,
            health,
            callers,
            budget: Semaphore::new(body::budget_kib()),
            reviews: Semaphore::new(REVIEWS),
        })
    }
}

#[derive(Clone, Copy)]
enum Call {
    Stamp,
    Gate,
}

impl Call {
    fn as_str(self) -> &'static str {
        match self {
            Self::Stamp => "stamp",
            Self::Gate => "gate",
        }
    }
}

/// What the API server asks, and who looks after us.
pub fn router(shared: Arc<Shared>) -> Router {
    let handler = |call: Call| {
        move |State(shared): State<Arc<Shared>>, peer: Option<Extension<Arc<Peer>>>, request: Request| async move {
            let peer = peer.map(|Extension(peer)| peer);
            answer(&shared, call, peer.as_deref(), request).await
        }
    };
    Router::new()
        .route(STAMP_PATH, post(handler(Call::Stamp)))
        .route(GATE_PATH, post(handler(Call::Gate)))
        .merge(health_routes())
        .with_state(shared)
}

/// What is served without TLS.
pub fn plain_router(shared: Arc<Shared>, replica: Arc<Replica>) -> Router {
    let metrics = move |State(shared): State<Arc<Shared>>| async move {
        let metrics = &shared.admission.metrics;
        replica.gauge();
        match metrics.text() {
            Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
        }
    };
    Router::new().route("/metrics", get(metrics)).merge(health_routes()).with_state(shared)
}

/// What is served without TLS before there is anything to serve: it lives, and waits for the API server.
pub fn starting_router() -> Router {
    let live = || async { "ok\n" };
    let ready = || async { (StatusCode::SERVICE_UNAVAILABLE, "starting: the API server has not answered yet\n") };
    Router::new().route("/livez", get(live)).route("/healthz", get(live)).route("/readyz", get(ready))
}

fn health_routes() -> Router<Arc<Shared>> {
    let live = || async { "ok\n" };
    Router::new().route("/livez", get(live)).route("/healthz", get(live)).route("/readyz", get(ready))
}

async fn ready(State(shared): State<Arc<Shared>>, uri: Uri) -> Response {
    let checks = shared.health.checks();
    let well = checks.iter().all(|check| check.why.is_none());
    let code = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let verbose = uri.query().is_some_and(|query| query.split('&').any(|word| word.starts_with("verbose")));
    let text = match (verbose, checks.iter().find_map(|check| check.why.as_ref())) {
        (true, None) => format!("{}readyz check passed\n", health::verbose(&checks)),
        (true, Some(_)) => format!("{}readyz check failed\n", health::verbose(&checks)),
        (false, None) => "ok\n".to_owned(),
        (false, Some(why)) => format!("{why}\n"),
    };
    (code, text).into_response()
}

/// One call from its bytes to its answer. Whatever goes wrong, the answer is never `allowed: true`.
async fn answer(shared: &Shared, call: Call, peer: Option<&Peer>, request: Request) -> Response {
    let metrics = &shared.admission.metrics;
    let deadline = deadline(request.uri());
    let under_way = UnderWay::new(&metrics.in_flight);
    let bounded = tokio::time::timeout(deadline, bounded(shared, call, peer, request));
    let mut response = match AssertUnwindSafe(bounded).catch_unwind().await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => put_off(shared, "late", "there was not enough time to decide"),
        Err(_) => {
            metrics.panics.inc();
            tracing::error!("a bug: the call panicked; it is not let in");
            (StatusCode::INTERNAL_SERVER_ERROR, "this is a bug in breakglass: see the webhook's log\n").into_response()
        }
    };
    drop(under_way);
    if shared.health.is_stopping() {
        // The API server keeps connections for 90 seconds: have it open the next one to another replica.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A review that is being answered, also where whoever asked has hung up: the call is dropped in the middle then.
struct UnderWay<'m>(&'m Gauge);

impl<'m> UnderWay<'m> {
    fn new(number: &'m Gauge) -> Self {
        number.inc();
        Self(number)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

async fn bounded(shared: &Shared, call: Call, peer: Option<&Peer>, request: Request) -> Response {
    if let Callers::Certified(wanted) = &shared.callers {
        let name = peer.and_then(|peer| peer.name.as_ref());
        if name.is_none() || wanted.as_ref().is_some_and(|wanted| Some(wanted) != name) {
            return (StatusCode::UNAUTHORIZED, NOT_THE_API_SERVER).into_response();
        }
    }
    if let Some(why) = shared.health.cannot_decide() {
        return put_off(shared, "unready", &why);
    }
    let headers = request.headers();
    let json =
        |value: &HeaderValue| value.to_str().is_ok_and(|text| text.split(';').next() == Some("application/json"));
    if !headers.get(header::CONTENT_TYPE).is_some_and(json) {
        return malformed(shared, StatusCode::UNSUPPORTED_MEDIA_TYPE, "a review is application/json");
    }
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let Some(size) = length else {
        return malformed(shared, StatusCode::LENGTH_REQUIRED, "say how long the review is");
    };
    let Ok(_turn) = shared.reviews.try_acquire() else {
        return put_off(shared, "full", "too many reviews at once");
    };
    match body::read(request.into_body(), size, &shared.budget).await {
        Ok((bytes, _held)) => decided(shared, call, peer, bytes).await,
        Err(Unread::Full) => put_off(shared, "full", "too many reviews at once"),
        Err(Unread::TooLarge) => malformed(shared, StatusCode::PAYLOAD_TOO_LARGE, "no review is that large"),
        Err(Unread::Slow) => malformed(shared, StatusCode::REQUEST_TIMEOUT, "the review took too long to arrive"),
        Err(Unread::Broken(why)) => {
            malformed(shared, StatusCode::BAD_REQUEST, &format!("the review did not arrive whole: {why}"))
        }
    }
}

const NOT_THE_API_SERVER: &str = "only the API server is answered here, by the certificate that it shows: see \
    --client-ca-secret of the webhook, and --admission-control-config-file of kube-apiserver\n";

fn malformed(shared: &Shared, code: StatusCode, why: &str) -> Response {
    shared.admission.metrics.malformed.inc();
    (code, format!("{why}\n")).into_response()
}

async fn decided(shared: &Shared, call: Call, peer: Option<&Peer>, bytes: Bytes) -> Response {
    let begun = Instant::now();
    let Asked { uid, write } = match review::read(&bytes) {
        Ok(asked) => asked,
        Err(malformed) => {
            tracing::warn!("{malformed}");
            return self::malformed(shared, StatusCode::BAD_REQUEST, &malformed.to_string());
        }
    };
    if let Some(peer) = peer {
        peer.say_asked();
    }
    let admission = &shared.admission;
    let outcome = match (call, own::is_ours(&write.resource)) {
        (Call::Stamp, false) => admission.stamp(&write).await,
        (Call::Gate, false) => admission.gate(&write).await,
        (Call::Stamp, true) => Ok(own::fill(admission, &write)),
        (Call::Gate, true) => own::check(admission, &write).await,
    };
    let took = begun.elapsed();
    log(call, &uid, &write, &outcome, took);
    count(shared, call, &outcome, took);
    match outcome.and_then(|outcome| outcome.answer.write(&uid).map_err(|error| Unavailable(error.into()))) {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(unavailable) => put_off(shared, "unavailable", &unavailable.to_string()),
    }
}

/// The API server tries again after a second, within its timeout; without the header it would fail at once.
fn put_off(shared: &Shared, reason: &'static str, why: &str) -> Response {
    shared.admission.metrics.put_off.get_or_create_owned(&ReasonLabel { reason }).inc();
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], format!("{why}\n")).into_response()
}

/// What the API server has left, which it says as `?timeout=5s`.
fn deadline(uri: &Uri) -> Duration {
    let said = uri.query().unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("timeout="));
    let seconds = said.and_then(|text| text.strip_suffix('s')?.parse::<u64>().ok()).filter(|&seconds| seconds > 0);
    seconds.map_or(DEFAULT_DEADLINE, Duration::from_secs).min(LONGEST_DEADLINE)
}

fn count(shared: &Shared, call: Call, outcome: &Result<Outcome, Unavailable>, took: Duration) {
    let (environment, writer, decision) = match outcome {
        Ok(outcome) => (outcome.environment.clone(), outcome.writer.as_str(), outcome.decision),
        Err(_) => (String::new(), "", "Unavailable"),
    };
    shared.admission.metrics.decided(DecisionLabels { call: call.as_str(), environment, writer, decision }, took);
}

/// One line a decision. Never bodies.
fn log(call: Call, uid: &str, write: &Write<'_>, outcome: &Result<Outcome, Unavailable>, took: Duration) {
    let (writer, decision, why) = match outcome {
        Ok(outcome) => (outcome.writer.as_str(), outcome.decision, outcome.why.to_owned()),
        Err(unavailable) => ("", "Unavailable", unavailable.to_string()),
    };
    // The same name stands in the audit log's annotations, in the record and on the object.
    let change = outcome.as_ref().ok().and_then(|outcome| outcome.answer.audit.get("change"));
    tracing::info!(
        call = call.as_str(),
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
        change,
        milliseconds = took.as_secs_f64() * 1_000.0,
        "decided"
    );
}

#[cfg(test)]
mod tests;
