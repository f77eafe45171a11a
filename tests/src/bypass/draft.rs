//! One request in the making: an object written to, or deleted.

use serde_json::{Value, json};

use super::kind::{Kind, Verb};
use super::make::{ENDING_OBJECT, NODE, OBJECT};
use super::random::Random;
use super::request::{Aim, Body, Request};
use super::{metadata, protobuf};

/// Stands for the uid of the object as it is when the request is sent.
pub(super) const UID: &str = "<uid>";

/// Method, path, media type and body.
pub(super) type Parts = (&'static str, String, &'static str, Body);

/// A request in the making.
pub(super) struct Draft<'d> {
    pub(super) verb: Verb,
    pub(super) kind: &'d Kind,
    pub(super) namespace: &'static str,
    pub(super) aim: Aim,
    /// Whether nothing is to be kept.
    pub(super) dry_run: bool,
    pub(super) random: &'d mut Random,
}

impl Draft<'_> {
    /// The whole of it; who sends it is filled in later.
    pub(super) fn request(mut self) -> Request {
        let (verb, kind, namespace) = (self.verb, self.kind, self.namespace);
        let mut query = Vec::new();
        // A connection is never dry: nothing says so to the API server.
        self.dry_run = self.random.percent(10) && !verb.is_connect();
        if self.dry_run {
            query.push("dryRun=All".to_owned());
        }
        let collection = kind.collection(namespace);
        let name = self.name();
        let (method, path, content_type, body) = match verb {
            Verb::Create => self.create(&collection),
            Verb::Update => self.update(&collection, &name),
            Verb::JsonPatch | Verb::MergePatch | Verb::StrategicPatch => self.patch(format!("{collection}/{name}")),
            Verb::Apply => {
                query.extend(["fieldManager=fuzz".to_owned(), format!("force={}", self.random.percent(80))]);
                self.apply(&collection, &name)
            }
            Verb::Delete => self.delete(format!("{collection}/{name}"), &mut query),
            Verb::DeleteCollection => {
                query.extend(self.random.percent(50).then(|| "labelSelector=fuzz%3Dyes".to_owned()));
                self.delete(collection.clone(), &mut query)
            }
            Verb::Evict | Verb::Bind | Verb::Token => self.create_subresource(&collection, &name),
            Verb::Scale | Verb::Status | Verb::Resize | Verb::Debug | Verb::Finalize => {
                self.update_subresource(&collection, &name)
            }
            Verb::Exec | Verb::Attach | Verb::PortForward | Verb::Proxy => self.connect(&collection, &name, &mut query),
        };
        self.parameters(&mut query);
        let mut headers = self.upgrade();
        if body != Body::None {
            headers.push(("Content-Type".to_owned(), content_type.to_owned()));
        }
        let separator = if query.is_empty() { "" } else { "?" };
        let path = format!("{}{separator}{}", self.disguise(path), query.join("&"));
        let (key, aim, dry_run) = (kind.key(), self.aim, self.dry_run);
        Request { seed: 0, index: 0, verb, kind: key, aim, dry_run, login: "", method, path, headers, body }
    }

    /// An object that is there, mostly.
    fn name(&mut self) -> String {
        if self.kind.plural == "namespaces" {
            return self.namespace.to_owned();
        }
        if self.kind.plural == "nodes" {
            return NODE.to_owned();
        }
        let name = match self.random.below(20) {
            0 => "ghost",
            1..=4 if self.kind.plural == "configmaps" => ENDING_OBJECT,
            _ => OBJECT,
        };
        name.to_owned()
    }

    fn create(&mut self, collection: &str) -> Parts {
        let name =
            if self.kind.plural == "namespaces" { format!("prod-{}", self.random.name()) } else { self.random.name() };
        if self.kind.plural == "configmaps" && self.random.percent(30) {
            let bytes = protobuf::config_map(&name, self.namespace);
            return ("POST", collection.to_owned(), protobuf::MEDIA_TYPE, Body::Bytes(bytes));
        }
        let mut object = self.object(&name);
        if self.random.percent(20) {
            object["metadata"]["generateName"] = json!(format!("{}-", name.trim_end_matches(char::is_alphanumeric)));
            object["metadata"]["name"].take();
        }
        ("POST", collection.to_owned(), self.json_or_yaml(), Body::Json(object))
    }

    fn update(&mut self, collection: &str, name: &str) -> Parts {
        // Some kinds are made by a PUT of what is not there.
        let fresh = self.random.percent(10) && self.kind.plural != "namespaces";
        let name = if fresh { self.random.name() } else { name.to_owned() };
        let path = format!("{collection}/{name}");
        if self.kind.plural == "configmaps" && self.random.percent(20) {
            let bytes = protobuf::config_map(&name, self.namespace);
            return ("PUT", path, protobuf::MEDIA_TYPE, Body::Bytes(bytes));
        }
        let body = match fresh || self.random.percent(20) {
            true => Body::Json(self.object(&name)),
            false => Body::Edit(self.edit()),
        };
        ("PUT", path, self.json_or_yaml(), body)
    }

    fn patch(&mut self, path: String) -> Parts {
        let edit = self.edit();
        let (content_type, body) = match self.verb {
            Verb::JsonPatch => ("application/json-patch+json", metadata::as_json_patch(&edit)),
            Verb::StrategicPatch => ("application/strategic-merge-patch+json", edit),
            _ => ("application/merge-patch+json", edit),
        };
        ("PATCH", path, content_type, Body::Json(body))
    }

    fn apply(&mut self, collection: &str, name: &str) -> Parts {
        let fresh = self.random.percent(40) && self.kind.plural != "namespaces";
        let name = if fresh { self.random.name() } else { name.to_owned() };
        let body = if fresh {
            self.object(&name)
        } else {
            let mut body = self.head(&name);
            json_patch::merge(&mut body, &self.edit());
            body
        };
        ("PATCH", format!("{collection}/{name}"), "application/apply-patch+yaml", Body::Json(body))
    }

    fn delete(&mut self, path: String, query: &mut Vec<String>) -> Parts {
        let propagation = self.random.pick(&["Orphan", "Background", "Foreground"]);
        let grace = self.random.below(2) * 30;
        match self.random.below(4) {
            0 => ("DELETE", path, "", Body::None),
            1 => {
                query.extend([format!("propagationPolicy={propagation}"), format!("gracePeriodSeconds={grace}")]);
                ("DELETE", path, "", Body::None)
            }
            // With a body the query counts for nothing, a dry run there neither.
            _ if query.iter().any(|parameter| parameter == "dryRun=All") => ("DELETE", path, "", Body::None),
            2 => {
                let bytes = protobuf::delete_options(grace as u64, propagation);
                ("DELETE", path, protobuf::MEDIA_TYPE, Body::Bytes(bytes))
            }
            _ => {
                let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation,
                    "gracePeriodSeconds": grace});
                if self.verb == Verb::Delete && self.random.percent(50) {
                    options["preconditions"] = json!({"uid": UID});
                }
                ("DELETE", path, self.json_or_yaml(), Body::Json(options))
            }
        }
    }

    fn parameters(&mut self, query: &mut Vec<String>) {
        if self.verb != Verb::Apply && self.random.percent(30) {
            let manager = self.random.pick(&["fuzz", "kubectl", "kustomize-controller", "breakglass"]);
            query.push(format!("fieldManager={manager}"));
        }
        for parameter in ["fieldValidation=Ignore", "fieldValidation=Strict", "pretty=true", "timeout=5s"] {
            let known = query.iter().any(|other| other.split('=').next() == parameter.split('=').next());
            if !known && self.random.percent(8) {
                query.push(parameter.to_owned());
            }
        }
    }

    /// The same path, written otherwise.
    fn disguise(&mut self, path: String) -> String {
        match self.random.below(120) {
            0 => path.replacen("/namespaces/p", "/namespaces/%70", 1),
            1 => path.replacen("/namespaces/", "//namespaces/", 1),
            2 => format!("{path}/"),
            3 => path.replacen("/namespaces/", "/namespaces/dev-fuzz/../", 1),
            4 => path.replacen("/namespaces/", "/Namespaces/", 1),
            _ => path,
        }
    }

    pub(super) fn json_or_yaml(&mut self) -> &'static str {
        // JSON is YAML.
        self.random.pick(&["application/json", "application/json", "application/yaml"])
    }

    fn head(&self, name: &str) -> Value {
        json!({"apiVersion": self.kind.group_version, "kind": self.kind.kind, "metadata": {"name": name}})
    }

    /// A new object.
    fn object(&mut self, name: &str) -> Value {
        let mut object = self.head(name);
        json_patch::merge(&mut object, &self.kind.stub(self.namespace));
        object["metadata"]["labels"] = json!({"fuzz": "no"});
        json_patch::merge(&mut object["metadata"], &metadata::forged(self.random));
        object
    }

    /// What is changed of an object, as a merge patch.
    fn edit(&mut self) -> Value {
        if self.kind.plural == "namespaces" {
            return json!({"metadata": metadata::of_namespace(self.random)});
        }
        if self.random.percent(50) {
            return self.kind.edit.clone();
        }
        json!({"metadata": metadata::edit(self.random)})
    }
}
