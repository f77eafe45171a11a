//! What RBAC allows: roles and bindings as grants, and whether a grant gives a right. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use breakglass::glob;
use k8s_openapi::api::rbac::v1::{self, ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef};
use serde::Serialize;

/// The prefix of every service account's user name.
pub const ACCOUNT_PREFIX: &str = "system:serviceaccount:";

/// Everybody who is logged in.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Everybody who is not.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// All service accounts; with `:<namespace>` after it, those of a namespace.
pub const ACCOUNTS: &str = "system:serviceaccounts";

/// Whom a binding names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind")]
pub enum Subject {
    /// Its members.
    Group {
        /// Its name.
        name: String,
    },
    /// A program in the cluster.
    ServiceAccount {
        /// Where it lives.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A person, or a program outside.
    User {
        /// Its name.
        name: String,
    },
}

impl Subject {
    /// The group of that name.
    pub fn group(name: &str) -> Self {
        Self::Group { name: name.to_owned() }
    }

    /// The namespace whose service accounts are this group.
    pub fn home(&self) -> Option<&str> {
        match self {
            Self::Group { name } => home(name),
            Self::ServiceAccount { .. } | Self::User { .. } => None,
        }
    }

    fn read(subject: &v1::Subject, home: Option<&str>) -> Option<Self> {
        let name = subject.name.clone();
        let account = |namespace: &str, name: &str| Self::ServiceAccount {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        match subject.kind.as_str() {
            "Group" => Some(Self::Group { name }),
            "ServiceAccount" => Some(account(subject.namespace.as_deref().or(home)?, &name)),
            "User" => Some(match name.strip_prefix(ACCOUNT_PREFIX).and_then(|rest| rest.split_once(':')) {
                Some((namespace, name)) => account(namespace, name),
                None => Self::User { name },
            }),
            _ => None,
        }
    }

    /// The groups that the API server puts them in without being asked (kubernetes 1.36, apiserver
    /// pkg/authentication/group and pkg/authentication/serviceaccount/util.go).
    fn groups(&self) -> Vec<Self> {
        let names = match self {
            Self::ServiceAccount { namespace, .. } => {
                vec![format!("{ACCOUNTS}:{namespace}"), ACCOUNTS.to_owned(), AUTHENTICATED.to_owned()]
            }
            Self::User { name } if name == "system:anonymous" => vec![UNAUTHENTICATED.to_owned()],
            Self::User { .. } => vec![AUTHENTICATED.to_owned()],
            Self::Group { name } if name == AUTHENTICATED || name == UNAUTHENTICATED => vec![],
            Self::Group { name } if home(name).is_some() => vec![ACCOUNTS.to_owned(), AUTHENTICATED.to_owned()],
            Self::Group { .. } => vec![AUTHENTICATED.to_owned()],
        };
        names.into_iter().map(|name| Self::Group { name }).collect()
    }
}

fn home(group: &str) -> Option<&str> {
    group.strip_prefix(ACCOUNTS)?.strip_prefix(':')
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group { name } => {
                write!(f, "group {name}")?;
                match name.as_str() {
                    AUTHENTICATED => f.write_str(" (everybody who is logged in)"),
                    UNAUTHENTICATED => f.write_str(" (everybody who is not logged in)"),
                    ACCOUNTS => f.write_str(" (every service account)"),
                    _ => Ok(()),
                }
            }
            Self::ServiceAccount { namespace, name } => write!(f, "service account {namespace}/{name}"),
            Self::User { name } => write!(f, "user {name}"),
        }
    }
}

/// A role or a binding, by its names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Object {
    /// `ClusterRole`, `RoleBinding` and so on.
    pub kind: &'static str,
    /// Where it lives, if it lives in a namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// Through what somebody has a right.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Through {
    /// What names them.
    pub binding: Object,
    /// What it gives them.
    pub role: Object,
    /// Whether the binding names nobody else.
    #[serde(skip)]
    pub alone: bool,
}

impl fmt::Display for Through {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} → {} {}", self.binding, self.role.kind, self.role.name)
    }
}

/// All roles and bindings of a cluster. The rules of aggregated ClusterRoles are filled in by their controller already.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// Everywhere.
    pub cluster_roles: Vec<ClusterRole>,
    /// In their namespaces.
    pub roles: Vec<Role>,
    /// Everywhere.
    pub cluster_role_bindings: Vec<ClusterRoleBinding>,
    /// In their namespaces.
    pub role_bindings: Vec<RoleBinding>,
}

