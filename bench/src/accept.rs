//! C-8: what `accept` takes in a repository of three hundred kustomizations: a worktree, an edit that is proven, a commit.
//!
//! Without the cluster, which is asked as much where there is one kustomization.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, anyhow, ensure};
use kubectl_breakglass::checkout::{Branches, Checkout, Remote};
use kubectl_breakglass::error::CommandError;
use kubectl_breakglass::source::render::Kubectl;
use kubectl_breakglass::source::tree::Tree;
use kubectl_breakglass::source::{Edit, Entry, Proof, Wanted, edit};
use serde_json::Value;
use tests::applications::{ALL_OF_PROD, files, hotfix, prod};
use tests::binaries;
use tests::git::{BRANCH, Fleet, URL};

use crate::bench::Bench;
use crate::stats::{percentile, sorted};

/// How many applications there are, of three kustomizations each.
const APPLICATIONS: usize = 100;

/// How often each is accepted.
const ROUNDS: usize = 5;

/// What it may take where a person waits for one change or two, in seconds.
const GOAL: f64 = 10.0;

/// Measures it.
///
/// # Errors
/// When git or kubectl is missing, or there is no edit that passes the proof.
pub fn accept(bench: &mut Bench) -> Result<()> {
    let folder = std::env::temp_dir().join(format!("breakglass-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let outcome = in_folder(bench, &folder);
    std::fs::remove_dir_all(&folder)?;
    outcome
}

fn in_folder(bench: &mut Bench, folder: &Path) -> Result<()> {
    let fleet = Fleet::create(folder)?;
    let files = files(APPLICATIONS);
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    fleet.push("apps: a hundred in two environments", &files)?;
    let render = Kubectl::new(binaries::kubectl()?);
    let whole: Vec<usize> = (0..APPLICATIONS).collect();
    for (numbers, from) in [(&[7][..], prod(7)), (&[7, 42], ALL_OF_PROD.to_owned()), (&whole, ALL_OF_PROD.to_owned())] {
        let wanted: Vec<Wanted> = numbers.iter().copied().map(hotfix).collect();
        measure(bench, &fleet, (&from, &wanted), &render)?;
    }
    Ok(())
}

fn measure(bench: &mut Bench, fleet: &Fleet, (from, wanted): (&str, &[Wanted]), render: &Kubectl) -> Result<()> {
    let (entry, count) = (Entry { path: PathBuf::from(from), spec: Value::Null }, wanted.len());
    let (mut took, mut proof) = (Vec::new(), Proof::default());
    for round in 0..bench.rounds(ROUNDS) {
        let branch = format!("breakglass/INC-{count}-{round}");
        let begun = Instant::now();
        proof = bench.runtime.block_on(one(fleet, &branch, (&entry, wanted), render))?.proof;
        took.push(begun.elapsed().as_secs_f64());
    }
    let (took, rendered) = (sorted(took), proof.rendered.len());
    let (middle, most, all) = (percentile(&took, 0.5), percentile(&took, 1.0), rendered + proof.spared);
    let what = format!("accept, {count} of {APPLICATIONS} Deployments, from {from}");
    let value = format!("median {middle:.2} s, max {most:.2} s; of {all} kustomizations {rendered} rendered twice");
    match count {
        APPLICATIONS => bench.report.told(what, value),
        _ => bench.report.goal(what, value, &format!("< {GOAL:.0} s"), most < GOAL),
    }
    Ok(())
}

/// As `accept` goes about it, but for the cluster.
async fn one(fleet: &Fleet, branch: &str, (entry, wanted): (&Entry, &[Wanted]), render: &Kubectl) -> Result<Edit> {
    let failed = |error: CommandError| anyhow!("{error}");
    let checkout = Checkout::open(&fleet.clone, Remote::At(URL)).await.map_err(failed)?;
    let worktree = checkout.begin(Branches { followed: BRANCH, written: branch }).await.map_err(failed)?;
    let tree = Tree::open(&worktree.path).map_err(failed)?;
    let made = edit(&tree, entry, wanted, render).map_err(|stop| anyhow!("{stop:?}"))?;
    worktree.stage(&made.files).await.map_err(failed)?;
    worktree.commit("what was done for the incident").await.map_err(failed)?;
    ensure!(!made.files.is_empty(), "nothing was edited");
    Ok(made)
}
