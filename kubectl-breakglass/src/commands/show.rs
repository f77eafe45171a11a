//! `show`: one change in full.

use breakglass::api::{BreakglassChangeStatus, HoldState, PatchStep};
use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::{Value, json};

use crate::Exit;
use crate::cli::Output;
use crate::ctx::Ctx;
use crate::error::Result;
use crate::ledger::Record;
use crate::pick::{Named, pick};
use crate::print::table::{cut, printable};
use crate::print::{age, object};
use crate::row_state::RowState;
use crate::rows::Row;

/// How much of a value is shown; `-o yaml` has all of it, and `diff` every line.
const VALUE_SHOWN: usize = 72;

/// See one change in full
///
/// Who wrote what, when and under which token, what it changed, and what has
/// become of it. With KIND/NAME: each change of the object that is not settled,
/// or the last one.
///
/// Examples:
///   kubectl breakglass show inc-123-0h3k9v1m2n3p4q5r
///   kubectl breakglass show -n prod deployment/api
///   kubectl breakglass show -n prod deployment/api -o yaml
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct ShowArgs {
    /// A change, or an object
    #[arg(value_name = "CHANGE|KIND/NAME")]
    pub what: Named,
}

/// Shows it.
///
/// # Errors
/// When there is no such change, or the cluster does not answer.
pub async fn show(ctx: &mut Ctx<'_>, args: &ShowArgs) -> Result<Exit> {
    let records = pick(ctx, &args.what).await?;
    let (output, now) = (ctx.output(), ctx.now());
    let whole = || match &records[..] {
        [one] => one.whole.clone().unwrap_or_default(),
        several => json!({"apiVersion": "v1", "kind": "List",
            "items": several.iter().map(|record| &record.whole).collect::<Vec<_>>()}),
    };
    match output {
        Output::Json => object::json(ctx.printer, &whole())?,
        Output::Yaml => object::yaml(ctx.printer, &whole())?,
        Output::Name => {
            for record in &records {
                ctx.printer.data(&Row::of_record(record.clone()).full_name())?;
            }
        }
        Output::Table | Output::Wide => {
            for (index, record) in records.iter().enumerate() {
                if index > 0 {
                    ctx.printer.bytes(b"\n")?;
                }
                for line in describe(record, now) {
                    ctx.printer.data(&line)?;
                }
            }
            if let [.., last] = &records[..] {
                ctx.printer.say(&format!("\nLine by line: kubectl breakglass diff {}", last.name));
            }
        }
    }
    Ok(Exit::Done)
}

/// A change as lines, with a word in front of each as `kubectl describe` has it.
fn describe(record: &Record, now: DateTime<Utc>) -> Vec<String> {
    let spec = &record.change.spec;
    let status = record.change.status.clone().unwrap_or_default();
    let written = spec.time.instant();
    let subresource = spec.subresource.as_ref().map_or_else(String::new, |name| format!(", subresource {name}"));
    let through = spec.manager.as_ref().map_or_else(String::new, |manager| format!(" through {manager}"));
    let mut fields = vec![
        ("Change", record.name.clone()),
        ("Incident", format!("{}, token {}", spec.incident, spec.token)),
        ("Object", format!("{}{subresource}", spec.target.place())),
        ("Environment", spec.environment.clone()),
        ("Operation", format!("{} by {}{through}", spec.operation.as_str(), spec.user)),
        ("Written", format!("{}, {} ago", spec.time, age::since(written, now))),
    ];
    if let Some(owner) = &spec.engine_owner {
        fields.push(("Owner", owner.clone()));
    }
    fields.push(("State", state(record, &status, now)));
    fields.extend(verdict(&status));
    fields.extend(hold(record, &status));
    if !spec.undoes.is_empty() {
        fields.push(("Undoes", spec.undoes.join(", ")));
    }
    let mut lines: Vec<String> =
        fields.into_iter().map(|(name, value)| format!("{:<13}{}", format!("{name}:"), printable(&value))).collect();
    lines.push("Changed:".to_owned());
    if spec.truncated {
        lines.push("  the object was too large for the record, which holds hashes in its place".to_owned());
    } else if spec.patch.is_empty() {
        lines.push("  nothing that an object would show".to_owned());
    } else {
        lines.extend(spec.patch.iter().map(|step| format!("  {}", printable(&step_line(step, spec.before.as_ref())))));
    }
    lines
}

