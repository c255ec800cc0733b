// SPDX-License-Identifier: Apache-2.0
//! The `berth` program.
fn main() {}
