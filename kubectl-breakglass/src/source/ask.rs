//! What keeps an edit from being made, before one is tried; and what is told when none passes.

use serde_json::Value;

use super::compare::{id_of, is_it};
use super::defaults::without_defaults_in;
use super::field::{Change, Step, changes, get, holds, pointer};
use super::find::Definition;
use super::graph::{Graph, Reach};
use super::plan::Try;
use super::prover::{adds, shown};
use super::tree::Tree;
use super::yaml::line_of;
use super::{Entry, ObjectId, Stop, Wanted};

/// Refuses an entry that cannot be rendered here, and one that is applied twice.
pub fn reach(tree: &Tree, graph: &Graph, entry: &Entry) -> Result<(), Stop> {
    if let Some((file, said, reach)) = graph.out_of_reach(tree, &entry.path) {
        let text = tree.read(&file).unwrap_or_default();
        let line = text.lines().position(|line| line.contains(&said)).map_or(1, |at| at + 1);
        let link = tree.links.iter().find(|(link, _)| {
            super::tree::resolve(file.parent().unwrap_or(&file), &said).is_some_and(|path| path == **link)
        });
        let why = match reach {
            Reach::Elsewhere if link.is_some() => {
                let to = link.map_or_else(String::new, |(_, to)| to.display().to_string());
                format!("{} takes in {said}, a symbolic link to {to}", shown(&entry.path))
            }
            Reach::Elsewhere => format!("{} takes in {said}, which is not in this repository", shown(&entry.path)),
            Reach::Chart => format!("{} takes in a Helm chart, which kubectl does not render", shown(&entry.path)),
        };
        return Err(Stop::refused(
            why,
            vec![format!("{}:{line}: edit it there, and render it yourself", file.display())],
        ));
    }
    match graph.applied.get(&entry.path).map(Vec::as_slice) {
        Some(twice @ [_, _, ..]) => {
            let why = format!("{} is applied more than once, and an edit would change every one", shown(&entry.path));
            Err(Stop::refused(why, twice.iter().map(|applied| applied.place.clone()).collect()))
        }
        _ => Ok(()),
    }
}

/// Refuses what never goes into Git.
pub fn kind(wanted: &Wanted) -> Result<(), Stop> {
    if wanted.object.kind == "Secret" && wanted.object.group.is_empty() && wanted.after.is_some() {
        let keys = match (&wanted.before, &wanted.after) {
            (Some(before), Some(after)) => changes(before, after).iter().map(|change| pointer(&change.path)).collect(),
            _ => Vec::new(),
        };
        return Err(Stop::refused(
            format!("{} is a Secret, and no value of one is written to Git", wanted.object),
            keys,
        ));
    }
    Ok(())
}

/// Refuses a file that SOPS has encrypted: it is signed as a whole.
pub fn encrypted(tree: &Tree, definition: &Definition) -> Result<(), Stop> {
    if definition.value.get("sops").is_none() {
        return Ok(());
    }
    let file = definition.file.display();
    let place = format!("{}: sops edit {file}", definition.place(tree, &[]));
    Err(Stop::refused(format!("{file} is encrypted with SOPS"), vec![place]))
}

