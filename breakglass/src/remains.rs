//! Remains: what is left of a change in its object as it is now, field by field; and the object without it.
//!
//! Items of a list are told apart by what Kubernetes merges them by, so that what others did to their neighbours is neither
//! mistaken for the change nor undone with it.

use serde_json::{Map, Value};

/// What tells the items of a list apart (patchMergeKey and x-kubernetes-list-map-keys of the kinds that come with Kubernetes);
/// the first that all items have, each of them another value, is taken. Of several names only the first must be there.
const ITEM_KEYS: [&[&str]; 8] = [
    &["name"],
    &["containerPort", "protocol"],
    &["port", "protocol"],
    &["mountPath"],
    &["devicePath"],
    &["ip"],
    &["type"],
    &["uid"],
];

/// The one list of texts in which places mean nothing.
const FINALIZERS: &str = "finalizers";

/// Which of its values a field has now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// The one from before the change.
    Back,
    /// The one that the change gave it.
    There,
    /// Another one: somebody has written to it since.
    Other,
}

/// A field that a change gave another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Where it is, as people read it: `/spec/containers/name=api/image`.
    pub name: String,
    /// Where it is in the object as it is now (RFC 6901); a list without the item has `-` in its place.
    pub pointer: String,
    /// What it is now.
    pub left: Left,
}

/// What is left of a change.
#[derive(Clone, Debug, PartialEq)]
pub struct Remains {
    /// The fields that it changed.
    pub fields: Vec<Field>,
    /// The object as it is now, with every field that is still as the change made it put back to what it was before.
    pub without: Value,
}

impl Remains {
    /// What is left `now` of a change that led from `before` to `after`.
    pub fn of(before: &Value, after: &Value, now: &Value) -> Self {
        let mut fields = Vec::new();
        let root = Place { name: String::new(), pointer: String::new() };
        let without = compare(&mut fields, &root, [Some(before), Some(after), Some(now)]);
        Self { fields, without: without.unwrap_or(Value::Null) }
    }

    /// Whether nothing is left: every field is what it was.
    pub fn is_back(&self) -> bool {
        self.fields.iter().all(|field| field.left == Left::Back)
    }

    /// The fields that have this value.
    pub fn that_are(&self, left: Left) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(move |field| field.left == left)
    }
}

/// A place in an object.
struct Place {
    name: String,
    pointer: String,
}

impl Place {
    fn field(&self, key: &str) -> Self {
        let key = key.replace('~', "~0").replace('/', "~1");
        Self { name: format!("{}/{key}", self.name), pointer: format!("{}/{key}", self.pointer) }
    }

    fn item(&self, key: &str, index: Option<usize>) -> Self {
        let index = index.map_or_else(|| "-".to_owned(), |index| index.to_string());
        Self { name: format!("{}/{key}", self.name), pointer: format!("{}/{index}", self.pointer) }
    }
}

/// A part of the object: before the change, after it, now. Absent where it is not there.
type Three<'v, T> = [Option<&'v T>; 3];

/// What the part is without the change.
fn compare(fields: &mut Vec<Field>, place: &Place, values: Three<'_, Value>) -> Option<Value> {
    let [before, after, now] = values;
    if before == after {
        return now.cloned();
    }
    if let Some(maps) = all(values, Value::as_object)
        && maps.iter().flatten().any(|map| !map.is_empty())
    {
        let without = compare_maps(fields, place, maps);
        return (!without.is_empty() || is_kept_empty(maps)).then_some(Value::Object(without));
    }
    if let Some(lists) = all(values, Value::as_array)
        && lists.iter().flatten().any(|list| !list.is_empty())
        && let Some(items) = keyed(place, lists)
    {
        let without = compare_lists(fields, place, &items);
        return (!without.is_empty() || is_kept_empty(lists)).then_some(Value::Array(without));
    }
    leaf(fields, place, values)
}

/// All of those that are there, where they are alike.
fn all<'v, T>(values: Three<'v, Value>, read: impl Fn(&'v Value) -> Option<&'v T>) -> Option<Three<'v, T>> {
    let mut alike = [None; 3];
    for (place, value) in alike.iter_mut().zip(values) {
        *place = match value {
            Some(value) => Some(read(value)?),
            None => None,
        };
    }
    Some(alike)
}

