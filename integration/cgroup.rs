// SPDX-License-Identifier: Apache-2.0
//! Cgroups: where the container is, its limits as the kernel has them and as they hold, device rules, removal.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::disk::load_module;
use crate::harness::look::{self, cgroup, eventually};
use crate::harness::{Bundle, Container, Need, Test, skip};
use crate::test;

const MEMORY: Need = Need::Controller("memory");
const PIDS: Need = Need::Controller("pids");
const CPU: Need = Need::Controller("cpu");

const CRUN_LEAVES_CGROUP: (&str, &str) = ("crun", "leaves its cgroup when it fails");

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(init_is_in_its_cgroup_from_the_start),
    test!(children_are_in_it_too),
    test!(nested_path),
    test!(relative_path),
    test!(path_cannot_climb),
    test!(no_path_at_all),
    test!(occupied_cgroup_is_refused).differs(&[("crun", "joins it")]),
    test!(cgroups_made_inside_are_removed).needs(&[Need::Cgroup2]),
    test!(frozen_container_can_be_deleted),
    test!(limits_that_are_not_asked_are_not_set).differs(&[("crun", "refuses an empty object of cgroup v1")]),
    test!(memory_limits).needs(&[MEMORY]),
    test!(memory_limit_kills).needs(&[MEMORY]),
    test!(memory_limit_counts_from_the_first_page).needs(&[MEMORY]),
    test!(pids_limit).needs(&[PIDS]),
    test!(fork_bomb_is_held).needs(&[PIDS]),
    test!(cpu_limits).needs(&[CPU]),
    test!(cpu_quota_holds).needs(&[CPU]),
    test!(io_limits).needs(&[Need::Controller("io")]),
    test!(unified).needs(&[MEMORY, PIDS]),
    test!(unified_overrides_nothing_it_does_not_name).needs(&[MEMORY]),
    test!(limit_without_its_controller_is_refused).needs(&[Need::Cgroup2]).differs(&[CRUN_LEAVES_CGROUP]),
    test!(unknown_unified_file_is_refused).needs(&[Need::Cgroup2]).differs(&[CRUN_LEAVES_CGROUP]),
    test!(devices_are_denied_by_default),
    test!(devices_by_rule),
    test!(last_device_rule_wins).differs(&[
        ("runc", "refuses to except a device from a wildcard, which cgroup v1 could not do"),
        ("crun", "asks cgroup v1 on a hybrid host, which cannot except a device from a wildcard"),
    ]),
    test!(hybrid_container_runs).needs(&[Need::HybridCgroups]),
    test!(hybrid_limit_holds_or_is_refused).needs(&[Need::HybridCgroups]),
];

/// The directory of a container's cgroup.
fn dir(container: &Container) -> PathBuf {
    look::cgroup2_root().join(cgroup(container.pid()).trim_start_matches('/'))
}

