// SPDX-License-Identifier: Apache-2.0
//! What a container uses, in the words and units of runc's `events`, which scripts and go-runc read. Called by `events`.
//!
//! Both versions of cgroups fill the same structures; what a version or a controller does not count stays zero or is left out, as runc
//! leaves it out. Times are in nanoseconds, sizes in bytes.

mod v1;
mod v2;

use std::collections::BTreeMap;

use serde::Serialize;

use super::Cgroup;
use super::path::Dir;
use crate::error::{Result, Told};
use crate::linux::types::Errno;

/// Everything that the cgroup counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// CPU time.
    pub cpu: Cpu,
    /// Where it may run; cgroup v1 only.
    pub cpuset: CpuSet,
    /// Memory.
    pub memory: Memory,
    /// Tasks.
    pub pids: Pids,
    /// Block devices.
    pub blkio: Blkio,
    /// Huge pages, by size.
    pub hugetlb: BTreeMap<String, Hugetlb>,
}

/// CPU time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cpu {
    /// Time used.
    pub usage: CpuUsage,
    /// Time refused.
    pub throttling: Throttling,
    /// Time waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// CPU time used.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CpuUsage {
    /// In all.
    #[serde(skip_serializing_if = "is_zero")]
    pub total: u64,
    /// By CPU; cgroup v1 only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    /// By CPU, in the kernel; cgroup v1 only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    /// By CPU, in programs; cgroup v1 only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    /// In the kernel.
    pub kernel: u64,
    /// In programs.
    pub user: u64,
}

/// CPU time refused because of the quota.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    /// Periods in which it ran.
    #[serde(skip_serializing_if = "is_zero")]
    pub periods: u64,
    /// Those of them in which the quota was used up.
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_periods: u64,
    /// Time spent waiting for the next period.
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_time: u64,
}

/// Where it may run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CpuSet {
    /// CPUs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    /// No other cpuset shares the CPUs.
    pub cpu_exclusive: u64,
    /// Memory nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
    /// Kernel memory too comes from these nodes.
    pub mem_hardwall: u64,
    /// No other cpuset shares the nodes.
    pub mem_exclusive: u64,
    /// Memory moves with its task.
    pub memory_migrate: u64,
    /// Page cache is spread.
    pub memory_spread_page: u64,
    /// Slab is spread.
    pub memory_spread_slab: u64,
    /// How hard it is to find memory here.
    pub memory_pressure: u64,
    /// The scheduler balances.
    pub sched_load_balance: u64,
    /// How far it looks.
    pub sched_relax_domain_level: i64,
}

/// Memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Memory {
    /// Page cache.
    #[serde(skip_serializing_if = "is_zero")]
    pub cache: u64,
    /// Memory.
    pub usage: MemoryEntry,
    /// Memory and swap together.
    pub swap: MemoryEntry,
    /// The kernel's; cgroup v1 only.
    pub kernel: MemoryEntry,
    /// The kernel's for TCP; cgroup v1 only.
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: MemoryEntry,
    /// memory.stat, as it is.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    /// Time waited for memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// One kind of memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MemoryEntry {
    /// The limit; the largest number there is where there is none.
    pub limit: u64,
    /// In use now.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// The most that ever was.
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    /// How often the limit was reached.
    pub failcnt: u64,
}

/// Tasks.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Pids {
    /// Now.
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    /// At most; 0 where there is no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

/// Block devices.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Blkio {
    /// Bytes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlkioEntry>,
    /// Requests.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlkioEntry>,
    /// Requests waiting; cgroup v1 only, as all below.
    #[serde(rename = "ioQueueRecursive", skip_serializing_if = "Vec::is_empty")]
    pub io_queued_recursive: Vec<BlkioEntry>,
    /// Time from dispatch to end.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_time_recursive: Vec<BlkioEntry>,
    /// Time waiting.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_wait_time_recursive: Vec<BlkioEntry>,
    /// Requests merged into others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_merged_recursive: Vec<BlkioEntry>,
    /// Time of the disk.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_time_recursive: Vec<BlkioEntry>,
    /// Sectors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sectors_recursive: Vec<BlkioEntry>,
    /// Time waited for devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// One count of one device.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BlkioEntry {
    /// Device number.
    #[serde(skip_serializing_if = "is_zero")]
    pub major: u64,
    /// Device number.
    #[serde(skip_serializing_if = "is_zero")]
    pub minor: u64,
    /// `Read`, `Write`, …
    #[serde(skip_serializing_if = "String::is_empty")]
    pub op: String,
    /// How much.
    #[serde(skip_serializing_if = "is_zero")]
    pub value: u64,
}

