//! Everything that one decision rests on: the policy, the labels of the namespace, the tokens of the writer, and the time; asked
//! for live where the watch may not have told yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use breakglass::api::BreakglassToken;
use breakglass::cover;
use breakglass::decide::{Decision, Known, decide};
use breakglass::rules::Rules;
use breakglass::stamp;
use breakglass::write::Write;
use breakglass::writer::{Writer, classify};
use chrono::{DateTime, Utc};
use kube::ResourceExt;

use crate::admit::{Admission, Outcome, Unavailable};
use crate::review::Answer;

/// Everything that one decision rests on.
pub struct Scene {
    /// The policy in force.
    pub rules: Arc<Rules>,
    labels: BTreeMap<String, String>,
    writer: Writer,
    tokens: Vec<BreakglassToken>,
    /// Whether `tokens` is what the API server has now, and not what the watch has told.
    live: bool,
    /// The time at which it is decided.
    pub now: DateTime<Utc>,
}

impl Scene {
    /// What is known when the call comes.
    ///
    /// # Errors
    /// Where the API server cannot tell what the decision needs.
    pub async fn load(admission: &Admission, write: &Write<'_>) -> Result<Self, Unavailable> {
        let cluster = &admission.cluster;
        let rules = cluster.rules();
        let writer = classify(write, &rules);
        let labels = match (&writer, &write.namespace) {
            // A Namespace whose name is still to be made has none yet.
            (Writer::Direct, Some(namespace)) if !namespace.is_empty() => cluster.namespace_labels(namespace).await?,
            _ => BTreeMap::new(),
        };
        // Nobody else needs one.
        let tokens = if writer == Writer::Direct { cluster.tokens_of(&write.requester.user) } else { Vec::new() };
        let now = (admission.clock)();
        let mut scene = Self { rules, labels, writer, tokens, live: false, now };
        // A token that was opened a moment ago may not have reached the watch yet.
        if matches!(scene.decide(write), Decision::Refuse(_) | Decision::Rehearse(_) | Decision::Tolerate(_)) {
            scene.look_up(admission, write).await?;
        }
        Ok(scene)
    }

    /// The API server asks the gate about what is guarded as far as it knows. Where we would say that no token is needed, it
    /// may have heard of a label that we have not.
    ///
    /// # Errors
    /// As for [`Scene::load`].
    pub async fn doubt(&mut self, admission: &Admission, write: &Write<'_>) -> Result<(), Unavailable> {
        let Some(namespace) = write.namespace.as_ref().filter(|name| !name.is_empty()) else { return Ok(()) };
        if self.writer != Writer::Direct || !matches!(self.decide(write), Decision::Note | Decision::Leave) {
            return Ok(());
        }
        self.labels = admission.cluster.live_namespace_labels(namespace).await?;
        if matches!(self.decide(write), Decision::Refuse(_) | Decision::Rehearse(_) | Decision::Tolerate(_)) {
            self.look_up(admission, write).await?;
        }
        Ok(())
    }

    /// Makes sure that the token which would let the write in is still what the watch told. One that was closed a moment
    /// ago lets nothing in, on any replica.
    ///
    /// # Errors
    /// As for [`Scene::load`].
    pub async fn confirm(&mut self, admission: &Admission, write: &Write<'_>) -> Result<(), Unavailable> {
        if self.writer != Writer::Direct {
            return Ok(());
        }
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

    /// What happens to the write, as far as is known.
    pub fn decide(&self, write: &Write<'_>) -> Decision<'_> {
        let known = Known { rules: &self.rules, namespace_labels: &self.labels, tokens: &self.tokens, now: self.now };
        decide(write, &self.writer, known)
    }

    /// The answer, with what the log and the metrics say of it.
    pub fn outcome(&self, write: &Write<'_>, answer: Answer, decision: &Decision<'_>) -> Outcome {
        let environment = match &self.writer {
            Writer::Direct => cover::environment_of_write(&self.rules, write, &self.labels).name.clone(),
            Writer::ControlPlane | Writer::Engine(_) | Writer::Trusted(_) | Writer::Webhook => String::new(),
        };
        let why = match decision {
            Decision::Refuse(refusal) | Decision::Rehearse(refusal) | Decision::Tolerate(refusal) => {
                refusal.why.as_str()
            }
            // Not refused by the decision: the stamp was missing, or the record could not be kept.
            Decision::Admit { .. } if answer.refusal.is_some() => "NotRecorded",
            Decision::Admit { .. } | Decision::Pass | Decision::Leave | Decision::Note => "",
        };
        let decision = if answer.refusal.is_some() { "Refuse" } else { decision.as_str() };
        Outcome { answer, writer: self.writer.clone(), environment, decision, why }
    }
}
