// SPDX-License-Identifier: Apache-2.0
//! Facts about this host, as one plain value: filled by `container::host` from `linux::probe`, by hand in tests.
//!
//! Nothing here decides anything; the plan does, from these facts.

use crate::linux::types::{CapSet, CgroupMode, KernelVersion};
use crate::plan::resources::{UserManager, V1Hierarchy};

/// What the plan needs to know of the kernel and of who is asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The running kernel.
    pub kernel: KernelVersion,
    /// Effective user id of the runtime.
    pub euid: u32,
    /// Effective group id of the runtime.
    pub egid: u32,
    /// Whether the runtime is in the initial user namespace.
    pub initial_user_namespace: bool,
    /// Whether the runtime's mount namespace belongs to its user namespace, so that it may copy mounts for a container.
    pub owns_mount_namespace: bool,
    /// How many mounts the runtime sees, counted up to [`MANY_MOUNTS`] where that says something; else 0.
    pub mounts: usize,
    /// The root directory is of a filesystem in memory, which may be the first one, below all mounts.
    pub root_in_memory: bool,
    /// Effective capabilities of the runtime.
    pub capabilities: CapSet,
    /// Number of the last capability that this kernel knows, or that can be in the runtime's bounding set.
    pub last_capability: u8,
    /// Where the cgroup trees are.
    pub cgroup: CgroupMode,
    /// The runtime's own cgroup in the cgroup2 tree: `/user.slice/x.scope`.
    pub own_cgroup: String,
    /// Controllers that the root of the cgroup2 tree offers: `memory`, `pids`, …
    pub v2_controllers: Vec<String>,
    /// The cgroup v1 hierarchies that are mounted.
    pub v1_hierarchies: Vec<V1Hierarchy>,
    /// The user's systemd, where it can be reached and the runtime is not privileged.
    pub user_manager: Option<UserManager>,
    /// setgroups(2) is denied in this user namespace, and so in those below it; user_namespaces(7).
    pub setgroups_denied: bool,
    /// newuidmap(1), where it is installed.
    pub newuidmap: Option<String>,
    /// newgidmap(1), where it is installed.
    pub newgidmap: Option<String>,
    /// AppArmor is enabled.
    pub apparmor: bool,
    /// SELinux is enabled.
    pub selinux: bool,
}

impl Host {
    /// Whether the runtime is root over the whole machine: only then are host ids, host devices and other owners' namespaces its own.
    pub fn privileged(&self) -> bool {
        self.euid == 0 && self.initial_user_namespace
    }

    /// A present-day machine with root and all of cgroup2; tests and fuzz targets change what they are about.
    pub fn example() -> Host {
        Host {
            kernel: KernelVersion { major: 6, minor: 12 },
            euid: 0,
            egid: 0,
            initial_user_namespace: true,
            owns_mount_namespace: true,
            mounts: 0,
            root_in_memory: false,
            capabilities: CapSet((1 << 41) - 1),
            last_capability: 40,
            cgroup: CgroupMode::Unified,
            own_cgroup: "/system.slice/engine.service".into(),
            v2_controllers: ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"].map(String::from).into(),
            v1_hierarchies: Vec::new(),
            user_manager: None,
            setgroups_denied: false,
            newuidmap: Some("/usr/bin/newuidmap".into()),
            newgidmap: Some("/usr/bin/newgidmap".into()),
            apparmor: false,
            selinux: false,
        }
    }
}
