// SPDX-License-Identifier: Apache-2.0
//! `update`: change the limits of a container. The specification has no such operation; runc's is what engines use.
//!
//! 1. The change is checked whole and planned, over the limits that the container has.
//! 2. It is written to the cgroup, and the nodes of new devices are made; after an error the cgroup is as it was.
//! 3. The limits are saved (`resources.json`), for the next update.

use super::plug::{self, Plug};
use super::state::{State, Status};
use super::store::{Entry, Store};
use super::{bundle, host};
use crate::cgroup::Cgroup;
use crate::error::{Error, Kind, Result};
use crate::plan::Id;
use crate::plan::resctrl;
use crate::plan::resources::{self, update as change};
use crate::rdt;
use crate::spec::types::{IntelRdt, Resources};
use crate::spec::{load, validate};

/// What shall change.
#[derive(Clone, Debug)]
pub struct Change {
    /// The new limits; absent means unchanged.
    pub resources: Resources,
    /// What shall change in the resctrl group.
    pub rdt: Option<IntelRdt>,
    /// Where they come from, for messages.
    pub source: String,
    /// Devices that the container is to have from now on.
    pub devices: Vec<Plug>,
}

/// Changes the limits of a container. Returns what the user should know although it is done.
pub fn update(store: &Store, id: &Id, change: &Change) -> Result<Vec<String>> {
    let entry = store.get(id)?;
    entry.lock()?;
    let mut state = entry.load()?;
    if let status @ (Status::Stopped | Status::Creating) = entry.status(&state)? {
        return Err(Error::new(Kind::Status, "container not running").hint(format!("{id} is {}", status.name())));
    }
    let refused = |problems| bundle::refused(&change.source, problems);
    let checked = validate::resources(&change.resources);
    if !checked.problems.is_empty() {
        return Err(refused(checked.problems));
    }
    let now = current(&entry)?;
    let nodes = plug::nodes(&change.devices)?;
    let mut merged = change::merged(&now, &change.resources);
    merged.devices = plug::rules(&merged.devices, &change.devices, &nodes);
    let host = host::probe();
    let limits = resources::limits(&change::to_write(&change.resources, &merged), "", &host).map_err(refused)?;
    // Engines send the rules that the container has along with every change. Others may have opened devices for it meanwhile, which
    // loading the same rules again would take away.
    let filter = |resources: &Resources| resources::device_filter(resources, "", &host, state.cgroup.unit.is_some());
    let devices = match merged.devices != now.devices {
        true => Some((filter(&merged).map_err(refused)?, filter(&now))),
        false => None,
    };
    let cgroup = Cgroup::reopen(&state.cgroup)?;
    let mut warnings: Vec<String> = checked.warnings.iter().map(|warning| format!("{}: {}", warning.at, warning.rule)).collect();
    warnings.extend(limits.warnings);
    let before = cgroup.values(&limits.writes);
    let done = cgroup.update(&limits.writes).and_then(|()| match &devices {
        Some((filter, _)) => cgroup.change_devices(filter),
        None => Ok(None),
    });
    let done = done.and_then(|warning| plug::make(&state, &nodes).map(|()| warning));
    let done = done.and_then(|warning| match &change.rdt {
        Some(rdt) => change_rdt(&entry, &mut state, &cgroup, rdt, || save(&entry, &merged)).map(|()| warning),
        None => save(&entry, &merged).map(|()| warning),
    });
    match done {
        Ok(warning) => warnings.extend(warning),
        Err(error) => {
            let devices = match &devices {
                Some((_, Ok(before))) => cgroup.change_devices(before).map(|_| ()),
                _ => Ok(()),
            };
            return Err(match cgroup.restore(&before).and(devices) {
                Ok(()) => error,
                Err(also) => error.hint(format!("and the limits could not be set back: {also}")),
            });
        }
    }
    Ok(warnings)
}

/// Changes the resctrl group, or makes one of the container's own where it has none, then does the `rest`; after an error in any of it
/// the group is as it was.
fn change_rdt(
    entry: &Entry,
    state: &mut State,
    cgroup: &Cgroup,
    wanted: &IntelRdt,
    rest: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let plan = resctrl::plan(wanted, &state.id);
    let Some(saved) = state.resctrl.clone() else {
        let saved = rdt::prepare(&plan)?;
        state.resctrl = Some(saved.clone());
        entry.save(state)?;
        let made = rdt::make(&plan, &saved, state.init_process_pid)
            .and_then(|()| cgroup.pids())
            .and_then(|pids| pids.into_iter().try_for_each(|pid| rdt::enter(&saved, pid)))
            .and_then(|()| rest());
        return made.map_err(|error| {
            state.resctrl = None;
            match rdt::remove(&saved).and_then(|()| entry.save(state)) {
                Ok(()) => error,
                Err(also) => error.hint(format!("and the resctrl group could not be removed: {also}")),
            }
        });
    };
    let before = rdt::schemata(&saved)?;
    rdt::set_schemata(&saved, &plan.schemata).and_then(|()| rest()).map_err(|error| match rdt::set_schemata(&saved, &before) {
        Ok(()) => error,
        Err(also) => error.hint(format!("and the schemata could not be set back: {also}")),
    })
}

/// The limits that the container has.
fn current(entry: &Entry) -> Result<Resources> {
    if let Some(bytes) = entry.read_if_any("resources.json")? {
        return load::parse_resources(&bytes).map_err(|problems| bundle::refused("saved resources.json", problems));
    }
    let spec = load::parse_config(&entry.config()?).map_err(|problems| bundle::refused("saved config.json", problems))?;
    Ok(spec.linux.and_then(|linux| linux.resources).unwrap_or_default())
}

fn save(entry: &Entry, resources: &Resources) -> Result<()> {
    let bytes = serde_json::to_vec(resources);
    let bytes = bytes.map_err(|error| Error::new(Kind::State, format!("cannot write the limits: {error}")))?;
    entry.write("resources.json", &bytes)
}
