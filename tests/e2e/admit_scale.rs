//! Scaling, of every kind that can be: refused, recorded as the Scale that it is, and stamped onto what was scaled.

use serde_json::{Value, json};
use tests::http::{MERGE, refused};
use tests::record::{after, stamp, without_noise};
use tests::{Cluster, Http, wait_until};

use crate::{LIMIT, check_refused};

/// What can be scaled: its kind for kubectl, its path in a namespace, its group and version, kind, and subject in a refusal.
const KINDS: [[&str; 5]; 5] = [
    ["deployment.apps", "/apis/apps/v1", "apps/v1", "Deployment", "deployments.apps"],
    ["statefulset.apps", "/apis/apps/v1", "apps/v1", "StatefulSet", "statefulsets.apps"],
    ["replicaset.apps", "/apis/apps/v1", "apps/v1", "ReplicaSet", "replicasets.apps"],
    ["replicationcontroller", "/api/v1", "v1", "ReplicationController", "replicationcontrollers"],
    ["widget.e2e.example.com", "/apis/e2e.example.com/v1", "e2e.example.com/v1", "Widget", "widgets.e2e.example.com"],
];

/// One of each kind, by Flux, with no replicas; none of them has to do with another.
fn scene(namespace: &str) {
    let cluster = Cluster::shared();
    cluster.namespace(namespace);
    cluster.widgets(namespace).unwrap();
    for [_, _, api_version, kind, _] in KINDS {
        let labels = json!({"of": kind});
        let containers = json!([{"name": "web", "image": "registry.example.com/web:1"}]);
        let selector = if kind == "ReplicationController" { labels.clone() } else { json!({"matchLabels": labels}) };
        let mut spec = json!({"replicas": 0, "selector": selector,
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}}});
        if kind == "Widget" {
            spec = json!({"replicas": 0});
        }
        let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "web"}, "spec": spec});
        cluster.kubectl("flux").namespace(namespace).ok_with_input(&["create", "-f", "-"], &object.to_string());
    }
}

fn path_of(kind: &[&str; 5], namespace: &str) -> String {
    let plural = kind[4].split('.').next().unwrap();
    format!("{}/namespaces/{namespace}/{plural}/web", kind[1])
}

fn get(path: &str) -> Value {
    Cluster::shared().read(path)
}

