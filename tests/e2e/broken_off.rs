//! A command that is killed anywhere is typed again, and comes to the same end: nothing is lost, and nothing is done twice.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::Arc;

use serde_json::{Value, json};
use tests::fault::{Fault, Faults, Moment, Run};
use tests::git::{URL, git};
use tests::record::{config_map, without_noise};
use tests::{Cluster, Together, wait_until};

use crate::gate_approval::active;
use crate::{LIMIT, gate_token};

/// Where what is rejected was done.
const NAMESPACE: &str = "prod-broken-off";

/// A cluster of their own: what a given cluster follows is not ours to push to.
fn cluster() -> Arc<Cluster> {
    static CLUSTER: Together = Together::new(|| Cluster::own("broken-off"));
    CLUSTER.get()
}

/// Has a round for every point at which a command can be killed, after one in which it is not: `round` does something that the
/// command then sees to. Gives the steps that there are.
fn each_fault(mut round: impl FnMut(usize, Option<&Fault>) -> Run) -> Vec<String> {
    let whole = round(0, None);
    for (number, fault) in whole.faults().iter().enumerate() {
        round(number + 1, Some(fault));
    }
    whole.steps
}

/// Runs the command, and again where it was killed, after what happens `meanwhile`. A verdict that was given by then is the one
/// that stands.
fn run(
    cluster: &Cluster,
    faults: &Faults,
    (args, changes): (&[&str], &[Value]),
    (fault, meanwhile): (Option<&Fault>, impl FnOnce(&Run)),
) -> Run {
    let first = faults.run(args, fault);
    assert_eq!(first.was_killed(), fault.is_some(), "{first}");
    if fault.is_none() {
        assert_eq!(first.output.status, 0, "{first}");
        return first;
    }
    let given = verdicts(cluster, changes);
    meanwhile(&first);
    let again = faults.run(args, None);
    // What was all done may be settled by now.
    let is_settled = ["owes nothing", "is settled already (PutBack): there is nothing left to do"]
        .iter()
        .any(|words| again.output.stderr.contains(words));
    assert!(again.output.status == 0 || is_settled, "{again}");
    for (given, stands) in given.iter().zip(verdicts(cluster, changes)) {
        assert!(given["verdict"].is_null() || *given == stands, "{given} {stands}");
    }
    first
}

/// What people have decided about these changes, and when.
fn verdicts(cluster: &Cluster, changes: &[Value]) -> Vec<Value> {
    let said = |change: &Value| {
        let status = &cluster.change(name(change))["status"];
        json!({"verdict": status["verdict"], "by": status["by"], "at": status["at"], "note": status["note"],
            "git": status["git"]})
    };
    changes.iter().map(said).collect()
}

fn name(change: &Value) -> &str {
    change["metadata"]["name"].as_str().unwrap()
}

#[test]
fn an_accept_that_is_killed_anywhere_ends_in_one_commit() {
    let cluster = cluster();
    cluster.set_api("till");
    let held = cluster.suspend_flux();
    // She is in the middle of something else.
    fs::write(cluster.flux().fleet.clone.join("prod/till.yaml"), "unsaved").unwrap();
    let faults = Faults::new(&cluster, "alice").unwrap();
    let mut round = |number, fault: Option<&Fault>| accept(&cluster, &faults, number, fault);
    let steps = each_fault(&mut round);
    let expected = [
        "git fetch",
        "git worktree add",
        "git add",
        "git commit",
        "git update-ref",
        "git push",
        "git worktree remove",
        "PATCH breakglasschanges/status",
        "PATCH breakglasschanges/status",
    ];
    assert_eq!(steps, expected);
    // While it proves what it has edited, in a copy of the files.
    let proof = Fault { moment: Moment::Before, count: 1, step: "kubectl kustomize".to_owned() };
    round(2 * steps.len() + 1, Some(&proof));
    drop(held);
}

