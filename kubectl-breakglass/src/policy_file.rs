//! A policy in a file: a manifest, or its spec alone; checked as the webhook will check it.

use std::path::Path;

use breakglass::api::{BreakglassPolicySpec, POLICY_NAME};
use breakglass::rules::Rules;
use serde_json::Value;

use crate::error::{CommandError, Result};

/// The kind of a manifest.
const KIND: &str = "BreakglassPolicy";

/// Reads a file. What is left out in it stays out: it has the built-in value.
///
/// # Errors
/// When it cannot be read, is something else, or contradicts itself.
pub fn read(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| CommandError::usage(format!("{} cannot be read: {error}", path.display())))?;
    parse(&text).map_err(|mut error| {
        error.message = format!("{}: {}", path.display(), error.message);
        error
    })
}

/// The spec that a text says.
fn parse(text: &str) -> Result<Value> {
    let document: Value =
        serde_saphyr::from_str(text).map_err(|error| CommandError::usage(format!("this is no YAML: {error}")))?;
    let spec = match document.get("kind").and_then(Value::as_str) {
        Some(KIND) => {
            let name = document.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            if name != POLICY_NAME {
                return Err(CommandError::usage(format!(
                    "only the policy named {POLICY_NAME} is honoured, and this one is named {name:?}"
                )));
            }
            document.get("spec").cloned().unwrap_or_default()
        }
        Some(other) => return Err(CommandError::usage(format!("this is a {other}, and no {KIND}"))),
        None => document,
    };
    if !spec.is_object() {
        return Err(CommandError::usage("this is no policy: it has no fields"));
    }
    check(&spec)?;
    Ok(spec)
}

/// Whether the webhook can put it in force.
///
/// # Errors
/// What cannot be read in it, or contradicts itself.
pub fn check(spec: &Value) -> Result<Rules> {
    // Through text, so that the place of a mistake is in the words.
    let read: BreakglassPolicySpec = serde_json::from_value(spec.clone())
        .map_err(|error| CommandError::usage(format!("this policy cannot be read: {error}")))?;
    Rules::new(read).map_err(|error| CommandError::usage(format!("this policy would not be put in force: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: std::result::Result<&str, &str>) {
        let found = parse(text).map(|spec| spec.to_string()).map_err(|error| error.message);
        assert_eq!(found.as_deref().map_err(String::as_str), expected, "{text}");
    }

    #[test]
    fn a_manifest_and_a_bare_spec_say_the_same() {
        check("mode: Warn", Ok(r#"{"mode":"Warn"}"#));
        let manifest = "apiVersion: breakglass.dev/v1alpha1\nkind: BreakglassPolicy\nmetadata: {name: NAME}\n\
                        spec: {mode: Warn}";
        check(&manifest.replace("NAME", "default"), Ok(r#"{"mode":"Warn"}"#));
        check(
            &manifest.replace("NAME", "ours"),
            Err("only the policy named default is honoured, and this one is named \"ours\""),
        );
    }

    #[test]
    fn what_the_webhook_would_not_honour_is_not_sent() {
        check("kind: ConfigMap", Err("this is a ConfigMap, and no BreakglassPolicy"));
        check("- a", Err("this is no policy: it has no fields"));
        check(
            "mode: Strict",
            Err("this policy cannot be read: unknown variant `Strict`, expected one of `Enforce`, `Warn`, `Audit`"),
        );
        check(
            "environments: [{name: prod, writes: RequireToken}]",
            Err("this policy would not be put in force: spec.environments: \"prod\" has neither namespaces nor a \
                 namespaceLabel, so nothing is in it"),
        );
    }
}
