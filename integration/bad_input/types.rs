// SPDX-License-Identifier: Apache-2.0
//! A value of a wrong type in every field of config.json: the message names the field, and what stands there.

use serde_json::{Value, json};

use super::{Bench, OWN_WORDS};
use crate::harness::Test;
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(fields_of_the_process).differs(OWN_WORDS),
    test!(fields_of_the_container).differs(OWN_WORDS),
    test!(fields_of_linux).differs(OWN_WORDS),
    test!(fields_of_the_resources).differs(OWN_WORDS),
    test!(fields_that_are_required).differs(OWN_WORDS),
];

const TEXT: &str = "text";
const SWITCH: &str = "true or false";
const NUMBER: &str = "a number, 0 or more";
const SIGNED: &str = "a number";
const LIST: &str = "a list";
const TEXTS: &str = "a list of texts";
const OBJECT: &str = "an object";

/// Values that a field of this kind cannot have, with what the message says of them.
fn wrong_values(kind: &str) -> Vec<(Value, &'static str)> {
    match kind {
        TEXT => vec![(json!(7), "`7`"), (json!({}), "an object")],
        SWITCH => vec![(json!("yes"), "\"yes\""), (json!(1), "`1`")],
        NUMBER => vec![(json!("0"), "\"0\""), (json!(1.5), "`1.5`"), (json!(-1), "`-1`")],
        SIGNED => vec![(json!("0"), "\"0\""), (json!(1.5), "`1.5`")],
        LIST => vec![(json!({}), "an object"), (json!("x"), "\"x\"")],
        TEXTS => vec![(json!("x"), "\"x\""), (json!([7]), "`7`"), (json!([null]), "`null`")],
        OBJECT => vec![(json!([]), "an array"), (json!("x"), "\"x\"")],
        other => panic!("no such kind: {other}"),
    }
}

fn try_all(fields: &[(&str, &str)], least: usize) {
    let mut bench = Bench::new();
    for (pointer, kind) in fields {
        for (value, shown) in wrong_values(kind) {
            bench.refuses_value(pointer, value, &["expected", shown, "line"]);
        }
    }
    bench.finish(least);
}

fn fields_of_the_process() {
    let fields = [
        ("/process", OBJECT),
        ("/process/terminal", SWITCH),
        ("/process/consoleSize", OBJECT),
        ("/process/consoleSize/height", NUMBER),
        ("/process/consoleSize/width", NUMBER),
        ("/process/user", OBJECT),
        ("/process/user/uid", NUMBER),
        ("/process/user/gid", NUMBER),
        ("/process/user/umask", NUMBER),
        ("/process/user/additionalGids", LIST),
        ("/process/user/additionalGids/-", NUMBER),
        ("/process/args", TEXTS),
        ("/process/env", TEXTS),
        ("/process/cwd", TEXT),
        ("/process/capabilities", OBJECT),
        ("/process/capabilities/bounding", TEXTS),
        ("/process/capabilities/effective", TEXTS),
        ("/process/capabilities/inheritable", TEXTS),
        ("/process/capabilities/permitted", TEXTS),
        ("/process/capabilities/ambient", TEXTS),
        ("/process/rlimits", LIST),
        ("/process/rlimits/-/type", TEXT),
        ("/process/rlimits/-/soft", NUMBER),
        ("/process/rlimits/-/hard", NUMBER),
        ("/process/noNewPrivileges", SWITCH),
        ("/process/apparmorProfile", TEXT),
        ("/process/selinuxLabel", TEXT),
        ("/process/oomScoreAdj", SIGNED),
        ("/process/scheduler", OBJECT),
        ("/process/scheduler/policy", TEXT),
        ("/process/scheduler/nice", SIGNED),
        ("/process/scheduler/priority", SIGNED),
        ("/process/scheduler/flags", TEXTS),
        ("/process/scheduler/runtime", NUMBER),
        ("/process/scheduler/deadline", NUMBER),
        ("/process/scheduler/period", NUMBER),
        ("/process/ioPriority/class", TEXT),
        ("/process/ioPriority/priority", SIGNED),
        ("/process/execCPUAffinity/initial", TEXT),
        ("/process/execCPUAffinity/final", TEXT),
    ];
    try_all(&fields, 95);
}

