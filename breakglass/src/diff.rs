//! What a write changes: nothing at all, or these paths.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::api::PatchStep;
use crate::stamp;
use crate::write::{Object, Resource};

/// Fields of metadata that the API server keeps: a client's values for them have no effect on an update.
pub(crate) const SERVER_METADATA: [&str; 6] =
    ["managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink"];

type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// Whether an update would leave everything as it is but for managedFields, resourceVersion, generation and our keys.
///
/// Compared field by field as bytes, which the API server encodes alike for both sides; so no depth of nesting matters,
/// and a difference that is none (another order of keys) costs a stamp and never hides a change.
pub fn changes_nothing(resource: &Resource, before: &Object<'_>, after: &Object<'_>) -> bool {
    if before.raw.get() == after.raw.get() {
        return true;
    }
    let (Some(mut old), Some(mut new)) = (before.fields(), after.fields()) else { return false };
    let (old_metadata, new_metadata) = (old.remove("metadata"), new.remove("metadata"));
    // Kinds that come with Kubernetes have a status subresource, and the main one does not write status. Of a custom kind
    // we do not know whether it has one.
    if is_built_in(&resource.group) && resource.subresource.is_none() {
        old.remove("status");
        new.remove("status");
    }
    let metadata =
        |raw: Option<&'_ RawValue>| raw.and_then(|raw| serde_json::from_str::<Fields<'_>>(raw.get()).ok().map(trim));
    fn trim(mut fields: Fields<'_>) -> BTreeMap<String, String> {
        for noise in SERVER_METADATA.iter().chain(&["annotations", "labels"]) {
            fields.remove(*noise);
        }
        fields.into_iter().map(|(key, raw)| (key, raw.get().to_owned())).collect()
    }
    same(&old, &new)
        && metadata(old_metadata) == metadata(new_metadata)
        && foreign(before.metadata.annotations(), &stamp::ANNOTATIONS)
            .eq(foreign(after.metadata.annotations(), &stamp::ANNOTATIONS))
        && foreign(before.metadata.labels(), &stamp::LABELS).eq(foreign(after.metadata.labels(), &stamp::LABELS))
}

/// Whether an update leaves the metadata as it is but for what the API server keeps: labels, annotations, finalizers, owners.
pub fn keeps_metadata(before: &Object<'_>, after: &Object<'_>) -> bool {
    let metadata = |object: &Object<'_>| -> Option<BTreeMap<String, String>> {
        let metadata: Fields<'_> = serde_json::from_str(object.fields()?.remove("metadata")?.get()).ok()?;
        let theirs = metadata.into_iter().filter(|(key, _)| !SERVER_METADATA.contains(&key.as_str()));
        Some(theirs.map(|(key, raw)| (key, raw.get().to_owned())).collect())
    };
    matches!((metadata(before), metadata(after)), (Some(before), Some(after)) if before == after)
}

fn same(old: &BTreeMap<&str, &RawValue>, new: &BTreeMap<&str, &RawValue>) -> bool {
    old.len() == new.len() && old.iter().zip(new).all(|(a, b)| a.0 == b.0 && a.1.get() == b.1.get())
}

fn foreign<'a>(
    map: &'a BTreeMap<String, String>,
    ours: &'static [&'static str],
) -> impl Iterator<Item = (&'a String, &'a String)> {
    map.iter().filter(move |(key, _)| !ours.contains(&key.as_str()))
}

/// Groups of Kubernetes itself have no dot, or end in `.k8s.io`; a CustomResourceDefinition may use neither without
/// approval (apiextensions: api-approved.kubernetes.io).
fn is_built_in(group: &str) -> bool {
    !group.contains('.') || group.ends_with(".k8s.io")
}

/// The JSON Patch (RFC 6902) that turns `before` into `after`; where there is no object on one side, the whole is
/// replaced.
pub fn patch_between(before: Option<&Value>, after: Option<&Value>) -> Vec<PatchStep> {
    let whole = |op: &str, value: Value| vec![PatchStep { op: op.to_owned(), path: String::new(), value: Some(value) }];
    match (before, after) {
        (Some(before), Some(after)) => json_patch::diff(before, after).0.into_iter().map(step).collect(),
        (None, Some(after)) => whole("add", after.clone()),
        (Some(_), None) => whole("replace", Value::Null),
        (None, None) => Vec::new(),
    }
}

