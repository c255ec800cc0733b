// SPDX-License-Identifier: Apache-2.0
//! How long CRIU is waited for. It takes as long as it takes; but a person or a service manager may have had enough, pages that come from
//! elsewhere may never come, and CRIU itself can wait for ever: where a restore fails late, it kills the container's first process and waits
//! for its end, while that process waits for its children, which CRIU is still tracing. Called by the rest of this folder.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use crate::error::{Result, Told};
use crate::linux::pid::{self, PollFd, PollFlags};
use crate::linux::proc;

/// How often is looked.
const TURN: Duration = Duration::from_millis(500);
/// After how many turns whoever waits is told why.
const LONG: u32 = 10;
/// For how many turns the first process may be on its way out before CRIU says that it has failed.
const STUCK_TURNS: u32 = 4;
/// For how many turns CRIU may take its leave when the processes are restored: a signal that comes meanwhile is for them.
const LEAVE_TURNS: u32 = 4;
/// What is told of [`Ended::Stuck`].
pub(super) const STUCK: &str =
    "CRIU had given up and killed what it had restored, but did not come to its own end: it was killed";

/// Who may break it off, and who is told that it takes long.
pub struct Patience<'a> {
    /// Becomes readable when it is to be broken off.
    interrupt: Option<BorrowedFd<'a>>,
    /// Is called once, when it has taken long.
    long: Option<&'a dyn Fn()>,
    /// The restored container's first process, a child of ours.
    first: Option<i32>,
    restored: bool,
    waited: u32,
    leaving: u32,
    /// Turns since a signal asked for an end, when all was restored.
    asked: u32,
}

/// Why it is not waited for any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// A signal asked for an end.
    Interrupted,
    /// CRIU waits for what will not come.
    Stuck,
}

impl<'a> Patience<'a> {
    /// For ever: whoever wants no more kills the runtime, and CRIU takes back what it did. For dumps.
    pub fn endless() -> Patience<'a> {
        Patience { interrupt: None, long: None, first: None, restored: false, waited: 0, leaving: 0, asked: 0 }
    }

    /// Until `interrupt` is readable. `long` is called when it has taken 5 s, which is no reason to give up.
    pub fn until(interrupt: Option<BorrowedFd<'a>>, long: Option<&'a dyn Fn()>) -> Patience<'a> {
        Patience { interrupt, long, ..Patience::endless() }
    }

    /// CRIU has told of the container's first process, or of none.
    pub(super) fn first_process(&mut self, pid: i32) {
        self.first = Some(pid).filter(|pid| *pid > 0 && self.interrupt.is_some()).or(self.first);
    }

    /// The processes are there, and are about to go on.
    pub(super) fn restored(&mut self) {
        self.restored = true;
    }

    /// Until there is something to be read from `socket`: none. Otherwise, why that is not waited for.
    pub(super) fn wait(&mut self, socket: impl AsFd) -> Result<Option<Ended>> {
        let told = || "cannot wait for CRIU".to_string();
        loop {
            let mut fds = vec![PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
            // Once it asks, and is to have patience, it would be ready all the time.
            fds.extend(self.interrupt.filter(|_| self.asked == 0).map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
            pid::poll(&mut fds, self.interrupt.map(|_| TURN)).told(told)?;
            let heard = fds[0].any() == Some(true);
            if fds.get(1).and_then(PollFd::any) == Some(true) {
                if !self.restored {
                    return Ok(Some(Ended::Interrupted));
                }
                self.asked = 1;
            }
            if heard {
                return Ok(None);
            }
            if let Some(ended) = self.turn() {
                return Ok(Some(ended));
            }
        }
    }

    /// Nothing was heard for a while.
    fn turn(&mut self) -> Option<Ended> {
        self.waited += 1;
        if let Some(long) = self.long.filter(|_| self.waited == LONG) {
            long();
        }
        // What cannot be looked at now can be the next time.
        let stat = self.first.and_then(|pid| proc::pid_stat(pid).ok().flatten());
        self.leaving = if stat.is_some_and(|stat| stat.exiting) { self.leaving + 1 } else { 0 };
        self.asked += u32::from(self.asked > 0);
        match (self.leaving >= STUCK_TURNS, self.asked > LEAVE_TURNS) {
            (true, _) => Some(Ended::Stuck),
            (_, true) => Some(Ended::Interrupted),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::linux::clone::{CloneArgs, Cloned, clone3, exit_now};
    use crate::linux::fd;
    use crate::linux::test_child::in_child;

    #[test]
    fn what_is_heard_comes_first_but_for_an_end() {
        let (silent, _write) = fd::pipe().unwrap();
        let (speaking, write) = fd::pipe().unwrap();
        nix::unistd::write(&write, b"x").unwrap();
        assert_eq!(Patience::endless().wait(&speaking).unwrap(), None);
        assert_eq!(Patience::until(Some(silent.as_fd()), None).wait(&speaking).unwrap(), None);
        let mut ended = Patience::until(Some(speaking.as_fd()), None);
        assert_eq!(ended.wait(&silent).unwrap(), Some(Ended::Interrupted));
        assert_eq!(ended.wait(&speaking).unwrap(), Some(Ended::Interrupted));
        let mut late = Patience::until(Some(speaking.as_fd()), None);
        late.restored();
        assert_eq!(late.wait(&speaking).unwrap(), None, "what is restored gets the signal");
        late.asked = LEAVE_TURNS;
        assert_eq!(late.wait(&silent).unwrap(), Some(Ended::Interrupted), "unless that takes too long");
    }

    #[test]
    fn a_first_process_that_is_gone_means_that_nothing_comes() {
        in_child(|| {
            let (silent, _write) = fd::pipe().unwrap();
            let Cloned::Parent { pid, pidfd } = clone3(&CloneArgs::default()).unwrap() else { exit_now(0) };
            let told = Cell::new(0);
            let long = || told.set(told.get() + 1);
            let mut patience = Patience::until(Some(silent.as_fd()), Some(&long));
            patience.waited = LONG - 1;
            patience.first_process(pid);
            assert_eq!(patience.wait(&silent).unwrap(), Some(Ended::Stuck));
            assert_eq!(told.get(), 1);
            pid::wait(&pidfd).unwrap();
        });
    }
}
