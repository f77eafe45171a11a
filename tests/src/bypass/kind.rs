//! What is written to: kinds with a body that Kubernetes takes, something to change, and their subresources.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde_json::Value;

/// Each kind in each version that is tried.
const KINDS: &str = include_str!("kinds.json");

/// Stands for the object's namespace in what it says.
const NAMESPACE: &str = "<namespace>";

/// A kind in one version.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kind {
    /// `apps/v1`.
    pub(super) group_version: String,
    /// `Deployment`.
    pub(super) kind: String,
    /// `deployments`.
    pub(super) plural: String,
    /// What an object needs besides its metadata; see [`NAMESPACE`].
    stub: Value,
    /// A merge patch of what it says.
    pub(super) edit: Value,
    /// Subresources; of `status` what is written there.
    pub(super) subresources: BTreeMap<String, Value>,
    /// Everybody may write it, in prod as well.
    #[serde(default)]
    pub(super) unguarded: bool,
    /// A GitOps engine's own: guarded in every namespace.
    #[serde(default)]
    pub(super) engine: bool,
    /// Defined by a CustomResourceDefinition.
    #[serde(default)]
    pub(super) custom: bool,
    /// Lives in no namespace.
    #[serde(default)]
    pub(super) cluster: bool,
}

impl Kind {
    /// All of them.
    pub(super) fn all() -> Vec<Self> {
        serde_json::from_str(KINDS).unwrap_or_else(|error| panic!("kinds.json: {error}"))
    }

    /// `deployments.apps/v1`.
    pub(super) fn key(&self) -> String {
        match self.group_version.split_once('/') {
            Some((group, version)) => format!("{}.{group}/{version}", self.plural),
            None => format!("{}/{}", self.plural, self.group_version),
        }
    }

    /// What an object needs besides its metadata, in this namespace.
    pub(super) fn stub(&self, namespace: &str) -> Value {
        let text = self.stub.to_string().replace(NAMESPACE, namespace);
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Where its objects are found.
    pub(super) fn collection(&self, namespace: &str) -> String {
        let api = if self.group_version.contains('/') { "apis" } else { "api" };
        let place = if self.cluster { String::new() } else { format!("/namespaces/{namespace}") };
        format!("/{api}/{}{place}/{}", self.group_version, self.plural)
    }

    fn has(&self, subresource: &str) -> bool {
        self.subresources.contains_key(subresource)
    }
}

/// A way to change something, or to reach into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// POST of an object.
    Create,
    /// PUT of an object.
    Update,
    /// RFC 6902.
    JsonPatch,
    /// RFC 7386.
    MergePatch,
    /// What built-in kinds alone have.
    StrategicPatch,
    /// Server-side apply, also of what is not there yet.
    Apply,
    /// Of one object.
    Delete,
    /// Of all that a selector finds.
    DeleteCollection,
    /// `pods/eviction`.
    Evict,
    /// `pods/binding` and `bindings`.
    Bind,
    /// `*/scale`.
    Scale,
    /// `*/status`.
    Status,
    /// `pods/resize`.
    Resize,
    /// `pods/ephemeralcontainers`.
    Debug,
    /// `serviceaccounts/token`.
    Token,
    /// `namespaces/finalize`.
    Finalize,
    /// A stream to a command in a pod.
    Exec,
    /// A stream to what runs in a pod.
    Attach,
    /// A stream to a port of a pod.
    PortForward,
    /// HTTP through the API server, to a pod, a service or a node.
    Proxy,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::Create,
        Self::Update,
        Self::JsonPatch,
        Self::MergePatch,
        Self::StrategicPatch,
        Self::Apply,
        Self::Delete,
        Self::DeleteCollection,
        Self::Evict,
        Self::Bind,
        Self::Scale,
        Self::Status,
        Self::Resize,
        Self::Debug,
        Self::Token,
        Self::Finalize,
        Self::Exec,
        Self::Attach,
        Self::PortForward,
        Self::Proxy,
    ];

    /// Whether the API server opens a connection for it.
    pub(super) fn is_connect(self) -> bool {
        matches!(self, Self::Exec | Self::Attach | Self::PortForward | Self::Proxy)
    }

    /// The subresource that it goes to.
    pub(super) fn subresource(self) -> Option<&'static str> {
        match self {
            Self::Evict => Some("eviction"),
            Self::Bind => Some("binding"),
            Self::Scale => Some("scale"),
            Self::Status => Some("status"),
            Self::Resize => Some("resize"),
            Self::Debug => Some("ephemeralcontainers"),
            Self::Token => Some("token"),
            Self::Finalize => Some("finalize"),
            Self::Exec => Some("exec"),
            Self::Attach => Some("attach"),
            Self::PortForward => Some("portforward"),
            Self::Proxy => Some("proxy"),
            Self::Create | Self::Update | Self::JsonPatch | Self::MergePatch | Self::StrategicPatch => None,
            Self::Apply | Self::Delete | Self::DeleteCollection => None,
        }
    }

    /// Whether a kind offers it.
    pub(super) fn fits(self, kind: &Kind) -> bool {
        match self {
            Self::Token => kind.plural == "serviceaccounts",
            _ if self.subresource().is_some() => self.subresource().is_some_and(|name| kind.has(name)),
            _ if kind.plural == "nodes" => false,
            Self::StrategicPatch => !kind.custom,
            Self::DeleteCollection => !kind.cluster,
            _ => true,
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::JsonPatch => "patch (json)",
            Self::MergePatch => "patch (merge)",
            Self::StrategicPatch => "patch (strategic)",
            Self::Apply => "patch (apply)",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Evict => "eviction",
            Self::Bind => "binding",
            Self::Scale => "scale",
            Self::Status => "status",
            Self::Resize => "resize",
            Self::Debug => "ephemeralcontainers",
            Self::Token => "token",
            Self::Finalize => "finalize",
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::PortForward => "portforward",
            Self::Proxy => "proxy",
        })
    }
}
