// SPDX-License-Identifier: Apache-2.0
//! Black-box tests that drive a runtime binary, as `hack/test` runs them (or `cargo test --test integration -- WORD…`).
//!
//! usage: integration [--list] [--jobs N] [WORD…]
//!
//! Without a WORD all tests run, otherwise those whose name contains one of them. RUNTIME names the binary; without it
//! the freshly built `berth` is taken. The same tests hold for any OCI runtime with runc's command line: where another
//! one differs, the test says so with its reason (`.differs`). A test looks from inside the container or at the kernel,
//! not at the runtime's words. It needs root, and is best run under `hack/native` or `hack/vm`.
//!
//! Every test prints one line (`ok`, `FAIL` or `skip`); the last line counts them. The exit status is 1 if any failed.
//!
//! To add a test: write a plain function in the file of its group, and name it in that file's `TESTS`.

// A failed `unwrap` is a failed test, with its place.
#![allow(clippy::unwrap_used)]

mod arguments;
mod bad_input;
mod callers;
mod cgroup;
mod check;
mod checkpoint;
mod codes;
mod contract;
mod crash;
mod cve;
mod delegation;
mod descriptors;
mod errors;
mod events;
mod exec;
mod fields_filesystems;
mod fields_kernel;
mod fields_linux;
mod fields_mounts;
mod fields_process;
mod fields_seccomp;
mod fields_table;
mod harness;
mod hooks;
mod kept_programs;
mod lifecycle;
mod limits;
mod live_mounts;
mod lsm;
mod mount_namespace;
mod mounts;
mod namespaces;
mod outputs;
mod pipes;
mod process;
mod rootfs;
mod rootless;
mod run;
mod seccomp;
mod seccomp_tools;
mod systemd;
mod terminal;
mod timeline;
mod update;
mod usage;
mod v1;

use harness::run::{Group, main_with};

/// All tests, in the order in which they are run.
pub const GROUPS: &[Group] = &[
    Group { name: "lifecycle", tests: lifecycle::TESTS },
    Group { name: "crash", tests: crash::TESTS },
    Group { name: "run", tests: run::TESTS },
    Group { name: "descriptors", tests: descriptors::TESTS },
    Group { name: "exec", tests: exec::TESTS },
    Group { name: "namespaces", tests: namespaces::TESTS },
    Group { name: "process", tests: process::TESTS },
    Group { name: "rootfs", tests: rootfs::TESTS },
    Group { name: "mounts", tests: mounts::TESTS },
    Group { name: "mount_namespace", tests: mount_namespace::TESTS },
    Group { name: "kept_programs", tests: kept_programs::TESTS },
    Group { name: "live_mounts", tests: live_mounts::TESTS },
    Group { name: "terminal", tests: terminal::TESTS },
    Group { name: "seccomp", tests: seccomp::TESTS },
    Group { name: "cgroup", tests: cgroup::TESTS },
    Group { name: "limits", tests: limits::TESTS },
    Group { name: "delegation", tests: delegation::TESTS },
    Group { name: "update", tests: update::TESTS },
    Group { name: "events", tests: events::TESTS },
    Group { name: "usage", tests: usage::TESTS },
    Group { name: "v1", tests: v1::TESTS },
    Group { name: "systemd", tests: systemd::TESTS },
    Group { name: "rootless", tests: rootless::TESTS },
    Group { name: "hooks", tests: hooks::TESTS },
    Group { name: "fields_process", tests: fields_process::TESTS },
    Group { name: "fields_mounts", tests: fields_mounts::TESTS },
    Group { name: "fields_linux", tests: fields_linux::TESTS },
    Group { name: "fields_filesystems", tests: fields_filesystems::TESTS },
    Group { name: "fields_seccomp", tests: fields_seccomp::TESTS },
    Group { name: "fields_kernel", tests: fields_kernel::TESTS },
    Group { name: "fields_table", tests: fields_table::TESTS },
    Group { name: "lsm", tests: lsm::TESTS },
    Group { name: "errors", tests: errors::TESTS },
    Group { name: "check", tests: check::TESTS },
    Group { name: "codes", tests: codes::TESTS },
    Group { name: "timeline", tests: timeline::TESTS },
    Group { name: "seccomp_tools", tests: seccomp_tools::TESTS },
    Group { name: "arguments", tests: arguments::TESTS },
    Group { name: "outputs", tests: outputs::TESTS },
    Group { name: "pipes", tests: pipes::TESTS },
    Group { name: "callers", tests: callers::TESTS },
    Group { name: "contract", tests: contract::TESTS },
];

fn main() {
    main_with(&[GROUPS, checkpoint::GROUPS, cve::GROUPS, bad_input::GROUPS]);
}
