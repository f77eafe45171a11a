//! Hold: the engine is kept from undoing a change, from the write that makes it or from when somebody says so, until Git says the
//! same, or time is up.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::api::{
    BreakglassChange, BreakglassChangeSpec, BreakglassChangeStatus, ChangePhase, DebtRules, Hold, HoldState, Timestamp,
    Verdict,
};
use crate::decide::Decision;
use crate::engine::{HOLD, Owner};
use crate::mark;
use crate::verdict::{Asked, due, giver, is_now};
use crate::write::Write;

/// The field manager under which the plugin puts back what was rejected: that is never held, since Git says the same.
pub const PUTS_BACK: &str = "kubectl-breakglass";

/// Whether a write is to hold its object: its token says so, and an engine that can be held owns the object.
pub fn is_wanted(write: &Write<'_>, decision: &Decision<'_>) -> bool {
    let Decision::Admit { token, .. } = decision else { return false };
    let Some(before) = write.before.as_ref().filter(|_| token.spec.hold) else { return false };
    let owner = Owner::of(before.metadata.labels(), before.metadata.annotations());
    owner.is_some_and(|owner| owner.can_be_held())
        && write.can_carry_stamp()
        && write.manager != PUTS_BACK
        && !mark::changes_nothing(write)
}

/// Whether their object is given back when these changes are undone, the latest first: it is held for them, and they found it free.
pub fn ends_with(changes: &[BreakglassChange]) -> bool {
    let found =
        changes.last().and_then(|first| first.spec.before.as_ref()?.pointer("/metadata/annotations")?.get(HOLD.0));
    changes.iter().any(is_ours) && found.is_none_or(|value| value != HOLD.1)
}

/// Whether a write that undoes these changes leaves their hold on the object, which nobody would lift any more.
pub fn is_left(write: &Write<'_>, changes: &[BreakglassChange]) -> bool {
    ends_with(changes) && write.after.as_ref().is_some_and(|after| is_held(after.metadata.annotations()))
}

/// Whether these annotations hold their object.
pub fn is_held(annotations: &BTreeMap<String, String>) -> bool {
    annotations.get(HOLD.0).is_some_and(|value| value == HOLD.1)
}

/// Whether a change has its object held, for as long as it is open: as it was let in, or as somebody said since.
pub fn holds(change: &BreakglassChange) -> bool {
    said(change).map_or(change.spec.hold, |hold| hold.state == HoldState::Held)
}

/// Whether what holds the object of a change is, or was, for the change's sake, and no part of what anybody wrote.
pub fn is_ours(change: &BreakglassChange) -> bool {
    change.spec.hold || said(change).is_some()
}

/// What somebody has said about a hold since the write.
pub fn said(change: &BreakglassChange) -> Option<&Hold> {
    change.status.as_ref()?.hold.as_ref()
}

/// Fills in who says something about a hold, and when; nothing where nobody does. It never refuses: the validating call does.
pub fn fill(
    old: &BreakglassChangeStatus,
    new: &BreakglassChangeStatus,
    user: &str,
    now: DateTime<Utc>,
) -> Option<(String, Timestamp)> {
    let hold = new.hold.as_ref().filter(|_| old.hold != new.hold)?;
    let before = old.hold.as_ref().and_then(|hold| hold.by.clone());
    Some((giver(&before, &hold.by, user), Timestamp::new(now)))
}

/// Why what somebody says about a hold is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
    /// It has come to its end.
    #[error("it is settled, and nothing of it is left to be held")]
    Settled,
    /// Nobody has seen the write.
    #[error("the write has not been seen in the cluster yet: try again in a moment")]
    NotSeen,
    /// It is to be put back.
    #[error("it is rejected: it is put back, and not held")]
    Rejected,
    /// What somebody said was removed.
    #[error("what was said about a hold is not taken back. Give the object back: kubectl breakglass release")]
    TakenBack,
    /// It names somebody else.
    #[error("{giver} cannot say so as {named}. Leave status.hold.by out")]
    SomebodyElse {
        /// Who says so.
        giver: String,
        /// Whom it names.
        named: String,
    },
    /// The mutating call did not run.
    #[error("status.hold.at is not the webhook's time: the call that fills it in did not run. Try again")]
    NotFilled,
}

