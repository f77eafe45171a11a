//! What is an edit past us: by whom, of what, and what speaks of it.

use serde_json::{Value, json};

use super::*;
use crate::ledger::{Keep, read_record};

const TIME: &str = "2026-11-20T12:00:00Z";

fn entry(manager: &str, subresource: &str, fields: Value) -> Value {
    json!({"manager": manager, "operation": "Update", "subresource": subresource, "time": TIME, "fieldsV1": fields})
}

fn engine() -> Value {
    entry("kustomize-controller", "", json!({"f:spec": {"f:replicas": {}}}))
}

/// The edits of prod's Deployment api, which Flux owns.
fn edits(entries: &[Value], more: Value) -> Vec<Edit> {
    let mut metadata = json!({"name": "api", "namespace": "prod", "uid": "u", "managedFields": entries});
    more.as_object().unwrap().iter().for_each(|(field, value)| metadata[field] = value.clone());
    let (area, inventory) = (Area::everywhere(), Inventory::of_flux(&["prod_api_apps_Deployment"]));
    let exempt = json!({"exempt": [{"name": "x", "reason": "y", "resources": ["widgets.apps"]},
        {"name": "z", "reason": "y", "labels": {"free": "yes"}}]});
    let rules = Rules::new(serde_json::from_value(exempt).unwrap()).unwrap();
    let ignored = ["vpa-*".to_owned()];
    let look = Unstamped { area: &area, inventory: &inventory, rules: &rules, ignored: &ignored, selector: "" };
    let found = look.look(&Kind::in_apps("Deployment"), serde_json::from_value(metadata).unwrap());
    without_record(found.into_iter().collect(), &[])
}

fn managers(entries: &[Value], more: Value) -> Vec<String> {
    edits(entries, more).into_iter().map(|edit| edit.manager).collect()
}

#[test]
fn a_person_is_who_writes_a_spec_and_reports_nothing() {
    let image = || json!({"f:spec": {"f:image": {}}});
    for (written, expected) in [
        (vec![entry("kubectl-edit", "", image())], &["kubectl-edit"][..]),
        (vec![entry("k9s", "", json!({"f:metadata": {"f:labels": {"f:a": {}}}}))], &["k9s"]),
        (vec![entry("kubectl", "scale", image())], &["kubectl"]),
        // Parts of Kubernetes, as an autoscaler that scales; engines; who is known.
        (vec![entry("kube-controller-manager", "scale", image())], &[]),
        (vec![entry("argocd-controller", "", image())], &[]),
        (vec![entry("vpa-updater", "", image())], &[]),
        // A controller reports; kubectl is a person even so.
        (vec![entry("operator", "", image()), entry("operator", "status", json!({"f:status": {}}))], &[]),
        (vec![entry("operator", "", image()), entry("other", "status", json!({"f:status": {}}))], &["operator"]),
        (
            vec![entry("kubectl-edit", "", image()), entry("kubectl-edit", "status", json!({"f:status": {}}))],
            &["kubectl-edit"],
        ),
        // Nothing of what runs: our keys, finalizers, a status without a subresource.
        (
            vec![entry(
                "breakglass",
                "",
                json!({"f:metadata": {"f:annotations": {"f:breakglass.dev/user": {}},
            "f:labels": {"f:breakglass.dev/state": {}}}}),
            )],
            &[],
        ),
        (
            vec![entry(
                "any",
                "",
                json!({"f:metadata": {"f:finalizers": {"v:\"x\"": {}}, "f:ownerReferences": {"k:{\"uid\":\"u\"}": {}}}}),
            )],
            &[],
        ),
        (vec![entry("any", "", json!({"f:status": {"f:phase": {}}}))], &[]),
        (vec![entry("any", "", json!({}))], &[]),
    ] {
        let entries = [vec![engine()], written].concat();
        assert_eq!(managers(&entries, json!({})), expected, "{entries:?}");
    }
}

