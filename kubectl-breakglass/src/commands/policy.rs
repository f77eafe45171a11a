//! `policy`: what is guarded.

use breakglass::api::{BreakglassPolicy, POLICY_NAME};
use clap::{Args, Subcommand};

use crate::Exit;
use crate::cli::Output;
use crate::ctx::Ctx;
use crate::error::Result;
use crate::in_force::{Source, policy_in_force};
use crate::print::object;

/// See what is guarded
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
}

/// Prints the policy in force.
///
/// # Errors
/// Whatever the cluster answers, explained.
pub async fn policy(ctx: &mut Ctx<'_>, args: &PolicyArgs) -> Result<Exit> {
    match args.command {
        PolicyCommand::Show => show(ctx).await,
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
    match ctx.flags.output.unwrap_or(Output::Yaml) {
        Output::Json => object::json(ctx.printer, &manifest)?,
        Output::Name => ctx.printer.data(&format!("breakglasspolicy.breakglass.dev/{POLICY_NAME}"))?,
        Output::Yaml | Output::Table | Output::Wide => object::yaml(ctx.printer, &manifest)?,
    }
    Ok(Exit::Done)
}
