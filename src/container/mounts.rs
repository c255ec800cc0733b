// SPDX-License-Identifier: Apache-2.0
//! `mounts add`, `remove` and `list`: mounts of a container that exists. crun has the first two; the specification has none.
//!
//! 1. The file is read and checked, and everything is planned, before anything is done.
//! 2. The runtime opens the sources; a process enters the container and moves them to their places. After an error none of them is there.
//! 3. The container's mounts are saved (`mounts.json`), for `list` and for whoever has to know them later.

use super::state::{State, Status};
use super::store::{Entry, Store};
use super::{bundle, create, host};
use crate::error::{Error, Kind, Result};
use crate::linux::fd;
use crate::plan::exec::Entered;
use crate::plan::live_mounts::{self, LiveMounts};
use crate::plan::mounts::clean;
use crate::plan::{Id, ParentOp, Request};
use crate::process;
use crate::process::init::InitContext;
use crate::process::sources::Sources;
use crate::rootfs::HostTrees;
use crate::spec::types::{Mount, Spec};
use crate::spec::{load, validate};

/// The file of the state directory.
const FILE: &str = "mounts.json";

/// Mounts what a file says in a container. Returns what the user should know although it is done.
pub fn add(store: &Store, id: &Id, file: &str) -> Result<Vec<String>> {
    let (entry, state) = held(store, id)?;
    let (spec, wanted) = (configuration(&entry)?, read(file)?);
    let refused = |problems| bundle::refused(file, problems);
    let checked = validate::config(&Spec { mounts: wanted.clone(), ..spec.clone() });
    if !checked.problems.is_empty() {
        return Err(refused(checked.problems));
    }
    let request = Request::create(id.clone(), &state.bundle, store.path());
    let cgroup = state.cgroup.v2.as_ref().map(|saved| saved.path.as_str());
    let plan = live_mounts::add(&spec, &wanted, &request, &entered(&state), cgroup, &host::probe()).map_err(refused)?;
    let mut all = current(&entry)?;
    all.extend(wanted.iter().cloned());
    let done = carry_out(&plan, &state);
    // Of what failed, everything before it is there.
    let made = match &done {
        Ok(()) => wanted.len(),
        Err(error) => error.step.map_or(0, |(number, _)| number as usize - 1).min(wanted.len()),
    };
    match done.and_then(|()| save(&entry, &all)) {
        Ok(()) => Ok(plan.warnings),
        Err(error) => Err(match take_away(&spec, &wanted[..made], &state) {
            Ok(()) => error,
            Err(also) => error.hint(format!("and what had been mounted could not be taken away: {also}")),
        }),
    }
}

/// Takes away what is mounted in a container at the destinations that a file names.
pub fn remove(store: &Store, id: &Id, file: &str) -> Result<()> {
    let (entry, state) = held(store, id)?;
    let (spec, wanted) = (configuration(&entry)?, read(file)?);
    let plan = live_mounts::remove(&spec, &wanted, &entered(&state)).map_err(|problems| bundle::refused(file, problems))?;
    let mut left = current(&entry)?;
    let done = carry_out(&plan, &state);
    // The last of the file is the first to go.
    let gone = match &done {
        Ok(()) => wanted.len(),
        Err(error) => error.step.map_or(0, |(number, _)| number as usize - 1).min(wanted.len()),
    };
    for mount in wanted.iter().rev().take(gone) {
        if let Some(last) = left.iter().rposition(|other| clean(&other.destination) == clean(&mount.destination)) {
            left.remove(last);
        }
    }
    save(&entry, &left).and(done)
}

/// The mounts of a container: those of its configuration and those added, without those removed.
pub fn list(store: &Store, id: &Id) -> Result<Vec<Mount>> {
    let entry = store.get(id)?;
    entry.load()?;
    current(&entry)
}

/// The container, held against every other change.
fn held(store: &Store, id: &Id) -> Result<(Entry, State)> {
    let entry = store.get(id)?;
    entry.lock()?;
    let state = entry.load()?;
    match entry.status(&state)? {
        Status::Created | Status::Running | Status::Paused => Ok((entry, state)),
        other => Err(Error::new(Kind::Status, "container not running").hint(format!("{id} is {}", other.name()))),
    }
}

fn configuration(entry: &Entry) -> Result<Spec> {
    load::parse_config(&entry.config()?).map_err(|problems| bundle::refused("saved config.json", problems))
}

fn read(path: &str) -> Result<Vec<Mount>> {
    let cannot = |error: &dyn std::fmt::Display| Error::new(Kind::Usage, format!("cannot read the mounts from {path}: {error}"));
    let bytes = fd::open_given(path).and_then(|file| fd::read_given(file, bundle::CONFIG_MAX)).map_err(|error| cannot(&error))?;
    load::parse_mounts(&bytes).map_err(|problems| bundle::refused(path, problems))
}

/// The mounts as they are saved.
pub fn current(entry: &Entry) -> Result<Vec<Mount>> {
    match entry.read_if_any(FILE)? {
        Some(bytes) => load::parse_mounts(&bytes).map_err(|problems| bundle::refused("saved mounts.json", problems)),
        None => configuration(entry).map(|spec| spec.mounts),
    }
}

fn save(entry: &Entry, mounts: &[Mount]) -> Result<()> {
    let bytes = serde_json::to_vec(mounts);
    let bytes = bytes.map_err(|error| Error::new(Kind::State, format!("cannot write the mounts: {error}")))?;
    entry.write(FILE, &bytes)
}

fn entered(state: &State) -> Entered {
    Entered {
        id: state.id.clone(),
        namespaces: crate::linux::types::Namespaces::from_bits_truncate(state.namespaces),
        deny_setgroups: state.deny_setgroups,
        ..Entered::default()
    }
}

fn take_away(spec: &Spec, mounts: &[Mount], state: &State) -> Result<()> {
    if mounts.is_empty() {
        return Ok(());
    }
    let plan = live_mounts::remove(spec, mounts, &entered(state)).map_err(|problems| bundle::refused("mounts", problems))?;
    carry_out(&plan, state)
}

fn carry_out(plan: &LiveMounts, state: &State) -> Result<()> {
    let first = super::init_process::open(state)?;
    let first = first.ok_or_else(|| Error::new(Kind::Status, "container not running"))?;
    let mut trees = HostTrees::default();
    plan.trees.iter().try_for_each(|step| match &step.op {
        op @ ParentOp::OpenTree { .. } => create::open_tree(&mut trees, op).map_err(|error| error.at(step.at.as_str())),
        _ => Ok(()),
    })?;
    let context = InitContext { trees, ..InitContext::default() };
    // Not into the container's cgroup, which may be frozen or full.
    let mut process = process::exec::join(&plan.process, first, context, &state.for_hooks(Status::Running), None)?;
    process.await_end(Sources { steps: &plan.process.child, trees: &plan.trees })
}
