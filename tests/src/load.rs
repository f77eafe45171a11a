//! Writes at a fixed rate, as one person: for tests that roll, kill and renew while people work. A write that landed without a
//! stamp has failed, too: nobody stood in its way, and that is not how it was to get through.
//!
//! Open loop: a write is due when its time has come, whether or not earlier ones were answered. So a pause of the cluster
//! shows as late writes, not as fewer.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use breakglass::stamp;
use serde_json::{Value, json};
use tokio::runtime::Builder;
use tokio::sync::{Mutex, mpsc};

use crate::http::{self, MERGE};
use crate::kubectl::Kubectl;

/// How many writes are under way at once, each to an object of its own: enough for 200 a second that take 40 ms each, and few
/// enough that a machine that is slower than that is late, and not out of time. What is due beyond waits for its turn.
pub const AT_ONCE: u64 = 8;

/// Who is answered slower than this waits, so that a machine that has other things to do as well is asked less; and for how long at
/// most. Where nothing else goes on, answers take a few hundredths of a second.
const SLOW: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// How long a write may take until it counts as failed: longer than the API server waits for a webhook.
const LIMIT: Duration = Duration::from_secs(35);

/// How many failures are kept word for word.
const FAILURES_KEPT: usize = 20;

/// When there has been enough of it.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// After so long.
    Elapsed(Duration),
    /// After so many writes.
    Writes(u64),
    /// When [`Load::stop`] is called.
    Stopped,
}

/// Writes that go on in the background.
pub struct Load {
    stop: Arc<AtomicBool>,
    landed: Arc<AtomicU64>,
    began: Instant,
    thread: Option<JoinHandle<Result<Tally>>>,
    _turn: Turn,
}

/// One load at a time in this process: two that starve each other say nothing about what they are held against.
struct Turn;

static TAKEN: std::sync::Mutex<bool> = std::sync::Mutex::new(false);
static GIVEN_BACK: std::sync::Condvar = std::sync::Condvar::new();

impl Turn {
    fn take() -> Self {
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        *GIVEN_BACK.wait_while(taken, |taken| *taken).unwrap_or_else(PoisonError::into_inner) = true;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) = false;
        GIVEN_BACK.notify_one();
    }
}

/// What became of the writes.
#[derive(Debug, Default)]
pub struct Tally {
    /// How many were answered with success, and, where the answer is the object, with a stamp on it.
    pub landed: u64,
    /// How many were refused, not answered, or let in without a stamp.
    pub failed: u64,
    /// The first failures.
    pub failures: Vec<Failure>,
    /// When the last one was, since the first write.
    pub failed_last: Duration,
    /// How many were due while all [`AT_ONCE`] were under way and the queue was full: never sent.
    pub dropped: u64,
    /// From the first write to the last answer.
    pub took: Duration,
    /// How long each answered write took, from the time that it was due, in the order of length.
    pub times: Vec<Duration>,
}

/// One write that did not land.
#[derive(Clone, Debug)]
pub struct Failure {
    /// When, since the first write.
    pub at: Duration,
    /// Method and path.
    pub write: String,
    /// What was said.
    pub why: String,
}

