//! `doctor`: whether breakglass is in place, who can write past it, and what it does not see.

use std::collections::BTreeSet;

use clap::Args;
use futures::join;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use kube::Resource;
use kube::api::{Api, ListParams};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Exit;
use crate::checks::access::{Sight, access};
use crate::checks::registration::{NAME, registration};
use crate::checks::{Finding, Level, unseen};
use crate::cli::Output;
use crate::connect::Connection;
use crate::ctx::Ctx;
use crate::error::{CommandError, Result};
use crate::explain::Doing;
use crate::identities::exempt;
use crate::in_force::{Source, policy_in_force};
use crate::print::object;
use crate::print::table::{Widths, printable};
use crate::rbac::{Listed, Rbac};
use crate::scan::PAGE;

/// Check that breakglass is in place, and see who can write past it
///
/// registration: whether the API server calls the webhook, and stays closed
/// while it does not answer.
/// access: who can obtain an identity that writes untouched (the control plane,
/// the GitOps engines, what the policy trusts), how, and through which binding.
/// It follows one step, and one more to those who have every right.
/// unseen: what no admission webhook is asked about.
///
/// Each finding is ok, a note (to be known) or a problem (to be acted on); -o name
/// prints what the problems are about. Reads all roles and bindings, which takes
/// the rights of a cluster admin.
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
/// When the policy cannot be read. What only leaves something unchecked is said, and ends with exit code 1.
pub async fn doctor(ctx: &mut Ctx<'_>, _args: &DoctorArgs) -> Result<Exit> {
    let (findings, failures) = examine(&ctx.cluster).await?;
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
async fn examine(cluster: &Connection) -> Result<(Vec<Finding>, Vec<CommandError>)> {
    let policy = policy_in_force(cluster).await?;
    let rules = &policy.rules;
    let mut failures = Vec::new();
    if policy.source == Source::Guessed {
        failures.push(CommandError::failed("the policy may not be read by you: the built-in one stands in"));
    }
    let (mutating, validating, services, cluster_roles, roles, cluster_role_bindings, role_bindings) = join!(
        all::<MutatingWebhookConfiguration>(cluster, "for the MutatingWebhookConfigurations"),
        all::<ValidatingWebhookConfiguration>(cluster, "for the ValidatingWebhookConfigurations"),
        all(cluster, "for the APIServices"),
        all(cluster, "for the ClusterRoles"),
        all(cluster, "for the Roles"),
        all(cluster, "for the ClusterRoleBindings"),
        all(cluster, "for the RoleBindings"),
    );
    let (mutating, validating) = (seen(mutating, &mut failures), seen(validating, &mut failures));
    let services = seen(services, &mut failures);
    let before = failures.len();
    let listed = Listed {
        cluster_roles: seen(cluster_roles, &mut failures).unwrap_or_default(),
        roles: seen(roles, &mut failures).unwrap_or_default(),
        cluster_role_bindings: seen(cluster_role_bindings, &mut failures).unwrap_or_default(),
        role_bindings: seen(role_bindings, &mut failures).unwrap_or_default(),
    };
    let sight = if failures.len() == before { Sight::Whole } else { Sight::Part };

    let mut findings = Vec::new();
    if let (Some(mutating), Some(validating)) = (&mutating, &validating) {
        findings.extend(registration(named(mutating), named(validating), rules));
    }
    findings.extend(access(&Rbac::new(listed), &exempt(rules), sight));
    findings.extend(services.iter().flat_map(|services| unseen::aggregated(services)));
    findings.extend(mutating.iter().flat_map(|mutating| unseen::later_webhooks(mutating)));
    findings.extend(unseen::always());
    Ok((findings, failures))
}

fn named<K: Resource>(objects: &[K]) -> Option<&K> {
    objects.iter().find(|object| object.meta().name.as_deref() == Some(NAME))
}

fn seen<T>(answer: Result<T>, failures: &mut Vec<CommandError>) -> Option<T> {
    answer.map_err(|error| failures.push(error)).ok()
}

/// All objects of a kind, in all namespaces, page by page.
async fn all<K>(cluster: &Connection, what: &'static str) -> Result<Vec<K>>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let api = Api::<K>::all(cluster.client.clone());
    let mut params = ListParams::default().limit(PAGE);
    let mut objects = Vec::new();
    let mut restarted = false;
    loop {
        let page = async || match api.list(&params).await {
            Ok(page) => Ok(Some(page)),
            // The list grew old while it was read. Once more from the start; twice is no accident.
            Err(kube::Error::Api(status)) if status.code == 410 && !restarted => Ok(None),
            Err(error) => Err(error),
        };
        let Some(page) = cluster.ask_again(Doing::Asking(what), page).await? else {
            restarted = true;
            objects.clear();
            params.continue_token = None;
            continue;
        };
        objects.extend(page.items);
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            return Ok(objects);
        }
    }
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
