//! etcd: where the API server keeps everything.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::probe;
use crate::process::{Group, Process};

/// A running etcd.
#[derive(Debug)]
pub struct Etcd {
    /// The process.
    pub process: Process,
    /// Where clients reach it, without TLS, on loopback.
    pub url: String,
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
    let mut process = group.spawn("etcd", command)?;
    process.wait_healthy(Duration::from_secs(60), || probe::http(client_port, "/health"))?;
    Ok(Etcd { process, url })
}
