//! What a policy asks the API server to call us for: the webhooks of both configurations. The webhook registers them and
//! keeps them so; `doctor` compares what is there with them.

// Which writes reach us, as CEL: the same names as in `writer`.
mod conditions;
// The webhooks themselves.
pub mod render;
// Which of them are called for one write.
mod asked;

pub use asked::{Asked, Call, asked};

/// The name of both configurations.
pub const NAME: &str = "breakglass";

/// The path of the mutating call.
pub const STAMP_PATH: &str = "/stamp";
/// The path of the validating call.
pub const GATE_PATH: &str = "/gate";

/// What stands between the names of conditions that are one condition.
const JOINT: &str = ".";
