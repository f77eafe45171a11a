//! What no admission webhook is asked about, or not in the end, as far as it can be told for this cluster.

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;

use super::registration::NAME;
use super::{Finding, Level};

const CHECK: &str = "unseen";

/// What holds for every cluster.
const ALWAYS: [&str; 4] = [
    "reads: no webhook is asked about them",
    "static pods: who can write files on a node runs pods there, and the API server is only told",
    "kubelets: who reaches one with the right to nodes/proxy enters its pods past the API server",
    "etcd: who reaches it writes what they like",
];

/// APIs whose writes go to another server. The API server that has our configurations only passes them on.
pub fn aggregated(services: &[APIService]) -> Vec<Finding> {
    let found = services.iter().filter_map(|service| {
        let by = service.spec.as_ref()?.service.as_ref()?;
        let name = service.metadata.name.clone().unwrap_or_default();
        let server =
            format!("{}/{}", by.namespace.as_deref().unwrap_or_default(), by.name.as_deref().unwrap_or_default());
        let message = format!(
            "API {name} is not covered: its writes go to another server, {server}, which may ask no webhook about them"
        );
        Some(Finding::new(Level::Note, CHECK, message).object(format!("apiservice.apiregistration.k8s.io/{name}")))
    });
    let found: Vec<Finding> = found.collect();
    match found.is_empty() {
        true => vec![Finding::new(Level::Ok, CHECK, "every API is served by the API server itself")],
        false => found,
    }
}

/// Mutating webhooks that change an object after ours has stamped it: they are called in the order of their names
/// (apiserver pkg/admission/configuration/mutating_webhook_manager.go).
pub fn later_webhooks(configurations: &[MutatingWebhookConfiguration]) -> Vec<Finding> {
    let names = configurations.iter().filter(|one| one.webhooks.as_ref().is_some_and(|webhooks| !webhooks.is_empty()));
    let names = names.filter_map(|one| one.metadata.name.as_deref()).filter(|name| *name > NAME);
    let found = names.map(|name| {
        let message = format!(
            "mutating webhooks {name} run after ours: where a token is needed, a write that comes out of them without its \
             stamp is refused; elsewhere the stamp is gone"
        );
        let object = format!("mutatingwebhookconfiguration.admissionregistration.k8s.io/{name}");
        Finding::new(Level::Note, CHECK, message).object(object)
    });
    found.collect()
}

/// What holds for every cluster.
pub fn always() -> Vec<Finding> {
    ALWAYS.iter().map(|what| Finding::new(Level::Note, CHECK, *what)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn messages(findings: &[Finding]) -> Vec<(Level, &str)> {
        findings.iter().map(|finding| (finding.level, finding.message.as_str())).collect()
    }

    #[test]
    fn an_api_of_another_server_is_named_and_a_local_one_is_not() {
        let service = |name: &str, service| {
            let spec = json!({"groupPriorityMinimum": 1, "versionPriority": 1, "service": service});
            serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap()
        };
        let local: APIService = service("v1.apps", json!(null));
        let other = service("v1beta1.metrics.k8s.io", json!({"namespace": "kube-system", "name": "metrics-server"}));
        assert_eq!(
            messages(&aggregated(std::slice::from_ref(&local))),
            [(Level::Ok, "every API is served by the API server itself")]
        );
        let not_covered = "API v1beta1.metrics.k8s.io is not covered: its writes go to another server, \
                           kube-system/metrics-server, which may ask no webhook about them";
        assert_eq!(messages(&aggregated(&[local, other])), [(Level::Note, not_covered)]);
    }

    #[test]
    fn only_those_come_later_whose_name_does() {
        let configuration = |name: &str, webhooks| {
            serde_json::from_value(json!({"metadata": {"name": name}, "webhooks": webhooks})).unwrap()
        };
        let one = json!([{"name": "a.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"], "clientConfig": {}}]);
        let all = [("aaa", &one), (NAME, &one), ("istio", &one), ("nothing", &json!([]))];
        let found = later_webhooks(&all.map(|(name, webhooks)| configuration(name, webhooks)));
        assert_eq!(found.len(), 1);
        assert!(found[0].message.starts_with("mutating webhooks istio run after ours: "), "{}", found[0].message);
    }
}
