//! Brings open changes to their end, while it leads: what their objects show and what a person decided goes into their status,
//! into the labels by which they are listed, and onto the stamp.
//!
//! A change is looked at when it was written to, and when its object was (`objects`). Nothing ends here because somebody says so.

// The objects that carry stamps, watched.
pub mod objects;
// A stamp speaks of the latest change that is open.
mod restamp;
// An engine is kept from an object, and gets it back.
mod holding;
// The object of a change, as a record would keep it.
mod sight;
// The write that put a change back.
mod way_back;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use breakglass::api::{BreakglassChange, BreakglassChangeStatus, Operation, Outcome, Verdict};
use breakglass::hold;
use breakglass::outcome::{Later, Seen, outcome};
use breakglass::record::{FOLLOWS, UNTIL};
use breakglass::seal::Key;
use breakglass::stamp::{self, State};
use chrono::{DateTime, Utc};
use futures::StreamExt;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use crate::cluster::Cluster;
use crate::kustomization;
use crate::leader::Leading;
use crate::notice::{Kind, Notice, Notices};
use crate::said::said;
use crate::status;

use holding::{Hold, Over};
use sight::Sight;

/// How often it is asked which changes were written to. Asking is in memory.
const EVERY: Duration = Duration::from_millis(500);

/// How many changes are taken up in one round: what a new leader finds is spread over many.
const AT_ONCE: usize = 100;

/// How many changes are looked at at the same time.
const WIDTH: usize = 4;

/// How long a change is left alone that could not be followed: for want of a right, it may be for ever.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// How soon a change is looked at again that somebody else wrote to at the same moment.
const SOON: Duration = Duration::from_secs(1);

/// How seldom what is rejected is looked at until it is put back, at the least: as often as it has waited already.
const SELDOM: Duration = Duration::from_secs(60);

/// How seldom a held object is looked at, at the least: that its time is up is no matter of seconds.
const HELD_FOR: Duration = Duration::from_secs(300);

/// How long one change may take: a round does not hang on it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long an engine has to be seen to keep a field as it is before Git is believed to say so, where it is not known how often
/// it applies. Whoever writes under an engine's name has it undone by the engine itself in that time; and between the two
/// writes of one apply of Flux (fluxcd/pkg ssa/manager_apply.go: it first takes fields over, and then writes them) a field of
/// ours is Flux' for a moment.
const BELIEVED_AFTER: Duration = Duration::from_secs(45);

/// What is kept apart from the interval itself: an engine takes a moment to apply.
const APPLIES_WITHIN: Duration = Duration::from_secs(2);

/// How many of the changes that stand over one are asked whether they took its object away.
const ASKED: usize = 8;

/// Settles changes.
pub struct Settler {
    /// What we know of the cluster.
    pub cluster: Arc<Cluster>,
    /// The key that hides values in records.
    pub key: Key,
    /// What people are told.
    pub notices: Notices,
    /// The time.
    pub clock: fn() -> DateTime<Utc>,
    /// What was seen, and since when, and is not believed yet.
    pub claims: Mutex<HashMap<String, (Outcome, Instant)>>,
}

impl Settler {
    /// Follows changes while it leads.
    pub async fn keep(self: Arc<Self>, leading: Leading) {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut later: HashMap<String, Instant> = HashMap::new();
        loop {
            tick.tick().await;
            if !leading.now() {
                later.clear();
                continue;
            }
            later.extract_if(|_, due| *due <= Instant::now()).for_each(|(name, _)| self.cluster.touch(&name));
            let touched = futures::stream::iter(self.cluster.take_touched(AT_ONCE));
            let looks = touched.map(|name| self.clone().try_to_settle(name)).buffer_unordered(WIDTH);
            let again: Vec<(String, Option<Duration>)> = looks.collect().await;
            let due = again.into_iter().filter_map(|(name, after)| Some((name, Instant::now() + after?)));
            later.extend(due);
        }
    }

