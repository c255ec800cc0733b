// SPDX-License-Identifier: Apache-2.0
//! `tmpcopyup`: what a tmpfs will cover is copied into it first, with owners, modes, links and extended attributes. Called by `mount`,
//! while the tmpfs is still detached.
//!
//! The source belongs to the image: it is read by descriptor, no link is followed, no other mount entered, and the depth is bounded.
//! The size is bounded by the tmpfs.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};

use super::ExactModes;
use super::mount::readable;
use crate::linux::call::{CallError, Result};
use crate::linux::fd::{self, OFlag, Stat, xattr};
use crate::linux::types::{Errno, NodeKind};

/// Directories inside directories.
const DEEPEST: u32 = 128;

/// Copies what the directory `from` holds, and its own owner and attributes, into the new filesystem `to`.
#[inline(never)] // Rare.
pub(super) fn copy_up(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let _exact = ExactModes::begin();
    copy_entries(&readable(from)?, to, 0)?;
    // The mode is the mount's own: a parameter, or that of what it covers.
    let stat = fd::stat(from)?;
    fd::fchown(to, stat.uid, stat.gid)?;
    copy_attributes(&readable(from)?, &readable(to)?)
}

fn copy_entries(from: &OwnedFd, to: impl AsFd, depth: u32) -> Result<()> {
    if depth > DEEPEST {
        return Err(CallError::new(format!("copying more than {DEEPEST} directories deep"), Errno::ELOOP));
    }
    for entry in fd::entries(from)? {
        let source = fd::openat(from, &entry.name, OFlag::O_PATH, 0)?;
        let stat = fd::stat(&source)?;
        copy_one(from, to.as_fd(), &entry.name, &source, &stat, depth)?;
    }
    Ok(())
}

fn copy_one(from: &OwnedFd, to: impl AsFd, name: &OsStr, source: &OwnedFd, stat: &Stat, depth: u32) -> Result<()> {
    let mode = stat.mode & 0o7777;
    let special = |kind| fd::mknodat(to.as_fd(), name, kind, stat.rdev, mode);
    match stat.kind() {
        libc::S_IFDIR => {
            fd::mkdirat(to.as_fd(), name, 0o700)?;
            let made = fd::openat(to.as_fd(), name, OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0)?;
            if !stat.mount_root {
                let inside = readable(source)?;
                copy_entries(&inside, &made, depth + 1)?;
                copy_attributes(&inside, &made)?;
            }
            finish(&made, stat, mode)
        }
        libc::S_IFREG => {
            let inside = fd::openat(from, name, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY, 0)?;
            let opened = fd::stat(&inside)?;
            if !opened.is_regular() {
                return Err(CallError::new(format!("openat({name:?}): not the regular file that was there"), Errno::EINVAL));
            }
            let made = fd::openat(to.as_fd(), name, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL, 0o600)?;
            fd::copy_contents(&inside, &made)?;
            // The owner first: changing it takes set-user-ID bits and file capabilities away.
            finish(&made, &opened, opened.mode & 0o7777)?;
            copy_attributes(&inside, &made)
        }
        libc::S_IFLNK => {
            fd::symlinkat(fd::readlink_fd(source)?, to.as_fd(), name)?;
            fd::fchown(fd::openat(to, name, OFlag::O_PATH, 0)?, stat.uid, stat.gid)
        }
        libc::S_IFIFO => special(NodeKind::Fifo).and_then(|()| own(to.as_fd(), name, stat)),
        libc::S_IFCHR => special(NodeKind::Character).and_then(|()| own(to.as_fd(), name, stat)),
        libc::S_IFBLK => special(NodeKind::Block).and_then(|()| own(to.as_fd(), name, stat)),
        // A socket is the meeting point of a process that listens; a copy would be none.
        _ => Ok(()),
    }
}

fn own(to: impl AsFd, name: &OsStr, stat: &Stat) -> Result<()> {
    fd::fchown(fd::openat(to, name, OFlag::O_PATH, 0)?, stat.uid, stat.gid)
}

fn finish(made: &OwnedFd, stat: &Stat, mode: u32) -> Result<()> {
    fd::fchown(made, stat.uid, stat.gid)?;
    fd::fchmod(made, mode)
}

/// Copies the extended attributes that a tmpfs takes: before Linux 6.6 none of the user's, and in a user namespace not all.
fn copy_attributes(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    for name in xattr::list(from)? {
        match xattr::set(to, &name, &xattr::get(from, &name)?) {
            Err(error) if !matches!(error.errno, Errno::EOPNOTSUPP | Errno::EPERM) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
