//! The ledger in brief: of each change only what its fate and the counts hang on, from its labels and annotations.

use std::collections::{BTreeSet, HashMap};

use breakglass::api::{BreakglassChange, Timestamp};
use breakglass::fate::Link;
use breakglass::record::{ATTEMPT, ENVIRONMENT_LABEL, FOLLOWS, TOKEN_LABEL, UNTIL};
use breakglass::stamp::{self, State};
use chrono::{DateTime, TimeDelta, Utc};
use kube::ResourceExt;
use kube::api::PartialObjectMeta;

/// One change.
#[derive(Debug, Default)]
struct Known {
    token: String,
    environment: String,
    state: Option<State>,
    made: DateTime<Utc>,
    /// Until when it is deferred.
    until: Option<DateTime<Utc>>,
    link: Link,
}

impl Known {
    fn is_admitted(&self) -> bool {
        self.state == Some(State::Admitted)
    }

    /// Whether it is seen in the cluster, and somebody owes something for it.
    fn is_open(&self) -> bool {
        !matches!(self.state, None | Some(State::Admitted | State::Settled | State::Noted))
    }
}

/// How many changes of one object are followed back: more than anybody makes.
const CHAIN_LIMIT: usize = 1_000;

/// Under which name we write to the status of a change: whatever has another one there is somebody's verdict.
pub const STATUS_MANAGER: &str = "breakglass-webhook";

fn is_decided(change: &PartialObjectMeta<BreakglassChange>) -> bool {
    change
        .managed_fields()
        .iter()
        .any(|entry| entry.subresource.as_deref() == Some("status") && entry.manager.as_deref() != Some(STATUS_MANAGER))
}

/// What is owed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Debt {
    /// How many changes nobody has decided yet, or not by the date they were deferred to.
    pub changes: usize,
    /// When the oldest of them was made.
    pub oldest: Option<DateTime<Utc>>,
    /// Those whose time to decide is over.
    pub overdue: Vec<String>,
}

/// All changes.
#[derive(Debug, Default)]
pub(super) struct Changes {
    by_name: HashMap<String, Known>,
    /// How many changes found an object with the stamp of this one on it.
    followed: HashMap<String, u32>,
    /// Those that somebody may have decided about since they were looked at last.
    touched: BTreeSet<String>,
}

impl Changes {
    pub(super) fn put(&mut self, change: &PartialObjectMeta<BreakglassChange>) {
        let name = change.name_any();
        self.remove(&name);
        let annotation = |key: &str| change.annotations().get(key).cloned();
        let made =
            change.creation_timestamp().and_then(|time| DateTime::from_timestamp_millis(time.0.as_millisecond()));
        let known = Known {
            token: change.labels().get(TOKEN_LABEL).cloned().unwrap_or_default(),
            environment: change.labels().get(ENVIRONMENT_LABEL).cloned().unwrap_or_default(),
            state: change.labels().get(stamp::STATE).and_then(|state| State::of(state)),
            made: made.unwrap_or_default(),
            until: annotation(UNTIL).and_then(|until| until.parse::<Timestamp>().ok()).map(Timestamp::instant),
            link: Link { follows: annotation(FOLLOWS), attempt: annotation(ATTEMPT) },
        };
        if known.state != Some(State::Settled) && is_decided(change) {
            self.touched.insert(name.clone());
        }
        if let Some(follows) = &known.link.follows {
            *self.followed.entry(follows.clone()).or_default() += 1;
        }
        self.by_name.insert(name, known);
    }

    /// Hands over, once, those that were written to.
    pub(super) fn take_touched(&mut self, most: usize) -> Vec<String> {
        let taken: Vec<String> = self.touched.iter().take(most).cloned().collect();
        for name in &taken {
            self.touched.remove(name);
        }
        taken
    }

    /// Has one looked at again.
    pub(super) fn touch(&mut self, name: &str) {
        self.touched.insert(name.to_owned());
    }

    /// Those that are seen and not settled, in order.
    pub(super) fn open(&self) -> Vec<String> {
        let mut open: Vec<String> =
            self.by_name.iter().filter(|(_, known)| known.is_open()).map(|(name, _)| name.clone()).collect();
        open.sort_unstable();
        open
    }

