//! A hold is a person's to want and to end; and what the leader cannot see from the cluster is settled by rendering what Git says.

use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tests::git::{URL, git};
use tests::record::{change_of, stamp};
use tests::{Cluster, Output, Together, wait_until};

use crate::LIMIT;

/// What is in Git is believed after one of Flux' intervals, which is ten seconds here.
const SETTLED_WITHIN: Duration = Duration::from_secs(90);

const HELD: &str = "kustomize.toolkit.fluxcd.io/reconcile";

const HOTFIX: &str = "registry.example.com/api:hotfix";

/// A cluster of their own: what a given cluster follows is not ours to push to.
fn cluster() -> (Arc<Cluster>, MutexGuard<'static, ()>) {
    static CLUSTER: Together = Together::new(|| Cluster::own("settling"));
    // One repository, and one branch that Flux follows: one after the other.
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    (CLUSTER.get(), turn)
}

fn deployment(cluster: &Cluster) -> Value {
    cluster.kubectl("alice").namespace("prod").json(&["get", "deployment", "api"])
}

fn image(object: &Value) -> &str {
    object["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap()
}

fn is_held(object: &Value) -> bool {
    object["metadata"]["annotations"][HELD] == "disabled"
}

fn in_clone(cluster: &Cluster, person: &str, args: &[&str]) -> Output {
    cluster.plugin(person).namespace("prod").current_dir(&cluster.flux().fleet.clone).run(args)
}

fn wait_for_event(cluster: &Cluster, reason: &str, words: &str) {
    wait_until(&format!("an Event {reason}"), LIMIT, || {
        let events = cluster.kubectl("admin").json(&["-n", "default", "get", "events"]);
        let is_it = |event: &Value| event["reason"] == reason && event["note"].to_string().contains(words);
        let also = |event: &Value| event["reason"] == reason && event["message"].to_string().contains(words);
        let mut all = events["items"].as_array().into_iter().flatten();
        if all.any(|event| is_it(event) || also(event)) { Ok(()) } else { Err(events.to_string()) }
    })
    .unwrap();
}

#[test]
fn a_change_is_held_afterwards_and_given_back() {
    let (cluster, _turn) = cluster();
    cluster.open("alice", "INC-870", "prod");
    let before = deployment(&cluster);
    let suspended = cluster.suspend_flux();
    let set = ["set", "image", "deployment/api", &format!("api={HOTFIX}")];
    cluster.kubectl("alice").namespace("prod").ok(&set);
    let change = change_of(&deployment(&cluster));
    cluster.wait_for_phase(&change, ("Pending", None), LIMIT);

    let dry = cluster.plugin("bob").namespace("prod").run(&["hold", "deployment/api", "--dry-run"]);
    assert!(dry.status == 0 && dry.stdout.contains("held (server dry run)"), "{dry}");
    assert!(!is_held(&deployment(&cluster)));
    let held = cluster.plugin("bob").namespace("prod").run(&["hold", "deployment/api"]);
    assert_eq!(held.status, 0, "{held}");
    let leaves = "Kustomization flux-system/prod leaves deployment.apps/api in prod as it is, until 20";
    assert!(held.stderr.contains(leaves), "{held}");
    assert!(held.stderr.contains(&format!("kubectl breakglass release {change}")), "{held}");
    let hold = cluster.change(&change)["status"]["hold"].clone();
    assert_eq!((&hold["state"], &hold["by"]), (&json!("Held"), &json!("bob@example.com")));
    drop(suspended);
    for _ in 0..2 {
        cluster.reconcile(LIMIT);
    }
    let object = deployment(&cluster);
    assert!(is_held(&object) && image(&object) == HOTFIX && change_of(&object) == change, "{object:#}");
    // What holds it is no part of the change.
    let diff = cluster.plugin("alice").namespace("prod").run(&["diff", "deployment/api"]);
    assert!(diff.status == 1 && !diff.stdout.contains(HELD), "{diff}");
    let shown = cluster.plugin("alice").namespace("prod").ok(&["show", "deployment/api"]);
    assert!(shown.contains("Hold:        held by bob@example.com at 20"), "{shown}");
    wait_for_event(&cluster, "Held", "bob@example.com has deployment.apps/api in prod held");

    // Nobody says so in somebody else's name, and nobody takes it back by leaving it out.
    for (patch, words) in [
        (json!({"hold": {"state": "Released", "by": "carol@example.com"}}), "cannot say so as carol@example.com"),
        (json!({"hold": null}), "is not taken back"),
    ] {
        let patch = json!({"status": patch}).to_string();
        let args = ["patch", "breakglasschange", &change, "--subresource=status", "--type=merge", "-p", &patch];
        let refused = cluster.kubectl("alice").run(&args);
        assert!(refused.status != 0 && refused.stderr.contains(words), "{refused}");
    }

    let released = cluster.plugin("alice").namespace("prod").run(&["release", "deployment/api"]);
    assert_eq!(released.status, 0, "{released}");
    let undoes =
        "Kustomization flux-system/prod applies what Git says to deployment.apps/api in prod again, and undoes";
    assert!(released.stderr.contains(undoes), "{released}");
    cluster.wait_for_phase(&change, ("Settled", Some("UndoneByEngine")), SETTLED_WITHIN);
    let after = deployment(&cluster);
    assert!(!is_held(&after) && image(&after) == image(&before) && stamp(&after).is_empty(), "{after:#}");
    wait_for_event(&cluster, "Released", "alice@example.com gave it back");
    let again = cluster.plugin("alice").run(&["hold", &change]);
    assert!(again.status == 1 && again.stderr.contains("settled already (UndoneByEngine)"), "{again}");
}

#[test]
fn what_nothing_applies_is_not_held() {
    let (cluster, _turn) = cluster();
    cluster.open("alice", "INC-871", "prod");
    cluster.kubectl("alice").namespace("prod").ok(&["create", "configmap", "by-hand", "--from-literal=key=one"]);
    wait_until("the change to be seen", LIMIT, || {
        let phase = cluster.changes("INC-871")[0]["status"]["phase"].clone();
        if phase == "Pending" { Ok(()) } else { Err(phase.to_string()) }
    })
    .unwrap();
    let refused = cluster.plugin("alice").namespace("prod").run(&["hold", "configmap/by-hand"]);
    assert!(refused.status == 1 && refused.stderr.contains("no engine applies configmap/by-hand in prod"), "{refused}");
}

#[test]
fn what_was_merged_with_a_commit_of_its_own_is_settled_by_rendering_it() {
    let (cluster, _turn) = cluster();
    let fleet = &cluster.flux().fleet;
    let hold = ["-n", "prod", "--reason", "a test", "--hold", "--yes"];
    cluster.plugin("alice").ok(&[&["open", "INC-872"], &hold[..]].concat());
    let alice = cluster.kubectl("alice").namespace("prod");
    alice.ok(&["set", "image", "deployment/api", &format!("api={HOTFIX}")]);
    // That a field is away does not show in the cluster whether it is away in Git.
    alice.ok(&["patch", "configmap", "api-settings", "--type=merge", "-p", r#"{"data": {"CHECKOUT_TIMEOUT": null}}"#]);
    let settings = || alice.json(&["get", "configmap", "api-settings"]);
    let changes = [change_of(&deployment(&cluster)), change_of(&settings())];
    for change in &changes {
        cluster.wait_for_phase(change, ("Pending", None), LIMIT);
    }
    let pending = in_clone(&cluster, "alice", &["settle", "--incident", "INC-872"]);
    assert!(pending.status == 3 && pending.stderr.contains("waits for a verdict"), "{pending}");
    let accepted = in_clone(&cluster, "alice", &["accept", "--incident", "INC-872"]);
    assert_eq!(accepted.status, 0, "{accepted}");
    let said = |change: &String| cluster.change(change)["status"].clone();
    let commit = said(&changes[0])["git"]["commit"].clone();

    // Nobody has merged it.
    let early = in_clone(&cluster, "bob", &["settle"]);
    assert_eq!(early.status, 3, "{early}");
    let lacks = format!("deployment.apps/api in prod: {} is not settled: Git does not say so of ", changes[0]);
    assert!(early.stderr.contains(&lacks) && early.stderr.contains("prod/api.yaml:"), "{early}");
    assert_eq!(said(&changes[0])["git"]["commit"], commit);

    // Merged as one commit, by somebody's server.
    let text = fleet.git(&["show", "breakglass/INC-872:prod/api.yaml"]).unwrap();
    let squashed = fleet.push("prod: squashed", &[("prod/api.yaml", &format!("{text}\n"))]).unwrap();
    cluster.flux().wait_applied(&squashed).unwrap();
    cluster.reconcile(LIMIT);
    assert!(is_held(&deployment(&cluster)), "no commit says that it is accepted");
    let elsewhere = cluster.plugin("bob").current_dir(std::path::Path::new("/")).run(&["settle"]);
    assert!(elsewhere.status == 1 && elsewhere.stderr.contains("is in no clone of a Git repository"), "{elsewhere}");
    let dry = in_clone(&cluster, "bob", &["settle", "--dry-run"]);
    assert!(dry.stdout.contains(&format!("proven, main@{} says so (server dry run)", &squashed[..10])), "{dry}");
    assert_eq!(said(&changes[0])["git"]["commit"], commit);

    let own = fleet.git(&["status", "--porcelain"]).unwrap();
    let settled = in_clone(&cluster, "bob", &["settle", "--watch", "--timeout", "3m"]);
    assert_eq!(settled.status, 0, "{settled}");
    for change in &changes {
        assert!(settled.stderr.contains(&format!("settled: {change} (InGit)")), "{settled}");
        let status = said(change);
        // Who decided is who decided.
        assert_eq!((&status["phase"], &status["by"]), (&json!("Settled"), &json!("alice@example.com")), "{status}");
        let place = json!({"repository": URL, "branch": "main", "commit": squashed, "path": "prod/api.yaml"});
        assert_eq!(status["git"], place);
    }
    let object = deployment(&cluster);
    assert!(!is_held(&object) && image(&object) == HOTFIX && stamp(&object).is_empty(), "{object:#}");
    assert!(settings()["data"].get("CHECKOUT_TIMEOUT").is_none() && stamp(&settings()).is_empty());
    assert_eq!(fleet.git(&["worktree", "list"]).unwrap().lines().count(), 1);
    assert_eq!(fleet.git(&["status", "--porcelain"]).unwrap(), own);
    assert_eq!(git(&fleet.bare, &["rev-parse", "main"]).unwrap(), squashed);
    let done = in_clone(&cluster, "bob", &["settle", "--incident", "INC-872"]);
    assert!(done.status == 0 && done.stderr.contains("Nothing waits to be settled"), "{done}");
    assert!(fs::read_to_string(fleet.clone.join("prod/api.yaml")).unwrap().contains("# The shop's API"));
}
