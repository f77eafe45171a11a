//! What became of a write is said when it is proven, and what was said once is not taken back.

use super::record::recorded;
use super::*;
use crate::api::{BreakglassChangeSpec, Operation};
use crate::fate::{Fate, History, Link, Live, NEVER_AFTER, fate, leaves_no_stamp};
use crate::record::without_noise;
use std::collections::BTreeMap;

const ME: &str = "me";
const NAMES: [&str; 6] = [ME, "a", "b", "c", "d", "e"];

/// The changes that are on record.
#[derive(Clone, Debug)]
struct Ledger(BTreeMap<&'static str, Link>);

impl History for Ledger {
    fn link(&self, name: &str) -> Option<Link> {
        self.0.get(name).cloned()
    }

    fn is_followed(&self, name: &str) -> bool {
        self.0.values().any(|link| link.follows.as_deref() == Some(name))
    }
}

/// What is there, as a value that can be kept.
#[derive(Clone, Debug)]
enum There {
    Nothing,
    Object { uid: &'static str, leaving: bool, change: Option<&'static str> },
}

impl There {
    fn live(&self) -> Live<'_> {
        match *self {
            Self::Nothing => Live::Absent,
            Self::Object { uid, leaving, change } => Live::Present { uid, leaving, change, body: None },
        }
    }
}

fn name() -> impl Strategy<Value = Option<&'static str>> {
    proptest::option::weighted(0.8, proptest::sample::select(&NAMES[..]))
}

fn link() -> impl Strategy<Value = Link> {
    let attempt = proptest::option::weighted(0.9, prop_oneof![Just("1".to_owned()), Just("2".to_owned())]);
    (name(), attempt).prop_map(|(follows, attempt)| Link { follows: follows.map(str::to_owned), attempt })
}

/// Everything that could be on record of one object, loops included: of a ledger that somebody tampered with, too.
fn ledger() -> impl Strategy<Value = Ledger> {
    proptest::collection::btree_map(proptest::sample::select(&NAMES[..]), link(), 0..7).prop_map(Ledger)
}

fn there() -> impl Strategy<Value = There> {
    let object = (prop_oneof![4 => Just("u"), 1 => Just("v")], any::<bool>(), name())
        .prop_map(|(uid, leaving, change)| There::Object { uid, leaving, change });
    prop_oneof![1 => Just(There::Nothing), 5 => object]
}

fn change() -> impl Strategy<Value = BreakglassChangeSpec> {
    let operation = proptest::sample::select(vec!["Update", "Update", "Create", "Delete", "Scale", "Evict", "Exec"]);
    let subresource = proptest::option::weighted(0.2, prop_oneof![Just("status"), Just("scale"), Just("eviction")]);
    (operation, subresource, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(operation, subresource, new, undoes, uid)| {
            let undoes = if undoes && operation == "Update" && subresource.is_none() { vec!["a"] } else { vec![] };
            serde_json::from_value(json!({"token": "t", "incident": "INC-1", "user": ALICE, "operation": operation,
            "time": "2026-11-20T12:00:00Z", "environment": "prod", "subresource": subresource, "undoes": undoes,
            "target": {"apiVersion": "v1", "kind": "ConfigMap", "resource": "configmaps", "name": "a",
                "uid": uid.then_some("u")},
            "before": if new { None } else { Some(json!({})) }, "patch": [], "decideBy": "2026-11-21T12:00:00Z"}))
            .unwrap()
        },
    )
}

const SOON: TimeDelta = NEVER_AFTER;

fn late() -> TimeDelta {
    NEVER_AFTER + TimeDelta::milliseconds(1)
}