    async fn try_to_settle(self: Arc<Self>, name: String) -> (String, Option<Duration>) {
        let settled = tokio::time::timeout(TIMEOUT, self.settle(&name)).await;
        let again = match settled.unwrap_or_else(|_| bail!("it took longer than {TIMEOUT:?}")) {
            Ok(again) => again,
            Err(error) => {
                tracing::warn!("following {name}: {error:#}");
                Some(AGAIN_AFTER)
            }
        };
        (name, again)
    }

    /// Looks at one change, and does what follows from what is seen. Says how soon it has to be looked at again, if nothing else
    /// happens.
    async fn settle(&self, name: &str) -> Result<Option<Duration>> {
        let changes: Api<BreakglassChange> = Api::all(self.cluster.client().clone());
        let found = changes.get_opt(name).await.map_err(said).context("reading the change")?;
        let Some(change) = found else { return Ok(None) };
        let state = State::of_phase(change.status.as_ref().and_then(|status| status.phase));
        match state {
            // Who let it in follows it.
            State::Admitted => return Ok(None),
            State::Settled => return self.show(&change, State::Settled).await.map(|()| None),
            State::Pending | State::Deferred | State::Accepted | State::Rejected | State::Noted => {}
        }
        match self.ended(&change).await? {
            Ended::As(outcome) => self.close(&change, outcome).await,
            Ended::Perhaps(wait) => self.show(&change, state).await.map(|()| Some(wait)),
            Ended::Not(Hold::Over(over)) => self.give_back(&change, over).await,
            Ended::Not(Hold::Wanted) => self.hold(&change).await,
            Ended::Not(Hold::Held) => {
                self.show(&change, state).await?;
                Ok(Some(self.until_given_back(&change)))
            }
            Ended::Not(Hold::None) if state == State::Pending && way_back::is_one(&self.cluster, &change).await? => {
                self.close(&change, Outcome::PutBack).await
            }
            Ended::Not(Hold::None) => {
                self.show(&change, state).await?;
                Ok((state == State::Rejected).then(|| self.as_long_again(&change.status.unwrap_or_default())))
            }
        }
    }

    /// How the change has ended, if it has.
    async fn ended(&self, change: &BreakglassChange) -> Result<Ended> {
        let (name, spec) = (change.name_any(), &change.spec);
        let sight = sight::look(&self.cluster, &self.key, change).await?;
        let owner = sight.as_ref().and_then(|sight| sight.owner.clone());
        let kustomization = match &owner {
            Some(owner) => kustomization::owned_by(self.cluster.client(), owner).await?,
            None => None,
        };
        let later = self.later(&name, sight.as_ref()).await?;
        // What is gone has no marks any more: the record says whose it was.
        let in_inventory = sight.is_none() && self.is_in_inventory(change).await?;
        let verdict = change.status.as_ref().and_then(|status| status.verdict);
        let rejected = match verdict {
            Some(Verdict::Rejected) => way_back::rejected_before(&self.cluster, change).await?,
            Some(Verdict::Accepted | Verdict::Deferred) | None => Vec::new(),
        };
        let then = spec.time.instant();
        let applied = |pointer: &str| sight.as_ref().is_some_and(|sight| sight.is_applied(pointer, then));
        let seen = Seen {
            now: sight.as_ref().map(|sight| (sight.uid.as_str(), &sight.recorded)),
            applied: &applied,
            rejected: &rejected,
            later,
            in_inventory,
            commit_applied: holding::is_applied(change, kustomization.as_ref()),
        };
        let ended = outcome(spec, verdict, &seen);
        let looked = (sight.as_ref(), kustomization.as_ref());
        let unfinished = || Ended::Not(holding::of(&self.cluster, change, looked, (self.clock)()));
        let is_idle = kustomization.as_ref().is_some_and(kustomization::Kustomization::is_suspended)
            || sight.as_ref().is_some_and(|sight| sight.is_held);
        Ok(match ended {
            None => self.forget(&name, unfinished()),
            // What the engine does not look at says nothing of Git.
            Some(Outcome::InGit | Outcome::Superseded) if is_idle => self.forget(&name, unfinished()),
            Some(outcome @ (Outcome::InGit | Outcome::Superseded)) => {
                let every = kustomization.as_ref().and_then(kustomization::Kustomization::every);
                let wait = every.map_or(BELIEVED_AFTER, |every| (every + APPLIES_WITHIN).min(BELIEVED_AFTER));
                self.believe(&name, outcome, wait)
            }
            Some(outcome) => self.forget(&name, Ended::As(outcome)),
        })
    }

