// SPDX-License-Identifier: Apache-2.0
//! Rules for `linux.resources` (config-linux.md, "Control groups"). What a cgroup version or driver cannot do is for the plan to say.

use super::{Rows, Verdict, interface_name};
use crate::spec::{At, BlockIo, Cpu, Memory, Resources, ThrottleDevice};

/// config-linux.md, "Allowed Device list" to "Unified".
pub(super) const RESOURCES: Rows<Resources> = rows![
    ("devices", device_rules),
    ("memory", |resources, at, verdict| {
        if let Some(memory) = &resources.memory {
            verdict.judge(MEMORY, memory, at);
        }
    }),
    ("cpu", |resources, at, verdict| {
        if let Some(cpu) = &resources.cpu {
            verdict.judge(CPU, cpu, at);
        }
    }),
    ("blockIO", |resources, at, verdict| {
        if let Some(block_io) = &resources.block_io {
            judge_block_io(block_io, at, verdict);
        }
    }),
    ("hugepageLimits", |resources, at, verdict| {
        for (which, limit) in resources.hugepage_limits.iter().enumerate() {
            if !is_page_size(&limit.page_size) {
                let rule = format!("{:?} is not a page size such as 64KB, 2MB or 1GB", limit.page_size);
                verdict.problem(&at.index(which).name("pageSize"), rule);
            }
        }
    }),
    ("network.priorities", |resources, at, verdict| {
        let priorities = resources.network.iter().flat_map(|network| &network.priorities);
        for (which, interface) in priorities.enumerate() {
            interface_name(&at.index(which).name("name"), &interface.name, verdict);
        }
    }),
    ("rdma", |resources, at, verdict| {
        for (device, limits) in &resources.rdma {
            if device.is_empty() || device.contains(|letter: char| letter.is_whitespace() || letter == '/') {
                verdict.problem(&at.key(device), format!("{device:?} is no name for a device"));
            }
            if limits.hca_handles.is_none() && limits.hca_objects.is_none() {
                verdict.problem(&at.key(device), "sets neither hcaHandles nor hcaObjects");
            }
        }
    }),
    ("unified", |resources, at, verdict| {
        for file in resources.unified.keys() {
            let plain = file.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
            if !plain || matches!(file.as_str(), "" | "." | "..") {
                verdict.problem(&at.key(file), format!("{file:?} is not the name of a cgroup file, such as memory.high"));
            }
        }
    }),
];

fn device_rules(resources: &Resources, at: &At, verdict: &mut Verdict) {
    for (which, rule) in resources.devices.iter().enumerate() {
        let at = &at.index(which);
        if !matches!(rule.kind.as_str(), "" | "a" | "b" | "c") {
            verdict.problem(&at.name("type"), format!("{:?} is unknown; known are a, b, c", rule.kind));
        }
        if rule.access.contains(|letter| !matches!(letter, 'r' | 'w' | 'm')) {
            verdict.problem(&at.name("access"), format!("{:?} is made of other letters than r, w and m", rule.access));
        }
        verdict.within(&at.name("major"), rule.major.unwrap_or(-1), -1, i64::from(u32::MAX));
        verdict.within(&at.name("minor"), rule.minor.unwrap_or(-1), -1, i64::from(u32::MAX));
    }
}

/// Bytes; -1 for no limit, and 0 as callers write it for "not set".
const MEMORY: Rows<Memory> = rows![
    ("limit", |memory, at, verdict| verdict.within(at, memory.limit.unwrap_or(0), -1, i64::MAX)),
    ("reservation", |memory, at, verdict| verdict.within(at, memory.reservation.unwrap_or(0), -1, i64::MAX)),
    ("swap", |memory, at, verdict| {
        verdict.within(at, memory.swap.unwrap_or(0), -1, i64::MAX);
        if let (Some(limit @ 1..), Some(swap @ 1..)) = (memory.limit, memory.swap)
            && swap < limit
        {
            verdict.problem(at, format!("{swap} is less than memory.limit {limit}, which it includes"));
        }
    }),
    ("swappiness", |memory, at, verdict| verdict.within(at, memory.swappiness.unwrap_or(0), 0, 100)),
];

/// Microseconds, with the bounds of the kernel (Documentation/scheduler/sched-bwc.rst); 0 as callers write it for "not set".
const CPU: Rows<Cpu> = rows![
    ("period", |cpu, at, verdict| {
        if let Some(period @ 1..) = cpu.period {
            verdict.within(at, period, 1000, 1_000_000);
        }
    }),
    ("quota", |cpu, at, verdict| {
        if let Some(quota @ 1..1000) = cpu.quota {
            verdict.problem(at, format!("{quota} is less than 1000"));
        }
    }),
    ("burst", |cpu, at, verdict| {
        if let (Some(quota @ 1..), Some(burst)) = (cpu.quota, cpu.burst)
            && burst > quota.unsigned_abs()
        {
            verdict.problem(at, format!("{burst} is more than cpu.quota {quota}"));
        }
    }),
    ("cpus", |cpu, at, verdict| verdict.number_list(at, &cpu.cpus)),
    ("mems", |cpu, at, verdict| verdict.number_list(at, &cpu.mems)),
    ("idle", |cpu, at, verdict| verdict.within(at, cpu.idle.unwrap_or(0), 0, 1)),
];

/// config-linux.md, "Block IO". 0 is what callers write for "not set".
fn judge_block_io(block_io: &BlockIo, at: &At, verdict: &mut Verdict) {
    weight(&at.name("weight"), block_io.weight, verdict);
    weight(&at.name("leafWeight"), block_io.leaf_weight, verdict);
    for (which, device) in block_io.weight_device.iter().enumerate() {
        let at = at.name("weightDevice");
        let at = &at.index(which);
        device_number(at, device.major, device.minor, verdict);
        weight(&at.name("weight"), device.weight, verdict);
        weight(&at.name("leafWeight"), device.leaf_weight, verdict);
        if device.weight.is_none() && device.leaf_weight.is_none() {
            verdict.problem(at, "sets neither weight nor leafWeight");
        }
    }
    let throttles: [(&str, &[ThrottleDevice]); 4] = [
        ("throttleReadBpsDevice", &block_io.throttle_read_bps_device),
        ("throttleWriteBpsDevice", &block_io.throttle_write_bps_device),
        ("throttleReadIOPSDevice", &block_io.throttle_read_iops_device),
        ("throttleWriteIOPSDevice", &block_io.throttle_write_iops_device),
    ];
    for (name, devices) in throttles {
        for (which, device) in devices.iter().enumerate() {
            device_number(&at.name(name).index(which), device.major, device.minor, verdict);
        }
    }
}

fn weight(at: &At, weight: Option<u16>, verdict: &mut Verdict) {
    if let Some(weight @ 1..) = weight {
        verdict.within(at, weight, 10, 1000);
    }
}

/// A device number as the kernel packs it: 12 bits and 20 bits (linux/kdev_t.h).
pub(super) fn device_number(at: &At, major: i64, minor: i64, verdict: &mut Verdict) {
    verdict.within(&at.name("major"), major, 0, (1 << 12) - 1);
    verdict.within(&at.name("minor"), minor, 0, (1 << 20) - 1);
}

/// `<size><unit-prefix>B`.
fn is_page_size(text: &str) -> bool {
    let size = ["KB", "MB", "GB"].iter().find_map(|unit| text.strip_suffix(unit));
    size.is_some_and(|size| size.bytes().all(|byte| byte.is_ascii_digit()) && size.parse::<u32>().is_ok_and(|size| size > 0))
}
