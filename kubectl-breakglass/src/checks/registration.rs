//! Whether the API server calls the webhook, and what becomes of a write to prod while it does not answer.

use breakglass::api::{Environment, Gate, HOME_NAMESPACE};
pub use breakglass::register::NAME;
use breakglass::rules::Rules;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhook, MutatingWebhookConfiguration, ValidatingWebhook, ValidatingWebhookConfiguration,
    WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::{Finding, Level};

const CHECK: &str = "registration";

/// The two kinds, as `kubectl get` takes them.
const MUTATING: &str = "mutatingwebhookconfiguration";
const VALIDATING: &str = "validatingwebhookconfiguration";

/// The calls that stamp. They never refuse.
const STAMPS: [&str; 2] = ["stamp.breakglass.dev", "own.breakglass.dev"];

/// What is found.
pub fn registration(
    mutating: Option<&MutatingWebhookConfiguration>,
    validating: Option<&ValidatingWebhookConfiguration>,
    rules: &Rules,
) -> Vec<Finding> {
    let stamps: Option<Vec<_>> =
        mutating.map(|configuration| configuration.webhooks.iter().flatten().map(as_validating).collect());
    let gates = validating.map(|configuration| configuration.webhooks.clone().unwrap_or_default());
    let without_stamps = "writes are not stamped, and those that need a token are refused";
    let without_gates = "nothing is refused and nothing is recorded";
    let mut findings = check(MUTATING, stamps.as_deref(), &STAMPS, &[], without_stamps);
    let closed = closed_gates(rules);
    findings.extend(check(VALIDATING, gates.as_deref(), &closed, &closed, without_gates));
    if findings.is_empty() {
        let number: usize = stamps.iter().chain(&gates).map(Vec::len).sum();
        let message = format!("both configurations are there, and all {number} webhooks call {HOME_NAMESPACE}");
        findings.push(Finding::new(Level::Ok, CHECK, message));
    }
    findings
}

/// A mutating webhook has the same fields, as far as they are looked at.
fn as_validating(webhook: &MutatingWebhook) -> ValidatingWebhook {
    ValidatingWebhook {
        name: webhook.name.clone(),
        client_config: webhook.client_config.clone(),
        failure_policy: webhook.failure_policy.clone(),
        object_selector: webhook.object_selector.clone(),
        rules: webhook.rules.clone(),
        ..ValidatingWebhook::default()
    }
}

/// The webhooks without which, or open, the policy would not hold. Those for our own namespace are open on purpose while
/// nobody answers, so that it can be repaired.
fn closed_gates(rules: &Rules) -> Vec<&'static str> {
    let mut gates = vec![
        "gate.breakglass.dev",
        "engine.breakglass.dev",
        "credential.breakglass.dev",
        "namespace.breakglass.dev",
        "own.breakglass.dev",
    ];
    let guarded = |one: &&Environment| [one.writes, one.exec_gate()].contains(&Gate::RequireToken);
    if rules.spec().environments.iter().filter(guarded).any(|one| one.namespace_label.is_some()) {
        gates.push("label-gate.breakglass.dev");
    }
    if rules.cluster_scoped().exec_gate() == Gate::RequireToken {
        gates.push("node.breakglass.dev");
    }
    if rules.cluster_scoped().writes == Gate::RequireToken {
        gates.push("cluster.breakglass.dev");
    }
    gates
}

fn check(
    kind: &str,
    calls: Option<&[ValidatingWebhook]>,
    wanted: &[&str],
    closed: &[&str],
    without: &str,
) -> Vec<Finding> {
    let problem = |message: String| {
        Finding::new(Level::Problem, CHECK, message)
            .hint(format!(
                "the webhook repairs this within seconds; see why it does not: kubectl -n {HOME_NAMESPACE} get pods"
            ))
            .object(format!("{kind}.admissionregistration.k8s.io/{NAME}"))
    };
    let Some(calls) = calls else { return vec![problem(format!("there is no {kind} {NAME}: {without}"))] };
    let missing = wanted.iter().filter(|name| !calls.iter().any(|call| call.name == **name));
    let missing = missing.map(|name| format!("the {kind} {NAME} has no webhook {name}: {without}"));
    let wrong = calls.iter().filter_map(|call| {
        let what = wrong(call, closed.contains(&call.name.as_str()))?;
        Some(format!("the webhook {} of the {kind} {NAME} {what}", call.name))
    });
    missing.chain(wrong).map(problem).collect()
}

