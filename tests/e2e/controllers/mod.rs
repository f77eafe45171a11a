//! The control plane at work in prod: with us, without us, and what becomes of it where its names are not on our lists.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use breakglass::writer::{API_SERVER, COMPONENTS, CONTROLLER_PREFIX, CONTROLLERS, NODE_GROUP, NODE_PREFIX};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::{Value, json};
use tests::{Cluster, Kubectl, Output, Setup, wait_until};

/// Longer than the longest round of a controller, on a machine that has other things to do.
const LIMIT: Duration = Duration::from_secs(120);

const SCENE: &str = include_str!("scene.yaml");

/// What the API server says of a write that it could not ask us about.
const SHUT: &str = "failed calling webhook";

const CLOUD: &str = "runs in a cloud-controller-manager, and there is no cloud";
const GATE: &str = "its feature gate is off unless somebody turns it on";
const KUBEADM: &str = "is off unless somebody turns it on, as kubeadm does";

/// Who is on the lists and does not show that it has to be, and why.
const UNSEEN: [(&str, &str); 12] = [
    ("cloud-controller-manager", CLOUD),
    ("service-controller", CLOUD),
    ("system:cloud-controller-manager", CLOUD),
    ("kube-apiserver-serving-clustertrustbundle-publisher", GATE),
    ("podcertificaterequestcleaner", GATE),
    ("podgroup-protection-controller", GATE),
    ("resourcepoolstatusrequest-controller", GATE),
    ("storage-version-garbage-collector", GATE),
    ("storage-version-migrator-controller", GATE),
    ("legacy-service-account-token-cleaner", "deletes tokens that nobody used for a year"),
    ("bootstrap-signer", KUBEADM),
    ("token-cleaner", KUBEADM),
];

/// S-11: in prod and outside of namespaces, all that the control plane writes is let in, with the webhook and without it; and
/// of every name on our lists it shows that its writes are stopped where it is not on them, or it is said why it cannot show.
#[test]
fn the_control_plane_works_in_prod_and_each_name_on_its_lists_is_needed() {
    // A cluster of its own, since it stops working; without Flux, which would only take time.
    let cluster = Setup::new("controllers").webhook().start().unwrap_or_else(|error| panic!("{error:#}"));
    guard_everything(&cluster);
    let unseen: BTreeSet<&str> = UNSEEN.iter().map(|(name, _)| *name).collect();
    let needed: BTreeSet<String> = identities().into_iter().filter(|name| !unseen.contains(name.as_str())).collect();

    for (number, round) in ["alive", "dead"].into_iter().enumerate() {
        if round == "dead" {
            cluster.webhook().kill();
        }
        let log = Log::here(&cluster);
        play(&cluster, round, number);
        check_effects(&cluster, round);
        wait_until(&format!("writes that are let in, {round}"), LIMIT, || {
            let missing: Vec<_> = needed.difference(&log.writers(round, is_let_in)).cloned().collect();
            if missing.is_empty() { Ok(()) } else { Err(format!("nothing of {missing:?}")) }
        })
        .unwrap();
        assert_eq!(log.writers(round, is_stopped), BTreeSet::new(), "{round}");
    }

    forget_the_control_plane(&cluster);
    let log = Log::here(&cluster);
    play(&cluster, "shut", 2);
    let mut seen = BTreeSet::new();
    let waited = wait_until("writes that are stopped", LIMIT, || {
        seen = log.writers("shut", is_stopped);
        let missing: Vec<_> = needed.difference(&seen).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("nothing of {missing:?}")) }
    });
    tell(&seen);
    waited.unwrap();
    let superfluous: Vec<_> = UNSEEN.iter().filter(|(name, _)| seen.contains(*name)).collect();
    assert!(superfluous.is_empty(), "these do show that they are needed: {superfluous:?}");
}

/// Everybody on our lists, a controller by the name of its service account, a node by what all nodes have in common.
fn identities() -> BTreeSet<String> {
    let others = [NODE_PREFIX, API_SERVER];
    CONTROLLERS.into_iter().chain(COMPONENTS).chain(others).map(str::to_owned).collect()
}

