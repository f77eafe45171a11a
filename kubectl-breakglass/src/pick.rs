//! From what the command line names to records: a change by its name, or all changes of an object.

use std::collections::VecDeque;
use std::str::FromStr;

use breakglass::api::{Outcome, Target, Verdict};
use clap::Args;

use crate::connect::Connection;
use crate::ctx::Ctx;
use crate::error::{CommandError, Result};
use crate::ledger::{self, Keep, Ledger, Record, Which, is_owed};
use crate::resolve::{Found, resolve};
use crate::want::object_of;

/// The names under which kubectl knows a change.
const CHANGE: [&str; 4] =
    ["breakglasschange.breakglass.dev", "breakglasschanges.breakglass.dev", "breakglasschange", "bgc"];

/// What the command line names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// A change.
    Change(String),
    /// An object, by any word that kubectl takes for its kind.
    Object {
        /// The kind.
        kind: String,
        /// The name.
        name: String,
    },
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let named = match text.split_once('/') {
            None => Self::Change(text.to_owned()),
            Some((kind, name)) if CHANGE.contains(&kind.to_lowercase().as_str()) => Self::Change(name.to_owned()),
            Some((kind, name)) => Self::Object { kind: kind.to_owned(), name: name.to_owned() },
        };
        let is_whole = match &named {
            Self::Change(name) => !name.is_empty(),
            Self::Object { kind, name } => !kind.is_empty() && !name.is_empty() && !name.contains('/'),
        };
        if is_whole { Ok(named) } else { Err("name a change, or KIND/NAME".to_owned()) }
    }
}

/// The changes that a verdict is about.
#[derive(Args, Clone, Debug)]
pub struct Selection {
    /// Changes, or objects: then each change of theirs that is not settled
    #[arg(value_name = "CHANGE|KIND/NAME", required_unless_present = "incident")]
    pub what: Vec<Named>,
    /// Every change of an incident that is not settled
    #[arg(long, conflicts_with = "what")]
    pub incident: Option<String>,
}

/// The records that are named, the oldest first, each once, settled ones as well; never none.
///
/// # Errors
/// When there is no such record, an incident has none that is not settled, or the cluster does not answer.
pub async fn find(ctx: &Ctx<'_>, selection: &Selection) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    if let Some(incident) = &selection.incident {
        records = of_incident(ctx, incident).await?;
    }
    for named in &selection.what {
        records.extend(pick(ctx, named).await?);
    }
    oldest_first(&mut records);
    records.dedup_by(|a, b| a.name == b.name);
    Ok(records)
}

/// Finds the records that something is to be done about; what that is where it is a verdict.
///
/// # Errors
/// Those of the two that it is made of.
pub async fn select(ctx: &mut Ctx<'_>, selection: &Selection, verdict: Option<Verdict>) -> Result<Vec<Record>> {
    let records = find(ctx, selection).await?;
    undecided(ctx, records, verdict)
}

/// Those of them that something can be done about; never none, and none that is settled. What the same verdict has settled is left out with
/// a word, where others are left: a run before this one came so far.
///
/// # Errors
/// When one of them is settled in another way, or all are.
pub fn undecided(ctx: &mut Ctx<'_>, records: Vec<Record>, verdict: Option<Verdict>) -> Result<Vec<Record>> {
    let (settled, open): (Vec<Record>, Vec<Record>) = records.into_iter().partition(|record| !is_owed(&record.change));
    let is_done = |record: &&Record| {
        let status = record.change.status.clone().unwrap_or_default();
        // The write that put something back has no verdict of its own.
        let is_back = verdict == Some(Verdict::Rejected) && status.outcome == Some(Outcome::PutBack);
        let is_same = verdict.is_some() && status.verdict == verdict;
        !open.is_empty() && (is_back || is_same)
    };
    if let Some(record) = settled.iter().find(|record| !is_done(record)) {
        return Err(CommandError::failed(format!("{}: there is nothing left to do", is_settled(record)))
            .hint(format!("kubectl breakglass show {}", record.name)));
    }
    for record in &settled {
        ctx.printer.say(&format!("note: {}: {}", record.change.spec.target.place(), is_settled(record)));
    }
    Ok(open)
}

