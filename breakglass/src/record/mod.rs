//! The record of a write: server noise trimmed, secrets hidden, size bounded.

use serde_json::{Map, Value, json};

use crate::api::{
    BreakglassChange, BreakglassChangeSpec, BreakglassToken, Environment, Operation, PatchStep, Redaction, Target,
    Timestamp,
};
use crate::diff::{self, SERVER_METADATA};
use crate::engine::Owner;
use crate::hold;
use crate::rules::Rules;
use crate::seal::Key;
use crate::stamp::{self, State};
use crate::write::{Object, Resource, Write};

/// The label of a record that names its incident.
pub const INCIDENT_LABEL: &str = stamp::INCIDENT;
/// The label of a record that names its token.
pub const TOKEN_LABEL: &str = stamp::TOKEN;
/// The label of a record that names the environment written to.
pub const ENVIRONMENT_LABEL: &str = crate::api::ENVIRONMENT_LABEL;
/// The label of a record that names the namespace written to.
pub const NAMESPACE_LABEL: &str = "breakglass.dev/namespace";

/// The annotation of a record that names the change whose stamp the object carried before: proof that that one landed.
pub const FOLLOWS: &str = "breakglass.dev/follows";
/// The annotation of a record with a keyed hash over who wrote what: the same for every attempt that the API server, or a
/// client, makes of one write.
pub const ATTEMPT: &str = "breakglass.dev/attempt";
/// The annotation of a record that says until when it is deferred, for who sees its metadata alone.
pub const UNTIL: &str = "breakglass.dev/until";

/// The most that `before` and `patch` may take together. etcd takes 1.5 MiB in one request, and an object that large is
/// at best twice in a record; half of it leaves room for both sides and for the API server's own copies.
pub const BODY_LIMIT: usize = 512 * 1024;

/// The deepest nesting that is kept. JSON readers commonly stop at 128 levels, and a list of records holds an object some
/// levels down, and its fields once more in managedFields: one record that cannot be read would hide the whole ledger.
const DEPTH_LIMIT: usize = 64;

/// The prefix of every key that is ours.
const OURS: &str = "breakglass.dev/";

/// What kubectl notes about its applies and the deployment controller about its revisions.
const NOTES: [&str; 2] = [LAST_APPLIED, "deployment.kubernetes.io/revision"];

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
    /// The changes that the write undoes.
    pub undoes: &'c [String],
}

/// The record of a write, under the name that its stamp carries.
pub fn record(write: &Write<'_>, name: &str, circumstances: Circumstances<'_>) -> BreakglassChange {
    let Circumstances { token, environment, time, key, undoes, .. } = circumstances;
    let (before, patch, truncated) = bodies(write, &circumstances);
    let attempt = attempt(write, token, key, before.as_ref(), &patch);
    let subject = write.before.as_ref().or(write.after.as_ref()).map(|object| &object.metadata);
    let owner = subject.and_then(|metadata| Owner::of(metadata.labels(), metadata.annotations()));
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
        target: target(write),
        before,
        patch,
        truncated,
        hold: is_held(write, token),
        undoes: undoes.to_vec(),
        decide_by: Timestamp::new(time.instant() + environment.debt.decide_within.delta()),
    };
    let mut labels = std::collections::BTreeMap::from([
        (INCIDENT_LABEL.to_owned(), spec.incident.clone()),
        (TOKEN_LABEL.to_owned(), token_name),
        (ENVIRONMENT_LABEL.to_owned(), spec.environment.clone()),
        (stamp::STATE.to_owned(), State::Admitted.as_str().to_owned()),
    ]);
    if let Some(namespace) = &write.namespace {
        labels.insert(NAMESPACE_LABEL.to_owned(), namespace.clone());
    }
    let replaced = write.before.as_ref().map(|before| &before.metadata);
    let annotations = [
        (FOLLOWS, replaced.and_then(|metadata| metadata.annotations().get(stamp::CHANGE)).cloned()),
        (ATTEMPT, Some(attempt)),
    ];
    let annotations = annotations.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let mut change = BreakglassChange::new(name, spec);
    change.metadata.labels = Some(labels);
    change.metadata.annotations = Some(annotations.collect());
    change
}

