//! One kustomization: the file of a directory, or what Flux makes of a directory that has none.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::tree::{Tree, resolve};
use super::yaml;

/// The names that kustomize knows (kustomize, api/konfig: `RecognizedKustomizationFileNames`).
pub const NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// What a source of Flux leaves out by itself (fluxcd/pkg, sourceignore: `ExcludeCI`, `ExcludeExtra`).
const LEFT_OUT: [&str; 12] = [
    ".git",
    ".github",
    ".circleci",
    ".travis.yml",
    ".gitlab-ci.yml",
    "appveyor.yml",
    ".drone.yml",
    "cloudbuild.yaml",
    "codeship-services.yml",
    ".goreleaser.yml",
    ".sops.yaml",
    ".flux.yaml",
];

/// Fields of a kustomization in which no path stands (kustomize, api/types: `Kustomization`).
const NO_PATHS: [&str; 11] = [
    "apiVersion",
    "kind",
    "metadata",
    "namespace",
    "namePrefix",
    "nameSuffix",
    "commonLabels",
    "commonAnnotations",
    "labels",
    "images",
    "replicas",
];

/// What kustomize does with a directory.
#[derive(Clone, Debug, PartialEq)]
pub struct Kustomization {
    /// The directory, from the root.
    pub directory: PathBuf,
    /// Its file; none where Flux makes one as it goes.
    pub file: Option<PathBuf>,
    /// What it says.
    pub value: Value,
}

/// What stands in `resources`, `bases` or `components`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// A file, from the root.
    File(PathBuf),
    /// Another directory, from the root.
    Directory(PathBuf),
    /// Something that is not in the tree: a URL, or a path that leads out of it.
    Elsewhere(String),
}

/// The kustomization file of a directory.
pub fn file_in(tree: &Tree, directory: &Path) -> Option<PathBuf> {
    NAMES.iter().map(|name| directory.join(name)).find(|path| tree.files.contains(path))
}

/// What kustomize does with a directory; none where it has no file, and Flux is not asked.
///
/// # Errors
/// When the file cannot be read.
pub fn load(tree: &Tree, directory: &Path) -> Result<Option<Kustomization>, String> {
    let Some(file) = file_in(tree, directory) else { return Ok(None) };
    let said = |error: String| format!("{}: {error}", file.display());
    let value = yaml::objects(&tree.read(&file).map_err(said)?).map_err(said)?.into_iter().next().unwrap_or_default();
    Ok(Some(Kustomization { directory: directory.to_owned(), file: Some(file), value }))
}

/// What the engine does with the directory that it renders from: one without a file has all its manifests as resources, and
/// directories below it that have a file (fluxcd/pkg, kustomize: `findOrGenerateKustomization`).
///
/// # Errors
/// When its file cannot be read.
pub fn load_entry(tree: &Tree, directory: &Path) -> Result<Kustomization, String> {
    if let Some(found) = load(tree, directory)? {
        return Ok(found);
    }
    let mut resources: BTreeSet<PathBuf> = BTreeSet::new();
    for file in tree.files.iter().filter(|file| file.starts_with(directory)) {
        let below = file.strip_prefix(directory).unwrap_or(file);
        let parts: Vec<&Path> = below.ancestors().skip(1).filter(|part| !part.as_os_str().is_empty()).collect();
        // The outermost directory with a file of its own has the say over all below it.
        let own = parts.iter().rev().find(|part| file_in(tree, &directory.join(part)).is_some());
        let is_manifest = below.extension().is_some_and(|end| end == "yaml" || end == "yml");
        let is_left_out = below.iter().any(|name| LEFT_OUT.iter().any(|known| name == *known));
        match own {
            Some(own) => drop(resources.insert(own.to_path_buf())),
            None if is_manifest && !is_left_out => drop(resources.insert(below.to_owned())),
            None => {}
        }
    }
    let resources: Vec<Value> = resources.iter().map(|path| json!(path.to_string_lossy())).collect();
    let value =
        json!({"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": resources});
    Ok(Kustomization { directory: directory.to_owned(), file: None, value })
}

