//! `up`: starts the cluster in the background, shows how it goes, and says what is there.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tests::{Setup, wait_until};

use crate::place::Place;

/// Generous: a slow machine under load has to start six programs.
const START_LIMIT: Duration = Duration::from_secs(600);

/// Starts it if it is not up, and says what is there.
pub(crate) fn up(place: &Place, bare: bool) -> Result<()> {
    if let Some(holder) = place.holder()? {
        let had = fs::read_to_string(place.ready())
            .with_context(|| format!("process {holder} is starting it or ending it; see {}", place.log().display()))?;
        if bare == (had == "bare") {
            println!("already up in {}", place.directory.display());
            return Ok(());
        }
        bail!("it is up {} breakglass; first: make down", if bare { "with" } else { "without" });
    }
    let started = Instant::now();
    // Here and not in the background, so that whoever waits sees what is being built.
    Setup::new("local").flux().build()?;
    wait_until("an earlier cluster to be gone", Duration::from_secs(30), || gone(place))?;
    place.clear()?;
    follow(place, start_supervisor(place, bare)?)?;
    println!("up in {:.0} s", started.elapsed().as_secs_f32());
    Ok(())
}

/// Whether nothing of an earlier cluster runs any more.
pub(crate) fn gone(place: &Place) -> Result<(), String> {
    let Ok(group) = fs::read_to_string(place.group()) else { return Ok(()) };
    // After a power cut the file stays and the group is gone.
    if tests::process::send("0", &format!("-{group}")).is_err() {
        let _ = fs::remove_file(place.group());
        return Ok(());
    }
    Err(format!("process group {group} is there"))
}

/// What to type next.
pub(crate) fn next_steps(place: &Place, bare: bool) -> String {
    let directory = match std::env::current_dir()
        .ok()
        .and_then(|here| place.directory.strip_prefix(here).ok().map(ToOwned::to_owned))
    {
        Some(relative) => relative.display().to_string(),
        None => place.directory.display().to_string(),
    };
    let mut text = format!(
        "\nIn it: namespaces prod, staging, dev; people admin, alice, bob, carol; \
         Flux, which applies {directory}/fleet.git to prod.\n\n\
         \x20 export KUBECONFIG=$PWD/{directory}/kubeconfig PATH=$PWD/{directory}/bin:$PATH\n\
         \x20 kubectl --context alice -n prod get deployments\n"
    );
    if bare {
        text += "\x20 kubectl breakglass install\n";
    } else {
        text += "\x20 kubectl --context alice -n prod set image deployment/api api=registry.example.com/api:1.0.1\n";
        text += "\x20 kubectl breakglass --context alice open INC-123 -n prod --reason \"checkout returns 500\"\n";
    }
    text + "\nLogs: " + &format!("{directory}/logs. To end it: make down")
}

fn start_supervisor(place: &Place, bare: bool) -> Result<Child> {
    let log = File::create(place.log())?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--directory").arg(&place.directory).arg("supervise");
    if bare {
        command.arg("--bare");
    }
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // A group of its own: Ctrl-C in this terminal is not meant for it.
        .process_group(0)
        .spawn()
        .context("starting the supervisor")
}

/// Shows what the supervisor says until it is ready.
fn follow(place: &Place, mut supervisor: Child) -> Result<()> {
    let mut log = File::open(place.log())?;
    let mut shown = 0;
    wait_until("the cluster to be up", START_LIMIT, || {
        // Looked at before the log is read: what it said last is shown as well.
        let ready = place.ready().exists();
        let ended = supervisor.try_wait().map_err(|error| error.to_string())?;
        let mut text = String::new();
        log.seek(SeekFrom::Start(shown)).map_err(|error| error.to_string())?;
        shown += log.read_to_string(&mut text).map_err(|error| error.to_string())? as u64;
        eprint!("{text}");
        match (ready, ended) {
            (true, _) => Ok(Ok(())),
            (false, Some(status)) => Ok(Err(status)),
            (false, None) => Err(format!("see {}", place.log().display())),
        }
    })?
    .map_err(|status| {
        anyhow::anyhow!("it did not come up ({status}); logs are in {}", place.directory.join("logs").display())
    })
}
