//! A record says exactly what was and what became of it, nothing that is to be hidden, and never too much.

use super::*;
use crate::api::BreakglassChange;
use crate::engine::HOLD;
use crate::hold::is_left;
use crate::record::{ATTEMPT, BODY_LIMIT, Circumstances, record, undoes};

/// A value that must stand in no record.
const CANARY: &str = "Y2FuYXJ5";
/// The same as a number.
const CANARY_NUMBER: u64 = 730_155_090_421;

fn circumstances<'c>(token: &'c BreakglassToken, rules: &'c Rules, key: &'c Key) -> Circumstances<'c> {
    let environment = rules.environment_named("prod").unwrap();
    Circumstances { token, environment, rules, key, time: "2026-11-20T12:00:00Z".parse().unwrap(), undoes: &[] }
}

/// The record of a write under this policy.
pub(super) fn recorded(sent: &Sent, rules: &Rules) -> BreakglassChange {
    let (token, key) = (token("inc-123-aaaaa", ALICE, "prod"), key());
    sent.ask(|write| record(write, "inc-123-0000000000000000", circumstances(&token, rules, &key)))
}

/// An object as a record is to hold it: without what the server keeps for itself, and without the status, unless that
/// was written.
fn trimmed(object: &Value, sent: &Sent) -> Value {
    let mut object = object.clone();
    if sent.resource.subresource.as_deref() != Some("status") {
        object.as_object_mut().unwrap().remove("status");
    }
    for field in ["managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink"] {
        object["metadata"].as_object_mut().unwrap().remove(field);
    }
    object
}

/// Whether the object is to go: what the write carries then is not what is left.
fn goes(sent: &Sent) -> bool {
    sent.verb == Verb::Delete || sent.resource.subresource.as_deref() == Some("eviction")
}

fn size(value: &impl serde::Serialize) -> usize {
    serde_json::to_string(value).unwrap().len()
}

/// Replaces every value below, and leaves the names of fields.
fn with_canaries(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), with_canaries(value))).collect(),
        Value::Array(items) => items.iter().map(with_canaries).collect(),
        Value::Null | Value::String(_) => json!(CANARY),
        Value::Bool(_) | Value::Number(_) => json!(CANARY_NUMBER),
    }
}

/// Hides values of every kind that objects here have, each in two places.
fn hiding() -> Rules {
    let kinds = ["", "apps", "example.com"].into_iter().flat_map(|group| {
        ["ConfigMap", "Secret", "Deployment", "Pod", "Widget", "Namespace"]
            .map(|kind| json!({"group": group, "kind": kind, "paths": ["/data", "/nowhere", "/spec/data"]}))
    });
    rules(json!({"redact": kinds.collect::<Vec<_>>()}))
}

/// A write whose objects have a canary wherever something is to be hidden.
fn secret() -> impl Strategy<Value = Sent> {
    let carried =
        |sent: &Sent| !["Scale", "Binding", "TokenRequest", "PodExecOptions"].contains(&sent.resource.kind.as_str());
    let ours = sent().prop_filter("hidden are kinds that hold something", move |sent| {
        carried(sent) && sent.resource.group != "kustomize.toolkit.fluxcd.io"
    });
    (ours, json(), json(), any::<bool>()).prop_map(|(mut sent, old, new, applied)| {
        // A pod that is evicted is looked up, and recorded like one that is deleted.
        if goes(&sent) && sent.before.is_none() {
            sent.before = sent.after.clone();
        }
        for (object, data) in [(&mut sent.before, old), (&mut sent.after, new)] {
            let Some(object) = object else { continue };
            object["data"] = with_canaries(&data);
            object["spec"] = json!({"data": with_canaries(&data), "seen": 1});
            if applied {
                let copy = json!(object["data"].to_string());
                object["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = copy;
            }
        }
        sent
    })
}

/// An update of a ConfigMap, or of what the resource says.
fn update(resource: &Resource, before: Value, after: Value) -> Sent {
    Sent {
        verb: Verb::Update,
        resource: resource.clone(),
        namespace: Some("prod".to_owned()),
        name: "a".to_owned(),
        requester: Requester { user: ALICE.to_owned(), ..Default::default() },
        manager: "kubectl".to_owned(),
        before: Some(before),
        after: Some(after),
    }
}

fn resource(plural: &str, kind: &str, subresource: Option<&str>) -> Resource {
    let (version, subresource) = ("v1".to_owned(), subresource.map(str::to_owned));
    Resource { group: String::new(), version, plural: plural.to_owned(), kind: kind.to_owned(), subresource }
}

fn config_map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "uid": "u"}, "data": data})
}

