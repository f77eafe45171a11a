//! The fields that differ between an object and itself, each by a path that holds in the source too: items by their key.

use std::fmt::Write as _;

use breakglass::stamp;
use serde_json::{Map, Value};

use super::merge_keys::key_of;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A key of a mapping.
    Key(String),
    /// The item of a list that has this value under this key.
    Item(&'static str, Value),
}

/// One field that is to say something else.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Where.
    pub path: Vec<Step>,
    /// What it said; none for nothing.
    pub from: Option<Value>,
    /// What it is to say; none for nothing.
    pub to: Option<Value>,
}

/// Annotations and labels that are the work of controllers and clients, and never stand in Git.
const NOISE: [&str; 5] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "deployment.kubernetes.io/revision",
    "kustomize.toolkit.fluxcd.io/name",
    "kustomize.toolkit.fluxcd.io/namespace",
    "kustomize.toolkit.fluxcd.io/reconcile",
];

/// Fields of metadata that the API server keeps.
const SERVERS: [&str; 8] = [
    "managedFields",
    "resourceVersion",
    "generation",
    "uid",
    "creationTimestamp",
    "selfLink",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];

/// An object without what the server, its controllers and breakglass put on it.
pub fn cleaned(object: &Value) -> Value {
    let mut object = object.clone();
    let Some(fields) = object.as_object_mut() else { return object };
    fields.remove("status");
    let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) else { return object };
    for noise in SERVERS {
        metadata.remove(noise);
    }
    for of in ["annotations", "labels"] {
        let Some(keys) = metadata.get_mut(of).and_then(Value::as_object_mut) else { continue };
        keys.retain(|key, _| {
            let key = key.as_str();
            !NOISE.contains(&key) && !stamp::ANNOTATIONS.contains(&key) && !stamp::LABELS.contains(&key)
        });
        if keys.is_empty() {
            metadata.remove(of);
        }
    }
    object
}

/// What differs, in the order of the fields; the server's own fields and our stamp aside.
pub fn changes(before: &Value, after: &Value) -> Vec<Change> {
    let mut found = Vec::new();
    differ(&cleaned(before), &cleaned(after), &mut Vec::new(), &mut found);
    found
}

fn differ(before: &Value, after: &Value, path: &mut Vec<Step>, found: &mut Vec<Change>) {
    if before == after {
        return;
    }
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            for key in old.keys().chain(new.keys().filter(|key| !old.contains_key(*key))) {
                path.push(Step::Key(key.clone()));
                sides(old.get(key), new.get(key), path, found);
                path.pop();
            }
        }
        (Value::Array(old), Value::Array(new)) => match keyed(path, old, new) {
            Some(key) => items(key, (old, new), path, found),
            None => found.push(Change { path: path.clone(), from: Some(before.clone()), to: Some(after.clone()) }),
        },
        _ => found.push(Change { path: path.clone(), from: Some(before.clone()), to: Some(after.clone()) }),
    }
}

/// A mapping that is on one side only is told field by field: Git may say some of it, or none.
fn sides(before: Option<&Value>, after: Option<&Value>, path: &mut Vec<Step>, found: &mut Vec<Change>) {
    let is_map = |side: Option<&Value>| side.and_then(Value::as_object).is_some_and(|map| !map.is_empty());
    match (before, after) {
        (Some(before), Some(after)) => differ(before, after, path, found),
        (one, None) if is_map(one) && is_open(path) => {
            differ(one.unwrap_or(&Value::Null), &Value::Object(Map::new()), path, found);
        }
        (None, one) if is_map(one) && is_open(path) => {
            differ(&Value::Object(Map::new()), one.unwrap_or(&Value::Null), path, found);
        }
        (from, to) => found.push(Change { path: path.clone(), from: from.cloned(), to: to.cloned() }),
    }
}

/// Mappings whose keys stand for themselves; in others a field may mean nothing without its neighbours.
fn is_open(path: &[Step]) -> bool {
    const OPEN: [&str; 8] =
        ["metadata", "annotations", "labels", "data", "binaryData", "limits", "requests", "nodeSelector"];
    matches!(path.last(), Some(Step::Key(key)) if OPEN.contains(&key.as_str()))
}