/// A file of a container's cgroup, without its newline.
#[track_caller]
fn read(container: &Container, file: &str) -> String {
    let path = dir(container).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

fn init_is_in_its_cgroup_from_the_start() {
    let bundle = Bundle::new();
    let container = bundle.create();
    let pid = container.pid();
    assert_eq!(cgroup(pid), format!("/{}", bundle.id));
    assert_eq!(read(&container, "cgroup.procs"), pid.to_string());
    container.start();
    assert_eq!(cgroup(pid), format!("/{}", bundle.id));
}

fn children_are_in_it_too() {
    let container = Bundle::sh("sleep 1000 & setsid sleep 1000 & echo ready; wait").run_detached();
    container.wait_stdout("ready");
    let dir = dir(&container);
    eventually("all three processes are in it", || fs::read_to_string(dir.join("cgroup.procs")).unwrap().lines().count() == 3);
}

/// A cgroup that the test made itself, removed when dropped: from all hierarchies, where the runtime may have made it too.
struct OwnCgroup(String);

impl OwnCgroup {
    fn new(id: &str) -> OwnCgroup {
        let name = format!("{id}-parent");
        fs::create_dir(look::cgroup2_root().join(&name)).unwrap();
        OwnCgroup(name)
    }
}

impl Drop for OwnCgroup {
    fn drop(&mut self) {
        for dir in look::cgroups_named(&self.0).iter().flat_map(|dir| look::cgroups_below(dir)) {
            fs::remove_dir(dir).unwrap();
        }
    }
}

/// The parents that are missing are made; those that were there stay.
fn nested_path() {
    let mut bundle = Bundle::new();
    let parent = OwnCgroup::new(&bundle.id);
    bundle.set("/linux/cgroupsPath", json!(format!("/{}/a/b", parent.0)));
    let container = bundle.create();
    assert_eq!(cgroup(container.pid()), format!("/{}/a/b", parent.0));
    container.delete();
    let parent = look::cgroup2_root().join(&parent.0);
    assert!(parent.exists() && !parent.join("a/b").exists());
}

/// Beside the runtime's own cgroup, which has processes and so cannot hand controllers down.
fn relative_path() {
    let mut bundle = Bundle::new();
    bundle.set("/linux/cgroupsPath", json!(bundle.id));
    let container = bundle.create();
    assert_eq!(Path::new(&cgroup(container.pid())), beside_own(&bundle.id));
}

fn beside_own(name: &str) -> PathBuf {
    let own = cgroup(i32::try_from(std::process::id()).unwrap());
    Path::new(&own).parent().unwrap_or(Path::new("/")).join(name)
}

fn path_cannot_climb() {
    let mut bundle = Bundle::new();
    bundle.set("/linux/cgroupsPath", json!(format!("../../../../../{}", bundle.id)));
    let guard = bundle.container();
    let created = bundle.output_of(bundle.create_call(&[]));
    if created.status.success() {
        assert_eq!(Path::new(&cgroup(guard.pid())), beside_own(&bundle.id));
    }
}

fn no_path_at_all() {
    let mut bundle = Bundle::new();
    bundle.unset("/linux", "cgroupsPath");
    let container = bundle.create();
    let path = cgroup(container.pid());
    assert!(path.contains(&bundle.id), "{path}");
}

/// Whoever has processes there would be limited, and killed, with the container.
fn occupied_cgroup_is_refused() {
    let first = Bundle::new();
    let container = first.create();
    let mut second = Bundle::new();
    second.set("/linux/cgroupsPath", first.config["linux"]["cgroupsPath"].clone());
    second.create_fails();
    assert!(look::alive(container.pid()));
}

fn cgroups_made_inside_are_removed() {
    let mut bundle =
        Bundle::sh("cd /sys/fs/cgroup && mkdir -p a/b c && echo 0 >a/b/cgroup.procs && sleep 1000 & wait; sleep 1000");
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &[]).namespace("pid", Some(""));
    let container = bundle.run_detached();
    let dir = dir(&container);
    eventually("it has made cgroups", || fs::read_to_string(dir.join("a/b/cgroup.procs")).is_ok_and(|pids| !pids.is_empty()));
    container.call(&["delete", "--force"]).output().ok();
    assert!(!dir.exists());
}

fn frozen_container_can_be_deleted() {
    let container = Bundle::new().run_detached();
    let dir = dir(&container);
    fs::write(dir.join("cgroup.freeze"), "1").unwrap();
    eventually("it is frozen", || fs::read_to_string(dir.join("cgroup.events")).unwrap().contains("frozen 1"));
    container.call(&["delete", "--force"]).output().ok();
    assert!(!dir.exists());
}

fn resources(value: Value) -> Bundle {
    let mut bundle = Bundle::new();
    bundle.set("/linux/resources", value);
    bundle
}

/// As Docker asks: members that are there and mean nothing, whatever controllers the host has.
fn limits_that_are_not_asked_are_not_set() {
    let container = resources(json!({
        "memory": {}, "cpu": { "shares": 0, "quota": 0, "cpus": "", "mems": "" }, "blockIO": {}, "hugepageLimits": [], "network": {}, "unified": {},
    }))
    .create();
    container.start();
    assert_eq!(container.status(), "running");
}

fn memory_limits() {
    let container = resources(json!({ "memory": { "limit": 64 << 20, "reservation": 32 << 20, "swap": 96 << 20 } })).create();
    assert_eq!(read(&container, "memory.max"), (64 << 20).to_string());
    assert_eq!(read(&container, "memory.low"), (32 << 20).to_string());
    if dir(&container).join("memory.swap.max").exists() {
        assert_eq!(read(&container, "memory.swap.max"), (32 << 20).to_string(), "swap of the spec is the sum of both");
    }
    let container = resources(json!({ "memory": { "limit": -1 } })).create();
    assert_eq!(read(&container, "memory.max"), "max");
}

fn memory_limit_kills() {
    let mut bundle = Bundle::args(&["/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"]);
    bundle.set("/linux/resources", json!({ "memory": { "limit": 24 << 20, "swap": 24 << 20 } }));
    let container = bundle.container();
    assert_eq!(bundle.run_call(&["--keep"]).output().code(), 137);
    let events = fs::read_to_string(format!("/sys/fs/cgroup/{}/memory.events", bundle.id)).unwrap();
    assert!(events.lines().any(|line| line.starts_with("oom_kill ") && line != "oom_kill 0"), "{events}");
    container.delete();
}

