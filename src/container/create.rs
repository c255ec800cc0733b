// SPDX-License-Identifier: Apache-2.0
//! `create` and `run`: carry out the runtime's part of a plan (runtime.md, Create; Lifecycle steps 1 to 9).
//!
//! 1. The configuration has been checked and the plan is made: from here on things are made, in the plan's order, the journal first.
//! 2. When a step fails, everything made so far is undone, in the reverse order, and the poststop hooks run.
//! 3. `create` ends when the container's process waits at the start gate; `run` goes on to its program and, in the foreground, to its end.

use std::mem::ManuallyDrop;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::bundle::Bundle;
use super::identity::Identity;
use super::notify::NotifySocket;
use super::state::{State, Status, VERSION};
use super::store::{Entry, Store};
use super::{delete, exec_config, foreground, init_process, journal, notify};
use crate::cgroup::oom::{Lack, Witness};
use crate::cgroup::{self, Cgroup};
use crate::error::{Code, Error, Kind, Result, Told};
use crate::hooks;
use crate::linux::types::Namespaces;
use crate::linux::{clone, cred, exe, fd, pid, proc, socket, status, time};
use crate::netdev;
use crate::plan::resctrl::Resctrl;
use crate::plan::resources::SavedCgroup;
use crate::plan::{Host, Join, ParentOp, ParentStep, Plan, Request, Step, Verb};
use crate::process::forward::Signals;
use crate::process::gate;
use crate::process::init::InitContext;
use crate::process::init::stdio::Streams;
use crate::process::sources::Sources;
use crate::process::spawn::Spawned;
use crate::rdt;
use crate::rootfs::pin;
use crate::rootfs::tree::{HostTree, HostTrees};
use crate::trace::{self, Times};

/// Says what the user should know although it is no error.
pub type Warn<'a> = &'a dyn Fn(&str);

/// Creates or runs a container. Returns the exit status of the command.
///
/// `debug`, where there is one, is told what each step of the plan took.
pub fn make(request: &Request, host: &Host, bundle: &Bundle, plan: &Plan, warn: Warn<'_>, debug: Option<Warn<'_>>) -> Result<u8> {
    make_with(request, host, bundle, plan, warn, debug, None)
}

