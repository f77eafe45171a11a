//! One pod on its node: its process started, probed, started again, and ended when the pod is deleted.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Shared;
use super::api::{Api, Failure, now};
use super::container::{self, Place, Probe};
use super::schedule::path;
use super::seen::NAMESPACE;
use super::status::{Doing, Status};
use crate::process::Process;
use crate::users::Login;

/// How often a pod is looked at, though nothing was told of it.
const TICK: Duration = Duration::from_millis(100);

/// How often while it is asked to end.
const ENDING_TICK: Duration = Duration::from_millis(20);

/// How long a pod has that is deleted by force, as a kubelet gives it.
const FORCED_GRACE: Duration = Duration::from_secs(2);

/// The longest wait before a container is started again. A kubelet waits up to 300 s; a test does not.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(5);

/// A container that ran for so long is started again at once.
const WELL: Duration = Duration::from_secs(60);

/// As long as a test or a cluster lasts: what cannot be mounted is not renewed either.
const TOKEN_SECONDS: u64 = 365 * 24 * 3600;

/// One probe, and what it said.
struct Watched {
    probe: Probe,
    due: Instant,
    failed: u64,
    passed: u64,
}

/// One pod, and its process.
pub(super) struct Worker {
    shared: Arc<Shared>,
    api: Api,
    node: String,
    host: String,
    pod: Arc<Value>,
    name: String,
    address: Ipv4Addr,
    here: Ipv4Addr,
    status: Status,
    posted: Value,
    process: Option<Process>,
    probes: [Option<Watched>; 3],
    kubeconfig: Option<PathBuf>,
    started: Instant,
    again: Instant,
    crashes: u32,
}

