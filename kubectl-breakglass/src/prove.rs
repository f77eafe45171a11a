//! Whether it works: a write that came back with our stamp, and one that we refused, both through the API server.

use std::collections::{BTreeMap, BTreeSet};

use breakglass::api::{Gate, HOME_NAMESPACE, Mode, OVERRIDE_GROUP};
use breakglass::rules::Rules;
use breakglass::stamp;
use breakglass::writer::is_exempt_name;
use chrono::Utc;
use futures::join;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, UserInfo};
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::api::{Api, ListParams, PostParams};
use serde_json::json;

use crate::call::{Heard, create, delete};
use crate::checks::Level;
use crate::checks::registration::{NAME, registration};
use crate::ctx::Ctx;
use crate::error::{CommandError, Result};
use crate::explain::{Doing, refusal};
use crate::manifests::Part;
use crate::plan::read;
use crate::rollout::Deadline;
use crate::scan::PAGE;
use crate::tokens::Really;

/// The namespace that a harmless write goes to, where the policy has it stamped.
const HARMLESS: &str = "default";

/// Where to look when the API server does not ask us.
const LOOK: &str = "kubectl breakglass doctor";

/// Waits until both webhook configurations are there, and name a CA that the API server can believe.
///
/// # Errors
/// When they are not in time: what is wrong with them.
pub async fn registered(ctx: &Ctx<'_>, rules: &Rules, deadline: Deadline) -> Result<()> {
    let mutating = Api::<MutatingWebhookConfiguration>::all(ctx.cluster.client.clone());
    let validating = Api::<ValidatingWebhookConfiguration>::all(ctx.cluster.client.clone());
    let doing = Doing::Asking("for the webhook configurations");
    loop {
        let (stamps, gates) = join!(ctx.ask(doing, mutating.get_opt(NAME)), ctx.ask(doing, validating.get_opt(NAME)));
        let findings = registration(stamps?.as_ref(), gates?.as_ref(), rules);
        let Some(problem) = findings.into_iter().find(|finding| finding.level == Level::Problem) else { return Ok(()) };
        if !deadline.pause().await {
            let error = CommandError::failed(problem.message);
            return Err(problem.hints.into_iter().fold(error, CommandError::hint).hint(LOOK));
        }
    }
}

/// What was tried, one sentence each.
///
/// # Errors
/// When a write came back otherwise than the policy says, for as long as there was time.
pub async fn prove(ctx: &Ctx<'_>, rules: &Rules, deadline: Deadline) -> Result<Vec<String>> {
    let me = user(ctx).await?;
    if let Some(why) = exempt(&me, rules) {
        return Ok(vec![format!("not tried: {why}, so that the webhook is not asked about your writes")]);
    }
    let places = Places::of(rules, &namespaces(ctx).await?);
    let admitted = match &places.stamped {
        Some(namespace) => admitted(ctx, namespace, deadline).await?,
        None => "admitted: not tried: the policy has no namespace stamped".to_owned(),
    };
    let mut sentences = vec![admitted];
    for namespace in &places.guarded {
        sentences.push(guarded(ctx, rules.spec().mode, namespace, deadline).await?);
    }
    let rehearsed = sentences.iter().skip(1).all(|sentence| sentence.starts_with("guarded: "));
    match places.refusing() {
        Some(namespace) if rules.spec().mode == Mode::Enforce && rehearsed => {
            sentences.push(refused(ctx, namespace).await?);
        }
        _ => {}
    }
    Ok(sentences)
}

/// The namespaces to try in.
#[derive(Debug, Default, PartialEq, Eq)]
struct Places {
    /// Where a write is let in and stamped.
    stamped: Option<String>,
    /// Where one needs a token: one that fails closed, and our own.
    guarded: Vec<String>,
}

impl Places {
    fn of(rules: &Rules, namespaces: &BTreeMap<String, BTreeMap<String, String>>) -> Self {
        let with = |gate: Gate| {
            let none = BTreeMap::new();
            let found: Vec<&str> = namespaces
                .iter()
                .filter(|(name, labels)| {
                    let environment = rules.environment_of(name, labels);
                    let exempt = rules.exemption(environment, "configmaps", Some(name), &[&none]).is_some();
                    environment.writes == gate && !exempt
                })
                .map(|(name, _)| name.as_str())
                .collect();
            found
        };
        let (stamped, guarded) = (with(Gate::Stamp), with(Gate::RequireToken));
        let harmless = stamped.iter().find(|name| **name == HARMLESS).or(stamped.first()).copied();
        let home = guarded.iter().find(|name| **name == HOME_NAMESPACE).copied();
        // Rather one that is production than one of the engines', which belong to the environment that ours is in.
        let environment = |name: &str| namespaces.get(name).map(|labels| &rules.environment_of(name, labels).name);
        let others = || guarded.iter().filter(|name| **name != HOME_NAMESPACE);
        let closed =
            others().find(|name| environment(name) != environment(HOME_NAMESPACE)).or(others().next()).copied();
        Self {
            stamped: harmless.map(str::to_owned),
            guarded: closed.into_iter().chain(home).map(str::to_owned).collect(),
        }
    }

