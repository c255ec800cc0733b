// SPDX-License-Identifier: Apache-2.0
//! Mounts by descriptor: open_tree(2), move_mount(2), mount_setattr(2), pivot_root(2). Used by `rootfs`.
//!
//! A mount is made or copied detached, given its attributes while nobody can see it, and then moved onto a directory descriptor: no path
//! is resolved twice. Linux 5.12 for all of it.

mod context;

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::sync::atomic::{AtomicBool, Ordering};

use bitflags::bitflags;
use nix::mount::{MntFlags, MsFlags};

pub use context::{new_mount, new_mount_and_context, reconfigure};

use super::call::{self, Call, CallError, Result, syscall, text};
use super::types::{Errno, Propagation};

bitflags! {
    /// What [`open_tree`] opens.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct OpenTree: u32 {
        /// A detached copy of the mount, rather than a handle on it.
        const CLONE = 1;
        /// A new mount namespace that has a copy of the mount as its root, and nothing else of this one (Linux 7.0).
        const NAMESPACE = 2;
        /// Of the mounts below it, too.
        const RECURSIVE = 0x8000;
        /// A symbolic link at the end is itself what is opened.
        const NOFOLLOW = 0x100;
        /// Do not trigger an automount at the end.
        const NO_AUTOMOUNT = 0x800;
        /// An empty path is the directory descriptor itself.
        const EMPTY_PATH = 0x1000;
    }
}

/// open_tree(2): `path` from the directory `dir` (an absolute path ignores it).
pub fn open_tree(dir: impl AsFd, path: impl AsRef<OsStr>, flags: OpenTree) -> Result<OwnedFd> {
    open_tree_at(dir.as_fd().as_raw_fd(), path.as_ref(), flags)
}

/// open_tree(2) of a path of the host.
pub fn open_tree_path(path: impl AsRef<OsStr>, flags: OpenTree) -> Result<OwnedFd> {
    open_tree_at(libc::AT_FDCWD, path.as_ref(), flags)
}

/// The kernel has no open_tree_attr(2).
static MISSING: AtomicBool = AtomicBool::new(false);

/// open_tree(2) of a copy and [`mount_setattr`] of all of it, by one call where the kernel has it (open_tree_attr(2), Linux 6.15).
pub fn open_tree_changed(dir: impl AsFd, path: impl AsRef<OsStr>, flags: OpenTree, change: &Change<'_>) -> Result<OwnedFd> {
    const OPEN_TREE_ATTR: libc::c_long = 467;
    let (dir, path, flags) = (dir.as_fd(), path.as_ref(), flags | OpenTree::CLONE);
    if !MISSING.load(Ordering::Relaxed) {
        let name = call::c_path(path, "open_tree_attr")?;
        let mut raw = RawMountAttr::of(change);
        let size = size_of::<RawMountAttr>();
        // SAFETY: the path ends with NUL, `raw` lives until the call returns.
        match unsafe {
            syscall!(OPEN_TREE_ATTR, dir.as_raw_fd(), name.as_ptr(), flags.bits() | OPEN_TREE_CLOEXEC, &raw mut raw, size)
        } {
            // SAFETY: the kernel just gave us this new descriptor.
            Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }),
            // Whatever else it is, the two will say so, each for itself.
            Err(error) => MISSING.store(error == Errno::ENOSYS, Ordering::Relaxed),
        }
    }
    let tree = open_tree(dir, path, flags)?;
    mount_setattr(&tree, flags.contains(OpenTree::RECURSIVE), change)?;
    Ok(tree)
}

/// A detached copy of what `fd` (O_PATH is enough) refers to, with the mounts below it where `recursive`: a bind mount's first half.
pub fn clone_tree(fd: impl AsFd, recursive: bool) -> Result<OwnedFd> {
    let below = if recursive { OpenTree::RECURSIVE } else { OpenTree::empty() };
    open_tree(fd, "", OpenTree::CLONE | OpenTree::EMPTY_PATH | below)
}

/// A new mount namespace whose root is a copy of what `fd` refers to, with the mounts below it; for setns(2). It belongs to this process's
/// user namespace. `fd` must be a directory: early kernels do not look.
pub fn open_tree_namespace(fd: impl AsFd) -> Result<OwnedFd> {
    open_tree(fd, "", OpenTree::NAMESPACE | OpenTree::EMPTY_PATH | OpenTree::RECURSIVE)
}

