// SPDX-License-Identifier: Apache-2.0
//! What a container is confined by, and stays confined by: its identity, system call filter, profile and namespaces; mounts that were
//! added while it ran; and what CRIU cannot bring back.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

use serde_json::json;

use super::outside::Holder;
use super::*;
use crate::harness::bundle::wait_orphan;
use crate::harness::{Test, call, look, skip};
use crate::test;

const APPARMOR: &[Need] = &[Need::Criu, Need::File("/sys/kernel/security/apparmor"), Need::Program("apparmor_parser")];
const TIME: &[Need] = &[Need::Criu, Need::TIME_NAMESPACE];
const NO_MOUNTS: &[(&str, &str)] = &[("runc", "has no mounts"), ("crun", "does not tell CRIU of them")];

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(own_seccomp_profile).needs(NEEDS).seconds(120).differs(&[CRUN]),
    test!(identity).needs(&[Need::Criu, Need::SYS_RESOURCE]).seconds(120),
    test!(files_in_memory).needs(NEEDS).seconds(120).differs(&[CRUN]),
    test!(user_namespace).needs(NEEDS).seconds(120).differs(&[
        ("runc", "lets CRIU read the image as a user who may not"),
        ("crun", "lets CRIU dump as a user who may not look"),
    ]),
    test!(joined_pid_namespace).needs(NEEDS).seconds(120).differs(&[CRUN]),
    test!(namespaces_of_the_host).needs(NEEDS).seconds(120).differs(&[CRUN]),
    test!(time_namespace).needs(TIME).seconds(120).differs(&[CRUN]),
    test!(namespaces_that_cannot_be_joined)
        .needs(NEEDS)
        .seconds(120)
        .differs(&[("runc", "lets CRIU find out"), ("crun", "lets CRIU find out")]),
    test!(scope_of_systemd).needs(NEEDS).seconds(180),
    test!(apparmor_profile).needs(APPARMOR).seconds(120),
    test!(mounts_added_meanwhile).needs(NEEDS).seconds(120).differs(NO_MOUNTS),
    test!(mapped_mounts_are_refused)
        .differs(&[("runc", "dumps it and loses the mapping"), ("crun", "dumps it and loses the mapping")]),
];

fn own_seccomp_profile() {
    let mut bundle =
        Bundle::sh("i=0; while :; do i=$((i+1)); mkdir /dev/shm/$i 2>/dev/null && echo MADE; echo $i; sleep 0.05; done");
    bundle.set(
        "/linux/seccomp",
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 },
        ] }),
    );
    let container = there_and_back(&bundle, "1\n", &[]);
    counts_on(&container);
    assert_eq!(look::status(container.pid(), "Seccomp").as_deref(), Some("2"));
    assert!(!container.stdout().contains("MADE"));
}

