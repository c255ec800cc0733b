// SPDX-License-Identifier: Apache-2.0
//! Who a process is, so that no later one of the same pid is taken for it.
//!
//! From Linux 6.9 on that is the inode of its pidfd, which costs whoever holds one next to nothing, and is the same from every pid
//! namespace. Before that, and in states of a berth that did not know it, it is the clock tick in which it started, of /proc/PID/stat.

use std::os::fd::{AsFd, OwnedFd};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result, Told};
use crate::linux::{fd, pid, proc, time};

/// A process as a state remembers it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its number, in the pid namespace of the runtime; 0 for none.
    pub pid: i32,
    /// When it started, in clock ticks since boot; 0 where nobody needs it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start: u64,
    /// The inode of its pidfd; 0 where the kernel has none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub inode: u64,
}

/// Whether a number or switch says nothing: for serde.
pub(super) fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Identity {
    /// This process.
    pub fn own() -> Result<Identity> {
        let (pid, inode) = pid::own().told(|| "cannot look at this process".to_string())?;
        let start = if inode.is_some() { 0 } else { start_of(pid)? };
        Ok(Identity { pid, start, inode: inode.unwrap_or(0) })
    }

    /// A process of the container, by a handle on it. Tools know it by its start, which is told in any case; to ask the kernel is not
    /// needed where both moments between which it was made, if they are known, are in one clock tick ([`time::since_boot`]).
    pub fn of(pid: i32, pidfd: impl AsFd, made: Option<(u64, u64)>) -> Result<Identity> {
        let inode = pid::inode(pidfd).told(|| format!("cannot look at process {pid}"))?;
        let start = match made.and_then(|(begin, end)| time::tick_of(begin, end)) {
            Some(tick) => tick,
            None => start_of(pid)?,
        };
        Ok(Identity { pid, start, inode: inode.unwrap_or(0) })
    }

    /// A hold on this process that no reuse of its pid can move to another, where it has not ended: opened first and looked at
    /// afterwards, so that it cannot be another's.
    pub fn open(self) -> Result<Option<OwnedFd>> {
        if self.pid <= 0 {
            return Ok(None);
        }
        let told = || format!("cannot tell whether process {} lives", self.pid);
        let Some(pidfd) = pid::pidfd_open_if(self.pid).told(told)? else { return Ok(None) };
        let same = match self.inode {
            0 => proc::pid_stat(self.pid).told(told)?.is_some_and(|stat| stat.start_time == self.start),
            inode => fd::stat(&pidfd).told(told)?.ino == inode,
        };
        Ok(if same && !pid::has_ended(&pidfd).told(told)? { Some(pidfd) } else { None })
    }

    /// Whether [`Identity::open`] finds it: without a handle on it, where there is no inode to look at.
    pub fn lives(self) -> Result<bool> {
        if self.inode != 0 || self.pid <= 0 {
            return Ok(self.open()?.is_some());
        }
        let stat = proc::pid_stat(self.pid).told(|| format!("cannot tell whether process {} lives", self.pid))?;
        Ok(stat.is_some_and(|stat| stat.start_time == self.start && !stat.ended()))
    }
}

/// When a process started.
fn start_of(pid: i32) -> Result<u64> {
    let told = || format!("cannot read the start time of process {pid}");
    match proc::pid_stat(pid).told(told)? {
        Some(stat) => Ok(stat.start_time),
        None => Err(Error::new(Kind::Peer, told()).hint("it has ended")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::clone::{CloneArgs, Cloned, clone3};
    use crate::linux::test_child::in_child;

    /// By either way, whichever the kernel has.
    fn both_ways(identity: Identity) -> Vec<Identity> {
        let by_start = Identity { inode: 0, start: start_of(identity.pid).unwrap(), ..identity };
        if identity.inode == 0 { vec![by_start] } else { vec![by_start, Identity { start: 0, ..identity }] }
    }

    #[test]
    fn a_process_is_known_until_it_ends() {
        in_child(|| {
            let begin = time::since_boot();
            let Cloned::Parent { pid, pidfd } = clone3(&CloneArgs::default()).unwrap() else {
                loop {
                    pid::pause()
                }
            };
            let child = Identity::of(pid, &pidfd, Some((begin, time::since_boot()))).unwrap();
            assert_eq!(child.start, start_of(pid).unwrap());
            assert_eq!(Identity::of(pid, &pidfd, None).unwrap(), child);
            let ways = both_ways(child);
            let found = |way: Identity| {
                let lives = way.lives().unwrap();
                assert_eq!(way.open().unwrap().is_some(), lives, "{way:?}");
                lives
            };
            for way in &ways {
                assert!(found(*way), "{way:?}");
                assert!(!found(Identity { pid: 1, ..*way }), "{way:?} is the first process");
                assert!(!found(Identity { pid: 0, ..*way }));
                let other = Identity { start: way.start + 1, inode: if way.inode == 0 { 0 } else { way.inode + 1 }, ..*way };
                assert!(!found(other), "{other:?}");
            }
            assert!(both_ways(Identity::own().unwrap()).into_iter().all(found));
            pid::send_signal(&pidfd, libc::SIGKILL).unwrap();
            pid::wait_exited(&pidfd, None).unwrap();
            assert!(!ways.iter().any(|way| found(*way)), "it waits to be waited for");
            pid::wait(&pidfd).unwrap();
            assert!(!ways.iter().any(|way| found(*way)));
        });
    }

    /// In clock ticks of which the process has seen none begin, whenever in one of them that is.
    #[test]
    fn the_tick_of_the_clock_is_that_of_the_kernel() {
        in_child(|| {
            let mut told = 0;
            for round in 0..2000 {
                std::thread::sleep(std::time::Duration::from_micros(700 * (round % 15)));
                let begin = time::since_boot();
                let Cloned::Parent { pid, pidfd } = clone3(&CloneArgs::default()).unwrap() else {
                    loop {
                        pid::pause()
                    }
                };
                if let Some(tick) = time::tick_of(begin, time::since_boot()) {
                    assert_eq!(tick, start_of(pid).unwrap());
                    told += 1;
                }
                pid::send_signal(&pidfd, libc::SIGKILL).unwrap();
                pid::wait(&pidfd).unwrap();
                if told == 20 {
                    return;
                }
            }
            panic!("it is hardly ever certain: {told}");
        });
    }

    #[test]
    fn states_of_before_are_read() {
        let old: Identity = serde_json::from_str("[7,5]").unwrap();
        assert_eq!(old, Identity { pid: 7, start: 5, inode: 0 });
        let new = Identity { pid: 7, start: 0, inode: 9 };
        assert_eq!(serde_json::to_string(&new).unwrap(), r#"{"pid":7,"inode":9}"#);
        assert_eq!(serde_json::from_str::<Identity>(r#"{"pid":7,"inode":9}"#).unwrap(), new);
    }
}
