// SPDX-License-Identifier: Apache-2.0
//! Floor 2, PURE: what will be done, decided once.
pub mod seccomp;
