//! Other versions, connections and floods are no way around the gate.

use std::time::Instant;

use serde_json::{Value, json};
use tests::http::{Http, MERGE, refused};
use tests::record::{change_of, config_map};
use tests::{Cluster, wait_until};

use crate::{LIMIT, check_refused};

/// How often in a second the webhook may look a user's tokens up.
const LOOKUPS: u64 = 10;

/// A kind of this test's own.
fn gears(versions: &[&str]) -> String {
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let versions: Vec<Value> = versions
        .iter()
        .map(|name| json!({"name": name, "served": true, "storage": *name == "v1", "schema": schema}))
        .collect();
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "gears.reach.example.com"},
        "spec": {"group": "reach.example.com", "scope": "Namespaced", "versions": versions,
                 "names": {"plural": "gears", "singular": "gear", "kind": "Gear"}}})
    .to_string()
}

/// S-08: a kind is guarded in each version that is served, also in one that is served since a moment ago, and a built-in
/// kind in its old one and its new.
#[test]
fn another_version_of_a_kind_is_no_way_around() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-versions");
    let admin = Http::new(&cluster.kubectl("admin"), "test");
    let check = |path: &str, object: &Value| {
        let path = format!("/apis/{path}");
        let answer =
            wait_until("the version to be served", LIMIT, || match admin.send("POST", &path, &object.to_string()) {
                Err(kube::Error::Api(status)) if status.code == 404 => Err(status.message.clone()),
                answer => Ok(answer),
            });
        let (code, words) = refused(answer.unwrap());
        assert!(code == 403 && words.contains("needs a break-glass token"), "{path}: {code} {words}");
    };
    let gear = |version: &str| {
        let object =
            json!({"apiVersion": format!("reach.example.com/{version}"), "kind": "Gear", "metadata": {"name": "a"}});
        check(&format!("reach.example.com/{version}/namespaces/prod-versions/gears"), &object);
    };
    for versions in [&["v1beta1", "v1"][..], &["v1beta1", "v1", "v2"]] {
        cluster.set_scene(&["apply", "--server-side", "-f", "-"], &gears(versions));
        versions.iter().for_each(|version| gear(version));
    }
    for (version, spec) in [
        (
            "v1",
            json!({"maxReplicas": 2, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "api"}}),
        ),
        (
            "v2",
            json!({"maxReplicas": 2, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "api"}}),
        ),
    ] {
        let object = json!({"apiVersion": format!("autoscaling/{version}"), "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "api"}, "spec": spec});
        check(&format!("autoscaling/{version}/namespaces/prod-versions/horizontalpodautoscalers"), &object);
    }
}

/// S-12: a connection to what runs in prod, opened in whatever way, is refused without a token, and in the audit log under
/// one; through a node every pod is reached, so that asks for a token of the environment cluster.
#[test]
fn a_connection_is_let_in_under_a_token_and_is_in_the_audit_log() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-connected");
    let flux = cluster.kubectl("flux").namespace("prod-connected");
    flux.ok(&["run", "api", "--image=registry.example.com/api:1"]);
    flux.ok(&["create", "service", "clusterip", "api", "--tcp=80"]);
    let person = Http::new(&cluster.kubectl("admin"), "test");
    let pod = "/api/v1/namespaces/prod-connected/pods/api";
    let paths = [
        ("pods/exec", format!("{pod}/exec?command=true")),
        ("pods/attach", format!("{pod}/attach")),
        ("pods/portforward", format!("{pod}/portforward?ports=80")),
        ("pods/proxy", format!("{pod}/proxy/")),
        ("services/proxy", "/api/v1/namespaces/prod-connected/services/api/proxy/".to_owned()),
        ("nodes/proxy", "/api/v1/nodes/none/proxy/pods".to_owned()),
    ];
    for (resource, path) in &paths {
        for method in ["GET", "POST"] {
            let (code, words) = refused(person.send(method, path, ""));
            let asks = format!("is run by GitOps: {resource} ");
            assert!(
                code == 403 && words.contains(&asks) && words.contains("needs a break-glass token"),
                "{path}: {words}"
            );
        }
    }
    for args in [&["-n", "prod-connected"][..], &["--environment", "cluster"]] {
        let open = [&["open", "INC-191", "--reason", "a test"][..], args].concat();
        cluster.plugin("admin").ok(&open);
    }
    for (resource, path) in &paths {
        // Nothing runs here, so nothing is connected; but the gate is behind it.
        if let Err(kube::Error::Api(status)) = person.send("GET", path, "") {
            assert!(!status.message.contains("needs a break-glass token"), "{path}: {}", status.message);
        }
        let (kind, subresource) = resource.split_once('/').unwrap();
        let line = cluster.audited("admin", |event| {
            let reference = &event["objectRef"];
            reference["resource"] == kind
                && reference["subresource"] == subresource
                && event["responseStatus"]["code"] != 403
        });
        let kept = line["annotations"].as_object().unwrap();
        assert!(kept.iter().any(|(key, value)| key.ends_with("/incident") && value == "INC-191"), "{line:#}");
    }
    let changes = cluster.changes("INC-191");
    assert_eq!(changes.len(), paths.len());
    assert!(changes.iter().all(|change| change["spec"]["operation"] == "Exec"));
}

/// S-19: a flood of refused writes by one user keeps nobody else from writing, and becomes no flood of lookups.
#[test]
fn a_flood_of_one_is_not_felt_by_others() {
    let cluster = Cluster::own("flood");
    cluster.namespace("prod-flood");
    cluster.open("alice", "INC-192", "prod-flood");
    let alice = cluster.kubectl("alice").namespace("prod-flood");
    alice.ok_with_input(&["create", "-f", "-"], &config_map("settings", "0"));
    cluster.kubectl("flux").namespace("prod-flood").ok_with_input(&["create", "-f", "-"], &config_map("theirs", "0"));
    let kubectls = [cluster.kubectl("alice"), cluster.kubectl("bob")];
    let since = Instant::now();
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let bob = Http::new(&kubectls[1], "test");
            let patch = |n: u32| {
                (
                    "/api/v1/namespaces/prod-flood/configmaps/theirs".to_owned(),
                    MERGE,
                    json!({"data": {"key": n.to_string()}}),
                )
            };
            let answers = bob.patch_at_once(&(1..=300).map(patch).collect::<Vec<_>>());
            answers.into_iter().map(refused).collect::<Vec<_>>()
        });
        let alice = Http::new(&kubectls[0], "test");
        let path = "/api/v1/namespaces/prod-flood/configmaps/settings";
        for n in 1..=20 {
            let object = alice.patch(MERGE, path, &json!({"data": {"key": n.to_string()}})).unwrap();
            assert!(change_of(&object).starts_with("inc-192-"));
        }
        for (code, words) in flood.join().unwrap() {
            assert!(code == 403 || code == 500 && words.contains("breakglass.dev"), "{code} {words}");
        }
    });
    let seconds = since.elapsed().as_secs();
    let log = std::fs::read_to_string(cluster.directory().join("logs/audit.log")).unwrap();
    let looked =
        log.lines().filter(|line| line.contains("fieldSelector=") && line.contains("bob%40example.com")).count();
    assert!(looked > 0 && looked as u64 <= LOOKUPS * (seconds + 2), "{looked} lookups in {seconds} seconds");
    check_refused(
        &cluster.kubectl("bob").namespace("prod-flood").run(&["delete", "configmap", "theirs"]),
        "configmaps \"theirs\" (delete) by bob@example.com",
        "-n prod-flood",
    );
}
