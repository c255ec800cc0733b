// SPDX-License-Identifier: Apache-2.0
//! The runtime's side of the container's process: making it, talking to it ([`crate::process::sync`]), and being rid of it when anything
//! fails. Called by `container::create` and `container::exec`, one method for each step of the plan.
//!
//! Two shapes ([`Shape`]). Usually one clone3(2) makes the process, in its cgroup, in all its new namespaces, as the runtime's child.
//! Where namespaces must be entered before that (a pid namespace takes only children; a new namespace belongs to the user namespace of
//! whoever makes it), a first process enters them and clones the real one as its own sibling (CLONE_PARENT): that is then the runtime's
//! child as well, so that whoever reaps the runtime's orphans gets it, and no process is left in between.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::error::{Code, Error, Kind, Result, Told};
use crate::hooks::HookState;
use crate::linux::clone::{CloneArgs, Cloned, clone3, exit_now};
use crate::linux::pid::{self, Exit, PollFd, PollFlags};
use crate::linux::types::{Errno, Namespaces};
use crate::linux::{cred, environment, exe, probe, proc, signal, socket};
use crate::plan::step::{Op, Step};
use crate::plan::{Join, Plan, Shape, Spawn};
use crate::process::forward::Signals;
use crate::process::init::{self, InitContext, Work, namespaces};
use crate::process::sources::Sources;
use crate::process::sync::{Channel, ToChild, ToParent};
use crate::process::{idmap, limits};
use crate::trace::{self, Times};

/// How long a process that was killed, or says that it failed, may take to be gone.
const GONE: Duration = Duration::from_secs(10);

/// A container's process that is not on its own yet. Until it is, dropping this kills it.
#[derive(Debug)]
pub struct Spawned<'a> {
    pid: i32,
    pidfd: OwnedFd,
    channel: Channel,
    /// The master of its terminal, where no console socket took it.
    master: Option<OwnedFd>,
    maps_missing: bool,
    /// It will wait at the start gate, and not go on to its program.
    gated: bool,
    /// It is ours to kill, and to wait for.
    ours: bool,
    /// They tell when nobody wants it to be made any more.
    signals: Option<&'a Signals>,
    /// What it has told of when its steps began.
    times: Times,
    /// When it closed its end, where times are wanted.
    ended: u64,
}

impl<'a> Spawned<'a> {
    /// Makes a container's process. In the new process, which never returns from here, its part of the plan begins at once. `context`
    /// holds what the earlier steps opened for it, `state` what its hooks are told, `cgroup` is the cgroup2 directory it starts in.
    pub fn clone(plan: &Plan, context: InitContext, state: &HookState, cgroup: Option<BorrowedFd<'_>>) -> Result<Spawned<'a>> {
        init::last::check_inherited(plan.exec.inherited_fds)?;
        let work = Work { steps: &plan.child, hooks: &plan.hooks, exec: &plan.exec, state };
        let args = CloneArgs { into_cgroup: cgroup, ..CloneArgs::default() };
        let _lent = plan.namespaces.contains(Namespaces::USER).then(|| limits::lend(&plan.child));
        let mut spawned = match &plan.spawn.shape {
            Shape::OneClone => {
                let args = CloneArgs { namespaces: plan.spawn.create, ..args };
                Spawned::begin(args, context, |context, channel| init::run(&work, context, channel))?
            }
            Shape::TwoClones(joins) => {
                // The second clone starts in the cgroup that the first is in.
                let first = |context, channel| first_process(&plan.spawn, joins, &work, context, channel);
                Spawned::begin(args, context, first)?.second()?
            }
        };
        spawned.maps_missing = plan.spawn.id_map.is_some();
        Ok(spawned)
    }

    /// A new process, in which `child` runs, which does not return.
    pub(super) fn begin(
        args: CloneArgs<'_>,
        context: InitContext,
        child: impl FnOnce(InitContext, Channel),
    ) -> Result<Spawned<'a>> {
        let told = || "cannot make the container's process".to_string();
        let (ours, theirs) = Channel::pair().told(told)?;
        let (gated, ignored) = (context.gate.is_some(), signal::ignored());
        if ignored.contains(libc::SIGCHLD) {
            // Such a caller would leave us without the exit status of our own children.
            signal::set_default(libc::SIGCHLD).told(told)?;
        }
        let context = InitContext { ignored, ..context };
        let view = exe::take_mount();
        match clone3(&CloneArgs { clear_handlers: true, ..args }).told(told).map_err(explain)? {
            Cloned::Child => {
                // Closed with everything else that is not the process's, before it does anything.
                std::mem::forget((ours, view));
                child(context, theirs);
                exit_now(1)
            }
            // What was opened for it is its own now, and its end of the channel must end with it.
            Cloned::Parent { pid, pidfd } => {
                drop((theirs, context, view));
                Ok(Spawned {
                    pid,
                    pidfd,
                    channel: ours,
                    master: None,
                    maps_missing: false,
                    gated,
                    ours: true,
                    signals: None,
                    times: Times::default(),
                    ended: 0,
                })
            }
        }
    }

