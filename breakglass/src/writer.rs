//! Who wrote: the control plane, an engine, trusted automation, ourselves, or a person.

use crate::api::{OVERRIDE_GROUP, Proof};
use crate::rules::Rules;
use crate::write::{Requester, Write};
use crate::{engine, glob};

/// Who sent a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Writer {
    /// A part of Kubernetes itself.
    ControlPlane,
    /// A GitOps engine, by the policy's name for it.
    Engine(String),
    /// Automation that the policy trusts, by its name there; or a member of the override group.
    Trusted(String),
    /// This webhook.
    Webhook,
    /// Everybody else.
    Direct,
}

impl Writer {
    /// One word for logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::ControlPlane => "ControlPlane",
            Self::Engine(_) => "Engine",
            Self::Trusted(_) => "Trusted",
            Self::Webhook => "Webhook",
            Self::Direct => "Direct",
        }
    }
}

/// The service account that the webhook runs as.
pub const WEBHOOK_USER: &str = "system:serviceaccount:breakglass-system:breakglass-webhook";

/// The key of `userInfo.extra` that only a credential bound to a pod has.
pub const POD_NAME: &str = "authentication.kubernetes.io/pod-name";

/// The key of `userInfo.extra` that names the credential: every service account token and every client certificate has one
/// (apiserver pkg/authentication/serviceaccount/util.go, request/x509/x509.go), and nobody who is impersonated.
pub const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// The prefix of every service account's user name.
pub const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";

/// The prefix of a kubelet's user name; it counts only together with [`NODE_GROUP`].
pub const NODE_PREFIX: &str = "system:node:";
/// The group of the kubelets. The node authorizer demands both.
pub const NODE_GROUP: &str = "system:nodes";

/// The components that authenticate with credentials of their own.
pub const COMPONENTS: [&str; 3] =
    ["system:kube-scheduler", "system:kube-controller-manager", "system:cloud-controller-manager"];

/// The API server, which calls itself (apiserver pkg/server/options: the loopback client).
pub const API_SERVER: &str = "system:apiserver";
/// The group that it is in.
pub const MASTERS_GROUP: &str = "system:masters";

/// The one of the controllers that may run as a pod.
pub const CLOUD_CONTROLLER_MANAGER: &str = "cloud-controller-manager";

/// The namespace of the controllers' service accounts.
pub const CONTROLLER_PREFIX: &str = "system:serviceaccount:kube-system:";

/// The service accounts of kube-controller-manager and of cloud-controller-manager, one for each controller, as
/// kubernetes 1.36 names them (plugin/pkg/auth/authorizer/rbac/bootstrappolicy/controller_policy.go and
/// cmd/kube-controller-manager/app/bootstrap.go), but for those that write nothing we look at: statuses and Events alone.
///
/// Exact names and not all of kube-system: add-ons live there as well, and people can create service accounts.
pub const CONTROLLERS: [&str; 42] = [
    "attachdetach-controller",
    "bootstrap-signer",
    "certificate-controller",
    "cloud-controller-manager",
    "clusterrole-aggregation-controller",
    "cronjob-controller",
    "daemon-set-controller",
    "deployment-controller",
    "device-taint-eviction-controller",
    "endpoint-controller",
    "endpointslice-controller",
    "endpointslicemirroring-controller",
    "ephemeral-volume-controller",
    "expand-controller",
    "generic-garbage-collector",
    "horizontal-pod-autoscaler",
    "job-controller",
    "kube-apiserver-serving-clustertrustbundle-publisher",
    "legacy-service-account-token-cleaner",
    "namespace-controller",
    "node-controller",
    "persistent-volume-binder",
    "pod-garbage-collector",
    "podcertificaterequestcleaner",
    "podgroup-protection-controller",
    "pv-protection-controller",
    "pvc-protection-controller",
    "replicaset-controller",
    "replication-controller",
    "resource-claim-controller",
    "resourcepoolstatusrequest-controller",
    "root-ca-cert-publisher",
    "service-account-controller",
    "service-cidrs-controller",
    "service-controller",
    "statefulset-controller",
    "storage-version-garbage-collector",
    "storage-version-migrator-controller",
    "token-cleaner",
    "ttl-after-finished-controller",
    "ttl-controller",
    "volumeattributesclass-protection-controller",
];

