//! Every part of an installed breakglass with a fault seeded in it: doctor finds it, names the command, and that mends it.

use serde_json::{Value, json};
use tests::{Cluster, Kubectl, OVERRIDE, Setup, wait_until};

use crate::LIMIT;

/// One fault.
struct Fault {
    name: &'static str,
    /// What kubectl is told to seed it.
    seed: Vec<String>,
    /// The check that has to find it, at which level, and a part of what it says.
    check: &'static str,
    level: &'static str,
    message: &'static str,
    /// The start of the command that mends it.
    mend: &'static str,
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn patch(kind: &str, name: &str, steps: Value) -> Vec<String> {
    let mut args = words(&format!("patch {kind} {name} --type=json -p"));
    args.push(steps.to_string());
    args
}

fn fault(name: &'static str, seed: Vec<String>, found: [&'static str; 3], mend: &'static str) -> Fault {
    let [check, level, message] = found;
    Fault { name, seed, check, level, message, mend }
}

const INSTALL: &str = "kubectl breakglass install --force-conflicts --incident INC-123";

fn faults() -> Vec<Fault> {
    let user = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/user/maxLength";
    vec![
        fault(
            "an edited definition",
            patch("crd", "breakglasstokens.breakglass.dev", json!([{"op": "replace", "path": user, "value": 9}])),
            ["kinds", "problem", "properties.user.maxLength is 9, and was 1024"],
            INSTALL,
        ),
        fault(
            "a ClusterRole without a rule",
            patch("clusterrole", "breakglass-webhook", json!([{"op": "remove", "path": "/rules/0"}])),
            [
                "rights",
                "problem",
                "the ClusterRole breakglass-webhook gives no right to get breakglasspolicies.breakglass.dev",
            ],
            INSTALL,
        ),
        fault(
            "a ClusterRoleBinding that is gone",
            words("delete clusterrolebinding breakglass-webhook"),
            ["rights", "problem", "there is no ClusterRoleBinding breakglass-webhook"],
            INSTALL,
        ),
        fault(
            "a PodDisruptionBudget that is gone",
            words("-n breakglass-system delete poddisruptionbudget breakglass-webhook"),
            ["deployment", "problem", "there is no PodDisruptionBudget"],
            INSTALL,
        ),
        fault(
            "a Service that selects others",
            patch(
                "service",
                "breakglass-webhook",
                json!([{"op": "replace", "path": "/spec/selector", "value": {"app.kubernetes.io/name": "other"}}]),
            ),
            ["service", "problem", "the Service selects app.kubernetes.io/name=other, which is no pod"],
            INSTALL,
        ),
        fault(
            "a Deployment scaled to 0",
            words("-n breakglass-system scale deployment breakglass-webhook --replicas=0"),
            ["deployment", "problem", "the Deployment is scaled to 0"],
            INSTALL,
        ),
        fault(
            "a namespace where any pod may run",
            words("label namespace breakglass-system pod-security.kubernetes.io/enforce-"),
            ["deployment", "problem", "has not the label pod-security.kubernetes.io/enforce=restricted"],
            INSTALL,
        ),
        fault(
            "a policy that refuses nothing",
            words("apply -f -"),
            ["policy", "note", "the policy's mode is Audit: nothing is refused"],
            "kubectl patch breakglasspolicy default",
        ),
        fault(
            "somebody who can be Flux",
            words("create clusterrolebinding passer-by --clusterrole=passer-by --user=eve@example.com"),
            ["access", "problem", "user eve@example.com may"],
            "if nobody means this: kubectl delete clusterrolebinding passer-by",
        ),
    ]
}

const AUDIT: &str = r#"{"apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassPolicy", "metadata": {"name": "default"}, "spec": {"mode": "Audit"}}"#;

/// The admin of a cluster, past the webhook: faults are seeded in what guards itself.
fn admin(cluster: &Cluster) -> Kubectl {
    cluster.kubectl("admin")
}

fn seed(cluster: &Cluster, args: &[String]) {
    let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
    if args.contains(&"service") {
        args.splice(0..0, ["-n", "breakglass-system"]);
    }
    args.extend(OVERRIDE);
    admin(cluster).ok_with_input(&args, AUDIT);
}

#[track_caller]
fn findings(cluster: &Cluster) -> Vec<Value> {
    let ran = cluster.plugin("admin").run(&["doctor", "-o", "json"]);
    let document: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran}"));
    document["findings"].as_array().unwrap().clone()
}

fn problems(cluster: &Cluster) -> Vec<Value> {
    findings(cluster).into_iter().filter(|one| one["level"] == "problem").collect()
}

