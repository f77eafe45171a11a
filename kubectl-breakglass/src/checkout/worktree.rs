//! Worktree: a directory of our own beside somebody's files, gone when we are done with it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use chrono::{DateTime, TimeDelta, Utc};

use super::git::Git;
use super::program::Said;
use super::{Start, head};
use crate::error::{CommandError, Result};

/// What our directories are called: by it those are found that a killed run has left.
const PREFIX: &str = "kubectl-breakglass-accept-";

/// The files of the branch, in such a directory.
const TREE: &str = "tree";

/// Held for as long as the directory is in use.
const LOCK: &str = "lock";

/// What it is called before it is held.
const UNLOCKED: &str = "unlocked";

/// Takes a directory away, also where git was killed while it made it: then it is locked, and one `--force` is not enough
/// (git's builtin/worktree.c: "initializing").
const REMOVE: [&str; 4] = ["worktree", "remove", "--force", "--force"];

/// The trailer that says of which change a commit is.
pub const CHANGE_TRAILER: &str = "Breakglass-Change";

/// How much earlier than a change, by another machine's clock, its commit may seem to be.
const CLOCKS_DIFFER: TimeDelta = TimeDelta::days(1);

/// An old value that says: there must be none.
const NOTHING: &str = "0000000000000000000000000000000000000000";

/// A directory with all files of a branch.
#[derive(Debug)]
pub struct Worktree {
    /// Where the files are.
    pub path: PathBuf,
    git: Git,
    home: Git,
    remote: String,
    branch: String,
    start: Start,
    place: Place,
}

/// Another directory with files of the same repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) path: PathBuf,
    pub(super) branch: Option<String>,
}

impl Worktree {
    pub(super) async fn add(home: &Git, (remote, branch): (&str, &str), start: Start) -> Result<Self> {
        let place = Place::make(home)?;
        let path = place.directory.join(TREE);
        let words = ["worktree", "add", "--quiet", "--detach"].map(OsStr::new);
        home.run(&[&words[..], &[path.as_os_str(), start.tip.as_ref()]].concat()).await?;
        let git = Git::at(&path);
        let (remote, branch) = (remote.to_owned(), branch.to_owned());
        Ok(Self { path, git, home: home.clone(), remote, branch, start, place })
    }

    /// Where more may lie that goes with the files.
    pub fn beside(&self) -> &Path {
        &self.place.directory
    }

    /// Which changes are in a commit already, of the branch or of what the engine follows, and in which: a run before this
    /// one came so far. `since` is when the first of them was made.
    ///
    /// # Errors
    /// When git fails.
    pub async fn committed(&self, since: DateTime<Utc>) -> Result<BTreeMap<String, String>> {
        let since = format!("--since={}", (since - CLOCKS_DIFFER).to_rfc3339());
        let format = format!("--format=%H %(trailers:key={CHANGE_TRAILER},valueonly,separator=%x2C)");
        let grep = format!("--grep={CHANGE_TRAILER}: ");
        let args = ["log", "--fixed-strings", &grep, &since, &format, &self.start.tip, &self.start.followed, "--"];
        let log = self.git.run(&args).await?;
        let mut found = BTreeMap::new();
        // The oldest is the one that did it; a later one may name it for another reason, such as a merge.
        for line in log.lines() {
            let Some((commit, changes)) = line.split_once(' ') else { continue };
            found.extend(changes.split(',').map(|change| (change.trim().to_owned(), commit.to_owned())));
        }
        Ok(found)
    }

    /// Writes whole files, for the next commit; what has no text goes.
    ///
    /// # Errors
    /// When a path leads out of the directory, cannot be written to, or is one that the repository ignores.
    pub async fn stage(&self, files: &BTreeMap<PathBuf, Option<String>>) -> Result<()> {
        for (path, text) in files {
            let whole = self.inside(path)?;
            let written = match text {
                Some(text) => fs::write(&whole, text),
                None => fs::remove_file(&whole),
            };
            written.map_err(|error| failed(&format!("writing {}", path.display()), &error))?;
        }
        if files.is_empty() {
            return Ok(());
        }
        // These alone: a filter may make other files look different from what is stored of them.
        let words = ["--literal-pathspecs", "add", "--all", "--"].map(OsStr::new);
        let paths: Vec<&OsStr> = files.keys().map(|path| path.as_os_str()).collect();
        self.git.run(&[&words[..], &paths].concat()).await.map(drop)
    }

