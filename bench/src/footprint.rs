//! W-11: what it takes to run: time to ready, memory, and the size of the program.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::bench::Bench;
use crate::etcd;
use crate::load::{Call, Load, Target, same};
use crate::reviews::{self, Scene};
use crate::stats::{percentile, sorted};

/// How many tokens and how many changes there are the second time.
const MANY: usize = 10_000;

/// Memory of the container that the Deployment asks for is far above; this is what a reader should expect.
const STARTS: usize = 5;

/// The static program that the image is made of, where it was built.
const STATIC: &str = "target/x86_64-unknown-linux-gnu/release/breakglass-webhook";

/// Measures it.
///
/// # Errors
/// When the cluster or the webhook does not start.
pub fn footprint(bench: &mut Bench) -> Result<()> {
    let starts = bench.rounds(STARTS);
    for (many, name) in [(0, "an empty ledger"), (MANY, "10,000 tokens and 10,000 changes")] {
        let runtime = bench.runtime.clone();
        let scene = bench.ours()?;
        if many > 0 {
            scene.etcd.put(etcd::tokens(0, many))?;
            scene.etcd.put(etcd::changes(many))?;
        }
        let mut times = Vec::new();
        for _ in 0..starts {
            times.push(scene.webhook.start()?.as_secs_f64() * 1e3);
        }
        // What follows the start ends: the changes are listed after it is ready.
        std::thread::sleep(Duration::from_secs(3));
        let process = scene.webhook.watched();
        let (idle, peak) = (process.memory()?, process.peak_memory()?);
        let review = reviews::update(Scene::Dev, 20_000);
        let mut load = Load::new(&runtime, &Target::webhook(scene.webhook.port)?, 25);
        load.closed(10_000, &same(Call::post("/stamp?timeout=5s", review)));
        let loaded = process.memory()?;
        let times = sorted(times);
        let (p50, max) = (percentile(&times, 0.5), percentile(&times, 1.0));
        bench
            .report
            .told(format!("{name}: start to ready, of {starts}"), format!("median {p50:.0} ms, max {max:.0} ms"));
        let value =
            format!("idle {}, after 10,000 reviews of 20 KB {}, peak at start {}", mib(idle), mib(loaded), mib(peak));
        bench.report.told(format!("{name}: resident memory"), value);
    }
    let size = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.len());
    bench.report.told("the program, release, stripped", mib(size(&bench.programs.webhook)?));
    match size(Path::new(STATIC)) {
        Ok(bytes) => {
            let says = alone(Path::new(STATIC)).unwrap_or_else(|error| format!("not run alone: {error:#}"));
            let works = says.contains("kubeconfig");
            bench.report.goal(format!("the image, static ({}), in an empty root", mib(bytes)), says, "runs", works);
        }
        Err(_) => bench.report.told("the image's static program", "not built: see CONTRIBUTING.md"),
    }
    Ok(())
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}

/// What the program says in a root where nothing else is; it takes the right to chroot.
fn alone(program: &Path) -> Result<String> {
    let root = std::env::temp_dir().join(format!("breakglass-root-{}", std::process::id()));
    std::fs::create_dir_all(&root)?;
    std::fs::copy(program, root.join("breakglass-webhook"))?;
    let run = |args: &[&str]| -> Result<String> {
        let output = Command::new("chroot")
            .args(["--userspec=65532:65532"])
            .arg(&root)
            .arg("/breakglass-webhook")
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .output()?;
        Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned())
    };
    let said = run(&["--version"]).and_then(|version| Ok(format!("{version}; {}", run(&[])?)));
    std::fs::remove_dir_all(&root)?;
    said
}
