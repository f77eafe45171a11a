//! C-1, C-2, C-6: what `list` takes among many objects, beside the bare lists of the same data and beside `kubectl get`: time,
//! CPU of the API server, and memory of the plugin.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tests::binaries::Ours;
use tests::{Cluster, Kubectl, Setup};
use tokio::runtime::Runtime;

use crate::bench::Bench;
use crate::crowd::{self, Stamped};
use crate::etcd::Etcd;
use crate::load::{Call, Calls, Load, Target};
use crate::process::{Watched, cpu_of};
use crate::stats::{Figure, Figures, Ratio, median, rounds};

/// How many objects there are, and how many of them were written to under a token.
const OBJECTS: usize = 100_000;
const CHANGES: usize = 10_000;

/// In short, as many times fewer of both, which have another proportion.
const SHORT_OBJECTS: usize = 5_000;
const SHORT_CHANGES: usize = 1_000;

/// How many were written to where one looks for a needle.
const FEW: usize = 100;

/// How many rounds of `list` and the bare lists. Now and then the API server clears away what others left in its memory, which
/// takes longer than a list: of many rounds the middle one does not tell of that.
const ROUNDS: usize = 25;

/// How many rounds of `list` and `kubectl get`, which takes half a minute for all of it.
const KUBECTL_ROUNDS: usize = 3;

/// How many lists are under way at once, as the plugin has it.
const PARALLEL: usize = 16;

/// How long one list may take: ten thousand records at once are twenty megabytes.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often the plugin's memory is looked at. The kernel keeps the most that it had: only its last moments are missed.
const LOOK_EVERY: Duration = Duration::from_millis(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// The metadata of every kind with our label, and the records: all at once, nothing read out of them.
    Bare,
    BareAgain,
    /// `kubectl breakglass list -A`.
    Ours,
    /// `kubectl get` over every kind.
    Kubectl,
}

/// A cluster without a webhook: whoever lists does not meet it, and it would follow the records meanwhile.
struct Crowd {
    cluster: Cluster,
    etcd: Etcd,
    api_server: Watched,
    /// The paths of every kind that can be listed, and their names for kubectl.
    paths: Vec<String>,
    names: Vec<String>,
    target: Target,
    runtime: Arc<Runtime>,
}

/// Measures it.
///
/// # Errors
/// When the cluster does not start, or one of the ways fails.
pub fn listing(bench: &mut Bench) -> Result<()> {
    let (objects, changes) = if bench.short { (SHORT_OBJECTS, SHORT_CHANGES) } else { (OBJECTS, CHANGES) };
    let crowd = Crowd::gather(bench)?;
    let tenth = objects / 10;
    crowd.etcd.put(crowd::objects(0..FEW, Stamped::Yes))?;
    crowd.etcd.put(crowd::objects(FEW..tenth, Stamped::No))?;
    crowd.etcd.put(crowd::changes(0..FEW))?;
    let (_, alone) = crowd.list(FEW)?;
    crowd.etcd.put(crowd::objects(tenth..objects, Stamped::No))?;
    crowd.list(FEW)?;
    let needle = compare(&crowd, bench, FEW)?;
    tell(bench, &format!("{FEW} changes among {objects} objects"), &needle);
    let grown = mib(needle.memory);
    let ratio = needle.memory as f64 / alone as f64;
    bench.report.goal(
        format!("memory of list, {FEW} changes: among {objects} objects / among {tenth}"),
        format!("{ratio:.2}; {grown}"),
        "≤ 1.2",
        ratio <= 1.2,
    );
    crowd.etcd.put(crowd::objects(FEW..changes, Stamped::Yes))?;
    crowd.etcd.put(crowd::changes(FEW..changes))?;
    crowd.list(changes)?;
    let many = compare(&crowd, bench, changes)?;
    tell(bench, &format!("{changes} changes among {objects} objects"), &many);
    let each = many.memory.saturating_sub(needle.memory) / (changes - FEW) as u64;
    bench.report.told("memory of list for each change more", format!("{each} bytes; {} in all", mib(many.memory)));
    Ok(())
}

