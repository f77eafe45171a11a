//! What has to hold of every decision, against a second opinion that shares no code with the first: any write by anybody to
//! anywhere, under a policy near the built-in one, with any tokens.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::json;
use serde_json::value::RawValue;

use super::*;
use crate::api::BreakglassPolicySpec;
use crate::write::{Object, Requester, Resource};
use crate::writer::{CREDENTIAL_ID, POD_NAME, classify};

const USERS: [&str; 12] = [
    "alice@example.com",
    "bob@example.com",
    "admin",
    "system:serviceaccount:flux-system:kustomize-controller",
    "system:serviceaccount:flux-system:source-controller",
    "system:serviceaccount:dev:kustomize-controller",
    "system:serviceaccount:kube-system:deployment-controller",
    "system:serviceaccount:kube-system:coredns",
    "system:serviceaccount:breakglass-system:breakglass-webhook",
    "system:node:n1",
    "system:kube-scheduler",
    "system:apiserver",
];

const GROUPS: [&str; 4] = ["system:masters", "system:nodes", "breakglass.dev:override", "developers"];

const NAMESPACES: [&str; 12] = [
    "prod",
    "production",
    "prod-eu",
    "shop-prod",
    "staging",
    "flux-system",
    "breakglass-system",
    "team-a",
    "team-b",
    "kube-system",
    "product",
    "reprod",
];

const LABELS: [&str; 5] = ["", "prod", "staging", "Prod", "dev"];

/// The group of an engine's own objects.
const ENGINE_GROUP: &str = "kustomize.toolkit.fluxcd.io";

/// Group, plural, subresource.
const RESOURCES: [(&str, &str, &str); 16] = [
    ("", "configmaps", ""),
    ("", "secrets", ""),
    ("", "pods", "exec"),
    ("", "pods", "eviction"),
    ("", "pods", "ephemeralcontainers"),
    ("", "pods", "status"),
    ("", "serviceaccounts", ""),
    ("", "serviceaccounts", "token"),
    ("", "namespaces", ""),
    ("", "namespaces", "status"),
    ("apps", "deployments", ""),
    ("apps", "deployments", "scale"),
    (ENGINE_GROUP, "kustomizations", ""),
    (ENGINE_GROUP, "kustomizations", "status"),
    ("argoproj.io", "rollouts", ""),
    ("fuzz.example.com", "gadgets", ""),
];

/// The names that a write may give its object; for a token request, that of the account.
const NAMES: [&str; 4] = ["api", "kustomize-controller", "deployment-controller", "breakglass-webhook"];

/// A token, as far as it decides. Times are minutes from now.
#[derive(Clone, Debug)]
struct Opened {
    user: &'static str,
    environment: &'static str,
    namespaces: Vec<&'static str>,
    opened: i64,
    expires: i64,
    phase: Option<&'static str>,
    closed: bool,
}

impl Opened {
    fn any() -> impl Strategy<Value = Self> {
        let whose = (select(&USERS[..4]), select(&["prod", "staging", "platform", "cluster"][..]));
        let phase = proptest::option::of(select(&["Pending", "Active", "Expired", "Closed", "Denied"][..]));
        // The moments at which something changes more often than any other.
        let opened = prop_oneof![select(&[4_i64, 5, 6][..]), -200..20_i64];
        let expires = prop_oneof![select(&[-1_i64, 0, 1][..]), -100..200_i64];
        let when = (opened, expires, phase, prop::bool::weighted(0.1));
        (whose, subsequence(&NAMESPACES[..], 0..=2), when).prop_map(|(whose, namespaces, when)| Self {
            user: whose.0,
            environment: whose.1,
            namespaces,
            opened: when.0,
            expires: when.1,
            phase: when.2,
            closed: when.3,
        })
    }

