//! The fleet repository: a bare one that Flux follows, and a clone in which people work.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::kubectl;

/// What the repository says at first: checked in below `tests/fleet`.
const SEED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fleet");

/// The branch that Flux follows.
pub const BRANCH: &str = "main";

/// Where the cluster believes the repository to be: Flux takes no path on a machine. Clones believe it, too, and Git
/// rewrites it for them.
pub const URL: &str = "https://git.example.com/fleet.git";

/// What its server does with what is pushed.
const REVIEW: &str = include_str!("../local/review.sh");

/// The bare repository and its clone.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// The bare repository: a push to its main branch is what Flux applies.
    pub bare: PathBuf,
    /// A clone with a working tree.
    pub clone: PathBuf,
}

impl Fleet {
    /// Makes `fleet.git` and `fleet` in `directory`, with the files of `tests/fleet` as the first commit.
    ///
    /// # Errors
    /// When git is missing or refuses: with the command line that failed.
    pub fn create(directory: &Path) -> Result<Self> {
        let fleet = Self { bare: directory.join("fleet.git"), clone: directory.join("fleet") };
        let (bare, clone) = (fleet.bare.to_string_lossy(), fleet.clone.to_string_lossy());
        git(directory, &["init", "--quiet", "--bare", "--initial-branch", BRANCH, &bare])?;
        let hook = fleet.bare.join("hooks/post-receive");
        fs::write(&hook, REVIEW)?;
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755))?;
        git(directory, &["clone", "--quiet", &bare, &clone])?;
        fleet.identify(&fleet.clone)?;
        copy(Path::new(SEED), &fleet.clone)?;
        git(&fleet.clone, &["add", "--all"])?;
        git(&fleet.clone, &["commit", "--quiet", "--message", "prod: what it starts with"])?;
        git(&fleet.clone, &["push", "--quiet", "origin", BRANCH])?;
        Ok(fleet)
    }

    /// Another clone, at `path`, with alice as the author.
    ///
    /// # Errors
    /// When git refuses: with the command line that failed.
    pub fn clone_to(&self, path: &Path) -> Result<()> {
        git(&self.bare, &["clone", "--quiet", &self.bare.to_string_lossy(), &path.to_string_lossy()])?;
        self.identify(path)
    }

    /// alice is the author, and the repository is where the cluster believes it to be.
    fn identify(&self, clone: &Path) -> Result<()> {
        let rewritten = format!("url.{}.insteadOf", self.bare.display());
        for (key, value) in
            [("user.name", "alice"), ("user.email", "alice@example.com"), ("remote.origin.url", URL), (&rewritten, URL)]
        {
            git(clone, &["config", key, value])?;
        }
        Ok(())
    }

    /// Writes `files` (path and text) in the clone on top of what main says now, commits and pushes; gives the commit.
    ///
    /// # Errors
    /// When git refuses: with the command line that failed.
    pub fn push(&self, message: &str, files: &[(&str, &str)]) -> Result<String> {
        git(&self.clone, &["pull", "--quiet", "--rebase", "origin", BRANCH])?;
        for (path, text) in files {
            let path = self.clone.join(path);
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::write(path, text)?;
        }
        git(&self.clone, &["add", "--all"])?;
        git(&self.clone, &["commit", "--quiet", "--message", message])?;
        git(&self.clone, &["push", "--quiet", "origin", BRANCH])?;
        git(&self.clone, &["rev-parse", "HEAD"])
    }

    /// What is the person's own in the clone, and nobody else's to touch.
    ///
    /// # Panics
    /// When git refuses.
    #[must_use]
    pub fn persons_own(&self) -> [String; 4] {
        [&["status", "--porcelain"][..], &["diff", "HEAD"], &["rev-parse", "HEAD"], &["branch", "--show-current"]]
            .map(|args| self.git(args).unwrap())
    }

    /// The locks that a git which was stopped has left, in the clone and in the bare repository.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn locks(&self) -> Result<Vec<PathBuf>> {
        let mut locks = Vec::new();
        let mut left = vec![self.bare.clone(), self.clone.join(".git")];
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(directory)? {
                let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
                if kind.is_dir() {
                    left.push(path);
                } else if path.extension().is_some_and(|end| end == "lock") {
                    locks.push(path);
                }
            }
        }
        Ok(locks)
    }

    /// Runs git in the clone and gives what it prints.
    ///
    /// # Errors
    /// When git refuses: with the command line that failed.
    pub fn git(&self, args: &[&str]) -> Result<String> {
        git(&self.clone, args)
    }
}

/// Runs git in `directory`, untouched by anybody's own configuration; gives what it prints, without the last line end.
///
/// # Errors
/// When git is missing or refuses: with the command line that failed.
pub fn git(directory: &Path, args: &[&str]) -> Result<String> {
    let mut command = Command::new("git");
    command
        .current_dir(directory)
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0");
    // Set when the tests run from a Git hook, and then they would name the wrong repository.
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(name);
    }
    let output = kubectl::run(command, "")?;
    if output.status != 0 {
        bail!("git {} in {}: {output}", args.join(" "), directory.display());
    }
    Ok(output.stdout.trim_end().to_owned())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_for_review_is_merged_and_said() {
        let root = std::env::temp_dir().join(format!("breakglass-fleet-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        let fleet = Fleet::create(&root).unwrap();
        assert!(include_str!("flux.yaml").contains(URL));
        let push = |number: u32, start: &str, branch: &str| {
            fleet.git(&["switch", "--quiet", "--detach", start]).unwrap();
            fs::write(fleet.clone.join("note"), number.to_string()).unwrap();
            fleet.git(&["add", "note"]).unwrap();
            fleet.git(&["commit", "--quiet", "--message", "note"]).unwrap();
            let mut command = Command::new("git");
            command.current_dir(&fleet.clone).args(["push", "origin", &format!("HEAD:refs/heads/{branch}")]);
            let said = kubectl::run(command, "").unwrap().stderr;
            (said, fleet.git(&["rev-parse", "HEAD"]).unwrap())
        };
        let main = || git(&fleet.bare, &["rev-parse", BRANCH]).unwrap();
        let (said, commit) = push(1, "main", "breakglass/INC-1");
        assert!(said.contains("fleet: merged breakglass/INC-1 into main (here nobody has to review)"), "{said}");
        assert_eq!(main(), commit);
        let (said, _) = push(2, "main", "breakglass/INC-2");
        assert!(said.contains("main has gone on since breakglass/INC-2 began"), "{said}");
        let (said, _) = push(3, &commit, "other");
        assert!(!said.contains("fleet:"), "{said}");
        assert_eq!(main(), commit);
        fs::remove_dir_all(&root).unwrap();
    }
}
