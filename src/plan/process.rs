// SPDX-License-Identifier: Apache-2.0
//! Who and what the container's process is: identity, capabilities, limits, scheduling, labels, environment (config.md, Process).

use super::namespaces::NamespacePlan;
use super::step::{Identity, Op, Scheduler, Step};
use super::{Exec, Host, Request};
use crate::error::Code;
use crate::linux::types::CapSet;
use crate::spec::types::{Capabilities, Process};
use crate::spec::{Problem, Spec, names, number_list};

/// The path of the proxied notify socket inside the container (sd_notify(3)).
pub const NOTIFY_SOCKET: &str = "/run/notify/notify.sock";

/// The five capability sets, with warnings for what cannot be granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapabilitySets {
    /// Bounding set.
    pub bounding: CapSet,
    /// Effective set.
    pub effective: CapSet,
    /// Permitted set.
    pub permitted: CapSet,
    /// Inheritable set.
    pub inheritable: CapSet,
    /// Ambient set.
    pub ambient: CapSet,
}

/// Reads the capability names; absent means none. Names that this build or kernel does not know, and capabilities that the runtime does
/// not have, cannot be granted: the specification wants a warning, not an error.
pub fn capabilities(
    given: Option<&Capabilities>,
    host: &Host,
    new_user_namespace: bool,
    warnings: &mut Vec<String>,
) -> CapabilitySets {
    let Some(given) = given else { return CapabilitySets::default() };
    let known = CapSet(u64::MAX >> 63_u8.saturating_sub(host.last_capability));
    let grantable = if new_user_namespace { known } else { known & host.capabilities };
    let mut refused: Vec<String> = Vec::new();
    let mut read = |names: &[String]| {
        let mut set = CapSet::default();
        for name in names {
            match CapSet::from_name(name) {
                Some(cap) if grantable.contains(cap) => set = set | cap,
                _ if !refused.contains(name) => refused.push(name.clone()),
                _ => {}
            }
        }
        set
    };
    let mut sets = CapabilitySets {
        bounding: read(&given.bounding),
        effective: read(&given.effective),
        permitted: read(&given.permitted),
        inheritable: read(&given.inheritable),
        ambient: read(&given.ambient),
    };
    if !refused.is_empty() {
        warnings.push(format!(
            "process.capabilities: cannot grant {}: not known here or not held by the runtime",
            refused.join(", ")
        ));
    }
    let possible = sets.ambient & sets.permitted & sets.inheritable;
    if possible != sets.ambient {
        warnings
            .push("process.capabilities.ambient: left out what is not permitted and inheritable (capabilities(7))".to_string());
        sets.ambient = possible;
    }
    sets.effective = sets.effective & sets.permitted;
    sets
}

/// Where the process begins: the root directory where nothing is said.
pub fn working_directory(process: &Process) -> String {
    if process.cwd.is_empty() { "/".to_string() } else { process.cwd.clone() }
}

/// crun's annotation, for Podman's `--group-add keep-groups`: the caller's supplementary groups stay, which give access to files of his.
pub const KEEP_GROUPS: &str = "run.oci.keep_original_groups";

/// Whether a configuration asks for them.
pub fn keeps_groups(spec: &Spec) -> bool {
    spec.annotations.get(KEEP_GROUPS).is_some_and(|word| ["1", "true"].contains(&word.as_str()))
}

/// The last capability that can be in the bounding set which the process has at first: a user namespace begins with all that the kernel
/// knows, of which the runtime's own says nothing where an outer container has cut it.
pub fn last_bounding(host: &Host, other_user_namespace: bool) -> u8 {
    if other_user_namespace { 63 } else { host.last_capability }
}

/// Who the process will be. `keep_admin` holds CAP_SYS_ADMIN back until the seccomp filter is loaded.
pub fn identity(
    process: &Process,
    sets: CapabilitySets,
    last_bounding: u8,
    namespaces: &NamespacePlan,
    keep_admin: bool,
) -> Result<Identity, Problem> {
    let deny = namespaces.spawn.deny_setgroups;
    if deny && !process.user.additional_gids.is_empty() {
        return Err(Problem::new(
            "process.user.additionalGids",
            "setgroups(2) is denied where only the runtime's own ids are mapped: install newuidmap and newgidmap, or leave the groups out",
        )
        .cause(Code::SetGroups));
    }
    Ok(Identity {
        uid: process.user.uid,
        gid: process.user.gid,
        groups: (!deny).then(|| process.user.additional_gids.clone()),
        bounding: sets.bounding,
        last_bounding,
        effective: sets.effective,
        permitted: sets.permitted,
        inheritable: sets.inheritable,
        ambient: sets.ambient,
        keep_for_seccomp: if keep_admin { CapSet::SYS_ADMIN } else { CapSet::default() },
    })
}

