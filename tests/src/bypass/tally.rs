//! What became of all requests, as a table, and whether that is enough to say that nothing gets around the gate.

use std::collections::BTreeMap;
use std::fmt;

use super::judge::Verdict;
use super::kind::Verb;
use super::request::{Aim, Request};

/// Fewer than this of a hundred that reached the gate would say little about it.
const LEAST_REFUSED: usize = 30;

/// Fewer than this of a hundred let in where nobody is asked would say that the requests are no good.
const LEAST_LET_IN: usize = 20;

/// More than this of a hundred without an answer would say that there is nobody to answer.
const MOST_UNANSWERED: usize = 1;

/// How many of what landed are printed in full.
const SHOWN: usize = 20;

/// What became of some of the requests.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    tried: usize,
    refused: usize,
    shut: usize,
    rehearsed: usize,
    elsewhere: usize,
    landed: usize,
}

/// What became of all requests.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    seed: u64,
    verbs: BTreeMap<Verb, Row>,
    kinds: BTreeMap<String, Row>,
    /// Answers of others than the gate, by code.
    codes: BTreeMap<u16, usize>,
    /// Where nobody is asked: tried, let in.
    open: (usize, usize),
    unanswered: usize,
    landed: Vec<String>,
    notes: Vec<String>,
}

impl Tally {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    pub(super) fn count(&mut self, request: &Request, verdict: Verdict) {
        self.unanswered += usize::from(verdict == Verdict::Unanswered);
        if let Verdict::Elsewhere(code) = verdict {
            *self.codes.entry(code).or_default() += 1;
        }
        if request.aim == Aim::Open {
            self.open.0 += 1;
            self.open.1 += usize::from(verdict == Verdict::LetIn);
            if verdict != Verdict::Landed {
                return;
            }
        }
        for row in [self.verbs.entry(request.verb).or_default(), self.kinds.entry(request.kind.clone()).or_default()] {
            row.tried += 1;
            match verdict {
                Verdict::Refused => row.refused += 1,
                Verdict::Shut => row.shut += 1,
                Verdict::Rehearsed => row.rehearsed += 1,
                Verdict::Elsewhere(_) | Verdict::Unanswered | Verdict::LetIn => row.elsewhere += 1,
                Verdict::Landed => row.landed += 1,
            }
        }
    }

    /// Something has changed that must not have.
    pub(super) fn landed(&mut self, what: String) {
        self.landed.push(what);
    }

    /// Something that the table does not show.
    pub(super) fn note(&mut self, what: String) {
        self.notes.push(what);
    }

    /// How many requests were sent.
    #[must_use]
    pub fn tried(&self) -> usize {
        self.total().tried + self.open.0
    }

    fn total(&self) -> Row {
        self.verbs.values().fold(Row::default(), |sum, row| Row {
            tried: sum.tried + row.tried,
            refused: sum.refused + row.refused,
            shut: sum.shut + row.shut,
            rehearsed: sum.rehearsed + row.rehearsed,
            elsewhere: sum.elsewhere + row.elsewhere,
            landed: sum.landed + row.landed,
        })
    }

    /// What landed, and what keeps this from saying that nothing can.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self.landed.iter().take(SHOWN).cloned().collect();
        if let Some(more) = self.landed.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            problems.push(format!("and {more} more"));
        }
        let total = self.total();
        if total.refused * 100 < total.tried * LEAST_REFUSED {
            problems.push(format!("only {} of {} requests reached the gate", total.refused, total.tried));
        }
        if self.open.1 * 100 < self.open.0 * LEAST_LET_IN {
            problems.push(format!("only {} of {} were let in where nobody is asked", self.open.1, self.open.0));
        }
        if self.unanswered * 100 > self.tried() * MOST_UNANSWERED {
            problems.push(format!("{} of {} requests were not answered", self.unanswered, self.tried()));
        }
        let never = Verb::ALL.iter().filter(|verb| self.verbs.get(verb).is_none_or(|row| row.refused == 0));
        problems.extend(never.map(|verb| format!("no {verb} reached the gate")));
        problems
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tried, refused, shut, rehearsed, elsewhere, landed } = self;
        write!(f, "{tried:>7}{refused:>9}{shut:>6}{rehearsed:>9}{elsewhere:>11}{landed:>8}")
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: writes to guarded namespaces by people without a token", self.seed)?;
        let head = |f: &mut fmt::Formatter<'_>, what: &str| {
            writeln!(f, "\n{what:<52}  tried  refused  shut  dry run  elsewhere  landed")
        };
        head(f, "VERB")?;
        for (verb, row) in &self.verbs {
            writeln!(f, "{verb:<52}{row}")?;
        }
        writeln!(f, "{:<52}{}", "all", self.total())?;
        head(f, "KIND")?;
        for (kind, row) in &self.kinds {
            writeln!(f, "{kind:<52}{row}")?;
        }
        let codes: Vec<String> = self.codes.iter().map(|(code, count)| format!("{code}: {count}")).collect();
        writeln!(f, "\nanswered by others than the gate: {}", codes.join(", "))?;
        writeln!(f, "where nobody is asked for a token: {} of {} let in", self.open.1, self.open.0)?;
        self.notes.iter().try_for_each(|note| writeln!(f, "{note}"))
    }
}