/// Says of each name whether it was seen, past the harness, which shows no output of what passes.
fn tell(seen: &BTreeSet<String>) {
    let mut text = "\nwho is stopped when not on our lists:\n".to_owned();
    for name in identities() {
        let reason = UNSEEN.iter().find(|(unseen, _)| *unseen == name).map(|(_, reason)| *reason);
        let answer = if seen.contains(&name) { "yes" } else { reason.unwrap_or("NOT SEEN, and no reason") };
        text += &format!("  {name:52} {answer}\n");
    }
    std::io::stderr().write_all(text.as_bytes()).unwrap();
}

/// A policy under which what lives in no namespace needs a token too.
fn guard_everything(cluster: &Cluster) {
    let policy = json!({"apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassPolicy",
        "metadata": {"name": "default"}, "spec": {"clusterScoped": "RequireToken"}});
    cluster.set_scene(&["apply", "-f", "-"], &policy.to_string());
    let admin = cluster.kubectl("admin");
    wait_until("a guard of what lives in no namespace", LIMIT, || {
        let ran = admin.run(&["create", "clusterrole", "probe", "--verb=get", "--resource=pods", "--dry-run=server"]);
        if ran.stderr.contains("break-glass token") { Ok(()) } else { Err(ran.to_string()) }
    })
    .unwrap();
}

/// Takes the control plane off the lists that are registered. Nobody is there to put it back.
fn forget_the_control_plane(cluster: &Cluster) {
    let admin = cluster.kubectl("admin");
    for kind in ["validatingwebhookconfiguration", "mutatingwebhookconfiguration"] {
        let mut registered = admin.json(&["get", kind, "breakglass"]);
        let webhooks = registered["webhooks"].as_array_mut().unwrap().iter_mut();
        let conditions = webhooks.filter_map(|webhook| webhook["matchConditions"].as_array_mut()).flatten();
        let mut changed = 0;
        let named = |condition: &Value, name| {
            condition["name"].as_str().is_some_and(|all| all.split('.').any(|one| one == name))
        };
        for condition in conditions.filter(|condition| named(condition, "is-looked-at")) {
            let expression = condition["expression"].as_str().unwrap();
            // The lists of the control plane are behind this; other robots are not.
            let without = expression.replace("username.startsWith('system:')", "username.startsWith('nobody:')");
            assert_ne!(without, expression);
            condition["expression"] = json!(without);
            changed += 1;
        }
        assert!(changed > 0, "{registered:#}");
        admin.ok_with_input(&["replace", "-f", "-"], &registered.to_string());
    }
    let manager = cluster.part("system:kube-controller-manager", "parts");
    wait_until("the API server to know it", LIMIT, || {
        let ran = manager.run(&["-n", "prod", "create", "serviceaccount", "probe", "--dry-run=server"]);
        if ran.stderr.contains(SHUT) { Ok(()) } else { Err(ran.to_string()) }
    })
    .unwrap();
}

