// SPDX-License-Identifier: Apache-2.0
//! Tests of the rules: what real callers write is sound; each rule is broken once, and kept once where it is close.

use serde_json::{Value, json};

use super::*;
use crate::spec::{field, fixtures};

/// A sound configuration with the values at some JSON pointers (RFC 6901) replaced, made or, when null, removed.
fn edited(edits: &[(&str, Value)]) -> Spec {
    let mut value: Value = serde_json::from_str(fixtures::text("runc-spec")).unwrap();
    for (pointer, new) in edits {
        set(&mut value, pointer, new.clone());
    }
    crate::spec::load::parse_config(value.to_string().as_bytes()).unwrap()
}

fn set(value: &mut Value, pointer: &str, new: Value) {
    let mut place = value;
    for name in pointer.split('/').skip(1) {
        let name = name.replace("~1", "/").replace("~0", "~");
        if place.is_null() {
            *place = if name == "0" { json!([]) } else { json!({}) };
        }
        place = match place {
            Value::Array(list) => {
                let at: usize = if name == "-" { list.len() } else { name.parse().unwrap() };
                if at == list.len() {
                    list.push(Value::Null);
                }
                &mut list[at]
            }
            Value::Object(map) => map.entry(name).or_insert(Value::Null),
            other => panic!("{other} has no {name}"),
        };
    }
    *place = new;
}

/// Asserts that the edits break one rule, at a path, with a text that contains `rule`.
fn breaks(edits: &[(&str, Value)], at: &str, rule: &str) {
    let verdict = config(&edited(edits));
    let found = verdict.problems.iter().any(|problem| problem.at == at && problem.rule.contains(rule));
    assert!(found && verdict.problems.len() == 1, "{edits:?}: expected {at}: {rule}, found {:?}", verdict.problems);
}

/// Asserts that the edits break no rule.
fn keeps(edits: &[(&str, Value)]) {
    let verdict = config(&edited(edits));
    assert_eq!(verdict, Verdict::default(), "{edits:?}");
}

/// Asserts that the edits give one warning and no problem.
fn warns(edits: &[(&str, Value)], at: &str, rule: &str) {
    let verdict = config(&edited(edits));
    assert_eq!(verdict.problems, [], "{edits:?}");
    assert_eq!(verdict.warnings.len(), 1, "{:?}", verdict.warnings);
    assert_eq!(verdict.warnings[0].at, at);
    assert!(verdict.warnings[0].rule.contains(rule), "{:?}", verdict.warnings);
}

#[test]
fn what_callers_write_is_sound() {
    for (name, _) in fixtures::ALL {
        assert_eq!(config(&fixtures::spec(name)), Verdict::default(), "{name}");
    }
}

#[test]
fn all_problems_at_once() {
    let spec = Spec::default();
    let places: Vec<String> = config(&spec).problems.into_iter().map(|problem| problem.at).collect();
    assert_eq!(places, ["ociVersion", "root", "linux.namespaces"]);
    let edits = [("/hostname", json!("a".repeat(65))), ("/process/cwd", json!("x")), ("/linux/maskedPaths/0", json!("proc"))];
    assert_eq!(config(&edited(&edits)).problems.len(), 3);
}

#[test]
fn version_and_root() {
    for version in ["1.0.0", "1.3.0", "1.0.2-dev", "1.0.0-rc5", "1.1.0+dev", "1.99.7-rc.1+build"] {
        keeps(&[("/ociVersion", json!(version))]);
    }
    warns(&[("/ociVersion", json!("1.0"))], "ociVersion", "no patch number");
    breaks(&[("/ociVersion", json!(""))], "ociVersion", "is required");
    breaks(&[("/ociVersion", json!("2.0.0"))], "ociVersion", "\"2.0.0\" is not supported");
    breaks(&[("/ociVersion", json!("0.5.0-dev"))], "ociVersion", "\"0.5.0-dev\" is not supported");
    for version in ["one", "1", "1..0", "1.0.0.0", "v1.0.0", " 1.0.0"] {
        breaks(&[("/ociVersion", json!(version))], "ociVersion", "is not a semantic version");
    }
    breaks(&[("/root", Value::Null)], "root", "is required");
    breaks(&[("/root/path", json!(""))], "root.path", "is required");
}

