// SPDX-License-Identifier: Apache-2.0
//! `process` of config.json, which is also the whole of `exec --process FILE` (config.md, "Process").

use super::object;

object! {
    /// The program to run and what it may do.
    pub struct Process {
        /// Whether its standard streams are a pseudo-terminal.
        terminal: bool = "terminal",
        /// The size of that terminal; nothing without one.
        console_size: Option<BoxSize> = "consoleSize",
        /// Whose it is.
        user: User = "user",
        /// argv; at least one.
        args: Vec<String> = "args",
        /// The environment: KEY=VALUE.
        env: Vec<String> = "env",
        /// The working directory: absolute.
        cwd: String = "cwd",
        /// capabilities(7); absent means none of them.
        capabilities: Option<Capabilities> = "capabilities",
        /// setrlimit(2).
        rlimits: Vec<Rlimit> = "rlimits",
        /// prctl(2) PR_SET_NO_NEW_PRIVS.
        no_new_privileges: bool = "noNewPrivileges",
        /// The AppArmor profile to change to on exec.
        apparmor_profile: String = "apparmorProfile",
        /// proc(5) /proc/self/oom_score_adj: -1000 to 1000; absent means inherited.
        oom_score_adj: Option<i32> = "oomScoreAdj",
        /// sched_setattr(2).
        scheduler: Option<Scheduler> = "scheduler",
        /// The SELinux context of the process.
        selinux_label: String = "selinuxLabel",
        /// ioprio_set(2).
        io_priority: Option<IoPriority> = "ioPriority",
        /// The CPUs an exec process runs on.
        exec_cpu_affinity: Option<ExecCpuAffinity> = "execCPUAffinity",
    }

    /// The size of a terminal in characters (the specification's "Box").
    pub struct BoxSize {
        /// Lines.
        height: u32 = "height",
        /// Columns.
        width: u32 = "width",
    }

    /// The user and groups of a process, by number.
    pub struct User {
        /// User id in the container's user namespace.
        uid: u32 = "uid",
        /// Group id in the container's user namespace.
        gid: u32 = "gid",
        /// umask(2); absent means the runtime's choice.
        umask: Option<u32> = "umask",
        /// setgroups(2).
        additional_gids: Vec<u32> = "additionalGids",
    }

    /// The five capability sets, by name (`CAP_CHOWN`).
    pub struct Capabilities {
        /// The limit of what execve can gain.
        bounding: Vec<String> = "bounding",
        /// In force.
        effective: Vec<String> = "effective",
        /// Kept across execve of a file with inheritable capabilities.
        inheritable: Vec<String> = "inheritable",
        /// The limit of what can be made effective.
        permitted: Vec<String> = "permitted",
        /// Kept across execve of a program without file capabilities.
        ambient: Vec<String> = "ambient",
    }

    /// How the process is scheduled (sched_setattr(2)).
    pub struct Scheduler {
        /// `SCHED_OTHER`, `SCHED_FIFO`, …
        policy: String = "policy",
        /// -20 to 19, for SCHED_OTHER and SCHED_BATCH.
        nice: Option<i32> = "nice",
        /// 1 to 99, for SCHED_FIFO and SCHED_RR.
        priority: Option<i32> = "priority",
        /// `SCHED_FLAG_RESET_ON_FORK`, …
        flags: Vec<String> = "flags",
        /// SCHED_DEADLINE: nanoseconds of running per period.
        runtime: Option<u64> = "runtime",
        /// SCHED_DEADLINE: nanoseconds until the running must be done.
        deadline: Option<u64> = "deadline",
        /// SCHED_DEADLINE: nanoseconds.
        period: Option<u64> = "period",
    }

    /// How its disk access is scheduled (ioprio_set(2)).
    pub struct IoPriority {
        /// `IOPRIO_CLASS_RT`, `IOPRIO_CLASS_BE` or `IOPRIO_CLASS_IDLE`.
        class: String = "class",
        /// 0 (first) to 7.
        priority: i32 = "priority",
    }

    /// CPU lists (`0-3,7`) of an exec process.
    pub struct ExecCpuAffinity {
        /// Before it moves into the container's cgroup.
        initial: String = "initial",
        /// After that, and for the program.
        final_cpus: String = "final",
    }

    /// One resource limit (setrlimit(2)).
    #[derive(Eq)]
    pub struct Rlimit {
        /// `RLIMIT_NOFILE`, …
        kind: String = "type" required,
        /// The most the soft limit can be raised to.
        hard: u64 = "hard" required,
        /// The limit in force.
        soft: u64 = "soft" required,
    }
}