    /// Nothing is claimed of this change any more.
    fn forget(&self, name: &str, ended: Ended) -> Ended {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        ended
    }

    /// What was seen for long enough.
    fn believe(&self, name: &str, outcome: Outcome, after: Duration) -> Ended {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        let (claimed, since) = *claims.entry(name.to_owned()).or_insert((outcome, Instant::now()));
        if claimed != outcome {
            claims.insert(name.to_owned(), (outcome, Instant::now()));
            return Ended::Perhaps(after);
        }
        let left = after.saturating_sub(since.elapsed());
        if left.is_zero() {
            claims.remove(name);
            return Ended::As(outcome);
        }
        Ended::Perhaps(left)
    }

    /// What changes that are open did to the object after this one.
    async fn later(&self, name: &str, sight: Option<&Sight>) -> Result<Later> {
        let followers = self.cluster.open_followers(name);
        let Some(sight) = sight else {
            for follower in followers.iter().take(ASKED) {
                let change = self.cluster.live_change(follower).await?;
                let operation = change.map(|change| change.spec.operation);
                if matches!(operation, Some(Operation::Delete | Operation::Evict)) {
                    return Ok(Later::TookAway);
                }
            }
            return Ok(if followers.is_empty() { Later::Nothing } else { Later::Wrote });
        };
        // What was made anew follows nothing: its stamp says whose it is.
        let earlier = self.cluster.open_chain(name);
        let is_anothers = sight.carried.as_ref().is_some_and(|carried| carried != name && !earlier.contains(carried));
        Ok(if is_anothers || !followers.is_empty() { Later::Wrote } else { Later::Nothing })
    }

    async fn is_in_inventory(&self, change: &BreakglassChange) -> Result<bool> {
        let Some(owner) = breakglass::record::owner(&change.spec) else { return Ok(false) };
        let found = kustomization::owned_by(self.cluster.client(), &owner).await?;
        // Of what is no Kustomization nobody says.
        Ok(found.map_or(owner.kind != "Kustomization", |found| found.lists(&change.spec.target)))
    }

    /// Writes the end of a change, and everything that follows from it.
    async fn close(&self, change: &BreakglassChange, outcome: Outcome) -> Result<Option<Duration>> {
        let name = change.name_any();
        // First: of what is settled nobody would look at the hold again, nor at the write that put it back.
        if hold::is_ours(change) {
            holding::give_back(&self.cluster, change, (self.clock)()).await?;
        }
        if outcome == Outcome::PutBack && !way_back::settle(&self.cluster, change, (self.clock)()).await? {
            return Ok(Some(SOON));
        }
        if !status::close(&self.cluster, change, outcome, (self.clock)()).await? {
            return Ok(Some(SOON));
        }
        tracing::info!(change = name, ?outcome, "settled");
        if outcome == Outcome::UndoneByEngine {
            let place = change.spec.target.place();
            let owner = engine_of(change);
            let text = format!(
                "{owner} has undone this change: {place} is as Git has it. See: kubectl breakglass show {name}"
            );
            self.notices.say(Notice::about(change, Kind::Warning, "UndoneByEngine", text));
        }
        restamp::restamp(&self.cluster, &change.spec.target).await?;
        // What stood under it may be seen in another light.
        change.annotations().get(FOLLOWS).into_iter().for_each(|earlier| self.cluster.touch(earlier));
        Ok(None)
    }

