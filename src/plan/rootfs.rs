// SPDX-License-Identifier: Apache-2.0
//! The root filesystem, from its mount to its last read-only path, as ordered steps (config.md, "Root" and "Mounts"; config-linux.md,
//! "Default Filesystems", "Rootfs Mount Propagation", "Masked Paths", "Readonly Paths"). Called by `plan::create`.
//!
//! Everything is mounted into the attached root filesystem before pivot_root(2), through its directory descriptor; masks and read-only
//! paths come after it and after the sysctls, which they would hide.

use super::mounts::{self, Mounts, absolute, from_bundle};
use super::namespaces::NamespacePlan;
use super::step::{PropagationChange, Tree};
use super::{Host, Op, ParentOp, ParentStep, Request, Step, devices};
use crate::linux::types::{CapSet, Namespaces, Propagation};
use crate::spec::{Linux, Problem, Spec};

/// What the planning of the root filesystem looks at.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// config.json
    pub spec: &'a Spec,
    /// The command line.
    pub request: &'a Request,
    /// The host.
    pub host: &'a Host,
    /// The container's namespaces.
    pub namespaces: &'a NamespacePlan,
    /// The container's own cgroup in the cgroup2 tree (`/a/b`), where it gets one.
    pub cgroup: Option<&'a str>,
}

/// The steps of the root filesystem, in four groups between which the plan puts others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RootPlan {
    /// For the runtime, before the clone: trees that only it may open, by slot.
    pub trees: Vec<ParentStep>,
    /// Before the hooks: propagation, the root's own mount, mounts, devices, links.
    pub mounts: Vec<Step>,
    /// After the hooks: into the new root.
    pub pivot: Vec<Step>,
    /// After the console and the sysctls: read-only and masked paths, and how the root propagates.
    pub hide: Vec<Step>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl Context<'_> {
    /// The container's process is root over a user namespace only: it may make no devices, and the kernel may refuse it filesystems.
    pub fn unprivileged(&self) -> bool {
        self.namespaces.other_user_namespace() || !self.host.initial_user_namespace
    }

    /// The runtime opens the host's trees before the clone, because the container's user may not reach them and the runtime may.
    pub fn opens_before_clone(&self) -> bool {
        self.namespaces.other_user_namespace() && self.copies_mounts()
    }

    /// The runtime may make copies of the mounts that it sees.
    pub fn copies_mounts(&self) -> bool {
        self.host.capabilities.contains(CapSet::SYS_ADMIN) && self.host.owns_mount_namespace
    }

    /// The SELinux context for new filesystems; none on a host without SELinux.
    pub fn mount_label(&self) -> Option<&str> {
        let label = self.spec.linux.as_deref().map(|linux| linux.mount_label.as_str())?;
        (self.host.selinux && !label.is_empty()).then_some(label)
    }

    /// The host's directory of the cgroup the process will be in.
    pub fn cgroup_directory(&self) -> Option<String> {
        let path = self.cgroup.unwrap_or(&self.host.own_cgroup);
        mounts::cgroup2_root(self.host.cgroup)
            .map(|root| format!("{root}{}", mounts::clean(path)).trim_end_matches('/').to_string())
    }
}

