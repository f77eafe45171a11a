//! Less of the machine for one process: a control group with a limit, where this process may make one.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// Where control groups lie.
const ROOT: &str = "/sys/fs/cgroup";

/// A control group with a limit, gone when this is dropped; what was started in it has to end before.
#[derive(Debug)]
pub struct Limit {
    directory: PathBuf,
}

impl Limit {
    /// So many bytes of memory.
    ///
    /// # Errors
    /// Where this process may make no control group: why.
    pub fn memory(bytes: u64) -> Result<Self> {
        Self::make(("memory", "memory.limit_in_bytes", &bytes.to_string()), ("memory.max", &bytes.to_string()))
    }

    /// So many hundredths of one processor.
    ///
    /// # Errors
    /// Where this process may make no control group: why.
    pub fn processor(percent: u32) -> Result<Self> {
        let quota = percent * 1_000;
        Self::make(("cpu", "cpu.cfs_quota_us", &quota.to_string()), ("cpu.max", &format!("{quota} 100000")))
    }

    fn make((controller, old, old_limit): (&str, &str, &str), (new, new_limit): (&str, &str)) -> Result<Self> {
        let first = Path::new(ROOT).join(controller);
        let (root, file, limit) = match first.join("cgroup.procs").exists() {
            true => (first, old, old_limit),
            false => (PathBuf::from(ROOT), new, new_limit),
        };
        let directory = root.join(format!("breakglass-{controller}-{}", std::process::id()));
        fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
        let made = Self { directory };
        let path = made.directory.join(file);
        if !path.exists() {
            bail!("{} has no {file}", made.directory.display());
        }
        fs::write(&path, limit).with_context(|| format!("writing {}", path.display()))?;
        Ok(made)
    }

    /// The command that puts itself into the group, and becomes what it is given.
    #[must_use]
    pub fn launcher(&self) -> Vec<String> {
        let enter = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", self.directory.display());
        ["sh", "-c", &enter, "sh"].map(str::to_owned).into()
    }

    /// Puts a process that runs already into the group.
    ///
    /// # Errors
    /// When it does not run.
    pub fn take(&self, id: u32) -> Result<()> {
        Ok(fs::write(self.directory.join("cgroup.procs"), id.to_string())?)
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.directory);
    }
}
