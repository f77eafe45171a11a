//! The plugin as people and scripts use it: what it prints where, and the codes it ends with.

use serde_json::{Value, json};
use tests::record::{after, without_noise};
use tests::{Cluster, Kubectl, Output};

/// Holds the whole answer: exit code, data, talk.
#[track_caller]
fn check(output: &Output, status: i32, stdout: &str, stderr: &str) {
    let expected = Output { status, stdout: stdout.to_owned(), stderr: stderr.to_owned() };
    assert_eq!(*output, expected, "\n{output}\nand not\n{expected}");
}

/// Replaces the ends of names, which are random.
fn scrub(text: &str, incident: &str) -> String {
    let start = format!("{}-", incident.to_lowercase());
    let mut parts = text.split(&start);
    let mut scrubbed = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_alphanumeric());
        scrubbed += &format!("{start}…{rest}");
    }
    scrubbed
}

#[test]
fn run_opens_runs_and_closes() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-run");
    cluster.set_scene(&["-n", "prod-run", "create", "configmap", "a", "--from-literal=key=value"], "");
    let object = cluster.kubectl("alice").json(&["-n", "prod-run", "get", "configmap", "a"]);

    let command = ["run", "INC-7", "--reason", "x", "--", "kubectl", "-n", "prod-run", "delete", "configmap", "a"];
    let ran = cluster.plugin("alice").run(&command);
    assert_eq!(ran.status, 0, "{ran}");
    assert_eq!(ran.stdout, "configmap \"a\" deleted from prod-run namespace\n");
    let talk: Vec<String> = ran.stderr.lines().map(|line| scrub(line, "INC-7")).collect();
    assert_eq!(talk[0], "INC-7: alice@example.com opened inc-7-… for prod (namespace prod-run).");
    assert!(
        talk[1].starts_with("Warning: INC-7: let in under inc-7-… (60m left), recorded as inc-7-…. To be decided by ")
    );
    assert_eq!(
        talk[2..],
        ["inc-7-… closed.", "INC-7: 1 change is still owed. See it:", "  kubectl breakglass list --incident INC-7"]
    );

    let [change] = &cluster.changes("INC-7")[..] else { panic!("one delete is one change") };
    assert_eq!(change["spec"]["before"], without_noise(&object));
    assert_eq!((&change["spec"]["operation"], after(change)), (&json!("Delete"), Value::Null));
    let token = change["spec"]["token"].as_str().unwrap();
    let status = cluster.kubectl("admin").json(&["get", "breakglasstoken", token])["status"].clone();
    assert_eq!((&status["phase"], &status["closedBy"]), (&json!("Closed"), &json!("alice@example.com")));
}

#[test]
fn run_ends_with_the_code_of_its_command_and_closes_all_the_same() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-run-fails");
    for (number, command, code) in [
        ("1", &["sh", "-c", "exit 7"][..], 7),
        ("2", &["sh", "-c", "kill -s TERM $$"], 143),
        ("3", &["no-such-command"], 127),
        ("4", &["kubectl", "-n", "prod-run-fails", "delete", "configmap", "missing"], 1),
        ("5", &["sh", "-c", "test \"$BREAKGLASS_TOKEN\" && exit 0"], 0),
    ] {
        let incident = format!("INC-140-{number}");
        let start = ["run", &incident, "--reason", "x", "-n", "prod-run-fails", "--"];
        let ran = cluster.plugin("alice").run(&[&start, command].concat());
        assert_eq!(ran.status, code, "{ran}");
        let talk = scrub(&ran.stderr, &incident);
        let end = format!("{}-… closed.\n{incident}: nothing is owed.\n", incident.to_lowercase());
        assert!(talk.ends_with(&end), "{talk}");
        let selector = format!("spec.incident={incident}");
        let tokens = cluster.kubectl("admin").json(&["get", "breakglasstokens", "--field-selector", &selector]);
        assert_eq!(tokens["items"][0]["status"]["phase"], "Closed", "{incident}");
    }
}

