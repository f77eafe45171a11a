//! CommandError: why a command did not do its work, and what to do about it.

use std::fmt;

use crate::print::Printer;

/// What a command returns.
pub type Result<T> = std::result::Result<T, CommandError>;

/// A sentence, what to paste next, and the exit code that goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandError {
    /// Which exit code.
    pub kind: ErrorKind,
    /// Lower case, no full stop.
    pub message: String,
    /// Commands to paste, or one sentence where there is none.
    pub hints: Vec<String>,
}

/// The ways to fail that a caller can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// It was tried, and did not work.
    Failed,
    /// It was asked for in a way that cannot work.
    Usage,
    /// Whether there is a difference could not be told: `diff` alone ends with it, as kubectl diff does.
    NotTold,
    /// Who reads stdout has gone, as `head` does: nothing to say, and nobody to say it to.
    OutputClosed,
}

impl ErrorKind {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::OutputClosed => 0,
            Self::Failed => 1,
            Self::Usage | Self::NotTold => 2,
        }
    }
}

impl CommandError {
    /// It was tried, and did not work.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Failed, message: message.into(), hints: Vec::new() }
    }

    /// It was asked for in a way that cannot work.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Usage, message: message.into(), hints: Vec::new() }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Says it on stderr, and returns the exit code.
    pub fn report(&self, printer: &mut Printer) -> u8 {
        if self.kind != ErrorKind::OutputClosed {
            printer.say(&self.to_string());
        }
        self.kind.code()
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        self.hints.iter().try_for_each(|hint| write!(f, "\nhint: {hint}"))
    }
}