fn state(record: &Record, status: &BreakglassChangeStatus, now: DateTime<Utc>) -> String {
    let state = RowState::of_phase(status.phase);
    let due = |by: DateTime<Utc>| match by > now {
        true => format!("{} left", age::until(by, now)),
        false => format!("{} overdue", age::since(by, now)),
    };
    match (state, status.until, status.settled_at) {
        (RowState::Admitted | RowState::Pending, ..) => {
            let by = record.change.spec.decide_by;
            format!("{}, to be decided by {by} ({})", state.as_str(), due(by.instant()))
        }
        (RowState::Deferred, Some(until), _) => format!("deferred until {until} ({})", due(until.instant())),
        (RowState::Settled, _, Some(at)) => {
            let outcome = status.outcome.and_then(|outcome| json!(outcome).as_str().map(str::to_owned));
            format!("settled at {at}: {}", outcome.unwrap_or_default())
        }
        (other, ..) => other.as_str().to_owned(),
    }
}

fn verdict(status: &BreakglassChangeStatus) -> Vec<(&'static str, String)> {
    let mut fields = Vec::new();
    if let Some(verdict) = status.verdict {
        let word = json!(verdict).as_str().unwrap_or_default().to_owned();
        let by = status.by.as_ref().map_or_else(String::new, |by| format!(" by {by}"));
        let at = status.at.map_or_else(String::new, |at| format!(" at {at}"));
        fields.push(("Verdict", format!("{word}{by}{at}")));
    }
    if let Some(note) = &status.note {
        fields.push(("Note", note.clone()));
    }
    if let Some(git) = &status.git {
        let parts = [&git.repository, &git.branch, &git.commit, &git.path];
        fields.push(("Git", parts.into_iter().flatten().cloned().collect::<Vec<_>>().join(" ")));
    }
    fields
}

/// Whether its engine is kept from its object, and by whom.
fn hold(record: &Record, status: &BreakglassChangeStatus) -> Option<(&'static str, String)> {
    let Some(said) = &status.hold else {
        return record.change.spec.hold.then(|| ("Hold", "held from the write on".to_owned()));
    };
    let word = match said.state {
        HoldState::Held => "held",
        HoldState::Released => "released",
    };
    let by = said.by.as_ref().map_or_else(String::new, |by| format!(" by {by}"));
    let at = said.at.map_or_else(String::new, |at| format!(" at {at}"));
    Some(("Hold", format!("{word}{by}{at}")))
}

/// One step of the patch: the field, what it was, and what it became.
fn step_line(step: &PatchStep, before: Option<&Value>) -> String {
    if step.path.is_empty() {
        let is_there = step.value.as_ref().is_some_and(|value| !value.is_null());
        return if is_there { "the object was made" } else { "the object was deleted" }.to_owned();
    }
    let path = &step.path;
    let was = before.and_then(|before| before.pointer(&step.path)).map(brief);
    let becomes = step.value.as_ref().map(brief);
    match (step.op.as_str(), was, becomes) {
        ("add", _, Some(new)) => format!("{path}: added {new}"),
        ("remove", Some(old), _) => format!("{path}: removed, was {old}"),
        (_, Some(old), Some(new)) => format!("{path}: {old} → {new}"),
        (_, Some(old), None) => format!("{path}: gone, was {old}"),
        (op, None, Some(new)) => format!("{path}: {op} {new}"),
        (op, None, None) => format!("{path}: {op}"),
    }
}

fn brief(value: &Value) -> String {
    cut(&value.to_string(), VALUE_SHOWN)
}

#[cfg(test)]
mod tests {
    use breakglass::api::BreakglassChange;

