//! `run`: opens a token, runs one command, closes the token whatever happens.

use std::ffi::OsString;
use std::io::ErrorKind as IoErrorKind;
use std::path::Path;
use std::process::ExitStatus;

use breakglass::api::BreakglassToken;
use clap::Args;
use kube::ResourceExt;

use super::close::say_what_is_owed;
use super::open::{OpenArgs, confirm, say_what_would_hold, wait_for_approval};
use crate::Exit;
use crate::ctx::Ctx;
use crate::error::Result;
use crate::request::{Purpose, Request, place_of, prepare};
use crate::tokens::{self, Really, create};

/// Where the command finds the name of its token.
const TOKEN_VARIABLE: &str = "BREAKGLASS_TOKEN";

/// Programs that take kubectl's `-n`.
const KNOW_NAMESPACES: [&str; 9] =
    ["kubectl", "oc", "helm", "flux", "kustomize", "argocd", "stern", "kubecolor", "k9s"];

/// Open a token, run one command under it, close it
///
/// The token is closed whatever becomes of the command. The exit code is the
/// command's. Where no namespace is given, the command's own -n counts.
///
/// Examples:
///   kubectl breakglass run INC-123 --reason "checkout returns 500" -- \
///     kubectl -n prod rollout restart deployment/checkout
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment, override_usage = "kubectl breakglass run INCIDENT --reason R [OPTIONS] -- COMMAND")]
pub struct RunArgs {
    /// The same as of open.
    #[command(flatten)]
    pub open: OpenArgs,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Opens, runs, closes.
///
/// # Errors
/// When nothing was opened, why: then nothing was run.
pub async fn run(ctx: &mut Ctx<'_>, args: RunArgs) -> Result<Exit> {
    let request = prepare(ctx, &args.open, &Purpose::Run(namespaces_in(&args.command))).await?;
    confirm(ctx, &args.open, &request).await?;
    if args.open.really() == Really::DryRun {
        let token = create(&ctx.cluster, &request, Really::DryRun).await?;
        say_what_would_hold(ctx, &token);
        return Ok(Exit::Done);
    }
    // From here on an interrupt must not leave the token open.
    let mut signals = Signals::listen();
    let token = create(&ctx.cluster, &request, Really::Yes).await?;
    say_what_was_opened(ctx, &token);
    let outcome = under_token(ctx, &request, &token, &args, &mut signals).await;
    let closed = has_ended(ctx, &request, &token).await || end(ctx, &token).await;
    match (outcome?, closed) {
        (Exit::Done, false) => Ok(Exit::Half),
        (exit, _) => Ok(exit),
    }
}

fn say_what_was_opened(ctx: &mut Ctx<'_>, token: &BreakglassToken) {
    let spec = &token.spec;
    let place = place_of(spec);
    ctx.printer.say(&format!("{}: {} opened {} for {place}.", spec.incident, spec.user, token.name_any()));
}

async fn under_token(
    ctx: &mut Ctx<'_>,
    request: &Request,
    token: &BreakglassToken,
    args: &RunArgs,
    signals: &mut Signals,
) -> Result<Exit> {
    if request.needs_approval() {
        tokio::select! {
            approved = wait_for_approval(ctx, &request.rules, token) => approved?,
            signal = signals.next() => return Ok(Exit::Of(signal.code())),
        }
    }
    execute(ctx, token, &args.command, signals).await
}

/// Whether somebody has ended it already, while approval was waited for: that is final, and says who did.
async fn has_ended(ctx: &Ctx<'_>, request: &Request, token: &BreakglassToken) -> bool {
    if !request.needs_approval() {
        return false;
    }
    match tokens::named(&ctx.cluster, &token.name_any()).await {
        Ok(Some(current)) => !tokens::is_open(&current, &request.rules, ctx.now()),
        Ok(None) => true,
        Err(_) => false,
    }
}

/// Closes, and says so; a token that stays open is said loudly.
async fn end(ctx: &mut Ctx<'_>, token: &BreakglassToken) -> bool {
    let name = token.name_any();
    match tokens::close(&ctx.cluster, &name).await {
        Ok(_) => {
            ctx.printer.say(&format!("{name} closed."));
            say_what_is_owed(ctx, &token.spec.incident).await;
            true
        }
        Err(error) => {
            ctx.printer
                .say(&format!("error: {name} is STILL OPEN, until {}: {}", token.spec.expires_at, error.message));
            ctx.printer.say(&format!("hint: kubectl breakglass close {name}"));
            false
        }
    }
}

async fn execute(
    ctx: &mut Ctx<'_>,
    token: &BreakglassToken,
    command: &[OsString],
    signals: &mut Signals,
) -> Result<Exit> {
    let Some((program, arguments)) = command.split_first() else { return Ok(Exit::Done) };
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).env(TOKEN_VARIABLE, token.name_any());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            // The codes of a shell.
            let (code, why) = match error.kind() {
                IoErrorKind::NotFound => (127, "there is no such command".to_owned()),
                _ => (126, error.to_string()),
            };
            ctx.printer.say(&format!("error: {} could not be started: {why}", Path::new(program).display()));
            return Ok(Exit::Of(code));
        }
    };
    loop {
        tokio::select! {
            status = child.wait() => return Ok(match status {
                Ok(status) => exit_of(status),
                Err(error) => {
                    ctx.printer.say(&format!("error: what became of the command is unknown: {error}"));
                    Exit::Half
                }
            }),
            signal = signals.next() => signal.pass_on(&child),
        }
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return Exit::Of(u8::try_from(128 + signal).unwrap_or(u8::MAX));
    }
    match status.code() {
        Some(0) => Exit::Done,
        Some(code) => Exit::Of(u8::try_from(code).unwrap_or(1)),
        None => Exit::Half,
    }
}

