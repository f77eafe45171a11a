//! Would refuse: which writes that were let in without a token the policy would refuse if it enforced.

use std::collections::BTreeMap;

use breakglass::api::Mode;
use breakglass::decide::{Decision, Known, decide};
use breakglass::rules::Rules;
use breakglass::write::{Requester, Resource, Verb, Write};
use breakglass::writer::Writer;
use chrono::{DateTime, Utc};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ListParams};

use crate::connect::Connection;
use crate::in_force::{Source, policy_in_force};
use crate::row_state::RowState;
use crate::rows::Row;

/// How many writers are named before the rest is counted.
const MOST_NAMES: usize = 5;

/// Marks the rows that would have been refused, and returns the mode of the policy in force. Nothing is marked where the
/// policy or the namespaces may not be read: what is not known is not said.
pub async fn mark(cluster: &Connection, rows: &mut [Row], now: DateTime<Utc>) -> Option<Mode> {
    if !rows.iter().any(is_noted) {
        return None;
    }
    let policy = policy_in_force(cluster).await.ok().filter(|policy| policy.source != Source::Guessed)?;
    let (api, params) = (Api::<Namespace>::all(cluster.client.clone()), ListParams::default());
    let namespaces = cluster.patiently(|| api.list_metadata(&params)).await?.ok()?;
    let labels = namespaces.items.into_iter().filter_map(|one| Some((one.metadata.name?, one.metadata.labels?)));
    mark_by(rows, &policy.rules, &labels.collect(), now);
    Some(policy.rules.spec().mode)
}

/// Labels of each namespace, by its name.
type Labels = BTreeMap<String, BTreeMap<String, String>>;

fn mark_by(rows: &mut [Row], rules: &Rules, labels: &Labels, now: DateTime<Utc>) {
    for row in rows.iter_mut().filter(|row| is_noted(row)) {
        row.would_be_refused = Some(would_be_refused(row, rules, labels, now));
    }
}

/// Only a write without a token is noted.
fn is_noted(row: &Row) -> bool {
    row.state == RowState::Noted
}

/// The same write once more, by somebody without a token.
fn would_be_refused(row: &Row, rules: &Rules, labels: &Labels, now: DateTime<Utc>) -> bool {
    let target = &row.target;
    let mut write = Write {
        verb: Verb::Update,
        resource: Resource {
            group: target.group().to_owned(),
            version: target.version().to_owned(),
            plural: target.resource.clone(),
            kind: target.kind.clone(),
            subresource: None,
        },
        namespace: target.namespace.clone(),
        name: target.name.clone(),
        requester: Requester { user: row.user.clone(), ..Requester::default() },
        before: None,
        after: None,
        dry_run: false,
        manager: String::new(),
    };
    if write.resource.is_namespace() {
        write.namespace = Some(target.name.clone());
    }
    let none = BTreeMap::new();
    let namespace_labels = write.namespace.as_ref().and_then(|name| labels.get(name)).unwrap_or(&none);
    let known = Known { rules, namespace_labels, tokens: &[], now };
    matches!(decide(&write, &Writer::Direct, known), Decision::Refuse(_) | Decision::Tolerate(_))
}

/// How many writes would have been refused, and whose; nothing where the policy refuses, or would have refused none.
pub fn sentence(rows: &[Row], mode: Option<Mode>) -> Option<String> {
    if mode.is_none_or(|mode| mode == Mode::Enforce) {
        return None;
    }
    let mut writers: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.would_be_refused == Some(true)) {
        *writers.entry(&row.user).or_default() += 1;
    }
    let number: usize = writers.values().sum();
    if number == 0 {
        return None;
    }
    let mut writers: Vec<(&str, usize)> = writers.into_iter().collect();
    writers.sort_by_key(|(user, number)| (std::cmp::Reverse(*number), *user));
    let more = writers.len().saturating_sub(MOST_NAMES);
    let mut names: Vec<String> =
        writers.iter().take(MOST_NAMES).map(|(user, number)| format!("{user} ({number})")).collect();
    if more > 0 {
        names.push(format!("{more} more"));
    }
    let writes = if number == 1 { "1 write".to_owned() } else { format!("{number} writes") };
    Some(format!("{writes} would have been refused if the policy enforced: by {}.", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use breakglass::api::ENVIRONMENT_LABEL;
    use serde_json::json;

    use super::*;
    use crate::discover::Kind;
    use crate::rows::join;
    use crate::stamped::Stamped;

    fn row(namespace: &str, user: &str, state: &str) -> Row {
        let annotations = BTreeMap::from([(breakglass::stamp::USER, user.to_owned())]);
        let stamped = Stamped {
            kind: Kind::in_apps("Deployment"),
            namespace: Some(namespace.to_owned()),
            name: "api".to_owned(),
            uid: format!("{namespace}-{user}"),
            annotations,
            state: state.to_owned(),
        };
        join(Vec::new(), vec![stamped]).remove(0)
    }

    #[test]
    fn what_lies_where_a_token_is_needed_would_have_been_refused() {
        let rules = Rules::new(serde_json::from_value(json!({"mode": "Warn"})).unwrap()).unwrap();
        let labels = BTreeMap::from([(
            "team-a".to_owned(),
            BTreeMap::from([(ENVIRONMENT_LABEL.to_owned(), "prod".to_owned())]),
        )]);
        let mut rows = vec![
            row("prod", "alice", "noted"),
            row("team-a", "alice", "noted"),
            row("prod", "bob", "noted"),
            row("dev", "bob", "noted"),
            row("prod", "carol", "pending"),
        ];
        mark_by(&mut rows, &rules, &labels, Utc::now());
        let marked: Vec<Option<bool>> = rows.iter().map(|row| row.would_be_refused).collect();
        assert_eq!(marked, [Some(true), Some(true), Some(true), Some(false), None]);
        let said = sentence(&rows, Some(Mode::Warn));
        let expected = "3 writes would have been refused if the policy enforced: by alice (2), bob (1).";
        assert_eq!(said.as_deref(), Some(expected));
        assert_eq!(sentence(&rows, Some(Mode::Audit)), said);
        assert_eq!(sentence(&rows, Some(Mode::Enforce)), None);
        assert_eq!(sentence(&rows, None), None);
        assert_eq!(sentence(&rows[3..], Some(Mode::Warn)), None);
        assert_eq!(serde_json::to_value(&rows[3]).unwrap()["wouldBeRefused"], false);
        assert_eq!(serde_json::to_value(&rows[4]).unwrap().get("wouldBeRefused"), None);
    }
}
