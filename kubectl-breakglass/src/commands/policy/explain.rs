//! `policy explain`: what would become of one write, and why.

use std::collections::BTreeMap;
use std::path::PathBuf;

use breakglass::rules::Rules;
use breakglass::write::{Object, Requester, Resource, Verb, Write};
use clap::{Args, ValueHint};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DynamicObject, PostParams};
use serde_json::json;
use serde_json::value::RawValue;

use super::check::read;
use crate::Exit;
use crate::cli::{GlobalFlags, Output};
use crate::ctx::Ctx;
use crate::error::{CommandError, Result};
use crate::explain::Doing;
use crate::in_force::{Source, policy_in_force};
use crate::lint::spec_of;
use crate::outlook::verbs::{Asks, WORDS, asks};
use crate::outlook::{Outlook, Scene, identity, outlook};
use crate::print::object;
use crate::print::table::printable;
use crate::resolve::{Found, resolve};
use crate::tokens;

/// Ask what would become of a write, and why
///
/// Nothing is written and nobody is impersonated: the policy, the namespace's
/// labels and the tokens are read, and decided upon by the function that the
/// webhook decides with. --as is who would write; without it, you. VERB is a word
/// of kubectl's, such as apply, delete, scale, exec or label; KIND is what kubectl
/// takes, short names included.
///
/// An engine is known by a credential that is bound to its pod, and a controller
/// by a token of its own: --as with the name alone asks about somebody who took
/// the name. --proven asks about the engine itself.
///
/// Exit codes: 0 it would be let in, 3 it would be refused.
///
/// Examples:
///   kubectl breakglass policy explain -n prod apply deploy/api
///   kubectl breakglass policy explain -n prod --as alice@example.com delete pod/api-0
///   kubectl breakglass policy explain -n prod exec pod/api-0 --policy draft.yaml
///   kubectl breakglass policy explain -n prod patch deploy/api --proven \
///     --as system:serviceaccount:flux-system:kustomize-controller
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct ExplainArgs {
    /// What would be done: apply, delete, scale, exec, …
    #[arg(value_name = "VERB")]
    verb: String,
    /// To what: a kind, and a name where it matters
    #[arg(value_name = "KIND[/NAME]")]
    target: String,
    /// The name, where it does not stand behind the kind
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Ask this draft of a policy, and not the one in force; - is stdin
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    policy: Option<PathBuf>,
    /// As if the proof of who writes stood behind the name
    #[arg(long)]
    proven: bool,
    /// The uid of who would write
    #[arg(long, value_name = "UID")]
    as_uid: Option<String>,
    /// What else the API server knows of who would write; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    as_user_extra: Vec<String>,
    /// The subresource, where the verb does not say it
    #[arg(long)]
    subresource: Option<String>,
}

/// Who would write.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    user: Option<String>,
    groups: Vec<String>,
}

impl Subject {
    /// Takes --as and --as-group, so that the cluster is asked by who asks.
    pub(super) fn take(args: &ExplainArgs, flags: &mut GlobalFlags) -> Result<Self> {
        let subject = Self { user: flags.as_user.take(), groups: std::mem::take(&mut flags.as_groups) };
        let about = !subject.groups.is_empty() || args.as_uid.is_some() || !args.as_user_extra.is_empty();
        if subject.user.is_none() && about {
            let message = "--as-group, --as-uid and --as-user-extra need --as: say which user they are about";
            return Err(CommandError::usage(message));
        }
        Ok(subject)
    }
}

