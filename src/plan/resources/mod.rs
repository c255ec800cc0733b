// SPDX-License-Identifier: Apache-2.0
//! `linux.cgroupsPath` and `linux.resources` made into a [`CgroupPlan`]: which directories, which controllers, what is written where,
//! in which order (config-linux.md, "Control groups").
//!
//! Called by `plan::create`, and by `update` for [`limits`] alone. Carried out by `crate::cgroup`. A controller is served by the cgroup2
//! tree where that has it, else by its cgroup v1 hierarchy, else asking for it is a [`Problem`]; asking for nothing (zero, empty,
//! "no limit") never is one, because engines do that all the time.

pub mod gvariant;
pub mod path;
mod place;
pub mod systemd;
mod systemd_devices;
pub mod update;
mod v1;
mod v2;

use serde::{Deserialize, Serialize};

use super::devices_filter;
use super::{CgroupManager, Host, Request, Rootless};
use crate::error::Code;
use crate::linux::types::{BpfInsn, CgroupMode};
use crate::spec::Problem;
use crate::spec::types::{Linux, Resources, Spec};
use crate::texts::{Texts, texts};

/// Where the container's resources stand in config.json.
const RESOURCES: &str = "linux.resources";

/// How the container's cgroup is made and what is set in it.
#[derive(Clone, Debug, PartialEq)]
pub struct CgroupPlan {
    /// What will be made: saved before any of it is.
    pub saved: SavedCgroup,
    /// The properties of the unit, where systemd makes the cgroup. It then needs the container's process to be there already.
    pub unit: Option<Vec<systemd::Property>>,
    /// cgroup2 controllers that the cgroup must have for the limits to hold.
    pub required: Vec<String>,
    /// cgroup2 controllers that it gets where the kernel allows, so that they count what it uses.
    pub wanted: Vec<String>,
    /// What is written into the cgroup's files, in order.
    pub writes: Vec<CgroupWrite>,
    /// Which devices may be used; none where no cgroup is made.
    pub devices: Option<DeviceFilter>,
    /// What it means when the runtime may not make the cgroup.
    pub denied: Denied,
    /// Who owns the cgroup: the user of the container's process, where it has its own cgroup namespace and may write there.
    pub owner: Option<u32>,
    /// A cgroup below the container's own that its processes start in and that is theirs to divide; the limits stay above it.
    pub delegate: Option<Delegate>,
    /// What was asked and cannot be done, and is passed over.
    pub warnings: Vec<String>,
}

/// All that is needed to find a container's cgroup again: part of the state. Directories that are not there any more count as removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedCgroup {
    /// The directory in the cgroup2 tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v2: Option<SavedDir>,
    /// The directories in cgroup v1 hierarchies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub v1: Vec<SavedDir>,
    /// The unit of systemd that owns the cgroup2 directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<SavedUnit>,
    /// The cgroup below that is given over to the container, and that its processes are in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaf: Option<String>,
}

impl SavedCgroup {
    /// The path in the cgroup2 tree of what the container's processes are in.
    pub fn of_processes(&self) -> Option<String> {
        let leaf = self.leaf.as_ref().map(|leaf| format!("/{leaf}")).unwrap_or_default();
        self.v2.as_ref().map(|dir| format!("{}{leaf}", dir.path))
    }
}

/// A directory of a cgroup hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedDir {
    /// Where the hierarchy is mounted: `/sys/fs/cgroup`.
    pub mount: String,
    /// The directory below the hierarchy's root: begins with `/`, and is never `/`.
    pub path: String,
    /// The controllers of a v1 hierarchy, or its name: `name=systemd`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub controllers: Vec<String>,
}

/// A transient unit of systemd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedUnit {
    /// `docker-1234.scope`
    pub name: String,
    /// The runtime directory of the user whose manager it belongs to; none for the system's. Saved, because later commands may come
    /// without XDG_RUNTIME_DIR.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_dir: Option<String>,
}

/// One write(2) into one file of the cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupWrite {
    /// The tree that the file is in.
    pub tree: Tree,
    /// The controller that the file belongs to: `memory`.
    pub controller: String,
    /// `memory.max`
    pub file: String,
    /// What is written.
    pub value: String,
    /// JSON path of the field that asked for it.
    pub at: String,
    /// What it means when there is no such file.
    pub absent: Absent,
    /// Refuse to write while more than this many bytes are in use (`checkBeforeUpdate`).
    pub unless_used: Option<u64>,
}

