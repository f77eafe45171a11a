//! What an edit leaves of a file, as a table: every case with LF, with CRLF, and without an end of its last line.

use serde_json::{Value, json};

use super::rewrite;
use crate::source::yaml::documents;

fn check(text: &str, document: usize, change: impl Fn(&mut Value), expected: &str) {
    for (old, new) in [
        (text.to_owned(), expected.to_owned()),
        (text.replace('\n', "\r\n"), expected.replace('\n', "\r\n")),
        (text.trim_end().to_owned(), expected.trim_end().to_owned()),
    ] {
        let mut wanted = documents(&old).unwrap()[document].value.clone();
        change(&mut wanted);
        assert_eq!(rewrite(&old, document, &wanted), Ok(new), "{old}");
    }
}

#[test]
fn a_scalar_keeps_its_quotes_and_its_comment() {
    for (line, value, expected) in [
        ("a: 4  # by hand", json!(6), "a: 6  # by hand"),
        ("a: \"x:1\" # c", json!("x:2"), "a: \"x:2\" # c"),
        ("a: 'x:1' # c", json!("it's"), "a: 'it''s' # c"),
        ("a: x:1 # c", json!("x:2"), "a: x:2 # c"),
        ("a: x", json!("yes"), "a: 'yes'"),
        ("a: x", json!("1_000"), "a: \"1_000\""),
        ("a: x", json!("y"), "a: \"y\""),
        ("a: \"5\"", json!(5), "a: 5"),
        ("a: 5", json!("5"), "a: \"5\""),
        ("a: true", json!(false), "a: false"),
        ("a: {b: \"2\", c: 1Gi}", json!({"b": "4", "c": "1Gi"}), "a: {b: \"4\", c: 1Gi}"),
    ] {
        let text = |line: &str| format!("# head\n{line}\nz: 1\n");
        check(&text(line), 0, |wanted| wanted["a"] = value.clone(), &text(expected));
    }
}

#[test]
fn keys_come_and_go_in_their_place() {
    let text = "metadata:\n    name: a\n    # why\n    labels: {x: \"1\"}\nspec: 1\n";
    check(
        text,
        0,
        |wanted| wanted["metadata"]["annotations"] = json!({"a/b": "true"}),
        "metadata:\n    name: a\n    # why\n    labels: {x: \"1\"}\n    annotations:\n      a/b: \"true\"\nspec: 1\n",
    );
    let text = "a:\n  b: 1 # one\n  c: 2 # two\n  # three\n  d: 3\n";
    check(
        text,
        0,
        |wanted| drop(wanted["a"].as_object_mut().unwrap().remove("c")),
        "a:\n  b: 1 # one\n  # three\n  d: 3\n",
    );
}

#[test]
fn items_are_found_by_their_name() {
    let text = "env:\n- name: A\n  value: \"1\" # first\n# about b\n- name: B\n  value: \"2\"\n";
    check(
        text,
        0,
        |wanted| wanted["env"][1]["value"] = json!("3"),
        "env:\n- name: A\n  value: \"1\" # first\n# about b\n- name: B\n  value: \"3\"\n",
    );
    check(
        text,
        0,
        |wanted| wanted["env"].as_array_mut().unwrap().push(json!({"name": "C", "value": "on"})),
        "env:\n- name: A\n  value: \"1\" # first\n# about b\n- name: B\n  value: \"2\"\n- name: C\n  value: \"on\"\n",
    );
    check(
        text,
        0,
        |wanted| drop(wanted["env"].as_array_mut().unwrap().remove(0)),
        "env:\n# about b\n- name: B\n  value: \"2\"\n",
    );
}

#[test]
fn one_document_changes_and_its_neighbours_do_not() {
    let text = "# one\na: 1\n---\n# two\na: 1 # here\n---\n\na: 1\n";
    check(text, 1, |wanted| wanted["a"] = json!(2), "# one\na: 1\n---\n# two\na: 2 # here\n---\n\na: 1\n");
}

