// SPDX-License-Identifier: Apache-2.0
//! Files that the caller names: configurations, process files, limits. Such a file may be a pipe (`--process <(command)`, /dev/stdin),
//! which is waited for, but not for ever: a FIFO that nobody writes to must not keep a command.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags};

use super::{dir, file};
use crate::linux::call::{self, CallError, Result};
use crate::linux::pid;
use crate::linux::types::Errno;

/// How long a pipe is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For somebody to open it for writing.
    writer: Duration,
    /// For all of it.
    whole: Duration,
}

/// What commands wait: a writer may still be starting, and may then have to fetch what it writes.
const PATIENCE: Patience = Patience { writer: Duration::from_secs(3), whole: Duration::from_secs(30) };

/// open(2) of a file that the caller names, for [`read_given`]: returns at once whatever it is.
pub fn open_given(path: impl AsRef<OsStr>) -> Result<OwnedFd> {
    dir::open(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
}

/// Reads what [`open_given`] opened, at most `max` bytes: a regular file, or a pipe to its end. A pipe that has no writer within 3 s, or
/// no end within 30 s, is ETIMEDOUT; anything else, a device or a directory, is EINVAL.
pub fn read_given(fd: impl AsFd, max: usize) -> Result<Vec<u8>> {
    read_patiently(fd, max, PATIENCE)
}

fn read_patiently(fd: impl AsFd, max: usize, patience: Patience) -> Result<Vec<u8>> {
    let stat = super::stat(fd.as_fd())?;
    if stat.is_fifo() {
        return read_pipe(fd, max, patience);
    }
    file::read_regular(fd, &stat, max)
}

/// Reads a pipe that does not block: 0 bytes without a hang-up mean that it has had no writer yet (pipe(7), poll(2)).
fn read_pipe(fd: impl AsFd, max: usize, patience: Patience) -> Result<Vec<u8>> {
    let fd = fd.as_fd();
    let start = Instant::now();
    let failed = |why: &str, errno| CallError::new(format!("read({}): {why}", call::fd(fd)), errno);
    let mut bytes = Vec::new();
    let mut piece = vec![0; 64 << 10];
    let (mut deadline, mut late) = (patience.writer, "nobody has opened it for writing");
    loop {
        match file::read_some(fd, &mut piece) {
            Ok(0) if !bytes.is_empty() || hung_up(fd)? => return Ok(bytes),
            Ok(0) => {}
            Ok(count) if bytes.len() + count > max => return Err(failed(&format!("more than {max} bytes"), Errno::EFBIG)),
            Ok(count) => {
                bytes.extend_from_slice(&piece[..count]);
                continue;
            }
            Err(error) if error.errno == Errno::EAGAIN => {
                (deadline, late) = (patience.whole, "its writer has not come to an end");
            }
            Err(error) => return Err(error),
        }
        let left = deadline.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Err(failed(&format!("{late} within {deadline:?}"), Errno::ETIMEDOUT));
        }
        pid::wait_readable(fd, Some(left))?;
    }
}

/// It had a writer, and has none any more.
fn hung_up(fd: impl AsFd) -> Result<bool> {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    pid::poll(&mut fds, Some(Duration::ZERO))?;
    Ok(fds[0].revents().is_some_and(|found| found.contains(PollFlags::POLLHUP)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::fd::tests::Scratch;
    use crate::linux::fd::{mkfifoat, pipe, set_nonblocking, write_all};

    const SHORT: Patience = Patience { writer: Duration::from_millis(30), whole: Duration::from_millis(60) };

    #[test]
    fn a_pipe_is_read_to_its_end() {
        let (reader, writer) = pipe().unwrap();
        set_nonblocking(&reader, true).unwrap();
        let content = vec![b'x'; 200_000];
        let thread = std::thread::spawn({
            let content = content.clone();
            move || {
                for part in content.chunks(70_000) {
                    write_all(&writer, part).unwrap();
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        });
        assert_eq!(read_given(&reader, 200_000).unwrap(), content);
        thread.join().unwrap();
        let (reader, writer) = pipe().unwrap();
        set_nonblocking(&reader, true).unwrap();
        drop(writer);
        assert_eq!(read_given(&reader, 10).unwrap(), b"", "an end without a beginning");
    }

    #[test]
    fn a_pipe_is_not_waited_for_without_end() {
        let (reader, writer) = pipe().unwrap();
        set_nonblocking(&reader, true).unwrap();
        let late = read_patiently(&reader, 10, SHORT).unwrap_err();
        assert_eq!(late.errno, Errno::ETIMEDOUT);
        assert!(late.call.contains("has not come to an end within 60ms"), "{late}");
        write_all(&writer, b"12345678901").unwrap();
        assert_eq!(read_patiently(&reader, 10, SHORT).unwrap_err().errno, Errno::EFBIG);
    }

    #[test]
    fn a_fifo_waits_for_its_writer() {
        let scratch = Scratch::new();
        mkfifoat(scratch.dir(), "fifo", 0o600).unwrap();
        let path = scratch.path().join("fifo");
        let late = read_patiently(open_given(&path).unwrap(), 10, SHORT).unwrap_err();
        assert_eq!(late.errno, Errno::ETIMEDOUT);
        assert!(late.call.contains("nobody has opened it for writing within 30ms"), "{late}");
        let fd = open_given(&path).unwrap();
        let writer = std::thread::spawn(move || std::fs::write(path, "text").unwrap());
        assert_eq!(read_given(fd, 10).unwrap(), b"text");
        writer.join().unwrap();
    }

    #[test]
    fn devices_are_refused() {
        for path in ["/dev/zero", "/dev/null", "/"] {
            assert_eq!(read_given(open_given(path).unwrap(), 10).unwrap_err().errno, Errno::EINVAL, "{path}");
        }
    }
}
