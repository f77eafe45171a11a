//! Everything in the tree that can be rendered, and what each may read.
//!
//! Why what reads no edited file cannot have changed: with its load restrictor, which `kubectl kustomize` has on, a kustomization
//! reads files below its own directory and other directories that it names, and fails on anything else (kustomize,
//! api/internal/loader: `RestrictionRootOnly`). So a directory can say something else only if an edited file lies below it, or below
//! a directory that any text of its kustomization names, and so on from there. Flux builds without the restrictor (fluxcd/pkg,
//! kustomize: `LoadRestrictionsNone`): files elsewhere that a text names count as well, and a directory that reads such files, which
//! cannot be rendered here, cannot be shown to say the same. One with symbolic links in it is counted as reading everything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Entry;
use super::kustomization::{self, Kustomization, NAMES, Reference};
use super::tree::{Tree, resolve};
use super::yaml;

/// The group of Flux' own Kustomization.
const FLUX: &str = "kustomize.toolkit.fluxcd.io/";

/// What can be rendered.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// By directory: what it says, or why that cannot be read.
    pub kustomizations: BTreeMap<PathBuf, Result<Kustomization, String>>,
    /// The directories, and files elsewhere, that each may read, itself among them.
    reads: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
    /// What Flux renders from.
    pub applied: BTreeMap<PathBuf, Vec<Applied>>,
}

/// A Flux Kustomization in the tree.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The file that says so, and its name.
    pub place: String,
    /// What it adds to its path.
    pub spec: Value,
}

impl Graph {
    /// Looks at every kustomization of a tree, and at every directory that a Flux Kustomization in it names; and at the entry.
    pub fn of(tree: &Tree, entry: &Entry) -> Self {
        let mut graph = Self { applied: applied(tree), ..Self::default() };
        let is_kustomization = |file: &&PathBuf| file.file_name().is_some_and(|name| NAMES.iter().any(|n| name == *n));
        let own = tree.files.iter().filter(is_kustomization).filter_map(|file| file.parent().map(Path::to_path_buf));
        let named = graph.applied.keys().filter(|path| tree.has_directory(path)).cloned();
        let directories: BTreeSet<PathBuf> = own.chain(named).chain([entry.path.clone()]).collect();
        for directory in directories {
            let loaded = kustomization::load_entry(tree, &directory);
            let others = graph.applied.get(&directory).into_iter().flatten().map(|applied| &applied.spec);
            let own = [&entry.spec].into_iter().filter(|_| directory == entry.path);
            let loaded = loaded.map(|loaded| own.chain(others).fold(loaded, Kustomization::with_components));
            graph.kustomizations.insert(directory, loaded);
        }
        for directory in graph.kustomizations.keys() {
            graph.reads.insert(directory.clone(), graph.closure(tree, directory));
        }
        graph
    }

    fn closure(&self, tree: &Tree, directory: &Path) -> BTreeSet<PathBuf> {
        let (mut found, mut left) = (BTreeSet::new(), vec![directory.to_path_buf()]);
        while let Some(next) = left.pop() {
            if !found.insert(next.clone()) {
                continue;
            }
            if let Some(Ok(kustomization)) = self.kustomizations.get(&next) {
                left.extend(kustomization.reads(tree));
            }
            // A link may lead anywhere in the tree.
            if tree.links.keys().any(|link| link.starts_with(&next)) {
                left.push(PathBuf::new());
            }
        }
        found
    }

    /// The directories, and files elsewhere, that one may read, itself among them.
    pub fn reads(&self, directory: &Path) -> BTreeSet<PathBuf> {
        self.reads.get(directory).cloned().unwrap_or_default()
    }

    /// The directories that may read one of these files.
    pub fn readers<'a>(&self, files: impl Iterator<Item = &'a PathBuf> + Clone) -> BTreeSet<PathBuf> {
        let may = |reads: &BTreeSet<PathBuf>| files.clone().any(|file| reads.iter().any(|read| file.starts_with(read)));
        self.reads.iter().filter(|(_, reads)| may(reads)).map(|(directory, _)| directory.clone()).collect()
    }

    /// Who else uses a directory than `entry`, and what the entry goes through, or what goes through the entry. What Flux applies
    /// by itself is used by itself.
    pub fn shared_with(&self, directory: &Path, entry: &Path) -> BTreeSet<PathBuf> {
        let ours = self.reads(entry);
        let is_other = |other: &Path| !ours.contains(other) && !self.reads(other).contains(entry);
        let names = |user: &Path| {
            let reads = self.reads(user);
            let is_file_below =
                |path: &PathBuf| path.starts_with(directory) && path.extension().is_some() && path != user;
            reads.contains(directory) || reads.iter().any(is_file_below)
        };
        let users = self.kustomizations.iter().filter(|(user, _)| *user != directory && is_other(user) && names(user));
        let itself = Some(directory).filter(|path| *path != entry && self.applied.contains_key(*path));
        users.map(|(user, _)| user.clone()).chain(itself.map(Path::to_path_buf)).collect()
    }

    /// Why a directory cannot be rendered here: charts, and what is not in the tree. With the file, and the text that says it.
    pub fn out_of_reach(&self, tree: &Tree, directory: &Path) -> Option<(PathBuf, String, Reach)> {
        for read in self.reads(directory) {
            let Some(Ok(kustomization)) = self.kustomizations.get(&read) else { continue };
            let file = kustomization.file.clone().unwrap_or_else(|| read.clone());
            for reference in kustomization.references(tree) {
                if let Reference::Elsewhere(said) = reference {
                    return Some((file, said, Reach::Elsewhere));
                }
            }
            if !kustomization.list("helmCharts").is_empty()
                || !kustomization.list("helmChartInflationGenerator").is_empty()
            {
                return Some((file, "helmCharts".to_owned(), Reach::Chart));
            }
        }
        None
    }
}

