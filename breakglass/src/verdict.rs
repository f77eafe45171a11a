//! Verdict: what a person decides about a change; what the webhook fills in, and what it accepts.

use chrono::{DateTime, Utc};

use crate::api::{
    BreakglassChangeSpec, BreakglassChangeStatus, ChangePhase, DebtRules, DecidedBy, Span, Timestamp, Verdict,
};
use crate::cover::CLOCK_SKEW;

/// The fields that the webhook fills in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filled {
    /// What the verdict makes of the change.
    pub phase: ChangePhase,
    /// The authenticated user, where the client named nobody. Somebody else's name stays, to be refused.
    pub by: String,
    /// The webhook's clock.
    pub at: Timestamp,
}

/// The station that a verdict brings a change to.
pub fn phase(verdict: Verdict) -> ChangePhase {
    match verdict {
        Verdict::Accepted => ChangePhase::Accepted,
        Verdict::Rejected => ChangePhase::Rejected,
        Verdict::Deferred => ChangePhase::Deferred,
    }
}

/// Fills in what only the webhook knows, where something is decided. It never refuses: the validating call does.
pub fn fill(
    old: &BreakglassChangeStatus,
    new: &BreakglassChangeStatus,
    user: &str,
    now: DateTime<Utc>,
) -> Option<Filled> {
    let verdict = new.verdict?;
    if said(old) == said(new) {
        return None;
    }
    Some(Filled { phase: phase(verdict), by: giver(&old.by, &new.by, user), at: Timestamp::new(now) })
}

/// Who says what is about to be stored: the authenticated user, unless the client names somebody, to be refused. Whoever writes a
/// part of a status leaves the name of the one before them in it.
pub(crate) fn giver(old: &Option<String>, new: &Option<String>, user: &str) -> String {
    new.clone().filter(|_| old != new).unwrap_or_else(|| user.to_owned())
}

/// Whether a time is the webhook's own, of this moment.
pub(crate) fn is_now(at: Option<Timestamp>, now: DateTime<Utc>) -> bool {
    at.is_some_and(|at| (now - at.instant()).abs() <= CLOCK_SKEW)
}

/// The part of a status that is decided. Where in Git it stands is found: whoever finds it elsewhere, after a merge with a commit
/// of its own, say, does not decide anew.
fn said(status: &BreakglassChangeStatus) -> impl PartialEq + use<> {
    (status.verdict, status.note.clone(), status.until)
}

/// Why a verdict is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerdictError {
    /// It has come to its end.
    #[error("it is settled, and that is final")]
    Settled,
    /// Nobody has seen the write.
    #[error("the write has not been seen in the cluster yet, so there is nothing to decide: try again in a moment")]
    NotSeen,
    /// More was written than a verdict.
    #[error(
        "only the verdict is a person's to write: status.verdict, note, until and git. What becomes of a change is seen, \
         not said"
    )]
    NotYours,
    /// A verdict was removed.
    #[error("a verdict is replaced by another one, and not taken back")]
    TakenBack,
    /// It names somebody else.
    #[error("a verdict is its giver's: {giver} cannot decide as {named}. Leave status.by out")]
    SomebodyElse {
        /// Who decides.
        giver: String,
        /// Whom it names.
        named: String,
    },
    /// The policy wants two pairs of eyes.
    #[error("{0} made this change, and the policy wants another person to decide about it (debt.decidedBy)")]
    AnotherPerson(String),
    /// The mutating call did not run.
    #[error("status.at is not the webhook's time: the call that fills it in did not run. Try again")]
    NotFilled,
    /// Deferred, and nobody knows until when.
    #[error("say until when it is deferred: status.until")]
    NoDate,
    /// A date, and no deferral.
    #[error("only what is deferred has a date: status.until has to be null")]
    DateOfNothing,
    /// Deferred, and nobody knows why.
    #[error("say why it is deferred: it is what the review will read (status.note)")]
    NoReason,
    /// A date that has passed.
    #[error("{0} has passed: it would be overdue at once")]
    Passed(Timestamp),
    /// Too far.
    #[error("a change may be deferred for {max} from when it was made: until {latest} at the latest")]
    TooFar {
        /// How far the policy lets a verdict be put off.
        max: Span,
        /// The last moment.
        latest: Timestamp,
    },
    /// Nothing goes into Git.
    #[error("only what is accepted has a place in Git: status.git has to be null")]
    GitOfNothing,
}

