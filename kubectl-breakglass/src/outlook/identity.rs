//! Who wrote, why they are taken for that, and what would prove them somebody else.

use breakglass::api::Proof;
use breakglass::rules::Rules;
use breakglass::write::{Requester, Write};
use breakglass::writer::{
    API_SERVER, CLOUD_CONTROLLER_MANAGER, CONTROLLER_PREFIX, CONTROLLERS, CREDENTIAL_ID, MASTERS_GROUP, NODE_GROUP,
    NODE_PREFIX, POD_NAME, SERVICE_ACCOUNT_PREFIX, Writer, classify,
};

/// A user as the API server would name them: service accounts and everybody who is logged in are in groups that nobody
/// puts them into (apiserver pkg/endpoints/filters/impersonation).
pub fn requester(user: &str, groups: &[String]) -> Requester {
    let mut groups = groups.to_vec();
    let account = user.strip_prefix(SERVICE_ACCOUNT_PREFIX).and_then(|rest| rest.split_once(':'));
    let of_account = account
        .map(|(namespace, _)| ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")]);
    for group in of_account.into_iter().flatten().chain(["system:authenticated".to_owned()]) {
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    Requester { user: user.to_owned(), groups, ..Requester::default() }
}

/// The same with what stands behind the name when it is really they: the token of a pod, a controller's own token, a
/// client certificate.
pub fn proven(requester: &Requester) -> Requester {
    let mut requester = requester.clone();
    let user = requester.user.as_str();
    let controller = user.strip_prefix(CONTROLLER_PREFIX).filter(|name| CONTROLLERS.contains(name));
    let in_pod = controller.is_none_or(|name| name == CLOUD_CONTROLLER_MANAGER);
    let mut keys = vec![CREDENTIAL_ID];
    let mut group = None;
    if user.starts_with(SERVICE_ACCOUNT_PREFIX) {
        "of-the-service-account".clone_into(&mut requester.uid);
        if in_pod {
            keys.push(POD_NAME);
        }
    } else if user.starts_with(NODE_PREFIX) {
        group = Some(NODE_GROUP);
    } else if user == API_SERVER {
        "of-the-api-server".clone_into(&mut requester.uid);
        group = Some(MASTERS_GROUP);
    }
    if let Some(group) = group.filter(|group| !requester.is_in(group)) {
        requester.groups.push(group.to_owned());
    }
    requester.extra.extend(keys.into_iter().map(|key| (key.to_owned(), vec!["as-if-proven".to_owned()])));
    requester
}

/// Why the writer is who they are taken for.
pub fn because(write: &Write<'_>, writer: &Writer, rules: &Rules) -> String {
    let user = &write.requester.user;
    let listed = &rules.spec().writers;
    let how = |proof: Proof| match proof {
        Proof::PodBound => "its credential is bound to a pod",
        Proof::Username => "the policy asks for no proof",
    };
    match writer {
        Writer::ControlPlane => format!("{user} is a part of Kubernetes, and a credential of its own stands behind it"),
        Writer::Webhook => format!("{user} is the webhook itself"),
        Writer::Trusted(name) if name == "override" => {
            format!("{user} is in the group {}: the webhook is skipped", breakglass::api::OVERRIDE_GROUP)
        }
        Writer::Engine(name) => {
            let found = listed.engines.iter().enumerate().find(|(_, engine)| engine.name == *name);
            let (place, proof) = found.map_or((0, Proof::PodBound), |(place, engine)| (place, engine.proof));
            format!("{user} is {name} (spec.writers.engines[{place}]), and {}", how(proof))
        }
        Writer::Trusted(name) => {
            let found = listed.trusted.iter().enumerate().find(|(_, trusted)| trusted.name == *name);
            let (place, proof) = found.map_or((0, Proof::PodBound), |(place, trusted)| (place, trusted.proof));
            format!("{user} is {name} (spec.writers.trusted[{place}]), and {}", how(proof))
        }
        Writer::Direct => direct(write, rules),
    }
}

/// A direct writer may have the name of somebody else, and lack the proof.
fn direct(write: &Write<'_>, rules: &Rules) -> String {
    let user = &write.requester.user;
    let really = Write { requester: proven(&write.requester), ..write.clone() };
    let would_be = match classify(&really, rules) {
        Writer::Direct => {
            return format!(
                "{user} is no engine, no trusted writer and no part of Kubernetes: a person, or a program like one"
            );
        }
        Writer::ControlPlane => "a part of Kubernetes".to_owned(),
        Writer::Webhook => "the webhook itself".to_owned(),
        Writer::Engine(name) | Writer::Trusted(name) => name,
    };
    let missing = if user.starts_with(SERVICE_ACCOUNT_PREFIX) && !really.requester.extra.contains_key(POD_NAME) {
        "a token of its own"
    } else if user.starts_with(SERVICE_ACCOUNT_PREFIX) {
        "a credential that is bound to a pod"
    } else {
        "a credential of its own"
    };
    format!(
        "{user} is the name of {would_be}, and a name alone proves nothing: {missing} is missing. Ask again with --proven for \
         what becomes of its real writes"
    )
}