/// How many mounts this process sees, but at most `most`: listmount(2), Linux 6.8. The kernel stops where there is no more room.
pub fn count(most: usize) -> Result<usize> {
    const LISTMOUNT: libc::c_long = 458;
    /// struct mnt_id_req, MNT_ID_REQ_SIZE_VER0
    #[repr(C)]
    struct Request {
        size: u32,
        spare: u32,
        mount: u64,
        last: u64,
    }
    const LSMT_ROOT: u64 = u64::MAX;
    let request = Request { size: size_of::<Request>() as u32, spare: 0, mount: LSMT_ROOT, last: 0 };
    let mut ids: Vec<u64> = Vec::with_capacity(most);
    // SAFETY: the kernel reads the request and writes at most `most` numbers, for which there is room; both live until it returns.
    let found = unsafe { syscall!(LISTMOUNT, &raw const request, ids.as_mut_ptr(), most, 0) }
        .call(|| format!("listmount(LSMT_ROOT, {most})"))?;
    Ok(found as usize)
}

const OPEN_TREE_CLOEXEC: u32 = libc::O_CLOEXEC as u32;

fn open_tree_at(dir: RawFd, path: &OsStr, flags: OpenTree) -> Result<OwnedFd> {
    let c_path = call::c_path(path, "open_tree")?;
    // SAFETY: the path ends with NUL.
    let fd = unsafe { syscall!(libc::SYS_open_tree, dir, c_path.as_ptr(), flags.bits() | OPEN_TREE_CLOEXEC) }.call(|| {
        let names = [
            (1, "OPEN_TREE_CLONE"),
            (2, "OPEN_TREE_NAMESPACE"),
            (0x8000, "AT_RECURSIVE"),
            (0x100, "AT_SYMLINK_NOFOLLOW"),
            (0x800, "AT_NO_AUTOMOUNT"),
            (0x1000, "AT_EMPTY_PATH"),
            (u64::from(OPEN_TREE_CLOEXEC), "OPEN_TREE_CLOEXEC"),
        ];
        let flags = call::flags(u64::from(flags.bits() | OPEN_TREE_CLOEXEC), &names);
        format!("open_tree({}, {}, {flags})", call::raw_fd(dir), text(path))
    })?;
    // SAFETY: the kernel just gave us this new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// move_mount(2): attaches a detached mount (or moves an attached one) onto what `onto` refers to. `mount` stays a handle on it;
/// `onto` is afterwards what lies below.
pub fn move_mount(mount: impl AsFd, onto: impl AsFd) -> Result<()> {
    move_mount_at(mount.as_fd().as_raw_fd(), onto.as_fd().as_raw_fd(), OsStr::new(""), T_EMPTY_PATH)
}

/// move_mount(2) onto what is at a path of the host, following symbolic links.
pub fn move_mount_to_path(mount: impl AsFd, path: impl AsRef<OsStr>) -> Result<()> {
    move_mount_at(mount.as_fd().as_raw_fd(), libc::AT_FDCWD, path.as_ref(), T_SYMLINKS)
}

/// move_mount(2) onto a path from the directory `dir`, not following a symbolic link at its end.
pub fn move_mount_to(mount: impl AsFd, dir: impl AsFd, path: impl AsRef<OsStr>) -> Result<()> {
    move_mount_at(mount.as_fd().as_raw_fd(), dir.as_fd().as_raw_fd(), path.as_ref(), 0)
}

/// Flags of move_mount(2) for where the mount goes.
const T_SYMLINKS: u32 = 0x10;
const T_EMPTY_PATH: u32 = 0x40;

fn move_mount_at(mount: RawFd, dir: RawFd, path: &OsStr, to_flags: u32) -> Result<()> {
    const F_EMPTY_PATH: u32 = 0x4;
    let to = call::c_path(path, "move_mount")?;
    let flags = F_EMPTY_PATH | to_flags;
    // SAFETY: both paths end with NUL.
    unsafe { syscall!(libc::SYS_move_mount, mount, c"".as_ptr(), dir, to.as_ptr(), flags) }.call(|| {
        let names = [
            (u64::from(F_EMPTY_PATH), "MOVE_MOUNT_F_EMPTY_PATH"),
            (u64::from(T_SYMLINKS), "MOVE_MOUNT_T_SYMLINKS"),
            (u64::from(T_EMPTY_PATH), "MOVE_MOUNT_T_EMPTY_PATH"),
        ];
        let flags = call::flags(u64::from(flags), &names);
        format!("move_mount({}, \"\", {}, {}, {flags})", call::raw_fd(mount), call::raw_fd(dir), text(path))
    })?;
    Ok(())
}

/// `MOUNT_ATTR_IDMAP`
const ATTR_IDMAP: u64 = 0x0010_0000;

/// The names of `MOUNT_ATTR_*` bits.
fn attr_names(bits: u64) -> String {
    let names = [
        (0x1, "MOUNT_ATTR_RDONLY"),
        (0x2, "MOUNT_ATTR_NOSUID"),
        (0x4, "MOUNT_ATTR_NODEV"),
        (0x8, "MOUNT_ATTR_NOEXEC"),
        (0x70, "MOUNT_ATTR__ATIME"),
        (0x10, "MOUNT_ATTR_NOATIME"),
        (0x20, "MOUNT_ATTR_STRICTATIME"),
        (0x80, "MOUNT_ATTR_NODIRATIME"),
        (0x0020_0000, "MOUNT_ATTR_NOSYMFOLLOW"),
        (ATTR_IDMAP, "MOUNT_ATTR_IDMAP"),
    ];
    call::flags(bits, &names)
}

/// What [`mount_setattr`] changes.
#[derive(Clone, Copy, Default)]
pub struct Change<'a> {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear first; all of `MOUNT_ATTR__ATIME` (0x70) where `set` chooses an access-time rule.
    pub clear: u64,
    /// The new propagation.
    pub propagation: Option<Propagation>,
    /// Maps owners by this user namespace; only for a detached mount that is not mapped yet.
    pub user_namespace: Option<BorrowedFd<'a>>,
}

