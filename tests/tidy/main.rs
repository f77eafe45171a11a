//! The repository checks itself: what its pages promise about its files, its dependencies and its licences.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

// The cases that have to hold.
mod cases;
// Which test holds which.
mod coverage;

/// Above this a file splits, or its first lines say why not.
const LONGEST_FILE: usize = 400;

/// What the programs are built for: dependencies of other platforms are never in them.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Everything that is checked in or would be.
fn files() -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8(listed.stdout).unwrap();
    names.lines().filter(|name| root().join(name).exists()).map(str::to_owned).collect()
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn cargo(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(args).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "cargo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_source_file_says_what_it_answers_for_and_stays_readable() {
    for name in files().iter().filter(|name| name.ends_with(".rs")) {
        let text = read(name);
        assert!(text.starts_with("//! "), "{name} does not open with a //! line");
        let lines = text.lines().count();
        let excused = text.lines().take_while(|line| line.starts_with("//!")).any(|line| line.contains("long because"));
        assert!(lines <= LONGEST_FILE || excused, "{name} has {lines} lines: split it, or say `long because …`");
    }
}

#[test]
fn the_shared_crate_has_no_io_and_the_programs_do_not_know_each_other() {
    let tree = |package: &str| -> BTreeSet<String> {
        cargo(&["tree", "--locked", "--package", package, "--edges", "normal", "--prefix", "none", "--format", "{p}"])
            .lines()
            .filter_map(|line| line.split(' ').next())
            .map(str::to_owned)
            .collect()
    };
    for (package, absent) in [
        ("breakglass", &["tokio", "hyper", "rustls", "kube-client", "rand", "webhook", "kubectl-breakglass"][..]),
        ("webhook", &["kubectl-breakglass", "tests", "openssl-sys", "aws-lc-sys"]),
        ("kubectl-breakglass", &["webhook", "tests", "openssl-sys", "aws-lc-sys"]),
    ] {
        let tree = tree(package);
        assert!(tree.contains(package));
        for name in absent {
            assert!(!tree.contains(*name), "{package} depends on {name}");
        }
    }
}

/// The licences of every dependency, against the list in deny.toml.
#[test]
fn every_licence_is_one_that_deny_toml_allows() {
    let deny = read("deny.toml");
    let list = deny.lines().find_map(|line| line.strip_prefix("allow = ")).expect("deny.toml has no list of licences");
    let allowed: Vec<String> = serde_json::from_str(list).expect("the list of licences in deny.toml is on one line");
    let metadata: serde_json::Value =
        serde_json::from_str(&cargo(&["metadata", "--locked", "--format-version", "1", "--filter-platform", PLATFORM]))
            .unwrap();
    for package in metadata["packages"].as_array().unwrap() {
        let expression = package["license"].as_str().unwrap_or("none");
        assert!(is_allowed(expression, &allowed), "{} is under {expression}", package["id"]);
    }
}

/// Reads an SPDX expression: `AND` binds its parts, `OR` (and the old `/`) leaves the choice.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let flat = expression.replace(['(', ')'], "").replace('/', " OR ");
    // No expression here nests an AND inside an OR; one that did would only be refused too often.
    flat.split(" AND ")
        .all(|part| part.split(" OR ").any(|licence| allowed.iter().any(|known| known == licence.trim())))
}

/// What the pages name in backticks as a path is there.
#[test]
fn pages_name_only_files_that_exist() {
    for page in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = read(page);
        for name in text.split('`').skip(1).step_by(2) {
            let is_path = name.contains('/')
                && !name.contains([' ', '<', '*', ':', '='])
                && ["breakglass/", "webhook/", "kubectl-breakglass/", "manifests/", "tests/", ".ci/", ".github/"]
                    .iter()
                    .any(|folder| name.starts_with(folder));
            assert!(!is_path || root().join(name).exists(), "{page} names {name}, which does not exist");
        }
    }
}

/// Every module of the three crates stands in its crate's table of the map, and once.
#[test]
fn the_map_shows_every_module_once() {
    let map = read("ARCHITECTURE.md");
    let tables = map.split("| module | answers for |\n").skip(1);
    let mut checked = 0;
    for (table, folder) in tables.zip(["breakglass/src", "webhook/src", "kubectl-breakglass/src"]) {
        let rows = table.lines().take_while(|line| line.starts_with('|'));
        let cells = rows.filter_map(|row| row.split('|').nth(1));
        let mut shown: Vec<&str> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
        shown.sort_unstable();
        assert_eq!(shown, modules(folder), "ARCHITECTURE.md, the table of {folder}");
        checked += 1;
    }
    assert_eq!(checked, 3, "a table is missing");
}

/// The modules of a crate, but those that a program has anyway.
fn modules(folder: &str) -> Vec<String> {
    let module = |name: &String| {
        let rest = name.strip_prefix(folder)?.strip_prefix('/')?;
        let module = rest.strip_suffix("/mod.rs").or_else(|| rest.strip_suffix(".rs"))?;
        (!module.contains('/') && !["lib", "main", "tests", "commands"].contains(&module)).then(|| module.to_owned())
    };
    let modules: BTreeSet<String> = files().iter().filter_map(module).collect();
    modules.into_iter().collect()
}

/// Tests run beside each other in one cluster: what one file does in its namespaces is no other's business.
#[test]
fn no_two_files_of_tests_share_a_namespace() {
    let mut users: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    // The files of hostile objects have a cluster, and its namespaces, together.
    let is_test =
        |name: &&String| name.starts_with("tests/e2e/") && name.ends_with(".rs") && !name.contains("/hostile");
    for name in files().iter().filter(|name| is_test(name)) {
        let text = read(name);
        let quoted = text.split('"').filter(|word| word.starts_with("prod-") || word.starts_with("dev-"));
        for word in quoted.filter(|word| !word.contains([' ', '*', '/', '{', '\\'])) {
            users.entry(word.to_owned()).or_default().insert(name.clone());
        }
    }
    assert!(users.len() > 50, "no namespaces were found: {users:?}");
    let shared: Vec<_> = users.iter().filter(|(_, users)| users.len() > 1).collect();
    assert!(shared.is_empty(), "{shared:#?}");
}