fn is_settled(record: &Record) -> String {
    let outcome = record.change.status.as_ref().and_then(|status| status.outcome);
    let how = outcome.map_or_else(String::new, |outcome| format!(" ({outcome:?})"));
    format!("{} is settled already{how}", record.name)
}

/// Every record that is not settled, in the namespaces that are asked for, the oldest first.
///
/// # Errors
/// When one of them cannot be read, or the cluster does not answer.
pub async fn every(ctx: &Ctx<'_>) -> Result<Vec<Record>> {
    let namespaces = if ctx.flags.all_namespaces { Vec::new() } else { ctx.flags.namespaces.clone() };
    let which = Which { namespaces, ..Which::default() };
    let mut records = readable(ledger::read(&ctx.cluster, &which, Keep::Whole).await?)?;
    records.retain(|record| is_owed(&record.change));
    oldest_first(&mut records);
    Ok(records)
}

async fn of_incident(ctx: &Ctx<'_>, incident: &str) -> Result<Vec<Record>> {
    let which =
        Which { incident: Some(incident.to_owned()), namespaces: ctx.flags.namespaces.clone(), ..Which::default() };
    let mut records = readable(ledger::read(&ctx.cluster, &which, Keep::Whole).await?)?;
    // The label that this was narrowed by may lag behind.
    records.retain(|record| is_owed(&record.change));
    if records.is_empty() {
        return Err(CommandError::failed(format!("{incident} owes nothing: no change of it waits to be decided"))
            .hint(format!("kubectl breakglass list --incident {incident} --state settled")));
    }
    Ok(records)
}

/// All that were asked for: one that cannot be read may be the very one.
fn readable(ledger: Ledger) -> Result<Vec<Record>> {
    match ledger.failures.into_iter().next() {
        Some(failure) => Err(CommandError::failed(failure).hint("kubectl breakglass version")),
        None => Ok(ledger.records),
    }
}

/// Puts records into the order of their writes. Times are whole seconds: of two in one second the one that found the other's stamp
/// came later.
pub fn oldest_first(records: &mut Vec<Record>) {
    records.sort_by(|a, b| (a.change.spec.time, &a.name).cmp(&(b.change.spec.time, &b.name)));
    let mut left: VecDeque<Record> = std::mem::take(records).into();
    while let Some(first) = left.front() {
        let second = first.change.spec.time;
        let of_it = left.iter().take_while(|record| record.change.spec.time == second).count();
        let names: Vec<String> = left.iter().take(of_it).map(|record| record.name.clone()).collect();
        let follows = |record: &Record| record.found.as_ref().is_some_and(|found| names.contains(found));
        let next = left.iter().take(of_it).position(|record| !follows(record)).unwrap_or(0);
        records.extend(left.remove(next));
    }
}

/// Records by object, each with its own in the order that they came in. What was deleted and made anew is the same object to Git.
pub fn by_object(records: Vec<Record>) -> Vec<Vec<Record>> {
    let key = |record: &Record| object_of(&record.change.spec.target);
    let mut objects: Vec<Vec<Record>> = Vec::new();
    for record in records {
        match objects.iter_mut().find(|same| same.first().is_some_and(|first| key(first) == key(&record))) {
            Some(same) => same.push(record),
            None => objects.push(vec![record]),
        }
    }
    objects
}

/// The records that are named, the oldest first; never none.
///
/// Of an object: those that are not settled, or, where all are, the last one.
///
/// # Errors
/// When there is no such record, or the cluster does not answer.
pub async fn pick(ctx: &Ctx<'_>, named: &Named) -> Result<Vec<Record>> {
    match named {
        Named::Change(name) => Ok(vec![change(ctx, name).await?]),
        Named::Object { kind, name } => of_object(ctx, &resolve(&ctx.cluster, kind).await?, name).await,
    }
}

async fn change(ctx: &Ctx<'_>, name: &str) -> Result<Record> {
    let found = ledger::named(&ctx.cluster, name, Keep::Whole).await?;
    found.ok_or_else(|| {
        CommandError::failed(format!("there is no change {name:?}")).hint("kubectl breakglass list -o wide")
    })
}

/// The object that is named, or that the change which is named wrote to. Whether it is there is another question.
///
/// # Errors
/// When there is no such change or kind, or the cluster does not answer.
pub async fn target(ctx: &Ctx<'_>, named: &Named) -> Result<Target> {
    match named {
        Named::Change(name) => Ok(change(ctx, name).await?.change.spec.target),
        Named::Object { kind, name } => Ok(target_of(ctx, &resolve(&ctx.cluster, kind).await?, name)),
    }
}

