//! One case: a text with the files of a repository, what is to change, and what comes of it.
//!
//! Before the files, lines: `entry: DIR`, `spec: {…}` (the Flux Kustomization's), then for each object `object: GROUP/KIND NAMESPACE/NAME`
//! and below it `/pointer: FROM -> TO` in YAML, `-` for nothing, items of lists as `[name=api]`; or `delete`; or `create [PATH]`, the
//! object following in the file `-- object --`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use kubectl_breakglass::source::{Entry, ObjectId, Wanted, yaml};
use serde_json::{Value, json};

/// One case.
pub struct Case {
    pub path: PathBuf,
    pub files: BTreeMap<PathBuf, String>,
    pub links: BTreeMap<PathBuf, PathBuf>,
    pub entry: Entry,
    pub wanted: Vec<Wanted>,
    pub expected: String,
}

/// How lines end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    Lf,
    CrLf,
    NoEnd,
}

/// A folder that is removed.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("accept-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Lines {
    fn of(self, text: &str) -> String {
        match self {
            Self::Lf => text.to_owned(),
            Self::CrLf => text.replace('\n', "\r\n"),
            Self::NoEnd => text.trim_end_matches('\n').to_owned(),
        }
    }

    /// Lines end as they did, in every file that was there before; in a new one as in its neighbours.
    pub fn check(self, case: &Case, files: &BTreeMap<PathBuf, Option<String>>) -> Result<(), String> {
        for (path, text) in files.iter().filter_map(|(path, text)| Some((path, text.as_ref()?))) {
            let is_right = match self {
                Self::Lf => !text.contains('\r') && text.ends_with('\n'),
                Self::CrLf => !text.replace("\r\n", "").contains(['\r', '\n']) || !case.files.contains_key(path),
                Self::NoEnd => !text.ends_with('\n') || !case.files.contains_key(path),
            };
            if !is_right {
                return Err(format!("{self:?}: lines of {} end in another way: {text:?}", path.display()));
            }
        }
        Ok(())
    }
}

impl Case {
    pub fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        // A diff has lines that look like the name of a file.
        let (text, expected) = text.split_once("\n-- expected --\n").unwrap_or((&text, ""));
        let mut sections = text.split("\n-- ");
        let head = sections.next().unwrap().to_owned();
        let (mut files, mut links, mut object) = (BTreeMap::new(), BTreeMap::new(), None);
        for section in sections {
            let (name, text) = section.split_once(" --\n").unwrap_or_else(|| panic!("{}: {section}", path.display()));
            let text = if text.is_empty() || text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") };
            match name.split_once(" -> ") {
                Some((link, to)) => drop(links.insert(PathBuf::from(link), PathBuf::from(to))),
                None if name == "object" => object = Some(yaml::objects(&text).unwrap().remove(0)),
                None => drop(files.insert(PathBuf::from(name), text)),
            }
        }
        let (entry, wanted) = head_of(&head, object.as_ref());
        Self { path: path.to_owned(), files, links, entry, wanted, expected: expected.to_owned() }
    }

    /// Writes what is expected.
    pub fn expect(&self, told: &str) {
        let text = fs::read_to_string(&self.path).unwrap();
        let head = text.split("\n-- expected --\n").next().unwrap().trim_end();
        fs::write(&self.path, format!("{head}\n\n-- expected --\n{told}")).unwrap();
    }

    /// The files on disk.
    pub fn write_out(&self, lines: Lines) -> Folder {
        let folder = Folder::new();
        for (path, text) in &self.files {
            let whole = folder.path().join(path);
            fs::create_dir_all(whole.parent().unwrap()).unwrap();
            fs::write(whole, lines.of(text)).unwrap();
        }
        for (path, to) in &self.links {
            let whole = folder.path().join(path);
            fs::create_dir_all(whole.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(to, whole).unwrap();
        }
        folder
    }
}

fn head_of(head: &str, object: Option<&Value>) -> (Entry, Vec<Wanted>) {
    let (mut entry, mut wanted) = (Entry { path: PathBuf::new(), spec: Value::Null }, Vec::<Wanted>::new());
    for line in head.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let value = |text: &str| yaml::objects(text).unwrap().into_iter().next().unwrap_or_default();
        if let Some(path) = line.strip_prefix("entry: ") {
            entry.path = PathBuf::from(path.trim_start_matches("./"));
        } else if let Some(spec) = line.strip_prefix("spec: ") {
            entry.spec = value(spec);
        } else if let Some(id) = line.strip_prefix("object: ") {
            wanted.push(wanted_of(id));
        } else if line == "delete" {
            wanted.last_mut().unwrap().after = None;
        } else if let Some(path) = line.strip_prefix("create") {
            let last = wanted.last_mut().unwrap();
            (last.before, last.after) = (None, object.cloned());
            last.path = Some(path.trim()).filter(|path| !path.is_empty()).map(PathBuf::from);
        } else {
            let (pointer, change) = line.split_once(": ").unwrap_or_else(|| panic!("{line}"));
            let (from, to) = change.split_once(" -> ").unwrap_or_else(|| panic!("{line}"));
            let last = wanted.last_mut().unwrap();
            for (side, text) in [(&mut last.before, from), (&mut last.after, to)] {
                say(side.as_mut().unwrap(), pointer, (text != "-").then(|| value(text)));
            }
        }
    }
    (entry, wanted)
}

fn wanted_of(id: &str) -> Wanted {
    let (kind, name) = id.split_once(' ').unwrap();
    let (group, kind) = kind.split_once('/').unwrap_or(("", kind));
    let (namespace, name) = name.split_once('/').map_or((None, name), |(namespace, name)| (Some(namespace), name));
    let object = ObjectId {
        group: group.to_owned(),
        kind: kind.to_owned(),
        namespace: namespace.map(str::to_owned),
        name: name.to_owned(),
    };
    let head = json!({"kind": kind, "metadata": {"name": name}});
    Wanted { object, before: Some(head.clone()), after: Some(head), path: None }
}

/// Makes an object say something at a pointer, with all that has to be there for it.
fn say(object: &mut Value, pointer: &str, value: Option<Value>) {
    let (parent, last) = pointer.rsplit_once('/').unwrap();
    let parent = parent.split('/').skip(1).fold(object, below);
    let key = last.replace("~1", "/");
    match (item_of(last), value) {
        (None, Some(value)) => parent[key.as_str()] = value,
        (None, None) => {
            if parent.is_null() {
                *parent = json!({});
            }
        }
        (Some(_), value) => {
            if parent.is_null() {
                *parent = json!([]);
            }
            parent.as_array_mut().unwrap().extend(value);
        }
    }
}

fn below<'a>(value: &'a mut Value, word: &str) -> &'a mut Value {
    let Some((key, name)) = item_of(word) else { return &mut value[word.replace("~1", "/").as_str()] };
    if value.is_null() {
        *value = json!([]);
    }
    let items = value.as_array_mut().unwrap();
    let at = items.iter().position(|item| item[key] == name).unwrap_or_else(|| {
        items.push(json!({key: name}));
        items.len() - 1
    });
    &mut items[at]
}

/// `[name=api]`.
fn item_of(word: &str) -> Option<(&str, Value)> {
    let (key, name) = word.strip_prefix('[')?.strip_suffix(']')?.split_once('=')?;
    let name = name.replace("~1", "/");
    Some((key, name.parse::<i64>().map_or_else(|_| json!(name), |number| json!(number))))
}
