//! `trace`: from an object to its engine, repository, path and revision.

use breakglass::api::Target;
use clap::Args;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

use crate::Exit;
use crate::cli::Output;
use crate::ctx::Ctx;
use crate::error::Result;
use crate::live::{nothing_there, whole};
use crate::origin::{Applied, Origin, claim, origin, repository};
use crate::pick::{Named, target};
use crate::print::{object, table};
use crate::resolve::resolve;
use crate::trace::{Asked, Link, State, Trace};

/// How far up owners are followed: a pod's is two away, an operator's a few more. A longer chain is a circle.
const OWNERS: usize = 8;

/// The columns of the table.
const COLUMNS: [&str; 3] = ["LINK", "WHAT", "KNOWN BY"];

/// Find out where in Git an object comes from
///
/// Object, engine, source, repository, path and revision: one line for each
/// link, and how it is known. Who applies an object is the engine's inventory's
/// word; labels are compared with it, and where they lie, that is said. What a
/// controller has made, such as a pod, is followed up to what it was made for.
///
/// Of HelmReleases and Argo CD's Applications only the object's own marks are
/// known, which is said as well.
///
/// Examples:
///   kubectl breakglass trace -n prod deployment/api
///   kubectl breakglass trace -n prod pod/api-5d7c9b6f4-x2x4z
///   kubectl breakglass trace inc-123-0h3k9v1m2n3p4q5r -o json
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct TraceArgs {
    /// A change, or an object
    #[arg(value_name = "CHANGE|KIND/NAME")]
    pub what: Named,
}

/// Follows the chain.
///
/// # Errors
/// When there is no such object, or the cluster does not answer. What only ends the chain early is said, and ends with exit
/// code 1.
pub async fn trace(ctx: &mut Ctx<'_>, args: &TraceArgs) -> Result<Exit> {
    let trace = find(ctx, target(ctx, &args.what).await?).await?;
    let (links, warnings) = (trace.links(ctx.now()), trace.warnings());
    let document = || json!({"target": trace.target, "links": links, "warnings": warnings});
    match ctx.output() {
        Output::Json => object::json(ctx.printer, &document())?,
        Output::Yaml => object::yaml(ctx.printer, &document())?,
        Output::Name => links.iter().try_for_each(|link| ctx.printer.data(&link.what))?,
        Output::Table | Output::Wide => {
            let cells = |link: &Link| vec![link.link.to_owned(), link.what.clone(), link.known_by.clone()];
            let rows: Vec<Vec<String>> = links.iter().map(cells).collect();
            table::print(ctx.printer, &COLUMNS, &rows)?;
        }
    }
    warnings.iter().for_each(|warning| ctx.printer.say(&format!("warning: {warning}")));
    Ok(if trace.failures.is_empty() { Exit::Done } else { Exit::Half })
}

async fn find(ctx: &Ctx<'_>, target: Target) -> Result<Trace> {
    let Some(object) = whole(&ctx.cluster, &target).await? else { return Err(nothing_there(&target)) };
    let (mut owners, mut failures) = (Vec::new(), Vec::new());
    let (mut top, mut found, mut tried) = (object, None, false);
    loop {
        let subject = owners.last().unwrap_or(&target);
        // What an engine applied is the engine's, whoever has put an owner on it since.
        if claim(&top).is_some() {
            (found, tried) = (asked(ctx, subject, &top, &mut failures).await, true);
            if found.as_ref().is_none_or(|origin| origin.applied_by.is_some()) {
                break;
            }
        }
        match owner_of(ctx, subject, &top, &mut failures).await {
            Some((owner, object)) if owners.len() < OWNERS => {
                owners.push(owner);
                (top, found, tried) = (object, None, false);
            }
            Some(_) | None => break,
        }
    }
    let subject = owners.last().unwrap_or(&target);
    if !tried {
        found = asked(ctx, subject, &top, &mut failures).await;
    }
    let asked = if found.is_some() { Asked::Inventory } else { Asked::MarksAlone };
    let origin = found.unwrap_or_else(|| Origin { claim: claim(&top), applied_by: None });
    let (mut state, mut behind) = (State::default(), None);
    if let Some(applied) = &origin.applied_by {
        match whole(&ctx.cluster, &kustomization(applied)).await {
            Ok(object) => state = object.as_ref().map(State::of).unwrap_or_default(),
            Err(error) => failures.push(error.message),
        }
        match repository(&ctx.cluster, &applied.source).await {
            Ok(repository) => behind = repository,
            Err(error) => failures.push(error.message),
        }
    }
    Ok(Trace { target, owners, top, origin, asked, state, repository: behind, failures })
}

/// Where an object comes from, if Kustomizations may be read.
async fn asked(ctx: &Ctx<'_>, target: &Target, object: &Value, failures: &mut Vec<String>) -> Option<Origin> {
    origin(&ctx.cluster, target, Some(object)).await.map_err(|error| failures.push(error.message)).ok()
}

/// The object that this one was made for, if it was made for one that is still there.
async fn owner_of(
    ctx: &Ctx<'_>,
    subject: &Target,
    object: &Value,
    failures: &mut Vec<String>,
) -> Option<(Target, Value)> {
    let references = object.pointer("/metadata/ownerReferences").cloned().unwrap_or_default();
    let references: Vec<OwnerReference> = serde_json::from_value(references).unwrap_or_default();
    let controller = references.iter().find(|owner| owner.controller == Some(true)).or_else(|| references.first())?;
    let found = look_up(ctx, subject, controller).await;
    match found {
        Ok(Some((owner, object))) => Some((owner, object)),
        Ok(None) => {
            let (kind, name) = (&controller.kind, &controller.name);
            failures.push(format!("{} was made for {kind} {name}, which is gone", subject.short()));
            None
        }
        Err(error) => {
            failures.push(error.message);
            None
        }
    }
}

async fn look_up(ctx: &Ctx<'_>, subject: &Target, reference: &OwnerReference) -> Result<Option<(Target, Value)>> {
    let (group, version) = reference.api_version.split_once('/').unwrap_or(("", &reference.api_version));
    let kind = format!("{}.{version}.{group}", reference.kind.to_lowercase());
    let kind = resolve(&ctx.cluster, kind.trim_end_matches('.')).await?;
    let owner = Target {
        api_version: kind.resource.api_version,
        kind: kind.resource.kind,
        resource: kind.resource.plural,
        // An owner lives beside what it owns, or in no namespace.
        namespace: subject.namespace.clone().filter(|_| kind.namespaced),
        name: reference.name.clone(),
        uid: Some(reference.uid.clone()),
    };
    let object = whole(&ctx.cluster, &owner).await?;
    let object = object.filter(|object| object["metadata"]["uid"] == reference.uid.as_str());
    Ok(object.map(|object| (owner, object)))
}

fn kustomization(applied: &Applied) -> Target {
    Target {
        api_version: "kustomize.toolkit.fluxcd.io/v1".to_owned(),
        kind: "Kustomization".to_owned(),
        resource: "kustomizations".to_owned(),
        namespace: Some(applied.namespace.clone()),
        name: applied.name.clone(),
        uid: None,
    }
}
