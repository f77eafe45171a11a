//! `scan`: direct edits that carry no stamp.

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
use crate::ledger::{self, Keep, Which};
use crate::print::{object, table};
use crate::scan::{Where, scan as walk};
use crate::unstamped::{COLUMNS, Edit, Unstamped, WIDE_COLUMNS, without_record};

/// Find direct edits that carry no stamp
///
/// From before the install, or made while the webhook was away or overridden.
/// Found by managedFields: an object that an engine owns has fields that belong
/// to a manager which is no engine and no controller, and neither the stamp nor
/// a record speaks of them. A controller is a program of Kubernetes, or whoever
/// reports on the object through its status; of others you know, say
/// --ignore-manager.
///
/// Looked at are the namespaces where the policy demands a token; -n and -A say
/// otherwise.
///
/// It cannot see what is gone: deletes, execs, and edits that the engine or
/// somebody else has overwritten; nor edits under an engine's own manager; nor
/// a scale after one that is on record, since no time is kept of those; nor
/// what was made beside Git, which orphans lists. Who it was, only the API
/// server's audit log says.
///
/// Exit codes: 0 nothing was found, 3 something was, 1 it could not be told.
///
/// Examples:
///   kubectl breakglass scan
///   kubectl breakglass scan -n prod -o wide
///   kubectl breakglass scan -A --ignore-manager vpa-updater
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct ScanArgs {
    /// A field manager that is no person's, * stands for anything; may be repeated
    #[arg(long, value_name = "MANAGER")]
    pub ignore_manager: Vec<String>,
}

/// Looks.
///
/// # Errors
/// When engines, records or the policy cannot be asked: without one of them, nothing can be told.
pub async fn scan(ctx: &mut Ctx<'_>, args: &ScanArgs) -> Result<Exit> {
    let rules = policy_in_force(&ctx.cluster).await?.rules;
    let area = area(ctx, &rules, Engines::Included).await?;
    let mut kinds = discover(&ctx.cluster).await?;
    let inventory = inventory(&ctx.cluster, &kinds).await?;
    kinds.listable.retain(|kind| kind.namespaced);
    let namespaces = match &area.place {
        Where::In(namespaces) => namespaces.clone(),
        Where::Everywhere => Vec::new(),
    };
    let which = Which { namespaces, settled: true, ..Which::default() };
    let selector = ctx.flags.selector.clone().unwrap_or_default();
    let look = Unstamped {
        area: &area,
        inventory: &inventory,
        rules: &rules,
        ignored: &args.ignore_manager,
        selector: &selector,
    };
    let found = walk(&ctx.cluster, &kinds, &area.place, &look).await;
    // Read after the objects: what was written meanwhile has its record by now.
    let ledger = ledger::read(&ctx.cluster, &which, Keep::Lines).await?;
    let edits = without_record(found.objects, &ledger.records);
    print(ctx, &area, &edits)?;
    for doubt in inventory.doubts(found.unreadable.len()) {
        ctx.printer.say(&format!("note: {doubt}"));
    }
    let failures: Vec<String> = found.failures.into_iter().chain(ledger.failures).collect();
    failures.iter().for_each(|failure| ctx.printer.say(&format!("warning: {failure}")));
    Ok(match (failures.is_empty(), edits.is_empty()) {
        (false, _) => Exit::Half,
        (true, false) => Exit::Owed,
        (true, true) => Exit::Done,
    })
}

fn print(ctx: &mut Ctx<'_>, area: &Area, edits: &[Edit]) -> Result<()> {
    let document = || json!({"apiVersion": "v1", "kind": "List", "items": edits});
    match ctx.output() {
        Output::Json => object::json(ctx.printer, &document()),
        Output::Yaml => object::yaml(ctx.printer, &document()),
        Output::Name => edits.iter().try_for_each(|edit| ctx.printer.data(&edit.target.short())),
        Output::Table | Output::Wide if edits.is_empty() => {
            ctx.printer.say(&format!("No direct edits without a stamp {}.", area.words()));
            Ok(())
        }
        output @ (Output::Table | Output::Wide) => {
            let now = ctx.now();
            let cells: Vec<Vec<String>> = edits.iter().map(|edit| edit.cells(now)).collect();
            table::print(ctx.printer, &table::header(output, &COLUMNS, &WIDE_COLUMNS), &cells)?;
            let first = &edits[0].target;
            let (flag, object) = (first.flag(), first.short());
            ctx.printer.say(&format!("\nField by field: kubectl breakglass blame{flag} {object}"));
            Ok(())
        }
    }
}
