// SPDX-License-Identifier: Apache-2.0
//! Floor 0: words of the kernel. Knows no OCI, and holds all `unsafe` of the program.
//!
//! Each call that can fail returns a [`call::CallError`], which reads as strace(1) would print it. Handles are `OwnedFd`s, opened
//! close-on-exec; paths inside a root filesystem are only opened through [`fd::Root`].

pub mod arena;
pub mod bpf;
#[cfg(all(target_arch = "x86_64", any(test, target_env = "musl")))]
mod bytes;
pub mod call;
pub mod clone;
pub mod cred;
pub mod environment;
mod errno;
pub mod exe;
pub mod fd;
pub mod inotify;
pub mod memory;
pub mod mount;
pub mod netlink;
pub mod once;
pub mod pid;
pub mod probe;
pub mod proc;
pub mod regex;
pub mod sched;
pub mod seccomp;
pub mod signal;
pub mod socket;
pub mod start;
pub mod status;
#[cfg(test)]
pub(crate) mod test_child;
pub mod time;
pub mod tty;
pub mod types;
