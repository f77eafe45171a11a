//! kube-apiserver: how it is started, and the files that it and the controller-manager share.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rcgen::KeyPair;

use crate::certs::{Authority, write_private};
use crate::probe;
use crate::process::{Group, Process};

/// Who and what was asked for, and how it was answered, but no bodies: enough to follow a test through the log.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
";

/// A running kube-apiserver.
#[derive(Debug)]
pub struct ApiServer {
    /// The process.
    pub process: Process,
    /// Where clients reach it, with TLS, on loopback.
    pub url: String,
    /// The certificate that signed its own, PEM.
    pub authority: PathBuf,
    /// The private key that service account tokens are signed with, PEM.
    pub token_key: PathBuf,
    /// What it was started with, but for its port.
    command: (PathBuf, Vec<OsString>),
}

impl ApiServer {
    /// Ends it, and starts it anew at the same address, with `more` arguments from now on. Between the two `meanwhile`
    /// happens.
    ///
    /// # Errors
    /// When it does not become ready: with the end of its log.
    pub(crate) fn restart(
        &mut self,
        group: &Group,
        more: &[String],
        meanwhile: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        self.process.kill();
        meanwhile()?;
        self.command.1.extend(more.iter().map(Into::into));
        let port = self.url.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).context("the URL has no port")?;
        self.process = run(group, "kube-apiserver", &self.command, port)?;
        Ok(())
    }

    /// Another one over the same etcd, which knows the same logins; it ends with what is returned.
    ///
    /// # Errors
    /// When it does not become ready: with the end of its log.
    pub(crate) fn beside(&self, group: &Group) -> Result<Self> {
        let port = probe::free_port()?;
        let process = run(group, "kube-apiserver-2", &self.command, port)?;
        let url = format!("https://127.0.0.1:{port}");
        let (authority, token_key, command) = (self.authority.clone(), self.token_key.clone(), self.command.clone());
        Ok(Self { process, url, authority, token_key, command })
    }
}

fn run(group: &Group, name: &str, (program, arguments): &(PathBuf, Vec<OsString>), port: u16) -> Result<Process> {
    let mut command = Command::new(program);
    command.args(arguments).arg(format!("--secure-port={port}"));
    // Some memory more for some of its work less: tests start it fifty times.
    command.env("GOGC", "200");
    let mut process = group.spawn(name, command)?;
    process.wait_healthy(Duration::from_secs(120), || probe::https(port, "/readyz"))?;
    Ok(process)
}

/// Starts kube-apiserver over the etcd at `etcd_url` and waits until it is ready.
///
/// Its certificates go to `directory`, its audit log beside the other logs in `logs`; `network` are the arguments that say
/// which addresses Services have, and how they are reached.
///
/// # Errors
/// When it does not become ready: with the end of its log.
pub fn start(
    group: &Group,
    program: &Path,
    (directory, logs): (&Path, &Path),
    (etcd_url, authority): (&str, &Authority),
    network: &[String],
) -> Result<ApiServer> {
    fs::create_dir_all(directory)?;
    let write = |name: &str, text: &str| -> Result<PathBuf> {
        let path = directory.join(name);
        write_private(&path, text)?;
        Ok(path)
    };
    let serving = authority.server(&["127.0.0.1", "localhost", "kubernetes.default.svc"])?;
    let tokens = KeyPair::generate()?;
    let ca = write("ca.crt", &authority.certificate())?;
    let certificate = write("apiserver.crt", &serving.certificate)?;
    let key = write("apiserver.key", &serving.key)?;
    let token_key = write("service-accounts.key", &tokens.serialize_pem())?;
    let token_public_key = write("service-accounts.pub", &tokens.public_key_pem())?;
    let audit_policy = write("audit-policy.yaml", AUDIT_POLICY)?;

    let port = probe::free_port()?;
    let mut command = Command::new(program);
    command
        .arg(format!("--etcd-servers={etcd_url}"))
        .arg("--bind-address=127.0.0.1")
        .arg(format!("--cert-dir={}", directory.display()))
        .arg(format!("--tls-cert-file={}", certificate.display()))
        .arg(format!("--tls-private-key-file={}", key.display()))
        .arg(format!("--client-ca-file={}", ca.display()))
        .arg("--service-account-issuer=https://kubernetes.default.svc")
        .arg(format!("--service-account-signing-key-file={}", token_key.display()))
        .arg(format!("--service-account-key-file={}", token_public_key.display()))
        .args(network)
        .arg("--authorization-mode=RBAC")
        .arg(format!("--audit-policy-file={}", audit_policy.display()))
        .arg(format!("--audit-log-path={}", logs.join("audit.log").display()))
        // There is no network for `kubernetes.default` to be reached through; without this it logs an error for ever.
        .arg("--endpoint-reconciler-type=none");
    let command = (program.to_owned(), command.get_args().map(ToOwned::to_owned).collect());
    let process = run(group, "kube-apiserver", &command, port)?;
    Ok(ApiServer { process, url: format!("https://127.0.0.1:{port}"), authority: ca, token_key, command })
}
