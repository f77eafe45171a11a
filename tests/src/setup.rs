//! Starts a cluster: what is wanted in it, and the order in which that comes up.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use crate::binaries::{self, Ours};
use crate::certs::Authority;
use crate::cluster::{Cluster, ControlPlane, keep_on_panic, people};
use crate::http::Reader;
use crate::kubectl::Kubectl;
use crate::node::{self, Network, Nodes};
use crate::process::{self, Group};
use crate::users::{self, Kubeconfig, Login};
use crate::{apiserver, controller_manager, etcd, flux, webhook};

/// What is wanted in a cluster. Without any wish it is a bare control plane with people.
#[derive(Clone, Debug)]
pub struct Setup {
    name: String,
    directory: Option<PathBuf>,
    flux: bool,
    webhook: bool,
    nodes: bool,
    log: Option<String>,
    ours: Option<Ours>,
}

impl Setup {
    /// A bare control plane in a directory of its own, which `name` makes recognisable.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let (directory, log, ours) = (None, None, None);
        Self { name: name.to_owned(), directory, flux: false, webhook: false, nodes: false, log, ours }
    }

    /// With Flux, which keeps prod in line with a repository.
    #[must_use]
    pub fn flux(mut self) -> Self {
        self.flux = true;
        self
    }

    /// With breakglass.
    #[must_use]
    pub fn webhook(mut self) -> Self {
        self.webhook = true;
        self
    }

    /// With two nodes, which run breakglass when somebody installs it as people do. Not together with
    /// [`webhook`](Self::webhook), which is one process that no node knows of.
    #[must_use]
    pub fn nodes(mut self) -> Self {
        self.nodes = true;
        self
    }

    /// With a webhook that logs what `filter` says, as RUST_LOG has it.
    #[must_use]
    pub fn logging(mut self, filter: &str) -> Self {
        self.log = Some(filter.to_owned());
        self
    }

    /// With these programs of ours, not with those beside the program that asks.
    #[must_use]
    pub fn programs(mut self, ours: Ours) -> Self {
        self.ours = Some(ours);
        self
    }

    /// In this directory, not in a temporary one.
    #[must_use]
    pub fn directory(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    /// Builds or finds the programs it takes, so that [`start`](Self::start) loses no time with it.
    ///
    /// # Errors
    /// When one can be neither found nor built: with what to do.
    pub fn build(&self) -> Result<()> {
        binaries::control_plane()?;
        if self.flux {
            binaries::flux()?;
        }
        binaries::ours().map(drop)
    }

    /// Starts it, and returns when all of it is ready.
    ///
    /// # Errors
    /// When a part does not come up: with the end of its log. The directory is then kept.
    pub fn start(self) -> Result<Cluster> {
        let (directory, group) = self.place()?;
        self.bring_up(&directory, &group).with_context(|| {
            process::keep(&directory);
            format!("all logs are in {}", directory.join("logs").display())
        })
    }

    fn bring_up(&self, directory: &Path, group: &Arc<Group>) -> Result<Cluster> {
        ensure!(
            !(self.nodes && self.webhook),
            "nodes run what is installed: ask for nodes or for the webhook, not both"
        );
        let programs = binaries::control_plane()?;
        let ours = self.ours.clone().map_or_else(binaries::ours, Ok)?;
        fill_bin(directory, &programs.kubectl, &ours)?;
        let network = self.nodes.then(Network::reserve).transpose()?;
        let arguments = match &network {
            Some(network) => network.arguments(directory)?,
            None => no_network(),
        };
        let (control_plane, mut config) = control_plane(group, &programs, (directory, &arguments))?;
        let control_plane = Some(control_plane);
        let mut cluster = Cluster {
            nodes: None,
            webhook: None,
            flux: None,
            control_plane,
            directory: directory.to_owned(),
            reader: Reader::default(),
            _group: Arc::clone(group),
        };

        let admin = cluster.kubectl("admin");
        step("namespaces and people", || settle_in(&cluster))?;
        if let (Some(network), Some(plane)) = (network, &cluster.control_plane) {
            let (authority, directory) = (&plane.authority, directory);
            let site = node::Site { group, directory, admin: &admin, authority, config: &config };
            cluster.nodes = Some(step("two nodes", || Nodes::start(&site, network, &ours.webhook))?);
        }
        if self.flux {
            let programs = binaries::flux()?;
            let site = flux::Site { group, directory: &cluster.directory, admin: &admin };
            cluster.flux = Some(step("Flux", || {
                flux::install(&programs, &site, &mut config)?;
                save(&config, &cluster.directory)?;
                flux::start(&programs, &site)
            })?);
        }
        if self.webhook {
            let site = webhook::Site {
                group,
                directory: &cluster.directory.join("cluster"),
                admin: &admin,
                alice: cluster.kubectl("alice"),
                log: self.log.clone(),
            };
            cluster.webhook = Some(step("breakglass", || webhook::install(&ours.webhook, site, &config))?);
        }
        Ok(cluster)
    }

    /// What an earlier cluster left in the directory, served by etcd and kube-apiserver alone: nothing in it changes.
    ///
    /// # Errors
    /// When one of the two does not come up: with the end of its log.
    pub fn look(self) -> Result<Cluster> {
        let (directory, group) = self.place()?;
        let programs = binaries::control_plane()?;
        let (servers, _) = servers(&group, &programs, (&directory, &no_network()), Authority::new()?)?;
        Ok(Cluster {
            nodes: None,
            webhook: None,
            flux: None,
            control_plane: Some(servers),
            directory,
            reader: Reader::default(),
            _group: group,
        })
    }

    /// A cluster that somebody else runs: nothing is started, the people are the contexts of `kubeconfig`.
    ///
    /// # Errors
    /// When kubectl cannot read the file.
    pub fn over(self, kubeconfig: &Path) -> Result<Cluster> {
        let (directory, group) = self.place()?;
        let (programs, ours) = (binaries::control_plane()?, binaries::ours()?);
        fill_bin(&directory, &programs.kubectl, &ours)?;
        let reader = Kubectl::new(&directory.join("bin"), &directory.join("home"), kubeconfig);
        let text = reader.try_ok(&["config", "view", "--raw", "--flatten", "-o", "json"], "")?;
        let config = Kubeconfig::parse(&text)?;
        save(&config, &directory)?;
        Ok(Cluster {
            nodes: None,
            webhook: None,
            flux: None,
            control_plane: None,
            directory,
            reader: Reader::default(),
            _group: group,
        })
    }

    /// The directory, and the group that ends and removes what is in it.
    fn place(&self) -> Result<(PathBuf, Arc<Group>)> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let directory = self.directory.clone().unwrap_or_else(|| {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            std::env::temp_dir().join(format!("breakglass-{}-{}-{count}", self.name, std::process::id()))
        });
        for inner in ["home", "cluster"] {
            fs::create_dir_all(directory.join(inner))
                .with_context(|| format!("making {}", directory.join(inner).display()))?;
        }
        let group = Arc::new(Group::start(&directory)?);
        keep_on_panic(&directory);
        Ok((directory, group))
    }
}

