//! decide: the heart. What happens to one write, as a pure function of the write, its writer and what is known.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::api::{BreakglassToken, Environment, Gate, Mode};
use crate::cover::{self, Life};
use crate::diff;
use crate::engine;
use crate::rules::Rules;
use crate::write::{Verb, Write};
use crate::writer::{SERVICE_ACCOUNT_PREFIX, Writer, is_exempt_name, service_account};

// What a refusal says to the person.
mod refusal;
// A second opinion on every decision.
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use refusal::{Refusal, Why};

/// What is known besides the write itself.
#[derive(Clone, Copy, Debug)]
pub struct Known<'k> {
    /// The policy in force.
    pub rules: &'k Rules,
    /// The labels of the namespace that the write goes to; none for objects that live in no namespace.
    pub namespace_labels: &'k BTreeMap<String, String>,
    /// Tokens. Only those of the requester count, whichever are given.
    pub tokens: &'k [BreakglassToken],
    /// The webhook's clock.
    pub now: DateTime<Utc>,
}

/// What happens to a write.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision<'k> {
    /// Let in and not looked at: it is no direct write.
    Pass,
    /// Let in as it is: the policy does not care. Our keys stay what they were.
    Leave,
    /// Let in and stamped: who, when, how.
    Note,
    /// Let in under this token, stamped and recorded.
    Admit {
        /// The token.
        token: &'k BreakglassToken,
        /// The environment that it was opened for.
        environment: &'k Environment,
    },
    /// Let in and stamped although a token is missing, because the policy only warns or counts.
    Tolerate(Refusal),
    /// Let through and kept nowhere: a dry run of a write that would be refused.
    Rehearse(Refusal),
    /// Not let in.
    Refuse(Refusal),
}

impl Decision<'_> {
    /// One word for logs and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Pass => "Pass",
            Self::Leave => "Leave",
            Self::Note => "Note",
            Self::Admit { .. } => "Admit",
            Self::Tolerate(_) => "Tolerate",
            Self::Rehearse(_) => "Rehearse",
            Self::Refuse(_) => "Refuse",
        }
    }
}

/// What the warning begins with that a dry run is let in with where the write itself would be refused. The plugin asks this
/// way whether it needs a token.
pub const REHEARSED: &str = "without --dry-run this is refused: ";

/// Decides what happens to a write.
pub fn decide<'k>(write: &Write<'_>, writer: &Writer, known: Known<'k>) -> Decision<'k> {
    match writer {
        Writer::ControlPlane | Writer::Engine(_) | Writer::Trusted(_) | Writer::Webhook => return Decision::Pass,
        Writer::Direct => {}
    }
    let rules = known.rules;
    if is_robots_own(write, rules) {
        return Decision::Leave;
    }
    let environment = cover::environment_of_write(rules, write, known.namespace_labels);
    let labels: Vec<_> =
        [&write.before, &write.after].into_iter().flatten().map(|side| side.metadata.labels()).collect();
    if rules.exemption(environment, &write.resource.qualified(), write.namespace.as_deref(), &labels).is_some() {
        return Decision::Leave;
    }
    match gate(environment, write) {
        Gate::Ignore => return Decision::Leave,
        Gate::Stamp => return Decision::Note,
        Gate::RequireToken => {}
    }
    let why = match choose(write, environment, &known) {
        Ok(token) => return Decision::Admit { token, environment },
        Err(why) => why,
    };
    let refusal = Refusal::new(write, environment, why);
    match rules.spec().mode {
        Mode::Enforce if write.dry_run && !write.resource.is_credential() => Decision::Rehearse(refusal),
        Mode::Enforce => Decision::Refuse(refusal),
        Mode::Warn | Mode::Audit => Decision::Tolerate(refusal),
    }
}

/// What robots write all the time and nobody else means: the status of an object, and nothing besides, by a service account
/// with a credential of its own; and tokens of service accounts whose writes are looked at anyway.
fn is_robots_own(write: &Write<'_>, rules: &Rules) -> bool {
    if write.resource.is_credential() {
        let namespace = write.namespace.as_deref().unwrap_or_default();
        return !is_exempt_name(&service_account(namespace, write.object_name()), rules);
    }
    is_status_alone(write)
}

/// The status of an object and nothing besides, by a service account with a token of its own.
pub(crate) fn is_status_alone(write: &Write<'_>) -> bool {
    let requester = &write.requester;
    let robot = requester.user.starts_with(SERVICE_ACCOUNT_PREFIX)
        && requester.is_itself()
        && !engine::is_object(&write.resource);
    match (&write.before, &write.after) {
        (Some(before), Some(after)) if robot && write.resource.subresource.as_deref() == Some("status") => {
            diff::keeps_metadata(before, after)
        }
        _ => false,
    }
}

fn gate(environment: &Environment, write: &Write<'_>) -> Gate {
    let debug = write.verb == Verb::Connect || write.resource.subresource.as_deref() == Some("ephemeralcontainers");
    // What lets somebody be a robot is no session in a pod, by whatever verb it is asked for.
    if debug && !write.resource.is_credential() { environment.exec_gate() } else { environment.writes }
}

/// The newest live token that covers the write; or why there is none, as the newest token that could have explains it.
fn choose<'k>(write: &Write<'_>, environment: &Environment, known: &Known<'k>) -> Result<&'k BreakglassToken, Why> {
    let mut mine: Vec<&BreakglassToken> = known
        .tokens
        .iter()
        .filter(|token| token.spec.user == write.requester.user && token.spec.environment == environment.name)
        .collect();
    // Newest first; the name only so that two of the same second have an order at all.
    mine.sort_by(|a, b| (b.spec.opened_at, &b.metadata.name).cmp(&(a.spec.opened_at, &a.metadata.name)));
    let namespace = write.namespace.as_deref();
    let mut nearest = None;
    for token in mine {
        match (cover::life(token, environment, known.now), cover::reaches(token, namespace)) {
            (Life::Live, true) => return Ok(token),
            (Life::Live, false) => {
                nearest.get_or_insert_with(|| Why::other_namespace(token));
            }
            (life, true) => {
                nearest.get_or_insert_with(|| Why::dead(token, life, environment));
            }
            // It would not have covered the write while it lived, either: it explains nothing.
            (_, false) => {}
        }
    }
    Err(nearest.unwrap_or(Why::NoToken))
}
