// SPDX-License-Identifier: Apache-2.0
//! config-linux.md.
mod cgroup_ownership;
mod cgroups;
mod devices;
mod namespaces;
mod net_devices;
mod rdt;
mod resources;
mod seccomp;
mod seccomp_agent;

use crate::entry::Section;

pub const SECTIONS: &[Section] = &[
    namespaces::DEFAULT_FILESYSTEMS,
    namespaces::NAMESPACES,
    namespaces::USER_MAPPINGS,
    devices::DEVICES,
    devices::DEFAULT_DEVICES,
    net_devices::DEVICES,
    net_devices::TERMINATION,
    cgroups::CONTROL_GROUPS,
    cgroups::PATH,
    cgroup_ownership::OWNERSHIP,
    cgroups::ALLOWED_DEVICES,
    resources::MEMORY,
    resources::CPU,
    resources::BLOCK_IO,
    resources::PIDS,
    resources::RDMA,
    resources::UNIFIED,
    rdt::INTEL_RDT,
    seccomp::SECCOMP,
    seccomp_agent::SECCOMP,
    seccomp_agent::PROCESS_STATE,
    seccomp::MASKED_PATHS,
    seccomp::READONLY_PATHS,
];
