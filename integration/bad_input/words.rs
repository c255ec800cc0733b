// SPDX-License-Identifier: Apache-2.0
//! Words of enumerations that the specification does not know: the message names the field, the word, and mostly those there are.

use serde_json::{Value, json};

use super::{Bench, OWN_WORDS};
use crate::harness::Test;
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(unknown_words).differs(OWN_WORDS),
    test!(words_of_another_case).differs(OWN_WORDS),
    test!(versions).differs(OWN_WORDS),
    test!(sysctls).differs(OWN_WORDS),
    test!(names_of_things).differs(OWN_WORDS),
];

fn unknown_words() {
    let mut bench = Bench::new();
    let seccomp = |object: Value| {
        let mut profile = json!({ "defaultAction": "SCMP_ACT_ALLOW" });
        profile.as_object_mut().unwrap().extend(object.as_object().unwrap().clone());
        profile
    };
    let rule = |object: Value| seccomp(json!({ "syscalls": [object] }));
    let compare = |op: &str| json!([{ "index": 0, "value": 0, "op": op }]);
    for (pointer, value, shown) in [
        ("/linux/namespaces/0/type", json!("pids"), "pids"),
        ("/linux/namespaces/-", json!({ "type": "net" }), "net"),
        ("/linux/rootfsPropagation", json!("sharing"), "sharing"),
        ("/linux/personality/domain", json!("LINUX64"), "LINUX64"),
        ("/linux/memoryPolicy/mode", json!("MPOL_SOMEWHERE"), "MPOL_SOMEWHERE"),
        ("/linux/memoryPolicy", json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_X"] }), "MPOL_F_X"),
        ("/linux/devices/-", json!({ "path": "/dev/x", "type": "x", "major": 1, "minor": 3 }), "\"x\""),
        ("/linux/resources/devices/-", json!({ "allow": true, "type": "d" }), "\"d\""),
        ("/linux/resources/devices/-", json!({ "allow": true, "type": "c", "access": "rwx" }), "rwx"),
        ("/linux/resources/hugepageLimits/-", json!({ "pageSize": "2XB", "limit": 1 }), "2XB"),
        ("/linux/timeOffsets/realtime", json!({ "secs": 1 }), "realtime"),
        ("/linux/seccomp/defaultAction", json!("SCMP_ACT_DENY"), "SCMP_ACT_DENY"),
        ("/linux/seccomp", seccomp(json!({ "architectures": ["SCMP_ARCH_Z80"] })), "SCMP_ARCH_Z80"),
        ("/linux/seccomp", seccomp(json!({ "flags": ["SECCOMP_FILTER_FLAG_QUICK"] })), "SECCOMP_FILTER_FLAG_QUICK"),
        ("/linux/seccomp", rule(json!({ "names": ["read"], "action": "KILL" })), "KILL"),
        (
            "/linux/seccomp",
            rule(json!({ "names": ["read"], "action": "SCMP_ACT_KILL", "args": compare("SCMP_CMP_IS") })),
            "SCMP_CMP_IS",
        ),
        ("/linux/seccomp", rule(json!({ "names": ["read"], "action": "SCMP_ACT_KILL", "args": compare("") })), "op"),
        ("/linux/seccomp", rule(json!({ "names": ["read"], "action": "SCMP_ACT_KILL", "errnoRet": 1 })), "errnoRet"),
        ("/linux/seccomp", rule(json!({ "names": [], "action": "SCMP_ACT_KILL" })), "names"),
        ("/linux/seccomp", rule(json!({ "names": ["read"], "action": "SCMP_ACT_NOTIFY" })), "listenerPath"),
        ("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_NOTIFY" }), "SCMP_ACT_NOTIFY"),
        ("/linux/seccomp", seccomp(json!({ "listenerMetadata": "x" })), "listenerMetadata"),
        ("/process/rlimits/-", json!({ "type": "RLIMIT_PATIENCE", "soft": 1, "hard": 1 }), "RLIMIT_PATIENCE"),
        ("/process/rlimits/-", json!({ "type": "CORE", "soft": 1, "hard": 1 }), "CORE"),
        ("/process/scheduler/policy", json!("SCHED_SOON"), "SCHED_SOON"),
        ("/process/scheduler", json!({ "policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_X"] }), "SCHED_FLAG_X"),
        ("/process/ioPriority", json!({ "class": "IOPRIO_CLASS_FAST", "priority": 0 }), "IOPRIO_CLASS_FAST"),
        ("/mounts/-", json!({ "destination": "/mnt", "type": "nosuchfs", "source": "x" }), "nosuchfs"),
        ("/mounts/-", json!({ "destination": "/mnt", "type": "tmpfs", "source": "x", "options": ["mode=abc"] }), "mode"),
        ("/mounts/-", json!({ "destination": "/mnt", "type": "tmpfs", "source": "x", "options": ["size=lots"] }), "size"),
        (
            "/mounts/-",
            json!({ "destination": "/mnt", "type": "tmpfs", "source": "x", "options": ["nosuchoption"] }),
            "nosuchoption",
        ),
        ("/mounts/-", json!({ "destination": "/mnt", "type": "tmpfs", "source": "x", "options": ["nosuch=option"] }), "nosuch"),
    ] {
        let path = pointer.trim_start_matches('/').split('/').next().unwrap();
        bench.refuses(&format!("{pointer} = {value}"), &[path, shown], |bundle| {
            if pointer.starts_with("/linux/timeOffsets") {
                bundle.namespace("time", None);
            }
            bundle.set(pointer, value.clone());
        });
    }
    bench.finish(32);
}