/// One size of huge pages.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Hugetlb {
    /// In use now.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// The most that ever was; cgroup v1 only.
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    /// How often the limit was reached.
    pub failcnt: u64,
}

/// Pressure stall information (Documentation/accounting/psi.rst).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Psi {
    /// Some tasks waited.
    pub some: PsiLine,
    /// All tasks waited.
    pub full: PsiLine,
}

/// Shares of time in percent, and the time in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PsiLine {
    /// Of the last 10 seconds.
    pub avg10: f64,
    /// Of the last minute.
    pub avg60: f64,
    /// Of the last 5 minutes.
    pub avg300: f64,
    /// Since the cgroup was made.
    pub total: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Cgroup {
    /// What the container uses now. A controller that it does not have counts nothing.
    pub fn stats(&self) -> Result<Stats> {
        let mut stats = Stats::default();
        // Where both trees count, the controllers are in cgroup v1.
        if let Some(dir) = &self.v2 {
            v2::fill(dir, &mut stats)?;
        }
        v1::fill(|controller| self.v1_dir(controller), &mut stats)?;
        Ok(stats)
    }
}

/// Reads `file`, if the cgroup has it, and hands its text on.
fn read<T>(dir: &Dir, file: &str, parse: impl FnOnce(&str) -> T) -> Result<Option<T>> {
    match dir.read_if_any(file) {
        // Pressure is counted only where the kernel was told to (psi=1).
        Err(error) if error.errno == Errno::EOPNOTSUPP => Ok(None),
        other => Ok(other.told(|| format!("cannot read {file} of the cgroup {}", dir.path()))?.map(|text| parse(&text))),
    }
}

/// A file with one number; `max` is the largest there is, absent is 0.
fn number(dir: &Dir, file: &str) -> Result<u64> {
    Ok(read(dir, file, parse_number)?.unwrap_or(0))
}

fn parse_number(text: &str) -> u64 {
    match text.trim() {
        "max" => u64::MAX,
        number => number.parse().unwrap_or(0),
    }
}

/// The lines `key number` of a file.
fn parse_flat(text: &str) -> BTreeMap<String, u64> {
    text.lines().filter_map(|line| line.split_once(' ')).map(|(key, value)| (key.to_string(), parse_number(value))).collect()
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same for `full`.
/// What a pressure file says; none where there is none.
pub(super) fn pressure(dir: &Dir, file: &str) -> Result<Option<Psi>> {
    read(dir, file, parse_psi)
}

fn parse_psi(text: &str) -> Psi {
    let mut psi = Psi::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let target = match words.next() {
            Some("some") => &mut psi.some,
            Some("full") => &mut psi.full,
            _ => continue,
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            match key {
                "avg10" => target.avg10 = value.parse().unwrap_or(0.0),
                "avg60" => target.avg60 = value.parse().unwrap_or(0.0),
                "avg300" => target.avg300 = value.parse().unwrap_or(0.0),
                "total" => target.total = value.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
    psi
}

/// The page sizes for which the cgroup counts huge pages: from names such as `hugetlb.2MB.current`.
fn page_sizes(dir: &Dir, suffix: &str) -> Result<Vec<String>> {
    let files = dir.files().told(|| format!("cannot list the files of the cgroup {}", dir.path()))?;
    let sizes = files.iter().filter_map(|name| name.strip_prefix("hugetlb.")?.strip_suffix(suffix));
    Ok(sizes.filter(|size| !size.contains('.')).map(String::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure() {
        let psi = parse_psi("some avg10=1.50 avg60=0.25 avg300=0.00 total=42\nfull avg10=0.00 avg60=0.00 avg300=0.12 total=7\n");
        assert_eq!(psi.some, PsiLine { avg10: 1.5, avg60: 0.25, avg300: 0.0, total: 42 });
        assert_eq!((psi.full.avg300, psi.full.total), (0.12, 7));
    }

    #[test]
    fn what_counts_nothing_is_shown_as_runc_shows_it() {
        let json = serde_json::to_string(&Stats::default()).unwrap();
        let entry = r#"{"limit":0,"failcnt":0}"#;
        let cpuset = r#"{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"memory_migrate":0,"memory_spread_page":0,"memory_spread_slab":0,"memory_pressure":0,"sched_load_balance":0,"sched_relax_domain_level":0}"#;
        let want = format!(
            r#"{{"cpu":{{"usage":{{"kernel":0,"user":0}},"throttling":{{}}}},"cpuset":{cpuset},"memory":{{"usage":{entry},"swap":{entry},"kernel":{entry},"kernelTCP":{entry}}},"pids":{{}},"blkio":{{}},"hugetlb":{{}}}}"#
        );
        assert_eq!(json, want);
    }
}