    /// A process of exec that is never in sight of the container with anything of the host's: a first one, which is out of its sight,
    /// enters `namespaces` and makes it there.
    pub(super) fn out_of_sight(
        args: CloneArgs<'_>,
        namespaces: Namespaces,
        context: InitContext,
        work: &Work<'_>,
    ) -> Result<Spawned<'a>> {
        let first = |context: InitContext, channel: Channel| {
            let entered = begin_first(work, &context, &channel).and_then(|()| match &context.enter {
                Some((process, _)) => namespaces::enter(process, namespaces),
                None => Err(out_of_turn()),
            });
            clone_second(entered, Namespaces::empty(), false, work, context, channel)
        };
        Spawned::begin(args, context, first)?.second()
    }

    /// From the first of two processes to the second, which is the container's.
    fn second(mut self) -> Result<Spawned<'a>> {
        let ToParent::Cloned { pid } = self.next(Sources::default())? else { return Err(out_of_turn()) };
        self.pid = i32::try_from(pid).map_err(|_| out_of_turn())?;
        // It is our child and nobody has waited for it: this number is its own for as long as we do not.
        let pidfd = pid::pidfd_open(self.pid).told(|| "cannot watch the container's process".into())?;
        let first = std::mem::replace(&mut self.pidfd, pidfd);
        pid::wait(&first).told(|| "cannot wait for the process that joined the namespaces".into())?;
        Ok(self)
    }

    /// While it is waited for, an error comes of it when one of them asks for an end.
    pub fn heed(&mut self, signals: &'a Signals) {
        self.signals = Some(signals);
    }

    /// When its steps began, as far as it has told, where it was asked.
    pub fn times(&self) -> &Times {
        &self.times
    }

    /// Adds what it has told of its steps to the trace, where there is one.
    pub fn trace(&self, steps: &[Step]) {
        let name = |index: usize| match (steps.get(index), steps.get(index + 1)) {
            // It tells nothing from the filter on, which is a part of becoming the program.
            (Some(Step { op: op @ Op::Seccomp(_), at }), Some(next)) => (format!("{op}; {}", next.op), at.clone()),
            (Some(step), _) => (step.op.to_string(), step.at.clone()),
            (None, _) => ("?".into(), String::new()),
        };
        trace::add_process(self.pid, "container's process", &self.times, self.ended, &name);
    }

    /// Its pid, in the runtime's pid namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// A handle on it.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The master of its terminal, once, where it has one and no console socket took it.
    pub fn take_master(&mut self) -> Option<OwnedFd> {
        self.master.take()
    }

    /// How ready the kernel is to kill it when memory runs out: -1000 to 1000; proc_pid_oom_score_adj(5).
    pub fn oom_score_adj(&self, adjust: i32) -> Result<()> {
        let told = || format!("cannot set oom_score_adj to {adjust}");
        proc::write_of(self.pid, "oom_score_adj", adjust.to_string().as_bytes()).told(told).map_err(|error| match error.errno {
            Some(Errno::EACCES) => error.cause(Code::OomScore).hint("less than the runtime's own value needs CAP_SYS_RESOURCE"),
            _ => error,
        })
    }

    /// Writes the id mappings of its new user namespace.
    pub fn write_id_maps(&mut self, spawn: &Spawn) -> Result<()> {
        idmap::write(self.pid, spawn)?;
        self.maps_missing = false;
        Ok(())
    }

    /// Lets it go on from `AwaitRuntime`.
    pub fn proceed(&mut self) -> Result<()> {
        if self.maps_missing {
            return Err(Error::new(Kind::Peer, "the container's process may not go on before its ids are mapped"));
        }
        self.say(ToChild::Proceed)
    }

    /// Waits for `AskForRuntimeHooks`.
    pub fn await_hooks(&mut self, sources: Sources<'_>) -> Result<()> {
        if self.next(sources)? == ToParent::AskHooks { Ok(()) } else { Err(out_of_turn()) }
    }

    /// Lets it go on from `AskForRuntimeHooks`.
    pub fn hooks_done(&mut self) -> Result<()> {
        self.say(ToChild::HooksDone)
    }

    /// Waits for `Ready`: namespaces, root filesystem and identity are complete, and the program has been found.
    pub fn await_ready(&mut self, sources: Sources<'_>) -> Result<()> {
        if self.next(sources)? == ToParent::Ready { Ok(()) } else { Err(out_of_turn()) }
    }

    /// Lets it go on from `Ready`. If it waits at the start gate from now on, it is on its own.
    pub fn go_on(&mut self) -> Result<()> {
        self.say(ToChild::Continue { pid: self.pid as u32 })?;
        self.ours = !self.gated;
        Ok(())
    }

    /// Waits until it runs its program: then its end of the channel is closed. From now on it is on its own.
    pub fn await_exec(&mut self) -> Result<()> {
        loop {
            match self.hear()? {
                Some(ToParent::Console | ToParent::Times(_)) => {}
                Some(ToParent::Failed(error)) => return Err(self.last_words(error)),
                Some(_) => return Err(out_of_turn()),
                None => break,
            }
        }
        self.ours = false;
        Ok(())
    }

    /// Waits until it has done all its steps and ended: for one that has no program.
    pub fn await_end(&mut self, sources: Sources<'_>) -> Result<()> {
        loop {
            match self.hear()? {
                Some(ToParent::AskTree { step }) => sources.send(step, &self.channel)?,
                Some(ToParent::Failed(error)) => return Err(self.last_words(error)),
                Some(_) => return Err(out_of_turn()),
                None => break,
            }
        }
        let told = || "cannot learn how the process ended".to_string();
        pid::wait_exited(&self.pidfd, Some(GONE)).told(told)?;
        let exit = pid::wait(&self.pidfd).told(told)?;
        self.ours = false;
        match exit {
            Exit::Code(0) => Ok(()),
            other => Err(Error::new(Kind::Peer, format!("the process that entered the container has failed: {other}"))),
        }
    }

    /// Kills it, and waits until it is gone.
    pub fn abort(self) {
        drop(self);
    }

    /// Kills it although it is on its own, and waits until it is gone.
    pub fn kill(mut self) {
        self.ours = true;
    }

    fn say(&mut self, message: ToChild) -> Result<()> {
        match self.channel.send(&message, None) {
            // It is gone; what it said last is still to be read.
            Err(error) if error.errno == Errno::EPIPE => match self.next(Sources::default()) {
                Ok(_) => Err(out_of_turn()),
                Err(error) => Err(error),
            },
            other => other.told(|| "cannot talk to the container's process".into()),
        }
    }

    /// Its next word, which must come: its death is an error.
    fn next(&mut self, sources: Sources<'_>) -> Result<ToParent> {
        loop {
            match self.hear()? {
                Some(ToParent::Console | ToParent::Times(_)) => {}
                Some(ToParent::AskTree { step }) => sources.send(step, &self.channel)?,
                Some(ToParent::Failed(error)) => return Err(self.last_words(error)),
                Some(message) => return Ok(message),
                None => return Err(self.death()),
            }
        }
    }

    /// Its next word; none when it has closed its end and said all.
    fn hear(&mut self) -> Result<Option<ToParent>> {
        let told = || "cannot hear the container's process".to_string();
        let said = loop {
            let signals = self.signals.map(Signals::some);
            let heard = [self.channel.as_fd(), self.pidfd.as_fd()].into_iter().chain(signals);
            let mut fds: Vec<_> = heard.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
            pid::poll(&mut fds, None).told(told)?;
            let ready = |at: usize| fds.get(at).is_some_and(|fd| fd.any() == Some(true));
            // A process that has ended can have left words, but nothing that could be waited for: somebody else might hold its end.
            let said = ready(0) || pid::wait_readable(&self.channel, Some(Duration::ZERO)).told(told)?;
            if let (Some(signals), true) = (self.signals, ready(2) && !said)
                && signals.ask_for_an_end()?
            {
                return Err(Error::new(Kind::Peer, "interrupted by a signal before the container's program ran"));
            }
            // Else a signal came that is for the program, which does not run yet.
            if said || ready(1) {
                break said;
            }
        };
        let heard = if said { self.channel.receive::<ToParent>().told(told)? } else { None };
        if heard.is_none() {
            self.ended = trace::stamp();
        }
        Ok(heard.map(|(message, with)| {
            match &message {
                ToParent::Console => self.master = with,
                ToParent::Times(times) => self.times.clone_from(times),
                _ => {}
            }
            message
        }))
    }

    /// It may have more to say about the error it sent; the last word counts.
    fn last_words(&mut self, mut error: Error) -> Error {
        // It ends on its own now: with its end of the channel there is an end of what it says.
        let told = pid::wait_exited(&self.pidfd, Some(GONE));
        while let (Ok(true), Ok(Some(ToParent::Failed(more)))) = (&told, self.hear()) {
            error = more;
        }
        error
    }

    /// Why it has nothing to say any more.
    fn death(&mut self) -> Error {
        let ended = pid::wait_exited(&self.pidfd, Some(GONE)).is_ok_and(|ended| ended);
        let exit = if ended { pid::wait(&self.pidfd).ok() } else { None };
        self.ours = exit.is_none();
        let error = |how: String| Error::new(Kind::Peer, format!("the container's process died before it was ready: {how}"));
        match exit {
            Some(Exit::Signal(libc::SIGKILL)) => error("killed by SIGKILL".into())
                .hint("it may have run out of memory: see linux.resources.memory.limit, and memory.events of its cgroup"),
            Some(Exit::Signal(number)) => error(format!("killed by {}", signal::name(number))),
            Some(exit) => error(exit.to_string()),
            None => error("it closed its connection".into()),
        }
    }
}

