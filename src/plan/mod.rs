// SPDX-License-Identifier: Apache-2.0
//! Floor 2, PURE: what will be done, decided once. Read this file first.
//!
//! `config.json` + what the user asked + what this kernel can do → [`Plan`], an ordered list of small typed operations. Nothing is
//! decided after it is made: the runtime carries out [`Plan::parent`], the container's process carries out [`Plan::child`].
#![forbid(unsafe_code)]

pub mod check;
pub mod checkpoint;
pub mod create;
pub mod criu;
pub mod devices;
pub mod devices_filter;
pub mod exec;
pub mod exec_process;
pub mod expect;
#[cfg(test)]
mod golden;
pub mod hook_output;
pub mod host;
pub mod json;
pub mod live_mounts;
pub mod mounts;
pub mod namespaces;
#[cfg(test)]
mod order;
pub mod process;
#[cfg(test)]
mod property;
pub mod request;
pub mod resctrl;
pub mod resources;
pub mod restore;
pub mod rootfs;
pub mod route;
pub mod seccomp;
pub mod seccomp_explain;
pub mod seccomp_profile;
pub mod seccomp_record;
pub mod show;
pub mod step;

use crate::linux::types::Namespaces;
pub use create::{create, hooks};
pub use host::Host;
pub use request::{CgroupManager, Id, Request, Rootless, Verb};
pub use step::{IdMap, Identity, Join, Op, ParentOp, ParentStep, Step};

/// Everything that making a container does, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The container's id.
    pub id: Id,
    /// The cgroup, its limits and its device filter.
    pub cgroup: resources::CgroupPlan,
    /// How the process comes to be.
    pub spawn: Spawn,
    /// The namespaces in which the process ends up that are not the runtime's.
    pub namespaces: Namespaces,
    /// What the runtime does, in order.
    pub parent: Vec<ParentStep>,
    /// What the container's process does, in order.
    pub child: Vec<Step>,
    /// The hooks of each kind.
    pub hooks: Hooks,
    /// The program.
    pub exec: Exec,
    /// What the user should know although it is no error.
    pub warnings: Vec<String>,
}

impl Plan {
    /// Whether processes can be left to the runtime, if it is the subreaper of what it makes (prctl(2), PR_SET_CHILD_SUBREAPER): by hooks,
    /// and by the container unless it has a new pid namespace, whose first process gets all that is left in it.
    pub fn leaves_orphans(&self) -> bool {
        !self.spawn.create.contains(Namespaces::PID) || self.hooks != Hooks::default()
    }
}

/// How the container's process comes to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spawn {
    /// Namespaces that clone3(2) makes.
    pub create: Namespaces,
    /// One clone, or two.
    pub shape: Shape,
    /// Mappings of a new user namespace.
    pub id_map: Option<IdMap>,
    /// newuidmap(1) and newgidmap(1) write the mappings, because the runtime may not.
    pub id_map_programs: Option<(String, String)>,
    /// setgroups(2) is denied in the new user namespace; user_namespaces(7).
    pub deny_setgroups: bool,
}

/// How many processes it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The runtime clones the container's process.
    OneClone,
    /// A first process enters these namespaces and clones the container's process from there, as a child of the runtime: only from
    /// inside can a pid namespace be entered, or new namespaces belong to a user namespace that exists.
    TwoClones(Vec<Join>),
}

/// The hooks, each kind in the order of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// Deprecated: as createRuntime, and before them.
    pub prestart: Vec<Hook>,
    /// In the runtime's namespaces, before pivot_root(2).
    pub create_runtime: Vec<Hook>,
    /// In the container's namespaces, before pivot_root(2).
    pub create_container: Vec<Hook>,
    /// In the container, before its program.
    pub start_container: Vec<Hook>,
    /// In the runtime's namespaces, after the program has started.
    pub poststart: Vec<Hook>,
    /// In the runtime's namespaces, after the container is deleted.
    pub poststop: Vec<Hook>,
}

impl Hooks {
    /// Where what they print goes, which is the same for all; none where there are no hooks.
    pub fn output(&self) -> Option<&HookOutput> {
        let kinds = [
            &self.prestart,
            &self.create_runtime,
            &self.create_container,
            &self.start_container,
            &self.poststart,
            &self.poststop,
        ];
        kinds.into_iter().flatten().next().map(|hook| &hook.output)
    }

    /// Whether one that the container's process runs gets the environment of the runtime's caller.
    pub fn inherit_inside(&self) -> bool {
        self.create_container.iter().chain(&self.start_container).any(|hook| hook.env.is_none())
    }
}

/// One program to run at a point of the lifecycle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The program, absolute.
    pub path: String,
    /// argv, argv[0] included; the path alone where the configuration has none.
    pub args: Vec<String>,
    /// The whole environment; none where the configuration has no `env`.
    pub env: Option<Vec<String>>,
    /// Seconds until it is killed.
    pub timeout_s: Option<u64>,
    /// Where what it prints goes.
    pub output: HookOutput,
    /// `hooks.createRuntime[1]`
    pub at: String,
}

/// The files that what hooks print is appended to, on the host, absolute; where there is none, it is shown when the hook fails.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookOutput {
    /// Of the standard output.
    pub stdout: Option<String>,
    /// Of the standard error.
    pub stderr: Option<String>,
}

/// The program of the container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exec {
    /// argv
    pub args: Vec<String>,
    /// The environment, each name once.
    pub env: Vec<String>,
    /// HOME is to be added from the container's /etc/passwd.
    pub home_for_uid: Option<u32>,
    /// It gets a terminal of its own.
    pub terminal: bool,
    /// How many descriptors after the standard streams it inherits.
    pub inherited_fds: u32,
}
