//! `list`: changes and stamped objects, one row each.

use std::collections::{BTreeMap, BTreeSet};

use breakglass::api::Mode;
use breakglass::stamp;
use chrono::{DateTime, Utc};
use clap::Args;
use futures::StreamExt;
use serde_json::json;

use crate::Exit;
use crate::cli::{GlobalFlags, Output};
use crate::ctx::Ctx;
use crate::discover::discover;
use crate::error::Result;
use crate::follow::Follow;
use crate::gone::confirm_deletes;
use crate::ledger::{self, Keep, Record, Which};
use crate::print::table::{self, Widths};
use crate::print::{Printer, object};
use crate::row_state::RowState;
use crate::rows::{COLUMNS, Row, WIDE_COLUMNS, join, unknown_changes};
use crate::scan::{PARALLEL, Scan, Where};
use crate::since::Since;
use crate::stamped::{Stamped, stamped};
use crate::would_refuse;

/// How many lines are written at once: a call to the system each would take longer than making them.
const AT_ONCE: usize = 500;

/// See what was changed, and is not settled
///
/// One row for each direct write: those under a token, from the ledger, until
/// they are settled; and objects that carry a stamp without a record, such as
/// those written where no token is needed (noted). All namespaces that you can
/// read are looked at; -n narrows. DUE is how long there is to decide, the day
/// that it was put off to, or for how long it is overdue.
///
/// While the policy's mode is Warn or Audit, the last line says how many writes
/// would have been refused, and whose; -o json has wouldBeRefused for each.
///
/// Examples:
///   kubectl breakglass list
///   kubectl breakglass list -n prod --incident INC-123 -o wide
///   kubectl breakglass list --state pending,deferred --since 24h
///   kubectl breakglass list -A --overdue --exit-code   # for cron: 3 when any is
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment, visible_alias = "ls")]
pub struct ListArgs {
    /// Only this incident
    #[arg(long)]
    pub incident: Option<String>,
    /// Only what this user wrote
    #[arg(long)]
    pub user: Option<String>,
    /// Only these states; settled ones are hidden unless asked for
    #[arg(long, value_enum, value_delimiter = ',')]
    pub state: Vec<RowState>,
    /// Only what somebody had to decide by now, and did not
    #[arg(long)]
    pub overdue: bool,
    /// Only objects that this owns in Git, such as flux-system/prod
    #[arg(long, value_name = "[NAMESPACE/]NAME")]
    pub owner: Option<String>,
    /// Only what was written since, such as 24h (ago) or 2026-11-01 (UTC)
    #[arg(long, value_name = "TIME")]
    pub since: Option<Since>,
    /// Print only how many there are
    #[arg(long, conflicts_with = "watch")]
    pub count: bool,
    /// Exit with 3 when something is owed
    #[arg(long, conflicts_with = "watch")]
    pub exit_code: bool,
    /// Go on, and print what is new
    #[arg(short = 'w', long)]
    pub watch: bool,
}

/// Lists.
///
/// # Errors
/// When the ledger cannot be read, why. What only makes the list shorter is said, and ends with exit code 1.
pub async fn list(ctx: &mut Ctx<'_>, args: &ListArgs) -> Result<Exit> {
    let found = find(ctx, args).await?;
    let view = View::of(ctx, &found.rows);
    print(ctx, args, &view, &found.rows)?;
    for failure in &found.failures {
        ctx.printer.say(&format!("warning: {failure}"));
    }
    // For people, and not for scripts, which take what they may see for granted.
    if found.unreadable > 0 && matches!(ctx.output(), Output::Table | Output::Wide) && !args.count {
        ctx.printer.say(&format!(
            "note: {} not readable everywhere with your rights: objects written without a token may be missing; changes \
             under a token are all here.",
            plural(found.unreadable, "kind is", "kinds are")
        ));
    }
    // Whoever tries a policy out wants to know what it would have stopped.
    if let Some(sentence) = would_refuse::sentence(&found.rows, found.mode) {
        ctx.printer.say(&sentence);
    }
    if args.watch {
        follow(ctx, args, view, found).await?;
        return Ok(Exit::Done);
    }
    Ok(match found.failures.is_empty() {
        false => Exit::Half,
        true if args.exit_code && found.rows.iter().any(Row::is_owed) => Exit::Owed,
        true => Exit::Done,
    })
}