/// Who it is, and what it may.
fn identity() {
    let mut bundle = Bundle::sh(COUNT);
    bundle.set("/process/user", json!({ "uid": 1000, "gid": 1001, "additionalGids": [7, 8], "umask": 0o77 }));
    bundle.set("/process/rlimits", json!([{ "type": "RLIMIT_NOFILE", "soft": 123, "hard": 234 }]));
    bundle.set("/process/capabilities", json!({ "bounding": ["CAP_KILL", "CAP_CHOWN"] }));
    let seen = |container: &Container| {
        let pid = container.pid();
        let fields = ["Uid", "Gid", "Groups", "Umask", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"];
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap().to_owned();
        (fields.map(|field| look::status(pid, field)), files)
    };
    let container = bundle.run_detached();
    counts_on(&container);
    let before = seen(&container);
    assert!(before.1.contains("123"), "{before:?}");
    dump(&container, &image("one"), &[]).ok();
    drop(container);
    let container = restore(&bundle, &image("one"), &[]);
    counts_on(&container);
    assert_eq!(seen(&container), before);
}

/// What file systems of its own hold is in the image, and the root is read-only again.
fn files_in_memory() {
    let mut bundle = Bundle::sh(&format!("echo kept >/dev/shm/file; {COUNT}"));
    bundle.set("/root/readonly", json!(true));
    let container = there_and_back(&bundle, "1\n", &[]);
    counts_on(&container);
    assert_eq!(
        inside(&container, "cat /dev/shm/file; touch /x 2>/dev/null || echo refused; echo >/dev/null && echo fine"),
        "kept\nrefused\nfine\n"
    );
}

/// Its standard streams are pipes, as an engine's are: a file of the host's root is not for the container's.
fn user_namespace() {
    let mut bundle = Bundle::sh(COUNT);
    bundle.user_namespace(&[(0, 100_000, 65_536)]);
    let container = bundle.container();
    let (mut read, write) = std::io::pipe().unwrap();
    let mut heard = String::new();
    // Hears what there is, or waits for more; returns how far it has counted, from 1 on and without a gap.
    let mut hear = || {
        let mut buffer = [0; 65536];
        let length = read.read(&mut buffer).unwrap();
        heard.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        let whole = heard.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let numbers: Vec<usize> = whole.map(|line| line.trim().parse().unwrap()).collect();
        assert!(numbers.iter().copied().eq(1..=numbers.len()), "{numbers:?}");
        numbers.len()
    };
    assert!(call::wait(&mut bundle.run_call(&["--detach"]).spawn_with(write.try_clone().unwrap(), Stdio::null())).success());
    eventually("it counts", || hear() >= 3);
    dump(&container, &image("one"), &[]).ok();
    drop(container);
    let container = bundle.container();
    let mut restoring = restore_call(&bundle, &image("one"), &["--detach"]).spawn_with(write, Stdio::null());
    assert!(call::wait(&mut restoring).success(), "{}", fs::read_to_string(image("one/restore.log")).unwrap());
    // A pipe is read whole: the first that is heard now has all from before the dump.
    let before = hear();
    eventually("it goes on where it was", || hear() >= before + 3);
    let map = fs::read_to_string(format!("/proc/{}/uid_map", container.pid())).unwrap();
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
    assert_eq!(look::status(container.pid(), "Uid").unwrap().split_whitespace().next(), Some("100000"));
    assert_eq!(inside(&container, "id -u"), "0\n");
}

fn joined_pid_namespace() {
    let first = Holder::running(&["--pid", "--fork", "--kill-child", "--ipc"], &["sh", "-c", "while :; do sleep 0.1; done"]);
    let mut bundle = Bundle::sh(COUNT);
    bundle.namespace("pid", Some(&first.path("pid_for_children")));
    let container = bundle.run_detached();
    counts_on(&container);
    let pid = container.pid();
    dump(&container, &image("one"), &[]).ok();
    drop(container);
    // As long as it lies there dead, its number is taken.
    wait_orphan(pid);
    let container = bundle.container();
    let restored = || bundle.output_of(restore_call(&bundle, &image("one"), &["--detach"])).status.success();
    eventually("the others' numbers are free too", restored);
    counts_on(&container);
    assert_eq!(look::namespace(container.pid(), "pid"), fs::read_link(first.path("pid_for_children")).unwrap().to_str().unwrap());
}

/// It has none but a mount namespace of its own.
fn namespaces_of_the_host() {
    let mut bundle = Bundle::sh(COUNT);
    bundle.unset("", "hostname");
    for kind in ["network", "ipc", "uts", "cgroup"] {
        bundle.namespace(kind, Some(""));
    }
    let container = there_and_back(&bundle, "1\n", &[]);
    counts_on(&container);
    for kind in ["net", "ipc", "uts", "cgroup"] {
        assert_eq!(look::namespace(container.pid(), kind), look::namespace("self", kind), "{kind}");
    }
}

/// The clock that tells how long the machine runs goes on in the container where it was.
fn time_namespace() {
    let mut bundle = Bundle::sh(COUNT);
    bundle.namespace("time", None).set("/linux/timeOffsets", json!({ "boottime": { "secs": 1_000_000 } }));
    let container = there_and_back(&bundle, "1\n", &[]);
    counts_on(&container);
    let uptime = inside(&container, "cat /proc/uptime");
    assert!(uptime.split('.').next().unwrap().parse::<u64>().unwrap() >= 1_000_000, "{uptime}");
}

fn namespaces_that_cannot_be_joined() {
    let bundle = Bundle::sh(COUNT);
    let container = bundle.run_detached();
    counts_on(&container);
    dump(&container, &image("one"), &[]).ok();
    let holder = Holder::new(&["--mount", "--cgroup", "--ipc"]);
    for (kind, file) in [("mount", "mnt"), ("cgroup", "cgroup")] {
        let mut other = Bundle { dir: bundle.dir.clone(), id: bundle.id.clone(), config: bundle.config.clone() };
        other.namespace(kind, Some(&holder.path(file)));
        if kind == "mount" {
            other.set("/mounts", json!([])).unset("/linux", "maskedPaths").unset("/linux", "readonlyPaths");
        }
        let error = bundle_output(&other, &["--detach"]).fails();
        assert!(error.contains("linux.namespaces") && error.contains(kind), "{error}");
        container.call(&["state"]).output().fails();
    }
}

/// Its scope is made anew, with its limits, and goes with it. `hack/test qemu-systemd` has a systemd where CRIU works.
fn scope_of_systemd() {
    if std::env::var("BERTH_TEST_SYSTEMD").as_deref() != Ok("system") {
        skip("needs a systemd to play with: hack/test qemu-systemd");
    }
    let mut bundle = Bundle::sh(COUNT);
    let unit = format!("bt-{}.scope", bundle.id);
    bundle.set("/linux/cgroupsPath", json!(format!(":bt:{}", bundle.id))).set("/linux/resources/pids/limit", json!(123));
    bundle.save();
    let container = bundle.container();
    let run = ["--systemd-cgroup", "run", "--detach", "--bundle", bundle.path(), &bundle.id];
    bundle.output_of(Call::new(&run)).ok();
    counts_on(&container);
    dump(&container, &image("one"), &[]).ok();
    drop(container);
    let container = bundle.container();
    let images = image("one");
    let words = ["--systemd-cgroup", "restore", "--detach", "--bundle", bundle.path(), "--image-path", &images, &bundle.id];
    bundle.output_of(with_criu(Call::new(&words))).ok();
    counts_on(&container);
    assert!(look::cgroup(container.pid()).ends_with(&unit), "{}", look::cgroup(container.pid()));
    let show = || Call::program(&["systemctl", "show", "--property=ActiveState,TasksMax", &unit]).output().ok();
    assert_eq!(show(), "TasksMax=123\nActiveState=active\n");
    container.call(&["delete", "--force"]).output().ok();
    eventually("its scope is gone", || show().contains("ActiveState=inactive"));
}

fn apparmor_profile() {
    for name in ["berth-dumped", "berth-other"] {
        let file = folder().join(name);
        let rules = "file, capability, network, signal, mount, umount, ptrace, unix,";
        fs::write(&file, format!("profile {name} flags=(attach_disconnected) {{ {rules} }}\n")).unwrap();
        let mut parser = Command::new("apparmor_parser").args(["--replace", "--skip-cache"]).arg(&file).spawn().unwrap();
        assert!(call::wait(&mut parser).success());
    }
    let mut bundle = Bundle::sh(COUNT);
    bundle.set("/process/apparmorProfile", json!("berth-dumped"));
    let label = |container: &Container| fs::read_to_string(format!("/proc/{}/attr/current", container.pid())).unwrap();
    let container = there_and_back(&bundle, "1\n", &[]);
    counts_on(&container);
    assert_eq!(label(&container), "berth-dumped (enforce)\n");
    dump(&container, &image("two"), &[]).ok();
    drop(container);
    let container = restore(&bundle, &image("two"), &["--lsm-profile", "apparmor:berth-other"]);
    counts_on(&container);
    assert_eq!(label(&container), "berth-other (enforce)\n");
}

/// A mount of the host that came while it ran is found; the bundle that it is restored from has to have it by then.
fn mounts_added_meanwhile() {
    let data = folder().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("file"), "of the host").unwrap();
    let added = json!([
        { "destination": "/added", "type": "bind", "source": data, "options": ["bind", "ro"] },
        { "destination": "/scratch", "type": "tmpfs", "source": "tmpfs" },
    ]);
    let file = folder().join("mounts.json");
    fs::write(&file, added.to_string()).unwrap();
    let mut bundle = Bundle::sh(COUNT);
    let container = bundle.run_detached();
    counts_on(&container);
    Call::new(&["mounts", "add", &container.id, file.to_str().unwrap()]).output().ok();
    inside(&container, "echo kept >/scratch/file");
    dump(&container, &image("one"), &[]).ok();
    let error = bundle_output(&bundle, &["--detach"]).fails();
    assert!(error.contains("every mount of the host that the container had"), "{error}");
    drop(container);
    bundle.set("/mounts/-", added[0].clone());
    let container = restore(&bundle, &image("one"), &[]);
    counts_on(&container);
    assert_eq!(
        inside(&container, "cat /added/file /scratch/file; touch /added/x 2>/dev/null || echo refused"),
        "of the hostkept\nrefused\n"
    );
}

fn mapped_mounts_are_refused() {
    let data = folder().join("data");
    fs::create_dir(&data).unwrap();
    let mut bundle = Bundle::sh(COUNT);
    bundle.set(
        "/mounts/-",
        json!({ "destination": "/data", "type": "bind", "source": data, "options": ["bind"],
                "uidMappings": [{ "containerID": 0, "hostID": 1000, "size": 10 }],
                "gidMappings": [{ "containerID": 0, "hostID": 1000, "size": 10 }] }),
    );
    let container = bundle.run_detached();
    counts_on(&container);
    let program = fake_criu("exit 0");
    let error = Call::new(&["--criu", &program, "checkpoint", "--image-path", &image("one"), &container.id]).output().fails();
    assert!(error.contains("mounts[") && error.contains("id-mapped"), "{error}");
    counts_on(&container);
}
