// SPDX-License-Identifier: Apache-2.0
//! Floor 5: words of the user. Arguments in, text and exit status out.

pub mod args;
pub mod check;
pub mod checkpointing;
pub mod explain;
pub mod given;
pub mod limits;
pub mod log;
#[cfg(test)]
#[path = "../../hack/manual.rs"]
mod manual;
#[cfg(test)]
mod manual_tests;
pub mod prometheus;
pub mod request;
pub mod seccomp;
pub mod show;
pub mod table;
pub mod timeline;
pub mod top;
pub mod verbs;
