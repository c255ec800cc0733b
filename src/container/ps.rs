// SPDX-License-Identifier: Apache-2.0
//! `ps`: the processes of a container, from its cgroup.

use super::store::Store;
use crate::cgroup::Cgroup;
use crate::error::Result;
use crate::plan::Id;

/// The pids of a container, as this pid namespace numbers them.
pub fn pids(store: &Store, id: &Id) -> Result<Vec<i32>> {
    let state = store.get(id)?.load()?;
    Cgroup::reopen(&state.cgroup)?.pids()
}
