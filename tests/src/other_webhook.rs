//! Somebody else's admission webhook, beside ours: an HTTPS server in this process, which does to the ConfigMaps of one
//! namespace what the test says. The API server calls mutating webhooks by the names of their configurations: `aa-…` before
//! `breakglass`, `zz-…` after it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::{AppendHeaders, IntoResponse as _, Response};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::certs::{Authority, Pem};
use crate::cluster::Cluster;
use crate::kubectl::Kubectl;
use crate::wait::wait_until;

/// How long the API server may take to learn of a webhook.
const LIMIT: Duration = Duration::from_secs(60);

/// The object that we look with whether the API server asks yet; no test is told of it.
const PROBE: &str = "other-webhook-probe";

/// What it does with one write.
#[derive(Clone, Debug)]
pub enum Reaction {
    /// Nothing.
    Nothing,
    /// This JSON patch on the object.
    Patch(Value),
    /// It refuses, with these words.
    Deny(&'static str),
    /// It cannot answer now (503), and says when to come again, in seconds.
    Busy(Option<u32>),
}

/// How the webhook is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Before the object is final, and once.
    Mutating,
    /// Before the object is final, and again when others changed it since.
    MutatingAgain,
    /// When the object is final.
    Validating,
}

/// A webhook that the API server knows; forgotten, and ended, when it is dropped.
pub struct OtherWebhook {
    kind: &'static str,
    name: String,
    admin: Kubectl,
    behaviour: Arc<Behaviour>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl OtherWebhook {
    /// Starts it under a name for the ConfigMaps of `namespace`; returns when the API server asks it.
    ///
    /// # Panics
    /// When it cannot be started, or the API server does not ask it.
    #[track_caller]
    #[must_use]
    pub fn start(
        cluster: &Cluster,
        asked: Asked,
        (name, namespace): (&str, &str),
        react: impl Fn(&Value) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        let authority = Authority::new().unwrap();
        let behaviour = Arc::new(Behaviour { react: Box::new(react), seen: Mutex::default(), probed: false.into() });
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("https://{}/", listener.local_addr().unwrap());
        let app = {
            let behaviour = Arc::clone(&behaviour);
            axum::Router::new().route("/", post(async move |body: Bytes| behaviour.answer(&body)))
        };
        let (stop, stopped) = oneshot::channel();
        let tls = acceptor(&authority.server(&["127.0.0.1"]).unwrap());
        let thread = std::thread::spawn(move || serve(listener, tls, app, stopped));
        let kind = match asked {
            Asked::Mutating | Asked::MutatingAgain => "MutatingWebhookConfiguration",
            Asked::Validating => "ValidatingWebhookConfiguration",
        };
        // From here on dropping it cleans up, whatever fails.
        let (stop, thread) = (Some(stop), Some(thread));
        let webhook = Self { kind, name: name.to_owned(), admin: cluster.kubectl("admin"), behaviour, stop, thread };
        let document = configuration(asked, (kind, name, namespace), &url, &authority.certificate());
        webhook.admin.ok_with_input(&["create", "-f", "-"], &document.to_string());
        let look = ["-n", namespace, "create", "configmap", PROBE, "--dry-run=server"];
        let asked = wait_until("the API server to ask another webhook", LIMIT, || {
            cluster.set_scene(&look, "");
            if webhook.behaviour.probed.load(Ordering::Relaxed) { Ok(()) } else { Err("it does not".to_owned()) }
        });
        asked.unwrap_or_else(|error| panic!("{error:#}"));
        webhook
    }

    /// The requests of the reviews that it was asked since the last look.
    #[must_use]
    pub fn take_seen(&self) -> Vec<Value> {
        std::mem::take(&mut *self.behaviour.seen())
    }
}

impl Drop for OtherWebhook {
    fn drop(&mut self) {
        // Before the server ends: what is not answered is refused.
        let _ = self.admin.run(&["delete", self.kind, &self.name, "--ignore-not-found"]);
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A server that says yes to everything, under our webhook's name and a certificate of its own; ended when it is dropped.
pub struct Impostor {
    seen: Arc<Behaviour>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Impostor {
    /// Listens at this address.
    ///
    /// # Panics
    /// When the address is taken.
    #[must_use]
    pub fn start(address: SocketAddr, name: &str) -> Self {
        let react = Box::new(|_: &Value| Reaction::Nothing);
        let seen = Arc::new(Behaviour { react, seen: Mutex::default(), probed: false.into() });
        let listener = std::net::TcpListener::bind(address).unwrap();
        let behaviour = Arc::clone(&seen);
        let app = axum::Router::new().fallback(post(async move |body: Bytes| behaviour.answer(&body)));
        let (stop, stopped) = oneshot::channel();
        let tls = acceptor(&Authority::new().unwrap().server(&[name]).unwrap());
        let thread = std::thread::spawn(move || serve(listener, tls, app, stopped));
        Self { seen, stop: Some(stop), thread: Some(thread) }
    }

    /// How many reviews it was given.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.seen.seen().len()
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn configuration(asked: Asked, (kind, name, namespace): (&str, &str, &str), url: &str, authority: &str) -> Value {
    let mut webhook = json!({
        "name": "other.e2e.example.com",
        "admissionReviewVersions": ["v1"],
        "clientConfig": {"url": url, "caBundle": STANDARD.encode(authority)},
        // A test in which it was not asked must not pass.
        "failurePolicy": "Fail",
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
                   "resources": ["configmaps"], "scope": "Namespaced"}],
        "sideEffects": "None",
    });
    if asked == Asked::MutatingAgain {
        webhook["reinvocationPolicy"] = json!("IfNeeded");
    }
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name},
           "webhooks": [webhook]})
}

