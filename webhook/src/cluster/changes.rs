//! The ledger in brief: of each change only what its fate and the counts hang on, from its labels and annotations.

use std::collections::HashMap;

use breakglass::api::BreakglassChange;
use breakglass::fate::Link;
use breakglass::record::{ATTEMPT, FOLLOWS, TOKEN_LABEL};
use breakglass::stamp::{self, State};
use chrono::{DateTime, Utc};
use kube::ResourceExt;
use kube::api::PartialObjectMeta;

/// One change.
#[derive(Debug, Default)]
struct Known {
    token: String,
    admitted: bool,
    made: DateTime<Utc>,
    link: Link,
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
            admitted: change.labels().get(stamp::STATE).is_some_and(|state| state == State::Admitted.as_str()),
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
        self.by_name.get(name).is_some_and(|known| known.admitted)
    }

    pub(super) fn admitted(&self) -> Vec<(String, DateTime<Utc>)> {
        let admitted = self.by_name.iter().filter(|(_, known)| known.admitted);
        admitted.map(|(name, known)| (name.clone(), known.made)).collect()
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
