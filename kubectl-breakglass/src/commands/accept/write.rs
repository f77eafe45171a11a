//! The commit: the source is edited and proven, committed, and pushed where that is asked for.
//!
//! Every step finds out whether it was taken before: a run that was ended between two of them is repeated to the same end.

use std::collections::BTreeMap;

use breakglass::api::GitPlace;

use super::AcceptArgs;
use super::edit::{Staged, stage};
use super::sort::Item;
use super::words::message;
use crate::Exit;
use crate::checkout::{Branches, Checkout, Proposal, PullRequests, Remote, Worktree, short};
use crate::ctx::Ctx;
use crate::destination::Destination;
use crate::error::{CommandError, Result};
use crate::ledger::Record;
use crate::print::diff::{Colour, painted};
use crate::print::table::printable;

/// The letters that a record has for the files of a commit.
const PATH_LIMIT: usize = 4096;

/// What was written.
pub(super) struct Written {
    /// Each change, and where in Git it is; nowhere where it has left nothing behind.
    pub(super) places: Vec<(Record, Option<GitPlace>)>,
    /// What there is to do next.
    pub(super) next: Option<Next>,
    /// Whether some had to be left.
    pub(super) exit: Exit,
}

/// A branch that is not in what the engine follows.
pub(super) struct Next {
    checkout: Checkout,
    branch: String,
    followed: String,
    /// Where it is proposed.
    pull_request: Option<String>,
}

/// Has Git say what the cluster says of these objects, in one commit.
pub(super) async fn write(ctx: &mut Ctx<'_>, args: &AcceptArgs, (incident, items): (&str, &[Item])) -> Result<Written> {
    let destination = one_destination(items)?;
    let remote = Remote::of(args.remote.as_deref(), &destination.url);
    let checkout = Checkout::open(&args.repo, remote).await?;
    let top = checkout.top.clone();
    // Before anything is written: what cannot be opened leaves no commit behind.
    let requests = if args.pr { Some(PullRequests::of(&top, &destination.url).await?) } else { None };
    let branch = format!("breakglass/{incident}");
    let worktree = checkout.begin(Branches { followed: &destination.branch, written: &branch }).await?;
    let since = items.iter().flat_map(|item| &item.records).map(|record| record.change.spec.time.instant()).min();
    let mut committed = worktree.committed(since.unwrap_or_else(|| ctx.now())).await?;
    let staged = stage(ctx, args, (&worktree, items), &committed).await?;
    let diff = worktree.difference().await?;
    let mut next = Next { checkout, branch, followed: destination.branch.clone(), pull_request: None };
    if args.dry_run {
        rehearse(ctx, &next, &diff)?;
    } else if !diff.is_empty() {
        let commit = commit(ctx, args, (incident, &staged), (&worktree, &next)).await?;
        committed.extend(staged.fresh.iter().map(|record| (record.name.clone(), commit.clone())));
    }
    let is_merged = diff.is_empty() && worktree.is_in_followed();
    if diff.is_empty() {
        ctx.printer.say(&format!(
            "Nothing to commit: {} says it already.",
            if is_merged { &next.followed } else { &next.branch }
        ));
    }
    let mut is_done = is_merged;
    if args.pushes() && !args.dry_run && !is_merged {
        is_done = push(ctx, &next, &worktree).await?;
    }
    if let Some(requests) = requests.filter(|_| !args.dry_run && !is_done) {
        next.pull_request = Some(propose(ctx, &next, (&requests, &worktree)).await?);
    }
    let said_by = if is_merged { &next.followed } else { &next.branch };
    let at = At { url: &destination.url, branch: &next.branch, said_by, worktree: &worktree };
    let exit = staged.exit;
    let places = places(staged, &committed, &at).await?;
    Ok(Written { places, next: (!is_done).then_some(next), exit })
}

/// One commit is on one branch of one repository.
fn one_destination(items: &[Item]) -> Result<&Destination> {
    let Some(first) = items.first() else { return Err(CommandError::failed("there is nothing to write")) };
    let same = |item: &&Item| {
        (&item.destination.url, &item.destination.branch) == (&first.destination.url, &first.destination.branch)
    };
    let Some(other) = items.iter().find(|item| !same(item)) else { return Ok(&first.destination) };
    let name = |item: &Item| item.target().map_or_else(String::new, |target| target.place());
    let message = format!(
        "{} comes from {} of {}, and {} from {} of {}: one commit cannot be on both",
        name(first),
        first.destination.branch,
        first.destination.url,
        name(other),
        other.destination.branch,
        other.destination.url
    );
    let hints = [first, other].map(|item| item.records.first().map_or_else(String::new, |record| record.name.clone()));
    Err(hints.iter().fold(CommandError::failed(message), |error, change| {
        error.hint(format!("kubectl breakglass accept {change} --repo DIR"))
    }))
}

/// The diff to stdout, as it would be committed; the rest is talk.
fn rehearse(ctx: &mut Ctx<'_>, next: &Next, diff: &str) -> Result<()> {
    match ctx.printer.colour {
        Colour::Plain => ctx.printer.bytes(diff.as_bytes())?,
        Colour::Ansi => ctx.printer.bytes(painted(diff, Colour::Ansi).as_bytes())?,
    }
    if !diff.is_empty() {
        let top = next.checkout.top.display();
        ctx.printer.say(&format!("Dry run, nothing was kept: this would be one commit on {} of {top}.", next.branch));
    }
    Ok(())
}

