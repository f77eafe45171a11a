//! What a process uses: CPU time and memory, as the kernel counts them.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// What one process has used so far; the same pid is asked again later.
#[derive(Clone, Copy, Debug)]
pub struct Watched(pub u32);

impl Watched {
    /// The process whose command line holds `argument`.
    ///
    /// # Errors
    /// When there is none.
    pub fn by_argument(argument: &str) -> Result<Self> {
        let processes = fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let holds = |id: &u32| Self(*id).arguments().iter().any(|held| held == argument);
        let id = processes.into_iter().find(holds);
        id.map(Self).with_context(|| format!("no process was started with {argument}"))
    }

    /// What it was started with, its own name first.
    pub fn arguments(self) -> Vec<String> {
        self.strings("cmdline")
    }

    /// The environment it was started with.
    pub fn environment(self) -> Vec<(String, String)> {
        let pair = |text: &String| text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        self.strings("environ").iter().filter_map(pair).collect()
    }

    fn strings(self, file: &str) -> Vec<String> {
        let bytes = fs::read(self.file(file)).unwrap_or_default();
        let parts = bytes.split(|&byte| byte == 0).filter(|part| !part.is_empty());
        parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect()
    }

    fn file(self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.0))
    }

    /// User and system time of all its threads. The scheduler counts in nanoseconds; `stat`, in hundredths of a second, is
    /// read where it does not.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn cpu(self) -> Result<Duration> {
        let exact = fs::read_dir(self.file("task"))?.flatten().map(|task| {
            let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            text.split(' ').next().and_then(|nanoseconds| nanoseconds.parse::<u64>().ok()).unwrap_or_default()
        });
        match exact.sum() {
            0 => self.ticks(),
            nanoseconds => Ok(Duration::from_nanos(nanoseconds)),
        }
    }

    fn ticks(self) -> Result<Duration> {
        let text = fs::read_to_string(self.file("stat"))?;
        // The name is in parentheses and may hold anything.
        let (_, rest) = text.rsplit_once(')').context("reading stat")?;
        let field = |at: usize| rest.split_whitespace().nth(at).and_then(|ticks| ticks.parse::<u64>().ok());
        Ok(Duration::from_millis(10 * (field(11).unwrap_or_default() + field(12).unwrap_or_default())))
    }

    /// Resident memory now, in bytes.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn memory(self) -> Result<u64> {
        self.status("VmRSS:")
    }

    /// The most resident memory that it has had.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn peak_memory(self) -> Result<u64> {
        self.status("VmHWM:")
    }

    fn status(self, name: &str) -> Result<u64> {
        let text = fs::read_to_string(self.file("status"))?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)).context("the kernel does not say")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }
}

/// The CPU time that these processes use while `work` runs.
///
/// # Errors
/// When one is gone, or `work` fails.
pub fn cpu_of<T>(processes: &[Watched], work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let used = || processes.iter().map(|process| process.cpu()).sum::<Result<Duration>>();
    let before = used()?;
    let done = work()?;
    Ok((done, used()?.saturating_sub(before)))
}
