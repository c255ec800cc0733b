// SPDX-License-Identifier: Apache-2.0
//! One entry of `mounts[]`: made detached, where nobody can see it, given its attributes, then moved onto its place by descriptor.

use std::os::fd::{AsFd, OwnedFd};

use super::leaf::{Leaf, classic_flags, superblock_flag};
use super::source::{host_instead, is_private, open_host_tree};
use super::target::{self, Make};
use super::{RootFs, copy, known};
use crate::error::{Code, Error, Kind, Result, Told};
use crate::linux::call;
use crate::linux::fd::{self, OFlag, Root, Stat};
use crate::linux::mount::{self as sys, Change};
use crate::linux::types::{Errno, MountAttr};
use crate::plan::step::{AttrChange, Mount, ProcRule, Source, Tree};

/// A new filesystem, as the plan describes it.
pub(super) struct New<'a> {
    pub(super) fstype: &'a str,
    pub(super) source: &'a str,
    /// With `source` at their head.
    pub(super) parameters: Vec<(&'a str, Option<&'a str>)>,
}

impl New<'_> {
    /// fsconfig(2) takes it.
    fn is_short(&self) -> bool {
        self.parameters.iter().all(|(_, value)| value.is_none_or(|value| value.len() <= LONGEST_VALUE))
    }
}

/// fsconfig(2) takes no longer value.
const LONGEST_VALUE: usize = 255;

pub(super) fn what(mount: &Mount) -> String {
    let source = match &mount.source {
        Source::New { fstype, .. } => format!("mount \"{fstype}\" at"),
        Source::Bind { source, .. } => format!("mount \"{source}\" at"),
        Source::CgroupSubtree { .. } => "mount the cgroup tree at".to_string(),
        Source::Remount { .. } => "remount".to_string(),
    };
    format!("cannot {source} {}", mount.destination)
}

impl RootFs {
    /// Mounts inside the root filesystem, or changes a mount there.
    pub fn mount(&mut self, mount: &Mount) -> Result<()> {
        self.parent = None;
        match &mount.source {
            Source::New { .. } => self.mount_new(mount),
            Source::Bind { .. } => self.mount_bind(mount),
            Source::CgroupSubtree { .. } => {
                let tree = self.host_tree(mount)?;
                set_attributes(&tree, mount)?;
                let place = self.place(mount, Make::Directory)?;
                self.put(tree, place, mount)
            }
            Source::Remount { parameters } => self.remount(mount, parameters.as_deref()),
        }
    }

    fn mount_new(&mut self, mount: &Mount) -> Result<()> {
        let Source::New { fstype, source, parameters, mode_of_destination, copy_up, mounted, .. } = &mount.source else {
            return Ok(());
        };
        let (mode, mut made) = (String::new(), None);
        let mut new = New { fstype, source, parameters: vec![("source", Some(source.as_str()))] };
        new.parameters.extend(parameters.iter().map(|(key, value)| (key.as_str(), value.as_deref())));
        let leaf = if *mode_of_destination { None } else { Leaf::of(&new, mount) };
        if leaf.as_ref().is_some_and(|leaf| self.mount_in_fresh(leaf, mount)) {
            return Ok(());
        }
        if mount.proc == ProcRule::IsProc && new.is_short() {
            let (proc, is_new) = self.make(&new, mount)?;
            if self.put_in_root(&proc, mount) {
                propagate(&proc, mount)?;
                return self.after(proc, mount, is_new.then_some((fstype, true)));
            }
            made = Some((proc, is_new));
        }
        // A directory that is only made for the mount has no mode to give.
        let gives_mode = *mode_of_destination && self.open_place(mount).is_ok();
        let mut place = self.place(mount, Make::Directory)?;
        if place.there.as_ref().is_some_and(|there| !there.is_dir()) {
            let text = format!("{}: filesystem {fstype:?} must be mounted on ordinary directory", what(mount));
            return Err(Error::new(Kind::Config, text).hint("a symbolic link there would let the image choose the place"));
        }
        let mode = place.there.as_ref().filter(|_| gives_mode).map_or(mode, |there| format!("{:o}", there.mode & 0o7777));
        if gives_mode {
            new.parameters.insert(1, ("mode", Some(&mode)));
        }
        if !new.is_short() {
            return self.mount_classic(&new, &place.fd, mount);
        }
        let is_leaf = place.is_leaf || (*mounted && place.there.is_none());
        if leaf.is_some_and(|leaf| is_leaf && self.mount_leaf(&leaf, &place.fd)) {
            self.placed(place.fd, true, mount);
            return Ok(());
        }
        let (made, is_new) = made.map_or_else(|| self.make(&new, mount), Ok)?;
        place.gets_new = is_new.then_some(fstype);
        if *copy_up {
            copy::copy_up(&place.fd, &made)
                .told(|| format!("cannot copy what is at {} into the new tmpfs", mount.destination))?;
        }
        self.put(made, place, mount)
    }