/// Answers.
pub(super) async fn explain(ctx: &mut Ctx<'_>, args: &ExplainArgs, subject: Subject) -> Result<Exit> {
    let asks = asks(&args.verb).ok_or_else(|| {
        CommandError::usage(format!("{:?} is no word that is known here: use one of {WORDS}", args.verb))
    })?;
    let rules = rules(ctx, args).await?;
    let requester = who(ctx, args, subject).await?;
    let (kind, name) = match args.target.split_once('/') {
        Some((kind, name)) => (kind, Some(name)),
        None => (args.target.as_str(), args.name.as_deref()),
    };
    let mut found = resolve(&ctx.cluster, kind).await?;
    if let Some(plural) = asks.plural.filter(|plural| *plural != found.resource.plural) {
        found = resolve(&ctx.cluster, plural).await?;
    }
    let namespace = namespace_of(ctx, &found, name);
    let labels = match &namespace {
        Some(namespace) => labels(ctx, namespace).await?,
        None => BTreeMap::new(),
    };
    let live = object(ctx, &found, namespace.as_deref(), name).await;
    let tokens = tokens::of_user(&ctx.cluster, &requester.user).await?;
    let bodies = bodies(&found, namespace.as_deref(), name, live)?;
    let write = write_of(asks, args.subresource.as_deref(), &found, namespace, requester, &bodies);
    let scene = Scene { rules: &rules, namespace_labels: &labels, tokens: &tokens, now: ctx.now() };
    let answer = outlook(&write, scene);
    match ctx.output() {
        Output::Json => object::json(ctx.printer, &answer)?,
        Output::Yaml => object::yaml(ctx.printer, &answer)?,
        Output::Name => ctx.printer.data(&answer.decision)?,
        Output::Table | Output::Wide => lines(&answer).iter().try_for_each(|line| ctx.printer.data(line))?,
    }
    Ok(if answer.let_in { Exit::Done } else { Exit::Owed })
}

async fn rules(ctx: &mut Ctx<'_>, args: &ExplainArgs) -> Result<Rules> {
    if let Some(file) = &args.policy {
        let text = read(file, &mut ctx.input)?;
        let unsound = |why: String| {
            CommandError::failed(format!("this policy would not be put in force: {why}"))
                .hint(format!("kubectl breakglass policy check {}", file.display()))
        };
        let spec = spec_of(&text).map_err(|flaw| unsound(format!("{} {}", flaw.field, flaw.why)))?;
        return Rules::new(spec).map_err(|error| unsound(error.to_string()));
    }
    let policy = policy_in_force(&ctx.cluster).await?;
    if policy.source == Source::Guessed {
        ctx.printer.say("note: the policy may not be read by you; this is what the built-in one says.");
    }
    Ok(policy.rules)
}

/// Who would write: whom --as names, or I as the API server knows me.
async fn who(ctx: &Ctx<'_>, args: &ExplainArgs, subject: Subject) -> Result<Requester> {
    let mut requester = match subject.user {
        Some(user) => identity::requester(&user, &subject.groups),
        None => {
            let api = Api::<SelfSubjectReview>::all(ctx.cluster.client.clone());
            let (params, question) = (PostParams::default(), SelfSubjectReview::default());
            let answer = ctx.ask(Doing::Asking("who you are"), api.create(&params, &question)).await?;
            let user = answer.status.and_then(|status| status.user_info).unwrap_or_default();
            Requester {
                user: user.username.unwrap_or_default(),
                uid: user.uid.unwrap_or_default(),
                groups: user.groups.unwrap_or_default(),
                extra: user.extra.unwrap_or_default(),
            }
        }
    };
    if let Some(uid) = &args.as_uid {
        requester.uid.clone_from(uid);
    }
    for pair in &args.as_user_extra {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(CommandError::usage(format!("--as-user-extra {pair}: write it as KEY=VALUE")));
        };
        requester.extra.entry(key.to_owned()).or_default().push(value.to_owned());
    }
    Ok(if args.proven { identity::proven(&requester) } else { requester })
}

/// The namespace that the write goes to; a Namespace object counts as its own.
fn namespace_of(ctx: &Ctx<'_>, found: &Found, name: Option<&str>) -> Option<String> {
    if found.resource.plural == "namespaces" && found.resource.group.is_empty() {
        return name.map(str::to_owned);
    }
    let given = ctx.flags.namespaces.first().cloned().or_else(|| ctx.cluster.namespace.clone());
    found.namespaced.then(|| given.unwrap_or_else(|| "default".to_owned()))
}