/// A status that is about to be written.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The change.
    pub change: &'a BreakglassChangeSpec,
    /// What its status was.
    pub old: &'a BreakglassChangeStatus,
    /// What it would be.
    pub new: &'a BreakglassChangeStatus,
    /// Who writes.
    pub user: &'a str,
}

/// Checks a verdict as it is about to be stored. Whether its giver may decide at all is RBAC's to say: they may write the
/// status of changes.
///
/// # Errors
/// The first thing that must not be.
pub fn check(asked: Asked<'_>, debt: &DebtRules, now: DateTime<Utc>) -> Result<(), VerdictError> {
    let Asked { change, old, new, user } = asked;
    if old == new {
        return Ok(());
    }
    match old.phase {
        Some(ChangePhase::Settled) => return Err(VerdictError::Settled),
        None | Some(ChangePhase::Admitted) => return Err(VerdictError::NotSeen),
        Some(ChangePhase::Pending | ChangePhase::Accepted | ChangePhase::Rejected | ChangePhase::Deferred) => {}
    }
    let Some(verdict) = new.verdict else {
        return Err(if old.verdict.is_some() { VerdictError::TakenBack } else { VerdictError::NotYours });
    };
    if (new.outcome, new.settled_at) != (old.outcome, old.settled_at) {
        return Err(VerdictError::NotYours);
    }
    if new.git.is_some() && verdict != Verdict::Accepted {
        return Err(VerdictError::GitOfNothing);
    }
    if said(old) == said(new) && (new.phase, &new.by, new.at) == (old.phase, &old.by, old.at) {
        return Ok(());
    }
    let named = new.by.clone().unwrap_or_default();
    if named != user {
        return Err(VerdictError::SomebodyElse { giver: user.to_owned(), named });
    }
    if debt.decided_by == DecidedBy::AnotherPerson && user == change.user {
        return Err(VerdictError::AnotherPerson(user.to_owned()));
    }
    if new.phase != Some(phase(verdict)) || said(old) == said(new) || !is_now(new.at, now) {
        return Err(VerdictError::NotFilled);
    }
    match verdict {
        Verdict::Accepted | Verdict::Rejected if new.until.is_some() => Err(VerdictError::DateOfNothing),
        Verdict::Accepted | Verdict::Rejected => Ok(()),
        Verdict::Deferred => check_deferral(change, new, debt, now),
    }
}

/// From when the change was made, and not from now: a deferral that could be renewed for ever would be one without a date.
fn check_deferral(
    change: &BreakglassChangeSpec,
    new: &BreakglassChangeStatus,
    debt: &DebtRules,
    now: DateTime<Utc>,
) -> Result<(), VerdictError> {
    if new.note.as_ref().is_none_or(|note| note.trim().is_empty()) {
        return Err(VerdictError::NoReason);
    }
    let until = new.until.ok_or(VerdictError::NoDate)?;
    if until.instant() <= now {
        return Err(VerdictError::Passed(until));
    }
    let latest = Timestamp::new(change.time.instant() + debt.max_defer.delta());
    if until > latest {
        return Err(VerdictError::TooFar { max: debt.max_defer, latest });
    }
    Ok(())
}