/// As [`make`]; `listener` is where the process sends the listener of its filter, where that is not a socket at a path.
pub fn make_with(
    request: &Request,
    host: &Host,
    bundle: &Bundle,
    plan: &Plan,
    warn: Warn<'_>,
    debug: Option<Warn<'_>>,
    listener: Option<OwnedFd>,
) -> Result<u8> {
    let umask = UsualUmask::begin();
    let foreground = request.verb == Verb::Run && !request.detach;
    if foreground && !request.no_subreaper && plan.leaves_orphans() {
        pid::set_child_subreaper(true).told(|| "cannot become a subreaper".to_string())?;
    }
    // To the end of the command, and with it all that it has open.
    let signals = foreground.then(Signals::take).transpose()?.map(ManuallyDrop::new);
    let store = Store::create(&request.root)?;
    // What the journal says of its maker, before there is anything to take back.
    let maker = maker(&store)?;
    let entry = store.take(&request.id)?;
    // Before the journal: what it names is killed and removed when this fails, and must not be somebody else's.
    if let Err(error) = cgroup::check(&plan.cgroup) {
        store.remove(&entry)?;
        return Err(error.at("linux.cgroupsPath"));
    }
    let mut making = Making::new(request, host, bundle, plan, entry, warn, maker);
    making.signals = signals.as_deref();
    let timed = debug.is_some() || trace::on();
    making.context.timed = timed;
    making.context.listener = listener;
    let mut marks = Times::default();
    let total = plan.parent.len() as u32;
    for (number, step) in (1..).zip(&plan.parent) {
        marks.marks.extend(timed.then(trace::now));
        let done = making.carry_out(step);
        if let (Some(debug), Some(begun)) = (debug, marks.marks.last()) {
            debug(&format!("runtime step {number} of {total}: {}: {} µs", step.op, trace::now().saturating_sub(*begun)));
        }
        if let Err(error) = done {
            making.trace(&marks);
            let error = point_at_option(error.of_step(number, total, &step.at), bundle);
            return Err(making.undo(&store, error));
        }
    }
    making.trace(&marks);
    let Making { state, entry, spawned, poststop, notify, cgroup, witness, .. } = making;
    if let (Some(debug), Some(spawned)) = (debug, &spawned) {
        tell_times(&plan.child, spawned.times(), debug);
    }
    let Some(spawned) = spawned else { return Err(Error::new(Kind::Peer, "the plan made no process")) };
    let both = witness.as_ref().zip(cgroup.as_ref());
    let ended = match (entry.unlock(), &signals) {
        // What is told to have failed is not there.
        (Err(error), _) => {
            spawned.kill();
            Err(error)
        }
        (Ok(()), None) => match notify.map_or(Ok(()), |socket| socket.forward(spawned.pidfd(), spawned.pid())) {
            Ok(()) => {
                // As at the end of a foreground run, below.
                std::mem::forget((store, entry, spawned, witness, cgroup, umask));
                return Ok(0);
            }
            Err(error) => {
                spawned.kill();
                Err(error)
            }
        },
        (Ok(()), Some(signals)) => {
            // Its program may run for long.
            trace::write(None).unwrap_or_else(|error| warn(&error.to_string()));
            foreground::wait(spawned, signals, notify.as_ref(), both)
        }
    };
    if let Ok(status) = ended {
        let seen = both.map(|(witness, cgroup)| witness.lack_of_memory(cgroup));
        let lack = || seen.or_else(|| cgroup.as_ref()?.lack_of_memory());
        tell_lack_of_memory(&lack, status, warn);
    }
    // A run that fails leaves no container, kept or not.
    if ended.is_err() || !request.keep {
        let held = (witness, cgroup);
        match (&ended, delete::finish(&store, &entry, (&state, &poststop), ended.is_ok(), held)) {
            (_, Ok(warnings)) => warnings.iter().for_each(|warning| warn(warning)),
            (Ok(_), Err(error)) => return Err(error),
            (Err(first), Err(also)) => return Err(first.clone().hint(format!("and the container could not be removed: {also}"))),
        }
    }
    // The command ends now.
    std::mem::forget((store, entry, umask));
    ended
}

/// While it lives, what the runtime makes has the modes that it gives, whatever the caller's umask: an ordinary user could not enter a
/// state directory of mode 0. Hooks get it too.
pub(super) struct UsualUmask(Option<u32>);

impl UsualUmask {
    const USUAL: u32 = 0o022;

    /// Mostly it is the caller's already.
    pub(super) fn begin() -> UsualUmask {
        let usual = status::own().is_some_and(|status| status.umask == Self::USUAL);
        UsualUmask((!usual).then(|| cred::umask(Self::USUAL)))
    }
}

impl Drop for UsualUmask {
    fn drop(&mut self) {
        self.0.map(cred::umask);
    }
}

/// What the steps of the container's process took. Those that wait for the runtime wait as long as that takes.
#[inline(never)] // Rare.
pub(super) fn tell_times(steps: &[Step], times: &Times, debug: Warn<'_>) {
    let total = steps.len();
    for (step, (index, begin, end)) in steps.iter().zip(times.steps(trace::now())) {
        debug(&format!("process step {} of {total}: {}: {} µs", index + 1, step.op, end.saturating_sub(begin)));
    }
}

/// An exit status of 137 alone does not say who killed.
#[inline(never)] // Rare.
fn tell_lack_of_memory(lack: &dyn Fn() -> Option<Lack>, status: u8, warn: Warn<'_>) {
    const KILLED: u8 = 128 + libc::SIGKILL as u8;
    if status != KILLED {
        return;
    }
    if let Some(lack) = lack().filter(|lack| lack.kills > 0) {
        warn(&format!("the kernel killed the container's process for lack of memory: {lack}"));
    }
}

/// A container that is being made, and what has been made of it.
struct Making<'a> {
    request: &'a Request,
    plan: &'a Plan,
    bundle: &'a Bundle,
    entry: Entry,
    state: State,
    cgroup: Option<Cgroup>,
    /// Of a foreground run: sees what the kernel says of its memory.
    witness: Option<Witness>,
    context: InitContext,
    spawned: Option<Spawned<'a>>,
    /// What its standard streams are, where it has got ours.
    streams: Option<Streams>,
    poststop: Vec<crate::plan::Hook>,
    notify: Option<NotifySocket>,
    /// The pid file is ours to remove.
    pid_file_written: bool,
    warn: Warn<'a>,
    /// The network namespace that is joined, for devices to be moved into.
    network: Option<OwnedFd>,
    /// Network devices that are the container's by now.
    devices: Vec<netdev::Moved>,
    /// Signals that are to reach the program: until it runs, those that ask for an end are for us.
    signals: Option<&'a Signals>,
}