impl Drop for Spawned<'_> {
    /// Kills and reaps a process that is not on its own yet: nothing of it may be left when a create has failed.
    fn drop(&mut self) {
        if !self.ours {
            return;
        }
        // It may be gone already. One that does not end on SIGKILL in this time hangs in the kernel, where nobody can help.
        let _ = pid::send_signal(&self.pidfd, libc::SIGKILL);
        if pid::wait_exited(&self.pidfd, Some(GONE)).is_ok_and(|ended| ended) {
            let _ = pid::wait(&self.pidfd);
        }
    }
}

/// The first of two processes: enters the namespaces and makes the second one there, then ends.
fn first_process(spawn: &Spawn, joins: &[Join], work: &Work<'_>, context: InitContext, channel: Channel) -> ! {
    let joined = begin_first(work, &context, &channel)
        .and_then(|()| namespaces::join(joins, &context.namespaces))
        // The runtime must be able to write the mappings of what comes now, as owner of its files in /proc.
        .and_then(|()| match &spawn.id_map {
            Some(_) => cred::set_dumpable(true).told(|| "cannot let the runtime map the ids".into()),
            None => Ok(()),
        });
    clone_second(joined, spawn.create, spawn.id_map.is_some(), work, context, channel)
}

/// The first of two processes dies with the runtime, and has nothing open that the second shall not have: that one is in sight of those in
/// its namespaces from its first moment, before it could close anything itself.
fn begin_first(work: &Work<'_>, context: &InitContext, channel: &Channel) -> Result<()> {
    pid::set_parent_death_signal(libc::SIGKILL).told(|| "cannot tie the process to the runtime".into())?;
    environment::hide(work.hooks.inherit_inside());
    let mut keep = context.fds();
    keep.push(channel.as_fd().as_raw_fd());
    init::last::close_descriptors(work.exec.inherited_fds, keep)
}

