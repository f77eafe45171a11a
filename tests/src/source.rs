//! Stands in for Flux' source-controller: publishes the main branch of a bare repository as a GitRepository's artifact.
//!
//! source-controller itself cannot be built from published Go modules (it imports github.com/fluxcd/pkg/artifact, which
//! is not published). kustomize-controller sees no difference: a tar.gz over HTTP, and the status that points to it.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::Path as UrlPath;
use axum::http::StatusCode;
use axum::routing::get;
use chrono::{SecondsFormat, Utc};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::git::{BRANCH, Fleet, git};
use crate::kubectl::{Kubectl, run};

/// How often the branch is looked at: one small file is read.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A running stand-in; ends when dropped.
#[derive(Debug)]
pub struct Source {
    stop: Arc<AtomicBool>,
    stopped: Option<tokio::sync::oneshot::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

/// Follows `fleet` and publishes each commit on the GitRepository `flux-system/fleet`, written as `identity`.
///
/// The GitRepository must exist. The first commit is published before this returns.
///
/// # Errors
/// When the first commit cannot be published, or no port is to be had.
pub fn start(fleet: &Fleet, archives: &Path, identity: Kubectl) -> Result<Source> {
    fs::create_dir_all(archives)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let publisher = Publisher {
        bare: fleet.bare.clone(),
        archives: archives.to_owned(),
        url: format!("http://{}", listener.local_addr()?),
        identity,
    };
    let (stopped, wait_for_stop) = tokio::sync::oneshot::channel();
    let served = archives.to_owned();
    let server = std::thread::Builder::new().name("source-http".to_owned()).spawn(move || {
        if let Err(error) = serve(listener, served, wait_for_stop) {
            eprintln!("serving artifacts: {error:#}");
        }
    })?;
    let mut published = publisher.head()?;
    publisher.publish(&published)?;
    let stop = Arc::new(AtomicBool::new(false));
    let stop_following = Arc::clone(&stop);
    let follower = std::thread::Builder::new().name("source-git".to_owned()).spawn(move || {
        while !stop_following.load(Ordering::Relaxed) {
            std::thread::park_timeout(LOOK_EVERY);
            match publisher.head() {
                Ok(head) if head == published => {}
                // Tried again at the next look: the API server may be restarting.
                Ok(head) => match publisher.publish(&head) {
                    Ok(()) => published = head,
                    Err(error) => eprintln!("publishing {head}: {error:#}"),
                },
                Err(error) => eprintln!("looking at the fleet: {error:#}"),
            }
        }
    })?;
    Ok(Source { stop, stopped: Some(stopped), threads: vec![server, follower] })
}

impl Drop for Source {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.stopped.take());
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

struct Publisher {
    bare: PathBuf,
    archives: PathBuf,
    url: String,
    identity: Kubectl,
}

impl Publisher {
    fn head(&self) -> Result<String> {
        match fs::read_to_string(self.bare.join("refs/heads").join(BRANCH)) {
            Ok(commit) => Ok(commit.trim().to_owned()),
            // After `git gc` the branch stands in another file, which git knows how to read.
            Err(_) => git(&self.bare, &["rev-parse", BRANCH]),
        }
    }

    fn publish(&self, commit: &str) -> Result<()> {
        let mut command = Command::new("git");
        let name = format!("{commit}.tar.gz");
        let file = self.archives.join(&name);
        command.current_dir(&self.bare).args(["archive", "--format=tar.gz", "-o"]).arg(&file).arg(commit);
        let output = run(command, "")?;
        anyhow::ensure!(output.status == 0, "git archive {commit}: {output}");
        let archive = fs::read(&file).context("reading the archive")?;
        let digest: String = Sha256::digest(&archive).iter().map(|byte| format!("{byte:02x}")).collect();
        let now = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
        let revision = format!("{BRANCH}@sha1:{commit}");
        let generation = self.identity.try_ok(
            &["-n", "flux-system", "get", "gitrepository", "fleet", "-o", "jsonpath={.metadata.generation}"],
            "",
        )?;
        let generation: i64 = generation.parse().context("a generation is a number")?;
        let status = json!({"status": {
            "observedGeneration": generation,
            "conditions": [{
                "type": "Ready", "status": "True", "reason": "Succeeded", "lastTransitionTime": now,
                "observedGeneration": generation, "message": format!("stored artifact for revision '{revision}'"),
            }],
            "artifact": {
                "url": format!("{}/{name}", self.url), "path": format!("gitrepository/flux-system/fleet/{name}"),
                "revision": revision, "digest": format!("sha256:{digest}"), "lastUpdateTime": now,
                "size": archive.len(),
            },
        }})
        .to_string();
        let patch = ["--subresource=status", "--type=merge", "-p", &status];
        self.identity.try_ok(&[&["-n", "flux-system", "patch", "gitrepository", "fleet"], &patch[..]].concat(), "")?;
        Ok(())
    }
}

fn serve(listener: TcpListener, archives: PathBuf, stop: tokio::sync::oneshot::Receiver<()>) -> Result<()> {
    let file = move |UrlPath(name): UrlPath<String>| {
        let archives = archives.clone();
        async move {
            // A name with a slash in it would leave the folder.
            let path = archives.join(Path::new(&name).file_name().ok_or(StatusCode::NOT_FOUND)?);
            fs::read(path).map_err(|_| StatusCode::NOT_FOUND)
        }
    };
    let router = Router::new().route("/{name}", get(file));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tokio::select! {
            served = axum::serve(listener, router) => served?,
            // The sender is dropped, never used: that is the sign.
            _ = stop => {}
        }
        Ok(())
    })
}
