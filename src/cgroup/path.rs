// SPDX-License-Identifier: Apache-2.0
//! Directories of cgroup hierarchies, opened from the root of a verified mount and never outside it. Used by all of this module.
//!
//! A hierarchy's root is opened by its path and must be what it claims (statfs(2)); everything below is opened by descriptor, with
//! openat2(2) refusing `..`, symbolic links and other mounts. So a cgroup file is never anything but a cgroup file.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::error::{Error, Kind, Result, Told};
use crate::linux::fd::{self, OFlag, ResolveFlag, magic};
use crate::linux::types::Errno;
use crate::linux::{call, probe};
use crate::plan::resources::{SavedDir, Tree};

/// Largest cgroup file that is read whole: cgroup.procs of a very large container.
const FILE_MAX: usize = 16 << 20;

const BENEATH: ResolveFlag = ResolveFlag::RESOLVE_BENEATH
    .union(ResolveFlag::RESOLVE_NO_SYMLINKS)
    .union(ResolveFlag::RESOLVE_NO_MAGICLINKS)
    .union(ResolveFlag::RESOLVE_NO_XDEV);

/// A directory that is open: for as long as it is held, or the root that the command has found and keeps open.
#[derive(Debug)]
enum Open {
    Held(OwnedFd),
    Kept(BorrowedFd<'static>),
}

impl AsFd for Open {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Open::Held(fd) => fd.as_fd(),
            Open::Kept(fd) => *fd,
        }
    }
}

/// The root of a mounted hierarchy.
pub struct Hierarchy {
    fd: Open,
    mount: String,
}

impl Hierarchy {
    /// Opens the hierarchy mounted there; an error where something else is. The cgroup2 tree that this command has looked at need not be
    /// opened again.
    pub fn open(mount: &str, tree: Tree) -> Result<Hierarchy> {
        if let Some(root) = kept(mount, tree) {
            return Ok(Hierarchy { fd: Open::Kept(root), mount: mount.to_string() });
        }
        let fd = fd::open_dir(mount).told(|| format!("cannot open the cgroup hierarchy at {mount}"))?;
        let (want, name) = match tree {
            Tree::V2 => (magic::CGROUP2, "cgroup2"),
            Tree::V1 => (magic::CGROUP, "cgroup"),
        };
        let found = fd::statfs(&fd).told(|| format!("cannot tell what is mounted at {mount}"))?.magic;
        if found != want {
            return Err(Error::new(Kind::Unsupported, format!("{mount} is not a {name} file system (its type is {found:#x})")));
        }
        let fd = match tree {
            Tree::V2 => probe::keep_cgroup2_root(mount, fd).map_or_else(Open::Held, Open::Kept),
            Tree::V1 => Open::Held(fd),
        };
        Ok(Hierarchy { fd, mount: mount.to_string() })
    }

    /// Whether this is the one mounted there.
    pub fn is_at(&self, mount: &str) -> bool {
        self.mount == mount
    }

    /// Reads a file of the directory at `path` that is one record; none where there is no such file or directory.
    pub fn read_if_any(&self, path: &str, file: &str) -> call::Result<Option<String>> {
        let name = format!("{}/{file}", path.trim_start_matches('/'));
        let read = fd::openat2(&self.fd, &name, OFlag::O_RDONLY, 0, BENEATH).and_then(|fd| fd::read_record(fd, FILE_MAX));
        match read {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if is_gone(error.errno) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The root itself.
    pub fn into_root(self) -> Dir {
        Dir { fd: self.fd, path: self.mount }
    }

    /// Opens a directory; `path` begins with `/`, and `/` is the root itself.
    pub fn dir(&self, path: &str) -> call::Result<Dir> {
        let below = path.trim_start_matches('/');
        let (name, path) = if below.is_empty() { (".", self.mount.clone()) } else { (below, format!("{}/{below}", self.mount)) };
        let fd = fd::openat2(&self.fd, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0, BENEATH)?;
        Ok(Dir { fd: Open::Held(fd), path })
    }
}

fn kept(mount: &str, tree: Tree) -> Option<BorrowedFd<'static>> {
    probe::cgroup2_root(mount).filter(|_| tree == Tree::V2)
}

/// One open cgroup.
#[derive(Debug)]
pub struct Dir {
    fd: Open,
    path: String,
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Dir {
    /// Its path on the host, for messages.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Opens a child; `name` is one component.
    pub fn child(&self, name: &str) -> call::Result<Dir> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        Ok(Dir { fd: Open::Held(fd::openat(&self.fd, name, flags, 0)?), path: format!("{}/{name}", self.path) })
    }

    /// Opens a cgroup further down; an empty path is this one again.
    pub fn below(&self, path: &str) -> call::Result<Dir> {
        let (name, path) = if path.is_empty() { (".", self.path.clone()) } else { (path, format!("{}/{path}", self.path)) };
        let fd = fd::openat2(&self.fd, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0, BENEATH)?;
        Ok(Dir { fd: Open::Held(fd), path })
    }

    /// The names of its children; none where it is gone.
    pub fn children(&self) -> call::Result<Vec<String>> {
        self.names(libc::DT_DIR)
    }