/// L-09: scaling anything in prod needs a token, by kubectl and by PUT; under one, before and patch of the record are the
/// Scale, and nothing is put on that.
#[test]
fn a_scale_in_prod_is_refused_and_recorded() {
    let cluster = Cluster::shared();
    let namespace = "prod-scale";
    scene(namespace);
    let alice = cluster.kubectl("alice").namespace(namespace);
    let http = Http::new(&cluster.kubectl("alice"), "http/1");
    let put = |path: &str, replicas: u32| {
        let mut scale = get(path);
        scale["spec"]["replicas"] = json!(replicas);
        // Controllers write to what is scaled, too.
        scale["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        http.send("PUT", path, &scale.to_string())
    };
    for kind in &KINDS {
        let scale = format!("{}/scale", path_of(kind, namespace));
        let subject = format!("{}/scale \"web\" (update) by alice@example.com", kind[4]);
        let target = format!("{}/web", kind[0]);
        check_refused(&alice.run(&["scale", &target, "--replicas=1"]), &subject, "-n prod-scale");
        for answer in [put(&scale, 1), http.patch(MERGE, &scale, &json!({"spec": {"replicas": 1}}))] {
            let (code, message) = refused(answer);
            assert!(code == 403 && message.contains(&subject), "{code} {message}");
        }
        assert_eq!(get(&scale)["spec"]["replicas"].as_u64().unwrap_or(0), 0, "{target}");
    }
    cluster.open("alice", "INC-489", namespace);
    for kind in &KINDS {
        let (object, target) = (path_of(kind, namespace), format!("{}/web", kind[0]));
        let scale = format!("{object}/scale");
        let uid = get(&object)["metadata"]["uid"].clone();
        let writes: [(u32, &dyn Fn()); 3] = [
            (1, &|| drop(alice.ok(&["scale", &target, "--replicas=1"]))),
            (2, &|| drop(put(&scale, 2).unwrap())),
            (3, &|| drop(http.patch(MERGE, &scale, &json!({"spec": {"replicas": 3}})).unwrap())),
        ];
        for (replicas, write) in writes {
            let before = get(&scale);
            write();
            let stored = get(&scale);
            assert_eq!(stored["spec"]["replicas"], replicas);
            let is_it = |change: &&Value| {
                let (spec, wanted) = (&change["spec"], json!(replicas));
                spec["target"]["uid"] == uid && after(change)["spec"]["replicas"] == wanted
            };
            // An attempt that lost to the stamp of the scale before has a record as well, until it is known for one.
            let change = wait_until("one record of the scale", LIMIT, || {
                let changes = cluster.changes("INC-489");
                match &changes.iter().filter(is_it).collect::<Vec<_>>()[..] {
                    [change] => Ok((*change).clone()),
                    several => Err(format!("{target} {replicas}: {several:#?}")),
                }
            })
            .unwrap();
            let spec = &change["spec"];
            assert_eq!((&spec["operation"], &spec["subresource"]), (&json!("Scale"), &json!("scale")));
            assert_eq!(spec["before"], without_noise(&before), "{target}");
            assert_eq!(after(&change), without_noise(&stored), "{target}");
            let target = &spec["target"];
            let at = ["apiVersion", "namespace", "name"].map(|field| target[field].as_str().unwrap());
            assert_eq!(at, [kind[2], namespace, "web"]);
            assert!(stamp(&stored).is_empty(), "a Scale has no annotations: {stored:#}");
        }
    }
    assert_eq!(cluster.changes("INC-489").len(), 3 * KINDS.len());
}

/// L-09: the record of a scale names what was scaled, a custom resource by its own kind, too.
#[test]
fn the_target_of_a_scale_is_what_was_scaled() {
    let cluster = Cluster::shared();
    scene("prod-scale-target");
    cluster.open("alice", "INC-492", "prod-scale-target");
    for kind in &KINDS {
        let args = ["-n", "prod-scale-target", "scale", &format!("{}/web", kind[0]), "--replicas=1"];
        cluster.kubectl("alice").ok(&args);
    }
    let changes = cluster.changes("INC-492");
    let mut kinds: Vec<&str> =
        changes.iter().map(|change| change["spec"]["target"]["kind"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["Deployment", "ReplicaSet", "ReplicationController", "StatefulSet", "Widget"]);
}

/// L-09: what was scaled is stamped right after: under a token as pending, by each scale anew, and in
/// dev as noted.
#[test]
fn what_was_scaled_is_stamped() {
    let cluster = Cluster::shared();
    for (namespace, incident) in [("prod-scaled", Some("INC-490")), ("dev-scaled", None)] {
        scene(namespace);
        if let Some(incident) = incident {
            cluster.open("alice", incident, namespace);
        }
        let alice = cluster.kubectl("alice").namespace(namespace);
        for replicas in ["1", "2"] {
            for kind in &KINDS {
                alice.ok(&["scale", &format!("{}/web", kind[0]), "--replicas", replicas]);
                let wanted = |object: &Value| {
                    let stamp = stamp(object);
                    let says = |key: &str| stamp.get(key).map(String::as_str).unwrap_or_default();
                    let who = (says("user"), says("operation")) == ("alice@example.com", "Scale");
                    let change = match incident {
                        None => return who && says("state") == "noted" && says("change").is_empty(),
                        Some(_) if says("change").is_empty() => return false,
                        Some(_) => cluster.change(says("change")),
                    };
                    let spec = &change["spec"];
                    let to = after(&change)["spec"]["replicas"].to_string();
                    who && says("state") == "pending"
                        && spec["target"]["uid"] == object["metadata"]["uid"]
                        && to == replicas
                };
                wait_until(&format!("the stamp on a {} that was scaled", kind[3]), LIMIT, || {
                    let object = get(&path_of(kind, namespace));
                    if wanted(&object) { Ok(()) } else { Err(format!("{:?}", stamp(&object))) }
                })
                .unwrap();
            }
        }
        if let Some(incident) = incident {
            let changes = cluster.changes(incident);
            assert_eq!(changes.len(), 2 * KINDS.len(), "the stamp is no write of hers");
        }
    }
}
