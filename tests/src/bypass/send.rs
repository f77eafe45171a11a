//! Sends requests as they were made up, and gives the answers as they come.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use serde_json::Value;

use super::draft::UID;
use super::request::{Body, Request};
use crate::kubectl::Kubectl;

/// Longer than the API server takes for what it does not give up.
const LIMIT: Duration = Duration::from_secs(40);

/// What the requests are sent by, and so the field manager of whoever names none.
pub(super) const AGENT: &str = "fuzz";

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) code: u16,
    /// The object, the Status, or null for what is neither.
    pub(super) object: Value,
}

impl Answer {
    pub(super) fn message(&self) -> &str {
        self.object["message"].as_str().unwrap_or_default()
    }

    /// Without what the API server writes about an object, and without what nobody should read.
    pub(super) fn shown(&self) -> Value {
        let mut object = self.object.clone();
        object["metadata"]["managedFields"].take();
        if let Some(token) = object.pointer_mut("/status/token") {
            *token = "…".into();
        }
        object
    }

    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.code)
    }
}

/// A connection for each login.
pub(super) struct Sender {
    clients: BTreeMap<&'static str, kube::Client>,
}

impl Sender {
    pub(super) async fn new(logins: &BTreeMap<&'static str, Kubectl>) -> Result<Self> {
        // An error says that somebody did already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut clients = BTreeMap::new();
        for (login, kubectl) in logins {
            let kubeconfig = kube::config::Kubeconfig::read_from(kubectl.kubeconfig())?;
            let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
            config.headers.push((USER_AGENT, HeaderValue::from_static(AGENT)));
            // What is sent again is another request.
            config.default_retry = false;
            clients.insert(*login, kube::Client::try_from(config)?);
        }
        Ok(Self { clients })
    }

    /// Sends a request, with what it leaves open filled in from the object as it is now.
    pub(super) async fn send(&self, request: &Request) -> Result<Answer> {
        let body = match &request.body {
            Body::None => Vec::new(),
            Body::Bytes(bytes) => bytes.clone(),
            Body::Edit(edit) => {
                let mut object = self.get(path_alone(request)).await?;
                json_patch::merge(&mut object, edit);
                object.to_string().into_bytes()
            }
            Body::Json(body) => {
                let mut text = body.to_string();
                if text.contains(UID) {
                    let object = self.get(path_alone(request)).await?;
                    text = text.replace(UID, object["metadata"]["uid"].as_str().unwrap_or_default());
                }
                text.into_bytes()
            }
        };
        let mut headers = request.headers.clone();
        headers.push(("Audit-ID".to_owned(), request.audit_id()));
        self.raw(request.login, (request.method, &request.path), &headers, body).await
    }

    /// Sends JSON, or a merge patch.
    pub(super) async fn json(&self, login: &str, method: &str, path: &str, body: &Value) -> Result<Answer> {
        let media_type = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let headers = [(CONTENT_TYPE.to_string(), media_type.to_owned())];
        self.raw(login, (method, path), &headers, body.to_string().into_bytes()).await
    }

    /// Reads as the admin; a Status where there is nothing.
    pub(super) async fn get(&self, path: &str) -> Result<Value> {
        Ok(self.raw("admin", ("GET", path), &[], Vec::new()).await?.object)
    }

    pub(super) async fn raw(
        &self,
        login: &str,
        (method, path): (&str, &str),
        headers: &[(String, String)],
        body: Vec<u8>,
    ) -> Result<Answer> {
        let client = self.clients.get(login).with_context(|| format!("nobody logs in as {login}"))?;
        let mut request = http::Request::builder().method(method).uri(path).body(kube::client::Body::from(body))?;
        for (name, value) in headers {
            request.headers_mut().append(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?);
        }
        let answer = async {
            let response = client.send(request).await?;
            let code = response.status().as_u16();
            let bytes = response.into_body().collect_bytes().await?;
            anyhow::Ok(Answer { code, object: serde_json::from_slice(&bytes).unwrap_or_default() })
        };
        tokio::time::timeout(LIMIT, answer).await.context("there is no answer")?
    }
}

/// Where the object of a request is read: without parameters, and without the one subresource that only takes.
fn path_alone(request: &Request) -> &str {
    let path = request.path.split('?').next().unwrap_or_default();
    path.trim_end_matches('/').trim_end_matches("/finalize")
}
