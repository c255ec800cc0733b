// SPDX-License-Identifier: Apache-2.0
//! `process` of config.json, field by field (config.md, "Process"): each row of a table is one value, and what the kernel then says.

use serde_json::{Value, json};

use crate::harness::{Bundle, Need, Test, skip};
use crate::test;

/// What this file tests.
pub const TESTS: &[Test] = &[
    test!(every_rlimit).needs(&[Need::SYS_RESOURCE]),
    test!(every_scheduling_policy).needs(&[SYS_NICE]),
    test!(deadline_scheduling).needs(&[SYS_NICE]),
    test!(scheduling_flags)
        .needs(&[SYS_NICE])
        .differs(&[("crun", "asks for utilisation clamps without room for them, which the kernel refuses")]),
    test!(scheduling_that_the_kernel_refuses_is_told),
    test!(wrong_scheduling_is_refused).differs(&[("crun", "leaves it to the kernel, and runs what it can")]),
    test!(every_io_priority).needs(&[SYS_NICE]),
    test!(wrong_io_priority_is_refused),
    test!(unknown_capability_is_told_and_left_out).differs(&[("crun", "says nothing")]),
    test!(personality_flags_are_told_and_left_out).differs(&[("crun", "says nothing")]),
    test!(every_personality),
    test!(wrong_personality_is_refused),
    test!(every_memory_policy).needs(&[NUMA]).differs(&[("runc", "versions before 1.4 do not know the field")]),
    test!(wrong_memory_policy_is_refused)
        .differs(&[("runc", "versions before 1.4 do not know the field"), ("crun", "names the value and not the field")]),
    test!(labels_without_their_module_are_refused).differs(&[("crun", "ignores them"), ("runc", "ignores a selinuxLabel")]),
];

const SYS_NICE: Need = Need::Capability("CAP_SYS_NICE", 23);
const NUMA: Need = Need::File("/proc/self/numa_maps");

/// A row for each resource of setrlimit(2): what the configuration calls it, what /proc/PID/limits calls it, soft and hard limit.
const RLIMITS: [(&str, &str, u64, u64); 16] = [
    ("RLIMIT_CPU", "Max cpu time", 1000, 2000),
    ("RLIMIT_FSIZE", "Max file size", 1 << 40, 1 << 41),
    ("RLIMIT_DATA", "Max data size", 1 << 40, 1 << 41),
    ("RLIMIT_STACK", "Max stack size", 4 << 20, 16 << 20),
    ("RLIMIT_CORE", "Max core file size", 0, 4096),
    ("RLIMIT_RSS", "Max resident set", 1 << 40, 1 << 41),
    ("RLIMIT_NPROC", "Max processes", 1001, 2001),
    ("RLIMIT_NOFILE", "Max open files", 77, 177),
    ("RLIMIT_MEMLOCK", "Max locked memory", 4096, 8192),
    ("RLIMIT_AS", "Max address space", 1 << 40, 1 << 41),
    ("RLIMIT_LOCKS", "Max file locks", 11, 22),
    ("RLIMIT_SIGPENDING", "Max pending signals", 55, 66),
    ("RLIMIT_MSGQUEUE", "Max msgqueue size", 1000, 2000),
    ("RLIMIT_NICE", "Max nice priority", 3, 5),
    ("RLIMIT_RTPRIO", "Max realtime priority", 2, 4),
    ("RLIMIT_RTTIME", "Max realtime timeout", 1_000_000, 2_000_000),
];

fn every_rlimit() {
    let mut bundle = Bundle::args(&["/bin/cat", "/proc/self/limits"]);
    for (kind, _, soft, hard) in RLIMITS {
        bundle.set("/process/rlimits/-", json!({ "type": kind, "soft": soft, "hard": hard }));
    }
    let output = bundle.print();
    for (kind, name, soft, hard) in RLIMITS {
        let line = output.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}: {output}"));
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[..2], [soft.to_string(), hard.to_string()], "{kind}");
    }
}

