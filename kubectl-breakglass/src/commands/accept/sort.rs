//! Which changes are written to Git, and to where; and which leave nothing to write.

use std::path::Path;

use breakglass::api::Target;
use breakglass::record::without_notes;
use serde_json::Value;

use super::AcceptArgs;
use crate::Exit;
use crate::checkout::{Checkout, Remote};
use crate::ctx::Ctx;
use crate::destination::{Destination, destination, of_kustomization};
use crate::error::{CommandError, Result};
use crate::ledger::Record;
use crate::live::{Now, is_hidden, now_whole};
use crate::origin::{applied_from_git, origin, repository};
use crate::pick::by_object;
use crate::print::table::printable;
use crate::want::{fields_of, nothing_for_git};

/// What is to be done about the changes.
pub(super) struct Sorted {
    /// Written to Git.
    pub(super) items: Vec<Item>,
    /// Accepted without a commit.
    pub(super) alone: Vec<Record>,
    /// Whether some had to be left.
    pub(super) exit: Exit,
}

/// An object that Git is to say something of.
pub(super) struct Item {
    /// Its changes, the oldest first.
    pub(super) records: Vec<Record>,
    /// As it is now.
    pub(super) now: Now,
    /// Where it is written.
    pub(super) destination: Destination,
    /// Whether Git knows it.
    pub(super) known: Known,
}

/// Whether Git knows an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// The engine applies it from there.
    Applied,
    /// It becomes a new file.
    New,
}

impl Item {
    /// The object.
    pub(super) fn target(&self) -> Option<&Target> {
        self.records.first().map(|record| &record.change.spec.target)
    }
}

