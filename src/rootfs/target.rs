// SPDX-License-Identifier: Apache-2.0
//! The place of a mount, node or link: found inside the root filesystem, or made there. Called by every other file of this folder.
//!
//! The kernel resolves what exists in one go. Where something is missing we walk ourselves, from directory descriptor to directory
//! descriptor, one name at a time and never through a link that is not read first: images often have a dangling link as
//! /etc/resolv.conf, and what it points at is made inside the root, as it would be found there.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use crate::linux::call::{CallError, Result};
use crate::linux::fd::{self, OFlag, ResolveFlag, Root};
use crate::linux::types::Errno;

/// What to make where nothing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Make {
    /// A directory, 0755.
    Directory,
    /// An empty file, 0644, to mount a file on.
    File,
}

/// Symbolic links followed on one path, as many as the kernel would; path_resolution(7).
const MOST_LINKS: usize = 40;

/// What is at `path`, as an O_PATH descriptor; made where nothing is, with the directories above it. A symbolic link at the end is
/// followed where `follow` says so, all others are.
pub(super) fn open_or_make(root: &Root, path: &str, make: Make, follow: bool) -> Result<OwnedFd> {
    if let Some(found) = root.find(path, follow)? {
        return Ok(found);
    }
    // Mostly only the last name is missing.
    let (parent, leaf) = split(path);
    if !matches!(leaf, "" | "." | "..")
        && let Some(parent) = root.find(parent, true)?
    {
        match make_one(&parent, OsStr::new(leaf), make) {
            Ok(true) => return fd::openat(&parent, leaf, OFlag::O_PATH, 0),
            // A dangling link, or somebody was quicker.
            Ok(false) => {}
            Err(error) => return Err(error),
        }
    }
    walk(root, path, make, follow)
}

/// A path in front of its last component, and that component.
pub(super) fn split(path: &str) -> (&str, &str) {
    let trimmed = path.trim_end_matches('/');
    trimmed.rsplit_once('/').unwrap_or(("", trimmed))
}

/// The directory that `path`'s last component is in, made where it is missing, and that component.
pub(super) fn parent_or_make<'a>(root: &Root, path: &'a str) -> Result<(OwnedFd, &'a str)> {
    let (parent, leaf) = split(path);
    Ok((open_or_make(root, parent, Make::Directory, true)?, leaf))
}

/// The same directory again, with other flags.
pub(super) fn reopen_dir(dir: impl AsFd, flags: OFlag) -> Result<OwnedFd> {
    fd::openat2(dir, ".", flags | OFlag::O_DIRECTORY, 0, ResolveFlag::RESOLVE_BENEATH)
}

fn walk(root: &Root, path: &str, make: Make, follow: bool) -> Result<OwnedFd> {
    // The directories entered so far, so that `..` is where we came from and never above the root.
    let mut above: Vec<OwnedFd> = Vec::new();
    let mut names: VecDeque<OsString> = components(OsStr::new(path)).collect();
    let mut links = 0;
    while let Some(name) = names.pop_front() {
        if name == ".." {
            above.pop();
            continue;
        }
        let dir = above.last().map_or(root.as_fd(), AsFd::as_fd);
        let last = names.is_empty();
        let found = match fd::openat(dir, &name, OFlag::O_PATH, 0) {
            Err(error) if error.errno == Errno::ENOENT => {
                make_one(dir, &name, if last { make } else { Make::Directory })?;
                fd::openat(dir, &name, OFlag::O_PATH, 0)?
            }
            other => other?,
        };
        if (follow || !last) && fd::stat(&found)?.is_symlink() {
            links += 1;
            if links > MOST_LINKS {
                return Err(CallError::new(format!("openat2(\"{path}\")"), Errno::ELOOP));
            }
            let target = fd::readlink_fd(&found)?;
            if target.as_bytes().starts_with(b"/") {
                above.clear();
            }
            for name in components(&target).collect::<Vec<_>>().into_iter().rev() {
                names.push_front(name);
            }
        } else if last {
            return Ok(found);
        } else {
            above.push(found);
        }
    }
    match above.pop() {
        Some(dir) => Ok(dir),
        None => reopen_dir(root, OFlag::O_PATH),
    }
}

fn components(path: &OsStr) -> impl Iterator<Item = OsString> {
    let names = path.as_bytes().split(|byte| *byte == b'/');
    names.filter(|name| !name.is_empty() && *name != b".").map(|name| OsStr::from_bytes(name).to_owned())
}

/// Makes one name in a directory; `false` where something is there by now.
pub(super) fn make_one(dir: impl AsFd, name: &OsStr, make: Make) -> Result<bool> {
    let made = match make {
        Make::Directory => fd::mkdirat(dir, name, 0o755),
        Make::File => fd::openat(dir, name, OFlag::O_RDONLY | OFlag::O_CREAT | OFlag::O_EXCL, 0o644).map(drop),
    };
    match made {
        Err(error) if error.errno == Errno::EEXIST => Ok(false),
        other => other.map(|()| true),
    }
}
