//! `blame`: field by field, who, through what, when, and under which incident.

use breakglass::api::Target;
use breakglass::engine::Engine;
use breakglass::rules::Rules;
use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::{Value, json};

use crate::Exit;
use crate::authors::{AppliedBy, Evidence, Field, KnownBy, authors};
use crate::cli::Output;
use crate::ctx::Ctx;
use crate::error::Result;
use crate::in_force::policy_in_force;
use crate::live::{nothing_there, whole};
use crate::origin::origin;
use crate::pick::{Named, records_of, target};
use crate::print::table::{self, cut};
use crate::print::{age, object};

/// How much of a value is shown; `-o yaml` has all of it.
const VALUE_SHOWN: usize = 32;

/// The columns of the table.
const COLUMNS: [&str; 6] = ["FIELD", "VALUE", "WHO", "THROUGH", "WHEN", "INCIDENT"];

/// The columns that `-o wide` adds.
const WIDE_COLUMNS: [&str; 5] = ["OPERATION", "SUBRESOURCE", "CHANGE", "REVISION", "KNOWN-BY"];

/// See who put each field of an object where it is
///
/// Managers and times are those that the API server keeps; people are those
/// that the records and the stamp name. -o wide says how each is known:
///
///   record      a record says that this person put this value there
///   stamp       the stamp says who wrote through this manager last; an earlier
///               write of somebody else may have left the field
///   inventory   an engine's manager, and its inventory lists the object
///   manager     the name that the client gave itself; no person is known
///   nobody      no manager owns it: a default of the API server, or a webhook's
///
/// The table leaves out the status, what nobody owns, and our own keys; --all
/// has them, as -o json and yaml do. Values that the policy hides are hidden.
///
/// Examples:
///   kubectl breakglass blame -n prod deployment/api
///   kubectl breakglass blame -n prod deployment/api -o wide --all
///   kubectl breakglass blame inc-123-0h3k9v1m2n3p4q5r
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct BlameArgs {
    /// A change, or an object
    #[arg(value_name = "CHANGE|KIND/NAME")]
    pub what: Named,
    /// Status, and what no manager owns, as well
    #[arg(long)]
    pub all: bool,
}

/// Tells who wrote each field.
///
/// # Errors
/// When there is no such object, or the cluster does not answer. What only leaves people unnamed is said, and ends with exit
/// code 1.
pub async fn blame(ctx: &mut Ctx<'_>, args: &BlameArgs) -> Result<Exit> {
    let target = target(ctx, &args.what).await?;
    let Some(object) = whole(&ctx.cluster, &target).await? else { return Err(nothing_there(&target)) };
    let (records, failure) = match records_of(&ctx.cluster, &target).await {
        Ok(records) => (records, None),
        Err(error) => (Vec::new(), Some(error.message)),
    };
    let hidden = hidden(ctx, &target).await?;
    let applied_by = applied_by(ctx, &target, &object).await;
    let fields = authors(&object, &Evidence { records: &records, hidden, applied_by });
    print(ctx, args, &target, &fields)?;
    Ok(match failure {
        Some(failure) => {
            ctx.printer.say(&format!("warning: the records do not say who it was: {failure}"));
            Exit::Half
        }
        None => Exit::Done,
    })
}

/// The engine's object whose inventory lists this one. Who may not ask sees the manager's name, which is what is known then.
async fn applied_by(ctx: &Ctx<'_>, target: &Target, object: &Value) -> Option<AppliedBy> {
    let applied = origin(&ctx.cluster, target, Some(object)).await.ok()?.applied_by?;
    Some(AppliedBy { engine: Engine::Flux, name: applied.to_string(), revision: applied.revision })
}

/// JSON pointers to what the policy hides of objects like this.
async fn hidden(ctx: &Ctx<'_>, target: &Target) -> Result<Vec<String>> {
    let rules = match policy_in_force(&ctx.cluster).await {
        Ok(policy) => policy.rules,
        // Where breakglass is not there, what it hides by itself is hidden all the same.
        Err(error) => Rules::built_in().map_err(|_| error)?,
    };
    Ok(rules.hidden(target.group(), &target.kind))
}

fn print(ctx: &mut Ctx<'_>, args: &BlameArgs, target: &Target, fields: &[Field]) -> Result<()> {
    match ctx.output() {
        Output::Json => object::json(ctx.printer, &document(target, fields)),
        Output::Yaml => object::yaml(ctx.printer, &document(target, fields)),
        Output::Name => fields.iter().try_for_each(|field| ctx.printer.data(&field.field)),
        output @ (Output::Table | Output::Wide) => {
            let shown: Vec<&Field> = fields.iter().filter(|field| args.all || is_somebodys(field)).collect();
            let now = ctx.now();
            let rows: Vec<Vec<String>> = shown.iter().map(|field| cells(field, now)).collect();
            table::print(ctx.printer, &table::header(output, &COLUMNS, &WIDE_COLUMNS), &rows)?;
            let left_out = fields.len() - shown.len();
            if left_out > 0 {
                let sentence =
                    format!("note: {left_out} more with --all: the status, defaults that nobody set, and the stamp");
                ctx.printer.say(&sentence);
            }
            Ok(())
        }
    }
}

fn document(target: &Target, fields: &[Field]) -> Value {
    json!({"target": target, "fields": fields})
}

/// Whether a person may want to know who it was.
fn is_somebodys(field: &Field) -> bool {
    let status = field.field == "/status" || field.field.starts_with("/status/");
    !status && !matches!(field.known_by, KnownBy::Key | KnownBy::Nobody)
}

fn cells(field: &Field, now: DateTime<Utc>) -> Vec<String> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    vec![
        field.field.clone(),
        field.value.as_ref().map_or_else(|| "(hidden)".to_owned(), |value| cut(&value.to_string(), VALUE_SHOWN)),
        text(&field.who),
        text(&field.manager),
        field.time.map(|time| age::since(time.instant(), now)).unwrap_or_default(),
        text(&field.incident),
        text(&field.operation),
        text(&field.subresource),
        text(&field.change),
        text(&field.revision),
        field.known_by.as_str().to_owned(),
    ]
}
