//! Rows: records and stamped objects, joined to one row each.

use std::collections::{BTreeSet, HashMap};

use breakglass::api::{Target, Timestamp};
use breakglass::stamp;
use breakglass::verdict::due;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use crate::ledger::Record;
use crate::print::age;
use crate::row_state::RowState;
use crate::stamped::Stamped;

/// One direct write: a record, or an object with a stamp that no record stands behind.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// The incident.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident: Option<String>,
    /// Who wrote.
    pub user: String,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// The environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// The namespace, if the object lives in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// What was written to.
    pub target: Target,
    /// What was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// The field manager.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manager: Option<String>,
    /// What is still to be done about it.
    pub state: RowState,
    /// The token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Until when somebody has to decide.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decide_by: Option<Timestamp>,
    /// Whether the policy in force, if it enforced, would refuse this write, which had no token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub would_be_refused: Option<bool>,
    /// Who owns the object in Git.
    #[serde(skip)]
    pub owner: Option<String>,
    /// The record's name, where there is one.
    #[serde(skip)]
    pub change_name: Option<String>,
    /// The whole record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<Value>,
}

/// The columns of the table.
pub const COLUMNS: [&str; 8] = ["INCIDENT", "NAMESPACE", "OBJECT", "OPERATION", "USER", "STATE", "AGE", "DUE"];

/// The columns that `-o wide` adds.
pub const WIDE_COLUMNS: [&str; 6] = ["ENVIRONMENT", "TOKEN", "CHANGE", "MANAGER", "OWNER", "DECIDE-BY"];

impl Row {
    /// A record as a row.
    pub fn of_record(record: Record) -> Self {
        let spec = record.change.spec;
        let status = record.change.status.unwrap_or_default();
        let due = due(&spec, &status);
        let target = spec.target;
        Self {
            incident: Some(spec.incident),
            user: spec.user,
            time: Some(spec.time),
            environment: Some(spec.environment),
            namespace: target.namespace.clone(),
            target,
            operation: Some(spec.operation.as_str().to_owned()),
            manager: spec.manager,
            state: RowState::of_phase(status.phase),
            token: Some(spec.token),
            decide_by: Some(due),
            would_be_refused: None,
            owner: spec.engine_owner,
            change_name: Some(record.name),
            change: record.whole,
        }
    }

    /// A stamp that no record stands behind.
    fn of_stamped(object: Stamped) -> Self {
        let annotation = |key: &str| object.annotations.get(key).filter(|value| !value.is_empty()).cloned();
        Self {
            incident: annotation(stamp::INCIDENT),
            user: annotation(stamp::USER).unwrap_or_default(),
            time: annotation(stamp::TIME).and_then(|time| time.parse().ok()),
            environment: None,
            namespace: object.namespace.clone(),
            operation: annotation(stamp::OPERATION),
            manager: annotation(stamp::MANAGER),
            state: RowState::of_label(&object.state),
            token: annotation(stamp::TOKEN),
            decide_by: None,
            would_be_refused: None,
            owner: None,
            change_name: None,
            change: None,
            target: Target {
                api_version: object.kind.resource.api_version,
                kind: object.kind.resource.kind,
                resource: object.kind.resource.plural,
                namespace: object.namespace,
                name: object.name,
                uid: Some(object.uid),
            },
        }
    }

    /// Whether somebody still has to do something about it.
    pub fn is_owed(&self) -> bool {
        !matches!(self.state, RowState::Settled | RowState::Noted)
    }

    /// Until when somebody has to decide about it, or again, where it was deferred; nothing where nobody has to.
    fn to_decide_by(&self) -> Option<DateTime<Utc>> {
        match self.state {
            RowState::Admitted | RowState::Pending | RowState::Deferred => self.decide_by.map(Timestamp::instant),
            RowState::Accepted | RowState::Rejected | RowState::Settled | RowState::Noted => None,
        }
    }

    /// Whether somebody had to decide about it by now, and did not; or not again by the date that it was deferred to.
    pub fn is_overdue(&self, now: DateTime<Utc>) -> bool {
        self.to_decide_by().is_some_and(|date| date < now)
    }

    /// How long there is to decide, the day that it was deferred to, or for how long it is overdue.
    fn due(&self, now: DateTime<Utc>) -> String {
        match self.to_decide_by() {
            None => String::new(),
            Some(date) if date < now => format!("overdue {}", age::since(date, now)),
            Some(date) if self.state == RowState::Deferred => date.format("%Y-%m-%d").to_string(),
            Some(date) => age::until(date, now),
        }
    }

    /// `breakglasschange.breakglass.dev/<name>`, or the object where there is no record.
    pub fn full_name(&self) -> String {
        match &self.change_name {
            Some(name) => format!("breakglasschange.breakglass.dev/{name}"),
            None => self.target.short(),
        }
    }

