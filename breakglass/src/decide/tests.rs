//! The decision as tables: every writer, gate, mode and token state, and what the person reads.

use super::*;
use crate::api::{BreakglassPolicySpec, BreakglassTokenStatus, GivenApproval, Timestamp, TokenPhase};
use crate::write::{Object, Requester, Resource};
use serde_json::json;
use serde_json::value::RawValue;

const ALICE: &str = "alice@example.com";

fn at(text: &str) -> DateTime<Utc> {
    text.parse::<DateTime<Utc>>().unwrap()
}

/// 12:00, in the middle of the tokens below.
fn noon() -> DateTime<Utc> {
    at("2026-11-20T12:00:00Z")
}

fn rules(spec: serde_json::Value) -> Rules {
    Rules::new(serde_json::from_value::<BreakglassPolicySpec>(spec).unwrap()).unwrap()
}

/// alice's token for INC-123 in prod, 11:30 to 12:30.
fn token(name: &str) -> BreakglassToken {
    serde_json::from_value(json!({
        "apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassToken", "metadata": {"name": name, "uid": "t1"},
        "spec": {"incident": "INC-123", "reason": "r", "user": ALICE, "environment": "prod",
                 "openedAt": "2026-11-20T11:30:00Z", "expiresAt": "2026-11-20T12:30:00Z"},
    }))
    .unwrap()
}

fn ended(mut token: BreakglassToken, phase: TokenPhase) -> BreakglassToken {
    token.status = Some(BreakglassTokenStatus {
        phase: Some(phase),
        closed_at: Some(Timestamp::new(at("2026-11-20T11:45:00Z"))),
        closed_by: Some("bob@example.com".to_owned()),
        ..Default::default()
    });
    token
}

fn write_to(namespace: Option<&str>) -> Write<'static> {
    Write {
        verb: Verb::Update,
        resource: Resource {
            group: "apps".to_owned(),
            version: "v1".to_owned(),
            plural: "deployments".to_owned(),
            kind: "Deployment".to_owned(),
            subresource: None,
        },
        namespace: namespace.map(str::to_owned),
        name: "api".to_owned(),
        requester: Requester { user: ALICE.to_owned(), ..Default::default() },
        before: None,
        after: None,
        dry_run: false,
        manager: "kubectl-edit".to_owned(),
    }
}

fn decided<'k>(write: &Write<'_>, rules: &'k Rules, tokens: &'k [BreakglassToken]) -> Decision<'k> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    decide(write, &Writer::Direct, Known { rules, namespace_labels: &NONE, tokens, now: noon() })
}

/// The decision in prod with these tokens, as one word and what the person reads.
fn check(tokens: &[BreakglassToken], expected: &str, text: &str) {
    let rules = Rules::built_in().unwrap();
    let decision = decided(&write_to(Some("prod")), &rules, tokens);
    let (word, said) = match &decision {
        Decision::Refuse(refusal) => (refusal.why.as_str(), refusal.to_string()),
        Decision::Admit { token, .. } => ("Admit", token.metadata.name.clone().unwrap()),
        other => (other.as_str(), String::new()),
    };
    assert_eq!(word, expected, "{said}");
    assert_eq!(said, text);
}

const ASKS: &str =
    "prod is run by GitOps: deployments.apps \"api\" (update) by alice@example.com needs a break-glass token";

#[test]
fn a_prod_write_needs_a_live_token_of_its_writer_and_says_so_in_its_own_words() {
    let open = "kubectl breakglass open <incident> -n prod --reason \"…\"";
    let again = "kubectl breakglass open INC-123 -n prod --reason \"…\"";
    let mut bobs = token("inc-123-bbbbb");
    bobs.spec.user = "bob@example.com".to_owned();
    let mut staging = token("inc-123-sssss");
    staging.spec.environment = "staging".to_owned();
    let mut elsewhere = token("inc-123-eeeee");
    elsewhere.spec.namespaces = vec!["prod-eu".to_owned()];
    elsewhere.spec.opened_at = Timestamp::new(at("2026-11-20T11:50:00Z"));
    let mut expired = token("inc-123-xxxxx");
    expired.spec.expires_at = Timestamp::new(noon());
    let mut future = token("inc-123-fffff");
    future.spec.opened_at = Timestamp::new(at("2026-11-20T12:06:00Z"));
    let mut newer = token("inc-123-nnnnn");
    newer.spec.opened_at = Timestamp::new(at("2026-11-20T11:40:00Z"));
    let live = token("inc-123-aaaaa");
    let closed = ended(token("inc-123-ccccc"), TokenPhase::Closed);
    let denied = ended(token("inc-123-ddddd"), TokenPhase::Denied);

    check(&[], "NoToken", &format!("{ASKS}. Open one: {open}"));
    check(&[bobs.clone(), staging], "NoToken", &format!("{ASKS}. Open one: {open}"));
    check(std::slice::from_ref(&live), "Admit", "inc-123-aaaaa");
    check(&[live.clone(), newer, bobs], "Admit", "inc-123-nnnnn");
    check(&[live.clone(), closed.clone(), expired.clone()], "Admit", "inc-123-aaaaa");
    check(
        std::slice::from_ref(&expired),
        "Expired",
        &format!("{ASKS}, and inc-123-xxxxx expired at 2026-11-20T12:00:00Z. Open one: {again}"),
    );
    check(
        &[closed],
        "Closed",
        &format!("{ASKS}, and inc-123-ccccc was closed by bob@example.com at 2026-11-20T11:45:00Z. Open one: {again}"),
    );
    check(
        &[denied],
        "Denied",
        &format!("{ASKS}, and inc-123-ddddd was denied by bob@example.com at 2026-11-20T11:45:00Z. Open one: {again}"),
    );
    let mut later = expired.clone();
    later.spec.opened_at = Timestamp::new(at("2026-11-20T11:55:00Z"));
    check(
        &[elsewhere.clone(), later],
        "Expired",
        &format!("{ASKS}, and inc-123-xxxxx expired at 2026-11-20T12:00:00Z. Open one: {again}"),
    );
    check(
        &[elsewhere, expired],
        "OtherNamespace",
        &format!("{ASKS}, and inc-123-eeeee covers only prod-eu. Open one: {open}"),
    );
    check(
        &[future],
        "NotYet",
        &format!(
            "{ASKS}, and inc-123-fffff was opened at 2026-11-20T12:06:00Z, which is still to come: the clocks of two \
             webhook replicas disagree. Open one: {open}"
        ),
    );
}

