// SPDX-License-Identifier: Apache-2.0
//! `linux` of config.json (config-linux.md), without its resources and seccomp profile.

use std::collections::BTreeMap;

use super::{IdMapping, Resources, Seccomp, object};

object! {
    /// What only Linux has.
    pub struct Linux {
        /// User ids of a new user namespace.
        uid_mappings: Vec<IdMapping> = "uidMappings",
        /// Group ids of a new user namespace.
        gid_mappings: Vec<IdMapping> = "gidMappings",
        /// Kernel parameters (`net.ipv4.ip_forward`), by name.
        sysctl: BTreeMap<String, String> = "sysctl",
        /// Limits, through the cgroup.
        resources: Option<Resources> = "resources",
        /// The container's cgroup: a path, or `slice:prefix:name` for systemd; empty means the runtime's choice.
        cgroups_path: String = "cgroupsPath",
        /// Namespaces to create or join, one of each type at most.
        namespaces: Vec<Namespace> = "namespaces",
        /// Device nodes to make.
        devices: Vec<Device> = "devices",
        /// Network devices of the host to move into the container, by their name there.
        net_devices: BTreeMap<String, NetDevice> = "netDevices",
        /// The system call filter.
        seccomp: Option<Seccomp> = "seccomp",
        /// Mount propagation of the root: `shared`, `slave`, `private`, `unbindable`, or those with r; empty means the runtime's choice.
        rootfs_propagation: String = "rootfsPropagation",
        /// Paths to hide inside the container: absolute.
        masked_paths: Vec<String> = "maskedPaths",
        /// Paths to make read-only inside the container: absolute.
        readonly_paths: Vec<String> = "readonlyPaths",
        /// The SELinux context of the mounts.
        mount_label: String = "mountLabel",
        /// Resource director: cache and memory bandwidth (resctrl).
        intel_rdt: Option<IntelRdt> = "intelRdt",
        /// The default memory policy (set_mempolicy(2)).
        memory_policy: Option<MemoryPolicy> = "memoryPolicy",
        /// The execution domain (personality(2)).
        personality: Option<Personality> = "personality",
        /// Clock offsets of a new time namespace, by clock: `boottime`, `monotonic`.
        time_offsets: BTreeMap<String, TimeOffset> = "timeOffsets",
    }

    /// One namespace (namespaces(7)).
    pub struct Namespace {
        /// `pid`, `network`, `mount`, `ipc`, `uts`, `user`, `cgroup` or `time`.
        kind: String = "type",
        /// The namespace to join; empty means a new one.
        path: String = "path",
    }

    /// The offset of a clock: secs + nanosecs.
    pub struct TimeOffset {
        /// Seconds.
        secs: i64 = "secs",
        /// Nanoseconds, less than 1 000 000 000.
        nanosecs: u32 = "nanosecs",
    }

    /// One device node (mknod(2)).
    pub struct Device {
        /// `c`, `b`, `u` (as c) or `p`.
        kind: String = "type",
        /// Where, inside the container.
        path: String = "path",
        /// Of no meaning for `p`.
        major: Option<i64> = "major",
        /// Of no meaning for `p`.
        minor: Option<i64> = "minor",
        /// Permission bits; absent means the runtime's choice.
        file_mode: Option<u32> = "fileMode",
        /// Owner in the container's user namespace; absent means 0.
        uid: Option<u32> = "uid",
        /// Group in the container's user namespace; absent means 0.
        gid: Option<u32> = "gid",
    }

    /// One network device to move.
    pub struct NetDevice {
        /// Its name inside the container; empty means unchanged.
        name: String = "name",
    }

    /// Resource director (resctrl, Documentation/arch/x86/resctrl.rst).
    pub struct IntelRdt {
        /// The class of service: a directory of resctrl; empty means the container's id.
        clos_id: String = "closID",
        /// Lines for its `schemata` file.
        schemata: Vec<String> = "schemata",
        /// The line of L3 cache allocation.
        l3_cache_schema: String = "l3CacheSchema",
        /// The line of memory bandwidth allocation.
        mem_bw_schema: String = "memBwSchema",
        /// Whether to make a monitoring group for the container.
        enable_monitoring: bool = "enableMonitoring",
    }

    /// The default memory policy (set_mempolicy(2)).
    pub struct MemoryPolicy {
        /// `MPOL_DEFAULT`, `MPOL_BIND`, …
        mode: String = "mode",
        /// A list of memory nodes: `0-3,7`.
        nodes: String = "nodes",
        /// `MPOL_F_STATIC_NODES`, …
        flags: Vec<String> = "flags",
    }

    /// The execution domain (personality(2)).
    pub struct Personality {
        /// `LINUX` or `LINUX32`.
        domain: String = "domain",
        /// None is defined so far.
        flags: Vec<String> = "flags",
    }
}

impl Linux {
    /// True when the container has a namespace of this type (`uts`) that it does not inherit: a new one or one that it joins.
    pub fn has_namespace(&self, kind: &str) -> bool {
        self.namespaces.iter().any(|namespace| namespace.kind == kind)
    }
}