impl Kustomization {
    /// The items of a list of it.
    pub fn list(&self, field: &str) -> &[Value] {
        self.value.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// A text of it, empty for none.
    pub fn text(&self, field: &str) -> &str {
        self.value.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    /// What its resources and components are.
    pub fn references(&self, tree: &Tree) -> Vec<Reference> {
        let said = ["resources", "bases", "components"].iter().flat_map(|field| self.list(field));
        said.filter_map(Value::as_str).map(|said| self.reference(tree, said)).collect()
    }

    /// What one of them is.
    pub fn reference(&self, tree: &Tree, said: &str) -> Reference {
        match resolve(&self.directory, said) {
            Some(path) if tree.files.contains(&path) => Reference::File(path),
            Some(path) if !said.contains("://") && tree.has_directory(&path) => Reference::Directory(path),
            _ => Reference::Elsewhere(said.to_owned()),
        }
    }

    /// Everything outside its directory that it may read: directories and files of the tree that any text in it names, but where
    /// no path can stand. More than it does read, never less.
    pub fn reads(&self, tree: &Tree) -> BTreeSet<PathBuf> {
        let mut texts = Vec::new();
        let fields = self.value.as_object().into_iter().flatten();
        fields
            .filter(|(field, _)| !NO_PATHS.contains(&field.as_str()))
            .for_each(|(_, value)| collect_texts(value, &mut texts));
        // Generators name a file as `key=path`, too.
        let behind = texts.iter().filter_map(|text| text.split_once('=').map(|(_, path)| path));
        let paths = texts.iter().copied().chain(behind).filter_map(|said| resolve(&self.directory, said));
        let is_outside = |path: &PathBuf| tree.files.contains(path) && !path.starts_with(&self.directory);
        paths.filter(|path| *path != self.directory && (tree.has_directory(path) || is_outside(path))).collect()
    }

    /// With the components that the engine's own object adds: they are read as well.
    #[must_use]
    pub fn with_components(mut self, spec: &Value) -> Self {
        if let Some(fields) = self.value.as_object_mut() {
            append(fields, "components", spec.get("components").and_then(Value::as_array).map_or(&[], Vec::as_slice));
        }
        self
    }

    /// Its text, with what the engine's own object adds, as Flux writes it (fluxcd/pkg, kustomize: `GenerateManifest`).
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn with_spec(&self, spec: &Value) -> Result<String, String> {
        let mut value = self.value.clone();
        let fields = value.as_object_mut().ok_or("it is no mapping")?;
        for (from, to) in [("targetNamespace", "namespace"), ("namePrefix", "namePrefix"), ("nameSuffix", "nameSuffix")]
        {
            if let Some(text) = spec.get(from).filter(|text| text.is_string()) {
                fields.insert(to.to_owned(), text.clone());
            }
        }
        for field in ["patches", "components"] {
            append(fields, field, spec.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice));
        }
        for image in spec.get("images").and_then(Value::as_array).map_or(&[][..], Vec::as_slice) {
            merge_image(fields, image);
        }
        super::emit::to_text(&value)
    }
}

fn collect_texts<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(items) => items.iter().for_each(|item| collect_texts(item, texts)),
        Value::Object(fields) => fields.values().for_each(|field| collect_texts(field, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn append(fields: &mut Map<String, Value>, field: &str, more: &[Value]) {
    if more.is_empty() {
        return;
    }
    let list = fields.entry(field.to_owned()).or_insert_with(|| json!([]));
    if let Some(list) = list.as_array_mut() {
        list.extend_from_slice(more);
    }
}

fn merge_image(fields: &mut Map<String, Value>, image: &Value) {
    let list = fields.entry("images").or_insert_with(|| json!([]));
    let Some(list) = list.as_array_mut() else { return };
    let Some(known) = list.iter_mut().find(|known| known.get("name") == image.get("name")) else {
        list.push(image.clone());
        return;
    };
    if let Some(name) = image.get("newName") {
        known["newName"] = name.clone();
    }
    if image.get("newTag").or(image.get("digest")).is_some() {
        for field in ["newTag", "digest"] {
            known[field] = image.get(field).cloned().unwrap_or_else(|| json!(""));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> Tree {
        Tree::of(Path::new("/nowhere"), files.iter().map(|path| (PathBuf::from(path), Some(String::new()))).collect())
    }

    #[test]
    fn a_directory_without_a_file_is_read_as_flux_reads_it() {
        let tree = tree(&[
            "apps/api.yaml",
            "apps/README.md",
            "apps/db/kustomization.yaml",
            "apps/db/set.yaml",
            "apps/db/deep/kustomization.yaml",
            "apps/web/a.yml",
            "apps/.sops.yaml",
            "other/b.yaml",
        ]);
        let entry = load_entry(&tree, Path::new("apps")).unwrap();
        assert_eq!(entry.list("resources"), [json!("api.yaml"), json!("db"), json!("web/a.yml")]);
    }

    #[test]
    fn a_spec_adds_what_flux_adds() {
        let own = json!({"namespace": "a", "images": [{"name": "x", "newTag": "1"}], "patches": [{"path": "p.yaml"}]});
        let kustomization = Kustomization { directory: PathBuf::new(), file: None, value: own };
        let spec = json!({"targetNamespace": "b", "patches": [{"patch": "q"}],
            "images": [{"name": "x", "digest": "sha256:0"}, {"name": "y", "newTag": "2"}]});
        let text = kustomization.with_spec(&spec).unwrap();
        let expected = json!({"namespace": "b", "patches": [{"path": "p.yaml"}, {"patch": "q"}],
            "images": [{"name": "x", "newTag": "", "digest": "sha256:0"}, {"name": "y", "newTag": "2"}]});
        assert_eq!(yaml::objects(&text).unwrap(), [expected]);
    }

    #[test]
    fn everything_that_a_text_names_may_be_read() {
        let tree = tree(&[
            "apps/base/kustomization.yaml",
            "apps/prod/kustomization.yaml",
            "apps/prod2/x.yaml",
            "apps/parts/one/x.yaml",
        ]);
        let value = json!({"namespace": "../prod2", "resources": ["../base", "x.yaml"], "transformers": ["../parts/one"], "bases": ["../../.."],
            "configMapGenerator": [{"files": ["a=../prod2/x.yaml"]}]});
        let kustomization = Kustomization { directory: PathBuf::from("apps/prod"), file: None, value };
        let expected: BTreeSet<PathBuf> =
            ["apps/base", "apps/parts/one", "apps/prod2/x.yaml"].iter().map(PathBuf::from).collect();
        assert_eq!(kustomization.reads(&tree), expected);
    }
}
