// SPDX-License-Identifier: Apache-2.0
//! Floor 1: words of OCI, no kernel.

pub mod types;

pub use types::*;

/// One thing wrong with a configuration: where, and what the rule is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The JSON path of the field: `linux.namespaces[2].path`.
    pub at: String,
    /// What is wrong with it, naming the value: `"foo" is not an absolute path`.
    pub rule: String,
}

impl Problem {
    /// A problem at a JSON path.
    pub fn new(at: impl Into<String>, rule: impl Into<String>) -> Problem {
        Problem { at: at.into(), rule: rule.into() }
    }
}
