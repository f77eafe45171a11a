//! Installed in one command, brought up to date by the same, and taken out again in whatever order.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use tests::{Cluster, Kubectl, Output, Setup, wait_until};

use crate::LIMIT;

/// A cluster with nodes and without breakglass.
fn bare(name: &str) -> Cluster {
    Setup::new(name).nodes().start().unwrap()
}

fn system(cluster: &Cluster) -> Kubectl {
    cluster.kubectl("admin").namespace("breakglass-system")
}

/// Runs the plugin as admin and holds its exit code.
#[track_caller]
fn check(cluster: &Cluster, args: &[&str], status: i32) -> Output {
    let output = cluster.plugin("admin").run(args);
    assert_eq!(output.status, status, "{args:?}: {output}");
    output
}

/// Holds that all of these are said, in this order.
#[track_caller]
fn check_said(output: &Output, expected: &[&str]) {
    let mut lines = output.stderr.lines();
    for start in expected {
        assert!(lines.any(|line| line.trim_start().starts_with(start)), "{start:?} is missing, or too early: {output}");
    }
}

/// What says that it works.
const WORKS: [&str; 5] = [
    "registered: the API server asks breakglass-system",
    "admitted: a dry run in default came back stamped with admin",
    "guarded: a dry run in prod came back with the warning that it needs a token",
    "refused: a write to breakglass-system without a token was not let in",
    "installed in ",
];

/// Documents by kind, namespace and name.
fn by_name(documents: &str, kubectl: &Kubectl) -> BTreeMap<String, Value> {
    // Nothing is asked of the server but to print what it was given.
    let args = ["apply", "--dry-run=client", "--validate=false", "-f", "-", "-o", "json"];
    let list: Value = serde_json::from_str(&kubectl.ok_with_input(&args, documents)).unwrap();
    let name = |object: &Value| {
        let metadata = &object["metadata"];
        format!("{} {} {}", object["kind"], metadata["namespace"], metadata["name"])
    };
    let items = list["items"].as_array().cloned().unwrap_or_else(|| vec![list.clone()]);
    items.into_iter().map(|object| (name(&object), object)).collect()
}

/// What the plugin carries is what `kubectl apply -k` applies, object by object.
#[test]
fn the_plugin_carries_what_the_manifests_say() {
    let cluster = Cluster::bare("manifests");
    let admin = cluster.kubectl("admin");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests");
    let carried = by_name(&cluster.plugin("admin").ok(&["install", "-o", "yaml"]), &admin);
    let rendered = by_name(&admin.ok(&["kustomize", folder]), &admin);
    assert_eq!(carried, rendered);
    assert!(carried.len() > 20, "{:?}", carried.keys());

    // Without a cluster as well.
    let nowhere = Kubectl::new(&cluster.bin(), cluster.directory(), Path::new("/nowhere"));
    let nowhere = nowhere.program(&cluster.bin().join("kubectl-breakglass"));
    assert_eq!(nowhere.ok(&["install", "-o", "name"]).lines().count(), carried.len());

    let with_certificates = admin.ok(&["kustomize", &format!("{folder}/cert-manager")]);
    assert!(with_certificates.contains("- --certificates=cert-manager"), "{with_certificates}");
    assert_eq!(with_certificates.matches("\nkind: Certificate\n").count(), 2);
}

