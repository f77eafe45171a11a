//! An incident is told to who was not there, and what nobody decided about to everybody.

use serde_json::{Value, json};
use tests::record::{change_of, config_map};
use tests::{Cluster, wait_until};

use crate::LIMIT;

/// What somebody types as a reason who wants to be something else on the page.
const HOSTILE: &str = "checkout | returns 500\n# head\n```\n<script>alert('x')</script> \u{1b}[2J\u{202e}";

#[test]
fn an_incident_is_told_from_its_first_token_to_what_is_owed() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-told");
    let scene = |args: &[&str], input: &str| cluster.set_scene(&[&["-n", "prod-told"], args].concat(), input);
    scene(&["create", "-f", "-"], &config_map("settings", "one"));
    scene(&["create", "deployment", "api", "--image=registry.example.com/api:1", "--replicas=1"], "");
    scene(&["create", "secret", "generic", "keys", "--from-literal=a=canary-890"], "");
    scene(&["create", "configmap", "old", "--from-literal=key=value"], "");
    let alice = cluster.kubectl("alice").namespace("prod-told");
    let opened =
        cluster.plugin("alice").run(&["open", "INC-890", "-n", "prod-told", "--reason", HOSTILE, "-o", "name"]);
    assert_eq!(opened.status, 0, "{opened}");
    let token = opened.stdout.trim().trim_start_matches("breakglasstoken.breakglass.dev/").to_owned();

    alice.ok(&["patch", "configmap", "settings", "-p", r#"{"data": {"key": "``` | <b>two</b>"}}"#]);
    let settings = change_of(&alice.json(&["get", "configmap", "settings"]));
    Cluster::shared().wait_for_field(&settings, ("/status/phase", "Pending"), LIMIT);
    alice.ok(&["scale", "deployment", "api", "--replicas=3"]);
    alice.ok(&["patch", "secret", "keys", "-p", r#"{"stringData": {"a": "canary-891"}}"#]);
    alice.ok(&["delete", "configmap", "old"]);
    let bob = cluster.plugin("bob").namespace("prod-told");
    bob.ok(&["defer", "configmap/settings", "--until", "3d", "--reason", "after | the audit"]);
    Cluster::shared().wait_for_field(&settings, ("/status/phase", "Deferred"), LIMIT);
    // What is settled is told as well: the scale is taken back.
    alice.ok(&["scale", "deployment", "api", "--replicas=1"]);
    cluster.plugin("alice").ok(&["close", "INC-890"]);

    // By whatever spelling, and by who may only read.
    let facts = wait_until("all writes to be told", LIMIT, || {
        let facts = cluster.plugin("carol").json(&["report", "inc-890"]);
        let changes = facts["changes"].as_array().unwrap();
        let seen = changes.iter().all(|change| change["state"] != "admitted");
        if changes.len() == 5 && seen { Ok(facts) } else { Err(format!("{facts:#}")) }
    })
    .unwrap();
    check_facts(&facts, (&token, &settings));

    let markdown = cluster.plugin("carol").ok(&["report", "INC-890"]);
    for line in [
        "# INC-890: what was done, and what became of it",
        "- Why: checkout &#124; returns 500 # head \\`\\`\\` &lt;script&gt;alert('x')&lt;/script&gt; &lt;U+001B&gt;\\[2J&lt;U+202E&gt;",
        "````diff",
        "+  key: \"``` | <b>two</b>\"",
        "## Still owed",
    ] {
        assert!(markdown.lines().any(|found| found == line), "{line} is not in {markdown}");
    }
    for write in [": deleted configmap/old in prod-told\n", ": changed configmap/settings in prod-told\n"] {
        assert!(markdown.contains(write), "{markdown}");
    }
    assert!(markdown.contains(", until ") && markdown.contains(": after &#124; the audit\n"), "{markdown}");
    let named = cluster.plugin("carol").ok(&["report", "INC-890", "-o", "md"]);
    assert_eq!(named.lines().next(), markdown.lines().next(), "it is one page\n{named}");
    let html = cluster.plugin("carol").ok(&["report", "INC-890", "-o", "html"]);
    assert!(html.starts_with("<!DOCTYPE html>\n") && html.ends_with("</html>\n"), "{html}");
    for text in [&markdown, &html, &facts.to_string()] {
        assert!(!text.contains("<script") || text.starts_with('{'), "{text}");
        assert!(!text.contains('\u{1b}') && !text.contains("canary-89"), "{text}");
    }

    let figures = cluster.plugin("carol").json(&["report", "--since", "1h"]);
    let of = figures["incidents"].as_array().unwrap().iter().find(|one| one["incident"] == "INC-890").unwrap();
    assert_eq!((&of["changes"], &of["users"]), (&json!(5), &json!(["alice@example.com"])), "{of}");
    assert!(figures["tokens"]["opened"].as_u64().unwrap() >= 1, "{figures}");
    // What carol may not list is not counted, and she is told.
    let page = cluster.plugin("carol").ok(&["report", "--since", "1h"]);
    assert!(page.contains("| INC-890 | ") && page.contains("\n## Owed\n"), "{page}");
    assert!(page.contains(" kinds are not readable everywhere with your rights: some may be missing\n"), "{page}");
    // Nobody applies what this test has made.
    let orphans = &cluster.plugin("admin").json(&["report", "--since", "1h"])["orphans"];
    assert!(orphans["objects"].as_u64().unwrap() >= 3, "{orphans}");
    assert!(!orphans["doubts"].to_string().contains("with your rights"), "{orphans}");
}

/// Who, what, why, and how long it took.
#[track_caller]
fn check_facts(facts: &Value, (token, settings): (&str, &str)) {
    assert_eq!(facts["incident"], "INC-890");
    let opened = &facts["tokens"][0];
    for (field, expected) in [
        ("name", json!(token)),
        ("user", json!("alice@example.com")),
        ("reason", json!(HOSTILE)),
        ("environment", json!("prod")),
        ("namespaces", json!(["prod-told"])),
        ("standing", json!("closed")),
        ("closedBy", json!("alice@example.com")),
        ("writes", json!(5)),
    ] {
        assert_eq!(opened[field], expected, "{field} of {opened}");
    }
    let mut did: Vec<&str> =
        facts["changes"].as_array().unwrap().iter().filter_map(|one| one["did"].as_str()).collect();
    // In one second they come in any order, and so they may.
    did.sort_unstable();
    assert_eq!(
        did,
        [
            "changed configmap/settings in prod-told",
            "changed secret/keys in prod-told",
            "deleted configmap/old in prod-told",
            "scaled deployment.apps/api in prod-told from 1 to 3",
            "scaled deployment.apps/api in prod-told from 3 to 1",
        ]
    );
    let first = facts["changes"].as_array().unwrap().iter().find(|one| one["name"] == settings).unwrap();
    assert_eq!(first["state"], "deferred", "{first}");
    assert!(first["diff"].as_str().unwrap().contains("\n-  key: one\n"), "{first}");
    let verdict = &first["verdict"];
    assert_eq!((&verdict["by"], &verdict["note"]), (&json!("bob@example.com"), &json!("after | the audit")));
    let took = verdict["afterSeconds"].as_i64().unwrap();
    assert!((0..120).contains(&took), "{verdict}");
    let secret = facts["changes"].as_array().unwrap().iter().find(|one| one["target"]["kind"] == "Secret").unwrap();
    assert_eq!((&secret["hidden"], &first["hidden"]), (&json!(true), &json!(false)), "{secret}");
    let whats: Vec<&str> =
        facts["timeline"].as_array().unwrap().iter().filter_map(|one| one["what"].as_str()).collect();
    assert_eq!((whats[0], whats.iter().filter(|&&what| what == "wrote").count()), ("opened", 5), "{whats:?}");
    assert!(whats.contains(&"decided") && whats.contains(&"closed"), "{whats:?}");
    // What carol may not read, she is told how to.
    let unknown = facts["unseen"]["unknown"].to_string();
    assert!(unknown.contains("failed-open.") && unknown.contains("breakglass.dev:override"), "{unknown}");
}

#[test]
fn what_nobody_decided_in_time_is_told_to_everybody() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-forgotten");
    cluster.open("alice", "INC-891", "prod-forgotten");
    cluster.set_scene(&["-n", "prod-forgotten", "create", "-f", "-"], &config_map("settings", "one"));
    let alice = cluster.kubectl("alice").namespace("prod-forgotten");
    alice.ok(&["patch", "configmap", "settings", "-p", r#"{"data": {"key": "two"}}"#]);
    let change = change_of(&alice.json(&["get", "configmap", "settings"]));
    Cluster::shared().wait_for_field(&change, ("/status/phase", "Pending"), LIMIT);
    let overdue = ["list", "-A", "--incident", "INC-891", "--overdue", "--exit-code"];
    let before = cluster.plugin("bob").run(&overdue);
    assert!(before.status == 0 && before.stdout.is_empty(), "{before}");

    let bob = cluster.plugin("bob").namespace("prod-forgotten");
    let day = |bob: &tests::Kubectl| {
        let table = bob.ok(&["list", "--incident", "INC-891"]);
        table.lines().nth(1).unwrap_or_default().to_owned()
    };
    bob.ok(&["defer", "configmap/settings", "--until", "2d", "--reason", "not now"]);
    Cluster::shared().wait_for_field(&change, ("/metadata/labels/breakglass.dev~1state", "deferred"), LIMIT);
    let date = cluster.change(&change)["status"]["until"].as_str().unwrap().split_once('T').unwrap().0.to_owned();
    let row = day(&bob);
    assert!(row.contains("   deferred   ") && row.ends_with(&date), "{row}");
    bob.ok(&["defer", "configmap/settings", "--until", "1s", "--reason", "not now"]);
    let late = wait_until("it to be overdue", LIMIT, || {
        let late = cluster.plugin("bob").run(&overdue);
        if late.status == 3 { Ok(late) } else { Err(late.to_string()) }
    })
    .unwrap();
    assert!(late.stdout.lines().nth(1).unwrap().contains("   overdue "), "{late}");
    // carol made none of them, and is told.
    let status = cluster.plugin("carol").ok(&["status"]);
    let line = status.lines().find(|line| line.contains("overdue here")).unwrap_or_else(|| panic!("{status}"));
    assert!(line.ends_with(" See: kubectl breakglass list -A --overdue"), "{line}");
    assert!(cluster.plugin("carol").json(&["status"])["overdue"]["changes"].as_u64().unwrap() >= 1);
    // As kubectl describe looks for it.
    let about = cluster.change(&change)["metadata"]["uid"].as_str().unwrap().to_owned();
    let selector = format!("involvedObject.uid={about},reason=ChangeOverdue");
    let said = wait_until("an Event on it", LIMIT, || {
        let events = cluster.kubectl("admin").json(&["get", "events", "-A", "--field-selector", &selector]);
        let said = events["items"][0]["message"].as_str().map(str::to_owned);
        said.ok_or_else(|| events.to_string())
    })
    .unwrap();
    assert_eq!(said, format!("INC-891: nobody has decided this change in time. See: kubectl breakglass show {change}"));
    let facts = cluster.plugin("admin").json(&["report", "INC-891"]);
    assert_eq!((&facts["owed"], &facts["overdue"]), (&json!(1), &json!(1)), "{facts}");
    assert!(facts["unseen"]["told"].to_string().contains("ChangeOverdue"), "{facts}");
    // Settled, so that nobody else's list is long.
    cluster.set_scene(&["-n", "prod-forgotten", "delete", "configmap", "settings"], "");
}

#[test]
fn what_is_no_report_is_said() {
    let cluster = Cluster::shared();
    for (args, status, said) in [
        (&["report", "INC-892"][..], 1, "nothing is on record of INC-892"),
        (&["report", "INC-892", "-o", "table"], 2, "a report is a page: -o md, html, json or yaml"),
        (&["report", "INC-892", "-n", "prod"], 2, "leave -n and -l out"),
        (&["list", "-o", "html"], 2, "only a report is a page"),
    ] {
        let ran = cluster.plugin("alice").run(args);
        assert!(ran.status == status && ran.stderr.contains(said), "{args:?}: {ran}");
    }
}
