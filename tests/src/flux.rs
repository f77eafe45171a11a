//! A real Flux kustomize-controller that keeps namespace prod in line with the fleet repository.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::binaries;
use crate::cluster::{Cluster, OVERRIDE, people};
use crate::git::{BRANCH, Fleet};
use crate::kubectl::Kubectl;
use crate::probe;
use crate::process::{Group, Process};
use crate::source::{self, Source};
use crate::users::{FLUX, Kubeconfig, Login, file_of};
use crate::wait::wait_until;

/// Service accounts, the Pods their tokens are bound to, the GitRepository and the Kustomization.
const OBJECTS: &str = include_str!("flux.yaml");

/// What applies the repository to namespace prod.
const KUSTOMIZATION: [&str; 3] = ["-n", "flux-system", "kustomizations.kustomize.toolkit.fluxcd.io/prod"];

/// What the repository says of the object that Flux applies to namespace prod, comments included.
const API: &str = "\
# The shop's API.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: api
  namespace: prod
spec:
  replicas: 2   # enough for a Sunday
  selector:
    matchLabels: {app: api}
  template:
    metadata:
      labels: {app: api}
    spec:
      containers:
      - name: api
        # Built from main.
        image: \"registry.example.com/api:1.0.0\"  # {\"$imagepolicy\": \"flux-system:api\"}
";

/// For tests that need the proof to stay valid, and a cluster that is left up over night.
const TOKEN_LIFE: &str = "--duration=8760h";

/// The stand-in's login: a file of its own, since it is nobody that a person would act as.
const SOURCE: &str = "source";

/// A running Flux: kustomize-controller, and the stand-in for source-controller.
#[derive(Debug)]
pub struct Flux {
    /// kustomize-controller.
    pub controller: Process,
    /// The repository it follows.
    pub fleet: Fleet,
    admin: Kubectl,
    _source: Source,
}

/// Where Flux finds what it needs.
pub(crate) struct Site<'a> {
    pub(crate) group: &'a Group,
    pub(crate) directory: &'a Path,
    pub(crate) admin: &'a Kubectl,
}

/// Installs Flux' CRDs and identities; the login of kustomize-controller becomes a context of `config`.
///
/// # Errors
/// When the API server refuses an object.
pub(crate) fn install(programs: &binaries::Flux, site: &Site<'_>, config: &mut Kubeconfig) -> Result<()> {
    let admin = site.admin;
    let crds = programs.crds.to_string_lossy();
    admin.try_ok(&["apply", "--server-side", "-f", &crds], "").context("installing Flux' CRDs")?;
    admin.try_ok(&["wait", "--for=condition=Established", "--timeout=60s", "-f", &crds], "")?;
    // A definition is established before every request about it is served: those under way break off when the API server opens
    // the store of the kind anew (apiextensions-apiserver pkg/apiserver/customresource_handler.go).
    wait_until("Flux to be installed", Duration::from_secs(60), || {
        admin.try_ok(&["apply", "-f", "-"], OBJECTS).map_err(|error| format!("{error:#}"))
    })?;
    let login = |account: &str| bound_token(admin, ("flux-system", account), &format!("{account}-0")).map(Login::Token);
    config.add(FLUX, &login("kustomize-controller")?);
    config.alone(SOURCE, &login("source-controller")?).write(&file_of(&people(site.directory), SOURCE), SOURCE)
}

/// Starts kustomize-controller and the stand-in, and waits until prod says what the repository says.
///
/// # Errors
/// When the controller does not come up, or does not apply: with what it said last.
pub(crate) fn start(programs: &binaries::Flux, site: &Site<'_>) -> Result<Flux> {
    let fleet = Fleet::create(site.directory)?;
    let identity = |context: &str| {
        let (bin, home) = (site.directory.join("bin"), site.directory.join("home"));
        Kubectl::new(&bin, &home, &file_of(&people(site.directory), context))
    };
    let source = source::start(&fleet, &site.directory.join("cluster/archives"), identity(SOURCE))?;
    let (metrics, health) = (probe::free_port()?, probe::free_port()?);
    let mut command = Command::new(&programs.kustomize_controller);
    command
        .env("KUBECONFIG", identity(FLUX).kubeconfig())
        .env("RUNTIME_NAMESPACE", "flux-system")
        .args(["--watch-all-namespaces", "--enable-leader-election=false", "--log-encoding=json"])
        .arg(format!("--metrics-addr=127.0.0.1:{metrics}"))
        .arg(format!("--health-addr=127.0.0.1:{health}"));
    let mut controller = site.group.spawn("kustomize-controller", command)?;
    controller.wait_healthy(Duration::from_secs(60), || probe::http(health, "/readyz"))?;
    let flux = Flux { controller, fleet, admin: site.admin.clone(), _source: source };
    let head = flux.fleet.git(&["rev-parse", "HEAD"])?;
    flux.wait_applied(&head)?;
    Ok(flux)
}

