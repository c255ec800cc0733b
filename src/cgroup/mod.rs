// SPDX-License-Identifier: Apache-2.0
//! Floor 3: the container's cgroup, from before its first process until after its last. What is done is in the plan
//! ([`crate::plan::resources`]); here it is done.
//!
//! `create` and `run` make it ([`check`], [`Cgroup::create`]), before the process where the kernel can put a new process into it at
//! once (clone3(2), CLONE_INTO_CGROUP). Every other command finds it by what the state saved ([`Cgroup::reopen`]), never by flags.
//! Reading order: this file, [`path`], [`v2`], [`limits`]; [`v1`] only for hosts that still mount it.

pub mod dbus;
mod delegate;
mod devices;
pub mod exec;
mod kept;
mod limits;
pub mod oom;
pub mod path;
pub mod stats;
pub mod systemd;
pub mod v1;
pub mod v2;
pub mod watch;

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::error::{Code, Error, Kind, Result, Told};
use crate::linux::types::Errno;
use crate::linux::{call, fd, proc};
use crate::plan::resources::{Absent, CgroupPlan, CgroupWrite, Denied, SavedCgroup, SavedDir, SavedUnit, Tree};
use path::{Dir, is_gone};
pub use v1::hierarchies as v1_hierarchies;

/// How long freezing may take: a process that waits for a slow disk stops only when that answers.
const FREEZE: Duration = Duration::from_secs(10);
/// How long killing without cgroup.kill goes on while processes make new ones.
const KILL: Duration = Duration::from_secs(5);

/// The cgroup of one container: one directory in the cgroup2 tree, or several in those of cgroup v1, or both, or none at all.
#[derive(Debug)]
pub struct Cgroup {
    saved: SavedCgroup,
    /// None where there is none, or where it is gone.
    v2: Option<Dir>,
    /// The cgroup below it that the container's first process starts in, where that is given over to it.
    inner: Option<Dir>,
    /// As many as saved, in that order.
    v1: Vec<Option<Dir>>,
    /// The cgroup2 directory has just been made, so that nothing is attached to it yet.
    fresh: std::cell::Cell<bool>,
}

/// Refuses a plan whose cgroup is in use already. To be called before the plan is saved: what is saved gets killed and removed when
/// making the container fails, and that must never happen to somebody else's processes.
pub fn check(plan: &CgroupPlan) -> Result<()> {
    // Mostly there is nothing, and one look by path is enough to know. What is there is opened as everything is.
    if let Some(saved) = plan.saved.v2.as_ref().filter(|saved| path::is_there(saved, Tree::V2))
        && let Some(dir) = path::open_saved(saved, Tree::V2)?
    {
        v2::refuse_used(&dir)?;
    }
    for saved in plan.saved.v1.iter().filter(|saved| path::is_there(saved, Tree::V1)) {
        if let Some(dir) = path::open_saved(saved, Tree::V1)? {
            let pids = v1::pids(&dir)?;
            if !pids.is_empty() {
                return Err(not_empty(&dir, pids.len()));
            }
        }
    }
    Ok(())
}

impl Cgroup {
    /// Makes the cgroup without any limit. After an error nothing that was made for it is left. The text is a warning: that there is
    /// no cgroup, and why that is passed over.
    pub fn create(plan: &CgroupPlan) -> Result<(Cgroup, Option<String>)> {
        let mut undo = Undo::default();
        let mut cgroup = Cgroup { saved: plan.saved.clone(), v2: None, inner: None, v1: Vec::new(), fresh: false.into() };
        let error = match cgroup.make(plan, &mut undo) {
            Ok(()) => return Ok((cgroup, None)),
            Err(error) => error,
        };
        // The way back takes a descriptor, and these may have been the last ones.
        drop(cgroup);
        undo.undo();
        let refused = matches!(error.errno, Some(Errno::EACCES | Errno::EPERM | Errno::EROFS));
        match (refused, plan.denied) {
            (true, Denied::NoCgroup) => Ok((Cgroup::none(), Some(without(plan, &error)))),
            (true, Denied::RootlessError) => Err(error.cause(Code::Delegation).hint(
                "rootless needs no limits + no cgrouppath when no permission is granted for cgroups; see systemd's Delegate=, \
                 or say --rootless=auto to go without",
            )),
            (true, Denied::Error) => Err(error.or_cause(Code::Delegation)),
            _ => Err(error),
        }
    }

