//! Which webhooks the API server calls for one write: its own evaluation of what [`render`] says, for who explains it.

use std::collections::BTreeMap;

use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MutatingWebhook, RuleWithOperations, ValidatingWebhook, WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::{JOINT, conditions, render};
use crate::api::{ENVIRONMENT_LABEL, GROUP, HOME_NAMESPACE};
use crate::cover::OUR_ROLES;
use crate::rules::Rules;
use crate::write::{Verb, Write};
use crate::writer::{Writer, classify, is_exempt_name, service_account};
use crate::{decide, engine, glob, mark};

/// Which of the two calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// The mutating one.
    Stamp,
    /// The validating one.
    Gate,
}

/// A webhook that is called for a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its name, such as `gate.breakglass.dev`.
    pub webhook: String,
    /// Which call.
    pub call: Call,
    /// Whether the write is refused where the webhook cannot be asked.
    pub fails_closed: bool,
}

/// The webhooks that the API server calls for a write, in its order. `object` of a write under way is what the client sent.
pub fn asked(write: &Write<'_>, rules: &Rules, namespace_labels: &BTreeMap<String, String>) -> Vec<Asked> {
    let calls = WebhookClientConfig::default();
    let meets = Meets { write, rules, writer: classify(write, rules) };
    let is_called =
        |name: &str, rule: &[RuleWithOperations], selector: Option<&LabelSelector>, conditions: &[MatchCondition]| {
            rule.iter().any(|rule| matches(rule, write))
                && selector.is_none_or(|selector| selects(selector, write, namespace_labels))
                && conditions.iter().all(|condition| meets.condition(name, &condition.name) == Some(true))
        };
    let stamps = render::mutating(rules, &calls).into_iter().filter_map(|webhook| {
        let MutatingWebhook { name, rules, namespace_selector, match_conditions, failure_policy, .. } = webhook;
        let conditions = match_conditions.unwrap_or_default();
        let called = is_called(&name, &rules.unwrap_or_default(), namespace_selector.as_ref(), &conditions);
        called.then(|| Asked { webhook: name, call: Call::Stamp, fails_closed: is_closed(failure_policy.as_deref()) })
    });
    let gates = render::validating(rules, &calls, HOME_NAMESPACE).into_iter().filter_map(|webhook| {
        let ValidatingWebhook { name, rules, namespace_selector, match_conditions, failure_policy, .. } = webhook;
        let conditions = match_conditions.unwrap_or_default();
        let called = is_called(&name, &rules.unwrap_or_default(), namespace_selector.as_ref(), &conditions);
        called.then(|| Asked { webhook: name, call: Call::Gate, fails_closed: is_closed(failure_policy.as_deref()) })
    });
    stamps.chain(gates).collect()
}

fn is_closed(failure_policy: Option<&str>) -> bool {
    failure_policy == Some("Fail")
}

/// Whether a rule is about a write (apiserver pkg/admission/plugin/webhook/predicates/rules).
fn matches(rule: &RuleWithOperations, write: &Write<'_>) -> bool {
    let has = |words: &Option<Vec<String>>, word: &str| words.iter().flatten().any(|one| one == "*" || one == word);
    let operation = match write.verb {
        Verb::Create => "CREATE",
        Verb::Update => "UPDATE",
        Verb::Delete => "DELETE",
        Verb::Connect => "CONNECT",
    };
    let resource = rule.resources.iter().flatten().any(|pattern| {
        let (plural, subresource) = pattern.split_once('/').map_or((pattern.as_str(), None), |(a, b)| (a, Some(b)));
        let below = match (subresource, write.resource.subresource.as_deref()) {
            (Some("*"), _) => true,
            (wanted, asked) => wanted == asked,
        };
        below && (plural == "*" || plural == write.resource.plural)
    });
    // A Namespace is no object in a namespace, though it counts as its own.
    let namespaced = write.namespace.is_some() && !write.resource.is_namespace();
    let scope = match rule.scope.as_deref() {
        Some("Namespaced") => namespaced,
        Some("Cluster") => !namespaced,
        _ => true,
    };
    has(&rule.operations, operation) && has(&rule.api_groups, &write.resource.group) && resource && scope
}

