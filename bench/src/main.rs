//! `bench [W-1 …]`: what breakglass costs. Every figure is a ratio taken side by side in one run, in shuffled rounds, since
//! times on a shared machine are not stable; RESULTS.md says what they mean.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;

use bench::Bench;

// What a run works with.
mod bench;
mod report;
mod scene;
// The servers, and what they use.
mod process;
mod serve;
// The load.
mod load;
mod reviews;
// Many objects at once.
mod crowd;
mod etcd;
// Figures → what can be said of them.
mod stats;
// The benchmarks, by number.
mod accept;
mod felt;
mod floor;
mod following;
mod footprint;
mod grant;
mod growth;
mod idempotence;
mod listing;
mod mix;
mod overload;
mod restart;

type Measure = fn(&mut Bench) -> Result<()>;

/// The benchmarks, in the order in which they may follow each other: those that fill the cluster come last.
const ALL: [(&str, Measure); 13] = [
    ("W-1", floor::floor),
    ("W-2", felt::felt),
    ("W-7", mix::mix),
    ("W-9", idempotence::idempotence),
    ("W-12", overload::overload),
    ("W-10", grant::among_few),
    ("W-11", footprint::footprint),
    ("W-10", grant::among_many),
    ("W-4", growth::growth),
    ("W-14", restart::restart),
    ("W-15", following::following),
    ("C-1", listing::listing),
    ("C-8", accept::accept),
];

/// Measure what breakglass costs
#[derive(Parser)]
#[command(max_term_width = 80)]
struct Args {
    /// Only these benchmarks, such as W-1
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(ALL.map(|(id, _)| id)))]
    only: Vec<String>,
    /// Three times the rounds
    #[arg(long, env = "FULL", value_parser = clap::builder::BoolishValueParser::new())]
    full: bool,
    /// C-1 with a twentieth of the objects: whether it works, not how fast it is
    #[arg(long, env = "SHORT", value_parser = clap::builder::BoolishValueParser::new())]
    short: bool,
    /// The folder with the programs under measure
    #[arg(long, default_value = "target/release", value_name = "FOLDER")]
    programs: PathBuf,
    /// Measure nothing: keep the webhook busy with stamps of so many bytes for a minute, for a profiler
    #[arg(long, value_name = "BYTES")]
    busy: Option<usize>,
    /// Write the table into this page, between its two marks
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let mut bench = Bench::new(&args.programs, (args.full, args.short))?;
    if let Some(size) = args.busy {
        return busy(&mut bench, size);
    }
    let mut failed = Vec::new();
    for (id, measure) in ALL {
        if !args.only.is_empty() && !args.only.iter().any(|only| only == id) {
            continue;
        }
        bench.report.begin(id);
        // One that fails does not take the others' figures with it.
        if let Err(error) = measure(&mut bench) {
            eprintln!("error: {id}: {error:#}");
            failed.push(id);
        }
        bench.report.end();
    }
    let table = bench.report.table();
    println!("{table}");
    println!("{}; {} goals not met", bench.report.trust(), bench.report.missed());
    if let Some(page) = &args.page {
        let text = std::fs::read_to_string(page)?;
        let (before, rest) = text.split_once(BEGIN).context("the page has no mark for the table's begin")?;
        let (_, after) = rest.split_once(END).context("the page has no mark for the table's end")?;
        std::fs::write(page, format!("{before}{BEGIN}\n{table}{END}{after}"))?;
    }
    anyhow::ensure!(failed.is_empty(), "not measured: {}", failed.join(", "));
    Ok(())
}

fn busy(bench: &mut Bench, size: usize) -> Result<()> {
    let runtime = bench.runtime.clone();
    let webhook = &bench.ours()?.webhook;
    eprintln!("perf record -g -p {}", webhook.watched().0);
    let review = reviews::update(reviews::Scene::Dev, size);
    let mut load = load::Load::new(&runtime, &load::Target::webhook(webhook.port)?, 8);
    let calls = load::same(load::Call::post("/stamp?timeout=5s", review));
    let begun = std::time::Instant::now();
    while begun.elapsed().as_secs() < 60 {
        load.closed(200, &calls);
    }
    Ok(())
}

const BEGIN: &str = "<!-- measured: begin -->";
const END: &str = "<!-- measured: end -->";