    fn make(&mut self, plan: &CgroupPlan, undo: &mut Undo) -> Result<()> {
        if let Some(saved) = &plan.saved.v2 {
            let (dir, made) = v2::make(saved, &plan.required, &plan.wanted, undo)?;
            self.fresh = made.into();
            self.hand_over(&dir, plan, None, undo)?;
            self.v2 = Some(dir);
        }
        for saved in &plan.saved.v1 {
            self.v1.push(Some(v1::make(saved, undo)?));
        }
        Ok(())
    }

    /// Has systemd make the cgroup, with a process in it; without the limits that systemd has no property for. After an error the unit
    /// is stopped, the process killed.
    #[inline(never)] // Rare.
    pub fn create_unit(plan: &CgroupPlan, pid: i32) -> Result<Cgroup> {
        let (Some(unit), Some(properties)) = (&plan.saved.unit, &plan.unit) else {
            return Err(Error::new(Kind::Unsupported, "this plan has no unit of systemd"));
        };
        systemd::start(unit, properties, pid)?;
        let mut cgroup = Cgroup { saved: plan.saved.clone(), v2: None, inner: None, v1: Vec::new(), fresh: false.into() };
        cgroup.adopt(plan, pid).and_then(|()| cgroup.tell_weights(unit, plan)).inspect_err(|_| {
            // The first error is what matters; what stays is found by the saved name of the unit.
            let _ = systemd::stop(unit);
        })?;
        Ok(cgroup)
    }

    /// Where the kernel has BFQ's file for weights, systemd writes that too, on a scale of its own: it gets the number that leads to the
    /// weight which was asked. That is known when the cgroup is there.
    #[inline(never)] // Rare.
    fn tell_weights(&self, unit: &SavedUnit, plan: &CgroupPlan) -> Result<()> {
        let weights: Vec<CgroupWrite> = plan.writes.iter().filter(|write| write.file == "io.bfq.weight").cloned().collect();
        let mut known = limits::resolved(&weights, |write| self.dir_of(write));
        known.retain(|write| write.file == "io.bfq.weight");
        if known.is_empty() {
            return Ok(());
        }
        systemd::set(unit, &crate::plan::resources::systemd::of_values(&known))
    }

    /// Takes over the cgroup that systemd has made: it is where the process is now, which is where it was planned unless systemd itself
    /// is in a container.
    #[inline(never)] // Rare.
    fn adopt(&mut self, plan: &CgroupPlan, pid: i32) -> Result<()> {
        let lines = proc::cgroups(pid).told(|| format!("cannot find the cgroup of process {pid}"))?;
        let actual = lines.into_iter().find(|line| line.controllers.is_empty());
        if let (Some(saved), Some(actual)) = (&mut self.saved.v2, actual) {
            if path::split(&saved.path)?.1 != path::split(&actual.path)?.1 {
                let what = format!("systemd has put process {pid} into {:?} instead of {:?}", actual.path, saved.path);
                return Err(Error::new(Kind::Peer, what));
            }
            saved.path = actual.path;
            let dir = v2::adopt(saved, &plan.required, &plan.wanted)?;
            self.hand_over(&dir, plan, Some(pid), &mut Undo::default())?;
            self.v2 = Some(dir);
        }
        Ok(())
    }

    /// Gives the container what is to be its own.
    fn hand_over(&mut self, dir: &Dir, plan: &CgroupPlan, init: Option<i32>, undo: &mut Undo) -> Result<()> {
        // A leaf begins what the container sees; its whole cgroup is its user's all the same, as config-linux.md asks ("Cgroup ownership").
        if let Some(leaf) = &plan.delegate {
            let made = delegate::make(dir, &leaf.name, init, &plan.wanted, undo)?;
            give(self.inner.insert(made), leaf.owner, plan)?;
        }
        give(dir, plan.owner, plan)
    }