fn fields_of_the_container() {
    let fields = [
        ("/ociVersion", TEXT),
        ("/root", OBJECT),
        ("/root/path", TEXT),
        ("/root/readonly", SWITCH),
        ("/hostname", TEXT),
        ("/domainname", TEXT),
        ("/annotations", OBJECT),
        ("/annotations/a", TEXT),
        ("/mounts", LIST),
        ("/mounts/0", OBJECT),
        ("/mounts/0/destination", TEXT),
        ("/mounts/1/type", TEXT),
        ("/mounts/2/source", TEXT),
        ("/mounts/3/options", TEXTS),
        ("/mounts/0/uidMappings", LIST),
        ("/mounts/0/gidMappings/-/size", NUMBER),
        ("/hooks", OBJECT),
        ("/hooks/prestart", LIST),
        ("/hooks/createRuntime/-", OBJECT),
        ("/hooks/createContainer/-/path", TEXT),
        ("/hooks/startContainer/-/args", TEXTS),
        ("/hooks/poststart/-/env", TEXTS),
        ("/hooks/poststop/-/timeout", SIGNED),
    ];
    try_all(&fields, 45);
}

fn fields_of_linux() {
    let fields = [
        ("/linux", OBJECT),
        ("/linux/namespaces", LIST),
        ("/linux/namespaces/0", OBJECT),
        ("/linux/namespaces/0/type", TEXT),
        ("/linux/namespaces/0/path", TEXT),
        ("/linux/uidMappings", LIST),
        ("/linux/uidMappings/-/containerID", NUMBER),
        ("/linux/gidMappings/-/hostID", NUMBER),
        ("/linux/gidMappings/-/size", NUMBER),
        ("/linux/timeOffsets", OBJECT),
        ("/linux/timeOffsets/boottime", OBJECT),
        ("/linux/timeOffsets/boottime/secs", SIGNED),
        ("/linux/timeOffsets/boottime/nanosecs", NUMBER),
        ("/linux/devices", LIST),
        ("/linux/devices/-/path", TEXT),
        ("/linux/devices/-/type", TEXT),
        ("/linux/devices/-/major", SIGNED),
        ("/linux/devices/-/minor", SIGNED),
        ("/linux/devices/-/fileMode", NUMBER),
        ("/linux/devices/-/uid", NUMBER),
        ("/linux/devices/-/gid", NUMBER),
        ("/linux/netDevices", OBJECT),
        ("/linux/netDevices/eth0", OBJECT),
        ("/linux/netDevices/eth0/name", TEXT),
        ("/linux/cgroupsPath", TEXT),
        ("/linux/sysctl", OBJECT),
        ("/linux/sysctl/net", TEXT),
        ("/linux/rootfsPropagation", TEXT),
        ("/linux/maskedPaths", TEXTS),
        ("/linux/readonlyPaths", TEXTS),
        ("/linux/mountLabel", TEXT),
        ("/linux/personality", OBJECT),
        ("/linux/personality/domain", TEXT),
        ("/linux/personality/flags", TEXTS),
        ("/linux/intelRdt", OBJECT),
        ("/linux/intelRdt/closID", TEXT),
        ("/linux/intelRdt/schemata", TEXTS),
        ("/linux/intelRdt/l3CacheSchema", TEXT),
        ("/linux/intelRdt/memBwSchema", TEXT),
        ("/linux/intelRdt/enableMonitoring", SWITCH),
        ("/linux/memoryPolicy", OBJECT),
        ("/linux/memoryPolicy/mode", TEXT),
        ("/linux/memoryPolicy/nodes", TEXT),
        ("/linux/memoryPolicy/flags", TEXTS),
        ("/linux/seccomp", OBJECT),
        ("/linux/seccomp/defaultAction", TEXT),
        ("/linux/seccomp/defaultErrnoRet", NUMBER),
        ("/linux/seccomp/architectures", TEXTS),
        ("/linux/seccomp/flags", TEXTS),
        ("/linux/seccomp/listenerPath", TEXT),
        ("/linux/seccomp/listenerMetadata", TEXT),
        ("/linux/seccomp/syscalls", LIST),
        ("/linux/seccomp/syscalls/-/names", TEXTS),
        ("/linux/seccomp/syscalls/-/action", TEXT),
        ("/linux/seccomp/syscalls/-/errnoRet", NUMBER),
        ("/linux/seccomp/syscalls/-/args", LIST),
    ];
    try_all(&fields, 120);
}

