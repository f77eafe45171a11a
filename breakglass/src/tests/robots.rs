//! What robots write all the time is let be, and nothing that only looks like it.

use std::collections::BTreeMap;

use super::*;
use crate::decide::{Known, decide};
use crate::writer::classify;

fn decision(sent: &Sent, dry_run: bool) -> &'static str {
    let rules = Rules::built_in().unwrap();
    sent.ask(|write| {
        let write = Write { dry_run, ..write.clone() };
        let labels = BTreeMap::new();
        let known = Known { rules: &rules, namespace_labels: &labels, tokens: &[], now: noon() };
        decide(&write, &classify(&write, &rules), known).as_str()
    })
}

fn requester(user: &str, uid: &str, credential: bool) -> Requester {
    let extra = credential.then(|| (CREDENTIAL_ID.to_owned(), vec!["JTI=1".to_owned()]));
    Requester { user: user.to_owned(), uid: uid.to_owned(), groups: Vec::new(), extra: extra.into_iter().collect() }
}

fn sent(resource: (&str, &str, Option<&str>), namespace: &str, requester: Requester) -> Sent {
    let (group, plural, subresource) = resource;
    let object = |turns: u32| {
        json!({"metadata": {"name": "a", "labels": {"k": "v"}, "resourceVersion": turns.to_string()},
        "status": {"turns": turns}})
    };
    Sent {
        verb: Verb::Update,
        resource: Resource {
            group: group.to_owned(),
            version: "v1".to_owned(),
            plural: plural.to_owned(),
            kind: "X".to_owned(),
            subresource: subresource.map(str::to_owned),
        },
        namespace: Some(namespace.to_owned()),
        name: "a".to_owned(),
        requester,
        manager: "any".to_owned(),
        before: Some(object(1)),
        after: Some(object(2)),
    }
}

#[test]
fn the_status_alone_is_an_operators_own() {
    let status = ("example.com", "widgets", Some("status"));
    let robot = || requester(ROBOT, "7", true);
    for (resource, who, expected) in [
        (status, robot(), "Leave"),
        (status, requester(ROBOT, "", true), "Refuse"),
        (status, requester(ROBOT, "7", false), "Refuse"),
        (status, requester(ALICE, "7", true), "Refuse"),
        (("example.com", "widgets", None), robot(), "Refuse"),
        (("example.com", "widgets", Some("scale")), robot(), "Refuse"),
        // Whoever writes where a source is fetched from deploys.
        (("source.toolkit.fluxcd.io", "gitrepositories", Some("status")), robot(), "Refuse"),
    ] {
        assert_eq!(decision(&sent(resource, "prod", who.clone()), false), expected, "{resource:?} {who:?}");
    }
    for (field, value) in [
        ("labels", json!({})),
        ("annotations", json!({"k": "v"})),
        ("finalizers", json!(["example.com/mine"])),
        ("ownerReferences", json!([{"uid": "u"}])),
    ] {
        let mut sent = sent(status, "prod", robot());
        sent.after.as_mut().unwrap()["metadata"][field] = value;
        assert_eq!(decision(&sent, false), "Refuse", "{field}");
    }
    let mut created = sent(status, "prod", robot());
    created.before = None;
    assert_eq!(decision(&created, false), "Refuse");
}

#[test]
fn a_token_of_an_account_is_asked_about_where_the_account_is_not() {
    let token = ("", "serviceaccounts", Some("token"));
    for (namespace, name, decided, rehearsed) in [
        ("prod", "operator", "Leave", "Leave"),
        ("dev", "default", "Leave", "Leave"),
        // A dry run gives a token as well.
        ("flux-system", "kustomize-controller", "Refuse", "Refuse"),
        ("flux-system", "source-controller", "Refuse", "Refuse"),
        ("flux-system", "default", "Leave", "Leave"),
        ("kube-system", "deployment-controller", "Refuse", "Refuse"),
        ("breakglass-system", "breakglass-webhook", "Refuse", "Refuse"),
    ] {
        let mut sent = sent(token, namespace, requester(ALICE, "", true));
        (sent.verb, sent.before, sent.name) = (Verb::Create, None, name.to_owned());
        let both = [decision(&sent, false), decision(&sent, true)];
        assert_eq!(both, [decided, rehearsed], "{namespace} {name}");
    }
    assert_eq!(decision(&sent(("", "configmaps", None), "prod", requester(ALICE, "", true)), true), "Rehearse");
}
