//! `uninstall`: takes everything away, in the order that never leaves a lock behind that nobody answers.

use std::time::Instant;

use breakglass::api::{BreakglassChange, GROUP, HOME_NAMESPACE, Span};
use clap::Args;
use kube::api::{Api, ListParams};

use crate::Exit;
use crate::commands::install::{seconds, timeout};
use crate::ctx::Ctx;
use crate::discover::discover;
use crate::error::{CommandError, Result};
use crate::holds::{Holds, give_back, held};
use crate::in_force::policy_in_force;
use crate::manifests::Part;
use crate::pass::{Cause, Pass};
use crate::removal::{
    Gone, Purge, Removal, configurations, environments, leases, registered, remove, there, wait_gone,
};
use crate::rollout::{Deadline, pods_left};
use crate::unstamp::{clear, stamped};

/// Take breakglass out of the cluster
///
/// The webhook configurations go first and the webhook with them, so that nobody
/// waits for an answer that does not come, whatever was deleted by hand before.
/// This takes the right to delete them, which a cluster admin has, and no token:
/// the API server asks no webhook about them, and its audit log says who it was.
/// With --incident a token is opened first, and what goes is on record, too.
///
/// What changes hold (open --hold) is given back to its engine, object by object:
/// nobody is left to do so when its time is up. The engine then undoes what Git
/// does not say.
///
/// Records, policy, stamps and the key that records verify by are kept: install
/// finds them again. With --purge they go as well, for good.
///
/// Examples:
///   kubectl breakglass uninstall
///   kubectl breakglass uninstall --incident INC-123 --reason "moving away"
///   kubectl breakglass uninstall --purge --dry-run
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct UninstallArgs {
    /// Take records, policy, stamps, key and namespace away as well
    #[arg(long)]
    pub purge: bool,
    /// Do not ask before a purge
    #[arg(short = 'y', long)]
    pub yes: bool,
    /// How long all the waiting may take
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = timeout)]
    pub timeout: Span,
    /// The incident that a token is opened for, so that what goes is on record
    #[arg(long, value_name = "INCIDENT")]
    pub incident: Option<String>,
    /// Why, for that token
    #[arg(short = 'r', long)]
    pub reason: Option<String>,
    /// Say what would go, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

impl UninstallArgs {
    fn purge(&self) -> Purge {
        if self.purge { Purge::Yes } else { Purge::No }
    }

    /// This command line without the incident, to be typed again.
    fn command(&self) -> String {
        let flags = [(self.purge, " --purge"), (self.yes, " --yes")];
        let given = flags.into_iter().filter(|(given, _)| *given).map(|(_, flag)| flag);
        format!("kubectl breakglass uninstall{}", given.collect::<String>())
    }

    fn cause(&self) -> Cause {
        let reason = self.reason.clone().unwrap_or_else(|| "uninstall".to_owned());
        Cause { incident: self.incident.clone(), reason, command: self.command(), ttl: None }
    }
}

/// Uninstalls.
///
/// # Errors
/// What could not be taken away, and the command to look.
pub async fn uninstall(ctx: &mut Ctx<'_>, args: &UninstallArgs) -> Result<Exit> {
    let started = Instant::now();
    ctx.flags.namespaces.clear();
    let removal = Removal::all();
    let found = there(&ctx.cluster, removal.in_order(args.purge())).await?;
    if args.dry_run {
        return say_what_would_go(ctx, args, &found).await;
    }
    if args.purge {
        confirm(ctx, args).await?;
    }
    let deadline = Deadline::after(args.timeout.delta().to_std().unwrap_or_default());
    if args.incident.is_some() && found.iter().any(|(_, guarded)| *guarded) {
        let needed = environments(&found, &policy_in_force(&ctx.cluster).await?.rules);
        let pass = Pass::open(ctx, &needed, &args.cause()).await?;
        let unlocked = unlock(ctx, [&removal.webhook, &configurations()], deadline).await;
        pass.close(ctx).await;
        unlocked?;
    } else {
        unlock(ctx, [&configurations(), &removal.webhook], deadline).await?;
    }
    let mut exit = lift_holds(ctx, deadline).await;
    rest(ctx, &removal, deadline).await?;
    if args.purge && purge(ctx, &removal, deadline).await? != Exit::Done {
        exit = Exit::Half;
    }
    check_nothing_is_locked(ctx, deadline).await?;
    ctx.printer.say(&format!("uninstalled in {}", seconds(started)));
    if !args.purge {
        say_what_is_kept(ctx).await;
    }
    Ok(exit)
}

