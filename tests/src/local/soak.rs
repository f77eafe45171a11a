//! `soak`: long runs that look for what no test thought of, each from a new seed, in a cluster of their own.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Subcommand;
use tests::bypass::{self, Until};
use tests::raw::Raw;
use tests::review::{dry_run, review};
use tests::rolling::{self, Plan};
use tests::{Setup, process};

#[derive(Debug, Subcommand)]
pub(crate) enum Soak {
    /// Write to production without a token in every way that can be made up, and see whether anything lands
    Bypass {
        /// For how long
        #[arg(long, default_value_t = 900)]
        seconds: u64,
        /// Only so many requests, however long they take
        #[arg(long)]
        requests: Option<u64>,
        /// The seed of an earlier run, to send the same requests again
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Restart the replicas one after the other and make their certificates anew while people write, and see whether a write fails
    Rolling {
        /// For how long at least
        #[arg(long, default_value_t = 300)]
        seconds: u64,
        /// Writes in a second
        #[arg(long, default_value_t = 200)]
        rate: u32,
        /// Writes that have to land; as many as are due in that time where nothing is said
        #[arg(long)]
        writes: Option<u64>,
    },
    /// Leave connections idle for as long as the API server keeps them, and see whether one is closed under a call
    Idle {
        /// How many connections at once
        #[arg(long, default_value_t = 2_000)]
        connections: usize,
        /// How many calls over each
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
}

pub(crate) fn soak(what: &Soak) -> Result<()> {
    match what {
        Soak::Bypass { seconds, requests, seed } => bypass(*seconds, *requests, *seed),
        Soak::Idle { connections, rounds } => idle(*connections, *rounds),
        Soak::Rolling { seconds, rate, writes } => {
            let at_least = writes.unwrap_or(seconds * u64::from(*rate));
            rolling(Plan { time: Duration::from_secs(*seconds), rate: *rate, at_least })
        }
    }
}

fn rolling(plan: Plan) -> Result<()> {
    let cluster = Setup::new("soak").nodes().start()?;
    cluster.install_manifests()?;
    let report = rolling::run(&cluster, plan)?;
    println!("{report}");
    let problems = report.problems();
    if problems.is_empty() {
        return Ok(());
    }
    process::keep(cluster.directory());
    bail!("{}; all logs are in {}", problems.join(", "), cluster.directory().join("logs").display())
}

/// One connection that is idle between its calls.
struct Idle {
    raw: Raw,
    /// When it asks next.
    due: Instant,
    asked: usize,
}

/// calls over connections that were idle for 85 to 95 s: the API server gives up an idle one after 90.
fn idle(connections: usize, rounds: usize) -> Result<()> {
    let cluster = Setup::new("soak").webhook().start()?;
    let port = cluster.webhook().port();
    // Dev: nothing has to be looked up for it. Whatever is answered is an answer.
    let body = dry_run(review("carol@example.com", "DELETE", ("dev", "settings"))).to_string();
    let ask = |raw: &mut Raw| raw.post("/gate", body.as_bytes()).map(drop);
    // Spread over ten seconds, each in its turn.
    let pause = |number: usize| Duration::from_millis(85_000 + (number * 7_919 % 10_000) as u64);
    let mut waiting = VecDeque::new();
    for number in 0..connections {
        let mut raw = Raw::connect(port).map_err(anyhow::Error::msg)?;
        ask(&mut raw).map_err(anyhow::Error::msg)?;
        waiting.push_back(Idle { raw, due: Instant::now() + pause(number), asked: 0 });
    }
    let (mut trials, mut failed, mut late) = (0, Vec::new(), Duration::ZERO);
    while !waiting.is_empty() {
        waiting.make_contiguous().sort_by_key(|idle| idle.due);
        while let Some(mut idle) = waiting.pop_front_if(|idle| idle.due <= Instant::now()) {
            late = late.max(idle.due.elapsed());
            trials += 1;
            match ask(&mut idle.raw) {
                Ok(()) if idle.asked + 1 < rounds => {
                    (idle.asked, idle.due) = (idle.asked + 1, Instant::now() + pause(trials));
                    waiting.push_back(idle);
                }
                Ok(()) => {}
                Err(error) => failed.push(error),
            }
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    println!(
        "{trials} calls over {connections} connections, each after 85 to 95 s of silence, the latest {late:?} later: {} failed",
        failed.len()
    );
    if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("\n")) }
}

fn bypass(seconds: u64, requests: Option<u64>, seed: Option<u64>) -> Result<()> {
    let seed = seed.unwrap_or_else(|| chrono::Utc::now().timestamp().unsigned_abs());
    let until = requests.map_or(Until::Elapsed(Duration::from_secs(seconds)), Until::Requests);
    let cluster = Setup::new("soak").flux().webhook().start()?;
    eprintln!("the seed is {seed}");
    let tally = bypass::run(&cluster, seed, until)?;
    println!("{tally}");
    let problems = tally.problems();
    if problems.is_empty() {
        return Ok(());
    }
    process::keep(cluster.directory());
    bail!(
        "{} problems in {}; to send the same again: soak bypass --seed {seed} --requests {}\n\n{}",
        problems.len(),
        cluster.directory().display(),
        tally.tried(),
        problems.join("\n\n")
    )
}
