// SPDX-License-Identifier: Apache-2.0
//! Containers in units of systemd (`--systemd-cgroup`), which need a systemd to play with: `hack/systemd` has one.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::harness::bundle::{Container, folder};
use crate::harness::disk::{Loop, load_module};
use crate::harness::look::{self, cgroup, eventually};
use crate::harness::{Bundle, Call, Need, Test, skip};
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(container_is_a_scope),
    test!(without_systemd_it_is_said)
        .needs(&[Need::Cgroup2])
        .differs(&[("crun", "says it in other words"), ("runc", "says it in other words")]),
    test!(default_unit).differs(&[("runc", "its prefix is its own name"), ("crun", "its prefix is its own name")]),
    test!(limits_are_systemds_too).needs(&[Need::Controller("pids"), Need::Controller("memory")]),
    test!(every_limit_survives_a_reload).needs(&[Need::Controller("cpu"), Need::Controller("io"), Need::Controller("memory")]),
    test!(weight_survives_a_reload).needs(&[Need::Controller("io"), Need::Program("losetup")]),
    test!(failed_update_changes_nothing)
        .needs(&[Need::Controller("pids"), Need::Controller("cpu")])
        .differs(&[("crun", "keeps what it had written before"), ("runc", "leaves systemd's properties changed")]),
    test!(devices_survive_a_reload).differs(&[("runc", "leaves device rules alone"), ("crun", "leaves device rules alone")]),
    test!(lifecycle_without_the_flag),
    test!(exec_joins_the_scope),
    test!(foreground_leaves_no_unit),
    test!(lack_of_memory_is_said_every_time)
        .needs(&[Need::Controller("memory")])
        .differs(&[("runc", "does not say why"), ("crun", "does not say why")]),
    test!(cgroup_namespace_is_the_scope),
    test!(killed_runtime_leaves_what_can_be_deleted),
    test!(path_must_name_a_unit),
    test!(property_by_annotation),
    test!(forbidden_property_by_annotation)
        .differs(&[("runc", "lets annotations set any"), ("crun", "lets annotations set any")]),
];

/// A bundle whose container becomes the scope `bt-ID.scope` of the default slice.
fn bundle(script: &str) -> Bundle {
    if std::env::var("BERTH_TEST_SYSTEMD").as_deref() != Ok("system") {
        skip("needs a systemd to play with: hack/systemd");
    }
    let mut bundle = Bundle::sh(script);
    bundle.set("/linux/cgroupsPath", json!(format!(":bt:{}", bundle.id)));
    bundle
}

fn run(bundle: &Bundle, options: &[&str]) -> Call {
    bundle.save();
    let mut words = vec!["--systemd-cgroup", "run", "--bundle", bundle.path()];
    words.extend(options);
    words.push(&bundle.id);
    Call::new(&words)
}

fn run_detached(bundle: &Bundle) -> Container {
    let guard = bundle.container();
    bundle.output_of(run(bundle, &["--detach"])).ok();
    guard
}

fn unit(bundle: &Bundle) -> String {
    format!("bt-{}.scope", bundle.id)
}

/// A property of a unit, as systemctl(1) shows it.
fn shown(unit: &str, property: &str) -> String {
    Call::program(&["systemctl", "show", "--value", "-p", property, unit]).output().ok().trim().to_owned()
}

fn dir(container: &Container) -> PathBuf {
    look::cgroup2_root().join(cgroup(container.pid()).trim_start_matches('/'))
}

fn container_is_a_scope() {
    let bundle = bundle("exec sleep 1000");
    let container = run_detached(&bundle);
    let unit = unit(&bundle);
    assert_eq!(cgroup(container.pid()), format!("/system.slice/{unit}"));
    assert_eq!((shown(&unit, "ActiveState"), shown(&unit, "Delegate")), ("active".to_owned(), "yes".to_owned()));
    container.call(&["delete", "--force"]).output().ok();
    assert_eq!(shown(&unit, "LoadState"), "not-found");
}

/// And nothing is left of the attempt.
fn without_systemd_it_is_said() {
    if fs::exists("/run/systemd/private").unwrap() {
        skip("there is a systemd here");
    }
    let mut bundle = Bundle::sh("exec sleep 1000");
    bundle.set("/linux/cgroupsPath", json!(format!(":bt:{}", bundle.id)));
    let said = run(&bundle, &["--detach"]).output().fails();
    assert!(said.contains("systemd") && said.contains("cgroupfs"), "{said}");
    assert_eq!(look::cgroups_named(&bundle.id), Vec::<PathBuf>::new());
    assert!(Call::new(&["state", &bundle.id]).output().fails().contains("does not exist"));
}

