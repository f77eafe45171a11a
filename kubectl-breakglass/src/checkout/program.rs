//! A program of the person's, in a directory: never through a shell, never asking, and bounded in time.

use std::ffi::OsStr;
use std::io::ErrorKind as IoErrorKind;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::error::{CommandError, Result};
use crate::print::table::printable;

/// For what waits for a server and its hooks.
pub(super) const REMOTE_LIMIT: Duration = Duration::from_secs(180);

/// Set where we were started by a hook of Git's; they would name another repository than the one that is meant.
const NAME_A_REPOSITORY: [&str; 5] =
    ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"];

/// A program, and where it runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Program<'a> {
    /// Its name, looked up on PATH.
    pub(super) name: &'a str,
    /// The directory.
    pub(super) directory: &'a Path,
}

/// What a program said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Whether it did what was asked.
    pub done: bool,
    /// Data, without the last line end.
    pub stdout: String,
    /// Talk.
    pub stderr: String,
}

impl Program<'_> {
    /// Runs it where a no is an answer.
    ///
    /// # Errors
    /// When it is missing or does not end.
    pub(super) async fn execute<S: AsRef<OsStr>>(&self, args: &[S], input: &str, limit: Duration) -> Result<Said> {
        let mut command = Command::new(self.name);
        command
            .current_dir(self.directory)
            .args(args)
            // Its words are read, and a question would wait for an answer that nobody can see to give.
            .env("LC_ALL", "C")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GH_PROMPT_DISABLED", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        for name in NAME_A_REPOSITORY {
            command.env_remove(name);
        }
        let mut child = command.spawn().map_err(|error| self.not_started(&error))?;
        let stdin = child.stdin.take();
        let run = async {
            if let Some(mut stdin) = stdin {
                // A program that does not read says why it does not.
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
            Ok(Err(error)) => Err(CommandError::failed(format!("{} did not end well: {error}", self.line(args)))),
            Err(_) => {
                let seconds = limit.as_secs();
                Err(CommandError::failed(format!(
                    "{} has not ended after {seconds} s, and was stopped",
                    self.line(args)
                ))
                .hint(format!("try it by hand in {}", self.directory.display())))
            }
        }
    }

    /// Runs it.
    ///
    /// # Errors
    /// When it is missing, refuses, or does not end: with the command line that failed.
    pub(super) async fn must<S: AsRef<OsStr>>(&self, args: &[S], input: &str, limit: Duration) -> Result<Said> {
        let said = self.execute(args, input, limit).await?;
        if said.done {
            return Ok(said);
        }
        let words = if said.stderr.is_empty() { &said.stdout } else { &said.stderr };
        let lines = words.lines().map(str::trim).filter(|line| !line.is_empty());
        let why: Vec<String> =
            lines.map(|line| printable(line.trim_start_matches("fatal: ").trim_start_matches("error: "))).collect();
        Err(CommandError::failed(format!("{} failed: {}", self.line(args), why.join("; "))))
    }

    fn line<S: AsRef<OsStr>>(&self, args: &[S]) -> String {
        let words: Vec<String> = args.iter().map(|word| printable(&word.as_ref().to_string_lossy())).collect();
        format!("{} {}", self.name, words.join(" "))
    }

    fn not_started(&self, error: &std::io::Error) -> CommandError {
        let Self { name, directory } = self;
        match error.kind() {
            IoErrorKind::NotFound if directory.is_dir() => {
                CommandError::failed(format!("there is no {name} on this machine")).hint(format!("{name} --version"))
            }
            IoErrorKind::NotFound => CommandError::failed(format!("there is no directory {}", directory.display())),
            _ => CommandError::failed(format!("{name} could not be started: {error}")),
        }
    }
}
