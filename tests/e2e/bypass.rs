//! The bypass fuzzer for about a minute; `make soak` runs it for longer, from another seed each time. And what the files
//! beside this one, each of which tries ways around the gate of one kind, have in common.

use std::io::Write as _;

use serde_json::Value;
use tests::Cluster;
use tests::bypass::{self, Until};
use tests::http::refused;

/// The same requests each time.
const SEED: u64 = 1;

/// As many as two cores send in less than a minute.
const REQUESTS: u64 = 5_000;

#[test]
fn no_write_without_a_token_lands_however_it_is_made_up() {
    let cluster = Cluster::own("bypass");
    let tally = bypass::run(&cluster, SEED, Until::Requests(REQUESTS)).unwrap();
    // Past the test harness, which keeps what a test prints to itself while it passes.
    std::io::stderr().write_all(format!("\n{tally}\n").as_bytes()).unwrap();
    let problems = tally.problems();
    assert!(problems.is_empty(), "{} problems:\n\n{}", problems.len(), problems.join("\n\n"));
}

/// Holds that we refused what `environment` guards, to a client that is not kubectl, and said how to open a token.
#[track_caller]
pub(crate) fn check_gated(answer: kube::Result<Value>, (environment, subject, place): (&str, &str, &str)) {
    let (code, message) = refused(answer);
    assert_eq!(code, 403, "{message}");
    let says = format!("denied the request: {environment} is run by GitOps: {subject} needs a break-glass token");
    assert!(message.contains(&says), "{says}\n{message}");
    let end = format!(". Open one: kubectl breakglass open <incident> {place} --reason \"…\"");
    assert!(message.ends_with(&end), "{message}");
}
