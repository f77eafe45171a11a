//! What is registered, by what must be in it and what must not.

use breakglass::rules::Rules;
use k8s_openapi::api::admissionregistration::v1::WebhookClientConfig;
use serde_json::json;

use super::render;

fn rules(spec: serde_json::Value) -> Rules {
    Rules::new(serde_json::from_value(spec).unwrap()).unwrap()
}

#[test]
fn what_demands_a_token_fails_closed_and_what_stamps_fails_open() {
    let rules = Rules::built_in().unwrap();
    let calls = WebhookClientConfig::default();
    assert!(render::mutating(&rules, &calls).iter().all(|hook| hook.failure_policy.as_deref() == Some("Ignore")));
    for hook in render::validating(&rules, &calls, "breakglass-system") {
        let expected = if hook.name.starts_with("home") || hook.name.starts_with("truth") { "Ignore" } else { "Fail" };
        assert_eq!(hook.failure_policy.as_deref(), Some(expected), "{}", hook.name);
        assert_eq!(hook.match_policy.as_deref(), Some("Equivalent"));
    }
}

#[test]
fn cluster_scoped_objects_are_gated_only_where_the_policy_says_so() {
    let calls = WebhookClientConfig::default();
    let gated = |rules: &Rules| {
        render::validating(rules, &calls, "breakglass-system").iter().any(|hook| hook.name == "cluster.breakglass.dev")
    };
    assert!(!gated(&Rules::built_in().unwrap()));
    assert!(gated(&rules(json!({"clusterScoped": "RequireToken"}))));
}

#[test]
fn a_quote_in_a_name_stays_inside_its_string() {
    let rules = rules(json!({"writers": {"engines": [{"name": "x", "users": ["a' || true || '"]}]}}));
    let webhooks = render::mutating(&rules, &WebhookClientConfig::default());
    let condition = &webhooks[0].match_conditions.as_ref().unwrap()[0].expression;
    assert!(condition.contains(r"['a\' || true || \'']"), "{condition}");
}
