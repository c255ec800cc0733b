// SPDX-License-Identifier: Apache-2.0
//! config.md.
mod annotations;
mod hook_phases;
mod hooks;
mod idmap;
mod mount_options;
mod mounts;
mod process;
mod recursive_options;

use crate::entry::Section;
pub use idmap::user_namespace;
pub use mounts::mount;

pub const SECTIONS: &[Section] = &[
    mounts::SPECIFICATION_VERSION,
    mounts::ROOT,
    mounts::MOUNTS,
    mount_options::OPTIONS,
    recursive_options::OPTIONS,
    idmap::OPTIONS,
    idmap::POSIX_MOUNTS,
    process::PROCESS,
    process::POSIX_PROCESS,
    process::LINUX_PROCESS,
    annotations::PLATFORM,
    hooks::HOOKS,
    hook_phases::PRESTART,
    hook_phases::CREATE_RUNTIME,
    hook_phases::CREATE_CONTAINER,
    hook_phases::START_CONTAINER,
    hook_phases::POSTSTART,
    hook_phases::POSTSTOP,
    annotations::ANNOTATIONS,
    annotations::EXTENSIBILITY,
    annotations::VALID_VALUES,
];
