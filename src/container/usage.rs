// SPDX-License-Identifier: Apache-2.0
//! What all containers use: for `events --format prometheus`, and again and again for `top`.
//!
//! Counts go by the clock, because the kernel tells of no change of a count. It does tell of what matters beside them, and then they are
//! looked at at once: a container that comes, starts or goes (inotify(7) of the state root), one that ends or lacks memory (poll(2) of
//! cgroup.events and memory.events), tasks that stall (triggers on the pressure files, psi.rst, where the kernel lets this user have them).

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::state::{State, Status};
use super::store::{Entry, Store};
use crate::cgroup::Cgroup;
use crate::cgroup::stats::Stats;
use crate::cgroup::watch::Watch;
use crate::error::{Result, Told};
use crate::linux::inotify;
use crate::linux::pid::{self, PollFd, PollFlags};
use crate::plan::Id;

/// What one container uses.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// Its id.
    pub id: String,
    /// Its first process.
    pub pid: i32,
    /// Its status.
    pub status: &'static str,
    /// Its bundle's directory.
    pub bundle: String,
    /// Processes that the kernel has killed in it for lack of memory.
    pub oom_kills: u64,
    /// Its counts; none where it has no processes.
    pub stats: Option<Box<Stats>>,
}

/// A container that is there.
struct Found {
    entry: Entry,
    state: State,
    cgroup: Cgroup,
}

impl Found {
    fn find(store: &Store, id: &Id) -> Result<Found> {
        let entry = store.get(id)?;
        let state = entry.load()?;
        let cgroup = Cgroup::reopen(&state.cgroup)?;
        Ok(Found { entry, state, cgroup })
    }

    /// What it uses now.
    fn look(&self) -> Result<Usage> {
        let status = self.entry.status(&self.state)?;
        let mut usage = Usage {
            id: self.state.id.clone(),
            pid: self.state.init_process_pid,
            status: status.name(),
            bundle: self.state.bundle.clone(),
            ..Usage::default()
        };
        if !matches!(status, Status::Stopped | Status::Creating) {
            usage.stats = Some(Box::new(self.cgroup.stats()?));
            usage.oom_kills = self.cgroup.oom_kills()?;
        }
        Ok(usage)
    }
}

/// What one container uses now.
pub fn of(store: &Store, id: &Id) -> Result<Usage> {
    Found::find(store, id)?.look()
}

/// What every container uses now; one that goes while we look is passed over.
pub fn all(store: &Store) -> Result<Vec<Usage>> {
    Ok(store.ids()?.iter().filter_map(|id| of(store, id).ok()).collect())
}

/// How much of two seconds tasks may stall until it is told, in percent.
const STALL_PERCENT: u32 = 10;
/// However much the kernel tells, nobody reads faster.
const SHORTEST: Duration = Duration::from_millis(200);

/// The state root, as soon as it is there: the first container makes it.
pub fn await_store(path: &str) -> Result<Store> {
    loop {
        match Store::open(path)? {
            Some(store) => return Ok(store),
            None => std::thread::sleep(SHORTEST),
        }
    }
}

/// Tells what all containers use, each time with the time since the last time, until `tell` says that nobody listens any more; with
/// `pushed` also when the kernel tells of something before the interval is over.
pub fn follow(
    store: &Store,
    interval: Duration,
    pushed: bool,
    tell: &mut dyn FnMut(&[Usage], Duration) -> Result<bool>,
) -> Result<()> {
    let told = || "cannot wait for what containers do".to_string();
    let changes = inotify::watch_directory(store.path()).told(told)?;
    let mut last = Instant::now();
    loop {
        // What happens from here on wakes, so that nothing is missed between looking and waiting.
        let ids = store.ids()?;
        for id in &ids {
            // A container that is made or started changes files of its own directory.
            let _ = inotify::watch_too(&changes, &format!("{}/{id}", store.path()));
        }
        let found: Vec<Found> = ids.iter().filter_map(|id| Found::find(store, id).ok()).collect();
        let watches: Vec<Watch<'_>> = if pushed { found.iter().filter_map(watch).collect() } else { Vec::new() };
        let usages: Vec<Usage> = found.iter().filter_map(|found| found.look().ok()).collect();
        let now = Instant::now();
        if !tell(&usages, now - last)? {
            return Ok(());
        }
        last = now;
        if !pushed {
            std::thread::sleep(interval);
            continue;
        }
        let mut polled = vec![PollFd::new(changes.as_fd(), PollFlags::POLLIN)];
        polled.extend(watches.iter().flat_map(Watch::files).map(|file| PollFd::new(file, PollFlags::POLLPRI)));
        pid::poll(&mut polled, Some(interval)).told(told)?;
        std::thread::sleep(SHORTEST.saturating_sub(last.elapsed()).min(interval));
        inotify::drain(&changes);
    }
}

/// A watch over one container; without pressure where this user may not have that, and none where it has gone.
fn watch(found: &Found) -> Option<Watch<'_>> {
    let mut watch = found.cgroup.watch().ok()?;
    let _ = watch.tell_pressure(STALL_PERCENT);
    watch.mark_as_read().ok()?;
    Some(watch)
}
