//! The way back from a change: what its object would be without it, or why there is no way back.

use serde_json::Value;

use crate::api::{BreakglassChangeSpec, Operation};
use crate::diff::patched;
use crate::record::{is_note, without_noise, without_notes, without_stamp};
use crate::remains::{Field, Left, Remains};

/// What the values of a record are good for.
#[derive(Clone, Copy, Debug)]
pub enum Values<'r> {
    /// All of them are what was there.
    Plain,
    /// Below these paths of the object stand hashes: enough to recognise a value, not to write it.
    Hashed(&'r [String]),
}

/// Why a change cannot be put back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// The record has no bodies.
    #[error("the object was too large for the record, which holds hashes in its place")]
    Truncated,
    /// The record does not fit itself, or this version cannot read it.
    #[error("the patch of the record does not fit what it says was there before")]
    Misfit,
    /// The record has no values.
    #[error("the policy hides the values of {}, and the record holds hashes in their place", .0.join(", "))]
    Hidden(Vec<String>),
    /// Somebody has written to the same fields since.
    #[error("{} was written to again since", .0.join(", "))]
    WrittenSince(Vec<String>),
    /// There is no object to put it back in.
    #[error("the object is gone")]
    Gone,
    /// What was deleted is still on its way out.
    #[error("the object is still being deleted: a finalizer holds it")]
    Leaving,
    /// Another object took the name of the one that was deleted.
    #[error("another object of that name was made since, and differs in {}", .0.join(", "))]
    MadeAnew(Vec<String>),
    /// What was done is not on record.
    #[error("what is done inside a container, or over a connection, is not on record")]
    Unseen,
    /// A credential was given out.
    #[error("a credential that was given out cannot be taken back")]
    GivenOut,
    /// A pod is on a node.
    #[error("a pod does not leave the node that it was bound to")]
    Bound,
    /// A container was put into a pod.
    #[error("the API server takes no ephemeral container out of a pod again")]
    Ephemeral,
}

impl Obstacle {
    /// Whether the object has to go for the change to be over.
    pub fn is_in_object(&self) -> bool {
        match self {
            Self::Unseen | Self::Bound | Self::Ephemeral => true,
            Self::Truncated
            | Self::Misfit
            | Self::Hidden(_)
            | Self::WrittenSince(_)
            | Self::Gone
            | Self::Leaving
            | Self::MadeAnew(_)
            | Self::GivenOut => false,
        }
    }
}

/// What the object is to be, if it is to be at all, so that the change is undone and nothing else is.
///
/// `now` is the object as the API server has it, or the part of it that was written to; our own keys in it are left as they are.
///
/// # Errors
/// Why there is no way back.
pub fn put_back(
    change: &BreakglassChangeSpec,
    values: Values<'_>,
    now: Option<&Value>,
) -> Result<Option<Value>, Obstacle> {
    if let Some(obstacle) = without_way_back(change) {
        return Err(obstacle);
    }
    if change.operation == Operation::Create {
        return Ok(now.filter(|now| !is_that(change, now)).cloned());
    }
    if change.truncated {
        return Err(Obstacle::Truncated);
    }
    let before = change.before.as_ref().ok_or(Obstacle::Misfit)?;
    if matches!(change.operation, Operation::Delete | Operation::Evict) {
        return revived(change, before, values, now);
    }
    let after = patched(Some(before), &change.patch).ok_or(Obstacle::Misfit)?;
    let now = now.ok_or(Obstacle::Gone)?;
    let remains = match values {
        Values::Plain => Remains::of(&without_stamp(before.clone()), &without_stamp(after), now),
        // The notes hold a copy of the values, hashed as well.
        Values::Hashed(paths) => {
            let remains = Remains::of(&without_notes(before.clone()), &without_notes(after), now);
            let hidden = remains.fields.iter().filter(|field| is_below(&field.name, paths));
            not_empty(names(hidden), Obstacle::Hidden)?;
            remains
        }
    };
    let others = remains.that_are(Left::Other).filter(|field| !is_note(&field.name));
    not_empty(names(others), Obstacle::WrittenSince)?;
    Ok(Some(remains.without))
}

