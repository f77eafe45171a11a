//! Unstamped: direct edits of what engines own that carry no stamp and have no record. Pure.
//!
//! Who owns a field of an object that an engine owns, and is neither the engine nor a controller, has written past Git. Where no
//! stamp and no record speak of that write, it was before the install, or while the webhook was away or overridden.
//!
//! A controller is told by what it does: it is a program of Kubernetes, or it reports on the object through its status. People
//! write specs; whoever writes as `kubectl` is one, whatever they write.

use std::collections::BTreeMap;

use breakglass::api::{Operation, Outcome, Target, Timestamp};
use breakglass::engine::Engine;
use breakglass::glob;
use breakglass::owned::Owned;
use breakglass::rules::Rules;
use breakglass::stamp;
use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::area::Area;
use crate::authors::CLOCKS;
use crate::discover::{Kind, dotted};
use crate::inventory::Inventory;
use crate::ledger::Record;
use crate::metadata::{Entry, Metadata};
use crate::print::age;
use crate::scan::Look;

/// The subresource through which controllers report.
const STATUS: &str = "status";

/// The subresource of a scale.
const SCALE: &str = "scale";

/// The beginning of the names that kubectl writes under (kubectl pkg/cmd).
const KUBECTL: &str = "kubectl";

/// What is nobody's edit of what runs: our keys, and what programs put on an object to hold it or to own it.
const ASIDE: [&str; 5] = [
    "/metadata/annotations/breakglass.dev~1",
    "/metadata/labels/breakglass.dev~1",
    "/metadata/finalizers",
    "/metadata/ownerReferences",
    "/status",
];

/// The columns of the table.
pub const COLUMNS: [&str; 6] = ["NAMESPACE", "OBJECT", "THROUGH", "AGE", "FIELDS", "OWNER"];

/// The columns that `-o wide` adds.
pub const WIDE_COLUMNS: [&str; 3] = ["OPERATION", "SUBRESOURCE", "TIME"];

/// One manager's fields of an object, written past us.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Edit {
    /// The object.
    pub target: Target,
    /// The engine's object that owns it.
    pub owner: String,
    /// Through what: the name that the client gave.
    pub manager: String,
    /// `Apply` or `Update`.
    pub operation: String,
    /// The subresource that was written to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subresource: String,
    /// When last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// What is the manager's.
    pub fields: Vec<String>,
}

/// An object with the edits of it that its own stamp does not speak of.
#[derive(Clone, Debug, PartialEq)]
pub struct Edited {
    uid: String,
    edits: Vec<Edit>,
}

/// Looks for edits without a stamp.
#[derive(Clone, Copy, Debug)]
pub struct Unstamped<'u> {
    /// Where.
    pub area: &'u Area,
    /// What engines own.
    pub inventory: &'u Inventory,
    /// The policy, for what it exempts.
    pub rules: &'u Rules,
    /// Managers that somebody knows to be no person; * stands for anything.
    pub ignored: &'u [String],
    /// The labels that the server narrows by.
    pub selector: &'u str,
}

impl Look for Unstamped<'_> {
    type Metadata = Metadata;
    type Found = Edited;

    fn selector(&self) -> &str {
        self.selector
    }

    fn look(&self, kind: &Kind, metadata: Metadata) -> Option<Edited> {
        let namespace = metadata.namespace().filter(|namespace| self.area.has(Some(namespace)))?;
        if metadata.is_child() || !metadata.entries().iter().any(|entry| self.is_persons(entry, &metadata)) {
            return None;
        }
        let target = metadata.target(kind)?;
        let owner = self.inventory.owner(&target, metadata.claim().as_ref())?;
        let labels = metadata.labels();
        let environment = self.rules.environment_of(namespace, &BTreeMap::new());
        let exemption = self.rules.exemption(environment, &kind.name(), Some(namespace), &[&labels]);
        // By labels alone nothing is exempt where a token is needed.
        if exemption.is_some_and(|one| !one.resources.is_empty() || !one.namespaces.is_empty()) {
            return None;
        }
        let persons = metadata.entries().iter().filter(|entry| self.is_persons(entry, &metadata));
        let edits = persons.filter(|entry| !is_stamped(entry, &metadata)).filter_map(|entry| {
            let fields = fields(entry);
            (!fields.is_empty()).then(|| Edit {
                target: target.clone(),
                owner: owner.clone(),
                manager: entry.manager.clone(),
                operation: entry.operation.clone(),
                subresource: entry.subresource.clone(),
                time: entry.time,
                fields,
            })
        });
        let edits: Vec<Edit> = edits.collect();
        (!edits.is_empty()).then_some(Edited { uid: target.uid?, edits })
    }

    fn uid(found: &Edited) -> &str {
        &found.uid
    }
}

