//! Which test holds which case: read from the ids at the start of the tests' doc comments, and kept as a page.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;

use crate::cases::{ELSEWHERE, SECTIONS};
use crate::{files, read, root};

const PAGE: &str = "tests/COVERAGE.md";

/// Where tests stand, and what their names begin with.
const FOLDERS: [(&str, &str); 5] = [
    ("tests/e2e/", "e2e"),
    ("breakglass/src/", "breakglass"),
    ("webhook/src/", "webhook"),
    ("kubectl-breakglass/src/", "kubectl-breakglass"),
    ("fuzz/", "fuzz"),
];

/// A function whose doc comment begins with ids: `/// S-01, S-07: what must hold`.
#[derive(Debug, PartialEq, Eq)]
struct Claim {
    /// Crate, modules and function.
    name: String,
    ids: Vec<String>,
    is_test: bool,
    is_ignored: bool,
}

#[test]
fn every_case_has_a_test() {
    let claims = claims();
    // Past the test harness, which keeps what a test prints to itself while it passes.
    std::io::stderr().write_all(page(&claims).as_bytes()).unwrap();
    let held = held(&claims);
    let missing: Vec<String> =
        cases().filter(|(id, _)| !held.contains_key(*id)).map(|(id, says)| format!("{id}: {says}")).collect();
    assert!(missing.is_empty(), "{} cases have no test yet:\n{}", missing.len(), missing.join("\n"));
}

/// The page is generated: `UPDATE=1 cargo test -p tests --test tidy` rewrites it.
#[test]
fn the_page_says_what_the_tests_say() {
    let page = page(&claims());
    let path = root().join(PAGE);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == page, "{PAGE} is not what the tests say. Run: UPDATE=1 cargo test -p tests --test tidy");
}

#[test]
fn only_tests_that_run_say_that_they_hold_a_case_and_only_cases_that_exist() {
    let known: BTreeSet<&str> = cases().map(|(id, _)| id).collect();
    for section in &SECTIONS {
        assert!(section.cases.is_sorted(), "{} is out of order", section.title);
        assert!(section.cases.iter().all(|(id, _)| id.starts_with(section.letter)), "{}", section.title);
    }
    for claim in claims() {
        assert!(claim.is_test, "{} names {:?} and is no test", claim.name, claim.ids);
        assert!(!claim.is_ignored, "{} holds {:?} and is ignored", claim.name, claim.ids);
        let unknown: Vec<&String> = claim.ids.iter().filter(|id| !known.contains(id.as_str())).collect();
        assert!(unknown.is_empty(), "{} names {unknown:?}, which is no case", claim.name);
    }
}

#[test]
fn ids_are_read_from_the_start_of_a_doc_comment() {
    let source = "\
/// S-01, S-07: one sentence,
/// over two lines.
#[test]
fn both() {}

/// Not S-01: this one only talks about it.
#[test]
fn neither() {}

mod tests {
    proptest! {
        /// K-02: a property.
        #[test]
        #[ignore]
        fn property(x in 0..9) {}
    }

    /// H-09: no test.
    async fn helper() {}
}

/// L-03: after the module.
#[tokio::test(flavor = \"multi_thread\")]
async fn last() {}
";
    let claim = |name: &str, ids: &[&str], is_test, is_ignored| Claim {
        name: name.to_owned(),
        ids: ids.iter().map(|&id| id.to_owned()).collect(),
        is_test,
        is_ignored,
    };
    let expected = [
        claim("webhook::tls::ca::both", &["S-01", "S-07"], true, false),
        claim("webhook::tls::ca::tests::property", &["K-02"], true, true),
        claim("webhook::tls::ca::tests::helper", &["H-09"], false, false),
        claim("webhook::tls::ca::last", &["L-03"], true, false),
    ];
    assert_eq!(claims_in("webhook/src/tls/ca.rs", source), expected);
}

fn cases() -> impl Iterator<Item = (&'static str, &'static str)> {
    SECTIONS.iter().flat_map(|section| section.cases.iter().copied())
}

