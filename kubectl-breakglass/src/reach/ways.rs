//! The rights that each way to an identity takes.
//!
//! What the API server asks for when somebody impersonates: kubernetes 1.36, apiserver pkg/endpoints/filters/impersonation.

use std::collections::{BTreeMap, BTreeSet};

use breakglass::writer::{CREDENTIAL_ID, NODE_GROUP, NODE_PREFIX, POD_NAME};
use serde::Serialize;

use super::MASTERS;
use crate::identities::{Identity, Proof, Who};
use crate::rbac::{Given, Holdings, Named, Place, Right, Through, all, any};

/// The group of uids and extras, and of all names where impersonation is constrained.
const AUTHENTICATION: &str = "authentication.k8s.io";
const CERTIFICATES: &str = "certificates.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";

/// Who signs certificates that the API server takes for a login: anybody's, and kubelets'. A role may name both by the last.
const ANYBODYS_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
const KUBELETS_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const EVERY_SIGNER: &str = "kubernetes.io/*";

/// What makes pods, and the verbs that have it make some of one's own. A Job's pods cannot be changed once it is made.
const WORKLOADS: [(&str, &str, &[&str]); 8] = [
    ("", "pods", &["create"]),
    ("batch", "jobs", &["create"]),
    ("batch", "cronjobs", &["create", "update", "patch"]),
    ("apps", "daemonsets", &["create", "update", "patch"]),
    ("apps", "deployments", &["create", "update", "patch"]),
    ("apps", "replicasets", &["create", "update", "patch"]),
    ("apps", "statefulsets", &["create", "update", "patch"]),
    ("", "replicationcontrollers", &["create", "update", "patch"]),
];

/// One way to obtain an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Way {
    /// Impersonate its name, and whatever proves that it is really it.
    Impersonate,
    /// Have tokens of it made.
    MintTokens,
    /// Start pods that run as it.
    RunPods,
    /// Enter the pods that run as it.
    EnterPods,
    /// Read the Secrets that hold its tokens.
    ReadSecrets,
    /// Approve a certificate with its name.
    ApproveCertificates,
    /// Become a new one of them.
    Join,
    /// Impersonate its name alone, without the proof.
    ImpersonateName,
}

/// The ways, and through what each is open.
pub type Ways<'a> = BTreeMap<Way, BTreeSet<&'a Through>>;

/// How somebody has every right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Power {
    /// They were given it.
    EveryRight,
    /// They may act as a member of system:masters.
    ActAsMasters,
    /// They may bind cluster-admin, to themselves too.
    BindRoles,
    /// They may write rights into a role that they do not have.
    EscalateRoles,
}

/// The ways that are open to who has this.
pub(super) fn ways<'a>(has: &Holdings<'a>, identity: &Identity) -> Ways<'a> {
    let (proven, name) = impersonate(has, identity);
    let proof = identity.proof;
    let of_account = match &identity.who {
        Who::Account { namespace, name } => {
            let place = Place::In(namespace);
            vec![
                (Way::MintTokens, has.right(mint(name, place))),
                (Way::RunPods, run_pods(has, place).filter(|_| proof.is_held_by_pods())),
                (Way::EnterPods, enter_pods(has, place).filter(|_| proof.is_held_by_pods())),
                // Such a token has a uid, but neither a pod nor a name of its own (pkg/serviceaccount/legacy.go).
                (Way::ReadSecrets, read_secrets(has, place).filter(|_| proof == Proof::Name)),
            ]
        }
        Who::Node => vec![(Way::Join, join(has))],
        Who::User(_) | Who::Group(_) => vec![],
    };
    let of_all = [
        (Way::Impersonate, proven),
        (Way::ImpersonateName, name),
        (Way::ApproveCertificates, approve(has, &identity.who).filter(|_| proof.is_held_by_certificates())),
    ];
    of_account.into_iter().chain(of_all).filter_map(|(way, given)| Some((way, given?))).collect()
}

