//! What the shell offers after Tab: words of the command line, and names from the cluster where it answers at once.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::time::Duration;

use breakglass::rules::Rules;
use chrono::Utc;
use clap::{Arg, Command, CommandFactory};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, complete};
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::api::{Api, ListParams};

use crate::Exit;
use crate::cli::{Cli, GlobalFlags};
use crate::connect::{Connection, connect, contexts};
use crate::error::{CommandError, Result};
use crate::in_force::policy_in_force;
use crate::ledger::{self, Keep, Which};
use crate::print::{Printer, age};
use crate::tokens;

/// Nobody waits longer for a Tab.
const PATIENCE: Duration = Duration::from_secs(1);

/// What tells kubectl's completion script not to offer file names (cobra's ShellCompDirectiveNoFileComp).
const NO_FILES: &str = ":4";

/// A word to offer, and what it means.
type Offer = (String, String);

/// Answers kubectl, which runs `kubectl_complete-breakglass <words…> <current>`.
///
/// A shell in the middle of a line is no place for messages: what fails offers nothing.
pub fn for_kubectl(words: Vec<OsString>, printer: &mut Printer) -> Exit {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let current = words.last().cloned().unwrap_or_default();
    let flags = flags_in(&words);
    let mut arguments = vec![OsString::from("kubectl-breakglass")];
    arguments.extend(words);
    let index = arguments.len().saturating_sub(1).max(1);
    if arguments.len() == 1 {
        arguments.push(OsString::new());
    }
    let directory = std::env::current_dir().ok();
    let offers = complete(&mut with_names(flags), arguments, index, directory.as_deref()).unwrap_or_default();
    for offer in offers.iter().filter(|offer| !offer.is_hide_set()) {
        let value = offer.get_value().to_string_lossy();
        // Flags are offered to who has begun one.
        if current.is_empty() && value.starts_with('-') {
            continue;
        }
        let help = offer.get_help().map(ToString::to_string).unwrap_or_default();
        let line = match help.lines().next() {
            Some(meaning) if !meaning.is_empty() => format!("{value}\t{meaning}"),
            _ => value.into_owned(),
        };
        if printer.data(&line).is_err() {
            break;
        }
    }
    let _ = printer.data(NO_FILES);
    Exit::Done
}

/// The command tree with what the cluster knows.
fn with_names(flags: GlobalFlags) -> Command {
    let offer = |flags: &GlobalFlags, names: fn(GlobalFlags) -> Vec<Offer>| {
        let flags = flags.clone();
        move |arg: Arg| arg.add(ArgValueCompleter::new(move |current: &OsStr| matching(names(flags.clone()), current)))
    };
    Cli::command()
        .mut_arg("namespaces", offer(&flags, namespaces))
        .mut_arg("context", offer(&flags, context_names))
        .mut_subcommand("open", |open| open.mut_arg("environment", offer(&flags, environments)))
        .mut_subcommand("run", |run| run.mut_arg("environment", offer(&flags, environments)))
        .mut_subcommand("list", |list| list.mut_arg("incident", offer(&flags, incidents)))
        .mut_subcommand("report", |report| report.mut_arg("incident", offer(&flags, incidents)))
        .mut_subcommand("close", |close| close.mut_arg("which", offer(&flags, open_tokens)))
}

fn matching(offers: Vec<Offer>, current: &OsStr) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    let fitting = offers.into_iter().filter(|(name, _)| name.starts_with(current.as_ref()));
    fitting.map(|(name, meaning)| CompletionCandidate::new(name).help(Some(meaning.into()))).collect()
}

/// The words before the current one that say which cluster is meant.
fn flags_in(words: &[OsString]) -> GlobalFlags {
    let mut flags = GlobalFlags::default();
    let mut words = words.iter().map(|word| word.to_string_lossy().into_owned());
    while let Some(word) = words.next() {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (word, None),
        };
        let slot: &mut Option<String> = match name.as_str() {
            "--context" => &mut flags.context,
            "--cluster" => &mut flags.cluster,
            "--server" | "-s" => &mut flags.server,
            "--as" => &mut flags.as_user,
            "--kubeconfig" => {
                flags.kubeconfig = value.or_else(|| words.next()).filter(|path| !path.is_empty()).map(Into::into);
                continue;
            }
            _ => continue,
        };
        *slot = value.or_else(|| words.next()).filter(|name| !name.is_empty());
    }
    flags
}

/// What the cluster answers at once, or nothing.
fn at_once<F: Future<Output = Result<Vec<Offer>>>>(
    flags: GlobalFlags,
    question: impl FnOnce(Connection) -> F,
) -> Vec<Offer> {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    let answer = runtime.block_on(async {
        let ask = async { question(connect(&flags).await?).await };
        tokio::time::timeout(PATIENCE, ask).await
    });
    runtime.shutdown_background();
    answer.ok().and_then(std::result::Result::ok).unwrap_or_default()
}

fn namespaces(flags: GlobalFlags) -> Vec<Offer> {
    at_once(flags, |cluster| async move {
        let api = Api::<Namespace>::all(cluster.client);
        let list = api.list_metadata(&ListParams::default()).await;
        let list = list.map_err(|error| CommandError::failed(error.to_string()))?;
        Ok(list.items.into_iter().filter_map(|item| Some((item.metadata.name?, String::new()))).collect())
    })
}

fn context_names(flags: GlobalFlags) -> Vec<Offer> {
    contexts(&flags).into_iter().map(|name| (name, String::new())).collect()
}

fn environments(flags: GlobalFlags) -> Vec<Offer> {
    let offers = |rules: &Rules| {
        let environments = rules.spec().environments.iter();
        environments.map(|one| (one.name.clone(), format!("namespaces {}", one.namespaces.join(", ")))).collect()
    };
    let live = at_once(flags, |cluster| async move { Ok(offers(&policy_in_force(&cluster).await?.rules)) });
    match (live.is_empty(), Rules::built_in()) {
        (true, Ok(built_in)) => offers(&built_in),
        _ => live,
    }
}

/// The incidents that something is owed for.
fn incidents(flags: GlobalFlags) -> Vec<Offer> {
    at_once(flags, |cluster| async move {
        let ledger = ledger::read(&cluster, &Which::default(), Keep::Lines).await?;
        let mut owed: BTreeMap<String, usize> = BTreeMap::new();
        for record in ledger.records {
            *owed.entry(record.change.spec.incident).or_default() += 1;
        }
        Ok(owed.into_iter().map(|(incident, changes)| (incident, format!("{changes} owed"))).collect())
    })
}

fn open_tokens(flags: GlobalFlags) -> Vec<Offer> {
    at_once(flags, |cluster| async move {
        let rules = policy_in_force(&cluster).await?.rules;
        let now = Utc::now();
        let open = tokens::all(&cluster).await?.into_iter().filter(|token| tokens::is_open(token, &rules, now));
        Ok(open
            .map(|token| {
                let left = age::until(token.spec.expires_at.instant(), now);
                let short = token.spec.user.split('@').next().unwrap_or_default();
                (token.name_any(), format!("{short}, {left} left"))
            })
            .collect())
    })
}
