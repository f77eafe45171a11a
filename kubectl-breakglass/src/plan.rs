//! What applying would change: each object as it is, beside what the server would make of it.

use breakglass::stamp;
use futures::StreamExt;
use kube::core::Status;
use kube::core::response::StatusCause;
use serde_json::Value;

use crate::call::{Conflicts, FIELD_MANAGER, apply};
use crate::connect::Connection;
use crate::error::{CommandError, Result};
use crate::explain::{Doing, refusal};
use crate::manifests::{Part, Step};
use crate::rollout::Deadline;
use crate::tokens::{self, Really};

/// How many objects are looked at at a time.
const PARALLEL: usize = 8;

/// What becomes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is not there yet.
    Created,
    /// It is another one now.
    Configured,
    /// It is as it should be.
    Unchanged,
}

impl Change {
    /// As kubectl says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
        }
    }
}

/// An object, and what is to be done about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// The object.
    pub part: Part,
    /// What becomes of it.
    pub change: Change,
    /// Whether the webhook that guards the cluster now asks for a token.
    pub guarded: bool,
    /// Whether fields of others are taken from them.
    pub conflicts: Conflicts,
}

/// Which fields of others may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct May {
    /// All: somebody said so.
    pub take_all: bool,
    /// The mode of the policy: somebody named the one it has to have.
    pub take_mode: bool,
}

/// Asks the server about every object. Nothing is changed.
///
/// A webhook that has lost its kinds refuses everything, dry runs too, until it has seen that they are back: it is waited for.
///
/// # Errors
/// Whatever the cluster answers, explained; and all fields that belong to somebody else.
pub async fn plan(cluster: &Connection, parts: Vec<Part>, may: May, deadline: Deadline) -> Result<Vec<Planned>> {
    let look = |part| look(cluster, part, may, deadline);
    let answers: Vec<Result<Answer>> = futures::stream::iter(parts).map(look).buffered(PARALLEL).collect().await;
    let (mut planned, mut conflicts) = (Vec::new(), Vec::new());
    for answer in answers {
        match answer? {
            Answer::Planned(one) => planned.push(one),
            Answer::Conflicts(part, causes) => conflicts.extend(causes.iter().map(|cause| sentence(&part, cause))),
        }
    }
    if conflicts.is_empty() {
        return Ok(planned);
    }
    let error = CommandError::failed(format!("somebody else has written what is ours: {}", conflicts.join("; ")));
    Err(error
        .hint("kubectl breakglass install --dry-run --force-conflicts")
        .hint("kubectl breakglass install --force-conflicts   # what they wrote is lost"))
}

enum Answer {
    Planned(Planned),
    Conflicts(Part, Vec<StatusCause>),
}

async fn look(cluster: &Connection, part: Part, may: May, deadline: Deadline) -> Result<Answer> {
    let doing = Doing::Asking("what there is already");
    let api = part.api(&cluster.client);
    let live = cluster.ask_again(doing, || api.get_opt(&part.name)).await?;
    let live = live.map(|live| serde_json::to_value(live).unwrap_or_default());
    let mut conflicts = if may.take_all { Conflicts::Force } else { Conflicts::Respect };
    loop {
        let dry = cluster.patiently(|| apply(&cluster.client, &part, conflicts, Really::DryRun)).await;
        let heard = match dry {
            // Its namespace or its kind comes with an earlier step.
            Some(Err(kube::Error::Api(status))) if status.code == 404 && live.is_none() => None,
            Some(Err(kube::Error::Api(status))) if is_conflict(&status) && conflicts == Conflicts::Respect => {
                let causes = status.details.map(|details| details.causes).unwrap_or_default();
                if !causes.iter().all(|cause| is_ours(&part, cause, may)) {
                    return Ok(Answer::Conflicts(part, causes));
                }
                conflicts = Conflicts::Force;
                continue;
            }
            Some(Err(kube::Error::Api(status))) if refusal(&status.message).is_some() && deadline.pause().await => {
                continue;
            }
            answer => Some(read(cluster, &part, answer)?),
        };
        let change = match (&live, &heard) {
            (None, _) => Change::Created,
            (Some(live), Some(heard)) if essence(live) == essence(&heard.body) => Change::Unchanged,
            (Some(_), _) => Change::Configured,
        };
        let guarded = change != Change::Unchanged && heard.is_some_and(|heard| heard.would_be_refused());
        return Ok(Answer::Planned(Planned { part, change, guarded, conflicts }));
    }
}

