// SPDX-License-Identifier: Apache-2.0
//! Whether a container lacked memory, and how much it had: read when something of it has failed or died, never before. Called by
//! `create`, `start`, `run` and `events`.

use std::cell::Cell;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use super::Cgroup;
use super::path::{self, Dir, find_number};
use crate::error::{Code, Error, Kind};
use crate::linux::fd::{self, OFlag};
use crate::linux::types::Errno;
use crate::plan::resources::Tree;

/// What a container's cgroup says of its memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lack {
    /// Processes that the kernel has killed for it.
    pub kills: u64,
    /// How often an allocation came to the limit.
    pub reached: u64,
    /// The limit in bytes; none where there is none here, so that one above it, or the machine's memory, was the limit.
    pub limit: Option<u64>,
    /// The most that was ever in use, in bytes; none where the kernel does not count that, or nothing was when it was asked.
    pub peak: Option<u64>,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.limit {
            Some(limit) => write!(f, "limit {limit} bytes")?,
            None => f.write_str("no limit of its own, so one above it or the machine's memory ran out")?,
        }
        self.peak.map_or(Ok(()), |peak| write!(f, ", peak {peak} bytes"))
    }
}

impl Cgroup {
    /// What the cgroup says of its memory. None where it is gone, or nothing counts memory there.
    pub fn lack_of_memory(&self) -> Option<Lack> {
        let of_v2 = self.v2.as_ref().and_then(|dir| {
            let events = dir.read("memory.events").ok()?;
            let count = |key| find_number(&events, key).unwrap_or(0);
            Some(Lack {
                kills: count("oom_kill"),
                reached: count("max"),
                limit: bytes(dir, "memory.max"),
                peak: bytes(dir, "memory.peak").filter(|peak| *peak > 0),
            })
        });
        of_v2.or_else(|| {
            let dir = self.v1_dir("memory")?;
            let control = dir.read("memory.oom_control").ok()?;
            Some(Lack {
                kills: find_number(&control, "oom_kill").unwrap_or(0),
                reached: bytes(dir, "memory.failcnt").unwrap_or(0),
                // "No limit" is the largest number of whole pages there.
                limit: bytes(dir, "memory.limit_in_bytes").filter(|limit| *limit < i64::MAX as u64 - 0xffff),
                peak: bytes(dir, "memory.max_usage_in_bytes"),
            })
        })
    }

    /// The same error, and what memory had to do with it: the container is new, so what was counted was counted on the way to the error.
    #[must_use]
    pub fn explain_lack_of_memory(&self, error: Error) -> Error {
        match self.lack_of_memory() {
            Some(lack) => explained(error, &lack),
            None => error,
        }
    }
}

/// For how long after the last news of a cgroup what its parent counts is taken for its own.
const RECENT: Duration = Duration::from_secs(5);

/// Keeps what a cgroup says of its memory, for when it is gone: systemd removes that of a scope as soon as the last process has ended,
/// perhaps before it can be asked what that died of. The kernel tells of a limit that is reached, and of a kill, before the process dies.
pub struct Witness {
    /// memory.events; POLLPRI says that it has changed.
    events: OwnedFd,
    last: Cell<Lack>,
    /// The cgroup above, which outlives it, and counts what is below too; how many kills it had at the last news, and when that was.
    above: Option<Dir>,
    kills_above: Cell<u64>,
    news: Cell<Instant>,
}

impl Cgroup {
    /// A witness, where systemd owns the cgroup; in any other case it stays until it is removed by us. It has to be there before the
    /// program runs, which may die, and its cgroup go, before the runtime is given the processor again.
    pub fn witness(&self) -> Option<Witness> {
        self.saved.unit.as_ref()?;
        let events = fd::openat(self.v2.as_ref()?, "memory.events", OFlag::O_RDONLY, 0).ok()?;
        let above = path::parent_of(self.saved.v2.as_ref()?, Tree::V2).ok().flatten().map(|(dir, _)| dir);
        // That it begins is news: with one processor a program may be killed, and its cgroup be gone, before anything is heard of it.
        let news = Cell::new(Instant::now());
        let witness = Witness { events, last: Cell::default(), above, kills_above: Cell::new(0), news };
        witness.look(self).then_some(witness)
    }
}

impl Witness {
    /// What to poll(2) for POLLPRI.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// There is news: remembers it. False when the cgroup is gone.
    pub fn heard(&self, cgroup: &Cgroup) -> bool {
        self.news.set(Instant::now());
        self.look(cgroup)
    }

