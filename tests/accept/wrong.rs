//! Edits that are wrong in one way each: the proof must let none of them pass.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kubectl_breakglass::source::field::{Step, changes};
use kubectl_breakglass::source::render::{Kubectl, Render as _};
use kubectl_breakglass::source::tree::Tree;
use kubectl_breakglass::source::{Edit, Stop, prove};
use serde_json::Value;
use similar::{ChangeTag, TextDiff};

use crate::case::{Case, Folder, Lines};

type Files = BTreeMap<PathBuf, Option<String>>;

/// Fields that are seen wherever they stand: in a resource, a patch, or a kustomization.
const SEEN: [&str; 9] = ["image", "replicas", "value", "port", "containerPort", "newTag", "count", "cpu", "app"];

/// Wrong edits of each kind that are tried for a case: each is rendered.
const OF_EACH_KIND: usize = 2;

/// Checks that no wrong edit passes.
pub fn check(case: &Case, (tree, edit): (&Tree, &Edit), render: &Kubectl) -> Result<(), String> {
    let mut caught = 0;
    for (what, files) in wrong_edits(case, edit) {
        match prove(tree, &case.entry, (&case.wanted, &files), render) {
            Err(Stop::Refused(_)) => caught += 1,
            Err(Stop::Failed(error)) => return Err(error.to_string()),
            // What no directory says otherwise is no other edit.
            Ok(_) if everything(case, &files, render) == everything(case, &edit.files, render) => {}
            Ok(_) => return Err(format!("{what} passed the proof: {files:#?}")),
        }
    }
    if caught < 2 { Err(format!("only {caught} wrong edits were made, and caught")) } else { Ok(()) }
}

fn wrong_edits(case: &Case, edit: &Edit) -> Vec<(String, Files)> {
    let mut wrong = vec![("no edit".to_owned(), Files::new())];
    for gone in edit.files.keys().filter(|_| edit.files.len() > 1) {
        let mut files = edit.files.clone();
        files.remove(gone);
        wrong.push((format!("half of it: without {}", gone.display()), files));
    }
    let of = |path: &Path| case.files.get(path).cloned().unwrap_or_default();
    let with = |path: &Path, text: String| {
        let mut files = edit.files.clone();
        files.insert(path.to_owned(), Some(text));
        files
    };
    // Another value, or another type, in a line that was edited.
    for (path, text) in edit.files.iter().filter_map(|(path, text)| Some((path, text.as_ref()?))) {
        for (line, other) in edited(&of(path), text)
            .into_iter()
            .filter_map(|line| Some((line, other_type(text, line)?)))
            .take(OF_EACH_KIND)
        {
            wrong.push((format!("another value in line {line} of {}", path.display()), with(path, other)));
        }
    }
    wrong.extend(misplaced(case, edit));
    // The edit, and another field, of the same object, its neighbour, the base, or another environment.
    let now = case.files.keys().filter_map(|path| match edit.files.get(path) {
        Some(text) => Some((path, text.clone()?)),
        None => Some((path, of(path))),
    });
    for (path, text) in now {
        let lines = edited(&of(path), &text);
        let others = (0..text.lines().count()).filter(|line| !lines.contains(line));
        for (line, other) in others.filter_map(|line| Some((line, other_value(&text, line)?))).take(OF_EACH_KIND) {
            wrong.push((format!("line {line} of {} as well", path.display()), with(path, other)));
        }
    }
    wrong
}

/// The right value in the wrong place: where the old one stands in a file that was not edited, the base of others.
fn misplaced(case: &Case, edit: &Edit) -> Vec<(String, Files)> {
    let mut wrong = Vec::new();
    let sides = case.wanted.iter().filter_map(|wanted| Some((wanted.before.as_ref()?, wanted.after.as_ref()?)));
    for change in sides.flat_map(|(before, after)| changes(before, after)) {
        let (Some(Step::Key(key)), Some(from), Some(to)) = (change.path.last(), &change.from, &change.to) else {
            continue;
        };
        let bare = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let (old, new) = (format!("{key}: {}", bare(from)), format!("{key}: {}", bare(to)));
        for (path, text) in
            case.files.iter().filter(|(path, text)| !edit.files.contains_key(*path) && text.contains(&old))
        {
            let files = Files::from([(path.clone(), Some(text.replacen(&old, &new, 1)))]);
            wrong.push((format!("{new} in {}", path.display()), files));
        }
    }
    wrong
}

/// The lines of the new text that are not in the old.
fn edited(old: &str, new: &str) -> Vec<usize> {
    let diff = TextDiff::from_lines(old, new);
    let inserted = diff.iter_all_changes().filter(|change| change.tag() == ChangeTag::Insert);
    inserted.filter_map(|change| change.new_index()).collect()
}

/// The text with a scalar of one line written as another type: "5" for 5, 5 for "5"; else another value.
fn other_type(text: &str, line: usize) -> Option<String> {
    replace_scalar(text, line, |value| match value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) {
        Some(bare) if bare.parse::<i64>().is_ok() => bare.to_owned(),
        _ if value.parse::<i64>().is_ok() => format!("\"{value}\""),
        _ => another(value),
    })
}

fn other_value(text: &str, line: usize) -> Option<String> {
    let key = text.lines().nth(line)?.trim_start().trim_start_matches("- ").split(':').next()?.to_owned();
    SEEN.contains(&key.as_str()).then(|| replace_scalar(text, line, another)).flatten()
}

fn another(value: &str) -> String {
    match value.strip_suffix(['"', '\'']) {
        Some(open) => format!("{open}9{}", &value[open.len()..]),
        None => format!("{value}9"),
    }
}

fn replace_scalar(text: &str, line: usize, other: impl Fn(&str) -> String) -> Option<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let said = lines.get(line)?;
    let (key, rest) = said.split_once(": ")?;
    let (value, comment) =
        rest.split_once(" #").map_or((rest, String::new()), |(value, comment)| (value, format!(" #{comment}")));
    let value = value.trim();
    if value.is_empty() || value.starts_with(['{', '[', '|', '>', '&', '*']) || key.trim_start().starts_with('#') {
        return None;
    }
    lines[line] = format!("{key}: {}{comment}", other(value));
    Some(lines.join("\n") + "\n")
}

/// All that every directory says after an edit.
fn everything(case: &Case, files: &Files, render: &Kubectl) -> Vec<Result<Vec<Value>, String>> {
    let folder: Folder = case.write_out(Lines::Lf);
    for (path, text) in files {
        let whole = folder.path().join(path);
        match text {
            Some(text) => std::fs::write(whole, text).unwrap(),
            None => std::fs::remove_file(whole).unwrap(),
        }
    }
    let is_kustomization = |path: &&PathBuf| path.file_name().is_some_and(|name| name == "kustomization.yaml");
    let directories = case.files.keys().filter(is_kustomization).filter_map(|path| path.parent());
    directories.map(|directory| render.render(folder.path(), directory)).collect()
}