impl<'a> Making<'a> {
    fn new(
        request: &'a Request,
        host: &Host,
        bundle: &'a Bundle,
        plan: &'a Plan,
        entry: Entry,
        warn: Warn<'a>,
        maker: Maker,
    ) -> Making<'a> {
        let state = first_state(request, host, bundle, plan, maker);
        let poststop = plan.hooks.poststop.clone();
        let context = InitContext::default();
        let (network, devices) = (None, Vec::new());
        Making {
            request,
            plan,
            bundle,
            entry,
            state,
            cgroup: None,
            witness: None,
            context,
            spawned: None,
            streams: None,
            poststop,
            notify: None,
            pid_file_written: false,
            warn,
            network,
            devices,
            signals: None,
        }
    }

    /// Adds the steps of both sides so far to the trace, where there is one.
    fn trace(&self, marks: &Times) {
        let steps = &self.plan.parent;
        trace::add_process(0, "", marks, 0, &|index| {
            steps.get(index).map_or_else(Default::default, |step| (step.op.to_string(), step.at.clone()))
        });
        if let Some(spawned) = &self.spawned {
            spawned.trace(&self.plan.child);
        }
    }

    /// Becomes readable when this is to be broken off.
    fn interrupt(&self) -> Result<Option<BorrowedFd<'a>>> {
        self.signals.map(Signals::ending).transpose()
    }

    /// One step of the runtime.
    fn carry_out(&mut self, step: &ParentStep) -> Result<()> {
        match &step.op {
            ParentOp::SaveCreating => self.save_creating(),
            ParentOp::MakeCgroup => self.make_cgroup(),
            ParentOp::OpenNamespaces(joins) => self.open_namespaces(joins),
            ParentOp::OpenTree { .. } => open_tree(&mut self.context.trees, &step.op),
            ParentOp::ConnectConsole(path) => {
                self.context.console_socket = Some(connect(path, "console socket")?);
                Ok(())
            }
            ParentOp::ConnectListener(path) => {
                self.context.listener = Some(connect(path, "seccomp listener's socket")?);
                Ok(())
            }
            ParentOp::OpenHookOutput(files) => {
                self.context.hook_output = hooks::Output::open(files)?;
                Ok(())
            }
            ParentOp::MakeStartGate => {
                self.context.gate = Some(gate::make(&self.entry)?);
                Ok(())
            }
            ParentOp::MakeNotifySocket => self.make_notify_socket(),
            ParentOp::OpenPinnedNamespace => {
                self.context.pinned = pin::open();
                Ok(())
            }
            ParentOp::Clone => self.clone_process(),
            ParentOp::OomScoreAdj(adjust) => self.spawned()?.oom_score_adj(*adjust),
            ParentOp::WriteIdMaps => {
                let plan = self.plan;
                self.spawned()?.write_id_maps(&plan.spawn)
            }
            ParentOp::MoveNetDevice { name, new_name } => self.move_net_device(name, new_name),
            ParentOp::EnterResctrl(resctrl) => self.enter_resctrl(resctrl),
            ParentOp::ReleaseChild => self.spawned()?.proceed(),
            ParentOp::RuntimeHooks => self.runtime_hooks(),
            ParentOp::AwaitReady => {
                let sources = self.sources();
                self.spawned()?.await_ready(sources)
            }
            ParentOp::SaveCreated => self.save_created(),
            ParentOp::PidFile(path) => {
                self.pid_file_written = true;
                write_pid_file(path, self.state.init_process_pid)
            }
            ParentOp::SendPidfd(path) => self.send_pidfd(path),
            ParentOp::ReleaseReady => self.spawned()?.go_on(),
            ParentOp::AwaitExec => self.spawned()?.await_exec(),
            ParentOp::PoststartHooks => {
                let state = self.state.for_hooks(Status::Running);
                let interrupt = self.interrupt()?;
                let run = || hooks::run_all_unless(&self.plan.hooks.poststart, &state, None, interrupt);
                self.entry.while_hooks_run(&self.state, run)
            }
        }
    }

    /// The trees of the host that the process attaches.
    fn sources(&self) -> Sources<'a> {
        Sources { steps: &self.plan.child, trees: &self.plan.parent }
    }

    fn spawned(&mut self) -> Result<&mut Spawned<'a>> {
        self.spawned.as_mut().ok_or_else(|| Error::new(Kind::Peer, "there is no process yet"))
    }
}