    /// The path in the directory, and not through a link to somewhere else.
    fn inside(&self, path: &Path) -> Result<PathBuf> {
        let out = || CommandError::failed(format!("{} is no path in the repository", path.display()));
        if path.components().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(out());
        }
        let (root, whole) = (self.path.canonicalize(), self.path.join(path));
        let parent = whole.parent().ok_or_else(out)?;
        fs::create_dir_all(parent).map_err(|error| failed(&format!("making {}", parent.display()), &error))?;
        let root = root.map_err(|error| failed(&self.path.display().to_string(), &error))?;
        let parent = parent.canonicalize().map_err(|error| failed(&parent.display().to_string(), &error))?;
        let is_inside = parent.starts_with(&root) && !whole.is_symlink() && path != Path::new(".git");
        if is_inside { Ok(whole) } else { Err(out()) }
    }

    /// What the next commit changes, as a unified diff; empty where that is nothing.
    ///
    /// # Errors
    /// When git fails.
    pub async fn difference(&self) -> Result<String> {
        let diff = self
            .git
            .run(&[
                "diff",
                "--cached",
                "--no-color",
                "--src-prefix=a/",
                "--dst-prefix=b/",
                "--no-ext-diff",
                "--no-textconv",
                "HEAD",
                "--",
            ])
            .await?;
        Ok(if diff.is_empty() { diff } else { diff + "\n" })
    }

    /// Commits what was written, as the person whose clone this is; the branch of their clone then ends with it.
    ///
    /// # Errors
    /// When git refuses: nobody has said who they are, a hook says no, or somebody else has moved the branch meanwhile.
    pub async fn commit(&self, message: &str) -> Result<String> {
        self.git.feed(&["commit", "--quiet", "--cleanup=whitespace", "--file=-"], message).await?;
        let commit = self.git.run(&["rev-parse", "HEAD"]).await?;
        self.set_branch(&commit).await?;
        Ok(commit)
    }

    async fn set_branch(&self, commit: &str) -> Result<()> {
        let old = self.start.local.as_deref().unwrap_or(NOTHING);
        let log = "breakglass accept";
        self.home.run(&["update-ref", "-m", log, &head(&self.branch), commit, old]).await.map(drop)
    }

    /// Pushes the branch; gives what the server said to it. What it has already is no error.
    ///
    /// # Errors
    /// When the server refuses, or cannot be reached.
    pub async fn push(&self) -> Result<Vec<String>> {
        let spec = format!("HEAD:{}", head(&self.branch));
        let Said { stderr, .. } = self.git.call(&["push", "--porcelain", &self.remote, &spec]).await?;
        let words = stderr.lines().filter_map(|line| line.strip_prefix("remote:"));
        Ok(words.map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect())
    }

    /// Whether the remote has put all of it into a branch: some merge what is pushed at once.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn has_arrived(&self, branch: &str) -> Result<bool> {
        let name = head(branch);
        let Said { stdout, .. } = self.git.call(&["ls-remote", &self.remote, &name]).await?;
        let tip = self.tip().await?;
        Ok(stdout.lines().any(|line| line.split_once('\t') == Some((&tip, &name))))
    }

    /// The files of a commit.
    ///
    /// # Errors
    /// When git fails.
    pub async fn files_of(&self, commit: &str) -> Result<Vec<String>> {
        let args = ["-c", "core.quotePath=false", "show", "--format=", "--name-only", "--no-renames", commit, "--"];
        Ok(self.git.run(&args).await?.lines().map(str::to_owned).collect())
    }

    /// The commit that the files are those of.
    ///
    /// # Errors
    /// When git fails.
    pub async fn tip(&self) -> Result<String> {
        self.git.run(&["rev-parse", "HEAD"]).await
    }

    /// The words of the last commit: its first line, and the rest.
    ///
    /// # Errors
    /// When git fails.
    pub async fn words(&self) -> Result<(String, String)> {
        let title = self.git.run(&["log", "-1", "--format=%s"]).await?;
        Ok((title, self.git.run(&["log", "-1", "--format=%b"]).await?))
    }

    /// Whether all of the branch is in what the engine follows.
    pub fn is_in_followed(&self) -> bool {
        self.start.tip == self.start.followed
    }
}

