//! `status`: my tokens with time left, approvals that wait for somebody like me, my debt.

use breakglass::api::{BreakglassToken, Timestamp};
use breakglass::rules::Rules;
use breakglass::verdict::due;
use chrono::{DateTime, Utc};
use clap::Args;
use kube::ResourceExt;
use serde::Serialize;
use serde_json::json;

use crate::Exit;
use crate::cli::Output;
use crate::ctx::Ctx;
use crate::error::Result;
use crate::in_force::policy_in_force;
use crate::ledger::{self, Keep, Which, is_owed};
use crate::overdue::{Overdue, overdue};
use crate::print::{age, object, table};
use crate::request::place_of;
use crate::tokens::{self, Standing, full_name, is_open, standing};

/// See who you are here, what you may write to, and what you owe
///
/// Also how many changes are overdue, whoever made them.
///
/// Examples:
///   kubectl breakglass status
///   kubectl breakglass status -o json
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct StatusArgs {}

/// What status says.
struct Summary {
    user: String,
    tokens: Vec<BreakglassToken>,
    waiting: Vec<BreakglassToken>,
    debt: Debt,
    overdue: Overdue,
}

impl Summary {
    fn for_programs(&self) -> Result<serde_json::Value> {
        let values = |tokens: &[BreakglassToken]| tokens.iter().map(object::value).collect::<Result<Vec<_>>>();
        Ok(json!({
            "user": self.user,
            "tokens": values(&self.tokens)?,
            "waitingForApproval": values(&self.waiting)?,
            "debt": self.debt,
            "overdue": self.overdue,
        }))
    }
}

/// What one person has changed and not brought to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Debt {
    changes: usize,
    overdue: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    decide_by: Option<Timestamp>,
}

impl Debt {
    /// Sums up when each change has to be decided.
    fn of(deadlines: impl Iterator<Item = Timestamp>, now: DateTime<Utc>) -> Self {
        deadlines.fold(Self::default(), |debt, deadline| Self {
            changes: debt.changes + 1,
            overdue: debt.overdue + usize::from(deadline.instant() < now),
            decide_by: Some(debt.decide_by.map_or(deadline, |earliest| earliest.min(deadline))),
        })
    }

    fn sentence(&self, now: DateTime<Utc>) -> String {
        let Some(decide_by) = self.decide_by else { return "You owe nothing.".to_owned() };
        let changes = if self.changes == 1 { "1 change".to_owned() } else { format!("{} changes", self.changes) };
        let when = match decide_by.instant() {
            late if late < now => format!("the oldest since {} ago", age::since(late, now)),
            early => format!("the first within {}", age::until(early, now)),
        };
        format!("You owe {changes}, {} overdue; {when} (decide by {decide_by}).", self.overdue)
    }
}

/// Says what holds for me.
///
/// # Errors
/// Whatever the cluster answers, explained.
pub async fn status(ctx: &mut Ctx<'_>, _args: &StatusArgs) -> Result<Exit> {
    let user = ctx.who_am_i().await?;
    let rules = policy_in_force(&ctx.cluster).await?.rules;
    let now = ctx.now();
    let (mut mine, mut others): (Vec<_>, Vec<_>) =
        tokens::all(&ctx.cluster).await?.into_iter().partition(|token| token.spec.user == user);
    mine.retain(|token| is_open(token, &rules, now));
    others.retain(|token| standing(token, &rules, now) == Standing::Waiting);
    let which = Which { user: Some(user.clone()), ..Which::default() };
    let (ledger, overdue) = futures::join!(ledger::read(&ctx.cluster, &which, Keep::Lines), overdue(&ctx.cluster, now));
    let (ledger, overdue) = (ledger?, overdue?);
    let owed = ledger.records.iter().filter(|record| record.change.spec.user == user && is_owed(&record.change));
    let deadlines = owed.map(|record| due(&record.change.spec, &record.change.status.clone().unwrap_or_default()));
    let debt = Debt::of(deadlines, now);
    let summary = Summary { user, tokens: mine, waiting: others, debt, overdue };
    match ctx.output() {
        Output::Json => object::json(ctx.printer, &summary.for_programs()?)?,
        Output::Yaml => object::yaml(ctx.printer, &summary.for_programs()?)?,
        Output::Name => {
            summary.tokens.iter().try_for_each(|token| ctx.printer.data(&full_name(token)))?;
        }
        Output::Table | Output::Wide => print(ctx, &rules, &summary)?,
    }
    for failure in &ledger.failures {
        ctx.printer.say(&format!("warning: {failure}"));
    }
    Ok(if ledger.failures.is_empty() { Exit::Done } else { Exit::Half })
}

fn print(ctx: &mut Ctx<'_>, rules: &Rules, summary: &Summary) -> Result<()> {
    let now = ctx.now();
    ctx.printer.data(&format!("You are {} in context {}.", summary.user, ctx.cluster.context))?;
    if summary.tokens.is_empty() {
        ctx.printer.data("You hold no open token.")?;
    } else {
        table(ctx, "LEFT", &summary.tokens, |token| {
            let left = age::until(token.spec.expires_at.instant(), now);
            match standing(token, rules, now) {
                Standing::Waiting => format!("{left}, {}", Standing::Waiting.as_str()),
                Standing::Live | Standing::Expired | Standing::Closed | Standing::Denied => left,
            }
        })?;
    }
    if !summary.waiting.is_empty() {
        ctx.printer.data("")?;
        ctx.printer.data("Waiting for somebody's approval:")?;
        table(ctx, "USER", &summary.waiting, |token| token.spec.user.clone())?;
    }
    ctx.printer.data("")?;
    // Everybody is told: what its maker has forgotten, nobody else would look for.
    if let Some(sentence) = summary.overdue.sentence(now) {
        ctx.printer.data(&sentence)?;
    }
    ctx.printer.data(&summary.debt.sentence(now))?;
    if summary.debt.changes > 0 {
        ctx.printer.say(&format!("hint: kubectl breakglass list --user {}", summary.user));
    }
    Ok(())
}

fn table(
    ctx: &mut Ctx<'_>,
    last: &str,
    tokens: &[BreakglassToken],
    cell: impl Fn(&BreakglassToken) -> String,
) -> Result<()> {
    let row = |token: &BreakglassToken| {
        let spec = &token.spec;
        vec![token.name_any(), spec.incident.clone(), place_of(spec), cell(token), spec.reason.clone()]
    };
    let header = ["TOKEN", "INCIDENT", "WRITING TO", last, "REASON"];
    let rows: Vec<Vec<String>> = tokens.iter().map(row).collect();
    table::print(ctx.printer, &header, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debt_is_counted_and_its_first_deadline_named() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let now = at("2026-11-20T12:00:00Z").instant();
        let none = Debt::of(std::iter::empty(), now);
        assert_eq!(none.sentence(now), "You owe nothing.");
        let one = Debt::of([at("2026-11-20T14:00:00Z")].into_iter(), now);
        assert_eq!(
            one.sentence(now),
            "You owe 1 change, 0 overdue; the first within 2h0m (decide by 2026-11-20T14:00:00Z)."
        );
        let two = Debt::of([at("2026-11-20T14:00:00Z"), at("2026-11-20T11:00:00Z")].into_iter(), now);
        assert_eq!(
            two.sentence(now),
            "You owe 2 changes, 1 overdue; the oldest since 1h0m ago (decide by 2026-11-20T11:00:00Z)."
        );
    }
}