/// K-02: a token admits until one millisecond before its end, and from its end on nothing.
#[test]
fn a_token_ends_at_its_second_and_not_one_millisecond_later() {
    let rules = Rules::built_in().unwrap();
    let environment = rules.environment_named("prod").unwrap();
    let token = token("inc-123-aaaaa");
    let end = token.spec.expires_at.instant();
    for (offset, expected) in [(-1, Life::Live), (0, Life::Expired), (1, Life::Expired)] {
        assert_eq!(cover::life(&token, environment, end + chrono::TimeDelta::milliseconds(offset)), expected);
    }
}

#[test]
fn approval_is_somebody_elses() {
    let spec = |mode: &str| {
        json!({"environments": [{"name": "prod", "namespaces": ["prod"], "writes": "RequireToken", "token": {
            "approval": {"mode": mode, "within": "15m", "approvers": {"groups": ["approvers"]}}}}]})
    };
    let approved_by = |user: &str| {
        let given = GivenApproval { user: user.to_owned(), time: Timestamp::new(noon()), note: None };
        let mut token = token("inc-123-aaaaa");
        token.status = Some(BreakglassTokenStatus { approvals: vec![given], ..Default::default() });
        token
    };
    for (mode, token, expected) in [
        ("Before", token("inc-123-aaaaa"), Life::Waiting),
        ("Before", approved_by(ALICE), Life::Waiting),
        ("Before", approved_by("carol@example.com"), Life::Live),
        ("After", token("inc-123-aaaaa"), Life::Unapproved),
        ("After", approved_by("carol@example.com"), Life::Live),
        ("None", token("inc-123-aaaaa"), Life::Live),
    ] {
        let rules = rules(spec(mode));
        let environment = rules.environment_named("prod").unwrap();
        assert_eq!(cover::life(&token, environment, noon()), expected, "{mode}");
    }
}

#[test]
fn a_token_that_waits_says_for_whom() {
    let tokens = [token("inc-123-aaaaa")];
    for (approvers, waits) in [
        (json!({"groups": ["approvers", "leads"]}), "waits for approval by approvers, leads"),
        (json!({}), "waits for approval, and the policy names nobody who may give it"),
    ] {
        let rules = rules(json!({"environments": [{"name": "prod", "namespaces": ["prod"], "writes": "RequireToken",
            "token": {"approval": {"mode": "Before", "within": "15m", "approvers": approvers}}}]}));
        let write = write_to(Some("prod"));
        let Decision::Refuse(refusal) = decided(&write, &rules, &tokens) else { panic!("not refused") };
        assert_eq!(refusal.reason(), format!("{ASKS}, and inc-123-aaaaa {waits}"));
    }
}

#[test]
fn every_gate_mode_and_dry_run_has_its_decision() {
    for (gate, mode, dry_run, with_token, expected) in [
        ("RequireToken", "Enforce", false, false, "Refuse"),
        ("RequireToken", "Enforce", true, false, "Rehearse"),
        ("RequireToken", "Enforce", false, true, "Admit"),
        ("RequireToken", "Enforce", true, true, "Admit"),
        ("RequireToken", "Warn", false, false, "Tolerate"),
        ("RequireToken", "Audit", true, false, "Tolerate"),
        ("RequireToken", "Warn", false, true, "Admit"),
        ("Stamp", "Enforce", false, false, "Note"),
        ("Stamp", "Warn", true, true, "Note"),
        ("Ignore", "Enforce", false, true, "Leave"),
        ("Ignore", "Audit", false, false, "Leave"),
    ] {
        let rules = rules(json!({"mode": mode, "environments": [
            {"name": "prod", "namespaces": ["prod"], "writes": gate}]}));
        let tokens = if with_token { vec![token("inc-123-aaaaa")] } else { vec![] };
        let write = Write { dry_run, ..write_to(Some("prod")) };
        assert_eq!(decided(&write, &rules, &tokens).as_str(), expected, "{gate} {mode} {dry_run} {with_token}");
    }
}

