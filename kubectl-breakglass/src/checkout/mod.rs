//! Checkout: somebody's clone of a repository, in which a commit is made without touching their files or their branch.

// A program of the person's.
mod program;
// Git.
mod git;
// Whether two URLs are one repository.
mod address;
// A directory of our own beside their files.
mod worktree;
// What somebody is to merge.
mod pull_request;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{CommandError, Result};
use address::is_same_repository;
use git::Git;

pub use pull_request::{Proposal, PullRequests};
pub use worktree::{CHANGE_TRAILER, Worktree};

/// A clone of a repository.
#[derive(Clone, Debug)]
pub struct Checkout {
    /// Where its files are.
    pub top: PathBuf,
    /// The remote that the engine follows.
    pub remote: String,
    git: Git,
}

/// Which of a clone's remotes is meant.
#[derive(Clone, Copy, Debug)]
pub enum Remote<'a> {
    /// The one at this URL.
    At(&'a str),
    /// The one of this name, wherever it is.
    Named(&'a str),
}

impl<'a> Remote<'a> {
    /// The one that somebody names; where nobody does, the one at this URL.
    pub fn of(named: Option<&'a str>, url: &'a str) -> Self {
        named.map_or(Self::At(url), Self::Named)
    }
}

/// Which branches a commit is between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Branches<'a> {
    /// The branch that the engine follows.
    pub followed: &'a str,
    /// The branch that is written to.
    pub written: &'a str,
}

impl Checkout {
    /// Finds the clone that `directory` lies in, and the remote in it.
    ///
    /// # Errors
    /// When there is no clone, or none of that repository: with the two that do not agree.
    pub async fn open(directory: &Path, wanted: Remote<'_>) -> Result<Self> {
        let found = Git::at(directory).try_run(&["rev-parse", "--show-toplevel"]).await?;
        if !found.done || found.stdout.is_empty() {
            let message = format!("{} is in no clone of a Git repository", shown(directory).display());
            return Err(CommandError::failed(message).hint(match wanted {
                Remote::At(url) => format!("--repo DIR, with DIR a clone of {url}"),
                Remote::Named(_) => "--repo DIR".to_owned(),
            }));
        }
        let top = PathBuf::from(found.stdout);
        let git = Git::at(&top);
        let remote = remote(&git, &top, wanted).await?;
        Ok(Self { top, remote, git })
    }

    /// Whether the remote is at this URL.
    ///
    /// # Errors
    /// When git fails.
    pub async fn follows(&self, url: &str) -> Result<bool> {
        let remotes = remotes(&self.git).await?;
        Ok(remotes.get(&self.remote).is_some_and(|urls| urls.iter().any(|found| is_same_repository(found, url))))
    }

    /// Fetches, and makes a directory of our own in which the branch that is written to is as the remote and this clone have
    /// it; or, where there is none yet, as the branch that the engine follows.
    ///
    /// # Errors
    /// When the remote cannot be reached, has no such branch, or has another than this clone.
    pub async fn begin(&self, branches: Branches<'_>) -> Result<Worktree> {
        for name in [branches.followed, branches.written] {
            self.check_name(name).await?;
        }
        worktree::clear_stale(&self.git).await?;
        self.check_not_checked_out(branches.written).await?;
        let tips = self.fetch(branches).await?;
        let start = self.start(branches, &tips).await?;
        Worktree::add(&self.git, (&self.remote, branches.written), start).await
    }

    /// Makes a directory of our own with the files of one commit of the branch that the engine follows, which is fetched where this
    /// clone does not have it.
    ///
    /// # Errors
    /// When it cannot be fetched.
    pub async fn at(&self, followed: &str, commit: &str) -> Result<Worktree> {
        self.check_name(followed).await?;
        if commit.is_empty() || !commit.chars().all(|letter| letter.is_ascii_hexdigit()) {
            return Err(CommandError::failed(format!("{commit:?} is no name that a commit can have")));
        }
        worktree::clear_stale(&self.git).await?;
        self.have(followed, commit).await?;
        let start = Start { tip: commit.to_owned(), followed: commit.to_owned(), local: None };
        Worktree::add(&self.git, (&self.remote, followed), start).await
    }

