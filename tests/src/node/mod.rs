//! Two nodes for the webhook's pods: what kube-scheduler, two kubelets and kube-proxy do for them, done here by threads of
//! this process, as those parts and through the API server. The processes are real, and so is every controller above.
//!
//! Only pods in breakglass-system are run, and only images that are known: a kubelet has no other way to come by a program.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::net::UnixListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use crate::certs::Authority;
use crate::kubectl::Kubectl;
use crate::process::{self, Group};
use crate::users::{Kubeconfig, Login};
use crate::wait::wait_until;

// Who has which address on this machine.
mod network;
// One part's way to the API server.
mod api;
// What the cluster holds now.
mod seen;
// Which node a pod goes to.
mod schedule;
// The node: registered, alive, with its pods on it.
mod kubelet;
// One pod: started, probed, ended.
mod pod;
// What its spec says to start, and to ask.
mod container;
// What its status says.
mod status;
// The way from a Service to a pod.
mod service;
// The same way for an API server that asks for it.
mod egress;
// breakglass installed, as people do it.
mod install;

use api::Api;
pub use install::MANIFESTS;
use kubelet::Kubelet;
pub(crate) use network::Network;
use seen::{Kind, Seen};

/// The nodes of a cluster.
pub const NODES: [&str; 2] = ["node-1", "node-2"];

/// The image that the Deployment in manifests/ names.
pub const IMAGE: &str = concat!("breakglass-webhook:", env!("CARGO_PKG_VERSION"));

/// How long the nodes may take to be ready, and to lose power.
const LIMIT: Duration = Duration::from_secs(60);

/// What the API server lets kubelets do. It has no Node authorizer, which would let each see to its own pods only.
const RIGHTS: [&str; 5] =
    ["create", "clusterrolebinding", "nodes", "--clusterrole=system:node", "--group=system:nodes"];

/// What scheduler, kubelets and proxy know together.
#[derive(Debug)]
pub(crate) struct Shared {
    group: Arc<Group>,
    directory: PathBuf,
    network: Network,
    seen: Arc<Seen>,
    config: Mutex<Kubeconfig>,
    images: Mutex<BTreeMap<String, PathBuf>>,
    running: Mutex<BTreeMap<String, Running>>,
    /// The nodes without power.
    dark: watch::Sender<BTreeSet<String>>,
}

/// One pod's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// The name of the pod.
    pub pod: String,
    /// The node it is on.
    pub node: String,
    /// Where it listens on this machine, for a test that asks this replica and no other.
    pub address: Ipv4Addr,
    /// The process id.
    pub id: u32,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn program(&self, image: &str) -> Option<PathBuf> {
        locked(&self.images).get(image).cloned()
    }

    fn config(&self) -> Kubeconfig {
        locked(&self.config).clone()
    }

    fn runs(&self, pod: &str, (node, address, id): (&str, Ipv4Addr, u32)) {
        let (name, node) = (pod.to_owned(), node.to_owned());
        locked(&self.running).insert(name.clone(), Running { pod: name, node, address, id });
    }

    fn ended(&self, pod: &str) {
        locked(&self.running).remove(pod);
    }
}

/// The nodes of one cluster, and what happens to them. Cordon and drain are typed with kubectl.
#[derive(Debug)]
pub struct Nodes {
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

/// Where the nodes find what they need.
pub(crate) struct Site<'a> {
    pub(crate) group: &'a Arc<Group>,
    pub(crate) directory: &'a Path,
    pub(crate) admin: &'a Kubectl,
    pub(crate) authority: &'a Authority,
    pub(crate) config: &'a Kubeconfig,
}

impl Nodes {
    /// Starts them, with `webhook` as the program of [`IMAGE`], and waits until they are ready.
    ///
    /// # Errors
    /// When they do not become ready.
    pub(crate) fn start(site: &Site<'_>, network: Network, webhook: &Path) -> Result<Self> {
        if !network.may_listen() {
            eprintln!(
                "note: this user may not listen on port 443, so the API server alone reaches Services. So that you do too:\n  \
                 sudo sysctl net.ipv4.ip_unprivileged_port_start=443"
            );
        }
        site.admin.try_ok(&RIGHTS, "").context("letting kubelets do their work")?;
        let shared = Arc::new(Shared {
            group: Arc::clone(site.group),
            directory: site.directory.to_owned(),
            network,
            seen: Arc::new(Seen::new()),
            config: Mutex::new(site.config.clone()),
            images: Mutex::new(BTreeMap::from([(IMAGE.to_owned(), webhook.to_owned())])),
            running: Mutex::default(),
            dark: watch::Sender::new(BTreeSet::new()),
        });
        let runtime = Builder::new_multi_thread().worker_threads(2).thread_name("nodes").enable_all().build()?;
        runtime.block_on(parts(site, &shared))?;
        let nodes = Self { shared, runtime: Some(runtime) };
        wait_until("the nodes to be ready", LIMIT, || nodes.are_ready(site.admin))?;
        Ok(nodes)
    }