#[test]
fn mounts() {
    let mount = |new: Value| [("/mounts/-", new)];
    keeps(&mount(json!({"destination": "/a", "source": "b", "options": ["bind"]})));
    keeps(&mount(json!({"destination": "/a", "source": "b", "type": "bind"})));
    keeps(&mount(json!({"destination": "/", "options": ["remount", "ro"]})));
    keeps(&mount(json!({"destination": "/", "options": ["remount,ro"]})));
    keeps(&mount(json!({"destination": "/a", "options": ["rshared"]})));
    breaks(&mount(json!({"source": "b", "type": "tmpfs"})), "mounts[7].destination", "is required");
    warns(&mount(json!({"destination": "a", "type": "tmpfs"})), "mounts[7].destination", "\"a\" is not an absolute path");
    breaks(&mount(json!({"destination": "/a", "options": ["rbind"]})), "mounts[7].source", "is required");
    breaks(&mount(json!({"destination": "/a", "source": "b"})), "mounts[7].type", "is required");
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
    let idmap = |uid: Value, gid: Value| {
        mount(json!({"destination": "/a", "source": "b", "options": ["bind"], "uidMappings": uid, "gidMappings": gid}))
    };
    keeps(&idmap(map.clone(), map.clone()));
    breaks(&idmap(map.clone(), json!([])), "mounts[7].gidMappings", "is required with uidMappings");
    breaks(&idmap(json!([]), map.clone()), "mounts[7].uidMappings", "is required with gidMappings");
    breaks(&idmap(json!([{"containerID": 0, "hostID": 1, "size": 0}]), map), "mounts[7].uidMappings[0].size", "0 ids");
    let option = mount(json!({"destination": "/a", "source": "b", "options": ["bind", "idmap"]}));
    breaks(&option, "mounts[7].options", "asks for id mappings");
    let option = mount(json!({"destination": "/a", "source": "b", "options": ["bind,idmap"]}));
    breaks(&option, "mounts[7].options", "asks for id mappings");
}

#[test]
fn process_itself() {
    keeps(&[("/process", Value::Null)]);
    breaks(&[("/process/args", json!([]))], "process.args", "must not be empty");
    keeps(&[("/process/args", json!(["", ""]))]);
    breaks(&[("/process/cwd", json!(""))], "process.cwd", "must not be empty");
    breaks(&[("/process/cwd", json!("srv"))], "process.cwd", "\"srv\" must be an absolute path");
    keeps(&[("/process/env", json!(["A=", "B=c=d", "A=again"]))]);
    breaks(&[("/process/env/0", json!("PATH"))], "process.env[0]", "\"PATH\" has no \"=\"");
    breaks(&[("/process/env/0", json!("=x"))], "process.env[0]", "has no name");
    keeps(&[("/process/consoleSize", json!({"height": 0, "width": 65535}))]);
    breaks(
        &[("/process/consoleSize", json!({"height": 65536, "width": 1}))],
        "process.consoleSize.height",
        "65536 is not from 0",
    );
    keeps(&[("/process/terminal", json!(false)), ("/process/consoleSize", json!({"height": 65536, "width": 1}))]);
    for score in [-1000, 1000] {
        keeps(&[("/process/oomScoreAdj", json!(score))]);
    }
    breaks(&[("/process/oomScoreAdj", json!(1001))], "process.oomScoreAdj", "1001 is not from -1000 to 1000");
    breaks(&[("/process/oomScoreAdj", json!(-1001))], "process.oomScoreAdj", "-1001");
}

#[test]
fn user() {
    keeps(&[("/process/user", json!({"uid": 4294967294u32, "gid": 1, "umask": 511, "additionalGids": [1, 1]}))]);
    breaks(&[("/process/user/uid", json!(4294967295u32))], "process.user.uid", "4294967295 is not an id");
    breaks(&[("/process/user/gid", json!(4294967295u32))], "process.user.gid", "4294967295 is not an id");
    breaks(&[("/process/user/additionalGids", json!([0, 4294967295u32]))], "process.user.additionalGids[1]", "4294967295");
    breaks(&[("/process/user/umask", json!(512))], "process.user.umask", "512 is not from 0 to 511");
}

#[test]
fn rlimits() {
    let limit = |kind: &str, soft: u64, hard: u64| json!({"type": kind, "soft": soft, "hard": hard});
    keeps(&[("/process/rlimits", json!([limit("RLIMIT_CORE", 0, u64::MAX), limit("RLIMIT_NOFILE", 1, 1)]))]);
    breaks(&[("/process/rlimits/0/type", json!("RLIMIT_FOO"))], "process.rlimits[0].type", "\"RLIMIT_FOO\" is unknown");
    breaks(&[("/process/rlimits/0/type", json!("nofile"))], "process.rlimits[0].type", "\"nofile\" is unknown");
    breaks(&[("/process/rlimits/-", limit("RLIMIT_NOFILE", 1, 1))], "process.rlimits[1].type", "set already by rlimits[0]");
    breaks(&[("/process/rlimits/0/soft", json!(1025))], "process.rlimits[0].soft", "1025 is more than the hard limit 1024");
}

