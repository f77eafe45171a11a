//! The files of a repository: what there is, what may be read, and how much of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::error::{CommandError, Result};

/// Files of a repository. A copy is rendered, and a repository of manifests with more than this holds something else.
const MAX_FILES: usize = 50_000;

/// Bytes of all of them, for the same reason.
const MAX_BYTES: u64 = 512 * 1024 * 1024;

/// Bytes of a file that is edited: four times what etcd takes for an object.
pub const MAX_EDITED: u64 = 6 * 1024 * 1024;

/// The files below a root; `.git` is none of them.
#[derive(Clone, Debug)]
pub struct Tree {
    /// The root, as it was given.
    pub root: PathBuf,
    /// Every file, by its path from the root.
    pub files: BTreeSet<PathBuf>,
    /// Symbolic links, and what they say.
    pub links: BTreeMap<PathBuf, PathBuf>,
    /// Where copies of it may lie.
    pub beside: PathBuf,
    /// What was edited since it was looked at: the text of a file, or none for one that is to go.
    pub edits: Edits,
}

/// Whole new texts of files by path from the root; none for a file that goes.
pub type Edits = BTreeMap<PathBuf, Option<String>>;

impl Tree {
    /// A tree that has these files, and nothing on disk.
    pub(super) fn of(root: &Path, edits: BTreeMap<PathBuf, Option<String>>) -> Self {
        let (files, links, beside) = (BTreeSet::new(), BTreeMap::new(), std::env::temp_dir());
        Self { root: root.to_owned(), files, links, beside, edits: Edits::new() }.with(edits)
    }

    /// The tree with more edits.
    #[must_use]
    pub fn with(&self, edits: Edits) -> Self {
        let mut tree = self.clone();
        for (path, text) in edits {
            match text {
                Some(_) => tree.files.insert(path.clone()),
                None => tree.files.remove(&path),
            };
            tree.edits.insert(path, text);
        }
        tree
    }

    /// Looks at what there is.
    ///
    /// # Errors
    /// When it cannot be read, or is more than a repository of manifests can be.
    pub fn open(root: &Path) -> Result<Self> {
        let mut tree = Self::of(root, Edits::new());
        let mut bytes = 0;
        tree.walk(Path::new(""), &mut bytes).map_err(|error| {
            CommandError::failed(format!("the files below {} cannot be read: {error}", root.display()))
        })?;
        if tree.files.len() > MAX_FILES || bytes > MAX_BYTES {
            let megabytes = MAX_BYTES / 1024 / 1024;
            return Err(CommandError::failed(format!(
                "{} holds more than {MAX_FILES} files or {megabytes} MB: that is no repository of manifests",
                root.display()
            )));
        }
        Ok(tree)
    }

    fn walk(&mut self, below: &Path, bytes: &mut u64) -> io::Result<()> {
        for found in fs::read_dir(self.root.join(below))? {
            let found = found?;
            let path = below.join(found.file_name());
            let kind = found.file_type()?;
            if path == Path::new(".git") {
                continue;
            }
            if kind.is_symlink() {
                self.links.insert(path.clone(), fs::read_link(found.path())?);
            } else if kind.is_dir() && self.files.len() <= MAX_FILES {
                self.walk(&path, bytes)?;
            } else if kind.is_file() {
                *bytes += found.metadata()?.len();
                self.files.insert(path);
            }
        }
        Ok(())
    }

    /// The text of a file.
    ///
    /// # Errors
    /// When it is no text, or larger than what is edited.
    pub fn read(&self, path: &Path) -> std::result::Result<String, String> {
        match self.edits.get(path) {
            Some(Some(text)) => return Ok(text.clone()),
            Some(None) => return Err("it is gone".to_owned()),
            None => {}
        }
        let whole = self.root.join(path);
        let size = fs::metadata(&whole).map_err(|error| format!("it cannot be read: {error}"))?.len();
        if size > MAX_EDITED {
            return Err(format!("it has {size} bytes; more than {MAX_EDITED} are not edited"));
        }
        fs::read_to_string(&whole).map_err(|error| format!("it cannot be read: {error}"))
    }

    /// Whether anything lies below a directory.
    pub fn has_directory(&self, path: &Path) -> bool {
        self.files.range(path.to_path_buf()..).take_while(|file| file.starts_with(path)).any(|file| file != path)
            || path == Path::new("")
    }
}

/// A path that is said from a directory, from the root; none where it leads out of the tree.
pub fn resolve(directory: &Path, said: &str) -> Option<PathBuf> {
    let mut path = directory.to_path_buf();
    for part in Path::new(said).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                if !path.pop() {
                    return None;
                }
            }
            Component::Normal(name) => path.push(name),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_too_large_is_not_read() {
        let root = std::env::temp_dir().join(format!("breakglass-tree-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join("large.yaml"), "x".repeat(6 * 1024 * 1024 + 1)).unwrap();
        let read = Tree::open(&root).unwrap().read(Path::new("large.yaml"));
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(read, Err("it has 6291457 bytes; more than 6291456 are not edited".to_owned()));
    }

    #[test]
    fn a_path_stays_in_the_tree() {
        for (directory, said, expected) in [
            ("apps/prod", "../base", Some("apps/base")),
            ("apps/prod", "./api.yaml", Some("apps/prod/api.yaml")),
            ("", "apps", Some("apps")),
            ("apps", "../..", None),
            ("apps", "/etc", None),
            ("apps/prod", "..", Some("apps")),
            ("apps", ".", Some("apps")),
        ] {
            assert_eq!(resolve(Path::new(directory), said), expected.map(PathBuf::from), "{directory} {said}");
        }
    }
}
