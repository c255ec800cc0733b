// SPDX-License-Identifier: Apache-2.0
//! The cgroup2 tree: making a cgroup with its controllers, freezing, killing, waiting, removing (cgroup-v2.rst). Called by [`super`].

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::path::{self, Dir, Hierarchy, find_number, is_gone};
use super::{Undo, left_behind};
use crate::error::{Code, Error, Kind, Result, Told};
use crate::linux::call::{self, Call, CallError};
use crate::linux::fd::{self, OFlag};
use crate::linux::pid::{self, PollFd, PollFlags};
use crate::linux::types::Errno;
use crate::plan::resources::{SavedDir, Tree};

/// Controllers that work in a threaded cgroup; where any other is enabled, nothing is threaded (cgroup-v2.rst, "Threads").
const THREADED: &[&str] = &["cpu", "cpuset", "perf_event", "pids"];

/// Makes the cgroup, and those above it that are missing, with the controllers it needs and, where possible, those it is wanted to have.
/// An empty cgroup that exists already is taken, which the answer tells from one that was made; what was made for nothing is for `undo`
/// to remove.
pub fn make(saved: &SavedDir, required: &[String], wanted: &[String], undo: &mut Undo) -> Result<(Dir, bool)> {
    let (above, name) = path::split(&saved.path)?;
    let ready = match path::parent_of(saved, Tree::V2)? {
        Some((dir, _)) => {
            Some(passes_on(&dir)?).filter(|passed| wanted.iter().all(|name| passed.contains(name))).map(|passed| (dir, passed))
        }
        None => None,
    };
    let (parent, passed) = match ready {
        Some(ready) => ready,
        None => {
            let dir = descend(&Hierarchy::open(&saved.mount, Tree::V2)?, above, required, wanted, undo)?;
            let passed = passes_on(&dir)?;
            (dir, passed)
        }
    };
    let (dir, made) = make_child(&parent, name, undo)?;
    if !made {
        refuse_used(&dir)?;
    }
    if passed.iter().all(|controller| THREADED.contains(&controller.as_str())) {
        refuse_threaded(&dir)?;
    }
    Ok((dir, made))
}

/// Opens a cgroup that somebody else has made and filled, after the same has been done above it as by [`make`].
pub fn adopt(saved: &SavedDir, required: &[String], wanted: &[String]) -> Result<Dir> {
    let (above, name) = path::split(&saved.path)?;
    let root = Hierarchy::open(&saved.mount, Tree::V2)?;
    let parent = descend(&root, above, required, wanted, &mut Undo::default())?;
    parent.child(name).told(|| format!("cannot open the cgroup {}/{name}", parent.path()))
}

/// Goes down from the root, making what is missing and enabling controllers at each level for the next.
fn descend(root: &Hierarchy, above: &str, required: &[String], wanted: &[String], undo: &mut Undo) -> Result<Dir> {
    let mut dir = root.dir("/").told(|| "cannot open the root cgroup".to_string())?;
    for name in above.split('/').filter(|name| !name.is_empty()) {
        enable(&dir, required, wanted)?;
        dir = make_child(&dir, name, undo)?.0;
    }
    enable(&dir, required, wanted)?;
    Ok(dir)
}

/// The controllers that a cgroup passes on to its children.
fn passes_on(dir: &Dir) -> Result<Vec<String>> {
    words(dir, "cgroup.subtree_control")
}

fn words(dir: &Dir, file: &str) -> Result<Vec<String>> {
    let text = dir.read_record(file).told(|| format!("cannot read {file} of the cgroup {}", dir.path()))?;
    Ok(text.split_whitespace().map(String::from).collect())
}