/// The steps themselves, in the order in which a plan has them.
impl Making<'_> {
    /// The journal: what is going to be made, and the configuration that says so.
    fn save_creating(&mut self) -> Result<()> {
        // A filter with a listener of our own is for this process alone: exec goes by the configuration.
        let for_exec = match self.context.listener {
            None => exec_config::make(&self.bundle.spec, self.plan),
            Some(_) => Ok(Vec::new()),
        };
        let saved = for_exec.and_then(|exec| journal::create(&self.entry, &exec, &self.state, &self.bundle.bytes));
        // Nothing has been made: there is nothing to look for, which needs descriptors that there may be none of.
        saved.inspect_err(|_| self.state.cgroup = SavedCgroup::default())
    }

    /// `start` binds the socket for a container that was created; `run` is its own start.
    #[inline(never)] // Rare.
    fn make_notify_socket(&mut self) -> Result<()> {
        notify::make_directory(&self.entry)?;
        if let (Verb::Run, Some(host)) = (self.request.verb, &self.request.notify_socket) {
            self.notify = Some(NotifySocket::bind(&format!("{}/{}", self.request.root, self.request.id), host)?);
        }
        Ok(())
    }

    fn make_cgroup(&mut self) -> Result<()> {
        let plan = &self.plan.cgroup;
        let made = match plan.unit {
            None => Cgroup::create(plan),
            Some(_) => Cgroup::create_unit(plan, self.state.init_process_pid).map(|cgroup| (cgroup, None)),
        };
        let (cgroup, warning) = made.inspect_err(|_| {
            // Nothing of it is left, and what there is belongs to somebody else: to be neither killed nor removed.
            self.state.cgroup = SavedCgroup::default();
        })?;
        if let Some(warning) = warning {
            (self.warn)(&warning);
            self.state.cgroup = SavedCgroup::default();
            return self.entry.save_with(&self.state, &self.bundle.spec.mounts);
        }
        if *cgroup.saved() != self.state.cgroup {
            self.state.cgroup = cgroup.saved().clone();
            self.entry.save_with(&self.state, &self.bundle.spec.mounts)?;
        }
        cgroup.apply(&plan.writes)?;
        if let Some(filter) = &plan.devices {
            cgroup.filter_devices(filter)?.iter().for_each(|warning| (self.warn)(warning));
        }
        self.witness = self.signals.and_then(|_| cgroup.witness());
        self.cgroup = Some(cgroup);
        Ok(())
    }

    #[inline(never)] // Rare.
    fn open_namespaces(&mut self, joins: &[Join]) -> Result<()> {
        for join in joins {
            let what = || format!("cannot join the {} namespace {}", crate::plan::namespaces::name(join.kind), join.path);
            let told =
                |error: crate::linux::call::CallError| Error::from(error).doing(what()).cause(Code::NamespacePath).at(&join.at);
            let namespace = clone::open_namespace(&join.path).map_err(told)?;
            let kind = clone::namespace_kind(&namespace).map_err(told)?;
            if kind != join.kind {
                let found = crate::plan::namespaces::name(kind);
                return Err(Error::new(Kind::Config, format!("{}: it is a {found} namespace", what()))
                    .cause(Code::NamespaceKind)
                    .at(&join.at));
            }
            if kind == Namespaces::NET {
                let same = namespace.try_clone().map_err(|error| Error::new(Kind::Kernel, format!("{}: {error}", what())))?;
                self.network = Some(same);
            }
            self.context.namespaces.push(namespace);
        }
        Ok(())
    }

    fn has_terminal(&self) -> bool {
        self.bundle.spec.process.as_deref().is_some_and(|process| process.terminal)
    }

    fn clone_process(&mut self) -> Result<()> {
        let mut context = std::mem::take(&mut self.context);
        // With a terminal they are replaced. In another user namespace their owners have other numbers.
        self.streams = if self.has_terminal() { None } else { init_process::look_at_streams() };
        context.streams = self.streams.filter(|_| !self.plan.namespaces.contains(Namespaces::USER));
        let directory = self.cgroup.as_ref().and_then(Cgroup::clone_into);
        let cloned_into = directory.is_some();
        let begun = time::since_boot();
        let spawned = Spawned::clone(self.plan, context, &self.state.for_hooks(Status::Creating), directory)?;
        self.state.set_init_process(Identity::of(spawned.pid(), spawned.pidfd(), Some((begun, time::since_boot())))?);
        let spawned = self.spawned.insert(spawned);
        self.signals.into_iter().for_each(|signals| spawned.heed(signals));
        self.cgroup.as_ref().map_or(Ok(()), |cgroup| cgroup.enter(self.state.init_process_pid, cloned_into))
    }

    /// The process waits: it may be in its network namespace, or about to join it.
    #[inline(never)] // Rare.
    fn move_net_device(&mut self, name: &str, new_name: &str) -> Result<()> {
        let network = match self.network.take() {
            Some(network) => network,
            None => {
                let path = format!("/proc/{}/ns/net", self.spawned()?.pid());
                clone::open_namespace(&path).told(|| "cannot open the container's network namespace".to_string())?
            }
        };
        let moved = netdev::move_device(&network, name, new_name);
        self.network = Some(network);
        self.devices.push(moved?);
        Ok(())
    }

    /// In the journal first: from then on a delete removes it.
    #[inline(never)] // Rare.
    fn enter_resctrl(&mut self, resctrl: &Resctrl) -> Result<()> {
        let saved = rdt::prepare(resctrl)?;
        self.state.resctrl = Some(saved.clone());
        self.entry.save_with(&self.state, &self.bundle.spec.mounts)?;
        rdt::make(resctrl, &saved, self.spawned()?.pid())
    }

    #[inline(never)] // Rare.
    fn runtime_hooks(&mut self) -> Result<()> {
        let sources = self.sources();
        self.spawned()?.await_hooks(sources)?;
        // Both kinds run after the environment is made and before the process leaves the host's root: it is `created` for neither yet.
        let state = self.state.for_hooks(Status::Creating);
        let (directory, interrupt) = (Some(self.request.bundle.as_str()), self.interrupt()?);
        hooks::run_all_unless(&self.plan.hooks.prestart, &state, directory, interrupt)?;
        hooks::run_all_unless(&self.plan.hooks.create_runtime, &state, directory, interrupt)?;
        self.spawned()?.hooks_done()
    }

    /// From here on the container exists, whatever becomes of the runtime.
    fn save_created(&mut self) -> Result<()> {
        self.state.external_descriptors = match &self.streams {
            Some(streams) => init_process::own_streams(streams),
            None => init_process::streams_of(self.state.init_process_pid),
        };
        self.state.set_creator(None);
        self.entry.save_with(&self.state, &self.bundle.spec.mounts)
    }

    #[inline(never)] // Rare.
    fn send_pidfd(&mut self, path: &str) -> Result<()> {
        let socket = connect(path, "pidfd socket")?;
        socket::send(&socket, b"standard", &[self.spawned()?.pidfd()]).told(|| format!("cannot send the pidfd to {path}"))
    }

    /// Undoes what was made; `error` stays what is told.
    #[inline(never)] // Rare.
    fn undo(mut self, store: &Store, error: Error) -> Error {
        let _span = trace::span(|| "undo what was made".into());
        let error = match &self.cgroup {
            Some(cgroup) => cgroup.explain_lack_of_memory(error),
            None => error,
        };
        // What is done from here on opens the cgroup again, in every hierarchy, and there may be no descriptor left for that.
        (self.cgroup, self.context) = (None, InitContext::default());
        drop(exe::take_mount());
        // While their namespace lives: with it the kernel would remove them.
        let lost = self.devices.drain(..).rev().find_map(|device| device.give_back().err());
        let error = match lost {
            Some(also) => error.hint(format!("and a network device was lost: {also}")),
            None => error,
        };
        if let Some(spawned) = self.spawned.take() {
            spawned.abort();
        }
        self.state.init_process_pid = 0;
        let undone = delete::destroy(&self.state).and_then(|()| store.remove(&self.entry));
        if let (Some(path), true) = (&self.request.pid_file, self.pid_file_written) {
            // Whether it is there or not.
            let _ = fd::unlink(path);
        }
        delete::run_poststop(&self.poststop, &self.state).iter().for_each(|warning| (self.warn)(warning));
        match undone {
            Ok(()) => error,
            Err(also) => error.hint(format!("and what was made could not be removed: {also}")),
        }
    }
}

