//! Which environment a write belongs to, and what a token is good for, at every edge.

use std::collections::BTreeMap;

use super::*;
use crate::cover::{CLOCK_SKEW, Life, environment_of_write, life};

/// A write as far as its environment hangs on it: group, plural, subresource, namespace, name, labels before and after.
fn environment(
    (group, plural, subresource): (&str, &str, Option<&str>),
    (namespace, name): (Option<&str>, &str),
    verb: Verb,
    sides: [Option<&str>; 2],
) -> String {
    let object = |label: Option<&str>| {
        label.map(|label| json!({"metadata": {"name": name, "labels": {"breakglass.dev/environment": label}}}))
    };
    let sent = Sent {
        verb,
        resource: Resource {
            group: group.to_owned(),
            version: "v1".to_owned(),
            plural: plural.to_owned(),
            kind: "X".to_owned(),
            subresource: subresource.map(str::to_owned),
        },
        namespace: namespace.map(str::to_owned),
        name: name.to_owned(),
        requester: Requester::default(),
        manager: String::new(),
        before: object(sides[0]),
        after: object(sides[1]),
    };
    let rules = rules(json!({}));
    sent.ask(|write| environment_of_write(&rules, write, &BTreeMap::new()).name.clone())
}

#[test]
fn an_object_without_a_namespace_is_ours_by_its_kind_and_its_name() {
    let (definitions, roles) = (("apiextensions.k8s.io", "customresourcedefinitions"), "rbac.authorization.k8s.io");
    for ((group, plural), name, expected) in [
        (definitions, "breakglasschanges.breakglass.dev", "platform"),
        (definitions, "widgets.example.com", "cluster"),
        (definitions, "breakglass-webhook", "cluster"),
        ((roles, "clusterroles"), "breakglass-webhook", "platform"),
        ((roles, "clusterrolebindings"), "breakglass-webhook-objects", "platform"),
        ((roles, "clusterroles"), "edit", "cluster"),
        ((roles, "clusterroles"), "x.breakglass.dev", "cluster"),
        (("", "clusterroles"), "breakglass-webhook", "cluster"),
        (("", "persistentvolumes"), "x.breakglass.dev", "cluster"),
        (("", "persistentvolumes"), "breakglass-webhook", "cluster"),
    ] {
        assert_eq!(
            environment((group, plural, None), (None, name), Verb::Update, [None; 2]),
            expected,
            "{plural} {name}"
        );
    }
}

#[test]
fn a_token_of_an_account_is_guarded_like_its_namespace_or_like_the_platform() {
    for (namespace, expected) in
        [("prod", "prod"), ("staging", "staging"), ("dev", "platform"), ("kube-system", "platform")]
    {
        let of = |resource| environment(resource, (Some(namespace), "a"), Verb::Create, [None; 2]);
        assert_eq!(of(("", "serviceaccounts", Some("token"))), expected, "{namespace}");
        let own = if expected == "platform" { "dev" } else { expected };
        assert_eq!([of(("", "serviceaccounts", None)), of(("apps", "serviceaccounts", Some("token")))], [own, own]);
    }
}

#[test]
fn a_namespace_counts_by_its_labels_on_either_side_where_the_write_carries_it() {
    let of = |subresource, verb, sides| {
        environment(("", "namespaces", subresource), (Some("team-a"), "team-a"), verb, sides)
    };
    for (subresource, verb, sides, expected) in [
        (None, Verb::Update, [Some("prod"), Some("dev")], "prod"),
        (None, Verb::Update, [Some("dev"), Some("prod")], "prod"),
        (None, Verb::Update, [Some("staging"), Some("prod")], "prod"),
        (None, Verb::Create, [None, Some("prod")], "prod"),
        (None, Verb::Delete, [Some("prod"), None], "prod"),
        (Some("finalize"), Verb::Update, [Some("prod"), Some("prod")], "prod"),
        // What is made below a Namespace is not the Namespace, whatever labels it has.
        (Some("other"), Verb::Create, [None, Some("prod")], "dev"),
        (None, Verb::Update, [None, None], "dev"),
    ] {
        assert_eq!(of(subresource, verb, sides), expected, "{subresource:?} {verb:?} {sides:?}");
    }
}

