//! What we cannot look up, have not listed, or have not heard of, is not taken for leave to write.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::client::Client;
use tests::review::review;
use tests::{Cluster, Output, probe, wait_until};

use crate::{LIMIT, check_refused};

const LABEL: &str = "breakglass.dev/environment";

/// What lets the webhook read tokens and namespaces.
const RIGHTS: [&str; 2] = ["clusterrolebinding/breakglass-webhook", "clusterrolebinding/breakglass-webhook-objects"];

/// How often a race is run: each time it may go otherwise.
const RACES: usize = 4;

/// Longer than the API server waits for the call that stamps, shorter than for the gate.
const STAMP_TIMEOUT: Duration = Duration::from_secs(7);

/// S-06, S-05: while tokens and namespaces cannot be read, before they have been read, and when a label has changed that we
/// have not heard of yet, prod is shut, also to whoever has a token; dev is not.
#[test]
fn what_is_not_known_keeps_prod_shut() {
    let cluster = Cluster::own("blind");
    for namespace in ["prod-blind", "dev-blind", "dev-turned"] {
        cluster.namespace(namespace);
    }
    cluster.open("alice", "INC-510", "prod-blind");
    cluster.kubectl("alice").ok(&["-n", "prod-blind", "create", "configmap", "settings"]);
    what_cannot_be_looked_up_is_refused(&cluster);
    what_has_not_been_listed_is_refused(&cluster);
    a_label_that_we_have_not_heard_of_holds(&cluster);
}

/// The API server could not ask, and so said no.
fn is_shut(output: &Output) -> bool {
    output.status == 1
        && output.stderr.contains("failed calling webhook \"")
        && output.stderr.contains(".breakglass.dev\"")
}

/// Takes the webhook's rights from it, and gives back what gives them back.
fn without_rights(cluster: &Cluster) -> String {
    let mut list = cluster.kubectl("admin").json(&[&["get"], &RIGHTS[..]].concat());
    for binding in list["items"].as_array_mut().unwrap() {
        binding["metadata"] = json!({"name": binding["metadata"]["name"]});
    }
    cluster.set_scene(&[&["delete"], &RIGHTS[..]].concat(), "");
    list.to_string()
}

fn what_cannot_be_looked_up_is_refused(cluster: &Cluster) {
    let alice = cluster.kubectl("alice");
    let rights = without_rights(cluster);
    // The API server goes by a binding for a moment after it is gone.
    wait_until("the webhook to be without rights", LIMIT, || {
        let ran = alice.run(&["-n", "prod-blind", "annotate", "configmap", "settings", "note=mine", "--overwrite"]);
        if is_shut(&ran) { Ok(()) } else { Err(ran.to_string()) }
    })
    .unwrap();
    // Whether there is a token cannot be known; nor can what is not known be what would let it in.
    for (person, args) in [
        ("alice", &["-n", "prod-blind", "delete", "configmap", "settings"][..]),
        ("bob", &["-n", "prod-blind", "create", "configmap", "another"]),
    ] {
        let ran = cluster.kubectl(person).run(args);
        assert!(is_shut(&ran), "{args:?}: {ran}");
    }
    // A namespace that nobody has told us of, and that cannot be asked for.
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "dev-unheard", "labels": {LABEL: "prod"}}});
    cluster.set_scene(&["create", "-f", "-"], &namespace.to_string());
    let ran = cluster.kubectl("admin").run(&["-n", "dev-unheard", "create", "configmap", "another"]);
    assert!(is_shut(&ran), "{ran}");
    let ran = alice.run(&["-n", "dev-blind", "create", "configmap", "settings"]);
    assert_eq!(ran.status, 0, "{ran}");

    cluster.set_scene(&["create", "-f", "-"], &rights);
    wait_until("the webhook to have its rights again", LIMIT, || {
        let ran = alice.run(&["-n", "prod-blind", "create", "configmap", "another"]);
        if ran.status == 0 { Ok(()) } else { Err(ran.to_string()) }
    })
    .unwrap();
    let ran = cluster.kubectl("admin").run(&["-n", "dev-unheard", "create", "configmap", "another"]);
    check_refused(&ran, "configmaps \"another\" (create) by admin", "-n dev-unheard");
}

fn what_has_not_been_listed_is_refused(cluster: &Cluster) {
    let webhook = cluster.webhook();
    webhook.stop().unwrap();
    let rights = without_rights(cluster);
    std::thread::scope(|scope| {
        let started = scope.spawn(|| webhook.start());
        // It is there, and says to whoever asks that it cannot tell; the gate for prod is no other than the gate for dev.
        let body = review("alice@example.com", "UPDATE", ("prod-blind", "settings")).to_string();
        let answered = wait_until("the webhook to listen", LIMIT, || {
            let (status, answer) = probe::post(webhook.port(), "/gate?timeout=5s", body.as_bytes())?;
            let ready = probe::https(webhook.port(), "/readyz").is_ok();
            if status == 200 { Err(format!("it answers already: {answer}")) } else { Ok((status, ready)) }
        });
        let ran = cluster.kubectl("alice").run(&["-n", "prod-blind", "create", "configmap", "unlisted"]);
        cluster.set_scene(&["create", "-f", "-"], &rights);
        assert_eq!(answered.unwrap(), (503, false));
        assert!(is_shut(&ran), "{ran}");
        started.join().unwrap().unwrap();
    });
    cluster.kubectl("alice").ok(&["-n", "prod-blind", "create", "configmap", "unlisted"]);
}

/// The API server asks us about a namespace only where it has seen the label that guards it: what we remember of it is older.
fn a_label_that_we_have_not_heard_of_holds(cluster: &Cluster) {
    let scene = [
        ("impersonate-user", "admin"),
        ("impersonate-group", "system:masters"),
        ("impersonate-group", "breakglass.dev:override"),
    ];
    let scene = Client::new(&cluster.kubectl("admin"), &scene).unwrap();
    let admin = cluster.kubectl("admin");
    let turn = |label: Value| {
        let patch = json!({"metadata": {"labels": {LABEL: label}}});
        assert_eq!(scene.json("PATCH", "/api/v1/namespaces/dev-turned", &patch).unwrap().status, 200);
    };
    for race in 0..RACES {
        wait_until("the namespace to be known as dev", LIMIT, || {
            let ran = admin.run(&["-n", "dev-turned", "create", "configmap", "probe", "--dry-run=server"]);
            if ran.status == 0 && ran.warnings().is_empty() { Ok(()) } else { Err(ran.to_string()) }
        })
        .unwrap();
        // It hears nothing for a while. The call that stamps is given up meanwhile, and until the gate is asked the API server
        // has seen the label.
        cluster.webhook().signal("STOP").unwrap();
        turn(json!("prod"));
        let begun = Instant::now();
        let written = std::thread::scope(|scope| {
            let written =
                scope.spawn(|| admin.run(&["-n", "dev-turned", "create", "configmap", &format!("race-{race}")]));
            let given_up = wait_until("the call that stamps to be given up", LIMIT, || {
                if begun.elapsed() > STAMP_TIMEOUT { Ok(()) } else { Err("not yet".to_owned()) }
            });
            cluster.webhook().signal("CONT").unwrap();
            given_up.unwrap();
            written.join().unwrap()
        });
        check_refused(&written, &format!("configmaps \"race-{race}\" (create) by admin"), "-n dev-turned");
        turn(Value::Null);
    }
}