/// Enables controllers for the children of a cgroup, as far as it has them and they are not enabled: together, or else one by one.
pub fn enable(dir: &Dir, required: &[String], wanted: &[String]) -> Result<()> {
    let available = words(dir, "cgroup.controllers")?;
    if let Some(name) = required.iter().find(|name| !available.contains(name)) {
        return Err(Error::new(
            Kind::Unsupported,
            format!("the cgroup controller \"{name}\" is not available in {}", dir.path()),
        )
        .cause(Code::Controller)
        .at(crate::plan::resources::path::FIELD)
        .hint("the cgroups above do not pass it on: see their cgroup.subtree_control, or choose another cgroupsPath"));
    }
    let enabled = passes_on(dir)?;
    let missing: Vec<&String> = wanted.iter().filter(|name| available.contains(name) && !enabled.contains(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if has_processes(dir)? {
        // The kernel would refuse some controllers and take others, which would make this cgroup, that is not ours, a threaded one.
        return match required.iter().find(|name| missing.contains(name)) {
            None => Ok(()),
            Some(name) => Err(Error::new(Kind::Unsupported, cannot_enable(dir, name))
                .cause(Code::CgroupBusy)
                .at(crate::plan::resources::path::FIELD)
                .hint("it has processes of its own, and cgroup v2 limits nothing below such a cgroup: choose a cgroupsPath beside it")),
        };
    }
    let request = |names: &[&String]| names.iter().map(|name| format!("+{name}")).collect::<Vec<String>>().join(" ");
    if dir.write("cgroup.subtree_control", &request(&missing)).is_ok() {
        return Ok(());
    }
    for name in missing {
        match dir.write("cgroup.subtree_control", &request(&[name])) {
            Err(error) if required.contains(name) => return Err(refused_to_enable(dir, name, error)),
            _ => {}
        }
    }
    Ok(())
}

/// Whether processes are in this very cgroup. Those of the root do not count: it alone may have both processes and children with limits.
fn has_processes(dir: &Dir) -> Result<bool> {
    let what = || format!("cannot tell whether the cgroup {} has processes", dir.path());
    if dir.read_if_any("cgroup.type").told(what)?.is_none() {
        return Ok(false);
    }
    match dir.read("cgroup.procs") {
        Ok(pids) => Ok(!pids.is_empty()),
        Err(error) if error.errno == Errno::EOPNOTSUPP => Ok(true),
        Err(error) => Err(error).told(what),
    }
}

fn cannot_enable(dir: &Dir, name: &str) -> String {
    format!("cannot enable the controller \"{name}\" below the cgroup {}", dir.path())
}

fn refused_to_enable(dir: &Dir, name: &str, error: CallError) -> Error {
    let (cause, hint) = match error.errno {
        Errno::EBUSY => (Code::CgroupBusy, "a process came into it just now, and cgroup v2 limits nothing below such a cgroup"),
        Errno::EOPNOTSUPP => {
            (Code::CgroupThreaded, "it is threaded, and this controller does not work on threads: choose another cgroupsPath")
        }
        Errno::EACCES | Errno::EPERM => (Code::Delegation, "it is not delegated to this user: see systemd's Delegate="),
        Errno::EINVAL if name == "cpu" => {
            (Code::Controller, "real-time processes outside the root cgroup keep it from being enabled")
        }
        _ => (Code::Controller, "see cgroup.controllers of that cgroup"),
    };
    Error::from(error).doing(cannot_enable(dir, name)).cause(cause).at(crate::plan::resources::path::FIELD).hint(hint)
}

/// Makes a child cgroup, or takes the one that is there: with whether it was made.
fn make_child(parent: &Dir, name: &str, undo: &mut Undo) -> Result<(Dir, bool)> {
    let made = undo.mkdir(parent, name)?;
    let dir = parent.child(name).told(|| format!("cannot open the cgroup {}/{name}", parent.path()))?;
    Ok((dir, made))
}

/// An existing cgroup can become a container's only while nothing runs in it and nothing is frozen.
pub fn refuse_used(dir: &Dir) -> Result<()> {
    let events = dir.read_record("cgroup.events").told(|| format!("cannot tell whether the cgroup {} is empty", dir.path()))?;
    if find_number(&events, "populated") == Some(1) {
        return Err(super::not_empty(dir, pids(dir)?.len()));
    }
    if find_number(&events, "frozen") == Some(1) {
        return Err(super::unexpectedly_frozen(dir));
    }
    Ok(())
}

/// Below a threaded cgroup nothing can hold whole processes, so no container.
fn refuse_threaded(dir: &Dir) -> Result<()> {
    let kind = dir.read_record("cgroup.type").told(|| format!("cannot tell what kind of cgroup {} is", dir.path()))?;
    match kind.trim() {
        "domain" | "domain threaded" => Ok(()),
        other => Err(Error::new(Kind::Unsupported, format!("the cgroup {} would be \"{other}\"", dir.path()))
            .cause(Code::CgroupThreaded)
            .at(crate::plan::resources::path::FIELD)
            .hint("a cgroup above it is threaded, and a container needs a domain: choose another cgroupsPath")),
    }
}

/// Every process of the cgroup and those below it, as this pid namespace numbers them.
pub fn pids(dir: &Dir) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    super::collect_pids(dir, &mut found).told(|| format!("cannot list the processes of the cgroup {}", dir.path()))?;
    Ok(found)
}

/// Kills every process of the cgroup and those below it, frozen ones and those just being made too (Linux 5.14).
pub fn kill(dir: &Dir) -> Result<()> {
    match dir.write("cgroup.kill", "1") {
        Err(error) if !is_gone(error.errno) => {
            Err(error).told(|| format!("cannot kill the processes of the cgroup {}", dir.path()))
        }
        _ => Ok(()),
    }
}

/// 1 is written to it to freeze the cgroup, and read from it.
pub const FREEZE: &str = "cgroup.freeze";

/// Whether the cgroup itself, not one above it, is frozen or freezing.
pub fn is_frozen(dir: &Dir) -> Result<bool> {
    let state = dir.read_if_any(FREEZE).told(|| format!("cannot tell whether the cgroup {} is frozen", dir.path()))?;
    Ok(state.is_some_and(|state| state.trim() == "1"))
}

/// Freezes every process of the cgroup; when one of them does not stop in time, all go on.
pub fn freeze(dir: &Dir, patience: Duration) -> Result<()> {
    let what = || format!("cannot freeze the cgroup {}", dir.path());
    dir.write(FREEZE, "1").told(what)?;
    if wait_for(dir, "frozen", 1, Instant::now() + patience).told(what)? {
        return Ok(());
    }
    let left = left_behind(&pids(dir)?);
    // The failure to freeze is what matters; that the processes go on is a promise kept as well as can be.
    let _ = dir.write(FREEZE, "0");
    Err(Error::new(Kind::Kernel, format!("{}: within {} s not all processes stopped: {left}", what(), patience.as_secs()))
        .cause(Code::CgroupStuck)
        .hint("a process in state D waits for the kernel: see /proc/PID/stack"))
}

/// Lets the processes of the cgroup go on.
pub fn thaw(dir: &Dir, patience: Duration) -> Result<()> {
    let what = || format!("cannot thaw the cgroup {}", dir.path());
    dir.write(FREEZE, "0").told(what)?;
    if wait_for(dir, "frozen", 0, Instant::now() + patience).told(what)? {
        return Ok(());
    }
    Err(Error::new(Kind::Kernel, what()).cause(Code::CgroupFrozen).hint("a cgroup above it is frozen: see their cgroup.freeze"))
}

/// Waits until cgroup.events says so: false when it does not until the deadline. A cgroup that is gone is neither populated nor frozen.
fn wait_for(dir: &Dir, key: &str, value: u64, deadline: Instant) -> call::Result<bool> {
    let events = match fd::openat(dir, "cgroup.events", OFlag::O_RDONLY, 0) {
        Err(error) if is_gone(error.errno) => return Ok(value == 0),
        other => other?,
    };
    loop {
        // Always the same descriptor: the kernel tells it of changes since it was last read.
        let mut text = [0; 256];
        let length = match nix::sys::uio::pread(&events, &mut text, 0) {
            Err(errno) if is_gone(errno) => return Ok(value == 0),
            other => other.call(|| format!("pread64({}/cgroup.events)", dir.path()))?,
        };
        if find_number(&String::from_utf8_lossy(&text[..length]), key) == Some(value) {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if pid::poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLPRI)], Some(left))? == 0 {
            return Ok(false);
        }
    }
}

/// Waits until nothing runs in the cgroup: false when something still does at the deadline.
pub fn wait_empty(dir: &Dir, deadline: Instant) -> Result<bool> {
    wait_for(dir, "populated", 0, deadline).told(|| format!("cannot wait for the processes of the cgroup {}", dir.path()))
}

/// Removes the cgroup and those below it, once nothing runs in them: an error when something still does at the deadline.
pub fn remove(saved: &SavedDir, deadline: Instant) -> Result<()> {
    let Some((parent, name)) = path::parent_of(saved, Tree::V2)? else { return Ok(()) };
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
        if !wait_for(&dir, "populated", 0, deadline).told(what)? {
            let left = left_behind(&pids(&dir)?);
            return Err(Error::from(busy)
                .doing(format!("{}: processes are still in it: {left}", what()))
                .cause(Code::CgroupStuck)
                .hint("a process in state D waits for the kernel: see /proc/PID/stack"));
        }
        super::remove_children(&dir).told(what)?;
        if Instant::now() >= deadline {
            return Err(Error::from(busy).doing(what()).cause(Code::CgroupStuck).hint("something keeps making cgroups below it"));
        }
    }
}