/// struct mount_attr
#[repr(C)]
struct RawMountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

impl RawMountAttr {
    fn of(change: &Change<'_>) -> RawMountAttr {
        let mut raw = RawMountAttr {
            set: change.set,
            clear: change.clear,
            propagation: change.propagation.map_or(0, Propagation::bits),
            userns_fd: 0,
        };
        if let Some(user_namespace) = change.user_namespace {
            raw.set |= ATTR_IDMAP;
            raw.userns_fd = user_namespace.as_raw_fd() as u64;
        }
        raw
    }
}

/// mount_setattr(2), Linux 5.12: all of `change` or nothing; to all mounts below as well where `recursive`.
pub fn mount_setattr(mount: impl AsFd, recursive: bool, change: &Change<'_>) -> Result<()> {
    let mut raw = RawMountAttr::of(change);
    let flags = libc::AT_EMPTY_PATH | if recursive { OpenTree::RECURSIVE.bits() as i32 } else { 0 };
    let fd = mount.as_fd().as_raw_fd();
    // SAFETY: the path ends with NUL, `raw` lives until the call returns.
    unsafe { syscall!(libc::SYS_mount_setattr, fd, c"".as_ptr(), flags, &raw mut raw, size_of::<RawMountAttr>()) }.call(
        || {
            let flags = if recursive { "AT_EMPTY_PATH|AT_RECURSIVE" } else { "AT_EMPTY_PATH" };
            let (set, clear) = (attr_names(raw.set), attr_names(raw.clear));
            let propagation = change.propagation.map_or("0".into(), |kind| format!("MS_{kind:?}").to_uppercase());
            let userns = change.user_namespace.map(|userns| format!(", userns_fd={}", call::fd(userns))).unwrap_or_default();
            format!(
                "mount_setattr({}, \"\", {flags}, {{attr_set={set}, attr_clr={clear}, propagation={propagation}{userns}}})",
                call::raw_fd(fd)
            )
        },
    )?;
    Ok(())
}

/// mount(2) MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE of the mount at a path (`/`, `.`), with those below where `recursive`.
pub fn set_propagation(path: impl AsRef<OsStr>, kind: Propagation, recursive: bool) -> Result<()> {
    let path = path.as_ref();
    let kind = MsFlags::from_bits_retain(kind.bits() as libc::c_ulong);
    let flags = if recursive { kind | MsFlags::MS_REC } else { kind };
    nix::mount::mount(None::<&str>, path, None::<&str>, flags, None::<&str>)
        .call(|| format!("mount(NULL, {}, NULL, {}, NULL)", text(path), names(flags)))
}

/// mount(2) of a new filesystem over the directory `onto`, which is the working directory afterwards: no path leads there. Takes parameter
/// strings of up to a page, which [`new_mount`] cannot, and one call; the kernel does not say what it does not like. `flags` are `MS_*`.
pub fn mount_classic(source: &str, onto: impl AsFd, fstype: &str, flags: u64, data: &str) -> Result<()> {
    fchdir(onto.as_fd())?;
    mount_call(source, ".", fstype, flags, data, || call::fd(onto.as_fd()).to_string())
}

