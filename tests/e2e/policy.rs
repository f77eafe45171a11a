//! The policy in force: what is put in force at once, what is refused, and that the webhooks registered are what it says.

use std::time::Duration;

use serde_json::{Value, json};
use tests::record::stamp;
use tests::{Cluster, Output, wait_until};

use crate::{LIMIT, check_refused};

/// How soon drift has to be repaired.
const REPAIR_LIMIT: Duration = Duration::from_secs(10);

const KINDS: [&str; 2] = ["validatingwebhookconfiguration", "mutatingwebhookconfiguration"];

#[test]
fn the_policy_is_put_in_force_and_kept_registered() {
    let cluster = Cluster::own("policy");
    for namespace in ["team-a", "prod-policy"] {
        cluster.namespace(namespace);
    }
    what_makes_no_sense_is_refused(&cluster);
    a_policy_takes_effect_without_a_restart(&cluster);
    the_mode_says_what_a_refusal_means(&cluster);
    without_an_object_the_built_in_policy_holds(&cluster);
    drift_is_repaired(&cluster);
}

/// A policy in which team-a is prod, with more of its fields.
fn policy(name: &str, fields: Value) -> String {
    let mut spec = json!({"environments": [
        {"name": "prod", "namespaces": ["prod", "prod-*", "team-a"], "namespaceLabel": "prod", "writes": "RequireToken"},
        {"name": "dev", "namespaces": ["*"], "writes": "Stamp"}]});
    for (field, value) in fields.as_object().unwrap() {
        spec[field] = value.clone();
    }
    json!({"apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassPolicy", "metadata": {"name": name}, "spec": spec})
        .to_string()
}

fn apply(cluster: &Cluster, policy: &str) -> Output {
    cluster.kubectl("admin").run_with_input(&["apply", "-f", "-"], policy)
}

/// What becomes of alice's write in a namespace; of one that leaves nothing, while it is waited for.
fn write(cluster: &Cluster, namespace: &str) -> Output {
    cluster.kubectl("alice").namespace(namespace).run(&["create", "configmap", "settings"])
}

#[track_caller]
fn wait_until_asked(cluster: &Cluster, namespace: &str, asked: bool) {
    let alice = cluster.kubectl("alice").namespace(namespace);
    wait_until(&format!("{namespace} to need a token: {asked}"), LIMIT, || {
        let ran = alice.run(&["create", "configmap", "probe", "--dry-run=server"]);
        let needs = ran.warnings().iter().any(|warning| warning.contains("needs a break-glass token"));
        if ran.status == 0 && needs == asked { Ok(()) } else { Err(ran.to_string()) }
    })
    .unwrap();
}

fn what_makes_no_sense_is_refused(cluster: &Cluster) {
    for (fields, expected) in [
        (
            json!({"incidentPattern": "("}),
            "this policy is not put in force: spec.incidentPattern is not a regular expression: ",
        ),
        (
            json!({"writers": {"trusted": [{"name": "all", "users": ["*"]}]}}),
            "this policy is not put in force: spec.writers: \"all\" names the user \"*\": use exact names, or a prefix",
        ),
        (
            json!({"exempt": [{"name": "all", "reason": "r"}]}),
            "this policy is not put in force: spec.exempt: \"all\" exempts everything: name resources, namespaces or labels",
        ),
    ] {
        let refused = apply(cluster, &policy("default", fields));
        assert!(refused.refusal().starts_with(expected), "{refused}");
    }
    for (name, fields, expected) in [
        ("default", json!({"mode": "Maybe"}), "spec.mode: Unsupported value: \"Maybe\": supported values: "),
        ("another", json!({}), "only the policy named default is honoured: name it default"),
        ("default", json!({"environments": []}), "spec.environments: Invalid value: "),
    ] {
        let refused = apply(cluster, &policy(name, fields));
        assert_eq!(refused.status, 1, "{refused}");
        assert!(refused.stderr.contains(expected), "{refused}");
    }
    assert_eq!(cluster.kubectl("admin").ok(&["get", "breakglasspolicies", "-o", "name"]), "");
}

fn a_policy_takes_effect_without_a_restart(cluster: &Cluster) {
    wait_until_asked(cluster, "team-a", false);
    let applied = apply(cluster, &policy("default", json!({"incidentPattern": "^OPS-[0-9]+$"})));
    assert_eq!(applied.status, 0, "{applied}");
    wait_until_asked(cluster, "team-a", true);
    let subject = "configmaps \"settings\" (create) by alice@example.com";
    check_refused(&write(cluster, "team-a"), subject, "-n team-a");
    check_refused(&write(cluster, "prod-policy"), subject, "-n prod-policy");

    let refused = cluster.plugin("alice").run(&["open", "INC-1", "-n", "team-a", "--reason", "r"]);
    let expected = "error: \"INC-1\" is not the id of an incident here: the policy asks for ^OPS-[0-9]+$\n\
        hint: kubectl breakglass open OPS-123 -n team-a --reason \"…\"\n";
    assert_eq!((refused.status, refused.stderr.as_str()), (2, expected));
    let shown = cluster.plugin("alice").run(&["policy", "show", "-o", "json"]);
    assert_eq!(shown.stderr, "# The object breakglasspolicy/default.\n");
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(
        (&shown["spec"]["incidentPattern"], &shown["spec"]["mode"]),
        (&json!("^OPS-[0-9]+$"), &json!("Enforce"))
    );
}

