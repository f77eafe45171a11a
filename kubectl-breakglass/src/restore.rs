//! Restore: what has to be written so that changes are put back; written, and read back.

use std::time::Duration;

use breakglass::api::BreakglassChangeSpec;
use breakglass::put_back::{Obstacle, Values, is_controlled, part, put_all_back};
use breakglass::record::{without_noise, without_notes};
use breakglass::remains::{Left, Remains};
use breakglass::rules::Rules;
use breakglass::stamp;
use kube::ResourceExt;
use kube::api::{Api, DynamicObject};
use serde_json::Value;

use crate::call::{Addressee, Heard, delete_that, make, replace};
use crate::connect::Connection;
use crate::error::{CommandError, Result};
use crate::explain::Doing;
use crate::ledger::Record;
use crate::live;
use crate::print::object;
use crate::tokens::{FIELD_MANAGER, Really};

/// How long an object that was deleted is waited for to be gone. A finalizer may hold it for longer: that is said.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// How often it is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How often a write is tried that somebody else was faster than.
const TRIES: usize = 5;

/// The changes of one object that are put back together, and what that takes.
#[derive(Clone, Debug)]
pub struct Restoration {
    /// The records, the latest first.
    pub records: Vec<Record>,
    /// The object as it is now, or the part of it that was written to; `None` where it is gone.
    pub now: Option<Value>,
    /// What it is to be; `None` where it is to go.
    pub wanted: Option<Value>,
    /// Whether the policy hides its values.
    pub hidden: bool,
}

impl Restoration {
    /// What it is called, and where it is.
    pub fn place(&self) -> String {
        self.records.first().map(|record| record.change.spec.target.place()).unwrap_or_default()
    }

    /// Whether nothing has to be written.
    pub fn is_there(&self) -> bool {
        self.now == self.wanted
    }
}

/// An object as it is now, and its changes that somebody may want to put back.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The records, the latest first.
    pub records: Vec<Record>,
    /// The object, or the part of it that was written to; `None` where it is gone.
    pub now: Option<Value>,
    /// The paths whose values the policy hides.
    pub hidden: Vec<String>,
}

/// What it takes to put these back, the latest first; each object on its own, so that one does not stand in the way of others.
///
/// # Errors
/// When the cluster does not answer.
pub async fn plan(cluster: &Connection, rules: &Rules, records: Vec<Record>) -> Result<Vec<Result<Restoration>>> {
    let subjects = subjects(cluster, rules, records).await?;
    Ok(subjects.iter().map(|subject| subject.without(&subject.records)).collect())
}

/// The objects of these, the latest first, as they are now.
///
/// # Errors
/// When the cluster does not answer.
pub async fn subjects(cluster: &Connection, rules: &Rules, records: Vec<Record>) -> Result<Vec<Subject>> {
    let mut subjects = Vec::new();
    for records in by_object(records) {
        let Some(spec) = records.first().map(|record| &record.change.spec) else { continue };
        let now = read(cluster, spec).await?;
        let hidden = rules.hidden(spec.target.group(), &spec.target.kind);
        subjects.push(Subject { records, now, hidden });
    }
    Ok(subjects)
}

/// The records of each object, or part of one, in the order of their latest.
fn by_object(records: Vec<Record>) -> Vec<Vec<Record>> {
    let mut groups: Vec<Vec<Record>> = Vec::new();
    for record in records {
        let is_of_it = |group: &&mut Vec<Record>| {
            group.first().is_some_and(|first| is_same(&first.change.spec, &record.change.spec))
        };
        match groups.iter_mut().find(is_of_it) {
            Some(group) => group.push(record),
            None => groups.push(vec![record]),
        }
    }
    groups
}

fn is_same(a: &BreakglassChangeSpec, b: &BreakglassChangeSpec) -> bool {
    let (one, other) = (&a.target, &b.target);
    (one.group(), &one.kind, &one.namespace, &one.name) == (other.group(), &other.kind, &other.namespace, &other.name)
        && part(a) == part(b)
}

impl Subject {
    /// Whether this is one of its changes.
    pub fn has(&self, record: &Record) -> bool {
        self.records.iter().any(|one| one.name == record.name)
    }

    /// What it takes to put these of its changes back, the latest first.
    ///
    /// # Errors
    /// What stands in the way.
    pub fn without(&self, records: &[Record]) -> Result<Restoration> {
        let values = if self.hidden.is_empty() { Values::Plain } else { Values::Hashed(&self.hidden) };
        let specs: Vec<&BreakglassChangeSpec> = records.iter().map(|record| &record.change.spec).collect();
        let wanted = match put_all_back(&specs, values, self.now.as_ref()) {
            Ok(wanted) => wanted,
            Err((at, obstacle)) => return Err(explain(&records[at], &obstacle)),
        };
        // What others did to an object that is to go would go with it.
        let annotations = self.now.as_ref().and_then(|now| now.pointer("/metadata/annotations"));
        let carried = annotations.and_then(|annotations| annotations.get(stamp::CHANGE)?.as_str());
        if let (Some(carried), None, Some(first)) = (carried, &wanted, records.first())
            && !records.iter().any(|record| record.name == carried)
        {
            let later = vec![format!("the object, as {carried} says,")];
            return Err(explain(first, &Obstacle::WrittenSince(later)));
        }
        let (records, now, hidden) = (records.to_vec(), self.now.clone(), !self.hidden.is_empty());
        Ok(Restoration { records, now, wanted, hidden })
    }
}

/// The part of an object that a change wrote to, as the API server has it.
async fn read(cluster: &Connection, change: &BreakglassChangeSpec) -> Result<Option<Value>> {
    let found = live::written(cluster, change).await?;
    found.map(|object| object::value(&object)).transpose()
}

