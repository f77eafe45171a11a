//! What a person reads of an edit: the diff, and what was rendered to prove it; or why there is none.

use std::fmt::Write as _;

use kubectl_breakglass::source::{Edit, Refusal};
use similar::TextDiff;

use crate::case::Case;

pub fn edit(case: &Case, edit: &Edit) -> String {
    if edit.files.is_empty() {
        return "Git says it already\n".to_owned();
    }
    let mut told = String::new();
    for (path, text) in &edit.files {
        let plain = |text: &str| {
            let text = text.replace("\r\n", "\n");
            if text.is_empty() || text.ends_with('\n') { text } else { text + "\n" }
        };
        let old = case.files.get(path).map(|text| plain(text));
        let new = text.as_ref().map(|text| plain(text));
        let name = |side: &Option<String>| side.as_ref().map_or("nothing".to_owned(), |_| path.display().to_string());
        let (old_name, new_name) = (name(&old), name(&new));
        let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
        let diff = TextDiff::from_lines(&old, &new);
        let mut unified = diff.unified_diff();
        told += &unified.context_radius(1).header(&old_name, &new_name).to_string();
    }
    for place in &edit.places {
        writeln!(told, "at {}:{} {}", place.path.display(), place.line, place.pointer).unwrap();
    }
    let rendered: Vec<String> = edit.proof.rendered.iter().map(|path| shown(path)).collect();
    writeln!(told, "rendered {}; spared {}", rendered.join(", "), edit.proof.spared).unwrap();
    told
}

fn shown(path: &std::path::Path) -> String {
    if path.as_os_str().is_empty() { ".".to_owned() } else { path.display().to_string() }
}

pub fn refusal(refusal: &Refusal) -> String {
    let places = refusal.places.iter().fold(String::new(), |told, place| format!("{told}  {place}\n"));
    format!("refused: {}\n{places}", refusal.why)
}
