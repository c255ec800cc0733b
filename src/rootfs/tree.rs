// SPDX-License-Identifier: Apache-2.0
//! Copies of host trees, taken by the runtime before the clone: bind sources that the container's user may not reach, and those that
//! are id-mapped, which only the owner of the filesystem may do (mount_setattr(2), "ID-mapped mounts"). Called by `container::create`,
//! then by [`super::RootFs`] in the container's process.

use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::AT_FDCWD;

use crate::error::{Code, Error, Kind, Result, Told};
use crate::linux::call;
use crate::linux::clone::{self, CloneArgs, Cloned};
use crate::linux::fd;
use crate::linux::mount::{self as sys, Change, OpenTree};
use crate::linux::pid;
use crate::linux::types::{Errno, IdRange, Namespaces, Propagation};
use crate::plan::step::{Op, ParentOp, Source, Step, Tree};
use crate::plan::{IdMap, ParentStep};
use crate::rootfs::enter;

/// The trees of a plan, each in its slot.
#[derive(Debug, Default)]
pub struct HostTrees {
    slots: Vec<Option<OwnedFd>>,
    /// The user namespaces of mappings seen so far: one is enough for all mounts with the same mappings.
    id_maps: Vec<(IdMap, OwnedFd)>,
}

/// Which tree to copy, as [`crate::plan::ParentOp::OpenTree`] says.
#[derive(Clone, Copy, Debug)]
pub struct HostTree<'a> {
    /// Path on the host.
    pub path: &'a str,
    /// With the mounts below it.
    pub recursive: bool,
    /// A symbolic link at the end of the path is itself what is copied.
    pub nofollow: bool,
    /// Id-mapped with these mappings.
    pub id_map: Option<&'a IdMap>,
    /// The mounts below it are id-mapped too.
    pub id_map_recursive: bool,
}

impl<'a> HostTree<'a> {
    /// What a step opens, if it opens one.
    pub fn of(op: &'a ParentOp) -> Option<HostTree<'a>> {
        let ParentOp::OpenTree { path, recursive, nofollow, id_map, id_map_recursive, .. } = op else { return None };
        let (recursive, nofollow, id_map_recursive) = (*recursive, *nofollow, *id_map_recursive);
        Some(HostTree { path, recursive, nofollow, id_map: id_map.as_ref(), id_map_recursive })
    }
}

impl HostTrees {
    /// Opens a tree into `slot`: detached, and a slave of the host's.
    pub fn open(&mut self, slot: usize, tree: HostTree<'_>) -> Result<()> {
        let what = || format!("cannot open \"{}\" to mount it", tree.path);
        let mut flags = OpenTree::empty();
        flags.set(OpenTree::RECURSIVE, tree.recursive);
        flags.set(OpenTree::NOFOLLOW, tree.nofollow);
        let slave = Change { propagation: Some(Propagation::Slave), ..Change::default() };
        let copy = sys::open_tree_changed(AT_FDCWD, tree.path, flags, &slave).told(what)?;
        if let Some(map) = tree.id_map {
            let namespace = self.id_map_namespace(map)?;
            let change = Change { user_namespace: Some(namespace.as_fd()), ..Change::default() };
            sys::mount_setattr(&copy, tree.id_map_recursive, &change).map_err(|error| refused(error, tree.path))?;
        }
        self.give(slot, copy);
        Ok(())
    }

    /// Puts a tree into a slot.
    pub(super) fn give(&mut self, slot: usize, tree: OwnedFd) {
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, || None);
        }
        self.slots[slot] = Some(tree);
    }

    /// The numbers of all descriptors in here, for the new process to keep until it drops them.
    pub fn fds(&self) -> Vec<std::os::fd::RawFd> {
        let namespaces = self.id_maps.iter().map(|(_, namespace)| namespace);
        self.slots.iter().flatten().chain(namespaces).map(std::os::fd::AsRawFd::as_raw_fd).collect()
    }

    /// Hands over the tree in `slot`, once.
    pub(super) fn take(&mut self, slot: usize) -> Result<OwnedFd> {
        let tree = self.slots.get_mut(slot).and_then(Option::take);
        tree.ok_or_else(|| Error::new(Kind::Peer, format!("the runtime did not open tree {slot}")))
    }

    fn id_map_namespace(&mut self, map: &IdMap) -> Result<&OwnedFd> {
        let index = match self.id_maps.iter().position(|(known, _)| known == map) {
            Some(index) => index,
            None => {
                let namespace = user_namespace(map).told(|| "cannot make a user namespace for an id-mapped mount".into())?;
                self.id_maps.push((map.clone(), namespace));
                self.id_maps.len() - 1
            }
        };
        Ok(&self.id_maps[index].1)
    }
}

