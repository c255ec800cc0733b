// SPDX-License-Identifier: Apache-2.0
//! `process` of config.json, which is also the whole of `exec --process FILE` (config.md, "Process").

use serde::{Deserialize, Serialize};

use super::{Field, object};

object! {
    /// The program to run and what it may do.
    pub struct Process {
        /// Whether its standard streams are a pseudo-terminal.
        terminal: bool,
        /// The size of that terminal; nothing without one.
        console_size: Option<BoxSize>,
        /// Whose it is.
        user: User,
        /// argv; at least one.
        args: Vec<String>,
        /// The environment: KEY=VALUE.
        env: Vec<String>,
        /// The working directory: absolute.
        cwd: String,
        /// capabilities(7); absent means none of them.
        capabilities: Option<Capabilities>,
        /// setrlimit(2).
        rlimits: Vec<Rlimit>,
        /// prctl(2) PR_SET_NO_NEW_PRIVS.
        no_new_privileges: bool,
        /// The AppArmor profile to change to on exec.
        apparmor_profile: String,
        /// proc(5) /proc/self/oom_score_adj: -1000 to 1000; absent means inherited.
        oom_score_adj: Option<i32>,
        /// sched_setattr(2).
        scheduler: Option<Scheduler>,
        /// The SELinux context of the process.
        selinux_label: String,
        /// ioprio_set(2).
        io_priority: Option<IoPriority>,
        /// The CPUs an exec process runs on.
        #[serde(rename = "execCPUAffinity")]
        exec_cpu_affinity: Option<ExecCpuAffinity>,
    }

    /// The size of a terminal in characters (the specification's "Box").
    pub struct BoxSize {
        /// Lines.
        height: u32,
        /// Columns.
        width: u32,
    }

    /// The user and groups of a process, by number.
    pub struct User {
        /// User id in the container's user namespace.
        uid: u32,
        /// Group id in the container's user namespace.
        gid: u32,
        /// umask(2); absent means the runtime's choice.
        umask: Option<u32>,
        /// setgroups(2).
        additional_gids: Vec<u32>,
    }

    /// The five capability sets, by name (`CAP_CHOWN`).
    pub struct Capabilities {
        /// The limit of what execve can gain.
        bounding: Vec<String>,
        /// In force.
        effective: Vec<String>,
        /// Kept across execve of a file with inheritable capabilities.
        inheritable: Vec<String>,
        /// The limit of what can be made effective.
        permitted: Vec<String>,
        /// Kept across execve of a program without file capabilities.
        ambient: Vec<String>,
    }

    /// How the process is scheduled (sched_setattr(2)).
    pub struct Scheduler {
        /// `SCHED_OTHER`, `SCHED_FIFO`, …
        policy: String,
        /// -20 to 19, for SCHED_OTHER and SCHED_BATCH.
        nice: Option<i32>,
        /// 1 to 99, for SCHED_FIFO and SCHED_RR.
        priority: Option<i32>,
        /// `SCHED_FLAG_RESET_ON_FORK`, …
        flags: Vec<String>,
        /// SCHED_DEADLINE: nanoseconds of running per period.
        runtime: Option<u64>,
        /// SCHED_DEADLINE: nanoseconds until the running must be done.
        deadline: Option<u64>,
        /// SCHED_DEADLINE: nanoseconds.
        period: Option<u64>,
    }

    /// How its disk access is scheduled (ioprio_set(2)).
    pub struct IoPriority {
        /// `IOPRIO_CLASS_RT`, `IOPRIO_CLASS_BE` or `IOPRIO_CLASS_IDLE`.
        class: String,
        /// 0 (first) to 7.
        priority: i32,
    }

    /// CPU lists (`0-3,7`) of an exec process.
    pub struct ExecCpuAffinity {
        /// Before it moves into the container's cgroup.
        initial: String,
        /// After that, and for the program.
        #[serde(rename = "final")]
        final_cpus: String,
    }
}

/// One resource limit (setrlimit(2)).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Rlimit {
    /// `RLIMIT_NOFILE`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// The most the soft limit can be raised to.
    pub hard: u64,
    /// The limit in force.
    pub soft: u64,
}
