//! `doctor`: whether every part of breakglass is as it should be, who can write past it, and what it does not see.

use std::collections::BTreeSet;

use chrono::Utc;
use clap::Args;
use serde::Serialize;

use crate::Exit;
use crate::checks::{Finding, Level};
use crate::cli::Output;
use crate::connect::Connection;
use crate::ctx::Ctx;
use crate::error::{CommandError, Result};
use crate::examine::examine;
use crate::in_force::{Source, policy_in_force};
use crate::print::object;
use crate::print::table::{Widths, printable};
use crate::survey::survey;

/// Check every part of breakglass, and see who can write past it
///
/// versions, kinds, policy: plugin, webhook and API server fit together; our
/// kinds are served as installed; a policy is in force, and refuses something.
/// deployment, service, certificates: replicas run, the API server reaches them,
/// and believes them.
/// registration: the API server calls the webhook as the policy says, and stays
/// closed while it does not answer.
/// replicas, leader, clocks: what the replicas say of themselves, and whether
/// they still do; one of them keeps the rest in order.
/// rights: the webhook may do what it has to.
/// access: who can obtain an identity that writes untouched (the control plane,
/// the GitOps engines, what the policy trusts), how, and through which binding.
/// It follows one step, and one more to those who have every right.
/// unseen, unanswered: what no admission webhook is asked about; what the API
/// server let in or refused because the webhook did not answer.
/// debt: changes that somebody had to decide about.
///
/// Each finding is ok, a note (to be known) or a problem (to be acted on), and a
/// problem ends with the command that mends it; -o name prints what the problems
/// are about. Reads all roles and bindings and the webhook's Secret, which takes
/// the rights of a cluster admin.
///
/// Exit codes: 0 no problem, 1 something could not be looked at, 3 a problem.
///
/// Examples:
///   kubectl breakglass doctor
///   kubectl breakglass doctor -o json
///   kubectl breakglass doctor >/dev/null 2>&1   # in CI: 3 when a problem
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct DoctorArgs {}

/// What programs read.
#[derive(Serialize)]
struct Report<'f> {
    problems: usize,
    findings: &'f [Finding],
}

/// Checks.
///
/// # Errors
/// When the cluster does not answer. What only leaves something unchecked is said, and ends with exit code 1.
pub async fn doctor(ctx: &mut Ctx<'_>, _args: &DoctorArgs) -> Result<Exit> {
    let (findings, failures) = look(&ctx.cluster).await?;
    let problems = findings.iter().filter(|finding| finding.level == Level::Problem).count();
    let report = Report { problems, findings: &findings };
    match ctx.output() {
        Output::Json => object::json(ctx.printer, &report)?,
        Output::Yaml => object::yaml(ctx.printer, &report)?,
        Output::Name => {
            let names: BTreeSet<&String> = problem_objects(&findings).collect();
            names.into_iter().try_for_each(|name| ctx.printer.data(name))?;
        }
        Output::Table | Output::Wide => print(ctx, &findings)?,
    }
    for failure in &failures {
        ctx.printer.say(&format!("warning: {}", failure.message));
        failure.hints.iter().for_each(|hint| ctx.printer.say(&format!("hint: {hint}")));
    }
    if matches!(ctx.output(), Output::Table | Output::Wide) {
        ctx.printer.say(&sum(problems, failures.is_empty()));
    }
    Ok(match (failures.is_empty(), problems) {
        (false, _) => Exit::Half,
        (true, 0) => Exit::Done,
        (true, _) => Exit::Owed,
    })
}

/// What is found, and what could not be looked at.
async fn look(cluster: &Connection) -> Result<(Vec<Finding>, Vec<CommandError>)> {
    let mut survey = survey(cluster).await?;
    let mine = Utc::now();
    let in_force = policy_in_force(cluster).await;
    let mut failures = std::mem::take(&mut survey.failures);
    if in_force.as_ref().is_ok_and(|policy| policy.source == Source::Guessed) {
        failures.push(CommandError::failed("the policy may not be read by you: the built-in one stands in"));
    }
    Ok((examine(&survey, &in_force, mine), failures))
}

fn problem_objects(findings: &[Finding]) -> impl Iterator<Item = &String> {
    findings.iter().filter(|finding| finding.level == Level::Problem).flat_map(|finding| &finding.objects)
}

fn print(ctx: &mut Ctx<'_>, findings: &[Finding]) -> Result<()> {
    let header = ["LEVEL", "CHECK", "FINDING"];
    let row =
        |finding: &Finding| vec![finding.level.as_str().to_owned(), finding.check.to_owned(), finding.message.clone()];
    let rows: Vec<Vec<String>> = findings.iter().map(row).collect();
    let widths = Widths::of(&header, &rows);
    ctx.printer.data(&widths.line(&header))?;
    for (finding, row) in findings.iter().zip(&rows) {
        ctx.printer.data(&widths.line(row))?;
        finding.hints.iter().for_each(|hint| ctx.printer.say(&format!("hint: {}", printable(hint))));
    }
    Ok(())
}

fn sum(problems: usize, whole: bool) -> String {
    let number = match problems {
        0 => "There is no problem".to_owned(),
        1 => "There is 1 problem".to_owned(),
        many => format!("There are {many} problems"),
    };
    if whole { format!("{number}.") } else { format!("{number} in what you may look at, which is not all.") }
}
