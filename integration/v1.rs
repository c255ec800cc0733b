// SPDX-License-Identifier: Apache-2.0
//! Hosts that still mount cgroup v1, with a cgroup2 tree beside it (hybrid) or without one (legacy): limits are set, and hold.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::bundle::folder;
use crate::harness::disk::{self, Loop};
use crate::harness::look::{self, eventually};
use crate::harness::{Bundle, Call, Container, Need, Test, skip};
use crate::test;

const V1: Need = Need::HybridCgroups;
const NOT_CRUN: (&str, &str) = ("crun", "refuses hybrid hosts");

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(in_every_hierarchy_and_gone_from_every).needs(&[V1]).differs(&[NOT_CRUN]),
    test!(limits_read_back).needs(&[V1]).differs(&[NOT_CRUN]),
    test!(memory_hog_is_killed_and_it_is_said).needs(&[V1]).differs(&[NOT_CRUN, ("runc", "does not say why")]),
    test!(fork_bomb_is_held).needs(&[V1]).differs(&[NOT_CRUN]),
    test!(quota_is_a_ratio).needs(&[V1]).differs(&[NOT_CRUN]),
    test!(cpus_are_seen_inside).needs(&[V1]).differs(&[NOT_CRUN]),
    test!(throttle_is_a_rate).needs(&[V1, Need::Program("losetup")]).differs(&[NOT_CRUN]),
    test!(paused_stands_still).needs(&[V1]).differs(&[NOT_CRUN]),
    test!(whole_container_is_killed).needs(&[V1]).differs(&[NOT_CRUN]),
    test!(update_and_failed_update).needs(&[V1]).differs(&[NOT_CRUN]),
    test!(events_count_and_tell).needs(&[V1]).differs(&[NOT_CRUN, ("runc", "tells a kill several times")]),
    test!(users_of_a_network_class).needs(&[V1]).differs(&[NOT_CRUN]),
    test!(network_priorities).needs(&[V1]).differs(&[NOT_CRUN]),
    test!(huge_pages).needs(&[V1]).differs(&[NOT_CRUN]),
];

/// Where the hierarchy with this controller is mounted; the test is skipped where there is none.
fn mounted(controller: &str) -> PathBuf {
    let mounts = look::mounts();
    let found = mounts.iter().rfind(|mount| mount.kind == "cgroup" && mount.data.iter().any(|word| word == controller));
    match found {
        Some(mount) => PathBuf::from(&mount.at),
        None => skip(&format!("no cgroup v1 hierarchy with {controller} here")),
    }
}

/// The container's directory in that hierarchy.
fn dir(container: &Container, controller: &str) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    let path = text.lines().find_map(|line| {
        let (names, path) = line.split_once(':')?.1.split_once(':')?;
        names.split(',').any(|name| name == controller).then_some(path)
    });
    let path = path.unwrap_or_else(|| panic!("no {controller} in {text}"));
    mounted(controller).join(path.trim_start_matches('/'))
}

