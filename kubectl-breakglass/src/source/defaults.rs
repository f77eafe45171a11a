//! What the API server fills into a new object: nobody wrote it, and nobody wants to read it in Git.

use serde_json::{Value, json};

/// Defaults by what they stand in (the field that holds it, or the kind for its spec), from k8s.io/kubernetes pkg/apis/*/v1/defaults.go.
fn defaults() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("containers", "terminationMessagePath", json!("/dev/termination-log")),
        ("containers", "terminationMessagePolicy", json!("File")),
        ("containers", "resources", json!({})),
        ("ports", "protocol", json!("TCP")),
        ("livenessProbe", "timeoutSeconds", json!(1)),
        ("livenessProbe", "periodSeconds", json!(10)),
        ("livenessProbe", "successThreshold", json!(1)),
        ("livenessProbe", "failureThreshold", json!(3)),
        ("httpGet", "scheme", json!("HTTP")),
        ("fieldRef", "apiVersion", json!("v1")),
        ("configMap", "defaultMode", json!(420)),
        ("secret", "defaultMode", json!(420)),
        ("projected", "defaultMode", json!(420)),
        ("pod", "restartPolicy", json!("Always")),
        ("pod", "dnsPolicy", json!("ClusterFirst")),
        ("pod", "schedulerName", json!("default-scheduler")),
        ("pod", "securityContext", json!({})),
        ("pod", "terminationGracePeriodSeconds", json!(30)),
        ("pod", "enableServiceLinks", json!(true)),
        ("Deployment", "progressDeadlineSeconds", json!(600)),
        ("Deployment", "revisionHistoryLimit", json!(10)),
        (
            "Deployment",
            "strategy",
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}),
        ),
        ("StatefulSet", "podManagementPolicy", json!("OrderedReady")),
        ("StatefulSet", "revisionHistoryLimit", json!(10)),
        ("StatefulSet", "updateStrategy", json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}})),
        ("Service", "sessionAffinity", json!("None")),
        ("Service", "internalTrafficPolicy", json!("Cluster")),
        ("Service", "ipFamilyPolicy", json!("SingleStack")),
        ("PersistentVolumeClaim", "volumeMode", json!("Filesystem")),
        ("metadata", "creationTimestamp", Value::Null),
    ]
}

/// What a cluster gives to one object of it, and cannot be given again.
const GIVEN: [(&str, &str); 3] =
    [("Service", "clusterIPs"), ("Service", "ipFamilies"), ("PersistentVolumeClaim", "volumeName")];

/// A whole object without them.
pub fn without_defaults(object: &Value) -> Value {
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut object = object.clone();
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        spec.retain(|field, _| !GIVEN.contains(&(kind.as_str(), field.as_str())));
        // A headless Service says so.
        if kind == "Service" && spec.get("clusterIP").is_some_and(|address| address != "None") {
            spec.remove("clusterIP");
        }
    }
    let of_spec = if kind == "Pod" { "pod" } else { kind.as_str() };
    if let Some(fields) = object.as_object_mut() {
        for (field, value) in fields.iter_mut() {
            strip(value, if field == "spec" { of_spec } else { field });
        }
    }
    object
}

/// An item of a list, or the value of a field, without them.
pub fn without_defaults_in(value: &Value, field: &str) -> Value {
    let mut value = value.clone();
    strip(&mut value, field);
    value
}

fn strip(value: &mut Value, within: &str) {
    // Init containers and readiness probes have the same defaults as the others.
    let within = match within {
        name if name.to_lowercase().ends_with("containers") => "containers",
        "readinessProbe" | "startupProbe" => "livenessProbe",
        other => other,
    };
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| strip(item, within)),
        Value::Object(fields) => {
            let pull = default_pull(fields.get("image"));
            let known = defaults();
            fields.retain(|field, value| {
                let is_default =
                    known.iter().any(|(of, name, default)| *of == within && name == field && value == default);
                let is_pull = within == "containers" && field == "imagePullPolicy" && value == pull;
                !is_default && !is_pull
            });
            for (field, value) in fields.iter_mut() {
                strip(value, if within == "template" && field == "spec" { "pod" } else { field });
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn default_pull(image: Option<&Value>) -> &'static str {
    let image = super::image::Image::parse(image.and_then(Value::as_str).unwrap_or_default());
    let is_latest = image.digest.is_none() && image.tag.as_deref().is_none_or(|tag| tag == "latest");
    if is_latest { "Always" } else { "IfNotPresent" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_fills_in_goes_and_what_people_set_stays() {
        let container = json!({"name": "a", "image": "x:1", "imagePullPolicy": "IfNotPresent", "resources": {},
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "FallbackToLogsOnError",
            "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 53, "protocol": "UDP"}]});
        let bare = json!({"name": "a", "image": "x:1", "terminationMessagePolicy": "FallbackToLogsOnError",
            "ports": [{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}]});
        assert_eq!(without_defaults_in(&container, "containers"), bare);
        let deployment = |spec: Value, pod: Value| {
            let mut deployment = json!({"kind": "Deployment", "spec": {"replicas": 1, "template": {"spec": pod}}});
            deployment["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
            deployment
        };
        let full = deployment(
            json!({"revisionHistoryLimit": 10, "progressDeadlineSeconds": 60}),
            json!({"containers": [container], "restartPolicy": "Always", "terminationGracePeriodSeconds": 5}),
        );
        let expected = deployment(
            json!({"progressDeadlineSeconds": 60}),
            json!({"containers": [bare], "terminationGracePeriodSeconds": 5}),
        );
        assert_eq!(without_defaults(&full), expected);
        let service = |spec: Value| json!({"kind": "Service", "spec": spec});
        let given = service(json!({"clusterIP": "10.0.0.7", "clusterIPs": ["10.0.0.7"], "sessionAffinity": "None"}));
        assert_eq!(without_defaults(&given), service(json!({})));
        let headless = service(json!({"clusterIP": "None"}));
        assert_eq!(without_defaults(&headless), headless);
    }
}
