//! Bytes that no API server sends, past every client that would keep them back: whatever comes, nothing is let in by it, nobody
//! gets another's answer, and the next review is decided as if nothing had been.

use std::sync::Arc;

use serde_json::{Value, json};
use tests::raw::{Answer, Raw, request};
use tests::review::review;
use tests::{Cluster, Setup, Together, probe};

/// What the Deployment gives a replica.
pub(crate) const MEMORY_LIMIT: u64 = 384 << 20;

/// A cluster of these tests' own: whoever reads all objects of a cluster may stumble over theirs.
pub(crate) fn cluster() -> Arc<Cluster> {
    static CLUSTER: Together = Together::new(|| {
        let cluster = Setup::new("hostile").webhook().start().unwrap_or_else(|error| panic!("{error:#}"));
        // One that needs a token, one in which alice has one, and one that needs none.
        for namespace in ["prod-closed", "prod-open", "dev-open"] {
            cluster.namespace(namespace);
            cluster.widgets(namespace).unwrap();
        }
        for person in ["alice", "admin"] {
            cluster.open(person, "INC-465", "prod-open");
        }
        cluster
    });
    CLUSTER.get()
}

fn connect() -> Raw {
    Raw::connect(cluster().webhook().port()).unwrap()
}

/// What one connection that sends these bytes is answered; why not, where it is not.
fn say(bytes: &[u8]) -> Result<Answer, String> {
    let mut webhook = connect();
    // Who refuses may close before all of it is sent: what was answered counts.
    let sent = webhook.send(bytes);
    webhook.answer().map_err(|error| format!("{sent:?}, {error}"))
}

/// A review of carol's, who has no token, with this uid.
fn prod(uid: &str) -> Value {
    let mut review = review("carol@example.com", "CREATE", ("prod", "settings"));
    review["request"]["uid"] = json!(uid);
    review
}

/// Holds that an answer refuses the write of [`prod`], and is the answer to this uid.
#[track_caller]
fn check_refusal(answer: &Answer, uid: &str) {
    let response = answer.response();
    assert_eq!(
        (answer.status, &response["uid"], &response["allowed"]),
        (200, &json!(uid), &json!(false)),
        "{answer:?}"
    );
    let message = response["status"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("prod is run by GitOps: configmaps \"settings\" (create) by carol@example.com"),
        "{message}"
    );
}

/// Holds that an answer is a client's error, with nothing in it that would let anything in.
#[track_caller]
fn check_error(answer: &Answer, statuses: &[u16], what: &str) {
    assert!(statuses.contains(&answer.status), "{what}: {answer:?}");
    assert!(!answer.body.contains("\"allowed\""), "{what}: {answer:?}");
}

/// Holds that the webhook is as before, and did not need more memory than it is given.
#[track_caller]
fn check_well() {
    let cluster = cluster();
    let webhook = cluster.webhook();
    for path in ["/livez", "/readyz"] {
        probe::https(webhook.port(), path).unwrap();
    }
    check_refusal(&connect().post("/gate", prod("after").to_string().as_bytes()).unwrap(), "after");
    let peak = webhook.peak_memory().unwrap();
    assert!(peak < MEMORY_LIMIT, "it took {} MiB", peak >> 20);
}

/// H-01: a review that is cut short at any byte is an error of who sent it.
#[test]
fn a_review_cut_at_any_byte_is_an_error() {
    let whole = prod("cut").to_string().into_bytes();
    for path in ["/gate", "/stamp"] {
        let mut webhook = connect();
        for end in 0..whole.len() {
            let answer = webhook.post(path, &whole[..end]).unwrap();
            check_error(&answer, &[400], &format!("{path} cut at {end}"));
        }
    }
    // Announced whole, and then the sender is gone.
    for end in [0, 1, whole.len() / 2, whole.len() - 1] {
        let announced = request("/gate", &whole);
        let mut webhook = connect();
        webhook.send(&announced[..announced.len() - whole.len() + end]).unwrap();
        webhook.finish().unwrap();
        if let Ok(answer) = webhook.answer() {
            check_error(&answer, &[400, 408], &format!("gone after {end}"));
        }
    }
    check_well();
}