    /// The names of its files; none where it is gone.
    pub fn files(&self) -> call::Result<Vec<String>> {
        self.names(libc::DT_REG)
    }

    fn names(&self, kind: u8) -> call::Result<Vec<String>> {
        let entries = match fd::entries(&self.fd) {
            Err(error) if is_gone(error.errno) => return Ok(Vec::new()),
            other => other?,
        };
        Ok(entries.into_iter().filter(|entry| entry.kind == kind).filter_map(|entry| entry.name.into_string().ok()).collect())
    }

    /// Whether the cgroup has this file.
    pub fn has(&self, file: &str) -> bool {
        fd::openat(&self.fd, file, OFlag::O_PATH, 0).is_ok()
    }

    /// Reads a file of the cgroup whole.
    pub fn read(&self, file: &str) -> call::Result<String> {
        let fd = fd::openat(&self.fd, file, OFlag::O_RDONLY, 0)?;
        Ok(String::from_utf8_lossy(&fd::read_bounded(fd, FILE_MAX)?).into_owned())
    }

    /// Reads a file of the cgroup that is one record: not a list like cgroup.procs.
    pub fn read_record(&self, file: &str) -> call::Result<String> {
        let fd = fd::openat(&self.fd, file, OFlag::O_RDONLY, 0)?;
        Ok(String::from_utf8_lossy(&fd::read_record(fd, FILE_MAX)?).into_owned())
    }

    /// Reads a file of the cgroup that is one record; none where it has no such file, or is gone.
    pub fn read_if_any(&self, file: &str) -> call::Result<Option<String>> {
        match self.read_record(file) {
            Ok(text) => Ok(Some(text)),
            Err(error) if is_gone(error.errno) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a value into a file of the cgroup, with one write(2).
    pub fn write(&self, file: &str, value: &str) -> call::Result<()> {
        fd::write_at(&self.fd, file, value.as_bytes())
    }
}

/// What opening or reading a cgroup file says when the file or the whole cgroup is not there (any more).
pub fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ENODEV)
}

/// The number in a line `key number`, as in cgroup.events.
pub fn find_number(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The cgroup above a saved one, open, and the saved one's own name. None where the cgroup above is gone.
pub fn parent_of(saved: &SavedDir, tree: Tree) -> Result<Option<(Dir, &str)>> {
    let (above, name) = split(&saved.path)?;
    Ok(open_path(&saved.mount, above, tree)?.map(|dir| (dir, name)))
}

/// Whether there is something at a saved path, by one look; also when that cannot be told. It is not to be acted upon, but opened then.
pub fn is_there(saved: &SavedDir, tree: Tree) -> bool {
    match (kept(&saved.mount, tree), saved.path.trim_start_matches('/')) {
        (_, "") => true,
        (Some(root), below) => fd::exists_below(root, below),
        (None, _) => fd::exists(format!("{}{}", saved.mount, saved.path)),
    }
}

/// A saved cgroup, open; none where it is gone.
pub fn open_saved(saved: &SavedDir, tree: Tree) -> Result<Option<Dir>> {
    split(&saved.path)?;
    open_path(&saved.mount, &saved.path, tree)
}

fn open_path(mount: &str, path: &str, tree: Tree) -> Result<Option<Dir>> {
    let root = Hierarchy::open(mount, tree)?;
    if path == "/" {
        return Ok(Some(root.into_root()));
    }
    match root.dir(path) {
        Ok(dir) => Ok(Some(dir)),
        Err(error) if error.errno == Errno::ENOENT => Ok(None),
        Err(error) => Err(error).told(|| format!("cannot open the cgroup {mount}{path}")),
    }
}

/// A path of a container's cgroup, as the cgroup above it and its own name. Anything else must not be acted upon: a state file may be
/// damaged, and what is done to a container's cgroup must never be done to the root.
pub fn split(path: &str) -> Result<(&str, &str)> {
    match path.rsplit_once('/') {
        Some((above, name)) if path.starts_with('/') && !matches!(name, "" | "." | "..") => {
            Ok((if above.is_empty() { "/" } else { above }, name))
        }
        _ => Err(Error::new(Kind::State, format!("{path:?} is no path of a container's cgroup"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_has_a_name_and_one_above_it() {
        assert_eq!(split("/a").unwrap(), ("/", "a"));
        assert_eq!(split("/a/b/c").unwrap(), ("/a/b", "c"));
        for bad in ["", "/", "a", "a/b", "/a/", "/a/..", "/.", "/a/.", "//"] {
            assert!(split(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn numbers_in_flat_files() {
        let text = "populated 1\nfrozen 0\nlow 5\nlower 7\n";
        assert_eq!(find_number(text, "populated"), Some(1));
        assert_eq!(find_number(text, "low"), Some(5));
        assert_eq!(find_number(text, "froz"), None);
    }

    #[test]
    fn only_a_cgroup_file_system_is_one() {
        for tree in [Tree::V1, Tree::V2] {
            let error = Hierarchy::open("/proc", tree).err().unwrap();
            assert!(error.to_string().contains("/proc is not a cgroup"), "{error}");
        }
    }
}
