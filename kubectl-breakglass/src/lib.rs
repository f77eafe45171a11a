//! The kubectl plugin: open a token, write, see what is owed, close.
//!
//! `run` is the whole path: words from the command line, one call into `commands`, an exit code.

// The command tree in the order of an incident, and kubectl's own global flags.
pub mod cli;
// What a command needs: the cluster, the clock, where to print.
pub mod ctx;
// From flags and kubeconfig to a client.
pub mod connect;
// One question to the API server.
mod ask;
// What went wrong, in a sentence, with what to do about it.
pub mod error;
// From an error of the API server to that sentence.
pub mod explain;
// The policy in force.
pub mod in_force;
// What a token is asked for: flags, policy and namespaces agree before anything is sent.
pub mod request;
// Tokens in the cluster: whose, how long, opened and closed.
pub mod tokens;
// The records in the cluster.
pub mod ledger;
// A record as far as a table shows it.
mod line;
// How many changes are overdue, whoever made them.
pub mod overdue;
// From when on.
pub mod since;
// From what the command line names to records.
pub mod pick;
// Which of them somebody says yes to, on a terminal.
pub mod walk;
// What is decided about them.
pub mod verdicts;
// Until the webhook has seen how they ended.
pub mod settled;
// An object as it is now.
pub mod live;
// Where it comes from.
pub mod origin;
// The way there, link by link.
pub mod trace;
// Who put each field of it where it is.
pub mod authors;
// What it takes to put changes back.
pub mod restore;
// An object before a change, and after it.
pub mod states;
// What the webhook said of itself, and what the API server counted.
pub mod heard;
// From all of that to a page.
pub mod report;
// Whether that can be written to.
pub mod destination;
// What Git is to say of it.
pub mod want;
// Somebody's clone of a repository.
pub mod checkout;
// Where Git says what an object is: edited, and proven.
pub mod source;
// Whether Git says so, at the commit that the engine applies.
pub mod in_git;
// What is wrong with a policy that nobody has put in force yet.
pub mod lint;
// From a word for a kind to the kind.
pub mod resolve;
// What would become of a write.
pub mod outlook;
// Every kind that can be listed.
pub mod discover;
// What I may list, and where.
pub mod rights;
// Every object of every kind.
pub mod scan;
// Those that carry a stamp.
pub mod stamped;
// What is read of others.
pub mod metadata;
// Which namespaces are looked at where nobody names them.
pub mod area;
// What engines have applied.
pub mod inventory;
// What none of them has.
pub mod orphans;
// What somebody wrote past us.
pub mod unstamped;
// What is still to be done about a write.
pub mod row_state;
// Records and stamped objects, joined to one row each.
pub mod rows;
// Which of them a policy that enforced would have refused.
pub mod would_refuse;
// Whether what was deleted is gone.
pub mod gone;
// New records, as they come.
pub mod follow;
// Roles and bindings: who was given what.
pub mod rbac;
// Whom breakglass lets write untouched.
pub mod identities;
// Who can obtain such an identity.
pub mod reach;
// What doctor looks at, one file a check.
pub mod checks;
// What it reads for that.
pub mod survey;
// All checks over what was read.
pub mod examine;
// What is installed, and what flags change in it.
pub mod manifests;
// A policy that somebody wrote into a file.
pub mod policy_file;
// One write, and the warnings that came with its answer.
pub mod call;
// What applying would change.
pub mod plan;
// The tokens that an install holds.
pub mod pass;
// Whether what was applied has come to life.
pub mod rollout;
// Whether it works: one write let in, one refused.
pub mod prove;
// What is taken away, in which order.
pub mod removal;
// Stamps, taken off.
pub mod unstamp;
// Objects that an engine is kept from, given back to it.
pub mod holds;
// One file a command.
pub mod commands;
// stdout is data, stderr is talk.
pub mod print;
// What the shell offers after Tab.
pub mod complete;

use std::ffi::OsString;
use std::path::Path;

use clap::Parser;

pub use print::Io;

use cli::{Cli, Command, Format};
use ctx::Ctx;
use error::{CommandError, Result};
use print::Printer;

/// The name under which kubectl asks for completion.
const COMPLETION_NAME: &str = "kubectl_complete-breakglass";

/// How many pages are read at a time: more than a laptop has cores to spare would only hold more of them in memory.
const READERS: usize = 4;

/// What a command that did not fail ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is done.
    Done,
    /// Half of it failed; what did was said on stderr.
    Half,
    /// There is something to act on.
    Owed,
    /// Another command's own code.
    Of(u8),
}

