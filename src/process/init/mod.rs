// SPDX-License-Identifier: Apache-2.0
//! The container's process, from clone3(2) to execve(2).

pub mod home;
pub mod identity;
pub mod program;