    /// Makes a new filesystem, or what stands in for one that the kernel refuses; and whether it is new.
    fn make(&mut self, new: &New, mount: &Mount) -> Result<(OwnedFd, bool)> {
        let Source::New { fallback, .. } = &mount.source else { return Err(Error::new(Kind::Peer, what(mount))) };
        match sys::new_mount_and_context(new.fstype, new.parameters.iter().copied(), mount.attr.attr_set()) {
            Ok((made, context)) => {
                self.spend(context);
                Ok((made, true))
            }
            Err(error) if matches!(error.errno, Errno::EPERM | Errno::EBUSY) => match fallback {
                Some(path) => host_instead(path).map(|tree| (tree, false)).map_err(|_| refused(error, mount)),
                None => Err(refused(error, mount)),
            },
            Err(error) => Err(refused(error, mount)),
        }
    }

    /// Puts the procfs on its name in the root. Only a directory can take it, so the kernel refuses a link that the image has there; and
    /// nothing else is to be known of the place. Whether it is done.
    fn put_in_root(&mut self, proc: &OwnedFd, mount: &Mount) -> bool {
        let Some(name) = known::name_in_root(&mount.destination) else { return false };
        let put = sys::move_mount_to(proc, &self.root, name).is_ok();
        let covered = if put { self.known.cover(&mount.destination) } else { Vec::new() };
        covered.into_iter().for_each(|fd| self.spend(fd));
        put
    }

    /// mount(2), for parameters too long for fsconfig(2): the layers of an overlay.
    #[inline(never)] // Rare.
    fn mount_classic(&mut self, new: &New, place: &OwnedFd, mount: &Mount) -> Result<()> {
        let told = || what(mount);
        let mut flags = classic_flags(mount.attr);
        let mut data: Vec<String> = Vec::new();
        for (key, value) in new.parameters.iter().skip(1) {
            match (superblock_flag(key), value) {
                (Some(bit), None) => flags |= bit,
                (None, None) => data.push((*key).to_string()),
                (_, Some(value)) => data.push(format!("{key}={value}")),
            }
        }
        self.forget_places();
        sys::mount_classic(new.source, place, new.fstype, flags, &data.join(",")).told(told)?;
        let made = self.open_place(mount).told(told)?;
        propagate(&made, mount)?;
        self.after(made, mount, None)
    }

    fn mount_bind(&mut self, mount: &Mount) -> Result<()> {
        let Source::Bind { tree, copy_symlink, .. } = &mount.source else { return Ok(()) };
        let told = || what(mount);
        let tree = match tree {
            Tree::FromRuntime(slot) => self.trees.take(*slot)?,
            Tree::Path(_) => self.host_tree(mount)?,
        };
        // What the source is matters where something is to be made for it, and where not everything may be there. That a file is not put
        // on a directory, the kernel sees to.
        let is_plain = !*copy_symlink && mount.proc != ProcRule::IsProc && self.known.fresh_above(&mount.destination).is_none();
        if is_plain && let Some((fd, _)) = self.certain_place(&mount.destination, None) {
            set_attributes(&tree, mount)?;
            return self.put(tree, Place { fd, there: None, is_leaf: false, gets_new: None }, mount);
        }
        let source = fd::stat(&tree).told(told)?;
        if *copy_symlink && source.is_symlink() {
            return self.copy_symlink(&tree, mount);
        }
        if mount.proc == ProcRule::IsProc
            && (fd::statfs(&tree).told(told)?.magic != fd::magic::PROC || source.ino != PROC_ROOT_INO)
        {
            return Err(Error::new(Kind::Config, format!("{}: it is not the root of a procfs", what(mount)))
                .cause(Code::ProcPlace)
                .hint("labels and sysctls are written to /proc: only a procfs may be there"));
        }
        set_attributes(&tree, mount)?;
        let make = if source.is_dir() { Make::Directory } else { Make::File };
        let place = if is_plain { self.searched_place(mount, make)? } else { self.place(mount, make)? };
        self.put(tree, place, mount)
    }

