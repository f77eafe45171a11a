//! Owned: what a field manager owns of an object, as `metadata.managedFields` says it.
//!
//! What a manager owns is a claim of the client that named it, kept by the API server: nobody proves to be `kubectl`.

use std::fmt;

use serde_json::{Map, Value};

use crate::api::Timestamp;

/// The fields that one manager owns: a tree of steps from the root of an object.
///
/// The form is that of structured-merge-diff (fieldpath/serialize.go, fieldpath/serialize-pe.go): `f:` a field, `k:` the item of
/// a list that has these keys, `v:` the item of a list that is this value, `i:` the item at this place, `.` the thing itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Owned {
    children: Vec<(Step, Self)>,
}

/// One step into an object.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// A field of a map or a struct.
    Field(String),
    /// The item of a list with these keys.
    Keys(Map<String, Value>),
    /// The item of a list that is this value.
    Item(Value),
    /// The item of a list at this place.
    Place(usize),
}

impl Step {
    fn of(key: &str) -> Option<Self> {
        let (form, rest) = key.split_once(':')?;
        match form {
            "f" => Some(Self::Field(rest.to_owned())),
            "k" => serde_json::from_str(rest).ok().map(Self::Keys),
            "v" => serde_json::from_str(rest).ok().map(Self::Item),
            "i" => rest.parse().ok().map(Self::Place),
            _ => None,
        }
    }

    /// Whether it leads to the item of a list that is at this place.
    fn leads_to(&self, place: usize, item: &Value) -> bool {
        match self {
            Self::Field(_) => false,
            Self::Keys(keys) => keys.iter().all(|(name, value)| item.get(name) == Some(value)),
            Self::Item(value) => item == value,
            Self::Place(own) => *own == place,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match self {
            Self::Field(name) => write!(f, "/{}", escaped(name)),
            Self::Keys(keys) => {
                let keys: Vec<String> = keys.iter().map(|(name, value)| format!("{name}={}", bare(value))).collect();
                write!(f, "[{}]", keys.join(","))
            }
            Self::Item(value) => write!(f, "[{}]", bare(value)),
            Self::Place(place) => write!(f, "[{place}]"),
        }
    }
}

/// How near the fields of a manager come to a field of an object.
enum Match<'o> {
    /// It owns the field, or what lies below it.
    Field(&'o Owned, usize),
    /// It owns something around it as one piece.
    Around(usize),
}

impl Owned {
    /// Reads a `fieldsV1`. What is in no form that we know is owned by nobody.
    pub fn of(fields_v1: &Value) -> Self {
        let entries = fields_v1.as_object().into_iter().flatten();
        Self { children: entries.filter_map(|(key, value)| Some((Step::of(key)?, Self::of(value)))).collect() }
    }

    /// Whether everything at a JSON pointer into `object` is owned: the field itself, each field below it, or something around it
    /// that is owned as one piece. What is not in the object is owned by nobody.
    pub fn covers(&self, object: &Value, pointer: &str) -> bool {
        self.depth(object, pointer).is_some()
    }

    /// Whether what [`covers`](Self::covers) a pointer is the field itself, and nothing around it.
    pub fn claims(&self, object: &Value, pointer: &str) -> bool {
        self.covers(object, pointer) && matches!(self.find(object, pointer), Some(Match::Field(..)))
    }

    /// Whether something below this pointer is owned on its own.
    pub fn goes_below(&self, object: &Value, pointer: &str) -> bool {
        matches!(self.find(object, pointer), Some(Match::Field(owned, _)) if !owned.children.is_empty())
    }

    /// What is owned, for who has no object to look into: as pointers, but with the keys of an item in place of its index, as in
    /// `/spec/containers[name=api]/image`.
    pub fn paths(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.collect_paths(&mut String::new(), &mut found);
        found
    }

    fn collect_paths(&self, path: &mut String, found: &mut Vec<String>) {
        for (step, owned) in &self.children {
            let length = path.len();
            path.push_str(&step.to_string());
            if owned.children.is_empty() {
                found.push(path.clone());
            } else {
                owned.collect_paths(path, found);
            }
            path.truncate(length);
        }
    }

