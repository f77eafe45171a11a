//! The facts of an incident: from its records, its tokens and what was heard, to what a post-mortem asks for. Its JSON is the
//! report as programs read it: lengths of time are whole seconds.

use std::collections::{BTreeMap, BTreeSet};

use breakglass::api::{BreakglassToken, GitPlace, GivenApproval, Operation, Outcome, Target, Timestamp, Verdict};
use breakglass::rules::Rules;
use breakglass::verdict::due;
use chrono::{DateTime, TimeDelta, Utc};
use kube::ResourceExt;
use serde::{Serialize, Serializer};

use super::did::Did;
use super::timeline::{Moment, timeline};
use super::unseen::Unseen;
use crate::heard::Heard;
use crate::ledger::Record;
use crate::request::place_of;
use crate::row_state::RowState;
use crate::tokens::{Standing, standing};

/// What a report is made from.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'s> {
    /// The incident, as somebody typed it.
    pub incident: &'s str,
    /// The context of the kubeconfig: which cluster was asked.
    pub context: &'s str,
    /// Its tokens.
    pub tokens: &'s [BreakglassToken],
    /// Its records, settled ones too.
    pub records: &'s [Record],
    /// What the webhook and the API server say of themselves.
    pub heard: &'s Heard,
    /// The policy in force.
    pub rules: &'s Rules,
    /// When the report is made.
    pub now: DateTime<Utc>,
}

/// The facts of one incident.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// The incident.
    pub incident: String,
    /// The context of the kubeconfig that was asked.
    pub context: String,
    /// When they were gathered.
    pub at: Timestamp,
    /// The tokens, the first first.
    pub tokens: Vec<TokenFacts>,
    /// Tokens that records name, and that are no longer there to tell why they were opened.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lost_tokens: Vec<String>,
    /// Everything that has a time, in order.
    pub timeline: Vec<Moment>,
    /// The writes, the first first.
    pub changes: Vec<ChangeFacts>,
    /// How many of them are owed.
    pub owed: usize,
    /// How many of these are overdue.
    pub overdue: usize,
    /// What is not on record, as far as that can be known.
    pub unseen: Unseen,
}

/// One token.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenFacts {
    /// Its name.
    pub name: String,
    /// Who opened it.
    pub user: String,
    /// Why.
    pub reason: String,
    /// For which environment.
    pub environment: String,
    /// For these namespaces of it; empty: for all.
    pub namespaces: Vec<String>,
    /// When.
    pub opened_at: Timestamp,
    /// Until when.
    pub expires_at: Timestamp,
    /// What it is worth now.
    pub standing: Standing,
    /// Who agreed.
    pub approvals: Vec<GivenApproval>,
    /// When it was closed or denied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Timestamp>,
    /// By whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_by: Option<String>,
    /// How many writes of this report were let in under it.
    pub writes: usize,
    #[serde(skip)]
    place: String,
}

/// One write, and what became of it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangeFacts {
    /// The record's name.
    pub name: String,
    /// The token that let it in.
    pub token: String,
    /// Who wrote.
    pub user: String,
    /// With which credential, where the API server named it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// When.
    pub time: Timestamp,
    /// Into which environment.
    pub environment: String,
    /// What kind of write it was.
    pub operation: Operation,
    /// The subresource that was written to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subresource: Option<String>,
    /// The client, as it names itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manager: Option<String>,
    /// Who owns the object in Git.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The object.
    pub target: Target,
    /// What was done, in words.
    pub did: String,
    /// Line by line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diff: Option<String>,
    /// Why there is no diff, or not all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diff_missing: Option<String>,
    /// Whether values are hidden, and hashes stand in their place.
    pub hidden: bool,
    /// Whether the record holds hashes alone, since the object was too large.
    pub truncated: bool,
    /// The changes that it undid.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub undoes: Vec<String>,
    /// What is still to be done about it.
    pub state: RowState,
    /// Until when somebody has to decide; nothing where nobody has to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// From when on it was overdue; nothing where it never was, or that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overdue_since: Option<Timestamp>,
    /// For how long it has been overdue, where it is.
    #[serde(rename = "overdueSeconds", skip_serializing_if = "Option::is_none", serialize_with = "seconds")]
    pub overdue: Option<TimeDelta>,
    /// The last verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<VerdictFacts>,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// When that was proven.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<Timestamp>,
    /// How long after the write.
    #[serde(rename = "settledAfterSeconds", skip_serializing_if = "Option::is_none", serialize_with = "seconds")]
    pub settled_after: Option<TimeDelta>,
}