#[test]
fn one_command_makes_it_work_and_the_next_ones_keep_it_up_to_date() {
    let cluster = bare("install");
    let planned = check(&cluster, &["install", "--dry-run"], 0);
    assert!(planned.stdout.lines().all(|line| line.ends_with(" created (server dry run)")), "{planned}");
    let installed = check(&cluster, &["install"], 0);
    let steps =
        ["namespace: created", "definitions: 3 created, established", "deployment: created", "replicas: 2 of 2"];
    check_said(&installed, &[&steps[..], &WORKS].concat());
    // A replica says within a second that the API server calls it now; an install may be over sooner.
    wait_until("doctor to find no problem", LIMIT, || {
        let asked = cluster.plugin("admin").run(&["doctor"]);
        if asked.status == 0 { Ok(()) } else { Err(asked.to_string()) }
    })
    .unwrap();

    // Again: nothing changes, and nobody is asked for an incident.
    let versions = |kind: &str| system(&cluster).json(&["get", kind, "breakglass-webhook"])["metadata"].clone();
    let before = (versions("service"), versions("clusterrole"));
    let again = check(&cluster, &["install"], 0);
    check_said(&again, &[&["unchanged: all 23 objects"][..], &WORKS].concat());
    assert_eq!(before, (versions("service"), versions("clusterrole")));

    // A change needs a token, and says how to come by one.
    let refused = check(&cluster, &["install", "--replicas", "3"], 2);
    check_said(
        &refused,
        &[
            "error: breakglass guards itself: this changes what belongs to platform",
            "hint: kubectl breakglass install --replicas 3 --incident INC-123",
        ],
    );
    let upgrade = ["install", "--replicas", "3", "--incident", "INC-700", "--reason", "more of them"];
    let upgraded = check(&cluster, &upgrade, 0);
    let steps = ["token: opened inc-700-", "deployment: configured", "token: inc-700-", "replicas: 3 of 3"];
    check_said(&upgraded, &[&steps[..], &WORKS].concat());
    let [change] = &cluster.changes("INC-700")[..] else { panic!("one object was changed") };
    assert_eq!(change["spec"]["target"]["kind"], "Deployment");
    let token = change["spec"]["token"].as_str().unwrap();
    let status = &cluster.kubectl("admin").json(&["get", "breakglasstoken", token])["status"];
    assert_eq!(status["phase"], "Closed");

    // A mode is the policy's, which nobody has written yet.
    let warn = check(&cluster, &["install", "--replicas", "3", "--mode", "Warn"], 0);
    check_said(&warn, &["policy: created", "warned: prod is stamped, with a warning; in mode Warn nothing is refused"]);
    let audit = check(&cluster, &["install", "--replicas", "3", "--mode", "audit"], 0);
    check_said(&audit, &["policy: configured", "audited: prod is stamped; in mode Audit nothing is refused"]);
    cluster.kubectl("alice").ok(&["-n", "prod", "create", "configmap", "audited"]);
    let enforce = check(&cluster, &["install", "--replicas", "3", "--mode", "Enforce"], 0);
    check_said(&enforce, &WORKS);
}

/// What somebody else wrote since is not taken from them in silence.
#[test]
fn what_others_wrote_is_named_and_taken_only_when_told_to() {
    let cluster = bare("conflicts");
    check(&cluster, &["install"], 0);
    cluster.set_scene(
        &["-n", "breakglass-system", "set", "image", "deployment/breakglass-webhook", "webhook=nowhere:1"],
        "",
    );
    let conflict = check(&cluster, &["install", "--incident", "INC-701"], 1);
    check_said(
        &conflict,
        &["error: somebody else has written what is ours: deployment.apps/breakglass-webhook .spec.template", "hint: "],
    );
    assert!(conflict.stderr.contains("was set by kubectl-set"), "{conflict}");
    let taken = check(&cluster, &["install", "--incident", "INC-701", "--force-conflicts"], 0);
    check_said(&taken, &WORKS);

    // A policy that contradicts itself is not sent; one that does not is in force at once.
    let file = cluster.directory().join("policy.yaml");
    std::fs::write(&file, "environments: [{name: prod, writes: RequireToken}]").unwrap();
    let path = file.to_str().unwrap();
    let refused = check(&cluster, &["install", "--policy", path], 2);
    assert!(refused.stderr.contains("has neither namespaces nor a namespaceLabel"), "{refused}");
    std::fs::write(&file, "incidentPattern: ^OPS-").unwrap();
    check_said(&check(&cluster, &["install", "--policy", path], 0), &["policy: created", "installed in "]);
}

#[test]
fn what_keeps_it_from_working_is_said_with_the_command_to_look() {
    let cluster = bare("stuck");
    let stuck = check(&cluster, &["install", "--image", "nowhere:1", "--timeout", "20s"], 1);
    check_said(
        &stuck,
        &[
            "waiting: the image nowhere:1 cannot be pulled",
            "error: of 2 replicas 2 are as they should be, and 0 are available: the image nowhere:1 cannot be pulled",
            "hint: kubectl -n breakglass-system describe pod breakglass-webhook-",
        ],
    );
    // The same command without the mistake repairs it, and asks for no token: nobody is there yet to give one.
    check_said(&check(&cluster, &["install"], 0), &WORKS);
}