/// Bytes as gzip has them, without making them any smaller.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let crc = bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
    });
    let length = u16::try_from(bytes.len()).unwrap();
    let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    let (sizes, size) = ([length.to_le_bytes(), (!length).to_le_bytes()].concat(), u32::from(length).to_le_bytes());
    [&head[..], &sizes, bytes, &(!crc).to_le_bytes(), &size].concat()
}

/// A request with these headers besides `Host`, each line with its end.
fn with_headers(start: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    [format!("{start} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").as_bytes(), body].concat()
}

/// H-01: what is no POST of JSON of a known length to one of two paths is an error of who sent it, however large.
#[test]
fn what_is_no_review_is_an_error() {
    let whole = prod("odd").to_string().into_bytes();
    let json = |more: &str| format!("Content-Type: application/json\r\nContent-Length: {}\r\n{more}", whole.len());
    let chunked = |more: &str| format!("Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n{more}");
    let chunks = [format!("{:x}\r\n", whole.len()).as_bytes(), &whole, b"\r\n0\r\n\r\n"].concat();
    let zipped = gzip(&whole);
    let gzip_head =
        format!("Content-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n", zipped.len());
    let many = "X-A: b\r\n".repeat(10_000);
    let long = format!("X-Long: {}\r\n", "x".repeat(1 << 20));
    let length = |length: &str| format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
    let post = "POST /gate";
    let cases: Vec<(&str, &[u16], Vec<u8>)> = vec![
        ("nothing", &[400], with_headers(post, &length("0"), b"")),
        ("no JSON", &[400], with_headers(post, &length("5"), b"hello")),
        ("gzip", &[400, 415], with_headers(post, &gzip_head, &zipped)),
        ("chunks", &[411], with_headers(post, &chunked(""), &chunks)),
        ("chunks and a length", &[400, 411], with_headers(post, &chunked(&length("5")), &chunks)),
        ("two lengths", &[400], with_headers(post, &json("Content-Length: 5\r\n"), &whole)),
        ("no length", &[400, 411], with_headers(post, "Content-Type: application/json\r\n", b"")),
        ("a length below none", &[400, 411], with_headers(post, &length("-1"), &whole)),
        ("a length that is no number", &[400, 411], with_headers(post, &length("0x10"), &whole)),
        ("a length past all numbers", &[400, 411, 413], with_headers(post, &length("99999999999999999999999"), b"")),
        ("a length past the limit", &[413], with_headers(post, &length("33554433"), b"")),
        ("a megabyte of one header", &[400, 431], with_headers(post, &json(&long), &whole)),
        ("ten thousand headers", &[400, 431], with_headers(post, &json(&many), &whole)),
        (
            "a megabyte of a path",
            &[400, 414, 431],
            with_headers(&format!("POST /{}", "g".repeat(1 << 20)), &json(""), &whole),
        ),
        ("an old version", &[400, 505], [b"POST /gate HTTP/3.7\r\n\r\n", &whole[..]].concat()),
        ("no HTTP", &[400], b"\x00\x01\x02 hello\r\n\r\n".to_vec()),
    ];
    for (what, statuses, bytes) in &cases {
        match say(bytes) {
            Ok(answer) => check_error(&answer, statuses, what),
            // Who refuses in the middle of much may close before that is read, and then its answer is lost on the way.
            Err(error) => assert!(bytes.len() > 1 << 16, "{what}: {error}"),
        }
    }
    for method in ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
        for path in ["/gate", "/stamp"] {
            let answer = say(&with_headers(&format!("{method} {path}"), &json(""), &whole)).unwrap();
            check_error(&answer, &[400, 405], &format!("{method} {path}"));
        }
    }
    for path in
        ["/", "/gate/", "//gate", "/GATE", "/gate/../stamp", "/gate%2f", "/gates", "/metrics", "/debug/pprof", "/*"]
    {
        check_error(&connect().post(path, &whole).unwrap(), &[404], path);
    }
    check_well();
}