impl Exit {
    /// The code that the process ends with.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Half => 1,
            Self::Owed => 3,
            Self::Of(code) => code,
        }
    }
}

/// Runs one command line to its end and returns the exit code.
pub fn run(argv: Vec<OsString>, io: Io) -> u8 {
    let (mut printer, input) = io.split();
    if is_completion(&argv) {
        return complete::for_kubectl(argv.into_iter().skip(1).collect(), &mut printer).code();
    }
    let outcome = match Cli::try_parse_from(&argv) {
        Ok(cli) => start(cli, &mut printer, input),
        Err(error) => return cli::report(&error, &argv, &mut printer),
    };
    match outcome {
        Ok(exit) => exit.code(),
        Err(error) => error.report(&mut printer),
    }
}

/// Starts what the commands run on.
fn start(cli: Cli, printer: &mut Printer, input: print::Input) -> Result<Exit> {
    // A second provider in the tree would make every TLS connection ask which; the answer is always this one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(READERS)
        .enable_all()
        .build()
        .map_err(|error| CommandError::failed(format!("the program could not start: {error}")))?;
    let outcome = runtime.block_on(dispatch(cli, printer, input));
    // A request that was given up must not hold the exit.
    runtime.shutdown_background();
    outcome
}

async fn dispatch(cli: Cli, printer: &mut Printer, input: print::Input) -> Result<Exit> {
    let (Cli { mut flags, command }, mut input) = (cli, input);
    if matches!(flags.format, Some(Format::Md | Format::Html)) && !matches!(command, Command::Report(_)) {
        let text = "only a report is a page: -o table, wide, json, yaml or name";
        return Err(CommandError::usage(text).hint("kubectl breakglass report INC-123 -o md"));
    }
    match command {
        Command::Completion(args) => return commands::completion::completion(&args, printer),
        Command::Version(args) => return commands::version::version(&args, &flags, printer).await,
        // Asked for as text, it needs no cluster.
        Command::Install(args) if flags.format.is_some() => {
            return commands::install::print(&args, flags.output(), printer);
        }
        Command::Policy(args) if args.is_offline() => {
            return commands::policy::offline(&args, &flags, printer, &mut input);
        }
        _ => {}
    }
    let subject = match &command {
        Command::Policy(args) => args.subject(&mut flags)?,
        _ => None,
    };
    let cluster = connect::connect(&flags).await?;
    let ctx = &mut Ctx { flags, cluster, printer, input };
    match command {
        Command::Open(args) => commands::open::open(ctx, args).await,
        Command::Run(args) => commands::run::run(ctx, args).await,
        Command::Status(args) => commands::status::status(ctx, &args).await,
        Command::List(args) => commands::list::list(ctx, &args).await,
        Command::Show(args) => commands::show::show(ctx, &args).await,
        Command::Diff(args) => commands::diff::diff(ctx, &args).await,
        Command::Trace(args) => commands::trace::trace(ctx, &args).await,
        Command::Blame(args) => commands::blame::blame(ctx, &args).await,
        Command::Reject(args) => commands::reject::reject(ctx, &args).await,
        Command::Orphans(args) => commands::orphans::orphans(ctx, &args).await,
        Command::Scan(args) => commands::scan::scan(ctx, &args).await,
        Command::Accept(args) => commands::accept::accept(ctx, &args).await,
        Command::Defer(args) => commands::defer::defer(ctx, &args).await,
        Command::Settle(args) => commands::settle::settle(ctx, &args).await,
        Command::Hold(args) => commands::hold::hold(ctx, &args).await,
        Command::Release(args) => commands::release::release(ctx, &args).await,
        Command::Report(args) => commands::report::report(ctx, &args).await,
        Command::Close(args) => commands::close::close(ctx, &args).await,
        Command::Policy(args) => commands::policy::policy(ctx, &args, subject).await,
        Command::Install(args) => commands::install::install(ctx, &args).await,
        Command::Uninstall(args) => commands::uninstall::uninstall(ctx, &args).await,
        Command::Doctor(args) => commands::doctor::doctor(ctx, &args).await,
        Command::Version(_) | Command::Completion(_) => Ok(Exit::Done),
    }
}

fn is_completion(argv: &[OsString]) -> bool {
    let name = argv.first().and_then(|program| Path::new(program).file_stem());
    name.is_some_and(|name| name == COMPLETION_NAME)
}

#[cfg(test)]
mod tests;
