// SPDX-License-Identifier: Apache-2.0
//! From the bytes of config.json, process.json or a resources file to values; from bytes that are none to a text that says why.
//!
//! Called by `create`, `run`, `exec` and `update`, which read the file (and see to its kind and size). A good file is read once, in
//! one pass. Only when that fails are the bytes looked at again, to find the field and to show what stands there. RFC 8259.

use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::{DockerProfile, Mount, Problem, Process, Resources, Seccomp, Spec, field, index};

/// Reads config.json.
pub fn parse_config(bytes: &[u8]) -> Result<Spec, Vec<Problem>> {
    parse(bytes)
}

/// Reads the process.json of `exec --process`: the object `process` of config.json by itself.
pub fn parse_process(bytes: &[u8]) -> Result<Process, Vec<Problem>> {
    parse(bytes)
}

/// Reads the resources file of `update --resources`: the object `linux.resources` of config.json by itself.
pub fn parse_resources(bytes: &[u8]) -> Result<Resources, Vec<Problem>> {
    parse(bytes)
}

/// Reads the file of `mounts add`: the array `mounts` of a config.json by itself, or an object that has it.
pub fn parse_mounts(bytes: &[u8]) -> Result<Vec<Mount>, Vec<Problem>> {
    match bytes.trim_ascii_start().first() {
        Some(b'[') => parse(bytes),
        _ => parse::<Spec>(bytes).map(|spec| spec.mounts),
    }
}

/// Reads the object `linux.seccomp` by itself, and what profiles of Docker's have besides.
pub fn parse_seccomp(bytes: &[u8]) -> Result<(Seccomp, DockerProfile), Vec<Problem>> {
    Ok((parse(bytes)?, parse(bytes)?))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Vec<Problem>> {
    json(bytes).map_err(|error| vec![explain(bytes, &error)])
}

/// Reads any JSON. As serde_json's `from_slice`, which looks at each string by itself whether it is UTF-8: the whole file is looked at in a
/// tenth of the time. Everything is read by this one function, or there would be two of each piece of code that reads.
pub fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    let text = std::str::from_utf8(bytes).map_err(|error| serde::de::Error::custom(format_args!("not UTF-8: {error}")))?;
    serde_json::from_str(text)
}

/// Says what is wrong with `bytes`, which serde_json refused with `error`.
fn explain(bytes: &[u8], error: &serde_json::Error) -> Problem {
    if let Some(rule) = not_text(bytes) {
        return Problem::new("", rule);
    }
    let stopped = offset(bytes, error.line(), error.column());
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    match error.classify() {
        Category::Data => explain_value(bytes, stopped, text),
        Category::Eof => {
            Problem::new(locate(bytes, bytes.len()).path, "the file ends here, in the middle of the document: is it cut off?")
        }
        Category::Syntax if text == "trailing characters" => Problem::new("", trailing(bytes, stopped.saturating_sub(1))),
        Category::Syntax | Category::Io => {
            let path = locate(bytes, stopped.saturating_sub(1)).path;
            Problem::new(path, format!("not JSON: {text} ({})", line_column(bytes, stopped.saturating_sub(1))))
        }
    }
}

/// What keeps the bytes from being JSON text at all.
fn not_text(bytes: &[u8]) -> Option<String> {
    if bytes.trim_ascii().is_empty() {
        return Some(if bytes.is_empty() { "the file is empty" } else { "the file holds nothing but blanks" }.to_string());
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Some("the file begins with a byte order mark (EF BB BF), which JSON does not allow".to_string());
    }
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Some("the file is UTF-16; it must be UTF-8".to_string());
    }
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        let place = line_column(bytes, at);
        return Some(format!("the file holds a NUL byte ({place}): was it cut short by a crash, or is it no text?"));
    }
    let invalid = std::str::from_utf8(bytes).err()?;
    let at = invalid.valid_up_to();
    let byte = bytes.get(at).copied().unwrap_or_default();
    Some(format!("the file is not UTF-8: byte 0x{byte:02x} ({})", line_column(bytes, at)))
}

/// A document, and then something else at `at`.
fn trailing(bytes: &[u8], at: usize) -> String {
    let rest = bytes.get(at..).unwrap_or_default();
    let place = line_column(bytes, at);
    if rest.starts_with(b"{") || rest.starts_with(b"[") {
        format!("a second document follows the first ({place})")
    } else {
        format!("{} follows the end of the document ({place})", shown(rest))
    }
}

