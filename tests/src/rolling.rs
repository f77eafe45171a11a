//! Rolling restarts and certificates that are made anew, one after the other, while people write: nobody's write may fail by it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::cluster::{Cluster, OVERRIDE};
use crate::load::{Load, Tally, Until};
use crate::replicas::{HOME, TLS_SECRET, Watcher};

/// From one restart to the next. An old CA goes when one replica has seen the new one in its place for 30 s: none that lives
/// shorter ever takes that step.
const RESTART_EVERY: Duration = Duration::from_secs(45);

/// How often it is looked at what is there.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How much longer than asked for it may go on, for a machine that is slow.
const AT_MOST: u32 = 4;

/// One write in so many goes to prod. There it is looked up, recorded and followed, a dozen requests of ours to the API server:
/// 200 of these a second are more than a machine with two cores does, while a whole cluster in GitOps sees a handful.
pub const PROD_EVERY: u32 = 20;

/// For how long, and how much.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// At least so long.
    pub time: Duration,
    /// Writes that are due in a second: one in [`PROD_EVERY`] to prod under a token, the others to dev.
    pub rate: u32,
    /// Writes that have to land; it goes on until they have.
    pub at_least: u64,
}

/// What happened.
#[derive(Debug)]
pub struct Report {
    /// What became of the writes.
    pub tally: Tally,
    /// How many rollouts came to their end.
    pub restarts: u32,
    /// How many pods the replicas were.
    pub pods: usize,
    /// How many leaves took another's place.
    pub leaves: usize,
    /// How many CAs took another's place.
    pub authorities: usize,
    plan: Plan,
}

impl Report {
    /// What was not as it has to be; empty where all was well.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let Self { tally, restarts, leaves, authorities, plan, .. } = self;
        [
            (tally.failed > 0, format!("{} writes failed", tally.failed)),
            (tally.landed < plan.at_least, format!("only {} of {} writes landed", tally.landed, plan.at_least)),
            (*restarts < 2, format!("only {restarts} rollouts came to their end")),
            (*leaves < 2, format!("{leaves} leaves took another's place")),
            (*authorities < 1, "no CA took another's place".to_owned()),
        ]
        .into_iter()
        .filter_map(|(bad, text)| bad.then_some(text))
        .collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tally, restarts, pods, leaves, authorities, .. } = self;
        writeln!(f, "{restarts} rolling restarts ({pods} pods), {leaves} new leaves, {authorities} new CAs")?;
        write!(f, "{tally}")
    }
}

/// Restarts the replicas and makes their certificates anew while alice writes to dev, and to prod under a token.
///
/// # Errors
/// When the API server cannot be asked; not when writes fail.
pub fn run(cluster: &Cluster, plan: Plan) -> Result<Report> {
    cluster.open("alice", "INC-900", "prod");
    let prod = plan.rate / PROD_EVERY;
    let rates = [("prod", prod), ("dev", plan.rate - prod)];
    let load = Load::in_each(&cluster.kubectl("alice"), &rates, Until::Stopped)?;
    let mut rolling = Rolling::new(cluster);
    let began = Instant::now();
    loop {
        rolling.look()?;
        let took = began.elapsed();
        let enough = took >= plan.time && load.landed() >= plan.at_least && rolling.is_enough();
        if enough || took >= plan.time * AT_MOST {
            break;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    let tally = load.stop()?;
    rolling.look()?;
    Ok(Report {
        tally,
        restarts: rolling.restarts,
        pods: rolling.pods.len(),
        leaves: rolling.seen.get("tls.crt").map_or(0, |seen| seen.len().saturating_sub(1)),
        authorities: rolling.seen.get("ca.crt").map_or(0, |seen| seen.len().saturating_sub(1)),
        plan,
    })
}

/// What goes on meanwhile.
struct Rolling<'c> {
    cluster: &'c Cluster,
    watcher: Watcher<'c>,
    /// Every text that the Secret held under each key.
    seen: BTreeMap<&'static str, BTreeSet<String>>,
    pods: BTreeSet<String>,
    asked: u32,
    /// The one that goes on now.
    restart: Option<Instant>,
    restarted: Option<Instant>,
    restarts: u32,
}

impl<'c> Rolling<'c> {
    fn new(cluster: &'c Cluster) -> Self {
        let (watcher, seen, pods) = (cluster.watcher(), BTreeMap::new(), BTreeSet::new());
        Self { cluster, watcher, seen, pods, asked: 0, restart: None, restarted: None, restarts: 0 }
    }

    fn is_enough(&self) -> bool {
        let more_than = |key: &str, number: usize| self.seen.get(key).is_some_and(|seen| seen.len() > number);
        self.restarts >= 2 && self.restart.is_none() && more_than("tls.crt", 2) && more_than("ca.crt", 1)
    }

    /// Notes what is there, and starts what is due.
    fn look(&mut self) -> Result<()> {
        self.pods.extend(self.cluster.nodes().running().into_iter().map(|running| running.pod));
        let secret = self.watcher.secret()?;
        for key in ["tls.crt", "ca.crt"] {
            self.seen.entry(key).or_default().extend(secret.get(key).cloned());
        }
        let turning = secret.contains_key("ca-next.crt") || secret.contains_key("ca-previous.crt");
        if !turning && !self.watcher.wished()? {
            self.asked += 1;
            let wish = format!("breakglass.dev/rotate={}", if self.asked % 2 == 1 { "leaf" } else { "ca" });
            self.admin(&["annotate", "--overwrite", "secret", TLS_SECRET, &wish])?;
        }
        self.roll()
    }

    fn roll(&mut self) -> Result<()> {
        if self.restart.is_some() {
            if self.is_rolled_out()? {
                self.restarts += 1;
                self.restart = None;
            }
        } else if self.restarted.is_none_or(|at| at.elapsed() >= RESTART_EVERY) {
            self.admin(&["rollout", "restart", "deployment/breakglass-webhook"])?;
            (self.restart, self.restarted) = (Some(Instant::now()), Some(Instant::now()));
        }
        Ok(())
    }

    /// As `kubectl rollout status` sees it.
    fn is_rolled_out(&self) -> Result<bool> {
        let deployment =
            self.watcher.get(&format!("/apis/apps/v1/namespaces/{HOME}/deployments/breakglass-webhook"))?;
        let (wanted, status) = (&deployment["spec"]["replicas"], &deployment["status"]);
        let observed = status["observedGeneration"] == deployment["metadata"]["generation"];
        Ok(observed
            && ["replicas", "updatedReplicas", "availableReplicas"].iter().all(|field| status[field] == *wanted))
    }

    fn admin(&self, args: &[&str]) -> Result<String> {
        let args = [&["-n", HOME], args, &OVERRIDE[..]].concat();
        self.cluster.kubectl("admin").try_ok(&args, "").context("setting the scene")
    }
}
