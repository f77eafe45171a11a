//! What holds of every write, whatever a client sends, and not of one module alone: properties.

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::api::BreakglassToken;
use crate::rules::Rules;
use crate::seal::Key;
use crate::stamp::{self, Keys};
use crate::write::{Object, Requester, Resource, Verb, Write};
use crate::writer::CREDENTIAL_ID;

// Which environment, and what a token is good for.
mod cover;
// What robots write all the time.
mod robots;
// When a stamp is of this request, and when it is false.
mod mark;
// What becomes of our keys.
mod keys;
// What stands in a record.
mod record;
// What became of a write.
mod fate;

const ALICE: &str = "alice@example.com";
const BOB: &str = "bob@example.com";
/// Automation of nobody's engine: a direct writer, whose writes to status alone are not looked at.
const ROBOT: &str = "system:serviceaccount:prod:operator";

/// In the middle of the tokens below, and of a second.
fn noon() -> DateTime<Utc> {
    "2026-11-20T12:00:00.4Z".parse().unwrap()
}

fn key() -> Key {
    Key::new([7; 32])
}

fn rules(spec: Value) -> Rules {
    Rules::new(serde_json::from_value(spec).unwrap()).unwrap()
}

/// A token for an environment, 11:30 to 12:30.
fn token(name: &str, user: &str, environment: &str) -> BreakglassToken {
    serde_json::from_value(json!({
        "apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassToken",
        "metadata": {"name": name, "uid": format!("uid of {name}")},
        "spec": {"incident": "INC-123", "reason": "r", "user": user, "environment": environment,
                 "openedAt": "2026-11-20T11:30:00Z", "expiresAt": "2026-11-20T12:30:00Z"},
    }))
    .unwrap()
}

fn raw(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap()
}

/// Applies a patch by another hand than the one that made it.
fn applied(document: &Value, steps: &impl serde::Serialize) -> Value {
    let mut document = document.clone();
    let patch: json_patch::Patch = serde_json::from_value(serde_json::to_value(steps).unwrap()).unwrap();
    json_patch::patch(&mut document, &patch).unwrap();
    document
}

/// A write, with the objects that it carries.
#[derive(Clone, Debug)]
struct Sent {
    verb: Verb,
    resource: Resource,
    namespace: Option<String>,
    name: String,
    requester: Requester,
    manager: String,
    before: Option<Value>,
    after: Option<Value>,
}

impl Sent {
    /// Asks something about it.
    fn ask<T>(&self, ask: impl FnOnce(&Write<'_>) -> T) -> T {
        let (before, after) = (self.before.as_ref().map(raw), self.after.as_ref().map(raw));
        ask(&Write {
            verb: self.verb,
            resource: self.resource.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            requester: self.requester.clone(),
            before: before.as_deref().map(Object::new),
            after: after.as_deref().map(Object::new),
            dry_run: false,
            manager: self.manager.clone(),
        })
    }

    /// The same with these of our keys on the object, and no others.
    fn with(&self, keys: &Keys) -> Self {
        let mut sent = self.clone();
        if let Some(after) = &mut sent.after {
            put(after, keys);
        }
        sent
    }
}

/// Gives an object these of our keys, and no others.
fn put(object: &mut Value, keys: &Keys) {
    for (section, ours, keys) in
        [("annotations", &stamp::ANNOTATIONS[..], &keys.annotations), ("labels", &stamp::LABELS[..], &keys.labels)]
    {
        if let Some(map) = object["metadata"].get_mut(section).and_then(Value::as_object_mut) {
            map.retain(|key, _| !ours.contains(&key.as_str()));
        }
        for (key, value) in keys {
            object["metadata"][section][key] = json!(value);
        }
    }
}

/// Our keys on an object.
fn keys_of(object: &Value) -> Keys {
    Keys::of_object(Some(&Object::new(&raw(object))))
}

/// An object without our keys; empty maps count as none.
fn without_ours(object: &Value) -> Value {
    let mut object = object.clone();
    put(&mut object, &Keys::default());
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|field, value| {
            !["annotations", "labels"].contains(&field.as_str()) || value.as_object().is_none_or(|map| !map.is_empty())
        });
    }
    object
}

/// A person, or automation with a credential of its own.
fn requester() -> impl Strategy<Value = Requester> {
    prop_oneof![Just(ALICE), Just(BOB), Just(ROBOT)].prop_map(|user| Requester {
        user: user.to_owned(),
        uid: if user == ROBOT { "7".to_owned() } else { String::new() },
        groups: Vec::new(),
        extra: [(CREDENTIAL_ID.to_owned(), vec![format!("credential of {user}")])].into(),
    })
}

/// What can be written to, and the verbs that the API server calls us with.
fn target() -> impl Strategy<Value = (Resource, Verb)> {
    use Verb::{Connect, Create, Delete, Update};
    let targets = [
        ("", "configmaps", "ConfigMap", None, &[Create, Update, Delete][..]),
        ("", "secrets", "Secret", None, &[Create, Update, Delete]),
        ("apps", "deployments", "Deployment", None, &[Create, Update, Delete]),
        ("apps", "deployments", "Deployment", Some("status"), &[Update]),
        ("apps", "deployments", "Scale", Some("scale"), &[Update]),
        ("", "pods", "Pod", Some("ephemeralcontainers"), &[Update]),
        ("", "pods", "Pod", Some("resize"), &[Update]),
        ("", "pods", "Binding", Some("binding"), &[Create]),
        ("", "pods", "Eviction", Some("eviction"), &[Create]),
        ("", "pods", "PodExecOptions", Some("exec"), &[Connect]),
        ("", "serviceaccounts", "TokenRequest", Some("token"), &[Create]),
        ("", "namespaces", "Namespace", None, &[Create, Update, Delete]),
        ("", "namespaces", "Namespace", Some("finalize"), &[Update]),
        ("example.com", "widgets", "Widget", None, &[Create, Update, Delete]),
        ("example.com", "widgets", "Widget", Some("status"), &[Update]),
        ("kustomize.toolkit.fluxcd.io", "kustomizations", "Kustomization", None, &[Create, Update, Delete]),
    ];
    let all = targets.iter().flat_map(|&(group, plural, kind, subresource, verbs)| {
        let resource = Resource {
            group: group.to_owned(),
            version: "v1".to_owned(),
            plural: plural.to_owned(),
            kind: kind.to_owned(),
            subresource: subresource.map(str::to_owned),
        };
        verbs.iter().map(move |&verb| (resource.clone(), verb))
    });
    proptest::sample::select(all.collect::<Vec<_>>())
}

