// SPDX-License-Identifier: Apache-2.0
//! Hierarchies of cgroup v1 (Documentation/admin-guide/cgroup-v1/), one or several controllers each. Called by [`super`].
//!
//! Every mounted hierarchy gets the container's cgroup, limited there or not, because tools that count what a container uses find its
//! cgroups by its process. Where there is a cgroup2 tree too (hybrid), that one freezes and kills; the code for it here is for hosts
//! without one.

use std::time::{Duration, Instant};

use super::path::{self, Dir, Hierarchy, is_gone};
use super::{Undo, left_behind};
use crate::error::{Code, Error, Kind, Result, Told};
use crate::linux::call;
use crate::linux::proc::{self, CgroupLine};
use crate::linux::types::Errno;
use crate::linux::{fd, pid};
use crate::plan::resources::{SavedDir, Tree, V1Hierarchy};

/// How long to wait before looking again at what the kernel does not tell of.
const PAUSE: Duration = Duration::from_millis(2);

/// The hierarchies that are mounted where they are expected, under /sys/fs/cgroup, with this process's own cgroup in each.
pub fn hierarchies() -> Vec<V1Hierarchy> {
    let own = proc::cgroups(0).unwrap_or_default();
    own.into_iter().filter(|line| !line.controllers.is_empty()).filter_map(mounted).collect()
}

/// Several controllers together are mounted under all their names, or at least with links by each single one.
fn mounted(own: CgroupLine) -> Option<V1Hierarchy> {
    let together = own.controllers.join(",");
    let mut places = std::iter::once(together.trim_start_matches("name=")).chain(own.controllers.iter().map(String::as_str));
    let mount = places.find_map(|place| {
        let mount = format!("/sys/fs/cgroup/{place}");
        Hierarchy::open(&mount, Tree::V1).is_ok().then_some(mount)
    })?;
    Some(V1Hierarchy { controllers: own.controllers, mount, own: own.path })
}

/// Makes the cgroup, and those above it that are missing.
pub fn make(saved: &SavedDir, undo: &mut Undo) -> Result<Dir> {
    path::split(&saved.path)?;
    let root = Hierarchy::open(&saved.mount, Tree::V1)?;
    let has = |controller: &str| saved.controllers.iter().any(|name| name == controller);
    let mut dir = root.dir("/").told(|| format!("cannot open the root cgroup at {}", saved.mount))?;
    let mut made = true;
    for name in saved.path.split('/').filter(|name| !name.is_empty()) {
        made = undo.mkdir(&dir, name)?;
        let child = dir.child(name).told(|| format!("cannot open the cgroup {}/{name}", dir.path()))?;
        if has("cpuset") {
            inherit_cpuset(&dir, &child)?;
        }
        dir = child;
    }
    if !made {
        let pids = pids(&dir)?;
        if !pids.is_empty() {
            return Err(super::not_empty(&dir, pids.len()));
        }
    }
    if has("freezer") && is_frozen(&dir)? {
        return Err(super::unexpectedly_frozen(&dir));
    }
    Ok(dir)
}

/// A new cpuset has no CPU and no memory node, and takes no process until it has both: those of the cgroup above.
fn inherit_cpuset(above: &Dir, dir: &Dir) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let what = || format!("cannot set {file} of the cgroup {}", dir.path());
        if dir.read(file).told(what)?.trim().is_empty() {
            let value = above.read(file).told(what)?;
            dir.write(file, value.trim()).told(what)?;
        }
    }
    Ok(())
}

/// Every process of the cgroup and those below it.
pub fn pids(dir: &Dir) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    super::collect_pids(dir, &mut found).told(|| format!("cannot list the processes of the cgroup {}", dir.path()))?;
    Ok(found)
}

/// Whether the cgroup is frozen, or becoming so.
pub fn is_frozen(dir: &Dir) -> Result<bool> {
    let state = dir.read_if_any("freezer.state").told(|| format!("cannot tell whether the cgroup {} is frozen", dir.path()))?;
    Ok(state.is_some_and(|state| state.trim() != "THAWED"))
}