/// What a tmpfs of the container holds is the container's memory.
fn memory_limit_counts_from_the_first_page() {
    let mut bundle = Bundle::sh("dd if=/dev/zero of=/dev/shm/file bs=1M count=10 2>/dev/null; echo ready; sleep 1000");
    bundle.set("/linux/resources", json!({ "memory": { "limit": 64 << 20 } }));
    let container = bundle.run_detached();
    container.wait_stdout("ready");
    let current: u64 = read(&container, "memory.current").parse().unwrap();
    assert!((10 << 20..64 << 20).contains(&current), "{current}");
}

fn pids_limit() {
    let container = resources(json!({ "pids": { "limit": 50 } })).create();
    assert_eq!(read(&container, "pids.max"), "50");
    let container = resources(json!({ "pids": { "limit": -1 } })).create();
    assert_eq!(read(&container, "pids.max"), "max");
}

fn fork_bomb_is_held() {
    let mut bundle = Bundle::sh("sh -c 'for n in $(seq 100); do sleep 1000 & done'; exec sleep 1000");
    bundle.set("/linux/resources", json!({ "pids": { "limit": 20 } }));
    let container = bundle.run_detached();
    let dir = dir(&container);
    let read = |file: &str| fs::read_to_string(dir.join(file)).unwrap();
    eventually("a fork has failed", || !read("pids.events").contains("max 0"));
    let count = read("cgroup.procs").lines().count();
    assert!((15..=20).contains(&count), "{count} processes");
    assert_eq!(container.status(), "running");
    container.call(&["delete", "--force"]).output().ok();
    assert!(!dir.exists());
}

fn cpu_limits() {
    let container = resources(json!({ "cpu": { "quota": 50_000, "period": 200_000 } })).create();
    assert_eq!(read(&container, "cpu.max"), "50000 200000");
    let container = resources(json!({ "cpu": { "quota": -1 } })).create();
    assert!(read(&container, "cpu.max").starts_with("max "));
    let weight = |shares: u64| -> u64 {
        let container = resources(json!({ "cpu": { "shares": shares } })).create();
        read(&container, "cpu.weight").parse().unwrap()
    };
    let weights = [2, 512, 1024, 4096, 262_144].map(weight);
    assert!(weights.is_sorted() && weights[0] == 1 && weights[4] == 10_000, "{weights:?}");
    assert!(weights[1] < weights[2] && weights[2] < weights[3], "{weights:?}");
    let container = resources(json!({ "cpu": { "idle": 1 } })).create();
    assert_eq!(read(&container, "cpu.idle"), "1");
}

fn cpu_quota_holds() {
    let mut bundle = Bundle::sh("while true; do true; done");
    bundle.set("/linux/resources", json!({ "cpu": { "quota": 10_000, "period": 100_000 } }));
    let container = bundle.run_detached();
    let stat = dir(&container).join("cpu.stat");
    eventually("it is held back", || {
        fs::read_to_string(&stat).unwrap().lines().any(|line| line.starts_with("nr_throttled ") && line != "nr_throttled 0")
    });
}

fn io_limits() {
    load_module("loop");
    let disks = fs::read_dir("/sys/block").unwrap().flatten();
    let numbers = disks.filter_map(|disk| fs::read_to_string(disk.path().join("dev")).ok()).next();
    let Some(numbers) = numbers else { skip("no block device here") };
    let (major, minor) = numbers.trim().split_once(':').unwrap();
    let (major, minor): (u64, u64) = (major.parse().unwrap(), minor.parse().unwrap());
    let throttle = |rate: u64| json!([{ "major": major, "minor": minor, "rate": rate }]);
    let block = json!({ "throttleReadBpsDevice": throttle(1 << 20), "throttleWriteIOPSDevice": throttle(100) });
    let container = resources(json!({ "blockIO": block })).create();
    assert_eq!(read(&container, "io.max"), format!("{major}:{minor} rbps=1048576 wbps=max riops=max wiops=100"));
}

fn unified() {
    let unified = json!({ "memory.high": "50331648", "memory.max": "67108864", "pids.max": "77" });
    let container = resources(json!({ "unified": unified })).create();
    assert_eq!(read(&container, "memory.high"), "50331648");
    assert_eq!(read(&container, "memory.max"), "67108864");
    assert_eq!(read(&container, "pids.max"), "77");
}

fn unified_overrides_nothing_it_does_not_name() {
    let container = resources(json!({ "memory": { "limit": 64 << 20 }, "unified": { "memory.low": "1048576" } })).create();
    assert_eq!(read(&container, "memory.max"), (64 << 20).to_string());
    assert_eq!(read(&container, "memory.low"), "1048576");
}

