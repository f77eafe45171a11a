//! What must hold of any bytes, as plain functions that panic where it does not: libFuzzer calls them, and so does an
//! ordinary test (`tests/replay.rs`), over the corpus and over mutations of it.

use breakglass::stamp::{self, Keys};
use breakglass::write::{Metadata, Object};
use serde_json::value::RawValue;
use serde_json::{Value, json};

// Bytes → review → decision → stamp → answer → record.
mod review;
// The patch that puts our keys on an object.
mod patch;
// What differs between two objects.
mod diff;
// Bytes that are almost a review.
pub mod mutate;

pub use diff::diff;
pub use patch::patch;
pub use review::review;

/// What may be asked of bytes.
pub type Property = fn(&[u8]);

/// The two JSON documents that the bytes begin with.
fn two_documents(bytes: &[u8]) -> Option<(Value, Value)> {
    let mut documents = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    Some((documents.next()?.ok()?, documents.next()?.ok()?))
}

fn raw(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("every value can be written")
}

/// Applies a patch by another hand than the one that made it.
fn applied(document: &Value, steps: &Value) -> Value {
    let patch: json_patch::Patch = serde_json::from_value(steps.clone()).expect("every patch of ours is a JSON patch");
    let mut document = document.clone();
    json_patch::patch(&mut document, &patch).unwrap_or_else(|error| panic!("{error}: {patch} on {document}"));
    document
}

/// Our keys on an object.
fn keys_of(object: &Value) -> Keys {
    Keys::of_object(Some(&Object::new(&raw(object))))
}

/// An object without our keys; empty maps count as none.
fn without_ours(mut object: Value) -> Value {
    for (section, ours) in [("annotations", &stamp::ANNOTATIONS[..]), ("labels", &stamp::LABELS[..])] {
        let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { continue };
        let Some(map) = metadata.get_mut(section) else { continue };
        if let Some(map) = map.as_object_mut() {
            map.retain(|key, _| !ours.contains(&key.as_str()));
        }
        if map.is_null() || map == &json!({}) {
            metadata.remove(section);
        }
    }
    object
}

/// Whether an object has metadata as the API server writes it, which makes sure of the types.
fn has_sound_metadata(object: &Value) -> bool {
    let Some(metadata) = object.get("metadata").and_then(Value::as_object) else { return false };
    let text = |field: &str| metadata.get(field).is_none_or(|value| value.is_null() || value.is_string());
    let texts = |field: &str| match metadata.get(field) {
        None | Some(Value::Null) => true,
        Some(Value::Object(map)) => map.values().all(Value::is_string),
        Some(_) => false,
    };
    ["name", "generateName", "uid", "resourceVersion"].into_iter().all(text)
        && ["annotations", "labels"].into_iter().all(texts)
}

/// What is read of the metadata of an object.
fn metadata_of(object: &Value) -> Metadata {
    Object::new(&raw(object)).metadata
}