    /// Where a write is tried that is no dry run: in our own namespace rather than in anybody else's.
    fn refusing(&self) -> Option<&str> {
        self.guarded.last().map(String::as_str)
    }
}

/// A dry run that came back with our stamp: the API server asked us, and believed the answer.
async fn admitted(ctx: &Ctx<'_>, namespace: &str, deadline: Deadline) -> Result<String> {
    loop {
        let probe = probe(namespace)?;
        let answer = ctx.cluster.patiently(|| create(&ctx.cluster.client, &probe, Really::DryRun)).await;
        let state = match answer {
            Some(Ok(heard)) => match stamp_of(&heard, stamp::USER) {
                Some(user) => {
                    let user = user.to_owned();
                    return Ok(format!("admitted: a dry run in {namespace} came back stamped with {user}"));
                }
                None => "it came back without a stamp".to_owned(),
            },
            answer => match read(&ctx.cluster, &probe, answer) {
                Ok(_) => continue,
                Err(error) => error.message,
            },
        };
        if !deadline.pause().await {
            let message =
                format!("the webhook does not stamp what is written through the API server; in {namespace}: {state}");
            return Err(CommandError::failed(message).hint(LOOK));
        }
    }
}

/// A dry run in a namespace that needs a token: our warning, or our stamp where the mode lets it in.
async fn guarded(ctx: &Ctx<'_>, mode: Mode, namespace: &str, deadline: Deadline) -> Result<String> {
    loop {
        let probe = probe(namespace)?;
        let answer = ctx.cluster.patiently(|| create(&ctx.cluster.client, &probe, Really::DryRun)).await;
        let heard = read(&ctx.cluster, &probe, answer);
        let state = match &heard {
            Ok(heard) if heard.would_be_refused() => {
                return Ok(format!(
                    "guarded: a dry run in {namespace} came back with the warning that it needs a token"
                ));
            }
            Ok(heard) => match (stamp_of(heard, stamp::TOKEN), stamp_of(heard, stamp::USER), mode) {
                (Some(token), ..) => {
                    return Ok(format!(
                        "not tried: you may write to {namespace} under {token}: no refusal was to be had"
                    ));
                }
                (None, Some(_), Mode::Audit) => {
                    return Ok(format!("audited: {namespace} is stamped; in mode Audit nothing is refused"));
                }
                (None, Some(_), Mode::Warn) if !heard.warnings.is_empty() => {
                    return Ok(format!(
                        "warned: {namespace} is stamped, with a warning; in mode Warn nothing is refused"
                    ));
                }
                _ => "it was let in without a word".to_owned(),
            },
            Err(error) => error.message.clone(),
        };
        if !deadline.pause().await {
            let message = format!("the webhook does not guard {namespace}: a dry run without a token, {state}");
            return Err(CommandError::failed(message).hint(LOOK));
        }
    }
}

/// A write that is no dry run, and is refused: by us, in our words.
async fn refused(ctx: &Ctx<'_>, namespace: &str) -> Result<String> {
    let probe = probe(namespace)?;
    match ctx.cluster.bounded(create(&ctx.cluster.client, &probe, Really::Yes)).await {
        Some(Err(kube::Error::Api(status))) if refusal(&status.message).is_some() => {
            Ok(format!("refused: a write to {namespace} without a token was not let in"))
        }
        Some(Ok(_)) => {
            let removed = delete(&ctx.cluster.client, &probe.api(&ctx.cluster.client), &probe.name, Really::Yes).await;
            let left = format!("kubectl -n {namespace} delete configmap {}", probe.name);
            let error = CommandError::failed(format!("a write to {namespace} without a token was let in")).hint(LOOK);
            Err(if removed.is_ok() { error } else { error.hint(left) })
        }
        answer => Err(read(&ctx.cluster, &probe, answer).err().unwrap_or_else(|| CommandError::failed("no refusal"))),
    }
}

