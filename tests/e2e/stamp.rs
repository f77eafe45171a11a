//! A stamp cannot be forged, stripped, resurrected or replayed, and is put on whatever the object looks like.

use serde_json::{Value, json};
use tests::record::{after, change_of, config_map, stamp, without_noise};
use tests::{Cluster, wait_until};

use crate::LIMIT;

/// Our keys as somebody makes them up who would like to have been bob, long ago, and to owe nothing.
fn forged(value: &str) -> String {
    let mut object: Value = serde_json::from_str(&config_map("settings", value)).unwrap();
    object["metadata"]["annotations"] = json!({"keep": "me", "breakglass.dev/user": "bob@example.com",
        "breakglass.dev/time": "2020-01-01T00:00:00Z", "breakglass.dev/operation": "Exec",
        "breakglass.dev/manager": "nobody", "breakglass.dev/incident": "INC-1",
        "breakglass.dev/token": "inc-1-aaaaa", "breakglass.dev/change": "inc-1-0000000000000000"});
    object["metadata"]["labels"] = json!({"breakglass.dev/state": "accepted"});
    object.to_string()
}

/// L-05: what a client puts in our keys is replaced by the truth, in prod and elsewhere.
/// L-05: what the client says in our keys is overwritten with the truth.
#[test]
fn a_forged_stamp_is_replaced_on_create_and_on_update() {
    let cluster = Cluster::shared();
    for namespace in ["prod-forged", "dev-forged"] {
        cluster.namespace(namespace);
        let guarded = namespace.starts_with("prod");
        if guarded {
            cluster.open("alice", "INC-170", namespace);
        }
        let alice = cluster.kubectl("alice").namespace(namespace);
        for (operation, args, value) in [
            ("Create", &["create", "-f", "-"][..], "one"),
            ("Update", &["replace", "-f", "-"], "two"),
            ("Update", &["apply", "--server-side", "--force-conflicts", "-f", "-"], "three"),
        ] {
            alice.ok_with_input(args, &forged(value));
            let object = alice.json(&["get", "configmap", "settings"]);
            let stamp = stamp(&object);
            assert_eq!(object["data"]["key"], value);
            assert_eq!(object["metadata"]["annotations"]["keep"], "me");
            assert_eq!((stamp["user"].as_str(), stamp["operation"].as_str()), ("alice@example.com", operation));
            assert!(stamp["time"].as_str() > "2026", "{stamp:?}");
            assert!(stamp["manager"].starts_with("kubectl"), "{stamp:?}");
            if guarded {
                assert_eq!((stamp["incident"].as_str(), stamp["state"].as_str()), ("INC-170", "pending"));
                assert_eq!(after(&cluster.change(&stamp["change"])), without_noise(&object));
            } else {
                assert_eq!(stamp["state"], "noted");
                assert_eq!(stamp.len(), 5, "what a noted stamp does not have is taken off: {stamp:?}");
            }
        }
    }
}

/// L-04: a PUT without our keys gets them back, and an apply that would remove them gets new ones.
/// L-04: a PUT or an apply that lacks our keys gets those of before; where it changes something, those of now.
#[test]
fn a_stamp_that_is_left_out_comes_back() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-dropped");
    cluster.open("alice", "INC-171", "prod-dropped");
    let alice = cluster.kubectl("alice").namespace("prod-dropped");
    let get = || alice.json(&["get", "configmap", "settings"]);
    alice.ok_with_input(&["create", "-f", "-"], &config_map("settings", "one"));
    let object = get();

    // Everything but our keys as it is: nothing changes, and nothing is owed for it.
    for metadata in [json!({"name": "settings"}), json!({"name": "settings", "annotations": {}, "labels": null})] {
        let mut bare = object.clone();
        bare["metadata"] = metadata;
        alice.ok_with_input(&["replace", "-f", "-"], &bare.to_string());
        assert_eq!(without_noise(&get()), without_noise(&object));
    }
    assert_eq!(cluster.changes("INC-171").len(), 1);

    // Once exported and applied, kubectl believes that our keys are its own, and would remove them with the next apply.
    alice.ok_with_input(&["apply", "-f", "-"], &alice.ok(&["get", "configmap", "settings", "-o", "json"]));
    alice.ok_with_input(&["apply", "-f", "-"], &config_map("settings", "two"));
    let stamp = stamp(&get());
    assert_eq!((stamp.len(), stamp["manager"].as_str()), (8, "kubectl-client-side-apply"));
    assert_eq!(cluster.changes("INC-171").len(), 3);
}

