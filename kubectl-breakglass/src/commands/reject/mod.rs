//! `reject`: a change is put back, and that is proven.

// On a terminal: what putting back would write, one change after the other.
mod offer;
// The writes that have put something back already.
mod ways_back;

use std::collections::BTreeMap;
use std::time::Duration;

use breakglass::api::{Span, Verdict};
use breakglass::rules::Rules;
use clap::Args;
use serde_json::json;

use crate::Exit;
use crate::ctx::Ctx;
use crate::error::Result;
use crate::in_force::policy_in_force;
use crate::ledger::Record;
use crate::pass::{Cause, Pass};
use crate::pick::{Selection, find, undecided};
use crate::restore::{Restoration, check, plan, subjects, write};
use crate::settled::wait_settled;
use crate::tokens::Really;
use crate::verdicts::{OnRefusal, give, without};
use crate::walk::{Shown, walk};

/// What its tokens say that they were opened by.
const COMMAND: &str = "kubectl breakglass reject";

/// How long a token lives that is opened to put something back: as long as it takes, and a moment more.
const TOKEN_FOR: Span = Span::minutes(5);

/// How long the webhook's leader is waited for to see that it is put back. It sees it later as well.
const SETTLED_WITHIN: Duration = Duration::from_secs(20);

/// Put back what was there before a change
///
/// What the change did to its object is undone, field by field, and nothing
/// else: what was made is deleted, what was deleted is made again. Where
/// somebody has written to the same fields since, nothing is written, and the
/// fields are named. Of several changes the latest goes first, and all are
/// rejected, or none. On a terminal you are shown what would be written, and
/// asked about each; nothing is asked with --yes, and nowhere else.
///
/// It is a write to production like any other: where no token of yours covers
/// it, one for the same incident is opened for a few minutes, and closed.
/// The change is settled when the object was read back and is what it was.
/// A command that was broken off is run again: it goes on where it was.
///
/// Examples:
///   kubectl breakglass reject -n prod deployment/api --dry-run
///   kubectl breakglass reject --incident INC-123 --reason "rolled forward"
#[derive(Args, Clone, Debug)]
#[command(
    verbatim_doc_comment,
    override_usage = "kubectl breakglass reject CHANGE|KIND/NAME... [--reason REASON]\n       kubectl breakglass reject --incident INCIDENT [--reason REASON]"
)]
pub struct RejectArgs {
    /// What is put back
    #[command(flatten)]
    pub selection: Selection,
    /// Why, for the report
    #[arg(long)]
    pub reason: Option<String>,
    /// Show what would be written, have the server check it, and keep nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Put back what can be, where something else cannot
    #[arg(long)]
    pub keep_going: bool,
    /// Ask nothing
    #[arg(long)]
    pub yes: bool,
}

/// Puts back.
///
/// # Errors
/// When something stands in the way, or the cluster does not take it.
pub async fn reject(ctx: &mut Ctx<'_>, args: &RejectArgs) -> Result<Exit> {
    let found = find(ctx, &args.selection).await;
    let rules = policy_in_force(&ctx.cluster).await?.rules;
    let mut pass = match args.dry_run {
        true => Pass::default(),
        false => left_open(ctx, args, (&rules, &found)).await,
    };
    let done = match found.and_then(|records| undecided(ctx, records, Some(Verdict::Rejected))) {
        Ok(records) => reject_these(ctx, args, (records, &rules), &mut pass).await,
        Err(error) => Err(error),
    };
    pass.close(ctx).await;
    done
}

/// What a reject of the same has opened that was broken off. Also where nothing is left to be done but to close it.
async fn left_open(ctx: &Ctx<'_>, args: &RejectArgs, (rules, found): (&Rules, &Result<Vec<Record>>)) -> Pass {
    let incidents = found.iter().flatten().map(|record| record.change.spec.incident.clone());
    let incidents = incidents.chain(args.selection.incident.clone()).collect();
    // What cannot be found again ends by itself, in a few minutes.
    Pass::left_open(ctx, rules, (&incidents, COMMAND)).await.unwrap_or_default()
}

async fn reject_these(
    ctx: &mut Ctx<'_>,
    args: &RejectArgs,
    (records, rules): (Vec<Record>, &Rules),
    pass: &mut Pass,
) -> Result<Exit> {
    let records = without(ctx, &args.selection, (records, Verdict::Accepted));
    let mut records = ways_back::left_out(ctx, &args.selection, records).await?;
    records.reverse();
    let on_refusal = if args.keep_going { OnRefusal::KeepGoing } else { OnRefusal::Stop };
    let mut exit = Exit::Done;
    if ctx.input.terminal && !args.yes && !args.dry_run {
        (records, exit) = walk_through(ctx, rules, records).await?;
    }
    if records.is_empty() {
        ctx.printer.say("Nothing was rejected.");
        return Ok(exit);
    }
    let mut restorations = Vec::new();
    for planned in plan(&ctx.cluster, rules, records).await? {
        match planned {
            Ok(restoration) => restorations.push(restoration),
            Err(error) if on_refusal == OnRefusal::Stop => return Err(error),
            Err(error) => {
                ctx.printer.say(&error.to_string());
                exit = Exit::Half;
            }
        }
    }
    let needed = rehearse(ctx, rules, &mut restorations).await?;
    if args.dry_run {
        show(ctx, &restorations)?;
        let given = verdicts(ctx, &restorations, args, (Really::DryRun, on_refusal)).await?;
        return Ok(if given == Exit::Done { exit } else { given });
    }
    let given = verdicts(ctx, &restorations, args, (Really::Yes, on_refusal)).await?;
    let done = put_back(ctx, (&mut restorations, rules, needed), args, pass).await?;
    let half = [exit, given, done].into_iter().any(|exit| exit != Exit::Done);
    Ok(if half { Exit::Half } else { Exit::Done })
}

