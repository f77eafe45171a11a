//! One request in the making: a subresource written to, or a connection opened.

use serde_json::json;

use super::draft::{Draft, Parts};
use super::kind::Verb;
use super::make::NODE;
use super::request::{Aim, Body};
use super::{metadata, protobuf};

/// Service accounts whose writes pass, given their proof: whoever has a token of one writes as it.
const EXEMPT_ACCOUNTS: [(&str, &str); 6] = [
    ("kube-system", "deployment-controller"),
    ("kube-system", "generic-garbage-collector"),
    ("kube-system", "namespace-controller"),
    ("flux-system", "kustomize-controller"),
    ("flux-system", "source-controller"),
    ("breakglass-system", "breakglass-webhook"),
];

impl Draft<'_> {
    pub(super) fn create_subresource(&mut self, collection: &str, name: &str) -> Parts {
        let path = format!("{collection}/{name}/{}", self.verb.subresource().unwrap_or_default());
        let metadata = json!({"name": name, "namespace": self.namespace});
        let in_protobuf = self.random.percent(25);
        let (path, body) = match self.verb {
            Verb::Evict if in_protobuf => (path, Body::Bytes(protobuf::eviction(name, self.namespace))),
            Verb::Evict => {
                let mut body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata});
                match self.random.below(3) {
                    0 => {}
                    1 => body["deleteOptions"] = json!({"gracePeriodSeconds": 0}),
                    // Nothing but the body says so.
                    _ => {
                        body["deleteOptions"] = json!({"dryRun": ["All"]});
                        self.dry_run = true;
                    }
                }
                (path, Body::Json(body))
            }
            Verb::Bind if in_protobuf => (path, Body::Bytes(protobuf::binding(name, self.namespace, NODE))),
            Verb::Bind => {
                let target = json!({"apiVersion": "v1", "kind": "Node", "name": NODE});
                let body = json!({"apiVersion": "v1", "kind": "Binding", "metadata": metadata, "target": target});
                let old = collection.replace("/pods", "/bindings");
                (if self.random.percent(40) { old } else { path }, Body::Json(body))
            }
            _ => {
                let spec = json!({"expirationSeconds": 3600});
                let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
                let path = match self.aim {
                    Aim::Open => path,
                    Aim::Guarded => {
                        let (namespace, name) = self.random.pick(&EXEMPT_ACCOUNTS);
                        format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token")
                    }
                };
                (path, Body::Json(body))
            }
        };
        let content_type = if matches!(body, Body::Bytes(_)) { protobuf::MEDIA_TYPE } else { self.json_or_yaml() };
        ("POST", path, content_type, body)
    }

    pub(super) fn update_subresource(&mut self, collection: &str, name: &str) -> Parts {
        let path = format!("{collection}/{name}/{}", self.verb.subresource().unwrap_or_default());
        let replicas = self.random.below(9);
        let edit = match self.verb {
            Verb::Scale => json!({"spec": {"replicas": replicas}}),
            Verb::Status if self.random.percent(70) => json!({"status": self.kind.subresources["status"]}),
            // Of a list, a merge patch says all there is.
            Verb::Resize => {
                let mut containers = self.kind.stub(self.namespace)["spec"]["containers"].take();
                containers[0]["resources"]["requests"]["cpu"] = json!(format!("{}m", 20 + replicas));
                json!({"spec": {"containers": containers}})
            }
            Verb::Debug => {
                let container = json!({"name": self.random.name(), "image": "registry.example.com/fuzz:1"});
                json!({"spec": {"ephemeralContainers": [container]}})
            }
            Verb::Finalize if replicas > 4 => json!({"spec": {"finalizers": []}}),
            Verb::Finalize => json!({"spec": {"finalizers": ["kubernetes", "example.com/fuzz"]}}),
            _ => json!({"metadata": metadata::edit(self.random)}),
        };
        match (self.verb, self.random.below(4)) {
            (Verb::Scale, 0) if !self.kind.custom => {
                let bytes = protobuf::scale(name, self.namespace, replicas as u64);
                ("PUT", path, protobuf::MEDIA_TYPE, Body::Bytes(bytes))
            }
            (Verb::Finalize, 0) => {
                let bytes = protobuf::namespace(name, "example.com/fuzz");
                ("PUT", path, protobuf::MEDIA_TYPE, Body::Bytes(bytes))
            }
            // Namespaces are finalized by a PUT alone.
            (Verb::Finalize, _) | (_, 0) => ("PUT", path, self.json_or_yaml(), Body::Edit(edit)),
            (_, 1) => ("PATCH", path, "application/merge-patch+json", Body::Json(edit)),
            (_, 2) if !self.kind.custom => ("PATCH", path, "application/strategic-merge-patch+json", Body::Json(edit)),
            _ => ("PATCH", path, "application/json-patch+json", Body::Json(metadata::as_json_patch(&edit))),
        }
    }

    pub(super) fn connect(&mut self, collection: &str, name: &str, query: &mut Vec<String>) -> Parts {
        let subresource = self.verb.subresource().unwrap_or_default();
        let path = format!("{collection}/{name}/{subresource}");
        match self.verb {
            Verb::Exec => query.extend(["command=id", "stdout=true", "container=main"].map(str::to_owned)),
            Verb::Attach => query.extend(["stdin=true", "stdout=true"].map(str::to_owned)),
            Verb::PortForward => query.push("ports=80".to_owned()),
            _ => {
                let method = self.random.pick(&["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);
                let port = self.random.pick(&["", ":80", ":443"]);
                let scheme = if port.is_empty() { "" } else { self.random.pick(&["", "https:", "http:"]) };
                let rest = self.random.pick(&["", "/", "/run/prod/fuzz/main", "/a/../b"]);
                let path = format!("{collection}/{scheme}{name}{port}/{subresource}{rest}");
                return (method, path, "", Body::None);
            }
        }
        (self.random.pick(&["GET", "POST"]), path, "", Body::None)
    }

    /// What a client asks for when it wants a stream, and some forget.
    pub(super) fn upgrade(&mut self) -> Vec<(String, String)> {
        let headers: &[(&str, &str)] = match (self.verb.is_connect() && self.verb != Verb::Proxy, self.random.below(3))
        {
            (false, _) | (true, 0) => &[],
            (true, 1) => &[
                ("Connection", "Upgrade"),
                ("Upgrade", "websocket"),
                ("Sec-WebSocket-Version", "13"),
                ("Sec-WebSocket-Key", "ZnV6emZ1enpmdXp6ZnV6eg=="),
                ("Sec-WebSocket-Protocol", "v5.channel.k8s.io"),
            ],
            (true, _) => &[
                ("Connection", "Upgrade"),
                ("Upgrade", "SPDY/3.1"),
                ("X-Stream-Protocol-Version", "v4.channel.k8s.io"),
            ],
        };
        headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}
