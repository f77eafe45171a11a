//! Below an object: nothing of ours is forged, stripped or resurrected through status, scale, binding or any other
//! subresource, whoever writes there.

use serde_json::{Value, json};
use tests::http::{APPLY, MERGE, STRATEGIC};
use tests::record::stamp;
use tests::{Cluster, Http, wait_until};

use crate::LIMIT;

const ALICE: &str = "alice@example.com";

/// bob, long ago, and nothing owed.
fn forged() -> Value {
    json!({
        "annotations": {"breakglass.dev/user": "bob@example.com", "breakglass.dev/time": "2020-01-01T00:00:00Z",
            "breakglass.dev/operation": "Exec", "breakglass.dev/manager": "nobody", "breakglass.dev/incident": "INC-1",
            "breakglass.dev/token": "inc-1-aaaaa", "breakglass.dev/change": "inc-1-0000000000000000"},
        "labels": {"breakglass.dev/state": "accepted"},
    })
}

/// All annotations and labels off, as a merge patch says it.
fn stripped() -> Value {
    json!({"annotations": null, "labels": null})
}

/// A way to write below an object: its path, the subresource, a patch that changes something there, and its media type.
struct Way {
    object: String,
    subresource: &'static str,
    patch: Value,
    media_type: &'static str,
}

/// The ways below the objects of [`scene`]; `round` makes each a change.
fn ways(namespace: &str, round: u32) -> Vec<Way> {
    let core = format!("/api/v1/namespaces/{namespace}");
    let deployment = format!("/apis/apps/v1/namespaces/{namespace}/deployments/web");
    let widget = format!("/apis/e2e.example.com/v1/namespaces/{namespace}/widgets/gear");
    let pod = format!("{core}/pods/api");
    let condition = json!([{"type": format!("Round{round}"), "status": "True", "lastTransitionTime": null}]);
    let debug = json!([{"name": format!("debug-{round}"), "image": "registry.example.com/debug:1",
        "terminationMessagePolicy": "File", "imagePullPolicy": "Always"}]);
    let resources = json!([{"name": "api", "resources": {"requests": {"cpu": format!("{round}m")}}}]);
    let way = |object: &str, subresource, patch, media_type| Way {
        object: object.to_owned(),
        subresource,
        patch,
        media_type,
    };
    vec![
        way(&deployment, "status", json!({"status": {"observedGeneration": round}}), MERGE),
        way(&deployment, "scale", json!({"spec": {"replicas": round}}), MERGE),
        way(&pod, "status", json!({"status": {"message": format!("round {round}")}}), MERGE),
        way(&pod, "ephemeralcontainers", json!({"spec": {"ephemeralContainers": debug}}), STRATEGIC),
        way(&pod, "resize", json!({"spec": {"containers": resources}}), STRATEGIC),
        way(&widget, "status", json!({"status": {"turns": round}}), MERGE),
        way(&widget, "scale", json!({"spec": {"replicas": round}}), MERGE),
        way(&core, "status", json!({"status": {"conditions": condition}}), STRATEGIC),
    ]
}

/// Objects that no direct write has made, and alice's right to write below them.
fn scene(namespace: &str) {
    let cluster = Cluster::shared();
    cluster.namespace(namespace);
    cluster.widgets(namespace).unwrap();
    let apps = [("apps", "deployments/status"), ("e2e.example.com", "widgets/status"), ("", "namespaces/status")];
    let pods =
        ["pods/status", "pods/binding", "pods/ephemeralcontainers", "pods/resize"].map(|resource| ("", resource));
    let edit = [("", "namespaces"), ("", "pods")];
    cluster.grant(ALICE, namespace, &[&apps[..], &edit, &pods].concat());
    let flux = cluster.kubectl("flux").namespace(namespace);
    flux.ok(&["create", "deployment", "web", "--image=registry.example.com/web:1", "--replicas=0"]);
    let gear = json!({"apiVersion": "e2e.example.com/v1", "kind": "Widget", "metadata": {"name": "gear"}});
    flux.ok_with_input(&["create", "-f", "-"], &gear.to_string());
    make_pod(namespace, "api");
}