/// The same of several changes of one object, the latest first.
///
/// # Errors
/// The first that stands in the way, with the place of its change.
pub fn put_all_back(
    changes: &[&BreakglassChangeSpec],
    values: Values<'_>,
    now: Option<&Value>,
) -> Result<Option<Value>, (usize, Obstacle)> {
    match one_by_one(changes, values, now) {
        // They may have been put back already, all at once: then no field is what one of them alone had found there.
        Err((place, obstacle @ Obstacle::WrittenSince(_))) => {
            together(changes, values, now).map(Some).ok_or((place, obstacle))
        }
        result => result,
    }
}

fn one_by_one(
    changes: &[&BreakglassChangeSpec],
    values: Values<'_>,
    now: Option<&Value>,
) -> Result<Option<Value>, (usize, Obstacle)> {
    let mut state = now.cloned();
    for (place, change) in changes.iter().enumerate() {
        state = put_back(change, values, state.as_ref()).map_err(|obstacle| (place, obstacle))?;
    }
    Ok(state)
}

/// The object without what the changes made of it together; `None` where that is not all that happened to their fields.
fn together(changes: &[&BreakglassChangeSpec], values: Values<'_>, now: Option<&Value>) -> Option<Value> {
    let (before, after) = first_and_last(changes)?;
    let (before, after) = match values {
        Values::Plain => (without_stamp(before?), without_stamp(after)),
        Values::Hashed(_) => (without_notes(before?), without_notes(after)),
    };
    let remains = Remains::of(&before, &after, now?);
    let hidden = |field: &Field| matches!(values, Values::Hashed(paths) if is_below(&field.name, paths));
    let others = |field: &&Field| field.left == Left::Other && !is_note(&field.name);
    let stands = remains.fields.iter().any(|field| others(&field) || hidden(field));
    (!stands).then_some(remains.without)
}

/// What was there before the first of the changes, and after the last, as the records have it.
fn first_and_last(changes: &[&BreakglassChangeSpec]) -> Option<(Option<Value>, Value)> {
    let last = changes.first()?;
    let mut after = patched(last.before.as_ref(), &last.patch).filter(|after| after.is_object() && !last.truncated)?;
    // A record has no uid in its body.
    if let Some(uid) = &last.target.uid {
        after["metadata"]["uid"] = uid.as_str().into();
    }
    let before = one_by_one(changes, Values::Plain, Some(&after)).ok()?;
    Some((before.map(|before| without_noise(before, true)), without_noise(after, true)))
}

/// Whether nothing is left of changes of one object, the latest first, as it is `now`, in the form of a record, under this uid.
pub fn are_put_back(changes: &[&BreakglassChangeSpec], now: Option<(&str, &Value)>) -> bool {
    if let [change] = changes {
        return is_put_back(change, now);
    }
    match (first_and_last(changes), now) {
        (Some((None, _)), now) => changes.last().is_some_and(|created| is_put_back(created, now)),
        (Some((Some(before), after)), Some((_, now))) => {
            let (before, after) = (without_notes(before), without_notes(after));
            before != after && Remains::of(&before, &after, &without_notes(now.clone())).is_back()
        }
        (Some((Some(_), _)) | None, _) => false,
    }
}

fn is_put_back(change: &BreakglassChangeSpec, now: Option<(&str, &Value)>) -> bool {
    let Some(before) = change.before.as_ref() else {
        return change.operation == Operation::Create
            && change.subresource.is_none()
            && now.is_none_or(|(uid, _)| change.target.uid.as_deref().is_some_and(|created| created != uid));
    };
    let Some((_, now)) = now.filter(|_| !change.truncated && change.operation != Operation::Exec) else { return false };
    let (before, now) = (without_notes(before.clone()), without_notes(now.clone()));
    if matches!(change.operation, Operation::Delete | Operation::Evict) {
        return before == now;
    }
    let after = patched(change.before.as_ref(), &change.patch).map(without_notes);
    after.is_some_and(|after| before != after && Remains::of(&before, &after, &now).is_back())
}

