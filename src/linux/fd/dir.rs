// SPDX-License-Identifier: Apache-2.0
//! Single names in an open directory: openat(2) and its kin. Used for the state directory, cgroups, and on the parents that
//! [`super::Root`] has found.
//!
//! A name here is one component: a slash in it, an empty one, `.` and `..` are EINVAL, and a symbolic link there is never followed.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::fcntl::{AT_FDCWD, OFlag};
use nix::sys::stat::Mode;
use nix::unistd::UnlinkatFlags;

use crate::linux::call::{self, Call, CallError, Result, retry, syscall, text};
use crate::linux::types::{DeviceNumber, Errno, NodeKind};

/// EINVAL unless `leaf` is one component that names something in a directory.
pub(super) fn require_leaf(leaf: &OsStr, name: &str) -> Result<()> {
    let bytes = leaf.as_bytes();
    if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') {
        return Err(CallError::new(format!("{name}({})", text(leaf)), Errno::EINVAL));
    }
    Ok(())
}

/// open(2): a directory of the host by its path, open for reading its entries. For paths that an operator wrote, never a container.
pub fn open_dir(path: impl AsRef<OsStr>) -> Result<OwnedFd> {
    open_path_with(path.as_ref(), OFlag::O_RDONLY | OFlag::O_DIRECTORY)
}

/// As [`open_dir`], with O_PATH: search permission is enough.
pub fn open_dir_path(path: impl AsRef<OsStr>) -> Result<OwnedFd> {
    open_path_with(path.as_ref(), OFlag::O_PATH | OFlag::O_DIRECTORY)
}

/// open(2) of a path of the host with these flags and O_CLOEXEC; for paths that an operator wrote, never a container.
pub fn open(path: impl AsRef<OsStr>, flags: OFlag) -> Result<OwnedFd> {
    open_path_with(path.as_ref(), flags)
}

fn open_path_with(path: &OsStr, flags: OFlag) -> Result<OwnedFd> {
    let flags = flags | OFlag::O_CLOEXEC;
    // openat(2) and not open(2): that of musl says close-on-exec twice, for kernels of long ago.
    retry(|| nix::fcntl::openat(AT_FDCWD, path, flags, Mode::empty()))
        .call(|| format!("openat(AT_FDCWD, {}, {})", text(path), super::names_of(&flags)))
}

/// open(2) of a file of the host to append to, made with this mode, less the umask, where it is missing; for paths that an operator wrote.
/// It does not wait: a FIFO that nobody reads is ENXIO. Whoever writes to it afterwards does wait.
pub fn open_to_append(path: impl AsRef<OsStr>, mode: u32) -> Result<OwnedFd> {
    const FLAGS: OFlag =
        OFlag::O_WRONLY.union(OFlag::O_APPEND).union(OFlag::O_CREAT).union(OFlag::O_NOCTTY).union(OFlag::O_CLOEXEC);
    let (path, flags) = (path.as_ref(), FLAGS | OFlag::O_NONBLOCK);
    let fd = retry(|| nix::fcntl::openat(AT_FDCWD, path, flags, Mode::from_bits_truncate(mode)))
        .call(|| format!("openat(AT_FDCWD, {}, {}, 0{mode:o})", text(path), super::names_of(&flags)))?;
    super::set_nonblocking(&fd, false)?;
    Ok(fd)
}

/// access(2): whether there is something at a path of the host. Also when that cannot be told.
pub fn exists(path: impl AsRef<OsStr>) -> bool {
    nix::unistd::access(path.as_ref(), nix::unistd::AccessFlags::F_OK) != Err(Errno::ENOENT)
}

/// As [`exists`], at a path below an open directory: for cgroups, among which there are no links.
pub fn exists_below(dir: impl AsFd, path: &str) -> bool {
    let asked = nix::unistd::faccessat(dir.as_fd(), path, nix::unistd::AccessFlags::F_OK, nix::fcntl::AtFlags::empty());
    asked != Err(Errno::ENOENT)
}

