//! How old a stamp may be, what counts as a write without effect, and whose keys are false: the borders, one by one.

use super::*;
use crate::api::Timestamp;
use crate::mark;
use crate::seal::Claim;
use chrono::DateTime;

/// An update of a ConfigMap by alice that changes its data, or not.
fn update(new: &str) -> Sent {
    let object = |data: &str| json!({"kind": "ConfigMap", "metadata": {"name": "a", "uid": "u"}, "data": {"k": data}});
    Sent {
        verb: Verb::Update,
        resource: Resource {
            version: "v1".to_owned(),
            plural: "configmaps".to_owned(),
            kind: "ConfigMap".to_owned(),
            ..Resource::default()
        },
        namespace: Some("prod".to_owned()),
        name: "a".to_owned(),
        requester: Requester { user: ALICE.to_owned(), ..Requester::default() },
        manager: "kubectl".to_owned(),
        before: Some(object("old")),
        after: Some(object(new)),
    }
}

/// The stamp that this write got at a time.
fn stamp_of(sent: &Sent, token: Option<&BreakglassToken>, at: DateTime<Utc>) -> Keys {
    let time = Timestamp::new(at);
    sent.ask(|write| {
        let change = token.map(|token| Claim::new(write, token, time).name(&key(), 7));
        mark::stamp(write, token, time, change).keys()
    })
}

/// The longest timeout of a webhook is 30 seconds, and clocks may disagree by five minutes.
#[test]
fn a_stamp_is_of_this_request_for_so_long_and_no_longer() {
    let sent = update("new");
    let token = token("inc-123-prod", ALICE, "prod");
    let made = noon().with_timezone(&Utc) - TimeDelta::milliseconds(400);
    let (under, bare) = (Some(&token), None);
    for (token, seconds, expected) in [
        (bare, -1, false),
        (bare, 0, true),
        (bare, 30, true),
        (bare, 31, false),
        (under, -301, false),
        (under, -300, true),
        (under, 0, true),
        (under, 330, true),
        (under, 331, false),
    ] {
        let stamped = sent.with(&stamp_of(&sent, token, made));
        let now = made + TimeDelta::seconds(seconds);
        let is_true = stamped.ask(|write| mark::is_true(write, token, &key(), now));
        assert_eq!(is_true, expected, "{seconds} s, under a token: {}", token.is_some());
    }
}

#[test]
fn only_an_update_can_be_without_effect() {
    for (verb, new, expected) in [
        (Verb::Update, "old", true),
        (Verb::Update, "new", false),
        (Verb::Create, "old", false),
        (Verb::Delete, "old", false),
        (Verb::Connect, "old", false),
    ] {
        let sent = Sent { verb, ..update(new) };
        assert_eq!(sent.ask(mark::changes_nothing), expected, "{verb:?} {new}");
    }
}

#[test]
fn keys_are_false_where_this_write_cannot_have_brought_them() {
    let token = token("inc-123-prod", ALICE, "prod");
    let sent = update("new");
    let none = Keys::default();
    let mine = stamp_of(&sent, None, noon());
    let theirs = Keys { annotations: [(stamp::USER, BOB.to_owned())].into(), ..Keys::default() };
    let under = stamp_of(&sent, Some(&token), noon());
    let one = |name: &'static str| Keys { annotations: [(name, "x".to_owned())].into(), ..Keys::default() };
    for (what, before, after, keeps, is_false) in [
        ("nothing", &none, &none, true, false),
        ("my own", &none, &mine, false, false),
        ("somebody else's", &none, &theirs, false, true),
        ("somebody else's that was there", &theirs, &theirs, true, false),
        ("one of a token", &none, &under, false, true),
        ("one of a token that was there", &under, &under, true, false),
        ("an incident", &none, &one(stamp::INCIDENT), false, true),
        ("a token", &none, &one(stamp::TOKEN), false, true),
        ("a change", &none, &one(stamp::CHANGE), false, true),
        ("dropped", &theirs, &none, false, false),
    ] {
        let mut sent = sent.with(after);
        put(sent.before.as_mut().unwrap(), before);
        assert_eq!(sent.ask(mark::keeps_keys), keeps, "{what}");
        assert_eq!(sent.ask(mark::is_false), is_false, "{what}");
    }
    let deleted = Sent { verb: Verb::Delete, after: None, ..sent };
    assert!(deleted.ask(mark::keeps_keys) && !deleted.ask(mark::is_false));
}