/// Until when somebody has to do something about a change: the date that it was deferred to, or when it has to be decided.
pub fn due(change: &BreakglassChangeSpec, status: &BreakglassChangeStatus) -> Timestamp {
    status.until.filter(|_| status.phase == Some(ChangePhase::Deferred)).unwrap_or(change.decide_by)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn change() -> BreakglassChangeSpec {
        serde_json::from_value(json!({"token": "t", "incident": "INC-1", "user": "alice@example.com",
            "time": "2026-11-20T12:00:00Z", "environment": "prod", "operation": "Update",
            "target": {"apiVersion": "v1", "kind": "ConfigMap", "resource": "configmaps", "name": "a"},
            "before": {}, "patch": [], "decideBy": "2026-11-21T12:00:00Z"}))
        .unwrap()
    }

    const NOW: &str = "2026-11-20T13:00:00Z";

    /// What carol is told, after the webhook has filled in what it knows, of a status that she merges into another.
    #[track_caller]
    fn check_of(old: Value, patch: Value, expected: Result<(), &str>) {
        check_as("carol@example.com", old, patch, DebtRules::default(), expected);
    }

    #[track_caller]
    fn check_as(user: &str, old: Value, patch: Value, debt: DebtRules, expected: Result<(), &str>) {
        let mut merged = old.clone();
        json_patch::merge(&mut merged, &patch);
        let old: BreakglassChangeStatus = serde_json::from_value(old).unwrap();
        let mut new: BreakglassChangeStatus = serde_json::from_value(merged).unwrap();
        if let Some(filled) = fill(&old, &new, user, at(NOW)) {
            (new.phase, new.by, new.at) = (Some(filled.phase), Some(filled.by), Some(filled.at));
        }
        let change = change();
        let asked = Asked { change: &change, old: &old, new: &new, user };
        let found = super::check(asked, &debt, at(NOW)).map_err(|error| error.to_string());
        match (&found, expected) {
            (Ok(()), Ok(())) => {}
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
            _ => panic!("{found:?}, and not {expected:?}, of {patch}"),
        }
    }

    fn deferred(until: &str) -> Value {
        json!({"verdict": "Deferred", "until": until, "note": "after the audit"})
    }

    #[test]
    fn a_verdict_is_taken_from_who_gives_it_at_the_time_it_is_given() {
        let pending = || json!({"phase": "Pending"});
        for verdict in ["Accepted", "Rejected"] {
            check_of(pending(), json!({"verdict": verdict}), Ok(()));
        }
        check_of(pending(), deferred("2026-11-25T12:00:00Z"), Ok(()));
        let git = json!({"repository": "ssh://git@git.example.com/fleet", "commit": "abc"});
        check_of(pending(), json!({"verdict": "Accepted", "git": git}), Ok(()));
        check_of(pending(), json!({"verdict": "Rejected", "git": git}), Err("only what is accepted"));
        // What the client says of phase and time is not what is stored.
        check_of(pending(), json!({"verdict": "Accepted", "phase": "Settled", "at": "2020-01-01T00:00:00Z"}), Ok(()));
        check_of(
            pending(),
            json!({"verdict": "Accepted", "by": "bob@example.com"}),
            Err("cannot decide as bob@example.com"),
        );
        check_of(pending(), json!({}), Ok(()));
    }

    #[test]
    fn another_verdict_takes_the_place_of_the_first() {
        let old = |verdict: &str| json!({"phase": verdict, "verdict": verdict, "by": "bob@example.com", "at": "2026-11-20T12:30:00Z"});
        for (before, after) in [("Accepted", "Rejected"), ("Rejected", "Accepted")] {
            check_of(old(before), json!({"verdict": after}), Ok(()));
        }
        check_of(old("Accepted"), json!({"verdict": null}), Err("not taken back"));
        // The same verdict under another name is nobody's.
        check_of(old("Accepted"), json!({"by": "carol@example.com"}), Err("did not run"));
        check_of(old("Accepted"), json!({"by": "dora@example.com"}), Err("cannot decide as dora@example.com"));
        check_of(old("Accepted"), json!({"note": "it is in the chart as well"}), Ok(()));
    }

    #[test]
    fn where_in_git_it_stands_is_found_and_not_decided() {
        let old = |verdict: &str| {
            json!({"phase": verdict, "verdict": verdict, "by": "bob@example.com", "at": "2026-11-20T12:30:00Z",
                "git": {"commit": "abc"}})
        };
        let merged = json!({"verdict": "Accepted", "git": {"commit": "def"}});
        check_of(old("Accepted"), merged.clone(), Ok(()));
        let read = |value: Value| serde_json::from_value::<BreakglassChangeStatus>(value).unwrap();
        let mut new = old("Accepted");
        json_patch::merge(&mut new, &merged);
        assert_eq!(fill(&read(old("Accepted")), &read(new), "carol@example.com", at(NOW)), None);
        check_of(old("Deferred"), json!({"git": {"commit": "def"}}), Err("only what is accepted"));
        let as_dora = json!({"git": {"commit": "def"}, "by": "dora@example.com"});
        check_of(old("Accepted"), as_dora, Err("cannot decide as dora@example.com"));
    }

    #[test]
    fn what_becomes_of_a_change_is_not_said() {
        let pending = || json!({"phase": "Pending"});
        for patch in [
            json!({"phase": "Settled"}),
            json!({"phase": "Settled", "outcome": "InGit", "settledAt": NOW}),
            json!({"verdict": "Accepted", "outcome": "InGit"}),
            json!({"verdict": "Accepted", "settledAt": NOW}),
            json!({"phase": "Accepted"}),
            json!({"by": "carol@example.com"}),
        ] {
            check_of(pending(), patch, Err("only the verdict is a person's"));
        }
        for old in [json!({}), json!({"phase": "Admitted"})] {
            check_of(old, json!({"verdict": "Accepted"}), Err("has not been seen"));
        }
        check_of(json!({"phase": "Settled", "outcome": "Gone"}), json!({"verdict": "Accepted"}), Err("final"));
    }

    #[test]
    fn a_deferral_has_a_date_and_a_reason() {
        let check = |patch: Value, expected| check_of(json!({"phase": "Pending"}), patch, expected);
        check(json!({"verdict": "Deferred", "note": "later"}), Err("until when"));
        check(json!({"verdict": "Deferred", "until": "2026-11-25T12:00:00Z"}), Err("say why"));
        check(json!({"verdict": "Deferred", "until": "2026-11-25T12:00:00Z", "note": " "}), Err("say why"));
        check(deferred(NOW), Err("has passed"));
        check(deferred("2026-11-20T13:00:01Z"), Ok(()));
        // From when the change was made.
        check(deferred("2026-12-04T12:00:00Z"), Ok(()));
        check(deferred("2026-12-04T12:00:01Z"), Err("for 14d from when it was made: until 2026-12-04T12:00:00Z"));
        check(json!({"verdict": "Rejected", "until": "2026-11-25T12:00:00Z"}), Err("only what is deferred has a date"));
    }

    #[test]
    fn who_made_it_decides_unless_the_policy_wants_another_person() {
        let verdict = || json!({"verdict": "Rejected"});
        let another = || DebtRules { decided_by: DecidedBy::AnotherPerson, ..DebtRules::default() };
        check_as("alice@example.com", json!({"phase": "Pending"}), verdict(), DebtRules::default(), Ok(()));
        check_as("alice@example.com", json!({"phase": "Pending"}), verdict(), another(), Err("wants another person"));
        check_as("carol@example.com", json!({"phase": "Pending"}), verdict(), another(), Ok(()));
    }

    #[test]
    fn the_date_counts_while_it_is_deferred() {
        let status =
            |phase: &str| serde_json::from_value(json!({"phase": phase, "until": "2026-11-25T12:00:00Z"})).unwrap();
        assert_eq!(due(&change(), &status("Deferred")).to_string(), "2026-11-25T12:00:00Z");
        assert_eq!(due(&change(), &status("Pending")).to_string(), "2026-11-21T12:00:00Z");
    }
}