impl Flux {
    /// Waits until the Kustomization `prod` has applied `commit`.
    ///
    /// # Errors
    /// When it has not within a minute: with its Ready condition.
    pub fn wait_applied(&self, commit: &str) -> Result<()> {
        let revision = format!("{BRANCH}@sha1:{commit}");
        wait_until(&format!("Flux to apply {revision}"), Duration::from_secs(60), || {
            let path = "jsonpath={.status.lastAppliedRevision} {.status.conditions[?(@.type=='Ready')].message}";
            let args = ["-n", "flux-system", "get", "kustomizations.kustomize.toolkit.fluxcd.io", "prod", "-o", path];
            let status = self.admin.try_ok(&args, "").map_err(|error| format!("{error:#}"))?;
            if status.split(' ').next() == Some(revision.as_str()) { Ok(()) } else { Err(status) }
        })
    }
}

impl Cluster {
    /// Has Flux reconcile prod now, and waits until it did.
    ///
    /// # Panics
    /// When it does not in time: with what it handled last.
    #[track_caller]
    pub fn reconcile(&self, limit: Duration) {
        // Never the same twice: the clock makes it new.
        let request = chrono::Utc::now().timestamp_micros().to_string();
        let annotation = format!("reconcile.fluxcd.io/requestedAt={request}");
        self.set_scene(&[&["annotate", "--overwrite"], &KUSTOMIZATION[..], &[&annotation]].concat(), "");
        wait_until("Flux to reconcile", limit, || {
            let args = [&["get"], &KUSTOMIZATION[..], &["-o", "jsonpath={.status.lastHandledReconcileAt}"]].concat();
            let handled = self.kubectl("admin").ok(&args);
            if handled == request { Ok(()) } else { Err(handled) }
        })
        .unwrap_or_else(|error| panic!("{error:#}"));
    }
}

/// Flux leaves prod alone for as long as this is held: it would undo a hotfix while that is decided about, after ten seconds here.
#[derive(Debug)]
pub struct Suspended<'c>(&'c Cluster);

impl Drop for Suspended<'_> {
    fn drop(&mut self) {
        self.0.suspend(false);
    }
}

impl Cluster {
    /// Keeps Flux from prod.
    #[must_use]
    pub fn suspend_flux(&self) -> Suspended<'_> {
        self.suspend(true);
        Suspended(self)
    }

    fn suspend(&self, suspend: bool) {
        let patch = json!({"spec": {"suspend": suspend}}).to_string();
        self.set_scene(&[&["patch"], &KUSTOMIZATION[..], &["--type=merge", "-p", &patch]].concat(), "");
    }

    /// Has the repository say [`API`] and nothing else, under a name that is the test's own, and waits until the cluster does.
    ///
    /// # Panics
    /// When Flux does not apply it.
    #[track_caller]
    pub fn set_api(&self, name: &str) {
        let file = format!("prod/{name}.yaml");
        let api = API.replace("  name: api\n  namespace", &format!("  name: {name}\n  namespace"));
        let list =
            format!("apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n- {name}.yaml\n");
        let files = [(file.as_str(), api.as_str()), ("prod/kustomization.yaml", list.as_str())];
        let commit = self.flux().fleet.push(&format!("{name}: with comments"), &files).unwrap();
        self.flux().wait_applied(&commit).unwrap();
    }
}

/// A token of a service account that is bound to a Pod, which proves to those who ask that the Pod holds it.
///
/// # Errors
/// When the Pod or the account is not there.
pub(crate) fn bound_token(admin: &Kubectl, (namespace, account): (&str, &str), pod: &str) -> Result<String> {
    let uid = admin.try_ok(&["-n", namespace, "get", "pod", pod, "-o", "jsonpath={.metadata.uid}"], "")?;
    let bound = ["--bound-object-kind=Pod", "--bound-object-name", pod, "--bound-object-uid", &uid, TOKEN_LIFE];
    // A token of an exempt identity is not minted without a token of ours.
    let args = [&["-n", namespace, "create", "token", account], &bound[..], &OVERRIDE[..]].concat();
    let token = admin.try_ok(&args, "")?;
    Ok(token.trim().to_owned())
}