/// Whether who has this has every right, or can give it to themselves.
pub(super) fn power<'a>(has: &Holdings<'a>) -> Option<(Power, BTreeSet<&'a Through>)> {
    let roles =
        |verbs, resource, named| has.right(Right { verbs, group: RBAC, resource, named, place: Place::Cluster });
    let bind = || {
        let binding = any([
            roles(&["create"], "clusterrolebindings", Named::New),
            roles(&["update", "patch"], "clusterrolebindings", Named::Any),
        ]);
        all([roles(&["bind"], "clusterroles", Named::Is("cluster-admin")), binding])
    };
    let escalate = || {
        let named = Named::Any;
        all([roles(&["escalate"], "clusterroles", named), roles(&["update", "patch"], "clusterroles", named)])
    };
    // Constrained impersonation knows no system:masters.
    let act = || take_name(has, &Who::Group(MASTERS.to_owned()), PLAIN);
    has.every_right()
        .map(|through| (Power::EveryRight, through))
        .or_else(|| act().map(|through| (Power::ActAsMasters, through)))
        .or_else(|| bind().map(|through| (Power::BindRoles, through)))
        .or_else(|| escalate().map(|through| (Power::EscalateRoles, through)))
}

/// One of the verbs of impersonation.
#[derive(Clone, Copy)]
struct Mode {
    verb: &'static str,
    /// The group of users, groups and service accounts.
    group: &'static str,
    /// The start of the verbs that say what may be done in another's name; nothing where that is not asked.
    on: Option<&'static str>,
    /// Whether it can say more than a name.
    more: bool,
}

const PLAIN: Mode = Mode { verb: "impersonate", group: "", on: None, more: true };
const OF_ACCOUNTS: Mode = Mode {
    verb: "impersonate:serviceaccount",
    group: AUTHENTICATION,
    on: Some("impersonate-on:serviceaccount:"),
    more: false,
};
const OF_NODES: Mode = Mode {
    verb: "impersonate:arbitrary-node",
    group: AUTHENTICATION,
    on: Some("impersonate-on:arbitrary-node:"),
    more: false,
};
const OF_OTHERS: Mode =
    Mode { verb: "impersonate:user-info", group: AUTHENTICATION, on: Some("impersonate-on:user-info:"), more: true };

/// With its proof, and without.
fn impersonate<'a>(has: &Holdings<'a>, identity: &Identity) -> (Given<'a>, Given<'a>) {
    let constrained = match identity.who {
        Who::Account { .. } => OF_ACCOUNTS,
        Who::Node => OF_NODES,
        Who::User(_) | Who::Group(_) => OF_OTHERS,
    };
    let ways = [PLAIN, constrained].map(|mode| {
        let acts = mode.on.map_or(Some(BTreeSet::new()), |prefix| has.verb(prefix, AUTHENTICATION));
        let name = all([take_name(has, &identity.who, mode), acts]);
        let proven = name.clone().and_then(|name| all([Some(name), prove(has, identity.proof, mode)]));
        (proven, name)
    });
    let [plain, constrained] = ways;
    (any([plain.0, constrained.0]), any([plain.1, constrained.1]))
}

fn take_name<'a>(has: &Holdings<'a>, who: &Who, mode: Mode) -> Given<'a> {
    let take =
        |resource, named, place| has.right(Right { verbs: &[mode.verb], group: mode.group, resource, named, place });
    match who {
        Who::Account { namespace, name } => take("serviceaccounts", Named::Like(name), Place::In(namespace)),
        Who::User(name) => take("users", Named::Like(name), Place::Cluster),
        // A group is taken together with a name, whichever.
        Who::Group(name) => all([
            take("groups", Named::Is(name), Place::Cluster),
            any([
                take("users", Named::Any, Place::Cluster),
                take("serviceaccounts", Named::Any, Place::In("*")).filter(|_| mode.on.is_none()),
            ]),
        ]),
        Who::Node if mode.on.is_some() => take("nodes", Named::Any, Place::Cluster),
        Who::Node => {
            let name = format!("{NODE_PREFIX}*");
            let user = take("users", Named::Like(&name), Place::Cluster);
            all([user, take("groups", Named::Is(NODE_GROUP), Place::Cluster)])
        }
    }
}