    /// The cells of the table.
    pub fn cells(&self, now: DateTime<Utc>) -> Vec<String> {
        vec![
            text(&self.incident),
            text(&self.namespace),
            self.target.short(),
            text(&self.operation),
            self.user.clone(),
            // As wide as the longest state: with --watch, other states come later.
            format!("{:<8}", self.state.as_str()),
            self.time.map(|time| age::since(time.instant(), now)).unwrap_or_default(),
            self.due(now),
        ]
    }

    /// Those that `-o wide` adds.
    pub fn wide_cells(&self) -> Vec<String> {
        vec![
            text(&self.environment),
            text(&self.token),
            text(&self.change_name),
            text(&self.manager),
            text(&self.owner),
            self.decide_by.map(|time| time.to_string()).unwrap_or_default(),
        ]
    }
}

fn text(value: &Option<String>) -> String {
    value.clone().unwrap_or_default()
}

/// The names of records that stamps speak of and that are not among `records`.
pub fn unknown_changes(records: &[Record], stamped: &[Stamped]) -> BTreeSet<String> {
    let known: BTreeSet<&str> = records.iter().map(|record| record.name.as_str()).collect();
    let named = stamped.iter().filter_map(|object| object.annotations.get(stamp::CHANGE));
    named.filter(|name| !known.contains(name.as_str())).cloned().collect()
}

/// One row for each record, and one for each stamped object that no record stands behind, oldest first.
///
/// A change has landed when its object carries its name, or carried it when a later change was let in.
pub fn join(records: Vec<Record>, stamped: Vec<Stamped>) -> Vec<Row> {
    let places: HashMap<&str, usize> = records.iter().map(|record| record.name.as_str()).zip(0..).collect();
    let place = |name: Option<&String>| name.and_then(|name| places.get(name.as_str()).copied());
    let mut landed = vec![false; records.len()];
    for place in records.iter().filter_map(|record| place(record.found.as_ref())) {
        landed[place] = true;
    }
    let mut rows = Vec::new();
    for object in stamped {
        match place(object.annotations.get(stamp::CHANGE)) {
            Some(place) if is_target(&records[place], &object) => landed[place] = true,
            _ => rows.push(Row::of_stamped(object)),
        }
    }
    rows.extend(records.into_iter().zip(landed).map(|(record, landed)| {
        let mut row = Row::of_record(record);
        if landed && row.state == RowState::Admitted {
            row.state = RowState::Pending;
        }
        row
    }));
    // Made once a row, and not at every comparison: there are ten thousand.
    rows.sort_by_cached_key(|row| (row.time, row.target.short(), row.change_name.clone()));
    rows
}