#[test]
fn what_stands_behind_an_alias_is_not_edited() {
    for (text, pointer) in [
        ("a: &x {k: 1}\nb: *x\n", "/b/k"),
        ("a: &x {k: 1}\nb: *x\n", "/a/k"),
        ("a: &x {k: 1}\nb:\n  <<: *x\n  l: 2\n", "/a/k"),
    ] {
        let mut wanted = documents(text).unwrap()[0].value.clone();
        *wanted.pointer_mut(pointer).unwrap() = json!(2);
        assert!(rewrite(text, 0, &wanted).is_err(), "{text} {pointer}");
    }
}

/// Two documents without anchors, in the styles that people mix.
const MIXED: &str = r#"# who to call
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, labels: {app: "api", 'tier': web}}   # short
data:
  plain: text   # why
  "quoted key": 'single ''quoted'''
  number: "5"
  lines: |
    one
      two

    three
  folded: >-
    a b
    c d
---
# what answers
apiVersion: apps/v1
kind: Deployment
spec:
    replicas: 2  # by hand
    paused: false
    template:
        spec:
            containers:
            # the first
            - name: api
              args: [serve, "--port=8080"]
              env:
                  - name: A   # first
                    value: "1"

                  # about b
                  - {name: B, value: two}
              resources: {}
            - image: example.com/proxy:1
              name: proxy   # last
            volumes: []
"#;

/// Every change of one place that can be thought of, at every place.
fn variants(value: &Value) -> Vec<Value> {
    let mut found = vec![
        json!("plain"),
        json!("yes"),
        json!("a: b #c"),
        json!("l1\nl2\n"),
        json!(7),
        json!(true),
        json!({"k": "v", "l": [1]}),
    ];
    let pairs: Vec<(Option<String>, usize)> = match value {
        Value::Object(fields) => fields.keys().map(|key| (Some(key.clone()), 0)).collect(),
        Value::Array(items) => (0..items.len()).map(|at| (None, at)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    for (key, at) in pairs {
        let below = key.as_ref().map_or_else(|| &value[at], |key| &value[key.as_str()]);
        let mut without = value.clone();
        match &key {
            Some(key) => drop(without.as_object_mut().unwrap().remove(key)),
            None => drop(without.as_array_mut().unwrap().remove(at)),
        }
        found.push(without);
        for other in variants(below) {
            let mut with = value.clone();
            match &key {
                Some(key) => with[key.as_str()] = other,
                None => with[at] = other,
            }
            found.push(with);
        }
    }
    let mut more = value.clone();
    match &mut more {
        Value::Object(fields) => drop(fields.insert("zz.example.com/new".to_owned(), json!("yes"))),
        Value::Array(items) => items.push(json!({"name": "new", "value": "on"})),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return found,
    }
    found.push(more);
    found
}

#[test]
fn every_place_of_a_file_without_anchors_can_be_edited_and_keeps_its_comments() {
    let (mut edits, mut refused) = (0, Vec::new());
    // All with LF; of the other ways to end lines every fifth, for the time it takes.
    for (text, step) in [(MIXED.to_owned(), 1), (MIXED.replace('\n', "\r\n"), 5), (MIXED.trim_end().to_owned(), 5)] {
        let values: Vec<Value> = documents(&text).unwrap().into_iter().map(|document| document.value).collect();
        for (at, value) in values.iter().enumerate() {
            let all = variants(value).into_iter().filter(|wanted| wanted.is_object() && wanted != value);
            for wanted in all.step_by(step) {
                edits += 1;
                match rewrite(&text, at, &wanted) {
                    Ok(new) => {
                        let other = if at == 0 { "# what answers" } else { "# who to call" };
                        assert!(new.contains(other), "{new}");
                        assert_eq!(new.contains("\r\n"), text.contains("\r\n"), "{new}");
                    }
                    Err(why) => refused.push(format!("{why}: {wanted}")),
                }
            }
        }
    }
    assert!(edits > 400, "{edits}");
    assert!(refused.is_empty(), "{} of {edits}:\n{}", refused.len(), refused.join("\n"));
}
