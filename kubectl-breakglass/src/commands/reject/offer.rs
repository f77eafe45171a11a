//! What putting changes back would write, for who decides about it.

use breakglass::record::{without_noise, without_stamp};
use serde_json::Value;

use crate::error::Result;
use crate::ledger::Record;
use crate::print::diff::{Colour, unified};
use crate::restore::{Restoration, Subject};
use crate::walk::Shown;

/// What putting this change back would write, after those of its object that somebody said yes to: the steps that are shown make up
/// the write that follows. One that cannot be put back so, because what was left stands over it, is not offered.
pub(super) fn offer(subjects: &[Subject], record: &Record, chosen: &[Record], colour: Colour) -> Result<Shown> {
    let Some(subject) = subjects.iter().find(|subject| subject.has(record)) else {
        return Ok(Shown::Lines(String::new()));
    };
    // They may have been put back already, all at once: one of them alone would not be found in the object.
    if let Ok(all) = subject.without(&subject.records)
        && let Some(note) = note(&all).filter(|_| all.is_there())
    {
        return Ok(Shown::Lines(note.to_owned()));
    }
    let before: Vec<Record> = chosen.iter().filter(|one| subject.has(one)).cloned().collect();
    let with = [&before[..], std::slice::from_ref(record)].concat();
    match (subject.without(&before), subject.without(&with)) {
        (Ok(before), Ok(with)) => {
            let from = if before.records.is_empty() { "now" } else { "so far" };
            let step = Restoration { now: before.wanted, ..with };
            let lines = note(&step).map_or_else(|| difference(&step, from, colour), |note| Ok(note.to_owned()));
            lines.map(Shown::Lines)
        }
        (Err(error), _) | (Ok(_), Err(error)) => Ok(Shown::Stuck(error)),
    }
}

/// What is said in place of a difference that is none, or is not shown.
pub(super) fn note(restoration: &Restoration) -> Option<&'static str> {
    if restoration.is_there() {
        return Some("it is what it was, and nothing has to be written");
    }
    restoration.hidden.then_some("it would be written to; the policy hides its values")
}

/// From the object as it is, which goes by the name `from`, to the object put back.
pub(super) fn difference(restoration: &Restoration, from: &str, colour: Colour) -> Result<String> {
    let plain = |object: &Option<Value>| object.clone().map(|object| without_stamp(without_noise(object, false)));
    let (now, wanted) = (plain(&restoration.now), plain(&restoration.wanted));
    let place = restoration.place();
    let titles = (format!("{place} {from}"), format!("{place} put back"));
    unified((&titles.0, now.as_ref()), (&titles.1, wanted.as_ref()), colour)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::walk::tests::{answered, record};

    /// What somebody is shown, and what they chose, where the latest change is c3, and c1 and c3 wrote to the same field.
    #[track_caller]
    fn check(now: Value, answers: &'static str, shown: &[&str], expected: &[&str]) {
        let data = |k: i64, j: i64| json!({"data": {"k": k, "j": j}});
        let step =
            |field: &str, value: i64| json!([{"op": "replace", "path": format!("/data/{field}"), "value": value}]);
        let records = vec![
            record("c3", data(2, 5), step("k", 3)),
            record("c2", data(2, 1), step("j", 5)),
            record("c1", data(1, 1), step("k", 2)),
        ];
        let subjects = [Subject { records: records.clone(), now: Some(now), hidden: Vec::new() }];
        let mut seen = Vec::new();
        let chosen = answered(answers, records, |record, chosen| {
            let shown = offer(&subjects, record, chosen, Colour::Plain)?;
            seen.push(match &shown {
                Shown::Lines(lines) => {
                    let is_said = |line: &&str| !line.starts_with([' ', '@']) && !line.contains("configmap/a");
                    lines.lines().filter(is_said).collect::<Vec<_>>().join(" ")
                }
                Shown::Stuck(error) => error.message.clone(),
            });
            Ok(shown)
        });
        assert_eq!(seen, shown, "{answers:?}");
        assert_eq!(chosen, expected, "{answers:?}");
    }

    #[test]
    fn each_step_is_shown_from_what_was_chosen_and_what_is_left_stands_over_what_was_before() {
        let now = || json!({"data": {"k": 3, "j": 5}});
        let (third, second, first) = ("-  k: 3 +  k: 2", "-  j: 5 +  j: 1", "-  k: 2 +  k: 1");
        let stuck = "configmap/a cannot be put back: /data/k was written to again since";
        check(now(), "y\ny\ny\n", &[third, second, first], &["c3", "c2", "c1"]);
        check(now(), "y\nn\ny\n", &[third, second, first], &["c3", "c1"]);
        check(now(), "n\ny\n", &[third, second, stuck], &["c2"]);
        // Somebody else has written to it as well.
        check(json!({"data": {"k": 7, "j": 5}}), "y\n", &[stuck, second, stuck], &["c2"]);
        // All of it was put back by a command that was broken off.
        let there = "it is what it was, and nothing has to be written";
        check(json!({"data": {"k": 1, "j": 1}}), "y\ny\ny\n", &[there; 3], &["c3", "c2", "c1"]);
    }
}
