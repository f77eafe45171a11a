//! `install`: everything in the cluster, in order, until a write was admitted and another refused.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use breakglass::api::{BreakglassPolicy, HOME_NAMESPACE, Mode, POLICY_NAME, Span};
use breakglass::rules::Rules;
use clap::{ArgAction, Args, ValueHint};
use kube::api::{Api, ApiResource, DynamicObject};
use serde_json::{Value, json};

use crate::Exit;
use crate::call::apply;
use crate::cli::Output;
use crate::ctx::Ctx;
use crate::error::{CommandError, Result};
use crate::explain::Doing;
use crate::in_force::policy_in_force;
use crate::manifests::{Part, Step, Wanted, render};
use crate::pass::{Cause, Pass};
use crate::plan::{Change, May, Planned, plan, read};
use crate::policy_file;
use crate::print::{Printer, object};
use crate::prove::{prove, registered};
use crate::removal;
use crate::rollout::{Deadline, available, established};
use crate::tokens::Really;

/// Install breakglass, or bring it up to date
///
/// Applies everything, waits until all replicas serve, and then tries it: one
/// write has to come back stamped, and one has to be refused. What is as it
/// should be already is left alone, so that it can be run any number of times.
/// Flags say all of it: what is not given goes back to what is built in. Only the
/// policy is left as it is unless --policy or --mode is given.
///
/// An installed breakglass guards itself. Where something changes, a token is
/// opened for the incident that you name, and closed again.
///
/// Examples:
///   kubectl breakglass install --image registry.example.com/breakglass:0.2.0
///   kubectl breakglass install --mode Audit
///   kubectl breakglass install -o yaml | kubectl diff --server-side -f -
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct InstallArgs {
    /// The image of the webhook
    #[arg(long, value_name = "REF")]
    pub image: Option<String>,
    /// How many replicas; with one, prod is shut while it moves
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=99))]
    pub replicas: Option<u32>,
    /// The policy: a BreakglassPolicy, or its spec alone
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub policy: Option<PathBuf>,
    /// Write the policy with this mode: of FILE, else as it is, else built in
    #[arg(long, value_name = "Audit|Warn|Enforce", value_parser = mode, hide_possible_values = true)]
    pub mode: Option<Mode>,
    /// How long all the waiting may take
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = timeout)]
    pub timeout: Span,
    /// Wait until it works; --wait=false returns when all is applied
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set, hide_possible_values = true, hide_default_value = true)]
    pub wait: bool,
    /// The incident that a token is opened for, where one is needed
    #[arg(long, value_name = "INCIDENT")]
    pub incident: Option<String>,
    /// Why, for that token
    #[arg(short = 'r', long)]
    pub reason: Option<String>,
    /// Take fields that others have written since
    #[arg(long)]
    pub force_conflicts: bool,
    /// Say what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// kubectl's words for a mode, in any case.
fn mode(text: &str) -> std::result::Result<Mode, String> {
    let modes = [("audit", Mode::Audit), ("warn", Mode::Warn), ("enforce", Mode::Enforce)];
    let found = modes.into_iter().find(|(name, _)| text.eq_ignore_ascii_case(name));
    found.map(|(_, mode)| mode).ok_or_else(|| "it is Audit, Warn or Enforce".to_owned())
}

/// How long to wait.
pub fn timeout(text: &str) -> std::result::Result<Span, String> {
    text.parse().map_err(|error: breakglass::api::SpanError| error.to_string())
}

impl InstallArgs {
    /// This command line, to be typed again with an incident.
    fn command(&self) -> String {
        let mut command = "kubectl breakglass install".to_owned();
        let mode = self.mode.map(|mode| format!("{mode:?}"));
        let replicas = self.replicas.map(|replicas| replicas.to_string());
        let policy = self.policy.as_ref().map(|path| path.display().to_string());
        for (flag, value) in [("image", &self.image), ("replicas", &replicas), ("policy", &policy), ("mode", &mode)] {
            if let Some(value) = value {
                command += &format!(" --{flag} {value}");
            }
        }
        if self.force_conflicts {
            command += " --force-conflicts";
        }
        command
    }

