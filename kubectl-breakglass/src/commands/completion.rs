//! `completion`: the script of a shell.

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::aot::{Shell, generate};

use crate::Exit;
use crate::cli::Cli;
use crate::error::Result;
use crate::print::Printer;

/// The name of the program when it is called by itself.
const PROGRAM: &str = "kubectl-breakglass";

/// Print the completion script of a shell
///
/// The script completes `kubectl-breakglass`. For `kubectl breakglass` there is
/// nothing to load: kubectl (with its own completion loaded) asks a program named
/// kubectl_complete-breakglass, which is this one under another name. Put it
/// beside the plugin:
///
///   ln -s kubectl-breakglass \
///     "$(dirname "$(command -v kubectl-breakglass)")/kubectl_complete-breakglass"
///
/// That way namespaces, environments and open tokens are completed as well.
///
/// Examples:
///   source <(kubectl breakglass completion bash)
///   kubectl breakglass completion fish >~/.config/fish/completions/kubectl-breakglass.fish
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: KnownShell,
}

/// The shells that kubectl knows, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KnownShell {
    /// bash
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

/// Prints the script.
///
/// # Errors
/// When stdout is closed or full.
pub fn completion(args: &CompletionArgs, printer: &mut Printer) -> Result<Exit> {
    let shell = match args.shell {
        KnownShell::Bash => Shell::Bash,
        KnownShell::Zsh => Shell::Zsh,
        KnownShell::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    generate(shell, &mut Cli::command().bin_name(PROGRAM), PROGRAM, &mut script);
    printer.bytes(&script)?;
    Ok(Exit::Done)
}