/// mount(2) of a new filesystem over `name` in the working directory, or over that itself (`.`).
pub fn mount_here(source: &str, name: &str, fstype: &str, flags: u64, data: &str) -> Result<()> {
    mount_call(source, name, fstype, flags, data, || format!("{name:?}"))
}

fn mount_call(source: &str, at: &str, fstype: &str, flags: u64, data: &str, shown: impl Fn() -> String) -> Result<()> {
    let flags = MsFlags::from_bits_retain(flags as libc::c_ulong);
    nix::mount::mount(Some(source), at, Some(fstype), flags, Some(data))
        .call(|| format!("mount({source:?}, {}, {fstype:?}, {}, {})", shown(), names(flags), text(OsStr::new(data))))
}

/// mount(2) MS_MOVE of the mount at one path to another; for `--no-pivot`, where `/` cannot be a descriptor's target.
pub fn move_mount_classic(from: impl AsRef<OsStr>, to: impl AsRef<OsStr>) -> Result<()> {
    let (from, to) = (from.as_ref(), to.as_ref());
    nix::mount::mount(Some(from), to, None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        .call(|| format!("mount({}, {}, NULL, MS_MOVE, NULL)", text(from), text(to)))
}

fn names(flags: MsFlags) -> String {
    let names: Vec<&str> = flags.iter_names().map(|(name, _)| name).collect();
    if names.is_empty() { "0".into() } else { names.join("|") }
}

/// umount2(2), never following a symbolic link at the end; with `detach` (MNT_DETACH) also where it is in use.
pub fn umount(path: impl AsRef<OsStr>, detach: bool) -> Result<()> {
    let path = path.as_ref();
    let flags = MntFlags::UMOUNT_NOFOLLOW | if detach { MntFlags::MNT_DETACH } else { MntFlags::empty() };
    nix::mount::umount2(path, flags)
        .call(|| format!("umount2({}, UMOUNT_NOFOLLOW{})", text(path), if detach { "|MNT_DETACH" } else { "" }))
}

/// pivot_root(2). With `.` twice the old root comes to lie on the new one, from where [`umount`] of `.` takes it away.
pub fn pivot_root(new_root: impl AsRef<OsStr>, put_old: impl AsRef<OsStr>) -> Result<()> {
    let (new_root, put_old) = (new_root.as_ref(), put_old.as_ref());
    nix::unistd::pivot_root(new_root, put_old).call(|| format!("pivot_root({}, {})", text(new_root), text(put_old)))
}

/// chroot(2)
pub fn chroot(path: impl AsRef<OsStr>) -> Result<()> {
    let path = path.as_ref();
    nix::unistd::chroot(path).call(|| format!("chroot({})", text(path)))
}

/// fchdir(2); O_PATH is enough.
pub fn fchdir(dir: impl AsFd) -> Result<()> {
    nix::unistd::fchdir(dir.as_fd()).call(|| format!("fchdir({})", call::fd(dir.as_fd())))
}

/// chdir(2), of a path of the host.
pub fn chdir(path: impl AsRef<OsStr>) -> Result<()> {
    let path = path.as_ref();
    nix::unistd::chdir(path).call(|| format!("chdir({})", text(path)))
}

/// As chdir(2), but never through a link that the kernel makes up (/proc/self/fd/7, /proc/1/root): those lead to whatever somebody holds
/// open (CVE-2024-21626), and answer ELOOP here.
pub fn chdir_inside(path: &str) -> Result<()> {
    let flags = super::fd::OFlag::O_PATH | super::fd::OFlag::O_DIRECTORY;
    let dir = super::fd::openat2(nix::fcntl::AT_FDCWD, path, flags, 0, super::fd::ResolveFlag::RESOLVE_NO_MAGICLINKS)?;
    fchdir(&dir)
}

/// getcwd(2), the kernel's own word: ENOENT where the working directory is not below this process's root (the kernel then says
/// `(unreachable)`, where the C library would search on). A process whose working directory is outside its root has a way to the host:
/// CVE-2024-21626.
pub fn getcwd() -> Result<OsString> {
    let mut buffer = vec![0u8; libc::PATH_MAX as usize];
    // SAFETY: the kernel writes at most the buffer's length, and the buffer lives until the call returns.
    let length = unsafe { syscall!(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) }.call(|| "getcwd()".into())?;
    buffer.truncate((length as usize).saturating_sub(1)); // Without the NUL.
    if buffer.first() == Some(&b'/') {
        return Ok(OsString::from_vec(buffer));
    }
    Err(CallError::new(format!("getcwd(): {}", text(&OsString::from_vec(buffer))), Errno::ENOENT))
}

#[cfg(test)]
mod tests;
