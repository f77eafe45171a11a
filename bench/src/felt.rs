//! W-2: what the cluster feels. Dry runs through the API server: without a webhook, with two that do nothing, with ours.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::load::{Call, Calls, Load, same};
use crate::process::{Watched, cpu_of};
use crate::reviews::config_map;
use crate::scene::Scene;
use crate::stats::{Figure, Figures, Ratio, rounds};

/// How many writes make a figure.
const COUNT: usize = 150;

/// The namespace whose writes the webhook that does nothing is asked about.
const ASKED: &str = "noop-dev";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    None,
    NoneAgain,
    NoOp,
    /// Ours in dev: the stamp.
    Dev,
    /// Ours in prod, under a token: stamp, gate, and the token confirmed.
    Prod,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    ConfigMap,
    Pod,
    /// A read, which no webhook sees: the same on both API servers, or they cannot be compared.
    Read,
}

/// Kind, update or create, side.
type Cell = (Kind, bool, Side);

/// Measures it.
///
/// # Errors
/// When a cluster does not start, or a write is refused.
pub fn felt(bench: &mut Bench) -> Result<()> {
    let full = bench.rounds(7);
    let (ours, bare) = bench.both()?;
    bare.cluster.namespace(ASKED);
    bare.register(&[ASKED])?;
    ours.open_token()?;
    let processes = |scene: &Scene| [scene.api_server, scene.webhook.watched()];
    let processes = (processes(ours), processes(bare));
    let mut work = BTreeMap::new();
    for (side, namespace) in
        [(Side::None, "dev"), (Side::NoneAgain, "dev"), (Side::NoOp, ASKED), (Side::Dev, "dev"), (Side::Prod, "prod")]
    {
        let scene = if side >= Side::Dev { &*ours } else { &*bare };
        prepare(scene, (side, namespace), &mut work)?;
    }
    let cells: Vec<Cell> = work.keys().copied().collect();
    let figures = rounds(full, &cells, |cell| {
        let processes = if cell.2 >= Side::Dev { processes.0 } else { processes.1 };
        measure(&mut work, cell, processes)
    })?;
    tell(bench, &figures.into_iter().collect());
    Ok(())
}

fn prepare(scene: &Scene, (side, namespace): (Side, &str), work: &mut BTreeMap<Cell, (Load, Calls)>) -> Result<()> {
    let alice = scene.person("alice")?;
    let mut add = |kind, update, call| {
        work.insert((kind, update, side), (Load::new(&scene.runtime, &alice, 1), same(call)));
    };
    for (kind, plural, object) in
        [(Kind::ConfigMap, "configmaps", small(namespace)), (Kind::Pod, "pods", pod(namespace))]
    {
        let path = format!("/api/v1/namespaces/{namespace}/{plural}");
        scene.make(&object)?;
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let kubectl = scene.cluster.kubectl("alice");
        let mut stored = kubectl.json(&["-n", namespace, "get", plural, name]);
        stored["metadata"]["annotations"]["bench.example.com/version"] = json!("8");
        let mut new = object.clone();
        new["metadata"]["name"] = json!("another");
        add(kind, false, Call::post(&format!("{path}?dryRun=All"), new.to_string()));
        let put = Call { method: "PUT", ..Call::post(&format!("{path}/{name}?dryRun=All"), stored.to_string()) };
        add(kind, true, put);
        if kind == Kind::ConfigMap && side != Side::NoneAgain {
            add(Kind::Read, false, Call { method: "GET", ..Call::post(&format!("{path}/{name}"), "") });
        }
    }
    Ok(())
}

/// A ConfigMap of 2 KB.
fn small(namespace: &str) -> Value {
    let mut object = config_map(namespace, "7", 30);
    object["metadata"] = json!({"name": "settings", "namespace": namespace, "labels": {"app": "api"}});
    object
}

/// A Pod of 6 KB.
fn pod(namespace: &str) -> Value {
    let env: Vec<Value> = (0..70)
        .map(|n| json!({"name": format!("UPSTREAM_{n:03}"), "value": format!("http://10.0.0.{n}:8080/")}))
        .collect();
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "api", "namespace": namespace, "labels": {"app": "api"}},
        "spec": {"containers": [{"name": "api", "image": "registry.example.com/api:1.0.1", "env": env,
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}}]}})
}

fn measure(work: &mut BTreeMap<Cell, (Load, Calls)>, cell: Cell, [api, webhook]: [Watched; 2]) -> Result<Figure> {
    let Some((load, calls)) = work.get_mut(&cell) else { return Ok(Figure::default()) };
    load.closed(10, calls);
    let ((run, own), api) = cpu_of(&[api], || cpu_of(&[webhook], || Ok(load.closed(COUNT, calls))))?;
    let run = run.all(&format!("{cell:?}"), |answer| matches!(answer.status, 200 | 201))?;
    Ok(Figure { api: api.as_secs_f64() * 1e6 / COUNT as f64, ..run.figure(api + own) })
}

fn tell(bench: &mut Bench, figures: &BTreeMap<Cell, Figures>) {
    let column = |kind, update, side, of: fn(&Figure) -> f64| {
        figures.get(&(kind, update, side)).map(|figures| figures.column(of)).unwrap_or_default()
    };
    let mut same = (Vec::new(), Vec::new());
    for (kind, update, name) in [
        (Kind::ConfigMap, false, "create ConfigMap 2 KB"),
        (Kind::ConfigMap, true, "update ConfigMap 2 KB"),
        (Kind::Pod, false, "create Pod 6 KB"),
        (Kind::Pod, true, "update Pod 6 KB"),
    ] {
        let of = |side, column_of: fn(&Figure) -> f64| column(kind, update, side, column_of);
        let added = |side| {
            let median = |of_side, column: fn(&Figure) -> f64| crate::stats::median(&of(of_side, column));
            let by = |column| median(side, column) - median(Side::None, column);
            let (p50, p99, cpu) = (by(|figure| figure.p50), by(|figure| figure.p99), by(|figure| figure.cpu));
            let own = cpu - by(|figure| figure.api);
            format!("p50 +{p50:.2} ms, p99 +{p99:.2} ms, CPU +{:.2} ms ({:.2} in the webhook)", cpu / 1e3, own / 1e3)
        };
        let none = crate::stats::median(&of(Side::None, |figure| figure.p50));
        bench.report.told(
            format!("{name}: no-op mutating + validating"),
            format!("{} (none: p50 {none:.2} ms)", added(Side::NoOp)),
        );
        for (side, what) in [(Side::Dev, "ours in dev"), (Side::Prod, "ours in prod, under a token")] {
            let cpu: fn(&Figure) -> f64 = |figure| figure.cpu;
            let p50: fn(&Figure) -> f64 = |figure| figure.p50;
            let ratio = |column| Ratio::of_added(&of(side, column), &of(Side::NoOp, column), &of(Side::None, column));
            let (cpu, p50) = (ratio(cpu), ratio(p50));
            let value = format!("CPU {cpu}, p50 {p50}; {}", added(side));
            bench.report.goal(format!("{name}: {what}: added / no-op's"), value, "≤ 1.2", cpu.median <= 1.2);
        }
        same.0.extend(of(Side::NoneAgain, |figure| figure.cpu));
        same.1.extend(of(Side::None, |figure| figure.cpu));
    }
    bench.report.same_twice("no webhook, all writes, CPU", Ratio::of(&same.0, &same.1));
    let read = |side| column(Kind::Read, false, side, |figure| figure.cpu);
    bench.report.same_twice("a read, CPU, one API server / the other", Ratio::of(&read(Side::Dev), &read(Side::None)));
}
