//! The ledger in brief: of each change only what its fate and the counts hang on, from its labels and annotations.

use std::collections::HashMap;

use breakglass::api::BreakglassChange;
use breakglass::fate::Link;
use breakglass::record::{ATTEMPT, ENVIRONMENT_LABEL, FOLLOWS, TOKEN_LABEL};
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
    link: Link,
}

impl Known {
    fn is_admitted(&self) -> bool {
        self.state == Some(State::Admitted)
    }
}

/// What is owed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Debt {
    /// How many changes nobody has decided yet.
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
            link: Link { follows: annotation(FOLLOWS), attempt: annotation(ATTEMPT) },
        };
        if let Some(follows) = &known.link.follows {
            *self.followed.entry(follows.clone()).or_default() += 1;
        }
        self.by_name.insert(name, known);
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
            if !matches!(known.state, Some(State::Admitted | State::Pending)) {
                continue;
            }
            debt.changes += 1;
            debt.oldest = Some(debt.oldest.map_or(known.made, |oldest| oldest.min(known.made)));
            if now > known.made + within(&known.environment) {
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
