//! Repositories as cases for `accept`: files and a change in, the diff of an edit that is proven or a refusal out.
//!
//! Each case is one file below `cases`; `UPDATE=1` writes what is expected. All are run with LF, with CRLF and without an end of the
//! last line, with the real `kubectl kustomize`; and of each edit, wrong ones are made, which the proof must not let pass.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use kubectl_breakglass::source::render::Kubectl;
use kubectl_breakglass::source::tree::Tree;
use kubectl_breakglass::source::{Stop, edit};

use case::{Case, Lines};

// One case: its file, read and written.
mod case;
// What a person reads of an edit.
mod told;
// Edits that are wrong.
mod wrong;
// How long it takes where there are many.
mod many;

/// Cases that issue 6 asks for.
const FEWEST: usize = 60;

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("accept/cases");
    let mut cases: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    let only = std::env::var("CASE").unwrap_or_default();
    cases.retain(|case| case.to_string_lossy().contains(&only));
    cases.sort();
    assert!(cases.len() >= FEWEST || !only.is_empty(), "there are {} cases, and {FEWEST} are wanted", cases.len());
    cases
}

fn kubectl() -> Kubectl {
    Kubectl::new(tests::binaries::kubectl().unwrap())
}

/// Runs `check` on every case, two at a time, and says all that is wrong at once.
fn for_all(check: impl Fn(&Case) -> Result<(), String> + Sync) {
    let (cases, next) = (cases(), AtomicUsize::new(0));
    let failures = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(path) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(why) = check(&Case::read(path)) {
                        let name = path.file_name().unwrap().to_string_lossy().into_owned();
                        failures.lock().unwrap().push(format!("==== {name}\n{why}"));
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    assert!(failures.is_empty(), "{}\nUPDATE=1 writes what is expected; CASE=name runs one", failures.join("\n"));
}

#[test]
fn every_repository_is_edited_as_expected_or_refused() {
    let render = kubectl();
    for_all(|case| {
        for lines in [Lines::Lf, Lines::CrLf, Lines::NoEnd] {
            let folder = case.write_out(lines);
            let tree = Tree::open(folder.path()).map_err(|error| error.to_string())?;
            let told = match edit(&tree, &case.entry, &case.wanted, &render) {
                Ok(edit) => {
                    lines.check(case, &edit.files)?;
                    told::edit(case, &edit)
                }
                Err(Stop::Refused(refusal)) => told::refusal(&refusal),
                Err(Stop::Failed(error)) => return Err(error.to_string()),
            };
            if lines == Lines::Lf && std::env::var_os("UPDATE").is_some() {
                case.expect(&told);
            } else if told != Case::read(&case.path).expected {
                return Err(format!("{lines:?}:\n{told}"));
            }
        }
        Ok(())
    });
}

#[test]
fn no_wrong_edit_passes_the_proof() {
    let render = kubectl();
    for_all(|case| {
        let folder = case.write_out(Lines::Lf);
        let tree = Tree::open(folder.path()).map_err(|error| error.to_string())?;
        match edit(&tree, &case.entry, &case.wanted, &render) {
            Ok(edit) if !edit.files.is_empty() => wrong::check(case, (&tree, &edit), &render),
            Ok(_) | Err(_) => Ok(()),
        }
    });
}
