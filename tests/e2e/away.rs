//! The webhook is away, and nobody brings it back: prod is closed to people and to nobody else, what a cluster needs to come up
//! comes up, and the way out that the README names works and is seen.

use std::sync::Arc;

use serde_json::{Value, json};
use tests::record::{config_map, stamp};
use tests::{Cluster, Output, Setup, Together, wait_until};

use crate::{LIMIT, check_refused};

const HOME: &str = "breakglass-system";

/// A cluster whose webhook was killed while everything was in order.
fn away() -> Arc<Cluster> {
    static AWAY: Together = Together::new(|| {
        let cluster = own("away");
        for namespace in ["prod-gone", "dev-gone", "shop"] {
            cluster.namespace(namespace);
        }
        cluster.set_scene(&["label", "namespace", "shop", "breakglass.dev/environment=prod"], "");
        let alice = cluster.kubectl("alice").namespace("prod-gone");
        cluster.open("alice", "INC-461", "prod-gone");
        alice.ok(&["create", "configmap", "settings"]);
        alice.ok(&["create", "deployment", "web", "--image=registry.example.com/web:1", "--replicas=1"]);
        cluster.webhook().kill();
        cluster
    });
    AWAY.get()
}

fn own(name: &str) -> Cluster {
    Setup::new(name).webhook().start().unwrap_or_else(|error| panic!("{error:#}"))
}

/// Holds that the API server could not ask one of our webhooks, and so said no.
#[track_caller]
fn check_shut(ran: &Output, hook: &str) {
    assert_eq!(ran.status, 1, "{ran}");
    assert!(ran.stderr.contains(&format!("failed calling webhook \"{hook}.breakglass.dev\"")), "{ran}");
}

/// R-02: with no webhook, people write nothing to prod, with or without a token, by a namespace's name or its label, and
/// open and close no tokens.
#[test]
fn prod_is_closed_to_people() {
    let cluster = away();
    let patch = r#"{"data": {"key": "mine"}}"#;
    for person in ["alice", "bob", "admin"] {
        let kubectl = cluster.kubectl(person).namespace("prod-gone");
        for args in [
            &["create", "configmap", "another"][..],
            &["patch", "configmap", "settings", "-p", patch],
            &["label", "configmap", "settings", "tier=one"],
            &["delete", "configmap", "settings"],
            &["delete", "configmaps", "--all"],
            &["set", "image", "deployment/web", "web=registry.example.com/web:2"],
            &["scale", "deployment", "web", "--replicas=0"],
        ] {
            check_shut(&kubectl.run(args), "gate");
        }
        check_shut(&kubectl.run_with_input(&["apply", "-f", "-"], &config_map("settings", "mine")), "gate");
        check_shut(&cluster.kubectl(person).run(&["-n", "shop", "create", "configmap", "another"]), "label-gate");
    }
    let admin = cluster.kubectl("admin");
    for args in [
        &["create", "namespace", "prod-brought"][..],
        &["delete", "namespace", "prod-gone"],
        &["label", "namespace", "shop", "breakglass.dev/environment-"],
    ] {
        check_shut(&admin.run(args), "namespace");
    }
    for args in [&["open", "INC-462", "-n", "prod-gone", "--reason", "r"][..], &["close", "INC-461"]] {
        assert_eq!(cluster.plugin("alice").run(args).status, 1, "{args:?}");
    }
    let settings = cluster.kubectl("alice").json(&["-n", "prod-gone", "get", "configmaps,deployments"]);
    let left: Vec<&Value> =
        settings["items"].as_array().unwrap().iter().map(|item| &item["metadata"]["name"]).collect();
    assert_eq!(left, ["kube-root-ca.crt", "settings", "web"]);
}

