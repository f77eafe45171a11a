//! Whether the webhook runs: its Deployment, its pods, and what keeps one of them alive while nodes are drained.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStatus, Namespace, Pod, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use super::{Finding, HOME, Level, Mend, NAME};

const CHECK: &str = "deployment";

/// What of the webhook's namespace is read.
#[derive(Clone, Debug, Default)]
pub struct Running {
    /// The namespace.
    pub namespace: Option<Namespace>,
    /// The Deployment.
    pub deployment: Option<Deployment>,
    /// Its pods.
    pub pods: Vec<Pod>,
    /// What a drain has to leave.
    pub disruption: Option<PodDisruptionBudget>,
    /// Who the pods are.
    pub account: Option<ServiceAccount>,
    /// Whether a webhook configuration is there.
    pub is_registered: bool,
}

/// What is found.
pub fn deployment(running: &Running, mend: &Mend) -> Vec<Finding> {
    let problem = |message: String| Finding::new(Level::Problem, CHECK, message);
    let Some(deployment) = running.deployment.as_ref().filter(|_| running.namespace.is_some()) else {
        return vec![gone(running, mend)];
    };
    let object = format!("deployment.apps/{NAME}");
    let mut findings = Vec::new();
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let available = deployment.status.as_ref().and_then(|status| status.available_replicas).unwrap_or_default();
    if wanted == 0 {
        let message = "the Deployment is scaled to 0: nobody answers, and prod is shut for writes".to_owned();
        findings.push(problem(message).hint(mend.install()).object(&object));
    } else if available < wanted {
        let why = reasons(&running.pods);
        let closed = if available == 0 { ": nobody answers, and prod is shut for writes" } else { "" };
        let message = format!("{available} of {wanted} replicas are available{closed}; {}", list(&why));
        let hint = format!("kubectl -n {HOME} describe pods -l app.kubernetes.io/name=breakglass");
        findings.push(problem(message).hint(hint).object(&object));
    } else if wanted == 1 {
        let message = "there is one replica: while it moves, writes to prod are refused";
        let hint = format!("kubectl -n {HOME} scale deployment {NAME} --replicas=2");
        findings.push(Finding::new(Level::Note, CHECK, message).hint(hint));
    }
    findings.extend(disruption(running, wanted, mend));
    if running.account.is_none() {
        let message = format!("there is no service account {NAME}: no pod of the webhook can start");
        findings.push(problem(message).hint(mend.install()).object(format!("serviceaccount/{NAME}")));
    }
    findings.extend(labels(running, mend));
    if findings.is_empty() {
        findings.push(Finding::new(Level::Ok, CHECK, format!("{available} of {wanted} replicas are available")));
    }
    findings
}

/// Configurations without anybody who answers shut prod; without configurations nothing is guarded.
fn gone(running: &Running, mend: &Mend) -> Finding {
    let what = if running.namespace.is_none() {
        format!("there is no namespace {HOME}")
    } else {
        format!("there is no Deployment {NAME} in {HOME}")
    };
    let object = format!("deployment.apps/{NAME}");
    if running.is_registered {
        let message = format!("{what}, and the API server calls it all the same: prod is locked and nobody answers");
        return Finding::new(Level::Problem, CHECK, message)
            .hint(mend.install())
            .hint("to unlock prod and guard nothing: kubectl delete validatingwebhookconfiguration,mutatingwebhookconfiguration breakglass")
            .object(object);
    }
    Finding::new(Level::Problem, CHECK, format!("{what}: nothing is guarded")).hint(mend.install()).object(object)
}

fn disruption(running: &Running, wanted: i32, mend: &Mend) -> Option<Finding> {
    let Some(budget) = &running.disruption else {
        let message = "there is no PodDisruptionBudget: a drain may take all replicas at once, and shut prod";
        let finding = Finding::new(Level::Problem, CHECK, message).hint(mend.install());
        return Some(finding.object(format!("poddisruptionbudget.policy/{NAME}")));
    };
    let status = budget.status.as_ref()?;
    let healthy = status.current_healthy >= status.desired_healthy && status.current_healthy >= wanted;
    (status.disruptions_allowed == 0 && healthy).then(|| {
        let message = "the PodDisruptionBudget lets no replica go, so that no node with one can be drained";
        let hint = format!("kubectl -n {HOME} scale deployment {NAME} --replicas=2");
        Finding::new(Level::Note, CHECK, message).hint(hint)
    })
}

/// Pods of the webhook are made for the strictest standard; without the label nothing demands it of others there.
fn labels(running: &Running, mend: &Mend) -> Option<Finding> {
    let labels = running.namespace.as_ref().and_then(|namespace| namespace.metadata.labels.as_ref());
    let key = "pod-security.kubernetes.io/enforce";
    let enforced = labels.and_then(|labels| labels.get(key)).map(String::as_str);
    (enforced != Some("restricted")).then(|| {
        let message = format!(
            "the namespace {HOME} has not the label {key}=restricted: a pod with more rights than the webhook's could run there"
        );
        Finding::new(Level::Problem, CHECK, message).hint(mend.install()).object(format!("namespace/{HOME}"))
    })
}

/// Why pods are not there, each reason once.
fn reasons(pods: &[Pod]) -> Vec<String> {
    if pods.is_empty() {
        return vec!["it has no pods: see kubectl -n breakglass-system describe replicasets".to_owned()];
    }
    let mut reasons: Vec<String> = pods.iter().filter_map(reason).collect();
    reasons.sort();
    reasons.dedup();
    reasons
}

