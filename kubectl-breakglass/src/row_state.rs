//! RowState: what is still to be done about a write, as lists and `--state` name it.

use breakglass::api::ChangePhase;
use clap::ValueEnum;
use serde::Serialize;

/// The word in the STATE column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum RowState {
    /// Let in; not yet seen in the cluster
    Admitted,
    /// Nobody has decided
    Pending,
    /// To be kept; Git does not say so yet
    Accepted,
    /// To be put back
    Rejected,
    /// Put off to a date
    Deferred,
    /// Proven closed
    Settled,
    /// Written where no token is needed; nothing is owed
    Noted,
}

impl RowState {
    /// The word in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Pending => "pending",
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Deferred => "deferred",
            Self::Settled => "settled",
            Self::Noted => "noted",
        }
    }

    /// What a record says; without a word of its own it was let in, and not seen yet.
    pub fn of_phase(phase: Option<ChangePhase>) -> Self {
        match phase {
            None | Some(ChangePhase::Admitted) => Self::Admitted,
            Some(ChangePhase::Pending) => Self::Pending,
            Some(ChangePhase::Accepted) => Self::Accepted,
            Some(ChangePhase::Rejected) => Self::Rejected,
            Some(ChangePhase::Deferred) => Self::Deferred,
            Some(ChangePhase::Settled) => Self::Settled,
        }
    }

    /// What the label on an object says. A word that is not ours is somebody's mistake, and somebody should look.
    pub fn of_label(label: &str) -> Self {
        match label {
            "noted" => Self::Noted,
            "accepted" => Self::Accepted,
            "deferred" => Self::Deferred,
            _ => Self::Pending,
        }
    }
}