#[test]
fn capabilities() {
    keeps(&[("/process/capabilities", json!({"bounding": ["CAP_SYS_ADMIN"]}))]);
    warns(
        &[("/process/capabilities/effective/-", json!("CAP_FOO"))],
        "process.capabilities.effective[3]",
        "\"CAP_FOO\" is an unknown",
    );
    warns(&[("/process/capabilities/bounding/-", json!("cap_kill"))], "process.capabilities.bounding[3]", "\"cap_kill\"");
    warns(
        &[("/process/capabilities/ambient", json!(["CAP_KILL"]))],
        "process.capabilities.ambient[0]",
        "CAP_KILL cannot be ambient",
    );
    let all =
        [("/process/capabilities/ambient", json!(["CAP_KILL"])), ("/process/capabilities/inheritable", json!(["CAP_KILL"]))];
    keeps(&all);
    let more = [("/process/capabilities/effective/-", json!("CAP_CHOWN"))];
    breaks(&more, "process.capabilities.effective[3]", "CAP_CHOWN cannot be effective without being permitted");
}

#[test]
fn scheduler() {
    let scheduler = |new: Value| [("/process/scheduler", new)];
    keeps(&scheduler(json!({"policy": "SCHED_BATCH", "nice": 19})));
    keeps(&scheduler(json!({"policy": "SCHED_RR", "priority": 99, "flags": ["SCHED_FLAG_RESET_ON_FORK"]})));
    keeps(&scheduler(json!({"policy": "SCHED_DEADLINE", "runtime": 1024, "deadline": 2048})));
    breaks(&scheduler(json!({})), "process.scheduler.policy", "is required");
    breaks(&scheduler(json!({"policy": "SCHED_FAST"})), "process.scheduler.policy", "\"SCHED_FAST\" is unknown");
    breaks(&scheduler(json!({"policy": "SCHED_OTHER", "flags": ["X"]})), "process.scheduler.flags[0]", "\"X\" is unknown");
    breaks(&scheduler(json!({"policy": "SCHED_OTHER", "nice": 20})), "process.scheduler.nice", "20 is not from -20 to 19");
    breaks(&scheduler(json!({"policy": "SCHED_OTHER", "priority": 1})), "process.scheduler.priority", "only SCHED_FIFO");
    breaks(&scheduler(json!({"policy": "SCHED_FIFO"})), "process.scheduler.priority", "0 is not from 1 to 99");
    breaks(&scheduler(json!({"policy": "SCHED_FIFO", "priority": 100})), "process.scheduler.priority", "100");
    breaks(&scheduler(json!({"policy": "SCHED_OTHER", "runtime": 5})), "process.scheduler.runtime", "only SCHED_DEADLINE");
    breaks(&scheduler(json!({"policy": "SCHED_DEADLINE"})), "process.scheduler.runtime", "does not hold");
    let late = json!({"policy": "SCHED_DEADLINE", "runtime": 4096, "deadline": 2048, "period": 8192});
    breaks(&scheduler(late), "process.scheduler.runtime", "runtime 4096 ≤ deadline 2048");
}

#[test]
fn io_priority_and_affinity() {
    keeps(&[("/process/ioPriority", json!({"class": "IOPRIO_CLASS_IDLE"}))]);
    breaks(&[("/process/ioPriority", json!({"priority": 1}))], "process.ioPriority.class", "is required");
    breaks(&[("/process/ioPriority", json!({"class": "BE"}))], "process.ioPriority.class", "\"BE\" is unknown");
    let eight = json!({"class": "IOPRIO_CLASS_BE", "priority": 8});
    breaks(&[("/process/ioPriority", eight)], "process.ioPriority.priority", "8 is not from 0 to 7");
    for list in ["", "0", "0-3,7", "0,1,2", " 1 , 2", "0-31:2/4"] {
        keeps(&[("/process/execCPUAffinity", json!({"initial": list, "final": list}))]);
    }
    for list in ["a", "3-1", "1-", "-1", "1.5", "0-3:4", "0-3:a/b", "99999999999"] {
        breaks(&[("/process/execCPUAffinity", json!({"final": list}))], "process.execCPUAffinity.final", &format!("in {list:?}"));
    }
}

#[test]
fn names_of_the_host() {
    let no_uts = ("/linux/namespaces", json!([{"type": "mount"}]));
    keeps(&[("/hostname", json!("")), no_uts.clone()]);
    breaks(&[("/hostname", json!("web")), no_uts.clone()], "hostname", "\"web\" without a private UTS namespace");
    breaks(&[("/hostname", json!("")), ("/domainname", json!("b")), no_uts], "domainname", "without a private UTS namespace");
    keeps(&[("/hostname", json!("a".repeat(64))), ("/domainname", json!("b"))]);
    breaks(&[("/hostname", json!("a".repeat(65)))], "hostname", "longer than 64 bytes");
}

