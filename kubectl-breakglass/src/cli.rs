//! The command tree in the order of an incident, and kubectl's own global flags.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

use crate::commands::{
    accept, blame, close, completion, defer, diff, doctor, hold, install, list, open, orphans, policy, reject, release,
    report, run, scan, settle, show, status, trace, uninstall, version,
};
use crate::print::Printer;

/// Write to production during an incident, and leave nothing behind that nobody decided
///
/// A token lets you write to an environment that is run by GitOps, for one
/// incident, until a time. Every write under it is stamped and recorded, and
/// stays on the list until somebody has decided what becomes of it.
///
/// Examples:
///   kubectl breakglass open INC-123 -n prod --reason "checkout returns 500"
///   kubectl -n prod apply -f hotfix.yaml
///   kubectl breakglass list
///   kubectl breakglass close INC-123
///
/// Exit codes: 0 done, 1 failed, 2 wrong usage, 3 there is something to act on
/// (list and orphans --exit-code, scan, doctor, policy check and explain). run
/// returns the code of its command. diff: 0 nothing is left of the change, 1
/// something is, 2 failed.
#[derive(Parser, Debug)]
#[command(
    name = "kubectl-breakglass",
    bin_name = "kubectl breakglass",
    version,
    verbatim_doc_comment,
    max_term_width = 80,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// kubectl's own flags.
    #[command(flatten)]
    pub flags: GlobalFlags,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// kubectl's own flags, with kubectl's meaning.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Options of kubectl")]
pub struct GlobalFlags {
    /// The namespace; open takes several
    #[arg(short = 'n', long = "namespace", global = true, value_name = "NAMESPACE")]
    pub namespaces: Vec<String>,
    /// All namespaces
    #[arg(short = 'A', long, global = true)]
    pub all_namespaces: bool,
    /// Only objects with these labels
    #[arg(short = 'l', long, global = true, value_name = "LABELS")]
    pub selector: Option<String>,
    /// How to print: table, wide, json, yaml or name; a report: md, html, json or
    /// yaml
    #[arg(id = "output", short = 'o', long, global = true, value_enum, hide_possible_values = true)]
    pub format: Option<Format>,
    /// The context of the kubeconfig
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// The cluster of the kubeconfig
    #[arg(long, global = true)]
    pub cluster: Option<String>,
    /// The kubeconfig file
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub kubeconfig: Option<PathBuf>,
    /// The address of the API server
    #[arg(short = 's', long, global = true, value_name = "URL")]
    pub server: Option<String>,
    /// Act as another user
    #[arg(long = "as", global = true, value_name = "USER")]
    pub as_user: Option<String>,
    /// Act as a member of this group; may be repeated
    #[arg(long = "as-group", global = true, value_name = "GROUP")]
    pub as_groups: Vec<String>,
    /// How long to wait for one answer; 0 is without end [default: 30s]
    #[arg(long, global = true, value_name = "TIME", value_parser = request_timeout)]
    pub request_timeout: Option<RequestTimeout>,
}

impl GlobalFlags {
    /// How to print, where the command has no habit of its own.
    pub fn output(&self) -> Output {
        self.asked_output().unwrap_or(Output::Table)
    }

    /// How somebody asked to print what is no page.
    pub fn asked_output(&self) -> Option<Output> {
        self.format.and_then(Format::output)
    }
}

/// What `-o` may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns
    Table,
    /// More columns
    Wide,
    /// JSON
    Json,
    /// YAML
    Yaml,
    /// Only kind and name
    Name,
    /// A page in Markdown, of a report alone
    Md,
    /// A page for a browser, of a report alone
    Html,
}

impl Format {
    /// How every command prints; nothing for a page, which only a report is.
    pub fn output(self) -> Option<Output> {
        match self {
            Self::Table => Some(Output::Table),
            Self::Wide => Some(Output::Wide),
            Self::Json => Some(Output::Json),
            Self::Yaml => Some(Output::Yaml),
            Self::Name => Some(Output::Name),
            Self::Md | Self::Html => None,
        }
    }
}

/// How every command prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Columns.
    Table,
    /// More columns.
    Wide,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// Only kind and name.
    Name,
}

/// How long to wait for one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestTimeout {
    /// As long as it takes.
    Endless,
    /// At most this long.
    AtMost(std::time::Duration),
}

/// kubectl takes whole seconds without a unit as well, and 0 for no limit.
fn request_timeout(text: &str) -> Result<RequestTimeout, String> {
    let seconds = text.strip_suffix('s').unwrap_or(text);
    if seconds == "0" {
        return Ok(RequestTimeout::Endless);
    }
    let span: breakglass::api::Span = match seconds.parse::<u32>() {
        Ok(number) => format!("{number}s").parse(),
        Err(_) => text.parse(),
    }
    .map_err(|error: breakglass::api::SpanError| error.to_string())?;
    span.delta().to_std().map(RequestTimeout::AtMost).map_err(|error| error.to_string())
}

/// What to do, in the order of an incident.
#[derive(Subcommand, Debug)]
#[expect(missing_docs, reason = "the doc comment of each Args is the help, and one here would take its place")]
pub enum Command {
    Open(open::OpenArgs),
    Run(run::RunArgs),
    Status(status::StatusArgs),
    List(list::ListArgs),
    Show(show::ShowArgs),
    Diff(diff::DiffArgs),
    Trace(trace::TraceArgs),
    Blame(blame::BlameArgs),
    Orphans(orphans::OrphansArgs),
    Scan(scan::ScanArgs),
    Accept(accept::AcceptArgs),
    Reject(reject::RejectArgs),
    Defer(defer::DeferArgs),
    Settle(settle::SettleArgs),
    Hold(hold::HoldArgs),
    Release(release::ReleaseArgs),
    Report(report::ReportArgs),
    Close(close::CloseArgs),
    Policy(policy::PolicyArgs),
    Install(install::InstallArgs),
    Uninstall(uninstall::UninstallArgs),
    Doctor(doctor::DoctorArgs),
    Version(version::VersionArgs),
    Completion(completion::CompletionArgs),
}

/// Prints what the parser has to say, help or complaint, and returns the exit code.
pub fn report(error: &clap::Error, argv: &[OsString], printer: &mut Printer) -> u8 {
    let text = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => match printer.bytes(text.as_bytes()) {
            Ok(()) => 0,
            Err(error) => error.report(printer),
        },
        kind => {
            printer.say(text.trim_end());
            if kind == ErrorKind::MissingRequiredArgument
                && let Some(example) = example_of(argv)
            {
                printer.say(&format!("hint: {example}"));
            }
            2
        }
    }
}

/// A complete command line of the command that was meant.
fn example_of(argv: &[OsString]) -> Option<&'static str> {
    argv.iter().skip(1).find_map(|word| match word.to_str()? {
        "open" => Some(r#"kubectl breakglass open INC-123 -n prod --reason "checkout returns 500""#),
        "report" => Some("kubectl breakglass report INC-123"),
        "run" => Some(r#"kubectl breakglass run INC-123 -n prod --reason "checkout returns 500" -- kubectl -n prod …"#),
        _ => None,
    })
}
