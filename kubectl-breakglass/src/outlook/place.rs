//! Which part of the policy holds for a write, said by its field.

use std::collections::BTreeMap;

use breakglass::api::{ENVIRONMENT_LABEL, Environment, Gate};
use breakglass::rules::Rules;
use breakglass::write::Write;
use breakglass::{engine, glob};

/// By which part of the policy the write belongs to its environment.
pub fn because(
    write: &Write<'_>,
    environment: &Environment,
    rules: &Rules,
    namespace_labels: &BTreeMap<String, String>,
) -> String {
    let excepted = rules.environment_of_engine_object(write.namespace.as_deref()).is_none();
    if engine::is_object(&write.resource) && !excepted {
        return "whoever writes an engine's object deploys with it (spec.engineObjects.environment)".to_owned();
    }
    let Some(namespace) = &write.namespace else {
        return match environment.name == rules.cluster_scoped().name {
            true => "it lives in no namespace (spec.clusterScoped)".to_owned(),
            false => "it is a part of breakglass, and guarded like what is in its namespace".to_owned(),
        };
    };
    if write.resource.is_credential() {
        return "who has such a token writes as the service account".to_owned();
    }
    let mut labels = vec![namespace_labels];
    if write.resource.is_namespace() {
        labels.extend([&write.before, &write.after].into_iter().flatten().map(|side| side.metadata.labels()));
    }
    let listed = rules.spec().environments.iter().position(|one| one.name == environment.name);
    let Some(index) = listed else {
        return format!("no environment of the policy has a name or a label that fits namespace {namespace}");
    };
    let field = format!("spec.environments[{index}]");
    if let Some(place) = environment.namespaces.iter().position(|pattern| glob::matches(pattern, namespace)) {
        let pattern = &environment.namespaces[place];
        return format!("the namespace's name {namespace} fits {pattern:?} ({field}.namespaces[{place}])");
    }
    let label = labels.iter().find_map(|labels| {
        labels.get(ENVIRONMENT_LABEL).filter(|value| environment.namespace_label.as_ref() == Some(*value))
    });
    match label {
        Some(value) => format!("the namespace has the label {ENVIRONMENT_LABEL}={value} ({field}.namespaceLabel)"),
        None => format!("the policy says so ({field})"),
    }
}

/// Why a write is let in as it is.
pub fn left(write: &Write<'_>, environment: Option<&Environment>, rules: &Rules) -> String {
    if write.resource.is_credential() {
        return "a token of a service account whose writes are looked at anyway".to_owned();
    }
    let Some(environment) = environment else { return "nobody looks at it".to_owned() };
    let labels: Vec<_> =
        [&write.before, &write.after].into_iter().flatten().map(|side| side.metadata.labels()).collect();
    let exemption = rules.exemption(environment, &write.resource.qualified(), write.namespace.as_deref(), &labels);
    if let Some(exemption) = exemption {
        let place = rules.spec().exempt.iter().position(|one| one == exemption).unwrap_or_default();
        return format!("it is exempt (spec.exempt[{place}] {}: {})", exemption.name, exemption.reason);
    }
    if [environment.writes, environment.exec_gate()].contains(&Gate::Ignore) {
        return format!("{} ignores such writes", environment.name);
    }
    "a robot writes the status of an object, and nothing besides".to_owned()
}