    /// The open ones among this one, the one that its object carried before it, and so on.
    pub(super) fn open_chain(&self, name: &str) -> Vec<String> {
        let mut chain = Vec::new();
        let mut next = Some(name);
        // Nobody but us writes what follows what; a circle would be a bug, and no reason to stand still.
        for _ in 0..CHAIN_LIMIT {
            let Some((name, known)) = next.and_then(|name| self.by_name.get_key_value(name)) else { break };
            if known.is_open() {
                chain.push(name.clone());
            }
            next = known.link.follows.as_deref();
        }
        chain
    }

    /// Those that found an object with the stamp of this one on it, and those that found it with theirs, as far as they are not
    /// settled; seen in the cluster or not.
    pub(super) fn open_followers(&self, name: &str) -> Vec<String> {
        // As of most: nobody has written to their objects since.
        if !self.is_followed(name) {
            return Vec::new();
        }
        let mut by_followed: HashMap<&str, Vec<&String>> = HashMap::new();
        for (name, known) in &self.by_name {
            if let Some(follows) = &known.link.follows {
                by_followed.entry(follows).or_default().push(name);
            }
        }
        let mut found = BTreeSet::new();
        let mut next = vec![name];
        while let Some(name) = next.pop() {
            for follower in by_followed.get(name).into_iter().flatten() {
                if found.insert(follower.as_str()) {
                    next.push(follower);
                }
            }
        }
        let is_settled = |name: &&str| self.by_name.get(*name).is_some_and(|known| known.state == Some(State::Settled));
        found.into_iter().filter(|name| !is_settled(name)).map(str::to_owned).collect()
    }

    pub(super) fn remove(&mut self, name: &str) {
        let Some(follows) = self.by_name.remove(name).and_then(|known| known.link.follows) else { return };
        if let Some(count) = self.followed.get_mut(&follows) {
            *count -= 1;
            if *count == 0 {
                self.followed.remove(&follows);
            }
        }
    }

    pub(super) fn link(&self, name: &str) -> Option<Link> {
        self.by_name.get(name).map(|known| known.link.clone())
    }

    pub(super) fn is_followed(&self, name: &str) -> bool {
        self.followed.contains_key(name)
    }

    pub(super) fn is_admitted(&self, name: &str) -> bool {
        self.by_name.get(name).is_some_and(Known::is_admitted)
    }

    pub(super) fn admitted(&self) -> Vec<(String, DateTime<Utc>)> {
        let admitted = self.by_name.iter().filter(|(_, known)| known.is_admitted());
        admitted.map(|(name, known)| (name.clone(), known.made)).collect()
    }

