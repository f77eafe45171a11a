//! Ways to make something go: each is refused like a plain delete, and what is on its way out stays guarded until it is gone.

use serde_json::{Value, json};
use tests::http::{APPLY, JSON, MERGE, STRATEGIC};
use tests::record::{config_map, without_noise};
use tests::{Cluster, Http, Kubectl, wait_until};

use crate::LIMIT;
use crate::bypass::check_gated;

/// alice, who may do all of it by RBAC and has no token; and the engine, which made what is there.
fn scene(namespace: &str) -> (Http, Kubectl) {
    let cluster = Cluster::shared();
    cluster.namespace(namespace);
    (Http::new(&cluster.kubectl("alice"), "bypass/1"), cluster.kubectl("flux").namespace(namespace))
}

fn is_there(flux: &Kubectl, resource: &str) -> bool {
    !flux.ok(&["get", resource, "-o", "name", "--ignore-not-found"]).is_empty()
}

/// S-02: a delete with preconditions, with any propagation, of a collection, and of an owner, however these are asked for,
/// is refused like a plain one; and so is an eviction.
#[test]
fn every_way_to_delete_is_refused() {
    let (alice, flux) = scene("prod-ways-out");
    flux.ok_with_input(&["create", "-f", "-"], &config_map("settings", "one"));
    flux.ok(&["create", "deployment", "api", "--image=registry.example.com/api:1"]);
    // The whole chain: its owner is what is deleted below.
    let pod = wait_until("a Pod of the Deployment", LIMIT, || {
        let name = flux.ok(&["get", "pods", "-l", "app=api", "-o", "jsonpath={.items[*].metadata.name}"]);
        if name.is_empty() { Err("there is none".to_owned()) } else { Ok(name) }
    })
    .unwrap();
    let uid = flux.ok(&["get", "configmap", "settings", "-o", "jsonpath={.metadata.uid}"]);
    let version = flux.ok(&["get", "configmap", "settings", "-o", "jsonpath={.metadata.resourceVersion}"]);

    let mut ways = vec![("", json!({})), ("?gracePeriodSeconds=0", Value::Null)];
    for propagation in ["Orphan", "Foreground", "Background"] {
        ways.push(("", json!({"propagationPolicy": propagation, "gracePeriodSeconds": 0})));
    }
    ways.push(("?propagationPolicy=Orphan", Value::Null));
    ways.push(("?propagationPolicy=Foreground", Value::Null));
    ways.push(("", json!({"orphanDependents": true})));
    let core = "/api/v1/namespaces/prod-ways-out";
    let deployments = "/apis/apps/v1/namespaces/prod-ways-out/deployments";
    let by = |what: &str, verb: &str| format!("{what} ({verb}) by alice@example.com");
    for (path, what) in [
        (format!("{core}/configmaps/settings"), "configmaps \"settings\""),
        (format!("{deployments}/api"), "deployments.apps \"api\""),
        (format!("{core}/pods/{pod}"), &format!("pods \"{pod}\"")),
        // Of a collection, the first is named.
        (deployments.to_owned(), "deployments.apps \"api\""),
    ] {
        for (query, options) in &ways {
            let body = if options.is_null() { String::new() } else { options.to_string() };
            let answer = alice.send("DELETE", &format!("{path}{query}"), &body);
            check_gated(answer, ("prod", &by(what, "delete"), "-n prod-ways-out"));
        }
    }
    for preconditions in
        [json!({"uid": uid}), json!({"resourceVersion": version}), json!({"uid": uid, "resourceVersion": version})]
    {
        let body = json!({"preconditions": preconditions}).to_string();
        let answer = alice.send("DELETE", &format!("{core}/configmaps/settings"), &body);
        check_gated(answer, ("prod", &by("configmaps \"settings\"", "delete"), "-n prod-ways-out"));
    }
    for options in [json!({}), json!({"gracePeriodSeconds": 0}), json!({"preconditions": {}})] {
        let eviction =
            json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}, "deleteOptions": options});
        let answer = alice.send("POST", &format!("{core}/pods/{pod}/eviction"), &eviction.to_string());
        let what = format!("pods/eviction \"{pod}\"");
        check_gated(answer, ("prod", &by(&what, "create"), "-n prod-ways-out"));
    }
    for resource in ["configmap/settings", "deployment/api", &format!("pod/{pod}")] {
        let object = flux.json(&["get", resource]);
        assert_eq!(object["metadata"]["deletionTimestamp"], Value::Null, "{object:#}");
    }
    // What is let in is let in for good: these were well formed.
    flux.ok(&["delete", "deployment", "api", "--cascade=foreground", "--wait=false"]);
    wait_until("the Deployment to go", LIMIT, || {
        if is_there(&flux, "deployment/api") { Err("it is there".to_owned()) } else { Ok(()) }
    })
    .unwrap();
}