/// Freezes every process of the cgroup; when one of them does not stop in time, all go on.
pub fn freeze(dir: &Dir, patience: Duration) -> Result<()> {
    let what = || format!("cannot freeze the cgroup {}", dir.path());
    let deadline = Instant::now() + patience;
    loop {
        // Processes that are made meanwhile escape one attempt: FREEZING stays until it is written again.
        dir.write("freezer.state", "FROZEN").told(what)?;
        match dir.read("freezer.state").told(what)?.trim() {
            "FROZEN" => return Ok(()),
            _ if Instant::now() < deadline => std::thread::sleep(PAUSE),
            _ => break,
        }
    }
    let left = left_behind(&pids(dir)?);
    // The failure to freeze is what matters; that the processes go on is a promise kept as well as can be.
    let _ = dir.write("freezer.state", "THAWED");
    Err(Error::new(Kind::Kernel, format!("{}: within {} s not all processes stopped: {left}", what(), patience.as_secs()))
        .cause(Code::CgroupStuck))
}

/// Lets the processes of the cgroup go on.
pub fn thaw(dir: &Dir) -> Result<()> {
    let what = || format!("cannot thaw the cgroup {}", dir.path());
    dir.write("freezer.state", "THAWED").told(what)?;
    match dir.read("freezer.state").told(what)?.trim() {
        "THAWED" => Ok(()),
        _ => Err(Error::new(Kind::Kernel, what())
            .cause(Code::CgroupFrozen)
            .hint("a cgroup above it is frozen: see their freezer.state")),
    }
}

/// Kills every process of these cgroups and of those below. `freezer` holds them still meanwhile, so that none is made unseen; without
/// it, the killing goes on until there is none.
pub fn kill(dirs: &[&Dir], freezer: Option<&Dir>, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        let frozen = freezer.is_some_and(|freezer| freezer.write("freezer.state", "FROZEN").is_ok());
        let mut all = Vec::new();
        for dir in dirs {
            all.extend(pids(dir)?);
        }
        all.sort_unstable();
        all.dedup();
        for number in &all {
            match pid::kill(*number, libc::SIGKILL) {
                Err(error) if error.errno != Errno::ESRCH => return Err(error).told(|| format!("cannot kill process {number}")),
                _ => {}
            }
        }
        if let (true, Some(freezer)) = (frozen, freezer) {
            // A frozen process of v1 dies only when thawed. Another delete may have removed the cgroup meanwhile.
            match freezer.write("freezer.state", "THAWED") {
                Err(error) if is_gone(error.errno) => {}
                other => other.told(|| format!("cannot thaw the cgroup {}", freezer.path()))?,
            }
        }
        if all.is_empty() || frozen || Instant::now() >= deadline {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
}

/// Removes the cgroup and those below it, once nothing runs in them: an error when something still does at the deadline.
pub fn remove(saved: &SavedDir, deadline: Instant) -> Result<()> {
    let Some((parent, name)) = path::parent_of(saved, Tree::V1)? else { return Ok(()) };
    let what = || format!("cannot remove the cgroup {}/{name}", parent.path());
    loop {
        let busy = match fd::rmdirat(&parent, name) {
            Ok(()) => return Ok(()),
            Err(error) if is_gone(error.errno) => return Ok(()),
            Err(error) if error.errno == Errno::EBUSY => error,
            Err(error) => return Err(error).told(what),
        };
        let dir = match parent.child(name) {
            Err(error) if is_gone(error.errno) => return Ok(()),
            other => other.told(what)?,
        };
        match super::remove_children(&dir) {
            Err(call::CallError { errno: Errno::EBUSY, .. }) | Ok(()) => {}
            other => return other.told(what),
        }
        if Instant::now() >= deadline {
            let left = left_behind(&pids(&dir)?);
            return Err(Error::from(busy)
                .doing(format!("{}: processes are still in it: {left}", what()))
                .cause(Code::CgroupStuck)
                .hint("a process in state D waits for the kernel: see /proc/PID/stack"));
        }
        if !pids(&dir)?.is_empty() {
            std::thread::sleep(PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_mounted_is_left_out() {
        let line = |name: &str| CgroupLine { controllers: vec![name.to_string()], path: "/a".into() };
        assert_eq!(mounted(line("name=no-such")), None);
        assert_eq!(mounted(line("../../../proc")), None);
        for hierarchy in hierarchies() {
            assert!(hierarchy.own.starts_with('/') && hierarchy.mount.starts_with("/sys/fs/cgroup/"));
        }
    }
}
