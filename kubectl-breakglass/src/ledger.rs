//! The records in the cluster: one LIST, narrowed by the server where it can.

use std::collections::BTreeSet;

use breakglass::api::{BreakglassChange, ChangePhase};
use breakglass::record::{FOLLOWS, INCIDENT_LABEL, NAMESPACE_LABEL};
use breakglass::stamp;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Request};
use kube::core::ListMeta;
use kube::{Resource, ResourceExt};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::task::JoinHandle;

use crate::connect::Connection;
use crate::error::{CommandError, Result};
use crate::explain::Doing;
use crate::line::read_line;
use crate::print::object::without_managed_fields;
use crate::scan::PAGE;

/// A record, read; and as the cluster has it, where somebody wants to see all of it.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its name.
    pub name: String,
    /// What it says.
    pub change: BreakglassChange,
    /// The earlier change whose stamp the object carried when this one was let in: that one had landed.
    pub found: Option<String>,
    /// The whole object.
    pub whole: Option<Value>,
}

/// How much of a record is kept in memory: bodies are large, and a table shows none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Everything but the bodies.
    Lines,
    /// Everything.
    Whole,
}

/// Which records are asked for.
#[derive(Clone, Debug, Default)]
pub struct Which {
    /// Of this incident.
    pub incident: Option<String>,
    /// In these namespaces; empty: anywhere.
    pub namespaces: Vec<String>,
    /// By this user.
    pub user: Option<String>,
    /// Settled ones as well.
    pub settled: bool,
}

impl Which {
    /// The label selector that says the same.
    pub fn selector(&self) -> String {
        let mut terms = Vec::new();
        // What is no label value is no incident of any record either, and must not change what the selector means.
        if let Some(incident) = self.incident.as_ref().filter(|incident| is_label_value(incident)) {
            // Whoever types inc-123 means INC-123.
            let spellings = BTreeSet::from([incident.clone(), incident.to_uppercase(), incident.to_lowercase()]);
            terms.push(format!("{INCIDENT_LABEL} in ({})", Vec::from_iter(spellings).join(",")));
        }
        if !self.namespaces.is_empty() && self.namespaces.iter().all(|namespace| is_label_value(namespace)) {
            terms.push(format!("{} in ({})", NAMESPACE_LABEL, self.namespaces.join(",")));
        }
        if !self.settled {
            terms.push(format!("{}!=settled", stamp::STATE));
        }
        terms.join(",")
    }

    /// The field selector that says the same.
    fn fields(&self) -> Option<String> {
        let user = self.user.as_ref().filter(|user| !user.contains([',', '=', '!', '\\']))?;
        Some(format!("spec.user={user}"))
    }
}

fn is_label_value(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// What a LIST of records found.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// The records.
    pub records: Vec<Record>,
    /// Records that this version cannot read.
    pub failures: Vec<String>,
    /// From where a watch goes on.
    pub version: String,
}

/// Reads the records.
///
/// # Errors
/// Whatever the cluster answers, explained.
pub async fn read(cluster: &Connection, which: &Which, keep: Keep) -> Result<Ledger> {
    let mut ledger = Ledger::default();
    let mut params = ListParams { field_selector: which.fields(), ..ListParams::default().limit(PAGE) };
    let selector = which.selector();
    if !selector.is_empty() {
        params = params.labels(&selector);
    }
    let api = Api::<DynamicObject>::all_with(cluster.client.clone(), &resource());
    let (mut reading, mut restarts) = (None, 0);
    loop {
        let page = async || match list(cluster, &api, &params).await {
            Ok(page) => Ok(Some(page)),
            // The list grew old while it was read. Once more from the start; twice is no accident.
            Err(kube::Error::Api(status)) if status.code == 410 && restarts == 0 => Ok(None),
            Err(error) => Err(error),
        };
        let Some(page) = cluster.ask_again(Doing::Reading("the records"), page).await? else {
            restarts += 1;
            (ledger, reading) = (Ledger::default(), None);
            params.continue_token = None;
            continue;
        };
        params.continue_token = page.metadata.continue_.clone().filter(|token| !token.is_empty());
        // On a thread of its own, and the next page is on its way meanwhile: no more than these two are in memory.
        let next = tokio::task::spawn_blocking(move || page.read(keep));
        if let Some(last) = reading.replace(next) {
            ledger.add(last).await?;
        }
        if params.continue_token.is_none() {
            break;
        }
    }
    if let Some(last) = reading {
        ledger.add(last).await?;
    }
    Ok(ledger)
}

impl Ledger {
    /// Adds the next page, when it is read.
    async fn add(&mut self, page: JoinHandle<Self>) -> Result<()> {
        let page =
            page.await.map_err(|error| CommandError::failed(format!("a page of records was not read: {error}")))?;
        self.records.extend(page.records);
        self.failures.extend(page.failures);
        self.version = page.version;
        Ok(())
    }
}

/// A page of records, each still text: bodies that nobody wants become no values, and one record that cannot be read takes no
/// other with it.
#[derive(Deserialize)]
struct Page {
    metadata: ListMeta,
    /// Go writes none as null.
    items: Option<Vec<Box<RawValue>>>,
}