/// Whether `way` is the write that put `changes` back, the latest first: it made of its object what taking them out makes.
pub fn is_the_way_back(way: &BreakglassChangeSpec, changes: &[&BreakglassChangeSpec]) -> bool {
    let of_the_same = |change: &&BreakglassChangeSpec| {
        let (a, b) = (&change.target, &way.target);
        (a.group(), &a.kind, &a.namespace, &a.name) == (b.group(), &b.kind, &b.namespace, &b.name)
            && (part(change) == part(way) || way.operation == Operation::Delete)
    };
    if way.truncated || changes.is_empty() || !changes.iter().all(of_the_same) {
        return false;
    }
    let Some(after) = patched(way.before.as_ref(), &way.patch) else { return false };
    let after = (!after.is_null()).then(|| without_notes(after));
    // A record has no uid in its body: what it deletes is told by its target.
    let mut before = way.before.clone();
    if let (Some(before), Some(uid)) = (before.as_mut(), &way.target.uid) {
        before["metadata"]["uid"] = uid.as_str().into();
    }
    match one_by_one(changes, Values::Plain, before.as_ref()) {
        Ok(back) => back.map(|back| without_notes(without_noise(back, true))) == after && way.before != after,
        Err(_) => false,
    }
}

/// The part of its object that a change wrote to, where it is not all of it: an eviction takes all of it.
pub fn part(change: &BreakglassChangeSpec) -> Option<&str> {
    change.subresource.as_deref().filter(|_| change.operation != Operation::Evict)
}

/// Why nothing that could be written would undo it.
fn without_way_back(change: &BreakglassChangeSpec) -> Option<Obstacle> {
    if change.operation == Operation::Exec {
        return Some(Obstacle::Unseen);
    }
    match change.subresource.as_deref() {
        Some("binding") => Some(Obstacle::Bound),
        Some("ephemeralcontainers") => Some(Obstacle::Ephemeral),
        Some(_) if change.operation == Operation::Create => Some(Obstacle::GivenOut),
        _ => None,
    }
}

/// Whether this is the object that the change made.
fn is_that(change: &BreakglassChangeSpec, now: &Value) -> bool {
    let uid = now.pointer("/metadata/uid").and_then(Value::as_str);
    change.target.uid.is_none() || uid == change.target.uid.as_deref()
}

/// What was deleted, as it was.
fn revived(
    change: &BreakglassChangeSpec,
    before: &Value,
    values: Values<'_>,
    now: Option<&Value>,
) -> Result<Option<Value>, Obstacle> {
    // Its controller has made another in its place.
    if is_controlled(before) {
        return Ok(now.cloned());
    }
    let Some(now) = now else {
        return match values {
            Values::Plain => Ok(Some(without_stamp(before.clone()))),
            Values::Hashed(paths) => Err(Obstacle::Hidden(paths.to_vec())),
        };
    };
    if now.pointer("/metadata/deletionTimestamp").is_some() && is_that(change, now) {
        return Err(Obstacle::Leaving);
    }
    let there = without_notes(without_noise(now.clone(), false));
    let remains = Remains::of(&without_notes(before.clone()), &there, &there);
    not_empty(names(remains.fields.iter()), Obstacle::MadeAnew)?;
    Ok(Some(now.clone()))
}

/// Whether a controller made it, and makes another when it goes.
pub fn is_controlled(object: &Value) -> bool {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners.into_iter().flatten().any(|owner| owner.get("controller") == Some(&Value::Bool(true)))
}

fn is_below(name: &str, paths: &[String]) -> bool {
    paths
        .iter()
        .any(|path| name.strip_prefix(path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

fn names<'f>(fields: impl Iterator<Item = &'f Field>) -> Vec<String> {
    fields.map(|field| field.name.clone()).collect()
}

fn not_empty(names: Vec<String>, obstacle: impl Fn(Vec<String>) -> Obstacle) -> Result<(), Obstacle> {
    if names.is_empty() { Ok(()) } else { Err(obstacle(names)) }
}

#[cfg(test)]
pub(crate) mod tests;
