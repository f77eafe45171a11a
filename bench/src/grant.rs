//! W-10: from opening a token to the first write that is let in, and from closing it to the first that is not.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::bench::Bench;
use crate::etcd;
use crate::load::{Answer, Call, Load, same};
use crate::scene::{Scene, random_end};
use crate::stats::{percentile, sorted};

/// How many tokens are there the second time.
const MANY: usize = 10_000;

/// How many writes are tried after a token was closed.
const AFTER: usize = 5;

/// Long enough for any token to be known.
const LIMIT: Duration = Duration::from_secs(20);

/// Measures it in a cluster with next to no tokens.
///
/// # Errors
/// When the cluster does not start, or a token is not taken.
pub fn among_few(bench: &mut Bench) -> Result<()> {
    grant(bench, "no other tokens")
}

/// Measures it among many tokens.
///
/// # Errors
/// When the cluster does not start, or a token is not taken.
pub fn among_many(bench: &mut Bench) -> Result<()> {
    let scene = bench.ours()?;
    scene.etcd.put(etcd::tokens(0, MANY))?;
    scene.webhook.start()?;
    grant(bench, "10,000 tokens")
}

fn grant(bench: &mut Bench, name: &str) -> Result<()> {
    let times = bench.rounds(40);
    let scene = bench.ours()?;
    scene.make(
        &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "granted", "namespace": "prod"}}),
    )?;
    let (mut opened, mut closed, mut late, mut early) = (Vec::new(), Vec::new(), 0, 0);
    for _ in 0..times {
        let life = life(scene)?;
        opened.push(life.opened.as_secs_f64() * 1e3);
        closed.push(life.closed.as_secs_f64() * 1e3);
        early += life.refused_while_open;
        late += life.let_in_after_close;
    }
    bench.report.told(format!("{name}: opened → first write let in"), spread(opened));
    bench.report.goal(
        format!("{name}: writes refused after open returned, of {times}"),
        early.to_string(),
        "0",
        early == 0,
    );
    bench.report.told(format!("{name}: closed → first refusal"), spread(closed));
    let tried = times * AFTER;
    bench.report.goal(format!("{name}: let in after close returned, of {tried}"), late.to_string(), "0", late == 0);
    Ok(())
}

fn spread(values: Vec<f64>) -> String {
    let values = sorted(values);
    let at = |share| percentile(&values, share);
    format!("p50 {:.0} ms, p99 {:.0} ms, max {:.0} ms (the write itself included)", at(0.5), at(0.99), at(1.0))
}

/// The life of one token.
struct Life {
    opened: Duration,
    closed: Duration,
    refused_while_open: usize,
    let_in_after_close: usize,
}

fn life(scene: &Scene) -> Result<Life> {
    // bob, since alice has tokens already.
    let mut load = Load::new(&scene.runtime, &scene.person("bob")?, 1);
    let mut send = |call: Call| -> Answer {
        let run = load.closed(1, &same(call));
        run.answers.into_iter().next().unwrap_or_else(|| Answer::none(Duration::ZERO, String::new()))
    };
    let patch = |path: &str, body: serde_json::Value| Call {
        method: "PATCH",
        media_type: "application/merge-patch+json",
        ..Call::post(path, body.to_string())
    };
    let (name, tokens) = (format!("inc-910000-{}", random_end()), "/apis/breakglass.dev/v1alpha1/breakglasstokens");
    let mut number = 0;
    let mut write = || {
        number += 1;
        let body = json!({"data": {"by": name, "number": number.to_string()}});
        patch("/api/v1/namespaces/prod/configmaps/granted?fieldManager=bench", body)
    };
    // The connection is open before the clock runs.
    let shut = send(write());
    ensure!(shut.status == 403, "prod is open to bob: {} {}", shut.status, shut.text);
    let token = json!({"apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassToken", "metadata": {"name": name},
        "spec": {"incident": "INC-910000", "reason": "a benchmark", "environment": "prod", "ttl": "1h"}});
    let opened = send(Call::post(tokens, token.to_string()));
    ensure!(opened.status == 201, "opening a token: {} {}", opened.status, opened.text);
    let (begun, mut refused) = (Instant::now(), 0);
    while send(write()).status != 200 {
        refused += 1;
        ensure!(begun.elapsed() < LIMIT, "the token {name} lets nothing in");
    }
    let opened = begun.elapsed();
    let close =
        json!({"apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassToken", "status": {"phase": "Closed"}});
    let closed = send(patch(&format!("{tokens}/{name}/status"), close));
    ensure!(closed.status == 200, "closing a token: {} {}", closed.status, closed.text);
    let begun = Instant::now();
    let first = send(write()).status;
    let closed = begun.elapsed();
    let rest = (1..AFTER).map(|_| send(write()).status).filter(|&status| status != 403).count();
    Ok(Life { opened, closed, refused_while_open: refused, let_in_after_close: rest + usize::from(first != 403) })
}