    /// Fetches the branch, where the commit is not here; and the commit by itself, where a shallow clone has not got it by that.
    async fn have(&self, followed: &str, commit: &str) -> Result<()> {
        if self.commit_of(commit).await?.is_some() {
            return Ok(());
        }
        let branch = format!("+{}:refs/remotes/{}/{followed}", head(followed), self.remote);
        let mut last = Ok(());
        for wanted in [branch.as_str(), commit] {
            let args = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", &self.remote, wanted];
            last = self.git.call(&args).await.map(drop);
            if self.commit_of(commit).await?.is_some() {
                return Ok(());
            }
        }
        last?;
        let message = format!("{} does not have {commit}, which the engine applies", self.top.display());
        Err(CommandError::failed(message).hint(format!("git -C {} fetch --unshallow", self.top.display())))
    }

    /// A name comes from the cluster or the command line: it must not be an option, nor anything but a branch.
    async fn check_name(&self, branch: &str) -> Result<()> {
        let said = self.git.try_run(&["check-ref-format", &head(branch)]).await?;
        if said.done && !branch.starts_with('-') {
            return Ok(());
        }
        Err(CommandError::failed(format!("{branch:?} is no name that a branch can have")))
    }

    /// The files of who has the branch checked out would no longer be those of the branch.
    async fn check_not_checked_out(&self, branch: &str) -> Result<()> {
        let trees = worktree::list(&self.git).await?;
        let Some(tree) = trees.iter().find(|tree| tree.branch.as_deref() == Some(&head(branch))) else { return Ok(()) };
        let path = tree.path.display();
        let message = format!("{branch} is checked out in {path}, and its files are not touched");
        Err(CommandError::failed(message).hint(format!("git -C {path} switch --detach")))
    }

    /// What the remote has of the two branches.
    async fn fetch(&self, branches: Branches<'_>) -> Result<BTreeMap<String, String>> {
        let (followed, written) = (head(branches.followed), head(branches.written));
        let said = self.git.call(&["ls-remote", &self.remote, &followed, &written]).await?;
        let tips: BTreeMap<String, String> = said
            .stdout
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .map(|(commit, name)| (name.to_owned(), commit.to_owned()))
            .filter(|(name, _)| [&followed, &written].contains(&name))
            .collect();
        if !tips.contains_key(&followed) {
            let message = format!("{} has no branch {}, which the engine follows", self.remote, branches.followed);
            return Err(CommandError::failed(message).hint(format!("git ls-remote --heads {}", self.remote)));
        }
        let specs: Vec<String> = tips
            .keys()
            .map(|name| format!("+{name}:refs/remotes/{}/{}", self.remote, name.trim_start_matches("refs/heads/")))
            .collect();
        let mut args = vec!["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", &self.remote];
        args.extend(specs.iter().map(String::as_str));
        self.git.call(&args).await?;
        Ok(tips)
    }

    /// Where the branch goes on: at its newest end; at the followed branch where there is none, or all of it is in there.
    async fn start(&self, branches: Branches<'_>, tips: &BTreeMap<String, String>) -> Result<Start> {
        let followed = tips.get(&head(branches.followed)).cloned().unwrap_or_default();
        let mut tip = followed.clone();
        if let Some(remote) = tips.get(&head(branches.written))
            && !self.is_ancestor(remote, &tip).await?
        {
            tip = remote.clone();
        }
        let local = self.commit_of(&head(branches.written)).await?;
        if let Some(local) = &local
            && !self.is_ancestor(local, &tip).await?
        {
            if tip != followed && !self.is_ancestor(&tip, local).await? {
                let (branch, remote) = (branches.written, &self.remote);
                let message =
                    format!("{branch} is one thing here and another on {remote}: neither goes on from the other");
                return Err(CommandError::failed(message)
                    .hint(format!(
                        "git -C {} log --oneline --left-right {branch}...{remote}/{branch}",
                        self.top.display()
                    ))
                    .hint(format!("git -C {} branch -D {branch}", self.top.display())));
            }
            tip = local.clone();
        }
        Ok(Start { tip, followed, local })
    }

