// SPDX-License-Identifier: Apache-2.0
//! Limits in the words of cgroup v2 (Documentation/admin-guide/cgroup-v2.rst; config-linux.md says what each field means).
//!
//! Called by [`super::limits`], one function per controller. Fields that only cgroup v1 can honour are warnings, except real-time CPU
//! time: a program that needs it must not run without it.

use super::{Absent, Asks, CgroupWrite, Tree};
use crate::linux::types::CgroupMode;
use crate::plan::Host;
use crate::spec::types::{BlockIo, Cpu, Memory, Resources, ThrottleDevice};
use crate::texts::{Texts, texts};

const V1_ONLY: &str = "cgroup v2 has nothing like it";

/// Asks for a write into the cgroup2 tree.
fn write<'a>(asks: &'a mut Asks, file: &str, value: impl ToString, field: &str) -> &'a mut CgroupWrite {
    asks.write(Tree::V2, file, value, field)
}

/// A number of bytes as memory.max and its like take it; -1 is no limit, and 0 says nothing.
pub(super) fn bytes(asks: &mut Asks, value: Option<i64>, field: &str, unlimited: &str) -> Option<String> {
    match value.unwrap_or(0) {
        0 => None,
        -1 => Some(unlimited.to_string()),
        limit if limit > 0 => Some(limit.to_string()),
        other => {
            asks.problem(field, format!("{other} is neither a number of bytes nor -1 (no limit)"));
            None
        }
    }
}

pub(super) fn memory(asks: &mut Asks, resources: &Resources) {
    let Some(memory) = &resources.memory else { return };
    let limit = bytes(asks, memory.limit, "memory.limit", "max");
    let reservation = bytes(asks, memory.reservation, "memory.reservation", "max");
    let swap = swap(asks, memory);
    // Both are checked before anything is set: a refused update must leave all as it was.
    let check = memory.check_before_update == Some(true);
    let unless_used = |limit: Option<i64>| limit.filter(|limit| check && *limit > 0).map(i64::unsigned_abs);
    if let Some(swap) = swap {
        let write = write(asks, "memory.swap.max", &swap, "memory.swap");
        write.unless_used = unless_used(memory.swap);
        // A kernel that does not count swap has no such file: nothing to forbid and nothing to lift.
        write.harmless(swap == "max" || swap == "0");
    }
    if let Some(limit) = limit {
        let write = write(asks, "memory.max", &limit, "memory.limit");
        write.unless_used = unless_used(memory.limit);
        write.harmless(limit == "max");
    }
    if let Some(reservation) = reservation {
        write(asks, "memory.low", reservation, "memory.reservation");
    }
    memory_of_v1_only(asks, memory);
}

/// memory.swap counts memory and swap together, memory.swap.max swap alone.
fn swap(asks: &mut Asks, memory: &Memory) -> Option<String> {
    let limit = memory.limit.unwrap_or(0);
    match memory.swap.unwrap_or(0) {
        // Lifting the limit of memory lifts that of swap, as it does in cgroup v1, where the one cannot be above the other.
        0 if limit == -1 => Some("max".to_string()),
        0 => None,
        -1 => Some("max".to_string()),
        swap if swap < 0 => {
            asks.problem("memory.swap", format!("{swap} is neither a number of bytes nor -1 (no limit)"));
            None
        }
        swap if limit <= 0 => {
            asks.problem(
                "memory.swap",
                format!("unable to set swap limit without memory limit: {swap} counts memory and swap together"),
            );
            None
        }
        swap if swap < limit => {
            asks.problem("memory.swap", format!("memory+swap limit {swap} should be >= memory limit {limit}"));
            None
        }
        swap => Some((swap - limit).to_string()),
    }
}

fn memory_of_v1_only(asks: &mut Asks, memory: &Memory) {
    // config-linux.md: what cannot be converted from v1 to v2 is an error. The greatest number is how callers write "not set".
    if memory.swappiness.is_some_and(|swappiness| swappiness != u64::MAX) {
        asks.problem("memory.swappiness", V1_ONLY.to_string());
    }
    if memory.disable_oom_killer == Some(true) {
        asks.problem("memory.disableOOMKiller", V1_ONLY.to_string());
    }
    if memory.use_hierarchy == Some(false) {
        asks.warn("memory.useHierarchy", "cgroup v2 always counts child cgroups");
    }
    kernel_memory(asks, memory);
}

