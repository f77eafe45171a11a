//! BreakglassChange: the record of one write let in under a token.

use kube::core::ApiResource;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Timestamp;

/// One write as it was let in: who, when, under which token, and the object before and after. Written by the webhook
/// only; immutable.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "breakglass.dev",
    version = "v1alpha1",
    kind = "BreakglassChange",
    plural = "breakglasschanges",
    shortname = "bgc",
    category = "breakglass",
    status = "BreakglassChangeStatus",
    derive = "PartialEq",
    doc = "A BreakglassChange is the record of one write let in under a BreakglassToken: who, when, the object before, and the patch to what it became. It is a debt until it is settled. List what is owed with `kubectl breakglass list`.",
    selectable = ".spec.user",
    selectable = ".spec.incident",
    selectable = ".spec.token",
    printcolumn(name = "Incident", type_ = "string", json_path = ".spec.incident"),
    printcolumn(name = "User", type_ = "string", json_path = ".spec.user"),
    printcolumn(name = "Operation", type_ = "string", json_path = ".spec.operation"),
    printcolumn(name = "Namespace", type_ = "string", json_path = ".spec.target.namespace"),
    printcolumn(name = "Kind", type_ = "string", json_path = ".spec.target.kind"),
    printcolumn(name = "Object", type_ = "string", json_path = ".spec.target.name"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Decide By", type_ = "string", json_path = ".spec.decideBy", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf").message("a change is a record: its spec never changes"))]
pub struct BreakglassChangeSpec {
    /// The token that the write was let in under.
    #[schemars(length(min = 1, max = 63))]
    pub token: String,
    /// The incident of that token.
    #[schemars(length(min = 1, max = 63))]
    pub incident: String,
    /// Who wrote: the user that the API server authenticated.
    #[schemars(length(min = 1, max = 1024))]
    pub user: String,
    /// The credential that was used, where the API server names it (credential-id of a certificate or a token).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub credential: Option<String>,
    /// When the write was let in, by the webhook's clock.
    pub time: Timestamp,
    /// The environment that was written to.
    #[schemars(length(min = 1, max = 63))]
    pub environment: String,
    /// What was done: Create, Update, Delete, …
    pub operation: Operation,
    /// The subresource that was written to, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub subresource: Option<String>,
    /// The field manager that the client named, such as kubectl-edit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub manager: Option<String>,
    /// Which GitOps engine's object owns the target in Git, as its labels say: `Kustomization flux-system/prod`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub engine_owner: Option<String>,
    /// What was written to.
    pub target: Target,
    /// The object before the write, without server noise. Absent for a create. Values of redacted kinds are keyed
    /// hashes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub before: Option<Value>,
    /// The JSON Patch (RFC 6902) from before to what was let in. A delete replaces the whole with null.
    #[serde(default)]
    #[schemars(schema_with = "any_steps")]
    pub patch: Vec<PatchStep>,
    /// True when the bodies were too large to keep, and hashes stand in their place.
    #[serde(default)]
    pub truncated: bool,
    /// Whether the engine was kept from undoing the write, by the very admission of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hold: bool,
    /// The changes that this write undid: it put the object back to what it was before the first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 253)))]
    pub undoes: Vec<String>,
    /// Until when somebody has to decide what becomes of it.
    pub decide_by: Timestamp,
}

/// The object that a change wrote to.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Group and version, as in the object.
    #[schemars(length(max = 512))]
    pub api_version: String,
    /// The kind, as in the object.
    #[schemars(length(max = 256))]
    pub kind: String,
    /// The plural name of the resource in URLs.
    #[schemars(length(max = 256))]
    pub resource: String,
    /// The namespace; absent for cluster-scoped objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub namespace: Option<String>,
    /// The name.
    #[schemars(length(max = 1024))]
    pub name: String,
    /// The uid; absent where the API server had not given one yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub uid: Option<String>,
}

impl Target {
    /// The API group; empty for the core group.
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    /// The version in the group.
    pub fn version(&self) -> &str {
        self.api_version.split_once('/').map_or(&self.api_version, |(_, version)| version)
    }

    /// Its kind, as a client asks for it.
    pub fn api_resource(&self) -> ApiResource {
        ApiResource {
            group: self.group().to_owned(),
            version: self.version().to_owned(),
            api_version: self.api_version.clone(),
            kind: self.kind.clone(),
            plural: self.resource.clone(),
        }
    }

