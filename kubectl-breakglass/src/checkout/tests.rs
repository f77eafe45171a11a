//! A real clone of a real repository, with a dirty tree: what is left of it, and what is there.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use chrono::Utc;

use super::*;

/// A bare repository and a clone of it whose origin says to be somewhere else, as in production.
struct Scene {
    root: PathBuf,
}

const URL: &str = "https://git.example.com/fleet.git";

const BRANCHES: Branches<'static> = Branches { followed: "main", written: "breakglass/INC-1" };

impl Scene {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("breakglass-checkout-{}-{number}", std::process::id()));
        fs::create_dir_all(root.join("clone")).unwrap();
        let scene = Self { root };
        let bare = scene.root.join("fleet.git").display().to_string();
        scene.git(&["init", "--quiet", "--bare", "--initial-branch=main", &bare]);
        scene.git(&["init", "--quiet", "--initial-branch=main"]);
        for (key, value) in [
            ("user.name", "alice"),
            ("user.email", "alice@example.com"),
            ("remote.origin.url", URL),
            (&format!("url.{bare}.insteadOf"), URL),
        ] {
            scene.git(&["config", key, value]);
        }
        fs::write(scene.clone().join("api.yaml"), "replicas: 2\n").unwrap();
        scene.git(&["add", "--all"]);
        scene.git(&["commit", "--quiet", "--message=first"]);
        scene.git(&["push", "--quiet", "origin", "main"]);
        // What the person is in the middle of.
        fs::write(scene.clone().join("api.yaml"), "replicas: unsaved\n").unwrap();
        fs::write(scene.clone().join("staged.yaml"), "a: b\n").unwrap();
        scene.git(&["add", "staged.yaml"]);
        scene
    }

    fn clone(&self) -> PathBuf {
        self.root.join("clone")
    }

    fn git(&self, args: &[&str]) -> String {
        let mut command = Command::new("git");
        command.current_dir(self.clone()).args(args).env("GIT_CONFIG_GLOBAL", "/dev/null");
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
            command.env_remove(name);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// What must be as it was, whatever is done.
    fn persons_own(&self) -> [String; 3] {
        [self.git(&["status", "--porcelain=v2", "--branch"]), self.git(&["diff"]), self.git(&["diff", "--cached"])]
    }

    async fn begin(&self) -> Result<Worktree> {
        Checkout::open(&self.clone(), Remote::At("git@git.example.com:fleet")).await?.begin(BRANCHES).await
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn replicas(number: u32) -> BTreeMap<PathBuf, Option<String>> {
    BTreeMap::from([("api.yaml".into(), Some(format!("replicas: {number}\n")))])
}

fn message(change: &str) -> String {
    format!("INC-1: api\n\nWhy.\n\nBreakglass-Incident: INC-1\n{}: {change}\n", worktree::CHANGE_TRAILER)
}

#[tokio::test]
async fn a_commit_is_made_and_pushed_and_the_persons_own_files_are_as_they_were() {
    let scene = Scene::new();
    let before = scene.persons_own();
    let worktree = scene.begin().await.unwrap();
    worktree.stage(&replicas(5)).await.unwrap();
    let diff = worktree.difference().await.unwrap();
    assert!(diff.ends_with("@@ -1 +1 @@\n-replicas: 2\n+replicas: 5\n"), "{diff}");
    let commit = worktree.commit(&message("inc-1-a")).await.unwrap();
    worktree.push().await.unwrap();
    assert!(!worktree.has_arrived("main").await.unwrap());
    assert!(worktree.has_arrived("breakglass/INC-1").await.unwrap());
    assert_eq!(worktree.files_of(&commit).await.unwrap(), ["api.yaml"]);
    let path = worktree.path.clone();
    drop(worktree);
    assert!(!path.exists() && !path.parent().unwrap().exists());
    assert_eq!(scene.git(&["worktree", "list"]).lines().count(), 1);
    assert_eq!(scene.git(&["rev-parse", "breakglass/INC-1"]), commit);
    let pushed = scene.git(&["ls-remote", "origin", "refs/heads/breakglass/INC-1"]);
    assert!(pushed.starts_with(&commit), "{pushed}");
    assert_eq!(scene.persons_own(), before);
}

#[tokio::test]
async fn a_run_after_one_that_was_killed_goes_on_where_it_stopped() {
    let scene = Scene::new();
    let since = Utc::now();
    let worktree = scene.begin().await.unwrap();
    assert_eq!(worktree.committed(since).await.unwrap(), BTreeMap::new());
    worktree.stage(&replicas(5)).await.unwrap();
    let first = worktree.commit(&message("inc-1-a")).await.unwrap();
    // As if it had been killed here, and git too, over the making of the files: nothing is taken away, and nobody holds the lock.
    let left = worktree.path.clone();
    scene.git(&["worktree", "lock", "--reason=initializing", &left.display().to_string()]);
    let place = left.parent().unwrap().to_owned();
    fs::remove_file(place.join("lock")).unwrap();
    fs::write(place.join("lock"), "").unwrap();
    std::mem::forget(worktree);

    let worktree = scene.begin().await.unwrap();
    assert!(!place.exists());
    assert_eq!(worktree.committed(since).await.unwrap(), BTreeMap::from([("inc-1-a".to_owned(), first.clone())]));
    assert_eq!((worktree.tip().await.unwrap(), worktree.difference().await.unwrap()), (first.clone(), String::new()));
    for _ in 0..2 {
        worktree.push().await.unwrap();
    }
    worktree.stage(&replicas(6)).await.unwrap();
    let second = worktree.commit(&message("inc-1-b")).await.unwrap();
    drop(worktree);
    assert_eq!(scene.git(&["rev-list", "main..breakglass/INC-1"]), format!("{second}\n{first}"));

    // Merged by somebody, and gone from the remote: the next commit stands on what the engine follows.
    scene.git(&["push", "--quiet", "origin", "breakglass/INC-1:main", ":breakglass/INC-1"]);
    let worktree = scene.begin().await.unwrap();
    assert!(worktree.is_in_followed());
    let committed = worktree.committed(since).await.unwrap();
    assert_eq!((&committed["inc-1-a"], &committed["inc-1-b"]), (&first, &second));
}

#[tokio::test]
async fn nothing_but_our_own_is_taken_away() {
    let scene = Scene::new();
    // Somebody's own, called as ours are.
    let theirs = scene.root.join("kubectl-breakglass-accept-1");
    fs::create_dir(&theirs).unwrap();
    let tree = theirs.join("tree").display().to_string();
    scene.git(&["worktree", "add", "--quiet", "--detach", &tree]);
    // And one on a disk that is not there now.
    let away = scene.root.join("away").display().to_string();
    scene.git(&["worktree", "add", "--quiet", "--detach", &away]);
    fs::rename(&away, scene.root.join("elsewhere")).unwrap();
    // One that a run has left which was killed before there were files in it.
    let empty = std::env::temp_dir().join(format!("kubectl-breakglass-accept-empty-{}", std::process::id()));
    fs::create_dir(&empty).unwrap();
    fs::write(empty.join("lock"), "").unwrap();
    // One of ours, which is gone with everything around it.
    let worktree = scene.begin().await.unwrap();
    fs::remove_dir_all(worktree.path.parent().unwrap()).unwrap();
    std::mem::forget(worktree);
    assert_eq!(scene.git(&["worktree", "list"]).lines().count(), 4);
    drop(scene.begin().await.unwrap());
    assert!(theirs.join("tree/api.yaml").exists() && !empty.exists());
    assert_eq!(scene.git(&["worktree", "list"]).lines().count(), 3);
}

#[tokio::test]
async fn two_at_once_do_not_take_away_each_others_files_and_only_one_moves_the_branch() {
    let scene = Scene::new();
    let (one, other) = (scene.begin().await.unwrap(), scene.begin().await.unwrap());
    assert!(one.path.exists());
    for (worktree, number) in [(&one, 5), (&other, 6)] {
        worktree.stage(&replicas(number)).await.unwrap();
    }
    one.commit(&message("inc-1-a")).await.unwrap();
    let refused = other.commit(&message("inc-1-b")).await.unwrap_err();
    assert!(refused.message.starts_with("git update-ref"), "{refused}");
    one.push().await.unwrap();
}

#[tokio::test]
async fn branches_that_went_apart_are_left_alone() {
    let scene = Scene::new();
    let worktree = scene.begin().await.unwrap();
    worktree.stage(&replicas(5)).await.unwrap();
    worktree.commit(&message("inc-1-a")).await.unwrap();
    worktree.push().await.unwrap();
    drop(worktree);
    let other = scene.git(&["commit-tree", "-p", "main", "-m", "other", "main^{tree}"]);
    scene.git(&["branch", "--force", "breakglass/INC-1", &other]);
    let refused = scene.begin().await.unwrap_err();
    assert!(refused.message.contains("one thing here and another on origin"), "{refused}");
    scene.git(&["switch", "--quiet", "--discard-changes", "breakglass/INC-1"]);
    let refused = scene.begin().await.unwrap_err();
    assert!(refused.message.contains("is checked out in"), "{refused}");
}

#[tokio::test]
async fn what_is_no_clone_of_it_is_said_with_what_it_is() {
    let scene = Scene::new();
    let open = async |directory: &Path, remote| Checkout::open(directory, remote).await.map(|found| found.remote);
    let clone = scene.clone();
    let refused = open(&clone, Remote::At("https://git.example.com/shop")).await.unwrap_err();
    let expected = format!("is no clone of https://git.example.com/shop, which the engine follows: origin is {URL}");
    assert!(refused.message.ends_with(&expected), "{refused}");
    let rewritten = scene.root.join("fleet").display().to_string();
    assert_eq!(open(&clone, Remote::At(&rewritten)).await.unwrap(), "origin");
    assert_eq!(open(&clone, Remote::Named("origin")).await.unwrap(), "origin");
    let refused = open(&clone, Remote::Named("upstream")).await.unwrap_err();
    assert!(refused.message.contains("has no remote upstream"), "{refused}");
    for (directory, words) in
        [(scene.root.clone(), "is in no clone of a Git repository"), (scene.root.join("gone"), "there is no directory")]
    {
        let refused = open(&directory, Remote::At(URL)).await.unwrap_err();
        assert!(refused.message.contains(words), "{refused}");
    }
}

#[tokio::test]
async fn a_name_is_no_option_and_a_path_stays_in_the_repository() {
    let scene = Scene::new();
    let checkout = Checkout::open(&scene.clone(), Remote::Named("origin")).await.unwrap();
    for (followed, written, words) in [
        ("main", "breakglass/a b", "no name that a branch can have"),
        ("--upload-pack=x", "breakglass/INC-1", "no name that a branch can have"),
        ("main", "breakglass/..", "no name that a branch can have"),
        ("trunk", "breakglass/INC-1", "origin has no branch trunk, which the engine follows"),
    ] {
        let refused = checkout.begin(Branches { followed, written }).await.unwrap_err();
        assert!(refused.message.contains(words), "{refused}");
    }
    let worktree = scene.begin().await.unwrap();
    std::os::unix::fs::symlink("/", worktree.path.join("root")).unwrap();
    for path in ["/etc/api.yaml", "../api.yaml", "root/tmp/api.yaml", ".git", "root"] {
        let files = BTreeMap::from([(PathBuf::from(path), Some(String::new()))]);
        let refused = worktree.stage(&files).await.unwrap_err();
        assert!(refused.message.ends_with("is no path in the repository"), "{path}: {refused}");
    }
    worktree.stage(&BTreeMap::from([("new/:(top)a.yaml".into(), Some("a: b\n".to_owned()))])).await.unwrap();
    worktree.stage(&BTreeMap::from([("api.yaml".into(), None)])).await.unwrap();
    let diff = worktree.difference().await.unwrap();
    assert!(diff.contains("new/:(top)a.yaml") && diff.contains("deleted file"), "{diff}");
}

#[test]
fn a_token_in_a_url_is_not_shown() {
    for (url, expected) in [
        ("https://alice:secret@git.example.com/fleet", "https://git.example.com/fleet"),
        ("git@git.example.com:fleet", "git@git.example.com:fleet"),
        ("/srv/fleet.git", "/srv/fleet.git"),
    ] {
        assert_eq!(without_password(url), expected);
    }
}