/// openat(2), never following a symbolic link at `leaf` (O_NOFOLLOW|O_CLOEXEC are added).
pub fn openat(dir: impl AsFd, leaf: impl AsRef<OsStr>, flags: OFlag, mode: u32) -> Result<OwnedFd> {
    let leaf = leaf.as_ref();
    require_leaf(leaf, "openat")?;
    let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    retry(|| nix::fcntl::openat(dir.as_fd(), leaf, flags, Mode::from_bits_truncate(mode)))
        .call(|| format!("openat({}, {}, {}, 0{mode:o})", call::fd(dir.as_fd()), text(leaf), super::names_of(&flags)))
}

/// As [`openat`]. That it is not opened is an answer, and no failure to be told of.
pub fn open_if(dir: impl AsFd, leaf: &str, flags: OFlag) -> std::result::Result<OwnedFd, Errno> {
    let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    require_leaf(OsStr::new(leaf), "openat").map_err(|error| error.errno)?;
    retry(|| nix::fcntl::openat(dir.as_fd(), leaf, flags, Mode::empty()))
}

/// mkdirat(2); `mode` less the umask.
pub fn mkdirat(dir: impl AsFd, leaf: impl AsRef<OsStr>, mode: u32) -> Result<()> {
    let leaf = leaf.as_ref();
    require_leaf(leaf, "mkdirat")?;
    nix::sys::stat::mkdirat(dir.as_fd(), leaf, Mode::from_bits_truncate(mode))
        .call(|| format!("mkdirat({}, {}, 0{mode:o})", call::fd(dir.as_fd()), text(leaf)))
}

/// mkdir(2) of a path of the host.
pub fn mkdir(path: impl AsRef<OsStr>, mode: u32) -> Result<()> {
    let path = path.as_ref();
    nix::unistd::mkdir(path, Mode::from_bits_truncate(mode)).call(|| format!("mkdir({}, 0{mode:o})", text(path)))
}

/// unlinkat(2) of anything but a directory.
pub fn unlinkat(dir: impl AsFd, leaf: impl AsRef<OsStr>) -> Result<()> {
    let leaf = leaf.as_ref();
    require_leaf(leaf, "unlinkat")?;
    nix::unistd::unlinkat(dir.as_fd(), leaf, UnlinkatFlags::NoRemoveDir)
        .call(|| format!("unlinkat({}, {}, 0)", call::fd(dir.as_fd()), text(leaf)))
}

/// unlink(2) of a path of the host, that an operator wrote.
pub fn unlink(path: impl AsRef<OsStr>) -> Result<()> {
    nix::unistd::unlink(path.as_ref()).call(|| format!("unlink({})", text(path.as_ref())))
}

/// unlinkat(2) with AT_REMOVEDIR: removes an empty directory (or a cgroup).
pub fn rmdirat(dir: impl AsFd, leaf: impl AsRef<OsStr>) -> Result<()> {
    let leaf = leaf.as_ref();
    require_leaf(leaf, "unlinkat")?;
    nix::unistd::unlinkat(dir.as_fd(), leaf, UnlinkatFlags::RemoveDir)
        .call(|| format!("unlinkat({}, {}, AT_REMOVEDIR)", call::fd(dir.as_fd()), text(leaf)))
}

/// renameat(2) within or between directories; replaces what is there.
pub fn renameat(from: impl AsFd, old: impl AsRef<OsStr>, to: impl AsFd, new: impl AsRef<OsStr>) -> Result<()> {
    let (old, new) = (old.as_ref(), new.as_ref());
    require_leaf(old, "renameat")?;
    require_leaf(new, "renameat")?;
    nix::fcntl::renameat(from.as_fd(), old, to.as_fd(), new)
        .call(|| format!("renameat({}, {}, {}, {})", call::fd(from.as_fd()), text(old), call::fd(to.as_fd()), text(new)))
}

/// symlinkat(2)
pub fn symlinkat(target: impl AsRef<OsStr>, dir: impl AsFd, leaf: impl AsRef<OsStr>) -> Result<()> {
    let (target, leaf) = (target.as_ref(), leaf.as_ref());
    require_leaf(leaf, "symlinkat")?;
    nix::unistd::symlinkat(target, dir.as_fd(), leaf)
        .call(|| format!("symlinkat({}, {}, {})", text(target), call::fd(dir.as_fd()), text(leaf)))
}