/// Whether the ledger leads from what the object carries back to what `me` found, past another attempt of the same
/// write and not past `me`.
fn leads_back_past_another_attempt(me: &Link, there: &There, ledger: &Ledger) -> bool {
    let There::Object { change, .. } = there else { return false };
    let (mut at, mut another) = (change.map(str::to_owned), false);
    for _ in 0..=NAMES.len() {
        if at == me.follows {
            return another;
        }
        let Some(name) = at.filter(|name| name != ME) else { return false };
        let Some(link) = ledger.link(&name) else { return false };
        another |= link.attempt.is_some() && link.attempt == me.attempt;
        at = link.follows;
    }
    false
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16 * ProptestConfig::default().cases))]

    /// A record is given up for another one only where that one is proven to stand for the same write.
    #[test]
    fn a_write_was_tried_again_only_where_the_history_says_so(
        change in change(), me in link(), ledger in ledger(), there in there(),
    ) {
        for age in [SOON, late()] {
            if fate(ME, &change, &me, there.live(), &ledger, age) == Fate::Retried {
                prop_assert!(leads_back_past_another_attempt(&me, &there, &ledger));
                prop_assert!(!ledger.is_followed(ME));
            }
        }
    }

    /// The record of a write comes to the ledger's watcher sooner or later: what has landed before has landed after.
    #[test]
    fn what_has_landed_has_landed_whatever_comes_on_record(
        change in change(), me in link(), ledger in ledger(), more in ledger(), there in there(), over in any::<bool>(),
    ) {
        let age = if over { late() } else { SOON };
        let mut all = ledger.clone();
        for (name, link) in more.0 {
            all.0.entry(name).or_insert(link);
        }
        if fate(ME, &change, &me, there.live(), &ledger, age) == Fate::Landed {
            prop_assert_eq!(fate(ME, &change, &me, there.live(), &all, age), Fate::Landed);
        }
    }

    /// Time alone proves nothing but that a write will never be, and that only from its end on.
    #[test]
    fn time_only_turns_what_is_open_into_never(change in change(), me in link(), ledger in ledger(), there in there()) {
        let [soon, late] = [SOON, late()].map(|age| fate(ME, &change, &me, there.live(), &ledger, age));
        prop_assert_ne!(soon, Fate::Never);
        prop_assert!(soon == late || (soon, late) == (Fate::Open, Fate::Never), "{soon:?} {late:?}");
    }

    /// What carries the stamp has landed, and so has what some other write found.
    #[test]
    fn what_is_seen_has_landed(change in change(), me in link(), ledger in ledger(), leaving in any::<bool>()) {
        let stays = !matches!(change.operation, Operation::Delete | Operation::Evict) && !leaves_no_stamp(&change);
        let seen = There::Object { uid: "u", leaving, change: Some(ME) };
        if stays {
            prop_assert_eq!(fate(ME, &change, &me, seen.live(), &ledger, SOON), Fate::Landed);
        }
        if ledger.is_followed(ME) {
            prop_assert_eq!(fate(ME, &change, &me, Live::Absent, &ledger, SOON), Fate::Landed);
        }
    }
}

/// The object carries the stamp of a faster write, and the undo is lost: that the watch has not told of that write yet
/// is no proof of the contrary.
#[test]
fn an_undo_has_not_landed_because_a_faster_write_is_not_on_record_yet() {
    let undo: BreakglassChangeSpec = serde_json::from_value(json!({"token": "t", "incident": "INC-1", "user": ALICE,
        "operation": "Update", "time": "2026-11-20T12:00:00Z", "environment": "prod", "undoes": ["a"],
        "target": {"apiVersion": "v1", "kind": "ConfigMap", "resource": "configmaps", "name": "a", "uid": "u"},
        "before": {}, "patch": [], "decideBy": "2026-11-21T12:00:00Z"}))
    .unwrap();
    let after = |name: &str| Link { follows: Some(name.to_owned()), attempt: None };
    let faster = There::Object { uid: "u", leaving: false, change: Some("b") };
    let told = |ledger: &Ledger| [SOON, late()].map(|age| fate(ME, &undo, &after("a"), faster.live(), ledger, age));
    let mut ledger = Ledger(BTreeMap::from([("a", Link::default())]));
    assert_eq!(told(&ledger), [Fate::Open, Fate::Never], "before the faster write is known");
    ledger.0.insert("b", after("a"));
    assert_eq!(told(&ledger), [Fate::Open, Fate::Never], "after it is known");
}

proptest! {
    /// A write below an object, which leaves no stamp, has landed when the object is what the record says it became.
    #[test]
    fn what_leaves_no_stamp_has_landed_when_the_object_is_what_it_became(sent in sent(), before in object()) {
        let sent = Sent { before: Some(before), verb: Verb::Update, ..sent };
        let (Some(before), Some(after)) = (&sent.before, &sent.after) else { return Ok(()) };
        let status = sent.resource.subresource.as_deref() == Some("status");
        let (was, is) = (without_noise(before.clone(), status), without_noise(after.clone(), status));
        let spec = recorded(&sent, &rules(json!({"redact": []}))).spec;
        if leaves_no_stamp(&spec) && was != is {
            let told = |body| {
                let live = Live::Present { uid: "u", leaving: false, change: None, body: Some(body) };
                fate(ME, &spec, &Link::default(), live, &Ledger(BTreeMap::new()), late())
            };
            prop_assert_eq!(told(&is), Fate::Landed);
            prop_assert_eq!(told(&was), Fate::Never);
        }
    }
}
