//! What breakglass left behind, as a test reads it back: stamps on objects, changes in the ledger.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::wait::wait_until;

/// Where the records are.
const CHANGES: &str = "/apis/breakglass.dev/v1alpha1/breakglasschanges";

/// The prefix of everything that is ours on an object.
const OURS: &str = "breakglass.dev/";

/// What the server writes about an object, and nobody asked for.
const NOISE: [&str; 6] = ["managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink"];

/// Our keys on an object, annotations and labels, without their prefix.
#[must_use]
pub fn stamp(object: &Value) -> BTreeMap<String, String> {
    let maps = ["annotations", "labels"].map(|field| object["metadata"][field].as_object());
    let ours = maps.into_iter().flatten().flatten().filter_map(|(key, value)| {
        Some((key.strip_prefix(OURS)?.to_owned(), value.as_str().unwrap_or_default().to_owned()))
    });
    ours.collect()
}

/// The name of the change that an object says it is.
///
/// # Panics
/// When it names none.
#[track_caller]
#[must_use]
pub fn change_of(object: &Value) -> String {
    stamp(object).remove("change").unwrap_or_else(|| panic!("no change is named on {object:#}"))
}

/// An object as a record keeps it: without status and without what the server writes.
#[must_use]
pub fn without_noise(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        NOISE.iter().for_each(|noise| drop(metadata.remove(*noise)));
    }
    object
}

/// What a change made of its object, as its `before` and its `patch` say. Null for a delete.
///
/// # Panics
/// When the patch does not apply.
#[track_caller]
#[must_use]
pub fn after(change: &Value) -> Value {
    let mut document = change["spec"]["before"].clone();
    let patch: json_patch::Patch = serde_json::from_value(change["spec"]["patch"].clone()).unwrap_or_default();
    if let Err(error) = json_patch::patch(&mut document, &patch) {
        panic!("{error} in {change:#}");
    }
    document
}

impl Cluster {
    /// Opens a token for one namespace, and gives its name.
    ///
    /// # Panics
    /// When it is not opened: with what was said.
    #[track_caller]
    pub fn open(&self, person: &str, incident: &str, namespace: &str) -> String {
        let args = ["open", incident, "-n", namespace, "--reason", "a test", "-o", "name"];
        let name = self.plugin(person).ok(&args);
        name.trim().trim_start_matches("breakglasstoken.breakglass.dev/").to_owned()
    }

    /// The change of that name.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    #[must_use]
    pub fn change(&self, name: &str) -> Value {
        self.read(&format!("{CHANGES}/{name}"))
    }

    /// Waits until a field of a change (a JSON pointer) says this.
    ///
    /// # Panics
    /// When it does not in time: with the change as it was last.
    #[track_caller]
    pub fn wait_for_field(&self, change: &str, (field, expected): (&str, &str), limit: Duration) {
        wait_until(&format!("{field} of {change} to be {expected}"), limit, || {
            let change = self.change(change);
            if change.pointer(field) == Some(&json!(expected)) { Ok(()) } else { Err(change.to_string()) }
        })
        .unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// Waits until a change is in a phase, and labelled so, with an outcome where it is settled; gives it.
    ///
    /// # Panics
    /// When it is not in time: with its status as it was last.
    #[track_caller]
    pub fn wait_for_phase(&self, change: &str, (phase, outcome): (&str, Option<&str>), limit: Duration) -> Value {
        wait_until(&format!("{change} to be {phase} {}", outcome.unwrap_or_default()), limit, || {
            let change = self.change(change);
            let (status, label) = (&change["status"], &change["metadata"]["labels"]["breakglass.dev/state"]);
            let told = status["phase"] == phase && status["outcome"].as_str() == outcome;
            if told && label == &json!(phase.to_lowercase()) { Ok(change) } else { Err(format!("{status} {label}")) }
        })
        .unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Waits until so many changes of an incident are there, and all of them in a phase; gives them.
    ///
    /// # Panics
    /// When they are not in time: with their status as it was last.
    #[track_caller]
    pub fn wait_for_changes(&self, incident: &str, (phase, count): (&str, usize), limit: Duration) -> Vec<Value> {
        wait_until(&format!("{count} changes of {incident} to be {phase}"), limit, || {
            let changes = self.changes(incident);
            let all = changes.len() == count && changes.iter().all(|change| change["status"]["phase"] == phase);
            let told = || changes.iter().map(|change| format!("{}\n", change["status"])).collect();
            if all { Ok(changes.clone()) } else { Err(told()) }
        })
        .unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// All changes of an incident.
    ///
    /// # Panics
    /// When they cannot be read.
    #[track_caller]
    #[must_use]
    pub fn changes(&self, incident: &str) -> Vec<Value> {
        let list = self.read(&format!("{CHANGES}?labelSelector=breakglass.dev/incident={incident}"));
        list["items"].as_array().cloned().unwrap_or_default()
    }
}

/// A ConfigMap, as a document for `kubectl apply`.
#[must_use]
pub fn config_map(name: &str, value: &str) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": value}}).to_string()
}
