//! What doctor looks at, one file a check. Each is a pure function from what the cluster has to findings.

use serde::Serialize;

use crate::rbac::{Subject, Through};
use crate::reach::{Power, Way};

// Whether the API server calls the webhook.
pub mod registration;
// Who can obtain an identity that writes untouched.
pub mod access;
// What no webhook is asked about.
pub mod unseen;

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
    fn new(level: Level, check: &'static str, message: impl Into<String>) -> Self {
        Self { level, check, message: message.into(), hints: Vec::new(), objects: Vec::new(), access: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    fn object(mut self, object: impl Into<String>) -> Self {
        self.objects.push(object.into());
        self
    }
}
