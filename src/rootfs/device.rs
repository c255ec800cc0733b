// SPDX-License-Identifier: Apache-2.0
//! Device nodes, links and directories inside the root filesystem (config-linux.md, "Devices"; runtime-linux.md, "Dev symbolic links").

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::target::{self, Make};
use super::{ExactModes, RootFs};
use crate::error::{Code, Error, Kind, Result, Told};
use crate::linux::call::{self, CallError};
use crate::linux::fd::{self, OFlag, Stat};
use crate::linux::mount::{self as sys, OpenTree};
use crate::linux::types::{DeviceNumber, Errno, NodeKind};
use crate::plan::step::Node;

impl RootFs {
    /// Makes a device node or FIFO; one that is there already and the same is taken.
    pub fn node(&mut self, node: &Node) -> Result<()> {
        if node.bind {
            return self.bind_node(node);
        }
        let what = || format!("cannot make the device \"{}\"", node.path);
        let exact = (!self.modes_are_exact).then(ExactModes::begin);
        let (parent, leaf) = self.parent(&node.path).told(what)?;
        let made = fd::mknodat(parent, leaf, node.kind, node.number, node.mode);
        drop(exact);
        match made {
            Err(error) if error.errno == Errno::EEXIST => {
                let there = fd::openat(parent, leaf, OFlag::O_PATH, 0).told(what)?;
                return require(node, &fd::stat(&there).told(what)?, "what is there already");
            }
            // A runtime inside a container may have no CAP_MKNOD, yet the very node.
            Err(error) if error.errno == Errno::EPERM && node.kind != NodeKind::Fifo => {
                return self.bind_node(node).map_err(|_| Error::from(error).doing(what()));
            }
            other => other.told(what)?,
        }
        if (node.uid, node.gid) != (0, 0) {
            let made = fd::openat(parent, leaf, OFlag::O_PATH, 0).told(what)?;
            require(node, &fd::stat(&made).told(what)?, "what was just made")?;
            fd::fchown(&made, node.uid, node.gid).told(what)?;
        }
        Ok(())
    }

    /// The directory that `path`'s last component is in, and that component. Nodes and links come in rows: the last directory is kept,
    /// until something is mounted.
    fn parent<'a>(&mut self, path: &'a str) -> call::Result<(BorrowedFd<'_>, &'a str)> {
        let (parent, leaf) = target::split(path);
        if let Some(known) = self.known.at(parent) {
            return Ok((self.known.root(known), leaf));
        }
        let dir = match self.parent.take() {
            Some((known, dir)) if known == parent => dir,
            _ => target::open_or_make(&self.root, parent, Make::Directory, true)?,
        };
        let kept = self.parent.insert((parent.to_string(), dir));
        Ok((kept.1.as_fd(), leaf))
    }

    /// Binds the host's node of the same path.
    fn bind_node(&self, node: &Node) -> Result<()> {
        let what = || format!("cannot bind the host's device \"{}\"", node.path);
        let host: OwnedFd = sys::open_tree_path(&node.path, OpenTree::CLONE).told(what)?;
        require(node, &fd::stat(&host).told(what)?, "the host's")?;
        let place = target::open_or_make(&self.root, &node.path, Make::File, true).told(what)?;
        sys::move_mount(&host, &place).told(what)
    }

    /// Makes a symbolic link where nothing is yet.
    pub fn link(&mut self, path: &str, target: &str, only_existing: bool) -> Result<()> {
        let what = || format!("cannot make the link \"{path}\"");
        if only_existing && self.root.find(target, true).told(what)?.is_none() {
            return Ok(());
        }
        let (parent, leaf) = self.parent(path).told(what)?;
        match fd::symlinkat(target, parent, leaf) {
            Err(error) if error.errno == Errno::EEXIST => Ok(()),
            other => other.told(what),
        }
    }

    /// Makes a directory where nothing is yet, and those above it.
    pub fn directory(&self, path: &str) -> Result<()> {
        let what = || format!("cannot make the directory \"{path}\"");
        let place = match target::open_or_make(&self.root, path, Make::Directory, true) {
            // On a network filesystem root may see less than the user who will be there.
            Err(error) if error.errno == Errno::EACCES => return Ok(()),
            other => other.told(what)?,
        };
        if !fd::stat(&place).told(what)?.is_dir() {
            return Err(Error::from(CallError::new(format!("mkdirat({path:?})"), Errno::ENOTDIR)).doing(what()));
        }
        Ok(())
    }
}

pub(super) fn require(node: &Node, stat: &Stat, whose: &str) -> Result<()> {
    let kind = match node.kind {
        NodeKind::Character => libc::S_IFCHR,
        NodeKind::Block => libc::S_IFBLK,
        NodeKind::Fifo => libc::S_IFIFO,
    };
    if stat.kind() == kind && (node.kind == NodeKind::Fifo || stat.rdev == node.number) {
        return Ok(());
    }
    let DeviceNumber { major, minor } = node.number;
    let wanted = match node.kind {
        NodeKind::Character => format!("character device {major}:{minor}"),
        NodeKind::Block => format!("block device {major}:{minor}"),
        NodeKind::Fifo => "FIFO".to_string(),
    };
    let what = format!("cannot make the device \"{}\": {whose} is not the {wanted}", node.path);
    Err(Error::new(Kind::Config, what).cause(Code::DeviceNode).hint("mount a tmpfs on /dev, or remove the file from the image"))
}
