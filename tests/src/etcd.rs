//! etcd: where the API server keeps everything.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::probe;
use crate::process::{Group, Process};

/// A running etcd.
#[derive(Debug)]
pub struct Etcd {
    /// The process.
    pub process: Process,
    /// Where clients reach it, without TLS, on loopback.
    pub url: String,
    /// Where its data lie.
    directory: PathBuf,
    /// What it was started with.
    command: (PathBuf, Vec<OsString>),
    port: u16,
}

impl Etcd {
    /// Copies what it has stored now, as a backup would.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn copy(&self) -> Result<PathBuf> {
        let copy = self.directory.with_extension("copy");
        // Nothing changes under the copy; it is what a loss of power would leave.
        self.process.signal("STOP")?;
        let copied = copy_all(&self.directory, &copy);
        self.process.signal("CONT")?;
        copied.map(|()| copy)
    }

    /// Ends it, and starts it over a copy of what it had stored before.
    ///
    /// # Errors
    /// When it does not come up: with the end of its log.
    pub(crate) fn restore(&mut self, group: &Group, copy: &Path) -> Result<()> {
        self.process.kill();
        fs::remove_dir_all(&self.directory)?;
        copy_all(copy, &self.directory)?;
        self.process = run(group, &self.command, self.port)?;
        Ok(())
    }
}

fn copy_all(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().context("running cp")?;
    ensure!(status.success(), "cp -a {} {}: {status}", from.display(), to.display());
    Ok(())
}

fn run(group: &Group, (program, arguments): &(PathBuf, Vec<OsString>), port: u16) -> Result<Process> {
    let mut command = Command::new(program);
    command.args(arguments);
    let mut process = group.spawn("etcd", command)?;
    process.wait_healthy(Duration::from_secs(60), || probe::http(port, "/health"))?;
    Ok(process)
}

/// Starts etcd with its data in `directory` and waits until it is healthy.
///
/// # Errors
/// When it does not come up: with the end of its log.
pub fn start(group: &Group, program: &Path, directory: &Path) -> Result<Etcd> {
    let (client_port, peer_port) = (probe::free_port()?, probe::free_port()?);
    let url = format!("http://127.0.0.1:{client_port}");
    let peer_url = format!("http://127.0.0.1:{peer_port}");
    let mut command = Command::new(program);
    command
        .arg(format!("--data-dir={}", directory.display()))
        .arg(format!("--listen-client-urls={url}"))
        .arg(format!("--advertise-client-urls={url}"))
        .arg(format!("--listen-peer-urls={peer_url}"))
        .arg(format!("--initial-advertise-peer-urls={peer_url}"))
        .arg(format!("--initial-cluster=default={peer_url}"))
        // The data live as long as the process: nobody will read them after a power cut.
        .arg("--unsafe-no-fsync")
        .arg("--log-level=warn");
    let command = (program.to_owned(), command.get_args().map(ToOwned::to_owned).collect());
    let process = run(group, &command, client_port)?;
    Ok(Etcd { process, url, directory: directory.to_owned(), command, port: client_port })
}
