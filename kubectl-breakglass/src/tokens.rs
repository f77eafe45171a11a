//! Tokens in the cluster: whose, how long, opened and closed.

use breakglass::api::{ApprovalMode, BreakglassToken, TokenPhase};
use breakglass::rules::Rules;
use chrono::{DateTime, Utc};
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde_json::{Value, json};

use crate::connect::Connection;
use crate::error::{CommandError, Result};
use crate::explain::Doing;
use crate::request::Request;

/// What our writes call themselves in managedFields.
pub const FIELD_MANAGER: &str = breakglass::hold::PUTS_BACK;

/// The annotation on a token that a command has opened for itself: by it the command finds the token again, if it was broken
/// off before it had closed it.
const OPENED_BY: &str = "breakglass.dev/opened-by";

/// The characters of the random end of a name: no vowels, so that it spells nothing, and nothing that looks alike.
const ALPHABET: &[u8; 24] = b"bcdfghjkmnpqrstvwxz24567";

/// How many random characters a name ends with.
const RANDOM_CHARACTERS: usize = 5;

/// How often a name may turn out to be taken, out of eight million, before something else is wrong.
const NAME_TRIES: usize = 3;

/// What a token is worth now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Standing {
    /// Waiting for somebody to agree.
    Waiting,
    /// Admits writes.
    Live,
    /// Its time is up.
    Expired,
    /// Ended early.
    Closed,
    /// Refused.
    Denied,
}

impl Standing {
    /// In a sentence.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting for approval",
            Self::Live => "live",
            Self::Expired => "expired",
            Self::Closed => "closed",
            Self::Denied => "denied",
        }
    }
}

/// What a token is worth now: closing and denying win over everything, then the clock.
pub fn standing(token: &BreakglassToken, rules: &Rules, now: DateTime<Utc>) -> Standing {
    let phase = token.status.as_ref().and_then(|status| status.phase);
    match phase {
        Some(TokenPhase::Closed) => Standing::Closed,
        Some(TokenPhase::Denied) => Standing::Denied,
        _ if token.spec.expires_at.instant() <= now => Standing::Expired,
        Some(TokenPhase::Expired) => Standing::Expired,
        Some(TokenPhase::Pending) => Standing::Waiting,
        Some(TokenPhase::Active) => Standing::Live,
        // Nobody has written a status yet: the policy says what it will be.
        None => {
            let environment = rules.environment_named(&token.spec.environment);
            match environment.map(|environment| environment.token.approval.mode) {
                Some(ApprovalMode::Before) => Standing::Waiting,
                Some(ApprovalMode::None | ApprovalMode::After) | None => Standing::Live,
            }
        }
    }
}

/// Whether it may still be closed to some effect.
pub fn is_open(token: &BreakglassToken, rules: &Rules, now: DateTime<Utc>) -> bool {
    matches!(standing(token, rules, now), Standing::Live | Standing::Waiting)
}

/// `breakglasstoken.breakglass.dev/inc-123-x7k2m`.
pub fn full_name(token: &BreakglassToken) -> String {
    format!("breakglasstoken.breakglass.dev/{}", token.name_any())
}

/// All tokens.
///
/// # Errors
/// Whatever the cluster answers, explained.
pub async fn all(cluster: &Connection) -> Result<Vec<BreakglassToken>> {
    list(cluster, ListParams::default()).await
}

/// The tokens of one user.
///
/// # Errors
/// Whatever the cluster answers, explained.
pub async fn of_user(cluster: &Connection, user: &str) -> Result<Vec<BreakglassToken>> {
    // The server picks by user where it can; a name with commas or equal signs in it would be read as two selectors.
    let plain = !user.contains([',', '=', '!', '\\']);
    let params = if plain { ListParams::default().fields(&format!("spec.user={user}")) } else { ListParams::default() };
    let tokens = list(cluster, params).await?;
    Ok(tokens.into_iter().filter(|token| token.spec.user == user).collect())
}

/// Whether this command has opened it for itself.
pub fn is_opened_by(token: &BreakglassToken, command: &str) -> bool {
    token.annotations().get(OPENED_BY).is_some_and(|opened_by| opened_by == command)
}

async fn list(cluster: &Connection, params: ListParams) -> Result<Vec<BreakglassToken>> {
    let api = Api::<BreakglassToken>::all(cluster.client.clone());
    let mut tokens = cluster.ask(Doing::Reading("tokens"), api.list(&params)).await?.items;
    tokens.sort_by_key(|token| (token.spec.opened_at, token.name_any()));
    Ok(tokens)
}

/// The token of that name, if there is one.
///
/// # Errors
/// Whatever the cluster answers, explained.
pub async fn named(cluster: &Connection, name: &str) -> Result<Option<BreakglassToken>> {
    let api = Api::<BreakglassToken>::all(cluster.client.clone());
    cluster.ask(Doing::Reading("tokens"), api.get_opt(name)).await
}

/// Whether a token is really opened, or only asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Really {
    /// Opened.
    Yes,
    /// The server checks everything and keeps nothing.
    DryRun,
}

