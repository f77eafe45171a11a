//! `close`: ends a token early, and says what is still owed.

use std::collections::BTreeSet;

use breakglass::api::BreakglassToken;
use breakglass::rules::Rules;
use clap::Args;
use kube::ResourceExt;

use crate::Exit;
use crate::ctx::Ctx;
use crate::error::{CommandError, Result};
use crate::in_force::policy_in_force;
use crate::ledger;
use crate::print::object;
use crate::tokens::{self, Standing, full_name, is_open, standing};

/// End a token early, and see what is still owed
///
/// Give a token, or an incident to close all your tokens of it. Without either,
/// your only open token is meant.
///
/// Examples:
///   kubectl breakglass close
///   kubectl breakglass close INC-123
///   kubectl breakglass close inc-123-x7k2m
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct CloseArgs {
    /// A token's name, or an incident's id
    #[arg(value_name = "TOKEN|INCIDENT")]
    pub which: Option<String>,
}

/// Closes tokens.
///
/// # Errors
/// When there is none that is meant, or the cluster says no.
pub async fn close(ctx: &mut Ctx<'_>, args: &CloseArgs) -> Result<Exit> {
    let rules = policy_in_force(&ctx.cluster).await?.rules;
    let meant = match &args.which {
        Some(which) => named(ctx, &rules, which).await?,
        None => vec![the_only_one(ctx, &rules).await?],
    };
    for token in &meant {
        close_one(ctx, &rules, token).await?;
    }
    let incidents: BTreeSet<&str> = meant.iter().map(|token| token.spec.incident.as_str()).collect();
    for incident in incidents {
        say_what_is_owed(ctx, incident).await;
    }
    Ok(Exit::Done)
}

async fn close_one(ctx: &mut Ctx<'_>, rules: &Rules, token: &BreakglassToken) -> Result<()> {
    let before = standing(token, rules, ctx.now());
    let (token, sentence) = match before {
        Standing::Live | Standing::Waiting => {
            (tokens::close(&ctx.cluster, &token.name_any()).await?, "closed".to_owned())
        }
        ended @ (Standing::Closed | Standing::Denied | Standing::Expired) => {
            (token.clone(), format!("is {} already", ended.as_str()))
        }
    };
    let value = object::value(&token)?;
    object::one(ctx.printer, ctx.output(), &value, &full_name(&token), &sentence)
}

/// What a name or an id stands for. A name is that token, whoever holds it; an incident is my tokens of it.
async fn named(ctx: &Ctx<'_>, rules: &Rules, which: &str) -> Result<Vec<BreakglassToken>> {
    let could_be_name =
        !which.is_empty() && which.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'));
    if could_be_name && let Some(token) = tokens::named(&ctx.cluster, which).await? {
        return Ok(vec![token]);
    }
    let me = ctx.who_am_i().await?;
    let mut mine = tokens::of_user(&ctx.cluster, &me).await?;
    mine.retain(|token| token.spec.incident.eq_ignore_ascii_case(which));
    let now = ctx.now();
    if mine.iter().any(|token| is_open(token, rules, now)) {
        mine.retain(|token| is_open(token, rules, now));
        return Ok(mine);
    }
    // None is open: the last one says what became of it.
    match mine.pop() {
        Some(last) => Ok(vec![last]),
        None => {
            Err(CommandError::failed(format!("{which:?} is neither a token nor an incident that {me} opened one for"))
                .hint("kubectl breakglass status"))
        }
    }
}

async fn the_only_one(ctx: &Ctx<'_>, rules: &Rules) -> Result<BreakglassToken> {
    let me = ctx.who_am_i().await?;
    let now = ctx.now();
    let mut mine = tokens::of_user(&ctx.cluster, &me).await?;
    mine.retain(|token| is_open(token, rules, now));
    match mine.len() {
        1 => Ok(mine.remove(0)),
        0 => Err(CommandError::failed(format!("{me} holds no open token")).hint("kubectl breakglass status")),
        several => {
            let error = CommandError::usage(format!("{me} holds {several} open tokens: say which one to close"));
            let names = mine.iter().map(|token| format!("kubectl breakglass close {}", token.name_any()));
            Err(names.fold(error, CommandError::hint))
        }
    }
}

/// Says how many changes of an incident nobody has brought to their end.
pub async fn say_what_is_owed(ctx: &mut Ctx<'_>, incident: &str) {
    let owed = match ledger::owed_of(&ctx.cluster, incident).await {
        Ok(owed) => owed,
        Err(error) => {
            ctx.printer.say(&format!("What {incident} still owes could not be read: {}", error.message));
            return;
        }
    };
    match owed {
        0 => ctx.printer.say(&format!("{incident}: nothing is owed.")),
        1 => ctx.printer.say(&format!("{incident}: 1 change is still owed. See it:")),
        many => ctx.printer.say(&format!("{incident}: {many} changes are still owed. See them:")),
    }
    if owed > 0 {
        ctx.printer.say(&format!("  kubectl breakglass list --incident {incident}"));
    }
}
