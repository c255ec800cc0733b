// SPDX-License-Identifier: Apache-2.0
//! Limits in the words of cgroup v1 (Documentation/admin-guide/cgroup-v1/), for hosts that still mount its hierarchies.
//!
//! Called by [`super::limits`], one function per controller, for those that the cgroup2 tree does not have.

use super::{Absent, Asks, CgroupWrite, Tree, v2};
use crate::plan::devices_filter::{self, Major, Rule, access};
use crate::spec::Problem;
use crate::spec::types::{Memory, Resources};

/// Asks for a write into a cgroup v1 hierarchy.
fn write<'a>(asks: &'a mut Asks, file: &str, value: impl ToString, field: &str) -> &'a mut CgroupWrite {
    asks.write(Tree::V1, file, value, field)
}

pub(super) fn memory(asks: &mut Asks, resources: &Resources) {
    let Some(memory) = &resources.memory else { return };
    let limit = v2::bytes(asks, memory.limit, "memory.limit", "-1");
    let reservation = v2::bytes(asks, memory.reservation, "memory.reservation", "-1");
    let swap = v2::bytes(asks, memory.swap, "memory.swap", "-1");
    if let (Some(limit), Some(swap)) = (memory.limit, memory.swap)
        && swap > 0
        && swap < limit
    {
        asks.problem("memory.swap", format!("memory+swap limit {swap} should be >= memory limit {limit}"));
    }
    let check = memory.check_before_update == Some(true);
    let unless_used = |limit: Option<i64>| limit.filter(|limit| check && *limit > 0).map(i64::unsigned_abs);
    // The limit of memory is never above that of both together, so which of the two goes first depends on what is set now: the hands
    // write again, at the end, what was refused as invalid.
    if let Some(limit) = &limit {
        let write = write(asks, "memory.limit_in_bytes", limit, "memory.limit");
        write.unless_used = unless_used(memory.limit);
        write.harmless(limit == "-1");
    }
    match swap {
        Some(swap) => {
            let write = write(asks, "memory.memsw.limit_in_bytes", &swap, "memory.swap");
            write.unless_used = unless_used(memory.swap);
            write.harmless(swap == "-1");
        }
        None if memory.limit == Some(-1) => write(asks, "memory.memsw.limit_in_bytes", "-1", "memory.limit").harmless(true),
        None => {}
    }
    if let Some(reservation) = reservation {
        let unlimited = reservation == "-1";
        write(asks, "memory.soft_limit_in_bytes", reservation, "memory.reservation").harmless(unlimited);
    }
    memory_of_v1_only(asks, memory);
}

fn memory_of_v1_only(asks: &mut Asks, memory: &Memory) {
    match memory.swappiness {
        None => {}
        Some(swappiness @ 0..=100) => {
            write(asks, "memory.swappiness", swappiness, "memory.swappiness");
        }
        // Engines say "not set" by the largest number there is.
        Some(u64::MAX) => {}
        Some(other) => asks.problem("memory.swappiness", format!("{other} is not between 0 and 100")),
    }
    if memory.disable_oom_killer == Some(true) {
        write(asks, "memory.oom_control", 1, "memory.disableOOMKiller");
    }
    if memory.use_hierarchy == Some(false) {
        asks.warn("memory.useHierarchy", "the kernel always counts child cgroups");
    }
    v2::kernel_memory(asks, memory);
}

pub(super) fn cpu(asks: &mut Asks, resources: &Resources) {
    let Some(cpu) = &resources.cpu else { return };
    match v2::shares(asks, cpu) {
        None => {}
        Some(shares @ 2..=262_144) => {
            write(asks, "cpu.shares", shares, "cpu.shares");
        }
        // The kernel would take the nearest. In runc's words, which scripts look for.
        Some(0..2) => asks.problem("cpu.shares", "the minimum allowed cpu-shares is 2"),
        Some(_) => asks.problem("cpu.shares", "the maximum allowed cpu-shares is 262144"),
    }
    v2::idle(asks, Tree::V1, cpu);
    if let Some(period) = cpu.realtime_period.filter(|period| *period != 0) {
        write(asks, "cpu.rt_period_us", period, "cpu.realtimePeriod");
    }
    if let Some(runtime) = cpu.realtime_runtime.filter(|runtime| *runtime != 0) {
        write(asks, "cpu.rt_runtime_us", runtime, "cpu.realtimeRuntime");
    }
    if let Some(period) = cpu.period.filter(|period| *period != 0) {
        write(asks, "cpu.cfs_period_us", period, "cpu.period");
    }
    if let Some(quota) = cpu.quota.filter(|quota| *quota != 0) {
        write(asks, "cpu.cfs_quota_us", quota.max(-1), "cpu.quota").harmless(quota < 0);
    }
    if let Some(burst) = cpu.burst {
        write(asks, "cpu.cfs_burst_us", burst, "cpu.burst").harmless(burst == 0);
    }
}

pub(super) fn cpuset(asks: &mut Asks, resources: &Resources) {
    v2::cpuset_in(asks, Tree::V1, resources);
}

