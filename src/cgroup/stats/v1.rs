// SPDX-License-Identifier: Apache-2.0
//! What the hierarchies of cgroup v1 count (Documentation/admin-guide/cgroup-v1/). Called by [`super`].

use super::{BlkioEntry, Hugetlb, MemoryEntry, Stats, number, page_sizes, parse_flat, parse_number, read};
use crate::cgroup::path::Dir;
use crate::error::Result;

/// Nanoseconds in a tick of cpuacct.stat: USER_HZ is 100 on every architecture of Linux but Alpha.
const TICK_NS: u64 = 10_000_000;

pub(super) fn fill<'a>(find: impl Fn(&str) -> Option<&'a Dir>, stats: &mut Stats) -> Result<()> {
    if let Some(dir) = find("cpuacct") {
        cpu_time(dir, stats)?;
    }
    if let Some(dir) = find("cpu")
        && let Some(all) = read(dir, "cpu.stat", parse_flat)?
    {
        let get = |key: &str| all.get(key).copied().unwrap_or(0);
        stats.cpu.throttling.periods = get("nr_periods");
        stats.cpu.throttling.throttled_periods = get("nr_throttled");
        stats.cpu.throttling.throttled_time = get("throttled_time");
    }
    if let Some(dir) = find("cpuset") {
        cpuset(dir, stats)?;
    }
    if let Some(dir) = find("memory") {
        stats.memory.raw = read(dir, "memory.stat", parse_flat)?.unwrap_or_default();
        stats.memory.cache = stats.memory.raw.get("cache").copied().unwrap_or(0);
        stats.memory.usage = memory_entry(dir, "memory")?;
        stats.memory.swap = memory_entry(dir, "memory.memsw")?;
        stats.memory.kernel = memory_entry(dir, "memory.kmem")?;
        stats.memory.kernel_tcp = memory_entry(dir, "memory.kmem.tcp")?;
    }
    if let Some(dir) = find("pids") {
        stats.pids.current = number(dir, "pids.current")?;
        stats.pids.limit = Some(number(dir, "pids.max")?).filter(|limit| *limit != u64::MAX).unwrap_or(0);
    }
    if let Some(dir) = find("blkio") {
        blkio(dir, stats)?;
    }
    if let Some(dir) = find("hugetlb") {
        for size in page_sizes(dir, ".usage_in_bytes")? {
            let entry = Hugetlb {
                usage: number(dir, &format!("hugetlb.{size}.usage_in_bytes"))?,
                max: number(dir, &format!("hugetlb.{size}.max_usage_in_bytes"))?,
                failcnt: number(dir, &format!("hugetlb.{size}.failcnt"))?,
            };
            stats.hugetlb.insert(size, entry);
        }
    }
    Ok(())
}

fn cpu_time(dir: &Dir, stats: &mut Stats) -> Result<()> {
    let usage = &mut stats.cpu.usage;
    usage.total = number(dir, "cpuacct.usage")?;
    let numbers = |text: &str| text.split_whitespace().map(parse_number).collect();
    usage.percpu = read(dir, "cpuacct.usage_percpu", numbers)?.unwrap_or_default();
    if let Some(all) = read(dir, "cpuacct.stat", parse_flat)? {
        usage.user = all.get("user").copied().unwrap_or(0).saturating_mul(TICK_NS);
        usage.kernel = all.get("system").copied().unwrap_or(0).saturating_mul(TICK_NS);
    }
    // "cpu user system" and then a line for each CPU.
    for line in read(dir, "cpuacct.usage_all", str::to_string)?.unwrap_or_default().lines().skip(1) {
        let mut words = line.split_whitespace().skip(1).map(parse_number);
        usage.percpu_user.push(words.next().unwrap_or(0));
        usage.percpu_kernel.push(words.next().unwrap_or(0));
    }
    Ok(())
}

