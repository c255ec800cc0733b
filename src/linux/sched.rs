// SPDX-License-Identifier: Apache-2.0
//! Limits and scheduling of a process: prlimit(2), sched_setattr(2), ioprio_set(2), CPU and memory affinity. Used by `process`.

use std::mem::size_of;

use super::call::{Call, Result, syscall};
use super::types::Errno;

/// prlimit(2): soft and hard limit of `resource`, a number of asm-generic/resource.h, for `pid` (0: this process).
pub fn set_limit(pid: i32, resource: u32, soft: u64, hard: u64) -> Result<()> {
    let new = [soft, hard];
    // SAFETY: `new` is a struct rlimit64 that lives until the call returns.
    unsafe { syscall!(libc::SYS_prlimit64, pid, resource, new.as_ptr(), 0) }
        .call(|| format!("prlimit64({pid}, {resource}, {{rlim_cur={soft}, rlim_max={hard}}}, NULL)"))?;
    Ok(())
}

/// prlimit(2): the soft and hard limit of `resource`; u64::MAX is none.
pub fn limit(pid: i32, resource: u32) -> Result<(u64, u64)> {
    let mut old = [0u64; 2];
    // SAFETY: `old` is a struct rlimit64 that lives until the call returns.
    unsafe { syscall!(libc::SYS_prlimit64, pid, resource, 0, old.as_mut_ptr()) }
        .call(|| format!("prlimit64({pid}, {resource}, NULL, {{...}})"))?;
    Ok((old[0], old[1]))
}

/// How the kernel schedules a process; sched_setattr(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `SCHED_*`
    pub policy: u32,
    /// `SCHED_FLAG_*`
    pub flags: u64,
    /// For SCHED_OTHER and SCHED_BATCH.
    pub nice: i32,
    /// For SCHED_FIFO and SCHED_RR.
    pub priority: u32,
    /// Nanoseconds, for SCHED_DEADLINE.
    pub runtime: u64,
    /// Nanoseconds, for SCHED_DEADLINE.
    pub deadline: u64,
    /// Nanoseconds, for SCHED_DEADLINE.
    pub period: u64,
}

/// struct sched_attr, its second version (Linux 5.3): without the room for utilisation clamps the kernel refuses their flags.
#[repr(C)]
#[derive(Default)]
struct RawAttributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
    util_min: u32,
    util_max: u32,
}

/// sched_setattr(2) of this process. Utilisation clamps, where `flags` ask for them, are 0: no field of a configuration holds any.
pub fn set_attributes(to: &Attributes) -> Result<()> {
    let size = size_of::<RawAttributes>() as u32;
    let Attributes { policy, flags, nice, priority, runtime, deadline, period } = *to;
    let mut raw = RawAttributes { size, policy, flags, nice, priority, runtime, deadline, period, ..Default::default() };
    // SAFETY: `raw` lives until the call returns and says its size.
    unsafe { syscall!(libc::SYS_sched_setattr, 0, &raw mut raw, 0) }.call(|| format!("sched_setattr(0, {to:?}, 0)"))?;
    Ok(())
}

/// sched_getattr(2) of this process.
pub fn attributes() -> Result<Attributes> {
    let mut raw = RawAttributes::default();
    // SAFETY: `raw` lives until the call returns, and its size is given.
    unsafe { syscall!(libc::SYS_sched_getattr, 0, &raw mut raw, size_of::<RawAttributes>(), 0) }
        .call(|| "sched_getattr(0)".into())?;
    let RawAttributes { policy, flags, nice, priority, runtime, deadline, period, .. } = raw;
    Ok(Attributes { policy, flags, nice, priority, runtime, deadline, period })
}

/// setpriority(2): this process's nice value.
pub fn set_nice(nice: i32) -> Result<()> {
    // SAFETY: no pointer.
    unsafe { syscall!(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, nice) }
        .call(|| format!("setpriority(PRIO_PROCESS, 0, {nice})"))?;
    Ok(())
}

/// ioprio_set(2) of this process: class (1 real time, 2 best effort, 3 idle) and level in it (0 to 7).
pub fn set_io_priority(class: u8, level: u8) -> Result<()> {
    const IOPRIO_WHO_PROCESS: u32 = 1;
    let word = u32::from(class) << 13 | u32::from(level);
    // SAFETY: no pointer.
    unsafe { syscall!(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, word) }
        .call(|| format!("ioprio_set(IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE({class}, {level}))"))?;
    Ok(())
}

/// ioprio_get(2) of a process (0: this one): class and level.
pub fn io_priority(pid: i32) -> Result<(u8, u8)> {
    const IOPRIO_WHO_PROCESS: u32 = 1;
    // SAFETY: no pointer.
    let word = unsafe { syscall!(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, pid) }
        .call(|| format!("ioprio_get(IOPRIO_WHO_PROCESS, {pid})"))?;
    Ok((((word >> 13) & 7) as u8, (word & 7) as u8))
}

/// These numbers as set bits of `long` words, as many as it takes.
fn bit_mask(numbers: &[u32]) -> Vec<u64> {
    let words = numbers.iter().max().map_or(0, |most| *most as usize / 64 + 1);
    let mut mask = vec![0u64; words];
    for number in numbers {
        mask[*number as usize / 64] |= 1 << (number % 64);
    }
    mask
}

/// The numbers of the set bits.
fn numbers(mask: &[u64]) -> Vec<u32> {
    (0u32..)
        .zip(mask)
        .flat_map(|(word, bits)| (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| word * 64 + bit))
        .collect()
}