#[test]
fn only_direct_writes_are_looked_at() {
    let rules = Rules::built_in().unwrap();
    let none = BTreeMap::new();
    for writer in
        [Writer::ControlPlane, Writer::Engine("flux".to_owned()), Writer::Trusted("ci".to_owned()), Writer::Webhook]
    {
        let known = Known { rules: &rules, namespace_labels: &none, tokens: &[], now: noon() };
        assert_eq!(decide(&write_to(Some("prod")), &writer, known), Decision::Pass, "{writer:?}");
    }
}

#[test]
fn exec_follows_its_own_gate() {
    let rules = rules(json!({"environments": [
        {"name": "prod", "namespaces": ["prod"], "writes": "RequireToken", "exec": "Ignore"},
        {"name": "dev", "namespaces": ["*"], "writes": "Stamp", "exec": "RequireToken"}]}));
    let exec = |namespace| Write { verb: Verb::Connect, ..write_to(Some(namespace)) };
    assert_eq!(decided(&exec("prod"), &rules, &[]).as_str(), "Leave");
    assert_eq!(decided(&exec("dev"), &rules, &[]).as_str(), "Refuse");
}

#[test]
fn a_namespace_counts_as_its_own_environment_before_and_after() {
    let rules = Rules::built_in().unwrap();
    let plain: Box<RawValue> = serde_json::from_str("{}").unwrap();
    let labelled: Box<RawValue> =
        serde_json::from_str(r#"{"metadata":{"labels":{"breakglass.dev/environment":"prod"}}}"#).unwrap();
    let staging: Box<RawValue> =
        serde_json::from_str(r#"{"metadata":{"labels":{"breakglass.dev/environment":"staging"}}}"#).unwrap();
    let environment = |name: &str, before: Option<&RawValue>, after: Option<&RawValue>| {
        let resource = Resource { plural: "namespaces".to_owned(), version: "v1".to_owned(), ..Default::default() };
        let write = Write {
            resource,
            name: name.to_owned(),
            before: before.map(Object::new),
            after: after.map(Object::new),
            ..write_to(Some(name))
        };
        cover::environment_of_write(&rules, &write, &BTreeMap::new()).name.clone()
    };
    assert_eq!(environment("team-a", None, Some(&plain)), "dev");
    assert_eq!(environment("team-a", None, Some(&labelled)), "prod");
    assert_eq!(environment("team-a", Some(&labelled), Some(&plain)), "prod");
    assert_eq!(environment("team-a", Some(&plain), Some(&labelled)), "prod");
    assert_eq!(environment("team-a", Some(&labelled), Some(&staging)), "prod");
    assert_eq!(environment("team-a", Some(&staging), Some(&plain)), "staging");
    assert_eq!(environment("team-a", Some(&labelled), None), "prod");
    assert_eq!(environment("prod-eu", None, Some(&plain)), "prod");
}

#[test]
fn the_definitions_of_our_own_kinds_are_guarded_like_our_own_namespace() {
    let rules = Rules::built_in().unwrap();
    let mut write = write_to(None);
    write.resource.group = "apiextensions.k8s.io".to_owned();
    write.resource.plural = "customresourcedefinitions".to_owned();
    let environment = |write: &Write<'_>| cover::environment_of_write(&rules, write, &BTreeMap::new()).name.clone();
    for (name, expected) in [("breakglasschanges.breakglass.dev", "platform"), ("widgets.example.com", "cluster")] {
        write.name = name.to_owned();
        assert_eq!(environment(&write), expected, "{name}");
    }
}

#[test]
fn a_refusal_names_where_to_open_and_stays_short() {
    let rules = rules(json!({"clusterScoped": "RequireToken"}));
    let said = |write: &Write<'_>| match decided(write, &rules, &[]) {
        Decision::Refuse(refusal) => refusal.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(said(&write_to(None)).ends_with("open <incident> --environment cluster --reason \"…\""));
    let mut namespace = write_to(Some("prod-eu"));
    namespace.resource = Resource { plural: "namespaces".to_owned(), ..Default::default() };
    assert!(said(&namespace).ends_with("open <incident> --environment prod --reason \"…\""));
    let mut long = write_to(Some("prod"));
    long.name = "ü".repeat(10_000);
    long.requester.user = "x".repeat(10_000);
    assert!(said(&long).chars().count() < 800);
}
