//! What is said of a write, by who writes what where.

use std::collections::BTreeMap;

use breakglass::api::{BreakglassToken, ENVIRONMENT_LABEL};
use breakglass::rules::Rules;
use breakglass::write::{Object, Requester, Resource, Verb, Write};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::identity::{proven, requester};
use super::verbs::asks;
use super::{Outlook, Scene, outlook};

const FLUX: &str = "system:serviceaccount:flux-system:kustomize-controller";

fn token(name: &str, fields: Value) -> BreakglassToken {
    let mut token = json!({"apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassToken",
        "metadata": {"name": name, "uid": name},
        "spec": {"incident": "INC-1", "reason": "r", "user": "alice@example.com", "environment": "prod",
            "openedAt": "2026-11-20T11:00:00Z", "expiresAt": "2026-11-20T13:00:00Z"}});
    for (field, value) in fields.as_object().unwrap() {
        match token.get_mut("spec").and_then(|spec| spec.get_mut(field)) {
            Some(spec) => *spec = value.clone(),
            None if field == "status" => token["status"] = value.clone(),
            None => token["spec"][field] = value.clone(),
        }
    }
    serde_json::from_value(token).unwrap()
}

/// What is said about `word resource` by somebody in a namespace.
fn ask(
    policy: Value,
    who: Requester,
    word: &str,
    resource: (&str, &str),
    namespace: Option<&str>,
    tokens: &[BreakglassToken],
) -> Outlook {
    let (plural, group) = resource;
    let asks = asks(word).unwrap();
    let raw: Box<RawValue> = serde_json::from_str(r#"{"metadata": {"name": "api"}}"#).unwrap();
    let side = || Some(Object::new(&raw));
    let write = Write {
        verb: asks.verb,
        resource: Resource {
            group: group.to_owned(),
            version: "v1".to_owned(),
            plural: asks.plural.unwrap_or(plural).to_owned(),
            kind: "Thing".to_owned(),
            subresource: asks.subresource.map(str::to_owned),
        },
        namespace: namespace.map(str::to_owned),
        name: "api".to_owned(),
        requester: who,
        before: side().filter(|_| matches!(asks.verb, Verb::Update | Verb::Delete)),
        after: side().filter(|_| asks.verb != Verb::Delete),
        dry_run: false,
        manager: "kubectl".to_owned(),
    };
    let rules = Rules::new(serde_json::from_value(policy).unwrap()).unwrap();
    let labels = match namespace {
        Some("labelled") => BTreeMap::from([(ENVIRONMENT_LABEL.to_owned(), "prod".to_owned())]),
        _ => BTreeMap::new(),
    };
    let now = "2026-11-20T12:00:00Z".parse().unwrap();
    outlook(&write, Scene { rules: &rules, namespace_labels: &labels, tokens, now })
}

fn alice() -> Requester {
    requester("alice@example.com", &[])
}

const DEPLOYMENTS: (&str, &str) = ("deployments", "apps");

#[test]
fn a_write_is_decided_as_the_webhook_decides_it_and_the_part_of_the_policy_is_named() {
    for (word, resource, namespace, decision, environment, because, down) in [
        (
            "apply",
            DEPLOYMENTS,
            Some("prod"),
            "Refuse",
            "prod",
            "(spec.environments[0].namespaces[0])",
            "gate.breakglass.dev fails closed",
        ),
        (
            "label",
            DEPLOYMENTS,
            Some("eu-prod"),
            "Refuse",
            "prod",
            "fits \"*-prod\" (spec.environments[0].namespaces[3])",
            "fails closed",
        ),
        (
            "scale",
            DEPLOYMENTS,
            Some("labelled"),
            "Refuse",
            "prod",
            "(spec.environments[0].namespaceLabel)",
            "label-gate.breakglass.dev fails closed",
        ),
        ("exec", DEPLOYMENTS, Some("prod"), "Refuse", "prod", "(spec.environments[0].namespaces[0])", "fails closed"),
        (
            "delete",
            DEPLOYMENTS,
            Some("dev"),
            "Note",
            "dev",
            "fits \"*\" (spec.environments[3].namespaces[0])",
            "does not ask",
        ),
        (
            "patch",
            DEPLOYMENTS,
            Some("dev"),
            "Note",
            "dev",
            "(spec.environments[3].namespaces[0])",
            "let in without a stamp",
        ),
        (
            "create",
            ("clusterroles", "rbac.authorization.k8s.io"),
            None,
            "Note",
            "cluster",
            "(spec.clusterScoped)",
            "let in without",
        ),
        (
            "apply",
            ("kustomizations", "kustomize.toolkit.fluxcd.io"),
            Some("dev"),
            "Refuse",
            "platform",
            "(spec.engineObjects.environment)",
            "engine.breakglass.dev fails closed",
        ),
        (
            "patch",
            DEPLOYMENTS,
            Some("breakglass-system"),
            "Refuse",
            "platform",
            "(spec.environments[2].namespaces[2])",
            "let in without a stamp",
        ),
    ] {
        let said = ask(json!({}), alice(), word, resource, namespace, &[]);
        let place = (said.decision.as_str(), said.environment.as_deref());
        assert_eq!(place, (decision, Some(environment)), "{word} {resource:?} {namespace:?}");
        let found = said.environment_because.unwrap();
        assert!(found.contains(because), "{word} {namespace:?}: {found}");
        assert!(said.while_down.contains(down), "{word} {namespace:?}: {}", said.while_down);
        assert_eq!(said.let_in, decision == "Note");
        assert_eq!(said.message.is_some(), decision == "Refuse");
    }
}

#[test]
fn the_refusal_stands_there_word_for_word() {
    let said = ask(json!({}), alice(), "apply", DEPLOYMENTS, Some("prod"), &[]);
    let expected = "prod is run by GitOps: deployments.apps \"api\" (update) by alice@example.com needs a break-glass token. \
                    Open one: kubectl breakglass open <incident> -n prod --reason \"…\"";
    assert_eq!(said.message.as_deref(), Some(expected));
    assert_eq!(said.sentence, "refused (NoToken): prod needs a token");
    assert_eq!(
        said.writer_because,
        "alice@example.com is no engine, no trusted writer and no part of Kubernetes: a person, or a program like one"
    );
}

#[test]
fn each_token_is_told_what_it_is_good_for() {
    let tokens = [
        token("expired", json!({"expiresAt": "2026-11-20T11:59:59Z", "openedAt": "2026-11-20T10:00:00Z"})),
        token(
            "closed",
            json!({"openedAt": "2026-11-20T10:10:00Z", "status": {"phase": "Closed", "closedBy": "carol"}}),
        ),
        token("elsewhere", json!({"openedAt": "2026-11-20T10:20:00Z", "namespaces": ["eu-prod"]})),
        token("staging", json!({"openedAt": "2026-11-20T10:30:00Z", "environment": "staging"})),
    ];
    let said = ask(json!({}), alice(), "apply", DEPLOYMENTS, Some("prod"), &tokens);
    let because: Vec<_> = said.tokens.iter().map(|token| (token.name.as_str(), token.because.as_str())).collect();
    assert_eq!(
        because,
        [
            ("staging", "is for staging, and this is prod"),
            ("elsewhere", "covers only eu-prod"),
            ("closed", "was closed by carol"),
            ("expired", "expired at 2026-11-20T11:59:59Z"),
        ]
    );
    let good = [token("good", json!({})), token("older", json!({"openedAt": "2026-11-20T10:00:00Z"}))];
    let said = ask(json!({}), alice(), "apply", DEPLOYMENTS, Some("prod"), &good);
    assert_eq!((said.decision.as_str(), said.let_in), ("Admit", true));
    assert_eq!(said.tokens[0].because, "live for 1h0m, and covers this");
    assert_eq!(said.tokens[1].because, "is live and covers this, and a newer one counts");
    let left = said.leaves.join("\n");
    for part in
        ["breakglass.dev/incident: INC-1", "breakglass.dev/state: pending", "to be decided by 2026-11-21T12:00:00Z"]
    {
        assert!(left.contains(part), "{left}");
    }
}

#[test]
fn a_name_without_its_proof_is_said_to_be_that() {
    let named = ask(json!({}), requester(FLUX, &[]), "apply", DEPLOYMENTS, Some("prod"), &[]);
    assert_eq!((named.writer.as_str(), named.let_in), ("Direct", false));
    assert!(
        named
            .writer_because
            .contains("is the name of flux, and a name alone proves nothing: a credential that is bound to a pod"),
        "{}",
        named.writer_because
    );
    let real = ask(json!({}), proven(&requester(FLUX, &[])), "apply", DEPLOYMENTS, Some("prod"), &[]);
    assert_eq!((real.writer.as_str(), real.decision.as_str(), real.let_in), ("Engine", "Pass", true));
    assert!(real.asks.is_empty() && real.environment.is_none(), "{real:#?}");
    for (user, writer) in [
        ("system:serviceaccount:kube-system:deployment-controller", "ControlPlane"),
        ("system:node:n1", "ControlPlane"),
        ("system:kube-scheduler", "ControlPlane"),
        ("system:apiserver", "ControlPlane"),
        ("system:serviceaccount:breakglass-system:breakglass-webhook", "Webhook"),
        ("alice@example.com", "Direct"),
    ] {
        let said = ask(json!({}), proven(&requester(user, &[])), "patch", DEPLOYMENTS, Some("prod"), &[]);
        assert_eq!(said.writer, writer, "{user}: {}", said.writer_because);
    }
    let masters = ask(
        json!({}),
        requester("admin", &["breakglass.dev:override".to_owned()]),
        "delete",
        DEPLOYMENTS,
        Some("prod"),
        &[],
    );
    assert_eq!((masters.writer.as_str(), masters.let_in), ("Trusted", true));
}

#[test]
fn what_a_mode_or_an_exemption_changes_is_said() {
    let warn = ask(json!({"mode": "Warn"}), alice(), "apply", DEPLOYMENTS, Some("prod"), &[]);
    assert_eq!((warn.decision.as_str(), warn.let_in, warn.message.is_some()), ("Tolerate", true, true));
    assert!(warn.sentence.contains("the policy's mode is Warn"), "{}", warn.sentence);
    let audit = ask(json!({"mode": "Audit"}), alice(), "apply", DEPLOYMENTS, Some("prod"), &[]);
    assert_eq!((audit.decision.as_str(), audit.message), ("Tolerate", None));
    let exempt = json!({"exempt": [{"name": "jobs", "reason": "batch", "resources": ["deployments.apps"]}]});
    let said = ask(exempt, alice(), "apply", DEPLOYMENTS, Some("prod"), &[]);
    assert_eq!(said.sentence, "let in as it is, without a stamp: it is exempt (spec.exempt[0] jobs: batch)");
    let own = ask(json!({}), alice(), "create", ("breakglasstokens", "breakglass.dev"), None, &[]);
    assert_eq!((own.decision.as_str(), own.let_in), ("Own", true));
}
