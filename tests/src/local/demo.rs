//! `demo`: an incident from refusal to list, played with real commands; every step is checked as it goes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::users::file_of;
use tests::{Kubectl, Output, kubectl, wait_until};

use crate::place::Place;
use crate::{down, up};

/// What alice applies during the incident.
const HOTFIX: &str = include_str!("../../local/demo/hotfix.yaml");

/// Flux follows within seconds; the limit is for a machine under load.
const FLUX_LIMIT: Duration = Duration::from_secs(60);

/// What is accepted is given back when Flux has applied it, applied once more, and believed after another interval.
const SETTLED_LIMIT: Duration = Duration::from_secs(120);

/// Starts the cluster if it is not up, and plays the story in it.
pub(crate) fn demo(place: &Place) -> Result<()> {
    if place.holder()?.is_some() && !is_untouched(place) {
        println!("starting over: the story begins without a token, and this cluster has seen some");
        down::down(place)?;
    }
    up::up(place, false)?;
    let told = Stage::set(place).and_then(|stage| tell(&stage));
    if told.is_err() {
        println!("\nThe cluster is left up for you to look: {}/logs. make down stops it.", place.directory.display());
    }
    told?;
    println!("{}", up::next_steps(place, false));
    Ok(())
}

/// Whether nobody has opened a token in the cluster that is up.
fn is_untouched(place: &Place) -> bool {
    let admin = person(place, "admin");
    admin.try_ok(&["get", "breakglasstokens", "-o", "name"], "").is_ok_and(|names| names.trim().is_empty())
}

/// kubectl as this person, with the files of the cluster that is up.
fn person(place: &Place, name: &str) -> Kubectl {
    let kubeconfig = file_of(&place.directory.join("cluster/people"), name);
    Kubectl::new(&place.directory.join("bin"), &place.directory.join("home"), &kubeconfig)
}

fn tell(stage: &Stage) -> Result<()> {
    println!("\nYou are alice. You may edit prod by RBAC, but prod is run by GitOps.");
    scene("Flux applies prod from Git. What it writes carries no stamp.");
    stage.check_unstamped("api")?;
    scene("Checkout is down, and the pull request takes 30 minutes. A direct apply is refused, and says what to do.");
    stage.refused()?;
    scene(
        "So break the glass: a token for this incident, for an hour at most. What Flux owns is held as she writes it.",
    );
    stage.open()?;
    scene("The same command goes through.");
    stage.goes_through()?;
    scene("What was applied says who, when, and for which incident.");
    stage.stamped()?;
    scene("And nobody has to remember it: it is owed until Git has it, or it is put back.");
    stage.listed()?;
    scene("Flux never noticed: its own object carries no stamp, and a commit is applied without any token.");
    stage.check_unstamped("api")?;
    stage.flux_goes_on()?;
    scene(
        "That is not enough: the API itself needs another image, and more of it. Flux would undo both within seconds.",
    );
    stage.held()?;
    scene(
        "The next morning each change is decided. What stays goes into Git: the lines that define it, on a branch of its own.",
    );
    stage.accepted()?;
    scene(
        "The branch was merged, and Flux applies it. That is seen: the object is given back, and nothing is owed for it.",
    );
    stage.in_git()?;
    scene(
        "The second API goes again: what was made is taken away, under a token of a few minutes, and that is read back.",
    );
    stage.rejected()?;
    scene("And this one is put off, to a day and for a reason.");
    stage.deferred()?;
    scene("What the incident was, for who was not there.");
    stage.reported()
}

/// Who plays, and with which files.
struct Stage {
    alice: Kubectl,
    fleet: PathBuf,
}

