//! What a token is good for, and nothing else is: whose, where, and until when.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use tests::raw::Raw;
use tests::review::{dry_run, review};
use tests::{Cluster, Output, Together, wait_until};

use crate::{LIMIT, check_refused};

/// A namespace's pattern that a matcher which tries everything would never be done with.
const EVIL_GLOB: &str = "*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b";

/// The same for an incident's id.
const EVIL_PATTERN: &str = "^(([A-Za-z0-9]+)+-?)+$";

/// A cluster in which the namespaces `guarded-*` ask for approval first, and the policy has the two patterns above.
pub(crate) fn cluster() -> Arc<Cluster> {
    static CLUSTER: Together = Together::new(|| {
        let cluster = Cluster::own("token");
        let approval = json!({"approval": {"mode": "Before", "approvers": {"groups": ["approvers"]}}});
        let spec = json!({"incidentPattern": EVIL_PATTERN, "environments": [
            {"name": "evil", "namespaces": [EVIL_GLOB], "writes": "RequireToken"},
            {"name": "prod", "namespaces": ["prod", "prod-*"], "writes": "RequireToken"},
            {"name": "guarded", "namespaces": ["guarded-*"], "writes": "RequireToken", "token": approval},
            {"name": "platform", "namespaces": ["breakglass-system"], "writes": "RequireToken"},
            {"name": "dev", "namespaces": ["*"], "writes": "Stamp"}]});
        let policy = json!({"apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassPolicy",
            "metadata": {"name": "default"}, "spec": spec});
        cluster.kubectl("admin").ok_with_input(&["apply", "-f", "-"], &policy.to_string());
        cluster.namespace("guarded-first");
        let alice = cluster.kubectl("alice").namespace("guarded-first");
        wait_until("the policy to be in force", LIMIT, || {
            let ran = alice.run(&["create", "configmap", "probe", "--dry-run=server"]);
            if ran.warnings().is_empty() { Err(ran.to_string()) } else { Ok(()) }
        })
        .unwrap();
        cluster
    });
    CLUSTER.get()
}

/// A token as a document. What `spec` leaves out is that of a live token of alice for prod.
pub(crate) fn document(name: &str, spec: &Value) -> Value {
    let (incident, _) = name.rsplit_once('-').unwrap();
    let mut fields = json!({"incident": incident.to_uppercase(), "reason": "a test", "user": "alice@example.com",
        "environment": "prod", "openedAt": from_now(0), "expiresAt": from_now(60)});
    json_patch::merge(&mut fields, spec);
    json!({"apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassToken", "metadata": {"name": name},
        "spec": fields})
}

