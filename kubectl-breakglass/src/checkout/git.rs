//! Git: the real program, in a directory.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::program::{Program, REMOTE_LIMIT, Said};
use crate::error::Result;

/// For what happens on this machine: a checkout of a large repository, a signature, a hook of the person's.
const LOCAL_LIMIT: Duration = Duration::from_secs(120);

/// git in a directory.
#[derive(Clone, Debug)]
pub struct Git {
    directory: PathBuf,
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
        Ok(self.program().must(args, "", LOCAL_LIMIT).await?.stdout)
    }

    /// The same, with `input` on its standard input.
    ///
    /// # Errors
    /// When git is missing, refuses, or does not end: with the command line that failed.
    pub async fn feed<S: AsRef<OsStr>>(&self, args: &[S], input: &str) -> Result<String> {
        Ok(self.program().must(args, input, LOCAL_LIMIT).await?.stdout)
    }

    /// Runs it on this machine where a no is an answer.
    ///
    /// # Errors
    /// When git is missing or does not end.
    pub async fn try_run<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<Said> {
        self.program().execute(args, "", LOCAL_LIMIT).await
    }

    /// Runs what talks to a server.
    ///
    /// # Errors
    /// When git is missing, refuses, or does not end: with the command line that failed.
    pub async fn call<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<Said> {
        self.program().must(args, "", REMOTE_LIMIT).await
    }

    fn program(&self) -> Program<'_> {
        Program { name: "git", directory: &self.directory }
    }
}
