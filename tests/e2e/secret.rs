//! A value of a Secret is written, refused, recorded and listed, and shows nowhere but in the Secret.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tests::client::Client;
use tests::{Cluster, Setup, wait_until};

use crate::LIMIT;

/// The value that must show nowhere: of three bytes' multiples, so that its base64 has no padding.
const CANARY: &str = "swordfish-Ca9aRy-71";

/// What the value looks like to whoever prints it in one way or another.
fn forms() -> Vec<(&'static str, String)> {
    let bytes = CANARY.as_bytes();
    let list = |render: fn(&u8) -> String| bytes.iter().map(render).collect::<Vec<_>>();
    let mut forms = vec![
        ("plain", CANARY.to_owned()),
        ("hex", list(|byte| format!("{byte:02x}")).concat()),
        ("HEX", list(|byte| format!("{byte:02X}")).concat()),
        ("a list of numbers", list(u8::to_string).join(", ")),
        ("a list without spaces", list(u8::to_string).join(",")),
    ];
    // base64 depends on what stands before: of each of the three ways, the part that only the value decides.
    for (name, shift) in [("base64", 0), ("base64 after one byte", 1), ("base64 after two", 2)] {
        let text = STANDARD.encode([&[b'x'; 2][..shift], bytes].concat());
        let whole = (shift * 8).div_ceil(6)..(shift + bytes.len()) * 8 / 6;
        forms.push((name, text[whole].to_owned()));
    }
    forms
}

/// In which form the value is in a text, and what stands around it.
fn seen(text: &str) -> Option<String> {
    forms().into_iter().find_map(|(name, form)| {
        let at = text.find(&form)?;
        let around: String = text[..at].chars().rev().take(300).collect::<Vec<_>>().into_iter().rev().collect();
        Some(format!("{name}, after {around}"))
    })
}

#[test]
fn every_form_of_the_value_is_recognised() {
    let (plain, encoded) = (format!("token={CANARY}"), STANDARD.encode(CANARY));
    for text in [
        &plain,
        &encoded,
        &STANDARD.encode(&plain),
        &STANDARD.encode(format!("a{plain}")),
        &format!("{:?}", CANARY.as_bytes()),
    ] {
        assert!(seen(text).is_some(), "{text}");
    }
    assert_eq!(seen(&STANDARD.encode("something else")), None);
}

/// A Secret with the value in `field`: `data` has it in base64, `stringData` as it is.
fn secret(name: &str, field: &str, key: &str) -> Value {
    let value = if field == "data" { STANDARD.encode(CANARY) } else { CANARY.to_owned() };
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, field: {key: value}})
}

/// Writes to Secrets in every way; everything that was said about them.
fn written(cluster: &Cluster, person: &str, namespace: &str) -> Vec<String> {
    let kubectl = cluster.kubectl(person).namespace(namespace);
    let text = |object: &Value| object.to_string();
    let literal = format!("--from-literal=password={CANARY}");
    let (plain, encoded) = (CANARY, STANDARD.encode(CANARY));
    let merge = json!({"data": {"merged": encoded}}).to_string();
    let strategic = json!({"stringData": {"strategic": plain}}).to_string();
    let steps = json!([{"op": "add", "path": "/data/stepped", "value": encoded}]).to_string();
    let apply = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    let mut immutable = secret("frozen", "data", "password");
    immutable["immutable"] = json!(true);
    let mut large = secret("large", "stringData", "password");
    large["stringData"]["rest"] = json!(CANARY.repeat(30_000));
    let mut many = secret("many", "data", "password");
    for number in 0..20_000 {
        many["data"][format!("password-{number}")] = json!(encoded);
    }
    let mut typed = secret("applied", "stringData", "password");
    typed["type"] = json!("kubernetes.io/tls");
    let mut not_text = secret("not-text", "data", "password");
    not_text["data"]["other"] = json!(format!("%{CANARY}"));
    let mut said = Vec::new();
    let mut run = |args: &[&str], input: &str| {
        let ran = kubectl.run_with_input(args, input);
        said.push(format!("{person} in {namespace}: {} {}\n{ran}", args[0], args.get(1).unwrap_or(&"")));
    };
    run(&["create", "secret", "generic", "literal", &literal], "");
    run(&["create", "-f", "-"], &text(&secret("created", "data", "password")));
    // The whole of it goes into an annotation, in plain.
    run(&["apply", "-f", "-"], &text(&secret("applied", "stringData", "password")));
    run(&["apply", "-f", "-"], &text(&secret("applied", "stringData", "another")));
    run(&apply, &text(&secret("created", "stringData", "by-server")));
    run(&["replace", "-f", "-"], &text(&secret("created", "stringData", "replaced")));
    run(&["replace", "--force", "-f", "-"], &text(&secret("literal", "data", "replaced")));
    run(&["patch", "secret", "created", "--type=merge", "-p", &merge], "");
    run(&["patch", "secret", "created", "-p", &strategic], "");
    run(&["patch", "secret", "created", "--type=json", "-p", &steps], "");
    run(&["annotate", "secret", "applied", "note=mine"], "");
    run(&["create", "-f", "-"], &text(&immutable));
    run(&["create", "-f", "-"], &text(&large));
    run(&["create", "-f", "-"], &text(&many));
    // What is not stored: a rehearsal, and what the API server refuses.
    run(&["create", "-f", "-", "--dry-run=server"], &text(&secret("rehearsed", "stringData", "password")));
    run(&["patch", "secret", "frozen", "-p", &strategic], "");
    run(&["apply", "-f", "-"], &text(&typed));
    run(&["create", "-f", "-"], &text(&not_text));
    run(&["create", "-f", "-"], &text(&secret("Not_a_Name", "stringData", "password")));
    run(&["delete", "secret", "literal", "applied", "large", "many"], "");
    run(&["delete", "secrets", "--all"], "");
    said
}

