//! The edits that may make the source say one change, the likeliest first: the proof takes the first that is right.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::field::{Change, Step, get, pointer, put};
use super::find::Definition;
use super::graph::Graph;
use super::image::Image;
use super::kustomization::{self, Kustomization, Reference};
use super::overlay;
use super::patches::{Known, patches};
use super::rewrite::rewrite;
use super::tree::{Edits, Tree};

/// One edit that may do, or why it cannot be made.
#[derive(Clone, Debug)]
pub struct Try {
    /// Whole new texts of files.
    pub edits: Result<Edits, String>,
    /// The file that a person would look at.
    pub file: PathBuf,
    /// Which document of it.
    pub document: usize,
    /// The field in it.
    pub path: Vec<Step>,
}

/// What is edited, and in which tree.
pub struct Ground<'a> {
    /// The tree, with what was edited already.
    pub tree: &'a Tree,
    /// Who reads what.
    pub graph: &'a Graph,
    /// The directory that the engine renders from.
    pub entry: &'a Path,
    /// Where the object is defined.
    pub definition: &'a Definition,
    /// What it is called in the end.
    pub name: &'a str,
    /// As it is rendered before this change.
    pub rendered: &'a Value,
    /// As it is to be rendered.
    pub wanted: &'a Value,
}

/// The edits that may make one change: where the value comes from, from the entry down to the definition; and, where the
/// definition is others' as well, something new in what is the entry's own.
pub fn tries(ground: &Ground<'_>, change: &Change) -> Vec<Try> {
    let mut found = Vec::new();
    for directory in &ground.definition.chain {
        for kustomization in with_components(ground, directory) {
            found.extend(in_images(ground, &kustomization, change));
            found.extend(in_replicas(ground, &kustomization, change));
            found.extend(in_patches(ground, &kustomization, change));
        }
    }
    let is_set_above = !found.is_empty();
    if !ground.is_shared() {
        found.extend(in_definition(ground, change));
    }
    // What is set for several objects at once is set anew for this one.
    if ground.is_shared() || is_set_above {
        found.extend(overlay::tries(ground, change));
    }
    found
}

impl Ground<'_> {
    /// Whether the definition is used by others too.
    pub fn is_shared(&self) -> bool {
        self.definition.chain.last().is_some_and(|directory| !self.is_own(directory))
    }

    /// Whether a directory is used by the entry, and what goes through it, alone. The entry is its own, whatever else is read in
    /// it: the proof looks at those who do.
    pub fn is_own(&self, directory: &Path) -> bool {
        directory == self.entry || self.graph.shared_with(directory, self.entry).is_empty()
    }

    /// The object, and the names that patches may have for it.
    pub fn known(&self) -> Known<'_> {
        Known { definition: &self.definition.value, name: self.name, rendered: self.rendered }
    }
}

/// A kustomization, and the components that it takes in, the last applied first; none that others use too.
fn with_components(ground: &Ground<'_>, directory: &Path) -> Vec<Kustomization> {
    let load = |path: &Path| kustomization::load(ground.tree, path).ok().flatten().filter(|_| ground.is_own(path));
    let Ok(Some(own)) = kustomization::load(ground.tree, directory) else { return Vec::new() };
    let components = own.list("components").iter().rev().filter_map(Value::as_str);
    let components: Vec<Kustomization> = components
        .filter_map(|said| match own.reference(ground.tree, said) {
            Reference::Directory(path) => load(&path),
            Reference::File(_) | Reference::Elsewhere(_) => None,
        })
        .collect();
    load(directory).into_iter().chain(components).collect()
}

/// The image that a change is about, before and after.
pub fn image_of(change: &Change) -> Option<(Image, Image)> {
    let is_image = matches!(change.path.as_slice(), [.., Step::Key(list), Step::Item(..), Step::Key(field)]
        if field == "image" && list.to_lowercase().ends_with("containers"));
    let text = |side: &Option<Value>| side.as_ref().and_then(Value::as_str).map(Image::parse);
    if is_image { text(&change.from).zip(text(&change.to)) } else { None }
}

/// The count that a change is about.
pub fn replicas_of(change: &Change) -> Option<&Value> {
    let is_count =
        matches!(change.path.as_slice(), [Step::Key(spec), Step::Key(field)] if spec == "spec" && field == "replicas");
    change.to.as_ref().filter(|to| is_count && to.is_i64())
}

