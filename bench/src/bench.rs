//! What every benchmark works with: the two clusters, started when they are first needed, and the report.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use tokio::runtime::Runtime;

use crate::load;
use crate::report::Report;
use crate::scene::{Programs, Scene};

/// The state of a run.
pub struct Bench {
    /// The programs under measure.
    pub programs: Programs,
    /// What the load runs on.
    pub runtime: Arc<Runtime>,
    /// What was measured.
    pub report: Report,
    /// More rounds, and longer ones.
    pub full: bool,
    /// Fewer objects.
    pub short: bool,
    ours: Option<Scene>,
    bare: Option<Scene>,
}

impl Bench {
    /// With the programs that `cargo build --release` left in this folder.
    ///
    /// # Errors
    /// When one is missing: with the command that builds it.
    pub fn new(folder: &std::path::Path, (full, short): (bool, bool)) -> Result<Self> {
        let find = |name: &str, package: &str| -> Result<PathBuf> {
            let program = folder.join(name);
            if !program.is_file() {
                bail!("{} is missing; build it: cargo build --release -p {package}", program.display());
            }
            program.canonicalize().context("finding a program")
        };
        let programs = Programs {
            webhook: find("breakglass-webhook", "webhook")?,
            noop: find("noop", "noop")?,
            plugin: find("kubectl-breakglass", "kubectl-breakglass")?,
        };
        let runtime = load::runtime()?;
        Ok(Self { programs, runtime, report: Report::new(), full, short, ours: None, bare: None })
    }

    /// The cluster with our webhook.
    ///
    /// # Errors
    /// When it does not start.
    pub fn ours(&mut self) -> Result<&mut Scene> {
        if self.ours.is_none() {
            self.ours = Some(Scene::ours(&self.programs, &self.runtime)?);
        }
        self.ours.as_mut().context("it was started")
    }

    /// The cluster without it.
    ///
    /// # Errors
    /// When it does not start.
    pub fn bare(&mut self) -> Result<&mut Scene> {
        if self.bare.is_none() {
            self.bare = Some(Scene::bare(&self.programs, &self.runtime)?);
        }
        self.bare.as_mut().context("it was started")
    }

    /// Both: with ours and without.
    ///
    /// # Errors
    /// When one does not start.
    pub fn both(&mut self) -> Result<(&mut Scene, &mut Scene)> {
        self.ours()?;
        self.bare()?;
        Ok((self.ours.as_mut().context("it was started")?, self.bare.as_mut().context("it was started")?))
    }

    /// How many rounds, where `few` do for a quick look.
    pub fn rounds(&self, few: usize) -> usize {
        if self.full { few * 3 } else { few }
    }
}
