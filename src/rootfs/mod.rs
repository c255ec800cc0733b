// SPDX-License-Identifier: Apache-2.0
//! Floor 3: the root filesystem, carried out in the container's process by `process::init`, one method for each step of the plan.
//!
//! | file       | what it does                                                                     |
//! |------------|----------------------------------------------------------------------------------|
//! | [`tree`]   | copies of host trees that the runtime takes before the clone, id-mapped or not    |
//! | `known`    | filesystems just mounted, in which a place is found without looking twice         |
//! | `target`   | the place of a mount: found or made inside the root, nowhere else                 |
//! | `leaf`     | mounts that nobody needs any more once they are there                             |
//! | `mount`    | a mount: made detached, given its attributes, then moved onto its place           |
//! | `source`   | what a mount brings in of the host                                                |
//! | `copy`     | `tmpcopyup`                                                                       |
//! | `device`   | device nodes, links, directories                                                  |
//! | `mask`     | masked and read-only paths                                                        |
//! | `pivot`    | into the new root, and away from the old                                          |
//! | `enter`    | or else: into a mount namespace that has the root filesystem and nothing else     |
//! | [`pin`]    | the small mount namespace that is kept for that                                   |
//!
//! The image, and other containers through shared volumes, own what lies in the root filesystem and may change it at any time. So
//! nothing here uses a path twice: a path is resolved inside [`Root`] to a descriptor, and the kernel gets descriptors only; or beside one a
//! single name, in a directory where nobody else can put anything, or where it takes no link for what is wanted. What is put
//! over the container's files comes from the host and is verified (CVE-2025-31133).

mod copy;
mod device;
mod enter;
mod known;
mod leaf;
mod mask;
mod mount;
pub mod pin;
mod pivot;
pub mod plug;
mod source;
mod target;
pub mod tree;

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};

use nix::sys::stat::{Mode, umask};

use crate::error::{Code, Error, Kind, Result, Told};
use crate::linux::call;
use crate::linux::fd::{self, OFlag, ResolveFlag, Root};
use crate::linux::mount::{self as sys, Change, OpenTree};
use crate::linux::proc::Procfs;
use crate::linux::types::{DeviceNumber, Errno, MountAttr, Propagation};
use crate::plan::step::{self as plan, PropagationChange, Source, Tree};
pub use enter::Entry;
use known::Known;
use mask::Cover;
pub use tree::HostTrees;

/// Has the runtime copy the host's tree of this step once more ([`tree::without_namespaces`]).
pub type Again<'a> = &'a dyn Fn() -> Result<OwnedFd>;

/// The root filesystem of the container under construction.
pub struct RootFs {
    root: Root,
    /// The procfs that was mounted at /proc: what is masked there is found in it, whatever has the name by then.
    proc: Option<Root>,
    /// It is a new one, made here.
    proc_is_new: bool,
    known: Known,
    /// The copies that the runtime took before the clone.
    trees: HostTrees,
    /// The host's trees of the mounts to come, in their order, where the host is out of sight already.
    taken: Option<VecDeque<OwnedFd>>,
    /// The host's /dev/null, to be put over files.
    null: Option<Cover>,
    /// Mounts that become read-only when everything in them is made.
    readonly_last: Vec<OwnedFd>,
    /// The directory that a node or link was last made in, and its path.
    parent: Option<(String, OwnedFd)>,
    /// The umask is 0 while this root filesystem is made.
    modes_are_exact: bool,
    /// The mount of the root, as [`fd::Stat::mount_id`] tells it.
    mount_id: Option<u64>,
    /// What is mounted directly on the root does not become shared by that.
    unshared: bool,
    /// Filesystems that are not procfs, by their devices.
    not_proc: Vec<DeviceNumber>,
    spent: Spent,
}

/// Descriptors that are needed no more, to be closed many at once: they mostly have successive numbers.
#[derive(Default)]
struct Spent(Vec<OwnedFd>);

impl Spent {
    /// How many are kept: as many as an engine's usual configuration needs. There may be hundreds of mounts, and few descriptors.
    const MOST: usize = 56;

    fn take(&mut self, fd: OwnedFd) {
        if self.0.len() == Spent::MOST {
            fd::close_all(std::mem::take(&mut self.0));
        }
        self.0.push(fd);
    }
}

/// Sets how all mounts of this mount namespace propagate, from `/` on.
pub fn propagation(change: PropagationChange) -> Result<()> {
    sys::set_propagation("/", change.kind, change.recursive)
        .told(|| "cannot set how the mounts of the new namespace propagate".into())
}

