// SPDX-License-Identifier: Apache-2.0
//! The order of things: how the parts of a plan are put together for create and run (runtime.md, Lifecycle).
//!
//! What may overlap does: the runtime goes on while the container's process works, up to the next step of either that waits.

use super::namespaces::{self, NamespacePlan};
use super::step::{Mount, Route, SeccompLoad, Source, Step, Tree};
use super::{
    Exec, Hook, HookOutput, Hooks, Host, Op, ParentOp, ParentStep, Plan, Request, Verb, hook_output, process, resctrl, resources,
    rootfs, route, seccomp_profile,
};
use crate::error::Code;
use crate::linux::types::{CapSet, KernelVersion, MountAttr, Namespaces};
use crate::spec::Problem;
use crate::spec::types::Spec;

/// Decides everything that creating (or running) this container does. `spec` has passed validation.
pub fn create(spec: &Spec, request: &Request, host: &Host) -> Result<Plan, Vec<Problem>> {
    terminal_rules(spec, request).map_err(|problem| vec![problem])?;
    kernel_rule(host).map_err(|problem| vec![problem])?;
    let namespaces = namespaces::plan(spec, host)?;
    let mut problems = Vec::new();
    let mut warnings = namespaces.warnings.clone();
    let cgroup = collect(&mut problems, resources::plan(spec, request, host));
    problems.extend(net_devices_rule(spec, host));
    problems.extend(hook_output::rules(spec));
    let own_cgroup = cgroup.as_ref().and_then(|cgroup| cgroup.saved.of_processes());
    let context = rootfs::Context { spec, request, host, namespaces: &namespaces, cgroup: own_cgroup.as_deref() };
    let rootfs = collect(&mut problems, rootfs::root_steps(&context));
    let trees_first = context.opens_before_clone();
    let seccomp = collect(&mut problems, seccomp_profile::load(spec, &mut warnings));
    let filtered = matches!(seccomp, Some(Some(_)));
    let person = collect(&mut problems, person(spec, host, &namespaces, filtered, &mut warnings));
    let (Some(cgroup), Some(rootfs), Some(seccomp), Some(person), true) = (cgroup, rootfs, seccomp, person, problems.is_empty())
    else {
        return Err(problems);
    };
    warnings.extend(cgroup.warnings.iter().chain(&rootfs.warnings).cloned());
    let hooks = hooks(spec, &request.bundle);
    let exec = spec.process.as_deref().map_or_else(Exec::default, |given| process::program(given, request));
    // clone3(2) enters the cgroup2 directory only: elsewhere the runtime puts the process, before it looks at its cgroups itself.
    let parent_first = namespaces.spawn.id_map.is_some() || !net_devices(spec).is_empty() || cgroup.needs_process();

    let mut trees = rootfs.trees;
    // As many as most containers have: what grows is copied, and leaves what it grew out of.
    let mut child = Vec::with_capacity(64);
    child.extend(before_root(spec, request, &namespaces, parent_first));
    if !writes_only_to_new_proc(spec, &hooks, &rootfs.mounts) {
        child.push(own(Op::OpenProc, ""));
    }
    child.extend(rootfs.mounts);
    if request.notify_socket.is_some() && spec.process.is_some() && namespaces.new.contains(Namespaces::MOUNT) {
        child.push(notify_mount(request, trees_first, &mut trees));
    }
    child.extend(before_pivot(&hooks));
    child.extend(rootfs.pivot);
    child.extend(in_root(spec));
    child.extend(rootfs.hide);
    child.extend(person);
    child.extend(to_the_program(request, &hooks, &exec, seccomp));
    let mut namespaces = namespaces;
    let route = route::take(host, &mut namespaces, &mut child);

    let listener = child.iter().find_map(|step| match &step.op {
        Op::Seccomp(load) => load.listener.clone(),
        _ => None,
    });
    let mut parent = vec![step(ParentOp::SaveCreating, "")];
    let make_cgroup = || step(ParentOp::MakeCgroup, "linux.cgroupsPath");
    if cgroup.unit.is_none() {
        parent.push(make_cgroup());
    }
    parent.extend(before_clone(request, &namespaces, trees, spec));
    parent.extend(listener.map(|(path, _)| step(ParentOp::ConnectListener(path), "linux.seccomp.listenerPath")));
    if let Some(output) = hooks.output().filter(|output| **output != HookOutput::default()) {
        parent.push(step(ParentOp::OpenHookOutput(output.clone()), "annotations"));
    }
    if route == Some(Route::Pinned) {
        parent.push(step(ParentOp::OpenPinnedNamespace, ""));
    }
    parent.push(step(ParentOp::Clone, ""));
    if cgroup.unit.is_some() {
        // systemd makes no scope without a process.
        parent.push(make_cgroup());
    }
    parent.extend(after_clone(spec, request, &namespaces, parent_first));
    parent.extend(until_created(request, &hooks));
    let entered = namespaces.join.iter().fold(namespaces.new, |all, join| all | join.kind);
    let id = request.id.clone();
    Ok(Plan { id, cgroup, spawn: namespaces.spawn, namespaces: entered, parent, child, hooks, exec, warnings })
}

