//! Git: the real program, never through a shell, never asking, and bounded in time.

use std::ffi::OsStr;
use std::io::ErrorKind as IoErrorKind;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::error::{CommandError, Result};
use crate::print::table::printable;

/// For what happens on this machine: a checkout of a large repository, a signature, a hook of the person's.
const LOCAL_LIMIT: Duration = Duration::from_secs(120);

/// For what waits for a server and its hooks.
const REMOTE_LIMIT: Duration = Duration::from_secs(180);

/// Set where we were started by a hook of Git's; they would name another repository than the one that is meant.
const NAME_A_REPOSITORY: [&str; 5] =
    ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"];

/// git in a directory.
#[derive(Clone, Debug)]
pub struct Git {
    directory: PathBuf,
}

/// What git said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Whether it did what was asked.
    pub done: bool,
    /// Data, without the last line end.
    pub stdout: String,
    /// Talk.
    pub stderr: String,
}

impl Git {
    /// git in this directory.
    pub fn at(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// Where it runs.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Runs it on this machine and gives what it prints.
    ///
    /// # Errors
    /// When git is missing, refuses, or does not end: with the command line that failed.
    pub async fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<String> {
        Ok(must(args, self.execute(args, "", LOCAL_LIMIT).await?)?.stdout)
    }

    /// The same, with `input` on its standard input.
    ///
    /// # Errors
    /// When git is missing, refuses, or does not end: with the command line that failed.
    pub async fn feed<S: AsRef<OsStr>>(&self, args: &[S], input: &str) -> Result<String> {
        Ok(must(args, self.execute(args, input, LOCAL_LIMIT).await?)?.stdout)
    }

    /// Runs it on this machine where a no is an answer.
    ///
    /// # Errors
    /// When git is missing or does not end.
    pub async fn try_run<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<Said> {
        self.execute(args, "", LOCAL_LIMIT).await
    }

    /// Runs what talks to a server.
    ///
    /// # Errors
    /// When git is missing, refuses, or does not end: with the command line that failed.
    pub async fn call<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<Said> {
        must(args, self.execute(args, "", REMOTE_LIMIT).await?)
    }

    async fn execute<S: AsRef<OsStr>>(&self, args: &[S], input: &str, limit: Duration) -> Result<Said> {
        let mut command = Command::new("git");
        command
            .current_dir(&self.directory)
            .args(args)
            // Its words are read, and a question would wait for an answer that nobody can see to give.
            .env("LC_ALL", "C")
            .env("GIT_TERMINAL_PROMPT", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        for name in NAME_A_REPOSITORY {
            command.env_remove(name);
        }
        let mut child = command.spawn().map_err(|error| not_started(&error, &self.directory))?;
        let stdin = child.stdin.take();
        let run = async {
            if let Some(mut stdin) = stdin {
                // A git that does not read says why it does not.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
            child.wait_with_output().await
        };
        match tokio::time::timeout(limit, run).await {
            Ok(Ok(output)) => Ok(Said {
                done: output.status.success(),
                stdout: String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned(),
                stderr: String::from_utf8_lossy(&output.stderr).trim_end().to_owned(),
            }),
            Ok(Err(error)) => Err(CommandError::failed(format!("{} did not end well: {error}", line(args)))),
            Err(_) => {
                let seconds = limit.as_secs();
                Err(CommandError::failed(format!("{} has not ended after {seconds} s, and was stopped", line(args)))
                    .hint(format!("try it by hand in {}", self.directory.display())))
            }
        }
    }
}

fn must<S: AsRef<OsStr>>(args: &[S], said: Said) -> Result<Said> {
    if said.done {
        return Ok(said);
    }
    let words = if said.stderr.is_empty() { &said.stdout } else { &said.stderr };
    let lines = words.lines().map(str::trim).filter(|line| !line.is_empty());
    let why: Vec<String> =
        lines.map(|line| printable(line.trim_start_matches("fatal: ").trim_start_matches("error: "))).collect();
    Err(CommandError::failed(format!("{} failed: {}", line(args), why.join("; "))))
}

fn line<S: AsRef<OsStr>>(args: &[S]) -> String {
    let words: Vec<String> = args.iter().map(|word| printable(&word.as_ref().to_string_lossy())).collect();
    format!("git {}", words.join(" "))
}

fn not_started(error: &std::io::Error, directory: &Path) -> CommandError {
    match error.kind() {
        IoErrorKind::NotFound if directory.is_dir() => {
            CommandError::failed("there is no git on this machine").hint("git --version")
        }
        IoErrorKind::NotFound => CommandError::failed(format!("there is no directory {}", directory.display())),
        _ => CommandError::failed(format!("git could not be started: {error}")),
    }
}
