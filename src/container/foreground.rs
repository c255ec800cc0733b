// SPDX-License-Identifier: Apache-2.0
//! `run` in the foreground: stay until the program ends, pass signals and the terminal on, and end as it did.

use super::notify::NotifySocket;
use crate::cgroup::Cgroup;
use crate::cgroup::oom::Witness;
use crate::error::Result;
use crate::linux::pid::PollFlags;
use crate::process::forward::{self, Signals, Watch};
use crate::process::spawn::Spawned;

/// Waits for the process and returns its exit status, 128+N when signal N ended it. What it says of being ready is passed on, and what
/// its cgroup says of memory goes to the witness. Where it cannot be waited for, it is killed: nobody would know of it, and its terminal
/// is gone.
pub fn wait(
    mut spawned: Spawned<'_>,
    signals: &Signals,
    notify: Option<&NotifySocket>,
    witness: Option<(&Witness, &Cgroup)>,
) -> Result<u8> {
    let (master, pid) = (spawned.take_master(), spawned.pid());
    let mut listen = notify.map(|notify| (notify.fd(), move || notify.listen(pid).map(|heard| !heard)));
    let mut look = witness.map(|(witness, cgroup)| (witness.fd(), || Ok(witness.heard(cgroup))));
    let mut watches = Vec::new();
    if let Some((fd, ready)) = &mut listen {
        watches.push(Watch { fd: *fd, events: PollFlags::POLLIN, ready });
    }
    if let Some((fd, ready)) = &mut look {
        watches.push(Watch { fd: *fd, events: PollFlags::POLLPRI, ready });
    }
    let ended = forward::until_exit_watching(spawned.pidfd(), pid, signals, master, watches);
    match ended {
        // The command ends soon, and with it all that it has open.
        Ok(_) => std::mem::forget(spawned),
        Err(_) => spawned.kill(),
    }
    ended
}
