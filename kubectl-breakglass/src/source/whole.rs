//! Whole objects in the source: a new file for one that is new, and nothing left of one that goes.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::defaults::without_defaults;
use super::emit::to_text;
use super::field::cleaned;
use super::find::Definition;
use super::graph::Graph;
use super::kustomization::{self, Kustomization};
use super::overlay;
use super::patches::{Patch, patches};
use super::plan::{Ground, Try, edit_kustomization};
use super::tree::{Edits, Tree, resolve};
use super::yaml::documents;

/// A new object as it is written: without what the server, its controllers and breakglass put on it.
pub fn new_object(object: &Value) -> Value {
    without_defaults(&cleaned(object))
}

/// The edit that makes a new object: its file, and its line in the kustomization of the directory it lies in.
pub fn create(tree: &Tree, graph: &Graph, entry: &Path, (object, path): (&Value, Option<&Path>)) -> Try {
    let object = new_object(object);
    let said = path.map_or_else(|| free_name(tree, entry, &object), Path::to_path_buf);
    let nothing = |why: String| Try { edits: Err(why), file: said.clone(), document: 0, path: Vec::new() };
    let inside = resolve(Path::new(""), &said.to_string_lossy());
    let Some(file) = inside.filter(|file| !file.ancestors().any(|part| tree.links.contains_key(part))) else {
        return nothing("it may lie outside the repository: name it from the root, and through no link".to_owned());
    };
    if tree.files.contains(&file) {
        return nothing("there is a file of this name".to_owned());
    }
    let listing = file.ancestors().skip(1).find_map(|directory| kustomization::load(tree, directory).ok().flatten());
    let text = match to_text(&object) {
        Ok(text) => text,
        Err(why) => return nothing(why),
    };
    let Some(listing) = listing.filter(|listing| graph.reads(entry).contains(&listing.directory)) else {
        // Flux takes in every manifest below a directory that has no kustomization of its own.
        let edits = Edits::from([(file.clone(), Some(text))]);
        return Try { edits: Ok(edits), file, document: 0, path: Vec::new() };
    };
    let name = file.strip_prefix(&listing.directory).unwrap_or(&file).to_string_lossy().into_owned();
    let listed = edit_kustomization(tree, &listing, (&with_resource(&listing, &name), Vec::new()));
    let edits = listed.edits.map(|mut edits| {
        edits.insert(file.clone(), Some(overlay::in_the_lines_of(&text, tree, &listed.file)));
        edits
    });
    Try { edits, file, document: 0, path: Vec::new() }
}

fn free_name(tree: &Tree, entry: &Path, object: &Value) -> PathBuf {
    let id = super::compare::id_of(object);
    let names = [format!("{}.yaml", id.name), format!("{}-{}.yaml", id.name, id.kind.to_lowercase())];
    let mut paths = names.iter().map(|name| entry.join(name.replace(':', "-")));
    paths.find(|path| !tree.files.contains(path)).unwrap_or_else(|| entry.join(&names[1]))
}

/// The resources with one more: in its place where they are in order, else at their end.
fn with_resource(listing: &Kustomization, name: &str) -> Value {
    let mut value = listing.value.clone();
    let Some(list) = value["resources"].as_array_mut() else {
        value["resources"] = json!([name]);
        return value;
    };
    let texts: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
    let at = if texts.is_sorted() { texts.partition_point(|text| *text < name) } else { texts.len() };
    list.insert(at.min(list.len()), json!(name));
    value
}

/// The edits that may take an object out: its document and what names it; or, where others use it too, a patch that deletes it.
pub fn remove(ground: &Ground<'_>) -> Vec<Try> {
    if !ground.is_shared() {
        return vec![remove_definition(ground)];
    }
    let own = ground.definition.chain.iter().rev().filter(|directory| ground.is_own(directory));
    let overlays = own.filter_map(|directory| kustomization::load(ground.tree, directory).ok().flatten());
    overlays.map(|listing| overlay::add_removal(ground, &listing)).collect()
}

fn remove_definition(ground: &Ground<'_>) -> Try {
    let Definition { file, document, .. } = ground.definition;
    let edits = remove_document(ground).and_then(|rest| {
        let mut edits = Edits::from([(file.clone(), rest.clone())]);
        for directory in &ground.definition.chain {
            let tree = ground.tree.with(edits.clone());
            let Some(listing) = kustomization::load(&tree, directory)? else { continue };
            let gone = rest.is_none().then_some(file.as_path());
            edits.extend(unlist(ground, (&tree, &listing), gone)?);
        }
        Ok(edits)
    });
    Try { edits, file: file.clone(), document: *document, path: Vec::new() }
}