/// Takes a copy of a host tree, as the step says.
pub(super) fn open_tree(trees: &mut HostTrees, op: &ParentOp) -> Result<()> {
    match (op, HostTree::of(op)) {
        (ParentOp::OpenTree { slot, .. }, Some(tree)) => trees.open(*slot, tree),
        _ => Ok(()),
    }
}

/// A file system has refused one parameter of a mount: which of its options that was, the configuration knows. For the message alone.
fn point_at_option(error: Error, bundle: &Bundle) -> Error {
    let found = || {
        let place = error.config.as_deref().filter(|_| error.cause == Some(Code::MountOption))?;
        let index: usize = place.strip_prefix("mounts[")?.strip_suffix(']')?.parse().ok()?;
        // fsconfig(7, FSCONFIG_SET_STRING, "size", "lots", 0)
        let key = error.call.as_deref()?.split('"').nth(1)?;
        let mut words = crate::spec::option_words(&bundle.spec.mounts.get(index)?.options);
        let (option, _) = words.find(|(_, word)| word.split('=').next() == Some(key))?;
        Some(format!("{place}.options[{option}]"))
    };
    match found() {
        Some(place) => error.at(place),
        None => error,
    }
}

/// Who makes a container, as the journal says it.
pub(super) struct Maker {
    process: Identity,
    /// In which boot; empty where the state cannot outlive it.
    boot_id: String,
}

