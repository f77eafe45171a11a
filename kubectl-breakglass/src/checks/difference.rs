//! Where what is there differs from what should be, field by field.

use serde_json::Value;

/// The longest value that is printed whole.
const LONGEST: usize = 60;

/// A field in which two differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The field, such as `matchConditions[0].expression`.
    pub field: String,
    /// What it has.
    pub live: String,
    /// What it should have.
    pub wanted: String,
}

/// Every field in which `live` differs from `wanted`, but for those that `aside` names by the end of their path. An absent
/// field, null and an empty list are the same: the API server writes each for the others.
pub fn differences(wanted: &Value, live: &Value, aside: &[&str]) -> Vec<Difference> {
    let mut found = Vec::new();
    compare("", wanted, live, aside, &mut found);
    found
}

fn compare(path: &str, wanted: &Value, live: &Value, aside: &[&str], found: &mut Vec<Difference>) {
    if aside.iter().any(|end| path == *end || path.ends_with(&format!(".{end}"))) || is_same(wanted, live) {
        return;
    }
    match (wanted, live) {
        (Value::Object(mine), Value::Object(theirs)) => {
            let mut names: Vec<&String> = mine.keys().chain(theirs.keys()).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                let place = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let of = |side: &serde_json::Map<String, Value>| side.get(name).cloned().unwrap_or(Value::Null);
                compare(&place, &of(mine), &of(theirs), aside, found);
            }
        }
        (Value::Array(mine), Value::Array(theirs)) if mine.len() == theirs.len() => {
            for (index, (mine, theirs)) in mine.iter().zip(theirs).enumerate() {
                compare(&format!("{path}[{index}]"), mine, theirs, aside, found);
            }
        }
        _ => found.push(Difference { field: path.to_owned(), live: short(live), wanted: short(wanted) }),
    }
}

fn is_same(one: &Value, other: &Value) -> bool {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    };
    one == other || (is_empty(one) && is_empty(other))
}

fn short(value: &Value) -> String {
    let text = match value {
        Value::Null => return "nothing".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(wanted: Value, live: Value, expected: &[(&str, &str, &str)]) {
        let found = differences(&wanted, &live, &["caBundle"]);
        let found: Vec<_> =
            found.iter().map(|one| (one.field.as_str(), one.live.as_str(), one.wanted.as_str())).collect();
        assert_eq!(found, expected, "{wanted} {live}");
    }

    #[test]
    fn only_what_differs_is_named_with_its_place() {
        check(json!({"a": 1}), json!({"a": 1}), &[]);
        check(json!({"a": {"b": [1, 2]}}), json!({"a": {"b": [1, 3]}}), &[("a.b[1]", "3", "2")]);
        check(json!({"a": [1]}), json!({"a": [1, 2]}), &[("a", "[1,2]", "[1]")]);
        check(json!({"a": "x"}), json!({}), &[("a", "nothing", "x")]);
        check(json!({}), json!({"b": "y"}), &[("b", "y", "nothing")]);
        check(json!({"a": {}}), json!({"a": null, "b": []}), &[]);
        check(json!({"c": {"caBundle": "x"}}), json!({"c": {"caBundle": "y"}}), &[]);
    }
}