fn keyed(path: &[Step], old: &[Value], new: &[Value]) -> Option<&'static str> {
    let Some(Step::Key(field)) = path.last() else { return None };
    let key = key_of(field, [old, new])?;
    // Items that have changed places are another list: order may matter, and no key says it.
    let common = |list: &[Value], other: &[Value]| -> Vec<Value> {
        let names = list.iter().filter_map(|item| item.get(key).cloned());
        names.filter(|name| other.iter().any(|item| item.get(key) == Some(name))).collect()
    };
    (common(old, new) == common(new, old)).then_some(key)
}

fn items(key: &'static str, (old, new): (&[Value], &[Value]), path: &mut Vec<Step>, found: &mut Vec<Change>) {
    let in_list = |list: &[Value], name: &Value| list.iter().find(|item| item.get(key) == Some(name)).cloned();
    let names = old.iter().chain(new).filter_map(|item| item.get(key).cloned());
    let mut seen: Vec<Value> = Vec::new();
    for name in names {
        if seen.contains(&name) {
            continue;
        }
        path.push(Step::Item(key, name.clone()));
        match (in_list(old, &name), in_list(new, &name)) {
            (Some(before), Some(after)) => differ(&before, &after, path, found),
            (from, to) => found.push(Change { path: path.clone(), from, to }),
        }
        path.pop();
        seen.push(name);
    }
}

/// What a value says at a path.
pub fn get<'a>(value: &'a Value, path: &[Step]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get(key),
        Step::Item(key, name) => value.as_array()?.iter().find(|item| item.get(*key) == Some(name)),
    })
}

/// Makes a value say something at a path; mappings and lists on the way that are not there are made, and those that are left
/// empty go. False where the path leads through an item that is not there, or something that is no mapping.
pub fn put(value: &mut Value, path: &[Step], to: Option<&Value>) -> bool {
    let Some((step, rest)) = path.split_first() else { return false };
    if value.is_null() {
        *value = match step {
            Step::Key(_) => Value::Object(Map::new()),
            Step::Item(..) => Value::Array(Vec::new()),
        };
    }
    match step {
        Step::Key(key) => value.as_object_mut().is_some_and(|map| put_key(map, key, (rest, to))),
        Step::Item(key, name) => value.as_array_mut().is_some_and(|list| put_item(list, (key, name), (rest, to))),
    }
}

fn put_key(map: &mut Map<String, Value>, key: &str, (rest, to): (&[Step], Option<&Value>)) -> bool {
    match (rest.is_empty(), to) {
        (true, Some(to)) => {
            map.insert(key.to_owned(), to.clone());
            true
        }
        (true, None) => {
            map.remove(key);
            true
        }
        (false, None) if !map.contains_key(key) => true,
        (false, _) => {
            let below = map.entry(key.to_owned()).or_insert(Value::Null);
            let done = put(below, rest, to);
            if is_empty(below) && to.is_none() {
                map.remove(key);
            }
            done
        }
    }
}

