//! Line: a record as far as a table shows it. Its bodies, which may be half a megabyte, are passed over in the text of the
//! answer, and never become values.

use std::collections::BTreeMap;

use breakglass::api::{BreakglassChange, BreakglassChangeSpec, BreakglassChangeStatus};
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

/// What a table needs of metadata: labels say what the spec says, and managedFields are as long as the rest.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    name: Option<String>,
    annotations: Option<Annotations>,
}

/// The annotations that name an earlier change: `record::FOLLOWS` on a record, `stamp::CHANGE` on its object.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Annotations {
    #[serde(rename = "breakglass.dev/follows")]
    follows: Option<String>,
    #[serde(rename = "breakglass.dev/change")]
    change: Option<String>,
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
    let name = metadata.name.ok_or_else(|| de::Error::missing_field("name"))?;
    let found = metadata.annotations.and_then(|annotations| annotations.follows).or_else(|| {
        // A record of the first version says so in the body alone.
        let before: Before = serde_json::from_str(before?.get()).ok()?;
        before.metadata.annotations?.change
    });
    let mut change = BreakglassChange::new(&name, spec);
    change.status = status;
    Ok(Record { name, change, found, whole: None })
}

#[cfg(test)]
mod tests {
    use breakglass::record::FOLLOWS;
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
        assert_eq!((&fast.name, &fast.found), (&slow.name, &slow.found));
        assert_eq!((&fast.change.spec, &fast.change.status), (&slow.change.spec, &slow.change.status));
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
