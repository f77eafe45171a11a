//! What is accepted, and surely not meant: each with what it would do.

use std::collections::BTreeMap;

use breakglass::api::{ApprovalMode, BreakglassPolicySpec, Environment, Gate, HOME_NAMESPACE, Mode, Proof};
use breakglass::glob;
use breakglass::rules::Rules;
use breakglass::writer::SERVICE_ACCOUNT_PREFIX;

use super::Flaw;

/// Names by which people know what must not break.
const PROD: [&str; 4] = ["prod", "production", "prd", "live"];

/// Groups that nobody has to be put into.
const EVERYBODY: [&str; 3] = ["system:authenticated", "system:unauthenticated", "system:serviceaccounts"];

/// Everything that is surely not meant.
pub fn check(spec: &BreakglassPolicySpec) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    match spec.mode {
        Mode::Enforce => {}
        Mode::Warn => flaws.push(Flaw::warning("spec.mode", "Warn refuses nothing: writes without a token are let in")),
        Mode::Audit => {
            flaws.push(Flaw::warning(
                "spec.mode",
                "Audit refuses nothing: writes without a token are let in and counted",
            ));
        }
    }
    for (index, environment) in spec.environments.iter().enumerate() {
        let field = format!("spec.environments[{index}]");
        flaws.extend(reach(environment, &spec.environments[..index], &field));
        flaws.extend(gates(environment, &field));
        flaws.extend(approval(environment, &field));
    }
    flaws.extend(writers(spec));
    flaws.extend(redacted(spec));
    flaws.extend(exemptions(spec));
    flaws.extend(homes(spec));
    flaws
}

/// What of an environment the ones before it leave to it.
fn reach(environment: &Environment, earlier: &[Environment], field: &str) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    let covers = |name: &str| {
        // A pattern that matches another, stars taken for letters, matches all that the other does.
        let pairs = earlier.iter().flat_map(|one| one.namespaces.iter().map(move |pattern| (&one.name, pattern)));
        pairs.into_iter().find(|(_, pattern)| glob::matches(pattern, name))
    };
    for (place, pattern) in environment.namespaces.iter().enumerate() {
        if let Some((name, by)) = covers(pattern) {
            let why = format!(
                "{pattern:?} is never reached: environment {name}, which stands before {}, has {by:?}",
                environment.name
            );
            flaws.push(Flaw::warning(format!("{field}.namespaces[{place}]"), why));
        }
    }
    let Some(label) = &environment.namespace_label else { return flaws };
    let place = format!("{field}.namespaceLabel");
    if let Some(everything) = earlier.iter().find(|one| one.namespaces.iter().any(|pattern| pattern == "*")) {
        let why =
            format!("{label:?} is never reached: environment {}, which stands before, has \"*\"", everything.name);
        flaws.push(Flaw::warning(place, why));
    } else if let Some(same) = earlier.iter().find(|one| one.namespace_label.as_ref() == Some(label)) {
        let why =
            format!("{label:?} is the label of environment {} already, which stands before and counts", same.name);
        flaws.push(Flaw::warning(place, why));
    }
    flaws
}

fn gates(environment: &Environment, field: &str) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    let named_prod = environment.name.split('-').any(|word| PROD.contains(&word));
    if named_prod && environment.writes != Gate::RequireToken {
        let why = format!("{} needs no token: anybody who may write to it writes to it", environment.name);
        flaws.push(Flaw::warning(format!("{field}.writes"), why));
    }
    if environment.exec_gate().strictness() < environment.writes.strictness() {
        let why = "exec is guarded less than writes: whoever enters a pod changes what runs, and leaves no change";
        flaws.push(Flaw::warning(format!("{field}.exec"), why));
    }
    flaws
}