/// Limits, scheduling and labels, in the order in which they are applied.
pub fn attributes(process: &Process, host: &Host) -> Result<Vec<(Op, String)>, Vec<Problem>> {
    let mut steps = Vec::new();
    let mut problems = Vec::new();
    for (index, limit) in process.rlimits.iter().enumerate() {
        let at = format!("process.rlimits[{index}]");
        match names::RLIMITS.position(&limit.kind) {
            Some(number) => {
                let op = Op::Rlimit { name: limit.kind.clone(), resource: number as u32, soft: limit.soft, hard: limit.hard };
                steps.push((op, at));
            }
            None => problems.push(Problem::new(format!("{at}.type"), format!("unknown resource limit \"{}\"", limit.kind))),
        }
    }
    scheduling(process, &mut steps, &mut problems);
    if !process.apparmor_profile.is_empty() {
        match host.apparmor {
            true => steps.push((Op::ApparmorProfile(process.apparmor_profile.clone()), "process.apparmorProfile".into())),
            false => problems.push(lsm_missing("process.apparmorProfile", &process.apparmor_profile, "AppArmor")),
        }
    }
    if !process.selinux_label.is_empty() {
        match host.selinux {
            true => steps.push((Op::SelinuxLabel(process.selinux_label.clone()), "process.selinuxLabel".into())),
            false => problems.push(lsm_missing("process.selinuxLabel", &process.selinux_label, "SELinux")),
        }
    }
    if problems.is_empty() { Ok(steps) } else { Err(problems) }
}

fn lsm_missing(at: &str, value: &str, name: &str) -> Problem {
    Problem::new(at, format!("\"{value}\" cannot be applied: {name} is not enabled on this host")).cause(Code::LsmMissing)
}

fn scheduling(process: &Process, steps: &mut Vec<(Op, String)>, problems: &mut Vec<Problem>) {
    if let Some(wanted) = &process.scheduler {
        match scheduler(wanted) {
            Ok(op) => steps.push((Op::Scheduler(op), "process.scheduler".into())),
            Err(problem) => problems.push(problem),
        }
    }
    if let Some(wanted) = &process.io_priority {
        let class = match wanted.class.as_str() {
            "IOPRIO_CLASS_RT" => Some(1),
            "IOPRIO_CLASS_BE" => Some(2),
            "IOPRIO_CLASS_IDLE" => Some(3),
            _ => None,
        };
        match (class, u8::try_from(wanted.priority)) {
            (Some(class), Ok(level)) if level <= 7 => steps.push((Op::IoPriority { class, level }, "process.ioPriority".into())),
            (None, _) => problems.push(Problem::new("process.ioPriority.class", format!("unknown class \"{}\"", wanted.class))),
            _ => problems.push(Problem::new("process.ioPriority.priority", format!("{} is not 0 to 7", wanted.priority))),
        }
    }
}

fn scheduler(wanted: &crate::spec::types::Scheduler) -> Result<Scheduler, Problem> {
    let policy = names::SCHEDULER_POLICIES.position(&wanted.policy);
    let policy =
        policy.ok_or_else(|| Problem::new("process.scheduler.policy", format!("unknown policy \"{}\"", wanted.policy)))? as u32;
    let mut flags = 0;
    for (index, name) in wanted.flags.iter().enumerate() {
        let flag = names::SCHEDULER_FLAGS.position(name);
        flags |= 1
            << flag
                .ok_or_else(|| Problem::new(format!("process.scheduler.flags[{index}]"), format!("unknown flag \"{name}\"")))?;
    }
    let priority = u32::try_from(wanted.priority.unwrap_or(0))
        .map_err(|_| Problem::new("process.scheduler.priority", format!("{} is negative", wanted.priority.unwrap_or(0))))?;
    Ok(Scheduler {
        policy,
        flags,
        nice: wanted.nice.unwrap_or(0),
        priority,
        runtime: wanted.runtime.unwrap_or(0),
        deadline: wanted.deadline.unwrap_or(0),
        period: wanted.period.unwrap_or(0),
    })
}