    async fn is_ancestor(&self, one: &str, other: &str) -> Result<bool> {
        Ok(self.git.try_run(&["merge-base", "--is-ancestor", one, other]).await?.done)
    }

    async fn commit_of(&self, reference: &str) -> Result<Option<String>> {
        let said = self.git.try_run(&["rev-parse", "--verify", "--quiet", &format!("{reference}^{{commit}}")]).await?;
        Ok(said.done.then_some(said.stdout))
    }
}

/// Where a branch goes on from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Start {
    /// The commit that the next one stands on.
    tip: String,
    /// The end of the branch that the engine follows.
    followed: String,
    /// What the branch is in this clone, where it has it.
    local: Option<String>,
}

/// As much of a commit's name as people read.
pub fn short(commit: &str) -> &str {
    /// Its letters.
    const LETTERS: usize = 10;
    commit.get(..LETTERS).unwrap_or(commit)
}

/// The full name of a branch; it never begins with a dash.
fn head(branch: &str) -> String {
    format!("refs/heads/{branch}")
}

async fn remote(git: &Git, top: &Path, wanted: Remote<'_>) -> Result<String> {
    let remotes = remotes(git).await?;
    let found = remotes.iter().find(|(name, urls)| match wanted {
        Remote::At(url) => urls.iter().any(|found| is_same_repository(found, url)),
        Remote::Named(wanted) => *name == wanted,
    });
    if let Some((name, _)) = found.filter(|(name, _)| !name.starts_with('-')) {
        return Ok(name.clone());
    }
    let top = top.display();
    let known: Vec<String> = remotes
        .iter()
        .filter_map(|(name, urls)| Some(format!("{name} is {}", urls.first().map(|url| without_password(url))?)))
        .collect();
    let known = if known.is_empty() { "it has no remote".to_owned() } else { known.join(", ") };
    Err(match wanted {
        Remote::At(url) => {
            CommandError::failed(format!("{top} is no clone of {url}, which the engine follows: {known}"))
                .hint(format!("--repo DIR, with DIR a clone of {url}"))
                .hint("--remote NAME, where a remote is that repository under another URL")
        }
        Remote::Named(name) => {
            CommandError::failed(format!("{top} has no remote {name}: {known}")).hint(format!("git -C {top} remote -v"))
        }
    })
}

/// The remotes by name: as they are written down, and as Git rewrites them (`url.<base>.insteadOf`).
async fn remotes(git: &Git) -> Result<BTreeMap<String, Vec<String>>> {
    let names = git.run(&["remote"]).await?;
    let mut remotes = BTreeMap::new();
    for name in names.lines() {
        let mut urls = Vec::new();
        for args in [["config", "--get-all", &format!("remote.{name}.url")], ["remote", "get-url", name]] {
            let said = git.try_run(&args).await?;
            urls.extend(said.stdout.lines().map(str::to_owned));
        }
        remotes.insert(name.to_owned(), urls);
    }
    Ok(remotes)
}

/// A URL may hold a token, which is nobody's to see.
fn without_password(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => match rest.split_once('/') {
            Some((authority, path)) => {
                let server = authority.rsplit_once('@').map_or(authority, |(_, server)| server);
                format!("{scheme}://{server}/{path}")
            }
            None => url.to_owned(),
        },
        None => url.to_owned(),
    }
}

/// `.` says nothing in an error.
fn shown(directory: &Path) -> PathBuf {
    directory.canonicalize().unwrap_or_else(|_| directory.to_owned())
}

#[cfg(test)]
mod tests;
