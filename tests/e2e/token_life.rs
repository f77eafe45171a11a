//! The life of a token: opened, alive, expired, closed; and what nobody can do to one, or to a change.

use serde_json::{Value, json};
use tests::{Cluster, Output, wait_until};

use crate::LIMIT;

/// A token made by hand, as a document for `kubectl create`.
fn token(name: &str, spec: Value) -> String {
    let mut fields = json!({"incident": "INC-130", "reason": "a test", "environment": "prod",
        "namespaces": ["prod-by-hand"]});
    for (field, value) in spec.as_object().unwrap() {
        fields[field] = value.clone();
    }
    json!({"apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassToken", "metadata": {"name": name},
        "spec": fields})
    .to_string()
}

/// Writes fields of a token's status, as `person`: a PUT, since kubectl would ask for more rights before it patches.
fn write_status(person: &str, token: &str, status: &Value) -> Output {
    let path = format!("/apis/breakglass.dev/v1alpha1/breakglasstokens/{token}/status");
    // The webhook writes to the status as well; who loses the race reads again.
    wait_until("a write without a conflict", LIMIT, || {
        let mut object = Cluster::shared().kubectl("admin").json(&["get", "breakglasstoken", token]);
        json_patch::merge(&mut object["status"], status);
        let put = ["replace", "--raw", &path, "-f", "-"];
        let ran = Cluster::shared().kubectl(person).run_with_input(&put, &object.to_string());
        if ran.stderr.starts_with("Error from server (Conflict)") { Err(ran.to_string()) } else { Ok(ran) }
    })
    .unwrap()
}

fn phase(token: &str) -> Value {
    Cluster::shared().kubectl("admin").json(&["get", "breakglasstoken", token])["status"]["phase"].clone()
}

#[track_caller]
fn wait_for_phase(token: &str, expected: &str) {
    wait_until(&format!("{token} to be {expected}"), LIMIT, || {
        let phase = phase(token);
        if phase == expected { Ok(()) } else { Err(phase.to_string()) }
    })
    .unwrap();
}

/// K-01, K-02: a token lets writes in until its time is up, and the refusal after that says since when.
#[test]
fn a_token_lets_writes_in_until_its_time_is_up() {
    let cluster = Cluster::shared();
    // In staging, since a live token of another test comes nearer than one that is dead, and would be named instead.
    cluster.namespace("staging-expiry");
    let alice = cluster.kubectl("alice").namespace("staging-expiry");
    let opened =
        cluster.plugin("alice").json(&["open", "INC-131", "-n", "staging-expiry", "--reason", "r", "--ttl", "6s"]);
    let name = opened["metadata"]["name"].as_str().unwrap();
    let mut writes = 0;
    let refused = wait_until("the token to expire", LIMIT, || {
        let ran = alice.run(&["create", "configmap", &format!("settings-{writes}")]);
        if ran.status == 0 {
            writes += 1;
            return Err(format!("{writes} writes are let in"));
        }
        Ok(ran)
    })
    .unwrap();
    let expired = format!(
        "staging is run by GitOps: configmaps \"settings-{writes}\" (create) by alice@example.com needs a break-glass \
         token, and {name} expired at {}. Open one: kubectl breakglass open INC-131 -n staging-expiry --reason \"…\"",
        opened["spec"]["expiresAt"].as_str().unwrap()
    );
    assert_eq!(refused.refusal(), expired);
    assert!(writes > 0, "the token let nothing in");
    assert_eq!(cluster.changes("INC-131").len(), writes);
    wait_for_phase(name, "Expired");
}

/// K-01: a closed token lets nothing in from that moment, and nobody opens it again.
#[test]
fn a_closed_token_lets_nothing_in_from_that_moment_and_for_good() {
    let cluster = Cluster::shared();
    cluster.namespace("staging-close");
    let bob = cluster.kubectl("bob").namespace("staging-close");
    let name = cluster.open("bob", "INC-132", "staging-close");
    bob.ok(&["create", "configmap", "settings"]);
    wait_for_phase(&name, "Active");

    let closed = cluster.plugin("bob").run(&["close", &name]);
    assert_eq!(closed.stdout, format!("breakglasstoken.breakglass.dev/{name} closed\n"), "{closed}");
    assert_eq!(
        closed.stderr,
        "INC-132: 1 change is still owed. See it:\n  kubectl breakglass list --incident INC-132\n"
    );
    let refused = bob.run(&["delete", "configmap", "settings"]);
    let object = cluster.kubectl("admin").json(&["get", "breakglasstoken", &name]);
    let ended = format!(
        "staging is run by GitOps: configmaps \"settings\" (delete) by bob@example.com needs a break-glass token, and {name} was closed by bob@example.com at {}. Open one: kubectl breakglass open INC-132 -n \
         staging-close --reason \"…\"",
        object["status"]["closedAt"].as_str().unwrap()
    );
    assert_eq!(refused.refusal(), ended);

    // Whoever writes it, and however.
    for (person, status) in [
        ("bob", json!({"phase": "Active"})),
        ("bob", json!({"phase": "Active", "closedAt": null, "closedBy": null})),
        ("carol", json!({"phase": null})),
        ("admin", json!({"phase": "Pending"})),
        ("bob", json!({"closedBy": "carol@example.com"})),
    ] {
        let refused = write_status(person, &name, &status);
        let expected = format!("{name} is Closed, and that is final. Open another: kubectl breakglass open");
        assert_eq!(refused.refusal(), expected, "{person} {status}");
    }
    assert_eq!(cluster.kubectl("admin").json(&["get", "breakglasstoken", &name])["status"]["phase"], "Closed");
}

