//! Who may call the webhook, and how: the versions of TLS and HTTP, the certificate that the API server shows, and what others get
//! who reach the port.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tests::certs::{Authority, Pem, write_private};
use tests::other_webhook::{Asked, OtherWebhook, Reaction};
use tests::raw::Raw;
use tests::review::{dry_run, review};
use tests::{Cluster, Setup, wait_until};

use crate::{LIMIT, check_refused};

/// The Secret with the CA of those who may call.
const CALLERS: &str = "breakglass-webhook-callers";

/// What a server that shakes no hands says: an alert, or nothing, and the end.
fn answer_to(port: u16, hello: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(hello).unwrap();
    let mut answer = Vec::new();
    // It may end the connection without a word, or by a reset once it has said why.
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// The first message of a client that speaks this version of TLS at most, and these ciphers.
fn hello(version: [u8; 2], ciphers: &[[u8; 2]]) -> Vec<u8> {
    let mut body = [&version[..], &[7; 32], &[0]].concat();
    body.extend(u16::try_from(ciphers.len() * 2).unwrap().to_be_bytes());
    body.extend(ciphers.concat());
    body.extend([1, 0]);
    // Groups (x25519, P-256) and signatures (ECDSA and RSA with SHA-256).
    let extensions = [&[0, 10, 0, 6, 0, 4, 0, 29, 0, 23][..], &[0, 13, 0, 6, 0, 4, 4, 3, 4, 1]].concat();
    body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend(extensions);
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[1][..], &length[1..], &body].concat();
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    [&[22, 3, 1][..], &length, &message].concat()
}

/// T-08: TLS below 1.2, ciphers without forward secrecy and plain HTTP are refused; HTTP/1.1, HTTP/2 and no word of either work.
#[test]
fn tls_and_http_are_spoken_in_their_current_versions_alone() {
    let port = Cluster::shared().webhook().port();
    let (forward_secret, weak) = ([0xc0, 0x2b], [0x00, 0x2f]);
    // An alert (21) that is fatal (2): protocol_version (70), or handshake_failure (40).
    for (what, version, cipher, why) in [
        ("TLS 1.0", [3, 1], [0xc0, 0x09], 70),
        ("TLS 1.1", [3, 2], [0xc0, 0x09], 70),
        ("RSA without forward secrecy", [3, 3], weak, 40),
        ("RC4", [3, 3], [0x00, 0x05], 40),
    ] {
        let answer = answer_to(port, &hello(version, &[cipher]));
        assert_eq!(answer.first(), Some(&21), "{what}: {answer:?}");
        assert_eq!(&answer[5..7], [2, why], "{what}");
    }
    // The same message is answered where it offers something good.
    assert_eq!(answer_to_some(port, &hello([3, 3], &[forward_secret])), 22);
    let plain = answer_to(port, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(!plain.starts_with(b"HTTP/"), "{}", String::from_utf8_lossy(&plain));

    let body = dry_run(review("carol@example.com", "DELETE", ("prod", "settings"))).to_string();
    for (offered, agreed) in
        [(&["http/1.1"][..], Some("http/1.1")), (&["http/1.1", "acme"], Some("http/1.1")), (&[], None)]
    {
        let mut webhook = Raw::speaking(port, offered).unwrap();
        assert_eq!(webhook.shake().unwrap().as_deref(), agreed, "{offered:?}");
        assert_eq!(webhook.post("/gate", body.as_bytes()).unwrap().status, 200, "{offered:?}");
    }
    speak_http2(port);
}

/// The first byte of the answer of a server that waits for more.
fn answer_to_some(port: u16, hello: &[u8]) -> u8 {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(hello).unwrap();
    let mut first = [0];
    stream.read_exact(&mut first).unwrap();
    first[0]
}

fn speak_http2(port: u16) {
    let mut webhook = Raw::speaking(port, &["h2", "http/1.1"]).unwrap();
    assert_eq!(webhook.shake().unwrap().as_deref(), Some("h2"));
    // Settings, and then `GET https://localhost/livez` as RFC 7541 writes it: three from its table, two in plain words.
    let head = [&[0x82, 0x87, 0x04, 6][..], b"/livez", &[0x01, 9], b"localhost"].concat();
    let length = u8::try_from(head.len()).unwrap();
    let frames = [&[0, 0, 0, 4, 0, 0, 0, 0, 0][..], &[0, 0, length, 1, 5, 0, 0, 0, 1], &head].concat();
    webhook.send(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frames[..]].concat()).unwrap();
    loop {
        let frame = webhook.bytes(9).unwrap();
        let length = usize::from(frame[0]) << 16 | usize::from(frame[1]) << 8 | usize::from(frame[2]);
        let payload = webhook.bytes(length).unwrap();
        if frame[3] == 1 {
            // `:status 200` is the eighth entry of the table.
            return assert_eq!(payload[0], 0x88, "{payload:?}");
        }
    }
}