#[test]
fn hooks() {
    for name in names::HOOKS {
        let pointer = format!("/hooks/{name}/0");
        keeps(&[(&pointer, json!({"path": "/bin/true", "timeout": 1}))]);
        breaks(&[(&pointer, json!({"path": "true"}))], &format!("hooks.{name}[0].path"), "\"true\" must be an absolute path");
        breaks(&[(&pointer, json!({"args": ["a"]}))], &format!("hooks.{name}[0].path"), "is required");
        breaks(&[(&pointer, json!({"path": "/a", "timeout": 0}))], &format!("hooks.{name}[0].timeout"), "0 seconds");
        breaks(&[(&pointer, json!({"path": "/a", "timeout": -5}))], &format!("hooks.{name}[0].timeout"), "-5 seconds");
    }
    breaks(&[("/annotations", json!({"": "x"}))], "annotations", "has an empty name");
}

#[test]
fn namespaces() {
    let add = |new: Value| [("/linux/namespaces/-", new)];
    keeps(&add(json!({"type": "time"})));
    keeps(&add(json!({"type": "time", "path": "/proc/1/ns/time"})));
    breaks(&add(json!({"type": "net"})), "linux.namespaces[6].type", "\"net\" is unknown");
    breaks(&add(json!({})), "linux.namespaces[6].type", "is required");
    breaks(&add(json!({"type": "pid"})), "linux.namespaces[6].type", "\"pid\" is given already by namespaces[0]");
    breaks(&add(json!({"type": "time", "path": "ns/time"})), "linux.namespaces[6].path", "\"ns/time\" must be an absolute path");
    breaks(&[("/linux/namespaces/4", json!({"type": "time"}))], "linux.namespaces", "without a private MNT namespace");
}

#[test]
fn user_namespace() {
    let map = |mappings: &[(u32, u32, u32)]| {
        json!(
            mappings
                .iter()
                .map(|(inside, outside, size)| json!({"containerID": inside, "hostID": outside, "size": size}))
                .collect::<Vec<_>>()
        )
    };
    let user = |uids: Value, gids: Value| {
        [("/linux/namespaces/-", json!({"type": "user"})), ("/linux/uidMappings", uids), ("/linux/gidMappings", gids)]
    };
    let whole = || map(&[(0, 100_000, 65_536)]);
    keeps(&user(whole(), whole()));
    keeps(&user(map(&[(0, 1000, 1), (1, 100_000, 65_536)]), map(&[(0, 0, u32::MAX)])));
    keeps(&[("/linux/namespaces/-", json!({"type": "user", "path": "/proc/1/ns/user"}))]);
    breaks(&[("/linux/uidMappings", whole())], "linux.uidMappings", "linux.namespaces has no user namespace");
    breaks(&user(json!([]), whole()), "linux.uidMappings", "is required for a new user namespace");
    breaks(&user(whole(), json!([])), "linux.gidMappings", "is required for a new user namespace");
    breaks(&user(map(&[(0, 1, 1), (1, 2, 0)]), whole()), "linux.uidMappings[1].size", "0 ids");
    breaks(&user(map(&[(0, u32::MAX, 1)]), whole()), "linux.uidMappings[0].hostID", "1 ids from 4294967295 go beyond");
    breaks(&user(map(&[(0, 1, 1), (2, 5, u32::MAX - 2)]), whole()), "linux.uidMappings[1].hostID", "go beyond");
    breaks(
        &user(whole(), map(&[(0, 0, 2), (1, 10, 2)])),
        "linux.gidMappings[1].containerID",
        "2 ids from 1 overlap those of range 0",
    );
    breaks(
        &user(whole(), map(&[(0, 10, 2), (5, 11, 2)])),
        "linux.gidMappings[1].hostID",
        "2 ids from 11 overlap those of range 0",
    );
    keeps(&user(whole(), map(&[(0, 10, 2), (2, 12, 2)])));
    let many: Vec<_> = (0..341).map(|at| (at, at, 1)).collect();
    keeps(&user(map(&many[..340]), whole()));
    breaks(&user(map(&many), whole()), "linux.uidMappings", "341 ranges are more than the kernel's 340");
    let [namespace, uids, gids] = user(map(&[(1, 1, 10)]), whole());
    breaks(
        &[namespace.clone(), uids.clone(), gids.clone()],
        "process.user.uid",
        "0 is not an id of the container: linux.uidMappings",
    );
    let groups = ("/process/user/additionalGids", json!([1, 65_536]));
    let inside = ("/process/user/uid", json!(10));
    keeps(&[namespace.clone(), uids.clone(), gids.clone(), inside.clone()]);
    breaks(&[namespace, uids, gids, inside, groups], "process.user.additionalGids[1]", "65536 is not an id of the container");
}

#[test]
fn time() {
    let time = ("/linux/namespaces/-", json!({"type": "time"}));
    let offsets = |new: Value| ("/linux/timeOffsets", new);
    keeps(&[time.clone(), offsets(json!({"monotonic": {"secs": -5, "nanosecs": 999_999_999}}))]);
    breaks(&[offsets(json!({"monotonic": {"secs": 1}}))], "linux.timeOffsets", "no new time namespace");
    let joined = ("/linux/namespaces/-", json!({"type": "time", "path": "/proc/1/ns/time"}));
    breaks(&[joined, offsets(json!({"boottime": {"secs": 1}}))], "linux.timeOffsets", "no new time namespace");
    breaks(&[time.clone(), offsets(json!({"realtime": {}}))], "linux.timeOffsets.realtime", "\"realtime\" is unknown");
    breaks(
        &[time, offsets(json!({"boottime": {"nanosecs": 1_000_000_000}}))],
        "linux.timeOffsets.boottime.nanosecs",
        "1000000000",
    );
}

