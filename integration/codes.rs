// SPDX-License-Identifier: Apache-2.0
//! What a failure says besides its message: its code, the field, the system call, the errno, the step, a hint; for causes that
//! users meet. The shapes are berth's own: another runtime has none of them.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

use crate::harness::bundle::{folder, new_id};
use crate::harness::{Bundle, Call, Test, skip};
use crate::test;

const OWN: &[(&str, &str)] = &[("runc", "has no codes"), ("crun", "has no codes")];

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(explain_lists_and_explains).differs(OWN),
    test!(every_field_of_a_failed_mount).differs(OWN),
    test!(mounts_say_what_is_wrong_with_them).differs(OWN),
    test!(a_masked_proc_is_named).differs(OWN),
    test!(a_hook_shows_its_last_output).differs(OWN),
    test!(a_hook_that_is_too_slow).differs(OWN),
    test!(an_interpreter_that_is_missing).differs(OWN),
    test!(a_mount_without_execution).differs(OWN),
    test!(programs_that_are_none).differs(OWN),
    test!(programs_that_are_not_found).differs(OWN),
    test!(limits_that_cannot_be_raised).differs(OWN),
    test!(modules_that_are_not_enabled).differs(OWN),
    test!(a_cgroup_that_is_in_use).differs(OWN),
    test!(a_state_root_without_room).differs(OWN),
    test!(too_many_open_files).differs(OWN),
    test!(user_namespaces_that_are_forbidden).differs(OWN),
    test!(containers_that_are_there_or_not).differs(OWN),
    test!(kernel_parameters_and_devices).differs(OWN),
    test!(a_socket_that_nobody_listens_on).differs(OWN),
    test!(a_user_that_is_not_mapped).differs(OWN),
    test!(ids_without_newuidmap).differs(OWN),
];

/// Where it happens to fail.
const ANYWHERE: &str = "*";

/// The record of a call that must fail, which must have this code and, where one is given, this field.
#[track_caller]
fn record(bundle: &Bundle, prefix: &[&str], words: &[&str], code: &str, config: &str) -> Value {
    let file = folder().join(format!("log-{}", new_id()));
    let log = ["--log", file.to_str().unwrap(), "--log-format", "json"];
    let output = bundle.output_of(Call::through(prefix, &[&log, words].concat()));
    let message = output.fails();
    let text = fs::read_to_string(&file).unwrap_or_default();
    let record: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?} {message}"));
    assert_eq!(record["code"], code, "{record:#}");
    assert!([record["config"].as_str().unwrap_or_default(), ANYWHERE].contains(&config), "{record:#}");
    assert!(message.trim().ends_with(&format!("[{code}]")), "{message}");
    record
}

/// `create` must fail so.
#[track_caller]
fn refused(code: &str, config: &str, edit: impl FnOnce(&mut Bundle)) -> Value {
    let mut bundle = Bundle::new();
    edit(&mut bundle);
    bundle.save();
    record(&bundle, &[], &["create", "--bundle", bundle.path(), &bundle.id], code, config)
}

/// `create` must succeed and `start` fail so.
#[track_caller]
fn refused_at_start(code: &str, bundle: &Bundle) -> Value {
    let _container = bundle.create();
    record(bundle, &[], &["start", &bundle.id], code, "process.args")
}

#[track_caller]
fn has(record: &Value, field: &str, text: &str) {
    let value = record[field].as_str().unwrap_or_default();
    assert!(value.contains(text), "{field} lacks {text:?}: {record:#}");
}

fn explain_lists_and_explains() {
    let list = Call::bare(&["explain"]).output().ok();
    assert!(list.lines().count() > 50 && list.contains("E-PROC-MASKED"), "{list}");
    let one = Call::bare(&["explain", "e-noexec"]).output().ok();
    for heading in ["E-NOEXEC: ", "\nCause\n", "\nHow to check\n", "\nHow to mend\n"] {
        assert!(one.contains(heading), "{one}");
    }
    let json: Value = serde_json::from_str(&Call::bare(&["explain", "--format", "json", "E-OOM"]).output().ok()).unwrap();
    assert_eq!(json["code"], "E-OOM");
    let all: Value = serde_json::from_str(&Call::bare(&["explain", "--format=json"]).output().ok()).unwrap();
    assert_eq!(all.as_array().unwrap().len(), list.lines().count());
    assert!(Call::bare(&["explain", "E-NOTHING"]).output().fails().contains("there is no code"));
}

