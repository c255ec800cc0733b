// SPDX-License-Identifier: Apache-2.0
//! JSON paths: `linux.namespaces[2].path`, `linux.sysctl["net.ipv4.ip_forward"]`.

use std::fmt;

/// Where in a document something is. Going down costs nothing; the path is written out only when something is said of it.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    inside: Option<&'a At<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Document,
    Name(&'a str),
    Key(&'a str),
    Index(usize),
}

impl<'a> At<'a> {
    /// The whole document.
    pub const DOCUMENT: At<'static> = At { inside: None, step: Step::Document };

    /// The field of a name that the specification gives.
    pub fn name(&'a self, name: &'a str) -> At<'a> {
        At { inside: Some(self), step: Step::Name(name) }
    }

    /// The value of a key that the user gives.
    pub fn key(&'a self, key: &'a str) -> At<'a> {
        At { inside: Some(self), step: Step::Key(key) }
    }

    /// The element of an array.
    pub fn index(&'a self, index: usize) -> At<'a> {
        At { inside: Some(self), step: Step::Index(index) }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(inside) = self.inside else { return Ok(()) };
        inside.fmt(to)?;
        let dot = if matches!(inside.step, Step::Document) { "" } else { "." };
        match self.step {
            Step::Document => Ok(()),
            Step::Key(key) if !is_plain(key) => write!(to, "[{key:?}]"),
            Step::Name(name) | Step::Key(name) => write!(to, "{dot}{name}"),
            Step::Index(index) => write!(to, "[{index}]"),
        }
    }
}

/// True for a name that needs no quotes in a path.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The JSON path of the field `name` of the object at `path`. A name that is no plain word is quoted: `linux.sysctl["net.a"]`.
pub fn field(path: &str, name: &str) -> String {
    match (path, is_plain(name)) {
        ("", true) => name.to_string(),
        (_, true) => format!("{path}.{name}"),
        _ => format!("{path}[{name:?}]"),
    }
}

/// The JSON path of an element of the array at `path`.
pub fn index(path: &str, at: usize) -> String {
    format!("{path}[{at}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_people_write_it() {
        let document = At::DOCUMENT;
        let linux = document.name("linux");
        let namespaces = linux.name("namespaces");
        assert_eq!(document.to_string(), "");
        assert_eq!(namespaces.index(2).name("path").to_string(), "linux.namespaces[2].path");
        assert_eq!(linux.name("sysctl").key("net.a").to_string(), "linux.sysctl[\"net.a\"]");
        assert_eq!(linux.name("rdma").key("mlx5_1").to_string(), "linux.rdma.mlx5_1");
        assert_eq!(document.key("a b").to_string(), "[\"a b\"]");
        assert_eq!(field("", "root"), "root");
        assert_eq!(index(&field("linux", "a.b"), 3), "linux[\"a.b\"][3]");
    }
}