/// What the webhook itself says to do when its kinds were deleted, and what to do when it is gone.
#[test]
fn what_was_broken_by_hand_is_repaired_by_the_same_command() {
    let cluster = bare("repair");
    check(&cluster, &["install"], 0);
    cluster.set_scene(&["delete", "crd", "breakglasstokens.breakglass.dev", "breakglasschanges.breakglass.dev"], "");
    wait_until("the webhook to miss its kinds", LIMIT, || {
        let output = cluster.kubectl("alice").run(&["-n", "prod", "create", "configmap", "a"]);
        let said = output.stderr.contains("Who runs the cluster types: kubectl breakglass install");
        if said { Ok(()) } else { Err(output.to_string()) }
    })
    .unwrap();
    check_said(&check(&cluster, &["install"], 0), &[&["definitions: 2 created, established"][..], &WORKS].concat());

    // Nobody is there to ask for a token, and nobody to give one: our own namespace is open.
    cluster.set_scene(&["-n", "breakglass-system", "delete", "deployment", "breakglass-webhook"], "");
    cluster.set_scene(&["-n", "breakglass-system", "wait", "--for=delete", "pod", "--all", "--timeout=60s"], "");
    check_said(&check(&cluster, &["install"], 0), &[&["deployment: created"][..], &WORKS].concat());
}

