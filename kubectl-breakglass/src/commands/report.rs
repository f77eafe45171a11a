//! `report`: what is to be told of an incident afterwards.

use clap::Args;
use serde::Serialize;

use crate::Exit;
use crate::cli::Format;
use crate::commands::orphans::{Found, find};
use crate::ctx::Ctx;
use crate::error::{CommandError, Result};
use crate::heard::hear;
use crate::in_force::policy_in_force;
use crate::ledger::{self, Keep, Which};
use crate::print::object;
use crate::report::facts::{self, Facts};
use crate::report::figures::{self, Figures, Orphans};
use crate::report::html::html;
use crate::report::markdown::markdown;
use crate::report::page::Page;
use crate::report::sum_up::sum_up;
use crate::report::tell::tell;
use crate::since::Since;
use crate::tokens;

/// Tell what was done in an incident, for who was not there
///
/// Who opened what, why and until when; a timeline, in UTC; every write with its
/// diff; the verdicts, and how long each took; what is still owed; and what is
/// not on record, as far as that can be known, with how to look. Settled changes
/// are in it. Values that the policy hides stay hidden.
///
/// With --since: how many writes and incidents, by environment and by user, how
/// soon they were decided and what became of them, tokens, what is owed, and how
/// many objects no engine owns, as far as you may list them.
///
/// As Markdown, unless -o says html (one file, no scripts, to be printed), json
/// or yaml.
///
/// Examples:
///   kubectl breakglass report INC-123 > inc-123.md
///   kubectl breakglass report INC-123 -o html > inc-123.html
///   kubectl breakglass report INC-123 -o json | jq '.changes[].did'
///   kubectl breakglass report --since 30d > november.md
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct ReportArgs {
    /// The incident
    #[arg(required_unless_present = "since", conflicts_with = "since")]
    pub incident: Option<String>,
    /// Tell the figures since then: 30d (ago), 2026-11-01 (UTC), or RFC 3339
    #[arg(long, value_name = "TIME")]
    pub since: Option<Since>,
}

/// Tells it.
///
/// # Errors
/// When nothing is on record of it, or the cluster does not answer.
pub async fn report(ctx: &mut Ctx<'_>, args: &ReportArgs) -> Result<Exit> {
    let form = Form::of(ctx)?;
    match (&args.incident, args.since) {
        (Some(incident), _) => of_incident(ctx, incident, form).await,
        (None, Some(since)) => of_time(ctx, since, form).await,
        (None, None) => Err(CommandError::usage("name an incident, or say --since when")),
    }
}

async fn of_incident(ctx: &mut Ctx<'_>, incident: &str, form: Form) -> Result<Exit> {
    let which = Which { incident: Some(incident.to_owned()), settled: true, ..Which::default() };
    let (rules, tokens, ledger, heard) = futures::join!(
        policy_in_force(&ctx.cluster),
        tokens::all(&ctx.cluster),
        ledger::read(&ctx.cluster, &which, Keep::Whole),
        hear(&ctx.cluster)
    );
    let (rules, tokens, ledger) = (rules?.rules, tokens?, ledger?);
    let (context, records, now) = (&ctx.cluster.context, &ledger.records, ctx.now());
    let sources = facts::Sources { incident, context, tokens: &tokens, records, heard: &heard, rules: &rules, now };
    let facts = Facts::gather(sources).ok_or_else(|| {
        CommandError::failed(format!("nothing is on record of {incident}: no token was opened for it"))
            .hint("kubectl get breakglasstokens")
    })?;
    form.print(ctx, &facts, || tell(&facts))?;
    Ok(end(ctx, &ledger.failures))
}

async fn of_time(ctx: &mut Ctx<'_>, since: Since, form: Form) -> Result<Exit> {
    // Writes are counted where the policy guards, and so is what no engine owns.
    ctx.flags.all_namespaces = false;
    let which = Which { settled: true, ..Which::default() };
    let (rules, tokens, ledger, found) = futures::join!(
        policy_in_force(&ctx.cluster),
        tokens::all(&ctx.cluster),
        ledger::read(&ctx.cluster, &which, Keep::Lines),
        find(ctx)
    );
    let (rules, tokens, ledger) = (rules?.rules, tokens?, ledger?);
    let (orphans, failures) = count(found);
    let (context, records, now) = (&ctx.cluster.context, &ledger.records, ctx.now());
    let since = since.moment(now);
    let sources = figures::Sources { context, since, tokens: &tokens, records, orphans: &orphans, rules: &rules, now };
    let figures = Figures::count(sources);
    form.print(ctx, &figures, || sum_up(&figures))?;
    Ok(end(ctx, &[ledger.failures, failures].concat()))
}

/// How many orphans there are, as far as could be looked, and what could not be read.
fn count(found: Result<Found>) -> (Orphans, Vec<String>) {
    match found {
        Ok(Found { rows, area, doubts, failures }) => {
            let doubts = [doubts, failures.clone()].concat();
            (Orphans { objects: Some(rows.len()), place: area.words(), doubts }, failures)
        }
        Err(error) => (Orphans { doubts: vec![error.message.clone()], ..Orphans::default() }, vec![error.message]),
    }
}

/// What could not be read is missing from the report, and said.
fn end(ctx: &mut Ctx<'_>, failures: &[String]) -> Exit {
    failures.iter().for_each(|failure| ctx.printer.say(&format!("warning: {failure}")));
    if failures.is_empty() { Exit::Done } else { Exit::Half }
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

    fn print(self, ctx: &mut Ctx<'_>, facts: &impl Serialize, page: impl FnOnce() -> Page) -> Result<()> {
        match self {
            Self::Json => object::json(ctx.printer, facts),
            Self::Yaml => object::yaml(ctx.printer, facts),
            Self::Page(write) => ctx.printer.bytes(write(&page()).as_bytes()),
        }
    }
}
