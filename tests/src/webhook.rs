//! breakglass in the cluster: its manifests applied, its webhook run on this machine with the identity of its own Pod.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::flux::bound_token;
use crate::kubectl::Kubectl;
use crate::probe;
use crate::process::{Group, Process};
use crate::users::{Kubeconfig, Login};
use crate::wait::wait_until;

/// Our manifests, with the Service pointed at this machine.
const OVERLAY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/local");

/// Namespace, Deployment, Service and service account, as in manifests/.
const NAMESPACE: &str = "breakglass-system";
const NAME: &str = "breakglass-webhook";

/// Long enough for a first start, in which CRDs are established and a certificate is made.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// Longer than the webhook takes to answer what it has begun and to leave.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// The webhook process of one cluster: it can be stopped, killed and started again.
#[derive(Debug)]
pub struct Webhook {
    program: PathBuf,
    kubeconfig: PathBuf,
    pod: String,
    port: u16,
    metrics_port: u16,
    /// The port that the API server asks, which is that of the first replica.
    service_port: u16,
    log: Option<String>,
    /// Flags beside those that say where it is.
    more: Vec<String>,
    /// What starts it: a command that is given the program and its flags, and becomes it.
    launcher: Vec<String>,
    group: Arc<Group>,
    alice: Kubectl,
    process: Mutex<Option<Process>>,
}

/// Where the webhook finds what it needs.
pub(crate) struct Site<'a> {
    pub(crate) group: &'a Arc<Group>,
    /// Where its kubeconfig goes.
    pub(crate) directory: &'a Path,
    pub(crate) admin: &'a Kubectl,
    pub(crate) alice: Kubectl,
    /// What it logs, as RUST_LOG says it; the default where `None`.
    pub(crate) log: Option<String>,
}

/// Applies the manifests, and starts the webhook as the first of the Pods that its Deployment asks for.
///
/// # Errors
/// When the API server refuses a manifest, or the webhook does not become ready: with the end of its log.
pub(crate) fn install(program: &Path, site: Site<'_>, config: &Kubeconfig) -> Result<Webhook> {
    // Server-side, since the CRDs are larger than the annotation that a client-side apply leaves.
    site.admin.try_ok(&["apply", "--server-side", "-k", OVERLAY], "").context("applying tests/local")?;
    let pod = wait_until("a Pod of the webhook's Deployment", READY_LIMIT, || pod(site.admin, None))?;
    let kubeconfig = site.directory.join("webhook.kubeconfig");
    log_in(site.admin, &pod, config, &kubeconfig)?;
    let port = probe::free_port()?;
    let webhook = Webhook {
        program: program.to_owned(),
        kubeconfig,
        pod,
        port,
        metrics_port: probe::free_port()?,
        service_port: port,
        log: site.log,
        more: Vec::new(),
        launcher: Vec::new(),
        group: Arc::clone(site.group),
        alice: site.alice,
        process: Mutex::new(None),
    };
    webhook.start()?;
    Ok(webhook)
}

/// The login of one Pod, as the kubelet would mount it.
fn log_in(admin: &Kubectl, pod: &str, config: &Kubeconfig, kubeconfig: &Path) -> Result<()> {
    let token = bound_token(admin, (NAMESPACE, NAME), pod)?;
    config.alone("webhook", &Login::Token(token)).write(kubeconfig, "webhook")
}