/// What somebody wants from us while the command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    /// Ctrl-C. The terminal sends it to the command as well.
    Interrupt,
    /// `kill`, or the terminal has gone. It is sent to us alone.
    Terminate,
}

impl Signal {
    fn code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }

    /// Ctrl-C reaches every process of the terminal; a second one would make some commands stop without cleaning up.
    #[cfg(unix)]
    fn pass_on(self, child: &tokio::process::Child) {
        let Some(id) = child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed())) else { return };
        if self == Self::Terminate {
            // It may have ended a moment ago; then there is nobody to tell.
            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        }
    }

    #[cfg(not(unix))]
    fn pass_on(self, _: &tokio::process::Child) {}
}

/// Signals that would end us before the token is closed.
struct Signals {
    #[cfg(unix)]
    listeners: Option<[tokio::signal::unix::Signal; 3]>,
}

impl Signals {
    #[cfg(unix)]
    fn listen() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = || {
            Ok::<_, std::io::Error>([
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::hangup())?,
            ])
        };
        Self { listeners: listen().ok() }
    }

    #[cfg(not(unix))]
    fn listen() -> Self {
        Self {}
    }

    #[cfg(unix)]
    async fn next(&mut self) -> Signal {
        match &mut self.listeners {
            Some([interrupt, terminate, hangup]) => tokio::select! {
                _ = interrupt.recv() => Signal::Interrupt,
                _ = terminate.recv() => Signal::Terminate,
                _ = hangup.recv() => Signal::Terminate,
            },
            None => std::future::pending().await,
        }
    }

    #[cfg(not(unix))]
    async fn next(&mut self) -> Signal {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Signal::Interrupt,
            Err(_) => std::future::pending().await,
        }
    }
}

/// The namespaces that a command names with kubectl's own flag.
pub fn namespaces_in(command: &[OsString]) -> Vec<String> {
    let mut words = command.iter().map(|word| word.to_string_lossy());
    let program = words.next().map(|word| word.into_owned()).unwrap_or_default();
    let known = Path::new(&program).file_stem().and_then(|name| name.to_str());
    if !known.is_some_and(|name| KNOW_NAMESPACES.contains(&name)) {
        return Vec::new();
    }
    let mut last = None;
    while let Some(word) = words.next() {
        let word = word.as_ref();
        match word {
            // What follows belongs to what kubectl runs.
            "--" => break,
            "-n" | "--namespace" => last = words.next().map(|word| word.into_owned()),
            _ => {
                let value = word.strip_prefix("--namespace=").or_else(|| match word.strip_prefix("-n") {
                    Some(value) if !value.is_empty() => Some(value.strip_prefix('=').unwrap_or(value)),
                    _ => None,
                });
                last = value.map(str::to_owned).or(last);
            }
        }
    }
    // As with kubectl, the last one counts.
    last.into_iter().filter(|namespace| !namespace.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_of_a_command_is_read_as_kubectl_reads_it() {
        for (command, expected) in [
            ("kubectl -n prod delete configmap a", Some("prod")),
            ("kubectl delete configmap a --namespace prod", Some("prod")),
            ("kubectl delete configmap a --namespace=prod", Some("prod")),
            ("/usr/local/bin/kubectl delete configmap a -nprod", Some("prod")),
            ("kubectl -n=prod get pods", Some("prod")),
            ("kubectl -n staging get pods -n prod", Some("prod")),
            ("helm -n prod upgrade api ./chart", Some("prod")),
            ("kubectl exec pod/a -- sort -n 5", None),
            ("kubectl -n prod exec pod/a -- sort -n 5", Some("prod")),
            ("kubectl get pods -n", None),
            ("kubectl get pods", None),
            ("sort -n 5", None),
            ("sh -c kubectl", None),
        ] {
            let words: Vec<OsString> = command.split(' ').map(OsString::from).collect();
            assert_eq!(namespaces_in(&words), expected.into_iter().collect::<Vec<_>>(), "{command}");
        }
    }
}
