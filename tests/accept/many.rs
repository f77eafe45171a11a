//! An edit in a repository of three hundred kustomizations. How long it takes is `make bench ONLY=C-8`'s.

use std::fs;
use std::path::PathBuf;

use kubectl_breakglass::source::tree::Tree;
use kubectl_breakglass::source::{Entry, edit};
use serde_json::Value;
use tests::applications::{ALL_OF_PROD, files, hotfix, prod};

use crate::case::Folder;

/// Three kustomizations each.
const APPLICATIONS: usize = 100;

#[test]
fn an_edit_among_three_hundred_kustomizations_renders_what_reads_it() {
    let folder = Folder::new();
    for (path, text) in files(APPLICATIONS) {
        let whole = folder.path().join(path);
        fs::create_dir_all(whole.parent().unwrap()).unwrap();
        fs::write(whole, text).unwrap();
    }
    // Of each application prod and, where that may hold it, all of prod.
    for (entry, numbers, rendered) in [(ALL_OF_PROD.to_owned(), vec![7, 42], 3), (prod(7), vec![7], 2)] {
        let tree = Tree::open(folder.path()).unwrap();
        let entry = Entry { path: PathBuf::from(entry), spec: Value::Null };
        let wanted: Vec<_> = numbers.into_iter().map(hotfix).collect();
        let made = edit(&tree, &entry, &wanted, &crate::kubectl()).unwrap();
        assert_eq!(made.proof.rendered.len(), rendered, "{:?}", made.proof);
        assert_eq!(made.proof.rendered.len() + made.proof.spared, 3 * APPLICATIONS + 1);
    }
}
