//! Whether somebody had to decide about a change, and did not.

use breakglass::api::Timestamp;
use chrono::{DateTime, Utc};

use super::{Finding, Level};
use crate::ledger::{Record, is_owed};
use crate::print::age;
use crate::rows::Row;

const CHECK: &str = "debt";

/// What is found.
pub fn debt(records: &[Record], now: DateTime<Utc>) -> Vec<Finding> {
    let owed: Vec<&Record> = records.iter().filter(|record| is_owed(&record.change)).collect();
    let rows = owed.iter().map(|&record| Row::of_record(record.clone()));
    let late: Vec<Timestamp> = rows.filter(|row| row.is_overdue(now)).filter_map(|row| row.decide_by).collect();
    let oldest = late.iter().min();
    let Some(oldest) = oldest else {
        let message = match owed.len() {
            0 => "no change is owed".to_owned(),
            1 => "1 change is owed, and not overdue".to_owned(),
            many => format!("{many} changes are owed, and none is overdue"),
        };
        return vec![Finding::new(Level::Ok, CHECK, message)];
    };
    let number = late.len();
    let changes = if number == 1 { "1 change is".to_owned() } else { format!("{number} changes are") };
    let message = format!(
        "{changes} overdue, the oldest for {}: nobody decided what becomes of it",
        age::since(oldest.instant(), now)
    );
    vec![Finding::new(Level::Problem, CHECK, message).hint("kubectl breakglass list --overdue -o wide")]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ledger::{Keep, read_record};

    #[test]
    fn only_what_is_past_its_day_and_not_settled_is_overdue() {
        let record = |decide_by: &str, phase: &str| {
            let object = json!({"metadata": {"name": "c"}, "status": {"phase": phase},
                "spec": {"token": "t", "incident": "INC-1", "user": "alice", "time": "2026-11-20T12:00:00Z", "environment": "prod",
                    "operation": "Update", "decideBy": decide_by,
                    "target": {"apiVersion": "v1", "kind": "ConfigMap", "resource": "configmaps", "name": "a"}}});
            read_record(serde_json::from_value(object).unwrap(), Keep::Lines).unwrap()
        };
        let now = "2026-11-21T12:00:00Z".parse().unwrap();
        let (early, late) = ("2026-11-21T11:00:00Z", "2026-11-21T13:00:00Z");
        for (records, level, message) in [
            (vec![], Level::Ok, "no change is owed"),
            (vec![record(late, "Pending")], Level::Ok, "1 change is owed, and not overdue"),
            (vec![record(early, "Settled"), record(late, "Pending")], Level::Ok, "1 change is owed"),
            (
                vec![record(early, "Pending"), record(late, "Pending")],
                Level::Problem,
                "1 change is overdue, the oldest for 1h0m",
            ),
        ] {
            let found = debt(&records, now);
            assert!(found[0].level == level && found[0].message.starts_with(message), "{found:#?}");
        }
    }
}