fn compare_maps(fields: &mut Vec<Field>, place: &Place, maps: Three<'_, Map<String, Value>>) -> Map<String, Value> {
    let keys: std::collections::BTreeSet<&String> = maps.iter().flatten().flat_map(|map| map.keys()).collect();
    let mut without = Map::new();
    for key in keys {
        let values = maps.map(|map| map.and_then(|map| map.get(key)));
        if let Some(value) = compare(fields, &place.field(key), values) {
            without.insert(key.clone(), value);
        }
    }
    without
}

/// Whether something stays that nothing is in: what came with the change goes with it.
fn is_kept_empty<T>([before, after, now]: Three<'_, T>) -> bool {
    if now.is_some() == after.is_some() { before.is_some() } else { now.is_some() }
}

/// A list as its items by their keys, in order.
type Items<'v> = Vec<(String, &'v Value)>;

/// The lists by their keys, where all of their items have one.
fn keyed<'v>(place: &Place, lists: Three<'v, Vec<Value>>) -> Option<[Items<'v>; 3]> {
    if place.name.ends_with(FINALIZERS) {
        return index(lists, |item| item.as_str().map(str::to_owned));
    }
    ITEM_KEYS.iter().find_map(|names| index(lists, |item| key(item, names)))
}

fn key(item: &Value, names: &[&str]) -> Option<String> {
    let text = |name: &&str| match item.get(name) {
        None => None,
        Some(Value::String(text)) => Some(format!("{name}={text}")),
        Some(other @ Value::Number(_)) => Some(format!("{name}={other}")),
        Some(_) => None,
    };
    let (first, others) = names.split_first()?;
    let parts: Vec<String> = [text(first)?].into_iter().chain(others.iter().filter_map(text)).collect();
    Some(parts.join(",").replace('~', "~0").replace('/', "~1"))
}

fn index<'v>(lists: Three<'v, Vec<Value>>, key: impl Fn(&Value) -> Option<String>) -> Option<[Items<'v>; 3]> {
    let mut indexed = [const { Vec::new() }; 3];
    for (items, list) in indexed.iter_mut().zip(lists) {
        for item in list.into_iter().flatten() {
            let key = key(item)?;
            if items.iter().any(|(other, _)| *other == key) {
                return None;
            }
            items.push((key, item));
        }
    }
    Some(indexed)
}

