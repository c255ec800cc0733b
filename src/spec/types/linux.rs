// SPDX-License-Identifier: Apache-2.0
//! `linux` of config.json (config-linux.md), without its resources and seccomp profile.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Field, IdMapping, Resources, Seccomp, object};

object! {
    /// What only Linux has.
    pub struct Linux {
        /// Namespaces to create or join, one of each type at most.
        namespaces: Vec<Namespace>,
        /// User ids of a new user namespace.
        uid_mappings: Vec<IdMapping>,
        /// Group ids of a new user namespace.
        gid_mappings: Vec<IdMapping>,
        /// Clock offsets of a new time namespace, by clock: `boottime`, `monotonic`.
        time_offsets: BTreeMap<String, TimeOffset>,
        /// Device nodes to make.
        devices: Vec<Device>,
        /// Network devices of the host to move into the container, by their name there.
        net_devices: BTreeMap<String, NetDevice>,
        /// The container's cgroup: a path, or `slice:prefix:name` for systemd; empty means the runtime's choice.
        cgroups_path: String,
        /// Limits, through the cgroup.
        resources: Option<Resources>,
        /// Resource director: cache and memory bandwidth (resctrl).
        intel_rdt: Option<IntelRdt>,
        /// The default memory policy (set_mempolicy(2)).
        memory_policy: Option<MemoryPolicy>,
        /// Kernel parameters (`net.ipv4.ip_forward`), by name.
        sysctl: BTreeMap<String, String>,
        /// The system call filter.
        seccomp: Option<Seccomp>,
        /// Mount propagation of the root: `shared`, `slave`, `private`, `unbindable`, or those with r; empty means the runtime's choice.
        rootfs_propagation: String,
        /// Paths to hide inside the container: absolute.
        masked_paths: Vec<String>,
        /// Paths to make read-only inside the container: absolute.
        readonly_paths: Vec<String>,
        /// The SELinux context of the mounts.
        mount_label: String,
        /// The execution domain (personality(2)).
        personality: Option<Personality>,
    }

    /// One namespace (namespaces(7)).
    pub struct Namespace {
        /// `pid`, `network`, `mount`, `ipc`, `uts`, `user`, `cgroup` or `time`.
        #[serde(rename = "type")]
        kind: String,
        /// The namespace to join; empty means a new one.
        path: String,
    }

    /// The offset of a clock: secs + nanosecs.
    pub struct TimeOffset {
        /// Seconds.
        secs: i64,
        /// Nanoseconds, less than 1 000 000 000.
        nanosecs: u32,
    }

    /// One device node (mknod(2)).
    pub struct Device {
        /// `c`, `b`, `u` (as c) or `p`.
        #[serde(rename = "type")]
        kind: String,
        /// Where, inside the container.
        path: String,
        /// Of no meaning for `p`.
        major: Option<i64>,
        /// Of no meaning for `p`.
        minor: Option<i64>,
        /// Permission bits; absent means the runtime's choice.
        file_mode: Option<u32>,
        /// Owner in the container's user namespace; absent means 0.
        uid: Option<u32>,
        /// Group in the container's user namespace; absent means 0.
        gid: Option<u32>,
    }

    /// One network device to move.
    pub struct NetDevice {
        /// Its name inside the container; empty means unchanged.
        name: String,
    }

    /// Resource director (resctrl, Documentation/arch/x86/resctrl.rst).
    pub struct IntelRdt {
        /// The class of service: a directory of resctrl; empty means the container's id.
        #[serde(rename = "closID")]
        clos_id: String,
        /// Lines for its `schemata` file.
        schemata: Vec<String>,
        /// The line of L3 cache allocation.
        l3_cache_schema: String,
        /// The line of memory bandwidth allocation.
        mem_bw_schema: String,
        /// Whether to make a monitoring group for the container.
        enable_monitoring: bool,
    }

    /// The default memory policy (set_mempolicy(2)).
    pub struct MemoryPolicy {
        /// `MPOL_DEFAULT`, `MPOL_BIND`, …
        mode: String,
        /// A list of memory nodes: `0-3,7`.
        nodes: String,
        /// `MPOL_F_STATIC_NODES`, …
        flags: Vec<String>,
    }

    /// The execution domain (personality(2)).
    pub struct Personality {
        /// `LINUX` or `LINUX32`.
        domain: String,
        /// None is defined so far.
        flags: Vec<String>,
    }
}
