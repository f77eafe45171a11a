//! The patches of a kustomization: which are about an object, what they say of a field, and how they are made to say another thing.

use std::path::{Path, PathBuf};

use regex::Regex;
use serde_json::{Value, json};

use super::compare::id_of;
use super::field::{Step, get, put};
use super::kustomization::Kustomization;
use super::rewrite::rewrite;
use super::tree::{Edits, Tree, resolve};
use super::yaml;

/// The fields of a kustomization that hold patches, in the order in which kustomize applies them.
const FIELDS: [&str; 3] = ["patchesStrategicMerge", "patches", "patchesJson6902"];

/// Where the text of a patch stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a file of its own.
    File(PathBuf),
    /// In the kustomization, as the whole item, or under `patch`.
    Inline {
        /// Whether it stands under `patch`.
        under: Option<&'static str>,
    },
}

/// One document of a patch.
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    /// The field of the kustomization.
    pub field: &'static str,
    /// Which item of it.
    pub item: usize,
    /// Where its text stands.
    pub place: Place,
    /// The whole text.
    pub text: String,
    /// Which document of the text.
    pub document: usize,
    /// What the document says: a part of an object, or a list of steps (RFC 6902).
    pub value: Value,
    /// Which objects it is for, if that is said beside it.
    pub target: Option<Value>,
}

/// An object, and the names under which patches may know it.
pub struct Known<'a> {
    /// What its definition says.
    pub definition: &'a Value,
    /// What it is called in the end.
    pub name: &'a str,
    /// As it is rendered: the places of items in lists.
    pub rendered: &'a Value,
}

/// All patches of a kustomization, in the order in which they are applied.
pub fn patches(tree: &Tree, kustomization: &Kustomization) -> Vec<Patch> {
    let mut found = Vec::new();
    for field in FIELDS {
        for (item, said) in kustomization.list(field).iter().enumerate() {
            let Some((place, text)) = text_of(tree, &kustomization.directory, said) else { continue };
            let target = said.get("target").cloned();
            for (document, value) in yaml::documents(&text).unwrap_or_default().into_iter().enumerate() {
                let (place, text, target, value) = (place.clone(), text.clone(), target.clone(), value.value);
                found.push(Patch { field, item, place, text, document, value, target });
            }
        }
    }
    found
}

fn text_of(tree: &Tree, directory: &Path, said: &Value) -> Option<(Place, String)> {
    let from_file = |path: &str| {
        let path = resolve(directory, path)?;
        let text = tree.read(&path).ok()?;
        Some((Place::File(path), text))
    };
    match said {
        // patchesStrategicMerge takes a path or a text.
        Value::String(text) if text.contains('\n') => Some((Place::Inline { under: None }, text.clone())),
        Value::String(path) => from_file(path),
        _ => match (said.get("path"), said.get("patch")) {
            (Some(path), _) => from_file(path.as_str()?),
            (None, patch) => Some((Place::Inline { under: Some("patch") }, patch?.as_str()?.to_owned())),
        },
    }
}

impl Patch {
    /// Whether it is about an object.
    pub fn is_for(&self, known: &Known<'_>) -> bool {
        let own = id_of(known.definition);
        let is_name = |name: &str| name == own.name || name == known.name;
        let Some(target) = &self.target else {
            let id = id_of(&self.value);
            return id.kind == own.kind && id.group == own.group && is_name(&id.name);
        };
        // kustomize anchors these patterns on both sides.
        let fits = |field: &str, candidates: &[&str]| match target.get(field).and_then(Value::as_str) {
            None | Some("") => true,
            Some(pattern) => Regex::new(&format!("^(?:{pattern})$"))
                .is_ok_and(|pattern| candidates.iter().any(|candidate| pattern.is_match(candidate))),
        };
        fits("kind", &[&own.kind]) && fits("group", &[&own.group]) && fits("name", &[&own.name, known.name])
    }

    /// Whether it is about this object and no other.
    pub fn is_only_for(&self, known: &Known<'_>) -> bool {
        self.is_for(known) && self.target.is_none() && self.value.is_object()
    }

    /// What it would say if a field had another value; none where it says nothing of the field.
    pub fn with(&self, known: &Known<'_>, path: &[Step], to: Option<&Value>) -> Option<Value> {
        let mut value = self.value.clone();
        match &mut value {
            Value::Array(steps) => {
                let to = to?;
                let (step, rest) = steps.iter_mut().rev().find_map(|step| covers(step, known.rendered, path))?;
                match rest {
                    [] => step["value"] = to.clone(),
                    rest => {
                        get(&step["value"], rest)?;
                        put(&mut step["value"], rest, Some(to)).then_some(())?;
                    }
                }
            }
            value => {
                get(value, path)?;
                put(value, path, to).then_some(())?;
            }
        }
        Some(value)
    }

