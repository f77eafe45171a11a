//! The programs a control plane is made of: taken from a folder, or built once from pinned Go modules and kept.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// What a control plane needs.
#[derive(Clone, Debug)]
pub struct ControlPlane {
    /// Path of etcd.
    pub etcd: PathBuf,
    /// Path of kube-apiserver.
    pub kube_apiserver: PathBuf,
    /// Path of kube-controller-manager.
    pub kube_controller_manager: PathBuf,
    /// Path of kubectl.
    pub kubectl: PathBuf,
}

/// What Flux needs.
#[derive(Clone, Debug)]
pub struct Flux {
    /// Path of kustomize-controller.
    pub kustomize_controller: PathBuf,
    /// Folder of the custom resource definitions it works with.
    pub crds: PathBuf,
}

/// The programs of this repository, as `cargo build -p tests --bins` leaves them.
#[derive(Clone, Debug)]
pub struct Ours {
    /// Path of the webhook.
    pub webhook: PathBuf,
    /// Path of the plugin.
    pub plugin: PathBuf,
}

/// A Go module below `tests/` whose `tool` lines are programs we run.
struct Module {
    folder: &'static str,
    /// The module whose version names the cache folder.
    named_by: &'static str,
    go_mod: &'static str,
    go_sum: &'static str,
}

const CONTROLPLANE: Module = Module {
    folder: "controlplane",
    named_by: "k8s.io/kubernetes",
    go_mod: include_str!("../controlplane/go.mod"),
    go_sum: include_str!("../controlplane/go.sum"),
};

const ENGINES: Module = Module {
    folder: "engines",
    named_by: "github.com/fluxcd/kustomize-controller",
    go_mod: include_str!("../engines/go.mod"),
    go_sum: include_str!("../engines/go.sum"),
};

/// source-controller gives its CRDs only. It cannot stand in go.mod: its `api` module of that version was never
/// published to the module proxy. So its version and the sum of its files are pinned here.
const SOURCE_CONTROLLER: &str = "github.com/fluxcd/source-controller@v1.9.6";
const SOURCE_CONTROLLER_SUM: &str = "h1:nG534/bI6nVpyHra7ONAk6xDB3xPsVT+EOLHZHXPrrc=";

/// The control plane's programs: those in `KUBEBUILDER_ASSETS` if it is set, for the rest ours, built if missing.
///
/// # Errors
/// When there is no Go to build with, or the build fails: with what to do.
pub fn control_plane() -> Result<ControlPlane> {
    let given = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    let find = |name: &str, package: &str| -> Result<PathBuf> {
        match given.as_ref().map(|folder| folder.join(name)) {
            Some(program) if program.is_file() => Ok(program),
            _ => CONTROLPLANE.program(name, package),
        }
    };
    Ok(ControlPlane {
        etcd: find("etcd", "go.etcd.io/etcd/server/v3")?,
        kube_apiserver: find("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver")?,
        kube_controller_manager: find("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager")?,
        kubectl: find("kubectl", "k8s.io/kubernetes/cmd/kubectl")?,
    })
}

/// kubectl alone: what renders needs no control plane.
///
/// # Errors
/// When there is no Go to build with, or the build fails: with what to do.
pub fn kubectl() -> Result<PathBuf> {
    let given = std::env::var_os("KUBEBUILDER_ASSETS").map(|folder| PathBuf::from(folder).join("kubectl"));
    given
        .filter(|program| program.is_file())
        .map_or_else(|| CONTROLPLANE.program("kubectl", "k8s.io/kubernetes/cmd/kubectl"), Ok)
}

/// Flux' programs and CRDs, built and fetched if missing.
///
/// # Errors
/// When there is no Go to build with, or the build fails: with what to do.
pub fn flux() -> Result<Flux> {
    Ok(Flux {
        kustomize_controller: ENGINES.program("kustomize-controller", "github.com/fluxcd/kustomize-controller")?,
        crds: crds()?,
    })
}

