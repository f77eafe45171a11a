//! Records of plain writes, and what is hidden, cut and weighed in them.

use super::*;
use crate::write::{Requester, Verb};
use serde_json::value::RawValue;

const CANARY: &str = "Y2FuYXJ5";

fn raw(value: &Value) -> Box<RawValue> {
    serde_json::from_str(&value.to_string()).unwrap()
}

fn recorded(kind: &str, before: Option<&Value>, after: Option<&Value>) -> BreakglassChange {
    recorded_by("kubectl", kind, before, after)
}

fn recorded_by(manager: &str, kind: &str, before: Option<&Value>, after: Option<&Value>) -> BreakglassChange {
    let (before, after) = (before.map(raw), after.map(raw));
    let rules = Rules::built_in().unwrap();
    let token: BreakglassToken = serde_json::from_value(json!({
        "apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassToken",
        "metadata": {"name": "inc-123-aaaaa", "uid": "t1"},
        "spec": {"incident": "INC-123", "reason": "r", "user": "alice@example.com", "environment": "prod",
                 "openedAt": "2026-11-20T11:30:00Z", "expiresAt": "2026-11-20T12:30:00Z"},
    }))
    .unwrap();
    let verb = match (&before, &after) {
        (None, _) => Verb::Create,
        (_, None) => Verb::Delete,
        _ => Verb::Update,
    };
    let write = Write {
        verb,
        resource: Resource {
            version: "v1".to_owned(),
            plural: format!("{}s", kind.to_lowercase()),
            kind: kind.to_owned(),
            ..Default::default()
        },
        namespace: Some("prod".to_owned()),
        name: "a".to_owned(),
        requester: Requester { user: "alice@example.com".to_owned(), ..Default::default() },
        before: before.as_deref().map(Object::new),
        after: after.as_deref().map(Object::new),
        dry_run: false,
        manager: manager.to_owned(),
    };
    let circumstances = Circumstances {
        token: &token,
        environment: rules.environment_named("prod").unwrap(),
        rules: &rules,
        key: &Key::new([7; 32]),
        time: "2026-11-20T12:00:00Z".parse().unwrap(),
        undoes: &[],
    };
    record(&write, "inc-123-0000", circumstances)
}

fn object(data: Value) -> Value {
    json!({"kind": "X", "metadata": {"name": "a", "uid": "u", "resourceVersion": "3", "managedFields": [],
        "creationTimestamp": "2026-11-20T00:00:00Z", "generation": 2, "annotations": {"k": "v"}},
        "data": data, "status": {"noise": true}})
}

fn after(change: &BreakglassChange) -> Value {
    let steps = serde_json::to_value(&change.spec.patch).unwrap();
    let mut document = change.spec.before.clone().unwrap_or(Value::Null);
    json_patch::patch(&mut document, &serde_json::from_value::<json_patch::Patch>(steps).unwrap()).unwrap();
    document
}

#[test]
fn before_and_patch_give_what_was_stored() {
    let (old, new) = (object(json!({"k": "old"})), object(json!({"k": "new", "n": "m"})));
    let trimmed =
        |data: Value| json!({"kind": "X", "metadata": {"name": "a", "annotations": {"k": "v"}}, "data": data});
    let update = recorded("ConfigMap", Some(&old), Some(&new));
    assert_eq!(update.spec.before, Some(trimmed(json!({"k": "old"}))));
    assert_eq!(after(&update), trimmed(json!({"k": "new", "n": "m"})));
    let create = recorded("ConfigMap", None, Some(&new));
    assert_eq!((create.spec.before.clone(), after(&create)), (None, trimmed(json!({"k": "new", "n": "m"}))));
    let delete = recorded("ConfigMap", Some(&old), None);
    assert_eq!((delete.spec.before.clone(), after(&delete)), (Some(trimmed(json!({"k": "old"}))), Value::Null));
    assert_eq!(delete.spec.target.uid.as_deref(), Some("u"));
    assert_eq!(delete.spec.decide_by.to_string(), "2026-11-21T12:00:00Z");
}

#[test]
fn a_secret_is_not_in_its_record() {
    let mut old = object(json!({"password": CANARY, "same": "x"}));
    old["metadata"]["annotations"][LAST_APPLIED] = json!(format!("{{\"data\":{{\"password\":\"{CANARY}\"}}}}"));
    let new = object(json!({"password": "b3RoZXI=", "same": "x"}));
    for change in [recorded("Secret", Some(&old), Some(&new)), recorded("Secret", Some(&old), None)] {
        let text = serde_json::to_string(&change).unwrap();
        assert!(!text.contains(CANARY) && text.contains("password"), "{text}");
    }
    let change = recorded("Secret", Some(&old), Some(&new));
    assert!(change.spec.patch.iter().all(|step| step.path != "/data/same"), "equal values are visible as equal");
    assert!(change.spec.patch.iter().any(|step| step.path == "/data/password"));
}