fn put_item(list: &mut Vec<Value>, (key, name): (&str, &Value), (rest, to): (&[Step], Option<&Value>)) -> bool {
    let at = list.iter().position(|item| item.get(key) == Some(name));
    match (rest.is_empty(), to, at) {
        (true, Some(to), Some(at)) => list[at] = to.clone(),
        (true, Some(to), None) => list.push(to.clone()),
        (true, None, Some(at)) => {
            list.remove(at);
        }
        (true, None, None) | (false, None, None) => {}
        (false, _, Some(at)) => return put(&mut list[at], rest, to),
        (false, Some(_), None) => return false,
    }
    true
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

/// Whether all that Git says of a value is true of the live one, which says more: defaults, and what others set.
pub fn holds(git: &Value, live: &Value) -> bool {
    match (git, live) {
        (Value::Object(git), Value::Object(live)) => {
            git.iter().all(|(key, value)| live.get(key).map_or(is_empty(value), |live| holds(value, live)))
        }
        (Value::Array(git), Value::Array(live)) => {
            git.len() == live.len() && git.iter().zip(live).all(|(git, live)| holds(git, live))
        }
        _ => git == live || is_same_quantity(git, live),
    }
}

/// The API server writes 1000m as 1, and 1024Mi as 1Gi.
fn is_same_quantity(one: &Value, other: &Value) -> bool {
    let amount = |value: &Value| -> Option<f64> {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let split = text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let factor = match unit {
            "" => 1.0,
            "m" => 1e-3,
            "k" => 1e3,
            "M" => 1e6,
            "G" => 1e9,
            "T" => 1e12,
            "Ki" => 1024.0,
            "Mi" => 1_048_576.0,
            "Gi" => 1_073_741_824.0,
            "Ti" => 1_099_511_627_776.0,
            _ => return None,
        };
        number.parse::<f64>().ok().map(|number| number * factor)
    };
    // A number and a string that looks like it are the same only where they stand for an amount: at least one has a unit.
    let has_unit = |value: &Value| value.as_str().is_some_and(|text| text.ends_with(|last: char| last.is_alphabetic()));
    (has_unit(one) || has_unit(other)) && amount(one).is_some() && amount(one) == amount(other)
}

/// A path as people read it: `/spec/template/spec/containers/api/image`.
pub fn pointer(path: &[Step]) -> String {
    path.iter().fold(String::new(), |mut text, step| {
        let word = match step {
            Step::Key(key) => key.replace('~', "~0").replace('/', "~1"),
            Step::Item(_, name) => name.as_str().map_or_else(|| name.to_string(), str::to_owned),
        };
        // Writing to a String does not fail.
        let _ = write!(text, "/{word}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(before: Value, after: Value, expected: &[(&str, Value, Value)]) {
        let found = changes(&before, &after);
        let told: Vec<(String, Value, Value)> = found
            .iter()
            .map(|change| {
                (pointer(&change.path), change.from.clone().unwrap_or_default(), change.to.clone().unwrap_or_default())
            })
            .collect();
        let expected: Vec<_> =
            expected.iter().map(|(path, from, to)| ((*path).to_owned(), from.clone(), to.clone())).collect();
        assert_eq!(told, expected, "{before} {after}");
        // Applied to what was, the changes make what is.
        let mut made = cleaned(&before);
        for change in &found {
            assert!(put(&mut made, &change.path, change.to.as_ref()), "{}", pointer(&change.path));
        }
        assert_eq!(made, cleaned(&after));
    }

    #[test]
    fn fields_are_told_one_by_one_and_items_by_their_name() {
        let none = || Value::Null;
        check(
            json!({"spec": {"replicas": 1}}),
            json!({"spec": {"replicas": 2}}),
            &[("/spec/replicas", json!(1), json!(2))],
        );
        check(
            json!({"containers": [{"name": "a", "image": "x:1"}, {"name": "b"}]}),
            json!({"containers": [{"name": "a", "image": "x:2"}, {"name": "c"}]}),
            &[
                ("/containers/a/image", json!("x:1"), json!("x:2")),
                ("/containers/b", json!({"name": "b"}), none()),
                ("/containers/c", none(), json!({"name": "c"})),
            ],
        );
        check(json!({"args": ["a", "b"]}), json!({"args": ["a"]}), &[("/args", json!(["a", "b"]), json!(["a"]))]);
        let annotated = |annotations: Value| json!({"metadata": {"name": "a", "annotations": annotations}});
        check(
            annotated(json!({"a/b": "1"})),
            json!({"metadata": {"name": "a"}}),
            &[("/metadata/annotations/a~1b", json!("1"), none())],
        );
        let order = |names: [&str; 2]| json!({"env": [{"name": names[0]}, {"name": names[1]}]});
        check(
            order(["a", "b"]),
            order(["b", "a"]),
            &[("/env", json!([{"name": "a"}, {"name": "b"}]), json!([{"name": "b"}, {"name": "a"}]))],
        );
    }

    #[test]
    fn noise_and_stamps_are_no_change() {
        let object = |version: &str, stamps: Value| json!({"metadata": {"name": "a", "resourceVersion": version, "annotations": stamps}, "status": version});
        check(object("1", json!({})), object("2", json!({stamp::USER: "alice@example.com"})), &[]);
    }

    #[test]
    fn git_says_less_than_the_cluster_and_nothing_else() {
        for (git, live, expected) in [
            (json!({"a": 1}), json!({"a": 1, "b": 2}), true),
            (json!({"a": 1}), json!({"a": 2}), false),
            (json!({"a": {}}), json!({}), true),
            (json!("1000m"), json!("1"), true),
            (json!("1024Mi"), json!("1Gi"), true),
            (json!("5"), json!(5), false),
            (json!([{"name": "a"}]), json!([{"name": "a", "protocol": "TCP"}]), true),
            (json!(["a"]), json!(["a", "b"]), false),
        ] {
            assert_eq!(holds(&git, &live), expected, "{git} {live}");
        }
    }
}