/// The document is JSON; a value in it is not what the specification says.
fn explain_value(bytes: &[u8], stopped: usize, text: &str) -> Problem {
    if let Some(name) = text.strip_prefix("missing field ") {
        let place = locate(bytes, stopped.saturating_sub(1));
        let rule = format!("is required ({})", line_column(bytes, place.start));
        return Problem::new(field(&place.path, name.trim_matches('`')), rule);
    }
    // serde_json stops before a bracket that it did not want, and behind any other value.
    let bracket = text.starts_with("invalid type: map") || text.starts_with("invalid type: sequence");
    let place = locate(bytes, if bracket { stopped } else { stopped.saturating_sub(1) });
    let at = line_column(bytes, place.start);
    if text.starts_with("duplicate field ") {
        return Problem::new(place.path, format!("is given twice ({at})"));
    }
    if text.starts_with("holds ") {
        return Problem::new(place.path, format!("{text} ({at})"));
    }
    let expected = text.rsplit_once(", expected ").map_or(text, |(_, expected)| expected);
    let found = shown(bytes.get(place.start..place.end).unwrap_or_default());
    Problem::new(place.path, format!("expected {}, found {found} ({at})", in_words(expected)))
}

/// What serde calls a type, in the words of a config.json.
fn in_words(expected: &str) -> &str {
    match expected {
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" => "a whole number from 0 to 18446744073709551615",
        "i32" => "a whole number from -2147483648 to 2147483647",
        "i64" => "a whole number from -9223372036854775808 to 9223372036854775807",
        "a boolean" => "true or false",
        other => other,
    }
}

/// The beginning of a value, to be shown in a message.
fn shown(value: &[u8]) -> String {
    match value.first() {
        Some(b'{') => "an object".to_string(),
        Some(b'[') => "an array".to_string(),
        Some(b'"') => format!("the string {}", beginning(value)),
        _ => format!("`{}`", beginning(value)),
    }
}

fn beginning(value: &[u8]) -> String {
    const MOST: usize = 60;
    let text = String::from_utf8_lossy(value);
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_string(),
    }
}

/// How many bytes precede a position as serde_json counts it: lines from 1, columns as bytes taken from the line.
fn offset(bytes: &[u8], line: usize, column: usize) -> usize {
    let lines_before = line.saturating_sub(1);
    let start = match lines_before {
        0 => 0,
        _ => bytes
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'\n')
            .nth(lines_before - 1)
            .map_or(bytes.len(), |(at, _)| at + 1),
    };
    (start + column).min(bytes.len())
}

/// `line 12 column 9`: of the byte at `at`, both from 1, columns in bytes.
fn line_column(bytes: &[u8], at: usize) -> String {
    let before = &bytes[..at.min(bytes.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
    format!("line {line} column {column}")
}

/// A value (or name) of a document.
struct Place {
    path: String,
    start: usize,
    end: usize,
}

/// Where in the document the scan is: in an object behind a name (or before the first), or in an array at an index.
enum Inside {
    Object { name: Option<(usize, usize)> },
    Array { at: usize },
}

/// The value that the byte at `target` belongs to. The document must be sound up to there, which it is where serde_json stopped.
fn locate(bytes: &[u8], target: usize) -> Place {
    let mut open: Vec<(usize, Inside)> = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let start = at;
        at += 1;
        match byte {
            b'{' => open.push((start, Inside::Object { name: None })),
            b'[' => open.push((start, Inside::Array { at: 0 })),
            b'}' | b']' => {
                let opened = open.pop().map_or(0, |(opened, _)| opened);
                if start >= target {
                    return Place { path: path(bytes, &open), start: opened, end: at };
                }
            }
            b',' => match open.last_mut() {
                Some((_, Inside::Object { name })) => *name = None,
                Some((_, Inside::Array { at })) => *at += 1,
                None => {}
            },
            b':' | b' ' | b'\t' | b'\n' | b'\r' => {}
            _ => {
                at = token_end(bytes, start);
                if let Some((_, Inside::Object { name: name @ None })) = open.last_mut() {
                    *name = Some((start, at));
                }
            }
        }
        if at > target {
            return match byte {
                b'{' | b'[' => {
                    open.pop();
                    Place { path: path(bytes, &open), start, end: at }
                }
                _ => Place { path: path(bytes, &open), start, end: at },
            };
        }
    }
    Place { path: path(bytes, &open), start: at, end: at }
}

/// The end of the string, number or word that begins at `start`.
fn token_end(bytes: &[u8], start: usize) -> usize {
    let rest = &bytes[start..];
    if rest.first() != Some(&b'"') {
        let length = rest.iter().position(|byte| b",]}: \t\n\r\"[{".contains(byte)).unwrap_or(rest.len());
        return start + length.max(1);
    }
    let mut escaped = false;
    for (length, byte) in rest.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return start + length + 1,
            _ => {}
        }
    }
    bytes.len()
}

/// The JSON path of what is open: `linux.namespaces[2].path`.
fn path(bytes: &[u8], open: &[(usize, Inside)]) -> String {
    const DEEPEST: usize = 12;
    let mut path = String::new();
    for (_, inside) in open.iter().take(DEEPEST) {
        path = match inside {
            Inside::Array { at } => index(&path, *at),
            Inside::Object { name: Some((start, end)) } => match json::<String>(&bytes[*start..*end]) {
                Ok(name) => field(&path, &name),
                Err(_) => path,
            },
            Inside::Object { name: None } => path,
        };
    }
    if open.len() > DEEPEST {
        path.push('…');
    }
    path
}

#[cfg(test)]
mod tests;
