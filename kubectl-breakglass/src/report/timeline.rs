//! The timeline of an incident: everything that has a time, in order.

use breakglass::api::Timestamp;
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::facts::{ChangeFacts, TokenFacts};
use crate::heard::Told;
use crate::tokens::Standing;

/// What happened at one moment, in the order in which things of one second are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum What {
    /// A token was opened.
    Opened,
    /// Somebody approved one.
    Approved,
    /// A write was let in.
    Wrote,
    /// Somebody decided about it.
    Decided,
    /// Nobody had decided about it in time.
    Overdue,
    /// It was proven closed.
    Settled,
    /// A token was refused by an approver.
    Denied,
    /// A token was ended early.
    Closed,
    /// A token's time was up.
    Expired,
    /// The webhook told of itself.
    Webhook,
}

/// One moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Moment {
    /// When.
    pub time: Timestamp,
    /// What happened.
    pub what: What,
    /// Who did it; nothing where it came with the time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// In words.
    pub text: String,
    /// The token or the change it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
}

/// Everything that has a time, in order.
pub fn timeline(tokens: &[TokenFacts], changes: &[ChangeFacts], told: &[Told], now: DateTime<Utc>) -> Vec<Moment> {
    let mut moments: Vec<Moment> = tokens.iter().flat_map(|token| of_token(token, now)).collect();
    moments.extend(changes.iter().flat_map(of_change));
    moments.extend(told.iter().map(|told| Moment {
        time: told.time,
        what: What::Webhook,
        user: None,
        text: told.sentence(),
        about: None,
    }));
    // What is of one kind in one second stays in the order in which it came.
    moments.sort_by_key(|moment| (moment.time, moment.what));
    moments
}

fn of_token(token: &TokenFacts, now: DateTime<Utc>) -> Vec<Moment> {
    let moment = |time, what, user: Option<&String>, text: String| Moment {
        time,
        what,
        user: user.cloned(),
        text,
        about: Some(token.name.clone()),
    };
    let (name, place) = (&token.name, token.place());
    let opened = format!("opened {name} for {place} until {}: {}", token.expires_at, token.reason);
    let mut moments = vec![moment(token.opened_at, What::Opened, Some(&token.user), opened)];
    for approval in &token.approvals {
        let note = approval.note.as_ref().map_or_else(String::new, |note| format!(": {note}"));
        let text = format!("approved {name}{note}");
        moments.push(moment(approval.time, What::Approved, Some(&approval.user), text));
    }
    let ended = token.closed_by.as_ref();
    match (token.standing, token.closed_at) {
        (Standing::Denied, Some(at)) => moments.push(moment(at, What::Denied, ended, format!("denied {name}"))),
        (Standing::Closed, Some(at)) => moments.push(moment(at, What::Closed, ended, format!("closed {name}"))),
        (Standing::Waiting | Standing::Live | Standing::Expired | Standing::Closed | Standing::Denied, _) => {}
    }
    if token.standing == Standing::Expired && token.expires_at.instant() <= now {
        moments.push(moment(token.expires_at, What::Expired, None, format!("the time of {name} was up")));
    }
    moments
}

fn of_change(change: &ChangeFacts) -> Vec<Moment> {
    let moment = |time, what, user: Option<&String>, text: String| Moment {
        time,
        what,
        user: user.cloned(),
        text,
        about: Some(change.name.clone()),
    };
    let place = change.target.place();
    let mut moments = vec![moment(change.time, What::Wrote, Some(&change.user), change.did.clone())];
    if let Some(verdict) = &change.verdict
        && let Some(at) = verdict.at
    {
        let note = verdict.note.as_ref().map_or_else(String::new, |note| format!(": {note}"));
        let until = verdict.until.map_or_else(String::new, |until| format!(" until {until}"));
        let text = format!("{} {place}{until}{note}", verdict.did());
        moments.push(moment(at, What::Decided, verdict.by.as_ref(), text));
    }
    if let Some(since) = change.overdue_since {
        let text = format!("nobody had decided about {place} in time");
        moments.push(moment(since, What::Overdue, None, text));
    }
    if let Some(at) = change.settled_at {
        let text = format!("{place}: {}", change.how_it_ended());
        moments.push(moment(at, What::Settled, None, text));
    }
    moments
}
