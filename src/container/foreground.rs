// SPDX-License-Identifier: Apache-2.0
//! `run` in the foreground: stay until the program ends, pass signals and the terminal on, and end as it did.

use super::notify::NotifySocket;
use crate::error::Result;
use crate::process::forward::{self, Signals, Watch};
use crate::process::spawn::Spawned;

/// Waits for the process and returns its exit status, 128+N when signal N ended it. What it says of being ready is passed on. Where it
/// cannot be waited for, it is killed: nobody would know of it, and its terminal is gone.
pub fn wait(mut spawned: Spawned, signals: &Signals, notify: Option<&NotifySocket>) -> Result<u8> {
    let (master, pid) = (spawned.take_master(), spawned.pid());
    let ended = match notify {
        None => forward::until_exit(spawned.pidfd(), pid, signals, master),
        Some(notify) => {
            let mut ready = || notify.listen(pid).map(|heard| !heard);
            let watch = Watch { fd: notify.fd(), ready: &mut ready };
            forward::until_exit_watching(spawned.pidfd(), pid, signals, master, Some(watch))
        }
    };
    ended.inspect_err(|_| spawned.kill())
}
