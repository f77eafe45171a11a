//! Want: from the records of one object, and the object as it is now, to what Git is to say of it. Pure.

// Fields, and what became of them.
mod field;

use breakglass::api::{BreakglassChangeSpec, Operation, Target};
use serde_json::{Value, json};

use crate::error::{CommandError, Result};
use crate::ledger::Record;
use crate::live::Now;
use crate::print::table::printable;
use crate::source::ObjectId;
use crate::states::States;
use field::{Fields, covers, differing};

/// How much of a value an error shows.
const VALUE_SHOWN: usize = 72;

/// Where a number of replicas is in what can be scaled.
const REPLICAS: &str = "/spec/replicas";

/// The kinds in which it is there. Of others only their definition knows where; the record does not say.
const SCALED: [(&str, &str); 4] =
    [("apps", "Deployment"), ("apps", "StatefulSet"), ("apps", "ReplicaSet"), ("", "ReplicationController")];

/// What Git is to say of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Want {
    /// The object as it was before the first change, in every field that changes wrote to, and as it is now in every other.
    /// None where a change made it.
    pub before: Option<Value>,
    /// The object as it is. None where a change deleted it.
    pub after: Option<Value>,
    /// What differs, as JSON pointers; none where it is the whole.
    pub fields: Vec<String>,
}

/// An object, as its manifest names it.
pub fn object_of(target: &Target) -> ObjectId {
    ObjectId {
        group: target.group().to_owned(),
        kind: target.kind.clone(),
        namespace: target.namespace.clone(),
        name: target.name.clone(),
    }
}

/// Why a change leaves nothing that Git could say; nothing where it leaves something.
pub fn nothing_for_git(change: &BreakglassChangeSpec) -> Option<String> {
    match (change.operation, change.subresource.as_deref()) {
        (Operation::Exec, _) => Some("it was connected to, and no object was changed".to_owned()),
        (Operation::Evict, _) => Some("a pod was evicted, and what made it has made another".to_owned()),
        (Operation::Scale, _) | (Operation::Create | Operation::Update | Operation::Delete, None) => None,
        (Operation::Create | Operation::Update | Operation::Delete, Some(name)) => {
            Some(format!("{name} was written to, which is no part of what stands in Git"))
        }
    }
}

/// The names of the fields that a change wrote to, and no value of any; of what was made or deleted, that it was.
///
/// # Errors
/// When the record does not hold them.
pub fn fields_of(record: &Record) -> Result<Vec<String>> {
    Ok(match states(record)? {
        (Some(before), Some(after)) => differing(&before, &after),
        (None, Some(_)) => vec!["all of it is new".to_owned()],
        (Some(_), None) => vec!["all of it is gone".to_owned()],
        (None, None) => Vec::new(),
    })
}

/// What the changes of one object, the oldest first, want Git to say; nothing where they left nothing behind.
///
/// # Errors
/// When the records do not hold it, or the object no longer says what the changes made of it.
pub fn want(records: &[Record], now: &Now) -> Result<Option<Want>> {
    let (Some(first), Some(last)) = (records.first(), records.last()) else { return Ok(None) };
    let mut fields = Fields::default();
    let (mut made, mut deleted) = (None, None);
    for record in records {
        let (before, after) = states(record)?;
        match (before, after) {
            (Some(before), Some(after)) => fields.add(&before, &after),
            (None, Some(after)) => match deleted.take() {
                Some(before) => fields.add(&before, &after),
                None => made = Some(after),
            },
            (Some(before), None) => deleted = Some(before),
            (None, None) => {}
        }
    }
    match (made, deleted) {
        (Some(_), Some(_)) => Ok(None),
        (None, Some(before)) => gone(first, before, now).map(Some),
        (Some(made), None) => there(last, now).and_then(|now| new(last, fields.onto(&made), now)).map(Some),
        (None, None) if fields.is_empty() => Ok(None),
        (None, None) => there(last, now).and_then(|now| changed(last, &fields, now)).map(Some),
    }
}