/// An edit of a kustomization's own file.
pub fn edit_kustomization(tree: &Tree, kustomization: &Kustomization, (value, path): (&Value, Vec<Step>)) -> Try {
    let file = kustomization.file.clone().unwrap_or_else(|| kustomization.directory.clone());
    let edits = tree.read(&file).and_then(|text| rewrite(&text, 0, value));
    let edits = edits.map(|text| Edits::from([(file.clone(), Some(text))]));
    Try { edits, file, document: 0, path }
}

fn in_images(ground: &Ground<'_>, kustomization: &Kustomization, change: &Change) -> Vec<Try> {
    let Some((from, to)) = image_of(change) else { return Vec::new() };
    let entries = kustomization.list("images").iter().enumerate();
    entries
        .filter_map(|(at, entry)| {
            let name = entry.get("name")?.as_str()?;
            let called = entry.get("newName").and_then(Value::as_str).unwrap_or(name);
            (called == from.name).then(|| {
                let mut value = kustomization.value.clone();
                value["images"][at] = to.entry(name, entry.as_object());
                let path = vec![Step::Key("images".to_owned()), Step::Item("name", json!(name))];
                edit_kustomization(ground.tree, kustomization, (&value, path))
            })
        })
        .collect()
}

fn in_replicas(ground: &Ground<'_>, kustomization: &Kustomization, change: &Change) -> Vec<Try> {
    let Some(count) = replicas_of(change) else { return Vec::new() };
    let own = super::compare::id_of(&ground.definition.value).name;
    let entries = kustomization.list("replicas").iter().enumerate();
    entries
        .filter(|(_, entry)| entry.get("name").is_some_and(|name| *name == json!(own) || *name == json!(ground.name)))
        .map(|(at, entry)| {
            let mut value = kustomization.value.clone();
            value["replicas"][at]["count"] = count.clone();
            let name = entry.get("name").cloned().unwrap_or_default();
            let path = vec![Step::Key("replicas".to_owned()), Step::Item("name", name)];
            edit_kustomization(ground.tree, kustomization, (&value, path))
        })
        .collect()
}

fn in_patches(ground: &Ground<'_>, kustomization: &Kustomization, change: &Change) -> Vec<Try> {
    let known = ground.known();
    let about = patches(ground.tree, kustomization).into_iter().rev().filter(|patch| patch.is_for(&known));
    about
        .filter_map(|patch| {
            let value = patch.with(&known, &change.path, change.to.as_ref())?;
            let edits = patch.rewrite(ground.tree, kustomization, &value);
            Some(Try { edits, file: patch.file(kustomization), document: patch.document, path: change.path.clone() })
        })
        .collect()
}

/// The definition itself, as the tree has it now.
fn in_definition(ground: &Ground<'_>, change: &Change) -> Vec<Try> {
    let Definition { file, document, .. } = ground.definition;
    let made = ground.tree.read(file).and_then(|text| {
        let value = super::yaml::documents(&text)?.into_iter().nth(*document).map(|document| document.value);
        let mut value = value.ok_or("it is gone")?;
        let object = object_in(&mut value, ground).ok_or("it is gone")?;
        if value_is_encrypted(object) {
            return Err("it is encrypted with SOPS".to_owned());
        }
        if !put(object, &change.path, change.to.as_ref()) {
            return Err(format!("it has nothing at {} that could be changed", pointer(&change.path)));
        }
        rewrite(&text, *document, &value)
    });
    let edits = made.map(|text| Edits::from([(file.clone(), Some(text))]));
    vec![Try { edits, file: file.clone(), document: *document, path: change.path.clone() }]
}

/// The object in its document: the whole of it, or an item of a List.
fn object_in<'a>(value: &'a mut Value, ground: &Ground<'_>) -> Option<&'a mut Value> {
    if value["kind"] != "List" {
        return Some(value);
    }
    let (kind, name) = (ground.rendered["kind"].clone(), ground.name);
    let is_it = |item: &Value| {
        item["kind"] == kind
            && item.pointer("/metadata/name").and_then(Value::as_str).is_some_and(|own| name.ends_with(own))
    };
    value["items"].as_array_mut()?.iter_mut().find(|item| is_it(item))
}

fn value_is_encrypted(value: &Value) -> bool {
    get(value, &[Step::Key("sops".to_owned()), Step::Key("mac".to_owned())]).is_some()
}
