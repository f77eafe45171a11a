//! The proof: everything that may read an edited file is rendered before and after, and differs in exactly this change.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use super::compare::{Role, Target, compare};
use super::graph::Graph;
use super::kustomization::{self, NAMES};
use super::render::Render;
use super::scratch::Scratch;
use super::tree::{Edits, Tree};
use super::{Entry, Proof};
use crate::error::{CommandError, Result};

/// Programs that render at a time: the people's machine has other work, and each reads the same disk.
const RENDERERS: usize = 2;

type Rendered = std::result::Result<Vec<Value>, String>;

/// What proves edits of one tree.
pub struct Prover<'a> {
    /// The tree as it is.
    pub tree: &'a Tree,
    /// What can be rendered.
    pub graph: Graph,
    entry: &'a Entry,
    render: &'a dyn Render,
    scratch: Scratch,
    before: BTreeMap<PathBuf, Rendered>,
    /// The entry as anybody renders it: what its engine's own object adds may hide an edit that is wrong.
    plain: Option<Rendered>,
}

/// Why an edit does not pass.
pub type Failed = String;

impl<'a> Prover<'a> {
    /// Makes ready: a copy of the tree, and what it can render.
    ///
    /// # Errors
    /// When there is no place for the copy.
    pub fn new(tree: &'a Tree, entry: &'a Entry, render: &'a dyn Render) -> Result<Self> {
        let (graph, scratch) = (Graph::of(tree, entry), Scratch::of(tree)?);
        Ok(Self { tree, graph, entry, render, scratch, before: BTreeMap::new(), plain: None })
    }

    /// What the engine renders now.
    ///
    /// # Errors
    /// When the copy cannot be written.
    pub fn entry_before(&mut self) -> Result<Rendered> {
        let entry = self.entry.path.clone();
        self.render_before(&[entry.clone()].into())?;
        Ok(self.before.get(&entry).cloned().unwrap_or_else(|| Err("it was not rendered".to_owned())))
    }

    /// What the engine would render without what its own object adds.
    ///
    /// # Errors
    /// When the copy cannot be written.
    pub fn entry_without_spec(&mut self) -> Result<Rendered> {
        if let Some(plain) = &self.plain {
            return Ok(plain.clone());
        }
        let plain = self.render_one(self.tree, &self.entry.path, &Value::Null)?;
        self.plain = Some(plain.clone());
        Ok(plain)
    }

    /// Proves one edit. The copy is as before afterwards.
    ///
    /// # Errors
    /// When it could not be tried; an edit that does not pass is told inside.
    pub fn prove(&mut self, edits: &Edits, targets: &[Target]) -> Result<std::result::Result<Proof, Failed>> {
        let edited = self.tree.with(edits.clone());
        let mut affected = self.graph.readers(edits.keys());
        affected.insert(self.entry.path.clone());
        let first = BTreeSet::from([self.entry.path.clone()]);
        self.render_before(&first)?;
        // Whoever does not get the entry right need not render the others.
        let after = self.render_after(&edited, &first)?;
        if let Err(why) = self.check(&first, &after, targets) {
            return Ok(Err(why));
        }
        if let Err(why) = self.check_plain(&edited, targets)? {
            return Ok(Err(why));
        }
        let rest: BTreeSet<PathBuf> =
            affected.difference(&first).filter(|path| self.may_render(path)).cloned().collect();
        self.render_before(&rest)?;
        let after = self.render_after(&edited, &rest)?;
        if let Err(why) = self.check(&rest, &after, targets) {
            return Ok(Err(why));
        }
        let unseen = affected.iter().filter(|path| !rest.contains(*path) && **path != self.entry.path);
        if let Some(unseen) = unseen.clone().find(|path| self.role(path) == Role::Other) {
            return Ok(Err(format!("{} cannot be rendered here, and may say something else then", unseen.display())));
        }
        let spared = self.graph.kustomizations.len() - affected.len();
        Ok(Ok(Proof {
            rendered: affected.into_iter().filter(|path| *path == self.entry.path || rest.contains(path)).collect(),
            spared,
        }))
    }

    /// The entry without what its engine's own object adds: like what lies below the entry.
    fn check_plain(&mut self, edited: &Tree, targets: &[Target]) -> Result<std::result::Result<(), Failed>> {
        if !adds(&self.entry.spec) {
            return Ok(Ok(()));
        }
        let before = self.entry_without_spec()?;
        self.scratch.write(&edited.edits).map_err(unwritten)?;
        let after = self.render_one(edited, &self.entry.path, &Value::Null);
        self.scratch.restore(self.tree, edited.edits.keys()).map_err(unwritten)?;
        Ok(match (before, after?) {
            (Ok(before), Ok(after)) => compare(&before, &after, (Role::Below, targets)),
            (Err(_), Err(_)) => Ok(()),
            (Ok(_), Err(why)) | (Err(why), Ok(_)) => Err(format!("{} by itself: {why}", shown(&self.entry.path))),
        })
    }

    /// What the Flux Kustomizations of the tree add to a directory.
    fn specs(&self, directory: &Path) -> impl Iterator<Item = &Value> {
        self.graph.applied.get(directory).into_iter().flatten().map(|applied| &applied.spec)
    }

    fn may_render(&self, directory: &Path) -> bool {
        self.graph.out_of_reach(self.tree, directory).is_none()
    }