pub(super) fn pids(asks: &mut Asks, resources: &Resources) {
    v2::pids_in(asks, Tree::V1, resources);
}

pub(super) fn hugetlb(asks: &mut Asks, resources: &Resources) {
    v2::hugetlb_in(asks, resources, Tree::V1, ["limit_in_bytes", "rsvd.limit_in_bytes"]);
}

pub(super) fn rdma(asks: &mut Asks, resources: &Resources) {
    v2::rdma_in(asks, Tree::V1, resources);
}

pub(super) fn blkio(asks: &mut Asks, resources: &Resources) {
    let Some(block_io) = &resources.block_io else { return };
    // blkio.weight was CFQ's and went with it; BFQ has its own, and no leaf weight.
    let instead = |file: &str, value: &str| Absent::Instead { file: file.to_string(), value: value.to_string() };
    if let Some(weight) = v2::weight(asks, block_io.weight, "blockIO.weight") {
        write(asks, "blkio.weight", weight, "blockIO.weight").absent = instead("blkio.bfq.weight", &weight.to_string());
    }
    if let Some(weight) = v2::weight(asks, block_io.leaf_weight, "blockIO.leafWeight") {
        write(asks, "blkio.leaf_weight", weight, "blockIO.leafWeight");
    }
    for (index, entry) in block_io.weight_device.iter().enumerate() {
        let field = format!("blockIO.weightDevice[{index}]");
        let Some(device) = v2::device_number(asks, entry.major, entry.minor, &field) else { continue };
        if let Some(weight) = v2::weight(asks, entry.weight, &format!("{field}.weight")) {
            let line = format!("{device} {weight}");
            write(asks, "blkio.weight_device", &line, &field).absent = instead("blkio.bfq.weight_device", &line);
        }
        if let Some(weight) = v2::weight(asks, entry.leaf_weight, &format!("{field}.leafWeight")) {
            write(asks, "blkio.leaf_weight_device", format!("{device} {weight}"), &field);
        }
    }
    for (list, name, _, file) in v2::throttles(block_io) {
        for (index, entry) in list.iter().enumerate() {
            let field = format!("blockIO.{name}[{index}]");
            let Some(device) = v2::device_number(asks, entry.major, entry.minor, &field) else { continue };
            write(asks, &format!("blkio.throttle.{file}"), format!("{device} {}", entry.rate), &field).harmless(entry.rate == 0);
        }
    }
}

pub(super) fn net_cls(asks: &mut Asks, resources: &Resources) {
    if let Some(class) = resources.network.as_ref().and_then(|network| network.class_id).filter(|class| *class != 0) {
        write(asks, "net_cls.classid", class, "network.classID");
    }
}

pub(super) fn net_prio(asks: &mut Asks, resources: &Resources) {
    let Some(network) = &resources.network else { return };
    for (index, entry) in network.priorities.iter().enumerate() {
        let field = format!("network.priorities[{index}]");
        if entry.name.is_empty() || entry.name.contains(|byte: char| byte.is_whitespace() || byte == '/') {
            asks.problem(&format!("{field}.name"), format!("{:?} is no name of a network interface", entry.name));
            continue;
        }
        write(asks, "net_prio.ifpriomap", format!("{} {}", entry.name, entry.priority), &field);
    }
}

/// Device rules for the `devices` controller, which knows only a list of what is granted: first nothing, then each entry of the table.
pub(super) fn devices(rules: &[Rule], at: &str) -> Result<Vec<CgroupWrite>, Vec<Problem>> {
    let table = devices_filter::table(rules);
    let mut asks = Asks::new(at);
    let everything = |majors: &[Major]| majors.len() == 1 && majors[0].minors.is_empty() && majors[0].others == access::ALL;
    if everything(&table.character) && everything(&table.block) {
        write(&mut asks, "devices.allow", "a", "devices");
        return Ok(asks.writes);
    }
    write(&mut asks, "devices.deny", "a", "devices");
    for (letter, majors) in [('c', &table.character), ('b', &table.block)] {
        let all = majors.last().map_or(0, |major| major.others);
        for major in majors {
            let number = major.number.map_or("*".to_string(), |number| number.to_string());
            // What the wider entry grants, the narrower one cannot take back.
            let wider = [(None, major.others, all)]
                .into_iter()
                .chain(major.minors.iter().map(|(minor, granted)| (Some(*minor), *granted, major.others | all)));
            for (minor, granted, above) in wider {
                let minor = minor.map_or("*".to_string(), |minor| minor.to_string());
                if above & !granted != 0 {
                    asks.problem(
                        "devices",
                        format!("cgroup v1 cannot deny {letter} {number}:{minor} a part of what a wider rule allows"),
                    );
                }
                if granted != 0 {
                    write(
                        &mut asks,
                        "devices.allow",
                        format!("{letter} {number}:{minor} {}", devices_filter::letters(granted)),
                        "devices",
                    );
                }
            }
        }
    }
    if asks.problems.is_empty() { Ok(asks.writes) } else { Err(asks.problems) }
}
