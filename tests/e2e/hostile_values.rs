//! Metadata without end, numbers that are hardly any, names and sentences as long as they come: the decision is the same, in
//! time that grows with what is sent and no faster.

use serde_json::{Value, json};
use tests::client::Client;
use tests::raw::Raw;
use tests::record::{after, stamp, without_noise};
use tests::review::{dry_run, review};
use tests::{Output, Setup};

use crate::hostile::cluster;
use crate::hostile_objects::{check_done, check_refused, client, records};

/// The path of ConfigMaps.
fn config_maps(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps")
}

fn config_map(name: &str, metadata: &Value, value: &str) -> Value {
    let mut object =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": value}});
    json_patch::merge(&mut object["metadata"], metadata);
    object
}

/// Owners that nobody knows, so that nobody collects what they own.
fn owners(count: usize) -> Value {
    let owner = |number: usize| {
        json!({"apiVersion": "e2e.example.com/v1", "kind": "Nothing", "name": format!("owner-{number}"),
            "uid": format!("0e7e2a3c-0000-4000-8000-{number:012}")})
    };
    json!({"ownerReferences": (0..count).map(owner).collect::<Vec<_>>()})
}

fn annotations(count: usize) -> Value {
    json!({"annotations": (0..count).map(|number| (format!("a{number}"), json!(""))).collect::<serde_json::Map<_, _>>()})
}

/// H-05: thousands of annotations and of owners change no decision, in a create and in an update; nor do
/// 100,000 annotations, which the API server takes none of, in a review.
#[test]
fn much_metadata_changes_no_decision() {
    let (alice, bob) = (client("alice"), client("bob"));
    // With what we add, and what managedFields make of them.
    for (name, metadata) in [("annotated", annotations(3_000)), ("owned", owners(1_000))] {
        let object = |value: &str| config_map(name, &metadata, value);
        let refused = alice.json("POST", &config_maps("prod-closed"), &object("one")).unwrap();
        check_refused(&refused, &format!("configmaps \"{name}\" (create) by alice@example.com"));
        check_done(&alice.json("POST", &config_maps("prod-open"), &object("one")).unwrap());
        let one = format!("{}/{name}", config_maps("prod-open"));
        check_done(&alice.json("PATCH", &one, &json!({"data": {"key": "two"}})).unwrap());
        let refused = bob.json("PATCH", &one, &json!({"data": {"key": "three"}})).unwrap();
        assert!(refused.message().contains(&format!("\"{name}\" (update) by bob@example.com")), "{refused:?}");
        let stored: Value = serde_json::from_str(&alice.json("GET", &one, &json!({})).unwrap().body).unwrap();
        let change = cluster().change(&stamp(&stored)["change"]);
        let steps = change["spec"]["patch"].as_array().unwrap();
        assert!(
            change["spec"]["truncated"] == true || steps.iter().any(|step| step["path"] == "/data/key"),
            "{steps:?}"
        );
        check_done(&alice.json("DELETE", &one, &json!({})).unwrap());
        assert!(records(name).len() >= 3, "create, update and delete");
    }

    for metadata in [annotations(100_000), owners(10_000)] {
        let mut asked = review("carol@example.com", "UPDATE", ("prod", "settings"));
        for side in ["object", "oldObject"] {
            json_patch::merge(&mut asked["request"][side]["metadata"], &metadata);
        }
        // Before the connection: whoever connects and says nothing for long is sent away.
        let in_prod = asked.to_string();
        asked["request"]["namespace"] = json!("dev");
        let in_dev = asked.to_string();
        let mut webhook = Raw::connect(cluster().webhook().port()).unwrap();
        let answer = webhook.post("/gate", in_prod.as_bytes()).unwrap();
        assert_eq!((answer.status, &answer.response()["allowed"]), (200, &json!(false)), "{:.500}", answer.body);
        let answer = webhook.post("/stamp", in_dev.as_bytes()).unwrap();
        assert!(!answer.response()["patch"].is_null(), "{:.500}", answer.body);
    }
}

