// SPDX-License-Identifier: Apache-2.0
//! The device filter on the container's cgroup: an eBPF program that the kernel asks before each mknod(2) and open(2) of a device.
//! Called by `create`, before anything runs in the cgroup, and by `update`.
//!
//! The program is attached beside those of other owners (systemd, outer containers): a device can be used where all of them agree.

use super::path::Dir;
use super::{Cgroup, kept, systemd};
use crate::error::{Code, Error, Result, Told};
use crate::linux::types::Errno;
use crate::linux::{bpf, call};
use crate::plan::resources::DeviceFilter;

/// The name of our programs; by it they are told from those of others.
const NAME: &str = "berth_devices";

impl Cgroup {
    /// Puts the filter on the container's cgroup, in place of one that is there. Nothing where the container has no cgroup. The text is
    /// a warning.
    pub fn filter_devices(&self, filter: &DeviceFilter) -> Result<Option<String>> {
        let Some(dir) = &self.v2 else { return Ok(None) };
        match attach(dir, filter, self.fresh.replace(false)) {
            // A user who may not load the program can make no device node, and opens those of the host with no more right than outside.
            Err(error) if filter.optional && matches!(error.errno, Errno::EPERM | Errno::EACCES) => Ok(None),
            done => {
                done.told(|| format!("cannot filter the devices of the cgroup {}", dir.path())).map_err(explain).map(|()| None)
            }
        }
    }

    /// Puts another filter in the place of the one that a running container has, and tells systemd of it where that owns the cgroup. First
    /// of all, because a device can be used only where both allow it, and of the two ours decides.
    pub fn change_devices(&self, filter: &DeviceFilter) -> Result<Option<String>> {
        if let Some(unit) = self.saved.unit.as_ref().filter(|_| !filter.unit.is_empty()) {
            systemd::set(unit, &filter.unit)?;
        }
        self.filter_devices(filter)
    }
}

fn attach(dir: &Dir, filter: &DeviceFilter, fresh: bool) -> call::Result<()> {
    let program =
        if filter.keep { kept::program(NAME, &filter.program)? } else { bpf::load_device_program(NAME, &filter.program)? };
    if fresh {
        return bpf::attach(dir, &program, None);
    }
    let (_, own) = bpf::name_and_id(&program)?;
    let (mut old, mut there) = (Vec::new(), false);
    for id in bpf::query(dir)? {
        // One that has gone since was not ours: ours go only through us.
        let Ok(attached) = bpf::program_by_id(id) else { continue };
        if id == own {
            there = true;
        } else if bpf::name_and_id(&attached)?.0 == NAME {
            old.push(attached);
        }
    }
    let mut old = old.into_iter();
    // At no moment without a filter: the new one takes the place of the old. The same program cannot be attached twice.
    if !there {
        bpf::attach(dir, &program, old.next().as_ref())?;
    }
    for more in old {
        bpf::detach(dir, &more)?;
    }
    Ok(())
}

fn explain(error: Error) -> Error {
    match error.errno {
        Some(Errno::EPERM) => error
            .cause(Code::DeviceFilter)
            .hint("it takes CAP_SYS_ADMIN, or CAP_BPF and CAP_NET_ADMIN; an outer runtime may also forbid bpf(2)"),
        Some(Errno::EINVAL | Errno::ENOSYS) => error.cause(Code::DeviceFilter).hint("the kernel needs CONFIG_CGROUP_BPF"),
        _ => error,
    }
}