/// S-21: the value of a Secret, written under a token, refused without one, refused by the API server, or written to dev, is
/// in no record, no log at its loudest, no event, no audit annotation, no warning, no refusal and no list.
#[test]
fn a_secrets_value_shows_nowhere_but_in_the_secret() {
    let cluster = Setup::new("secret").webhook().logging("trace").start().unwrap_or_else(|error| panic!("{error:#}"));
    for namespace in ["prod-secret", "dev-secret"] {
        cluster.namespace(namespace);
    }
    cluster.open("alice", "INC-460", "prod-secret");
    let admin = cluster.kubectl("admin");

    // Left there for the lists: one with a stamp in each namespace, its value in the annotation of `kubectl apply`.
    let mut said = Vec::new();
    for namespace in ["prod-secret", "dev-secret"] {
        let alice = cluster.kubectl("alice").namespace(namespace);
        said.extend(written(&cluster, "alice", namespace));
        let left = alice.run_with_input(&["apply", "-f", "-"], &secret("left", "stringData", "password").to_string());
        assert_eq!(left.status, 0, "{left}");
        said.push(left.to_string());
        let stored = alice.ok(&["get", "secret", "left", "-o", "yaml"]);
        assert!(stored.contains(CANARY) && stored.contains(&STANDARD.encode(CANARY)), "{stored}");
        // Not by kubectl, which hides some of what it is told.
        let client = Client::new(&cluster.kubectl("alice"), &[]).unwrap();
        let path = format!("/api/v1/namespaces/{namespace}/secrets");
        let refused = client.json("POST", &path, &secret("Not_a_Name", "stringData", "password")).unwrap();
        assert_eq!(refused.status, 422, "{refused:?}");
    }
    said.extend(written(&cluster, "bob", "prod-secret"));
    let bob = Client::new(&cluster.kubectl("bob"), &[]).unwrap();
    let path = "/api/v1/namespaces/prod-secret/secrets";
    let refused = bob.json("POST", path, &secret("refused", "stringData", "password")).unwrap();
    assert_eq!(refused.status, 403, "{refused:?}");
    said.push(refused.body);

    let changes = cluster.changes("INC-460");
    let records = wait_until("the records of all kinds of writes", LIMIT, || {
        let operations = |wanted: &str| changes.iter().filter(|change| change["spec"]["operation"] == wanted).count();
        let counts = ["Create", "Update", "Delete"].map(operations);
        if counts.iter().all(|&count| count >= 4) { Ok(changes.len()) } else { Err(format!("{counts:?}")) }
    })
    .unwrap();
    assert!(changes.iter().any(|change| change["spec"]["truncated"] == true), "none of {records} is truncated");
    let log = |name: &str| std::fs::read_to_string(cluster.directory().join("logs").join(name)).unwrap();
    let webhook = log("webhook.log");
    assert!(webhook.contains("\"level\":\"TRACE\""), "the log is not at its loudest");
    let list = |person: &str, args: &[&str]| cluster.plugin(person).ok(&[&["list"], args].concat());
    let mut texts = vec![
        ("the records", admin.ok(&["get", "breakglasschanges", "-o", "yaml", "--show-managed-fields"])),
        ("the tokens", admin.ok(&["get", "breakglasstokens", "-o", "yaml", "--show-managed-fields"])),
        ("the events", admin.ok(&["get", "events", "-A", "-o", "yaml"])),
        ("the webhook's log", webhook),
        ("the audit log", log("audit.log")),
        ("list -o json", list("alice", &["--incident", "INC-460", "-o", "json"])),
        ("list -o yaml", list("alice", &["--incident", "INC-460", "-o", "yaml"])),
        ("list -o wide", list("alice", &["--incident", "INC-460", "-o", "wide"])),
        ("list of dev -o json", list("alice", &["-n", "dev-secret", "-o", "json"])),
        ("list of dev -o yaml", list("alice", &["-n", "dev-secret", "-o", "yaml"])),
        ("list of prod -o yaml", list("alice", &["-n", "prod-secret", "-o", "yaml"])),
    ];
    assert!(texts.iter().filter(|(name, text)| name.starts_with("list") && text.contains("left")).count() > 3);
    texts.extend(said.into_iter().map(|text| ("what was said", text)));
    let found: Vec<String> = texts.iter().filter_map(|(name, text)| Some(format!("{name}: {}", seen(text)?))).collect();
    assert!(found.is_empty(), "{}", found.join("\n\n"));
}
