// SPDX-License-Identifier: Apache-2.0
//! The container's process, from clone3(2) to execve(2): it carries out the plan's steps, one after the other.
//!
//! Called by [`crate::process::spawn`] in the new process, and never returns: after [`run`] there is the container's program, or nothing.
//! So nothing of the runtime's own work, and none of its destructors, can happen twice. Whatever fails is told to the runtime
//! ([`crate::process::sync`]), or after the start gate to `start` ([`crate::process::gate`]), with the number of its step.
//!
//! | file          | which steps                                                                       |
//! |---------------|-----------------------------------------------------------------------------------|
//! | [`namespaces`]| entering and making namespaces, keyring, kernel parameters                         |
//! | [`stdio`]     | standard streams and the terminal                                                 |
//! | [`identity`]  | user, groups, capabilities                                                        |
//! | [`program`]   | finding the program, explaining why it cannot be executed                          |
//! | [`home`]      | HOME from the image's passwd                                                      |
//! | [`waiting`]   | the start gate, with as little memory as can be                                     |
//! | [`times`]     | none: tells when the steps began, where somebody asks                              |
//! | [`last`]      | descriptors, working directory, seccomp, execve(2)                                |
//! | `crate::rootfs` | everything about the root filesystem                                            |

pub mod home;
pub mod identity;
pub mod last;
pub mod namespaces;
pub mod program;
pub mod stdio;
mod times;
mod waiting;

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use crate::error::{Code, Error, Kind, Result, Told};
use crate::hooks::{self, HookState};
use crate::linux::clone::exit_now;
use crate::linux::proc::Procfs;
use crate::linux::signal::Set;
use crate::linux::types::{Errno, Namespaces};
use crate::linux::{cred, environment, mount, netlink, pid, probe, sched};
use crate::plan::step::{Identity, Op, Step};
use crate::plan::{Exec, Hooks};
use crate::process::gate::Gate;
use crate::process::sync::{Channel, Delivery, ToChild, ToParent};
use crate::rootfs::{self, Entry, HostTrees, RootFs};
use crate::trace;

/// What the process does: a part of the plan.
#[derive(Clone, Copy, Debug)]
pub struct Work<'a> {
    /// The steps.
    pub steps: &'a [Step],
    /// The hooks of the steps that run hooks.
    pub hooks: &'a Hooks,
    /// The program.
    pub exec: &'a Exec,
    /// What hooks and the seccomp listener are told; status and pid are filled in here.
    pub state: &'a HookState,
}

/// What the runtime made for the process before the clone.
#[derive(Debug, Default)]
pub struct InitContext {
    /// Copies of host trees ([`crate::plan::ParentOp::OpenTree`]).
    pub trees: HostTrees,
    /// The small mount namespace to be copied ([`crate::plan::ParentOp::OpenPinnedNamespace`]).
    pub pinned: Option<OwnedFd>,
    /// The namespaces to be joined, in the order of the step (or of the shape) that joins them.
    pub namespaces: Vec<OwnedFd>,
    /// The connected console socket.
    pub console_socket: Option<OwnedFd>,
    /// The start gate, for create.
    pub gate: Option<Gate>,
    /// The connected socket for the seccomp listener.
    pub listener: Option<OwnedFd>,
    /// The files that hooks print to.
    pub hook_output: hooks::Output,
    /// For exec: the container's first process, and its namespaces that this one enters before all steps.
    pub enter: Option<(OwnedFd, Namespaces)>,
    /// Others live in the namespaces that it begins in: it hides from them as soon as the runtime has mapped its ids.
    pub hide: bool,
    /// The runtime wants to know when each step begins.
    pub timed: bool,
    /// The signals that the runtime ignored when it made the process.
    pub ignored: Set,
    /// The standard streams, which stay what they are, as the runtime has seen them.
    pub streams: Option<stdio::Streams>,
}

impl InitContext {
    /// The descriptors that the process must keep until it uses them.
    pub(super) fn fds(&self) -> Vec<RawFd> {
        let mut fds = self.trees.fds();
        let entered = self.enter.iter().map(|(process, _)| process);
        let printed = self.hook_output.stdout.iter().chain(&self.hook_output.stderr);
        let sockets = self.console_socket.iter().chain(&self.listener).chain(printed);
        let own = self.namespaces.iter().chain(&self.pinned).chain(sockets).chain(entered).map(|fd| fd.as_raw_fd());
        fds.extend(own.chain(self.gate.iter().flat_map(|gate| gate.fds().map(|fd| fd.as_raw_fd()))));
        fds
    }
}

