//! W-1: how close to the floor? Reviews posted straight at our webhook, and at one that does nothing.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::bench::Bench;
use crate::load::{Calls, Load, Target, same};
use crate::process::{Watched, cpu_of};
use crate::reviews::{self, Scene};
use crate::stats::{Figure, Figures, Ratio, rounds};

/// Bytes of a review, how it is called, how many make a figure, and the most that ours may cost of the floor.
const SIZES: [(usize, &str, usize, f64); 4] = [
    (2_000, "2 KB", 1_200, 1.3),
    (20_000, "20 KB", 800, 1.3),
    (200_000, "200 KB", 160, 1.5),
    (3_000_000, "3 MB", 24, 1.5),
];

/// How many connections at once; 25 is what the API server keeps for a path.
const CONNECTIONS: [usize; 3] = [1, 16, 25];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    /// Reads the review for its uid.
    NoOp,
    /// The same once more.
    NoOpAgain,
    /// Finds the uid and reads nothing else.
    Look,
    /// Stamps alice's write in dev.
    Stamp,
    /// Lets Flux' write in prod through.
    Gate,
    /// Refuses a stranger's write in prod, which takes a lookup at the API server.
    Refuse,
}

/// Size, connections, subject.
type Cell = (usize, usize, Subject);

/// Measures it.
///
/// # Errors
/// When a server does not start, or answers what it should not.
pub fn floor(bench: &mut Bench) -> Result<()> {
    let (noop, ours) = (bench.bare()?.webhook.port, bench.ours()?.webhook.port);
    let processes = (bench.bare()?.webhook.watched(), bench.ours()?.webhook.watched());
    let mut cells: Vec<Cell> = Vec::new();
    for size in 0..SIZES.len() {
        for connections in CONNECTIONS {
            use Subject::{Gate, Look, NoOp, NoOpAgain, Refuse, Stamp};
            cells.extend([NoOp, NoOpAgain, Look, Stamp, Gate].map(|subject| (size, connections, subject)));
            if size < 2 && connections == 16 {
                cells.push((size, connections, Refuse));
            }
        }
    }
    let mut loads = BTreeMap::new();
    for &(size, connections, subject) in &cells {
        loads.entry((size, connections, subject)).or_insert(work(bench, (size, connections, subject), (noop, ours))?);
    }
    let figures = rounds(bench.rounds(7), &cells, |cell| measure(&mut loads, cell, processes))?;
    tell(bench, &figures.into_iter().collect());
    Ok(())
}

fn work(bench: &Bench, (size, connections, subject): Cell, (noop, ours): (u16, u16)) -> Result<(Load, Calls)> {
    let scene = match subject {
        Subject::Gate => Scene::Engine,
        Subject::Refuse => Scene::Stranger,
        _ => Scene::Dev,
    };
    let (port, path) = match subject {
        Subject::NoOp | Subject::NoOpAgain => (noop, "/read"),
        Subject::Look => (noop, "/look"),
        Subject::Stamp => (ours, "/stamp?timeout=5s"),
        Subject::Gate | Subject::Refuse => (ours, "/gate?timeout=10s"),
    };
    let review = reviews::update(scene, SIZES[size].0);
    let calls = match subject {
        Subject::Refuse => reviews::calls(path, review),
        _ => same(crate::load::Call::post(path, review)),
    };
    Ok((Load::new(&bench.runtime, &Target::webhook(port)?, connections), calls))
}

fn measure(loads: &mut BTreeMap<Cell, (Load, Calls)>, cell: Cell, (noop, ours): (Watched, Watched)) -> Result<Figure> {
    let (size, connections, subject) = cell;
    let process = if subject <= Subject::Look { noop } else { ours };
    let Some((load, calls)) = loads.get_mut(&cell) else { return Ok(Figure::default()) };
    let (_, name, count, _) = SIZES[size];
    let count = if subject == Subject::Refuse { count / 4 } else { count };
    // Connections are open and caches warm before the clock runs.
    load.closed(connections.max(count / 20), calls);
    let (run, cpu) = cpu_of(&[process], || Ok(load.closed(count, calls)))?;
    let run = run.all(&format!("{subject:?} of {name}"), |answer| {
        answer.status == 200 && answer.allowed == (subject != Subject::Refuse)
    })?;
    Ok(run.figure(cpu))
}

fn tell(bench: &mut Bench, figures: &BTreeMap<Cell, Figures>) {
    let absolute = |figures: &Figures| {
        let of = |column| figures.median(column);
        format!("{:.0} µs CPU, p50 {:.2} ms, p99 {:.2} ms, {:.0}/s", of(cpu), of(p50), of(p99), of(rate))
    };
    let mut same = (Vec::new(), Vec::new());
    for (size, &(_, name, _, most)) in SIZES.iter().enumerate() {
        for connections in CONNECTIONS {
            let of = |subject| figures.get(&(size, connections, subject)).filter(|figures| !figures.0.is_empty());
            let Some(noop) = of(Subject::NoOp) else { continue };
            bench.report.told(format!("no-op, {name}, c={connections}"), absolute(noop));
            if let Some(again) = of(Subject::NoOpAgain) {
                same.0.extend(again.column(cpu));
                same.1.extend(noop.column(cpu));
            }
            for (subject, what) in [
                (Subject::Look, "no-op that finds the uid without parsing"),
                (Subject::Stamp, "/stamp"),
                (Subject::Gate, "/gate, an engine's write"),
                (Subject::Refuse, "/gate, refused after a live lookup"),
            ] {
                let Some(figures) = of(subject) else { continue };
                let ratio = Ratio::of(&figures.column(cpu), &noop.column(cpu));
                let (what, value) = (
                    format!("{what}, {name}, c={connections}: CPU / no-op"),
                    format!("{ratio}; {}", absolute(figures)),
                );
                match subject {
                    Subject::Stamp | Subject::Gate => {
                        bench.report.goal(what, value, &format!("≤ {most:.1}"), ratio.median <= most);
                    }
                    _ => bench.report.told(what, value),
                }
            }
        }
    }
    bench.report.same_twice("no-op, all sizes, CPU", Ratio::of(&same.0, &same.1));
}

fn cpu(figure: &Figure) -> f64 {
    figure.cpu
}

fn p50(figure: &Figure) -> f64 {
    figure.p50
}

fn p99(figure: &Figure) -> f64 {
    figure.p99
}

fn rate(figure: &Figure) -> f64 {
    figure.rate
}