/// R-02: with no webhook, what keeps a cluster alive is written as ever: kube-system, the leases of nodes, nodes, events and
/// leases in prod too, our own namespace, dev, and what lives in no namespace.
#[test]
fn the_rest_of_the_cluster_is_open() {
    let cluster = away();
    let admin = cluster.kubectl("admin");
    for namespace in ["kube-system", HOME, "dev-gone", "default"] {
        let kubectl = admin.clone().namespace(namespace);
        kubectl.ok_with_input(&["create", "-f", "-"], &config_map("open", "one"));
        kubectl.ok_with_input(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &config_map("open", "two"));
        kubectl.ok(&["label", "configmap", "open", "tier=one"]);
        kubectl.ok(&["create", "secret", "generic", "open", "--from-literal=a=b"]);
        kubectl.ok(&["delete", "configmap/open", "secret/open"]);
    }
    // Whoever repairs us must be able to.
    let home = admin.clone().namespace(HOME);
    let image = "webhook=registry.example.com/breakglass-webhook:2";
    for args in [
        &["set", "image", "deployment/breakglass-webhook", image][..],
        &["scale", "deployment/breakglass-webhook", "--replicas=3"],
        &["rollout", "restart", "deployment/breakglass-webhook"],
    ] {
        home.ok(args);
    }

    let lease = |namespace: &str, name: &str| {
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": name, "namespace": namespace}, "spec": {"holderIdentity": name}})
        .to_string()
    };
    let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "web.1", "namespace": "prod-gone"},
        "involvedObject": {"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "prod-gone", "name": "web"},
        "reason": "Said", "message": "something", "type": "Normal"});
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "away-node"}});
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "away"}, "rules": []});
    for object in [
        lease("kube-node-lease", "away-node"),
        lease("prod-gone", "leader"),
        event.to_string(),
        node.to_string(),
        role.to_string(),
    ] {
        admin.ok_with_input(&["create", "-f", "-"], &object);
    }
    let kubelet = ["--as", "system:node:away-node", "--as-group", "system:nodes", "--as-group", "system:masters"];
    let renew = r#"{"spec": {"leaseDurationSeconds": 40}}"#;
    let ready = r#"{"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]}}"#;
    for args in [
        &["-n", "kube-node-lease", "patch", "lease", "away-node", "--type=merge", "-p", renew][..],
        &["patch", "node", "away-node", "--subresource=status", "--type=merge", "-p", ready],
    ] {
        admin.ok(&[args, &kubelet].concat());
    }
    admin.ok(&["-n", "prod-gone", "patch", "lease", "leader", "--type=merge", "-p", renew]);
    admin.ok(&["-n", "prod-gone", "delete", "lease/leader", "event/web.1"]);
    admin.ok(&["delete", "node/away-node", "clusterrole/away"]);
}

/// R-25: with no webhook, what makes a network and names comes up in kube-system: an admin applies it, controllers make its
/// Pods, a scheduler binds them, and what is lost is made again.
#[test]
fn what_a_cluster_needs_to_come_up_comes_up() {
    let cluster = away();
    let kubectl = cluster.kubectl("admin").namespace("kube-system");
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "first"}});
    kubectl.ok_with_input(&["create", "-f", "-"], &node.to_string());
    let template = |name: &str| {
        json!({"metadata": {"labels": {"app": name}}, "spec": {"hostNetwork": true, "priorityClassName": "system-node-critical",
            "containers": [{"name": name, "image": format!("registry.example.com/{name}:1")}]}})
    };
    for (kind, name) in [("DaemonSet", "cni"), ("DaemonSet", "kube-proxy"), ("Deployment", "coredns")] {
        let object = json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name},
            "spec": {"selector": {"matchLabels": {"app": name}}, "template": template(name)}});
        kubectl.ok_with_input(&["apply", "-f", "-"], &object.to_string());
    }
    let pod = |app: &str, but: &str| {
        wait_until(&format!("a Pod of {app}"), LIMIT, || {
            let names = kubectl.ok(&["get", "pods", "-l", &format!("app={app}"), "-o", "name"]);
            let found = names.lines().find(|name| *name != but).map(str::to_owned);
            found.ok_or_else(|| format!("only {names:?}"))
        })
        .unwrap()
    };
    for app in ["cni", "kube-proxy", "coredns"] {
        let first = pod(app, "");
        kubectl.ok(&["delete", &first, "--force", "--grace-period=0"]);
        pod(app, &first);
    }
    let name = pod("coredns", "").trim_start_matches("pod/").to_owned();
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "first"}});
    let path = format!("/api/v1/namespaces/kube-system/pods/{name}/binding");
    kubectl.ok_with_input(&["create", "--raw", &path, "-f", "-"], &binding.to_string());
    let running = r#"{"status": {"phase": "Running"}}"#;
    kubectl.ok(&["patch", "pod", &name, "--subresource=status", "--type=merge", "-p", running]);
}

/// R-29: with no webhook, who somebody is and what they may do is still answered, about prod and in prod.
#[test]
fn who_is_who_is_still_answered() {
    let cluster = away();
    let admin = cluster.kubectl("admin");
    // A token to ask about: of a service account that nobody guards.
    let token = admin.ok(&["-n", "dev-gone", "create", "token", "default"]);
    let create = |namespace: &str, object: &Value| -> Value {
        let made = admin.ok_with_input(&["-n", namespace, "create", "-f", "-", "-o", "json"], &object.to_string());
        serde_json::from_str(&made).unwrap()
    };
    let review =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token.trim()}});
    let reviewed = create("default", &review);
    assert_eq!(reviewed["status"]["user"]["username"], "system:serviceaccount:dev-gone:default");

    let wish = json!({"namespace": "prod-gone", "verb": "create", "resource": "configmaps"});
    for kind in ["SubjectAccessReview", "LocalSubjectAccessReview"] {
        for (user, allowed) in [("alice@example.com", true), ("carol@example.com", false)] {
            let mut review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": kind,
                "spec": {"user": user, "resourceAttributes": wish}});
            if kind == "LocalSubjectAccessReview" {
                review["metadata"] = json!({"namespace": "prod-gone"});
            }
            assert_eq!(create("prod-gone", &review)["status"]["allowed"], allowed, "{kind} of {user}");
        }
    }
    assert_eq!(cluster.kubectl("alice").ok(&["-n", "prod-gone", "auth", "can-i", "create", "pods"]), "yes\n");
    assert!(cluster.kubectl("alice").ok(&["auth", "whoami"]).contains("alice@example.com"));
}

