//! Who may log in: one kubeconfig with a context per person, and the rights that each of them has.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::certs::{Authority, Pem, write_private};
use crate::kubectl::Kubectl;
use crate::wait::wait_until;

/// The namespaces that people work in; every cluster of ours starts with them.
pub const NAMESPACES: [&str; 3] = ["prod", "staging", "dev"];

/// The people: name of the context, name the API server knows them by, their group.
pub const PEOPLE: [(&str, &str, &str); 4] = [
    ("admin", "admin", "system:masters"),
    ("alice", "alice@example.com", "developers"),
    ("bob", "bob@example.com", "developers"),
    ("carol", "carol@example.com", "approvers"),
];

/// The context that logs in as Flux' kustomize-controller, with the proof that it is the pod.
pub const FLUX: &str = "flux";

/// Rights of the people in the whole cluster; those in breakglass come with it, in `tests/local/people.yaml`.
pub const RIGHTS: &str = include_str!("rights.yaml");

/// Rights of the people in breakglass: bindings of roles that its manifests bring.
pub const BREAKGLASS_RIGHTS: &str = include_str!("../local/people.yaml");

/// A right that `edit` gives: who has it has the rest of that role too.
pub const EDIT: [&str; 2] = ["create", "deployments.apps"];

/// A Namespace that alice and bob may edit, as a document for `kubectl apply`.
#[must_use]
pub fn namespace(name: &str) -> String {
    let editors: Vec<Value> = PEOPLE
        .iter()
        .filter(|(.., group)| *group == "developers")
        .map(|(_, user, _)| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}))
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}},
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": {"name": "people-edit", "namespace": name},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
                "subjects": editors,
            },
        ],
    })
    .to_string()
}

/// A Role that lets `user` write to `resources` (group and resource), as a document for `kubectl apply`.
pub(crate) fn grant(user: &str, namespace: &str, resources: &[(&str, &str)]) -> String {
    let rules: Vec<Value> = resources
        .iter()
        .map(|(group, resource)| {
            json!({"apiGroups": [group], "resources": [resource], "verbs": ["get", "create", "update", "patch"]})
        })
        .collect();
    let (api, metadata) =
        ("rbac.authorization.k8s.io", json!({"name": format!("more:{user}"), "namespace": namespace}));
    let subject = json!({"apiGroup": api, "kind": "User", "name": user});
    let version = format!("{api}/v1");
    let role = json!({"apiVersion": version, "kind": "Role", "metadata": metadata, "rules": rules});
    let binding = json!({"apiVersion": version, "kind": "RoleBinding", "metadata": metadata, "subjects": [subject],
        "roleRef": {"apiGroup": api, "kind": "Role", "name": format!("more:{user}")}});
    json!({"apiVersion": "v1", "kind": "List", "items": [role, binding]}).to_string()
}