/// Whether this is the object that the record is about, and not one that has its stamp from it.
fn is_target(record: &Record, object: &Stamped) -> bool {
    let target = &record.change.spec.target;
    match &target.uid {
        Some(uid) => *uid == object.uid,
        None => {
            target.kind == object.kind.resource.kind
                && target.name == object.name
                && target.namespace == object.namespace
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::ledger::{Keep, read_record};
    use serde_json::json;

    fn record(name: &str, uid: &str, phase: Option<&str>) -> Record {
        let mut object = json!({
            "metadata": {"name": name},
            "spec": {"token": "inc-1-bcdfg", "incident": "INC-1", "user": "alice@example.com",
                "time": "2026-11-20T12:00:00Z", "environment": "prod", "operation": "Update",
                "manager": "kubectl-edit", "before": {"spec": {}}, "decideBy": "2026-11-21T12:00:00Z",
                "target": {"apiVersion": "apps/v1", "kind": "Deployment", "resource": "deployments",
                    "namespace": "prod", "name": "api", "uid": uid}},
        });
        if let Some(phase) = phase {
            object["status"] = json!({"phase": phase});
        }
        read_record(serde_json::from_value(object).unwrap(), Keep::Lines).unwrap()
    }

    fn stamped(uid: &str, change: Option<&str>, state: &str) -> Stamped {
        let mut annotations = BTreeMap::from([
            (stamp::USER, "bob@example.com".to_owned()),
            (stamp::TIME, "2026-11-20T11:00:00Z".to_owned()),
            (stamp::OPERATION, "Create".to_owned()),
        ]);
        annotations.extend(change.map(|change| (stamp::CHANGE, change.to_owned())));
        Stamped {
            kind: crate::discover::Kind::in_apps("Deployment"),
            namespace: Some("prod".into()),
            name: "api".into(),
            uid: uid.into(),
            annotations,
            state: state.into(),
        }
    }

    #[track_caller]
    fn check(records: Vec<Record>, objects: Vec<Stamped>, expected: &[(Option<&str>, &str)]) {
        let rows = join(records, objects);
        let found: Vec<_> = rows.iter().map(|row| (row.change_name.as_deref(), row.state.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_record_and_the_object_that_carries_its_name_are_one_row() {
        check(vec![record("c1", "u", None)], vec![stamped("u", Some("c1"), "pending")], &[(Some("c1"), "pending")]);
        check(
            vec![record("c1", "u", Some("Deferred"))],
            vec![stamped("u", Some("c1"), "deferred")],
            &[(Some("c1"), "deferred")],
        );
    }

    #[test]
    fn what_was_not_seen_is_admitted_and_what_was_deleted_is_a_row() {
        check(vec![record("c1", "u", None)], vec![], &[(Some("c1"), "admitted")]);
        check(vec![record("c1", "u", Some("Pending"))], vec![], &[(Some("c1"), "pending")]);
    }

    #[test]
    fn what_a_later_change_found_on_the_object_has_landed() {
        let mut later = record("c2", "u", None);
        later.found = Some("c1".to_owned());
        check(vec![record("c1", "u", None), later], vec![], &[(Some("c1"), "pending"), (Some("c2"), "admitted")]);
    }

    #[test]
    fn several_changes_of_one_object_are_several_rows() {
        check(
            vec![record("c1", "u", Some("Pending")), record("c2", "u", None)],
            vec![stamped("u", Some("c2"), "pending")],
            &[(Some("c1"), "pending"), (Some("c2"), "pending")],
        );
    }

    #[test]
    fn a_stamp_without_its_record_is_a_row_of_its_own() {
        check(vec![], vec![stamped("u", None, "noted")], &[(None, "noted")]);
        check(vec![], vec![stamped("u", Some("lost"), "pending")], &[(None, "pending")]);
        check(
            vec![record("c1", "u", None)],
            vec![stamped("another", Some("c1"), "pending")],
            &[(None, "pending"), (Some("c1"), "admitted")],
        );
        let unknown = unknown_changes(&[record("c1", "u", None)], &[stamped("u", Some("c2"), "pending")]);
        assert_eq!(unknown, BTreeSet::from(["c2".to_owned()]));
    }

    #[test]
    fn a_row_reads_as_json_and_as_cells() {
        let rows = join(vec![record("c1", "u", None)], vec![stamped("v", None, "noted")]);
        let noted = json!({"user": "bob@example.com", "time": "2026-11-20T11:00:00Z", "namespace": "prod",
            "operation": "Create", "state": "noted", "target": {"apiVersion": "apps/v1", "kind": "Deployment",
                "resource": "deployments", "namespace": "prod", "name": "api", "uid": "v"}});
        assert_eq!(serde_json::to_value(&rows[0]).unwrap(), noted);
        let now = "2026-11-20T12:05:00Z".parse().unwrap();
        assert_eq!(
            [rows[1].cells(now), rows[1].wide_cells()].concat(),
            [
                "INC-1",
                "prod",
                "deployment.apps/api",
                "Update",
                "alice@example.com",
                "admitted",
                "5m",
                "23h55m",
                "prod",
                "inc-1-bcdfg",
                "c1",
                "kubectl-edit",
                "",
                "2026-11-21T12:00:00Z"
            ]
        );
        assert_eq!(rows[0].full_name(), "deployment.apps/api");
        assert_eq!(rows[1].full_name(), "breakglasschange.breakglass.dev/c1");
        assert!(rows[1].is_owed() && !rows[0].is_owed());
        let at = |time: &str| time.parse().unwrap();
        let (due, late) = (at("2026-11-21T12:00:00Z"), at("2026-11-21T12:00:01Z"));
        assert!(!rows[1].is_overdue(due) && rows[1].is_overdue(late) && !rows[0].is_overdue(late));
    }

    #[test]
    fn what_is_due_is_told_as_time_left_as_a_day_or_as_overdue() {
        let rows = |phase: &str| join(vec![record("c1", "u", Some(phase))], vec![]);
        for (phase, now, expected) in [
            ("Pending", "2026-11-20T14:00:00Z", "22h0m"),
            ("Admitted", "2026-11-21T11:59:00Z", "60s"),
            ("Deferred", "2026-11-20T14:00:00Z", "2026-11-21"),
            ("Deferred", "2026-11-24T14:00:00Z", "overdue 3d"),
            ("Pending", "2026-11-21T14:05:00Z", "overdue 2h5m"),
            ("Accepted", "2026-11-24T14:00:00Z", ""),
            ("Settled", "2026-11-24T14:00:00Z", ""),
        ] {
            assert_eq!(rows(phase)[0].cells(now.parse().unwrap())[7], expected, "{phase} {now}");
        }
    }
}
