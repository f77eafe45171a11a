//! The API group `breakglass.dev/v1alpha1`: its three kinds and the types they share.

// What is guarded, who is who, how long a token may live.
pub mod policy;
// One person's permission to write to an environment until a time.
pub mod token;
// The record of one write let in under a token.
pub mod change;
// The two types that a schema has no word for: an instant and a length of time.
mod time;

#[cfg(test)]
mod tests;

pub use change::{
    BreakglassChange, BreakglassChangeSpec, BreakglassChangeStatus, ChangePhase, GitPlace, Hold, HoldState, Operation,
    Outcome, PatchStep, Target, Verdict,
};
pub use policy::{
    Approval, ApprovalMode, Approvers, BreakglassPolicy, BreakglassPolicySpec, DebtRules, DecidedBy, EngineObjects,
    EngineWriter, Environment, Exemption, Gate, Mode, Proof, Redaction, TokenRules, TrustedWriter, Writers,
};
pub use time::{Span, SpanError, Timestamp};
pub use token::{BreakglassToken, BreakglassTokenSpec, BreakglassTokenStatus, GivenApproval, TokenPhase};

/// The API group of the three kinds, and the prefix of every key that a stamp carries.
pub const GROUP: &str = "breakglass.dev";

/// The name of the one policy object that is honoured.
pub const POLICY_NAME: &str = "default";

/// The label on a Namespace that puts it into an environment whatever its name is.
pub const ENVIRONMENT_LABEL: &str = "breakglass.dev/environment";

/// Where the webhook lives. The definitions of our own kinds are guarded like what is in it.
pub const HOME_NAMESPACE: &str = "breakglass-system";

/// Members of this group skip the webhook. Nobody is in it; a cluster admin can impersonate it when all else fails.
pub const OVERRIDE_GROUP: &str = "breakglass.dev:override";
