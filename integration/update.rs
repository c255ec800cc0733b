// SPDX-License-Identifier: Apache-2.0
//! `update`: limits that change while the container runs.

use std::fs;
use std::io::Write;

use serde_json::json;

use crate::harness::bundle::folder;
use crate::harness::look;
use crate::harness::run::skip;
use crate::harness::{Bundle, Call, Container, Need, Test};
use crate::test;

const MEMORY: Need = Need::Controller("memory");
const CPU: Need = Need::Controller("cpu");
const PIDS: Need = Need::Controller("pids");

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(pids_limit).needs(&[PIDS]),
    test!(sizes_with_units).needs(&[MEMORY]).differs(&[("crun", "takes bytes only")]),
    test!(burst_and_idle).needs(&[CPU]).differs(&[("crun", "has no such flags")]),
    test!(cpus_and_memory_nodes).needs(&[Need::Controller("cpuset")]),
    test!(block_weight).needs(&[Need::Controller("io")]),
    test!(flags_without_their_controller_are_refused)
        .needs(&[Need::Cgroup2])
        .differs(&[("runc", "passes real-time limits over on cgroup v2")]),
    test!(quota_and_period_belong_together).needs(&[CPU]).differs(&[("crun", "forgets the other of the two")]),
    test!(from_a_file_and_from_stdin).needs(&[PIDS]),
    test!(what_is_not_named_stays).needs(&[MEMORY, PIDS]),
    test!(an_error_changes_nothing)
        .needs(&[PIDS, CPU])
        .differs(&[("crun", "keeps what it had written before"), ("runc", "keeps what it had written before")]),
    test!(wrong_values_are_refused).differs(&[("crun", "takes words for numbers")]),
    test!(ignored_flags).differs(&[("crun", "refuses them on cgroup v2")]),
    test!(resource_control_that_the_host_lacks).differs(&[("crun", "passes it over")]),
    test!(stopped_and_unknown_containers).differs(&[("crun", "says it in other words")]),
    test!(device_rules_are_replaced).needs(&[Need::Cgroup2]).differs(&[("runc", "leaves device rules alone")]),
    test!(device_is_plugged_in).needs(&[Need::Cgroup2, Need::File("/dev/kmsg")]).differs(NO_DEVICES),
    test!(device_of_the_host_is_bound_into_a_user_namespace)
        .needs(&[Need::Cgroup2, Need::File("/dev/kmsg")])
        .differs(&[("runc", "has no mounts, and leaves device rules alone"), ("crun", "mounts no single files")]),
    test!(device_lands_where_it_was_asked).needs(&[Need::Cgroup2, Need::File("/dev/kmsg")]).differs(NO_DEVICES),
];

const NO_DEVICES: &[(&str, &str)] = &[("runc", "cannot plug devices in"), ("crun", "cannot plug devices in")];

fn sleeper() -> Container {
    let container = Bundle::args(&["/bin/sleep", "1000"]).create();
    container.start();
    container
}

