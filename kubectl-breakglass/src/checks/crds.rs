//! Whether the definitions of our three kinds are there, are served, and say what this version's types say.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

use super::difference::differences;
use super::{Finding, Level, Mend};

const CHECK: &str = "kinds";

/// The version of the kinds.
const VERSION: &str = "v1alpha1";

/// The definitions, as they are installed.
const DEFINITIONS: [(&str, &str); 3] = [
    ("breakglasspolicies.breakglass.dev", include_str!("../../../manifests/crds/breakglasspolicies.yaml")),
    ("breakglasstokens.breakglass.dev", include_str!("../../../manifests/crds/breakglasstokens.yaml")),
    ("breakglasschanges.breakglass.dev", include_str!("../../../manifests/crds/breakglasschanges.yaml")),
];

/// The names of the definitions.
pub fn names() -> [&'static str; 3] {
    DEFINITIONS.map(|(name, _)| name)
}

/// What is found, of what the server has under these names. `mend` knows whether the server has our version.
pub fn crds(found: &[Option<CustomResourceDefinition>], mend: &Mend) -> Vec<Finding> {
    let mut findings: Vec<Finding> = DEFINITIONS
        .iter()
        .zip(found)
        .flat_map(|((name, text), found)| {
            let object = format!("customresourcedefinition.apiextensions.k8s.io/{name}");
            let problems = match found {
                None => vec![format!("there is no kind {name}: {}", without(name))],
                Some(found) => wrong(name, text, found, mend),
            };
            problems
                .into_iter()
                .map(move |message| Finding::new(Level::Problem, CHECK, message).hint(mend.install()).object(&object))
        })
        .collect();
    if findings.is_empty() {
        let message = match mend.same_version {
            true => "the three kinds are served, and are what this version says",
            false => "the three kinds are served",
        };
        findings.push(Finding::new(Level::Ok, CHECK, message));
    }
    findings
}

fn without(name: &str) -> &'static str {
    match name.split('.').next() {
        Some("breakglasstokens") => "nobody can open a token",
        Some("breakglasschanges") => "no record can be kept, and every write under a token is refused",
        _ => "the policy in force is the built-in one, or the last that was read",
    }
}

fn wrong(name: &str, text: &str, found: &CustomResourceDefinition, mend: &Mend) -> Vec<String> {
    let conditions = found.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut conditions =
        conditions.filter(|condition| ["Established", "NamesAccepted"].contains(&condition.type_.as_str()));
    if let Some(not) = conditions.find(|condition| condition.status != "True") {
        let message = not.message.as_deref().unwrap_or_default();
        return vec![format!("the kind {name} is not {}: {message}", not.type_)];
    }
    if !found.spec.versions.iter().any(|version| version.name == VERSION && version.served) {
        return vec![format!("the kind {name} is not served as {VERSION}")];
    }
    if !mend.same_version {
        return Vec::new();
    }
    let wanted = serde_saphyr::from_str::<CustomResourceDefinition>(text).ok().and_then(|wanted| spec(&wanted));
    let (Some(wanted), Some(live)) = (wanted, spec(found)) else { return Vec::new() };
    let differences = differences(&wanted, &live, &["description"]);
    let say = |one: super::difference::Difference| {
        format!("the definition of {name} was edited: {} is {}, and was {}", one.field, one.live, one.wanted)
    };
    differences.into_iter().take(1).map(say).collect()
}

/// What of a definition says what objects may be; the rest the API server fills in.
fn spec(definition: &CustomResourceDefinition) -> Option<Value> {
    let mut spec = serde_json::to_value(&definition.spec).ok()?;
    let fields = spec.as_object_mut()?;
    fields.remove("conversion");
    fields.remove("preserveUnknownFields");
    let names = fields.get_mut("names")?.as_object_mut()?;
    names.remove("listKind");
    Some(spec)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn installed(edit: impl Fn(usize, &mut Value)) -> Vec<Option<CustomResourceDefinition>> {
        let one = |(index, (_, text)): (usize, &(&str, &str))| {
            let mut value: Value = serde_saphyr::from_str(text).unwrap();
            value["spec"]["names"]["listKind"] = json!("X");
            value["spec"]["conversion"] = json!({"strategy": "None"});
            value["status"] = json!({"conditions": [{"type": "Established", "status": "True"}]});
            edit(index, &mut value);
            serde_json::from_value(value).ok()
        };
        DEFINITIONS.iter().enumerate().map(one).collect()
    }

    #[track_caller]
    fn check(edit: impl Fn(usize, &mut Value), expected: &str) {
        let findings = crds(&installed(edit), &Mend::default());
        assert_eq!(findings.len(), 1, "{findings:#?}");
        assert!(findings[0].message.contains(expected), "{}", findings[0].message);
        let problem = findings[0].level == Level::Problem;
        assert_eq!(
            findings[0].hints,
            if problem {
                vec!["kubectl breakglass install --force-conflicts --incident INC-123".to_owned()]
            } else {
                vec![]
            }
        );
    }

    #[test]
    fn a_definition_is_what_was_installed_or_the_edit_is_named() {
        let schema = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
        check(|_, _| {}, "are what this version says");
        check(
            |index, value| {
                if index == 2 {
                    *value = Value::Null
                }
            },
            "there is no kind breakglasschanges.breakglass.dev: no record can",
        );
        check(
            |index, value| {
                if index == 1 {
                    value["status"]["conditions"][0]["status"] = json!("False")
                }
            },
            "the kind breakglasstokens.breakglass.dev is not Established",
        );
        check(
            |index, value| {
                if index == 0 {
                    value["spec"]["versions"][0]["served"] = json!(false)
                }
            },
            "is not served as v1alpha1",
        );
        check(
            |index, value| {
                if index == 1 {
                    value
                        .pointer_mut(&format!("{schema}/properties/user/maxLength"))
                        .map(|length| *length = json!(9))
                        .unwrap();
                }
            },
            "openAPIV3Schema.properties.spec.properties.user.maxLength is 9, and was 1024",
        );
        check(
            |index, value| {
                if index == 1 {
                    value.pointer_mut(schema).unwrap()["x-kubernetes-validations"] = json!([]);
                }
            },
            "x-kubernetes-validations is [], and was [",
        );
    }

    #[test]
    fn of_another_version_only_what_holds_for_every_version_is_looked_at() {
        let edited = installed(|_, value| value["spec"]["names"]["categories"] = json!(["x"]));
        let findings = crds(&edited, &Mend { same_version: false, ..Mend::default() });
        assert_eq!((findings.len(), findings[0].level), (1, Level::Ok), "{findings:#?}");
    }
}
