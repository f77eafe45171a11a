//! The way to the API server, on which requests that write are written down, and the plugin can be killed at one of them.

use std::convert::Infallible;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use tokio::net::TcpListener;
use tokio::runtime::Builder;

use super::{Fault, Moment};
use crate::http::client;
use crate::kubectl::Kubectl;
use crate::process;

/// What asks and writes nothing, for all that it is posted.
const QUESTIONS: [&str; 2] = ["/apis/authentication.k8s.io/", "/apis/authorization.k8s.io/"];

/// An HTTP server on loopback that passes on what it is sent, as one person; it lasts until the process ends.
#[derive(Debug)]
pub(super) struct Wire {
    port: u16,
    steps: PathBuf,
    run: Mutex<Run>,
}

/// The run that is under way.
#[derive(Debug, Default)]
struct Run {
    plugin: u32,
    fault: Option<Fault>,
}

impl Wire {
    /// Starts it. Each request that writes becomes a line in `steps`.
    pub(super) fn start(person: &Kubectl, steps: &Path) -> Result<Arc<Self>> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let wire = Arc::new(Self { port, steps: steps.to_owned(), run: Mutex::default() });
        let (kubeconfig, served) = (person.kubeconfig().to_owned(), Arc::clone(&wire));
        std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = client(&kubeconfig, "kubectl-breakglass").await.unwrap();
                let pass_on = async move |request: Request| served.pass_on(&client, request).await;
                axum::serve(TcpListener::from_std(listener).unwrap(), axum::Router::new().fallback(pass_on)).await
            })
        });
        Ok(wire)
    }

    /// Where it is reached.
    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Starts the plugin, which is to be killed there. Nothing of it is passed on before it is known which process it is.
    pub(super) fn start_run(
        &self,
        fault: Option<&Fault>,
        start: impl FnOnce() -> std::io::Result<Child>,
    ) -> std::io::Result<Child> {
        let mut run = self.run();
        let child = start()?;
        *run = Run { plugin: child.id(), fault: fault.cloned() };
        Ok(child)
    }

    fn run(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pass_on(&self, client: &kube::Client, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let place = parts.uri.path_and_query().map_or("/", |place| place.as_str());
        let step = writes(&parts.method, place, &body).then(|| format!("{} {}", parts.method, resource(place)));
        let fatal = step.as_ref().and_then(|step| self.count(step));
        if fatal == Some(Moment::Before) {
            match self.kill().await {}
        }
        let mut passed = http::Request::builder().method(&parts.method).uri(place);
        // The client here has an address of its own, and unpacks what it has asked to be packed.
        let own = [HOST, CONTENT_LENGTH, ACCEPT_ENCODING];
        for (name, value) in parts.headers.iter().filter(|(name, _)| !own.contains(name)) {
            passed = passed.header(name, value);
        }
        let answer = answer(client, passed.body(body.to_vec().into()).unwrap()).await;
        let answer = answer.unwrap_or_else(|error| (StatusCode::BAD_GATEWAY, error.to_string()).into_response());
        match (step, fatal) {
            // Somebody else wrote at the same moment, which may happen in one run and not in the next: it did nothing.
            (Some(step), _) if answer.status() == StatusCode::CONFLICT => self.uncount(&step),
            (_, Some(Moment::After)) => match self.kill().await {},
            _ => {}
        }
        answer
    }

    /// Writes a step down; gives when in it the plugin is to be killed.
    fn count(&self, step: &str) -> Option<Moment> {
        let run = self.run();
        let steps = fs::read_to_string(&self.steps).unwrap() + step + "\n";
        fs::write(&self.steps, &steps).unwrap();
        let count = steps.lines().filter(|earlier| *earlier == step).count();
        let fault = run.fault.as_ref().filter(|fault| fault.step == step && fault.count == count)?;
        Some(fault.moment)
    }

    /// Forgets a step.
    fn uncount(&self, step: &str) {
        let steps = fs::read_to_string(&self.steps).unwrap();
        let kept = steps.strip_suffix(&format!("{step}\n")).unwrap_or(&steps);
        fs::write(&self.steps, kept).unwrap();
    }

    /// Kills the plugin, which hears nothing any more.
    async fn kill(&self) -> Infallible {
        process::send("KILL", &self.run().plugin.to_string()).unwrap();
        std::future::pending().await
    }
}

/// Whether a request changes something.
fn writes(method: &Method, place: &str, body: &[u8]) -> bool {
    let reads = [Method::GET, Method::HEAD, Method::OPTIONS].contains(method);
    // A delete says in its body that it is a dry run.
    let is_dry = place.contains("dryRun=All") || String::from_utf8_lossy(body).contains(r#""dryRun":["All"]"#);
    !reads && !is_dry && !QUESTIONS.iter().any(|question| place.starts_with(question))
}

/// What a request is about, without the names in it: `configmaps`, `breakglasschanges/status`.
fn resource(place: &str) -> String {
    let path = place.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let below = match parts[..] {
        ["api", _, "namespaces", _, ref below @ ..] | ["apis", _, _, "namespaces", _, ref below @ ..] => below,
        ["api", _, ref below @ ..] | ["apis", _, _, ref below @ ..] => below,
        ref other => other,
    };
    match below {
        [resource, _, subresource] => format!("{resource}/{subresource}"),
        [resource, ..] => (*resource).to_owned(),
        [] => path.to_owned(),
    }
}

/// What the API server answers, warnings and all.
async fn answer(client: &kube::Client, request: http::Request<kube::client::Body>) -> kube::Result<Response> {
    let (parts, body) = client.send(request).await?.into_parts();
    let mut answer = Response::new(Body::from(body.collect_bytes().await?));
    *answer.status_mut() = parts.status;
    // The body is whole.
    for (name, value) in parts.headers.iter().filter(|(name, _)| ![CONTENT_LENGTH, TRANSFER_ENCODING].contains(name)) {
        answer.headers_mut().append(name, value.clone());
    }
    Ok(answer)
}