/// Changes an image and a number of replicas, and has both accepted by a command that is killed on its way.
fn accept(cluster: &Cluster, faults: &Faults, number: usize, fault: Option<&Fault>) -> Run {
    let fleet = &cluster.flux().fleet;
    let incident = format!("INC-{}", 7100 + number);
    let (image, replicas) = (format!("registry.example.com/api:1.1.{number}"), 3 + number % 2);
    let token = cluster.open("alice", &incident, "prod");
    let alice = cluster.kubectl("alice").namespace("prod");
    alice.ok(&["set", "image", "deployment/till", &format!("api={image}")]);
    alice.ok(&["scale", "deployment/till", &format!("--replicas={replicas}")]);
    cluster.plugin("alice").ok(&["close", &token]);
    let changes = cluster.wait_for_changes(&incident, ("Pending", 2), LIMIT);
    let main = || git(&fleet.bare, &["rev-parse", "main"]).unwrap();
    let (own, old, clone) = (fleet.persons_own(), main(), fleet.clone.to_string_lossy());
    let args = ["accept", "--incident", &incident, "--push", "--note", "the load stays", "--repo", &clone];
    let first = run(cluster, faults, (&args, &changes), (fault, |_: &Run| {}));

    // One commit, in all places, and it says what the cluster says.
    let (commit, branch) = (main(), format!("breakglass/{incident}"));
    assert_eq!(git(&fleet.bare, &["rev-list", "--count", &format!("{old}..main")]).unwrap(), "1", "{first}");
    assert_eq!(git(&fleet.bare, &["rev-parse", &branch]).unwrap(), commit);
    assert_eq!(fleet.git(&["rev-parse", &branch]).unwrap(), commit);
    let text = git(&fleet.bare, &["show", "main:prod/till.yaml"]).unwrap();
    let says = |words: &str| assert!(text.contains(words), "{first}\n{text}");
    says(&format!("  replicas: {replicas}   # enough for a Sunday\n"));
    says(&format!("        image: \"{image}\"  # {{\"$imagepolicy\": \"flux-system:api\"}}"));
    let trailers = git(&fleet.bare, &["log", "-1", "--format=%(trailers:only)", "main"]).unwrap();
    for change in &changes {
        assert_eq!(trailers.matches(&format!("Breakglass-Change: {}\n", name(change))).count(), 1, "{trailers}");
    }
    assert_eq!(trailers.matches(&format!("Breakglass-Incident: {incident}\n")).count(), 1, "{trailers}");

    // One verdict on each change, with that commit.
    let place = json!({"repository": URL, "branch": branch, "commit": commit, "path": "prod/till.yaml"});
    for verdict in verdicts(cluster, &changes) {
        let told = (&verdict["verdict"], &verdict["by"], &verdict["note"], &verdict["git"]);
        let expected = (&json!("Accepted"), &json!("alice@example.com"), &json!("the load stays"), &place);
        assert_eq!(told, expected, "{first}");
    }

    // What is hers is as it was, and nothing is left.
    assert_eq!(fleet.persons_own(), own, "{first}");
    assert_eq!(fleet.git(&["worktree", "list"]).unwrap().lines().count(), 1, "{first}");
    assert_eq!((fleet.locks().unwrap(), faults.left()), (Vec::new(), Vec::new()), "{first}");
    first
}

#[test]
fn a_reject_that_is_killed_anywhere_puts_everything_back_once() {
    let cluster = cluster();
    cluster.namespace(NAMESPACE);
    let faults = Faults::new(&cluster, "bob").unwrap();
    let mut steps = each_fault(|number, fault| reject(&cluster, &faults, number, fault));
    // What was done in one second is put back in any order.
    steps[4..7].sort();
    let verdict = "PATCH breakglasschanges/status";
    let writes = ["DELETE configmaps", "POST configmaps", "PUT configmaps"];
    let (open, close) = ("POST breakglasstokens", "PATCH breakglasstokens/status");
    assert_eq!(steps, [&[verdict, verdict, verdict, open], &writes[..], &[close]].concat());
}

