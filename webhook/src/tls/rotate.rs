//! Keeps the certificates good while the webhook runs: every replica looks at the Secret and shows what it holds, the leader
//! takes the next step of the plan.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use chrono::{DateTime, Utc};
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;

use super::plan::{Known, OVERLAP, Step, Stored, plan};
use super::secret::{self, Read};
use super::{Certificates, ca};
use crate::config::Source;
use crate::leader::Leading;
use crate::metrics::{CertificateLabel, Metrics};
use crate::notice::{Kind, Notice, Notices};
use crate::register::Registrar;

/// How often the Secret is looked at, by the wall clock of this machine: a broken one is mended, and a machine that slept
/// through a renewal catches up, within this.
const EVERY: Duration = Duration::from_secs(5);

/// How long one look may take: it does not hang on one request.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// What a rotation needs.
pub struct Rotation {
    /// The Secrets of our own namespace.
    pub secrets: Api<Secret>,
    /// Who makes the certificates.
    pub source: Source,
    /// The name in the certificate.
    pub server_name: String,
    /// Says what time it is.
    pub clock: fn() -> DateTime<Utc>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

impl Rotation {
    /// What to begin with: what is stored, mended or made where it is no good. Whoever comes first makes it; the others read it.
    ///
    /// # Errors
    /// Where the API server cannot be asked, or the replicas keep getting in each other's way.
    pub async fn begin(&self) -> Result<Stored> {
        for _ in 0..secret::TRIES {
            let read = secret::read(&self.secrets).await?;
            if self.source == Source::CertManager {
                let stored = read.made_by_others().with_context(|| {
                    format!("cert-manager has put no certificate into the Secret {} yet", secret::TLS_SECRET)
                })?;
                if let Some(why) = stored.unsound(&self.server_name, (self.clock)()) {
                    bail!("cert-manager's certificate in the Secret {}: {why}", secret::TLS_SECRET);
                }
                return Ok(stored);
            }
            let stored = read.stored();
            let step = match self.plan(stored.as_ref(), None, (Duration::ZERO, Duration::ZERO), &read) {
                // What is due but good can wait for the leader.
                Step::Rest | Step::Offer | Step::Promote | Step::Retire => Step::Rest,
                Step::Renew if stored.as_ref().is_some_and(|stored| self.is_sound(stored)) => Step::Rest,
                step => step,
            };
            match (step, stored) {
                (Step::Rest, Some(stored)) => return Ok(stored),
                (step, stored) => {
                    let wanted = self.after(&step, stored.as_ref(), None)?;
                    if secret::write(&self.secrets, &read, &wanted, super::plan::Wish::None).await? {
                        return Ok(wanted);
                    }
                }
            }
        }
        bail!("other replicas kept writing the Secret {}; starting again will read what they wrote", secret::TLS_SECRET)
    }

    /// Looks for ever.
    pub async fn keep(
        self,
        certificates: Arc<Certificates>,
        registrar: Arc<Registrar>,
        notices: Notices,
        leading: Leading,
    ) {
        let mut keeper =
            Keeper { rotation: self, certificates, registrar, notices, previous: None, said: String::new() };
        loop {
            tokio::time::sleep(EVERY).await;
            let leads = leading.now();
            let looked = tokio::time::timeout(LOOK_TIMEOUT, keeper.look(leads)).await;
            match looked.unwrap_or_else(|_| Err(anyhow::anyhow!("the API server took longer than {LOOK_TIMEOUT:?}"))) {
                Ok(()) => keeper.said.clear(),
                // Once, not every five seconds.
                Err(error) if keeper.said == format!("{error:#}") => {}
                Err(error) => {
                    keeper.said = format!("{error:#}");
                    tracing::error!("keeping the certificates: {}", keeper.said);
                }
            }
        }
    }

    fn is_sound(&self, stored: &Stored) -> bool {
        stored.unsound(&self.server_name, (self.clock)()).is_none()
    }

    fn plan(
        &self,
        stored: Option<&Stored>,
        held: Option<&Stored>,
        (trusted, settled): (Duration, Duration),
        read: &Read,
    ) -> Step {
        let (server_name, now) = (self.server_name.as_str(), (self.clock)());
        plan(stored, Known { held, trusted, settled, wish: read.wish(), server_name, now })
    }

