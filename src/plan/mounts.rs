// SPDX-License-Identifier: Apache-2.0
//! `mounts[]` of config.json (config.md, "Mounts") → typed mounts, each with everything its hand needs. Called by [`super::rootfs`].
//!
//! The words of `options` are one table, in [`options`]. What is decided here: where a bind's source is opened and by whom, what stands
//! in for a cgroup mount, what may be mounted on /proc, and what must wait to become read-only.

pub mod options;

use super::rootfs::{self, Context};
use super::step::{Mount, ProcRule, PropagationChange, Source, Tree};
use super::{IdMap, Op, ParentOp, ParentStep, Step, namespaces};
use crate::linux::types::{CgroupMode, MountAttr, Namespaces, Propagation};
use crate::spec::{self, Problem};
use crate::texts::{Texts, texts};
pub use options::mount_options_known;
use options::{IdMapOption, InlineMap, Options};

/// The files of /proc that lxcfs and the like may cover with their own.
pub const PROC_FILES: Texts = texts![
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// Filesystems of the kernel itself. A read-only one is only mounted so; anything on a disk is told, too, so that a disk that cannot be
/// written to can be mounted.
const VIRTUAL: Texts = texts![
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "proc",
    "pstore",
    "ramfs",
    "securityfs",
    "selinuxfs",
    "sysfs",
    "tmpfs",
    "tracefs",
];

/// What planning the mounts yields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mounts {
    /// Trees that the runtime opens before the clone, by slot.
    pub trees: Vec<ParentStep>,
    /// The mounts, in the order of the configuration.
    pub steps: Vec<Step>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

impl Mounts {
    /// Has the runtime open this tree before the clone; where the child finds it.
    pub fn open_by_runtime(&mut self, op: impl FnOnce(usize) -> ParentOp, at: &str) -> Tree {
        let slot = self.trees.len();
        self.trees.push(ParentStep { op: op(slot), at: at.to_string() });
        Tree::FromRuntime(slot)
    }
}

/// Plans all mounts of the configuration into `mounts`.
pub fn plan(context: &Context, mounts: &mut Mounts) {
    for (index, mount) in context.spec.mounts.iter().enumerate() {
        let at = format!("mounts[{index}]");
        match one(context, mount, &at, mounts) {
            Ok(op) => mounts.steps.push(Step { op: Op::Mount(Box::new(op)), at }),
            Err(mut problems) => mounts.problems.append(&mut problems),
        }
    }
}

fn one(context: &Context, mount: &spec::Mount, at: &str, mounts: &mut Mounts) -> Result<Mount, Vec<Problem>> {
    let options = Options::parse(&mount.options, at)?;
    if mount.destination.is_empty() {
        return Err(vec![Problem::new(format!("{at}.destination"), "is missing")]);
    }
    let destination = absolute(&mount.destination);
    let place = clean(&destination);
    let proc = proc_rule(mount, &options, &place, at)?;
    let source = source(context, mount, &options, at, mounts)?;
    let mut planned = Mount {
        destination,
        // What is on /proc, and what a remount changes, is named here and not chosen by a symbolic link of the image.
        destination_nofollow: options.destination_nofollow || proc == ProcRule::IsProc || options.remount,
        source,
        attr: options.attr,
        attr_recursive: options.attr_recursive,
        propagation: options.propagation,
        readonly_last: false,
        proc,
    };
    match &planned.source {
        Source::New { fstype, .. } => {
            // There is nothing below it yet.
            planned.attr.then(planned.attr_recursive);
            // Through a symbolic link, the image would choose where the kernel's own files appear (CVE-2019-19921).
            planned.destination_nofollow |= matches!(fstype.as_str(), "proc" | "sysfs");
            if fstype == "tmpfs" {
                wait_with_readonly(&mut planned);
            }
        }
        Source::Bind { tree, .. } => {
            // As a remount by mount(2) has it, and every runtime. In a user namespace the restrictions of its source are not its to lift.
            if options.names_flags && !context.unprivileged() {
                planned.attr.clear_the_rest(planned.attr_recursive.flags());
            }
            if planned.propagation.is_empty() {
                planned.propagation.extend(default_propagation(context, tree));
            }
            if place == "/dev" {
                wait_with_readonly(&mut planned);
            }
        }
        // No user of the host gets a writable part of its tree, whatever he asks (CVE-2023-25809).
        Source::CgroupSubtree { .. } if context.unprivileged() => planned.attr.set(MountAttr::RDONLY),
        Source::CgroupSubtree { .. } | Source::Remount { .. } => {}
    }
    Ok(planned)
}

/// How a bind propagates that says nothing of it, where that is not what its tree does already.
fn default_propagation(context: &Context, tree: &Tree) -> Option<PropagationChange> {
    let change = |kind| Some(PropagationChange { kind, recursive: true });
    match tree {
        // The mounts of the host stay shared with it, but only binds that ask for it shall tell it what happens in them.
        Tree::Path(_) if rootfs::keeps_sharing(context.spec) => change(Propagation::Slave),
        // The runtime's copy is a slave.
        Tree::FromRuntime(_) if rootfs::is_private(context.spec) => change(Propagation::Private),
        _ => None,
    }
}

fn wait_with_readonly(mount: &mut Mount) {
    if mount.attr.flags().contains(MountAttr::RDONLY) {
        mount.attr.forget(MountAttr::RDONLY);
        mount.readonly_last = true;
    }
}

/// A path as the container sees it: one without a leading slash counts from the root.
pub fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_string() } else { format!("/{path}") }
}