    use super::*;

    fn record(status: Value) -> Record {
        let change: BreakglassChange = serde_json::from_value(json!({
            "apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassChange", "metadata": {"name": "inc-1-abc"},
            "spec": {"token": "inc-1-aaaaa", "incident": "INC-1", "user": "alice@example.com", "time": "2026-11-20T12:00:00Z",
                "environment": "prod", "operation": "Update", "manager": "kubectl-edit", "engineOwner": "Kustomization flux-system/prod",
                "target": {"apiVersion": "apps/v1", "kind": "Deployment", "resource": "deployments", "namespace": "prod", "name": "api"},
                "before": {"spec": {"replicas": 2, "paused": true}},
                "patch": [{"op": "replace", "path": "/spec/replicas", "value": 5}, {"op": "remove", "path": "/spec/paused"},
                    {"op": "add", "path": "/spec/note", "value": "x\u{1b}[31m"}],
                "decideBy": "2026-11-21T12:00:00Z"},
            "status": status,
        }))
        .unwrap();
        Record { name: "inc-1-abc".to_owned(), change, found: None, whole: None }
    }

    #[test]
    fn a_change_is_told_as_a_person_reads_it() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let lines = describe(&record(json!({"phase": "Pending"})), at("2026-11-20T14:00:00Z"));
        assert_eq!(
            lines.join("\n"),
            "Change:      inc-1-abc\n\
             Incident:    INC-1, token inc-1-aaaaa\n\
             Object:      deployment.apps/api in prod\n\
             Environment: prod\n\
             Operation:   Update by alice@example.com through kubectl-edit\n\
             Written:     2026-11-20T12:00:00Z, 2h0m ago\n\
             Owner:       Kustomization flux-system/prod\n\
             State:       pending, to be decided by 2026-11-21T12:00:00Z (22h0m left)\n\
             Changed:\n  /spec/replicas: 2 → 5\n  /spec/paused: removed, was true\n  /spec/note: added \"x\\u001b[31m\""
        );
        let whole = |value: Value| {
            step_line(&PatchStep { op: "replace".to_owned(), path: String::new(), value: Some(value) }, None)
        };
        assert_eq!(
            (whole(json!({})), whole(Value::Null)),
            ("the object was made".to_owned(), "the object was deleted".to_owned())
        );
        let state = |status: Value, now: &str| {
            let lines = describe(&record(status), at(now));
            lines
                .into_iter()
                .filter(|line| ["State", "Verdict", "Hold", "Note"].iter().any(|name| line.starts_with(name)))
                .collect::<Vec<_>>()
                .join("|")
        };
        assert_eq!(
            state(json!({"phase": "Pending"}), "2026-11-21T15:00:00Z"),
            "State:       pending, to be decided by 2026-11-21T12:00:00Z (3h0m overdue)"
        );
        assert_eq!(
            state(
                json!({"phase": "Deferred", "verdict": "Deferred", "by": "bob@example.com", "at": "2026-11-20T13:00:00Z",
                    "until": "2026-11-22T12:00:00Z", "note": "after the audit"}),
                "2026-11-21T12:00:00Z"
            ),
            "State:       deferred until 2026-11-22T12:00:00Z (1d0h left)|Verdict:     Deferred by bob@example.com at 2026-11-20T13:00:00Z|\
             Note:        after the audit"
        );
        let held = json!({"state": "Held", "by": "bob@example.com", "at": "2026-11-20T13:00:00Z"});
        assert_eq!(
            state(json!({"phase": "Accepted", "hold": held}), "2026-11-21T12:00:00Z"),
            "State:       accepted|Hold:        held by bob@example.com at 2026-11-20T13:00:00Z"
        );
        assert_eq!(
            state(
                json!({"phase": "Settled", "outcome": "Undone", "settledAt": "2026-11-20T13:00:00Z"}),
                "2026-11-21T12:00:00Z"
            ),
            "State:       settled at 2026-11-20T13:00:00Z: Undone"
        );
    }
}