fn target_of(ctx: &Ctx<'_>, kind: &Found, name: &str) -> Target {
    Target {
        api_version: kind.resource.api_version.clone(),
        kind: kind.resource.kind.clone(),
        resource: kind.resource.plural.clone(),
        namespace: kind.namespaced.then(|| namespace(ctx)),
        name: name.to_owned(),
        uid: None,
    }
}

/// Every record of an object of this name, the oldest first.
///
/// # Errors
/// When one of them cannot be read, or the cluster does not answer.
pub async fn records_of(cluster: &Connection, target: &Target) -> Result<Vec<Record>> {
    let which = Which { namespaces: target.namespace.iter().cloned().collect(), settled: true, ..Which::default() };
    let mut records = readable(ledger::read(cluster, &which, Keep::Whole).await?)?;
    records.retain(|record| {
        let other = &record.change.spec.target;
        other.name == target.name
            && other.resource == target.resource
            && other.group() == target.group()
            && other.namespace == target.namespace
    });
    oldest_first(&mut records);
    Ok(records)
}

async fn of_object(ctx: &Ctx<'_>, kind: &Found, name: &str) -> Result<Vec<Record>> {
    let target = target_of(ctx, kind, name);
    let mut records = records_of(&ctx.cluster, &target).await?;
    let open: Vec<Record> = records.iter().filter(|record| is_owed(&record.change)).cloned().collect();
    if !open.is_empty() {
        return Ok(open);
    }
    records.pop().map(|last| vec![last]).ok_or_else(|| {
        CommandError::failed(format!("no change of {} is on record", target.place()))
            .hint("kubectl breakglass list -A -o wide --state pending,deferred,accepted,rejected,settled,noted")
    })
}

/// The namespace that is meant where an object is named: that of -n, of the kubeconfig's context, or default, as for kubectl.
fn namespace(ctx: &Ctx<'_>) -> String {
    let named = ctx.flags.namespaces.first().or(ctx.cluster.namespace.as_ref());
    named.cloned().unwrap_or_else(|| "default".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_in_one_second_the_one_that_found_the_other_is_later() {
        let record = |name: &str, second: u32, found: Option<&str>| {
            let spec = serde_json::json!({"token": "t", "incident": "INC-1", "user": "alice@example.com",
                "time": format!("2026-11-20T12:00:{second:02}Z"), "environment": "prod", "operation": "Update",
                "target": {"apiVersion": "v1", "kind": "ConfigMap", "resource": "configmaps", "name": "a"},
                "patch": [], "decideBy": "2026-11-21T12:00:00Z"});
            let change = breakglass::api::BreakglassChange::new(name, serde_json::from_value(spec).unwrap());
            Record { name: name.to_owned(), change, found: found.map(str::to_owned), whole: None }
        };
        let mut records = vec![
            record("a", 2, Some("c")),
            record("b", 1, None),
            record("c", 2, Some("d")),
            record("d", 2, Some("b")),
            record("e", 3, Some("a")),
        ];
        oldest_first(&mut records);
        assert_eq!(records.iter().map(|record| record.name.as_str()).collect::<String>(), "bdcae");
    }

    #[test]
    fn a_word_with_a_slash_is_an_object_unless_its_kind_is_a_change() {
        let change = |name: &str| Ok(Named::Change(name.to_owned()));
        let object = |kind: &str, name: &str| Ok(Named::Object { kind: kind.to_owned(), name: name.to_owned() });
        let wrong = || Err("name a change, or KIND/NAME".to_owned());
        for (text, expected) in [
            ("inc-1-abc", change("inc-1-abc")),
            ("bgc/inc-1-abc", change("inc-1-abc")),
            ("breakglasschange.breakglass.dev/inc-1-abc", change("inc-1-abc")),
            ("deploy/api", object("deploy", "api")),
            ("deployments.v1.apps/api", object("deployments.v1.apps", "api")),
            ("", wrong()),
            ("/api", wrong()),
            ("deploy/", wrong()),
            ("deploy/api/scale", wrong()),
            ("bgc/", wrong()),
        ] {
            assert_eq!(text.parse::<Named>(), expected, "{text}");
        }
    }
}