async fn labels(ctx: &mut Ctx<'_>, namespace: &str) -> Result<BTreeMap<String, String>> {
    let api = Api::<Namespace>::all(ctx.cluster.client.clone());
    let found = ctx.ask(Doing::Reading("the namespace"), api.get_opt(namespace)).await?;
    if found.is_none() {
        ctx.printer.say(&format!("note: there is no namespace {namespace}; this is what its name alone says."));
    }
    Ok(found.and_then(|namespace| namespace.metadata.labels).unwrap_or_default())
}

/// The object as it is, where there is one and I may read it.
async fn object(
    ctx: &mut Ctx<'_>,
    found: &Found,
    namespace: Option<&str>,
    name: Option<&str>,
) -> Option<DynamicObject> {
    let (name, client) = (name?, ctx.cluster.client.clone());
    let api = match namespace.filter(|_| found.namespaced) {
        Some(namespace) => Api::<DynamicObject>::namespaced_with(client, namespace, &found.resource),
        None => Api::<DynamicObject>::all_with(client, &found.resource),
    };
    match ctx.ask(Doing::Asking("for the object"), api.get_opt(name)).await {
        Ok(found) => found,
        Err(error) => {
            ctx.printer.say(&format!("note: {}; its labels are taken for none.", error.message));
            None
        }
    }
}

/// The object before and after.
struct Bodies {
    name: String,
    exists: bool,
    raw: Box<RawValue>,
}

fn bodies(found: &Found, namespace: Option<&str>, name: Option<&str>, live: Option<DynamicObject>) -> Result<Bodies> {
    let name = name.unwrap_or_default().to_owned();
    let exists = live.is_some();
    let object = match live {
        Some(live) => serde_json::to_value(live),
        None => Ok(json!({"apiVersion": found.resource.api_version, "kind": found.resource.kind,
            "metadata": {"name": name, "namespace": namespace.filter(|_| found.namespaced)}})),
    };
    let raw = object.and_then(|object| serde_json::value::to_raw_value(&object));
    let raw = raw.map_err(|error| CommandError::failed(format!("the object was not understood: {error}")))?;
    Ok(Bodies { name, exists, raw })
}

fn write_of<'b>(
    asks: Asks,
    subresource: Option<&str>,
    found: &Found,
    namespace: Option<String>,
    requester: Requester,
    bodies: &'b Bodies,
) -> Write<'b> {
    let verb = if asks.creates && !bodies.exists { Verb::Create } else { asks.verb };
    let side = || Some(Object::new(&bodies.raw));
    Write {
        verb,
        resource: Resource {
            group: found.resource.group.clone(),
            version: found.resource.version.clone(),
            plural: found.resource.plural.clone(),
            kind: found.resource.kind.clone(),
            subresource: subresource.or(asks.subresource).map(str::to_owned),
        },
        namespace,
        name: bodies.name.clone(),
        requester,
        before: side().filter(|_| matches!(verb, Verb::Update | Verb::Delete)),
        after: side().filter(|_| verb != Verb::Delete),
        dry_run: false,
        manager: "kubectl".to_owned(),
    }
}

/// The answer for people, a line each.
fn lines(answer: &Outlook) -> Vec<String> {
    let mut lines = vec![format!("decision:     {}", answer.sentence)];
    lines.extend(answer.message.iter().map(|message| format!("  {}", printable(message))));
    lines.push(format!("writer:       {}: {}", answer.writer, printable(&answer.writer_because)));
    if let (Some(environment), Some(because)) = (&answer.environment, &answer.environment_because) {
        lines.push(format!("environment:  {environment}: {because}"));
    }
    let tokens =
        answer.tokens.iter().map(|token| format!("token:        {} {}", token.name, printable(&token.because)));
    lines.extend(tokens);
    lines.extend(answer.leaves.iter().map(|left| format!("leaves:       {}", printable(left))));
    let asks = answer.asks.iter().map(|ask| {
        let what = if ask.call == "stamp" { "for the stamp" } else { "whether to let it in" };
        format!("asks:         {} {what}, failurePolicy {}", ask.webhook, ask.failure_policy)
    });
    lines.extend(asks);
    if answer.asks.is_empty() {
        lines.push("asks:         nobody: the API server knows by itself that no webhook has to be asked".to_owned());
    }
    lines.push(format!("while down:   {}", answer.while_down));
    lines
}