/// Sorts the changes by object, and finds out where each comes from.
pub(super) async fn sort(ctx: &mut Ctx<'_>, args: &AcceptArgs, records: Vec<Record>) -> Result<Sorted> {
    let mut sorted = Sorted { items: Vec::new(), alone: Vec::new(), exit: Exit::Done };
    let mut for_git = Vec::new();
    for record in records {
        match nothing_for_git(&record.change.spec).filter(|_| !args.no_commit) {
            None if args.no_commit => sorted.alone.push(record),
            None => for_git.push(record),
            Some(why) => leave_out(ctx, args, (&mut sorted, vec![record]), &why)?,
        }
    }
    let objects = by_object(for_git);
    if let (Some(path), [_, _, ..]) = (&args.path, &objects[..]) {
        let message = format!("--path {} is one file: name the one object that goes there", path.display());
        return Err(CommandError::usage(message));
    }
    for records in objects {
        match place(ctx, args, &records).await {
            Ok(Place::Git(item)) => sorted.items.push(item(records)),
            Ok(Place::Nowhere(why)) => leave_out(ctx, args, (&mut sorted, records), &why)?,
            Err(error) if args.keep_going => {
                ctx.printer.say(&error.to_string());
                sorted.exit = Exit::Half;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(sorted)
}

/// Where the changes of an object go.
enum Place {
    Git(Box<dyn FnOnce(Vec<Record>) -> Item>),
    Nowhere(String),
}

/// Accepts what leaves nothing to write, where somebody says why.
fn leave_out(
    ctx: &mut Ctx<'_>,
    args: &AcceptArgs,
    (sorted, records): (&mut Sorted, Vec<Record>),
    why: &str,
) -> Result<()> {
    let Some(first) = records.first() else { return Ok(()) };
    let place = first.change.spec.target.place();
    if args.note.is_some() {
        ctx.printer.say(&format!("note: {place}: {why}: accepted without a commit"));
        sorted.alone.extend(records);
        return Ok(());
    }
    let error =
        CommandError::failed(format!("{place}: {why}, so there is nothing to write to Git: say why that is well"))
            .hint(format!("kubectl breakglass accept {} --note \"…\"", first.name));
    if !args.keep_going {
        return Err(error);
    }
    ctx.printer.say(&error.to_string());
    sorted.exit = Exit::Half;
    Ok(())
}

async fn place(ctx: &mut Ctx<'_>, args: &AcceptArgs, records: &[Record]) -> Result<Place> {
    let Some(last) = records.last() else { return Ok(Place::Nowhere(String::new())) };
    let target = &last.change.spec.target;
    if is_hidden(&ctx.cluster, target).await? {
        return Err(hidden(records)?);
    }
    let now = now_whole(&ctx.cluster, target).await?;
    if let Some(parent) = now.object().and_then(parent) {
        return Ok(Place::Nowhere(format!("{parent} makes it")));
    }
    let before = last.change.spec.before.clone().map(without_notes);
    let origin = origin(&ctx.cluster, target, now.object().or(before.as_ref())).await?;
    if let Some(lie) = origin.lie() {
        ctx.printer.say(&format!("note: {}: {}", target.place(), printable(&lie)));
    }
    let found = destination(&ctx.cluster, &origin).await.map_err(|error| about(error, last))?;
    let (destination, known) = match (found, &args.file()) {
        (Some(destination), None) => (destination, Known::Applied),
        (Some(_), Some(path)) => {
            let message = format!("{} stands in Git already: it needs no --path {}", target.place(), path.display());
            return Err(CommandError::usage(message));
        }
        (None, _) if now == Now::Gone => return Ok(Place::Nowhere("no engine applies it, and it is gone".to_owned())),
        (None, Some(path)) => (destination_of_file(ctx, args, path).await?, Known::New),
        (None, None) => {
            let message = format!("no engine applies {}: say which file it is to become", target.place());
            return Err(CommandError::failed(message)
                .hint(format!("kubectl breakglass accept {} --path FILE.yaml", last.name))
                .hint(format!("kubectl breakglass show {}", last.name)));
        }
    };
    Ok(Place::Git(Box::new(move |records| Item { records, now, destination, known })))
}

/// Who makes the object, as a controller: what it is cannot be said in Git but through them.
fn parent(object: &Value) -> Option<String> {
    let owners = object.pointer("/metadata/ownerReferences")?.as_array()?;
    let parent = owners.iter().find(|owner| owner.get("controller") == Some(&Value::Bool(true)))?;
    let text = |key: &str| parent.get(key).and_then(Value::as_str).map(printable);
    Some(format!("{} {}", text("kind")?, text("name")?))
}

/// Who applies a file that does not exist yet: the Kustomization with the deepest folder around it, in the repository at hand.
async fn destination_of_file(ctx: &Ctx<'_>, args: &AcceptArgs, path: &Path) -> Result<Destination> {
    let mut around = applied_from_git(&ctx.cluster).await?;
    around.retain(|applied| path.starts_with(&applied.path));
    around.sort_by_key(|applied| std::cmp::Reverse(applied.path.len()));
    for applied in &around {
        let Ok(destination) = of_kustomization(applied, repository(&ctx.cluster, &applied.source).await?) else {
            continue;
        };
        let remote = Remote::of(args.remote.as_deref(), &destination.url);
        if Checkout::open(&args.repo, remote).await.is_ok() {
            return Ok(destination);
        }
    }
    let repo = args.repo.canonicalize().unwrap_or_else(|_| args.repo.clone());
    let message =
        format!("no Kustomization of Flux applies {} of what {} is a clone of", path.display(), repo.display());
    Err(CommandError::failed(message).hint("kubectl get kustomizations.kustomize.toolkit.fluxcd.io -A -o wide"))
}

/// The names of what differs, and no value of it.
fn hidden(records: &[Record]) -> Result<CommandError> {
    let mut keys = Vec::new();
    for record in records {
        keys.extend(fields_of(record)?.iter().map(|field| printable(field)));
    }
    keys.sort_unstable();
    keys.dedup();
    let place = records.last().map_or_else(String::new, |record| record.change.spec.target.place());
    let names: Vec<&str> = records.iter().map(|record| record.name.as_str()).collect();
    let differ = keys.join(", ");
    let message =
        format!("{place}: the policy hides its values, and none of them is written to Git. These differ: {differ}");
    Ok(CommandError::failed(message)
        .hint("change it where its values are kept, and then:")
        .hint(format!("kubectl breakglass accept {} --no-commit --note \"…\"", names.join(" "))))
}

fn about(error: CommandError, record: &Record) -> CommandError {
    let place = record.change.spec.target.place();
    let by_hand = format!("kubectl breakglass accept {} --no-commit --note \"…\"", record.name);
    CommandError { message: format!("{place}: {}", error.message), ..error }.hint(by_hand)
}
