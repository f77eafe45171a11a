//! Did: what one write did, in words, and as a diff where there is an object to compare.

use breakglass::api::{BreakglassChangeSpec, Operation};
use breakglass::seal::HIDDEN;
use serde_json::Value;

use crate::print::diff::{Colour, unified};
use crate::states::States;

/// How many lines of one diff a report holds: enough for a large Deployment that was deleted, and short of a page that nobody
/// reads. `diff` shows all of them.
const MOST_LINES: usize = 400;

/// How much of a command is told: the beginning says what it was.
const COMMAND_SHOWN: usize = 200;

/// What one write did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Did {
    /// `scaled deployment.apps/api in prod from 2 to 5`.
    pub words: String,
    /// Line by line; nothing where no object was changed, or none is on record.
    pub diff: Option<String>,
    /// Why there is no diff, or not all of it.
    pub missing: Option<String>,
    /// Whether values are hidden: then hashes stand in their place.
    pub hidden: bool,
}

impl Did {
    /// What the write of this record did.
    pub fn of(name: &str, change: &BreakglassChangeSpec) -> Self {
        let words = words(change);
        let hidden = change.before.as_ref().is_some_and(is_hidden)
            || change.patch.iter().filter_map(|step| step.value.as_ref()).any(is_hidden);
        let (diff, missing) = match change.operation {
            // Nothing of the object changed; and whoever evicts a pod has another one made like it.
            Operation::Exec | Operation::Evict => (None, None),
            Operation::Create | Operation::Update | Operation::Delete | Operation::Scale => diff(name, change),
        };
        Self { words, diff, missing, hidden }
    }
}

fn diff(name: &str, change: &BreakglassChangeSpec) -> (Option<String>, Option<String>) {
    let States { before, after } = match States::of(change) {
        Ok(states) => states,
        Err(error) => return (None, Some(error.message)),
    };
    let title = change.target.place();
    let (was, became) = (format!("{title} before {name}"), format!("{title} after {name}"));
    match unified((&was, before.as_ref()), (&became, after.as_ref()), Colour::Plain) {
        Err(error) => (None, Some(error.message)),
        Ok(text) if text.is_empty() => (None, Some("nothing that an object would show".to_owned())),
        Ok(text) => match text.lines().count().checked_sub(MOST_LINES) {
            None | Some(0) => (Some(text), None),
            Some(more) => {
                let start = text.lines().take(MOST_LINES).map(|line| format!("{line}\n")).collect();
                let lines = if more == 1 { "1 more line".to_owned() } else { format!("{more} more lines") };
                (Some(start), Some(format!("{lines}: kubectl breakglass diff {name}")))
            }
        },
    }
}

fn words(change: &BreakglassChangeSpec) -> String {
    let place = change.target.place();
    let below = change.subresource.as_deref();
    match (change.operation, below) {
        (Operation::Create, Some("token")) => format!("had a token made of {place}"),
        (Operation::Create, _) => format!("made {place}"),
        (Operation::Update, Some("ephemeralcontainers")) => format!("put an ephemeral container into {place}"),
        (Operation::Update, Some(part)) => format!("changed the {part} of {place}"),
        (Operation::Update, None) if !change.undoes.is_empty() => {
            format!("put {place} back to what it was before {}", change.undoes.join(", "))
        }
        (Operation::Update, None) => format!("changed {place}"),
        (Operation::Delete, _) => format!("deleted {place}"),
        (Operation::Evict, _) => format!("evicted {place}"),
        (Operation::Scale, _) => match replicas(change) {
            Some((before, after)) => format!("scaled {place} from {before} to {after}"),
            None => format!("scaled {place}"),
        },
        (Operation::Exec, Some("exec")) => match command(change) {
            Some(command) => format!("ran {command} in {place}"),
            None => format!("ran a command in {place}"),
        },
        (Operation::Exec, Some("attach")) => format!("attached to {place}"),
        (Operation::Exec, Some("portforward")) => format!("forwarded a port to {place}"),
        (Operation::Exec, Some("proxy")) => format!("opened a connection through {place}"),
        (Operation::Exec, _) => format!("entered {place}"),
    }
}

/// The number of replicas, before and after.
fn replicas(change: &BreakglassChangeSpec) -> Option<(i64, i64)> {
    let States { before, after } = States::of(change).ok()?;
    // The API server leaves a zero out.
    let number = |state: &Option<Value>| {
        let spec = state.as_ref()?.get("spec");
        Some(spec.and_then(|spec| spec.get("replicas")).and_then(Value::as_i64).unwrap_or_default())
    };
    Some((number(&before)?, number(&after)?))
}

