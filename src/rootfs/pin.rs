// SPDX-License-Identifier: Apache-2.0
//! The small mount namespace that a host with many mounts keeps: one empty read-only directory, to be copied for each container instead of
//! the host's own (`enter`). It is made when a container first wants it, and only there; what is missing, damaged or somebody else's is
//! made anew or done without, and never an error.
//!
//! ```text
//! /run/berth.mntns           directory of root's, 0700; its lock is held while the rest is made
//! /run/berth.mntns/own       tmpfs, private: what is mounted in it stays in this mount namespace
//! /run/berth.mntns/own/ns    the namespace (nsfs), which this mount keeps alive
//! ```
//! The kernel copies no such mount into other mount namespaces: each that berth is called in has its own. Who wants to be rid of it says
//! `umount -R /run/berth.mntns/own; rm -r /run/berth.mntns`.

use std::os::fd::OwnedFd;

use crate::linux::call::{CallError, Result};
use crate::linux::clone::{self, CloneArgs, Cloned};
use crate::linux::fd::{self, OFlag, ResolveFlag};
use crate::linux::mount::{self as sys, Change};
use crate::linux::pid::{self, Exit};
use crate::linux::types::{Errno, MountAttr, Namespaces, Propagation};
use crate::linux::{sched, signal};
use crate::plan::route::KEPT as DIRECTORY;

/// The tmpfs in there, and the file in that.
const OWN: &str = "own";
const FILE: &str = "ns";
/// What mountinfo shows as the source of both tmpfs.
const NAME: &str = "berth.mntns";
/// The directory in the namespace's root by which it is known.
const MARK: &str = ".berth.mntns";

/// The namespace, made where there is none. None where it cannot be had now.
pub fn open() -> Option<OwnedFd> {
    let dir = match directory() {
        Err(error) if error.errno == Errno::ENOENT => fd::mkdir(DIRECTORY, 0o700).and_then(|()| directory()),
        other => other,
    };
    let dir = dir.ok().flatten()?;
    match existing(&dir) {
        Found::Namespace(namespace) => Some(namespace),
        Found::GivenUp => None,
        Found::Nothing => make(&dir).ok().flatten(),
    }
}

/// Enters the namespace, as far as it is the one that is made here; else the process stays where it is, or comes back to there.
pub(super) fn enter(pinned: &OwnedFd) -> Result<()> {
    // Without a way back there is no way in.
    let Ok(host) = clone::own_namespace(Namespaces::MOUNT) else { return Ok(()) };
    if clone::setns(pinned, Namespaces::MOUNT).is_err() || fd::exists(format!("/{MARK}")) {
        return Ok(());
    }
    clone::setns(&host, Namespaces::MOUNT)
}

/// The directory, if it is root's alone.
fn directory() -> Result<Option<OwnedFd>> {
    let dir = fd::open(DIRECTORY, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW)?;
    let stat = fd::stat(&dir)?;
    Ok((stat.uid == 0 && stat.mode & 0o077 == 0).then_some(dir))
}

/// What there is of the namespace.
enum Found {
    Namespace(OwnedFd),
    /// The kernel has refused it once, and would again.
    GivenUp,
    Nothing,
}

/// The mode of the file where no namespace can be mounted on it.
const GIVEN_UP: u32 = 0;

fn existing(dir: &OwnedFd) -> Found {
    let inside = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    let found = fd::openat2(dir, &format!("{OWN}/{FILE}"), OFlag::O_RDONLY | OFlag::O_NONBLOCK, 0, inside);
    let Ok(file) = found else { return Found::Nothing };
    match fd::statfs(&file).map(|found| found.magic) {
        Ok(fd::magic::NSFS) if clone::namespace_kind(&file) == Ok(Namespaces::MOUNT) => Found::Namespace(file),
        Ok(fd::magic::TMPFS) if fd::stat(&file).is_ok_and(|stat| stat.mode & 0o777 == GIVEN_UP) => Found::GivenUp,
        _ => Found::Nothing,
    }
}

/// Makes it, unless somebody else is just doing that: then this container does without.
fn make(dir: &OwnedFd) -> Result<Option<OwnedFd>> {
    if !fd::flock(dir, true, false)? {
        return Ok(None);
    }
    match existing(dir) {
        Found::Namespace(made) => return Ok(Some(made)),
        Found::GivenUp => return Ok(None),
        Found::Nothing => {}
    }
    // What can fail for good comes before what costs.
    let place = place(dir)?;
    let keep = |cpu| -> Result<Option<OwnedFd>> {
        let Some(new) = new_namespace(cpu)? else { return Ok(None) };
        sys::move_mount(sys::clone_tree(&new, false)?, &place).map(|()| Some(new))
    };
    let mut kept = keep(None);
    for cpu in sched::affinity(0)?.into_iter().take(MOST_CPUS) {
        match &kept {
            Err(error) if error.errno == Errno::ELOOP => kept = keep(Some(cpu)),
            _ => break,
        }
    }
    // Anything else may be otherwise the next time.
    if kept.as_ref().is_err_and(|error| [Errno::ELOOP, Errno::EINVAL, Errno::EPERM].contains(&error.errno)) {
        fd::fchmod(&place, GIVEN_UP)?;
    }
    kept
}

