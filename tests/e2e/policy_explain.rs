//! `kubectl breakglass policy explain` says what the webhook then does, and `policy check` what it would not put in force.

use serde_json::{Value, json};
use tests::{Cluster, Output};

const FLUX: &str = "system:serviceaccount:flux-system:kustomize-controller";

/// What is said, by somebody, about a write in a namespace.
#[track_caller]
fn explain(cluster: &Cluster, who: &str, args: &[&str]) -> (i32, Value) {
    let ran = cluster.plugin(who).run(&[&["policy", "explain", "-o", "json"], args].concat());
    let said = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran}"));
    (ran.status, said)
}

#[test]
fn what_is_explained_is_what_happens() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-explain");
    cluster.namespace("explained");
    cluster.set_scene(&["-n", "prod-explain", "create", "configmap", "settings"], "");
    cluster.set_scene(&["label", "namespace", "explained", "breakglass.dev/environment=prod"], "");
    cluster.set_scene(&["-n", "explained", "create", "configmap", "settings"], "");
    let alice = |namespace: &str, args: &[&str]| cluster.kubectl("alice").namespace(namespace).run(args);
    let asks = |said: &Value| -> Vec<String> {
        said["asks"].as_array().unwrap().iter().map(|ask| ask["webhook"].as_str().unwrap().to_owned()).collect()
    };

    // Refused, in the words in which it is refused.
    for (namespace, gate) in [("prod-explain", "gate.breakglass.dev"), ("explained", "label-gate.breakglass.dev")] {
        let (code, said) = explain(cluster, "alice", &["-n", namespace, "label", "cm/settings"]);
        let refused = alice(namespace, &["label", "configmap", "settings", "a=b"]);
        assert_eq!((code, said["decision"].as_str()), (3, Some("Refuse")), "{said:#}");
        assert_eq!(said["message"].as_str(), Some(refused.refusal()));
        assert_eq!(asks(&said), ["stamp.breakglass.dev", gate]);
        assert_eq!(said["whileDown"], format!("refused, with a token or without: {gate} fails closed"));
    }
    let (_, said) = explain(cluster, "alice", &["-n", "explained", "label", "cm/settings"]);
    let because = said["environmentBecause"].as_str().unwrap();
    assert!(because.starts_with("the namespace has the label breakglass.dev/environment=prod"), "{because}");

    // Of somebody else, by who may only look; nobody is impersonated.
    let (code, said) =
        explain(cluster, "carol", &["-n", "prod-explain", "--as", "alice@example.com", "delete", "cm", "settings"]);
    assert_eq!((code, &said["decision"], &said["writer"]), (3, &json!("Refuse"), &json!("Direct")), "{said:#}");
    assert!(said["message"].as_str().unwrap().contains("by alice@example.com needs a break-glass token"), "{said:#}");

    // An engine by its name alone, and with its proof.
    let apply = ["-n", "prod-explain", "--as", FLUX, "apply", "configmap/settings"];
    let (code, said) = explain(cluster, "carol", &apply);
    assert_eq!((code, &said["writer"]), (3, &json!("Direct")), "{said:#}");
    assert!(said["writerBecause"].as_str().unwrap().contains("a name alone proves nothing"), "{said:#}");
    for proof in [&["--proven"][..], &["--as-uid", "7", "--as-user-extra", "authentication.kubernetes.io/pod-name=x"]] {
        let (code, said) = explain(cluster, "carol", &[&apply, proof].concat());
        assert_eq!((code, &said["writer"], &said["decision"]), (0, &json!("Engine"), &json!("Pass")), "{said:#}");
        assert!(asks(&said).is_empty(), "{said:#}");
    }

    // With a token, and without the one that is for another place.
    cluster.plugin("alice").ok(&["open", "INC-801", "-n", "prod-explain", "--reason", "x", "--yes"]);
    let (code, said) = explain(cluster, "alice", &["-n", "prod-explain", "patch", "cm/settings"]);
    assert_eq!((code, &said["decision"]), (0, &json!("Admit")), "{said:#}");
    assert_eq!(said["tokens"][0]["letsIn"], true, "{said:#}");
    let let_in = alice("prod-explain", &["label", "configmap", "settings", "a=b"]);
    assert_eq!(let_in.status, 0, "{let_in}");
    let (code, said) = explain(cluster, "alice", &["-n", "explained", "patch", "cm/settings"]);
    assert_eq!((code, &said["tokens"][0]["because"]), (3, &json!("covers only prod-explain")), "{said:#}");
    cluster.plugin("alice").ok(&["close", "INC-801"]);

    // Where no token is needed, and for people.
    let ran = cluster.plugin("alice").run(&["policy", "explain", "-n", "dev", "exec", "deploy/api"]);
    assert_eq!(ran.status, 0, "{ran}");
    for line in [
        "decision:     let in: dev asks for no token, and a write like this can carry no stamp",
        "asks:         nobody: the API server knows by itself that no webhook has to be asked",
        "while down:   the same: the API server does not ask the webhook about this",
    ] {
        assert!(ran.stdout.lines().any(|found| found == line), "{line}: {ran}");
    }
}

#[test]
fn a_draft_is_asked_before_it_is_applied() {
    let cluster = Cluster::shared();
    let plugin = cluster.plugin("alice");
    let check = |draft: &Value| plugin.run_with_input(&["policy", "check", "-"], &draft.to_string());
    let status = |output: &Output| output.status;
    let draft = |prod: &str| {
        json!({"environments": [
            {"name": "platform", "namespaces": ["breakglass-system", "flux-system", "argocd"], "writes": "RequireToken"},
            {"name": "prod", "namespaces": ["dev"], "writes": prod}]})
    };
    let sound = check(&draft("RequireToken"));
    assert_eq!((status(&sound), sound.stdout.as_str(), sound.stderr.as_str()), (0, "", "Nothing is wrong with it.\n"));
    let doubtful = check(&draft("Stamp"));
    assert_eq!(status(&doubtful), 3, "{doubtful}");
    let line =
        "warning   spec.environments[1].writes   prod needs no token: anybody who may write to it writes to it\n";
    assert_eq!(doubtful.stdout, line);
    let wrong = check(&draft("Token"));
    assert_eq!(status(&wrong), 1, "{wrong}");
    let line = "error   spec.environments[1].writes   \"Token\" is none of the words RequireToken, Stamp, Ignore\n";
    assert_eq!(wrong.stdout, line);
    let missing = plugin.run(&["policy", "check", "no-such-file"]);
    assert_eq!(missing.status, 1, "{missing}");

    let asked = plugin.run_with_input(
        &["policy", "explain", "-n", "dev", "create", "cm/x", "--policy", "-"],
        &draft("RequireToken").to_string(),
    );
    assert_eq!(asked.status, 3, "{asked}");
    assert!(asked.stdout.contains("prod is run by GitOps: configmaps \"x\" (create) by alice@example.com"), "{asked}");
    let unsound = plugin.run_with_input(
        &["policy", "explain", "-n", "dev", "create", "cm/x", "--policy", "-"],
        &draft("Token").to_string(),
    );
    assert_eq!(unsound.status, 1, "{unsound}");
    assert!(unsound.stderr.contains("hint: kubectl breakglass policy check -"), "{unsound}");
}
