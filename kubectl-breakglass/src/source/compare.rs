//! Whether two renderings differ in exactly what was to change.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::ObjectId;
use super::field::{Change, Step, changes, get, pointer, put};

/// One object that is to change in what the entry renders.
#[derive(Clone, Debug)]
pub struct Target {
    /// Which.
    pub object: ObjectId,
    /// As the entry rendered it before everything; none for a new one.
    pub before: Option<Value>,
    /// As it is to be rendered; none for one that is to go.
    pub after: Option<Value>,
    /// The fields between the two.
    pub changes: Vec<Change>,
}

/// What a directory is to the one that the engine renders from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The very one.
    Entry,
    /// One that the entry is made from: it may say the same change, of its own form of the object.
    Below,
    /// One that includes the entry: it says what the entry says.
    Above,
    /// One that has nothing to do with it.
    Other,
}

/// What an object is called in what is rendered.
pub fn id_of(object: &Value) -> ObjectId {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let version = text("/apiVersion");
    ObjectId {
        group: version.split_once('/').map_or_else(String::new, |(group, _)| group.to_owned()),
        kind: text("/kind"),
        namespace: Some(text("/metadata/namespace")).filter(|namespace| !namespace.is_empty()),
        name: text("/metadata/name"),
    }
}

/// Whether a rendered object is the one of the cluster. Without a namespace it goes to `default`, or is of a kind that has none.
pub fn is_it(rendered: &ObjectId, wanted: &ObjectId) -> bool {
    let place = match (&rendered.namespace, &wanted.namespace) {
        (None, Some(namespace)) => namespace == "default",
        (one, other) => one == other,
    };
    place && rendered.group == wanted.group && rendered.kind == wanted.kind && rendered.name == wanted.name
}

/// Compares what a directory said before an edit with what it says after.
///
/// # Errors
/// What differs that must not, or does not and must.
pub fn compare(before: &[Value], after: &[Value], (role, targets): (Role, &[Target])) -> Result<(), String> {
    let (old, new) = (by_id(before), by_id(after));
    let ids: BTreeSet<&ObjectId> = old.keys().chain(new.keys()).collect();
    for id in ids {
        let (old, new) = (old.get(id).map_or(&[][..], Vec::as_slice), new.get(id).map_or(&[][..], Vec::as_slice));
        let sides = match (old, new) {
            (old, new) if old == new => continue,
            ([old], [new]) => (Some(*old), Some(*new)),
            ([old], []) => (Some(*old), None),
            ([], [new]) => (None, Some(*new)),
            _ => return Err(format!("{id} is rendered more than once")),
        };
        let target = targets.iter().find(|target| match role {
            Role::Entry | Role::Above => is_it(id, &target.object),
            Role::Below => {
                id.kind == target.object.kind
                    && id.group == target.object.group
                    && target.object.name.contains(&id.name)
            }
            Role::Other => false,
        });
        let Some(target) = target else { return Err(differs(id, sides)) };
        if !is_wanted(sides, (role, target)) {
            // Of a new one, what it would say otherwise than it has to.
            let sides = if sides.0.is_none() { (target.after.as_ref(), sides.1) } else { sides };
            return Err(differs(id, sides));
        }
    }
    match role {
        Role::Entry => targets.iter().try_for_each(|target| is_said(&new, target)),
        Role::Below | Role::Above | Role::Other => Ok(()),
    }
}

fn by_id(objects: &[Value]) -> BTreeMap<ObjectId, Vec<&Value>> {
    let mut found: BTreeMap<ObjectId, Vec<&Value>> = BTreeMap::new();
    for object in objects {
        found.entry(id_of(object)).or_default().push(object);
    }
    found
}

fn differs(id: &ObjectId, sides: (Option<&Value>, Option<&Value>)) -> String {
    match sides {
        (Some(old), Some(new)) => {
            let fields: Vec<String> = changes(old, new).iter().map(|change| pointer(&change.path)).collect();
            format!("{id} would say something else at {}", fields.join(", "))
        }
        (None, _) => format!("{id} would be new"),
        (_, None) => format!("{id} would be gone"),
    }
}

