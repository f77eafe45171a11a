//! Unseen: what is not on record, as far as that can be known; and what cannot be, with how to look.

use breakglass::api::Timestamp;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::facts::{ChangeFacts, TokenFacts};
use crate::heard::{Heard, Told};

/// How long an API server keeps Events unless it is told otherwise (kube-apiserver --event-ttl).
const EVENTS_LAST: TimeDelta = TimeDelta::hours(1);

/// What is told of one change or token, and of others' only in the time of the incident.
const OF_ONE: [&str; 2] = ["ChangeOverdue", "RecordFailed"];

/// What is not on record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unseen {
    /// What the webhook told of itself while the incident's tokens were open, and of its tokens and changes whenever.
    pub told: Vec<Told>,
    /// What is known, a sentence each.
    pub known: Vec<String>,
    /// What the cluster cannot tell.
    pub unknown: Vec<Doubt>,
}

/// Something that the cluster cannot tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Doubt {
    /// What it is, in sentences.
    pub what: String,
    /// The command that looks.
    pub how: String,
}

/// From when to when writes could be let in under a token of the incident.
struct Open {
    from: Timestamp,
    to: Timestamp,
}

impl Open {
    fn of(tokens: &[TokenFacts], changes: &[ChangeFacts], now: DateTime<Utc>) -> Option<Self> {
        let ends = tokens.iter().map(|token| token.closed_at.unwrap_or(token.expires_at).min(Timestamp::new(now)));
        let starts = tokens.iter().map(|token| token.opened_at);
        let times = || changes.iter().map(|change| change.time);
        Some(Self { from: starts.chain(times()).min()?, to: ends.chain(times()).max()? })
    }

    fn holds(&self, time: Timestamp) -> bool {
        (self.from..=self.to).contains(&time)
    }

    /// Of the lines of an audit log those of this time for which `condition` holds.
    fn audited(&self, condition: &str) -> String {
        // The log has parts of a second, and a dot comes before the Z: what begins with the second is in it.
        let (from, to) = (self.from.to_string(), self.to);
        let from = from.trim_end_matches('Z');
        format!(
            "jq -c 'select(.requestReceivedTimestamp >= \"{from}\" and .requestReceivedTimestamp <= \"{to}\") | \
             select({condition})' audit.log"
        )
    }
}

impl Unseen {
    pub(super) fn of(tokens: &[TokenFacts], changes: &[ChangeFacts], heard: &Heard, now: DateTime<Utc>) -> Self {
        let Some(open) = Open::of(tokens, changes, now) else { return Self::default() };
        let tokens = tokens.iter().map(|token| format!("breakglasstoken/{}", token.name));
        let ours: Vec<String> =
            tokens.chain(changes.iter().map(|change| format!("breakglasschange/{}", change.name))).collect();
        let concerns = |told: &&Told| {
            ours.contains(&told.about) || (open.holds(told.time) && !OF_ONE.contains(&told.reason.as_str()))
        };
        let told = heard.told.iter().filter(concerns).cloned().collect();
        Self { told, known: known(changes, heard), unknown: unknown(&open, heard, now) }
    }
}

fn known(changes: &[ChangeFacts], heard: &Heard) -> Vec<String> {
    let mut known = heard.counted.clone().unwrap_or_default();
    let cut = changes.iter().filter(|change| change.truncated).count();
    if cut > 0 {
        let records = if cut == 1 { "1 record holds".to_owned() } else { format!("{cut} records hold") };
        known.push(format!(
            "{records} hashes alone, since the object was too large: that it was written is known, not what"
        ));
    }
    known
}

fn unknown(open: &Open, heard: &Heard, now: DateTime<Utc>) -> Vec<Doubt> {
    let doubt = |what: &str, how: String| Doubt { what: what.to_owned(), how };
    let mut doubts: Vec<Doubt> = heard
        .deaf
        .iter()
        .map(|namespace| Doubt {
            what: format!("The webhook's Events in {namespace} may not be read with the rights that made this report."),
            how: format!("kubectl -n {namespace} get events --field-selector reportingComponent=breakglass-webhook"),
        })
        .collect();
    if open.from.instant() + EVENTS_LAST < now {
        doubts.push(doubt(
            "Events are kept for an hour unless the API server is told otherwise: what the webhook told of itself before \
             is in its log.",
            format!("kubectl -n breakglass-system logs deployment/breakglass-webhook --since-time={}", open.from),
        ));
    }
    if heard.counted.is_none() {
        doubts.push(doubt(
            "The API server's metrics, which count what it let in unasked, may not be read with the rights that made this \
             report.",
            "kubectl get --raw /metrics | grep apiserver_admission_webhook_fail_open_count".to_owned(),
        ));
    }
    doubts.push(doubt(
        "While the webhook does not answer, environments that require a token refuse, and those that only stamp let in \
         without a stamp. The API server's audit log marks each such write with an annotation whose name begins with failed-open.",
        open.audited(r#".annotations // {} | keys | any(startswith("failed-open."))"#),
    ));
    doubts.push(doubt(
        "Members of the group breakglass.dev:override write past the webhook. The audit log names them.",
        open.audited(r#"[.user.groups[]?, .impersonatedUser.groups[]?] | any(. == "breakglass.dev:override")"#),
    ));
    doubts.push(doubt(
        "Between an edit of the webhook configurations and its repair, seconds later, writes may pass. The audit log has \
         the edits.",
        open.audited(r#".verb != "get" and .verb != "watch" and (.objectRef.resource // "" | endswith("webhookconfigurations"))"#),
    ));
    doubts.push(doubt(
        "Of the verdicts on a change the last one is on record. The audit log has those before it.",
        r#"jq -c 'select(.objectRef.resource == "breakglasschanges" and .objectRef.subresource == "status")' audit.log"#
            .to_owned(),
    ));
    doubts.push(doubt(
        "Some ways into a cluster are shown to no admission webhook.",
        "kubectl breakglass doctor".to_owned(),
    ));
    doubts
}
