//! The webhooks that a policy asks for.
//!
//! Scopes that demand a token fail closed, scopes that only stamp fail open: while the webhook is down, prod stays shut to
//! people and everything else stays open. The mutating call fails open everywhere: where it did not run, the gate finds no
//! stamp and refuses.

use crate::api::{ENVIRONMENT_LABEL, GROUP, Gate};
use crate::engine;
use crate::rules::Rules;
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MutatingWebhook, RuleWithOperations, ValidatingWebhook, WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use super::{GATE_PATH, JOINT, STAMP_PATH, conditions};

/// How long the API server waits for the mutating call. It does at most one lookup.
const STAMP_TIMEOUT: i32 = 5;
/// How long it waits for the validating call, which confirms the token and writes the record.
const GATE_TIMEOUT: i32 = 10;

/// The label that every namespace carries with its own name, and that nobody can change.
pub(super) const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Everything: a star alone would leave out the subresources.
const EVERYTHING: &str = "*/*";

/// The mutating webhooks: they stamp. `calls` is whom to call.
pub fn mutating(rules: &Rules, calls: &WebhookClientConfig) -> Vec<MutatingWebhook> {
    let all = vec![rule(&["*"], &[EVERYTHING], &["CREATE", "UPDATE"], "*")];
    let filled = ["breakglasstokens", "breakglasstokens/status", "breakglasschanges/status"];
    let own = vec![rule(&[GROUP], &filled, &["CREATE", "UPDATE"], "Cluster")];
    let webhooks = [
        MutatingWebhook {
            // Node leases come by the thousand and keep nodes alive: not even a condition is evaluated for them.
            namespace_selector: Some(names("NotIn", &["kube-node-lease"])),
            match_conditions: Some(vec![
                condition("is-looked-at", conditions::is_looked_at(rules)),
                condition("is-no-kind-of-ours", format!("!({})", conditions::is_own_kind())),
                condition("is-no-credential", format!("!{}", conditions::is_credential())),
            ]),
            ..stamp("stamp.breakglass.dev", all, calls)
        },
        MutatingWebhook {
            match_conditions: Some(vec![condition("is-not-ours", conditions::is_not_ours())]),
            ..stamp("own.breakglass.dev", own, calls)
        },
    ];
    webhooks.map(|webhook| MutatingWebhook { match_conditions: webhook.match_conditions.map(joined), ..webhook }).into()
}

