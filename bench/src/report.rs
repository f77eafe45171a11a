//! What was measured, a row each, and whether it is what it is meant to be.

use std::time::Instant;

/// One figure.
#[derive(Clone, Debug)]
pub struct Row {
    /// Which benchmark: W-1, …
    pub id: &'static str,
    /// What was measured.
    pub what: String,
    /// What it was.
    pub value: String,
    /// What it is meant to be; empty where it is only told.
    pub goal: String,
    /// Whether it is.
    pub met: Option<bool>,
}

/// All rows, in the order in which they came.
#[derive(Debug)]
pub struct Report {
    rows: Vec<Row>,
    id: &'static str,
    begun: Instant,
    quiet: bool,
}

impl Report {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { rows: Vec::new(), id: "", begun: Instant::now(), quiet: true }
    }

    /// The next rows are of this benchmark.
    pub fn begin(&mut self, id: &'static str) {
        (self.id, self.begun) = (id, Instant::now());
        eprintln!("{id} …");
    }

    /// Says how long the benchmark took.
    pub fn end(&mut self) {
        eprintln!("{} took {:.0} s", self.id, self.begun.elapsed().as_secs_f64());
    }

    /// A figure that has no goal.
    pub fn told(&mut self, what: impl Into<String>, value: impl Into<String>) {
        self.push(what.into(), value.into(), String::new(), None);
    }

    /// A figure that has one.
    pub fn goal(&mut self, what: impl Into<String>, value: impl Into<String>, goal: &str, met: bool) {
        self.push(what.into(), value.into(), goal.to_owned(), Some(met));
    }

    /// The same configuration twice: where its interval leaves 0.95 to 1.05, the machine was too restless to tell.
    pub fn same_twice(&mut self, what: &str, ratio: crate::stats::Ratio) {
        let fine = ratio.low >= 0.95 && ratio.high <= 1.05;
        self.quiet &= fine;
        self.push(format!("A/A: {what}"), ratio.to_string(), "in 0.95–1.05".to_owned(), Some(fine));
    }

    fn push(&mut self, what: String, value: String, goal: String, met: Option<bool>) {
        let row = Row { id: self.id, what, value, goal, met };
        eprintln!("  {}", line(&row));
        self.rows.push(row);
    }

    /// The table, as Markdown has it.
    pub fn table(&self) -> String {
        let mut text = String::from("| | what | measured | goal | |\n| --- | --- | --- | --- | --- |\n");
        for row in &self.rows {
            text += &format!("{}\n", line(row));
        }
        text
    }

    /// A sentence on how far the figures can be trusted.
    pub fn trust(&self) -> &'static str {
        match self.quiet {
            true => "every A/A interval lies in 0.95–1.05",
            false => {
                "the machine was not quiet: an A/A interval leaves 0.95–1.05, and ratios near their goal say nothing"
            }
        }
    }

    /// How many goals were not met.
    pub fn missed(&self) -> usize {
        self.rows.iter().filter(|row| row.met == Some(false) && !row.what.starts_with("A/A")).count()
    }
}

fn line(row: &Row) -> String {
    let met = match row.met {
        None => "",
        Some(true) => "yes",
        Some(false) => "no",
    };
    format!("| {} | {} | {} | {} | {met} |", row.id, row.what, row.value, row.goal)
}