fn default_unit() {
    let mut bundle = bundle("exec sleep 1000");
    bundle.unset("/linux", "cgroupsPath");
    let container = run_detached(&bundle);
    assert_eq!(cgroup(container.pid()), format!("/system.slice/berth-{}.scope", bundle.id));
}

fn limits_are_systemds_too() {
    let mut bundle = bundle("exec sleep 1000");
    bundle.set("/linux/resources/pids/limit", json!(33)).set("/linux/resources/memory/limit", json!(64 << 20));
    bundle.set("/linux/resources/unified/memory.high", json!((32 << 20).to_string()));
    let container = run_detached(&bundle);
    let (dir, unit) = (dir(&container), unit(&bundle));
    let read = |file: &str| fs::read_to_string(dir.join(file)).unwrap().trim().to_owned();
    assert_eq!((read("pids.max"), read("memory.max")), ("33".to_owned(), (64 << 20).to_string()));
    assert_eq!((shown(&unit, "TasksMax"), shown(&unit, "MemoryHigh")), ("33".to_owned(), (32 << 20).to_string()));
    Call::program(&["systemctl", "daemon-reload"]).output().ok();
    assert_eq!((read("pids.max"), read("memory.high")), ("33".to_owned(), (32 << 20).to_string()));
    Call::new(&["update", "--pids-limit", "44", &bundle.id]).output().ok();
    assert_eq!((read("pids.max"), shown(&unit, "TasksMax")), ("44".to_owned(), "44".to_owned()));
}

/// With `systemctl daemon-reload` systemd writes all it knows of into the cgroup again.
fn reload() {
    Call::program(&["systemctl", "daemon-reload"]).output().ok();
}

/// The number of some block device, for rates: `7:0`.
fn block_device() -> (u64, u64) {
    load_module("loop");
    let disks = fs::read_dir("/sys/block").unwrap().flatten();
    let numbers = disks.filter_map(|disk| fs::read_to_string(disk.path().join("dev")).ok()).next();
    let Some(numbers) = numbers else { skip("no block device here") };
    let (major, minor) = numbers.trim().split_once(':').unwrap();
    (major.parse().unwrap(), minor.parse().unwrap())
}

fn every_limit_survives_a_reload() {
    let mut bundle = bundle("exec sleep 1000");
    let (major, minor) = block_device();
    let throttle = |rate: u64| json!([{ "major": major, "minor": minor, "rate": rate }]);
    bundle.set(
        "/linux/resources",
        json!({
            "memory": { "limit": 64 << 20, "reservation": 16 << 20, "swap": 96 << 20 },
            "cpu": { "shares": 512, "quota": 50_000, "period": 200_000 },
            "pids": { "limit": 40 },
            "blockIO": {
                "throttleReadBpsDevice": throttle(1 << 20), "throttleWriteBpsDevice": throttle(2 << 20),
                "throttleReadIOPSDevice": throttle(100), "throttleWriteIOPSDevice": throttle(200),
            },
            "unified": { "memory.high": (48 << 20).to_string(), "memory.min": (4 << 20).to_string(), "memory.oom.group": "1" },
        }),
    );
    let container = run_detached(&bundle);
    let dir = dir(&container);
    let read = |file: &str| fs::read_to_string(dir.join(file)).unwrap_or_default().trim().to_owned();
    let every = || {
        assert_eq!((read("memory.max"), read("memory.low")), ((64 << 20).to_string(), (16 << 20).to_string()));
        assert_eq!((read("memory.high"), read("memory.min")), ((48 << 20).to_string(), (4 << 20).to_string()));
        if dir.join("memory.swap.max").exists() {
            assert_eq!(read("memory.swap.max"), (32 << 20).to_string());
        }
        assert_eq!(read("memory.oom.group"), "1");
        assert_eq!((read("cpu.weight"), read("cpu.max")), ("59".to_owned(), "50000 200000".to_owned()));
        assert_eq!(read("pids.max"), "40");
        assert_eq!(read("io.max"), format!("{major}:{minor} rbps=1048576 wbps=2097152 riops=100 wiops=200"));
    };
    every();
    reload();
    every();
    // And when it is told to set something else.
    Call::program(&["systemctl", "set-property", "--runtime", &unit(&bundle), "TasksMax=40"]).output().ok();
    every();
    assert_eq!(shown(&unit(&bundle), "IOReadBandwidthMax"), format!("/dev/block/{major}:{minor} 1048576"));
}

