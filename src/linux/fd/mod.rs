// SPDX-License-Identifier: Apache-2.0
//! File descriptors: what they are, opening, reading, writing, locking. Used by everything that touches files.
//!
//! [`Root`] resolves paths of a root filesystem; [`dir`] works on single names in a directory of ours; [`file`] on whole files. All
//! descriptors are close-on-exec.

pub mod dir;
pub mod file;
mod given;
mod root;
pub mod xattr;

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, SealFlag};

pub use dir::{
    Entry, entries, exists, exists_below, link_fd, mkdir, mkdirat, mkfifoat, mknodat, names, open, open_dir, open_dir_path,
    open_if, open_to_append, openat, readlink, readlink_fd, readlinkat, remove_contents, renameat, rmdirat, symlinkat, unlink,
    unlinkat,
};
pub use file::{
    PRIVATE, copy_contents, create_file_at, create_file_of, publish_file, read_at, read_bounded, read_file_bounded, read_more,
    read_record, read_record_of, read_some, require_regular, write_all, write_at, write_file_atomic, write_once,
    write_private_atomic,
};
pub use given::{open_given, read_given};
pub use nix::fcntl::{OFlag, ResolveFlag};
pub use root::{Root, open_within, openat2};

use super::call::{self, Call, Result, retry, syscall};
use super::types::{DeviceNumber, Errno};

/// The names of bit flags as strace(1) joins them: `O_PATH|O_CLOEXEC`.
fn names_of<F: bitflags::Flags>(flags: &F) -> String {
    let names: Vec<&str> = flags.iter_names().map(|(name, _)| name).collect();
    if names.is_empty() { "0".into() } else { names.join("|") }
}

/// What a descriptor refers to; the part of statx(2) that is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Type and permission bits.
    pub mode: u32,
    /// Device of the filesystem, major and minor.
    pub dev: DeviceNumber,
    /// Inode number.
    pub ino: u64,
    /// The device that a device node stands for.
    pub rdev: DeviceNumber,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Hard links.
    pub nlink: u32,
    /// Bytes.
    pub size: u64,
    /// The mount it was reached through (Linux 5.8).
    pub mount_id: Option<u64>,
    /// It is the root of that mount (Linux 5.8).
    pub mount_root: bool,
}

impl Stat {
    /// The type bits, `S_IFMT`.
    pub fn kind(&self) -> u32 {
        self.mode & libc::S_IFMT
    }
    /// A directory.
    pub fn is_dir(&self) -> bool {
        self.kind() == libc::S_IFDIR
    }
    /// A regular file.
    pub fn is_regular(&self) -> bool {
        self.kind() == libc::S_IFREG
    }
    /// A symbolic link.
    pub fn is_symlink(&self) -> bool {
        self.kind() == libc::S_IFLNK
    }
    /// A FIFO or pipe.
    pub fn is_fifo(&self) -> bool {
        self.kind() == libc::S_IFIFO
    }
    /// A socket.
    pub fn is_socket(&self) -> bool {
        self.kind() == libc::S_IFSOCK
    }
    /// The character device `major:minor`.
    pub fn is_char_device(&self, major: u32, minor: u32) -> bool {
        self.kind() == libc::S_IFCHR && self.rdev == DeviceNumber { major, minor }
    }
    /// The same file: device and inode are equal.
    pub fn same_file(&self, other: &Stat) -> bool {
        self.dev == other.dev && self.ino == other.ino
    }
}

/// struct statx of linux/stat.h, as far as it is read.
#[repr(C)]
#[derive(Default)]
struct Statx {
    mask: u32,
    blksize: u32,
    attributes: u64,
    nlink: u32,
    uid: u32,
    gid: u32,
    mode: u16,
    spare0: u16,
    ino: u64,
    size: u64,
    blocks: u64,
    attributes_mask: u64,
    times: [u64; 8],
    rdev_major: u32,
    rdev_minor: u32,
    dev_major: u32,
    dev_minor: u32,
    mnt_id: u64,
    rest: [u64; 13],
}

const STATX_BASIC_STATS: u32 = 0x7ff;
const STATX_MNT_ID: u32 = 0x1000;
const STATX_ATTR_MOUNT_ROOT: u64 = 0x2000;