/// H-01: a review is JSON and says so.
#[test]
fn a_review_that_does_not_say_that_it_is_json_is_an_error() {
    let whole = prod("typed").to_string().into_bytes();
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/yaml", ""] {
        let head = format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", whole.len());
        let answer = say(&with_headers("POST /gate", &head, &whole)).unwrap();
        check_error(&answer, &[400, 415], kind);
    }
}

/// H-01: who asks first whether to send is told to, and answered; who announces too much is told not to.
#[test]
fn who_waits_for_a_sign_to_continue_gets_it() {
    let whole = prod("waits").to_string().into_bytes();
    let head = |length: usize| {
        let fields = format!("Content-Type: application/json\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n");
        with_headers("POST /gate", &fields, b"")
    };
    let mut webhook = connect();
    webhook.send(&head(whole.len())).unwrap();
    assert_eq!(webhook.answer().unwrap().status, 100);
    webhook.send(&whole).unwrap();
    check_refusal(&webhook.answer().unwrap(), "waits");
    check_error(&say(&head(64 << 20)).unwrap(), &[413], "64 MiB announced");
}

/// H-01: bodies as large as any that are read, of no sense, one after another and at once, take no more memory than there is.
#[test]
fn large_nonsense_takes_no_more_memory_than_there_is() {
    let junk: [(&str, Vec<u8>); 4] = [
        ("brackets", vec![b'['; 31 << 20]),
        ("spaces", vec![b' '; 31 << 20]),
        ("one string", [&b"\""[..], &vec![b'x'; 31 << 20], b"\""].concat()),
        ("an object in a review", {
            let filler = format!("{{\"a\":[{}0]}}", "0,".repeat(15 << 20));
            prod("large").to_string().replace("\"dryRun\":false", &format!("\"dryRun\":{filler}")).into_bytes()
        }),
    ];
    let send = |(what, body): &(&str, Vec<u8>)| {
        // As above: a connection that ends without an answer lets nothing in.
        if let Ok(answer) = connect().post("/gate", body) {
            check_error(&answer, &[400, 408, 503], what);
        }
    };
    junk.iter().for_each(send);
    std::thread::scope(|scope| {
        let all = junk.each_ref().map(|each| scope.spawn(move || send(each)));
        all.into_iter().for_each(|thread| thread.join().unwrap());
    });
    check_well();
}

/// H-02: a review of another version, without a request or a uid, or that says anything twice is an error; any uid that is one
/// is answered to as it is.
#[test]
fn a_review_that_is_not_quite_one_is_an_error() {
    let whole = prod("almost").to_string();
    let mut webhook = connect();
    let twice = |key: &str, value: &str| {
        let (at, _) =
            whole.match_indices(&format!("\"{key}\":")).next().unwrap_or_else(|| panic!("no {key} in {whole}"));
        format!("{}\"{key}\":{value},{}", &whole[..at], &whole[at..])
    };
    let mut cases: Vec<(String, String)> = [
        ("apiVersion", "\"admission.k8s.io/v1\""),
        ("kind", "\"AdmissionReview\""),
        ("request", "null"),
        ("uid", "\"another\""),
        ("operation", "\"DELETE\""),
        ("userInfo", "{\"username\":\"system:apiserver\"}"),
        ("username", "\"system:apiserver\""),
        ("groups", "[\"breakglass.dev:override\"]"),
        ("namespace", "\"dev\""),
        ("object", "{}"),
        ("oldObject", "{}"),
        ("dryRun", "true"),
        ("resource", "{\"group\":\"\",\"version\":\"v1\",\"resource\":\"events\"}"),
    ]
    .map(|(key, value)| (format!("{key} twice"), twice(key, value)))
    .into();
    let version = |version: &str| whole.replace("admission.k8s.io/v1", version);
    let uid = |uid: &str| whole.replace("\"almost\"", uid);
    cases.extend(
        [
            ("v1beta1", version("admission.k8s.io/v1beta1")),
            ("v2", version("admission.k8s.io/v2")),
            ("no version", version("")),
            ("another group", version("example.com/v1")),
            ("no uid", uid("null")),
            ("an empty uid", uid("\"\"")),
            ("a uid without end", uid(&json!("u".repeat(100_000)).to_string())),
            ("a uid that is a number", uid("7")),
            ("a uid that is a list", uid("[\"almost\"]")),
            ("no request", "{\"apiVersion\":\"admission.k8s.io/v1\",\"kind\":\"AdmissionReview\"}".to_owned()),
            ("a response", whole.replace("\"request\":", "\"response\":")),
            ("a list", format!("[{whole}]")),
            ("more after it", format!("{whole} {{}}")),
            ("a mark of the byte order", format!("\u{feff}{whole}")),
        ]
        .map(|(what, text)| (what.to_owned(), text)),
    );
    for (what, text) in &cases {
        for path in ["/gate", "/stamp"] {
            check_error(&webhook.post(path, text.as_bytes()).unwrap(), &[400], &format!("{path} {what}"));
        }
    }
    for good in ["u", "0e7e2a3c-0000-4000-8000-000000000002", "\"quoted\\\" \n\u{1f600}", &"u".repeat(256)] {
        check_refusal(&webhook.post("/gate", prod(good).to_string().as_bytes()).unwrap(), good);
    }
    check_well();
}