#[test]
fn what_cannot_work_is_said_before_anything_is_opened() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-usage");
    let alice = cluster.plugin("alice");
    let open = |args: &[&str]| alice.run(&[&["open"], args].concat());
    let ns = ["-n", "prod-usage", "--reason", "r"];
    let with = |args: &[&'static str]| [args, &ns].concat();
    check(
        &open(&with(&["nonsense"])),
        2,
        "",
        "error: \"nonsense\" is not the id of an incident here: the policy asks for \
         ^(INC|INCIDENT|SEV[0-9]|P[0-9])-[A-Za-z0-9-]+$\n\
         hint: kubectl breakglass open INC-123 -n prod-usage --reason \"…\"\n",
    );
    check(
        &open(&["INC-141", "-n", "prod-usage"]),
        2,
        "",
        "error: the following required arguments were not provided:\n  \
         --reason <REASON>\n\n\
         Usage: kubectl breakglass open INCIDENT --reason R [-n NS]... [OPTIONS]\n\n\
         For more information, try '--help'.\n\
         hint: kubectl breakglass open INC-123 -n prod --reason \"checkout returns 500\"\n",
    );
    check(
        &open(&["INC-141", "-n", "prod-usage", "--reason", " "]),
        2,
        "",
        "error: the reason is blank: it is what the review will read\n\
         hint: kubectl breakglass open INC-141 -n prod-usage --reason \"…\"\n",
    );
    for (ttl, why) in [
        ("0", "that is no time at all: give at least 1s"),
        ("-1h", "a token cannot end before it begins: write it as 30m, 1h30m or 2d"),
    ] {
        let error =
            format!("error: invalid value '{ttl}' for '--ttl <TIME>': {why}\n\nFor more information, try '--help'.\n");
        check(&open(&[&["INC-141", "--ttl", ttl], &ns[..]].concat()), 2, "", &error);
    }
    check(
        &open(&with(&["INC-141", "--ttl", "9999h"])),
        2,
        "",
        "error: 416d15h is too long: a token for prod lives at most 4h\n\
         hint: kubectl breakglass open INC-141 -n prod-usage --ttl 4h --reason \"r\"\n",
    );
    check(
        &open(&["INC-141", "--environment", "nowhere", "--reason", "r"]),
        2,
        "",
        "error: there is no environment \"nowhere\"; the policy knows prod, staging, platform, dev\n\
         hint: kubectl breakglass policy show\n",
    );
    check(
        &open(&["INC-141", "-n", "no-such-namespace", "--reason", "r"]),
        1,
        "",
        "error: there is no namespace \"no-such-namespace\" in this cluster\nhint: kubectl get namespaces\n",
    );
    check(
        &open(&["INC-141", "-n", "dev", "--reason", "r"]),
        1,
        "",
        "error: writes to dev need no token: they are let in and stamped\n\
         hint: kubectl breakglass list --state noted\n",
    );
    check(
        &open(&["INC-141", "-n", "prod-usage", "-n", "staging", "--reason", "r"]),
        2,
        "",
        "error: a token is for one environment, and prod-usage belongs to prod, staging to staging: open one for each\n",
    );
    let none = ["get", "breakglasstokens", "--field-selector", "spec.incident=INC-141", "-o", "name"];
    assert_eq!(cluster.kubectl("admin").ok(&none), "");

    let nowhere = alice.clone().env("KUBECONFIG", "/nowhere").run(&["status"]);
    check(
        &nowhere,
        1,
        "",
        "error: there is no kubeconfig: neither $KUBECONFIG nor ~/.kube/config names a cluster\n\
         hint: export KUBECONFIG=<file>\nhint: kubectl config get-contexts\n",
    );
    // Port 1 of this machine, where nobody listens.
    let unreachable = alice.run(&["status", "--server", "https://127.0.0.1:1"]);
    assert_eq!(unreachable.status, 1, "{unreachable}");
    let start = "error: the cluster at https://127.0.0.1:1 could not be reached while asking who you are: ";
    assert!(unreachable.stderr.starts_with(start), "{unreachable}");
    assert!(unreachable.stderr.ends_with("\nhint: kubectl cluster-info\n"), "{unreachable}");
}