fn step(op: ParentOp, at: &str) -> ParentStep {
    ParentStep { op, at: at.to_string() }
}

fn own(op: Op, at: &str) -> Step {
    Step { op, at: at.to_string() }
}

/// Keeps the problems of one part and goes on to the next, so that all are reported at once.
fn collect<T>(problems: &mut Vec<Problem>, part: Result<T, Vec<Problem>>) -> Option<T> {
    part.map_err(|found| problems.extend(found)).ok()
}

/// Who holds the terminal's other end must be clear (the texts are runc's, which clients know).
fn terminal_rules(spec: &Spec, request: &Request) -> Result<(), Problem> {
    let terminal = spec.process.as_deref().is_some_and(|process| process.terminal);
    let detached = request.detach || request.verb == Verb::Create;
    let rule = match (&request.console_socket, terminal, detached) {
        (None, true, true) => "cannot allocate tty if runc will detach without setting console socket",
        (Some(_), false, _) | (Some(_), _, false) => "cannot use console socket if runc will not detach or allocate tty",
        _ => return Ok(()),
    };
    Err(Problem::new("process.terminal", rule))
}

/// What every container needs: openat2(2), close_range(2), clone3(2) into a cgroup, mount_setattr(2), cgroup.kill.
pub const OLDEST_KERNEL: KernelVersion = KernelVersion { major: 5, minor: 14 };

fn kernel_rule(host: &Host) -> Result<(), Problem> {
    let KernelVersion { major, minor } = host.kernel;
    if host.kernel >= OLDEST_KERNEL {
        return Ok(());
    }
    let rule = format!("containers need Linux {}.{}, and this is {major}.{minor}", OLDEST_KERNEL.major, OLDEST_KERNEL.minor);
    Err(Problem::new("", rule).cause(Code::KernelTooOld))
}

/// Only who administers the host's network may take a device from it.
fn net_devices_rule(spec: &Spec, host: &Host) -> Option<Problem> {
    const NET_ADMIN: CapSet = CapSet(1 << 12);
    let may = host.privileged() && host.capabilities.contains(NET_ADMIN | CapSet::SYS_ADMIN);
    let rule = "moving network devices takes root with CAP_NET_ADMIN and CAP_SYS_ADMIN, which the runtime does not have";
    (!net_devices(spec).is_empty() && !may).then(|| Problem::new("linux.netDevices", rule).cause(Code::NetDevice))
}

/// Steps of the process until it turns to its root filesystem.
fn before_root(spec: &Spec, request: &Request, namespaces: &NamespacePlan, parent_first: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    if parent_first {
        steps.push(own(Op::AwaitRuntime, ""));
    }
    steps.push(own(Op::NewSession, ""));
    steps.extend(namespaces::steps(namespaces, spec).into_iter().map(|(op, at)| Step { op, at }));
    if !request.no_new_keyring {
        steps.push(own(Op::NewKeyring(format!("_ses.{}", request.id)), ""));
    }
    steps
}

/// Kernel parameters are all that is written to a procfs, and the container's own, whole and writable, is mounted in time for that.
fn writes_only_to_new_proc(spec: &Spec, hooks: &Hooks, mounts: &[Step]) -> bool {
    let process = spec.process.as_deref();
    let labels = process.is_some_and(|process| !process.apparmor_profile.is_empty() || !process.selinux_label.is_empty());
    // What hooks mount there nobody knows.
    let hooked = !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty() || !hooks.create_container.is_empty();
    let mut on_proc = mounts.iter().filter_map(|step| match &step.op {
        Op::Mount(mount) if mount.destination == "/" || mount.destination.starts_with("/proc") => Some(&**mount),
        _ => None,
    });
    let whole = |mount: &Mount| {
        let new = match &mount.source {
            Source::New { fstype, parameters, fallback: None, .. } => fstype == "proc" && parameters.is_empty(),
            _ => false,
        };
        let attr = mount.attr.attr_set() | mount.attr_recursive.attr_set();
        new && mount.destination == "/proc" && attr & MountAttr::RDONLY.bits() == 0 && !mount.readonly_last
    };
    !labels && !hooked && on_proc.next().is_some_and(whole) && on_proc.next().is_none()
}

