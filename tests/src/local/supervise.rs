//! Holds the cluster: starts it, says when it is ready, and ends it when asked to.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use tests::{Setup, process};

use crate::place::Place;

/// Runs in the background for as long as the cluster is up.
pub(crate) fn supervise(place: &Place, bare: bool) -> Result<()> {
    let held = place.hold()?.context("another supervisor holds this place")?;
    process::keep(&place.directory);
    let cluster = Setup::new("local").directory(&place.directory).flux().nodes().start()?;
    if !bare {
        let started = Instant::now();
        cluster.install_manifests().context("installing breakglass")?;
        eprintln!("installed breakglass in {:.1} s", started.elapsed().as_secs_f32());
    }
    fs::write(place.ready(), if bare { "bare" } else { "breakglass" })?;
    asked_to_end()?;
    let _ = fs::remove_file(place.ready());
    // The place is free when nothing of it runs any more, not before.
    drop(cluster);
    drop(held);
    Ok(())
}

/// Serves again what the cluster of a failed test had stored.
pub(crate) fn look(kept: &Path) -> Result<()> {
    let kept = &std::path::absolute(kept)?;
    ensure!(kept.join("cluster/etcd").is_dir(), "{} holds no data of a cluster", kept.display());
    process::keep(kept);
    let cluster = Setup::new("look").directory(kept).look()?;
    eprintln!("until Ctrl-C: KUBECONFIG={} kubectl get events -A", cluster.kubeconfig().display());
    asked_to_end()
}

/// Returns at SIGTERM or Ctrl-C.
fn asked_to_end() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    })
}