fn approval(environment: &Environment, field: &str) -> Vec<Flaw> {
    let approval = &environment.token.approval;
    let field = format!("{field}.token.approval");
    let nobody = approval.approvers.groups.is_empty();
    let at = |below: &str, why: &str| Flaw::warning(format!("{field}.{below}"), why);
    let mut flaws = Vec::new();
    match approval.mode {
        ApprovalMode::Before if nobody => {
            flaws.push(at("approvers", "is empty: nobody may approve, so no token ever lets a write in"));
        }
        ApprovalMode::After if nobody => {
            flaws.push(at(
                "approvers",
                "is empty: nobody may approve, so every token ends when its time for that is up",
            ));
        }
        ApprovalMode::None if !nobody => {
            flaws.push(at("approvers", "has no effect: with mode None nobody is asked"));
        }
        ApprovalMode::None | ApprovalMode::Before | ApprovalMode::After => {}
    }
    match (approval.mode, approval.within) {
        (ApprovalMode::After, None) => {
            flaws.push(at("within", "is missing: a token that nobody approves lives as long as any other"));
        }
        (ApprovalMode::After, Some(within)) if within >= environment.token.max_ttl => {
            let why = format!("{within} is no shorter than maxTTL {}: it has no effect", environment.token.max_ttl);
            flaws.push(at("within", &why));
        }
        (ApprovalMode::None | ApprovalMode::Before, Some(_)) => {
            flaws.push(at("within", "has no effect: it belongs to mode After"));
        }
        (ApprovalMode::None | ApprovalMode::Before, None) | (ApprovalMode::After, Some(_)) => {}
    }
    flaws
}

fn writers(spec: &BreakglassPolicySpec) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    if spec.writers.engines.is_empty() {
        let why =
            "is empty: what Flux or Argo CD apply counts as a person's write, and is refused where a token is needed";
        flaws.push(Flaw::warning("spec.writers.engines", why));
    }
    for (index, engine) in spec.writers.engines.iter().enumerate() {
        let field = format!("spec.writers.engines[{index}]");
        for (list, users) in [("users", &engine.users), ("keepers", &engine.keepers)] {
            flaws.extend(users_of(users, engine.proof, &format!("{field}.{list}")));
        }
        flaws.extend(by_name_alone(engine.proof, &field));
    }
    for (index, trusted) in spec.writers.trusted.iter().enumerate() {
        let field = format!("spec.writers.trusted[{index}]");
        flaws.extend(users_of(&trusted.users, trusted.proof, &format!("{field}.users")));
        for (place, group) in trusted.groups.iter().enumerate() {
            let place = format!("{field}.groups[{place}]");
            if EVERYBODY.contains(&group.as_str()) {
                flaws.push(Flaw::warning(place, format!("nobody has to be put into {group}: it is everybody")));
            } else if trusted.proof == Proof::PodBound && !group.starts_with("system:serviceaccounts") {
                let why =
                    format!("only service accounts prove themselves by a pod, and none is in {group}: nobody is this");
                flaws.push(Flaw::warning(place, why));
            }
        }
        flaws.extend(by_name_alone(trusted.proof, &field));
    }
    flaws
}

fn by_name_alone(proof: Proof, field: &str) -> Option<Flaw> {
    let why = "Username asks for no proof: whoever may impersonate the name, or obtains it otherwise, writes untouched";
    (proof == Proof::Username).then(|| Flaw::warning(format!("{field}.proof"), why))
}

fn users_of(users: &[String], proof: Proof, field: &str) -> Vec<Flaw> {
    let found = users.iter().enumerate().filter_map(|(place, pattern)| {
        let prefix = pattern.strip_suffix('*');
        let account = pattern.strip_prefix(SERVICE_ACCOUNT_PREFIX);
        let why = match (prefix, account) {
            (Some(_), Some(rest)) if !rest.contains(':') => {
                format!("{pattern:?} is every service account of every namespace that begins so, and whoever runs a pod there")
            }
            (Some(prefix), None) if SERVICE_ACCOUNT_PREFIX.starts_with(prefix) => {
                format!("{pattern:?} is every service account of the cluster, and whoever runs a pod anywhere")
            }
            (Some(_), None) if proof == Proof::Username => format!("{pattern:?} is every person whose name begins so"),
            (_, None) if proof == Proof::PodBound => {
                format!("only service accounts prove themselves by a pod, and {pattern:?} is none: nobody is this")
            }
            _ => return None,
        };
        Some(Flaw::warning(format!("{field}[{place}]"), why))
    });
    found.collect()
}

