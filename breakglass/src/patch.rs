//! The JSON patch that puts our keys on an object, and the one of an engine that keeps it from the object. It cannot express any
//! other path.

use jsonptr::PointerBuf;
use serde::Serialize;

use crate::engine::HOLD;
use crate::hold;
use crate::stamp::Keys;
use crate::write::Metadata;

/// One step of a patch: the shape of RFC 6902.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    op: &'static str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
}

/// A value in a patch: one of ours, or the empty map that has to be there before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum Value {
    Text(String),
    Empty {},
}

/// The steps that give our keys the `wanted` values on an object with this metadata; none where they have them already.
///
/// Without `metadata.annotations` the map is made first: an `add` into a map that is not there is an internal error of the
/// API server, even where the failure policy is Ignore (apiserver plugin/webhook/mutating/dispatcher.go).
pub fn patch(metadata: &Metadata, wanted: &Keys) -> Vec<Step> {
    let present = Keys::of(metadata.annotations(), metadata.labels());
    let mut steps = Vec::new();
    let sections = [
        ("annotations", metadata.annotations.is_none(), &present.annotations, &wanted.annotations),
        ("labels", metadata.labels.is_none(), &present.labels, &wanted.labels),
    ];
    for (section, missing, present, wanted) in sections {
        let path = |key: &str| PointerBuf::from_tokens(["metadata", section, key]).to_string();
        for key in present.keys().filter(|key| !wanted.contains_key(*key)) {
            steps.push(Step { op: "remove", path: path(key), value: None });
        }
        let set: Vec<_> = wanted.iter().filter(|(key, value)| present.get(*key) != Some(value)).collect();
        if missing && !set.is_empty() {
            steps.push(Step { op: "add", path: format!("/metadata/{section}"), value: Some(Value::Empty {}) });
        }
        for (key, value) in set {
            steps.push(Step { op: "add", path: path(key), value: Some(Value::Text(value.clone())) });
        }
    }
    steps
}

/// The steps that have the engine leave the object as it is, after those that put our keys on.
pub fn with_hold(metadata: &Metadata, mut steps: Vec<Step>) -> Vec<Step> {
    if hold::is_held(metadata.annotations()) {
        return steps;
    }
    let map = "/metadata/annotations";
    if metadata.annotations.is_none() && !steps.iter().any(|step| step.path == map) {
        steps.push(Step { op: "add", path: map.to_owned(), value: Some(Value::Empty {}) });
    }
    steps.push(Step { op: "add", path: held(), value: Some(Value::Text(HOLD.1.to_owned())) });
    steps
}

/// The steps that give the object back to the engine, after those that take our keys off.
pub fn without_hold(metadata: &Metadata, mut steps: Vec<Step>) -> Vec<Step> {
    if hold::is_held(metadata.annotations()) {
        steps.push(Step { op: "remove", path: held(), value: None });
    }
    steps
}