/// Gives everybody on the lists something to write, in namespaces of this round.
fn play(cluster: &Cluster, round: &str, number: usize) {
    let namespace = format!("prod-{round}");
    let set = |args: &[&str], input: &str| cluster.set_scene(&[&["-n", &namespace], args].concat(), input);
    let patch = |what: &str, status: Value| {
        let status = json!({"status": status}).to_string();
        set(&["patch", what, "--subresource=status", "--type=merge", "-p", &status], "");
    };
    let uid = |what: &str| set(&["get", what, "-o", "jsonpath={.metadata.uid}"], "");
    let scene = SCENE.replace("NAME", round).replace("NUMBER", &number.to_string());
    cluster.set_scene(&["apply", "--server-side", "-f", "-"], &scene);

    // Volumes that know their claims, which somebody has called bound: who binds them is shut out in one of the rounds.
    for (claim, key, source) in [
        ("grown", "awsElasticBlockStore", json!({"volumeID": format!("vol-{round}")})),
        ("attached", "csi", json!({"driver": "disks.example.com", "volumeHandle": round})),
    ] {
        let claimed = format!("pvc/{claim}");
        let mut volume = json!({"apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": {"name": format!("{claim}-{round}")}, "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "none", "capacity": {"storage": "1Gi"},
            "claimRef": {"namespace": namespace, "name": claim, "uid": uid(&claimed)}}});
        volume["spec"][key] = source;
        set(&["create", "-f", "-"], &volume.to_string());
        patch(&claimed, json!({"phase": "Bound", "capacity": {"storage": "1Gi"}}));
    }
    let device = json!({"request": "one", "driver": "devices.example.com", "pool": round, "device": "one"});
    let broken = json!({"resource": "pods", "name": "broken", "uid": uid("pod/broken")});
    patch("resourceclaim/device", json!({"allocation": {"devices": {"results": [device]}}, "reservedFor": [broken]}));
    // An hour has been missed.
    let earlier = chrono::Utc::now() - chrono::TimeDelta::hours(2);
    patch("cronjob/hourly", json!({"lastScheduleTime": earlier.format("%Y-%m-%dT%H:%M:%SZ").to_string()}));
    set(&["create", "-f", "-"], &signing_request(round));

    check_reached(|| {
        let kubelet = cluster.part(&format!("{NODE_PREFIX}{round}"), NODE_GROUP).namespace(&namespace);
        kubelet.run(&["delete", "pod", "ended", "--force", "--grace-period=0", "--wait=false"])
    });
    check_reached(|| {
        let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "unbound"},
            "target": {"apiVersion": "v1", "kind": "Node", "name": round}});
        let path = format!("/api/v1/namespaces/{namespace}/pods/unbound/binding");
        let scheduler = cluster.part("system:kube-scheduler", "parts");
        scheduler.run_with_input(&["create", "--raw", &path, "-f", "-"], &binding.to_string())
    });

    if number < 2 {
        wait_until("what every namespace has", LIMIT, || {
            let gone = cluster.kubectl("admin").namespace(&format!("{namespace}-gone"));
            gone.try_ok(&["get", "serviceaccount/default", "configmap/kube-root-ca.crt"], "")
                .map_err(|error| error.to_string())
        })
        .unwrap();
    }
    for what in [
        "pod/stuck",
        "pvc/released",
        &format!("pv/released-{round}"),
        &format!("volumeattributesclass/released-{round}"),
        &format!("namespace/{namespace}-gone"),
    ] {
        set(&["delete", what, "--wait=false"], "");
    }
}

/// Waits until `write` was let in, or stopped by us and nobody else: rights take a moment.
fn check_reached(write: impl Fn() -> Output) {
    wait_until("a write that gets as far as us", LIMIT, || {
        let ran = write();
        if ran.status == 0 || ran.stderr.contains(SHUT) { Ok(()) } else { Err(ran.to_string()) }
    })
    .unwrap();
}

/// A kubelet asks for a certificate; whoever made the request may do that in its name, so it is approved.
fn signing_request(round: &str) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("{NODE_PREFIX}{round}"));
    params.distinguished_name.push(DnType::OrganizationName, NODE_GROUP);
    let request = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
    json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": round}, "spec": {
        "request": STANDARD.encode(request), "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
        "usages": ["digital signature", "client auth"]}})
    .to_string()
}

