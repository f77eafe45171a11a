//! Certificates are made anew while people write: the API server believes what is shown to it at every moment.

use std::time::{Duration, Instant};

use tests::load::{Load, Until};
use tests::node::{MANIFESTS, Running};
use tests::replicas::Watcher;
use tests::{Cluster, Setup, wait_until};

use crate::LIMIT;

/// From the wish for a new CA to the end of the old one: 10 s of trust, 30 s until all show the new leaf, and a look every 5 s
/// before each step.
const ROTATION: Duration = Duration::from_secs(120);

/// How often it is looked at what is trusted and what is shown.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What the steps of one rotation were, as they were seen from outside.
#[derive(Debug, Default, PartialEq)]
struct Steps {
    /// Since when, in order, the new CA is trusted, the first and the last replica show a leaf of it, and the old one is gone.
    offered: Option<Duration>,
    first_shown: Option<Duration>,
    all_shown: Option<Duration>,
    retired: Option<Duration>,
}

/// T-01, T-02: at 150 writes a second a leaf and then a CA are made anew, and no write fails. The new CA is trusted before a leaf
/// of it is shown, the old one is trusted until nobody shows a leaf of it, and all of it can be seen afterwards.
#[test]
fn a_leaf_and_a_ca_are_made_anew_under_load() {
    let cluster = Setup::new("rotation").nodes().start().unwrap();
    cluster.install_manifests().unwrap();
    cluster.open("alice", "INC-610", "prod");
    let watcher = cluster.watcher();
    wait_until("all to be well", LIMIT, || watcher.is_well(2)).unwrap();
    let load = Load::start(&cluster.kubectl("alice"), "prod", 150, Until::Stopped).unwrap();

    let before = watcher.secret().unwrap();
    let rotations = |certificate: &str| {
        watcher.metric(&format!("breakglass_certificate_rotations_total{{certificate=\"{certificate}\"}}"))
    };
    cluster.rotate("leaf");
    wait_until("another leaf", LIMIT, || match watcher.secret() {
        Ok(secret) if secret["tls.crt"] != before["tls.crt"] => watcher.is_well(2),
        secret => Err(format!("{:?}", secret.map(|secret| secret["tls.crt"].len()))),
    })
    .unwrap();
    let renewed = watcher.secret().unwrap();
    assert_eq!((&renewed["ca.crt"], renewed.len()), (&before["ca.crt"], 4));
    assert!(!watcher.wished().unwrap(), "the wish is still there");
    assert_eq!((rotations("leaf"), rotations("ca")), (1.0, 0.0));

    cluster.rotate("ca");
    let steps = watch(&cluster, &watcher, &renewed["ca.crt"]);
    println!("{steps:?}");
    wait_until("all to be well", LIMIT, || watcher.is_well(2)).unwrap();
    assert_eq!((rotations("leaf"), rotations("ca")), (2.0, 1.0));
    let tally = load.stop().unwrap();
    println!("{tally}");
    assert!(tally.landed >= 10 && tally.failed == 0, "{tally}");

    let order = [steps.offered, steps.first_shown, steps.all_shown, steps.retired];
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{steps:?}");
    let notes: Vec<String> = wait_until("an Event for each step", LIMIT, || {
        let notes = watcher.events("CertificateRotated", "Secret").into_iter();
        let notes: Vec<String> = notes.map(|event| event["note"].as_str().unwrap_or_default().to_owned()).collect();
        if notes.len() == 4 { Ok(notes) } else { Err(format!("{notes:?}")) }
    })
    .unwrap();
    for said in ["the leaf was made anew", "a new CA was made", "the new CA is in use", "the old CA is trusted no more"]
    {
        assert!(notes.iter().any(|note| note.starts_with(said)), "{said}: {notes:?}");
    }
}

/// Looks at what is trusted and what is shown until the old CA is gone; at every look, what each replica shows is believed by
/// both configurations.
fn watch(cluster: &Cluster, watcher: &Watcher<'_>, old: &str) -> Steps {
    let began = Instant::now();
    let mut steps = Steps::default();
    while steps.retired.is_none() {
        assert!(began.elapsed() < ROTATION, "{steps:?}");
        let bundles = watcher.trusted().unwrap();
        let running = cluster.nodes().running();
        // A replica may go on between the two looks, but no step is shorter than the 10 s of trust.
        for trusted in &bundles {
            for replica in &running {
                watcher.leaf(replica, trusted).unwrap_or_else(|error| panic!("{}: {error}; {steps:?}", replica.pod));
            }
        }
        let of_old = |replica: &&Running| watcher.leaf(replica, old).is_ok();
        let (old_leaves, now) = (running.iter().filter(of_old).count(), Some(began.elapsed()));
        let has = |bundle: &String| bundle.contains(old.trim());
        let more = |bundle: &String| bundle.matches("BEGIN CERTIFICATE").count() > usize::from(has(bundle));
        if bundles.iter().all(more) {
            steps.offered = steps.offered.or(now);
        }
        if old_leaves < running.len() {
            steps.first_shown = steps.first_shown.or(now);
        }
        if old_leaves == 0 {
            steps.all_shown = steps.all_shown.or(now);
        }
        if !bundles.iter().any(has) {
            steps.retired = now;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    steps
}

/// T-05: three replicas that start at once where nothing is make one CA: all show a leaf of it, and from the moment that prod is
/// closed no write fails.
#[test]
fn three_replicas_make_one_ca() {
    let cluster = Setup::new("race").nodes().start().unwrap();
    let manifests = cluster.manifests(MANIFESTS.as_ref()).unwrap();
    let three = manifests.replace("replicas: 2", "replicas: 3");
    assert_ne!(manifests, three);
    let watcher = cluster.watcher();
    let first = std::thread::scope(|scope| {
        let installed = scope.spawn(|| cluster.install(&three));
        let first = wait_until("the Secret", LIMIT, || watcher.secret().map_err(|error| format!("{error:#}")));
        installed.join().unwrap().unwrap();
        first.unwrap()
    });

    wait_until("all to be well", LIMIT, || watcher.is_well(3)).unwrap();
    cluster.open("alice", "INC-611", "prod");
    let load = Load::start(&cluster.kubectl("alice"), "prod", 100, Until::Elapsed(Duration::from_secs(8))).unwrap();
    let tally = load.wait().unwrap();
    println!("{tally}");
    assert!(tally.landed >= 10 && tally.failed == 0, "{tally}");
    watcher.is_well(3).unwrap();
    assert_eq!(watcher.secret().unwrap(), first);
    let replicas = cluster.nodes().running();
    let decided = |replica: &&Running| {
        let log = std::fs::read_to_string(cluster.directory().join(format!("logs/{}.log", replica.pod))).unwrap();
        log.contains("\"decided\"")
    };
    println!("{} of {} replicas were asked", replicas.iter().filter(decided).count(), replicas.len());
    let secrets = cluster.home().ok(&["get", "secrets", "-o", "name"]);
    assert_eq!(secrets, "secret/breakglass-webhook-key\nsecret/breakglass-webhook-tls\n");
}
