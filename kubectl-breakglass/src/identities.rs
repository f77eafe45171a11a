//! Whom breakglass lets write untouched, and what proves that it is really them. Pure.

use breakglass::api::{OVERRIDE_GROUP, Proof as PolicyProof};
use breakglass::glob::matches;
use breakglass::rules::Rules;
use breakglass::writer::{
    CLOUD_CONTROLLER_MANAGER, COMPONENTS, CONTROLLER_PREFIX, CONTROLLERS, NODE_GROUP, NODE_PREFIX, WEBHOOK_USER,
};

use crate::rbac::{ACCOUNT_PREFIX, ACCOUNTS, Subject};

/// Somebody who writes untouched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What they are part of, and what all of them have in common: an engine's name, `controllers` and the like.
    pub family: String,
    /// Their name. It may end in a star, as in the policy.
    pub who: Who,
    /// What the webhook demands besides the name.
    pub proof: Proof,
    /// What they are to breakglass.
    pub class: Class,
}

/// A name, as RBAC tells names apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// A service account.
    Account {
        /// Where it lives.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Another user.
    User(String),
    /// The members of a group.
    Group(String),
    /// A kubelet.
    Node,
}

/// What the webhook demands besides the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Nothing.
    Name,
    /// A uid, and the pod that the credential is bound to.
    Pod,
    /// A uid, and a credential that is bound to no pod, as a controller's token is.
    Credential,
    /// A uid and a credential, of a pod or not.
    CredentialOrPod,
    /// A credential of any kind.
    Extra,
}

impl Proof {
    /// Whether a credential that a pod holds is good for it.
    pub fn is_held_by_pods(self) -> bool {
        match self {
            Self::Name | Self::Pod | Self::CredentialOrPod | Self::Extra => true,
            Self::Credential => false,
        }
    }

    /// Whether a client certificate is good for it. It may name any user and any group, but no pod; and the signer of
    /// Kubernetes leaves a uid out (kubernetes 1.36, pkg/controller/certificates/authority/authority.go).
    pub fn is_held_by_certificates(self) -> bool {
        matches!(self, Self::Name | Self::Extra)
    }
}

/// What somebody is to breakglass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A part of Kubernetes.
    ControlPlane,
    /// A GitOps engine: what else lives in its namespace is part of it.
    Engine,
    /// Automation that the policy trusts everywhere.
    Trusted,
    /// Automation that the policy trusts in some namespaces, and that could gain the others.
    Narrowed,
    /// The webhook.
    Webhook,
    /// The group that skips the webhook: nobody is in it.
    Override,
}

impl Identity {
    /// The name as the API server knows it.
    pub fn name(&self) -> String {
        match &self.who {
            Who::Account { namespace, name } => format!("{ACCOUNT_PREFIX}{namespace}:{name}"),
            Who::User(name) | Who::Group(name) => name.clone(),
            Who::Node => format!("{NODE_PREFIX}*"),
        }
    }

    /// The name without what its family says already.
    pub fn short(&self) -> String {
        match &self.who {
            Who::Account { name, .. } => name.clone(),
            Who::User(_) | Who::Group(_) | Who::Node => self.name(),
        }
    }

    /// Whether this subject is them.
    pub fn is(&self, subject: &Subject) -> bool {
        match (&self.who, subject) {
            (Who::Account { namespace, name }, Subject::ServiceAccount { namespace: home, name: account }) => {
                matches(namespace, home) && matches(name, account)
            }
            (Who::User(pattern), Subject::User { name }) => matches(pattern, name),
            (Who::Group(group), Subject::Group { name }) => group == name,
            (Who::Node, Subject::User { name }) => name.starts_with(NODE_PREFIX),
            (Who::Node, Subject::Group { name }) => name == NODE_GROUP,
            _ => false,
        }
    }

    /// Whether this subject gains nothing by obtaining any of us: it is one already, or it is part of an engine.
    pub fn covers(&self, subject: &Subject) -> bool {
        match self.class {
            Class::Narrowed => false,
            Class::Engine => self.is(subject) || self.lives_with(subject),
            Class::ControlPlane | Class::Trusted | Class::Webhook | Class::Override => self.is(subject),
        }
    }