fn redacted(spec: &BreakglassPolicySpec) -> Option<Flaw> {
    let hidden = |path: &str| {
        spec.redact
            .iter()
            .any(|one| one.group.is_empty() && one.kind == "Secret" && one.paths.iter().any(|hidden| hidden == path))
    };
    let shown: Vec<&str> = ["/data", "/stringData"].into_iter().filter(|path| !hidden(path)).collect();
    (!shown.is_empty()).then(|| {
        let why = format!("{} of Secrets would stand readable in the records of changes", shown.join(" and "));
        Flaw::warning("spec.redact", why)
    })
}

fn exemptions(spec: &BreakglassPolicySpec) -> Vec<Flaw> {
    let guarded: Vec<&Environment> =
        spec.environments.iter().filter(|environment| environment.writes == Gate::RequireToken).collect();
    let mut flaws = Vec::new();
    for (index, exemption) in spec.exempt.iter().enumerate() {
        let field = format!("spec.exempt[{index}]");
        if exemption.resources.is_empty()
            && exemption.namespaces.is_empty()
            && !exemption.labels.is_empty()
            && !guarded.is_empty()
        {
            let names: Vec<&str> = guarded.iter().map(|environment| environment.name.as_str()).collect();
            let why = format!(
                "labels alone exempt nothing where a token is needed ({}), since anybody could put them on: name resources \
                 or namespaces as well",
                names.join(", ")
            );
            flaws.push(Flaw::warning(format!("{field}.labels"), why));
        }
        for (place, resource) in exemption.resources.iter().enumerate() {
            if resource.contains(|c: char| c.is_ascii_uppercase()) {
                let why = format!(
                    "{resource:?} is no plural: resources are written as in `kubectl api-resources`, deployments.apps"
                );
                flaws.push(Flaw::warning(format!("{field}.resources[{place}]"), why));
            }
        }
        if exemption.resources.is_empty() && exemption.labels.is_empty() {
            for (place, pattern) in exemption.namespaces.iter().enumerate() {
                let inside = guarded.iter().find(|one| one.namespaces.iter().any(|name| glob::matches(pattern, name)));
                if let Some(environment) = inside {
                    let why = format!(
                        "{pattern:?} lets everything into {}, without a token and without a stamp",
                        environment.name
                    );
                    flaws.push(Flaw::warning(format!("{field}.namespaces[{place}]"), why));
                }
            }
        }
    }
    flaws
}

/// Where those live whose writes pass untouched: whoever writes there becomes one of them.
fn homes(spec: &BreakglassPolicySpec) -> Vec<Flaw> {
    let Ok(rules) = Rules::new(spec.clone()) else { return Vec::new() };
    let open = |namespace: &str| {
        let environment = rules.environment_of(namespace, &BTreeMap::new());
        (environment.writes != Gate::RequireToken).then(|| environment.name.clone())
    };
    let mut flaws = Vec::new();
    if let Some(environment) = open(HOME_NAMESPACE) {
        let why = format!(
            "no environment demands a token for our own namespace {HOME_NAMESPACE} (it is in {environment}): whoever may write \
             there takes the webhook away"
        );
        flaws.push(Flaw::warning("spec.environments", why));
    }
    for (index, engine) in spec.writers.engines.iter().enumerate() {
        for (place, user) in engine.users.iter().enumerate() {
            let account = user.strip_prefix(SERVICE_ACCOUNT_PREFIX).and_then(|rest| rest.split_once(':'));
            let Some((namespace, _)) = account.filter(|(namespace, _)| !namespace.contains('*')) else { continue };
            if let Some(environment) = open(namespace) {
                let why = format!(
                    "{user} lives in {namespace}, which needs no token (it is in {environment}): whoever runs a pod there \
                     writes as {}",
                    engine.name
                );
                flaws.push(Flaw::warning(format!("spec.writers.engines[{index}].users[{place}]"), why));
            }
        }
    }
    let engine_objects = rules.environment_of_engine_object(None);
    if engine_objects.is_some_and(|environment| environment.writes != Gate::RequireToken) {
        let why = "needs no token: whoever writes a Kustomization or an Application deploys to production with it";
        flaws.push(Flaw::warning("spec.engineObjects.environment", why));
    }
    if spec.cluster_scoped == Gate::Ignore {
        let why = "Ignore leaves no trace of who wrote a ClusterRole or a CustomResourceDefinition";
        flaws.push(Flaw::warning("spec.clusterScoped", why));
    }
    flaws
}
