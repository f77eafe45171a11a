//! YAML as kubectl reads it: the values that a text says.

use serde_json::Value;

/// The documents of a stream, those that say nothing left out.
///
/// # Errors
/// What cannot be read, in the parser's words.
pub fn objects(text: &str) -> Result<Vec<Value>, String> {
    // go-yaml reads 0644 as the octal number that people mean with it.
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned())?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}
