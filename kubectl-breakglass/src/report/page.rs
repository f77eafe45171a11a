//! Page: what a report says, before it is Markdown or HTML. Whatever is in it may come from anybody: the two that write it
//! down see to it that no value becomes markup.

/// A page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// What it is about.
    pub title: String,
    /// What it says.
    pub blocks: Vec<Block>,
}

/// A part of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    /// The title of a part.
    Part(String),
    /// The title of one item of it.
    Item(String),
    /// Sentences.
    Sentences(Text),
    /// A point each.
    Points(Vec<Text>),
    /// Rows under a header.
    Table {
        /// What the columns are.
        header: Vec<&'static str>,
        /// The cells, as many a row as there are columns.
        rows: Vec<Vec<String>>,
    },
    /// A unified diff.
    Diff(String),
}

/// What stands in one line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text(pub Vec<Piece>);

/// A part of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// To be read.
    Words(String),
    /// To be pasted.
    Command(String),
}

impl Text {
    /// Something to paste after what was said.
    #[must_use]
    pub fn command(mut self, command: impl Into<String>) -> Self {
        self.0.push(Piece::Command(command.into()));
        self
    }
}

impl<S: Into<String>> From<S> for Text {
    fn from(words: S) -> Self {
        Self(vec![Piece::Words(words.into())])
    }
}

/// Text that moves nothing on a screen and hides nothing: what controls, reorders or has no width is written by its number, as
/// `<U+202E>`, and so it can be seen. Ends of lines are kept where `lines` says so, and are spaces elsewhere.
pub fn visible(text: &str, lines: Lines) -> String {
    let mut seen = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' if lines == Lines::Kept => seen.push('\n'),
            '\n' | '\r' | '\t' => seen.push(' '),
            hidden if is_hidden(hidden) => seen.push_str(&format!("<U+{:04X}>", u32::from(hidden))),
            plain => seen.push(plain),
        }
    }
    seen
}

/// What becomes of ends of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// They stay.
    Kept,
    /// They are spaces.
    Joined,
}

/// Control characters, and of those that format (Unicode's Cf) the ones that are not part of any word: marks of direction, what
/// has no width, and tags.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_written_by_its_number() {
        for (given, expected) in [
            ("checkout returns 500", "checkout returns 500"),
            ("a\u{1b}[31mb", "a<U+001B>[31mb"),
            ("user\u{202e}gnp.exe", "user<U+202E>gnp.exe"),
            ("a\u{2066}b\u{2069}", "a<U+2066>b<U+2069>"),
            ("zero\u{200b}width\u{feff}", "zero<U+200B>width<U+FEFF>"),
            ("two\nlines\r\n\ttabs", "two lines   tabs"),
            ("שלום", "שלום"),
            ("👩‍🚒 naïve", "👩‍🚒 naïve"),
            ("\u{7f}\u{85}\u{0}", "<U+007F><U+0085><U+0000>"),
        ] {
            assert_eq!(visible(given, Lines::Joined), expected);
        }
        assert_eq!(visible("a\nb\rc", Lines::Kept), "a\nb c");
    }
}