fn prove<'a>(has: &Holdings<'a>, proof: Proof, mode: Mode) -> Given<'a> {
    let take = |resource: &str| {
        let right =
            Right { verbs: &[mode.verb], group: AUTHENTICATION, resource, named: Named::Any, place: Place::Cluster };
        has.right(right).filter(|_| mode.more)
    };
    match proof {
        Proof::Name => Some(BTreeSet::new()),
        Proof::Pod => all([take("uids"), take(&format!("userextras/{POD_NAME}"))]),
        Proof::Credential | Proof::CredentialOrPod => all([take("uids"), take(&format!("userextras/{CREDENTIAL_ID}"))]),
        Proof::Extra => take("userextras/"),
    }
}

/// A token may be bound to any pod of the service account (pkg/registry/core/serviceaccount/storage/token.go), so that it
/// proves whatever the account's own would.
fn mint<'r>(name: &'r str, place: Place<'r>) -> Right<'r> {
    let named = Named::Like(name);
    Right { verbs: &["create"], group: "", resource: "serviceaccounts/token", named, place }
}

fn run_pods<'a>(has: &Holdings<'a>, place: Place<'_>) -> Given<'a> {
    any(WORKLOADS.map(|(group, resource, verbs)| {
        let (create, change): (Vec<&str>, Vec<&str>) = verbs.iter().partition(|verb| **verb == "create");
        let new = has.right(Right { verbs: &create, group, resource, named: Named::New, place });
        any([new, has.right(Right { verbs: &change, group, resource, named: Named::Any, place })])
    }))
}

/// A GET was enough for `exec` before kubernetes 1.35, and still is through a kubelet, where the right is `nodes/proxy`.
fn enter_pods<'a>(has: &Holdings<'a>, place: Place<'_>) -> Given<'a> {
    let right = |verbs, resource, place| has.right(Right { verbs, group: "", resource, named: Named::Any, place });
    any([
        right(&["create", "get"], "pods/exec", place),
        right(&["update", "patch"], "pods/ephemeralcontainers", place),
        right(&["create", "get"], "nodes/proxy", Place::Cluster),
    ])
}

fn read_secrets<'a>(has: &Holdings<'a>, place: Place<'_>) -> Given<'a> {
    let verbs = &["get", "list", "watch"];
    has.right(Right { verbs, group: "", resource: "secrets", named: Named::Any, place })
}

/// Approving asks for the signer by name, and for the right to write the approval (pkg/certauthorization).
fn approve<'a>(has: &Holdings<'a>, who: &Who) -> Given<'a> {
    let right = |verbs, resource, named| {
        has.right(Right { verbs, group: CERTIFICATES, resource, named, place: Place::Cluster })
    };
    let signer = |name| right(&["approve"], "signers", Named::Is(name));
    let kubelets = signer(KUBELETS_SIGNER).filter(|_| *who == Who::Node);
    all([
        any([signer(ANYBODYS_SIGNER), signer(EVERY_SIGNER), kubelets]),
        right(&["update", "patch"], "certificatesigningrequests/approval", Named::Any),
    ])
}

/// A controller approves the certificates of those who may become nodes (pkg/controller/certificates/approver/sarapprove.go).
fn join<'a>(has: &Holdings<'a>) -> Given<'a> {
    let create = |resource| {
        has.right(Right { verbs: &["create"], group: CERTIFICATES, resource, named: Named::New, place: Place::Cluster })
    };
    all([create("certificatesigningrequests/nodeclient"), create("certificatesigningrequests")])
}