fn every_field_of_a_failed_mount() {
    let record = refused("E-MOUNT-OPTION", "mounts[5].options[1]", |bundle| {
        bundle.mount("/mnt", "tmpfs", "tmpfs", &["nosuid", "size=lots"]);
    });
    assert_eq!((&record["level"], &record["errno"], &record["plan"]), (&json!("error"), &json!("EINVAL"), &json!("process")));
    has(&record, "syscall", "fsconfig(");
    has(&record, "syscall", "FSCONFIG_SET_STRING, \"size\", \"lots\"");
    let (step, steps) = (record["step"].as_u64().unwrap(), record["steps"].as_u64().unwrap());
    assert!(step > 1 && step < steps, "{record:#}");
    has(&record, "msg", &format!("[step {step} of {steps} of the container's process]"));
    has(&record, "msg", "(mounts[5].options[1])");
    assert!(record["hint"].is_string(), "{record:#}");
    // The plan has that step under that number.
    let mut bundle = Bundle::new();
    bundle.mount("/mnt", "tmpfs", "tmpfs", &["nosuid", "size=lots"]).save();
    let plan = Call::bare(&["plan", "--bundle", bundle.path()]).output().ok();
    let process = plan.split_once("container's process").unwrap().1;
    let line = process.lines().find(|line| line.trim_start().starts_with(&format!("{step}  "))).unwrap();
    assert!(line.contains("mount tmpfs at /mnt"), "{line}");
}

fn mounts_say_what_is_wrong_with_them() {
    let record = refused("E-MOUNT-TYPE", "mounts[5]", |bundle| {
        bundle.mount("/mnt", "nosuchfs", "nosuchfs", &[]);
    });
    has(&record, "hint", "/proc/filesystems");
    let record = refused("E-MOUNT-SOURCE", "mounts[5]", |bundle| {
        bundle.mount("/mnt", "bind", "/not/there", &["bind"]);
    });
    assert_eq!(record["errno"], "ENOENT");
    has(&record, "syscall", "/not/there");
    refused("E-MOUNT-TARGET", "mounts[5]", |bundle| {
        fs::write(bundle.inside("/file"), "").unwrap();
        bundle.mount("/file", "bind", "/proc", &["bind"]);
    });
    refused("E-PROC-PLACE", "mounts[5]", |bundle| {
        std::os::unix::fs::symlink("/proc/self", bundle.inside("/link")).unwrap();
        bundle.mount("/link", "tmpfs", "tmpfs", &[]);
    });
    refused("E-ROOTFS", "root.path", |bundle| {
        bundle.set("/root/path", json!("not-there"));
    });
}

/// As in a container whose engine masks /proc.
fn a_masked_proc_is_named() {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(Some("/dev/null"), "/proc/timer_list", none, MsFlags::MS_BIND, none).unwrap();
    let record = refused("E-PROC-MASKED", "mounts[0]", |bundle| {
        bundle.user_namespace(&[(0, 0, 65536)]);
    });
    assert_eq!(record["errno"], "EPERM");
    has(&record, "hint", "/proc/timer_list");
}

fn hook(script: &str) -> Value {
    json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"], "timeout": 1 }])
}

fn a_hook_shows_its_last_output() {
    let record = refused("E-HOOK", "hooks.createRuntime[0]", |bundle| {
        bundle.set("/hooks", json!({ "createRuntime": hook("echo first; echo the last words >&2; exit 7") }));
    });
    has(&record, "msg", "exit status 7");
    has(&record, "msg", "the last words");
    assert_eq!(record["plan"], "runtime", "{record:#}");
    let record = refused("E-HOOK", "hooks.createContainer[0]", |bundle| {
        bundle.set("/hooks", json!({ "createContainer": hook("echo inside; exit 1") }));
    });
    has(&record, "msg", "inside");
    assert_eq!(record["plan"], "process", "{record:#}");
}

fn a_hook_that_is_too_slow() {
    let record = refused("E-HOOK-TIMEOUT", "hooks.prestart[0]", |bundle| {
        bundle.set("/hooks", json!({ "prestart": hook("echo waiting; sleep 60") }));
    });
    has(&record, "msg", "waiting");
}

fn executable(bundle: &Bundle, path: &str, bytes: &[u8]) {
    fs::write(bundle.inside(path), bytes).unwrap();
    fs::set_permissions(bundle.inside(path), fs::Permissions::from_mode(0o755)).unwrap();
}

fn an_interpreter_that_is_missing() {
    let bundle = Bundle::args(&["/app"]);
    executable(&bundle, "/app", b"#!/usr/bin/python9\nprint()\n");
    let record = refused_at_start("E-INTERPRETER", &bundle);
    has(&record, "msg", "no such file or directory");
    has(&record, "hint", "/usr/bin/python9");
}

