//! Refusal: why a write is not let in, and the command that would let it through.

use std::fmt;

use crate::api::{BreakglassToken, Environment, Timestamp};
use crate::cover::Life;
use crate::engine;
use crate::write::{Verb, Write};

/// The longest part of a refusal that a client chooses (names, users). A message of kilobytes helps nobody.
const LONGEST_NAME: usize = 253;

/// Why no token lets a write in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The user has none for this environment.
    NoToken,
    /// Its time is up.
    Expired {
        /// The token.
        token: String,
        /// Its incident.
        incident: String,
        /// Since when.
        at: Timestamp,
    },
    /// It was closed, or denied.
    Ended {
        /// The token.
        token: String,
        /// Its incident.
        incident: String,
        /// `closed` or `denied`.
        how: &'static str,
        /// By whom, where that is known.
        by: Option<String>,
        /// When, where that is known.
        at: Option<Timestamp>,
    },
    /// Somebody has to approve it first.
    Waiting {
        /// The token.
        token: String,
        /// Who may.
        approvers: Vec<String>,
    },
    /// Nobody approved it in time.
    Unapproved {
        /// The token.
        token: String,
        /// Its incident.
        incident: String,
    },
    /// It was opened later than now.
    NotYet {
        /// The token.
        token: String,
        /// When it was opened, by the clock that opened it.
        opened: Timestamp,
    },
    /// It covers other namespaces only.
    OtherNamespace {
        /// The token.
        token: String,
        /// What it covers.
        covered: Vec<String>,
    },
}

impl Why {
    fn name(token: &BreakglassToken) -> String {
        token.metadata.name.clone().unwrap_or_default()
    }

    /// Why a token that lives elsewhere admits nothing here.
    pub(super) fn other_namespace(token: &BreakglassToken) -> Self {
        Self::OtherNamespace { token: Self::name(token), covered: token.spec.namespaces.clone() }
    }

    /// Why a token that is not live admits nothing.
    pub(super) fn dead(token: &BreakglassToken, life: Life, environment: &Environment) -> Self {
        let name = Self::name(token);
        let incident = token.spec.incident.clone();
        let status = token.status.as_ref();
        let ended = |how| Self::Ended {
            token: name.clone(),
            incident: incident.clone(),
            how,
            by: status.and_then(|status| status.closed_by.clone()),
            at: status.and_then(|status| status.closed_at),
        };
        match life {
            Life::Live => Self::NoToken,
            Life::Closed => ended("closed"),
            Life::Denied => ended("denied"),
            Life::Expired => Self::Expired { token: name, incident, at: token.spec.expires_at },
            Life::Waiting => {
                Self::Waiting { token: name, approvers: environment.token.approval.approvers.groups.clone() }
            }
            Life::Unapproved => Self::Unapproved { token: name, incident },
            Life::NotYet => Self::NotYet { token: name, opened: token.spec.opened_at },
        }
    }

    /// One word for logs and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NoToken => "NoToken",
            Self::Expired { .. } => "Expired",
            Self::Ended { how: "denied", .. } => "Denied",
            Self::Ended { .. } => "Closed",
            Self::Waiting { .. } => "Waiting",
            Self::Unapproved { .. } => "Unapproved",
            Self::NotYet { .. } => "NotYet",
            Self::OtherNamespace { .. } => "OtherNamespace",
        }
    }
}

/// Why a write is not let in; its Display is what the person reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What guards the object.
    pub environment: String,
    /// The reason.
    pub why: Why,
    /// `deployments.apps "api" (update)`.
    subject: String,
    user: String,
    /// `-n prod`, or `--environment cluster`.
    place: String,
}

impl Refusal {
    pub(super) fn new(write: &Write<'_>, environment: &Environment, why: Why) -> Self {
        let verb = match write.verb {
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Delete => "delete",
            Verb::Connect => "connect",
        };
        let mut resource = write.resource.qualified();
        if let Some(subresource) = &write.resource.subresource {
            resource = format!("{resource}/{subresource}");
        }
        let place = match &write.namespace {
            // The namespace may be the very one that is being made: `-n` would ask for its labels in vain.
            Some(_) if write.resource.is_namespace() => format!("--environment {}", environment.name),
            // It is guarded for what it does elsewhere: the namespace alone would be taken for its own environment.
            Some(_) if engine::is_object(&write.resource) || write.resource.is_credential() => {
                format!("--environment {}", environment.name)
            }
            Some(namespace) => format!("-n {namespace}"),
            None => format!("--environment {}", environment.name),
        };
        Self {
            environment: environment.name.clone(),
            why,
            subject: format!("{resource} \"{}\" ({verb})", clip(&write.display_name())),
            user: clip(&write.requester.user),
            place,
        }
    }

    /// What is refused, and why: a sentence without its full stop.
    pub fn reason(&self) -> String {
        let Self { environment, subject, user, .. } = self;
        let asks = format!("{environment} is run by GitOps: {subject} by {user} needs a break-glass token");
        let but = match &self.why {
            Why::NoToken => return asks,
            Why::Expired { token, at, .. } => format!("{token} expired at {at}"),
            Why::Ended { token, how, by, at, .. } => {
                let by = by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
                let at = at.map(|at| format!(" at {at}")).unwrap_or_default();
                format!("{token} was {how}{by}{at}")
            }
            Why::Waiting { token, approvers } if approvers.is_empty() => {
                format!("{token} waits for approval, and the policy names nobody who may give it")
            }
            Why::Waiting { token, approvers } => format!("{token} waits for approval by {}", approvers.join(", ")),
            Why::Unapproved { token, .. } => format!("nobody approved {token} in time"),
            Why::NotYet { token, opened } => format!(
                "{token} was opened at {opened}, which is still to come: the clocks of two webhook replicas disagree"
            ),
            Why::OtherNamespace { token, covered } => format!("{token} covers only {}", covered.join(", ")),
        };
        format!("{asks}, and {but}")
    }

    /// What to do about it: a command to type.
    pub fn next(&self) -> String {
        let open =
            |incident: &str| format!("Open one: kubectl breakglass open {incident} {} --reason \"…\"", self.place);
        match &self.why {
            Why::NoToken | Why::OtherNamespace { .. } | Why::NotYet { .. } => open("<incident>"),
            Why::Expired { incident, .. } | Why::Ended { incident, .. } | Why::Unapproved { incident, .. } => {
                open(incident)
            }
            Why::Waiting { token, .. } => format!("They type: kubectl breakglass approve {token}"),
        }
    }
}

fn clip(text: &str) -> String {
    match text.char_indices().nth(LONGEST_NAME) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. {}", self.reason(), self.next())
    }
}
