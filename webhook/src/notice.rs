//! Kubernetes Events on the objects concerned: what happened while nobody looked. They are told from a bounded queue, so that
//! no write waits for one.

use std::sync::Arc;
use std::time::Duration;

use breakglass::api::HOME_NAMESPACE;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::Resource;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;

use crate::metrics::Metrics;
use crate::said::said;

/// Who reports.
const CONTROLLER: &str = "breakglass-webhook";

/// How many Events wait to be written. More at once say the same again: they are counted and dropped.
const QUEUE: usize = 64;

/// How long writing one may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The longest text of an Event, in characters of at most four bytes: the API server takes 1,024 bytes
/// (k8s.io/kubernetes pkg/apis/core/validation/events.go, NoteLengthLimit).
const LONGEST: usize = 256;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To be known.
    Normal,
    /// To be looked at.
    Warning,
}

/// What happened, and to what.
#[derive(Clone, Debug)]
pub struct Notice {
    about: ObjectReference,
    kind: Kind,
    reason: &'static str,
    action: &'static str,
    text: String,
}

impl Notice {
    /// What was done. Events of one reason about one object within minutes become one that counts, with the text of the first:
    /// unless something else was done.
    pub fn doing(self, action: &'static str) -> Self {
        Self { action, ..self }
    }

    /// About an object of a kind that lives in no namespace.
    pub fn about<K: Resource<DynamicType = ()>>(
        object: &K,
        kind: Kind,
        reason: &'static str,
        text: impl Into<String>,
    ) -> Self {
        Self { about: object.object_ref(&()), kind, reason, action: reason, text: text.into() }
    }

    /// About a Secret of ours.
    pub fn about_secret(name: &str, kind: Kind, reason: &'static str, text: impl Into<String>) -> Self {
        let about = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Secret".to_owned()),
            name: Some(name.to_owned()),
            namespace: Some(HOME_NAMESPACE.to_owned()),
            ..Default::default()
        };
        Self { about, kind, reason, action: reason, text: text.into() }
    }
}

/// Where notices go.
#[derive(Clone)]
pub struct Notices {
    queue: mpsc::Sender<Notice>,
    metrics: Arc<Metrics>,
}

impl Notices {
    /// Writes what is said from now on, as this replica.
    pub fn new(client: Client, replica: String, metrics: Arc<Metrics>) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let reporter = Reporter { controller: CONTROLLER.to_owned(), instance: Some(replica) };
        tokio::spawn(deliver(waiting, Recorder::new(client, reporter), metrics.clone()));
        Self { queue, metrics }
    }

    /// Says it, some time soon; or counts that nobody will hear it.
    pub fn say(&self, notice: Notice) {
        if self.queue.try_send(notice).is_err() {
            self.metrics.events_dropped.inc();
        }
    }
}

async fn deliver(mut waiting: mpsc::Receiver<Notice>, recorder: Recorder, metrics: Arc<Metrics>) {
    while let Some(Notice { about, kind, reason, action, text }) = waiting.recv().await {
        let type_ = match kind {
            Kind::Normal => EventType::Normal,
            Kind::Warning => EventType::Warning,
        };
        let note = Some(text.chars().take(LONGEST).collect());
        let event = Event { type_, reason: reason.to_owned(), note, action: action.to_owned(), secondary: None };
        match tokio::time::timeout(TIMEOUT, recorder.publish(&event, &about)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                metrics.events_dropped.inc();
                tracing::warn!("writing the Event {reason}: {:#}", said(error));
            }
            Err(_) => {
                metrics.events_dropped.inc();
            }
        }
    }
}