/// The validating webhooks: they refuse and record. `home` is the namespace that we live in.
pub fn validating(rules: &Rules, calls: &WebhookClientConfig, home: &str) -> Vec<ValidatingWebhook> {
    let every = ["CREATE", "UPDATE", "DELETE", "CONNECT"];
    let namespaced = || vec![rule(&["*"], &[EVERYTHING], &every, "Namespaced")];
    let looked_at = || condition("is-looked-at", conditions::is_looked_at(rules));
    let namespaces = || vec![rule(&[""], &["namespaces", "namespaces/*"], &every[..3], "Cluster")];
    let by_name = conditions::is_guarded_by_name(rules);
    let guarded_namespace = conditions::is_guarded_namespace(rules);
    let elsewhere = names("NotIn", &[home]);
    // One call a write: these have webhooks of their own.
    let others = [conditions::is_engine_object(rules), conditions::is_credential()];
    let is_no_other = || condition("is-no-other", format!("!({})", others.join(" || ")));
    let mut webhooks = vec![
        ValidatingWebhook {
            namespace_selector: Some(elsewhere.clone()),
            match_conditions: Some(vec![condition("is-guarded-by-name", by_name.clone()), looked_at(), is_no_other()]),
            ..gate("gate.breakglass.dev", namespaced(), calls)
        },
        // Our own namespace: guarded while we answer, open while we do not, or nobody could repair us.
        ValidatingWebhook {
            namespace_selector: Some(names("In", &[home])),
            match_conditions: Some(vec![condition("is-guarded-by-name", by_name.clone()), looked_at(), is_no_other()]),
            failure_policy: Some("Ignore".to_owned()),
            ..gate("home.breakglass.dev", namespaced(), calls)
        },
        // Whoever writes one of these deploys, from whatever namespace.
        ValidatingWebhook {
            match_conditions: Some(vec![
                condition("is-engine-object", conditions::is_engine_object(rules)),
                looked_at(),
            ]),
            ..gate("engine.breakglass.dev", engine_objects(&every[..3]), calls)
        },
        // Whoever has a token of an exempt identity writes as it.
        ValidatingWebhook {
            match_conditions: Some(vec![
                condition("is-exempt-credential", conditions::is_exempt_credential(rules)),
                looked_at(),
            ]),
            ..gate(
                "credential.breakglass.dev",
                vec![rule(&[""], &["serviceaccounts/token"], &["CREATE"], "Namespaced")],
                calls,
            )
        },
        ValidatingWebhook {
            match_conditions: Some(vec![
                condition("is-not-home", format!("!({})", conditions::is_namespace(home))),
                condition("is-guarded-namespace", guarded_namespace.clone()),
                looked_at(),
            ]),
            ..gate("namespace.breakglass.dev", namespaces(), calls)
        },
        // As above: whoever removes our namespace while we are down must be able to.
        ValidatingWebhook {
            match_conditions: Some(vec![
                condition("is-home", conditions::is_namespace(home)),
                condition("is-guarded-namespace", guarded_namespace),
                looked_at(),
            ]),
            failure_policy: Some("Ignore".to_owned()),
            ..gate("home-namespace.breakglass.dev", namespaces(), calls)
        },
        // Deleting a definition deletes the ledger, and without our rights nothing is recorded. Open while we do not answer,
        // as above.
        ValidatingWebhook {
            match_conditions: Some(vec![condition("is-part-of-us", conditions::is_part_of_us()), looked_at()]),
            failure_policy: Some("Ignore".to_owned()),
            ..gate(
                "home-kinds.breakglass.dev",
                vec![
                    rule(
                        &["apiextensions.k8s.io"],
                        &["customresourcedefinitions", "customresourcedefinitions/*"],
                        &["UPDATE", "DELETE"],
                        "Cluster",
                    ),
                    rule(
                        &["rbac.authorization.k8s.io"],
                        &["clusterroles", "clusterrolebindings"],
                        &["UPDATE", "DELETE"],
                        "Cluster",
                    ),
                ],
                calls,
            )
        },
        ValidatingWebhook {
            match_conditions: Some(vec![condition("is-not-ours", conditions::is_not_ours())]),
            ..gate("own.breakglass.dev", vec![rule(&[GROUP], &[EVERYTHING], &every[..3], "Cluster")], calls)
        },
    ];
    webhooks.push(truth(rules, calls));
    let labels = conditions::guarded_labels(rules);
    if !labels.is_empty() {
        let mut selector = elsewhere;
        selector.match_expressions.get_or_insert_default().push(expression(ENVIRONMENT_LABEL, "In", &labels));
        webhooks.push(ValidatingWebhook {
            namespace_selector: Some(selector),
            // One call a write: a namespace whose name is guarded has the first webhook already.
            match_conditions: Some(vec![
                condition("is-not-guarded-by-name", format!("!({by_name})")),
                looked_at(),
                is_no_other(),
            ]),
            ..gate("label-gate.breakglass.dev", namespaced(), calls)
        });
    }
    if rules.cluster_scoped().exec_gate() == Gate::RequireToken {
        // Through a node's kubelet, every pod on it is reached.
        webhooks.push(ValidatingWebhook {
            match_conditions: Some(vec![looked_at()]),
            ..gate("node.breakglass.dev", vec![rule(&["*"], &[EVERYTHING], &["CONNECT"], "Cluster")], calls)
        });
    }
    if rules.cluster_scoped().writes == Gate::RequireToken {
        let namespace = "(request.resource.group == '' && request.resource.resource == 'namespaces')";
        let others = format!("!({} || {} || {namespace})", conditions::is_own_kind(), conditions::is_part_of_us());
        webhooks.push(ValidatingWebhook {
            match_conditions: Some(vec![condition("is-no-other", others), looked_at()]),
            ..gate("cluster.breakglass.dev", vec![rule(&["*"], &[EVERYTHING], &every[..3], "Cluster")], calls)
        });
    }
    for webhook in &mut webhooks {
        webhook.match_conditions = webhook.match_conditions.take().map(joined);
    }
    webhooks
}

/// Where a stamp is all that is asked for, nobody looks at the object again after the stamp is on; unless somebody else's
/// webhook had the last word and put another stamp on. Almost no write meets the condition, so almost none pays for it.
fn truth(rules: &Rules, calls: &WebhookClientConfig) -> ValidatingWebhook {
    let guarded = conditions::guarded_labels(rules);
    let open = (!guarded.is_empty()).then(|| expression(ENVIRONMENT_LABEL, "NotIn", &guarded));
    ValidatingWebhook {
        namespace_selector: Some(LabelSelector { match_expressions: open.map(|open| vec![open]), match_labels: None }),
        match_conditions: Some(vec![
            condition("is-stamped-falsely", conditions::is_stamped_falsely()),
            condition("is-not-guarded-by-name", format!("!({})", conditions::is_guarded_by_name(rules))),
            condition("is-looked-at", conditions::is_looked_at(rules)),
        ]),
        failure_policy: Some("Ignore".to_owned()),
        ..gate("truth.breakglass.dev", vec![rule(&["*"], &["*"], &["CREATE", "UPDATE"], "Namespaced")], calls)
    }
}

