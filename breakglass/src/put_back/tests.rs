//! Tables: a change, its object now, and the way back.

use super::*;
use crate::diff::patch_between;
use serde_json::json;

/// The record of a write that made `after` of `before`; null stands for no object.
pub(crate) fn change(operation: &str, before: Value, after: Value) -> BreakglassChangeSpec {
    let option = |value: &Value| (!value.is_null()).then(|| value.clone());
    let patch = patch_between(option(&before).as_ref(), option(&after).as_ref());
    serde_json::from_value(json!({"token": "t", "incident": "INC-1", "user": "alice@example.com",
        "time": "2026-11-20T12:00:00Z", "environment": "prod", "operation": operation,
        "target": {"apiVersion": "apps/v1", "kind": "Deployment", "resource": "deployments", "name": "api",
            "uid": "u"},
        "before": before, "patch": patch, "decideBy": "2026-11-21T12:00:00Z"}))
    .unwrap()
}

fn object(replicas: i64) -> Value {
    json!({"metadata": {"name": "api"}, "spec": {"replicas": replicas}})
}

/// As the API server has it.
fn live(uid: &str, replicas: i64) -> Value {
    let metadata = json!({"name": "api", "uid": uid, "resourceVersion": "7",
        "annotations": {"breakglass.dev/change": "c", "kept": "1"}});
    json!({"metadata": metadata, "spec": {"replicas": replicas}, "status": {"replicas": 1}})
}

#[test]
fn an_update_is_taken_out_and_the_rest_stays() {
    let update = change("Update", object(1), object(3));
    assert_eq!(put_back(&update, Values::Plain, Some(&live("u", 3))), Ok(Some(live("u", 1))));
    assert_eq!(put_back(&update, Values::Plain, Some(&live("u", 1))), Ok(Some(live("u", 1))));
    let since = Err(Obstacle::WrittenSince(vec!["/spec/replicas".to_owned()]));
    assert_eq!(put_back(&update, Values::Plain, Some(&live("u", 4))), since);
    assert_eq!(put_back(&update, Values::Plain, None), Err(Obstacle::Gone));
}

#[test]
fn what_was_made_goes_and_what_went_is_made() {
    let made = change("Create", json!(null), object(1));
    assert_eq!(put_back(&made, Values::Plain, Some(&live("u", 1))), Ok(None));
    assert_eq!(put_back(&made, Values::Plain, None), Ok(None));
    assert_eq!(put_back(&made, Values::Plain, Some(&live("v", 1))), Ok(Some(live("v", 1))), "it is another's");

    let deleted = change("Delete", object(1), json!(null));
    assert_eq!(put_back(&deleted, Values::Plain, None), Ok(Some(object(1))));
    let anew = json!({"metadata": {"name": "api", "uid": "v"}, "spec": {"replicas": 1}});
    assert_eq!(put_back(&deleted, Values::Plain, Some(&anew)), Ok(Some(anew.clone())));
    let differs = put_back(&deleted, Values::Plain, Some(&live("v", 2)));
    assert!(matches!(&differs, Err(Obstacle::MadeAnew(fields)) if fields.contains(&"/spec/replicas".to_owned())));
    let mut leaving = live("u", 1);
    leaving["metadata"]["deletionTimestamp"] = json!("2026-11-20T12:00:00Z");
    assert_eq!(put_back(&deleted, Values::Plain, Some(&leaving)), Err(Obstacle::Leaving));
    let hidden = Err(Obstacle::Hidden(vec!["/data".to_owned()]));
    assert_eq!(put_back(&deleted, Values::Hashed(&["/data".to_owned()]), None), hidden);
    let owners = json!([{"kind": "ReplicaSet", "name": "api-1", "controller": true}]);
    let pod = change("Delete", json!({"metadata": {"name": "api", "ownerReferences": owners}}), json!(null));
    assert_eq!(put_back(&pod, Values::Plain, None), Ok(None), "its controller makes another");
}

#[test]
fn hidden_values_are_no_obstacle_where_they_did_not_change() {
    let secret = |hash: &str, label: &str| json!({"metadata": {"labels": {"a": label}}, "data": {"key": hash}});
    let paths = ["/data".to_owned()];
    let labelled = change("Update", secret("h1", "x"), secret("h1", "y"));
    let back = put_back(&labelled, Values::Hashed(&paths), Some(&secret("plain", "y")));
    assert_eq!(back, Ok(Some(secret("plain", "x"))));
    let written = change("Update", secret("h1", "x"), secret("h2", "x"));
    let hidden = Err(Obstacle::Hidden(vec!["/data/key".to_owned()]));
    assert_eq!(put_back(&written, Values::Hashed(&paths), Some(&secret("plain", "x"))), hidden);
}

