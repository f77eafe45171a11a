//! The API server as one part of the cluster asks it: a client with that part's certificate, and a limit for every answer.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use crate::http;

/// The user agent that shows in the audit log.
const AGENT: &str = "breakglass-tests/node";

/// How long an answer may take; whoever asked tries again later.
const LIMIT: Duration = Duration::from_secs(5);

/// One part's way to the API server.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) client: kube::Client,
}

/// Why there is no answer that helps.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The API server refused, with this status.
    Refused(u16),
    /// It did not answer.
    Silent,
}

impl Api {
    /// Logs in with a kubeconfig.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used.
    pub(crate) async fn new(kubeconfig: &Path) -> Result<Self> {
        Ok(Self { client: http::client(kubeconfig, AGENT).await? })
    }

    /// Sends JSON.
    pub(crate) async fn send(&self, method: &str, path: &str, body: &Value) -> Result<Value, Failure> {
        self.ask(method, (path, "application/json"), body).await
    }

    /// Sends a strategic merge patch.
    pub(crate) async fn patch(&self, path: &str, patch: &Value) -> Result<Value, Failure> {
        self.ask("PATCH", (path, http::STRATEGIC), patch).await
    }

    async fn ask(&self, method: &str, to: (&str, &str), body: &Value) -> Result<Value, Failure> {
        match tokio::time::timeout(LIMIT, http::send(&self.client, method, to, &body.to_string())).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(kube::Error::Api(status))) => Err(Failure::Refused(status.code)),
            Ok(Err(_)) | Err(_) => Err(Failure::Silent),
        }
    }
}

/// The time as Kubernetes writes it, in whole seconds.
pub(crate) fn now() -> String {
    chrono::Utc::now().format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The same in microseconds, as a Lease has it.
pub(crate) fn now_micros() -> String {
    chrono::Utc::now().format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}
