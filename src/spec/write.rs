// SPDX-License-Identifier: Apache-2.0
//! Values as JSON text: for people, as `berth spec` and `berth features` print it, and for ourselves.

use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};

/// The text of a value, one field per line, each level indented by `indent`; no newline at the end.
pub fn to_json(value: &impl Serialize, indent: &str) -> serde_json::Result<Vec<u8>> {
    let mut text = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(indent.as_bytes())))?;
    Ok(text)
}

/// The text of a value in one line, with room for so many bytes from the start.
pub fn to_line(value: &impl Serialize, room: usize) -> serde_json::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(room);
    value.serialize(&mut Serializer::new(&mut text))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_serde_json_writes() {
        let value = serde_json::json!({"a": [1, "\u{1}\"é", null, true], "b": {"c": -2.5, "": []}});
        for room in [0, 4096] {
            assert_eq!(to_line(&value, room).unwrap(), serde_json::to_vec(&value).unwrap());
        }
    }
}
