// SPDX-License-Identifier: Apache-2.0
//! The start gate: where a created container's process waits until `start` lets it go on to its program (runtime.md, "Start").
//!
//! Two files in the container's state directory. `exec.fifo` is a FIFO: the process holds both of its ends and reads one byte; `start`
//! writes it. The FIFO is close-on-exec, so that the moment it has no reader any more, which poll(2) tells the writer, is the moment at
//! which the program runs or the process is dead. `start.error` is for what the process has to say if it fails on this last stretch: no
//! other way leads from it to `start`. The process got both descriptors before it was made, and needs no path inside the container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::error::{Error, Kind, Result, Told};
use crate::linux::fd::{self, OFlag};
use crate::linux::memory;
use crate::linux::pid::{self, PollFd, PollFlags};
use crate::linux::types::Errno;
use crate::process::sync::{MAX_MESSAGE, Message};
use crate::trace::{self, Times};

/// The FIFO's name.
pub const FIFO: &str = "exec.fifo";
/// The name of the file for the last failure.
pub const ERRORS: &str = "start.error";

/// What `start` writes.
const PLAIN: [u8; 1] = *b"1";
/// The same, where it wants to know times.
const TRACED: [u8; 1] = *b"2";
/// In the length of a record: it is no failure but times.
const TIMES: u32 = 1 << 31;

/// The gate as the container's process holds it.
#[derive(Debug)]
pub struct Gate {
    fifo: OwnedFd,
    errors: OwnedFd,
}

/// Makes the gate in a container's state directory.
pub fn make(directory: impl AsFd) -> Result<Gate> {
    let told = || "cannot make the start gate".to_string();
    fd::mkfifoat(directory.as_fd(), FIFO, 0o600).told(told)?;
    // Both ends: reading waits for `start` although nobody writes yet, and never sees an end of file.
    let fifo = fd::openat(directory.as_fd(), FIFO, OFlag::O_RDWR, 0).told(told)?;
    let flags = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT | OFlag::O_EXCL;
    let errors = fd::openat(directory.as_fd(), ERRORS, flags, 0o600).told(told)?;
    Ok(Gate { fifo, errors })
}

/// The gate as `start` holds it.
#[derive(Debug)]
pub struct Found(OwnedFd);

/// Where a process waits at the gate, or is on its way from there to its program: then it lives, and is the container's, because nobody
/// else has ever held the gate. The file alone does not say so: a `start` that was killed may have left it.
pub fn find(directory: impl AsFd) -> Option<Found> {
    knock(|| fd::open_if(directory.as_fd(), FIFO, OFlag::O_WRONLY | OFlag::O_NONBLOCK)).map(Found)
}

/// Whether [`find`] would find it at the gate of a container of this name in the state root.
pub fn is_waited_at_below(root: impl AsFd, name: &str) -> bool {
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK;
    knock(|| fd::open_within(root.as_fd(), &format!("{name}/{FIFO}"), flags, fd::ResolveFlag::RESOLVE_NO_SYMLINKS)).is_some()
}

/// ENXIO: nobody has it open for reading. Anything else but its absence says nothing, and may be otherwise the next time. A reader that
/// waits does not wake from it.
fn knock(open: impl Fn() -> std::result::Result<OwnedFd, Errno>) -> Option<OwnedFd> {
    match open() {
        Err(Errno::ENXIO | Errno::ENOENT) => None,
        Err(_) => open().ok(),
        found => found.ok(),
    }
}

/// Removes the gate, as far as it is there.
pub fn remove(directory: impl AsFd) -> Result<()> {
    // The FIFO last: as long as it is there, the container counts as created.
    for name in [ERRORS, FIFO] {
        match fd::unlinkat(directory.as_fd(), name) {
            Err(error) if error.errno != Errno::ENOENT => return Err(Error::from(error).doing("cannot remove the start gate")),
            _ => {}
        }
    }
    Ok(())
}

impl Gate {
    /// Waits for `start`: whether that wants to know the times of what comes now.
    ///
    /// By now create has said that the container is created, and nobody would hear of a failure before `start` comes. So one is waited
    /// out until there is something to be read, and is an error only if it is there still.
    pub fn wait(&self) -> Result<bool> {
        let told = || "cannot wait at the start gate".to_string();
        let mut byte = 0;
        let mut failed = false;
        loop {
            match memory::read_byte_in_small_room(&self.fifo, &mut byte) {
                Err(Errno::EINTR) => {}
                Ok(1) => return Ok([byte] == TRACED),
                Ok(_) => return Err(Error::new(Kind::Peer, "the start gate has an end of file")),
                Err(errno) if failed && errno != Errno::EAGAIN => {
                    return Err(Error::new(Kind::Kernel, told()).call("read(exec.fifo)", errno));
                }
                Err(_) => {
                    failed = true;
                    pid::wait_readable(&self.fifo, None).told(told)?;
                }
            }
        }
    }