/// Says who sent a write.
///
/// Most robots never reach us: the same names and proofs stand in the matchConditions that the webhook registers. This is
/// the second look, for what reaches us all the same.
pub fn classify(write: &Write<'_>, rules: &Rules) -> Writer {
    let requester = &write.requester;
    if is_control_plane(requester) {
        return Writer::ControlPlane;
    }
    let bound = requester.pod().is_some() && !requester.uid.is_empty();
    if requester.user == WEBHOOK_USER && bound {
        return Writer::Webhook;
    }
    if requester.groups.iter().any(|group| group == OVERRIDE_GROUP) {
        return Writer::Trusted("override".to_owned());
    }
    let proven = |proof: Proof| match proof {
        Proof::PodBound => bound,
        Proof::Username => true,
    };
    let named = |patterns: &[String]| patterns.iter().any(|pattern| glob::matches(pattern, &requester.user));
    let writers = &rules.spec().writers;
    let kept = engine::is_kept(&write.resource);
    let engine = writers
        .engines
        .iter()
        .find(|engine| proven(engine.proof) && (named(&engine.users) || (kept && named(&engine.keepers))));
    if let Some(engine) = engine {
        return Writer::Engine(engine.name.clone());
    }
    let trusted = writers.trusted.iter().find(|trusted| {
        let namespace = write.namespace.as_deref();
        let here = trusted.namespaces.is_empty()
            || namespace.is_some_and(|name| trusted.namespaces.iter().any(|pattern| glob::matches(pattern, name)));
        let member = requester.groups.iter().any(|group| trusted.groups.contains(group));
        here && (named(&trusted.users) || member) && proven(trusted.proof)
    });
    match trusted {
        Some(trusted) => Writer::Trusted(trusted.name.clone()),
        None => Writer::Direct,
    }
}

/// Whether writes by this user would pass untouched, given the proof: the user of a service account, by its name.
pub fn is_exempt_name(user: &str, rules: &Rules) -> bool {
    let writers = &rules.spec().writers;
    let engines = writers.engines.iter().flat_map(|engine| engine.users.iter().chain(&engine.keepers));
    let mut named = engines.chain(writers.trusted.iter().flat_map(|trusted| &trusted.users));
    user == WEBHOOK_USER
        || user.strip_prefix(CONTROLLER_PREFIX).is_some_and(|name| CONTROLLERS.contains(&name))
        || named.any(|pattern| glob::matches(pattern, user))
}

/// The user name of a service account.
pub fn service_account(namespace: &str, name: &str) -> String {
    format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}")
}