/// What whoever shows this certificate is answered; why not, where there is no connection.
fn ask(port: u16, login: Option<&Pem>) -> Result<(u16, String), String> {
    let mut webhook = match login {
        Some(login) => Raw::connect_as(port, login)?,
        None => Raw::connect(port)?,
    };
    let body = dry_run(review("carol@example.com", "DELETE", ("prod", "settings"))).to_string();
    webhook.post("/gate", body.as_bytes()).map(|answer| (answer.status, answer.body))
}

fn put_ca(cluster: &Cluster, authorities: &[&Authority]) {
    let bundle: String = authorities.iter().map(|authority| authority.certificate()).collect();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": CALLERS, "namespace": "breakglass-system"},
        "data": {"ca.crt": STANDARD.encode(bundle)}});
    cluster.set_scene(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &secret.to_string());
}

/// Has the API server show this certificate to the webhook; gives the flag that says so.
fn show(cluster: &Cluster, port: u16, login: &Pem) -> String {
    let directory = cluster.directory().join("cluster/pki");
    let kubeconfig = directory.join("webhooks.kubeconfig");
    let user = json!({"client-certificate-data": STANDARD.encode(&login.certificate),
        "client-key-data": STANDARD.encode(&login.key)});
    let name = format!("breakglass-webhook.breakglass-system.svc:{port}");
    let text = json!({"apiVersion": "v1", "kind": "Config", "users": [{"name": name, "user": user}]});
    write_private(&kubeconfig, &text.to_string()).unwrap();
    let plugin = |name: &str| {
        json!({"name": name, "configuration": {"apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "WebhookAdmissionConfiguration", "kubeConfigFile": kubeconfig}})
    };
    let plugins = ["MutatingAdmissionWebhook", "ValidatingAdmissionWebhook"].map(plugin);
    let config =
        json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration", "plugins": plugins});
    let path = directory.join("admission.yaml");
    write_private(&path, &config.to_string()).unwrap();
    format!("--admission-control-config-file={}", path.display())
}

/// T-09: where callers have to show a certificate, no other is answered: not who shows none or one of another name, and who shows
/// one of another CA or one that is over gets no connection. The API server shows the right one, and everything works; the CA is
/// changed while the webhook runs.
#[test]
fn only_the_api_server_is_answered_where_it_shows_a_certificate() {
    let mut cluster = Setup::new("callers").webhook().start().unwrap_or_else(|error| panic!("{error:#}"));
    cluster.namespace("prod-callers");
    let (first, next, other) = (Authority::new().unwrap(), Authority::new().unwrap(), Authority::new().unwrap());
    let name = "kube-apiserver";
    let right = first.client(name, None).unwrap();
    put_ca(&cluster, &[&first]);
    cluster.webhook().stop().unwrap();
    let flags = [format!("--client-ca-secret={CALLERS}"), format!("--client-name={name}")];
    let webhook = cluster.webhook().copy().with_flags(&[&flags[0], &flags[1]]);
    let port = webhook.port();
    webhook.launch().unwrap();
    wait_until("the webhook to be ready", LIMIT, || tests::probe::https(port, "/readyz")).unwrap();

    let words = "only the API server is answered here, by the certificate that it shows: see --client-ca-secret of the \
        webhook, and --admission-control-config-file of kube-apiserver\n";
    assert_eq!(ask(port, None), Ok((401, words.to_owned())));
    assert_eq!(ask(port, Some(&first.client("somebody", None).unwrap())), Ok((401, words.to_owned())));
    for (what, login) in [
        ("another CA", other.client(name, None).unwrap()),
        ("a certificate that is over", first.expired(name).unwrap()),
        ("a server's certificate", first.server(&[name]).unwrap()),
    ] {
        assert!(ask(port, Some(&login)).is_err(), "{what}");
    }
    assert_eq!(ask(port, Some(&right)).unwrap().0, 200);

    // The API server shows none yet: prod is shut.
    let bob = cluster.kubectl("bob").namespace("prod-callers");
    let ran = bob.run(&["create", "configmap", "settings"]);
    assert!(ran.status == 1 && ran.stderr.contains("failed calling webhook \"gate.breakglass.dev\""), "{ran}");
    let flag = show(&cluster, port, &right);
    cluster.restart_api_server(&[flag]).unwrap();
    let refused = wait_until("the API server to be answered", LIMIT, || {
        let ran = bob.run(&["create", "configmap", "settings"]);
        if ran.our_refusal().is_some() { Ok(ran) } else { Err(ran.to_string()) }
    })
    .unwrap();
    check_refused(&refused, "configmaps \"settings\" (create) by bob@example.com", "-n prod-callers");
    cluster.open("bob", "INC-709", "prod-callers");
    bob.ok(&["create", "configmap", "settings"]);

    // Another CA, beside this one and then alone.
    let new = next.client(name, None).unwrap();
    assert!(ask(port, Some(&new)).is_err());
    let until = |login: &Pem, wanted: bool| {
        wait_until("the CA to be known", LIMIT, || match ask(port, Some(login)) {
            Ok((200, _)) if wanted => Ok(()),
            Err(_) if !wanted => Ok(()),
            answer => Err(format!("{answer:?}")),
        })
        .unwrap();
    };
    put_ca(&cluster, &[&first, &next]);
    until(&new, true);
    assert_eq!(ask(port, Some(&right)).unwrap().0, 200);
    bob.ok(&["delete", "configmap", "settings"]);
    put_ca(&cluster, &[&next]);
    until(&right, false);
    assert_eq!(ask(port, Some(&new)).unwrap().0, 200);
    webhook.stop().unwrap();
}

/// T-10: whoever reaches the port and makes up a review learns nothing that is stored, changes nothing, and leaves at most a
/// record of a write that never was, which says so.
#[test]
fn a_review_that_somebody_made_up_is_harmless() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-made-up");
    let token = cluster.open("alice", "INC-710", "prod-made-up");
    let canary = "do-not-tell-4f9c";
    let alice = cluster.kubectl("alice").namespace("prod-made-up");
    alice.ok(&["create", "configmap", "settings", &format!("--from-literal=key={canary}")]);
    alice.ok(&["create", "secret", "generic", "settings", &format!("--from-literal=key={canary}")]);
    let before = cluster.changes("INC-710").len();
    let stored = alice.json(&["get", "configmap", "settings"]);

    let mut answers = Vec::new();
    for operation in ["UPDATE", "DELETE", "CREATE"] {
        for path in ["/stamp", "/gate"] {
            for user in [
                "alice@example.com",
                "carol@example.com",
                "system:serviceaccount:kube-system:generic-garbage-collector",
            ] {
                let name = if operation == "CREATE" { "forged" } else { "settings" };
                let mut review = review(user, operation, ("prod-made-up", name));
                if operation != "CREATE" {
                    // Whoever may read knows it.
                    review["request"]["oldObject"]["metadata"]["uid"] = stored["metadata"]["uid"].clone();
                }
                let body = review.to_string();
                let answer = Raw::connect(cluster.webhook().port()).unwrap().post(path, body.as_bytes()).unwrap();
                assert_eq!(answer.status, 200, "{answer:?}");
                answers.push(answer);
            }
        }
    }
    for answer in &answers {
        assert!(!answer.body.contains(canary), "{answer:?}");
        let response = answer.response();
        let fields = response.as_object().unwrap().keys();
        let known = ["uid", "allowed", "status", "patch", "patchType", "auditAnnotations", "warnings"];
        fields.for_each(|field| assert!(known.contains(&field.as_str()), "{field}: {response}"));
    }
    // Nothing is written but records, under a token that is really open.
    assert_eq!(alice.json(&["get", "configmap", "settings"]), stored);
    assert_eq!(alice.run(&["get", "configmap", "forged"]).status, 1);
    let recorded = cluster.changes("INC-710").len();
    assert!(recorded > before && recorded <= before + 3, "{recorded}");
    wait_until("what never was to be told as such", Duration::from_secs(120), || {
        let landed = |change: &Value| change["status"]["outcome"] != "NeverLanded";
        let changes = cluster.changes("INC-710");
        let open = changes.iter().filter(|change| change["status"]["phase"] == "Admitted").count();
        match changes.iter().filter(|change| landed(change)).count() {
            count if open == 0 && count == before => Ok(()),
            count => Err(format!("{count} of {} landed, {open} are open, {before} before", changes.len())),
        }
    })
    .unwrap();
    cluster.plugin("alice").ok(&["close", &token]);
}

/// the API server asks again after a second where it is told to, and fails at once where it is not: what our own 503 rests
/// on.
#[test]
fn who_says_when_to_come_again_is_asked_again() {
    let cluster = Cluster::shared();
    cluster.namespace("dev-busy");
    let alice = cluster.kubectl("alice").namespace("dev-busy");
    for (name, again) in [("busy-again", Some(1)), ("busy-never", None)] {
        let calls = std::sync::atomic::AtomicU32::new(0);
        let webhook = OtherWebhook::start(cluster, Asked::Validating, (name, "dev-busy"), move |_| {
            match calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
                0 | 1 => Reaction::Busy(again),
                _ => Reaction::Nothing,
            }
        });
        let begun = std::time::Instant::now();
        let ran = alice.run(&["create", "configmap", name]);
        let (took, asked) = (begun.elapsed(), webhook.take_seen().len());
        match again {
            Some(_) => {
                assert_eq!((ran.status, asked), (0, 3), "{ran}");
                assert!(took >= Duration::from_secs(2), "{took:?}");
            }
            None => {
                assert_eq!((ran.status, asked), (1, 1), "{ran}");
                assert!(ran.stderr.contains("failed calling webhook \"other.e2e.example.com\""), "{ran}");
            }
        }
    }
}