/// etcd, kube-apiserver and kube-controller-manager, and the logins of the people.
fn control_plane(
    group: &Group,
    programs: &binaries::ControlPlane,
    (directory, network): (&Path, &[String]),
) -> Result<(ControlPlane, Kubeconfig)> {
    let authority = Authority::new()?;
    let (mut control_plane, config) = servers(group, programs, (directory, network), authority)?;
    let name = "kube-controller-manager";
    let login = Login::Certificate(control_plane.authority.client("system:kube-controller-manager", None)?);
    let kubeconfig = directory.join("cluster/kube-controller-manager.kubeconfig");
    config.alone(name, &login).write(&kubeconfig, name)?;
    let process = step(name, || {
        controller_manager::start(group, &programs.kube_controller_manager, &kubeconfig, &control_plane.api_server)
    })?;
    control_plane.controller_manager = Some(process);
    Ok((control_plane, config))
}

/// What stores and what answers, and the logins of the people; nothing that writes by itself.
fn servers(
    group: &Group,
    programs: &binaries::ControlPlane,
    (directory, network): (&Path, &[String]),
    authority: Authority,
) -> Result<(ControlPlane, Kubeconfig)> {
    let (inner, logs) = (directory.join("cluster"), directory.join("logs"));
    let etcd = step("etcd", || etcd::start(group, &programs.etcd, &inner.join("etcd")))?;
    let api_server = step("kube-apiserver", || {
        apiserver::start(group, &programs.kube_apiserver, (&inner.join("pki"), &logs), (&etcd.url, &authority), network)
    })?;
    let config = Kubeconfig::of_people(&api_server.url, &authority)?;
    save(&config, directory)?;
    Ok((ControlPlane { controller_manager: None, api_server, etcd, authority }, config))
}

/// The addresses of Services where no node serves them: nobody connects to one.
fn no_network() -> Vec<String> {
    vec!["--service-cluster-ip-range=10.96.0.0/16".to_owned()]
}

/// One kubeconfig with everybody in it, and one for each.
fn save(config: &Kubeconfig, directory: &Path) -> Result<()> {
    config.write_each(&people(directory))?;
    config.write(&directory.join("kubeconfig"), "admin")
}

/// The people's namespaces and rights. Over data that are there already it changes nothing.
fn settle_in(cluster: &Cluster) -> Result<()> {
    let mut documents = users::RIGHTS.to_owned();
    for name in users::NAMESPACES {
        documents += &format!("---\n{}\n", users::namespace(name));
    }
    // Of roles that are not there before breakglass is: a binding may come first.
    documents += &format!("---\n{}", users::BREAKGLASS_RIGHTS);
    cluster.kubectl("admin").try_ok(&["apply", "--server-side", "-f", "-"], &documents)?;
    for namespace in users::NAMESPACES {
        users::wait_until_may(&cluster.kubectl("alice"), users::EDIT, namespace)?;
    }
    users::wait_until_may(&cluster.kubectl("carol"), ["list", "deployments.apps"], "prod")
}

/// Puts our programs and kubectl under the names that people and kubectl know them by.
fn fill_bin(directory: &Path, kubectl: &Path, ours: &Ours) -> Result<()> {
    let bin = directory.join("bin");
    fs::create_dir_all(&bin)?;
    for (name, program) in [
        ("kubectl", kubectl),
        ("kubectl-breakglass", &ours.plugin),
        ("kubectl_complete-breakglass", &ours.plugin),
        ("breakglass-webhook", &ours.webhook),
    ] {
        let link = bin.join(name);
        let _ = fs::remove_file(&link);
        symlink(program, &link).with_context(|| format!("linking {}", link.display()))?;
    }
    Ok(())
}

/// Says what starts and how long it took.
fn step<T>(name: &str, start: impl FnOnce() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    let result = start().with_context(|| format!("starting {name}"));
    if result.is_ok() {
        eprintln!("started {name} in {:.1} s", started.elapsed().as_secs_f32());
    }
    result
}
