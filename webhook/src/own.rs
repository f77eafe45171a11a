//! Writes to our own kinds: a token is filled in and checked, a change is the webhook's but for its verdict, a policy must make
//! sense.

use anyhow::{Context, Result};
use breakglass::api::{
    BreakglassChangeSpec, BreakglassChangeStatus, BreakglassPolicySpec, BreakglassTokenSpec, BreakglassTokenStatus,
    GROUP, Timestamp, TokenPhase,
};
use breakglass::hold;
use breakglass::opening::{self, Asked};
use breakglass::rules::Rules;
use breakglass::verdict;
use breakglass::write::{Object, Requester, Resource, Verb, Write};
use breakglass::writer::{Writer, classify};
use chrono::{DateTime, Utc};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::{Api, PostParams};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::admit::{Admission, Outcome, Unavailable};
use crate::review::{Answer, OwnStep, Patch};
use crate::said::said;

const TOKENS: &str = "breakglasstokens";
const CHANGES: &str = "breakglasschanges";
const POLICIES: &str = "breakglasspolicies";

/// Whether a write goes to one of our kinds. They are neither stamped nor gated like the rest: each has rules of its own.
pub fn is_ours(resource: &Resource) -> bool {
    resource.group == GROUP && [TOKENS, CHANGES, POLICIES].contains(&resource.plural.as_str())
}

/// The mutating call: fills in what only the webhook knows.
pub fn fill(admission: &Admission, write: &Write<'_>) -> Outcome {
    let rules = admission.cluster.rules();
    let mut answer = Answer::allow();
    let status = write.resource.subresource.as_deref() == Some("status");
    let writer = classify(write, &rules);
    answer.patch = match (write.resource.plural.as_str(), write.verb) {
        (TOKENS, Verb::Create) => opened(admission, write, &rules),
        (TOKENS, Verb::Update) if status => ended(admission, write),
        (CHANGES, Verb::Update) if status && writer != Writer::Webhook => decided(admission, write),
        _ => Vec::new(),
    };
    outcome(writer, answer)
}

/// Who decided and when is what the webhook saw as well.
fn decided(admission: &Admission, write: &Write<'_>) -> Vec<Patch> {
    let status = |object: &Option<Object<'_>>| object.as_ref().and_then(status::<BreakglassChangeStatus>);
    // What cannot be read is refused by the schema.
    let Some((old, new)) = status(&write.before).zip(status(&write.after)) else { return Vec::new() };
    let (user, now) = (&write.requester.user, (admission.clock)());
    let mut steps = Vec::new();
    if let Some(filled) = verdict::fill(&old, &new, user, now) {
        steps.extend([
            OwnStep::set("/status/phase", filled.phase.as_str()),
            OwnStep::set("/status/by", filled.by),
            OwnStep::set("/status/at", filled.at),
        ]);
    }
    if let Some((by, at)) = hold::fill(&old, &new, user, now) {
        steps.extend([OwnStep::set("/status/hold/by", by), OwnStep::set("/status/hold/at", at)]);
    }
    steps
}

fn opened(admission: &Admission, write: &Write<'_>, rules: &Rules) -> Vec<Patch> {
    // What cannot be read is left to the schema, which says better than we could what is wrong with it.
    let Some(asked) = write.after.as_ref().and_then(spec::<Asked>) else { return Vec::new() };
    let filled = opening::fill(&asked, &write.requester.user, rules, (admission.clock)());
    vec![
        OwnStep::set("/spec/user", filled.user),
        OwnStep::set("/spec/openedAt", filled.opened_at),
        OwnStep::set("/spec/expiresAt", filled.expires_at),
    ]
}

