//! Pass: the tokens that a command holds while it writes to what tokens are needed for: an install, an uninstall, a reject.

use std::collections::BTreeSet;

use breakglass::api::{BreakglassToken, Span};
use breakglass::rules::Rules;
use kube::ResourceExt;

use crate::commands::open::{OpenArgs, wait_for_approval};
use crate::ctx::Ctx;
use crate::error::{CommandError, Result};
use crate::request::{Purpose, prepare};
use crate::tokens::{self, Really, Standing, create, is_open, is_opened_by, standing};

/// What the tokens are asked for by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The incident, if one was named.
    pub incident: Option<String>,
    /// Why.
    pub reason: String,
    /// The command line that was typed, to be typed again with an incident.
    pub command: String,
    /// For how long, where that is not the policy's to say.
    pub ttl: Option<Span>,
}

/// Tokens, one for each environment. To be closed, whatever becomes of the work.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pass {
    tokens: Vec<BreakglassToken>,
}

impl Pass {
    /// Opens what is needed for these environments; nothing where there is none.
    ///
    /// # Errors
    /// When no incident was named, or the webhook gives no token. What was opened before that is closed.
    pub async fn open(ctx: &mut Ctx<'_>, environments: &BTreeSet<String>, cause: &Cause) -> Result<Self> {
        let mut pass = Self::default();
        if environments.is_empty() {
            return Ok(pass);
        }
        let Some(incident) = &cause.incident else {
            let names: Vec<&str> = environments.iter().map(String::as_str).collect();
            let message = format!(
                "breakglass guards itself: this changes what belongs to {}, and needs a token for an incident",
                names.join(" and ")
            );
            let hint = format!("{} --incident INC-123 --reason \"…\"", cause.command);
            return Err(CommandError::usage(message).hint(hint));
        };
        for environment in environments {
            if let Err(error) = pass.add(ctx, incident, environment, cause).await {
                pass.close(ctx).await;
                return Err(error);
            }
        }
        Ok(pass)
    }

    /// What a command has left open for itself when it was broken off, for one of these incidents. It still holds.
    ///
    /// # Errors
    /// Whatever the cluster answers, explained.
    pub async fn left_open(
        ctx: &Ctx<'_>,
        rules: &Rules,
        (incidents, command): (&BTreeSet<String>, &str),
    ) -> Result<Self> {
        let mut tokens = tokens::of_user(&ctx.cluster, &ctx.who_am_i().await?).await?;
        let now = ctx.now();
        tokens.retain(|token| {
            let is_of_it = incidents.iter().any(|incident| incident.eq_ignore_ascii_case(&token.spec.incident));
            is_of_it && is_opened_by(token, command) && is_open(token, rules, now)
        });
        Ok(Self { tokens })
    }

    /// Opens one for an environment, unless one that was left open waits to be approved.
    ///
    /// # Errors
    /// When the webhook gives no token.
    pub async fn add(&mut self, ctx: &mut Ctx<'_>, incident: &str, environment: &str, cause: &Cause) -> Result<()> {
        let args = OpenArgs {
            incident: incident.to_owned(),
            reason: cause.reason.clone(),
            environment: Some(environment.to_owned()),
            ttl: cause.ttl,
            hold: false,
            wait: true,
            yes: true,
            dry_run: false,
        };
        let request = prepare(ctx, &args, &Purpose::Pass(cause.command.clone())).await?;
        let waits = |token: &&BreakglassToken| {
            let is_for =
                (&token.spec.environment, &token.spec.namespaces) == (&request.environment.name, &request.namespaces);
            is_for && standing(token, &request.rules, ctx.now()) == Standing::Waiting
        };
        if let Some(token) = self.tokens.iter().find(waits) {
            return wait_for_approval(ctx, &request.rules, token).await;
        }
        let token = create(&ctx.cluster, &request, Really::Yes).await?;
        ctx.printer.say(&format!("token: opened {} for {}", token.name_any(), request.place()));
        self.tokens.push(token.clone());
        if request.needs_approval() {
            wait_for_approval(ctx, &request.rules, &token).await?;
        }
        Ok(())
    }

    /// Closes them. One that stays open is said loudly, and is no reason to undo what was done.
    pub async fn close(self, ctx: &mut Ctx<'_>) {
        for name in self.tokens.iter().map(ResourceExt::name_any) {
            match tokens::close(&ctx.cluster, &name).await {
                Ok(_) => ctx.printer.say(&format!("token: {name} closed")),
                Err(error) => {
                    ctx.printer.say(&format!("error: {name} is still open: {}", error.message));
                    ctx.printer.say(&format!("hint: kubectl breakglass close {name}"));
                }
            }
        }
    }
}
