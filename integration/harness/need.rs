// SPDX-License-Identifier: Apache-2.0
//! What a test may need of the host. A test whose need is missing is skipped with a reason.

use std::fs;
use std::path::Path;

use super::look;

/// Something that not every host has.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// /sys/fs/cgroup is a cgroup2 mount.
    Cgroup2,
    /// There are cgroup v1 hierarchies beside cgroup2.
    HybridCgroups,
    /// A controller of cgroup2.
    Controller(&'static str),
    /// A capability of ours: its name and number (linux/capability.h).
    Capability(&'static str, u32),
    /// A program in PATH.
    Program(&'static str),
    /// A file, by what it stands for.
    File(&'static str),
    /// A kernel at least this new.
    Kernel(u32, u32),
    /// criu(8), and a kernel that it can work with.
    Criu,
}

impl Need {
    /// To raise limits: hard rlimits, oom_score_adj below the caller's.
    pub const SYS_RESOURCE: Need = Need::Capability("CAP_SYS_RESOURCE", 24);
    /// The kernel has time namespaces.
    pub const TIME_NAMESPACE: Need = Need::File("/proc/self/ns/time");

    /// A controller of cgroup2, by a name that is not known at compile time.
    pub fn controller(name: &str) -> Need {
        Need::Controller(name.to_owned().leak())
    }

    /// Why the host does not meet it; None when it does.
    pub fn missing(&self) -> Option<String> {
        let unless = |met: bool, reason: String| (!met).then_some(reason);
        match self {
            Need::Cgroup2 => unless(cgroup2(), "/sys/fs/cgroup is no cgroup2 mount".to_owned()),
            Need::HybridCgroups => unless(hybrid(), "no cgroup v1 hierarchies here".to_owned()),
            Need::Controller(name) => {
                let have = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
                unless(have.split_whitespace().any(|c| c == *name), format!("cgroup2 has no {name} controller here"))
            }
            Need::Capability(name, number) => {
                let held = look::status_field(&fs::read_to_string("/proc/self/status").unwrap(), "CapEff");
                let held = u64::from_str_radix(&held, 16).unwrap();
                unless(held >> number & 1 == 1, format!("root has no {name} here"))
            }
            Need::Program(name) => {
                let path = std::env::var("PATH").unwrap_or_default();
                unless(path.split(':').any(|dir| Path::new(dir).join(name).exists()), format!("no program {name} here"))
            }
            Need::File(path) => unless(Path::new(path).exists(), format!("no {path} here")),
            Need::Criu => match look::criu_says(&["check"]) {
                None => Some("no criu here: hack/criu fetches it, BERTH_TEST_CRIU names its folder".to_owned()),
                Some((true, _)) => None,
                Some((false, text)) => {
                    Some(format!("CRIU cannot work here: {}", text.lines().last().unwrap_or("it does not say why")))
                }
            },
            Need::Kernel(major, minor) => {
                let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
                let mut numbers = release.split(['.', '-']).map_while(|part| part.trim().parse::<u32>().ok());
                let have = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
                unless(have >= (*major, *minor), format!("needs kernel {major}.{minor}, this is {}", release.trim()))
            }
        }
    }
}

/// True if /sys/fs/cgroup is the one unified hierarchy.
pub fn cgroup2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.procs").exists() && !hybrid()
}

/// True if there are v1 hierarchies with controllers.
pub fn hybrid() -> bool {
    look::mounts().iter().any(|mount| mount.kind == "cgroup")
}