/// Who ended a token and when is what the webhook saw, not what the client says.
fn ended(admission: &Admission, write: &Write<'_>) -> Vec<Patch> {
    let status = |object: &Option<Object<'_>>| object.as_ref().and_then(status::<BreakglassTokenStatus>);
    let phase = |object| status(object).and_then(|status| status.phase);
    let is_end = |phase| matches!(phase, Some(TokenPhase::Closed | TokenPhase::Denied));
    if !is_end(phase(&write.after)) || is_end(phase(&write.before)) {
        return Vec::new();
    }
    vec![
        OwnStep::set("/status/closedAt", Timestamp::new((admission.clock)())),
        OwnStep::set("/status/closedBy", &write.requester.user),
    ]
}

/// The validating call.
///
/// # Errors
/// Where the API server cannot tell who may approve.
pub async fn check(admission: &Admission, write: &Write<'_>) -> Result<Outcome, Unavailable> {
    let rules = admission.cluster.rules();
    let writer = classify(write, &rules);
    let answer = match write.resource.plural.as_str() {
        _ if writer == Writer::Webhook => Answer::allow(),
        POLICIES => check_policy(write),
        TOKENS => check_token(admission, write, &rules).await?,
        _ => check_change(write, &rules, (admission.clock)()),
    };
    Ok(outcome(writer, answer))
}

/// A person decides about a change, or has its engine kept from it, and writes nothing else of it.
fn check_change(write: &Write<'_>, rules: &Rules, now: DateTime<Utc>) -> Answer {
    let (Verb::Update, Some("status"), Some(before), Some(after)) =
        (write.verb, write.resource.subresource.as_deref(), &write.before, &write.after)
    else {
        return Answer::refuse(
            "a change is the record of a write: only the webhook makes it, and nobody edits or deletes it. See it with: \
             kubectl breakglass list",
        );
    };
    let statuses = status::<BreakglassChangeStatus>(before).zip(status::<BreakglassChangeStatus>(after));
    let Some((change, (old, new))) = spec::<BreakglassChangeSpec>(before).zip(statuses) else {
        return Answer::refuse("this change cannot be read");
    };
    let environment = rules.environment_of_record(&change.environment);
    let user = &write.requester.user;
    if let Err(error) = hold::check(verdict::Asked { change: &change, old: &old, new: &new, user }, now) {
        return Answer::refuse(format!("no hold of {}: {error}", write.object_name()));
    }
    let new = BreakglassChangeStatus { hold: old.hold.clone(), ..new };
    let asked = verdict::Asked { change: &change, old: &old, new: &new, user };
    match verdict::check(asked, &environment.debt, now) {
        Ok(()) => Answer::allow(),
        Err(error) => Answer::refuse(format!("no verdict on {}: {error}", write.object_name())),
    }
}

fn check_policy(write: &Write<'_>) -> Answer {
    let Some(after) = &write.after else { return Answer::allow() };
    match read_spec::<BreakglassPolicySpec>(after).map_err(|error| error.to_string()) {
        Err(error) => Answer::refuse(format!("this policy cannot be read: {error}")),
        Ok(spec) => match Rules::new(spec) {
            Err(error) => Answer::refuse(format!("this policy is not put in force: {error}")),
            Ok(_) => Answer::allow(),
        },
    }
}

async fn check_token(admission: &Admission, write: &Write<'_>, rules: &Rules) -> Result<Answer, Unavailable> {
    Ok(match (write.verb, write.resource.subresource.as_deref(), &write.after) {
        (Verb::Create, None, Some(after)) => match read_spec::<BreakglassTokenSpec>(after) {
            Err(error) => Answer::refuse(format!("this token cannot be read: {error}")),
            Ok(spec) => match opening::check(&spec, &write.requester.user, rules, (admission.clock)()) {
                Err(error) => Answer::refuse(error.to_string()),
                Ok(()) => Answer::allow(),
            },
        },
        (Verb::Update, Some("status"), Some(after)) => check_end(admission, write, after).await?,
        // The schema holds the spec still; labels and annotations mean nothing to us.
        (Verb::Update, None, _) => Answer::allow(),
        (Verb::Delete, _, _) => Answer::refuse(format!(
            "a token is part of the record and stays. End it with: kubectl breakglass close {}",
            write.object_name()
        )),
        _ => Answer::refuse("this is not done to a token. See: kubectl explain breakglasstoken"),
    })
}

