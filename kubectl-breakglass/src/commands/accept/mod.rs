//! `accept`: what was changed in the cluster is kept, and Git says so.

// Which changes are written to Git, and to where; and which leave nothing to write.
mod sort;
// The files.
mod edit;
// The commit.
mod write;
// Its words.
mod words;

use std::path::{Component, PathBuf};

use breakglass::api::{GitPlace, Verdict};
use clap::{Args, ValueHint};
use serde_json::{Value, json};

use crate::Exit;
use crate::checkout::short;
use crate::ctx::Ctx;
use crate::error::{CommandError, Result};
use crate::ledger::Record;
use crate::pick::{Selection, select};
use crate::print::diff::{Colour, unified};
use crate::tokens::Really;
use crate::verdicts::{Given, OnRefusal, ask, give_each, without};
use crate::walk::{Shown, walk};
use crate::want::states;

/// Keep what was changed, and have Git say so
///
/// Finds the lines in Git that define what was changed, edits only those, and
/// proves it: everything that the repository renders says the same as before,
/// but for this change. The result is one commit on the branch
/// breakglass/INCIDENT of your clone, made beside your own files, which are not
/// touched. With --push it is pushed, with --pr a pull request is opened as well;
/// somebody then merges it.
///
/// Of several changes all are accepted, or none. On a terminal you are asked
/// about each; nothing is asked with --yes, and nowhere else.
///
/// What cannot be written to Git, such as what came of an exec, is accepted with
/// a --note; what a person has written there by hand with --no-commit.
///
/// Examples:
///   kubectl breakglass accept --incident INC-123 --dry-run
///   kubectl breakglass accept --incident INC-123 --push
///   kubectl breakglass accept -n prod deployment/api --repo ~/src/fleet
///   kubectl breakglass accept -n prod deployment/new --path prod/new.yaml
#[derive(Args, Clone, Debug)]
#[command(
    verbatim_doc_comment,
    override_usage = "kubectl breakglass accept CHANGE|KIND/NAME... [OPTIONS]\n       kubectl breakglass accept --incident INCIDENT [OPTIONS]"
)]
pub struct AcceptArgs {
    /// What is accepted
    #[command(flatten)]
    pub selection: Selection,
    /// A clone of the repository that the engine follows
    #[arg(long, value_name = "DIR", default_value = ".", value_hint = ValueHint::DirPath)]
    pub repo: PathBuf,
    /// The clone's remote that the engine follows, where its URL does not say so
    #[arg(long, value_name = "NAME")]
    pub remote: Option<String>,
    /// Push the branch
    #[arg(long)]
    pub push: bool,
    /// Push the branch, and open a pull request with gh or glab
    #[arg(long)]
    pub pr: bool,
    /// A new file, from the top of the repository, for an object that no engine applies yet
    #[arg(long, value_name = "FILE")]
    pub path: Option<PathBuf>,
    /// Why, for who reads it in Git and in the list
    #[arg(long, value_name = "REASON")]
    pub note: Option<String>,
    /// Give the verdict alone, because Git says it already or a person sees to it
    #[arg(long, requires = "note", conflicts_with_all = ["push", "pr", "path"])]
    pub no_commit: bool,
    /// Print the commit's diff, say what would happen, and keep nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Accept those that can be, where others cannot
    #[arg(long)]
    pub keep_going: bool,
    /// Ask nothing
    #[arg(long)]
    pub yes: bool,
}

impl AcceptArgs {
    /// The file of an object that no engine applies yet, without a `./` before it.
    fn file(&self) -> Option<PathBuf> {
        let parts = self.path.as_ref()?.components();
        Some(parts.filter(|part| !matches!(part, Component::CurDir)).collect())
    }

    /// Whether the branch is pushed.
    fn pushes(&self) -> bool {
        self.push || self.pr
    }

    fn on_refusal(&self) -> OnRefusal {
        if self.keep_going { OnRefusal::KeepGoing } else { OnRefusal::Stop }
    }
}