/// The time in so many minutes.
pub(crate) fn from_now(minutes: i64) -> String {
    (Utc::now() + TimeDelta::minutes(minutes)).format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Writes to a token's status as nobody is let to, to set a scene.
pub(crate) fn set_status(cluster: &Cluster, token: &str, status: &Value) {
    let args = ["patch", "breakglasstoken", token, "--subresource=status", "--type=merge", "--patch-file=/dev/stdin"];
    cluster.set_scene(&args, &json!({"status": status}).to_string());
}

/// kubectl as somebody who may write anything by RBAC.
fn as_user(cluster: &Cluster, user: &str, args: &[&str]) -> Output {
    cluster.kubectl("admin").run(&[args, &["--as", user, "--as-group", "system:masters"]].concat())
}

/// K-01: a token that is missing, somebody else's, for elsewhere, still to come, expired, closed or denied lets nothing in,
/// and the refusal says which of these it is and what to type.
#[test]
fn the_refusal_says_what_is_wrong_with_the_token() {
    let cluster = cluster();
    cluster.namespace("prod-why");
    let (hence, ago) = (from_now(30), from_now(-30));
    let closed = |phase: &str| json!({"phase": phase, "closedAt": ago, "closedBy": "carol@example.com"});
    for (case, spec, status, why, incident) in [
        ("valid", json!({}), Value::Null, None, ""),
        ("notme", json!({"user": "carol@example.com"}), Value::Null, Some(String::new()), "<incident>"),
        ("envir", json!({"environment": "guarded"}), Value::Null, Some(String::new()), "<incident>"),
        (
            "where",
            json!({"namespaces": ["prod-elsewhere"]}),
            Value::Null,
            Some(", and inc-430-where covers only prod-elsewhere".to_owned()),
            "<incident>",
        ),
        (
            "later",
            json!({"openedAt": hence}),
            Value::Null,
            Some(format!(
                ", and inc-430-later was opened at {hence}, which is still to come: the clocks of two webhook replicas \
                 disagree"
            )),
            "<incident>",
        ),
        (
            "ended",
            json!({"openedAt": from_now(-60), "expiresAt": ago}),
            Value::Null,
            Some(format!(", and inc-430-ended expired at {ago}")),
            "INC-430",
        ),
        (
            "close",
            json!({}),
            closed("Closed"),
            Some(format!(", and inc-430-close was closed by carol@example.com at {ago}")),
            "INC-430",
        ),
        (
            "denie",
            json!({}),
            closed("Denied"),
            Some(format!(", and inc-430-denie was denied by carol@example.com at {ago}")),
            "INC-430",
        ),
    ] {
        // Everybody has one token at most, so that no other is nearer.
        let (user, token) = (format!("alice+{case}@example.com"), format!("inc-430-{case}"));
        let mut fields = json!({"user": user, "namespaces": ["prod-why"]});
        json_patch::merge(&mut fields, &spec);
        cluster.set_scene(&["create", "-f", "-"], &document(&token, &fields).to_string());
        if !status.is_null() {
            set_status(&cluster, &token, &status);
        }
        let ran = as_user(&cluster, &user, &["-n", "prod-why", "create", "configmap", case]);
        let Some(why) = why else {
            assert_eq!(ran.status, 0, "{case}: {ran}");
            continue;
        };
        let expected = format!(
            "prod is run by GitOps: configmaps \"{case}\" (create) by {user} needs a break-glass token{why}. Open one: \
             kubectl breakglass open {incident} -n prod-why --reason \"…\""
        );
        assert_eq!(ran.refusal(), expected);
    }
}

/// K-01: a person whose name has the signs of a selector, as names from a directory have, is let in under their own token,
/// and under nobody else's.
#[test]
fn a_name_is_a_name_whatever_signs_are_in_it() {
    let cluster = cluster();
    cluster.namespace("prod-names");
    for (index, user) in [
        "CN=alice,OU=ops,DC=example",
        "oidc:alice@example.com",
        "alice\\ops",
        "alice,spec.environment!=dev",
        "alice smith",
        "älice&fieldSelector=spec.user%3Dbob@example.com",
    ]
    .iter()
    .enumerate()
    {
        let write = || as_user(&cluster, user, &["-n", "prod-names", "create", "configmap", &format!("name-{index}")]);
        check_refused(&write(), &format!("configmaps \"name-{index}\" (create) by {user}"), "-n prod-names");
        let token = document(&format!("inc-437-n{index:04}"), &json!({"user": user, "namespaces": ["prod-names"]}));
        let open = ["create", "-f", "-", "--as", user, "--as-group", "system:masters"];
        cluster.kubectl("admin").ok_with_input(&open, &token.to_string());
        let let_in = write();
        assert_eq!(let_in.status, 0, "{user}: {let_in}");
    }
}

/// K-02: a token of no time, of less than none or of a hundred years is not opened, whoever fills its times in; one that
/// names no time lives as long as the policy says.
#[test]
fn a_token_is_not_opened_for_a_time_that_is_none() {
    let cluster = cluster();
    let alice = cluster.kubectl("alice");
    let asked = |spec: Value| {
        let mut token = document("inc-431-aaaaa", &json!({}));
        token["spec"] = json!({"incident": "INC-431", "reason": "a test", "environment": "prod",
            "namespaces": ["prod-nowhere"]});
        json_patch::merge(&mut token["spec"], &spec);
        token.to_string()
    };
    let times = |ttl: &str| json!({"ttl": ttl, "user": "alice@example.com", "openedAt": from_now(0), "expiresAt": from_now(60)});
    for spec in [
        json!({"ttl": "0s"}),
        json!({"ttl": "0m"}),
        json!({"ttl": "-1h"}),
        json!({"ttl": "876000h"}),
        json!({"ttl": "36500d"}),
        json!({"ttl": "4h1s"}),
        json!({"ttl": ""}),
        json!({"ttl": 3600}),
        times("0s"),
        times("876000h"),
        json!({"expiresAt": from_now(0)}),
        json!({"expiresAt": from_now(-60)}),
        json!({"expiresAt": "2126-11-20T12:00:00Z"}),
        json!({"expiresAt": "9999-12-31T23:59:59Z", "openedAt": "9999-12-31T20:00:00Z"}),
        json!({"expiresAt": "never"}),
    ] {
        let refused = alice.run_with_input(&["create", "-f", "-"], &asked(spec.clone()));
        let by_us_or_the_schema = refused.our_refusal().is_some() || refused.stderr.contains(" is invalid: ");
        assert!(refused.status == 1 && by_us_or_the_schema, "{spec}: {refused}");
    }
    let listed = ["get", "breakglasstokens", "--field-selector", "spec.incident=INC-431", "-o", "name"];
    assert_eq!(alice.ok(&listed), "");
    alice.ok_with_input(&["create", "-f", "-"], &asked(json!({})));
    let spec = alice.json(&["get", "breakglasstoken", "inc-431-aaaaa"])["spec"].clone();
    let time = |field: &str| spec[field].as_str().unwrap().parse::<chrono::DateTime<Utc>>().unwrap();
    assert_eq!(time("expiresAt") - time("openedAt"), TimeDelta::hours(1));
}

/// K-02: a write that was stamped while the token lived, and is checked after its end, is refused.
#[test]
fn a_token_that_ends_between_the_two_calls_lets_nothing_in() {
    let cluster = cluster();
    cluster.namespace("prod-late");
    let open = ["open", "INC-432", "-n", "prod-late", "--reason", "r", "--ttl", "12s"];
    let opened = cluster.plugin("bob").json(&open);
    let ask = |path: &str, review: &Value| {
        let mut webhook = Raw::connect(cluster.webhook().port()).unwrap();
        webhook.post(path, review.to_string().as_bytes()).unwrap().response()
    };
    let mut write = review("bob@example.com", "CREATE", ("prod-late", "settings"));
    let patch = ask("/stamp", &write)["patch"].take();
    let patch: json_patch::Patch = serde_json::from_slice(&STANDARD.decode(patch.as_str().unwrap()).unwrap()).unwrap();
    json_patch::patch(&mut write["request"]["object"], &patch).unwrap();

    let rehearsed = ask("/gate", &dry_run(write.clone()));
    let let_in = format!("let in under {}; a dry run leaves no record", opened["metadata"]["name"].as_str().unwrap());
    assert_eq!(rehearsed["warnings"], json!([let_in]));
    wait_until("the token to end", LIMIT, || match ask("/gate", &dry_run(write.clone())) {
        answer if answer["warnings"] == rehearsed["warnings"] => Err(answer.to_string()),
        _ => Ok(()),
    })
    .unwrap();
    let answer = ask("/gate", &write);
    let message = answer["status"]["message"].as_str().unwrap();
    let ended = format!(" expired at {}. Open one: ", opened["spec"]["expiresAt"].as_str().unwrap());
    assert!(answer["allowed"] == false && message.contains(&ended), "{answer}");
    assert_eq!(cluster.changes("INC-432"), [] as [Value; 0]);
}

/// A kind of the same name in another group.
fn look_alike(group: &str, scope: &str) -> String {
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("breakglasstokens.{group}")},
        "spec": {"group": group, "scope": scope,
            "names": {"plural": "breakglasstokens", "singular": "breakglasstoken", "kind": "BreakglassToken"},
            "versions": [{"name": "v1alpha1", "served": true, "storage": true, "schema": schema}]}})
    .to_string()
}

