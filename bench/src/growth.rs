//! W-4: what a token costs those who have none, and those who have one: from none to a hundred thousand.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::bench::Bench;
use crate::etcd;
use crate::load::{Calls, Load, Target};
use crate::process::cpu_of;
use crate::reviews::{self, Scene};
use crate::scene;
use crate::stats::{Figure, median};

/// How many tokens there are.
const TOKENS: [usize; 6] = [0, 10, 100, 1_000, 10_000, 100_000];

/// How many reviews make a figure, and how many figures a value.
const COUNT: usize = 200;
const FIGURES: usize = 7;

/// Measures it, in a cluster of its own: the others' would be full afterwards.
///
/// # Errors
/// When the cluster does not start.
pub fn growth(bench: &mut Bench) -> Result<()> {
    let mut scene = scene::Scene::ours(&bench.programs, &bench.runtime)?;
    scene.open_token()?;
    let mut found: BTreeMap<(&str, usize), Figure> = BTreeMap::new();
    let mut memory = BTreeMap::new();
    let mut there = 0;
    for count in TOKENS {
        scene.etcd.put(etcd::tokens(there, count - there))?;
        there = count;
        let ready = scene.webhook.start()?;
        let process = scene.webhook.watched();
        std::thread::sleep(std::time::Duration::from_secs(2));
        memory.insert(count, process.memory()?);
        for (name, who) in [("refused", Scene::Stranger), ("let in", Scene::Holder), ("an engine's", Scene::Engine)] {
            found.insert((name, count), measure(bench, &scene, who)?);
        }
        bench.report.told(format!("{count} tokens: start to ready"), format!("{:.0} ms", ready.as_secs_f64() * 1e3));
    }
    for name in ["refused", "let in", "an engine's"] {
        for count in TOKENS {
            let Some(figure) = found.get(&(name, count)) else { continue };
            let value = format!("p50 {:.2} ms, p99 {:.2} ms, webhook {:.0} µs CPU", figure.p50, figure.p99, figure.cpu);
            bench.report.told(format!("/gate, {name}, {count} tokens"), value);
        }
        let (Some(few), Some(many)) = (found.get(&(name, 10)), found.get(&(name, 100_000))) else { continue };
        let ratio = many.p50 / few.p50;
        bench.report.goal(
            format!("/gate, {name}: p50 with 100,000 / with 10"),
            format!("{ratio:.2}"),
            "≤ 1.05",
            ratio <= 1.05,
        );
        let ratio = many.cpu / few.cpu;
        bench.report.told(format!("/gate, {name}: webhook's CPU with 100,000 / with 10"), format!("{ratio:.2}"));
    }
    let (few, many) = (memory.get(&0).copied().unwrap_or_default(), memory.get(&100_000).copied().unwrap_or_default());
    bench.report.told("resident bytes for each token, of 100,000", format!("{}", many.saturating_sub(few) / 100_000));
    Ok(())
}

fn measure(bench: &Bench, scene: &scene::Scene, who: Scene) -> Result<Figure> {
    let calls: Calls = reviews::calls("/gate?timeout=10s", reviews::update(who, 2_000));
    let mut load = Load::new(&bench.runtime, &Target::webhook(scene.webhook.port)?, 1);
    let good = |answer: &crate::load::Answer| answer.status == 200 && answer.allowed == (who != Scene::Stranger);
    // A refusal waits for the API server, which reads all tokens for it.
    let count = if who == Scene::Stranger { COUNT / 8 } else { COUNT };
    load.closed(count / 4, &calls);
    let mut figures = Vec::new();
    for _ in 0..FIGURES {
        let (run, cpu) = cpu_of(&[scene.webhook.watched()], || Ok(load.closed(count, &calls)))?;
        figures.push(run.all(&format!("{who:?}"), good)?.figure(cpu));
    }
    let middle = |of: fn(&Figure) -> f64| median(&figures.iter().map(of).collect::<Vec<_>>());
    Ok(Figure {
        cpu: middle(|f| f.cpu),
        p50: middle(|f| f.p50),
        p99: middle(|f| f.p99),
        rate: middle(|f| f.rate),
        ..Figure::default()
    })
}