/// What it does, and what was asked of it.
struct Behaviour {
    react: Box<dyn Fn(&Value) -> Reaction + Send + Sync>,
    seen: Mutex<Vec<Value>>,
    probed: AtomicBool,
}

impl Behaviour {
    /// One review in, one out.
    fn answer(&self, body: &[u8]) -> Response {
        let review: Value = serde_json::from_slice(body).unwrap_or_default();
        let request = &review["request"];
        let mut response = json!({"uid": request["uid"], "allowed": true});
        if request["name"] == PROBE {
            self.probed.store(true, Ordering::Relaxed);
        } else {
            self.seen().push(request.clone());
            match (self.react)(request) {
                Reaction::Nothing => {}
                Reaction::Patch(patch) => {
                    response["patchType"] = json!("JSONPatch");
                    response["patch"] = json!(STANDARD.encode(patch.to_string()));
                }
                Reaction::Deny(why) => {
                    response["allowed"] = json!(false);
                    response["status"] = json!({"code": 403, "message": why});
                }
                Reaction::Busy(again) => {
                    let again = again.map(|seconds| [("retry-after", seconds.to_string())]);
                    return (StatusCode::SERVICE_UNAVAILABLE, again.map(AppendHeaders), ()).into_response();
                }
            }
        }
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
            .to_string()
            .into_response()
    }

    fn seen(&self) -> MutexGuard<'_, Vec<Value>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(listener: std::net::TcpListener, tls: TlsAcceptor, app: axum::Router, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        listener.set_nonblocking(true).unwrap();
        let listener = Tls { tcp: TcpListener::from_std(listener).unwrap(), tls };
        tokio::select! {
            _ = axum::serve(listener, app) => {}
            _ = stopped => {}
        }
    });
}

/// Connections after their handshake, one by one: a single API server calls.
struct Tls {
    tcp: TcpListener,
    tls: TlsAcceptor,
}

impl axum::serve::Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.tcp.accept().await else { continue };
            if let Ok(stream) = self.tls.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}

fn acceptor(pem: &Pem) -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_slice(pem.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}
