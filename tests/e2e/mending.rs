//! Somebody breaks what the replicas live on, the Secret with their certificates or their registration: it is put right within
//! seconds, said, and nobody's write fails.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use tests::load::{Load, Until};
use tests::replicas::{HOME, SERVER_NAME, TLS_SECRET, Watcher};
use tests::{Cluster, Setup, Together, wait_until};

use crate::LIMIT;

/// How long the Secret may stay broken. Two looks are ten seconds; on a machine that is busy with other tests each takes longer.
const MENDED: Duration = Duration::from_secs(40);

/// How long a configuration may. The leader looks every two seconds, and five are promised on a machine that has the time.
const REPAIRED: Duration = Duration::from_secs(20);

type Secret = BTreeMap<String, String>;

/// The one cluster of this file, with alice at work in prod; one test at a time, since each breaks the same things.
fn cluster() -> (Arc<Cluster>, MutexGuard<'static, ()>) {
    static TURN: Mutex<()> = Mutex::new(());
    static CLUSTER: Together = Together::new(|| {
        let cluster = Setup::new("mending").nodes().start().unwrap();
        cluster.install_manifests().unwrap();
        cluster.open("alice", "INC-620", "prod");
        cluster
    });
    let cluster = CLUSTER.get();
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    wait_until("all to be well", LIMIT, || cluster.watcher().is_well(2)).unwrap();
    (cluster, turn)
}

/// Each way to break the Secret, made of what it holds; `None` deletes it.
fn broken(good: &Secret) -> Vec<(&'static str, Option<Secret>)> {
    let with = |changes: &[(&str, &str)]| {
        let changes = changes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Some(good.clone().into_iter().chain(changes).collect::<Secret>())
    };
    let leaf = |name: &str, years: (i32, i32)| {
        let key = KeyPair::from_pem(&good["ca.key"]).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&good["ca.crt"], key).unwrap();
        signed(&issuer, name, years)
    };
    let other = authority();
    let foreign = signed(&other, SERVER_NAME, (2026, 2036));
    let (misnamed, expired) = (leaf("breakglass-webhook.default.svc", (2026, 2036)), leaf(SERVER_NAME, (2020, 2021)));
    vec![
        ("emptied", Some(Secret::new())),
        ("deleted", None),
        ("garbage in tls.crt", with(&[("tls.crt", "garbage")])),
        ("a leaf of another CA", with(&[("tls.crt", &foreign.0), ("tls.key", &foreign.1)])),
        ("a leaf of another name", with(&[("tls.crt", &misnamed.0), ("tls.key", &misnamed.1)])),
        ("a leaf that has ended", with(&[("tls.crt", &expired.0), ("tls.key", &expired.1)])),
        ("the key of another CA", with(&[("ca.key", &other.key().serialize_pem())])),
    ]
}

/// A CA that nobody trusts.
fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "somebody else's CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A leaf for one name, good from the first of these years to the second; certificate and key.
fn signed(issuer: &Issuer<'_, KeyPair>, name: &str, (from, to): (i32, i32)) -> (String, String) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    (params.not_before, params.not_after) = (rcgen::date_time_ymd(from, 1, 1), rcgen::date_time_ymd(to, 1, 1));
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, issuer).unwrap().pem(), key.serialize_pem())
}

fn break_it(cluster: &Cluster, watcher: &Watcher<'_>, secret: Option<&Secret>) {
    match secret {
        Some(secret) => watcher.put_secret(secret),
        None => drop(cluster.set_scene(&["-n", HOME, "delete", "secret", TLS_SECRET], "")),
    }
}

/// What each replica shows is believed by both configurations.
fn check_believed(cluster: &Cluster, watcher: &Watcher<'_>, what: &str) -> Result<(), String> {
    let all = watcher.trusted().map_err(|error| format!("{error:#}"))?;
    for replica in cluster.nodes().running() {
        for trusted in &all {
            let shown = watcher.leaf(&replica, trusted);
            assert!(shown.is_ok(), "{what}: {} is not believed: {}", replica.pod, shown.unwrap_err());
        }
    }
    Ok(())
}

/// T-07: whatever is put into the Secret, or taken out of it, is put right within seconds while people write: nobody's write
/// fails, no replica shows what the API server would not believe, and an Event says what happened.
#[test]
fn a_broken_secret_is_mended_under_load() {
    let (cluster, _turn) = cluster();
    let watcher = cluster.watcher();
    let load = Load::start(&cluster.kubectl("alice"), "prod", 20, Until::Stopped).unwrap();
    let good = watcher.secret().unwrap();
    for (what, secret) in broken(&good) {
        let began = Instant::now();
        break_it(&cluster, &watcher, secret.as_ref());
        let mended = wait_until("the Secret to be mended", MENDED, || {
            check_believed(&cluster, &watcher, what)?;
            watcher.is_well(2)
        });
        mended.unwrap_or_else(|error| panic!("{what}: {error:#}"));
        println!("{what}: mended after {:?}", began.elapsed());
        assert_eq!(watcher.secret().unwrap()["ca.crt"], good["ca.crt"], "{what}: the CA was good, and held");
    }
    let tally = load.stop().unwrap();
    println!("{tally}");
    assert!(tally.landed >= 10 && tally.failed == 0, "{tally}");
    let said = wait_until("the Events", LIMIT, || {
        let [mended, rotated] =
            ["CertificateMended", "CertificateRotated"].map(|reason| watcher.events(reason, "Secret"));
        let all = !mended.is_empty() && !rotated.is_empty();
        if all { Ok(mended) } else { Err(format!("{mended:?} {rotated:?}")) }
    })
    .unwrap();
    assert_eq!(said[0]["type"], "Warning");
}