/// A ConfigMap that is meant to stay a thought.
fn probe(namespace: &str) -> Result<Part> {
    // A new name each time: one that was let in by mistake must not stand in for a refusal.
    let name = format!("breakglass-probe-{}", Utc::now().timestamp_micros());
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}});
    Part::new(object).ok_or_else(|| CommandError::failed("there is nothing to try with"))
}

fn stamp_of<'h>(heard: &'h Heard, key: &str) -> Option<&'h str> {
    heard.body.get("metadata")?.get("annotations")?.get(key)?.as_str()
}

async fn user(ctx: &Ctx<'_>) -> Result<UserInfo> {
    let api = Api::<SelfSubjectReview>::all(ctx.cluster.client.clone());
    let (params, question) = (PostParams::default(), SelfSubjectReview::default());
    let answer = ctx.ask(Doing::Asking("who you are"), api.create(&params, &question)).await?;
    Ok(answer.status.and_then(|status| status.user_info).unwrap_or_default())
}

/// Why the webhook would not look at what this user writes.
fn exempt(user: &UserInfo, rules: &Rules) -> Option<String> {
    let name = user.username.as_deref().unwrap_or_default();
    let groups: BTreeSet<&str> = user.groups.iter().flatten().map(String::as_str).collect();
    let trusted = rules.spec().writers.trusted.iter().flat_map(|writer| &writer.groups);
    let mut trusted = trusted.filter(|group| groups.contains(group.as_str()));
    if groups.contains(OVERRIDE_GROUP) {
        return Some(format!("{name} writes past breakglass, as a member of {OVERRIDE_GROUP}"));
    }
    if let Some(group) = trusted.next() {
        return Some(format!("{name} is trusted by the policy, as a member of {group}"));
    }
    is_exempt_name(name, rules).then(|| format!("{name} is one whom the policy lets write"))
}

/// Every namespace, with its labels.
async fn namespaces(ctx: &Ctx<'_>) -> Result<BTreeMap<String, BTreeMap<String, String>>> {
    let api = Api::<Namespace>::all(ctx.cluster.client.clone());
    let mut params = ListParams::default().limit(PAGE);
    let mut found = BTreeMap::new();
    loop {
        let page = ctx.ask(Doing::Asking("which namespaces there are"), api.list_metadata(&params)).await?;
        let alive = page.items.into_iter().filter(|one| one.metadata.deletion_timestamp.is_none());
        found.extend(alive.map(|one| (one.name_any(), one.metadata.labels.unwrap_or_default())));
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            return Ok(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(policy: serde_json::Value, names: &[&str], stamped: Option<&str>, guarded: &[&str]) {
        let rules = Rules::new(serde_json::from_value(policy).unwrap()).unwrap();
        let namespaces = names.iter().map(|name| ((*name).to_owned(), BTreeMap::new())).collect();
        let expected = Places {
            stamped: stamped.map(str::to_owned),
            guarded: guarded.iter().map(|&name| name.to_owned()).collect(),
        };
        assert_eq!(Places::of(&rules, &namespaces), expected);
    }

    #[test]
    fn it_is_tried_where_it_harms_nobody() {
        let all = ["argocd", "breakglass-system", "a-dev", "default", "prod"];
        check(json!({}), &all, Some("default"), &["prod", "breakglass-system"]);
        check(json!({}), &["breakglass-system", "default"], Some("default"), &["breakglass-system"]);
        let only_prod = json!({"environments": [{"name": "prod", "namespaces": ["prod"], "writes": "RequireToken"},
            {"name": "rest", "namespaces": ["*"], "writes": "Ignore"}]});
        check(only_prod, &all, None, &["prod"]);
        let exempt = json!({"exempt": [{"name": "maps", "reason": "r", "resources": ["configmaps"], "namespaces": ["default"]}]});
        check(exempt, &all, Some("a-dev"), &["prod", "breakglass-system"]);
    }

    #[test]
    fn who_is_let_past_is_told_that_nothing_was_tried() {
        let policy = json!({"writers": {"trusted": [{"name": "ci", "groups": ["robots"]}]}});
        let rules = Rules::new(serde_json::from_value(policy).unwrap()).unwrap();
        let why = |name: &str, group: &str| {
            let user = UserInfo {
                username: Some(name.to_owned()),
                groups: Some(vec![group.to_owned()]),
                ..UserInfo::default()
            };
            exempt(&user, &rules)
        };
        assert_eq!(why("admin", "system:masters"), None);
        assert!(why("admin", OVERRIDE_GROUP).is_some_and(|why| why.contains("writes past breakglass")));
        assert!(why("ci", "robots").is_some_and(|why| why.contains("as a member of robots")));
    }
}
