//! Nobody takes breakglass apart, stands in for it, or writes an object that it cannot judge.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tests::other_webhook::Impostor;
use tests::users::wait_until_may;
use tests::{Cluster, wait_until};

use crate::{LIMIT, check_refused};

/// How soon a registration is as it was.
const REPAIR_LIMIT: Duration = Duration::from_secs(20);

/// S-16: what we are made of is guarded like prod while we answer, and what no webhook is shown is mended.
#[test]
fn nobody_takes_us_apart() {
    let cluster = Cluster::own("apart");
    let admin = cluster.kubectl("admin");
    for args in [
        &["delete", "namespace", "breakglass-system"][..],
        &["label", "namespace", "breakglass-system", "mine=yes"],
        &["delete", "crd", "breakglasschanges.breakglass.dev"],
        &["label", "crd", "breakglasstokens.breakglass.dev", "mine=yes"],
        &["delete", "clusterrole", "breakglass-webhook"],
        &["delete", "clusterrolebinding", "breakglass-webhook-objects"],
        &["-n", "breakglass-system", "delete", "secret", "breakglass-webhook-key"],
        &["-n", "breakglass-system", "delete", "service", "breakglass-webhook"],
        &["-n", "breakglass-system", "delete", "serviceaccount", "breakglass-webhook"],
        &["-n", "breakglass-system", "delete", "rolebinding", "breakglass-webhook"],
        &["-n", "breakglass-system", "scale", "deployment", "breakglass-webhook", "--replicas=0"],
        &["-n", "breakglass-system", "delete", "pods", "--all"],
        &["-n", "breakglass-system", "create", "token", "breakglass-webhook"],
        &["-n", "breakglass-system", "create", "endpointslice-of-mine", "-f", "-"],
    ] {
        if args.contains(&"endpointslice-of-mine") {
            let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {"name": "mine", "labels": {"kubernetes.io/service-name": "breakglass-webhook"}},
                "endpoints": [{"addresses": ["10.0.0.1"]}]});
            let refused = admin.run_with_input(&["-n", "breakglass-system", "create", "-f", "-"], &slice.to_string());
            assert!(refused.refusal().starts_with("platform is run by GitOps: endpointslices"), "{refused}");
            continue;
        }
        let refused = admin.run(args);
        let start = "platform is run by GitOps: ";
        assert!(refused.our_refusal().is_some_and(|words| words.contains(start)), "{args:?}: {refused}");
    }
    for kind in ["validatingwebhookconfiguration", "mutatingwebhookconfiguration"] {
        let uid = || admin.run(&["get", kind, "breakglass", "-o", "jsonpath={.metadata.uid}"]).stdout;
        let before = uid();
        admin.ok(&["delete", kind, "breakglass"]);
        wait_until(&format!("the {kind} to be back"), REPAIR_LIMIT, || match uid() {
            now if !now.is_empty() && now != before => Ok(()),
            now => Err(now),
        })
        .unwrap();
    }
}

/// S-17: whoever leads our Service to a server of his own shuts prod with it, and opens nothing: the API server trusts
/// our certificate alone.
#[test]
fn a_server_under_our_name_is_not_believed() {
    let cluster = Cluster::own("impostor");
    cluster.namespace("prod-impostor");
    let alice = cluster.kubectl("alice").namespace("prod-impostor");
    let port = cluster.webhook().port();
    let address = SocketAddr::from(([127, 0, 0, 2], port));
    let impostor = Impostor::start(address, "breakglass-webhook.breakglass-system.svc");
    let lead = |to: &str| {
        let patch = json!({"spec": {"externalName": to}}).to_string();
        cluster.set_scene(&["-n", "breakglass-system", "patch", "service", "breakglass-webhook", "-p", &patch], "");
    };
    lead("127.0.0.2");
    // Connections that stand already go on to us; ours are closed with the process.
    cluster.webhook().kill();
    let ran = wait_until("the API server to meet the other", LIMIT, || {
        let ran = alice.run(&["create", "configmap", "settings"]);
        if ran.stderr.contains("certificate signed by unknown authority") { Ok(ran) } else { Err(ran.to_string()) }
    })
    .unwrap();
    assert_eq!(ran.status, 1, "{ran}");
    assert_eq!(impostor.asked(), 0, "no review was given away");
    lead("localhost");
    cluster.webhook().start().unwrap();
    check_refused(
        &alice.run(&["create", "configmap", "settings"]),
        "configmaps \"settings\" (create) by alice@example.com",
        "-n prod-impostor",
    );
}

