//! Heard: what the webhook told of itself in Events, and what the API server counted.

use breakglass::api::{HOME_NAMESPACE, Timestamp};
use chrono::DateTime;
use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, ListParams};
use serde::Serialize;

use crate::checks::{Level, metrics};
use crate::connect::Connection;
use crate::survey;

/// Who the webhook's Events are from.
const REPORTER: &str = "reportingComponent=breakglass-webhook";

/// Where Events stand about objects that live in no namespace.
const OF_THE_CLUSTER: &str = "default";

/// What was heard, and what could not be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The webhook's Events that are still there, the first first.
    pub told: Vec<Told>,
    /// The namespaces whose Events could not be read.
    pub deaf: Vec<String>,
    /// What the API server counted of writes that it let in or refused unasked, a sentence each; nothing where that may not be
    /// read.
    pub counted: Option<Vec<String>>,
}

/// One thing that the webhook told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// When.
    pub time: Timestamp,
    /// In one word.
    pub reason: String,
    /// About what: `breakglasstoken/inc-1-bcdfg`.
    pub about: String,
    /// In its own words.
    pub text: String,
}

impl Told {
    /// All of it in one line.
    pub fn sentence(&self) -> String {
        format!("{} ({}): {}", self.reason, self.about, self.text)
    }
}

/// Listens. What may not be read is no failure: the report says so.
pub async fn hear(cluster: &Connection) -> Heard {
    let (here, home, text) =
        futures::join!(events(cluster, OF_THE_CLUSTER), events(cluster, HOME_NAMESPACE), survey::metrics(cluster));
    let mut heard = Heard::default();
    for (namespace, events) in [(OF_THE_CLUSTER, here), (HOME_NAMESPACE, home)] {
        match events {
            Some(events) => heard.told.extend(events.iter().filter_map(told)),
            None => heard.deaf.push(namespace.to_owned()),
        }
    }
    heard.told.sort();
    heard.counted = text.map(|text| {
        let findings = metrics::metrics(Some(&text)).into_iter();
        findings.filter(|finding| finding.level != Level::Ok).map(|finding| finding.message).collect()
    });
    heard
}

async fn events(cluster: &Connection, namespace: &str) -> Option<Vec<Event>> {
    let api = Api::<Event>::namespaced(cluster.client.clone(), namespace);
    let params = ListParams::default().fields(REPORTER);
    cluster.patiently(|| api.list(&params)).await?.ok().map(|list| list.items)
}

fn told(event: &Event) -> Option<Told> {
    let micros = event.event_time.as_ref().map(|time| time.0.as_microsecond());
    let time = micros.or_else(|| event.first_timestamp.as_ref().map(|time| time.0.as_microsecond()))?;
    let about = &event.involved_object;
    Some(Told {
        time: Timestamp::new(DateTime::from_timestamp_micros(time)?),
        reason: event.reason.clone().unwrap_or_default(),
        about: format!(
            "{}/{}",
            about.kind.clone().unwrap_or_default().to_lowercase(),
            about.name.clone().unwrap_or_default()
        ),
        text: event.message.clone().unwrap_or_default(),
    })
}
