//! A Namespace object counts as its own environment, before and after: neither its name nor its label is a way around.

use serde_json::Value;
use tests::{Cluster, Output, wait_until};

use crate::{LIMIT, check_refused};

const LABEL: &str = "breakglass.dev/environment=prod";

/// The namespace may be the very one that is being made, so the command names the environment.
#[track_caller]
fn check(refused: &Output, name: &str, verb: &str) {
    check_refused(refused, &format!("namespaces \"{name}\" ({verb}) by admin"), "--environment prod");
}

#[test]
fn a_namespace_does_not_become_prod_without_a_token() {
    let cluster = Cluster::shared();
    let admin = cluster.kubectl("admin");
    check(&admin.run(&["create", "namespace", "prod-new"]), "prod-new", "create");
    check(&admin.run(&["create", "namespace", "new-prod"]), "new-prod", "create");

    cluster.namespace("dev-promoted");
    check(&admin.run(&["label", "namespace", "dev-promoted", LABEL]), "dev-promoted", "update");
    let generated = r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": "prod-"}}"#;
    let generated = admin.run_with_input(&["create", "-f", "-"], generated);
    assert!(generated.refusal().starts_with("prod is run by GitOps: namespaces \"prod-"), "{generated}");
}

#[test]
fn a_namespace_that_is_prod_by_its_label_is_prod() {
    let cluster = Cluster::shared();
    cluster.namespace("dev-labelled");
    cluster.set_scene(&["label", "namespace", "dev-labelled", LABEL], "");
    let admin = cluster.kubectl("admin");
    for args in [
        &["label", "namespace", "dev-labelled", "breakglass.dev/environment-"][..],
        &["label", "namespace", "dev-labelled", "breakglass.dev/environment=dev", "--overwrite"],
        &["annotate", "namespace", "dev-labelled", "note=mine"],
    ] {
        check(&admin.run(args), "dev-labelled", "update");
    }
    check(&admin.run(&["delete", "namespace", "dev-labelled"]), "dev-labelled", "delete");

    // The API server reads the labels of namespaces through a cache of its own.
    let alice = cluster.kubectl("alice").namespace("dev-labelled");
    let dry = ["create", "configmap", "settings", "--dry-run=server"];
    wait_until("the label to be seen", LIMIT, || {
        let ran = alice.run(&dry);
        if ran.warnings().is_empty() { Err(ran.to_string()) } else { Ok(()) }
    })
    .unwrap();
    let subject = "configmaps \"settings\" (create) by alice@example.com";
    check_refused(&alice.run(&dry[..3]), subject, "-n dev-labelled");
    cluster.open("alice", "INC-120", "dev-labelled");
    alice.ok(&dry[..3]);
    let [change] = &cluster.changes("INC-120")[..] else { panic!("one write is one change") };
    assert_eq!((&change["spec"]["environment"], &change["spec"]["before"]), (&Value::from("prod"), &Value::Null));
}
