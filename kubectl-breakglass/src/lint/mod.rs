//! Lint: what is wrong with a policy that nobody has put in force yet, and what is right and surely not meant. Pure.

use breakglass::api::{BreakglassPolicy, BreakglassPolicySpec, GROUP, POLICY_NAME};
use kube::CustomResourceExt;
use serde::Serialize;
use serde_json::{Value, json};

// What the schema refuses.
mod shape;
// What the webhook refuses: a policy that contradicts itself.
mod sense;
// What is accepted, and surely not meant.
mod doubts;
#[cfg(test)]
mod tests;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// It is not put in force.
    Error,
    /// It is, and does what it says.
    Warning,
}

impl Severity {
    /// One word for tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flaw {
    /// How bad it is.
    pub severity: Severity,
    /// Where, such as `spec.environments[1].namespaces[0]`; empty where it is the whole text.
    pub field: String,
    /// Why, in a sentence without its full stop.
    pub why: String,
}

impl Flaw {
    fn error(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self { severity: Severity::Error, field: field.into(), why: why.into() }
    }

    fn warning(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, field: field.into(), why: why.into() }
    }
}

/// What is wrong with a manifest of a policy, or with a spec alone. Errors first, each in the order of the text.
pub fn lint(text: &str) -> Vec<Flaw> {
    let (spec, mut flaws) = match read(text) {
        Ok(read) => read,
        Err(flaw) => return vec![flaw],
    };
    if let Some(schema) = schema() {
        shape::check(&spec, &schema, "spec", &mut flaws);
    }
    if flaws.iter().all(|flaw| flaw.severity == Severity::Warning) {
        match serde_json::from_value::<BreakglassPolicySpec>(spec) {
            Ok(spec) => {
                flaws.extend(sense::check(&spec));
                flaws.extend(doubts::check(&spec));
            }
            Err(error) => flaws.push(Flaw::error("spec", error.to_string())),
        }
    }
    flaws.sort_by_key(|flaw| flaw.severity);
    flaws
}

/// The spec of a manifest, as the webhook would read it.
///
/// # Errors
/// The first thing that keeps it from being one.
pub fn spec_of(text: &str) -> Result<BreakglassPolicySpec, Flaw> {
    let errors = lint(text).into_iter().find(|flaw| flaw.severity == Severity::Error);
    match errors {
        Some(flaw) => Err(flaw),
        None => {
            let (spec, _) = read(text)?;
            serde_json::from_value(spec).map_err(|error| Flaw::error("spec", error.to_string()))
        }
    }
}

/// The spec in a text, and what is wrong around it.
fn read(text: &str) -> Result<(Value, Vec<Flaw>), Flaw> {
    let value: Value = serde_saphyr::from_str(text)
        .map_err(|error| Flaw::error("", format!("this is not one document of YAML or JSON: {}", one_line(&error))))?;
    let Value::Object(fields) = &value else {
        return Err(Flaw::error("", "this is no policy: a BreakglassPolicy, or the fields of its spec, are expected"));
    };
    if !["apiVersion", "kind", "metadata", "spec"].iter().any(|field| fields.contains_key(*field)) {
        return Ok((value, Vec::new()));
    }
    let mut flaws = Vec::new();
    let group_version = format!("{GROUP}/v1alpha1");
    let mut expect = |field: &str, found: Option<&Value>, expected: &str| {
        if found != Some(&json!(expected)) {
            let found = found.map_or("absent".to_owned(), Value::to_string);
            flaws.push(Flaw::error(field, format!("is {found}, and has to be {expected}")));
        }
    };
    expect("apiVersion", fields.get("apiVersion"), &group_version);
    expect("kind", fields.get("kind"), "BreakglassPolicy");
    expect("metadata.name", value.pointer("/metadata/name"), POLICY_NAME);
    let known = ["apiVersion", "kind", "metadata", "spec"];
    flaws.extend(
        fields
            .keys()
            .filter(|name| !known.contains(&name.as_str()))
            .map(|name| Flaw::error(name, "is no field of a BreakglassPolicy: what is guarded stands in its spec")),
    );
    match fields.get("spec") {
        Some(spec) => Ok((spec.clone(), flaws)),
        None => {
            flaws.push(Flaw::error("spec", "is missing: a policy without one is no policy"));
            Ok((json!({}), flaws))
        }
    }
}

/// The schema of the spec, as the API server holds policies against it.
fn schema() -> Option<shape::Schema> {
    let definition = BreakglassPolicy::crd();
    let version = definition.spec.versions.into_iter().next()?;
    version.schema?.open_api_v3_schema?.properties?.remove("spec")
}

/// Errors of parsers draw pictures over several lines.
fn one_line(error: &impl ToString) -> String {
    error.to_string().lines().next().unwrap_or_default().trim().to_owned()
}