/// Changes an object, makes one and deletes one, and has all of it rejected by a command that is killed on its way.
fn reject(cluster: &Cluster, faults: &Faults, number: usize, fault: Option<&Fault>) -> Run {
    let incident = format!("INC-{}", 7200 + number);
    let [settings, made, lost] = ["settings", "made", "lost"].map(|name| format!("{name}-{number}"));
    let alice = cluster.kubectl("alice").namespace(NAMESPACE);
    let there = format!("{}\n---\n{}", config_map(&settings, "one"), config_map(&lost, "one"));
    cluster.set_scene(&["-n", NAMESPACE, "create", "-f", "-"], &there);
    let plain = |name: &str| without_noise(&alice.json(&["get", "configmap", name]));
    let before = [&settings, &lost].map(|name| plain(name));
    let token = cluster.open("alice", &incident, NAMESPACE);
    alice.ok(&["patch", "configmap", &settings, "-p", r#"{"data": {"key": "two", "added": "x"}}"#]);
    alice.ok_with_input(&["create", "-f", "-"], &config_map(&made, "one"));
    alice.ok(&["delete", "configmap", &lost]);
    cluster.plugin("alice").ok(&["close", &token]);
    let changes = cluster.wait_for_changes(&incident, ("Pending", 3), LIMIT);
    // At once, and by the incident; or by their names, when what was put back by then is settled.
    let at_once = fault.is_none_or(|fault| fault.moment == Moment::Before);
    let which = if at_once { vec!["--incident", &incident] } else { changes.iter().map(name).collect() };
    let args = [&["reject", "--reason", "it did not help"], &which[..]].concat();
    let meanwhile = |first: &Run| {
        if !at_once {
            wait_for_settled(cluster, &incident, first);
        }
    };
    let first = run(cluster, faults, (&args, &changes), (fault, meanwhile));

    // Each was put back by one write, which is settled with it: nobody decides about that one.
    let settled = cluster.wait_for_changes(&incident, ("Settled", 6), LIMIT);
    assert!(settled.iter().all(|change| change["status"]["outcome"] == "PutBack"), "{first}\n{settled:#?}");
    let (of_bob, of_alice): (Vec<&Value>, Vec<&Value>) =
        settled.iter().partition(|change| change["spec"]["user"] == "bob@example.com");
    assert!(
        of_bob.len() == 3 && of_bob.iter().all(|change| change["status"]["verdict"].is_null()),
        "{first}\n{of_bob:#?}"
    );
    for status in of_alice.iter().map(|change| &change["status"]) {
        let told = (&status["verdict"], &status["by"], &status["note"]);
        let expected = (&json!("Rejected"), &json!("bob@example.com"), &json!("it did not help"));
        assert_eq!(told, expected, "{first}");
    }

    // All is as it was, the stamp is gone, and so is the one token that it took.
    wait_until("both objects to be as they were", LIMIT, || {
        let now = [&settings, &lost].map(|name| plain(name));
        if now == before { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{first}"));
    assert!(cluster.find(&format!("/api/v1/namespaces/{NAMESPACE}/configmaps/{made}")).is_none(), "{first}");
    let opened = tokens_of_bob(cluster, &incident);
    let phases: Vec<&Value> = opened.iter().map(|token| &token["status"]["phase"]).collect();
    assert_eq!(phases, ["Closed"], "{first}");
    assert_eq!(faults.left(), Vec::<String>::new(), "{first}");
    first
}

/// Waits until what a run has put back is settled, and with it the writes that did so.
fn wait_for_settled(cluster: &Cluster, incident: &str, run: &Run) {
    let written = run.steps.iter().filter(|step| step.ends_with(" configmaps")).count();
    wait_until("what was put back to be settled", LIMIT, || {
        let changes = cluster.changes(incident);
        let settled = changes.iter().filter(|change| change["status"]["phase"] == "Settled").count();
        if settled == 2 * written { Ok(()) } else { Err(format!("{settled} of {written} twice: {changes:#?}")) }
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{run}"));
}

#[test]
fn a_reject_that_is_killed_while_it_waits_for_approval_asks_for_it_once() {
    let cluster = gate_token::cluster();
    let (incident, namespace) = ("INC-7300", "guarded-off");
    cluster.namespace(namespace);
    let approve = |token: &str| gate_token::set_status(&cluster, token, &active("carol@example.com"));
    cluster.set_scene(&["-n", namespace, "create", "-f", "-"], &config_map("settings", "one"));
    approve(&cluster.open("alice", incident, namespace));
    let alice = cluster.kubectl("alice").namespace(namespace);
    alice.ok(&["patch", "configmap", "settings", "-p", r#"{"data": {"key": "two"}}"#]);
    cluster.wait_for_changes(incident, ("Pending", 1), LIMIT);

    let args = ["reject", "--incident", incident];
    let asked = Fault { moment: Moment::After, count: 1, step: "POST breakglasstokens".to_owned() };
    let first = Faults::new(&cluster, "bob").unwrap().run(&args, Some(&asked));
    assert!(first.was_killed(), "{first}");
    let mut again = cluster.plugin("bob").command(&args);
    let mut again = again.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(again.stderr.take().unwrap()).lines();
    assert!(told.any(|line| line.unwrap() == "Waiting for approval."));
    let [token] = &tokens_of_bob(&cluster, incident)[..] else { panic!("he has asked twice") };
    approve(name(token));
    let rest: Vec<String> = told.map(Result::unwrap).collect();
    assert!(again.wait().unwrap().success(), "{rest:#?}");
    cluster.wait_for_changes(incident, ("Settled", 2), LIMIT);
    let opened = tokens_of_bob(&cluster, incident);
    assert!(opened.len() == 1 && opened[0]["status"]["phase"] == "Closed", "{opened:#?}");
    assert_eq!(alice.json(&["get", "configmap", "settings"])["data"]["key"], "one");
}

/// The tokens that were opened to put back what was done in an incident.
fn tokens_of_bob(cluster: &Cluster, incident: &str) -> Vec<Value> {
    let all = cluster.read("/apis/breakglass.dev/v1alpha1/breakglasstokens");
    let is_his = |token: &&Value| {
        let spec = &token["spec"];
        spec["incident"] == incident && spec["user"] == "bob@example.com"
    };
    all["items"].as_array().unwrap().iter().filter(is_his).cloned().collect()
}