/// Plans the root filesystem.
pub fn root_steps(context: &Context) -> Result<RootPlan, Vec<Problem>> {
    if context.namespaces.joined(Namespaces::MOUNT) {
        return Ok(joined(context));
    }
    if !context.namespaces.new.contains(Namespaces::MOUNT) {
        let rule = "a container needs a mount namespace: without one its mounts would be the host's";
        return Err(vec![Problem::new("linux.namespaces", rule)]);
    }
    let Some(root) = context.spec.root.as_ref().filter(|root| !root.path.is_empty()) else {
        return Err(vec![Problem::new("root.path", "is missing")]);
    };
    let path = from_bundle(&root.path, &context.request.bundle);
    let (propagation, mut problems) = match propagation(context.spec) {
        Ok(propagation) => (propagation, Vec::new()),
        Err(problem) => (RootPropagation::default(), vec![problem]),
    };
    // As many as most containers have.
    let mut planned = Mounts { steps: Vec::with_capacity(40), ..Mounts::default() };
    attach(context, &path, propagation, &mut planned);
    mounts::plan(context, &mut planned);
    if context.spec.linux.as_deref().is_some_and(|linux| !linux.mount_label.is_empty()) && context.mount_label().is_none() {
        planned.warnings.push("linux.mountLabel: SELinux is not enabled on this host: the mounts get no label".to_string());
    }
    problems.append(&mut planned.problems);
    if let Err(mut wrong) = devices::plan(context, &mut planned.steps, &mut planned.warnings) {
        problems.append(&mut wrong);
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    if let Some(process) = context.spec.process.as_deref().filter(|process| process.cwd.len() > 1 && process.cwd.starts_with('/'))
    {
        planned.steps.push(Step { op: Op::Directory(process.cwd.clone()), at: "process.cwd".to_string() });
    }
    let shared = may_be_shared(propagation, context.spec);
    let into = if context.request.no_pivot { Op::MoveRoot } else { Op::Pivot { shared } };
    let pivot = vec![Step { op: into, at: String::new() }];
    let hide = hide(context, root.readonly, propagation, &planned.steps);
    Ok(RootPlan { trees: planned.trees, mounts: planned.steps, pivot, hide, warnings: planned.warnings })
}

/// A mount namespace that exists has its mounts already.
fn joined(context: &Context) -> RootPlan {
    let mut plan = RootPlan::default();
    let empty = Linux::default();
    let linux = context.spec.linux.as_deref().unwrap_or(&empty);
    let readonly = context.spec.root.as_ref().is_some_and(|root| root.readonly);
    let asked = [
        ("mounts", !context.spec.mounts.is_empty()),
        ("root.readonly", readonly),
        ("linux.devices", !linux.devices.is_empty()),
        ("linux.maskedPaths", !linux.masked_paths.is_empty()),
        ("linux.readonlyPaths", !linux.readonly_paths.is_empty()),
        ("linux.rootfsPropagation", !linux.rootfs_propagation.is_empty()),
    ];
    let ignored: Vec<&str> = asked.iter().filter(|(_, asked)| *asked).map(|(field, _)| *field).collect();
    if !ignored.is_empty() {
        let text = "the mount namespace is an existing one, whose mounts are taken as they are: not applied: ";
        plan.warnings.push(format!("{text}{}", ignored.join(", ")));
    }
    plan
}

/// How mounts propagate at the three moments where it is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct RootPropagation {
    /// Of `/` and all below it, first of all; `None` leaves it to the host's mounts, which may be shared with it.
    host: Option<Propagation>,
    /// Of the container's own root, once it is `/`.
    after: Option<PropagationChange>,
}

/// Whether the host's mounts stay shared with the host, so that binds of them with `rshared` propagate to it and back.
pub fn keeps_sharing(spec: &Spec) -> bool {
    spec.linux.as_deref().is_some_and(|linux| matches!(linux.rootfs_propagation.as_str(), "shared" | "rshared"))
}

/// Whether even the host's own mounts and unmounts shall not reach the container.
pub fn is_private(spec: &Spec) -> bool {
    matches!(propagation(spec), Ok(RootPropagation { host: Some(Propagation::Private), .. }))
}

/// Whether a mount of the host's may be shared with the container's namespace when its root is changed: where it was left so, and where
/// hooks could bring it in. Else all have been slaves or private from the beginning, and so is whatever came to them since.
fn may_be_shared(propagation: RootPropagation, spec: &Spec) -> bool {
    let hooked = spec.hooks.as_ref().is_some_and(|hooks| {
        !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty() || !hooks.create_container.is_empty()
    });
    propagation.host.is_none() || hooked
}

