//! An object as it is now, in the form in which a record keeps it.

use breakglass::api::{BreakglassChange, BreakglassChangeSpec, Operation, Target};
use breakglass::hold::{is_ours, without_hold};
use breakglass::record::{without_noise, without_notes};
use kube::api::{Api, DynamicObject};
use serde_json::Value;

use crate::connect::Connection;
use crate::discover::dotted;
use crate::error::{CommandError, Result};
use crate::explain::Doing;
use crate::in_force::policy_in_force;
use crate::print::object;

/// What is asked here.
const LOOKING: Doing = Doing::Asking("for the object as it is now");

/// What is there now of the object that a change wrote to.
#[derive(Clone, Debug, PartialEq)]
pub enum Now {
    /// There is none.
    Gone,
    /// The object, or the part of it that was written to.
    There(Value),
    /// The same, of another object of that name, which was made since.
    Another(Value),
    /// It is there, and its values are none for a terminal: the policy hides them in records, and hashes cannot be compared
    /// by who has no key.
    Hidden,
}

impl Now {
    /// The object, where there is one that can be told.
    pub fn object(&self) -> Option<&Value> {
        match self {
            Self::There(object) | Self::Another(object) => Some(object),
            Self::Gone | Self::Hidden => None,
        }
    }
}

/// Looks at the object of a change.
///
/// # Errors
/// When it may not be read, or the cluster does not answer.
pub async fn now(cluster: &Connection, change: &BreakglassChange) -> Result<Now> {
    let spec = &change.spec;
    let found = written(cluster, spec).await?;
    let status = spec.subresource.as_deref() == Some("status");
    let found = told(cluster, &spec.target, found.map(|found| (found, status))).await?;
    Ok(match found {
        Now::There(object) if is_ours(change) => Now::There(without_hold(object)),
        other => other,
    })
}

/// The part of an object that a change wrote to, as the API server has it; nothing where there is none.
///
/// # Errors
/// When it may not be read, or the cluster does not answer.
pub async fn written(cluster: &Connection, change: &BreakglassChangeSpec) -> Result<Option<DynamicObject>> {
    if change.operation != Operation::Scale {
        return found(cluster, &change.target).await;
    }
    let api = api(cluster, &change.target);
    let scale = async || match api.get_subresource("scale", &change.target.name).await {
        Ok(scale) => Ok(Some(scale)),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
        Err(error) => Err(error),
    };
    cluster.ask_again(LOOKING, scale).await
}

/// An object of that name, if there is one.
async fn found(cluster: &Connection, target: &Target) -> Result<Option<DynamicObject>> {
    let api = api(cluster, target);
    cluster.ask_again(LOOKING, || api.get_opt(&target.name)).await
}

/// Looks at the whole object that a change wrote to, whichever part of it that was.
///
/// # Errors
/// When it may not be read, or the cluster does not answer.
pub async fn now_whole(cluster: &Connection, target: &Target) -> Result<Now> {
    let found = found(cluster, target).await?;
    told(cluster, target, found.map(|found| (found, false))).await
}

/// What can be told of an object that was found, with its status or without.
async fn told(cluster: &Connection, target: &Target, found: Option<(DynamicObject, bool)>) -> Result<Now> {
    let Some((found, status)) = found else { return Ok(Now::Gone) };
    if is_hidden(cluster, target).await? {
        return Ok(Now::Hidden);
    }
    let another = target.uid.is_some() && found.metadata.uid != target.uid;
    let object = without_notes(without_noise(object::value(&found)?, status));
    Ok(if another { Now::Another(object) } else { Now::There(object) })
}

/// The object with all that the API server keeps about it; nothing where there is none.
///
/// # Errors
/// When it may not be read, or the cluster does not answer.
pub async fn whole(cluster: &Connection, target: &Target) -> Result<Option<Value>> {
    let Some(found) = found(cluster, target).await? else { return Ok(None) };
    let value = serde_json::to_value(found);
    value.map(Some).map_err(|error| CommandError::failed(format!("{} was not understood: {error}", target.place())))
}

/// Nothing is there of that name: the sentence, and where to look.
pub fn nothing_there(target: &Target) -> CommandError {
    let (flag, kind) = (target.flag(), dotted(&target.resource, target.group()));
    CommandError::failed(format!("there is no {}", target.place())).hint(format!("kubectl get{flag} {kind}"))
}

/// Whether the policy hides values of objects of this kind.
///
/// # Errors
/// When the policy cannot be read.
pub async fn is_hidden(cluster: &Connection, target: &Target) -> Result<bool> {
    let rules = policy_in_force(cluster).await?.rules;
    Ok(!rules.redactions(target.group(), &target.kind).is_empty())
}

/// Where objects like the target are.
pub fn api(cluster: &Connection, target: &Target) -> Api<DynamicObject> {
    let resource = target.api_resource();
    match &target.namespace {
        Some(namespace) => Api::namespaced_with(cluster.client.clone(), namespace, &resource),
        None => Api::all_with(cluster.client.clone(), &resource),
    }
}
