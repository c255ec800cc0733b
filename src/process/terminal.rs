// SPDX-License-Identifier: Apache-2.0
//! Two terminals joined: the caller's, in raw mode, and the container's, of which we hold the master. Called by `forward`, which does the
//! waiting.
//!
//! Neither side can stop the other or the signals: what one does not take yet is held, one piece each way, and no more is read until it
//! is gone.

use std::io::{Stdin, Stdout, stdin, stdout};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::error::{Result, Told};
use crate::linux::pid::{self, PollFd, PollFlags};
use crate::linux::types::Errno;
use crate::linux::{call, fd, tty};

/// How much is moved at once. A pipe that can be written to at all takes this much without waiting (PIPE_BUF, pipe(7)).
const PIECE: usize = 4096;
/// How long, after the end of the program, what it wrote last is waited for: others in the container may go on writing for ever.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The caller's terminal (or whatever the standard streams are) and the container's.
#[derive(Debug)]
pub struct Joined {
    master: OwnedFd,
    /// The caller's terminal, and how it was, where standard input is one.
    outer: Option<(OwnedFd, tty::Modes)>,
    stdin: Stdin,
    stdout: Stdout,
    input: Flow,
    output: Flow,
}

/// One direction: what has been read and not yet been written.
#[derive(Debug, Default)]
struct Flow {
    held: Vec<u8>,
    /// There is no more to be read.
    ended: bool,
    /// Nobody takes it any more: it is read all the same, so that the container does not stand still, and thrown away.
    lost: bool,
}

impl Flow {
    fn wants_more(&self) -> bool {
        !self.ended && self.held.is_empty()
    }

    /// Reads a piece.
    fn fill(&mut self, from: impl AsFd) {
        let mut piece = [0; PIECE];
        match fd::read_some(from, &mut piece) {
            Ok(0) => self.ended = true,
            Ok(_) if self.lost => {}
            Ok(count) => self.held.extend(&piece[..count]),
            Err(error) if error.errno == Errno::EAGAIN => {}
            // EIO: nobody in the container has the terminal open.
            Err(_) => self.ended = true,
        }
    }

    /// Writes what can be written.
    fn empty(&mut self, to: impl AsFd) {
        match nix::unistd::write(to, &self.held) {
            Ok(count) => drop(self.held.drain(..count)),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_) => {
                self.held.clear();
                self.lost = true;
            }
        }
    }
}

impl Joined {
    /// Joins the container's terminal to the caller's.
    pub fn new(master: OwnedFd) -> Result<Joined> {
        let told = || "cannot join the terminal of the container to this one".to_string();
        fd::set_nonblocking(&master, true).told(told)?;
        let (stdin, stdout) = (stdin(), stdout());
        let outer = if tty::is_terminal(&stdin) {
            let own = fd::dup_from(&stdin, 3).told(told)?;
            let modes = tty::set_raw(&own).told(told)?;
            Some((own, modes))
        } else {
            None
        };
        let joined = Joined { master, outer, stdin, stdout, input: Flow::default(), output: Flow::default() };
        joined.resize();
        Ok(joined)
    }

    /// Gives the container's terminal the size of the caller's.
    pub fn resize(&self) {
        if let Some((columns, rows)) = self.outer.as_ref().and_then(|(outer, _)| tty::size(outer).ok()) {
            // A terminal that is closing has no size to change.
            let _ = tty::set_size(&self.master, columns, rows);
        }
    }

    /// What to wait for.
    pub fn interests(&self) -> Vec<PollFd<'_>> {
        let mut fds = Vec::with_capacity(3);
        if self.input.wants_more() {
            fds.push(PollFd::new(self.stdin.as_fd(), PollFlags::POLLIN));
        }
        let mut master = PollFlags::empty();
        master.set(PollFlags::POLLIN, self.output.wants_more());
        master.set(PollFlags::POLLOUT, !self.input.held.is_empty());
        // Not at all where nothing is wanted: a terminal that nobody has open always has an end to tell.
        if !master.is_empty() {
            fds.push(PollFd::new(self.master.as_fd(), master));
        }
        if !self.output.held.is_empty() {
            fds.push(PollFd::new(self.stdout.as_fd(), PollFlags::POLLOUT));
        }
        fds
    }

    /// Moves what can be moved.
    pub fn go_on(&mut self) -> call::Result<()> {
        if self.input.wants_more() && ready(&self.stdin, PollFlags::POLLIN)? {
            self.input.fill(&self.stdin);
        }
        if !self.input.held.is_empty() {
            self.input.empty(&self.master);
        }
        if self.output.wants_more() {
            self.output.fill(&self.master);
        }
        if !self.output.held.is_empty() && ready(&self.stdout, PollFlags::POLLOUT)? {
            self.output.empty(&self.stdout);
        }
        Ok(())
    }

    /// After the end of the program: what it wrote is still in its terminal.
    pub fn last_words(&mut self) -> call::Result<()> {
        let end = Instant::now() + LAST_WORDS;
        self.input.ended = true;
        self.input.held.clear();
        while Instant::now() < end {
            if !self.output.held.is_empty() {
                if ready(&self.stdout, PollFlags::POLLOUT)? {
                    self.output.empty(&self.stdout);
                }
            } else if !self.output.ended && ready(&self.master, PollFlags::POLLIN)? {
                self.output.fill(&self.master);
            } else {
                break;
            }
        }
        Ok(())
    }
}

impl Drop for Joined {
    /// The caller's terminal gets its modes back.
    fn drop(&mut self) {
        if let Some((outer, modes)) = &self.outer {
            // Nothing more can be done about a terminal that is gone.
            let _ = tty::restore(outer, modes);
        }
    }
}

/// Whether `fd` can be read or written at once, or has an end or an error to tell.
fn ready(fd: impl AsFd, what: PollFlags) -> call::Result<bool> {
    Ok(pid::poll(&mut [PollFd::new(fd.as_fd(), what)], Some(Duration::ZERO))? > 0)
}
