//! Outlook: what would become of a write, and why, by the very functions that the webhook decides with. Pure.

use std::collections::BTreeMap;

use breakglass::api::{BreakglassToken, Environment, GROUP, Gate, Mode, Timestamp};
use breakglass::cover::{self, Life};
use breakglass::decide::{Decision, Known, decide};
use breakglass::mark;
use breakglass::register::{Asked, Call, asked};
use breakglass::rules::Rules;
use breakglass::write::{Requester, Write};
use breakglass::writer::{Writer, classify};
use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::print::age;

// From kubectl's words to what the API server is asked.
pub mod verbs;
// Who wrote, and what would prove them somebody else.
pub mod identity;
// Which part of the policy holds for the write.
mod place;
#[cfg(test)]
mod tests;

/// What is known about the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'s> {
    /// The policy that is asked.
    pub rules: &'s Rules,
    /// The labels of the write's namespace.
    pub namespace_labels: &'s BTreeMap<String, String>,
    /// The tokens of who writes.
    pub tokens: &'s [BreakglassToken],
    /// The clock.
    pub now: DateTime<Utc>,
}

/// What would become of a write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outlook {
    /// Whether it is let in.
    pub let_in: bool,
    /// The decision in a word, as logs and metrics have it; `Own` for our own kinds, which have rules of their own.
    pub decision: String,
    /// The decision in a sentence.
    pub sentence: String,
    /// What the webhook says to the writer: the refusal, or the warning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Who writes, in a word.
    pub writer: String,
    /// Why they are that.
    pub writer_because: String,
    /// The environment; absent where nobody looks at the write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// By which part of the policy it is that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment_because: Option<String>,
    /// Each token of who writes, and what it is good for here.
    pub tokens: Vec<Judged>,
    /// What is left behind.
    pub leaves: Vec<String>,
    /// The webhooks that the API server asks.
    pub asks: Vec<Question>,
    /// What becomes of it while the webhook does not answer.
    pub while_down: String,
}

/// A token, and what it is good for here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Judged {
    /// Its name.
    pub name: String,
    /// Whether it is the one that lets the write in.
    pub lets_in: bool,
    /// Why, or why not.
    pub because: String,
}

/// A webhook that the API server asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Question {
    /// Its name.
    pub webhook: String,
    /// `stamp` or `gate`.
    pub call: &'static str,
    /// `Fail` or `Ignore`.
    pub failure_policy: &'static str,
}

/// Says what would become of a write.
pub fn outlook(write: &Write<'_>, scene: Scene<'_>) -> Outlook {
    let rules = scene.rules;
    let writer = classify(write, rules);
    let asks = asked(write, rules, scene.namespace_labels);
    let known = Known { rules, namespace_labels: scene.namespace_labels, tokens: scene.tokens, now: scene.now };
    let decision = decide(write, &writer, known);
    let own = write.resource.group == GROUP;
    let environment =
        (writer == Writer::Direct && !own).then(|| cover::environment_of_write(rules, write, scene.namespace_labels));
    let message = match &decision {
        _ if own => None,
        Decision::Refuse(refusal) | Decision::Rehearse(refusal) => Some(refusal.to_string()),
        Decision::Tolerate(refusal) if rules.spec().mode == Mode::Warn => Some(refusal.to_string()),
        _ => None,
    };
    Outlook {
        let_in: own || !matches!(decision, Decision::Refuse(_)),
        decision: if own { "Own".to_owned() } else { decision.as_str().to_owned() },
        sentence: if own { own_kind(write) } else { sentence(write, &decision, &asks, environment, rules) },
        message,
        writer: writer.as_str().to_owned(),
        writer_because: identity::because(write, &writer, rules),
        environment: environment.map(|environment| environment.name.clone()),
        environment_because: environment
            .map(|environment| place::because(write, environment, rules, scene.namespace_labels)),
        tokens: environment.map_or_else(Vec::new, |environment| judge(write, environment, &decision, scene)),
        leaves: if own { Vec::new() } else { leaves(write, &decision, rules, scene.now) },
        while_down: while_down(&asks),
        asks: asks.iter().map(question).collect(),
    }
}

fn question(asked: &Asked) -> Question {
    Question {
        webhook: asked.webhook.clone(),
        call: match asked.call {
            Call::Stamp => "stamp",
            Call::Gate => "gate",
        },
        failure_policy: if asked.fails_closed { "Fail" } else { "Ignore" },
    }
}

fn own_kind(write: &Write<'_>) -> String {
    let rule = match write.resource.plural.as_str() {
        "breakglasstokens" => "a token is opened for oneself, and ended by its holder or by who may approve it",
        "breakglasschanges" => "a change is written by the webhook alone",
        _ => {
            "a policy is put in force when it makes sense, whoever RBAC lets write it: kubectl breakglass policy check FILE"
        }
    };
    format!("breakglass's own kinds have rules of their own: {rule}")
}