impl Stage {
    fn set(place: &Place) -> Result<Self> {
        let folder = place.directory.join("demo");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("hotfix.yaml"), HOTFIX)?;
        Ok(Self { alice: person(place, "alice").current_dir(&folder), fleet: place.directory.join("fleet") })
    }

    fn check_unstamped(&self, deployment: &str) -> Result<()> {
        self.must(&format!("kubectl -n prod get deployment {deployment}"))?;
        let found = self.run(&format!("kubectl -n prod get deployment {deployment} -o yaml | grep breakglass.dev/"))?;
        ensure!(found.stdout.is_empty(), "deployment {deployment} was written by Flux and carries a stamp");
        println!("(nothing)");
        Ok(())
    }

    fn refused(&self) -> Result<()> {
        let refused = self.run("kubectl apply -f hotfix.yaml -n prod")?;
        ensure!(refused.status != 0, "a direct apply to prod without a token went through");
        ensure!(
            refused.stderr.contains("needs a break-glass token"),
            "a direct apply to prod was refused, but not by breakglass"
        );
        Ok(())
    }

    fn open(&self) -> Result<()> {
        self.must("kubectl breakglass open INC-123 --reason 'checkout returns 500' -n prod --hold").map(drop)
    }

    fn goes_through(&self) -> Result<()> {
        self.must("kubectl apply -f hotfix.yaml -n prod")?;
        self.must("kubectl -n prod create configmap limits --from-literal=checkout=10").map(drop)
    }

    fn held(&self) -> Result<()> {
        self.must("kubectl -n prod set image deployment/api api=registry.example.com/api:1.0.1")?;
        self.must("kubectl -n prod scale deployment api --replicas=5")?;
        let look = ["-n", "prod", "get", "deployment", "api", "-o", "yaml"];
        wait_until("the scale to be stamped", FLUX_LIMIT, || {
            let seen = self.alice.run(&look);
            let stamped = seen.stdout.contains("breakglass.dev/operation: Scale");
            if stamped && seen.stdout.contains("reconcile: disabled") { Ok(()) } else { Err(seen.to_string()) }
        })?;
        self.must("kubectl breakglass close INC-123").map(drop)
    }

    fn stamped(&self) -> Result<()> {
        let stamp = self.must("kubectl -n prod get deployment hotfix -o yaml | grep breakglass.dev/")?;
        for part in
            ["breakglass.dev/user: alice@example.com", "breakglass.dev/incident: INC-123", "breakglass.dev/time:"]
        {
            ensure!(stamp.stdout.contains(part), "the stamp of deployment hotfix does not say {part:?}");
        }
        Ok(())
    }

    fn listed(&self) -> Result<()> {
        let listed = self.must("kubectl breakglass list")?;
        for part in ["hotfix", "INC-123"] {
            ensure!(listed.stdout.contains(part), "the list does not name {part}");
        }
        Ok(())
    }

    fn flux_goes_on(&self) -> Result<()> {
        let file = self.fleet.join("prod/api.yaml");
        let text = fs::read_to_string(&file)?;
        // Another number than now, so that the story can be told again in the same cluster.
        let (now, next) = if text.contains("replicas: 3") { ("3", "2") } else { ("2", "3") };
        fs::write(&file, text.replacen(&format!("replicas: {now}"), &format!("replicas: {next}"), 1))?;
        println!("(alice edits {}: replicas: {next})", file.display());
        self.must(&format!("git -C ../fleet commit --quiet --all --message 'api: {next} replicas'"))?;
        self.must("git -C ../fleet push --quiet")?;
        let look = ["-n", "prod", "get", "deployment", "api", "-o", "jsonpath={.spec.replicas}"];
        wait_until("Flux to apply the commit", FLUX_LIMIT, || {
            let seen = self.alice.run(&look);
            if seen.stdout == next { Ok(()) } else { Err(seen.to_string()) }
        })?;
        self.check_unstamped("api")
    }

    fn accepted(&self) -> Result<()> {
        self.must("kubectl breakglass diff -n prod deployment/api | grep '^[-+]'")?;
        self.must("kubectl breakglass accept -n prod deployment/api --repo ../fleet --push --yes")?;
        self.must("git -C ../fleet pull --quiet")?;
        self.must("git -C ../fleet show --unified=0 --format='%an: %s%n%n%b' HEAD").map(drop)
    }

    fn in_git(&self) -> Result<()> {
        let look = ["breakglass", "list", "--incident", "INC-123"];
        wait_until("the changes to be in Git", SETTLED_LIMIT, || {
            let seen = self.alice.run(&look);
            if seen.stdout.contains("deployment.apps/api ") { Err(seen.to_string()) } else { Ok(()) }
        })?;
        self.check_unstamped("api")
    }

    fn rejected(&self) -> Result<()> {
        let what = "configmap/hotfix-settings deployment/hotfix";
        self.must(&format!("kubectl breakglass reject -n prod {what} --reason 'the API itself is mended' --yes"))?;
        let gone = self.run("kubectl -n prod get deployment hotfix")?;
        ensure!(gone.status != 0, "deployment hotfix was rejected, and is there");
        Ok(())
    }

    fn deferred(&self) -> Result<()> {
        self.must(
            "kubectl breakglass defer -n prod configmap/limits --until 3d --reason 'the limits move into the chart'",
        )?;
        let listed = self.must("kubectl breakglass list")?;
        ensure!(
            listed.stdout.contains("configmap/limits") && !listed.stdout.contains("hotfix"),
            "the list does not say that one change is put off and the others are over"
        );
        Ok(())
    }

    fn reported(&self) -> Result<()> {
        let report = self.must("kubectl breakglass report INC-123")?;
        ensure!(report.stdout.contains("checkout returns 500"), "the report does not say why the glass was broken");
        Ok(())
    }

    /// Shows a command that must succeed, and what it says.
    fn must(&self, line: &str) -> Result<Output> {
        let output = self.run(line)?;
        ensure!(output.status == 0, "this command ended with exit code {}, and it should not: {line}", output.status);
        Ok(output)
    }

    /// Shows a command line as alice types it, and what it says.
    fn run(&self, line: &str) -> Result<Output> {
        println!("$ {line}");
        let shell = self.alice.clone().program(Path::new("/bin/sh"));
        let output = kubectl::run(shell.command(&["-c", line]), "")?;
        print!("{}{}", output.stdout, output.stderr);
        Ok(output)
    }
}

fn scene(title: &str) {
    println!("\n# {title}");
}
