//! Rules: a policy that has been read once, checked, and can answer.

use std::collections::BTreeMap;

use regex::Regex;

use crate::api::{
    BreakglassPolicySpec, DebtRules, ENVIRONMENT_LABEL, Environment, Exemption, Gate, Redaction, Span, TokenRules,
};
use crate::glob;

/// The environment that a token for cluster-scoped objects names, where the policy demands one.
pub const CLUSTER_ENVIRONMENT: &str = "cluster";

/// The largest compiled size of an incident pattern: enough for any id, too small to cost memory.
const PATTERN_SIZE_LIMIT: usize = 1 << 16;

/// A policy in force: the spec as written, with its patterns compiled and its contradictions refused.
#[derive(Clone, Debug)]
pub struct Rules {
    spec: BreakglassPolicySpec,
    incident: Regex,
    /// Stands in for an environment where objects live in no namespace, so that they follow the same path.
    cluster: Environment,
    /// Stands in for one where no environment of the policy matches: stamped, never refused.
    elsewhere: Environment,
    /// Stands in for the environment of engine objects where the policy lists none of that name.
    engine_objects: Environment,
}

/// Why a policy is not honoured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// The incident pattern is no regular expression.
    #[error("spec.incidentPattern is not a regular expression: {0}")]
    IncidentPattern(String),
    /// Two environments have one name.
    #[error("spec.environments: {0:?} is there twice; a token could not say which it is for")]
    EnvironmentTwice(String),
    /// The name is ours.
    #[error("spec.environments: the name {CLUSTER_ENVIRONMENT:?} is kept for objects that live in no namespace")]
    EnvironmentReserved,
    /// Nothing can be in it.
    #[error("spec.environments: {0:?} has neither namespaces nor a namespaceLabel, so nothing is in it")]
    EnvironmentEmpty(String),
    /// Tokens would be born too old.
    #[error("spec.environments: {name:?} has a defaultTTL of {default}, which is more than its maxTTL of {max}")]
    DefaultOverMax {
        /// The environment.
        name: String,
        /// Its default.
        default: Span,
        /// Its maximum.
        max: Span,
    },
    /// A pattern of users that would make everybody a robot.
    #[error("spec.writers: {name:?} names the user {pattern:?}: use exact names, or a prefix and one trailing *")]
    UserPattern {
        /// The writer.
        name: String,
        /// Its pattern.
        pattern: String,
    },
    /// A trusted writer that nobody is.
    #[error("spec.writers.trusted: {0:?} has neither users nor groups, so nobody is it")]
    TrustedNobody(String),
    /// An exemption from everything.
    #[error("spec.exempt: {0:?} exempts everything: name resources, namespaces or labels")]
    ExemptEverything(String),
}

impl Rules {
    /// Checks what the schema cannot say, and compiles.
    ///
    /// # Errors
    /// The first thing that makes the policy contradict itself.
    pub fn new(spec: BreakglassPolicySpec) -> Result<Self, RulesError> {
        let incident = regex::RegexBuilder::new(&spec.incident_pattern)
            .size_limit(PATTERN_SIZE_LIMIT)
            .build()
            .map_err(|error| RulesError::IncidentPattern(one_line(&error.to_string())))?;
        check_environments(&spec.environments)?;
        check_writers(&spec)?;
        for exemption in &spec.exempt {
            if exemption.resources.is_empty() && exemption.namespaces.is_empty() && exemption.labels.is_empty() {
                return Err(RulesError::ExemptEverything(exemption.name.clone()));
            }
        }
        let mut cluster = stand_in(CLUSTER_ENVIRONMENT, spec.cluster_scoped);
        // A connection through a node reaches every pod on it, whatever environment that is in.
        cluster.exec = spec.environments.iter().map(Environment::exec_gate).max_by_key(|gate| gate.strictness());
        let engine_objects = stand_in(&spec.engine_objects.environment, Gate::RequireToken);
        Ok(Self { spec, incident, cluster, elsewhere: stand_in("other", Gate::Stamp), engine_objects })
    }

    /// What holds while there is no policy object.
    ///
    /// # Errors
    /// None in practice: a test holds that the built-in policy is sound.
    pub fn built_in() -> Result<Self, RulesError> {
        Self::new(BreakglassPolicySpec::default())
    }

    /// The policy as written, defaults filled in.
    pub fn spec(&self) -> &BreakglassPolicySpec {
        &self.spec
    }

    /// Whether this is the id of an incident.
    pub fn is_incident(&self, id: &str) -> bool {
        self.incident.is_match(id)
    }

