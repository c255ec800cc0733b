// SPDX-License-Identifier: Apache-2.0
//! `pause` and `resume`: freeze every process of a container, and let it go on.

use super::state::Status;
use super::store::Store;
use crate::cgroup::Cgroup;
use crate::error::{Error, Kind, Result};
use crate::plan::Id;

/// Freezes a container that is created or running.
pub fn pause(store: &Store, id: &Id) -> Result<()> {
    let entry = store.get(id)?;
    entry.lock()?;
    let state = entry.load()?;
    match entry.status(&state)? {
        Status::Created | Status::Running => Cgroup::reopen(&state.cgroup)?.freeze(),
        Status::Paused => Err(Error::new(Kind::Status, "container already paused")),
        other => {
            Err(Error::new(Kind::Status, "container not running").hint(format!("{id} is {}; it cannot be paused", other.name())))
        }
    }
}

/// Lets a paused container go on.
pub fn resume(store: &Store, id: &Id) -> Result<()> {
    let entry = store.get(id)?;
    entry.lock()?;
    let state = entry.load()?;
    match entry.status(&state)? {
        Status::Paused => Cgroup::reopen(&state.cgroup)?.thaw(),
        other => Err(Error::new(Kind::Status, "container not paused").hint(format!("{id} is {}", other.name()))),
    }
}
