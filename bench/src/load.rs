//! The load: keep-alive connections of HTTP/1.1 over TLS, in a closed loop or at a fixed rate, and how each call was answered.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::stats::{Figure, percentile, sorted};
use tests::trust::AnyCertificate;

/// How long a call may take, from when it was meant to start: what the API server gives a webhook.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many connections an open loop has at most: calls beyond wait for one, and that wait counts.
const OPEN_CONNECTIONS: usize = 256;

/// A server, and who calls it.
#[derive(Clone)]
pub struct Target {
    address: SocketAddr,
    tls: Arc<rustls::ClientConfig>,
    token: Option<String>,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Call {
    /// GET, POST, …
    pub method: &'static str,
    /// Path and query.
    pub path: String,
    /// Media type of the body.
    pub media_type: &'static str,
    /// Media type of the answer that is asked for.
    pub accept: &'static str,
    /// The body.
    pub body: Bytes,
}

impl Call {
    /// A POST of JSON.
    pub fn post(path: &str, body: impl Into<Bytes>) -> Self {
        let json = "application/json";
        Self { method: "POST", path: path.to_owned(), media_type: json, accept: json, body: body.into() }
    }

    /// A GET of the metadata of a list.
    pub fn metadata(path: String) -> Self {
        let accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        Self { method: "GET", path, accept, ..Self::post("", "") }
    }
}

/// How one call was answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// From when it was meant to start to its last byte.
    pub took: Duration,
    /// The HTTP status; 0 where there was no answer.
    pub status: u16,
    /// It said when to come again.
    pub retry_after: bool,
    /// The review in it lets the write in.
    pub allowed: bool,
    /// The first bytes, for an error.
    pub text: String,
}

impl Answer {
    /// No answer, and why.
    pub fn none(took: Duration, text: String) -> Self {
        Self { took, status: 0, retry_after: false, allowed: false, text }
    }
}

/// What makes the next call out of its number.
pub type Calls = Arc<dyn Fn(usize) -> Call + Send + Sync>;

/// The same call again and again.
pub fn same(call: Call) -> Calls {
    Arc::new(move |_| call.clone())
}

impl Target {
    /// A webhook on this machine, whatever certificate it shows.
    pub fn webhook(port: u16) -> Result<Self> {
        let tls = AnyCertificate::client()?.with_no_client_auth();
        Ok(Self { address: (Ipv4Addr::LOCALHOST, port).into(), tls: Arc::new(tls), token: None })
    }

    /// The API server as the person of this kubeconfig.
    pub fn api(kubeconfig: &Path) -> Result<Self> {
        let config: Value = serde_json::from_str(&std::fs::read_to_string(kubeconfig)?)?;
        let url = config["clusters"][0]["cluster"]["server"].as_str().context("a kubeconfig names its server")?;
        let context = named(&config["contexts"], &config["current-context"]);
        let user = &named(&config["users"], &context["context"]["user"])["user"];
        let pem = |key: &str| -> Result<Option<Vec<u8>>> {
            Ok(user[key].as_str().map(|text| STANDARD.decode(text)).transpose()?)
        };
        let tls = AnyCertificate::client()?;
        let tls = match (pem("client-certificate-data")?, pem("client-key-data")?) {
            (Some(certificate), Some(key)) => tls.with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(&certificate)?],
                PrivateKeyDer::from_pem_slice(&key)?,
            )?,
            _ => tls.with_no_client_auth(),
        };
        let address = url.trim_start_matches("https://").parse().context("an address of loopback")?;
        Ok(Self { address, tls: Arc::new(tls), token: user["token"].as_str().map(str::to_owned) })
    }
}

/// The entry of that name in a list of a kubeconfig; null where there is none.
fn named<'a>(list: &'a Value, name: &Value) -> &'a Value {
    list.as_array().into_iter().flatten().find(|entry| entry["name"] == *name).unwrap_or(&Value::Null)
}

