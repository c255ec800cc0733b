// SPDX-License-Identifier: Apache-2.0
//! features.md and features-linux.md.
mod linux;
mod structure;

use crate::entry::Section;

pub const SECTIONS: &[Section] = &[
    structure::STRUCTURE,
    structure::VERSION,
    structure::HOOKS,
    structure::MOUNT_OPTIONS,
    structure::ANNOTATIONS,
    linux::NAMESPACES,
    linux::CAPABILITIES,
    linux::SECCOMP,
    linux::MEMORY_POLICY,
    linux::MOUNT_EXTENSIONS,
];
