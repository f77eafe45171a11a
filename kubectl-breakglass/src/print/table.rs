//! Tables as kubectl prints them: no borders, three spaces between columns, nothing after the last.

use super::Printer;
use crate::cli::Output;
use crate::error::Result;

/// The space between two columns.
const GUTTER: usize = 3;

/// How wide each column is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Widths(Vec<usize>);

impl Widths {
    /// Wide enough for the header and all rows.
    pub fn of(header: &[&str], rows: &[Vec<String>]) -> Self {
        let mut widths = Self(header.iter().map(|title| title.chars().count()).collect());
        rows.iter().for_each(|row| widths.widen(row));
        widths
    }

    /// Wide enough for one row more.
    pub fn widen(&mut self, row: &[String]) {
        for (width, cell) in self.0.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }

    /// One row as a line. A cell that is empty is shown as `-`, so that columns can be cut by spaces.
    pub fn line<S: AsRef<str>>(&self, cells: &[S]) -> String {
        let mut line = String::new();
        for (width, cell) in self.0.iter().zip(cells) {
            let cell = printable(cell.as_ref());
            let fill = (width + GUTTER).saturating_sub(cell.chars().count()).max(1);
            line.push_str(&cell);
            line.extend(std::iter::repeat_n(' ', fill));
        }
        line.trim_end().to_owned()
    }
}

/// Prints a header and rows.
///
/// # Errors
/// When stdout is closed or full.
pub fn print(printer: &mut Printer, header: &[&str], rows: &[Vec<String>]) -> Result<()> {
    let widths = Widths::of(header, rows);
    printer.data(&widths.line(header))?;
    rows.iter().try_for_each(|row| printer.data(&widths.line(row)))
}

/// The columns that are shown: the `wide` ones where that was asked for.
pub fn header<'t>(output: Output, narrow: &[&'t str], wide: &[&'t str]) -> Vec<&'t str> {
    let wide = if output == Output::Wide { wide } else { &[] };
    [narrow, wide].concat()
}

/// What other people wrote may hold escapes that a terminal would obey.
pub fn printable(text: &str) -> String {
    if text.is_empty() {
        return "-".to_owned();
    }
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// A text of at most this many characters: what is left out is said.
pub fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_nothing_trails() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row(["INC-1", "", "12m"]), row(["INC-22222", "prod", "2h5m"])];
        let widths = Widths::of(&["INCIDENT", "NAMESPACE", "AGE"], &rows);
        let lines: Vec<String> = rows.iter().map(|row| widths.line(row)).collect();
        assert_eq!(widths.line(&["INCIDENT", "NAMESPACE", "AGE"]), "INCIDENT    NAMESPACE   AGE");
        assert_eq!(lines, ["INC-1       -           12m", "INC-22222   prod        2h5m"]);
        assert_eq!(widths.line(&["a-name-that-came-later", "x", "y"]), "a-name-that-came-later x           y");
    }

    #[test]
    fn a_text_that_is_too_long_ends_with_a_mark() {
        assert_eq!((cut("häuser", 6).as_str(), cut("häuser", 4).as_str()), ("häuser", "häu…"));
    }

    #[test]
    fn a_name_cannot_drive_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\nc"), "a?[31mb?c");
    }
}
