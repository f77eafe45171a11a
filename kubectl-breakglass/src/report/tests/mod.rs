//! An incident from its first token to what is still owed, told in every form.

use breakglass::api::BreakglassToken;
use breakglass::rules::Rules;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::facts::{Facts, Sources};
use super::figures::{self, Figures};
use super::html::html;
use super::markdown::markdown;
use super::sum_up::sum_up;
use super::tell::tell;
use crate::heard::{Heard, Told};
use crate::ledger::{Keep, Record, read_record};

/// What somebody may type who wants to be something else on the page.
const HOSTILE: &str = "checkout | 500\n# head\n```\n<script>alert(1)</script> `x` [a](b) \u{1b}[31m\u{202e}";

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn token(name: &str, spec: Value, status: Value) -> BreakglassToken {
    let mut object = json!({"apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassToken", "metadata": {"name": name},
        "spec": {"incident": "INC-123", "reason": HOSTILE, "user": "alice@example.com", "environment": "prod",
            "namespaces": ["prod"], "openedAt": "2026-11-20T12:00:00Z", "expiresAt": "2026-11-20T13:00:00Z"},
        "status": status});
    json_merge(&mut object["spec"], spec);
    serde_json::from_value(object).unwrap()
}

fn json_merge(target: &mut Value, more: Value) {
    for (key, value) in more.as_object().unwrap() {
        target[key] = value.clone();
    }
}

fn record(name: &str, operation: &str, spec: Value, status: Value) -> Record {
    let mut object = json!({"metadata": {"name": name}, "status": status,
        "spec": {"token": "inc-123-bcdfg", "incident": "INC-123", "user": "alice@example.com", "operation": operation,
            "time": "2026-11-20T12:05:00Z", "environment": "prod", "manager": "kubectl-edit",
            "target": {"apiVersion": "apps/v1", "kind": "Deployment", "resource": "deployments", "namespace": "prod",
                "name": "api"},
            "decideBy": "2026-11-21T12:05:00Z"}});
    json_merge(&mut object["spec"], spec);
    read_record(serde_json::from_value(object).unwrap(), Keep::Whole).unwrap()
}

fn records() -> Vec<Record> {
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "resource": "secrets", "namespace": "prod", "name": "keys"});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "resource": "pods", "namespace": "prod", "name": "api-0"});
    vec![
        record(
            "inc-123-a",
            "Update",
            json!({"engineOwner": "Kustomization flux-system/prod", "credential": "X509SHA256=abc",
                "before": {"kind": "Deployment", "spec": {"image": "api:1", "paused": false}},
                "patch": [{"op": "replace", "path": "/spec/image", "value": "api:2``` | <b>"}]}),
            json!({"phase": "Settled", "verdict": "Accepted", "by": "carol@example.com", "at": "2026-11-20T21:17:00Z",
                "note": "keep | it", "outcome": "InGit", "settledAt": "2026-11-20T21:20:00Z", "git":
                {"repository": "ssh://git@git.example.com/fleet", "branch": "breakglass/INC-123", "commit": "abc123",
                    "path": "prod/api.yaml"}}),
        ),
        record(
            "inc-123-b",
            "Scale",
            json!({"time": "2026-11-20T12:06:00Z", "subresource": "scale", "manager": null,
                "before": {"kind": "Scale", "spec": {"replicas": 2}},
                "patch": [{"op": "replace", "path": "/spec/replicas", "value": 5}]}),
            json!({"phase": "Deferred", "verdict": "Deferred", "by": "bob@example.com", "at": "2026-11-20T22:00:00Z",
                "until": "2026-11-22T12:00:00Z", "note": "after the audit"}),
        ),
        record(
            "inc-123-c",
            "Update",
            json!({"time": "2026-11-20T12:07:00Z", "target": secret, "before": {"data": {"k": "hidden:aa"}},
                "patch": [{"op": "replace", "path": "/data/k", "value": "hidden:bb"}]}),
            json!({"phase": "Pending"}),
        ),
        record(
            "inc-123-d",
            "Exec",
            json!({"time": "2026-11-20T12:08:00Z", "target": pod, "subresource": "exec", "token": "inc-123-gone7",
                "patch": [{"op": "add", "path": "", "value": {"command": ["sh", "-c", "env"]}}]}),
            json!({"phase": "Settled", "outcome": "Gone", "settledAt": "2026-11-22T12:08:00Z"}),
        ),
        record(
            "inc-123-e",
            "Update",
            json!({"time": "2026-11-20T12:09:00Z", "truncated": true}),
            json!({"phase": "Pending"}),
        ),
        record("inc-9-x", "Update", json!({"incident": "INC-9"}), json!({"phase": "Pending"})),
    ]
}