/// systemd has one weight for two schedulers, and scales of its own.
fn weight_survives_a_reload() {
    let mut bundle = bundle("exec sleep 1000");
    let disk = Loop::new(1 << 20);
    disk.schedule_by("bfq");
    bundle.set("/linux/resources/blockIO", json!({ "weight": 500 }));
    bundle.save();
    let container = bundle.container();
    let output = bundle.output_of(run(&bundle, &["--detach"]));
    if output.stderr.contains("no I/O scheduler that goes by weight") {
        skip("the BFQ of this kernel knows no cgroups");
    }
    output.ok();
    let dir = dir(&container);
    let read = |file: &str| fs::read_to_string(dir.join(file)).unwrap_or_default().trim().to_owned();
    let every = |bfq: &str, other: &str| match dir.join("io.bfq.weight").exists() {
        true => assert_eq!(read("io.bfq.weight"), format!("default {bfq}")),
        false => assert_eq!(read("io.weight"), format!("default {other}")),
    };
    every("500", "4950");
    reload();
    every("500", "4950");
    container.call(&["update", "--blkio-weight", "300"]).output().ok();
    every("300", "2930");
    reload();
    every("300", "2930");
}

/// Neither in the cgroup's files nor in what systemd writes there when it does so again.
fn failed_update_changes_nothing() {
    let mut bundle = bundle("exec sleep 1000");
    bundle.set("/linux/resources", json!({ "pids": { "limit": 33 }, "cpu": { "shares": 512 } }));
    let container = run_detached(&bundle);
    let (dir, unit) = (dir(&container), unit(&bundle));
    let every = || {
        let read = |file: &str| fs::read_to_string(dir.join(file)).unwrap().trim().to_owned();
        let files = ["pids.max", "cpu.weight", "cpu.max"].map(read);
        let properties = ["TasksMax", "CPUWeight", "CPUQuotaPerSecUSec"].map(|name| shown(&unit, name));
        (files, properties)
    };
    let before = every();
    // Nonsense for the kernel alone, in a file that systemd has no property for.
    let wrong = json!({
        "pids": { "limit": 44 }, "cpu": { "shares": 1024, "quota": 50_000 }, "unified": { "cgroup.max.depth": "nonsense" },
    });
    let path = folder().join("resources.json");
    fs::write(&path, wrong.to_string()).unwrap();
    Call::new(&["update", "--resources", path.to_str().unwrap(), &bundle.id]).output().fails();
    assert_eq!(every(), before);
    reload();
    assert_eq!(every(), before);
}

/// What may be opened is systemd's list too, and an update changes both.
fn devices_survive_a_reload() {
    let mut bundle = bundle("exec sleep 1000");
    let all = json!({ "allow": false, "access": "rwm" });
    bundle.set("/linux/resources/devices", json!([all]));
    let _container = run_detached(&bundle);
    let unit = unit(&bundle);
    let open = |minor: u32| {
        let script = format!("[ -e /tmp/{minor} ] || mknod /tmp/{minor} c 1 {minor}; : >/tmp/{minor}");
        let output = Call::new(&["exec", "--cap", "CAP_MKNOD", &bundle.id, "/bin/sh", "-c", &script]).output();
        output.status.success()
    };
    let check = |kmsg: bool| {
        assert!(open(3), "/dev/null can be opened");
        assert_eq!(open(11), kmsg, "/dev/kmsg can be opened");
    };
    check(false);
    assert_eq!(shown(&unit, "DevicePolicy"), "strict");
    assert!(shown(&unit, "DeviceAllow").contains("/dev/char/1:3 rwm"));
    reload();
    check(false);
    let path = folder().join("resources.json");
    let rule = json!({ "allow": true, "type": "c", "major": 1, "minor": 11, "access": "rw" });
    fs::write(&path, json!({ "devices": [all, rule] }).to_string()).unwrap();
    Call::new(&["update", "--resources", path.to_str().unwrap(), &bundle.id]).output().ok();
    check(true);
    reload();
    check(true);
    fs::write(&path, json!({ "devices": [all] }).to_string()).unwrap();
    Call::new(&["update", "--resources", path.to_str().unwrap(), &bundle.id]).output().ok();
    check(false);
    assert!(!shown(&unit, "DeviceAllow").contains("1:11"));
    reload();
    check(false);
}