fn words_of_another_case() {
    let mut bench = Bench::new();
    for (pointer, value, shown) in [
        ("/linux/namespaces/0/type", json!("PID"), "PID"),
        ("/linux/rootfsPropagation", json!("Private"), "Private"),
        ("/linux/personality/domain", json!("linux"), "linux"),
        ("/linux/seccomp/defaultAction", json!("scmp_act_allow"), "scmp_act_allow"),
        ("/process/scheduler/policy", json!("sched_other"), "sched_other"),
    ] {
        bench.refuses_value(pointer, value, &[shown]);
    }
    bench.finish(5);
}

fn versions() {
    let mut bench = Bench::new();
    for version in ["", "1", "one", "0.9.0", "2.0.0", "10.0.0", "-1.0.0", "1.x.0", "v1.0.2", "1.0.2.3", " 1.0.2", "1..2"] {
        bench.refuses_value("/ociVersion", json!(version), &[version]);
    }
    bench.finish(12);
}

/// A kernel parameter that no namespace of the container has for itself would change the host, however its name is written.
fn sysctls() {
    let mut bench = Bench::new();
    for name in [
        "kernel.core_pattern",
        "kernel/core_pattern",
        "kernel.panic",
        "vm.overcommit_memory",
        "fs.file-max",
        "kernel.hostname",
        "+kernel.core_pattern",
        "net/../kernel/core_pattern",
        "net.ipv4/../../kernel.core_pattern",
        "net...kernel.core_pattern",
        "../sysrq-trigger",
        "/proc/sys/net/ipv4/ip_forward",
        "net/ipv4//ip_forward",
        "net",
        "kernel",
        "fs.mqueue/../file-max",
        "",
        ".",
        "net.ipv4.ip_forward\n",
    ] {
        bench.refuses(&format!("the kernel parameter {name:?}"), &["linux.sysctl"], |bundle| {
            bundle.config["linux"]["sysctl"] = json!({ name: "1" });
        });
    }
    for (namespace, name) in [("network", "net.ipv4.ip_forward"), ("ipc", "kernel.shmmax"), ("ipc", "fs.mqueue.msg_max")] {
        bench.refuses(&format!("{name} without a namespace"), &["linux.sysctl", name, namespace], |bundle| {
            bundle.namespace(namespace, Some(""));
            bundle.config["linux"]["sysctl"] = json!({ name: "1" });
        });
    }
    bench.refuses("a value that the kernel refuses", &["linux.sysctl", "net.ipv4.ip_forward", "many"], |bundle| {
        bundle.config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "many" });
    });
    bench.finish(23);
}

fn names_of_things() {
    let mut bench = Bench::new();
    for name in ["../memory.max", "a/b", "", ".", "..", "/sys/fs/cgroup/cgroup.procs"] {
        bench.refuses(&format!("the cgroup file {name:?}"), &["linux.resources.unified"], |bundle| {
            bundle.config["linux"]["resources"] = json!({ "unified": { name: "1" } });
        });
    }
    for name in ["", "..", "a/b", "a:b", "a b", "sixteen-letters-"] {
        bench.refuses(&format!("the network device {name:?}"), &["linux.netDevices"], |bundle| {
            bundle.config["linux"]["netDevices"] = json!({ name: {} });
        });
        bench.refuses(&format!("the name {name:?} in the container"), &["linux"], |bundle| {
            bundle.config["linux"]["netDevices"] = json!({ "no-such-device0": { "name": name } });
        });
    }
    for (name, shown) in [("..", ".."), ("a/b", "a/b"), ("info", "info")] {
        bench.refuses_value("/linux/intelRdt", json!({ "closID": name }), &["closID", shown]);
    }
    bench.refuses_value("/linux/intelRdt", json!({ "closID": "x", "schemata": ["L3:0=f\nL3:1=f"] }), &["schemata[0]"]);
    for entry in ["NOVALUE", "=value", ""] {
        bench.refuses_value("/process/env/-", json!(entry), &[]);
    }
    for name in ["x".repeat(65), "y".repeat(300)] {
        bench.refuses_value("/hostname", json!(name), &["64"]);
        bench.refuses_value("/domainname", json!(name), &["64"]);
    }
    bench.refuses_value("/annotations", json!({ "": "nameless" }), &["name"]);
    bench.finish(30);
}
