// SPDX-License-Identifier: Apache-2.0
//! One more process in a container that runs. Called by `container::exec`.
//!
//! The runtime enters the pid namespace for its children only, clones the new process into the container's cgroup, and that enters the
//! other namespaces by itself, all at once, before its first step. From the moment at which the container could see it, it is undumpable
//! and has nothing open that leads to the host but what its program inherits (CVE-2016-9962, CVE-2024-21626). Where somebody there may
//! look into undumpable processes too, it comes into being inside: its root, its working directory and its descriptors are the
//! container's from its first moment.

use std::os::fd::{BorrowedFd, OwnedFd};

use crate::error::{Result, Told};
use crate::hooks::HookState;
use crate::linux::clone::{CloneArgs, setns};
use crate::linux::cred;
use crate::linux::types::Namespaces;
use crate::plan::Hooks;
use crate::plan::exec::ExecPlan;
use crate::process::init::{self, InitContext, Work};
use crate::process::limits;
use crate::process::spawn::Spawned;

/// Makes the process. `first` is a pidfd of the container's first process, `context` holds its sockets and `cgroup` is where it starts.
/// Wait for it with [`Spawned::await_exec`].
pub fn join(
    plan: &ExecPlan,
    first: OwnedFd,
    context: InitContext,
    state: &HookState,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<Spawned<'static>> {
    init::last::check_inherited(plan.exec.inherited_fds)?;
    let entered = plan.enter_before_clone | plan.enter_after_clone;
    let _lent = entered.contains(Namespaces::USER).then(|| limits::lend(&plan.child));
    cred::set_dumpable(false).told(|| "cannot hide the process from the container".into())?;
    let hooks = Hooks::default();
    let work = Work { steps: &plan.child, hooks: &hooks, exec: &plan.exec, state };
    let args = CloneArgs { into_cgroup: cgroup, ..CloneArgs::default() };
    if plan.watched {
        let context = InitContext { enter: Some((first, Namespaces::empty())), ..context };
        return Spawned::out_of_sight(args, plan.enter_before_clone, context, &work);
    }
    if !plan.enter_before_clone.is_empty() {
        setns(&first, plan.enter_before_clone).told(|| "cannot enter the container's pid namespace".into())?;
    }
    let context = InitContext { enter: Some((first, plan.enter_after_clone)), ..context };
    Spawned::begin(args, context, |context, channel| init::run(&work, context, channel))
}
