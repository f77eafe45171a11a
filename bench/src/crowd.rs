//! A crowd: objects of thirty kinds in fifty namespaces, some of them stamped, and the records of these. All are put into etcd
//! past the API server, which reads JSON of its own kinds as well as the protobuf that it writes itself
//! (apiserver pkg/server/storage/storage_codec.go).

use chrono::{Duration, SecondsFormat, Utc};
use serde_json::{Value, json};

/// How many namespaces there are.
pub const NAMESPACES: usize = 50;

/// How many kinds there are: those below, and as many custom ones as make thirty.
pub const KINDS: usize = 30;

/// The group of the custom ones.
const GROUP: &str = "bench.example.com";

/// Kinds that no controller does anything about: group and version, kind, and where etcd has them
/// (kubernetes pkg/kubeapiserver/default_storage_factory_builder.go, and the registries' prefixes).
const BUILT_IN: [(&str, &str, &str); 8] = [
    ("v1", "ConfigMap", "configmaps"),
    ("v1", "Secret", "secrets"),
    ("v1", "ServiceAccount", "serviceaccounts"),
    ("v1", "PodTemplate", "podtemplates"),
    ("rbac.authorization.k8s.io/v1", "Role", "roles"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"),
    ("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    ("networking.k8s.io/v1", "Ingress", "ingress"),
];

/// Whether an object carries a stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamped {
    /// It does, and there is a record of it.
    Yes,
    /// It does not.
    No,
}

/// The definitions of the custom kinds, and the namespaces, as documents.
pub fn scene() -> String {
    let definitions = (0..KINDS - BUILT_IN.len()).map(|number| {
        let (plural, kind) = (format!("parts{number:02}"), format!("Part{number:02}"));
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{GROUP}")},
            "spec": {"group": GROUP, "scope": "Namespaced", "names": {"plural": plural, "singular": plural, "kind": kind},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
                    {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}})
    });
    let namespaces = (0..NAMESPACES)
        .map(|number| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace(number)}}));
    definitions.chain(namespaces).map(|document| format!("---\n{document}\n")).collect()
}

fn namespace(number: usize) -> String {
    format!("team-{:02}-prod", number % NAMESPACES)
}

/// The kind of an object: group and version, kind, plural, and where etcd has it.
fn kind(number: usize) -> (String, String, String, String) {
    match BUILT_IN.get(number % KINDS) {
        Some(&(version, kind, stored)) => {
            let plural = if kind == "Ingress" { "ingresses" } else { stored };
            (version.to_owned(), kind.to_owned(), plural.to_owned(), stored.to_owned())
        }
        None => {
            let custom = number % KINDS - BUILT_IN.len();
            let plural = format!("parts{custom:02}");
            (format!("{GROUP}/v1"), format!("Part{custom:02}"), plural.clone(), format!("{GROUP}/{plural}"))
        }
    }
}

fn name(number: usize) -> String {
    format!("object-{number:06}")
}

fn uid(mark: &str, number: usize) -> String {
    format!("0e7e2a3c-{mark}-4000-8000-{number:012x}")
}

fn change(number: usize) -> String {
    format!("inc-{:06}-{number:016x}", number / 10)
}

fn user(number: usize) -> String {
    format!("holder-{:03}@example.com", number / 10 % 1_000)
}