    pub(super) fn by_state(&self) -> HashMap<&'static str, i64> {
        self.by_name.values().filter_map(|known| known.state).fold(HashMap::new(), |mut counts, state| {
            *counts.entry(state.as_str()).or_default() += 1;
            counts
        })
    }

    /// What is owed at `now`; `within` says for how long an environment leaves a change undecided.
    pub(super) fn debt(&self, within: impl Fn(&str) -> TimeDelta, now: DateTime<Utc>) -> Debt {
        let mut debt = Debt::default();
        for (name, known) in &self.by_name {
            let is_overdue = match known.state {
                Some(State::Admitted | State::Pending) => now > known.made + within(&known.environment),
                // What is deferred is owed again after its date.
                Some(State::Deferred) if known.until.is_some_and(|until| now > until) => true,
                _ => continue,
            };
            debt.changes += 1;
            debt.oldest = Some(debt.oldest.map_or(known.made, |oldest| oldest.min(known.made)));
            if is_overdue {
                debt.overdue.push(name.clone());
            }
        }
        debt.overdue.sort_unstable();
        debt
    }

    pub(super) fn writes_by_token(&self) -> HashMap<String, i64> {
        self.by_name.values().fold(HashMap::new(), |mut counts, known| {
            *counts.entry(known.token.clone()).or_default() += 1;
            counts
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn change(name: &str, state: &str, follows: Option<&str>) -> PartialObjectMeta<BreakglassChange> {
        serde_json::from_value(json!({"metadata": {"name": name, "labels": {TOKEN_LABEL: "t", stamp::STATE: state},
            "annotations": follows.map(|follows| json!({FOLLOWS: follows}))}}))
        .unwrap()
    }

    #[test]
    fn what_is_owed_is_what_nobody_has_decided_and_overdue_after_its_time() {
        let mut changes = Changes::default();
        for (name, state, made) in [
            ("a", "pending", "2026-11-20T10:00:00Z"),
            ("b", "admitted", "2026-11-20T11:00:00Z"),
            ("c", "settled", "2026-11-01T00:00:00Z"),
            ("d", "accepted", "2026-11-01T00:00:00Z"),
        ] {
            let mut change = change(name, state, None);
            change.metadata.creation_timestamp = serde_json::from_value(json!(made)).unwrap();
            changes.put(&change);
        }
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let debt = |now| changes.debt(|_| TimeDelta::hours(24), at(now));
        let owed = |overdue: &[&str]| Debt {
            changes: 2,
            oldest: Some(at("2026-11-20T10:00:00Z")),
            overdue: overdue.iter().map(|&name| name.to_owned()).collect(),
        };
        assert_eq!(debt("2026-11-21T10:00:00Z"), owed(&[]));
        assert_eq!(debt("2026-11-21T10:00:01Z"), owed(&["a"]));
        assert_eq!(debt("2026-11-21T11:00:01Z"), owed(&["a", "b"]));
        assert_eq!(changes.by_state()["pending"], 1);

        // What is deferred is owed again after its date.
        let mut deferred = change("e", "deferred", None);
        deferred.metadata.annotations = Some([(UNTIL.to_owned(), "2026-11-25T12:00:00Z".to_owned())].into());
        deferred.metadata.creation_timestamp = serde_json::from_value(json!("2026-11-20T12:00:00Z")).unwrap();
        let mut changes = Changes::default();
        changes.put(&deferred);
        let debt = |now| changes.debt(|_| TimeDelta::hours(24), at(now));
        assert_eq!(debt("2026-11-25T12:00:00Z"), Debt::default());
        assert_eq!(debt("2026-11-25T12:00:01Z").overdue, ["e"]);
    }

    #[test]
    fn what_somebody_decided_about_is_handed_over_once() {
        let mut changes = Changes::default();
        for (name, state, manager) in [
            ("a", "pending", "kubectl-patch"),
            ("b", "pending", STATUS_MANAGER),
            ("c", "settled", "breakglass"),
            ("d", "deferred", "breakglass"),
            ("e", "admitted", "breakglass"),
        ] {
            let mut change = change(name, state, None);
            let written = json!([{"manager": manager, "operation": "Update", "subresource": "status"}]);
            change.metadata.managed_fields = serde_json::from_value(written).unwrap();
            changes.put(&change);
        }
        changes.put(&change("f", "pending", None));
        assert_eq!(changes.take_touched(2), ["a", "d"]);
        assert_eq!(changes.take_touched(2), ["e"]);
        assert_eq!(changes.take_touched(2), [] as [&str; 0]);
        changes.touch("a");
        assert_eq!(changes.take_touched(2), ["a"]);
    }

    #[test]
    fn changes_of_one_object_stand_over_one_another() {
        let mut changes = Changes::default();
        for (name, state, follows) in [
            ("a", "pending", None),
            ("b", "settled", Some("a")),
            ("c", "deferred", Some("b")),
            ("d", "admitted", Some("c")),
            ("other", "pending", None),
        ] {
            changes.put(&change(name, state, follows));
        }
        assert_eq!(changes.open(), ["a", "c", "other"]);
        assert_eq!(changes.open_chain("d"), ["c", "a"]);
        assert_eq!(changes.open_chain("nobody"), [] as [&str; 0]);
        assert_eq!(changes.open_followers("a"), ["c", "d"]);
        assert_eq!(changes.open_followers("d"), [] as [&str; 0]);
    }

    #[test]
    fn what_is_followed_is_known_until_the_last_that_follows_is_gone() {
        let mut changes = Changes::default();
        changes.put(&change("a", "admitted", None));
        for name in ["b", "c"] {
            changes.put(&change(name, "pending", Some("a")));
            // A change that comes again counts once.
            changes.put(&change(name, "pending", Some("a")));
        }
        assert_eq!(changes.admitted().into_iter().map(|(name, _)| name).collect::<Vec<_>>(), ["a"]);
        assert_eq!(changes.writes_by_token(), HashMap::from([("t".to_owned(), 3)]));
        changes.remove("b");
        assert!(changes.is_followed("a"));
        changes.remove("c");
        assert!(!changes.is_followed("a"));
        changes.put(&change("a", "pending", None));
        assert!(!changes.is_admitted("a") && changes.link("a").is_some() && changes.link("b").is_none());
    }
}