/// What is out of reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Something that is not in the tree.
    Elsewhere,
    /// A chart, which kubectl does not render.
    Chart,
}

/// The paths that Flux Kustomizations in the tree name.
fn applied(tree: &Tree) -> BTreeMap<PathBuf, Vec<Applied>> {
    let mut found: BTreeMap<PathBuf, Vec<Applied>> = BTreeMap::new();
    for file in tree.files.iter().filter(|file| file.extension().is_some_and(|end| end == "yaml" || end == "yml")) {
        let Some(text) = tree.read(file).ok().filter(|text| text.contains(FLUX)) else { continue };
        for object in yaml::objects(&text).unwrap_or_default() {
            let is_flux = object["apiVersion"].as_str().is_some_and(|version| version.starts_with(FLUX));
            // Without a source it is a patch of one.
            let is_whole = object.pointer("/spec/sourceRef").is_some() || object.pointer("/spec/path").is_some();
            if !is_flux || !is_whole || object["kind"] != "Kustomization" {
                continue;
            }
            let said = object.pointer("/spec/path").and_then(Value::as_str).unwrap_or("./");
            if let Some(path) = resolve(Path::new(""), said.trim_start_matches('/')) {
                let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
                let place = format!("{}: Kustomization {name}", file.display());
                found.entry(path).or_default().push(Applied { place, spec: object["spec"].clone() });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph() -> Graph {
        let files = [
            ("apps/base/kustomization.yaml", "resources: [api.yaml]"),
            ("apps/base/api.yaml", "kind: Deployment"),
            ("apps/prod/kustomization.yaml", "resources: [../base]\ncomponents: [../../parts]"),
            ("apps/staging/kustomization.yaml", "resources: [../base]"),
            ("parts/kustomization.yaml", "kind: Component"),
            ("clusters/prod/kustomization.yaml", "resources: [../../apps/prod]"),
            (
                "clusters/prod/flux.yaml",
                "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: p}\nspec: {path: ./plain, components: [../parts]}",
            ),
            ("plain/x.yaml", "kind: ConfigMap"),
            ("loose/kustomization.yaml", "resources: [../apps/prod/loose.yaml]"),
            ("apps/prod/loose.yaml", "kind: ConfigMap"),
        ];
        let files = files.iter().map(|(path, text)| (PathBuf::from(path), Some((*text).to_owned()))).collect();
        let entry = Entry { path: PathBuf::from("apps/prod"), spec: Value::Null };
        Graph::of(&Tree::of(Path::new("/nowhere"), files), &entry)
    }

    fn check(file: &str, expected: &[&str]) {
        let file = PathBuf::from(file);
        let readers: Vec<String> =
            graph().readers([&file].into_iter()).iter().map(|path| path.display().to_string()).collect();
        assert_eq!(readers, expected, "{}", file.display());
    }

    #[test]
    fn who_may_read_a_file_is_known() {
        check("apps/base/api.yaml", &["apps/base", "apps/prod", "apps/staging", "clusters/prod"]);
        check("apps/prod/patch.yaml", &["apps/prod", "clusters/prod"]);
        check("parts/x.yaml", &["apps/prod", "clusters/prod", "parts", "plain"]);
        check("apps/prod/loose.yaml", &["apps/prod", "clusters/prod", "loose"]);
        check("plain/x.yaml", &["plain"]);
        check("README.md", &[]);
    }

    #[test]
    fn a_directory_is_shared_with_those_that_do_not_go_through_the_entry() {
        let (graph, prod) = (graph(), Path::new("apps/prod"));
        let staging = BTreeSet::from([PathBuf::from("apps/staging")]);
        assert_eq!(graph.shared_with(Path::new("apps/base"), prod), staging);
        assert_eq!(graph.shared_with(Path::new("parts"), prod), BTreeSet::from([PathBuf::from("plain")]));
        // By a file of it.
        assert_eq!(graph.shared_with(prod, prod), BTreeSet::from([PathBuf::from("loose")]));
    }
}