    /// What a directory is to the entry. What Flux applies by itself is nobody's part.
    fn role(&self, directory: &Path) -> Role {
        let is_applied = self.graph.applied.contains_key(directory);
        if directory == self.entry.path {
            Role::Entry
        } else if is_applied {
            Role::Other
        } else if self.graph.reads(&self.entry.path).contains(directory) {
            Role::Below
        } else if self.graph.reads(directory).contains(&self.entry.path) {
            Role::Above
        } else {
            Role::Other
        }
    }

    fn check(
        &self,
        directories: &BTreeSet<PathBuf>,
        after: &BTreeMap<PathBuf, Rendered>,
        targets: &[Target],
    ) -> std::result::Result<(), Failed> {
        for directory in directories {
            let role = self.role(directory);
            let named = |why: String| format!("{}: {why}", shown(directory));
            match (self.before.get(directory), after.get(directory)) {
                (Some(Ok(before)), Some(Ok(after))) => compare(before, after, (role, targets)).map_err(named)?,
                // A component, or what is no more than a part of something: it could not be rendered before either.
                (Some(Err(_)), Some(Err(_))) if role != Role::Other || self.is_component(directory) => {}
                (Some(Err(why)), _) => {
                    return Err(named(format!("that it says the same afterwards cannot be shown: {why}")));
                }
                (_, Some(Err(why))) => return Err(named(format!("it could not be rendered any more: {why}"))),
                (None, _) | (_, None) => return Err(named("it was not rendered".to_owned())),
            }
        }
        Ok(())
    }

    fn is_component(&self, directory: &Path) -> bool {
        let loaded = self.graph.kustomizations.get(directory).and_then(|loaded| loaded.as_ref().ok());
        loaded.is_some_and(|kustomization| kustomization.text("kind") == "Component")
    }

    fn render_before(&mut self, directories: &BTreeSet<PathBuf>) -> Result<()> {
        let missing: BTreeSet<PathBuf> =
            directories.iter().filter(|path| !self.before.contains_key(*path)).cloned().collect();
        let rendered = self.render_all(self.tree, &missing)?;
        self.before.extend(rendered);
        Ok(())
    }

    fn render_after(&self, edited: &Tree, directories: &BTreeSet<PathBuf>) -> Result<BTreeMap<PathBuf, Rendered>> {
        self.scratch.write(&edited.edits).map_err(unwritten)?;
        let rendered = self.render_all(edited, directories);
        self.scratch.restore(self.tree, edited.edits.keys()).map_err(unwritten)?;
        rendered
    }

    /// Renders these directories of the tree that the copy holds now, two at a time.
    fn render_all(&self, tree: &Tree, directories: &BTreeSet<PathBuf>) -> Result<BTreeMap<PathBuf, Rendered>> {
        let is_made = |path: &&PathBuf| {
            let is_applied = self.specs(path).any(adds);
            **path == self.entry.path || is_applied || kustomization::file_in(tree, path).is_none()
        };
        let mut found = BTreeMap::new();
        for directory in directories.iter().filter(is_made) {
            if *directory == self.entry.path {
                found.insert(directory.clone(), self.render_one(tree, directory, &self.entry.spec)?);
                continue;
            }
            // By itself, and as each engine's object has it.
            let mut all = self.render_one(tree, directory, &Value::Null)?;
            for spec in self.specs(directory).filter(|spec| adds(spec)) {
                let more = self.render_one(tree, directory, spec)?;
                all = all.and_then(|all| Ok([all, more?].concat()));
            }
            found.insert(directory.clone(), all);
        }
        let plain: Vec<&PathBuf> = directories.iter().filter(|path| !is_made(path)).collect();
        let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..RENDERERS.min(plain.len()) {
                scope.spawn(|| {
                    while let Some(directory) = plain.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let rendered = self.render.render(&self.scratch.root, directory);
                        // A lock is lost only where another thread panicked, and then the scope does.
                        done.lock()
                            .unwrap_or_else(std::sync::PoisonError::into_inner)
                            .push(((*directory).clone(), rendered));
                    }
                });
            }
        });
        found.extend(done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner));
        Ok(found)
    }

    /// Renders a directory as the engine does: with a file that is made for it, or with what its spec adds.
    fn render_one(&self, tree: &Tree, directory: &Path, spec: &Value) -> Result<Rendered> {
        let made = kustomization::load_entry(tree, directory).and_then(|found| {
            let file = found.file.clone().unwrap_or_else(|| directory.join(NAMES[0]));
            let is_as_written = found.file.is_some() && !adds(spec);
            Ok((file, if is_as_written { None } else { Some(found.with_spec(spec)?) }))
        });
        let (file, text) = match made {
            Ok(made) => made,
            Err(why) => return Ok(Err(why)),
        };
        let Some(text) = text else { return Ok(self.render.render(&self.scratch.root, directory)) };
        self.scratch.write(&Edits::from([(file.clone(), Some(text))])).map_err(unwritten)?;
        let rendered = self.render.render(&self.scratch.root, directory);
        self.scratch.restore(tree, [&file].into_iter()).map_err(unwritten)?;
        Ok(rendered)
    }
}

/// Whether the engine's own object adds to what its path renders.
pub fn adds(spec: &Value) -> bool {
    ["targetNamespace", "namePrefix", "nameSuffix", "patches", "components", "images"]
        .iter()
        .any(|field| spec.get(field).is_some_and(|value| !value.is_null()))
}

/// A directory as people read it.
pub fn shown(directory: &Path) -> String {
    if directory.as_os_str().is_empty() { ".".to_owned() } else { directory.display().to_string() }
}

fn unwritten(error: std::io::Error) -> CommandError {
    CommandError::failed(format!("the copy of the files cannot be written: {error}"))
}
