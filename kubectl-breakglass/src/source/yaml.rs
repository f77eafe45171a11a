//! YAML as kubectl reads it: the documents of a text, their values, and the line of a field.

use std::str::FromStr;

use serde_json::Value;
use yaml_edit::{YamlFile, YamlNode};

use super::field::Step;

/// One document of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Where it begins, in bytes.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// What it says; null for nothing.
    pub value: Value,
}

/// The values of a stream, those that say nothing left out.
///
/// # Errors
/// What cannot be read, in the parser's words.
pub fn objects(text: &str) -> Result<Vec<Value>, String> {
    // go-yaml reads 0644 as the octal number that people mean with it.
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned())?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// The documents of a text, the empty ones too: the editor counts them as well.
///
/// # Errors
/// When it cannot be read, or the reader and the editor do not see the same in it.
pub fn documents(text: &str) -> Result<Vec<Document>, String> {
    let file = parse(text)?;
    let mut found = Vec::new();
    for document in file.documents() {
        let range = document.byte_range();
        let (start, end) = (range.start as usize, range.end as usize);
        let part = text.get(start..end).ok_or("the editor does not see whole characters in it")?;
        let mut values = objects(part)?.into_iter();
        found.push(Document { start, end, value: values.next().unwrap_or_default() });
        if values.next().is_some() {
            return Err("the editor sees one document where the reader sees two".to_owned());
        }
    }
    let whole = objects(text)?;
    let seen: Vec<&Value> = found.iter().map(|document| &document.value).filter(|value| !value.is_null()).collect();
    if seen != whole.iter().collect::<Vec<_>>() {
        return Err("the reader and the editor do not see the same in it".to_owned());
    }
    Ok(found)
}

pub(super) fn parse(text: &str) -> Result<YamlFile, String> {
    YamlFile::from_str(text).map_err(|error| error.to_string())
}

/// The line, counted from one, of the deepest field on a path that a document has; that of the document if it has none.
pub fn line_of(text: &str, document: usize, path: &[Step]) -> usize {
    let Ok(file) = parse(text) else { return 1 };
    let Some(document) = file.documents().nth(document) else { return 1 };
    let mut offset = document.as_mapping().map_or(document.byte_range().start, |map| map.byte_range().start);
    let mut node = document.as_mapping().map(YamlNode::Mapping);
    for step in path {
        let next = match (step, &node) {
            (Step::Key(key), Some(YamlNode::Mapping(map))) => map.find_entry_by_key(key.as_str()).map(|entry| {
                let start = entry.byte_range().start;
                (start, entry.value_node())
            }),
            (Step::Item(key, name), Some(YamlNode::Sequence(list))) => {
                let name = name.as_str().map_or_else(|| name.to_string(), str::to_owned);
                list.values().find_map(|item| {
                    let map = item.as_mapping()?.clone();
                    let said = map.get(*key)?.as_scalar()?.as_string();
                    (said == name).then(|| (map.byte_range().start, Some(item)))
                })
            }
            _ => None,
        };
        let Some((start, below)) = next else { break };
        (offset, node) = (start, below);
    }
    text.as_bytes().iter().take(offset as usize).filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn documents_are_those_that_a_person_sees() {
        let text = "# head\na: 1\n---\n# nothing\n---\nb: 0644\n...\n";
        let found: Vec<Value> = documents(text).unwrap().into_iter().map(|document| document.value).collect();
        assert_eq!(found, [json!({"a": 1}), Value::Null, json!({"b": 420})]);
        assert!(documents("a: 1\na: 2\n").is_err(), "a key that is there twice");
    }

    #[test]
    fn a_field_has_a_line() {
        let text = "a: 1\n---\nspec:\n  containers:\n  - name: x\n    image: y\n  - image: z\n    name: w\n";
        let key = |key: &str| Step::Key(key.to_owned());
        let item = |name: &str| Step::Item("name", json!(name));
        for (path, line) in [
            (vec![], 3),
            (vec![key("spec"), key("containers"), item("x"), key("image")], 6),
            (vec![key("spec"), key("containers"), item("w"), key("image")], 7),
            (vec![key("spec"), key("containers"), item("w"), key("args")], 7),
            (vec![key("other")], 3),
        ] {
            assert_eq!(line_of(text, 1, &path), line, "{path:?}");
        }
    }
}