    fn cause(&self) -> Cause {
        let reason =
            self.reason.clone().unwrap_or_else(|| concat!("install of ", env!("CARGO_PKG_VERSION")).to_owned());
        Cause { incident: self.incident.clone(), reason, command: self.command(), ttl: None }
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(self.timeout.delta().to_std().unwrap_or(Duration::from_secs(300)))
    }

    /// The policy to write, `before` being the one that is there.
    fn policy(&self, before: Option<Value>) -> Result<Option<Value>> {
        let file = self.policy.as_deref().map(policy_file::read).transpose()?;
        let Some(mode) = self.mode else { return Ok(file) };
        // What is left out has the built-in value: without either, the mode alone is the whole of it.
        let mut spec = file.or(before).unwrap_or_else(|| json!({}));
        spec["mode"] = json!(mode);
        policy_file::check(&spec)?;
        Ok(Some(spec))
    }

    fn wanted(&self, before: Option<Value>) -> Result<Wanted> {
        Ok(Wanted { image: self.image.clone(), replicas: self.replicas, policy: self.policy(before)? })
    }
}

/// Prints what would be applied. No cluster is asked: with --mode the policy is FILE or the built-in one.
///
/// # Errors
/// When the policy is none, or stdout is closed or full.
pub fn print(args: &InstallArgs, output: Output, printer: &mut Printer) -> Result<Exit> {
    let parts = render(&args.wanted(None)?);
    match output {
        Output::Json => {
            let items: Vec<&Value> = parts.iter().map(|part| &part.object).collect();
            object::json(printer, &json!({"apiVersion": "v1", "kind": "List", "items": items}))?;
        }
        Output::Name => parts.iter().try_for_each(|part| printer.data(&part.full_name()))?,
        Output::Yaml | Output::Table | Output::Wide => {
            for (number, part) in parts.iter().enumerate() {
                if number > 0 {
                    printer.data("---")?;
                }
                object::yaml(printer, &part.object)?;
            }
        }
    }
    Ok(Exit::Done)
}

/// Installs.
///
/// # Errors
/// What kept it from working, and the command to look.
pub async fn install(ctx: &mut Ctx<'_>, args: &InstallArgs) -> Result<Exit> {
    let started = Instant::now();
    // A token is for an environment here, whatever namespace the context names.
    ctx.flags.namespaces.clear();
    let parts = render(&args.wanted(spec_now(ctx, args).await?)?);
    let may = May { take_all: args.force_conflicts, take_mode: args.mode.is_some() };
    if args.dry_run {
        let planned = plan(&ctx.cluster, parts, may, Deadline::after(Duration::ZERO)).await?;
        return say_plan(ctx, &planned);
    }
    if args.replicas == Some(1) {
        ctx.printer.say("Warning: with one replica, prod is shut to people while it moves to another node");
    }
    let deadline = args.deadline();
    bring_back_the_kinds(ctx, args, &parts, deadline).await?;
    let planned = plan(&ctx.cluster, parts, may, deadline).await?;
    if planned.iter().any(|one| one.change != Change::Unchanged) {
        change(ctx, args, &planned, deadline).await?;
    } else {
        ctx.printer.say(&format!("unchanged: all {} objects are as they should be", planned.len()));
    }
    if args.wait {
        until_it_works(ctx, deadline).await?;
        ctx.printer.say(&format!("installed in {}", seconds(started)));
    } else {
        ctx.printer.say(&format!("applied in {}; see whether it works: kubectl breakglass doctor", seconds(started)));
    }
    Ok(Exit::Done)
}

/// `12 s`, `0.4 s`.
pub fn seconds(since: Instant) -> String {
    let seconds = since.elapsed().as_secs_f32();
    if seconds < 10.0 { format!("{seconds:.1} s") } else { format!("{seconds:.0} s") }
}

