// SPDX-License-Identifier: Apache-2.0
//! Resource limits that a process of another user namespace cannot raise by itself. Called by `process::spawn` and `process::exec`.
//!
//! Raising a hard limit takes CAP_SYS_RESOURCE in the initial user namespace (setrlimit(2)): the runtime may have it, the container's
//! process has lost it by the time it sets its limits. But limits are inherited (fork(2)), so the runtime raises its own for the moment of
//! the clone, only as far as the process is going to ask, and the process then sets the ones it wants.

use crate::linux::sched;
use crate::plan::{Op, Step};

/// The runtime's own limits as they were: resource, soft, hard. Dropping this sets them again.
#[derive(Debug)]
pub struct Lent(Vec<(u32, u64, u64)>);

/// Raises the runtime's hard limits to those that `steps` are going to set, where they are higher.
pub fn lend(steps: &[Step]) -> Lent {
    let mut before = Vec::new();
    for step in steps {
        let Op::Rlimit { resource, hard, .. } = step.op else { continue };
        // Where the runtime may not either, the process's own step fails, and says which limit it was.
        let Ok((own_soft, own_hard)) = sched::limit(0, resource) else { continue };
        if hard > own_hard && sched::set_limit(0, resource, own_soft, hard).is_ok() {
            before.push((resource, own_soft, own_hard));
        }
    }
    Lent(before)
}

impl Drop for Lent {
    fn drop(&mut self) {
        for (resource, soft, hard) in self.0.drain(..).rev() {
            // Lowering a limit takes no right.
            let _ = sched::set_limit(0, resource, soft, hard);
        }
    }
}
