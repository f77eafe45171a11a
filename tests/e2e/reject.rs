//! What is rejected is put back, exactly and no more, and that is proven.

use serde_json::{Value, json};
use tests::record::{change_of, config_map, stamp, without_noise};
use tests::{Cluster, Kubectl, wait_until};

use crate::LIMIT;

/// A place of its own, where alice may write under `incident`; alice in it, and the plugin as bob.
fn scene(incident: &str, namespace: &str) -> (Kubectl, Kubectl) {
    let cluster = Cluster::shared();
    cluster.namespace(namespace);
    cluster.open("alice", incident, namespace);
    (cluster.kubectl("alice").namespace(namespace), cluster.plugin("bob").namespace(namespace))
}

fn all_are(incident: &str, phase: &str, count: usize) -> Vec<Value> {
    Cluster::shared().wait_for_changes(incident, (phase, count), LIMIT)
}

#[track_caller]
fn check_put_back(changes: &[Value]) {
    for change in changes {
        let status = &change["status"];
        assert_eq!(status["outcome"], "PutBack", "{change:#}");
    }
}

/// An object as people compare it: what the server keeps aside.
fn plain(kubectl: &Kubectl, object: &str) -> Value {
    without_noise(&kubectl.json(&["get", object]))
}

#[test]
fn an_update_is_put_back_and_what_others_did_stays() {
    let (alice, bob) = scene("INC-850", "prod-reject");
    let cluster = Cluster::shared();
    cluster.set_scene(&["-n", "prod-reject", "create", "-f", "-"], &config_map("settings", "one"));
    let before = plain(&alice, "configmap/settings");
    alice.ok(&["patch", "configmap", "settings", "-p", r#"{"data": {"key": "two", "added": "x"}}"#]);
    alice.ok(&["label", "configmap", "settings", "tier=web"]);
    let changes = all_are("INC-850", "Pending", 2);
    let first = changes.iter().find(|change| change["spec"]["patch"].to_string().contains("added")).unwrap();
    let first = first["metadata"]["name"].as_str().unwrap();

    // Nothing is kept of what is only asked about.
    let asked = bob.run(&["reject", first, "--dry-run"]);
    assert_eq!(asked.status, 0, "{asked}");
    assert!(asked.stdout.contains("-  added: x\n-  key: two\n+  key: one\n"), "{asked}");
    assert!(asked.stdout.contains("rejected (server dry run): configmap/settings in prod-reject"), "{asked}");
    assert_eq!(cluster.change(first)["status"]["phase"], "Pending");

    // bob has no token: one is opened for the same incident, and closed.
    let done = bob.run(&["reject", first, "--reason", "it did not help"]);
    assert_eq!(done.status, 0, "{done}");
    for said in [
        "token: opened inc-850-",
        "put back: configmap/settings in prod-reject",
        " closed\n",
        &format!("settled: {first} (PutBack)"),
    ] {
        assert!(done.stderr.contains(said), "{said}\n{done}");
    }
    let now = plain(&alice, "configmap/settings");
    assert_eq!((&now["data"], &now["metadata"]["labels"]["tier"]), (&before["data"], &json!("web")));
    let status = cluster.change(first)["status"].clone();
    assert_eq!((&status["by"], &status["note"]), (&json!("bob@example.com"), &json!("it did not help")), "{status}");

    // The write that put it back is settled with it, and the stamp speaks of what is still owed.
    let open = wait_until("one change to be owed", LIMIT, || {
        let changes = cluster.changes("INC-850");
        let open: Vec<&Value> = changes.iter().filter(|change| change["status"]["phase"] != "Settled").collect();
        match (&open[..], changes.len()) {
            ([open], 3) => Ok(open["metadata"]["name"].as_str().unwrap().to_owned()),
            _ => Err(format!("{changes:#?}")),
        }
    })
    .unwrap();
    wait_until("the stamp to speak of it", LIMIT, || {
        let object = alice.json(&["get", "configmap/settings"]);
        let said = change_of(&object);
        if said == open && stamp(&object)["user"] == "alice@example.com" { Ok(()) } else { Err(said) }
    })
    .unwrap();

    // The other one too: then it is what it was before both.
    bob.ok(&["reject", "configmap/settings"]);
    let changes = all_are("INC-850", "Settled", 4);
    assert_eq!(plain(&alice, "configmap/settings"), before);
    check_put_back(&changes);
    let again = bob.run(&["reject", first]);
    assert!(again.status == 1 && again.stderr.contains("is settled already (PutBack)"), "{again}");
}

#[test]
fn a_later_write_to_the_same_field_stops_it_and_is_named() {
    let (alice, bob) = scene("INC-851", "prod-reject-later");
    let cluster = Cluster::shared();
    cluster.set_scene(&["-n", "prod-reject-later", "create", "-f", "-"], &config_map("settings", "one"));
    let before = plain(&alice, "configmap/settings");
    for value in ["two", "three"] {
        alice.ok(&["patch", "configmap", "settings", "-p", &json!({"data": {"key": value}}).to_string()]);
    }
    let changes = all_are("INC-851", "Pending", 2);
    let first = changes.iter().find(|change| change["spec"]["before"]["data"]["key"] == "one").unwrap();
    let first = first["metadata"]["name"].as_str().unwrap();
    let stopped = bob.run(&["reject", first]);
    assert_eq!(stopped.status, 1, "{stopped}");
    let said = "configmap/settings in prod-reject-later cannot be put back: /data/key was written to again since";
    assert!(stopped.stderr.contains(said), "{stopped}");
    assert_eq!(cluster.change(first)["status"]["phase"], "Pending", "no verdict was given");
    // Both together, as if the plugin had been killed after its verdict.
    for change in &changes {
        let name = change["metadata"]["name"].as_str().unwrap();
        let verdict = r#"{"status": {"verdict": "Rejected"}}"#;
        let args = ["patch", "breakglasschange", name, "--subresource=status", "--type=merge", "-p", verdict];
        cluster.kubectl("bob").ok(&args);
    }
    bob.ok(&["reject", "configmap/settings"]);
    check_put_back(&all_are("INC-851", "Settled", 3));
    assert_eq!(plain(&alice, "configmap/settings"), before);
}

#[test]
fn what_was_made_goes_and_what_was_deleted_comes_back() {
    let (alice, bob) = scene("INC-852", "prod-reject-made");
    let cluster = Cluster::shared();
    let scene = |args: &[&str]| cluster.set_scene(&[&["-n", "prod-reject-made"], args].concat(), "");
    scene(&["create", "deployment", "api", "--image=registry.example.com/api:1", "--replicas=0"]);
    scene(&["create", "secret", "generic", "keys", "--from-literal=a=canary"]);
    let before = plain(&alice, "deployment/api");
    alice.ok(&["delete", "deployment", "api"]);
    alice.ok_with_input(&["create", "-f", "-"], &config_map("made", "one"));
    all_are("INC-852", "Pending", 2);

    let done = bob.run(&["reject", "--incident", "INC-852"]);
    assert_eq!(done.status, 0, "{done}");
    check_put_back(&all_are("INC-852", "Settled", 4));
    assert_eq!(alice.run(&["get", "configmap", "made"]).status, 1);
    let now = plain(&alice, "deployment/api");
    assert_eq!((&now["spec"], &now["metadata"]["labels"]), (&before["spec"], &before["metadata"]["labels"]));

    // Of a Secret the record holds no values: nothing is pretended.
    cluster.open("alice", "INC-853", "prod-reject-made");
    alice.ok(&["delete", "secret", "keys"]);
    let change = all_are("INC-853", "Pending", 1).remove(0);
    let stopped = bob.run(&["reject", "secret/keys"]);
    assert!(stopped.status == 1 && stopped.stderr.contains("the policy hides the values of /data"), "{stopped}");
    assert_eq!(cluster.change(change["metadata"]["name"].as_str().unwrap())["status"]["phase"], "Pending");
}

#[test]
fn a_scale_a_status_and_what_cannot_be_put_back() {
    let (alice, bob) = scene("INC-854", "prod-reject-scale");
    let cluster = Cluster::shared();
    let scene = |args: &[&str]| cluster.set_scene(&[&["-n", "prod-reject-scale"], args].concat(), "");
    scene(&["create", "deployment", "api", "--image=registry.example.com/api:1", "--replicas=1"]);
    alice.ok(&["scale", "deployment", "api", "--replicas=0"]);
    alice.ok(&["set", "image", "deployment/api", "api=registry.example.com/api:2"]);
    all_are("INC-854", "Pending", 2);
    let done = bob.run(&["reject", "--incident", "INC-854"]);
    assert_eq!(done.status, 0, "{done}");
    check_put_back(&all_are("INC-854", "Settled", 4));
    let now = alice.json(&["get", "deployment", "api"]);
    assert_eq!(now["spec"]["replicas"], 1);
    assert_eq!(now["spec"]["template"]["spec"]["containers"][0]["image"], "registry.example.com/api:1");
    wait_until("the stamp to be gone", LIMIT, || {
        let stamp = stamp(&alice.json(&["get", "deployment", "api"]));
        if stamp.is_empty() { Ok(()) } else { Err(format!("{stamp:?}")) }
    })
    .unwrap();

    // What was done inside a pod is not on record: it ends with the pod.
    cluster.open("alice", "INC-855", "prod-reject-scale");
    let pod = wait_until("a Pod", LIMIT, || {
        let pods = alice.ok(&["get", "pods", "-o", "jsonpath={.items[*].metadata.name}"]);
        pods.split(' ').next().filter(|name| !name.is_empty()).map(str::to_owned).ok_or(pods.clone())
    })
    .unwrap();
    assert_ne!(alice.run(&["exec", &pod, "--", "true"]).status, 0, "it has no node");
    let stopped = bob.run(&["reject", "--incident", "INC-855"]);
    assert!(stopped.status == 1 && stopped.stderr.contains("over a connection, is not on record"), "{stopped}");
    assert!(stopped.stderr.contains(&format!("hint: kubectl delete -n prod-reject-scale pod/{pod}")), "{stopped}");
    scene(&["delete", "pod", &pod, "--grace-period=0", "--force"]);
    // Looked at in its turn, or when somebody decides: there is nothing to write to Git.
    bob.ok(&["accept", "--incident", "INC-855", "--note", "it only looked around"]);
    let ended = wait_until("the change to be settled", LIMIT, || {
        let changes = cluster.changes("INC-855");
        let outcomes: Vec<Value> = changes.iter().map(|change| change["status"]["outcome"].clone()).collect();
        if outcomes.iter().all(|outcome| outcome == "Gone") { Ok(outcomes) } else { Err(format!("{outcomes:?}")) }
    })
    .unwrap();
    assert!(!ended.is_empty());
}

#[test]
fn what_was_written_below_an_object_or_to_many_at_once_is_put_back() {
    let (alice, bob) = scene("INC-858", "prod-reject-below");
    let cluster = Cluster::shared();
    cluster.widgets("prod-reject-below").unwrap();
    let scene = |args: &[&str], input: &str| cluster.set_scene(&[&["-n", "prod-reject-below"], args].concat(), input);
    let widget = json!({"apiVersion": "e2e.example.com/v1", "kind": "Widget", "metadata": {"name": "gear"},
        "spec": {"size": 1}});
    scene(&["create", "-f", "-"], &widget.to_string());
    let status = |turns: i64| json!({"status": {"turns": turns}}).to_string();
    let patch = |turns: &str| {
        ["patch", "widget", "gear", "--subresource=status", "--type=merge", "-p", turns].map(str::to_owned)
    };
    let first = patch(&status(1));
    scene(&first.iter().map(String::as_str).collect::<Vec<_>>(), "");
    for name in ["one", "two"] {
        let labelled = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name,
            "labels": {"part": "many"}}, "data": {"key": name}});
        scene(&["create", "-f", "-"], &labelled.to_string());
    }
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "alone"},
        "spec": {"containers": [{"name": "c", "image": "registry.example.com/c:1"}]}});
    scene(&["create", "-f", "-"], &pod.to_string());
    let before = |object: &str| plain(&alice, object);
    let maps = ["configmap/one", "configmap/two"].map(before);
    let pod = before("pod/alone");

    // Who may edit a namespace may not write the status of its widgets: admin may, and needs a token as anybody.
    cluster.open("admin", "INC-858", "prod-reject-below");
    let admin = cluster.kubectl("admin").namespace("prod-reject-below");
    let second = patch(&status(2));
    admin.ok(&second.iter().map(String::as_str).collect::<Vec<_>>());
    let all = "/api/v1/namespaces/prod-reject-below/configmaps?labelSelector=part%3Dmany";
    admin.ok(&["delete", "--raw", all]);
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "alone"}}).to_string();
    let evict = "/api/v1/namespaces/prod-reject-below/pods/alone/eviction";
    admin.ok_with_input(&["create", "--raw", evict, "-f", "-"], &eviction);
    all_are("INC-858", "Pending", 4);

    let done = cluster.plugin("admin").namespace("prod-reject-below").run(&["reject", "--incident", "INC-858"]);
    assert_eq!(done.status, 0, "{done}");
    check_put_back(&all_are("INC-858", "Settled", 8));
    assert_eq!(admin.json(&["get", "widget", "gear"])["status"], json!({"turns": 1}));
    assert_eq!(["configmap/one", "configmap/two"].map(before), maps);
    assert_eq!(before("pod/alone")["spec"]["containers"], pod["spec"]["containers"]);
    let listed = bob.ok(&["list", "--incident", "INC-858"]);
    assert!(!listed.contains("INC-858"), "{listed}");
}
