//! What differs between two objects.

use breakglass::diff::{changes_nothing, keeps_metadata, patch_between};
use breakglass::write::{Object, Resource};
use serde_json::{Value, json};

use crate::{applied, has_sound_metadata, raw, two_documents, without_ours};

/// What the API server keeps of metadata.
const NOISE: [&str; 6] = ["managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink"];

/// Takes two objects, one before a write and one after it.
///
/// # Panics
/// When what is said of their difference is not true.
pub fn diff(bytes: &[u8]) {
    let Some((old, new)) = two_documents(bytes) else { return };
    for (before, after) in [(Some(&old), Some(&new)), (None, Some(&new)), (Some(&old), None), (None, None)] {
        let steps = patch_between(before, after);
        let expected = after.cloned().unwrap_or_default();
        assert_eq!(applied(&before.cloned().unwrap_or_default(), &json!(steps)), expected, "{steps:?}");
        assert!(steps.is_empty() || before != after, "{steps:?}");
    }
    for (group, subresource) in [("", None), ("apps", Some("status")), ("example.com", None)] {
        let resource =
            Resource { group: group.to_owned(), subresource: subresource.map(str::to_owned), ..Resource::default() };
        compare(&resource, &old, &new);
    }
}

fn compare(resource: &Resource, old: &Value, new: &Value) {
    let texts = [old, new].map(raw);
    let [before, after] = [&texts[0], &texts[1]].map(|text| Object::new(text));
    let nothing = changes_nothing(resource, &before, &after);
    assert_eq!(nothing, changes_nothing(resource, &after, &before), "{old} {new}");
    assert!(changes_nothing(resource, &before, &before) && changes_nothing(resource, &after, &after));
    let keeps = keeps_metadata(&before, &after);
    assert_eq!(keeps, keeps_metadata(&after, &before), "{old} {new}");
    if has_sound_metadata(old) && has_sound_metadata(new) {
        agree(nothing, [old, new].map(|object| essence(resource, object)));
        agree(keeps, [old, new].map(|object| without_noise(object)["metadata"].clone()));
    }
}

/// Whether it is true that two values are the same. Zeros of two signs are equal and written differently: those may count
/// as a difference, which costs a stamp and hides nothing.
fn agree(same: bool, [was, is]: [Value; 2]) {
    assert!(!same || was == is, "{was} {is}");
    assert!(same || raw(&was).get() != raw(&is).get(), "{was} {is}");
}

/// What a write can change of an object.
fn essence(resource: &Resource, object: &Value) -> Value {
    let mut object = without_ours(without_noise(object));
    if !resource.group.contains('.') && resource.subresource.is_none() {
        object.as_object_mut().and_then(|fields| fields.remove("status"));
    }
    object
}

fn without_noise(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|field, _| !NOISE.contains(&field.as_str()));
    }
    object
}
