//! The directory of the cluster that stays up: which files tell what state it is in.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The directory, `.local` unless told otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
}

/// Held by the supervisor for as long as it lives; names its process id.
pub(crate) struct Held {
    _lock: File,
}

impl Place {
    pub(crate) fn new(directory: &Path) -> Result<Self> {
        let directory = std::path::absolute(directory)?;
        fs::create_dir_all(directory.join("logs")).with_context(|| format!("making {}", directory.display()))?;
        Ok(Self { directory })
    }

    /// There when the cluster is ready: says what is in it.
    pub(crate) fn ready(&self) -> PathBuf {
        self.directory.join("ready")
    }

    /// What the supervisor says.
    pub(crate) fn log(&self) -> PathBuf {
        self.directory.join("logs/supervisor.log")
    }

    /// There while the processes of the cluster may run; the watchdog takes it away last.
    pub(crate) fn group(&self) -> PathBuf {
        self.directory.join("group")
    }

    fn lock(&self) -> PathBuf {
        self.directory.join("supervisor")
    }

    /// Takes the place for this process; `None` if another one holds it.
    pub(crate) fn hold(&self) -> Result<Option<Held>> {
        let lock = File::options().create(true).truncate(false).write(true).open(self.lock())?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error).context("locking the place"),
        }
        fs::write(self.lock(), std::process::id().to_string())?;
        Ok(Some(Held { _lock: lock }))
    }

    /// The process that holds the place, if any does.
    pub(crate) fn holder(&self) -> Result<Option<String>> {
        match File::open(self.lock()) {
            Err(_) => Ok(None),
            // A shared lock: two who only ask do not get in each other's way.
            Ok(lock) => match lock.try_lock_shared() {
                Err(TryLockError::WouldBlock) => Ok(Some(fs::read_to_string(self.lock())?)),
                _ => Ok(None),
            },
        }
    }

    /// Takes away what an earlier cluster left, but nothing that is not ours.
    pub(crate) fn clear(&self) -> Result<()> {
        for name in ["ready", "keep", "kubeconfig"] {
            let _ = fs::remove_file(self.directory.join(name));
        }
        for name in ["cluster", "bin", "home", "logs", "fleet", "fleet.git", "demo"] {
            let path = self.directory.join(name);
            if path.exists() {
                fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
            }
        }
        fs::create_dir_all(self.directory.join("logs")).context("making the folder of the logs")
    }
}
