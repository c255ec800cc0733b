// SPDX-License-Identifier: Apache-2.0
//! `kill`: send a signal to the container's process (runtime.md, Kill).
//!
//! 1. A container that is neither created nor running gets an error, and no signal.
//! 2. The signal goes to the first process, by pidfd, which is all that says whether it is there; or, with `--all`, and for SIGKILL where
//!    the container has no pid namespace that would die with its first process, to every process of its cgroup.

use super::init_process;
use super::state::{State, Status};
use super::store::{Entry, Store};
use crate::cgroup::Cgroup;
use crate::error::{Error, Kind, Result, Told};
use crate::linux::pid;
use crate::linux::types::Errno;
use crate::plan::Id;

/// Sends a signal to a container.
pub fn kill(store: &Store, id: &Id, signal: i32, all: bool) -> Result<()> {
    let entry = store.get(id)?;
    let mut state = entry.load()?;
    // Where it is not being made any more, all that matters of its status is whether its process lives.
    let mut making = None;
    if state.creating {
        let (now, status) = entry.settle(state)?;
        making = now.creating.then_some(status);
        state = now;
    }
    let whole = all || (signal == libc::SIGKILL && !state.own_pid_namespace);
    if whole && making != Some(Status::Creating) {
        let reached = signal_all(&state, signal)?;
        return if reached || all { Ok(()) } else { Err(not_running(&entry, entry.status(&state)?)) };
    }
    if let Some(status) = making {
        return Err(not_running(&entry, status));
    }
    match init_process::open(&state)? {
        Some(pidfd) => match pid::send_signal(&pidfd, signal) {
            Err(error) if error.errno == Errno::ESRCH => Err(not_running(&entry, Status::Stopped)),
            other => other.told(|| format!("cannot send signal {signal} to {id}")),
        },
        None => Err(not_running(&entry, Status::Stopped)),
    }
}

/// Sends a signal to every process of the container's cgroup: whether there was any.
fn signal_all(state: &State, signal: i32) -> Result<bool> {
    let cgroup = Cgroup::reopen(&state.cgroup)?;
    let pids = cgroup.pids()?;
    if signal == libc::SIGKILL {
        cgroup.kill()?;
    } else {
        // A process may have ended since, and its number be a stranger's: what is held is ours only if the cgroup still lists it.
        let held: Vec<_> = pids.iter().filter_map(|pid| Some((*pid, pid::pidfd_open(*pid).ok()?))).collect();
        let still = cgroup.pids()?;
        for (pid, pidfd) in held.into_iter().filter(|(pid, _)| still.contains(pid)) {
            match pid::send_signal(&pidfd, signal) {
                Err(error) if error.errno != Errno::ESRCH => {
                    return Err(error).told(|| format!("cannot send signal {signal} to process {pid} of {}", state.id));
                }
                _ => {}
            }
        }
    }
    if let (true, Some(pidfd)) = (pids.is_empty(), init_process::open(state)?) {
        // Without a cgroup of its own the container still has its first process.
        pid::send_signal(&pidfd, signal).told(|| format!("cannot send signal {signal} to {}", state.id))?;
        return Ok(true);
    }
    Ok(!pids.is_empty())
}

fn not_running(entry: &Entry, status: Status) -> Error {
    let hint = format!("{} is {}; `state {}` shows it", entry.id(), status.name(), entry.id());
    Error::new(Kind::Status, "container not running").hint(hint)
}
