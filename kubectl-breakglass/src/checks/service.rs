//! Whether what the API server calls leads to a replica that is ready.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::{Finding, HOME, Level, Mend, NAME};

const CHECK: &str = "service";

/// What is found. `pod_labels` are those of the Deployment's pods, where there is one.
pub fn service(
    service: Option<&Service>,
    slices: &[EndpointSlice],
    pod_labels: Option<&BTreeMap<String, String>>,
    mend: &Mend,
) -> Vec<Finding> {
    let problem = |message: String| {
        Finding::new(Level::Problem, CHECK, message).hint(mend.install()).object(format!("service/{NAME}"))
    };
    let Some(spec) = service.map(|service| service.spec.clone().unwrap_or_default()) else {
        let message =
            format!("there is no Service {NAME} in {HOME}: the API server reaches nobody, and prod is shut for writes");
        return vec![problem(message)];
    };
    if spec.type_.as_deref() == Some("ExternalName") {
        let name = spec.external_name.unwrap_or_default();
        let message =
            format!("the Service leads out of the cluster, to {name}: whether anybody answers there is not looked at");
        return vec![Finding::new(Level::Note, CHECK, message)];
    }
    let selector = spec.selector.unwrap_or_default();
    let selects =
        |labels: &BTreeMap<String, String>| selector.iter().all(|(key, value)| labels.get(key) == Some(value));
    if pod_labels.is_some_and(|labels| selector.is_empty() || !selects(labels)) {
        let words: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let words = if words.is_empty() { "nothing".to_owned() } else { words.join(",") };
        return vec![problem(format!(
            "the Service selects {words}, which is no pod of the Deployment: the API server reaches nobody"
        ))];
    }
    let https = |service_port: &k8s_openapi::api::core::v1::ServicePort| service_port.port == 443;
    if !spec.ports.iter().flatten().any(https) {
        return vec![problem("the Service has no port 443, which the API server calls".to_owned())];
    }
    let ready = slices
        .iter()
        .flat_map(|slice| &slice.endpoints)
        .filter(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false))
        .flat_map(|endpoint| &endpoint.addresses)
        .count();
    match ready {
        0 => {
            let message =
                "no replica is ready behind the Service: nobody answers, and prod is shut for writes".to_owned();
            let hint = format!("kubectl -n {HOME} get pods,endpointslices");
            vec![Finding::new(Level::Problem, CHECK, message).hint(hint).object(format!("service/{NAME}"))]
        }
        1 => vec![Finding::new(Level::Ok, CHECK, "1 replica is ready behind the Service")],
        many => vec![Finding::new(Level::Ok, CHECK, format!("{many} replicas are ready behind the Service"))],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn check(spec: Value, ready: &[bool], expected: (Level, &str)) {
        let given: Service = serde_json::from_value(json!({"spec": spec})).unwrap();
        let endpoints: Vec<_> =
            ready.iter().map(|ready| json!({"addresses": ["10.0.0.1"], "conditions": {"ready": ready}})).collect();
        let slice: EndpointSlice =
            serde_json::from_value(json!({"addressType": "IPv4", "endpoints": endpoints})).unwrap();
        let labels = BTreeMap::from([("app.kubernetes.io/name".to_owned(), "breakglass".to_owned())]);
        let given = (spec != Value::Null).then_some(given);
        let found = service(given.as_ref(), &[slice], Some(&labels), &Mend::default());
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].level == expected.0 && found[0].message.contains(expected.1), "{found:#?}");
    }

    #[test]
    fn the_service_leads_to_a_replica_that_is_ready_or_why_not() {
        let ports = json!([{"port": 443}]);
        let spec = |name: &str| json!({"selector": {"app.kubernetes.io/name": name}, "ports": ports});
        check(spec("breakglass"), &[true, true], (Level::Ok, "2 replicas"));
        check(spec("breakglass"), &[true, false], (Level::Ok, "1 replica is"));
        check(spec("breakglass"), &[false], (Level::Problem, "no replica is ready"));
        check(spec("other"), &[true], (Level::Problem, "selects app.kubernetes.io/name=other, which is no pod"));
        check(json!({"ports": ports}), &[true], (Level::Problem, "selects nothing"));
        check(
            json!({"selector": {"app.kubernetes.io/name": "breakglass"}, "ports": [{"port": 80}]}),
            &[true],
            (Level::Problem, "no port 443"),
        );
        check(json!({"type": "ExternalName", "externalName": "localhost"}), &[], (Level::Note, "out of the cluster"));
        check(Value::Null, &[], (Level::Problem, "there is no Service"));
    }
}
