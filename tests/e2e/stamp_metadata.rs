//! What a stamp does to the metadata around it: it fits or the write is refused clearly, nobody owns it, and objects that
//! come into being without a POST or without a name are stamped like all others.

use serde_json::{Value, json};
use tests::http::refused;
use tests::record::{after, change_of, config_map, stamp, without_noise};
use tests::{Cluster, Http, Kubectl};

use crate::check_refused;

/// What all annotations of an object may take together (apimachinery pkg/api/validation/objectmeta.go).
const ANNOTATIONS_LIMIT: usize = 256 * 1024;

/// Holds that the object says that alice did this, and that the change that it names is what is stored.
#[track_caller]
fn check_stamp(object: &Value, operation: &str) {
    let stamp = stamp(object);
    let said = (stamp["user"].as_str(), stamp["operation"].as_str());
    assert_eq!(said, ("alice@example.com", operation), "{object:#}");
    match stamp["state"].as_str() {
        "noted" => assert_eq!(stamp.len(), 5, "{stamp:?}"),
        _ => assert_eq!(after(&Cluster::shared().change(&stamp["change"])), without_noise(object)),
    }
}

/// L-10: whatever metadata lacks, it is stamped; where all annotations together leave no room for a stamp, the write is
/// refused and says that they are too long.
#[test]
fn a_stamp_fits_or_the_write_is_refused_clearly() {
    let cluster = Cluster::shared();
    for (namespace, guarded) in [("prod-full", true), ("dev-full", false)] {
        cluster.namespace(namespace);
        if guarded {
            cluster.open("alice", "INC-480", namespace);
        }
        let path = format!("/api/v1/namespaces/{namespace}/configmaps");
        let alice = Http::new(&cluster.kubectl("alice"), "http/1");
        let flux = Http::new(&cluster.kubectl("flux"), "http/1");
        let map = |name: &str, annotations: Value, value: &str| {
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "annotations": annotations},
                "data": {"key": value}})
            .to_string()
        };
        let bytes = |total: usize| json!({"k": "v".repeat(total - 1)});
        for (name, annotations) in
            [("null", Value::Null), ("empty", json!({})), ("tight", bytes(ANNOTATIONS_LIMIT - 1_024))]
        {
            for (method, path, value, operation) in
                [("POST", path.clone(), "one", "Create"), ("PUT", format!("{path}/{name}"), "two", "Update")]
            {
                let object = alice.send(method, &path, &map(name, annotations.clone(), value)).unwrap();
                assert_eq!(object["data"]["key"], value);
                check_stamp(&object, operation);
            }
        }
        // One byte is left: as much as nothing.
        let full = map("full", bytes(ANNOTATIONS_LIMIT - 1), "one");
        flux.send("POST", &path, &full).unwrap();
        for answer in [
            alice.send("POST", &path, &map("another", bytes(ANNOTATIONS_LIMIT - 1), "one")),
            alice.send("PUT", &format!("{path}/full"), &map("full", bytes(ANNOTATIONS_LIMIT - 1), "two")),
        ] {
            let (code, message) = refused(answer);
            assert_eq!(code, 422, "{message}");
            let why = format!("metadata.annotations: Too long: may not be more than {ANNOTATIONS_LIMIT} bytes");
            assert!(message.ends_with(&why), "{message}");
        }
        // And what changes nothing needs no room.
        alice.send("PUT", &format!("{path}/full"), &full).unwrap();
        assert_eq!(cluster.changes("INC-480").len(), 6, "what does not land is not on the record");
    }
}

