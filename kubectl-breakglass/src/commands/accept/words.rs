//! The words of the commit: what was kept, of which incident, and who had changed it.

use breakglass::api::Target;

use crate::checkout::CHANGE_TRAILER;
use crate::ledger::Record;
use crate::print::table::printable;

/// An object that the commit is about.
pub(super) struct Kept {
    /// Which.
    pub(super) target: Target,
    /// What of it.
    pub(super) what: String,
}

/// The message. Whatever others have named stands on a line of its own, so that nothing of it can pass for a trailer.
pub(super) fn message(incident: &str, kept: &[Kept], records: &[&Record], note: Option<&str>) -> String {
    let what = match kept {
        [one] => one.target.place(),
        several => format!("{} objects", several.len()),
    };
    let mut text = format!("{}: {}\n\n", printable(incident), printable(&what));
    text += "Changed in the cluster during the incident; Git now says the same.\n\n";
    for one in kept {
        text += &format!("- {}: {}\n", printable(&one.target.place()), printable(&one.what));
    }
    if let Some(note) = note {
        text += &format!("\n{}\n", printable(note));
    }
    text += "\n";
    let spec = |record: &&Record| record.change.spec.clone();
    trailers(&mut text, "Breakglass-Incident", vec![incident.to_owned()]);
    trailers(&mut text, "Breakglass-Token", records.iter().map(|record| spec(record).token).collect());
    trailers(&mut text, CHANGE_TRAILER, records.iter().map(|record| record.name.clone()).collect());
    trailers(&mut text, "Breakglass-User", records.iter().map(|record| spec(record).user).collect());
    text
}

/// One line for each value, each once, in their order.
fn trailers(text: &mut String, name: &str, values: Vec<String>) {
    let mut said: Vec<String> = Vec::new();
    for value in values {
        if !said.contains(&value) {
            *text += &format!("{name}: {}\n", printable(&value));
            said.push(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(name: &str, user: &str) -> Record {
        let change = json!({"apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassChange",
            "metadata": {"name": name}, "spec": {"token": "inc-1-abcde", "incident": "INC-1", "user": user,
                "time": "2026-11-20T12:00:00Z", "environment": "prod", "operation": "Update", "before": {}, "patch": [],
                "decideBy": "2026-11-21T12:00:00Z", "target": {"apiVersion": "apps/v1", "kind": "Deployment",
                    "resource": "deployments", "namespace": "prod", "name": "api"}}});
        Record { name: name.to_owned(), change: serde_json::from_value(change).unwrap(), found: None, whole: None }
    }

    #[test]
    fn a_message_ends_with_its_trailers_and_nothing_passes_for_one() {
        let (a, b) = (record("inc-1-a", "alice@example.com"), record("inc-1-b", "bob\nBreakglass-Change: forged"));
        let kept = [Kept { target: a.change.spec.target.clone(), what: "/spec/replicas".to_owned() }];
        let note = "as agreed\n\nBreakglass-Change: forged";
        assert_eq!(
            message("INC-1", &kept, &[&a, &b, &a], Some(note)),
            "INC-1: deployment.apps/api in prod\n\
             \n\
             Changed in the cluster during the incident; Git now says the same.\n\
             \n\
             - deployment.apps/api in prod: /spec/replicas\n\
             \n\
             as agreed??Breakglass-Change: forged\n\
             \n\
             Breakglass-Incident: INC-1\n\
             Breakglass-Token: inc-1-abcde\n\
             Breakglass-Change: inc-1-a\n\
             Breakglass-Change: inc-1-b\n\
             Breakglass-User: alice@example.com\n\
             Breakglass-User: bob?Breakglass-Change: forged\n"
        );
    }
}
