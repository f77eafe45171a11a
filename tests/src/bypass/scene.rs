//! What is there before the first request: namespaces, an object of every kind in each, and logins.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::kind::Kind;
use super::make::{ENDING_OBJECT, NODE, OBJECT};
use super::place::{ENDING, FULL, LABELLED, LOOK_ALIKE, OPEN, OTHERS, UNDER_TOKEN};
use crate::Cluster;
use crate::kubectl::Kubectl;
use crate::users::Login;
use crate::wait::wait_until;

/// A kind that is served in two versions.
const GADGETS: &str = include_str!("gadgets.yaml");

const LIMIT: Duration = Duration::from_secs(60);

/// Sets the scene, as an admin whom nobody asks for a token.
///
/// # Errors
/// When the API server does not take it.
pub(super) fn set(cluster: &Cluster) -> Result<BTreeMap<&'static str, Kubectl>> {
    let admin = cluster.kubectl("admin");
    let apply = |documents: &[Value]| {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": documents}).to_string();
        cluster.set_scene(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &list);
    };
    cluster.set_scene(&["apply", "--server-side", "-f", "-"], GADGETS);
    let established = ["wait", "--for=condition=Established", "--timeout=60s", "crd/gadgets.fuzz.example.com"];
    admin.try_ok(&established, "")?;
    apply(&namespaces());
    apply(&rights());
    for namespace in places() {
        let wait = ["-n", namespace, "wait", "--for=create", "serviceaccount/default", "--timeout=60s"];
        admin.try_ok(&wait, "").context("without its service account no Pod is let in")?;
        apply(&objects(namespace));
        cluster.set_scene(&["-n", namespace, "delete", "configmap", ENDING_OBJECT, "--wait=false"], "");
    }
    apply(&[json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})]);
    cluster.set_scene(&["delete", "namespace", ENDING, "--wait=false"], "");
    // All else that was in it is gone by then.
    let left = ["wait", "--for=condition=NamespaceFinalizersRemaining", "--timeout=60s", "namespace", ENDING];
    admin.try_ok(&left, "")?;
    logins(cluster)
}

/// Where there is an object of every kind.
fn places() -> impl Iterator<Item = &'static str> {
    FULL.into_iter().chain(OPEN).chain([OTHERS[0], ENDING])
}

fn namespaces() -> Vec<Value> {
    let labels = |name: &str| match name {
        LABELLED => json!({"breakglass.dev/environment": "prod"}),
        LOOK_ALIKE => json!({"environment": "prod", "breakglass.dev/env": "prod", "breakglass.dev/environment": "Prod",
            "kubernetes.io/metadata.name": "prod"}),
        _ => json!({}),
    };
    let namespace = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels(name)}});
    places().chain([UNDER_TOKEN]).map(namespace).collect()
}

/// So that it is never RBAC alone that holds them back.
fn rights() -> Vec<Value> {
    let user = |name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name});
    let account =
        |(namespace, name): (&str, &str)| json!({"kind": "ServiceAccount", "namespace": namespace, "name": name});
    let mut subjects: Vec<Value> = ["alice@example.com", "bob@example.com"].map(user).into();
    subjects.extend([("dev", "kustomize-controller"), ("kube-system", "deployment-controller")].map(account));
    vec![
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "fuzz"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": subjects}),
    ]
}

/// An object of every kind, and one that is to be deleted and will not go.
pub(super) fn objects(namespace: &str) -> Vec<Value> {
    let metadata = |name: &str| json!({"name": name, "namespace": namespace, "labels": {"fuzz": "yes"}, "annotations": {"fuzz": "scene"}});
    let object = |kind: &Kind| {
        let mut object = json!({"apiVersion": kind.group_version, "kind": kind.kind, "metadata": metadata(OBJECT)});
        json_patch::merge(&mut object, &kind.stub(namespace));
        object
    };
    let mut ending = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(ENDING_OBJECT)});
    ending["metadata"]["finalizers"] = json!(["example.com/fuzz"]);
    Kind::all().iter().filter(|kind| !kind.cluster).map(object).chain([ending]).collect()
}

/// The kubeconfigs of everybody who writes without saying to be somebody else.
fn logins(cluster: &Cluster) -> Result<BTreeMap<&'static str, Kubectl>> {
    let mut logins: BTreeMap<_, _> =
        ["admin", "alice", "bob", "carol"].into_iter().map(|person| (person, cluster.kubectl(person))).collect();
    // The engine's name in another namespace, with a Pod behind it.
    logins.insert("same-name", cluster.robot("dev", "kustomize-controller"));
    // A controller's own name, with a Pod behind it: the controllers have none.
    logins.insert("in-a-pod", cluster.robot("kube-system", "deployment-controller"));
    // The engine's own name, with no Pod behind it.
    let token = cluster.set_scene(&["-n", "flux-system", "create", "token", "kustomize-controller"], "");
    logins.insert("unbound", cluster.login("unbound", &Login::Token(token.trim().to_owned())));
    for (login, user) in [
        ("certificate-account", "system:serviceaccount:flux-system:kustomize-controller"),
        ("certificate-node", "system:node:n1"),
        ("certificate-component", "system:kube-scheduler2"),
    ] {
        logins.insert(login, cluster.part(user, "system:masters"));
    }
    Ok(logins)
}

/// How many looks in a row have to see the same.
const SAME: usize = 8;

/// Waits until nothing in the guarded namespaces changes by itself any more, and gives what is there.
///
/// # Errors
/// When it goes on changing.
pub(super) fn settled<T: PartialEq>(mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let (mut last, mut same) = (None, 0);
    wait_until("the scene to come to rest", LIMIT, || {
        let now = look().map_err(|error| format!("{error:#}"))?;
        same = if last.as_ref() == Some(&now) { same + 1 } else { 0 };
        if same == SAME {
            return Ok(now);
        }
        last = Some(now);
        Err("it changes".to_owned())
    })
}
