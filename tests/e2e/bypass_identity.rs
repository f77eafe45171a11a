//! Whoever is exempt is exempt for what proves it: a name, a pod, a namespace or a token alone is not enough.

use serde_json::{Value, json};
use tests::client::Client;
use tests::record::config_map;
use tests::users::Login;
use tests::{Cluster, Kubectl, wait_until};

use crate::{LIMIT, check_refused};

const POD_NAME: &str = "impersonate-extra-authentication.kubernetes.io%2Fpod-name";
const CREDENTIAL: &str = "impersonate-extra-authentication.kubernetes.io%2Fcredential-id";
const UID: &str = "impersonate-uid";
const GROUP: &str = "impersonate-group";

const FLUX: &str = "system:serviceaccount:flux-system:kustomize-controller";
const CONTROLLER: &str = "system:serviceaccount:kube-system:deployment-controller";
const OURS: &str = "system:serviceaccount:breakglass-system:breakglass-webhook";

/// S-09: an admin who says to be somebody exempt, with any part of the proof but the whole of it, is asked for a token; so is
/// one whose groups only look like the one that skips us.
#[test]
fn saying_to_be_somebody_exempt_is_not_enough() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-said");
    let accounts = [FLUX, "system:serviceaccount:flux-system:helm-controller", CONTROLLER, OURS];
    let mut claims: Vec<(&str, Vec<(&str, &str)>)> = Vec::new();
    for account in accounts {
        claims.push((account, vec![]));
        claims.push((account, vec![(UID, "7")]));
        claims.push((account, vec![(POD_NAME, "kustomize-controller-0")]));
        claims.push((account, vec![(CREDENTIAL, "JTI=7"), (POD_NAME, "kustomize-controller-0")]));
        claims.push((account, vec![(UID, "7"), (POD_NAME, "")]));
        claims.push((account, vec![(UID, "7"), (CREDENTIAL, ""), (GROUP, "system:serviceaccounts:kube-system")]));
    }
    for (user, group) in [
        ("system:node:n1", "system:nodes"),
        ("system:kube-scheduler", "system:nodes"),
        ("system:kube-controller-manager", "system:authenticated"),
        ("system:cloud-controller-manager", "system:serviceaccounts"),
    ] {
        claims.push((user, vec![(GROUP, group)]));
        claims.push((user, vec![(GROUP, group), (UID, "7")]));
        claims.push((user, vec![(GROUP, group), (UID, "7"), (CREDENTIAL, "")]));
    }
    claims.push(("system:node:n1", vec![(CREDENTIAL, "X509SHA256=7")]));
    claims.push(("n1", vec![(GROUP, "system:nodes"), (CREDENTIAL, "X509SHA256=7")]));
    claims.push(("system:apiserver", vec![(CREDENTIAL, "JTI=7")]));
    for group in ["system:masters", "Breakglass.dev:override", "breakglass.dev:overrides", "xbreakglass.dev:override"] {
        claims.push(("admin", vec![(GROUP, group), (UID, "7"), (CREDENTIAL, "JTI=7"), (POD_NAME, "x")]));
    }
    for (user, proof) in claims {
        let mut headers = vec![("impersonate-user", user), (GROUP, "system:masters")];
        headers.extend(&proof);
        let client = Client::new(&cluster.kubectl("admin"), &headers).unwrap();
        let object: Value = serde_json::from_str(&config_map("settings", "one")).unwrap();
        let answer = client.json("POST", "/api/v1/namespaces/prod-said/configmaps", &object).unwrap();
        let says =
            format!("prod is run by GitOps: configmaps \"settings\" (create) by {user} needs a break-glass token");
        assert!(answer.status == 403 && answer.message().contains(&says), "{user} {proof:?}: {answer:?}");
    }
}

/// Lets a service account edit a namespace, as far as RBAC goes.
fn let_edit(cluster: &Cluster, (namespace, name): (&str, &str), prod: &str) {
    let binding = format!("{namespace}-{name}");
    let account = format!("--serviceaccount={namespace}:{name}");
    let args = ["-n", prod, "create", "rolebinding", &binding, "--clusterrole=edit", &account];
    cluster.set_scene(&args, "");
    let user = format!("system:serviceaccount:{namespace}:{name}");
    wait_until("the account's right to write", LIMIT, || {
        let args = ["-n", prod, "auth", "can-i", "create", "configmaps", "--as", &user];
        cluster.kubectl("admin").try_ok(&args, "").map(drop).map_err(|error| format!("{error:#}"))
    })
    .unwrap();
}

#[track_caller]
fn check_account(robot: &Kubectl, user: &str, namespace: &str) {
    let refused = robot.run(&["-n", namespace, "create", "configmap", "by-robot"]);
    check_refused(&refused, &format!("configmaps \"by-robot\" (create) by {user}"), &format!("-n {namespace}"));
}

