//! Request: what a token is asked for. Flags, policy and namespaces agree before anything is sent.

use std::collections::BTreeMap;

use breakglass::api::{ApprovalMode, BreakglassTokenSpec, Environment, Gate, Span};
use breakglass::rules::Rules;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::Api;

use crate::commands::open::OpenArgs;
use crate::connect::Connection;
use crate::ctx::Ctx;
use crate::error::{CommandError, Result};
use crate::explain::Doing;
use crate::in_force::{Source, policy_in_force};

/// The most characters of an incident's id: with the random end it has to be a Kubernetes name and a label.
const LONGEST_INCIDENT: usize = 46;

/// Ids that people know, to show what a pattern means.
const EXAMPLES: [&str; 7] = ["INC-123", "SEV1-123", "P1-123", "TICKET-123", "OPS-123", "INC123", "123456"];

/// What a token is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The incident.
    pub incident: String,
    /// Why.
    pub reason: String,
    /// The environment, as the policy describes it.
    pub environment: Environment,
    /// Only these namespaces of it; empty: all.
    pub namespaces: Vec<String>,
    /// For how long, if somebody said.
    pub ttl: Option<Span>,
    /// Whether the engine is kept from undoing what is written.
    pub hold: bool,
    /// The command that opens it for itself, if one does.
    pub command: Option<String>,
    /// The policy that all this was checked against.
    pub rules: Rules,
}

impl Request {
    /// Whether somebody else has to agree first.
    pub fn needs_approval(&self) -> bool {
        self.environment.token.approval.mode == ApprovalMode::Before
    }

    /// For how long the token will live.
    pub fn length(&self) -> Span {
        self.ttl.unwrap_or(self.environment.token.default_ttl)
    }

    /// `prod (namespace prod)`.
    pub fn place(&self) -> String {
        place(&self.environment.name, &self.namespaces)
    }
}

/// `prod (namespace prod)`, `prod (namespaces prod, shop-prod)`, `prod (all its namespaces)`.
pub fn place(environment: &str, namespaces: &[String]) -> String {
    match namespaces {
        [] => format!("{environment} (all its namespaces)"),
        [one] => format!("{environment} (namespace {one})"),
        many => format!("{environment} (namespaces {})", many.join(", ")),
    }
}

/// `prod (namespace prod)` for a token that exists.
pub fn place_of(spec: &BreakglassTokenSpec) -> String {
    place(&spec.environment, &spec.namespaces)
}

/// What a token is asked for by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// `open`.
    Open,
    /// `run`, whose command names these namespaces itself.
    Run(Vec<String>),
    /// This command, for what it writes itself.
    Pass(String),
}

