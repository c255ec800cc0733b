// SPDX-License-Identifier: Apache-2.0
//! Fills [`Host`] from what the kernel says: every fact that some plan may ask for, each at the price of a system call or two.

use crate::cgroup::{systemd, v1_hierarchies};
use crate::linux::probe;
use crate::linux::types::CgroupMode;
use crate::plan::resources::UserManager;
use crate::plan::route::{MANY_MOUNTS, OPEN_TREE_NAMESPACE};
use crate::plan::{CgroupManager, Host, Request};
use crate::spec::types::{Process, Spec};

/// What a configuration makes the plan ask for that has to be read from a file.
#[derive(Clone, Copy)]
struct Asked {
    own_cgroup: bool,
    apparmor: bool,
    selinux: bool,
}

impl Asked {
    const ALL: Asked = Asked { own_cgroup: true, apparmor: true, selinux: true };

    fn by(spec: &Spec, request: &Request) -> Asked {
        let linux = spec.linux.as_deref();
        let absolute = linux.is_some_and(|linux| linux.cgroups_path.starts_with('/'));
        let process = spec.process.as_deref();
        Asked {
            own_cgroup: !absolute || request.cgroup_manager != CgroupManager::Cgroupfs,
            apparmor: process.is_some_and(|process| !process.apparmor_profile.is_empty()),
            selinux: process.is_some_and(|process| !process.selinux_label.is_empty())
                || linux.is_some_and(|linux| !linux.mount_label.is_empty()),
        }
    }
}

/// The facts that the plan of this container may ask for. `runtime_dir` is XDG_RUNTIME_DIR.
pub fn probe_for(spec: &Spec, request: &Request, runtime_dir: Option<String>) -> Host {
    let mut host = probe_asked(Asked::by(spec, request));
    if request.cgroup_manager == CgroupManager::Systemd && !host.privileged() {
        let usual = || Some(format!("/run/user/{}", host.euid)).filter(|_| host.euid != 0);
        host.user_manager = runtime_dir.filter(|dir| dir.starts_with('/')).or_else(usual).and_then(|runtime_dir| {
            let cgroup = systemd::user_manager_cgroup(&runtime_dir)?;
            Some(UserManager { runtime_dir, cgroup })
        });
    }
    host
}

/// The facts about this host.
pub fn probe() -> Host {
    probe_asked(Asked::ALL)
}

fn probe_asked(asked: Asked) -> Host {
    let euid = probe::euid();
    let cgroup = probe::cgroup_mode();
    let on_v2 = matches!(cgroup, CgroupMode::Unified | CgroupMode::Hybrid);
    // Only an ordinary user needs another's help to map ids.
    let helper = |name: &str| if euid == 0 { None } else { probe::program(name) };
    let initial_user_namespace = probe::in_initial_user_namespace();
    let (kernel, privileged) = (probe::kernel(), euid == 0 && initial_user_namespace);
    let opens_namespaces = privileged && kernel >= OPEN_TREE_NAMESPACE;
    Host {
        kernel,
        euid,
        egid: probe::egid(),
        initial_user_namespace,
        owns_mount_namespace: initial_user_namespace || probe::owns_mount_namespace(),
        mounts: if privileged && !opens_namespaces { probe::mounts(MANY_MOUNTS) } else { 0 },
        root_in_memory: opens_namespaces && probe::root_in_memory(),
        capabilities: probe::capabilities(),
        last_capability: probe::last_capability(),
        cgroup,
        own_cgroup: if on_v2 && asked.own_cgroup { probe::own_cgroup() } else { "/".to_string() },
        v2_controllers: if on_v2 { probe::v2_controllers() } else { Vec::new() },
        v1_hierarchies: match cgroup {
            CgroupMode::Hybrid | CgroupMode::Legacy => v1_hierarchies(),
            _ => Vec::new(),
        },
        user_manager: None,
        // Nothing is ever denied in the initial user namespace.
        setgroups_denied: !initial_user_namespace && probe::setgroups_denied(),
        newuidmap: helper("newuidmap"),
        newgidmap: helper("newgidmap"),
        apparmor: asked.apparmor && probe::apparmor(),
        selinux: asked.selinux && probe::selinux(),
    }
}

/// The facts that `exec` of this process asks for: it makes no cgroup and maps no ids, and is quicker for not looking.
pub fn probe_for_exec(process: &Process) -> Host {
    let initial_user_namespace = probe::in_initial_user_namespace();
    Host {
        kernel: probe::kernel(),
        euid: probe::euid(),
        egid: probe::egid(),
        initial_user_namespace,
        owns_mount_namespace: true,
        mounts: 0,
        root_in_memory: false,
        capabilities: probe::capabilities(),
        last_capability: probe::last_capability(),
        cgroup: CgroupMode::Absent,
        own_cgroup: "/".to_string(),
        v2_controllers: Vec::new(),
        v1_hierarchies: Vec::new(),
        user_manager: None,
        setgroups_denied: !initial_user_namespace && probe::setgroups_denied(),
        newuidmap: None,
        newgidmap: None,
        apparmor: !process.apparmor_profile.is_empty() && probe::apparmor(),
        selinux: !process.selinux_label.is_empty() && probe::selinux(),
    }
}