/// K-02: a token that is for too long, for no time, or for what needs none is not opened.
#[test]
fn what_must_not_be_opened_is_refused_in_a_sentence() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-by-hand");
    let alice = cluster.kubectl("alice");
    let create = |name: &str, spec: Value| alice.run_with_input(&["create", "-f", "-"], &token(name, spec));
    for (name, spec, expected) in [
        (
            "inc-130-other",
            json!({"user": "bob@example.com"}),
            "a token is for who opens it: alice@example.com cannot open one for bob@example.com. Leave spec.user out",
        ),
        (
            "inc-130-years",
            json!({"expiresAt": "2126-11-20T12:00:00Z"}),
            "a token for prod lives at most 4h: ask for --ttl 4h or less",
        ),
        ("inc-130-longr", json!({"ttl": "4h1s"}), "a token for prod lives at most 4h: ask for --ttl 4h or less"),
        (
            "inc-130-where",
            json!({"environment": "nowhere", "ttl": "30m"}),
            "there is no environment \"nowhere\": the policy has prod, staging, platform, dev",
        ),
        ("inc-130-nodev", json!({"environment": "dev"}), "writes to dev need no token: there is nothing to open"),
        (
            "nonsense-aaaaa",
            json!({"incident": "nonsense"}),
            "\"nonsense\" is not the id of an incident: the policy's incidentPattern is \
             ^(INC|INCIDENT|SEV[0-9]|P[0-9])-[A-Za-z0-9-]+$, as in INC-123",
        ),
    ] {
        assert_eq!(create(name, spec).refusal(), expected, "{name}");
    }
    // What the schema can say, it says.
    for (name, spec, expected) in [
        ("inc-130-apast", json!({"expiresAt": "2020-01-01T00:00:00Z"}), "expiresAt must be after openedAt"),
        ("inc-130-blank", json!({"reason": "  "}), "give a reason: it is what the review will read"),
        ("inc-131-bbbbb", json!({}), "the name must be the incident in lower case, a dash and five characters"),
        ("inc-130-toolong", json!({}), "the name must be the incident in lower case, a dash and five characters"),
    ] {
        let refused = create(name, spec);
        assert_eq!(refused.status, 1, "{name}: {refused}");
        assert!(refused.stderr.contains(expected), "{name}: {refused}");
    }
    let label = ["get", "breakglasstokens", "--field-selector", "spec.incident=INC-130", "-o", "name"];
    assert_eq!(cluster.kubectl("admin").ok(&label), "");

    // What is left out is filled in, and what a client says of the rest counts for nothing.
    let spec = json!({"ttl": "2m", "openedAt": "2020-01-01T00:00:00Z"});
    alice.ok_with_input(&["create", "-f", "-"], &token("inc-130-aaaaa", spec));
    let spec = cluster.kubectl("admin").json(&["get", "breakglasstoken", "inc-130-aaaaa"])["spec"].clone();
    let time = |field: &str| spec[field].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    assert_eq!(spec["user"], "alice@example.com");
    assert_eq!(time("expiresAt") - time("openedAt"), chrono::TimeDelta::minutes(2));
    assert!((chrono::Utc::now() - time("openedAt")).abs() < chrono::TimeDelta::minutes(1));
    cluster.plugin("alice").ok(&["close", "inc-130-aaaaa"]);
}

#[test]
fn an_unknown_environment_is_said_to_be_unknown_where_no_time_is_given() {
    let cluster = Cluster::shared();
    let spec = token("inc-130-where", json!({"environment": "nowhere"}));
    let refused = cluster.kubectl("alice").run_with_input(&["create", "-f", "-"], &spec);
    let expected = "there is no environment \"nowhere\": the policy has prod, staging, platform, dev";
    assert_eq!(refused.refusal(), expected);
}