/// The spec of the policy that is in the cluster, where it is to be written again.
async fn spec_now(ctx: &Ctx<'_>, args: &InstallArgs) -> Result<Option<Value>> {
    if args.mode.is_none() || args.policy.is_some() {
        return Ok(None);
    }
    let kind = ApiResource::erase::<BreakglassPolicy>(&());
    let api = Api::<DynamicObject>::all_with(ctx.cluster.client.clone(), &kind);
    // Without the kind there is none of it either.
    let found = ctx.ask(Doing::Asking("for the policy"), api.get_opt(POLICY_NAME)).await?;
    Ok(found.map(|policy| policy.data["spec"].clone()))
}

fn say_plan(ctx: &mut Ctx<'_>, planned: &[Planned]) -> Result<Exit> {
    for one in planned {
        let line = format!("{} {} (server dry run)", one.part.full_name(), one.change.as_str());
        ctx.printer.data(&line)?;
    }
    if planned.iter().any(|one| one.guarded) {
        ctx.printer.say("This needs a token: breakglass guards itself. Give --incident and --reason.");
    }
    Ok(Exit::Done)
}

/// A webhook that has lost its kinds lets nothing else in, not even a dry run, and has no token to give. That a kind is made is
/// guarded by nobody, so that it can be repaired.
async fn bring_back_the_kinds(ctx: &mut Ctx<'_>, args: &InstallArgs, parts: &[Part], deadline: Deadline) -> Result<()> {
    if removal::registered(&ctx.cluster).await?.is_empty() {
        return Ok(());
    }
    let mut missing = Vec::new();
    for part in parts.iter().filter(|part| part.step == Step::Definitions) {
        let api = part.api(&ctx.cluster.client);
        if ctx.ask(Doing::Asking("for the definitions"), api.get_opt(&part.name)).await?.is_none() {
            missing.push(part.clone());
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let planned = plan(&ctx.cluster, missing, May { take_all: false, take_mode: false }, deadline).await?;
    change(ctx, args, &planned, deadline).await
}

/// Applies what changes, under a token where one is needed.
async fn change(ctx: &mut Ctx<'_>, args: &InstallArgs, planned: &[Planned], deadline: Deadline) -> Result<()> {
    let mut environments = BTreeSet::new();
    if planned.iter().any(|one| one.guarded) {
        let rules = policy_in_force(&ctx.cluster).await?.rules;
        let guarded = planned.iter().filter(|one| one.guarded);
        environments.extend(guarded.map(|one| one.part.environment(&rules).to_owned()));
    }
    let pass = Pass::open(ctx, &environments, &args.cause()).await?;
    let outcome = tokio::select! {
        outcome = apply_all(ctx, planned, deadline) => outcome,
        _ = tokio::signal::ctrl_c() => {
            Err(CommandError::failed("interrupted: some of it is applied").hint(args.command()))
        }
    };
    pass.close(ctx).await;
    outcome
}

/// One step after the other, one line each.
async fn apply_all(ctx: &mut Ctx<'_>, planned: &[Planned], deadline: Deadline) -> Result<()> {
    for step in planned.chunk_by(|one, next| one.part.step == next.part.step) {
        let started = Instant::now();
        for one in step.iter().filter(|one| one.change != Change::Unchanged) {
            let answer = ctx.cluster.patiently(|| apply(&ctx.cluster.client, &one.part, one.conflicts, Really::Yes));
            read(&ctx.cluster, &one.part, answer.await)?;
        }
        let Some(first) = step.first() else { continue };
        let mut sentence = format!("{}: {}", first.part.step.as_str(), tally(step));
        if first.part.step == Step::Definitions && step.iter().any(|one| one.change != Change::Unchanged) {
            for one in step {
                established(ctx, &one.part, deadline).await?;
            }
            sentence += ", established";
        }
        match step.iter().all(|one| one.change == Change::Unchanged) {
            true => ctx.printer.say(&sentence),
            false => ctx.printer.say(&format!("{sentence} ({})", seconds(started))),
        }
    }
    Ok(())
}

/// `3 created`, `1 configured, 13 unchanged`.
fn tally(step: &[Planned]) -> String {
    let of = |change: Change| step.iter().filter(|one| one.change == change).count();
    let all = [Change::Created, Change::Configured, Change::Unchanged].map(|change| (of(change), change.as_str()));
    let words: Vec<String> = match step {
        [one] => vec![one.change.as_str().to_owned()],
        _ => all.iter().filter(|(number, _)| *number > 0).map(|(number, word)| format!("{number} {word}")).collect(),
    };
    words.join(", ")
}

/// Waits for the replicas, for the registration, and for the two proofs.
async fn until_it_works(ctx: &mut Ctx<'_>, deadline: Deadline) -> Result<()> {
    let started = Instant::now();
    let replicas = available(ctx, deadline).await?;
    ctx.printer.say(&format!("replicas: {replicas} of {replicas} available ({})", seconds(started)));
    let rules: Rules = policy_in_force(&ctx.cluster).await?.rules;
    let started = Instant::now();
    registered(ctx, &rules, deadline).await?;
    ctx.printer.say(&format!("registered: the API server asks {HOME_NAMESPACE} ({})", seconds(started)));
    let started = Instant::now();
    let sentences = prove(ctx, &rules, deadline).await?;
    for sentence in sentences {
        ctx.printer.say(&sentence);
    }
    ctx.printer.say(&format!("tried in {}", seconds(started)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Conflicts;

    fn args(policy: Option<&str>, mode: Option<Mode>) -> InstallArgs {
        InstallArgs {
            image: None,
            replicas: None,
            policy: policy.map(PathBuf::from),
            mode,
            timeout: Span::hours(1),
            wait: true,
            incident: None,
            reason: None,
            force_conflicts: false,
            dry_run: false,
        }
    }

    #[test]
    fn the_policy_is_of_the_file_else_as_it_is_else_built_in() {
        let file = std::env::temp_dir().join(format!("breakglass-policy-{}.yaml", std::process::id()));
        std::fs::write(&file, "{mode: Enforce, incidentPattern: \"^FILE\"}").unwrap();
        let name = file.to_str().unwrap();
        let before = Some(json!({"mode": "Enforce", "incidentPattern": "^BEFORE"}));
        let (audit, pattern) = (Some(Mode::Audit), "incidentPattern");
        assert_eq!(args(None, None).policy(before.clone()).unwrap(), None);
        assert_eq!(args(Some(name), None).policy(None).unwrap(), Some(json!({"mode": "Enforce", pattern: "^FILE"})));
        assert_eq!(
            args(Some(name), audit).policy(before.clone()).unwrap(),
            Some(json!({"mode": "Audit", pattern: "^FILE"}))
        );
        assert_eq!(args(None, audit).policy(before).unwrap(), Some(json!({"mode": "Audit", pattern: "^BEFORE"})));
        assert_eq!(args(None, audit).policy(None).unwrap(), Some(json!({"mode": "Audit"})));
        std::fs::remove_file(file).unwrap();
    }

    #[test]
    fn a_step_is_one_line() {
        let parts: Vec<Part> =
            render(&Wanted::default()).into_iter().filter(|part| part.step == Step::Definitions).collect();
        let changes = [Change::Created, Change::Unchanged, Change::Created];
        let planned: Vec<Planned> = parts
            .into_iter()
            .zip(changes)
            .map(|(part, change)| Planned { part, change, guarded: false, conflicts: Conflicts::Respect })
            .collect();
        assert_eq!(tally(&planned), "2 created, 1 unchanged");
        assert_eq!(tally(&planned[..1]), "created");
    }
}