#[test]
fn what_is_missing_in_the_cluster_is_named() {
    let cluster = Cluster::bare("missing");
    let alice = cluster.plugin("alice");
    let open = ["open", "INC-1", "-n", "prod", "--reason", "r"];
    let not_installed = "error: breakglass is not installed in this cluster: its kinds are unknown here\n\
        hint: kubectl breakglass install\n";
    for args in [&["list"][..], &["status"], &["close", "INC-1"]] {
        check(&alice.run(args), 1, "", not_installed);
    }
    let opened = alice.run(&open);
    assert_eq!((opened.status, opened.stdout.as_str()), (1, ""), "{opened}");
    assert!(opened.stderr.ends_with(not_installed), "{opened}");

    // The kinds and the roles, and no webhook.
    let folder = |path: &str| format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"));
    let folders = ["manifests/crds", "manifests/roles", "tests/local/people.yaml"].map(folder);
    let [crds, roles, people] = folders.each_ref().map(String::as_str);
    let admin = cluster.kubectl("admin");
    for what in [["-k", crds], ["-k", roles], ["-f", people]] {
        admin.ok(&[&["apply", "--server-side"], &what[..]].concat());
    }
    admin.ok(&["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"]);
    tests::users::wait_until_may(&cluster.kubectl("alice"), ["create", "breakglasstokens.breakglass.dev"], "prod")
        .unwrap();
    check(
        &alice.run(&open),
        1,
        "",
        "error: nobody filled in the token's user and times: the breakglass webhook is not installed, or was not asked\n\
         hint: kubectl -n breakglass-system get pods\n\
         hint: kubectl get mutatingwebhookconfigurations breakglass\n\
         hint: a cluster admin can write past the webhook, with: kubectl --as <you> --as-group system:masters --as-group \
         breakglass.dev:override …\n",
    );
}

#[test]
fn list_says_what_is_owed_as_a_table_as_names_as_a_number_and_as_a_code() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-list");
    let alice = cluster.plugin("alice");
    let list = |args: &[&str]| alice.run(&[&["list", "--incident", "INC-142"], args].concat());
    // alice may list in her own namespaces alone, which is said each time on stderr.
    let check = |args: &[&str], status: i32, stdout: &str| {
        let listed = list(args);
        assert_eq!((listed.status, listed.stdout.as_str()), (status, stdout), "{args:?}: {listed}");
    };
    check(&[], 0, "");
    let talk = list(&[]).stderr;
    assert!(talk.starts_with("Nothing like that is on the list.\nnote: "), "{talk}");
    check(&["--count", "--exit-code"], 0, "0\n");

    let token = cluster.open("alice", "INC-142", "prod-list");
    cluster.kubectl("alice").ok(&["-n", "prod-list", "create", "configmap", "settings"]);
    let change = cluster.changes("INC-142").remove(0);
    let name = change["metadata"]["name"].as_str().unwrap();
    let table = list(&[]).stdout;
    let cells: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(cells[0], ["INCIDENT", "NAMESPACE", "OBJECT", "OPERATION", "USER", "STATE", "AGE", "DUE"]);
    assert_eq!(cells[1][..6], ["INC-142", "prod-list", "configmap/settings", "Create", "alice@example.com", "pending"]);
    let wide = list(&["-o", "wide"]).stdout;
    assert!(wide.contains(&token) && wide.contains(name) && wide.contains("kubectl-create"), "{wide}");
    check(&["-o", "name"], 0, &format!("breakglasschange.breakglass.dev/{name}\n"));
    check(&["--count"], 0, "1\n");
    check(&["--count", "--exit-code"], 3, "1\n");
    check(&["--state", "settled", "--exit-code"], 0, "");
    check(&["-n", "prod-usage", "--count"], 0, "0\n");

    // As kubectl's plugin, and for somebody who reads from a program.
    let as_plugin = cluster.kubectl("alice").run(&["breakglass", "list", "--incident", "INC-142", "-o", "yaml"]);
    assert_eq!(as_plugin.status, 0, "{as_plugin}");
    assert!(as_plugin.stdout.starts_with("apiVersion: v1\n"), "{as_plugin}");

    let status = alice.json(&["status"]);
    let held: Vec<&str> =
        status["tokens"].as_array().unwrap().iter().filter_map(|t| t["metadata"]["name"].as_str()).collect();
    assert!(held.contains(&token.as_str()), "{held:?}");
    assert!(status["debt"]["changes"].as_u64().unwrap() >= 1, "{status}");
    let status = alice.ok(&["status"]);
    assert!(status.starts_with("You are alice@example.com in context alice.\n"), "{status}");
    let line = status.lines().find(|line| line.starts_with(&token)).unwrap();
    assert!(line.contains("prod (namespace prod-list)") && line.ends_with("a test"), "{line}");
    assert!(status.lines().last().unwrap().starts_with("You owe "), "{status}");
}