/// L-05, L-14: an object whose name the API server makes is gated by its namespace, and stamped, also over a forged stamp.
#[test]
fn an_object_without_a_name_yet_is_gated_and_stamped() {
    let cluster = Cluster::shared();
    let generated = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "made-",
        "annotations": {"breakglass.dev/user": "bob@example.com", "breakglass.dev/change": "inc-1-0000000000000000"},
        "labels": {"breakglass.dev/state": "accepted"}}})
    .to_string();
    for (namespace, guarded) in [("prod-nameless", true), ("dev-nameless", false)] {
        cluster.namespace(namespace);
        let alice = cluster.kubectl("alice").namespace(namespace);
        if guarded {
            let refused = alice.run_with_input(&["create", "-f", "-"], &generated);
            let refused = refused.refusal();
            // The call that refuses knows the name already.
            assert!(refused.starts_with("prod is run by GitOps: configmaps \"made-"), "{refused}");
            cluster.open("alice", "INC-481", namespace);
        }
        let args = ["create", "-f", "-", "-o", "jsonpath={.metadata.name}"];
        let names = [(); 2].map(|()| alice.ok_with_input(&args, &generated));
        assert_ne!(names[0], names[1]);
        for name in &names {
            let object = alice.json(&["get", "configmap", name]);
            assert!(name.starts_with("made-") && name.len() > "made-".len(), "{name}");
            check_stamp(&object, "Create");
            if guarded {
                let change = cluster.change(&change_of(&object));
                assert_eq!(change["spec"]["target"]["name"], name.as_str());
                assert_eq!(change["spec"]["target"]["uid"], object["metadata"]["uid"]);
            }
        }
    }
    assert_eq!(cluster.changes("INC-481").len(), 2);
}