/// What one binding gives one subject.
#[derive(Debug)]
struct Grant {
    through: Through,
    rules: Arc<[PolicyRule]>,
}

/// Who was given what.
#[derive(Debug)]
pub struct Rbac(BTreeMap<Subject, Vec<Grant>>);

impl Rbac {
    /// Joins bindings with their roles. A binding to a role that is not there gives nothing.
    pub fn new(listed: Listed) -> Self {
        let mut roles: BTreeMap<Object, Arc<[PolicyRule]>> = BTreeMap::new();
        for role in listed.cluster_roles {
            let name = role.metadata.name.unwrap_or_default();
            let key = Object { kind: "ClusterRole", namespace: None, name };
            roles.insert(key, role.rules.unwrap_or_default().into());
        }
        for role in listed.roles {
            let name = role.metadata.name.unwrap_or_default();
            let key = Object { kind: "Role", namespace: role.metadata.namespace, name };
            roles.insert(key, role.rules.unwrap_or_default().into());
        }
        let everywhere = listed.cluster_role_bindings.into_iter().map(|binding| {
            let name = binding.metadata.name.unwrap_or_default();
            (Object { kind: "ClusterRoleBinding", namespace: None, name }, binding.role_ref, binding.subjects)
        });
        let somewhere = listed.role_bindings.into_iter().map(|binding| {
            let name = binding.metadata.name.unwrap_or_default();
            let namespace = binding.metadata.namespace;
            (Object { kind: "RoleBinding", namespace, name }, binding.role_ref, binding.subjects)
        });
        let mut grants: BTreeMap<Subject, Vec<Grant>> = BTreeMap::new();
        for (binding, role, subjects) in everywhere.chain(somewhere) {
            let role = role_of(&binding, role);
            let Some(rules) = roles.get(&role) else { continue };
            let subjects = subjects.unwrap_or_default();
            let through = Through { alone: subjects.len() == 1, binding, role };
            for subject in subjects {
                let Some(subject) = Subject::read(&subject, through.binding.namespace.as_deref()) else { continue };
                let grant = Grant { through: through.clone(), rules: Arc::clone(rules) };
                grants.entry(subject).or_default().push(grant);
            }
        }
        Self(grants)
    }

    /// Everybody whom a binding names.
    pub fn subjects(&self) -> impl Iterator<Item = &Subject> {
        self.0.keys()
    }

    /// What somebody was given, by name or as a member of the groups that the API server puts them in.
    pub fn of(&self, subject: &Subject) -> Holdings<'_> {
        let mut holdings = self.of_groups(subject);
        holdings.0.extend(self.0.get(subject).into_iter().flatten());
        holdings
    }

    /// Of this, what those groups were given: what is not the subject's own.
    pub fn of_groups(&self, subject: &Subject) -> Holdings<'_> {
        Holdings(subject.groups().iter().filter_map(|group| self.0.get(group)).flatten().collect())
    }
}

fn role_of(binding: &Object, role: RoleRef) -> Object {
    match role.kind.as_str() {
        "Role" => Object { kind: "Role", namespace: binding.namespace.clone(), name: role.name },
        _ => Object { kind: "ClusterRole", namespace: None, name: role.name },
    }
}

/// Which object a right is about.
#[derive(Clone, Copy, Debug)]
pub enum Named<'r> {
    /// The one of this name.
    Is(&'r str),
    /// One whose name looks like this.
    Like(&'r str),
    /// Whichever.
    Any,
    /// One that is yet to be made, whose name the API server does not know when it asks for the right.
    New,
}

/// Where a right holds.
#[derive(Clone, Copy, Debug)]
pub enum Place<'r> {
    /// For what lives in no namespace.
    Cluster,
    /// In the namespace of this name, or in any that looks like it.
    In(&'r str),
}

/// A right that somebody may have.
#[derive(Clone, Copy, Debug)]
pub struct Right<'r> {
    /// One of these is enough.
    pub verbs: &'r [&'r str],
    /// The API group.
    pub group: &'r str,
    /// `resource` or `resource/subresource`; with nothing after the slash, whichever subresource.
    pub resource: &'r str,
    /// Which object.
    pub named: Named<'r>,
    /// Where.
    pub place: Place<'r>,
}

