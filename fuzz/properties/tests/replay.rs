//! What libFuzzer does for hours, in seconds and on every machine: the corpus, and mutations of it that are the same each
//! time.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use properties::Property;
use properties::mutate::{Random, mutate};

/// How many mutations are tried of the reviews, and of each of the others, whose inputs have far fewer shapes.
const MUTATIONS: (usize, usize) = (4_000, 1_000);

/// The longest that a mutation grows.
const LONGEST: usize = 64 * 1024;

#[test]
fn reviews() {
    replay("review", properties::review, MUTATIONS.0);
}

#[test]
fn patches() {
    replay("patch", properties::patch, MUTATIONS.1);
}

#[test]
fn differences() {
    replay("diff", properties::diff, MUTATIONS.1);
}

fn replay(target: &str, property: Property, mutations: usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(target);
    let mut names: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    // What libFuzzer leaves beside the files that we keep has no extension.
    names.retain(|name| name.extension().is_some());
    names.sort();
    assert!(names.len() >= 20, "{} holds {} files", folder.display(), names.len());
    let files: Vec<Vec<u8>> = names.iter().map(|name| std::fs::read(name).unwrap()).collect();
    for (name, bytes) in names.iter().zip(&files) {
        check(target, property, bytes, &name.display().to_string());
    }
    for (seed, bytes) in (0..).zip(files.iter().cycle().take(mutations)) {
        let mutated = mutate(bytes, LONGEST, &mut Random::new(seed));
        check(target, property, &mutated, &format!("mutation {seed}"));
    }
}

/// Asks, and keeps the bytes where the answer is a panic.
fn check(target: &str, property: Property, bytes: &[u8], what: &str) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| property(bytes))) {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{target}.crash"));
        std::fs::write(&kept, bytes).unwrap();
        eprintln!("{what} does it. The bytes: {}. Again: cargo fuzz run -s none {target} <them>", kept.display());
        resume_unwind(panic);
    }
}
