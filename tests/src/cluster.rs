//! A cluster as a test sees it: who may be asked to do what in it, and how to look again after a failure.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::apiserver::ApiServer;
use crate::certs::Authority;
use crate::etcd::Etcd;
use crate::flux::{Flux, bound_token};
use crate::http::Reader;
use crate::kubectl::Kubectl;
use crate::node::Nodes;
use crate::process::{self, Group, Process};
use crate::setup::Setup;
use crate::users::{self, Kubeconfig, Login};
use crate::webhook::Webhook;
use crate::{binaries, controller_manager};

/// Writes as admin without being asked for a token: what is written this way is the scene, not the test.
pub const OVERRIDE: [&str; 6] =
    ["--as", "admin", "--as-group", "system:masters", "--as-group", "breakglass.dev:override"];

/// A cluster with people in it. Everything that we started for it ends when it is dropped, or when we end.
#[derive(Debug)]
pub struct Cluster {
    // In the order they are dropped: first those who write, last what they write to.
    pub(crate) nodes: Option<Nodes>,
    pub(crate) webhook: Option<Webhook>,
    pub(crate) flux: Option<Flux>,
    pub(crate) control_plane: Option<ControlPlane>,
    pub(crate) directory: PathBuf,
    pub(crate) reader: Reader,
    // Last: ends what is left, and removes the directory.
    pub(crate) _group: Arc<Group>,
}

/// The processes of a control plane that is ours.
#[derive(Debug)]
pub struct ControlPlane {
    /// kube-controller-manager, unless the cluster is only looked at.
    pub controller_manager: Option<Process>,
    /// kube-apiserver.
    pub api_server: ApiServer,
    /// etcd.
    pub etcd: Etcd,
    /// Who signs the logins.
    pub(crate) authority: Authority,
}

