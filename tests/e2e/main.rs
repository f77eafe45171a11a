//! The end-to-end tests: real programs against a real control plane.

use std::time::Duration;

use tests::Output;

/// How long anything may take that comes by itself: long, since machines are slow, and a test that passes does not wait.
const LIMIT: Duration = Duration::from_secs(60);

/// Holds that we refused a write to prod for want of a token, and said how to open one.
///
/// What stands between, such as a token of another test that is for another namespace, is another test's.
#[track_caller]
fn check_refused(output: &Output, subject: &str, place: &str) {
    let refusal = output.refusal();
    let start = format!("prod is run by GitOps: {subject} needs a break-glass token");
    assert!(refusal.starts_with(&start), "{refusal}");
    let end = format!(". Open one: kubectl breakglass open <incident> {place} --reason \"…\"");
    assert!(refusal.ends_with(&end), "{refusal}");
}

// The control plane itself.
mod smoke;
// Nodes on this machine, on which replicas live as in production.
mod nodes;
// Certificates are made anew under load.
mod rotation;
// Replicas are replaced under load.
mod rolling;
// Replicas are killed, held, and left without a leader.
mod replicas;
// The version before this one, this one, and back.
mod upgrade;
// Somebody breaks what the replicas live on.
mod mending;
// A person's write: refused with the command that would let it in, stamped, recorded.
mod admit_direct;
// Each way in which a client writes, under a token.
mod admit_verbs;
// Everything that discovery serves, tried in every way that changes something.
mod walk;
// What is gone is on record as it was.
mod admit_delete;
// Scaling, which is a write to another object than the one that changes.
mod admit_scale;
// Ephemeral containers and resizing, which can carry no stamp.
mod admit_debug;
// Writes without a token, made up by the thousand.
mod bypass;
// Ways around the gate, by kind: what makes an object go.
mod bypass_delete;
// Through the Namespace.
mod bypass_namespace;
// While we do not know.
mod bypass_blind;
// As somebody who is exempt.
mod bypass_identity;
// Through what an engine goes by.
mod bypass_engine;
// A Namespace object counts as its own environment.
mod admit_namespace;
// A GitOps engine's writes pass untouched, and it comes to rest.
mod admit_engine;
// Controllers and garbage collection pass untouched.
mod admit_control_plane;
// Kubelets pass untouched.
mod admit_node;
// Everybody in the control plane at work in prod, and what becomes of it off our lists.
mod controllers;
// The webhook is down, killed, or spoken to by somebody else than the API server.
mod admit_failure;
// The webhook is away for long: what must go on goes on, and it comes back by itself.
mod away;
// It is told to end, hangs, or is not there yet: nothing that was begun is lost, and nothing is left behind.
mod ending;
// The way to the API server is gone, deaf, or leads to the past.
mod cut_off;
// More than there is room for, and less room than usual.
mod overload;
// Who may call it, and how.
mod callers;
// A hundred writers on one object.
mod storm;
// Bytes that no API server sends.
mod hostile;
// Objects as large, deep and odd as the API server takes them.
mod hostile_objects;
// Metadata without end, numbers that are none, and words that are too long.
mod hostile_values;
// A stamp cannot be forged, stripped, resurrected or replayed.
mod stamp;
// Nothing is forged or stripped through a subresource.
mod stamp_subresource;
// What it does to the metadata around it.
mod stamp_metadata;
// A write that changes nothing stores nothing.
mod stamp_noop;
// Dry runs and diffs.
mod dry_run;
// Other people's webhooks change the object and the stamp.
mod stamp_beside;
// What becomes of a write that was let in.
mod follow;
// Other versions, connections and floods are no way around.
mod bypass_reach;
// Nobody takes us apart, stands in for us, or writes what we cannot judge.
mod tamper;
// The policy in force, and the webhooks registered for it.
mod policy;
// The life of a token, and what nobody can do to one or to a change.
mod token_life;
// What a token is good for, and nothing else is: whose, where, and until when.
mod gate_token;
// Where the uses of a token show afterwards.
mod gate_audit;
// Nobody approves a token by writing that somebody did, and nobody widens one.
mod gate_approval;
// Tokens that are many, malformed, gone, or known to a replica that has not heard of their end yet.
mod gate_store;
// What was done is seen.
mod seeing;
// Where it comes from, who put what into it, and what is in nobody's Git.
mod tracing;
// What is decided about it.
mod verdict;
// What is kept stands in Git.
mod accept;
// What is rejected is put back.
mod reject;
// Whoever is stopped on the way there begins again, and comes to the same end.
mod broken_off;
// Every change comes to its end.
mod settle;
// And stays until then, where a token holds.
mod hold;
// Or where somebody wants it; and what a merge made of it is found in Git.
mod settling;
// What is told of it afterwards, and of what nobody decided.
mod telling;
// The value of a Secret shows nowhere but in the Secret.
mod secret;
// What shows from outside, and who is woken by it.
mod monitoring;
// The plugin as people and scripts use it.
mod plugin;
// In with one command, and out with one, in whatever order.
mod install;
// Who can write past us, and what is registered, as doctor finds it.
mod doctor;
// Every other part, with a fault seeded in each, and mended by the command that doctor names.
mod doctor_faults;
// What would become of a write.
mod policy_explain;

// No file of this folder is forgotten above, where it would be compiled by nobody.
#[test]
fn every_file_of_this_folder_is_a_module() {
    let main = include_str!("main.rs");
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/e2e")).unwrap();
    for entry in folder {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.strip_suffix(".rs").unwrap_or(&name);
        assert!(module == "main" || main.contains(&format!("\nmod {module};\n")), "{name} has no mod line in main.rs");
    }
}