/// Accepts.
///
/// # Errors
/// When there is no such change, Git cannot be made to say it, or the cluster does not take the verdict.
pub async fn accept(ctx: &mut Ctx<'_>, args: &AcceptArgs) -> Result<Exit> {
    let records = select(ctx, &args.selection, Some(Verdict::Accepted)).await?;
    let records = without(ctx, &args.selection, (records, Verdict::Rejected));
    let records = match ctx.input.terminal && !args.yes && !args.dry_run {
        true => {
            let colour = ctx.printer.colour;
            walk((ctx.printer, &mut ctx.input), "Accept it?", records, |record, _| did(record, colour))?
        }
        false => records,
    };
    let Some(incident) = one_incident(&records)? else {
        ctx.printer.say("Nothing was accepted.");
        return Ok(Exit::Done);
    };
    // Before anything is written: a verdict that will not be taken leaves no commit behind.
    let (records, all) = takeable(ctx, args, records).await?;
    let mut sorted = sort::sort(ctx, args, records).await?;
    sorted.exit = worse(sorted.exit, all);
    let mut verdicts = Vec::new();
    let mut next = None;
    if !sorted.items.is_empty() {
        let written = write::write(ctx, args, (&incident, &sorted.items)).await?;
        verdicts.extend(written.places.into_iter().map(|(record, git)| given(args, record, git)));
        next = written.next;
        sorted.exit = worse(sorted.exit, written.exit);
    }
    verdicts.extend(sorted.alone.into_iter().map(|record| given(args, record, None)));
    let exit = decide(ctx, args, &verdicts).await?;
    write::say_next(ctx, args, next.as_ref());
    Ok(worse(exit, sorted.exit))
}

/// What a change did. What cannot be shown is said when it cannot be accepted.
fn did(record: &Record, colour: Colour) -> Result<Shown> {
    let Ok((before, after)) = states(record) else { return Ok(Shown::Lines(String::new())) };
    unified(("before", before.as_ref()), ("after", after.as_ref()), colour).map(Shown::Lines)
}

/// Gives the verdicts. Of a dry run stdout has the diff alone; the server was asked about them before.
async fn decide(ctx: &mut Ctx<'_>, args: &AcceptArgs, verdicts: &[Given]) -> Result<Exit> {
    if !args.dry_run {
        return give_each(ctx, verdicts, (Really::Yes, args.on_refusal())).await;
    }
    for Given { record, .. } in verdicts {
        let place = record.change.spec.target.place();
        ctx.printer.say(&format!("{} would be accepted: {place}", record.name));
    }
    Ok(Exit::Done)
}

fn worse(one: Exit, other: Exit) -> Exit {
    if one == Exit::Done { other } else { one }
}

/// The incident that all of them are of; nothing where there is none of them.
fn one_incident(records: &[Record]) -> Result<Option<String>> {
    let mut incidents: Vec<&str> = records.iter().map(|record| record.change.spec.incident.as_str()).collect();
    incidents.sort_unstable();
    incidents.dedup();
    match incidents[..] {
        [] => Ok(None),
        [incident] => Ok(Some(incident.to_owned())),
        [first, ..] => {
            let message = format!("these are changes of {}: a commit is of one incident", incidents.join(" and "));
            Err(CommandError::usage(message).hint(format!("kubectl breakglass accept --incident {first}")))
        }
    }
}

/// Those whose verdict the cluster would take.
async fn takeable(ctx: &mut Ctx<'_>, args: &AcceptArgs, records: Vec<Record>) -> Result<(Vec<Record>, Exit)> {
    let (mut taken, mut exit) = (Vec::new(), Exit::Done);
    for record in records {
        match ask(&ctx.cluster, &record, &status(args, &record, None)).await {
            Ok(()) => taken.push(record),
            Err(error) if args.keep_going => {
                ctx.printer.say(&error.to_string());
                exit = Exit::Half;
            }
            Err(error) => return Err(error),
        }
    }
    Ok((taken, exit))
}

fn given(args: &AcceptArgs, record: Record, git: Option<GitPlace>) -> Given {
    let at = git.as_ref().and_then(|git| Some(format!(", in {}", short(git.commit.as_ref()?))));
    let sentence = format!("accepted{}", at.unwrap_or_default());
    let status = status(args, &record, git.as_ref());
    Given { record, status, sentence }
}

/// What another verdict said beside itself is over with it. The same one again keeps its note.
fn status(args: &AcceptArgs, record: &Record, git: Option<&GitPlace>) -> Value {
    let same = record.change.status.as_ref().filter(|status| status.verdict == Some(Verdict::Accepted));
    let note = args.note.as_ref().or_else(|| same.and_then(|status| status.note.as_ref()));
    json!({"verdict": Verdict::Accepted, "until": null, "note": note, "git": git})
}
