//! Replicas are replaced while people write, and nobody's write fails by it.

use std::time::Duration;

use tests::load::{Load, Until};
use tests::rolling::{self, Plan};
use tests::{Setup, wait_until};

use crate::LIMIT;

/// two rolling restarts at 200 writes a second, with a leaf and a CA made anew meanwhile: no write fails. `make soak` does
/// the same for five minutes.
#[test]
fn rolling_restarts_and_new_certificates_fail_no_write() {
    let cluster = Setup::new("rolling").nodes().start().unwrap();
    cluster.install_manifests().unwrap();
    let plan = Plan { time: Duration::from_secs(60), rate: 200, at_least: 50 };
    let report = rolling::run(&cluster, plan).unwrap();
    println!("{report}");
    assert!(report.problems().is_empty(), "{:?}\n{report}", report.problems());
}

/// with one replica a rollout starts the next before it ends the first, and no write fails.
#[test]
fn one_replica_is_replaced_and_no_write_fails() {
    let cluster = Setup::new("single").nodes().start().unwrap();
    cluster.install_manifests().unwrap();
    let scale = ["scale", "deployment/breakglass-webhook", "--replicas=1"];
    cluster.set_scene(&[&["-n", "breakglass-system"], &scale[..]].concat(), "");
    let gone = |count: usize| {
        wait_until("as many replicas as are wanted", LIMIT, || {
            let running = cluster.nodes().running();
            if running.len() == count { Ok(running) } else { Err(format!("{running:?}")) }
        })
        .unwrap()
    };
    let before = gone(1);
    let strategy = cluster.home().json(&["get", "deployment/breakglass-webhook"])["spec"]["strategy"].clone();
    assert_eq!(
        (&strategy["rollingUpdate"]["maxSurge"], &strategy["rollingUpdate"]["maxUnavailable"]),
        (&1.into(), &0.into())
    );

    cluster.open("alice", "INC-615", "prod");
    let load = Load::start(&cluster.kubectl("alice"), "prod", 100, Until::Stopped).unwrap();
    cluster.set_scene(&["-n", "breakglass-system", "rollout", "restart", "deployment/breakglass-webhook"], "");
    cluster.wait_rolled_out().unwrap();
    let after = gone(1);
    let tally = load.stop().unwrap();
    println!("{tally}");
    assert_ne!(before[0].pod, after[0].pod);
    assert!(tally.landed >= 10 && tally.failed == 0, "{tally}");
}