/// S-21: an eviction is a request of its own kind, and what is recorded is the pod.
#[test]
fn an_evicted_pod_is_hidden_like_a_deleted_one() {
    let rules = rules(json!({"redact": [{"kind": "Pod", "paths": ["/spec/containers"]}]}));
    let pod = json!({"metadata": {"name": "a", "uid": "u"}, "spec": {"containers": [{"env": [{"value": CANARY}]}]}});
    let delete =
        Sent { after: None, verb: Verb::Delete, ..update(&resource("pods", "Pod", None), pod.clone(), json!({})) };
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}});
    let eviction = update(&resource("pods", "Eviction", Some("eviction")), pod, eviction);
    for sent in [delete, Sent { verb: Verb::Create, ..eviction }] {
        let text = serde_json::to_string(&recorded(&sent, &rules)).unwrap();
        assert!(!text.contains(CANARY), "{text}");
    }
}

/// What kubectl create and server-side apply make has no annotations, until it is stamped.
#[test]
fn attempts_to_write_an_object_without_annotations_have_one_name() {
    let attempt = |time: &str| {
        let annotations = [(stamp::USER, ALICE.to_owned()), (stamp::TIME, time.to_owned())].into();
        let stamp = Keys { annotations, labels: [(stamp::STATE, "pending".to_owned())].into() };
        let (old, new) = (config_map(json!({"k": "old"})), config_map(json!({"k": "new"})));
        let change =
            recorded(&update(&resource("configmaps", "ConfigMap", None), old, new).with(&stamp), &rules(json!({})));
        change.metadata.annotations.unwrap()[ATTEMPT].clone()
    };
    assert_eq!(attempt("2026-11-20T12:00:00Z"), attempt("2026-11-20T12:00:01Z"));
}

/// What was recorded is put back some day: a number that went through a reader that rounds is another number.
#[test]
fn a_number_is_recorded_to_its_last_digit() {
    let text = r#"{"metadata":{"name":"a"},"spec":{"weight":0.00010497925690640807}}"#;
    let raw: Box<RawValue> = serde_json::from_str(text).unwrap();
    let sent = update(&resource("widgets", "Widget", None), json!({}), json!({}));
    let (token, rules, key) = (token("inc-123-aaaaa", ALICE, "prod"), Rules::built_in().unwrap(), key());
    let change = sent.ask(|write| {
        let write = Write { before: Some(Object::new(&raw)), ..write.clone() };
        record(&write, "inc-123-0000000000000000", circumstances(&token, &rules, &key))
    });
    let kept = serde_json::to_string(&change.spec.before).unwrap();
    assert!(kept.contains("0.00010497925690640807"), "{kept}");
}

/// What is too large to be kept is gone all the same.
#[test]
fn what_goes_is_gone_in_its_record_however_large_it_was() {
    let large = config_map(json!({"k": "x".repeat(BODY_LIMIT)}));
    let delete = update(&resource("configmaps", "ConfigMap", None), large.clone(), json!({}));
    let eviction = update(&resource("pods", "Eviction", Some("eviction")), large, json!({"kind": "Eviction"}));
    for sent in [Sent { verb: Verb::Delete, after: None, ..delete }, Sent { verb: Verb::Create, ..eviction }] {
        let change = recorded(&sent, &Rules::built_in().unwrap());
        assert!(change.spec.truncated);
        assert_eq!(
            applied(&change.spec.before.unwrap(), &change.spec.patch),
            Value::Null,
            "{:?}",
            change.spec.operation
        );
    }
}