    /// The tree of the host that a mount brings in: opened now, or taken before the host went out of sight.
    fn host_tree(&mut self, mount: &Mount) -> Result<OwnedFd> {
        let tree = match &mut self.taken {
            Some(taken) => taken.pop_front(),
            None => open_host_tree(mount, None)?,
        };
        tree.ok_or_else(|| Error::new(Kind::Peer, format!("{}: its tree has not been taken", what(mount))))
    }

    /// `copy-symlink`: the link itself, made where nothing is or found as it should be.
    #[inline(never)] // Rare.
    fn copy_symlink(&self, link: &OwnedFd, mount: &Mount) -> Result<()> {
        let told = || what(mount);
        let target = fd::readlink_fd(link).told(told)?;
        let (parent, leaf) = target::parent_or_make(&self.root, &mount.destination).told(told)?;
        match fd::symlinkat(&target, &parent, leaf) {
            Err(error) if error.errno == Errno::EEXIST => match fd::readlinkat(&parent, leaf) {
                Ok(there) if there == target => Ok(()),
                _ => Err(error).told(told),
            },
            other => other.told(told),
        }
    }

    #[inline(never)] // Rare.
    fn remount(&mut self, mount: &Mount, parameters: Option<&[(String, Option<String>)]>) -> Result<()> {
        let told = || what(mount);
        let place = self.open_place(mount).told(told)?;
        let there = fd::stat(&place).told(told)?;
        self.check_proc(&place, &there, mount)?;
        if !there.mount_root {
            return Err(Error::new(Kind::Config, format!("{}: nothing is mounted there", what(mount))));
        }
        if let Some(parameters) = parameters {
            let parameters = parameters.iter().map(|(key, value)| (key.as_str(), value.as_deref()));
            sys::reconfigure(&place, parameters).map_err(|error| refused(error, mount))?;
        }
        set_attributes(&place, mount)?;
        propagate(&place, mount)?;
        self.after(place, mount, None)
    }

    /// Takes away what is mounted at a place, with all below it. What uses it may go on with what it has open.
    #[inline(never)] // Rare.
    pub fn unmount(&mut self, path: &str) -> Result<()> {
        self.forget_places();
        let told = || format!("cannot take away the mount at {path}");
        let place = self.root.open_path(path).told(told)?;
        let there = fd::stat(&place).told(told)?;
        if !there.mount_root {
            return Err(Error::new(Kind::Config, format!("{}: nothing is mounted there", told())));
        }
        if there.is_dir() {
            return sys::fchdir(&place).and_then(|()| sys::umount(".", true)).told(told);
        }
        // A file can only be named from its directory; a link there is refused by the kernel.
        let (parent, leaf) = self.root.parent_of(path).told(told)?;
        sys::fchdir(&parent).and_then(|()| sys::umount(leaf, true)).told(told)
    }

    /// The place of a mount, made where nothing is.
    fn place<'a>(&mut self, mount: &Mount, make: Make) -> Result<Place<'a>> {
        let needs_mode = matches!(mount.source, Source::New { mode_of_destination: true, .. });
        if !needs_mode && let Some((fd, is_leaf)) = self.certain_place(&mount.destination, Some(make)) {
            return Ok(Place { fd, there: None, is_leaf, gets_new: None });
        }
        self.searched_place(mount, make)
    }

    /// The same, as the image leads there.
    fn searched_place<'a>(&mut self, mount: &Mount, make: Make) -> Result<Place<'a>> {
        let told = || what(mount);
        let place = target::open_or_make(&self.root, &mount.destination, make, !mount.destination_nofollow).told(told)?;
        let there = fd::stat(&place).told(told)?;
        self.check_proc(&place, &there, mount)?;
        Ok(Place { fd: place, there: Some(there), is_leaf: false, gets_new: None })
    }

