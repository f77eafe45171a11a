//! `diff`: what a change did, and what is left of it.

use clap::Args;

use crate::Exit;
use crate::ctx::Ctx;
use crate::error::{CommandError, ErrorKind, Result};
use crate::ledger::Record;
use crate::live::{Now, now};
use crate::pick::{Named, pick};
use crate::print::diff::unified;
use crate::states::States;

/// See what a change did, and what is left of it
///
/// From the object before the write to the object after it; and from there to
/// the object as it is now, where somebody has written to it since. With
/// KIND/NAME: from before the first change that is not settled to now.
///
/// What breakglass itself keeps on objects is left out, and so is what the API
/// server and clients keep. Values that the policy hides are hidden here, too.
///
/// Exit codes as for kubectl diff: 0 when the object is what it was before,
/// 1 when it is not, more when that could not be told.
///
/// Examples:
///   kubectl breakglass diff inc-123-0h3k9v1m2n3p4q5r
///   kubectl breakglass diff -n prod deployment/api
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct DiffArgs {
    /// A change, or an object
    #[arg(value_name = "CHANGE|KIND/NAME")]
    pub what: Named,
}

/// Shows the difference.
///
/// # Errors
/// When there is no such change, or the cluster does not answer; with an exit code above 1.
pub async fn diff(ctx: &mut Ctx<'_>, args: &DiffArgs) -> Result<Exit> {
    compare(ctx, args).await.map_err(|error| match error.kind {
        ErrorKind::Failed => CommandError { kind: ErrorKind::NotTold, ..error },
        ErrorKind::Usage | ErrorKind::NotTold | ErrorKind::OutputClosed => error,
    })
}

async fn compare(ctx: &mut Ctx<'_>, args: &DiffArgs) -> Result<Exit> {
    let records = pick(ctx, &args.what).await?;
    // A scale or a status is another document than the object: it is told on its own.
    let alike = records.iter().all(|record| record.change.spec.subresource.is_none());
    match &records[..] {
        [first, .., last] if alike => together(ctx, first, last).await,
        several => {
            let mut undone = true;
            for record in several {
                undone &= one(ctx, record).await? == Exit::Done;
            }
            Ok(exit(undone))
        }
    }
}

/// What several changes did together, and others since.
async fn together(ctx: &mut Ctx<'_>, first: &Record, last: &Record) -> Result<Exit> {
    let before = States::of(&first.change.spec)?.before;
    let now = live(ctx, last).await?;
    let title = first.change.spec.target.place();
    let (was, is) = (format!("{title} before {}", first.name), format!("{title} now"));
    if now == Now::Hidden {
        return one(ctx, last).await;
    }
    let text = unified((&was, before.as_ref()), (&is, now.object()), ctx.printer.colour)?;
    ctx.printer.bytes(text.as_bytes())?;
    Ok(exit(before.as_ref() == now.object()))
}

/// From before to after, and from there to now.
async fn one(ctx: &mut Ctx<'_>, record: &Record) -> Result<Exit> {
    let States { before, after } = States::of(&record.change.spec)?;
    let (title, name) = (record.change.spec.target.place(), &record.name);
    let (was, became) = (format!("{title} before {name}"), format!("{title} after {name}"));
    let colour = ctx.printer.colour;
    let did = unified((&was, before.as_ref()), (&became, after.as_ref()), colour)?;
    ctx.printer.bytes(did.as_bytes())?;
    let now = live(ctx, record).await?;
    if now == Now::Hidden {
        ctx.printer.say("note: the policy hides its values: whether they have changed since is not told");
        return Ok(exit(false));
    }
    let since = unified((&became, after.as_ref()), (&format!("{title} now"), now.object()), colour)?;
    ctx.printer.bytes(since.as_bytes())?;
    Ok(exit(before.as_ref() == now.object()))
}

/// The object as it is now, in the form of the record.
async fn live(ctx: &mut Ctx<'_>, record: &Record) -> Result<Now> {
    let found = now(&ctx.cluster, &record.change).await?;
    if matches!(found, Now::Another(_)) {
        ctx.printer.say(&format!("note: {} was deleted and made anew since", record.change.spec.target.place()));
    }
    Ok(found)
}

fn exit(same: bool) -> Exit {
    if same { Exit::Done } else { Exit::Half }
}