/// K-04, K-05: a token is ended by its holder or an approver; nobody changes its spec or writes an approval.
#[test]
fn a_token_is_ended_by_its_holder_or_an_approver_and_changed_by_nobody() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-ended");
    let name = cluster.open("alice", "INC-133", "prod-ended");
    let admin = cluster.kubectl("admin");

    // The spec is immutable, also for who may update.
    for patch in [
        r#"{"spec": {"expiresAt": "2126-11-20T12:00:00Z"}}"#,
        r#"{"spec": {"namespaces": ["prod"]}}"#,
        r#"{"spec": {"user": "bob@example.com"}}"#,
    ] {
        let refused = admin.run(&["patch", "breakglasstoken", &name, "--type=merge", "-p", patch]);
        assert_eq!(refused.status, 1, "{refused}");
        assert!(refused.stderr.contains("a token's spec is immutable: open another one"), "{refused}");
    }

    // Nobody approves themselves, or anybody, by writing that somebody did.
    let only_the_end = format!("only the end of a token is a person's to write: kubectl breakglass close {name}");
    for approver in ["alice@example.com", "carol@example.com"] {
        let approval = json!({"user": approver, "time": "2026-11-20T12:00:00Z"});
        let status = json!({"phase": "Active", "approvals": [approval]});
        assert_eq!(write_status("alice", &name, &status).refusal(), only_the_end);
        assert_eq!(write_status("carol", &name, &status).refusal(), only_the_end);
        let both = json!({"phase": "Closed", "approvals": [approval]});
        assert_eq!(write_status("alice", &name, &both).refusal(), only_the_end);
    }
    assert_eq!(write_status("alice", &name, &json!({"writes": 99})).refusal(), only_the_end);

    // bob is a stranger to it, carol may approve tokens.
    let refused = cluster.plugin("bob").run(&["close", &name]);
    assert_eq!(refused.status, 1, "{refused}");
    let expected = format!("{name} is alice@example.com's: only they and who may approve tokens can close it");
    assert!(refused.stderr.contains(&expected), "{refused}");
    cluster.plugin("carol").ok(&["close", &name]);
    // Who closed it and when is what the webhook saw.
    let status = admin.json(&["get", "breakglasstoken", &name])["status"].clone();
    assert_eq!((&status["phase"], &status["closedBy"]), (&json!("Closed"), &json!("carol@example.com")));

    let deleted = admin.run(&["delete", "breakglasstoken", &name]);
    let expected = format!("a token is part of the record and stays. End it with: kubectl breakglass close {name}");
    assert_eq!(deleted.refusal(), expected);
}

#[test]
fn a_change_is_made_edited_and_deleted_by_nobody() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-ledger");
    cluster.open("alice", "INC-134", "prod-ledger");
    cluster.kubectl("alice").namespace("prod-ledger").ok(&["create", "configmap", "settings"]);
    let change = cluster.changes("INC-134").remove(0);
    let name = change["metadata"]["name"].as_str().unwrap();
    let admin = cluster.kubectl("admin");
    let expected = "a change is the record of a write: only the webhook makes it, and nobody edits or deletes it. See \
        it with: kubectl breakglass list";

    let copy = json!({"apiVersion": change["apiVersion"], "kind": change["kind"],
        "metadata": {"name": "inc-134-0000000000000000"}, "spec": change["spec"]});
    for (args, input) in [
        (&["create", "-f", "-"][..], copy.to_string()),
        (&["delete", "breakglasschange", name], String::new()),
        (&["delete", "breakglasschanges", "-l", "breakglass.dev/incident=INC-134"], String::new()),
        (&["label", "breakglasschange", name, "breakglass.dev/state=settled", "--overwrite"], String::new()),
        (&["label", "breakglasschange", name, "breakglass.dev/incident-"], String::new()),
    ] {
        assert_eq!(admin.run_with_input(args, &input).refusal(), expected, "{args:?}");
    }
    let patch = ["patch", "breakglasschange", name, "--type=merge", "-p", r#"{"spec": {"user": "bob@example.com"}}"#];
    let refused = admin.run(&patch);
    assert_eq!(refused.status, 1, "{refused}");
    assert!(refused.stderr.contains("a change is a record: its spec never changes"), "{refused}");
    assert_eq!(cluster.change(name)["spec"], change["spec"]);
}

/// Deleting the definition deletes every record. A dry run, since all other tests would be without theirs.
#[test]
fn the_ledger_is_not_deleted_with_its_definition() {
    let admin = Cluster::shared().kubectl("admin");
    let definition = "breakglasschanges.breakglass.dev";
    let ran = admin.run(&["delete", "customresourcedefinition", definition, "--dry-run=server"]);
    let warnings = ran.warnings();
    let expected = format!(
        "without --dry-run this is refused: platform is run by GitOps: customresourcedefinitions.apiextensions.k8s.io \
         \"{definition}\" (delete) by admin needs a break-glass token"
    );
    assert_eq!(warnings.first().copied(), Some(expected.as_str()), "{ran}");
}
