//! The writes that have put back what was rejected: a reject is a write like any other, and has a record.

use std::collections::BTreeSet;

use breakglass::api::{BreakglassChangeSpec, Verdict};
use breakglass::put_back::is_the_way_back;

use crate::ctx::Ctx;
use crate::error::Result;
use crate::ledger::{self, Keep, Record, Which};
use crate::pick::{Named, Selection, oldest_first};
use crate::want::object_of;

/// The records but for those of writes that have put back what was rejected: such a write is settled with what it put back, and
/// to put it back would be to do that again. Who names one means it.
///
/// # Errors
/// When the cluster does not answer.
pub(super) async fn left_out(ctx: &mut Ctx<'_>, selection: &Selection, records: Vec<Record>) -> Result<Vec<Record>> {
    let mut known = Vec::new();
    let incidents: BTreeSet<&String> = records.iter().map(|record| &record.change.spec.incident).collect();
    for incident in incidents {
        let which = Which { incident: Some(incident.clone()), settled: true, ..Which::default() };
        known.extend(ledger::read(&ctx.cluster, &which, Keep::Whole).await?.records);
    }
    oldest_first(&mut known);
    let is_named = |record: &Record| selection.what.contains(&Named::Change(record.name.clone()));
    let (ways, others): (Vec<Record>, Vec<Record>) =
        records.into_iter().partition(|record| !is_named(record) && is_way_back(record, &known));
    for way in ways {
        let place = way.change.spec.target.place();
        ctx.printer.say(&format!("note: {place}: {} has put back what was rejected, and is left alone", way.name));
    }
    Ok(others)
}

/// Whether a write has put back some of what is rejected; all that is known comes the oldest first.
fn is_way_back(record: &Record, known: &[Record]) -> bool {
    let way = &record.change.spec;
    let is_rejected = |other: &&Record| {
        let verdict = other.change.status.as_ref().and_then(|status| status.verdict);
        let is_earlier = other.name != record.name && other.change.spec.time <= way.time;
        let is_same = object_of(&other.change.spec.target) == object_of(&way.target);
        verdict == Some(Verdict::Rejected) && is_earlier && is_same
    };
    let mut rejected: Vec<&BreakglassChangeSpec> =
        known.iter().filter(is_rejected).map(|one| &one.change.spec).collect();
    rejected.reverse();
    (1..=rejected.len()).any(|count| is_the_way_back(way, &rejected[..count]))
}

#[cfg(test)]
mod tests {
    use breakglass::api::BreakglassChange;
    use serde_json::json;

    use super::*;

    /// A write to the key of a ConfigMap, from one value to another.
    fn record(name: &str, object: &str, (second, values): (u32, [&str; 2]), verdict: Option<&str>) -> Record {
        let change = json!({
            "apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassChange", "metadata": {"name": name},
            "spec": {"token": "t", "incident": "INC-1", "user": "alice@example.com", "environment": "prod",
                "time": format!("2026-11-20T12:00:{second:02}Z"), "operation": "Update",
                "target": {"apiVersion": "v1", "kind": "ConfigMap", "resource": "configmaps", "name": object},
                "before": {"data": {"key": values[0]}},
                "patch": [{"op": "replace", "path": "/data/key", "value": values[1]}],
                "decideBy": "2026-11-21T12:00:00Z"},
            "status": {"phase": verdict.unwrap_or("Pending"), "verdict": verdict},
        });
        let change: BreakglassChange = serde_json::from_value(change).unwrap();
        Record { name: name.to_owned(), change, found: None, whole: None }
    }

    #[test]
    fn a_write_is_a_way_back_where_it_undid_what_is_rejected() {
        let hotfix = |verdict| record("hotfix", "settings", (1, ["a", "b"]), verdict);
        let rejected = Some("Rejected");
        for (back, known, expected) in [
            (record("back", "settings", (2, ["b", "a"]), None), hotfix(rejected), true),
            (record("back", "settings", (2, ["b", "a"]), None), hotfix(None), false),
            (record("back", "settings", (2, ["b", "a"]), None), hotfix(Some("Accepted")), false),
            (record("other", "settings", (2, ["b", "c"]), None), hotfix(rejected), false),
            (record("other", "other", (2, ["b", "a"]), None), hotfix(rejected), false),
            (record("earlier", "settings", (0, ["b", "a"]), None), hotfix(rejected), false),
            (hotfix(rejected), hotfix(rejected), false),
        ] {
            assert_eq!(is_way_back(&back, &[known, back.clone()]), expected, "{}", back.name);
        }
        // Two of them, by one write.
        let both = [hotfix(rejected), record("next", "settings", (2, ["b", "c"]), rejected)];
        assert!(is_way_back(&record("back", "settings", (3, ["c", "a"]), None), &both));
    }
}
