//! Field: a place in an object that changes wrote to, with what was there before the first and what is after the last.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// What was and what became of one place; nothing where it was not there.
#[derive(Clone, Debug, Default, PartialEq)]
struct Field {
    was: Option<Value>,
    became: Option<Value>,
}

/// The places, by their JSON pointers. None lies within another.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Fields(BTreeMap<String, Field>);

impl Fields {
    /// Adds what one more change did.
    pub(super) fn add(&mut self, before: &Value, after: &Value) {
        for pointer in differing(before, after) {
            self.put(&pointer, before.pointer(&pointer).cloned(), after.pointer(&pointer).cloned());
        }
        self.0.retain(|_, field| field.was != field.became);
    }

    fn put(&mut self, pointer: &str, was: Option<Value>, became: Option<Value>) {
        if let Some(field) = self.0.get_mut(pointer) {
            field.became = became;
            return;
        }
        let around = self.0.iter_mut().find(|(around, _)| is_within(pointer, around));
        if let Some((around, field)) = around {
            let below = pointer[around.len()..].to_owned();
            field.became = field.became.as_ref().and_then(|whole| with(whole, &below, became.as_ref()));
            return;
        }
        let within: Vec<String> = self.0.keys().filter(|inner| is_within(inner, pointer)).cloned().collect();
        let mut field = Field { was, became };
        for inner in within {
            let Some(earlier) = self.0.remove(&inner) else { continue };
            let below = &inner[pointer.len()..];
            field.was = field.was.as_ref().and_then(|whole| with(whole, below, earlier.was.as_ref()));
        }
        self.0.insert(pointer.to_owned(), field);
    }

    /// Whether nothing is left of what the changes did.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The places, and what became of them.
    pub(super) fn became(&self) -> impl Iterator<Item = (&String, Option<&Value>)> {
        self.0.iter().map(|(pointer, field)| (pointer, field.became.as_ref()))
    }

    /// An object with every place as it was; nothing where it has no room for one.
    pub(super) fn before(&self, object: &Value) -> Option<Value> {
        self.0.iter().try_fold(object.clone(), |object, (pointer, field)| with(&object, pointer, field.was.as_ref()))
    }

    /// An object with every place as it became; nothing where it has no room for one.
    pub(super) fn onto(&self, object: &Value) -> Option<Value> {
        self.0.iter().try_fold(object.clone(), |object, (pointer, field)| with(&object, pointer, field.became.as_ref()))
    }
}

/// The smallest places in which two objects differ. A list of another length differs as a whole: which of its items is which
/// is not told by their numbers.
pub(super) fn differing(one: &Value, other: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect(one, other, String::new(), &mut found);
    found
}

fn collect(one: &Value, other: &Value, at: String, found: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let added = other.keys().filter(|key| !one.contains_key(*key));
            for key in one.keys().chain(added) {
                let below = format!("{at}/{}", escaped(key));
                match (one.get(key), other.get(key)) {
                    (Some(one), Some(other)) => collect(one, other, below, found),
                    _ => found.push(below),
                }
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                collect(one, other, format!("{at}/{index}"), found);
            }
        }
        (one, other) if one == other => {}
        _ => found.push(at),
    }
}

/// Whether `now` says all that `wanted` says; maps may hold more.
///
/// # Errors
/// The place of the first thing that it does not say.
pub(super) fn covers(wanted: &Value, now: &Value) -> Result<(), String> {
    match (wanted, now) {
        (Value::Object(wanted), Value::Object(now)) => wanted.iter().try_for_each(|(key, wanted)| {
            let below = format!("/{}", escaped(key));
            let now = now.get(key).ok_or_else(|| below.clone())?;
            covers(wanted, now).map_err(|inner| below.clone() + &inner)
        }),
        (Value::Array(wanted), Value::Array(now)) if wanted.len() == now.len() => {
            let mut pairs = wanted.iter().zip(now).enumerate();
            pairs.try_for_each(|(index, (wanted, now))| covers(wanted, now).map_err(|inner| format!("/{index}{inner}")))
        }
        _ if wanted == now => Ok(()),
        _ => Err(String::new()),
    }
}

