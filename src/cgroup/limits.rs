// SPDX-License-Identifier: Apache-2.0
//! Writes limits into the cgroup's files, as the plan lists them. Called by [`super::Cgroup::apply`].

use super::path::{Dir, is_gone};
use crate::error::{Code, Error, Kind, Result};
use crate::linux::call::CallError;
use crate::linux::types::Errno;
use crate::plan::resources::{Absent, CgroupWrite, Tree};

/// Writes all of it in order. What the kernel refuses as invalid is tried once more after the rest: pairs of limits (memory and
/// memory+swap, quota and burst) must not contradict each other at any moment, so their right order depends on what is set now.
pub fn apply<'w, 'a>(
    writes: impl IntoIterator<Item = &'w CgroupWrite>,
    find: impl Fn(&CgroupWrite) -> Option<&'a Dir>,
) -> Result<()> {
    let mut again = Vec::new();
    for write in writes {
        let dir = find(write).ok_or_else(|| no_cgroup(write))?;
        match write_one(dir, write) {
            Err(error) if error.errno == Errno::EINVAL => again.push((dir, write)),
            other => other.map_err(|error| refused(dir, write, error))?,
        }
    }
    for (dir, write) in again {
        write_one(dir, write).map_err(|error| refused(dir, write, error))?;
    }
    Ok(())
}

/// The same writes, to the files that there are: where one is absent and the kernel has the same thing under another name, to that.
pub fn resolved<'a>(writes: &[CgroupWrite], find: impl Fn(&CgroupWrite) -> Option<&'a Dir>) -> Vec<CgroupWrite> {
    let resolve = |write: &CgroupWrite| match (&write.absent, find(write)) {
        (Absent::Instead { file, value }, Some(dir)) if !dir.has(&write.file) => {
            CgroupWrite { file: file.clone(), value: value.clone(), absent: Absent::Error, ..write.clone() }
        }
        _ => write.clone(),
    };
    writes.iter().map(resolve).collect()
}

/// What the files hold now, as writes that would put it back, in reverse order. The kernel takes what it shows, one line at a time;
/// for a device without a line in io.max that is the absence of limits.
pub fn values<'a>(writes: &[CgroupWrite], find: impl Fn(&CgroupWrite) -> Option<&'a Dir>) -> Vec<CgroupWrite> {
    let mut back = Vec::new();
    for write in &resolved(writes, &find) {
        let Some(dir) = find(write) else { continue };
        let Ok(text) = dir.read(&write.file) else { continue };
        // An empty list is written as an empty line: a write of nothing would be none.
        let shown = |value: &str| if value.is_empty() { "\n".to_string() } else { value.to_string() };
        let line = |value: &str| CgroupWrite { value: shown(value), unless_used: None, ..write.clone() };
        let device = write.value.split(' ').next().filter(|word| word.contains(':') && write.value.contains(' '));
        match device {
            Some(device) => match text.lines().find(|line| line.split(' ').next() == Some(device)) {
                Some(old) => back.push(line(old)),
                None if write.file == "io.max" => back.push(line(&format!("{device} rbps=max wbps=max riops=max wiops=max"))),
                None => {}
            },
            None => {
                // A cgroup that stops being idle has the weight that every new one has; an idle one shows none that could be set.
                let weight = if write.tree == Tree::V2 { "cpu.weight" } else { "cpu.shares" };
                let weight = dir.read(weight).ok().filter(|_| write.file == "cpu.idle").map(|text| (weight, text));
                if let Some((file, text)) = weight.filter(|(_, text)| text.trim() != "0") {
                    back.push(CgroupWrite { file: file.to_string(), ..line(text.trim()) });
                }
                back.extend(text.lines().take(1).map(line));
            }
        }
    }
    back.reverse();
    // BFQ forgets the weights of single devices when it is given that of all.
    back.sort_by_key(|write| write.file.ends_with("bfq.weight") && write.value.contains(':'));
    back
}

fn write_one(dir: &Dir, write: &CgroupWrite) -> std::result::Result<(), CallError> {
    match (dir.write(&write.file, &write.value), &write.absent) {
        (Err(error), Absent::Harmless) if error.errno == Errno::ENOENT => Ok(()),
        (Err(error), Absent::Instead { file, value }) if error.errno == Errno::ENOENT => dir.write(file, value),
        (done, _) => done,
    }
}

