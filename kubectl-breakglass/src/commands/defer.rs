//! `defer`: a verdict is put off to a date.

use std::str::FromStr;

use breakglass::api::{Span, Timestamp, Verdict};
use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use clap::Args;
use serde_json::json;

use crate::Exit;
use crate::ctx::Ctx;
use crate::error::{CommandError, Result};
use crate::pick::{Selection, select};
use crate::tokens::Really;
use crate::verdicts::{OnRefusal, give};

/// Put off to a date what becomes of a change
///
/// The object stays as it is, and the debt's clock runs to that date. The
/// policy says how far that may be (debt.maxDefer), from when the change was
/// made. Of several changes all are deferred, or none.
///
/// Examples:
///   kubectl breakglass defer -n prod deployment/api --until 3d \
///     --reason "the chart is being rewritten"
///   kubectl breakglass defer --incident INC-123 --until 2026-12-01 \
///     --reason "after the audit" --dry-run
#[derive(Args, Clone, Debug)]
#[command(
    verbatim_doc_comment,
    override_usage = "kubectl breakglass defer CHANGE|KIND/NAME... --until TIME --reason REASON\n       kubectl breakglass defer --incident INCIDENT --until TIME --reason REASON"
)]
pub struct DeferArgs {
    /// What is deferred
    #[command(flatten)]
    pub selection: Selection,
    /// Until when: 3d, 2026-12-01 (all of that day, UTC), or a time in RFC 3339
    #[arg(long, value_name = "TIME")]
    pub until: Until,
    /// Why, for who reads it then
    #[arg(long)]
    pub reason: String,
    /// Have the server check everything, and keep nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Defer those that can be, where others cannot
    #[arg(long)]
    pub keep_going: bool,
}

/// A date as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// So long from now.
    For(Span),
    /// To the end of that day, UTC.
    Day(NaiveDate),
    /// That moment.
    At(Timestamp),
}

impl FromStr for Until {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let span = text.parse().map(Self::For).ok();
        let day = || text.parse().map(Self::Day).ok();
        let moment = || text.parse().map(Self::At).ok();
        let wrong = || "write it as 3d, as 2026-12-01, or as 2026-12-01T09:00:00Z".to_owned();
        span.or_else(day).or_else(moment).ok_or_else(wrong)
    }
}

impl Until {
    /// The moment.
    fn moment(self, now: DateTime<Utc>) -> Timestamp {
        match self {
            Self::For(span) => Timestamp::new(now + span.delta()),
            Self::Day(day) => Timestamp::new(day.and_time(NaiveTime::MIN).and_utc() + TimeDelta::seconds(86_399)),
            Self::At(moment) => moment,
        }
    }
}

/// Defers.
///
/// # Errors
/// When there is no such change, or the cluster does not take the verdict.
pub async fn defer(ctx: &mut Ctx<'_>, args: &DeferArgs) -> Result<Exit> {
    if args.reason.trim().is_empty() {
        return Err(CommandError::usage("give a reason: it is what somebody will read on that date"));
    }
    let records = select(ctx, &args.selection, Some(Verdict::Deferred)).await?;
    let until = args.until.moment(ctx.now());
    // What another verdict said beside itself is over with it.
    let status = json!({"verdict": Verdict::Deferred, "until": until, "note": args.reason, "git": null});
    let really = if args.dry_run { Really::DryRun } else { Really::Yes };
    let on_refusal = if args.keep_going { OnRefusal::KeepGoing } else { OnRefusal::Stop };
    give(ctx, &records, (&status, &format!("deferred until {until}")), (really, on_refusal)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_a_length_a_day_or_a_moment() {
        let now = "2026-11-20T12:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("3d", Some("2026-11-23T12:00:00Z")),
            ("36h", Some("2026-11-22T00:00:00Z")),
            ("2026-12-01", Some("2026-12-01T23:59:59Z")),
            ("2026-12-01T09:00:00+01:00", Some("2026-12-01T08:00:00Z")),
            ("tomorrow", None),
            ("2026-13-01", None),
            ("", None),
        ] {
            let found = text.parse::<Until>().ok().map(|until| until.moment(now).to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }
}
