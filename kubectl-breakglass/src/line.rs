//! Line: a record as far as a table shows it. Its bodies, which may be half a megabyte, are passed over in the text of the
//! answer, and never become values.

use std::collections::BTreeMap;

use breakglass::api::{BreakglassChange, BreakglassChangeSpec, BreakglassChangeStatus};
use breakglass::record::FOLLOWS;
use breakglass::stamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::ObjectMeta;
use serde::de::value::MapDeserializer;
use serde::{Deserialize, de};
use serde_json::value::RawValue;

use crate::ledger::Record;

/// The fields of a record that hold bodies.
const BODIES: [&str; 2] = ["before", "patch"];

/// A record whose fields are still text.
#[derive(Deserialize)]
struct Line<'l> {
    #[serde(default)]
    metadata: Metadata,
    #[serde(borrow)]
    spec: BTreeMap<String, &'l RawValue>,
    #[serde(default)]
    status: Option<BreakglassChangeStatus>,
}

/// Metadata without managedFields, which are as long as the rest.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    creation_timestamp: Option<Time>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
}

/// What is read of a body: the stamp that the object carried.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Before {
    metadata: Metadata,
}

/// Reads one record, without its bodies.
///
/// # Errors
/// The sentence that says which one cannot be read.
pub fn read_line(text: &RawValue) -> Result<Record, String> {
    read(text).map_err(|error| {
        let name = serde_json::from_str::<Before>(text.get()).ok().and_then(|object| object.metadata.name);
        let name = name.unwrap_or_default();
        format!("record {name} is in a form that this version cannot read: {error}")
    })
}

fn read(text: &RawValue) -> serde_json::Result<Record> {
    let Line { metadata, mut spec, status } = serde_json::from_str(text.get())?;
    let [before, _] = BODIES.map(|body| spec.remove(body));
    let fields = spec.iter().map(|(name, &value)| (name.as_str(), value));
    let spec = BreakglassChangeSpec::deserialize(MapDeserializer::<_, serde_json::Error>::new(fields))?;
    let name = metadata.name.clone().ok_or_else(|| de::Error::missing_field("name"))?;
    let annotation = metadata.annotations.as_ref().and_then(|annotations| annotations.get(FOLLOWS)).cloned();
    let found = annotation.or_else(|| {
        // A record of the first version says so in the body alone.
        let before: Before = serde_json::from_str(before?.get()).ok()?;
        before.metadata.annotations?.remove(stamp::CHANGE)
    });
    let mut change = BreakglassChange::new(&name, spec);
    change.metadata = ObjectMeta {
        name: metadata.name,
        uid: metadata.uid,
        resource_version: metadata.resource_version,
        creation_timestamp: metadata.creation_timestamp,
        labels: metadata.labels,
        annotations: metadata.annotations,
        ..ObjectMeta::default()
    };
    change.status = status;
    Ok(Record { name, change, found, whole: None })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::ledger::{Keep, read_record};

    fn object() -> Value {
        json!({"apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassChange",
            "metadata": {"name": "inc-1-a", "uid": "u", "resourceVersion": "7", "creationTimestamp": "2026-11-20T12:00:00Z",
                "labels": {"breakglass.dev/state": "pending"}, "annotations": {"a": "b"},
                "managedFields": [{"manager": "m", "fieldsV1": {"f:spec": {}}}]},
            "spec": {"token": "inc-1-bcdfg", "incident": "INC-1", "user": "alice\u{e9} \"q\"", "time": "2026-11-20T12:00:00Z",
                "environment": "prod", "operation": "Update", "manager": "kubectl-edit", "undoes": ["x"],
                "before": {"metadata": {"annotations": {"breakglass.dev/change": "inc-1-z"}}, "data": {"k": [1, {"deep": null}]}},
                "patch": [{"op": "replace", "path": "/data/k", "value": null}], "decideBy": "2026-11-21T12:00:00Z",
                "target": {"apiVersion": "apps/v1", "kind": "Deployment", "resource": "deployments", "namespace": "prod",
                    "name": "api", "uid": "o"}},
            "status": {"phase": "Deferred", "until": "2026-11-25T12:00:00Z", "note": "later"}})
    }

    fn line(object: &Value) -> Result<Record, String> {
        let text: Box<RawValue> = serde_json::from_str(&object.to_string()).unwrap();
        read_line(&text)
    }

    #[test]
    fn a_line_is_the_record_without_its_bodies() {
        let mut first = object();
        let slow = read_record(serde_json::from_value(first.clone()).unwrap(), Keep::Lines).unwrap();
        let fast = line(&first).unwrap();
        assert_eq!((&fast.name, &fast.change, &fast.found), (&slow.name, &slow.change, &slow.found));
        assert_eq!(fast.found.as_deref(), Some("inc-1-z"));
        assert!(fast.change.spec.before.is_none() && fast.change.spec.patch.is_empty() && fast.whole.is_none());
        // Later versions say it in the metadata.
        first["metadata"]["annotations"][FOLLOWS] = json!("inc-1-y");
        assert_eq!(line(&first).unwrap().found.as_deref(), Some("inc-1-y"));
        for (field, value) in [("before", json!({"hash": "hidden:a", "bytes": 7})), ("before", Value::Null)] {
            let mut object = object();
            object["spec"][field] = value;
            assert_eq!(line(&object).unwrap().found, None);
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let mut object = object();
        object["spec"]["operation"] = json!("Melt");
        let error = line(&object).unwrap_err();
        assert!(
            error.starts_with("record inc-1-a is in a form that this version cannot read: unknown variant"),
            "{error}"
        );
    }
}
