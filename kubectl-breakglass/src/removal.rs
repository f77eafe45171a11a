//! What is taken away, in the order that leaves no lock behind that nobody answers; and each thing's going.

use std::collections::BTreeSet;

use breakglass::api::HOME_NAMESPACE;
use breakglass::rules::Rules;
use futures::StreamExt;
use kube::ResourceExt;
use kube::api::{Api, ListParams, PartialObjectMeta};
use kube::core::Status;
use serde_json::json;

use crate::call::delete;
use crate::checks::registration;
use crate::connect::Connection;
use crate::error::{CommandError, Result};
use crate::explain::{Doing, refusal};
use crate::manifests::{Part, Step, Wanted, render};
use crate::plan::read;
use crate::rollout::Deadline;
use crate::tokens::Really;

/// How many objects are looked at at a time.
const PARALLEL: usize = 8;

/// The two kinds of webhook configurations. The gate first: a stamp without a gate would be let in unrecorded, and a gate
/// without a stamp would refuse what has a token.
const CONFIGURATIONS: [&str; 2] = ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"];

/// The webhook configurations.
pub fn configurations() -> Vec<Part> {
    let object = |kind: &str| json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": registration::NAME}});
    CONFIGURATIONS.iter().filter_map(|kind| Part::new(object(kind))).collect()
}

/// What an uninstall takes away.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Removal {
    /// The webhook itself: as soon as its pods stop, the configurations go.
    pub webhook: Vec<Part>,
    /// What it used, the last installed first.
    pub rest: Vec<Part>,
    /// Only with --purge: the definitions, and with them all records, and the namespace, and with it the key.
    pub purged: Vec<Part>,
}

impl Removal {
    /// Everything that an install makes, whatever is still there of it.
    pub fn all() -> Self {
        let mut removal = Self::default();
        for part in render(&Wanted::default()).into_iter().rev() {
            match part.step {
                Step::Deployment => removal.webhook.push(part),
                Step::Namespace | Step::Definitions => removal.purged.push(part),
                Step::Rights | Step::Service | Step::Disruption | Step::Network => removal.rest.push(part),
                // It goes with its definition.
                Step::Policy => {}
            }
        }
        removal
    }

    /// All of it in its order, the configurations in their place.
    pub fn in_order(&self, purge: Purge) -> Vec<Part> {
        let (webhook, rest) = (self.webhook.iter().cloned(), self.rest.iter().cloned());
        let purged = self.purged.iter().filter(|_| purge == Purge::Yes).cloned();
        webhook.chain(configurations()).chain(rest).chain(purged).collect()
    }
}

/// Whether the records go as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purge {
    /// They go.
    Yes,
    /// They stay, with the key by which they verify.
    No,
}

/// What is there of it, in the same order, and the environments whose tokens it takes to remove it.
///
/// # Errors
/// Whatever the cluster answers, explained.
pub async fn there(cluster: &Connection, parts: Vec<Part>) -> Result<Vec<(Part, bool)>> {
    let looked: Vec<Result<Option<(Part, bool)>>> =
        futures::stream::iter(parts).map(|part| look(cluster, part)).buffered(PARALLEL).collect().await;
    looked.into_iter().filter_map(Result::transpose).collect()
}

/// Whether it is there, and whether the webhook would ask for a token.
async fn look(cluster: &Connection, part: Part) -> Result<Option<(Part, bool)>> {
    let api = part.api(&cluster.client);
    match cluster.patiently(|| delete(&cluster.client, &api, &part.name, Really::DryRun)).await {
        Some(Err(kube::Error::Api(status))) if status.code == 404 => Ok(None),
        // Being deleted already.
        Some(Err(kube::Error::Api(status))) if status.code == 409 => Ok(Some((part, false))),
        // A webhook that has lost its kinds lets nothing in and has no token to give: it goes without one.
        Some(Err(kube::Error::Api(status))) if is_in_the_way(&status) => Ok(Some((part, false))),
        answer => {
            let heard = read(cluster, &part, answer)?;
            Ok(Some((part, heard.would_be_refused())))
        }
    }
}

/// The environments whose tokens it takes.
pub fn environments(found: &[(Part, bool)], rules: &Rules) -> BTreeSet<String> {
    found.iter().filter(|(_, guarded)| *guarded).map(|(part, _)| part.environment(rules).to_owned()).collect()
}

/// What became of a thing that had to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It was deleted.
    Now,
    /// It was gone before.
    Already,
}