/// Whether a selector of namespaces selects the one of a write; objects that live in none are always selected.
fn selects(selector: &LabelSelector, write: &Write<'_>, labels: &BTreeMap<String, String>) -> bool {
    let Some(namespace) = &write.namespace else { return true };
    let value = |key: &str| match key {
        render::NAME_LABEL => Some(namespace.as_str()),
        key => labels.get(key).map(String::as_str),
    };
    selector.match_expressions.iter().flatten().all(|wanted| {
        let is_one = value(&wanted.key).is_some_and(|value| wanted.values.iter().flatten().any(|one| one == value));
        if wanted.operator == "NotIn" { !is_one } else { is_one }
    })
}

/// What the conditions are about.
struct Meets<'m, 'w> {
    write: &'m Write<'w>,
    rules: &'m Rules,
    writer: Writer,
}

impl Meets<'_, '_> {
    /// Whether a condition of a webhook holds; `None` where a part of it is not known here.
    fn condition(&self, webhook: &str, condition: &str) -> Option<bool> {
        condition.split(JOINT).try_fold(true, |all, part| Some(all && self.part(webhook, part)?))
    }

    fn part(&self, webhook: &str, condition: &str) -> Option<bool> {
        let (write, rules) = (self.write, self.rules);
        let namespace = write.namespace.as_deref();
        let named = || {
            namespace.is_some_and(|name| conditions::guarded_patterns(rules).iter().any(|one| glob::matches(one, name)))
        };
        let engine_object =
            || engine::is_object(&write.resource) && rules.environment_of_engine_object(namespace).is_some();
        Some(match condition {
            "is-looked-at" => self.is_looked_at(),
            "is-no-kind-of-ours" => write.resource.group != GROUP,
            "is-no-credential" => !write.resource.is_credential(),
            "is-not-ours" => self.writer != Writer::Webhook && self.writer != Writer::Trusted("override".to_owned()),
            "is-guarded-by-name" => named(),
            "is-not-guarded-by-name" => !named(),
            "is-no-other" if webhook == "cluster.breakglass.dev" => {
                !(write.resource.group == GROUP || self.is_part_of_us() || write.resource.is_namespace())
            }
            "is-no-other" => !(engine_object() || write.resource.is_credential()),
            "is-engine-object" => engine_object(),
            "is-exempt-credential" => {
                let account = service_account(namespace.unwrap_or_default(), write.object_name());
                write.resource.is_credential() && is_exempt_name(&account, rules)
            }
            "is-home" => namespace == Some(HOME_NAMESPACE),
            "is-not-home" => namespace != Some(HOME_NAMESPACE),
            "is-guarded-namespace" => {
                let labels = conditions::guarded_labels(rules);
                let labelled = [&write.before, &write.after].into_iter().flatten().any(|side| {
                    side.metadata.labels().get(ENVIRONMENT_LABEL).is_some_and(|label| labels.contains(label))
                });
                named() || labelled
            }
            "is-part-of-us" => self.is_part_of_us(),
            "is-stamped-falsely" => mark::is_false(write),
            _ => return None,
        })
    }

    fn is_looked_at(&self) -> bool {
        let resource = &self.write.resource;
        let (group, plural) = (resource.group.as_str(), resource.plural.as_str());
        let unguarded = (group == "coordination.k8s.io" && plural == "leases")
            || (plural == "events" && ["", "events.k8s.io"].contains(&group))
            || ["authentication.k8s.io", "authorization.k8s.io"].contains(&group);
        self.writer == Writer::Direct && !unguarded && !decide::is_status_alone(self.write)
    }

