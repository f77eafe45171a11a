//! A person's write: refused with the command that would let it in, let in under a token, stamped, recorded.

use serde_json::{Value, json};
use tests::Cluster;
use tests::record::{after, change_of, config_map, stamp, without_noise};

use crate::check_refused;

#[test]
fn a_refusal_ends_with_the_command_that_lets_the_write_in() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-direct");
    // Of all tests, only this one opens a token as bob, so that nothing else is in the refusal.
    let bob = cluster.kubectl("bob").namespace("prod-direct");
    let create = || bob.run_with_input(&["create", "-f", "-"], &config_map("settings", "one"));

    let refused = create();
    let expected = "prod is run by GitOps: configmaps \"settings\" (create) by bob@example.com needs a break-glass \
         token. Open one: kubectl breakglass open <incident> -n prod-direct --reason \"…\"";
    assert_eq!(refused.refusal(), expected);

    // As a person pastes it: nothing but the two gaps filled in, no terminal, no --yes.
    let command = expected.split_once("Open one: ").unwrap().1;
    let command = command.replace("<incident>", "INC-100").replace('…', "checkout returns 500");
    cluster.kubectl("bob").program("/bin/sh".as_ref()).ok(&["-c", &command]);

    let let_in = create();
    assert_eq!(let_in.status, 0, "{let_in}");
    let object = bob.json(&["get", "configmap", "settings"]);
    let stamp = stamp(&object);
    let keys: Vec<&str> = stamp.keys().map(String::as_str).collect();
    assert_eq!(keys, ["change", "incident", "manager", "operation", "state", "time", "token", "user"]);
    for (key, value) in [
        ("user", "bob@example.com"),
        ("operation", "Create"),
        ("manager", "kubectl-create"),
        ("incident", "INC-100"),
        ("state", "pending"),
    ] {
        assert_eq!(stamp[key], value, "{key}");
    }
    let token = cluster.kubectl("admin").json(&["get", "breakglasstokens", &stamp["token"]]);
    assert_eq!(token["spec"]["namespaces"], json!(["prod-direct"]));
    assert_eq!(token["spec"]["reason"], "checkout returns 500");

    // The warning: what it is recorded as, under which token, and until when it has to be decided.
    let change = cluster.change(&stamp["change"]);
    let (name, decide_by) = (&stamp["change"], change["spec"]["decideBy"].as_str().unwrap());
    let warning = format!(
        "INC-100: let in under {} (60m left), recorded as {name}. To be decided by {decide_by}. See: kubectl \
         breakglass list --incident INC-100",
        stamp["token"]
    );
    assert_eq!(let_in.warnings(), [warning]);

    // One row on the list, with the whole record in it.
    let list = cluster.plugin("bob").json(&["list", "--incident", "INC-100"]);
    let rows = list["items"].as_array().unwrap();
    assert_eq!(rows.len(), 1, "{list:#}");
    assert_eq!(rows[0]["state"], "pending");
    assert_eq!(rows[0]["change"]["metadata"]["name"], stamp["change"].as_str());
    assert!(!rows[0]["change"]["spec"]["patch"].as_array().unwrap().is_empty());
    assert_eq!(rows[0]["change"]["spec"]["before"], Value::Null);
    assert_eq!(after(&rows[0]["change"]), without_noise(&object));
}

/// K-01: a token is good for who opened it, in the namespaces that it names.
#[test]
fn a_token_is_good_for_its_holder_in_its_namespaces_alone() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-holder");
    cluster.namespace("prod-holder-other");
    cluster.open("alice", "INC-101", "prod-holder");
    let create = |person: &str, namespace: &str| {
        cluster.kubectl(person).namespace(namespace).run(&["create", "configmap", "settings"])
    };
    let subject = "configmaps \"settings\" (create) by bob@example.com";
    check_refused(&create("bob", "prod-holder"), subject, "-n prod-holder");
    let refused = create("alice", "prod-holder-other");
    let subject = "configmaps \"settings\" (create) by alice@example.com";
    check_refused(&refused, subject, "-n prod-holder-other");
    // This token, or a newer one of another test, which is for one namespace as well.
    let (_, why) = refused.refusal().split_once(", and inc-").unwrap();
    assert!(why.contains(" covers only prod-"), "{why}");
    assert_eq!(create("alice", "prod-holder").status, 0);
    assert_eq!(cluster.changes("INC-101").len(), 1);
}

#[test]
fn a_write_to_dev_needs_no_token_and_is_noted() {
    let cluster = Cluster::shared();
    cluster.namespace("dev-noted");
    let alice = cluster.kubectl("alice").namespace("dev-noted");
    let created = alice.run(&["create", "configmap", "settings"]);
    assert_eq!((created.status, created.stderr.as_str()), (0, ""), "{created}");
    let stamp = stamp(&alice.json(&["get", "configmap", "settings"]));
    let keys: Vec<&str> = stamp.keys().map(String::as_str).collect();
    assert_eq!(keys, ["manager", "operation", "state", "time", "user"]);
    assert_eq!((stamp["user"].as_str(), stamp["state"].as_str()), ("alice@example.com", "noted"));
    assert_eq!((stamp["operation"].as_str(), stamp["manager"].as_str()), ("Create", "kubectl-create"));

    // Nothing is recorded: the newest token of hers, if there is one, is for other namespaces.
    let namespace = "breakglass.dev/namespace=dev-noted";
    let changes = cluster.kubectl("admin").ok(&["get", "breakglasschanges", "-l", namespace, "-o", "name"]);
    assert_eq!(changes, "");
}