/// S-13, S-18: whatever labels and metadata a person gives an object, it is judged, and judged the same: no label exempts
/// it, and no field or the want of one makes a condition fail.
#[test]
fn no_object_gets_itself_exempted() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-labels");
    let alice = cluster.kubectl("alice").namespace("prod-labels");
    let many: serde_json::Map<String, Value> = (0..100).map(|n| (format!("example.com/k{n}"), json!("v"))).collect();
    for metadata in [
        json!({"labels": {"breakglass.dev/exempt": "true", "breakglass.dev/environment": "dev"}}),
        json!({"labels": {"breakglass.dev/state": "settled", "control-plane": "controller-manager"}}),
        json!({"labels": {"admission.gatekeeper.sh/ignore": "true", "kubernetes.io/metadata.name": "kube-system"}}),
        json!({"labels": {}, "annotations": {}}),
        json!({"labels": null, "annotations": null, "finalizers": null, "ownerReferences": null}),
        json!({"annotations": {"breakglass.dev/user": "alice@example.com", "breakglass.dev/change": ""}}),
        json!({"annotations": {"breakglass.dev/user": "system:serviceaccount:kube-system:deployment-controller"}}),
        json!({"annotations": many}),
        json!({"finalizers": ["example.com/mine"]}),
        json!({"generateName": "settings-", "name": "settings"}),
        json!({"ownerReferences": [{"apiVersion": "v1", "kind": "Namespace", "name": "kube-system", "uid": "u"}]}),
        json!({"managedFields": [], "resourceVersion": "", "uid": "", "generation": 7}),
    ] {
        let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata});
        object["metadata"]["name"] = json!("settings");
        let refused = alice.run_with_input(&["create", "-f", "-"], &object.to_string());
        check_refused(&refused, "configmaps \"settings\" (create) by alice@example.com", "-n prod-labels");
    }
    // Nothing in the registration looks at an object's labels.
    for kind in ["validatingwebhookconfiguration", "mutatingwebhookconfiguration"] {
        let hooks = cluster.kubectl("admin").json(&["get", kind, "breakglass"])["webhooks"].clone();
        assert!(hooks.as_array().unwrap().iter().all(|hook| hook["objectSelector"] == json!({})), "{hooks:#}");
    }
}

/// S-20: what the webhook writes itself never comes back to it, however much that is.
#[test]
fn what_we_write_ourselves_is_not_asked_about() {
    let cluster = Cluster::own("itself");
    cluster.namespace("prod-itself");
    let token = cluster.open("alice", "INC-190", "prod-itself");
    let alice = cluster.kubectl("alice").namespace("prod-itself");
    alice.ok(&["create", "deployment", "api", "--image=registry.example.com/api:1"]);
    alice.ok(&["scale", "deployment", "api", "--replicas=2"]);
    wait_until("the count of writes, and the stamp of the scale", LIMIT, || {
        let writes = cluster.kubectl("admin").json(&["get", "breakglasstoken", &token])["status"]["writes"].clone();
        let operation = alice.ok(&[
            "get",
            "deployment",
            "api",
            "-o",
            r"jsonpath={.metadata.annotations.breakglass\.dev/operation}",
        ]);
        if writes == 2 && operation == "Scale" { Ok(()) } else { Err(format!("{writes} {operation}")) }
    })
    .unwrap();
    let user = "system:serviceaccount:breakglass-system:breakglass-webhook";
    let wrote =
        cluster.audited(user, |event| event["objectRef"]["resource"] == "deployments" && event["verb"] == "patch");
    assert_eq!(wrote["responseStatus"]["code"], 200);
    let asked = wrote["annotations"].as_object().into_iter().flatten().filter(|(key, _)| key.contains("webhook"));
    assert_eq!(asked.count(), 0, "{wrote:#}");
    let log = std::fs::read_to_string(cluster.directory().join("logs/webhook.log")).unwrap();
    assert!(!log.contains(&format!("\"user\":\"{user}\"")), "it was asked about its own write");
}

/// S-10: what runs in dev writes to prod as the service account that it is, and is refused like a person, whatever proves
/// its pod.
#[test]
fn a_robot_of_dev_is_nobody_special_in_prod() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-launderer");
    cluster.namespace("dev-launderer");
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "launderer"}});
    let scene = |namespace: &str, document: &Value| {
        cluster.set_scene(&["-n", namespace, "apply", "--server-side", "-f", "-"], &document.to_string());
    };
    scene("dev-launderer", &account);
    scene(
        "prod-launderer",
        &json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "launderer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
        "subjects": [{"kind": "ServiceAccount", "name": "launderer", "namespace": "dev-launderer"}]}),
    );
    let robot = cluster.robot("dev-launderer", "launderer");
    wait_until_may(&robot, ["create", "configmaps"], "prod-launderer").unwrap();
    let refused = robot.run(&["-n", "prod-launderer", "create", "configmap", "laundered"]);
    let subject = "configmaps \"laundered\" (create) by system:serviceaccount:dev-launderer:launderer";
    check_refused(&refused, subject, "-n prod-launderer");
}