/// What is wrong with a webhook, whatever else the policy says.
fn wrong(call: &ValidatingWebhook, closed: bool) -> Option<String> {
    let WebhookClientConfig { ca_bundle, service, url } = &call.client_config;
    if service.as_ref().is_none_or(|service| service.namespace != HOME_NAMESPACE) {
        let called = service.as_ref().map(|service| format!("{}/{}", service.namespace, service.name));
        let called = called.or_else(|| url.clone()).unwrap_or_default();
        return Some(format!("calls {called}, and no service in {HOME_NAMESPACE}"));
    }
    let what = if ca_bundle.as_ref().is_none_or(|bundle| bundle.0.is_empty()) {
        "names no CA: the API server cannot believe the answer"
    } else if closed && call.failure_policy.as_deref() != Some("Fail") {
        "has not failurePolicy Fail: it is open while nobody answers"
    } else if call.object_selector.as_ref().is_some_and(|selector| *selector != LabelSelector::default()) {
        "has an objectSelector: who writes an object chooses its labels, and so whether anybody is asked"
    } else if call.rules.as_ref().is_none_or(Vec::is_empty) {
        "has no rules: it is never called"
    } else {
        return None;
    };
    Some(what.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn webhook(name: &str, failure_policy: &str) -> Value {
        json!({"name": name, "failurePolicy": failure_policy, "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"service": {"name": "breakglass-webhook", "namespace": HOME_NAMESPACE}, "caBundle": "Cg=="},
            "rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}],
            "objectSelector": {}})
    }

    fn configuration(webhooks: &[Value]) -> Value {
        json!({"metadata": {"name": NAME}, "webhooks": webhooks})
    }

    fn gates() -> Vec<Value> {
        let closed = ["gate", "namespace", "own", "engine", "credential", "node", "label-gate"]
            .map(|name| webhook(&format!("{name}.breakglass.dev"), "Fail"));
        closed.into_iter().chain([webhook("home.breakglass.dev", "Ignore")]).collect()
    }

    /// What is said of these gates, beside stamps that are as they should be.
    #[track_caller]
    fn check(policy: Value, gates: Option<Vec<Value>>, expected: &[(Level, &str)]) {
        let stamps = configuration(&STAMPS.map(|name| webhook(name, "Ignore")));
        let stamps = serde_json::from_value(stamps).unwrap();
        let gates = gates.map(|gates| serde_json::from_value(configuration(&gates)).unwrap());
        let rules = Rules::new(serde_json::from_value(policy).unwrap()).unwrap();
        let found = registration(Some(&stamps), gates.as_ref(), &rules);
        let found: Vec<_> = found.iter().map(|finding| (finding.level, finding.message.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[track_caller]
    fn check_edit(path: &str, value: Value, expected: &str) {
        let mut gates = gates();
        *gates[0].pointer_mut(path).unwrap() = value;
        let message =
            format!("the webhook gate.breakglass.dev of the validatingwebhookconfiguration breakglass {expected}");
        check(json!({}), Some(gates), &[(Level::Problem, &message)]);
    }

    #[test]
    fn what_is_as_the_policy_says_is_ok_and_what_is_missing_is_a_problem() {
        let ok = (Level::Ok, "both configurations are there, and all 10 webhooks call breakglass-system");
        check(json!({}), Some(gates()), &[ok]);
        let none = "there is no validatingwebhookconfiguration breakglass: nothing is refused and nothing is recorded";
        check(json!({}), None, &[(Level::Problem, none)]);
        let missing = |name: &str| {
            format!(
                "the validatingwebhookconfiguration breakglass has no webhook {name}.breakglass.dev: nothing is refused \
                     and nothing is recorded"
            )
        };
        check(json!({}), Some(gates()[1..].to_vec()), &[(Level::Problem, &missing("gate"))]);
        check(json!({"clusterScoped": "RequireToken"}), Some(gates()), &[(Level::Problem, &missing("cluster"))]);
        // Without labels that guard, nobody has to look for them.
        let one = json!({"environments": [{"name": "prod", "namespaces": ["prod"], "writes": "RequireToken"}]});
        let ok = (Level::Ok, "both configurations are there, and all 8 webhooks call breakglass-system");
        check(one, Some(gates()[..6].to_vec()), &[ok]);
    }

    #[test]
    fn what_was_edited_is_a_problem() {
        check_edit("/failurePolicy", json!("Ignore"), "has not failurePolicy Fail: it is open while nobody answers");
        check_edit(
            "/clientConfig/service/namespace",
            json!("dev"),
            "calls dev/breakglass-webhook, and no service in breakglass-system",
        );
        check_edit(
            "/clientConfig",
            json!({"url": "https://example.com"}),
            "calls https://example.com, and no service in breakglass-system",
        );
        check_edit("/clientConfig/caBundle", json!(null), "names no CA: the API server cannot believe the answer");
        check_edit("/rules", json!([]), "has no rules: it is never called");
        check_edit(
            "/objectSelector",
            json!({"matchLabels": {"a": "b"}}),
            "has an objectSelector: who writes an object chooses its labels, and so whether anybody is asked",
        );
    }
}
