//! Where an object comes from, who put what into it, and what is in nobody's Git.

use serde_json::{Value, json};
use tests::record::config_map;
use tests::{Cluster, wait_until};

use crate::LIMIT;

/// A Deployment of a name, as somebody wrote it into Git.
fn deployment(name: &str) -> String {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "labels": {"kustomize.toolkit.fluxcd.io/name": "fake",
            "kustomize.toolkit.fluxcd.io/namespace": "NAMESPACE"}},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": {
            "metadata": {"labels": {"app": name}}, "spec": {"containers": [
                {"name": "main", "image": "registry.example.com/main:1", "command": ["run", "it"]}]}}}})
    .to_string()
}

/// Applies as Flux does: under its identity and its manager's name.
fn apply_as_engine(namespace: &str, object: &str) {
    let args = ["-n", namespace, "apply", "--server-side", "--field-manager=kustomize-controller", "-f", "-"];
    Cluster::shared().kubectl("flux").ok_with_input(&args, &object.replace("NAMESPACE", namespace));
}

/// A Kustomization that says it has applied these. It is suspended, so that the real Flux leaves it alone.
fn list_in_inventory(namespace: &str, ids: &[String]) {
    let cluster = Cluster::shared();
    let kustomization = json!({"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
        "metadata": {"name": "fake", "namespace": namespace}, "spec": {"suspend": true, "interval": "10m", "prune": false,
            "path": "./nowhere", "sourceRef": {"kind": "GitRepository", "name": "fleet", "namespace": "flux-system"}}});
    cluster.set_scene(&["apply", "--server-side", "-f", "-"], &kustomization.to_string());
    let entries: Vec<Value> = ids.iter().map(|id| json!({"id": id, "v": "v1"})).collect();
    let status = json!({"status": {"inventory": {"entries": entries}}}).to_string();
    let args = ["-n", namespace, "patch", "kustomizations.kustomize.toolkit.fluxcd.io", "fake", "--subresource=status"];
    cluster.set_scene(&[&args[..], &["--type=merge", "-p", &status]].concat(), "");
}

#[test]
fn an_object_of_flux_is_traced_to_its_commit() {
    let cluster = Cluster::shared();
    let plugin = cluster.plugin("alice").namespace("prod");
    let told = plugin.json(&["trace", "deployment/api"]);
    let links: Vec<(&str, &str)> = told["links"]
        .as_array()
        .unwrap()
        .iter()
        .map(|link| (link["link"].as_str().unwrap(), link["what"].as_str().unwrap()))
        .collect();
    let head = cluster.flux().fleet.git(&["rev-parse", "HEAD"]).unwrap();
    let revision = format!("main@sha1:{}", head.trim());
    assert_eq!(
        links[..7],
        [
            ("object", "deployment.apps/api in prod"),
            ("engine", "Kustomization flux-system/prod"),
            ("source", "GitRepository flux-system/fleet"),
            ("repository", "https://git.example.com/fleet.git"),
            ("follows", "branch main"),
            ("path", "prod"),
            ("revision", &revision),
        ],
        "{told:#}"
    );
    assert_eq!(links[7].0, "last applied", "{told:#}");
    assert_eq!(told["links"][1]["knownBy"], "its inventory, and the labels agree", "{told:#}");
    assert_eq!(told["warnings"], json!([]), "{told:#}");

    // A pod comes from where what it was made for comes from.
    let pods = wait_until("a pod of api", LIMIT, || {
        let pods = cluster.kubectl("alice").ok(&["-n", "prod", "get", "pods", "-l", "app=api", "-o", "name"]);
        pods.lines().next().map(str::to_owned).ok_or(pods)
    })
    .unwrap();
    let ran = plugin.run(&["trace", &pods]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "{ran}");
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines[0].starts_with("LINK ") && lines[1].starts_with("object ") && lines[1].contains("pod/api-"), "{ran}");
    assert!(lines[2].starts_with("made by ") && lines[2].ends_with("ownerReferences of the Pod"), "{ran}");
    assert!(lines[3].contains("deployment.apps/api in prod ") && lines[3].ends_with("of the ReplicaSet"), "{ran}");
    assert!(lines[4].contains("Kustomization flux-system/prod"), "{ran}");

    let fields = plugin.json(&["blame", "deployment/api"]);
    let replicas = field(&fields, "/spec/replicas");
    let expected = (&json!("Kustomization flux-system/prod"), &json!("inventory"), &json!(revision));
    assert_eq!((&replicas["who"], &replicas["knownBy"], &replicas["revision"]), expected, "{replicas:#}");
}

fn field<'f>(told: &'f Value, pointer: &str) -> &'f Value {
    let fields = told["fields"].as_array().unwrap();
    fields.iter().find(|field| field["field"] == pointer).unwrap_or_else(|| panic!("no {pointer} in {told:#}"))
}