    /// Has the stamp and the labels of the record say what its status says. The stamp first: with the label of the record in place
    /// nobody would look again.
    async fn show(&self, change: &BreakglassChange, state: State) -> Result<()> {
        restamp::restamp(&self.cluster, &change.spec.target).await?;
        let until = change.status.as_ref().and_then(|status| status.until).filter(|_| state == State::Deferred);
        let until = until.map(|until| until.to_string());
        let labelled = change.labels().get(stamp::STATE).map(String::as_str) == Some(state.as_str());
        if labelled && change.annotations().get(UNTIL) == until.as_ref() {
            return Ok(());
        }
        let patch = json!({"metadata": {
            "labels": {stamp::STATE: state.as_str()},
            "annotations": {UNTIL: until},
        }});
        let changes: Api<BreakglassChange> = Api::all(self.cluster.client().clone());
        match changes.patch_metadata(&change.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(said(error)).context("labelling the change"),
        }
    }

    /// Keeps the engine from the object, because somebody said so after the write.
    async fn hold(&self, change: &BreakglassChange) -> Result<Option<Duration>> {
        if holding::hold(&self.cluster, &change.spec.target).await? {
            let (owner, place, by) = (engine_of(change), change.spec.target.place(), said_by(change));
            let text = format!("{by} has {place} held: {owner} leaves it as it is");
            self.notices.say(Notice::about(change, Kind::Normal, "Held", text));
        }
        Ok(Some(SOON))
    }

    /// Gives a held object back to its engine. What becomes of it is seen.
    async fn give_back(&self, change: &BreakglassChange, over: Over) -> Result<Option<Duration>> {
        if !holding::give_back(&self.cluster, change, (self.clock)()).await? {
            // Somebody else was faster; or another change has it held, and is looked at in its own time.
            let status = change.status.clone().unwrap_or_default();
            return Ok(Some(if over == Over::InGit { self.as_long_again(&status) } else { SELDOM }));
        }
        let (name, owner, place) = (change.name_any(), engine_of(change), change.spec.target.place());
        let see = format!("See: kubectl breakglass show {name}");
        let undoes = format!("{owner} applies what Git says to {place} again, and undoes what Git does not say. {see}");
        let notice = match over {
            Over::InGit => None,
            Over::Released => Some((Kind::Normal, "Released", format!("{} gave it back: {undoes}", said_by(change)))),
            Over::Late => {
                let text = format!("nobody has brought this change to its end in time: {undoes}");
                Some((Kind::Warning, "HoldEnded", text))
            }
        };
        if let Some((kind, reason, text)) = notice {
            self.notices.say(Notice::about(change, kind, reason, text));
        }
        Ok(Some(SOON))
    }

    /// How soon a held object is looked at again: when its time is up; where somebody has decided, as for what is rejected.
    fn until_given_back(&self, change: &BreakglassChange) -> Duration {
        let status = change.status.clone().unwrap_or_default();
        if matches!(status.verdict, Some(Verdict::Accepted | Verdict::Rejected)) {
            return self.as_long_again(&status);
        }
        let rules = self.cluster.rules();
        let debt = &rules.environment_of_record(&change.spec.environment).debt;
        let left = hold::end(&change.spec, &status, debt).instant() - (self.clock)();
        left.to_std().unwrap_or_default().clamp(SOON, HELD_FOR)
    }

    /// How soon what was decided about is looked at again: as long after as it has waited since the verdict.
    fn as_long_again(&self, status: &BreakglassChangeStatus) -> Duration {
        let waited = status.at.and_then(|at| ((self.clock)() - at.instant()).to_std().ok());
        waited.unwrap_or_default().clamp(SOON, SELDOM)
    }
}

/// Who applies the object of a change from Git, for a sentence.
fn engine_of(change: &BreakglassChange) -> &str {
    change.spec.engine_owner.as_deref().unwrap_or("its GitOps engine")
}

/// Who said something about its hold, for a sentence.
fn said_by(change: &BreakglassChange) -> &str {
    hold::said(change).and_then(|hold| hold.by.as_deref()).unwrap_or("somebody")
}

/// Whether a change has come to its end.
enum Ended {
    /// It has.
    As(Outcome),
    /// It seems so; to be looked at again after this time.
    Perhaps(Duration),
    /// It has not; and this is to be done about its hold.
    Not(Hold),
}
