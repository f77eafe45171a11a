//! Whether what was applied has come to life: definitions established, replicas available, or why not.

use std::fmt;
use std::time::Duration;

use breakglass::api::HOME_NAMESPACE;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;
use kube::api::{Api, ListParams};

use crate::ctx::Ctx;
use crate::error::{CommandError, Result};
use crate::explain::Doing;
use crate::manifests::{NAME, POD_SELECTOR, Part};

/// How often it is looked at again: a person waits.
pub const LOOK_EVERY: Duration = Duration::from_millis(300);

/// Until when everything has to be done.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(pub tokio::time::Instant);

impl Deadline {
    /// So long from now.
    pub fn after(limit: Duration) -> Self {
        Self(tokio::time::Instant::now() + limit)
    }

    /// Waits a moment. Whether there is time left.
    pub async fn pause(self) -> bool {
        if tokio::time::Instant::now() >= self.0 {
            return false;
        }
        tokio::time::sleep(LOOK_EVERY).await;
        true
    }
}

/// Waits until the server serves a kind.
///
/// # Errors
/// When it does not in time, in the server's words.
pub async fn established(ctx: &Ctx<'_>, definition: &Part, deadline: Deadline) -> Result<()> {
    let api = definition.api(&ctx.cluster.client);
    loop {
        let found = ctx.ask(Doing::Asking("for the definition"), api.get_opt(&definition.name)).await?;
        let conditions = found.map(|found| found.data["status"]["conditions"].clone()).unwrap_or_default();
        let of_type = |name: &str| conditions.as_array()?.iter().find(|condition| condition["type"] == name).cloned();
        if of_type("Established").is_some_and(|condition| condition["status"] == "True") {
            return Ok(());
        }
        if !deadline.pause().await {
            let refused = of_type("NamesAccepted").filter(|condition| condition["status"] == "False");
            let why = refused.and_then(|condition| condition["message"].as_str().map(str::to_owned));
            let why = why.unwrap_or_else(|| "there was not enough time".to_owned());
            let message = format!("the server does not serve {} yet: {why}", definition.name);
            return Err(CommandError::failed(message).hint(format!("kubectl describe crd {}", definition.name)));
        }
    }
}

/// Waits until all replicas are available, and says while it waits what keeps them.
///
/// # Errors
/// When they are not in time: why, and the command to look.
pub async fn available(ctx: &mut Ctx<'_>, deadline: Deadline) -> Result<i32> {
    let deployments = Api::<Deployment>::namespaced(ctx.cluster.client.clone(), HOME_NAMESPACE);
    let pods = Api::<Pod>::namespaced(ctx.cluster.client.clone(), HOME_NAMESPACE);
    let ours = ListParams::default().labels(POD_SELECTOR);
    let mut said = String::new();
    loop {
        let deployment = ctx.ask(Doing::Asking("for the deployment"), deployments.get_opt(NAME)).await?;
        let Some(deployment) = deployment else {
            return Err(CommandError::failed(format!("the deployment {NAME} is gone")));
        };
        let progress = Progress::of(&deployment);
        if progress.is_done() {
            return Ok(progress.wanted);
        }
        let found = ctx.ask(Doing::Asking("for the pods"), pods.list(&ours)).await?.items;
        let found: Vec<Pod> = found.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect();
        let why = why_not(&deployment, &found);
        if why.message != said && why.level == Level::Stuck {
            ctx.printer.say(&format!("  waiting: {}", why.message));
            said.clone_from(&why.message);
        }
        if !deadline.pause().await {
            let message = format!("{progress}: {}", why.message);
            return Err(CommandError::failed(message).hint(why.look));
        }
    }
}

/// How far a rollout is.
struct Progress {
    wanted: i32,
    updated: i32,
    available: i32,
    all: i32,
    seen: bool,
}

impl Progress {
    fn of(deployment: &Deployment) -> Self {
        let status = deployment.status.clone().unwrap_or_default();
        Self {
            wanted: deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1),
            updated: status.updated_replicas.unwrap_or_default(),
            available: status.available_replicas.unwrap_or_default(),
            all: status.replicas.unwrap_or_default(),
            seen: status.observed_generation >= deployment.metadata.generation,
        }
    }

    /// As `kubectl rollout status` has it: all are new, no old one is left, and each has been ready for long enough.
    fn is_done(&self) -> bool {
        self.seen && self.updated == self.wanted && self.all == self.wanted && self.available == self.wanted
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wanted, updated, available, .. } = self;
        write!(f, "of {wanted} replicas {updated} are as they should be, and {available} are available")
    }
}

/// Whether it is worth a word before the time is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// It is on its way.
    OnItsWay,
    /// It will not come by itself.
    Stuck,
}

/// What keeps a replica from being available.
#[derive(Clone, Debug, PartialEq, Eq)]
struct WhyNot {
    level: Level,
    message: String,
    look: String,
}

