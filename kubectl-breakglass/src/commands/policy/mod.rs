//! `policy`: what is guarded, whether a draft of it makes sense, and what would become of a write.

use breakglass::api::{BreakglassPolicy, POLICY_NAME};
use clap::{Args, Subcommand};

use crate::Exit;
use crate::cli::{GlobalFlags, Output};
use crate::ctx::Ctx;
use crate::error::{CommandError, Result};
use crate::in_force::{Source, policy_in_force};
use crate::print::{Input, Printer, object};

// A draft, before it is applied.
mod check;
// One write, before it is tried.
mod explain;

pub use explain::Subject;

/// See what is guarded, check a draft of it, ask what would become of a write
#[derive(Args, Debug)]
pub struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Subcommand, Debug)]
enum PolicyCommand {
    /// Print the policy in force, all defaults filled in
    ///
    /// What it prints can be applied: it is where a policy of your own starts.
    ///
    /// Examples:
    ///   kubectl breakglass policy show
    ///   kubectl breakglass policy show >policy.yaml
    #[command(verbatim_doc_comment)]
    Show,
    Check(check::CheckArgs),
    Explain(explain::ExplainArgs),
}

impl PolicyArgs {
    /// Whether no cluster is asked.
    pub fn is_offline(&self) -> bool {
        matches!(self.command, PolicyCommand::Check(_))
    }

    /// Takes --as and its kind out of the flags where they are what is asked about, and not who asks.
    ///
    /// # Errors
    /// When a group is given without a user.
    pub fn subject(&self, flags: &mut GlobalFlags) -> Result<Option<Subject>> {
        match &self.command {
            PolicyCommand::Explain(args) => Subject::take(args, flags).map(Some),
            PolicyCommand::Show | PolicyCommand::Check(_) => Ok(None),
        }
    }
}

/// What needs no cluster.
///
/// # Errors
/// When a file cannot be read.
pub fn offline(args: &PolicyArgs, flags: &GlobalFlags, printer: &mut Printer, input: &mut Input) -> Result<Exit> {
    match &args.command {
        PolicyCommand::Check(args) => check::check(args, flags, printer, input),
        PolicyCommand::Show | PolicyCommand::Explain(_) => Err(CommandError::usage("this asks the cluster")),
    }
}

/// Prints the policy in force, or what it says of a write.
///
/// # Errors
/// Whatever the cluster answers, explained.
pub async fn policy(ctx: &mut Ctx<'_>, args: &PolicyArgs, subject: Option<Subject>) -> Result<Exit> {
    match &args.command {
        PolicyCommand::Show => show(ctx).await,
        PolicyCommand::Check(args) => {
            let flags = ctx.flags.clone();
            check::check(args, &flags, ctx.printer, &mut ctx.input)
        }
        PolicyCommand::Explain(args) => explain::explain(ctx, args, subject.unwrap_or_default()).await,
    }
}

async fn show(ctx: &mut Ctx<'_>) -> Result<Exit> {
    let policy = policy_in_force(&ctx.cluster).await?;
    ctx.printer.say(match policy.source {
        Source::Object => "# The object breakglasspolicy/default.",
        Source::BuiltIn => "# Built in: there is no object breakglasspolicy/default. Apply this to make one.",
        Source::Guessed => "# Built in: the object breakglasspolicy/default may not be read by you.",
    });
    let manifest = BreakglassPolicy::new(POLICY_NAME, policy.rules.spec().clone());
    match ctx.flags.asked_output().unwrap_or(Output::Yaml) {
        Output::Json => object::json(ctx.printer, &manifest)?,
        Output::Name => ctx.printer.data(&format!("breakglasspolicy.breakglass.dev/{POLICY_NAME}"))?,
        Output::Yaml | Output::Table | Output::Wide => object::yaml(ctx.printer, &manifest)?,
    }
    Ok(Exit::Done)
}
