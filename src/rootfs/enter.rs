// SPDX-License-Identifier: Apache-2.0
//! Into a mount namespace that has the root filesystem and nothing of the host. Its cost does not grow with the host's mounts, which
//! clone3(2) would copy one by one and umount2(2) take away again. What the container gets of the host is copied before, detached.
//!
//! Three routes, of which the plan names one of the first two:
//! 1. OPEN_TREE_NAMESPACE makes the namespace around the root filesystem (Linux 7.0): nothing is copied, pivoted or unmounted.
//! 2. A small namespace that the host keeps ([`super::pin`]) is copied, and the root filesystem pivoted into.
//! 3. The whole namespace of the host is copied, where the kernel refuses the first or the second is not to be had: slower, and the same.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::stat::{Mode, umask};

use super::known::Known;
use super::mask::Cover;
use super::{Again, HostTrees, RootFs, copied_again, host_null, missing, pin, refuse_host_root, require_directory, source};
use crate::error::{Code, Result, Told};
use crate::linux::fd::{self, Root};
use crate::linux::mount::{self as sys, Change, OpenTree};
use crate::linux::types::{Errno, Namespaces, Propagation};
use crate::linux::{call, clone};
use crate::plan::step::{Mount, Op, Route, Step};

/// What is entered, as [`Op::EnterRoot`] says.
#[derive(Debug)]
pub struct Entry<'a> {
    /// Path of the root filesystem on the host.
    pub path: &'a str,
    /// Where the mount namespace comes from.
    pub route: Route,
    /// How the root filesystem's mounts propagate.
    pub root: Propagation,
    /// How the copies of the host's trees propagate; none: as the host's.
    pub trees: Option<Propagation>,
    /// The namespace that the host keeps, where it is to be had.
    pub pinned: Option<OwnedFd>,
}

impl RootFs {
    /// Takes what `steps` will mount of the host, and enters the root filesystem. From here on everything that is made has exactly the mode
    /// that is asked for, whatever the caller's umask was.
    pub fn enter(entry: Entry<'_>, steps: &[Step], trees: HostTrees, again: Again<'_>) -> Result<RootFs> {
        umask(Mode::empty());
        let what = || format!("cannot mount the root filesystem \"{}\"", entry.path);
        let null = host_null()?;
        // Else what the container puts over it would appear on the host's.
        set_propagation(&null, entry.root).told(what)?;
        let place = sys::open_tree_path(entry.path, OpenTree::empty()).told(what);
        let place = place.map_err(|error| missing(error, Code::Rootfs))?;
        let top = fd::stat(&place).told(what)?;
        require_directory(&top, entry.path)?;
        refuse_host_root(&top, entry.path)?;
        // The root comes first, as on the classic route: CRIU takes mounts that propagate alike in the order in which they were made.
        let namespace = match entry.route {
            Route::OpenTree => sys::open_tree_namespace(&place).ok(),
            Route::Pinned => None,
        };
        let tree = match namespace {
            Some(_) => None,
            None => Some(copy(&place, entry.root).told(what)?),
        };
        let taken = take(steps, entry.trees)?;
        // Before setns(2) has succeeded nothing has changed.
        let root = match namespace.filter(|namespace| clone::setns(namespace, Namespaces::MOUNT).is_ok()) {
            Some(_) => {
                let root = fd::open_dir_path("/").told(what)?;
                set_propagation(&root, entry.root).told(what)?;
                root
            }
            None => {
                let tree = tree.map_or_else(|| copy(&place, entry.root), Ok).told(what)?;
                pivot_in_copy(tree, entry.pinned, &what, &|| copied_again(again, &top, entry.path))?
            }
        };
        let (null, taken, known) = (Some(Cover::new(null)), Some(taken), Known::in_filesystem(top.dev));
        Ok(RootFs { null, trees, taken, known, unshared: true, ..RootFs::in_root(Root::from(root), None) })
    }
}

/// The host's trees of these steps, in their order.
fn take(steps: &[Step], propagation: Option<Propagation>) -> Result<VecDeque<OwnedFd>> {
    let mut taken = VecDeque::new();
    for step in steps {
        let Op::Mount(wanted) = &step.op else { continue };
        taken.extend(take_one(wanted, propagation).map_err(|error| error.at(step.at.as_str()))?);
    }
    Ok(taken)
}

fn take_one(wanted: &Mount, propagation: Option<Propagation>) -> Result<Option<OwnedFd>> {
    source::open_host_tree(wanted, propagation)
}

/// The host's tree of one of these steps, as [`RootFs::enter`] takes it.
pub(super) fn tree_of(steps: &[Step], wanted: &Mount) -> Result<Option<OwnedFd>> {
    let entered = steps.iter().find_map(|step| match &step.op {
        Op::EnterRoot { trees, .. } => Some(*trees),
        _ => None,
    });
    take_one(wanted, entered.flatten())
}

fn set_propagation(tree: impl AsFd, kind: Propagation) -> call::Result<()> {
    sys::mount_setattr(tree, true, &Change { propagation: Some(kind), ..Change::default() })
}

/// A detached copy of the root filesystem at this path.
pub(super) fn copy_of(path: &str, propagation: Propagation) -> Result<OwnedFd> {
    let copied = sys::open_tree_path(path, OpenTree::empty()).and_then(|place| copy(&place, propagation));
    copied.told(|| format!("cannot mount the root filesystem \"{path}\""))
}

/// A detached copy of the root filesystem.
fn copy(place: &OwnedFd, propagation: Propagation) -> call::Result<OwnedFd> {
    let change = Change { propagation: Some(propagation), ..Change::default() };
    sys::open_tree_changed(place, "", OpenTree::EMPTY_PATH | OpenTree::RECURSIVE, &change)
}

/// The other two: a mount namespace is copied, the small one or else the host's, and the root filesystem becomes its root.
fn pivot_in_copy(tree: OwnedFd, pinned: Option<OwnedFd>, what: &dyn Fn() -> String, again: Again<'_>) -> Result<OwnedFd> {
    if let Some(pinned) = pinned {
        pin::enter(&pinned).told(what)?;
    }
    clone::unshare(Namespaces::MOUNT).told(|| "cannot make a mount namespace".into()).map_err(|error| match error.errno {
        Some(Errno::ENOSPC) => error.cause(Code::NamespaceLimit),
        _ => error,
    })?;
    // Nothing of what follows reaches those that it was copied from.
    sys::set_propagation("/", Propagation::Private, true).told(what)?;
    // It lies over the old root until that is gone.
    let over = fd::open_dir_path("/").told(what)?;
    let tree = match sys::move_mount(&tree, &over) {
        Err(error) if error.errno == Errno::ELOOP => {
            let other = again()?;
            sys::move_mount(&other, &over).map(|()| other)
        }
        moved => moved.map(|()| tree),
    }
    .told(what)?;
    let mut rootfs = RootFs::in_root(Root::from(tree), None);
    rootfs.pivot(false)?;
    Ok(OwnedFd::from(rootfs.root))
}