/// Why it cannot be put back, and what can be done.
fn explain(record: &Record, obstacle: &Obstacle) -> CommandError {
    let target = &record.change.spec.target;
    let error = CommandError::failed(format!("{} cannot be put back: {obstacle}", target.place()));
    let (flag, object) = (target.flag(), target.short());
    // What is no command stands behind a #, so that the line can be pasted.
    match obstacle {
        Obstacle::WrittenSince(_) => error
            .hint(format!("kubectl breakglass diff{flag} {object}"))
            .hint(format!("kubectl breakglass reject{flag} {object}  # puts back all of its changes")),
        Obstacle::MadeAnew(_) | Obstacle::Gone => error.hint(format!("kubectl breakglass diff {}", record.name)),
        Obstacle::Hidden(_) | Obstacle::Truncated | Obstacle::Misfit => error
            .hint("put it back from where its values are kept; what is put back is seen, and the change is settled"),
        Obstacle::Leaving => error.hint(format!("kubectl get{flag} {object} -o jsonpath='{{.metadata.finalizers}}'")),
        Obstacle::Unseen | Obstacle::Bound | Obstacle::Ephemeral => {
            error.hint(format!("kubectl delete{flag} {object}  # the change is settled when the object is gone"))
        }
        Obstacle::GivenOut => error.hint("it ends with the object that it was given for"),
    }
}

/// Writes what a restoration takes, or asks what would become of it.
///
/// # Errors
/// When the cluster does not take it.
pub async fn write(
    cluster: &Connection,
    restoration: &mut Restoration,
    rules: &Rules,
    really: Really,
) -> Result<Option<Heard>> {
    for _ in 1..TRIES {
        if let Some(heard) = try_to_write(cluster, restoration, really).await? {
            return Ok(heard);
        }
        // A controller says something in the status at the same moment; what was seen then may not hold any more.
        for planned in plan(cluster, rules, restoration.records.clone()).await? {
            *restoration = planned?;
        }
    }
    try_to_write(cluster, restoration, really).await?.ok_or_else(|| {
        CommandError::failed(format!("others keep writing to {}: nothing was put back", restoration.place()))
    })
}

/// `None` where somebody has written to the object since it was read.
async fn try_to_write(
    cluster: &Connection,
    restoration: &Restoration,
    really: Really,
) -> Result<Option<Option<Heard>>> {
    let Some(record) = restoration.records.first().filter(|_| !restoration.is_there()) else { return Ok(Some(None)) };
    let spec = &record.change.spec;
    let api = live::api(cluster, &spec.target);
    let to = Addressee { api: &api, name: &spec.target.name, subresource: part(spec) };
    let client = &cluster.client;
    let written = async {
        let heard = match (&restoration.now, &restoration.wanted) {
            (None, None) => return Ok(Some(None)),
            (None, Some(wanted)) => make(client, &api, (wanted, FIELD_MANAGER), really).await,
            (Some(now), None) => {
                let uid = now.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
                delete_that(client, to, uid, really).await
            }
            (Some(_), Some(wanted)) => replace(client, to, (wanted, FIELD_MANAGER), really).await,
        };
        match heard {
            Ok(heard) => Ok(Some(Some(heard))),
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(None),
            Err(error) => Err(error),
        }
    };
    let about =
        |error: CommandError| CommandError { message: format!("{}: {}", restoration.place(), error.message), ..error };
    cluster.ask(Doing::PuttingBack, written).await.map_err(about)
}

/// Reads the object back, and says whether it is what it was.
///
/// # Errors
/// When it is not, or the cluster does not answer.
pub async fn check(cluster: &Connection, restoration: &Restoration) -> Result<()> {
    let Some(record) = restoration.records.first() else { return Ok(()) };
    let spec = &record.change.spec;
    if restoration.wanted.is_none() {
        return wait_until_gone(cluster, restoration).await;
    }
    // A pod that a controller makes again has another name.
    if spec.before.as_ref().is_some_and(is_controlled) && restoration.is_there() {
        return Ok(());
    }
    let (was, wanted) =
        (restoration.now.clone().unwrap_or_else(empty), restoration.wanted.clone().unwrap_or_else(empty));
    let now = read(cluster, spec).await?.unwrap_or_else(empty);
    let written =
        Remains::of(&without_notes(without_noise(was, true)), &without_notes(without_noise(wanted, true)), &now);
    let lost: Vec<&str> =
        written.fields.iter().filter(|field| field.left != Left::There).map(|field| field.name.as_str()).collect();
    if lost.is_empty() {
        return Ok(());
    }
    let message = format!("{} is not what it was: somebody writes to {}", restoration.place(), lost.join(", "));
    Err(CommandError::failed(message).hint(format!("kubectl breakglass diff {}", record.name)))
}

fn empty() -> Value {
    Value::Object(serde_json::Map::new())
}

async fn wait_until_gone(cluster: &Connection, restoration: &Restoration) -> Result<()> {
    let Some((record, now)) = restoration.records.first().zip(restoration.now.as_ref()) else { return Ok(()) };
    let target = &record.change.spec.target;
    let api: Api<DynamicObject> = live::api(cluster, target);
    let uid = now.pointer("/metadata/uid").and_then(Value::as_str);
    let gone = async {
        loop {
            let found = cluster.ask(Doing::Asking("whether it is gone"), api.get_metadata_opt(&target.name)).await?;
            if found.and_then(|found| found.uid()).as_deref() != uid {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(GONE_WITHIN, gone).await.unwrap_or_else(|_| {
        Err(CommandError::failed(format!(
            "{} was deleted, and is held by a finalizer or its grace period",
            target.place()
        ))
        .hint("the change is settled when it is gone"))
    })
}
