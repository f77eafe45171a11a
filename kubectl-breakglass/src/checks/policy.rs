//! Whether a policy is in force, refuses anything, and means what it says.

use breakglass::api::{BreakglassPolicySpec, Mode};

use super::{Finding, Level};
use crate::error::CommandError;
use crate::in_force::{InForce, Source};
use crate::lint::{Severity, lint};

const CHECK: &str = "policy";

/// What is found.
pub fn policy(in_force: &Result<InForce, CommandError>) -> Vec<Finding> {
    let policy = match in_force {
        Ok(policy) => policy,
        Err(error) => {
            let message = format!(
                "{}: the webhook goes by the last policy that it could read, or by the built-in one",
                error.message
            );
            let finding =
                Finding::new(Level::Problem, CHECK, message).object("breakglasspolicy.breakglass.dev/default");
            return vec![error.hints.iter().fold(finding, Finding::hint)];
        }
    };
    let spec = policy.rules.spec();
    let mut findings = Vec::new();
    if spec.mode != Mode::Enforce {
        let message = format!("the policy's mode is {:?}: nothing is refused", spec.mode);
        let hint = "kubectl patch breakglasspolicy default --type=merge -p '{\"spec\":{\"mode\":\"Enforce\"}}'";
        findings.push(
            Finding::new(Level::Note, CHECK, message).hint(hint).object("breakglasspolicy.breakglass.dev/default"),
        );
    }
    let doubts = doubts(spec);
    if doubts > 0 {
        let number = if doubts == 1 { "1 thing".to_owned() } else { format!("{doubts} things") };
        let message = format!("the policy says {number} that nobody means");
        let hint = "kubectl breakglass policy show | kubectl breakglass policy check -";
        findings.push(Finding::new(Level::Note, CHECK, message).hint(hint));
    }
    if findings.is_empty() {
        let which = match policy.source {
            Source::Object => "the object breakglasspolicy/default is in force",
            Source::BuiltIn => "the built-in policy is in force: there is no object breakglasspolicy/default",
            Source::Guessed => return findings,
        };
        findings.push(Finding::new(Level::Ok, CHECK, which));
    }
    findings
}

/// The mode has a line of its own.
fn doubts(spec: &BreakglassPolicySpec) -> usize {
    let flaws = serde_json::to_string(spec).map(|text| lint(&text)).unwrap_or_default();
    flaws.iter().filter(|flaw| flaw.severity == Severity::Warning && flaw.field != "spec.mode").count()
}

#[cfg(test)]
mod tests {
    use breakglass::rules::Rules;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_policy_that_refuses_nothing_or_that_nobody_means_is_a_note() {
        let said = |spec: serde_json::Value| {
            let rules = Rules::new(serde_json::from_value(spec).unwrap()).unwrap();
            policy(&Ok(InForce { rules, source: Source::Object }))
        };
        assert_eq!(said(json!({}))[0].message, "the object breakglasspolicy/default is in force");
        let audit = said(json!({"mode": "Audit"}));
        assert_eq!((audit.len(), audit[0].level), (1, Level::Note));
        assert!(audit[0].hints[0].starts_with("kubectl patch breakglasspolicy default"), "{audit:#?}");
        let doubtful = said(json!({"redact": []}));
        assert_eq!(doubtful[0].message, "the policy says 1 thing that nobody means");
        let unsound =
            policy(&Err(CommandError::failed("the policy default contradicts itself: x").hint("kubectl edit")));
        assert_eq!((unsound[0].level, unsound[0].hints.len()), (Level::Problem, 1));
    }
}