fn the_mode_says_what_a_refusal_means(cluster: &Cluster) {
    let subject = "configmaps \"settings\" (create) by alice@example.com";
    let alice = cluster.kubectl("alice").namespace("team-a");
    for (mode, warned) in [("Warn", true), ("Audit", false)] {
        let applied = apply(cluster, &policy("default", json!({"mode": mode})));
        assert_eq!(applied.status, 0, "{applied}");
        // Every write until it is in force is refused, and leaves nothing.
        let let_in = wait_until(&format!("mode {mode}"), LIMIT, || {
            let ran = write(cluster, "team-a");
            if ran.status == 0 && ran.warnings().is_empty() != warned {
                return Ok(ran);
            }
            if ran.status == 0 {
                alice.ok(&["delete", "configmap", "settings"]);
            }
            Err(ran.to_string())
        })
        .unwrap();
        if warned {
            let [why, command] = let_in.warnings()[..] else { panic!("{let_in}") };
            assert_eq!(why, format!("prod is run by GitOps: {subject} needs a break-glass token"));
            assert_eq!(command, "Open one: kubectl breakglass open <incident> -n team-a --reason \"…\"");
        }
        let stamp = stamp(&alice.json(&["get", "configmap", "settings"]));
        assert_eq!((stamp["user"].as_str(), stamp["state"].as_str()), ("alice@example.com", "noted"));
        let list = cluster.plugin("alice").run(&["list", "-n", "team-a", "-o", "json"]);
        let rows: Value = serde_json::from_str(&list.stdout).unwrap_or_else(|error| panic!("{error}: {list}"));
        assert_eq!(rows["items"][0]["wouldBeRefused"], true, "{list}");
        let said = "1 write would have been refused if the policy enforced: by alice@example.com (1).\n";
        assert!(list.stderr.ends_with(said), "{list}");
        alice.ok(&["delete", "configmap", "settings"]);
    }
    assert_eq!(cluster.kubectl("admin").ok(&["get", "breakglasschanges", "-o", "name"]), "");
}

fn without_an_object_the_built_in_policy_holds(cluster: &Cluster) {
    cluster.kubectl("admin").ok(&["delete", "breakglasspolicy", "default"]);
    wait_until_asked(cluster, "prod-policy", true);
    wait_until_asked(cluster, "team-a", false);
    let subject = "configmaps \"settings\" (create) by alice@example.com";
    check_refused(&write(cluster, "prod-policy"), subject, "-n prod-policy");
    assert_eq!(write(cluster, "team-a").status, 0);
}

fn drift_is_repaired(cluster: &Cluster) {
    let admin = cluster.kubectl("admin");
    let registered = |kind: &str| {
        let read = admin.run(&["get", kind, "breakglass", "-o", "json"]);
        let object: Value = serde_json::from_str(&read.stdout).map_err(|_| read.to_string())?;
        let metadata = &object["metadata"];
        Ok::<_, String>(json!([object["webhooks"], metadata["labels"], metadata["ownerReferences"]]))
    };
    for kind in KINDS {
        let wanted = registered(kind).unwrap();
        for edit in [
            r#"[{"op": "remove", "path": "/webhooks/0"}]"#,
            r#"[{"op": "replace", "path": "/webhooks", "value": []}]"#,
            r#"[{"op": "replace", "path": "/webhooks/0/matchConditions", "value": []}]"#,
            r#"[{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": "Cg=="}]"#,
            r#"[{"op": "replace", "path": "/webhooks/0/timeoutSeconds", "value": 1}]"#,
            r#"[{"op": "add", "path": "/webhooks/0/namespaceSelector/matchLabels", "value": {"a": "b"}}]"#,
            r#"[{"op": "remove", "path": "/metadata/ownerReferences"}]"#,
            "",
        ] {
            let edited = match edit {
                "" => admin.run(&["delete", kind, "breakglass"]),
                _ => admin.run(&["patch", kind, "breakglass", "--type=json", "-p", edit]),
            };
            assert_eq!(edited.status, 0, "{kind} {edit}: {edited}");
            wait_until(&format!("{kind} to be repaired after {edit:?}"), REPAIR_LIMIT, || match registered(kind)? {
                now if now == wanted => Ok(()),
                now => Err(now.to_string()),
            })
            .unwrap();
        }
    }
    // The API server reads the configurations through a cache of its own.
    wait_until_asked(cluster, "prod-policy", true);
    let subject = "configmaps \"settings\" (create) by alice@example.com";
    check_refused(&write(cluster, "prod-policy"), subject, "-n prod-policy");
}