/// sched_getattr(2) of a process: policy, flags, nice, priority, runtime, deadline, period.
fn scheduling(pid: i32) -> [u64; 7] {
    let mut raw = [0u8; 48];
    // SAFETY: the kernel writes at most the given number of bytes, which the buffer has.
    let result = unsafe { libc::syscall(libc::SYS_sched_getattr, pid, raw.as_mut_ptr(), raw.len(), 0) };
    assert_eq!(result, 0, "sched_getattr: {}", std::io::Error::last_os_error());
    let word = |at: usize| u64::from(u32::from_ne_bytes(raw[at..at + 4].try_into().unwrap()));
    let long = |at: usize| u64::from_ne_bytes(raw[at..at + 8].try_into().unwrap());
    [word(4), long(8), word(16), word(20), long(24), long(32), long(40)]
}

/// What a process inherits of this one, where nothing else is asked for.
fn own_nice() -> u64 {
    scheduling(0)[2]
}

fn every_scheduling_policy() {
    // The kernel's SCHED_FLAG_RESET_ON_FORK is 1.
    for (given, policy, flags, nice, priority) in [
        (json!({ "policy": "SCHED_OTHER", "nice": 5 }), libc::SCHED_OTHER, 0, 5, 0),
        (json!({ "policy": "SCHED_BATCH", "nice": 19 }), libc::SCHED_BATCH, 0, 19, 0),
        (json!({ "policy": "SCHED_IDLE" }), libc::SCHED_IDLE, 0, own_nice(), 0),
        (json!({ "policy": "SCHED_FIFO", "priority": 7 }), libc::SCHED_FIFO, 0, 0, 7),
        (json!({ "policy": "SCHED_RR", "priority": 1, "flags": ["SCHED_FLAG_RESET_ON_FORK"] }), libc::SCHED_RR, 1, 0, 1),
    ] {
        if [libc::SCHED_FIFO, libc::SCHED_RR].contains(&policy) && !may_be_real_time() {
            eprintln!("  {given}: real time policies are not permitted here to chrt either");
            continue;
        }
        let mut bundle = Bundle::new();
        bundle.set("/process/scheduler", given.clone());
        let found = scheduling(bundle.run_detached().pid());
        assert_eq!(found[..4], [policy as u64, flags, nice, priority], "{given}");
    }
}

fn may_be_real_time() -> bool {
    std::process::Command::new("chrt").args(["-f", "1", "true"]).status().is_ok_and(|status| status.success())
}

fn deadline_scheduling() {
    let times = ["--sched-runtime", "1000000", "--sched-deadline", "10000000", "--sched-period", "20000000"];
    let can = std::process::Command::new("chrt").args(["-d"]).args(times).args(["0", "true"]).status();
    if !can.is_ok_and(|status| status.success()) {
        skip("this kernel refuses SCHED_DEADLINE to chrt as well");
    }
    let mut bundle = Bundle::new();
    let given = json!({ "policy": "SCHED_DEADLINE", "runtime": 1_000_000, "deadline": 10_000_000, "period": 20_000_000,
        "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN"] });
    bundle.set("/process/scheduler", given);
    let found = scheduling(bundle.run_detached().pid());
    assert_eq!(found, [6, 1 | 4, 0, 0, 1_000_000, 10_000_000, 20_000_000]);
    let mut bundle = Bundle::new();
    // Without a period the deadline is the period (sched(7)).
    let given = json!({ "policy": "SCHED_DEADLINE", "runtime": 2_000_000, "deadline": 30_000_000,
        "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM"] });
    bundle.set("/process/scheduler", given);
    let found = scheduling(bundle.run_detached().pid());
    assert_eq!(found, [6, 1 | 2, 0, 0, 2_000_000, 30_000_000, 30_000_000]);
}

