//! Each flaw by the text that has it.

use serde_json::{Value, json};

use super::{Flaw, Severity, lint};

/// A sound policy with some fields of its spec set, as a manifest.
fn manifest(fields: Value) -> Value {
    let mut spec = json!({});
    for (field, value) in fields.as_object().unwrap() {
        spec[field] = value.clone();
    }
    json!({"apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassPolicy", "metadata": {"name": "default"}, "spec": spec})
}

fn said(flaws: &[Flaw]) -> Vec<(&'static str, &str, &str)> {
    flaws.iter().map(|flaw| (flaw.severity.as_str(), flaw.field.as_str(), flaw.why.as_str())).collect()
}

/// Holds that each of these is the only flaw, by its field and the start of its sentence.
#[track_caller]
fn check(severity: &str, cases: &[(Value, &str, &str)]) {
    for (fields, field, why) in cases {
        let flaws = lint(&manifest(fields.clone()).to_string());
        let found = said(&flaws);
        let [(level, place, words)] = found[..] else { panic!("{fields}: {found:#?}") };
        assert_eq!((level, place), (severity, *field), "{fields}: {words}");
        assert!(words.contains(why), "{fields}: {words}");
    }
}

/// The environments of the built-in policy, with this one in front or behind.
fn environments(first: Option<Value>, last: Option<Value>) -> Value {
    let platform = json!({"name": "platform", "namespaces": ["breakglass-system", "flux-system", "argocd"],
        "writes": "RequireToken"});
    let all = first.into_iter().chain([platform]).chain(last);
    json!({"environments": all.collect::<Vec<_>>()})
}

#[test]
fn the_built_in_policy_and_the_example_have_no_flaw() {
    assert_eq!(lint("{}"), []);
    assert_eq!(lint(include_str!("../../../manifests/examples/policy.yaml")), []);
    assert_eq!(lint(&manifest(json!({})).to_string()), []);
}

#[test]
fn what_the_schema_refuses_is_an_error_at_its_field() {
    let first = |environment| environments(Some(environment), None);
    check(
        "error",
        &[
            (json!({"mode": "enforce"}), "spec.mode", "write Enforce"),
            (json!({"mode": "Maybe"}), "spec.mode", "\"Maybe\" is none of the words Enforce, Warn, Audit"),
            (json!({"mode": true}), "spec.mode", "is true without quotes, and has to be a text"),
            (json!({"enviroments": []}), "spec.enviroments", "is environments meant?"),
            (json!({"environments": []}), "spec.environments", "needs an entry"),
            (json!({"environments": {}}), "spec.environments", "is a set of fields, and has to be a list"),
            (first(json!({"name": "x", "namespaces": ["a"]})), "spec.environments[0].writes", "is missing"),
            (
                first(json!({"name": "X", "namespaces": ["a"], "writes": "Stamp"})),
                "spec.environments[0].name",
                "is not of the form ^[a-z0-9]",
            ),
            (
                first(json!({"name": "x", "namespaces": ["a", "B"], "writes": "Stamp"})),
                "spec.environments[0].namespaces[1]",
                "\"B\" is not of the form",
            ),
            (
                first(json!({"name": "x", "namespaces": ["a"], "writes": "Stamp", "token": {"maxTTL": "1.5h"}})),
                "spec.environments[0].token.maxTTL",
                "write it as 30m, 1h30m or 2d",
            ),
            (
                first(json!({"name": "x", "namespaces": ["a"], "writes": "Stamp", "debt": {"maxDefer": "0s"}})),
                "spec.environments[0].debt.maxDefer",
                "no time at all",
            ),
            (
                json!({"exempt": [{"name": "x", "reason": "", "resources": ["jobs.batch"]}]}),
                "spec.exempt[0].reason",
                "is empty",
            ),
        ],
    );
}

