//! Whether Git says what was accepted, at the very commit that the engine applies: rendered, and compared.

use std::collections::BTreeMap;
use std::path::Path;

use breakglass::api::GitPlace;
use breakglass::engine;
use breakglass::record::without_notes;

use crate::checkout::{Checkout, Remote};
use crate::ctx::Ctx;
use crate::destination::{Destination, of_kustomization};
use crate::error::{CommandError, Result};
use crate::ledger::Record;
use crate::live::now_whole;
use crate::origin::{origin, repository};
use crate::pick::by_object;
use crate::source::render::Kubectl;
use crate::source::tree::Tree;
use crate::source::{Refusal, Stop, Wanted, says};
use crate::want::{object_of, want};

/// What Git says of a change.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// The same as the cluster: here.
    Yes(GitPlace),
    /// Something else, or it cannot be told: why, and where a person can look.
    No {
        /// A sentence.
        why: String,
        /// One line each.
        places: Vec<String>,
    },
}

impl Said {
    fn no(error: CommandError) -> Self {
        Self::No { why: error.message, places: error.hints }
    }

    fn refused(refusal: &Refusal) -> Self {
        Self::No { why: refusal.why.clone(), places: refusal.places.clone() }
    }
}

/// One object, and what is wanted of it.
struct Item {
    records: Vec<Record>,
    wanted: Wanted,
    destination: Destination,
}

/// The commit of a repository that is rendered.
type Revision = (String, String, String);

/// What Git says of each of these changes, by a clone of the repository: a directory in it, and the remote that the engine follows,
/// where its URL does not say so.
///
/// # Errors
/// When the cluster does not answer, or the clone is none of the repository that the engine follows.
pub async fn look(ctx: &Ctx<'_>, clone: (&Path, Option<&str>), records: Vec<Record>) -> Result<Vec<(Record, Said)>> {
    let mut found = Vec::new();
    let mut revisions: BTreeMap<Revision, Vec<Item>> = BTreeMap::new();
    for records in by_object(records) {
        match item(ctx, &records).await? {
            Ok((revision, item)) => revisions.entry(revision).or_default().push(item),
            Err(no) => found.extend(records.into_iter().map(|record| (record, no.clone()))),
        }
    }
    for (revision, items) in revisions {
        found.extend(render(clone, &revision, items).await?);
    }
    Ok(found)
}

/// What an engine renders an object from, and what it is to say.
async fn item(ctx: &Ctx<'_>, records: &[Record]) -> Result<std::result::Result<(Revision, Item), Said>> {
    let cluster = &ctx.cluster;
    let Some(last) = records.last() else { return Ok(Err(lacks("nothing was accepted"))) };
    let target = &last.change.spec.target;
    let now = now_whole(cluster, target).await?;
    let before = last.change.spec.before.clone().map(without_notes);
    let Some(applied) = origin(cluster, target, now.object().or(before.as_ref())).await?.applied_by else {
        return Ok(Err(lacks("no Kustomization of Flux applies it")));
    };
    let Some(commit) = applied.revision.as_deref().and_then(engine::commit).map(str::to_owned) else {
        return Ok(Err(lacks(&format!("{applied} has applied nothing yet"))));
    };
    let destination = match of_kustomization(&applied, repository(cluster, &applied.source).await?) {
        Ok(destination) => destination,
        Err(error) => return Ok(Err(Said::no(error))),
    };
    Ok(match want(records, &now) {
        Ok(Some(want)) => {
            let wanted = Wanted { object: object_of(target), before: want.before, after: want.after, path: None };
            let revision = (destination.url.clone(), destination.branch.clone(), commit);
            Ok((revision, Item { records: records.to_vec(), wanted, destination }))
        }
        Ok(None) => Err(lacks("nothing of it is left in the cluster")),
        Err(error) => Err(Said::no(error)),
    })
}

fn lacks(why: &str) -> Said {
    Said::No { why: why.to_owned(), places: Vec::new() }
}

/// Renders one commit, and compares.
async fn render(
    (directory, remote): (&Path, Option<&str>),
    revision: &Revision,
    items: Vec<Item>,
) -> Result<Vec<(Record, Said)>> {
    let (url, branch, commit) = revision;
    let checkout = Checkout::open(directory, Remote::of(remote, url)).await?;
    let worktree = checkout.at(branch, commit).await?;
    let tree = Tree { beside: worktree.beside().to_owned(), ..Tree::open(&worktree.path)? };
    let kubectl = Kubectl::new("kubectl");
    let mut found = Vec::new();
    let mut entries: Vec<Vec<Item>> = Vec::new();
    for item in items {
        match entries.iter_mut().find(|same| same[0].destination.entry == item.destination.entry) {
            Some(same) => same.push(item),
            None => entries.push(vec![item]),
        }
    }
    for items in entries {
        let wanted: Vec<Wanted> = items.iter().map(|item| item.wanted.clone()).collect();
        let said = match says(&tree, &items[0].destination.entry, &wanted, &kubectl) {
            Ok(said) => said,
            Err(Stop::Refused(refusal)) => vec![Err(refusal); items.len()],
            Err(Stop::Failed(error)) => return Err(error),
        };
        for (item, said) in items.into_iter().zip(said) {
            let said = said.err().map(|refusal| Said::refused(&refusal));
            found.extend(item.records.into_iter().map(|record| {
                let said = said.clone().unwrap_or_else(|| Said::Yes(place(&record, revision)));
                (record, said)
            }));
        }
    }
    Ok(found)
}

/// The commit; and the file, where it is known from when it was accepted.
fn place(record: &Record, (url, branch, commit): &Revision) -> GitPlace {
    let known = record.change.status.as_ref().and_then(|status| status.git.clone());
    GitPlace {
        repository: Some(url.clone()),
        branch: Some(branch.clone()),
        commit: Some(commit.clone()),
        path: known.and_then(|known| known.path),
    }
}