/// Checks what somebody says about a hold, as it is about to be stored. Whether they may is RBAC's to say, as for a verdict.
///
/// # Errors
/// The first thing that must not be.
pub fn check(asked: Asked<'_>, now: DateTime<Utc>) -> Result<(), HoldError> {
    let Asked { old, new, user, .. } = asked;
    if old.hold == new.hold {
        return Ok(());
    }
    match old.phase {
        Some(ChangePhase::Settled) => return Err(HoldError::Settled),
        None | Some(ChangePhase::Admitted) => return Err(HoldError::NotSeen),
        Some(ChangePhase::Pending | ChangePhase::Accepted | ChangePhase::Rejected | ChangePhase::Deferred) => {}
    }
    let hold = new.hold.as_ref().ok_or(HoldError::TakenBack)?;
    if hold.state == HoldState::Held && new.verdict == Some(Verdict::Rejected) {
        return Err(HoldError::Rejected);
    }
    let named = hold.by.clone().unwrap_or_default();
    if named != user {
        return Err(HoldError::SomebodyElse { giver: user.to_owned(), named });
    }
    if is_now(hold.at, now) { Ok(()) } else { Err(HoldError::NotFilled) }
}

/// An object, or a part of one, without what holds it.
pub fn without_hold(mut object: Value) -> Value {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return object };
    let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) else { return object };
    annotations.remove(HOLD.0);
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    object
}