/// The object that a write goes to.
pub fn target(write: &Write<'_>) -> Target {
    let uid = [&write.before, &write.after].into_iter().flatten().map(|object| object.metadata.uid.clone());
    Target {
        api_version: write.resource.api_version(),
        kind: kind_of_target(&write.resource),
        resource: write.resource.plural.clone(),
        namespace: write.namespace.clone().filter(|_| !write.resource.is_namespace()),
        name: write.object_name().to_owned(),
        uid: uid.into_iter().find(|uid| !uid.is_empty()),
    }
}

/// Whether this write holds its object. A scale says nothing of the object: what it scaled is held when it is stamped.
fn is_held(write: &Write<'_>, token: &BreakglassToken) -> bool {
    let held = |object: &Object<'_>| hold::is_held(object.metadata.annotations());
    let is_owned = |object: &Object<'_>| {
        Owner::of(object.metadata.labels(), object.metadata.annotations()).is_some_and(|owner| owner.can_be_held())
    };
    let scaled = write.operation() == Operation::Scale;
    token.spec.hold && (scaled || write.after.as_ref().is_some_and(|after| held(after) && is_owned(after)))
}

/// The engine's object that owned the object of a change, as its marks said before the change.
pub fn owner(change: &BreakglassChangeSpec) -> Option<Owner> {
    let metadata = change.before.as_ref()?.get("metadata")?;
    let map = |field: &str| serde_json::from_value(metadata.get(field)?.clone()).ok();
    Owner::of(&map("labels").unwrap_or_default(), &map("annotations").unwrap_or_default())
}

/// What every attempt of one write has in common: who asks, under which token, for what to become of which object.
fn attempt(
    write: &Write<'_>,
    token: &BreakglassToken,
    key: &Key,
    before: Option<&Value>,
    patch: &[PatchStep],
) -> String {
    let steps: Vec<String> = steps_of_others(before, patch).iter().map(|step| json!(step).to_string()).collect();
    let parts = [
        write.requester.user.as_str(),
        token.metadata.uid.as_deref().unwrap_or_default(),
        &write.resource.qualified(),
        write.resource.subresource.as_deref().unwrap_or_default(),
        write.namespace.as_deref().unwrap_or_default(),
        write.object_name(),
        write.operation().as_str(),
        &write.manager,
        &steps.join("\n"),
    ];
    key.name_attempt(&parts)
}

/// Whether a write undoes these changes of its object, the latest first: all is as the first of them found it, our own keys and the
/// notes that clients and controllers keep about their own work aside, and what holds the object because of them.
pub fn undoes(write: &Write<'_>, rules: &Rules, key: &Key, changes: &[BreakglassChange]) -> bool {
    let Some(was) = changes.last().and_then(|first| first.spec.before.clone()) else { return false };
    let redactions = redactions(write, rules);
    let Some(after) = write.after.as_ref().and_then(|after| body(after, &redactions, key, false)) else { return false };
    let held = changes.iter().any(hold::is_ours);
    let plain = |object: Value| without_notes(if held { hold::without_hold(object) } else { object });
    plain(after) == plain(was)
}

/// What a patch does, our own keys aside, which differ between attempts. Of a create nothing: it is not tried again.
fn steps_of_others(before: Option<&Value>, patch: &[PatchStep]) -> Vec<PatchStep> {
    let Some(before) = before else { return Vec::new() };
    match diff::patched(Some(before), patch) {
        Some(after) => diff::patch_between(Some(&without_notes(before.clone())), Some(&without_notes(after))),
        None => patch.to_vec(),
    }
}

/// An object without our keys, and without annotations that say how it was written and not what it is.
pub fn without_notes(mut object: Value) -> Value {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return object };
    drop_keys(metadata, |key| key.starts_with(OURS) || NOTES.contains(&key));
    object
}

/// Drops annotations and labels, and what holds them where none is left.
fn drop_keys(metadata: &mut Map<String, Value>, is_dropped: impl Fn(&str) -> bool) {
    for section in ["annotations", "labels"] {
        let Some(map) = metadata.get_mut(section).and_then(Value::as_object_mut) else { continue };
        map.retain(|key, _| !is_dropped(key));
        if map.is_empty() {
            metadata.remove(section);
        }
    }
}

/// An object without our keys.
pub fn without_stamp(mut object: Value) -> Value {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return object };
    drop_keys(metadata, |key| key.starts_with(OURS));
    object
}