/// A child made by the caller with a policy of its own: the flags that keep it, and those about utilisation, which some kernels lack.
fn scheduling_flags() {
    let run = |prefix: &[&str], given: &Value| {
        let mut bundle = Bundle::new();
        bundle.set("/process/scheduler", given.clone());
        let container = bundle.container();
        let output = bundle.output_of(bundle.run_through(prefix, &["--detach"]));
        output.status.success().then(|| scheduling(container.pid())).ok_or(output.stderr)
    };
    let batch = ["chrt", "--batch", "0"];
    let kept = run(&batch, &json!({ "policy": "SCHED_OTHER", "nice": 4, "flags": ["SCHED_FLAG_KEEP_POLICY"] })).unwrap();
    assert_eq!((kept[0], kept[2]), (libc::SCHED_BATCH as u64, 4), "the policy stays, the rest is as asked");
    let (nice, nicer) = (["nice", "-n", "6"], (own_nice() + 6).min(19));
    let kept = run(&nice, &json!({ "policy": "SCHED_BATCH", "nice": 1, "flags": ["SCHED_FLAG_KEEP_PARAMS"] })).unwrap();
    assert_eq!(kept[2], nicer, "the parameters stay (and so does the policy, as kernels up to 6.18 read the flag)");
    let both = ["SCHED_FLAG_KEEP_POLICY", "SCHED_FLAG_KEEP_PARAMS"];
    let kept = run(&nice, &json!({ "policy": "SCHED_OTHER", "nice": 1, "flags": both })).unwrap();
    assert_eq!((kept[0], kept[2]), (0, nicer));
    for clamp in ["SCHED_FLAG_UTIL_CLAMP_MIN", "SCHED_FLAG_UTIL_CLAMP_MAX"] {
        match run(&[], &json!({ "policy": "SCHED_OTHER", "flags": [clamp] })) {
            Ok(_) => {}
            Err(message) => {
                let lower = message.to_lowercase();
                let told = lower.contains("eopnotsupp") || lower.contains("not supported");
                assert!(lower.contains("sched") && told, "{clamp}: {message}");
            }
        }
    }
}

/// SCHED_ISO is reserved, and no kernel has it.
fn scheduling_that_the_kernel_refuses_is_told() {
    let message = |given: Value| {
        let mut bundle = Bundle::new();
        bundle.set("/process/scheduler", given);
        bundle.create_fails()
    };
    assert!(message(json!({ "policy": "SCHED_ISO" })).contains("sched"));
}

/// Creates a container with this value at this place, which must be refused with a message that names the field.
#[track_caller]
fn refused(pointer: &str, value: Value, named: &str) {
    let mut bundle = Bundle::new();
    bundle.set(pointer, value.clone());
    let message = bundle.create_fails();
    assert!(
        message.to_lowercase().contains(&named.to_lowercase()),
        "{pointer} = {value} is refused without {named:?}: {message}"
    );
}

fn wrong_scheduling_is_refused() {
    for given in [
        json!({ "policy": "SCHED_WRONG" }),
        json!({ "policy": "SCHED_FIFO", "priority": 0 }),
        json!({ "policy": "SCHED_OTHER", "priority": 5 }),
        json!({ "policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_WRONG"] }),
        json!({ "policy": "SCHED_DEADLINE" }),
        json!({ "policy": "SCHED_OTHER", "runtime": 1_000_000 }),
    ] {
        refused("/process/scheduler", given, "sched");
    }
}

fn every_io_priority() {
    for (class, priority, expected) in [
        ("IOPRIO_CLASS_RT", 0, "realtime: prio 0"),
        ("IOPRIO_CLASS_RT", 3, "realtime: prio 3"),
        ("IOPRIO_CLASS_BE", 7, "best-effort: prio 7"),
        ("IOPRIO_CLASS_IDLE", 0, "idle"),
    ] {
        let mut bundle = Bundle::args(&["/bin/ionice"]);
        bundle.set("/process/ioPriority", json!({ "class": class, "priority": priority }));
        assert!(bundle.print().starts_with(expected), "{class} {priority}");
    }
}

