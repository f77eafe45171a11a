//! Fate: what became of a write that was let in. It is an intention until it is seen in the cluster.

use chrono::TimeDelta;
use serde_json::Value;

use crate::api::{BreakglassChangeSpec, Operation};
use crate::diff::patched;

/// After this time a write that was let in is done or will never be: the API server works on a write for at most 34 seconds
/// (apiserver pkg/endpoints/handlers/rest.go requestTimeoutUpperBound), and two clocks may differ a little.
pub const NEVER_AFTER: TimeDelta = TimeDelta::seconds(45);

/// How many changes back the history of an object is followed; a longer one is told by age alone.
const CHAIN_LIMIT: usize = 1_000;

/// What is known of the object of a change, now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Live<'l> {
    /// There is none of that name.
    Absent,
    /// There is one.
    Present {
        /// Its uid.
        uid: &'l str,
        /// Whether it is on its way out, held by a finalizer or its grace period.
        leaving: bool,
        /// The change that its stamp names.
        change: Option<&'l str>,
        /// The object without server noise; needed only where no stamp tells ([`leaves_no_stamp`]).
        body: Option<&'l Value>,
    },
}

/// A change as a link in the history of its object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// The change whose stamp the object carried before it.
    pub follows: Option<String>,
    /// What it has in common with other attempts of the same write.
    pub attempt: Option<String>,
}

/// The history of an object, as far as it is on record.
pub trait History {
    /// A change by its name.
    fn link(&self, name: &str) -> Option<Link>;

    /// Whether some change found the object with this one's stamp on it.
    fn is_followed(&self, name: &str) -> bool;
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is in the cluster, or was.
    Landed,
    /// It was an attempt that lost to a faster write, and was tried again: the attempt that landed has a record of its own.
    Retried,
    /// It never was, and never will be: a later check refused it.
    Never,
    /// Nothing can be said yet.
    Open,
}

/// Whether nothing in the cluster will ever show this write: a connection, a credential.
fn leaves_no_trace(change: &BreakglassChangeSpec) -> bool {
    let created_below = change.operation != Operation::Evict && change.before.is_none() && change.subresource.is_some();
    change.operation == Operation::Exec || created_below
}

/// Whether the object of this write does not say that it was written: the body has to be compared.
pub fn leaves_no_stamp(change: &BreakglassChangeSpec) -> bool {
    change.subresource.is_some() && !matches!(change.operation, Operation::Scale | Operation::Evict)
}

/// Says what became of the write that `change` let in, `age` after it was let in.
///
/// Landed is proven: the object carries the stamp, or a later change found it there. Retried is proven as well: the history
/// leads from what is there now to what this write would have replaced, and this write is not in it. Never is what remains
/// when the time is over in which the API server could still be working on it.
pub fn fate(
    name: &str,
    change: &BreakglassChangeSpec,
    me: &Link,
    live: Live<'_>,
    history: &dyn History,
    age: TimeDelta,
) -> Fate {
    if leaves_no_trace(change) || history.is_followed(name) {
        return Fate::Landed;
    }
    let over = if age > NEVER_AFTER { Fate::Never } else { Fate::Open };
    let (uid, leaving, carried, body) = match live {
        Live::Absent if goes(change) => return Fate::Landed,
        Live::Absent => return over,
        Live::Present { uid, leaving, change, body } => (uid, leaving, change, body),
    };
    let same = change.target.uid.as_deref().is_none_or(|target| target == uid);
    if goes(change) {
        return match (same, leaving) {
            (false, _) => Fate::Landed,
            // A finalizer may hold it for long: it is not gone yet, and not saved either.
            (true, true) => Fate::Open,
            (true, false) => over,
        };
    }
    if !same {
        return over;
    }
    if leaves_no_stamp(change) {
        return if body.is_some_and(|body| shows(change, body)) { Fate::Landed } else { over };
    }
    // Each attempt of a create has a uid of its own.
    if change.operation == Operation::Create || carried == Some(name) {
        return Fate::Landed;
    }
    match since(carried, me.follows.as_deref(), history) {
        Way::Back(links) if links.iter().any(|link| link.attempt.is_some() && link.attempt == me.attempt) => {
            Fate::Retried
        }
        // The stamp that this write found is gone: it took it off.
        Way::Elsewhere if !change.undoes.is_empty() => Fate::Landed,
        Way::Back(_) | Way::Elsewhere | Way::Unknown => over,
    }
}

/// Whether the object of this write is to go.
fn goes(change: &BreakglassChangeSpec) -> bool {
    matches!(change.operation, Operation::Delete | Operation::Evict)
}

/// Where the history of an object leads.
enum Way {
    /// To what the write found: these changes came after it, the latest first.
    Back(Vec<Link>),
    /// To an object without a stamp.
    Elsewhere,
    /// To a change that is not on record, or not yet.
    Unknown,
}

