//! Which environment a write belongs to, and whether a token covers it.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::api::{ApprovalMode, BreakglassToken, Environment, GROUP, Gate, HOME_NAMESPACE, TokenPhase};
use crate::engine;
use crate::rules::Rules;
use crate::write::{Verb, Write};

/// How far the clocks of two replicas may disagree before a token from the future is refused. Longer than any clock that
/// is kept by NTP, shorter than any useful token.
pub const CLOCK_SKEW: TimeDelta = TimeDelta::minutes(5);

/// What the names of the ClusterRoles begin with that the webhook has its rights by, and their bindings'.
pub const OUR_ROLES: &str = "breakglass-webhook";

/// The environment of a write.
///
/// `namespace_labels` are those of the namespace that the write goes to. A Namespace object counts as its own
/// environment, before and after, and the stricter of the two holds: neither taking a label off nor putting one on is a
/// way around. An engine's object counts as what it deploys to, and a token of an exempt identity as what it lets in.
pub fn environment_of_write<'r>(
    rules: &'r Rules,
    write: &Write<'_>,
    namespace_labels: &BTreeMap<String, String>,
) -> &'r Environment {
    if engine::is_object(&write.resource)
        && let Some(environment) = rules.environment_of_engine_object(write.namespace.as_deref())
    {
        return environment;
    }
    let Some(namespace) = &write.namespace else {
        // Whoever deletes the definition of a kind deletes every object of it: the ledger, in our case. Without its rights
        // the webhook keeps no record, and prod is shut.
        let name = write.object_name();
        let ours = (write.resource.is_definition() && name.ends_with(&format!(".{GROUP}")))
            || (write.resource.is_cluster_role() && name.starts_with(OUR_ROLES));
        return if ours { rules.environment_of(HOME_NAMESPACE, &BTreeMap::new()) } else { rules.cluster_scoped() };
    };
    if write.resource.is_credential() {
        let own = rules.environment_of(namespace, namespace_labels);
        let guarded = Some(own).filter(|own| own.writes == Gate::RequireToken);
        return guarded.or_else(|| rules.environment_of_engine_object(None)).unwrap_or(own);
    }
    if !write.resource.is_namespace() {
        return rules.environment_of(namespace, namespace_labels);
    }
    let sides = [&write.before, &write.after].map(|side| {
        let object = side.as_ref().filter(|_| write.resource.subresource.is_none() || write.verb == Verb::Update)?;
        Some(rules.environment_of(namespace, object.metadata.labels()))
    });
    let named = rules.environment_of(namespace, namespace_labels);
    // With equal strictness the one that the policy names first holds: the same order as for every namespace.
    let rank = |environment: &Environment| {
        let place = rules.spec().environments.iter().position(|listed| listed.name == environment.name);
        (environment.writes.strictness(), std::cmp::Reverse(place.unwrap_or(usize::MAX)))
    };
    sides.into_iter().flatten().max_by_key(|environment| rank(environment)).unwrap_or(named)
}

/// What a token is good for at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It admits writes.
    Live,
    /// Nobody has approved it yet.
    Waiting,
    /// It says that it was opened later than now: the clocks disagree.
    NotYet,
    /// Its time is up.
    Expired,
    /// Nobody approved it in the time that the policy gives.
    Unapproved,
    /// It was closed.
    Closed,
    /// It was denied.
    Denied,
}

/// What a token of `environment` is good for at `now`. The clock decides, not the phase; closing and denying win over
/// everything.
pub fn life(token: &BreakglassToken, environment: &Environment, now: DateTime<Utc>) -> Life {
    let status = token.status.as_ref();
    match status.and_then(|status| status.phase) {
        Some(TokenPhase::Denied) => return Life::Denied,
        Some(TokenPhase::Closed) => return Life::Closed,
        _ if status.is_some_and(|status| status.closed_at.is_some()) => return Life::Closed,
        _ => {}
    }
    if now >= token.spec.expires_at.instant() {
        return Life::Expired;
    }
    let opened = token.spec.opened_at.instant();
    if opened > now + CLOCK_SKEW {
        return Life::NotYet;
    }
    let approval = &environment.token.approval;
    // The holder's own approval is none, whatever wrote it there.
    let approved = status.is_some_and(|status| status.approvals.iter().any(|given| given.user != token.spec.user));
    match (approval.mode, approved) {
        (ApprovalMode::None, _) | (_, true) => Life::Live,
        (ApprovalMode::Before, false) => Life::Waiting,
        (ApprovalMode::After, false) => match approval.within {
            Some(within) if now >= opened + within.delta() => Life::Unapproved,
            _ => Life::Live,
        },
    }
}

/// Whether a token reaches into this namespace of its environment.
pub fn reaches(token: &BreakglassToken, namespace: Option<&str>) -> bool {
    let namespaces = &token.spec.namespaces;
    namespaces.is_empty() || namespace.is_some_and(|name| namespaces.iter().any(|covered| covered == name))
}
