//! What can be added to a kustomization so that it says a change of something that it shares with others.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::compare::id_of;
use super::emit::to_text;
use super::field::{Change, Step, get};
use super::kustomization::{self, Kustomization};
use super::merge_keys::is_known_group;
use super::patches::patches;
use super::plan::{Ground, Try, edit_kustomization, image_of, replicas_of};
use super::tree::Tree;

/// The kinds that `replicas:` of a kustomization counts (kustomize, api/internal/konfig: `replicas`).
const COUNTED: [&str; 4] = ["Deployment", "StatefulSet", "ReplicaSet", "ReplicationController"];

/// The edits, in what is the entry's own, from the shared definition up.
pub fn tries(ground: &Ground<'_>, change: &Change) -> Vec<Try> {
    let own = ground.definition.chain.iter().rev().filter(|directory| ground.is_own(directory));
    let overlays = own.filter_map(|directory| kustomization::load(ground.tree, directory).ok().flatten());
    overlays
        .flat_map(|overlay| {
            let added = [add_image(ground, &overlay, change), add_replicas(ground, &overlay, change)];
            let patched = [extend_patch(ground, &overlay, change), Some(add_patch(ground, &overlay, change))];
            added.into_iter().chain(patched).flatten().collect::<Vec<_>>()
        })
        .collect()
}

fn add_image(ground: &Ground<'_>, overlay: &Kustomization, change: &Change) -> Option<Try> {
    let (from, to) = image_of(change)?;
    let is_there = overlay.list("images").iter().any(|entry| entry.get("name") == Some(&json!(from.name)));
    if is_there {
        return None;
    }
    let value = with_item(overlay, "images", to.entry(&from.name, None));
    let path = vec![Step::Key("images".to_owned()), Step::Item("name", json!(from.name))];
    Some(edit_kustomization(ground.tree, overlay, (&value, path)))
}

fn add_replicas(ground: &Ground<'_>, overlay: &Kustomization, change: &Change) -> Option<Try> {
    let count = replicas_of(change)?;
    let id = id_of(&ground.definition.value);
    if !COUNTED.contains(&id.kind.as_str()) {
        return None;
    }
    let value = with_item(overlay, "replicas", json!({"name": id.name, "count": count}));
    let path = vec![Step::Key("replicas".to_owned()), Step::Item("name", json!(id.name))];
    Some(edit_kustomization(ground.tree, overlay, (&value, path)))
}

/// The kustomization with one more item in a list of it.
fn with_item(overlay: &Kustomization, field: &str, item: Value) -> Value {
    let mut value = overlay.value.clone();
    match value[field].as_array_mut() {
        Some(list) => list.push(item),
        None => value[field] = json!([item]),
    }
    value
}

/// A strategic-merge patch for this object alone, that says one thing more.
fn extend_patch(ground: &Ground<'_>, overlay: &Kustomization, change: &Change) -> Option<Try> {
    let known = ground.known();
    let patch = patches(ground.tree, overlay).into_iter().rev().find(|patch| patch.is_only_for(&known))?;
    let mut value = patch.value.clone();
    graft(&mut value, (ground, change));
    let edits = patch.rewrite(ground.tree, overlay, &value);
    Some(Try { edits, file: patch.file(overlay), document: patch.document, path: change.path.clone() })
}

/// A patch of its own.
fn add_patch(ground: &Ground<'_>, overlay: &Kustomization, change: &Change) -> Try {
    let mut value = head(&ground.definition.value);
    graft(&mut value, (ground, change));
    patch_file(ground.tree, overlay, (&value, change.path.clone()))
}

/// A patch of its own by which the object goes.
pub fn add_removal(ground: &Ground<'_>, overlay: &Kustomization) -> Try {
    let mut value = head(&ground.definition.value);
    value["$patch"] = json!("delete");
    patch_file(ground.tree, overlay, (&value, Vec::new()))
}

/// What a patch says to be about an object.
fn head(definition: &Value) -> Value {
    let mut metadata = Map::new();
    for field in ["name", "namespace"] {
        if let Some(value) = definition.pointer(&format!("/metadata/{field}")) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    json!({"apiVersion": definition["apiVersion"], "kind": definition["kind"], "metadata": metadata})
}

fn patch_file(tree: &Tree, overlay: &Kustomization, (value, path): (&Value, Vec<Step>)) -> Try {
    let file = free_name(tree, &overlay.directory, value);
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let is_old = overlay.list("patches").is_empty() && !overlay.list("patchesStrategicMerge").is_empty();
    let listed = match is_old {
        true => with_item(overlay, "patchesStrategicMerge", json!(name)),
        false => with_item(overlay, "patches", json!({"path": name})),
    };
    let listed = edit_kustomization(tree, overlay, (&listed, Vec::new()));
    let edits = listed.edits.and_then(|mut edits| {
        let text = in_the_lines_of(&to_text(value)?, tree, &listed.file);
        edits.insert(file.clone(), Some(text));
        Ok(edits)
    });
    Try { edits, file, document: 0, path }
}

/// A new file has the line endings of the one that names it.
pub fn in_the_lines_of(text: &str, tree: &Tree, neighbour: &Path) -> String {
    let is_crlf = tree.read(neighbour).is_ok_and(|neighbour| neighbour.contains("\r\n"));
    if is_crlf { text.replace('\n', "\r\n") } else { text.to_owned() }
}

fn free_name(tree: &Tree, directory: &Path, value: &Value) -> PathBuf {
    let id = id_of(value);
    let kind = id.kind.to_lowercase();
    let names = [format!("{}-patch.yaml", id.name), format!("{}-{kind}-patch.yaml", id.name)];
    let numbered = (2..).map(|number| format!("{}-{kind}-patch-{number}.yaml", id.name));
    let mut paths = names.into_iter().chain(numbered).map(|name| directory.join(name));
    paths.find(|path| !tree.files.contains(path)).unwrap_or_default()
}

/// Puts a change into a patch: items of lists by their key, what goes as null or `$patch: delete`. Kinds that a strategic merge
/// does not know have their lists whole.
fn graft(patch: &mut Value, (ground, change): (&Ground<'_>, &Change)) {
    let list = change.path.iter().position(|step| matches!(step, Step::Item(..)));
    let is_known = is_known_group(&id_of(&ground.definition.value).group);
    match list.filter(|_| !is_known) {
        Some(at) => {
            let whole = get(ground.wanted, &change.path[..at]).cloned();
            graft_at(patch, &change.path[..at], whole.as_ref());
        }
        None => graft_at(patch, &change.path, change.to.as_ref()),
    }
}

fn graft_at(patch: &mut Value, path: &[Step], to: Option<&Value>) {
    let Some((step, rest)) = path.split_first() else {
        *patch = to.cloned().unwrap_or_default();
        return;
    };
    match step {
        Step::Key(key) => {
            if !patch.is_object() {
                *patch = json!({});
            }
            graft_at(&mut patch[key.as_str()], rest, to);
        }
        Step::Item(key, name) => {
            if !patch.is_array() {
                *patch = json!([]);
            }
            let Some(items) = patch.as_array_mut() else { return };
            let at = items.iter().position(|item| item.get(*key) == Some(name)).unwrap_or_else(|| {
                items.push(json!({*key: name}));
                items.len() - 1
            });
            match (rest.is_empty(), to) {
                (true, None) => items[at] = json!({*key: name, "$patch": "delete"}),
                _ => graft_at(&mut items[at], rest, to),
            }
        }
    }
}
