// SPDX-License-Identifier: Apache-2.0
//! Values as JSON text for people: `berth spec`, `berth features` and what else is printed indented.

use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};

/// The text of a value, one field per line, each level indented by `indent`; no newline at the end.
pub fn to_json(value: &impl Serialize, indent: &str) -> serde_json::Result<Vec<u8>> {
    let mut text = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(indent.as_bytes())))?;
    Ok(text)
}
