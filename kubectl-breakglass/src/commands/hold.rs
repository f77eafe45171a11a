//! `hold`: an engine is kept from undoing a change, until Git says it or a decision is due.

use std::time::{Duration, Instant};

use breakglass::api::{HoldState, Target, Timestamp};
use breakglass::engine::Owner;
use breakglass::hold::end;
use breakglass::rules::Rules;
use clap::Args;
use serde_json::{Value, json};

use crate::Exit;
use crate::ctx::Ctx;
use crate::error::{CommandError, Result};
use crate::holds::is_held;
use crate::in_force::policy_in_force;
use crate::ledger::Record;
use crate::live::{nothing_there, whole};
use crate::origin::claim;
use crate::pick::{Selection, by_object, select};
use crate::tokens::Really;
use crate::verdicts::{OnRefusal, give};

/// How long the webhook's leader is waited for to do what was said.
const DONE_WITHIN: Duration = Duration::from_secs(20);

/// How often it is looked meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// Keep the engine from undoing a change
///
/// Flux then leaves the object of the change as it is: until Git says the same,
/// the change is over, somebody releases it, or a decision about it is due. What
/// is in Git for that object is not applied meanwhile, so it is said on the record
/// who wants it. To hold every write from the start: open --hold.
///
/// Examples:
///   kubectl breakglass hold -n prod deployment/api
///   kubectl breakglass hold --incident INC-123
#[derive(Args, Clone, Debug)]
#[command(
    verbatim_doc_comment,
    override_usage = "kubectl breakglass hold CHANGE|KIND/NAME...\n       kubectl breakglass hold --incident INCIDENT"
)]
pub struct HoldArgs {
    /// What is held
    #[command(flatten)]
    pub selection: Selection,
    /// Have the server check everything, and keep nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Holds.
///
/// # Errors
/// When there is no such change, its object cannot be held, or the cluster does not take it.
pub async fn hold(ctx: &mut Ctx<'_>, args: &HoldArgs) -> Result<Exit> {
    let records = select(ctx, &args.selection, None).await?;
    let rules = policy_in_force(&ctx.cluster).await?.rules;
    let mut held = Vec::new();
    for records in by_object(records.clone()) {
        held.extend(holdable(ctx, &rules, &records).await?);
    }
    let really = if args.dry_run { Really::DryRun } else { Really::Yes };
    let exit = give(ctx, &records, (&said(HoldState::Held), "held"), (really, OnRefusal::Stop)).await?;
    if really == Really::Yes {
        for Holdable { target, owner, until } in &held {
            if wait(ctx, target, Wanted::Held).await? {
                let place = target.place();
                ctx.printer.say(&format!("{owner} leaves {place} as it is, until {until} at the latest."));
            } else {
                ctx.printer.say(&not_yet(target));
            }
        }
        if let Some(record) = records.first() {
            ctx.printer.say(&format!("Give it back: kubectl breakglass release {}", record.name));
        }
    }
    Ok(exit)
}

/// An object that can be held.
struct Holdable {
    target: Target,
    owner: Owner,
    until: Timestamp,
}

/// The object of these changes, where an engine can be kept from it.
async fn holdable(ctx: &Ctx<'_>, rules: &Rules, records: &[Record]) -> Result<Option<Holdable>> {
    let Some(last) = records.last() else { return Ok(None) };
    let target = &last.change.spec.target;
    let place = target.place();
    let object = whole(&ctx.cluster, target).await?.ok_or_else(|| nothing_there(target))?;
    let Some(owner) = claim(&object) else {
        return Err(CommandError::failed(format!("no engine applies {place}, so none undoes what was done to it")));
    };
    if !owner.can_be_held() {
        let message = format!("{owner} applies {place}, and cannot be kept from one object alone");
        return Err(CommandError::failed(message).hint(format!("kubectl breakglass trace {}", last.name)));
    }
    let until = records.iter().map(|record| ending(rules, record)).fold(ending(rules, last), Timestamp::max);
    if until.instant() <= ctx.now() {
        let message = format!("{place}: a decision is due already, so it would be given back at once");
        let later = format!("kubectl breakglass defer {} --until 3d --reason \"…\"", last.name);
        return Err(CommandError::failed(message).hint(later));
    }
    Ok(Some(Holdable { target: target.clone(), owner, until }))
}

/// When a hold of this change ends at the latest.
fn ending(rules: &Rules, record: &Record) -> Timestamp {
    let spec = &record.change.spec;
    let status = record.change.status.clone().unwrap_or_default();
    end(spec, &status, &rules.environment_of_record(&spec.environment).debt)
}

/// The status that says it. Who says so and when is the webhook's to fill in.
pub(super) fn said(state: HoldState) -> Value {
    json!({"hold": {"state": state, "by": null, "at": null}})
}

/// What somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// That the engine is kept from an object.
    Held,
    /// That it is not.
    Released,
}

/// Waits until the webhook has done it. Whether it has.
pub(super) async fn wait(ctx: &Ctx<'_>, target: &Target, wanted: Wanted) -> Result<bool> {
    let begun = Instant::now();
    while begun.elapsed() < DONE_WITHIN {
        let held = is_held(&ctx.cluster, target).await.map_err(CommandError::failed)?;
        if held == (wanted == Wanted::Held) {
            return Ok(true);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(false)
}

pub(super) fn not_yet(target: &Target) -> String {
    let place = target.place();
    format!("note: the webhook has not done it yet for {place}, and will: kubectl breakglass doctor")
}