/// A directory that nobody else can look into, and which goes with everything in it.
#[derive(Debug)]
struct Place {
    directory: PathBuf,
    repository: PathBuf,
    _lock: File,
}

impl Place {
    fn make(home: &Git) -> Result<Self> {
        let moment = Utc::now().timestamp_subsec_nanos();
        let directory = std::env::temp_dir().join(format!("{PREFIX}{}-{moment}", std::process::id()));
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        let lock = builder.create(&directory).and_then(|()| locked(&directory));
        let lock = lock.map_err(|error| failed(&format!("making {}", directory.display()), &error))?;
        Ok(Self { directory, repository: home.directory().to_owned(), _lock: lock })
    }
}

/// The lock of a directory. It has its name when it is held already: who finds one that nobody holds takes the directory away.
fn locked(directory: &Path) -> std::io::Result<File> {
    let unlocked = directory.join(UNLOCKED);
    let lock = File::create(&unlocked)?;
    lock.lock()?;
    fs::rename(unlocked, directory.join(LOCK))?;
    Ok(lock)
}

impl Drop for Place {
    /// At the end, and also where something failed. Not asynchronous: it must not be left out when a future is dropped.
    fn drop(&mut self) {
        let mut command = Command::new("git");
        command.current_dir(&self.repository).args(REMOVE).arg(self.directory.join(TREE));
        // What cannot be removed now is removed by the next run.
        let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The directories with files of the repository.
pub(super) async fn list(git: &Git) -> Result<Vec<Known>> {
    let listed = git.run(&["worktree", "list", "--porcelain"]).await?;
    let mut known: Vec<Known> = Vec::new();
    for line in listed.lines() {
        match line.split_once(' ') {
            Some(("worktree", path)) => known.push(Known { path: path.into(), branch: None }),
            Some(("branch", name)) => {
                if let Some(last) = known.last_mut() {
                    last.branch = Some(name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(known)
}

/// Takes away what killed runs have left.
pub(super) async fn clear_stale(git: &Git) -> Result<()> {
    // The first is the person's own.
    for Known { path, .. } in list(git).await?.into_iter().skip(1) {
        let Some(place) = path.parent().filter(|place| is_ours(place, &path)) else { continue };
        if is_in_use(place) {
            continue;
        }
        // Not `worktree prune`: somebody's own may be on a disk that is not there now.
        git.run(&[&REMOVE.map(OsStr::new)[..], &[path.as_os_str()]].concat()).await?;
        if place.exists() {
            fs::remove_dir_all(place).map_err(|error| failed(&format!("removing {}", place.display()), &error))?;
        }
    }
    clear_empty();
    Ok(())
}

/// Takes away the directories of runs that were killed before git had put files there, or after it had taken them away.
fn clear_empty() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return };
    for place in entries.flatten().map(|entry| entry.path()) {
        let tree = place.join(TREE);
        if is_ours(&place, &tree) && !tree.exists() && !is_in_use(&place) {
            // What cannot be removed is another person's.
            let _ = fs::remove_dir_all(&place);
        }
    }
}

/// Whoever holds the lock is at work.
fn is_in_use(place: &Path) -> bool {
    File::open(place.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_err())
}

/// By its name, and by what is in it: nothing else is ever removed. It may also be gone, as what is temporary may.
fn is_ours(place: &Path, tree: &Path) -> bool {
    let named = place.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with(PREFIX));
    named && tree.file_name() == Some(OsStr::new(TREE)) && (place.join(LOCK).is_file() || !place.exists())
}

fn failed(doing: &str, error: &std::io::Error) -> CommandError {
    CommandError::failed(format!("{doing} failed: {error}"))
}
