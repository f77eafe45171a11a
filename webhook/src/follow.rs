//! Follows a write that was let in until it is seen in the cluster, or will never be: `Admitted` → `Pending`, or `Settled`.
//!
//! The replica that let a write in looks for it at once; what it loses sight of, the leader finds.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use breakglass::api::{BreakglassChange, ChangePhase, Operation, Outcome, Verdict};
use breakglass::fate::{Fate, History, Link, Live, fate, leaves_no_stamp};
use breakglass::record::{ATTEMPT, FOLLOWS, without_noise};
use breakglass::stamp::State;
use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Preconditions};
use tokio::sync::Semaphore;

use crate::cluster::Cluster;
use crate::leader::Leading;
use crate::parent::{self, Parent, Sight};
use crate::said::said;
use crate::status;
use crate::target::{self, Object};
use crate::turn::Turn;

/// When the replica that let a write in looks for it, in milliseconds after its answer: soon, since people look soon, and
/// then ever more seldom, since what is not there after seconds was refused by somebody else.
const LOOKS: [u64; 8] = [5, 15, 40, 100, 200, 400, 800, 1_600];

/// How often what is known of a write is written down where others write to the record: a look of our own, a verdict, a label.
const TRIES: usize = 5;

/// How many writes are looked for at the same time. Beyond, the leader finds them a little later.
const AT_ONCE: usize = 64;

/// How often the leader looks for what is still `Admitted`.
const EVERY: Duration = Duration::from_secs(1);

/// How long the leader leaves a change to the replica that let it in: longer than all its looks.
const OWN_TIME: TimeDelta = TimeDelta::seconds(4);

/// How many changes the leader looks for at the same time.
const WIDTH: usize = 8;

/// How long a round of the leader may take: it does not hang on one request.
const ROUND_TIMEOUT: Duration = Duration::from_secs(60);

/// The field manager of our own writes to objects. Not one that begins with kubectl: Flux adopts the fields of those.
pub const FIELD_MANAGER: &str = "breakglass";

/// Follows writes.
pub struct Follower {
    cluster: Arc<Cluster>,
    clock: fn() -> DateTime<Utc>,
    free: Arc<Semaphore>,
}

impl Follower {
    /// Follows nothing yet.
    pub fn new(cluster: Arc<Cluster>, clock: fn() -> DateTime<Utc>) -> Arc<Self> {
        Arc::new(Self { cluster, clock, free: Arc::new(Semaphore::new(AT_ONCE)) })
    }

    /// Looks for a write that is about to be let in. Nothing waits for it but the next write to the same object, which gets
    /// its `turn` when this one is seen.
    pub fn begin(self: &Arc<Self>, change: BreakglassChange, turn: Option<Turn>) {
        let Ok(permit) = self.free.clone().try_acquire_owned() else { return };
        let follower = self.clone();
        tokio::spawn(async move {
            let _permit = permit;
            if let Err(error) = follower.watch(&change, turn).await {
                tracing::warn!("following {}: {error:#}", change.name_any());
            }
        });
    }

    async fn watch(&self, change: &BreakglassChange, turn: Option<Turn>) -> Result<()> {
        let changes: Api<BreakglassChange> = Api::all(self.cluster.client().clone());
        let mut turn = turn;
        let mut change = change.clone();
        let mut seen = false;
        for (look, pause) in LOOKS.into_iter().enumerate() {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let fate = self.fate_of(&change, turn.as_ref(), &mut seen).await?;
            if fate == Fate::Landed
                && let Some(turn) = turn.take()
            {
                turn.landed();
            }
            if fate != Fate::Open {
                return self.settle(&change, fate).await;
            }
            if look == 2 {
                change = match status::say(&self.cluster, &change, ChangePhase::Admitted).await? {
                    Some(written) => written,
                    None => match changes.get_opt(&change.name_any()).await.map_err(said)? {
                        Some(now) => now,
                        None => return Ok(()),
                    },
                };
            }
        }
        Ok(())
    }

