// SPDX-License-Identifier: Apache-2.0
//! `linux.resources` of config.json, which is also the whole of `update --resources FILE` (config-linux.md, "Control groups").

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Field, object};

object! {
    /// Limits, through the cgroup. Absent means unchanged.
    pub struct Resources {
        /// Device access rules; a later one wins.
        devices: Vec<DeviceRule>,
        /// Memory.
        memory: Option<Memory>,
        /// CPU time and CPUs.
        cpu: Option<Cpu>,
        /// Number of tasks.
        pids: Option<Pids>,
        /// Block devices.
        #[serde(rename = "blockIO")]
        block_io: Option<BlockIo>,
        /// Huge pages, by size.
        hugepage_limits: Vec<HugepageLimit>,
        /// Marks of network packets; cgroup v1 only.
        network: Option<Network>,
        /// RDMA, by device name.
        rdma: BTreeMap<String, Rdma>,
        /// Files of cgroup v2 and what to write into them.
        unified: BTreeMap<String, String>,
    }

    /// Memory. All in bytes; -1 means no limit.
    pub struct Memory {
        /// The limit.
        limit: Option<i64>,
        /// The soft limit.
        reservation: Option<i64>,
        /// The limit of memory and swap together.
        swap: Option<i64>,
        /// Kernel memory; deprecated, ignored.
        kernel: Option<i64>,
        /// Kernel memory for TCP; deprecated, ignored.
        #[serde(rename = "kernelTCP")]
        kernel_tcp: Option<i64>,
        /// 0 to 100; cgroup v1 only.
        swappiness: Option<u64>,
        /// Pause tasks instead of killing one; cgroup v1 only.
        #[serde(rename = "disableOOMKiller")]
        disable_oom_killer: Option<bool>,
        /// Count child cgroups; cgroup v1 only.
        use_hierarchy: Option<bool>,
        /// Refuse an update to less than what is in use.
        check_before_update: Option<bool>,
    }

    /// CPU time and CPUs.
    pub struct Cpu {
        /// Share of time, relative to other cgroups, as of cgroup v1: 2 to 262144.
        shares: Option<u64>,
        /// Microseconds per period; -1 means no limit.
        quota: Option<i64>,
        /// Microseconds a cgroup may save up beyond its quota.
        burst: Option<u64>,
        /// Microseconds.
        period: Option<u64>,
        /// Microseconds of real-time running per period; cgroup v1 only.
        realtime_runtime: Option<i64>,
        /// Microseconds; cgroup v1 only.
        realtime_period: Option<u64>,
        /// CPUs to run on: `0-3,7`; empty means any.
        cpus: String,
        /// Memory nodes to use: `0-3,7`; empty means any.
        mems: String,
        /// 1 for SCHED_IDLE, 0 for normal.
        idle: Option<i64>,
    }

    /// Number of tasks.
    pub struct Pids {
        /// The most there may be; -1 means no limit.
        limit: Option<i64>,
    }

    /// Block devices.
    pub struct BlockIo {
        /// Share, relative to other cgroups: 10 to 1000.
        weight: Option<u16>,
        /// The same against child cgroups; cgroup v1 only.
        leaf_weight: Option<u16>,
        /// Shares by device.
        weight_device: Vec<WeightDevice>,
        /// Bytes per second read.
        throttle_read_bps_device: Vec<ThrottleDevice>,
        /// Bytes per second written.
        throttle_write_bps_device: Vec<ThrottleDevice>,
        /// Reads per second.
        #[serde(rename = "throttleReadIOPSDevice")]
        throttle_read_iops_device: Vec<ThrottleDevice>,
        /// Writes per second.
        #[serde(rename = "throttleWriteIOPSDevice")]
        throttle_write_iops_device: Vec<ThrottleDevice>,
    }

    /// Marks of network packets; cgroup v1 only.
    pub struct Network {
        /// net_cls.classid.
        #[serde(rename = "classID")]
        class_id: Option<u32>,
        /// net_prio.ifpriomap.
        priorities: Vec<InterfacePriority>,
    }

    /// RDMA of one device; absent means no limit.
    pub struct Rdma {
        /// HCA handles.
        hca_handles: Option<u32>,
        /// HCA objects.
        hca_objects: Option<u32>,
    }

    /// The share of one block device.
    pub struct WeightDevice {
        /// Device number.
        major: i64,
        /// Device number.
        minor: i64,
        /// 10 to 1000.
        weight: Option<u16>,
        /// The same against child cgroups; cgroup v1 only.
        leaf_weight: Option<u16>,
    }
}

/// One device access rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct DeviceRule {
    /// Allow, or else deny.
    pub allow: bool,
    /// `c`, `b`, or `a` for all; empty means all.
    #[serde(rename = "type", default, deserialize_with = "Field::read", skip_serializing_if = "Field::is_absent")]
    pub kind: String,
    /// Absent or -1 means all.
    #[serde(default, deserialize_with = "Field::read", skip_serializing_if = "Field::is_absent")]
    pub major: Option<i64>,
    /// Absent or -1 means all.
    #[serde(default, deserialize_with = "Field::read", skip_serializing_if = "Field::is_absent")]
    pub minor: Option<i64>,
    /// Of `r`, `w` and `m` (mknod); empty means all.
    #[serde(default, deserialize_with = "Field::read", skip_serializing_if = "Field::is_absent")]
    pub access: String,
}

/// The rate of one block device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct ThrottleDevice {
    /// Device number.
    pub major: i64,
    /// Device number.
    pub minor: i64,
    /// Bytes or operations per second.
    pub rate: u64,
}

/// The limit of one size of huge pages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HugepageLimit {
    /// `2MB`, `1GB`, …
    pub page_size: String,
    /// Bytes.
    pub limit: u64,
}

/// The priority of one network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct InterfacePriority {
    /// The interface.
    pub name: String,
    /// Its priority.
    pub priority: u32,
}