/// Any JSON, small.
fn json() -> impl Strategy<Value = Value> {
    let text = prop_oneof!["[a-c]{0,2}", ".{0,6}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2i64..3).prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no other numbers", |number| number.is_finite()).prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let key = prop_oneof!["[a-c]", "[a-c/~]{0,3}", ".{0,3}"];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(key, inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

/// Annotations or labels that are not ours, some of them close to it.
fn others() -> impl Strategy<Value = Option<Value>> {
    let key = prop_oneof!["[a-b]", "breakglass.dev/[a-z]x", "example.com/[a-b~]"];
    proptest::option::of(proptest::collection::btree_map(key, "[a-b]{0,2}", 0..3).prop_map(|map| json!(map)))
}

/// An object as the API server writes one, without any of our keys.
fn object() -> impl Strategy<Value = Value> {
    let server = (1u32..4, proptest::option::of(json()), proptest::option::of(json()));
    (others(), others(), server, json(), json()).prop_map(
        |(annotations, labels, (version, managed, finalizers), data, status)| {
            let mut object = json!({"apiVersion": "v1", "kind": "X", "data": data, "status": status,
                "metadata": {"name": "a", "uid": "u", "resourceVersion": version.to_string(), "generation": version}});
            let optional = [
                ("annotations", annotations),
                ("labels", labels),
                ("managedFields", managed.map(|fields| json!([{"manager": "m", "fieldsV1": {"f:x": fields}}]))),
                ("finalizers", finalizers.map(|name| json!([name]))),
            ];
            for (field, value) in optional {
                if let Some(value) = value {
                    object["metadata"][field] = value;
                }
            }
            object
        },
    )
}

/// Our keys with values that a client could think of: true ones among them.
fn any_keys() -> impl Strategy<Value = Keys> {
    let times: Vec<String> = [-3_600, -331, -31, -30, -10, 0, 1, 300, 301]
        .into_iter()
        .map(|seconds| (noon() + TimeDelta::seconds(seconds)).format("%Y-%m-%dT%H:%M:%SZ").to_string())
        .chain(["2026-11-20T13:00:00+01:00".to_owned(), "now".to_owned()])
        .collect();
    let values = |key: &str| match key {
        stamp::USER => vec![ALICE.to_owned(), BOB.to_owned(), ROBOT.to_owned()],
        stamp::TIME => times.clone(),
        stamp::OPERATION => vec!["Create".to_owned(), "Update".to_owned()],
        stamp::MANAGER => vec!["kubectl".to_owned(), String::new()],
        stamp::INCIDENT => vec!["INC-123".to_owned(), "INC-7".to_owned()],
        stamp::TOKEN => vec!["inc-123-aaaaa".to_owned(), "inc-123-zzzzz".to_owned()],
        stamp::CHANGE => vec!["inc-123-0000000000000000".to_owned(), "inc-123-ü".to_owned(), String::new()],
        _ => vec!["pending".to_owned(), "noted".to_owned(), "accepted".to_owned(), String::new()],
    };
    let some = |keys: &[&'static str]| {
        let entries = keys.iter().map(|&key| proptest::option::weighted(0.8, proptest::sample::select(values(key))));
        let keys = keys.to_vec();
        entries.collect::<Vec<_>>().prop_map(move |found| {
            keys.iter().copied().zip(found).filter_map(|(key, value)| Some((key, value?))).collect()
        })
    };
    // What needs no token has no incident: mostly the four that a note consists of.
    prop_oneof![
        3 => (some(&stamp::ANNOTATIONS), some(&stamp::LABELS)),
        2 => (some(&stamp::ANNOTATIONS[..4]), some(&stamp::LABELS)),
        1 => Just(Default::default()),
    ]
    .prop_map(|(annotations, labels)| Keys { annotations, labels })
}

/// Any write, to an object that may carry any stamp; what it sends carries none.
fn sent() -> impl Strategy<Value = Sent> {
    let namespace = prop_oneof![3 => Just(Some("prod")), 1 => Just(Some("dev")), 1 => Just(None)];
    let objects = (object(), object(), any::<bool>(), any_keys()).prop_map(|(mut before, mut after, like, stored)| {
        if like {
            after["metadata"] = before["metadata"].clone();
        }
        put(&mut before, &stored);
        (before, after)
    });
    (target(), namespace, requester(), prop_oneof![Just("kubectl"), Just("")], objects).prop_map(
        |((resource, verb), namespace, requester, manager, (before, after))| {
            let name = if resource.is_namespace() { namespace.unwrap_or("prod") } else { "a" };
            let namespace = if resource.is_namespace() { Some(name) } else { namespace };
            Sent {
                verb,
                namespace: namespace.map(str::to_owned),
                name: name.to_owned(),
                resource,
                requester,
                manager: manager.to_owned(),
                before: matches!(verb, Verb::Update | Verb::Delete).then_some(before),
                after: (verb != Verb::Delete).then_some(after),
            }
        },
    )
}