/// Hooks that need the host's files still in sight.
fn before_pivot(hooks: &Hooks) -> Vec<Step> {
    let mut steps = Vec::new();
    if !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty() {
        steps.push(own(Op::AskForRuntimeHooks, "hooks.createRuntime"));
    }
    if !hooks.create_container.is_empty() {
        steps.push(own(Op::CreateContainerHooks, "hooks.createContainer"));
    }
    steps
}

/// The directory of the notify socket's proxy, bound to where NOTIFY_SOCKET will say that it is.
fn notify_mount(request: &Request, opened_by_runtime: bool, trees: &mut Vec<ParentStep>) -> Step {
    let path = format!("{}/{}/notify", request.root, request.id);
    let tree = match opened_by_runtime {
        true => {
            let slot = trees.len();
            let op = ParentOp::OpenTree {
                slot,
                path: path.clone(),
                recursive: false,
                nofollow: true,
                id_map: None,
                id_map_recursive: false,
            };
            trees.push(step(op, ""));
            Tree::FromRuntime(slot)
        }
        false => Tree::Path(path.clone()),
    };
    let source = Source::Bind { tree, source: path, recursive: false, source_nofollow: true, copy_symlink: false };
    own(Op::Mount(Box::new(Mount::new("/run/notify", source))), "")
}

/// What is set up from inside the container's root.
fn in_root(spec: &Spec) -> Vec<Step> {
    let mut steps = Vec::new();
    if let Some(process) = spec.process.as_deref().filter(|process| process.terminal) {
        let number = |cells: u32| u16::try_from(cells).unwrap_or(u16::MAX);
        let size = process.console_size.as_ref().map(|size| (number(size.width), number(size.height)));
        steps.push(own(Op::Console { size, bound: true }, "process.terminal"));
    }
    if !spec.hostname.is_empty() {
        steps.push(own(Op::Hostname(spec.hostname.clone()), "hostname"));
    }
    if !spec.domainname.is_empty() {
        steps.push(own(Op::Domainname(spec.domainname.clone()), "domainname"));
    }
    for (key, value) in spec.linux.iter().flat_map(|linux| &linux.sysctl) {
        let op = Op::Sysctl { key: key.clone(), value: value.clone() };
        steps.push(Step { op, at: format!("linux.sysctl[\"{key}\"]") });
    }
    steps
}

/// Who the process becomes.
fn person(
    spec: &Spec,
    host: &Host,
    namespaces: &NamespacePlan,
    filtered: bool,
    warnings: &mut Vec<String>,
) -> Result<Vec<Step>, Vec<Problem>> {
    let Some(process) = &spec.process else { return Ok(Vec::new()) };
    let mut steps: Vec<Step> = process::attributes(process, host)?.into_iter().map(|(op, at)| Step { op, at }).collect();
    steps.extend(process::kernel_attributes(spec)?);
    steps.push(own(Op::OwnStdio { uid: process.user.uid }, "process.user.uid"));
    steps.push(own(Op::Umask(process.user.umask.unwrap_or(0o022)), "process.user.umask"));
    let other_user_namespace = namespaces.other_user_namespace();
    let sets = process::capabilities(process.capabilities.as_ref(), host, other_user_namespace, warnings);
    let last = process::last_bounding(host, other_user_namespace);
    let keep_admin = filtered && !process.no_new_privileges;
    let mut identity = process::identity(process, sets, last, namespaces, keep_admin).map_err(|problem| vec![problem])?;
    if process::keeps_groups(spec) {
        identity.groups = None;
    }
    // As user 0, who may enter what the program's user may not, and make it; where it may not, the step tries again after the next.
    // An image may lack it, and engines count on its being made; the root directory is always there.
    let path = process::working_directory(process);
    steps.push(own(Op::WorkingDirectory { made: path != "/", path }, "process.cwd"));
    steps.push(own(Op::Identity(identity), "process.user"));
    steps.push(own(Op::FindProgram, "process.args[0]"));
    if process.no_new_privileges {
        steps.push(own(Op::NoNewPrivileges, "process.noNewPrivileges"));
    }
    Ok(steps)
}

/// From a finished container to its program.
fn to_the_program(request: &Request, hooks: &Hooks, exec: &Exec, seccomp: Option<SeccompLoad>) -> Vec<Step> {
    let mut steps = vec![own(Op::CloseDescriptors { keep: exec.inherited_fds }, ""), own(Op::Ready, "")];
    if request.verb == Verb::Create {
        steps.push(own(Op::AwaitStart, ""));
    }
    if !hooks.start_container.is_empty() {
        steps.push(own(Op::StartContainerHooks, "hooks.startContainer"));
    }
    if let Some(load) = seccomp {
        steps.push(own(Op::Seccomp(load), "linux.seccomp"));
    }
    steps.push(own(Op::Exec, "process.args"));
    steps
}