    /// How many steps into the object the deepest claim is that covers this pointer.
    fn depth(&self, object: &Value, pointer: &str) -> Option<usize> {
        let value = object.pointer(pointer)?;
        match self.find(object, pointer)? {
            Match::Around(depth) => Some(depth),
            Match::Field(owned, depth) => owned.covers_all(value).then_some(depth),
        }
    }

    fn find(&self, object: &Value, pointer: &str) -> Option<Match<'_>> {
        // The root of an object is no field of anything.
        if self.children.is_empty() {
            return None;
        }
        let (mut owned, mut value, mut depth) = (self, object, 0);
        for name in pointer.split('/').skip(1) {
            if owned.children.is_empty() {
                return Some(Match::Around(depth));
            }
            let name = name.replace("~1", "/").replace("~0", "~");
            (owned, value) = owned.child(value, &name)?;
            depth += 1;
        }
        Some(Match::Field(owned, depth))
    }

    /// One step from a value to a field or an item of it.
    fn child<'v>(&self, value: &'v Value, name: &str) -> Option<(&Self, &'v Value)> {
        match value {
            Value::Object(fields) => {
                let field = fields.get(name)?;
                let is_it = |step: &Step| matches!(step, Step::Field(own) if own == name);
                self.children.iter().find(|(step, _)| is_it(step)).map(|(_, owned)| (owned, field))
            }
            Value::Array(items) => {
                let place: usize = name.parse().ok()?;
                let item = items.get(place)?;
                self.children.iter().find(|(step, _)| step.leads_to(place, item)).map(|(_, owned)| (owned, item))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        }
    }

    /// Whether nothing of a value is owned by nobody, or by others.
    fn covers_all(&self, value: &Value) -> bool {
        if self.children.is_empty() {
            return true;
        }
        match value {
            Value::Object(fields) => fields
                .iter()
                .all(|(name, _)| self.child(value, name).is_some_and(|(owned, field)| owned.covers_all(field))),
            Value::Array(items) => items.iter().enumerate().all(|(place, item)| {
                let owned = self.children.iter().find(|(step, _)| step.leads_to(place, item));
                owned.is_some_and(|(_, owned)| owned.covers_all(item))
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        }
    }
}

/// A name as a part of a JSON pointer (RFC 6901).
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// One entry of `metadata.managedFields`: who wrote, in which way and when last, and what is theirs.
#[derive(Clone, Debug, PartialEq)]
pub struct Manager {
    /// The name that the client gave.
    pub name: String,
    /// `Apply` or `Update`.
    pub operation: String,
    /// The subresource that was written to, if it was one.
    pub subresource: Option<String>,
    /// When something in the entry changed last.
    pub time: Option<Timestamp>,
    /// What is theirs.
    pub owned: Owned,
}

impl Manager {
    fn of(entry: &Value) -> Option<Self> {
        let text = |field: &str| entry.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
        Some(Self {
            name: text("manager")?.to_owned(),
            operation: text("operation").unwrap_or_default().to_owned(),
            subresource: text("subresource").map(str::to_owned),
            time: text("time").and_then(|time| time.parse().ok()),
            owned: entry.get("fieldsV1").map(Owned::of).unwrap_or_default(),
        })
    }
}

/// The managers of an object, in the order in which the API server lists them.
pub fn managers(object: &Value) -> Vec<Manager> {
    let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    entries.into_iter().flatten().filter_map(Manager::of).collect()
}

/// The managers that own everything at a JSON pointer into `object`, each of them: those of a server-side apply may share a field.
///
/// Where one owns the field and another only something around it, as an empty map that others have filled since, the field is the
/// first one's.
pub fn owners<'m>(managers: &'m [Manager], object: &Value, pointer: &str) -> Vec<&'m Manager> {
    let depths: Vec<_> = managers.iter().map(|manager| manager.owned.depth(object, pointer)).collect();
    let deepest = depths.iter().flatten().max().copied();
    let nearest = managers.iter().zip(depths).filter(|(_, depth)| depth.is_some() && *depth == deepest);
    nearest.map(|(manager, _)| manager).collect()
}

#[cfg(test)]
mod tests;