impl Page {
    fn read(self, keep: Keep) -> Ledger {
        let mut ledger = Ledger { version: self.metadata.resource_version.unwrap_or_default(), ..Ledger::default() };
        for text in self.items.unwrap_or_default() {
            match read_text(&text, keep) {
                Ok(record) => ledger.records.push(record),
                Err(failure) => ledger.failures.push(failure),
            }
        }
        ledger
    }
}

async fn list(cluster: &Connection, api: &Api<DynamicObject>, params: &ListParams) -> kube::Result<Page> {
    let request = Request::new(api.resource_url()).list(params).map_err(kube::Error::BuildRequest)?;
    cluster.page(request).await
}

fn read_text(text: &RawValue, keep: Keep) -> std::result::Result<Record, String> {
    match keep {
        Keep::Lines => read_line(text),
        Keep::Whole => {
            let object = serde_json::from_str(text.get());
            read_record(object.map_err(|error| format!("a record is none that can be read: {error}"))?, keep)
        }
    }
}

/// The record of that name, if there is one and I may read it.
///
/// # Errors
/// Whatever the cluster answers, explained.
pub async fn named(cluster: &Connection, name: &str, keep: Keep) -> Result<Option<Record>> {
    let api = Api::<DynamicObject>::all_with(cluster.client.clone(), &resource());
    let found = cluster.ask(Doing::Reading("the records"), api.get_opt(name)).await?;
    found.map(|object| read_record(object, keep).map_err(CommandError::failed)).transpose()
}

/// The names of the records with these labels.
///
/// # Errors
/// Whatever the cluster answers, explained.
pub async fn names_selected(cluster: &Connection, labels: &str) -> Result<BTreeSet<String>> {
    let api = Api::<DynamicObject>::all_with(cluster.client.clone(), &resource());
    let params = ListParams::default().labels(labels);
    let list = cluster.ask(Doing::Reading("the records"), api.list_metadata(&params)).await?;
    Ok(list.items.into_iter().filter_map(|record| record.metadata.name).collect())
}

/// How many changes of an incident are not settled.
///
/// # Errors
/// Whatever the cluster answers, explained.
pub async fn owed_of(cluster: &Connection, incident: &str) -> Result<usize> {
    let which = Which { incident: Some(incident.to_owned()), ..Which::default() };
    let ledger = read(cluster, &which, Keep::Lines).await?;
    Ok(ledger.records.iter().filter(|record| is_owed(&record.change)).count())
}

/// Whether somebody still has to do something about it.
pub fn is_owed(change: &BreakglassChange) -> bool {
    change.status.as_ref().and_then(|status| status.phase) != Some(ChangePhase::Settled)
}

/// The records as a kind that can be read without knowing all of it.
pub fn resource() -> ApiResource {
    ApiResource::erase::<BreakglassChange>(&())
}

/// Reads one record.
///
/// # Errors
/// The sentence that says which one cannot be read.
pub fn read_record(object: DynamicObject, keep: Keep) -> std::result::Result<Record, String> {
    let name = object.name_any();
    let unreadable =
        |error: serde_json::Error| format!("record {name} is in a form that this version cannot read: {error}");
    // Items of a list do not carry their kind.
    let mut whole = serde_json::to_value(object).map_err(unreadable)?;
    whole["apiVersion"] = BreakglassChange::api_version(&()).into();
    whole["kind"] = BreakglassChange::kind(&()).into();
    without_managed_fields(&mut whole);
    // What a scale found is noted when its parent is stamped: a Scale has no annotations.
    let notes = [("/metadata/annotations", FOLLOWS), ("/spec/before/metadata/annotations", stamp::CHANGE)];
    let found = notes.iter().find_map(|(place, key)| whole.pointer(place)?.get(key)?.as_str()).map(str::to_owned);
    if keep == Keep::Lines {
        if let Some(spec) = whole.get_mut("spec").and_then(Value::as_object_mut) {
            spec.remove("before");
            spec.remove("patch");
        }
        let change = serde_json::from_value(whole).map_err(unreadable)?;
        return Ok(Record { name, change, found, whole: None });
    }
    let change = serde_json::from_value(whole.clone()).map_err(unreadable)?;
    Ok(Record { name, change, found, whole: Some(whole) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_narrows_what_it_can_and_is_told_nothing_that_it_would_misread() {
        let which = |incident: Option<&str>, namespaces: &[&str], settled| Which {
            incident: incident.map(str::to_owned),
            namespaces: namespaces.iter().map(|&name| name.to_owned()).collect(),
            user: None,
            settled,
        };
        for (given, expected) in [
            (which(None, &[], false), "breakglass.dev/state!=settled"),
            (which(None, &[], true), ""),
            (which(Some("INC-1"), &[], true), "breakglass.dev/incident in (INC-1,inc-1)"),
            (which(Some("INC-1,x=y"), &[], true), ""),
            (
                which(Some("INC-1"), &["prod", "eu-prod"], false),
                "breakglass.dev/incident in (INC-1,inc-1),breakglass.dev/namespace in (prod,eu-prod),breakglass.dev/state!=settled",
            ),
        ] {
            assert_eq!(given.selector(), expected);
        }
    }
}