#[test]
fn what_the_webhook_refuses_is_an_error_at_its_field() {
    let first = |environment| environments(Some(environment), None);
    check(
        "error",
        &[
            (json!({"incidentPattern": "("}), "spec.incidentPattern", "is not a regular expression"),
            (first(json!({"name": "x", "writes": "Stamp"})), "spec.environments[0].namespaces", "nothing is in it"),
            (
                first(json!({"name": "cluster", "namespaces": ["a"], "writes": "Stamp"})),
                "spec.environments[0].name",
                "is kept for objects",
            ),
            (
                first(json!({"name": "platform", "namespaces": ["a"], "writes": "RequireToken"})),
                "spec.environments[1].name",
                "is there twice",
            ),
            (
                first(json!({"name": "x", "namespaces": ["a"], "writes": "Stamp", "token": {"defaultTTL": "5h"}})),
                "spec.environments[0].token.defaultTTL",
                "more than its maxTTL of 4h",
            ),
            (json!({"writers": {"trusted": [{"name": "x"}]}}), "spec.writers.trusted[0].users", "nobody is it"),
            (json!({"exempt": [{"name": "x", "reason": "y"}]}), "spec.exempt[0]", "exempts everything"),
        ],
    );
    let errors = lint(
        &manifest(json!({"writers": {"trusted": [{"name": "x", "users": ["system:serviceaccount:ci:a", "*"]}]}}))
            .to_string(),
    );
    assert_eq!((errors[0].severity, errors[0].field.as_str()), (Severity::Error, "spec.writers.trusted[0].users[1]"));
}

#[test]
fn what_is_accepted_and_not_meant_is_a_warning() {
    let (first, last) =
        (|environment| environments(Some(environment), None), |environment| environments(None, Some(environment)));
    let approval = |approval: Value| {
        last(json!({"name": "prod", "namespaces": ["prod"], "writes": "RequireToken", "token": {"approval": approval}}))
    };
    let trusted = |writer: Value| {
        let mut trusted = json!({"name": "ci"});
        for (field, value) in writer.as_object().unwrap() {
            trusted[field] = value.clone();
        }
        json!({"writers": {"trusted": [trusted]}})
    };
    check(
        "warning",
        &[
            (json!({"mode": "Warn"}), "spec.mode", "refuses nothing"),
            (json!({"mode": "Audit"}), "spec.mode", "refuses nothing"),
            (
                first(json!({"name": "x", "namespaces": ["argocd*"], "writes": "RequireToken"})),
                "spec.environments[1].namespaces[2]",
                "\"argocd\" is never reached: environment x, which stands before platform, has \"argocd*\"",
            ),
            (
                last(json!({"name": "prod", "namespaces": ["prod"], "writes": "Stamp"})),
                "spec.environments[1].writes",
                "needs no token",
            ),
            (
                last(json!({"name": "x", "namespaces": ["x"], "writes": "RequireToken", "exec": "Stamp"})),
                "spec.environments[1].exec",
                "guarded less than writes",
            ),
            (
                approval(json!({"mode": "Before"})),
                "spec.environments[1].token.approval.approvers",
                "nobody may approve",
            ),
            (
                approval(json!({"mode": "After", "within": "5m"})),
                "spec.environments[1].token.approval.approvers",
                "nobody may approve",
            ),
            (
                approval(json!({"approvers": {"groups": ["sre"]}})),
                "spec.environments[1].token.approval.approvers",
                "no effect",
            ),
            (
                approval(json!({"mode": "After", "approvers": {"groups": ["sre"]}})),
                "spec.environments[1].token.approval.within",
                "is missing",
            ),
            (
                approval(json!({"mode": "After", "within": "4h", "approvers": {"groups": ["sre"]}})),
                "spec.environments[1].token.approval.within",
                "no shorter than maxTTL 4h",
            ),
            (json!({"writers": {"engines": []}}), "spec.writers.engines", "counts as a person's write"),
            (
                trusted(json!({"users": ["system:serviceaccount:*"]})),
                "spec.writers.trusted[0].users[0]",
                "is every service account",
            ),
            (trusted(json!({"users": ["system:*"]})), "spec.writers.trusted[0].users[0]", "is every service account"),
            (trusted(json!({"users": ["ci@example.com"]})), "spec.writers.trusted[0].users[0]", "nobody is this"),
            (trusted(json!({"groups": ["robots"]})), "spec.writers.trusted[0].groups[0]", "nobody is this"),
            (
                trusted(json!({"groups": ["system:authenticated"]})),
                "spec.writers.trusted[0].groups[0]",
                "it is everybody",
            ),
            (
                trusted(json!({"users": ["ci"], "proof": "Username"})),
                "spec.writers.trusted[0].proof",
                "asks for no proof",
            ),
            (json!({"redact": []}), "spec.redact", "/data and /stringData of Secrets"),
            (
                json!({"exempt": [{"name": "x", "reason": "r", "labels": {"a": "b"}}]}),
                "spec.exempt[0].labels",
                "exempt nothing where a token is needed (prod, staging, platform)",
            ),
            (
                json!({"exempt": [{"name": "x", "reason": "r", "resources": ["Job"]}]}),
                "spec.exempt[0].resources[0]",
                "is no plural",
            ),
            (
                json!({"exempt": [{"name": "x", "reason": "r", "namespaces": ["prod"]}]}),
                "spec.exempt[0].namespaces[0]",
                "lets everything into prod",
            ),
            (json!({"clusterScoped": "Ignore"}), "spec.clusterScoped", "no trace"),
        ],
    );
}

