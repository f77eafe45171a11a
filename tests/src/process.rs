//! Child processes that never outlive us: a watchdog kills the whole group once our end of its pipe closes.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::wait::wait_until;

/// How many lines of a log are shown when a process does not come up.
const LOG_LINES_SHOWN: usize = 20;

/// What the watchdog runs: `$1` is the process group to end, `$2` the directory.
///
/// `cat` returns when every writing end of its stdin is closed, which the kernel does for us however we die.
/// A killed process may stay a zombie for a while when nobody reaps it, hence the bound on the wait.
const WATCHDOG: &str = r#"
cat >/dev/null
kill -s KILL -- "-$1" 2>/dev/null
tries=0
while kill -s 0 -- "-$1" 2>/dev/null && [ "$tries" -lt 50 ]; do sleep 0.1; tries=$((tries + 1)); done
rm -f "$2/group"
[ -e "$2/keep" ] || rm -rf "$2"
"#;

/// A process group with a directory, both gone when this is dropped or when our process ends in any way.
#[derive(Debug)]
pub struct Group {
    directory: PathBuf,
    leader: Mutex<Child>,
    id: i32,
    watchdog: Mutex<(Child, Option<ChildStdin>)>,
}

impl Group {
    /// Starts an empty group whose files live in `directory`, which must exist.
    ///
    /// The directory is removed with the group, unless there is a file named `keep` in it.
    ///
    /// # Errors
    /// When `cat` or `sh` cannot be started.
    pub fn start(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory.join("logs"))?;
        // A group exists as long as it has a member: this one does nothing but be there. It ends by itself with our
        // end of its stdin, so it is not left behind if we are killed before the watchdog has started.
        let leader = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("starting cat, the leader of the process group")?;
        let id = i32::try_from(leader.id())?;
        let mut watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "watchdog", &id.to_string()])
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            // Its own group: Ctrl-C in the terminal must end us, not the one who cleans up after us.
            .process_group(0)
            .spawn()
            .context("starting sh, the watchdog of the process group")?;
        let lifeline = watchdog.stdin.take();
        fs::write(directory.join("group"), id.to_string())?;
        Ok(Self {
            directory: directory.to_owned(),
            leader: Mutex::new(leader),
            id,
            watchdog: Mutex::new((watchdog, lifeline)),
        })
    }

    /// Starts `command` in the group; its output goes to `logs/<name>.log`, appended to what is there.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(&self, name: &str, mut command: Command) -> Result<Process> {
        let log = self.directory.join("logs").join(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .process_group(self.id)
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().display()))?;
        Ok(Process { name: name.to_owned(), log, child })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let (watchdog, lifeline) = self.watchdog.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
        drop(lifeline.take());
        // The leader is our child: unreaped it would keep the group alive for the watchdog.
        let leader = self.leader.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
        let _ = leader.wait();
        let _ = watchdog.wait();
    }
}

/// One child process of a [`Group`].
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where its output goes.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, if it did.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until `probe` holds; gives up at once when the process ends first.
    ///
    /// # Errors
    /// When it ended, or `limit` is over: with the last lines of its log.
    pub fn wait_healthy(&mut self, limit: Duration, mut probe: impl FnMut() -> Result<(), String>) -> Result<()> {
        let what = format!("{} to be healthy", self.name);
        let healthy = wait_until(&what, limit, || match self.exited() {
            Some(status) => Ok(Err(status)),
            None => probe().map(Ok),
        });
        match healthy {
            Ok(Ok(())) => Ok(()),
            Ok(Err(status)) => bail!("{} ended with {status}\n{}", self.name, self.last_lines()),
            Err(error) => Err(error.context(self.last_lines())),
        }
    }

    /// Asks it to end (SIGTERM), and waits until it did.
    ///
    /// # Errors
    /// When it is still there after `limit`.
    pub fn stop(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal("TERM")?;
        wait_until(&format!("{} to end", self.name), limit, || self.exited().ok_or_else(|| "it runs".to_owned()))
            .with_context(|| self.last_lines())
    }

    /// Ends it without a word (SIGKILL), as a machine that loses power would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends it the named signal, such as `STOP` and `CONT` to hold it for a while.
    ///
    /// # Errors
    /// When there is no such process or no such signal.
    pub fn signal(&self, name: &str) -> Result<()> {
        send(name, &self.id().to_string())
    }

    fn last_lines(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(LOG_LINES_SHOWN);
        format!("the end of {}:\n  {}", self.log.display(), lines[from..].join("\n  "))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal to a process id, or to a group as `-id`.
///
/// # Errors
/// When nobody has that id, or may not be signalled by us.
pub fn send(signal: &str, id: &str) -> Result<()> {
    let out = Command::new("kill").args(["-s", signal, "--", id]).output().context("running kill")?;
    if !out.status.success() {
        bail!("kill -s {signal} -- {id}: {}", String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(())
}

/// Keeps the directory of a group after its end, for somebody to look at.
pub fn keep(directory: &Path) {
    if let Ok(mut file) = File::create(directory.join("keep")) {
        let _ = writeln!(file, "This directory is kept for somebody to look at; remove it when done.");
    }
}