/// What all ways took, and the most memory that ours had.
struct Compared {
    /// Beside the bare lists.
    bare: BTreeMap<Way, Figures>,
    /// Beside `kubectl get`.
    kubectl: BTreeMap<Way, Figures>,
    memory: u64,
}

fn compare(crowd: &Crowd, bench: &Bench, changes: usize) -> Result<Compared> {
    let mut memory = 0;
    let mut measure = |count: usize, ways: &[Way]| -> Result<BTreeMap<Way, Figures>> {
        let figures = rounds(bench.rounds(count), ways, |way| {
            let (took, cpu) = cpu_of(&[crowd.api_server], || match way {
                Way::Bare | Way::BareAgain => crowd.bare(),
                Way::Kubectl => crowd.kubectl(),
                Way::Ours => {
                    let (took, most) = crowd.list(changes)?;
                    memory = memory.max(most);
                    Ok(took)
                }
            })?;
            eprintln!("  {way:?}: {:.2} s, {:.2} s CPU", took.as_secs_f64(), cpu.as_secs_f64());
            Ok(Figure { api: cpu.as_secs_f64() * 1e3, p50: took.as_secs_f64() * 1e3, ..Figure::default() })
        })?;
        Ok(figures.into_iter().collect())
    };
    let bare = measure(ROUNDS, &[Way::Bare, Way::BareAgain, Way::Ours])?;
    let kubectl = measure(KUBECTL_ROUNDS, &[Way::Ours, Way::Kubectl])?;
    Ok(Compared { bare, kubectl, memory })
}

fn tell(bench: &mut Bench, scene: &str, compared: &Compared) {
    let column = |figures: &BTreeMap<Way, Figures>, way: Way, of: fn(&Figure) -> f64| {
        figures.get(&way).map(|figures| figures.column(of)).unwrap_or_default()
    };
    let wall: fn(&Figure) -> f64 = |figure| figure.p50;
    let api: fn(&Figure) -> f64 = |figure| figure.api;
    let value = |figures, way| {
        let [wall, api] = [wall, api].map(|of| median(&column(figures, way, of)));
        format!("{wall:.0} ms, API server {api:.0} ms CPU")
    };
    let Compared { bare, kubectl, .. } = compared;
    let ratio = |figures, way, to, of| Ratio::of(&column(figures, way, of), &column(figures, to, of));
    let report = &mut bench.report;
    report.told(format!("{scene}: the bare lists, {PARALLEL} at a time"), value(bare, Way::Bare));
    let time = ratio(bare, Way::Ours, Way::Bare, wall);
    let text = format!("{time}; {}", value(bare, Way::Ours));
    report.goal(format!("{scene}: list: time / bare lists"), text, "≤ 1.3", time.median <= 1.3);
    let cpu = ratio(kubectl, Way::Ours, Way::Kubectl, api);
    let text = format!("{cpu}; {}", value(kubectl, Way::Kubectl));
    report.goal(format!("{scene}: list: CPU of the API server / kubectl get"), text, "≤ 0.5", cpu.median <= 0.5);
    report.same_twice(&format!("{scene}: the bare lists, time"), ratio(bare, Way::BareAgain, Way::Bare, wall));
    report.same_twice(&format!("{scene}: the bare lists, CPU"), ratio(bare, Way::BareAgain, Way::Bare, api));
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}