/// The tree of a step of the container's process, without the mount namespaces that somebody keeps in it: copied in a copy of the
/// runtime's mount namespace, into which the kernel takes none of them along. The process that calls this stays there. `trees` are the steps
/// that opened those of the runtime.
pub fn without_namespaces(steps: &[Step], index: usize, trees: &[ParentStep]) -> Result<OwnedFd> {
    let unknown = || Error::new(Kind::Peer, format!("step {} attaches no tree of the host", index + 1));
    clone::unshare(Namespaces::MOUNT).told(|| "cannot copy the mount namespace".into())?;
    let from_runtime = |slot: usize| {
        let opens = |step: &&ParentStep| matches!(&step.op, ParentOp::OpenTree { slot: other, .. } if *other == slot);
        let tree = trees.iter().find(opens).and_then(|step| HostTree::of(&step.op)).ok_or_else(unknown)?;
        let mut opened = HostTrees::default();
        opened.open(0, tree)?;
        opened.take(0)
    };
    match &steps.get(index).ok_or_else(unknown)?.op {
        Op::AttachRoot { source: Tree::FromRuntime(slot), .. } => from_runtime(*slot),
        Op::EnterRoot { path, root, .. } => enter::copy_of(path, *root),
        Op::Mount(mount) => match &mount.source {
            Source::Bind { tree: Tree::FromRuntime(slot), .. } => from_runtime(*slot),
            _ => enter::tree_of(steps, mount)?.ok_or_else(unknown),
        },
        _ => Err(unknown()),
    }
}

fn refused(error: call::CallError, path: &str) -> Error {
    let errno = error.errno;
    let told = Error::from(error).doing(format!("cannot id-map a mount of \"{path}\""));
    match errno {
        Errno::EINVAL => told
            .cause(Code::IdMappedMount)
            .hint("its filesystem, or one below it, does not support id-mapped mounts on this kernel"),
        Errno::EPERM => told
            .cause(Code::IdMappedMount)
            .hint("the runtime does not own the filesystem (it is in a user namespace), or it is id-mapped already"),
        _ => told,
    }
}

/// A user namespace with these mappings: made by a process that does nothing else, and kept by its descriptor alone.
fn user_namespace(map: &IdMap) -> call::Result<OwnedFd> {
    let (wait, go) = fd::pipe()?;
    match clone::clone3(&CloneArgs { namespaces: Namespaces::USER, clear_handlers: true, ..CloneArgs::default() })? {
        Cloned::Child => {
            drop(go);
            let _ = fd::read_bounded(&wait, 1); // Until the runtime closes its end, by will or by death.
            clone::exit_now(0)
        }
        Cloned::Parent { pid, pidfd } => {
            drop(wait);
            let namespace = map_and_open(pid, map);
            drop(go);
            pid::wait(&pidfd)?;
            namespace
        }
    }
}

fn map_and_open(pid: i32, map: &IdMap) -> call::Result<OwnedFd> {
    let proc = fd::open_dir_path(format!("/proc/{pid}"))?;
    if fd::statfs(&proc)?.magic != fd::magic::PROC {
        return Err(call::CallError::new(format!("fstatfs(\"/proc/{pid}\"): not procfs"), Errno::EINVAL));
    }
    fd::write_at(&proc, "uid_map", lines(&map.uids).as_bytes())?;
    fd::write_at(&proc, "gid_map", lines(&map.gids).as_bytes())?;
    clone::open_namespace(format!("/proc/{pid}/ns/user"))
}

/// user_namespaces(7): one range to a line.
fn lines(ranges: &[IdRange]) -> String {
    ranges.iter().map(|range| format!("{} {} {}\n", range.inside, range.outside, range.count)).collect()
}