#[test]
fn devices() {
    let device = |new: Value| [("/linux/devices/0", new)];
    keeps(&device(json!({"type": "p", "path": "/run/p"})));
    keeps(&device(json!({"type": "c", "path": "/dev/a", "major": 4095, "minor": 1_048_575, "fileMode": 8630})));
    breaks(&device(json!({"type": "x", "path": "/dev/a", "major": 1, "minor": 1})), "linux.devices[0].type", "\"x\" is unknown");
    breaks(&device(json!({"path": "/dev/a", "major": 1, "minor": 1})), "linux.devices[0].type", "is required");
    breaks(&device(json!({"type": "c", "path": "dev/a", "major": 1, "minor": 1})), "linux.devices[0].path", "\"dev/a\" must be");
    breaks(&device(json!({"type": "c", "path": "/dev/a", "minor": 1})), "linux.devices[0].major", "is required");
    breaks(&device(json!({"type": "b", "path": "/dev/a", "major": 1})), "linux.devices[0].minor", "is required");
    breaks(
        &device(json!({"type": "u", "path": "/dev/a", "major": -1, "minor": 1})),
        "linux.devices[0].major",
        "-1 is not from 0",
    );
    breaks(&device(json!({"type": "c", "path": "/dev/a", "major": 1, "minor": 1_048_576})), "linux.devices[0].minor", "1048576");
    breaks(&device(json!({"type": "p", "path": "/a", "fileMode": 65_536})), "linux.devices[0].fileMode", "65536");
    breaks(&device(json!({"type": "p", "path": "/a", "uid": u32::MAX})), "linux.devices[0].uid", "is not an id");
    breaks(&device(json!({"type": "p", "path": "/a", "gid": u32::MAX})), "linux.devices[0].gid", "is not an id");
}

#[test]
fn network_devices() {
    let devices = |new: Value| [("/linux/netDevices", new)];
    keeps(&devices(json!({"eth1": {"name": "eth0"}, "wlan0": {}})));
    let no_network = ("/linux/namespaces/1", json!({"type": "time"}));
    breaks(&[devices(json!({"eth1": {}}))[0].clone(), no_network], "linux.netDevices", "no network namespace");
    for name in ["", ".", "..", "a/b", "a:1", "a b", "a\t", "sixteen-bytes-aa"] {
        breaks(&devices(json!({name: {}})), &field("linux.netDevices", name), "is no name for a network device");
        if !name.is_empty() {
            breaks(&devices(json!({"eth1": {"name": name}})), "linux.netDevices.eth1.name", "is no name for a network device");
        }
    }
    breaks(
        &devices(json!({"eth1": {"name": "a"}, "eth2": {"name": "a"}})),
        "linux.netDevices.eth2.name",
        "\"a\" is the name of another",
    );
}

#[test]
fn paths_and_labels() {
    for path in ["", "/a/b", "a/b", "system.slice:runc:id", "/a..b/...", "-.slice:x:y"] {
        keeps(&[("/linux/cgroupsPath", json!(path))]);
    }
    for path in ["../a", "/a/../../b", "..", "a:..:b"] {
        breaks(&[("/linux/cgroupsPath", json!(path))], "linux.cgroupsPath", &format!("{path:?} leaves its place"));
    }
    breaks(&[("/linux/maskedPaths/0", json!("proc/kcore"))], "linux.maskedPaths[0]", "\"proc/kcore\" must be an absolute path");
    breaks(&[("/linux/readonlyPaths/1", json!(""))], "linux.readonlyPaths[1]", "is required");
    for mode in names::ROOTFS_PROPAGATIONS {
        keeps(&[("/linux/rootfsPropagation", json!(mode))]);
    }
    breaks(&[("/linux/rootfsPropagation", json!("Shared"))], "linux.rootfsPropagation", "\"Shared\" is unknown");
    breaks(&[("/linux/mountLabel", json!("a\",x"))], "linux.mountLabel", "is no SELinux context");
    keeps(&[("/linux/personality", json!({"domain": "LINUX"}))]);
    breaks(&[("/linux/personality", json!({"domain": "BSD"}))], "linux.personality.domain", "\"BSD\" is unknown");
    warns(&[("/linux/personality", json!({"domain": "LINUX", "flags": ["X"]}))], "linux.personality.flags", "X are left out");
}

