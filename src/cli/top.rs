// SPDX-License-Identifier: Apache-2.0
//! `top`: what all containers use, as a table.

use std::collections::BTreeMap;
use std::time::Duration;

use super::show;
use crate::cgroup::stats::{Psi, Stats};
use crate::container::usage::Usage;

/// What a container had used when it was looked at last.
#[derive(Clone, Copy, Debug, Default)]
struct Before {
    cpu_ns: u64,
    read: u64,
    written: u64,
}

/// A table that remembers what it showed.
#[derive(Debug, Default)]
pub struct Top {
    before: BTreeMap<String, Before>,
}

impl Top {
    /// The table, of which rates are over this time; those who use most CPU time first.
    pub fn table(&mut self, all: &[Usage], time: Duration) -> String {
        let mut before = BTreeMap::new();
        let mut rows: Vec<(u64, [String; 11])> = Vec::new();
        for usage in all {
            let now = usage.stats.as_deref().map(counts).unwrap_or_default();
            // A container of the same name may be another one by now.
            let then = self.before.get(&usage.id).copied().unwrap_or(now);
            before.insert(usage.id.clone(), now);
            let cpu = per_second(now.cpu_ns.saturating_sub(then.cpu_ns), time);
            rows.push((
                cpu,
                row(usage, cpu, &[now.read.saturating_sub(then.read), now.written.saturating_sub(then.written)], time),
            ));
        }
        self.before = before;
        rows.sort_by(|one, other| other.0.cmp(&one.0).then_with(|| one.1[0].cmp(&other.1[0])));
        let head =
            ["ID", "PID", "STATUS", "CPU", "MEMORY", "LIMIT", "PIDS", "READ/S", "WRITE/S", "OOM", "STALLS"].map(String::from);
        let rows: Vec<[String; 11]> = std::iter::once(head).chain(rows.into_iter().map(|(_, row)| row)).collect();
        show::narrow_table(&rows)
    }
}

fn row(usage: &Usage, cpu: u64, io: &[u64; 2], time: Duration) -> [String; 11] {
    let none = || "-".to_string();
    let stats = usage.stats.as_deref();
    let memory = stats.map(|stats| &stats.memory).filter(|memory| !memory.raw.is_empty());
    let limit = memory.map(|memory| memory.usage.limit).filter(|limit| *limit < u64::MAX >> 2);
    let pids = stats.map(|stats| &stats.pids).filter(|pids| pids.current > 0);
    let rate = |bytes: u64| stats.map_or_else(none, |_| size(per_second(bytes, time)));
    [
        usage.id.clone(),
        usage.pid.to_string(),
        usage.status.to_string(),
        // Of a thousand million nanoseconds, tenths of a percent.
        stats.map_or_else(none, |_| format!("{}.{}%", cpu / 10_000_000, cpu / 1_000_000 % 10)),
        memory.map_or_else(none, |memory| size(memory.usage.usage)),
        limit.map_or_else(none, size),
        pids.map_or_else(none, |pids| match pids.limit {
            0 => pids.current.to_string(),
            limit => format!("{}/{limit}", pids.current),
        }),
        rate(io[0]),
        rate(io[1]),
        memory.map_or_else(none, |_| usage.oom_kills.to_string()),
        stats.map_or_else(none, stalls),
    ]
}

fn counts(stats: &Stats) -> Before {
    let sum = |op: &str| {
        let entries = stats.blkio.io_service_bytes_recursive.iter().filter(|entry| entry.op == op);
        entries.map(|entry| entry.value).fold(0, u64::saturating_add)
    };
    Before { cpu_ns: stats.cpu.usage.total, read: sum("Read"), written: sum("Write") }
}

fn per_second(amount: u64, time: Duration) -> u64 {
    let nanos = time.as_nanos().max(1);
    u64::try_from(u128::from(amount) * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
}

/// Of the last ten seconds, how much some task waited, in percent: `cpu 12 io 3`; only what is not nothing.
fn stalls(stats: &Stats) -> String {
    let all = [("cpu", &stats.cpu.psi), ("memory", &stats.memory.psi), ("io", &stats.blkio.psi)];
    if all.iter().all(|(_, psi)| psi.is_none()) {
        return "-".into();
    }
    let some = |psi: &Psi| psi.some.avg10.round() as u64;
    let words = all.iter().filter_map(|(name, psi)| psi.as_ref().map(|psi| (name, some(psi)))).filter(|(_, share)| *share > 0);
    let words: Vec<String> = words.map(|(name, share)| format!("{name} {share}%")).collect();
    if words.is_empty() { "0".into() } else { words.join(" ") }
}

/// Bytes with three digits or so: `512`, `4.0K`, `12M`.
fn size(bytes: u64) -> String {
    let (mut whole, mut rest, mut unit) = (bytes, 0, 0);
    while whole >= 1024 {
        (rest, whole, unit) = (whole % 1024, whole / 1024, unit + 1);
    }
    let letter = ["", "K", "M", "G", "T", "P", "E"][unit];
    if unit > 0 && whole < 10 { format!("{whole}.{}{letter}", rest * 10 / 1024) } else { format!("{whole}{letter}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::stats::BlkioEntry;

    #[test]
    fn rates_are_of_the_time_between() {
        let usage = |id: &str, cpu: u64, read: u64| {
            let mut stats = Stats::default();
            stats.cpu.usage.total = cpu;
            stats.pids.current = 2;
            stats.cpu.psi = Some(Psi::default());
            stats.blkio.io_service_bytes_recursive = vec![BlkioEntry { op: "Read".into(), value: read, ..BlkioEntry::default() }];
            Usage { id: id.into(), pid: 7, status: "running", stats: Some(Box::new(stats)), ..Usage::default() }
        };
        let stopped = Usage { id: "c".into(), status: "stopped", ..Usage::default() };
        let mut top = Top::default();
        top.table(&[usage("a", 5_000_000_000, 0), usage("b", 0, 0)], Duration::from_secs(1));
        let text = top.table(&[usage("a", 5_000_000_000, 0), usage("b", 1_255_000_000, 8192), stopped], Duration::from_secs(2));
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["b", "7", "running", "62.7%", "-", "-", "2", "4.0K", "0", "-", "0"]);
        assert_eq!((lines[2][0], lines[2][3]), ("a", "0.0%"));
        assert_eq!(lines[3], ["c", "0", "stopped", "-", "-", "-", "-", "-", "-", "-", "-"]);
    }

    #[test]
    fn sizes_are_short() {
        let all = [0, 1023, 1024, 10 * 1024, 1 << 20, (5 << 30) + (1 << 29), u64::MAX].map(size);
        assert_eq!(all, ["0", "1023", "1.0K", "10K", "1.0M", "5.5G", "15E"]);
    }
}
