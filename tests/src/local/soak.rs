//! `soak`: long runs that look for what no test thought of, each from a new seed, in a cluster of their own.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Subcommand;
use tests::bypass::{self, Until};
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
}

pub(crate) fn soak(what: &Soak) -> Result<()> {
    let Soak::Bypass { seconds, requests, seed } = what;
    let seed = seed.unwrap_or_else(|| chrono::Utc::now().timestamp().unsigned_abs());
    let until = requests.map_or(Until::Elapsed(Duration::from_secs(*seconds)), Until::Requests);
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