fn a_mount_without_execution() {
    let mut bundle = Bundle::args(&["/mnt/sh"]);
    fs::create_dir(bundle.inside("/mnt")).unwrap();
    let source = bundle.inside("/bin");
    bundle.mount("/mnt", "bind", source.to_str().unwrap(), &["bind", "noexec"]).save();
    let record = record(&bundle, &[], &["create", "--bundle", bundle.path(), &bundle.id], "E-NOEXEC", "process.args[0]");
    has(&record, "msg", "permission denied");
    has(&record, "hint", "noexec");
}

fn programs_that_are_none() {
    let bundle = Bundle::args(&["/app"]);
    // An ELF header for a machine that this one is not.
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(64, 0);
    elf[18] = 243;
    executable(&bundle, "/app", &elf);
    let told = refused_at_start("E-ARCHITECTURE", &bundle);
    has(&told, "hint", "riscv64");
    has(&told, "msg", "exec format error");
    let bundle = Bundle::args(&["/app"]);
    executable(&bundle, "/app", b"echo no first line\n");
    has(&refused_at_start("E-EXEC-FORMAT", &bundle), "hint", "#!");
}

fn programs_that_are_not_found() {
    let not_found = |args: &[&str], code: &str| {
        refused(code, "process.args[0]", |bundle| {
            fs::write(bundle.inside("/data"), "").unwrap();
            bundle.set("/process/args", json!(args));
        })
    };
    has(&not_found(&["nothing"], "E-PROGRAM-NOT-FOUND"), "msg", "executable file not found in $PATH");
    has(&not_found(&["/no/thing"], "E-PROGRAM-NOT-FOUND"), "msg", "no such file or directory");
    has(&not_found(&["/data"], "E-PROGRAM-PERMISSION"), "msg", "permission denied");
    has(&not_found(&["sh -c true"], "E-PROGRAM-NOT-FOUND"), "hint", "args[0] is the program alone");
    refused("E-ARGUMENTS-TOO-LONG", "process.args[1]", |bundle| {
        bundle.set("/process/args", json!(["/bin/true", "x".repeat(200_000)]));
    });
}

/// More descriptors than fs.nr_open allows is refused even to CAP_SYS_RESOURCE.
fn limits_that_cannot_be_raised() {
    let record = refused("E-RLIMIT", "process.rlimits[0]", |bundle| {
        bundle.set("/process/rlimits", json!([{ "type": "RLIMIT_NOFILE", "soft": 10, "hard": 1u64 << 40 }]));
    });
    assert_eq!(record["errno"], "EPERM");
    has(&record, "hint", "CAP_SYS_RESOURCE");
}

fn modules_that_are_not_enabled() {
    if !std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        refused("E-LSM-MISSING", "process.selinuxLabel", |bundle| {
            bundle.set("/process/selinuxLabel", json!("system_u:system_r:x_t:s0"));
        });
    }
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default().starts_with('Y');
    let code = if enabled { "E-LSM-PROFILE" } else { "E-LSM-MISSING" };
    refused(code, "process.apparmorProfile", |bundle| {
        bundle.set("/process/apparmorProfile", json!("berth-no-such-profile"));
    });
}

fn a_cgroup_that_is_in_use() {
    let first = Bundle::new();
    let _running = first.run_detached();
    let record = refused("E-CGROUP-NOT-EMPTY", "linux.cgroupsPath", |second| {
        second.set("/linux/cgroupsPath", json!(format!("/{}", first.id)));
    });
    has(&record, "msg", "container's cgroup is not empty: 1 process(es) found");
}

fn a_state_root_without_room() {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    let place = folder().join("small");
    fs::create_dir(&place).unwrap();
    let bundle = Bundle::new();
    bundle.save();
    for (options, flags, code) in
        [("nr_inodes=2", MsFlags::empty(), "E-NO-SPACE"), ("size=64k", MsFlags::MS_RDONLY, "E-READ-ONLY")]
    {
        mount(Some("small"), &place, Some("tmpfs"), flags, Some(options)).unwrap();
        let log = folder().join(format!("log-{code}"));
        let root = place.join("state");
        let words =
            ["--root", root.to_str().unwrap(), "--log", log.to_str().unwrap(), "--log-format", "json", "create", "--bundle"];
        bundle.output_of(Call::bare(&[&words[..], &[bundle.path(), &bundle.id]].concat())).fails();
        umount2(&place, MntFlags::empty()).unwrap();
        let record: Value = serde_json::from_str(&fs::read_to_string(&log).unwrap()).unwrap();
        assert_eq!(record["code"], code, "{record:#}");
        has(&record, "msg", place.to_str().unwrap());
    }
}