    /// Finds the cgroup again, or what is left of it.
    pub fn reopen(saved: &SavedCgroup) -> Result<Cgroup> {
        let v2 = saved.v2.as_ref().map(|saved| path::open_saved(saved, Tree::V2)).transpose()?.flatten();
        let v1 = saved.v1.iter().map(|saved| path::open_saved(saved, Tree::V1)).collect::<Result<Vec<Option<Dir>>>>()?;
        // It is the container's, who may have removed it.
        let inner = v2.as_ref().zip(saved.leaf.as_ref()).and_then(|(dir, leaf)| dir.child(leaf).ok());
        Ok(Cgroup { saved: saved.clone(), v2, inner, v1, fresh: false.into() })
    }

    /// No cgroup: the process stays where its maker is.
    pub fn none() -> Cgroup {
        Cgroup { saved: SavedCgroup::default(), v2: None, inner: None, v1: Vec::new(), fresh: false.into() }
    }

    /// What to save of it, so that [`Cgroup::reopen`] finds it.
    pub fn saved(&self) -> &SavedCgroup {
        &self.saved
    }

    /// The directory that clone3(2) can put a new process into. It is then in the cgroup2 tree; [`Cgroup::enter`] does the rest.
    pub fn clone_into(&self) -> Option<BorrowedFd<'_>> {
        self.inner.as_ref().or(self.v2.as_ref()).map(AsFd::as_fd)
    }

    /// Moves a process into every directory of the cgroup but the one that clone3(2) has put it into.
    pub fn enter(&self, pid: i32, cloned_into: bool) -> Result<()> {
        let v2 = self.inner.as_ref().or(self.v2.as_ref()).filter(|_| !cloned_into);
        for dir in v2.into_iter().chain(self.v1.iter().flatten()) {
            move_to(dir, pid)?;
        }
        Ok(())
    }

    /// Sets limits. The first that the kernel refuses is the error.
    pub fn apply(&self, writes: &[CgroupWrite]) -> Result<()> {
        self.refuse_below_use(writes)?;
        limits::apply(writes, |write| self.dir_of(write))?;
        self.show_in_leaf(writes);
        Ok(())
    }

    /// The same limits where the container's processes are, for whoever looks there. What holds is above: where the container has divided
    /// the leaf in a way that does not go with them, they are not shown.
    #[inline(never)] // Rare.
    fn show_in_leaf(&self, writes: &[CgroupWrite]) {
        let Some(leaf) = &self.inner else { return };
        let shown = || writes.iter().filter(|write| write.tree == Tree::V2 && !write.file.starts_with("cgroup."));
        if limits::apply(shown(), |_| Some(leaf)).is_err() {
            shown().for_each(|write| drop(limits::apply([write], |_| Some(leaf))));
        }
    }

    /// Changes limits of a container that exists, and tells systemd where that owns the cgroup.
    pub fn update(&self, writes: &[CgroupWrite]) -> Result<()> {
        if let Some(unit) = &self.saved.unit {
            // Before systemd writes anything: it knows of no checkBeforeUpdate.
            self.refuse_below_use(writes)?;
            let writes = limits::resolved(writes, |write| self.dir_of(write));
            let properties = crate::plan::resources::systemd::of_limits(&writes).map_err(|problems| {
                let first = problems.into_iter().next();
                first
                    .map_or(Error::new(Kind::Config, "no limit"), |problem| Error::new(Kind::Config, problem.rule).at(problem.at))
            })?;
            if !properties.is_empty() {
                systemd::set(unit, &properties)?;
            }
        }
        self.apply(writes)
    }

    fn refuse_below_use(&self, writes: &[CgroupWrite]) -> Result<()> {
        limits::refuse_below_use(writes, |write| self.dir_of(write))
    }

    /// The directory that a write goes to.
    fn dir_of(&self, write: &CgroupWrite) -> Option<&Dir> {
        match write.tree {
            Tree::V2 => self.v2.as_ref(),
            Tree::V1 => self.v1_dir(&write.controller),
        }
    }

    /// What the files of these writes hold now, to be given to [`Cgroup::restore`]; those that cannot be read are left out.
    pub fn values(&self, writes: &[CgroupWrite]) -> Vec<CgroupWrite> {
        limits::values(writes, |write| self.dir_of(write))
    }

    /// Sets the files back to what they held, and systemd's properties with them: all that can be; the first that cannot is the error.
    pub fn restore(&self, values: &[CgroupWrite]) -> Result<()> {
        let properties = crate::plan::resources::systemd::of_values(values);
        let mut done = match &self.saved.unit {
            Some(unit) if !properties.is_empty() => systemd::set(unit, &properties),
            _ => Ok(()),
        };
        let refused: Vec<&CgroupWrite> = values.iter().filter(|value| self.apply(std::slice::from_ref(value)).is_err()).collect();
        // Once more, because of two limits that may not contradict each other one must be first.
        for value in refused {
            done = done.and(self.apply(std::slice::from_ref(value)));
        }
        done
    }

    /// The directory of the hierarchy with a controller of cgroup v1.
    fn v1_dir(&self, controller: &str) -> Option<&Dir> {
        let mut dirs = self.saved.v1.iter().zip(&self.v1);
        dirs.find(|(saved, _)| saved.controllers.iter().any(|name| name == controller)).and_then(|(_, dir)| dir.as_ref())
    }

    /// Every process of the container, also in cgroups below its own, as this pid namespace numbers them; in order, each once.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let mut pids = match (&self.v2, self.v1.iter().flatten().next()) {
            (Some(dir), _) => v2::pids(dir)?,
            (None, Some(dir)) => v1::pids(dir)?,
            (None, None) => Vec::new(),
        };
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// The processes that should be gone, `init` and all others, each with its state and where in the kernel it waits.
    pub fn left_behind(&self, init: i32) -> Result<String> {
        let mut pids = self.pids()?;
        pids.retain(|pid| *pid != init);
        pids.insert(0, init);
        Ok(left_behind(&pids))
    }

    /// Kills every process of the container. They are dead soon, not at once: [`Cgroup::remove`] waits for that.
    pub fn kill(&self) -> Result<()> {
        match &self.v2 {
            Some(dir) => v2::kill(dir),
            None => {
                let dirs: Vec<&Dir> = self.v1.iter().flatten().collect();
                v1::kill(&dirs, self.v1_dir("freezer"), KILL)
            }
        }
    }

    /// Whether the container is frozen.
    pub fn is_frozen(&self) -> Result<bool> {
        match (&self.v2, self.v1_dir("freezer")) {
            (Some(dir), _) => v2::is_frozen(dir),
            (None, Some(dir)) => v1::is_frozen(dir),
            (None, None) => Ok(false),
        }
    }

    /// Stops every process of the container; after an error all of them run.
    pub fn freeze(&self) -> Result<()> {
        match (&self.v2, self.v1_dir("freezer")) {
            (Some(dir), _) => v2::freeze(dir, FREEZE),
            (None, Some(dir)) => v1::freeze(dir, FREEZE),
            (None, None) => Err(Error::new(Kind::Unsupported, "a container without a cgroup cannot be paused")),
        }
    }

    /// Lets every process of the container go on.
    pub fn thaw(&self) -> Result<()> {
        match (&self.v2, self.v1_dir("freezer")) {
            (Some(dir), _) => v2::thaw(dir, FREEZE),
            (None, Some(dir)) => v1::thaw(dir),
            (None, None) => Err(Error::new(Kind::Unsupported, "a container without a cgroup cannot be resumed")),
        }
    }

    /// Removes a cgroup that holds nothing any more, at once and with the fewest descriptors: whether it is gone now, in every hierarchy.
    /// Where that cannot be told so easily it is not.
    pub fn remove_unused(saved: &SavedCgroup) -> Result<bool> {
        if saved.unit.is_some() {
            return Ok(false);
        }
        let v2 = saved.v2.iter().map(|dir| (dir, Tree::V2));
        for (dir, tree) in v2.chain(saved.v1.iter().map(|dir| (dir, Tree::V1))) {
            let Some((parent, name)) = path::parent_of(dir, tree)? else { continue };
            match fd::rmdirat(&parent, name) {
                Err(error) if !is_gone(error.errno) => return Ok(false),
                _ => {}
            }
        }
        Ok(true)
    }

    /// Removes the cgroup with those below it; cgroups above stay, whoever made them. Waits until the container's processes are gone,
    /// which somebody must have killed; those that are left when the patience ends are named in the error.
    pub fn remove(&self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        if let Some(unit) = &self.saved.unit {
            self.stop(unit, deadline)?;
        }
        if let Some(saved) = &self.saved.v2 {
            v2::remove(saved, deadline)?;
        }
        for saved in &self.saved.v1 {
            v1::remove(saved, deadline)?;
        }
        Ok(())
    }

    /// Stops the unit once it is empty; before its cgroup is removed, because systemd waits for that to become empty.
    fn stop(&self, unit: &SavedUnit, deadline: Instant) -> Result<()> {
        match &self.v2 {
            // What is left in it is told by the removal.
            Some(dir) if !v2::wait_empty(dir, deadline)? => Ok(()),
            _ => systemd::stop(unit),
        }
    }
}