#[test]
fn rdt_and_memory_policy() {
    let rdt = |new: Value| [("/linux/intelRdt", new)];
    keeps(&rdt(json!({"closID": "a.b", "memBwSchema": "MB:0=20", "l3CacheSchema": "L3:0=f\nMB:0=10", "schemata": ["L3:0=f"]})));
    for id in [".", "..", "a/b", "../a", "a\n"] {
        breaks(&rdt(json!({"closID": id})), "linux.intelRdt.closID", "is no name for a directory");
    }
    breaks(&rdt(json!({"memBwSchema": "L3:0=f"})), "linux.intelRdt.memBwSchema", "\"L3:0=f\"");
    breaks(&rdt(json!({"memBwSchema": "MB:0=1\nL3:0=f"})), "linux.intelRdt.memBwSchema", "is not one line");
    breaks(&rdt(json!({"schemata": ["L3:0=f", "a\nb"]})), "linux.intelRdt.schemata[1]", "is not one line");
    let policy = |new: Value| [("/linux/memoryPolicy", new)];
    keeps(&policy(json!({"mode": "MPOL_BIND", "nodes": "0,2-3", "flags": ["MPOL_F_NUMA_BALANCING"]})));
    keeps(&policy(json!({"mode": "MPOL_PREFERRED"})));
    breaks(&policy(json!({})), "linux.memoryPolicy.mode", "is required");
    breaks(&policy(json!({"mode": "BIND"})), "linux.memoryPolicy.mode", "\"BIND\" is unknown");
    breaks(&policy(json!({"mode": "MPOL_LOCAL", "flags": ["X"]})), "linux.memoryPolicy.flags[0]", "\"X\" is unknown");
    breaks(&policy(json!({"mode": "MPOL_BIND", "nodes": "x"})), "linux.memoryPolicy.nodes", "\"x\"");
    breaks(&policy(json!({"mode": "MPOL_BIND"})), "linux.memoryPolicy.nodes", "is required with MPOL_BIND");
    breaks(&policy(json!({"mode": "MPOL_LOCAL", "nodes": "0"})), "linux.memoryPolicy.nodes", "takes no nodes");
    let both = json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]});
    breaks(&policy(both), "linux.memoryPolicy.flags", "exclude each other");
}

#[test]
fn sysctls() {
    let sysctl = |name: &str| [("/linux/sysctl", json!({name: "1"}))];
    for name in [
        "net.ipv4.ip_forward",
        "net/ipv4/ip_forward",
        "net.ipv4.conf.eth0/1.forwarding",
        "kernel.shmmax",
        "kernel/sem",
        "fs.mqueue.msg_max",
        "kernel.domainname",
    ] {
        keeps(&sysctl(name));
    }
    for name in ["kernel.core_pattern", "vm.swappiness", "fs.file-max", "kernel.shm", "netfoo.a", "fs.mqueue", "kernel.pid_max"] {
        breaks(&sysctl(name), &field("linux.sysctl", name), &format!("{name:?} is not separate for each container"));
    }
    for name in ["", "net..a", "net/../kernel/core_pattern", "net.//.//kernel.core_pattern", "/net/a", "net/./a", ".", "net."] {
        breaks(&sysctl(name), &field("linux.sysctl", name), &format!("{name:?} is no name for a kernel parameter"));
    }
    breaks(&sysctl("kernel.hostname"), "linux.sysctl[\"kernel.hostname\"]", "conflicts with the field hostname");
    breaks(&sysctl("user.max_user_namespaces"), "linux.sysctl[\"user.max_user_namespaces\"]", "no user namespace of its own");
    let bare = ("/linux/namespaces", json!([{"type": "mount"}, {"type": "uts"}]));
    for (name, namespace) in [("net.ipv4.ip_forward", "network"), ("kernel.msgmax", "ipc"), ("fs.mqueue.msg_max", "ipc")] {
        let edits = [sysctl(name)[0].clone(), bare.clone()];
        breaks(&edits, &field("linux.sysctl", name), &format!("no {namespace} namespace of its own"));
    }
}

#[test]
fn where_a_sysctl_is() {
    for (name, path) in [
        ("net.ipv4.ip_forward", Some("net/ipv4/ip_forward")),
        ("net/ipv4/conf/eth0.1/forwarding", Some("net/ipv4/conf/eth0.1/forwarding")),
        ("net.ipv4.conf.eth0/1.forwarding", Some("net/ipv4/conf/eth0.1/forwarding")),
        ("kernel", Some("kernel")),
        ("net.//.//kernel", None),
        ("net/../kernel", None),
        ("", None),
    ] {
        assert_eq!(sysctl_path(name).as_deref(), path, "{name}");
    }
}