fn compare_lists(fields: &mut Vec<Field>, place: &Place, lists: &[Items<'_>; 3]) -> Vec<Value> {
    let [before, after, now] = lists;
    let mut without: Vec<(String, Value)> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for (key, _) in now.iter().chain(before).chain(after) {
        if !seen.insert(key) {
            continue;
        }
        let index = now.iter().position(|(other, _)| other == key);
        let find = |items: &Items<'_>| items.iter().find(|(other, _)| other == key).map(|(_, item)| (*item).clone());
        let [before, after, now] = [before, after, now].map(find);
        let values = [before.as_ref(), after.as_ref(), now.as_ref()];
        let item = place.item(key, index);
        // A part of an item is no item: one that came or went is compared as a whole.
        let value = match values {
            [Some(_), Some(_), Some(_)] => compare(fields, &item, values),
            _ if values[0] == values[1] => now.clone(),
            _ => leaf(fields, &item, values),
        };
        without.extend(value.map(|value| (key.clone(), value)));
    }
    let keys = |items: &Items<'_>| items.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
    let (was_so, became_so, is_so) = (keys(before), keys(after), keys(now));
    if was_so != became_so && sorted(&was_so) == sorted(&became_so) {
        let left = left(&was_so, &became_so, &is_so);
        fields.push(Field { name: format!("{}/(order)", place.name), pointer: place.pointer.clone(), left });
    }
    in_order(without, if is_so == became_so { &was_so } else { &is_so }, &was_so)
}

fn sorted(keys: &[String]) -> Vec<&String> {
    let mut keys: Vec<&String> = keys.iter().collect();
    keys.sort();
    keys
}

/// The items in the `wanted` order; one that is not in it comes after the one that it came after `before`.
fn in_order(items: Vec<(String, Value)>, wanted: &[String], before: &[String]) -> Vec<Value> {
    let mut order: Vec<String> = wanted.to_vec();
    for (at, key) in before.iter().enumerate().filter(|(_, key)| !wanted.contains(key)) {
        let neighbour = before[..at].last().and_then(|earlier| order.iter().position(|other| other == earlier));
        order.insert(neighbour.map_or(0, |place| place + 1), key.clone());
    }
    let mut items = items;
    items.sort_by_key(|(key, _)| order.iter().position(|other| other == key).unwrap_or(usize::MAX));
    items.into_iter().map(|(_, item)| item).collect()
}

fn left<T: PartialEq>(before: &T, after: &T, now: &T) -> Left {
    if now == before {
        Left::Back
    } else if now == after {
        Left::There
    } else {
        Left::Other
    }
}

fn leaf(fields: &mut Vec<Field>, place: &Place, [before, after, now]: Three<'_, Value>) -> Option<Value> {
    let left = left(&before, &after, &now);
    fields.push(Field { name: place.name.clone(), pointer: place.pointer.clone(), left });
    match left {
        Left::There => before.cloned(),
        Left::Back | Left::Other => now.cloned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[track_caller]
    fn check([before, after, now]: [Value; 3], expected: &[(&str, Left)], without: Value) {
        let remains = Remains::of(&before, &after, &now);
        let fields: Vec<(&str, Left)> = remains.fields.iter().map(|field| (field.name.as_str(), field.left)).collect();
        assert_eq!(fields, expected);
        assert_eq!(remains.without, without);
    }

    #[test]
    fn a_field_is_what_it_was_or_what_it_became_or_neither() {
        let [was, is] = [json!({"a": 1, "b": {"c": 1}}), json!({"a": 2, "b": {"c": 1}})];
        check([was.clone(), is.clone(), is.clone()], &[("/a", Left::There)], was.clone());
        check([was.clone(), is.clone(), was.clone()], &[("/a", Left::Back)], was.clone());
        let beside = json!({"a": 2, "b": {"c": 7}, "d": 1});
        check([was.clone(), is.clone(), beside], &[("/a", Left::There)], json!({"a": 1, "b": {"c": 7}, "d": 1}));
        let other = json!({"a": 3, "b": {"c": 1}});
        check([was.clone(), is.clone(), other.clone()], &[("/a", Left::Other)], other);
        check([was, is, json!({})], &[("/a", Left::Other)], json!({}));
    }

    #[test]
    fn a_map_that_came_with_the_change_goes_with_it_unless_others_use_it() {
        let [was, is] = [json!({"m": {}}), json!({"m": {"labels": {"a/b": "1"}}})];
        check([was.clone(), is.clone(), is.clone()], &[("/m/labels/a~1b", Left::There)], was.clone());
        let used = json!({"m": {"labels": {"a/b": "1", "c": "2"}}});
        check([was.clone(), is, used], &[("/m/labels/a~1b", Left::There)], json!({"m": {"labels": {"c": "2"}}}));
        let [was, is] = [json!({"e": {"x": 1}}), json!({})];
        check([was.clone(), is.clone(), is.clone()], &[("/e/x", Left::There)], was.clone());
        check([was, is, json!({"e": {"x": 2}})], &[("/e/x", Left::Other)], json!({"e": {"x": 2}}));
        let [was, is] = [json!({}), json!({"emptyDir": {}})];
        check([was.clone(), is.clone(), is], &[("/emptyDir", Left::There)], was);
    }

    #[test]
    fn items_are_told_apart_by_their_keys() {
        let list = |items: &[(&str, i64)]| -> Value {
            items.iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
        };
        let [was, is] = [list(&[("a", 1), ("b", 1)]), list(&[("a", 1), ("b", 2)])];
        // Others put an item before it, and change its neighbour.
        let now = list(&[("z", 0), ("a", 9), ("b", 2)]);
        check([was, is, now], &[("/name=b/value", Left::There)], list(&[("z", 0), ("a", 9), ("b", 1)]));

        let [was, is] = [list(&[("a", 1), ("b", 1), ("c", 1)]), list(&[("a", 1), ("c", 1), ("d", 1)])];
        let fields = [("/name=d", Left::There), ("/name=b", Left::There)];
        check([was.clone(), is.clone(), is.clone()], &fields, was.clone());
        let now = list(&[("c", 1), ("a", 2), ("d", 1)]);
        check([was.clone(), is.clone(), now], &fields, list(&[("c", 1), ("a", 2), ("b", 1)]));
        let now = list(&[("a", 1), ("c", 1), ("d", 2)]);
        let fields = [("/name=d", Left::Other), ("/name=b", Left::There)];
        check([was, is, now], &fields, list(&[("a", 1), ("b", 1), ("c", 1), ("d", 2)]));
    }

    #[test]
    fn ports_have_two_keys_finalizers_are_a_set_and_other_lists_are_whole() {
        let ports =
            |target: i64| json!([{"port": 53, "protocol": "TCP"}, {"port": 53, "protocol": "UDP", "t": target}]);
        check([ports(1), ports(2), ports(2)], &[("/port=53,protocol=UDP/t", Left::There)], ports(1));
        let finalizers = |list: &[&str]| json!({"finalizers": list});
        let [was, is] = [finalizers(&["a", "b"]), finalizers(&["a"])];
        check([was, is, finalizers(&["c", "a"])], &[("/finalizers/b", Left::There)], finalizers(&["c", "a", "b"]));
        let [was, is] = [json!({"args": ["a", "b"]}), json!({"args": ["a", "c"]})];
        check([was.clone(), is.clone(), is.clone()], &[("/args", Left::There)], was.clone());
        let now = json!({"args": ["x", "c"]});
        check([was, is, now.clone()], &[("/args", Left::Other)], now);
    }

    #[test]
    fn an_order_is_a_field_as_well() {
        let list = |names: &[&str]| -> Value { names.iter().map(|name| json!({"name": name})).collect() };
        let [was, is] = [list(&["a", "b"]), list(&["b", "a"])];
        check([was.clone(), is.clone(), is.clone()], &[("/(order)", Left::There)], was.clone());
        check([was.clone(), is, was.clone()], &[("/(order)", Left::Back)], was);
    }

    #[test]
    fn a_pointer_leads_to_the_field_as_it_is_now() {
        let list = |items: Value| json!({"containers": items});
        let [was, is] = [1, 2].map(|tag| list(json!([{"name": "api", "image": tag}])));
        let now = list(json!([{"name": "proxy"}, {"name": "api", "image": 2}]));
        let remains = Remains::of(&was, &is, &now);
        assert_eq!(now.pointer(&remains.fields[0].pointer), Some(&json!(2)));
        let remains = Remains::of(&was, &is, &list(json!([])));
        assert_eq!(remains.fields[0].pointer, "/containers/-");
    }

    fn object() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(json!(null)), (0..3).prop_map(|n| json!(n)), "[ab]".prop_map(|text| json!(text))];
        leaf.prop_recursive(3, 24, 4, |inner| {
            let item = ("[a-d]", inner.clone()).prop_map(|(name, value)| json!({"name": name, "v": value}));
            prop_oneof![
                proptest::collection::btree_map("[a-d/~]", inner.clone(), 0..4).prop_map(|map| json!(map)),
                proptest::collection::vec(inner, 0..3).prop_map(Value::Array),
                proptest::collection::vec(item, 0..4).prop_map(Value::Array),
            ]
        })
        .prop_map(|value| json!({"spec": value}))
    }

    proptest! {
        /// Right after the change all of it is there and nothing else, and without it the object is what it was.
        #[test]
        fn right_after_a_change_all_of_it_is_left(before in object(), after in object()) {
            let remains = Remains::of(&before, &after, &after);
            prop_assert_eq!(&remains.without, &before);
            prop_assert_eq!(remains.fields.is_empty(), before == after);
            prop_assert!(remains.fields.iter().all(|field| field.left == Left::There), "{:?}", remains.fields);
            prop_assert!(Remains::of(&before, &after, &before).is_back());
        }

        /// Whatever others made of it: what was put back is back, and taking it out again changes nothing.
        #[test]
        fn what_is_put_back_stays_back(before in object(), after in object(), now in object()) {
            let without = Remains::of(&before, &after, &now).without;
            let again = Remains::of(&before, &after, &without);
            prop_assert_eq!(&again.without, &without);
            prop_assert_eq!(again.that_are(Left::There).count(), 0);
        }

        /// What the change did not touch is left alone.
        #[test]
        fn what_others_did_elsewhere_is_left_alone(before in object(), after in object(), theirs in object()) {
            let with = |object: &Value| json!({"ours": object, "theirs": theirs});
            let remains = Remains::of(&json!({"ours": before}), &json!({"ours": after}), &with(&after));
            prop_assert_eq!(remains.without, with(&before));
        }
    }
}
