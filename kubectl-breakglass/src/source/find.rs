//! Where an object is defined: the document, and the kustomizations between it and the entry.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::compare::{id_of, is_it};
use super::field::Step;
use super::graph::Graph;
use super::kustomization::{Kustomization, Reference};
use super::prover::shown;
use super::tree::Tree;
use super::yaml::{self, line_of};
use super::{ObjectId, Stop};

/// Where an object is defined.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// The file.
    pub file: PathBuf,
    /// Which document of it.
    pub document: usize,
    /// Whether the document is a List, and it an item of that.
    pub is_item: bool,
    /// What it says.
    pub value: Value,
    /// The directories from the entry down to the one whose kustomization names the file.
    pub chain: Vec<PathBuf>,
}

/// What is searched for, as it is called on the way down.
#[derive(Clone)]
struct Sought<'a> {
    object: &'a ObjectId,
    /// The names that it may have here: what lies above puts prefixes and suffixes on, for most kinds.
    names: BTreeSet<String>,
    /// Whether something above sets the namespace.
    is_placed: bool,
}

/// Finds the one document that defines an object.
///
/// # Errors
/// When there is none, with what makes it instead; or two.
pub fn find(tree: &Tree, graph: &Graph, (entry, spec): (&Path, &Value), object: &ObjectId) -> Result<Definition, Stop> {
    let mut search = search(tree, graph, (entry, spec), object);
    let generators = std::mem::take(&mut search.generators);
    let mut found = search.found;
    match (found.pop(), found.is_empty()) {
        (Some(definition), true) => Ok(definition),
        (Some(last), false) => {
            found.push(last);
            Err(twice(tree, &found, object))
        }
        (None, _) if !generators.is_empty() => {
            Err(Stop::refused(format!("{object} is made by a generator, from what is written elsewhere"), generators))
        }
        (None, _) => {
            let why = format!("no file that {} takes in defines {object}", shown(entry));
            let mut places = search.unread;
            places.extend(elsewhere(tree, object));
            if places.is_empty() {
                places.push(format!("{}: look for what makes it there", shown(entry)));
            }
            Err(Stop::refused(why, places))
        }
    }
}

/// Refuses an object that is defined more than once.
///
/// # Errors
/// With the places.
pub fn once(tree: &Tree, graph: &Graph, (entry, spec): (&Path, &Value), object: &ObjectId) -> Result<(), Stop> {
    let found = search(tree, graph, (entry, spec), object).found;
    if found.len() > 1 { Err(twice(tree, &found, object)) } else { Ok(()) }
}

fn twice(tree: &Tree, found: &[Definition], object: &ObjectId) -> Stop {
    let places = found.iter().map(|one| format!("{}: edit the one that counts", one.place(tree, &[]))).collect();
    Stop::refused(format!("{object} is defined more than once, and which one counts cannot be told"), places)
}

/// Files that define it, and are taken in by nothing on the way.
fn elsewhere(tree: &Tree, object: &ObjectId) -> Vec<String> {
    let is_manifest = |file: &&PathBuf| file.extension().is_some_and(|end| end == "yaml" || end == "yml");
    let read = |file: &PathBuf| {
        let text = tree.read(file).ok().filter(|text| text.contains(&object.name))?;
        let documents = yaml::documents(&text).ok()?;
        let at = documents.iter().position(|document| is_it(&id_of(&document.value), object))?;
        Some(format!("{}:{}: it is defined here, which nothing takes in", file.display(), line_of(&text, at, &[])))
    };
    tree.files.iter().filter(is_manifest).filter_map(read).collect()
}

fn search<'a>(tree: &'a Tree, graph: &'a Graph, (entry, spec): (&Path, &Value), object: &ObjectId) -> Search<'a> {
    let text = |field: &str| spec.get(field).and_then(Value::as_str).unwrap_or_default();
    let mut sought =
        Sought { object, names: [object.name.clone()].into(), is_placed: !text("targetNamespace").is_empty() };
    sought.strip(text("namePrefix"), text("nameSuffix"));
    let mut search = Search { tree, graph, found: Vec::new(), generators: Vec::new(), unread: Vec::new() };
    search.directory(entry, &sought, &[]);
    search.found.dedup_by(|a, b| (&a.file, a.document) == (&b.file, b.document));
    search
}

impl Definition {
    /// The line of a field of it, or of what of the field there is: `apps/api.yaml:12`.
    pub fn place(&self, tree: &Tree, path: &[Step]) -> String {
        let line = tree.read(&self.file).map_or(1, |text| line_of(&text, self.document, path));
        format!("{}:{line}", self.file.display())
    }
}

