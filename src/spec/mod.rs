// SPDX-License-Identifier: Apache-2.0
//! Floor 1: words of OCI, no kernel.
//!
//! [`load`] makes [`types`] from the bytes of a config.json, [`validate`] judges them by the specification, and from there on they are
//! the plan's. [`names`] are the values that the specification knows, [`syscall`] the names in a seccomp
//! profile; [`example`] and [`features`] are what `berth spec` and
//! `berth features` print, by way of [`mod@write`].
#![forbid(unsafe_code)]

mod at;
pub mod example;
pub mod features;
#[cfg(test)]
pub mod fixtures;
pub mod load;
pub mod names;
pub mod number_list;
pub mod seccomp_file;
pub mod syscall;
mod syscall_names;
pub mod types;
pub mod validate;
pub mod write;

pub use at::{At, field, index};
pub use types::*;

use crate::error::Code;

/// One thing wrong with a configuration: where, and what the rule is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The JSON path of the field: `linux.namespaces[2].path`.
    pub at: String,
    /// What is wrong with it, naming the value: `"foo" is not an absolute path`.
    pub rule: String,
    /// What is behind it, where that is not the configuration but the host.
    pub cause: Option<Code>,
}

impl Problem {
    /// A problem at a JSON path.
    #[cold]
    pub fn new(at: impl Into<String>, rule: impl Into<String>) -> Problem {
        Problem { at: at.into(), rule: rule.into(), cause: None }
    }

    /// The same problem, with the cause that its finder knows.
    #[must_use]
    pub fn cause(mut self, cause: Code) -> Problem {
        self.cause = Some(cause);
        self
    }
}