/// statx(2) of the descriptor itself (AT_EMPTY_PATH); O_PATH is enough.
pub fn stat(fd: impl AsFd) -> Result<Stat> {
    statx(fd.as_fd().as_raw_fd(), c"", libc::AT_EMPTY_PATH)
}

/// statx(2) of a name in a directory, not following a symbolic link there.
pub fn statat(dir: impl AsFd, leaf: impl AsRef<std::ffi::OsStr>) -> Result<Stat> {
    let leaf = call::c_path(leaf.as_ref(), "statx")?;
    statx(dir.as_fd().as_raw_fd(), &leaf, libc::AT_SYMLINK_NOFOLLOW)
}

/// As [`statat`]; none where nothing is, which is often the answer and no error.
pub fn find_at(dir: impl AsFd, leaf: &str) -> Result<Option<Stat>> {
    let path = call::c_path(leaf.as_ref(), "statx")?;
    let dir = dir.as_fd().as_raw_fd();
    match statx_raw(dir, &path, libc::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::ENOENT) => Ok(None),
        other => other.map(Some).call(|| format!("statx({}, {path:?}, AT_SYMLINK_NOFOLLOW)", call::raw_fd(dir))),
    }
}

/// statx(2) of a path of the host, following symbolic links.
pub fn stat_path(path: impl AsRef<std::ffi::OsStr>) -> Result<Stat> {
    let path = call::c_path(path.as_ref(), "statx")?;
    statx(libc::AT_FDCWD, &path, 0)
}

fn statx(dir: RawFd, path: &CStr, flags: libc::c_int) -> Result<Stat> {
    statx_raw(dir, path, flags).call(|| format!("statx({}, {path:?}, {flags:#x})", call::raw_fd(dir)))
}

fn statx_raw(dir: RawFd, path: &CStr, flags: libc::c_int) -> nix::Result<Stat> {
    let mut out = Statx::default();
    let mask = STATX_BASIC_STATS | STATX_MNT_ID;
    // SAFETY: `path` ends with NUL; `out` is a struct statx (256 bytes) that lives until the call returns.
    unsafe { syscall!(libc::SYS_statx, dir, path.as_ptr(), flags, mask, &raw mut out) }?;
    Ok(Stat {
        mode: u32::from(out.mode),
        dev: DeviceNumber { major: out.dev_major, minor: out.dev_minor },
        ino: out.ino,
        rdev: DeviceNumber { major: out.rdev_major, minor: out.rdev_minor },
        uid: out.uid,
        gid: out.gid,
        nlink: out.nlink,
        size: out.size,
        mount_id: (out.mask & STATX_MNT_ID != 0).then_some(out.mnt_id),
        mount_root: out.attributes & out.attributes_mask & STATX_ATTR_MOUNT_ROOT != 0,
    })
}

/// Filesystem types by their magic numbers, statfs(2).
pub mod magic {
    /// procfs
    pub const PROC: u64 = 0x9fa0;
    /// sysfs
    pub const SYSFS: u64 = 0x6265_6572;
    /// cgroup v1
    pub const CGROUP: u64 = 0x0027_e0eb;
    /// cgroup v2
    pub const CGROUP2: u64 = 0x6367_7270;
    /// devpts
    pub const DEVPTS: u64 = 0x1cd1;
    /// tmpfs
    pub const TMPFS: u64 = 0x0102_1994;
    /// ramfs, the first root of older kernels
    pub const RAMFS: u64 = 0x8584_58f6;
    /// nsfs
    pub const NSFS: u64 = 0x6e73_6673;
    /// bpffs
    pub const BPF: u64 = 0xcafe_4a11;
    /// selinuxfs
    pub const SELINUX: u64 = 0xf97c_ff8c;
    /// resctrl
    pub const RESCTRL: u64 = 0x0765_5821;
    /// overlayfs
    pub const OVERLAY: u64 = 0x794c_7630;
    /// pidfs: what a pidfd refers to, from Linux 6.9 on
    pub const PIDFS: u64 = 0x5049_4446;
    /// pipefs: pipes without a name
    pub const PIPEFS: u64 = 0x5049_5045;
}

/// The filesystem under a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatFs {
    /// One of [`magic`].
    pub magic: u64,
    /// `ST_*` of statvfs(3): how the mount it was reached through is restricted, where bit 0 is `ST_RDONLY`.
    pub flags: u64,
}