/// L-13: nothing is stored and nothing recorded.
#[test]
fn a_dry_run_of_a_refused_write_goes_through_with_a_warning_and_leaves_nothing() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-dry-run");
    cluster.set_scene(&["-n", "prod-dry-run", "create", "-f", "-"], &config_map("settings", "one"));
    let alice = cluster.kubectl("alice").namespace("prod-dry-run");
    let seen = || alice.json(&["get", "configmaps"])["items"].clone();
    let before = seen();
    for (verb, args, input) in [
        ("create", &["create", "-f", "-"][..], config_map("another", "one")),
        ("update", &["apply", "--server-side", "--force-conflicts", "-f", "-"], config_map("settings", "two")),
        ("delete", &["delete", "configmap", "settings"], String::new()),
    ] {
        let ran = alice.run_with_input(&[args, &["--dry-run=server"]].concat(), &input);
        assert_eq!(ran.status, 0, "{ran}");
        let [why, command] = ran.warnings()[..] else { panic!("{ran}") };
        let start = "without --dry-run this is refused: prod is run by GitOps: configmaps \"";
        assert!(why.starts_with(start) && why.contains(&format!("({verb})")), "{ran}");
        let end = "Open one: kubectl breakglass open <incident> -n prod-dry-run --reason \"…\"";
        assert_eq!(command, end, "a line of its own, since the API server shortens long warnings");
    }
    // 1: it would be different, and with that warning.
    let diff = alice.run_with_input(&["diff", "-f", "-"], &config_map("settings", "two"));
    assert_eq!(diff.status, 1, "{diff}");
    assert!(diff.stdout.contains("+  key: two") && !diff.stdout.contains("breakglass"), "{diff}");

    assert_eq!(seen(), before);
    let token = cluster.open("alice", "INC-103", "prod-dry-run");
    let ran = alice.run(&["create", "configmap", "another", "--dry-run=server"]);
    assert_eq!(ran.warnings(), [format!("let in under {token}; a dry run leaves no record")]);
    assert_eq!(cluster.changes("INC-103"), [] as [Value; 0]);
    assert_eq!(seen(), before);
}

#[test]
fn the_warning_says_who_owns_the_object_in_git_and_when_that_undoes_the_write() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-owned");
    let owned = |kind: &str, owner: Value| {
        let labels = owner.as_object().unwrap().iter().map(|(key, value)| (format!("{kind}/{key}"), value.clone()));
        json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": kind.split('.').next(), "labels": labels.collect::<serde_json::Map<_, _>>()}})
        .to_string()
    };
    // Claims of a label and no more: Flux prunes by its inventory, and does not know them.
    let kustomize = owned("kustomize.toolkit.fluxcd.io", json!({"name": "prod", "namespace": "flux-system"}));
    let helm = owned("helm.toolkit.fluxcd.io", json!({"name": "shop", "namespace": "apps"}));
    for object in [&kustomize, &helm] {
        cluster.set_scene(&["-n", "prod-owned", "create", "-f", "-"], object);
    }
    cluster.open("alice", "INC-104", "prod-owned");
    let alice = cluster.kubectl("alice").namespace("prod-owned");
    for (name, owner, expected) in [
        (
            "kustomize",
            "Kustomization flux-system/prod",
            "Kustomization flux-system/prod owns this object in Git and undoes it within 10s",
        ),
        (
            "helm",
            "HelmRelease apps/shop",
            "HelmRelease apps/shop owns this object in Git and undoes it at the next release",
        ),
    ] {
        let ran = alice.run(&["annotate", "configmap", name, "note=mine"]);
        assert_eq!(ran.status, 0, "{ran}");
        assert_eq!(ran.warnings()[1..], [expected], "{ran}");
        let change = cluster.change(&change_of(&alice.json(&["get", "configmap", name])));
        assert_eq!(change["spec"]["engineOwner"], owner);
    }
}

#[test]
fn a_custom_resource_is_guarded_like_everything_else() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-custom");
    cluster.widgets("prod-custom").unwrap();
    let alice = cluster.kubectl("alice").namespace("prod-custom");
    let widget = |size: u32| {
        json!({"apiVersion": "e2e.example.com/v1", "kind": "Widget", "metadata": {"name": "gear"},
            "spec": {"size": size}})
        .to_string()
    };
    let apply = |size: u32| alice.run_with_input(&["apply", "-f", "-"], &widget(size));

    let subject = "widgets.e2e.example.com \"gear\" (create) by alice@example.com";
    check_refused(&apply(1), subject, "-n prod-custom");
    cluster.open("alice", "INC-105", "prod-custom");
    for (size, operation) in [(1, "Create"), (2, "Update")] {
        let applied = apply(size);
        assert_eq!(applied.status, 0, "{applied}");
        let object = alice.json(&["get", "widget", "gear"]);
        assert_eq!(stamp(&object)["operation"], operation);
        let change = cluster.change(&change_of(&object));
        assert_eq!(change["spec"]["target"]["apiVersion"], "e2e.example.com/v1");
        assert_eq!(after(&change), without_noise(&object));
    }
    // Nor is the status anybody's to write.
    let status =
        ["patch", "widget", "gear", "--subresource=status", "--type=merge", "-p", r#"{"status": {"turns": 1}}"#];
    let refused = cluster.kubectl("admin").namespace("prod-custom").run(&status);
    check_refused(&refused, "widgets.e2e.example.com/status \"gear\" (update) by admin", "-n prod-custom");
    assert_eq!(cluster.changes("INC-105").len(), 2);
}