fn is_wanted((old, new): (Option<&Value>, Option<&Value>), (role, target): (Role, &Target)) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => {
            let mut expected = old.clone();
            for change in &target.changes {
                // What lies below the entry may say some of the change; the entry says all of it, in its own fields.
                let is_due = role != Role::Below || get(new, &change.path) == change.to.as_ref();
                if is_due && !put(&mut expected, &change.path, change.to.as_ref()) {
                    return false;
                }
            }
            in_order(&expected, &target.changes) == in_order(new, &target.changes)
        }
        (None, Some(new)) => target.before.is_none() && target.after.as_ref() == Some(new),
        (Some(_), None) => target.after.is_none(),
        (None, None) => true,
    }
}

fn is_said(new: &BTreeMap<ObjectId, Vec<&Value>>, target: &Target) -> Result<(), String> {
    let found: Vec<&Value> =
        new.iter().filter(|(id, _)| is_it(id, &target.object)).flat_map(|(_, all)| all.clone()).collect();
    let is_said = match (&target.after, found.as_slice()) {
        (None, []) => true,
        (Some(after), [said]) => in_order(after, &target.changes) == in_order(said, &target.changes),
        _ => false,
    };
    if is_said { Ok(()) } else { Err(format!("{} would not say what it has to", target.object)) }
}

/// With new items of lists at their end: a patch of kustomize puts them first, and where they stand is nothing that was asked for.
fn in_order(value: &Value, changes: &[Change]) -> Value {
    let mut value = value.clone();
    for change in changes.iter().filter(|change| change.from.is_none() && change.to.is_some()) {
        if let Some(Step::Item(..)) = change.path.last()
            && let Some(item) = get(&value, &change.path).cloned()
        {
            put(&mut value, &change.path, None);
            put(&mut value, &change.path, Some(&item));
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(name: &str, replicas: Value) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {"replicas": replicas}})
    }

    fn target() -> Target {
        let (before, after) = (object("p-api", json!(1)), object("p-api", json!(5)));
        let object = ObjectId {
            group: "apps".to_owned(),
            kind: "Deployment".to_owned(),
            namespace: Some("default".to_owned()),
            name: "p-api".to_owned(),
        };
        Target { object, changes: changes(&before, &after), before: Some(before), after: Some(after) }
    }

    fn check(role: Role, before: &[Value], after: &[Value], expected: bool) {
        assert_eq!(compare(before, after, (role, &[target()])).is_ok(), expected, "{role:?} {before:?} {after:?}");
    }

    #[test]
    fn the_change_and_nothing_else() {
        let (api, db) = (|replicas| object("p-api", replicas), |replicas| object("p-db", replicas));
        let before = [api(json!(1)), db(json!(1))];
        check(Role::Entry, &before, &[api(json!(5)), db(json!(1))], true);
        check(Role::Entry, &before, &[db(json!(1)), api(json!(5))], true);
        for wrong in [
            vec![api(json!("5")), db(json!(1))],
            vec![api(json!(4)), db(json!(1))],
            vec![api(json!(5)), db(json!(2))],
            vec![api(json!(1)), db(json!(5))],
            vec![api(json!(5))],
            vec![api(json!(5)), db(json!(1)), object("new", json!(1))],
            before.to_vec(),
        ] {
            check(Role::Entry, &before, &wrong, false);
        }
    }

    #[test]
    fn what_lies_below_may_say_it_in_its_own_form_and_others_may_not() {
        let (old, new) = ([object("api", json!(1))], [object("api", json!(5))]);
        check(Role::Below, &old, &new, true);
        check(Role::Below, &old, &old, true);
        check(Role::Below, &old, &[object("api", json!(4))], false);
        check(Role::Above, &old, &new, false);
        check(Role::Other, &old, &new, false);
        check(Role::Other, &old, &old, true);
        check(Role::Other, &[object("p-api", json!(1))], &[object("p-api", json!(5))], false);
    }
}
