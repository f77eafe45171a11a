//! The version before this one, from its commit: its webhook, built once and kept, and its manifests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::binaries::{cache, duration, once};

/// The image that its Deployment names.
pub const IMAGE: &str = "breakglass-webhook:0.1.0";

/// The last commit of 0.1.0.
const COMMIT: &str = "c844229";

/// The folder of this repository.
const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// What there is of it.
#[derive(Clone, Debug)]
pub struct Previous {
    /// Path of the webhook.
    pub webhook: PathBuf,
    /// Folder of the manifests.
    pub manifests: PathBuf,
}

/// Its program and manifests, from the cache, or built into it.
///
/// # Errors
/// When the commit is not in this clone, or the build fails: with what to do.
pub fn previous() -> Result<Previous> {
    let folder = cache()?.join(format!("webhook-{COMMIT}"));
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let tree = once(&folder, "tree", || unpack(&folder))?;
    let webhook = once(&folder, "breakglass-webhook", || {
        eprintln!("building {IMAGE} (of commit {COMMIT}; the first time takes minutes; it is kept)");
        let started = Instant::now();
        let program = build(&folder, &tree)?;
        eprintln!("built {IMAGE} in {}", duration(started.elapsed()));
        Ok(program)
    })?;
    Ok(Previous { webhook, manifests: tree.join("manifests") })
}

fn unpack(folder: &Path) -> Result<PathBuf> {
    let (archive, tree) = (folder.join(".tree.tar"), folder.join(".tree.unfinished"));
    let mut git = Command::new("git");
    git.args(["-C", REPOSITORY, "archive", "--output"]).arg(&archive).arg(COMMIT);
    run(git).with_context(|| {
        format!("the upgrade is tested from commit {COMMIT}, which this clone does not hold; fetch it: git fetch --unshallow")
    })?;
    let _ = fs::remove_dir_all(&tree);
    fs::create_dir_all(&tree)?;
    let mut tar = Command::new("tar");
    tar.arg("-xf").arg(&archive).arg("-C").arg(&tree);
    run(tar)?;
    fs::remove_file(archive)?;
    Ok(tree)
}

/// With a target folder of its own: in ours it would put its program in the place of this version's.
fn build(folder: &Path, tree: &Path) -> Result<PathBuf> {
    let target = folder.join("target");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(tree).env("CARGO_TARGET_DIR", &target);
    cargo.args(["build", "--locked", "--package", "webhook", "--bin", "breakglass-webhook"]);
    run(cargo).with_context(|| format!("building {IMAGE}"))?;
    let program = folder.join(".breakglass-webhook.unfinished");
    fs::copy(target.join("debug/breakglass-webhook"), &program)?;
    // It is hundreds of megabytes, and never needed again.
    fs::remove_dir_all(target)?;
    Ok(program)
}

fn run(mut command: Command) -> Result<()> {
    let name = command.get_program().display().to_string();
    let out = command.output().with_context(|| format!("starting {name}"))?;
    if !out.status.success() {
        bail!("{name} failed:\n{}", String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(())
}
