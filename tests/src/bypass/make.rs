//! Makes requests up: pure, from a seed and a number.

use super::draft::Draft;
use super::kind::{Kind, Verb};
use super::place::{COMING, FULL, OPEN, OTHERS, TURNING};
use super::random::Random;
use super::request::{Aim, Request};
use super::who::Who;

/// The name of the object of each kind that the scene makes in each of its namespaces.
pub(super) const OBJECT: &str = "fuzz";

/// The ConfigMap that is being deleted, and that a finalizer keeps.
pub(super) const ENDING_OBJECT: &str = "fuzz-ending";

/// The node, which no kubelet runs on.
pub(super) const NODE: &str = "fuzz-node";

/// Makes the requests of one seed.
#[derive(Clone, Debug)]
pub(super) struct Maker {
    seed: u64,
    kinds: Vec<Kind>,
}

impl Maker {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, kinds: Kind::all() }
    }

    /// The request of this number.
    pub(super) fn request(&self, index: u64) -> Request {
        let random = &mut Random::of(self.seed, index);
        let verb = random.pick(&Verb::ALL);
        // Nothing runs that could be connected to, and a Namespace is finalized for good.
        let open = random.percent(12) && verb != Verb::Finalize && !verb.is_connect();
        let usable =
            |kind: &&Kind| verb.fits(kind) && if open { !kind.engine && !kind.cluster } else { !kind.unguarded };
        let kinds: Vec<&Kind> = self.kinds.iter().filter(usable).collect();
        let kind = random.pick(&kinds);
        let (aim, who) = match open {
            true => (Aim::Open, Who::person(random)),
            // Service accounts may write the status of what deploys nothing.
            false if verb == Verb::Status && !kind.engine => (Aim::Guarded, Who::no_account(random)),
            false => (Aim::Guarded, Who::anybody(random)),
        };
        let namespace = namespace(random, (verb, kind), aim);
        let draft = Draft { verb, kind, namespace, aim, dry_run: false, random };
        let mut request = draft.request();
        (request.seed, request.index, request.login) = (self.seed, index, who.login);
        request.headers.splice(0..0, who.headers);
        request
    }
}

fn namespace(random: &mut Random, (verb, kind): (Verb, &Kind), aim: Aim) -> &'static str {
    match (aim, random.below(10)) {
        // To apply one that has just gone makes one, with another label: not prod.
        (Aim::Guarded, 8 | 9) if verb == Verb::Apply && kind.cluster => random.pick(&COMING),
        // What everybody may write, everybody may write in prod.
        (Aim::Open, 0..=4) if kind.unguarded => random.pick(&FULL),
        (Aim::Open, _) => random.pick(&OPEN),
        // What deploys is guarded wherever it lives.
        (Aim::Guarded, 0..=3) if kind.engine => random.pick(&OPEN),
        (Aim::Guarded, 0..=6) => random.pick(&FULL),
        (Aim::Guarded, 7) => random.pick(&OTHERS),
        (Aim::Guarded, 8) => random.pick(&COMING),
        (Aim::Guarded, _) => random.pick(&TURNING),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_same_seed_makes_the_same_requests_and_another_one_others() {
        let all = |seed: u64| (0..2_000).map(|index| Maker::new(seed).request(index)).collect::<Vec<_>>();
        let (one, again, other) = (all(1), all(1), all(2));
        assert_eq!(one, again);
        let same = one.iter().zip(&other).filter(|(one, other)| one.to_string()[7..] == other.to_string()[7..]).count();
        assert!(same < one.len() / 100, "{same}");
    }

    #[test]
    fn every_verb_and_kind_is_made_and_what_is_guarded_is_not_aimed_at_as_open() {
        let maker = Maker::new(7);
        let requests: Vec<Request> = (0..20_000).map(|index| maker.request(index)).collect();
        let verbs: BTreeSet<Verb> = requests.iter().map(|request| request.verb).collect();
        let kinds: BTreeSet<&str> = requests.iter().map(|request| request.kind.as_str()).collect();
        assert_eq!((verbs.len(), kinds.len()), (Verb::ALL.len(), Kind::all().len()));
        let open: Vec<&Request> = requests.iter().filter(|request| request.aim == Aim::Open).collect();
        assert!((1_000..4_000).contains(&open.len()), "{}", open.len());
        for request in open {
            let unguarded = request.path.contains("/leases") || request.path.contains("/events");
            let place = OPEN.iter().any(|place| request.path.contains(place));
            assert!(unguarded || place, "{request}");
        }
    }
}