/// The path without empty, `.` and `..` components; for comparing words, never for opening.
pub fn clean(path: &str) -> String {
    let mut cleaned = String::with_capacity(path.len() + 1);
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => cleaned.truncate(cleaned.rfind('/').unwrap_or(0)),
            part => {
                cleaned.push('/');
                cleaned.push_str(part);
            }
        }
    }
    if cleaned.is_empty() {
        cleaned.push('/');
    }
    cleaned
}

/// Whether a cleaned path is `above` or below it.
pub fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above.trim_end_matches('/')).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A path of the host: one without a leading slash counts from the bundle.
pub fn from_bundle(path: &str, bundle: &str) -> String {
    if path.starts_with('/') { path.to_string() } else { format!("{}/{path}", bundle.trim_end_matches('/')) }
}

fn proc_rule(mount: &spec::Mount, options: &Options, place: &str, at: &str) -> Result<ProcRule, Vec<Problem>> {
    if place == "/proc" {
        let is_bind = options.bind.is_some() || mount.kind == "bind";
        if is_bind || options.remount || mount.kind == "proc" {
            return Ok(ProcRule::IsProc);
        }
        let rule = format!("a mount on /proc must be a procfs, not \"{}\"; labels and sysctls are written there", mount.kind);
        return Err(vec![Problem::new(at, rule)]);
    }
    if !place.starts_with("/proc/") {
        return Ok(ProcRule::Outside);
    }
    if PROC_FILES.contains(place) {
        return Ok(ProcRule::CoversFile);
    }
    let rule = format!("nothing may be mounted on \"{place}\": inside /proc only {} may be covered", PROC_FILES.join(", "));
    Err(vec![Problem::new(format!("{at}.destination"), rule)])
}

fn source(
    context: &Context,
    mount: &spec::Mount,
    options: &Options,
    at: &str,
    mounts: &mut Mounts,
) -> Result<Source, Vec<Problem>> {
    let is_bind = options.bind.is_some() || mount.kind == "bind";
    let has_mappings = !(mount.uid_mappings.is_empty() && mount.gid_mappings.is_empty());
    if (options.id_map.is_some() || has_mappings) && (!is_bind || options.remount) {
        return Err(vec![Problem::new(at, "only a bind mount can be id-mapped (mount_setattr(2))")]);
    }
    if options.remount {
        return Ok(Source::Remount { parameters: (!is_bind).then(|| parameters(options, &mount.kind, true)) });
    }
    if is_bind {
        return bind(context, mount, options, at, mounts);
    }
    match mount.kind.as_str() {
        "" => Err(vec![Problem::new(format!("{at}.type"), "is missing, and the options say neither bind nor rbind")]),
        "cgroup" | "cgroup2" => cgroup(context, options, at),
        kind => Ok(new(context, mount, options, kind, at, mounts)),
    }
}

