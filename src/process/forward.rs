// SPDX-License-Identifier: Apache-2.0
//! The foreground: `run` and `exec` that stay until the process ends. One poll(2) loop passes signals on, copies the terminal both ways,
//! keeps its size, and reaps what is left to us; nothing is waited for by SIGCHLD alone.

use std::cell::OnceCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::error::{Error, Result, Told};
use crate::linux::pid::{self, Exit, PollFd, PollFlags};
use crate::linux::signal::{self, Set};
use crate::linux::types::Errno;
use crate::process::terminal::Joined;

/// Signals blocked and readable, from before the process is made: none is lost, and none kills the runtime instead of being passed on.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
    before: Set,
    /// Readable while a signal waits that asks for an end. They stay to be read from the other. Mostly nobody needs it.
    ending: OnceCell<OwnedFd>,
}

/// What a person or a service manager sends to end a command.
const ENDING: [i32; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

impl Signals {
    /// Takes every signal that can be passed on.
    pub fn take() -> Result<Signals> {
        let told = || "cannot take over the signals".to_string();
        // What the program itself does wrong still ends it.
        let own = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGABRT, libc::SIGTRAP, libc::SIGSYS];
        let set = Set::ALL.without(&own);
        let before = signal::set_mask(set).told(told)?;
        Ok(Signals { fd: signal::signalfd(set).told(told)?, before, ending: OnceCell::new() })
    }

    /// What becomes readable when the command shall end. As long as there is no program, nobody else would heed that.
    pub fn ending(&self) -> Result<BorrowedFd<'_>> {
        if self.ending.get().is_none() {
            let made = signal::signalfd(Set::of(&ENDING)).told(|| "cannot watch for signals".to_string())?;
            return Ok(self.ending.get_or_init(|| made).as_fd());
        }
        Ok(self.some())
    }

    /// What becomes readable at the latest then, for whoever asks [`Signals::ask_for_an_end`] whether it is so: any signal may have come
    /// at first, and once that has been asked, no other any more.
    pub fn some(&self) -> BorrowedFd<'_> {
        self.ending.get().unwrap_or(&self.fd).as_fd()
    }

    /// Whether the command shall end.
    pub fn ask_for_an_end(&self) -> Result<bool> {
        pid::wait_readable(self.ending()?, Some(Duration::ZERO)).told(|| "cannot watch for signals".to_string())
    }

    /// The mask as it was.
    pub fn mask_before(&self) -> Set {
        self.before
    }
}

/// Something else to look after meanwhile: called when something is heard from its descriptor, until it says that it is done.
pub struct Watch<'a> {
    /// What something is heard from.
    pub fd: BorrowedFd<'a>,
    /// What is heard: that it is readable, or has news.
    pub events: PollFlags,
    /// What to do then; false when there is no more to do.
    pub ready: &'a mut dyn FnMut() -> Result<bool>,
}

/// Waits for the end of a process and returns its exit status, 128+N for signal N. `master` is its terminal's.
pub fn until_exit(pidfd: BorrowedFd<'_>, own_pid: i32, signals: &Signals, master: Option<OwnedFd>) -> Result<u8> {
    until_exit_watching(pidfd, own_pid, signals, master, Vec::new())
}

/// As [`until_exit`], looking after something else as well.
pub fn until_exit_watching(
    pidfd: BorrowedFd<'_>,
    own_pid: i32,
    signals: &Signals,
    master: Option<OwnedFd>,
    mut watches: Vec<Watch<'_>>,
) -> Result<u8> {
    let told = || "cannot wait for the process".to_string();
    let mut terminal = master.map(Joined::new).transpose()?;
    loop {
        let mut fds = vec![PollFd::new(pidfd, PollFlags::POLLIN), PollFd::new(signals.fd.as_fd(), PollFlags::POLLIN)];
        fds.extend(watches.iter().map(|watch| PollFd::new(watch.fd, watch.events)));
        fds.extend(terminal.iter().flat_map(Joined::interests));
        pid::poll(&mut fds, None).told(told)?;
        let (ended, signalled) = (fds[0].any() == Some(true), fds[1].any() == Some(true));
        let heard: Vec<bool> = fds[2..2 + watches.len()].iter().map(|fd| fd.any() == Some(true)).collect();
        // To one that has ended nothing can be passed on, and whoever it has left to us is nobody's concern any more.
        if signalled && !ended {
            pass_on(pidfd, own_pid, signals, terminal.as_ref())?;
        }
        look_after(&mut watches, &heard)?;
        if let Some(joined) = &mut terminal {
            if ended { joined.last_words() } else { joined.go_on() }.told(|| "cannot pass the terminal on".into())?;
        }
        if ended {
            let exit = pid::wait(pidfd).told(|| "cannot learn how the process ended".to_string())?;
            return Ok(status(exit));
        }
    }
}