/// Holds that the writes had their effects.
fn check_effects(cluster: &Cluster, round: &str) {
    let home = format!("prod-{round}");
    let admin = cluster.kubectl("admin").namespace(&home);
    let by = "{.items[*].metadata.labels.endpointslice\\.kubernetes\\.io/managed-by}";
    let slices = |service: &str| format!("endpointslices -l kubernetes.io/service-name={service}");
    for (what, path, expected) in [
        ("deployment/web", "{.spec.replicas} {.status.updatedReplicas}", "2 2"),
        ("statefulset/db", "{.status.replicas}", "1"),
        ("pvc/data-db-0", "{.status.phase}", "Pending"),
        ("daemonset/agent", "{.status.currentNumberScheduled}", "1"),
        ("rs/alone", "{.status.replicas}", "1"),
        ("rc/old", "{.status.replicas}", "1"),
        ("job/work", "{.status.active}", "1"),
        ("cronjob/hourly", "{.status.active[*].kind}", "Job"),
        ("pdb/web", "{.status.expectedPods}", "2"),
        ("hpa/web", "{.status.desiredReplicas}", "2"),
        ("endpoints/web", "{.metadata.name}", "web"),
        (&slices("web"), by, "endpointslice-controller.k8s.io"),
        (&slices("mirrored"), by, "endpointslicemirroring-controller.k8s.io"),
        ("pod/unbound", "{.spec.nodeName}", round),
        ("pvc/grown", "{.metadata.annotations.volume\\.kubernetes\\.io/storage-resizer}", "ebs.csi.aws.com"),
        ("pvc/user-made", "{.status.phase}", "Pending"),
        ("pod/user", "{.status.resourceClaimStatuses[*].name}", "made"),
        (&format!("csr/{round}"), "{.status.conditions[*].type}", "Approved"),
        (&format!("crd/gadgets.{round}.example.com"), "{.status.acceptedNames.kind}", "Gadget"),
        (&format!("clusterrole/e2e-sum-{round}"), "{.rules[*].resources[*]}", "pods"),
        (&format!("resourcequota/few -n {home}-new"), "{.status.used.pods}", "0"),
        (&format!("serviceaccount/default -n {home}-new"), "{.metadata.name}", "default"),
        (&format!("configmap/kube-root-ca.crt -n {home}-new"), "{.metadata.name}", "kube-root-ca.crt"),
        // What is gone.
        ("configmap/orphan", "{.metadata.name}", ""),
        ("job/finished", "{.metadata.name}", ""),
        ("pod/ended", "{.metadata.name}", ""),
        ("pvc/released", "{.metadata.name}", ""),
        (&format!("pv/released-{round}"), "{.metadata.name}", ""),
        (&format!("volumeattributesclass/released-{round}"), "{.metadata.name}", ""),
        (&format!("namespace/{home}-gone"), "{.metadata.name}", ""),
    ] {
        wait_until(&format!("{what}, {round}"), LIMIT, || {
            let found = read(&admin, what, path);
            if found == expected { Ok(()) } else { Err(format!("{found:?} and not {expected:?}")) }
        })
        .unwrap();
    }
}

/// What is at `path` in an object, and nothing where there is none.
fn read(admin: &Kubectl, what: &str, path: &str) -> String {
    let words: Vec<&str> = what.split(' ').collect();
    let path = format!("jsonpath={path}");
    admin.ok(&[&["get", "--ignore-not-found", "-o", &path], &words[..]].concat())
}

/// The API server's audit log from some moment on.
struct Log {
    path: std::path::PathBuf,
    start: u64,
}

impl Log {
    fn here(cluster: &Cluster) -> Self {
        let path = cluster.directory().join("logs/audit.log");
        let start = path.metadata().unwrap().len();
        Self { path, start }
    }

    /// Who on our lists wrote what is guarded, in the namespaces of a round or in none, and was answered so.
    fn writers(&self, round: &str, answered: fn(&Value) -> bool) -> BTreeSet<String> {
        let mut file = File::open(&self.path).unwrap();
        file.seek(SeekFrom::Start(self.start)).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let known = identities();
        let events = events.filter(|event| is_write(event, &format!("prod-{round}")) && answered(event));
        events.map(|event| identity(&event)).filter(|name| known.contains(name)).collect()
    }
}

fn is_write(event: &Value, namespace: &str) -> bool {
    let verb = event["verb"].as_str().unwrap_or_default();
    let object = &event["objectRef"];
    let resource = object["resource"].as_str().unwrap_or_default();
    let here = object["namespace"].as_str().is_none_or(|place| place.starts_with(namespace));
    let reads = ["get", "list", "watch"].contains(&verb);
    let unguarded = resource == "events" || resource == "leases" || resource.ends_with("reviews");
    !reads && !unguarded && here && event["stage"] == "ResponseComplete"
}

fn is_let_in(event: &Value) -> bool {
    event["responseStatus"]["code"].as_u64().is_some_and(|code| code < 300)
}

/// Not let in because of us, whether we were asked or could not be.
fn is_stopped(event: &Value) -> bool {
    let message = event["responseStatus"]["message"].as_str().unwrap_or_default();
    message.contains("breakglass.dev\"") && (message.contains(SHUT) || message.contains("denied the request"))
}

fn identity(event: &Value) -> String {
    let user = event["user"]["username"].as_str().unwrap_or_default();
    match user.strip_prefix(CONTROLLER_PREFIX) {
        Some(controller) => controller.to_owned(),
        None if user.starts_with(NODE_PREFIX) => NODE_PREFIX.to_owned(),
        None => user.to_owned(),
    }
}
