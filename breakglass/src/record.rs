//! The record of a write: server noise trimmed, secrets hidden, size bounded.

use serde_json::{Map, Value, json};

use crate::api::{BreakglassChange, BreakglassChangeSpec, BreakglassToken, Environment, Redaction, Target, Timestamp};
use crate::diff::{self, SERVER_METADATA};
use crate::engine::Owner;
use crate::rules::Rules;
use crate::seal::Key;
use crate::stamp::{self, State};
use crate::write::{Object, Resource, Verb, Write};

/// The label of a record that names its incident.
pub const INCIDENT_LABEL: &str = stamp::INCIDENT;
/// The label of a record that names its token.
pub const TOKEN_LABEL: &str = stamp::TOKEN;
/// The label of a record that names the environment written to.
pub const ENVIRONMENT_LABEL: &str = crate::api::ENVIRONMENT_LABEL;
/// The label of a record that names the namespace written to.
pub const NAMESPACE_LABEL: &str = "breakglass.dev/namespace";

/// The most that `before` and `patch` may take together. etcd takes 1.5 MiB in one request, and an object that large is
/// at best twice in a record; half of it leaves room for both sides and for the API server's own copies.
pub const BODY_LIMIT: usize = 512 * 1024;

/// The deepest nesting that is kept. JSON readers commonly stop at 128 levels, and a list of records holds an object some
/// levels down, and its fields once more in managedFields: one record that cannot be read would hide the whole ledger.
const DEPTH_LIMIT: usize = 64;

/// Where kubectl keeps a copy of everything that was applied, secrets too.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What a record says besides the write itself.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'c> {
    /// The token that lets the write in.
    pub token: &'c BreakglassToken,
    /// The environment written to.
    pub environment: &'c Environment,
    /// The policy in force, for what it hides.
    pub rules: &'c Rules,
    /// The key that hides.
    pub key: &'c Key,
    /// The moment that the stamp names.
    pub time: Timestamp,
}

/// The record of a write, under the name that its stamp carries.
pub fn record(write: &Write<'_>, name: &str, circumstances: Circumstances<'_>) -> BreakglassChange {
    let Circumstances { token, environment, time, .. } = circumstances;
    let (before, patch, truncated) = bodies(write, &circumstances);
    let subject = write.before.as_ref().or(write.after.as_ref()).map(|object| &object.metadata);
    let owner = subject.and_then(|metadata| Owner::of(metadata.labels(), metadata.annotations()));
    let uid = [&write.before, &write.after].into_iter().flatten().map(|object| object.metadata.uid.clone());
    let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
    let token_name = token.metadata.name.clone().unwrap_or_default();
    let spec = BreakglassChangeSpec {
        token: token_name.clone(),
        incident: token.spec.incident.clone(),
        user: write.requester.user.clone(),
        credential: write.requester.credential().map(str::to_owned),
        time,
        environment: environment.name.clone(),
        operation: write.operation(),
        subresource: write.resource.subresource.clone(),
        manager: text(&write.manager),
        engine_owner: owner.map(|owner| owner.to_string()),
        target: Target {
            api_version: write.resource.api_version(),
            kind: kind_of_target(&write.resource),
            resource: write.resource.plural.clone(),
            namespace: write.namespace.clone().filter(|_| !write.resource.is_namespace()),
            name: write.object_name().to_owned(),
            uid: uid.into_iter().find(|uid| !uid.is_empty()),
        },
        before,
        patch,
        truncated,
        decide_by: Timestamp::new(time.instant() + environment.debt.decide_within.delta()),
    };
    let mut labels = std::collections::BTreeMap::from([
        (INCIDENT_LABEL.to_owned(), spec.incident.clone()),
        (TOKEN_LABEL.to_owned(), token_name),
        (ENVIRONMENT_LABEL.to_owned(), spec.environment.clone()),
        (stamp::STATE.to_owned(), State::Pending.as_str().to_owned()),
    ]);
    if let Some(namespace) = &write.namespace {
        labels.insert(NAMESPACE_LABEL.to_owned(), namespace.clone());
    }
    let mut change = BreakglassChange::new(name, spec);
    change.metadata.labels = Some(labels);
    change
}

/// The kind of the object that a write goes to. A write to a subresource carries another kind (Scale, Eviction, …); of our
/// own knowledge we name the parents that Kubernetes comes with, and for a custom one say what the review says.
fn kind_of_target(resource: &Resource) -> String {
    let parent = match (resource.group.as_str(), resource.plural.as_str()) {
        _ if resource.subresource.is_none() => None,
        ("", "pods") => Some("Pod"),
        ("", "services") => Some("Service"),
        ("", "namespaces") => Some("Namespace"),
        ("", "replicationcontrollers") => Some("ReplicationController"),
        ("apps", "deployments") => Some("Deployment"),
        ("apps", "replicasets") => Some("ReplicaSet"),
        ("apps", "statefulsets") => Some("StatefulSet"),
        _ => None,
    };
    parent.unwrap_or(&resource.kind).to_owned()
}