fn too_many_open_files() {
    let bundle = Bundle::new();
    bundle.save();
    let few = ["/bin/sh", "-c", "ulimit -n 6; exec \"$@\"", "sh"];
    let record = record(&bundle, &few, &["create", "--bundle", bundle.path(), &bundle.id], "E-OPEN-FILES", ANYWHERE);
    assert_eq!(record["errno"], "EMFILE");
    has(&record, "hint", "LimitNOFILE");
}

/// As on a host with user.max_user_namespaces=0: that limit is a user namespace's own.
fn user_namespaces_that_are_forbidden() {
    let mut bundle = Bundle::new();
    bundle.user_namespace(&[(0, 0, 1)]).save();
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
    let inside = ["/bin/busybox", "unshare", "-U", "-r", "-m", "/bin/sh", "-c", script, "sh"];
    let record = record(&bundle, &inside, &["create", "--bundle", bundle.path(), &bundle.id], "E-NAMESPACE-LIMIT", "");
    assert_eq!(record["errno"], "ENOSPC");
    has(&record, "hint", "max_*_namespaces");
    assert_eq!(record["plan"], "runtime");
}

fn containers_that_are_there_or_not() {
    let bundle = Bundle::new();
    let _container = bundle.create();
    record(&bundle, &[], &["create", "--bundle", bundle.path(), &bundle.id], "E-EXISTS", "");
    record(&bundle, &[], &["kill", "nobody", "TERM"], "E-NOTFOUND", "");
    bundle.save();
    record(&bundle, &[], &["resume", &bundle.id], "E-STATUS", "");
    refused("E-CONFIG", "ociVersion", |bundle| {
        bundle.unset("", "ociVersion");
    });
}

fn kernel_parameters_and_devices() {
    refused("E-SYSCTL", "linux.sysctl[\"net.ipv4.no_such_thing\"]", |bundle| {
        bundle.set("/linux/sysctl", json!({ "net.ipv4.no_such_thing": "1" }));
    });
    refused("E-NET-DEVICE", "linux.netDevices[\"nosuchdevice\"]", |bundle| {
        bundle.set("/linux/netDevices", json!({ "nosuchdevice": {} }));
    });
    refused("E-NAMESPACE-PATH", "linux.namespaces[6].path", |bundle| {
        bundle.unset("", "hostname");
        bundle.namespace("uts", Some("/proc/no/ns/uts"));
        let list = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
        list.insert(0, json!({ "type": "time" }));
    });
}

fn a_socket_that_nobody_listens_on() {
    let mut bundle = Bundle::new();
    bundle.set("/process/terminal", json!(true)).save();
    let words = ["create", "--console-socket", "/not/there", "--bundle", bundle.path(), &bundle.id];
    record(&bundle, &[], &words, "E-SOCKET", "process.terminal");
}

fn a_user_that_is_not_mapped() {
    let record = refused("E-CONFIG", "process.user.uid", |bundle| {
        bundle.user_namespace(&[(0, 0, 10)]).set("/process/user/uid", json!(500));
    });
    assert!(record["step"].is_null(), "nothing was made: {record:#}");
}

/// An ordinary user who asks for ids that nobody granted.
fn ids_without_newuidmap() {
    if ["/usr/bin/newuidmap", "/bin/newuidmap"].iter().all(|path| !std::path::Path::new(path).exists()) {
        skip("newuidmap is not installed here (package uidmap)");
    }
    let mut bundle = Bundle::new();
    bundle.user_namespace(&[(0, 65534, 1), (1, 900_000_000, 1000)]).unset("/linux", "cgroupsPath");
    bundle.save();
    let root = folder().join("user-state");
    let log = folder().join("user-log");
    for path in [&root, &log] {
        fs::create_dir(path).unwrap();
        nix::unistd::chown(path, Some(65534.into()), Some(65534.into())).unwrap();
    }
    let log = log.join("log");
    let (root, file) = (root.to_str().unwrap(), log.to_str().unwrap());
    let words = ["--root", root, "--log", file, "--log-format", "json", "create", "--bundle", bundle.path(), &bundle.id];
    let output = bundle.output_of(Call::bare(&words).user(65534, 65534));
    let message = output.fails();
    let record: Value =
        serde_json::from_str(&fs::read_to_string(&log).unwrap_or_default()).unwrap_or_else(|e| panic!("{e}: {message}"));
    assert_eq!(record["code"], "E-SUBIDS", "{record:#}");
}