/// What the runtime prepares before there is a process, after the journal: nothing is made that a delete would not find.
fn before_clone(request: &Request, namespaces: &NamespacePlan, trees: Vec<ParentStep>, spec: &Spec) -> Vec<ParentStep> {
    let mut steps = Vec::new();
    if !namespaces.join.is_empty() {
        steps.push(step(ParentOp::OpenNamespaces(namespaces.join.clone()), "linux.namespaces"));
    }
    if request.notify_socket.is_some() && spec.process.is_some() {
        steps.push(step(ParentOp::MakeNotifySocket, ""));
    }
    steps.extend(trees);
    if let Some(socket) = &request.console_socket {
        steps.push(step(ParentOp::ConnectConsole(socket.clone()), "process.terminal"));
    }
    if request.verb == Verb::Create {
        steps.push(step(ParentOp::MakeStartGate, ""));
    }
    steps
}

/// What only the runtime may do to the new process.
fn after_clone(spec: &Spec, request: &Request, namespaces: &NamespacePlan, parent_first: bool) -> Vec<ParentStep> {
    let mut steps = Vec::new();
    if let Some(adjust) = spec.process.as_deref().and_then(|process| process.oom_score_adj) {
        steps.push(step(ParentOp::OomScoreAdj(adjust), "process.oomScoreAdj"));
    }
    if namespaces.spawn.id_map.is_some() {
        steps.push(step(ParentOp::WriteIdMaps, "linux.uidMappings"));
    }
    for (name, device) in net_devices(spec) {
        let new_name = if device.name.is_empty() { name.clone() } else { device.name.clone() };
        let op = ParentOp::MoveNetDevice { name: name.clone(), new_name };
        steps.push(ParentStep { op, at: format!("linux.netDevices[\"{name}\"]") });
    }
    if let Some(rdt) = spec.linux.as_deref().and_then(|linux| linux.intel_rdt.as_ref()) {
        steps.push(step(ParentOp::EnterResctrl(resctrl::plan(rdt, &request.id.to_string())), "linux.intelRdt"));
    }
    if parent_first {
        steps.push(step(ParentOp::ReleaseChild, ""));
    }
    steps
}

/// From a process that sets itself up to a container that exists, or, for run, to a program that runs.
fn until_created(request: &Request, hooks: &Hooks) -> Vec<ParentStep> {
    let mut steps = Vec::new();
    if !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty() {
        steps.push(step(ParentOp::RuntimeHooks, "hooks.createRuntime"));
    }
    steps.push(step(ParentOp::AwaitReady, ""));
    steps.push(step(ParentOp::SaveCreated, ""));
    if let Some(file) = &request.pid_file {
        steps.push(step(ParentOp::PidFile(file.clone()), ""));
    }
    if let Some(socket) = &request.pidfd_socket {
        steps.push(step(ParentOp::SendPidfd(socket.clone()), ""));
    }
    steps.push(step(ParentOp::ReleaseReady, ""));
    if request.verb == Verb::Run {
        steps.push(step(ParentOp::AwaitExec, ""));
        if !hooks.poststart.is_empty() {
            steps.push(step(ParentOp::PoststartHooks, "hooks.poststart"));
        }
    }
    steps
}

fn net_devices(spec: &Spec) -> Vec<(&String, &crate::spec::types::NetDevice)> {
    spec.linux.iter().flat_map(|linux| &linux.net_devices).collect()
}

/// The hooks of a configuration, each with its place in it, in a bundle at this place.
pub fn hooks(spec: &Spec, bundle: &str) -> Hooks {
    let Some(given) = &spec.hooks else { return Hooks::default() };
    let output = hook_output::of(spec, bundle);
    let kind = |list: &[crate::spec::types::Hook], name: &str| {
        let hook = |(index, hook): (usize, &crate::spec::types::Hook)| Hook {
            path: hook.path.clone(),
            args: if hook.args.is_empty() { vec![hook.path.clone()] } else { hook.args.clone() },
            env: (!hook.env.is_empty()).then(|| hook.env.clone()),
            timeout_s: hook.timeout.and_then(|seconds| u64::try_from(seconds).ok()),
            output: output.clone(),
            at: format!("hooks.{name}[{index}]"),
        };
        list.iter().enumerate().map(hook).collect::<Vec<_>>()
    };
    Hooks {
        prestart: kind(&given.prestart, "prestart"),
        create_runtime: kind(&given.create_runtime, "createRuntime"),
        create_container: kind(&given.create_container, "createContainer"),
        start_container: kind(&given.start_container, "startContainer"),
        poststart: kind(&given.poststart, "poststart"),
        poststop: kind(&given.poststop, "poststop"),
    }
}
