//! W-12: more than it can take. An open loop straight at the webhook, which gets a share of a core that the load can exceed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use crate::bench::Bench;
use crate::load::{Calls, Load, Run, Target, same};
use crate::process::Watched;
use crate::reviews::{self, Scene};
use crate::stats::{percentile, sorted};

/// The rates, as shares of what it can take.
const RATES: [f64; 4] = [0.5, 1.0, 2.0, 4.0];

/// The part of a core that the webhook gets. The load comes from the same machine and needs the rest of it.
const SHARE: f64 = 0.3;

/// Measures it.
///
/// # Errors
/// When the cluster does not start.
pub fn overload(bench: &mut Bench) -> Result<()> {
    let length = Duration::from_secs(if bench.full { 15 } else { 4 });
    let runtime = bench.runtime.clone();
    let scene = bench.ours()?;
    let (target, process) = (Target::webhook(scene.webhook.port)?, scene.webhook.watched());
    let held = Held::hold(process, SHARE);
    let mut lines = Vec::new();
    for (name, calls, refused) in [
        (
            "stamps of 20 KB",
            same(crate::load::Call::post("/stamp?timeout=2s", reviews::update(Scene::Dev, 20_000))),
            false,
        ),
        (
            "must-refuse reviews of 2 KB",
            reviews::calls("/gate?timeout=2s", reviews::update(Scene::Stranger, 2_000)),
            true,
        ),
    ] {
        let mut load = Load::new(&runtime, &target, 25).patience(Duration::from_secs(2));
        let capacity = capacity(&mut load, &calls, length);
        let runs: Vec<Run> = RATES.iter().map(|share| load.open(capacity * share, length, &calls)).collect();
        lines.push((name, refused, capacity, runs));
    }
    match held {
        Ok(_) => bench.report.told("the webhook's share of a core", format!("{SHARE}")),
        Err(error) => {
            bench.report.told("the webhook's share of a core", format!("all: {error:#}; the load may be the limit"))
        }
    }
    for (name, refused, capacity, runs) in lines {
        tell(bench, (name, refused), capacity, &runs);
    }
    Ok(())
}

fn capacity(load: &mut Load, calls: &Calls, length: Duration) -> f64 {
    let first = load.closed(200, calls).figure(Duration::ZERO).rate;
    let count = (first * length.as_secs_f64() / 2.0) as usize;
    load.closed(count.max(200), calls).figure(Duration::ZERO).rate
}

fn tell(bench: &mut Bench, (name, refused): (&str, bool), capacity: f64, runs: &[Run]) {
    bench.report.told(format!("{name}: capacity, closed loop, c=25"), format!("{capacity:.0}/s"));
    let goodput =
        |run: &Run| run.answers.iter().filter(|answer| answer.status == 200).count() as f64 / run.took.as_secs_f64();
    for (share, run) in RATES.iter().zip(runs) {
        let all = run.answers.len() as f64;
        let of = |which: fn(&crate::load::Answer) -> bool| {
            100.0 * run.answers.iter().filter(|answer| which(answer)).count() as f64 / all
        };
        let accepted = run.answers.iter().filter(|answer| answer.status == 200);
        let took = sorted(accepted.map(|answer| answer.took.as_secs_f64() * 1e3).collect());
        let value = format!(
            "goodput {:.0}/s; accepted p50 {:.0} ms, p99 {:.0} ms; {:.1}% put off with Retry-After, {:.1}% unanswered",
            goodput(run),
            percentile(&took, 0.5),
            percentile(&took, 0.99),
            of(|answer| answer.status == 503 && answer.retry_after),
            of(|answer| answer.status == 0),
        );
        bench.report.told(format!("{name}: {share}x"), value);
    }
    if let [less, once, .., most] = runs {
        // Where 1x is too much already, what was done at 0.5x is the measure.
        let ratio = goodput(most) / goodput(once).max(goodput(less));
        bench.report.goal(
            format!("{name}: goodput at 4x / the best of 0.5x and 1x"),
            format!("{ratio:.2}"),
            "≥ 0.9",
            ratio >= 0.9,
        );
    }
    if refused {
        let asked: usize = runs.iter().map(|run| run.answers.len()).sum();
        let wrong = runs.iter().flat_map(|run| &run.answers).filter(|answer| answer.allowed).count();
        bench.report.goal(format!("{name}: let in, of {asked}"), wrong.to_string(), "0", wrong == 0);
    }
}

/// Holds a process to a share of a core, until it is dropped.
struct Held {
    group: PathBuf,
}

impl Held {
    fn hold(process: Watched, share: f64) -> Result<Self> {
        let (period, quota) = (10_000, (10_000.0 * share) as u64);
        let (unified, name) = (Path::new("/sys/fs/cgroup/cgroup.controllers").exists(), "breakglass-bench");
        let root = if unified { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/cpu" };
        let held = Self { group: Path::new(root).join(name) };
        std::fs::create_dir_all(&held.group)?;
        if unified {
            std::fs::write(held.group.join("cpu.max"), format!("{quota} {period}"))?;
        } else {
            std::fs::write(held.group.join("cpu.cfs_period_us"), period.to_string())?;
            std::fs::write(held.group.join("cpu.cfs_quota_us"), quota.to_string())?;
        }
        std::fs::write(held.group.join("cgroup.procs"), process.0.to_string())?;
        Ok(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // A group goes only when it is empty: its members move up.
        let members = std::fs::read_to_string(self.group.join("cgroup.procs")).unwrap_or_default();
        let above = self.group.with_file_name("cgroup.procs");
        for member in members.lines() {
            std::fs::write(&above, member).ok();
        }
        std::fs::remove_dir(&self.group).ok();
    }
}