#[test]
fn resource_limits() {
    let set = |pointer: &'static str, new: Value| [(pointer, new)];
    let at = |name: &str| format!("linux.resources.{name}");
    keeps(&set("/linux/resources/devices/-", json!({"allow": true, "type": "c", "major": -1, "access": "mwr"})));
    breaks(&set("/linux/resources/devices/0/type", json!("p")), &at("devices[0].type"), "\"p\" is unknown");
    breaks(&set("/linux/resources/devices/0/access", json!("rwx")), &at("devices[0].access"), "\"rwx\"");
    breaks(&set("/linux/resources/devices/0/major", json!(-2)), &at("devices[0].major"), "-2 is not from -1");
    breaks(&set("/linux/resources/devices/0/minor", json!(-2)), &at("devices[0].minor"), "-2 is not from -1");
    keeps(&set("/linux/resources/memory", json!({"limit": -1, "swap": -1, "reservation": 0, "swappiness": 100})));
    keeps(&set("/linux/resources/memory", json!({"limit": 4096, "swap": 4096})));
    breaks(&set("/linux/resources/memory", json!({"limit": -2})), &at("memory.limit"), "-2 is not from -1");
    breaks(&set("/linux/resources/memory", json!({"reservation": -2})), &at("memory.reservation"), "-2");
    breaks(
        &set("/linux/resources/memory", json!({"limit": 4096, "swap": 4095})),
        &at("memory.swap"),
        "4095 is less than memory.limit 4096",
    );
    breaks(&set("/linux/resources/memory", json!({"swappiness": 101})), &at("memory.swappiness"), "101");
    keeps(&set("/linux/resources/cpu", json!({"shares": 0, "quota": -1, "period": 0, "burst": 5, "idle": 1, "cpus": "0-1"})));
    breaks(&set("/linux/resources/cpu", json!({"period": 999})), &at("cpu.period"), "999 is not from 1000 to 1000000");
    breaks(&set("/linux/resources/cpu", json!({"quota": 999})), &at("cpu.quota"), "999 is less than 1000");
    breaks(
        &set("/linux/resources/cpu", json!({"quota": 1000, "burst": 1001})),
        &at("cpu.burst"),
        "1001 is more than cpu.quota 1000",
    );
    breaks(&set("/linux/resources/cpu", json!({"idle": 2})), &at("cpu.idle"), "2 is not from 0 to 1");
    breaks(&set("/linux/resources/cpu", json!({"cpus": "0-"})), &at("cpu.cpus"), "\"0-\"");
    breaks(&set("/linux/resources/cpu", json!({"mems": "x"})), &at("cpu.mems"), "\"x\"");
    keeps(&set("/linux/resources/pids", json!({"limit": -1})));
    keeps(&set("/linux/resources/unified", json!({"memory.high": "1", "x": ""})));
    for file in ["", ".", "..", "a/b", "../memory.max", "pids.max ", "pids\u{e9}.max"] {
        breaks(
            &set("/linux/resources/unified", json!({file: "1"})),
            &field(&at("unified"), file),
            "is not the name of a cgroup file",
        );
    }
}

#[test]
fn resource_devices() {
    let set = |pointer: &'static str, new: Value| [(pointer, new)];
    let at = |name: &str| format!("linux.resources.{name}");
    keeps(&set("/linux/resources/blockIO", json!({"weight": 0, "leafWeight": 1000})));
    breaks(&set("/linux/resources/blockIO", json!({"weight": 9})), &at("blockIO.weight"), "9 is not from 10 to 1000");
    breaks(&set("/linux/resources/blockIO", json!({"leafWeight": 1001})), &at("blockIO.leafWeight"), "1001");
    let weight = |new: Value| [("/linux/resources/blockIO/weightDevice/0", new)];
    keeps(&weight(json!({"major": 8, "minor": 0, "leafWeight": 10})));
    breaks(&weight(json!({"major": 8, "minor": 0})), &at("blockIO.weightDevice[0]"), "sets neither");
    breaks(&weight(json!({"major": -8, "minor": 0, "weight": 10})), &at("blockIO.weightDevice[0].major"), "-8");
    breaks(&weight(json!({"major": 8, "minor": 0, "weight": 1001})), &at("blockIO.weightDevice[0].weight"), "1001");
    for name in ["throttleReadBpsDevice", "throttleWriteBpsDevice", "throttleReadIOPSDevice", "throttleWriteIOPSDevice"] {
        let pointer = format!("/linux/resources/blockIO/{name}/0");
        keeps(&[(&pointer, json!({"major": 8, "minor": 0, "rate": 0}))]);
        breaks(
            &[(&pointer, json!({"major": 8, "minor": -1, "rate": 1}))],
            &at(&format!("blockIO.{name}[0].minor")),
            "-1 is not from 0",
        );
    }
    for size in ["2MB", "64KB", "1GB"] {
        keeps(&set("/linux/resources/hugepageLimits/0", json!({"pageSize": size, "limit": 0})));
    }
    for size in ["", "2M", "MB", "2mb", "0MB", "+2MB", "2.5MB", "../2MB"] {
        let edits = set("/linux/resources/hugepageLimits/0", json!({"pageSize": size, "limit": 0}));
        breaks(&edits, &at("hugepageLimits[0].pageSize"), "is not a page size");
    }
    let priority = |name: &str| set("/linux/resources/network", json!({"priorities": [{"name": name, "priority": 1}]}));
    keeps(&priority("eth0"));
    breaks(&priority("a/b"), &at("network.priorities[0].name"), "\"a/b\" is no name");
    keeps(&set("/linux/resources/rdma", json!({"mlx5_1": {"hcaHandles": 1}})));
    breaks(&set("/linux/resources/rdma", json!({"mlx5_1": {}})), &at("rdma.mlx5_1"), "sets neither");
    breaks(&set("/linux/resources/rdma", json!({"a b": {"hcaHandles": 1}})), &at("rdma[\"a b\"]"), "is no name for a device");
}