/// K-03: an object of another group that has the kind, the name and the words of a token is none, in any namespace, and
/// revives none.
#[test]
fn what_is_only_called_a_token_is_none() {
    let cluster = cluster();
    cluster.namespace("prod-kinds");
    let admin = cluster.kubectl("admin");
    let mut token = document("inc-433-aaaaa", &json!({"namespaces": ["prod-kinds"]}));
    for (group, scope) in [("e2e.example.com", "Namespaced"), ("e2e.breakglass.dev", "Cluster")] {
        cluster.set_scene(&["apply", "--server-side", "-f", "-"], &look_alike(group, scope));
        let crd = format!("crd/breakglasstokens.{group}");
        admin.ok(&["wait", "--for=condition=Established", "--timeout=60s", &crd]);
        token["apiVersion"] = json!(format!("{group}/v1alpha1"));
        token["status"] = json!({"phase": "Active", "writes": 0});
        let namespaces = if scope == "Cluster" { &["dev"][..] } else { &["dev", "prod-kinds", "breakglass-system"] };
        for namespace in namespaces {
            cluster.set_scene(&["-n", namespace, "create", "-f", "-"], &token.to_string());
        }
    }
    let alice = cluster.kubectl("alice").namespace("prod-kinds");
    let named = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings",
        "annotations": {"breakglass.dev/token": "inc-433-aaaaa", "breakglass.dev/incident": "INC-433"}}});
    let write = || alice.run_with_input(&["create", "-f", "-"], &named.to_string());
    let subject = "configmaps \"settings\" (create) by alice@example.com";
    let refused = write();
    check_refused(&refused, subject, "-n prod-kinds");
    assert!(!refused.refusal().contains("inc-433-"), "{refused}");

    // The real one of that name lets in; once it is closed, the others do not take its place.
    let real = document("inc-433-aaaaa", &json!({"namespaces": ["prod-kinds"]}));
    cluster.kubectl("alice").ok_with_input(&["create", "-f", "-"], &real.to_string());
    assert_eq!(write().status, 0);
    cluster.plugin("alice").ok(&["close", "inc-433-aaaaa"]);
    let refused = alice.run(&["delete", "configmap", "settings"]);
    assert!(refused.refusal().contains(", and inc-433-aaaaa was closed by alice@example.com at "), "{refused}");
}

