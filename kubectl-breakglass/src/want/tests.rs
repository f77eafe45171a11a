//! What records and a live object come to.

use breakglass::api::BreakglassChange;
use breakglass::diff::patch_between;

use super::*;

fn record(name: &str, operation: Operation, before: Option<Value>, after: Option<Value>) -> Record {
    let patch = patch_between(before.as_ref(), after.as_ref());
    let change = json!({"apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassChange", "metadata": {"name": name},
        "spec": {"token": "t", "incident": "INC-1", "user": "alice@example.com", "time": "2026-11-20T12:00:00Z",
            "environment": "prod", "operation": operation, "before": before, "patch": patch,
            "decideBy": "2026-11-21T12:00:00Z",
            "target": {"apiVersion": "apps/v1", "kind": "Deployment", "resource": "deployments", "namespace": "prod",
                "name": "api"}}});
    let change: BreakglassChange = serde_json::from_value(change).unwrap();
    Record { name: name.to_owned(), change, found: None, whole: None }
}

fn update(name: &str, before: Value, after: Value) -> Record {
    record(name, Operation::Update, Some(before), Some(after))
}

fn scale(name: &str, before: u32, after: u32) -> Record {
    let scale =
        |replicas: u32| Some(json!({"kind": "Scale", "spec": {"replicas": replicas}, "status": {"replicas": 1}}));
    record(name, Operation::Scale, scale(before), scale(after))
}

fn api(image: &str, replicas: u32) -> Value {
    json!({"kind": "Deployment", "metadata": {"name": "api"}, "spec": {"replicas": replicas, "image": image}})
}

fn check(records: &[Record], now: Now, expected: std::result::Result<Option<Want>, &str>) {
    match (want(records, &now), expected) {
        (Ok(found), Ok(expected)) => assert_eq!(found, expected),
        (Err(found), Err(expected)) => assert!(found.message.contains(expected), "{found}"),
        (found, expected) => panic!("{found:#?}, and not {expected:#?}"),
    }
}

fn from_to(before: Value, after: Value, fields: &[&str]) -> std::result::Result<Option<Want>, &'static str> {
    let fields = fields.iter().map(|&field| field.to_owned()).collect();
    Ok(Some(Want { before: Some(before), after: Some(after), fields }))
}

#[test]
fn an_image_and_a_scale_are_two_fields_of_one_object() {
    let records = [update("a", api("one", 2), api("two", 2)), scale("b", 2, 5)];
    let expected = from_to(api("one", 2), api("two", 5), &["/spec/image", "/spec/replicas"]);
    check(&records, Now::There(api("two", 5)), expected);
    check(
        &records,
        Now::There(api("two", 2)),
        Err("deployment.apps/api in prod no longer says what was made of it: /spec/replicas is 2, and b made it 5"),
    );
    check(&records, Now::There(api("one", 5)), Err("/spec/image is \"one\", and b made it \"two\""));
    check(&records, Now::Gone, Err("deployment.apps/api in prod is gone"));
    check(&records, Now::Hidden, Err("the policy hides the values"));
    // Scaled again, and back.
    check(
        &[scale("a", 2, 5), scale("b", 5, 3)],
        Now::There(api("one", 3)),
        from_to(api("one", 2), api("one", 3), &["/spec/replicas"]),
    );
    check(&[scale("a", 2, 5), scale("b", 5, 2)], Now::There(api("one", 2)), Ok(None));
}

