// SPDX-License-Identifier: Apache-2.0
//! `delete`: undo what create did (runtime.md, Delete; Lifecycle steps 11 to 13).
//!
//! 1. A container that runs is refused, or with `--force` killed.
//! 2. Its processes, its cgroup, and last its state directory are removed.
//! 3. The poststop hooks run.
//!
//! It is a reconciler: it goes by the journal, does what is left to do, and says that all is gone only when it has seen so. What has gone
//! already is no error, so that it can be repeated after any crash.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::init_process;
use super::journal::{self, Part};
use super::state::{State, Status};
use super::store::{Entry, Store};
use super::{bundle, host};
use crate::cgroup::Cgroup;
use crate::error::{Code, Error, Kind, Result, Told};
use crate::hooks;
use crate::linux::pid;
use crate::linux::types::Errno;
use crate::plan::{self, Hook, Id, Request};
use crate::rdt;
use crate::spec::load;
use crate::trace;

/// How long a killed process may take to die.
const DEATH: Duration = Duration::from_secs(10);
/// How long a command that holds the container may take to let go of it: longer than another delete may wait for its processes and for its
/// cgroup.
const LOCK: Duration = Duration::from_secs(25);
/// How long those that hold it up are given to die before they are killed again. A cgroup of v1 stands still while it is killed: too often,
/// and on a busy machine its processes never get to their end.
const AGAIN: Duration = Duration::from_millis(500);