proptest! {
    /// What a change can be put back from: `before` is what was, and `patch` leads from there to what is stored.
    #[test]
    fn before_and_patch_give_what_is_stored(sent in sent()) {
        let change = recorded(&sent, &rules(json!({"redact": []})));
        prop_assert!(!change.spec.truncated);
        let before = sent.before.as_ref().map(|before| trimmed(before, &sent));
        let after = sent.after.as_ref().filter(|_| !goes(&sent)).map(|after| trimmed(after, &sent));
        prop_assert_eq!(&change.spec.before, &before);
        prop_assert_eq!(applied(&before.unwrap_or_default(), &change.spec.patch), after.unwrap_or_default());
        // It comes back from the API server as it went.
        let text = serde_json::to_string(&change).unwrap();
        prop_assert_eq!(serde_json::from_str::<BreakglassChange>(&text).unwrap(), change);
    }

    /// S-21: no value that is to be hidden is anywhere in a record, whatever is done to the object.
    #[test]
    fn no_hidden_value_is_in_a_record(sent in secret()) {
        let change = recorded(&sent, &hiding());
        let text = serde_json::to_string(&change).unwrap();
        prop_assert!(!text.contains(CANARY) && !text.contains(&CANARY_NUMBER.to_string()), "{}", text);
        prop_assert!(!change.spec.truncated);
    }

    /// Of what is hidden it is still to be seen what stayed the same, and what else changed.
    #[test]
    fn hidden_values_that_stay_are_no_step_of_the_patch(sent in secret(), same in json()) {
        let (Some(mut before), Some(mut after)) = (sent.before.clone(), sent.after.clone()) else { return Ok(()) };
        before["data"] = same.clone();
        after["data"] = same;
        let (was, is) = (Some(before.clone()), Some(after.clone()));
        let change = recorded(&Sent { before: was, after: is, verb: Verb::Update, ..sent }, &hiding());
        prop_assert!(change.spec.patch.iter().all(|step| !step.path.starts_with("/data")), "{:?}", change.spec.patch);
        let was = change.spec.before.unwrap();
        let is = applied(&was, &change.spec.patch);
        prop_assert_eq!((&was["kind"], &is["kind"]), (&before["kind"], &after["kind"]));
        prop_assert_eq!(&is["metadata"]["labels"], &after["metadata"]["labels"]);
    }

    /// A change is undone when all is as it was, whatever our keys, the notes of clients, and its own hold say; and not otherwise.
    #[test]
    fn a_change_is_undone_when_all_is_as_it_was(
        sent in sent(), keys in any_keys(), another in any::<bool>(), [holds, held] in any::<[bool; 2]>(),
    ) {
        let Some(before) = sent.before.clone().filter(|_| sent.verb == Verb::Update) else { return Ok(()) };
        if sent.resource.subresource.is_some() {
            return Ok(());
        }
        let mut change = recorded(&sent, &Rules::built_in().unwrap());
        change.spec.hold = holds;
        let mut after = before;
        put(&mut after, &keys);
        after["metadata"]["resourceVersion"] = json!("99");
        after["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = json!("{}");
        after["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = json!("9");
        after["status"] = json!("of another day");
        if another {
            after["metadata"]["annotations"]["example.com/note"] = json!("");
        }
        if held {
            after["metadata"]["annotations"][HOLD.0] = json!(HOLD.1);
        }
        let sent = Sent { after: Some(after), ..sent };
        let (rules, key) = (Rules::built_in().unwrap(), key());
        let expected = !another && (holds || !held);
        prop_assert_eq!(sent.ask(|write| undoes(write, &rules, &key, &[change.clone()])), expected);
        prop_assert!(!sent.ask(|write| undoes(write, &rules, &key, &[])));
        prop_assert_eq!(sent.ask(|write| is_left(write, &[change.clone()])), holds && held);
    }

    /// Attempts of one write go by one name, whatever stamp the object carried before and carries in each; another one
    /// has another.
    #[test]
    fn attempts_of_one_write_have_one_name(sent in sent(), stamps in [any_keys(), any_keys()], which in 0..7) {
        let rules = Rules::built_in().unwrap();
        let name = |sent: &Sent| recorded(sent, &rules).metadata.annotations.unwrap()[ATTEMPT].clone();
        let attempt = |time: &str, change: &str, carried: &Keys| {
            let values = [sent.requester.user.as_str(), time, "Update", "kubectl", "INC-123", "inc-123-aaaaa", change];
            let annotations = stamp::ANNOTATIONS.into_iter().zip(values.map(str::to_owned)).collect();
            let labels = [(stamp::STATE, "pending".to_owned())].into();
            let mut attempt = sent.with(&Keys { annotations, labels });
            if let Some(before) = &mut attempt.before {
                put(before, carried);
                before["metadata"]["resourceVersion"] = json!(change);
            }
            attempt
        };
        let first = attempt("2026-11-20T12:00:00Z", "inc-123-1", &stamps[0]);
        let again = attempt("2026-11-20T12:00:01Z", "inc-123-2", &stamps[1]);
        prop_assert_eq!(name(&first), name(&again));
        let mut other = sent;
        match (which, &mut other.before, &mut other.after) {
            (0, ..) => other.requester.user.push('x'),
            (1, ..) => other.namespace = Some("prod-eu".to_owned()),
            (2, ..) => other.name.push('x'),
            (3, ..) => other.resource.plural.push('x'),
            (4, ..) => other.resource.subresource = Some("log".to_owned()),
            (5, ..) => other.manager.push('x'),
            (_, Some(_), Some(after)) => after["data"] = json!("another"),
            _ => return Ok(()),
        }
        prop_assert_ne!(name(&other), name(&first));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 10))]

    /// H-04: what a record takes is bounded, whatever it takes to write it down as JSON.
    #[test]
    fn a_record_is_bounded(
        sent in sent(), old in 0..BODY_LIMIT, new in 0..BODY_LIMIT,
        letter in proptest::sample::select(&["x", "\u{1}", "😀", "<"][..]),
    ) {
        let mut sent = sent;
        for (object, bytes) in [(&mut sent.before, old), (&mut sent.after, new)] {
            if let Some(object) = object {
                object["data"] = json!(letter.repeat(bytes / letter.len()));
            }
        }
        let change = recorded(&sent, &Rules::built_in().unwrap());
        prop_assert!(size(&change.spec.before) + size(&change.spec.patch) <= BODY_LIMIT);
        if change.spec.truncated {
            prop_assert!(size(&change) < 2_000, "{}", size(&change));
        }
    }
}