/// A person may end a token, and nothing else about its status: the phase is otherwise the webhook's, and nobody can
/// approve by writing an approval.
async fn check_end(admission: &Admission, write: &Write<'_>, after: &Object<'_>) -> Result<Answer, Unavailable> {
    let old: BreakglassTokenStatus = write.before.as_ref().and_then(status).unwrap_or_default();
    let Some(new) = status::<BreakglassTokenStatus>(after) else {
        return Ok(Answer::refuse("this status cannot be read"));
    };
    let name = write.object_name();
    if old == new {
        return Ok(Answer::allow());
    }
    if let Some(end @ (TokenPhase::Closed | TokenPhase::Denied)) = old.phase {
        return Ok(Answer::refuse(format!(
            "{name} is {end:?}, and that is final. Open another: kubectl breakglass open"
        )));
    }
    let requester = &write.requester;
    let ended = BreakglassTokenStatus {
        phase: Some(TokenPhase::Closed),
        closed_by: Some(requester.user.clone()),
        closed_at: new.closed_at,
        ..old
    };
    let fresh =
        new.closed_at.is_some_and(|at| ((admission.clock)() - at.instant()).abs() <= breakglass::cover::CLOCK_SKEW);
    if new != ended || !fresh {
        return Ok(Answer::refuse(format!(
            "only the end of a token is a person's to write: kubectl breakglass close {name}"
        )));
    }
    let holder = write.before.as_ref().and_then(spec::<BreakglassTokenSpec>).map(|spec| spec.user);
    if holder.as_deref() == Some(requester.user.as_str()) || may_approve(admission, requester, name).await? {
        return Ok(Answer::allow());
    }
    let holder = holder.unwrap_or_default();
    Ok(Answer::refuse(format!("{name} is {holder}'s: only they and who may approve tokens can close it")))
}

/// Whether RBAC gives the verb `approve` on tokens.
async fn may_approve(admission: &Admission, requester: &Requester, name: &str) -> Result<bool> {
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(requester.user.clone()),
            uid: Some(requester.uid.clone()).filter(|uid| !uid.is_empty()),
            groups: Some(requester.groups.clone()),
            extra: Some(requester.extra.clone()),
            resource_attributes: Some(ResourceAttributes {
                group: Some(GROUP.to_owned()),
                resource: Some(TOKENS.to_owned()),
                verb: Some("approve".to_owned()),
                name: Some(name.to_owned()),
                ..Default::default()
            }),
            ..Default::default()
        },
        ..Default::default()
    };
    let reviews: Api<SubjectAccessReview> = Api::all(admission.cluster.client().clone());
    let answer =
        reviews.create(&PostParams::default(), &review).await.map_err(said).context("asking who may approve")?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

fn outcome(writer: Writer, answer: Answer) -> Outcome {
    let decision = if answer.refusal.is_some() { "Refuse" } else { "Own" };
    Outcome { answer, writer, environment: String::new(), decision, why: "" }
}

fn read_spec<T: DeserializeOwned>(object: &Object<'_>) -> serde_json::Result<T> {
    #[derive(Deserialize)]
    struct Partial<T> {
        spec: T,
    }
    serde_json::from_str::<Partial<T>>(object.raw.get()).map(|partial| partial.spec)
}

fn spec<T: DeserializeOwned>(object: &Object<'_>) -> Option<T> {
    read_spec(object).ok()
}

/// The status of an object; that of one without is its default.
fn status<T: DeserializeOwned + Default>(object: &Object<'_>) -> Option<T> {
    #[derive(Deserialize)]
    struct Partial<T> {
        #[serde(default)]
        status: T,
    }
    serde_json::from_str::<Partial<T>>(object.raw.get()).ok().map(|partial| partial.status)
}