/// From the first to the second, if the first has come so far; then the first ends.
fn clone_second(first: Result<()>, create: Namespaces, hide: bool, work: &Work<'_>, context: InitContext, channel: Channel) -> ! {
    let made = first
        .and_then(|()| socket::pair(socket::Kind::SeqPacket).told(|| "cannot tell the container's process when to begin".into()))
        .and_then(|turn| {
            let args = CloneArgs { namespaces: create, sibling: true, ..CloneArgs::default() };
            let cloned = clone3(&args).told(|| "cannot make the container's process in the namespaces it joined".into());
            Ok((cloned.map_err(explain)?, turn))
        });
    let (said, _turn) = match made {
        Ok((Cloned::Child, (announced, turn))) => {
            // Both speak through one channel: it must not say anything before it has been announced, which ends with the first.
            drop(announced);
            let _ = pid::wait_readable(&turn, None);
            drop(turn);
            init::run(work, InitContext { hide, ..context }, channel)
        }
        Ok((Cloned::Parent { pid, .. }, turn)) => (ToParent::Cloned { pid: pid as u32 }, Some(turn)),
        Err(error) => (ToParent::Failed(error), None),
    };
    // It fails only where the runtime is dead: then the process that was made dies as well.
    let _ = channel.send(&said, None);
    exit_now(0)
}

/// What the kernel means by refusing a clone.
fn explain(error: Error) -> Error {
    match error.errno {
        Some(Errno::ENOSPC) => {
            error.cause(Code::NamespaceLimit).hint("a limit on namespaces is reached: see /proc/sys/user/max_*_namespaces")
        }
        Some(Errno::EAGAIN) => error
            .cause(Code::ProcessLimit)
            .hint("a limit on processes is reached: RLIMIT_NPROC of the user, or pids.max of the cgroup"),
        Some(Errno::EINVAL) => {
            error.cause(Code::NamespaceKind).hint("this kernel has not all of these kinds of namespaces: see /proc/self/ns")
        }
        Some(Errno::EPERM | Errno::EACCES) => match probe::user_namespaces().forbidden() {
            Some(why) => error.cause(Code::UserNamespaces).hint(why),
            None => error,
        },
        Some(Errno::EBUSY) => error
            .cause(Code::CgroupBusy)
            .hint("the cgroup has controllers enabled for its children, so no process can be in it (cgroups(7))"),
        _ => error,
    }
}

fn out_of_turn() -> Error {
    Error::new(Kind::Peer, "the container's process said something else than was its turn to say")
}