impl Load {
    /// Begins to write ConfigMaps in `namespace` as `person`, so many a second: create, update, patch, patch, delete.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(person: &Kubectl, namespace: &str, rate: u32, until: Until) -> Result<Self> {
        Self::in_each(person, &[(namespace, rate)], until)
    }

    /// The same in several namespaces at once, so many a second in each.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn in_each(person: &Kubectl, rates: &[(&str, u32)], until: Until) -> Result<Self> {
        let turn = Turn::take();
        let (stop, landed, began) = (Arc::new(AtomicBool::new(false)), Arc::default(), Instant::now());
        let kubeconfig = person.kubeconfig().to_owned();
        let rates: Vec<_> = rates.iter().map(|&(namespace, rate)| (namespace.to_owned(), rate)).collect();
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&landed));
        let thread = std::thread::Builder::new().name("load".to_owned()).spawn(move || {
            let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
            runtime.block_on(async {
                let client = http::client(&kubeconfig, "breakglass-tests/load").await?;
                let parts = rates.iter().map(|(namespace, rate)| {
                    let like = Writer::new(client.clone(), namespace, (began, Arc::clone(&counted)));
                    write(like, (*rate, until), &stopped)
                });
                let mut tally = Tally::default();
                futures::future::try_join_all(parts).await?.into_iter().for_each(|part| tally.add(part));
                Ok(tally.sorted())
            })
        })?;
        Ok(Self { stop, landed, began, thread: Some(thread), _turn: turn })
    }

    /// How many writes have landed so far.
    #[must_use]
    pub fn landed(&self) -> u64 {
        self.landed.load(Ordering::Relaxed)
    }

    /// For how long it has gone on: the clock that a [`Failure`] is told by.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Ends it, and waits for the answers that are still to come.
    ///
    /// # Errors
    /// When nobody could log in.
    pub fn stop(self) -> Result<Tally> {
        self.stop.store(true, Ordering::Release);
        self.wait()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When nobody could log in.
    pub fn wait(mut self) -> Result<Tally> {
        let thread = self.thread.take().context("it ended already")?;
        thread.join().map_err(|_| anyhow!("the writers panicked"))?.context("writing under load")
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // A test that failed meanwhile leaves no writers behind.
        self.stop.store(true, Ordering::Release);
    }
}

impl Tally {
    /// How long the given share of the answers took at most, such as 0.99; zero where there was none.
    #[must_use]
    pub fn within(&self, share: f64) -> Duration {
        let index = (self.times.len() as f64 * share) as usize;
        self.times.get(index.min(self.times.len().saturating_sub(1))).copied().unwrap_or_default()
    }

    fn add(&mut self, other: Self) {
        self.landed += other.landed;
        self.failed += other.failed;
        self.failed_last = self.failed_last.max(other.failed_last);
        self.failures.extend(other.failures);
        self.dropped += other.dropped;
        self.took = self.took.max(other.took);
        self.times.extend(other.times);
    }

    fn sorted(mut self) -> Self {
        self.times.sort_unstable();
        self.failures.sort_by_key(|failure| failure.at);
        self.failures.truncate(FAILURES_KEPT);
        self
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { landed, failed, dropped, took, .. } = self;
        writeln!(
            f,
            "{landed} writes landed, {failed} failed, {dropped} were never sent, in {:.1} s; half within {:?}, 99 % within {:?}, all within {:?}",
            took.as_secs_f32(),
            self.within(0.5),
            self.within(0.99),
            self.within(1.0)
        )?;
        self.failures.iter().try_for_each(|failure| {
            writeln!(f, "  {:.3} s {}: {}", failure.at.as_secs_f32(), failure.write, failure.why)
        })
    }
}

async fn write(like: Writer, (rate, until): (u32, Until), stop: &AtomicBool) -> Result<Tally> {
    let began = like.began;
    // What is due beyond two seconds' worth is not kept: whoever is that slow is not measured any better.
    let (due, tickets) = mpsc::channel::<Instant>(rate as usize * 2 + AT_ONCE as usize);
    let tickets = Arc::new(Mutex::new(tickets));
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..AT_ONCE {
        writers.spawn(like.another().run(Arc::clone(&tickets)));
    }
    let dropped = pace(due, (rate, until), stop, began).await;
    if !matches!(until, Until::Writes(_)) {
        // What waits for its turn is not sent any more.
        tickets.lock().await.close();
        while tickets.lock().await.try_recv().is_ok() {}
    }
    let mut tally = Tally { dropped, ..Tally::default() };
    writers.join_all().await.into_iter().for_each(|part| tally.add(part));
    tally.took = began.elapsed();
    Ok(tally)
}