/// S-02: nobody has the garbage collector delete for them, or keeps it from deleting: owners and finalizers of what is in
/// prod are as guarded as the rest of it.
#[test]
fn owners_and_finalizers_are_not_anybodys_to_set() {
    let (alice, flux) = scene("prod-not-owned");
    flux.ok_with_input(&["create", "-f", "-"], &config_map("settings", "one"));
    let before = flux.json(&["get", "configmap", "settings"]);
    let path = "/api/v1/namespaces/prod-not-owned/configmaps/settings";
    let subject = "configmaps \"settings\" (update) by alice@example.com";
    let nobody = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "nobody", "uid": "0e7e2a3c-0000-4000-8000-000000000001"});
    for (field, value) in [("ownerReferences", json!([nobody])), ("finalizers", json!(["example.com/mine"]))] {
        let metadata = json!({"metadata": {field: value}});
        let head = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", field: value}});
        let steps = json!([{"op": "add", "path": format!("/metadata/{field}"), "value": value}]);
        for (media_type, body) in [(MERGE, &metadata), (STRATEGIC, &metadata), (JSON, &steps)] {
            check_gated(alice.patch(media_type, path, body), ("prod", subject, "-n prod-not-owned"));
        }
        let apply = alice.patch(APPLY, &format!("{path}?fieldManager=mine&force=true"), &head);
        check_gated(apply, ("prod", subject, "-n prod-not-owned"));
        let mut whole = before.clone();
        whole["metadata"][field] = value;
        check_gated(alice.send("PUT", path, &whole.to_string()), ("prod", subject, "-n prod-not-owned"));
    }
    assert_eq!(flux.json(&["get", "configmap", "settings"]), before);
}

/// S-07: an object with a deletionTimestamp and a finalizer is guarded like any other: nothing of it is edited, and nobody
/// lets it go.
#[test]
fn what_is_being_deleted_stays_guarded() {
    let (alice, flux) = scene("prod-going");
    let mut object: Value = serde_json::from_str(&config_map("settings", "one")).unwrap();
    object["metadata"]["finalizers"] = json!(["example.com/keep"]);
    flux.ok_with_input(&["create", "-f", "-"], &object.to_string());
    flux.ok(&["delete", "configmap", "settings", "--wait=false"]);
    let before = flux.json(&["get", "configmap", "settings"]);
    assert_ne!(before["metadata"]["deletionTimestamp"], Value::Null);

    let path = "/api/v1/namespaces/prod-going/configmaps/settings";
    let (update, delete) =
        ["update", "delete"].map(|verb| format!("configmaps \"settings\" ({verb}) by alice@example.com")).into();
    for edit in [
        json!({"data": {"key": "two"}}),
        json!({"metadata": {"finalizers": null}}),
        json!({"metadata": {"labels": {"tier": "web"}}}),
        json!({"metadata": {"annotations": {"note": "mine"}}}),
    ] {
        for media_type in [MERGE, STRATEGIC] {
            check_gated(alice.patch(media_type, path, &edit), ("prod", &update, "-n prod-going"));
        }
        let mut whole = before.clone();
        json_patch::merge(&mut whole, &edit);
        check_gated(alice.send("PUT", path, &whole.to_string()), ("prod", &update, "-n prod-going"));
        let steps = json!(json_patch::diff(&before, &whole));
        check_gated(alice.patch(JSON, path, &steps), ("prod", &update, "-n prod-going"));
    }
    let again = alice.send("DELETE", path, &json!({"gracePeriodSeconds": 0}).to_string());
    check_gated(again, ("prod", &delete, "-n prod-going"));
    assert_eq!(without_noise(&flux.json(&["get", "configmap", "settings"])), without_noise(&before));

    // The same in a namespace that is on its way out.
    let cluster = Cluster::shared();
    cluster.namespace("prod-going-all");
    let all = cluster.kubectl("flux").namespace("prod-going-all");
    all.ok_with_input(&["create", "-f", "-"], &object.to_string());
    cluster.set_scene(&["delete", "namespace", "prod-going-all", "--wait=false"], "");
    wait_until("the ConfigMap to be asked to go", LIMIT, || {
        let at = all.ok(&["get", "configmap", "settings", "-o", "jsonpath={.metadata.deletionTimestamp}"]);
        if at.is_empty() { Err("it stays".to_owned()) } else { Ok(()) }
    })
    .unwrap();
    let admin = Http::new(&cluster.kubectl("admin"), "bypass/1");
    let path = path.replace("prod-going", "prod-going-all");
    let letting_go = json!({"metadata": {"finalizers": null}});
    let subject = "configmaps \"settings\" (update) by admin";
    check_gated(admin.patch(MERGE, &path, &letting_go), ("prod", subject, "-n prod-going-all"));
    all.ok(&["patch", "configmap", "settings", "--type=merge", "-p", &letting_go.to_string()]);
    flux.ok(&["patch", "configmap", "settings", "--type=merge", "-p", &letting_go.to_string()]);
    assert!(!is_there(&flux, "configmap/settings"));
}
