//! On a terminal: each change is shown, and asked about.

use crate::error::Result;
use crate::ledger::Record;
use crate::print::diff::unified;
use crate::print::table::printable;
use crate::print::{Input, Printer};
use crate::want::states;

/// How often somebody is asked who answers with something else: not for ever, since there may be nobody.
const TRIES: usize = 3;

/// What somebody wants of a change.
enum Answer {
    Accept,
    Leave,
    Defer,
    Quit,
}

/// The records that somebody accepts.
pub(super) fn walk(printer: &mut Printer, input: &mut Input, records: Vec<Record>) -> Result<Vec<Record>> {
    let count = records.len();
    let mut accepted = Vec::new();
    for (index, record) in records.into_iter().enumerate() {
        show(printer, &record, (index + 1, count))?;
        match answer(printer, input) {
            Answer::Accept => accepted.push(record),
            Answer::Leave => {}
            Answer::Defer => {
                let command = format!("kubectl breakglass defer {} --until 3d --reason \"…\"", record.name);
                printer.say(&format!("It is left. To defer it: {command}"));
            }
            Answer::Quit => break,
        }
    }
    Ok(accepted)
}

/// On stderr, as the question: stdout is for what was decided.
fn show(printer: &mut Printer, record: &Record, (number, count): (usize, usize)) -> Result<()> {
    let spec = &record.change.spec;
    let (place, operation) = (spec.target.place(), spec.operation.as_str());
    printer.say(&format!("\n{number}/{count} {place}: {operation} by {} at {}", printable(&spec.user), spec.time));
    // What cannot be shown is said when it cannot be accepted.
    if let Ok((before, after)) = states(record) {
        let text = unified(("before", before.as_ref()), ("after", after.as_ref()), printer.colour)?;
        for line in text.lines() {
            printer.say(line);
        }
    }
    Ok(())
}

fn answer(printer: &mut Printer, input: &mut Input) -> Answer {
    for _ in 0..TRIES {
        printer.ask("Accept it? [y]es, [n]o, [d]efer, [q]uit: ");
        match input.line().to_lowercase().as_str() {
            "y" | "yes" => return Answer::Accept,
            "n" | "no" => return Answer::Leave,
            "d" | "defer" => return Answer::Defer,
            "q" | "quit" => return Answer::Quit,
            _ => {}
        }
    }
    Answer::Quit
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, sink};

    use serde_json::json;

    use super::*;
    use crate::Io;
    use crate::print::diff::Colour;

    fn record(name: &str) -> Record {
        let change = json!({"apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassChange",
            "metadata": {"name": name}, "spec": {"token": "t", "incident": "INC-1", "user": "alice@example.com",
                "time": "2026-11-20T12:00:00Z", "environment": "prod", "operation": "Update", "before": {"a": 1},
                "patch": [{"op": "replace", "path": "/a", "value": 2}], "decideBy": "2026-11-21T12:00:00Z",
                "target": {"apiVersion": "v1", "kind": "ConfigMap", "resource": "configmaps", "name": name}}});
        Record { name: name.to_owned(), change: serde_json::from_value(change).unwrap(), found: None, whole: None }
    }

    #[test]
    fn only_what_somebody_said_yes_to_is_accepted() {
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
            let io = Io {
                stdin: Box::new(Cursor::new(answers)),
                stdout: Box::new(sink()),
                stderr: Box::new(sink()),
                terminal: true,
                colour: Colour::Plain,
            };
            let (mut printer, mut input) = io.split();
            let accepted = walk(&mut printer, &mut input, ["a", "b", "c"].map(record).to_vec()).unwrap();
            let names: Vec<&str> = accepted.iter().map(|record| record.name.as_str()).collect();
            assert_eq!(names, expected, "{answers:?}");
        }
    }
}
