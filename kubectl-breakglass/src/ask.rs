//! One question to the API server: bounded in time, asked again where it is busy, explained where it fails.

use std::future::Future;
use std::time::Duration;

use breakglass::api::GROUP;
use serde::de::DeserializeOwned;

use crate::call::answer;
use crate::cli::RequestTimeout;
use crate::connect::Connection;
use crate::error::{CommandError, Result};
use crate::explain::{Doing, explain, not_installed, refusal};

/// How often a busy server is asked.
const TRIES: u32 = 4;

/// How long to wait before asking a busy server again, doubled each time, where it does not say itself.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The longest that a server may tell us to wait.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

impl Connection {
    /// Waits for an answer of the cluster, but not for ever, and says in words what went wrong.
    ///
    /// # Errors
    /// Whatever the cluster answers, explained; or that it did not answer.
    pub async fn ask<T>(&self, doing: Doing, request: impl Future<Output = kube::Result<T>>) -> Result<T> {
        let answer = self.bounded(request).await;
        self.read(doing, answer).await
    }

    /// The same for a question that may be asked twice.
    ///
    /// # Errors
    /// Whatever the cluster answers, explained; or that it did not answer.
    pub async fn ask_again<T, F>(&self, doing: Doing, request: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = kube::Result<T>>,
    {
        let answer = self.patiently(request).await;
        self.read(doing, answer).await
    }

    async fn read<T>(&self, doing: Doing, answer: Option<kube::Result<T>>) -> Result<T> {
        match answer {
            Some(Ok(answer)) => Ok(answer),
            // Who may not touch a kind is not told whether there is one.
            Some(Err(kube::Error::Api(status)))
                if status.is_forbidden()
                    && doing.role().is_some()
                    && refusal(&status.message).is_none()
                    && !self.knows_our_kinds().await =>
            {
                Err(not_installed())
            }
            Some(Err(error)) => Err(explain(&error, doing, &self.server)),
            None => {
                let message = format!("{} did not answer while {doing}", self.server);
                Err(CommandError::failed(message).hint("kubectl get --raw /readyz?verbose"))
            }
        }
    }

    /// The answer, or nothing when it took too long.
    pub async fn bounded<T>(&self, request: impl Future<Output = T>) -> Option<T> {
        match self.timeout {
            RequestTimeout::Endless => Some(request.await),
            RequestTimeout::AtMost(limit) => tokio::time::timeout(limit, request).await.ok(),
        }
    }

    /// The answer of a server that may be busy for a moment; nothing when it took too long.
    pub async fn patiently<T, F>(&self, request: impl Fn() -> F) -> Option<kube::Result<T>>
    where
        F: Future<Output = kube::Result<T>>,
    {
        let mut pause = FIRST_PAUSE;
        for _ in 1..TRIES {
            match self.bounded(request()).await? {
                Err(kube::Error::Api(status)) if matches!(status.code, 429 | 503 | 504) => {
                    let told = status.details.map_or(0, |details| details.retry_after_seconds);
                    tokio::time::sleep(Duration::from_secs(told.into()).min(LONGEST_PAUSE).max(pause)).await;
                    pause *= 2;
                }
                answer => return Some(answer),
            }
        }
        self.bounded(request()).await
    }

    /// A long answer, read on a thread of its own, so that the next question need not wait for it.
    ///
    /// # Errors
    /// Those of the client.
    pub async fn page<T>(&self, request: http::Request<Vec<u8>>) -> kube::Result<T>
    where
        T: DeserializeOwned + Send + 'static,
    {
        let (_, bytes) = answer(&self.client, request).await?;
        let read = tokio::task::spawn_blocking(move || serde_json::from_slice(&bytes)).await;
        read.map_err(|error| kube::Error::Service(error.into()))?.map_err(kube::Error::SerdeError)
    }

    /// Whether the server knows tokens and records. Who may not ask is taken for somebody whose server does.
    pub async fn knows_our_kinds(&self) -> bool {
        let version = format!("{GROUP}/v1alpha1");
        let answer = self.bounded(self.client.list_api_group_resources(&version)).await;
        !matches!(answer, Some(Err(kube::Error::Api(status))) if status.code == 404)
    }
}
