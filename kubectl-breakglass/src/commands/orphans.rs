//! `orphans`: objects that no engine owns.

use clap::Args;
use serde_json::json;

use crate::Exit;
use crate::area::{Area, Engines, area};
use crate::cli::Output;
use crate::ctx::Ctx;
use crate::discover::discover;
use crate::error::Result;
use crate::in_force::policy_in_force;
use crate::inventory::inventory;
use crate::ledger::{self, Keep, Record, Which};
use crate::orphans::{COLUMNS, Orphan, Orphans, WIDE_COLUMNS, made_by};
use crate::print::{object, table};
use crate::scan::scan;

/// List what somebody has made and no engine owns
///
/// Flux and Argo CD say what they have applied; what they do not list is an
/// orphan: Git does not bring it back, and nothing takes it away. A label alone
/// makes nothing an engine's (wide: CLAIMS).
///
/// Looked at are all kinds that live in namespaces, in the namespaces where the
/// policy demands a token; those of the engines themselves are left out. -n and
/// -A say otherwise. Not listed are objects that were made for others, as pods
/// are, and what Kubernetes makes for itself.
///
/// WHO is known where a record or a stamp says it; THROUGH is the name that the
/// client gave itself.
///
/// Examples:
///   kubectl breakglass orphans
///   kubectl breakglass orphans -n prod -l team=shop -o wide
///   kubectl breakglass orphans --count --exit-code   # for cron: 3 when there are
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct OrphansArgs {
    /// Print only how many there are
    #[arg(long)]
    pub count: bool,
    /// Exit with 3 when there are any
    #[arg(long)]
    pub exit_code: bool,
}

/// Lists.
///
/// # Errors
/// When the engines or the policy cannot be asked. What only makes the list shorter is said, and ends with exit code 1.
pub async fn orphans(ctx: &mut Ctx<'_>, args: &OrphansArgs) -> Result<Exit> {
    let (found, records) = futures::join!(find(ctx), records(ctx));
    let mut found = found?;
    let records = records.unwrap_or_else(|why| {
        found.failures.push(format!("the records do not say who it was: {why}"));
        Vec::new()
    });
    found.rows = made_by(found.rows, &records);
    print(ctx, args, &found)?;
    found.doubts.iter().for_each(|doubt| ctx.printer.say(&format!("note: {doubt}")));
    found.failures.iter().for_each(|failure| ctx.printer.say(&format!("warning: {failure}")));
    Ok(match found.failures.is_empty() {
        false => Exit::Half,
        true if args.exit_code && !found.rows.is_empty() => Exit::Owed,
        true => Exit::Done,
    })
}

/// What was found, and how much it is worth.
#[derive(Clone, Debug)]
pub struct Found {
    /// The orphans.
    pub rows: Vec<Orphan>,
    /// Where was looked.
    pub area: Area,
    /// What a person should know of the list.
    pub doubts: Vec<String>,
    /// One sentence for each thing that could not be read.
    pub failures: Vec<String>,
}

/// Finds the orphans where -n and -A say, or the policy guards; who made them is another question.
///
/// # Errors
/// When the engines or the policy cannot be asked.
pub async fn find(ctx: &Ctx<'_>) -> Result<Found> {
    let rules = policy_in_force(&ctx.cluster).await?.rules;
    let area = area(ctx, &rules, Engines::LeftOut).await?;
    let mut kinds = discover(&ctx.cluster).await?;
    let before = inventory(&ctx.cluster, &kinds).await?;
    kinds.listable.retain(|kind| kind.namespaced);
    let selector = ctx.flags.selector.clone().unwrap_or_default();
    let look = Orphans { area: &area, inventory: &before, selector: &selector };
    let found = scan(&ctx.cluster, &kinds, &area.place, &look).await;
    let mut rows = found.objects;
    // An engine applies first and says so afterwards: what it has applied while we looked is on its list by now.
    if rows.iter().any(|row| row.claims.is_some()) {
        let after = inventory(&ctx.cluster, &kinds).await?;
        rows.retain(|row| row.claims.is_none() || after.owner(&row.target, None).is_none());
    }
    Ok(Found { rows, doubts: before.doubts(found.unreadable.len()), area, failures: found.failures })
}

/// Every record, settled ones as well: whoever made an object may have been forgiven long ago.
async fn records(ctx: &Ctx<'_>) -> std::result::Result<Vec<Record>, String> {
    let which = Which { settled: true, ..Which::default() };
    let ledger = ledger::read(&ctx.cluster, &which, Keep::Lines).await.map_err(|error| error.message)?;
    Ok(ledger.records)
}

fn print(ctx: &mut Ctx<'_>, args: &OrphansArgs, found: &Found) -> Result<()> {
    let rows = &found.rows;
    if args.count {
        return ctx.printer.data(&rows.len().to_string());
    }
    let document = || json!({"apiVersion": "v1", "kind": "List", "items": rows});
    match ctx.output() {
        Output::Json => object::json(ctx.printer, &document()),
        Output::Yaml => object::yaml(ctx.printer, &document()),
        Output::Name => rows.iter().try_for_each(|row| ctx.printer.data(&row.target.short())),
        Output::Table | Output::Wide if rows.is_empty() => {
            ctx.printer.say(&format!("No orphans {}.", found.area.words()));
            Ok(())
        }
        output @ (Output::Table | Output::Wide) => {
            let now = ctx.now();
            let cells: Vec<Vec<String>> = rows.iter().map(|row| row.cells(now)).collect();
            table::print(ctx.printer, &table::header(output, &COLUMNS, &WIDE_COLUMNS), &cells)
        }
    }
}
