// SPDX-License-Identifier: Apache-2.0
//! What is remembered of a container between commands, and where: one directory under the state root for each, with
//!
//! | file          | what it is                                                                                                |
//! |---------------|-----------------------------------------------------------------------------------------------------------|
//! | `journal`     | written before anything is made: the first [`State`], and the configuration ([`super::journal`])          |
//! | `state.json`  | [`State`]; written when the container is made, and replaced atomically from then on                       |
//! | `resources.json` | the limits as `update` has changed them; not there before                                          |
//! | `mounts.json` | the mounts as `mounts add` and `remove` have changed them; not there before                       |
//! | `exec.fifo`   | the start gate; it is there exactly while the container is created and not started                        |
//! | `start.error` | why the program did not start, if it did not                                                              |
//!
//! The directory is the lock: mkdir(2) makes an id exist once, flock(2) on it keeps commands apart that change a container.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::identity::{Identity, is_zero};
use crate::error::{self, Told};
use crate::hooks::HookState;
use crate::plan::Id;
use crate::plan::resources::SavedCgroup;
use crate::rdt::SavedResctrl;

/// The version of the file's shape: newer ones are not read.
pub const VERSION: u32 = 1;

/// Everything that later commands need, and enough of runc's shape for tools that read its file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Shape of this file.
    pub version: u32,
    /// The container's id.
    pub id: String,
    /// `ociVersion` of its configuration.
    #[serde(rename = "ociVersion")]
    pub oci_version: String,
    /// It is being made: the process is not ready, or its maker died.
    pub creating: bool,
    /// The container's process, in the pid namespace of the runtime; 0 until there is one.
    pub init_process_pid: i32,
    /// When it started, in clock ticks since boot: with the pid, who it is, where there is no more certain sign; and for tools.
    pub init_process_start: u64,
    /// The inode of its pidfd, where the kernel has such: who it is.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub init_process_inode: u64,
    /// What its standard streams led to when it was made, as links in /proc name it: for tools, never read by us.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external_descriptors: Vec<String>,
    /// The process that makes the container: while it does, this state is that of the journal.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub creator_pid: i32,
    /// When that started.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub creator_start: u64,
    /// The inode of its pidfd.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub creator_inode: u64,
    /// The boot that all of it belongs to (/proc/sys/kernel/random/boot_id); empty where the state cannot outlive it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub boot_id: String,
    /// When it was created, RFC 3339.
    pub created: String,
    /// The bundle, absolute.
    pub bundle: String,
    /// The root filesystem, absolute.
    pub rootfs: String,
    /// User who made it.
    pub owner: u32,
    /// Annotations of the configuration.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The cgroup: all that is needed to find it again.
    pub cgroup: SavedCgroup,
    /// The container's resctrl group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resctrl: Option<SavedResctrl>,
    /// The runtime was not root over the machine.
    pub rootless: bool,
    /// The container has a pid namespace of its own, so that killing its first process kills all.
    pub own_pid_namespace: bool,
    /// The configuration has poststart hooks.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub poststart: bool,
    /// Who runs the poststart hooks at this moment, and holds the container meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poststart_by: Option<Identity>,
    /// The configuration has poststop hooks.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub poststop: bool,
    /// The service manager's socket (NOTIFY_SOCKET), if it wants to hear of the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify_socket: Option<String>,
    /// The container's namespaces that are not the runtime's, as `CLONE_NEW*` bits: `exec` enters them.
    pub namespaces: u64,
    /// setgroups(2) is denied in the container's user namespace.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub deny_setgroups: bool,
}

/// Where a container is in its life (runtime.md, State).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is being made.
    Creating,
    /// Its program waits for start.
    Created,
    /// Its program runs.
    Running,
    /// All its processes are frozen.
    Paused,
    /// Its process is gone.
    Stopped,
}

impl Status {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// What the kernel says of a container, from which its status follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signs {
    /// The process of the saved pid and start time lives, and is no zombie.
    pub alive: bool,
    /// Its maker lives.
    pub creator_alive: bool,
    /// A process waits at the start gate.
    pub gate: bool,
    /// Its cgroup is frozen.
    pub frozen: bool,
}

/// The status of a container: derived, never stored.
pub fn status(state: &State, signs: Signs) -> Status {
    match signs {
        _ if state.creating && signs.creator_alive => Status::Creating,
        _ if state.creating => Status::Stopped,
        Signs { alive: false, .. } => Status::Stopped,
        Signs { frozen: true, .. } => Status::Paused,
        Signs { gate: true, .. } => Status::Created,
        _ => Status::Running,
    }
}