/// Limits of kernel memory have gone from the kernel itself, from either version of cgroups.
pub(super) fn kernel_memory(asks: &mut Asks, memory: &Memory) {
    for (value, field) in [(memory.kernel, "memory.kernel"), (memory.kernel_tcp, "memory.kernelTCP")] {
        if value.is_some_and(|value| value != 0) {
            asks.warn(field, "the limit of memory includes the kernel's, and has none of its own for it");
        }
    }
}

/// cpu.shares (2 to 262144, by default 1024) as cpu.weight (1 to 10000, by default 100).
///
/// A parabola through these three points on logarithmic scales: a container without shares must weigh as much as a process outside,
/// which a straight line does not give (1024 would become 39). Same numbers as runc 1.3 and crun 1.24, and newer.
pub fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log2 = (shares as f64).log2();
            let log10 = (log2 * log2 + 125.0 * log2) / 612.0 - 7.0 / 34.0;
            // The curve is above 1 from 2 on and below 10000 up to 262144.
            10f64.powf(log10).ceil() as u64
        }
    }
}

pub(super) fn cpu(asks: &mut Asks, resources: &Resources) {
    let Some(cpu) = &resources.cpu else { return };
    if let Some(shares) = shares(asks, cpu) {
        write(asks, "cpu.weight", weight_of_shares(shares), "cpu.shares");
    }
    idle(asks, Tree::V2, cpu);
    let quota = cpu.quota.unwrap_or(0);
    let period = cpu.period.unwrap_or(0);
    if quota != 0 || period != 0 {
        let mut value = if quota > 0 { quota.to_string() } else { "max".to_string() };
        if period != 0 {
            value = format!("{value} {period}");
        }
        write(asks, "cpu.max", value, if quota != 0 { "cpu.quota" } else { "cpu.period" }).harmless(quota <= 0);
    }
    // After the quota, which a saved-up burst cannot exceed.
    if let Some(burst) = cpu.burst {
        write(asks, "cpu.max.burst", burst, "cpu.burst").harmless(burst == 0);
    }
    let real_time = [
        (cpu.realtime_runtime.unwrap_or(0) != 0, "cpu.realtimeRuntime"),
        (cpu.realtime_period.unwrap_or(0) != 0, "cpu.realtimePeriod"),
    ];
    for (_, field) in real_time.into_iter().filter(|(asked, _)| *asked) {
        asks.problem(field, "cgroup v2 cannot limit real-time CPU time; leave the field out, or use a host with cgroup v1");
    }
}

/// The shares, where they mean anything: an idle cgroup has the least weight there is, and takes no other.
pub(super) fn shares(asks: &mut Asks, cpu: &Cpu) -> Option<u64> {
    let shares = cpu.shares.filter(|shares| *shares != 0)?;
    if cpu.idle == Some(1) {
        asks.warn("cpu.shares", "cpu.idle asks for the least weight there is");
        return None;
    }
    Some(shares)
}

/// cpu.idle has one name and one meaning in both versions.
pub(super) fn idle(asks: &mut Asks, tree: Tree, cpu: &Cpu) {
    match cpu.idle {
        None => {}
        Some(idle @ (0 | 1)) => asks.write(tree, "cpu.idle", idle, "cpu.idle").harmless(idle == 0),
        Some(other) => asks.problem("cpu.idle", format!("{other} is neither 0 (normal) nor 1 (SCHED_IDLE)")),
    }
}

pub(super) fn cpuset(asks: &mut Asks, resources: &Resources) {
    cpuset_in(asks, Tree::V2, resources);
}

/// The lists of CPUs and memory nodes have one name and one form in both versions.
pub(super) fn cpuset_in(asks: &mut Asks, tree: Tree, resources: &Resources) {
    let Some(cpu) = &resources.cpu else { return };
    for (list, file, field) in [(&cpu.cpus, "cpuset.cpus", "cpu.cpus"), (&cpu.mems, "cpuset.mems", "cpu.mems")] {
        if !list.trim().is_empty() {
            asks.write(tree, file, list.trim(), field);
        }
    }
}

pub(super) fn pids(asks: &mut Asks, resources: &Resources) {
    pids_in(asks, Tree::V2, resources);
}

/// pids.max has one name and one form in both versions.
pub(super) fn pids_in(asks: &mut Asks, tree: Tree, resources: &Resources) {
    match resources.pids.as_ref().and_then(|pids| pids.limit) {
        None => {}
        Some(limit) if limit < 0 => asks.write(tree, "pids.max", "max", "pids.limit").harmless(true),
        // The container's first process counts, so 0 means what 1 means; but 0 would refuse that process itself (clone3(2): EAGAIN).
        Some(limit) => asks.write(tree, "pids.max", limit.max(1), "pids.limit").harmless(false),
    }
}