fn reason(pod: &Pod) -> Option<String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let status = pod.status.as_ref()?;
    let waiting = |container: &ContainerStatus| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let message = waiting.message.as_deref().map(|message| format!(" ({message})")).unwrap_or_default();
        Some(format!("{name}: {}{message}", waiting.reason.as_deref().unwrap_or("waiting")))
    };
    let containers = || status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    if let Some(reason) = containers().find_map(waiting) {
        return Some(reason);
    }
    let condition = |kind: &str| {
        let found = status.conditions.iter().flatten().find(|one| one.type_ == kind && one.status == "False")?;
        let message = found.message.clone().or_else(|| found.reason.clone()).unwrap_or_default();
        Some(message)
    };
    if let Some(message) = condition("PodScheduled") {
        return Some(format!("{name} finds no node: {message}"));
    }
    condition("Ready").map(|message| format!("{name} is not ready: {message}"))
}

fn list(reasons: &[String]) -> String {
    if reasons.is_empty() { "the pods do not say why".to_owned() } else { reasons.join("; ") }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn running() -> Value {
        json!({
            "namespace": {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}},
            "deployment": {"spec": {"replicas": 2, "selector": {}, "template": {}}, "status": {"availableReplicas": 2}},
            "pods": [],
            "disruption": {"status": {"currentHealthy": 2, "desiredHealthy": 1, "disruptionsAllowed": 1, "expectedPods": 2}},
            "account": {"metadata": {"name": NAME}},
        })
    }

    #[track_caller]
    fn check(edit: impl Fn(&mut Value), expected: &[(Level, &str, &str)]) {
        let mut given = running();
        edit(&mut given);
        let of = |field: &str| given[field].clone();
        let running = Running {
            namespace: serde_json::from_value(of("namespace")).unwrap(),
            deployment: serde_json::from_value(of("deployment")).unwrap(),
            pods: serde_json::from_value(of("pods")).unwrap(),
            disruption: serde_json::from_value(of("disruption")).unwrap(),
            account: serde_json::from_value(of("account")).unwrap(),
            is_registered: given["isRegistered"] == true,
        };
        let findings = deployment(&running, &Mend::default());
        assert_eq!(findings.len(), expected.len(), "{findings:#?}");
        for (finding, (level, message, hint)) in findings.iter().zip(expected) {
            assert!(finding.level == *level && finding.message.contains(message), "{finding:#?}");
            assert!(finding.hints.first().map_or("", String::as_str).contains(hint), "{finding:#?}");
        }
    }

    #[test]
    fn what_keeps_the_webhook_from_answering_is_named_with_its_reason() {
        use Level::{Note, Ok, Problem};
        check(|_| {}, &[(Ok, "2 of 2 replicas are available", "")]);
        check(
            |given| given["deployment"]["spec"]["replicas"] = json!(0),
            &[(Problem, "scaled to 0", "kubectl breakglass install")],
        );
        check(
            |given| {
                given["deployment"]["spec"]["replicas"] = json!(1);
                given["deployment"]["status"] = json!({"availableReplicas": 1});
                given["disruption"]["status"] =
                    json!({"currentHealthy": 1, "desiredHealthy": 1, "disruptionsAllowed": 0, "expectedPods": 1});
            },
            &[(Note, "one replica", "--replicas=2"), (Note, "lets no replica go", "--replicas=2")],
        );
        check(
            |given| {
                given["deployment"]["status"] = json!({"availableReplicas": 1});
                given["pods"] = json!([
                    {"metadata": {"name": "a"}, "status": {"containerStatuses": [{"name": "webhook", "image": "", "imageID": "",
                        "ready": false, "restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such tag"}}}]}},
                    {"metadata": {"name": "b"}, "status": {"conditions": [
                        {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}]}},
                    {"metadata": {"name": "c"}, "status": {"conditions": [
                        {"type": "Ready", "status": "False", "reason": "ContainersNotReady"}]}}]);
            },
            &[(
                Problem,
                "1 of 2 replicas are available; a: ImagePullBackOff (no such tag); b finds no node: 0/1 nodes are available; c is not ready: ContainersNotReady",
                "describe pods",
            )],
        );
        check(
            |given| given["disruption"] = Value::Null,
            &[(Problem, "no PodDisruptionBudget", "kubectl breakglass install --force-conflicts --incident INC-123")],
        );
        check(
            |given| given["account"] = Value::Null,
            &[(Problem, "no service account", "kubectl breakglass install --force-conflicts --incident INC-123")],
        );
        check(
            |given| given["namespace"]["metadata"]["labels"] = json!({}),
            &[(Problem, "has not the label", "kubectl breakglass install --force-conflicts --incident INC-123")],
        );
    }

    #[test]
    fn configurations_without_anybody_who_answers_are_told_from_nothing_at_all() {
        check(
            |given| given["deployment"] = Value::Null,
            &[(
                Level::Problem,
                "nothing is guarded",
                "kubectl breakglass install --force-conflicts --incident INC-123",
            )],
        );
        for gone in ["deployment", "namespace"] {
            check(
                |given| {
                    given[gone] = Value::Null;
                    given["isRegistered"] = json!(true);
                },
                &[(
                    Level::Problem,
                    "prod is locked and nobody answers",
                    "kubectl breakglass install --force-conflicts --incident INC-123",
                )],
            );
        }
    }
}