impl StatFs {
    /// The mount or its filesystem is read-only.
    pub fn read_only(&self) -> bool {
        self.flags & libc::ST_RDONLY != 0
    }
}

/// struct statfs of asm-generic/statfs.h for 64-bit machines; libc's hides the flags.
#[repr(C)]
#[derive(Default)]
struct RawStatFs {
    kind: u64,
    block_size: u64,
    counts: [u64; 5],
    fsid: [i32; 2],
    name_length: u64,
    fragment_size: u64,
    flags: u64,
    spare: [u64; 4],
}

/// fstatfs(2); O_PATH is enough.
pub fn statfs(fd: impl AsFd) -> Result<StatFs> {
    let mut out = RawStatFs::default();
    // SAFETY: `out` is a struct statfs (120 bytes) that lives until the call returns.
    retry(|| unsafe { syscall!(libc::SYS_fstatfs, fd.as_fd().as_raw_fd(), &raw mut out) })
        .call(|| format!("fstatfs({})", call::fd(fd.as_fd())))?;
    Ok(StatFs { magic: out.kind & 0xffff_ffff, flags: out.flags })
}

/// statfs(2) of a path of the host, following symbolic links.
pub fn statfs_path(path: &CStr) -> Result<StatFs> {
    let mut out = RawStatFs::default();
    // SAFETY: `path` ends with NUL; `out` is a struct statfs (120 bytes) that lives until the call returns.
    retry(|| unsafe { syscall!(libc::SYS_statfs, path.as_ptr(), &raw mut out) }).call(|| format!("statfs({path:?})"))?;
    Ok(StatFs { magic: out.kind & 0xffff_ffff, flags: out.flags })
}

/// flock(2) LOCK_UN: what is held by this descriptor is free for others.
pub fn unlock(fd: impl AsFd) -> Result<()> {
    // SAFETY: flock takes no pointer.
    Errno::result(unsafe { libc::flock(fd.as_fd().as_raw_fd(), libc::LOCK_UN) })
        .map(drop)
        .call(|| format!("flock({}, LOCK_UN)", call::fd(fd.as_fd())))
}

/// flock(2). `Ok(false)` where somebody else holds it and `wait` is false.
pub fn flock(fd: impl AsFd, exclusive: bool, wait: bool) -> Result<bool> {
    let operation = if exclusive { libc::LOCK_EX } else { libc::LOCK_SH } | if wait { 0 } else { libc::LOCK_NB };
    // SAFETY: flock takes no pointer.
    match retry(|| Errno::result(unsafe { libc::flock(fd.as_fd().as_raw_fd(), operation) })) {
        Err(Errno::EWOULDBLOCK) if !wait => Ok(false),
        other => other.map(|_| true).call(|| {
            let names = [(2, "LOCK_EX"), (1, "LOCK_SH"), (4, "LOCK_NB")];
            format!("flock({}, {})", call::fd(fd.as_fd()), call::flags(operation as u64, &names))
        }),
    }
}

/// fchownat(2) with AT_EMPTY_PATH: the owner of what the descriptor refers to, which may be O_PATH; a symbolic link itself.
/// u32::MAX leaves an id as it is.
pub fn fchown(fd: impl AsFd, uid: u32, gid: u32) -> Result<()> {
    // SAFETY: the path is a NUL-terminated constant.
    unsafe { syscall!(libc::SYS_fchownat, fd.as_fd().as_raw_fd(), c"".as_ptr(), uid, gid, libc::AT_EMPTY_PATH) }
        .call(|| format!("fchownat({}, \"\", {uid}, {gid}, AT_EMPTY_PATH)", call::fd(fd.as_fd())))?;
    Ok(())
}

