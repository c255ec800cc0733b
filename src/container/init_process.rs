// SPDX-License-Identifier: Apache-2.0
//! A hold on a container's first process that no reuse of its pid can move to another.

use std::os::fd::OwnedFd;

use super::state::State;
use super::store::lives;
use crate::error::{Result, Told};
use crate::linux::types::Errno;
use crate::linux::{fd, pid};

/// A pidfd of the container's process, if it lives: opened first and checked afterwards, so that it cannot be another's.
pub fn open(state: &State) -> Result<Option<OwnedFd>> {
    if state.init_process_pid <= 0 {
        return Ok(None);
    }
    let pidfd = match pid::pidfd_open(state.init_process_pid) {
        Ok(pidfd) => pidfd,
        Err(error) if error.errno == Errno::ESRCH => return Ok(None),
        other => other.told(|| format!("cannot open process {} of {}", state.init_process_pid, state.id))?,
    };
    Ok(lives(state.init_process_pid, state.init_process_start, &state.boot_id)?.then_some(pidfd))
}

/// What the standard streams of a process lead to, as links in /proc name it; empty where that cannot be seen, as runc has it. `pid` is
/// None for this process: whoever has got them from it has the same, at a third of the price.
pub fn streams(pid: Option<i32>) -> Vec<String> {
    let process = pid.map_or_else(|| "self".to_string(), |pid| pid.to_string());
    let leads_to = |number: i32| fd::readlink(format!("/proc/{process}/fd/{number}"));
    (0..3).map(|number| leads_to(number).map(|link| link.to_string_lossy().into_owned()).unwrap_or_default()).collect()
}