fn file(container: &Container, name: &str) -> String {
    let path = look::cgroup2_root().join(look::cgroup(container.pid()).trim_start_matches('/')).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

#[track_caller]
fn update(container: &Container, flags: &[&str]) {
    container.call(&[&["update"], flags].concat()).output().ok();
}

fn pids_limit() {
    let container = sleeper();
    update(&container, &["--pids-limit", "33"]);
    assert_eq!(file(&container, "pids.max"), "33");
    update(&container, &["--pids-limit=-1"]);
    assert_eq!(file(&container, "pids.max"), "max");
}

fn sizes_with_units() {
    let container = sleeper();
    update(&container, &["--memory", "64m", "--memory-swap", "96MiB", "--memory-reservation", "32m"]);
    assert_eq!(file(&container, "memory.max"), (64 << 20).to_string());
    assert_eq!(file(&container, "memory.low"), (32 << 20).to_string());
    update(&container, &["--memory=-1", "--memory-swap=-1"]);
    assert_eq!(file(&container, "memory.max"), "max");
}

fn burst_and_idle() {
    let container = sleeper();
    update(&container, &["--cpu-period", "100000", "--cpu-quota", "50000", "--cpu-burst", "20000"]);
    assert_eq!(file(&container, "cpu.max.burst"), "20000");
    update(&container, &["--cpu-idle=1"]);
    assert_eq!(file(&container, "cpu.idle"), "1");
    update(&container, &["--cpu-idle=0"]);
    assert_eq!((file(&container, "cpu.idle"), file(&container, "cpu.max")), ("0".into(), "50000 100000".into()));
}

fn cpus_and_memory_nodes() {
    let container = sleeper();
    update(&container, &["--cpuset-cpus", "0", "--cpuset-mems=0"]);
    assert_eq!((file(&container, "cpuset.cpus"), file(&container, "cpuset.mems")), ("0".into(), "0".into()));
}

/// By whichever of the two files the kernel has.
fn block_weight() {
    let container = sleeper();
    let dir = look::cgroup2_root().join(look::cgroup(container.pid()).trim_start_matches('/'));
    let Some(name) = ["io.bfq.weight", "io.weight"].into_iter().find(|name| dir.join(name).exists()) else {
        container.call(&["update", "--blkio-weight", "100"]).output().fails();
        return;
    };
    update(&container, &["--blkio-weight", "100"]);
    assert!(file(&container, name).contains("100"), "{}", file(&container, name));
}

fn flags_without_their_controller_are_refused() {
    let container = sleeper();
    let all = [
        ("cpu", "--cpu-share"),
        ("memory", "--memory"),
        ("pids", "--pids-limit"),
        ("cpuset", "--cpuset-cpus"),
        ("io", "--blkio-weight"),
        // Cgroup v2 has no such limits at all.
        ("nowhere", "--cpu-rt-runtime"),
        ("nowhere", "--cpu-rt-period"),
    ];
    for (controller, flag) in all {
        if Need::Controller(controller).missing().is_some() {
            container.call(&["update", flag, "1000"]).output().fails();
        }
    }
    assert_eq!(container.status(), "running");
}

fn quota_and_period_belong_together() {
    let container = sleeper();
    update(&container, &["--cpu-period", "50000", "--cpu-quota", "10000"]);
    assert_eq!(file(&container, "cpu.max"), "10000 50000");
    update(&container, &["--cpu-quota", "20000"]);
    assert_eq!(file(&container, "cpu.max"), "20000 50000");
    update(&container, &["--cpu-period", "40000"]);
    assert_eq!(file(&container, "cpu.max"), "20000 40000");
}

fn from_a_file_and_from_stdin() {
    let container = sleeper();
    let path = folder().join("resources.json");
    fs::write(&path, json!({ "pids": { "limit": 41 }, "unknown": 1 }).to_string() + "\n").unwrap();
    update(&container, &[&format!("--resources={}", path.display())]);
    assert_eq!(file(&container, "pids.max"), "41");
    let mut input = tempfile();
    input.write_all(b"{\"pids\":{\"limit\":42}}\n").unwrap();
    std::io::Seek::rewind(&mut input).unwrap();
    container.call(&["update", "--resources", "-"]).stdin(input).output().ok();
    assert_eq!(file(&container, "pids.max"), "42");
}

fn tempfile() -> fs::File {
    fs::File::options().read(true).write(true).create_new(true).open(folder().join("stdin")).unwrap()
}

fn what_is_not_named_stays() {
    let mut bundle = Bundle::args(&["/bin/sleep", "1000"]);
    bundle.set("/linux/resources", json!({ "memory": { "limit": 64 << 20 }, "pids": { "limit": 20 } }));
    let container = bundle.create();
    update(&container, &["--pids-limit", "21"]);
    assert_eq!((file(&container, "pids.max"), file(&container, "memory.max")), ("21".into(), (64 << 20).to_string()));
    assert_eq!(container.status(), "created");
}

fn an_error_changes_nothing() {
    let container = sleeper();
    update(&container, &["--pids-limit", "20", "--cpu-share", "512"]);
    let before = (file(&container, "pids.max"), file(&container, "cpu.weight"));
    let path = folder().join("resources.json");
    let wrong = json!({ "pids": { "limit": 30 }, "cpu": { "shares": 1024 }, "unified": { "pids.max": "nonsense" } });
    fs::write(&path, wrong.to_string()).unwrap();
    container.call(&["update", "--resources", path.to_str().unwrap()]).output().fails();
    assert_eq!((file(&container, "pids.max"), file(&container, "cpu.weight")), before);
}

fn wrong_values_are_refused() {
    let container = sleeper();
    for flags in [["--memory", "many"], ["--pids-limit", "x"], ["--cpu-quota", "1.5"], ["--resources", "/not/there"]] {
        container.call(&[&["update"], &flags[..]].concat()).output().fails();
    }
    let path = folder().join("resources.json");
    fs::write(&path, "{\"pids\": 5}").unwrap();
    container.call(&["update", "--resources", path.to_str().unwrap()]).output().fails();
}

fn ignored_flags() {
    let container = sleeper();
    update(&container, &["--kernel-memory", "10m", "--kernel-memory-tcp", "10m"]);
}

fn resource_control_that_the_host_lacks() {
    if look::mounts().iter().any(|mount| mount.kind == "resctrl") {
        skip("this host has resource control");
    }
    let container = sleeper();
    for flag in ["--l3-cache-schema=L3:0=f", "--mem-bw-schema=MB:0=50"] {
        container.call(&["update", flag]).output().fails();
    }
    assert_eq!(container.status(), "running");
    container.kill("KILL");
}

fn stopped_and_unknown_containers() {
    let container = sleeper();
    container.kill("KILL");
    container.wait_status("stopped");
    let said = container.call(&["update", "--pids-limit", "9"]).output().fails();
    assert!(said.contains("container not running"), "{said}");
    let said = Call::new(&["update", "--pids-limit", "9", "unknown"]).output().fails();
    assert!(said.contains("does not exist"), "{said}");
}

fn device_rules_are_replaced() {
    let mut bundle = Bundle::args(&["/bin/sleep", "1000"]);
    bundle.set("/linux/resources", json!({ "devices": [{ "allow": false, "access": "rwm" }] }));
    let container = bundle.create();
    container.start();
    // No driver has this device, so whoever may open it is told that there is none.
    let open = ["exec", "--cap", "CAP_MKNOD", &container.id, "/bin/sh", "-c", "rm -f /tmp/d; mknod /tmp/d c 1 250 && cat /tmp/d"];
    let said = Call::new(&open).output().fails();
    assert!(said.contains("not permitted"), "{said}");
    let path = folder().join("resources.json");
    let rule = json!({ "allow": true, "type": "c", "major": 1, "minor": 250, "access": "rwm" });
    fs::write(&path, json!({ "devices": [{ "allow": false, "access": "rwm" }, rule] }).to_string()).unwrap();
    update(&container, &["--resources", path.to_str().unwrap()]);
    let said = Call::new(&open).output().fails();
    assert!(said.contains("No such device"), "{said}");
}

/// Its rule and its node; and a file of rules takes both effects away again, of which the node is none.
fn device_is_plugged_in() {
    let mut bundle = Bundle::args(&["/bin/sleep", "1000"]);
    bundle.set("/linux/resources", json!({ "devices": [{ "allow": false, "access": "rwm" }] }));
    let container = bundle.create();
    container.start();
    let open = |how: &str, path: &str| {
        Call::new(&["exec", &container.id, "/bin/sh", "-c", &format!(": {how}{path}")]).output().status.success()
    };
    assert!(!open("<", "/dev/kmsg"));
    update(&container, &["--device", "/dev/kmsg:w", "--device", "/dev/kmsg:/dev/log/deep/kernel:w"]);
    assert!(open(">", "/dev/kmsg") && open(">", "/dev/log/deep/kernel"));
    assert!(!open("<", "/dev/kmsg"), "only writing was asked for");
    // Once more is no error; a limit that is changed takes nothing away.
    update(&container, &["--device", "/dev/kmsg:w"]);
    update(&container, &["--kernel-memory", "1m"]);
    assert!(open(">", "/dev/kmsg") && open(">", "/dev/null"));
    let path = folder().join("resources.json");
    fs::write(&path, json!({ "devices": [{ "allow": false, "access": "rwm" }] }).to_string()).unwrap();
    update(&container, &["--resources", path.to_str().unwrap()]);
    assert!(!open(">", "/dev/kmsg") && open(">", "/dev/null"));
}

/// The container arranges its files as it likes, and must not lead the runtime anywhere by them.
fn device_lands_where_it_was_asked() {
    let script = "ln -s /tmp /dev/link; : >/dev/file; mknod /dev/other c 1 3; echo ready; exec sleep 1000";
    let mut bundle = Bundle::sh(script);
    bundle.set("/linux/resources/devices", json!([{ "allow": false, "access": "rwm" }]));
    for set in ["bounding", "effective", "permitted"] {
        bundle.set(&format!("/process/capabilities/{set}/-"), json!("CAP_MKNOD"));
    }
    let container = bundle.run_detached();
    container.wait_stdout("ready");
    for inside in ["/dev/link/kmsg", "/dev/file", "/dev/file/kmsg", "/dev/other", "/dev/link"] {
        let said = container.call(&["update", "--device", &format!("/dev/kmsg:{inside}:w")]).output().fails();
        assert!(said.contains(inside), "{said}");
    }
    assert!(!bundle.inside("/tmp/kmsg").exists());
    // And what failed has opened nothing.
    let open = "mknod /dev/again c 1 11 && : >/dev/again";
    let output = Call::new(&["exec", "--cap", "CAP_MKNOD", &container.id, "/bin/sh", "-c", open]).output();
    assert!(output.stderr.contains("not permitted"), "{output:?}");
    let mut mapped = Bundle::args(&["/bin/sleep", "1000"]);
    mapped.user_namespace(&[(0, 100_000, 65_536)]);
    let container = mapped.run_detached();
    let said = container.call(&["update", "--device", "/dev/kmsg:w"]).output().fails();
    assert!(said.contains("user namespace") && said.contains("mounts add"), "{said}");
}

/// What the hint of the error above says: the host's node is bound, and a rule opens it.
fn device_of_the_host_is_bound_into_a_user_namespace() {
    let mut bundle = Bundle::args(&["/bin/sleep", "1000"]);
    bundle.user_namespace(&[(0, 100_000, 65_536)]);
    let deny = json!({ "allow": false, "access": "rwm" });
    bundle.set("/linux/resources", json!({ "devices": [deny] }));
    let container = bundle.run_detached();
    let node = folder().join("node");
    let (mode, kmsg) = (nix::sys::stat::Mode::from_bits_truncate(0o666), nix::sys::stat::makedev(1, 11));
    nix::sys::stat::mknod(&node, nix::sys::stat::SFlag::S_IFCHR, mode, kmsg).unwrap();
    nix::sys::stat::fchmodat(nix::fcntl::AT_FDCWD, &node, mode, nix::sys::stat::FchmodatFlags::FollowSymlink).unwrap();
    let file = folder().join("mounts.json");
    let mount = json!([{ "destination": "/dev/plugged", "type": "bind", "source": node, "options": ["bind"] }]);
    fs::write(&file, mount.to_string()).unwrap();
    Call::new(&["mounts", "add", &container.id, file.to_str().unwrap()]).output().ok();
    let open = || Call::new(&["exec", &container.id, "/bin/sh", "-c", ": >/dev/plugged"]).output().status.success();
    assert!(!open(), "nothing is opened by a mount");
    let rule = json!({ "allow": true, "type": "c", "major": 1, "minor": 11, "access": "w" });
    fs::write(&file, json!({ "devices": [deny, rule] }).to_string()).unwrap();
    update(&container, &["--resources", file.to_str().unwrap()]);
    assert!(open());
}
