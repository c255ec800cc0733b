// SPDX-License-Identifier: Apache-2.0
//! Filesystems whose place is certain. Most mounts of a container lie in its root or in a filesystem that was mounted a moment ago. From
//! the descriptor of such a filesystem the kernel finds their place in one call, that follows no link and enters no other mount
//! (RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV): then it is a place of that filesystem, which is no procfs, and nothing about it is left to be
//! verified. Wherever this does not find a place, `target` looks for it as the image leads there. Used by `mount`, `device`.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::RootFs;
use super::target::Make;
use crate::linux::call;
use crate::linux::fd::{self, OFlag, ResolveFlag};
use crate::linux::mount as sys;
use crate::linux::types::{DeviceNumber, Errno};

/// Filesystems that were mounted at a path without links.
#[derive(Default)]
pub(super) struct Known {
    mounts: Vec<Filesystem>,
    /// Whether the root filesystem is no procfs, once that is known.
    root: Option<bool>,
}

struct Filesystem {
    /// From the root on, without a slash at either end.
    path: String,
    root: OwnedFd,
    /// Nobody else sees it, and it holds only what was made in it here.
    fresh: bool,
    /// It is the working directory.
    entered: bool,
}

/// How many are kept: there may be hundreds of mounts, and few descriptors.
const MOST: usize = 8;

/// A path without empty names, `.` and `..`, less the slashes at its ends.
fn plain(path: &str) -> Option<&str> {
    let path = path.strip_prefix('/')?.trim_end_matches('/');
    path.split('/').all(|name| !matches!(name, "" | "." | "..")).then_some(path)
}

/// The only name in this path from the root on.
pub(super) fn name_in_root(path: &str) -> Option<&str> {
    path.strip_prefix('/').and_then(only_name)
}

/// The path, where it is nothing but a name.
pub(super) fn only_name(path: &str) -> Option<&str> {
    (!matches!(path, "" | "." | "..") && !path.contains('/')).then_some(path)
}

/// What is left of a path below another.
fn below<'a>(path: &'a str, above: &str) -> Option<&'a str> {
    path.strip_prefix(above)?.strip_prefix('/')
}

impl Known {
    /// In a root filesystem on this device. Disks have one each; only where the kernel has made one up it may be a procfs's.
    pub(super) fn in_filesystem(device: DeviceNumber) -> Known {
        Known { root: (device.major != 0).then_some(true), ..Known::default() }
    }

    /// The filesystem that was mounted at exactly this path.
    pub(super) fn at(&self, path: &str) -> Option<usize> {
        let path = plain(path)?;
        self.mounts.iter().position(|known| known.path == path)
    }

    /// The same, if it holds only what was made in it here.
    pub(super) fn fresh_at(&self, path: &str) -> Option<BorrowedFd<'_>> {
        self.mounts.get(self.at(path)?).filter(|known| known.fresh).map(|known| known.root.as_fd())
    }

    /// Its root directory.
    pub(super) fn root(&self, index: usize) -> BorrowedFd<'_> {
        self.mounts[index].root.as_fd()
    }

    /// The fresh filesystem in which exactly the last name of this path is missing to it, and that name.
    pub(super) fn fresh_above<'a>(&self, path: &'a str) -> Option<(usize, &'a str)> {
        let (parent, name) = plain(path)?.rsplit_once('/')?;
        let index = self.mounts.iter().position(|known| known.path == parent)?;
        self.mounts[index].fresh.then_some((index, name))
    }

    /// The filesystem that this path is a name in the root of, and that name.
    pub(super) fn above<'a>(&self, path: &'a str) -> Option<(BorrowedFd<'_>, &'a str)> {
        let (parent, name) = plain(path)?.rsplit_once('/')?;
        let above = self.mounts.iter().find(|known| known.path == parent)?;
        Some((above.root.as_fd(), name))
    }

    /// Makes one of them the working directory.
    pub(super) fn enter(&mut self, index: usize) -> call::Result<()> {
        if !self.mounts[index].entered {
            self.leave();
            sys::fchdir(&self.mounts[index].root)?;
            self.mounts[index].entered = true;
        }
        Ok(())
    }

    /// Another directory becomes the working directory.
    pub(super) fn leave(&mut self) {
        self.mounts.iter_mut().for_each(|known| known.entered = false);
    }

    /// A new filesystem has been mounted at this path, which leads there without links. Given back where no more are kept.
    pub(super) fn add(&mut self, path: &str, root: OwnedFd, fresh: bool) -> Option<OwnedFd> {
        match plain(path) {
            Some(path) if self.mounts.len() < MOST => {
                self.mounts.push(Filesystem { path: path.to_string(), root, fresh, entered: false })
            }
            _ => return Some(root),
        }
        None
    }

    /// Something has been mounted at this path, which leads there without links: what it covers is not found by its path any more.
    pub(super) fn cover(&mut self, path: &str) -> Vec<OwnedFd> {
        let path = plain(path).unwrap_or_default();
        let covered = |known: &mut Filesystem| known.path == path || below(&known.path, path).is_some();
        self.mounts.extract_if(.., covered).map(|known| known.root).collect()
    }

    /// Nothing is certain any more.
    pub(super) fn forget(&mut self) -> Vec<OwnedFd> {
        self.root = None;
        self.mounts.drain(..).map(|known| known.root).collect()
    }
}

