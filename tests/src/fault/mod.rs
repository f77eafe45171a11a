//! Ends the plugin (SIGKILL) at one of its steps that have an effect outside of it: a request that writes, or a call of git.
//! There is no hook for it in the plugin: its kubeconfig leads through a server here, and a script stands before git.

// The way to the API server.
mod wire;

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::Result;

use crate::cluster::Cluster;
use crate::kubectl::{Kubectl, Output};
use crate::users::Kubeconfig;
use wire::Wire;

/// The script before these programs.
const SCRIPT: &str = include_str!("step.sh");
const PROGRAMS: [&str; 2] = ["git", "kubectl"];

/// The exit code of what was killed, as a shell has it.
const KILLED: i32 = 128 + 9;

/// When in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Nothing of it is done.
    Before,
    /// All of it is done, and the plugin does not hear of it.
    After,
}

/// A point at which the plugin is killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// When in the step.
    pub moment: Moment,
    /// At which of the steps that are called so, from one on.
    pub count: usize,
    /// What the step is called: `git push`, `PATCH breakglasschanges/status`.
    pub step: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = match self.moment {
            Moment::Before => "before",
            Moment::After => "after",
        };
        write!(f, "{moment} {} {}", self.count, self.step)
    }
}

/// How a run went.
#[derive(Clone, Debug)]
pub struct Run {
    /// What it left behind.
    pub output: Output,
    /// What it came to, in order; the last is where it was killed, if it was.
    pub steps: Vec<String>,
}

impl Run {
    /// Whether it was killed, and did not end by itself.
    #[must_use]
    pub fn was_killed(&self) -> bool {
        self.output.status == KILLED
    }

    /// Every point at which a run like this one can be killed.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (at, step) in self.steps.iter().enumerate() {
            let count = self.steps[..=at].iter().filter(|earlier| *earlier == step).count();
            faults.extend([Moment::Before, Moment::After].map(|moment| Fault { moment, count, step: step.clone() }));
        }
        faults
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.steps.join("\n"), self.output)
    }
}

/// One person's plugin, which can be killed on its way.
#[derive(Debug)]
pub struct Faults {
    plugin: Kubectl,
    wire: Arc<Wire>,
    /// A line for each step of the run.
    steps: PathBuf,
    /// Where the plugin's temporary files go.
    temporary: PathBuf,
}

impl Faults {
    /// The plugin as `person`.
    ///
    /// # Errors
    /// Those of the file system, or when there is no free port.
    pub fn new(cluster: &Cluster, person: &str) -> Result<Self> {
        let directory = cluster.directory().join(format!("faults-{person}"));
        let (bin, temporary, steps) = (directory.join("bin"), directory.join("tmp"), directory.join("steps"));
        fs::create_dir_all(&bin)?;
        fs::create_dir_all(&temporary)?;
        for script in PROGRAMS.map(|program| bin.join(program)) {
            fs::write(&script, SCRIPT)?;
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        }
        let themselves = cluster.kubectl(person);
        let wire = Wire::start(&themselves, &steps)?;
        let text = themselves.try_ok(&["config", "view", "--raw", "--flatten", "-o", "json"], "")?;
        let kubeconfig = directory.join("kubeconfig");
        Kubeconfig::parse(&text)?.reached_at(&wire.url()).write(&kubeconfig, person)?;
        let path = format!("{}:{}:/usr/bin:/bin", bin.display(), cluster.bin().display());
        let plugin = Kubectl::new(&cluster.bin(), &cluster.directory().join("home"), &kubeconfig)
            .program(&cluster.bin().join("kubectl-breakglass"))
            .env("PATH", &path)
            .env("TMPDIR", &temporary.to_string_lossy())
            .env("FAULT_STEPS", &steps.to_string_lossy());
        Ok(Self { plugin, wire, steps, temporary })
    }

    /// Runs the plugin, to its end or to a fault.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn run(&self, args: &[&str], fault: Option<&Fault>) -> Run {
        fs::write(&self.steps, "").unwrap();
        let plugin = self.plugin.clone().env("FAULT_AT", &fault.map(Fault::to_string).unwrap_or_default());
        let mut command = plugin.command(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = self.wire.start_run(fault, || command.spawn()).unwrap();
        let output = Output::of(&child.wait_with_output().unwrap());
        let steps = fs::read_to_string(&self.steps).unwrap().lines().map(str::to_owned).collect();
        Run { output, steps }
    }

    /// The temporary files that runs have left.
    ///
    /// # Panics
    /// When they cannot be listed.
    #[must_use]
    pub fn left(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.temporary).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }
}