    fn are_ready(&self, admin: &Kubectl) -> Result<(), String> {
        let path = "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status} {.items[*].spec.taints[*].key}";
        let seen = admin.try_ok(&["get", "nodes", "-o", path], "").map_err(|error| format!("{error:#}"))?;
        if seen.trim() == "True True" { Ok(()) } else { Err(format!("ready, and taints: {seen}")) }
    }

    /// The processes of all pods that run now, in the order of the pods' names.
    #[must_use]
    pub fn running(&self) -> Vec<Running> {
        locked(&self.shared.running).values().cloned().collect()
    }

    /// The process of one pod.
    ///
    /// # Errors
    /// When it has none now.
    pub fn process(&self, pod: &str) -> Result<Running> {
        let running = locked(&self.shared.running).get(pod).cloned();
        running.with_context(|| format!("pod {pod} has no process now"))
    }

    /// Ends the process of a pod without a word (SIGKILL); its kubelet starts it again.
    ///
    /// # Errors
    /// When it has none now.
    pub fn kill(&self, pod: &str) -> Result<()> {
        self.signal(pod, "KILL")
    }

    /// Sends a signal by name to the process of a pod, such as `STOP` and `CONT` to hold it for a while.
    ///
    /// # Errors
    /// When it has none now.
    pub fn signal(&self, pod: &str, signal: &str) -> Result<()> {
        process::send(signal, &self.process(pod)?.id.to_string())
    }

    /// Takes the power from a node: its processes are gone, its connections hang, its kubelet says nothing more.
    ///
    /// # Errors
    /// When a process does not go.
    pub fn stop_node(&self, node: &str) -> Result<()> {
        self.shared.dark.send_if_modified(|dark| dark.insert(node.to_owned()));
        wait_until(&format!("the processes on {node} to be gone"), LIMIT, || {
            match self.running().into_iter().find(|running| running.node == node) {
                Some(running) => Err(format!("{running:?}")),
                None => Ok(()),
            }
        })
    }

    /// Gives a node its power back: it says that it is ready, and starts the pods that are bound to it.
    pub fn start_node(&self, node: &str) {
        self.shared.dark.send_if_modified(|dark| dark.remove(node));
    }

    /// Makes an image known to all nodes: containers of it are this program.
    pub fn add_image(&self, image: &str, program: &Path) {
        locked(&self.shared.images).insert(image.to_owned(), program.to_owned());
    }

    /// Pods that are started from now on reach the API server at `url`, such as through a [`crate::proxy`].
    pub fn reach_api_server_at(&self, url: &str) {
        let mut config = locked(&self.shared.config);
        *config = config.clone().reached_at(url);
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Every task is dropped, and with it the processes of the pods.
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

/// Starts all parts, each with a login of its own.
async fn parts(site: &Site<'_>, shared: &Arc<Shared>) -> Result<()> {
    let scheduler = log_in(site, "system:kube-scheduler", None).await?;
    let proxy = log_in(site, "system:kube-proxy", None).await?;
    let watches =
        [(Kind::Pods, &scheduler), (Kind::Nodes, &scheduler), (Kind::Services, &proxy), (Kind::Slices, &proxy)];
    for (kind, api) in watches {
        tokio::spawn(Arc::clone(&shared.seen).follow(api.client.clone(), kind));
    }
    tokio::spawn(schedule::schedule(Arc::clone(&shared.seen), scheduler));
    if shared.network.may_listen() {
        tokio::spawn(service::serve(Arc::clone(shared)));
    } else {
        let socket = network::socket(site.directory);
        let listener = UnixListener::bind(&socket).with_context(|| format!("listening on {}", socket.display()))?;
        tokio::spawn(egress::serve(Arc::clone(shared), listener));
    }
    for (number, node) in NODES.iter().enumerate() {
        let api = log_in(site, &format!("system:node:{node}"), Some("system:nodes")).await?;
        tokio::spawn(Kubelet::new(Arc::clone(shared), api, number).run());
    }
    Ok(())
}

async fn log_in(site: &Site<'_>, user: &str, group: Option<&str>) -> Result<Api> {
    let login = Login::Certificate(site.authority.client(user, group)?);
    let name = user.replace(':', "-");
    let kubeconfig = site.directory.join(format!("cluster/{name}.kubeconfig"));
    site.config.alone(&name, &login).write(&kubeconfig, &name)?;
    Api::new(&kubeconfig).await
}
