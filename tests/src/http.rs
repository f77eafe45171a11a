//! One person with another client than kubectl: requests as they go over the wire, and the status they are answered with.

use std::fmt;
use std::path::Path;
use std::sync::OnceLock;

use anyhow::Result;
use http::header;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use crate::kubectl::Kubectl;

/// The media type of a merge patch (RFC 7386).
pub const MERGE: &str = "application/merge-patch+json";
/// The media type of a JSON patch (RFC 6902).
pub const JSON: &str = "application/json-patch+json";
/// The media type of a strategic merge patch, which built-in kinds alone have.
pub const STRATEGIC: &str = "application/strategic-merge-patch+json";
/// The media type of a server-side apply. JSON is YAML.
pub const APPLY: &str = "application/apply-patch+yaml";

/// A client that sends what it is told, under the name that it is told.
pub struct Http {
    client: kube::Client,
    runtime: Runtime,
}

impl Http {
    /// Logs in as whoever `person` is.
    ///
    /// # Panics
    /// When their kubeconfig cannot be used.
    #[must_use]
    pub fn new(person: &Kubectl, user_agent: &str) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(client(person.kubeconfig(), user_agent)).unwrap();
        Self { client, runtime }
    }

    /// Sends JSON.
    ///
    /// # Errors
    /// What the API server refused it with.
    pub fn send(&self, method: &str, path: &str, body: &str) -> kube::Result<Value> {
        self.runtime.block_on(send(&self.client, method, (path, "application/json"), body))
    }

    /// Sends a patch of this media type.
    ///
    /// # Errors
    /// What the API server refused it with.
    pub fn patch(&self, media_type: &str, path: &str, patch: &Value) -> kube::Result<Value> {
        self.runtime.block_on(send(&self.client, "PATCH", (path, media_type), &patch.to_string()))
    }

    /// Sends all patches (path, media type, patch) at once; the answers come in the order of the patches.
    pub fn patch_at_once(&self, patches: &[(String, &'static str, Value)]) -> Vec<kube::Result<Value>> {
        self.runtime.block_on(async {
            let mut calls = tokio::task::JoinSet::new();
            for (index, (path, media_type, patch)) in patches.iter().cloned().enumerate() {
                let client = self.client.clone();
                calls.spawn(
                    async move { (index, send(&client, "PATCH", (&path, media_type), &patch.to_string()).await) },
                );
            }
            let mut answers = calls.join_all().await;
            answers.sort_by_key(|(index, _)| *index);
            answers.into_iter().map(|(_, answer)| answer).collect()
        })
    }
}

/// How often a read that got no answer is tried again: a connection that an API server took with it is found dead once.
const READS: usize = 3;

/// Reads what a test looks at, over one connection; made by the first who looks.
#[derive(Default)]
pub struct Reader(OnceLock<Http>);

impl Reader {
    /// What is at `path`; `None` where nothing is.
    ///
    /// # Panics
    /// When there is no answer, or another one.
    #[track_caller]
    pub(crate) fn read(&self, person: &Kubectl, path: &str) -> Option<Value> {
        let http = self.0.get_or_init(|| Http::new(person, "tests"));
        let mut answer = http.send("GET", path, "");
        for _ in 1..READS {
            if !matches!(&answer, Err(error) if !matches!(error, kube::Error::Api(_))) {
                break;
            }
            answer = http.send("GET", path, "");
        }
        match answer {
            Ok(object) => Some(object),
            Err(kube::Error::Api(status)) if status.code == 404 => None,
            Err(error) => panic!("{path}: {error}"),
        }
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reader")
    }
}

/// A client that logs in with the current context of `kubeconfig`, and calls itself `user_agent`.
///
/// # Errors
/// When the kubeconfig cannot be used.
pub(crate) async fn client(kubeconfig: &Path, user_agent: &str) -> Result<kube::Client> {
    // An error says that somebody did already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = kube::config::Kubeconfig::read_from(kubeconfig)?;
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
    // What is sent once is seen once.
    config.default_retry = false;
    config.headers.push((header::USER_AGENT, user_agent.parse()?));
    Ok(kube::Client::try_from(config)?)
}

/// Sends one request with a body of this media type.
///
/// # Errors
/// What the API server refused it with.
pub(crate) async fn send(
    client: &kube::Client,
    method: &str,
    (path, media_type): (&str, &str),
    body: &str,
) -> kube::Result<Value> {
    let request = http::Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, media_type);
    let request = request.body(body.as_bytes().to_vec()).map_err(kube::Error::HttpError)?;
    client.request(request).await
}

/// The status and the words with which the API server refused.
///
/// # Panics
/// When it did not refuse, or did not answer.
#[track_caller]
#[must_use]
pub fn refused(answer: kube::Result<Value>) -> (u16, String) {
    match answer {
        Err(kube::Error::Api(status)) => (status.code, status.message.clone()),
        Ok(object) => panic!("this was let in: {object:#}"),
        Err(error) => panic!("no answer of the API server: {error}"),
    }
}
