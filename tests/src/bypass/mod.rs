//! The bypass fuzzer: writes to guarded namespaces without a token, made up from a seed and sent to a real API server. None
//! of them may land.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::sync::Semaphore;

use crate::Cluster;

// Numbers that a seed decides.
mod random;
// Where, what, and by whom.
mod kind;
mod place;
mod who;
// One request, and how it is made up.
mod draft;
mod make;
mod metadata;
mod protobuf;
mod reach;
mod request;
// What is there before, and what goes on meanwhile.
mod churn;
mod scene;
// Out and back.
mod judge;
mod send;
mod tally;

pub use kind::Verb;
pub use tally::Tally;

use judge::{Snapshot, Verdict};
use make::Maker;
use request::Request;
use send::{Answer, Sender};

/// Requests at once. Refused writes of one user wait for each other's lookups, so that more of them cost little.
const LANES: usize = 24;

/// How many requests lie between two looks at what has changed.
const LOOK_EVERY: u64 = 1_000;

/// How many requests lie between two steps of what goes on meanwhile.
const STEP_EVERY: u64 = 12;

/// When it is enough.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// After so many requests: the same ones each time.
    Requests(u64),
    /// After so long.
    Elapsed(Duration),
}

/// Sends requests of `seed` to a cluster of our own, in which nobody else writes, and says what became of them.
///
/// # Errors
/// When the scene cannot be set, or the cluster does not answer.
pub fn run(cluster: &Cluster, seed: u64, until: Until) -> Result<Tally> {
    let logins = scene::set(cluster)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let sender = Arc::new(runtime.block_on(Sender::new(&logins))?);
    let before = scene::settled(|| runtime.block_on(judge::snapshot(&sender)))?;
    let fuzzer = Arc::new(Fuzzer {
        sender,
        maker: Maker::new(seed),
        until,
        started: Instant::now(),
        next: AtomicU64::new(0),
        over: AtomicBool::new(false),
        pace: Semaphore::new(0),
        before,
        found: Mutex::new(Found { tally: Tally::new(seed), explained: BTreeSet::new() }),
    });
    runtime.block_on(Arc::clone(&fuzzer).all(seed))?;
    let now = runtime.block_on(judge::snapshot(&fuzzer.sender))?;
    let mut found = fuzzer.found.lock().unwrap_or_else(PoisonError::into_inner);
    let Found { tally, explained } = &mut *found;
    let (were, are) = (fuzzer.before.len(), now.len());
    tally.note(format!("{were} objects in guarded namespaces were there before, {are} are now"));
    judge::differences(&fuzzer.before, &now).into_iter().for_each(|what| tally.landed(what));
    audit(cluster, seed, tally, explained)?;
    Ok(tally.clone())
}

/// The second opinion: the API server's own.
fn audit(cluster: &Cluster, seed: u64, tally: &mut Tally, explained: &BTreeSet<String>) -> Result<()> {
    let (seen, successes) = judge::audited(&cluster.directory().join("logs"), seed).context("reading the audit log")?;
    tally.note(format!("the audit log has {seen} of them, {} answered with success", successes.len()));
    for id in successes.iter().filter(|id| !explained.contains(*id)) {
        tally.landed(format!("the audit log says that {id} succeeded"));
    }
    Ok(())
}

struct Fuzzer {
    sender: Arc<Sender>,
    maker: Maker,
    until: Until,
    started: Instant,
    next: AtomicU64,
    over: AtomicBool,
    /// A permit is a step of what goes on meanwhile.
    pace: Semaphore,
    before: Snapshot,
    found: Mutex<Found>,
}

/// What came of it so far.
struct Found {
    tally: Tally,
    /// The requests that were answered with success, and rightly so, as the audit log knows them.
    explained: BTreeSet<String>,
}

impl Fuzzer {
    async fn all(self: Arc<Self>, seed: u64) -> Result<()> {
        churn::open_elsewhere(&self.sender, seed).await?;
        let meanwhile = Arc::clone(&self);
        let meanwhile = tokio::spawn(async move { churn::run(&meanwhile.sender, &meanwhile.pace, seed).await });
        let mut lanes = tokio::task::JoinSet::new();
        for _ in 0..LANES {
            lanes.spawn(Arc::clone(&self).lane());
        }
        lanes.join_all().await.into_iter().collect::<Result<()>>()?;
        self.pace.close();
        let seen = meanwhile.await??;
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.tally.note(format!(
            "meanwhile {} guarded namespaces came, were written to at once, and went, and {} tokens let a write in and ended",
            seen.namespaces, seen.tokens
        ));
        seen.landed.into_iter().for_each(|what| found.tally.landed(what));
        Ok(())
    }

    async fn lane(self: Arc<Self>) -> Result<()> {
        while let Some(index) = self.turn() {
            let request = self.maker.request(index);
            match self.sender.send(&request).await {
                Ok(answer) => self.note(&request, &answer),
                Err(error) => self.lost(&request, &error),
            }
            if index.is_multiple_of(STEP_EVERY) {
                self.pace.add_permits(1);
            }
            if index % LOOK_EVERY == LOOK_EVERY - 1 && !self.unchanged().await? {
                // Nothing more is to be learnt from a cluster that was changed: what did it is among the last requests.
                self.over.store(true, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn note(&self, request: &Request, answer: &Answer) {
        let verdict = judge::verdict(request, answer);
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.tally.count(request, verdict);
        if verdict == Verdict::Landed {
            found.tally.landed(format!("{request}was answered with {}: {}", answer.code, answer.shown()));
        } else if answer.is_success() {
            found.explained.insert(request.audit_id());
        }
    }

    /// Whether it landed is for the audit log to say.
    fn lost(&self, request: &Request, error: &anyhow::Error) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.tally.count(request, Verdict::Unanswered);
        found.tally.note(format!("no answer ({error:#}) to\n{request}"));
    }

    /// The number of the next request.
    fn turn(&self) -> Option<u64> {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        let more = match self.until {
            Until::Requests(requests) => index < requests,
            Until::Elapsed(time) => self.started.elapsed() < time,
        };
        (more && !self.over.load(Ordering::Relaxed)).then_some(index)
    }

    async fn unchanged(&self) -> Result<bool> {
        Ok(judge::differences(&self.before, &judge::snapshot(&self.sender).await?).is_empty())
    }
}
