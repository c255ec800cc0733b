// SPDX-License-Identifier: Apache-2.0
//! A directory that opens only inside itself: how every path of a root filesystem is resolved. Used by `rootfs` and `process`.
//!
//! The image and other containers own what lies inside, and may change it while we look. So a path is resolved once, by the kernel, with
//! this directory as `/` (openat2(2), RESOLVE_IN_ROOT), and from then on only the descriptor is used. CVE-2019-19921, CVE-2021-30465,
//! CVE-2024-45310 and their kin came from resolving twice.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::Mode;

use super::{dir, file};
use crate::linux::call::{self, Call, CallError, Result};
use crate::linux::types::Errno;

/// How often openat2(2) is tried again when a rename or mount elsewhere raced with it (EAGAIN).
const RACES: u32 = 128;

/// openat2(2), Linux 5.6, close-on-exec: opens `path` under `dir` within the limits of `resolve`. A race with a rename (EAGAIN) is
/// tried again a bounded number of times.
pub fn openat2(dir: impl AsFd, path: &str, flags: OFlag, mode: u32, resolve: ResolveFlag) -> Result<OwnedFd> {
    openat2_raw(dir.as_fd(), path, flags, mode, resolve).call(|| render(dir.as_fd(), path, flags, resolve))
}

/// As [`openat2`], beneath `dir` and without magic links. That it is not opened, for whatever reason, is an answer and no failure to be
/// told of.
pub fn open_within(dir: impl AsFd, path: &str, flags: OFlag, resolve: ResolveFlag) -> std::result::Result<OwnedFd, Errno> {
    let resolve = resolve | ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    openat2_raw(dir.as_fd(), path, flags, 0, resolve)
}

