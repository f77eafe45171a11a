//! `policy check`: a draft of a policy, before it is applied.

use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use serde::Serialize;

use crate::Exit;
use crate::cli::{GlobalFlags, Output};
use crate::error::{CommandError, Result};
use crate::lint::{Flaw, Severity, lint};
use crate::print::table::Widths;
use crate::print::{Input, Printer, object};

/// Check a draft of a policy, without a cluster
///
/// FILE is a manifest of a BreakglassPolicy, or the fields of its spec alone; - is
/// stdin. An error is what is not put in force: a field that does not exist, a
/// wrong word, a contradiction. A warning is put in force, and surely not meant.
/// One line each: error or warning, the field, why.
///
/// Exit codes: 0 nothing found, 1 an error, 3 warnings alone.
///
/// Examples:
///   kubectl breakglass policy check policy.yaml
///   kubectl breakglass policy show | kubectl breakglass policy check -
///   kubectl breakglass policy check policy.yaml -o json
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct CheckArgs {
    /// The file; - is stdin
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,
}

/// What programs read.
#[derive(Serialize)]
struct Report<'f> {
    errors: usize,
    warnings: usize,
    flaws: &'f [Flaw],
}

/// Checks a draft.
pub(super) fn check(args: &CheckArgs, flags: &GlobalFlags, printer: &mut Printer, input: &mut Input) -> Result<Exit> {
    let flaws = lint(&read(&args.file, input)?);
    let errors = flaws.iter().filter(|flaw| flaw.severity == Severity::Error).count();
    let report = Report { errors, warnings: flaws.len() - errors, flaws: &flaws };
    match flags.output() {
        Output::Json => object::json(printer, &report)?,
        Output::Yaml => object::yaml(printer, &report)?,
        Output::Name => flaws.iter().try_for_each(|flaw| printer.data(&flaw.field))?,
        Output::Table | Output::Wide => {
            let row = |flaw: &Flaw| vec![flaw.severity.as_str().to_owned(), flaw.field.clone(), flaw.why.clone()];
            let rows: Vec<Vec<String>> = flaws.iter().map(row).collect();
            let widths = Widths::of(&["", "", ""], &rows);
            rows.iter().try_for_each(|row| printer.data(&widths.line(row)))?;
            printer.say(&sum(errors, report.warnings));
        }
    }
    Ok(match (errors, report.warnings) {
        (0, 0) => Exit::Done,
        (0, _) => Exit::Owed,
        _ => Exit::Half,
    })
}

/// The text of a file.
///
/// # Errors
/// When it cannot be read.
pub(super) fn read(file: &Path, input: &mut Input) -> Result<String> {
    let text = if file == Path::new("-") { input.all() } else { std::fs::read_to_string(file) };
    text.map_err(|error| CommandError::failed(format!("could not read {}: {error}", file.display())))
}

fn sum(errors: usize, warnings: usize) -> String {
    let number = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    match (errors, warnings) {
        (0, 0) => "Nothing is wrong with it.".to_owned(),
        (0, _) => format!("It can be put in force; {}.", number(warnings, "warning")),
        (_, 0) => format!("It is not put in force: {}.", number(errors, "error")),
        _ => format!("It is not put in force: {}, {}.", number(errors, "error"), number(warnings, "warning")),
    }
}