async fn commit(
    ctx: &mut Ctx<'_>,
    args: &AcceptArgs,
    (incident, staged): (&str, &Staged),
    (worktree, next): (&Worktree, &Next),
) -> Result<String> {
    let records: Vec<&Record> = staged.fresh.iter().collect();
    let commit = worktree.commit(&message(incident, &staged.kept, &records, args.note.as_deref())).await?;
    let files = worktree.files_of(&commit).await?.join(", ");
    let (short, branch) = (short(&commit), &next.branch);
    ctx.printer.say(&format!("Committed {short} to {branch}: {}.", printable(&files)));
    Ok(commit)
}

/// Pushes; gives whether the engine's branch has it already.
async fn push(ctx: &mut Ctx<'_>, next: &Next, worktree: &Worktree) -> Result<bool> {
    let (branch, remote) = (&next.branch, &next.checkout.remote);
    match worktree.push().await {
        Ok(words) => {
            ctx.printer.say(&format!("Pushed {branch} to {remote}."));
            for line in words {
                ctx.printer.say(&format!("  {}", printable(&line)));
            }
            // Only a word less for the person: the push is done, and no failure may make it look otherwise.
            Ok(worktree.has_arrived(&next.followed).await.unwrap_or(false))
        }
        Err(error) => {
            let message = format!("{}; the commit is on {branch} here, and no verdict was given", error.message);
            Err(CommandError { message, ..error }.hint("the same command again, which goes on from there"))
        }
    }
}

/// Opens a pull request; gives where.
async fn propose(
    ctx: &mut Ctx<'_>,
    next: &Next,
    (requests, worktree): (&PullRequests<'_>, &Worktree),
) -> Result<String> {
    let (title, body) = worktree.words().await?;
    let (branch, followed) = (next.branch.as_str(), next.followed.as_str());
    match requests.open(&Proposal { branch, followed, title: &title, body: &body }).await {
        Ok(place) => {
            ctx.printer.say(&format!("Proposed: {}.", printable(&place)));
            Ok(place)
        }
        Err(error) => {
            let message = format!("{}; {branch} is pushed, and no verdict was given", error.message);
            Err(CommandError { message, ..error }.hint("the same command again, which goes on from there"))
        }
    }
}

/// Where a record's place is looked up.
struct At<'a> {
    url: &'a str,
    /// The branch of commits.
    branch: &'a str,
    /// The branch that said it already.
    said_by: &'a str,
    worktree: &'a Worktree,
}

/// Where each change is: in its commit; at the end of the branch, where Git said it without one.
async fn places(
    staged: Staged,
    committed: &BTreeMap<String, String>,
    at: &At<'_>,
) -> Result<Vec<(Record, Option<GitPlace>)>> {
    let tip = at.worktree.tip().await?;
    let mut places = Vec::new();
    for record in staged.done.into_iter().chain(staged.fresh) {
        let own = committed.get(&record.name);
        let path = match own {
            Some(commit) => joined(&at.worktree.files_of(commit).await?),
            None => None,
        };
        let place = GitPlace {
            repository: Some(at.url.to_owned()),
            branch: Some(if own.is_some() { at.branch } else { at.said_by }.to_owned()),
            commit: Some(own.unwrap_or(&tip).clone()),
            path,
        };
        places.push((record, Some(place)));
    }
    places.extend(staged.nothing.into_iter().map(|record| (record, None)));
    Ok(places)
}

/// As many files as there is room for.
fn joined(files: &[String]) -> Option<String> {
    let mut text = String::new();
    for file in files {
        let comma = if text.is_empty() { "" } else { ", " };
        if text.chars().count() + comma.len() + file.chars().count() > PATH_LIMIT {
            break;
        }
        text += &format!("{comma}{file}");
    }
    (!text.is_empty()).then_some(text)
}

/// What is still to be done, by a person.
pub(super) fn say_next(ctx: &mut Ctx<'_>, args: &AcceptArgs, next: Option<&Next>) {
    let Some(next) = next.filter(|_| !args.dry_run) else { return };
    let (branch, followed, remote) = (&next.branch, &next.followed, &next.checkout.remote);
    let top = next.checkout.top.display();
    if let Some(place) = &next.pull_request {
        ctx.printer.say(&format!("Next: have {} merged into {followed}, which the engine follows.", printable(place)));
    } else if args.push {
        ctx.printer.say(&format!("Next: have {branch} merged into {followed}, which the engine follows."));
    } else {
        ctx.printer.say("Next:");
        ctx.printer.say(&format!("  git -C {top} push {remote} {branch}"));
        ctx.printer.say(&format!("  and have it merged into {followed}, which the engine follows"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_names_as_many_files_as_it_has_room_for() {
        let files = |count: usize| vec!["f".repeat(2000); count];
        assert_eq!(joined(&[]), None);
        assert_eq!(joined(&["a.yaml".to_owned(), "b.yaml".to_owned()]).as_deref(), Some("a.yaml, b.yaml"));
        assert_eq!(joined(&files(3)), joined(&files(2)));
    }
}