fn wait_well(cluster: &Cluster, after: &str) {
    wait_until(&format!("doctor to be content after {after}"), LIMIT, || {
        let problems = problems(cluster);
        if problems.is_empty() { Ok(()) } else { Err(format!("{problems:#?}")) }
    })
    .unwrap();
}

/// Types the command that doctor named, as it stands, as an admin whom breakglass asks for a token like everybody else.
fn mend(cluster: &Cluster, hint: &str) {
    let command = hint.strip_prefix("if nobody means this: ").unwrap_or(hint);
    let output = admin(cluster).program(std::path::Path::new("/bin/sh")).run(&["-c", command]);
    assert_eq!(output.status, 0, "{command}: {output}");
}

/// X-12: each fault that is seeded is found, named with the command that mends it, and mended by that command.
#[test]
fn each_fault_of_each_part_is_found_and_mended_by_the_command_that_is_named() {
    let cluster = Setup::new("faults").nodes().start().unwrap();
    cluster.install_manifests().unwrap();
    wait_well(&cluster, "the install");
    let verbs = json!([{"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"]}]);
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "passer-by"}, "rules": verbs});
    cluster.set_scene(&["apply", "-f", "-"], &role.to_string());
    for fault in faults() {
        let Fault { name, check, level, message, mend: command, .. } = &fault;
        seed(&cluster, &fault.seed);
        let hint = wait_until(&format!("doctor to find {name}"), LIMIT, || {
            let findings = findings(&cluster);
            let said = |one: &&Value| one["message"].as_str().is_some_and(|said| said.contains(message));
            let found = findings.iter().filter(said).find(|one| one["check"] == *check && one["level"] == *level);
            found
                .map(|found| found["hints"][0].as_str().unwrap_or_default().to_owned())
                .ok_or_else(|| format!("{findings:#?}"))
        })
        .unwrap();
        assert!(hint.starts_with(command), "{name}: {hint}");
        mend(&cluster, &hint);
        wait_well(&cluster, name);
    }
    what_is_wrong_while_nobody_answers(&cluster);
}

/// What the webhook would mend by itself, while it cannot: the command brings it back, and it mends the rest.
fn what_is_wrong_while_nobody_answers(cluster: &Cluster) {
    let kind = "validatingwebhookconfiguration";
    let edit = |path: &str, value: Value| {
        patch(kind, "breakglass", json!([{"op": "replace", "path": format!("/webhooks/0/{path}"), "value": value}]))
    };
    let secret = ["-n", "breakglass-system", "get", "secret", "breakglass-webhook-tls"];
    let ca = admin(cluster).json(&secret)["data"]["ca.crt"].clone();
    let foreign = json!([{"op": "replace", "path": "/data/tls.crt", "value": ca}]);
    let gone = "there is no validatingwebhookconfiguration breakglass: nothing is refused and nothing is recorded";
    for (what, args, check, expected) in [
        ("failurePolicy", edit("failurePolicy", json!("Ignore")), "registration", "has not failurePolicy Fail"),
        ("caBundle", edit("clientConfig/caBundle", Value::Null), "registration", "names no CA"),
        ("a deleted configuration", words(&format!("delete {kind} breakglass")), "registration", gone),
        (
            "a certificate of somebody else's",
            [words("-n breakglass-system"), patch("secret", "breakglass-webhook-tls", foreign)].concat(),
            "certificates",
            "the leaf is not for ",
        ),
    ] {
        scale(cluster, 0);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        admin(cluster).ok(&args);
        let problems = problems(cluster);
        let of_check = problems.iter().filter(|one| one["check"] == check);
        let found = of_check.clone().find(|one| one["message"].as_str().is_some_and(|said| said.contains(expected)));
        assert!(found.is_some(), "{what}: {problems:#?}");
        // The replicas are 0 here by our own hand, which is a finding, too; its command brings them back.
        let hints = problems.iter().flat_map(|one| one["hints"].as_array().into_iter().flatten());
        let hint = hints.filter_map(Value::as_str).find(|hint| hint.starts_with(INSTALL));
        mend(cluster, hint.unwrap_or_else(|| panic!("{problems:#?}")));
        wait_well(cluster, what);
    }
}

fn scale(cluster: &Cluster, number: u8) {
    let replicas = format!("--replicas={number}");
    let scale = ["-n", "breakglass-system", "scale", "deployment", "breakglass-webhook", replicas.as_str()];
    admin(cluster).ok(&[&scale[..], &OVERRIDE].concat());
    wait_until("the replicas to be gone", LIMIT, || {
        let running = cluster.nodes().running();
        if running.is_empty() { Ok(()) } else { Err(format!("{running:?}")) }
    })
    .unwrap();
}
