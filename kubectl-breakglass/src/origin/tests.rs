//! What is read of where an object comes from.

use serde_json::json;

use super::*;

fn target(namespace: Option<&str>, api_version: &str, kind: &str, name: &str) -> Target {
    let namespace = namespace.map(str::to_owned);
    let (kind, name) = (kind.to_owned(), name.to_owned());
    Target {
        api_version: api_version.to_owned(),
        resource: kind.to_lowercase() + "s",
        kind,
        namespace,
        name,
        uid: None,
    }
}

fn api() -> Target {
    target(Some("prod"), "apps/v1", "Deployment", "api")
}

fn labelled(name: &str) -> Value {
    json!({"metadata": {"labels": {"kustomize.toolkit.fluxcd.io/name": name,
        "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}}})
}

fn kustomization(name: &str, ids: &[&str]) -> Value {
    let entries: Vec<Value> = ids.iter().map(|id| json!({"id": id, "v": "v1"})).collect();
    json!({"metadata": {"name": name, "namespace": "flux-system"},
        "spec": {"path": format!("./{name}"), "interval": "10m", "sourceRef": {"kind": "GitRepository", "name": "fleet"}},
        "status": {"lastAppliedRevision": "main@sha1:abc", "inventory": {"entries": entries}}})
}

#[test]
fn the_owner_is_who_lists_it_and_labels_that_say_otherwise_lie() {
    let (ours, theirs) = ("prod_api_apps_Deployment", "prod_other_apps_Deployment");
    let check = |object: Option<Value>, kustomizations: &[Value], owner: Option<&str>, lie: Option<&str>| {
        let origin = Origin::of(&api(), object.as_ref(), kustomizations);
        assert_eq!(origin.applied_by.as_ref().map(ToString::to_string).as_deref(), owner, "{object:?}");
        let said = origin.lie();
        assert!(said.as_deref().unwrap_or("").contains(lie.unwrap_or("")), "{said:?}");
        assert_eq!(said.is_some(), lie.is_some(), "{said:?}");
    };
    let prod = || Some("Kustomization flux-system/prod");
    check(Some(labelled("prod")), &[kustomization("prod", &[theirs, ours])], prod(), None);
    check(None, &[kustomization("prod", &[theirs])], None, None);
    check(
        Some(labelled("prod")),
        &[kustomization("prod", &[theirs])],
        None,
        Some("no inventory of a Kustomization lists it"),
    );
    check(
        Some(labelled("shop")),
        &[kustomization("shop", &[theirs]), kustomization("prod", &[ours])],
        prod(),
        Some("the inventory that lists it is that of Kustomization flux-system/prod"),
    );
    check(
        Some(json!({})),
        &[kustomization("prod", &[ours])],
        prod(),
        Some("do not name Kustomization flux-system/prod"),
    );
    // Moved from one to the other: both list it for a while.
    let moved = [kustomization("old", &[ours]), kustomization("prod", &[ours])];
    check(Some(labelled("prod")), &moved, prod(), None);
    // What it lists is in another cluster, though it is called the same, and labelled the same.
    let mut remote = kustomization("eu", &[ours]);
    remote["spec"]["kubeConfig"] = json!({"secretRef": {"name": "eu"}});
    check(None, std::slice::from_ref(&remote), None, None);
    check(Some(labelled("prod")), &[remote.clone(), kustomization("prod", &[ours])], prod(), None);
    check(Some(labelled("eu")), &[remote], None, Some("no inventory of a Kustomization lists it"));
    // Of a chart there is a claim, and nothing here that could confirm it.
    let release = json!({"metadata": {"labels": {"helm.toolkit.fluxcd.io/name": "api"}}});
    check(Some(release), &[], None, None);
}

#[test]
fn a_kustomization_says_from_where_it_applies() {
    let mut object = kustomization("prod", &["prod_api_apps_Deployment"]);
    let read = |object: &Value| Origin::of(&api(), None, std::slice::from_ref(object)).applied_by.unwrap();
    let applied = read(&object);
    assert_eq!((applied.path.as_str(), applied.revision.as_deref()), ("prod", Some("main@sha1:abc")));
    assert_eq!(applied.source.to_string(), "GitRepository flux-system/fleet");
    assert!(!applied.suspended && applied.spec["path"] == "./prod");
    object["spec"] = json!({"suspend": true, "path": "/clusters//eu/./prod/",
        "sourceRef": {"kind": "OCIRepository", "name": "fleet", "namespace": "sources"}});
    let applied = read(&object);
    assert_eq!((applied.path.as_str(), applied.suspended), ("clusters/eu/prod", true));
    assert_eq!(applied.source.to_string(), "OCIRepository sources/fleet");
    object["spec"]["path"] = Value::Null;
    assert_eq!(read(&object).path, "");
}

#[test]
fn what_of_a_repository_is_followed_is_the_most_exact_thing_that_it_names() {
    for (reference, expected) in [
        (Value::Null, "branch master"),
        (json!({"branch": "main"}), "branch main"),
        (json!({"branch": "main", "commit": "abc"}), "commit abc"),
        (json!({"branch": "main", "tag": "v1"}), "tag v1"),
        (json!({"tag": "v1", "semver": ">=1.0"}), "the newest tag in >=1.0"),
        (json!({"name": "refs/heads/main"}), "branch main"),
        (json!({"name": "refs/pull/7/head", "tag": "v1"}), "refs/pull/7/head"),
        (json!({"branch": ""}), "branch master"),
    ] {
        let object = json!({"spec": {"url": "https://git.example.com/fleet", "ref": reference}});
        assert_eq!(Repository::of(&object).unwrap().follows.to_string(), expected, "{reference}");
    }
    assert_eq!(Repository::of(&json!({"spec": {}})), None);
}