fn at(hours: i64) -> String {
    (Utc::now() + Duration::hours(hours)).to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// These objects, spread over kinds and namespaces, each of about two kilobytes with its managedFields.
pub fn objects(numbers: std::ops::Range<usize>, stamped: Stamped) -> impl Iterator<Item = (String, String)> {
    let time = at(0);
    numbers.map(move |number| {
        let (version, kind, _, stored) = kind(number);
        let place = namespace(number / KINDS);
        let mut metadata = json!({"name": name(number), "namespace": place, "uid": uid("0b7e", number),
            "creationTimestamp": time, "generation": 1,
            "labels": {"app.kubernetes.io/name": name(number), "app.kubernetes.io/part-of": "bench"},
            "annotations": {"example.com/about": "what somebody wrote about it ".repeat(8)},
            "managedFields": [{"manager": "kustomize-controller", "operation": "Apply", "apiVersion": version, "time": time,
                "fieldsType": "FieldsV1", "fieldsV1": fields()}]});
        if stamped == Stamped::Yes {
            metadata["labels"]["breakglass.dev/state"] = json!("pending");
            for (key, value) in [
                ("user", user(number)),
                ("time", time.clone()),
                ("operation", "Update".to_owned()),
                ("manager", "kubectl-edit".to_owned()),
                ("incident", format!("INC-{:06}", number / 10)),
                ("token", format!("inc-{:06}-bcdfg", number / 10)),
                ("change", change(number)),
            ] {
                metadata["annotations"][format!("breakglass.dev/{key}")] = json!(value);
            }
        }
        let mut object = json!({"apiVersion": version, "kind": kind, "metadata": metadata});
        match kind.as_str() {
            "ConfigMap" => object["data"] = json!({"settings": "key: value\n".repeat(40)}),
            "RoleBinding" => {
                object["roleRef"] = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "none"});
            }
            "NetworkPolicy" => object["spec"] = json!({"podSelector": {"matchLabels": {"app": "none"}}}),
            "Ingress" => {
                object["spec"] = json!({"defaultBackend": {"service": {"name": "none", "port": {"number": 80}}}});
            }
            "Secret" => object["type"] = json!("Opaque"),
            "PodTemplate" => {
                object["template"] = json!({"spec": {"containers": [{"name": "a", "image": "registry.example.com/a:1"}]}});
            }
            _ => object["spec"] = json!({"text": "what it is meant to be\n".repeat(20)}),
        }
        (format!("/registry/{stored}/{place}/{}", name(number)), object.to_string())
    })
}

/// As an engine's apply leaves them.
fn fields() -> Value {
    let labels = json!({"f:app.kubernetes.io/name": {}, "f:app.kubernetes.io/part-of": {}});
    let spec: serde_json::Map<String, Value> =
        (0..20).map(|number| (format!("f:field{number:02}"), json!({}))).collect();
    json!({"f:metadata": {"f:labels": labels, "f:annotations": {"f:example.com/about": {}}}, "f:spec": spec})
}

/// The records of the objects with these numbers, with a body of a kilobyte.
pub fn changes(numbers: std::ops::Range<usize>) -> impl Iterator<Item = (String, String)> {
    let (time, decide_by) = (at(0), at(24));
    numbers.map(move |number| {
        let (version, kind, plural, _) = kind(number);
        let (incident, token) = (format!("INC-{:06}", number / 10), format!("inc-{:06}-bcdfg", number / 10));
        let place = namespace(number / KINDS);
        let before = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name(number), "namespace": place},
            "spec": {"text": "what it was meant to be\n".repeat(40), "replicas": 2}});
        let object = json!({"apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassChange",
            "metadata": {"name": change(number), "uid": uid("c4a9", number), "generation": 1, "creationTimestamp": time,
                "labels": {"breakglass.dev/incident": incident, "breakglass.dev/token": token,
                    "breakglass.dev/environment": "prod", "breakglass.dev/namespace": place,
                    "breakglass.dev/state": "pending"}},
            "spec": {"token": token, "incident": incident, "user": user(number), "time": time, "environment": "prod",
                "operation": "Update", "manager": "kubectl-edit", "engineOwner": "Kustomization flux-system/prod",
                "target": {"apiVersion": version, "kind": kind, "resource": plural, "namespace": place,
                    "name": name(number), "uid": uid("0b7e", number)},
                "before": before, "patch": [{"op": "replace", "path": "/spec/replicas", "value": 5}],
                "truncated": false, "decideBy": decide_by},
            "status": {"phase": "Pending"}});
        (format!("/registry/breakglass.dev/breakglasschanges/{}", change(number)), object.to_string())
    })
}