    fn token(&self, name: String) -> BreakglassToken {
        let at = |minutes: i64| (now() + chrono::TimeDelta::minutes(minutes)).format("%Y-%m-%dT%H:%M:%SZ").to_string();
        let closed_at = self.closed.then(|| at(-1));
        serde_json::from_value(json!({
            "apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassToken", "metadata": {"name": name},
            "spec": {"incident": "INC-1", "reason": "r", "user": self.user, "environment": self.environment,
                "namespaces": self.namespaces, "openedAt": at(self.opened), "expiresAt": at(self.expires)},
            "status": {"phase": self.phase, "closedAt": closed_at},
        }))
        .unwrap()
    }

    /// Whether it lets `user` write there now. A phase says nothing but that it is over.
    fn is_good(&self, user: &str, environment: &str, namespace: Option<&str>) -> bool {
        let over = self.closed || matches!(self.phase, Some("Closed" | "Denied"));
        // Clocks may disagree by five minutes.
        let lives = !over && self.expires > 0 && self.opened <= 5;
        let reaches = self.namespaces.is_empty() || namespace.is_some_and(|name| self.namespaces.contains(&name));
        lives && reaches && self.user == user && self.environment == environment
    }
}

/// Everything that one decision rests on, in words.
#[derive(Clone, Debug)]
struct Case {
    verb: Verb,
    resource: (&'static str, &'static str, &'static str),
    namespace: Option<&'static str>,
    name: &'static str,
    user: &'static str,
    groups: Vec<&'static str>,
    uid: bool,
    extra: Vec<&'static str>,
    dry_run: bool,
    /// The environment label of the namespace; of a Namespace object, before and after as well.
    labels: [&'static str; 3],
    /// Whether the write changes an annotation.
    annotates: bool,
    cluster_scoped: &'static str,
    exec: Option<&'static str>,
    except: bool,
    tokens: Vec<Opened>,
}

impl Case {
    fn any() -> impl Strategy<Value = Self> {
        let verb = select(&[Verb::Create, Verb::Update, Verb::Delete, Verb::Connect][..]);
        let namespace = proptest::option::weighted(0.9, select(&NAMESPACES[..]));
        let what = (verb, select(&RESOURCES[..]), namespace, select(&NAMES[..]));
        let extra = subsequence(vec![CREDENTIAL_ID, POD_NAME], 0..=2);
        let who = (select(&USERS[..]), subsequence(&GROUPS[..], 0..=2), any::<bool>(), extra);
        let label = || select(&LABELS[..]);
        let how = (any::<bool>(), [label(), label(), label()], any::<bool>());
        let exec = proptest::option::of(select(&["RequireToken", "Stamp"][..]));
        let policy = (select(&["Stamp", "RequireToken", "Ignore"][..]), exec, any::<bool>());
        let tokens = prop::collection::vec(Opened::any(), 0..6);
        (what, who, how, policy, tokens).prop_map(|(what, who, how, policy, tokens)| Self {
            verb: what.0,
            resource: what.1,
            // A Namespace is in itself.
            namespace: what.2.or((what.1.1 == "namespaces").then_some("prod")),
            name: what.3,
            user: who.0,
            groups: who.1,
            uid: who.2,
            extra: who.3,
            dry_run: how.0,
            labels: how.1,
            annotates: how.2,
            cluster_scoped: policy.0,
            exec: policy.1,
            except: policy.2,
            tokens,
        })
    }

    /// Hands over the decision, and the token that admits, if one does.
    fn decide(&self) -> (&'static str, Option<usize>) {
        let rules = self.rules();
        let tokens: Vec<_> =
            self.tokens.iter().enumerate().map(|(index, token)| token.token(index.to_string())).collect();
        let [before, after] = [(self.labels[1], false), (self.labels[2], self.annotates)].map(|(label, annotates)| {
            let label = if self.is_namespace() { label } else { "" };
            let annotations = if annotates { json!({"note": "mine"}) } else { json!({}) };
            let metadata = json!({"name": "api", "labels": labels(label), "annotations": annotations});
            serde_json::from_str::<Box<RawValue>>(&json!({"metadata": metadata}).to_string()).unwrap()
        });
        let (group, plural, subresource) = self.resource;
        let write = Write {
            verb: self.verb,
            resource: Resource {
                group: group.to_owned(),
                version: "v1".to_owned(),
                plural: plural.to_owned(),
                kind: "Thing".to_owned(),
                subresource: Some(subresource.to_owned()).filter(|name| !name.is_empty()),
            },
            namespace: self.namespace.map(str::to_owned),
            name: self.name.to_owned(),
            requester: Requester {
                user: self.user.to_owned(),
                uid: if self.uid { "7".to_owned() } else { String::new() },
                groups: self.groups.iter().map(|&group| group.to_owned()).collect(),
                extra: self.extra.iter().map(|&key| (key.to_owned(), vec!["x".to_owned()])).collect(),
            },
            before: matches!(self.verb, Verb::Update | Verb::Delete).then(|| Object::new(&before)),
            after: matches!(self.verb, Verb::Create | Verb::Update).then(|| Object::new(&after)),
            dry_run: self.dry_run,
            manager: "any".to_owned(),
        };
        let labels = labels(self.labels[0]);
        let known = Known { rules: &rules, namespace_labels: &labels, tokens: &tokens, now: now() };
        let decision = decide(&write, &classify(&write, &rules), known);
        let token = match &decision {
            Decision::Admit { token, .. } => token.metadata.name.as_ref().map(|name| name.parse().unwrap()),
            _ => None,
        };
        (decision.as_str(), token)
    }

    fn rules(&self) -> Rules {
        let mut spec = BreakglassPolicySpec::default();
        fn gate(name: &str) -> Gate {
            serde_json::from_value(json!(name)).unwrap()
        }
        spec.cluster_scoped = gate(self.cluster_scoped);
        spec.environments[0].exec = self.exec.map(gate);
        spec.engine_objects.except_namespaces = self.except.then(|| "team-b".to_owned()).into_iter().collect();
        Rules::new(spec).unwrap()
    }

    fn is_namespace(&self) -> bool {
        self.resource.1 == "namespaces"
    }

    fn is_engine_object(&self) -> bool {
        self.resource.0 == ENGINE_GROUP && !(self.except && self.namespace == Some("team-b"))
    }

    fn is_token_request(&self) -> bool {
        (self.resource.1, self.resource.2) == ("serviceaccounts", "token")
    }

    /// Whether somebody wrote who has proven to be a robot that may.
    fn is_robot(&self) -> bool {
        let is_in = |group: &str| self.groups.contains(&group);
        let [minted, bound] = [CREDENTIAL_ID, POD_NAME].map(|key| self.extra.contains(&key));
        let proven = match self.user {
            "system:serviceaccount:flux-system:kustomize-controller" => self.uid && bound,
            "system:serviceaccount:breakglass-system:breakglass-webhook" => self.uid && bound,
            "system:serviceaccount:flux-system:source-controller" => {
                self.uid && bound && self.resource.0.ends_with(".toolkit.fluxcd.io")
            }
            "system:serviceaccount:kube-system:deployment-controller" => self.uid && minted && !bound,
            "system:node:n1" => is_in("system:nodes") && !self.extra.is_empty(),
            "system:kube-scheduler" => !self.extra.is_empty(),
            "system:apiserver" => is_in("system:masters") && self.uid,
            _ => false,
        };
        proven || is_in("breakglass.dev:override")
    }

    /// Whether a service account wrote the status of something and nothing else. What engines keep is theirs to write, in
    /// whatever namespace.
    fn is_status_alone(&self) -> bool {
        let account =
            self.user.starts_with("system:serviceaccount:") && self.uid && self.extra.contains(&CREDENTIAL_ID);
        let same = !self.annotates && (!self.is_namespace() || labels(self.labels[1]) == labels(self.labels[2]));
        account && self.verb == Verb::Update && self.resource.2 == "status" && same && self.resource.0 != ENGINE_GROUP
    }

    /// The environment that a token has to be for; `None` where none is asked for.
    fn asks_for(&self) -> Option<&'static str> {
        let connects = self.verb == Verb::Connect || self.resource.2 == "ephemeralcontainers";
        let exec_is_guarded = self.exec != Some("Stamp");
        if self.is_engine_object() {
            return Some("platform");
        }
        let Some(namespace) = self.namespace else {
            // Through what lives in no namespace, pods of every environment are reached: staging's at least.
            let guarded = if connects { true } else { self.cluster_scoped == "RequireToken" };
            return match self.is_token_request() {
                true => None,
                false => guarded.then_some("cluster"),
            };
        };
        let own = match self.is_namespace() {
            true => self.sides().into_iter().flatten().min_by_key(|name| place(name)),
            false => environment(namespace, self.labels[0]),
        };
        if self.is_token_request() {
            let exempt = [
                ("flux-system", "kustomize-controller"),
                ("kube-system", "deployment-controller"),
                ("breakglass-system", "breakglass-webhook"),
            ];
            return exempt.contains(&(namespace, self.name)).then(|| own.unwrap_or("platform"));
        }
        own.filter(|own| !connects || *own != "prod" || exec_is_guarded)
    }

    /// The environments of a Namespace object as it is and as it would be; of what has neither, that of its namespace.
    fn sides(&self) -> Vec<Option<&'static str>> {
        let namespace = self.namespace.unwrap_or_default();
        let [known, before, after] = self.labels.map(|label| environment(namespace, label));
        match (self.verb, self.resource.2) {
            (Verb::Create, "") => vec![after],
            (Verb::Update, _) => vec![before, after],
            (Verb::Delete, "") => vec![before],
            _ => vec![known],
        }
    }
}

