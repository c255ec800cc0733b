// SPDX-License-Identifier: Apache-2.0
//! Whole files: bounded reading, one-write writing, atomic replacement. Used for config.json, state, cgroup and proc files.

use std::ffi::{OsStr, OsString};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::fcntl::OFlag;

use super::dir;
use crate::linux::call::{self, Call, CallError, Result, retry};
use crate::linux::types::Errno;

/// EINVAL unless `fd` is a regular file.
pub fn require_regular(fd: impl AsFd) -> Result<()> {
    if super::stat(fd.as_fd())?.is_regular() {
        return Ok(());
    }
    Err(not_regular(fd))
}

fn not_regular(fd: impl AsFd) -> CallError {
    CallError::new(format!("read({}): not a regular file", call::fd(fd)), Errno::EINVAL)
}

/// Reads from where `fd` stands to its end: at most `max` bytes, EFBIG when there are more. For a file of a container, check
/// [`require_regular`] first.
pub fn read_bounded(fd: impl AsFd, max: usize) -> Result<Vec<u8>> {
    let stat = super::stat(fd.as_fd())?;
    read_sized(fd, &stat, max)
}

/// As [`read_bounded`], of a file that has been looked at.
fn read_sized(fd: impl AsFd, stat: &super::Stat, max: usize) -> Result<Vec<u8>> {
    // Files of proc, sysfs and cgroupfs say 0 or 4096; one byte more than the size lets a read see the end.
    let size = usize::try_from(stat.size).unwrap_or(usize::MAX);
    read_until(fd, size.saturating_add(1).max(4096), max, |filled| stat.is_regular() && filled == size)
}

/// Reads what the kernel makes up at the time of reading, and as one record: most files of proc and cgroupfs. Such a file is read whole
/// by one read(2) that has room for more.
pub fn read_record(fd: impl AsFd, max: usize) -> Result<Vec<u8>> {
    read_until(fd, 4096, max, |_| true)
}

/// Reads into room for `first` bytes, and into more as needed, to the end of file; or, after a read that left room, to where `ends`.
fn read_until(fd: impl AsFd, first: usize, max: usize, ends: impl Fn(usize) -> bool) -> Result<Vec<u8>> {
    const STEP: usize = 64 << 10;
    let mut room = first.min(max.saturating_add(1));
    let mut bytes = Vec::with_capacity(room);
    loop {
        let count = retry(|| append(fd.as_fd(), &mut bytes, room)).call(|| format!("read({})", call::fd(fd.as_fd())))?;
        if bytes.len() > max {
            return Err(CallError::new(format!("read({}): more than {max} bytes", call::fd(fd.as_fd())), Errno::EFBIG));
        }
        if count == 0 || (bytes.len() < room && ends(bytes.len())) {
            return Ok(bytes);
        }
        if bytes.len() == room {
            room = room.saturating_add(room.max(STEP)).min(max.saturating_add(1));
            bytes.reserve_exact(room - bytes.len());
        }
    }
}

/// read(2) behind what is there, up to `room` bytes in all. Into memory that nobody has zeroed: most files fill little of theirs.
fn append(fd: BorrowedFd<'_>, bytes: &mut Vec<u8>, room: usize) -> nix::Result<usize> {
    let most = room.min(bytes.capacity()) - bytes.len();
    // SAFETY: that much can be written there.
    let count = Errno::result(unsafe { libc::read(fd.as_raw_fd(), bytes.as_mut_ptr().add(bytes.len()).cast(), most) })? as usize;
    // SAFETY: the kernel has written as many bytes as it says.
    unsafe { bytes.set_len(bytes.len() + count) };
    Ok(count)
}

/// read(2): what is there, at most as much as `buffer` holds; 0 at the end.
pub fn read_some(fd: impl AsFd, buffer: &mut [u8]) -> Result<usize> {
    retry(|| nix::unistd::read(fd.as_fd(), buffer)).call(|| format!("read({})", call::fd(fd.as_fd())))
}