/// One connection, opened when it is first needed and again after it was lost.
struct Connection {
    target: Target,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Connection {
    async fn send(&mut self, call: Call, (start, patience): (Instant, Duration)) -> Answer {
        let sent = tokio::time::timeout(patience.saturating_sub(start.elapsed()), self.try_send(call)).await;
        match sent {
            Ok(Ok(answer)) => Answer { took: start.elapsed(), ..answer },
            Ok(Err(error)) => {
                self.sender = None;
                Answer::none(start.elapsed(), format!("{error:#}"))
            }
            Err(_) => {
                self.sender = None;
                Answer::none(start.elapsed(), "no answer in time".to_owned())
            }
        }
    }

    async fn try_send(&mut self, call: Call) -> Result<Answer> {
        let open = self.sender.take().filter(|sender| !sender.is_closed());
        let mut sender = match open {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let mut request = http::Request::builder()
            .method(call.method)
            .uri(call.path)
            .header("host", "localhost")
            .header("accept", call.accept)
            .header("content-type", call.media_type);
        if let Some(token) = &self.target.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        sender.ready().await?;
        let response = sender.send_request(request.body(Full::new(call.body))?).await?;
        let (status, retry_after) = (response.status().as_u16(), response.headers().contains_key("retry-after"));
        let body = response.into_body().collect().await?.to_bytes();
        self.sender = Some(sender);
        let head = &body[..body.len().min(4_096)];
        let text =
            if status == 200 || status == 201 { String::new() } else { String::from_utf8_lossy(head).into_owned() };
        let allowed = head.windows(14).any(|window| window == b"\"allowed\":true");
        Ok(Answer { took: Duration::ZERO, status, retry_after, allowed, text })
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(self.target.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let stream = TlsConnector::from(Arc::clone(&self.target.tls)).connect(name, stream).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// Connections to one target, kept from run to run.
pub struct Load {
    runtime: Arc<Runtime>,
    connections: Vec<Connection>,
    target: Target,
    patience: Duration,
}

/// The answers of one run.
#[derive(Debug)]
pub struct Run {
    /// In no order.
    pub answers: Vec<Answer>,
    /// From the first call to the last answer.
    pub took: Duration,
}

/// What all loads run on: one thread beside the one that waits, since the servers need the cores, too.
///
/// # Errors
/// Those of the system.
pub fn runtime() -> Result<Arc<Runtime>> {
    Ok(Arc::new(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?))
}

impl Load {
    /// So many connections, none of them open yet.
    pub fn new(runtime: &Arc<Runtime>, target: &Target, connections: usize) -> Self {
        let connection = || Connection { target: target.clone(), sender: None };
        let connections = std::iter::repeat_with(connection).take(connections).collect();
        Self { runtime: Arc::clone(runtime), connections, target: target.clone(), patience: PATIENCE }
    }

    /// The same for callers who wait this long.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Closed loop: every connection sends its next call when it has the answer to the last one, `count` in all.
    pub fn closed(&mut self, count: usize, calls: &Calls) -> Run {
        let (next, patience) = (Arc::new(AtomicUsize::new(0)), self.patience);
        let started = Instant::now();
        let mut tasks = JoinSet::new();
        for mut connection in self.connections.drain(..) {
            let (next, calls) = (Arc::clone(&next), Arc::clone(calls));
            let work = async move {
                let mut answers = Vec::with_capacity(count);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return (connection, answers);
                    }
                    answers.push(connection.send(calls(number), (Instant::now(), patience)).await);
                }
            };
            tasks.spawn_on(work, self.runtime.handle());
        }
        let done = self.runtime.block_on(tasks.join_all());
        let took = started.elapsed();
        let (connections, answers): (Vec<_>, Vec<_>) = done.into_iter().unzip();
        self.connections = connections;
        Run { answers: answers.into_iter().flatten().collect(), took }
    }

    /// Open loop: a call every `1 / rate` seconds, whatever became of those before it. What waits here, waits in its figure.
    pub fn open(&mut self, rate: f64, length: Duration, calls: &Calls) -> Run {
        let count = (rate * length.as_secs_f64()) as usize;
        // Those that are open are taken first: a storm of handshakes is another question.
        let connection = || Connection { target: self.target.clone(), sender: None };
        let mut idle: Vec<Connection> = std::iter::repeat_with(connection).take(OPEN_CONNECTIONS).collect();
        idle.append(&mut self.connections);
        idle.drain(..idle.len() - OPEN_CONNECTIONS);
        let (idle, free) = (Arc::new(Mutex::new(idle)), Arc::new(tokio::sync::Semaphore::new(OPEN_CONNECTIONS)));
        let (calls, patience, target) = (Arc::clone(calls), self.patience, self.target.clone());
        let after = Arc::clone(&idle);
        let run = self.runtime.block_on(async move {
            let started = Instant::now();
            let mut tasks = JoinSet::new();
            for number in 0..count {
                let at = started + Duration::from_secs_f64(number as f64 / rate);
                if at > Instant::now() {
                    tokio::time::sleep_until(at.into()).await;
                }
                let (idle, free, call) = (Arc::clone(&idle), Arc::clone(&free), calls(number));
                let target = target.clone();
                tasks.spawn(async move {
                    let _free = free.acquire().await;
                    let taken = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
                    let mut connection = taken.unwrap_or(Connection { target, sender: None });
                    let answer = connection.send(call, (at, patience)).await;
                    idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
                    answer
                });
            }
            let answers = tasks.join_all().await;
            Run { answers, took: started.elapsed() }
        });
        self.connections = after.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect();
        run
    }
}

impl Run {
    /// Figures of the run, where `cpu` is what the servers used for it.
    pub fn figure(&self, cpu: Duration) -> Figure {
        let took = sorted(self.answers.iter().map(|answer| answer.took.as_secs_f64() * 1e3).collect());
        let count = self.answers.len() as f64;
        Figure {
            cpu: cpu.as_secs_f64() * 1e6 / count,
            api: 0.0,
            p50: percentile(&took, 0.5),
            p99: percentile(&took, 0.99),
            rate: count / self.took.as_secs_f64(),
        }
    }

    /// The same run, if every call was answered as it should be: a figure of failures is none.
    ///
    /// # Errors
    /// With the first answer that is another one.
    pub fn all(self, what: &str, good: impl Fn(&Answer) -> bool) -> Result<Self> {
        match self.answers.iter().find(|answer| !good(answer)) {
            Some(other) => bail!("{what}: {} answered {}: {}", self.answers.len(), other.status, other.text),
            None => Ok(self),
        }
    }
}
