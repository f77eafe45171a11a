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
}

impl Tree {
    /// Looks at what there is.
    ///
    /// # Errors
    /// When it cannot be read, or is more than a repository of manifests can be.
    pub fn open(root: &Path) -> Result<Self> {
        let mut tree = Self { root: root.to_owned(), files: BTreeSet::new(), links: BTreeMap::new() };
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
