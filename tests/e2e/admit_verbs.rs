//! Each way in which a client writes, under a token: what the stamp says, what the change keeps, and that a write which
//! changes nothing leaves nothing.

use serde_json::{Value, json};
use tests::http::{MERGE, refused};
use tests::record::{after, change_of, config_map, stamp, without_noise};
use tests::{Cluster, Http, Kubectl};

/// One object as alice sees it.
struct Target {
    alice: Kubectl,
    kind: &'static str,
    name: &'static str,
}

impl Target {
    fn new(namespace: &str, kind: &'static str, name: &'static str) -> Self {
        Self { alice: Cluster::shared().kubectl("alice").namespace(namespace), kind, name }
    }

    #[track_caller]
    fn get(&self) -> Value {
        self.alice.json(&["get", self.kind, self.name])
    }

    /// Has alice write, and holds what that left against what was there before.
    #[track_caller]
    fn check(&self, manager: &str, write: impl FnOnce(&Kubectl)) {
        let before = self.get();
        write(&self.alice);
        let object = self.get();
        let stamp = stamp(&object);
        let said = (stamp["operation"].as_str(), stamp["manager"].as_str(), stamp["state"].as_str());
        assert_eq!(said, ("Update", manager, "pending"));
        assert_ne!(change_of(&before), stamp["change"], "{manager}: a new write is a new change");
        let change = Cluster::shared().change(&stamp["change"]);
        let spec = &change["spec"];
        assert_eq!(spec["before"], without_noise(&before), "{manager}");
        assert_eq!(after(&change), without_noise(&object), "{manager}");
        assert_eq!(spec["target"]["uid"], object["metadata"]["uid"]);
        for (field, value) in [("user", "alice@example.com"), ("operation", "Update"), ("manager", manager)] {
            assert_eq!(spec[field], value);
        }
    }
}