fn facts(now: &str) -> Facts {
    let tokens = [
        token(
            "inc-123-bcdfg",
            json!({}),
            json!({"phase": "Closed", "closedAt": "2026-11-20T12:30:00Z", "closedBy": "alice@example.com",
                "approvals": [{"user": "carol@example.com", "time": "2026-11-20T12:01:00Z", "note": "go"}]}),
        ),
        token("inc-123-hjkmn", json!({"user": "bob@example.com", "reason": "to look"}), json!({"phase": "Expired"})),
        token("inc-9-bcdfg", json!({"incident": "INC-9"}), json!({"phase": "Active"})),
    ];
    let told = |time: &str, reason: &str, about: &str| Told {
        time: time.parse().unwrap(),
        reason: reason.to_owned(),
        about: about.to_owned(),
        text: "it was so".to_owned(),
    };
    let heard = Heard {
        told: vec![
            told("2026-11-19T12:00:00Z", "RegistrationRepaired", "validatingwebhookconfiguration/breakglass"),
            told("2026-11-20T12:10:00Z", "RegistrationRepaired", "validatingwebhookconfiguration/breakglass"),
            told("2026-11-20T12:11:00Z", "RecordFailed", "breakglasstoken/inc-9-bcdfg"),
            told("2026-11-20T12:12:00Z", "RecordFailed", "breakglasstoken/inc-123-bcdfg"),
        ],
        deaf: vec!["breakglass-system".to_owned()],
        counted: None,
    };
    let rules = Rules::built_in().unwrap();
    let sources = Sources {
        incident: "inc-123",
        context: "prod-eu",
        tokens: &tokens,
        records: &records(),
        heard: &heard,
        rules: &rules,
        now: at(now),
    };
    Facts::gather(sources).unwrap()
}

const NOW: &str = "2026-11-22T15:00:00Z";

/// The pages as people see them are checked in: `UPDATE=1 cargo test -p kubectl-breakglass` writes them anew.
#[track_caller]
fn check_page(name: &str, found: &str, expected: &str) {
    let path = format!("{}/src/report/tests/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, found).unwrap();
    } else {
        assert!(found == expected, "{path} is not what is written now:\n{found}");
    }
}

#[test]
fn an_incident_is_told_as_markdown_and_as_html() {
    let page = tell(&facts(NOW));
    check_page("page.md", &markdown(&page), include_str!("page.md"));
    check_page("page.html", &html(&page), include_str!("page.html"));
}

#[test]
fn programs_read_what_happened_when_and_how_long_it_took() {
    let facts = serde_json::to_value(facts(NOW)).unwrap();
    assert_eq!((&facts["incident"], &facts["owed"], &facts["overdue"]), (&json!("INC-123"), &json!(3), &json!(3)));
    let change = |index: usize| &facts["changes"][index];
    assert_eq!(change(0)["verdict"]["afterSeconds"], 9 * 3_600 + 12 * 60);
    assert_eq!(change(0)["settledAfterSeconds"], 9 * 3_600 + 15 * 60);
    assert_eq!((&change(0)["due"], &change(0)["overdueSeconds"]), (&Value::Null, &Value::Null));
    assert_eq!(change(1)["overdueSeconds"], 3 * 3_600);
    assert_eq!((&change(2)["hidden"], &change(4)["truncated"]), (&json!(true), &json!(true)));
    // Nobody ever decided about it, and it went too late.
    assert_eq!(change(3)["overdueSince"], "2026-11-21T12:05:00Z");
    assert_eq!(facts["lostTokens"], json!(["inc-123-gone7"]));
    assert_eq!(facts["tokens"].as_array().unwrap().len(), 2);
    assert_eq!((&facts["tokens"][0]["writes"], &facts["tokens"][1]["standing"]), (&json!(4), &json!("expired")));
    let told: Vec<&Value> = facts["unseen"]["told"].as_array().unwrap().iter().map(|told| &told["time"]).collect();
    assert_eq!(told, ["2026-11-20T12:10:00Z", "2026-11-20T12:12:00Z"]);
    let timeline = facts["timeline"].as_array().unwrap();
    let times: Vec<&str> = timeline.iter().map(|moment| moment["time"].as_str().unwrap()).collect();
    assert!(times.is_sorted() && times.len() == timeline.len());
    let whats: Vec<&str> = timeline.iter().map(|moment| moment["what"].as_str().unwrap()).collect();
    assert_eq!(
        whats,
        [
            "opened", "opened", "approved", "wrote", "wrote", "wrote", "wrote", "wrote", "webhook", "webhook",
            "closed", "expired", "decided", "settled", "decided", "overdue", "overdue", "overdue", "overdue",
            "settled"
        ]
    );
}