/// blkio.weight (10 to 1000) as io.weight (1 to 10000).
pub fn io_weight_of_blkio(weight: u16) -> u64 {
    1 + (u64::from(weight.clamp(10, 1000)) - 10) * 9999 / 990
}

/// A weight in its range; 0 says nothing.
pub(super) fn weight(asks: &mut Asks, value: Option<u16>, field: &str) -> Option<u16> {
    match value.unwrap_or(0) {
        0 => None,
        weight @ 10..=1000 => Some(weight),
        other => {
            asks.problem(field, format!("{other} is not between 10 and 1000"));
            None
        }
    }
}

/// `major:minor`, where both are numbers that a device can have.
pub(super) fn device_number(asks: &mut Asks, major: i64, minor: i64, field: &str) -> Option<String> {
    for (number, limit, half) in [(major, 1 << 12, "major"), (minor, 1 << 20, "minor")] {
        if !(0..limit).contains(&number) {
            asks.problem(&format!("{field}.{half}"), format!("{number} is no {half} device number: 0 to {}", limit - 1));
            return None;
        }
    }
    Some(format!("{major}:{minor}"))
}

pub(super) fn io(asks: &mut Asks, resources: &Resources) {
    let Some(block_io) = &resources.block_io else { return };
    if let Some(weight) = weight(asks, block_io.weight, "blockIO.weight") {
        // Two schedulers of the kernel share time by weight, each with its file: BFQ and, without it, iocost.
        write(asks, "io.bfq.weight", weight, "blockIO.weight").absent =
            Absent::Instead { file: "io.weight".to_string(), value: io_weight_of_blkio(weight).to_string() };
    }
    for (index, entry) in block_io.weight_device.iter().enumerate() {
        let field = format!("blockIO.weightDevice[{index}]");
        let device = device_number(asks, entry.major, entry.minor, &field);
        if let (Some(device), Some(weight)) = (device, weight(asks, entry.weight, &format!("{field}.weight"))) {
            write(asks, "io.bfq.weight", format!("{device} {weight}"), &field).absent =
                Absent::Instead { file: "io.weight".to_string(), value: format!("{device} {}", io_weight_of_blkio(weight)) };
        }
        if entry.leaf_weight.unwrap_or(0) != 0 {
            asks.warn(&format!("{field}.leafWeight"), V1_ONLY);
        }
    }
    if block_io.leaf_weight.unwrap_or(0) != 0 {
        asks.warn("blockIO.leafWeight", V1_ONLY);
    }
    io_max(asks, block_io);
}