impl RootFs {
    /// Makes a copy of the root filesystem's tree and attaches it at `path`. From here on everything that is made has exactly the mode that is asked for,
    /// whatever the caller's umask was.
    pub fn attach(
        source: &Tree,
        path: &str,
        propagation: Option<PropagationChange>,
        private_parent: bool,
        mut trees: HostTrees,
        again: Again<'_>,
    ) -> Result<RootFs> {
        umask(Mode::empty());
        let what = || format!("cannot mount the root filesystem \"{path}\"");
        let null = host_null()?;
        let tree = match source {
            Tree::Path(path) => sys::open_tree_path(path, OpenTree::CLONE | OpenTree::RECURSIVE)
                .told(what)
                .map_err(|error| missing(error, Code::Rootfs))?,
            Tree::FromRuntime(slot) => trees.take(*slot)?,
        };
        let mut top = fd::stat(&tree).told(what)?;
        require_directory(&top, path)?;
        let propagate = |tree: &OwnedFd| match propagation {
            Some(change) => {
                let kind = Change { propagation: Some(change.kind), ..Change::default() };
                sys::mount_setattr(tree, change.recursive, &kind)
            }
            None => Ok(()),
        };
        propagate(&tree).told(what)?;
        let from_runtime = matches!(source, Tree::FromRuntime(_));
        refuse_host_root(&top, path)?;
        if private_parent {
            // Else what the container puts over a masked file would appear on the host's /dev/null.
            propagate(&null).told(what)?;
            // The container's user need not reach the path, only the tree.
            let place = match fd::open_dir_path(path) {
                Err(error) if error.errno == Errno::EACCES && from_runtime => fd::open_dir_path("/"),
                other => other,
            };
            place.and_then(|place| make_private(&place)).told(what)?;
        }
        let put = |tree: &OwnedFd| match sys::move_mount_to_path(tree, path) {
            // It then lies over the host's root until the pivot.
            Err(error) if error.errno == Errno::EACCES && from_runtime => sys::move_mount_to_path(tree, "/"),
            other => other,
        };
        let tree = match put(&tree) {
            Err(error) if error.errno == Errno::ELOOP && from_runtime => {
                let other = copied_again(again, &top, path)?;
                propagate(&other).and_then(|()| put(&other)).told(what)?;
                top = fd::stat(&other).told(what)?;
                other
            }
            moved => moved.map(|()| tree).told(what)?,
        };
        let known = Known::in_filesystem(top.dev);
        let null = Some(Cover::new(null));
        Ok(RootFs { null, trees, known, unshared: true, ..RootFs::in_root(Root::from(tree), top.mount_id) })
    }

    /// The root of a process that is in its root filesystem already: exec, or a mount namespace that was joined.
    pub fn current(trees: HostTrees) -> Result<RootFs> {
        let root = Root::open("/").told(|| "cannot open the root directory".into())?;
        Ok(RootFs { trees, modes_are_exact: false, ..RootFs::in_root(root, None) })
    }

    fn in_root(root: Root, mount_id: Option<u64>) -> RootFs {
        RootFs {
            root,
            proc: None,
            proc_is_new: false,
            known: Known::default(),
            trees: HostTrees::default(),
            taken: None,
            null: None,
            readonly_last: Vec::new(),
            parent: None,
            mount_id,
            modes_are_exact: true,
            unshared: false,
            not_proc: Vec::new(),
            spent: Spent::default(),
        }
    }

    /// Whether this is a bind whose tree was copied in the host's mount namespace, where the kernel leaves nothing out that it may
    /// refuse (ELOOP) to attach in the container's: mount namespaces that somebody keeps in it.
    pub fn has_copied_before(&self, mount: &plan::Mount) -> bool {
        match &mount.source {
            Source::Bind { tree, recursive: true, .. } => self.taken.is_some() || matches!(tree, Tree::FromRuntime(_)),
            _ => false,
        }
    }

    /// Gives it another tree for such a mount, to be made again.
    pub fn give(&mut self, mount: &plan::Mount, tree: OwnedFd) {
        match (&mount.source, &mut self.taken) {
            (Source::Bind { tree: Tree::FromRuntime(slot), .. }, _) => self.trees.give(*slot, tree),
            (_, Some(taken)) => taken.push_front(tree),
            _ => {}
        }
    }

    /// Gives up a descriptor.
    pub fn spend(&mut self, fd: OwnedFd) {
        self.spent.take(fd);
    }

    /// Gives up all descriptors, as mere numbers: for who closes everything that has no owner.
    pub fn abandon(mut self) {
        let root = OwnedFd::from(self.root);
        let parent = self.parent.map(|(_, dir)| dir);
        let null = self.null.map(Cover::into_mount);
        let proc = self.proc.map(OwnedFd::from);
        let known = self.known.forget();
        let all =
            self.spent.0.into_iter().chain(self.readonly_last).chain(known).chain(parent).chain(null).chain(proc).chain([root]);
        all.for_each(|fd| {
            let _ = fd.into_raw_fd();
        });
    }