fn propagation(spec: &Spec) -> Result<RootPropagation, Problem> {
    let text = spec.linux.as_deref().map_or("", |linux| linux.rootfs_propagation.as_str());
    let after = |kind| Some(PropagationChange { kind, recursive: text.starts_with('r') });
    Ok(match text {
        // The runtime's choice: what the host mounts appears in binds, what the container mounts stays in it.
        "" | "slave" | "rslave" => RootPropagation { host: Some(Propagation::Slave), after: None },
        "private" | "rprivate" => RootPropagation { host: Some(Propagation::Private), after: None },
        // A peer group of its own: shared with mount namespaces made inside, not with the host.
        "shared" | "rshared" => RootPropagation { host: None, after: after(Propagation::Shared) },
        "unbindable" | "runbindable" => {
            RootPropagation { host: Some(Propagation::Private), after: after(Propagation::Unbindable) }
        }
        other => {
            let rule = format!("\"{other}\" is none of shared, slave, private, unbindable, and those with r in front");
            return Err(Problem::new("linux.rootfsPropagation", rule));
        }
    })
}

fn at_propagation(op: Op) -> Step {
    Step { op, at: "linux.rootfsPropagation".to_string() }
}

/// The first steps: how the new namespace's mounts propagate, and the root's own mount.
fn attach(context: &Context, path: &str, propagation: RootPropagation, planned: &mut Mounts) {
    let at = "root.path";
    if let Some(kind) = propagation.host {
        planned.steps.push(at_propagation(Op::Propagation(PropagationChange { kind, recursive: true })));
    }
    let source = if context.opens_before_clone() {
        let path = path.to_string();
        let open =
            |slot| ParentOp::OpenTree { slot, path, recursive: true, nofollow: false, id_map: None, id_map_recursive: false };
        planned.open_by_runtime(open, at)
    } else {
        Tree::Path(path.to_string())
    };
    let private_parent = propagation.host.is_none();
    let propagation = match (propagation.host, &source) {
        // A copy is a slave of what its original is a slave of, and private where that is.
        (Some(_), Tree::Path(_)) => None,
        // The runtime's is a slave.
        (Some(Propagation::Slave), Tree::FromRuntime(_)) => None,
        (host, _) => Some(PropagationChange { kind: host.unwrap_or(Propagation::Slave), recursive: true }),
    };
    let op = Op::AttachRoot { source, path: path.to_string(), propagation, private_parent };
    planned.steps.push(Step { op, at: at.to_string() });
}

/// The files of /proc below this path that have got mounts of their own. No one can change the names that lead there, as they are the
/// kernel's, so a mount that was put there is found again.
fn files_mounted_below(path: &str, mounted: &[Step]) -> Vec<String> {
    let below = |file: &&str| file.strip_prefix(path.trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/'));
    let is_mounted = |file: &&str| {
        mounted.iter().any(|step| matches!(&step.op, Op::Mount(mount) if mounts::clean(&mount.destination) == **file))
    };
    mounts::PROC_FILES.iter().filter(below).filter(is_mounted).map(str::to_string).collect()
}

/// The last steps: what the container shall not see or change.
fn hide(context: &Context, readonly_root: bool, propagation: RootPropagation, mounted: &[Step]) -> Vec<Step> {
    let empty = Linux::default();
    let linux = context.spec.linux.as_deref().unwrap_or(&empty);
    let mut steps = Vec::new();
    for (index, path) in linux.readonly_paths.iter().enumerate() {
        let path = absolute(path);
        let but = files_mounted_below(&path, mounted);
        steps.push(Step { op: Op::ReadonlyPath { path, but }, at: format!("linux.readonlyPaths[{index}]") });
    }
    if !linux.masked_paths.is_empty() {
        let paths = linux.masked_paths.iter().map(|path| absolute(path)).collect();
        let label = context.mount_label().map(str::to_string);
        steps.push(Step { op: Op::MaskPaths { paths, label }, at: "linux.maskedPaths".to_string() });
    }
    if mounted.iter().any(|step| matches!(&step.op, Op::Mount(mount) if mount.readonly_last)) {
        steps.push(Step { op: Op::ReadonlyMounts, at: "mounts".to_string() });
    }
    if readonly_root {
        steps.push(Step { op: Op::ReadonlyRoot, at: "root.readonly".to_string() });
    }
    // After the read-only paths: from an unbindable mount they could not be made.
    steps.extend(propagation.after.map(|change| at_propagation(Op::RootPropagation(change))));
    steps
}

#[cfg(test)]
pub(crate) mod tests;
