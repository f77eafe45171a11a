//! Our keys are a function of the object as it was, who really asked, when, and what changed; and of nothing else.

use super::*;
use crate::api::Timestamp;
use crate::cover::CLOCK_SKEW;
use crate::decide::{Decision, Known, decide};
use crate::mark::{self, Ink, Past};
use crate::patch::{Step, patch};
use crate::seal::Claim;
use crate::writer::Writer;
use std::collections::BTreeMap;

/// Policies that lead to every decision.
fn policy() -> impl Strategy<Value = Rules> {
    let policies = [
        json!({}),
        json!({"mode": "Warn", "clusterScoped": "RequireToken"}),
        json!({"environments": [{"name": "prod", "namespaces": ["prod"], "writes": "Stamp", "exec": "RequireToken"},
            {"name": "dev", "namespaces": ["dev"], "writes": "Ignore"}]}),
    ];
    proptest::sample::select(policies.into_iter().map(rules).collect::<Vec<_>>())
}

/// What lets a write in: tokens of two people, one of each environment.
fn tokens() -> Vec<BreakglassToken> {
    [ALICE, ROBOT]
        .into_iter()
        .flat_map(|user| ["prod", "platform", "cluster"].map(|environment| (user, environment)))
        .enumerate()
        .map(|(index, (user, environment))| token(&format!("inc-123-aaaa{index}"), user, environment))
        .collect()
}

/// The mutating call's answer.
#[derive(Debug, PartialEq)]
struct Stamped {
    steps: Vec<Step>,
    object: Value,
}

impl Stamped {
    fn keys(&self) -> Keys {
        keys_of(&self.object)
    }
}

/// What a write is asked about in each property.
#[derive(Clone, Debug)]
struct Scene {
    rules: Rules,
    tokens: Vec<BreakglassToken>,
    now: DateTime<Utc>,
    random: u32,
    undone: bool,
    replayed: Option<String>,
}

impl Scene {
    fn decision(&self, write: &Write<'_>) -> Decision<'_> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        let known = Known { rules: &self.rules, namespace_labels: &NONE, tokens: &self.tokens, now: self.now };
        decide(write, &Writer::Direct, known)
    }

    /// The decision in a word.
    fn word(&self, sent: &Sent) -> &'static str {
        sent.ask(|write| self.decision(write).as_str())
    }

    /// As the webhook asks: what is undone is only asked under a token.
    fn past(&self, decision: &Decision<'_>) -> Past<'_> {
        let admitted = matches!(decision, Decision::Admit { .. });
        Past { replayed: self.replayed.as_deref(), undone: self.undone && admitted }
    }

    /// The object as the mutating call leaves it; `None` where it does not touch it.
    fn stamped(&self, sent: &Sent) -> Option<Stamped> {
        let key = key();
        let ink = Ink { key: &key, now: self.now, random: self.random };
        let steps = sent.ask(|write| {
            let decision = self.decision(write);
            let keys = mark::wanted_keys(write, &decision, ink, self.past(&decision))?;
            Some(patch(&write.after.as_ref()?.metadata, &keys))
        })?;
        let object = applied(sent.after.as_ref()?, &steps);
        Some(Stamped { steps, object })
    }

    /// Whether the object carries a stamp of this very request.
    fn is_true(&self, sent: &Sent) -> bool {
        sent.ask(|write| {
            let token = match self.decision(write) {
                Decision::Admit { token, .. } => Some(token),
                _ => None,
            };
            mark::is_true(write, token, &key(), self.now)
        })
    }
}

fn scene() -> impl Strategy<Value = Scene> {
    let mostly = || proptest::bool::weighted(0.8);
    (policy(), mostly(), any::<u32>(), mostly()).prop_map(|(rules, with, random, not_undone)| {
        let undone = !not_undone;
        let tokens = if with { tokens() } else { Vec::new() };
        Scene { rules, tokens, now: noon(), random, undone, replayed: None }
    })
}