    /// The procfs on the container's /proc, where this process has made it.
    pub fn new_proc(&self) -> Option<Procfs<BorrowedFd<'_>>> {
        self.proc.as_ref().filter(|_| self.proc_is_new).map(|proc| Procfs::just_made(proc.as_fd()))
    }

    /// The directory that all paths of the container are opened in.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Makes the mounts that waited for it read-only.
    pub fn readonly_mounts(&mut self) -> Result<()> {
        for mount in self.readonly_last.drain(..) {
            set_readonly(&mount).told(|| "cannot make a mount read-only".into())?;
        }
        Ok(())
    }

    /// Makes the root mount itself read-only.
    pub fn readonly_root(&self) -> Result<()> {
        set_readonly(&self.root).told(|| "cannot make the root filesystem read-only".into())
    }

    /// Sets how the container's root propagates.
    pub fn root_propagation(&self, change: PropagationChange) -> Result<()> {
        let kind = Change { propagation: Some(change.kind), ..Change::default() };
        sys::mount_setattr(&self.root, change.recursive, &kind).told(|| "cannot set how the container's root propagates".into())
    }
}

/// Makes the place of a mount that others will make, where there is none: a directory or an empty file.
pub fn make_place(root: &Root, path: &str, directory: bool) -> Result<()> {
    let make = if directory { target::Make::Directory } else { target::Make::File };
    target::open_or_make(root, path, make, true).map(drop).told(|| format!("cannot make the place of the mount at \"{path}\""))
}

/// While it lives, what is made gets exactly the mode that is asked for.
struct ExactModes(Mode);

impl ExactModes {
    fn begin() -> ExactModes {
        ExactModes(umask(Mode::empty()))
    }
}

impl Drop for ExactModes {
    fn drop(&mut self) {
        umask(self.0);
    }
}

/// The same error, with a cause where a path is missing.
fn missing(error: Error, cause: Code) -> Error {
    match error.errno {
        Some(Errno::ENOENT | Errno::ENOTDIR) => error.cause(cause),
        _ => error,
    }
}

fn set_readonly(mount: impl std::os::fd::AsFd) -> call::Result<()> {
    sys::mount_setattr(mount, false, &Change { set: MountAttr::RDONLY.bits(), ..Change::default() })
}

/// A detached copy of the host's /dev/null, which is one: what an image has in its place must never be.
fn host_null() -> Result<OwnedFd> {
    let what = || "cannot open the host's /dev/null".to_string();
    let null = sys::open_tree_path("/dev/null", OpenTree::CLONE | OpenTree::NOFOLLOW).told(what)?;
    if !fd::stat(&null).told(what)?.is_char_device(1, 3) {
        return Err(Error::new(Kind::Unsupported, "the host's /dev/null is not the null device (character device 1:3)"));
    }
    Ok(null)
}

fn require_directory(top: &fd::Stat, path: &str) -> Result<()> {
    if top.is_dir() {
        return Ok(());
    }
    Err(Error::new(Kind::Config, format!("the root filesystem \"{path}\" is not a directory")).cause(Code::Rootfs))
}

/// The root filesystem, copied again: still the one that was looked at.
fn copied_again(again: Again<'_>, first: &fd::Stat, path: &str) -> Result<OwnedFd> {
    let tree = again()?;
    if fd::stat(&tree).told(|| format!("cannot look at the root filesystem \"{path}\""))?.same_file(first) {
        return Ok(tree);
    }
    Err(Error::new(Kind::Peer, format!("the root filesystem \"{path}\" has been replaced by another directory")))
}

/// A container in the host's own root could change everything that its mounts do not cover.
fn refuse_host_root(top: &fd::Stat, path: &str) -> Result<()> {
    let host = fd::stat_path("/").told(|| format!("cannot compare \"{path}\" with the host's root"))?;
    if top.same_file(&host) {
        return Err(
            Error::new(Kind::Config, format!("the root filesystem \"{path}\" is the host's own root")).cause(Code::Rootfs)
        );
    }
    Ok(())
}

/// Makes the mount that `place` lies in private: up to the root of that mount, which alone can be changed.
fn make_private(place: &OwnedFd) -> call::Result<()> {
    let mut at = fd::openat2(place, ".", OFlag::O_PATH, 0, ResolveFlag::empty())?;
    while !fd::stat(&at)?.mount_root {
        at = fd::openat2(&at, "..", OFlag::O_PATH, 0, ResolveFlag::empty())?;
    }
    sys::mount_setattr(&at, false, &Change { propagation: Some(Propagation::Private), ..Change::default() })
}

#[cfg(test)]
mod tests;
