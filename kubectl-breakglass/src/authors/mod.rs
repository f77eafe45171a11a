//! Authors: of every field of an object, who put it where it is, through what, and how that is known. Pure.

use breakglass::api::{Outcome, PatchStep, Timestamp};
use breakglass::diff::patched;
use breakglass::engine::Engine;
use breakglass::owned::{Manager, managers, owners};
use breakglass::stamp;
use chrono::TimeDelta;
use serde::Serialize;
use serde_json::Value;

use crate::ledger::Record;

/// How far a manager's time and a record's may be apart: the API server takes the one before it calls the webhook, which has ten
/// seconds to take the other.
pub const CLOCKS: TimeDelta = TimeDelta::seconds(10);

/// The identity of an object, and what the API server keeps about it: nobody's to write.
const IDENTITY: [&str; 11] = [
    "/apiVersion",
    "/kind",
    "/metadata/name",
    "/metadata/generateName",
    "/metadata/namespace",
    "/metadata/uid",
    "/metadata/resourceVersion",
    "/metadata/generation",
    "/metadata/creationTimestamp",
    "/metadata/selfLink",
    "/metadata/managedFields",
];

/// Where kubectl keeps a copy of everything that was applied, hidden values too.
const LAST_APPLIED: &str = "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration";

/// Where our own keys are.
const OURS: [&str; 2] = ["/metadata/annotations/breakglass.dev~1", "/metadata/labels/breakglass.dev~1"];

/// How it is known who put a field where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum KnownBy {
    /// A record says that this person put this value there, through this manager.
    Record,
    /// The stamp says who wrote through this manager last; an earlier write of somebody else may have left the field.
    Stamp,
    /// The manager has an engine's name, and the engine's inventory lists the object.
    Inventory,
    /// The manager's name, which the client gave itself. No person is known.
    Manager,
    /// It is a key of ours: only the webhook writes those.
    Key,
    /// No manager owns it: a default of the API server, or what a webhook put on.
    Nobody,
}

impl KnownBy {
    /// As a table says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Stamp => "stamp",
            Self::Inventory => "inventory",
            Self::Manager => "manager",
            Self::Key => "key",
            Self::Nobody => "nobody",
        }
    }
}

/// One field of an object, and who it is from.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Field {
    /// Where it is: a JSON pointer.
    pub field: String,
    /// What it says; nothing where the policy hides it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// Who put it there: a person, an engine's object, or a part of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    /// The field manager.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manager: Option<String>,
    /// `Apply` or `Update`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// The subresource that was written to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subresource: Option<String>,
    /// When: of a record, that write; else when the manager changed something last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// The incident.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident: Option<String>,
    /// The change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
    /// What the engine applied last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// How it is known.
    pub known_by: KnownBy,
}

/// The engine's object that owns an object, by the engine's own inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedBy {
    /// Whose it is.
    pub engine: Engine,
    /// `Kustomization flux-system/prod`.
    pub name: String,
    /// What it applied last.
    pub revision: Option<String>,
}

/// What is known besides the object.
#[derive(Clone, Debug, Default)]
pub struct Evidence<'e> {
    /// Its records, the oldest first.
    pub records: &'e [Record],
    /// JSON pointers to what the policy hides.
    pub hidden: Vec<String>,
    /// The engine's object that applies it.
    pub applied_by: Option<AppliedBy>,
}

/// Every field of an object, in its order, one entry for each who shares it.
pub fn authors(object: &Value, evidence: &Evidence<'_>) -> Vec<Field> {
    let records = evidence.records.iter().filter(|record| has_landed(record)).map(|record| {
        let spec = &record.change.spec;
        let after = (!spec.truncated).then(|| patched(spec.before.as_ref(), &spec.patch)).flatten();
        (record, after)
    });
    let reader = Reader { object, managers: managers(object), records: records.collect(), evidence };
    let mut fields = Vec::new();
    reader.walk(object, "", &mut fields);
    fields
}

fn has_landed(record: &Record) -> bool {
    record.change.status.as_ref().and_then(|status| status.outcome) != Some(Outcome::NeverLanded)
}

struct Reader<'r> {
    object: &'r Value,
    managers: Vec<Manager>,
    /// Each with what its write made of the object.
    records: Vec<(&'r Record, Option<Value>)>,
    evidence: &'r Evidence<'r>,
}