/// One of the two kinds of hierarchies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tree {
    /// cgroup2.
    V2,
    /// The cgroup v1 hierarchy that has the controller.
    V1,
}

/// What it means when a cgroup has no file of some name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absent {
    /// What was asked cannot be done.
    Error,
    /// Nothing: the value is what such a cgroup has anyway.
    Harmless,
    /// This kernel has the same thing under another name.
    Instead {
        /// The other file.
        file: String,
        /// What is written there.
        value: String,
    },
}

/// The program that decides which devices the container's processes may use.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceFilter {
    /// For BPF_PROG_TYPE_CGROUP_DEVICE.
    pub program: Vec<BpfInsn>,
    /// Go on without it where the kernel does not let this user load it: such a user can make no device node either.
    pub optional: bool,
    /// The host keeps it, once loaded, for the next container with the same rules: root's alone, over the whole machine.
    pub keep: bool,
    /// The same for systemd, where its unit has the cgroup; the user's systemd can filter no devices.
    pub unit: Vec<systemd::Property>,
}

/// What it means when the runtime may not make the container's cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The container cannot be made.
    Error,
    /// As [`Denied::Error`]; without limits and without a cgroupsPath it would have been passed over.
    RootlessError,
    /// The container stays in the runtime's own cgroup, with a warning: rootless, and nothing was asked, or `--rootless` says to pass it
    /// over.
    NoCgroup,
}

/// The systemd of an ordinary user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserManager {
    /// XDG_RUNTIME_DIR: `/run/user/1000`.
    pub runtime_dir: String,
    /// Its cgroup: `/user.slice/user-1000.slice/user@1000.service`.
    pub cgroup: String,
}

/// A cgroup given over to the container (cgroup-v2.rst, "Delegation").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegate {
    /// Its name.
    pub name: String,
    /// Whose it is to be; none for root.
    pub owner: Option<u32>,
}

/// One mounted cgroup v1 hierarchy of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct V1Hierarchy {
    /// Its controllers, or its name: `name=systemd`.
    pub controllers: Vec<String>,
    /// Where it is mounted: `/sys/fs/cgroup/cpu,cpuacct`.
    pub mount: String,
    /// The runtime's own cgroup in it.
    pub own: String,
}

/// Limits, ready to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// In this order.
    pub writes: Vec<CgroupWrite>,
    /// What was asked and cannot be done, and is passed over.
    pub warnings: Vec<String>,
}

/// Plans the cgroup of a new container; or every reason why it cannot be made.
pub fn plan(spec: &Spec, request: &Request, host: &Host) -> Result<CgroupPlan, Vec<Problem>> {
    let nothing = Linux::default();
    let linux = spec.linux.as_deref().unwrap_or(&nothing);
    let unlimited = Resources::default();
    let resources = linux.resources.as_ref().unwrap_or(&unlimited);
    if request.cgroup_manager == CgroupManager::Disabled || host.cgroup == CgroupMode::Absent {
        return without_cgroup(resources, request, host);
    }

    let mut problems = Vec::new();
    let (saved, unit) = place::place(&linux.cgroups_path, request, host).unwrap_or_else(|problem| {
        problems.push(problem);
        (SavedCgroup::default(), None)
    });
    let mut limits = limits(resources, RESOURCES, host).unwrap_or_else(|more| {
        problems.extend(more);
        Limits::default()
    });
    let devices = devices(resources, host, unit.is_some(), &mut limits).unwrap_or_else(|more| {
        problems.extend(more);
        None
    });
    let mut unit = unit.map(|unit| systemd::unit(&unit, &limits.writes, &spec.annotations)).transpose().unwrap_or_else(|more| {
        problems.extend(more);
        None
    });
    if let (Some(unit), Some(devices)) = (&mut unit, &devices) {
        unit.extend(devices.unit.iter().cloned());
    }
    let delegate = place::delegate(spec, linux, host).unwrap_or_else(|problem| {
        problems.push(problem);
        None
    });
    if !problems.is_empty() {
        return Err(problems);
    }
    let saved = SavedCgroup { leaf: delegate.as_ref().map(|delegate| delegate.name.clone()), ..saved };
    let required = required(&limits.writes, Tree::V2);
    let nothing_asked =
        linux.cgroups_path.is_empty() && required.is_empty() && self::required(&limits.writes, Tree::V1).is_empty();
    Ok(CgroupPlan {
        saved,
        unit,
        required,
        wanted: host.v2_controllers.clone(),
        writes: limits.writes,
        devices,
        denied: match (place::rootless(request, host), nothing_asked || request.rootless != Rootless::Unsaid) {
            (false, _) => Denied::Error,
            (true, false) => Denied::RootlessError,
            (true, true) => Denied::NoCgroup,
        },
        owner: place::owner(spec, linux),
        delegate,
        warnings: limits.warnings,
    })
}

