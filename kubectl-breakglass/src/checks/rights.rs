//! Whether the webhook has the rights that it is installed with, and whether you may open a token.

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};
use serde_json::Value;

use super::{Finding, HOME, Level, Mend, NAME};
use crate::rbac::Listed;

const CHECK: &str = "rights";

/// What the webhook may do, as it is installed.
const MANIFEST: &str = include_str!("../../../manifests/webhook/rbac.yaml");

/// The role that may be narrowed to the kinds that are used: see its page in the manifest.
const NARROWED: &str = "breakglass-webhook-objects";

/// What is found, of all roles and bindings.
pub fn rights(listed: &Listed, mend: &Mend) -> Vec<Finding> {
    let mut findings = Vec::new();
    for wanted in MANIFEST.split("\n---\n").filter_map(|text| serde_saphyr::from_str::<Value>(text).ok()) {
        findings.extend(check(&wanted, listed, mend));
    }
    if findings.iter().all(|finding| finding.level < Level::Problem) {
        findings.push(Finding::new(Level::Ok, CHECK, "the webhook has the rights that it is installed with"));
    }
    findings
}

fn check(wanted: &Value, listed: &Listed, mend: &Mend) -> Option<Finding> {
    let kind = wanted["kind"].as_str()?;
    let name = wanted.pointer("/metadata/name")?.as_str()?;
    let namespace = wanted.pointer("/metadata/namespace").and_then(Value::as_str);
    let place = namespace.map_or(String::new(), |namespace| format!("{namespace}/"));
    let object = format!("{}.rbac.authorization.k8s.io/{name}", kind.to_lowercase());
    let problem = |message: String| {
        let level = if name == NARROWED && message.contains(" gives no ") { Level::Note } else { Level::Problem };
        let finding = Finding::new(level, CHECK, message).object(object.clone());
        if level == Level::Problem { finding.hint(mend.install()) } else { finding }
    };
    let is_it = |metadata: &kube::core::ObjectMeta| {
        metadata.name.as_deref() == Some(name) && metadata.namespace.as_deref() == namespace
    };
    let (rules, binding) = match kind {
        "ClusterRole" => {
            let found = listed.cluster_roles.iter().find(|one: &&ClusterRole| is_it(&one.metadata));
            (found.map(|role| role.rules.clone()), None)
        }
        "Role" => {
            let found = listed.roles.iter().find(|one: &&Role| is_it(&one.metadata));
            (found.map(|role| role.rules.clone()), None)
        }
        "ClusterRoleBinding" => {
            let found = listed.cluster_role_bindings.iter().find(|one: &&ClusterRoleBinding| is_it(&one.metadata));
            (None, Some(found.map(|one| (one.role_ref.clone(), one.subjects.clone()))))
        }
        "RoleBinding" => {
            let found = listed.role_bindings.iter().find(|one: &&RoleBinding| is_it(&one.metadata));
            (None, Some(found.map(|one| (one.role_ref.clone(), one.subjects.clone()))))
        }
        _ => return None,
    };
    let missing = || problem(format!("there is no {kind} {place}{name}: the webhook lacks what it gives"));
    if let Some(binding) = binding {
        let Some((role, subjects)) = binding else { return Some(missing()) };
        return is_bound(wanted, &role, &subjects.unwrap_or_default())
            .then_some(())
            .is_none()
            .then(|| problem(format!("the {kind} {place}{name} does not give the webhook its role any more")));
    }
    let Some(rules) = rules else { return Some(missing()) };
    let needed: Vec<PolicyRule> = serde_json::from_value(wanted["rules"].clone()).unwrap_or_default();
    let lacking = lacking(&needed, &rules.unwrap_or_default());
    let first = lacking.first()?;
    let more = if lacking.len() > 1 { format!(" and {} more", lacking.len() - 1) } else { String::new() };
    Some(problem(format!("the {kind} {place}{name} gives no right to {first}{more}")))
}

fn is_bound(wanted: &Value, role: &RoleRef, subjects: &[Subject]) -> bool {
    let account =
        |one: &Subject| one.kind == "ServiceAccount" && one.name == NAME && one.namespace.as_deref() == Some(HOME);
    wanted["roleRef"]["name"] == role.name.as_str()
        && wanted["roleRef"]["kind"] == role.kind.as_str()
        && subjects.iter().any(account)
}