/// readlinkat(2)
pub fn readlinkat(dir: impl AsFd, leaf: impl AsRef<OsStr>) -> Result<OsString> {
    let leaf = leaf.as_ref();
    require_leaf(leaf, "readlinkat")?;
    nix::fcntl::readlinkat(dir.as_fd(), leaf).call(|| format!("readlinkat({}, {})", call::fd(dir.as_fd()), text(leaf)))
}

/// readlinkat(2) of a symbolic link that is open itself (O_PATH|O_NOFOLLOW, or a copy of a mount of it).
pub fn readlink_fd(link: impl AsFd) -> Result<OsString> {
    nix::fcntl::readlinkat(link.as_fd(), "").call(|| format!("readlinkat({}, \"\")", call::fd(link.as_fd())))
}

/// readlink(2) of a path of the host.
pub fn readlink(path: impl AsRef<OsStr>) -> Result<OsString> {
    let path = path.as_ref();
    nix::fcntl::readlink(path).call(|| format!("readlink({})", text(path)))
}

/// mknodat(2): a device node or FIFO; `mode` is the permission bits, less the umask.
pub fn mknodat(dir: impl AsFd, leaf: impl AsRef<OsStr>, kind: NodeKind, device: DeviceNumber, mode: u32) -> Result<()> {
    let leaf = leaf.as_ref();
    require_leaf(leaf, "mknodat")?;
    let kind = match kind {
        NodeKind::Character => nix::sys::stat::SFlag::S_IFCHR,
        NodeKind::Block => nix::sys::stat::SFlag::S_IFBLK,
        NodeKind::Fifo => nix::sys::stat::SFlag::S_IFIFO,
    };
    let number = nix::sys::stat::makedev(u64::from(device.major), u64::from(device.minor));
    nix::sys::stat::mknodat(dir.as_fd(), leaf, kind, Mode::from_bits_truncate(mode), number).call(|| {
        let DeviceNumber { major, minor } = device;
        format!("mknodat({}, {}, {kind:?}|0{mode:o}, makedev({major}, {minor}))", call::fd(dir.as_fd()), text(leaf))
    })
}

/// mkfifoat(3); `mode` less the umask.
pub fn mkfifoat(dir: impl AsFd, leaf: impl AsRef<OsStr>, mode: u32) -> Result<()> {
    mknodat(dir, leaf, NodeKind::Fifo, DeviceNumber { major: 0, minor: 0 }, mode)
}

/// openat(2), O_TMPFILE: a new file of this directory that has no name, for writing; [`link_fd`] gives it one. EOPNOTSUPP and EISDIR come
/// from filesystems that have no such files.
pub fn nameless(dir: impl AsFd, mode: u32) -> Result<OwnedFd> {
    let flags = OFlag::O_WRONLY | OFlag::O_TMPFILE | OFlag::O_CLOEXEC;
    retry(|| nix::fcntl::openat(dir.as_fd(), ".", flags, Mode::from_bits_truncate(mode)))
        .call(|| format!("openat({}, \".\", {}, 0{mode:o})", call::fd(dir.as_fd()), super::names_of(&flags)))
}

/// linkat(2) of an O_TMPFILE or other open file to a new name.
///
/// AT_EMPTY_PATH is enough for whoever has CAP_DAC_READ_SEARCH, and from Linux 6.10 on for whoever has opened the file; to others it says
/// ENOENT, and the file is found by way of /proc/self/fd.
pub fn link_fd(file: impl AsFd, dir: impl AsFd, leaf: impl AsRef<OsStr>) -> Result<()> {
    use std::os::fd::AsRawFd;
    let leaf = leaf.as_ref();
    require_leaf(leaf, "linkat")?;
    let linked = nix::unistd::linkat(file.as_fd(), c"", dir.as_fd(), leaf, nix::fcntl::AtFlags::AT_EMPTY_PATH);
    if !matches!(linked, Err(Errno::ENOENT | Errno::EINVAL)) {
        let render =
            || format!("linkat({}, \"\", {}, {}, AT_EMPTY_PATH)", call::fd(file.as_fd()), call::fd(dir.as_fd()), text(leaf));
        return linked.call(render);
    }
    let source = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    nix::unistd::linkat(AT_FDCWD, source.as_str(), dir.as_fd(), leaf, nix::fcntl::AtFlags::AT_SYMLINK_FOLLOW)
        .call(|| format!("linkat(AT_FDCWD, {source:?}, {}, {}, AT_SYMLINK_FOLLOW)", call::fd(dir.as_fd()), text(leaf)))
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name, never `.` or `..`.
    pub name: OsString,
    /// `DT_*` of getdents64(2): 4 a directory, 8 a file, 10 a symbolic link, 0 where the filesystem does not say.
    pub kind: u8,
}

