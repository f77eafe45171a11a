//! Which stamp an object has to carry once a write is through, and whether the one that it carries is ours and true.

use chrono::{DateTime, TimeDelta, Utc};

use crate::api::{BreakglassToken, Timestamp};
use crate::cover::CLOCK_SKEW;
use crate::decide::Decision;
use crate::diff;
use crate::seal::{Claim, Key};
use crate::stamp::{self, Keys, Stamp, UnderToken};
use crate::write::{Verb, Write};

/// How long after it was made a stamp may still be the one of the same request: the longest timeout of a webhook.
const REQUEST_LIFETIME: TimeDelta = TimeDelta::seconds(30);

/// What a stamp is made with.
#[derive(Clone, Copy, Debug)]
pub struct Ink<'i> {
    /// The cluster's key.
    pub key: &'i Key,
    /// The webhook's clock.
    pub now: DateTime<Utc>,
    /// A random number, new for each call.
    pub random: u32,
}

/// What is known of the object's earlier changes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Past<'p> {
    /// A change that has a record already, so that its stamp on a new object is a copy and not an earlier pass.
    pub replayed: Option<&'p str>,
    /// Whether the write puts the object back to what it was before its pending changes.
    pub undone: bool,
}

/// The values that our keys must have on the object of this write; `None` where they are not to be touched.
///
/// What the client sends in our keys counts for nothing, with one exception: a stamp of this very request, which an
/// earlier pass of the mutating call put there, stays as it is.
pub fn wanted_keys(write: &Write<'_>, decision: &Decision<'_>, ink: Ink<'_>, past: Past<'_>) -> Option<Keys> {
    let after = write.after.as_ref().filter(|_| matches!(write.verb, Verb::Create | Verb::Update))?;
    let token = match decision {
        Decision::Pass | Decision::Refuse(_) | Decision::Rehearse(_) => return None,
        Decision::Leave => return Some(kept(write)),
        Decision::Note | Decision::Tolerate(_) => None,
        Decision::Admit { token, .. } => Some(*token),
    };
    // A subresource is no way to put a stamp on, to take one off, or to make one up.
    if !write.can_carry_stamp() || changes_nothing(write) {
        return Some(kept(write));
    }
    if past.undone {
        return Some(Keys::default());
    }
    let present = Keys::of_object(Some(after));
    let copied = past.replayed.is_some() && present.annotation(stamp::CHANGE) == past.replayed;
    if !copied && is_true(write, token, ink.key, ink.now) {
        return Some(present);
    }
    let time = Timestamp::new(ink.now);
    let change = token.map(|token| Claim::new(write, token, time).name(ink.key, ink.random));
    Some(stamp(write, token, time, change).keys())
}

/// The stamp of a write at a time, under a token with the name of its change.
pub fn stamp(write: &Write<'_>, token: Option<&BreakglassToken>, time: Timestamp, change: Option<String>) -> Stamp {
    let under = token.zip(change).map(|(token, change)| UnderToken {
        incident: token.spec.incident.clone(),
        token: token.metadata.name.clone().unwrap_or_default(),
        change,
    });
    let user = write.requester.user.clone();
    Stamp { user, time, operation: write.operation(), manager: write.manager.clone(), under }
}

/// Whether the object of this write carries the stamp of this very write, made by us.
pub fn is_true(write: &Write<'_>, token: Option<&BreakglassToken>, key: &Key, now: DateTime<Utc>) -> bool {
    let Some(after) = &write.after else { return false };
    let present = Keys::of_object(Some(after));
    let Some(time) = Stamp::time_in(&present) else { return false };
    let age = now - time.instant();
    // Under a token the proof is in the name of the change, and the clocks of two replicas may differ. Without one the
    // time is all there is: take only what can be an earlier pass of the same request.
    let window = if token.is_some() { CLOCK_SKEW + REQUEST_LIFETIME } else { REQUEST_LIFETIME };
    let earliest = if token.is_some() { -CLOCK_SKEW } else { TimeDelta::zero() };
    if age < earliest || age > window {
        return false;
    }
    let change = present.annotation(stamp::CHANGE).unwrap_or_default().to_owned();
    let proven = token
        .is_none_or(|token| Claim::candidates(write, token, time).iter().any(|claim| claim.verifies(key, &change)));
    proven && stamp(write, token, time, Some(change)).keys() == present
}