/// A Pod that is on no node: there is none.
fn make_pod(namespace: &str, name: &str) {
    let requests = json!({"cpu": "100m"});
    let container = json!({"name": "api", "image": "registry.example.com/api:1", "resources": {"requests": requests}});
    let pod =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [container]}});
    let flux = Cluster::shared().kubectl("flux").namespace(namespace);
    wait_until("the service account of Pods", LIMIT, || {
        flux.try_ok(&["create", "-f", "-"], &pod.to_string()).map(drop).map_err(|error| format!("{error:#}"))
    })
    .unwrap();
}

fn get(path: &str) -> Value {
    Cluster::shared().read(path)
}

/// What is wrong about the stamp on an object after a write by `user` from `before`: nothing where it is what it was, or
/// says that it was them, now, and under which record.
fn lie(before: &Value, object: &Value, user: &str) -> Option<String> {
    let (was, is) = (stamp(before), stamp(object));
    let says = |key: &str| is.get(key).map(String::as_str).unwrap_or_default();
    let recorded = || match is.get("change") {
        None => says("state") == "noted",
        Some(change) => {
            let changes = Cluster::shared().changes(says("incident"));
            changes.iter().any(|record| record["metadata"]["name"] == change.as_str() && record["spec"]["user"] == user)
        }
    };
    let true_now = says("user") == user && says("time") > "2026" && recorded();
    (was != is && !true_now).then(|| format!("from {was:?} to {is:?}"))
}

/// Has somebody write in each way with our keys as `metadata` has them, and gives what is wrong afterwards.
fn try_all(writer: &Http, user: &str, ways: &[Way], metadata: &Value) -> Vec<String> {
    let mut lies = Vec::new();
    for way in ways {
        let path = format!("{}/{}", way.object, way.subresource);
        let patched = |object: &Value| {
            let mut object = object.clone();
            json_patch::merge(&mut object, &json!({"metadata": metadata}));
            object
        };
        let put = || {
            let mut object = patched(&get(&path));
            // It is written by controllers, too; a custom resource asks for it.
            if !path.contains("/widgets/") {
                object["metadata"].as_object_mut().unwrap().remove("resourceVersion");
            }
            writer.send("PUT", &path, &object.to_string())
        };
        let apply = || {
            let live = get(&path);
            let mut object = json!({"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": metadata});
            object["metadata"]["name"] = live["metadata"]["name"].clone();
            writer.patch(APPLY, &format!("{path}?fieldManager=mine&force=true"), &object)
        };
        let patch = || writer.patch(way.media_type, &path, &patched(&way.patch));
        for (verb, write) in
            [("PATCH", &patch as &dyn Fn() -> kube::Result<Value>), ("PUT", &put), ("server-side apply", &apply)]
        {
            let before = get(&way.object);
            let (code, message) = match write() {
                Ok(_) => (200, String::new()),
                Err(kube::Error::Api(status)) => (status.code, status.message.clone()),
                Err(error) => panic!("{verb} {path}: {error}"),
            };
            // No subresource takes every verb: the API server answers an apply to the scale of a custom resource with 500.
            let what = format!("{verb} {path} by {user} was answered {code} {message}");
            assert!(verb != "PATCH" || user != ALICE || code == 200, "{what}");
            assert!(code < 500 || !message.contains("breakglass.dev"), "{what}");
            lies.extend(lie(&before, &get(&way.object), user).map(|lie| format!("{what}: the stamp went {lie}")));
        }
    }
    lies
}

