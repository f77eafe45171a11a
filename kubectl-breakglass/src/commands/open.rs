//! `open`: asks for a token; waits for approval if told to.

use breakglass::api::{BreakglassToken, Span};
use breakglass::rules::Rules;
use clap::Args;
use futures::TryStreamExt;
use kube::ResourceExt;
use kube::api::{Api, WatchEvent, WatchParams};

use crate::Exit;
use crate::ctx::Ctx;
use crate::error::{CommandError, Result};
use crate::explain::Doing;
use crate::print::{age, object};
use crate::request::{Purpose, Request, place_of, prepare};
use crate::tokens::{self, Really, Standing, create, full_name, is_open, standing};

/// Open a token: you may write to an environment, for one incident
///
/// Give the namespaces you have to write to, or a whole environment. Without
/// either, the namespace of your kubeconfig's context is meant. On a terminal
/// you are shown what it means, and asked for the incident's id again.
///
/// Examples:
///   kubectl breakglass open INC-123 -n prod --reason "checkout returns 500"
///   kubectl breakglass open INC-123 --environment prod --ttl 30m --yes \
///     --reason "checkout returns 500"
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment, override_usage = "kubectl breakglass open INCIDENT --reason R [-n NS]... [OPTIONS]")]
pub struct OpenArgs {
    /// The incident's id, such as INC-123
    pub incident: String,
    /// Why production has to be written to directly: the review will read it
    #[arg(short = 'r', long)]
    pub reason: String,
    /// The environment, where all its namespaces are meant
    #[arg(short = 'e', long)]
    pub environment: Option<String>,
    /// For how long, such as 30m; the policy knows a default and a maximum
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = ttl)]
    pub ttl: Option<Span>,
    /// Keep Flux from undoing what you write, until Git says the same or a decision is due
    #[arg(long)]
    pub hold: bool,
    /// Wait until somebody has approved it
    #[arg(long)]
    pub wait: bool,
    /// Do not ask for the incident's id again
    #[arg(short = 'y', long)]
    pub yes: bool,
    /// Let the cluster check everything, and open nothing
    #[arg(long)]
    pub dry_run: bool,
}

impl OpenArgs {
    /// Whether anything is to happen.
    pub fn really(&self) -> Really {
        if self.dry_run { Really::DryRun } else { Really::Yes }
    }
}

fn ttl(text: &str) -> std::result::Result<Span, String> {
    if text.starts_with('-') {
        return Err("a token cannot end before it begins: write it as 30m, 1h30m or 2d".to_owned());
    }
    if text.chars().all(|c| c == '0') {
        return Err("that is no time at all: give at least 1s".to_owned());
    }
    text.parse().map_err(|error: breakglass::api::SpanError| error.to_string())
}

/// Opens a token.
///
/// # Errors
/// When it was not opened, why.
pub async fn open(ctx: &mut Ctx<'_>, args: OpenArgs) -> Result<Exit> {
    let request = prepare(ctx, &args, &Purpose::Open).await?;
    confirm(ctx, &args, &request).await?;
    let token = create(&ctx.cluster, &request, args.really()).await?;
    let sentence = match args.really() {
        Really::Yes => "opened",
        Really::DryRun => "opened (server dry run)",
    };
    let value = object::value(&token)?;
    object::one(ctx.printer, ctx.output(), &value, &full_name(&token), sentence)?;
    match args.really() {
        Really::DryRun => say_what_would_hold(ctx, &token),
        Really::Yes => {
            say_what_holds(ctx, &request, &token);
            if args.wait && request.needs_approval() {
                wait_for_approval(ctx, &request.rules, &token).await?;
            }
        }
    }
    Ok(Exit::Done)
}

/// On a terminal, shows what it means and asks for the incident's id again.
///
/// # Errors
/// When the answer is another one.
pub async fn confirm(ctx: &mut Ctx<'_>, args: &OpenArgs, request: &Request) -> Result<()> {
    let me = ctx.who_am_i().await.ok();
    if let Some(me) = &me {
        say_what_is_open(ctx, me, request).await;
    }
    if args.yes || args.dry_run || !ctx.input.terminal {
        return Ok(());
    }
    let until = breakglass::api::Timestamp::new(ctx.now() + request.length().delta());
    let cluster = format!("{} (context {})", ctx.cluster.server, ctx.cluster.context);
    for (what, value) in [
        ("Cluster", cluster.as_str()),
        ("Writing to", &request.place()),
        ("As", me.as_deref().unwrap_or("whoever the cluster takes you for")),
        ("Until", &format!("{until} ({} from now)", request.length())),
        ("Reason", &request.reason),
        ("Recorded", &what_is_recorded(&request.incident)),
    ] {
        ctx.printer.say(&format!("{what:<11} {}", crate::print::table::printable(value)));
    }
    ctx.printer.ask(&format!("Type {} to open: ", request.incident));
    if ctx.input.line() == request.incident {
        return Ok(());
    }
    Err(CommandError::failed("that was another answer: nothing was opened"))
}

