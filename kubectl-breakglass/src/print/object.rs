//! -o json, yaml and name: objects for programs.

use serde::Serialize;
use serde_json::Value;

use super::Printer;
use crate::cli::Output;
use crate::error::{CommandError, Result};

/// Prints a value as JSON, as kubectl indents it.
///
/// # Errors
/// When stdout is closed or full.
pub fn json(printer: &mut Printer, value: &impl Serialize) -> Result<()> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    value
        .serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))
        .map_err(|error| CommandError::failed(format!("could not write JSON: {error}")))?;
    bytes.push(b'\n');
    printer.bytes(&bytes)
}

/// Prints a value as YAML.
///
/// # Errors
/// When stdout is closed or full.
pub fn yaml(printer: &mut Printer, value: &impl Serialize) -> Result<()> {
    printer.bytes(yaml_text(value)?.as_bytes())
}

/// A value as YAML, quoted so that YAML 1.1 readers such as kubectl read the same.
///
/// # Errors
/// None in practice: what is printed is plain data.
pub fn yaml_text(value: &impl Serialize) -> Result<String> {
    // Folding long strings is right YAML, and unreadable in a diff.
    let options = serde_saphyr::ser_options! { folded_wrap_chars: 1_000_000, compact_list_indent: true };
    let text = serde_saphyr::to_string_with_options(value, options)
        .map_err(|error| CommandError::failed(format!("could not write YAML: {error}")))?;
    Ok(format!("{}\n", text.trim_end()))
}

/// Prints one object as asked; with `table` and `wide`, `sentence` stands for it.
///
/// # Errors
/// When stdout is closed or full.
pub fn one(printer: &mut Printer, output: Output, object: &Value, name: &str, sentence: &str) -> Result<()> {
    match output {
        Output::Table | Output::Wide => printer.data(&format!("{name} {sentence}")),
        Output::Name => printer.data(name),
        Output::Json => json(printer, object),
        Output::Yaml => yaml(printer, object),
    }
}

/// The value of something of ours, for printing.
///
/// # Errors
/// None in practice: our kinds are plain data.
pub fn value(object: &impl Serialize) -> Result<Value> {
    let mut value =
        serde_json::to_value(object).map_err(|error| CommandError::failed(format!("could not write JSON: {error}")))?;
    without_managed_fields(&mut value);
    Ok(value)
}

/// Leaves out what kubectl leaves out.
pub fn without_managed_fields(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}