    /// Leaves an error for `start`. May be called again to say more: the last one counts.
    pub fn fail(&self, error: &Error) {
        self.record(0, &error.encode());
    }

    /// Leaves the times of its steps for `start`.
    pub fn tell(&self, times: &Times) {
        self.record(TIMES, &times.encode());
    }

    fn record(&self, kind: u32, bytes: &[u8]) {
        let mut record = (bytes.len() as u32 | kind).to_le_bytes().to_vec();
        record.extend(bytes);
        // There is nobody else to tell if this fails (a full state directory, RLIMIT_FSIZE): `start` then knows only that it failed.
        let _ = fd::write_all(&self.errors, &record);
    }

    /// The gate of these descriptors, from [`Gate::into_fds`].
    pub fn of([fifo, errors]: [OwnedFd; 2]) -> Gate {
        Gate { fifo, errors }
    }

    /// What it consists of.
    pub fn into_fds(self) -> [OwnedFd; 2] {
        [self.fifo, self.errors]
    }

    /// The descriptors, in use until the program is executed.
    pub fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.fifo.as_fd(), self.errors.as_fd()]
    }
}

/// How a process went through the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It runs its program (or ran it: a program may end at once).
    Executed,
    /// Nobody waits at the gate: it has gone through it before, or is dead.
    NobodyWaits,
}

/// Opens the gate, and waits until the process runs its program or is dead. The error is its own where it failed on the way.
pub fn release(directory: impl AsFd, Found(fifo): Found, timeout: Option<Duration>) -> Result<Passage> {
    let told = || "cannot open the start gate".to_string();
    match fd::write_all(&fifo, if trace::on() { &TRACED } else { &PLAIN }) {
        Err(error) if error.errno == Errno::EPIPE => return Ok(Passage::NobodyWaits),
        other => other.told(told)?,
    }
    // POLLERR of a FIFO's writing end: nobody has the reading end open any more. poll(2) always reports it.
    if pid::poll(&mut [PollFd::new(fifo.as_fd(), PollFlags::empty())], timeout).told(told)? == 0 {
        let seconds = timeout.unwrap_or_default().as_secs();
        return Err(Error::new(Kind::Peer, format!("the container's process has not come to its program in {seconds} s")));
    }
    match last_failure(directory)? {
        Some(error) => Err(error),
        None => Ok(Passage::Executed),
    }
}

/// What the process said when it failed after the gate, if it did.
fn last_failure(directory: impl AsFd) -> Result<Option<Error>> {
    let told = || "cannot learn how the start went".to_string();
    match fd::statat(directory.as_fd(), ERRORS) {
        Err(error) if error.errno == Errno::ENOENT => return Ok(None),
        Ok(stat) if stat.size == 0 => return Ok(None),
        other => other.told(told)?,
    };
    // Every way to fail writes two records at most, with one of times, and no record is longer than a message.
    let bytes = fd::read_at(directory, ERRORS, 4 * MAX_MESSAGE).told(told)?;
    let (records, whole) = records(&bytes);
    let failures = records.into_iter().filter(|(kind, _)| *kind == 0).map(|(_, record)| Error::decode(record));
    let failures: Vec<Option<Error>> = failures.collect();
    let damaged = !whole || failures.iter().any(Option::is_none);
    let last = failures.into_iter().flatten().next_back();
    if last.is_none() && damaged {
        return Err(Error::new(Kind::Peer, "the container's process failed to start its program, and could not say why"));
    }
    Ok(last)
}

/// The times that the process left on its way from the gate, after [`release`]; none where it left none.
pub fn times(directory: impl AsFd) -> Option<Times> {
    let bytes = fd::read_at(directory, ERRORS, 4 * MAX_MESSAGE).ok()?;
    let (records, _) = records(&bytes);
    records.iter().find(|(kind, _)| *kind == TIMES).and_then(|(_, record)| Times::decode(record))
}