/// The four lists of rates, which the specification has by kind: with each its name here, in io.max, and in blkio.throttle.
pub(super) fn throttles(block_io: &BlockIo) -> [(&Vec<ThrottleDevice>, &'static str, &'static str, &'static str); 4] {
    [
        (&block_io.throttle_read_bps_device, "throttleReadBpsDevice", "rbps", "read_bps_device"),
        (&block_io.throttle_write_bps_device, "throttleWriteBpsDevice", "wbps", "write_bps_device"),
        (&block_io.throttle_read_iops_device, "throttleReadIOPSDevice", "riops", "read_iops_device"),
        (&block_io.throttle_write_iops_device, "throttleWriteIOPSDevice", "wiops", "write_iops_device"),
    ]
}

/// io.max has one line per device. A rate of 0 lifts the limit, as it does in cgroup v1.
fn io_max(asks: &mut Asks, block_io: &BlockIo) {
    let mut lines: Vec<(String, String, Vec<String>)> = Vec::new();
    for (list, name, key, _) in throttles(block_io) {
        for (index, entry) in list.iter().enumerate() {
            let field = format!("blockIO.{name}[{index}]");
            let Some(device) = device_number(asks, entry.major, entry.minor, &field) else { continue };
            let rate = if entry.rate == 0 { format!("{key}=max") } else { format!("{key}={}", entry.rate) };
            match lines.iter_mut().find(|(known, ..)| *known == device) {
                Some((_, _, rates)) => rates.push(rate),
                None => lines.push((device, field, vec![rate])),
            }
        }
    }
    for (device, field, rates) in lines {
        let lifted = rates.iter().all(|rate| rate.ends_with("=max"));
        write(asks, "io.max", format!("{device} {}", rates.join(" ")), &field).harmless(lifted);
    }
}

pub(super) fn hugetlb(asks: &mut Asks, resources: &Resources) {
    hugetlb_in(asks, resources, Tree::V2, ["max", "rsvd.max"]);
}

/// Two files per page size: what is in use, and what is reserved by mmap(2).
pub(super) fn hugetlb_in(asks: &mut Asks, resources: &Resources, tree: Tree, files: [&str; 2]) {
    for (index, entry) in resources.hugepage_limits.iter().enumerate() {
        let size = &entry.page_size;
        let number = ["KB", "MB", "GB"].iter().find_map(|unit| size.strip_suffix(unit)).unwrap_or_default();
        let plain = number.bytes().all(|byte| byte.is_ascii_digit()) && !number.is_empty() && !number.starts_with('0');
        if !plain {
            asks.problem(
                &format!("hugepageLimits[{index}].pageSize"),
                format!("{size:?} is no page size like \"2MB\" or \"1GB\""),
            );
            continue;
        }
        for file in files {
            asks.write(tree, &format!("hugetlb.{size}.{file}"), entry.limit, &format!("hugepageLimits[{index}].limit"));
        }
    }
}

pub(super) fn rdma(asks: &mut Asks, resources: &Resources) {
    rdma_in(asks, Tree::V2, resources);
}

/// rdma.max has one name and one form in both versions.
pub(super) fn rdma_in(asks: &mut Asks, tree: Tree, resources: &Resources) {
    for (device, limits) in &resources.rdma {
        let field = format!("rdma[{device:?}]");
        if device.is_empty() || device.contains(|byte: char| byte.is_whitespace() || byte.is_control()) {
            asks.problem(&field, "is no name of an RDMA device");
            continue;
        }
        let given = [("hca_handle", limits.hca_handles), ("hca_object", limits.hca_objects)];
        let words: Vec<String> = given.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", value?))).collect();
        if !words.is_empty() {
            asks.write(tree, "rdma.max", format!("{device} {}", words.join(" ")), &field);
        }
    }
}

pub(super) fn net_cls(asks: &mut Asks, resources: &Resources) {
    if resources.network.as_ref().and_then(|network| network.class_id).unwrap_or(0) != 0 {
        asks.warn("network.classID", V1_ONLY);
    }
}

pub(super) fn net_prio(asks: &mut Asks, resources: &Resources) {
    if resources.network.as_ref().is_some_and(|network| !network.priorities.is_empty()) {
        asks.warn("network.priorities", V1_ONLY);
    }
}

/// Core files of a cgroup by which the runtime itself holds, stops and finds the container's processes.
const OURS: Texts =
    texts!["cgroup.procs", "cgroup.threads", "cgroup.type", "cgroup.subtree_control", "cgroup.freeze", "cgroup.kill"];

/// `unified`: files by name, a value line by line. They come last and so have the last word.
pub(super) fn unified(asks: &mut Asks, resources: &Resources, host: &Host) {
    for (key, value) in &resources.unified {
        let field = format!("unified[{key:?}]");
        if host.cgroup == CgroupMode::Legacy {
            asks.problem(&field, "cannot use unified on cgroup v1: this host has no cgroup2 tree");
            continue;
        }
        if key.contains('/') {
            asks.problem(&field, format!("unified resource {key:?} must be a file name (no slashes)"));
            continue;
        }
        let controller = key.split('.').next().unwrap_or_default();
        if controller.is_empty() || controller.len() == key.len() || key.contains(|byte: char| !byte.is_ascii_graphic()) {
            asks.problem(&field, format!("unified resource {key:?} must be in the form CONTROLLER.PARAMETER"));
            continue;
        }
        if OURS.contains(key) {
            asks.problem(&field, format!("unified resource {key:?} is the runtime's own to write"));
            continue;
        }
        if controller != "cgroup" && !host.v2_controllers.iter().any(|name| name == controller) {
            let elsewhere = match host.cgroup {
                CgroupMode::Hybrid => " in the cgroup2 tree of this host, which mounts cgroup v1 too",
                _ => "",
            };
            asks.problem(
                &field,
                format!("unified resource {key:?} can't be set: controller {controller:?} not available{elsewhere}"),
            );
            continue;
        }
        let lines: Vec<&str> = value.split('\n').filter(|line| !line.trim().is_empty()).collect();
        if lines.is_empty() {
            asks.problem(&field, format!("unified resource {key:?} has no value"));
        }
        for line in lines {
            write(asks, key, line, &field);
        }
    }
}