/// Which driver made the cgroup is remembered, so that later commands need not be told.
fn lifecycle_without_the_flag() {
    let bundle = bundle("exec sleep 1000");
    bundle.save();
    let container = bundle.container();
    bundle.output_of(Call::new(&["--systemd-cgroup", "create", "--bundle", bundle.path(), &bundle.id])).ok();
    assert_eq!(container.status(), "created");
    container.start();
    container.call(&["pause"]).output().ok();
    assert_eq!(container.status(), "paused");
    container.call(&["resume"]).output().ok();
    container.kill("KILL");
    container.wait_status("stopped");
    container.delete();
    assert_eq!(shown(&unit(&bundle), "LoadState"), "not-found");
}

/// As the process sees it from its cgroup namespace, which begins at the scope.
fn exec_joins_the_scope() {
    let bundle = bundle("exec sleep 1000");
    let _container = run_detached(&bundle);
    assert_eq!(Call::new(&["exec", &bundle.id, "grep", "^0:", "/proc/self/cgroup"]).output().ok(), "0::/\n");
}

fn foreground_leaves_no_unit() {
    let bundle = bundle("echo out; exit 3");
    let output = run(&bundle, &[]).output();
    assert_eq!((output.code(), output.stdout.as_str()), (3, "out\n"));
    assert_eq!(shown(&unit(&bundle), "LoadState"), "not-found");
}

/// Although systemd removes the cgroup as soon as the process is gone.
fn lack_of_memory_is_said_every_time() {
    for _ in 0..10 {
        let mut bundle = bundle("exec dd if=/dev/zero of=/dev/null bs=64M count=1");
        bundle.set("/linux/resources", json!({ "memory": { "limit": 24 << 20, "swap": 24 << 20 } }));
        let output = run(&bundle, &[]).output();
        assert_eq!(output.code(), 137, "{output:?}");
        assert!(output.stderr.contains("for lack of memory: limit 25165824 bytes, peak "), "{output:?}");
    }
    let mut bundle = bundle("kill -9 $$");
    bundle.set("/linux/resources", json!({ "memory": { "limit": 24 << 20 } }));
    assert_eq!(run(&bundle, &[]).output().stderr, "");
}

/// The process does not go on before it is where its namespace shall begin.
fn cgroup_namespace_is_the_scope() {
    let bundle = bundle("grep ^0: /proc/self/cgroup");
    assert_eq!(run(&bundle, &[]).output().ok(), "0::/\n");
}

fn killed_runtime_leaves_what_can_be_deleted() {
    let mut bundle = bundle("exec sleep 1000");
    // The hook runs when the unit is there, and waits until its runtime is gone.
    let wait = "while kill -0 $PPID; do sleep 0.1; done";
    bundle.set("/hooks/createRuntime", json!([{ "path": "/bin/sh", "args": ["sh", "-c", wait], "env": ["PATH=/usr/bin:/bin"] }]));
    bundle.save();
    let running = Call::new(&["--systemd-cgroup", "run", "--bundle", bundle.path(), &bundle.id]).spawn();
    let unit = unit(&bundle);
    eventually("the unit is there", || shown(&unit, "ActiveState") == "active");
    running.signal(nix::sys::signal::Signal::SIGKILL);
    running.finish();
    Call::new(&["delete", "--force", &bundle.id]).output().ok();
    assert_eq!(shown(&unit, "LoadState"), "not-found");
}

fn path_must_name_a_unit() {
    let mut bundle = bundle("exec sleep 1000");
    for path in ["/a/b", "a:b", "a:b:c:d", "a/b.slice:p:n"] {
        bundle.set("/linux/cgroupsPath", json!(path));
        run(&bundle, &[]).output().fails();
    }
}

fn property_by_annotation() {
    let mut bundle = bundle("exec sleep 1000");
    bundle.set("/annotations/org.systemd.property.TimeoutStopUSec", json!("uint64 8000000"));
    let _container = run_detached(&bundle);
    assert_eq!(shown(&unit(&bundle), "TimeoutStopUSec"), "8s");
}

fn forbidden_property_by_annotation() {
    let mut bundle = bundle("exec sleep 1000");
    bundle.set("/annotations/org.systemd.property.FailureAction", json!("'reboot-force'"));
    let said = run(&bundle, &[]).output().fails();
    assert!(said.contains("FailureAction"), "{said}");
    assert_eq!(shown(&unit(&bundle), "LoadState"), "not-found");
}