/// The events of the audit log that `wanted` picks.
fn audited(cluster: &Cluster, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
    let log = std::fs::read_to_string(cluster.directory().join("logs/audit.log")).unwrap();
    let events = log.lines().filter_map(|line| serde_json::from_str(line).ok());
    events.filter(|event: &Value| event["stage"] == "ResponseComplete" && wanted(event)).collect()
}

/// K-14: with no webhook, the command that the README names writes to prod: for a cluster admin, for nobody else, and the
/// audit log says who it was and by which way.
#[test]
fn the_last_resort_works_for_an_admin_and_leaves_evidence() {
    let cluster = away();
    let readme = include_str!("../../README.md");
    let start = readme.find("kubectl --as admin ").expect("the README names no last resort");
    let command = readme[start..].split('`').next().unwrap();
    assert!(command.ends_with(" apply -f hotfix.yaml"), "{command}");
    let home = cluster.directory().join("home");
    std::fs::write(home.join("hotfix.yaml"), config_map("hotfix", "now")).unwrap();
    let run = |person: &str, command: &str| {
        cluster.kubectl(person).program("/bin/sh".as_ref()).current_dir(&home).run(&["-c", command])
    };

    for person in ["alice", "carol"] {
        // What kubectl asks before it writes, they may not ask either.
        let refused = run(person, &format!("{command} --validate=false"));
        assert!(refused.stderr.contains("cannot impersonate"), "{person}: {refused}");
    }
    assert_eq!(cluster.kubectl("alice").ok(&["-n", "prod", "get", "configmap", "hotfix", "--ignore-not-found"]), "");
    let ran = run("admin", command);
    assert_eq!((ran.status, ran.stdout.as_str()), (0, "configmap/hotfix created\n"), "{ran}");
    assert!(stamp(&cluster.kubectl("admin").json(&["-n", "prod", "get", "configmap", "hotfix"])).is_empty());

    let event = wait_until("the evidence", LIMIT, || {
        let mut events = audited(&cluster, |event| {
            event["objectRef"]["name"] == "hotfix"
                && event["objectRef"]["namespace"] == "prod"
                && event["verb"] != "get"
        });
        events.retain(|event| event["responseStatus"]["code"] == 201);
        events.pop().ok_or_else(|| "none".to_owned())
    })
    .unwrap();
    assert_eq!(event["user"]["username"], "admin");
    let groups = event["impersonatedUser"]["groups"].as_array().unwrap();
    assert!(groups.contains(&json!("breakglass.dev:override")), "{event:#}");
}

/// R-24, R-29, R-02: everything is gone at once: the webhook, its Pods and the controllers. With the controllers, which need
/// tokens to come back, come new Pods of the webhook; with the webhook comes prod, and nobody has deleted anything.
#[test]
fn a_cold_cluster_comes_back_by_itself() {
    let mut cluster = own("cold");
    cluster.namespace("prod-cold");
    cluster.open("alice", "INC-463", "prod-cold");
    let alice = cluster.kubectl("alice").namespace("prod-cold");
    let admin = cluster.kubectl("admin");
    let pods = || -> Vec<String> {
        let names = admin.ok(&["-n", HOME, "get", "pods", "-l", "app.kubernetes.io/name=breakglass", "-o", "name"]);
        names.lines().map(str::to_owned).collect()
    };
    let lost = pods();
    assert_eq!(lost.len(), 2, "{lost:?}");

    cluster.webhook().kill();
    admin.ok(&["-n", HOME, "delete", "pods", "--all", "--force", "--grace-period=0"]);
    check_shut(&alice.run(&["create", "configmap", "settings"]), "gate");
    let tokens = |cluster: &Cluster| {
        audited(cluster, |event| {
            event["objectRef"]["subresource"] == "token"
                && event["user"]["username"] == "system:kube-controller-manager"
                && event["responseStatus"]["code"] == 201
        })
        .len()
    };
    let before = tokens(&cluster);
    cluster.restart_controller_manager().unwrap();
    wait_until("two new Pods of the webhook", LIMIT, || match pods() {
        made if made.len() == 2 && made.iter().all(|pod| !lost.contains(pod)) => Ok(()),
        made => Err(format!("{made:?}, after {lost:?}")),
    })
    .unwrap();
    wait_until("the controllers to come back with tokens of their own", LIMIT, || {
        let now = tokens(&cluster);
        if now > before { Ok(()) } else { Err(format!("{now} tokens")) }
    })
    .unwrap();
    check_shut(&alice.run(&["create", "configmap", "settings"]), "gate");

    let webhook = cluster.webhook().reborn(&admin).unwrap();
    webhook.start().unwrap();
    alice.ok(&["create", "configmap", "settings"]);
    let refused = cluster.kubectl("bob").namespace("prod-cold").run(&["delete", "configmap", "settings"]);
    check_refused(&refused, "configmaps \"settings\" (delete) by bob@example.com", "-n prod-cold");
    webhook.stop().unwrap();
}