/// Whether the write leaves everything as it is but for managedFields, resourceVersion, generation and our keys.
pub fn changes_nothing(write: &Write<'_>) -> bool {
    match (&write.before, &write.after) {
        (Some(before), Some(after)) if write.verb == Verb::Update => {
            diff::changes_nothing(&write.resource, before, after)
        }
        _ => false,
    }
}

/// Whether our keys are what they were before the write.
pub fn keeps_keys(write: &Write<'_>) -> bool {
    write.after.as_ref().is_none_or(|after| Keys::of_object(Some(after)) == kept(write))
}

/// Whether the object carries a stamp that this write without a token cannot have: somebody else's, or one of a token's.
pub fn is_false(write: &Write<'_>) -> bool {
    let present = Keys::of_object(write.after.as_ref());
    let user = present.annotation(stamp::USER).is_some_and(|user| user != write.requester.user);
    let token = [stamp::INCIDENT, stamp::TOKEN, stamp::CHANGE].iter().any(|key| present.annotation(key).is_some());
    (user || token) && !keeps_keys(write)
}

/// Our keys as they were before the write.
fn kept(write: &Write<'_>) -> Keys {
    Keys::of_object(write.before.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patch::patch;
    use crate::write::{Object, Requester, Resource};
    use serde_json::value::RawValue;
    use serde_json::{Value, json};

    fn noon() -> DateTime<Utc> {
        "2026-11-20T12:00:00Z".parse().unwrap()
    }

    fn token() -> BreakglassToken {
        serde_json::from_value(json!({
            "apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassToken",
            "metadata": {"name": "inc-123-aaaaa", "uid": "t1"},
            "spec": {"incident": "INC-123", "reason": "r", "user": "alice@example.com", "environment": "prod",
                     "openedAt": "2026-11-20T11:30:00Z", "expiresAt": "2026-11-20T12:30:00Z"},
        }))
        .unwrap()
    }

    fn raw(value: &Value) -> Box<RawValue> {
        serde_json::from_str(&value.to_string()).unwrap()
    }

    fn config_map(metadata: Value, data: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"k": data}})
    }

    fn write<'a>(before: Option<&'a RawValue>, after: &'a RawValue) -> Write<'a> {
        Write {
            verb: if before.is_some() { Verb::Update } else { Verb::Create },
            resource: Resource {
                version: "v1".to_owned(),
                plural: "configmaps".to_owned(),
                kind: "ConfigMap".to_owned(),
                ..Default::default()
            },
            namespace: Some("prod".to_owned()),
            name: Object::new(after).metadata.name,
            requester: Requester { user: "alice@example.com".to_owned(), ..Default::default() },
            before: before.map(Object::new),
            after: Some(Object::new(after)),
            dry_run: false,
            manager: "kubectl".to_owned(),
        }
    }

    /// The object as the mutating call leaves it.
    fn stamped(write: &Write<'_>, decision: &Decision<'_>, random: u32) -> Value {
        let key = Key::new([7; 32]);
        let ink = Ink { key: &key, now: noon(), random };
        let after = write.after.as_ref().unwrap();
        let mut object: Value = serde_json::from_str(after.raw.get()).unwrap();
        if let Some(keys) = wanted_keys(write, decision, ink, Past::default()) {
            let steps = serde_json::to_value(patch(&after.metadata, &keys)).unwrap();
            json_patch::patch(&mut object, &serde_json::from_value::<json_patch::Patch>(steps).unwrap()).unwrap();
        }
        object
    }

    fn admitted<'k>(token: &'k BreakglassToken, rules: &'k crate::rules::Rules) -> Decision<'k> {
        Decision::Admit { token, environment: rules.environment_named("prod").unwrap() }
    }

    #[test]
    fn a_stamp_is_true_for_its_own_write_and_for_no_other() {
        let (rules, token, key) = (crate::rules::Rules::built_in().unwrap(), token(), Key::new([7; 32]));
        let admit = admitted(&token, &rules);
        let before = raw(&config_map(json!({"name": "a", "uid": "u", "resourceVersion": "5"}), "old"));
        let after = raw(&config_map(json!({"name": "a", "uid": "u", "resourceVersion": "5"}), "new"));
        let object = raw(&stamped(&write(Some(&before), &after), &admit, 1));
        let of = |before: &RawValue, change: &dyn Fn(&mut Write<'_>)| {
            let mut write = write(Some(before), &object);
            change(&mut write);
            is_true(&write, Some(&token), &key, noon())
        };
        assert!(of(&before, &|_| {}));
        assert!(!of(&before, &|write| write.requester.user = "bob@example.com".to_owned()));
        assert!(!of(&before, &|write| write.namespace = Some("prod-eu".to_owned())));
        assert!(!of(&before, &|write| write.name = "b".to_owned()));
        let later = raw(&config_map(json!({"name": "a", "uid": "u", "resourceVersion": "6"}), "old"));
        assert!(!of(&later, &|_| {}), "a stamp for one state of the object is none for the next");
        let other = BreakglassToken {
            metadata: kube::core::ObjectMeta { uid: Some("t2".into()), ..token.metadata.clone() },
            ..token.clone()
        };
        assert!(!is_true(&write(Some(&before), &object), Some(&other), &key, noon()));
        assert!(!is_true(&write(Some(&before), &object), Some(&token), &Key::new([8; 32]), noon()));
        assert!(!is_true(&write(Some(&before), &object), Some(&token), &key, noon() + TimeDelta::minutes(6)));
    }

    #[test]
    fn forged_keys_are_replaced_and_dropped_ones_come_back() {
        let (rules, token) = (crate::rules::Rules::built_in().unwrap(), token());
        let forged = json!({"name": "a", "annotations": {stamp::USER: "bob@example.com", stamp::TIME: "2026-11-20T12:00:00Z",
            stamp::CHANGE: "inc-123-0000000000000000", "keep": "me"}, "labels": {stamp::STATE: "accepted"}});
        let create = raw(&config_map(forged, "v"));
        for (decision, state) in [(admitted(&token, &rules), "pending"), (Decision::Note, "noted")] {
            let object = stamped(&write(None, &create), &decision, 1);
            let annotations = &object["metadata"]["annotations"];
            assert_eq!(annotations[stamp::USER], "alice@example.com");
            assert_eq!(annotations["keep"], "me");
            assert_ne!(annotations[stamp::CHANGE], "inc-123-0000000000000000");
            assert_eq!(object["metadata"]["labels"][stamp::STATE], state);
        }
        let old = raw(
            &json!({"metadata": {"name": "a", "annotations": {stamp::USER: "carol@example.com"}}, "data": {"k": "v"}}),
        );
        let dropped = raw(&json!({"metadata": {"name": "a"}, "data": {"k": "v"}}));
        for decision in [admitted(&token, &rules), Decision::Note, Decision::Leave] {
            let object = stamped(&write(Some(&old), &dropped), &decision, 1);
            assert_eq!(object["metadata"]["annotations"], json!({stamp::USER: "carol@example.com"}), "{decision:?}");
        }
    }

    #[test]
    fn a_second_pass_changes_nothing_and_a_replay_is_stamped_anew() {
        let (rules, token, key) = (crate::rules::Rules::built_in().unwrap(), token(), Key::new([7; 32]));
        let generated = raw(&config_map(json!({"generateName": "a-"}), "v"));
        let named = raw(&config_map(json!({"name": "a"}), "v"));
        for create in [&generated, &named] {
            for decision in [admitted(&token, &rules), Decision::Note] {
                let first = stamped(&write(None, create), &decision, 1);
                let again = raw(&first);
                assert_eq!(stamped(&write(None, &again), &decision, 2 << 20), first, "{decision:?}");
            }
        }
        let first = raw(&stamped(&write(None, &named), &admitted(&token, &rules), 1));
        let change = Object::new(&first).metadata.annotations()[stamp::CHANGE].clone();
        let ink = Ink { key: &key, now: noon(), random: 2 << 20 };
        let past = Past { replayed: Some(&change), undone: false };
        let keys = wanted_keys(&write(None, &first), &admitted(&token, &rules), ink, past).unwrap();
        assert_ne!(keys.annotation(stamp::CHANGE), Some(change.as_str()));
    }

    #[test]
    fn a_generated_name_still_verifies() {
        let (rules, token, key) = (crate::rules::Rules::built_in().unwrap(), token(), Key::new([7; 32]));
        let generated = raw(&config_map(json!({"generateName": "a-"}), "v"));
        let mut object = stamped(&write(None, &generated), &admitted(&token, &rules), 1);
        object["metadata"]["name"] = json!("a-x7k2m");
        let final_object = raw(&object);
        assert!(is_true(&write(None, &final_object), Some(&token), &key, noon()));
        object["metadata"]["name"] = json!("b-x7k2m");
        let other = raw(&object);
        assert!(!is_true(&write(None, &other), Some(&token), &key, noon()));
    }
}
