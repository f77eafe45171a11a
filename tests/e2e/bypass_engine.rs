//! What tells an engine what to apply deploys to production from wherever it lives: an engine's own objects, their status, and
//! tokens of whoever is exempt.

use std::sync::Arc;

use serde_json::{Value, json};
use tests::http::{JSON, MERGE, refused};
use tests::record::{config_map, stamp};
use tests::{Cluster, Http, Together, wait_until};

use crate::bypass::check_gated;
use crate::{LIMIT, check_refused};

/// A cluster in which `sandbox-*` may have engine objects of its own, objects with a label are exempt where that is honoured,
/// and Argo CD's kind is known.
pub(crate) fn cluster() -> Arc<Cluster> {
    static CLUSTER: Together = Together::new(|| {
        let cluster = Cluster::own("engines");
        let spec = json!({"engineObjects": {"exceptNamespaces": ["sandbox-*"]},
            "exempt": [{"name": "caches", "reason": "a test", "labels": {"tier": "cache"}}]});
        let policy = json!({"apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassPolicy",
            "metadata": {"name": "default"}, "spec": spec});
        for plural in ["applications", "workflows"] {
            cluster.kubectl("admin").ok_with_input(&["create", "-f", "-"], &definition(plural).to_string());
            let crd = format!("crd/{plural}.argoproj.io");
            cluster.kubectl("admin").ok(&["wait", "--for=condition=Established", "--timeout=60s", &crd]);
        }
        cluster.kubectl("admin").ok_with_input(&["apply", "-f", "-"], &policy.to_string());
        for namespace in ["team-a", "sandbox-a", "prod-cache", "team-cache"] {
            cluster.namespace(namespace);
        }
        let sandbox = ["-n", "sandbox-a", "create", "--dry-run=server", "-f", "-"];
        wait_until("the policy to be in force", LIMIT, || {
            let ran = cluster.kubectl("admin").run_with_input(&sandbox, &kustomization("probe").to_string());
            if ran.status == 0 && ran.warnings().is_empty() { Ok(()) } else { Err(ran.to_string()) }
        })
        .unwrap();
        cluster
    });
    CLUSTER.get()
}

