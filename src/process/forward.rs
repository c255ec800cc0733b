// SPDX-License-Identifier: Apache-2.0
//! The foreground: `run` and `exec` that stay until the process ends. One poll(2) loop passes signals on, copies the terminal both ways,
//! keeps its size, and reaps what is left to us; nothing is waited for by SIGCHLD alone.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::error::{Error, Kind, Result, Told};
use crate::linux::pid::{self, Exit, PollFd, PollFlags};
use crate::linux::signal::{self, Set};
use crate::linux::types::Errno;
use crate::linux::{fd, tty};

/// How much is copied at once.
const CHUNK: usize = 16 << 10;

/// Signals blocked and readable, from before the process is made: none is lost, and none kills the runtime instead of being passed on.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
    before: Set,
}

impl Signals {
    /// Takes every signal that can be passed on.
    pub fn take() -> Result<Signals> {
        let told = || "cannot take over the signals".to_string();
        // What the program itself does wrong still ends it.
        let own = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGABRT, libc::SIGTRAP, libc::SIGSYS];
        let set = Set::ALL.without(&own);
        let before = signal::set_mask(set).told(told)?;
        Ok(Signals { fd: signal::signalfd(set).told(told)?, before })
    }

    /// The mask as it was.
    pub fn mask_before(&self) -> Set {
        self.before
    }
}

/// The caller's terminal and the container's, joined.
#[derive(Debug)]
struct Terminal {
    master: OwnedFd,
    /// The caller's terminal, and how it was, where standard input is one.
    outer: Option<(OwnedFd, tty::Modes)>,
    input_open: bool,
}

impl Terminal {
    fn join(master: OwnedFd) -> Result<Terminal> {
        let told = || "cannot set the terminal to raw mode".to_string();
        let stdin = std::io::stdin();
        let mut terminal = Terminal { master, outer: None, input_open: true };
        if tty::is_terminal(stdin.as_fd()) {
            let own = fd::dup_from(stdin.as_fd(), 3).told(told)?;
            let modes = tty::set_raw(&own).told(told)?;
            terminal.outer = Some((own, modes));
            terminal.resize();
        }
        Ok(terminal)
    }

    /// Gives the container's terminal the size of the caller's.
    fn resize(&self) {
        if let Some((columns, rows)) = self.outer.as_ref().and_then(|(outer, _)| tty::size(outer).ok()) {
            // A terminal that is closing has no size to change.
            let _ = tty::set_size(&self.master, columns, rows);
        }
    }

    /// Copies what is there to be read; false at the end.
    fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> bool {
        let mut buffer = [0; CHUNK];
        match fd::read_some(from, &mut buffer) {
            Ok(0) => false,
            Ok(count) => fd::write_all(to, &buffer[..count]).is_ok(),
            // A terminal whose last user has closed it reads as EIO.
            Err(error) => [Errno::EAGAIN, Errno::EINTR].contains(&error.errno),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some((outer, modes)) = &self.outer {
            // Nothing more can be done about a terminal that is gone.
            let _ = tty::restore(outer, modes);
        }
    }
}

/// Waits for the end of a process and returns its exit status, 128+N for signal N. `master` is its terminal's.
pub fn until_exit(pidfd: BorrowedFd<'_>, own_pid: i32, signals: &Signals, master: Option<OwnedFd>) -> Result<u8> {
    let mut terminal = master.map(Terminal::join).transpose()?;
    let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
    loop {
        let mut fds = vec![PollFd::new(pidfd, PollFlags::POLLIN), PollFd::new(signals.fd.as_fd(), PollFlags::POLLIN)];
        if let Some(joined) = &terminal {
            fds.push(PollFd::new(joined.master.as_fd(), PollFlags::POLLIN));
            if joined.input_open {
                fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            }
        }
        pid::poll(&mut fds, None).told(|| "cannot wait for the process".to_string())?;
        let ready: Vec<bool> = fds.iter().map(|fd| fd.revents().is_some_and(|events| !events.is_empty())).collect();
        drop(fds);
        if ready[1] {
            pass_on(pidfd, own_pid, signals, terminal.as_ref())?;
        }
        if let Some(joined) = terminal.as_mut() {
            if ready.get(3) == Some(&true) && !Terminal::copy(stdin.as_fd(), joined.master.as_fd()) {
                joined.input_open = false;
            }
            if ready.get(2) == Some(&true) && !Terminal::copy(joined.master.as_fd(), stdout.as_fd()) {
                terminal = None;
            }
        }
        if ready[0] {
            drain(terminal.as_ref());
            let exit = pid::wait(pidfd).told(|| "cannot learn how the process ended".to_string())?;
            return Ok(status(exit));
        }
    }
}

/// What the process wrote before it ended is still in its terminal.
fn drain(terminal: Option<&Terminal>) {
    let Some(joined) = terminal else { return };
    let stdout = std::io::stdout();
    while pid::wait_readable(&joined.master, Some(std::time::Duration::ZERO)).unwrap_or(false) {
        if !Terminal::copy(joined.master.as_fd(), stdout.as_fd()) {
            return;
        }
    }
}

/// Every signal that is waiting: to the process; the size of the terminal is ours to keep, dead children are ours to reap.
fn pass_on(pidfd: BorrowedFd<'_>, own_pid: i32, signals: &Signals, terminal: Option<&Terminal>) -> Result<()> {
    while let Some(info) = signal::read_signal(&signals.fd).told(|| "cannot read a signal".to_string())? {
        match info.signal {
            libc::SIGCHLD => reap_others(own_pid),
            libc::SIGURG => {}
            libc::SIGWINCH if terminal.is_some() => terminal.into_iter().for_each(Terminal::resize),
            number => match pid::send_signal(pidfd, number) {
                Err(error) if error.errno != Errno::ESRCH => {
                    return Err(Error::from(error).doing(format!("cannot pass signal {number} on")));
                }
                _ => {}
            },
        }
    }
    Ok(())
}

/// Reaps orphans of the container that were given to us, but not the process itself, whose end is read by its pidfd.
fn reap_others(own_pid: i32) {
    while let Ok(Some(ended)) = pid::peek_ended() {
        if ended == own_pid || pid::wait_pid(ended).is_err() {
            return;
        }
    }
}

/// The exit status that stands for how a process ended.
pub fn status(exit: Exit) -> u8 {
    u8::try_from(exit.status()).unwrap_or(u8::MAX)
}

/// Only for messages: a process that ended before it was expected to.
pub fn ended(exit: Exit) -> Error {
    let how = match exit {
        Exit::Code(code) => format!("exited with status {code}"),
        Exit::Signal(signal) => format!("was killed by signal {signal}"),
    };
    Error::new(Kind::Peer, format!("the container's process {how} before it was ready"))
}