    fn look(&self, cgroup: &Cgroup) -> bool {
        // First, so that a change after this look is news again.
        if nix::sys::uio::pread(&self.events, &mut [0; 512], 0).is_err() {
            return false;
        }
        // Before our own are counted: a kill between the two must not be one that is known of above, and nowhere else.
        let above = self.count_above();
        let Some(now) = cgroup.lack_of_memory() else { return false };
        self.kills_above.set(above);
        self.last.set(self.with_last(now));
        true
    }

    /// What has gone away between two files is as it was.
    fn with_last(&self, now: Lack) -> Lack {
        let last = self.last.get();
        Lack { limit: now.limit.or(last.limit), peak: now.peak.or(last.peak), ..now }
    }

    fn count_above(&self) -> u64 {
        let events = self.above.as_ref().and_then(|dir| dir.read("memory.events").ok());
        events.and_then(|events| find_number(&events, "oom_kill")).unwrap_or(0)
    }

    /// All that is known now, whether the cgroup is still there or not.
    pub fn lack_of_memory(&self, cgroup: &Cgroup) -> Lack {
        if let Some(now) = cgroup.lack_of_memory() {
            return self.with_last(now);
        }
        let last = self.last.get();
        let recent = self.news.get().elapsed() < RECENT;
        let more = if recent { self.count_above().saturating_sub(self.kills_above.get()) } else { 0 };
        Lack { kills: last.kills + more, ..last }
    }
}

fn explained(error: Error, lack: &Lack) -> Error {
    match error.kind {
        Kind::Peer if lack.kills > 0 => Error {
            kind: Kind::OutOfMemory,
            what: format!("container init was OOM-killed (memory limit too low?), for lack of memory: {lack}"),
            ..error
        }
        .hint("raise linux.resources.memory.limit, or the limit above it"),
        _ if lack.kills > 0 => {
            // A hook's failure stays one, whoever else died.
            let error = if error.kind == Kind::Hook { error } else { error.cause(Code::Oom) };
            with_hint(error, format!("the kernel has killed a process of the container for lack of memory: {lack}"))
        }
        _ if error.errno == Some(Errno::ENOMEM) && lack.reached > 0 => {
            with_hint(error, format!("the container came to the limit of its memory: {lack}"))
        }
        _ => error,
    }
}

fn with_hint(error: Error, more: String) -> Error {
    let hint = match &error.hint {
        Some(hint) => format!("{more}; {hint}"),
        None => more,
    };
    error.hint(hint)
}

fn bytes(dir: &Dir, file: &str) -> Option<u64> {
    dir.read(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_counted_is_said() {
        let none = Lack::default();
        let killed = Lack { kills: 1, reached: 9, limit: Some(4096), peak: Some(4000) };
        let reached = Lack { kills: 0, ..killed };
        let died = || Error::new(Kind::Peer, "the container's process died").step(3, 9).hint("a guess");
        assert_eq!(explained(died(), &none), died());
        assert_eq!(explained(died(), &reached), died());
        let said = explained(died(), &killed);
        assert_eq!((said.kind, said.step), (Kind::OutOfMemory, Some((3, 9))));
        assert!(said.what.ends_with("for lack of memory: limit 4096 bytes, peak 4000 bytes"), "{said}");
        assert!(!said.to_string().contains("a guess"), "{said}");
        let hook = explained(Error::new(Kind::Hook, "a hook failed").hint("see its log"), &killed);
        assert_eq!((said.code(), hook.code()), (Code::Oom, Code::Hook));
        let late = explained(Error::new(Kind::Status, "cannot start a container that has stopped"), &killed);
        assert_eq!(late.code(), Code::Oom, "{late}");
        assert!(hook.kind == Kind::Hook && hook.hint.as_deref().unwrap_or_default().contains("4096 bytes"), "{hook}");
        assert!(hook.to_string().contains("see its log"), "{hook}");
        let refused = explained(Error::new(Kind::Kernel, "cannot mount").call("mount()", Errno::ENOMEM), &reached);
        assert!(refused.to_string().contains("came to the limit of its memory: limit 4096 bytes"), "{refused}");
        let other = Error::new(Kind::Kernel, "cannot mount").call("mount()", Errno::EPERM);
        assert_eq!(explained(other.clone(), &reached), other);
    }

    #[test]
    fn no_limit_of_its_own() {
        let lack = Lack { kills: 1, ..Lack::default() };
        assert_eq!(lack.to_string(), "no limit of its own, so one above it or the machine's memory ran out");
    }
}