impl Sought<'_> {
    /// Takes off what a kustomization puts on.
    fn strip(&mut self, prefix: &str, suffix: &str) {
        let bare = |name: &String| {
            let name = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
            (!name.is_empty()).then(|| name.to_owned())
        };
        let bare: Vec<String> = self.names.iter().filter_map(bare).collect();
        self.names.extend(bare);
    }

    fn is_named(&self, id: &ObjectId) -> bool {
        let place = match (&id.namespace, &self.object.namespace) {
            _ if self.is_placed => true,
            (None, Some(namespace)) => namespace == "default",
            (one, other) => one == other,
        };
        place && id.group == self.object.group && id.kind == self.object.kind && self.names.contains(&id.name)
    }
}

struct Search<'a> {
    tree: &'a Tree,
    graph: &'a Graph,
    found: Vec<Definition>,
    generators: Vec<String>,
    /// Files that were not looked into.
    unread: Vec<String>,
}

impl Search<'_> {
    fn directory(&mut self, directory: &Path, above: &Sought<'_>, chain: &[PathBuf]) {
        let Some(Ok(kustomization)) = self.graph.kustomizations.get(directory) else { return };
        // Two that name each other cannot be rendered; here they must only not go on for ever.
        if chain.iter().any(|seen| seen == directory) {
            return;
        }
        let mut sought = above.clone();
        sought.is_placed |= !kustomization.text("namespace").is_empty();
        sought.strip(kustomization.text("namePrefix"), kustomization.text("nameSuffix"));
        let chain: Vec<PathBuf> = chain.iter().cloned().chain([directory.to_path_buf()]).collect();
        self.generators(kustomization, &sought);
        for reference in kustomization.references(self.tree) {
            match reference {
                Reference::File(file) => self.file(&file, &sought, &chain),
                Reference::Directory(below) => self.directory(&below, &sought, &chain),
                Reference::Elsewhere(_) => {}
            }
        }
    }

    fn file(&mut self, file: &Path, sought: &Sought<'_>, chain: &[PathBuf]) {
        let text = match self.tree.read(file) {
            Ok(text) => text,
            Err(why) => return self.unread.push(format!("{}: {why}", file.display())),
        };
        // Most files do not say the name anywhere.
        if !sought.names.iter().any(|name| text.contains(name)) {
            return;
        }
        let documents = match yaml::documents(&text) {
            Ok(documents) => documents,
            Err(why) => return self.unread.push(format!("{}: {why}", file.display())),
        };
        for (document, value) in documents.into_iter().map(|one| one.value).enumerate() {
            let items = value.get("items").and_then(Value::as_array).filter(|_| value["kind"] == "List");
            let objects = items.map_or_else(|| vec![&value], |items| items.iter().collect());
            let is_item = items.is_some();
            for value in objects.into_iter().filter(|value| sought.is_named(&id_of(value))) {
                let (file, chain) = (file.to_owned(), chain.to_vec());
                self.found.push(Definition { file, document, is_item, value: value.clone(), chain });
            }
        }
    }

    fn generators(&mut self, kustomization: &Kustomization, sought: &Sought<'_>) {
        for (field, kind) in [("configMapGenerator", "ConfigMap"), ("secretGenerator", "Secret")] {
            for generator in kustomization.list(field).iter().filter(|_| sought.object.kind == kind) {
                let name = generator.get("name").and_then(Value::as_str).unwrap_or_default();
                // A hash of what it holds stands behind the name.
                let is_it = |sought: &String| {
                    sought.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
                };
                if !name.is_empty() && sought.names.iter().any(is_it) {
                    self.generators.push(generator_place(self.tree, kustomization, (field, generator)));
                }
            }
        }
    }
}

fn generator_place(tree: &Tree, kustomization: &Kustomization, (field, generator): (&str, &Value)) -> String {
    let file = kustomization.file.clone().unwrap_or_else(|| kustomization.directory.clone());
    let name = generator.get("name").cloned().unwrap_or_default();
    let path = [Step::Key(field.to_owned()), Step::Item("name", name.clone())];
    let line = tree.read(&file).map_or(1, |text| line_of(&text, 0, &path));
    let sources: Vec<&str> = ["files", "envs", "literals"]
        .iter()
        .filter_map(|from| generator.get(*from)?.as_array())
        .flatten()
        .filter_map(Value::as_str)
        .map(|from| from.split_once('=').map_or(from, |(_, file)| file))
        .collect();
    let from = if sources.is_empty() { String::new() } else { format!(" (from {})", sources.join(", ")) };
    format!("{}:{line}: edit what {field} {name} is made from{from}", file.display())
}