/// Opens a token. The webhook fills in who and when: what we know of either is not sent.
///
/// # Errors
/// Whatever the cluster answers, explained.
pub async fn create(cluster: &Connection, request: &Request, really: Really) -> Result<BreakglassToken> {
    let kind = ApiResource::erase::<BreakglassToken>(&());
    let api = Api::<DynamicObject>::all_with(cluster.client.clone(), &kind);
    let params = PostParams { dry_run: really == Really::DryRun, field_manager: Some(FIELD_MANAGER.to_owned()) };
    let create = async {
        let mut tries = 0;
        loop {
            tries += 1;
            let mut body = DynamicObject::new(&name_for(&request.incident), &kind).data(spec_of(request));
            let opened_by = request.command.iter().map(|command| (OPENED_BY.to_owned(), command.clone()));
            body.annotations_mut().extend(opened_by);
            match api.create(&params, &body).await {
                Err(kube::Error::Api(status)) if status.is_already_exists() && tries < NAME_TRIES => {}
                answer => return answer,
            }
        }
    };
    let answer = cluster.ask(Doing::Opening, create).await?;
    let read = serde_json::to_value(&answer).and_then(serde_json::from_value);
    read.map_err(|error| CommandError::failed(format!("the token that the cluster made was not understood: {error}")))
}

fn spec_of(request: &Request) -> Value {
    let mut spec = json!({
        "incident": request.incident,
        "reason": request.reason,
        "environment": request.environment.name,
    });
    if !request.namespaces.is_empty() {
        spec["namespaces"] = json!(request.namespaces);
    }
    if let Some(ttl) = request.ttl {
        spec["ttl"] = json!(ttl);
    }
    if request.hold {
        spec["hold"] = json!(true);
    }
    json!({"spec": spec})
}

/// A new name for a token of an incident. That it is new is all it has to be: it is no secret.
fn name_for(incident: &str) -> String {
    let mut random = [0_u8; RANDOM_CHARACTERS];
    if rustls::crypto::ring::default_provider().secure_random.fill(&mut random).is_err() {
        // Without randomness the clock makes a name that is as new.
        let clock = Utc::now().timestamp_subsec_nanos().to_le_bytes();
        random.iter_mut().zip(clock).for_each(|(byte, tick)| *byte = tick);
    }
    let end = random.iter().map(|&byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]));
    format!("{}-{}", incident.to_ascii_lowercase(), end.collect::<String>())
}

/// Closes a token and returns it as it is then. The webhook checks who may, and fills in who did.
///
/// # Errors
/// Whatever the cluster answers, explained.
pub async fn close(cluster: &Connection, name: &str) -> Result<BreakglassToken> {
    let api = Api::<BreakglassToken>::all(cluster.client.clone());
    let patch = json!({
        "apiVersion": BreakglassToken::api_version(&()),
        "kind": BreakglassToken::kind(&()),
        "status": {"phase": TokenPhase::Closed},
    });
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    cluster.ask(Doing::Closing, api.patch_status(name, &params, &Patch::Merge(&patch))).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A token of alice for prod, opened at noon for an hour.
    fn token(phase: Option<&str>) -> BreakglassToken {
        let mut object = json!({
            "apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassToken",
            "metadata": {"name": "inc-1-bcdfg"},
            "spec": {"incident": "INC-1", "reason": "down", "user": "alice@example.com", "environment": "prod",
                "namespaces": ["prod"], "openedAt": "2026-11-20T12:00:00Z", "expiresAt": "2026-11-20T13:00:00Z"},
        });
        if let Some(phase) = phase {
            object["status"] = json!({"phase": phase});
        }
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_token_is_worth_what_the_clock_and_its_phase_say() {
        let built_in = Rules::built_in().unwrap();
        let spec = json!({"environments": [{"name": "prod", "namespaces": ["prod"], "writes": "RequireToken",
            "token": {"approval": {"mode": "Before"}}}]});
        let asks = Rules::new(serde_json::from_value(spec).unwrap()).unwrap();
        let at = |time: &str| time.parse::<DateTime<Utc>>().unwrap();
        let (before, end) = (at("2026-11-20T12:59:59Z"), at("2026-11-20T13:00:00Z"));
        for (phase, rules, now, expected) in [
            (None, &built_in, before, Standing::Live),
            (None, &asks, before, Standing::Waiting),
            (None, &built_in, end, Standing::Expired),
            (Some("Active"), &asks, before, Standing::Live),
            (Some("Active"), &asks, end, Standing::Expired),
            (Some("Pending"), &built_in, before, Standing::Waiting),
            (Some("Pending"), &built_in, end, Standing::Expired),
            (Some("Closed"), &built_in, end, Standing::Closed),
            (Some("Denied"), &built_in, before, Standing::Denied),
            (Some("Expired"), &built_in, before, Standing::Expired),
        ] {
            assert_eq!(standing(&token(phase), rules, now), expected, "{phase:?} {now}");
        }
    }

    #[test]
    fn a_name_is_the_incident_a_dash_and_five_characters() {
        let name = name_for("INC-123");
        let end = name.strip_prefix("inc-123-").unwrap();
        assert_eq!(end.len(), RANDOM_CHARACTERS);
        assert!(end.bytes().all(|byte| ALPHABET.contains(&byte)));
        assert_ne!(name, name_for("INC-123"));
    }
}