/// Which containers are frozen. What is mounted is opened and verified once for all that are asked about.
#[derive(Default)]
pub struct Frozen {
    tree: Option<path::Hierarchy>,
}

impl Frozen {
    /// Whether a saved cgroup is frozen; not where that cannot be told in two tries.
    pub fn is(&mut self, saved: &SavedCgroup) -> bool {
        match &saved.v2 {
            Some(v2) => self.is_v2(v2).or_else(|_| self.is_v2(v2)).unwrap_or(false),
            None => {
                let look = || Cgroup::reopen(saved).and_then(|cgroup| cgroup.is_frozen());
                look().or_else(|_| look()).unwrap_or(false)
            }
        }
    }

    fn is_v2(&mut self, saved: &SavedDir) -> Result<bool> {
        path::split(&saved.path)?;
        let tree = match self.tree.take() {
            Some(tree) if tree.is_at(&saved.mount) => tree,
            _ => path::Hierarchy::open(&saved.mount, Tree::V2)?,
        };
        let text = self.tree.insert(tree).read_if_any(&saved.path, v2::FREEZE);
        let text = text.told(|| format!("cannot tell whether the cgroup {} is frozen", saved.path))?;
        Ok(text.is_some_and(|text| text.trim() == "1"))
    }
}

/// That there is no cgroup, and which limits are therefore not set.
fn without(plan: &CgroupPlan, error: &Error) -> String {
    let mut fields: Vec<&str> = Vec::new();
    for write in plan.writes.iter().filter(|write| write.absent != Absent::Harmless) {
        if !fields.contains(&write.at.as_str()) {
            fields.push(&write.at);
        }
    }
    let unset = if fields.is_empty() { String::new() } else { format!("; not set are {}", fields.join(", ")) };
    format!("the container stays in the caller's cgroup, because it may not have its own: {error}{unset}")
}