/// Ends the webhook and takes its configurations away, until both are gone.
///
/// One at once after the other, while the replicas still answer: from the first moment on nobody is refused by somebody who is
/// not there. What leads looks every two seconds and would put its configurations back; a replica that is on its way out
/// repairs nothing. Should one have been faster, they go again.
async fn unlock(ctx: &mut Ctx<'_>, parts: [&[Part]; 2], deadline: Deadline) -> Result<()> {
    let started = Instant::now();
    for parts in parts {
        let what = if parts.len() == 1 { "deployment" } else { "webhook configurations" };
        let words = remove_all(ctx, parts, deadline).await?;
        ctx.printer.say(&format!("{what}: {words}"));
    }
    ctx.printer.say("nothing is refused or stamped any more");
    loop {
        let left = pods_left(ctx).await?;
        let back = registered(&ctx.cluster).await?;
        for part in &back {
            remove(&ctx.cluster, part, deadline).await?;
        }
        if left.is_empty() && back.is_empty() {
            break;
        }
        if !deadline.pause().await {
            // On a node that does not answer a pod stays. Without its rights, which go next, it can put nothing back.
            ctx.printer.say(&format!("Warning: still there: pods {}; going on without them", left.join(", ")));
            break;
        }
    }
    ctx.printer.say(&format!("replicas: gone ({})", seconds(started)));
    Ok(())
}

/// `deleted`, `already gone`, `2 deleted, 1 already gone`.
async fn remove_all(ctx: &Ctx<'_>, parts: &[Part], deadline: Deadline) -> Result<String> {
    let mut now = 0;
    for part in parts {
        now += usize::from(remove(&ctx.cluster, part, deadline).await? == Gone::Now);
    }
    let already = parts.len() - now;
    Ok(match (now, already) {
        (_, 0) if parts.len() == 1 => "deleted".to_owned(),
        (0, _) => "already gone".to_owned(),
        (_, 0) => format!("{now} deleted"),
        _ => format!("{now} deleted, {already} already gone"),
    })
}

/// Gives back what is held: nobody is left to do so when its time is up. What cannot be given back is no reason to leave a lock.
async fn lift_holds(ctx: &mut Ctx<'_>, deadline: Deadline) -> Exit {
    let holds = find_holds(ctx).await;
    let mut exit = if holds.failures.is_empty() { Exit::Done } else { Exit::Half };
    for held in &holds.held {
        match give_back(&ctx.cluster, held, deadline).await {
            Ok(()) => ctx.printer.say(&format!("Warning: given back: {}", held.words())),
            Err(why) => {
                ctx.printer.say(&format!("Warning: still held, for ever: {}: {why}", held.target.place()));
                ctx.printer.say(&format!("hint: {}", held.command()));
                exit = Exit::Half;
            }
        }
    }
    exit
}

/// What is held. What cannot be told is said.
async fn find_holds(ctx: &mut Ctx<'_>) -> Holds {
    let holds = held(&ctx.cluster).await;
    let holds = holds.unwrap_or_else(|error| Holds { failures: vec![error.message], ..Holds::default() });
    for failure in &holds.failures {
        ctx.printer.say(&format!("Warning: an object may be held, and stay so: {failure}"));
    }
    holds
}

/// What the webhook used, last its rights.
async fn rest(ctx: &mut Ctx<'_>, removal: &Removal, deadline: Deadline) -> Result<()> {
    let started = Instant::now();
    let parts: Vec<Part> = removal.rest.iter().cloned().chain(leases(&ctx.cluster).await?).collect();
    let words = remove_all(ctx, &parts, deadline).await?;
    ctx.printer.say(&format!("service, roles and the rest: {words} ({})", seconds(started)));
    Ok(())
}

/// Stamps first: while the records are there, somebody can still see what they were about.
async fn purge(ctx: &mut Ctx<'_>, removal: &Removal, deadline: Deadline) -> Result<Exit> {
    let started = Instant::now();
    let kinds = discover(&ctx.cluster).await?;
    let found = stamped(&ctx.cluster, &kinds).await;
    let cleared = clear(&ctx.cluster, &kinds, found).await;
    ctx.printer.say(&format!("stamps: taken off {} objects ({})", cleared.cleared, seconds(started)));
    for failure in &cleared.failures {
        ctx.printer.say(&format!("Warning: a stamp may be left: {failure}"));
    }
    let started = Instant::now();
    let words = remove_all(ctx, &removal.purged, deadline).await?;
    for part in &removal.purged {
        wait_gone(&ctx.cluster, part, deadline).await?;
    }
    ctx.printer.say(&format!("definitions, records and namespace {HOME_NAMESPACE}: {words} ({})", seconds(started)));
    Ok(if cleared.failures.is_empty() { Exit::Done } else { Exit::Half })
}