#[test]
fn what_others_wrote_is_not_ours_to_put_into_git() {
    let mut now = api("two", 7);
    now["metadata"]["annotations"] = json!({"theirs": "x"});
    let mut before = now.clone();
    before["spec"]["image"] = json!("one");
    check(
        &[update("a", api("one", 2), api("two", 2))],
        Now::There(now.clone()),
        from_to(before, now.clone(), &["/spec/image"]),
    );

    // Ours and theirs in a map that was not there before.
    let mut after = api("one", 2);
    after["metadata"]["annotations"] = json!({"ours": "x", "breakglass.dev/user": "alice@example.com"});
    let mut now = api("one", 2);
    now["metadata"]["annotations"] = json!({"ours": "x", "theirs": "x"});
    let mut wanted = api("one", 2);
    wanted["metadata"]["annotations"] = json!({"ours": "x"});
    check(
        &[update("a", api("one", 2), after)],
        Now::There(now),
        from_to(api("one", 2), wanted, &["/metadata/annotations"]),
    );
}

#[test]
fn what_was_made_and_deleted_is_the_whole() {
    let made = || record("a", Operation::Create, None, Some(api("one", 1)));
    let deleted = || record("z", Operation::Delete, Some(api("two", 1)), None);
    let changed = || update("b", api("one", 1), api("two", 1));
    let whole = |after| Ok(Some(Want { before: None, after: Some(after), fields: Vec::new() }));
    let mut now = api("two", 1);
    now["spec"]["clusterIP"] = json!("10.0.0.1");
    check(&[made(), changed()], Now::There(now), whole(api("two", 1)));
    check(&[made()], Now::There(api("two", 1)), Err("/spec/image is \"two\", and a made it \"one\""));
    check(&[made(), changed(), deleted()], Now::Gone, Ok(None));
    check(
        &[changed(), deleted()],
        Now::Gone,
        Ok(Some(Want { before: Some(api("two", 1)), after: None, fields: Vec::new() })),
    );
    check(&[deleted()], Now::Another(api("two", 1)), Err("is there again"));
    // Replaced by force: deleted, and made anew.
    let again = record("c", Operation::Create, None, Some(api("three", 1)));
    check(
        &[deleted(), again],
        Now::Another(api("three", 1)),
        from_to(api("two", 1), api("three", 1), &["/spec/image"]),
    );
}

#[test]
fn what_the_record_does_not_hold_is_not_written() {
    let mut truncated = update("a", api("one", 1), api("two", 1));
    truncated.change.spec.truncated = true;
    check(
        &[truncated],
        Now::There(api("two", 1)),
        Err("deployment.apps/api in prod: the object was too large for the record"),
    );
    let mut custom = scale("a", 1, 2);
    custom.change.spec.target.kind = "Widget".to_owned();
    check(&[custom], Now::There(api("one", 2)), Err("does not say which of its fields that is"));
}

#[test]
fn fields_are_named_without_their_values_and_without_our_own() {
    let mut after = api("two", 2);
    after["metadata"]["labels"] = json!({"breakglass.dev/state": "pending"});
    for (record, expected) in [
        (update("a", api("one", 2), after), &["/spec/image"][..]),
        (scale("a", 2, 5), &["/spec/replicas"]),
        (record("a", Operation::Create, None, Some(api("one", 2))), &["all of it is new"]),
        (record("a", Operation::Delete, Some(api("one", 2)), None), &["all of it is gone"]),
    ] {
        assert_eq!(fields_of(&record).unwrap(), expected);
    }
}

#[test]
fn some_changes_leave_nothing_for_git() {
    let of = |operation, subresource: Option<&str>| {
        let mut change = record("a", operation, None, None).change.spec;
        change.subresource = subresource.map(str::to_owned);
        nothing_for_git(&change).is_some()
    };
    for (operation, subresource, expected) in [
        (Operation::Exec, Some("exec"), true),
        (Operation::Evict, Some("eviction"), true),
        (Operation::Update, Some("status"), true),
        (Operation::Update, Some("ephemeralcontainers"), true),
        (Operation::Create, Some("token"), true),
        (Operation::Scale, Some("scale"), false),
        (Operation::Update, None, false),
        (Operation::Create, None, false),
        (Operation::Delete, None, false),
    ] {
        assert_eq!(of(operation, subresource), expected, "{operation:?} {subresource:?}");
    }
}