/// What a patch makes of `before`, null where there is no object on a side; `None` where the patch does not fit it.
pub fn patched(before: Option<&Value>, patch: &[PatchStep]) -> Option<Value> {
    let steps: json_patch::Patch = serde_json::from_value(serde_json::to_value(patch).ok()?).ok()?;
    let mut object = before.cloned().unwrap_or(Value::Null);
    json_patch::patch(&mut object, &steps).ok()?;
    Some(object)
}

fn step(operation: json_patch::PatchOperation) -> PatchStep {
    use json_patch::PatchOperation::{Add, Copy, Move, Remove, Replace, Test};
    let (op, path, value) = match operation {
        Add(add) => ("add", add.path, Some(add.value)),
        Remove(remove) => ("remove", remove.path, None),
        Replace(replace) => ("replace", replace.path, Some(replace.value)),
        Test(test) => ("test", test.path, Some(test.value)),
        // The diff makes none of these two; they carry no value of their own.
        Move(moved) => ("move", moved.path, None),
        Copy(copy) => ("copy", copy.path, None),
    };
    PatchStep { op: op.to_owned(), path: path.to_string(), value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(group: &str, before: Value, after: Value, nothing: bool) {
        let (old, new) = (before.to_string(), after.to_string());
        let (old, new): (Box<RawValue>, Box<RawValue>) =
            (serde_json::from_str(&old).unwrap(), serde_json::from_str(&new).unwrap());
        let resource = Resource { group: group.to_owned(), ..Default::default() };
        assert_eq!(changes_nothing(&resource, &Object::new(&old), &Object::new(&new)), nothing, "{before} {after}");
    }

    #[test]
    fn noise_and_our_keys_are_no_change() {
        let object = |rv: &str, annotations: Value, data: &str| {
            json!({"kind": "ConfigMap", "data": {"k": data}, "metadata": {"name": "a", "resourceVersion": rv,
                "managedFields": [rv], "annotations": annotations, "labels": {"app": "x"}}})
        };
        let stamped = json!({"a": "b", stamp::USER: "alice@example.com"});
        check("", object("1", json!({"a": "b"}), "v"), object("2", json!({"a": "b"}), "v"), true);
        check("", object("1", stamped.clone(), "v"), object("1", json!({"a": "b"}), "v"), true);
        check("", object("1", json!({"a": "b"}), "v"), object("1", json!({"a": "c"}), "v"), false);
        check("", object("1", json!({"a": "b"}), "v"), object("1", json!({}), "v"), false);
        check("", object("1", stamped, "v"), object("1", json!({"a": "b"}), "w"), false);
    }

    #[test]
    fn status_counts_where_we_do_not_know_better() {
        let object = |status: &str| json!({"metadata": {"name": "a"}, "spec": 1, "status": status});
        check("apps", object("x"), object("y"), true);
        check("apps", object("x"), json!({"metadata": {"name": "a"}, "spec": 1}), true);
        check("example.com", object("x"), object("y"), false);
    }

    #[test]
    fn finalizers_and_owners_are_changes() {
        let object = |finalizers: Value| json!({"metadata": {"name": "a", "finalizers": finalizers}});
        check("", object(json!(["x"])), object(json!([])), false);
        check("", json!({"metadata": {"name": "a"}}), json!({"metadata": {"name": "a", "ownerReferences": []}}), false);
    }

    #[test]
    fn a_patch_leads_from_one_to_the_other() {
        let (a, b) = (json!({"x": 1, "l": [1, 2], "k/y": "z"}), json!({"x": null, "l": [2], "n~": {}}));
        for (before, after) in [(Some(&a), Some(&b)), (None, Some(&a)), (Some(&b), None)] {
            let steps = patch_between(before, after);
            assert_eq!(patched(before, &steps), Some(after.cloned().unwrap_or(Value::Null)));
        }
        let elsewhere = PatchStep { op: "remove".to_owned(), path: "/y".to_owned(), value: None };
        assert_eq!(patched(Some(&a), &[elsewhere]), None);
    }
}