/// The one thing that must never be left.
async fn check_nothing_is_locked(ctx: &Ctx<'_>, deadline: Deadline) -> Result<()> {
    let back = registered(&ctx.cluster).await?;
    for part in &back {
        remove(&ctx.cluster, part, deadline).await?;
    }
    let back = registered(&ctx.cluster).await?;
    let Some(first) = back.first() else { return Ok(()) };
    let message = format!("{} is back: somebody who runs the webhook writes it again", first.full_name());
    Err(CommandError::failed(message)
        .hint("kubectl get pods -A -l app.kubernetes.io/name=breakglass")
        .hint("kubectl delete validatingwebhookconfiguration,mutatingwebhookconfiguration breakglass"))
}

async fn say_what_would_go(ctx: &mut Ctx<'_>, args: &UninstallArgs, found: &[(Part, bool)]) -> Result<Exit> {
    for (part, _) in found {
        ctx.printer.data(&format!("{} deleted (server dry run)", part.full_name()))?;
    }
    if args.purge {
        let kinds = discover(&ctx.cluster).await?;
        let number = stamped(&ctx.cluster, &kinds).await.objects.len();
        ctx.printer.say(&format!(
            "With the definitions go {}; stamps would be taken off {number} objects.",
            records(ctx).await
        ));
    }
    for held in find_holds(ctx).await.held {
        ctx.printer.say(&format!("Would be given back: {}", held.words()));
    }
    if found.iter().any(|(_, guarded)| *guarded) {
        ctx.printer.say("To have it on record, give --incident and --reason.");
    }
    Ok(Exit::Done)
}

/// A purge takes what nobody can bring back.
async fn confirm(ctx: &mut Ctx<'_>, args: &UninstallArgs) -> Result<()> {
    if args.yes {
        return Ok(());
    }
    let records = records(ctx).await;
    let place = format!("{} (context {})", ctx.cluster.server, ctx.cluster.context);
    if !ctx.input.terminal {
        let incident = args.incident.as_ref().map(|id| format!(" --incident {id}")).unwrap_or_default();
        let message = format!("a purge takes {records} from {place} for good, and was not confirmed");
        return Err(CommandError::usage(message).hint(format!("{} --yes{incident}", args.command())));
    }
    ctx.printer.say(&format!("This takes {records}, the policy and all stamps from {place}, for good."));
    ctx.printer.ask(&format!("Type {GROUP} to go on: "));
    if ctx.input.line() == GROUP {
        return Ok(());
    }
    Err(CommandError::failed("that was another answer: nothing was changed"))
}

/// How many records there are, in words.
async fn records(ctx: &Ctx<'_>) -> String {
    let api = Api::<BreakglassChange>::all(ctx.cluster.client.clone());
    let params = ListParams::default().limit(1);
    match ctx.cluster.bounded(api.list_metadata(&params)).await {
        Some(Ok(list)) => {
            let more = list.metadata.remaining_item_count.unwrap_or_default();
            match list.items.len() as i64 + more {
                1 => "1 record".to_owned(),
                number => format!("{number} records"),
            }
        }
        Some(Err(_)) | None => "all records".to_owned(),
    }
}

async fn say_what_is_kept(ctx: &mut Ctx<'_>) {
    let definitions = Removal::all().purged;
    if there(&ctx.cluster, definitions).await.is_ok_and(|left| left.is_empty()) {
        ctx.printer.say("Nothing of breakglass is left but stamps, if there were any.");
        return;
    }
    let records = records(ctx).await;
    ctx.printer.say(&format!(
        "Kept: {records}, tokens, policy and stamps; the namespace {HOME_NAMESPACE} with the Secrets \
         breakglass-webhook-key, by which records verify, and breakglass-webhook-tls. An install finds them again."
    ));
    ctx.printer.say("To take them away as well:");
    ctx.printer.say("  kubectl breakglass uninstall --purge");
}