    fn is_part_of_us(&self) -> bool {
        let name = self.write.before.as_ref().map(|before| before.metadata.name.as_str());
        let resource = &self.write.resource;
        name.is_some_and(|name| {
            (resource.is_definition() && name.ends_with(&format!(".{GROUP}")))
                || (resource.is_cluster_role() && name.starts_with(OUR_ROLES))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;
    use serde_json::{Value, json};

    use super::*;
    use crate::write::{Object, Requester, Resource};

    fn raw(value: &Value) -> Box<RawValue> {
        serde_json::from_str(&value.to_string()).unwrap()
    }

    /// The webhooks that alice's write calls, `!` behind those that fail closed.
    fn called(verb: Verb, resource: &str, namespace: Option<&str>, name: &str, labels: &[(&str, &str)]) -> String {
        let (path, subresource) = resource.split_once('/').map_or((resource, None), |(a, b)| (a, Some(b.to_owned())));
        let (plural, group) = path.split_once('.').unwrap_or((path, ""));
        let object = raw(&json!({"metadata": {"name": name}}));
        let side = || Some(Object::new(&object));
        let write = Write {
            verb,
            resource: Resource {
                group: group.to_owned(),
                plural: plural.to_owned(),
                subresource,
                ..Default::default()
            },
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
            requester: Requester { user: "alice@example.com".to_owned(), ..Default::default() },
            before: side().filter(|_| matches!(verb, Verb::Update | Verb::Delete)),
            after: side().filter(|_| verb != Verb::Delete),
            dry_run: false,
            manager: String::new(),
        };
        let rules = Rules::built_in().unwrap();
        let labels = labels.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        let names = asked(&write, &rules, &labels).into_iter().map(|one| {
            let name = one.webhook.trim_end_matches(".breakglass.dev").to_owned();
            if one.fails_closed { name + "!" } else { name }
        });
        names.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_write_calls_the_webhooks_that_are_about_it() {
        use Verb::{Connect, Create, Delete, Update};
        let prod = &[(ENVIRONMENT_LABEL, "prod")][..];
        for (verb, resource, namespace, name, labels, expected) in [
            (Update, "deployments.apps", Some("prod"), "api", &[][..], "stamp gate!"),
            (Update, "deployments.apps", Some("team-a"), "api", &[], "stamp"),
            (Update, "deployments.apps", Some("team-a"), "api", prod, "stamp label-gate!"),
            (Update, "deployments.apps", Some("prod"), "api", prod, "stamp gate!"),
            (Update, "deployments.apps/scale", Some("prod"), "api", &[], "stamp gate!"),
            (Delete, "configmaps", Some("prod"), "a", &[], "gate!"),
            (Connect, "pods/exec", Some("prod"), "api-0", &[], "gate!"),
            (Connect, "pods/exec", Some("dev"), "api-0", &[], ""),
            (Create, "leases.coordination.k8s.io", Some("prod"), "a", &[], ""),
            (Create, "events", Some("prod"), "a", &[], ""),
            (Update, "leases.coordination.k8s.io", Some("kube-node-lease"), "a", &[], ""),
            (Update, "deployments.apps", Some("breakglass-system"), "breakglass-webhook", &[], "stamp home"),
            (Update, "kustomizations.kustomize.toolkit.fluxcd.io", Some("dev"), "a", &[], "stamp engine!"),
            (Create, "serviceaccounts/token", Some("flux-system"), "kustomize-controller", &[], "credential!"),
            (Create, "serviceaccounts/token", Some("dev"), "default", &[], ""),
            (Update, "namespaces", Some("prod"), "prod", &[], "stamp namespace!"),
            (Delete, "namespaces", Some("breakglass-system"), "breakglass-system", &[], "home-namespace"),
            (
                Delete,
                "customresourcedefinitions.apiextensions.k8s.io",
                None,
                "breakglasschanges.breakglass.dev",
                &[],
                "home-kinds",
            ),
            (Update, "clusterroles.rbac.authorization.k8s.io", None, "breakglass-webhook", &[], "stamp home-kinds"),
            (Update, "clusterroles.rbac.authorization.k8s.io", None, "edit", &[], "stamp"),
            (Connect, "nodes/proxy", None, "n1", &[], "node!"),
            (Create, "breakglasstokens.breakglass.dev", None, "inc-1", &[], "own own!"),
            (Update, "breakglasschanges.breakglass.dev/status", None, "inc-1-abc", &[], "own own!"),
        ] {
            assert_eq!(
                called(verb, resource, namespace, name, labels),
                expected,
                "{verb:?} {resource} {namespace:?} {name}"
            );
        }
    }

    #[test]
    fn every_condition_that_is_rendered_is_known_here() {
        let spec = json!({"clusterScoped": "RequireToken"});
        let rules = Rules::new(serde_json::from_value(spec).unwrap()).unwrap();
        let object = raw(&json!({}));
        let write = Write {
            verb: Verb::Update,
            resource: Resource::default(),
            namespace: None,
            name: String::new(),
            requester: Requester::default(),
            before: None,
            after: Some(Object::new(&object)),
            dry_run: false,
            manager: String::new(),
        };
        let meets = Meets { write: &write, rules: &rules, writer: Writer::Direct };
        let calls = WebhookClientConfig::default();
        let stamps = render::mutating(&rules, &calls).into_iter().map(|one| (one.name, one.match_conditions));
        let gates =
            render::validating(&rules, &calls, HOME_NAMESPACE).into_iter().map(|one| (one.name, one.match_conditions));
        for (webhook, conditions) in stamps.chain(gates) {
            for condition in conditions.unwrap_or_default() {
                assert!(meets.condition(&webhook, &condition.name).is_some(), "{webhook} {}", condition.name);
            }
        }
    }
}