/// Moves a process; all its threads go with it.
fn move_to(dir: &Dir, pid: i32) -> Result<()> {
    dir.write("cgroup.procs", &pid.to_string()).map_err(|error| {
        let errno = error.errno;
        let told = Error::from(error).doing(format!("cannot move process {pid} into the cgroup {}", dir.path()));
        match errno {
            Errno::EBUSY => told
                .cause(Code::CgroupBusy)
                .hint("it passes controllers on to cgroups below it and so can have no processes of its own"),
            Errno::EOPNOTSUPP => told.cause(Code::CgroupThreaded).hint("it, or a cgroup above it, is threaded"),
            Errno::ENOSPC => told.cause(Code::CgroupLimit).hint("its cpuset has no CPU or no memory node"),
            Errno::EINVAL => {
                told.cause(Code::CgroupLimit).hint("a real-time process needs real-time time in the cgroup's cpu.rt_runtime_us")
            }
            _ => told,
        }
    })
}

/// Adds the processes of a cgroup and of all below it. Those of other pid namespaces have no number here, and are left out.
fn collect_pids(dir: &Dir, found: &mut Vec<i32>) -> call::Result<()> {
    match dir.read("cgroup.procs") {
        Ok(text) => found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0)),
        // Processes of a threaded cgroup are listed in the domain above it; cgroup-v2.rst, "Threads".
        Err(error) if error.errno == Errno::EOPNOTSUPP => {}
        Err(error) if is_gone(error.errno) => return Ok(()),
        Err(error) => return Err(error),
    }
    for name in dir.children()? {
        match dir.child(&name) {
            Err(error) if is_gone(error.errno) => {}
            other => collect_pids(&other?, found)?,
        }
    }
    Ok(())
}

