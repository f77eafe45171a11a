//! Controllers, garbage collection and their copies of annotations: nothing of it is stamped, refused or listed.

use std::collections::BTreeMap;

use tests::record::stamp;
use tests::{Cluster, wait_until};

use crate::LIMIT;

#[test]
fn a_rollout_comes_to_rest_and_its_replica_sets_are_not_listed() {
    let cluster = Cluster::shared();
    cluster.namespace("dev-rest");
    let alice = cluster.kubectl("alice").namespace("dev-rest");
    alice.ok(&["create", "deployment", "api", "--image=registry.example.com/api:1"]);
    let look = || {
        let all = alice.json(&["get", "deployments,replicasets"])["items"].as_array().unwrap().clone();
        let version = |object: &serde_json::Value| {
            let metadata = &object["metadata"];
            let (kind, name) = (object["kind"].as_str().unwrap(), metadata["name"].as_str().unwrap());
            (format!("{kind} {name}"), metadata["resourceVersion"].as_str().unwrap().to_owned())
        };
        let versions: BTreeMap<String, String> = all.iter().map(version).collect();
        (versions, all)
    };
    for (image, replica_sets) in [("api=registry.example.com/api:2", 2), ("api=registry.example.com/api:3", 3)] {
        alice.ok(&["set", "image", "deployment/api", image]);
        wait_until("a ReplicaSet of its own", LIMIT, || match look().0.len() - 1 {
            made if made == replica_sets => Ok(()),
            made => Err(format!("{made} of {replica_sets}")),
        })
        .unwrap();
    }

    // At rest when a whole round of another Deployment, through the same controllers, leaves it as it is.
    let mut last = look().0;
    let mut round = 0;
    wait_until("the rollout to come to rest", LIMIT, || {
        round += 1;
        let other = format!("other-{round}");
        cluster.namespace("dev-rest-other");
        let others = cluster.kubectl("alice").namespace("dev-rest-other");
        others.ok(&["create", "deployment", &other, "--image=registry.example.com/other:1"]);
        wait_until("the other's status", LIMIT, || {
            let status = others.json(&["get", "deployment", &other])["status"].clone();
            if status["observedGeneration"].is_null() { Err(status.to_string()) } else { Ok(()) }
        })
        .map_err(|error| error.to_string())?;
        let now = look().0;
        let before = std::mem::replace(&mut last, now);
        if last == before { Ok(()) } else { Err(format!("{before:?}, then {last:?}")) }
    })
    .unwrap();

    let (_, objects) = look();
    for object in objects.iter().filter(|object| object["kind"] == "ReplicaSet") {
        // The Deployment's annotations are copied by its controller; the label, which makes a stamp of them, is not.
        let copied = stamp(object);
        assert!(!copied.contains_key("state"), "{object:#}");
        assert_eq!(copied["user"], "alice@example.com");
    }
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
    assert_eq!(stamp(deployment)["manager"], "kubectl-set");

    let list = cluster.plugin("alice").json(&["list", "-n", "dev-rest"]);
    let rows: Vec<(&str, &str)> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["target"]["kind"].as_str().unwrap(), row["state"].as_str().unwrap()))
        .collect();
    assert_eq!(rows, [("Deployment", "noted")], "{list:#}");
}

#[test]
fn controllers_make_and_clear_away_in_prod() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-controllers");
    let flux = cluster.kubectl("flux").namespace("prod-controllers");
    flux.ok(&["create", "deployment", "api", "--image=registry.example.com/api:1", "--replicas=2"]);
    let pods = |wanted: usize| {
        wait_until(&format!("{wanted} Pods"), LIMIT, || {
            let pods = flux.json(&["get", "pods"])["items"].as_array().unwrap().clone();
            if pods.len() == wanted { Ok(pods) } else { Err(format!("{} Pods", pods.len())) }
        })
        .unwrap()
    };
    assert!(pods(2).iter().all(|pod| stamp(pod).is_empty()));
    flux.ok(&["scale", "deployment", "api", "--replicas=1"]);
    pods(1);
    // In the background, by the garbage collector.
    flux.ok(&["delete", "deployment", "api"]);
    pods(0);
    let namespace = "breakglass.dev/namespace=prod-controllers";
    assert_eq!(cluster.kubectl("admin").ok(&["get", "breakglasschanges", "-l", namespace, "-o", "name"]), "");
}