const STARTUP: usize = 0;
const READINESS: usize = 1;
const LIVENESS: usize = 2;

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, api: Api, (node, host): (&str, &str), pod: Arc<Value>) -> Self {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let address = shared.network.pod();
        let here = shared.network.here(address).unwrap_or(Ipv4Addr::LOCALHOST);
        let before = &pod["status"]["containerStatuses"][0];
        let mut status = Status::new(before["restartCount"].as_u64().unwrap_or_default());
        if !before["state"]["running"].is_null() {
            // It ran when the node went off: how it ended nobody saw.
            status.last = Some(json!({"exitCode": 255, "reason": "Unknown", "finishedAt": now(),
                "startedAt": before["state"]["running"]["startedAt"]}));
        }
        if ["Succeeded", "Failed"].iter().any(|phase| pod["status"]["phase"] == *phase) {
            status.doing = Doing::Ended(before["state"]["terminated"].clone());
        }
        let (node, host) = (node.to_owned(), host.to_owned());
        let (kubeconfig, process, posted, probes) = (None, None, Value::Null, [None, None, None]);
        let (started, again, crashes) = (Instant::now(), Instant::now(), 0);
        Self {
            shared, api, node, host, pod, name, address, here, status, posted, process, probes, kubeconfig, started,
            again, crashes,
        }
    }

    /// Runs the pod until it is gone from the cluster.
    pub(super) async fn run(mut self) {
        let mut changes = self.shared.seen.changes();
        loop {
            match self.seen() {
                None => return self.end(FORCED_GRACE).await,
                Some(pod) if !pod["metadata"]["deletionTimestamp"].is_null() => {
                    let grace = pod["metadata"]["deletionGracePeriodSeconds"].as_u64().unwrap_or(30);
                    self.end(Duration::from_secs(grace)).await;
                    return self.delete().await;
                }
                Some(_) => {}
            }
            self.step().await;
            self.post().await;
            let _ = tokio::time::timeout(TICK, changes.changed()).await;
        }
    }

    fn seen(&self) -> Option<Arc<Value>> {
        self.shared.seen.pod(self.pod["metadata"]["uid"].as_str().unwrap_or_default())
    }

    async fn step(&mut self) {
        if matches!(self.status.doing, Doing::Ended(_)) {
            return;
        }
        match self.process.as_mut().map(Process::exited) {
            Some(Some(status)) => self.crashed(status),
            Some(None) => self.look().await,
            None if Instant::now() >= self.again => self.start().await,
            None => {}
        }
    }

    async fn start(&mut self) {
        self.again = Instant::now() + Duration::from_secs(1);
        let image = self.pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default();
        let Some(program) = self.shared.program(image) else {
            let message = format!("Container image \"{image}\" is not present with pull policy of Never");
            self.status.doing = Doing::Waiting { reason: "ErrImageNeverPull", message };
            return;
        };
        if self.kubeconfig.is_none() {
            self.kubeconfig = self.log_in().await;
        }
        // Without a login it stays in creation, and tries again.
        let Some(kubeconfig) = &self.kubeconfig else { return };
        let place = Place { address: self.address, here: self.here, host: &self.host };
        let command = container::command(&self.pod, &program, kubeconfig, &place);
        let started = match command {
            Ok(command) => self.shared.group.spawn(&self.name, command).map_err(|error| format!("{error:#}")),
            Err(message) => Err(message),
        };
        match started {
            Ok(process) => self.runs(process),
            Err(message) => self.status.doing = Doing::Waiting { reason: "CreateContainerConfigError", message },
        }
    }

    fn runs(&mut self, process: Process) {
        self.shared.runs(&self.name, (&self.node, self.here, process.id()));
        self.process = Some(process);
        self.started = Instant::now();
        self.status.restarts += u64::from(self.status.last.is_some());
        self.status.doing = Doing::Running { since: now() };
        (self.status.started, self.status.ready) = (false, false);
        let probes = ["startupProbe", "readinessProbe", "livenessProbe"];
        self.probes = probes.map(|name| {
            let probe = Probe::of(&self.pod, name)?;
            Some(Watched { due: Instant::now() + probe.delay, probe, failed: 0, passed: 0 })
        });
    }

    /// A token that is bound to the pod, asked for by its kubelet, as for a projected volume.
    async fn log_in(&self) -> Option<PathBuf> {
        let account = self.pod["spec"]["serviceAccountName"].as_str().unwrap_or("default");
        let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": self.name, "uid": self.pod["metadata"]["uid"]});
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"expirationSeconds": TOKEN_SECONDS, "boundObjectRef": bound}});
        let path = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{account}/token");
        let answer = self.api.send("POST", &path, &request).await.ok()?;
        let login = Login::Token(answer["status"]["token"].as_str()?.to_owned());
        let kubeconfig = self.shared.directory.join(format!("cluster/{}.kubeconfig", self.name));
        self.shared.config().alone("pod", &login).write(&kubeconfig, "pod").ok()?;
        Some(kubeconfig)
    }

    /// It ended though nobody asked it to.
    fn crashed(&mut self, status: ExitStatus) {
        let how = self.gone(status);
        self.status.last = Some(how);
        self.crashes = if self.started.elapsed() > WELL { 0 } else { self.crashes + 1 };
        let wait = match self.crashes {
            0 | 1 => Duration::ZERO,
            crashes => Duration::from_secs(1 << (crashes - 2).min(3)).min(LONGEST_BACK_OFF),
        };
        self.again = Instant::now() + wait;
        let message = format!("back-off {} s restarting failed container", wait.as_secs());
        self.status.doing = Doing::Waiting { reason: "CrashLoopBackOff", message };
    }

    /// The process is no more: how it ended, as a status says it.
    fn gone(&mut self, status: ExitStatus) -> Value {
        self.process = None;
        self.shared.ended(&self.name);
        self.status.ready = false;
        let signal = std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or_default();
        let reason = if status.success() { "Completed" } else { "Error" };
        let since = match &self.status.doing {
            Doing::Running { since } => since.clone(),
            Doing::Waiting { .. } | Doing::Ended(_) => now(),
        };
        json!({"exitCode": status.code().unwrap_or(128 + signal), "reason": reason, "startedAt": since,
            "finishedAt": now()})
    }

    /// Asks the probes that are due.
    async fn look(&mut self) {
        if !self.status.started {
            match self.asked(STARTUP).await {
                Some(false) => self.fails().await,
                Some(true) => self.status.started = true,
                None => self.status.started = self.probes[STARTUP].is_none(),
            }
            return;
        }
        self.look_ready().await;
        if self.asked(LIVENESS).await == Some(false) {
            self.fails().await;
        }
    }

    async fn look_ready(&mut self) {
        match self.asked(READINESS).await {
            Some(ready) => self.status.ready = ready,
            None => self.status.ready |= self.probes[READINESS].is_none(),
        }
    }

    /// What a probe says, if it is due and was of one mind for long enough.
    async fn asked(&mut self, which: usize) -> Option<bool> {
        let here = self.here;
        let watched = self.probes[which].as_mut().filter(|watched| Instant::now() >= watched.due)?;
        watched.due = Instant::now() + watched.probe.period;
        let probe = watched.probe.clone();
        let passed = tokio::task::spawn_blocking(move || probe.ask(here)).await.is_ok_and(|answer| answer.is_ok());
        (watched.passed, watched.failed) = if passed { (watched.passed + 1, 0) } else { (0, watched.failed + 1) };
        if watched.passed >= watched.probe.successes {
            return Some(true);
        }
        (watched.failed >= watched.probe.failures).then_some(false)
    }

    /// A probe gave it up: it is ended, and started again.
    async fn fails(&mut self) {
        let grace = self.pod["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap_or(30);
        if let Some(status) = self.stop(Duration::from_secs(grace)).await {
            self.crashed(status);
        }
    }

    /// SIGTERM, time to end, SIGKILL. Its readiness is looked at meanwhile, as EndpointSlices tell of it.
    async fn stop(&mut self, grace: Duration) -> Option<ExitStatus> {
        let asked = Instant::now();
        let _ = self.process.as_ref()?.signal("TERM");
        loop {
            if let Some(status) = self.process.as_mut()?.exited() {
                return Some(status);
            }
            if asked.elapsed() >= grace {
                let mut process = self.process.take()?;
                process.kill();
                return process.exited();
            }
            self.look_ready().await;
            self.post().await;
            tokio::time::sleep(ENDING_TICK).await;
        }
    }

    /// The pod is to go: its process ends, and its status says so.
    async fn end(&mut self, grace: Duration) {
        let pause = self.pod["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64();
        let pause = Duration::from_secs(pause.unwrap_or_default()).min(grace);
        if self.process.is_some() {
            tokio::time::sleep(pause).await;
        }
        if let Some(status) = self.stop(grace.saturating_sub(pause)).await {
            let how = self.gone(status);
            self.status.doing = Doing::Ended(how);
        } else if !matches!(self.status.doing, Doing::Ended(_)) {
            self.status.doing = Doing::Ended(json!({"exitCode": 137, "reason": "ContainerStatusUnknown"}));
        }
        self.post().await;
    }

    /// The last word on a pod is its kubelet's.
    async fn delete(&self) {
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
            "preconditions": {"uid": self.pod["metadata"]["uid"]}});
        while self.seen().is_some() {
            match self.api.send("DELETE", &path(&self.pod), &options).await {
                Ok(_) | Err(Failure::Refused(404 | 409)) => return,
                Err(Failure::Refused(_) | Failure::Silent) => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        }
    }

    /// Tells the API server what changed.
    async fn post(&mut self) {
        let status = self.status.render(&self.pod, self.address, &self.host);
        if status == self.posted {
            return;
        }
        let patch = json!({"metadata": {"uid": self.pod["metadata"]["uid"]}, "status": status});
        if self.api.patch(&format!("{}/status", path(&self.pod)), &patch).await.is_ok() {
            self.posted = status;
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // A node that lost its power takes its processes with it.
        drop(self.process.take());
        self.shared.ended(&self.name);
    }
}
