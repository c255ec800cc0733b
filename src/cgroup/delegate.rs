// SPDX-License-Identifier: Apache-2.0
//! Giving cgroups over to the container's user (cgroup-v2.rst, "Delegation"): files that move processes and divide controllers, never
//! those that hold the container's limits. Called by [`super`], when the cgroup is made.

use super::path::Dir;
use super::{Undo, v2};
use crate::error::{Result, Told};
use crate::linux::fd;
use crate::linux::types::Errno;

/// Makes the cgroup below the container's own that is to be the container's to divide, with every controller that can be had. Where the
/// first process is in the container's own cgroup already, it is moved: a cgroup that passes controllers on can have no processes.
pub fn make(dir: &Dir, name: &str, init: Option<i32>, wanted: &[String], undo: &mut Undo) -> Result<Dir> {
    undo.mkdir(dir, name)?;
    let inner = dir.child(name).told(|| format!("cannot open the cgroup {}/{name}", dir.path()))?;
    if let Some(pid) = init {
        super::move_to(&inner, pid)?;
    }
    v2::enable(dir, &[], wanted)?;
    Ok(inner)
}

/// Gives a cgroup to a user: the directory, and the files that the kernel lists as safe for that (cgroup-v2.rst, "Delegation").
pub fn give_to(dir: &Dir, uid: u32) -> Result<()> {
    let what = || format!("cannot give the cgroup {} to user {uid}", dir.path());
    // (gid_t)-1 leaves the group as it is; chown(2).
    fd::fchown(dir, uid, u32::MAX).told(what)?;
    let listed = match fd::read_file_bounded("/sys/kernel/cgroup/delegate", 1 << 16) {
        // Hidden, or sysfs is not mounted: config-linux.md, "Cgroup ownership", names the files to give then.
        Err(error) if error.errno == Errno::ENOENT => b"cgroup.procs cgroup.subtree_control cgroup.threads".to_vec(),
        other => other.told(what)?,
    };
    for file in String::from_utf8_lossy(&listed).split_whitespace() {
        match fd::openat(dir, file, fd::OFlag::O_PATH, 0) {
            // The list is of all controllers' files; a cgroup has those of its own.
            Err(error) if error.errno == Errno::ENOENT => {}
            other => fd::fchown(other.told(what)?, uid, u32::MAX).told(what)?,
        }
    }
    Ok(())
}
