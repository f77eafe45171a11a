//! Printer: data to stdout, talk to stderr.

// Tables as kubectl prints them.
pub mod table;
// -o json, yaml and name.
pub mod object;
// What differs between two of them.
pub mod diff;
// 3m, 2h5m, 4d.
pub mod age;

use std::io::{BufRead, ErrorKind as IoErrorKind, IsTerminal, Write};

use crate::error::{CommandError, ErrorKind, Result};

/// What the process was started with: where it reads, where it writes, and whether a person sits there.
pub struct Io {
    /// Where an answer comes from.
    pub stdin: Box<dyn BufRead>,
    /// Where data goes.
    pub stdout: Box<dyn Write>,
    /// Where talk goes.
    pub stderr: Box<dyn Write>,
    /// Whether a person can read stderr and answer on stdin.
    pub terminal: bool,
    /// Whether what is written to stdout may be coloured.
    pub colour: diff::Colour,
}

impl Io {
    /// The process's own.
    pub fn of_process() -> Self {
        let terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        // https://no-color.org: set, and not to nothing.
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let plain = unwanted || !std::io::stdout().is_terminal();
        Self {
            stdin: Box::new(std::io::BufReader::new(std::io::stdin())),
            stdout: Box::new(std::io::stdout()),
            stderr: Box::new(std::io::stderr()),
            terminal,
            colour: if plain { diff::Colour::Plain } else { diff::Colour::Ansi },
        }
    }

    /// What is written to, and what is read from.
    pub fn split(self) -> (Printer, Input) {
        let printer = Printer { stdout: self.stdout, stderr: self.stderr, colour: self.colour };
        (printer, Input { stdin: self.stdin, terminal: self.terminal })
    }
}

/// Where answers come from.
pub struct Input {
    stdin: Box<dyn BufRead>,
    /// Whether a person sits there.
    pub terminal: bool,
}

impl Input {
    /// One line, without its end; empty when there is no more.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        // An answer that cannot be read is no answer: what was asked for does not happen.
        let _ = self.stdin.read_line(&mut line);
        line.trim().to_owned()
    }

    /// Everything that comes.
    ///
    /// # Errors
    /// When stdin cannot be read, or is no text.
    pub fn all(&mut self) -> std::io::Result<String> {
        let mut text = String::new();
        self.stdin.read_to_string(&mut text)?;
        Ok(text)
    }
}

/// Data to stdout, talk to stderr.
pub struct Printer {
    stdout: Box<dyn Write>,
    stderr: Box<dyn Write>,
    /// Whether data may be coloured.
    pub colour: diff::Colour,
}

impl Printer {
    /// One line of data.
    ///
    /// # Errors
    /// When stdout is closed or full.
    pub fn data(&mut self, line: &str) -> Result<()> {
        self.bytes(format!("{line}\n").as_bytes())
    }

    /// Data as it is.
    ///
    /// # Errors
    /// When stdout is closed or full.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.stdout.write_all(bytes).and_then(|()| self.stdout.flush()).map_err(|error| match error.kind() {
            IoErrorKind::BrokenPipe => {
                CommandError { kind: ErrorKind::OutputClosed, ..CommandError::failed("stdout is closed") }
            }
            _ => CommandError::failed(format!("could not write to stdout: {error}")),
        })
    }

    /// One line of talk. Talk that nobody can hear is no reason to stop.
    pub fn say(&mut self, line: &str) {
        let _ = writeln!(self.stderr, "{line}");
    }

    /// A question: talk without an end of line.
    pub fn ask(&mut self, question: &str) {
        let _ = write!(self.stderr, "{question}").and_then(|()| self.stderr.flush());
    }
}
