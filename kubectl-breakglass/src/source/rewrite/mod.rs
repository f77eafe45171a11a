//! A document is made to say another value: what differs is changed in place, and everything else stays as somebody wrote it.

use serde_json::{Map, Value};
use yaml_edit::{Mapping, ScalarStyle, ScalarValue, Sequence, YamlFile, YamlNode};

use super::emit::to_text;
use super::merge_keys::key_of;
use super::yaml::{documents, parse};

/// Makes one document of a text say `wanted`.
///
/// # Errors
/// Where it cannot be done so that nothing else changes: through an alias, or where the editor would say something else.
pub fn rewrite(text: &str, document: usize, wanted: &Value) -> Result<String, String> {
    if text.contains("\r\n") && !text.replace("\r\n", "").contains(['\r', '\n']) {
        // Lines end alike afterwards as well.
        return Ok(rewrite(&text.replace("\r\n", "\n"), document, wanted)?.replace('\n', "\r\n"));
    }
    let before = documents(text)?;
    let old = &before.get(document).ok_or("there is no such document in it")?.value;
    if old == wanted {
        return Ok(text.to_owned());
    }
    let file = parse(text)?;
    let root = file.documents().nth(document).and_then(|document| document_root(&document));
    rewrite_node(root.as_ref(), old, wanted)?;
    let new = keep_end(text, file.to_string());
    verify(&new, &before, (document, wanted))?;
    Ok(new)
}

fn document_root(document: &yaml_edit::Document) -> Option<YamlNode> {
    document.as_mapping().map(YamlNode::Mapping).or_else(|| document.as_sequence().map(YamlNode::Sequence))
}

/// A file that ended without a line break does so again, and one that ended with one too.
fn keep_end(old: &str, mut new: String) -> String {
    match (old.ends_with('\n'), new.ends_with('\n')) {
        (false, true) => {
            new.pop();
        }
        (true, false) => new.push('\n'),
        (true, true) | (false, false) => {}
    }
    new
}

/// Reads what was written, and compares it with what had to be.
fn verify(new: &str, before: &[super::yaml::Document], (document, wanted): (usize, &Value)) -> Result<(), String> {
    let after = documents(new)?;
    let is_wanted = after.len() == before.len()
        && before.iter().zip(&after).enumerate().all(|(at, (old, new))| {
            let expected = if at == document { wanted } else { &old.value };
            &new.value == expected
        });
    if is_wanted {
        Ok(())
    } else {
        Err("an edit in place would change more than this: an anchor, or a merge".to_owned())
    }
}

fn rewrite_node(node: Option<&YamlNode>, old: &Value, new: &Value) -> Result<(), String> {
    match (node, old, new) {
        (Some(YamlNode::Mapping(node)), Value::Object(old), Value::Object(new)) => rewrite_mapping(node, old, new),
        (Some(YamlNode::Sequence(node)), Value::Array(old), Value::Array(new)) => rewrite_sequence(node, old, new),
        (Some(YamlNode::Alias(_)), ..) => Err(ALIAS.to_owned()),
        (Some(YamlNode::TaggedNode(_)), ..) => Err("it has a tag of its own".to_owned()),
        _ => Err("it is written in a way that cannot be edited in place".to_owned()),
    }
}

const ALIAS: &str = "it stands behind an alias, so that others would change with it";

fn rewrite_mapping(node: &Mapping, old: &Map<String, Value>, new: &Map<String, Value>) -> Result<(), String> {
    for (key, value) in new {
        match old.get(key) {
            Some(before) if before == value => {}
            Some(before) => rewrite_value(node, key, (before, value))?,
            None => add_key(node, key, value)?,
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        node.remove(key.as_str()).ok_or("it comes from a merge of mappings (<<)")?;
    }
    Ok(())
}

fn rewrite_value(node: &Mapping, key: &str, (old, new): (&Value, &Value)) -> Result<(), String> {
    let below = node.get(key).or_else(|| node.find_entry_by_key(key).and_then(|entry| entry.value_node()));
    let is_same_shape = (old.is_object() && new.is_object()) || (old.is_array() && new.is_array());
    let is_empty_now = new.as_object().is_some_and(Map::is_empty) || new.as_array().is_some_and(Vec::is_empty);
    match &below {
        Some(YamlNode::Alias(_)) => Err(ALIAS.to_owned()),
        None if !old.is_null() => Err(ALIAS.to_owned()),
        Some(_) if is_same_shape && !is_empty_now => rewrite_node(below.as_ref(), old, new),
        Some(YamlNode::Scalar(scalar)) => set_scalar(node, key, (Some(ScalarValue::from_scalar(scalar).style()), new)),
        _ => set_scalar(node, key, (None, new)),
    }
}

fn set_scalar(node: &Mapping, key: &str, (style, new): (Option<ScalarStyle>, &Value)) -> Result<(), String> {
    match new {
        Value::String(text) => node.set(key, styled(text, style)),
        Value::Bool(flag) => node.set(key, *flag),
        Value::Number(number) if number.is_i64() => node.set(key, number.as_i64().unwrap_or_default()),
        Value::Null => node.set(key, ScalarValue::null()),
        Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            let built = build(new)?;
            node.set(key, root_of(&built)?);
        }
    }
    Ok(())
}