/// What gives somebody a right, and nothing where they do not have it.
pub type Given<'a> = Option<BTreeSet<&'a Through>>;

/// All of these at once.
pub fn all<'a>(rights: impl IntoIterator<Item = Given<'a>>) -> Given<'a> {
    rights.into_iter().try_fold(BTreeSet::new(), |mut sum, right| {
        sum.extend(right?);
        Some(sum)
    })
}

/// At least one of these.
pub fn any<'a>(rights: impl IntoIterator<Item = Given<'a>>) -> Given<'a> {
    rights.into_iter().flatten().reduce(|mut sum, right| {
        sum.extend(right);
        sum
    })
}

/// What somebody was given.
#[derive(Debug)]
pub struct Holdings<'a>(Vec<&'a Grant>);

impl<'a> Holdings<'a> {
    /// What gives them this right.
    pub fn right(&self, right: Right<'_>) -> Given<'a> {
        let gives = |grant: &&&Grant| {
            let here = match (&grant.through.binding.namespace, right.place) {
                (None, _) => true,
                (Some(_), Place::Cluster) => false,
                (Some(namespace), Place::In(pattern)) => glob::matches(pattern, namespace),
            };
            here && grant.rules.iter().any(|rule| gives(rule, right))
        };
        self.through(gives)
    }

    /// What gives them every right, everywhere.
    pub fn every_right(&self) -> Given<'a> {
        self.through(|grant| grant.through.binding.namespace.is_none() && grant.rules.iter().any(gives_everything))
    }

    /// What gives them a verb that begins so, on anything that is no question of who somebody is.
    pub fn verb(&self, prefix: &str, except_group: &str) -> Given<'a> {
        self.through(|grant| {
            grant.rules.iter().any(|rule| {
                rule.verbs.iter().any(|verb| verb == "*" || verb.starts_with(prefix))
                    && rule.api_groups.iter().flatten().any(|group| group != except_group)
            })
        })
    }

    fn through(&self, gives: impl Fn(&&&'a Grant) -> bool) -> Given<'a> {
        let through: BTreeSet<_> = self.0.iter().filter(gives).map(|grant| &grant.through).collect();
        Some(through).filter(|through| !through.is_empty())
    }
}

/// As the API server matches a rule (kubernetes 1.36, pkg/apis/rbac/v1/evaluation_helpers.go): a `*` stands alone or before
/// a slash, and nowhere else.
fn gives(rule: &PolicyRule, right: Right<'_>) -> bool {
    let has = |values: &Option<Vec<String>>, value: &str| has(values.as_deref().unwrap_or_default(), value);
    let verb = |wanted: &str| has_verb(rule, wanted);
    let resource = rule.resources.iter().flatten().any(|resource| covers(resource, right.resource));
    if !resource || !has(&rule.api_groups, right.group) || !right.verbs.iter().any(|wanted| verb(wanted)) {
        return false;
    }
    let names = rule.resource_names.as_deref().unwrap_or_default();
    match right.named {
        _ if names.is_empty() => true,
        Named::Is(wanted) => names.iter().any(|name| name == wanted),
        Named::Like(pattern) => names.iter().any(|name| glob::matches(pattern, name)),
        Named::Any => true,
        // A POST names nothing, so that a rule with names does not fit it. A server-side apply names what it makes, and
        // needs both verbs (apiserver pkg/endpoints/handlers/patch.go).
        Named::New => verb("patch"),
    }
}

fn covers(resource: &str, wanted: &str) -> bool {
    if resource == "*" || resource == wanted {
        return true;
    }
    match wanted.split_once('/') {
        Some((_, "")) => resource.starts_with(wanted) || resource.starts_with("*/"),
        Some((_, subresource)) => resource.strip_prefix("*/") == Some(subresource),
        None => false,
    }
}

fn has_verb(rule: &PolicyRule, wanted: &str) -> bool {
    has(&rule.verbs, wanted)
}

fn has(values: &[String], wanted: &str) -> bool {
    values.iter().any(|value| value == "*" || value == wanted)
}

fn gives_everything(rule: &PolicyRule) -> bool {
    let star = |values: &Option<Vec<String>>| values.iter().flatten().any(|value| value == "*");
    let named = rule.resource_names.as_ref().is_some_and(|names| !names.is_empty());
    rule.verbs.iter().any(|verb| verb == "*") && star(&rule.api_groups) && star(&rule.resources) && !named
}
