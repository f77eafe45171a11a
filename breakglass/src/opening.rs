//! The opening of a token: what the webhook fills in, and what it accepts.

use chrono::{DateTime, Utc};
use serde::Deserialize;

use crate::api::{BreakglassTokenSpec, Gate, Span, Timestamp, TokenRules};
use crate::cover::CLOCK_SKEW;
use crate::rules::Rules;

/// What a client asked for, before anything was filled in. What it left out is absent, and what is no token at all is
/// left to the schema to refuse.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Asked {
    /// Who it says it is for.
    pub user: Option<String>,
    /// The environment.
    pub environment: String,
    /// How long it is to live.
    pub ttl: Option<Span>,
    /// Until when it is to live.
    pub expires_at: Option<Timestamp>,
}

/// The fields that the webhook fills in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filled {
    /// The authenticated user, where the client named nobody. Somebody else's name stays, to be refused.
    pub user: String,
    /// The webhook's clock.
    pub opened_at: Timestamp,
    /// What was asked for, or the environment's default. Where there is no such environment any time will do: the token is
    /// about to be refused, and for that reason.
    pub expires_at: Timestamp,
}

/// Fills in what only the webhook knows. It never refuses: the validating call does.
pub fn fill(asked: &Asked, user: &str, rules: &Rules, now: DateTime<Utc>) -> Filled {
    let opened_at = Timestamp::new(now);
    let after = |span: Span| Timestamp::new(opened_at.instant() + span.delta());
    let default = || match rules.environment_named(&asked.environment) {
        Some(environment) => environment.token.default_ttl,
        None => TokenRules::default().default_ttl,
    };
    let expires_at = match (asked.ttl, asked.expires_at) {
        (Some(ttl), _) => after(ttl),
        (None, Some(at)) => at,
        (None, None) => after(default()),
    };
    Filled { user: asked.user.clone().unwrap_or_else(|| user.to_owned()), opened_at, expires_at }
}

/// Why a token is not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpeningError {
    /// It names somebody else.
    #[error("a token is for who opens it: {opener} cannot open one for {named}. Leave spec.user out")]
    SomebodyElse {
        /// Who opens it.
        opener: String,
        /// Whom it names.
        named: String,
    },
    /// No incident.
    #[error("{incident:?} is not the id of an incident: the policy's incidentPattern is {pattern}, as in INC-123")]
    Incident {
        /// What was given.
        incident: String,
        /// What the policy demands.
        pattern: String,
    },
    /// No such environment.
    #[error("there is no environment {name:?}: the policy has {}", known.join(", "))]
    Environment {
        /// What was given.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// Nothing to open.
    #[error("writes to {0} need no token: there is nothing to open")]
    NeedsNone(String),
    /// Dead on arrival.
    #[error("the token would have expired at {0}, before it was opened")]
    AlreadyExpired(Timestamp),
    /// Too long.
    #[error("a token for {environment} lives at most {max}: ask for --ttl {max} or less")]
    TooLong {
        /// The environment.
        environment: String,
        /// Its maximum.
        max: Span,
    },
    /// The mutating call did not run.
    #[error("openedAt is not the webhook's time: the call that fills it in did not run. Try again")]
    NotFilled,
    /// Nothing the review could read.
    #[error("give a reason: it is what the review will read")]
    Reason,
}