#[test]
fn seccomp() {
    let rule = |new: Value| [("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [new]}))];
    let at = |name: &str| format!("linux.seccomp.syscalls[0].{name}");
    let whole = |new: Value| [("/linux/seccomp", new)];
    keeps(&rule(
        json!({"names": ["a"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4095, "args": [{"index": 5, "value": 1, "op": "SCMP_CMP_EQ"}]}),
    ));
    keeps(&rule(json!({"names": ["a"], "action": "SCMP_ACT_TRACE", "errnoRet": 65535})));
    breaks(&rule(json!({"names": [], "action": "SCMP_ACT_LOG"})), &at("names"), "at least one name");
    breaks(&rule(json!({"names": ["a"]})), &at("action"), "is required");
    breaks(&rule(json!({"names": ["a"], "action": "SCMP_ACT_X"})), &at("action"), "\"SCMP_ACT_X\" is unknown");
    breaks(&rule(json!({"names": ["a"], "action": "SCMP_ACT_ALLOW", "errnoRet": 1})), &at("errnoRet"), "takes no errno");
    breaks(&rule(json!({"names": ["a"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096})), &at("errnoRet"), "4096");
    breaks(&rule(json!({"names": ["a"], "action": "SCMP_ACT_TRACE", "errnoRet": 65536})), &at("errnoRet"), "65536");
    let arg = |index: u32, op: &str| {
        rule(json!({"names": ["a"], "action": "SCMP_ACT_LOG", "args": [{"index": index, "value": 0, "op": op}]}))
    };
    breaks(&arg(6, "SCMP_CMP_EQ"), &at("args[0].index"), "6 is not from 0 to 5");
    breaks(&arg(0, "=="), &at("args[0].op"), "\"==\" is unknown");
    breaks(&whole(json!({})), "linux.seccomp.defaultAction", "is required");
    breaks(&whole(json!({"defaultAction": "ALLOW"})), "linux.seccomp.defaultAction", "\"ALLOW\" is unknown");
    breaks(&whole(json!({"defaultAction": "SCMP_ACT_NOTIFY"})), "linux.seccomp.defaultAction", "cannot be the default");
    breaks(
        &whole(json!({"defaultAction": "SCMP_ACT_KILL", "defaultErrnoRet": 1})),
        "linux.seccomp.defaultErrnoRet",
        "takes no errno",
    );
    let allow = |name: &str, new: Value| whole(json!({"defaultAction": "SCMP_ACT_ALLOW", name: new}));
    breaks(&allow("architectures", json!(["x86"])), "linux.seccomp.architectures[0]", "\"x86\" is unknown");
    breaks(&allow("flags", json!(["TSYNC"])), "linux.seccomp.flags[0]", "\"TSYNC\" is unknown");
    breaks(&allow("listenerMetadata", json!("x")), "linux.seccomp.listenerMetadata", "must not be set without listenerPath");
    keeps(&allow("listenerPath", json!("/run/x")));
    let notify = rule(json!({"names": ["a"], "action": "SCMP_ACT_NOTIFY"}));
    breaks(&notify, "linux.seccomp.listenerPath", "is required with the action SCMP_ACT_NOTIFY");
    keeps(&[notify[0].clone(), ("/annotations", json!({"run.oci.seccomp.receiver": "/run/x"}))]);
}

#[test]
fn process_and_resources_stand_alone() {
    let whole = fixtures::spec("everything");
    assert_eq!(process(whole.process.as_deref().unwrap()), Verdict::default());
    assert_eq!(resources(whole.linux.as_deref().unwrap().resources.as_ref().unwrap()), Verdict::default());
    let places: Vec<String> = process(&Process::default()).problems.into_iter().map(|problem| problem.at).collect();
    assert_eq!(places, ["cwd", "args"]);
    let mut bad = Resources::default();
    bad.unified.insert("a/b".into(), "1".into());
    let places: Vec<String> = resources(&bad).problems.into_iter().map(|problem| problem.at).collect();
    assert_eq!(places, ["unified[\"a/b\"]"]);
}