/// A name alone proves nothing here either: whoever may impersonate users could take it.
fn is_control_plane(requester: &Requester) -> bool {
    let user = requester.user.as_str();
    if let Some(name) = user.strip_prefix(CONTROLLER_PREFIX) {
        // A controller's token is minted for the process that runs them all, and bound to no pod: a pod that somebody
        // starts with such a service account is not the controller. Only the cloud's may run as a pod of its own.
        let process = requester.pod().is_none() || name == CLOUD_CONTROLLER_MANAGER;
        return CONTROLLERS.contains(&name) && requester.is_itself() && process;
    }
    let node = user.starts_with(NODE_PREFIX) && requester.is_in(NODE_GROUP);
    // The API server calls itself with a token of its own, which has a uid and nothing else.
    let itself = user == API_SERVER && requester.is_in(MASTERS_GROUP) && !requester.uid.is_empty();
    itself || ((node || COMPONENTS.contains(&user)) && requester.has_credential())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write::{Resource, Verb};

    const FLUX: &str = "system:serviceaccount:flux-system:kustomize-controller";

    /// What stands behind a name.
    #[derive(Clone, Copy, Debug)]
    enum Behind {
        /// Nothing: impersonation by name.
        Name,
        /// A uid that somebody asked for.
        Uid,
        /// A client certificate.
        Certificate,
        /// A token of a service account.
        Token,
        /// A token that is bound to a pod.
        Pod,
    }

    fn requester(user: &str, groups: &[&str], behind: Behind) -> Requester {
        let keys: &[&str] = match behind {
            Behind::Name | Behind::Uid => &[],
            Behind::Certificate | Behind::Token => &[CREDENTIAL_ID],
            Behind::Pod => &[CREDENTIAL_ID, POD_NAME],
        };
        let uid = if matches!(behind, Behind::Name | Behind::Certificate) { "" } else { "7" };
        Requester {
            user: user.to_owned(),
            uid: uid.to_owned(),
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
            extra: keys.iter().map(|&key| (key.to_owned(), vec!["x".to_owned()])).collect(),
        }
    }

    fn write(requester: Requester, namespace: Option<&str>, group: &str) -> Write<'static> {
        Write {
            verb: Verb::Update,
            resource: Resource { group: group.to_owned(), plural: "things".to_owned(), ..Default::default() },
            namespace: namespace.map(str::to_owned),
            name: "a".to_owned(),
            requester,
            before: None,
            after: None,
            dry_run: false,
            manager: String::new(),
        }
    }

    #[test]
    fn who_wrote_is_proven_and_not_claimed() {
        let rules = Rules::new(
            serde_json::from_value(serde_json::json!({"writers": {"trusted": [
                {"name": "ci", "users": ["system:serviceaccount:ci:*"], "namespaces": ["team-*"]},
                {"name": "ops", "groups": ["robots"], "proof": "Username"}]}}))
            .unwrap(),
        )
        .unwrap();
        let flux = || Writer::Engine("flux".to_owned());
        let trusted = |name: &str| Writer::Trusted(name.to_owned());
        let controller = format!("{CONTROLLER_PREFIX}deployment-controller");
        let cloud = format!("{CONTROLLER_PREFIX}{CLOUD_CONTROLLER_MANAGER}");
        let addon = format!("{CONTROLLER_PREFIX}my-controller");
        let elsewhere = controller.replace("kube-system", "kube-public");
        use Behind::{Certificate, Name, Pod, Token, Uid};
        for (user, groups, behind, namespace, expected) in [
            ("alice@example.com", &["developers"][..], Certificate, Some("prod"), Writer::Direct),
            ("admin", &[MASTERS_GROUP], Certificate, Some("prod"), Writer::Direct),
            ("admin", &[MASTERS_GROUP, OVERRIDE_GROUP], Name, Some("prod"), trusted("override")),
            (FLUX, &[], Pod, Some("prod"), flux()),
            (FLUX, &[], Token, Some("prod"), Writer::Direct),
            (FLUX, &[], Name, Some("prod"), Writer::Direct),
            (WEBHOOK_USER, &[], Pod, None, Writer::Webhook),
            (WEBHOOK_USER, &[], Token, None, Writer::Direct),
            (&controller, &[], Token, Some("prod"), Writer::ControlPlane),
            (&controller, &[], Name, Some("prod"), Writer::Direct),
            (&controller, &[], Uid, Some("prod"), Writer::Direct),
            (&controller, &[], Certificate, Some("prod"), Writer::Direct),
            (&controller, &[], Pod, Some("prod"), Writer::Direct),
            (&cloud, &[], Pod, Some("prod"), Writer::ControlPlane),
            (&elsewhere, &[], Token, Some("prod"), Writer::Direct),
            (&addon, &[], Token, Some("prod"), Writer::Direct),
            ("system:node:n1", &[NODE_GROUP], Certificate, Some("prod"), Writer::ControlPlane),
            ("system:node:n1", &[NODE_GROUP], Uid, Some("prod"), Writer::Direct),
            ("system:node:n1", &[], Certificate, Some("prod"), Writer::Direct),
            ("n1", &[NODE_GROUP], Certificate, Some("prod"), Writer::Direct),
            ("system:kube-scheduler", &[], Certificate, Some("prod"), Writer::ControlPlane),
            ("system:kube-scheduler", &[], Name, Some("prod"), Writer::Direct),
            (API_SERVER, &[MASTERS_GROUP], Uid, None, Writer::ControlPlane),
            (API_SERVER, &[MASTERS_GROUP], Name, None, Writer::Direct),
            (API_SERVER, &[], Uid, None, Writer::Direct),
            ("admin", &[MASTERS_GROUP], Uid, None, Writer::Direct),
            ("system:serviceaccount:ci:runner", &[], Pod, Some("team-a"), trusted("ci")),
            ("system:serviceaccount:ci:runner", &[], Token, Some("team-a"), Writer::Direct),
            ("system:serviceaccount:ci:runner", &[], Pod, Some("prod"), Writer::Direct),
            ("system:serviceaccount:ci:runner", &[], Pod, None, Writer::Direct),
            ("r2", &["robots"], Name, None, trusted("ops")),
        ] {
            let write = write(requester(user, groups, behind), namespace, "");
            assert_eq!(classify(&write, &rules), expected, "{user} {groups:?} {behind:?}");
        }
    }

    #[test]
    fn the_keeper_of_an_engines_objects_is_nobody_special_elsewhere() {
        let rules = Rules::built_in().unwrap();
        let keeper = || requester("system:serviceaccount:flux-system:source-controller", &[], Behind::Pod);
        for (group, expected) in [
            ("source.toolkit.fluxcd.io", Writer::Engine("flux".to_owned())),
            ("notification.toolkit.fluxcd.io", Writer::Engine("flux".to_owned())),
            ("apps", Writer::Direct),
            ("toolkit.fluxcd.io.example.com", Writer::Direct),
        ] {
            assert_eq!(classify(&write(keeper(), Some("prod"), group), &rules), expected, "{group}");
        }
    }

    #[test]
    fn every_writer_has_a_word_of_its_own() {
        let name = || "x".to_owned();
        let all =
            [Writer::ControlPlane, Writer::Engine(name()), Writer::Trusted(name()), Writer::Webhook, Writer::Direct];
        assert_eq!(all.map(|writer| writer.as_str()), ["ControlPlane", "Engine", "Trusted", "Webhook", "Direct"]);
    }

    #[test]
    fn names_whose_writes_pass_are_known_without_their_proof() {
        let rules = Rules::built_in().unwrap();
        for (namespace, name, exempt) in [
            ("flux-system", "kustomize-controller", true),
            ("flux-system", "source-controller", true),
            ("flux-system", "default", false),
            ("kube-system", "deployment-controller", true),
            ("kube-system", "coredns", false),
            ("breakglass-system", "breakglass-webhook", true),
            ("prod", "deployment-controller", false),
        ] {
            assert_eq!(is_exempt_name(&service_account(namespace, name), &rules), exempt, "{namespace} {name}");
        }
    }
}
