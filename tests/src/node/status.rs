//! The status of one pod, as its kubelet writes it: a pure function of what its container does.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::api::now;

/// What the container does now.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Doing {
    /// It does not run yet, or not again, for this reason (as `kubectl get pods` shows it).
    Waiting {
        /// Such as `CrashLoopBackOff`.
        reason: &'static str,
        /// For people.
        message: String,
    },
    /// It runs since then.
    Running {
        /// When it was started.
        since: String,
    },
    /// It ended, and the pod with it.
    Ended(Value),
}

/// One pod as far as its status tells of it.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub(crate) doing: Doing,
    /// How the run before this one ended.
    pub(crate) last: Option<Value>,
    pub(crate) restarts: u64,
    /// What the readiness probe said last.
    pub(crate) ready: bool,
    /// What the startup probe said last.
    pub(crate) started: bool,
    started_at: String,
    ran: bool,
    conditions: BTreeMap<&'static str, (bool, String)>,
}

impl Status {
    /// A pod that was just bound to its node.
    pub(crate) fn new(restarts: u64) -> Self {
        let doing = Doing::Waiting { reason: "ContainerCreating", message: String::new() };
        let (last, conditions) = (None, BTreeMap::new());
        Self { doing, last, restarts, ready: false, started: false, started_at: now(), ran: false, conditions }
    }

    /// The status, for a strategic merge patch: conditions of others, such as of an eviction, stay.
    pub(crate) fn render(&mut self, pod: &Value, address: Ipv4Addr, host: &str) -> Value {
        let running = matches!(self.doing, Doing::Running { .. });
        self.ran |= running;
        let ready = running && self.ready;
        for (condition, holds) in [
            ("PodReadyToStartContainers", true),
            ("Initialized", true),
            ("Ready", ready),
            ("ContainersReady", ready),
            ("PodScheduled", true),
        ] {
            // The time is that of the last change, not of the last look.
            if self.conditions.get(condition).is_none_or(|(held, _)| *held != holds) {
                self.conditions.insert(condition, (holds, now()));
            }
        }
        let conditions: Vec<Value> = self.conditions.iter().map(|(name, held)| condition(name, held)).collect();
        json!({
            "phase": self.phase(),
            "hostIP": host,
            // Not merged with the addresses that it had before its node lost its power.
            "hostIPs": [{"$patch": "replace"}, {"ip": host}],
            "podIP": address,
            "podIPs": [{"$patch": "replace"}, {"ip": address}],
            "startTime": self.started_at,
            "conditions": conditions,
            "containerStatuses": [self.container(&pod["spec"]["containers"][0], ready)],
        })
    }

    fn phase(&self) -> &'static str {
        match &self.doing {
            Doing::Ended(how) if how["exitCode"] == 0 => "Succeeded",
            Doing::Ended(_) => "Failed",
            Doing::Running { .. } => "Running",
            Doing::Waiting { .. } if self.ran => "Running",
            Doing::Waiting { .. } => "Pending",
        }
    }

    fn container(&self, spec: &Value, ready: bool) -> Value {
        let state = match &self.doing {
            Doing::Waiting { reason, message } => json!({"waiting": {"reason": reason, "message": message}}),
            Doing::Running { since } => json!({"running": {"startedAt": since}}),
            Doing::Ended(how) => json!({"terminated": how}),
        };
        let last = self.last.as_ref().map_or_else(|| json!({}), |how| json!({"terminated": how}));
        json!({
            "name": spec["name"], "image": spec["image"], "imageID": spec["image"], "ready": ready,
            "started": matches!(self.doing, Doing::Running { .. }) && self.started,
            "restartCount": self.restarts, "state": state, "lastState": last,
        })
    }
}

fn condition(name: &str, (holds, since): &(bool, String)) -> Value {
    let mut condition =
        json!({"type": name, "status": if *holds { "True" } else { "False" }, "lastTransitionTime": since});
    if !holds {
        condition["reason"] = json!("ContainersNotReady");
        condition["message"] = json!("containers with unready status: see containerStatuses");
    } else {
        // A merge leaves what is not named: the reason of an earlier False.
        condition["reason"] = Value::Null;
        condition["message"] = Value::Null;
    }
    condition
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_ready_only_while_its_container_runs() {
        let pod = json!({"spec": {"containers": [{"name": "webhook", "image": "breakglass-webhook:1"}]}});
        let mut status = Status::new(0);
        let check = |status: &mut Status, phase: &str, ready: &str| {
            let seen = status.render(&pod, Ipv4Addr::new(10, 244, 0, 1), "10.0.0.1");
            assert_eq!(seen["phase"], phase, "{seen:#}");
            let conditions = seen["conditions"].as_array().unwrap();
            assert_eq!(conditions.iter().find(|one| one["type"] == "Ready").unwrap()["status"], ready, "{seen:#}");
        };
        check(&mut status, "Pending", "False");
        status.ready = true;
        status.doing = Doing::Running { since: now() };
        check(&mut status, "Running", "True");
        status.doing = Doing::Waiting { reason: "CrashLoopBackOff", message: String::new() };
        check(&mut status, "Running", "False");
        status.doing = Doing::Ended(json!({"exitCode": 0}));
        check(&mut status, "Succeeded", "False");
    }
}