#[test]
fn some_writes_have_no_way_back() {
    let below = |operation: &str, subresource: &str, before: Value| {
        let mut change = change(operation, before, object(1));
        change.subresource = Some(subresource.to_owned());
        change
    };
    for (change, expected) in [
        (below("Exec", "exec", json!(null)), Obstacle::Unseen),
        (below("Create", "token", json!(null)), Obstacle::GivenOut),
        (below("Create", "binding", json!(null)), Obstacle::Bound),
        (below("Update", "ephemeralcontainers", object(0)), Obstacle::Ephemeral),
    ] {
        assert_eq!(put_back(&change, Values::Plain, Some(&live("u", 1))), Err(expected));
    }
    let mut large = change("Update", object(1), object(2));
    large.truncated = true;
    assert_eq!(put_back(&large, Values::Plain, Some(&live("u", 2))), Err(Obstacle::Truncated));
}

#[test]
fn several_changes_are_put_back_together() {
    let [first, second] = [change("Update", object(1), object(3)), change("Update", object(3), object(5))];
    assert_eq!(put_all_back(&[&second, &first], Values::Plain, Some(&live("u", 5))), Ok(Some(live("u", 1))));
    let alone = put_all_back(&[&first], Values::Plain, Some(&live("u", 5)));
    assert_eq!(alone, Err((0, Obstacle::WrittenSince(vec!["/spec/replicas".to_owned()]))));
    // Put back already, all at once; with what others did beside it.
    assert_eq!(put_all_back(&[&second, &first], Values::Plain, Some(&live("u", 1))), Ok(Some(live("u", 1))));
    let since = Err((0, Obstacle::WrittenSince(vec!["/spec/replicas".to_owned()])));
    assert_eq!(put_all_back(&[&second, &first], Values::Plain, Some(&live("u", 9))), since);
    let deleted = change("Delete", object(5), json!(null));
    assert_eq!(put_all_back(&[&deleted, &second, &first], Values::Plain, None), Ok(Some(object(1))));
}

#[test]
fn nothing_is_left_when_each_field_is_what_it_was() {
    let update = change("Update", object(1), object(3));
    let noted =
        json!({"metadata": {"name": "api", "annotations": {"breakglass.dev/user": "a"}}, "spec": {"replicas": 1}});
    assert!(is_put_back(&update, Some(("u", &noted))) && !is_put_back(&update, Some(("u", &object(3)))));
    assert!(!is_put_back(&update, Some(("u", &object(2)))) && !is_put_back(&update, None));
    let made = change("Create", json!(null), object(1));
    assert!(is_put_back(&made, None) && is_put_back(&made, Some(("v", &object(1)))));
    assert!(!is_put_back(&made, Some(("u", &object(1)))));
    let deleted = change("Delete", object(1), json!(null));
    assert!(is_put_back(&deleted, Some(("v", &object(1)))) && !is_put_back(&deleted, None));
}

#[test]
fn of_several_nothing_is_left_when_the_object_is_what_it_was_before_the_first() {
    let [first, second] = [change("Update", object(1), object(3)), change("Update", object(3), object(5))];
    let both = [&second, &first];
    assert!(are_put_back(&both, Some(("u", &object(1)))) && !are_put_back(&[&second], Some(("u", &object(1)))));
    assert!(!are_put_back(&both, Some(("u", &object(3)))) && !are_put_back(&both, None));
    let made = change("Create", json!(null), object(3));
    assert!(are_put_back(&[&second, &made], None) && !are_put_back(&[&second, &made], Some(("u", &object(3)))));
}

#[test]
fn the_write_that_put_back_is_recognised_by_what_it_did() {
    let [first, second] = [change("Update", object(1), object(3)), change("Update", object(3), object(5))];
    let way = change("Update", object(5), object(1));
    assert!(is_the_way_back(&way, &[&second, &first]) && !is_the_way_back(&way, &[&second]));
    assert!(!is_the_way_back(&way, &[]) && !is_the_way_back(&second, &[&first]));
    let [made, deleted] = [change("Create", json!(null), object(1)), change("Delete", object(1), json!(null))];
    assert!(is_the_way_back(&deleted, &[&made]) && is_the_way_back(&made, &[&deleted]));
    // An eviction takes all of it, though it is asked for below it.
    let mut evicted = change("Evict", object(1), json!(null));
    evicted.subresource = Some("eviction".to_owned());
    assert!(is_the_way_back(&made, &[&evicted]));
    let mut elsewhere = change("Update", object(3), object(1));
    assert!(is_the_way_back(&elsewhere, &[&first]));
    elsewhere.target.name = "other".to_owned();
    assert!(!is_the_way_back(&elsewhere, &[&first]));
}
