//! `soak`: long runs that look for what no test thought of, each from a new seed, in a cluster of their own.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Subcommand;
use tests::bypass::{self, Until};
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
}

pub(crate) fn soak(what: &Soak) -> Result<()> {
    match what {
        Soak::Bypass { seconds, requests, seed } => bypass(*seconds, *requests, *seed),
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
