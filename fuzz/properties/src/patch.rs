//! The patch that puts our keys on an object.

use breakglass::patch;
use serde_json::{Value, json};

use crate::{applied, has_sound_metadata, keys_of, metadata_of, two_documents, without_ours};

/// Takes two objects, and patches the first to have our keys as the second has them.
///
/// # Panics
/// When the patch does not do just that.
pub fn patch(bytes: &[u8]) {
    let Some((object, other)) = two_documents(bytes) else { return };
    let wanted = keys_of(&other);
    let steps = json!(patch::patch(&metadata_of(&object), &wanted));
    for step in steps.as_array().into_iter().flatten() {
        let path = step["path"].as_str().unwrap_or_default();
        let map = step["value"] == json!({}) && ["/metadata/annotations", "/metadata/labels"].contains(&path);
        let ours = ["/metadata/annotations/breakglass.dev~1", "/metadata/labels/breakglass.dev~1"];
        assert!(map || ours.iter().any(|prefix| path.starts_with(prefix)), "{step}");
    }
    if has_sound_metadata(&object) {
        let patched = applied(&object, &steps);
        assert_eq!(keys_of(&patched), wanted, "{steps}");
        assert_eq!(without_ours(patched.clone()), without_ours(object.clone()), "{steps}");
        assert!(patch::patch(&metadata_of(&patched), &wanted).is_empty(), "{steps}");
        let back = json!(patch::patch(&metadata_of(&patched), &keys_of(&object)));
        assert_eq!(keys_of(&applied(&patched, &back)), keys_of(&object), "{back}");
        assert_eq!(steps == Value::Array(Vec::new()), wanted == keys_of(&object), "{steps}");
    }
}
