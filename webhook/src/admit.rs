//! READ THIS FIRST: one write from arrival to answer: writer, environment, decision, stamp, record.
//!
//! The API server calls twice. The mutating call (`stamp`) puts the stamp on and never refuses: it may be skipped, run
//! twice, or followed by somebody else's webhook. The validating call (`gate`) sees what will be stored: it refuses,
//! checks that the stamp is ours and true, and keeps the record before it answers. Both ask the same `decide`.

use std::collections::BTreeMap;
use std::sync::Arc;

use breakglass::api::{BreakglassChange, Mode, Operation, Timestamp};
use breakglass::decide::{Decision, REHEARSED};
use breakglass::hold;
use breakglass::mark::{self, Ink, Past};
use breakglass::patch::{patch, with_hold, without_hold};
use breakglass::record::{self, ATTEMPT, Circumstances, record};
use breakglass::rules::Rules;
use breakglass::seal::{self, Claim, Key};
use breakglass::stamp::{self, Stamp};
use breakglass::write::{Object, Resource, Verb, Write};
use breakglass::writer::Writer;
use chrono::{DateTime, Utc};
use kube::ResourceExt;
use serde_json::value::RawValue;

use crate::cluster::{Cluster, DefinitionGone};
use crate::follow::Follower;
use crate::metrics::Metrics;
use crate::notice::{Kind, Notice, Notices};
use crate::parent::{self, Parent};
use crate::review::{Answer, Patch};
use crate::scene::Scene;
use crate::turn::{Intent, Turns};
use crate::{advise, ledger, past};