/// Whether this field says how an object was written, and not what it is.
pub fn is_note(pointer: &str) -> bool {
    let key = pointer.strip_prefix("/metadata/annotations/").map(|key| key.replace("~1", "/"));
    key.is_some_and(|key| NOTES.contains(&key.as_str()))
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
        ("", "serviceaccounts") => Some("ServiceAccount"),
        ("", "nodes") => Some("Node"),
        _ => None,
    };
    parent.unwrap_or(&resource.kind).to_owned()
}

type Bodies = (Option<Value>, Vec<PatchStep>, bool);

fn bodies(write: &Write<'_>, circumstances: &Circumstances<'_>) -> Bodies {
    let redactions = redactions(write, circumstances.rules);
    let status = write.resource.subresource.as_deref() == Some("status");
    let read = |object: &Option<Object<'_>>| match object {
        None => Some(None),
        Some(object) => body(object, &redactions, circumstances.key, status).map(Some),
    };
    // The object of a delete or of an eviction is the request's options, not what is left.
    let nothing = None;
    let after = if goes(write) { &nothing } else { &write.after };
    let (Some(before), Some(after)) = (read(&write.before), read(after)) else {
        return hashes(write, circumstances.key);
    };
    let patch = diff::patch_between(before.as_ref(), after.as_ref());
    let size = |value: Result<String, serde_json::Error>| value.map_or(usize::MAX, |text| text.len());
    let total = size(serde_json::to_string(&before)).saturating_add(size(serde_json::to_string(&patch)));
    if total > BODY_LIMIT { hashes(write, circumstances.key) } else { (before, patch, false) }
}

/// Whether the object is to go.
fn goes(write: &Write<'_>) -> bool {
    matches!(write.operation(), Operation::Delete | Operation::Evict)
}

fn redactions<'r>(write: &Write<'_>, rules: &'r Rules) -> Vec<&'r Redaction> {
    // Of what is written to, which is not the eviction or the scale.
    let kind = kind_of_target(&write.resource);
    rules.redactions(&write.resource.group, &kind)
}

/// What stands in place of bodies that cannot be kept: enough to recognise them, not to restore them.
fn hashes(write: &Write<'_>, key: &Key) -> Bodies {
    let hash = |object: &Object<'_>| json!({"hash": key.hide(object.raw.get()), "bytes": object.raw.get().len()});
    let before = write.before.as_ref().map(hash);
    let after = write.after.as_ref().filter(|_| !goes(write)).map(hash);
    let patch = match &after {
        None => diff::patch_between(before.as_ref(), None),
        after => diff::patch_between(None, after.as_ref()),
    };
    (before, patch, true)
}

/// An object as a record keeps it; `None` where it is nested deeper than can be kept. The status is noise, unless it is what
/// was written.
fn body(object: &Object<'_>, redactions: &[&Redaction], key: &Key, status: bool) -> Option<Value> {
    if depth(object.raw.get()) > DEPTH_LIMIT {
        return None;
    }
    let mut value = without_noise(serde_json::from_str(object.raw.get()).ok()?, status);
    if !redactions.is_empty()
        && let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut)
    {
        hide_last_applied(metadata, key);
    }
    for path in redactions.iter().flat_map(|redaction| &redaction.paths) {
        if let Some(hidden) = value.pointer_mut(path) {
            hide(hidden, key);
        }
    }
    Some(value)
}

/// An object as the API server has it, as a record would keep it; `None` where it is nested deeper than can be kept.
pub fn as_recorded(
    object: &Object<'_>,
    kind: (&str, &str),
    (rules, key): (&Rules, &Key),
    status: bool,
) -> Option<Value> {
    let (group, kind) = kind;
    body(object, &rules.redactions(group, kind), key, status)
}

/// How deep a JSON text is nested.
fn depth(json: &str) -> usize {
    let (mut deepest, mut now) = (0usize, 0usize);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            // JSON has it in texts alone.
            b'\\' => escaped = true,
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

/// An object as a record would keep it, as far as server noise goes; with its status where that is what was written.
pub fn without_noise(mut object: Value, status: bool) -> Value {
    if let Some(fields) = object.as_object_mut() {
        if !status {
            fields.remove("status");
        }
        if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
            trim(metadata);
        }
    }
    object
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
mod tests;