#[track_caller]
fn read(container: &Container, file: &str) -> String {
    let path = dir(container, file.split('.').next().unwrap()).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

fn in_every_hierarchy_and_gone_from_every() {
    let mut bundle = Bundle::sh("exec sleep 1000");
    bundle.set("/linux/cgroupsPath", json!(format!("/{}/box", bundle.id)));
    let container = bundle.run_detached();
    let wanted = format!("/{}/box", bundle.id);
    let text = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    let mounts = look::mounts();
    for mount in mounts.iter().filter(|mount| mount.kind == "cgroup" && mount.at.starts_with("/sys/fs/cgroup/")) {
        let dir = PathBuf::from(&mount.at).join(wanted.trim_start_matches('/'));
        let pids = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        assert!(pids.lines().any(|pid| pid == container.pid().to_string()), "{}: {pids:?}\n{text}", mount.at);
    }
    container.call(&["delete", "--force"]).output().ok();
    assert_eq!(look::cgroups_named("box"), Vec::<PathBuf>::new());
    // The one above was made on the way, and stays.
    for dir in look::cgroups_named(&bundle.id) {
        fs::remove_dir(dir).unwrap();
    }
}

fn limits_read_back() {
    let mut bundle = Bundle::limited(
        "exec sleep 1000",
        json!({
            "memory": { "limit": 64 << 20, "reservation": 32 << 20, "swap": 96 << 20, "swappiness": 10 },
            "cpu": { "shares": 512, "quota": 50_000, "period": 200_000, "cpus": "0", "mems": "0" },
            "pids": { "limit": 50 },
        }),
    );
    let disk = Loop::new(1 << 20);
    let throttle = |rate: u64| json!([{ "major": disk.major, "minor": disk.minor, "rate": rate }]);
    bundle.set(
        "/linux/resources/blockIO",
        json!({ "throttleReadBpsDevice": throttle(1 << 20), "throttleWriteIOPSDevice": throttle(7) }),
    );
    let container = bundle.run_detached();
    assert_eq!(read(&container, "memory.limit_in_bytes"), (64 << 20).to_string());
    assert_eq!(read(&container, "memory.soft_limit_in_bytes"), (32 << 20).to_string());
    assert_eq!(read(&container, "memory.swappiness"), "10");
    if dir(&container, "memory").join("memory.memsw.limit_in_bytes").exists() {
        assert_eq!(read(&container, "memory.memsw.limit_in_bytes"), (96 << 20).to_string());
    }
    assert_eq!(read(&container, "cpu.shares"), "512");
    assert_eq!((read(&container, "cpu.cfs_quota_us"), read(&container, "cpu.cfs_period_us")), ("50000".into(), "200000".into()));
    assert_eq!((read(&container, "cpuset.cpus"), read(&container, "cpuset.mems")), ("0".into(), "0".into()));
    assert_eq!(read(&container, "pids.max"), "50");
    let device = format!("{}:{}", disk.major, disk.minor);
    assert_eq!(read(&container, "blkio.throttle.read_bps_device"), format!("{device} 1048576"));
    assert_eq!(read(&container, "blkio.throttle.write_iops_device"), format!("{device} 7"));
}

fn memory_hog_is_killed_and_it_is_said() {
    mounted("memory");
    let bundle = Bundle::limited("exec dd if=/dev/zero of=/dev/null bs=64M count=1", json!({ "memory": { "limit": 24 << 20 } }));
    let output = bundle.run_call(&[]).output();
    assert_eq!(output.code(), 137, "{output:?}");
    assert!(output.stderr.contains("limit 25165824 bytes, peak"), "{output:?}");
}

fn fork_bomb_is_held() {
    mounted("pids");
    let bundle =
        Bundle::limited("sh -c 'for n in $(seq 60); do sleep 1000 & done'; exec sleep 1000", json!({ "pids": { "limit": 20 } }));
    let container = bundle.run_detached();
    eventually("a fork has failed", || !read(&container, "pids.events").contains("max 0"));
    let count: u32 = read(&container, "pids.current").parse().unwrap();
    assert!((15..=20).contains(&count), "{count} processes");
    assert_eq!(container.status(), "running");
}

/// Whatever else runs can only make it less.
fn quota_is_a_ratio() {
    mounted("cpuacct");
    let bundle = Bundle::limited("while true; do true; done", json!({ "cpu": { "quota": 20_000, "period": 100_000 } }));
    let container = bundle.run_detached();
    let (cpu, cpuacct) = (dir(&container, "cpu"), dir(&container, "cpuacct"));
    let used = || fs::read_to_string(cpuacct.join("cpuacct.usage")).unwrap().trim().parse::<u64>().unwrap();
    let (start, before) = (Instant::now(), used());
    std::thread::sleep(Duration::from_secs(1));
    let ratio = (used() - before) as f64 / start.elapsed().as_nanos() as f64;
    assert!(ratio < 0.3, "it had {ratio:.2} of a CPU instead of 0.20");
    eventually("it is held back", || !fs::read_to_string(cpu.join("cpu.stat")).unwrap().contains("nr_throttled 0"));
}

fn cpus_are_seen_inside() {
    mounted("cpuset");
    let bundle = Bundle::limited(
        "grep -E 'Cpus_allowed_list|Mems_allowed_list' /proc/self/status",
        json!({ "cpu": { "cpus": "0", "mems": "0" } }),
    );
    assert_eq!(bundle.print(), "Cpus_allowed_list:\t0\nMems_allowed_list:\t0\n");
}

fn throttle_is_a_rate() {
    mounted("blkio");
    disk::assert_throttle_is_a_rate();
}

fn paused_stands_still() {
    let container = Bundle::sh("while true; do true; done").run_detached();
    let used = || read(&container, "cpuacct.usage").parse::<u64>().unwrap();
    container.call(&["pause"]).output().ok();
    assert_eq!(container.status(), "paused");
    let before = used();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(used(), before);
    assert!(Call::new(&["exec", &container.id, "/bin/true"]).output().code() != 0, "nothing can be executed in it");
    container.call(&["resume"]).output().ok();
    assert_eq!(container.status(), "running");
    eventually("it goes on", || used() > before);
}

/// Without a pid namespace that would die with its first process.
fn whole_container_is_killed() {
    let mut bundle = Bundle::sh("sleep 1000 & setsid sleep 1000 & wait");
    bundle.namespace("pid", Some(""));
    let container = bundle.run_detached();
    let dir = dir(&container, "pids");
    let pids = || fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    eventually("all three are there", || pids().lines().count() == 3);
    assert_eq!(serde_json::from_str::<Vec<i32>>(&container.call(&["ps", "--format", "json"]).output().ok()).unwrap().len(), 3);
    container.kill("KILL");
    eventually("all are dead", || pids().is_empty());
    container.wait_status("stopped");
    container.delete();
    assert!(!dir.exists());
}

fn update_and_failed_update() {
    let bundle =
        Bundle::limited("exec sleep 1000", json!({ "memory": { "limit": 64 << 20, "swap": 64 << 20 }, "pids": { "limit": 20 } }));
    let container = bundle.run_detached();
    let update = |flags: &[&str]| container.call(&[&["update"], flags].concat()).output();
    // Up and down, in whatever order of the two files that takes.
    for size in ["128m", "32m"] {
        update(&["--memory", size, "--memory-swap", size]).ok();
        let bytes = if size == "128m" { 128 << 20 } else { 32 << 20 };
        assert_eq!(read(&container, "memory.limit_in_bytes"), bytes.to_string());
    }
    update(&["--pids-limit", "30", "--cpu-share", "100", "--cpu-quota", "30000"]).ok();
    let files = ["pids.max", "cpu.shares", "cpu.cfs_quota_us", "memory.limit_in_bytes"];
    let every = || files.map(|file| read(&container, file));
    let before = every();
    assert_eq!(before[..3], ["30", "100", "30000"]);
    let path = folder().join("resources.json");
    let wrong = json!({ "memory": { "limit": 48 << 20 }, "pids": { "limit": 7 }, "cpu": { "shares": 9, "cpus": "4000" } });
    fs::write(&path, wrong.to_string()).unwrap();
    update(&["--resources", path.to_str().unwrap()]).fails();
    assert_eq!(every(), before);
    // Below what is in use, where that is to be refused.
    let hog = Bundle::limited(
        "dd if=/dev/zero of=/dev/shm/f bs=1M count=20 2>/dev/null; echo ready; exec sleep 1000",
        json!({ "memory": { "limit": 64 << 20 } }),
    );
    let hog = hog.run_detached();
    hog.wait_stdout("ready");
    let below = json!({ "memory": { "limit": 8 << 20, "checkBeforeUpdate": true } });
    fs::write(&path, below.to_string()).unwrap();
    let said = hog.call(&["update", "--resources", path.to_str().unwrap()]).output().fails();
    assert!(said.contains("8388608"), "{said}");
    assert_eq!(read(&hog, "memory.limit_in_bytes"), (64 << 20).to_string());
}

fn events_count_and_tell() {
    mounted("memory");
    let bundle = Bundle::limited(
        "while [ ! -e /tmp/go ]; do sleep 0.05; done; (tail /dev/zero); exec sleep 1000",
        json!({ "memory": { "limit": 24 << 20, "swap": 24 << 20 }, "pids": { "limit": 33 } }),
    );
    let container = bundle.run_detached();
    let event: Value = serde_json::from_str(&container.call(&["events", "--stats"]).output().ok()).unwrap();
    let data = &event["data"];
    assert_eq!((&data["memory"]["usage"]["limit"], &data["pids"]["limit"]), (&json!(24 << 20), &json!(33)));
    assert!(
        data["memory"]["usage"]["usage"].as_u64().unwrap() > 0 && data["cpu"]["usage"]["total"].as_u64().unwrap() > 0,
        "{data}"
    );
    let mut events = Call::new(&["events", "--interval", "1h", &container.id]).spawn();
    std::thread::sleep(Duration::from_millis(500));
    fs::write(bundle.inside("/tmp/go"), "").unwrap();
    events.wait_for("\"oom\"");
    container.kill("KILL");
    events.finish();
}

fn users_of_a_network_class() {
    mounted("net_cls");
    let container = Bundle::limited("exec sleep 1000", json!({ "network": { "classID": 1_048_577 } })).run_detached();
    assert_eq!(read(&container, "net_cls.classid"), "1048577");
}

fn network_priorities() {
    mounted("net_prio");
    let network = json!({ "priorities": [{ "name": "lo", "priority": 7 }] });
    let container = Bundle::limited("exec sleep 1000", json!({ "network": network })).run_detached();
    let map = read(&container, "net_prio.ifpriomap");
    assert!(map.lines().any(|line| line == "lo 7"), "{map}");
    let wrong = json!({ "priorities": [{ "name": "nosuch0", "priority": 7 }] });
    let said = Bundle::limited("true", json!({ "network": wrong })).create_fails();
    assert!(said.contains("net_prio.ifpriomap") && said.contains("nosuch0"), "{said}");
}

fn huge_pages() {
    mounted("hugetlb");
    let limits = json!([{ "pageSize": "2MB", "limit": 4 << 20 }]);
    let container = Bundle::limited("exec sleep 1000", json!({ "hugepageLimits": limits })).run_detached();
    for file in ["hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.rsvd.limit_in_bytes"] {
        assert_eq!(read(&container, file), (4 << 20).to_string(), "{file}");
    }
}