fn add_key(node: &Mapping, key: &str, value: &Value) -> Result<(), String> {
    // A key that YAML 1.1 reads as something else than a string.
    let name = styled(key, None);
    match value {
        Value::String(text) => node.set(name, styled(text, None)),
        Value::Bool(flag) => node.set(name, *flag),
        Value::Number(number) if number.is_i64() => node.set(name, number.as_i64().unwrap_or_default()),
        Value::Null => node.set(name, ScalarValue::null()),
        Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            let built = build(value)?;
            node.set(name, root_of(&built)?);
        }
    }
    Ok(())
}

/// A string in the quotes that were there, or in such as it needs.
fn styled(text: &str, style: Option<ScalarStyle>) -> ScalarValue {
    match style {
        Some(style @ (ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted)) => ScalarValue::with_style(text, style),
        Some(style @ ScalarStyle::Literal) if text.contains('\n') => ScalarValue::with_style(text, style),
        _ if is_ambiguous(text) => ScalarValue::double_quoted(text),
        _ => ScalarValue::string(text),
    }
}

/// Whether YAML 1.1, which go-yaml still reads in part, takes a plain scalar for something else than a string.
fn is_ambiguous(text: &str) -> bool {
    // A version: of a number there is one point at most.
    if text.matches('.').count() > 1 && !text.contains([':', '_']) {
        return false;
    }
    let is_numeric = text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first));
    matches!(text, "y" | "Y" | "n" | "N" | "=" | "<<")
        || (is_numeric && text.bytes().all(|byte| byte.is_ascii_hexdigit() || b"_:.-+TZtzxo".contains(&byte)))
}

/// Nodes of a value, to be put in.
fn build(value: &Value) -> Result<YamlFile, String> {
    parse(&to_text(value)?)
}

fn root_of(built: &YamlFile) -> Result<YamlNode, String> {
    let document = built.document().ok_or("it cannot be written as YAML")?;
    let scalar = || document.as_scalar().map(YamlNode::Scalar);
    document_root(&document).or_else(scalar).ok_or_else(|| "it cannot be written as YAML".to_owned())
}

/// Which item of the old list an item of the new one is: the one of its name, else an equal one.
fn origins(node_key: Option<&'static str>, old: &[Value], new: &[Value]) -> Vec<Option<usize>> {
    let mut next = 0;
    new.iter()
        .map(|item| {
            let is_same = |other: &Value| match node_key {
                Some(key) => other.get(key) == item.get(key),
                None => other == item,
            };
            let at = next + old.get(next..)?.iter().position(is_same)?;
            next = at + 1;
            Some(at)
        })
        .collect()
}

/// Any key that every item has and no two share will do: here it is only told which item was meant.
fn list_key(old: &[Value], new: &[Value]) -> Option<&'static str> {
    ["containers", "volumeMounts", "ports", "hostAliases", "readinessGates", "topologySpreadConstraints"]
        .iter()
        .find_map(|field| key_of(field, [old, new]))
}

fn rewrite_sequence(node: &Sequence, old: &[Value], new: &[Value]) -> Result<(), String> {
    let mut from = origins(list_key(old, new), old, new);
    let is_one_for_one = old.len() == new.len() && from.iter().any(Option::is_none);
    if is_one_for_one {
        // Items without a name, as many as before: each is the one in its place.
        from = (0..new.len()).map(Some).collect();
    }
    for at in (0..old.len()).rev().filter(|at| !from.contains(&Some(*at))) {
        node.remove(at).ok_or(ALIAS)?;
    }
    let kept: Vec<usize> = from.iter().flatten().copied().collect();
    for (place, at) in kept.iter().enumerate() {
        let wanted = from.iter().position(|origin| origin == &Some(*at)).and_then(|place| new.get(place));
        if let Some(wanted) = wanted {
            rewrite_item(node, place, (&old[*at], wanted))?;
        }
    }
    for (place, item) in new.iter().enumerate().filter(|(place, _)| from[*place].is_none()) {
        insert(node, place, item)?;
    }
    Ok(())
}

fn rewrite_item(node: &Sequence, place: usize, (old, new): (&Value, &Value)) -> Result<(), String> {
    if old == new {
        return Ok(());
    }
    let item = node.get(place);
    match &item {
        Some(YamlNode::Scalar(scalar)) => {
            let style = ScalarValue::from_scalar(scalar).style();
            let is_set = match new {
                Value::String(text) => node.set(place, styled(text, Some(style))),
                _ => node.set(place, root_of(&build(new)?)?),
            };
            is_set.then_some(()).ok_or_else(|| ALIAS.to_owned())
        }
        Some(YamlNode::Mapping(_)) if !new.is_object() => set_item(node, place, new),
        Some(YamlNode::Sequence(_)) if !new.is_array() => set_item(node, place, new),
        Some(_) => rewrite_node(item.as_ref(), old, new),
        None => Err(ALIAS.to_owned()),
    }
}

fn set_item(node: &Sequence, place: usize, new: &Value) -> Result<(), String> {
    let built = build(new)?;
    node.set(place, root_of(&built)?).then_some(()).ok_or_else(|| ALIAS.to_owned())
}

fn insert(node: &Sequence, place: usize, item: &Value) -> Result<(), String> {
    let built;
    let value = match item {
        Value::String(text) => return insert_at(node, place, styled(text, None)),
        _ => {
            built = build(item)?;
            root_of(&built)?
        }
    };
    insert_at(node, place, value)
}

fn insert_at(node: &Sequence, place: usize, value: impl yaml_edit::AsYaml) -> Result<(), String> {
    if place >= node.len() {
        node.push(value);
    } else {
        node.insert(place, value);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
