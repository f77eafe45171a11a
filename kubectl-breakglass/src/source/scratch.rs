//! A copy of the tree that may be rendered and edited, gone when it is let go.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::tree::{Edits, Tree};
use crate::error::{CommandError, Result};

/// The copy.
#[derive(Debug)]
pub struct Scratch {
    /// Where it lies.
    pub root: PathBuf,
}

impl Scratch {
    /// Copies a tree.
    ///
    /// # Errors
    /// When there is no place for it.
    pub fn of(tree: &Tree) -> Result<Self> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("breakglass-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        // Without links in the path: kustomize compares it with what it finds.
        let parent = fs::canonicalize(&tree.beside).unwrap_or_else(|_| tree.beside.clone());
        let scratch = Self { root: parent.join(name) };
        scratch.fill(tree).map_err(|error| {
            CommandError::failed(format!("the files cannot be copied to {}: {error}", scratch.root.display()))
        })?;
        Ok(scratch)
    }

    fn fill(&self, tree: &Tree) -> io::Result<()> {
        private_directory(&self.root)?;
        for path in tree.files.iter().filter(|path| !tree.edits.contains_key(*path)) {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(self.root.join(parent))?;
            }
            fs::copy(tree.root.join(path), self.root.join(path))?;
        }
        for (path, to) in &tree.links {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(self.root.join(parent))?;
            }
            link(to, &self.root.join(path))?;
        }
        self.write(&tree.edits)
    }

    /// Writes these files.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn write(&self, edits: &Edits) -> io::Result<()> {
        for (path, text) in edits {
            let whole = self.root.join(path);
            match text {
                Some(text) => {
                    if let Some(parent) = whole.parent() {
                        fs::create_dir_all(parent)?;
                    }
                    fs::write(&whole, text)?;
                }
                None if whole.exists() => fs::remove_file(&whole)?,
                None => {}
            }
        }
        Ok(())
    }

    /// Puts these files back to what the tree has.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn restore<'a>(&self, tree: &Tree, files: impl Iterator<Item = &'a PathBuf>) -> io::Result<()> {
        for path in files {
            let whole = self.root.join(path);
            match tree.edits.get(path) {
                Some(text) => self.write(&Edits::from([(path.clone(), text.clone())]))?,
                None if tree.files.contains(path) => drop(fs::copy(tree.root.join(path), &whole)?),
                None if whole.exists() => fs::remove_file(&whole)?,
                None => {}
            }
        }
        Ok(())
    }
}

/// A repository may hold what is not for everybody on this machine.
fn private_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

#[cfg(unix)]
fn link(to: &Path, at: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(to, at)
}

/// Where links take rights that people lack, there are none in the copy, and what goes through one is refused.
#[cfg(not(unix))]
fn link(_: &Path, _: &Path) -> io::Result<()> {
    Ok(())
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed lies in the folder for such things.
        let _ = fs::remove_dir_all(&self.root);
    }
}