fn plural(number: usize, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

/// What was found, and what was not.
struct Found {
    rows: Vec<Row>,
    failures: Vec<String>,
    unreadable: usize,
    /// The policy's, where some rows were written without a token.
    mode: Option<Mode>,
    /// From where a watch goes on.
    version: String,
}

async fn find(ctx: &Ctx<'_>, args: &ListArgs) -> Result<Found> {
    let (which, keep) = (which(ctx, args), keep(ctx.output()));
    let selector = match &ctx.flags.selector {
        Some(labels) => format!("{},{labels}", stamp::STATE),
        None => stamp::STATE.to_owned(),
    };
    let place = if which.namespaces.is_empty() { Where::Everywhere } else { Where::In(which.namespaces.clone()) };
    let (ledger, live) = futures::join!(ledger::read(&ctx.cluster, &which, keep), async {
        let kinds = discover(&ctx.cluster).await?;
        Ok(stamped(&ctx.cluster, &kinds, &place, &selector).await)
    });
    let (ledger, mut live): (_, Scan<Stamped>) = (ledger?, live?);
    live.failures.extend(ledger.failures);
    let mut records = ledger.records;
    if let Some(labels) = &ctx.flags.selector {
        keep_selected(ctx, labels, &mut records, &live).await?;
    }
    // A stamp of another incident or user would be on no row: its record is not looked for.
    live.objects.retain(|object| is_stamp_asked_for(object, args));
    let unknown = unknown_changes(&records, &live.objects);
    records.extend(look_up(ctx, &unknown, keep).await);
    let mut rows = join(records, live.objects);
    confirm_deletes(&ctx.cluster, &mut rows).await;
    let now = ctx.now();
    rows.retain(|row| is_asked_for(row, args, now));
    // A record that was looked up by name may lie outside of what was asked for.
    let elsewhere = |row: &Row| row.change_name.as_ref().is_some_and(|name| unknown.contains(name));
    rows.retain(|row| {
        let inside = row.namespace.as_ref().is_some_and(|namespace| which.namespaces.contains(namespace));
        which.namespaces.is_empty() || inside || !elsewhere(row)
    });
    let mode = would_refuse::mark(&ctx.cluster, &mut rows, ctx.now()).await;
    Ok(Found { rows, failures: live.failures, unreadable: live.unreadable.len(), mode, version: ledger.version })
}

fn which(ctx: &Ctx<'_>, args: &ListArgs) -> Which {
    let namespaces = if ctx.flags.all_namespaces { Vec::new() } else { ctx.flags.namespaces.clone() };
    Which {
        incident: args.incident.clone(),
        namespaces,
        user: args.user.clone(),
        settled: args.state.contains(&RowState::Settled),
    }
}

/// Bodies are kept only for who prints them.
fn keep(output: Output) -> Keep {
    match output {
        Output::Json | Output::Yaml => Keep::Whole,
        Output::Table | Output::Wide | Output::Name => Keep::Lines,
    }
}

/// `-l` means labels of the objects that were written to, and of the records.
async fn keep_selected(ctx: &Ctx<'_>, labels: &str, records: &mut Vec<Record>, live: &Scan<Stamped>) -> Result<()> {
    let selected = ledger::names_selected(&ctx.cluster, labels).await?;
    let uids: BTreeSet<&str> = live.objects.iter().map(|object| object.uid.as_str()).collect();
    records.retain(|record| {
        let uid = record.change.spec.target.uid.as_deref();
        selected.contains(&record.name) || uid.is_some_and(|uid| uids.contains(uid))
    });
    Ok(())
}

/// Records that stamps name and the LIST did not return: settled since, or gone, or elsewhere.
async fn look_up(ctx: &Ctx<'_>, names: &BTreeSet<String>, keep: Keep) -> Vec<Record> {
    let found =
        futures::stream::iter(names).map(|name| ledger::named(&ctx.cluster, name, keep)).buffer_unordered(PARALLEL);
    // What cannot be looked up stays a stamp without a record, which is what is known of it.
    found.filter_map(|record| async move { record.ok().flatten() }).collect().await
}

/// Whether a stamp is of the incident and of the user that are asked for, as far as it says.
fn is_stamp_asked_for(object: &Stamped, args: &ListArgs) -> bool {
    let says = |key: &str| object.annotations.get(key).map(String::as_str).unwrap_or_default();
    let incident = args.incident.as_ref();
    incident.is_none_or(|asked| says(stamp::INCIDENT).eq_ignore_ascii_case(asked))
        && args.user.as_ref().is_none_or(|user| says(stamp::USER) == user)
}

fn is_asked_for(row: &Row, args: &ListArgs, now: DateTime<Utc>) -> bool {
    let earliest = args.since.map(|since| since.moment(now));
    let state = if args.state.is_empty() { row.state != RowState::Settled } else { args.state.contains(&row.state) };
    state
        && args
            .incident
            .as_ref()
            .is_none_or(|asked| row.incident.as_ref().is_some_and(|incident| incident.eq_ignore_ascii_case(asked)))
        && args.user.as_ref().is_none_or(|user| row.user == *user)
        && (!args.overdue || row.is_overdue(now))
        && args.owner.as_ref().is_none_or(|owner| row.owner.as_ref().is_some_and(|found| is_owner(found, owner)))
        && earliest.is_none_or(|earliest| row.time.is_some_and(|time| time >= earliest))
}

/// Whether what a record calls `Kustomization flux-system/prod` is what somebody asks for: all of it, or its end.
fn is_owner(found: &str, asked: &str) -> bool {
    found.strip_suffix(asked).is_some_and(|rest| rest.is_empty() || rest.ends_with([' ', '/']))
}

fn titles(output: Output) -> Vec<&'static str> {
    table::header(output, &COLUMNS, &WIDE_COLUMNS)
}