#[test]
fn an_environment_behind_a_star_is_never_reached_by_name_nor_by_label() {
    let all = json!({"environments": [
        {"name": "platform", "namespaces": ["breakglass-system", "flux-system", "argocd"], "writes": "RequireToken"},
        {"name": "dev", "namespaces": ["*"], "writes": "Stamp"},
        {"name": "prod", "namespaces": ["prod"], "namespaceLabel": "prod", "writes": "RequireToken"}]});
    let flaws = lint(&all.to_string());
    let fields: Vec<&str> = flaws.iter().map(|flaw| flaw.field.as_str()).collect();
    assert_eq!(fields, ["spec.environments[2].namespaces[0]", "spec.environments[2].namespaceLabel"]);
    let twice = json!({"environments": [
        {"name": "platform", "namespaces": ["breakglass-system", "flux-system", "argocd"], "writes": "RequireToken"},
        {"name": "eu", "namespaceLabel": "prod", "writes": "RequireToken"},
        {"name": "us", "namespaceLabel": "prod", "writes": "RequireToken"}]});
    let flaws = lint(&twice.to_string());
    assert_eq!(flaws.len(), 1, "{flaws:#?}");
    assert_eq!(flaws[0].field, "spec.environments[2].namespaceLabel");
}

#[test]
fn where_robots_live_has_to_be_guarded() {
    let flaws = lint(r#"{"environments": [{"name": "prod", "namespaces": ["prod"], "writes": "RequireToken"}]}"#);
    let fields: Vec<&str> = flaws.iter().map(|flaw| flaw.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "spec.environments",
            "spec.writers.engines[0].users[0]",
            "spec.writers.engines[0].users[1]",
            "spec.writers.engines[1].users[0]"
        ]
    );
    assert!(flaws[0].why.contains("our own namespace breakglass-system (it is in other)"), "{}", flaws[0].why);
}

#[test]
fn what_is_no_policy_is_said_so() {
    for (text, field, why) in [
        ("a: [", "", "not one document"),
        ("- a", "", "this is no policy"),
        (r#"{"kind": "BreakglassPolicy", "metadata": {"name": "default"}, "spec": {}}"#, "apiVersion", "is absent"),
        (
            r#"{"apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassPolicy", "metadata": {"name": "x"}, "spec": {}}"#,
            "metadata.name",
            "is \"x\", and has to be default",
        ),
        (
            r#"{"apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassPolicy", "metadata": {"name": "default"}}"#,
            "spec",
            "is missing",
        ),
    ] {
        let flaws = lint(text);
        assert_eq!((flaws.len(), flaws[0].field.as_str()), (1, field), "{text}: {flaws:#?}");
        assert!(flaws[0].why.contains(why), "{text}: {}", flaws[0].why);
    }
}