fn cpuset(dir: &Dir, stats: &mut Stats) -> Result<()> {
    let set = &mut stats.cpuset;
    set.cpus = read(dir, "cpuset.cpus", parse_list)?.unwrap_or_default();
    set.mems = read(dir, "cpuset.mems", parse_list)?.unwrap_or_default();
    for (file, value) in [
        ("cpuset.cpu_exclusive", &mut set.cpu_exclusive),
        ("cpuset.mem_hardwall", &mut set.mem_hardwall),
        ("cpuset.mem_exclusive", &mut set.mem_exclusive),
        ("cpuset.memory_migrate", &mut set.memory_migrate),
        ("cpuset.memory_spread_page", &mut set.memory_spread_page),
        ("cpuset.memory_spread_slab", &mut set.memory_spread_slab),
        ("cpuset.memory_pressure", &mut set.memory_pressure),
        ("cpuset.sched_load_balance", &mut set.sched_load_balance),
    ] {
        *value = number(dir, file)?;
    }
    let level = |text: &str| text.trim().parse().unwrap_or(0);
    set.sched_relax_domain_level = read(dir, "cpuset.sched_relax_domain_level", level)?.unwrap_or(0);
    Ok(())
}

/// `0-3,7` as its numbers.
fn parse_list(text: &str) -> Vec<u16> {
    let ranges = text.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<u16>().ok()?..=last.parse().ok()?)
    });
    ranges.flatten().collect()
}

fn memory_entry(dir: &Dir, prefix: &str) -> Result<MemoryEntry> {
    Ok(MemoryEntry {
        limit: number(dir, &format!("{prefix}.limit_in_bytes"))?,
        usage: number(dir, &format!("{prefix}.usage_in_bytes"))?,
        max: number(dir, &format!("{prefix}.max_usage_in_bytes"))?,
        failcnt: number(dir, &format!("{prefix}.failcnt"))?,
    })
}

/// BFQ counts what goes through it, the throttling layer everything: the first that has counted anything is told.
fn blkio(dir: &Dir, stats: &mut Stats) -> Result<()> {
    let first = |files: &[&str]| -> Result<Vec<BlkioEntry>> {
        for file in files {
            let entries = read(dir, file, parse_blkio)?.unwrap_or_default();
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
        Ok(Vec::new())
    };
    let blkio = &mut stats.blkio;
    blkio.io_service_bytes_recursive = first(&[
        "blkio.bfq.io_service_bytes_recursive",
        "blkio.throttle.io_service_bytes_recursive",
        "blkio.throttle.io_service_bytes",
    ])?;
    blkio.io_serviced_recursive =
        first(&["blkio.bfq.io_serviced_recursive", "blkio.throttle.io_serviced_recursive", "blkio.throttle.io_serviced"])?;
    blkio.io_queued_recursive = first(&["blkio.bfq.io_queued_recursive"])?;
    blkio.io_service_time_recursive = first(&["blkio.bfq.io_service_time_recursive"])?;
    blkio.io_wait_time_recursive = first(&["blkio.bfq.io_wait_time_recursive"])?;
    blkio.io_merged_recursive = first(&["blkio.bfq.io_merged_recursive"])?;
    blkio.io_time_recursive = first(&["blkio.bfq.time_recursive"])?;
    blkio.sectors_recursive = first(&["blkio.bfq.sectors_recursive"])?;
    Ok(())
}

/// Lines `8:0 Read 5`, or `8:0 5`; the line `Total 5` at the end is left out, as runc leaves it out.
fn parse_blkio(text: &str) -> Vec<BlkioEntry> {
    let entries = text.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (device, op, value) = match words[..] {
            [device, op, value] => (device, op, value),
            [device, value] => (device, "", value),
            _ => return None,
        };
        let (major, minor) = device.split_once(':')?;
        Some(BlkioEntry {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            op: op.to_string(),
            value: value.parse().ok()?,
        })
    });
    entries.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blkio_by_device_and_kind() {
        let entries = parse_blkio("8:0 Read 5\n8:0 Total 5\n8:16 7\nTotal 5\n");
        let entry = |major, minor, op: &str, value| BlkioEntry { major, minor, op: op.into(), value };
        assert_eq!(entries, [entry(8, 0, "Read", 5), entry(8, 0, "Total", 5), entry(8, 16, "", 7)]);
    }

    #[test]
    fn lists_of_cpus() {
        assert_eq!(parse_list("0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(parse_list("\n"), Vec::<u16>::new());
    }
}