    /// `deployment.apps/api`.
    pub fn short(&self) -> String {
        let dot = if self.group().is_empty() { "" } else { "." };
        format!("{}{dot}{}/{}", self.kind.to_lowercase(), self.group(), self.name)
    }

    /// ` -n prod`, for a command line; empty for what lives in no namespace.
    pub fn flag(&self) -> String {
        self.namespace.as_ref().map_or_else(String::new, |namespace| format!(" -n {namespace}"))
    }

    /// `deployment.apps/api in prod`.
    pub fn place(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{} in {namespace}", self.short()),
            None => self.short(),
        }
    }
}

/// What was done to an object, as stamps, records and lists name it.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, JsonSchema)]
pub enum Operation {
    /// It did not exist before.
    Create,
    /// It was there, and is different now.
    Update,
    /// It was there, and is gone.
    Delete,
    /// Its number of replicas was set through the scale subresource.
    Scale,
    /// A pod was evicted.
    Evict,
    /// A process was started in, or a connection opened to, something that runs.
    Exec,
}

impl Operation {
    /// The name as it stands in a stamp.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "Create",
            Self::Update => "Update",
            Self::Delete => "Delete",
            Self::Scale => "Scale",
            Self::Evict => "Evict",
            Self::Exec => "Exec",
        }
    }
}

/// One operation of a JSON Patch.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct PatchStep {
    /// add, remove, replace, …
    pub op: String,
    /// A JSON pointer.
    pub path: String,
    /// The new value, for add and replace. `null` is a value.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub value: Option<Value>,
}

/// Tells `"value": null` (a value) from no `value` at all.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "nullable": true, "x-kubernetes-preserve-unknown-fields": true})
}

fn any_steps(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "items": {
            "type": "object",
            "required": ["op", "path"],
            "properties": {
                "op": {"type": "string", "description": "add, remove or replace."},
                "path": {"type": "string", "description": "A JSON pointer."},
                "value": {
                    "description": "The new value.",
                    "nullable": true,
                    "x-kubernetes-preserve-unknown-fields": true,
                },
            },
        },
    })
}

/// What has become of a change. A verdict is a person's; the webhook fills in by and at.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BreakglassChangeStatus {
    /// Admitted (let in, not yet seen in the cluster), Pending, Accepted, Rejected, Deferred, Settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<ChangePhase>,
    /// What a person decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Who decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub by: Option<String>,
    /// When it was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// What they said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub note: Option<String>,
    /// Until when a deferred change may stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Where in Git an accepted change was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<GitPlace>,
    /// Whether the engine is kept from the object, where somebody said so after the write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// How a settled change ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// When it was proven settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<Timestamp>,
}

/// The stations of a change.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum ChangePhase {
    /// Let in; not yet seen in the cluster.
    Admitted,
    /// Seen in the cluster; nobody has decided.
    Pending,
    /// To be kept, in Git.
    Accepted,
    /// To be put back.
    Rejected,
    /// To be decided by a later date.
    Deferred,
    /// Proven closed.
    Settled,
}

impl ChangePhase {
    /// The name as it stands in a status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "Admitted",
            Self::Pending => "Pending",
            Self::Accepted => "Accepted",
            Self::Rejected => "Rejected",
            Self::Deferred => "Deferred",
            Self::Settled => "Settled",
        }
    }
}

/// What a person decides about a change.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum Verdict {
    /// Keep it: it goes into Git.
    Accepted,
    /// Put back what was there.
    Rejected,
    /// Decide later, by a date.
    Deferred,
}

/// How a settled change ended.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum Outcome {
    /// The engine applies from Git what the change said.
    InGit,
    /// The object is what it was before.
    PutBack,
    /// The engine undid it.
    UndoneByEngine,
    /// A person undid it.
    Undone,
    /// A later change took its place.
    Superseded,
    /// The object no longer exists.
    Gone,
    /// A later check refused the write.
    NeverLanded,
}

/// What a person says about the engine and the object of a change; the webhook fills in by and at.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// Held, or Released.
    pub state: HoldState,
    /// Who said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub by: Option<String>,
    /// When they said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

/// Whether an engine is to be kept from an object.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum HoldState {
    /// It is, until the change is over, Git says it, or something is due.
    Held,
    /// It is not: the engine applies what Git says, and undoes what Git does not say.
    Released,
}

/// Where in Git a change was written.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GitPlace {
    /// The repository's URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub repository: Option<String>,
    /// The branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub branch: Option<String>,
    /// The commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub commit: Option<String>,
    /// The file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub path: Option<String>,
}