#[test]
fn what_no_engine_owns_and_what_is_exempt_is_passed_over() {
    let entries = [engine(), entry("kubectl-edit", "", json!({"f:spec": {"f:image": {}}}))];
    assert_eq!(managers(&entries, json!({})).len(), 1);
    assert_eq!(managers(&entries, json!({"name": "other"})).len(), 0);
    assert_eq!(managers(&entries, json!({"namespace": "kube-system"})).len(), 0);
    let owners = json!({"ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "x"}]});
    assert_eq!(managers(&entries, owners).len(), 0);
    assert_eq!(managers(&entries, json!({"labels": {"free": "yes"}})).len(), 1, "by a label alone nothing is exempt");
}

#[test]
fn a_stamp_speaks_of_the_last_write_through_its_manager() {
    let entries = [engine(), entry("kubectl-edit", "", json!({"f:spec": {"f:image": {}}}))];
    let stamped = |time: &str, manager: &str, change: Option<&str>| {
        let mut annotations =
            json!({"breakglass.dev/user": "a", "breakglass.dev/time": time, "breakglass.dev/manager": manager});
        change.into_iter().for_each(|change| annotations["breakglass.dev/change"] = json!(change));
        managers(&entries, json!({"annotations": annotations})).len()
    };
    assert_eq!(stamped("2026-11-20T12:00:02Z", "kubectl-edit", Some("c")), 0);
    assert_eq!(stamped("2026-11-20T13:00:00Z", "kubectl-edit", Some("c")), 1, "another write of this manager");
    assert_eq!(stamped("2026-11-20T12:00:00Z", "k9s", Some("c")), 1);
    assert_eq!(stamped("2026-11-20T13:00:00Z", "k9s", None), 0, "an earlier stamp may have been replaced");
    assert_eq!(stamped("2026-11-20T11:00:00Z", "k9s", None), 1);
    assert_eq!(stamped("no time", "kubectl-edit", None), 1);
    // Of a scale there is no time.
    let scale = |stamp: Value| {
        let mut entry = entry("kubectl", "scale", json!({"f:spec": {"f:replicas": {}}}));
        entry["time"] = Value::Null;
        managers(&[engine(), entry], json!({"annotations": stamp})).len()
    };
    let stamp = |operation: &str| json!({"breakglass.dev/time": TIME, "breakglass.dev/manager": "kubectl", "breakglass.dev/operation": operation});
    assert_eq!((scale(stamp("Scale")), scale(stamp("Update")), scale(json!({}))), (0, 1, 1));
}

#[test]
fn a_record_speaks_of_a_write_as_well() {
    let found = || Edited {
        uid: "u".to_owned(),
        edits: edits(&[engine(), entry("kubectl", "scale", json!({"f:spec": {"f:replicas": {}}}))], json!({})),
    };
    let record = |manager: Option<&str>, subresource: Option<&str>, time: &str, outcome: Option<&str>| {
        let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "resource": "deployments", "name": "api", "uid": "u"});
        let object = json!({"metadata": {"name": "c1"}, "spec": {"token": "t", "incident": "INC-1", "user": "alice@example.com",
            "time": time, "environment": "prod", "operation": "Scale", "subresource": subresource, "manager": manager,
            "target": target, "decideBy": "2026-11-21T12:00:00Z"}, "status": {"outcome": outcome}});
        let record = read_record(serde_json::from_value(object).unwrap(), Keep::Lines).unwrap();
        without_record(vec![found()], &[record]).len()
    };
    assert_eq!(without_record(vec![found()], &[]).len(), 1);
    assert_eq!(record(Some("kubectl"), Some("scale"), "2026-11-20T12:00:03Z", None), 0);
    assert_eq!(record(Some("kubectl"), Some("scale"), "2026-11-20T12:00:03Z", Some("NeverLanded")), 1);
    assert_eq!(record(Some("kubectl"), None, TIME, None), 1);
    assert_eq!((record(None, Some("scale"), TIME, None), record(None, None, TIME, None)), (0, 1));
    assert_eq!(record(Some("k9s"), Some("scale"), TIME, None), 1);
    assert_eq!(record(Some("kubectl"), Some("scale"), "2026-11-20T12:01:00Z", None), 1);
}

#[test]
fn an_edit_reads_as_cells() {
    let fields = json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"api\"}": {"f:image": {}, "f:tty": {}}}}}}});
    let edit = edits(&[engine(), entry("k9s", "", fields)], json!({})).remove(0);
    let now = "2026-11-20T14:00:00Z".parse().unwrap();
    assert_eq!(
        edit.cells(now),
        [
            "prod",
            "deployment.apps/api",
            "k9s",
            "2h0m",
            "/spec/template/spec/containers[name=api]/image and 1 more",
            "Kustomization flux-system/prod",
            "Update",
            "",
            TIME
        ]
    );
    let deep = format!("{}{{}}{}", "{\"f:a\":".repeat(200), "}".repeat(200));
    let raw = serde_json::value::RawValue::from_string(deep).unwrap();
    assert_eq!(
        super::fields(&Entry { fields_v1: Some(raw), ..Entry::default() }),
        ["fields nested too deep to be read"]
    );
}
