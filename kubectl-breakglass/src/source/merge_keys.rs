//! Which lists are lists of things with a name: matched by that, never by place.

use serde_json::Value;

/// The lists of Kubernetes' own kinds that a strategic merge matches by a key (k8s.io/api: `patchMergeKey`), as far as they are
/// written by people: the field, and the keys that an item may have instead of each other.
const KEYED: [(&str, &[&str]); 16] = [
    ("containers", &["name"]),
    ("initContainers", &["name"]),
    ("ephemeralContainers", &["name"]),
    ("env", &["name"]),
    ("volumes", &["name"]),
    ("volumeMounts", &["mountPath"]),
    ("volumeDevices", &["devicePath"]),
    ("ports", &["containerPort", "port"]),
    ("imagePullSecrets", &["name"]),
    ("secrets", &["name"]),
    ("hostAliases", &["ip"]),
    ("topologySpreadConstraints", &["topologyKey"]),
    ("resourceClaims", &["name"]),
    ("readinessGates", &["conditionType"]),
    ("ownerReferences", &["uid"]),
    ("conditions", &["type"]),
];

/// The key by which the items of a list are told apart, where every item of both sides has one, and each its own.
pub fn key_of(field: &str, lists: [&[Value]; 2]) -> Option<&'static str> {
    let (_, keys) = KEYED.iter().find(|(known, _)| *known == field)?;
    keys.iter().copied().find(|key| lists.iter().all(|list| is_unique(list, key)))
}

fn is_unique(list: &[Value], key: &str) -> bool {
    let names: Vec<&Value> = list.iter().filter_map(|item| item.get(key)).collect();
    names.len() == list.len() && names.iter().enumerate().all(|(at, name)| !names[..at].contains(name))
}

/// The groups whose kinds a strategic merge knows: in all others a patch replaces whole lists.
pub fn is_known_group(group: &str) -> bool {
    !group.contains('.') || (group.ends_with(".k8s.io") && !group.ends_with(".x-k8s.io"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_list_has_a_key_where_every_item_has_its_own() {
        for (field, one, other, expected) in [
            ("containers", json!([{"name": "a"}]), json!([{"name": "b"}]), Some("name")),
            ("ports", json!([{"containerPort": 1}]), json!([]), Some("containerPort")),
            ("ports", json!([{"port": 1}]), json!([{"port": 2}]), Some("port")),
            // The same port for TCP and UDP: by that key it is two things.
            ("ports", json!([{"port": 53}, {"port": 53}]), json!([]), None),
            ("args", json!(["a"]), json!(["b"]), None),
            ("containers", json!([{"image": "a"}]), json!([]), None),
        ] {
            let lists = [one.as_array().unwrap().as_slice(), other.as_array().unwrap().as_slice()];
            assert_eq!(key_of(field, lists), expected, "{field} {one} {other}");
        }
    }
}
