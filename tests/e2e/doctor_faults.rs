//! Every part of an installed breakglass with a fault seeded in it: doctor finds it, names the command, and that mends it.

use serde_json::{Value, json};
use tests::{Cluster, Kubectl, OVERRIDE, Setup, wait_until};

use crate::LIMIT;

/// What `kubectl breakglass install` does here, until doctor is content: what people install is applied again.
const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests");

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

const INSTALL: &str = "kubectl breakglass install";

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
            "kubectl -n breakglass-system scale deployment breakglass-webhook --replicas=2",
        ),
        fault(
            "a namespace where any pod may run",
            words("label namespace breakglass-system pod-security.kubernetes.io/enforce-"),
            ["deployment", "problem", "has not the label pod-security.kubernetes.io/enforce=restricted"],
            "kubectl label --overwrite namespace breakglass-system",
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

/// The problems but for those of the replicas' reports, which the webhook of this version may not write yet.
fn problems(cluster: &Cluster) -> Vec<Value> {
    findings(cluster).into_iter().filter(|one| one["level"] == "problem" && one["check"] != "replicas").collect()
}

fn wait_well(cluster: &Cluster, after: &str) {
    wait_until(&format!("doctor to be content after {after}"), LIMIT, || {
        let problems = problems(cluster);
        if problems.is_empty() { Ok(()) } else { Err(format!("{problems:#?}")) }
    })
    .unwrap();
}

/// Types the command that doctor named.
fn mend(cluster: &Cluster, hint: &str) {
    let command = hint.strip_prefix("if nobody means this: ").unwrap_or(hint);
    if command.starts_with(INSTALL) {
        let mut args = vec!["apply", "--server-side", "--force-conflicts", "-k", MANIFESTS];
        args.extend(OVERRIDE);
        cluster.set_scene(&args, "");
        return;
    }
    let words = command.strip_prefix("kubectl ").unwrap();
    // A shell would take the quotes off.
    let words: Vec<String> = words.split(' ').map(|word| word.trim_matches('\'').to_owned()).collect();
    let mut args: Vec<&str> = words.iter().map(String::as_str).collect();
    args.extend(OVERRIDE);
    admin(cluster).ok(&args);
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

/// What the webhook would mend by itself, while it cannot.
fn what_is_wrong_while_nobody_answers(cluster: &Cluster) {
    let scale = |number: &str| {
        let replicas = format!("--replicas={number}");
        let mut args = vec!["-n", "breakglass-system", "scale", "deployment", "breakglass-webhook", replicas.as_str()];
        args.extend(OVERRIDE);
        admin(cluster).ok(&args);
    };
    scale("0");
    wait_until("the replicas to be gone", LIMIT, || {
        let running = cluster.nodes().running();
        if running.is_empty() { Ok(()) } else { Err(format!("{running:?}")) }
    })
    .unwrap();
    let kind = "validatingwebhookconfiguration";
    let edits = [
        (
            "failurePolicy",
            json!([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]),
            "has not failurePolicy Fail",
        ),
        (
            "caBundle",
            json!([{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": null}]),
            "names no CA",
        ),
    ];
    for (what, steps, expected) in edits {
        admin(cluster).ok(&["patch", kind, "breakglass", "--type=json", "-p", &steps.to_string()]);
        let problems = problems(cluster);
        let found = problems.iter().filter(|one| one["check"] == "registration");
        let said: Vec<&str> = found.filter_map(|one| one["message"].as_str()).collect();
        assert!(said.iter().any(|said| said.contains(expected)), "{what}: {said:#?}");
    }
    admin(cluster).ok(&["delete", kind, "breakglass"]);
    let said: Vec<Value> = problems(cluster).into_iter().map(|one| one["message"].clone()).collect();
    let gone = "there is no validatingwebhookconfiguration breakglass: nothing is refused and nothing is recorded";
    assert!(said.contains(&json!(gone)), "{said:#?}");
    // A certificate of somebody else's.
    let secret = ["-n", "breakglass-system", "get", "secret", "breakglass-webhook-tls"];
    let ca = admin(cluster).json(&secret)["data"]["ca.crt"].clone();
    let steps = json!([{"op": "replace", "path": "/data/tls.crt", "value": ca}]).to_string();
    admin(cluster).ok(&[
        "-n",
        "breakglass-system",
        "patch",
        "secret",
        "breakglass-webhook-tls",
        "--type=json",
        "-p",
        &steps,
    ]);
    let problems = problems(cluster);
    let is_name = |one: &&Value| one["message"].as_str().is_some_and(|said| said.starts_with("the leaf is not for "));
    let found = problems.iter().find(is_name).unwrap_or_else(|| panic!("{problems:#?}"));
    let hint = found["hints"][1].as_str().unwrap();
    mend(cluster, hint.strip_prefix("if no replica runs: ").unwrap());
    scale("2");
    wait_well(cluster, "the webhook is back");
}
