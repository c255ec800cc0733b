// SPDX-License-Identifier: Apache-2.0
//! The trees of the host that a container's process attaches, and what becomes of mount namespaces that somebody keeps in them
//! (`mount --bind /proc/PID/ns/mnt FILE`; snapd and LXD do).
//!
//! The kernel lets no mount of a mount namespace into a younger one (ELOOP): it could keep itself. Whoever copies the host's mount namespace
//! gets none of them; a tree that was copied before, in the host's, has them all. So the process asks for that tree once more when it is
//! refused, and gets it without them, as on the classic route. Looking for them first would take system calls of every container.

use std::os::fd::AsFd;

use super::sync::{Channel, ToChild};
use crate::error::{Error, Kind, Result, Told};
use crate::linux::clone::{CloneArgs, Cloned, clone3, exit_now};
use crate::linux::pid::{self, Exit};
use crate::plan::{ParentStep, Step};
use crate::rootfs::tree;

/// The steps of a container's process, and those of the runtime that opened trees for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sources<'a> {
    /// What the process does.
    pub steps: &'a [Step],
    /// What the runtime has done; of it, [`crate::plan::ParentOp::OpenTree`].
    pub trees: &'a [ParentStep],
}

impl Sources<'_> {
    /// Copies the tree of a step again and sends it, by a process of its own, which enters a copy of the mount namespace for that.
    pub(super) fn send(&self, step: u32, to: &Channel) -> Result<()> {
        let told = || "cannot copy a tree of the host once more".to_string();
        let (ours, theirs) = Channel::pair().told(told)?;
        match clone3(&CloneArgs { clear_handlers: true, ..CloneArgs::default() }).told(told)? {
            Cloned::Child => {
                let sent = pid::set_parent_death_signal(libc::SIGKILL)
                    .told(told)
                    .and_then(|()| tree::without_namespaces(self.steps, step as usize, self.trees))
                    .and_then(|tree| to.send(&ToChild::Tree, Some(tree.as_fd())).told(told));
                if let Err(error) = &sent {
                    // Where the runtime is dead nobody wants to know.
                    let _ = theirs.send(error, None);
                }
                exit_now(i32::from(sent.is_err()))
            }
            Cloned::Parent { pidfd, .. } => {
                drop(theirs);
                let said = ours.receive::<Error>();
                let ended = pid::wait(&pidfd).told(told)?;
                match (said.told(told)?, ended) {
                    (Some((error, _)), _) => Err(error),
                    (None, Exit::Code(0)) => Ok(()),
                    (None, ended) => Err(Error::new(Kind::Peer, format!("{}: {ended}", told()))),
                }
            }
        }
    }
}
