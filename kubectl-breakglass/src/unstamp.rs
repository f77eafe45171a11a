//! Takes every stamp off: our annotations and our label, and nothing else.

use std::collections::BTreeSet;
use std::time::Duration;

use breakglass::stamp;
use futures::StreamExt;
use kube::api::{Api, DynamicObject};
use serde_json::{Map, Value, json};

use crate::call::patch_metadata;
use crate::connect::Connection;
use crate::discover::{Kind, Kinds};
use crate::explain::root_cause;
use crate::scan::{PARALLEL, Scan, Where};
use crate::stamped::{self, Stamped, copies};

/// Whose stamps are copies of their Deployment's.
const COPIES: &str = "replicasets.apps";

/// How often copies are looked for again, and after how long. A controller sees that a stamp is gone within a second.
const TRIES: usize = 10;
const PAUSE: Duration = Duration::from_millis(500);

/// What became of the stamps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleared {
    /// How many objects carry none any more.
    pub cleared: usize,
    /// One sentence for each that could not be read or written.
    pub failures: Vec<String>,
}

/// Every object that carries a stamp or a copy of one: a ReplicaSet has those of its Deployment.
pub async fn stamped(cluster: &Connection, kinds: &Kinds) -> Scan<Stamped> {
    let mut found = stamped::stamped(cluster, kinds, &Where::Everywhere, stamp::STATE).await;
    let replica_sets = kinds.listable.iter().find(|kind| kind.name() == COPIES);
    if let Some(kind) = replica_sets {
        found.append(copies(cluster, kind).await);
    }
    found
}

/// Takes the stamps off that were found, and then the copies that a Deployment's controller made of them: it makes them again
/// for as long as it sees the stamp on the Deployment.
pub async fn clear(cluster: &Connection, kinds: &Kinds, found: Scan<Stamped>) -> Cleared {
    let unreadable = found.unreadable.iter().map(|kind| format!("{kind} may not be listed by you"));
    let failures = found.failures.iter().cloned().chain(unreadable).collect();
    let mut cleared = Cleared { cleared: 0, failures };
    let (mut copied, own): (Vec<Stamped>, Vec<Stamped>) =
        found.objects.into_iter().partition(|object| object.kind.name() == COPIES);
    clear_all(cluster, &own, &mut cleared).await;
    let mut known = BTreeSet::new();
    for _ in 0..TRIES {
        let new = copied.iter().filter(|object| known.insert(object.uid.clone())).count();
        let mut answered = Cleared::default();
        clear_all(cluster, &copied, &mut answered).await;
        cleared.cleared += new.min(answered.cleared);
        cleared.failures.extend(answered.failures);
        tokio::time::sleep(PAUSE).await;
        let Some(kind) = kinds.listable.iter().find(|kind| kind.name() == COPIES) else { break };
        copied = copies(cluster, kind).await.objects;
        if copied.is_empty() {
            break;
        }
    }
    cleared.failures.sort();
    cleared.failures.dedup();
    cleared
}

async fn clear_all(cluster: &Connection, objects: &[Stamped], cleared: &mut Cleared) {
    let answers: Vec<Result<(), String>> = futures::stream::iter(objects)
        .map(|object| clear_one(cluster, object))
        .buffer_unordered(PARALLEL)
        .collect()
        .await;
    for answer in answers {
        match answer {
            Ok(()) => cleared.cleared += 1,
            Err(why) => cleared.failures.push(why),
        }
    }
}

async fn clear_one(cluster: &Connection, object: &Stamped) -> Result<(), String> {
    let kind: &Kind = &object.kind;
    let api = match &object.namespace {
        Some(namespace) => Api::<DynamicObject>::namespaced_with(cluster.client.clone(), namespace, &kind.resource),
        None => Api::all_with(cluster.client.clone(), &kind.resource),
    };
    let name = || format!("{}/{}", kind.name(), object.name);
    match cluster.patiently(|| patch_metadata(&api, (&object.name, &object.uid), without_stamp())).await {
        Some(Ok(())) => Ok(()),
        // Gone, or another one by now.
        Some(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Ok(()),
        Some(Err(error)) => Err(format!("{}: {}", name(), root_cause(&error))),
        None => Err(format!("{}: no answer in time", name())),
    }
}

/// The metadata that takes our keys off an object in a merge patch: null is "take it off".
fn without_stamp() -> Value {
    let nulls =
        |keys: &[&str]| -> Map<String, Value> { keys.iter().map(|&key| (key.to_owned(), Value::Null)).collect() };
    json!({"annotations": nulls(&stamp::ANNOTATIONS), "labels": nulls(&stamp::LABELS)})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_our_keys_is_taken_off() {
        let metadata = without_stamp();
        assert_eq!(metadata.as_object().unwrap().keys().collect::<Vec<_>>(), ["annotations", "labels"]);
        for map in ["annotations", "labels"] {
            for (key, value) in metadata[map].as_object().unwrap() {
                assert!(key.starts_with("breakglass.dev/") && value.is_null(), "{key}");
            }
        }
    }
}
