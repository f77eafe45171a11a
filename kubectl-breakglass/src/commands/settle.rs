//! `settle`: what was accepted is in Git, proven, and closed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use breakglass::api::{ChangePhase, GitPlace, Span, Verdict};
use clap::{Args, ValueHint};
use serde_json::json;

use crate::Exit;
use crate::checkout::short;
use crate::commands::install::timeout;
use crate::ctx::Ctx;
use crate::error::Result;
use crate::in_git::{Said, look};
use crate::ledger::{Record, is_owed};
use crate::pick::{Named, every, oldest_first, pick};
use crate::print::table::printable;
use crate::settled::wait_settled;
use crate::tokens::Really;
use crate::verdicts::{Given, OnRefusal, give_each};

/// How long the webhook is waited for to close what is proven. It gives a held object back to its engine at once; when the engine
/// applies it next is a matter of its interval, and `--watch` waits for that.
const SETTLED_WITHIN: Duration = Duration::from_secs(20);

/// How often it is looked again: a merge and an engine take minutes, and each look renders.
const WATCH_EVERY: Duration = Duration::from_secs(15);

/// Prove that Git says what was accepted, and close it
///
/// Renders the commit that the engine applies now, from a clone of its
/// repository, and compares it with the cluster. Where both say the same of an
/// accepted change, that commit goes on its record: the webhook then gives a held
/// object back to its engine, takes the stamp off and closes the change.
///
/// Most changes are closed without it, as soon as the engine has applied them.
/// It is for those that cannot be seen from the cluster alone: a held object whose
/// change was merged with a commit of its own (a merge commit, a squash), a field
/// that was taken away. Run it in CI after a merge, or by hand.
///
/// Exits with 3 where something is left that Git does not say, or nobody has decided.
///
/// Examples:
///   kubectl breakglass settle --repo ~/src/fleet
///   kubectl breakglass settle --incident INC-123 --watch --timeout 30m
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct SettleArgs {
    /// Changes, or objects; none: everything that is accepted
    #[arg(value_name = "CHANGE|KIND/NAME")]
    pub what: Vec<Named>,
    /// Every change of an incident
    #[arg(long, conflicts_with = "what")]
    pub incident: Option<String>,
    /// A clone of the repository that the engine follows
    #[arg(long, value_name = "DIR", default_value = ".", value_hint = ValueHint::DirPath)]
    pub repo: PathBuf,
    /// The clone's remote that the engine follows, where its URL does not say so
    #[arg(long, value_name = "NAME")]
    pub remote: Option<String>,
    /// Look again until all of it is settled
    #[arg(short = 'w', long, conflicts_with = "dry_run")]
    pub watch: bool,
    /// How long to look again; without it, until it is interrupted
    #[arg(long, value_name = "TIME", requires = "watch", value_parser = timeout)]
    pub timeout: Option<Span>,
    /// Say what is proven, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Settles.
///
/// # Errors
/// When there is no such change, the clone is none of that repository, or the cluster does not take what is proven.
pub async fn settle(ctx: &mut Ctx<'_>, args: &SettleArgs) -> Result<Exit> {
    let (accepted, undecided): (Vec<Record>, Vec<Record>) = chosen(ctx, args).await?.into_iter().partition(is_accepted);
    for record in &undecided {
        ctx.printer.say(&undecided_line(record));
    }
    if accepted.is_empty() {
        ctx.printer.say("Nothing waits to be settled: no change is accepted and open.");
    }
    let (begun, limit) = (Instant::now(), args.timeout.and_then(|limit| limit.delta().to_std().ok()));
    let is_over = || limit.is_some_and(|limit| begun.elapsed() >= limit);
    let mut told = BTreeMap::new();
    let mut open = accepted;
    let left = loop {
        let left = prove(ctx, args, (open, &mut told)).await?;
        if !args.watch || left.names().next().is_none() || is_over() {
            break left;
        }
        let names = wait_settled(ctx, left.names().cloned().collect(), WATCH_EVERY).await?;
        open = every(ctx).await?;
        open.retain(|record| is_accepted(record) && names.contains(&record.name));
    };
    // Who does not wait for it is done where it is proven.
    let is_left = !left.unproven.is_empty() || (args.watch && !left.waiting.is_empty());
    Ok(if undecided.is_empty() && !is_left { Exit::Done } else { Exit::Owed })
}

/// What is open after a look, by name.
struct Left {
    /// Git does not say it, as far as can be told.
    unproven: Vec<String>,
    /// It is proven, and the webhook has not closed it.
    waiting: Vec<String>,
}

impl Left {
    fn names(&self) -> impl Iterator<Item = &String> {
        self.unproven.iter().chain(&self.waiting)
    }
}

/// The changes that are meant and not settled, the oldest first.
async fn chosen(ctx: &Ctx<'_>, args: &SettleArgs) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for named in &args.what {
        records.extend(pick(ctx, named).await?);
    }
    if args.what.is_empty() {
        records = every(ctx).await?;
        records.retain(|record| match &args.incident {
            Some(incident) => record.change.spec.incident.eq_ignore_ascii_case(incident),
            None => is_accepted(record),
        });
    }
    records.retain(|record| is_owed(&record.change));
    oldest_first(&mut records);
    records.dedup_by(|a, b| a.name == b.name);
    Ok(records)
}

