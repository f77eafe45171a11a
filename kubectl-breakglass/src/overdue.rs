//! How many changes are overdue, whoever made them: cheap, since everybody asks with every `status`.

use breakglass::api::Timestamp;
use breakglass::record::UNTIL;
use breakglass::stamp::{self, State};
use chrono::{DateTime, Utc};
use kube::api::{Api, DynamicObject, ListParams, Request};
use kube::core::ListMeta;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::connect::Connection;
use crate::error::Result;
use crate::explain::Doing;
use crate::ledger::resource;
use crate::print::age;
use crate::scan::PAGE;

/// Asks for the columns that `kubectl get -o wide` shows, and metadata: a record's bodies stay where they are
/// (https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables).
const AS_TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// The columns of a record that are read here, as its definition names them.
const PHASE: &str = "Phase";
const DECIDE_BY: &str = "Decide By";

/// What somebody had to decide by now, and did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Overdue {
    /// How many changes.
    pub changes: usize,
    /// Until when the oldest had to be decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

impl Overdue {
    /// How many, for how long, and how to see them; nothing where there is none.
    pub fn sentence(&self, now: DateTime<Utc>) -> Option<String> {
        let late = age::since(self.since?.instant(), now);
        let what = match self.changes {
            1 => format!("1 change is overdue here, for {late}"),
            many => format!("{many} changes are overdue here, the oldest for {late}"),
        };
        Some(format!("{what}. See: kubectl breakglass list -A --overdue"))
    }

    fn add(self, due: Timestamp, now: DateTime<Utc>) -> Self {
        if due.instant() >= now {
            return self;
        }
        Self { changes: self.changes + 1, since: Some(self.since.map_or(due, |oldest| oldest.min(due))) }
    }
}

/// Counts them, page by page.
///
/// # Errors
/// Whatever the cluster answers, explained.
pub async fn overdue(cluster: &Connection, now: DateTime<Utc>) -> Result<Overdue> {
    let api = Api::<DynamicObject>::all_with(cluster.client.clone(), &resource());
    let undecided = [State::Admitted, State::Pending, State::Deferred].map(State::as_str).join(",");
    let mut params = ListParams::default().labels(&format!("{} in ({undecided})", stamp::STATE)).limit(PAGE);
    let (mut overdue, mut restarted) = (Overdue::default(), false);
    loop {
        let page = async || match page(cluster, &api, &params).await {
            Ok(page) => Ok(Some(page)),
            // The list grew old while it was read. Once more from the start; twice is no accident.
            Err(kube::Error::Api(status)) if status.code == 410 && !restarted => Ok(None),
            Err(error) => Err(error),
        };
        let Some(page) = cluster.ask_again(Doing::Reading("the records"), page).await? else {
            (overdue, restarted) = (Overdue::default(), true);
            params.continue_token = None;
            continue;
        };
        overdue = page.due().fold(overdue, |sum, due| sum.add(due, now));
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            return Ok(overdue);
        }
    }
}

async fn page(cluster: &Connection, api: &Api<DynamicObject>, params: &ListParams) -> kube::Result<Table> {
    let mut request = Request::new(api.resource_url()).list(params).map_err(kube::Error::BuildRequest)?;
    request.headers_mut().insert(http::header::ACCEPT, http::HeaderValue::from_static(AS_TABLE));
    cluster.client.request(request).await
}

/// A page of records, as a table.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Table {
    metadata: ListMeta,
    #[serde(default)]
    column_definitions: Vec<Column>,
    /// Go writes none as null.
    rows: Option<Vec<Row>>,
}

#[derive(Deserialize)]
struct Column {
    name: String,
}

#[derive(Deserialize)]
struct Row {
    cells: Vec<Value>,
    object: Option<Partial>,
}

#[derive(Deserialize)]
struct Partial {
    metadata: kube::core::ObjectMeta,
}

impl Table {
    /// Until when each of them has to be decided.
    fn due(&self) -> impl Iterator<Item = Timestamp> {
        let at = |name: &str| self.column_definitions.iter().position(|column| column.name == name);
        let (phase, decide_by) = (at(PHASE), at(DECIDE_BY));
        self.rows.iter().flatten().filter_map(move |row| {
            let cell = |at: Option<usize>| row.cells.get(at?)?.as_str();
            match cell(phase) {
                // The label that they were picked by may lag behind.
                Some("Accepted" | "Rejected" | "Settled") => None,
                Some("Deferred") => row.until(),
                Some(_) | None => cell(decide_by)?.parse().ok(),
            }
        })
    }
}

impl Row {
    fn until(&self) -> Option<Timestamp> {
        self.object.as_ref()?.metadata.annotations.as_ref()?.get(UNTIL)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_overdue_is_read_from_columns_and_the_date_of_a_deferral() {
        let row = |phase: Value, decide_by: &str, until: Option<&str>| {
            json!({"cells": ["c", phase, decide_by],
                "object": {"metadata": {"name": "c", "annotations": until.map(|until| json!({UNTIL: until}))}}})
        };
        let (early, late) = ("2026-11-20T10:00:00Z", "2026-11-20T14:00:00Z");
        let table = json!({"metadata": {}, "columnDefinitions": [{"name": "Name"}, {"name": "Phase"}, {"name": "Decide By"}],
        "rows": [
            row(json!("Pending"), early, None),
            row(Value::Null, "2026-11-20T11:00:00Z", None),
            row(json!("Pending"), late, None),
            row(json!("Deferred"), early, Some(late)),
            row(json!("Deferred"), early, Some("2026-11-20T09:00:00Z")),
            row(json!("Accepted"), early, None),
        ]});
        let now: DateTime<Utc> = "2026-11-20T12:00:00Z".parse().unwrap();
        let count = |table: &Value| {
            let table: Table = serde_json::from_value(table.clone()).unwrap();
            table.due().fold(Overdue::default(), |sum, due| sum.add(due, now))
        };
        let found = count(&table);
        assert_eq!(found, Overdue { changes: 3, since: Some("2026-11-20T09:00:00Z".parse().unwrap()) });
        assert_eq!(
            found.sentence(now).unwrap(),
            "3 changes are overdue here, the oldest for 3h0m. See: kubectl breakglass list -A --overdue"
        );
        let one = Overdue { changes: 1, ..found };
        assert!(one.sentence(now).unwrap().starts_with("1 change is overdue here, for 3h0m. "));
        let none = count(&json!({"metadata": {}, "rows": null}));
        assert_eq!((none, none.sentence(now)), (Overdue::default(), None));
    }
}