/// The text of its file without it; none where nothing is left.
fn remove_document(ground: &Ground<'_>) -> Result<Option<String>, String> {
    let Definition { file, document, is_item, .. } = ground.definition;
    if *is_item {
        return Err("it is an item of a List".to_owned());
    }
    let text = ground.tree.read(file)?;
    let all = documents(&text)?;
    let others = all.iter().enumerate().filter(|(at, other)| at != document && !other.value.is_null()).count();
    if others == 0 {
        return Ok(None);
    }
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let is_marker = |line: &&str| line.trim_end() == "---" || line.starts_with("--- ");
    let markers: Vec<usize> = lines.iter().enumerate().filter(|(_, line)| is_marker(line)).map(|(at, _)| at).collect();
    let start = all.get(*document).map_or(0, |one| text[..one.start].matches('\n').count());
    // From the marker before it to the one after it, which then stands for both.
    let from = markers.iter().rev().find(|at| **at <= start).copied();
    let to = markers.iter().find(|at| **at > start).copied();
    let (from, to) = match (from, to) {
        (Some(from), Some(to)) => (from, to),
        (Some(from), None) => (from, lines.len()),
        (None, Some(to)) => (0, if lines.first().is_some_and(is_marker) { to } else { to + 1 }),
        (None, None) => return Err("its document has no marker to be found by".to_owned()),
    };
    let mut rest: String = lines[..from].iter().chain(&lines[to..]).copied().collect();
    if !text.ends_with('\n') && to == lines.len() {
        rest.truncate(rest.trim_end_matches(['\r', '\n']).len());
    }
    let left: Vec<Value> =
        documents(&rest)?.into_iter().map(|one| one.value).filter(|value| !value.is_null()).collect();
    let kept = all.iter().enumerate().filter(|(at, _)| at != document).map(|(_, one)| one.value.clone());
    let is_right = left == kept.filter(|value| !value.is_null()).collect::<Vec<_>>();
    if is_right { Ok(Some(rest)) } else { Err("it cannot be told where its document ends".to_owned()) }
}

/// What a kustomization says without a file that is gone, and without the patches and counts that are about this object alone.
fn unlist(ground: &Ground<'_>, (tree, listing): (&Tree, &Kustomization), gone: Option<&Path>) -> Result<Edits, String> {
    let mut value = listing.value.clone();
    let name = gone.and_then(|gone| gone.strip_prefix(&listing.directory).ok());
    let names_it = |item: &Value| {
        let said = item.as_str().map(|said| said.trim_start_matches("./"));
        said.is_some() && said == name.and_then(Path::to_str)
    };
    retain(&mut value, "resources", |_, item| !names_it(item));
    let known = ground.known();
    let all = patches(tree, listing);
    let about: Vec<&Patch> = all.iter().filter(|patch| is_about(patch, ground)).collect();
    let mut edits = Edits::new();
    for patch in &about {
        let shares = all.iter().any(|other| {
            (other.field, other.item) == (patch.field, patch.item)
                && other.document != patch.document
                && !other.value.is_null()
        });
        if shares {
            return Err(format!("{} patches it, and others with it", patch.file(listing).display()));
        }
        if let super::patches::Place::File(path) = &patch.place {
            edits.insert(path.clone(), None);
        }
    }
    for field in ["patches", "patchesStrategicMerge", "patchesJson6902"] {
        retain(&mut value, field, |at, _| !about.iter().any(|patch| patch.field == field && patch.item == at));
    }
    let own = super::compare::id_of(known.definition).name;
    retain(&mut value, "replicas", |_, item| {
        item.get("name") != Some(&json!(own)) && item.get("name") != Some(&json!(known.name))
    });
    if value != listing.value {
        edits.extend(edit_kustomization(tree, listing, (&value, Vec::new())).edits?);
    }
    Ok(edits)
}

/// Whether a patch is about this object and cannot be about another: by its own words, or by a target that names it.
fn is_about(patch: &Patch, ground: &Ground<'_>) -> bool {
    let known = ground.known();
    let named = patch.target.as_ref().and_then(|target| target.get("name")).and_then(Value::as_str);
    let own = super::compare::id_of(known.definition).name;
    patch.is_for(&known) && (patch.target.is_none() || named == Some(own.as_str()) || named == Some(known.name))
}

/// Keeps some items of a list; a list that is left empty goes.
fn retain(value: &mut Value, field: &str, keep: impl Fn(usize, &Value) -> bool) {
    let Some(list) = value.get(field).and_then(Value::as_array) else { return };
    let left: Vec<Value> =
        list.iter().enumerate().filter(|(at, item)| keep(*at, item)).map(|(_, item)| item.clone()).collect();
    if left.is_empty() && !list.is_empty() {
        if let Some(fields) = value.as_object_mut() {
            fields.remove(field);
        }
    } else {
        value[field] = json!(left);
    }
}