/// Waits until the API server lets `user` write to the last of `resources`: a Role is there with all of its rules.
pub(crate) fn wait_granted(admin: &Kubectl, user: &str, resources: &[(&str, &str)]) -> Result<()> {
    let Some((group, resource)) = resources.last() else { return Ok(()) };
    let (plural, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let what = [&format!("{plural}.{group}"), "--subresource", subresource];
    wait_until(&format!("the right to {resource}"), Duration::from_secs(60), || {
        let args = [&["auth", "can-i", "--as", user, "patch"], &what[..]].concat();
        admin.try_ok(&args, "").map(drop).map_err(|error| format!("{error:#}"))
    })
}

/// A login as kubeconfig knows it.
#[derive(Clone, Debug)]
pub enum Login {
    /// By client certificate.
    Certificate(Pem),
    /// By bearer token.
    Token(String),
}

/// A kubeconfig in the making: one cluster, any number of logins, a context for each.
#[derive(Clone, Debug)]
pub struct Kubeconfig {
    document: Value,
}

impl Kubeconfig {
    /// A kubeconfig without a login for the API server at `url`.
    #[must_use]
    pub fn new(url: &str, authority: &str) -> Self {
        let cluster = json!({"server": url, "certificate-authority-data": STANDARD.encode(authority)});
        Self {
            document: json!({
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "breakglass", "cluster": cluster}],
                "users": [],
                "contexts": [],
            }),
        }
    }

    /// A kubeconfig with the [`PEOPLE`], all of them signed by `authority`.
    ///
    /// # Errors
    /// When there is no randomness to be had.
    pub fn of_people(url: &str, authority: &Authority) -> Result<Self> {
        let mut config = Self::new(url, &authority.certificate());
        for (context, user, group) in PEOPLE {
            config.add(context, &Login::Certificate(authority.client(user, Some(group))?));
        }
        Ok(config)
    }

    /// Takes what `kubectl config view --raw --flatten -o json` prints.
    ///
    /// # Errors
    /// When that is no JSON.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(Self { document: serde_json::from_str(text).context("reading a kubeconfig")? })
    }

    /// Adds a login and a context of the same name.
    pub fn add(&mut self, name: &str, login: &Login) {
        let user = match login {
            Login::Certificate(pem) => json!({
                "client-certificate-data": STANDARD.encode(&pem.certificate),
                "client-key-data": STANDARD.encode(&pem.key),
            }),
            Login::Token(token) => json!({"token": token}),
        };
        let context = json!({"cluster": "breakglass", "user": name});
        for (list, entry) in
            [("users", json!({"name": name, "user": user})), ("contexts", json!({"name": name, "context": context}))]
        {
            if let Some(list) = self.document[list].as_array_mut() {
                list.retain(|existing| existing["name"] != name);
                list.push(entry);
            }
        }
    }

    /// The same cluster with `login` as its only one.
    #[must_use]
    pub fn alone(&self, name: &str, login: &Login) -> Self {
        let mut alone = self.clone();
        alone.document["users"] = json!([]);
        alone.document["contexts"] = json!([]);
        alone.add(name, login);
        alone
    }

    /// The same with the API server at another address, which its certificate has to name too.
    #[must_use]
    pub fn reached_at(mut self, url: &str) -> Self {
        self.document["clusters"][0]["cluster"]["server"] = json!(url);
        self
    }

    /// Names of the contexts in it.
    #[must_use]
    pub fn contexts(&self) -> Vec<String> {
        let contexts = self.document["contexts"].as_array();
        contexts.into_iter().flatten().filter_map(|context| context["name"].as_str().map(str::to_owned)).collect()
    }

    /// Writes it to `path` for its owner only, with `current` as the context that is used unless told otherwise.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, path: &Path, current: &str) -> Result<()> {
        let mut document = self.document.clone();
        document["current-context"] = json!(current);
        write_private(path, &serde_json::to_string_pretty(&document)?)
            .with_context(|| format!("writing {}", path.display()))
    }

    /// Writes one file per context into `directory`, so that a command needs no `--context` to run as that person.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write_each(&self, directory: &Path) -> Result<()> {
        std::fs::create_dir_all(directory)?;
        self.contexts().iter().try_for_each(|context| self.write(&file_of(directory, context), context))
    }
}

/// Waits until the API server lets `person` do `what` (verb and resource) in `namespace`.
///
/// It reads roles and bindings through a cache, and `edit` and `view` are empty until a controller has filled them.
///
/// # Errors
/// When it still refuses after a minute.
pub fn wait_until_may(person: &Kubectl, what: [&str; 2], namespace: &str) -> Result<()> {
    let limit = Duration::from_secs(60);
    wait_until(&format!("the right to {} in {namespace}", what.join(" ")), limit, || {
        let args = [&["auth", "can-i"], &what[..], &["-n", namespace]].concat();
        person.try_ok(&args, "").map(drop).map_err(|error| format!("{error:#}"))
    })
}

/// Where [`Kubeconfig::write_each`] puts the file of `person`.
#[must_use]
pub fn file_of(directory: &Path, person: &str) -> PathBuf {
    directory.join(format!("{person}.kubeconfig"))
}