/// L-15: server-side apply and PUT make objects, too: that is a Create, with managedFields that the API server accepts.
#[test]
fn an_object_that_is_made_by_apply_or_put_is_a_create() {
    let cluster = Cluster::shared();
    for (namespace, guarded) in [("prod-made-by", true), ("dev-made-by", false)] {
        cluster.namespace(namespace);
        cluster.widgets(namespace).unwrap();
        // Of the kinds that a PUT may make (rest.AllowCreateOnUpdate), those that live in namespaces and are looked at.
        let resources =
            [("", "services"), ("", "endpoints"), ("", "limitranges"), ("rbac.authorization.k8s.io", "roles")];
        cluster.grant("alice@example.com", namespace, &resources);
        let subject = |resource: &str| format!("{resource} \"web\" (create) by alice@example.com");
        let alice = cluster.kubectl("alice").namespace(namespace);
        let metadata = json!({"name": "web", "namespace": namespace});
        let core = format!("/api/v1/namespaces/{namespace}");
        let puts = [
            (json!({"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 80}]}}), "services", &core),
            (
                json!({"apiVersion": "v1", "kind": "Endpoints", "subsets": [{"addresses": [{"ip": "10.0.0.1"}]}]}),
                "endpoints",
                &core,
            ),
            (
                json!({"apiVersion": "v1", "kind": "LimitRange", "spec": {"limits": [{"type": "Pod"}]}}),
                "limitranges",
                &core,
            ),
            (
                json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
                    "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]}),
                "roles.rbac.authorization.k8s.io",
                &format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"),
            ),
        ];
        let applied =
            json!({"apiVersion": "e2e.example.com/v1", "kind": "Widget", "spec": {"size": 1}, "metadata": metadata});
        let apply = || alice.run_with_input(&["apply", "--server-side", "-f", "-"], &applied.to_string());
        let put = |object: &Value, resource: &str, prefix: &str| {
            let mut object = object.clone();
            object["metadata"] = metadata.clone();
            let path = format!("{prefix}/{}/web", resource.split('.').next().unwrap());
            alice.run_with_input(&["replace", "--raw", &path, "-f", "-"], &object.to_string())
        };
        if guarded {
            for (object, resource, prefix) in &puts {
                check_refused(&put(object, resource, prefix), &subject(resource), &format!("-n {namespace}"));
            }
            check_refused(&apply(), &subject("widgets.e2e.example.com"), &format!("-n {namespace}"));
            cluster.open("alice", "INC-482", namespace);
        }
        for (object, resource, prefix) in &puts {
            check_made(&alice, resource, put(object, resource, prefix));
        }
        check_made(&alice, "widgets.e2e.example.com", apply());
    }
    assert_eq!(cluster.changes("INC-482").len(), 5);
}

#[track_caller]
fn check_made(alice: &Kubectl, resource: &str, ran: tests::Output) {
    assert_eq!(ran.status, 0, "{resource}: {ran}");
    let complaint = ran.warnings().into_iter().find(|warning| warning.contains("managedFields"));
    assert_eq!(complaint, None, "{resource}");
    let object = alice.json(&["get", resource, "web", "--show-managed-fields"]);
    check_stamp(&object, "Create");
    check_owners(&object);
    assert_eq!(object["metadata"]["managedFields"].as_array().unwrap().len(), 1, "{object:#}");
}

/// Holds that somebody is on record for the fields of the object, and nobody for our keys.
#[track_caller]
fn check_owners(object: &Value) {
    let Some(owners) = object["metadata"]["managedFields"].as_array() else { panic!("{object:#}") };
    for owner in owners {
        assert!(!owner.to_string().contains("breakglass.dev/"), "{owner:#}");
    }
}

/// L-18: nobody owns our keys, whatever wrote the object, and nobody else's apply conflicts over them.
#[test]
fn nobody_owns_a_stamp_and_nobody_conflicts_over_it() {
    let cluster = Cluster::shared();
    for (namespace, guarded) in [("prod-owners", true), ("dev-owners", false)] {
        cluster.namespace(namespace);
        if guarded {
            cluster.open("alice", "INC-483", namespace);
        }
        let alice = cluster.kubectl("alice").namespace(namespace);
        let get = |name: &str| alice.json(&["get", "configmap", name, "--show-managed-fields"]);
        for (name, create) in [
            ("created", &["create", "-f", "-"][..]),
            ("applied", &["apply", "-f", "-"]),
            ("server-side", &["apply", "--server-side", "--field-manager=one", "-f", "-"]),
        ] {
            alice.ok_with_input(create, &config_map(name, "one"));
            check_owners(&get(name));
            // Fields of their own, without force: a conflict would be refused.
            for manager in ["two", "three", "two"] {
                let mut object: Value = serde_json::from_str(&config_map(name, "one")).unwrap();
                object["data"] = json!({manager: chrono::Utc::now().timestamp_micros().to_string()});
                let manager = format!("--field-manager={manager}");
                let said = alice.run_with_input(&["apply", "--server-side", &manager, "-f", "-"], &object.to_string());
                assert_eq!(said.status, 0, "{name} {manager}: {said}");
                check_owners(&get(name));
                check_stamp(&without_managed_fields(get(name)), "Update");
            }
            alice.ok(&["patch", "configmap", name, "-p", r#"{"data": {"patched": "yes"}}"#]);
            alice.ok_with_input(&["replace", "-f", "-"], &config_map(name, "replaced"));
            check_owners(&get(name));
            check_stamp(&without_managed_fields(get(name)), "Update");
        }
    }
}

fn without_managed_fields(mut object: Value) -> Value {
    object["metadata"].as_object_mut().unwrap().remove("managedFields");
    object
}

/// L-18: who exports an object with our keys in it and applies that becomes their owner in name only: the stamp stays true,
/// and others who apply their own fields conflict with nobody.
#[test]
fn an_export_that_is_applied_does_not_freeze_the_stamp() {
    let cluster = Cluster::shared();
    for (namespace, guarded) in [("prod-export", true), ("dev-export", false)] {
        cluster.namespace(namespace);
        if guarded {
            cluster.open("alice", "INC-484", namespace);
        }
        let alice = cluster.kubectl("alice").namespace(namespace);
        let get = || alice.json(&["get", "configmap", "settings"]);
        let apply = |manager: &str, object: &Value| {
            let manager = format!("--field-manager={manager}");
            let said = alice.run_with_input(&["apply", "--server-side", &manager, "-f", "-"], &object.to_string());
            assert_eq!(said.status, 0, "{manager}: {said}");
            get()
        };
        let own = |field: &str, value: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {field: value}});
        let first = apply("one", &own("one", "1"));
        let export = without_noise(&first);
        assert_eq!(without_noise(&apply("exporter", &export)), export, "nothing changes");
        let second = apply("two", &own("two", "1"));
        check_stamp(&second, "Update");
        // Of an older state, with its stamp: what the file says of the object is so already, what it says of us is not.
        assert_eq!(without_noise(&apply("exporter", &export)), without_noise(&second));
        let third = apply("two", &own("two", "2"));
        check_stamp(&third, "Update");
        // And without our keys, which it was on record for.
        let mut bare = export.clone();
        bare["metadata"] = json!({"name": "settings"});
        assert_eq!(without_noise(&apply("exporter", &bare)), without_noise(&third));
        if guarded {
            assert_eq!(cluster.changes("INC-484").len(), 3);
        }
    }
}