    /// An object was found with the stamp of this change on it: it has landed, whatever happens to the object next.
    pub fn saw(self: &Arc<Self>, name: &str) {
        if !self.cluster.is_admitted(name) {
            return;
        }
        let Ok(permit) = self.free.clone().try_acquire_owned() else { return };
        let (follower, name) = (self.clone(), name.to_owned());
        tokio::spawn(async move {
            let _permit = permit;
            let changes: Api<BreakglassChange> = Api::all(follower.cluster.client().clone());
            let settled = match changes.get_opt(&name).await {
                Ok(Some(change)) => follower.settle(&change, Fate::Landed).await,
                Ok(None) => Ok(()),
                Err(error) => Err(said(error)),
            };
            if let Err(error) = settled {
                tracing::warn!("following {name}: {error:#}");
            }
        });
    }

    /// Follows what every replica has lost sight of, while it leads.
    pub async fn keep(self: Arc<Self>, leading: Leading) {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if leading.now() && tokio::time::timeout(ROUND_TIMEOUT, self.round()).await.is_err() {
                tracing::warn!("following changes took longer than {ROUND_TIMEOUT:?}");
            }
        }
    }

    async fn round(&self) {
        let now = (self.clock)();
        let due = self.cluster.admitted().into_iter().filter(|(_, made)| now - *made > OWN_TIME);
        futures::stream::iter(due)
            .for_each_concurrent(WIDTH, |(name, _)| async move {
                if let Err(error) = self.find(&name).await {
                    tracing::warn!("following {name}: {error:#}");
                }
            })
            .await;
    }

    async fn find(&self, name: &str) -> Result<()> {
        let changes: Api<BreakglassChange> = Api::all(self.cluster.client().clone());
        let Some(change) = changes.get_opt(name).await.map_err(said).context("reading the change")? else {
            return Ok(());
        };
        let fate = self.fate_of(&change, None, &mut false).await?;
        self.settle(&change, fate).await
    }

    /// What became of a write, as far as can be seen now. One that was tried again since, before it was seen, is over. A scale
    /// that was `seen` has landed, also where the next one comes before its stamp.
    async fn fate_of(&self, change: &BreakglassChange, turn: Option<&Turn>, seen: &mut bool) -> Result<Fate> {
        let client = self.cluster.client();
        let spec = &change.spec;
        let found = target::look(client, &spec.target, leaves_no_stamp(spec)).await?;
        let fate = self.judge(change, found.as_ref());
        let lost = || turn.is_some_and(Turn::is_lost);
        if fate != Fate::Open || lost() {
            return Ok(if fate == Fate::Open { Fate::Retried } else { fate });
        }
        if spec.operation != Operation::Scale || found.is_none() {
            return Ok(fate);
        }
        // The scale itself carries no stamp: its parent does, once the scale is seen.
        let parent = Parent::of_change(change);
        // Its controller writes to the parent at the same moment: then at once again, before somebody scales once more.
        for _ in 0..TRIES {
            let sight = parent::scaled(client, &parent).await?;
            // Asked after the scale was looked at, which may be that of the next attempt.
            if lost() {
                return Ok(Fate::Retried);
            }
            match sight {
                Sight::Scaled(scaled) => {
                    *seen = true;
                    if parent::stamp(client, *scaled, Some(change)).await? {
                        return Ok(Fate::Landed);
                    }
                }
                Sight::Moving => *seen = true,
                Sight::Otherwise => return Ok(if *seen { Fate::Landed } else { fate }),
            }
        }
        Ok(fate)
    }

    fn judge(&self, change: &BreakglassChange, found: Option<&Object>) -> Fate {
        let annotation = |key: &str| change.annotations().get(key).cloned();
        let me = Link { follows: annotation(FOLLOWS), attempt: annotation(ATTEMPT) };
        let status = change.spec.subresource.as_deref() == Some("status");
        let body = found.and_then(|found| found.body.clone()).map(|body| without_noise(body, status));
        let live = match found {
            None => Live::Absent,
            Some(found) => {
                Live::Present { uid: &found.uid, leaving: found.leaving, change: found.change(), body: body.as_ref() }
            }
        };
        let age = (self.clock)() - change.spec.time.instant();
        fate(&change.name_any(), &change.spec, &me, live, &*self.cluster as &dyn History, age)
    }

    /// Writes down what became of a write. Whoever writes to the record meanwhile does not undo what is known: an object may
    /// show that a write landed for a moment only, until the next one.
    async fn settle(&self, change: &BreakglassChange, fate: Fate) -> Result<()> {
        let changes: Api<BreakglassChange> = Api::all(self.cluster.client().clone());
        let mut change = change.clone();
        for _ in 0..TRIES {
            if self.try_to_settle(&change, fate).await? {
                return Ok(());
            }
            let name = change.name_any();
            let Some(now) = changes.get_opt(&name).await.map_err(said).context("reading the change again")? else {
                return Ok(());
            };
            change = now;
        }
        bail!("others kept writing to the change; it is looked at again")
    }

    /// Whether it is written down; not, where somebody else wrote first.
    async fn try_to_settle(&self, change: &BreakglassChange, fate: Fate) -> Result<bool> {
        let phase = change.status.as_ref().and_then(|status| status.phase);
        if !matches!(phase, None | Some(ChangePhase::Admitted)) {
            // Somebody was faster; the label may still say otherwise.
            return status::label(&self.cluster, &change.name_any(), State::of_phase(phase)).await.map(|()| true);
        }
        match fate {
            Fate::Open => Ok(true),
            Fate::Never => self.close(change, Outcome::NeverLanded).await,
            Fate::Retried => self.forget(change).await.map(|()| true),
            Fate::Landed if change.spec.undoes.is_empty() => {
                if status::say(&self.cluster, change, ChangePhase::Pending).await?.is_none() {
                    return Ok(false);
                }
                status::label(&self.cluster, &change.name_any(), State::Pending).await.map(|()| true)
            }
            Fate::Landed => self.undo(change).await,
        }
    }

    /// Settles what a write undid, and the write itself. Whether it is written down; not, where somebody else wrote first.
    async fn undo(&self, change: &BreakglassChange) -> Result<bool> {
        let changes: Api<BreakglassChange> = Api::all(self.cluster.client().clone());
        let mut together = Outcome::Undone;
        for name in &change.spec.undoes {
            let undone = changes.get_opt(name).await.map_err(said).context("reading what was undone")?;
            let Some(undone) = undone else { continue };
            // What somebody has decided to put back is put back.
            let verdict = undone.status.as_ref().and_then(|status| status.verdict);
            let outcome = if verdict == Some(Verdict::Rejected) { Outcome::PutBack } else { Outcome::Undone };
            if outcome == Outcome::PutBack {
                together = outcome;
            }
            if !self.close(&undone, outcome).await? {
                return Ok(false);
            }
        }
        self.close(change, together).await
    }

    /// Whether it is closed; not, where somebody else wrote first.
    async fn close(&self, change: &BreakglassChange, outcome: Outcome) -> Result<bool> {
        status::close(&self.cluster, change, outcome, (self.clock)()).await
    }

    /// An attempt that never landed, of a write that did: the record of that one is the record of the write.
    async fn forget(&self, change: &BreakglassChange) -> Result<()> {
        let changes: Api<BreakglassChange> = Api::all(self.cluster.client().clone());
        let preconditions = Preconditions { uid: change.uid(), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..Default::default() };
        match changes.delete(&change.name_any(), &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
            Err(error) => Err(said(error)).context("deleting the record of an attempt"),
        }
    }
}
