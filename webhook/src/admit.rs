//! READ THIS FIRST: one write from arrival to answer: writer, environment, decision, stamp, record.
//!
//! The API server calls twice. The mutating call (`stamp`) puts the stamp on and never refuses: it may be skipped, run
//! twice, or followed by somebody else's webhook. The validating call (`gate`) sees what will be stored: it refuses,
//! checks that the stamp is ours and true, and keeps the record before it answers. Both ask the same `decide`.

use std::collections::BTreeMap;
use std::sync::Arc;

use breakglass::api::{BreakglassToken, Mode, Timestamp};
use breakglass::decide::{Decision, Known, decide};
use breakglass::mark::{self, Ink};
use breakglass::patch::patch;
use breakglass::record::{Circumstances, record};
use breakglass::rules::Rules;
use breakglass::seal::{Claim, Key};
use breakglass::stamp::{self, Stamp};
use breakglass::write::{Verb, Write};
use breakglass::writer::{Writer, classify};
use chrono::{DateTime, Utc};
use kube::ResourceExt;

use crate::cluster::Cluster;
use crate::review::{Answer, Patch};
use crate::{advise, ledger};

/// What a call is answered with, and what its log line says.
#[derive(Debug)]
pub struct Outcome {
    /// The answer.
    pub answer: Answer,
    /// Who wrote.
    pub writer: Writer,
    /// The decision in a word.
    pub decision: &'static str,
    /// The reason in a word; empty where the decision needs none.
    pub why: &'static str,
}