/// Limits for an existing cgroup or a new one. `at` is where the resources stand: `linux.resources`, or nothing for a file of their own.
pub fn limits(resources: &Resources, at: &str, host: &Host) -> Result<Limits, Vec<Problem>> {
    let mut asks = Asks::new(at);
    for (controller, (v2, v1)) in CONTROLLERS.iter().zip(READERS) {
        match home(controller, host) {
            Some(Tree::V2) => v2(&mut asks, resources),
            Some(Tree::V1) => v1(&mut asks, resources),
            None => unavailable(&mut asks, resources, controller, v2, host),
        }
    }
    v2::unified(&mut asks, resources, host);
    if asks.problems.is_empty() { Ok(Limits { writes: asks.writes, warnings: asks.warnings }) } else { Err(asks.problems) }
}

/// Reads what one controller is asked.
type Reader = fn(&mut Asks, &Resources);

/// The controllers, by their names in cgroup2, in the order in which their limits are set.
const CONTROLLERS: Texts = texts!["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "net_cls", "net_prio"];

/// Their readers, for cgroup2 and for cgroup v1.
const READERS: [(Reader, Reader); 9] = [
    (v2::cpuset, v1::cpuset),
    (v2::cpu, v1::cpu),
    (v2::io, v1::blkio),
    (v2::memory, v1::memory),
    (v2::hugetlb, v1::hugetlb),
    (v2::pids, v1::pids),
    (v2::rdma, v1::rdma),
    (v2::net_cls, v1::net_cls),
    (v2::net_prio, v1::net_prio),
];

/// The name in cgroup v1 of one of [`CONTROLLERS`].
fn name_in_v1(controller: &str) -> &str {
    if controller == "io" { "blkio" } else { controller }
}

/// The tree that serves a controller on this host.
fn home(controller: &str, host: &Host) -> Option<Tree> {
    let v1_name = name_in_v1(controller);
    if host.v2_controllers.iter().any(|name| name == controller) {
        Some(Tree::V2)
    } else if host.v1_hierarchies.iter().any(|hierarchy| hierarchy.controllers.iter().any(|name| name == v1_name)) {
        Some(Tree::V1)
    } else {
        None
    }
}

/// No tree has the controller: harmless as long as nothing is asked of it.
fn unavailable(asks: &mut Asks, resources: &Resources, controller: &str, reader: Reader, host: &Host) {
    let mut tried = Asks::new(&asks.at);
    reader(&mut tried, resources);
    asks.problems.append(&mut tried.problems);
    asks.warnings.append(&mut tried.warnings);
    let Some(write) = tried.writes.iter().find(|write| write.absent != Absent::Harmless) else { return };
    let remedy = match host.cgroup {
        CgroupMode::Unified => {
            "it is not in /sys/fs/cgroup/cgroup.controllers; it must be part of the kernel and, inside a container or a user session, be \
             delegated to it"
        }
        _ => {
            "neither the cgroup2 tree nor a mounted cgroup v1 hierarchy has it; boot the host with cgroup v2 only \
             (systemd.unified_cgroup_hierarchy=1), or mount the controller's hierarchy under /sys/fs/cgroup"
        }
    };
    asks.problems.push(
        Problem::new(&write.at, format!("the cgroup controller \"{controller}\" is not available: {remedy}"))
            .cause(Code::Controller),
    );
}

/// The controllers of one tree that these writes need, each once.
fn required(writes: &[CgroupWrite], tree: Tree) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for write in writes.iter().filter(|write| write.tree == tree && write.absent != Absent::Harmless) {
        if write.controller != "cgroup" && !names.contains(&write.controller) {
            names.push(write.controller.clone());
        }
    }
    names
}

/// The device filter: a program in the cgroup2 tree, or lines for the `devices` controller on a host that has no such tree.
fn devices(resources: &Resources, host: &Host, of_unit: bool, limits: &mut Limits) -> Result<Option<DeviceFilter>, Vec<Problem>> {
    if host.cgroup != CgroupMode::Legacy {
        return device_filter(resources, RESOURCES, host, of_unit).map(Some);
    }
    if home("devices", host).is_some() {
        let rules = devices_filter::with_defaults(&resources.devices, RESOURCES)?;
        limits.writes.extend(v1::devices(&rules, RESOURCES)?);
    }
    Ok(None)
}

