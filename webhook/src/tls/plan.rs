//! What to do next about the certificates: a function of what is stored, what is held, and since when the API server trusts what.
//!
//! A new CA is offered first: its certificate is published beside the old one. Only when the API server has trusted it for a
//! while does a leaf of it take the old one's place; only when every replica shows that leaf does the old CA go. So there is
//! no moment in which a call meets a certificate that it does not believe.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::ca::{self, Pair};

/// How long the API server must have trusted a CA before a leaf of it is shown. API servers learn of a configuration by a watch,
/// within a second; one that is cut off for longer than this is not calling anybody.
pub const OVERLAP: Duration = Duration::from_secs(10);

/// How long after a new leaf was stored the old CA goes: several times as long as a replica takes to see it.
pub const SETTLE: Duration = Duration::from_secs(30);

/// How long a CA stays trusted after a replica began to show a leaf of another one, whatever is stored: somebody may put another
/// CA into the Secret that is as good, and the replicas see that one after the other.
pub const FAREWELL: Duration = Duration::from_secs(20);

/// What the Secret holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The CA that signed the leaf.
    pub ca: Pair,
    /// What is shown.
    pub leaf: Pair,
    /// The CA that will take its place.
    pub next: Option<Pair>,
    /// The certificate of the one whose place it took.
    pub previous: Option<String>,
}

impl Stored {
    /// The certificates that the API server has to trust: before, now, and from then on.
    pub fn bundle(&self) -> Vec<String> {
        let next = self.next.as_ref().map(|next| next.certificate.clone());
        self.previous.iter().cloned().chain([self.ca.certificate.clone()]).chain(next).collect()
    }

    /// Why it is not good for calls to `server_name`; `None` where it is.
    pub fn unsound(&self, server_name: &str, now: DateTime<Utc>) -> Option<String> {
        let leaf = ca::check_leaf(&self.leaf, &self.ca.certificate, server_name, now);
        leaf.err().map(|error| format!("{error:#}"))
    }
}

/// What somebody asks for by an annotation on the Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Nothing.
    None,
    /// A new leaf now.
    Leaf,
    /// A new CA now, and a leaf of it.
    Ca,
}

/// What is known besides what is stored.
#[derive(Clone, Copy, Debug)]
pub struct Known<'k> {
    /// What this replica goes by; nothing where it has just started.
    pub held: Option<&'k Stored>,
    /// For how long the API server has trusted the next CA.
    pub trusted: Duration,
    /// For how long the previous CA has been there.
    pub settled: Duration,
    /// What somebody asks for.
    pub wish: Wish,
    /// The name in the certificate.
    pub server_name: &'k str,
    /// The wall clock: a machine that slept through a renewal wakes up late by it.
    pub now: DateTime<Utc>,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Rest,
    /// CA and leaf anew: there is nothing left to go by.
    Make,
    /// Put back what this replica holds: what is stored is no good.
    Restore,
    /// A leaf anew, of the same CA.
    Renew,
    /// A next CA, to be published beside the one in use.
    Offer,
    /// The next CA takes the place of the one in use, with a leaf of it.
    Promote,
    /// What is not in use any more goes: a next CA that is no good, or the previous one.
    Retire,
}

impl Step {
    /// The wish, where this step grants it. Another one stays, for after the rotation that is under way.
    pub fn grants(&self, wish: Wish) -> Wish {
        match (self, wish) {
            (Step::Make | Step::Offer, Wish::Ca) | (Step::Make | Step::Renew | Step::Promote, Wish::Leaf) => wish,
            (_, Wish::None | Wish::Leaf | Wish::Ca) => Wish::None,
        }
    }
}

/// What to do next.
pub fn plan(stored: Option<&Stored>, known: Known<'_>) -> Step {
    let Known { server_name, now, .. } = known;
    let Some(stored) = stored else { return without(known) };
    if ca::check_ca(&stored.ca, now).is_err() {
        return without(known);
    }
    if stored.unsound(server_name, now).is_some() {
        return Step::Renew;
    }
    if let Some(next) = &stored.next {
        return match ca::check_ca(next, now) {
            Err(_) => Step::Retire,
            Ok(()) if known.trusted >= OVERLAP => Step::Promote,
            Ok(()) => Step::Rest,
        };
    }
    if stored.previous.is_some() {
        return if known.settled >= SETTLE { Step::Retire } else { Step::Rest };
    }
    if known.wish == Wish::Ca || ca::is_due(&stored.ca.certificate, now) {
        return Step::Offer;
    }
    if known.wish == Wish::Leaf || ca::is_due(&stored.leaf.certificate, now) {
        return Step::Renew;
    }
    Step::Rest
}