/// What a write cannot be decided without is not to be had now. Answered with 503: the API server tries again while its
/// timeout lasts, and then goes by the failure policy, which is closed for prod.
#[derive(Debug, thiserror::Error)]
#[error("this cannot be decided now: {0:#}")]
pub struct Unavailable(#[from] pub anyhow::Error);

/// What every call works with; `own` as well.
pub struct Admission {
    /// What we know of the cluster.
    pub cluster: Arc<Cluster>,
    /// The cluster's key.
    pub key: Key,
    /// The clock.
    pub clock: fn() -> DateTime<Utc>,
    /// A random number for names.
    pub random: fn() -> u32,
}

impl Admission {
    /// The mutating call: puts our keys right, and never refuses.
    ///
    /// # Errors
    /// Where the API server cannot tell what the decision needs.
    pub async fn stamp(&self, write: &Write<'_>) -> Result<Outcome, Unavailable> {
        let scene = Scene::load(self, write).await?;
        let decision = scene.decide(write);
        let ink = Ink { key: &self.key, now: scene.now, random: (self.random)() };
        let replayed = self.replayed(write, &decision).await?;
        let keys = mark::wanted_keys(write, &decision, ink, replayed.as_deref());
        let mut answer = Answer::allow();
        if let (Some(keys), Some(after)) = (keys, &write.after) {
            answer.patch = patch(&after.metadata, &keys).into_iter().map(Patch::Stamp).collect();
        }
        Ok(scene.outcome(answer, &decision))
    }

    /// The validating call: refuses, or keeps the record and lets in.
    ///
    /// # Errors
    /// Where the API server cannot tell what the decision needs.
    pub async fn gate(&self, write: &Write<'_>) -> Result<Outcome, Unavailable> {
        let mut scene = Scene::load(self, write).await?;
        scene.confirm(self, write).await?;
        let decision = scene.decide(write);
        let answer = match &decision {
            Decision::Pass | Decision::Leave | Decision::Note => Answer::allow(),
            Decision::Refuse(refusal) => Answer::refuse(refusal.to_string()),
            Decision::Rehearse(refusal) => {
                warn([format!("without --dry-run this is refused: {}", refusal.reason()), refusal.next()])
            }
            Decision::Tolerate(refusal) if scene.rules.spec().mode == Mode::Warn => {
                warn([refusal.reason(), refusal.next()])
            }
            Decision::Tolerate(_) => Answer::allow(),
            Decision::Admit { token, environment } => {
                let circumstances = Circumstances {
                    token,
                    environment,
                    rules: &scene.rules,
                    key: &self.key,
                    time: Timestamp::new(scene.now),
                };
                self.admit(write, circumstances, scene.now).await
            }
        };
        Ok(scene.outcome(answer, &decision))
    }

    /// Lets a write in under a token: on the record, or not at all.
    async fn admit(&self, write: &Write<'_>, mut circumstances: Circumstances<'_>, now: DateTime<Utc>) -> Answer {
        let token = circumstances.token;
        let name = if !write.can_carry_stamp() {
            let claim = Claim::new(write, token, circumstances.time);
            if write.verb == Verb::Delete { claim.only_name(&self.key) } else { claim.name(&self.key, (self.random)()) }
        } else if mark::is_true(write, Some(token), &self.key, now) {
            let keys = stamp::Keys::of_object(write.after.as_ref());
            circumstances.time = Stamp::time_in(&keys).unwrap_or(circumstances.time);
            keys.annotation(stamp::CHANGE).unwrap_or_default().to_owned()
        } else if mark::changes_nothing(write) && mark::keeps_keys(write) {
            return Answer::allow();
        } else {
            return Answer::refuse(NOT_STAMPED);
        };
        if write.dry_run {
            return warn([format!("let in under {}; a dry run leaves no record", token.name_any())]);
        }
        let change = record(write, &name, circumstances);
        if let Err(error) = ledger::keep(self.cluster.client(), &change).await {
            tracing::error!("keeping the record {name}: {error:#}");
            return Answer::refuse(format!(
                "this write is not let in, because its record cannot be kept: {error:#}. Try again; if it stays so: \
                 kubectl get breakglasschanges"
            ));
        }
        let warnings = advise::on_admission(self.cluster.client(), &change, token, now).await;
        let audit = BTreeMap::from([
            ("incident", change.spec.incident.clone()),
            ("token", format!("{} {}", token.name_any(), token.uid().unwrap_or_default())),
            ("change", name),
        ]);
        Answer { warnings, audit, ..Answer::allow() }
    }

    /// The change that an object to be created says it is, where that change has a record already.
    ///
    /// Only a create can carry an old stamp that still proves itself (an update's is bound to the version that it
    /// replaces), so only then, and only where it does, is the API server asked.
    async fn replayed(&self, write: &Write<'_>, decision: &Decision<'_>) -> Result<Option<String>, Unavailable> {
        let Decision::Admit { token, .. } = decision else { return Ok(None) };
        if write.verb != Verb::Create || !mark::is_true(write, Some(token), &self.key, (self.clock)()) {
            return Ok(None);
        }
        let keys = stamp::Keys::of_object(write.after.as_ref());
        let Some(name) = keys.annotation(stamp::CHANGE) else { return Ok(None) };
        Ok(self.cluster.has_record(name).await?.then(|| name.to_owned()))
    }
}

const NOT_STAMPED: &str = "this write is not let in, because the object does not carry the stamp of this very write: the \
    call that stamps did not run, or another webhook took the stamp off. Try again; if it stays so: \
    kubectl get mutatingwebhookconfigurations";

/// A line each: clients cut long ones off, and the last is the command.
fn warn<const N: usize>(lines: [String; N]) -> Answer {
    Answer { warnings: lines.into(), ..Answer::allow() }
}

/// Everything that one decision rests on.
struct Scene {
    rules: Arc<Rules>,
    labels: BTreeMap<String, String>,
    writer: Writer,
    tokens: Vec<BreakglassToken>,
    /// Whether `tokens` is what the API server has now, and not what the watch has told.
    live: bool,
    now: DateTime<Utc>,
}

impl Scene {
    async fn load(admission: &Admission, write: &Write<'_>) -> Result<Self, Unavailable> {
        let cluster = &admission.cluster;
        let rules = cluster.rules();
        let writer = classify(&write.requester, &rules, write.namespace.as_deref());
        let labels = match (&writer, &write.namespace) {
            (Writer::Direct, Some(namespace)) => cluster.namespace_labels(namespace).await?,
            _ => BTreeMap::new(),
        };
        let tokens = cluster.tokens_of(&write.requester.user);
        let now = (admission.clock)();
        let mut scene = Self { rules, labels, writer, tokens, live: false, now };
        // A token that was opened a moment ago may not have reached the watch yet.
        if matches!(scene.decide(write), Decision::Refuse(_) | Decision::Rehearse(_) | Decision::Tolerate(_)) {
            scene.look_up(admission, write).await?;
        }
        Ok(scene)
    }

    /// Makes sure that the token which would let the write in is still what the watch told. One that was closed a moment
    /// ago lets nothing in, on any replica.
    async fn confirm(&mut self, admission: &Admission, write: &Write<'_>) -> Result<(), Unavailable> {
        let keys = stamp::Keys::of_object(write.after.as_ref());
        if let Some(named) = keys.annotation(stamp::TOKEN) {
            // Another replica may have stamped under a token that was opened a moment ago.
            if !self.live && !self.tokens.iter().any(|token| token.name_any() == named) {
                self.look_up(admission, write).await?;
            }
            self.prefer(named, write);
        }
        if self.live {
            return Ok(());
        }
        let Decision::Admit { token, .. } = self.decide(write) else { return Ok(()) };
        let known = (token.name_any(), token.uid());
        match admission.cluster.live_token(&known.0).await? {
            Some(token) if token.uid() == known.1 => {
                self.tokens = vec![token];
                if !matches!(self.decide(write), Decision::Admit { .. }) {
                    self.look_up(admission, write).await?;
                }
                Ok(())
            }
            _ => self.look_up(admission, write).await,
        }
    }

    /// Decides by the token that the stamp names, where that one lets the write in: a newer one would not fit the stamp.
    fn prefer(&mut self, named: &str, write: &Write<'_>) {
        let Some(token) = self.tokens.iter().find(|token| token.name_any() == named).cloned() else { return };
        let all = std::mem::replace(&mut self.tokens, vec![token]);
        if !matches!(self.decide(write), Decision::Admit { .. }) {
            self.tokens = all;
        }
    }

    async fn look_up(&mut self, admission: &Admission, write: &Write<'_>) -> Result<(), Unavailable> {
        self.tokens = admission.cluster.live_tokens_of(&write.requester.user).await?;
        self.live = true;
        Ok(())
    }

    fn decide(&self, write: &Write<'_>) -> Decision<'_> {
        let known = Known { rules: &self.rules, namespace_labels: &self.labels, tokens: &self.tokens, now: self.now };
        decide(write, &self.writer, known)
    }

    fn outcome(&self, answer: Answer, decision: &Decision<'_>) -> Outcome {
        let why = match decision {
            Decision::Refuse(refusal) | Decision::Rehearse(refusal) | Decision::Tolerate(refusal) => {
                refusal.why.as_str()
            }
            // Not refused by the decision: the stamp was missing, or the record could not be kept.
            Decision::Admit { .. } if answer.refusal.is_some() => "NotRecorded",
            Decision::Admit { .. } | Decision::Pass | Decision::Leave | Decision::Note => "",
        };
        let decision = if answer.refusal.is_some() { "Refuse" } else { decision.as_str() };
        Outcome { answer, writer: self.writer.clone(), decision, why }
    }
}