/// The umask of hooks that run while the root filesystem is made.
const HOOK_UMASK: u32 = 0o022;

/// Carries out the steps. Does not return: in the end there is the program, or the runtime knows why not.
pub fn run(work: &Work<'_>, context: InitContext, channel: Channel) -> ! {
    trace::begin_process(trace::on());
    let mut init = Init::new(*work, context, Some(channel));
    if let Err(error) = init.begin() {
        init.fail(error, None);
        exit_now(1);
    }
    init.carry_out()
}

/// The state of the process between its steps.
struct Init<'a> {
    /// From the start gate on, what is left of it.
    work: Work<'a>,
    /// How many steps of the plan came before.
    done: usize,
    trees: HostTrees,
    pinned: Option<OwnedFd>,
    joins: Vec<OwnedFd>,
    console: Option<OwnedFd>,
    listener: Option<OwnedFd>,
    hook_output: hooks::Output,
    enter: Option<(OwnedFd, Namespaces)>,
    /// To be hidden from others once the ids are mapped.
    hide: bool,
    /// It is one more process of a container that runs.
    joining: bool,
    /// Descriptors that were given to it, to be kept when the runtime's others are closed.
    given: Vec<RawFd>,
    /// The runtime; none after the start gate.
    channel: Option<Channel>,
    gate: Option<Gate>,
    /// It dies with the runtime.
    bound: bool,
    /// Its user namespace is perhaps not the runtime's.
    elsewhere: bool,
    proc: Option<Procfs>,
    rootfs: Option<RootFs>,
    /// A working directory that user 0 could not enter, to be tried again as the program's user.
    directory: Option<String>,
    /// Who it has become.
    identity: Option<Identity>,
    /// Its own pid as the runtime sees it.
    pid: i32,
    /// When its steps begin is asked for; the first of them, and when they began.
    timed: bool,
    first: usize,
    /// The step that it is at.
    at: usize,
    marks: Vec<u64>,
    last: last::Last,
    ignored: Set,
    streams: Option<stdio::Streams>,
}

