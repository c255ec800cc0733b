// SPDX-License-Identifier: Apache-2.0
//! `events`: what a container uses, now or again and again, each time that the kernel kills in it for lack of memory, and, where that is
//! asked, each time that its tasks stall for want of CPU time, memory or block devices.
//!
//! Kills, stalls and the container's end are told by the kernel (poll(2) on memory.events, on the pressure files and on cgroup.events);
//! only counts go by the clock.

use std::time::{Duration, Instant};

use super::state::Status;
use super::store::Store;
use crate::cgroup::Cgroup;
use crate::cgroup::oom::Lack;
use crate::cgroup::stats::{Psi, Stats};
use crate::cgroup::watch::{Resource, Seen};
use crate::error::{Error, Kind, Result};
use crate::plan::Id;

/// What is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// What the container uses.
    Stats(Box<Stats>),
    /// The kernel has killed a process of it for lack of memory: with what it has and had, where the cgroup still says so.
    Oom(Option<Lack>),
    /// Its tasks stall for want of this, so much.
    Pressure(Resource, Psi),
}

/// What a container uses now.
pub fn stats(store: &Store, id: &Id) -> Result<Event> {
    open(store, id)?.stats().map(|stats| Event::Stats(Box::new(stats)))
}

/// What is to be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Following {
    /// The time between two counts.
    pub interval: Duration,
    /// Tell of stalls that take this share of two seconds, in percent.
    pub pressure: Option<u32>,
}

/// Tells of a container until it ends, or until `tell` says that nobody listens any more.
pub fn follow(store: &Store, id: &Id, wanted: Following, tell: &mut dyn FnMut(Event) -> Result<bool>) -> Result<()> {
    let cgroup = open(store, id)?;
    let mut watch = cgroup.watch()?;
    wanted.pressure.map_or(Ok(()), |percent| watch.tell_pressure(percent))?;
    let interval = wanted.interval;
    let mut next = Instant::now() + interval;
    loop {
        match watch.next(next.saturating_duration_since(Instant::now()))? {
            Seen::Ended => return Ok(()),
            Seen::OomKills(count) => {
                for _ in 0..count {
                    if !tell(Event::Oom(cgroup.lack_of_memory()))? {
                        return Ok(());
                    }
                }
            }
            Seen::Pressure(resource) => {
                let psi = cgroup.pressure(resource)?.unwrap_or_default();
                if !tell(Event::Pressure(resource, psi))? {
                    return Ok(());
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
    match entry.status(&state)? {
        status @ (Status::Stopped | Status::Creating) => {
            let error = Error::new(Kind::Status, format!("container with id {id} is not running"));
            Err(error.hint(format!("it is {}", status.name())))
        }
        _ => Cgroup::reopen(&state.cgroup),
    }
}