/// Deletes a container. Returns what the user should know although the container is gone.
pub fn delete(store: &Store, id: &Id, force: bool) -> Result<Vec<String>> {
    let entry = match store.get(id) {
        Err(error) if force && error.kind == Kind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    hold(&entry, force)?;
    let state = match entry.load() {
        Ok(state) => state,
        // By another delete, while this one waited.
        Err(error) if error.kind == Kind::NotFound && entry.is_removed() => {
            return if force { Ok(Vec::new()) } else { Err(Error::new(Kind::NotFound, "container does not exist")) };
        }
        Err(error) if !force && error.kind != Kind::NotFound => return Err(error),
        Err(error) if !force => return Err(error),
        Err(_) => from_what_is_left(&entry, store.path()),
    };
    let status = if force { None } else { Some(entry.status(&state)?) };
    if let Some(status @ (Status::Running | Status::Paused | Status::Creating)) = status {
        return Err(Error::new(Kind::Status, format!("cannot delete container {id} that is not stopped: {}", status.name()))
            .hint("kill it first, or use --force"));
    }
    let (poststop, mut warnings) = match state.poststop.then(|| saved_hooks(&entry, &state)) {
        None => (Vec::new(), Vec::new()),
        Some(Ok(hooks)) => (hooks, Vec::new()),
        // What cannot be read any more must not keep the container for ever.
        Some(Err(error)) if force => (Vec::new(), vec![format!("the poststop hooks cannot be run: {error}")]),
        Some(Err(error)) => return Err(error.hint("`delete --force` removes the container without its poststop hooks")),
    };
    match status == Some(Status::Stopped) && !state.creating {
        true => remove_what_is_left(&state, || Ok(None))?,
        false => destroy(&state)?,
    }
    {
        let _span = trace::span(|| "remove the state directory".into());
        store.remove(&entry)?;
    }
    warnings.extend(run_poststop(&poststop, &state));
    Ok(warnings)
}

/// After a dump that has ended its processes, as runc and crun do: what could make it again is the image. Nothing that fails here makes the
/// image worse, so it is tried once more, and then told as a warning. The caller has locked it.
pub fn after_dump(store: &Store, entry: &Entry, state: &State) -> Vec<String> {
    let hooks = || if state.poststop { saved_hooks(entry, state) } else { Ok(Vec::new()) };
    let remove = || destroy(state).and_then(|()| store.remove(entry));
    match hooks().or_else(|_| hooks()).and_then(|poststop| remove().or_else(|_| remove()).map(|()| poststop)) {
        Ok(poststop) => run_poststop(&poststop, state),
        Err(error) => {
            vec![format!("the container is dumped and stopped, but could not be removed: {error}; `delete` removes it")]
        }
    }
}

/// Waits for the lock: a create that goes on, a start that waits for its hooks. With force its maker is not waited for for ever.
fn hold(entry: &Entry, force: bool) -> Result<()> {
    let mut kill = Instant::now();
    let deadline = kill + LOCK;
    while !entry.try_lock()? {
        let now = Instant::now();
        if now > deadline {
            return Err(Error::new(Kind::State, format!("another command has held {} for {} s", entry.id(), LOCK.as_secs()))
                .hint("a hook that does not end? see the processes of the runtime"));
        }
        if let (true, Ok(state)) = (force && now >= kill, entry.load()) {
            kill = now + AGAIN;
            // Its program must not keep us waiting, whatever the other command waits for.
            kill_everything(&state)?;
            kill_maker(&state)?;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Kills what runs and removes what was made, the state directory excepted.
pub fn destroy(state: &State) -> Result<()> {
    remove_what_is_left(state, || kill_first(state))
}

/// The same; `kill_first` sees to its first process, which may be known to be dead.
fn remove_what_is_left(state: &State, kill_first: impl FnOnce() -> Result<Option<OwnedFd>>) -> Result<()> {
    let _span = trace::span(|| "end its processes and remove its cgroup".into());
    // Nothing of it outlives a reboot: a cgroup of this name is somebody else's.
    if state.is_of_another_boot()? {
        return Ok(());
    }
    let first = kill_first()?;
    // Mostly its processes have ended, and an empty cgroup holds none.
    if first.is_none() && Cgroup::remove_unused(&state.cgroup)? {
        return state.resctrl.as_ref().map_or(Ok(()), rdt::remove);
    }
    let cgroup = Cgroup::reopen(&state.cgroup)?;
    cgroup.kill()?;
    if let Some(pidfd) = first {
        let gone =
            pid::wait_exited(&pidfd, Some(DEATH)).told(|| format!("cannot wait for process {}", state.init_process_pid))?;
        if !gone && init_process::open(state)?.is_some() {
            let what = format!(
                "process {} of {} was killed {} s ago and has not died",
                state.init_process_pid,
                state.id,
                DEATH.as_secs()
            );
            let left = Cgroup::reopen(&state.cgroup)?.left_behind(state.init_process_pid)?;
            return Err(Error::new(Kind::Status, format!("{what}; still there are {left}"))
                .cause(Code::CgroupStuck)
                .hint("a process in state D waits for the kernel: see /proc/PID/stack"));
        }
    }
    cgroup.remove(DEATH)?;
    state.resctrl.as_ref().map_or(Ok(()), rdt::remove)
}

/// Ends the command that is still making the container, or runs its poststart hooks: a hook may never end. What it has made a process of
/// ends with it.
fn kill_maker(state: &State) -> Result<()> {
    let Some(maker) = state.creator().or(state.poststart_by) else { return Ok(()) };
    match maker.open()? {
        Some(pidfd) if !state.is_of_another_boot()? => match pid::send_signal(&pidfd, libc::SIGKILL) {
            Err(error) if error.errno != Errno::ESRCH => Err(error).told(|| format!("cannot kill the maker of {}", state.id)),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

fn kill_everything(state: &State) -> Result<()> {
    // As in `destroy`.
    if state.is_of_another_boot()? {
        return Ok(());
    }
    kill_first(state)?;
    Cgroup::reopen(&state.cgroup)?.kill()
}

/// Kills the first process, where it lives.
fn kill_first(state: &State) -> Result<Option<OwnedFd>> {
    let first = init_process::open(state)?;
    if let Some(pidfd) = &first {
        match pid::send_signal(pidfd, libc::SIGKILL) {
            Err(error) if error.errno != Errno::ESRCH => return Err(error).told(|| format!("cannot kill {}", state.id)),
            _ => {}
        }
    }
    Ok(first)
}

/// The state of a container whose file is missing or damaged: what was planned for it says where its cgroup is, or what its saved
/// configuration says of that.
fn from_what_is_left(entry: &Entry, root: &str) -> State {
    let mut state = State { id: entry.id().to_string(), ..State::default() };
    let first = journal::read(entry, Part::State).ok().flatten();
    if let Some(first) = first.and_then(|bytes| load::json::<State>(&bytes).ok()) {
        return State { cgroup: first.cgroup, boot_id: first.boot_id, ..state };
    }
    let request = Request::create(entry.id().clone(), "/", root);
    let spec = entry.config().ok().and_then(|bytes| load::parse_config(&bytes).ok());
    if let Some(plan) = spec.and_then(|spec| plan::resources::plan(&spec, &request, &host::probe()).ok()) {
        state.cgroup = plan.saved;
    }
    state
}

fn saved_hooks(entry: &Entry, state: &State) -> Result<Vec<Hook>> {
    let spec = load::parse_config(&entry.config()?).map_err(|problems| bundle::refused("saved config.json", problems))?;
    Ok(plan::hooks(&spec, &state.bundle).poststop)
}

/// Runs the poststop hooks: one that fails is told of and does not keep the next from running, nor does a file that it cannot print to
/// any more keep it from cleaning up.
pub fn run_poststop(all: &[Hook], state: &State) -> Vec<String> {
    let json = state.for_hooks(Status::Stopped).json();
    let mut warnings = Vec::new();
    for hook in all {
        let output = hooks::Output::open(&hook.output).unwrap_or_else(|error| {
            warnings.push(error.to_string());
            hooks::Output::default()
        });
        warnings.extend(hooks::run(hook, &json, &output).err().map(|error| error.to_string()));
    }
    warnings
}

/// After a foreground `run`: the process has ended, and what it leaves goes. Nobody comes back to a container that its command was to
/// remove: what could not be done is tried once more, without what is `held` open until then, because there may be too few descriptors.
/// `waited` says that we have taken the process's status: it is gone, and its number may be another's.
pub fn finish<T>(
    store: &Store,
    entry: &Entry,
    (state, poststop): (&State, &[Hook]),
    waited: bool,
    held: T,
) -> Result<Vec<String>> {
    let removed = match finish_once(store, entry, state, waited) {
        Err(_) => {
            drop(held);
            finish_once(store, entry, state, waited)?
        }
        Ok(removed) => {
            // The command ends soon, and with it all that it has open.
            std::mem::forget(held);
            removed
        }
    };
    Ok(if removed { run_poststop(poststop, state) } else { Vec::new() })
}

/// Whether it was ours to remove: a directory that was removed since has been deleted by somebody else, whoever has its name by now.
fn finish_once(store: &Store, entry: &Entry, state: &State, waited: bool) -> Result<bool> {
    entry.lock()?;
    if entry.is_removed() {
        return Ok(false);
    }
    match waited {
        true => remove_what_is_left(state, || Ok(None))?,
        false => destroy(state)?,
    }
    store.remove(entry)?;
    Ok(true)
}
