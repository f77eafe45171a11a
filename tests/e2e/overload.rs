//! More than there is room for, and less room than usual: connections, memory, processor, disk, and a log that nobody reads. What is
//! too much is put off or turned away; what the API server asks is answered, and never otherwise than it should be.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use tests::client::Client;
use tests::limit::Limit;
use tests::raw::{Answer, Raw, request};
use tests::review::review;
use tests::webhook::Webhook;
use tests::{Cluster, Setup, Together, probe, wait_until};

use crate::hostile::MEMORY_LIMIT;
use crate::{LIMIT, check_refused};

/// A cluster in which one test at a time starts the webhook as it likes.
fn cluster() -> (Arc<Cluster>, MutexGuard<'static, ()>) {
    static TURN: Mutex<()> = Mutex::new(());
    static CLUSTER: Together = Together::new(|| {
        let cluster = Setup::new("overload").webhook().start().unwrap_or_else(|error| panic!("{error:#}"));
        cluster.namespace("prod-strained");
        cluster
    });
    let cluster = CLUSTER.get();
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    cluster.webhook().kill();
    (cluster, turn)
}

/// Holds that the API server has alice's write let in and bob's refused.
#[track_caller]
fn check_serves(cluster: &Cluster, name: &str) {
    let alice = cluster.kubectl("alice").namespace("prod-strained");
    alice.ok(&["create", "configmap", name]);
    let ran = cluster.kubectl("bob").namespace("prod-strained").run(&["delete", "configmap", name]);
    check_refused(&ran, &format!("configmaps \"{name}\" (delete) by bob@example.com"), "-n prod-strained");
}

/// How many file descriptors it has open.
fn descriptors(webhook: &Webhook) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", webhook.id().unwrap())).unwrap().count()
}

/// R-15: thousands of connections that say nothing, of which some have shaken hands and some send a review piece by piece, take a
/// bounded part of it, make room for others, and the API server is answered all the while.
#[test]
fn whoever_connects_and_says_nothing_keeps_nobody_out() {
    const SHAKEN: usize = 2_200;
    const SILENT: usize = 2_800;
    let (cluster, _turn) = cluster();
    let webhook = cluster.webhook().copy();
    webhook.start().unwrap();
    cluster.open("alice", "INC-615", "prod-strained");
    let alice = Client::new(&cluster.kubectl("alice"), &[]).unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, webhook.port()));
    let connect = || TcpStream::connect_timeout(&address, Duration::from_secs(20));
    let (over, peak) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let mut holders = Vec::new();
        for _ in 0..4 {
            holders.push(scope.spawn(|| {
                let hold = |_| {
                    let mut raw = Raw::over(connect().ok()?, None, &[]).ok()?;
                    raw.shake().ok()?;
                    Some(raw)
                };
                let shaken: Vec<Raw> = (0..SHAKEN / 4).filter_map(hold).collect();
                let silent: Vec<TcpStream> = (0..SILENT / 4).filter_map(|_| connect().ok()).collect();
                (shaken, silent)
            }));
        }
        let slow = scope.spawn(|| {
            let whole = request("/gate", &vec![b' '; 10 << 20]);
            while !over.load(Ordering::Relaxed) {
                let Ok(mut raw) = Raw::connect(webhook.port()) else { continue };
                for piece in whole.chunks(64 * 1024) {
                    if over.load(Ordering::Relaxed) || raw.send(piece).is_err() {
                        break;
                    }
                }
            }
        });
        let (mut slowest, mut writes) = (Duration::ZERO, 0);
        let mut failed = Vec::new();
        while writes < 10 || !holders.iter().all(|holder| holder.is_finished()) {
            let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("flood-{writes}")}});
            let begun = Instant::now();
            let answer = alice.json("POST", "/api/v1/namespaces/prod-strained/configmaps", &map);
            slowest = slowest.max(begun.elapsed());
            failed.extend(answer.ok().filter(|answer| answer.status != 201));
            writes += 1;
            peak.fetch_max(descriptors(&webhook), Ordering::Relaxed);
        }
        let held: Vec<_> = holders.into_iter().map(|holder| holder.join().unwrap()).collect();
        over.store(true, Ordering::Relaxed);
        slow.join().unwrap();
        let count = |number: fn(&(Vec<Raw>, Vec<TcpStream>)) -> usize| held.iter().map(number).sum::<usize>();
        let (shaken, silent) = (count(|held| held.0.len()), count(|held| held.1.len()));
        let connections = webhook.metric("breakglass_connections").unwrap();
        let ended = webhook.metric("breakglass_connections_refused_total{reason=\"silent\"}").unwrap();
        let (files, memory) = (peak.load(Ordering::Relaxed), webhook.peak_memory().unwrap() >> 20);
        eprintln!(
            "{shaken} shaken, {silent} silent; {connections} open, {ended} made room; at most {files} files, {memory} MiB; \
             {writes} writes, the slowest in {slowest:?}"
        );
        assert!(failed.is_empty(), "{failed:?}");
        assert!(shaken > SHAKEN * 9 / 10 && silent > SILENT * 9 / 10, "{shaken} shaken, {silent} silent");
        assert!(connections <= 2_048.0 && ended > 0.0, "{connections} open, {ended} made room");
        // One that has to make room is gone a little later than the one that it made room for is there.
        assert!(files < 2_048 * 5 / 4, "{files} files");
        assert!(memory < MEMORY_LIMIT >> 20, "{memory} MiB");
        // A normal one is answered in milliseconds; this is a machine on which everything else runs, too.
        assert!(slowest < Duration::from_secs(30), "{slowest:?}");
    });
    check_serves(&cluster, "after-the-flood");
}