/// S-09: an account of an exempt one's name in another namespace, one whose Pod is no process of the control plane, and a
/// token without a Pod or without an id are nobody special.
#[test]
fn a_name_a_pod_or_a_token_is_not_the_whole_of_it() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-robots");
    cluster.namespace("dev-robots");
    // An engine's name, elsewhere.
    let same_name = cluster.robot("dev-robots", "kustomize-controller");
    let_edit(cluster, ("dev-robots", "kustomize-controller"), "prod-robots");
    check_account(&same_name, "system:serviceaccount:dev-robots:kustomize-controller", "prod-robots");

    // A controller's account that somebody runs a Pod as: the controllers have none.
    let in_a_pod = cluster.robot("kube-system", "deployment-controller");
    let_edit(cluster, ("kube-system", "deployment-controller"), "prod-robots");
    check_account(&in_a_pod, CONTROLLER, "prod-robots");

    // A token that was minted for an engine's account and is bound to no Pod.
    let token = cluster.set_scene(&["-n", "flux-system", "create", "token", "kustomize-controller"], "");
    let unbound = cluster.login("unbound-engine", &Login::Token(token.trim().to_owned()));
    check_account(&unbound, FLUX, "prod-robots");

    // A token of the old kind, which is a Secret: it has no id, and is bound to nothing.
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {"name": "old-token", "annotations": {"kubernetes.io/service-account.name": "deployment-controller"}}});
    cluster.kubectl("admin").ok_with_input(&["-n", "kube-system", "create", "-f", "-"], &secret.to_string());
    let token = wait_until("the Secret to be filled", LIMIT, || {
        let path = "go-template={{with .data.token}}{{. | base64decode}}{{end}}";
        let token = cluster.kubectl("admin").ok(&["-n", "kube-system", "get", "secret", "old-token", "-o", path]);
        if token.is_empty() { Err("no token yet".to_owned()) } else { Ok(token) }
    })
    .unwrap();
    let old = cluster.login("old-token", &Login::Token(token));
    check_account(&old, CONTROLLER, "prod-robots");
}

/// S-09: nobody runs anything as an engine or as us: what would make a Pod in their namespaces needs a token of that
/// environment, and so does a Secret that would hold a token of theirs.
#[test]
fn nothing_is_run_as_an_exempt_account() {
    let cluster = Cluster::shared();
    let admin = cluster.kubectl("admin");
    for (namespace, account) in [("flux-system", "kustomize-controller"), ("breakglass-system", "breakglass-webhook")] {
        // Nothing that somebody else's admission would refuse.
        let container = json!({"name": "main", "image": "registry.example.com/x:1",
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}});
        let pod = json!({"serviceAccountName": account, "containers": [container],
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}});
        let mut once = pod.clone();
        once["restartPolicy"] = json!("Never");
        let labels = json!({"app": "borrowed"});
        let template = json!({"metadata": {"labels": labels}, "spec": pod});
        let annotation = json!({"kubernetes.io/service-account.name": account});
        for (version, kind, resource, fields) in [
            ("v1", "Pod", "pods", json!({"spec": pod})),
            (
                "apps/v1",
                "Deployment",
                "deployments.apps",
                json!({"spec": {"selector": {"matchLabels": labels}, "template": template}}),
            ),
            ("batch/v1", "Job", "jobs.batch", json!({"spec": {"template": {"spec": once}}})),
            (
                "batch/v1",
                "CronJob",
                "cronjobs.batch",
                json!({"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": {"spec": once}}}}}),
            ),
            (
                "v1",
                "Secret",
                "secrets",
                json!({"type": "kubernetes.io/service-account-token", "metadata": {"annotations": annotation}}),
            ),
        ] {
            let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "borrowed"}});
            json_patch::merge(&mut object, &fields);
            let ran = admin.run_with_input(&["-n", namespace, "create", "-f", "-"], &object.to_string());
            let says = format!(
                "platform is run by GitOps: {resource} \"borrowed\" (create) by admin needs a break-glass token"
            );
            assert!(ran.refusal().starts_with(&says), "{ran}");
            assert!(ran.refusal().ends_with(&format!(" open <incident> -n {namespace} --reason \"…\"")), "{ran}");
        }
    }
}

/// S-10: what people run in dev, and lets its own account write to prod, is refused as that account; that somebody else's
/// Pod, Job or CronJob runs it makes no difference.
#[test]
fn what_runs_in_dev_does_not_write_to_prod() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-laundered");
    cluster.namespace("dev-laundry");
    let alice = cluster.kubectl("alice").namespace("dev-laundry");
    // In dev she may run what she likes, as whatever account there is.
    alice.ok(&["create", "serviceaccount", "runner"]);
    let_edit(cluster, ("dev-laundry", "runner"), "prod-laundered");
    let runner = cluster.robot("dev-laundry", "runner");
    runner.ok(&["auth", "can-i", "create", "configmaps", "-n", "prod-laundered"]);
    let user = "system:serviceaccount:dev-laundry:runner";
    check_account(&runner, user, "prod-laundered");
    // Nor does it borrow the token of who made it.
    cluster.open("alice", "INC-515", "prod-laundered");
    check_account(&runner, user, "prod-laundered");
    alice.ok(&["-n", "prod-laundered", "create", "configmap", "by-alice"]);
}
