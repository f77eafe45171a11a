//! Holds: the objects that open changes keep an engine from, given back to it by who takes away what would do so in time.

use std::collections::BTreeMap;

use breakglass::api::Target;
use breakglass::engine::HOLD;
use breakglass::hold;
use futures::StreamExt;
use kube::ResourceExt;
use serde_json::json;

use crate::call::patch_metadata;
use crate::connect::Connection;
use crate::error::Result;
use crate::explain::root_cause;
use crate::ledger::{self, Keep, Record, Which, is_owed};
use crate::live::api;
use crate::removal::is_in_the_way;
use crate::rollout::Deadline;
use crate::scan::PARALLEL;

/// What is held.
#[derive(Clone, Debug, Default)]
pub struct Holds {
    /// The objects.
    pub held: Vec<Held>,
    /// One sentence for each record or object that could not be read: it may be held as well.
    pub failures: Vec<String>,
}

/// An object that open changes hold, as their records say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The object.
    pub target: Target,
    /// The engine's object that owns it.
    pub owner: Option<String>,
    /// The changes.
    pub changes: Vec<String>,
}

impl Held {
    /// What becomes of it when it is given back, in words.
    pub fn words(&self) -> String {
        let owner = self.owner.as_deref().unwrap_or("its GitOps engine");
        let (place, changes) = (self.target.place(), self.changes.join(", "));
        format!("{place}: {owner} applies Git to it again, and undoes what Git does not say (held by {changes})")
    }

    /// The command that gives it back.
    pub fn command(&self) -> String {
        format!("kubectl annotate{} {} {}-", self.target.flag(), self.target.short(), HOLD.0)
    }
}

/// What is held because of us: what somebody has annotated without a change that holds is theirs.
///
/// # Errors
/// When the records cannot be read.
pub async fn held(cluster: &Connection) -> Result<Holds> {
    // Without records there is no change that holds.
    if !cluster.knows_our_kinds().await {
        return Ok(Holds::default());
    }
    let ledger = ledger::read(cluster, &Which::default(), Keep::Lines).await?;
    let mut holds = Holds { held: Vec::new(), failures: ledger.failures };
    let mut looked = futures::stream::iter(by_record(&ledger.records))
        .map(|held| async move { is_held(cluster, &held.target).await.map(|is_held| is_held.then_some(held)) })
        .buffered(PARALLEL);
    while let Some(looked) = looked.next().await {
        match looked {
            Ok(held) => holds.held.extend(held),
            Err(why) => holds.failures.push(why),
        }
    }
    Ok(holds)
}

/// The objects that records of open changes say are held, each once.
fn by_record(records: &[Record]) -> Vec<Held> {
    let mut objects: BTreeMap<(String, Option<String>), Held> = BTreeMap::new();
    for record in records.iter().filter(|record| is_owed(&record.change) && hold::is_ours(&record.change)) {
        let spec = &record.change.spec;
        let key = (spec.target.place(), spec.target.uid.clone());
        let new = || Held { target: spec.target.clone(), owner: spec.engine_owner.clone(), changes: Vec::new() };
        let held = objects.entry(key).or_insert_with(new);
        // A scale does not know whose its object is.
        held.owner = held.owner.take().or_else(|| spec.engine_owner.clone());
        held.changes.push(record.name.clone());
    }
    objects.into_values().collect()
}

/// Whether the object is there, and held. Only its metadata is asked for.
///
/// # Errors
/// Why it cannot be told, in a sentence.
pub async fn is_held(cluster: &Connection, target: &Target) -> std::result::Result<bool, String> {
    let api = api(cluster, target);
    match cluster.patiently(|| api.get_metadata_opt(&target.name)).await {
        Some(Ok(found)) => Ok(found.is_some_and(|found| {
            let is_it = target.uid.is_none() || found.metadata.uid == target.uid;
            is_it && hold::is_held(found.annotations())
        })),
        // Its kind is gone, and it with it.
        Some(Err(kube::Error::Api(status))) if status.is_not_found() => Ok(false),
        Some(Err(error)) => Err(format!("{}: {}", target.place(), root_cause(&error))),
        None => Err(format!("{}: no answer in time", target.place())),
    }
}

/// Gives an object back to its engine. The API server may ask our webhook for a moment after it is gone: then again.
///
/// # Errors
/// Why it is not given back, in a sentence.
pub async fn give_back(cluster: &Connection, held: &Held, deadline: Deadline) -> std::result::Result<(), String> {
    let (api, target) = (api(cluster, &held.target), &held.target);
    let uid = target.uid.as_deref().unwrap_or_default();
    loop {
        let metadata = json!({"annotations": {HOLD.0: null}});
        match cluster.patiently(|| patch_metadata(&api, (&target.name, uid), metadata.clone())).await {
            Some(Ok(())) => return Ok(()),
            Some(Err(kube::Error::Api(status))) if is_in_the_way(&status) && deadline.pause().await => {}
            // Gone, or another one by now.
            Some(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => return Ok(()),
            Some(Err(error)) => return Err(root_cause(&error)),
            None => return Err("no answer in time".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::ledger::read_record;

    #[test]
    fn held_is_what_the_records_of_open_changes_say() {
        let record = |name: &str, object: &str, more: Value, phase: &str| {
            let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "resource": "deployments",
                "namespace": "prod", "name": object, "uid": object});
            let mut change = json!({"metadata": {"name": name}, "status": {"phase": phase},
                "spec": {"token": "t", "incident": "INC-1", "user": "alice@example.com", "operation": "Update",
                    "time": "2026-11-20T10:00:00Z", "environment": "prod", "target": target,
                    "decideBy": "2026-11-21T12:00:00Z"}});
            more.as_object().unwrap().iter().for_each(|(field, value)| change["spec"][field] = value.clone());
            read_record(serde_json::from_value(change).unwrap(), Keep::Lines).unwrap()
        };
        let owned = json!({"hold": true, "engineOwner": "Kustomization flux-system/prod"});
        let records = [
            record("c1", "api", json!({"hold": true, "operation": "Scale"}), "Pending"),
            record("c2", "api", owned.clone(), "Accepted"),
            record("c3", "over", owned, "Settled"),
            record("c4", "plain", json!({"engineOwner": "Kustomization flux-system/prod"}), "Pending"),
            record("c5", "just-now", json!({"hold": true}), "Admitted"),
        ];
        let words: Vec<String> = by_record(&records).iter().map(Held::words).collect();
        let expected = [
            "deployment.apps/api in prod: Kustomization flux-system/prod applies Git to it again, and undoes what Git \
             does not say (held by c1, c2)",
            "deployment.apps/just-now in prod: its GitOps engine applies Git to it again, and undoes what Git does not \
             say (held by c5)",
        ];
        assert_eq!(words, expected);
        let command = "kubectl annotate -n prod deployment.apps/api kustomize.toolkit.fluxcd.io/reconcile-";
        assert_eq!(by_record(&records)[0].command(), command);
    }
}
