// SPDX-License-Identifier: Apache-2.0
//! A device node made inside a container that runs already. Called by `update --device`, from outside the container's namespaces.
//!
//! Everything inside is the container's to arrange, so nothing is believed: no symbolic link is followed on the way, so that the node
//! lands nowhere but under the path that was asked, and what is there already must be the same device or the call fails.

use std::os::fd::{AsFd, OwnedFd};

use super::ExactModes;
use super::device::require;
use crate::error::{Result, Told};
use crate::linux::call;
use crate::linux::fd::{self, OFlag};
use crate::linux::types::Errno;
use crate::plan::step::Node;

/// Makes the node below `root`, and the directories above it that are missing. Whether it was made: false where it was there.
pub fn plug(root: impl AsFd, node: &Node) -> Result<bool> {
    let what = || format!("cannot make the device \"{}\" in the container", node.path);
    let mut names: Vec<&str> = node.path.split('/').filter(|name| !matches!(*name, "" | "." | "..")).collect();
    let leaf = names.pop().unwrap_or_default();
    let mut dir = fd::dup_from(root, 0).told(what)?;
    for name in names {
        dir = enter(&dir, name).told(what).map_err(|error| match error.errno {
            Some(Errno::ENOTDIR | Errno::ELOOP) => error.hint("symbolic links are not followed inside a container that runs"),
            _ => error,
        })?;
    }
    let exact = ExactModes::begin();
    let made = fd::mknodat(&dir, leaf, node.kind, node.number, node.mode);
    drop(exact);
    let is_new = match made {
        Err(error) if error.errno == Errno::EEXIST => false,
        other => other.told(what).map(|()| true)?,
    };
    let there = fd::openat(&dir, leaf, OFlag::O_PATH | OFlag::O_NOFOLLOW, 0).told(what)?;
    require(node, &fd::stat(&there).told(what)?, if is_new { "what was just made" } else { "what is there already" })?;
    if is_new && (node.uid, node.gid) != (0, 0) {
        fd::fchown(&there, node.uid, node.gid).told(what)?;
    }
    Ok(is_new)
}

/// Takes the node away again.
pub fn unplug(root: impl AsFd, node: &Node) -> Result<()> {
    let what = || format!("cannot remove the device \"{}\" from the container", node.path);
    let mut names: Vec<&str> = node.path.split('/').filter(|name| !matches!(*name, "" | "." | "..")).collect();
    let leaf = names.pop().unwrap_or_default();
    let mut dir = fd::dup_from(root, 0).told(what)?;
    for name in names {
        dir = fd::openat(&dir, name, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW, 0).told(what)?;
    }
    fd::unlinkat(&dir, leaf).told(what)
}

fn enter(dir: &OwnedFd, name: &str) -> call::Result<OwnedFd> {
    let open = || fd::openat(dir, name, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW, 0);
    match open() {
        Err(error) if error.errno == Errno::ENOENT => {
            let exact = ExactModes::begin();
            let made = fd::mkdirat(dir, name, 0o755);
            drop(exact);
            match made {
                Err(error) if error.errno != Errno::EEXIST => Err(error),
                _ => open(),
            }
        }
        other => other,
    }
}