    /// The environment of that name, if tokens can be opened for it.
    pub fn environment_named(&self, name: &str) -> Option<&Environment> {
        if name == CLUSTER_ENVIRONMENT {
            return Some(&self.cluster);
        }
        let listed = self.spec.environments.iter().find(|environment| environment.name == name);
        listed.or_else(|| Some(&self.engine_objects).filter(|environment| environment.name == name))
    }

    /// The environment whose rules hold for a record of this one: one that the policy has forgotten leaves its records to the
    /// rules of the cluster.
    pub fn environment_of_record(&self, name: &str) -> &Environment {
        self.environment_named(name).unwrap_or(&self.cluster)
    }

    /// What the policy hides in records of objects of this kind.
    pub fn redactions(&self, group: &str, kind: &str) -> Vec<&Redaction> {
        self.spec.redact.iter().filter(|redaction| redaction.group == group && redaction.kind == kind).collect()
    }

    /// The paths of objects of this kind below which records hold hashes.
    pub fn hidden(&self, group: &str, kind: &str) -> Vec<String> {
        self.redactions(group, kind).into_iter().flat_map(|redaction| redaction.paths.clone()).collect()
    }

    /// The environment of an engine's own object in this namespace; `None` where the namespace's own rules hold.
    pub fn environment_of_engine_object(&self, namespace: Option<&str>) -> Option<&Environment> {
        let except = &self.spec.engine_objects.except_namespaces;
        let excepted = namespace.is_some_and(|name| except.iter().any(|pattern| glob::matches(pattern, name)));
        if excepted { None } else { self.environment_named(&self.spec.engine_objects.environment) }
    }

    /// The environment of a namespace: the first that matches its name or its label.
    pub fn environment_of(&self, namespace: &str, labels: &BTreeMap<String, String>) -> &Environment {
        let label = labels.get(ENVIRONMENT_LABEL);
        self.spec
            .environments
            .iter()
            .find(|environment| {
                environment.namespaces.iter().any(|pattern| glob::matches(pattern, namespace))
                    || (label.is_some() && environment.namespace_label.as_ref() == label)
            })
            .unwrap_or(&self.elsewhere)
    }

    /// The environment that stands for objects that live in no namespace.
    pub fn cluster_scoped(&self) -> &Environment {
        &self.cluster
    }

    /// The exemption that covers a write to `resource` (`plural` or `plural.group`), if one does.
    ///
    /// `labels` are those of the object before and after the write: a label that only one of them has is a label that
    /// the writer has just put on or taken off.
    pub fn exemption(
        &self,
        environment: &Environment,
        resource: &str,
        namespace: Option<&str>,
        labels: &[&BTreeMap<String, String>],
    ) -> Option<&Exemption> {
        self.spec.exempt.iter().find(|exemption| {
            let by_labels_alone = exemption.resources.is_empty() && exemption.namespaces.is_empty();
            if by_labels_alone && environment.writes == Gate::RequireToken {
                return false;
            }
            let in_namespaces = match namespace {
                _ if exemption.namespaces.is_empty() => true,
                Some(name) => exemption.namespaces.iter().any(|pattern| glob::matches(pattern, name)),
                None => false,
            };
            let carried = |labels: &&BTreeMap<String, String>| {
                exemption.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            };
            in_namespaces
                && (exemption.resources.is_empty() || exemption.resources.iter().any(|name| name == resource))
                && (exemption.labels.is_empty() || labels.iter().all(carried))
        })
    }
}

fn stand_in(name: &str, writes: Gate) -> Environment {
    Environment {
        name: name.to_owned(),
        namespaces: Vec::new(),
        namespace_label: None,
        writes,
        exec: None,
        token: TokenRules::default(),
        debt: DebtRules::default(),
    }
}

fn check_environments(environments: &[Environment]) -> Result<(), RulesError> {
    for (index, environment) in environments.iter().enumerate() {
        let name = environment.name.clone();
        if name == CLUSTER_ENVIRONMENT {
            return Err(RulesError::EnvironmentReserved);
        }
        if environments[..index].iter().any(|earlier| earlier.name == name) {
            return Err(RulesError::EnvironmentTwice(name));
        }
        if environment.namespaces.is_empty() && environment.namespace_label.is_none() {
            return Err(RulesError::EnvironmentEmpty(name));
        }
        let (default, max) = (environment.token.default_ttl, environment.token.max_ttl);
        if default > max {
            return Err(RulesError::DefaultOverMax { name, default, max });
        }
    }
    Ok(())
}

