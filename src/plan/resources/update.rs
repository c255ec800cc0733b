// SPDX-License-Identifier: Apache-2.0
//! What `update` changes: the limits that a container has, with new ones over them. PURE. Called by `container::update`.

use crate::spec::types::{BlockIo, Cpu, HugepageLimit, Memory, Network, Resources};

/// The limits after the change: what the change does not name stays.
pub fn merged(now: &Resources, change: &Resources) -> Resources {
    let mut all = now.clone();
    if !change.devices.is_empty() {
        all.devices.clone_from(&change.devices);
    }
    if let Some(memory) = &change.memory {
        merge_memory(all.memory.get_or_insert_default(), memory);
    }
    if let Some(cpu) = &change.cpu {
        merge_cpu(all.cpu.get_or_insert_default(), cpu);
    }
    if let Some(pids) = change.pids.as_ref().filter(|pids| pids.limit.is_some()) {
        all.pids = Some(pids.clone());
    }
    if let Some(block_io) = &change.block_io {
        merge_block_io(all.block_io.get_or_insert_default(), block_io);
    }
    merge_by(&mut all.hugepage_limits, &change.hugepage_limits, |limit: &HugepageLimit| limit.page_size.clone());
    if let Some(Network { class_id, priorities }) = &change.network {
        let network = all.network.get_or_insert_default();
        network.class_id = class_id.or(network.class_id);
        merge_by(&mut network.priorities, priorities, |priority| priority.name.clone());
    }
    all.rdma.extend(change.rdma.clone());
    all.unified.extend(change.unified.clone());
    all
}

/// What has to be written for the change: itself, and of what the container has already what the kernel, or the difference between the
/// versions of cgroups, wants to have together with it.
pub fn to_write(change: &Resources, merged: &Resources) -> Resources {
    let mut write = change.clone();
    if let (Some(memory), Some(all)) = (&mut write.memory, &merged.memory) {
        // Memory and swap together, less memory, is the swap of cgroup2.
        if memory.limit.is_some() || memory.swap.is_some() {
            (memory.limit, memory.swap) = (all.limit, all.swap);
        }
    }
    if let (Some(cpu), Some(all)) = (&mut write.cpu, &merged.cpu) {
        // One file has both, and one without the other would mean the default for that.
        if cpu.quota.is_some() || cpu.period.is_some() {
            (cpu.quota, cpu.period) = (all.quota, all.period);
        }
    }
    if let (Some(block_io), Some(all)) = (&mut write.block_io, &merged.block_io) {
        // BFQ takes a new weight for all devices for that of each, and forgets what single ones had.
        if block_io.weight.is_some_and(|weight| weight != 0) {
            block_io.weight_device.clone_from(&all.weight_device);
        }
    }
    write
}

fn merge_memory(all: &mut Memory, change: &Memory) {
    let Memory {
        limit,
        reservation,
        swap,
        kernel,
        kernel_tcp,
        swappiness,
        disable_oom_killer,
        use_hierarchy,
        check_before_update,
    } = change;
    all.limit = limit.or(all.limit);
    all.reservation = reservation.or(all.reservation);
    all.swap = swap.or(all.swap);
    all.kernel = kernel.or(all.kernel);
    all.kernel_tcp = kernel_tcp.or(all.kernel_tcp);
    all.swappiness = swappiness.or(all.swappiness);
    all.disable_oom_killer = disable_oom_killer.or(all.disable_oom_killer);
    all.use_hierarchy = use_hierarchy.or(all.use_hierarchy);
    all.check_before_update = check_before_update.or(all.check_before_update);
}

fn merge_cpu(all: &mut Cpu, change: &Cpu) {
    let Cpu { shares, quota, burst, period, realtime_runtime, realtime_period, cpus, mems, idle } = change;
    // Zero is how engines say nothing.
    let not_zero = |value: &Option<u64>| value.filter(|value| *value != 0);
    all.shares = not_zero(shares).or(all.shares);
    all.quota = quota.filter(|quota| *quota != 0).or(all.quota);
    all.burst = burst.or(all.burst);
    all.period = not_zero(period).or(all.period);
    all.realtime_runtime = realtime_runtime.or(all.realtime_runtime);
    all.realtime_period = not_zero(realtime_period).or(all.realtime_period);
    all.idle = idle.or(all.idle);
    for (all, change) in [(&mut all.cpus, cpus), (&mut all.mems, mems)] {
        if !change.is_empty() {
            all.clone_from(change);
        }
    }
}