/// R-23: with one replica a drain is not kept waiting, and the next replica takes over by itself.
#[test]
fn one_replica_works_and_does_not_keep_its_node() {
    let cluster = bare("one");
    let installed = check(&cluster, &["install", "--replicas", "1"], 0);
    check_said(&installed, &["Warning: with one replica, prod is shut", "replicas: 1 of 1"]);
    let running = cluster.nodes().running();
    let [one] = &running[..] else { panic!("one replica: {running:?}") };
    let drain = ["drain", &one.node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=60s"];
    // Past the gate: whoever takes our own pods away needs a token, and this is about the budget.
    cluster.set_scene(&drain, "");
    cluster.wait_rolled_out().unwrap();
    check_said(&check(&cluster, &["install", "--replicas", "1"], 0), &["unchanged: all 23", "refused: "]);
}

/// R-26: whatever was taken away by hand before, an uninstall ends with no lock and says so.
#[test]
fn an_uninstall_leaves_no_lock_whatever_is_gone_already() {
    let cluster = bare("uninstall");
    let definitions =
        "breakglasspolicies.breakglass.dev breakglasstokens.breakglass.dev breakglasschanges.breakglass.dev";
    let hands: [&[&str]; 8] = [
        &[],
        &["scale", "deployment", "breakglass-webhook", "--replicas=0"],
        &["delete", "deployment", "breakglass-webhook"],
        &["delete", "validatingwebhookconfiguration", "breakglass"],
        &["delete", "clusterrole", "breakglass-webhook"],
        &["delete", "service", "breakglass-webhook"],
        &["delete", "namespace", "breakglass-system"],
        &[&["delete", "crd"], &definitions.split(' ').collect::<Vec<_>>()[..]].concat(),
    ];
    for hand in hands {
        check_said(&check(&cluster, &["install"], 0), &WORKS);
        if !hand.is_empty() {
            cluster.set_scene(&[&["-n", "breakglass-system"], hand].concat(), "");
        }
        let output = check(&cluster, &["uninstall"], 0);
        check_said(&output, &["webhook configurations: ", "uninstalled in "]);
        let locks = cluster.kubectl("admin").ok(&[
            "get",
            "validatingwebhookconfigurations,mutatingwebhookconfigurations",
            "-o",
            "name",
        ]);
        assert_eq!(locks, "", "after {hand:?}: {output}");
        let alice = cluster.kubectl("alice").namespace("prod");
        alice.ok(&["create", "configmap", "open"]);
        alice.ok(&["delete", "configmap", "open"]);
    }
    let again = check(&cluster, &["uninstall"], 0);
    check_said(&again, &["webhook configurations: already gone", "deployment: already gone"]);
}

/// The key stays: what was recorded before verifies after the next install. A purge takes it, and everything else.
#[test]
fn an_uninstall_keeps_the_records_and_a_purge_leaves_nothing() {
    let cluster = bare("purge");
    check(&cluster, &["install"], 0);
    cluster.kubectl("admin").ok_with_input(&["apply", "--server-side", "-f", "-"], tests::users::BREAKGLASS_RIGHTS);
    let run =
        ["run", "INC-703", "--reason", "x", "-n", "prod", "--", "kubectl", "-n", "prod", "create", "configmap", "a"];
    cluster.plugin("alice").ok(&run);
    cluster.kubectl("alice").ok(&["-n", "dev", "create", "deployment", "web", "--image=x"]);
    wait_until("a copy of the stamp on the ReplicaSet", LIMIT, || {
        let sets = cluster.kubectl("admin").ok(&["-n", "dev", "get", "replicasets", "-o", "yaml"]);
        if sets.contains("breakglass.dev/user") { Ok(()) } else { Err(sets) }
    })
    .unwrap();
    let key = || system(&cluster).json(&["get", "secret", "breakglass-webhook-key"])["data"].clone();
    let before = key();

    let output = check(&cluster, &["uninstall", "--incident", "INC-704", "--reason", "away"], 0);
    check_said(
        &output,
        &["token: opened inc-704-", "deployment: deleted", "Kept: 2 records, tokens, policy and stamps"],
    );
    assert_eq!(key(), before);
    check(&cluster, &["install"], 0);
    assert_eq!(key(), before);
    assert_eq!(cluster.changes("INC-703").len(), 1);

    let unconfirmed = check(&cluster, &["uninstall", "--purge"], 2);
    check_said(&unconfirmed, &["error: a purge takes 2 records", "hint: kubectl breakglass uninstall --purge --yes"]);
    let purge = ["uninstall", "--purge", "--yes", "--incident", "INC-705", "--reason", "for good"];
    let planned = check(&cluster, &[&purge[..], &["--dry-run"]].concat(), 0);
    assert!(planned.stdout.ends_with("namespace/breakglass-system deleted (server dry run)\n"), "{planned}");
    check_said(&check(&cluster, &purge, 0), &["stamps: taken off 3 objects", "uninstalled in "]);
    let left = everything_of_breakglass(&cluster.kubectl("admin"));
    assert!(left.is_empty(), "{left:#?}");
}

/// Nobody is left to give back what is held when its time is up. What somebody holds themselves is theirs.
#[test]
fn an_uninstall_gives_back_what_changes_hold() {
    let cluster = bare("held-away");
    check(&cluster, &["install"], 0);
    cluster.kubectl("admin").ok_with_input(&["apply", "--server-side", "-f", "-"], tests::users::BREAKGLASS_RIGHTS);
    let admin = cluster.kubectl("admin").namespace("prod");
    let hold = "kustomize.toolkit.fluxcd.io/reconcile";
    for name in ["ours", "theirs"] {
        cluster.set_scene(&["-n", "prod", "create", "configmap", name], "");
        let owner = ["name=prod", "namespace=flux-system"].map(|label| format!("kustomize.toolkit.fluxcd.io/{label}"));
        cluster.set_scene(&["-n", "prod", "label", "configmap", name, &owner[0], &owner[1]], "");
    }
    cluster.set_scene(&["-n", "prod", "annotate", "configmap", "theirs", &format!("{hold}=disabled")], "");
    let alice = cluster.kubectl("alice").namespace("prod");
    for (name, open) in [("ours", &["open", "INC-706", "--hold"][..]), ("theirs", &["open", "INC-707"])] {
        cluster.plugin("alice").ok(&[open, &["-n", "prod", "--reason", "x", "--yes"]].concat());
        alice.ok(&["patch", "configmap", name, "-p", r#"{"data": {"a": "b"}}"#]);
        cluster.plugin("alice").ok(&["close", open[1]]);
    }
    let annotations = |name: &str| admin.json(&["get", "configmap", name])["metadata"]["annotations"].clone();
    assert_eq!((&annotations("ours")[hold], &annotations("theirs")[hold]), (&"disabled".into(), &"disabled".into()));

    let words = "configmap/ours in prod: Kustomization flux-system/prod applies Git to it again, and undoes what Git does not say";
    let planned = check(&cluster, &["uninstall", "--dry-run"], 0);
    check_said(&planned, &[&format!("Would be given back: {words}")]);
    assert!(!planned.stderr.contains("theirs"), "{planned}");
    assert_eq!(annotations("ours")[hold], "disabled", "a dry run changes nothing");

    let output = check(&cluster, &["uninstall"], 0);
    check_said(&output, &["nothing is refused", &format!("Warning: given back: {words}"), "uninstalled in "]);
    let (ours, theirs) = (annotations("ours"), annotations("theirs"));
    assert!(ours.get(hold).is_none() && ours.get("breakglass.dev/change").is_some(), "{ours}");
    assert_eq!(theirs[hold], "disabled", "{theirs}");
    // Again: nothing is held any more.
    let again = check(&cluster, &["uninstall"], 0);
    assert!(!again.stderr.contains("given back"), "{again}");
}

/// Every line, of every object there is, that names our group.
fn everything_of_breakglass(admin: &Kubectl) -> Vec<String> {
    let kinds = admin.ok(&["api-resources", "--verbs=list", "-o", "name"]);
    let lines = kinds.lines().flat_map(|kind| {
        let all = admin.run(&["get", kind, "-A", "-o", "yaml", "--show-managed-fields"]);
        let lines =
            all.stdout.lines().filter(|line| line.contains("breakglass.dev") || line.contains("breakglass-system"));
        lines.map(|line| format!("{kind}: {line}")).collect::<Vec<_>>()
    });
    lines.collect()
}