/// A limit that would silently not hold is an error that says what is missing.
fn limit_without_its_controller_is_refused() {
    let asked = [
        ("memory", json!({ "memory": { "limit": 64 << 20 } })),
        ("pids", json!({ "pids": { "limit": 50 } })),
        ("cpu", json!({ "cpu": { "quota": 50_000, "period": 100_000 } })),
        ("cpuset", json!({ "cpu": { "cpus": "0" } })),
    ];
    let missing: Vec<_> = asked.into_iter().filter(|(name, _)| Need::controller(name).missing().is_some()).collect();
    if missing.is_empty() {
        skip("all controllers are here");
    }
    for (name, asked) in missing {
        let message = resources(asked).create_fails();
        assert!(message.contains(name), "{name}: {message}");
    }
}

fn unknown_unified_file_is_refused() {
    let message = resources(json!({ "unified": { "memory.of_the_future": "1" } })).create_fails();
    assert!(message.contains("memory.of_the_future"), "{message}");
}

/// What a program gets when it opens a device 240:77, which no driver has: EPERM where a rule forbids it, else ENXIO.
fn open_device(rules: &Value, script: &str) -> String {
    let mut bundle = Bundle::sh(script);
    bundle.set("/linux/devices", json!([{ "path": "/dev/mine", "type": "c", "major": 240, "minor": 77, "fileMode": 0o666 }]));
    bundle.set("/linux/resources/devices", rules.clone());
    bundle.run().stderr
}

const DENY_ALL: &str = r#"{ "allow": false, "access": "rwm" }"#;
const DENIED: &str = "Operation not permitted";
const ALLOWED: &str = "No such device or address";

fn devices_are_denied_by_default() {
    let all: Value = serde_json::from_str(DENY_ALL).unwrap();
    let stderr = open_device(&json!([all]), "head -c 1 /dev/null && head -c 1 /dev/mine");
    assert!(stderr.contains(DENIED) && stderr.contains("/dev/mine"), "{stderr}");
}

fn devices_by_rule() {
    let all: Value = serde_json::from_str(DENY_ALL).unwrap();
    let rule = |access: &str| json!([all, { "allow": true, "type": "c", "major": 240, "minor": 77, "access": access }]);
    let read = |access: &str| open_device(&rule(access), "head -c 1 /dev/mine");
    let write = |access: &str| open_device(&rule(access), "dd if=/dev/null of=/dev/mine count=1");
    assert!(read("rw").contains(ALLOWED), "{}", read("rw"));
    assert!(write("rw").contains(ALLOWED), "{}", write("rw"));
    assert!(read("r").contains(ALLOWED), "{}", read("r"));
    assert!(write("r").contains(DENIED), "{}", write("r"));
    assert!(read("w").contains(DENIED), "{}", read("w"));
}

fn last_device_rule_wins() {
    let any = |allow: bool| json!({ "allow": allow, "type": "a", "access": "rwm" });
    let one = |allow: bool| json!({ "allow": allow, "type": "c", "major": 240, "minor": 77, "access": "rwm" });
    let wild = |allow: bool| json!({ "allow": allow, "type": "c", "major": 240, "access": "rwm" });
    for (rules, expected) in [
        (json!([any(true)]), ALLOWED),
        (json!([any(true), one(false)]), DENIED),
        (json!([any(false), wild(true)]), ALLOWED),
        (json!([any(false), wild(true), one(false)]), DENIED),
        (json!([any(false), one(false), wild(true)]), ALLOWED),
    ] {
        let stderr = open_device(&rules, "head -c 1 /dev/mine");
        assert!(stderr.contains(expected), "{rules}: {stderr}");
    }
}

fn hybrid_container_runs() {
    let container = Bundle::sh("echo hello; exec sleep 1000").run_detached();
    container.wait_stdout("hello");
    container.kill("KILL");
    container.wait_status("stopped");
    container.delete();
}

fn hybrid_limit_holds_or_is_refused() {
    for (name, file, asked) in [
        ("memory", "memory/{}/memory.limit_in_bytes", json!({ "memory": { "limit": 67_108_864 } })),
        ("pids", "pids/{}/pids.max", json!({ "pids": { "limit": 67_108_864 / 1024 } })),
    ] {
        let bundle = resources(asked.clone());
        let _container = bundle.container();
        let created = bundle.output_of(bundle.create_call(&[]));
        if created.status.success() {
            let path = format!("/sys/fs/cgroup/{}", file.replace("{}", &bundle.id));
            let value = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert_eq!(value.trim(), asked[name]["limit"].to_string(), "{name}");
        } else {
            assert!(created.stderr.contains(name), "the message names the controller: {}", created.stderr);
        }
    }
}