/// Where an object says that it is held.
fn held() -> String {
    PointerBuf::from_tokens(["metadata", "annotations", HOLD.0]).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::{ANNOTATIONS, LABELS};
    use proptest::prelude::*;
    use serde_json::json;
    use std::collections::BTreeMap;

    type Map = BTreeMap<String, String>;

    fn apply(metadata: &Metadata, wanted: &Keys) -> serde_json::Value {
        let mut object = json!({"metadata": {"name": "a"}, "spec": {"x": 1}});
        for (field, map) in [("annotations", &metadata.annotations), ("labels", &metadata.labels)] {
            if let Some(map) = map {
                object["metadata"][field] = json!(map);
            }
        }
        let steps = serde_json::to_value(patch(metadata, wanted)).unwrap();
        json_patch::patch(&mut object, &serde_json::from_value::<json_patch::Patch>(steps).unwrap()).unwrap();
        object
    }

    fn keys() -> impl Strategy<Value = Keys> {
        let annotations = proptest::collection::btree_map(proptest::sample::select(&ANNOTATIONS[..]), ".*", 0..7);
        let labels = proptest::collection::btree_map(proptest::sample::select(&LABELS[..]), "[a-z]*", 0..2);
        (annotations, labels).prop_map(|(annotations, labels)| Keys { annotations, labels })
    }

    fn map() -> impl Strategy<Value = Option<Map>> {
        let ours: Vec<String> = ANNOTATIONS.iter().chain(&LABELS).map(|&key| key.to_owned()).collect();
        let key = prop_oneof![proptest::sample::select(ours), "[a-z~/.]{1,12}"];
        proptest::option::of(proptest::collection::btree_map(key, ".*", 0..6))
    }

    proptest! {
        /// F-02 in small: applied by another library, the patch sets our keys and touches nothing else.
        #[test]
        fn applied_elsewhere_it_sets_our_keys_and_touches_nothing_else(annotations in map(), labels in map(), wanted in keys()) {
            let metadata = Metadata { annotations, labels, ..Default::default() };
            let object = apply(&metadata, &wanted);
            let read = |field: &str| -> Map {
                serde_json::from_value(object["metadata"].get(field).cloned().unwrap_or(json!({}))).unwrap()
            };
            let (annotations, labels) = (read("annotations"), read("labels"));
            prop_assert_eq!(Keys::of(&annotations, &labels), wanted);
            let others = |map: &Map, ours: &[&str]| -> Map {
                map.iter().filter(|(key, _)| !ours.contains(&key.as_str())).map(|(k, v)| (k.clone(), v.clone())).collect()
            };
            prop_assert_eq!(others(&annotations, &ANNOTATIONS), others(metadata.annotations(), &ANNOTATIONS));
            prop_assert_eq!(others(&labels, &LABELS), others(metadata.labels(), &LABELS));
            prop_assert_eq!(&object["spec"], &json!({"x": 1}));
            prop_assert_eq!(&object["metadata"]["name"], &json!("a"));
        }

        /// A hold is one annotation more, on whatever object, and once.
        #[test]
        fn a_hold_is_one_annotation_more(annotations in map(), wanted in keys()) {
            let metadata = Metadata { annotations, ..Default::default() };
            let mut object = json!({"metadata": {"name": "a", "annotations": metadata.annotations}});
            if metadata.annotations.is_none() {
                object["metadata"].as_object_mut().unwrap().remove("annotations");
            }
            let mut plain = object.clone();
            let steps = with_hold(&metadata, patch(&metadata, &wanted));
            for (object, steps) in [(&mut object, steps), (&mut plain, patch(&metadata, &wanted))] {
                let steps = serde_json::from_value::<json_patch::Patch>(serde_json::to_value(steps).unwrap()).unwrap();
                json_patch::patch(object, &steps).unwrap();
            }
            prop_assert_eq!(&object["metadata"]["annotations"][HOLD.0], HOLD.1);
            let without = |object| hold::without_hold(object);
            let bare = |mut object: serde_json::Value| {
                let map = object["metadata"]["annotations"].as_object().is_none_or(serde_json::Map::is_empty);
                if map { object["metadata"].as_object_mut().unwrap().remove("annotations"); }
                object
            };
            prop_assert_eq!(bare(without(object)), bare(without(plain)));
        }

        /// What was held is given back, and nothing else is different; what was not gets no step.
        #[test]
        fn a_hold_goes_as_it_came(annotations in map(), wanted in keys()) {
            let metadata = Metadata { annotations, ..Default::default() };
            prop_assert_eq!(without_hold(&metadata, patch(&metadata, &wanted)), patch(&metadata, &wanted));
            let mut annotations = metadata.annotations.clone().unwrap_or_default();
            annotations.insert(HOLD.0.to_owned(), HOLD.1.to_owned());
            let held = Metadata { annotations: Some(annotations), ..Default::default() };
            let mut object = json!({"metadata": {"annotations": held.annotations}});
            let mut plain = object.clone();
            let steps = without_hold(&held, patch(&held, &wanted));
            for (object, steps) in [(&mut object, steps), (&mut plain, patch(&held, &wanted))] {
                let steps = serde_json::from_value::<json_patch::Patch>(serde_json::to_value(steps).unwrap()).unwrap();
                json_patch::patch(object, &steps).unwrap();
            }
            prop_assert!(object["metadata"]["annotations"].get(HOLD.0).is_none());
            plain["metadata"]["annotations"].as_object_mut().unwrap().remove(HOLD.0);
            prop_assert_eq!(object, plain);
        }

        /// L-03: for keys that are as they should be, no patch is sent.
        #[test]
        fn what_is_there_already_is_no_patch(annotations in map(), labels in map()) {
            let metadata = Metadata { annotations, labels, ..Default::default() };
            let present = Keys::of(metadata.annotations(), metadata.labels());
            prop_assert_eq!(patch(&metadata, &present), vec![]);
        }
    }
}
