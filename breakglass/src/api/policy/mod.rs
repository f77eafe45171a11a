//! BreakglassPolicy: what is guarded, who is who, and for how long a token may live.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Span;

// The built-in policy.
mod defaults;

/// What is guarded, who is who, and for how long a token may live. Every field that is left out has the built-in value
/// that `kubectl breakglass policy show` prints.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "breakglass.dev",
    version = "v1alpha1",
    kind = "BreakglassPolicy",
    plural = "breakglasspolicies",
    shortname = "bgp",
    category = "breakglass",
    derive = "PartialEq",
    doc = "A BreakglassPolicy says what is guarded, who is who, and for how long a token may live. Only the one named default is honoured; without it a built-in policy holds. See the one in force with `kubectl breakglass policy show`.",
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "Incidents", type_ = "string", json_path = ".spec.incidentPattern"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name == 'default'")
        .message("only the policy named default is honoured: name it default")
)]
#[serde(rename_all = "camelCase")]
pub struct BreakglassPolicySpec {
    /// Enforce refuses prod writes without a token; Warn lets them in with a warning; Audit lets them in and counts.
    #[serde(default)]
    pub mode: Mode,
    /// The regular expression that an incident's id must match.
    #[serde(default = "defaults::incident_pattern")]
    #[schemars(length(min = 1, max = 512))]
    pub incident_pattern: String,
    /// Who is not a person: GitOps engines, and automation that you trust. Everybody else writes directly.
    #[serde(default)]
    pub writers: Writers,
    /// Classes of namespaces with the same rules. The first that matches a namespace counts; one that none matches is
    /// stamped and never refused.
    #[serde(default = "defaults::environments")]
    #[schemars(length(min = 1, max = 32))]
    pub environments: Vec<Environment>,
    /// What happens to direct writes to objects that live in no namespace, such as ClusterRoles. A Namespace counts as
    /// its own environment instead. RequireToken asks for a token of the environment named cluster.
    #[serde(default = "defaults::cluster_scoped")]
    pub cluster_scoped: Gate,
    /// Flux's Kustomizations, Argo CD's Applications and the like: they deploy to production from wherever they live.
    #[serde(default)]
    pub engine_objects: EngineObjects,
    /// Whose values never stand readable in a record.
    #[serde(default = "defaults::redact")]
    #[schemars(length(max = 64))]
    pub redact: Vec<Redaction>,
    /// Writes that are neither stamped nor refused. In an environment that requires tokens an exemption by labels alone
    /// is not honoured: everybody could put the label on.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub exempt: Vec<Exemption>,
}

impl Default for BreakglassPolicySpec {
    /// The built-in policy: what holds while there is no object named `default`.
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            incident_pattern: defaults::incident_pattern(),
            writers: Writers::default(),
            environments: defaults::environments(),
            cluster_scoped: defaults::cluster_scoped(),
            engine_objects: EngineObjects::default(),
            redact: defaults::redact(),
            exempt: Vec::new(),
        }
    }
}

/// What a refusal means.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, JsonSchema)]
pub enum Mode {
    /// Writes without a token are refused.
    #[default]
    Enforce,
    /// Writes without a token are let in with a warning to the client.
    Warn,
    /// Writes without a token are let in and counted.
    Audit,
}

/// What happens to a direct write.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, JsonSchema)]
pub enum Gate {
    /// It needs a live token, and leaves a stamp and a record.
    RequireToken,
    /// It is let in and stamped.
    Stamp,
    /// It is let in as it is.
    Ignore,
}

impl Gate {
    /// The stricter of two gates is the one with the larger number.
    pub fn strictness(self) -> u8 {
        match self {
            Self::RequireToken => 2,
            Self::Stamp => 1,
            Self::Ignore => 0,
        }
    }
}

/// Writers that are not people.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Writers {
    /// GitOps engines: their writes are what Git says, and pass untouched.
    #[serde(default = "defaults::engines")]
    #[schemars(length(max = 32))]
    pub engines: Vec<EngineWriter>,
    /// Other automation whose writes pass untouched.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub trusted: Vec<TrustedWriter>,
}

impl Default for Writers {
    fn default() -> Self {
        Self { engines: defaults::engines(), trusted: Vec::new() }
    }
}

/// A GitOps engine, and the users that it writes as.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EngineWriter {
    /// What messages call it.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Exact user names, or a prefix and one trailing *.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 512)))]
    pub users: Vec<String>,
    /// The engine's other controllers: they keep the engine's own objects (their finalizers, say) and are nobody special
    /// elsewhere. Exact user names, or a prefix and one trailing *.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(min = 1, max = 512)))]
    pub keepers: Vec<String>,
    /// What has to prove that it is really this engine.
    #[serde(default)]
    pub proof: Proof,
}

/// The objects that tell an engine what to apply.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EngineObjects {
    /// The environment whose rules hold for them, in whatever namespace they live. One that the policy does not list
    /// requires tokens.
    #[serde(default = "defaults::engine_environment")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub environment: String,
    /// Namespaces whose engine objects cannot reach a guarded environment (names, * stands for anything): there the rules
    /// of the namespace hold.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63), regex(pattern = "^[-a-z0-9*]+$")))]
    pub except_namespaces: Vec<String>,
}