/// All entries of a directory that is open for reading, from its beginning, in the kernel's order; getdents64(2).
pub fn entries(dir: impl AsFd) -> Result<Vec<Entry>> {
    use std::os::fd::AsRawFd;
    let fd = dir.as_fd().as_raw_fd();
    let render = |name: &str| format!("{name}({})", call::raw_fd(fd));
    // SAFETY: lseek takes no pointer.
    Errno::result(unsafe { libc::lseek(fd, 0, libc::SEEK_SET) }).call(|| render("lseek"))?;
    let mut found = Vec::new();
    // u64 words: the records in the buffer are 8-byte aligned.
    let mut buffer = vec![0u64; 4096];
    loop {
        let room = buffer.len() * 8;
        // SAFETY: the kernel writes at most `room` bytes into the buffer, which is that large and lives until the call returns.
        let filled = unsafe { syscall!(libc::SYS_getdents64, fd, buffer.as_mut_ptr(), room) }.call(|| render("getdents64"))?;
        if filled == 0 {
            return Ok(found);
        }
        // SAFETY: any u64 is eight initialised bytes, and the slice covers exactly the buffer.
        let bytes = unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast::<u8>(), room) };
        parse_dirents(&bytes[..filled as usize], &mut found);
    }
}

/// struct linux_dirent64: ino u64, off i64, reclen u16, type u8, name with a NUL at its end.
fn parse_dirents(mut bytes: &[u8], found: &mut Vec<Entry>) {
    const NAME: usize = 19;
    while bytes.len() > NAME {
        let length = usize::from(u16::from_ne_bytes([bytes[16], bytes[17]]));
        if length <= NAME || length > bytes.len() {
            return;
        }
        let name: Vec<u8> = bytes[NAME..length].iter().copied().take_while(|byte| *byte != 0).collect();
        if name != b"." && name != b".." {
            found.push(Entry { name: OsString::from_vec(name), kind: bytes[18] });
        }
        bytes = &bytes[length..];
    }
}

/// The names in a directory that is open for reading.
pub fn names(dir: impl AsFd) -> Result<Vec<OsString>> {
    Ok(entries(dir)?.into_iter().map(|entry| entry.name).collect())
}

/// Removes everything below an open directory, but not itself. Never follows a symbolic link, never leaves the filesystem of `dir`
/// (EXDEV where something is mounted below it). For directories of ours; what is already gone is fine.
pub fn remove_contents(dir: impl AsFd) -> Result<()> {
    let mut flat = 0;
    remove_level(dir.as_fd(), &mut flat)
}

fn remove_level(dir: std::os::fd::BorrowedFd<'_>, depth: &mut u32) -> Result<()> {
    const DEEPEST: u32 = 64;
    if *depth > DEEPEST {
        return Err(CallError::new(format!("unlinkat({}): too deep", call::fd(dir)), Errno::ELOOP));
    }
    *depth += 1;
    for entry in entries(dir)? {
        let gone = match unlinkat(dir, &entry.name) {
            Err(error) if matches!(error.errno, Errno::EISDIR | Errno::EPERM) => {
                let below = super::openat2(
                    dir,
                    &entry.name.to_string_lossy(),
                    OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW,
                    0,
                    nix::fcntl::ResolveFlag::RESOLVE_BENEATH | nix::fcntl::ResolveFlag::RESOLVE_NO_XDEV,
                );
                below.and_then(|below| remove_level(below.as_fd(), depth)).and_then(|()| rmdirat(dir, &entry.name))
            }
            other => other,
        };
        match gone {
            Err(error) if error.errno != Errno::ENOENT => return Err(error),
            _ => {}
        }
    }
    *depth -= 1;
    Ok(())
}