/// Deletes one thing. Where our own webhook is in the way, its configurations go first: no webhook is asked about those.
///
/// # Errors
/// Whatever the cluster answers, explained, but that it is not there.
pub async fn remove(cluster: &Connection, part: &Part, deadline: Deadline) -> Result<Gone> {
    let api = part.api(&cluster.client);
    loop {
        match cluster.patiently(|| delete(&cluster.client, &api, &part.name, Really::Yes)).await {
            // The object, or its kind, or its namespace.
            Some(Err(kube::Error::Api(status))) if status.code == 404 => return Ok(Gone::Already),
            // Its namespace is on its way already.
            Some(Err(kube::Error::Api(status))) if status.code == 409 => return Ok(Gone::Now),
            Some(Err(kube::Error::Api(status))) if is_in_the_way(&status) && deadline.pause().await => {
                for configuration in configurations() {
                    let api = configuration.api(&cluster.client);
                    let answer = cluster.bounded(delete(&cluster.client, &api, &configuration.name, Really::Yes)).await;
                    // Gone already; or what keeps it says so when its own turn comes.
                    drop(answer);
                }
            }
            answer => return read(cluster, part, answer).map(|_| Gone::Now),
        }
    }
}

/// Whether our webhook said no, or cannot be asked.
pub fn is_in_the_way(status: &Status) -> bool {
    refusal(&status.message).is_some() || (status.code == 500 && status.message.contains("breakglass.dev"))
}

/// Waits until something is no longer there.
///
/// # Errors
/// When it still is: with the command that says what keeps it.
pub async fn wait_gone(cluster: &Connection, part: &Part, deadline: Deadline) -> Result<()> {
    let api = part.api(&cluster.client);
    loop {
        if cluster.ask_again(Doing::Asking("whether it is gone"), || api.get_opt(&part.name)).await?.is_none() {
            return Ok(());
        }
        if !deadline.pause().await {
            let name = part.full_name();
            let look = match part.step {
                Step::Namespace => format!("kubectl get namespace {} -o jsonpath='{{.status.conditions}}'", part.name),
                _ => format!("kubectl get {name} -o jsonpath='{{.metadata.finalizers}}'"),
            };
            return Err(CommandError::failed(format!("{name} is deleted, and still there")).hint(look));
        }
    }
}

/// The webhook configurations that are there.
///
/// # Errors
/// Whatever the cluster answers, explained.
pub async fn registered(cluster: &Connection) -> Result<Vec<Part>> {
    let mut found = Vec::new();
    for part in configurations() {
        let api = part.api(&cluster.client);
        let doing = Doing::Asking("for the webhook configurations");
        if cluster.ask_again(doing, || api.get_opt(&part.name)).await?.is_some() {
            found.push(part);
        }
    }
    Ok(found)
}

/// The Leases by which replicas lead and report. What has nobody left to write it says nothing.
///
/// # Errors
/// Whatever the cluster answers, explained.
pub async fn leases(cluster: &Connection) -> Result<Vec<Part>> {
    let lease = |name: &str| {
        Part::new(json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": name, "namespace": HOME_NAMESPACE}}))
    };
    let Some(any) = lease("any") else { return Ok(Vec::new()) };
    let api: Api<_> = any.api(&cluster.client);
    let all = ListParams::default();
    let listed = cluster.ask_again(Doing::Asking("for the leases"), || api.list_metadata(&all)).await?;
    let is_ours = |name: &String| name == crate::manifests::NAME || name.starts_with(breakglass::report::NAME_PREFIX);
    let names = listed.items.iter().map(PartialObjectMeta::name_any).filter(is_ours);
    Ok(names.filter_map(|name| lease(&name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// the webhook goes first, its configurations go at once after it, and before whatever they need.
    #[test]
    fn no_configuration_outlives_what_answers_it() {
        let names =
            |purge: Purge| -> Vec<String> { Removal::all().in_order(purge).iter().map(Part::full_name).collect() };
        let kept = names(Purge::No);
        assert_eq!(
            kept[..3],
            [
                "deployment.apps/breakglass-webhook",
                "validatingwebhookconfiguration.admissionregistration.k8s.io/breakglass",
                "mutatingwebhookconfiguration.admissionregistration.k8s.io/breakglass"
            ]
        );
        assert!(!kept.iter().any(|name| name.starts_with("customresourcedefinition") || name.starts_with("namespace")));
        let purged = names(Purge::Yes);
        assert_eq!(purged[..kept.len()], kept);
        assert_eq!(purged.last().map(String::as_str), Some("namespace/breakglass-system"));
        assert_eq!(purged.len(), render(&Wanted::default()).len() + configurations().len());
    }
}
