// SPDX-License-Identifier: Apache-2.0
//! Paths that the container shall not read, or not write (config-linux.md, "Masked Paths", "Readonly Paths"). After the pivot.
//!
//! Most are names directly in the new procfs, or in another filesystem that was mounted a moment ago: nobody but this process can change
//! what is there. So the kernel is given that filesystem's descriptor and the name, and follows no link at its end. Anything else is
//! opened inside the root first, and only the descriptor used.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::leaf::Leaf;
use super::{RootFs, known};
use crate::error::{Result, Told};
use crate::linux::call;
use crate::linux::fd::{self, Root};
use crate::linux::mount::{self as sys, Change, OpenTree};
use crate::linux::types::{Errno, MountAttr};

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
        self.put_over(|mount| sys::move_mount(mount, &onto))
    }

    /// The same, over a name.
    fn put_on(&mut self, name: Name<'_, '_>) -> call::Result<Option<OwnedFd>> {
        self.put_over(|mount| sys::move_mount_to(mount, name.dir, name.name))
    }

    fn put_over(&mut self, place: impl Fn(&OwnedFd) -> call::Result<()>) -> call::Result<Option<OwnedFd>> {
        if self.attached {
            let copy = sys::clone_tree(&self.mount, false)?;
            return place(&copy).map(|()| Some(copy));
        }
        place(&self.mount)?;
        self.attached = true;
        Ok(None)
    }

    pub(super) fn into_mount(self) -> OwnedFd {
        self.mount
    }
}

/// What an empty directory is like.
const EMPTY: MountAttr = MountAttr::RDONLY.union(MountAttr::NOSUID).union(MountAttr::NODEV).union(MountAttr::NOEXEC);

/// An empty directory that stays so: a read-only tmpfs without room. Some kernels count the root directory twice. With it comes what it was
/// made of, which is of no more use.
pub(super) fn empty_directory(label: Option<&str>) -> call::Result<(OwnedFd, OwnedFd)> {
    let make = |inodes| {
        // The filesystem itself is read-only, too: mount(2) makes no other.
        let parameters = [("source", Some("tmpfs")), ("ro", None), ("nr_blocks", Some("1")), ("nr_inodes", Some(inodes))];
        let label = label.map(|label| ("context", Some(label)));
        sys::new_mount_and_context("tmpfs", parameters.into_iter().chain(label), EMPTY.bits())
    };
    make("1").or_else(|_| make("2"))
}

/// A name in the root directory of a filesystem that only this process can change.
#[derive(Clone, Copy)]
struct Name<'a, 'b> {
    dir: BorrowedFd<'a>,
    name: &'b str,
}