impl Cluster {
    /// The cluster that all tests of this process share, with everything in it; started by the first who asks.
    ///
    /// With `KUBECONFIG_BREAKGLASS_TEST` set to a kubeconfig it is that cluster, and nothing is started.
    ///
    /// # Panics
    /// When it does not start, for every test that asks.
    #[track_caller]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Result<Cluster, String>> = OnceLock::new();
        let started = SHARED.get_or_init(|| {
            let cluster = match std::env::var_os("KUBECONFIG_BREAKGLASS_TEST") {
                Some(kubeconfig) => Setup::new("shared").over(Path::new(&kubeconfig)),
                None => Setup::new("shared").flux().webhook().start(),
            };
            cluster.map_err(|error| format!("{error:#}"))
        });
        match started {
            Ok(cluster) => cluster,
            Err(error) => panic!("{error}"),
        }
    }

    /// A cluster of the test's own, with everything in it. `name` shows in the name of its directory.
    ///
    /// # Panics
    /// When it does not start: with the end of the log of the part that did not.
    #[track_caller]
    #[must_use]
    pub fn own(name: &str) -> Self {
        Self::started(Setup::new(name).flux().webhook())
    }

    /// A cluster of the test's own without Flux and without breakglass.
    ///
    /// # Panics
    /// When it does not start: with the end of the log of the part that did not.
    #[track_caller]
    #[must_use]
    pub fn bare(name: &str) -> Self {
        Self::started(Setup::new(name))
    }

    #[track_caller]
    fn started(setup: Setup) -> Self {
        match setup.start() {
            Ok(cluster) => cluster,
            // Here and not in a closure, which would not know who called.
            Err(error) => panic!("{error:#}"),
        }
    }

    /// kubectl as `person`: `admin`, `alice`, `bob`, `carol` or `flux`.
    #[must_use]
    pub fn kubectl(&self, person: &str) -> Kubectl {
        let kubeconfig = users::file_of(&people(&self.directory), person);
        Kubectl::new(&self.bin(), &self.directory.join("home"), &kubeconfig)
    }

    /// kubectl as a part of the cluster that logs in by certificate, such as a kubelet.
    ///
    /// # Panics
    /// When the control plane is not ours: nobody signs our certificates there.
    #[must_use]
    pub fn part(&self, user: &str, group: &str) -> Kubectl {
        let plane = self.control_plane.as_ref().unwrap_or_else(|| panic!("this control plane is not ours"));
        self.login(&user.replace(':', "-"), &Login::Certificate(plane.authority.client(user, Some(group)).unwrap()))
    }

    /// kubectl with this login; `name` is what its kubeconfig is called.
    ///
    /// # Panics
    /// When the kubeconfig cannot be written.
    #[must_use]
    pub fn login(&self, name: &str, login: &Login) -> Kubectl {
        let everybody = self.kubectl("admin").ok(&["config", "view", "--raw", "--flatten", "-o", "json"]);
        let kubeconfig = users::file_of(&people(&self.directory), name);
        Kubeconfig::parse(&everybody).unwrap().alone(name, login).write(&kubeconfig, name).unwrap();
        Kubectl::new(&self.bin(), &self.directory.join("home"), &kubeconfig)
    }

    /// An object or a list as the API server has it, read as admin; `None` where it is not found. For what a test looks at: a
    /// kubectl for each look takes more time than all that is looked at.
    ///
    /// # Panics
    /// When it cannot be read.
    #[track_caller]
    #[must_use]
    pub fn find(&self, path: &str) -> Option<Value> {
        self.reader.read(&self.kubectl("admin"), path)
    }

    /// The same, of what is there.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    #[must_use]
    pub fn read(&self, path: &str) -> Value {
        self.find(path).unwrap_or_else(|| panic!("there is no {path}"))
    }

    /// The plugin as `person`, started directly: the same as `kubectl breakglass`, one process less.
    #[must_use]
    pub fn plugin(&self, person: &str) -> Kubectl {
        self.kubectl(person).program(&self.bin().join("kubectl-breakglass"))
    }

    /// Makes a namespace, if it is not there, that alice and bob may edit. Flux does not look after it.
    ///
    /// # Panics
    /// When the API server refuses it.
    pub fn namespace(&self, name: &str) {
        let args = [&["apply", "--server-side", "-f", "-"], &OVERRIDE[..]].concat();
        self.kubectl("admin").ok_with_input(&args, &users::namespace(name));
        users::wait_until_may(&self.kubectl("alice"), users::EDIT, name).unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// Lets `user` write to these (group and resource, with its subresource) in a namespace, beyond what `edit` gives.
    ///
    /// # Panics
    /// When the API server refuses the Role, or does not go by it.
    #[track_caller]
    pub fn grant(&self, user: &str, namespace: &str, resources: &[(&str, &str)]) {
        self.set_scene(&["apply", "--server-side", "-f", "-"], &users::grant(user, namespace, resources));
        let admin = self.kubectl("admin").namespace(namespace);
        users::wait_granted(&admin, user, resources).unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// kubectl as a service account of that name in a namespace, with a token that is bound to its Pod.
    ///
    /// # Panics
    /// When the API server gives it none.
    #[must_use]
    pub fn robot(&self, namespace: &str, name: &str) -> Kubectl {
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
            "serviceAccountName": name, "containers": [{"name": name, "image": "registry.example.com/robot:1"}]}});
        for object in [account, pod] {
            self.set_scene(&["-n", namespace, "apply", "--server-side", "-f", "-"], &object.to_string());
        }
        let token = bound_token(&self.kubectl("admin"), (namespace, name), name).unwrap();
        self.login(&format!("{namespace}-{name}"), &Login::Token(token))
    }

    /// Runs kubectl as an admin whom breakglass does not ask for a token, to set a scene.
    ///
    /// # Panics
    /// When kubectl exits with anything but 0.
    pub fn set_scene(&self, args: &[&str], input: &str) -> String {
        self.kubectl("admin").ok_with_input(&[args, &OVERRIDE[..]].concat(), input)
    }

    /// Its Flux.
    ///
    /// # Panics
    /// When we did not start it, as in a cluster that was given.
    #[must_use]
    pub fn flux(&self) -> &Flux {
        self.flux.as_ref().unwrap_or_else(|| panic!("this cluster has no Flux of ours"))
    }

    /// Its webhook.
    ///
    /// # Panics
    /// When we did not start it, as in a cluster that was given.
    #[must_use]
    pub fn webhook(&self) -> &Webhook {
        self.webhook.as_ref().unwrap_or_else(|| panic!("this cluster has no webhook of ours"))
    }

    /// Its control plane, if it is ours.
    pub fn control_plane(&mut self) -> Option<&mut ControlPlane> {
        self.control_plane.as_mut()
    }

    /// Ends kube-controller-manager and starts it anew, as after a loss of power: every controller asks for a token of its
    /// service account again.
    ///
    /// # Errors
    /// When it does not come up: with the end of its log.
    pub fn restart_controller_manager(&mut self) -> anyhow::Result<()> {
        let control_plane = self.control_plane.as_mut().context("this cluster has no control plane of ours")?;
        // Gone before the next one starts: two would write at once.
        drop(control_plane.controller_manager.take());
        let program = binaries::control_plane()?.kube_controller_manager;
        let kubeconfig = self.directory.join("cluster/kube-controller-manager.kubeconfig");
        let started = controller_manager::start(&self._group, &program, &kubeconfig, &control_plane.api_server)?;
        control_plane.controller_manager = Some(started);
        Ok(())
    }

    /// Ends kube-apiserver and starts it anew at the same address, with these arguments besides those that it had.
    ///
    /// # Errors
    /// When it does not come up: with the end of its log.
    pub fn restart_api_server(&mut self, more: &[String]) -> anyhow::Result<()> {
        let plane = self.control_plane.as_mut().context("this cluster has no control plane of ours")?;
        plane.api_server.restart(&self._group, more, || Ok(()))
    }

    /// A second kube-apiserver over the same etcd, which ends with what is returned.
    ///
    /// # Errors
    /// When it does not come up: with the end of its log.
    pub fn second_api_server(&self) -> anyhow::Result<ApiServer> {
        let plane = self.control_plane.as_ref().context("this cluster has no control plane of ours")?;
        plane.api_server.beside(&self._group)
    }

    /// Copies what is stored now, as a backup would.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn back_up(&self) -> anyhow::Result<PathBuf> {
        self.control_plane.as_ref().context("this cluster has no control plane of ours")?.etcd.copy()
    }

    /// Puts back what was stored before, and starts kube-apiserver over it.
    ///
    /// # Errors
    /// When one of the two does not come up: with the end of its log.
    pub fn restore(&mut self, copy: &Path) -> anyhow::Result<()> {
        let plane = self.control_plane.as_mut().context("this cluster has no control plane of ours")?;
        let (group, etcd) = (&self._group, &mut plane.etcd);
        plane.api_server.restart(group, &[], || etcd.restore(group, copy))
    }

    /// Where everything of it lies: `kubeconfig`, `bin`, `logs`, `fleet.git`, `fleet`.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The kubeconfig with one context per person.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.join("kubeconfig")
    }

    /// The folder with kubectl, our plugin and our webhook.
    #[must_use]
    pub fn bin(&self) -> PathBuf {
        self.directory.join("bin")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        live().retain(|directory| *directory != self.directory);
    }
}

/// Where the kubeconfigs of the people lie, one each.
pub(crate) fn people(directory: &Path) -> PathBuf {
    directory.join("cluster/people")
}

/// The directories of the clusters that run now.
fn live() -> std::sync::MutexGuard<'static, Vec<PathBuf>> {
    static LIVE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on a panic anywhere in this process keeps `directory` and says how to look at it again.
pub(crate) fn keep_on_panic(directory: &Path) {
    static HOOK: Once = Once::new();
    live().push(directory.to_owned());
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            before(panic);
            for directory in live().iter().filter(|directory| !directory.join("keep").exists()) {
                process::keep(directory);
                eprintln!("{}", look_again(directory));
            }
        }));
    });
}

fn look_again(directory: &Path) -> String {
    let at = directory.display();
    format!(
        "to look again (remove {at} when done):\n  \
         less {at}/logs/webhook.log\n  \
         grep '\"user\":{{\"username\":\"alice' {at}/logs/audit.log | less\n  \
         cargo run -q -p tests --bin local -- look {at}    # starts its etcd and API server again, until Ctrl-C\n  \
         KUBECONFIG={at}/kubeconfig {at}/bin/kubectl get events -A"
    )
}
