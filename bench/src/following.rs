//! W-15: what ten thousand open changes cost the API server while nobody writes: the requests of the webhook that follows them, by
//! the API server's own audit log.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;
use tests::Setup;
use tests::binaries::Ours;
use tests::wait_until;

use crate::bench::Bench;
use crate::crowd::{self, KINDS, Stamped};
use crate::etcd::Etcd;
use crate::scene::OVERRIDE;

/// How many changes are open, each with an object of its own.
const CHANGES: usize = 10_000;

/// How long it is counted, in seconds.
const COUNTED: u64 = 60;

/// How long the webhook may take to see all of them.
const SEEN_WITHIN: Duration = Duration::from_secs(300);

/// Measures it.
///
/// # Errors
/// When the cluster does not start, or the webhook does not watch what is there.
pub fn following(bench: &mut Bench) -> Result<()> {
    let ours = Ours { webhook: bench.programs.webhook.clone(), plugin: bench.programs.plugin.clone() };
    let mut cluster = Setup::new("bench-following").webhook().programs(ours).start()?;
    let admin = cluster.kubectl("admin");
    admin.try_ok(&[&["apply", "--server-side", "-f", "-"], &OVERRIDE[..]].concat(), &crowd::scene())?;
    admin.try_ok(&["wait", "--for=condition=Established", "--timeout=120s", "crd", "--all"], "")?;
    let log = cluster.directory().join("logs/audit.log");
    let alone = count(&log)?;
    let plane = cluster.control_plane().context("the control plane is ours")?;
    let etcd = Etcd::new(&plane.etcd.url);
    etcd.put(crowd::objects(0..CHANGES, Stamped::Yes))?;
    etcd.put(crowd::changes(0..CHANGES))?;
    wait_until("the webhook to watch every kind", SEEN_WITHIN, || {
        let watches = requests(&log).map_err(|error| format!("{error:#}"))?.into_iter().filter(is_watch_of_stamps);
        let kinds: BTreeSet<String> = watches.map(|event| resource(&event)).collect();
        if kinds.len() >= KINDS { Ok(()) } else { Err(format!("{kinds:?}")) }
    })?;
    settle_down(&log, alone)?;
    let followed = count(&log)?;
    let rate = |count: usize| count as f64 / COUNTED as f64;
    let more = rate(followed) - rate(alone);
    let value = format!("{more:.2}; {:.2} in all, {:.2} with no change", rate(followed), rate(alone));
    bench.report.goal(
        format!("requests a second for {CHANGES} open changes of {KINDS} kinds, nobody writing"),
        value,
        "< 1",
        more < 1.0,
    );
    Ok(())
}

/// What the webhook asked the API server for.
fn requests(log: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(log)?;
    // The last line may be half written.
    let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let is_ours =
        |event: &Value| event["user"]["username"].as_str().is_some_and(|name| name.ends_with(":breakglass-webhook"));
    // One line for each: a watch that goes on has begun, and has not ended.
    let is_first = |event: &Value| {
        let is_watch = event["verb"] == "watch";
        event["stage"] == if is_watch { "ResponseStarted" } else { "ResponseComplete" }
    };
    Ok(events.filter(is_ours).filter(is_first).collect())
}

fn resource(event: &Value) -> String {
    let of = &event["objectRef"];
    format!("{}.{}", of["resource"].as_str().unwrap_or_default(), of["apiGroup"].as_str().unwrap_or_default())
}

fn is_watch_of_stamps(event: &Value) -> bool {
    event["verb"] == "watch"
        && event["requestURI"].as_str().is_some_and(|uri| uri.contains("labelSelector=breakglass.dev"))
}

/// How many requests there are in the time that is counted.
fn count(log: &Path) -> Result<usize> {
    let before = requests(log)?.len();
    std::thread::sleep(Duration::from_secs(COUNTED));
    Ok(requests(log)?.len() - before)
}

/// Waits until what the records brought with them is over: until it asks no more than twice as much as without any.
fn settle_down(log: &Path, alone: usize) -> Result<()> {
    const PAUSE: Duration = Duration::from_secs(5);
    let allowed = 2 * alone * PAUSE.as_secs() as usize / COUNTED as usize;
    wait_until("the webhook to be quiet", SEEN_WITHIN, || {
        let count = || requests(log).map(|requests| requests.len()).map_err(|error| format!("{error:#}"));
        let before = count()?;
        std::thread::sleep(PAUSE);
        let more = count()? - before;
        if more <= allowed { Ok(()) } else { Err(format!("{more} requests in {PAUSE:?}")) }
    })
}