fn fields_of_the_resources() {
    let fields = [
        ("/linux/resources", OBJECT),
        ("/linux/resources/devices", LIST),
        ("/linux/resources/devices/-/allow", SWITCH),
        ("/linux/resources/devices/-/type", TEXT),
        ("/linux/resources/devices/-/major", SIGNED),
        ("/linux/resources/devices/-/minor", SIGNED),
        ("/linux/resources/devices/-/access", TEXT),
        ("/linux/resources/memory", OBJECT),
        ("/linux/resources/memory/limit", SIGNED),
        ("/linux/resources/memory/reservation", SIGNED),
        ("/linux/resources/memory/swap", SIGNED),
        ("/linux/resources/memory/swappiness", NUMBER),
        ("/linux/resources/memory/disableOOMKiller", SWITCH),
        ("/linux/resources/cpu", OBJECT),
        ("/linux/resources/cpu/shares", NUMBER),
        ("/linux/resources/cpu/quota", SIGNED),
        ("/linux/resources/cpu/burst", NUMBER),
        ("/linux/resources/cpu/period", NUMBER),
        ("/linux/resources/cpu/cpus", TEXT),
        ("/linux/resources/cpu/mems", TEXT),
        ("/linux/resources/cpu/idle", SIGNED),
        ("/linux/resources/pids", OBJECT),
        ("/linux/resources/pids/limit", SIGNED),
        ("/linux/resources/blockIO", OBJECT),
        ("/linux/resources/blockIO/weight", NUMBER),
        ("/linux/resources/blockIO/throttleReadBpsDevice", LIST),
        ("/linux/resources/blockIO/throttleWriteIOPSDevice/-/rate", NUMBER),
        ("/linux/resources/hugepageLimits", LIST),
        ("/linux/resources/hugepageLimits/-/pageSize", TEXT),
        ("/linux/resources/hugepageLimits/-/limit", NUMBER),
        ("/linux/resources/network/classID", NUMBER),
        ("/linux/resources/network/priorities/-/name", TEXT),
        ("/linux/resources/rdma", OBJECT),
        ("/linux/resources/rdma/mlx/hcaHandles", NUMBER),
        ("/linux/resources/unified", OBJECT),
        ("/linux/resources/unified/a", TEXT),
    ];
    try_all(&fields, 75);
}

fn fields_that_are_required() {
    let mut bench = Bench::new();
    for (object, name) in [
        ("", "ociVersion"),
        ("", "root"),
        ("/root", "path"),
        ("/process", "args"),
        ("/process", "cwd"),
        ("/mounts/0", "destination"),
        ("/linux/namespaces/0", "type"),
        ("", "linux"),
    ] {
        // Without the namespaces there is no mount namespace, and that is what is said.
        let says = if name == "linux" { "MNT namespace" } else { name };
        bench.refuses(&format!("no {name}"), &[says], |bundle| {
            bundle.unset(object, name);
        });
    }
    for (pointer, value, says) in [
        ("/process/rlimits/-", json!({ "type": "RLIMIT_CORE", "soft": 1 }), "hard"),
        ("/process/rlimits/-", json!({ "soft": 1, "hard": 1 }), "type"),
        ("/linux/uidMappings/-", json!({ "containerID": 0, "size": 1 }), "hostID"),
        ("/linux/resources/devices/-", json!({ "type": "c" }), "allow"),
        ("/linux/resources/hugepageLimits/-", json!({ "pageSize": "2MB" }), "limit"),
        ("/linux/seccomp", json!({}), "defaultAction"),
        ("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "action": "SCMP_ACT_KILL" }] }), "names"),
        ("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["read"] }] }), "action"),
        ("/linux/devices/-", json!({ "type": "c", "major": 1, "minor": 3 }), "path"),
        ("/linux/devices/-", json!({ "path": "/dev/x", "type": "c", "major": 1 }), "minor"),
        ("/hooks/prestart/-", json!({ "args": ["x"] }), "path"),
        ("/mounts/-", json!({ "destination": "/mnt", "options": ["bind"] }), "source"),
        ("/mounts/-", json!({ "destination": "/mnt" }), "type"),
        ("/linux/memoryPolicy", json!({}), "mode"),
        ("/linux/personality", json!({}), "domain"),
    ] {
        bench.refuses_value(
            pointer,
            value,
            &[says, "required"].map(|word| if word == "required" && says == "names" { "" } else { word }),
        );
    }
    bench.finish(23);
}