/// Says when a write is due, until there has been enough; how many nobody took.
async fn pace(due: mpsc::Sender<Instant>, (rate, until): (u32, Until), stop: &AtomicBool, began: Instant) -> u64 {
    let mut dropped = 0;
    let mut pace = tokio::time::interval(Duration::from_secs(1) / rate.max(1));
    for count in 0.. {
        let enough = match until {
            Until::Elapsed(time) => began.elapsed() >= time,
            Until::Writes(writes) => count >= writes,
            Until::Stopped => false,
        };
        if enough || stop.load(Ordering::Acquire) {
            break;
        }
        let at = pace.tick().await;
        dropped += u64::from(due.try_send(at.into_std()).is_err());
    }
    dropped
}

/// One object after the other: made, changed, deleted.
struct Writer {
    client: kube::Client,
    maps: String,
    name: String,
    step: usize,
    began: Instant,
    landed: Arc<AtomicU64>,
    tally: Tally,
}

impl Writer {
    fn new(client: kube::Client, namespace: &str, (began, landed): (Instant, Arc<AtomicU64>)) -> Self {
        let maps = format!("/api/v1/namespaces/{namespace}/configmaps");
        Self { client, maps, name: name(), step: 0, began, landed, tally: Tally::default() }
    }

    /// Writes to an object of its own.
    fn another(&self) -> Self {
        let (client, maps, landed) = (self.client.clone(), self.maps.clone(), Arc::clone(&self.landed));
        Self { client, maps, name: name(), step: 0, began: self.began, landed, tally: Tally::default() }
    }

    async fn run(mut self, tickets: Arc<Mutex<mpsc::Receiver<Instant>>>) -> Tally {
        loop {
            let Some(due) = tickets.lock().await.recv().await else { return self.tally };
            let sent = Instant::now();
            self.write(due).await;
            let took = sent.elapsed();
            if took > SLOW {
                tokio::time::sleep((took * AT_ONCE as u32).min(LONGEST_WAIT)).await;
            }
        }
    }

    async fn write(&mut self, due: Instant) {
        let (method, media_type, body) = self.next();
        let path = if method == "POST" { self.maps.clone() } else { format!("{}/{}", self.maps, self.name) };
        let body = body.to_string();
        let sent = http::send(&self.client, method, (&path, media_type), &body);
        let why = match tokio::time::timeout(LIMIT, sent).await {
            // What is deleted carries the stamp of an earlier write, or is not told at all.
            Ok(Ok(object)) if method != "DELETE" && object["metadata"]["annotations"][stamp::USER].is_null() => {
                "it landed without a stamp".to_owned()
            }
            Ok(Ok(_)) => {
                self.tally.landed += 1;
                self.landed.fetch_add(1, Ordering::Relaxed);
                self.tally.times.push(due.elapsed());
                self.step += 1;
                if method == "DELETE" {
                    self.begin();
                }
                return;
            }
            Ok(Err(kube::Error::Api(status))) => format!("{}: {}", status.code, status.message),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", LIMIT.as_secs()),
        };
        self.tally.failed += 1;
        self.tally.failed_last = self.began.elapsed();
        if self.tally.failures.len() < FAILURES_KEPT {
            let write = format!("{method} {path}");
            self.tally.failures.push(Failure { at: self.began.elapsed(), write, why });
        }
        // Another object: one failure does not make the next.
        self.begin();
    }

    fn begin(&mut self) {
        (self.name, self.step) = (name(), 0);
    }

    /// None of them carries our keys on, so that each answer tells whether this very write was stamped.
    fn next(&self) -> (&'static str, &'static str, Value) {
        let step = self.step;
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": self.name},
            "data": {"key": step.to_string()}});
        match step {
            0 => ("POST", "application/json", map),
            1 => ("PUT", "application/json", map),
            2 | 3 => {
                let without = json!({"annotations": {stamp::USER: null}});
                ("PATCH", MERGE, json!({"metadata": without, "data": {"key": step.to_string()}}))
            }
            _ => ("DELETE", "application/json", json!({})),
        }
    }
}

/// A name that no other write of this process has.
fn name() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("load-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}
