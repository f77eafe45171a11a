//! The manifests say what the types say.

use kube::CustomResourceExt;

use super::{BreakglassChange, BreakglassPolicy, BreakglassToken};

/// The checked-in definitions are generated from the types: `UPDATE=1 cargo test -p breakglass` rewrites them.
#[test]
fn manifests_hold_the_definitions_of_the_three_kinds() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/crds");
    for definition in [BreakglassPolicy::crd(), BreakglassToken::crd(), BreakglassChange::crd()] {
        let path = format!("{folder}/{}.yaml", definition.spec.names.plural);
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