/// The command that was run, as the options of the request have it.
fn command(change: &BreakglassChangeSpec) -> Option<String> {
    let after = States::of(change).ok()?.after?;
    let list = after.get("command")?.as_array()?;
    let words: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
    let text = words.join(" ");
    let shown: String = text.chars().take(COMMAND_SHOWN).collect();
    let more = if shown.len() < text.len() { "…" } else { "" };
    (!words.is_empty()).then(|| format!("\"{shown}{more}\""))
}

fn is_hidden(value: &Value) -> bool {
    match value {
        Value::String(text) => text.starts_with(HIDDEN),
        Value::Array(items) => items.iter().any(is_hidden),
        Value::Object(fields) => fields.values().any(is_hidden),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn did(operation: &str, subresource: Option<&str>, (before, patch): (Value, Value)) -> Did {
        let change = serde_json::from_value(json!({"token": "t", "incident": "INC-1", "user": "alice@example.com",
            "time": "2026-11-20T12:00:00Z", "environment": "prod", "operation": operation, "subresource": subresource,
            "target": {"apiVersion": "v1", "kind": "Pod", "resource": "pods", "namespace": "prod", "name": "a"},
            "before": before, "patch": patch, "decideBy": "2026-11-21T12:00:00Z"}))
        .unwrap();
        Did::of("c1", &change)
    }

    #[test]
    fn every_kind_of_write_has_its_words() {
        let add = |value: Value| (Value::Null, json!([{"op": "add", "path": "", "value": value}]));
        let gone = || (json!({"kind": "Pod"}), json!([{"op": "replace", "path": "", "value": null}]));
        let scale = |old: Value, steps: Value| (json!({"kind": "Scale", "spec": old}), steps);
        for (operation, below, bodies, expected, has_diff) in [
            ("Create", None, add(json!({"kind": "Pod"})), "made pod/a in prod", true),
            ("Create", Some("token"), add(json!({})), "had a token made of pod/a in prod", true),
            ("Update", Some("ephemeralcontainers"), gone(), "put an ephemeral container into pod/a in prod", true),
            ("Update", Some("status"), gone(), "changed the status of pod/a in prod", true),
            ("Delete", None, gone(), "deleted pod/a in prod", true),
            ("Evict", Some("eviction"), gone(), "evicted pod/a in prod", false),
            (
                "Scale",
                Some("scale"),
                scale(json!({"replicas": 2}), json!([{"op": "replace", "path": "/spec/replicas", "value": 5}])),
                "scaled pod/a in prod from 2 to 5",
                true,
            ),
            (
                "Scale",
                Some("scale"),
                scale(json!({"replicas": 2}), json!([{"op": "remove", "path": "/spec/replicas"}])),
                "scaled pod/a in prod from 2 to 0",
                true,
            ),
            (
                "Exec",
                Some("exec"),
                add(json!({"command": ["sh", "-c", "env"]})),
                "ran \"sh -c env\" in pod/a in prod",
                false,
            ),
            ("Exec", Some("exec"), add(json!({})), "ran a command in pod/a in prod", false),
            ("Exec", Some("attach"), add(json!({})), "attached to pod/a in prod", false),
            ("Exec", Some("portforward"), add(json!({})), "forwarded a port to pod/a in prod", false),
            ("Exec", Some("proxy"), add(json!({})), "opened a connection through pod/a in prod", false),
        ] {
            let did = did(operation, below, bodies);
            assert_eq!((did.words.as_str(), did.diff.is_some()), (expected, has_diff), "{did:?}");
        }
    }

    #[test]
    fn what_is_hidden_cut_or_lost_is_said() {
        let replace = |value: Value| json!([{"op": "replace", "path": "/data/k", "value": value}]);
        let update = |old: &str, new: &str| did("Update", None, (json!({"data": {"k": old}}), replace(json!(new))));
        let plain = update("one", "two");
        assert!(!plain.hidden && plain.missing.is_none());
        assert!(plain.diff.unwrap().contains("\n-  k: one\n+  k: two\n"));
        assert!(update("hidden:aaaa", "hidden:bbbb").hidden);
        let long: Vec<usize> = (0..1_000).collect();
        let cut = did("Update", None, (json!({"data": {"k": "one"}}), replace(json!(long))));
        assert_eq!(cut.diff.unwrap().lines().count(), MOST_LINES);
        assert!(cut.missing.unwrap().ends_with(" more lines: kubectl breakglass diff c1"));
        let odd = did("Update", None, (json!({}), json!([{"op": "remove", "path": "/no"}])));
        assert!(odd.diff.is_none() && odd.missing.unwrap().contains("does not fit"));
    }
}