/// How rows become lines.
#[derive(Clone)]
struct View {
    output: Output,
    widths: Widths,
    now: DateTime<Utc>,
}

impl View {
    fn of(ctx: &Ctx<'_>, rows: &[Row]) -> Self {
        let (output, now) = (ctx.output(), ctx.now());
        let mut view = Self { output, widths: Widths::of(&titles(output), &[]), now };
        // Row by row: the cells of all of them at once would be as large again as what they are made of.
        rows.iter().for_each(|row| view.widths.widen(&view.cells(row)));
        view
    }

    fn cells(&self, row: &Row) -> Vec<String> {
        let mut cells = row.cells(self.now);
        if self.output == Output::Wide {
            cells.extend(row.wide_cells());
        }
        cells
    }

    fn header(&self) -> String {
        self.widths.line(&titles(self.output))
    }

    fn line(&self, row: &Row) -> String {
        self.widths.line(&self.cells(row))
    }

    /// Many rows, written at once where they are lines.
    fn print_all(&self, printer: &mut Printer, rows: &[Row]) -> Result<()> {
        let lines = |line: &dyn Fn(&Row) -> String| rows.iter().map(|row| line(row) + "\n").collect::<String>();
        match self.output {
            Output::Table | Output::Wide => printer.bytes(lines(&|row| self.line(row)).as_bytes()),
            Output::Name => printer.bytes(lines(&Row::full_name).as_bytes()),
            Output::Json | Output::Yaml => rows.iter().try_for_each(|row| self.print(printer, row)),
        }
    }

    fn print(&self, printer: &mut Printer, row: &Row) -> Result<()> {
        match self.output {
            Output::Table | Output::Wide => printer.data(&self.line(row)),
            Output::Name => printer.data(&row.full_name()),
            Output::Json => object::json(printer, row),
            Output::Yaml => {
                printer.data("---")?;
                object::yaml(printer, row)
            }
        }
    }
}

fn print(ctx: &mut Ctx<'_>, args: &ListArgs, view: &View, rows: &[Row]) -> Result<()> {
    if args.count {
        return ctx.printer.data(&rows.len().to_string());
    }
    let document = || json!({"apiVersion": "v1", "kind": "List", "items": rows});
    match view.output {
        // Something that goes on cannot be one document.
        Output::Json if !args.watch => object::json(ctx.printer, &document()),
        Output::Yaml if !args.watch => object::yaml(ctx.printer, &document()),
        Output::Table | Output::Wide if rows.is_empty() && !args.watch => {
            let sentence = nothing(args, &ctx.flags);
            ctx.printer.say(sentence);
            Ok(())
        }
        Output::Table | Output::Wide | Output::Json | Output::Yaml | Output::Name => {
            if matches!(view.output, Output::Table | Output::Wide) {
                ctx.printer.data(&view.header())?;
            }
            rows.chunks(AT_ONCE).try_for_each(|rows| view.print_all(ctx.printer, rows))
        }
    }
}

fn nothing(args: &ListArgs, flags: &GlobalFlags) -> &'static str {
    let narrowed = args.incident.is_some()
        || args.user.is_some()
        || !args.state.is_empty()
        || args.overdue
        || args.owner.is_some()
        || args.since.is_some()
        || flags.selector.is_some()
        || (!flags.namespaces.is_empty() && !flags.all_namespaces);
    if narrowed {
        "Nothing like that is on the list."
    } else {
        "Nothing is owed: there is no direct write that is not settled."
    }
}

async fn follow(ctx: &mut Ctx<'_>, args: &ListArgs, view: View, found: Found) -> Result<()> {
    let seen: BTreeMap<String, RowState> =
        found.rows.iter().filter_map(|row| Some((row.change_name.clone()?, row.state))).collect();
    // A record that becomes settled leaves a narrower watch without a word.
    let which = Which { settled: true, ..which(ctx, args) };
    let cluster = ctx.cluster.clone();
    let follow = Follow { cluster: &cluster, which, keep: keep(view.output), seen, version: found.version };
    follow
        .run(|row| {
            let now = ctx.now();
            if is_asked_for(&row, args, now) {
                return View { now, ..view.clone() }.print(ctx.printer, &row);
            }
            Ok(())
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_named_in_full_or_by_its_end() {
        for (asked, expected) in [
            ("Kustomization flux-system/prod", true),
            ("flux-system/prod", true),
            ("prod", true),
            ("rod", false),
            ("flux-system/staging", false),
        ] {
            assert_eq!(is_owner("Kustomization flux-system/prod", asked), expected, "{asked}");
        }
    }
}