/// L-04: nor does any patch take them off, in prod and in dev; and with a change of its own it is stamped as that.
#[test]
fn a_stamp_that_is_patched_away_comes_back() {
    let cluster = Cluster::shared();
    for (namespace, guarded) in [("prod-patched-away", true), ("dev-patched-away", false)] {
        cluster.namespace(namespace);
        if guarded {
            cluster.open("alice", "INC-488", namespace);
        }
        let alice = cluster.kubectl("alice").namespace(namespace);
        let get = || alice.json(&["get", "configmap", "settings"]);
        alice.ok_with_input(&["create", "-f", "-"], &config_map("settings", "one"));
        let object = get();
        let bare = config_map("settings", "one");
        for (media_type, patch) in [
            ("merge", r#"{"metadata": {"annotations": null, "labels": null}}"#),
            ("merge", r#"{"metadata": {"annotations": {"breakglass.dev/user": null, "breakglass.dev/change": ""}}}"#),
            ("strategic", r#"{"metadata": {"annotations": {"$patch": "replace"}, "labels": {"$patch": "delete"}}}"#),
            (
                "json",
                r#"[{"op": "remove", "path": "/metadata/annotations"}, {"op": "remove", "path": "/metadata/labels"}]"#,
            ),
        ] {
            alice.ok(&["patch", "configmap", "settings", "--type", media_type, "-p", patch]);
            assert_eq!(without_noise(&get()), without_noise(&object), "{namespace}: {media_type} {patch}");
        }
        alice.ok_with_input(&["replace", "-f", "-"], &bare);
        assert_eq!(without_noise(&get()), without_noise(&object), "{namespace}: replace");
        let patch = r#"{"metadata": {"annotations": null, "labels": null}, "data": {"key": "two"}}"#;
        alice.ok(&["patch", "configmap", "settings", "--type", "merge", "-p", patch]);
        let stamp = stamp(&get());
        let said = (stamp["operation"].as_str(), stamp["manager"].as_str(), stamp.len());
        assert_eq!(said, ("Update", "kubectl-patch", if guarded { 8 } else { 5 }));
        if guarded {
            assert_eq!(after(&cluster.change(&stamp["change"])), without_noise(&get()));
            assert_eq!(cluster.changes("INC-488").len(), 2);
        }
    }
}

/// L-02: kubectl puts the annotations of an old ReplicaSet back, and the stamp says who had it do so.
#[test]
fn a_rollout_undo_carries_the_stamp_of_who_undid() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-undo");
    let alice = cluster.kubectl("alice").namespace("prod-undo");
    let open = |incident: &str| cluster.open("alice", incident, "prod-undo");
    let revisions = |wanted: usize| {
        wait_until(&format!("{wanted} revisions"), LIMIT, || {
            let sets = alice.json(&["get", "replicasets"])["items"].as_array().unwrap().clone();
            let with_stamp = sets.iter().filter(|set| stamp(set).contains_key("change")).count();
            if with_stamp == wanted { Ok(sets) } else { Err(format!("{with_stamp} of {wanted}")) }
        })
        .unwrap()
    };
    open("INC-172-1");
    alice.ok(&["create", "deployment", "api", "--image=registry.example.com/api:1"]);
    revisions(1);
    let first = open("INC-172-2");
    alice.ok(&["set", "image", "deployment/api", "api=registry.example.com/api:2"]);
    revisions(2);
    cluster.plugin("alice").ok(&["close", &first]);
    open("INC-172-3");
    let before = alice.json(&["get", "deployment", "api"]);
    alice.ok(&["rollout", "undo", "deployment/api"]);

    // kubectl puts the old ReplicaSet's annotations on the Deployment, the first incident's stamp among them.
    let object = alice.json(&["get", "deployment", "api"]);
    assert_eq!(object["spec"]["template"]["spec"]["containers"][0]["image"], "registry.example.com/api:1");
    let stamp = stamp(&object);
    let said = (stamp["incident"].as_str(), stamp["operation"].as_str(), stamp["manager"].as_str());
    assert_eq!(said, ("INC-172-3", "Update", "kubectl"));
    assert_ne!(stamp["change"], change_of(&before));
    let [change] = &cluster.changes("INC-172-3")[..] else { panic!("one undo is one change") };
    assert_eq!(change["metadata"]["name"], stamp["change"].as_str());
    assert_eq!(after(change)["spec"], object["spec"]);
    assert_eq!(object["spec"]["template"]["metadata"], json!({"labels": {"app": "api"}}), "the template has no stamp");
}

/// L-14: with or without annotations, labels and a name, an object is stamped as its namespace asks.
/// L-10, L-14: without annotations, with none, with null, and without a name yet.
#[test]
fn an_object_is_stamped_whatever_its_metadata_lacks() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-lacking");
    cluster.open("alice", "INC-173", "prod-lacking");
    let alice = cluster.kubectl("alice").namespace("prod-lacking");
    let cases = [
        json!({"name": "neither"}),
        json!({"name": "empty", "annotations": {}, "labels": {}}),
        json!({"name": "null", "annotations": null, "labels": null}),
        json!({"name": "some", "annotations": {"a/b_c": "d"}, "labels": {"a": ""}}),
    ];
    for metadata in &cases {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"key": "one"}});
        alice.ok_with_input(&["create", "-f", "-"], &object.to_string());
        let name = metadata["name"].as_str().unwrap();
        let object = alice.json(&["get", "configmap", name]);
        assert_eq!(stamp(&object).len(), 8, "{object:#}");
        assert_eq!(after(&cluster.change(&change_of(&object))), without_noise(&object));
    }
    // A name that the API server makes after the stamp is on.
    for _ in 0..3 {
        let generated = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "settings-"}});
        let name =
            alice.ok_with_input(&["create", "-f", "-", "-o", "jsonpath={.metadata.name}"], &generated.to_string());
        let object = alice.json(&["get", "configmap", &name]);
        let change = cluster.change(&change_of(&object));
        assert!(name.starts_with("settings-") && name.len() > "settings-".len(), "{name}");
        assert_eq!(change["spec"]["target"]["name"], name.as_str());
        assert_eq!(after(&change), without_noise(&object));
    }
    assert_eq!(cluster.changes("INC-173").len(), cases.len() + 3);
}