/// A new instance of a filesystem.
fn new(context: &Context, mount: &spec::Mount, options: &Options, kind: &str, at: &str, mounts: &mut Mounts) -> Source {
    let mut parameters = parameters(options, kind, false);
    if kind == "devpts" {
        drop_unmapped_group(context, &mut parameters, at, mounts);
    }
    if let Some(label) = context.mount_label() {
        let labelled = !matches!(kind, "proc" | "sysfs" | "mqueue") && !parameters.iter().any(|(key, _)| key == "context");
        if labelled {
            parameters.push(("context".to_string(), Some(label.to_string())));
        }
    }
    Source::New {
        fstype: kind.to_string(),
        source: if mount.source.is_empty() { kind.to_string() } else { mount.source.clone() },
        mode_of_destination: kind == "tmpfs" && !parameters.iter().any(|(key, _)| key == "mode"),
        parameters,
        copy_up: kind == "tmpfs" && options.copy_up,
        mounted: false,
        // A user namespace may mount sysfs only with a network namespace of its own, and not where the outer /sys is covered in places.
        fallback: (kind == "sysfs" && context.unprivileged()).then(|| "/sys".to_string()),
    }
}

/// What the filesystem as a whole is told: flags in order, then the words that only it knows.
fn parameters(options: &Options, kind: &str, again: bool) -> Vec<(String, Option<String>)> {
    let mut parameters: Vec<(String, Option<String>)> = Vec::new();
    let readonly = options.attr.flags() | options.attr_recursive.flags();
    if readonly.contains(MountAttr::RDONLY) && !VIRTUAL.contains(kind) {
        parameters.push(("ro".to_string(), None));
    } else if again && options.attr.clears(MountAttr::RDONLY) {
        parameters.push(("rw".to_string(), None));
    }
    let taken_back = if again { options.superblock_off.as_slice() } else { &[] };
    parameters.extend(options.superblock.iter().chain(taken_back).map(|flag| (flag.to_string(), None)));
    parameters.extend(options.parameters.iter().map(|one| (one.key.clone(), one.value.clone())));
    parameters
}

/// The kernel refuses a devpts whose group the user namespace does not have; `gid=5` stands in every template.
fn drop_unmapped_group(context: &Context, parameters: &mut Vec<(String, Option<String>)>, at: &str, mounts: &mut Mounts) {
    let Some(map) = &context.namespaces.spawn.id_map else { return };
    parameters.retain(|(key, value)| {
        let group = value.as_ref().filter(|_| key == "gid").and_then(|value| value.parse::<u32>().ok());
        let unmapped = group.filter(|group| !namespaces::covers(&map.gids, *group));
        if let Some(group) = unmapped {
            mounts.warnings.push(format!("{at}: group {group} is not mapped in the user namespace: gid={group} is left out"));
        }
        unmapped.is_none()
    });
}

/// The container's view of cgroups. Whatever version the type names, it is the cgroup2 tree.
fn cgroup(context: &Context, options: &Options, at: &str) -> Result<Source, Vec<Problem>> {
    let subtree = context.cgroup_directory();
    if context.namespaces.has(Namespaces::CGROUP) {
        return Ok(Source::New {
            fstype: "cgroup2".to_string(),
            source: "cgroup".to_string(),
            parameters: parameters(options, "cgroup2", false),
            mode_of_destination: false,
            copy_up: false,
            // There is one cgroup2 tree. Where nobody has mounted it, a read-only mount would leave it so for all.
            mounted: cgroup2_root(context.host.cgroup).is_some(),
            fallback: subtree.filter(|_| context.unprivileged()),
        });
    }
    // The paths in /proc/self/cgroup are the host's then: root sees its tree, as with every runtime. It is bound and not mounted anew, which
    // would change nsdelegate and its kin for the whole host.
    let shown = if context.unprivileged() { subtree } else { cgroup2_root(context.host.cgroup).map(str::to_string) };
    match shown {
        Some(path) => Ok(Source::CgroupSubtree { path }),
        None => {
            let rule = "without a cgroup namespace of its own the container is shown its part of the host's cgroup2 tree, which is not \
                        mounted on this host";
            Err(vec![Problem::new(at, rule)])
        }
    }
}

