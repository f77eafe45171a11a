//! Token life, for people who look: the phase and the number of writes in a token's status. Nothing is decided by them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use breakglass::api::{BreakglassToken, BreakglassTokenStatus, TokenPhase};
use breakglass::cover::{self, Life};
use breakglass::rules::Rules;
use chrono::{DateTime, Utc};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use crate::cluster::Cluster;
use crate::leader::Leading;
use crate::said::said;

/// How often tokens are looked at. Looking is in memory; only what differs is written.
const EVERY: Duration = Duration::from_secs(1);

/// How long one round may take: hundreds of writes.
const ROUND_TIMEOUT: Duration = Duration::from_secs(30);

/// Keeps the status of tokens while it leads.
pub async fn keep(cluster: Arc<Cluster>, leading: Leading, clock: fn() -> DateTime<Utc>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if !leading.now() {
            continue;
        }
        match tokio::time::timeout(ROUND_TIMEOUT, round(&cluster, clock())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("keeping the status of tokens: {error:#}"),
            Err(_) => tracing::warn!("keeping the status of tokens took longer than {ROUND_TIMEOUT:?}"),
        }
    }
}

async fn round(cluster: &Cluster, now: DateTime<Utc>) -> Result<()> {
    let rules = cluster.rules();
    let Some(writes) = cluster.writes_by_token() else { return Ok(()) };
    let status =
        |token: &BreakglassToken| wanted(token, &rules, writes.get(&token.name_any()).copied().unwrap_or(0), now);
    let api: Api<BreakglassToken> = Api::all(cluster.client().clone());
    for token in cluster.tokens_where(|token| status(token).is_some()) {
        let Some(status) = status(&token) else { continue };
        let name = token.name_any();
        // Conditional on what was read: a token that is being closed at this moment stays closed.
        let patch = json!({"metadata": {"resourceVersion": token.resource_version()},
            "status": {"phase": status.phase, "writes": status.writes}});
        match api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(_) => {}
            // It was closed meanwhile, or is gone: the watch will tell.
            Err(kube::Error::Api(answer)) if answer.is_conflict() || answer.is_not_found() => {}
            Err(error) => return Err(said(error)).with_context(|| format!("writing the status of {name}")),
        }
    }
    Ok(())
}

/// What the status should say; `None` where it does.
fn wanted(token: &BreakglassToken, rules: &Rules, writes: i64, now: DateTime<Utc>) -> Option<BreakglassTokenStatus> {
    let status = token.status.clone().unwrap_or_default();
    let environment = rules.environment_named(&token.spec.environment);
    let life = environment.map_or(Life::Expired, |environment| cover::life(token, environment, now));
    let phase = match life {
        Life::Live => TokenPhase::Active,
        Life::Waiting | Life::NotYet => TokenPhase::Pending,
        Life::Expired | Life::Unapproved => TokenPhase::Expired,
        Life::Closed => TokenPhase::Closed,
        Life::Denied => TokenPhase::Denied,
    };
    let wanted = BreakglassTokenStatus { phase: Some(phase), writes: Some(writes), ..status.clone() };
    (wanted != status).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_follows_the_clock_and_then_rests() {
        let rules = Rules::built_in().unwrap();
        let mut token: BreakglassToken = serde_json::from_value(json!({
            "apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassToken", "metadata": {"name": "inc-1-aaaaa"},
            "spec": {"incident": "INC-1", "reason": "r", "user": "alice@example.com", "environment": "prod",
                     "openedAt": "2026-11-20T11:30:00Z", "expiresAt": "2026-11-20T12:30:00Z"},
        }))
        .unwrap();
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        for (now, phase) in
            [("2026-11-20T12:00:00Z", TokenPhase::Active), ("2026-11-20T12:30:00Z", TokenPhase::Expired)]
        {
            let status = wanted(&token, &rules, 3, at(now)).unwrap();
            assert_eq!((status.phase, status.writes), (Some(phase), Some(3)));
            token.status = Some(status);
            assert_eq!(wanted(&token, &rules, 3, at(now)), None);
        }
    }
}