#[test]
fn an_object_that_is_made_again_with_its_old_stamp_is_a_new_change() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-replay");
    cluster.open("alice", "INC-174", "prod-replay");
    let alice = cluster.kubectl("alice").namespace("prod-replay");
    alice.ok_with_input(&["create", "-f", "-"], &config_map("settings", "one"));
    // Both generated and not: the old name of a generated one is no longer to be made.
    let generated = r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "made-"}}"#;
    let made = alice.ok_with_input(&["create", "-f", "-", "-o", "jsonpath={.metadata.name}"], generated);
    for name in ["settings", &made] {
        let first = alice.json(&["get", "configmap", name]);
        alice.ok(&["delete", "configmap", name]);
        alice.ok_with_input(&["create", "-f", "-"], &without_noise(&first).to_string());
        let second = alice.json(&["get", "configmap", name]);
        assert_ne!(change_of(&second), change_of(&first), "{name}");
        assert_eq!(cluster.change(&change_of(&first))["spec"]["operation"], "Create");
        assert_eq!(after(&cluster.change(&change_of(&second))), without_noise(&second));
    }
    let operations: Vec<Value> =
        cluster.changes("INC-174").iter().map(|change| change["spec"]["operation"].clone()).collect();
    assert_eq!(operations.iter().filter(|operation| *operation == "Create").count(), 4, "{operations:?}");
    assert_eq!(operations.len(), 6, "{operations:?}");
}