/// An answer to a write of ours, explained where it is an error.
///
/// # Errors
/// What the cluster answered.
pub fn read<T>(cluster: &Connection, part: &Part, answer: Option<kube::Result<T>>) -> Result<T> {
    let name = part.full_name();
    match answer {
        Some(Ok(answer)) => Ok(answer),
        Some(Err(error)) => {
            let mut error = crate::explain::explain(&error, Doing::Asking("for it"), &cluster.server);
            error.message = format!("{name}: {}", error.message);
            Err(error)
        }
        None => {
            let message = format!("{name}: {} did not answer in time", cluster.server);
            Err(CommandError::failed(message).hint("kubectl get --raw /readyz?verbose"))
        }
    }
}

fn is_conflict(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 409 && causes.into_iter().any(|cause| cause.reason == "FieldManagerConflict")
}

/// Whether a field may be taken: a program of ours wrote it, or somebody told us what it has to be.
fn is_ours(part: &Part, cause: &StatusCause, may: May) -> bool {
    let ours = manager(cause).is_some_and(|manager| [FIELD_MANAGER, tokens::FIELD_MANAGER].contains(&manager));
    let mode = may.take_mode && part.step == Step::Policy && cause.field == ".spec.mode";
    ours || mode
}

/// Who holds a field: `conflict with "kubectl-edit" using apps/v1`, from k8s.io/apimachinery's managedfields/internal
/// /conflict.go. The words are the only place in which it stands.
fn manager(cause: &StatusCause) -> Option<&str> {
    let rest = cause.message.strip_prefix("conflict with \"")?;
    rest.split_once('"').map(|(manager, _)| manager)
}

fn sentence(part: &Part, cause: &StatusCause) -> String {
    let manager = manager(cause).unwrap_or("somebody");
    format!("{} {} was set by {manager}", part.full_name(), cause.field)
}

/// An object without what the server keeps for itself, and without our stamp: a dry run of a change shows one.
fn essence(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return object };
    for noise in ["managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink"] {
        metadata.remove(noise);
    }
    for (map, keys) in [("annotations", &stamp::ANNOTATIONS[..]), ("labels", &stamp::LABELS)] {
        let Some(entries) = metadata.get_mut(map).and_then(Value::as_object_mut) else { continue };
        keys.iter().for_each(|key| drop(entries.remove(*key)));
        if entries.is_empty() {
            metadata.remove(map);
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::manifests::{Wanted, render};

    #[test]
    fn what_the_server_keeps_and_our_stamp_make_no_difference() {
        let live = json!({"kind": "Role", "metadata": {"name": "a", "resourceVersion": "1", "uid": "u",
            "annotations": {"deployment.kubernetes.io/revision": "1"}}, "rules": [], "status": {"a": 1}});
        let stamped = json!({"kind": "Role", "metadata": {"name": "a", "resourceVersion": "2",
            "annotations": {"deployment.kubernetes.io/revision": "1", "breakglass.dev/user": "a"},
            "labels": {"breakglass.dev/state": "noted"}}, "rules": []});
        assert_eq!(essence(&live), essence(&stamped));
        let mut other = stamped;
        other["metadata"]["labels"]["team"] = json!("a");
        assert_ne!(essence(&live), essence(&other));
    }

    #[test]
    fn fields_are_taken_from_ourselves_and_where_somebody_said_so() {
        let parts = render(&Wanted { policy: Some(json!({})), ..Wanted::default() });
        let part = |step: Step| parts.iter().find(|part| part.step == step).unwrap();
        let cause = |who: &str, field: &str| StatusCause {
            reason: "FieldManagerConflict".to_owned(),
            message: format!("conflict with \"{who}\" using apps/v1"),
            field: field.to_owned(),
        };
        let (nothing, mode) = (May { take_all: false, take_mode: false }, May { take_all: false, take_mode: true });
        for (step, who, field, may, expected) in [
            (Step::Deployment, "kubectl-edit", ".spec.replicas", nothing, false),
            (Step::Deployment, "kubectl-breakglass", ".spec.replicas", nothing, true),
            (Step::Policy, "kubectl", ".spec.mode", nothing, false),
            (Step::Policy, "kubectl", ".spec.mode", mode, true),
            (Step::Policy, "kubectl", ".spec.environments", mode, false),
            (Step::Deployment, "kubectl", ".spec.mode", mode, false),
        ] {
            assert_eq!(is_ours(part(step), &cause(who, field), may), expected, "{who} {field}");
        }
        let cause = cause("kubectl-edit", ".spec.replicas");
        let said = sentence(part(Step::Deployment), &cause);
        assert_eq!(said, "deployment.apps/breakglass-webhook .spec.replicas was set by kubectl-edit");
    }
}