/// When a hold ends though Git does not say the same: when somebody has to do something about the change; and for one that is
/// accepted, and waits for somebody to merge it, when a verdict could have been put off to.
pub fn end(change: &BreakglassChangeSpec, status: &BreakglassChangeStatus, debt: &DebtRules) -> Timestamp {
    if status.phase == Some(ChangePhase::Accepted) {
        return Timestamp::new(change.time.instant() + debt.max_defer.delta());
    }
    due(change, status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_holds_is_taken_out_and_nothing_else() {
        let object = |annotations: Value| json!({"metadata": {"name": "api", "annotations": annotations}, "spec": 1});
        let held = object(json!({HOLD.0: HOLD.1, "note": "mine"}));
        assert_eq!(without_hold(held), object(json!({"note": "mine"})));
        let bare = json!({"metadata": {"name": "api"}, "spec": 1});
        assert_eq!(without_hold(object(json!({HOLD.0: HOLD.1}))), bare);
        assert_eq!(without_hold(bare.clone()), bare);
    }

    fn change(hold: bool) -> BreakglassChangeSpec {
        serde_json::from_value(json!({"token": "t", "incident": "INC-1", "user": "alice@example.com",
            "time": "2026-11-20T12:00:00Z", "environment": "prod", "operation": "Update", "patch": [], "hold": hold,
            "target": {"apiVersion": "v1", "kind": "ConfigMap", "resource": "configmaps", "name": "a"},
            "decideBy": "2026-11-21T12:00:00Z"}))
        .unwrap()
    }

    #[test]
    fn what_is_undone_is_given_back_unless_it_was_held_before() {
        let change = |before: Value, hold: bool| {
            BreakglassChange::new("c", BreakglassChangeSpec { before: Some(before), ..change(hold) })
        };
        let [free, held] = [json!({}), json!({HOLD.0: HOLD.1})].map(|map| json!({"metadata": {"annotations": map}}));
        let enabled = json!({"metadata": {"annotations": {HOLD.0: "enabled"}}});
        for (changes, expected) in [
            (vec![], false),
            (vec![change(free.clone(), true)], true),
            (vec![change(json!({}), true)], true),
            (vec![change(enabled, true)], true),
            (vec![change(free.clone(), false)], false),
            (vec![change(held.clone(), true)], false),
            // The second holds on, or one of two does.
            (vec![change(held.clone(), true), change(free.clone(), true)], true),
            (vec![change(held.clone(), false), change(free.clone(), true)], true),
            (vec![change(free, true), change(held, false)], false),
        ] {
            assert_eq!(ends_with(&changes), expected, "{changes:?}");
        }
    }

    #[test]
    fn a_hold_ends_when_something_is_due_and_waits_longer_for_a_merge() {
        for (status, expected) in [
            (json!({"phase": "Pending"}), "2026-11-21T12:00:00Z"),
            (json!({"phase": "Deferred", "until": "2026-11-25T12:00:00Z"}), "2026-11-25T12:00:00Z"),
            (json!({"phase": "Accepted"}), "2026-12-04T12:00:00Z"),
        ] {
            let status = serde_json::from_value(status).unwrap();
            assert_eq!(end(&change(true), &status, &DebtRules::default()).to_string(), expected);
        }
    }

    #[test]
    fn what_somebody_says_since_counts_and_not_how_it_was_let_in() {
        for (let_in, said, held, ours) in [
            (false, json!({}), false, false),
            (true, json!({}), true, true),
            (false, json!({"hold": {"state": "Held"}}), true, true),
            (true, json!({"hold": {"state": "Released"}}), false, true),
        ] {
            let mut change = BreakglassChange::new("c", change(let_in));
            change.status = serde_json::from_value(said).unwrap();
            assert_eq!((holds(&change), is_ours(&change)), (held, ours), "{change:?}");
        }
    }

    /// What bob is told, after the webhook has filled in what it knows, of what he merges into a status.
    #[track_caller]
    fn check_of(old: Value, patch: Value, expected: Result<(), HoldError>) {
        let now = "2026-11-20T13:00:00Z".parse().unwrap();
        let mut merged = old.clone();
        json_patch::merge(&mut merged, &patch);
        let old: BreakglassChangeStatus = serde_json::from_value(old).unwrap();
        let mut new: BreakglassChangeStatus = serde_json::from_value(merged).unwrap();
        if let (Some((by, at)), Some(hold)) = (fill(&old, &new, "bob@example.com", now), new.hold.as_mut()) {
            (hold.by, hold.at) = (Some(by), Some(at));
        }
        let asked = Asked { change: &change(false), old: &old, new: &new, user: "bob@example.com" };
        assert_eq!(check(asked, now), expected, "{patch}");
    }

    #[test]
    fn a_hold_is_its_givers() {
        let held = || json!({"hold": {"state": "Held"}});
        let by =
            |by: &str| json!({"phase": "Pending", "hold": {"state": "Held", "by": by, "at": "2026-11-20T12:30:00Z"}});
        for phase in ["Pending", "Accepted", "Deferred"] {
            check_of(json!({"phase": phase}), held(), Ok(()));
        }
        check_of(by("alice@example.com"), json!({"hold": {"state": "Released"}}), Ok(()));
        // What the client says of the time is not what is stored.
        check_of(json!({"phase": "Pending"}), json!({"hold": {"state": "Held", "at": "2020-01-01T00:00:00Z"}}), Ok(()));
        check_of(by("alice@example.com"), json!({"note": "more"}), Ok(()));
        check_of(json!({"phase": "Admitted"}), held(), Err(HoldError::NotSeen));
        check_of(json!({"phase": "Settled"}), held(), Err(HoldError::Settled));
        check_of(json!({"phase": "Rejected", "verdict": "Rejected"}), held(), Err(HoldError::Rejected));
        check_of(by("alice@example.com"), json!({"hold": null}), Err(HoldError::TakenBack));
        let (giver, named) = ("bob@example.com".to_owned(), "carol@example.com".to_owned());
        let as_carol = json!({"hold": {"state": "Released", "by": "carol@example.com"}});
        check_of(by("alice@example.com"), as_carol, Err(HoldError::SomebodyElse { giver, named }));
    }

    #[test]
    fn a_hold_that_nobody_filled_in_is_not_taken() {
        let (old, new) = (
            json!({"phase": "Pending"}),
            json!({"phase": "Pending",
            "hold": {"state": "Held", "by": "bob@example.com", "at": "2026-11-20T11:00:00Z"}}),
        );
        let (old, new) = (serde_json::from_value(old).unwrap(), serde_json::from_value(new).unwrap());
        let asked = Asked { change: &change(false), old: &old, new: &new, user: "bob@example.com" };
        assert_eq!(check(asked, "2026-11-20T13:00:00Z".parse().unwrap()), Err(HoldError::NotFilled));
    }
}
