// SPDX-License-Identifier: Apache-2.0
//! `linux.resources` of config.json, which is also the whole of `update --resources FILE` (config-linux.md, "Control groups").

use std::collections::BTreeMap;

use super::object;

object! {
    /// Limits, through the cgroup. Absent means unchanged.
    pub struct Resources {
        /// Device access rules; a later one wins.
        devices: Vec<DeviceRule> = "devices",
        /// Memory.
        memory: Option<Memory> = "memory",
        /// CPU time and CPUs.
        cpu: Option<Cpu> = "cpu",
        /// Number of tasks.
        pids: Option<Pids> = "pids",
        /// Block devices.
        block_io: Option<BlockIo> = "blockIO",
        /// Huge pages, by size.
        hugepage_limits: Vec<HugepageLimit> = "hugepageLimits",
        /// Marks of network packets; cgroup v1 only.
        network: Option<Network> = "network",
        /// RDMA, by device name.
        rdma: BTreeMap<String, Rdma> = "rdma",
        /// Files of cgroup v2 and what to write into them.
        unified: BTreeMap<String, String> = "unified",
    }

    /// Memory. All in bytes; -1 means no limit.
    pub struct Memory {
        /// The limit.
        limit: Option<i64> = "limit",
        /// The soft limit.
        reservation: Option<i64> = "reservation",
        /// The limit of memory and swap together.
        swap: Option<i64> = "swap",
        /// Kernel memory; deprecated, ignored.
        kernel: Option<i64> = "kernel",
        /// Kernel memory for TCP; deprecated, ignored.
        kernel_tcp: Option<i64> = "kernelTCP",
        /// 0 to 100; cgroup v1 only.
        swappiness: Option<u64> = "swappiness",
        /// Pause tasks instead of killing one; cgroup v1 only.
        disable_oom_killer: Option<bool> = "disableOOMKiller",
        /// Count child cgroups; cgroup v1 only.
        use_hierarchy: Option<bool> = "useHierarchy",
        /// Refuse an update to less than what is in use.
        check_before_update: Option<bool> = "checkBeforeUpdate",
    }

    /// CPU time and CPUs.
    pub struct Cpu {
        /// Share of time, relative to other cgroups, as of cgroup v1: 2 to 262144.
        shares: Option<u64> = "shares",
        /// Microseconds per period; -1 means no limit.
        quota: Option<i64> = "quota",
        /// Microseconds a cgroup may save up beyond its quota.
        burst: Option<u64> = "burst",
        /// Microseconds.
        period: Option<u64> = "period",
        /// Microseconds of real-time running per period; cgroup v1 only.
        realtime_runtime: Option<i64> = "realtimeRuntime",
        /// Microseconds; cgroup v1 only.
        realtime_period: Option<u64> = "realtimePeriod",
        /// CPUs to run on: `0-3,7`; empty means any.
        cpus: String = "cpus",
        /// Memory nodes to use: `0-3,7`; empty means any.
        mems: String = "mems",
        /// 1 for SCHED_IDLE, 0 for normal.
        idle: Option<i64> = "idle",
    }

    /// Number of tasks.
    pub struct Pids {
        /// The most there may be; -1 means no limit.
        limit: Option<i64> = "limit",
    }

    /// Block devices.
    pub struct BlockIo {
        /// Share, relative to other cgroups: 10 to 1000.
        weight: Option<u16> = "weight",
        /// The same against child cgroups; cgroup v1 only.
        leaf_weight: Option<u16> = "leafWeight",
        /// Shares by device.
        weight_device: Vec<WeightDevice> = "weightDevice",
        /// Bytes per second read.
        throttle_read_bps_device: Vec<ThrottleDevice> = "throttleReadBpsDevice",
        /// Bytes per second written.
        throttle_write_bps_device: Vec<ThrottleDevice> = "throttleWriteBpsDevice",
        /// Reads per second.
        throttle_read_iops_device: Vec<ThrottleDevice> = "throttleReadIOPSDevice",
        /// Writes per second.
        throttle_write_iops_device: Vec<ThrottleDevice> = "throttleWriteIOPSDevice",
    }

    /// Marks of network packets; cgroup v1 only.
    pub struct Network {
        /// net_cls.classid.
        class_id: Option<u32> = "classID",
        /// net_prio.ifpriomap.
        priorities: Vec<InterfacePriority> = "priorities",
    }

    /// RDMA of one device; absent means no limit.
    pub struct Rdma {
        /// HCA handles.
        hca_handles: Option<u32> = "hcaHandles",
        /// HCA objects.
        hca_objects: Option<u32> = "hcaObjects",
    }

    /// The share of one block device.
    pub struct WeightDevice {
        /// Device number.
        major: i64 = "major" required,
        /// Device number.
        minor: i64 = "minor" required,
        /// 10 to 1000.
        weight: Option<u16> = "weight",
        /// The same against child cgroups; cgroup v1 only.
        leaf_weight: Option<u16> = "leafWeight",
    }

    /// One device access rule.
    #[derive(Eq)]
    pub struct DeviceRule {
        /// Allow, or else deny.
        allow: bool = "allow" required,
        /// `c`, `b`, or `a` for all; empty means all.
        kind: String = "type",
        /// Absent or -1 means all.
        major: Option<i64> = "major",
        /// Absent or -1 means all.
        minor: Option<i64> = "minor",
        /// Of `r`, `w` and `m` (mknod); empty means all.
        access: String = "access",
    }

    /// The rate of one block device.
    #[derive(Copy, Eq)]
    pub struct ThrottleDevice {
        /// Device number.
        major: i64 = "major" required,
        /// Device number.
        minor: i64 = "minor" required,
        /// Bytes or operations per second.
        rate: u64 = "rate" required,
    }

    /// The limit of one size of huge pages.
    #[derive(Eq)]
    pub struct HugepageLimit {
        /// `2MB`, `1GB`, …
        page_size: String = "pageSize" required,
        /// Bytes.
        limit: u64 = "limit" required,
    }

    /// The priority of one network interface.
    #[derive(Eq)]
    pub struct InterfacePriority {
        /// The interface.
        name: String = "name" required,
        /// Its priority.
        priority: u32 = "priority" required,
    }
}
