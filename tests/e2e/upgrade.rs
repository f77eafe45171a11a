//! From the version before this one to this one and back, while people write: nobody's write fails, and what one version wrote
//! the other believes.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use tests::load::{Load, Until};
use tests::node::{self, MANIFESTS, Running};
use tests::previous::{self, previous};
use tests::record::{change_of, config_map};
use tests::review::review;
use tests::{Cluster, Setup, probe, wait_until};

use crate::{LIMIT, check_refused};

/// Which image a pod runs.
fn image(cluster: &Cluster, pod: &str) -> String {
    let path = "jsonpath={.spec.containers[0].image}";
    cluster.home().run(&["get", "pod", pod, "-o", path]).stdout
}

/// Waits until two replicas run, both of this image.
fn wait_all(cluster: &Cluster, wanted: &str) {
    cluster.wait_rolled_out().unwrap();
    wait_until("the other version to be gone", LIMIT, || {
        let running = cluster.nodes().running();
        let all = running.iter().all(|replica| image(cluster, &replica.pod) == wanted);
        if running.len() == 2 && all { Ok(()) } else { Err(format!("{running:?}")) }
    })
    .unwrap();
}

/// Puts a review to one replica, past the API server.
fn ask(replica: &Running, path: &str, review: &Value) -> Value {
    let address = SocketAddr::from((replica.address, 8443));
    let (status, body) = probe::post_at(address, path, review.to_string().as_bytes()).unwrap();
    assert_eq!(status, 200, "{}: {body}", replica.pod);
    serde_json::from_str::<Value>(&body).unwrap()["response"].clone()
}

/// A write of alice's that is stamped by one replica and judged by the other.
fn check_stamped_and_judged(stamping: &Running, judging: &Running, name: &str) {
    let mut review = review("alice@example.com", "CREATE", ("prod", name));
    let stamped = ask(stamping, "/stamp", &review);
    let patch = BASE64.decode(stamped["patch"].as_str().unwrap_or_else(|| panic!("no stamp: {stamped:#}"))).unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
    json_patch::patch(&mut review["request"]["object"], &patch).unwrap();
    let judged = ask(judging, "/gate", &review);
    assert_eq!(judged["allowed"], true, "stamped by {}, judged by {}: {judged:#}", stamping.pod, judging.pod);
    // Whoever changes a stamp on its way is not believed by either.
    review["request"]["object"]["metadata"]["annotations"]["breakglass.dev/incident"] = json!("INC-1");
    assert_eq!(ask(judging, "/gate", &review)["allowed"], false);
}

/// 0.1.0 is replaced by this version and comes back, at 100 writes a second, with a while in which both serve: no write
/// fails, a stamp of one is believed by the other, and every change is listed whoever recorded it.
#[test]
fn an_upgrade_and_a_rollback_under_load() {
    let old = previous().unwrap();
    let cluster = Setup::new("upgrade").nodes().start().unwrap();
    cluster.nodes().add_image(previous::IMAGE, &old.webhook);
    let manifests = [old.manifests.as_path(), MANIFESTS.as_ref()].map(|folder| cluster.manifests(folder).unwrap());
    let apply = |manifests: &str| cluster.set_scene(&["apply", "--server-side", "-f", "-"], manifests);
    cluster.install(&manifests[0]).unwrap();
    wait_all(&cluster, previous::IMAGE);
    let (alice, admin) = (cluster.kubectl("alice").namespace("prod"), cluster.home());
    cluster.open("alice", "INC-640", "prod");
    let token = cluster.open("alice", "INC-641", "prod");
    let load = Load::start(&cluster.kubectl("alice"), "prod", 100, Until::Stopped).unwrap();
    let write = |name: &str, value: &str| {
        alice.ok_with_input(&["apply", "--server-side", "-f", "-"], &config_map(name, value));
        change_of(&alice.json(&["get", "configmap", name]))
    };
    let mut changes = vec![write("by-old", "one")];

    // Halted where both serve.
    apply(&manifests[1]);
    admin.ok(&[
        "rollout",
        "pause",
        "deployment/breakglass-webhook",
        "--as=admin",
        "--as-group=system:masters",
        "--as-group=breakglass.dev:override",
    ]);
    let of = |wanted: &str| {
        wait_until("a ready replica of the version", LIMIT, || {
            let running = cluster.nodes().running().into_iter();
            let mut of = running.filter(|replica| image(&cluster, &replica.pod) == wanted);
            let ready = |replica: &Running| probe::https_at(SocketAddr::from((replica.address, 8443)), "/readyz");
            let replica = of.next().ok_or_else(|| format!("none of {wanted}"))?;
            ready(&replica).map(|()| replica)
        })
        .unwrap()
    };
    let (before, after) = (of(previous::IMAGE), of(node::IMAGE));
    check_stamped_and_judged(&before, &after, "forth");
    check_stamped_and_judged(&after, &before, "back");
    changes.extend([write("by-either", "one"), write("by-old", "two")]);
    admin.ok(&[
        "rollout",
        "resume",
        "deployment/breakglass-webhook",
        "--as=admin",
        "--as-group=system:masters",
        "--as-group=breakglass.dev:override",
    ]);
    wait_all(&cluster, node::IMAGE);
    changes.extend([write("by-new", "one"), write("by-old", "three")]);
    wait_until("all to be well", LIMIT, || cluster.watcher().is_well(2)).unwrap();

    apply(&manifests[0]);
    wait_all(&cluster, previous::IMAGE);
    changes.extend([write("by-new", "two"), write("by-old", "four")]);
    let refused = cluster.kubectl("bob").run(&["-n", "prod", "create", "configmap", "settings"]);
    check_refused(&refused, "configmaps \"settings\" (create) by bob@example.com", "-n prod");

    let tally = load.stop().unwrap();
    println!("{tally}");
    assert!(tally.landed >= 10 && tally.failed == 0, "{tally}");
    let changes: BTreeSet<String> = changes.into_iter().collect();
    assert_eq!(changes.len(), 7);
    wait_until("every change to be listed", LIMIT, || {
        let list = cluster.plugin("alice").json(&["list", "--incident", "INC-641"]);
        let text = list.to_string();
        let missing: Vec<_> = changes.iter().filter(|change| !text.contains(change.as_str())).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} of {token}")) }
    })
    .unwrap();
}