fn wrong_io_priority_is_refused() {
    refused("/process/ioPriority", json!({ "class": "IOPRIO_CLASS_WRONG", "priority": 1 }), "class");
    refused("/process/ioPriority", json!({ "class": "IOPRIO_CLASS_BE", "priority": 8 }), "priority");
}

fn unknown_capability_is_told_and_left_out() {
    let mut bundle = Bundle::args(&["/bin/grep", "CapBnd", "/proc/self/status"]);
    bundle.set("/process/capabilities/bounding", json!(["CAP_CHOWN", "CAP_OF_THE_FUTURE"]));
    let output = bundle.run();
    assert_eq!(output.stdout, "CapBnd:\t0000000000000001\n", "{output:?}");
    assert!(output.stderr.contains("CAP_OF_THE_FUTURE"), "{output:?}");
}

fn personality_flags_are_told_and_left_out() {
    let mut bundle = Bundle::args(&["/bin/cat", "/proc/self/personality"]);
    bundle.set("/linux/personality", json!({ "domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"] }));
    let output = bundle.run();
    assert_eq!(output.stdout, "00000000\n", "{output:?}");
    assert!(output.stderr.contains("personality") && output.stderr.contains("flags"), "{output:?}");
}

fn every_personality() {
    for (domain, expected) in [("LINUX", "00000000\n"), ("LINUX32", "00000008\n")] {
        let mut bundle = Bundle::args(&["/bin/cat", "/proc/self/personality"]);
        bundle.set("/linux/personality", json!({ "domain": domain }));
        assert_eq!(bundle.print(), expected, "{domain}");
    }
}

fn wrong_personality_is_refused() {
    refused("/linux/personality", json!({ "domain": "PLAN9" }), "PLAN9");
}

/// What /proc/PID/numa_maps says of memory without a policy of its own is the process's (set_mempolicy(2)).
fn every_memory_policy() {
    for (mode, nodes, flags, expected) in [
        ("MPOL_DEFAULT", "", json!([]), "default"),
        ("MPOL_LOCAL", "", json!([]), "local"),
        ("MPOL_PREFERRED", "0", json!([]), "prefer:0"),
        ("MPOL_BIND", "0", json!([]), "bind:0"),
        ("MPOL_BIND", "0", json!(["MPOL_F_STATIC_NODES"]), "bind=static:0"),
        ("MPOL_BIND", "0-0", json!(["MPOL_F_RELATIVE_NODES"]), "bind=relative:0"),
        ("MPOL_INTERLEAVE", "0", json!([]), "interleave:0"),
        ("MPOL_PREFERRED_MANY", "0", json!([]), "prefer (many):0"),
    ] {
        let mut bundle = Bundle::args(&["/bin/cat", "/proc/self/numa_maps"]);
        bundle.set("/linux/memoryPolicy", json!({ "mode": mode, "nodes": nodes, "flags": flags }));
        let output = bundle.print();
        assert!(output.contains(&format!(" {expected} ")), "{mode} {nodes} {flags}: not {expected:?} in {output}");
    }
}

fn wrong_memory_policy_is_refused() {
    for (given, named) in [
        (json!({ "mode": "MPOL_WRONG", "nodes": "" }), "mode"),
        (json!({ "mode": "MPOL_BIND", "nodes": "0-x" }), "nodes"),
        (json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_WRONG"] }), "flag"),
        (json!({ "mode": "MPOL_BIND", "nodes": "60000" }), "memory"),
    ] {
        refused("/linux/memoryPolicy", given, named);
    }
}

fn labels_without_their_module_are_refused() {
    let text = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    for (module, field, value) in [("apparmor", "apparmorProfile", "some-profile"), ("selinux", "selinuxLabel", "a:b:c:s0")] {
        if text.contains(module) {
            eprintln!("  this host has {module}");
            continue;
        }
        refused(&format!("/process/{field}"), json!(value), &value[..value.len().min(12)]);
    }
}
