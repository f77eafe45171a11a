//! What a replica says of itself, for whoever looks: `kubectl breakglass doctor` reads what the webhook writes.
//!
//! It stands in the annotation [`ANNOTATION`] of a Lease for each replica in the webhook's namespace, labelled [`LABEL`]; the
//! Lease's `renewTime` is the replica's clock when it was written. kube-apiserver tells of itself in the same way.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::api::Timestamp;

/// The label of a Lease that is a replica's, with the value `true`.
pub const LABEL: &str = "breakglass.dev/replica";

/// The annotation of such a Lease that holds the report, as JSON.
pub const ANNOTATION: &str = "breakglass.dev/report";

/// What the names of these Leases begin with; the replica's own name follows.
pub const NAME_PREFIX: &str = "replica-";

/// How often a replica writes its report, in seconds. One that is several times as old is of a replica that is gone or hangs.
pub const EVERY_SECONDS: u32 = 10;

/// What a replica says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Report {
    /// The version of the program.
    pub version: String,
    /// Why it is not ready, a reason each; empty where it is.
    pub not_ready: Vec<String>,
    /// Whether it runs the loops that only one replica runs.
    pub leads: bool,
    /// When the certificates that it goes by end, by `ca` and `leaf`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub certificates: BTreeMap<String, Timestamp>,
    /// For how many seconds each of its watches has been cut off from the API server, by what is watched; 0: not at all.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub watches: BTreeMap<String, i64>,
    /// Records that could not be kept since it started; each write of them was refused.
    pub failed_records: u64,
    /// Repairs of the webhook configurations since it started.
    pub repairs: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_another_version_is_read_as_far_as_it_goes() {
        let report: Report = serde_json::from_str(r#"{"version": "9.0.0", "mood": "good"}"#).unwrap();
        assert_eq!(report, Report { version: "9.0.0".to_owned(), ..Report::default() });
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(text, r#"{"version":"9.0.0","notReady":[],"leads":false,"failedRecords":0,"repairs":0}"#);
    }
}
