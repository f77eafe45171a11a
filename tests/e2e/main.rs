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
// A person's write: refused with the command that would let it in, stamped, recorded.
mod admit_direct;
// Each way in which a client writes, under a token.
mod admit_verbs;
// A Namespace object counts as its own environment.
mod admit_namespace;
// A GitOps engine's writes pass untouched, and it comes to rest.
mod admit_engine;
// Controllers and garbage collection pass untouched.
mod admit_control_plane;
// The webhook is down, killed, or spoken to by somebody else than the API server.
mod admit_failure;
// A stamp cannot be forged, stripped, resurrected or replayed.
mod stamp;
// The policy in force, and the webhooks registered for it.
mod policy;
// The life of a token, and what nobody can do to one or to a change.
mod token_life;
// The plugin as people and scripts use it.
mod plugin;

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