#[test]
fn every_verb_of_kubectl_is_stamped_and_recorded() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-verbs");
    cluster.open("alice", "INC-110", "prod-verbs");
    let target = Target::new("prod-verbs", "configmap", "settings");
    target.alice.ok_with_input(&["create", "-f", "-"], &config_map("settings", "create"));

    target.check("kubectl-client-side-apply", |alice| {
        alice.ok_with_input(&["apply", "-f", "-"], &config_map("settings", "apply"));
    });
    target.check("kubectl", |alice| {
        let args = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        alice.ok_with_input(&args, &config_map("settings", "server-side"));
    });
    target.check("mine", |alice| {
        let args = ["apply", "--server-side", "--force-conflicts", "--field-manager=mine", "-f", "-"];
        alice.ok_with_input(&args, &config_map("settings", "another manager"));
    });
    target.check("kubectl-edit", |alice| {
        alice.clone().env("EDITOR", "sed -i s/another.manager/edit/").ok(&["edit", "configmap", "settings"]);
    });
    for (kind, patch) in [
        ("json", r#"[{"op": "replace", "path": "/data/key", "value": "json"}]"#),
        ("merge", r#"{"data": {"key": "merge"}}"#),
        ("strategic", r#"{"data": {"key": "strategic", "other": "key"}}"#),
    ] {
        target.check("kubectl-patch", |alice| {
            alice.ok(&["patch", "configmap", "settings", "--type", kind, "-p", patch]);
        });
    }
    target.check("kubectl-label", |alice| {
        alice.ok(&["label", "configmap", "settings", "tier=web"]);
    });
    target.check("kubectl-annotate", |alice| {
        alice.ok(&["annotate", "configmap", "settings", "note=mine"]);
    });
    target.check("kubectl-replace", |alice| {
        // Without annotations and labels, ours included: what was there is gone, and our keys are as they should be.
        alice.ok_with_input(&["replace", "-f", "-"], &config_map("settings", "replace"));
    });
    assert_eq!(stamp(&target.get()).len(), 8);

    let last = target.get();
    target.alice.ok(&["delete", "configmap", "settings"]);
    let changes = cluster.changes("INC-110");
    let deletes: Vec<&Value> = changes.iter().filter(|change| change["spec"]["operation"] == "Delete").collect();
    let [delete] = deletes[..] else { panic!("{deletes:#?}") };
    assert_eq!(delete["spec"]["before"], without_noise(&last));
    assert_eq!(after(delete), Value::Null);
    assert_eq!(delete["spec"]["target"]["uid"], last["metadata"]["uid"]);
    assert_eq!(delete["spec"]["manager"], Value::Null, "a delete names no manager");
    assert_eq!(cluster.plugin("alice").ok(&["list", "--incident", "INC-110", "--count"]), "12\n");
    // Create, ten updates, delete.
    assert_eq!(changes.len(), 12, "{:#?}", changes.iter().map(|change| &change["spec"]["manager"]).collect::<Vec<_>>());
}

#[test]
fn what_is_done_to_a_deployment_is_recorded_and_its_pods_are_left_alone() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-deployment");
    let args = ["create", "deployment", "api", "--image=registry.example.com/api:1.0.0"];
    let alice = cluster.kubectl("alice").namespace("prod-deployment");
    assert!(alice.run(&args).refusal().contains("deployments.apps \"api\" (create)"));
    cluster.open("alice", "INC-111", "prod-deployment");
    alice.ok(&args);

    alice.ok(&["set", "image", "deployment/api", "api=registry.example.com/api:1.0.1"]);
    let object = alice.json(&["get", "deployment", "api"]);
    assert_eq!(stamp(&object)["manager"], "kubectl-set");
    let change = cluster.change(&change_of(&object));
    assert_eq!(after(&change)["spec"], without_noise(&object)["spec"]);
    let image = "/spec/template/spec/containers/0/image";
    assert_eq!(change["spec"]["before"].pointer(image).unwrap(), "registry.example.com/api:1.0.0");
    // Only the object's own metadata: anything in the template would roll the pods.
    assert_eq!(object["spec"]["template"]["metadata"], json!({"labels": {"app": "api"}}));

    // Scale is another object, which cannot carry a stamp; its change says what was asked for.
    alice.ok(&["scale", "deployment", "api", "--replicas=3"]);
    let changes = cluster.changes("INC-111");
    let scales: Vec<&Value> = changes.iter().filter(|change| change["spec"]["operation"] == "Scale").collect();
    let [scale] = scales[..] else { panic!("{scales:#?}") };
    assert_eq!((&scale["spec"]["subresource"], &scale["spec"]["target"]["name"]), (&json!("scale"), &json!("api")));
    assert_eq!(scale["spec"]["before"]["spec"]["replicas"], 1);
    assert_eq!(after(scale)["spec"]["replicas"], 3);
    assert_eq!(changes.len(), 3);
}

#[test]
fn a_client_that_names_no_manager_is_known_by_its_user_agent() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-http");
    let terraform = Http::new(&cluster.kubectl("alice"), "terraform/1.9.8 (linux_amd64)");
    let create = || terraform.send("POST", "/api/v1/namespaces/prod-http/configmaps", &config_map("settings", "one"));
    let (code, refused) = refused(create());
    assert_eq!(code, 403);
    let subject =
        "prod is run by GitOps: configmaps \"settings\" (create) by alice@example.com needs a break-glass token";
    assert!(refused.contains(&format!(" denied the request: {subject}")), "{refused}");
    assert!(refused.ends_with("kubectl breakglass open <incident> -n prod-http --reason \"…\""), "{refused}");
    cluster.open("alice", "INC-112", "prod-http");
    let object = create().unwrap();
    let stamp = stamp(&object);
    assert_eq!((stamp["operation"].as_str(), stamp["manager"].as_str()), ("Create", "terraform"));
    let change = cluster.change(&stamp["change"]);
    assert_eq!(change["spec"]["manager"], "terraform");
    assert_eq!(after(&change), without_noise(&object));
}