/// linux.personality and linux.memoryPolicy, in the kernel's numbers: of every process of the container, an exec's too.
pub fn kernel_attributes(spec: &Spec) -> Result<Vec<Step>, Vec<Problem>> {
    let Some(linux) = &spec.linux else { return Ok(Vec::new()) };
    let own = |op, at: &str| Step { op, at: at.to_string() };
    let mut steps = Vec::new();
    if let Some(personality) = &linux.personality {
        let domain = match personality.domain.as_str() {
            "LINUX" => 0x0000_0000,
            "LINUX32" => 0x0000_0008,
            other => return Err(vec![Problem::new("linux.personality.domain", format!("unknown domain \"{other}\""))]),
        };
        steps.push(own(Op::Personality(domain), "linux.personality"));
    }
    if let Some(policy) = &linux.memory_policy {
        let op = memory_policy(policy).map_err(|problem| vec![problem])?;
        steps.push(own(op, "linux.memoryPolicy"));
    }
    Ok(steps)
}

/// `linux.memoryPolicy`, in the numbers of linux/mempolicy.h.
fn memory_policy(given: &crate::spec::types::MemoryPolicy) -> Result<Op, Problem> {
    /// Of the first flag; the next ones are the bits above it.
    const FIRST_FLAG: u32 = 1 << 13;
    let mode = names::MEMORY_MODES.position(&given.mode);
    let mode = mode.ok_or_else(|| Problem::new("linux.memoryPolicy.mode", format!("unknown mode \"{}\"", given.mode)))?;
    let mut bits = mode as u32;
    for (index, name) in given.flags.iter().enumerate() {
        let at = format!("linux.memoryPolicy.flags[{index}]");
        let bit = names::MEMORY_FLAGS.position(name).ok_or_else(|| Problem::new(at, format!("unknown flag \"{name}\"")))?;
        bits |= FIRST_FLAG << bit;
    }
    Ok(Op::MemoryPolicy {
        mode: bits,
        nodes: number_list::parse(&given.nodes).map_err(|rule| Problem::new("linux.memoryPolicy.nodes", rule))?,
    })
}

/// The program, its arguments and its environment.
pub fn program(process: &Process, request: &Request) -> Exec {
    let mut exec = environment(process, request.listen_fds, request.notify_socket.is_some());
    exec.inherited_fds = request.listen_fds + request.preserve_fds;
    exec
}

/// As [`program`], from what init and exec have in common: descriptors that the service manager passed, a notify socket.
pub fn environment(process: &Process, listen_fds: u32, notify: bool) -> Exec {
    let mut env = process.env.clone();
    if notify {
        env.push(format!("NOTIFY_SOCKET={NOTIFY_SOCKET}"));
    }
    if listen_fds > 0 {
        env.push(format!("LISTEN_FDS={listen_fds}"));
        env.push("LISTEN_PID=1".to_string());
    }
    let env = last_of_each_name(env);
    let home = env.iter().find_map(|entry| entry.strip_prefix("HOME="));
    Exec {
        args: process.args.clone(),
        home_for_uid: home.is_none_or(str::is_empty).then_some(process.user.uid),
        env: env.into_iter().filter(|entry| entry != "HOME=").collect(),
        terminal: process.terminal,
        inherited_fds: listen_fds,
    }
}