/// A verdict.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VerdictFacts {
    /// What was decided.
    pub verdict: Verdict,
    /// By whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// How long after the write.
    #[serde(rename = "afterSeconds", skip_serializing_if = "Option::is_none", serialize_with = "seconds")]
    pub after: Option<TimeDelta>,
    /// What they said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Until when it was put off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Where in Git it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git: Option<GitPlace>,
}

fn seconds<S: Serializer>(length: &Option<TimeDelta>, serializer: S) -> Result<S::Ok, S::Error> {
    length.map(|length| length.num_seconds()).serialize(serializer)
}

impl Facts {
    /// Gathers them; nothing where there is neither a token nor a record of the incident.
    pub fn gather(sources: Sources<'_>) -> Option<Self> {
        let is_meant = |incident: &str| incident.eq_ignore_ascii_case(sources.incident);
        let mut records: Vec<&Record> =
            sources.records.iter().filter(|record| is_meant(&record.change.spec.incident)).collect();
        in_order(&mut records);
        let mut tokens: Vec<TokenFacts> = sources
            .tokens
            .iter()
            .filter(|token| is_meant(&token.spec.incident))
            .map(|token| TokenFacts::of(token, &records, &sources))
            .collect();
        tokens.sort_by(|a, b| (a.opened_at, &a.name).cmp(&(b.opened_at, &b.name)));
        let changes: Vec<ChangeFacts> = records.iter().map(|record| ChangeFacts::of(record, sources.now)).collect();
        let spelled = records.first().map(|record| &record.change.spec.incident);
        let known = sources.tokens.iter().find(|token| is_meant(&token.spec.incident));
        let incident = spelled.or(known.map(|token| &token.spec.incident))?.clone();
        let there: BTreeSet<&String> = tokens.iter().map(|token| &token.name).collect();
        let named: BTreeSet<&String> = changes.iter().map(|change| &change.token).collect();
        let lost_tokens = named.difference(&there).map(|&name| name.clone()).collect();
        let unseen = Unseen::of(&tokens, &changes, sources.heard, sources.now);
        Some(Self {
            timeline: timeline(&tokens, &changes, &unseen.told, sources.now),
            owed: changes.iter().filter(|change| change.is_owed()).count(),
            overdue: changes.iter().filter(|change| change.overdue.is_some()).count(),
            at: Timestamp::new(sources.now),
            context: sources.context.to_owned(),
            incident,
            tokens,
            lost_tokens,
            changes,
            unseen,
        })
    }
}

/// The first first. Times are whole seconds: of writes in one second, one that found another's stamp comes after it.
fn in_order(records: &mut [&Record]) {
    records.sort_by(|a, b| (a.change.spec.time, &a.name).cmp(&(b.change.spec.time, &b.name)));
    let found: BTreeMap<&str, &str> =
        records.iter().filter_map(|record| Some((record.name.as_str(), record.found.as_deref()?))).collect();
    let depth = |record: &Record| {
        // No chain is longer than there are links.
        let next = |name: &&str| found.get(name).copied();
        std::iter::successors(Some(record.name.as_str()), next).take(found.len() + 1).count()
    };
    let depths: BTreeMap<String, usize> = records.iter().map(|record| (record.name.clone(), depth(record))).collect();
    records.sort_by_key(|record| (record.change.spec.time, depths.get(&record.name).copied()));
}