/// A Pod that the Deployment made, and another than this one. It stays Pending, since there is no node, but it is what a
/// token is bound to.
fn pod(admin: &Kubectl, but: Option<&str>) -> Result<String, String> {
    let args = ["-n", NAMESPACE, "get", "pods", "-o", "json"];
    let text = admin.try_ok(&args, "").map_err(|error| format!("{error:#}"))?;
    let pods: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let ours = |pod: &&Value| {
        let metadata = &pod["metadata"];
        let other = metadata["name"].as_str() != but && metadata["deletionTimestamp"].is_null();
        other && pod["spec"]["serviceAccountName"] == NAME
    };
    let mut names: Vec<&str> = pods["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(ours)
        .filter_map(|pod| pod["metadata"]["name"].as_str())
        .collect();
    names.sort_unstable();
    names.first().map(|&name| name.to_owned()).ok_or_else(|| "no Pod runs as breakglass-webhook".to_owned())
}

impl Webhook {
    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port on which it serves metrics, without TLS.
    #[must_use]
    pub fn metrics_port(&self) -> u16 {
        self.metrics_port
    }

    /// What `/metrics` says.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn metrics(&self) -> Result<String, String> {
        probe::page(self.metrics_port, "/metrics")
    }

    /// The same with more flags, not started yet. This one has to be stopped first.
    #[must_use]
    pub fn with_flags(self, flags: &[&str]) -> Self {
        Self { more: flags.iter().map(|&flag| flag.to_owned()).collect(), ..self }
    }

    /// The same once more, not started yet: on the same ports and as the same Pod. This one has to be ended first.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self {
            program: self.program.clone(),
            kubeconfig: self.kubeconfig.clone(),
            pod: self.pod.clone(),
            log: self.log.clone(),
            more: self.more.clone(),
            launcher: self.launcher.clone(),
            group: Arc::clone(&self.group),
            alice: self.alice.clone(),
            process: Mutex::new(None),
            ..*self
        }
    }

    /// The same, started by a command that is given the program and its flags, and becomes it.
    #[must_use]
    pub fn launched_by(self, launcher: &[String]) -> Self {
        Self { launcher: launcher.to_owned(), ..self }
    }

    /// The same, which reaches the API server at `url`.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn through(self, url: &str) -> Result<Self> {
        let kubeconfig = self.kubeconfig.with_file_name(format!("webhook-through-{}.kubeconfig", self.pod));
        let config = Kubeconfig::parse(&std::fs::read_to_string(&self.kubeconfig)?)?;
        config.reached_at(url).write(&kubeconfig, "webhook")?;
        Ok(Self { kubeconfig, ..self })
    }

    /// A second replica beside this one: another Pod of the Deployment, on a port of its own, ready. It reaches the API
    /// server at `url`; the API server goes on asking this one.
    ///
    /// # Errors
    /// When it does not become ready: with the end of its log.
    pub fn second(&self, admin: &Kubectl, url: Option<&str>) -> Result<Self> {
        let second = self.as_another_pod(admin, (probe::free_port()?, url))?;
        second.start()?;
        Ok(second)
    }

    /// The same as another Pod of the Deployment, not started yet: for when the Pod that it ran as is gone.
    ///
    /// # Errors
    /// When there is no other Pod.
    pub fn reborn(&self, admin: &Kubectl) -> Result<Self> {
        self.as_another_pod(admin, (self.port, None))
    }

    fn as_another_pod(&self, admin: &Kubectl, (port, url): (u16, Option<&str>)) -> Result<Self> {
        let pod = wait_until("another Pod of the webhook's Deployment", READY_LIMIT, || pod(admin, Some(&self.pod)))?;
        let kubeconfig = self.kubeconfig.with_file_name(format!("webhook-{pod}.kubeconfig"));
        let mut config = Kubeconfig::parse(&std::fs::read_to_string(&self.kubeconfig)?)?;
        if let Some(url) = url {
            config = config.reached_at(url);
        }
        log_in(admin, &pod, &config, &kubeconfig)?;
        Ok(Self {
            program: self.program.clone(),
            kubeconfig,
            pod,
            port,
            metrics_port: probe::free_port()?,
            service_port: self.service_port,
            log: self.log.clone(),
            more: self.more.clone(),
            launcher: self.launcher.clone(),
            group: Arc::clone(&self.group),
            alice: self.alice.clone(),
            process: Mutex::new(None),
        })
    }

    /// The most memory that it has had at once, in bytes.
    ///
    /// # Errors
    /// When it does not run.
    pub fn peak_memory(&self) -> Result<u64> {
        let id = self.id()?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("the kernel does not say")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    /// Its process id.
    ///
    /// # Errors
    /// When it does not run.
    pub fn id(&self) -> Result<u32> {
        Ok(self.slot().as_ref().context("the webhook does not run")?.id())
    }

    /// The number that a metric has, with its labels as `/metrics` writes them; 0 where it is not there yet.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn metric(&self, metric: &str) -> Result<f64, String> {
        let page = self.metrics()?;
        let value = page.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
        value.map_or(Ok(0.0), |value| value.parse().map_err(|_| format!("{metric} {value}")))
    }

    /// Starts it on the same port as before, and waits until it is ready and the API server asks it.
    ///
    /// # Errors
    /// When it runs already, or does not become ready: with the end of its log.
    pub fn start(&self) -> Result<()> {
        self.launch()?;
        let mut slot = self.slot();
        let process = slot.as_mut().context("the webhook does not run")?;
        let ready = process
            .wait_healthy(READY_LIMIT, || probe::https(self.port, "/readyz"))
            .and_then(|()| process.wait_healthy(READY_LIMIT, || self.asked()));
        if ready.is_err() {
            drop(slot.take());
        }
        ready
    }

    /// Starts it, and waits for nothing.
    ///
    /// # Errors
    /// When it runs already, or there is no such program.
    pub fn launch(&self) -> Result<()> {
        let mut slot = self.slot();
        if slot.as_mut().is_some_and(|process| process.exited().is_none()) {
            bail!("the webhook runs already");
        }
        *slot = Some(self.group.spawn("webhook", self.command())?);
        Ok(())
    }

    /// Waits until it has ended by itself, or by a signal that was sent: how.
    ///
    /// # Errors
    /// When it was not started, or is still there after `limit`.
    pub fn ended(&self, limit: Duration) -> Result<std::process::ExitStatus> {
        let mut process = self.slot().take().context("the webhook does not run")?;
        wait_until("the webhook to end", limit, || process.exited().ok_or_else(|| "it runs".to_owned()))
    }

    /// Asks it to end, and waits until it did; it answers first what it has begun.
    ///
    /// # Errors
    /// When it does not run, or does not end.
    pub fn stop(&self) -> Result<()> {
        let mut process = self.slot().take().context("the webhook does not run")?;
        let status = process.stop(STOP_LIMIT)?;
        if !status.success() {
            bail!("the webhook ended with {status} after SIGTERM");
        }
        Ok(())
    }

    /// Ends it without a word, as a node that loses power would. Nothing happens if it does not run.
    pub fn kill(&self) {
        drop(self.slot().take());
    }

    /// [`stop`](Self::stop) and [`start`](Self::start).
    ///
    /// # Errors
    /// Those of the two.
    pub fn restart(&self) -> Result<()> {
        self.stop()?;
        self.start()
    }

    /// Sends it a signal by name, such as `STOP` and `CONT` to make it hang for a while.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, name: &str) -> Result<()> {
        self.slot().as_ref().context("the webhook does not run")?.signal(name)
    }

    fn command(&self) -> Command {
        let mut words = self.launcher.iter().map(Into::into).chain([self.program.clone()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command
            .args(words)
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| name == "RUST_LOG" || name == "RUST_BACKTRACE"))
            .envs(self.log.iter().map(|log| ("RUST_LOG", log)))
            // As the Deployment has it: what the replica calls itself in the Lease.
            .env("POD_NAME", &self.pod)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(["--listen", &format!("127.0.0.1:{}", self.port)])
            .args(["--metrics-listen", &format!("127.0.0.1:{}", self.metrics_port)])
            .args(["--service-port", &self.service_port.to_string()])
            .args(&self.more);
        command
    }

    /// Whether the API server asks it about writes to prod: a dry run without a token is answered with our warning.
    fn asked(&self) -> Result<(), String> {
        let output = self.alice.run(&["-n", "prod", "create", "configmap", "breakglass-probe", "--dry-run=server"]);
        if output.stderr.contains("break-glass token") { Ok(()) } else { Err(format!("a dry run in prod: {output}")) }
    }

    fn slot(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