/// The permission bits of what the descriptor refers to, which may be O_PATH: fchmod(2), for O_PATH fchmodat2(2) with AT_EMPTY_PATH
/// (Linux 6.6), before that chmod(2) through /proc/self/fd (which must be the real procfs).
pub fn fchmod(fd: impl AsFd, mode: u32) -> Result<()> {
    const SYS_FCHMODAT2: libc::c_long = 452;
    let raw = fd.as_fd().as_raw_fd();
    // SAFETY: fchmod takes no pointer.
    match unsafe { syscall!(libc::SYS_fchmod, raw, mode) } {
        Err(Errno::EBADF) => {}
        other => return other.map(drop).call(|| format!("fchmod({}, 0{mode:o})", call::raw_fd(raw))),
    }
    // SAFETY: the path is a NUL-terminated constant.
    match unsafe { syscall!(SYS_FCHMODAT2, raw, c"".as_ptr(), mode, libc::AT_EMPTY_PATH) } {
        Err(Errno::ENOSYS) => {}
        other => return other.map(drop).call(|| format!("fchmodat2({}, \"\", 0{mode:o}, AT_EMPTY_PATH)", call::raw_fd(raw))),
    }
    let path = format!("/proc/self/fd/{raw}");
    let bits = nix::sys::stat::Mode::from_bits_truncate(mode);
    nix::sys::stat::fchmodat(nix::fcntl::AT_FDCWD, path.as_str(), bits, nix::sys::stat::FchmodatFlags::FollowSymlink)
        .call(|| format!("fchmodat(AT_FDCWD, {path:?}, 0{mode:o})"))
}

/// close_range(2), Linux 5.9 (CLOEXEC 5.11): closes every descriptor from `first` on, or marks them close-on-exec. Descriptors that this
/// program still owns may be closed by it, so closing is for the moment before execve(2); marking is safe at any time.
pub fn close_range(first: u32, mark_only: bool) -> Result<()> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    let flags = if mark_only { CLOSE_RANGE_CLOEXEC } else { 0 };
    // SAFETY: no pointer; that descriptors vanish is the caller's explicit wish.
    unsafe { syscall!(libc::SYS_close_range, first, u32::MAX, flags) }
        .call(|| format!("close_range({first}, ~0U, {})", call::flags(u64::from(flags), &[(4, "CLOSE_RANGE_CLOEXEC")])))?;
    Ok(())
}

/// close_range(2) of every descriptor from `first` on but these: for a new process, which owns none of what its parent had open.
pub fn close_all_but(first: RawFd, mut keep: Vec<RawFd>) -> Result<()> {
    keep.retain(|fd| *fd >= first);
    keep.sort_unstable();
    let mut from = i64::from(first);
    for kept in keep.iter().map(|fd| i64::from(*fd)).chain([i64::from(u32::MAX) + 1]) {
        if from < kept {
            // SAFETY: no pointer; that descriptors vanish is the caller's explicit wish.
            unsafe { syscall!(libc::SYS_close_range, from, kept - 1, 0) }
                .call(|| format!("close_range({from}, {}, 0)", kept - 1))?;
        }
        from = kept + 1;
    }
    Ok(())
}

/// dup3(2) onto a fixed number, which the exec'd program shall find: `to` is *not* close-on-exec. Where `fd` is `to` already, only its
/// close-on-exec mark is taken off.
pub fn dup_onto(fd: impl AsFd, to: RawFd) -> Result<()> {
    let from = fd.as_fd().as_raw_fd();
    if from == to {
        return set_cloexec(fd, false);
    }
    // SAFETY: dup3 takes no pointer; what `to` was before is replaced, as asked.
    retry(|| Errno::result(unsafe { libc::dup3(from, to, 0) })).call(|| format!("dup3({}, {to}, 0)", call::raw_fd(from)))?;
    Ok(())
}

/// A duplicate with a number of at least `least`, close-on-exec; fcntl(2) F_DUPFD_CLOEXEC.
pub fn dup_from(fd: impl AsFd, least: RawFd) -> Result<OwnedFd> {
    // Not by the C library, which marks the new descriptor once more.
    // SAFETY: no pointer.
    let new = unsafe { syscall!(libc::SYS_fcntl, fd.as_fd().as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) }
        .call(|| format!("fcntl({}, F_DUPFD_CLOEXEC, {least})", call::fd(fd.as_fd())))?;
    // SAFETY: the kernel just gave us this new descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(new as RawFd) })
}

/// Sets or takes off the close-on-exec mark; fcntl(2) F_SETFD.
pub fn set_cloexec(fd: impl AsFd, on: bool) -> Result<()> {
    let flags = if on { FdFlag::FD_CLOEXEC } else { FdFlag::empty() };
    nix::fcntl::fcntl(fd.as_fd(), FcntlArg::F_SETFD(flags))
        .call(|| format!("fcntl({}, F_SETFD, {})", call::fd(fd.as_fd()), names_of(&flags)))?;
    Ok(())
}