/// K-12: a star, a path or a wrong case in a token's namespaces stands for nothing but itself: such a token lets nothing in.
#[test]
fn a_wildcard_or_a_path_in_a_token_covers_nothing() {
    let cluster = cluster();
    for namespace in ["prod-wild", "prod-wild-2"] {
        cluster.namespace(namespace);
    }
    let write = |user: &str| as_user(&cluster, user, &["-n", "prod-wild", "create", "configmap", "settings"]);
    let patterns = "*|prod-*|prod-wild*|prod-wil?|prod-.*|^prod-wild$|../prod-wild|./prod-wild|/prod-wild|prod-wild/|\
        prod-wild/../prod-wild|prod-wild-2/../prod-wild|prod%2dwild|PROD-WILD|prod-wild |prod-wild\0|\
        prod-wild,prod-wild-2|prod\u{2010}wild";
    for (index, covered) in patterns.split('|').enumerate() {
        // By hand and past the webhook: what is refused today at the opening may have been let in yesterday.
        let user = format!("alice+wild{index:02}@example.com");
        let token = document(&format!("inc-434-wil{index:02}"), &json!({"user": user, "namespaces": [covered]}));
        cluster.set_scene(&["create", "-f", "-"], &token.to_string());
        let subject = format!("configmaps \"settings\" (create) by {user}");
        check_refused(&write(&user), &subject, "-n prod-wild");
    }
    let exact = json!({"user": "alice+exact@example.com", "namespaces": ["prod-wild-2", "prod-wild"]});
    cluster.set_scene(&["create", "-f", "-"], &document("inc-434-exact", &exact).to_string());
    let let_in = write("alice+exact@example.com");
    assert_eq!(let_in.status, 0, "{let_in}");
}

/// K-12: patterns on which a matcher that goes back would work for ages are answered at once: by the API server, which has
/// them as CEL, and by the webhook.
#[test]
fn a_pattern_made_to_take_for_ever_takes_no_time() {
    let cluster = cluster();
    let alice = cluster.kubectl("alice");
    // In time, or the API server would say that nobody answered.
    let mut token = document("inc-435-aaaaa", &json!({"incident": format!("{}.a", "a".repeat(44))}));
    token["metadata"]["name"] = json!(format!("{}.a-aaaaa", "a".repeat(44)));
    let refused = alice.run_with_input(&["create", "-f", "-"], &token.to_string());
    assert!(refused.refusal().contains("is not the id of an incident"), "{refused}");

    let almost = "a".repeat(63);
    cluster.namespace(&almost);
    alice.ok(&["-n", &almost, "create", "configmap", "settings"]);
    let matching = format!("{}b", "a".repeat(62));
    cluster.namespace(&matching);
    let refused = alice.run(&["-n", &matching, "create", "configmap", "settings"]);
    assert!(refused.refusal().starts_with("evil is run by GitOps: "), "{refused}");
}