#[test]
fn a_token_is_judged_by_its_end_the_clock_and_its_approval_in_this_order() {
    let built_in = rules(json!({}));
    let approved = rules(json!({"environments": [{"name": "prod", "namespaces": ["prod"], "writes": "RequireToken",
        "token": {"approval": {"mode": "After", "within": "40m"}}}]}));
    let second = TimeDelta::seconds(1);
    let opened: DateTime<Utc> = "2026-11-20T11:30:00Z".parse().unwrap();
    let expires: DateTime<Utc> = "2026-11-20T12:30:00Z".parse().unwrap();
    let within = opened + TimeDelta::minutes(40);
    let approval = json!({"approvals": [{"user": BOB, "time": "2026-11-20T11:31:00Z"}]});
    for (rules, status, now, expected) in [
        (&built_in, json!({}), noon(), Life::Live),
        (&built_in, json!({"closedAt": "2026-11-20T11:40:00Z"}), noon(), Life::Closed),
        (&built_in, json!({"phase": "Active", "closedAt": "2026-11-20T11:40:00Z"}), noon(), Life::Closed),
        (&built_in, json!({"phase": "Closed"}), expires + second, Life::Closed),
        (&built_in, json!({"phase": "Denied"}), expires + second, Life::Denied),
        (&built_in, json!({"phase": "Expired"}), expires - second, Life::Live),
        (&built_in, json!({}), expires - second, Life::Live),
        (&built_in, json!({}), expires, Life::Expired),
        (&built_in, json!({}), opened - CLOCK_SKEW, Life::Live),
        (&built_in, json!({}), opened - CLOCK_SKEW - second, Life::NotYet),
        (&approved, json!({}), within - second, Life::Live),
        (&approved, json!({}), within, Life::Unapproved),
        (&approved, approval, within, Life::Live),
    ] {
        let mut token = token("inc-123-aaaaa", ALICE, "prod");
        token.status = serde_json::from_value(status.clone()).unwrap();
        let environment = rules.environment_named("prod").unwrap();
        assert_eq!(life(&token, environment, now), expected, "{status} {now}");
    }
}

/// the clock of the replica decides: ahead, a token ends sooner by as much; behind, it ends later by as much and no more,
/// and is not good yet where it seems to come from the future. When the clock is right again, so is the answer. No time, however
/// odd, ends in anything but an answer.
#[test]
fn a_clock_that_is_wrong_moves_the_end_of_a_token_by_as_much_and_no_more() {
    let built_in = rules(json!({}));
    let environment = built_in.environment_named("prod").unwrap();
    let opened: DateTime<Utc> = "2026-11-20T11:30:00Z".parse().unwrap();
    let token = token("inc-123-aaaaa", ALICE, "prod");
    // It is good for an hour. How many minutes after its opening it really is, by how much the clock is off, what is said.
    for (real, off, expected) in [
        (0, -5, Life::Live),
        (0, -6, Life::NotYet),
        (0, -60, Life::NotYet),
        (0, 5, Life::Live),
        (0, 59, Life::Live),
        (0, 60, Life::Expired),
        (30, -60, Life::NotYet),
        (30, 60, Life::Expired),
        (30, 0, Life::Live),
        (54, 5, Life::Live),
        (55, 5, Life::Expired),
        (64, -5, Life::Live),
        (65, -5, Life::Expired),
        (119, -60, Life::Live),
        (120, -60, Life::Expired),
        (60, 0, Life::Expired),
    ] {
        let now = opened + TimeDelta::minutes(real + off);
        assert_eq!(life(&token, environment, now), expected, "{real} min after, {off} min off");
    }
    for odd in ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59Z"] {
        assert_ne!(life(&token, environment, odd.parse().unwrap()), Life::Live, "{odd}");
    }
}