/// What a client may send in our keys.
#[derive(Clone, Debug)]
enum Forged {
    /// Anything.
    Keys(Keys),
    /// What a write that needs no token is stamped with so many seconds ago, but for one annotation.
    Note(i64, Option<&'static str>),
}

impl Forged {
    fn keys(self, sent: &Sent, now: DateTime<Utc>) -> Keys {
        match self {
            Self::Keys(keys) => keys,
            Self::Note(seconds, but) => {
                let time = Timestamp::new(now - TimeDelta::seconds(seconds));
                let mut keys = sent.ask(|write| mark::stamp(write, None, time, None).keys());
                if let Some(value) = but.and_then(|key| keys.annotations.get_mut(key)) {
                    value.push('x');
                }
                keys
            }
        }
    }
}

fn forged() -> impl Strategy<Value = Forged> {
    let but = proptest::option::of(proptest::sample::select(&stamp::ANNOTATIONS[..4]));
    let seconds = prop_oneof![Just(-1i64), 0..29i64, 29..32i64, 32..1_000i64];
    prop_oneof![any_keys().prop_map(Forged::Keys), (seconds, but).prop_map(|(seconds, but)| Forged::Note(seconds, but))]
}

/// A write that effects nothing: only what the server keeps, and what is ours, differs.
fn noise() -> impl Strategy<Value = Value> {
    (1u32..9, json(), any::<bool>()).prop_map(|(version, managed, whole)| {
        let mut noise = json!({"resourceVersion": version.to_string(), "generation": version,
            "managedFields": [{"manager": "n", "fieldsV1": managed}]});
        if whole {
            noise["creationTimestamp"] = json!("2026-11-20T00:00:00Z");
            noise["uid"] = json!("u");
        }
        noise
    })
}

/// Something that a write can change besides.
fn effect() -> impl Strategy<Value = (&'static str, Value)> {
    prop_oneof![
        Just(("/data", json!("another"))),
        Just(("/more", json!(null))),
        Just(("/metadata/annotations", json!({"breakglass.dev/userx": "c"}))),
        Just(("/metadata/labels", json!({"breakglass.dev/states": "c"}))),
        Just(("/metadata/finalizers", json!(["another"]))),
        Just(("/metadata/ownerReferences", json!([]))),
        Just(("/metadata/deletionTimestamp", json!("2026-11-20T12:00:00Z"))),
    ]
}

proptest! {
    /// L-05: what a client sends in our keys makes no difference, on any verb and subresource; only the stamp of this
    /// very request, that an earlier pass left, stays.
    #[test]
    fn what_a_client_sends_in_our_keys_makes_no_difference(sent in sent(), scene in scene(), forged in forged()) {
        let forged = sent.with(&forged.keys(&sent, scene.now));
        let (word, said) = (scene.word(&sent), scene.word(&forged));
        // A robot's status is left alone only while it leaves the metadata alone.
        prop_assert!(word == said || word == "Leave", "{word} {said}");
        let (Some(plain), Some(result)) = (scene.stamped(&sent), scene.stamped(&forged)) else {
            prop_assert_eq!(scene.stamped(&forged), None);
            return Ok(());
        };
        if plain.keys() != result.keys() {
            // Without a token nothing proves a stamp but that it is young, and says what this one would say.
            prop_assert!(scene.is_true(&forged));
            prop_assert_eq!(result.keys(), keys_of(forged.after.as_ref().unwrap()));
            let (mut expected, said) = (plain.keys(), result.keys());
            let time: Timestamp = said.annotation(stamp::TIME).unwrap().parse().unwrap();
            let age = scene.now - time.instant();
            prop_assert!(age >= TimeDelta::zero() && age <= TimeDelta::seconds(30), "{age}");
            expected.annotations.insert(stamp::TIME, said.annotations[stamp::TIME].clone());
            prop_assert_eq!(expected, said);
        }
        prop_assert_eq!(without_ours(&result.object), without_ours(&plain.object));
    }

    /// A stamp of ours is worth nothing on another object, for another user, or on another version.
    #[test]
    fn a_stamp_that_was_made_for_another_write_makes_no_difference(
        sent in sent(), scene in scene(), which in 0..6, seconds in 0..3i64,
    ) {
        let mut other = sent.clone();
        match which {
            0 => other.name = "b".to_owned(),
            1 => other.namespace = Some("prod-eu".to_owned()),
            2 => other.requester.user = if sent.requester.user == ALICE { ROBOT } else { ALICE }.to_owned(),
            3 => other.resource.plural.push('x'),
            4 => match &mut other.before {
                Some(before) => before["metadata"]["resourceVersion"] = json!("77"),
                None => other.verb = Verb::Update,
            },
            _ => match &mut other.before {
                Some(before) => before["metadata"]["uid"] = json!("v"),
                None => other.verb = Verb::Update,
            },
        }
        let made = Timestamp::new(scene.now - TimeDelta::seconds(seconds));
        let keys = other.ask(|write| {
            let Decision::Admit { token, .. } = scene.decision(write) else { return None };
            let change = Claim::new(write, token, made).name(&key(), scene.random.wrapping_add(1));
            Some(mark::stamp(write, Some(token), made, Some(change)).keys())
        });
        if let Some(keys) = keys {
            let (plain, result) = (scene.stamped(&sent), scene.stamped(&sent.with(&keys)));
            prop_assert_eq!(plain.map(|plain| plain.keys()), result.map(|result| result.keys()));
        }
    }

    /// L-12: what the first pass left stays for as long as its request can live, and is replaced when it is a copy.
    #[test]
    fn the_stamp_of_an_earlier_pass_of_this_request_stays(sent in sent(), scene in scene(), later in 0..30i64) {
        let Some(first) = scene.stamped(&sent) else { return Ok(()) };
        let again = Sent { after: Some(first.object.clone()), ..sent };
        let mut scene = scene;
        scene.now += TimeDelta::seconds(later);
        scene.random = scene.random.wrapping_add(1 << 12);
        let second = scene.stamped(&again).unwrap();
        prop_assert_eq!(&second.steps, &vec![]);
        if scene.is_true(&again) && let Some(change) = first.keys().annotation(stamp::CHANGE) {
            scene.replayed = Some(change.to_owned());
            let third = scene.stamped(&again).unwrap();
            prop_assert_eq!(third.keys().annotation(stamp::CHANGE) == Some(change), scene.undone);
        }
    }

    /// F-02 in small, for whole objects: the patch changes our keys on the object itself and nothing else.
    #[test]
    fn the_patch_changes_nothing_but_our_keys(sent in sent(), scene in scene(), keys in any_keys()) {
        let forged = sent.with(&keys);
        if let Some(result) = scene.stamped(&forged) {
            prop_assert_eq!(without_ours(&result.object), without_ours(forged.after.as_ref().unwrap()));
            let ours: Vec<String> = ["annotations", "labels"].map(|section| format!("/metadata/{section}")).into();
            for step in serde_json::to_value(&result.steps).unwrap().as_array().unwrap() {
                let path = step["path"].as_str().unwrap();
                let key = path.rsplit('/').next().unwrap().replace("~1", "/");
                let known = stamp::ANNOTATIONS.contains(&key.as_str()) || stamp::LABELS.contains(&key.as_str());
                prop_assert!(known || (ours.contains(&path.to_owned()) && step["value"] == json!({})), "{}", step);
            }
        }
    }

    /// L-03, L-04: without an effect the keys stay what they were, and where they are untouched there is no patch.
    #[test]
    fn a_write_without_effect_keeps_the_keys(
        sent in sent(), scene in scene(), noise in noise(), keys in any_keys(), dropped in any::<bool>(),
    ) {
        let Some(before) = sent.before.clone().filter(|_| sent.verb == Verb::Update) else { return Ok(()) };
        let mut after = before.clone();
        for (field, value) in noise.as_object().unwrap() {
            after["metadata"][field] = value.clone();
        }
        if ["", "apps"].contains(&sent.resource.group.as_str()) && sent.resource.subresource.is_none() {
            after["status"] = json!("another");
        }
        let sent = Sent { after: Some(after), ..sent };
        if let Some(untouched) = scene.stamped(&sent) {
            prop_assert_eq!(untouched.steps, vec![]);
        }
        let sent = sent.with(&if dropped { Keys::default() } else { keys });
        if let Some(result) = scene.stamped(&sent) {
            prop_assert_eq!(result.keys(), keys_of(&before));
        }
    }

    /// What has an effect is stamped with who and when, wherever a stamp can be carried; nothing passes as no change.
    #[test]
    fn a_write_with_an_effect_is_stamped(sent in sent(), scene in scene(), effect in effect(), keys in any_keys()) {
        let Some(before) = sent.before.clone().filter(|_| sent.verb == Verb::Update) else { return Ok(()) };
        let (pointer, value) = effect;
        let mut after = before.clone();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        after.pointer_mut(parent).unwrap()[field] = value;
        let sent = Sent { after: Some(after), ..sent }.with(&keys);
        let Some(result) = scene.stamped(&sent) else { return Ok(()) };
        let word = scene.word(&sent);
        if sent.resource.subresource.is_some() || word == "Leave" {
            prop_assert_eq!(result.keys(), keys_of(&before));
        } else if scene.undone && word == "Admit" {
            prop_assert!(result.keys().is_empty());
        } else {
            let said = result.keys();
            prop_assert_eq!(said.annotation(stamp::USER), Some(sent.requester.user.as_str()));
            let time: Timestamp = said.annotation(stamp::TIME).unwrap().parse().unwrap();
            prop_assert!((scene.now - time.instant()).abs() <= CLOCK_SKEW);
            prop_assert_eq!(said.annotation(stamp::CHANGE).is_some(), word == "Admit");
            prop_assert_eq!(said.labels[stamp::STATE].as_str(), if word == "Admit" { "pending" } else { "noted" });
        }
    }
}
