// SPDX-License-Identifier: Apache-2.0
//! Numbers that no kernel would take: the message names the field, the number, and what it may be.

use serde_json::json;

use super::{Bench, OWN_WORDS};
use crate::harness::Test;
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[test!(numbers_out_of_range).differs(OWN_WORDS), test!(ids_that_are_none).differs(OWN_WORDS)];

fn numbers_out_of_range() {
    let mut bench = Bench::new();
    for (pointer, value, shown) in [
        ("/process/oomScoreAdj", json!(1001), "1001"),
        ("/process/oomScoreAdj", json!(-1001), "-1001"),
        ("/process/oomScoreAdj", json!(2_147_483_648u64), "2147483648"),
        ("/process/user/umask", json!(512), "512"),
        ("/process/scheduler", json!({ "policy": "SCHED_OTHER", "nice": 20 }), "20"),
        ("/process/scheduler", json!({ "policy": "SCHED_OTHER", "nice": -21 }), "-21"),
        ("/process/scheduler", json!({ "policy": "SCHED_FIFO", "priority": 100 }), "100"),
        ("/process/scheduler", json!({ "policy": "SCHED_FIFO" }), "0"),
        ("/process/scheduler", json!({ "policy": "SCHED_BATCH", "priority": 3 }), "3"),
        ("/process/scheduler", json!({ "policy": "SCHED_DEADLINE", "runtime": 5000, "deadline": 4000 }), "5000"),
        ("/process/ioPriority", json!({ "class": "IOPRIO_CLASS_BE", "priority": 8 }), "8"),
        ("/process/ioPriority", json!({ "class": "IOPRIO_CLASS_BE", "priority": -1 }), "-1"),
        ("/process/rlimits/-", json!({ "type": "RLIMIT_CORE", "soft": 2, "hard": 1 }), "2"),
        ("/process/rlimits/-", json!({ "type": "RLIMIT_CORE", "soft": -1, "hard": 1 }), "-1"),
        ("/linux/devices/-", json!({ "path": "/dev/x", "type": "c", "major": 4096, "minor": 0 }), "4096"),
        ("/linux/devices/-", json!({ "path": "/dev/x", "type": "c", "major": 1, "minor": 1_048_576 }), "1048576"),
        ("/linux/devices/-", json!({ "path": "/dev/x", "type": "c", "major": -1, "minor": 0 }), "-1"),
        ("/linux/devices/-", json!({ "path": "/dev/x", "type": "p", "fileMode": 262_144 }), "262144"),
        ("/linux/resources/devices/-", json!({ "allow": true, "type": "c", "major": -2 }), "-2"),
        (
            "/linux/resources/devices/-",
            json!({ "allow": true, "type": "c", "major": 1, "minor": 4_294_967_296u64 }),
            "4294967296",
        ),
        ("/linux/resources/memory/limit", json!(-2), "-2"),
        ("/linux/resources/memory/limit", json!(9_223_372_036_854_775_808u64), "9223372036854775808"),
        ("/linux/resources/memory/reservation", json!(-7), "-7"),
        ("/linux/resources/memory/swap", json!(-9), "-9"),
        ("/linux/resources/memory/swappiness", json!(101), "101"),
        ("/linux/resources/memory", json!({ "limit": 2_000_000, "swap": 1_000_000 }), "1000000"),
        ("/linux/resources/cpu/period", json!(999), "999"),
        ("/linux/resources/cpu/period", json!(1_000_001), "1000001"),
        ("/linux/resources/cpu/quota", json!(999), "999"),
        ("/linux/resources/cpu/idle", json!(2), "2"),
        ("/linux/resources/cpu", json!({ "quota": 1000, "burst": 2000 }), "2000"),
        ("/linux/resources/cpu/cpus", json!("3-1"), "3-1"),
        ("/linux/resources/cpu/cpus", json!("one"), "one"),
        ("/linux/resources/cpu/mems", json!("-"), "-"),
        ("/linux/resources/blockIO/weight", json!(1001), "1001"),
        ("/linux/resources/blockIO/weight", json!(9), "9"),
        ("/linux/resources/blockIO/weight", json!(70_000), "70000"),
        ("/linux/resources/hugepageLimits/-", json!({ "pageSize": "3 MB", "limit": 1 }), "3 MB"),
        ("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096 }), "4096"),
        ("/linux/timeOffsets/boottime", json!({ "secs": 1, "nanosecs": 1_000_000_000 }), "1000000000"),
        ("/hooks/prestart/-", json!({ "path": "/bin/true", "timeout": 0 }), "0"),
        ("/hooks/prestart/-", json!({ "path": "/bin/true", "timeout": -5 }), "-5"),
    ] {
        bench.refuses_value(pointer, value, &[shown]);
    }
    let argument = |index: u32| json!({ "index": index, "value": 0, "op": "SCMP_CMP_EQ" });
    let profile = |index| {
        json!({ "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["read"], "action": "SCMP_ACT_KILL", "args": [argument(index)] }] })
    };
    bench.refuses_value("/linux/seccomp", profile(6), &["syscalls[0].args[0].index", "6"]);
    bench.finish(43);
}

/// A user or group is a number from 0 to 4294967294, and nothing that could be read as one (CVE-2016-3697, CVE-2026-46680).
fn ids_that_are_none() {
    let mut bench = Bench::new();
    for pointer in ["/process/user/uid", "/process/user/gid", "/process/user/additionalGids/-"] {
        for (value, shown) in [
            (json!(4_294_967_295u64), "4294967295"),
            (json!(4_294_967_296u64), "4294967296"),
            (json!(18_446_744_073_709_551_615u64), "18446744073709551615"),
            (json!(1e10), "10000000000"),
            (json!(-1), "-1"),
            (json!(1.0), "1.0"),
            (json!("0"), "\"0\""),
            (json!("root"), "\"root\""),
            (json!("0x0"), "\"0x0\""),
            (json!([0]), "an array"),
            (json!(true), "`true`"),
        ] {
            bench.refuses_value(pointer, value, &[shown]);
        }
    }
    for (pointer, what) in [("/linux/uidMappings", "uidMappings"), ("/linux/gidMappings", "gidMappings")] {
        for (map, shown) in [
            (json!([{ "containerID": 0, "hostID": 0, "size": 0 }]), "0 ids"),
            (json!([{ "containerID": 0, "hostID": 4_294_967_290u64, "size": 100 }]), "4294967290"),
            (json!([{ "containerID": 4_294_967_290u64, "hostID": 0, "size": 100 }]), "4294967290"),
            (json!([{ "containerID": 0, "hostID": 1, "size": 9 }, { "containerID": 8, "hostID": 100, "size": 9 }]), "overlap"),
            (json!([{ "containerID": 0, "hostID": 1, "size": 9 }, { "containerID": 10, "hostID": 5, "size": 9 }]), "overlap"),
        ] {
            bench.refuses(what, &[what, shown], |bundle| {
                bundle.user_namespace(&[(0, 100_000, 65536)]).set(pointer, map);
            });
        }
    }
    bench.refuses("a user whom nothing maps", &["process.user.uid", "77"], |bundle| {
        bundle.user_namespace(&[(0, 100_000, 10)]).set("/process/user/uid", json!(77));
    });
    bench.refuses("a group whom nothing maps", &["process.user.additionalGids[0]", "78"], |bundle| {
        bundle.user_namespace(&[(0, 100_000, 10)]).set("/process/user/additionalGids", json!([78]));
    });
    bench.finish(45);
}