fn openat2_raw(dir: BorrowedFd, path: &str, flags: OFlag, mode: u32, resolve: ResolveFlag) -> nix::Result<OwnedFd> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).mode(Mode::from_bits_truncate(mode)).resolve(resolve);
    let mut races = 0;
    loop {
        match nix::fcntl::openat2(dir, path, how) {
            Err(Errno::EAGAIN) if races < RACES => races += 1,
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

fn render(dir: BorrowedFd, path: &str, flags: OFlag, resolve: ResolveFlag) -> String {
    let (flags, resolve) = (super::names_of(&(flags | OFlag::O_CLOEXEC)), super::names_of(&resolve));
    format!("openat2({}, {path:?}, {flags}, {resolve})", call::fd(dir))
}

/// How every path of a [`Root`] is resolved.
const INSIDE: ResolveFlag = ResolveFlag::RESOLVE_IN_ROOT.union(ResolveFlag::RESOLVE_NO_MAGICLINKS);

/// A directory whose paths cannot lead out of it: `..` stops at it, absolute symbolic links start at it, and the magic links of procfs
/// are refused.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Root> for OwnedFd {
    fn from(root: Root) -> OwnedFd {
        root.fd
    }
}

impl From<OwnedFd> for Root {
    /// `fd` is a directory, or a mount just made; O_PATH is enough.
    fn from(fd: OwnedFd) -> Root {
        Root { fd }
    }
}

impl Root {
    /// Opens the directory at a path of the host.
    pub fn open(path: impl AsRef<OsStr>) -> Result<Root> {
        dir::open_dir_path(path).map(Root::from)
    }

    fn resolve(&self, path: &str, flags: OFlag) -> Result<OwnedFd> {
        self.resolve_raw(path, flags).call(|| render(self.as_fd(), path, flags, INSIDE))
    }

    fn resolve_raw(&self, path: &str, flags: OFlag) -> nix::Result<OwnedFd> {
        // The kernel says ENOENT to an empty path; here it means the root itself, as "/" does.
        let path = if path.is_empty() { "/" } else { path };
        openat2_raw(self.as_fd(), path, flags, 0, INSIDE)
    }

    /// What `path` is, as an O_PATH descriptor; `None` where nothing is (ENOENT, ENOTDIR), which is often the answer and no error. A
    /// symbolic link at the end is followed where `follow` says so.
    pub fn find(&self, path: &str, follow: bool) -> Result<Option<OwnedFd>> {
        let flags = if follow { OFlag::O_PATH } else { OFlag::O_PATH | OFlag::O_NOFOLLOW };
        match self.resolve_raw(path, flags) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            other => other.map(Some).call(|| render(self.as_fd(), path, flags, INSIDE)),
        }
    }

    /// What `path` is, as an O_PATH descriptor; symbolic links are followed.
    pub fn open_path(&self, path: &str) -> Result<OwnedFd> {
        self.resolve(path, OFlag::O_PATH)
    }

    /// As [`Root::open_path`], but a symbolic link at the end is itself what is opened.
    pub fn open_path_nofollow(&self, path: &str) -> Result<OwnedFd> {
        self.resolve(path, OFlag::O_PATH | OFlag::O_NOFOLLOW)
    }

    /// A directory, open for reading its entries.
    pub fn open_dir(&self, path: &str) -> Result<OwnedFd> {
        self.resolve(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
    }

    /// A regular file, open for reading. Never waits: a FIFO or a device in the file's place is EINVAL.
    pub fn open_file(&self, path: &str) -> Result<OwnedFd> {
        let handle = self.open_path(path)?;
        file::require_regular(&handle)?;
        // Opened anew by name; what is there by now is judged again, and O_NONBLOCK keeps a FIFO from waiting for a writer.
        let fd = self.open_with(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)?;
        file::require_regular(&fd)?;
        Ok(fd)
    }

    /// Whatever is at `path`, with these flags; O_CLOEXEC is added. For a file that must exist: O_CREAT is EINVAL here, see
    /// [`Root::create_file`].
    pub fn open_with(&self, path: &str, flags: OFlag) -> Result<OwnedFd> {
        if flags.intersects(OFlag::O_CREAT | OFlag::O_TRUNC) {
            return Err(CallError::new(format!("openat2({path:?}, O_CREAT)"), Errno::EINVAL));
        }
        self.resolve(path, flags)
    }

    /// Reads a regular file of at most `max` bytes (EFBIG when it is larger).
    pub fn read_file(&self, path: &str, max: usize) -> Result<Vec<u8>> {
        file::read_bounded(&self.open_file(path)?, max)
    }

    /// The directory that holds `path`'s last component (O_PATH), and that component. EINVAL where there is none that could be made or
    /// removed: `/`, `.`, `..`.
    pub fn parent_of<'a>(&self, path: &'a str) -> Result<(OwnedFd, &'a str)> {
        let (parent, leaf) = split(path)?;
        Ok((self.resolve(parent, OFlag::O_PATH | OFlag::O_DIRECTORY)?, leaf))
    }

    /// As [`Root::parent_of`], and makes the missing directories with this mode.
    pub fn parent_or_create<'a>(&self, path: &'a str, mode: u32) -> Result<(OwnedFd, &'a str)> {
        let (parent, leaf) = split(path)?;
        Ok((self.mkdir_all(parent, mode)?, leaf))
    }

    /// The directory at `path` (O_PATH), after making whatever is missing, with this mode less the umask. What exists is followed inside
    /// the root; what is new is made component by component on its parent's descriptor, so a dangling or freshly swapped symbolic link
    /// is an error (ENOTDIR, ELOOP), and a `..` below what exists is ENOENT.
    pub fn mkdir_all(&self, path: &str, mode: u32) -> Result<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        match self.resolve(path, flags) {
            Err(error) if error.errno == Errno::ENOENT => {}
            other => return other,
        }
        let components: Vec<&str> = path.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
        // The longest prefix that exists: the kernel resolves it from the root, so absolute links in it mean the root's.
        let mut existing = components.len().saturating_sub(1);
        let mut current = loop {
            match self.resolve(&components[..existing].join("/"), flags) {
                Err(error) if error.errno == Errno::ENOENT && existing > 0 => existing -= 1,
                other => break other?,
            }
        };
        if let Some(dots) = components[existing..].iter().find(|name| **name == "..") {
            return Err(CallError::new(format!("mkdirat({}, {dots:?}) in {path:?}", call::fd(&current)), Errno::ENOENT));
        }
        for name in &components[existing..] {
            match dir::mkdirat(&current, name, mode) {
                Err(error) if error.errno != Errno::EEXIST => return Err(error),
                _ => {}
            }
            let beneath = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
            current = openat2(&current, name, flags | OFlag::O_NOFOLLOW, 0, beneath)?;
        }
        Ok(current)
    }

    /// What is at `path` (O_PATH), after making an empty regular file with this mode, and its directories with 0755, where nothing is.
    /// Never follows a dangling symbolic link (ELOOP), never truncates.
    pub fn create_file(&self, path: &str, mode: u32) -> Result<OwnedFd> {
        match self.open_path(path) {
            Err(error) if error.errno == Errno::ENOENT => {}
            other => return other,
        }
        let (parent, leaf) = self.parent_or_create(path, 0o755)?;
        let flags = OFlag::O_RDONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
        match dir::openat(&parent, leaf, flags, mode) {
            Err(error) if error.errno == Errno::EEXIST => {}
            other => return other,
        }
        // Somebody was quicker, or a symbolic link that leads nowhere is in the way.
        let found = dir::openat(&parent, leaf, OFlag::O_PATH | OFlag::O_NOFOLLOW, 0)?;
        if super::stat(&found)?.is_symlink() {
            return Err(CallError::new(
                format!("openat({}, {leaf:?}, O_CREAT|O_EXCL|O_NOFOLLOW)", call::fd(&parent)),
                Errno::ELOOP,
            ));
        }
        Ok(found)
    }

    /// Makes a symbolic link at `path`, whose directory exists; EEXIST where anything is there.
    pub fn symlink(&self, target: &str, path: &str) -> Result<()> {
        let (parent, leaf) = self.parent_of(path)?;
        dir::symlinkat(target, &parent, leaf)
    }

    /// What the symbolic link at `path` says.
    pub fn readlink(&self, path: &str) -> Result<std::ffi::OsString> {
        let (parent, leaf) = self.parent_of(path)?;
        dir::readlinkat(&parent, leaf)
    }
}

/// A path in front of its last component, and that component.
fn split(path: &str) -> Result<(&str, &str)> {
    let trimmed = path.trim_end_matches('/');
    let (parent, leaf) = match trimmed.rfind('/') {
        Some(slash) => (&trimmed[..slash], &trimmed[slash + 1..]),
        None => ("", trimmed),
    };
    dir::require_leaf(OsStr::from_bytes(leaf.as_bytes()), "openat2")?;
    Ok((parent, leaf))
}

#[cfg(test)]
#[path = "root_tests.rs"]
mod tests;
