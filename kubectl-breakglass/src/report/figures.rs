//! The figures of a time: how often, by whom, how soon it was decided, what became of it, and what is owed. Lengths of time are
//! whole seconds in JSON.

use std::collections::{BTreeMap, BTreeSet};

use breakglass::api::{BreakglassToken, Outcome, Timestamp, Verdict};
use breakglass::rules::Rules;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Serialize, Serializer};

use crate::ledger::Record;
use crate::rows::Row;
use crate::tokens::{Standing, standing};

/// What figures are made from.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'s> {
    /// The context of the kubeconfig: which cluster was asked.
    pub context: &'s str,
    /// From when on.
    pub since: Timestamp,
    /// All tokens.
    pub tokens: &'s [BreakglassToken],
    /// All records, settled ones too.
    pub records: &'s [Record],
    /// What no engine owns.
    pub orphans: &'s Orphans,
    /// The policy in force.
    pub rules: &'s Rules,
    /// Until when.
    pub now: DateTime<Utc>,
}

/// The figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// The context of the kubeconfig that was asked.
    pub context: String,
    /// From when on: what was written and opened before is not counted, but where it says so.
    pub since: Timestamp,
    /// Until when.
    pub at: Timestamp,
    /// How many writes were let in under a token.
    pub changes: usize,
    /// By environment, the most first.
    pub by_environment: Vec<Count>,
    /// By who wrote, the most first.
    pub by_user: Vec<Count>,
    /// By what was done, the most first.
    pub by_operation: Vec<Count>,
    /// What was decided about them; the last verdict of each.
    pub verdicts: Verdicts,
    /// How soon after the write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_to_verdict: Option<Times>,
    /// How those ended that are settled, the most first.
    pub outcomes: Vec<Ended>,
    /// Tokens that were opened.
    pub tokens: Tokens,
    /// What is owed at the end of that time, whenever it was written.
    pub owed: Owed,
    /// What no engine owns at the end of that time, whenever it was made.
    pub orphans: Orphans,
    /// One by one, the last first.
    pub incidents: Vec<Incident>,
}

/// How many, and of all.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Count {
    /// Of what.
    pub name: String,
    /// How many.
    pub changes: usize,
}

/// How many ended in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// How many.
    pub changes: usize,
}

/// What was decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdicts {
    /// To be kept.
    pub accepted: usize,
    /// To be put back.
    pub rejected: usize,
    /// To be decided later.
    pub deferred: usize,
    /// Nothing yet.
    pub none_yet: usize,
    /// Nothing, and nothing has to be any more: it was undone, is gone, or never landed.
    pub none_needed: usize,
}

/// How long it took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Times {
    /// Half of them took no longer.
    #[serde(rename = "medianSeconds", serialize_with = "seconds")]
    pub median: TimeDelta,
    /// Nine of ten took no longer.
    #[serde(rename = "ninetiethSeconds", serialize_with = "seconds")]
    pub ninetieth: TimeDelta,
    /// None took longer.
    #[serde(rename = "longestSeconds", serialize_with = "seconds")]
    pub longest: TimeDelta,
}

/// Tokens, by what they are worth now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tokens {
    /// All of them.
    pub opened: usize,
    /// Those that somebody else agreed to.
    pub approved: usize,
    /// Those that let writes in.
    pub live: usize,
    /// Those that wait for somebody to agree.
    pub waiting: usize,
    /// Those whose time was up.
    pub expired: usize,
    /// Those that were ended early.
    pub closed: usize,
    /// Those that were refused.
    pub denied: usize,
}

/// What is owed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Owed {
    /// How many changes.
    pub changes: usize,
    /// How many of them somebody had to decide by now.
    pub overdue: usize,
    /// Until when the first of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overdue_since: Option<Timestamp>,
}

/// Objects that no engine owns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Orphans {
    /// How many; nothing where they could not be counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objects: Option<usize>,
    /// Where was looked: `in prod`.
    pub place: String,
    /// How far the number goes, a sentence each.
    pub doubts: Vec<String>,
}

/// One incident.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Incident {
    /// Its id.
    pub incident: String,
    /// When the first token of this time was opened for it, or the first write made.
    pub began: Timestamp,
    /// Who opened or wrote.
    pub users: BTreeSet<String>,
    /// How many writes.
    pub changes: usize,
    /// How many of them are owed.
    pub owed: usize,
    /// How many of these are overdue.
    pub overdue: usize,
}

fn seconds<S: Serializer>(length: &TimeDelta, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64(length.num_seconds())
}

impl Figures {
    /// Counts.
    pub fn count(sources: Sources<'_>) -> Self {
        let Sources { since, now, .. } = sources;
        let written: Vec<&Record> = sources.records.iter().filter(|one| one.change.spec.time >= since).collect();
        let opened: Vec<&BreakglassToken> = sources.tokens.iter().filter(|one| one.spec.opened_at >= since).collect();
        let of = |name: fn(&Record) -> String| counts(written.iter().map(|record| name(record)));
        Self {
            context: sources.context.to_owned(),
            since,
            at: Timestamp::new(now),
            changes: written.len(),
            by_environment: of(|record| record.change.spec.environment.clone()),
            by_user: of(|record| record.change.spec.user.clone()),
            by_operation: of(|record| record.change.spec.operation.as_str().to_owned()),
            verdicts: Verdicts::of(&written),
            time_to_verdict: Times::of(written.iter().filter_map(|record| after(record))),
            outcomes: ended(&written),
            tokens: Tokens::of(&opened, sources.rules, now),
            owed: Owed::of(sources.records, now),
            orphans: sources.orphans.clone(),
            incidents: incidents(&written, &opened, now),
        }
    }
}