/// Copies from where `from` stands to its end, to where `to` stands; without holding more than a piece of it.
pub fn copy_contents(from: impl AsFd, to: impl AsFd) -> Result<()> {
    let mut piece = vec![0; 64 << 10];
    loop {
        let count = read_some(from.as_fd(), &mut piece)?;
        if count == 0 {
            return Ok(());
        }
        write_all(to.as_fd(), &piece[..count])?;
    }
}

/// Reads a regular file of the host by its path, at most `max` bytes; a FIFO or device is EINVAL and never waited for.
pub fn read_file_bounded(path: impl AsRef<OsStr>, max: usize) -> Result<Vec<u8>> {
    let fd = dir::open(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)?;
    read_regular(&fd, &super::stat(&fd)?, max)
}

/// As [`read_bounded`], of a file that has been looked at; EINVAL unless it is regular.
pub(super) fn read_regular(fd: impl AsFd, stat: &super::Stat, max: usize) -> Result<Vec<u8>> {
    if !stat.is_regular() {
        return Err(not_regular(fd));
    }
    read_sized(fd, stat, max)
}

/// Reads a file that the kernel makes up as one record ([`read_record`]), by its path.
pub fn read_record_of(path: impl AsRef<OsStr>, max: usize) -> Result<Vec<u8>> {
    read_record(dir::open(path, OFlag::O_RDONLY | OFlag::O_NOCTTY)?, max)
}

/// Reads the regular file `leaf` of a directory, at most `max` bytes.
pub fn read_at(at: impl AsFd, leaf: impl AsRef<OsStr>, max: usize) -> Result<Vec<u8>> {
    let fd = dir::openat(at, leaf, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY, 0)?;
    read_regular(&fd, &super::stat(&fd)?, max)
}

/// write(2) exactly once: for files of proc, sysfs and cgroupfs, which take a value whole. A short write is EIO.
pub fn write_once(fd: impl AsFd, bytes: &[u8]) -> Result<()> {
    let render = || {
        format!(
            "write({}, {}, {})",
            call::fd(fd.as_fd()),
            call::text(std::os::unix::ffi::OsStrExt::from_bytes(bytes)),
            bytes.len()
        )
    };
    let written = retry(|| nix::unistd::write(fd.as_fd(), bytes)).call(render)?;
    if written == bytes.len() { Ok(()) } else { Err(CallError::new(format!("{}: {written} written", render()), Errno::EIO)) }
}

/// read(2) behind what is there, into room for `size` bytes in all: how many were read, 0 at the end.
pub fn read_more(fd: impl AsFd, bytes: &mut Vec<u8>, size: usize) -> Result<usize> {
    bytes.reserve_exact(size.saturating_sub(bytes.len()));
    retry(|| append(fd.as_fd(), bytes, size.max(bytes.len()))).call(|| format!("read({})", call::fd(fd.as_fd())))
}

/// writev(2) until all parts are written, one behind the other.
fn write_parts(fd: impl AsFd, parts: &[&[u8]]) -> Result<()> {
    let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let mut left = &mut slices[..];
    // What is empty goes.
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        let written = retry(|| nix::sys::uio::writev(fd.as_fd(), left))
            .call(|| format!("writev({}, ..., {})", call::fd(fd.as_fd()), left.len()))?;
        IoSlice::advance_slices(&mut left, written);
    }
    Ok(())
}

/// write(2) until all is written: for ordinary files, pipes and sockets.
pub fn write_all(fd: impl AsFd, bytes: &[u8]) -> Result<()> {
    let mut left = bytes;
    while !left.is_empty() {
        let written = retry(|| nix::unistd::write(fd.as_fd(), left))
            .call(|| format!("write({}, ..., {})", call::fd(fd.as_fd()), left.len()))?;
        left = &left[written..];
    }
    Ok(())
}

/// Opens the existing file `leaf` of a directory and writes `bytes` in one write(2), as cgroup and proc files want it.
pub fn write_at(at: impl AsFd, leaf: impl AsRef<OsStr>, bytes: &[u8]) -> Result<()> {
    write_once(dir::openat(at, leaf, OFlag::O_WRONLY | OFlag::O_NOCTTY, 0)?, bytes)
}

