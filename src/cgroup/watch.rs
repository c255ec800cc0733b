// SPDX-License-Identifier: Apache-2.0
//! Watches a container for kills by lack of memory, for pressure and for its end. Called by `events`, and by `start` to explain a death.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use super::Cgroup;
use super::path::{Dir, find_number, is_gone};
use super::stats::Psi;
use crate::error::{Error, Kind, Result, Told};
use crate::linux::call;
use crate::linux::fd::{self, OFlag};
use crate::linux::pid::{self, PollFd, PollFlags};
use crate::linux::types::Errno;

/// How often cgroup v1 is asked, which tells nobody that a limit killed.
const PAUSE: Duration = Duration::from_millis(250);

/// What happened to the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The kernel killed this many processes for memory since the last look.
    OomKills(u64),
    /// Tasks have stalled for want of this for longer than was asked about.
    Pressure(Resource),
    /// No process is left, or the cgroup is gone.
    Ended,
    /// Nothing until the time was over.
    Nothing,
}

/// What tasks can stall for want of (Documentation/accounting/psi.rst).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// CPU time.
    Cpu,
    /// Memory.
    Memory,
    /// Block devices.
    Io,
}

impl Resource {
    const ALL: [Resource; 3] = [Resource::Cpu, Resource::Memory, Resource::Io];

    /// Its name, as the kernel's files have it.
    pub fn name(self) -> &'static str {
        match self {
            Resource::Cpu => "cpu",
            Resource::Memory => "memory",
            Resource::Io => "io",
        }
    }
    fn file(self) -> String {
        format!("{}.pressure", self.name())
    }
}

/// How long the kernel looks at stalls, in microseconds: the shortest window that needs no capability (since Linux 6.5).
const WINDOW_US: u32 = 2_000_000;

/// A watch over one container.
pub struct Watch<'a> {
    cgroup: &'a Cgroup,
    /// cgroup.events and memory.events, as far as there are such files.
    files: Vec<OwnedFd>,
    kills: u64,
    /// Files with a trigger, each of which the kernel reports at most once in a window.
    triggers: Vec<(Resource, OwnedFd)>,
    /// Those that it has reported and we have not.
    reported: Vec<Resource>,
}

impl Cgroup {
    /// How many processes of the container the kernel has killed for memory.
    pub fn oom_kills(&self) -> Result<u64> {
        let count = |dir: &Dir, file: &str| -> Result<Option<u64>> {
            let text = dir.read_if_any(file).told(|| format!("cannot read {file} of the cgroup {}", dir.path()))?;
            Ok(text.and_then(|text| find_number(&text, "oom_kill")))
        };
        if let Some(dir) = &self.v2
            && let Some(kills) = count(dir, "memory.events")?
        {
            return Ok(kills);
        }
        self.v1_dir("memory").map_or(Ok(None), |dir| count(dir, "memory.oom_control")).map(Option::unwrap_or_default)
    }

    /// Begins to watch: what happens from now on is seen.
    pub fn watch(&self) -> Result<Watch<'_>> {
        let mut files = Vec::new();
        for file in ["cgroup.events", "memory.events"] {
            let Some(dir) = &self.v2 else { break };
            match fd::openat(dir, file, OFlag::O_RDONLY, 0) {
                Err(error) if is_gone(error.errno) => {}
                other => files.push(other.told(|| format!("cannot watch {file} of the cgroup {}", dir.path()))?),
            }
        }
        Ok(Watch { cgroup: self, files, kills: self.oom_kills()?, triggers: Vec::new(), reported: Vec::new() })
    }

    /// How much the container stalls; none where the kernel does not count it.
    pub fn pressure(&self, resource: Resource) -> Result<Option<Psi>> {
        self.v2.as_ref().map_or(Ok(None), |dir| super::stats::pressure(dir, &resource.file()))
    }

    fn ended(&self) -> Result<bool> {
        match &self.v2 {
            Some(dir) => {
                let text = dir.read_if_any("cgroup.events").told(|| format!("cannot read cgroup.events of {}", dir.path()))?;
                Ok(text.is_none_or(|text| find_number(&text, "populated") == Some(0)))
            }
            None => Ok(self.pids()?.is_empty()),
        }
    }
}

impl Watch<'_> {
    /// From now on tells of pressure too: that some task has stalled for `percent` of a window of two seconds.
    pub fn tell_pressure(&mut self, percent: u32) -> Result<()> {
        let unsupported = |why: &str| Err(Error::new(Kind::Unsupported, format!("pressure cannot be told of: {why}")));
        let Some(dir) = &self.cgroup.v2 else { return unsupported("the container has no cgroup of version 2") };
        for resource in Resource::ALL {
            let file = resource.file();
            let told = || format!("cannot watch {file} of the cgroup {}", dir.path());
            let trigger = match fd::openat(dir, &file, OFlag::O_RDWR, 0) {
                Err(error) if is_gone(error.errno) || error.errno == Errno::EOPNOTSUPP => {
                    return unsupported("this kernel counts none (CONFIG_PSI, psi=1)");
                }
                other => other.told(told)?,
            };
            let line = format!("some {} {WINDOW_US}\n", WINDOW_US / 100 * percent);
            fd::write_all(&trigger, line.as_bytes()).told(told).map_err(|error| match error.errno {
                Some(Errno::EPERM | Errno::EINVAL) => error.hint("before Linux 6.5 it needs CAP_SYS_RESOURCE"),
                _ => error,
            })?;
            self.triggers.push((resource, trigger));
        }
        Ok(())
    }

    /// Waits until something happens, or until the time is over.
    pub fn next(&mut self, patience: Duration) -> Result<Seen> {
        let deadline = Instant::now() + patience;
        loop {
            // Read before looking, so that a change after the look wakes the poll.
            self.mark_as_read().told(|| "cannot read the container's events".to_string())?;
            let kills = self.cgroup.oom_kills()?;
            if kills > self.kills {
                let new = kills - self.kills;
                self.kills = kills;
                return Ok(Seen::OomKills(new));
            }
            if self.cgroup.ended()? {
                return Ok(Seen::Ended);
            }
            if let Some(resource) = self.reported.pop() {
                return Ok(Seen::Pressure(resource));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Seen::Nothing);
            }
            let left = if self.files.len() == 2 { left } else { left.min(PAUSE) };
            let files = self.files.iter().chain(self.triggers.iter().map(|(_, file)| file));
            let mut polled: Vec<PollFd<'_>> = files.map(|file| PollFd::new(file.as_fd(), PollFlags::POLLPRI)).collect();
            pid::poll(&mut polled, Some(left)).told(|| "cannot wait for the container's events".to_string())?;
            let fired = polled[self.files.len()..].iter().zip(&self.triggers).filter(|(polled, _)| is_reported(polled));
            self.reported = fired.map(|(_, (resource, _))| *resource).collect();
        }
    }

    /// The files that poll(2) tells of with POLLPRI.
    pub fn files(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.files.iter().chain(self.triggers.iter().map(|(_, file)| file)).map(AsFd::as_fd)
    }

    /// What is told from now on is what happens from now on.
    pub fn mark_as_read(&self) -> call::Result<()> {
        for file in &self.files {
            match nix::sys::uio::pread(file, &mut [0; 512], 0) {
                Err(errno) if !is_gone(errno) => return Err(call::CallError::new("pread64(…events)", errno)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// A trigger whose cgroup is gone reports an error only.
fn is_reported(polled: &PollFd<'_>) -> bool {
    polled.revents().is_some_and(|events| events.contains(PollFlags::POLLPRI) && !events.contains(PollFlags::POLLERR))
}
