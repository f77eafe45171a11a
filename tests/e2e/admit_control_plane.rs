//! Controllers, garbage collection and their copies of annotations: nothing of it is stamped, refused or listed.

use serde_json::Value;
use tests::record::stamp;
use tests::{Cluster, wait_until};

use crate::LIMIT;

/// L-01: a Deployment that is made, rolled and scaled, in dev and in prod under a token, comes to rest, and so do its
/// ReplicaSets, onto which its controller copies the annotations of the stamp; those are never stamps of their own.
#[test]
fn a_rollout_comes_to_rest_and_its_replica_sets_are_not_listed() {
    let cluster = Cluster::shared();
    cluster.namespace("dev-rest-other");
    for (namespace, incident) in [("dev-rest", None), ("prod-rest", Some("INC-497"))] {
        cluster.namespace(namespace);
        if let Some(incident) = incident {
            cluster.open("alice", incident, namespace);
        }
        let alice = cluster.kubectl("alice").namespace(namespace);
        alice.ok(&["create", "deployment", "api", "--image=registry.example.com/api:1"]);
        let look = || alice.json(&["get", "deployments,replicasets,pods"])["items"].as_array().unwrap().clone();
        let replica_sets = || look().iter().filter(|object| object["kind"] == "ReplicaSet").count();
        for (image, wanted) in [("api=registry.example.com/api:2", 2), ("api=registry.example.com/api:3", 3)] {
            alice.ok(&["set", "image", "deployment/api", image]);
            wait_until("a ReplicaSet of its own", LIMIT, || match replica_sets() {
                made if made == wanted => Ok(()),
                made => Err(format!("{made} of {wanted}")),
            })
            .unwrap();
        }
        alice.ok(&["scale", "deployment", "api", "--replicas=2"]);

        let objects = at_rest(namespace, look);
        let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
        assert_eq!(deployment["spec"]["replicas"], 2);
        assert_eq!(deployment["status"]["observedGeneration"], deployment["metadata"]["generation"]);
        for object in objects.iter().filter(|object| object["kind"] == "ReplicaSet") {
            // The Deployment's annotations are copied by its controller; the label, which makes a stamp of them, is not.
            let copied = stamp(object);
            assert!(!copied.contains_key("state"), "{object:#}");
            assert_eq!(copied["user"], "alice@example.com");
        }
        assert!(objects.iter().filter(|object| object["kind"] == "Pod").all(|pod| stamp(pod).is_empty()));

        let list = cluster.plugin("alice").json(&["list", "-n", namespace]);
        let rows = list["items"].as_array().unwrap();
        assert!(rows.iter().all(|row| row["target"]["kind"] == "Deployment"), "{list:#}");
        match incident {
            None => assert_eq!((rows.len(), rows[0]["state"].as_str()), (1, Some("noted")), "{list:#}"),
            Some(_) => assert_eq!(rows.len(), 4, "made, rolled twice, scaled: {list:#}"),
        }
    }
}

/// What `look` sees in a namespace once a whole round of another Deployment, through the same controllers, leaves it as it
/// is, down to the resourceVersions.
fn at_rest(namespace: &str, look: impl Fn() -> Vec<Value>) -> Vec<Value> {
    let others = Cluster::shared().kubectl("alice").namespace("dev-rest-other");
    let mut last = look();
    let mut round = 0;
    wait_until(&format!("the rollout in {namespace} to come to rest"), LIMIT, || {
        round += 1;
        let other = format!("{namespace}-{round}");
        others.ok(&["create", "deployment", &other, "--image=registry.example.com/other:1"]);
        wait_until("the other's status", LIMIT, || {
            let status = others.json(&["get", "deployment", &other])["status"].clone();
            if status["observedGeneration"].is_null() { Err(status.to_string()) } else { Ok(()) }
        })
        .map_err(|error| error.to_string())?;
        let now = look();
        let before = std::mem::replace(&mut last, now);
        if last == before { Ok(last.clone()) } else { Err(format!("{before:?}, then {last:?}")) }
    })
    .unwrap()
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

/// A Deployment made, scaled, rolled, undone and deleted under a token, with all controllers and Flux at work: five changes,
/// alice's, in that order, in the ledger and on the list, and nobody else's.
#[test]
fn the_list_of_an_incident_is_what_alice_did_in_order() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-story");
    cluster.open("alice", "INC-498", "prod-story");
    let alice = cluster.kubectl("alice").namespace("prod-story");
    let written = [
        ("Create", &["create", "deployment", "api", "--image=registry.example.com/api:1"][..]),
        ("Scale", &["scale", "deployment", "api", "--replicas=2"]),
        ("Update", &["set", "image", "deployment/api", "api=registry.example.com/api:2"]),
        ("Update", &["rollout", "undo", "deployment/api"]),
        ("Delete", &["delete", "deployment", "api"]),
    ];
    for (operation, args) in written {
        // The next second, since the order on a list is that of times, which are in whole ones.
        let now = chrono::Utc::now().timestamp();
        wait_until("the next second", LIMIT, || {
            if chrono::Utc::now().timestamp() > now { Ok(()) } else { Err(now.to_string()) }
        })
        .unwrap();
        alice.ok(args);
        if operation != "Delete" {
            // Its controller has its say, and writes to it, before she goes on.
            wait_until("the rollout", LIMIT, || {
                let object = alice.json(&["get", "deployment", "api"]);
                let status = &object["status"];
                // There is no node, so no Pod of it ever runs.
                let seen = status["observedGeneration"] == object["metadata"]["generation"];
                if seen && status["updatedReplicas"].as_i64() > Some(0) { Ok(()) } else { Err(status.to_string()) }
            })
            .unwrap();
        }
    }
    wait_until("the garbage collector", LIMIT, || {
        let left = alice.ok(&["get", "replicasets,pods", "-o", "name"]);
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .unwrap();

    let namespace = "breakglass.dev/namespace=prod-story";
    let args = ["get", "breakglasschanges", "-l", namespace, "--sort-by=.metadata.creationTimestamp"];
    let ledger = cluster.kubectl("admin").json(&args)["items"].as_array().unwrap().clone();
    let list = cluster.plugin("alice").json(&["list", "--incident", "INC-498"])["items"].as_array().unwrap().clone();
    let ledger: Vec<&Value> = ledger.iter().map(|change| &change["spec"]).collect();
    let wanted: Vec<String> =
        written.iter().map(|(operation, _)| format!("{operation} Deployment/api by alice@example.com")).collect();
    for (what, items) in [("the ledger", ledger), ("the list", list.iter().collect())] {
        let said = |item: &&Value| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (kind, name) = (text(&item["target"]["kind"]), text(&item["target"]["name"]));
            format!("{} {kind}/{name} by {}", text(&item["operation"]), text(&item["user"]))
        };
        assert_eq!(items.iter().map(said).collect::<Vec<_>>(), wanted, "{what}");
    }
}
