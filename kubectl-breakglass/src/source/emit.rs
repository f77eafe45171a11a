//! YAML that is new: in block style, with the fields in the order in which people write them.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::yaml::objects;

/// Fields that come before all others, in this order; the rest by the alphabet.
const FIRST: [&str; 8] =
    ["$patch", "apiVersion", "kind", "metadata", "name", "namespace", "containerPort", "mountPath"];

/// Fields that come after all others.
const LAST: [&str; 2] = ["data", "binaryData"];

/// Writes a value.
///
/// # Errors
/// When it would not be read as what it is.
pub fn to_text(value: &Value) -> Result<String, String> {
    let mut text = String::new();
    match value {
        Value::Object(fields) if !fields.is_empty() => mapping(&mut text, fields, 0)?,
        Value::Array(items) if !items.is_empty() => sequence(&mut text, items, 0)?,
        _ => text = format!("{}\n", inline(value)?),
    }
    let is_read = objects(&text)?.first().unwrap_or(&Value::Null) == value;
    if is_read { Ok(text) } else { by_the_library(value) }
}

/// As the library writes it, which nests texts of several lines and odd keys as nobody would by hand.
fn by_the_library(value: &Value) -> Result<String, String> {
    let options = serde_saphyr::ser_options! { folded_wrap_chars: 1_000_000, compact_list_indent: true };
    serde_saphyr::to_string_with_options(value, options).map_err(|error| error.to_string())
}

fn mapping(text: &mut String, fields: &Map<String, Value>, indent: usize) -> Result<(), String> {
    let rank = |key: &str| {
        let first = FIRST.iter().position(|known| *known == key);
        let last = LAST.iter().position(|known| *known == key);
        first.or(last.map(|at| 100 + at)).unwrap_or(50)
    };
    let mut sorted: Vec<(&String, &Value)> = fields.iter().collect();
    sorted.sort_by_key(|(key, _)| (rank(key), *key));
    for (at, (key, value)) in sorted.into_iter().enumerate() {
        // The first key of an item stands behind its dash.
        let room = if at == 0 && text.ends_with("- ") { 0 } else { indent };
        let key = inline(&Value::String(key.clone()))?;
        // Writing to a String does not fail.
        let _ = write!(text, "{:room$}{key}:", "");
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                text.push('\n');
                mapping(text, fields, indent + 2)?;
            }
            Value::Array(items) if !items.is_empty() => {
                text.push('\n');
                sequence(text, items, indent)?;
            }
            Value::String(lines) if is_block(lines) => block(text, lines, indent + 2),
            _ => {
                let _ = writeln!(text, " {}", inline(value)?);
            }
        }
    }
    Ok(())
}

fn sequence(text: &mut String, items: &[Value], indent: usize) -> Result<(), String> {
    for item in items {
        let _ = write!(text, "{:indent$}- ", "");
        match item {
            Value::Object(fields) if !fields.is_empty() => mapping(text, fields, indent + 2)?,
            _ => {
                let _ = writeln!(text, "{}", inline(item)?);
            }
        }
    }
    Ok(())
}

/// Whether a text is readable as a block of lines, as it stands.
fn is_block(text: &str) -> bool {
    let is_plain = |line: &str| !line.ends_with([' ', '\t']) && !line.contains(|letter: char| letter.is_control());
    text.contains('\n') && !text.starts_with([' ', '\n']) && !text.ends_with("\n\n") && text.lines().all(is_plain)
}

fn block(text: &mut String, lines: &str, indent: usize) {
    text.push_str(if lines.ends_with('\n') { " |\n" } else { " |-\n" });
    for line in lines.lines() {
        let room = if line.is_empty() { 0 } else { indent };
        let _ = writeln!(text, "{:room$}{line}", "");
    }
}

/// A value on one line: JSON, where it is no scalar.
fn inline(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) if text.contains('\n') => Ok(value.to_string()),
        Value::String(_) => Ok(by_the_library(value)?.trim_end().to_owned()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => Ok(value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_stand_in_the_order_that_people_know() {
        let value = json!({
            "apiVersion": "v1", "data": {"a.b": "x: y", "lines": "one\n  two\n", "yes": "no"}, "kind": "ConfigMap",
            "metadata": {"annotations": {"a/b": "true"}, "name": "a", "labels": {}},
            "spec": {"containers": [{"image": "x:1", "args": ["--a", "5", "[b]"], "name": "main", "env": []}], "n": 5, "m": null},
        });
        let expected = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n  annotations:\n    a/b: \"true\"\n  labels: {}\nspec:\n  \
            containers:\n  - name: main\n    args:\n    - --a\n    - \"5\"\n    - \"[b]\"\n    env: []\n    image: x:1\n  m: null\n  \"n\": 5\n\
            data:\n  a.b: \"x: y\"\n  lines: |\n    one\n      two\n  \"yes\": \"no\"\n";
        assert_eq!(to_text(&value).unwrap(), expected);
    }

    #[test]
    fn every_text_is_read_as_what_it_is() {
        for text in [
            "",
            " ",
            "a\nb",
            "a\n\nb\n\n",
            "\n",
            " a\nb\n",
            "a: b",
            "# a",
            "- a",
            "y",
            "1_000",
            "0644",
            "\u{1}",
            "é\n\tx",
            "'",
            "\"",
            "*a",
            "&a",
            "a #b",
            "%a",
            "@a",
            "`a",
            "?",
            "|",
            "~",
            "null",
            "12:30",
        ] {
            for value in [
                json!(text),
                json!({"a": text}),
                json!({text: "a"}),
                json!([text]),
                json!({"a": [{"b": text, "name": 1}]}),
            ] {
                let written = to_text(&value).unwrap();
                assert_eq!(objects(&written).unwrap().first().unwrap_or(&Value::Null), &value, "{written}");
            }
        }
    }
}
