//! What the schema refuses: fields that do not exist, words that are none of the few, lengths of time that are none.

use std::collections::BTreeMap;

use breakglass::api::Span;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::Value;

use super::Flaw;

/// A part of a definition's schema.
pub type Schema = JSONSchemaProps;

/// The pattern by which the schema knows a length of time; the type itself says better what is wrong with one.
const SPAN: &str = "([0-9]{1,9}s)?$";

/// Holds a value against its schema.
pub fn check(value: &Value, schema: &Schema, path: &str, flaws: &mut Vec<Flaw>) {
    // A null is taken for an absent field where the field has a default (apiextensions-apiserver pkg/apiserver/schema).
    if value.is_null() && (schema.nullable == Some(true) || schema.default.is_some()) {
        return;
    }
    match (schema.type_.as_deref(), value) {
        (Some("object"), Value::Object(fields)) => {
            let fields = fields.iter().map(|(name, value)| (name.as_str(), value)).collect();
            object(&fields, schema, path, flaws);
        }
        (Some("array"), Value::Array(items)) => array(items, schema, path, flaws),
        (Some("string"), Value::String(text)) => {
            if let Some(why) = wrong_text(text, schema) {
                flaws.push(Flaw::error(path, why));
            }
        }
        (Some("object" | "array" | "string"), other) => {
            flaws.push(Flaw::error(path, format!("is {}, and has to be {}", kind(other), wanted(schema))));
        }
        _ => {}
    }
}

fn object(fields: &BTreeMap<&str, &Value>, schema: &Schema, path: &str, flaws: &mut Vec<Flaw>) {
    let empty = BTreeMap::new();
    let properties = schema.properties.as_ref().unwrap_or(&empty);
    for name in schema.required.iter().flatten().filter(|name| !fields.contains_key(name.as_str())) {
        flaws.push(Flaw::error(format!("{path}.{name}"), "is missing"));
    }
    for (&name, &value) in fields {
        let place = format!("{path}.{name}");
        match (properties.get(name), &schema.additional_properties) {
            (Some(property), _) => check(value, property, &place, flaws),
            (None, Some(JSONSchemaPropsOrBool::Schema(each))) => check(value, each, &place, flaws),
            (None, _) => {
                let meant = nearest(name, properties.keys()).map(|other| format!("; is {other} meant?"));
                let why = format!("there is no such field, and the API server drops it{}", meant.unwrap_or_default());
                flaws.push(Flaw::error(place, why));
            }
        }
    }
}

fn array(items: &[Value], schema: &Schema, path: &str, flaws: &mut Vec<Flaw>) {
    let number = i64::try_from(items.len()).unwrap_or(i64::MAX);
    if schema.min_items.is_some_and(|least| number < least) {
        flaws.push(Flaw::error(path, "is empty, and needs an entry"));
    }
    if let Some(most) = schema.max_items.filter(|most| number > *most) {
        flaws.push(Flaw::error(path, format!("has {number} entries, and may have {most}")));
    }
    if let Some(JSONSchemaPropsOrArray::Schema(each)) = &schema.items {
        for (index, item) in items.iter().enumerate() {
            check(item, each, &format!("{path}[{index}]"), flaws);
        }
    }
}

fn wrong_text(text: &str, schema: &Schema) -> Option<String> {
    let words: Vec<&str> = schema.enum_.iter().flatten().filter_map(|word| word.0.as_str()).collect();
    if !words.is_empty() {
        let near = words.iter().find(|word| word.eq_ignore_ascii_case(text));
        return (!words.contains(&text)).then(|| match near {
            Some(word) => format!("{text:?} is none of the words: write {word}"),
            None => format!("{text:?} is none of the words {}", words.join(", ")),
        });
    }
    let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    let pattern = schema.pattern.as_deref();
    if pattern.is_some_and(|pattern| pattern.ends_with(SPAN)) {
        return text.parse::<Span>().err().map(|error| error.to_string());
    }
    if schema.min_length.is_some_and(|least| length < least) {
        return Some("is empty".to_owned());
    }
    if let Some(most) = schema.max_length.filter(|most| length > *most) {
        return Some(format!("has {length} characters, and may have {most}"));
    }
    let pattern = pattern?;
    let matched = regex::Regex::new(pattern).is_ok_and(|regex| regex.is_match(text));
    (!matched).then(|| format!("{text:?} is not of the form {pattern}"))
}

fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) | Value::Number(_) => format!("{value} without quotes"),
        Value::String(text) => format!("the text {text:?}"),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a set of fields".to_owned(),
    }
}

fn wanted(schema: &Schema) -> &'static str {
    match schema.type_.as_deref() {
        Some("object") => "a set of fields",
        Some("array") => "a list",
        _ => "a text",
    }
}

/// The name that was meant: the same in other letters, or one with at most two letters changed.
fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n String>) -> Option<&'n str> {
    let name = name.to_lowercase();
    let near = known.map(|other| (distance(&name, &other.to_lowercase()), other.as_str()));
    near.filter(|(distance, _)| *distance <= 2).min().map(|(_, other)| other)
}

/// How many letters have to be put in, taken out or changed.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.chars().enumerate() {
        let mut left_above = index;
        row[0] = index + 1;
        for (column, with) in other.iter().enumerate() {
            let changed = left_above + usize::from(letter != *with);
            left_above = row[column + 1];
            row[column + 1] = changed.min(row[column] + 1).min(left_above + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}
