// SPDX-License-Identifier: Apache-2.0
//! runtime.md and runtime-linux.md.
mod create;
mod end;
mod lifecycle;
mod linux;
mod start;
mod state;

use crate::entry::Section;

pub const SECTIONS: &[Section] = &[
    state::SCOPE,
    state::STATE,
    lifecycle::LIFECYCLE,
    state::ERRORS,
    state::WARNINGS,
    state::OPERATIONS,
    create::QUERY_STATE,
    create::CREATE,
    start::START,
    end::KILL,
    end::DELETE,
    linux::SYMLINKS,
];