fn sentence(
    write: &Write<'_>,
    decision: &Decision<'_>,
    asks: &[Asked],
    environment: Option<&Environment>,
    rules: &Rules,
) -> String {
    let name = environment.map(|environment| environment.name.as_str()).unwrap_or_default();
    match decision {
        Decision::Pass => "let in and not looked at: this is no direct write".to_owned(),
        Decision::Leave => {
            format!("let in as it is, without a stamp: {}", place::left(write, environment, rules))
        }
        Decision::Note if asks.is_empty() => {
            format!("let in: {name} asks for no token, and a write like this can carry no stamp")
        }
        Decision::Note => format!("let in and stamped: {name} asks for no token"),
        Decision::Admit { token, .. } => {
            let token = token.metadata.name.as_deref().unwrap_or_default();
            format!("let in under {token}, stamped and recorded")
        }
        Decision::Tolerate(_) => {
            let warned = if rules.spec().mode == Mode::Warn { "with a warning" } else { "and counted" };
            format!(
                "let in {warned}, and stamped: {name} needs a token, but the policy's mode is {:?}",
                rules.spec().mode
            )
        }
        Decision::Rehearse(_) => format!("let through, since a dry run keeps nothing: without it {name} needs a token"),
        Decision::Refuse(refusal) => format!("refused ({}): {name} needs a token", refusal.why.as_str()),
    }
}

/// What each token is good for here, newest first, as the decision looks at them.
fn judge(write: &Write<'_>, environment: &Environment, decision: &Decision<'_>, scene: Scene<'_>) -> Vec<Judged> {
    let chosen = match decision {
        Decision::Admit { token, .. } => token.metadata.name.as_deref(),
        _ => None,
    };
    let mut tokens: Vec<&BreakglassToken> = scene.tokens.iter().collect();
    tokens.sort_by_key(|token| (std::cmp::Reverse(token.spec.opened_at), token.metadata.name.clone()));
    let judged = tokens.into_iter().map(|token| {
        let name = token.metadata.name.clone().unwrap_or_default();
        let lets_in = chosen == Some(name.as_str());
        let because = if lets_in {
            let left = age::until(token.spec.expires_at.instant(), scene.now);
            format!("live for {left}, and covers this")
        } else {
            why_not(write, token, environment, scene.now)
        };
        Judged { name, lets_in, because }
    });
    judged.collect()
}

fn why_not(write: &Write<'_>, token: &BreakglassToken, environment: &Environment, now: DateTime<Utc>) -> String {
    let spec = &token.spec;
    if spec.user != write.requester.user {
        return format!("is {}'s", spec.user);
    }
    if spec.environment != environment.name {
        return format!("is for {}, and this is {}", spec.environment, environment.name);
    }
    let status = token.status.as_ref();
    let by = status.and_then(|status| status.closed_by.as_ref()).map(|by| format!(" by {by}")).unwrap_or_default();
    match cover::life(token, environment, now) {
        Life::Expired => format!("expired at {}", spec.expires_at),
        Life::Closed => format!("was closed{by}"),
        Life::Denied => format!("was denied{by}"),
        Life::Waiting => "waits for approval".to_owned(),
        Life::Unapproved => "was approved by nobody in time".to_owned(),
        Life::NotYet => format!("was opened at {}, which is still to come", spec.opened_at),
        Life::Live if !cover::reaches(token, write.namespace.as_deref()) => {
            format!("covers only {}", spec.namespaces.join(", "))
        }
        Life::Live if environment.writes != Gate::RequireToken => "is live, and not needed here".to_owned(),
        Life::Live => "is live and covers this, and a newer one counts".to_owned(),
    }
}

/// What is left behind: on the object, and in the ledger.
fn leaves(write: &Write<'_>, decision: &Decision<'_>, rules: &Rules, now: DateTime<Utc>) -> Vec<String> {
    let time = Timestamp::new(now);
    let (token, environment) = match decision {
        Decision::Admit { token, environment } => (Some(*token), Some(*environment)),
        Decision::Note | Decision::Tolerate(_) => (None, None),
        Decision::Pass | Decision::Leave | Decision::Rehearse(_) | Decision::Refuse(_) => return Vec::new(),
    };
    let mut left = Vec::new();
    if write.can_carry_stamp() {
        let stamp = mark::stamp(write, token, time, token.map(|_| "<change>".to_owned())).keys();
        let keys = stamp.annotations.iter().chain(&stamp.labels).filter(|(_, value)| !value.is_empty());
        left.extend(keys.map(|(key, value)| format!("{key}: {value}")));
    } else if write.resource.subresource.as_deref() == Some("scale") {
        left.push("the stamp goes onto the object that is scaled, right after".to_owned());
    } else if token.is_none() {
        left.push("an annotation in the API server's audit log: such a write carries no stamp".to_owned());
    }
    if let (Some(token), Some(environment)) = (token, environment) {
        let decide_by = Timestamp::new(now + environment.debt.decide_within.delta());
        left.push(format!("a BreakglassChange of {}, to be decided by {decide_by}", token.spec.incident));
        if !rules.redactions(&write.resource.group, &write.resource.kind).is_empty() {
            left.push(format!("values of a {} stand in it as keyed hashes", write.resource.kind));
        }
    }
    left
}

fn while_down(asks: &[Asked]) -> String {
    if asks.is_empty() {
        return "the same: the API server does not ask the webhook about this".to_owned();
    }
    match asks.iter().find(|asked| asked.fails_closed) {
        Some(closed) => format!("refused, with a token or without: {} fails closed", closed.webhook),
        None => "let in without a stamp and without a record: it fails open".to_owned(),
    }
}

/// Who asks, with the groups that the API server puts them in by itself.
pub fn requester(user: &str, groups: &[String]) -> Requester {
    identity::requester(user, groups)
}
