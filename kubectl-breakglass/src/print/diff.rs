//! Two states of an object as a unified diff, as `kubectl diff` prints them.

use serde_json::Value;
use similar::TextDiff;

use super::object;
use super::table::printable;
use crate::error::Result;

/// How many lines stand around what differs, as in `diff -u`.
const CONTEXT: usize = 3;

/// Whether lines are coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// For a terminal.
    Ansi,
    /// For everything else.
    Plain,
}

/// The diff from one state, under its title, to another; empty where they are the same. A state that is no object is empty.
///
/// # Errors
/// None in practice: objects are plain data.
pub fn unified(from: (&str, Option<&Value>), to: (&str, Option<&Value>), colour: Colour) -> Result<String> {
    let text = |state: Option<&Value>| state.map_or_else(|| Ok(String::new()), object::yaml_text);
    let (old, new) = (text(from.1)?, text(to.1)?);
    if old == new {
        return Ok(String::new());
    }
    let diff = TextDiff::from_lines(&old, &new);
    let diff = diff.unified_diff().context_radius(CONTEXT).header(from.0, to.0).to_string();
    Ok(painted(&diff, colour))
}

/// A diff that somebody else has made, for a terminal or for everything else.
pub fn painted(diff: &str, colour: Colour) -> String {
    let shown = |line: &str| if line.is_empty() { String::new() } else { coloured(&printable(line), colour) };
    diff.lines().map(|line| shown(line) + "\n").collect()
}

fn coloured(line: &str, colour: Colour) -> String {
    use anstyle::{AnsiColor, Effects};
    let style = match line.chars().next() {
        _ if colour == Colour::Plain => return line.to_owned(),
        _ if line.starts_with("---") || line.starts_with("+++") => Effects::BOLD.into(),
        Some('-') => AnsiColor::Red.on_default(),
        Some('+') => AnsiColor::Green.on_default(),
        Some('@') => AnsiColor::Cyan.on_default(),
        _ => return line.to_owned(),
    };
    let style: anstyle::Style = style;
    format!("{style}{line}{style:#}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_differs_stands_between_what_does_not() {
        let object =
            |replicas: u32| json!({"kind": "Deployment", "metadata": {"name": "api"}, "spec": {"replicas": replicas}});
        let (old, new) = (object(2), object(5));
        let diff = |from, to, colour| unified(("before", from), ("after", to), colour).unwrap();
        assert_eq!(
            diff(Some(&old), Some(&new), Colour::Plain),
            "--- before\n+++ after\n@@ -2,4 +2,4 @@\n metadata:\n   name: api\n spec:\n-  replicas: 2\n+  replicas: 5\n"
        );
        assert_eq!(diff(Some(&old), Some(&old), Colour::Plain), "");
        assert!(diff(None, Some(&new), Colour::Plain).contains("+kind: Deployment\n"));
        let coloured = diff(Some(&old), Some(&new), Colour::Ansi);
        assert!(coloured.contains("\u{1b}[31m-  replicas: 2\u{1b}[0m\n"), "{coloured:?}");
        assert!(coloured.contains("\n   name: api\n"), "{coloured:?}");
    }

    #[test]
    fn a_value_cannot_drive_the_terminal() {
        let value = json!({"a": "x\u{1b}[31mred"});
        let diff = unified(("before", None), ("after", Some(&value)), Colour::Plain).unwrap();
        assert!(!diff.contains('\u{1b}'), "{diff:?}");
    }
}
