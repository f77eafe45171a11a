//! The files: edited so that they say what the cluster says, proven, and made ready for the commit.

use std::collections::BTreeMap;

use breakglass::api::Target;

use super::AcceptArgs;
use super::sort::{Item, Known};
use super::words::Kept;
use crate::Exit;
use crate::checkout::Worktree;
use crate::ctx::Ctx;
use crate::error::{CommandError, Result};
use crate::ledger::Record;
use crate::print::table::printable;
use crate::source::render::Kubectl;
use crate::source::tree::Tree;
use crate::source::{Entry, Stop, Wanted, edit};
use crate::want::{Want, object_of, want};

/// What became of the changes.
pub(super) struct Staged {
    /// The objects that the next commit is about.
    pub(super) kept: Vec<Kept>,
    /// Changes that it is about, or that Git says already without a commit of ours.
    pub(super) fresh: Vec<Record>,
    /// Changes that a commit is about already.
    pub(super) done: Vec<Record>,
    /// Changes that left nothing behind.
    pub(super) nothing: Vec<Record>,
    /// Whether some had to be left.
    pub(super) exit: Exit,
}

/// Changes of one object, and what they want Git to say.
struct Ready {
    records: Vec<Record>,
    wanted: Wanted,
    what: String,
    target: Target,
}

/// Edits the files of a worktree, for every change that no commit is about yet.
pub(super) async fn stage(
    ctx: &mut Ctx<'_>,
    args: &AcceptArgs,
    (worktree, items): (&Worktree, &[Item]),
    committed: &BTreeMap<String, String>,
) -> Result<Staged> {
    let (kept, fresh, done, nothing) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut staged = Staged { kept, fresh, done, nothing, exit: Exit::Done };
    let mut groups: Vec<(&Entry, Vec<Ready>)> = Vec::new();
    for item in items {
        let is_done = |record: &Record| committed.contains_key(&record.name);
        let (done, fresh): (Vec<Record>, Vec<Record>) = item.records.iter().cloned().partition(is_done);
        staged.done.extend(done);
        match want(&fresh, &item.now) {
            Ok(None) => staged.nothing.extend(fresh),
            Ok(Some(want)) => {
                let ready = ready(args, item, (fresh, want))?;
                let entry = &item.destination.entry;
                // One of which nothing can be written must not keep the others from being written.
                let mut same = groups.iter_mut().filter(|(known, _)| !args.keep_going && *known == entry);
                match same.next() {
                    Some((_, group)) => group.extend(ready),
                    None => groups.push((entry, ready.into_iter().collect())),
                }
            }
            Err(error) => leave(ctx, args, (&mut staged, error))?,
        }
    }
    for (entry, group) in groups {
        match write(worktree, entry, &group).await {
            Ok(is_new) => {
                let about = |one: &Ready| Kept { target: one.target.clone(), what: one.what.clone() };
                staged.kept.extend(group.iter().filter(|_| is_new).map(about));
                staged.fresh.extend(group.into_iter().flat_map(|one| one.records));
            }
            Err(error) => leave(ctx, args, (&mut staged, error))?,
        }
    }
    Ok(staged)
}

/// Goes on without, where that is wanted.
fn leave(ctx: &mut Ctx<'_>, args: &AcceptArgs, (staged, error): (&mut Staged, CommandError)) -> Result<()> {
    if !args.keep_going {
        return Err(error);
    }
    ctx.printer.say(&error.to_string());
    staged.exit = Exit::Half;
    Ok(())
}

fn ready(args: &AcceptArgs, item: &Item, (records, want): (Vec<Record>, Want)) -> Result<Option<Ready>> {
    let Some(target) = item.target().cloned() else { return Ok(None) };
    let object = object_of(&target);
    let what = match (item.known, &want.after, &want.before) {
        (_, None, _) => "deleted".to_owned(),
        (Known::New, ..) | (_, _, None) => "new".to_owned(),
        (Known::Applied, Some(_), Some(_)) => want.fields.join(", "),
    };
    let (before, path) = match item.known {
        Known::Applied => (want.before, None),
        Known::New => (None, args.file()),
    };
    Ok(Some(Ready { records, wanted: Wanted { object, before, after: want.after, path }, what, target }))
}

/// Edits for objects that are rendered from one place; gives whether there was anything to edit.
async fn write(worktree: &Worktree, entry: &Entry, group: &[Ready]) -> Result<bool> {
    // Anew for each: the one before has written.
    let tree = Tree { beside: worktree.beside().to_owned(), ..Tree::open(&worktree.path)? };
    let wanted: Vec<Wanted> = group.iter().map(|ready| ready.wanted.clone()).collect();
    let edit = edit(&tree, entry, &wanted, &Kubectl::new("kubectl")).map_err(|stop| explained(stop, group))?;
    worktree.stage(&edit.files).await?;
    Ok(!edit.files.is_empty())
}

/// Why nothing is written, and what a person can do instead.
fn explained(stop: Stop, group: &[Ready]) -> CommandError {
    let refusal = match stop {
        Stop::Failed(error) => return error,
        Stop::Refused(refusal) => refusal,
    };
    let places: Vec<String> = group.iter().map(|ready| ready.target.place()).collect();
    let message = format!("{}: {}: nothing was written", places.join(", "), printable(&refusal.why));
    let error = refusal.places.iter().fold(CommandError::failed(message), |error, place| error.hint(printable(place)));
    let changes: Vec<&str> = group.iter().flat_map(|ready| &ready.records).map(|record| record.name.as_str()).collect();
    error.hint(format!("kubectl breakglass accept {} --no-commit --note \"…\"", changes.join(" ")))
}
