//! A client that is not kubectl: it sends the bytes that it is given, and adds nothing to an answer.

use anyhow::{Context as _, Result};
use kube::client::Body;
use serde_json::Value;

use crate::kubectl::Kubectl;

/// One person's connection to the API server.
pub struct Client {
    client: kube::Client,
    runtime: tokio::runtime::Runtime,
}

/// What the API server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body, JSON unless something else was asked for.
    pub body: String,
}

impl Answer {
    /// What the body says in the field `message`; all of it where there is none.
    #[must_use]
    pub fn message(&self) -> String {
        let read = serde_json::from_str::<Value>(&self.body).unwrap_or_default();
        read["message"].as_str().map_or_else(|| self.body.clone(), str::to_owned)
    }
}

impl Client {
    /// The person that `kubectl` runs as, who sends these headers with every request.
    ///
    /// # Errors
    /// When the kubeconfig is none.
    pub fn new(kubectl: &Kubectl, headers: &[(&str, &str)]) -> Result<Self> {
        // It is only refused when it is there already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // With a thread of its own, which hears of a closed connection also while nothing is sent.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let client = runtime.block_on(async {
            let kubeconfig = kube::config::Kubeconfig::read_from(kubectl.kubeconfig())?;
            let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
            // A retry would be another request.
            config.default_retry = false;
            for (name, value) in headers {
                config.headers.push((name.parse()?, value.parse()?));
            }
            anyhow::Ok(kube::Client::try_from(config)?)
        });
        Ok(Self { client: client.context("making a client")?, runtime })
    }

    /// Sends one request.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn send(&self, method: &str, path: &str, (content_type, body): (&str, Vec<u8>)) -> Result<Answer> {
        let request = http::Request::builder().method(method).uri(path).header("content-type", content_type);
        let request = request.body(Body::from(body))?;
        self.runtime.block_on(async {
            let answer = self.client.send(request).await?;
            let status = answer.status().as_u16();
            let body = answer.into_body().collect_bytes().await?;
            Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
        })
    }

    /// Sends JSON; a merge patch where the method is PATCH.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn json(&self, method: &str, path: &str, body: &Value) -> Result<Answer> {
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        self.send(method, path, (kind, body.to_string().into_bytes()))
    }
}
