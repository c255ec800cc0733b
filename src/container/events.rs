// SPDX-License-Identifier: Apache-2.0
//! `events`: what a container uses, now or again and again, and each time that the kernel kills in it for lack of memory.
//!
//! Kills and the container's end are told by the kernel (poll(2) on memory.events and cgroup.events); only counts go by the clock.

use std::time::{Duration, Instant};

use super::state::Status;
use super::store::Store;
use crate::cgroup::Cgroup;
use crate::cgroup::stats::Stats;
use crate::cgroup::watch::Seen;
use crate::error::{Error, Kind, Result};
use crate::plan::Id;

/// What is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// What the container uses.
    Stats(Box<Stats>),
    /// The kernel has killed a process of it for lack of memory.
    Oom,
}

/// What a container uses now.
pub fn stats(store: &Store, id: &Id) -> Result<Event> {
    open(store, id)?.stats().map(|stats| Event::Stats(Box::new(stats)))
}

/// Tells of a container until it ends, or until `tell` says that nobody listens any more.
pub fn follow(store: &Store, id: &Id, interval: Duration, tell: &mut dyn FnMut(Event) -> Result<bool>) -> Result<()> {
    let cgroup = open(store, id)?;
    let mut watch = cgroup.watch()?;
    let mut next = Instant::now() + interval;
    loop {
        match watch.next(next.saturating_duration_since(Instant::now()))? {
            Seen::Ended => return Ok(()),
            Seen::OomKills(count) => {
                for _ in 0..count {
                    if !tell(Event::Oom)? {
                        return Ok(());
                    }
                }
            }
            Seen::Nothing => {
                if !tell(Event::Stats(Box::new(cgroup.stats()?)))? {
                    return Ok(());
                }
                next = Instant::now() + interval;
            }
        }
    }
}

fn open(store: &Store, id: &Id) -> Result<Cgroup> {
    let entry = store.get(id)?;
    let state = entry.load()?;
    match entry.status(&state) {
        status @ (Status::Stopped | Status::Creating) => {
            let error = Error::new(Kind::Status, format!("container with id {id} is not running"));
            Err(error.hint(format!("it is {}", status.name())))
        }
        _ => Cgroup::reopen(&state.cgroup),
    }
}