/// H-05: an object with an entry in managedFields for each of 500 appliers is updated like any other (with 12,000, the API
/// server is busy with them for longer than it waits for itself, and asks nobody); a review with 50,000 is answered in time.
#[test]
fn many_field_managers_change_no_decision() {
    // Of its own: a webhook that counts them one by one is busy for all others, too.
    let cluster = Setup::new("managers").webhook().start().unwrap_or_else(|error| panic!("{error:#}"));
    let alice = Client::new(&cluster.kubectl("alice"), &[]).unwrap();
    let managers = |count: usize| {
        let manager = |number: usize| {
            json!({"manager": format!("m{number}"), "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
                "time": "2026-11-20T00:00:00Z", "fieldsV1": {"f:data": {"f:key": {}}}})
        };
        (0..count).map(manager).collect::<Vec<_>>()
    };
    let (all, one) = (config_maps("dev"), format!("{}/managed", config_maps("dev")));
    check_done(&alice.json("POST", &all, &config_map("managed", &json!({}), "one")).unwrap());
    let metadata = json!({"managedFields": managers(500), "labels": {"round": "1"}});
    check_done(&alice.json("PUT", &one, &config_map("managed", &metadata, "one")).unwrap());
    let label = json!({"metadata": {"labels": {"round": "2"}}});
    let updated = alice.json("PATCH", &one, &label).unwrap();
    check_done(&updated);
    let object: Value = serde_json::from_str(&updated.body).unwrap();
    assert!(object["metadata"]["managedFields"].as_array().unwrap().len() > 500, "the API server forgot them");
    assert_eq!(stamp(&object)["operation"], "Update");

    let mut asked = review("carol@example.com", "UPDATE", ("prod", "settings"));
    asked["request"]["options"] = json!({});
    for side in ["object", "oldObject"] {
        asked["request"][side]["metadata"]["managedFields"] = json!(managers(50_000));
    }
    asked["request"]["object"]["metadata"]["managedFields"][49_999]["fieldsV1"]["f:data"]["f:more"] = json!({});
    // Before the connection: whoever connects and says nothing for long is sent away.
    let asked = asked.to_string();
    let mut webhook = Raw::connect(cluster.webhook().port()).unwrap();
    let answer = webhook.post("/gate?timeout=10s", asked.as_bytes()).unwrap();
    assert_eq!((answer.status, &answer.response()["allowed"]), (200, &json!(false)), "{:.500}", answer.body);
}

