// SPDX-License-Identifier: Apache-2.0
//! Watches a container for kills by lack of memory and for its end. Called by `events`, and by `start` to explain a death.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use super::Cgroup;
use super::path::{Dir, find_number, is_gone};
use crate::error::{Result, Told};
use crate::linux::call;
use crate::linux::fd::{self, OFlag};
use crate::linux::pid::{self, PollFd, PollFlags};

/// How often cgroup v1 is asked, which tells nobody that a limit killed.
const PAUSE: Duration = Duration::from_millis(250);

/// What happened to the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The kernel killed this many processes for memory since the last look.
    OomKills(u64),
    /// No process is left, or the cgroup is gone.
    Ended,
    /// Nothing until the time was over.
    Nothing,
}

/// A watch over one container.
pub struct Watch<'a> {
    cgroup: &'a Cgroup,
    /// cgroup.events and memory.events, as far as there are such files.
    files: Vec<OwnedFd>,
    kills: u64,
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
        Ok(Watch { cgroup: self, files, kills: self.oom_kills()? })
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
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Seen::Nothing);
            }
            let left = if self.files.len() == 2 { left } else { left.min(PAUSE) };
            let mut polled: Vec<PollFd<'_>> =
                self.files.iter().map(|file| PollFd::new(file.as_fd(), PollFlags::POLLPRI)).collect();
            pid::poll(&mut polled, Some(left)).told(|| "cannot wait for the container's events".to_string())?;
        }
    }

    fn mark_as_read(&self) -> call::Result<()> {
        for file in &self.files {
            match nix::sys::uio::pread(file, &mut [0; 512], 0) {
                Err(errno) if !is_gone(errno) => return Err(call::CallError::new("pread64(…events)", errno)),
                _ => {}
            }
        }
        Ok(())
    }
}