fn check_writers(spec: &BreakglassPolicySpec) -> Result<(), RulesError> {
    let engines = spec.writers.engines.iter();
    let engines = engines.flat_map(|engine| [(&engine.name, &engine.users), (&engine.name, &engine.keepers)]);
    let trusted = spec.writers.trusted.iter().map(|trusted| (&trusted.name, &trusted.users));
    for (name, users) in engines.chain(trusted) {
        for pattern in users {
            let prefix = pattern.strip_suffix('*').unwrap_or(pattern);
            if prefix.is_empty() || prefix.contains('*') {
                return Err(RulesError::UserPattern { name: name.clone(), pattern: pattern.clone() });
            }
        }
    }
    match spec.writers.trusted.iter().find(|trusted| trusted.users.is_empty() && trusted.groups.is_empty()) {
        Some(nobody) => Err(RulesError::TrustedNobody(nobody.name.clone())),
        None => Ok(()),
    }
}

/// The regex crate draws its errors over several lines; messages of the API server are one.
fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(json: serde_json::Value) -> Result<Rules, RulesError> {
        Rules::new(serde_json::from_value(json).unwrap())
    }

    #[test]
    fn the_built_in_policy_is_sound_and_is_what_an_empty_spec_means() {
        let built_in = Rules::built_in().unwrap();
        assert_eq!(built_in.spec(), rules(serde_json::json!({})).unwrap().spec());
        assert!(built_in.is_incident("INC-123") && built_in.is_incident("SEV1-db-7"));
        assert!(!built_in.is_incident("inc-123") && !built_in.is_incident("INC-") && !built_in.is_incident("xINC-1"));
    }

    #[test]
    fn the_first_environment_that_matches_by_name_or_label_counts() {
        let built_in = Rules::built_in().unwrap();
        let labelled = |value: &str| BTreeMap::from([(ENVIRONMENT_LABEL.to_owned(), value.to_owned())]);
        let none = BTreeMap::new();
        for (namespace, labels, expected) in [
            ("prod", &none, "prod"),
            ("shop-prod", &none, "prod"),
            ("prod-eu", &labelled("staging"), "prod"),
            ("stage", &none, "staging"),
            ("stage", &labelled("prod"), "prod"),
            ("flux-system", &none, "platform"),
            ("team-a", &none, "dev"),
            ("team-a", &labelled("prod"), "prod"),
            ("team-a", &labelled("nonsense"), "dev"),
        ] {
            assert_eq!(built_in.environment_of(namespace, labels).name, expected, "{namespace} {labels:?}");
        }
        let only_prod = rules(serde_json::json!({"environments": [
            {"name": "prod", "namespaces": ["prod"], "writes": "RequireToken"}]}));
        assert_eq!(only_prod.unwrap().environment_of("team-a", &none).writes, Gate::Stamp);
    }

    #[test]
    fn a_policy_that_contradicts_itself_is_refused_with_the_reason() {
        let one = |environment: serde_json::Value| serde_json::json!({"environments": [environment]});
        for (spec, expected) in [
            (serde_json::json!({"incidentPattern": "("}), "spec.incidentPattern is not a regular expression"),
            (one(serde_json::json!({"name": "a", "writes": "Stamp"})), "so nothing is in it"),
            (
                one(serde_json::json!({"name": "cluster", "namespaces": ["a"], "writes": "Stamp"})),
                "is kept for objects",
            ),
            (
                one(serde_json::json!({"name": "a", "namespaces": ["a"], "writes": "RequireToken",
                    "token": {"defaultTTL": "5h"}})),
                "which is more than its maxTTL of 4h",
            ),
            (serde_json::json!({"writers": {"trusted": [{"name": "x", "users": ["*"]}]}}), "one trailing *"),
            (serde_json::json!({"writers": {"trusted": [{"name": "x"}]}}), "nobody is it"),
            (serde_json::json!({"exempt": [{"name": "x", "reason": "y"}]}), "exempts everything"),
        ] {
            let error = rules(spec).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_label_alone_exempts_nothing_where_tokens_are_required() {
        let rules = rules(serde_json::json!({"exempt": [
            {"name": "labelled", "reason": "r", "labels": {"tier": "cache"}},
            {"name": "named", "reason": "r", "resources": ["jobs.batch"], "namespaces": ["prod"]}]}))
        .unwrap();
        let cache = BTreeMap::from([("tier".to_owned(), "cache".to_owned())]);
        let none = BTreeMap::new();
        let exempt = |namespace, resource, labels: &[&BTreeMap<String, String>]| {
            let environment = rules.environment_of(namespace, &none);
            rules.exemption(environment, resource, Some(namespace), labels).map(|exemption| exemption.name.as_str())
        };
        assert_eq!(exempt("prod", "pods", &[&cache, &cache]), None);
        assert_eq!(exempt("dev", "pods", &[&cache, &cache]), Some("labelled"));
        assert_eq!(exempt("dev", "pods", &[&none, &cache]), None);
        assert_eq!(exempt("prod", "jobs.batch", &[&none]), Some("named"));
        assert_eq!(exempt("prod-eu", "jobs.batch", &[&none]), None);
    }
}