/// H-08: numbers that are no integers, too large for one, or less than nothing are let in, recorded as they are stored, and
/// told from each other; one that no float holds is decided like any other.
#[test]
fn odd_numbers_change_no_decision() {
    let alice = client("alice");
    let create =
        |path: &str, body: &str| alice.send("POST", path, ("application/json", body.as_bytes().to_vec())).unwrap();
    let widgets = |namespace: &str| format!("/apis/e2e.example.com/v1/namespaces/{namespace}/widgets");
    let numbers = [
        "-0",
        "-0.0",
        "0.1",
        "1.5",
        "1e2",
        "1.0",
        "1e-400",
        "5e-324",
        "1.7976931348623157e308",
        "-9223372036854775808",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "123456789012345678901234567890",
        "0.30000000000000004",
        "4.35",
        "1e23",
    ];
    for (index, number) in numbers.iter().enumerate() {
        let name = format!("number-{index}");
        let widget = format!(
            r#"{{"apiVersion":"e2e.example.com/v1","kind":"Widget","metadata":{{"name":"{name}"}},"spec":{{"n":[{number}]}}}}"#
        );
        let refused = create(&widgets("prod-closed"), &widget);
        check_refused(&refused, &format!("widgets.e2e.example.com \"{name}\" (create) by alice@example.com"));
        let created = create(&widgets("prod-open"), &widget);
        check_done(&created);
        let stored: Value = serde_json::from_str(&created.body).unwrap();
        let change = cluster().change(&stamp(&stored)["change"]);
        assert_eq!(after(&change), without_noise(&stored), "{number}");
        // The same again is no change, and stays without one.
        let one = format!("{}/{name}", widgets("prod-open"));
        check_done(&alice.json("PATCH", &one, &json!({"spec": stored["spec"]})).unwrap());
        assert_eq!(records(&name).len(), 1, "{number}");
        check_done(&alice.json("PATCH", &one, &json!({"spec": {"n": [number, 1.25]}})).unwrap());
        check_done(&alice.json("DELETE", &one, &json!({})).unwrap());
    }

    // The API server takes none that no float holds: a custom resource is refused, and its own kinds end the connection.
    let mut webhook = Raw::connect(cluster().webhook().port()).unwrap();
    for (user, namespace, allowed) in [("carol", "prod-closed", false), ("alice", "prod-open", true)] {
        let asked = review(&format!("{user}@example.com"), "DELETE", (namespace, "huge")).to_string();
        let odd = asked.replace(r#""key":"old""#, r#""key":[1e999,-1e999,-0,9223372036854775808,1.5]"#);
        assert_ne!(odd, asked);
        let answer = webhook.post("/gate", odd.as_bytes()).unwrap();
        assert_eq!((answer.status, &answer.response()["allowed"]), (200, &json!(allowed)), "{answer:?}");
    }
    assert_eq!(records("huge")[0]["spec"]["truncated"], true, "no reader of JSON here holds 1e999");
}

/// H-09: a refusal and a warning about the longest names that there are, of a user with a name without end, under a token with
/// the longest incident and all the namespaces it can have, end with the command, are cut between characters, and are taken
/// by the API server.
#[test]
fn long_names_make_no_answer_that_is_not_taken() {
    let cluster = cluster();
    let admin = cluster.kubectl("admin");
    let namespace = format!("prod-{}", "n".repeat(58));
    cluster.namespace(&namespace);
    let object = "o".repeat(253);
    let user = format!("alice{}", "ü".repeat(600));
    let who = ["--as", user.as_str(), "--as-group", "system:masters"];
    let run = |args: &[&str], input: &str| -> Output { admin.run_with_input(&[args, &who].concat(), input) };
    let create =
        |name: &str, more: &[&str]| run(&[&["-n", &namespace, "create", "configmap", name], more].concat(), "");

    let open = format!("Open one: kubectl breakglass open <incident> -n {namespace} --reason \"…\"");
    let refused = create(&object, &[]);
    let shown = format!("alice{}…", "ü".repeat(248));
    let begin = format!("prod is run by GitOps: configmaps \"{object}\" (create) by {shown} needs a break-glass token");
    assert_eq!(refused.refusal(), format!("{begin}. {open}"));

    let incident = format!("INC-{}", "9".repeat(42));
    let token = |end: &str, namespaces: Vec<String>| {
        json!({"apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassToken",
            "metadata": {"name": format!("{}-{end}", incident.to_lowercase())},
            "spec": {"incident": incident, "reason": "“ü”\u{1f600} ".repeat(200), "environment": "prod",
                "namespaces": namespaces}})
        .to_string()
    };
    let others: Vec<String> = (0..64).map(|number| format!("prod-{}{number:02}", "x".repeat(56))).collect();
    let opened = run(&["create", "-f", "-"], &token("aaaaa", others.clone()));
    assert_eq!(opened.status, 0, "{opened}");
    let refused = create(&object, &[]);
    let why = format!("{begin}, and {}-aaaaa covers only {}. {open}", incident.to_lowercase(), others.join(", "));
    assert_eq!(refused.refusal(), why);
    assert!(why.len() > 4_096);

    // A warning is shown in a line; what does not fit is cut, and never within a character.
    for (name, cut_in) in [("short", "ü…"), (object.as_str(), "o…")] {
        let rehearsed = create(name, &["--dry-run=server"]);
        let [why, command] = rehearsed.warnings()[..] else { panic!("{rehearsed}") };
        assert_eq!((rehearsed.status, why.chars().count()), (0, 256), "{rehearsed}");
        assert!(why.ends_with(cut_in) && !why.contains('\u{fffd}'), "{why}");
        assert_eq!(command, open);
    }

    let opened = run(&["create", "-f", "-"], &token("bbbbb", vec![namespace.clone()]));
    assert_eq!(opened.status, 0, "{opened}");
    for args in [&["create", "configmap", object.as_str()][..], &["delete", "configmap", object.as_str()]] {
        let let_in = run(&[&["-n", namespace.as_str()], args].concat(), "");
        let start = format!("{incident}: let in under {}-bbbbb (", incident.to_lowercase());
        assert!(let_in.status == 0 && let_in.warnings()[0].starts_with(&start), "{let_in}");
    }
    // The same past the API server: characters of four bytes each, and what is dropped behind them.
    let mut asked = dry_run(review(&"\u{1f600}".repeat(600), "DELETE", ("prod", "settings")));
    asked["request"]["oldObject"]["metadata"]["name"] = json!("\u{1f600}".repeat(10_000));
    asked["request"]["name"] = json!("\u{1f600}".repeat(10_000));
    let answer = Raw::connect(cluster.webhook().port()).unwrap().post("/gate", asked.to_string().as_bytes()).unwrap();
    let response = answer.response();
    let warnings: Vec<&str> = response["warnings"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(warnings.iter().all(|warning| warning.chars().count() <= 256), "{warnings:?}");
    assert!(answer.body.len() < 4_096, "{} bytes", answer.body.len());
}
