//! A page as HTML that stands alone: no script, nothing that is fetched, and it prints well.

use super::page::{Block, Lines, Page, Piece, Text, visible};

/// Everything that the page looks like. Values that read from right to left stay in their place.
const STYLE: &str = "\
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3, li, p, td, th, code { unicode-bidi: isolate; overflow-wrap: anywhere; }
td:not(:last-child), th { overflow-wrap: break-word; max-width: 18em; }
td:first-child { min-width: 11em; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #8888; }
h3 { margin-top: 2rem; }
code, pre { font: 13px/1.4 ui-monospace, monospace; }
code { background: #8882; padding: 0 .25em; border-radius: 3px; }
pre { background: #8881; padding: .75rem; overflow-x: auto; border-radius: 4px; }
pre span { display: block; unicode-bidi: plaintext; min-height: 1.4em; }
.add { background: #2a52; }
.remove { background: #c332; }
.at { opacity: .7; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #8884; }
td:first-child { font-variant-numeric: tabular-nums; }
@media print {
  body { max-width: none; margin: 0; font-size: 10pt; }
  code, pre { font-size: 8.5pt; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid #8888; background: none; }
  h2, h3 { break-after: avoid; }
  tr, li { break-inside: avoid; }
  thead { display: table-header-group; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
}
";

/// Writes the page.
pub fn html(page: &Page) -> String {
    let title = escaped(&page.title, Lines::Joined);
    // Should a value ever get through as markup, the browser still runs and fetches nothing.
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n<h1>{title}</h1>\n"
    );
    page.blocks.iter().for_each(|block| out.push_str(&of_block(block)));
    out.push_str("</body>\n</html>\n");
    out
}

fn of_block(block: &Block) -> String {
    match block {
        Block::Part(title) => format!("<h2>{}</h2>\n", escaped(title, Lines::Joined)),
        Block::Item(title) => format!("<h3>{}</h3>\n", escaped(title, Lines::Joined)),
        Block::Sentences(text) => format!("<p>{}</p>\n", line(text)),
        Block::Points(points) => {
            let points: String = points.iter().map(|point| format!("<li>{}</li>\n", line(point))).collect();
            format!("<ul>\n{points}</ul>\n")
        }
        Block::Table { header, rows } => {
            let row = |tag: &str, cells: &mut dyn Iterator<Item = &str>| {
                let cells: String =
                    cells.map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell, Lines::Joined))).collect();
                format!("<tr>{cells}</tr>\n")
            };
            let head = row("th", &mut header.iter().copied());
            let body: String = rows.iter().map(|cells| row("td", &mut cells.iter().map(String::as_str))).collect();
            format!("<table>\n<thead>\n{head}</thead>\n<tbody>\n{body}</tbody>\n</table>\n")
        }
        Block::Diff(diff) => {
            let diff = visible(diff, Lines::Kept);
            let lines: String = diff
                .lines()
                .map(|line| format!("<span{}>{}</span>", class(line), escaped(line, Lines::Joined)))
                .collect();
            format!("<pre>{lines}</pre>\n")
        }
    }
}

/// The colour of a line of a diff; what it is, its first character says as well.
fn class(line: &str) -> &'static str {
    match line.as_bytes() {
        [b'-', b'-', b'-', b' ', ..] | [b'+', b'+', b'+', b' ', ..] | [b'@', ..] => " class=\"at\"",
        [b'+', ..] => " class=\"add\"",
        [b'-', ..] => " class=\"remove\"",
        _ => "",
    }
}

fn line(text: &Text) -> String {
    let pieces = text.0.iter().map(|piece| match piece {
        Piece::Words(text) => escaped(text, Lines::Joined),
        Piece::Command(command) => format!("<code>{}</code>", escaped(command, Lines::Joined)),
    });
    pieces.collect::<Vec<_>>().join(" ")
}

/// Text in which nothing is markup.
fn escaped(text: &str, lines: Lines) -> String {
    let mut out = String::with_capacity(text.len());
    for character in visible(text, lines).chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_is_markup() {
        for (given, expected) in [
            ("a & b", "a &amp; b"),
            ("<script>alert('x')</script>", "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"),
            ("\" onload=\"x", "&quot; onload=&quot;x"),
            ("a\u{1b}[31m\u{202e}b", "a&lt;U+001B&gt;[31m&lt;U+202E&gt;b"),
            ("one\n two", "one  two"),
        ] {
            assert_eq!(escaped(given, Lines::Joined), expected);
        }
    }

    #[test]
    fn a_page_stands_alone() {
        let page = Page {
            title: "INC-1 <b>".to_owned(),
            blocks: vec![
                Block::Part("</style><script>".to_owned()),
                Block::Sentences(Text::from("Look:").command("a && b <c>")),
                Block::Points(vec![Text::from("</li></ul>")]),
                Block::Table { header: vec!["Who"], rows: vec![vec!["</td>".to_owned()]] },
                Block::Diff("--- a\n+++ b\n@@ -1 +1 @@\n-</pre>\n+<img src=x onerror=y>\n same\n".to_owned()),
            ],
        };
        let text = html(&page);
        for part in [
            "<title>INC-1 &lt;b&gt;</title>",
            "<h2>&lt;/style&gt;&lt;script&gt;</h2>",
            "<p>Look: <code>a &amp;&amp; b &lt;c&gt;</code></p>",
            "<li>&lt;/li&gt;&lt;/ul&gt;</li>",
            "<tr><td>&lt;/td&gt;</td></tr>",
            "<span class=\"at\">+++ b</span>",
            "<span class=\"remove\">-&lt;/pre&gt;</span><span class=\"add\">+&lt;img src=x onerror=y&gt;</span><span> same</span>",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        let body = text.split_once("<body>").unwrap().1;
        for tag in ["<script", "<img", "<link", "<a ", "http:", "https:"] {
            assert!(!body.contains(tag), "{tag} in {body}");
        }
    }
}