/// promtool, which checks rules as Prometheus does: the one on the PATH, or the one in Debian's package, unpacked into the cache.
///
/// # Errors
/// When neither is to be had: with what to install.
pub fn promtool() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(found) = std::env::split_paths(&path).map(|folder| folder.join("promtool")).find(|file| file.is_file())
    {
        return Ok(found);
    }
    let folder = cache()?.join("prometheus");
    fs::create_dir_all(&folder)?;
    once(&folder, "promtool", || {
        eprintln!("unpacking promtool from Debian's package prometheus; it is kept");
        let unfinished = folder.join(".unfinished");
        let _ = fs::remove_dir_all(&unfinished);
        fs::create_dir_all(&unfinished)?;
        // A machine that has just been made has no lists yet; where that takes rights that we lack, they may be there already.
        let script = "apt-get download -q prometheus || { apt-get update -q && apt-get download -q prometheus; } && \
            dpkg-deb --extract prometheus_*.deb .";
        let out = Command::new("sh").args(["-c", script]).current_dir(&unfinished).output().context(NO_PROMTOOL)?;
        if !out.status.success() {
            bail!("{NO_PROMTOOL}:\n{}", String::from_utf8_lossy(&out.stderr));
        }
        Ok(unfinished.join("usr/bin/promtool"))
    })
}

const NO_PROMTOOL: &str = "promtool is missing. Install it: apt-get install prometheus";

/// This repository's programs, found beside the program that asks.
///
/// # Errors
/// When they were not built: with the command that does.
pub fn ours() -> Result<Ours> {
    let me = std::env::current_exe()?;
    let mut folder = me.parent().context("a program lies in a folder")?;
    // Test programs lie in target/<profile>/deps, programs one above.
    if folder.ends_with("deps") {
        folder = folder.parent().context("deps lies in a folder")?;
    }
    let find = |name: &str| -> Result<PathBuf> {
        let program = folder.join(name);
        if !program.is_file() {
            bail!("{} is missing; build it: cargo build -p tests --bins", program.display());
        }
        Ok(program)
    };
    Ok(Ours { webhook: find("e2e-breakglass-webhook")?, plugin: find("e2e-kubectl-breakglass")? })
}

impl Module {
    fn directory(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(self.folder)
    }

    fn version(&self) -> Result<&'static str> {
        let mut words = self.go_mod.lines().map(|line| line.trim_start_matches("require").split_whitespace());
        words
            .find_map(|mut words| words.next().filter(|&module| module == self.named_by).and_then(|_| words.next()))
            .with_context(|| format!("{} is not required by {}/go.mod", self.named_by, self.folder))
    }

    /// Where its programs are kept: a change of any version, direct or not, makes it another folder.
    fn cache(&self) -> Result<PathBuf> {
        let digest = Sha256::new().chain_update(self.go_mod).chain_update(self.go_sum).finalize();
        let short: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let folder = cache()?.join(format!("{}-{}-{short}", self.folder, self.version()?));
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(folder)
    }

    fn program(&self, name: &str, package: &str) -> Result<PathBuf> {
        let folder = self.cache()?;
        once(&folder, name, || {
            let note = cache()?.join(format!("{name}.took"));
            let version = self.version()?;
            let last = match fs::read_to_string(&note).ok().and_then(|seconds| seconds.trim().parse().ok()) {
                Some(seconds) => format!("took {} last time", duration(Duration::from_secs(seconds))),
                None => "the first time takes minutes; it is kept".to_owned(),
            };
            eprintln!("building {name} (of {} {version}; {last})", self.named_by);
            let started = Instant::now();
            let unfinished = folder.join(format!(".{name}.unfinished"));
            self.build(package, version, &unfinished).with_context(|| format!("building {name}"))?;
            let took = started.elapsed();
            fs::write(note, took.as_secs().to_string())?;
            eprintln!("built {name} in {}", duration(took));
            Ok(unfinished)
        })
    }

    fn build(&self, package: &str, version: &str, target: &Path) -> Result<()> {
        let mut flags = "-s -w".to_owned();
        if self.named_by == "k8s.io/kubernetes" {
            // Without these it says v0.0.0 and clients that look at the version take the wrong turn.
            let mut parts = version.trim_start_matches('v').split('.');
            let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            for (name, value) in [("gitVersion", version), ("gitMajor", major), ("gitMinor", minor)] {
                flags += &format!(" -X k8s.io/component-base/version.{name}={value}");
            }
        }
        let out = self
            .go()
            .env("CGO_ENABLED", "0")
            .args(["build", "-trimpath", "-buildvcs=false", "-ldflags", &flags, "-o"])
            .arg(target)
            .arg(package)
            .output()
            .context(NO_GO)?;
        if !out.status.success() {
            bail!("go build {package} in {}:\n{}", self.directory().display(), String::from_utf8_lossy(&out.stderr));
        }
        Ok(())
    }

    fn go(&self) -> Command {
        let mut go = Command::new("go");
        go.current_dir(self.directory());
        go
    }
}

