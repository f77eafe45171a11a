//! Stamp: the annotations and the label that a direct write carries; put on, read back, compared.

use std::collections::BTreeMap;

use crate::api::{BreakglassChangeSpec, ChangePhase, Operation, Timestamp};
use crate::write::Object;

/// Who wrote.
pub const USER: &str = "breakglass.dev/user";
/// When: RFC 3339, UTC, whole seconds.
pub const TIME: &str = "breakglass.dev/time";
/// What was done: Create, Update, …
pub const OPERATION: &str = "breakglass.dev/operation";
/// The field manager that the client named.
pub const MANAGER: &str = "breakglass.dev/manager";
/// The incident, under a token.
pub const INCIDENT: &str = "breakglass.dev/incident";
/// The name of the token, under a token.
pub const TOKEN: &str = "breakglass.dev/token";
/// The name of the record, under a token.
pub const CHANGE: &str = "breakglass.dev/change";
/// The one label: what is still to be done about it. Selectable, so that one LIST a kind finds every stamp.
pub const STATE: &str = "breakglass.dev/state";

/// Every annotation that is ours, in the order in which people read them.
pub const ANNOTATIONS: [&str; 7] = [USER, TIME, OPERATION, MANAGER, INCIDENT, TOKEN, CHANGE];
/// Every label that is ours.
pub const LABELS: [&str; 1] = [STATE];

/// What the label says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Written under a token; nobody has decided.
    Pending,
    /// Put off to a date.
    Deferred,
    /// To be kept; Git does not say so yet.
    Accepted,
    /// Written where no token is needed: on the record, and nothing is owed.
    Noted,
    /// Of a record only: let in, not yet seen in the cluster.
    Admitted,
    /// Of a record only: to be put back.
    Rejected,
    /// Of a record only: proven closed.
    Settled,
}

impl State {
    /// The value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Deferred => "deferred",
            Self::Accepted => "accepted",
            Self::Noted => "noted",
            Self::Admitted => "admitted",
            Self::Rejected => "rejected",
            Self::Settled => "settled",
        }
    }

    /// The state that this value of the label says; `None` where it is none of ours.
    pub fn of(value: &str) -> Option<Self> {
        let all =
            [Self::Pending, Self::Deferred, Self::Accepted, Self::Noted, Self::Admitted, Self::Rejected, Self::Settled];
        all.into_iter().find(|state| state.as_str() == value)
    }

    /// The state of a record in this phase.
    pub fn of_phase(phase: Option<ChangePhase>) -> Self {
        match phase {
            None | Some(ChangePhase::Admitted) => Self::Admitted,
            Some(ChangePhase::Pending) => Self::Pending,
            Some(ChangePhase::Accepted) => Self::Accepted,
            Some(ChangePhase::Rejected) => Self::Rejected,
            Some(ChangePhase::Deferred) => Self::Deferred,
            Some(ChangePhase::Settled) => Self::Settled,
        }
    }

    /// What the stamp says of a change whose record is in this state; `None` where no stamp may speak of it any more.
    pub fn on_object(self) -> Option<Self> {
        match self {
            Self::Settled => None,
            // It is there until it is put back.
            Self::Admitted | Self::Pending | Self::Rejected => Some(Self::Pending),
            Self::Deferred | Self::Accepted | Self::Noted => Some(self),
        }
    }
}

/// What a write under a token says besides who, when and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnderToken {
    /// The incident.
    pub incident: String,
    /// The token's name.
    pub token: String,
    /// The record's name.
    pub change: String,
}

/// What a direct write says about itself on the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Who wrote.
    pub user: String,
    /// When.
    pub time: Timestamp,
    /// What was done.
    pub operation: Operation,
    /// The field manager; empty where the client named none.
    pub manager: String,
    /// Present for a write under a token.
    pub under: Option<UnderToken>,
}

/// The values that our keys have on one object: what is there, or what should be. An absent key stands for "not there".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// Our annotations.
    pub annotations: BTreeMap<&'static str, String>,
    /// Our labels.
    pub labels: BTreeMap<&'static str, String>,
}

impl Keys {
    /// Picks our keys out of an object's annotations and labels.
    pub fn of(annotations: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> Self {
        let pick = |keys: &[&'static str], from: &BTreeMap<String, String>| {
            keys.iter().filter_map(|&key| Some((key, from.get(key)?.clone()))).collect()
        };
        Self { annotations: pick(&ANNOTATIONS, annotations), labels: pick(&LABELS, labels) }
    }

    /// Our keys on an object; none where there is no object.
    pub fn of_object(object: Option<&Object<'_>>) -> Self {
        object.map(|object| Self::of(object.metadata.annotations(), object.metadata.labels())).unwrap_or_default()
    }

    /// Whether nothing of ours is there.
    pub fn is_empty(&self) -> bool {
        self.annotations.is_empty() && self.labels.is_empty()
    }

    /// The value of one of our annotations.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str)
    }
}

impl Stamp {
    /// The stamp of a write that is on record under this name.
    pub fn of_change(name: &str, change: &BreakglassChangeSpec) -> Self {
        Self {
            user: change.user.clone(),
            time: change.time,
            operation: change.operation,
            manager: change.manager.clone().unwrap_or_default(),
            under: Some(UnderToken {
                incident: change.incident.clone(),
                token: change.token.clone(),
                change: name.to_owned(),
            }),
        }
    }

    /// Our keys as this stamp sets them.
    pub fn keys(&self) -> Keys {
        let mut annotations = BTreeMap::from([
            (USER, self.user.clone()),
            (TIME, self.time.to_string()),
            (OPERATION, self.operation.as_str().to_owned()),
            (MANAGER, self.manager.clone()),
        ]);
        let state = match &self.under {
            Some(under) => {
                annotations.insert(INCIDENT, under.incident.clone());
                annotations.insert(TOKEN, under.token.clone());
                annotations.insert(CHANGE, under.change.clone());
                State::Pending
            }
            None => State::Noted,
        };
        Keys { annotations, labels: BTreeMap::from([(STATE, state.as_str().to_owned())]) }
    }

    /// The time that a set of keys names, if it is one.
    pub fn time_in(keys: &Keys) -> Option<Timestamp> {
        keys.annotation(TIME)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_empty_when_there_is_neither_an_annotation_nor_the_label() {
        let (user, state) = ((USER, "a".to_owned()), (STATE, "pending".to_owned()));
        for (annotations, labels, empty) in [
            (None, None, true),
            (Some(user.clone()), None, false),
            (None, Some(state.clone()), false),
            (Some(user), Some(state), false),
        ] {
            let keys = Keys { annotations: annotations.into_iter().collect(), labels: labels.into_iter().collect() };
            assert_eq!(keys.is_empty(), empty, "{keys:?}");
        }
    }
}