/// The API server knows when each manager wrote last, to the second: that alone does not say which of them writes now.
#[test]
fn a_client_that_names_no_manager_is_told_from_who_wrote_in_the_same_second() {
    let cluster = Cluster::shared();
    cluster.namespace("dev-http");
    let clients = ["zebra/1 (first)", "aardvark/1 (second)"].map(|agent| Http::new(&cluster.kubectl("alice"), agent));
    let path = "/api/v1/namespaces/dev-http/configmaps";
    clients[0].send("POST", path, &config_map("settings", "one")).unwrap();
    for round in 0..3 {
        for (client, manager) in clients.iter().rev().zip(["aardvark", "zebra"]) {
            let value = format!("{manager}-{round}");
            let object = client.send("PUT", &format!("{path}/settings"), &config_map("settings", &value)).unwrap();
            assert_eq!((&object["data"]["key"], stamp(&object)["manager"].as_str()), (&json!(value), manager));
        }
    }
}

/// L-03: the same apply, server-side apply, PUT or patch again leaves every byte as it was, managedFields and
/// resourceVersion included.
/// Nor is such a client taken for the controller that wrote the status since.
#[test]
fn a_client_that_names_no_manager_is_told_from_who_wrote_the_status() {
    let cluster = Cluster::shared();
    cluster.namespace("dev-status");
    cluster.widgets("dev-status").unwrap();
    let path = "/apis/e2e.example.com/v1/namespaces/dev-status/widgets";
    let gear = json!({"apiVersion": "e2e.example.com/v1", "kind": "Widget", "metadata": {"name": "gear"},
        "spec": {"size": -1}});
    let client = Http::new(&cluster.kubectl("alice"), "aardvark/1");
    let controller = Http::new(&cluster.kubectl("admin"), "zebra/1");
    client.send("POST", path, &gear.to_string()).unwrap();
    let path = format!("{path}/gear");
    // Each pair within a second, and each change of the same fields as the one before.
    for round in 0..5 {
        controller.patch(MERGE, &format!("{path}/status"), &json!({"status": {"turns": round}})).unwrap();
        let object = client.patch(MERGE, &path, &json!({"spec": {"size": round}})).unwrap();
        assert_eq!(stamp(&object)["manager"], "aardvark", "round {round}: {object:#}");
    }
}

/// L-03: identical writes of kubectl, and writes of our keys alone.
#[test]
fn a_write_that_changes_nothing_leaves_nothing() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-noop");
    cluster.open("alice", "INC-113", "prod-noop");
    let alice = cluster.kubectl("alice").namespace("prod-noop");
    let settings = config_map("settings", "one");
    alice.ok_with_input(&["apply", "-f", "-"], &settings);
    alice.ok_with_input(&["apply", "--server-side", "--field-manager=mine", "-f", "-"], &config_map("applied", "one"));
    let seen = || alice.json(&["get", "configmaps", "--show-managed-fields"])["items"].clone();
    let before = seen();

    for (args, input) in [
        (&["apply", "-f", "-"][..], settings.as_str()),
        (&["apply", "--server-side", "--field-manager=mine", "-f", "-"], &config_map("applied", "one")),
        (&["replace", "-f", "-"], &alice.ok(&["get", "configmap", "applied", "-o", "json"])),
        (&["patch", "configmap", "settings", "-p", r#"{"data": {"key": "one"}}"#], ""),
    ] {
        alice.ok_with_input(args, input);
        assert_eq!(seen(), before, "{args:?}");
    }
    // Who names our keys and nothing else is remembered in managedFields, which the API server writes before it asks us.
    for args in [
        &["annotate", "configmap", "settings", "breakglass.dev/user=bob@example.com", "--overwrite"][..],
        &["annotate", "configmap", "settings", "breakglass.dev/change-"],
        &["label", "configmap", "settings", "breakglass.dev/state-"],
    ] {
        alice.ok(args);
        let now = seen();
        for (now, before) in now.as_array().unwrap().iter().zip(before.as_array().unwrap()) {
            assert_eq!(without_noise(now), without_noise(before), "{args:?}");
        }
    }
    assert_eq!(cluster.changes("INC-113").len(), 2, "only the two creates");
}