/// Checks a token as it is about to be stored.
///
/// # Errors
/// The first thing that must not be.
pub fn check(spec: &BreakglassTokenSpec, user: &str, rules: &Rules, now: DateTime<Utc>) -> Result<(), OpeningError> {
    if spec.user != user {
        return Err(OpeningError::SomebodyElse { opener: user.to_owned(), named: spec.user.clone() });
    }
    if !rules.is_incident(&spec.incident) {
        let pattern = rules.spec().incident_pattern.clone();
        return Err(OpeningError::Incident { incident: spec.incident.clone(), pattern });
    }
    if spec.reason.trim().is_empty() {
        return Err(OpeningError::Reason);
    }
    let Some(environment) = rules.environment_named(&spec.environment) else {
        let known = rules.spec().environments.iter().map(|environment| environment.name.clone()).collect();
        return Err(OpeningError::Environment { name: spec.environment.clone(), known });
    };
    if environment.writes != Gate::RequireToken && environment.exec != Some(Gate::RequireToken) {
        return Err(OpeningError::NeedsNone(environment.name.clone()));
    }
    if (now - spec.opened_at.instant()).abs() > CLOCK_SKEW {
        return Err(OpeningError::NotFilled);
    }
    if spec.expires_at.instant() <= now {
        return Err(OpeningError::AlreadyExpired(spec.expires_at));
    }
    let max = environment.token.max_ttl;
    if spec.expires_at.instant() > spec.opened_at.instant() + max.delta() {
        return Err(OpeningError::TooLong { environment: environment.name.clone(), max });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn now() -> DateTime<Utc> {
        "2026-11-20T12:00:00.400Z".parse().unwrap()
    }

    /// Opens as the webhook does: fill, then check. The time of the end, or the refusal.
    fn opened(change: Value) -> Result<String, String> {
        let rules = Rules::built_in().unwrap();
        let mut spec = json!({"incident": "INC-1", "reason": "r", "environment": "prod"});
        for (field, value) in change.as_object().unwrap() {
            spec[field] = value.clone();
        }
        let asked: Asked = serde_json::from_value(spec.clone()).unwrap();
        let filled = fill(&asked, "alice@example.com", &rules, now());
        spec["user"] = json!(filled.user);
        spec["openedAt"] = json!(filled.opened_at);
        spec["expiresAt"] = json!(filled.expires_at);
        let spec: BreakglassTokenSpec = serde_json::from_value(spec).unwrap();
        check(&spec, "alice@example.com", &rules, now())
            .map(|()| spec.expires_at.to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_token_lives_as_long_as_asked_within_what_the_policy_allows() {
        assert_eq!(opened(json!({})), Ok("2026-11-20T13:00:00Z".to_owned()));
        assert_eq!(opened(json!({"ttl": "30m"})), Ok("2026-11-20T12:30:00Z".to_owned()));
        assert_eq!(opened(json!({"ttl": "4h"})), Ok("2026-11-20T16:00:00Z".to_owned()));
        assert_eq!(opened(json!({"expiresAt": "2026-11-20T12:10:00Z"})), Ok("2026-11-20T12:10:00Z".to_owned()));
        // What a client says of openedAt counts for nothing.
        assert_eq!(opened(json!({"openedAt": "2020-01-01T00:00:00Z"})), Ok("2026-11-20T13:00:00Z".to_owned()));
    }

    #[test]
    fn what_must_not_be_opened_is_refused_in_a_sentence() {
        for (change, expected) in [
            (json!({"user": "bob@example.com"}), "alice@example.com cannot open one for bob@example.com"),
            (json!({"incident": "nonsense"}), "is not the id of an incident"),
            (json!({"reason": "  "}), "give a reason"),
            (json!({"environment": "nowhere"}), "the policy has prod, staging, platform, dev"),
            (json!({"environment": "dev"}), "writes to dev need no token"),
            (json!({"expiresAt": "2026-11-20T12:00:00Z"}), "before it was opened"),
            (json!({"expiresAt": "2020-01-01T00:00:00Z", "openedAt": "2019-01-01T00:00:00Z"}), "before it was opened"),
            (json!({"expiresAt": "2126-11-20T12:00:00Z"}), "lives at most 4h"),
            (json!({"ttl": "4h1s"}), "lives at most 4h"),
        ] {
            let refusal = opened(change.clone()).unwrap_err();
            assert!(refusal.contains(expected), "{change}: {refusal}");
        }
    }
}