const NO_GO: &str = "starting go: install Go 1.26 or later (the version in tests/controlplane/go.mod), \
    or set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver, kube-controller-manager and kubectl";

/// Copies the CRDs out of the Go modules into the cache, so that later runs need no Go.
fn crds() -> Result<PathBuf> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Download {
        dir: PathBuf,
        path: String,
        sum: String,
    }
    let folder = ENGINES.cache()?;
    once(&folder, "crds", || {
        let unfinished = folder.join(".crds.unfinished");
        let _ = fs::remove_dir_all(&unfinished);
        fs::create_dir_all(&unfinished)?;
        for module in [ENGINES.named_by, SOURCE_CONTROLLER] {
            let out = ENGINES.go().args(["mod", "download", "-json", module]).output().context(NO_GO)?;
            let download: Download = serde_json::from_slice(&out.stdout)
                .with_context(|| format!("go mod download {module}: {}", String::from_utf8_lossy(&out.stderr)))?;
            if module == SOURCE_CONTROLLER && download.sum != SOURCE_CONTROLLER_SUM {
                bail!("{} has sum {}, expected {SOURCE_CONTROLLER_SUM}", download.path, download.sum);
            }
            for file in fs::read_dir(download.dir.join("config/crd/bases"))? {
                let file = file?;
                // Read and written, not copied: the module cache is read-only, and so would be the copy.
                fs::write(unfinished.join(file.file_name()), fs::read(file.path())?)?;
            }
        }
        Ok(unfinished)
    })
}

/// `folder/name`, made by `make` if it is not there.
///
/// One process at a time makes it, and it appears whole or not at all.
pub(crate) fn once(folder: &Path, name: &str, make: impl FnOnce() -> Result<PathBuf>) -> Result<PathBuf> {
    let wanted = folder.join(name);
    if !wanted.exists() {
        let lock = File::create(folder.join("lock"))?;
        if lock.try_lock().is_err() {
            eprintln!("waiting for another process that builds {name}");
            lock.lock().context("waiting for the lock of the cache")?;
        }
        if !wanted.exists() {
            fs::rename(make()?, &wanted)?;
        }
    }
    Ok(wanted)
}

pub(crate) fn cache() -> Result<PathBuf> {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    from("BREAKGLASS_CACHE")
        .or_else(|| from("XDG_CACHE_HOME").map(|folder| folder.join("breakglass")))
        .or_else(|| from("HOME").map(|home| home.join(".cache/breakglass")))
        .context("no place for the cache: set HOME or BREAKGLASS_CACHE")
}

/// A duration as people say it: `3m12s`.
pub(crate) fn duration(time: Duration) -> String {
    match (time.as_secs() / 60, time.as_secs() % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds:02}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_go_modules() {
        assert!(CONTROLPLANE.version().unwrap().starts_with("v1."));
        assert!(ENGINES.version().unwrap().starts_with("v1."));
    }

    #[test]
    fn durations_read_well() {
        assert_eq!(duration(Duration::from_secs(9)), "9s");
        assert_eq!(duration(Duration::from_secs(192)), "3m12s");
    }
}
