//! A GitOps engine's writes pass untouched, and a stamp does not keep it from coming to rest; who only says to be one is
//! not.

use serde_json::Value;
use tests::record::{change_of, config_map, stamp};
use tests::{Cluster, wait_until};

use crate::{LIMIT, check_refused};

#[test]
fn a_commit_is_applied_in_prod_without_token_and_stamp() {
    // Its own: what a given cluster follows is not ours to push to.
    let cluster = Cluster::own("engine");
    let fleet = &cluster.flux().fleet;
    let object = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: from-git, namespace: prod}\ndata: {key: one}\n";
    let list =
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [api.yaml, from-git.yaml]\n";
    let files = [("prod/from-git.yaml", object), ("prod/kustomization.yaml", list)];
    let commit = fleet.push("prod: another ConfigMap", &files).unwrap();
    cluster.flux().wait_applied(&commit).unwrap();
    let second = fleet.push("prod: another value", &[("prod/from-git.yaml", &object.replace("one", "two"))]).unwrap();
    cluster.flux().wait_applied(&second).unwrap();

    let object = cluster.kubectl("alice").json(&["-n", "prod", "get", "configmap", "from-git"]);
    assert_eq!(object["data"]["key"], "two");
    assert!(stamp(&object).is_empty(), "{object:#}");
}

#[test]
fn flux_comes_to_rest_over_what_carries_a_stamp_and_what_does_not() {
    let cluster = Cluster::shared();
    let token = cluster.open("alice", "INC-150", "prod");
    let alice = cluster.kubectl("alice").namespace("prod");
    // A field that Git does not know, by a manager that Flux does not take over (it does those named kubectl…).
    let ran = alice.run(&["annotate", "deployment", "api", "note=mine", "--field-manager=k9s"]);
    assert_eq!(ran.status, 0, "{ran}");
    let owner = "Kustomization flux-system/prod owns this object in Git and undoes it within 10s";
    assert_eq!(ran.warnings()[1..], [owner], "{ran}");
    cluster.plugin("alice").ok(&["close", &token]);

    let look = || {
        let objects = alice.json(&["get", "deployment/api", "configmap/api-settings"])["items"].clone();
        let [deployment, settings] = [0, 1].map(|index| objects[index].clone());
        (deployment, settings)
    };
    // The deployment controller has its say first: status, and annotations on the ReplicaSet.
    let mut last = look();
    let (deployment, settings) = wait_until("the Deployment to be at rest", LIMIT, || {
        cluster.reconcile(LIMIT);
        let now = look();
        let rests = now == last && now.0["metadata"]["generation"] == now.0["status"]["observedGeneration"];
        last = now;
        if rests { Ok(last.clone()) } else { Err(last.0["metadata"]["resourceVersion"].to_string()) }
    })
    .unwrap();
    let change = change_of(&deployment);
    assert_eq!(deployment["metadata"]["annotations"]["note"], "mine");
    assert!(stamp(&settings).is_empty());

    for round in 0..10 {
        cluster.reconcile(LIMIT);
        assert_eq!(look(), (deployment.clone(), settings.clone()), "round {round}");
    }
    assert_eq!(change_of(&look().0), change);
}

#[test]
fn an_engine_is_who_proves_it() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-engine");
    let create = ["-n", "prod-engine", "create", "-f", "-"];
    let written = cluster.kubectl("flux").run_with_input(&create, &config_map("settings", "one"));
    assert_eq!((written.status, written.stderr.as_str()), (0, ""), "{written}");
    let settings = || cluster.kubectl("alice").json(&["-n", "prod-engine", "get", "configmap", "settings"]);
    assert!(stamp(&settings()).is_empty());

    // The same name without the Pod that holds the token, as whoever may impersonate it has it.
    for account in ["flux-system:kustomize-controller", "flux-system:helm-controller", "flux-system:source-controller"]
    {
        let user = format!("system:serviceaccount:{account}");
        let refused = cluster.kubectl("admin").run_with_input(
            &[&create[..], &["--as", &user, "--as-group", "system:masters"]].concat(),
            &config_map("forged", "one"),
        );
        let subject = format!("configmaps \"forged\" (create) by {user}");
        check_refused(&refused, &subject, "-n prod-engine");
    }

    // What a person has stamped, the engine writes to without touching the stamp.
    cluster.open("alice", "INC-151", "prod-engine");
    cluster.kubectl("alice").ok(&["-n", "prod-engine", "annotate", "configmap", "settings", "note=mine"]);
    let stamped = stamp(&settings());
    cluster.kubectl("flux").ok(&["-n", "prod-engine", "annotate", "configmap", "settings", "other=flux"]);
    let object = settings();
    assert_eq!(stamp(&object), stamped);
    assert_eq!(object["metadata"]["annotations"]["other"], Value::from("flux"));
    assert_eq!(cluster.changes("INC-151").len(), 1);
}