/// The tests of each id.
fn held(claims: &[Claim]) -> BTreeMap<&str, Vec<&str>> {
    let mut held: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for claim in claims {
        for id in &claim.ids {
            held.entry(id).or_default().push(&claim.name);
        }
    }
    held
}

fn page(claims: &[Claim]) -> String {
    let held = held(claims);
    let mut page =
        "# What is tested\n\nWhat has to hold, and the tests that hold it. Generated from the ids in their doc \
        comments: `UPDATE=1 cargo test -p tests --test tidy`.\n"
            .to_owned();
    for section in &SECTIONS {
        write!(page, "\n## {}\n\n| id | case | tests that hold it |\n| --- | --- | --- |\n", section.title).unwrap();
        for (id, says) in section.cases {
            if let Some(tests) = held.get(id) {
                let tests: Vec<String> = tests.iter().map(|test| format!("`{test}`")).collect();
                writeln!(page, "| {id} | {says} | {} |", tests.join(", ")).unwrap();
            }
        }
    }
    page.push_str("\n## Not held here\n\n| id | case | why |\n| --- | --- | --- |\n");
    for (id, says, why) in ELSEWHERE {
        writeln!(page, "| {id} | {says} | {why} |").unwrap();
    }
    page
}

fn claims() -> Vec<Claim> {
    files()
        .iter()
        .filter(|name| name.ends_with(".rs") && FOLDERS.iter().any(|(folder, _)| name.starts_with(folder)))
        .flat_map(|name| claims_in(name, &read(name)))
        .collect()
}

/// Reads line by line, as rustfmt leaves them: a doc comment, attributes, the function; a module inside of a file ends
/// where a brace stands as far to the left as it began.
fn claims_in(file: &str, source: &str) -> Vec<Claim> {
    let mut claims = Vec::new();
    let mut modules: Vec<(usize, &str)> = Vec::new();
    let (mut doc, mut is_test, mut is_ignored) = (String::new(), false, false);
    for line in source.lines() {
        let (text, indent) = (line.trim(), line.len() - line.trim_start().len());
        if let Some(sentence) = text.strip_prefix("///") {
            doc.push_str(sentence);
        } else if text.starts_with("#[") {
            is_test |= text == "#[test]" || text.starts_with("#[tokio::test");
            is_ignored |= text.starts_with("#[ignore");
        } else if !text.starts_with("//") {
            let ids = ids(&doc);
            if let Some(function) = function(text).filter(|_| !ids.is_empty()) {
                let inner = modules.iter().map(|(_, module)| *module);
                let name = module_path(file).chain(inner).chain([function]).collect::<Vec<_>>().join("::");
                claims.push(Claim { name, ids, is_test, is_ignored });
            }
            if let Some(module) = text.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(" {")) {
                modules.push((indent, module));
            } else if text == "}" {
                modules.retain(|(begun, _)| *begun != indent);
            }
            (doc, is_test, is_ignored) = (String::new(), false, false);
        }
    }
    claims
}

/// The ids that a doc comment begins with, up to its first colon.
fn ids(doc: &str) -> Vec<String> {
    let Some((head, _)) = doc.split_once(':') else { return Vec::new() };
    let ids: Vec<String> = head.split(',').map(|id| id.trim().to_owned()).collect();
    let is_id = |id: &String| {
        let (letter, number) = id.split_once('-').unwrap_or_default();
        let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        letter.len() == 1 && letter.bytes().all(|byte| byte.is_ascii_uppercase()) && digits
    };
    if ids.iter().all(is_id) { ids } else { Vec::new() }
}

/// The name of the function that a line begins.
fn function(text: &str) -> Option<&str> {
    let mut words = text.split([' ', '(', '<']);
    words.find(|word| !["pub", "crate)", "async", "const"].contains(word)).filter(|&word| word == "fn")?;
    words.next()
}

fn module_path(file: &str) -> impl Iterator<Item = &str> {
    let (folder, name) = FOLDERS.iter().find(|(folder, _)| file.starts_with(folder)).unwrap();
    let path = file[folder.len()..].trim_end_matches(".rs").split('/');
    std::iter::once(*name).chain(path.filter(|part| !["main", "lib", "mod"].contains(part)))
}
