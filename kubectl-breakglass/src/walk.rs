//! Walk: on a terminal, each change is shown, and asked about.

use crate::error::{CommandError, Result};
use crate::ledger::Record;
use crate::print::table::printable;
use crate::print::{Input, Printer};

/// How often somebody is asked who answers with something else: not for ever, since there may be nobody.
const TRIES: usize = 3;

/// What there is to see of a change before somebody decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// What it did, or what would be done about it. Somebody is asked.
    Lines(String),
    /// Why nothing can be done about it. Nobody is asked, and it is left.
    Stuck(CommandError),
}

/// What somebody wants of a change.
enum Answer {
    Yes,
    No,
    Defer,
    Quit,
}

/// The records that somebody says yes to. What is shown of one may rest on those that somebody said yes to before it.
///
/// # Errors
/// When one cannot be shown.
pub fn walk(
    (printer, input): (&mut Printer, &mut Input),
    question: &str,
    records: Vec<Record>,
    mut show: impl FnMut(&Record, &[Record]) -> Result<Shown>,
) -> Result<Vec<Record>> {
    let count = records.len();
    let mut chosen = Vec::new();
    for (index, record) in records.into_iter().enumerate() {
        say_which(printer, &record, (index + 1, count));
        match show(&record, &chosen)? {
            Shown::Lines(lines) => lines.lines().for_each(|line| printer.say(line)),
            Shown::Stuck(error) => {
                printer.say(&format!("{error}\nIt is left."));
                continue;
            }
        }
        match answer(printer, input, question) {
            Answer::Yes => chosen.push(record),
            Answer::No => {}
            Answer::Defer => {
                let command = format!("kubectl breakglass defer {} --until 3d --reason \"…\"", record.name);
                printer.say(&format!("It is left. To defer it: {command}"));
            }
            Answer::Quit => break,
        }
    }
    Ok(chosen)
}

/// On stderr, as the question: stdout is for what was decided.
fn say_which(printer: &mut Printer, record: &Record, (number, count): (usize, usize)) {
    let spec = &record.change.spec;
    let (place, operation) = (spec.target.place(), spec.operation.as_str());
    printer.say(&format!("\n{number}/{count} {place}: {operation} by {} at {}", printable(&spec.user), spec.time));
}

fn answer(printer: &mut Printer, input: &mut Input, question: &str) -> Answer {
    for _ in 0..TRIES {
        printer.ask(&format!("{question} [y]es, [n]o, [d]efer, [q]uit: "));
        match input.line().to_lowercase().as_str() {
            "y" | "yes" => return Answer::Yes,
            "n" | "no" => return Answer::No,
            "d" | "defer" => return Answer::Defer,
            "q" | "quit" => return Answer::Quit,
            _ => {}
        }
    }
    Answer::Quit
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::{Cursor, sink};

    use serde_json::{Value, json};

    use super::*;
    use crate::Io;
    use crate::print::diff::Colour;

    /// A change of a ConfigMap: what it was before, and what was done to it.
    pub(crate) fn record(name: &str, before: Value, patch: Value) -> Record {
        let change = json!({"apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassChange",
            "metadata": {"name": name}, "spec": {"token": "t", "incident": "INC-1", "user": "alice@example.com",
                "time": "2026-11-20T12:00:00Z", "environment": "prod", "operation": "Update", "before": before,
                "patch": patch, "decideBy": "2026-11-21T12:00:00Z",
                "target": {"apiVersion": "v1", "kind": "ConfigMap", "resource": "configmaps", "name": "a"}}});
        Record { name: name.to_owned(), change: serde_json::from_value(change).unwrap(), found: None, whole: None }
    }

    /// The names of those of the records that somebody who answers so says yes to.
    pub(crate) fn answered(
        answers: &'static str,
        records: Vec<Record>,
        show: impl FnMut(&Record, &[Record]) -> Result<Shown>,
    ) -> Vec<String> {
        let io = Io {
            stdin: Box::new(Cursor::new(answers)),
            stdout: Box::new(sink()),
            stderr: Box::new(sink()),
            terminal: true,
            colour: Colour::Plain,
        };
        let (mut printer, mut input) = io.split();
        let chosen = walk((&mut printer, &mut input), "Well?", records, show).unwrap();
        chosen.into_iter().map(|record| record.name).collect()
    }

    #[test]
    fn only_what_somebody_said_yes_to_is_chosen() {
        let records = || ["a", "b", "c"].map(|name| record(name, json!({}), json!([]))).to_vec();
        let asked = |answers| answered(answers, records(), |_, _| Ok(Shown::Lines(String::new())));
        for (answers, expected) in [
            ("y\ny\ny\n", &["a", "b", "c"][..]),
            ("Yes\nn\ny\n", &["a", "c"]),
            ("d\ny\nq\n", &["b"]),
            ("q\ny\ny\n", &[]),
            ("what?\n\ny\nn\ny\n", &["a", "c"]),
            ("what?\n\nno idea\ny\n", &[]),
            ("y\n", &["a"]),
            ("", &[]),
        ] {
            assert_eq!(asked(answers), expected, "{answers:?}");
        }
        // Nobody is asked about what nothing can be done about.
        let stuck = |record: &Record, chosen: &[Record]| {
            assert_eq!(chosen.len(), usize::from(record.name != "a"));
            let is_stuck = record.name == "b";
            Ok(if is_stuck { Shown::Stuck(CommandError::failed("b")) } else { Shown::Lines("- 1".to_owned()) })
        };
        assert_eq!(answered("y\ny\n", records(), stuck), ["a", "c"]);
    }
}