/// A copy with one place set, or taken away; maps around it are made. Nothing where a list has no such item.
fn with(object: &Value, pointer: &str, value: Option<&Value>) -> Option<Value> {
    let Some(rest) = pointer.strip_prefix('/') else { return value.cloned() };
    let (key, below) = rest.find('/').map_or((rest, ""), |end| rest.split_at(end));
    match object {
        Value::Object(map) => {
            let key = unescaped(key);
            let mut map = map.clone();
            match (below.is_empty(), value) {
                (true, None) => drop(map.remove(&key)),
                (true, Some(value)) => drop(map.insert(key, value.clone())),
                // Nothing is to be where nothing is.
                (false, None) if !map.contains_key(&key) => {}
                (false, _) => {
                    let inner = map.get(&key).cloned().unwrap_or_else(|| Value::Object(Map::new()));
                    map.insert(key, with(&inner, below, value)?);
                }
            }
            Some(Value::Object(map))
        }
        Value::Array(items) => {
            let index: usize = key.parse().ok()?;
            let mut items = items.clone();
            let item = items.get_mut(index)?;
            *item = if below.is_empty() { value.cloned()? } else { with(item, below, value)? };
            Some(Value::Array(items))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

fn is_within(inner: &str, around: &str) -> bool {
    inner.strip_prefix(around).is_some_and(|rest| rest.starts_with('/'))
}

fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

fn unescaped(key: &str) -> String {
    key.replace("~1", "/").replace("~0", "~")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_smallest_places_differ() {
        let check = |one: Value, other: Value, expected: &[&str]| assert_eq!(differing(&one, &other), expected);
        check(json!({"a": 1, "b": {"c": 2}}), json!({"a": 1, "b": {"c": 3}}), &["/b/c"]);
        check(json!({"a": {"x/y~z": 1}}), json!({"a": {"x/y~z": 2}}), &["/a/x~1y~0z"]);
        check(json!({"l": [{"n": 1}, 2]}), json!({"l": [{"n": 3}, 2]}), &["/l/0/n"]);
        check(json!({"l": [1]}), json!({"l": [1, 2]}), &["/l"]);
        check(json!({"a": null}), json!({}), &["/a"]);
        check(json!({}), json!({"m": {"k": "v"}}), &["/m"]);
        check(json!(1), json!(2), &[""]);
    }

    #[test]
    fn what_several_changes_did_is_told_from_before_the_first() {
        let states = [
            json!({"a": 1, "m": {"x": 1, "y": 1}, "l": [1]}),
            json!({"a": 2, "m": {"x": 2, "y": 1}, "l": [1]}),
            // Somebody else has written to b meanwhile.
            json!({"a": 2, "m": {"x": 2, "y": 1}, "l": [1], "b": 9}),
            json!({"a": 3, "m": "gone", "l": [1, 2], "b": 9}),
            json!({"a": 1, "m": "gone", "l": [4, 2], "b": 9}),
        ];
        let mut fields = Fields::default();
        for (before, after) in [(0, 1), (2, 3), (3, 4)] {
            fields.add(&states[before], &states[after]);
        }
        let found: Vec<&String> = fields.became().map(|(pointer, _)| pointer).collect();
        assert_eq!(found, ["/l", "/m"]);
        assert_eq!(fields.before(&states[4]).unwrap(), json!({"a": 1, "m": {"x": 1, "y": 1}, "l": [1], "b": 9}));
        assert_eq!(fields.onto(&states[0]).unwrap(), json!({"a": 1, "m": "gone", "l": [4, 2]}));
        assert_eq!(fields.before(&json!("no object")), None);
        // And back again: nothing is left.
        fields.add(&states[4], &json!({"a": 1, "m": {"x": 1, "y": 1}, "l": [1], "b": 9}));
        assert!(fields.is_empty(), "{fields:?}");
    }

    #[test]
    fn maps_may_hold_more_and_nothing_else_may() {
        let check = |wanted: Value, now: Value, expected: Result<(), &str>| {
            assert_eq!(covers(&wanted, &now), expected.map_err(str::to_owned), "{wanted} {now}");
        };
        check(json!({"a": {"b": 1}}), json!({"a": {"b": 1, "c": 2}, "d": 3}), Ok(()));
        check(json!({"a": {"b": 1}}), json!({"a": {"b": 2}}), Err("/a/b"));
        check(json!({"a/b": 1}), json!({}), Err("/a~1b"));
        check(json!([{"a": 1}]), json!([{"a": 1, "b": 2}]), Ok(()));
        check(json!([1]), json!([1, 2]), Err(""));
        check(json!([1, 2]), json!([1, 3]), Err("/1"));
    }
}
