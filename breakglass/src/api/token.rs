//! BreakglassToken: one person's permission to write to an environment for one incident until a time.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Span, Timestamp};

/// What a token permits, to whom, why and until when. Set at create; immutable afterwards.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "breakglass.dev",
    version = "v1alpha1",
    kind = "BreakglassToken",
    plural = "breakglasstokens",
    shortname = "bgt",
    category = "breakglass",
    status = "BreakglassTokenStatus",
    derive = "PartialEq",
    doc = "A BreakglassToken is one person's permission to write to an environment for one incident until a time. It is not a secret: it is bound to the authenticated user who opened it, so there is nothing to paste or to leak. Open one with `kubectl breakglass open INC-123 -n prod --reason \"...\"`; end it early with `kubectl breakglass close INC-123`.",
    selectable = ".spec.user",
    selectable = ".spec.incident",
    selectable = ".spec.environment",
    printcolumn(name = "Incident", type_ = "string", json_path = ".spec.incident"),
    printcolumn(name = "User", type_ = "string", json_path = ".spec.user"),
    printcolumn(name = "Environment", type_ = "string", json_path = ".spec.environment"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".spec.expiresAt"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".spec.reason", priority = 1),
    printcolumn(name = "Writes", type_ = "integer", json_path = ".status.writes", priority = 1),
    validation = Rule::new("self.metadata.name.startsWith(self.spec.incident.lowerAscii() + '-')")
        .message("the name must be the incident in lower case, a dash and five characters"),
    validation = Rule::new("self.metadata.name.size() == self.spec.incident.size() + 6")
        .message("the name must be the incident in lower case, a dash and five characters")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf").message("a token's spec is immutable: open another one"))]
#[x_kube(validation = Rule::new("self.expiresAt > self.openedAt").message("expiresAt must be after openedAt"))]
pub struct BreakglassTokenSpec {
    /// The incident that this is for, such as INC-123. The policy's incidentPattern decides which are well formed.
    #[schemars(length(min = 1, max = 46), regex(pattern = "^[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?$"))]
    pub incident: String,
    /// Why production has to be written to directly, in the words that the review will read.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self.trim().size() > 0").message("give a reason: it is what the review will read"))]
    pub reason: String,
    /// Who may write under this token: always the authenticated user who opened it. The webhook fills it in; any other
    /// value is refused.
    #[schemars(length(min = 1, max = 1024))]
    pub user: String,
    /// The environment of the policy that may be written to, such as prod.
    #[schemars(length(min = 1, max = 63))]
    pub environment: String,
    /// Only these namespaces of the environment. Empty or absent: all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    pub namespaces: Vec<String>,
    /// How long the token was asked to live, such as 30m. Give this or expiresAt; with neither, the environment's
    /// defaultTTL holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Span>,
    /// Whether the GitOps engine is kept from undoing what is written under this token, until Git says the same or a decision is
    /// due. Flux alone can be kept from one object.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hold: bool,
    /// When the token was opened, by the webhook's clock. The webhook fills it in.
    pub opened_at: Timestamp,
    /// From this moment on the token admits nothing. At most the environment's maxTTL after openedAt.
    pub expires_at: Timestamp,
}

/// What has become of a token. Expiry is by the clock: past spec.expiresAt a token admits nothing, whatever phase says.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BreakglassTokenStatus {
    /// Pending (waiting for approval), Active, Expired, Closed or Denied. Closed and Denied are final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<TokenPhase>,
    /// Who approved, when, and what they said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub approvals: Vec<GivenApproval>,
    /// When it was closed or denied. The webhook fills it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Timestamp>,
    /// Who closed or denied it. The webhook fills it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub closed_by: Option<String>,
    /// How many changes were let in under it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub writes: Option<i64>,
}

/// The stations of a token's life.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum TokenPhase {
    /// Opened, and waiting for approval.
    Pending,
    /// Admits writes until its time is up.
    Active,
    /// Its time is up.
    Expired,
    /// Ended early, by its holder or by who may approve. Final.
    Closed,
    /// Refused by an approver. Final.
    Denied,
}

impl TokenPhase {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Active, Self::Expired, Self::Closed, Self::Denied];

    /// One word, as the status has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Active => "Active",
            Self::Expired => "Expired",
            Self::Closed => "Closed",
            Self::Denied => "Denied",
        }
    }
}

/// One approval of a token, by another person than its holder.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
pub struct GivenApproval {
    /// Who approved.
    #[schemars(length(max = 1024))]
    pub user: String,
    /// When, by the webhook's clock.
    pub time: Timestamp,
    /// What they said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub note: Option<String>,
}