/// This process.
pub(super) fn maker(store: &Store) -> Result<Maker> {
    let boot_id = match store.outlives_the_boot()? {
        true => proc::boot_id().told(|| "cannot read the boot id".to_string())?.to_string(),
        false => String::new(),
    };
    Ok(Maker { process: Identity::own()?, boot_id })
}

/// What is known of a container before anything of it is made.
pub(super) fn first_state(request: &Request, host: &Host, bundle: &Bundle, plan: &Plan, maker: Maker) -> State {
    let mut state = State {
        version: VERSION,
        id: request.id.to_string(),
        oci_version: bundle.spec.oci_version.clone(),
        boot_id: maker.boot_id,
        created: time::now().rfc3339(),
        bundle: request.bundle.clone(),
        rootfs: bundle.rootfs.clone(),
        owner: host.euid,
        annotations: bundle.spec.annotations.clone(),
        cgroup: plan.cgroup.saved.clone(),
        rootless: !host.privileged(),
        own_pid_namespace: plan.spawn.create.contains(Namespaces::PID),
        namespaces: plan.namespaces.bits(),
        deny_setgroups: plan.spawn.deny_setgroups,
        poststart: !plan.hooks.poststart.is_empty(),
        poststop: !plan.hooks.poststop.is_empty(),
        notify_socket: request.notify_socket.clone(),
        ..State::default()
    };
    state.set_creator(Some(maker.process));
    state
}

pub(super) fn connect(path: &str, what: &str) -> Result<OwnedFd> {
    socket::connect(socket::Kind::Stream, path)
        .told(|| format!("cannot connect to the {what} {path}"))
        .map_err(|error| error.cause(Code::ConsoleSocket))
}

/// The pid in decimal, without a newline: a reader sees all of it or no file.
pub(super) fn write_pid_file(path: &str, pid: i32) -> Result<()> {
    let told = || format!("cannot write the pid file {path}");
    let (dir, name) = path.rsplit_once('/').unwrap_or((".", path));
    let dir = fd::open_dir_path(if dir.is_empty() { "/" } else { dir }).told(told)?;
    fd::publish_file(&dir, name, pid.to_string().as_bytes(), 0o644).told(told)
}
