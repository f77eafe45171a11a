//! What the webhook refuses: the checks of `Rules::new`, asked of each part alone, so that each error has its place.

use breakglass::api::{BreakglassPolicySpec, Writers};
use breakglass::rules::{Rules, RulesError};

use super::Flaw;

/// Everything that keeps a policy from being put in force.
pub fn check(spec: &BreakglassPolicySpec) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    let mut ask = |field: String, part: BreakglassPolicySpec| {
        if let Err(error) = Rules::new(part) {
            flaws.push(Flaw::error(place(&field, &error), words(&error)));
        }
    };
    let sound = BreakglassPolicySpec::default;
    ask("spec".to_owned(), BreakglassPolicySpec { incident_pattern: spec.incident_pattern.clone(), ..sound() });
    for (index, environment) in spec.environments.iter().enumerate() {
        let field = format!("spec.environments[{index}]");
        ask(field.clone(), BreakglassPolicySpec { environments: vec![environment.clone()], ..sound() });
        if let Some(earlier) = spec.environments[..index].iter().find(|earlier| earlier.name == environment.name) {
            let pair = [earlier, environment].map(|one| {
                // Only the names may be found fault with: the rest was asked about alone.
                let mut one = one.clone();
                one.namespaces = vec!["x".to_owned()];
                one.token = Default::default();
                one
            });
            ask(field, BreakglassPolicySpec { environments: pair.to_vec(), ..sound() });
        }
    }
    for (index, engine) in spec.writers.engines.iter().enumerate() {
        for (list, users) in [("users", &engine.users), ("keepers", &engine.keepers)] {
            for (place, user) in users.iter().enumerate() {
                let mut engine = engine.clone();
                (engine.users, engine.keepers) = (vec![user.clone()], Vec::new());
                let writers = Writers { engines: vec![engine], trusted: Vec::new() };
                let field = format!("spec.writers.engines[{index}].{list}[{place}]");
                ask(field, BreakglassPolicySpec { writers, ..sound() });
            }
        }
    }
    for (index, trusted) in spec.writers.trusted.iter().enumerate() {
        let field = format!("spec.writers.trusted[{index}]");
        let with = |users: Vec<String>| {
            let mut trusted = trusted.clone();
            trusted.users = users;
            BreakglassPolicySpec { writers: Writers { trusted: vec![trusted], ..Writers::default() }, ..sound() }
        };
        if trusted.users.is_empty() {
            ask(field.clone(), with(Vec::new()));
        }
        for (place, user) in trusted.users.iter().enumerate() {
            ask(format!("{field}.users[{place}]"), with(vec![user.clone()]));
        }
    }
    for (index, exemption) in spec.exempt.iter().enumerate() {
        ask(format!("spec.exempt[{index}]"), BreakglassPolicySpec { exempt: vec![exemption.clone()], ..sound() });
    }
    // A check that is new, and unknown here.
    if let (true, Err(error)) = (flaws.is_empty(), Rules::new(spec.clone())) {
        flaws.push(Flaw::error("spec", error.to_string()));
    }
    flaws
}

/// The field that the error is about, below the part that was asked about.
fn place(part: &str, error: &RulesError) -> String {
    let below = match error {
        RulesError::IncidentPattern(_) => ".incidentPattern",
        RulesError::EnvironmentTwice(_) | RulesError::EnvironmentReserved => ".name",
        RulesError::EnvironmentEmpty(_) => ".namespaces",
        RulesError::DefaultOverMax { .. } => ".token.defaultTTL",
        RulesError::TrustedNobody(_) => ".users",
        RulesError::UserPattern { .. } | RulesError::ExemptEverything(_) => "",
    };
    format!("{part}{below}")
}

/// The error without the place that it names itself.
fn words(error: &RulesError) -> String {
    let text = error.to_string();
    let rest = text.strip_prefix("spec.incidentPattern ").or_else(|| text.split_once(": ").map(|(_, rest)| rest));
    rest.unwrap_or(&text).to_owned()
}
