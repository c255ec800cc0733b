// SPDX-License-Identifier: Apache-2.0
//! Paths that the container shall not read, or not write (config-linux.md, "Masked Paths", "Readonly Paths"). After the pivot.

use std::os::fd::{AsFd, OwnedFd};

use super::RootFs;
use crate::error::{Result, Told};
use crate::linux::call;
use crate::linux::fd::{self, Root};
use crate::linux::mount::{self as sys, Change};
use crate::linux::types::MountAttr;

/// One mount that is put over many places. The kernel copies attached mounts only (before Linux 6.15), so the first place gets the mount
/// itself and the others a copy of it.
pub(super) struct Cover {
    mount: OwnedFd,
    attached: bool,
}

impl Cover {
    pub(super) fn new(mount: OwnedFd) -> Cover {
        Cover { mount, attached: false }
    }

    /// Puts it over a place. The copy, where one was made for it, is of no more use.
    pub(super) fn put(&mut self, onto: impl AsFd) -> call::Result<Option<OwnedFd>> {
        if self.attached {
            let copy = sys::clone_tree(&self.mount, false)?;
            return sys::move_mount(&copy, onto).map(|()| Some(copy));
        }
        sys::move_mount(&self.mount, onto)?;
        self.attached = true;
        Ok(None)
    }

    pub(super) fn into_mount(self) -> OwnedFd {
        self.mount
    }
}

/// An empty directory that stays so: a read-only tmpfs without room. Some kernels count the root directory twice. With it comes what it was
/// made of, which is of no more use.
pub(super) fn empty_directory(label: Option<&str>) -> call::Result<(OwnedFd, OwnedFd)> {
    const ATTR: MountAttr = MountAttr::RDONLY.union(MountAttr::NOSUID).union(MountAttr::NODEV).union(MountAttr::NOEXEC);
    let make = |inodes| {
        let parameters = [("source", Some("tmpfs")), ("nr_blocks", Some("1")), ("nr_inodes", Some(inodes))];
        let label = label.map(|label| ("context", Some(label)));
        sys::new_mount_and_context("tmpfs", parameters.into_iter().chain(label), ATTR.bits())
    };
    make("1").or_else(|_| make("2"))
}

impl RootFs {
    /// What is to be hidden. A path in /proc is looked up in the procfs that was mounted there: a neighbour who can rename in the root
    /// filesystem may have put something else in its place since (CVE-2019-19921).
    fn find(&self, path: &str) -> call::Result<Option<OwnedFd>> {
        match self.below_proc(path) {
            Some((proc, below)) => proc.find(below, true),
            None => self.root.find(path, true),
        }
    }

    /// The procfs, and the path in it, where the path is looked up there.
    fn below_proc<'a>(&self, path: &'a str) -> Option<(&Root, &'a str)> {
        let below = path.strip_prefix("/proc/").filter(|below| !below.split('/').any(|name| name == ".."))?;
        Some((self.proc.as_ref()?, below))
    }

    /// Hides these paths: a directory under an empty one, anything else under the host's null device.
    pub fn mask_paths(&mut self, paths: &[String], label: Option<&str>) -> Result<()> {
        let mut empty: Option<Cover> = None;
        for path in paths {
            let what = || format!("cannot mask \"{path}\"");
            // A path that is not there needs no hiding.
            let Some(place) = self.find(path).told(what)? else { continue };
            if fd::stat(&place).told(what)?.is_dir() {
                let cover = match empty.as_mut() {
                    Some(cover) => cover,
                    None => {
                        let (made, context) = empty_directory(label).told(what)?;
                        self.spent.take(context);
                        empty.insert(Cover::new(made))
                    }
                };
                cover.put(&place).told(what)?.into_iter().chain([place]).for_each(|fd| self.spent.take(fd));
            } else {
                let cover = match self.null.as_mut() {
                    Some(cover) => cover,
                    None => self.null.insert(Cover::new(super::host_null()?)),
                };
                cover.put(&place).told(what)?.into_iter().chain([place]).for_each(|fd| self.spent.take(fd));
            }
        }
        empty.into_iter().for_each(|cover| self.spend(cover.into_mount()));
        Ok(())
    }

    /// Makes the subtree at this path read-only, by a mount of itself over itself. All else about the mounts stays as it is.
    pub fn readonly_path(&mut self, path: &str) -> Result<()> {
        let what = || format!("cannot make \"{path}\" read-only");
        let Some(place) = self.find(path).told(what)? else { return Ok(()) };
        let readonly = Change { set: MountAttr::RDONLY.bits(), ..Change::default() };
        // What is found in the procfs is not the root.
        if self.below_proc(path).is_none() {
            let at = fd::stat(&place).told(what)?;
            if at.mount_root && at.mount_id == self.root_mount().told(what)? {
                // Nothing can be put over the root that paths from it would meet.
                return sys::mount_setattr(&place, true, &readonly).told(what);
            }
        }
        let copy = sys::clone_tree(&place, true).told(what)?;
        sys::mount_setattr(&copy, true, &readonly).told(what)?;
        sys::move_mount(&copy, &place).told(what)?;
        self.spend(copy);
        self.spend(place);
        Ok(())
    }

    /// The number of the root's mount.
    fn root_mount(&mut self) -> call::Result<Option<u64>> {
        if self.mount_id.is_none() {
            self.mount_id = fd::stat(&self.root)?.mount_id;
        }
        Ok(self.mount_id)
    }
}