#[test]
fn a_label_that_lies_is_said_and_who_wrote_each_field_is_told() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-blamed");
    apply_as_engine("prod-blamed", &deployment("api"));
    let plugin = cluster.plugin("alice").namespace("prod-blamed");
    let alice = cluster.kubectl("alice").namespace("prod-blamed");
    let ran = plugin.run(&["trace", "deploy/api"]);
    let lie =
        "its labels name Kustomization prod-blamed/fake as its owner, and no inventory of a Kustomization lists it";
    assert_eq!((ran.status, ran.stderr.trim_end()), (0, format!("warning: {lie}").as_str()), "{ran}");
    assert!(!ran.stdout.contains("fake"), "what is not so is no link: {ran}");
    list_in_inventory("prod-blamed", &["prod-blamed_api_apps_Deployment".to_owned()]);
    let ran = plugin.run(&["trace", "deploy/api"]);
    assert!(ran.stdout.contains("Kustomization prod-blamed/fake") && ran.stderr.contains("is suspended"), "{ran}");

    cluster.open("alice", "INC-880", "prod-blamed");
    alice.ok(&["set", "image", "deployment/api", "main=registry.example.com/main:2"]);
    alice.ok(&["scale", "deployment/api", "--replicas=2"]);
    cluster.set_scene(&["-n", "prod-blamed", "label", "deployment", "api", "past=us", "--field-manager=k9s"], "");
    let told = plugin.json(&["blame", "deployment/api"]);
    let container = "/spec/template/spec/containers/0";
    for (pointer, who, known, incident) in [
        (format!("{container}/image"), json!("alice@example.com"), "record", json!("INC-880")),
        ("/spec/replicas".to_owned(), json!("alice@example.com"), "record", json!("INC-880")),
        (format!("{container}/command"), json!("Kustomization prod-blamed/fake"), "inventory", Value::Null),
        ("/metadata/labels/past".to_owned(), Value::Null, "manager", Value::Null),
        ("/metadata/annotations/breakglass.dev~1user".to_owned(), json!("breakglass"), "key", Value::Null),
    ] {
        let field = field(&told, &pointer);
        assert_eq!(
            (&field["who"], &field["knownBy"], &field["incident"]),
            (&who, &json!(known), &incident),
            "{field:#}"
        );
    }
    let table = plugin.ok(&["blame", "deployment/api"]);
    assert!(
        table.starts_with("FIELD ") && !table.contains("/status/") && !table.contains("breakglass.dev~1"),
        "{table}"
    );
    assert!(plugin.ok(&["blame", "deployment/api", "--all"]).contains("breakglass.dev~1user"));

    // What is hidden in records is hidden here.
    cluster
        .set_scene(&["-n", "prod-blamed", "create", "secret", "generic", "keys", "--from-literal=a=canary-7f21"], "");
    for output in ["wide", "json"] {
        let secret =
            cluster.plugin("admin").namespace("prod-blamed").run(&["blame", "secret/keys", "--all", "-o", output]);
        assert!(secret.status == 0 && secret.stdout.contains("/data/a"), "{secret}");
        assert!(!secret.stdout.contains("canary") && !secret.stdout.contains("Y2FuYXJ5"), "{secret}");
    }
    let gone = plugin.run(&["blame", "deployment/nothing"]);
    let said = "error: there is no deployment.apps/nothing in prod-blamed\nhint: kubectl get -n prod-blamed deployments.apps\n";
    assert_eq!((gone.status, gone.stderr.as_str()), (1, said), "{gone}");
}