    /// The edits by which it says `value`.
    ///
    /// # Errors
    /// When that cannot be written in place.
    pub fn rewrite(&self, tree: &Tree, kustomization: &Kustomization, value: &Value) -> Result<Edits, String> {
        let text = rewrite(&self.text, self.document, value)?;
        let under = match &self.place {
            Place::File(path) => return Ok(Edits::from([(path.clone(), Some(text))])),
            Place::Inline { under } => under,
        };
        let file = kustomization.file.clone().ok_or("the kustomization has no file")?;
        let mut whole = kustomization.value.clone();
        let item = &mut whole[self.field][self.item];
        match under {
            Some(key) => item[*key] = json!(text),
            None => *item = json!(text),
        }
        let new = rewrite(&tree.read(&file)?, 0, &whole)?;
        Ok(Edits::from([(file, Some(new))]))
    }

    /// The file that its text stands in.
    pub fn file(&self, kustomization: &Kustomization) -> PathBuf {
        match &self.place {
            Place::File(path) => path.clone(),
            Place::Inline { .. } => kustomization.file.clone().unwrap_or_else(|| kustomization.directory.clone()),
        }
    }
}

/// Whether a step of a JSON patch sets a field, or something that the field is in; with what is left of the path.
fn covers<'a, 'b>(step: &'a mut Value, rendered: &Value, path: &'b [Step]) -> Option<(&'a mut Value, &'b [Step])> {
    if !matches!(step.get("op").and_then(Value::as_str), Some("add" | "replace")) {
        return None;
    }
    let said = step.get("path").and_then(Value::as_str)?.to_owned();
    (1..=path.len())
        .find(|length| indexed(rendered, &path[..*length]).as_ref() == Some(&said))
        .map(|length| (step, &path[length..]))
}

/// A path as a JSON pointer of the rendered object: items by their place.
fn indexed(rendered: &Value, path: &[Step]) -> Option<String> {
    let (mut at, mut pointer) = (rendered, String::new());
    for step in path {
        match step {
            Step::Key(key) => {
                pointer += &format!("/{}", key.replace('~', "~0").replace('/', "~1"));
                at = at.get(key).unwrap_or(&Value::Null);
            }
            Step::Item(key, name) => {
                let place = at.as_array()?.iter().position(|item| item.get(*key) == Some(name))?;
                pointer += &format!("/{place}");
                at = &at[place];
            }
        }
    }
    Some(pointer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(value: Value, target: Option<Value>) -> Patch {
        let (field, place) = ("patches", Place::Inline { under: Some("patch") });
        Patch { field, item: 0, place, text: String::new(), document: 0, value, target }
    }

    #[test]
    fn a_patch_is_for_what_it_names_or_what_its_target_names() {
        let definition = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "api"}});
        let known = Known { definition: &definition, name: "p-api", rendered: &definition };
        let named = |kind: &str, name: &str| json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}});
        for (value, target, expected) in [
            (named("Deployment", "api"), None, true),
            (named("Deployment", "p-api"), None, true),
            (named("Deployment", "ap"), None, false),
            (named("StatefulSet", "api"), None, false),
            (named("Deployment", "any"), Some(json!({"kind": "Deployment"})), true),
            (json!([]), Some(json!({"kind": "Deployment", "name": "a.*"})), true),
            (json!([]), Some(json!({"kind": "Deployment", "name": "ap"})), false),
            (json!([]), Some(json!({"kind": "Service"})), false),
        ] {
            assert_eq!(patch(value.clone(), target.clone()).is_for(&known), expected, "{value} {target:?}");
        }
    }

    #[test]
    fn a_step_covers_what_it_sets_by_the_place_of_the_item() {
        let rendered = json!({"spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]}});
        let known = Known { definition: &rendered, name: "api", rendered: &rendered };
        let key = |key: &str| Step::Key(key.to_owned());
        let path = [key("spec"), key("containers"), Step::Item("name", json!("b")), key("image")];
        for (step, expected) in [
            (json!({"op": "replace", "path": "/spec/containers/1/image", "value": "y"}), Some("/0/value")),
            (json!({"op": "add", "path": "/spec/containers/1", "value": {"image": "y"}}), Some("/0/value/image")),
            (json!({"op": "replace", "path": "/spec/containers/0/image", "value": "y"}), None),
            (json!({"op": "remove", "path": "/spec/containers/1/image"}), None),
        ] {
            let made = patch(json!([step]), None).with(&known, &path, Some(&json!("z")));
            let found = made.as_ref().and_then(|made| made.pointer(expected.unwrap_or_default()));
            assert!(expected.is_none() || found == Some(&json!("z")), "{step}");
            assert_eq!(made.is_some(), expected.is_some(), "{step}");
        }
    }
}
