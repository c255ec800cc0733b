// SPDX-License-Identifier: Apache-2.0
//! Rules for `process` (config.md, "Process").

use super::{Rows, Verdict};
use crate::spec::{At, Capabilities, Process, Scheduler, names};

/// config.md, "Process", "POSIX process", "Linux Process".
pub(super) const PROCESS: Rows<Process> = rows![
    ("consoleSize", |process, at, verdict| {
        if let (true, Some(size)) = (process.terminal, &process.console_size) {
            verdict.within(&at.name("height"), size.height, 0, u32::from(u16::MAX));
            verdict.within(&at.name("width"), size.width, 0, u32::from(u16::MAX));
        }
    }),
    ("cwd", |process, at, verdict| verdict.absolute(at, &process.cwd)),
    ("env", |process, at, verdict| environment(&process.env, at, verdict)),
    ("args", |process, at, verdict| {
        if process.args.is_empty() {
            verdict.problem(at, "is required and must not be empty");
        }
    }),
    ("rlimits", rlimits),
    ("capabilities", |process, at, verdict| {
        if let Some(capabilities) = &process.capabilities {
            judge_capabilities(capabilities, at, verdict);
        }
    }),
    ("oomScoreAdj", |process, at, verdict| verdict.within(at, process.oom_score_adj.unwrap_or(0), -1000, 1000)),
    ("scheduler", |process, at, verdict| {
        if let Some(scheduler) = &process.scheduler {
            verdict.judge(SCHEDULER, scheduler, at);
        }
    }),
    ("ioPriority", |process, at, verdict| {
        if let Some(priority) = &process.io_priority {
            verdict.one_of(&at.name("class"), &priority.class, names::IO_CLASSES);
            verdict.within(&at.name("priority"), priority.priority, 0, 7);
        }
    }),
    ("execCPUAffinity", |process, at, verdict| {
        if let Some(affinity) = &process.exec_cpu_affinity {
            verdict.number_list(&at.name("initial"), &affinity.initial);
            verdict.number_list(&at.name("final"), &affinity.final_cpus);
        }
    }),
    ("user", |process, at, verdict| {
        let user = &process.user;
        user_or_group_id(&at.name("uid"), user.uid, verdict);
        user_or_group_id(&at.name("gid"), user.gid, verdict);
        for (which, gid) in user.additional_gids.iter().enumerate() {
            user_or_group_id(&at.name("additionalGids").index(which), *gid, verdict);
        }
        if let Some(umask) = user.umask.filter(|umask| *umask > 0o777) {
            verdict.problem(&at.name("umask"), format!("{umask} is not from 0 to 511 (octal 777)"));
        }
    }),
];

/// 4294967295 is (uid_t)-1, which setresuid(2) and chown(2) take for "unchanged".
pub(super) fn user_or_group_id(at: &At, id: u32, verdict: &mut Verdict) {
    if id == u32::MAX {
        verdict.problem(at, format!("{id} is not an id: to the kernel it means \"unchanged\""));
    }
}

/// environ(7): NAME=VALUE. Values are not shown: they may be secrets.
fn environment(env: &[String], at: &At, verdict: &mut Verdict) {
    for (which, entry) in env.iter().enumerate() {
        match entry.split_once('=') {
            None => verdict.problem(&at.index(which), format!("{entry:?} has no \"=\": it must be NAME=VALUE")),
            Some(("", _)) => verdict.problem(&at.index(which), "has no name before \"=\""),
            Some(_) => {}
        }
    }
}

/// config.md, "POSIX process": known types, each once; setrlimit(2): soft at most hard.
fn rlimits(process: &Process, at: &At, verdict: &mut Verdict) {
    for (which, limit) in process.rlimits.iter().enumerate() {
        let at = &at.index(which);
        verdict.one_of(&at.name("type"), &limit.kind, names::RLIMITS);
        if let Some(first) = process.rlimits[..which].iter().position(|other| other.kind == limit.kind) {
            verdict.problem(&at.name("type"), format!("{:?} is set already by rlimits[{first}]", limit.kind));
        }
        if limit.soft > limit.hard {
            verdict.problem(&at.name("soft"), format!("{} is more than the hard limit {}", limit.soft, limit.hard));
        }
    }
}

/// config.md, "Linux Process": an unknown capability must be warned of and not refused. capabilities(7): effective must be permitted,
/// and only what is permitted and inheritable can be ambient.
fn judge_capabilities(sets: &Capabilities, at: &At, verdict: &mut Verdict) {
    let all: [(&str, &[String]); 5] = [
        ("bounding", &sets.bounding),
        ("effective", &sets.effective),
        ("inheritable", &sets.inheritable),
        ("permitted", &sets.permitted),
        ("ambient", &sets.ambient),
    ];
    for (set, names_in_set) in all {
        let at = at.name(set);
        for (which, name) in names_in_set.iter().enumerate() {
            let at = &at.index(which);
            if !names::CAPABILITIES.contains(name) {
                verdict.warning(at, format!("{name:?} is an unknown capability; it is left out"));
            } else if set == "effective" && !sets.permitted.contains(name) {
                verdict.problem(at, format!("{name} cannot be effective without being permitted"));
            } else if set == "ambient" && !(sets.permitted.contains(name) && sets.inheritable.contains(name)) {
                verdict.warning(at, format!("{name} cannot be ambient without being permitted and inheritable; it is left out"));
            }
        }
    }
}

/// sched_setattr(2).
const SCHEDULER: Rows<Scheduler> = rows![
    ("policy", |scheduler, at, verdict| verdict.one_of(at, &scheduler.policy, names::SCHEDULER_POLICIES)),
    ("flags", |scheduler, at, verdict| verdict.all_of(at, &scheduler.flags, names::SCHEDULER_FLAGS)),
    ("nice", |scheduler, at, verdict| verdict.within(at, scheduler.nice.unwrap_or(0), -20, 19)),
    ("priority", |scheduler, at, verdict| {
        let priority = scheduler.priority.unwrap_or(0);
        match scheduler.policy.as_str() {
            "SCHED_FIFO" | "SCHED_RR" => verdict.within(at, priority, 1, 99),
            _ if priority != 0 => verdict.problem(at, format!("{priority}: only SCHED_FIFO and SCHED_RR have a priority")),
            _ => {}
        }
    }),
    ("runtime", |scheduler, at, verdict| {
        /// Nanoseconds; the kernel's own bound (DL_SCALE).
        const LEAST: u64 = 1024;
        let [runtime, deadline, period] = [scheduler.runtime, scheduler.deadline, scheduler.period].map(|time| time.unwrap_or(0));
        let whole = if period == 0 { deadline } else { period };
        if scheduler.policy != "SCHED_DEADLINE" {
            if runtime != 0 || deadline != 0 || period != 0 {
                verdict.problem(at, "only SCHED_DEADLINE has a runtime, deadline and period");
            }
        } else if runtime < LEAST || runtime > deadline || deadline > whole {
            let rule = format!("{LEAST} ≤ runtime {runtime} ≤ deadline {deadline} ≤ period {whole} (nanoseconds) does not hold");
            verdict.problem(at, rule);
        }
    }),
];
