// SPDX-License-Identifier: Apache-2.0
//! berth, a low-level OCI container runtime for Linux.
//!
//! The floors, in reading order (an arrow may only go down; `floors` in `integration/` holds the table to account):
//!
//! ```text
//!  bundle/config.json ──spec::load──► Spec ───┐
//!  argv ──cli──► Request ─────────────────────┼─ plan::create(&Spec,&Request,&Host) ─► Plan ─► container::create
//!  kernel ──linux::probe──► Host ─────────────┘      PURE: no I/O, no unsafe                │
//!                                                      parent: cgroup, clone3, id maps, hooks ── process::spawn
//!                                                      child : Vec<Step> in order ── process::init ──► execve
//!                                                      saved : State ── container::state (atomic rename)
//!
//!  5 cli ─► 4 container ─► 3 cgroup rootfs process hooks … ─► 2 plan ─► 1 spec
//!                     └──────────────────────────► 0 linux ◄── 3      (2 plan ─► 0 linux::types only)
//! ```
#![warn(missing_docs)]
// The ways around the kernel's floor that clippy.toml lists are for tests and tools, which make and look at files of the host.
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

// hack/manual.rs is a program and, for its test, a module.
#[cfg(test)]
extern crate self as berth;

pub mod cgroup;
pub mod cli;
pub mod container;
pub mod criu;
pub mod error;
#[cfg(test)]
mod floors;
pub mod hooks;
#[allow(clippy::disallowed_methods, reason = "this is the kernel's floor, which wraps these calls")]
pub mod linux;
pub mod netdev;
pub mod plan;
pub mod process;
pub mod rdt;
pub mod rootfs;
pub mod spec;
pub mod texts;
pub mod trace;