/// What a call is answered with, and what its log line says.
#[derive(Debug)]
pub struct Outcome {
    /// The answer.
    pub answer: Answer,
    /// Who wrote.
    pub writer: Writer,
    /// The environment's name; empty where nobody had to know.
    pub environment: String,
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

impl Unavailable {
    /// What to say at once where waiting will not help.
    fn for_good(&self) -> Option<String> {
        let gone = self.0.downcast_ref::<DefinitionGone>()?;
        Some(format!("this write is not let in: {gone}. Who runs the cluster types: kubectl breakglass install"))
    }
}

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
    /// Looks for what was let in.
    pub follower: Arc<Follower>,
    /// Who writes to an object next.
    pub turns: Turns,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Tells whoever looks.
    pub notices: Notices,
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
        let undone = self.undone(write, &decision, &scene.rules).await?;
        let past = Past { replayed: replayed.as_deref(), undone: !undone.is_empty() };
        let keys = mark::wanted_keys(write, &decision, ink, past);
        let mut answer = Answer::allow();
        if let (Some(keys), Some(after)) = (keys, &write.after) {
            let steps = patch(&after.metadata, &keys);
            let steps = match &undone[..] {
                [] if hold::is_wanted(write, &decision) => with_hold(&after.metadata, steps),
                changes if hold::ends_with(changes) => without_hold(&after.metadata, steps),
                _ => steps,
            };
            answer.patch = steps.into_iter().map(Patch::Stamp).collect();
        }
        let noted = matches!(decision, Decision::Note | Decision::Tolerate(_));
        if noted && write.operation() == Operation::Scale && !write.dry_run && !mark::changes_nothing(write) {
            let stamp = mark::stamp(write, None, Timestamp::new(scene.now), None);
            if let Some(parent) = Parent::of_write(write, &stamp) {
                parent::stamp_later(self.cluster.client().clone(), parent);
            }
        }
        Ok(scene.outcome(write, answer, &decision))
    }

    /// The validating call: refuses, or keeps the record and lets in.
    ///
    /// # Errors
    /// Where the API server cannot tell what the decision needs.
    pub async fn gate(&self, write: &Write<'_>) -> Result<Outcome, Unavailable> {
        let decided = self.decide(write).await;
        match decided.as_ref().err().and_then(Unavailable::for_good) {
            Some(words) => Ok(Outcome {
                answer: Answer::refuse(words),
                writer: Writer::Direct,
                environment: String::new(),
                decision: "Refuse",
                why: "DefinitionGone",
            }),
            None => decided,
        }
    }

    async fn decide(&self, write: &Write<'_>) -> Result<Outcome, Unavailable> {
        let mut scene = Scene::load(self, write).await?;
        scene.doubt(self, write).await?;
        scene.confirm(self, write).await?;
        let decision = scene.decide(write);
        if let Some(seen) = stamp::Keys::of_object(write.before.as_ref()).annotation(stamp::CHANGE) {
            self.follower.saw(seen);
        }
        let answer = match &decision {
            Decision::Note if mark::is_false(write) => Answer::refuse(NOT_STAMPED),
            Decision::Note if !write.can_carry_stamp() => Answer { audit: noted(write), ..Answer::allow() },
            Decision::Pass | Decision::Leave | Decision::Note => Answer::allow(),
            Decision::Refuse(refusal) => Answer::refuse(refusal.to_string()),
            Decision::Rehearse(refusal) => warn([format!("{REHEARSED}{}", refusal.reason()), refusal.next()]),
            Decision::Tolerate(refusal) if scene.rules.spec().mode == Mode::Warn => {
                warn([refusal.reason(), refusal.next()])
            }
            Decision::Tolerate(_) => Answer::allow(),
            Decision::Admit { token, environment } => {
                // The first call takes stamp and hold off what undoes; whatever has a stamp undoes nothing, and is not looked up
                // again.
                let bare = stamp::Keys::of_object(write.after.as_ref()).is_empty();
                let undone = if bare { self.undone(write, &decision, &scene.rules).await? } else { Vec::new() };
                let left = hold::is_left(write, &undone);
                let undoes: Vec<String> = undone.iter().filter(|_| !left).map(ResourceExt::name_any).collect();
                let circumstances = Circumstances {
                    token,
                    environment,
                    rules: &scene.rules,
                    key: &self.key,
                    time: Timestamp::new(scene.now),
                    undoes: &undoes,
                };
                self.admit(write, circumstances, scene.now).await?
            }
        };
        Ok(scene.outcome(write, answer, &decision))
    }

    /// Lets a write in under a token: on the record, or not at all.
    async fn admit(
        &self,
        write: &Write<'_>,
        mut circumstances: Circumstances<'_>,
        now: DateTime<Utc>,
    ) -> Result<Answer, Unavailable> {
        let token = circumstances.token;
        let keys = stamp::Keys::of_object(write.after.as_ref());
        let stamped = write.can_carry_stamp() && mark::is_true(write, Some(token), &self.key, now);
        let undoes = !circumstances.undoes.is_empty();
        if stamped {
            circumstances.time = Stamp::time_in(&keys).unwrap_or(circumstances.time);
        } else if mark::changes_nothing(write) && mark::keeps_keys(write) {
            return Ok(Answer::allow());
        } else if write.can_carry_stamp() && !undoes {
            return Ok(Answer::refuse(NOT_STAMPED));
        } else if !write.can_carry_stamp() && !mark::keeps_keys(write) {
            return Ok(Answer::refuse(FORGED));
        }
        if write.dry_run {
            return Ok(warn([format!("let in under {}; a dry run leaves no record", token.name_any())]));
        }
        let evicted = self.evicted(write).await?;
        let before = evicted.as_deref().map(Object::new).or(write.before.clone());
        let write = &Write { before, resource: self.scaled(write).await?, ..write.clone() };
        let name = match keys.annotation(stamp::CHANGE).filter(|_| stamped) {
            Some(name) => name.to_owned(),
            None => {
                let claim = Claim::new(write, token, circumstances.time);
                if seal::is_once(write) { claim.only_name(&self.key) } else { claim.name(&self.key, (self.random)()) }
            }
        };
        let change = record(write, &name, circumstances);
        let turn = match intent(write, &change) {
            None => None,
            Some(intent) => match self.turns.take(intent).await {
                // The API server asks again, with what took this version's place.
                None => return Ok(Answer::allow()),
                turn => turn,
            },
        };
        let change = match ledger::keep(self.cluster.client(), &change).await {
            Ok(change) => change,
            Err(error) => {
                tracing::error!("keeping the record {name}: {error:#}");
                self.metrics.records_failed.inc();
                let text = format!("a write under this token was refused, because its record was not kept: {error:#}");
                self.notices.say(Notice::about(token, Kind::Warning, "RecordFailed", text));
                return Ok(Answer::refuse(format!(
                    "this write is not let in, because its record cannot be kept: {error:#}. Try again; if it stays so: \
                     kubectl get breakglasschanges"
                )));
            }
        };
        let warnings = advise::on_admission(self.cluster.client(), &change, token, now).await;
        let audit = BTreeMap::from([
            ("incident", change.spec.incident.clone()),
            ("token", format!("{} {}", token.name_any(), token.uid().unwrap_or_default())),
            ("change", name),
        ]);
        self.follower.begin(change, turn);
        Ok(Answer { warnings, audit, ..Answer::allow() })
    }

    /// The pod that an eviction takes away: the review carries only the eviction.
    async fn evicted(&self, write: &Write<'_>) -> Result<Option<Box<RawValue>>, Unavailable> {
        if write.operation() != Operation::Evict {
            return Ok(None);
        }
        Ok(self.cluster.pod(write.namespace.as_deref().unwrap_or_default(), write.object_name()).await?)
    }

    /// What a scale scales: of a custom kind the review names only the plural.
    async fn scaled(&self, write: &Write<'_>) -> Result<Resource, Unavailable> {
        let mut resource = write.resource.clone();
        if write.operation() == Operation::Scale && record::target(write).kind == resource.kind {
            resource.kind = self.cluster.kind_of(&record::target(write)).await?.unwrap_or(resource.kind);
        }
        Ok(resource)
    }

    /// The changes that a write undoes; see [`past::undone`].
    async fn undone(
        &self,
        write: &Write<'_>,
        decision: &Decision<'_>,
        rules: &Rules,
    ) -> Result<Vec<BreakglassChange>, Unavailable> {
        match decision {
            Decision::Admit { .. } => Ok(past::undone(&self.cluster, rules, &self.key, write).await?),
            _ => Ok(Vec::new()),
        }
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

const FORGED: &str = "this write is not let in, because it carries a stamp, and nobody stamps through a subresource: leave \
    out what begins with breakglass.dev/";

/// What a write is about to do to a version of an object; nothing where it replaces none.
fn intent(write: &Write<'_>, change: &BreakglassChange) -> Option<Intent> {
    let before = &write.before.as_ref().filter(|_| write.verb == Verb::Update)?.metadata;
    let attempt = change.annotations().get(ATTEMPT).cloned().unwrap_or_default();
    Some(Intent { uid: before.uid.clone(), version: before.resource_version.clone(), attempt })
}

/// What the audit log keeps of a write that needs no token and cannot carry a stamp.
fn noted(write: &Write<'_>) -> BTreeMap<&'static str, String> {
    BTreeMap::from([("user", write.requester.user.clone()), ("operation", write.operation().as_str().to_owned())])
}

/// A line each: clients cut long ones off, and the last is the command.
fn warn<const N: usize>(lines: [String; N]) -> Answer {
    Answer { warnings: lines.into(), ..Answer::allow() }
}