/// How many ended in each way, the most first.
fn ended(written: &[&Record]) -> Vec<Ended> {
    let mut counts: Vec<Ended> = Vec::new();
    for outcome in written.iter().filter_map(|record| record.change.status.as_ref()?.outcome) {
        match counts.iter_mut().find(|count| count.outcome == outcome) {
            Some(count) => count.changes += 1,
            None => counts.push(Ended { outcome, changes: 1 }),
        }
    }
    counts.sort_by_key(|count| std::cmp::Reverse(count.changes));
    counts
}

/// How long after the write somebody decided.
fn after(record: &Record) -> Option<TimeDelta> {
    let status = record.change.status.as_ref().filter(|status| status.verdict.is_some())?;
    Some(status.at?.instant() - record.change.spec.time.instant())
}

/// How many of each name, the most first.
fn counts(names: impl Iterator<Item = String>) -> Vec<Count> {
    let mut by_name: BTreeMap<String, usize> = BTreeMap::new();
    names.for_each(|name| *by_name.entry(name).or_default() += 1);
    let mut counts: Vec<Count> = by_name.into_iter().map(|(name, changes)| Count { name, changes }).collect();
    counts.sort_by_key(|count| std::cmp::Reverse(count.changes));
    counts
}

impl Verdicts {
    fn of(written: &[&Record]) -> Self {
        let mut verdicts = Self::default();
        for record in written {
            let verdict = record.change.status.as_ref().and_then(|status| status.verdict);
            *match verdict {
                Some(Verdict::Accepted) => &mut verdicts.accepted,
                Some(Verdict::Rejected) => &mut verdicts.rejected,
                Some(Verdict::Deferred) => &mut verdicts.deferred,
                None if Row::of_record((*record).clone()).is_owed() => &mut verdicts.none_yet,
                None => &mut verdicts.none_needed,
            } += 1;
        }
        verdicts
    }
}

impl Times {
    fn of(lengths: impl Iterator<Item = TimeDelta>) -> Option<Self> {
        let mut lengths: Vec<TimeDelta> = lengths.collect();
        lengths.sort_unstable();
        // The least of them that so many of ten do not exceed.
        let rank = |tenths: usize| lengths.get((lengths.len() * tenths).div_ceil(10).saturating_sub(1)).copied();
        Some(Self { median: rank(5)?, ninetieth: rank(9)?, longest: rank(10)? })
    }
}

impl Tokens {
    fn of(opened: &[&BreakglassToken], rules: &Rules, now: DateTime<Utc>) -> Self {
        let mut tokens = Self { opened: opened.len(), ..Self::default() };
        for token in opened {
            tokens.approved += usize::from(token.status.as_ref().is_some_and(|status| !status.approvals.is_empty()));
            *match standing(token, rules, now) {
                Standing::Waiting => &mut tokens.waiting,
                Standing::Live => &mut tokens.live,
                Standing::Expired => &mut tokens.expired,
                Standing::Closed => &mut tokens.closed,
                Standing::Denied => &mut tokens.denied,
            } += 1;
        }
        tokens
    }
}

impl Owed {
    fn of<'r>(records: impl IntoIterator<Item = &'r Record>, now: DateTime<Utc>) -> Self {
        let rows = records.into_iter().map(|record| Row::of_record(record.clone())).filter(Row::is_owed);
        rows.fold(Self::default(), |owed, row| {
            let late = row.decide_by.filter(|_| row.is_overdue(now));
            Self {
                changes: owed.changes + 1,
                overdue: owed.overdue + usize::from(late.is_some()),
                overdue_since: owed.overdue_since.into_iter().chain(late).min(),
            }
        })
    }
}

/// Whatever was opened for or written under each, the last first.
fn incidents(written: &[&Record], opened: &[&BreakglassToken], now: DateTime<Utc>) -> Vec<Incident> {
    let mut records: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for record in written {
        records.entry(&record.change.spec.incident).or_default().push(record);
    }
    let mut tokens: BTreeMap<&str, Vec<&BreakglassToken>> = BTreeMap::new();
    for token in opened {
        tokens.entry(&token.spec.incident).or_default().push(token);
    }
    let names: BTreeSet<&str> = records.keys().chain(tokens.keys()).copied().collect();
    let mut incidents: Vec<Incident> = names
        .into_iter()
        .filter_map(|name| {
            let (records, tokens) = (records.remove(name).unwrap_or_default(), tokens.remove(name).unwrap_or_default());
            let times = tokens.iter().map(|token| token.spec.opened_at);
            let owed = Owed::of(records.iter().copied(), now);
            Some(Incident {
                incident: name.to_owned(),
                began: times.chain(records.iter().map(|record| record.change.spec.time)).min()?,
                users: tokens
                    .iter()
                    .map(|token| &token.spec.user)
                    .chain(records.iter().map(|record| &record.change.spec.user))
                    .cloned()
                    .collect(),
                changes: records.len(),
                owed: owed.changes,
                overdue: owed.overdue,
            })
        })
        .collect();
    incidents.sort_by(|a, b| (b.began, &b.incident).cmp(&(a.began, &a.incident)));
    incidents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_ranks_of_what_there_was() {
        let times = |hours: &[i64]| Times::of(hours.iter().map(|&hours| TimeDelta::hours(hours)));
        assert_eq!(times(&[]), None);
        for (hours, expected) in [
            (&[7][..], [7, 7, 7]),
            (&[2, 1], [1, 2, 2]),
            (&[3, 1, 2], [2, 3, 3]),
            (&[10, 9, 8, 7, 6, 5, 4, 3, 2, 1], [5, 9, 10]),
        ] {
            let found = times(hours).unwrap();
            assert_eq!([found.median, found.ninetieth, found.longest], expected.map(TimeDelta::hours), "{hours:?}");
        }
    }
}