/// The engines' own objects, as rules: the API server then evaluates the conditions for nothing else.
fn engine_objects(operations: &[&str]) -> Vec<RuleWithOperations> {
    let objects = engine::objects().into_iter().map(|(group, plurals)| {
        let with_subresources = plurals.iter().flat_map(|plural| [(*plural).to_owned(), format!("{plural}/*")]);
        let mut resources: Vec<String> = with_subresources.collect();
        if resources.is_empty() {
            resources.push(EVERYTHING.to_owned());
        }
        let resources: Vec<&str> = resources.iter().map(String::as_str).collect();
        rule(&[group], &resources, operations, "*")
    });
    objects.collect()
}

/// Every field that the API server would fill in is written out: what is read back then equals what was written.
fn stamp(name: &str, rules: Vec<RuleWithOperations>, calls: &WebhookClientConfig) -> MutatingWebhook {
    MutatingWebhook {
        admission_review_versions: vec!["v1".to_owned()],
        client_config: to(STAMP_PATH, calls),
        failure_policy: Some("Ignore".to_owned()),
        match_conditions: None,
        match_policy: Some("Equivalent".to_owned()),
        name: name.to_owned(),
        namespace_selector: Some(LabelSelector::default()),
        object_selector: Some(LabelSelector::default()),
        // A webhook that runs after ours may change the object, or take the stamp off.
        reinvocation_policy: Some("IfNeeded".to_owned()),
        rules: Some(rules),
        // The stamp of a scale goes onto the scaled object afterwards; never on a dry run.
        side_effects: "NoneOnDryRun".to_owned(),
        timeout_seconds: Some(STAMP_TIMEOUT),
    }
}

fn gate(name: &str, rules: Vec<RuleWithOperations>, calls: &WebhookClientConfig) -> ValidatingWebhook {
    ValidatingWebhook {
        admission_review_versions: vec!["v1".to_owned()],
        client_config: to(GATE_PATH, calls),
        failure_policy: Some("Fail".to_owned()),
        match_conditions: None,
        match_policy: Some("Equivalent".to_owned()),
        name: name.to_owned(),
        namespace_selector: Some(LabelSelector::default()),
        object_selector: Some(LabelSelector::default()),
        rules: Some(rules),
        // The record; never on a dry run.
        side_effects: "NoneOnDryRun".to_owned(),
        timeout_seconds: Some(GATE_TIMEOUT),
    }
}

/// One path for each call: every path is a pool of connections of its own in the API server.
fn to(path: &str, calls: &WebhookClientConfig) -> WebhookClientConfig {
    let mut calls = calls.clone();
    if let Some(service) = &mut calls.service {
        service.path = Some(path.to_owned());
    }
    calls
}

fn rule(groups: &[&str], resources: &[&str], operations: &[&str], scope: &str) -> RuleWithOperations {
    let owned = |values: &[&str]| Some(values.iter().map(|&value| value.to_owned()).collect());
    RuleWithOperations {
        api_groups: owned(groups),
        api_versions: owned(&["*"]),
        operations: owned(operations),
        resources: owned(resources),
        scope: Some(scope.to_owned()),
    }
}

/// One condition that holds where all of these do. The API server evaluates every condition of a webhook, whatever the others
/// say; within one, the first part that does not hold ends it.
fn joined(conditions: Vec<MatchCondition>) -> Vec<MatchCondition> {
    let (names, expressions): (Vec<_>, Vec<_>) =
        conditions.into_iter().map(|condition| (condition.name, format!("({})", condition.expression))).unzip();
    vec![condition(&names.join(JOINT), expressions.join(" && "))]
}

fn condition(name: &str, expression: String) -> MatchCondition {
    MatchCondition { name: name.to_owned(), expression }
}

fn names(operator: &str, values: &[&str]) -> LabelSelector {
    let values: Vec<String> = values.iter().map(|&value| value.to_owned()).collect();
    LabelSelector { match_expressions: Some(vec![expression(NAME_LABEL, operator, &values)]), match_labels: None }
}

fn expression(key: &str, operator: &str, values: &[String]) -> LabelSelectorRequirement {
    LabelSelectorRequirement { key: key.to_owned(), operator: operator.to_owned(), values: Some(values.to_vec()) }
}
