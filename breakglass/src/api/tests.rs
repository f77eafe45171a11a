//! The manifests say what the types say.

use kube::CustomResourceExt;

use super::{BreakglassChange, BreakglassPolicy, BreakglassPolicySpec, BreakglassToken};

/// The checked-in definitions are generated from the types: `UPDATE=1 cargo test -p breakglass` rewrites them.
#[test]
fn manifests_hold_the_definitions_of_the_three_kinds() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/crds");
    for definition in [BreakglassPolicy::crd(), BreakglassToken::crd(), BreakglassChange::crd()] {
        let path = format!("{folder}/{}.yaml", definition.spec.names.plural);
        let mut definition = serde_json::to_value(&definition).unwrap();
        unwrap_lines(&mut definition);
        definition["metadata"]["labels"] = serde_json::json!({"app.kubernetes.io/part-of": "breakglass"});
        let text = format!(
            "# Generated from breakglass/src/api. Do not edit: UPDATE=1 cargo test -p breakglass\n{}",
            serde_saphyr::to_string(&definition).unwrap()
        );
        if std::env::var_os("UPDATE").is_some() {
            std::fs::create_dir_all(folder).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let stored = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(stored == text, "{path} is not what the types say. Run: UPDATE=1 cargo test -p breakglass");
    }
}

/// Whoever starts from the example must not lose what the built-in policy guards.
#[test]
fn the_example_is_the_built_in_policy_and_one_namespace_more() {
    let text = include_str!("../../../manifests/examples/policy.yaml");
    let mut example: BreakglassPolicy = serde_saphyr::from_str(text).unwrap();
    example.spec.environments[0].namespaces.retain(|namespace| namespace != "team-a");
    assert_eq!(example.spec, BreakglassPolicySpec::default());
}

/// Comments are wrapped where the source is; `kubectl explain` wraps where the terminal is.
fn unwrap_lines(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    serde_json::Value::String(text) if name == "description" => *text = text.replace('\n', " "),
                    value => unwrap_lines(value),
                }
            }
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(unwrap_lines),
        _ => {}
    }
}