/// What was deleted, and has to be gone.
fn gone(record: &Record, before: Value, now: &Now) -> Result<Want> {
    match now {
        Now::Gone => Ok(Want { before: Some(before), after: None, fields: Vec::new() }),
        Now::There(_) | Now::Another(_) | Now::Hidden => {
            let message = format!("{} is there again, and was deleted: Git has nothing to lose", place(record));
            Err(CommandError::failed(message).hint(format!("kubectl breakglass diff {}", record.name)))
        }
    }
}

/// The object as it is.
fn there<'n>(record: &Record, now: &'n Now) -> Result<&'n Value> {
    match now {
        Now::There(object) | Now::Another(object) => Ok(object),
        Now::Gone => {
            Err(CommandError::failed(format!("{} is gone: there is nothing that Git could say", place(record)))
                .hint(format!("kubectl breakglass show {}", record.name)))
        }
        Now::Hidden => Err(CommandError::failed(format!(
            "the policy hides the values of {}, and none goes into Git",
            place(record)
        ))),
    }
}

/// What was made: as it was written, and not with what others have added since.
fn new(record: &Record, made: Option<Value>, now: &Value) -> Result<Want> {
    let made = made.ok_or_else(|| unclear(record))?;
    match covers(&made, now) {
        Ok(()) => Ok(Want { before: None, after: Some(made), fields: Vec::new() }),
        Err(pointer) => Err(overwritten(record, &pointer, made.pointer(&pointer), now)),
    }
}

fn changed(record: &Record, fields: &Fields, now: &Value) -> Result<Want> {
    for (pointer, became) in fields.became() {
        let lost = match (became, now.pointer(pointer)) {
            (Some(became), Some(is)) => covers(became, is).err().map(|below| format!("{pointer}{below}")),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => Some(pointer.clone()),
        };
        if let Some(lost) = lost {
            let below = lost.strip_prefix(pointer.as_str()).unwrap_or_default();
            return Err(overwritten(record, &lost, became.and_then(|became| became.pointer(below)), now));
        }
    }
    let (before, after) = (fields.before(now), fields.onto(now));
    let (Some(before), Some(after)) = (before, after) else { return Err(unclear(record)) };
    let fields = fields.became().map(|(pointer, _)| pointer.clone()).collect();
    Ok(Want { before: Some(before), after: Some(after), fields })
}

fn overwritten(record: &Record, pointer: &str, became: Option<&Value>, now: &Value) -> CommandError {
    let value = |value: Option<&Value>| value.map_or_else(|| "not there".to_owned(), brief);
    let (is, became) = (value(now.pointer(pointer)), value(became));
    let message = format!(
        "{} no longer says what was made of it: {} is {is}, and {} made it {became}; it was undone, or overwritten",
        place(record),
        printable(pointer),
        record.name
    );
    CommandError::failed(message).hint(format!("kubectl breakglass diff {}", record.name))
}

fn unclear(record: &Record) -> CommandError {
    CommandError::failed(format!("the changes of {} do not fit the object as it is now", place(record)))
        .hint(format!("kubectl breakglass diff {}", record.name))
}

/// The object before and after a change; of a scale, the part of it that was scaled.
///
/// # Errors
/// When the record does not hold them.
pub fn states(record: &Record) -> Result<(Option<Value>, Option<Value>)> {
    let change = &record.change.spec;
    let about = |error: CommandError| {
        let message = format!("{}: {}", place(record), error.message);
        CommandError { message, ..error }.hint(format!("kubectl breakglass show {}", record.name))
    };
    let States { before, after } = States::of(change).map_err(about)?;
    if change.operation != Operation::Scale {
        return Ok((before, after));
    }
    if !SCALED.contains(&(change.target.group(), change.target.kind.as_str())) {
        return Err(about(CommandError::failed(
            "it was scaled, and its kind does not say which of its fields that is",
        )));
    }
    let replicas = |scale: &Value| Some(json!({"spec": {"replicas": scale.pointer(REPLICAS)?}}));
    Ok((before.as_ref().and_then(replicas), after.as_ref().and_then(replicas)))
}

fn place(record: &Record) -> String {
    record.change.spec.target.place()
}

fn brief(value: &Value) -> String {
    let text = value.to_string();
    let mut shown: String = text.chars().take(VALUE_SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    printable(&shown)
}

#[cfg(test)]
mod tests;
