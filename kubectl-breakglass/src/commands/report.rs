//! `report`: what is to be told of an incident afterwards.

use clap::Args;

use crate::Exit;
use crate::cli::Format;
use crate::ctx::Ctx;
use crate::error::{CommandError, Result};
use crate::heard::hear;
use crate::in_force::policy_in_force;
use crate::ledger::{self, Keep, Which};
use crate::print::object;
use crate::report::facts::{Facts, Sources};
use crate::report::html::html;
use crate::report::markdown::markdown;
use crate::report::page::Page;
use crate::report::tell::tell;
use crate::tokens;

/// Tell what was done in an incident, for who was not there
///
/// Who opened what, why and until when; a timeline, in UTC; every write with its
/// diff; the verdicts, and how long each took; what is still owed; and what is
/// not on record, as far as that can be known, with how to look. Settled changes
/// are in it. Values that the policy hides stay hidden.
///
/// As Markdown, unless -o says html (one file, no scripts, to be printed), json
/// or yaml.
///
/// Examples:
///   kubectl breakglass report INC-123 > inc-123.md
///   kubectl breakglass report INC-123 -o html > inc-123.html
///   kubectl breakglass report INC-123 -o json | jq '.changes[].did'
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct ReportArgs {
    /// The incident
    pub incident: String,
}

/// Tells it.
///
/// # Errors
/// When nothing is on record of it, or the cluster does not answer.
pub async fn report(ctx: &mut Ctx<'_>, args: &ReportArgs) -> Result<Exit> {
    let form = Form::of(ctx)?;
    let incident = &args.incident;
    let which = Which { incident: Some(incident.clone()), settled: true, ..Which::default() };
    let (rules, tokens, ledger, heard) = futures::join!(
        policy_in_force(&ctx.cluster),
        tokens::all(&ctx.cluster),
        ledger::read(&ctx.cluster, &which, Keep::Whole),
        hear(&ctx.cluster)
    );
    let (rules, tokens, ledger) = (rules?.rules, tokens?, ledger?);
    let context = ctx.cluster.context.clone();
    let (records, now) = (&ledger.records, ctx.now());
    let sources = Sources { incident, context: &context, tokens: &tokens, records, heard: &heard, rules: &rules, now };
    let facts = Facts::gather(sources).ok_or_else(|| {
        CommandError::failed(format!("nothing is on record of {incident}: no token was opened for it"))
            .hint("kubectl get breakglasstokens")
    })?;
    match form {
        Form::Json => object::json(ctx.printer, &facts)?,
        Form::Yaml => object::yaml(ctx.printer, &facts)?,
        Form::Page(write) => ctx.printer.bytes(write(&tell(&facts)).as_bytes())?,
    }
    for failure in &ledger.failures {
        ctx.printer.say(&format!("warning: {failure}"));
    }
    Ok(if ledger.failures.is_empty() { Exit::Done } else { Exit::Half })
}

/// What a report is printed as.
enum Form {
    Json,
    Yaml,
    Page(fn(&Page) -> String),
}

impl Form {
    fn of(ctx: &Ctx<'_>) -> Result<Self> {
        let narrowed = !ctx.flags.namespaces.is_empty() || ctx.flags.selector.is_some();
        if narrowed {
            return Err(CommandError::usage("a report is about all of it, wherever that was: leave -n and -l out")
                .hint("kubectl breakglass list -n <namespace> -o wide"));
        }
        match ctx.flags.format {
            None | Some(Format::Md) => Ok(Self::Page(markdown)),
            Some(Format::Html) => Ok(Self::Page(html)),
            Some(Format::Json) => Ok(Self::Json),
            Some(Format::Yaml) => Ok(Self::Yaml),
            Some(Format::Table | Format::Wide | Format::Name) => {
                Err(CommandError::usage("a report is a page: -o md, html, json or yaml"))
            }
        }
    }
}
