// SPDX-License-Identifier: Apache-2.0
//! What the runtime does to restore a container, in order. Called by `container::restore`, which carries it out; what CRIU does in the middle
//! of it, and the hooks that run then, are its own.

use std::fmt;

use super::{Plan, Request};

/// One step of a restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreStep {
    /// What to do.
    pub op: RestoreOp,
    /// JSON path of the field that asked for it; empty where none did.
    pub at: String,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreOp {
    /// Save the journal.
    SaveCreating,
    /// Make the cgroup; one of systemd's is made around CRIU instead.
    MakeCgroup,
    /// Make places of mounts that the root filesystem lacks.
    MakePlaces,
    /// Open what the restored processes get of this host.
    OpenGiven,
    /// Start CRIU's process, which waits.
    StartCriu,
    /// Put it into the cgroup, where what it restores will be, and set the limits.
    EnterCgroup,
    /// Let it become CRIU, and see that it is new enough.
    AskVersion,
    /// Have it restore; the hooks run, and the state is saved, while it does.
    Restore,
    /// Write the pid file.
    PidFile(String),
    /// Send a pidfd to a socket.
    SendPidfd(String),
}

impl fmt::Display for RestoreOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RestoreOp::SaveCreating => "save the journal of what will be made",
            RestoreOp::MakeCgroup => "make the cgroup",
            RestoreOp::MakePlaces => "make missing places of mounts in the root filesystem",
            RestoreOp::OpenGiven => "open the namespaces and streams that the processes get",
            RestoreOp::StartCriu => "start the process that becomes CRIU",
            RestoreOp::EnterCgroup => "put it into the cgroup, and set limits and device filter",
            RestoreOp::AskVersion => "let it become CRIU, and ask for its version",
            RestoreOp::Restore => "have CRIU restore, run the hooks and save the state",
            RestoreOp::PidFile(path) => return write!(f, "write the pid file {path}"),
            RestoreOp::SendPidfd(socket) => return write!(f, "send a pidfd to {socket}"),
        })
    }
}

/// The steps, in their order: the journal before there is anything to take back, the limits before anything of the container runs.
pub fn steps(request: &Request, plan: &Plan) -> Vec<RestoreStep> {
    let cgroup = || "linux.cgroupsPath".to_string();
    let step = |op: RestoreOp, at: String| RestoreStep { op, at };
    let mut steps = vec![step(RestoreOp::SaveCreating, String::new())];
    if plan.cgroup.unit.is_none() {
        steps.push(step(RestoreOp::MakeCgroup, cgroup()));
    }
    steps.extend([
        step(RestoreOp::MakePlaces, "mounts".into()),
        step(RestoreOp::OpenGiven, String::new()),
        step(RestoreOp::StartCriu, String::new()),
        step(RestoreOp::EnterCgroup, cgroup()),
        step(RestoreOp::AskVersion, String::new()),
        step(RestoreOp::Restore, String::new()),
    ]);
    steps.extend(request.pid_file.iter().map(|path| step(RestoreOp::PidFile(path.clone()), String::new())));
    steps.extend(request.pidfd_socket.iter().map(|path| step(RestoreOp::SendPidfd(path.clone()), String::new())));
    steps
}