impl Purpose {
    /// A command line that would do.
    fn example(&self, args: &OpenArgs, place: &str) -> String {
        let reason = Some(args.reason.trim()).filter(|reason| !reason.is_empty()).unwrap_or("…");
        let (verb, end) = match self {
            Self::Open | Self::Pass(_) => ("open", ""),
            Self::Run(_) => ("run", " -- …"),
        };
        format!(r#"kubectl breakglass {verb} {}{place} --reason "{reason}"{end}"#, args.incident)
    }
}

/// Reads flags and policy, and makes sure that the webhook can say yes.
///
/// # Errors
/// What does not fit together, and how it would.
pub async fn prepare(ctx: &mut Ctx<'_>, args: &OpenArgs, purpose: &Purpose) -> Result<Request> {
    let policy = policy_in_force(&ctx.cluster).await?;
    if policy.source == Source::Guessed {
        ctx.printer.say("The policy may not be read by you; the built-in one is assumed here, the webhook decides.");
    }
    check_incident(&policy.rules, &args.incident, &flags_of(args, &ctx.flags.namespaces))?;
    let reason = args.reason.trim().to_owned();
    if reason.is_empty() {
        return Err(CommandError::usage("the reason is blank: it is what the review will read")
            .hint(purpose.example(args, &flags_of(args, &ctx.flags.namespaces))));
    }
    let (environment, namespaces) = destination(ctx, &policy.rules, args, purpose).await?;
    check_gate(&environment)?;
    let max = environment.token.max_ttl;
    if let Some(ttl) = args.ttl.filter(|ttl| *ttl > max) {
        let message = format!("{ttl} is too long: a token for {} lives at most {max}", environment.name);
        let place = flags_of(args, &namespaces);
        return Err(CommandError::usage(message).hint(purpose.example(args, &format!("{place} --ttl {max}"))));
    }
    let (incident, ttl, hold, rules) = (args.incident.clone(), args.ttl, args.hold, policy.rules);
    let command = match purpose {
        Purpose::Pass(command) => Some(command.clone()),
        Purpose::Open | Purpose::Run(_) => None,
    };
    Ok(Request { incident, reason, environment, namespaces, ttl, hold, command, rules })
}

fn flags_of(args: &OpenArgs, namespaces: &[String]) -> String {
    let environment = args.environment.iter().map(|name| format!(" --environment {name}"));
    namespaces.iter().map(|name| format!(" -n {name}")).chain(environment).collect()
}

/// Whether the policy, and Kubernetes, take this id. `place` are the flags that say where, for the example.
///
/// # Errors
/// What an id looks like, with one that would do.
pub fn check_incident(rules: &Rules, incident: &str, place: &str) -> Result<()> {
    let ends_well = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let well_formed = incident.len() <= LONGEST_INCIDENT
        && incident.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.')
        && ends_well(incident.chars().next())
        && ends_well(incident.chars().next_back());
    let pattern = &rules.spec().incident_pattern;
    if !rules.is_incident(incident) {
        let error = CommandError::usage(format!(
            "{incident:?} is not the id of an incident here: the policy asks for {pattern}"
        ));
        let upper = incident.to_ascii_uppercase();
        let example = if well_formed && rules.is_incident(&upper) {
            Some(upper)
        } else {
            EXAMPLES.into_iter().find(|example| rules.is_incident(example)).map(str::to_owned)
        };
        return Err(match example {
            Some(example) => error.hint(format!(r#"kubectl breakglass open {example}{place} --reason "…""#)),
            None => error.hint("kubectl breakglass policy show"),
        });
    }
    if !well_formed {
        let message = format!(
            "{incident:?} cannot name a token: use letters, digits, dots and dashes, at most {LONGEST_INCIDENT} of them"
        );
        return Err(CommandError::usage(message));
    }
    Ok(())
}

/// Where the token is for: what was said, else what the command says itself, else where kubectl would write.
async fn destination(
    ctx: &mut Ctx<'_>,
    rules: &Rules,
    args: &OpenArgs,
    purpose: &Purpose,
) -> Result<(Environment, Vec<String>)> {
    let named = args.environment.as_deref().map(|name| environment_named(rules, name)).transpose()?;
    if ctx.flags.all_namespaces {
        let message = "a token is for one environment: -A names none";
        return Err(CommandError::usage(message).hint(purpose.example(args, " --environment prod")));
    }
    if ctx.flags.selector.is_some() {
        let message = "a token is for namespaces, whatever labels objects have: -l means nothing here";
        return Err(CommandError::usage(message).hint(purpose.example(args, " -n prod")));
    }
    let mut namespaces = Vec::new();
    let said = match purpose {
        Purpose::Run(in_command) if ctx.flags.namespaces.is_empty() && named.is_none() => in_command,
        Purpose::Run(_) | Purpose::Open | Purpose::Pass(_) => &ctx.flags.namespaces,
    };
    for namespace in said {
        if !namespaces.contains(namespace) {
            namespaces.push(namespace.clone());
        }
    }
    if !namespaces.is_empty() {
        let environment = environment_of_all(&ctx.cluster, rules, &namespaces).await?;
        if let Some(named) = named.filter(|named| named.name != environment.name) {
            let message = format!("{} belongs to {}, not to {}", namespaces[0], environment.name, named.name);
            let places: String = namespaces.iter().map(|namespace| format!(" -n {namespace}")).collect();
            return Err(CommandError::usage(message).hint(purpose.example(args, &places)));
        }
        return Ok((environment, namespaces));
    }
    if let Some(named) = named {
        return Ok((named, Vec::new()));
    }
    if let Some(namespace) = ctx.cluster.namespace.clone()
        && let Ok(environment) = environment_of(&ctx.cluster, rules, &namespace).await
        && is_guarded(&environment)
    {
        ctx.printer.say(&format!("Namespace {namespace} is taken from context {}.", ctx.cluster.context));
        return Ok((environment, vec![namespace]));
    }
    Err(CommandError::usage("say where you have to write: give a namespace or an environment")
        .hint(purpose.example(args, " -n prod")))
}

fn environment_named(rules: &Rules, name: &str) -> Result<Environment> {
    rules.environment_named(name).cloned().ok_or_else(|| {
        let known: Vec<&str> = rules.spec().environments.iter().map(|known| known.name.as_str()).collect();
        CommandError::usage(format!("there is no environment {name:?}; the policy knows {}", known.join(", ")))
            .hint("kubectl breakglass policy show")
    })
}

/// The one environment of several namespaces.
async fn environment_of_all(cluster: &Connection, rules: &Rules, namespaces: &[String]) -> Result<Environment> {
    let mut found: Option<(Environment, &String)> = None;
    for namespace in namespaces {
        let environment = environment_of(cluster, rules, namespace).await?;
        match &found {
            Some((first, of)) if first.name != environment.name => {
                return Err(CommandError::usage(format!(
                    "a token is for one environment, and {of} belongs to {}, {namespace} to {}: open one for each",
                    first.name, environment.name
                )));
            }
            Some(_) => {}
            None => found = Some((environment, namespace)),
        }
    }
    found.map(|(environment, _)| environment).ok_or_else(|| CommandError::usage("give a namespace"))
}

/// The environment of a namespace, by its labels as well where they may be read.
async fn environment_of(cluster: &Connection, rules: &Rules, namespace: &str) -> Result<Environment> {
    let api = Api::<Namespace>::all(cluster.client.clone());
    let read = async {
        match api.get_metadata(namespace).await {
            Ok(found) => Ok(Some(found.metadata.labels.unwrap_or_default())),
            Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(Some(BTreeMap::new())),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    };
    match cluster.ask(Doing::Asking("which environment the namespace belongs to"), read).await? {
        Some(labels) => Ok(rules.environment_of(namespace, &labels).clone()),
        None => Err(CommandError::failed(format!("there is no namespace {namespace:?} in this cluster"))
            .hint("kubectl get namespaces")),
    }
}

fn is_guarded(environment: &Environment) -> bool {
    environment.writes == Gate::RequireToken || environment.exec == Some(Gate::RequireToken)
}

/// A token where none is asked for would be a permission without a use.
fn check_gate(environment: &Environment) -> Result<()> {
    let name = &environment.name;
    match environment.writes {
        _ if is_guarded(environment) => Ok(()),
        Gate::Ignore => {
            Err(CommandError::failed(format!("writes to {name} need no token: they are let in as they are")))
        }
        Gate::Stamp | Gate::RequireToken => {
            Err(CommandError::failed(format!("writes to {name} need no token: they are let in and stamped"))
                .hint("kubectl breakglass list --state noted"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incident_is_what_the_policy_says_and_a_name_can_hold() {
        let built_in = Rules::built_in().unwrap();
        let anything =
            Rules::new(serde_json::from_value(serde_json::json!({"incidentPattern": "."})).unwrap()).unwrap();
        let check = |rules: &Rules, incident: &str| {
            check_incident(rules, incident, " -n prod")
                .map_err(|error| (error.kind.code(), error.hints.first().cloned()))
        };
        assert_eq!(check(&built_in, "INC-123"), Ok(()));
        let hint = |incident: &str| Some(format!(r#"kubectl breakglass open {incident} -n prod --reason "…""#));
        assert_eq!(check(&built_in, "inc-7"), Err((2, hint("INC-7"))));
        assert_eq!(check(&built_in, "production is down"), Err((2, hint("INC-123"))));
        assert_eq!(check(&built_in, ""), Err((2, hint("INC-123"))));
        assert_eq!(check(&anything, "a b"), Err((2, None)));
        assert_eq!(check(&anything, &"x".repeat(47)), Err((2, None)));
        assert_eq!(check(&anything, "-x"), Err((2, None)));
    }

    #[test]
    fn a_place_names_its_namespaces() {
        let namespaces = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(place("prod", &namespaces(&[])), "prod (all its namespaces)");
        assert_eq!(place("prod", &namespaces(&["prod"])), "prod (namespace prod)");
        assert_eq!(place("prod", &namespaces(&["prod", "eu-prod"])), "prod (namespaces prod, eu-prod)");
    }

    #[test]
    fn a_token_is_refused_where_none_is_needed() {
        let rules = Rules::built_in().unwrap();
        assert_eq!(check_gate(rules.environment_named("prod").unwrap()), Ok(()));
        let dev = check_gate(rules.environment_named("dev").unwrap()).unwrap_err();
        assert_eq!(dev.message, "writes to dev need no token: they are let in and stamped");
        assert_eq!(dev.kind.code(), 1);
    }
}