/// `checkBeforeUpdate`: refuses limits below what is in use, because the kernel would make room by killing.
pub fn refuse_below_use<'a>(writes: &[CgroupWrite], find: impl Fn(&CgroupWrite) -> Option<&'a Dir>) -> Result<()> {
    writes.iter().try_for_each(|write| match (write.unless_used, find(write)) {
        (Some(limit), Some(dir)) => refuse_below(dir, write, limit),
        _ => Ok(()),
    })
}

fn refuse_below(dir: &Dir, write: &CgroupWrite, limit: u64) -> Result<()> {
    let file = match write.tree {
        Tree::V2 => "memory.current".to_string(),
        Tree::V1 => write.file.replace("limit", "usage"),
    };
    let used = match dir.read(&file) {
        Ok(text) => text.trim().parse::<u64>().unwrap_or(0),
        Err(error) if is_gone(error.errno) => 0,
        Err(error) => return Err(Error::from(error).doing(format!("cannot read {file} of the cgroup {}", dir.path()))),
    };
    if used <= limit {
        return Ok(());
    }
    let of = if write.at.contains("swap") { "memory+swap" } else { "memory" };
    let what = format!("rejecting {of} limit {limit} <= usage {used}");
    Err(Error::new(Kind::Status, what).at(&write.at).hint("checkBeforeUpdate asks to refuse this"))
}

fn no_cgroup(write: &CgroupWrite) -> Error {
    Error::new(Kind::Unsupported, format!("cannot set {}: the container has no cgroup for \"{}\"", write.file, write.controller))
        .cause(Code::Controller)
        .at(&write.at)
}

fn refused(dir: &Dir, write: &CgroupWrite, error: CallError) -> Error {
    let told = Error::from(error)
        .cause(Code::CgroupLimit)
        .doing(format!("cannot set {} of the cgroup {} to {:?}", write.file, dir.path(), write.value))
        .at(&write.at);
    let errno = told.errno.unwrap_or(Errno::UnknownErrno);
    match hint(write, errno) {
        Some(hint) => told.hint(hint),
        None => told,
    }
}

/// What the kernel means by its refusal, where that is known.
fn hint(write: &CgroupWrite, errno: Errno) -> Option<String> {
    let file = write.file.as_str();
    let name = |prefix: &str| file.starts_with(prefix);
    let hint = match errno {
        Errno::ENOENT if name("hugetlb.") => "this machine has no huge pages of that size".to_string(),
        Errno::ENOENT if name("io.weight") || name("io.bfq") || name("blkio.") => {
            "this kernel has no I/O scheduler that goes by weight (CONFIG_IOSCHED_BFQ, CONFIG_BLK_CGROUP_IOCOST)".to_string()
        }
        Errno::ENOENT => format!("this kernel has no such file, or the controller \"{}\" is not enabled for this cgroup", write.controller),
        Errno::EINVAL if name("cpu.max") || name("cpu.cfs") => {
            "periods are 1000 to 1000000 µs, quotas at least 1000 µs, bursts at most the quota; in cgroup v1 no more than the cgroup above has"
                .to_string()
        }
        Errno::EINVAL | Errno::ERANGE | Errno::ENOSPC | Errno::EACCES if name("cpuset.") => {
            "the list may only name what the cgroup above has: see its cpuset.cpus.effective and cpuset.mems.effective".to_string()
        }
        Errno::EINVAL | Errno::EOPNOTSUPP if name("io.bfq.weight") || name("io.weight") || name("blkio.") => {
            "the device must be one whose I/O scheduler goes by weight: see /sys/block/NAME/queue/scheduler".to_string()
        }
        Errno::EINVAL if name("cpu.rt_") => "the cgroups above need real-time time of their own first".to_string(),
        Errno::EINVAL | Errno::ENODEV if name("rdma.") => "no RDMA device has that name".to_string(),
        Errno::ENODEV if name("io.") || name("blkio.") => "there is no such block device, or it is a partition".to_string(),
        Errno::EBUSY if name("memory.") => "the container uses more than that".to_string(),
        Errno::EBUSY if name("cpuset.") => "the container's tasks need what would be taken away".to_string(),
        _ => return None,
    };
    Some(hint)
}
