//! The servers under measure: the webhook that does nothing, and ours, started as the cluster starts it.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tests::probe;

use crate::process::Watched;

/// How long a server may take until it is ready.
const READY_LIMIT: Duration = Duration::from_secs(120);

/// A server of ours on a port of loopback, ended when it is dropped.
#[derive(Debug)]
pub struct Server {
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    /// The cluster's process group: what is in it ends with the cluster, however we end.
    group: i32,
    /// Where it listens.
    pub port: u16,
    /// Where its output goes.
    pub log: PathBuf,
    child: Option<Child>,
}

impl Server {
    /// The webhook that does nothing; its CA goes to `noop.crt` in `directory`.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn noop(program: &Path, directory: &Path) -> Result<Self> {
        let port = probe::free_port()?;
        let certificate = directory.join("noop.crt").display().to_string();
        let mut server = Self {
            program: program.to_owned(),
            arguments: vec![format!("127.0.0.1:{port}"), certificate],
            environment: Vec::new(),
            group: group(directory)?,
            port,
            log: directory.join("logs/noop.log"),
            child: None,
        };
        server.start()?;
        Ok(server)
    }

    /// Another process of ours, with the command line and the environment of one that runs; not started yet.
    ///
    /// # Errors
    /// When the directory is no cluster's.
    pub fn like(running: Watched, port: u16, directory: &Path) -> Result<Self> {
        let mut arguments = running.arguments();
        let program = PathBuf::from(arguments.remove(0));
        let (environment, group) = (running.environment(), group(directory)?);
        let log = directory.join("logs/measured.log");
        Ok(Self { program, arguments, environment, group, port, log, child: None })
    }

    /// Starts it, and gives the time until it is ready.
    ///
    /// # Errors
    /// When it runs already, ends, or does not become ready.
    pub fn start(&mut self) -> Result<Duration> {
        self.stop();
        let log = File::options().create(true).append(true).open(&self.log)?;
        let started = Instant::now();
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .process_group(self.group)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        loop {
            let ready = probe::https(self.port, "/readyz");
            if ready.is_ok() {
                self.child = Some(child);
                return Ok(started.elapsed());
            }
            let ended = child.try_wait()?;
            if ended.is_some() || started.elapsed() > READY_LIMIT {
                child.kill().ok();
                bail!("{} is not ready ({ready:?}): see {}", self.program.display(), self.log.display());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends it without a word.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// The process.
    pub fn watched(&self) -> Watched {
        Watched(self.child.as_ref().map(Child::id).unwrap_or_default())
    }

    /// How many reviews its log says it decided.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn decided(&self) -> Result<usize> {
        let log = std::fs::read_to_string(&self.log)?;
        Ok(log.lines().filter(|line| line.contains("\"decided\"")).count())
    }
}

/// The process group of the cluster in this directory.
fn group(directory: &Path) -> Result<i32> {
    Ok(std::fs::read_to_string(directory.join("group"))?.trim().parse()?)
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}
