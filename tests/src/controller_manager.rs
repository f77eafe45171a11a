//! kube-controller-manager: makes ReplicaSets and Pods, collects garbage, ends namespaces.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::apiserver::ApiServer;
use crate::probe;
use crate::process::{Group, Process};

/// Starts kube-controller-manager with the login in `kubeconfig` and waits until it is healthy.
///
/// Every controller writes under a service account of its own, as in production.
///
/// # Errors
/// When it does not come up: with the end of its log.
pub fn start(group: &Group, program: &Path, kubeconfig: &Path, server: &ApiServer) -> Result<Process> {
    let port = probe::free_port()?;
    let mut command = Command::new(program);
    command
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .arg(format!("--authentication-kubeconfig={}", kubeconfig.display()))
        .arg(format!("--authorization-kubeconfig={}", kubeconfig.display()))
        .arg("--bind-address=127.0.0.1")
        .arg(format!("--secure-port={port}"))
        .arg("--use-service-account-credentials=true")
        .arg("--leader-elect=false")
        // At the default of 20 requests per second it takes four seconds to make its own service accounts.
        .args(["--kube-api-qps=500", "--kube-api-burst=1000"])
        .arg(format!("--root-ca-file={}", server.authority.display()))
        .arg(format!("--service-account-private-key-file={}", server.token_key.display()));
    let mut process = group.spawn("kube-controller-manager", command)?;
    process.wait_healthy(Duration::from_secs(60), || probe::https(port, "/healthz"))?;
    Ok(process)
}
