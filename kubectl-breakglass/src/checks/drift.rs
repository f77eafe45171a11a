//! Whether the webhooks that are registered are those that the policy asks for, field by field.

use breakglass::api::HOME_NAMESPACE;
use breakglass::register::{NAME, render};
use breakglass::rules::Rules;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ServiceReference, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use serde::Serialize;
use serde_json::Value;

use super::difference::differences;
use super::{Finding, HOME, Level};

const CHECK: &str = "registration";

/// The bundle is looked at with the certificates.
const ASIDE: [&str; 1] = ["clientConfig.caBundle"];

/// What is found; nothing where all is as the policy says.
pub fn drift(
    mutating: &MutatingWebhookConfiguration,
    validating: &ValidatingWebhookConfiguration,
    rules: &Rules,
) -> Vec<Finding> {
    let stamps = mutating.webhooks.clone().unwrap_or_default();
    let gates = validating.webhooks.clone().unwrap_or_default();
    // Which Service and port is a flag of the webhook.
    let service = stamps.iter().map(|one| &one.client_config).chain(gates.iter().map(|one| &one.client_config));
    let service = service.filter_map(|calls| calls.service.as_ref()).next().cloned().unwrap_or_default();
    let calls = WebhookClientConfig {
        ca_bundle: None,
        service: Some(ServiceReference { path: None, namespace: HOME_NAMESPACE.to_owned(), ..service }),
        url: None,
    };
    let mut findings = compare("mutatingwebhookconfiguration", &render::mutating(rules, &calls), &stamps);
    let wanted = render::validating(rules, &calls, HOME_NAMESPACE);
    findings.extend(compare("validatingwebhookconfiguration", &wanted, &gates));
    findings
}

fn compare<W: Serialize>(kind: &str, wanted: &[W], live: &[W]) -> Vec<Finding> {
    let problem = |message: String| {
        Finding::new(Level::Problem, CHECK, message)
            .hint(format!("the webhook repairs this within seconds; see why it does not: kubectl -n {HOME} get pods"))
            .object(format!("{kind}.admissionregistration.k8s.io/{NAME}"))
    };
    let (wanted, live) = (by_name(wanted), by_name(live));
    let missing = wanted.iter().filter(|(name, _)| !live.iter().any(|(other, _)| other == name));
    let missing = missing.map(|(name, _)| problem(format!("the {kind} {NAME} has no webhook {name}")));
    let others = live.iter().filter(|(name, _)| !wanted.iter().any(|(other, _)| other == name));
    let others =
        others.map(|(name, _)| problem(format!("the {kind} {NAME} has a webhook {name} that nobody asked for")));
    let edited = wanted.iter().flat_map(|(name, wanted)| {
        let live = live.iter().find(|(other, _)| other == name).map(|(_, live)| live);
        let found = live.map(|live| differences(wanted, live, &ASIDE)).unwrap_or_default();
        found.into_iter().map(move |one| {
            problem(format!(
                "the webhook {name} of the {kind} {NAME} was edited: {} is {}, and the policy says {}",
                one.field, one.live, one.wanted
            ))
        })
    });
    missing.chain(others).chain(edited).collect()
}

fn by_name<W: Serialize>(webhooks: &[W]) -> Vec<(String, Value)> {
    let values = webhooks.iter().filter_map(|webhook| serde_json::to_value(webhook).ok());
    values.map(|value| (value["name"].as_str().unwrap_or_default().to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn registered() -> (Value, Value) {
        let rules = Rules::built_in().unwrap();
        let service = json!({"name": "breakglass-webhook", "namespace": HOME_NAMESPACE, "port": 8443});
        let calls: WebhookClientConfig =
            serde_json::from_value(json!({"service": service, "caBundle": "Cg=="})).unwrap();
        let configuration = |webhooks: Value| json!({"metadata": {"name": NAME}, "webhooks": webhooks});
        let gates = serde_json::to_value(render::validating(&rules, &calls, HOME_NAMESPACE)).unwrap();
        (configuration(serde_json::to_value(render::mutating(&rules, &calls)).unwrap()), configuration(gates))
    }

    #[track_caller]
    fn check(edit: impl Fn(&mut Value), expected: &[&str]) {
        let (stamps, mut gates) = registered();
        edit(&mut gates["webhooks"]);
        let found = drift(
            &serde_json::from_value(stamps).unwrap(),
            &serde_json::from_value(gates).unwrap(),
            &Rules::built_in().unwrap(),
        );
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (finding, part) in found.iter().zip(expected) {
            assert!(finding.level == Level::Problem && finding.message.contains(part), "{finding:#?}");
        }
    }

    #[test]
    fn every_edit_is_named_by_webhook_and_field() {
        check(|_| {}, &[]);
        check(|gates| gates[0]["clientConfig"]["caBundle"] = json!("AA=="), &[]);
        check(
            |gates| gates[0]["timeoutSeconds"] = json!(1),
            &[
                "the webhook gate.breakglass.dev of the validatingwebhookconfiguration breakglass was edited: timeoutSeconds is 1, and the policy says 10",
            ],
        );
        check(
            |gates| gates[2]["matchConditions"][0]["expression"] = json!("false"),
            &[
                "engine.breakglass.dev of the validatingwebhookconfiguration breakglass was edited: matchConditions[0].expression is false",
            ],
        );
        check(|gates| gates[0]["rules"][0]["operations"] = json!(["CREATE"]), &["rules[0].operations is [\"CREATE\"]"]);
        check(
            |gates| gates[1]["name"] = json!("x.breakglass.dev"),
            &["has no webhook home.breakglass.dev", "has a webhook x.breakglass.dev"],
        );
    }
}