/// The records of a file, each with its kind, and whether that is all there is.
fn records(bytes: &[u8]) -> (Vec<(u32, &[u8])>, bool) {
    let (mut rest, mut all) = (bytes, Vec::new());
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length);
        let Some((record, after)) = after.split_at_checked((length & !TIMES) as usize) else { break };
        all.push((length & TIMES, record));
        rest = after;
    }
    (all, rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::clone::{CloneArgs, Cloned, clone3, exit_now};
    use crate::linux::fd::tests::Scratch;
    use crate::linux::test_child::in_child;

    const SOON: Option<Duration> = Some(Duration::from_secs(20));

    fn open(directory: &OwnedFd, timeout: Option<Duration>) -> Result<Passage> {
        find(directory).map_or(Ok(Passage::NobodyWaits), |found| release(directory, found, timeout))
    }

    /// A process that waits at a new gate and then does `after`, which may return to end it.
    fn waiting(directory: &OwnedFd, after: impl FnOnce(&Gate)) -> OwnedFd {
        let gate = make(directory).unwrap();
        match clone3(&CloneArgs::default()).unwrap() {
            Cloned::Child => {
                gate.wait().unwrap();
                after(&gate);
                exit_now(0)
            }
            Cloned::Parent { pidfd, .. } => pidfd,
        }
    }

    #[test]
    fn lets_through_once() {
        let scratch = Scratch::new();
        in_child(|| {
            let directory = scratch.dir();
            let (reader, writer) = fd::pipe().unwrap();
            let process = waiting(&directory, |gate| {
                // As execve(2) does: the descriptors go, the process stays.
                let [fifo, errors] = gate.fds().map(|fd| std::os::fd::AsRawFd::as_raw_fd(&fd));
                let _ = nix::unistd::close(fifo).and_then(|()| nix::unistd::close(errors));
                drop(writer);
                loop {
                    pid::pause()
                }
            });
            assert!(!pid::wait_readable(&reader, Some(Duration::from_millis(50))).unwrap(), "it did not wait");
            assert!(find(&directory).is_some());
            assert_eq!(open(&directory, SOON).unwrap(), Passage::Executed);
            // As it is when `start` is killed here.
            assert!(find(&directory).is_none(), "the file alone counts");
            assert!(pid::wait_readable(&reader, SOON).unwrap() || pid::wait_exited(&process, SOON).unwrap());
            assert_eq!(open(&directory, SOON).unwrap(), Passage::NobodyWaits);
            pid::send_signal(&process, libc::SIGKILL).unwrap();
            remove(&directory).unwrap();
            remove(&directory).unwrap();
            assert_eq!(open(&directory, SOON).unwrap(), Passage::NobodyWaits);
        });
    }

    #[test]
    fn what_cannot_be_read_yet_is_waited_for() {
        let scratch = Scratch::new();
        in_child(|| {
            let directory = scratch.dir();
            let gate = make(&directory).unwrap();
            // So that read(2) answers EAGAIN.
            fd::set_nonblocking(&gate.fifo, true).unwrap();
            let process = match clone3(&CloneArgs::default()).unwrap() {
                Cloned::Child => exit_now(i32::from(gate.wait().is_err())),
                Cloned::Parent { pidfd, .. } => pidfd,
            };
            drop(gate);
            assert!(!pid::wait_exited(&process, Some(Duration::from_millis(50))).unwrap(), "it did not wait");
            assert_eq!(open(&directory, SOON).unwrap(), Passage::Executed);
            assert_eq!(pid::wait(&process).unwrap(), pid::Exit::Code(0));
        });
    }

    #[test]
    fn the_last_failure_reaches_start() {
        let scratch = Scratch::new();
        in_child(|| {
            let directory = scratch.dir();
            let error = Error::new(Kind::Program, "exec /x: exec format error").step(3, 3);
            let _process = waiting(&directory, |gate| {
                gate.fail(&error);
                gate.fail(&error.clone().hint("empty"));
            });
            assert_eq!(open(&directory, SOON).unwrap_err(), error.hint("empty"));
        });
    }

    #[test]
    fn a_dead_or_stuck_process_is_noticed() {
        let scratch = Scratch::new();
        in_child(|| {
            let directory = scratch.dir();
            let process = waiting(&directory, |_| {
                loop {
                    pid::pause()
                }
            });
            let stuck = open(&directory, Some(Duration::from_millis(50))).unwrap_err();
            assert_eq!(stuck.kind, Kind::Peer);
            pid::send_signal(&process, libc::SIGKILL).unwrap();
            pid::wait(&process).unwrap();
            assert_eq!(open(&directory, SOON).unwrap(), Passage::NobodyWaits);
        });
    }

    #[test]
    fn a_damaged_record_is_no_success() {
        let scratch = Scratch::new();
        let directory = scratch.dir();
        for bytes in [&b"xx"[..], b"\xff\xff\xff\xff", b"\x01\0\0\0x"] {
            std::fs::write(scratch.path().join(ERRORS), bytes).unwrap();
            assert_eq!(last_failure(&directory).unwrap_err().kind, Kind::Peer);
        }
        std::fs::write(scratch.path().join(ERRORS), b"").unwrap();
        assert_eq!(last_failure(&directory).unwrap(), None);
    }
}