impl RootFs {
    /// The place of a mount where it is certain, made in a fresh filesystem where `make` says what; and whether it is in one. None says
    /// nothing: it may be there nevertheless.
    pub(super) fn certain_place(&mut self, path: &str, make: Option<Make>) -> Option<(OwnedFd, bool)> {
        let path = plain(path)?;
        let deepest = self.known.mounts.iter().filter_map(|known| Some((known, below(path, &known.path)?)));
        let (dir, rest, fresh) = match deepest.min_by_key(|(_, rest)| rest.len()) {
            Some((known, rest)) => {
                if let Some(make) = make.filter(|_| known.fresh && !rest.contains('/')) {
                    make_in(known.root.as_fd(), rest, make)?;
                }
                (known.root.as_fd(), rest, known.fresh)
            }
            None => {
                let root = &self.root;
                let proc = || fd::statfs(root).map(|root| root.magic != fd::magic::PROC).unwrap_or_default();
                if !*self.known.root.get_or_insert_with(proc) {
                    return None;
                }
                (root.as_fd(), path, false)
            }
        };
        let flags = match make {
            Some(Make::Directory) => OFlag::O_PATH | OFlag::O_DIRECTORY,
            Some(Make::File) | None => OFlag::O_PATH,
        };
        let place = fd::open_within(dir, rest, flags, ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS).ok()?;
        Some((place, fresh))
    }

    /// Others may have mounted something: from now on every place is looked for.
    pub fn forget_places(&mut self) {
        self.parent = None;
        self.known.forget().into_iter().for_each(|fd| self.spend(fd));
    }

    /// The root of the fresh filesystem on this path, where there is one.
    pub fn fresh(&self, path: &str) -> Option<BorrowedFd<'_>> {
        self.known.fresh_at(path)
    }
}

/// Makes a name where nothing is yet; none where that cannot be.
fn make_in(dir: BorrowedFd<'_>, name: &str, make: Make) -> Option<()> {
    match super::target::make_one(dir, OsStr::new(name), make) {
        Err(error) if error.errno != Errno::EEXIST => None,
        _ => Some(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_plain_or_not() {
        assert_eq!(plain("/dev/pts/"), Some("dev/pts"));
        for odd in ["dev", "/", "", "/dev/../proc", "/./dev", "/dev//pts"] {
            assert_eq!(plain(odd), None, "{odd}");
        }
        assert_eq!(below("dev/pts", "dev"), Some("pts"));
        assert_eq!(below("device", "dev"), None);
    }

    #[test]
    fn what_is_covered_is_not_known() {
        let mut known = Known::default();
        let dir = || fd::open_dir_path("/").unwrap();
        for path in ["/dev", "/dev/shm", "/device", "/sys"] {
            assert!(known.add(path, dir(), true).is_none());
        }
        assert!(known.fresh_at("/dev").is_some() && known.fresh_at("/dev/").is_some() && known.at("/proc").is_none());
        assert_eq!(known.cover("/dev").len(), 2);
        assert!(known.at("/dev").is_none() && known.at("/dev/shm").is_none() && known.at("/device").is_some());
        assert_eq!(known.forget().len(), 2);
        for number in 0..MOST {
            assert!(known.add(&format!("/{number}"), dir(), false).is_none());
        }
        assert!(known.add("/more", dir(), false).is_some() && known.fresh_at("/1").is_none());
    }
}