#[test]
fn writes_of_one_second_come_in_the_order_in_which_they_found_each_other() {
    let follows = |name: &str, found: Option<&str>| {
        let mut one = record(name, "Update", json!({}), json!({"phase": "Pending"}));
        one.found = found.map(str::to_owned);
        one
    };
    let records =
        [follows("inc-123-a", Some("inc-123-c")), follows("inc-123-b", Some("inc-123-a")), follows("inc-123-c", None)];
    let rules = Rules::built_in().unwrap();
    let (heard, now) = (Heard::default(), at(NOW));
    let sources = Sources {
        incident: "INC-123",
        context: "c",
        tokens: &[],
        records: &records,
        heard: &heard,
        rules: &rules,
        now,
    };
    let facts = Facts::gather(sources).unwrap();
    let names: Vec<&str> = facts.changes.iter().map(|change| change.name.as_str()).collect();
    assert_eq!(names, ["inc-123-c", "inc-123-a", "inc-123-b"]);
}

#[test]
fn a_time_is_summed_up() {
    let rules = Rules::built_in().unwrap();
    let tokens = [
        token(
            "inc-123-bcdfg",
            json!({}),
            json!({"phase": "Closed",
            "approvals": [{"user": "carol@example.com", "time": "2026-11-20T12:01:00Z"}]}),
        ),
        token("inc-123-hjkmn", json!({"user": "bob@example.com"}), json!({"phase": "Denied"})),
        token("inc-7-bcdfg", json!({"incident": "INC-7 | <b>", "openedAt": "2026-11-21T12:00:00Z"}), json!({})),
        token(
            "inc-1-bcdfg",
            json!({"incident": "INC-1", "openedAt": "2026-11-01T12:00:00Z"}),
            json!({"phase": "Expired"}),
        ),
    ];
    let mut records = records();
    let before = json!({"time": "2026-11-01T12:00:00Z", "decideBy": "2026-11-02T12:00:00Z", "incident": "INC-1"});
    records.push(record("inc-1-a", "Update", before, json!({"phase": "Pending"})));
    let since = "2026-11-10T00:00:00Z".parse().unwrap();
    let orphans = figures::Orphans {
        objects: Some(3),
        place: "in prod, prod-eu".to_owned(),
        doubts: vec!["2 kinds are not readable everywhere with your rights: some may be missing".to_owned()],
    };
    let sources = figures::Sources {
        context: "prod-eu",
        since,
        tokens: &tokens,
        records: &records,
        orphans: &orphans,
        rules: &rules,
        now: at(NOW),
    };
    let figures = Figures::count(sources);
    let page = sum_up(&figures);
    check_page("figures.md", &markdown(&page), include_str!("figures.md"));
    let found = serde_json::to_value(&figures).unwrap();
    for (field, expected) in [
        ("/changes", json!(6)),
        ("/byEnvironment", json!([{"name": "prod", "changes": 6}])),
        ("/verdicts", json!({"accepted": 1, "rejected": 0, "deferred": 1, "noneYet": 3, "noneNeeded": 1})),
        ("/timeToVerdict", json!({"medianSeconds": 33_120, "ninetiethSeconds": 35_640, "longestSeconds": 35_640})),
        ("/outcomes", json!([{"outcome": "InGit", "changes": 1}, {"outcome": "Gone", "changes": 1}])),
        (
            "/tokens",
            json!({"opened": 3, "approved": 1, "live": 0, "waiting": 0, "expired": 1, "closed": 1, "denied": 1}),
        ),
        ("/owed", json!({"changes": 5, "overdue": 5, "overdueSince": "2026-11-02T12:00:00Z"})),
        ("/orphans", json!({"objects": 3, "place": "in prod, prod-eu", "doubts": orphans.doubts})),
        ("/incidents/0/incident", json!("INC-7 | <b>")),
        (
            "/incidents/1",
            json!({"incident": "INC-9", "began": "2026-11-20T12:05:00Z", "users": ["alice@example.com"],
            "changes": 1, "owed": 1, "overdue": 1}),
        ),
    ] {
        assert_eq!(found.pointer(field), Some(&expected), "{field} of {found:#}");
    }
    // A quiet month is a page, too.
    let unknown = figures::Orphans { doubts: vec!["nobody answers".to_owned()], ..Default::default() };
    let quiet = Figures::count(figures::Sources { tokens: &[], records: &[], orphans: &unknown, ..sources });
    let page = markdown(&sum_up(&quiet));
    assert!(page.contains("Nothing is owed, whenever it was written."), "{page}");
    assert!(page.contains("What no engine owns could not be counted.\n\n- nobody answers\n"), "{page}");
    assert_eq!(serde_json::to_value(&quiet).unwrap().get("timeToVerdict"), None);
}

#[test]
fn an_incident_that_nobody_opened_has_no_report() {
    let rules = Rules::built_in().unwrap();
    let sources = Sources {
        incident: "INC-1",
        context: "prod-eu",
        tokens: &[],
        records: &records(),
        heard: &Heard::default(),
        rules: &rules,
        now: at(NOW),
    };
    assert!(Facts::gather(sources).is_none());
}