/// Of entries with the same name the last is kept, where it stands.
pub fn last_of_each_name(env: Vec<String>) -> Vec<String> {
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_string();
    let mut seen = std::collections::BTreeSet::new();
    let mut kept: Vec<String> = env.into_iter().rev().filter(|entry| seen.insert(name(entry))).collect();
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Id;

    #[test]
    fn the_last_of_a_name_wins_and_home_is_found() {
        let env = ["A=1", "B=2", "A=3", "HOME="].map(String::from).to_vec();
        assert_eq!(last_of_each_name(env.clone()), ["B=2", "A=3", "HOME="]);
        let mut request = Request::create(Id::parse("x").unwrap(), "/b", "/r");
        request.listen_fds = 2;
        request.preserve_fds = 1;
        let exec = program(&Process { env, ..Default::default() }, &request);
        assert_eq!(exec.env, ["B=2", "A=3", "LISTEN_FDS=2", "LISTEN_PID=1"]);
        assert_eq!((exec.home_for_uid, exec.inherited_fds), (Some(0), 3));
    }

    /// linux/sched.h.
    #[test]
    fn policies_and_flags_of_scheduling_have_the_kernels_numbers() {
        let numbers = [("OTHER", 0), ("FIFO", 1), ("RR", 2), ("BATCH", 3), ("IDLE", 5), ("DEADLINE", 6)];
        for (policy, number) in numbers {
            let wanted = crate::spec::types::Scheduler { policy: format!("SCHED_{policy}"), ..Default::default() };
            assert_eq!(scheduler(&wanted).unwrap().policy, number, "{policy}");
        }
        let flags = [("RESET_ON_FORK", 1), ("RECLAIM", 2), ("DL_OVERRUN", 4), ("KEEP_POLICY", 8), ("KEEP_PARAMS", 16)];
        for (flag, bit) in flags.into_iter().chain([("UTIL_CLAMP_MIN", 32), ("UTIL_CLAMP_MAX", 64)]) {
            let flags = vec![format!("SCHED_FLAG_{flag}")];
            let wanted = crate::spec::types::Scheduler { policy: "SCHED_OTHER".into(), flags, ..Default::default() };
            assert_eq!(scheduler(&wanted).unwrap().flags, bit, "{flag}");
        }
    }

    #[test]
    fn what_cannot_be_granted_is_warned_of_and_dropped() {
        let names = |list: &[&str]| list.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        let given = Capabilities {
            bounding: names(&["CAP_CHOWN", "CAP_FOO", "CAP_SYS_RESOURCE"]),
            permitted: names(&["CAP_CHOWN"]),
            effective: names(&["CAP_CHOWN"]),
            inheritable: vec![],
            ambient: names(&["CAP_CHOWN"]),
        };
        let mut host = Host::example();
        host.capabilities.0 &= !(1 << 24);
        let mut warnings = Vec::new();
        let sets = capabilities(Some(&given), &host, false, &mut warnings);
        assert_eq!(sets.bounding, CapSet(1));
        assert_eq!(sets.ambient, CapSet(0));
        assert!(warnings[0].contains("CAP_FOO, CAP_SYS_RESOURCE"), "{warnings:?}");
        assert!(capabilities(Some(&given), &host, true, &mut warnings).bounding.contains(CapSet(1 << 24)));
        assert_eq!(capabilities(None, &host, false, &mut warnings), CapabilitySets::default());
        assert_eq!((last_bounding(&host, false), last_bounding(&host, true)), (40, 63));
    }

    #[test]
    fn numbers_of_limits_are_the_kernels() {
        assert_eq!(names::RLIMITS.position("RLIMIT_NOFILE"), Some(libc::RLIMIT_NOFILE as usize));
        assert_eq!(names::RLIMITS.position("RLIMIT_RTTIME"), Some(libc::RLIMIT_RTTIME as usize));
    }

    #[test]
    fn numbers_of_memory_policies_are_the_kernels() {
        let number = |mode: &str, flags: &[&str]| {
            let flags = flags.iter().map(|flag| flag.to_string()).collect();
            let given = crate::spec::types::MemoryPolicy { mode: mode.into(), nodes: "0".into(), flags };
            match memory_policy(&given).unwrap() {
                Op::MemoryPolicy { mode, .. } => mode as i32,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(number("MPOL_INTERLEAVE", &[]), libc::MPOL_INTERLEAVE);
        assert_eq!(number("MPOL_LOCAL", &[]), libc::MPOL_LOCAL);
        let both = libc::MPOL_BIND | libc::MPOL_F_STATIC_NODES | libc::MPOL_F_NUMA_BALANCING;
        assert_eq!(number("MPOL_BIND", &["MPOL_F_NUMA_BALANCING", "MPOL_F_STATIC_NODES"]), both);
        // MPOL_WEIGHTED_INTERLEAVE, Linux 6.9, and MPOL_F_RELATIVE_NODES.
        assert_eq!(number("MPOL_WEIGHTED_INTERLEAVE", &["MPOL_F_RELATIVE_NODES"]), 6 | libc::MPOL_F_RELATIVE_NODES);
    }

    #[test]
    fn unknown_words_are_named() {
        let mut process = Process::default();
        process.rlimits.push(crate::spec::types::Rlimit { kind: "RLIMIT_X".into(), hard: 1, soft: 1 });
        process.apparmor_profile = "p".into();
        let problems = attributes(&process, &Host::example()).unwrap_err();
        assert_eq!(problems[0], Problem::new("process.rlimits[0].type", "unknown resource limit \"RLIMIT_X\""));
        assert_eq!(problems[1].at, "process.apparmorProfile");
    }
}
