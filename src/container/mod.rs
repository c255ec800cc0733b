// SPDX-License-Identifier: Apache-2.0
//! Floor 4: the life of a container, one file per verb; each begins with the steps that the specification gives it (runtime.md).

pub mod bundle;
pub mod check;
pub mod checkpoint;
pub mod create;
pub mod delete;
pub mod diff;
pub mod events;
pub mod exec;
pub mod exec_config;
pub mod features;
pub mod foreground;
pub mod host;
pub mod identity;
pub mod init_process;
pub mod journal;
pub mod kill;
pub mod list;
pub mod mounts;
pub mod notify;
pub mod pause;
pub mod plug;
pub mod ps;
pub mod record;
pub mod restore;
mod restore_given;
pub mod runc_fields;
pub mod start;
pub mod state;
pub mod store;
pub mod update;
pub mod usage;