#[test]
fn what_no_engine_owns_is_an_orphan_and_what_was_made_for_others_is_none() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-orphans");
    let plugin = cluster.plugin("alice").namespace("prod-orphans");
    apply_as_engine("prod-orphans", &deployment("owned"));
    apply_as_engine("prod-orphans", &deployment("dropped"));
    list_in_inventory("prod-orphans", &["prod-orphans_owned_apps_Deployment".to_owned()]);
    cluster.open("alice", "INC-881", "prod-orphans");
    cluster
        .kubectl("alice")
        .namespace("prod-orphans")
        .ok_with_input(&["create", "-f", "-"], &config_map("hers", "one"));
    cluster.set_scene(&["-n", "prod-orphans", "create", "configmap", "nobodys"], "");
    cluster.set_scene(&["-n", "prod-orphans", "create", "service", "clusterip", "api", "--tcp=80"], "");
    // The control plane has made what it makes.
    wait_until("pods and endpoints", LIMIT, || {
        let args = ["-n", "prod-orphans", "get", "pods,endpointslices,configmaps,serviceaccounts", "-o", "name"];
        let found = cluster.kubectl("admin").ok(&args);
        let all = [
            "pod/owned-",
            "pod/dropped-",
            "endpointslice.discovery.k8s.io/api-",
            "configmap/kube-root-ca.crt",
            "serviceaccount/default",
        ];
        if all.iter().all(|one| found.contains(one)) { Ok(()) } else { Err(found) }
    })
    .unwrap();

    let told = cluster.plugin("admin").namespace("prod-orphans").json(&["orphans"]);
    let rows: Vec<_> = told["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
            (
                text(&row["target"]["kind"]),
                text(&row["target"]["name"]),
                text(&row["who"]),
                text(&row["manager"]),
                text(&row["claims"]),
            )
        })
        .collect();
    let row = |kind: &str, name: &str, who: &str, manager: &str, claims: &str| {
        (kind.to_owned(), name.to_owned(), who.to_owned(), manager.to_owned(), claims.to_owned())
    };
    let expected = [
        row("ConfigMap", "hers", "alice@example.com", "kubectl-create", "-"),
        // Nothing is in it that somebody could own.
        row("ConfigMap", "nobodys", "-", "-", "-"),
        row("Deployment", "dropped", "-", "kustomize-controller", "Kustomization prod-orphans/fake"),
        row("Kustomization", "fake", "-", "kubectl", "-"),
        // What alice may edit the namespace by.
        row("RoleBinding", "people-edit", "-", "kubectl", "-"),
        row("Service", "api", "-", "kubectl-create", "-"),
    ];
    assert_eq!(rows, expected, "{told:#}");

    let count = plugin.run(&["orphans", "--count", "--exit-code"]);
    assert_eq!((count.status, count.stdout.as_str()), (3, "5\n"), "{count}");
    assert_eq!(plugin.run(&["orphans", "--count"]).status, 0);
    let table = plugin.ok(&["orphans"]);
    assert!(table.starts_with("NAMESPACE ") && table.contains("configmap"), "{table}");
    let none = plugin.run(&["orphans", "-l", "no=such", "--exit-code"]);
    assert_eq!((none.status, none.stdout.as_str()), (0, ""), "{none}");
    assert!(none.stderr.starts_with("No orphans in prod-orphans."), "{none}");
    // By itself it looks where the policy guards, and not where engines live.
    let named = cluster.plugin("admin").ok(&["orphans", "-o", "json"]);
    assert!(named.contains("\"prod-orphans\"") && !named.contains("\"flux-system\""), "{named}");
}

#[test]
fn what_was_written_past_us_is_found_and_what_was_let_in_is_not() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-past");
    for name in ["clean", "edited", "stamped", "scaled"] {
        apply_as_engine("prod-past", &deployment(name));
    }
    let ids = ["clean", "edited", "stamped", "scaled"].map(|name| format!("prod-past_{name}_apps_Deployment"));
    list_in_inventory("prod-past", &ids);
    let alice = cluster.kubectl("alice").namespace("prod-past");
    let plugin = cluster.plugin("alice").namespace("prod-past");
    cluster.open("alice", "INC-882", "prod-past");
    let image = "main=registry.example.com/main:2";
    alice.ok(&["set", "image", "deployment/stamped", image]);
    alice.ok(&["scale", "deployment/scaled", "--replicas=2"]);
    let none = plugin.run(&["scan"]);
    assert_eq!((none.status, none.stdout.as_str()), (0, ""), "{none}");
    assert!(none.stderr.starts_with("No direct edits without a stamp in prod-past."), "{none}");

    cluster.set_scene(&["-n", "prod-past", "set", "image", "deployment/edited", image], "");
    // What carries a stamp of one write, and another that has none.
    cluster.set_scene(&["-n", "prod-past", "label", "deployment", "stamped", "by=hand", "--field-manager=k9s"], "");
    let found = plugin.run(&["scan", "-o", "json"]);
    assert_eq!(found.status, 3, "{found}");
    let told: Value = serde_json::from_str(&found.stdout).unwrap();
    let mut rows: Vec<_> = told["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (row["target"]["name"].as_str().unwrap(), row["manager"].as_str().unwrap(), row["fields"].to_string())
        })
        .collect();
    rows.sort_unstable();
    let expected = [
        ("edited", "kubectl-set", r#"["/spec/template/spec/containers[name=main]/image"]"#.to_owned()),
        ("stamped", "k9s", r#"["/metadata/labels/by"]"#.to_owned()),
    ];
    assert_eq!(rows, expected, "{told:#}");
    let ran = plugin.run(&["scan", "--ignore-manager", "k9s"]);
    assert_eq!(ran.status, 3, "{ran}");
    assert!(ran.stdout.contains("deployment.apps/edited") && !ran.stdout.contains("k9s"), "{ran}");
    let blame = "Field by field: kubectl breakglass blame -n prod-past deployment.apps/edited";
    assert!(ran.stderr.contains(blame), "{ran}");
}