type Bodies = (Option<Value>, Vec<crate::api::PatchStep>, bool);

fn bodies(write: &Write<'_>, circumstances: &Circumstances<'_>) -> Bodies {
    let redactions: Vec<&Redaction> = circumstances
        .rules
        .spec()
        .redact
        .iter()
        .filter(|redaction| redaction.group == write.resource.group && redaction.kind == write.resource.kind)
        .collect();
    let read = |object: &Option<Object<'_>>| match object {
        None => Some(None),
        Some(object) => body(object, &redactions, circumstances.key).map(Some),
    };
    // The object of a delete or of a connect is the request's options, not what is left.
    let nothing = None;
    let after = if matches!(write.verb, Verb::Delete) { &nothing } else { &write.after };
    let (Some(before), Some(after)) = (read(&write.before), read(after)) else {
        return hashes(write, circumstances.key);
    };
    let patch = diff::patch_between(before.as_ref(), after.as_ref());
    let size = |value: Result<String, serde_json::Error>| value.map_or(usize::MAX, |text| text.len());
    let total = size(serde_json::to_string(&before)).saturating_add(size(serde_json::to_string(&patch)));
    if total > BODY_LIMIT { hashes(write, circumstances.key) } else { (before, patch, false) }
}

/// What stands in place of bodies that cannot be kept: enough to recognise them, not to restore them.
fn hashes(write: &Write<'_>, key: &Key) -> Bodies {
    let hash = |object: &Object<'_>| json!({"hash": key.hide(object.raw.get()), "bytes": object.raw.get().len()});
    let before = write.before.as_ref().map(hash);
    let after = write.after.as_ref().map(hash);
    let patch = diff::patch_between(None, after.as_ref());
    (before, patch, true)
}

/// An object as a record keeps it; `None` where it is nested deeper than can be kept.
fn body(object: &Object<'_>, redactions: &[&Redaction], key: &Key) -> Option<Value> {
    if depth(object.raw.get()) > DEPTH_LIMIT {
        return None;
    }
    let mut value: Value = serde_json::from_str(object.raw.get()).ok()?;
    if let Some(fields) = value.as_object_mut() {
        fields.remove("status");
        if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
            trim(metadata);
            if !redactions.is_empty() {
                hide_last_applied(metadata, key);
            }
        }
    }
    for path in redactions.iter().flat_map(|redaction| &redaction.paths) {
        if let Some(hidden) = value.pointer_mut(path) {
            hide(hidden, key);
        }
    }
    Some(value)
}

/// How deep a JSON text is nested.
fn depth(json: &str) -> usize {
    let (mut deepest, mut now) = (0usize, 0usize);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                now += 1;
                deepest = deepest.max(now);
            }
            b'}' | b']' => now = now.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn trim(metadata: &mut Map<String, Value>) {
    for noise in SERVER_METADATA {
        metadata.remove(noise);
    }
}

fn hide_last_applied(metadata: &mut Map<String, Value>, key: &Key) {
    if let Some(copy) = metadata.get_mut("annotations").and_then(|annotations| annotations.get_mut(LAST_APPLIED)) {
        hide(copy, key);
    }
}