    fn open_place(&self, mount: &Mount) -> call::Result<OwnedFd> {
        if mount.destination_nofollow {
            return self.root.open_path_nofollow(&mount.destination);
        }
        self.root.open_path(&mount.destination)
    }

    /// However the image leads there: the kernel's own files are not covered (CVE-2019-16884).
    fn check_proc(&mut self, place: &OwnedFd, there: &Stat, mount: &Mount) -> Result<()> {
        // All files of one device are of one filesystem.
        if mount.proc != ProcRule::Outside || self.not_proc.contains(&there.dev) {
            return Ok(());
        }
        if fd::statfs(place).told(|| what(mount))?.magic != fd::magic::PROC {
            self.not_proc.push(there.dev);
        } else {
            let remounts_proc = matches!(mount.source, Source::Remount { .. }) && there.ino == PROC_ROOT_INO;
            if !remounts_proc {
                return Err(
                    Error::new(Kind::Config, format!("{}: the destination leads into /proc", what(mount))).cause(Code::ProcPlace)
                );
            }
        }
        Ok(())
    }

    fn put(&mut self, made: OwnedFd, place: Place<'_>, mount: &Mount) -> Result<()> {
        sys::move_mount(&made, &place.fd).map_err(|error| not_put(error, &made, &place.fd, mount))?;
        let certain = place.there.is_none();
        self.placed(place.fd, certain, mount);
        // No mount that has certain places is shared.
        if !(certain && self.unshared && is_private(mount)) {
            propagate(&made, mount)?;
        }
        self.after(made, mount, place.gets_new.map(|fstype| (fstype, certain)))
    }

    /// A place has been taken; what it covers is found there no more.
    fn placed(&mut self, place: OwnedFd, certain: bool, mount: &Mount) {
        self.spend(place);
        let covered = if certain { self.known.cover(&mount.destination) } else { self.known.forget() };
        covered.into_iter().for_each(|fd| self.spend(fd));
    }

    /// What can be said of a mount only when it is in its place; of a new filesystem also its type, and whether its place was certain.
    fn after(&mut self, made: OwnedFd, mount: &Mount, new: Option<(&str, bool)>) -> Result<()> {
        let over_root = mount.destination.bytes().all(|byte| byte == b'/') && !matches!(mount.source, Source::Remount { .. });
        if over_root {
            // Everything that follows happens in what now covers the root.
            let copy = fd::dup_from(&made, 3).told(|| what(mount))?;
            self.root = Root::from(copy);
            (self.mount_id, self.unshared) = (None, false);
            self.proc = None;
            self.forget_places();
        }
        if mount.readonly_last {
            self.readonly_last.push(made);
        } else if mount.proc == ProcRule::IsProc {
            self.proc = Some(Root::from(made));
            self.proc_is_new = new.is_some();
        } else {
            // Devices and shared memory are mounted in the one, the cgroup in the other.
            let spent = match new {
                Some((fstype @ ("tmpfs" | "sysfs"), true)) if mount.propagation.is_empty() => {
                    self.known.add(&mount.destination, made, fstype == "tmpfs" && !copies_up(mount))
                }
                _ => Some(made),
            };
            spent.into_iter().for_each(|fd| self.spend(fd));
        }
        Ok(())
    }
}

/// Sets how a mount propagates that is in its place.
fn propagate(mount: &OwnedFd, wanted: &Mount) -> Result<()> {
    for change in &wanted.propagation {
        let kind = Change { propagation: Some(change.kind), ..Change::default() };
        sys::mount_setattr(mount, change.recursive, &kind)
            .told(|| format!("cannot set how the mount at {} propagates", wanted.destination))?;
    }
    Ok(())
}

/// Where a mount goes.
struct Place<'a> {
    fd: OwnedFd,
    /// What is there; none where that is certain ([`super::known`]).
    there: Option<Stat>,
    /// It is in a filesystem that was made for such places.
    is_leaf: bool,
    /// It gets a new filesystem of this type.
    gets_new: Option<&'a str>,
}

pub(super) fn copies_up(mount: &Mount) -> bool {
    matches!(mount.source, Source::New { copy_up: true, .. })
}