/// Asks about each, the latest first. What cannot be put back is left, and that is half a failure.
async fn walk_through(ctx: &mut Ctx<'_>, rules: &Rules, records: Vec<Record>) -> Result<(Vec<Record>, Exit)> {
    let subjects = subjects(&ctx.cluster, rules, records.clone()).await?;
    let (colour, mut exit) = (ctx.printer.colour, Exit::Done);
    let chosen = walk((ctx.printer, &mut ctx.input), "Put it back?", records, |record, chosen| {
        let shown = offer::offer(&subjects, record, chosen, colour)?;
        if matches!(shown, Shown::Stuck(_)) {
            exit = Exit::Half;
        }
        Ok(shown)
    })?;
    Ok((chosen, exit))
}

/// Asks the server what would become of each write, and says which environments need a token, and for what.
async fn rehearse(
    ctx: &mut Ctx<'_>,
    rules: &Rules,
    restorations: &mut [Restoration],
) -> Result<BTreeMap<String, (String, Span)>> {
    let mut needed = BTreeMap::new();
    for restoration in restorations {
        let heard = write(&ctx.cluster, restoration, rules, Really::DryRun).await?;
        if heard.is_some_and(|heard| heard.would_be_refused())
            && let Some(record) = restoration.records.first()
        {
            let spec = &record.change.spec;
            let longest = rules.environment_of_record(&spec.environment).token.max_ttl;
            needed.insert(spec.environment.clone(), (spec.incident.clone(), TOKEN_FOR.min(longest)));
        }
    }
    Ok(needed)
}

/// What would be written where.
fn show(ctx: &mut Ctx<'_>, restorations: &[Restoration]) -> Result<()> {
    for restoration in restorations {
        match offer::note(restoration) {
            Some(note) => ctx.printer.say(&format!("note: {}: {note}", restoration.place())),
            None => {
                let text = offer::difference(restoration, "now", ctx.printer.colour)?;
                ctx.printer.bytes(text.as_bytes())?;
            }
        }
    }
    Ok(())
}

async fn verdicts(
    ctx: &mut Ctx<'_>,
    restorations: &[Restoration],
    args: &RejectArgs,
    how: (Really, OnRefusal),
) -> Result<Exit> {
    let records: Vec<Record> = restorations.iter().flat_map(|restoration| restoration.records.clone()).collect();
    // What another verdict said beside itself is over with it.
    let status = json!({"verdict": Verdict::Rejected, "note": args.reason, "until": null, "git": null});
    give(ctx, &records, (&status, "rejected"), how).await
}

/// Writes, reads back, and waits until it is proven.
async fn put_back(
    ctx: &mut Ctx<'_>,
    (restorations, rules, needed): (&mut [Restoration], &Rules, BTreeMap<String, (String, Span)>),
    args: &RejectArgs,
    pass: &mut Pass,
) -> Result<Exit> {
    for (environment, (incident, ttl)) in needed {
        let cause = Cause {
            incident: Some(incident.clone()),
            reason: args.reason.clone().unwrap_or_else(|| "putting back what was rejected".to_owned()),
            command: COMMAND.to_owned(),
            ttl: Some(ttl),
        };
        pass.add(ctx, &incident, &environment, &cause).await?;
    }
    let mut exit = Exit::Done;
    for restoration in restorations.iter_mut() {
        let done = async {
            write(&ctx.cluster, restoration, rules, Really::Yes).await?;
            check(&ctx.cluster, restoration).await
        };
        match done.await {
            Ok(()) => ctx.printer.say(&format!("put back: {}", restoration.place())),
            Err(error) if !args.keep_going => return Err(error.hint(again(restoration))),
            Err(error) => {
                ctx.printer.say(&error.to_string());
                exit = Exit::Half;
            }
        }
    }
    settled(ctx, restorations).await?;
    Ok(exit)
}

/// What to type to go on.
fn again(restoration: &Restoration) -> String {
    let names: Vec<&str> = restoration.records.iter().map(|record| record.name.as_str()).collect();
    format!("kubectl breakglass reject {}", names.join(" "))
}

/// Waits until the webhook has seen it, and says so.
async fn settled(ctx: &mut Ctx<'_>, restorations: &[Restoration]) -> Result<()> {
    let records = restorations.iter().flat_map(|restoration| &restoration.records);
    let names = records.map(|record| record.name.clone()).collect();
    for name in wait_settled(ctx, names, SETTLED_WITHIN).await? {
        ctx.printer.say(&format!(
            "note: the webhook has not seen yet that {name} is put back; see: kubectl breakglass show {name}"
        ));
    }
    Ok(())
}
