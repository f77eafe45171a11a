//! The control plane itself: it starts, takes writes from people and from Flux, and is gone afterwards, however we end.

use std::fs;
use std::process::Command;
use std::time::Duration;

use tests::{Cluster, Setup, process, wait_until};

#[test]
fn a_bare_cluster_takes_a_write_from_alice() {
    let cluster = Cluster::bare("smoke");
    let alice = cluster.kubectl("alice");
    alice.ok(&["-n", "prod", "create", "configmap", "settings", "--from-literal=a=b"]);
    assert_eq!(alice.json(&["-n", "prod", "get", "configmap", "settings"])["data"]["a"], "b");

    let refused = cluster.kubectl("carol").run(&["-n", "prod", "delete", "configmap", "settings"]);
    assert_eq!(refused.status, 1, "{refused}");
    assert!(refused.stderr.contains("carol@example.com"), "{refused}");

    let directory = cluster.directory().to_owned();
    drop(cluster);
    assert!(!directory.exists(), "{} is left behind", directory.display());
}

#[test]
fn a_killed_owner_leaves_no_process_behind() {
    let directory = std::env::temp_dir().join(format!("breakglass-killed-{}", std::process::id()));
    let mut owner = Command::new(env!("CARGO_BIN_EXE_local"))
        .arg("--directory")
        .arg(&directory)
        .args(["supervise", "--bare"])
        .spawn()
        .unwrap();
    let log = directory.join("logs/kube-apiserver.log");
    let limit = Duration::from_secs(60);
    let group = wait_until("the API server to be started", limit, || {
        fs::metadata(&log).map_err(|error| error.to_string())?;
        fs::read_to_string(directory.join("group")).map_err(|error| error.to_string())
    })
    .unwrap();
    let alive = || process::send("0", &format!("-{group}")).is_ok();
    assert!(alive(), "etcd and the API server are in process group {group}");

    owner.kill().unwrap();
    owner.wait().unwrap();

    wait_until("all of it to end", limit, || if alive() { Err(format!("group {group} is there")) } else { Ok(()) })
        .unwrap();
    wait_until("the watchdog to be done", limit, || {
        if directory.join("group").exists() { Err("it is not") } else { Ok(()) }.map_err(str::to_owned)
    })
    .unwrap();
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_kept_cluster_can_be_looked_at_again() {
    let directory = std::env::temp_dir().join(format!("breakglass-again-{}", std::process::id()));
    let cluster = Setup::new("again").directory(&directory).start().unwrap();
    cluster.kubectl("alice").ok(&["-n", "prod", "create", "configmap", "settings"]);
    process::keep(&directory);
    drop(cluster);

    let cluster = Setup::new("again").directory(&directory).look().unwrap();
    let seen = cluster.kubectl("admin").ok(&["-n", "prod", "get", "configmap", "settings", "-o", "name"]);
    assert_eq!(seen.trim(), "configmap/settings");
    drop(cluster);
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_given_cluster_is_used_as_it_is() {
    let ours = Cluster::bare("given");
    let given = Setup::new("over").over(&ours.kubeconfig()).unwrap();
    given.namespace("prod-given");
    given.kubectl("alice").ok(&["-n", "prod-given", "create", "configmap", "settings"]);
    let seen = ours.kubectl("carol").ok(&["-n", "prod-given", "get", "configmap", "settings", "-o", "name"]);
    assert_eq!(seen.trim(), "configmap/settings");
}

#[test]
fn a_push_to_the_fleet_is_applied_by_flux() {
    let cluster = Setup::new("push").flux().start().unwrap();
    let flux = cluster.flux();
    let text = fs::read_to_string(flux.fleet.clone.join("prod/api.yaml")).unwrap();
    let text = text.replace("replicas: 2", "replicas: 3");
    let commit = flux.fleet.push("api: 3 replicas", &[("prod/api.yaml", &text)]).unwrap();
    flux.wait_applied(&commit).unwrap();
    let api = cluster.kubectl("alice").json(&["-n", "prod", "get", "deployment", "api"]);
    assert_eq!(api["spec"]["replicas"], 3);
    assert_eq!(
        cluster
            .kubectl("flux")
            .ok(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.extra}"])
            .matches("kustomize-controller-0")
            .count(),
        1
    );
}