impl<'a> Init<'a> {
    fn new(work: Work<'a>, context: InitContext, channel: Option<Channel>) -> Init<'a> {
        let given = context.fds();
        let InitContext { trees, pinned, namespaces: joins, console_socket: console, gate, listener, .. } = context;
        let InitContext { hook_output, enter, hide, timed, ignored, streams, .. } = context;
        Init {
            work,
            done: 0,
            trees,
            pinned,
            joins,
            console,
            listener,
            hook_output,
            joining: enter.is_some(),
            enter,
            hide,
            given,
            channel,
            gate,
            bound: true,
            elsewhere: false,
            proc: None,
            rootfs: None,
            directory: None,
            identity: None,
            pid: 0,
            timed,
            first: 0,
            at: 0,
            marks: Vec::new(),
            last: last::Last::default(),
            ignored,
            streams,
        }
    }

    /// Carries out the steps.
    fn carry_out(&mut self) -> ! {
        let steps = self.work.steps;
        for (index, step) in steps.iter().enumerate() {
            if step.op == Op::AwaitStart && index > 0 {
                self.go_on_at_the_gate(index);
            }
            self.at = index;
            self.begin_step(&step.op);
            if let Err(error) = self.step(&step.op) {
                self.tell_times(true);
                self.fail(error.clone(), Some(index));
                // Looking for an explanation may end the process, where a filter does not like it: the error itself is told by now.
                if let Some((cause, hint)) = self.explain() {
                    self.fail(error.cause(cause).hint(hint), Some(index));
                }
                exit_now(1);
            }
        }
        // Every plan ends with execve(2), which does not return.
        self.fail(Error::new(Kind::Program, "the container has no program to run"), None);
        exit_now(1)
    }

    /// First of all: nothing of the runtime stays open here, or can be read in /proc, and the process dies when the runtime does.
    fn begin(&mut self) -> Result<()> {
        environment::hide(self.work.hooks.inherit_inside());
        let mut keep = std::mem::take(&mut self.given);
        keep.extend(self.channel.iter().map(|channel| channel.as_fd().as_raw_fd()));
        last::close_descriptors(self.work.exec.inherited_fds, keep)?;
        // It may have died before: then there will be no signal, and the process ends where it next talks to it, at the latest before the
        // program.
        self.die_with_runtime()?;
        match self.enter.take() {
            Some((process, kinds)) => self.enter_container(&process, kinds),
            None => Ok(()),
        }
    }

    /// For exec: enters the container, all at once. The runtime has made this process undumpable (CVE-2016-9962).
    #[inline(never)] // Rare.
    fn enter_container(&mut self, process: &OwnedFd, kinds: Namespaces) -> Result<()> {
        self.open_proc()?;
        namespaces::enter(process, kinds)?;
        // Only a change of ids takes it back.
        self.elsewhere = kinds.contains(Namespaces::USER);
        if self.elsewhere { self.die_with_runtime() } else { Ok(()) }
    }

    /// (Again) asks to be killed when the runtime dies; a change of ids takes it back (prctl(2)).
    fn die_with_runtime(&self) -> Result<()> {
        let signal = if self.bound { libc::SIGKILL } else { return Ok(()) };
        pid::set_parent_death_signal(signal).told(|| "cannot tie the process to the runtime".into())
    }

    /// Takes that back: the container's program must not die with the runtime.
    fn outlive_runtime(&mut self) -> Result<()> {
        self.bound = false;
        pid::set_parent_death_signal(0).told(|| "cannot untie the process from the runtime".into())
    }

    /// Notes when a step begins, where times are asked for. They are told before the last steps at which somebody listens.
    fn begin_step(&mut self, op: &Op) {
        if !self.timed {
            return;
        }
        self.marks.push(trace::now());
        if matches!(op, Op::Ready | Op::Seccomp(_) | Op::Exec | Op::End) {
            self.tell_times(false);
        }
        // From the filter on every system call is judged, and none is made that only we want.
        self.timed = !matches!(op, Op::Seccomp(_));
    }

    /// One step.
    fn step(&mut self, op: &Op) -> Result<()> {
        match op {
            Op::AwaitRuntime => self.await_runtime(),
            Op::NewSession => cred::setsid().told(|| "cannot begin a session".into()),
            Op::BecomeNamespaceRoot => self.become_namespace_root(),
            Op::Join(joins) => self.join(joins),
            Op::NewKeyring(name) => namespaces::new_keyring(name),
            Op::NewCgroupNamespace => namespaces::new_cgroup_namespace(),
            Op::NewTimeNamespace(offsets) => namespaces::new_time_namespace(offsets),
            Op::LoopbackUp => netlink::loopback_up().told(|| "cannot bring up the loopback device".into()),
            Op::OpenProc => self.open_proc(),
            Op::AskForRuntimeHooks => self.ask_for_runtime_hooks(),
            Op::CreateContainerHooks => self.create_container_hooks(),
            Op::Console { size, bound } => self.open_console(*size, *bound),
            Op::Hostname(name) => cred::sethostname(name).told(|| format!("cannot set the host name \"{name}\"")),
            Op::Domainname(name) => cred::setdomainname(name).told(|| format!("cannot set the domain name \"{name}\"")),
            Op::Sysctl { key, value } => self.sysctl(key, value),
            Op::ApparmorProfile(profile) => namespaces::apparmor_profile(self.proc()?, profile),
            Op::SelinuxLabel(label) => namespaces::selinux_label(self.proc()?, label),
            Op::OwnStdio { uid } => {
                let seen = self.streams.take();
                stdio::own(self.rootfs()?, *uid, seen.as_ref())
            }
            Op::Identity(identity) => self.become_user(identity),
            Op::WorkingDirectory { path, made } => self.enter_directory(path, *made),
            Op::NoNewPrivileges => cred::set_no_new_privileges().told(|| "cannot give up new privileges".into()),
            Op::FindProgram => self.find_program(),
            Op::CloseDescriptors { keep } => self.close_descriptors(*keep),
            Op::Ready => self.ready(),
            Op::AwaitStart => self.await_start(),
            Op::StartContainerHooks => self.start_container_hooks(),
            Op::Seccomp(load) => self.load_seccomp(load),
            Op::Exec => self.execute(),
            Op::End => exit_now(0),
            Op::Rlimit { .. }
            | Op::Scheduler(_)
            | Op::IoPriority { .. }
            | Op::MemoryPolicy { .. }
            | Op::Affinity(_)
            | Op::Personality(_)
            | Op::Umask(_) => attribute(op),
            Op::Propagation(_)
            | Op::AttachRoot { .. }
            | Op::EnterRoot { .. }
            | Op::Mount(_)
            | Op::Node(_)
            | Op::Link { .. }
            | Op::Directory(_)
            | Op::Pivot { .. }
            | Op::MoveRoot
            | Op::RootPropagation(_)
            | Op::ReadonlyPath { .. }
            | Op::MaskPaths { .. }
            | Op::ReadonlyMounts
            | Op::Unmount(_)
            | Op::ReadonlyRoot => self.rootfs_step(op),
        }
    }

    /// A step of the root filesystem.
    fn rootfs_step(&mut self, op: &Op) -> Result<()> {
        if let Op::AttachRoot { source, path, propagation, private_parent } = op {
            let trees = std::mem::take(&mut self.trees);
            let ask = || self.ask_for_tree();
            self.rootfs = Some(RootFs::attach(source, path, *propagation, *private_parent, trees, &ask)?);
            return Ok(());
        }
        if let Op::EnterRoot { path, route, root, trees } = op {
            let entry = Entry { path, route: *route, root: *root, trees: *trees, pinned: self.pinned.take() };
            let trees = std::mem::take(&mut self.trees);
            self.rootfs = Some(RootFs::enter(entry, self.work.steps, trees, &|| self.ask_for_tree())?);
            return Ok(());
        }
        if let Op::Propagation(change) = op {
            return rootfs::propagation(*change);
        }
        let rootfs = self.rootfs()?;
        match op {
            Op::Mount(mount) => match rootfs.mount(mount) {
                Err(error) if error.errno == Some(Errno::ELOOP) && rootfs.has_copied_before(mount) => {
                    let tree = self.ask_for_tree()?;
                    let rootfs = self.rootfs()?;
                    rootfs.give(mount, tree);
                    rootfs.mount(mount)
                }
                done => done,
            },
            Op::Node(node) => rootfs.node(node).map_err(|error| match error.errno {
                Some(Errno::EPERM | Errno::EINVAL) => error.or_cause(Code::DeviceNode),
                _ => error,
            }),
            Op::Link { path, target, only_existing } => rootfs.link(path, target, *only_existing),
            Op::Directory(path) => rootfs.directory(path),
            Op::Pivot { shared } => rootfs.pivot(*shared),
            Op::MoveRoot => rootfs.move_root(),
            Op::RootPropagation(change) => rootfs.root_propagation(*change),
            Op::ReadonlyPath { path, but } => rootfs.readonly_path(path, but),
            Op::MaskPaths { paths, label } => rootfs.mask_paths(paths, label.as_deref()),
            Op::ReadonlyMounts => rootfs.readonly_mounts(),
            Op::Unmount(path) => rootfs.unmount(path),
            Op::ReadonlyRoot => rootfs.readonly_root(),
            other => Err(unknown(other)),
        }
    }

    /// The root filesystem; where the plan attaches none, the one that the process is in.
    fn rootfs(&mut self) -> Result<&mut RootFs> {
        let rootfs = match self.rootfs.take() {
            Some(rootfs) => rootfs,
            None => RootFs::current(std::mem::take(&mut self.trees))?,
        };
        Ok(self.rootfs.insert(rootfs))
    }

    /// Tells whoever waits for it what failed. Nobody may be there any more.
    #[inline(never)] // Rare.
    fn fail(&self, mut error: Error, step: Option<usize>) {
        if let Some((index, step)) = step.and_then(|index| Some((index, self.work.steps.get(index)?))) {
            error.step = Some(((self.done + index) as u32 + 1, (self.done + self.work.steps.len()) as u32));
            error.config = error.config.or_else(|| Some(step.at.clone()).filter(|at| !at.is_empty()));
        }
        match (&self.channel, &self.gate) {
            (Some(channel), _) => {
                // It fails only where the runtime is dead; then nobody wants to know.
                let _ = channel.send(&ToParent::Failed(error), None);
            }
            (None, Some(gate)) => gate.fail(&error),
            (None, None) => {}
        }
    }

    fn say(&self, message: &ToParent, with: Option<&OwnedFd>) -> Result<()> {
        let Some(channel) = &self.channel else { return Err(Error::new(Kind::Peer, "the runtime is gone already")) };
        channel.send(message, with.map(AsFd::as_fd)).told(|| "cannot talk to the runtime".into())
    }

    /// The runtime's next word. Its death ends this process too.
    fn hear(&self) -> Result<ToChild> {
        self.receive().map(|(message, _)| message)
    }

    fn receive(&self) -> Result<Delivery<ToChild>> {
        let Some(channel) = &self.channel else { return Err(Error::new(Kind::Peer, "the runtime is gone already")) };
        match channel.receive::<ToChild>().told(|| "cannot hear the runtime".into())? {
            Some(delivery) => Ok(delivery),
            None => exit_now(1),
        }
    }

    /// Another copy of the host's tree that this step attaches, in which the kernel finds nothing to refuse. [`Sources`] says why.
    ///
    /// [`Sources`]: crate::process::sources::Sources
    fn ask_for_tree(&self) -> Result<OwnedFd> {
        self.say(&ToParent::AskTree { step: self.at as u32 }, None)?;
        match self.receive()? {
            (ToChild::Tree, Some(tree)) => Ok(tree),
            _ => Err(out_of_turn()),
        }
    }

    #[inline(never)] // Rare.
    fn await_runtime(&mut self) -> Result<()> {
        if self.hear()? != ToChild::Proceed {
            return Err(out_of_turn());
        }
        if self.hide {
            cred::set_dumpable(false).told(|| "cannot hide the process from those in its namespaces".into())?;
        }
        Ok(())
    }

    #[inline(never)] // Rare.
    fn ask_for_runtime_hooks(&mut self) -> Result<()> {
        self.rootfs.iter_mut().for_each(RootFs::forget_places);
        self.say(&ToParent::AskHooks, None)?;
        if self.hear()? == ToChild::HooksDone { Ok(()) } else { Err(out_of_turn()) }
    }

    /// All is done that can be done before the start: the process stops being tied to the runtime, once that knows of it.
    fn ready(&mut self) -> Result<()> {
        self.outlive_runtime()?;
        self.say(&ToParent::Ready, None)?;
        // The runtime says so and may be gone by then: an error here would be heard by nobody.
        let ToChild::Continue { pid } = self.hear().or_else(|_| self.hear())? else { return Err(out_of_turn()) };
        self.pid = i32::try_from(pid).unwrap_or_default();
        if self.gate.is_some() {
            self.channel = None;
        }
        Ok(())
    }

    /// createContainer: in the container's namespaces, with the runtime's files still in sight, in the root filesystem's directory.
    #[inline(never)] // Rare.
    fn create_container_hooks(&mut self) -> Result<()> {
        let told = || "cannot enter the root filesystem for the createContainer hooks".to_string();
        self.rootfs()?.forget_places();
        mount::fchdir(self.rootfs()?.root()).told(told)?;
        let exact = cred::umask(HOOK_UMASK);
        let done = self.run_hooks(&self.work.hooks.create_container, "creating");
        cred::umask(exact);
        done
    }

    #[inline(never)] // Rare.
    fn start_container_hooks(&mut self) -> Result<()> {
        self.run_hooks(&self.work.hooks.start_container, "created")
    }

    fn run_hooks(&self, list: &[crate::plan::Hook], status: &str) -> Result<()> {
        let state = HookState { status: status.into(), pid: pid::getpid(), ..self.work.state.clone() };
        hooks::run_all(list, &state, &self.hook_output)
    }

    #[inline(never)] // Rare.
    fn become_namespace_root(&mut self) -> Result<()> {
        identity::become_namespace_root()?;
        self.elsewhere = true;
        self.die_with_runtime()
    }

    fn become_user(&mut self, identity: &Identity) -> Result<()> {
        identity::become_user(identity).map_err(|error| error.or_cause(Code::Capabilities))?;
        if self.elsewhere || (identity.uid, identity.gid) != (probe::euid(), probe::egid()) {
            self.die_with_runtime()?;
        }
        self.identity = Some(identity.clone());
        match self.directory.take() {
            Some(path) => last::change_directory(&path),
            None => Ok(()),
        }
    }

    #[inline(never)] // Rare.
    fn join(&mut self, joins: &[crate::plan::Join]) -> Result<()> {
        namespaces::join(joins, &self.joins)?;
        self.joins.clear();
        self.elsewhere = true;
        self.die_with_runtime()
    }

    /// Opens a procfs for the steps that write to one, as long as it cannot be the container's.
    fn open_proc(&mut self) -> Result<()> {
        let writes = |op: &Op| matches!(op, Op::Sysctl { .. } | Op::ApparmorProfile(_) | Op::SelinuxLabel(_));
        let sysctl = |op: &Op| matches!(op, Op::Sysctl { .. });
        if self.work.steps.iter().any(|step| writes(&step.op)) {
            let only_processes = !self.work.steps.iter().any(|step| sysctl(&step.op));
            self.proc = Some(Procfs::open(only_processes).told(|| "cannot open a procfs".into())?);
        }
        Ok(())
    }

    /// Where no procfs was opened for it, the plan has a new one on the container's /proc, which nobody has come to yet.
    fn sysctl(&mut self, key: &str, value: &str) -> Result<()> {
        let file = match (&self.proc, self.rootfs.as_ref().and_then(RootFs::new_proc)) {
            (None, Some(proc)) => namespaces::sysctl(&proc, key, value)?,
            _ => namespaces::sysctl(self.proc()?, key, value)?,
        };
        if let Some(rootfs) = &mut self.rootfs {
            rootfs.spend(file);
        }
        Ok(())
    }

    fn proc(&self) -> Result<&Procfs> {
        self.proc.as_ref().ok_or_else(|| Error::new(Kind::Peer, "no procfs has been opened"))
    }
}

fn out_of_turn() -> Error {
    Error::new(Kind::Peer, "the runtime said something else than was its turn to say")
}

/// A limit or attribute of the process that one system call sets.
fn attribute(op: &Op) -> Result<()> {
    match op {
        Op::Rlimit { name, resource, soft, hard } => {
            let told = || format!("cannot set {name} to {soft} (soft) and {hard} (hard)");
            sched::set_limit(0, *resource, *soft, *hard).told(told).map_err(|error| match error.errno {
                Some(Errno::EPERM) => error
                    .cause(Code::Rlimit)
                    .hint("raising a hard limit needs CAP_SYS_RESOURCE, which the runtime does not have here"),
                _ => error,
            })
        }
        Op::Scheduler(wanted) => {
            let crate::plan::step::Scheduler { policy, flags, nice, priority, runtime, deadline, period } = *wanted;
            let attributes = sched::Attributes { policy, flags, nice, priority, runtime, deadline, period };
            sched::set_attributes(&attributes)
                .told(|| "cannot set the scheduling policy".into())
                .map_err(|error| error.or_cause(Code::Scheduling))
        }
        Op::IoPriority { class, level } => sched::set_io_priority(*class, *level)
            .told(|| format!("cannot set I/O priority {level} of class {class}"))
            .map_err(|error| error.or_cause(Code::Scheduling)),
        Op::MemoryPolicy { mode, nodes } => sched::set_memory_policy(*mode, nodes).told(|| "cannot set the memory policy".into()),
        Op::Affinity(cpus) => sched::set_affinity(0, cpus)
            .told(|| "cannot set the CPU affinity".into())
            .map_err(|error| error.or_cause(Code::Scheduling)),
        Op::Personality(persona) => sched::set_personality(*persona).told(|| "cannot set the execution domain".into()),
        Op::Umask(mask) => {
            cred::umask(*mask);
            Ok(())
        }
        other => Err(unknown(other)),
    }
}

/// The table of steps and what carries them out do not agree.
fn unknown(op: &Op) -> Error {
    Error::new(Kind::Unsupported, format!("this step is not known here: {op}"))
}