impl Unstamped<'_> {
    /// Whether a person may have written this: no engine, no controller, and nobody who is known not to be one.
    fn is_persons(&self, entry: &Entry, metadata: &Metadata) -> bool {
        let reports = |other: &Entry| other.manager == entry.manager && other.subresource == STATUS;
        let controller = !entry.manager.starts_with(KUBECTL) && metadata.entries().iter().any(reports);
        entry.subresource != STATUS
            && !controller
            && !entry.is_control_plane()
            && Engine::of_manager(&entry.manager).is_none()
            && !self.ignored.iter().any(|pattern| glob::matches(pattern, &entry.manager))
    }
}

/// What an entry owns that counts as an edit.
fn fields(entry: &Entry) -> Vec<String> {
    let Some(raw) = &entry.fields_v1 else { return Vec::new() };
    match serde_json::from_str(raw.get()) {
        Ok(fields) => {
            let paths = Owned::of(&fields).paths();
            paths.into_iter().filter(|path| !ASIDE.iter().any(|aside| path.starts_with(aside))).collect()
        }
        Err(_) => vec!["fields nested too deep to be read".to_owned()],
    }
}

/// Whether the object's own stamp speaks of what this manager wrote last.
fn is_stamped(entry: &Entry, metadata: &Metadata) -> bool {
    let Some(stamped) = metadata.annotation(stamp::TIME).and_then(|time| time.parse().ok()) else { return false };
    let same = metadata.annotation(stamp::MANAGER) == Some(&entry.manager);
    let Some(written) = entry.time else {
        let scaled = metadata.annotation(stamp::OPERATION) == Some(Operation::Scale.as_str());
        return same && scaled && entry.subresource == SCALE;
    };
    let same = same && is_near(stamped, written);
    // Where no record is kept, a stamp takes the place of the one before: of what was written earlier, nobody can say.
    let noted = metadata.annotation(stamp::CHANGE).is_none() && written <= stamped;
    same || noted
}

fn is_near(one: Timestamp, other: Timestamp) -> bool {
    (one.instant() - other.instant()).abs() <= CLOCKS
}

/// The edits that no record speaks of either, the latest first.
pub fn without_record(edited: Vec<Edited>, records: &[Record]) -> Vec<Edit> {
    let mut by_uid: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for record in records {
        let landed = record.change.status.as_ref().and_then(|status| status.outcome) != Some(Outcome::NeverLanded);
        if let Some(uid) = record.change.spec.target.uid.as_deref().filter(|_| landed) {
            by_uid.entry(uid).or_default().push(record);
        }
    }
    let mut edits: Vec<Edit> = Vec::new();
    for Edited { uid, edits: of_object } in edited {
        let records = by_uid.get(uid.as_str()).map(Vec::as_slice).unwrap_or_default();
        edits.extend(of_object.into_iter().filter(|edit| !records.iter().any(|record| is_of(record, edit))));
    }
    let key = |edit: &Edit| (std::cmp::Reverse(edit.time), edit.target.namespace.clone(), edit.target.short());
    edits.sort_by_cached_key(key);
    edits
}

/// Whether a record is that of what a manager wrote last. Of a scale the API server keeps no time (apimachinery
/// pkg/util/managedfields/scalehandler.go): there, any record of one by that manager has to do.
fn is_of(record: &Record, edit: &Edit) -> bool {
    let spec = &record.change.spec;
    // Who names no manager is given one by the API server, which no webhook sees.
    let through = spec.manager.as_ref().is_none_or(|name| *name == edit.manager);
    let there = spec.subresource.as_deref().unwrap_or_default() == edit.subresource;
    through && there && edit.time.is_none_or(|time| is_near(spec.time, time))
}

impl Edit {
    /// The cells of the table, those of `-o wide` included.
    pub fn cells(&self, now: DateTime<Utc>) -> Vec<String> {
        let target = &self.target;
        vec![
            target.namespace.clone().unwrap_or_default(),
            format!("{}/{}", dotted(&target.kind.to_lowercase(), target.group()), target.name),
            self.manager.clone(),
            self.time.map(|time| age::since(time.instant(), now)).unwrap_or_default(),
            match self.fields.as_slice() {
                [] => String::new(),
                [one] => one.clone(),
                [first, rest @ ..] => format!("{first} and {} more", rest.len()),
            },
            self.owner.clone(),
            self.operation.clone(),
            self.subresource.clone(),
            self.time.map(|time| time.to_string()).unwrap_or_default(),
        ]
    }
}

#[cfg(test)]
mod tests;