/// What of the rights no rule gives, each as `verb resource.group`.
fn lacking(needed: &[PolicyRule], given: &[PolicyRule]) -> Vec<String> {
    let mut lacking = Vec::new();
    for rule in needed {
        let names: Vec<Option<&String>> = match rule.resource_names.as_deref() {
            None | Some([]) => vec![None],
            Some(names) => names.iter().map(Some).collect(),
        };
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                for verb in &rule.verbs {
                    for name in &names {
                        if !given.iter().any(|given| gives(given, group, resource, verb, *name)) {
                            let named = name.map(|name| format!(" {name}")).unwrap_or_default();
                            let dot = if group.is_empty() { "" } else { "." };
                            lacking.push(format!("{verb} {resource}{dot}{group}{named}"));
                        }
                    }
                }
            }
        }
    }
    lacking
}

fn gives(rule: &PolicyRule, group: &str, resource: &str, verb: &str, name: Option<&String>) -> bool {
    let has = |words: &[String], word: &str| words.iter().any(|one| one == "*" || one == word);
    let named = match rule.resource_names.as_deref() {
        None | Some([]) => true,
        Some(names) => name.is_some_and(|name| names.contains(name)),
    };
    has(rule.api_groups.as_deref().unwrap_or_default(), group)
        && has(rule.resources.as_deref().unwrap_or_default(), resource)
        && has(&rule.verbs, verb)
        && named
}

/// Whether you may open a token yourself.
pub fn own(may_open: bool) -> Option<Finding> {
    (!may_open).then(|| {
        Finding::new(Level::Note, CHECK, "you may not open tokens yourself")
            .hint("kubectl create clusterrolebinding <name> --clusterrole=breakglass-opener --user=<you>")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn installed() -> Vec<Value> {
        MANIFEST.split("\n---\n").map(|text| serde_saphyr::from_str(text).unwrap()).collect()
    }

    fn listed(objects: &[Value]) -> Listed {
        let of = |kind: &str| Value::Array(objects.iter().filter(|one| one["kind"] == kind).cloned().collect());
        Listed {
            cluster_roles: serde_json::from_value(of("ClusterRole")).unwrap(),
            roles: serde_json::from_value(of("Role")).unwrap(),
            cluster_role_bindings: serde_json::from_value(of("ClusterRoleBinding")).unwrap(),
            role_bindings: serde_json::from_value(of("RoleBinding")).unwrap(),
        }
    }

    #[track_caller]
    fn check(kind: &str, name: &str, edit: impl Fn(&mut Value), expected: (Level, &str)) {
        let mut objects = installed();
        let found = objects.iter_mut().find(|one| one["kind"] == kind && one["metadata"]["name"] == name).unwrap();
        edit(found);
        let findings = rights(&listed(&objects), &Mend::default());
        assert!(findings[0].level == expected.0 && findings[0].message.contains(expected.1), "{findings:#?}");
        let problem = expected.0 == Level::Problem;
        assert_eq!(
            findings[0].hints.first().map(String::as_str),
            problem.then_some("kubectl breakglass install --force-conflicts --incident INC-123")
        );
    }

    #[test]
    fn every_right_that_is_missing_is_named_by_its_role() {
        check("ClusterRole", NAME, |_| {}, (Level::Ok, "has the rights"));
        check(
            "ClusterRole",
            NAME,
            |role| role["rules"] = json!([]),
            (
                Level::Problem,
                "the ClusterRole breakglass-webhook gives no right to get breakglasspolicies.breakglass.dev and ",
            ),
        );
        check(
            "ClusterRole",
            NAME,
            |role| role["rules"] = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]),
            (Level::Ok, "has the rights"),
        );
        check(
            "ClusterRole",
            NAME,
            |role| role["kind"] = json!("Gone"),
            (Level::Problem, "there is no ClusterRole breakglass-webhook"),
        );
        check(
            "ClusterRoleBinding",
            NAME,
            |binding| binding["kind"] = json!("Gone"),
            (Level::Problem, "there is no ClusterRoleBinding breakglass-webhook"),
        );
        check(
            "ClusterRoleBinding",
            NAME,
            |binding| binding["subjects"] = json!([]),
            (Level::Problem, "does not give the webhook its role"),
        );
        check(
            "RoleBinding",
            NAME,
            |binding| binding["roleRef"]["name"] = json!("x"),
            (Level::Problem, "the RoleBinding breakglass-system/breakglass-webhook does not"),
        );
        // This one may be narrowed, and not be taken away.
        let apps = json!([{"apiGroups": ["apps"], "resources": ["*"], "verbs": ["get", "patch"]}]);
        check("ClusterRole", NARROWED, |role| role["rules"] = apps.clone(), (Level::Note, "gives no right to get *.*"));
        check(
            "ClusterRole",
            NARROWED,
            |role| role["kind"] = json!("Gone"),
            (Level::Problem, "there is no ClusterRole breakglass-webhook-objects"),
        );
    }
}