/// T-02: somebody puts another CA and a leaf of it into the Secret, such as those of a backup. The replicas go over to it one after
/// the other, both are trusted meanwhile, and no write fails.
#[test]
fn another_ca_in_the_secret_is_gone_over_to() {
    let (cluster, _turn) = cluster();
    let watcher = cluster.watcher();
    let load = Load::start(&cluster.kubectl("alice"), "prod", 50, Until::Stopped).unwrap();
    let other = authority();
    let (certificate, key) = signed(&other, SERVER_NAME, (2026, 2036));
    let texts =
        [("ca.crt", other.pem()), ("ca.key", other.key().serialize_pem()), ("tls.crt", certificate), ("tls.key", key)];
    watcher.put_secret(&texts.into_iter().map(|(name, text)| (name.to_owned(), text)).collect());
    wait_until("all to be well", LIMIT, || {
        check_believed(&cluster, &watcher, "another CA")?;
        watcher.is_well(2)
    })
    .unwrap();
    assert_eq!(watcher.secret().unwrap()["ca.crt"], other.pem());
    let tally = load.stop().unwrap();
    println!("{tally}");
    assert!(tally.landed >= 10 && tally.failed == 0, "{tally}");
}

/// T-07: the same Secrets, found by replicas that start: they come up by themselves, and prod is closed to whoever has no token.
#[test]
fn replicas_that_start_with_a_broken_secret_come_up() {
    let (cluster, _turn) = cluster();
    let watcher = cluster.watcher();
    for (what, secret) in broken(&watcher.secret().unwrap()) {
        let began = Instant::now();
        let before = cluster.nodes().running();
        // Stopped, nobody mends it; killed, each is started again by its kubelet.
        for signal in ["STOP", "KILL"] {
            before.iter().for_each(|replica| cluster.nodes().signal(&replica.pod, signal).unwrap());
            if signal == "STOP" {
                break_it(&cluster, &watcher, secret.as_ref());
            }
        }
        let up = wait_until("all to be well", LIMIT, || {
            let old = cluster.nodes().running().iter().any(|replica| before.contains(replica));
            if old { Err("not started again".to_owned()) } else { watcher.is_well(2) }
        });
        up.unwrap_or_else(|error| panic!("{what}: {error:#}"));
        println!("{what}: up again after {:?}", began.elapsed());
        let shut = wait_until("prod to be closed by them", LIMIT, || {
            let ran = cluster.kubectl("bob").run(&["-n", "prod", "create", "configmap", "settings"]);
            assert_eq!(ran.status, 1, "{what}: {ran}");
            if ran.our_refusal().is_some() { Ok(()) } else { Err(ran.to_string()) }
        });
        shut.unwrap_or_else(|error| panic!("{what}: {error:#}"));
        cluster.kubectl("alice").ok(&["-n", "prod", "create", "configmap", &what.replace(' ', "-").to_lowercase()]);
    }
}

/// T-06: a configuration that an admin edits (whom it calls, what happens when nobody answers, whom it believes) or deletes is
/// what it was within five seconds; an Event on it says so, and it is counted.
#[test]
fn an_edited_or_deleted_registration_is_repaired() {
    let (cluster, _turn) = cluster();
    let (watcher, admin) = (cluster.watcher(), cluster.kubectl("admin"));
    let repairs = |kind: &str, found: &str| {
        watcher.metric(&format!("breakglass_registration_repairs_total{{kind=\"{kind}\",found=\"{found}\"}}"))
    };
    let before = ["mutating", "validating"].map(|kind| (repairs(kind, "edited"), repairs(kind, "deleted")));
    for (index, kind) in ["mutating", "validating"].into_iter().enumerate() {
        let object = format!("{kind}webhookconfiguration/breakglass");
        let webhooks = || admin.json(&["get", &object])["webhooks"].clone();
        let good = webhooks();
        let other = authority().pem();
        let bundle = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, other);
        let edit = |path: &str, value: &str| {
            let patch = format!(r#"[{{"op": "replace", "path": "/webhooks/0/{path}", "value": {value}}}]"#);
            admin.ok(&["patch", &object, "--type=json", "-p", &patch]);
        };
        let policy = if good[0]["failurePolicy"] == "Fail" { "\"Ignore\"" } else { "\"Fail\"" };
        for (path, value) in
            [("failurePolicy", policy), ("rules", "[]"), ("clientConfig/caBundle", &format!("\"{bundle}\"")), ("", "")]
        {
            let began = Instant::now();
            if path.is_empty() {
                admin.ok(&["delete", &object]);
            } else {
                edit(path, value);
            }
            wait_until("the repair", REPAIRED, || {
                let now = admin.run(&["get", &object, "-o", "jsonpath={.webhooks}"]);
                let now: serde_json::Value = serde_json::from_str(&now.stdout).unwrap_or_default();
                if now == good { Ok(()) } else { Err(format!("{object} {path}: {now}")) }
            })
            .unwrap();
            println!("{object} {path}: repaired after {:?}", began.elapsed());
        }
        wait_until("the counts", LIMIT, || {
            let counted = (repairs(kind, "edited") - before[index].0, repairs(kind, "deleted") - before[index].1);
            if counted == (3.0, 1.0) { Ok(()) } else { Err(format!("{kind}: {counted:?}")) }
        })
        .unwrap();
    }
    for kind in ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"] {
        wait_until("the Events", LIMIT, || {
            let events = watcher.events("RegistrationRepaired", kind);
            let said =
                |word: &str| events.iter().any(|event| event["note"].as_str().unwrap_or_default().contains(word));
            if said("edited") && said("deleted") { Ok(()) } else { Err(format!("{events:?}")) }
        })
        .unwrap();
    }
}