/// Replaces the file `leaf` of a directory at one instant: readers see the old content or the new. The new file has exactly `mode`. A
/// file left by an earlier attempt that was killed is overwritten; after an error nothing new remains.
pub fn write_file_atomic(at: impl AsFd, leaf: impl AsRef<OsStr>, bytes: &[u8], mode: u32) -> Result<()> {
    replace(at.as_fd(), leaf.as_ref(), bytes, Some(mode))
}

/// As [`write_file_atomic`], with mode 0600 less the umask.
pub fn write_private_atomic(at: impl AsFd, leaf: impl AsRef<OsStr>, bytes: &[u8]) -> Result<()> {
    replace(at.as_fd(), leaf.as_ref(), bytes, None)
}

fn replace(at: BorrowedFd<'_>, leaf: &OsStr, bytes: &[u8], mode: Option<u32>) -> Result<()> {
    let mut temporary = OsString::from(".");
    temporary.push(leaf);
    temporary.push(format!(".{}", nix::unistd::getpid()));
    let fd = open_fresh(at, &temporary)?;
    let done = mode
        .map_or(Ok(()), |mode| super::fchmod(&fd, mode))
        .and_then(|()| write_all(&fd, bytes))
        .and_then(|()| dir::renameat(at, &temporary, at, leaf));
    if done.is_err() {
        // The first error is what matters; a temporary file that cannot be removed is overwritten by the next attempt.
        let _ = dir::unlinkat(at, &temporary);
    }
    done
}

/// Makes the file `leaf` of a directory, in place of one that is there: readers see the old file, none, or all of the new one, which has
/// exactly `mode`. Unlike [`write_file_atomic`] it has no name before it is complete, so that a kill at any moment leaves no other file:
/// for directories that are not ours. Where the filesystem cannot do that (NFS, FUSE), or /proc is missing, it is done that way.
pub fn publish_file(at: impl AsFd, leaf: impl AsRef<OsStr>, bytes: &[u8], mode: u32) -> Result<()> {
    let leaf = leaf.as_ref();
    let Ok(fd) = dir::nameless(at.as_fd(), 0o600) else {
        return write_file_atomic(at, leaf, bytes, mode);
    };
    super::fchmod(&fd, mode)?;
    write_all(&fd, bytes)?;
    let linked = match dir::link_fd(&fd, at.as_fd(), leaf) {
        Err(error) if error.errno == Errno::EEXIST => {
            dir::unlinkat(at.as_fd(), leaf)?;
            dir::link_fd(&fd, at.as_fd(), leaf)
        }
        other => other,
    };
    match linked {
        Err(error) if [Errno::ENOENT, Errno::EOPNOTSUPP].contains(&error.errno) => write_file_atomic(at, leaf, bytes, mode),
        other => other,
    }
}

/// Makes the file `leaf` of a directory of ours, which is not there, with mode 0600 less the umask; what is missing when this is killed
/// meanwhile is for a file written after it to tell.
pub fn create_file_at(at: impl AsFd, leaf: impl AsRef<OsStr>, bytes: &[u8]) -> Result<()> {
    write_all(create_private(at, leaf)?, bytes)
}

/// As [`create_file_at`], of several parts.
pub fn create_file_of(at: impl AsFd, leaf: impl AsRef<OsStr>, parts: &[&[u8]]) -> Result<()> {
    write_parts(create_private(at, leaf)?, parts)
}

fn create_private(at: impl AsFd, leaf: impl AsRef<OsStr>) -> Result<OwnedFd> {
    dir::openat(at, leaf, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL, PRIVATE)
}

/// Read and write for the owner.
pub const PRIVATE: u32 = 0o600;

/// A new file that only its owner can read, in place of one that a killed process of the same number may have left.
fn open_fresh(at: BorrowedFd<'_>, leaf: &OsStr) -> Result<OwnedFd> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
    match dir::openat(at, leaf, flags, PRIVATE) {
        Err(error) if error.errno == Errno::EEXIST => {
            dir::unlinkat(at, leaf)?;
            dir::openat(at, leaf, flags, PRIVATE)
        }
        other => other,
    }
}