/// The device filter for rules that have changed. Only a program can take the place of another at one instant: with the `devices`
/// controller of cgroup v1 the container would for a moment have no device at all. `of_unit`: systemd is to know of them too.
pub fn device_filter(resources: &Resources, at: &str, host: &Host, of_unit: bool) -> Result<DeviceFilter, Vec<Problem>> {
    let field = if at.is_empty() { "devices".to_string() } else { format!("{at}.devices") };
    if !matches!(host.cgroup, CgroupMode::Unified | CgroupMode::Hybrid) {
        return Err(vec![Problem::new(field, "device rules can be changed only where the host has a cgroup2 tree")]);
    }
    let rules = devices_filter::with_defaults(&resources.devices, at)?;
    let program = devices_filter::program(&rules, &field).map_err(|problem| vec![problem])?;
    let unit = if of_unit && host.privileged() { systemd_devices::of_rules(&rules) } else { Vec::new() };
    Ok(DeviceFilter { program, optional: !host.privileged(), keep: host.privileged(), unit })
}

/// No cgroup is made; what was asked of it is named.
fn without_cgroup(resources: &Resources, request: &Request, host: &Host) -> Result<CgroupPlan, Vec<Problem>> {
    let disabled = request.cgroup_manager == CgroupManager::Disabled;
    let mut every = host.clone();
    every.cgroup = CgroupMode::Unified;
    every.v2_controllers = CONTROLLERS.iter().map(String::from).collect();
    let asked = limits(resources, RESOURCES, &every)?;
    let mut fields: Vec<&str> = Vec::new();
    for write in asked.writes.iter().filter(|write| write.absent != Absent::Harmless) {
        if !fields.contains(&write.at.as_str()) {
            fields.push(&write.at);
        }
    }
    let mut warnings = asked.warnings;
    if !fields.is_empty() && !disabled {
        let rule = "no cgroup file system is mounted at /sys/fs/cgroup, so no limit can be set";
        return Err(fields.into_iter().map(|field| Problem::new(field, rule).cause(Code::CgroupAbsent)).collect());
    }
    if !fields.is_empty() {
        warnings.push(format!("cgroups are disabled: not applied are {}", fields.join(", ")));
    }
    if !disabled {
        warnings.push("no cgroup file system is mounted at /sys/fs/cgroup: the container has no cgroup of its own".to_string());
    }
    Ok(CgroupPlan {
        saved: SavedCgroup::default(),
        unit: None,
        required: Vec::new(),
        wanted: Vec::new(),
        writes: Vec::new(),
        devices: None,
        denied: Denied::NoCgroup,
        owner: None,
        delegate: None,
        warnings,
    })
}

/// What the readers find, as they go through the resources.
struct Asks {
    at: String,
    writes: Vec<CgroupWrite>,
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

impl Asks {
    fn new(at: &str) -> Asks {
        Asks { at: at.to_string(), writes: Vec::new(), problems: Vec::new(), warnings: Vec::new() }
    }

    /// The JSON path of a field of the resources.
    fn path(&self, field: &str) -> String {
        if self.at.is_empty() { field.to_string() } else { format!("{}.{field}", self.at) }
    }

    /// Asks for a write. What follows about it is said on the result.
    fn write(&mut self, tree: Tree, file: &str, value: impl ToString, field: &str) -> &mut CgroupWrite {
        let controller = file.split('.').next().unwrap_or_default().to_string();
        let at = self.path(field);
        self.writes.push(CgroupWrite {
            tree,
            controller,
            file: file.to_string(),
            value: value.to_string(),
            at,
            absent: Absent::Error,
            unless_used: None,
        });
        let last = self.writes.len() - 1;
        &mut self.writes[last]
    }

    fn problem(&mut self, field: &str, rule: impl Into<String>) {
        let at = self.path(field);
        self.problems.push(Problem::new(at, rule));
    }

    fn warn(&mut self, field: &str, why: &str) {
        let at = self.path(field);
        self.warnings.push(format!("{at} is ignored: {why}"));
    }
}

impl CgroupPlan {
    /// Whether the container's process has to be there before its cgroup is complete: it then has to wait for that.
    pub fn needs_process(&self) -> bool {
        self.unit.is_some() || !self.saved.v1.is_empty()
    }
}

impl CgroupWrite {
    /// The value is what a cgroup without the file has anyway, if `so`.
    fn harmless(&mut self, so: bool) {
        if so {
            self.absent = Absent::Harmless;
        }
    }
}

#[cfg(test)]
mod tests;