fn merge_block_io(all: &mut BlockIo, change: &BlockIo) {
    all.weight = change.weight.or(all.weight);
    all.leaf_weight = change.leaf_weight.or(all.leaf_weight);
    merge_by(&mut all.weight_device, &change.weight_device, |device| (device.major, device.minor));
    for (all, change) in [
        (&mut all.throttle_read_bps_device, &change.throttle_read_bps_device),
        (&mut all.throttle_write_bps_device, &change.throttle_write_bps_device),
        (&mut all.throttle_read_iops_device, &change.throttle_read_iops_device),
        (&mut all.throttle_write_iops_device, &change.throttle_write_iops_device),
    ] {
        merge_by(all, change, |device| (device.major, device.minor));
    }
}

/// Entries of the change take the place of those with the same key.
fn merge_by<T: Clone, K: PartialEq>(all: &mut Vec<T>, change: &[T], key: impl Fn(&T) -> K) {
    all.retain(|old| !change.iter().any(|new| key(new) == key(old)));
    all.extend(change.iter().cloned());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::types::Pids;

    #[test]
    fn what_is_not_named_stays_and_pairs_are_written_together() {
        let now = Resources {
            memory: Some(Memory { limit: Some(100), swap: Some(150), reservation: Some(50), ..Memory::default() }),
            cpu: Some(Cpu { quota: Some(5000), period: Some(10_000), cpus: "0".into(), ..Cpu::default() }),
            unified: [("memory.high".to_string(), "9".to_string())].into(),
            ..Resources::default()
        };
        let change = Resources {
            memory: Some(Memory { limit: Some(120), ..Memory::default() }),
            cpu: Some(Cpu { quota: Some(7000), period: Some(0), ..Cpu::default() }),
            pids: Some(Pids { limit: Some(7) }),
            ..Resources::default()
        };
        let all = merged(&now, &change);
        let memory = all.memory.clone().unwrap();
        assert_eq!((memory.limit, memory.swap, memory.reservation), (Some(120), Some(150), Some(50)));
        let cpu = all.cpu.clone().unwrap();
        assert_eq!((cpu.quota, cpu.period, cpu.cpus.as_str()), (Some(7000), Some(10_000), "0"));
        let write = to_write(&change, &all);
        assert_eq!((write.memory.clone().unwrap().swap, write.memory.unwrap().reservation), (Some(150), None));
        assert_eq!((write.cpu.clone().unwrap().period, write.cpu.unwrap().cpus.as_str()), (Some(10_000), ""));
        assert!(write.unified.is_empty() && all.unified.len() == 1 && all.pids.unwrap().limit == Some(7));
    }

    #[test]
    fn weights_of_devices_are_written_again_with_that_of_all() {
        let now: Resources =
            serde_json::from_str(r#"{"blockIO":{"weight":300,"weightDevice":[{"major":7,"minor":0,"weight":700}]}}"#).unwrap();
        let written = |change: &str| {
            let change: Resources = serde_json::from_str(change).unwrap();
            to_write(&change, &merged(&now, &change)).block_io.unwrap().weight_device.len()
        };
        assert_eq!(written(r#"{"blockIO":{"weight":400}}"#), 1);
        assert_eq!(written(r#"{"blockIO":{"weight":0}}"#), 0);
    }

    #[test]
    fn devices_of_the_change_take_the_place_of_the_same_ones() {
        let mut list = vec![(1, 'a'), (2, 'b')];
        merge_by(&mut list, &[(2, 'c'), (3, 'd')], |entry| entry.0);
        assert_eq!(list, [(1, 'a'), (2, 'c'), (3, 'd')]);
    }
}