/// sched_setaffinity(2): the process `pid` (0: this one) runs on these CPUs, of those that its cpuset allows; EINVAL where none is left.
/// CPU numbers are bounded by what a configuration may say; 65536 at most.
pub fn set_affinity(pid: i32, cpus: &[u32]) -> Result<()> {
    let render = || format!("sched_setaffinity({pid}, {cpus:?})");
    if cpus.iter().any(|cpu| *cpu >= 1 << 16) {
        return Err(Errno::EINVAL).call(render);
    }
    let mask = bit_mask(cpus);
    // SAFETY: the mask lives until the call returns; its length in bytes is given.
    unsafe { syscall!(libc::SYS_sched_setaffinity, pid, mask.len() * 8, mask.as_ptr()) }.call(render)?;
    Ok(())
}

/// sched_getaffinity(2): the CPUs that `pid` (0: this process) may run on.
pub fn affinity(pid: i32) -> Result<Vec<u32>> {
    let mut mask = vec![0u64; 16];
    loop {
        // SAFETY: the kernel writes at most the given length into the mask.
        match unsafe { syscall!(libc::SYS_sched_getaffinity, pid, mask.len() * 8, mask.as_mut_ptr()) } {
            Ok(bytes) => return Ok(numbers(&mask[..(bytes as usize).div_ceil(8).min(mask.len())])),
            // The kernel has more CPUs than the mask holds.
            Err(Errno::EINVAL) if mask.len() < 1 << 16 => mask.resize(mask.len() * 4, 0),
            Err(errno) => return Err(errno).call(|| format!("sched_getaffinity({pid})")),
        }
    }
}

/// set_mempolicy(2) of this process: `MPOL_*` with its flags, and NUMA nodes (below 65536).
pub fn set_memory_policy(mode: u32, nodes: &[u32]) -> Result<()> {
    let render = || format!("set_mempolicy({mode:#x}, {nodes:?})");
    if nodes.iter().any(|node| *node >= 1 << 16) {
        return Err(Errno::EINVAL).call(render);
    }
    let mask = bit_mask(nodes);
    let pointer = if mask.is_empty() { std::ptr::null() } else { mask.as_ptr() };
    // The kernel takes one bit less than it is told.
    let bits = if mask.is_empty() { 0 } else { mask.len() * 64 + 1 };
    // SAFETY: the mask lives until the call returns; its length in bits is given.
    unsafe { syscall!(libc::SYS_set_mempolicy, mode, pointer, bits) }.call(render)?;
    Ok(())
}

/// personality(2): sets the execution domain.
pub fn set_personality(persona: u32) -> Result<()> {
    // SAFETY: no pointer.
    unsafe { syscall!(libc::SYS_personality, persona) }.call(|| format!("personality({persona:#x})"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::test_child::in_child;

    #[test]
    fn limits() {
        const NOFILE: u32 = 7;
        in_child(|| {
            let (_, hard) = limit(0, NOFILE).unwrap();
            set_limit(0, NOFILE, 77, hard.min(100)).unwrap();
            assert_eq!(limit(0, NOFILE).unwrap(), (77, hard.min(100)));
            let error = set_limit(0, 7, 5, 3).unwrap_err();
            assert_eq!(error.to_string(), "prlimit64(0, 7, {rlim_cur=5, rlim_max=3}, NULL) = EINVAL (invalid argument)");
            assert_eq!(limit(0, 16).unwrap_err().errno, Errno::EINVAL);
        });
    }

    #[test]
    fn scheduling() {
        in_child(|| {
            set_nice(3).unwrap();
            assert_eq!(attributes().unwrap().nice, 3);
            let batch = Attributes { policy: libc::SCHED_BATCH as u32, nice: 5, ..Attributes::default() };
            set_attributes(&batch).unwrap();
            let now = attributes().unwrap();
            assert_eq!((now.policy, now.nice), (batch.policy, 5));
            assert_eq!(set_attributes(&Attributes { policy: 77, ..Attributes::default() }).unwrap_err().errno, Errno::EINVAL);
            set_io_priority(2, 6).unwrap();
            assert_eq!(io_priority(0).unwrap(), (2, 6));
            assert_eq!(set_io_priority(7, 7).unwrap_err().errno, Errno::EINVAL);
            set_personality(libc::ADDR_NO_RANDOMIZE as u32).unwrap();
            // SAFETY: no pointer; 0xffffffff only asks.
            assert_eq!(unsafe { libc::personality(0xffff_ffff) }, libc::ADDR_NO_RANDOMIZE);
        });
    }

    #[test]
    fn affinity_of_any_size() {
        assert_eq!(bit_mask(&[0, 3, 64, 200]), [9, 1, 0, 1 << 8]);
        assert_eq!(numbers(&[9, 1, 0, 1 << 8]), [0, 3, 64, 200]);
        in_child(|| {
            let all = affinity(0).unwrap();
            let last = *all.last().unwrap();
            set_affinity(0, &[last, 5000]).unwrap();
            assert_eq!(affinity(0).unwrap(), [last]);
            assert_eq!(set_affinity(0, &[5000]).unwrap_err().errno, Errno::EINVAL);
            assert_eq!(set_affinity(0, &[u32::MAX]).unwrap_err().errno, Errno::EINVAL);
        });
    }

    #[test]
    fn memory_policy() {
        in_child(|| {
            const MPOL_BIND: u32 = 2;
            match set_memory_policy(0, &[]) {
                Err(error) if error.errno == Errno::ENOSYS => return eprintln!("skipped: this kernel has no NUMA"),
                other => other.unwrap(),
            }
            set_memory_policy(MPOL_BIND, &[0]).unwrap();
            assert_eq!(set_memory_policy(MPOL_BIND, &[]).unwrap_err().errno, Errno::EINVAL);
            assert_eq!(set_memory_policy(0, &[0]).unwrap_err().errno, Errno::EINVAL);
        });
    }
}
