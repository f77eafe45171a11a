//! Who can obtain whom, as tables: what is bound, and what it is good for.

use breakglass::rules::Rules;
use serde_json::{Value, json};

use super::*;
use crate::identities::exempt;
use crate::rbac::Listed;

// What each way takes.
mod ways;
// Who is told, and who is not.
mod who;

/// Under the built-in policy, with two writers of a policy's own.
fn identities() -> Vec<Identity> {
    let policy = json!({"writers": {"trusted": [
        {"name": "ci", "users": ["ci-bot"], "groups": ["robots"], "proof": "Username"},
        {"name": "operators", "users": ["system:serviceaccount:ops:operator"], "proof": "Username", "namespaces": ["team-*"]}]}});
    exempt(&Rules::new(serde_json::from_value(policy).unwrap()).unwrap())
}

/// `verbs group:resources=names`, each a list with commas.
fn rule(text: &str) -> Value {
    let words = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let (verbs, rest) = text.split_once(' ').unwrap();
    let (group, rest) = rest.split_once(':').unwrap();
    let (resources, names) = rest.split_once('=').map_or((rest, None), |(resources, names)| (resources, Some(names)));
    json!({"verbs": words(verbs), "apiGroups": [group], "resources": words(resources),
        "resourceNames": names.map(words)})
}

/// `user bob`, `group ops`, `account ns/name`.
fn subject(text: &str) -> Value {
    match text.split_once(' ').unwrap() {
        ("user", name) => json!({"kind": "User", "name": name}),
        ("group", name) => json!({"kind": "Group", "name": name}),
        (_, account) => {
            let (namespace, name) = account.split_once('/').unwrap();
            json!({"kind": "ServiceAccount", "namespace": namespace, "name": name})
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).unwrap()
}

/// Who is bound, where (nothing is everywhere), and to which rules.
type Bound<'t> = (&'t str, &'t str, &'t [&'t str]);

fn rbac(bound: &[Bound<'_>]) -> Rbac {
    let mut listed = Listed::default();
    for (number, (who, place, rules)) in bound.iter().enumerate() {
        let name = format!("b{number}");
        let rules: Vec<Value> = rules.iter().map(|text| rule(text)).collect();
        let metadata = json!({"name": name, "namespace": Some(place).filter(|place| !place.is_empty())});
        // In a namespace by turns a Role and a ClusterRole: they are good for the same there.
        let kind = if place.is_empty() || number % 2 == 1 { "ClusterRole" } else { "Role" };
        match kind {
            "Role" => listed.roles.push(read(json!({"metadata": metadata, "rules": rules}))),
            _ => listed.cluster_roles.push(read(json!({"metadata": {"name": name}, "rules": rules}))),
        }
        let binding = json!({"metadata": metadata, "subjects": [subject(who)],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}});
        match place.is_empty() {
            true => listed.cluster_role_bindings.push(read(binding)),
            false => listed.role_bindings.push(read(binding)),
        }
    }
    Rbac::new(listed)
}

/// `user bob: RunPods+EnterPods as flux (7), webhook (1)`.
fn show(subject: &Subject, gain: &Gain<'_>) -> String {
    let how = |ways: &Ways<'_>| ways.keys().map(|way| format!("{way:?}")).collect::<Vec<_>>().join("+");
    let families = |identities: &[&Identity]| {
        let mut families: Vec<(&str, usize)> = Vec::new();
        for identity in identities {
            match families.last_mut().filter(|(family, _)| *family == identity.family) {
                Some((_, number)) => *number += 1,
                None => families.push((&identity.family, 1)),
            }
        }
        families.iter().map(|(family, number)| format!("{family} ({number})")).collect::<Vec<_>>().join(", ")
    };
    match gain {
        Gain::Everything(power, _) => format!("{subject}: {power:?}"),
        Gain::Identities(ways, identities) => format!("{subject}: {} as {}", how(ways), families(identities)),
        Gain::Powerful(ways, others) => format!("{subject}: {} as powerful {}", how(ways), others[0]),
        Gain::Names(_, identities) => format!("{subject}: the name of {}", families(identities)),
    }
}

#[track_caller]
fn check(bound: &[Bound<'_>], expected: &[&str]) {
    let (rbac, identities) = (rbac(bound), identities());
    let reach = reach(&rbac, &identities);
    let found: Vec<String> = reach.gains.iter().map(|(subject, gain)| show(subject, gain)).collect();
    assert_eq!(found, expected, "{bound:?}");
}

/// What one person is good for who has these rights everywhere.
#[track_caller]
fn check_bob(rules: &[&str], expected: &str) {
    let expected: Vec<String> =
        Some(expected).filter(|text| !text.is_empty()).map(|text| format!("user bob: {text}")).into_iter().collect();
    check(&[("user bob", "", rules)], &expected.iter().map(String::as_str).collect::<Vec<_>>());
}

const FLUX: &str = "impersonate :serviceaccounts=kustomize-controller";
const POD: &str = "impersonate authentication.k8s.io:uids,userextras/authentication.kubernetes.io/pod-name";
const CREDENTIAL: &str = "impersonate authentication.k8s.io:uids,userextras/authentication.kubernetes.io/credential-id";
