//! W-14: replicas restarted under load, one after the other: how many writes fail, with the time in which a replica that is
//! told to end goes on answering, and without it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tests::binaries::Ours;
use tests::{Cluster, Setup, wait_until};

use crate::bench::Bench;
use crate::load::{Call, Load, Run, Target, same};
use crate::scene::{OVERRIDE, random_end};
use crate::stats::{percentile, sorted};

/// How often a replica is restarted at most; the next one waits until both are ready again.
const EVERY: Duration = Duration::from_secs(5);

/// How many writes are wanted in a second, and the part of what the machine can take that they may be: beyond, it is the
/// machine that fails them.
const WANTED: f64 = 500.0;
const PART: f64 = 0.5;

/// Measures it, in a cluster of its own with two nodes.
///
/// # Errors
/// When the cluster does not start.
pub fn restart(bench: &mut Bench) -> Result<()> {
    let length = Duration::from_secs(if bench.full { 300 } else { 45 });
    let ours = Ours { webhook: bench.programs.webhook.clone(), plugin: bench.programs.webhook.clone() };
    let cluster = Setup::new("bench-nodes").nodes().programs(ours).start()?;
    cluster.install_manifests()?;
    let alice = Target::api(cluster.kubectl("alice").kubeconfig())?;
    let token = json!({"apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassToken",
        "metadata": {"name": format!("inc-920000-{}", random_end())},
        "spec": {"incident": "INC-920000", "reason": "a benchmark", "environment": "prod", "ttl": "3h"}});
    let mut load = Load::new(&bench.runtime, &alice, 16);
    let open = Call::post("/apis/breakglass.dev/v1alpha1/breakglasstokens", token.to_string());
    load.closed(1, &same(open)).all("opening a token", |answer| answer.status == 201)?;
    // Refused where the webhook does not answer, and without a record where it does.
    let write = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "rolled"}, "data": {"a": "1"}});
    let calls = same(Call::post("/api/v1/namespaces/prod/configmaps?dryRun=All", write.to_string()));
    load.closed(50, &calls).all("a write in prod", |answer| answer.status == 201)?;
    let capacity = load.closed(1_000, &calls).all("a write in prod", |answer| answer.status == 201)?;
    let rate = WANTED.min(PART * capacity.figure(Duration::ZERO).rate);
    for (name, lameduck) in [("as installed", None), ("without lameduck", Some(0))] {
        if let Some(seconds) = lameduck {
            set_lameduck(&cluster, seconds)?;
        }
        let (run, restarts) = rolled(&cluster, &mut load, (rate, length), &calls)?;
        tell(bench, (name, rate, restarts), &run, lameduck.is_none());
    }
    Ok(())
}

fn admin(cluster: &Cluster, args: &[&str]) -> Result<String> {
    let args = [&["-n", "breakglass-system"], args, &OVERRIDE[..]].concat();
    cluster.kubectl("admin").try_ok(&args, "")
}

fn set_lameduck(cluster: &Cluster, seconds: u32) -> Result<()> {
    let patch = json!([{"op": "add", "path": "/spec/template/spec/containers/0/args/-",
        "value": format!("--lameduck={seconds}")}]);
    admin(cluster, &["patch", "deployment", "breakglass-webhook", "--type=json", "-p", &patch.to_string()])?;
    cluster.wait_rolled_out()?;
    wait_until("the old replicas to be gone", Duration::from_secs(60), || match pods(cluster).len() {
        2 => Ok(()),
        other => Err(format!("{other} run")),
    })
}

fn pods(cluster: &Cluster) -> BTreeSet<String> {
    cluster.nodes().running().into_iter().map(|running| running.pod).collect()
}

/// Deletes the older of the two pods again and again while the load runs.
fn rolled(
    cluster: &Cluster,
    load: &mut Load,
    (rate, length): (f64, Duration),
    calls: &crate::load::Calls,
) -> Result<(Run, usize)> {
    std::thread::scope(|scope| {
        let started = Instant::now();
        let roller = scope.spawn(move || -> Result<usize> {
            let (mut restarts, mut known) = (0, Vec::from_iter(pods(cluster)));
            while started.elapsed() + EVERY < length {
                let begun = Instant::now();
                cluster.wait_rolled_out()?;
                known.retain(|pod| pods(cluster).contains(pod));
                known.extend(pods(cluster).into_iter().filter(|pod| !known.contains(pod)).collect::<Vec<_>>());
                if known.is_empty() {
                    bail!("no replica runs");
                }
                admin(cluster, &["delete", "pod", &known.remove(0), "--wait=false"])?;
                restarts += 1;
                std::thread::sleep(EVERY.saturating_sub(begun.elapsed()));
            }
            Ok(restarts)
        });
        let run = load.open(rate, length, calls);
        let restarts = roller.join().map_err(|_| anyhow::anyhow!("the roller panicked"))?;
        Ok((run, restarts.context("restarting replicas")?))
    })
}

fn tell(bench: &mut Bench, (name, rate, restarts): (&str, f64, usize), run: &Run, wanted: bool) {
    let failed = run.answers.iter().filter(|answer| answer.status != 201).count();
    let took = sorted(run.answers.iter().map(|answer| answer.took.as_secs_f64() * 1e3).collect());
    let (p50, p99, max) = (percentile(&took, 0.5), percentile(&took, 0.99), percentile(&took, 1.0));
    if let Some(answer) = run.answers.iter().find(|answer| answer.status != 201) {
        eprintln!("  the first failure: {} {}", answer.status, answer.text);
    }
    let what = format!("{name}: failed writes, {restarts} restarts, {rate:.0} writes/s");
    let value = format!("{failed} of {}; p50 {p50:.0} ms, p99 {p99:.0} ms, max {max:.0} ms", run.answers.len());
    match wanted {
        true => bench.report.goal(what, value, "0", failed == 0),
        false => bench.report.told(what, value),
    }
}