/// H-11: on one connection, many requests at once are answered in their order; on many connections, each with its own uid;
/// one that is half closed or reset in the middle leaves nothing of it to another.
#[test]
fn everybody_gets_the_answer_to_their_own_question() {
    let ask = |uid: &str| request("/gate", prod(uid).to_string().as_bytes());
    std::thread::scope(|scope| {
        for connection in 0..8 {
            scope.spawn(move || {
                let uids: Vec<String> = (0..40).map(|number| format!("u-{connection}-{number}")).collect();
                let mut webhook = connect();
                webhook.send(&uids.iter().flat_map(|uid| ask(uid)).collect::<Vec<u8>>()).unwrap();
                for uid in &uids {
                    check_refusal(&webhook.answer().unwrap(), uid);
                }
            });
            scope.spawn(move || {
                for number in 0..10 {
                    let uid = format!("half-{connection}-{number}");
                    let mut half = connect();
                    half.send(&ask(&uid)).unwrap();
                    half.finish().unwrap();
                    // It may take this for the end of the connection; what it answers all the same is the answer.
                    if let Ok(answer) = half.answer() {
                        check_refusal(&answer, &uid);
                    }
                    // Dropped with answers that nobody read: the kernel resets it.
                    let mut reset = connect();
                    let many: Vec<u8> = (0..5).flat_map(|each| ask(&format!("reset-{number}-{each}"))).collect();
                    reset.send(&many).unwrap();
                    check_refusal(&reset.answer().unwrap(), &format!("reset-{number}-0"));
                    drop(reset);
                    let cut = ask("cut");
                    connect().send(&cut[..cut.len() - 7]).unwrap();
                }
            });
        }
    });
    check_well();
}

/// H-12: a timeout of nothing, of nonsense, or none at all is the default: there is time to decide.
#[test]
fn without_a_sensible_timeout_there_is_time_to_decide() {
    let mut webhook = connect();
    for (number, query) in [
        "",
        "?",
        "?timeout=0s",
        "?timeout=abc",
        "?timeout=",
        "?timeout",
        "?timeout=-1s",
        "?timeout=1",
        "?timeout=0.5s",
        "?timeout=1e9s",
        "?timeout=99999999999999999999s",
        "?timeout=s",
        "?timeout=%31s",
        "?x=y&timeout=0s&timeout=1s",
        "?dryRun=All",
    ]
    .iter()
    .enumerate()
    {
        let uid = format!("t-{number}");
        let answer = webhook.post(&format!("/gate{query}"), prod(&uid).to_string().as_bytes()).unwrap();
        check_refusal(&answer, &uid);
    }
}