/// `state`'s output, in the order and with the names of runtime.md and of runc.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// Version of the specification.
    #[serde(rename = "ociVersion")]
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// Its process; 0 when stopped.
    pub pid: i32,
    /// Its status.
    pub status: &'static str,
    /// The bundle, absolute.
    pub bundle: String,
    /// The root filesystem, absolute.
    pub rootfs: String,
    /// When it was created, RFC 3339.
    pub created: String,
    /// Annotations of the configuration.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Name of the user who made it; `list` fills it.
    pub owner: String,
}

impl Shown {
    /// A container as it is shown.
    pub fn of(state: State, status: Status) -> Shown {
        Shown {
            oci_version: state.oci_version,
            id: state.id,
            pid: if status == Status::Stopped { 0 } else { state.init_process_pid },
            status: status.name(),
            bundle: state.bundle,
            rootfs: state.rootfs,
            created: state.created,
            annotations: state.annotations,
            owner: String::new(),
        }
    }

    /// A container of which only its id is known: its state is missing, damaged, or of a newer berth. Engines read the date, so there is
    /// one: that which Go has for none.
    pub fn unknown(id: &Id) -> Shown {
        Shown {
            oci_version: String::new(),
            id: id.to_string(),
            pid: 0,
            status: "unknown",
            bundle: String::new(),
            rootfs: String::new(),
            created: "0001-01-01T00:00:00Z".to_string(),
            annotations: BTreeMap::new(),
            owner: String::new(),
        }
    }
}

impl State {
    /// The container's process.
    pub fn init_process(&self) -> Identity {
        Identity { pid: self.init_process_pid, start: self.init_process_start, inode: self.init_process_inode }
    }

    /// Says which the container's process is.
    pub fn set_init_process(&mut self, Identity { pid, start, inode }: Identity) {
        (self.init_process_pid, self.init_process_start, self.init_process_inode) = (pid, start, inode);
    }

    /// Who makes the container, as long as it is being made.
    pub fn creator(&self) -> Option<Identity> {
        let creator = Identity { pid: self.creator_pid, start: self.creator_start, inode: self.creator_inode };
        self.creating.then_some(creator)
    }

    /// Says that it is being made, by this process; or by none, because it is made.
    pub fn set_creator(&mut self, creator: Option<Identity>) {
        self.creating = creator.is_some();
        let Identity { pid, start, inode } = creator.unwrap_or_default();
        (self.creator_pid, self.creator_start, self.creator_inode) = (pid, start, inode);
    }

    /// Whether the machine has been started again since; not where the state does not say of which boot it is, because it could not have
    /// outlived that.
    pub fn is_of_another_boot(&self) -> error::Result<bool> {
        let told = || format!("cannot tell in which boot {} was made", self.id);
        Ok(!self.boot_id.is_empty() && crate::linux::proc::boot_id().told(told)? != self.boot_id)
    }

    /// The state as hooks get it: in this status, with this pid.
    pub fn for_hooks(&self, status: Status) -> HookState {
        HookState {
            oci_version: self.oci_version.clone(),
            id: self.id.clone(),
            status: status.name().to_string(),
            pid: if status == Status::Stopped { 0 } else { self.init_process_pid },
            bundle: self.bundle.clone(),
            root: self.rootfs.clone(),
            annotations: self.annotations.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_follows_from_what_the_kernel_says() {
        let made = State::default();
        let making = State { creating: true, ..State::default() };
        let signs = |alive, gate, frozen| Signs { alive, creator_alive: false, gate, frozen };
        assert_eq!(status(&made, signs(true, true, false)), Status::Created);
        assert_eq!(status(&made, signs(true, false, false)), Status::Running);
        assert_eq!(status(&made, signs(true, false, true)), Status::Paused);
        assert_eq!(status(&made, signs(false, true, true)), Status::Stopped);
        assert_eq!(status(&making, signs(true, false, false)), Status::Stopped);
        assert_eq!(status(&making, Signs { creator_alive: true, ..signs(false, false, false) }), Status::Creating);
    }

    #[test]
    fn a_state_of_another_boot_is_known() {
        let first = State { creator_pid: 7, boot_id: crate::linux::proc::boot_id().unwrap().to_string(), ..State::default() };
        assert!(!first.is_of_another_boot().unwrap() && !State::default().is_of_another_boot().unwrap());
        assert!(State { boot_id: "0".into(), ..first }.is_of_another_boot().unwrap());
    }

    #[test]
    fn a_state_survives_its_file() {
        let state = State { id: "x".into(), annotations: [("k".to_string(), "v".to_string())].into(), ..State::default() };
        let text = serde_json::to_vec(&state).unwrap();
        assert_eq!(serde_json::from_slice::<State>(&text).unwrap(), state);
    }
}
