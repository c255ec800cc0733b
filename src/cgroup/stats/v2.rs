// SPDX-License-Identifier: Apache-2.0
//! What the cgroup2 tree counts (cgroup-v2.rst). Called by [`super`].

use super::{BlkioEntry, Hugetlb, MemoryEntry, Stats, number, page_sizes, parse_flat, parse_number, parse_psi, read};
use crate::cgroup::path::{Dir, find_number};
use crate::error::Result;

pub(super) fn fill(dir: &Dir, stats: &mut Stats) -> Result<()> {
    if let Some(all) = read(dir, "cpu.stat", parse_flat)? {
        let get = |key: &str| all.get(key).copied().unwrap_or(0);
        stats.cpu.usage.total = get("usage_usec").saturating_mul(1000);
        stats.cpu.usage.user = get("user_usec").saturating_mul(1000);
        stats.cpu.usage.kernel = get("system_usec").saturating_mul(1000);
        stats.cpu.throttling.periods = get("nr_periods");
        stats.cpu.throttling.throttled_periods = get("nr_throttled");
        stats.cpu.throttling.throttled_time = get("throttled_usec").saturating_mul(1000);
    }
    stats.cpu.psi = read(dir, "cpu.pressure", parse_psi)?;
    memory(dir, stats)?;
    stats.pids.current = number(dir, "pids.current")?;
    stats.pids.limit = Some(number(dir, "pids.max")?).filter(|limit| *limit != u64::MAX).unwrap_or(0);
    if let Some(text) = read(dir, "io.stat", str::to_string)? {
        let (bytes, requests) = parse_io_stat(&text);
        stats.blkio.io_service_bytes_recursive = bytes;
        stats.blkio.io_serviced_recursive = requests;
    }
    stats.blkio.psi = read(dir, "io.pressure", parse_psi)?;
    for size in page_sizes(dir, ".current")? {
        let usage = number(dir, &format!("hugetlb.{size}.current"))?;
        let failcnt = read(dir, &format!("hugetlb.{size}.events"), |text| find_number(text, "max"))?.flatten().unwrap_or(0);
        stats.hugetlb.insert(size, Hugetlb { usage, max: 0, failcnt });
    }
    Ok(())
}

fn memory(dir: &Dir, stats: &mut Stats) -> Result<()> {
    let memory = &mut stats.memory;
    memory.psi = read(dir, "memory.pressure", parse_psi)?;
    let Some(usage) = read(dir, "memory.current", parse_number)? else { return Ok(()) };
    memory.raw = read(dir, "memory.stat", parse_flat)?.unwrap_or_default();
    memory.cache = memory.raw.get("file").copied().unwrap_or(0);
    memory.usage = MemoryEntry {
        usage,
        limit: number(dir, "memory.max")?,
        max: number(dir, "memory.peak")?,
        failcnt: read(dir, "memory.events", |text| find_number(text, "max"))?.flatten().unwrap_or(0),
    };
    // As cgroup v1 has it: memory and swap together. Their greatest sum is not known from the two greatest values.
    let swap_limit = read(dir, "memory.swap.max", parse_number)?.unwrap_or(0);
    memory.swap = MemoryEntry {
        usage: usage.saturating_add(number(dir, "memory.swap.current")?),
        limit: memory.usage.limit.saturating_add(swap_limit),
        max: 0,
        failcnt: read(dir, "memory.swap.events", |text| find_number(text, "max"))?.flatten().unwrap_or(0),
    };
    Ok(())
}

/// Lines `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`, as bytes and as requests by device.
fn parse_io_stat(text: &str) -> (Vec<BlkioEntry>, Vec<BlkioEntry>) {
    let (mut bytes, mut requests) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut bytes, "Read"),
                "wbytes" => (&mut bytes, "Write"),
                "dbytes" => (&mut bytes, "Discard"),
                "rios" => (&mut requests, "Read"),
                "wios" => (&mut requests, "Write"),
                "dios" => (&mut requests, "Discard"),
                _ => continue,
            };
            list.push(BlkioEntry { major, minor, op: op.to_string(), value: parse_number(value) });
        }
    }
    (bytes, requests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_stat_by_device_and_kind() {
        let (bytes, requests) =
            parse_io_stat("8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=5 cost.usage=9\n\n7:0 \nbad\n254:1 rbytes=6\n");
        let entry = |major, minor, op: &str, value| BlkioEntry { major, minor, op: op.into(), value };
        assert_eq!(
            bytes,
            [entry(8, 16, "Read", 1), entry(8, 16, "Write", 2), entry(8, 16, "Discard", 0), entry(254, 1, "Read", 6)]
        );
        assert_eq!(requests, [entry(8, 16, "Read", 3), entry(8, 16, "Write", 4), entry(8, 16, "Discard", 5)]);
    }
}