/// Sets or takes off O_NONBLOCK of the open file, which other processes may share; fcntl(2) F_SETFL.
pub fn set_nonblocking(fd: impl AsFd, on: bool) -> Result<()> {
    let render = |what: &str| format!("fcntl({}, {what})", call::fd(fd.as_fd()));
    let old = nix::fcntl::fcntl(fd.as_fd(), FcntlArg::F_GETFL).call(|| render("F_GETFL"))?;
    let mut flags = OFlag::from_bits_retain(old);
    flags.set(OFlag::O_NONBLOCK, on);
    nix::fcntl::fcntl(fd.as_fd(), FcntlArg::F_SETFL(flags)).call(|| render("F_SETFL"))?;
    Ok(())
}

/// Whether this number is an open descriptor.
pub fn is_open(fd: RawFd) -> bool {
    // SAFETY: F_GETFD takes no pointer and changes nothing, whatever the number is.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// Whether this number is an open descriptor that the program was given when it was executed, and so will be what it executes: all that
/// it opens itself is close-on-exec.
pub fn is_inherited(fd: RawFd) -> bool {
    // SAFETY: as in `is_open`.
    unsafe { libc::fcntl(fd, libc::F_GETFD) == 0 }
}

/// Takes over a descriptor that the caller of the program passed by number. EBADF where it is not open.
///
/// # Safety
/// Nothing else in this program owns this number.
pub unsafe fn adopt(fd: RawFd) -> Result<OwnedFd> {
    if !is_open(fd) {
        return Err(Errno::EBADF).call(|| format!("fcntl({fd}, F_GETFD)"));
    }
    // SAFETY: it is open, and the caller promises that it has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// As [`adopt`], without a look whether it is open: the first use of it will say so.
///
/// # Safety
/// Nothing else in this program owns this number, and where it turns out not to be open, it is not dropped.
pub unsafe fn adopt_unseen(fd: RawFd) -> OwnedFd {
    // SAFETY: the caller's.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Closes descriptors, those with successive numbers by one close_range(2).
pub fn close_all(fds: Vec<OwnedFd>) {
    let mut numbers: Vec<RawFd> = fds.into_iter().map(IntoRawFd::into_raw_fd).collect();
    numbers.sort_unstable();
    for run in numbers.chunk_by(|one, next| next - one == 1) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        // SAFETY: no pointer. Each number was owned here, and the owner gave it up above. As of close(2), an error closes them all the same.
        let _ = unsafe { syscall!(libc::SYS_close_range, *first, *last, 0) };
    }
}

/// The standard streams, in the order of their numbers. (The standard library's own handles come with buffers.)
pub fn standard_streams() -> [BorrowedFd<'static>; 3] {
    // SAFETY: they are open from the program's first moment (`linux::start`) to its end, whatever is put in their places.
    [0, 1, 2].map(|number| unsafe { BorrowedFd::borrow_raw(number) })
}

/// pipe2(2): the reading and the writing end.
pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    nix::unistd::pipe2(OFlag::O_CLOEXEC).call(|| "pipe2(O_CLOEXEC)".into())
}

/// memfd_create(2): a file in memory that can be sealed; with `exec`, one that may be executed also where the kernel's default
/// (vm.memfd_noexec, Linux 6.3) is no.
pub fn memfd(name: &CStr, exec: bool) -> Result<OwnedFd> {
    const MFD_EXEC: u32 = 0x10;
    let base = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: `name` ends with NUL.
    let create = |flags: u32| unsafe { syscall!(libc::SYS_memfd_create, name.as_ptr(), flags) };
    let mut fd = create(if exec { base | MFD_EXEC } else { base });
    if exec && fd == Err(Errno::EINVAL) {
        fd = create(base); // Before Linux 6.3 every memfd may be executed.
    }
    let fd = fd.call(|| format!("memfd_create({name:?}, MFD_CLOEXEC|MFD_ALLOW_SEALING)"))?;
    // SAFETY: the kernel just gave us this new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Seals a [`memfd`] for ever against writing, growing, shrinking and unsealing; fcntl(2) F_ADD_SEALS.
pub fn seal(fd: impl AsFd) -> Result<()> {
    let seals = SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    nix::fcntl::fcntl(fd.as_fd(), FcntlArg::F_ADD_SEALS(seals))
        .call(|| format!("fcntl({}, F_ADD_SEALS)", call::fd(fd.as_fd())))?;
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