/// A namespace can only be mounted in an older one (ELOOP). Linux 6.18 takes for older what has the lesser number, and gives each CPU
/// numbers of its own: on some CPU there is one that will do, at the latest on that where this process's own was made.
const MOST_CPUS: usize = 16;

/// The file that the namespace is mounted on, with nothing on it.
fn place(dir: &OwnedFd) -> Result<OwnedFd> {
    const PLACE: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW);
    match fd::mkdirat(dir, OWN, 0o700) {
        Err(error) if error.errno != Errno::EEXIST => return Err(error),
        _ => {}
    }
    let mut own = fd::openat(dir, OWN, PLACE | OFlag::O_DIRECTORY, 0)?;
    if !fd::stat(&own)?.mount_root {
        let made = tmpfs("700")?;
        sys::move_mount(&made, &own)?;
        own = made;
    }
    // The kernel wants it so; and whoever has a view of /run gets an empty directory at most.
    sys::mount_setattr(&own, false, &Change { propagation: Some(Propagation::Private), ..Change::default() })?;
    match fd::openat(&own, FILE, OFlag::O_CREAT | OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK, 0o400) {
        // Something else is mounted there.
        Err(error) if error.errno != Errno::ENXIO => return Err(error),
        _ => {}
    }
    const MOST: usize = 8;
    for _ in 0..MOST {
        let file = fd::openat(&own, FILE, PLACE, 0)?;
        if !fd::stat(&file)?.mount_root {
            return Ok(file);
        }
        sys::umount(format!("{DIRECTORY}/{OWN}/{FILE}"), true)?;
    }
    Err(CallError::new(format!("umount2({DIRECTORY}/{OWN}/{FILE})"), Errno::EBUSY))
}

/// A tmpfs with room for one directory or file.
fn tmpfs(mode: &str) -> Result<OwnedFd> {
    const ATTR: MountAttr = MountAttr::NOSUID.union(MountAttr::NODEV).union(MountAttr::NOEXEC);
    let parameters = [("source", NAME), ("mode", mode), ("nr_blocks", "1"), ("nr_inodes", "3")];
    sys::new_mount("tmpfs", parameters.map(|(key, value)| (key, Some(value))), ATTR.bits())
}

/// A mount namespace with one empty directory, made by a process that does nothing else, on this CPU; the kernel copies ours for it.
#[inline(never)] // Rare.
fn new_namespace(cpu: Option<u32>) -> Result<Option<OwnedFd>> {
    let (wait, go) = fd::pipe()?;
    let (ready, made) = fd::pipe()?;
    // A caller that ignores SIGCHLD would leave us without the exit status of our own children.
    signal::set_default(libc::SIGCHLD)?;
    match clone::clone3(&CloneArgs { clear_handlers: true, ..CloneArgs::default() })? {
        Cloned::Child => {
            drop((ready, go));
            let begin = move || {
                cpu.map_or(Ok(()), |cpu| sched::set_affinity(0, &[cpu]))?;
                clone::unshare(Namespaces::MOUNT)?;
                fd::write_all(&made, b".")?;
                drop(made);
                fd::read_bounded(&wait, 1)?; // Until the namespace is open, or the runtime dead.
                leave_all()
            };
            clone::exit_now(i32::from(begin().is_err()))
        }
        Cloned::Parent { pid, pidfd } => {
            drop((wait, made));
            let has_made = fd::read_bounded(&ready, 1).is_ok_and(|said| !said.is_empty());
            let namespace = if has_made { clone::open_namespace(format!("/proc/{pid}/ns/mnt")).ok() } else { None };
            drop(go);
            let done = pid::wait(&pidfd)? == Exit::Code(0);
            Ok(namespace.filter(|_| done))
        }
    }
}

/// Leaves one empty directory of this mount namespace.
fn leave_all() -> Result<()> {
    sys::set_propagation("/", Propagation::Private, true)?;
    let root = tmpfs("755")?;
    fd::mkdirat(&root, MARK, 0)?;
    sys::mount_setattr(&root, false, &Change { set: MountAttr::RDONLY.bits(), ..Change::default() })?;
    let old = fd::open_dir_path("/")?;
    sys::move_mount(&root, &old)?;
    sys::fchdir(&root)?;
    sys::pivot_root(".", ".")?;
    sys::fchdir(&old)?;
    sys::umount(".", true)
}

#[cfg(test)]
mod tests;
