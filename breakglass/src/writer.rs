//! Who wrote: the control plane, an engine, trusted automation, ourselves, or a person.

use crate::api::{OVERRIDE_GROUP, Proof};
use crate::glob;
use crate::rules::Rules;
use crate::write::Requester;

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

/// The prefix of a kubelet's user name; it counts only together with [`NODE_GROUP`].
pub const NODE_PREFIX: &str = "system:node:";
/// The group of the kubelets. The node authorizer demands both.
pub const NODE_GROUP: &str = "system:nodes";

/// The components that authenticate with certificates of their own.
pub const COMPONENTS: [&str; 4] =
    ["system:apiserver", "system:kube-scheduler", "system:kube-controller-manager", "system:cloud-controller-manager"];

/// The namespace of the controllers' service accounts.
pub const CONTROLLER_PREFIX: &str = "system:serviceaccount:kube-system:";

/// The service accounts of kube-controller-manager and of cloud-controller-manager, one for each controller, as
/// kubernetes 1.36 names them (plugin/pkg/auth/authorizer/rbac/bootstrappolicy/controller_policy.go).
///
/// Exact names and not all of kube-system: add-ons live there as well, and people can create service accounts.
pub const CONTROLLERS: [&str; 45] = [
    "attachdetach-controller",
    "certificate-controller",
    "cloud-controller-manager",
    "clusterrole-aggregation-controller",
    "cronjob-controller",
    "daemon-set-controller",
    "deployment-controller",
    "device-taint-eviction-controller",
    "disruption-controller",
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
    "resourcequota-controller",
    "root-ca-cert-publisher",
    "route-controller",
    "selinux-warning-controller",
    "service-account-controller",
    "service-cidrs-controller",
    "service-controller",
    "statefulset-controller",
    "storage-version-garbage-collector",
    "storage-version-migrator-controller",
    "ttl-after-finished-controller",
    "ttl-controller",
    "validatingadmissionpolicy-status-controller",
    "volumeattributesclass-protection-controller",
];

/// Says who sent a write to `namespace`.
///
/// Most robots never reach us: the same names stand in the matchConditions that the webhook registers. This is the
/// second look, for what reaches us all the same.
pub fn classify(requester: &Requester, rules: &Rules, namespace: Option<&str>) -> Writer {
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
    if let Some(engine) = writers.engines.iter().find(|engine| named(&engine.users) && proven(engine.proof)) {
        return Writer::Engine(engine.name.clone());
    }
    let trusted = writers.trusted.iter().find(|trusted| {
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

fn is_control_plane(requester: &Requester) -> bool {
    let user = requester.user.as_str();
    let controller = user.strip_prefix(CONTROLLER_PREFIX).is_some_and(|name| CONTROLLERS.contains(&name));
    let node = user.starts_with(NODE_PREFIX) && requester.groups.iter().any(|group| group == NODE_GROUP);
    controller || node || COMPONENTS.contains(&user)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLUX: &str = "system:serviceaccount:flux-system:kustomize-controller";

    fn requester(user: &str, groups: &[&str], bound: bool) -> Requester {
        let extra = if bound { vec![(POD_NAME.to_owned(), vec!["some-pod".to_owned()])] } else { vec![] };
        Requester {
            user: user.to_owned(),
            uid: if bound { "7".to_owned() } else { String::new() },
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
            extra: extra.into_iter().collect(),
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
        let addon = format!("{CONTROLLER_PREFIX}my-controller");
        for (user, groups, bound, namespace, expected) in [
            ("alice@example.com", &["developers"][..], false, Some("prod"), Writer::Direct),
            ("admin", &["system:masters"], false, Some("prod"), Writer::Direct),
            ("admin", &["system:masters", OVERRIDE_GROUP], false, Some("prod"), trusted("override")),
            (FLUX, &[], true, Some("prod"), flux()),
            (FLUX, &[], false, Some("prod"), Writer::Direct),
            (WEBHOOK_USER, &[], true, None, Writer::Webhook),
            (WEBHOOK_USER, &[], false, None, Writer::Direct),
            (&controller, &[], false, Some("prod"), Writer::ControlPlane),
            (&addon, &[], true, Some("prod"), Writer::Direct),
            ("system:node:n1", &[NODE_GROUP], false, Some("prod"), Writer::ControlPlane),
            ("system:node:n1", &[], false, Some("prod"), Writer::Direct),
            ("system:apiserver", &[], false, None, Writer::ControlPlane),
            ("system:serviceaccount:ci:runner", &[], true, Some("team-a"), trusted("ci")),
            ("system:serviceaccount:ci:runner", &[], false, Some("team-a"), Writer::Direct),
            ("system:serviceaccount:ci:runner", &[], true, Some("prod"), Writer::Direct),
            ("system:serviceaccount:ci:runner", &[], true, None, Writer::Direct),
            ("r2", &["robots"], false, None, trusted("ops")),
        ] {
            assert_eq!(classify(&requester(user, groups, bound), &rules, namespace), expected, "{user} {groups:?}");
        }
    }
}