impl Reader<'_> {
    fn walk(&self, value: &Value, pointer: &str, fields: &mut Vec<Field>) {
        if IDENTITY.contains(&pointer) {
            return;
        }
        // What nobody owns a part of is one piece; but of these each key stands for itself, ours among them.
        let apart = ["", "/metadata", "/metadata/annotations", "/metadata/labels"].contains(&pointer);
        let apart = apart || self.managers.iter().any(|manager| manager.owned.goes_below(self.object, pointer));
        match value {
            Value::Object(map) if apart && !map.is_empty() => {
                map.iter().for_each(|(name, child)| self.walk(child, &below(pointer, name), fields));
            }
            Value::Array(items) if apart && !items.is_empty() => {
                let items = items.iter().enumerate();
                items.for_each(|(place, child)| self.walk(child, &below(pointer, &place.to_string()), fields));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) | Value::Array(_) => {
                self.field(value, pointer, fields);
            }
        }
    }

    fn field(&self, value: &Value, pointer: &str, fields: &mut Vec<Field>) {
        let field = Field {
            field: pointer.to_owned(),
            value: (!self.is_hidden(pointer)).then(|| value.clone()),
            who: None,
            manager: None,
            operation: None,
            subresource: None,
            time: None,
            incident: None,
            change: None,
            revision: None,
            known_by: KnownBy::Nobody,
        };
        if OURS.iter().any(|prefix| pointer.starts_with(prefix)) {
            fields.push(Field { who: Some("breakglass".to_owned()), known_by: KnownBy::Key, ..field });
            return;
        }
        let owners = owners(&self.managers, self.object, pointer);
        if owners.is_empty() {
            fields.push(field);
            return;
        }
        fields.extend(owners.into_iter().map(|manager| self.of_manager(manager, field.clone())));
    }

    /// A field that a manager owns: who that was, as far as somebody says so.
    fn of_manager(&self, manager: &Manager, field: Field) -> Field {
        let field = Field {
            manager: Some(manager.name.clone()),
            operation: Some(manager.operation.clone()).filter(|operation| !operation.is_empty()),
            subresource: manager.subresource.clone(),
            time: manager.time,
            known_by: KnownBy::Manager,
            ..field
        };
        if let Some(record) = self.record_of(manager, &field.field) {
            let spec = &record.change.spec;
            return Field {
                who: Some(spec.user.clone()),
                time: Some(spec.time),
                incident: Some(spec.incident.clone()),
                change: Some(record.name.clone()),
                known_by: KnownBy::Record,
                ..field
            };
        }
        if let Some(engine) = Engine::of_manager(&manager.name) {
            let applied = self.evidence.applied_by.as_ref().filter(|applied| applied.engine == engine);
            return match applied {
                Some(AppliedBy { name, revision, .. }) => {
                    Field { who: Some(name.clone()), revision: revision.clone(), known_by: KnownBy::Inventory, ..field }
                }
                None => Field { who: Some(engine.as_str().to_owned()), ..field },
            };
        }
        match self.stamped_by(manager) {
            Some((user, incident, change)) => {
                Field { who: Some(user), incident, change, known_by: KnownBy::Stamp, ..field }
            }
            None => field,
        }
    }

    /// The record of the last write through this manager that put something here, if that is what is here.
    fn record_of(&self, manager: &Manager, pointer: &str) -> Option<&Record> {
        let mut latest_first = self.records.iter().rev().filter(|(record, _)| {
            let spec = &record.change.spec;
            let in_time = manager.time.is_none_or(|time| spec.time.instant() <= time.instant() + CLOCKS);
            // Who names no manager, as `kubectl scale`, is given one by the API server, which no webhook sees.
            let through = spec.manager.as_ref().is_none_or(|name| *name == manager.name);
            let through = through && spec.subresource == manager.subresource;
            in_time && through && touches(&spec.patch, pointer)
        });
        let (record, after) = latest_first.next()?;
        // Of what is hidden the record has a hash, which says nothing to who has no key.
        let there = after.as_ref().and_then(|after| after.pointer(pointer));
        (self.is_hidden(pointer) || there == self.object.pointer(pointer)).then_some(record)
    }

    /// Who wrote through this manager last, as the stamp says; under which incident, in which change.
    fn stamped_by(&self, manager: &Manager) -> Option<(String, Option<String>, Option<String>)> {
        let annotations = self.object.pointer("/metadata/annotations")?;
        let key = |name: &str| annotations.get(name).and_then(Value::as_str).map(str::to_owned);
        let time: Timestamp = key(stamp::TIME)?.parse().ok()?;
        let apart = (manager.time?.instant() - time.instant()).abs();
        let is_it = key(stamp::MANAGER).as_ref() == Some(&manager.name) && apart <= CLOCKS;
        is_it.then_some(())?;
        Some((key(stamp::USER)?, key(stamp::INCIDENT), key(stamp::CHANGE)))
    }

    fn is_hidden(&self, pointer: &str) -> bool {
        let hidden = &self.evidence.hidden;
        (!hidden.is_empty() && pointer == LAST_APPLIED)
            || hidden.iter().any(|path| is_around(path, pointer) || is_around(pointer, path))
    }
}

fn below(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// Whether the patch writes to what is at this pointer, to something in it, or to something that it is in.
fn touches(patch: &[PatchStep], pointer: &str) -> bool {
    patch.iter().any(|step| is_around(&step.path, pointer) || is_around(pointer, &step.path))
}

fn is_around(outer: &str, inner: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests;
