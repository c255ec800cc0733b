// SPDX-License-Identifier: Apache-2.0
//! `start`: let a created container go on to its program (runtime.md, Start; Lifecycle steps 6 to 9).
//!
//! 1. A container that is not created gets an error, and nothing happens to it.
//! 2. The start gate is opened: the process runs the startContainer hooks and then the program.
//! 3. The poststart hooks run.
//!
//! A hook that fails stops the container and destroys it, and is this command's error; so is a program that cannot be executed, but
//! then the stopped container stays to be asked about.

use std::os::fd::AsFd;

use super::notify::NotifySocket;
use super::state::{State, Status};
use super::store::{Entry, Store};
use super::{bundle, delete, init_process};
use crate::cgroup::Cgroup;
use crate::error::{Error, Kind, Result};
use crate::hooks;
use crate::plan::{self, Hooks, Id};
use crate::process::gate::{self, Passage};
use crate::spec::load;
use crate::trace;

/// Starts a created container.
pub fn start(store: &Store, id: &Id) -> Result<()> {
    let entry = store.get(id)?;
    entry.lock()?;
    let state = entry.load()?;
    let found = gate::find(&entry);
    let status = entry.status_of(&state, || found.is_some())?;
    let refuse = |text: String| Err(Error::new(Kind::Status, text));
    match status {
        Status::Created => {}
        Status::Stopped => return Err(has_stopped(&state)),
        Status::Running => return refuse("cannot start an already running container".into()),
        other => return refuse(format!("cannot start a container in the {} state", other.name())),
    }
    let Some(found) = found else { return Err(has_stopped(&state)) };
    let notify = match &state.notify_socket {
        Some(host) => {
            let Some(pidfd) = init_process::open(&state)? else { return Err(has_stopped(&state)) };
            Some((NotifySocket::bind(&format!("{}/{id}", store.path()), host)?, pidfd))
        }
        None => None,
    };
    let passage = {
        let _span = trace::span(|| "open the start gate, until the program runs".into());
        gate::release(&entry, found, None)
    };
    if trace::on() {
        let times = gate::times(&entry).unwrap_or_default();
        trace::add_process(state.init_process_pid, "container's process", &times, 0, &|_| Default::default());
    }
    match passage {
        Ok(Passage::Executed) => {}
        Ok(Passage::NobodyWaits) => return Err(has_stopped(&state)),
        Err(error) if error.kind == Kind::Hook => {
            let error = Cgroup::reopen(&state.cgroup)?.explain_lack_of_memory(error);
            return Err(undo(store, &entry, &state, error));
        }
        Err(error) => return Err(Cgroup::reopen(&state.cgroup)?.explain_lack_of_memory(error)),
    }
    gate::remove(&entry)?;
    if state.poststart {
        let hooks = saved_hooks(&entry, &state)?;
        let run = || hooks::run_all_unless(&hooks.poststart, &state.for_hooks(Status::Running), None, None);
        if let Err(error) = entry.while_hooks_run(&state, run) {
            return Err(undo(store, &entry, &state, error));
        }
    }
    drop(entry);
    notify.map_or(Ok(()), |(socket, pidfd)| socket.forward(pidfd.as_fd(), state.init_process_pid))
}

/// Its process is dead: whoever killed it did so before it could be started.
fn has_stopped(state: &State) -> Error {
    let error = Error::new(Kind::Status, "cannot start a container that has stopped");
    Cgroup::reopen(&state.cgroup).map_or(error.clone(), |cgroup| cgroup.explain_lack_of_memory(error))
}

fn saved_hooks(entry: &Entry, state: &State) -> Result<Hooks> {
    let spec = load::parse_config(&entry.config()?).map_err(|problems| bundle::refused("saved config.json", problems))?;
    Ok(plan::hooks(&spec, &state.bundle))
}

/// Lifecycle step 12 and 13 after a hook has failed; `error` stays what is told.
fn undo(store: &Store, entry: &Entry, state: &State, error: Error) -> Error {
    let poststop = saved_hooks(entry, state).map(|hooks| hooks.poststop).unwrap_or_default();
    let undone = delete::destroy(state).and_then(|()| store.remove(entry));
    delete::run_poststop(&poststop, state);
    match undone {
        Ok(()) => error,
        Err(also) => error.hint(format!("and the container could not be removed: {also}")),
    }
}