impl TokenFacts {
    fn of(token: &BreakglassToken, records: &[&Record], sources: &Sources<'_>) -> Self {
        let (spec, status, name) = (&token.spec, token.status.clone().unwrap_or_default(), token.name_any());
        Self {
            user: spec.user.clone(),
            reason: spec.reason.clone(),
            environment: spec.environment.clone(),
            namespaces: spec.namespaces.clone(),
            opened_at: spec.opened_at,
            expires_at: spec.expires_at,
            standing: standing(token, sources.rules, sources.now),
            approvals: status.approvals,
            closed_at: status.closed_at,
            closed_by: status.closed_by,
            writes: records.iter().filter(|record| record.change.spec.token == name).count(),
            place: place_of(spec),
            name,
        }
    }

    /// `prod (namespace prod)`.
    pub fn place(&self) -> &str {
        &self.place
    }
}

impl ChangeFacts {
    fn of(record: &Record, now: DateTime<Utc>) -> Self {
        let spec = record.change.spec.clone();
        let status = record.change.status.clone().unwrap_or_default();
        let did = Did::of(&record.name, &spec);
        let state = RowState::of_phase(status.phase);
        let undecided = matches!(state, RowState::Admitted | RowState::Pending | RowState::Deferred);
        let due = undecided.then(|| due(&spec, &status));
        let late = due.filter(|due| due.instant() < now);
        // An earlier verdict may have put a later one off: only of what nobody ever decided about it is known.
        let never = status.settled_at.filter(|end| status.verdict.is_none() && *end > spec.decide_by);
        let since = |end: Option<Timestamp>| end.map(|end| end.instant() - spec.time.instant());
        let verdict = status.verdict.map(|verdict| VerdictFacts {
            verdict,
            by: status.by.clone(),
            at: status.at,
            after: since(status.at),
            note: status.note.clone(),
            until: status.until,
            git: status.git.clone(),
        });
        Self {
            name: record.name.clone(),
            overdue_since: late.or(never.map(|_| spec.decide_by)),
            overdue: late.map(|late| now - late.instant()),
            token: spec.token,
            user: spec.user,
            credential: spec.credential,
            time: spec.time,
            environment: spec.environment,
            operation: spec.operation,
            subresource: spec.subresource,
            manager: spec.manager,
            owner: spec.engine_owner,
            target: spec.target,
            did: did.words,
            diff: did.diff,
            diff_missing: did.missing,
            hidden: did.hidden,
            truncated: spec.truncated,
            undoes: spec.undoes,
            state,
            due,
            verdict,
            outcome: status.outcome,
            settled_at: status.settled_at,
            settled_after: status.settled_at.map(|end| end.instant() - spec.time.instant()),
        }
    }

    /// Whether somebody still has to do something about it.
    pub fn is_owed(&self) -> bool {
        self.state != RowState::Settled
    }

    /// How a settled one ended, in words.
    pub fn how_it_ended(&self) -> &'static str {
        match (self.outcome, &self.verdict) {
            // Nobody had to decide about it: it is what somebody decided about another.
            (Some(Outcome::PutBack), None) => "it put back what was rejected",
            (Some(ended), _) => outcome(ended),
            (None, _) => "settled",
        }
    }
}

impl VerdictFacts {
    /// `accepted`.
    pub fn did(&self) -> &'static str {
        match self.verdict {
            Verdict::Accepted => "accepted",
            Verdict::Rejected => "rejected",
            Verdict::Deferred => "deferred",
        }
    }
}

/// How a change ended, in words.
pub fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::InGit => "in Git, and applied from there",
        Outcome::PutBack => "put back to what was there before",
        Outcome::UndoneByEngine => "undone by the GitOps engine",
        Outcome::Undone => "undone by a person",
        Outcome::Superseded => "a later change took its place",
        Outcome::Gone => "the object no longer exists",
        Outcome::NeverLanded => "never landed: a later check refused the write",
    }
}