/// The changes that Git does not say yet. What it says must be what was there before them.
pub fn due(
    (now, before, after): (&Value, &Value, &Value),
    (tree, object, spec): (&Tree, &ObjectId, &Value),
    definition: &dyn Fn() -> Result<Definition, Stop>,
) -> Result<Vec<Change>, Stop> {
    let mut due = Vec::new();
    for mut change in changes(before, after) {
        let said = get(now, &change.path);
        let place = |what: &str| -> Result<Vec<String>, Stop> {
            Ok(vec![format!("{}: {what}", definition()?.place(tree, &change.path))])
        };
        let to = shown_value(change.to.as_ref());
        let items = (1..change.path.len()).filter(|length| matches!(change.path[length - 1], Step::Item(..)));
        if let Some(length) = items.clone().find(|length| get(now, &change.path[..*length]).is_none()) {
            let item = pointer(&change.path[..length]);
            let why = format!("Git says nothing of {item} in {object}: it is in the cluster alone");
            return Err(Stop::refused(
                why,
                place(&format!("{item} is not there; what puts it there has to say {to}"))?,
            ));
        }
        if said.is_some_and(|said| said.to_string().contains("${")) && has_substitution(spec) {
            let why = format!("{} of {object} is substituted by Flux (postBuild)", pointer(&change.path));
            return Err(Stop::refused(why, place(&format!("the variable in {} has to say {to}", shown_value(said)))?));
        }
        if change.to.as_ref().is_some_and(|to| to.to_string().contains("${")) && has_substitution(spec) {
            let why = format!("{} of {object} would be substituted by Flux (postBuild)", pointer(&change.path));
            return Err(Stop::refused(
                why,
                place(&format!("{} has to say {to}, with $$ for $", pointer(&change.path)))?,
            ));
        }
        let is_done = match (&change.to, said) {
            (Some(to), Some(said)) => said == to,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if is_done {
            continue;
        }
        let is_as_before = match (said, &change.from) {
            (None, _) => true,
            (Some(said), Some(from)) => holds(said, from),
            (Some(_), None) => false,
        };
        if !is_as_before {
            let why = format!(
                "Git has moved on: it says {} at {} of {object}, where the change was made from {}",
                shown_value(said),
                pointer(&change.path),
                shown_value(change.from.as_ref())
            );
            return Err(Stop::refused(
                why,
                place(&format!("decide which it is to be, {} or {to}", shown_value(said)))?,
            ));
        }
        if let ([.., Step::Key(list), Step::Item(..)], Some(to), None) = (change.path.as_slice(), &change.to, said) {
            change.to = Some(without_defaults_in(to, list));
        }
        // From what Git says, which may be less than the cluster does.
        change.from = said.cloned();
        due.push(change);
    }
    Ok(due)
}

fn has_substitution(spec: &Value) -> bool {
    spec.get("postBuild").is_some_and(|post| !post.is_null())
}

/// Refuses fields that the engine's own object sets.
pub fn spec((now, plain): (&Value, &[Value]), (object, spec): (&ObjectId, &Value), due: &[Change]) -> Result<(), Stop> {
    for change in due {
        let path = pointer(&change.path);
        if let [Step::Key(metadata), Step::Key(of), Step::Key(key)] = change.path.as_slice()
            && metadata == "metadata"
            && spec.pointer(&format!("/commonMetadata/{of}")).is_some_and(|known| known.get(key).is_some())
        {
            return Err(by_spec(object, (&path, change), "commonMetadata"));
        }
        if !adds(spec) {
            continue;
        }
        let without = plain.iter().map(id_of).position(|id| {
            let anywhere = ObjectId { namespace: object.namespace.clone(), ..id.clone() };
            is_it(&anywhere, object)
                || (id.kind == object.kind && object.name.contains(&id.name) && id.group == object.group)
        });
        let without = without.and_then(|at| get(&plain[at], &change.path));
        if without != get(now, &change.path) {
            return Err(by_spec(object, (&path, change), "patches or images"));
        }
    }
    Ok(())
}

fn by_spec(object: &ObjectId, (path, change): (&str, &Change), what: &str) -> Stop {
    let to = shown_value(change.to.as_ref());
    Stop::refused(
        format!("{path} of {object} is set by the Flux Kustomization itself, not by what it renders"),
        vec![format!("spec of the Kustomization ({what}): {path} has to say {to}")],
    )
}

/// A value in a sentence: short, and quoted as JSON.
fn shown_value(value: Option<&Value>) -> String {
    /// Letters of a value in a sentence; the diff shows the rest.
    const LONGEST: usize = 120;
    let text = value.map_or_else(|| "nothing".to_owned(), Value::to_string);
    if text.chars().count() <= LONGEST { text } else { text.chars().take(LONGEST).chain("…".chars()).collect() }
}

/// What is told when no edit passes: every place that was tried, and why it was not taken.
pub fn nothing_passes(tree: &Tree, (object, change): (&ObjectId, Option<&Change>), failed: &[(&Try, String)]) -> Stop {
    let what = change.map_or_else(
        || format!("adds or removes {object}"),
        |change| format!("changes {} of {object}", pointer(&change.path)),
    );
    let to = change.map_or_else(String::new, |change| {
        format!("{} has to say {}: ", pointer(&change.path), shown_value(change.to.as_ref()))
    });
    let places = failed.iter().map(|(one, why)| {
        let line = tree.read(&one.file).map_or(1, |text| line_of(&text, one.document, &one.path));
        format!("{}:{line}: {to}{why}", one.file.display())
    });
    let mut places: Vec<String> = places.collect();
    places.dedup();
    if places.is_empty() {
        places.push("no file that is this environment's own takes part in it".to_owned());
    }
    Stop::refused(format!("no edit {what} and nothing else"), places)
}