/// Removes all cgroups below one, the lowest first.
fn remove_children(dir: &Dir) -> call::Result<()> {
    for name in dir.children()? {
        match dir.child(&name) {
            Err(error) if is_gone(error.errno) => continue,
            other => remove_children(&other?)?,
        }
        match fd::rmdirat(dir, &name) {
            Err(error) if !is_gone(error.errno) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The processes that should be gone: each with its state and where in the kernel it waits.
fn left_behind(pids: &[i32]) -> String {
    const SHOWN: usize = 10;
    let show = |pid: &i32| {
        let state = proc::pid_stat(*pid).ok().flatten().map_or('?', |stat| stat.state);
        let wchan = fd::read_file_bounded(format!("/proc/{pid}/wchan"), 256).unwrap_or_default();
        match String::from_utf8_lossy(&wchan).trim() {
            "" | "0" => format!("{pid} (state {state})"),
            place => format!("{pid} (state {state}, in {place})"),
        }
    };
    if pids.is_empty() {
        return "none that this pid namespace shows".to_string();
    }
    let mut shown: Vec<String> = pids.iter().take(SHOWN).map(show).collect();
    if pids.len() > SHOWN {
        shown.push(format!("{} more", pids.len() - SHOWN));
    }
    shown.join(", ")
}

fn not_empty(dir: &Dir, processes: usize) -> Error {
    Error::new(Kind::Exists, format!("container's cgroup is not empty: {processes} process(es) found"))
        .cause(Code::CgroupNotEmpty)
        .at(crate::plan::resources::path::FIELD)
        .hint(format!("{} belongs to something that runs: another container?", dir.path()))
}

fn unexpectedly_frozen(dir: &Dir) -> Error {
    Error::new(Kind::Status, "container's cgroup unexpectedly frozen")
        .cause(Code::CgroupFrozen)
        .at(crate::plan::resources::path::FIELD)
        .hint(format!("see cgroup.freeze of {} and of those above it", dir.path()))
}

/// Cgroups made for a container that may yet fail.
#[derive(Default)]
pub struct Undo {
    made: Vec<(String, String)>,
}

impl Undo {
    /// Makes a cgroup, or takes the one that is there: whether it was made.
    fn mkdir(&mut self, parent: &Dir, name: &str) -> Result<bool> {
        match fd::mkdirat(parent, name, 0o755) {
            Ok(()) => self.made.push((parent.path().to_string(), name.to_string())),
            Err(error) if error.errno == Errno::EEXIST => return Ok(false),
            Err(error) => return Err(cannot_make(parent, name, error)),
        }
        Ok(true)
    }

    /// Removes what was made, the lowest first. What cannot be removed is in use by somebody else by now.
    fn undo(self) {
        for (parent, name) in self.made.iter().rev() {
            let _ = fd::open_dir_path(parent).and_then(|parent| fd::rmdirat(parent, name));
        }
    }
}

fn cannot_make(parent: &Dir, name: &str, error: call::CallError) -> Error {
    let hint = match error.errno {
        Errno::EAGAIN => "a cgroup above allows no more: see cgroup.max.descendants and cgroup.max.depth",
        Errno::ENOSPC => "the kernel allows no more cgroups",
        Errno::EOPNOTSUPP => "the cgroup above it is threaded, or cannot have any below it",
        Errno::ENOTDIR => "a file of the cgroup above has that name",
        _ => "",
    };
    let told = Error::from(error)
        .doing(format!("cannot make the cgroup {}/{name}", parent.path()))
        .at(crate::plan::resources::path::FIELD);
    if hint.is_empty() { told } else { told.hint(hint) }
}

/// Gives a cgroup to the user who is to own it.
fn give(dir: &Dir, owner: Option<u32>, plan: &CgroupPlan) -> Result<()> {
    match owner.map_or(Ok(()), |uid| delegate::give_to(dir, uid)) {
        // An ordinary user can give nothing to others; what is made is his own, and so the container's root's.
        Err(error) if error.errno == Some(Errno::EPERM) && plan.denied != Denied::Error => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod systemd_tests;
