//! Hold: the engine is kept from undoing a change, from the write that makes it until Git says the same, or time is up.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::api::{BreakglassChangeSpec, BreakglassChangeStatus, ChangePhase, DebtRules, Timestamp};
use crate::decide::Decision;
use crate::engine::{HOLD, Owner};
use crate::mark;
use crate::verdict::due;
use crate::write::Write;

/// The field manager under which the plugin puts back what was rejected: that is never held, since Git says the same.
pub const PUTS_BACK: &str = "kubectl-breakglass";

/// Whether a write is to hold its object: its token says so, and an engine that can be held owns the object.
pub fn is_wanted(write: &Write<'_>, decision: &Decision<'_>) -> bool {
    let Decision::Admit { token, .. } = decision else { return false };
    let Some(before) = write.before.as_ref().filter(|_| token.spec.hold) else { return false };
    let owner = Owner::of(before.metadata.labels(), before.metadata.annotations());
    owner.is_some_and(|owner| owner.can_be_held())
        && write.can_carry_stamp()
        && write.manager != PUTS_BACK
        && !mark::changes_nothing(write)
}

/// Whether these annotations hold their object.
pub fn is_held(annotations: &BTreeMap<String, String>) -> bool {
    annotations.get(HOLD.0).is_some_and(|value| value == HOLD.1)
}

/// An object, or a part of one, without what holds it.
pub fn without_hold(mut object: Value) -> Value {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return object };
    let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) else { return object };
    annotations.remove(HOLD.0);
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    object
}

/// When a hold ends though Git does not say the same: when somebody has to do something about the change; and for one that is
/// accepted, and waits for somebody to merge it, when a verdict could have been put off to.
pub fn end(change: &BreakglassChangeSpec, status: &BreakglassChangeStatus, debt: &DebtRules) -> Timestamp {
    if status.phase == Some(ChangePhase::Accepted) {
        return Timestamp::new(change.time.instant() + debt.max_defer.delta());
    }
    due(change, status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_holds_is_taken_out_and_nothing_else() {
        let object = |annotations: Value| json!({"metadata": {"name": "api", "annotations": annotations}, "spec": 1});
        let held = object(json!({HOLD.0: HOLD.1, "note": "mine"}));
        assert_eq!(without_hold(held), object(json!({"note": "mine"})));
        let bare = json!({"metadata": {"name": "api"}, "spec": 1});
        assert_eq!(without_hold(object(json!({HOLD.0: HOLD.1}))), bare);
        assert_eq!(without_hold(bare.clone()), bare);
    }

    #[test]
    fn a_hold_ends_when_something_is_due_and_waits_longer_for_a_merge() {
        let change: BreakglassChangeSpec = serde_json::from_value(json!({"token": "t", "incident": "INC-1",
            "user": "alice@example.com", "time": "2026-11-20T12:00:00Z", "environment": "prod", "operation": "Update",
            "target": {"apiVersion": "v1", "kind": "ConfigMap", "resource": "configmaps", "name": "a"}, "patch": [],
            "decideBy": "2026-11-21T12:00:00Z"}))
        .unwrap();
        for (status, expected) in [
            (json!({"phase": "Pending"}), "2026-11-21T12:00:00Z"),
            (json!({"phase": "Deferred", "until": "2026-11-25T12:00:00Z"}), "2026-11-25T12:00:00Z"),
            (json!({"phase": "Accepted"}), "2026-12-04T12:00:00Z"),
        ] {
            let status = serde_json::from_value(status).unwrap();
            assert_eq!(end(&change, &status, &DebtRules::default()).to_string(), expected);
        }
    }
}