fn is_accepted(record: &Record) -> bool {
    record.change.status.as_ref().is_some_and(|status| status.phase == Some(ChangePhase::Accepted))
}

fn undecided_line(record: &Record) -> String {
    let (name, place) = (&record.name, record.change.spec.target.place());
    let phase = record.change.status.as_ref().and_then(|status| status.phase);
    match phase {
        Some(ChangePhase::Rejected) => {
            format!("{place}: {name} is rejected, and not put back yet: kubectl breakglass reject {name}")
        }
        Some(ChangePhase::Deferred) => format!("{place}: {name} is deferred: nobody has decided yet"),
        Some(ChangePhase::Admitted | ChangePhase::Pending | ChangePhase::Accepted | ChangePhase::Settled) | None => {
            format!("{place}: {name} waits for a verdict: kubectl breakglass show {name}")
        }
    }
}

/// One look at all of them: what is proven is written and waited for.
async fn prove(
    ctx: &mut Ctx<'_>,
    args: &SettleArgs,
    (records, told): (Vec<Record>, &mut BTreeMap<String, Said>),
) -> Result<Left> {
    let (mut names, mut proven, mut unproven) = (Vec::new(), Vec::new(), Vec::new());
    for (record, said) in look(ctx, (&args.repo, args.remote.as_deref()), records).await? {
        let is_news = told.insert(record.name.clone(), said.clone()).as_ref() != Some(&said);
        match said {
            Said::Yes(git) => {
                names.push(record.name.clone());
                proven.extend(is_news.then(|| given(record, &git)));
            }
            Said::No { why, places } => {
                if is_news {
                    say_no(ctx, &record, (&why, &places));
                }
                unproven.push(record.name);
            }
        }
    }
    let really = if args.dry_run { Really::DryRun } else { Really::Yes };
    give_each(ctx, &proven, (really, OnRefusal::Stop)).await?;
    if args.dry_run {
        return Ok(Left { unproven, waiting: names });
    }
    let waiting = wait_settled(ctx, names, SETTLED_WITHIN).await?;
    for name in &waiting {
        ctx.printer.say(&format!("note: the webhook closes {name} when its engine has applied it once more"));
    }
    Ok(Left { unproven, waiting })
}

/// The commit goes on the record; the verdict stays who gave it.
fn given(record: Record, git: &GitPlace) -> Given {
    let [branch, commit] = [&git.branch, &git.commit].map(|name| name.as_deref().unwrap_or_default());
    let sentence = format!("proven, {branch}@{} says so", short(commit));
    Given { record, status: json!({"verdict": Verdict::Accepted, "git": git}), sentence }
}

fn say_no(ctx: &mut Ctx<'_>, record: &Record, (why, places): (&str, &[String])) {
    let (name, place) = (&record.name, record.change.spec.target.place());
    ctx.printer.say(&format!("{place}: {name} is not settled: {}", printable(why)));
    for place in places {
        ctx.printer.say(&format!("  {}", printable(place)));
    }
}
