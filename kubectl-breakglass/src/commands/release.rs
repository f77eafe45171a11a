//! `release`: an object that was held is given back to its engine.

use std::collections::BTreeSet;

use breakglass::api::HoldState;
use breakglass::hold::holds;
use clap::Args;

use crate::Exit;
use crate::ctx::Ctx;
use crate::error::Result;
use crate::ledger::{Record, is_owed};
use crate::pick::{Selection, by_object, records_of, select};
use crate::tokens::Really;
use crate::verdicts::{OnRefusal, give};

use super::hold::{Wanted, not_yet, said, wait};

/// Give a held object back to its engine
///
/// The engine applies what Git says to it again, and undoes what Git does not say:
/// accept the change first, or mean it. Where another change of the object has it
/// held, it stays held.
///
/// Examples:
///   kubectl breakglass release -n prod deployment/api
///   kubectl breakglass release --incident INC-123 --dry-run
#[derive(Args, Clone, Debug)]
#[command(
    verbatim_doc_comment,
    override_usage = "kubectl breakglass release CHANGE|KIND/NAME...\n       kubectl breakglass release --incident INCIDENT"
)]
pub struct ReleaseArgs {
    /// What is given back
    #[command(flatten)]
    pub selection: Selection,
    /// Have the server check everything, and keep nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Releases.
///
/// # Errors
/// When there is no such change, or the cluster does not take it.
pub async fn release(ctx: &mut Ctx<'_>, args: &ReleaseArgs) -> Result<Exit> {
    let (held, others): (Vec<Record>, Vec<Record>) =
        select(ctx, &args.selection, None).await?.into_iter().partition(has_it_held);
    for record in others {
        let place = record.change.spec.target.place();
        ctx.printer.say(&format!("note: {place}: {} does not have it held", record.name));
    }
    let really = if args.dry_run { Really::DryRun } else { Really::Yes };
    let exit = give(ctx, &held, (&said(HoldState::Released), "released"), (really, OnRefusal::Stop)).await?;
    if really == Really::Yes {
        let names: BTreeSet<String> = held.iter().map(|record| record.name.clone()).collect();
        for records in by_object(held) {
            given_back(ctx, (&records, &names)).await?;
        }
    }
    Ok(exit)
}

fn has_it_held(record: &Record) -> bool {
    holds(&record.change)
}

/// Waits until the engine has it, and says what that means.
async fn given_back(ctx: &mut Ctx<'_>, (records, released): (&[Record], &BTreeSet<String>)) -> Result<()> {
    let Some(last) = records.last() else { return Ok(()) };
    let target = &last.change.spec.target;
    let all = records_of(&ctx.cluster, target).await?;
    let still = |record: &&Record| is_owed(&record.change) && has_it_held(record) && !released.contains(&record.name);
    let place = target.place();
    if let Some(other) = all.iter().find(still) {
        let (name, incident) = (&other.name, &other.change.spec.incident);
        ctx.printer.say(&format!("note: {place} stays held: {name} of {incident} has it held as well"));
        return Ok(());
    }
    if !wait(ctx, target, Wanted::Released).await? {
        ctx.printer.say(&not_yet(target));
        return Ok(());
    }
    let owner = last.change.spec.engine_owner.as_deref().unwrap_or("its engine");
    ctx.printer.say(&format!("{owner} applies what Git says to {place} again, and undoes what Git does not say."));
    Ok(())
}
