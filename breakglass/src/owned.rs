//! Owned: what a field manager owns of an object, as `metadata.managedFields` says it.
//!
//! What a manager owns is a claim of the client that named it, kept by the API server: nobody proves to be `kubectl`.

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

    /// Whether something below this pointer is owned on its own.
    pub fn goes_below(&self, object: &Value, pointer: &str) -> bool {
        matches!(self.find(object, pointer), Some(Match::Field(owned, _)) if !owned.children.is_empty())
    }

    /// The JSON pointers to what is owned of `object`, and in it: fields and items below which nothing else is owned.
    pub fn pointers(&self, object: &Value) -> Vec<String> {
        let mut found = Vec::new();
        self.collect(object, &mut String::new(), &mut found);
        found
    }

    /// How many steps into the object the deepest claim is that covers this pointer.
    fn depth(&self, object: &Value, pointer: &str) -> Option<usize> {
        let value = object.pointer(pointer)?;
        match self.find(object, pointer)? {
            Match::Around(depth) => Some(depth),
            Match::Field(owned, depth) => owned.covers_all(value).then_some(depth),
        }
    }

    /// Whether some field at this pointer, below it or around it is owned.
    fn touches(&self, object: &Value, pointer: &str) -> bool {
        self.find(object, pointer).is_some()
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

    fn collect(&self, value: &Value, pointer: &mut String, found: &mut Vec<String>) {
        for (step, owned) in &self.children {
            let (name, child) = match (step, value) {
                (Step::Field(name), Value::Object(fields)) => {
                    let Some(field) = fields.get(name) else { continue };
                    (escaped(name), field)
                }
                (step, Value::Array(items)) => {
                    let mut places = items.iter().enumerate();
                    let Some((place, item)) = places.find(|(place, item)| step.leads_to(*place, item)) else {
                        continue;
                    };
                    (place.to_string(), item)
                }
                _ => continue,
            };
            let length = pointer.len();
            pointer.push('/');
            pointer.push_str(&name);
            if owned.children.is_empty() {
                found.push(pointer.clone());
            } else {
                owned.collect(child, pointer, found);
            }
            pointer.truncate(length);
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

/// The managers that own something at a JSON pointer into `object`, below it, or around it as one piece.
pub fn writers<'m>(managers: &'m [Manager], object: &Value, pointer: &str) -> Vec<&'m Manager> {
    managers.iter().filter(|manager| manager.owned.touches(object, pointer)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A Deployment that Flux applied, somebody edited and scaled, and the control plane reports on.
    fn deployment() -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "api", "namespace": "prod", "labels": {"app": "api", "kustomize.toolkit.fluxcd.io/name": "prod"},
                "annotations": {"breakglass.dev/user": "alice@example.com", "note": "mine"},
                "finalizers": ["example.com/a", "example.com/b"],
                "managedFields": [
                    {"manager": "kustomize-controller", "operation": "Apply", "apiVersion": "apps/v1", "time": "2026-11-20T10:00:00Z",
                        "fieldsType": "FieldsV1", "fieldsV1": {
                            "f:metadata": {"f:labels": {"f:app": {}, "f:kustomize.toolkit.fluxcd.io/name": {}}},
                            "f:spec": {"f:selector": {}, "f:template": {"f:metadata": {"f:labels": {"f:app": {}}},
                                "f:spec": {"f:containers": {"k:{\"name\":\"api\"}": {".": {}, "f:name": {}, "f:image": {},
                                    "f:args": {}, "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":
                                        {".": {}, "f:containerPort": {}}}}}}}}}},
                    {"manager": "kubectl-edit", "operation": "Update", "apiVersion": "apps/v1", "time": "2026-11-20T12:00:00Z",
                        "fieldsType": "FieldsV1", "fieldsV1": {
                            "f:metadata": {"f:annotations": {".": {}, "f:note": {}},
                                "f:finalizers": {".": {}, "v:\"example.com/b\"": {}}},
                            "f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"api\"}": {"f:image": {}},
                                "k:{\"name\":\"sidecar\"}": {".": {}, "f:name": {}, "f:resources": {".": {}, "f:limits":
                                    {".": {}, "f:cpu": {}, "f:memory": {}}}}}}}}}},
                    {"manager": "kubectl", "operation": "Update", "apiVersion": "apps/v1", "subresource": "scale",
                        "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
                    {"manager": "kube-controller-manager", "operation": "Update", "apiVersion": "apps/v1", "subresource": "status",
                        "time": "2026-11-20T12:00:05Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:status": {"f:conditions": {".": {},
                            "k:{\"type\":\"Available\"}": {".": {}, "f:type": {}, "f:status": {}}}, "f:replicas": {}}}}]},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "api"}}, "progressDeadlineSeconds": 600,
                "template": {"metadata": {"labels": {"app": "api"}}, "spec": {"containers": [
                    {"name": "sidecar", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}},
                    {"name": "api", "image": "api:2", "args": ["a", "b"],
                        "ports": [{"containerPort": 80, "protocol": "TCP"}]}]}}},
            "status": {"replicas": 3, "conditions": [{"type": "Available", "status": "True", "reason": "x"}]}})
    }

    const CONTAINERS: &str = "/spec/template/spec/containers";

    #[test]
    fn a_field_is_its_managers_and_what_is_one_piece_is_whole() {
        let object = deployment();
        let managers = managers(&object);
        for (pointer, expected) in [
            ("/spec/replicas", &["kubectl"][..]),
            // One piece: everything in it is the engine's.
            ("/spec/selector", &["kustomize-controller"]),
            ("/spec/selector/matchLabels/app", &["kustomize-controller"]),
            (&format!("{CONTAINERS}/1/args/0"), &["kustomize-controller"]),
            // Shared: both said so.
            (&format!("{CONTAINERS}/1/image"), &["kustomize-controller", "kubectl-edit"]),
            // By index in the pointer, by key in the fields.
            (&format!("{CONTAINERS}/0/name"), &["kubectl-edit"]),
            (&format!("{CONTAINERS}/1/name"), &["kustomize-controller"]),
            (&format!("{CONTAINERS}/1/ports/0/containerPort"), &["kustomize-controller"]),
            // A default of the server, in an item that is the engine's.
            (&format!("{CONTAINERS}/1/ports/0/protocol"), &[]),
            (&format!("{CONTAINERS}/1/ports/0"), &[]),
            // All of a map, where each of its fields is theirs.
            (&format!("{CONTAINERS}/0/resources"), &["kubectl-edit"]),
            (&format!("{CONTAINERS}/0"), &["kubectl-edit"]),
            (CONTAINERS, &[]),
            ("/metadata/labels", &["kustomize-controller"]),
            ("/metadata/labels/kustomize.toolkit.fluxcd.io~1name", &["kustomize-controller"]),
            ("/metadata/annotations/note", &["kubectl-edit"]),
            ("/metadata/annotations/breakglass.dev~1user", &[]),
            ("/metadata/annotations", &[]),
            ("/metadata/finalizers/1", &["kubectl-edit"]),
            ("/metadata/finalizers/0", &[]),
            ("/status/conditions/0/status", &["kube-controller-manager"]),
            ("/status/conditions/0/reason", &[]),
            ("/spec/progressDeadlineSeconds", &[]),
            ("/spec/paused", &[]),
            (&format!("{CONTAINERS}/7/name"), &[]),
            (&format!("{CONTAINERS}/api/name"), &[]),
            ("/spec/replicas/deeper", &[]),
            ("", &[]),
        ] {
            let found: Vec<_> = owners(&managers, &object, pointer).iter().map(|one| one.name.as_str()).collect();
            assert_eq!(found, expected, "{pointer}");
        }
    }

    #[test]
    fn an_entry_says_who_in_which_way_and_when() {
        let object = deployment();
        let entries: Vec<_> = managers(&object)
            .into_iter()
            .map(|one| (one.name, one.operation, one.subresource, one.time.map(|time| time.to_string())))
            .collect();
        let text = |text: &str| text.to_owned();
        let some = |word: &str| Some(text(word));
        assert_eq!(entries.len(), 4);
        assert_eq!(entries[0], (text("kustomize-controller"), text("Apply"), None, some("2026-11-20T10:00:00Z")));
        assert_eq!(entries[2], (text("kubectl"), text("Update"), some("scale"), None));
        assert_eq!(managers(&json!({"metadata": {}})), []);
        assert_eq!(managers(&json!({"metadata": {"managedFields": [{"operation": "Update"}, 7]}})), []);
    }

    #[test]
    fn what_is_owned_is_listed_as_pointers_into_the_object() {
        let object = deployment();
        let managers = managers(&object);
        assert_eq!(
            managers[1].owned.pointers(&object),
            [
                "/metadata/annotations/note",
                "/metadata/finalizers/1",
                "/spec/template/spec/containers/1/image",
                "/spec/template/spec/containers/0/name",
                "/spec/template/spec/containers/0/resources/limits/cpu",
                "/spec/template/spec/containers/0/resources/limits/memory",
            ]
        );
        for manager in &managers {
            for pointer in manager.owned.pointers(&object) {
                assert!(manager.owned.covers(&object, &pointer), "{} {pointer}", manager.name);
            }
        }
        let limits = format!("{CONTAINERS}/0/resources");
        assert!(managers[1].owned.goes_below(&object, &limits) && !managers[0].owned.goes_below(&object, &limits));
        assert!(!managers[0].owned.goes_below(&object, "/spec/selector"));
        // What was removed since by somebody else is not there.
        let other = json!({"spec": {"replicas": 3}});
        assert_eq!(managers[1].owned.pointers(&other), Vec::<String>::new());
        assert!(!managers[1].owned.covers(&other, "/metadata/annotations/note"));
    }

    #[test]
    fn whoever_owns_the_field_itself_comes_before_who_owns_something_around_it() {
        let entry = |name: &str, fields: Value| json!({"manager": name, "operation": "Apply", "fieldsV1": fields});
        let object = json!({"data": {"a": "1", "b": "2"}, "list": [1, 2], "metadata": {"managedFields": [
            entry("empty", json!({"f:data": {}})), entry("fields", json!({"f:data": {"f:a": {}}})),
            entry("places", json!({"f:list": {"i:0": {}, "v:2": {}}})), entry("odd", json!({"x:y": {}, "k:{": {}, "f:data": 7}))]}});
        let managers = managers(&object);
        let names = |found: Vec<&Manager>| found.iter().map(|one| one.name.clone()).collect::<Vec<_>>().join(" ");
        for (pointer, owners_of, writers_of) in [
            ("/data/a", "fields", "empty fields odd"),
            ("/data/b", "empty odd", "empty odd"),
            ("/data", "empty odd", "empty fields odd"),
            ("/list", "places", "places"),
            ("/list/0", "places", "places"),
            ("/list/1", "places", "places"),
        ] {
            assert_eq!(names(owners(&managers, &object, pointer)), owners_of, "owners of {pointer}");
            assert_eq!(names(writers(&managers, &object, pointer)), writers_of, "writers of {pointer}");
        }
    }
}