fn definition(plural: &str) -> Value {
    let kind = plural.trim_end_matches('s').to_uppercase();
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.argoproj.io"), "annotations": {"api-approved.kubernetes.io": "unapproved"}},
        "spec": {"group": "argoproj.io", "scope": "Namespaced", "names": {"plural": plural, "kind": kind},
            "versions": [{"name": "v1alpha1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
                {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}})
}

fn kustomization(name: &str) -> Value {
    json!({"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "metadata": {"name": name},
        "spec": {"suspend": true, "interval": "1h", "prune": true, "targetNamespace": "prod",
            "sourceRef": {"kind": "GitRepository", "name": "nothing"}}})
}

const KUSTOMIZATIONS: &str = "kustomizations.kustomize.toolkit.fluxcd.io";
const SUBJECT: &str = "kustomizations.kustomize.toolkit.fluxcd.io \"mine\"";

/// S-10: whoever writes an engine's object needs a token of the environment platform, whatever namespace it lives in, and
/// with one is let in and on record; where the policy says that it cannot reach production, the namespace's rules hold.
#[test]
fn an_engines_object_needs_a_token_of_platform_wherever_it_lives() {
    let cluster = cluster();
    let admin = Http::new(&cluster.kubectl("admin"), "bypass/1");
    let path = |namespace: &str| format!("/apis/kustomize.toolkit.fluxcd.io/v1/namespaces/{namespace}/kustomizations");
    let mine = kustomization("mine").to_string();
    let check = |answer: kube::Result<Value>, verb: &str| {
        check_gated(answer, ("platform", &format!("{SUBJECT} ({verb}) by admin"), "--environment platform"));
    };
    for namespace in ["team-a", "dev", "prod", "flux-system", "default"] {
        check(admin.send("POST", &path(namespace), &mine), "create");
    }
    cluster.set_scene(&["-n", "team-a", "create", "-f", "-"], &mine);
    let object = format!("{}/mine", path("team-a"));
    let resume = json!({"spec": {"suspend": false}});
    check(admin.patch(MERGE, &object, &resume), "update");
    check(admin.patch(JSON, &object, &json!([{"op": "replace", "path": "/spec/suspend", "value": false}])), "update");
    check(admin.patch(MERGE, &object, &json!({"metadata": {"finalizers": null}})), "update");
    check(admin.send("DELETE", &object, ""), "delete");
    // A token of prod is for what is in prod.
    cluster.grant("alice@example.com", "team-a", &[("kustomize.toolkit.fluxcd.io", "kustomizations")]);
    cluster.plugin("alice").ok(&["open", "INC-520", "--environment", "prod", "--reason", "a test"]);
    let (code, message) = refused(Http::new(&cluster.kubectl("alice"), "bypass/1").patch(MERGE, &object, &resume));
    let says = format!("platform is run by GitOps: {SUBJECT} (update) by alice@example.com needs a break-glass token");
    assert!(code == 403 && message.contains(&says), "{message}");

    for (group, plural, kind) in
        [("argoproj.io/v1alpha1", "applications", "APPLICATION"), ("argoproj.io/v1alpha1", "workflows", "WORKFLOW")]
    {
        let body = json!({"apiVersion": group, "kind": kind, "metadata": {"name": "mine"}}).to_string();
        let answer = admin.send("POST", &format!("/apis/{group}/namespaces/team-a/{plural}"), &body);
        if plural == "applications" {
            let subject = "applications.argoproj.io \"mine\" (create) by admin";
            check_gated(answer, ("platform", subject, "--environment platform"));
        } else {
            assert_eq!(stamp(&answer.unwrap())["state"], "noted", "Argo's other projects deploy nothing");
        }
    }
    let sandboxed = admin.send("POST", &path("sandbox-a"), &mine).unwrap();
    assert_eq!(stamp(&sandboxed)["state"], "noted");

    // alice may write them by RBAC in no namespace; bob, whom somebody let, opens what the refusal says.
    cluster.grant("bob@example.com", "team-a", &[("kustomize.toolkit.fluxcd.io", "kustomizations")]);
    let bob = cluster.kubectl("bob").namespace("team-a");
    let suspend = ["patch", KUSTOMIZATIONS, "mine", "--type=merge", "-p", r#"{"spec": {"interval": "2h"}}"#];
    assert!(
        bob.run(&suspend)
            .refusal()
            .starts_with(&format!("platform is run by GitOps: {SUBJECT} (update) by bob@example.com"))
    );
    cluster.plugin("bob").ok(&["open", "INC-521", "--environment", "platform", "--reason", "a test"]);
    bob.ok(&suspend);
    let [change] = &cluster.changes("INC-521")[..] else { panic!("one write is one change") };
    assert_eq!(
        (&change["spec"]["environment"], &change["spec"]["target"]["namespace"]),
        (&json!("platform"), &json!("team-a"))
    );
    cluster.plugin("bob").ok(&["close", "INC-521"]);
}

/// S-09: an engine's other controllers, with the proof that they are, keep the engine's objects and are nobody elsewhere.
#[test]
fn a_keeper_of_engine_objects_keeps_those_alone() {
    let cluster = cluster();
    let source = cluster.kubectl("source");
    let keep = [
        "-n",
        "flux-system",
        "annotate",
        "gitrepositories.source.toolkit.fluxcd.io",
        "fleet",
        "kept=yes",
        "--overwrite",
    ];
    let kept = source.run(&keep);
    assert_eq!((kept.status, kept.stderr.as_str()), (0, ""), "{kept}");
    let object = cluster.kubectl("admin").json(&[
        "-n",
        "flux-system",
        "get",
        "gitrepositories.source.toolkit.fluxcd.io",
        "fleet",
    ]);
    assert!(stamp(&object).is_empty());
    let elsewhere = source.run_with_input(&["-n", "prod", "create", "-f", "-"], &config_map("kept", "one"));
    let subject = "configmaps \"kept\" (create) by system:serviceaccount:flux-system:source-controller";
    check_refused(&elsewhere, subject, "-n prod");
    // By its name alone it is nobody here either.
    let named = [
        "--as",
        "system:serviceaccount:flux-system:source-controller",
        "--as-group",
        "system:masters",
        "--as-uid",
        "7",
    ];
    let refused = cluster.kubectl("admin").run(&[&keep[..], &named[..]].concat());
    assert!(
        refused.refusal().starts_with("platform is run by GitOps: gitrepositories.source.toolkit.fluxcd.io \"fleet\"")
    );
}

/// S-09: the status of an engine's object says what it applies and what it takes away: that is its own controllers' to write,
/// and not any service account's that RBAC lets.
#[test]
fn the_status_of_an_engines_object_is_its_controllers_to_write() {
    let cluster = cluster();
    let robot = cluster.robot("team-a", "tenant");
    let kinds = [
        ("source.toolkit.fluxcd.io", "gitrepositories/status"),
        ("kustomize.toolkit.fluxcd.io", "kustomizations/status"),
    ];
    cluster.grant("system:serviceaccount:team-a:tenant", "flux-system", &kinds);
    let tenant = Http::new(&robot, "bypass/1");
    // Where Flux gets what it applies; and what it takes for its own, and deletes when Git does not have it.
    let artifact = json!({"status": {"artifact": {"url": "http://127.0.0.1:1/mine.tar.gz", "revision": "main@sha1:7", "path": "mine",
        "digest": "sha256:7", "lastUpdateTime": "2026-01-01T00:00:00Z"}}});
    let inventory = json!({"status": {"inventory": {"entries": [{"id": "prod_api-settings__ConfigMap", "v": "v1"}]}}});
    for (group, plural, name, edit) in [
        ("source.toolkit.fluxcd.io", "gitrepositories", "fleet", artifact),
        ("kustomize.toolkit.fluxcd.io", "kustomizations", "prod", inventory),
    ] {
        let path = format!("/apis/{group}/v1/namespaces/flux-system/{plural}/{name}/status");
        // Nothing of it is kept, for what comes after.
        let answer = tenant.patch(MERGE, &format!("{path}?dryRun=All"), &edit);
        assert!(answer.is_ok(), "a dry run is let through: {answer:?}");
        let subject = format!("{plural}.{group}/status \"{name}\" (update) by system:serviceaccount:team-a:tenant");
        check_gated(tenant.patch(MERGE, &path, &edit), ("platform", &subject, "--environment platform"));
    }
}

/// S-13: a label exempts nothing where a token is needed, also where the policy says that it exempts.
#[test]
fn a_label_that_the_policy_exempts_by_is_not_honoured_in_prod() {
    let cluster = cluster();
    let admin = cluster.kubectl("admin");
    let mut object: Value = serde_json::from_str(&config_map("cache", "one")).unwrap();
    object["metadata"]["labels"] = json!({"tier": "cache"});
    let create = |namespace: &str| admin.run_with_input(&["-n", namespace, "create", "-f", "-"], &object.to_string());
    check_refused(&create("prod-cache"), "configmaps \"cache\" (create) by admin", "-n prod-cache");
    assert_eq!(create("team-cache").status, 0);
    assert!(stamp(&admin.json(&["-n", "team-cache", "get", "configmap", "cache"])).is_empty(), "exempt in dev");
    // What has it already is not free either.
    cluster.set_scene(&["-n", "prod-cache", "create", "-f", "-"], &object.to_string());
    for (args, verb) in [
        (&["annotate", "configmap", "cache", "note=mine"][..], "update"),
        (&["label", "configmap", "cache", "tier-"], "update"),
        (&["delete", "configmap", "cache"], "delete"),
    ] {
        let ran = admin.clone().namespace("prod-cache").run(args);
        check_refused(&ran, &format!("configmaps \"cache\" ({verb}) by admin"), "-n prod-cache");
    }
}

/// S-09: a token of an account whose writes pass is given to nobody without a token of ours, neither in earnest nor as a
/// rehearsal, which would be a token all the same; and a token of any other account is.
#[test]
fn a_token_of_an_exempt_account_is_not_minted() {
    let cluster = cluster();
    let admin = Http::new(&cluster.kubectl("admin"), "bypass/1");
    let mint = |namespace: &str, account: &str, query: &str| {
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}});
        admin.send(
            "POST",
            &format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token{query}"),
            &body.to_string(),
        )
    };
    for (namespace, account) in [
        ("kube-system", "deployment-controller"),
        ("kube-system", "generic-garbage-collector"),
        ("flux-system", "kustomize-controller"),
        ("flux-system", "source-controller"),
        ("breakglass-system", "breakglass-webhook"),
    ] {
        let subject = format!("serviceaccounts/token \"{account}\" (create) by admin");
        for query in ["", "?fieldManager=kube-controller-manager", "?dryRun=All"] {
            check_gated(mint(namespace, account, query), ("platform", &subject, "--environment platform"));
        }
    }
    for (namespace, account) in
        [("kube-system", "default"), ("prod", "default"), ("flux-system", "default"), ("team-a", "default")]
    {
        let minted = mint(namespace, account, "").unwrap();
        assert!(minted["status"]["token"].is_string());
    }
    cluster.grant("alice@example.com", "flux-system", &[("", "serviceaccounts/token")]);
    cluster.plugin("alice").ok(&["open", "INC-522", "-n", "flux-system", "--reason", "a test"]);
    let alice = cluster.kubectl("alice").namespace("flux-system");
    assert!(alice.ok(&["create", "token", "source-controller"]).starts_with("eyJ"));
    let changes = cluster.changes("INC-522");
    let [change] = &changes[..] else { panic!("{changes:#?}") };
    assert_eq!(change["spec"]["target"]["name"], "source-controller");
    // What is on record says nothing of the token.
    assert!(!change.to_string().contains("eyJ"), "{change:#}");
}