/// A review of 3 MiB by `user`.
fn large(user: &str) -> Vec<u8> {
    let mut review = review(user, "CREATE", ("prod-strained", "large"));
    review["request"]["object"]["data"]["key"] = json!("x".repeat(3 << 20));
    review.to_string().into_bytes()
}

/// How much memory is a process's own now, in bytes: what is mapped from files can be read again and ends nobody.
fn anonymous(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() * 1024
}

/// What 200 callers are answered who all send this at once; `look` is called meanwhile.
fn at_once(port: u16, body: &[u8], look: impl Fn() -> u64) -> Vec<Result<Answer, String>> {
    std::thread::scope(|scope| {
        let calls: Vec<_> =
            (0..200).map(|_| scope.spawn(|| Raw::connect(port)?.post("/gate?timeout=10s", body))).collect();
        while !calls.iter().all(|call| call.is_finished()) {
            look();
            std::thread::park_timeout(Duration::from_millis(1));
        }
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    })
}

/// R-17: two hundred reviews of 3 MiB at once, where there are 128 MiB in all: what there is no room for is put off, the others are
/// decided, and the process lives.
#[test]
fn more_reviews_than_there_is_memory_for_are_put_off() {
    const MEMORY: u64 = 128 << 20;
    let (cluster, _turn) = cluster();
    let limit = Limit::memory(MEMORY);
    let webhook = match &limit {
        Ok(limit) => cluster.webhook().copy().launched_by(&limit.launcher()),
        Err(error) => {
            // The claim is the same, and what is measured is what would have been too much.
            eprintln!("no control group ({error:#}): the peak of memory is held to the same limit instead");
            cluster.webhook().copy()
        }
    };
    webhook.start().unwrap();
    cluster.open("alice", "INC-617", "prod-strained");
    let id = webhook.id().unwrap();
    let own = AtomicU64::new(0);
    for user in ["carol@example.com", "alice@example.com"] {
        let mut counts = std::collections::BTreeMap::<u16, usize>::new();
        for answer in at_once(webhook.port(), &large(user), || own.fetch_max(anonymous(id), Ordering::Relaxed)) {
            // Who is put off may be so before all of it is sent, and the answer is lost on the way.
            let Ok(answer) = answer else {
                *counts.entry(0).or_default() += 1;
                continue;
            };
            assert!(matches!(answer.status, 200 | 503 | 408), "{answer:?}");
            if answer.status == 503 {
                assert!(answer.head.to_lowercase().contains("\r\nretry-after: 1\r\n"), "{}", answer.head);
            }
            let let_in = answer.response()["allowed"] == true;
            assert!(!let_in || user == "alice@example.com", "{answer:?}");
            *counts.entry(answer.status).or_default() += 1;
        }
        eprintln!("{user}: {counts:?}; at most {} MiB of its own", own.load(Ordering::Relaxed) >> 20);
        // On a machine that is busy with other tests, all that is not put off may arrive too slowly.
        assert!([200, 503].iter().any(|code| counts.contains_key(code)), "{counts:?}");
        assert_eq!(webhook.id().unwrap(), id);
        probe::https(webhook.port(), "/livez").unwrap();
    }
    let own = own.load(Ordering::Relaxed);
    assert!(own < MEMORY, "{} MiB", own >> 20);
    check_serves(&cluster, "after-the-large-ones");
    webhook.kill();
}