    fn lives_with(&self, subject: &Subject) -> bool {
        let Who::Account { namespace, .. } = &self.who else { return false };
        let home = match subject {
            Subject::ServiceAccount { namespace, .. } => Some(namespace.as_str()),
            Subject::Group { .. } | Subject::User { .. } => subject.home(),
        };
        home.is_some_and(|home| matches(namespace, home))
    }
}

/// Everybody who writes untouched under this policy.
pub fn exempt(rules: &Rules) -> Vec<Identity> {
    let mut identities = Vec::new();
    let mut add = |family: &str, class, proof, whos: Vec<Who>| {
        let family = family.to_owned();
        identities.extend(whos.into_iter().map(|who| Identity { family: family.clone(), who, proof, class }));
    };
    let users = |patterns: &[String]| patterns.iter().flat_map(|pattern| user(pattern)).collect::<Vec<_>>();
    let writers = &rules.spec().writers;
    for engine in &writers.engines {
        add(&engine.name, Class::Engine, proof(engine.proof), users(&engine.users));
        // They say what the engine applies.
        add(&engine.name, Class::Engine, proof(engine.proof), users(&engine.keepers));
    }
    for trusted in &writers.trusted {
        let class = if trusted.namespaces.is_empty() { Class::Trusted } else { Class::Narrowed };
        let mut whos = users(&trusted.users);
        whos.extend(trusted.groups.iter().flat_map(|name| group(name)));
        add(&trusted.name, class, proof(trusted.proof), whos);
    }
    add("webhook", Class::Webhook, Proof::Pod, user(WEBHOOK_USER));
    add("override", Class::Override, Proof::Name, vec![Who::Group(OVERRIDE_GROUP.to_owned())]);
    for name in CONTROLLERS.iter().filter(|name| **name != CLOUD_CONTROLLER_MANAGER) {
        add("controllers", Class::ControlPlane, Proof::Credential, user(&format!("{CONTROLLER_PREFIX}{name}")));
    }
    let cloud = user(&format!("{CONTROLLER_PREFIX}{CLOUD_CONTROLLER_MANAGER}"));
    add(CLOUD_CONTROLLER_MANAGER, Class::ControlPlane, Proof::CredentialOrPod, cloud);
    let components = COMPONENTS.map(|name| Who::User(name.to_owned())).into();
    add("components", Class::ControlPlane, Proof::Extra, components);
    add("nodes", Class::ControlPlane, Proof::Extra, vec![Who::Node]);
    identities
}

fn proof(proof: PolicyProof) -> Proof {
    match proof {
        PolicyProof::PodBound => Proof::Pod,
        PolicyProof::Username => Proof::Name,
    }
}

/// A user of the policy: exact, or a prefix and a star. A short prefix takes in service accounts as well as others.
fn user(pattern: &str) -> Vec<Who> {
    let account = |namespace: &str, name: &str| Who::Account { namespace: namespace.to_owned(), name: name.to_owned() };
    if let Some(rest) = pattern.strip_prefix(ACCOUNT_PREFIX) {
        return vec![match rest.split_once(':') {
            Some((namespace, name)) => account(namespace, name),
            None => account(rest, "*"),
        }];
    }
    let mut whos = vec![Who::User(pattern.to_owned())];
    if pattern.strip_suffix('*').is_some_and(|prefix| ACCOUNT_PREFIX.starts_with(prefix)) {
        whos.push(account("*", "*"));
    }
    whos
}

/// A group by name, and who is in it without being put there: service accounts are in groups of their own.
pub fn group(name: &str) -> Vec<Who> {
    let mut whos = vec![Who::Group(name.to_owned())];
    if let Some(rest) = name.strip_prefix(ACCOUNTS) {
        let namespace = rest.strip_prefix(':').unwrap_or("*").to_owned();
        whos.push(Who::Account { namespace, name: "*".to_owned() });
    }
    whos
}
