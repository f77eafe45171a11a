//! States: the object before a change and after it, as far as its record holds them.

use breakglass::api::BreakglassChangeSpec;
use breakglass::diff::patched;
use breakglass::hold::without_hold;
use breakglass::record::without_notes;
use serde_json::Value;

use crate::error::{CommandError, Result};

/// The two sides of a change, without what breakglass and clients note on objects.
#[derive(Clone, Debug, PartialEq)]
pub struct States {
    /// Before it; nothing where it made the object.
    pub before: Option<Value>,
    /// After it; nothing where the object went.
    pub after: Option<Value>,
}

impl States {
    /// Reads both out of a record.
    ///
    /// # Errors
    /// When the record does not hold them.
    pub fn of(change: &BreakglassChangeSpec) -> Result<Self> {
        if change.truncated {
            let text =
                "the object was too large for the record, which holds hashes in its place: there is nothing to compare";
            return Err(CommandError::failed(text));
        }
        let after = patched(change.before.as_ref(), &change.patch).ok_or_else(|| {
            CommandError::failed("the patch of the record does not fit what it says was there before")
        })?;
        // What holds the object is no part of what was changed in it.
        let plain = |value: Value| without_notes(if change.hold { without_hold(value) } else { value });
        let object = |value: Value| (!value.is_null()).then(|| plain(value));
        Ok(Self { before: change.before.clone().and_then(object), after: object(after) })
    }
}
