//! Verdicts: written to the status of changes, all of them or none.

use breakglass::api::{BreakglassChange, Verdict};
use breakglass::verdict::phase;
use kube::api::{Api, Patch, PatchParams};
use serde_json::Value;

use crate::Exit;
use crate::call::FIELD_MANAGER;
use crate::connect::Connection;
use crate::ctx::Ctx;
use crate::error::{CommandError, Result};
use crate::explain::Doing;
use crate::ledger::Record;
use crate::pick::Selection;
use crate::print::object;
use crate::rows::Row;
use crate::tokens::Really;

/// What happens when one of several verdicts is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRefusal {
    /// None is given: the server is asked about all of them first.
    Stop,
    /// The others are given all the same.
    KeepGoing,
}

/// A verdict on one record.
#[derive(Clone, Debug)]
pub struct Given {
    /// The record.
    pub record: Record,
    /// The status that says it.
    pub status: Value,
    /// The words that say it.
    pub sentence: String,
}

/// The records of an incident but for those on which somebody has given the opposite verdict: those are left alone, unless they
/// are named.
pub fn without(ctx: &mut Ctx<'_>, selection: &Selection, (records, opposite): (Vec<Record>, Verdict)) -> Vec<Record> {
    let is_given = |record: &Record| {
        let verdict = record.change.status.as_ref().and_then(|status| status.verdict);
        selection.incident.is_some() && verdict == Some(opposite)
    };
    let (given, others): (Vec<Record>, Vec<Record>) = records.into_iter().partition(is_given);
    for record in given {
        let (place, name) = (record.change.spec.target.place(), &record.name);
        let word = phase(opposite).as_str().to_lowercase();
        ctx.printer.say(&format!("note: {place}: {name} was {word}, and is left alone"));
    }
    others
}

/// Gives the same verdict on each record, and says so with `sentence`: on all of them, or on none.
///
/// # Errors
/// When the server does not take one.
pub async fn give(
    ctx: &mut Ctx<'_>,
    records: &[Record],
    (status, sentence): (&Value, &str),
    how: (Really, OnRefusal),
) -> Result<Exit> {
    let given =
        |record: &Record| Given { record: record.clone(), status: status.clone(), sentence: sentence.to_owned() };
    give_each(ctx, &records.iter().map(given).collect::<Vec<_>>(), how).await
}

/// Gives a verdict on each record, and says so: on all of them, or on none.
///
/// # Errors
/// When the server does not take one.
pub async fn give_each(
    ctx: &mut Ctx<'_>,
    verdicts: &[Given],
    (really, on_refusal): (Really, OnRefusal),
) -> Result<Exit> {
    if on_refusal == OnRefusal::Stop && (really == Really::DryRun || verdicts.len() > 1) {
        for Given { record, status, .. } in verdicts {
            ask(&ctx.cluster, record, status).await?;
        }
    }
    let suffix = match really {
        Really::Yes => "",
        Really::DryRun => " (server dry run)",
    };
    let mut exit = Exit::Done;
    for Given { record, status, sentence } in verdicts {
        match write(&ctx.cluster, &record.name, status, really).await {
            Ok(change) => {
                let row = Row::of_record(record.clone());
                let value = object::value(&change)?;
                let words = format!("{sentence}{suffix}: {}", row.target.place());
                object::one(ctx.printer, ctx.flags.output(), &value, &row.full_name(), &words)?;
            }
            Err(error) if on_refusal == OnRefusal::Stop => return Err(about(error, record)),
            Err(error) => {
                ctx.printer.say(&format!("error: {}", about(error, record).message));
                exit = Exit::Half;
            }
        }
    }
    Ok(exit)
}

/// Asks whether the server would take a verdict, and keeps nothing.
///
/// # Errors
/// When it would not.
pub async fn ask(cluster: &Connection, record: &Record, status: &Value) -> Result<()> {
    write(cluster, &record.name, status, Really::DryRun).await.map(drop).map_err(|error| about(error, record))
}

/// Says which object it is about: the name of a change says nothing to a person.
fn about(error: CommandError, record: &Record) -> CommandError {
    let place = record.change.spec.target.place();
    CommandError { message: format!("{place}: {}", error.message), ..error }
}

/// Writes a verdict. The webhook checks who may, and fills in who did and when.
async fn write(cluster: &Connection, name: &str, status: &Value, really: Really) -> Result<BreakglassChange> {
    let api = Api::<BreakglassChange>::all(cluster.client.clone());
    let params = PatchParams {
        dry_run: really == Really::DryRun,
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let patch = serde_json::json!({"status": status});
    cluster.ask(Doing::Deciding, api.patch_status(name, &params, &Patch::Merge(&patch))).await
}