impl Crowd {
    fn gather(bench: &Bench) -> Result<Self> {
        let ours = Ours { webhook: bench.programs.webhook.clone(), plugin: bench.programs.plugin.clone() };
        let mut cluster = Setup::new("bench-list").programs(ours).start()?;
        let plane = cluster.control_plane().context("the control plane is ours")?;
        let (api_server, etcd) = (Watched(plane.api_server.process.id()), Etcd::new(&plane.etcd.url));
        let admin = cluster.kubectl("admin");
        admin.try_ok(&["apply", "--server-side", "-k", "manifests/crds"], "")?;
        admin.try_ok(&["apply", "--server-side", "-f", "-"], &crowd::scene())?;
        admin.try_ok(&["wait", "--for=condition=Established", "--timeout=120s", "crd", "--all"], "")?;
        let (names, paths) = listable(&admin)?;
        let target = Target::api(admin.kubeconfig())?;
        Ok(Self { cluster, etcd, api_server, paths, names, target, runtime: Arc::clone(&bench.runtime) })
    }

    /// How long the bare lists take.
    fn bare(&self) -> Result<Duration> {
        // The longest first, or the others would have ended when it begins.
        let records = "/apis/breakglass.dev/v1alpha1/breakglasschanges?labelSelector=breakglass.dev/state!%3Dsettled";
        let records = Call { method: "GET", ..Call::post(records, "") };
        let ours = |path: &&String| path.contains("/breakglass.dev/");
        let stamped = self.paths.iter().filter(|path| !ours(path));
        let stamped = stamped.map(|path| Call::metadata(format!("{path}?labelSelector=breakglass.dev/state")));
        let calls: Vec<Call> = std::iter::once(records).chain(stamped).collect();
        let count = calls.len();
        let calls: Calls = Arc::new(move |number| calls[number % calls.len()].clone());
        // Each time over connections of its own, as every run of a program has them.
        let mut load = Load::new(&self.runtime, &self.target, PARALLEL).patience(PATIENCE);
        Ok(load.closed(count, &calls).all("the bare lists", |answer| answer.status == 200)?.took)
    }

    /// How long `kubectl get` takes.
    fn kubectl(&self) -> Result<Duration> {
        let begun = Instant::now();
        self.cluster.kubectl("admin").try_ok(&["get", &self.names.join(","), "-A", "-o", "name"], "")?;
        Ok(begun.elapsed())
    }

    /// How long `list` takes, and the most memory that it had. It has to find as many as there are.
    fn list(&self, changes: usize) -> Result<(Duration, u64)> {
        let mut command: Command = self.cluster.plugin("admin").command(&["list", "-A"]);
        let begun = Instant::now();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (stdout, stderr) = (stdout.context("it was asked for")?, stderr.context("it was asked for")?);
        let lines = std::thread::spawn(move || std::io::read_to_string(stdout).map(|text| text.lines().count()));
        let said = std::thread::spawn(move || std::io::read_to_string(stderr));
        let mut most = 0;
        let status = loop {
            most = most.max(Watched(child.id()).peak_memory().unwrap_or_default());
            if let Some(status) = child.try_wait()? {
                break status;
            }
            std::thread::sleep(LOOK_EVERY);
        };
        let took = begun.elapsed();
        let lines = lines.join().map_or(Ok(0), |lines| lines)?;
        let said = said.join().map_or(Ok(String::new()), |said| said)?;
        ensure!(status.success(), "list ended with {status}: {said}");
        ensure!(lines == changes + 1, "list found {lines} lines, and not {changes} and a header: {said}");
        Ok((took, most))
    }
}

/// Every kind that can be listed: its name for kubectl, and its path.
fn listable(admin: &Kubectl) -> Result<(Vec<String>, Vec<String>)> {
    let text = admin.try_ok(&["api-resources", "--verbs=list", "--no-headers"], "")?;
    let kinds = text.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (name, [version, _, _]) = (words.first()?, words.get(words.len().checked_sub(3)?..)?) else { return None };
        let (group, path) = match version.split_once('/') {
            Some((group, _)) => (format!(".{group}"), format!("/apis/{version}/{name}")),
            None => (String::new(), format!("/api/{version}/{name}")),
        };
        Some((format!("{name}{group}"), path))
    });
    Ok(kinds.unzip())
}