impl Default for EngineObjects {
    fn default() -> Self {
        Self { environment: defaults::engine_environment(), except_namespaces: Vec::new() }
    }
}

/// Automation that is trusted to write, everywhere or in some namespaces.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrustedWriter {
    /// What messages call it.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Exact user names, or a prefix and one trailing *.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(min = 1, max = 512)))]
    pub users: Vec<String>,
    /// Exact names of groups whose members it speaks for.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(min = 1, max = 512)))]
    pub groups: Vec<String>,
    /// What has to prove that it is really this automation.
    #[serde(default)]
    pub proof: Proof,
    /// Only in these namespaces (names, * stands for anything). Empty or absent: everywhere.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    pub namespaces: Vec<String>,
}

/// What has to prove an identity.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, JsonSchema)]
pub enum Proof {
    /// The credential is bound to a pod: the API server names the uid and the pod. Impersonation has neither.
    #[default]
    PodBound,
    /// The user name is enough. Whoever may impersonate it passes as well.
    Username,
}

/// A class of namespaces with the same rules.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Environment {
    /// Its name, as in `kubectl breakglass open --environment`.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Names of namespaces; * stands for anything.
    #[serde(default)]
    #[schemars(length(max = 256), inner(length(min = 1, max = 63), regex(pattern = "^[-a-z0-9*]+$")))]
    pub namespaces: Vec<String>,
    /// Namespaces with the label breakglass.dev/environment of this value belong to it as well, whatever their name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"))]
    pub namespace_label: Option<String>,
    /// What happens to direct writes.
    pub writes: Gate,
    /// What happens to exec, attach, portforward, proxy and ephemeral containers. Absent: the same as to writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_gate")]
    pub exec: Option<Gate>,
    /// How long tokens live here, and who has to agree.
    #[serde(default)]
    pub token: TokenRules,
    /// Until when changes have to be decided.
    #[serde(default)]
    pub debt: DebtRules,
}

impl Environment {
    /// What happens to exec and the like.
    pub fn exec_gate(&self) -> Gate {
        self.exec.unwrap_or(self.writes)
    }
}

/// A Gate that may be absent; written out, so that the field keeps its own description.
fn optional_gate(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "string", "nullable": true, "enum": ["RequireToken", "Stamp", "Ignore"]})
}

/// How long tokens live, and who has to agree.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
pub struct TokenRules {
    /// How long a token lives when nobody says.
    #[serde(default = "defaults::ttl", rename = "defaultTTL")]
    pub default_ttl: Span,
    /// How long a token may live at most.
    #[serde(default = "defaults::max_ttl", rename = "maxTTL")]
    pub max_ttl: Span,
    /// Whether somebody else has to agree.
    #[serde(default)]
    pub approval: Approval,
}

impl Default for TokenRules {
    fn default() -> Self {
        Self { default_ttl: defaults::ttl(), max_ttl: defaults::max_ttl(), approval: Approval::default() }
    }
}

/// Whether somebody else has to agree to a token.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
pub struct Approval {
    /// None, Before the first write, or After it.
    #[serde(default)]
    pub mode: ApprovalMode,
    /// With After: how soon after opening.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Span>,
    /// Who may approve. Nobody, when it is empty.
    #[serde(default)]
    pub approvers: Approvers,
}

/// When an approval is needed.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum ApprovalMode {
    /// Never.
    #[default]
    None,
    /// Before the token admits anything.
    Before,
    /// The token admits at once, and ends when nobody approves in time.
    After,
}

/// Who may approve tokens.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
pub struct Approvers {
    /// Members of these groups, other than the holder.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(min = 1, max = 512)))]
    pub groups: Vec<String>,
}

/// Until when changes have to be decided.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DebtRules {
    /// How soon a change needs a verdict.
    #[serde(default = "defaults::decide_within")]
    pub decide_within: Span,
    /// How far a verdict may be put off, from when the change was made.
    #[serde(default = "defaults::max_defer")]
    pub max_defer: Span,
    /// Who may give the verdict, of those who may write the status of changes.
    #[serde(default)]
    pub decided_by: DecidedBy,
}

/// Who may decide about a change.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum DecidedBy {
    /// Also who made it.
    #[default]
    Anyone,
    /// Not who made it.
    AnotherPerson,
}

impl Default for DebtRules {
    fn default() -> Self {
        Self {
            decide_within: defaults::decide_within(),
            max_defer: defaults::max_defer(),
            decided_by: DecidedBy::default(),
        }
    }
}

/// A kind whose values never stand readable in a record.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
pub struct Redaction {
    /// The API group; empty for the core group.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub group: String,
    /// The kind, such as Secret.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// JSON pointers to what is hidden: every value below them becomes a keyed hash.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 512), regex(pattern = "^/")))]
    pub paths: Vec<String>,
}

/// Writes that are neither stamped nor refused.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
pub struct Exemption {
    /// What messages call it.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Why, for who reads the policy later.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
    /// Resources as `plural` or `plural.group`. Empty or absent: all.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(min = 1, max = 317)))]
    pub resources: Vec<String>,
    /// Namespaces; * stands for anything. Empty or absent: all.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    pub namespaces: Vec<String>,
    /// Labels that the object must carry, before and after the write.
    #[serde(default)]
    pub labels: std::collections::BTreeMap<String, String>,
}