/// L-05: our keys that a person sends below an object, by PATCH, PUT or apply, in prod under a token and in dev, do not
/// stick, and those that are there do not go.
#[test]
fn a_person_forges_and_strips_nothing_below_an_object() {
    let mut lies = Vec::new();
    for (namespace, guarded) in [("prod-below", true), ("dev-below", false)] {
        scene(namespace);
        if guarded {
            Cluster::shared().open("alice", "INC-485", namespace);
        }
        let alice = Http::new(&Cluster::shared().kubectl("alice"), "http/1");
        lies.extend(try_all(&alice, ALICE, &ways(namespace, 1), &forged()));
        // Now with a stamp of hers on each.
        for way in ways(namespace, 2) {
            let note = json!({"metadata": {"annotations": {"note": way.subresource}}});
            alice.patch(MERGE, &way.object, &note).unwrap();
            assert_eq!(stamp(&get(&way.object))["user"], ALICE);
        }
        lies.extend(try_all(&alice, ALICE, &ways(namespace, 2), &stripped()));
        lies.extend(try_all(&alice, ALICE, &ways(namespace, 3), &forged()));
    }
    assert!(lies.is_empty(), "{} lies:\n{}", lies.len(), lies.join("\n"));
}

/// L-05: nor what a controller sends whose token is bound to a Pod, and whose status writes nobody looks at otherwise.
#[test]
fn a_robot_forges_and_strips_nothing_through_status() {
    let mut lies = Vec::new();
    for namespace in ["prod-below-robot", "dev-below-robot"] {
        scene(namespace);
        let user = format!("system:serviceaccount:{namespace}:robot");
        let robot = Http::new(&Cluster::shared().robot(namespace, "robot"), "robot/1");
        let rights = [
            ("apps", "deployments/status"),
            ("e2e.example.com", "widgets/status"),
            ("", "namespaces/status"),
            ("", "pods/status"),
        ];
        Cluster::shared().grant(&user, namespace, &rights);
        let status =
            |round| ways(namespace, round).into_iter().filter(|way| way.subresource == "status").collect::<Vec<_>>();
        lies.extend(try_all(&robot, &user, &status(1), &forged()));
        // What it is there for goes on: a status that leaves metadata alone.
        for way in status(2) {
            let path = format!("{}/status", way.object);
            robot.patch(way.media_type, &path, &way.patch).unwrap_or_else(|error| panic!("{path}: {error}"));
        }
        if namespace.starts_with("prod") {
            Cluster::shared().open("alice", "INC-486", namespace);
        }
        let alice = Http::new(&Cluster::shared().kubectl("alice"), "http/1");
        for way in status(2) {
            alice.patch(MERGE, &way.object, &json!({"metadata": {"annotations": {"note": "mine"}}})).unwrap();
            assert_eq!(stamp(&get(&way.object))["user"], ALICE);
        }
        lies.extend(try_all(&robot, &user, &status(3), &stripped()));
        lies.extend(try_all(&robot, &user, &status(4), &forged()));
    }
    assert!(lies.is_empty(), "{} lies:\n{}", lies.len(), lies.join("\n"));
}

/// L-05: Kubernetes copies what a Binding carries onto the Pod; nothing of ours is in it then.
#[test]
fn a_binding_brings_no_forged_stamp_onto_its_pod() {
    let mut lies = Vec::new();
    for (namespace, guarded) in [("prod-bound", true), ("dev-bound", false)] {
        scene(namespace);
        if guarded {
            Cluster::shared().open("alice", "INC-487", namespace);
        }
        let alice = Http::new(&Cluster::shared().kubectl("alice"), "http/1");
        for (name, stamped) in [("bare", false), ("stamped", true)] {
            make_pod(namespace, name);
            let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
            if stamped {
                alice.patch(MERGE, &path, &json!({"metadata": {"annotations": {"note": "mine"}}})).unwrap();
            }
            let before = get(&path);
            let mut binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": forged(),
                "target": {"apiVersion": "v1", "kind": "Node", "name": "nowhere"}});
            binding["metadata"]["name"] = json!(name);
            alice.send("POST", &format!("{path}/binding"), &binding.to_string()).unwrap();
            let pod = get(&path);
            assert_eq!(pod["spec"]["nodeName"], "nowhere");
            lies.extend(lie(&before, &pod, ALICE).map(|lie| format!("{namespace} {name}: the stamp went {lie}")));
        }
    }
    assert!(lies.is_empty(), "{} lies:\n{}", lies.len(), lies.join("\n"));
}