    /// What is to be stored after a step.
    fn after(&self, step: &Step, stored: Option<&Stored>, held: Option<&Stored>) -> Result<Stored> {
        let now = (self.clock)();
        let leaf = |ca| ca::make_leaf(ca, &self.server_name, now);
        Ok(match (step, stored) {
            (Step::Restore, _) => held.cloned().context("nothing is held")?,
            (Step::Make, _) | (_, None) => {
                let ca = ca::make_ca(now)?;
                Stored { leaf: leaf(&ca)?, ca, next: None, previous: None }
            }
            (Step::Rest, Some(stored)) => stored.clone(),
            (Step::Renew, Some(stored)) => Stored { leaf: leaf(&stored.ca)?, ..stored.clone() },
            (Step::Offer, Some(stored)) => Stored { next: Some(ca::make_ca(now)?), ..stored.clone() },
            (Step::Promote, Some(stored)) => {
                let ca = stored.next.clone().context("no CA is offered")?;
                let previous = Some(stored.ca.certificate.clone());
                Stored { leaf: leaf(&ca)?, ca, next: None, previous }
            }
            (Step::Retire, Some(stored)) => Stored { next: None, previous: None, ..stored.clone() },
        })
    }
}

struct Keeper {
    rotation: Rotation,
    certificates: Arc<Certificates>,
    registrar: Arc<Registrar>,
    notices: Notices,
    /// The previous CA, and since when it has been seen in its place.
    previous: Option<(String, Instant)>,
    said: String,
}

impl Keeper {
    async fn look(&mut self, leads: bool) -> Result<()> {
        let read = secret::read(&self.rotation.secrets).await?;
        if self.rotation.source == Source::CertManager {
            let stored = read.made_by_others().context("cert-manager's Secret holds no certificate")?;
            return self.show(stored);
        }
        let stored = read.stored();
        let held = self.certificates.stored();
        let trusted = stored.as_ref().and_then(|stored| stored.next.as_ref());
        let trusted = trusted.map_or(Duration::ZERO, |next| self.registrar.trusted_for(&next.certificate));
        let settled = self.settled(stored.as_ref());
        let step = self.rotation.plan(stored.as_ref(), Some(&held), (trusted, settled), &read);
        let stored = match (step, stored) {
            (Step::Rest, Some(stored)) => stored,
            // Only one replica writes; the others see what comes of it.
            (Step::Make | Step::Restore, _) if !leads => return Ok(()),
            (_, Some(stored)) if !leads => stored,
            (step, stored) => {
                let wanted = self.rotation.after(&step, stored.as_ref(), Some(&held))?;
                let granted = step.grants(read.wish());
                if !secret::write(&self.rotation.secrets, &read, &wanted, granted).await? {
                    return Ok(());
                }
                self.say(&step);
                wanted
            }
        };
        self.show(stored)
    }

    /// For how long the previous CA has been in its place, as far as this replica has seen.
    fn settled(&mut self, stored: Option<&Stored>) -> Duration {
        let previous = stored.and_then(|stored| stored.previous.clone());
        match (&self.previous, previous) {
            (Some((known, since)), Some(previous)) if *known == previous => since.elapsed(),
            (_, previous) => {
                self.previous = previous.map(|previous| (previous, Instant::now()));
                Duration::ZERO
            }
        }
    }

    /// Goes by what is stored. Its leaf is shown once the API server has trusted its CA for a while, or at once where what is
    /// shown is no good any more.
    fn show(&self, stored: Stored) -> Result<()> {
        let now = (self.rotation.clock)();
        if let Some(why) = stored.unsound(&self.rotation.server_name, now) {
            bail!("what the Secret {} holds is not shown: {why}", secret::TLS_SECRET);
        }
        let trusted = self.registrar.trusted_for(&stored.ca.certificate) >= OVERLAP;
        let good = self.certificates.shown().unsound(&self.rotation.server_name, now).is_none();
        self.certificates.go_by(stored, trusted || !good)
    }

    fn say(&self, step: &Step) {
        const MENDED: (&str, Kind) = ("CertificateMended", Kind::Warning);
        const ROTATED: (&str, Kind) = ("CertificateRotated", Kind::Normal);
        let ((reason, kind), action, text) = match step {
            Step::Rest => return,
            Step::Make => (MENDED, "Make", "the Secret held no CA to go by; CA and leaf were made anew"),
            Step::Restore => (MENDED, "Restore", "the Secret was broken; what it had held was put back"),
            Step::Renew => (ROTATED, "Renew", "the leaf was made anew"),
            Step::Offer => (ROTATED, "Offer", "a new CA was made; it is used once the API server trusts it"),
            Step::Promote => (ROTATED, "Promote", "the new CA is in use; the old one is still trusted"),
            Step::Retire => (ROTATED, "Retire", "the old CA is trusted no more"),
        };
        let certificates: &[&'static str] = match step {
            Step::Make | Step::Restore => &["ca", "leaf"],
            Step::Renew => &["leaf"],
            Step::Promote => &["ca", "leaf"],
            Step::Rest | Step::Offer | Step::Retire => &[],
        };
        for &certificate in certificates {
            self.rotation.metrics.rotations.get_or_create_owned(&CertificateLabel { certificate }).inc();
        }
        tracing::info!("certificates: {text}");
        self.notices.say(Notice::about_secret(secret::TLS_SECRET, kind, reason, text).doing(action));
    }
}