#[test]
fn the_policy_that_is_shown_can_be_applied() {
    let cluster = Cluster::shared();
    let shown = cluster.plugin("alice").run(&["policy", "show"]);
    assert_eq!(shown.status, 0, "{shown}");
    let talk = "# Built in: there is no object breakglasspolicy/default. Apply this to make one.\n";
    assert_eq!(shown.stderr, talk);
    let made = cluster.kubectl("admin").run_with_input(&["apply", "--dry-run=server", "-f", "-"], &shown.stdout);
    assert_eq!(made.stdout, "breakglasspolicy.breakglass.dev/default created (server dry run)\n", "{made}");
}

#[test]
fn version_and_completion_are_for_scripts() {
    let cluster = Cluster::shared();
    let alice = cluster.plugin("alice");
    let version = format!("v{}", env!("CARGO_PKG_VERSION"));
    check(&alice.run(&["version"]), 0, &format!("Client Version: {version}\nWebhook Version: {version}\n"), "");
    assert_eq!(alice.json(&["version"]), json!({"clientVersion": version, "webhookVersion": version}));
    check(&alice.run(&["version", "--client"]), 0, &format!("Client Version: {version}\n"), "");

    let script = alice.ok(&["completion", "bash"]);
    let bash = alice.clone().program("/bin/bash".as_ref());
    bash.ok_with_input(&["-n"], &script);
}

#[test]
fn the_shell_is_offered_commands_namespaces_and_open_tokens() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-complete");
    let token = cluster.open("alice", "INC-143", "prod-complete");
    // As the completion script of kubectl asks, which runs kubectl_complete-breakglass.
    let kubectl: Kubectl = cluster.kubectl("alice");
    let offered = |words: &[&str]| -> Vec<String> {
        let answer = kubectl.run(&[&["__complete", "breakglass"], words].concat());
        assert_eq!(answer.status, 0, "{answer}");
        assert!(answer.stdout.ends_with("\n:4\n"), "{answer}");
        answer.stdout.lines().filter(|line| !line.starts_with(':')).map(str::to_owned).collect()
    };
    let commands = offered(&[""]);
    let names: Vec<&str> = commands.iter().filter_map(|line| line.split('\t').next()).collect();
    for name in ["open", "run", "status", "list", "close", "policy", "version", "completion"] {
        assert!(names.contains(&name), "{commands:?}");
    }
    assert_eq!(offered(&["op"]), ["open\tOpen a token: you may write to an environment, for one incident"]);
    assert_eq!(offered(&["open", "INC-1", "-n", "prod-compl"]), ["prod-complete"]);
    assert_eq!(offered(&["close", "inc-143-"]), [format!("{token}\talice, 60m left").replace("60m", "1h0m")]);
    let environments = offered(&["open", "INC-1", "--environment", "sta"]);
    assert!(environments[0].starts_with("staging\t"), "{environments:?}");
}

#[test]
fn every_help_fits_the_terminal_of_old() {
    let plugin = |args: &[&str]| {
        let out = std::process::Command::new(env!("CARGO_BIN_EXE_e2e-kubectl-breakglass")).args(args).output().unwrap();
        assert!(out.status.success(), "{args:?}");
        String::from_utf8(out.stdout).unwrap()
    };
    let mut left: Vec<Vec<String>> = vec![Vec::new()];
    let mut seen = 0;
    while let Some(command) = left.pop() {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        for flag in ["-h", "--help"] {
            let help = plugin(&[&words[..], &[flag]].concat());
            for line in help.lines() {
                assert!(line.chars().count() <= 80, "{words:?} {flag}: {line}");
            }
            let (_, commands) = help.split_once("\nCommands:\n").unwrap_or_default();
            if flag == "-h" {
                let names = commands.lines().take_while(|line| !line.is_empty());
                let names = names.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
                left.extend(
                    names
                        .filter_map(|line| line.split_whitespace().next())
                        .map(|name| command.iter().cloned().chain([name.to_owned()]).collect()),
                );
            }
        }
        seen += 1;
    }
    assert!(seen >= 10, "the root, eight commands and policy show; seen {seen}");
}