/// Where nothing is stored that a leaf could be signed with.
fn without(known: Known<'_>) -> Step {
    let good = |held: &&Stored| {
        ca::check_ca(&held.ca, known.now).is_ok() && held.unsound(known.server_name, known.now).is_none()
    };
    if known.held.as_ref().is_some_and(good) { Step::Restore } else { Step::Make }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    const NAME: &str = "breakglass-webhook.breakglass-system.svc";

    fn begun() -> DateTime<Utc> {
        "2026-11-20T12:00:00Z".parse().unwrap()
    }

    fn stored() -> Stored {
        let ca = ca::make_ca(begun()).unwrap();
        let leaf = ca::make_leaf(&ca, NAME, begun()).unwrap();
        Stored { ca, leaf, next: None, previous: None }
    }

    fn known(days: i64) -> Known<'static> {
        let now = begun() + TimeDelta::days(days);
        let none = Duration::ZERO;
        Known { held: None, trusted: none, settled: none, wish: Wish::None, server_name: NAME, now }
    }

    #[test]
    fn what_is_good_rests_until_it_is_due() {
        let stored = stored();
        for (days, wish, expected) in [
            (0, Wish::None, Step::Rest),
            (59, Wish::None, Step::Rest),
            (61, Wish::None, Step::Renew),
            (0, Wish::Leaf, Step::Renew),
            (0, Wish::Ca, Step::Offer),
        ] {
            assert_eq!(plan(Some(&stored), Known { wish, ..known(days) }), expected, "after {days} days, {wish:?}");
        }
        let renewed = Stored { leaf: ca::make_leaf(&stored.ca, NAME, known(2_440).now).unwrap(), ..stored.clone() };
        assert_eq!(plan(Some(&renewed), known(2_440)), Step::Offer, "the CA has lived two thirds of its life");
    }

    /// T-04: a machine that slept past the renewal, until the leaf had ended, or until the CA had: it takes the step at the first look
    /// by its wall clock after it wakes, however little time it has run.
    #[test]
    fn a_machine_that_slept_past_a_renewal_catches_up() {
        let stored = stored();
        for (slept, expected) in [(59, Step::Rest), (61, Step::Renew), (91, Step::Renew), (3_651, Step::Make)] {
            for held in [None, Some(&stored)] {
                assert_eq!(plan(Some(&stored), Known { held, ..known(slept) }), expected, "after {slept} days");
            }
        }
    }

    #[test]
    fn a_wish_is_taken_off_by_the_step_that_grants_it() {
        for (step, wish, granted) in [
            (Step::Renew, Wish::Leaf, Wish::Leaf),
            (Step::Promote, Wish::Leaf, Wish::Leaf),
            (Step::Offer, Wish::Ca, Wish::Ca),
            (Step::Make, Wish::Ca, Wish::Ca),
            // Asked for while an earlier rotation goes on: its turn comes.
            (Step::Promote, Wish::Ca, Wish::None),
            (Step::Retire, Wish::Ca, Wish::None),
            (Step::Retire, Wish::Leaf, Wish::None),
            (Step::Renew, Wish::Ca, Wish::None),
            (Step::Offer, Wish::Leaf, Wish::None),
            (Step::Restore, Wish::Ca, Wish::None),
            (Step::Offer, Wish::None, Wish::None),
        ] {
            assert_eq!(step.grants(wish), granted, "{step:?} {wish:?}");
        }
    }

    /// T-02: a new CA is trusted before a leaf of it is shown, and the old one stays until the new leaf is everywhere.
    #[test]
    fn a_new_ca_is_offered_then_used_and_only_then_the_old_one_goes() {
        let old = stored();
        let offered = Stored { next: Some(ca::make_ca(begun()).unwrap()), ..old.clone() };
        let almost = OVERLAP - Duration::from_millis(1);
        assert_eq!(plan(Some(&offered), known(0)), Step::Rest);
        assert_eq!(plan(Some(&offered), Known { trusted: almost, ..known(0) }), Step::Rest);
        assert_eq!(plan(Some(&offered), Known { trusted: OVERLAP, ..known(0) }), Step::Promote);
        assert_eq!(offered.bundle(), [old.ca.certificate.clone(), offered.next.clone().unwrap().certificate]);

        let promoted = Stored { previous: Some(old.ca.certificate.clone()), ..stored() };
        assert_eq!(plan(Some(&promoted), Known { wish: Wish::Ca, ..known(0) }), Step::Rest);
        assert_eq!(plan(Some(&promoted), Known { settled: SETTLE, ..known(0) }), Step::Retire);
        assert_eq!(promoted.bundle(), [old.ca.certificate, promoted.ca.certificate.clone()]);
    }

    #[test]
    fn what_is_broken_is_put_back_and_else_made_anew() {
        let (good, other) = (stored(), stored());
        let held = Known { held: Some(&good), ..known(0) };
        let foreign_leaf = Stored { leaf: other.leaf.clone(), ..good.clone() };
        let foreign_key = Stored { ca: Pair { key: other.ca.key.clone(), ..good.ca.clone() }, ..good.clone() };
        let no_text = Pair { certificate: "x".to_owned(), key: "y".to_owned() };
        for (stored, known, expected) in [
            (None, held, Step::Restore),
            (None, known(0), Step::Make),
            (Some(&foreign_key), held, Step::Restore),
            (Some(&foreign_key), known(0), Step::Make),
            // The CA is good, and with it everybody who trusts it: a leaf is all that it takes.
            (Some(&foreign_leaf), held, Step::Renew),
            (Some(&Stored { leaf: no_text.clone(), ..good.clone() }), known(0), Step::Renew),
            (Some(&Stored { ca: no_text.clone(), ..good.clone() }), held, Step::Restore),
            (Some(&Stored { next: Some(no_text), ..good.clone() }), held, Step::Retire),
            // What is held has ended, too.
            (None, Known { held: Some(&good), ..known(3_651) }, Step::Make),
        ] {
            assert_eq!(plan(stored, known), expected, "{stored:?}");
        }
    }
}