/// R-18: with a tenth of a processor it is slow, alive, and says nothing that it would not say otherwise.
#[test]
fn a_starved_webhook_is_slow_and_says_nothing_else() {
    let (cluster, _turn) = cluster();
    let webhook = cluster.webhook().copy();
    webhook.start().unwrap();
    cluster.open("alice", "INC-618", "prod-strained");
    let limit = Limit::processor(10);
    match &limit {
        Ok(limit) => limit.take(webhook.id().unwrap()).unwrap(),
        Err(error) => eprintln!("no control group ({error:#}): it is stopped for nine tenths of the time instead"),
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let starving = limit.is_err().then(|| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    for (signal, time) in [("STOP", 90), ("CONT", 10)] {
                        webhook.signal(signal).unwrap();
                        std::thread::park_timeout(Duration::from_millis(time));
                    }
                }
            })
        });
        let mut let_in = 0;
        let mut times = Vec::new();
        let mut wrong = Vec::new();
        for index in 0..15 {
            let begun = Instant::now();
            let name = format!("starved-{index}");
            let ran = cluster.kubectl("bob").namespace("prod-strained").run(&["create", "configmap", &name]);
            if ran.status == 0 {
                wrong.push(ran.to_string());
            }
            let ran = cluster.kubectl("alice").namespace("prod-strained").run(&["create", "configmap", &name]);
            let_in += usize::from(ran.status == 0);
            if let Some(why) = ran.our_refusal() {
                wrong.push(why.to_owned());
            }
            times.push(begun.elapsed());
        }
        let alive = wait_until("it to say that it lives", Duration::from_secs(60), || {
            probe::http(webhook.metrics_port(), "/livez")
        });
        over.store(true, Ordering::Relaxed);
        let _ = starving.map(|thread| thread.join());
        times.sort_unstable();
        eprintln!("{let_in} of 15 were let in; two writes took {:?} in the middle, {:?} at most", times[7], times[14]);
        assert!(wrong.is_empty(), "{wrong:?}");
        alive.unwrap();
        assert!(let_in > 0);
    });
    webhook.kill();
}

/// A root that has nothing in it but what a program is linked with, and is read-only: no /tmp, no /proc, no /dev.
const BARE_ROOT: &str = r#"
set -e
root=$1; shift
mount -t tmpfs -o size=1m none "$root"
for path in /usr /lib /lib64 "$(dirname "$(realpath "$1")")" "$(dirname "$3")"; do
    if [ -L "$path" ]; then ln -s "$(readlink "$path")" "$root$path"; continue; fi
    [ -d "$path" ] || continue
    mkdir -p "$root$path"
    mount --bind "$path" "$root$path"
    mount -o remount,bind,ro "$root$path"