/// The worst of what can be seen.
fn why_not(deployment: &Deployment, pods: &[Pod]) -> WhyNot {
    if let Some(why) = pods.iter().find_map(stuck) {
        return why;
    }
    let conditions = deployment.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut failure = conditions.filter(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True");
    let look = |what: &str| format!("kubectl -n {HOME_NAMESPACE} {what}");
    if let Some(message) = failure.find_map(|condition| condition.message.clone()) {
        let message = format!("no pod can be made: {message}");
        return WhyNot { level: Level::Stuck, message, look: look(&format!("describe deployment {NAME}")) };
    }
    let (message, look) = match pods.iter().find(|pod| !is_ready(pod)) {
        None => ("its pods are still being made or ended".to_owned(), look("get pods")),
        Some(pod) => match phase(pod) {
            "Running" => {
                let message = format!("pod {} runs, and is not ready yet", pod.name_any());
                (message, look(&format!("logs {}", pod.name_any())))
            }
            phase => {
                let message = format!("pod {} is {phase}: no node runs it yet", pod.name_any());
                (message, look(&format!("describe pod {}", pod.name_any())))
            }
        },
    };
    WhyNot { level: Level::OnItsWay, message, look }
}

/// Why a pod will not come up by itself.
fn stuck(pod: &Pod) -> Option<WhyNot> {
    let name = pod.name_any();
    let why = |message: String, look: &str| {
        Some(WhyNot { level: Level::Stuck, message, look: format!("kubectl -n {HOME_NAMESPACE} {look} {name}") })
    };
    let status = pod.status.as_ref()?;
    let unschedulable = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(condition) = unschedulable {
        let words = condition.message.clone().unwrap_or_default();
        return why(format!("pod {name} finds no node: {words}"), "describe pod");
    }
    for container in status.container_statuses.iter().flatten() {
        let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
        let reason = waiting.and_then(|waiting| waiting.reason.as_deref()).unwrap_or_default();
        let words = waiting.and_then(|waiting| waiting.message.clone()).unwrap_or_default();
        match reason {
            "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => {
                return why(format!("the image {} cannot be pulled: {words}", container.image), "describe pod");
            }
            "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
                return why(format!("pod {name} cannot be started: {words}"), "describe pod");
            }
            "CrashLoopBackOff" => return why(crash(&name, container), "logs --previous"),
            _ => {}
        }
    }
    None
}

fn crash(pod: &str, container: &ContainerStatus) -> String {
    let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let (times, code) = (container.restart_count, last.map_or(0, |last| last.exit_code));
    let reason = last.and_then(|last| last.reason.clone()).map(|reason| format!(", {reason}")).unwrap_or_default();
    format!("pod {pod} crashes: {times} times so far, the last time with exit code {code}{reason}")
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The pods of the webhook that are still there.
///
/// # Errors
/// Whatever the cluster answers, explained.
pub async fn pods_left(ctx: &Ctx<'_>) -> Result<Vec<String>> {
    let pods = Api::<Pod>::namespaced(ctx.cluster.client.clone(), HOME_NAMESPACE);
    let ours = ListParams::default().labels(POD_SELECTOR);
    let found = ctx.ask(Doing::Asking("for the pods"), pods.list_metadata(&ours)).await?;
    Ok(found.items.iter().map(ResourceExt::name_any).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn check(deployment: Value, pods: Value, level: Level, message: &str, look: &str) {
        let deployment = serde_json::from_value(json!({"status": deployment})).unwrap();
        let pods: Vec<Pod> = serde_json::from_value(pods).unwrap();
        let found = why_not(&deployment, &pods);
        let look = format!("kubectl -n breakglass-system {look}");
        assert_eq!(found, WhyNot { level, message: message.to_owned(), look });
    }

    fn pod(status: Value) -> Value {
        json!([{"metadata": {"name": "w-1"}, "status": status}])
    }

    fn waiting(reason: &str) -> Value {
        pod(json!({"phase": "Pending", "containerStatuses": [{"name": "webhook", "image": "b:1", "imageID": "",
            "ready": false, "restartCount": 4, "state": {"waiting": {"reason": reason, "message": "no such host"}},
            "lastState": {"terminated": {"exitCode": 101, "reason": "Error"}}}]}))
    }

    #[test]
    fn what_keeps_a_replica_is_said_with_the_command_to_look() {
        let none = json!({});
        check(none.clone(), json!([]), Level::OnItsWay, "its pods are still being made or ended", "get pods");
        check(
            none.clone(),
            pod(json!({"phase": "Pending"})),
            Level::OnItsWay,
            "pod w-1 is Pending: no node runs it yet",
            "describe pod w-1",
        );
        check(
            none.clone(),
            pod(json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
                "message": "0/3 nodes are available"}]})),
            Level::Stuck,
            "pod w-1 finds no node: 0/3 nodes are available",
            "describe pod w-1",
        );
        check(
            none.clone(),
            waiting("ImagePullBackOff"),
            Level::Stuck,
            "the image b:1 cannot be pulled: no such host",
            "describe pod w-1",
        );
        check(
            none.clone(),
            waiting("CrashLoopBackOff"),
            Level::Stuck,
            "pod w-1 crashes: 4 times so far, the last time with exit code 101, Error",
            "logs --previous w-1",
        );
        check(
            none,
            pod(json!({"phase": "Running"})),
            Level::OnItsWay,
            "pod w-1 runs, and is not ready yet",
            "logs w-1",
        );
        let failure = json!({"conditions": [{"type": "ReplicaFailure", "status": "True", "message": "quota"}]});
        check(failure, json!([]), Level::Stuck, "no pod can be made: quota", "describe deployment breakglass-webhook");
    }

    #[test]
    fn a_rollout_is_done_when_all_are_new_and_no_old_one_is_left() {
        let done = |status: Value| {
            let deployment = json!({"metadata": {"generation": 2}, "spec": {"replicas": 2, "selector": {},
                "template": {}}, "status": status});
            Progress::of(&serde_json::from_value(deployment).unwrap()).is_done()
        };
        let all = json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2});
        assert!(done(all.clone()));
        for (field, value) in
            [("observedGeneration", 1), ("replicas", 3), ("updatedReplicas", 1), ("availableReplicas", 1)]
        {
            let mut status = all.clone();
            status[field] = value.into();
            assert!(!done(status), "{field}");
        }
        assert!(!done(json!({})));
    }
}