/// What the built-in policy guards, by name and by label, in its order.
fn environment(namespace: &str, label: &str) -> Option<&'static str> {
    let named = |names: [&str; 2]| {
        names.iter().any(|name| {
            namespace == *name
                || namespace.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'))
                || namespace.strip_suffix(name).is_some_and(|rest| rest.ends_with('-'))
        })
    };
    if named(["prod", "production"]) || label == "prod" {
        Some("prod")
    } else if named(["staging", "staging"]) || namespace == "stage" || label == "staging" {
        Some("staging")
    } else {
        ["flux-system", "argocd", "breakglass-system"].contains(&namespace).then_some("platform")
    }
}

/// Where the policy names it.
fn place(environment: &str) -> usize {
    ["prod", "staging", "platform"].iter().position(|name| *name == environment).unwrap_or(usize::MAX)
}

fn labels(environment: &str) -> BTreeMap<String, String> {
    let label = Some(environment).filter(|value| !value.is_empty());
    label.map(|value| (crate::api::ENVIRONMENT_LABEL.to_owned(), value.to_owned())).into_iter().collect()
}

fn now() -> DateTime<Utc> {
    "2026-11-20T12:00:00Z".parse().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4_000) })]

    /// S-09, K-01: whoever has not proven to be a robot writes to a guarded environment under a token that lives, is their
    /// own, is for that environment and reaches that namespace, or not at all; and with such a token they do.
    #[test]
    fn nothing_is_let_in_without_a_token_of_its_own_and_everything_is_with_one(case in Case::any()) {
        let (decision, token) = case.decide();
        let free = case.is_robot() || case.is_status_alone();
        let good = |environment: &str| -> Vec<usize> {
            let tokens = case.tokens.iter().enumerate();
            let good = tokens.filter(|(_, token)| token.is_good(case.user, environment, case.namespace));
            good.map(|(index, _)| index).collect()
        };
        match case.asks_for().filter(|_| !free) {
            None => prop_assert!(["Pass", "Leave", "Note"].contains(&decision), "{decision}"),
            Some(environment) => {
                let good = good(environment);
                let expected = match good.is_empty() {
                    false => "Admit",
                    // A token that was asked for as a rehearsal is a token all the same.
                    true if case.dry_run && !case.is_token_request() => "Rehearse",
                    true => "Refuse",
                };
                prop_assert_eq!(decision, expected, "{}", environment);
                prop_assert!(token.is_none_or(|token| good.contains(&token)));
            }
        }
    }
}