fn what_is_recorded(incident: &str) -> String {
    format!(
        "every write is stamped with your name, the time and {incident}, and recorded with the object before and after"
    )
}

/// A second token for the same is allowed, and worth a word.
async fn say_what_is_open(ctx: &mut Ctx<'_>, me: &str, request: &Request) {
    // Who may open tokens may not always list them; that is no reason not to open one.
    let Ok(mine) = tokens::of_user(&ctx.cluster, me).await else { return };
    let now = ctx.now();
    let same = mine.iter().find(|token| {
        is_open(token, &request.rules, now)
            && token.spec.incident == request.incident
            && token.spec.environment == request.environment.name
            && token.spec.namespaces == request.namespaces
    });
    if let Some(token) = same {
        let left = age::until(token.spec.expires_at.instant(), now);
        ctx.printer.say(&format!("You already hold {} for the same, with {left} left.", token.name_any()));
    }
}

/// Says what a dry run found.
pub fn say_what_would_hold(ctx: &mut Ctx<'_>, token: &BreakglassToken) {
    let spec = &token.spec;
    let place = place_of(spec);
    ctx.printer
        .say(&format!("Dry run, nothing was opened: {} could write to {place} until {}.", spec.user, spec.expires_at));
}

/// Says what holds from now on, and what comes next.
fn say_what_holds(ctx: &mut Ctx<'_>, request: &Request, token: &BreakglassToken) {
    let spec = &token.spec;
    let left = age::until(spec.expires_at.instant(), ctx.now());
    let until = format!("{} ({left} from now)", spec.expires_at);
    let place = place_of(spec);
    if request.needs_approval() {
        ctx.printer.say(&format!(
            "{}: {} may write to {place} until {until}, as soon as {} has approved {}.",
            spec.incident,
            spec.user,
            approvers(request),
            token.name_any()
        ));
        return;
    }
    ctx.printer.say(&format!("{}: {} may write to {place} until {until}.", spec.incident, spec.user));
    ctx.printer.say(&capital(&what_is_recorded(&spec.incident)));
    if spec.hold {
        ctx.printer.say("What Flux applies stays as you write it, until Git says the same or a decision is due.");
    }
    let namespace = spec.namespaces.first().map_or("<namespace>", String::as_str);
    ctx.printer.say("Next:");
    ctx.printer.say(&format!("  kubectl -n {namespace} apply -f …"));
    ctx.printer.say(&format!("  kubectl breakglass list --incident {}", spec.incident));
    ctx.printer.say(&format!("  kubectl breakglass close {}", spec.incident));
}

fn capital(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map(|first| format!("{}{}.", first.to_uppercase(), letters.as_str())).unwrap_or_default()
}

/// Who may approve, in words.
fn approvers(request: &Request) -> String {
    match request.environment.token.approval.approvers.groups.as_slice() {
        [] => "somebody whom the policy has yet to name".to_owned(),
        groups => format!("a member of {}", groups.join(" or ")),
    }
}

/// Waits until the token admits writes.
///
/// # Errors
/// When it never will: denied, closed, or its time is up.
pub async fn wait_for_approval(ctx: &mut Ctx<'_>, rules: &Rules, token: &BreakglassToken) -> Result<()> {
    ctx.printer.say("Waiting for approval.");
    let api = Api::<BreakglassToken>::all(ctx.cluster.client.clone());
    let doing = Doing::Reading("the token");
    let name = token.name_any();
    loop {
        let Some(current) = ctx.ask(doing, api.get_opt(&name)).await? else {
            return Err(CommandError::failed(format!("{name} was deleted before anybody approved it")));
        };
        match standing(&current, rules, ctx.now()) {
            Standing::Live => {
                ctx.printer.say(&format!("{name} is approved: you may write until {}.", current.spec.expires_at));
                return Ok(());
            }
            Standing::Waiting => {}
            ended @ (Standing::Denied | Standing::Closed | Standing::Expired) => {
                let by = current.status.and_then(|status| status.closed_by).map(|by| format!(" by {by}"));
                let by = by.unwrap_or_default();
                return Err(CommandError::failed(format!("{name} is {}{by}: it admits nothing", ended.as_str())));
            }
        }
        let left = (current.spec.expires_at.instant() - ctx.now()).num_seconds().clamp(1, 290);
        let params =
            WatchParams::default().fields(&format!("metadata.name={name}")).timeout(left.unsigned_abs() as u32);
        let since = current.resource_version().unwrap_or_default();
        let next = async {
            let mut events = std::pin::pin!(api.watch(&params, &since).await?);
            while let Some(event) = events.try_next().await? {
                if !matches!(event, WatchEvent::Bookmark(_)) {
                    break;
                }
            }
            Ok(())
        };
        // A watch that ends or fails only means: look again, and let the look say what is wrong.
        let _: kube::Result<()> = next.await;
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}