/// Follows the history from the change that the object carries now to the one that it carried.
fn since(to: Option<&str>, from: Option<&str>, history: &dyn History) -> Way {
    let mut links = Vec::new();
    let mut at = to.map(str::to_owned);
    while at.as_deref() != from {
        let Some(name) = at else { return Way::Elsewhere };
        let Some(link) = history.link(&name).filter(|_| links.len() < CHAIN_LIMIT) else { return Way::Unknown };
        at = link.follows.clone();
        links.push(link);
    }
    Way::Back(links)
}

/// Whether the object is as a change would have it, where the change touches it. Lists are compared whole: a place in one is
/// no place that stays.
fn shows(change: &BreakglassChangeSpec, body: &Value) -> bool {
    let Some(after) = patched(change.before.as_ref(), &change.patch).filter(|_| !change.patch.is_empty()) else {
        return false;
    };
    change.patch.iter().all(|step| {
        let path = outside_lists(&step.path, &after, change.before.as_ref());
        body.pointer(path) == after.pointer(path)
    })
}

/// The longest part of a path that leads through no list, in neither object.
fn outside_lists<'p>(path: &'p str, after: &Value, before: Option<&Value>) -> &'p str {
    let ends = path.match_indices('/').map(|(end, _)| end).skip(1).chain([path.len()]);
    let is_list = |part: &str| {
        [Some(after), before].into_iter().flatten().any(|object| object.pointer(part).is_some_and(Value::is_array))
    };
    ends.map(|end| &path[..end]).find(|part| is_list(part)).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeMap;

    /// Changes by name, each with what it follows and its attempt.
    struct Ledger(BTreeMap<&'static str, (Option<&'static str>, &'static str)>);

    impl History for Ledger {
        fn link(&self, name: &str) -> Option<Link> {
            let (follows, attempt) = self.0.get(name)?;
            Some(Link { follows: follows.map(str::to_owned), attempt: Some((*attempt).to_owned()) })
        }

        fn is_followed(&self, name: &str) -> bool {
            self.0.values().any(|(follows, _)| *follows == Some(name))
        }
    }

    fn change(operation: &str, fields: Value) -> BreakglassChangeSpec {
        let mut spec = json!({"token": "t", "incident": "INC-1", "user": "alice@example.com",
            "time": "2026-11-20T12:00:00Z", "environment": "prod", "operation": operation,
            "target": {"apiVersion": "v1", "kind": "ConfigMap", "resource": "configmaps", "name": "a", "uid": "u"},
            "before": {}, "patch": [], "decideBy": "2026-11-21T12:00:00Z"});
        for (field, value) in fields.as_object().unwrap() {
            spec[field] = value.clone();
        }
        serde_json::from_value(spec).unwrap()
    }

    fn live<'l>(uid: &'l str, change: Option<&'l str>) -> Live<'l> {
        Live::Present { uid, leaving: false, change, body: None }
    }

    const SOON: TimeDelta = TimeDelta::seconds(1);
    const LATE: TimeDelta = TimeDelta::seconds(46);

    fn told(ledger: &Ledger, name: &str, change: &BreakglassChangeSpec, live: Live<'_>) -> [Fate; 2] {
        let me = ledger.link(name).unwrap();
        [SOON, LATE].map(|age| fate(name, change, &me, live, ledger, age))
    }

    #[test]
    fn an_update_has_landed_when_its_stamp_is_there_or_was_found_there() {
        let update = change("Update", json!({}));
        let ledger = Ledger(BTreeMap::from([
            ("old", (None, "0")),
            ("me", (Some("old"), "1")),
            ("other", (Some("old"), "2")),
            ("later", (Some("other"), "3")),
        ]));
        assert_eq!(told(&ledger, "me", &update, live("u", Some("me"))), [Fate::Landed; 2]);
        assert_eq!(told(&ledger, "other", &update, live("u", Some("later"))), [Fate::Landed; 2]);
        assert_eq!(told(&ledger, "other", &update, Live::Absent), [Fate::Landed; 2]);
        for elsewhere in [live("u", Some("old")), live("u", Some("later")), live("u", None), live("v", Some("me"))] {
            assert_eq!(told(&ledger, "me", &update, elsewhere), [Fate::Open, Fate::Never], "{elsewhere:?}");
        }
        assert_eq!(told(&ledger, "me", &update, Live::Absent), [Fate::Open, Fate::Never]);
    }

    #[test]
    fn an_attempt_that_lost_is_told_from_a_write_that_was_refused() {
        let update = change("Update", json!({}));
        let ledger = Ledger(BTreeMap::from([
            ("me", (Some("old"), "1")),
            ("won", (Some("old"), "2")),
            ("again", (Some("won"), "1")),
        ]));
        // The attempt that landed stands between what is there and what was there; before it landed, nothing is said.
        assert_eq!(told(&ledger, "me", &update, live("u", Some("again"))), [Fate::Retried; 2]);
        assert_eq!(told(&ledger, "me", &update, live("u", Some("won"))), [Fate::Open, Fate::Never]);
        // The same write, long before: it is not in between.
        let ledger =
            Ledger(BTreeMap::from([("first", (None, "1")), ("old", (Some("first"), "0")), ("me", (Some("old"), "1"))]));
        assert_eq!(told(&ledger, "me", &update, live("u", Some("old"))), [Fate::Open, Fate::Never]);
        // A stamp that is not on record: the ledger may lag behind.
        assert_eq!(told(&ledger, "me", &update, live("u", Some("unknown"))), [Fate::Open, Fate::Never]);
    }

    #[test]
    fn a_history_is_followed_so_far_and_no_further() {
        struct Endless;
        impl History for Endless {
            fn link(&self, name: &str) -> Option<Link> {
                let follows = name.parse::<usize>().ok()?.checked_sub(1).map(|earlier| earlier.to_string());
                Some(Link { follows, attempt: None })
            }

            fn is_followed(&self, _: &str) -> bool {
                false
            }
        }
        let newest = CHAIN_LIMIT.to_string();
        assert!(matches!(since(Some(&newest), Some("0"), &Endless), Way::Back(links) if links.len() == CHAIN_LIMIT));
        let one_more = (CHAIN_LIMIT + 1).to_string();
        assert!(matches!(since(Some(&one_more), Some("0"), &Endless), Way::Unknown));
    }

    #[test]
    fn what_goes_has_landed_when_it_is_gone() {
        let ledger = Ledger(BTreeMap::from([("me", (None, "1"))]));
        for operation in ["Delete", "Evict"] {
            let delete = change(operation, json!({"subresource": (operation == "Evict").then_some("eviction")}));
            assert_eq!(told(&ledger, "me", &delete, Live::Absent), [Fate::Landed; 2]);
            assert_eq!(told(&ledger, "me", &delete, live("v", None)), [Fate::Landed; 2]);
            assert_eq!(told(&ledger, "me", &delete, live("u", None)), [Fate::Open, Fate::Never]);
            let leaving = Live::Present { uid: "u", leaving: true, change: None, body: None };
            assert_eq!(told(&ledger, "me", &delete, leaving), [Fate::Open; 2]);
        }
    }

    #[test]
    fn a_create_has_landed_when_its_uid_is_there_whatever_it_carries() {
        let ledger = Ledger(BTreeMap::from([("me", (None, "1"))]));
        let create = change("Create", json!({"before": null}));
        assert_eq!(told(&ledger, "me", &create, live("u", None)), [Fate::Landed; 2]);
        assert_eq!(told(&ledger, "me", &create, live("v", Some("me"))), [Fate::Open, Fate::Never]);
        assert_eq!(told(&ledger, "me", &create, Live::Absent), [Fate::Open, Fate::Never]);
    }

    #[test]
    fn an_undo_has_landed_when_the_stamp_is_gone() {
        let undo = change("Update", json!({"undoes": ["old"]}));
        let ledger = Ledger(BTreeMap::from([
            ("me", (Some("old"), "1")),
            ("old", (None, "0")),
            ("other", (Some("old"), "2")),
            ("after", (None, "3")),
        ]));
        assert_eq!(told(&ledger, "me", &undo, live("u", None)), [Fate::Landed; 2]);
        assert_eq!(told(&ledger, "me", &undo, live("u", Some("after"))), [Fate::Landed; 2]);
        assert_eq!(told(&ledger, "me", &undo, live("u", Some("old"))), [Fate::Open, Fate::Never]);
        assert_eq!(told(&ledger, "me", &undo, live("u", Some("other"))), [Fate::Open, Fate::Never]);
    }

    #[test]
    fn what_leaves_no_stamp_is_told_by_what_it_changed() {
        let ledger = Ledger(BTreeMap::from([("me", (None, "1"))]));
        let patch = json!([{"op": "add", "path": "/spec/e", "value": [1]}, {"op": "remove", "path": "/spec/gone"}]);
        let below = change(
            "Update",
            json!({"subresource": "ephemeralcontainers", "patch": patch,
            "before": {"spec": {"gone": 1}}}),
        );
        for (body, landed) in [
            (json!({"spec": {"e": [1]}}), true),
            (json!({"spec": {"e": [1], "gone": 1}}), false),
            (json!({"spec": {"e": [2]}}), false),
        ] {
            let live = Live::Present { uid: "u", leaving: false, change: Some("me"), body: Some(&body) };
            let expected = if landed { [Fate::Landed; 2] } else { [Fate::Open, Fate::Never] };
            assert_eq!(told(&ledger, "me", &below, live), expected, "{body}");
        }
        // What happens in other fields meanwhile is no sign that it did not land.
        let beside = json!({"spec": {"e": [1]}, "status": {"turned": "meanwhile"}});
        let live = Live::Present { uid: "u", leaving: false, change: Some("me"), body: Some(&beside) };
        assert_eq!(told(&ledger, "me", &below, live), [Fate::Landed; 2]);
        for unseen in [change("Exec", json!({})), change("Create", json!({"subresource": "token", "before": null}))] {
            assert_eq!(told(&ledger, "me", &unseen, Live::Absent), [Fate::Landed; 2]);
        }
    }
}
