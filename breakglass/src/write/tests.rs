//! What is read of an object, and who wrote it.

use super::*;

fn object(json: &str) -> Metadata {
    let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
    Object::new(&raw).metadata
}

#[test]
fn metadata_is_read_whatever_surrounds_it() {
    let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
    let json =
        format!(r#"{{"data":{deep},"metadata":{{"name":"a","labels":{{"k":"v","odd":1}},"annotations":null}}}}"#);
    let metadata = object(&json);
    assert_eq!(metadata.name, "a");
    assert_eq!(metadata.labels().get("k").map(String::as_str), Some("v"));
    assert_eq!(metadata.labels().len(), 1);
    assert_eq!(metadata.annotations, None);
}

#[test]
fn the_manager_that_writes_is_the_one_whose_entry_changed() {
    let managed = |entries: serde_json::Value| -> Box<RawValue> {
        serde_json::from_str(&serde_json::json!({"metadata": {"managedFields": entries}}).to_string()).unwrap()
    };
    let entry = |manager: &str, second: u32, fields: serde_json::Value| {
        serde_json::json!({"manager": manager, "operation": "Update", "fieldsV1": fields,
            "time": format!("2026-11-20T12:00:0{second}Z")})
    };
    let (one, two) = (serde_json::json!({"f:a": {}}), serde_json::json!({"f:a": {}, "f:b": {}}));
    for (before, after, expected) in [
        (vec![], vec![entry("a", 1, one.clone()), entry("b", 2, one.clone())], "b"),
        // b takes a field from a, within the second in which a wrote.
        (vec![entry("a", 1, two.clone())], vec![entry("a", 1, one.clone()), entry("b", 1, one.clone())], "b"),
        (vec![entry("b", 1, two.clone())], vec![entry("a", 1, one.clone()), entry("b", 1, one.clone())], "a"),
        // a writes again what it owns.
        (
            vec![entry("a", 1, one.clone()), entry("b", 1, one.clone())],
            vec![entry("a", 2, one.clone()), entry("b", 1, one)],
            "a",
        ),
    ] {
        let (before, after) = (managed(serde_json::json!(before)), managed(serde_json::json!(after)));
        let manager = Object::new(&after).writing_manager(Some(&Object::new(&before)), None);
        assert_eq!(manager.as_deref(), Some(expected));
    }
}

#[test]
fn what_has_no_metadata_has_empty_metadata() {
    for json in ["null", "1", "[]", "{}", r#"{"metadata":null}"#, r#"{"metadata":7}"#] {
        assert_eq!(object(json), Metadata::default(), "{json}");
    }
}

/// What cannot be read as an object has no fields, which is not the same as an object without any: two of them are not alike.
#[test]
fn an_object_that_cannot_be_read_has_no_fields() {
    for (json, fields) in [
        ("{}", Some(0)),
        (r#"{"metadata":{"name":"a"},"data":{}}"#, Some(2)),
        (r#"{"\ud800":1,"metadata":{"name":"a"}}"#, None),
        (r#"[{"name":"a"}]"#, None),
        ("7", None),
    ] {
        let raw = serde_json::from_str::<&RawValue>(json).unwrap();
        let object = Object::new(raw);
        assert_eq!(object.fields().map(|fields| fields.len()), fields, "{json}");
        assert_eq!(object.metadata.name.is_empty(), fields != Some(2), "{json}");
    }
}