/// The empty directory, and where the first one is.
#[derive(Default)]
struct Empty<'a> {
    label: Option<&'a str>,
    cover: Option<Cover>,
    /// A name that has been covered by mount(2), which gives no descriptor.
    first: Option<&'a str>,
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

    /// The name that the path is in a filesystem of our own, where it is one.
    fn own_name<'b>(&self, path: &'b str) -> Option<Name<'_, 'b>> {
        let (dir, name) = match self.below_proc(path) {
            Some((proc, below)) if self.proc_is_new => (proc.as_fd(), known::only_name(below)?),
            Some(_) => return None,
            None => self.known.above(path)?,
        };
        Some(Name { dir, name })
    }

    /// Hides these paths: a directory under an empty one, anything else under the host's null device.
    pub fn mask_paths(&mut self, paths: &[String], label: Option<&str>) -> Result<()> {
        let mut empty = Empty { label, ..Empty::default() };
        for path in paths {
            self.mask(path, &mut empty)?;
        }
        empty.cover.into_iter().for_each(|cover| self.spend(cover.into_mount()));
        Ok(())
    }

    /// Hides one. A path that is not there needs no hiding.
    fn mask<'a>(&mut self, path: &'a str, empty: &mut Empty<'a>) -> Result<()> {
        let what = || format!("cannot mask \"{path}\"");
        let found = match self.own_name(path) {
            Some(Name { dir, name }) => match fd::find_at(dir, name).told(what)? {
                None => return Ok(()),
                // What it leads to is hidden.
                Some(there) if there.is_symlink() => None,
                Some(there) => Some(there.is_dir()),
            },
            None => None,
        };
        let (place, is_dir) = match found {
            Some(is_dir) => (None, is_dir),
            None => match self.find(path).told(what)? {
                None => return Ok(()),
                Some(place) => {
                    let is_dir = fd::stat(&place).told(what)?.is_dir();
                    (Some(place), is_dir)
                }
            },
        };
        let mut cover = match is_dir {
            true if place.is_none() && self.is_emptied(path, empty) => return Ok(()),
            true => self.empty_cover(empty).told(what)?,
            false => self.null.take().map_or_else(|| super::host_null().map(Cover::new), Ok)?,
        };
        let copy = match (&place, self.own_name(path)) {
            (None, Some(name)) => cover.put_on(name).told(what)?,
            (None, None) => None,
            (Some(place), _) => cover.put(place).told(what)?,
        };
        let kept = if is_dir { &mut empty.cover } else { &mut self.null };
        *kept = Some(cover);
        copy.into_iter().chain(place).for_each(|fd| self.spend(fd));
        Ok(())
    }

    /// Covers a directory with the first empty one, by mount(2): two calls, where fsopen(2) and what follows take seven. Whether it is done.
    fn is_emptied<'a>(&mut self, path: &'a str, empty: &mut Empty<'a>) -> bool {
        if empty.first.is_some() || empty.cover.is_some() || empty.label.is_some() {
            return false;
        }
        self.known.leave();
        let done = match self.own_name(path) {
            Some(Name { dir, name }) => sys::fchdir(dir).is_ok() && Leaf::empty(EMPTY).mount_at(name),
            None => false,
        };
        empty.first = done.then_some(path);
        done
    }

    /// The empty directory, to be put somewhere: a copy of the first one, or made.
    fn empty_cover(&mut self, empty: &mut Empty<'_>) -> call::Result<Cover> {
        if let Some(cover) = empty.cover.take() {
            return Ok(cover);
        }
        if let Some(Name { dir, name }) = empty.first.and_then(|path| self.own_name(path)) {
            return Ok(Cover::new(sys::open_tree(dir, name, OpenTree::CLONE | OpenTree::NOFOLLOW)?));
        }
        let (made, context) = empty_directory(empty.label)?;
        self.spend(context);
        Ok(Cover::new(made))
    }

    /// Makes the subtree at this path read-only, by a mount of itself over itself. All else about the mounts stays as it is, and what is
    /// mounted on the files `but` as it was.
    pub fn readonly_path(&mut self, path: &str, but: &[String]) -> Result<()> {
        let mut kept = Vec::new();
        for file in but {
            let copy = self.copy_of_file(file).told(|| format!("cannot keep what is mounted on \"{file}\""))?;
            kept.extend(copy.map(|copy| (file, copy)));
        }
        self.make_readonly(path)?;
        for (file, copy) in kept {
            let what = || format!("cannot put back what was mounted on \"{file}\"");
            if let Some(place) = self.find(file).told(what)? {
                sys::move_mount(&copy, &place).told(what)?;
            }
        }
        Ok(())
    }

    /// What is mounted on a file of the procfs that was mounted at /proc; in no other the names are sure to be the kernel's.
    fn copy_of_file(&self, file: &str) -> call::Result<Option<OwnedFd>> {
        let Some((proc, below)) = self.below_proc(file) else { return Ok(None) };
        let Some(place) = proc.find(below, true)? else { return Ok(None) };
        if !fd::stat(&place)?.mount_root {
            return Ok(None);
        }
        match sys::open_tree(&place, "", OpenTree::EMPTY_PATH | OpenTree::CLONE) {
            // It was asked to be unbindable.
            Err(error) if error.errno == Errno::EINVAL => Ok(None),
            copy => copy.map(Some),
        }
    }

    fn make_readonly(&mut self, path: &str) -> Result<()> {
        let what = || format!("cannot make \"{path}\" read-only");
        match self.own_name(path).filter(|name| DIRECTORIES.contains(&name.name)).map(readonly_name) {
            Some(Ok(copy)) => {
                self.spend(copy);
                return Ok(());
            }
            Some(Err(error)) if error.errno == Errno::ENOENT => return Ok(()),
            // It is no directory, or what is wrong is found below.
            Some(Err(_)) | None => {}
        }
        let Some(place) = self.find(path).told(what)? else { return Ok(()) };
        // What is found in the procfs is not the root.
        if self.below_proc(path).is_none() {
            let at = fd::stat(&place).told(what)?;
            if at.mount_root && at.mount_id == self.root_mount().told(what)? {
                // Nothing can be put over the root that paths from it would meet.
                return sys::mount_setattr(&place, true, &READONLY).told(what);
            }
        }
        let copy = sys::open_tree_changed(&place, "", OpenTree::EMPTY_PATH | OpenTree::RECURSIVE, &READONLY).told(what)?;
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

const READONLY: Change<'static> = Change { set: MountAttr::RDONLY.bits(), clear: 0, propagation: None, user_namespace: None };

/// Directories of procfs that engines make read-only. The list is for speed: it is only tried here, and the kernel judges.
const DIRECTORIES: [&str; 4] = ["bus", "fs", "irq", "sys"];

/// Makes a directory read-only. Where it is none the kernel refuses: the slash wants a directory to put the copy on, and the copy of a link
/// would be none.
fn readonly_name(Name { dir, name }: Name<'_, '_>) -> call::Result<OwnedFd> {
    let copy = sys::open_tree_changed(dir, name, OpenTree::RECURSIVE | OpenTree::NOFOLLOW, &READONLY)?;
    sys::move_mount_to(&copy, dir, format!("{name}/"))?;
    Ok(copy)
}
