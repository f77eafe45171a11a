//! A pull request, opened by the host's own tool with the person's own login.

use std::path::Path;

use serde_json::Value;

use super::address::host;
use super::program::{Program, REMOTE_LIMIT};
use crate::error::{CommandError, Result};

/// The tool of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tool {
    /// GitHub's.
    Gh,
    /// GitLab's.
    Glab,
}

/// What somebody is to merge.
#[derive(Clone, Debug)]
pub struct Proposal<'a> {
    /// The branch with the commit.
    pub branch: &'a str,
    /// The branch that the engine follows.
    pub followed: &'a str,
    /// One line.
    pub title: &'a str,
    /// What is in it.
    pub body: &'a str,
}

/// A clone in which a pull request can be opened.
#[derive(Clone, Copy, Debug)]
pub struct PullRequests<'a> {
    tool: Tool,
    directory: &'a Path,
}

impl<'a> PullRequests<'a> {
    /// Finds the tool for the host of a repository: by its name, or the one that is here.
    ///
    /// # Errors
    /// When there is none.
    pub async fn of(directory: &'a Path, url: &str) -> Result<Self> {
        for tool in tools(url) {
            let program = Program { name: tool.name(), directory };
            if program.execute(&["--version"], "", REMOTE_LIMIT).await.is_ok_and(|said| said.done) {
                return Ok(Self { tool: *tool, directory });
            }
        }
        let names: Vec<&str> = tools(url).iter().map(|tool| tool.name()).collect();
        let message = format!("there is no {} on this machine, to open a pull request with", names.join(" and no "));
        Err(CommandError::failed(message).hint("--push instead of --pr, and open it in the browser"))
    }

    /// Opens one, unless one is open; gives where.
    ///
    /// # Errors
    /// When the tool refuses.
    pub async fn open(&self, proposal: &Proposal<'_>) -> Result<String> {
        if let Some(open) = self.find(proposal).await? {
            return Ok(open);
        }
        let Proposal { branch, followed, title, body } = *proposal;
        match self.tool {
            Tool::Gh => {
                let args = ["pr", "create", "--head", branch, "--base", followed, "--title", title, "--body", body];
                self.run(&args).await?;
            }
            Tool::Glab => {
                let to = ["mr", "create", "--source-branch", branch, "--target-branch", followed];
                let words = ["--title", title, "--description", body, "--yes"];
                self.run(&[&to[..], &words].concat()).await?;
            }
        }
        let name = self.tool.name();
        let not_listed = || CommandError::failed(format!("{name} has opened a pull request, and does not list it"));
        self.find(proposal).await?.ok_or_else(not_listed)
    }

    /// The one that is open.
    async fn find(&self, proposal: &Proposal<'_>) -> Result<Option<String>> {
        let Proposal { branch, followed, .. } = *proposal;
        let (said, field) = match self.tool {
            Tool::Gh => {
                let args = ["pr", "list", "--state", "open", "--head", branch, "--base", followed, "--json", "url"];
                (self.run(&args).await?, "url")
            }
            Tool::Glab => {
                let args = ["mr", "list", "--source-branch", branch, "--target-branch", followed, "--output", "json"];
                (self.run(&args).await?, "web_url")
            }
        };
        let name = self.tool.name();
        let found: Value = serde_json::from_str(&said)
            .map_err(|error| CommandError::failed(format!("what {name} lists was not understood: {error}")))?;
        Ok(found.pointer(&format!("/0/{field}")).and_then(Value::as_str).map(str::to_owned))
    }

    async fn run(&self, args: &[&str]) -> Result<String> {
        let program = Program { name: self.tool.name(), directory: self.directory };
        Ok(program.must(args, "", REMOTE_LIMIT).await?.stdout)
    }
}

impl Tool {
    fn name(self) -> &'static str {
        match self {
            Self::Gh => "gh",
            Self::Glab => "glab",
        }
    }
}

/// The tools that may know a host, the likeliest first. A company's own server has any name.
fn tools(url: &str) -> &'static [Tool] {
    let host = host(url).unwrap_or_default().to_lowercase();
    if host.contains("github") {
        &[Tool::Gh]
    } else if host.contains("gitlab") {
        &[Tool::Glab]
    } else {
        &[Tool::Gh, Tool::Glab]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tool_goes_by_the_host() {
        for (url, expected) in [
            ("https://github.com/shop/fleet", &[Tool::Gh][..]),
            ("git@gitlab.example.com:shop/fleet.git", &[Tool::Glab]),
            ("ssh://git@git.example.com/github/fleet", &[Tool::Gh, Tool::Glab]),
        ] {
            assert_eq!(tools(url), expected, "{url}");
        }
    }
}
