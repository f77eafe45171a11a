//! Who put a field where it is, as managers, records and stamps say it, and where they do not.

use serde_json::json;

use super::*;
use crate::ledger::{Keep, read_record};

fn record(name: &str, manager: &str, time: &str, patch: Value) -> Record {
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "resource": "deployments", "namespace": "prod",
        "name": "api", "uid": "u"});
    let object = json!({"metadata": {"name": name}, "spec": {"token": "t", "incident": "INC-1",
        "user": format!("{name}@example.com"), "time": time, "environment": "prod", "operation": "Update",
        "manager": manager, "target": target, "decideBy": "2026-11-21T12:00:00Z",
        "before": {"spec": {"image": "api:1", "paused": false}}, "patch": patch}});
    read_record(serde_json::from_value(object).unwrap(), Keep::Whole).unwrap()
}

fn object() -> Value {
    let entry = |manager: &str, time: &str, fields: Value| {
        json!({"manager": manager, "operation": "Update", "time": time,
        "fieldsV1": {"f:spec": fields}})
    };
    json!({"kind": "Deployment", "metadata": {"name": "api",
            "annotations": {"breakglass.dev/user": "carol@example.com", "breakglass.dev/time": "2026-11-20T14:00:00Z",
                "breakglass.dev/manager": "k9s", "note": "x"},
            "managedFields": [
                entry("kustomize-controller", "2026-11-20T10:00:00Z", json!({"f:owned": {}, "f:selector": {}})),
                entry("kubectl-edit", "2026-11-20T13:00:02Z", json!({"f:image": {}, "f:paused": {}, "f:old": {}})),
                entry("k9s", "2026-11-20T14:00:01Z", json!({"f:list": {"k:{\"name\":\"a\"}": {"f:name": {}}}}))]},
        "spec": {"image": "api:2", "paused": true, "old": 1, "owned": 1, "selector": {"a": "b"}, "default": {"x": 1},
            "list": [{"name": "a", "more": 1}]}})
}

fn told(fields: &[Field]) -> Vec<String> {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let line = |one: &Field| {
        let value = one.value.as_ref().map_or_else(|| "hidden".to_owned(), Value::to_string);
        format!("{} {value} {} {} {}", one.field, text(&one.who), text(&one.manager), one.known_by.as_str())
    };
    fields.iter().filter(|field| field.known_by != KnownBy::Key).map(line).collect()
}

#[test]
fn a_field_is_from_whom_a_record_names_else_from_the_manager_alone() {
    let replace = |path: &str, value: Value| json!([{"op": "replace", "path": path, "value": value}]);
    let records = [
        record("alice", "kubectl-edit", "2026-11-20T12:00:00Z", replace("/spec/image", json!("api:2"))),
        // Not this manager's; and later than the manager says that it wrote.
        record("bob", "kubectl-patch", "2026-11-20T12:30:00Z", replace("/spec/image", json!("api:2"))),
        record("late", "kubectl-edit", "2026-11-20T15:00:00Z", replace("/spec/paused", json!(true))),
        // Somebody has changed it since, through the same manager and past us.
        record(
            "carol",
            "kubectl-edit",
            "2026-11-20T13:00:00Z",
            json!([{"op": "add", "path": "/spec/old", "value": 7}]),
        ),
    ];
    let object = object();
    let evidence = Evidence { records: &records, ..Evidence::default() };
    let fields = authors(&object, &evidence);
    assert_eq!(
        told(&fields),
        [
            "/metadata/annotations/note \"x\" - - nobody",
            "/spec/default {\"x\":1} - - nobody",
            "/spec/image \"api:2\" alice@example.com kubectl-edit record",
            "/spec/list/0/more 1 - - nobody",
            "/spec/list/0/name \"a\" carol@example.com k9s stamp",
            "/spec/old 1 - kubectl-edit manager",
            "/spec/owned 1 Flux kustomize-controller manager",
            "/spec/paused true - kubectl-edit manager",
            "/spec/selector {\"a\":\"b\"} Flux kustomize-controller manager",
        ]
    );
    let image = fields.iter().find(|one| one.field == "/spec/image").unwrap();
    assert_eq!(
        image.time.map(|time| time.to_string()).as_deref(),
        Some("2026-11-20T12:00:00Z"),
        "that write's, not the manager's"
    );
    assert_eq!((image.incident.as_deref(), image.change.as_deref()), (Some("INC-1"), Some("alice")));
}

#[test]
fn an_engine_is_named_where_its_inventory_lists_the_object_and_what_is_hidden_stays_hidden() {
    let prod = || AppliedBy {
        engine: Engine::Flux,
        name: "Kustomization flux-system/prod".to_owned(),
        revision: Some("main@sha1:abc".to_owned()),
    };
    let evidence = Evidence {
        hidden: vec!["/spec/selector".to_owned(), "/spec/list/0/name".to_owned()],
        applied_by: Some(prod()),
        ..Evidence::default()
    };
    let object = object();
    let fields = authors(&object, &evidence);
    let lines = told(&fields);
    for line in [
        "/spec/owned 1 Kustomization flux-system/prod kustomize-controller inventory",
        "/spec/selector hidden Kustomization flux-system/prod kustomize-controller inventory",
        "/spec/list/0/name hidden carol@example.com k9s stamp",
    ] {
        assert!(lines.iter().any(|one| one == line), "{line}\n{lines:#?}");
    }
    let argo = AppliedBy { engine: Engine::ArgoCd, ..prod() };
    let fields = authors(&object, &Evidence { applied_by: Some(argo), ..Evidence::default() });
    assert!(told(&fields).iter().any(|line| line == "/spec/owned 1 Flux kustomize-controller manager"));
}

#[test]
fn a_write_that_named_no_manager_is_told_by_where_it_went_and_what_it_put_there() {
    let patch = |replicas: u32| json!([{"op": "replace", "path": "/spec/replicas", "value": replicas}]);
    let who = |subresource: Option<&str>, replicas: u32| {
        let mut record = record("alice", "", "2026-11-20T12:00:00Z", patch(replicas));
        record.change.spec.manager = None;
        record.change.spec.subresource = subresource.map(str::to_owned);
        record.change.spec.before = Some(json!({"kind": "Scale", "spec": {"replicas": 1}}));
        // Of a scale the API server keeps no time.
        let object = json!({"spec": {"replicas": 3}, "metadata": {"managedFields": [{"manager": "kubectl",
            "operation": "Update", "subresource": "scale", "fieldsV1": {"f:spec": {"f:replicas": {}}}}]}});
        authors(&object, &Evidence { records: &[record], ..Evidence::default() })[0].who.clone()
    };
    assert_eq!(who(Some("scale"), 3).as_deref(), Some("alice@example.com"));
    assert_eq!((who(Some("scale"), 2), who(None, 3)), (None, None));
}

#[test]
fn a_write_that_never_landed_has_no_say() {
    let mut lost = record(
        "alice",
        "kubectl-edit",
        "2026-11-20T12:00:00Z",
        json!([{"op": "replace", "path": "/spec/image", "value": "api:2"}]),
    );
    let object = object();
    let who = |records: &[Record]| {
        let fields = authors(&object, &Evidence { records, ..Evidence::default() });
        fields.into_iter().find(|one| one.field == "/spec/image").unwrap().who
    };
    assert_eq!(who(std::slice::from_ref(&lost)).as_deref(), Some("alice@example.com"));
    let status = serde_json::from_value(json!({"phase": "Settled", "outcome": "NeverLanded"})).unwrap();
    lost.change.status = Some(status);
    assert_eq!(who(&[lost]), None);
}