fn bind(
    context: &Context,
    mount: &spec::Mount,
    options: &Options,
    at: &str,
    mounts: &mut Mounts,
) -> Result<Source, Vec<Problem>> {
    if mount.source.is_empty() {
        return Err(vec![Problem::new(format!("{at}.source"), "is missing: what to bind")]);
    }
    for one in &options.parameters {
        mounts
            .warnings
            .push(format!("{at}.options[{}]: \"{}\" means nothing to a bind mount and is ignored", one.index, one.key));
    }
    let id_map = id_map(context, mount, options.id_map.as_ref(), at)?;
    let path = from_bundle(&mount.source, &context.request.bundle);
    let recursive = options.bind == Some(true);
    let nofollow = options.source_nofollow || options.copy_symlink;
    let id_map_recursive = options.id_map.as_ref().is_some_and(|option| option.recursive);
    let tree = if context.opens_before_clone() || id_map.is_some() {
        let open = |slot| ParentOp::OpenTree { slot, path, recursive, nofollow, id_map, id_map_recursive };
        mounts.open_by_runtime(open, at)
    } else {
        Tree::Path(path)
    };
    Ok(Source::Bind {
        tree,
        source: mount.source.clone(),
        recursive,
        source_nofollow: nofollow,
        copy_symlink: options.copy_symlink,
    })
}

/// The mappings of an id-mapped bind: its own, those of crun's option, or the container's.
fn id_map(context: &Context, mount: &spec::Mount, option: Option<&IdMapOption>, at: &str) -> Result<Option<IdMap>, Vec<Problem>> {
    let own = IdMap { uids: namespaces::ranges(&mount.uid_mappings), gids: namespaces::ranges(&mount.gid_mappings) };
    let problem = |rule: &str| Err(vec![Problem::new(at, rule)]);
    let container = context.namespaces.spawn.id_map.as_ref();
    let inline: Option<&InlineMap> = option.and_then(|option| option.inline.as_ref());
    let map = match (own.uids.is_empty(), own.gids.is_empty(), inline) {
        (true, true, None) if option.is_none() => return Ok(None),
        (true, true, None) => match container {
            Some(map) => map.clone(),
            None => {
                return problem(
                    "id-mapped without mappings of its own, and the container makes no user namespace to take them from",
                );
            }
        },
        (true, true, Some(inline)) => match inline.absolute(container) {
            Some(map) => map,
            None => return problem("a mapping relative to the container (@) does not lie in one range of its user namespace"),
        },
        (false, false, None) => own,
        (false, false, Some(_)) => return problem("has mappings in uidMappings and gidMappings and in its options as well"),
        _ => return problem("needs both uidMappings and gidMappings"),
    };
    if !context.copies_mounts() {
        return problem("an id-mapped mount needs CAP_SYS_ADMIN over its filesystem, which the runtime does not have");
    }
    Ok(Some(map))
}

/// Where the cgroup2 tree of this host is mounted.
pub fn cgroup2_root(mode: CgroupMode) -> Option<&'static str> {
    match mode {
        CgroupMode::Unified => Some("/sys/fs/cgroup"),
        CgroupMode::Hybrid => Some("/sys/fs/cgroup/unified"),
        CgroupMode::Legacy | CgroupMode::Absent => None,
    }
}

#[cfg(test)]
mod tests;
