// SPDX-License-Identifier: Apache-2.0
//! What a mount brings in of the host: detached copies of its trees. Used by `mount`, `enter`.

use std::os::fd::OwnedFd;

use nix::fcntl::AT_FDCWD;

use super::mount::refused;
use crate::error::Result;
use crate::linux::call;
use crate::linux::mount::{self as sys, Change, OpenTree};
use crate::linux::types::{MountAttr, Propagation};
use crate::plan::step::{Mount, Source, Tree};

/// What a tree of the host gets that stands in for a filesystem the kernel refused: the container shall not change the host through it.
const FALLBACK: MountAttr = MountAttr::RDONLY.union(MountAttr::NOSUID).union(MountAttr::NODEV).union(MountAttr::NOEXEC);

/// Opens the tree of the host that a mount brings in by its path, if it does. It propagates as `propagation` says, and is private where
/// nothing else is asked for: then nothing is left to be done, unless it goes onto a mount that is shared.
pub(super) fn open_host_tree(mount: &Mount, propagation: Option<Propagation>) -> Result<Option<OwnedFd>> {
    let (path, flags) = match &mount.source {
        Source::CgroupSubtree { path } => (path, OpenTree::empty()),
        Source::Bind { tree: Tree::Path(path), recursive, source_nofollow, .. } => {
            let mut flags = OpenTree::empty();
            flags.set(OpenTree::RECURSIVE, *recursive);
            flags.set(OpenTree::NOFOLLOW, *source_nofollow);
            (path, flags)
        }
        _ => return Ok(None),
    };
    let propagation = if is_private(mount) { Some(Propagation::Private) } else { propagation };
    let opened = match propagation {
        Some(_) => sys::open_tree_changed(AT_FDCWD, path, flags, &Change { propagation, ..Change::default() }),
        None => sys::open_tree_path(path, flags | OpenTree::CLONE),
    };
    opened.map(Some).map_err(|error| refused(error, mount))
}

/// Whether a bind of a path of the host shall be private, with all that is below it, and nothing else.
pub(super) fn is_private(mount: &Mount) -> bool {
    let Source::Bind { tree: Tree::Path(_), recursive, .. } = &mount.source else { return false };
    matches!(mount.propagation[..], [change] if change.kind == Propagation::Private && (change.recursive || !recursive))
}

/// A read-only copy of a host tree, with all that is mounted below it.
pub(super) fn host_instead(path: &str) -> call::Result<OwnedFd> {
    sys::open_tree_changed(AT_FDCWD, path, OpenTree::RECURSIVE, &Change { set: FALLBACK.bits(), ..Change::default() })
}
