// SPDX-License-Identifier: Apache-2.0
//! `run` in the foreground: stay until the program ends, pass signals and the terminal on, and end as it did.

use crate::error::Result;
use crate::process::forward::{self, Signals};
use crate::process::spawn::Spawned;

/// Waits for the container's process and returns its exit status, 128+N when signal N ended it.
pub fn wait(mut spawned: Spawned, signals: &Signals) -> Result<u8> {
    let master = spawned.take_master();
    forward::until_exit(spawned.pidfd(), spawned.pid(), signals, master)
}