done
program=$(realpath "$1"); shift
mount -o remount,ro,size=1m none "$root"
exec chroot "$root" "$program" "$@"
"#;

/// R-19: with nothing that it could write to it starts, and serves.
#[test]
fn it_needs_no_file_system_that_can_be_written() {
    let (cluster, _turn) = cluster();
    let root = cluster.directory().join("bare-root");
    std::fs::create_dir_all(&root).unwrap();
    // As nobody in particular a namespace of one's own has to come first.
    let mine = if std::fs::metadata("/proc/self").is_ok_and(|this| std::os::unix::fs::MetadataExt::uid(&this) == 0) {
        vec!["unshare", "-m"]
    } else {
        vec!["unshare", "-r", "-m"]
    };
    let launcher: Vec<String> = [&mine[..], &["sh", "-c", BARE_ROOT, "sh", root.to_str().unwrap()]]
        .concat()
        .iter()
        .map(|&word| word.to_owned())
        .collect();
    let webhook = cluster.webhook().copy().launched_by(&launcher);
    webhook.start().unwrap();
    cluster.open("alice", "INC-619", "prod-strained");
    check_serves(&cluster, "read-only");
    // It is what it is said to be.
    let seen = format!("/proc/{}/root", webhook.id().unwrap());
    let found = |path: &str| std::path::Path::new(&format!("{seen}{path}")).exists();
    assert!(!found("/tmp/.") || !found("/proc/self"), "the root is not bare");
    assert!(found("/usr") && !found("/proc/self") && !found("/dev/null") && !found("/etc/passwd"));
    assert!(std::fs::write(format!("{seen}/written"), "x").is_err(), "the root can be written to");
    webhook.stop().unwrap();
}

/// R-20: while nobody reads its log, every write is answered as soon as ever; what is lost of the log is counted, and it ends when it
/// is told to.
#[test]
fn a_log_that_nobody_reads_holds_nobody_up() {
    let (cluster, _turn) = cluster();
    let pipe = cluster.directory().join("log.pipe");
    let _ = std::fs::remove_file(&pipe);
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // Open for both ends, so that it can be opened at all, and read by nobody.
    let blocked = format!("exec \"$@\" 2<>'{}'", pipe.display());
    let launcher = ["sh", "-c", &blocked, "sh"].map(str::to_owned);
    let webhook = cluster.webhook().copy().launched_by(&launcher);
    webhook.start().unwrap();
    cluster.open("alice", "INC-620", "prod-strained");
    let lost = || webhook.metric("breakglass_log_lines_dropped_total").unwrap();
    let mut raw = Raw::connect(webhook.port()).unwrap();
    // Refused for the name of a user as long as a line may be: the log is soon full.
    let long =
        review(&format!("{}@example.com", "l".repeat(2_000)), "DELETE", ("prod-strained", "settings")).to_string();
    let mut slowest = Duration::ZERO;
    for count in 0.. {
        let begun = Instant::now();
        let answer = raw.post("/gate", long.as_bytes()).unwrap();
        slowest = slowest.max(begun.elapsed());
        assert_eq!((answer.status, &answer.response()["allowed"]), (200, &json!(false)));
        if count % 50 == 0 && lost() > 0.0 {
            eprintln!("the log was full after {count} reviews; the slowest took {slowest:?}");
            break;
        }
        assert!(count < 5_000, "the log is never full");
    }
    assert!(slowest < Duration::from_secs(30), "{slowest:?}");
    check_serves(&cluster, "unread");
    probe::https(webhook.port(), "/livez").unwrap();
    assert!(lost() > 0.0);
    webhook.signal("TERM").unwrap();
    assert!(webhook.ended(LIMIT).unwrap().success());
}