/// Lets go of those that have no more to do.
fn look_after(watches: &mut Vec<Watch<'_>>, heard: &[bool]) -> Result<()> {
    let (mut heard, mut done) = (heard.iter(), Ok(()));
    watches.retain_mut(|watch| match heard.next() {
        Some(true) => (watch.ready)().unwrap_or_else(|error| {
            done = Err(error);
            false
        }),
        _ => true,
    });
    done
}

/// Every signal that is waiting: to the process; the size of the terminal is ours to keep, dead children are ours to reap.
fn pass_on(pidfd: BorrowedFd<'_>, own_pid: i32, signals: &Signals, terminal: Option<&Joined>) -> Result<()> {
    loop {
        let came = signal::read_signals(&signals.fd).told(|| "cannot read a signal".to_string())?;
        for info in &came {
            match info.signal {
                libc::SIGCHLD => reap_others(own_pid),
                libc::SIGURG => {}
                libc::SIGWINCH if terminal.is_some() => terminal.into_iter().for_each(Joined::resize),
                number => match pid::send_signal(pidfd, number) {
                    Err(error) if error.errno != Errno::ESRCH => {
                        return Err(Error::from(error).doing(format!("cannot pass signal {number} on")));
                    }
                    _ => {}
                },
            }
        }
        if came.len() < signal::AT_ONCE {
            return Ok(());
        }
    }
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

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::time::Instant;

    use super::*;
    use crate::linux::clone::{CloneArgs, Cloned, clone3, execve, exit_now};
    use crate::linux::test_child::in_child;
    use crate::linux::{cred, fd, tty};

    /// A process that runs `sh -c SCRIPT`, on a terminal or with our streams.
    fn shell(script: &str, terminal: Option<&OwnedFd>) -> (i32, OwnedFd) {
        match clone3(&CloneArgs::default()).unwrap() {
            Cloned::Parent { pid, pidfd } => (pid, pidfd),
            Cloned::Child => {
                cred::setsid().unwrap();
                if let Some(terminal) = terminal {
                    tty::set_controlling(terminal).unwrap();
                    (0..3).for_each(|number| fd::dup_onto(terminal, number).unwrap());
                }
                signal::reset().unwrap();
                let strings = |list: &[&str]| list.iter().map(|s| CString::new(*s).unwrap()).collect::<Vec<_>>();
                let _ = execve(c"/bin/sh", &strings(&["sh", "-c", script]), &strings(&["PATH=/usr/bin:/bin"]));
                exit_now(1)
            }
        }
    }

    #[test]
    fn signals_go_to_the_process_and_its_end_is_ours() {
        in_child(|| {
            pid::set_child_subreaper(true).unwrap();
            let signals = Signals::take().unwrap();
            let (reader, writer) = fd::pipe().unwrap();
            fd::dup_onto(&writer, 1).unwrap();
            drop(writer);
            // Leaves an orphan to us, too.
            let script = "trap 'exit 9' TERM; (true &); echo ready; while :; do sleep 0.05; done";
            let (pid, pidfd) = shell(script, None);
            fd::read_some(&reader, &mut [0; 16]).unwrap();
            pid::kill(pid::getpid(), libc::SIGURG).unwrap();
            pid::kill(pid::getpid(), libc::SIGTERM).unwrap();
            assert_eq!(until_exit(pidfd.as_fd(), pid, &signals, None).unwrap(), 9);
            let (pid, pidfd) = shell("kill -KILL $$", None);
            assert_eq!(until_exit(pidfd.as_fd(), pid, &signals, None).unwrap(), 137);
        });
    }

    #[test]
    fn what_asks_for_an_end_is_told_from_the_rest_and_stays() {
        in_child(|| {
            let signals = Signals::take().unwrap();
            let readable = |fd: BorrowedFd<'_>| pid::wait_readable(fd, Some(Duration::ZERO)).unwrap();
            assert!(!readable(signals.some()));
            pid::kill(pid::getpid(), libc::SIGUSR1).unwrap();
            assert!(readable(signals.some()) && !signals.ask_for_an_end().unwrap());
            assert!(!readable(signals.some()), "now it is about the end alone");
            pid::kill(pid::getpid(), libc::SIGTERM).unwrap();
            assert!(readable(signals.some()) && signals.ask_for_an_end().unwrap() && readable(signals.ending().unwrap()));
            let came = signal::read_signals(&signals.fd).unwrap();
            assert_eq!(came.iter().map(|info| info.signal).collect::<Vec<_>>(), [libc::SIGUSR1, libc::SIGTERM]);
        });
    }

    /// Reads a terminal until it shows `text`.
    fn wait_for(master: &OwnedFd, text: &str) -> String {
        let (mut seen, end) = (String::new(), Instant::now() + Duration::from_secs(20));
        while !seen.contains(text) {
            assert!(Instant::now() < end, "{text:?} is not in {seen:?}");
            let mut buffer = [0; 4096];
            if pid::wait_readable(master, Some(Duration::from_millis(100))).unwrap() {
                let count = fd::read_some(master, &mut buffer).unwrap();
                seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        }
        seen
    }

    #[test]
    fn two_terminals_are_one_until_the_end() {
        in_child(|| {
            let devpts = fd::open_dir("/dev/pts").unwrap();
            let (outer, inner) = (tty::open_terminal(&devpts).unwrap(), tty::open_terminal(&devpts).unwrap());
            tty::set_size(&outer.peer, 91, 17).unwrap();
            let before = nix::sys::termios::tcgetattr(&outer.peer).unwrap();
            let (verdict, judge) = fd::pipe().unwrap();
            let Cloned::Parent { .. } = clone3(&CloneArgs::default()).unwrap() else {
                // Whoever sits at the outer terminal.
                wait_for(&outer.master, "17 91");
                fd::write_all(&outer.master, b"hello\r").unwrap();
                let seen = wait_for(&outer.master, "last");
                // The inner terminal alone echoes, and alone makes lines.
                let right = seen.contains("hello\r\ngot hello\r\n") && seen.matches("hello").count() == 2;
                fd::write_all(&judge, if right { b"1" } else { b"0" }).unwrap();
                exit_now(0)
            };
            drop(judge);
            let signals = Signals::take().unwrap();
            fd::dup_onto(&outer.peer, 0).unwrap();
            fd::dup_onto(&outer.peer, 1).unwrap();
            let script = "sleep 0.3; stty size; read -r line; echo got $line; yes | head -c 200000; echo last; exit 5";
            let (pid, pidfd) = shell(script, Some(&inner.peer));
            drop(inner.peer);
            assert_eq!(until_exit(pidfd.as_fd(), pid, &signals, Some(inner.master)).unwrap(), 5);
            assert_eq!(fd::read_bounded(&verdict, 1).unwrap(), b"1");
            assert_eq!(nix::sys::termios::tcgetattr(&outer.peer).unwrap(), before, "the modes are not as they were");
        });
    }

    #[test]
    fn a_program_that_does_not_read_is_not_waited_for() {
        in_child(|| {
            let inner = tty::open_terminal(fd::open_dir("/dev/pts").unwrap()).unwrap();
            let signals = Signals::take().unwrap();
            let (reader, writer) = fd::pipe().unwrap();
            let Cloned::Parent { .. } = clone3(&CloneArgs::default()).unwrap() else {
                // More input than anybody will ever take.
                drop(reader);
                signal::reset().unwrap();
                loop {
                    let _ = fd::write_all(&writer, &[b'x'; 4096]);
                }
            };
            fd::dup_onto(&reader, 0).unwrap();
            drop((reader, writer));
            fd::dup_onto(fd::open("/dev/null", fd::OFlag::O_WRONLY).unwrap(), 1).unwrap();
            let (pid, pidfd) = shell("stty raw -echo; head -c 300000 /dev/zero; exit 3", Some(&inner.peer));
            drop(inner.peer);
            assert_eq!(until_exit(pidfd.as_fd(), pid, &signals, Some(inner.master)).unwrap(), 3);
        });
    }
}
