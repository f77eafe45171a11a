//! What doctor looks at, one file a check. Each is a pure function from what the cluster has to findings.

use breakglass::api::HOME_NAMESPACE as HOME;
use chrono::{DateTime, Utc};
use kube::core::ObjectMeta;
use serde::Serialize;

use crate::rbac::{Subject, Through};
use crate::reach::{Power, Way};

// Where what is there differs from what should be.
mod difference;
// Versions that work together.
pub mod versions;
// The definitions of our kinds.
pub mod crds;
// The policy in force.
pub mod policy;
// Whether the webhook runs.
pub mod deployment;
// Whether what the API server calls leads to it.
pub mod service;
// Whether the API server believes it.
pub mod certificates;
// Whether the API server calls the webhook.
pub mod registration;
// Whether it calls it as the policy says.
pub mod drift;
// What the replicas say of themselves.
pub mod replicas;
// Whether one of them leads.
pub mod leader;
// What the webhook may do.
pub mod rights;
// What the API server counted.
pub mod metrics;
// What is overdue.
pub mod debt;
// Who can obtain an identity that writes untouched.
pub mod access;
// What no webhook is asked about.
pub mod unseen;

/// The name of the webhook's Deployment, Service, service account and roles.
pub const NAME: &str = "breakglass-webhook";

/// The command that puts right what is installed, with what this cluster was installed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mend {
    /// Whether the webhook in the cluster is of the plugin's version: only then does the plugin know what should be.
    pub same_version: bool,
    /// The image, where it is another than the built-in one.
    pub image: Option<String>,
    /// The number of replicas, where it is another than the built-in one.
    pub replicas: Option<i32>,
}

impl Default for Mend {
    fn default() -> Self {
        Self { same_version: true, image: None, replicas: None }
    }
}

impl Mend {
    /// `kubectl breakglass install`, and what it has to be told to change nothing else. The incident is for the token that it
    /// takes where breakglass guards itself; there is one for a broken gate, or there is about to be. What somebody else wrote into
    /// what is ours is what is to be mended, so it goes.
    pub fn install(&self) -> String {
        let image = self.image.iter().map(|image| format!(" --image {image}"));
        let replicas = self.replicas.iter().map(|replicas| format!(" --replicas {replicas}"));
        format!(
            "kubectl breakglass install --force-conflicts --incident INC-123{}",
            image.chain(replicas).collect::<String>()
        )
    }

    /// The same with the image of the plugin's version.
    pub fn upgrade(&self) -> String {
        format!(
            "kubectl breakglass install --force-conflicts --incident INC-123 --image <image of v{}>",
            versions::OURS
        )
    }
}

/// When an object was last written, by the API server's clock: whole seconds, cut off.
fn written(metadata: &ObjectMeta) -> Option<DateTime<Utc>> {
    let entries = metadata.managed_fields.iter().flatten().filter_map(|entry| entry.time.as_ref());
    entries.filter_map(|time| time_of(&time.0)).max()
}

/// The API machinery's own type of an instant, for arithmetic.
fn time_of(time: &impl std::fmt::Display) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(&time.to_string()).ok().map(|time| time.to_utc())
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// To be known; nothing has to be done.
    Note,
    /// To be acted on.
    Problem,
}

impl Level {
    /// One word for tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Problem => "problem",
        }
    }
}

/// What a check says.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// Which check says it.
    pub check: &'static str,
    /// A sentence.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
    /// The objects it is about, as `kubectl -o name` has them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<String>,
    /// Who, as whom, how and through what.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
}

/// Who can obtain whom, how, and through what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    /// Who.
    pub subject: Subject,
    /// Whom, by user or group name; empty where it is everybody.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub identities: Vec<String>,
    /// How.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ways: Vec<Way>,
    /// How, where it is everybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power: Option<Power>,
    /// Through which bindings and roles.
    pub through: Vec<Through>,
}

impl Finding {
    pub(crate) fn new(level: Level, check: &'static str, message: impl Into<String>) -> Self {
        Self { level, check, message: message.into(), hints: Vec::new(), objects: Vec::new(), access: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    pub(crate) fn object(mut self, object: impl Into<String>) -> Self {
        self.objects.push(object.into());
        self
    }
}