/// A directory can only be mounted on a directory: mount(2) says so, and move_mount(2) EINVAL, which is about anything.
fn not_put(error: call::CallError, made: &OwnedFd, place: &OwnedFd, mount: &Mount) -> Error {
    let is_dir = |fd| fd::stat(fd).is_ok_and(|stat| stat.is_dir());
    if error.errno != Errno::EINVAL || is_dir(made) == is_dir(place) {
        return Error::from(error).doing(what(mount));
    }
    let call = call::CallError::new(format!("move_mount(\"{}\")", mount.destination), Errno::ENOTDIR);
    let hint = "a directory can only be mounted on a directory, and a file on a file";
    Error::from(call).doing(what(mount)).cause(Code::MountTarget).hint(hint)
}

/// The inode number of every procfs's root.
const PROC_ROOT_INO: u64 = 1;

/// Changes the attributes of a mount that is a copy, or that is there already; what is not named stays as it is.
fn set_attributes(mount: impl AsFd, wanted: &Mount) -> Result<()> {
    change(mount.as_fd(), false, wanted.attr).map_err(|error| locked(error, wanted))?;
    change(mount.as_fd(), true, wanted.attr_recursive).map_err(|error| locked(error, wanted))
}

fn change(mount: impl AsFd, recursive: bool, attr: AttrChange) -> call::Result<()> {
    if attr.is_empty() {
        return Ok(());
    }
    let change = Change { set: attr.attr_set(), clear: attr.attr_clear(), ..Change::default() };
    match sys::mount_setattr(mount.as_fd(), recursive, &change) {
        // Clients say `rw` of every volume. Where a user namespace may not lift the host's `ro`, the volume stays read-only.
        Err(error) if error.errno == Errno::EPERM && attr.clears(MountAttr::RDONLY) => {
            let clear = change.clear & !MountAttr::RDONLY.bits();
            sys::mount_setattr(mount.as_fd(), recursive, &Change { clear, ..change }).map_err(|_| error)
        }
        other => other,
    }
}

fn locked(error: call::CallError, mount: &Mount) -> Error {
    let errno = error.errno;
    let told = Error::from(error).doing(what(mount));
    match errno {
        Errno::EPERM => {
            told.cause(Code::MountLocked).hint("a user namespace may not lift the restrictions of a mount that is not its own")
        }
        _ => told,
    }
}

pub(super) fn refused(error: call::CallError, mount: &Mount) -> Error {
    let errno = error.errno;
    let told = Error::from(error).doing(what(mount));
    match (&mount.source, errno) {
        (Source::New { fstype, .. }, Errno::ENODEV) => {
            told.cause(Code::MountType).hint(format!("this kernel has no \"{fstype}\"; see /proc/filesystems"))
        }
        (Source::New { fstype, .. }, Errno::EPERM) if matches!(fstype.as_str(), "proc" | "sysfs") => {
            told.cause(Code::ProcMasked).hint(not_whole(fstype))
        }
        (Source::New { .. }, Errno::EINVAL) => told.cause(Code::MountOption),
        (Source::Bind { .. }, Errno::ENOENT | Errno::ENOTDIR) => told.cause(Code::MountSource),
        (Source::Bind { recursive: false, .. }, Errno::EINVAL) => told
            .cause(Code::MountLocked)
            .hint("in a user namespace a tree with locked mounts below it can only be bound with rbind"),
        _ => told,
    }
}

/// Why a new proc or sysfs is refused, with what hides a part of the outer one, where something does (mount_too_revealing()).
fn not_whole(fstype: &str) -> String {
    let (place, kind) = if fstype == "proc" { ("/proc", "pid") } else { ("/sys", "network") };
    let rule = format!(
        "a user namespace may mount {fstype} only where the outer one is seen whole, and with a {kind} namespace of its own"
    );
    match crate::linux::proc::masked_below(place).unwrap_or_default().as_slice() {
        [] => rule,
        all => {
            let shown: Vec<&str> = all.iter().take(5).map(String::as_str).collect();
            let more = if all.len() > shown.len() { ", …" } else { "" };
            format!("{rule}; here the outer one is masked by mounts on {}{more}", shown.join(", "))
        }
    }
}

/// The directory that a place is, open for reading.
pub(super) fn readable(place: &OwnedFd) -> call::Result<OwnedFd> {
    target::reopen_dir(place, OFlag::O_RDONLY)
}
