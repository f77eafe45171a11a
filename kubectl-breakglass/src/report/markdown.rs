//! A page as Markdown, in the dialect that GitHub and GitLab read. No value becomes markup: in text what could is escaped, and
//! a fence is longer than any run of its mark inside.

use super::page::{Block, Lines, Page, Piece, Text, visible};

/// Writes the page.
pub fn markdown(page: &Page) -> String {
    let mut out = format!("# {}\n", words(&page.title));
    for block in &page.blocks {
        out.push('\n');
        match block {
            Block::Part(title) => out.push_str(&format!("## {}\n", words(title))),
            Block::Item(title) => out.push_str(&format!("### {}\n", words(title))),
            Block::Sentences(text) => out.push_str(&format!("{}\n", line(text))),
            Block::Points(points) => points.iter().for_each(|point| out.push_str(&format!("- {}\n", line(point)))),
            Block::Table { header, rows } => table(&mut out, header, rows),
            Block::Diff(diff) => {
                let diff = visible(diff, Lines::Kept);
                let fence = fence(&diff, 3);
                out.push_str(&format!("{fence}diff\n{}\n{fence}\n", diff.trim_end_matches('\n')));
            }
        }
    }
    out
}

fn table(out: &mut String, header: &[&str], rows: &[Vec<String>]) {
    let mut row = |cells: Vec<String>| out.push_str(&format!("| {} |\n", cells.join(" | ")));
    row(header.iter().map(|title| words(title)).collect());
    row(header.iter().map(|_| "---".to_owned()).collect());
    rows.iter().for_each(|cells| row(cells.iter().map(|cell| words(cell)).collect()));
}

fn line(text: &Text) -> String {
    let pieces = text.0.iter().map(|piece| match piece {
        Piece::Words(text) => words(text),
        Piece::Command(command) => code(command),
    });
    pieces.collect::<Vec<_>>().join(" ")
}

/// Code in a line. A space on both sides is taken off again by who reads it.
fn code(text: &str) -> String {
    let text = visible(text, Lines::Joined);
    let fence = fence(&text, 1);
    let space = if text.starts_with(['`', ' ']) || text.ends_with(['`', ' ']) { " " } else { "" };
    format!("{fence}{space}{text}{space}{fence}")
}

/// A fence of backticks, longer than any run of them in `text`, and not shorter than `least`.
fn fence(text: &str, least: usize) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    "`".repeat(least.max(longest + 1))
}

/// Text in which nothing is markup.
///
/// A bar is written by its number: a table is cut at bars before anything else is read, and not by all readers in the same way
/// where one is escaped.
fn words(text: &str) -> String {
    let text = visible(text.trim(), Lines::Joined);
    let mut out = String::with_capacity(text.len());
    let mut before = ' ';
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let after = characters.peek().copied().unwrap_or(' ');
        match character {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '|' => out.push_str("&#124;"),
            // In a word it is no markup, and names are full of it.
            '_' if before.is_alphanumeric() && after.is_alphanumeric() => out.push('_'),
            '\\' | '`' | '*' | '_' | '[' | ']' | '~' | '$' | '^' => out.extend(['\\', character]),
            other => out.push(other),
        }
        before = character;
    }
    let number = out.trim_start_matches(|c: char| c.is_ascii_digit());
    let begins_list = number.len() < out.len() && number.starts_with(['.', ')']);
    match out.chars().next() {
        // At the beginning of a line these make a heading, a list or a rule.
        Some('#' | '+' | '-' | '=') => format!("\\{out}"),
        Some(_) if begins_list => {
            let digits = out.len() - number.len();
            format!("{}\\{number}", &out[..digits])
        }
        Some(_) | None => out,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(words(text), expected, "{text:?}");
    }

    #[test]
    fn no_value_is_markup() {
        check("checkout returns 500", "checkout returns 500");
        check("deployment.apps/api in prod", "deployment.apps/api in prod");
        check("alice@example.com", "alice@example.com");
        check("my_config_map __bold__ _it_", "my_config_map \\_\\_bold\\_\\_ \\_it\\_");
        check("**bold** `code` ~~gone~~", "\\*\\*bold\\*\\* \\`code\\` \\~\\~gone\\~\\~");
        check("a | b \\| c", "a &#124; b \\\\&#124; c");
        check("[x](https://example.com) ![i](j)", "\\[x\\](https://example.com) !\\[i\\](j)");
        check("<script>alert(1)</script> <!-- &lt;", "&lt;script&gt;alert(1)&lt;/script&gt; &lt;!-- &amp;lt;");
        check("# head", "\\# head");
        check("- item", "\\- item");
        check("+ item", "\\+ item");
        check("---", "\\---");
        check("===", "\\===");
        check("1. item", "1\\. item");
        check("12) item", "12\\) item");
        check("2 replicas. More", "2 replicas. More");
        check("> quote", "&gt; quote");
        check("    indented", "indented");
        check("one\n\n# two\n- three", "one  # two - three");
        check("```\nfence", "\\`\\`\\` fence");
        check("$x^2$", "\\$x\\^2\\$");
        check("a\u{1b}[2J\u{202e}b", "a&lt;U+001B&gt;\\[2J&lt;U+202E&gt;b");
        check("", "");
    }

    #[test]
    fn a_fence_is_longer_than_what_is_inside() {
        for (text, expected) in [
            ("kubectl get pods", "`kubectl get pods`"),
            ("a `b` c", "``a `b` c``"),
            ("`a`", "`` `a` ``"),
            ("``` a ````", "````` ``` a ```` `````"),
            (" a", "`  a `"),
            ("a\nb", "`a b`"),
        ] {
            assert_eq!(code(text), expected);
        }
        let diff = |text: &str| markdown(&Page { title: "t".to_owned(), blocks: vec![Block::Diff(text.to_owned())] });
        assert_eq!(diff("-a\n+b\n"), "# t\n\n```diff\n-a\n+b\n```\n");
        assert_eq!(diff("-```\n+`````\n"), "# t\n\n``````diff\n-```\n+`````\n``````\n");
        assert_eq!(diff("+a\u{1b}[31m\u{202e}\n"), "# t\n\n```diff\n+a<U+001B>[31m<U+202E>\n```\n");
    }

    #[test]
    fn a_table_keeps_its_cells_apart() {
        let table = Block::Table {
            header: vec!["Who", "What"],
            rows: vec![vec!["alice".to_owned(), "a | b\n| c \\|".to_owned()], vec![String::new(), "- x".to_owned()]],
        };
        let text = markdown(&Page { title: "t".to_owned(), blocks: vec![table] });
        assert_eq!(
            text,
            "# t\n\n| Who | What |\n| --- | --- |\n| alice | a &#124; b &#124; c \\\\&#124; |\n|  | \\- x |\n"
        );
    }
}