#[test]
fn what_is_as_large_and_as_deep_as_can_be_kept_is_kept() {
    let of = |bytes: usize| recorded("ConfigMap", None, Some(&object(json!({"k": "x".repeat(bytes)})))).spec;
    // `null`, the body before a create, counts too.
    let rest = "null".len() + serde_json::to_string(&of(0).patch).unwrap().len();
    let fits = BODY_LIMIT - rest;
    assert!(!of(fits).truncated && of(fits + 1).truncated);
    for (deep, expected) in
        [(DEPTH_LIMIT - 1, true), (DEPTH_LIMIT, true), (DEPTH_LIMIT + 1, false), (DEPTH_LIMIT + 2, false)]
    {
        let text = format!("{{\"x\":{}1{}}}", "[".repeat(deep - 1), "]".repeat(deep - 1));
        let object: Box<RawValue> = serde_json::from_str(&text).unwrap();
        assert_eq!(body(&Object::new(&object), &[], &Key::new([7; 32]), false).is_some(), expected, "{deep}");
    }
}

#[test]
fn what_is_too_large_or_too_deep_is_hashed_and_says_so() {
    let large = object(json!({"k": "x".repeat(BODY_LIMIT)}));
    let change = recorded("ConfigMap", Some(&large), Some(&object(json!({"k": "small"}))));
    assert!(change.spec.truncated);
    assert!(serde_json::to_string(&change).unwrap().len() < 10_000);
    assert!(!recorded("ConfigMap", Some(&object(json!({"k": "v"}))), None).spec.truncated);
    let deep: Box<RawValue> =
        serde_json::from_str(&format!("{{\"x\":{}1{}}}", "[".repeat(5_000), "]".repeat(5_000))).unwrap();
    assert_eq!(body(&Object::new(&deep), &[], &Key::new([7; 32]), false), None);
    for (text, expected) in
        [("1", 0), ("{}", 1), (r#"{"a":[{"b":1}],"c":{}}"#, 3), (r#"["[[[\"[[",{}]"#, 2), (r#"{"\\":["]"]}"#, 2)]
    {
        assert_eq!(depth(text), expected, "{text}");
    }
}

/// A write to a subresource carries its own kind; the record names the object.
#[test]
fn a_record_names_the_object_that_is_written_to() {
    for (group, plural, subresource, namespace, expected) in [
        ("", "pods", Some("eviction"), Some("prod"), ("Pod", Some("prod"))),
        ("", "services", Some("status"), Some("prod"), ("Service", Some("prod"))),
        ("", "namespaces", Some("finalize"), Some("prod"), ("Namespace", None)),
        ("", "namespaces", None, Some("prod"), ("Sent", None)),
        ("", "replicationcontrollers", Some("scale"), Some("prod"), ("ReplicationController", Some("prod"))),
        ("apps", "deployments", Some("scale"), Some("prod"), ("Deployment", Some("prod"))),
        ("apps", "replicasets", Some("scale"), Some("prod"), ("ReplicaSet", Some("prod"))),
        ("apps", "statefulsets", Some("scale"), Some("prod"), ("StatefulSet", Some("prod"))),
        ("", "serviceaccounts", Some("token"), Some("prod"), ("ServiceAccount", Some("prod"))),
        ("", "nodes", Some("status"), None, ("Node", None)),
        ("", "nodes", None, None, ("Sent", None)),
        ("apps", "pods", Some("scale"), Some("prod"), ("Sent", Some("prod"))),
        ("example.com", "gadgets", Some("scale"), Some("prod"), ("Sent", Some("prod"))),
    ] {
        let write = Write {
            verb: Verb::Update,
            resource: Resource {
                group: group.to_owned(),
                plural: plural.to_owned(),
                kind: "Sent".to_owned(),
                subresource: subresource.map(str::to_owned),
                ..Resource::default()
            },
            namespace: namespace.map(str::to_owned),
            name: "a".to_owned(),
            requester: Requester::default(),
            before: None,
            after: None,
            dry_run: false,
            manager: String::new(),
        };
        let target = target(&write);
        let said = (target.kind.as_str(), target.namespace.as_deref());
        assert_eq!(said, expected, "{group} {plural} {subresource:?}");
    }
}

#[test]
fn a_record_names_no_manager_where_there_is_none() {
    let manager = |manager: &str| recorded_by(manager, "ConfigMap", None, Some(&object(json!({})))).spec.manager;
    assert_eq!(manager(""), None);
    assert_eq!(manager("kubectl"), Some("kubectl".to_owned()));
}