/// Replaces every value below by its hash; the names of fields stay readable.
fn hide(value: &mut Value, key: &Key) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(|value| hide(value, key)),
        Value::Array(items) => items.iter_mut().for_each(|value| hide(value, key)),
        Value::Null => {}
        Value::String(text) => *text = key.hide(text),
        Value::Bool(_) | Value::Number(_) => *value = Value::String(key.hide(&value.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write::Requester;
    use serde_json::value::RawValue;

    const CANARY: &str = "Y2FuYXJ5";

    fn raw(value: &Value) -> Box<RawValue> {
        serde_json::from_str(&value.to_string()).unwrap()
    }

    fn recorded(kind: &str, before: Option<&Value>, after: Option<&Value>) -> BreakglassChange {
        let (before, after) = (before.map(raw), after.map(raw));
        let rules = Rules::built_in().unwrap();
        let token: BreakglassToken = serde_json::from_value(json!({
            "apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassToken",
            "metadata": {"name": "inc-123-aaaaa", "uid": "t1"},
            "spec": {"incident": "INC-123", "reason": "r", "user": "alice@example.com", "environment": "prod",
                     "openedAt": "2026-11-20T11:30:00Z", "expiresAt": "2026-11-20T12:30:00Z"},
        }))
        .unwrap();
        let verb = match (&before, &after) {
            (None, _) => Verb::Create,
            (_, None) => Verb::Delete,
            _ => Verb::Update,
        };
        let write = Write {
            verb,
            resource: Resource {
                version: "v1".to_owned(),
                plural: format!("{}s", kind.to_lowercase()),
                kind: kind.to_owned(),
                ..Default::default()
            },
            namespace: Some("prod".to_owned()),
            name: "a".to_owned(),
            requester: Requester { user: "alice@example.com".to_owned(), ..Default::default() },
            before: before.as_deref().map(Object::new),
            after: after.as_deref().map(Object::new),
            dry_run: false,
            manager: "kubectl".to_owned(),
        };
        let circumstances = Circumstances {
            token: &token,
            environment: rules.environment_named("prod").unwrap(),
            rules: &rules,
            key: &Key::new([7; 32]),
            time: "2026-11-20T12:00:00Z".parse().unwrap(),
        };
        record(&write, "inc-123-0000", circumstances)
    }

    fn object(data: Value) -> Value {
        json!({"kind": "X", "metadata": {"name": "a", "uid": "u", "resourceVersion": "3", "managedFields": [],
            "creationTimestamp": "2026-11-20T00:00:00Z", "generation": 2, "annotations": {"k": "v"}},
            "data": data, "status": {"noise": true}})
    }

    fn after(change: &BreakglassChange) -> Value {
        let steps = serde_json::to_value(&change.spec.patch).unwrap();
        let mut document = change.spec.before.clone().unwrap_or(Value::Null);
        json_patch::patch(&mut document, &serde_json::from_value::<json_patch::Patch>(steps).unwrap()).unwrap();
        document
    }

    #[test]
    fn before_and_patch_give_what_was_stored() {
        let (old, new) = (object(json!({"k": "old"})), object(json!({"k": "new", "n": "m"})));
        let trimmed =
            |data: Value| json!({"kind": "X", "metadata": {"name": "a", "annotations": {"k": "v"}}, "data": data});
        let update = recorded("ConfigMap", Some(&old), Some(&new));
        assert_eq!(update.spec.before, Some(trimmed(json!({"k": "old"}))));
        assert_eq!(after(&update), trimmed(json!({"k": "new", "n": "m"})));
        let create = recorded("ConfigMap", None, Some(&new));
        assert_eq!((create.spec.before.clone(), after(&create)), (None, trimmed(json!({"k": "new", "n": "m"}))));
        let delete = recorded("ConfigMap", Some(&old), None);
        assert_eq!((delete.spec.before.clone(), after(&delete)), (Some(trimmed(json!({"k": "old"}))), Value::Null));
        assert_eq!(delete.spec.target.uid.as_deref(), Some("u"));
        assert_eq!(delete.spec.decide_by.to_string(), "2026-11-21T12:00:00Z");
    }

    #[test]
    fn a_secret_is_not_in_its_record() {
        let mut old = object(json!({"password": CANARY, "same": "x"}));
        old["metadata"]["annotations"][LAST_APPLIED] = json!(format!("{{\"data\":{{\"password\":\"{CANARY}\"}}}}"));
        let new = object(json!({"password": "b3RoZXI=", "same": "x"}));
        for change in [recorded("Secret", Some(&old), Some(&new)), recorded("Secret", Some(&old), None)] {
            let text = serde_json::to_string(&change).unwrap();
            assert!(!text.contains(CANARY) && text.contains("password"), "{text}");
        }
        let change = recorded("Secret", Some(&old), Some(&new));
        assert!(change.spec.patch.iter().all(|step| step.path != "/data/same"), "equal values are visible as equal");
        assert!(change.spec.patch.iter().any(|step| step.path == "/data/password"));
    }

    #[test]
    fn what_is_too_large_or_too_deep_is_hashed_and_says_so() {
        let large = object(json!({"k": "x".repeat(BODY_LIMIT)}));
        let change = recorded("ConfigMap", Some(&large), Some(&object(json!({"k": "small"}))));
        assert!(change.spec.truncated);
        assert!(serde_json::to_string(&change).unwrap().len() < 10_000);
        assert!(!recorded("ConfigMap", Some(&object(json!({"k": "v"}))), None).spec.truncated);
        let deep: Box<RawValue> =
            serde_json::from_str(&format!("{{\"x\":{}1{}}}", "[".repeat(5_000), "]".repeat(5_000))).unwrap();
        assert_eq!(body(&Object::new(&deep), &[], &Key::new([7; 32])), None);
        for (text, expected) in
            [("1", 0), ("{}", 1), (r#"{"a":[{"b":1}],"c":{}}"#, 3), (r#"["[[[\"[[",{}]"#, 2), (r#"{"\\":["]"]}"#, 2)]
        {
            assert_eq!(depth(text), expected, "{text}");
        }
    }
}
