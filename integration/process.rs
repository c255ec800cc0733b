// SPDX-License-Identifier: Apache-2.0
//! The container's process: arguments, environment, user, capabilities, limits (config.md "Process").

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use serde_json::{Value, json};

use crate::harness::look::status_field;
use crate::harness::{Bundle, Call, Need, Test};
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(arguments_are_passed_as_they_are),
    test!(program_is_found_in_path),
    test!(path_of_the_caller_does_not_matter),
    test!(environment_keeps_its_order),
    test!(last_of_duplicate_variables_wins),
    test!(home_is_added),
    test!(working_directory),
    test!(working_directory_is_created),
    test!(user_and_groups),
    test!(callers_groups_are_dropped),
    test!(callers_groups_are_kept_by_annotation).differs(&[("runc", "does not know the annotation")]),
    test!(umask),
    test!(umask_of_the_caller_does_not_matter),
    test!(capability_sets),
    test!(no_capabilities_at_all).differs(&[("runc", "gives all of the caller's where `capabilities` is absent")]),
    test!(user_without_capabilities),
    test!(ambient_capabilities_reach_the_user),
    test!(unknown_capability_is_ignored),
    test!(no_new_privileges),
    test!(rlimits),
    test!(rlimits_are_not_raised_by_themselves),
    test!(raised_rlimit).needs(&[Need::SYS_RESOURCE]),
    test!(raised_rlimit_in_a_user_namespace).needs(&[Need::SYS_RESOURCE]),
    test!(oom_score_adj),
    test!(oom_score_adj_below_the_callers).needs(&[Need::SYS_RESOURCE]),
    test!(hostname_and_domainname),
    test!(hostname_of_the_host_is_untouched),
    test!(sysctl),
    test!(scheduler_and_io_priority),
    test!(personality),
];

/// The text of /proc/PID/status of a container's program that does nothing else.
fn status_of(edit: impl FnOnce(&mut Bundle)) -> String {
    let mut bundle = Bundle::args(&["/bin/cat", "/proc/self/status"]);
    edit(&mut bundle);
    bundle.print()
}

fn arguments_are_passed_as_they_are() {
    let bundle = Bundle::args(&["/bin/printf", "%s|", "", " two  words ", "$HOME", "é\t\"'\\", "--flag"]);
    assert_eq!(bundle.print(), "| two  words |$HOME|é\t\"'\\|--flag|");
}

fn program_is_found_in_path() {
    let mut bundle = Bundle::args(&["mine"]);
    bundle.set("/process/env", json!(["PATH=/none:/opt/first:/opt/second"]));
    for (dir, word) in [("opt/first", "first"), ("opt/second", "second")] {
        let program = bundle.inside(dir).join("mine");
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        fs::write(&program, format!("#!/bin/sh\necho {word}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    assert_eq!(bundle.print(), "first\n");
}

fn path_of_the_caller_does_not_matter() {
    let mut bundle = Bundle::args(&["true"]);
    bundle.set("/process/env", json!(["PATH=/none"]));
    bundle.run_call(&[]).env("PATH", "/bin").output().fails();
    bundle.set("/process/env", json!(["PATH=/bin"]));
    bundle.run_call(&[]).env("PATH", "/none").output().ok();
}

fn environment_keeps_its_order() {
    let env = ["Z=1", "PATH=/bin", "EMPTY=", "A=with = and spaces", "HOME=/h"];
    let mut bundle = Bundle::args(&["/bin/env"]);
    bundle.set("/process/env", json!(env));
    assert_eq!(bundle.print().lines().collect::<Vec<_>>(), env);
}

fn last_of_duplicate_variables_wins() {
    let mut bundle = Bundle::sh("echo $TWICE; env | grep -c TWICE");
    bundle.set("/process/env", json!(["TWICE=first", "PATH=/none", "TWICE=second", "PATH=/bin"]));
    assert_eq!(bundle.print(), "second\n1\n");
}

fn home_is_added() {
    let home = |uid: u32, env: Value| {
        let mut bundle = Bundle::sh("echo $HOME");
        bundle.set("/process/user", json!({ "uid": uid, "gid": uid })).set("/process/env", env);
        bundle.print()
    };
    assert_eq!(home(0, json!(["PATH=/bin"])), "/root\n");
    assert_eq!(home(1000, json!(["PATH=/bin"])), "/home\n", "from the container's /etc/passwd");
    assert_eq!(home(4321, json!(["PATH=/bin"])), "/\n", "a user that is not there");
    assert_eq!(home(1000, json!(["PATH=/bin", "HOME=/given"])), "/given\n");
}

fn working_directory() {
    let mut bundle = Bundle::args(&["/bin/pwd"]);
    bundle.set("/process/cwd", json!("/tmp"));
    assert_eq!(bundle.print(), "/tmp\n");
}

fn working_directory_is_created() {
    let mut bundle = Bundle::args(&["/bin/pwd"]);
    bundle.set("/process/cwd", json!("/not/there/yet"));
    assert_eq!(bundle.print(), "/not/there/yet\n");
}

fn user_and_groups() {
    let status = status_of(|bundle| {
        bundle.set("/process/user", json!({ "uid": 1000, "gid": 1001, "additionalGids": [5, 4294967294u32, 7] }));
    });
    assert_eq!(status_field(&status, "Uid"), "1000 1000 1000 1000");
    assert_eq!(status_field(&status, "Gid"), "1001 1001 1001 1001");
    assert_eq!(status_field(&status, "Groups"), "5 7 4294967294");
}

fn callers_groups_are_dropped() {
    let bundle = Bundle::args(&["/bin/cat", "/proc/self/status"]);
    let prefix = ["setpriv", "--groups", "4,24,27"];
    let status = bundle.run_through(&prefix, &[]).output().ok();
    assert_eq!(status_field(&status, "Groups"), "");
}

/// Podman's `--group-add keep-groups`.
fn callers_groups_are_kept_by_annotation() {
    let mut bundle = Bundle::args(&["/bin/cat", "/proc/self/status"]);
    bundle.set("/annotations", json!({ "run.oci.keep_original_groups": "1" }));
    let prefix = ["setpriv", "--groups", "4,24,27"];
    let status = bundle.run_through(&prefix, &[]).output().ok();
    assert_eq!(status_field(&status, "Groups"), "4 24 27");
}

fn umask() {
    let mut bundle = Bundle::sh("umask; touch /tmp/file");
    bundle.set("/process/user/umask", json!(0o027));
    assert_eq!(bundle.print(), "0027\n");
    assert_eq!(fs::metadata(bundle.inside("/tmp/file")).unwrap().mode() & 0o777, 0o640);
}

fn umask_of_the_caller_does_not_matter() {
    let bundle = Bundle::sh("umask; stat -c %a /dev /dev/shm /dev/null");
    let prefix = ["sh", "-c", "umask 077; exec \"$@\"", "sh"];
    let output = bundle.run_through(&prefix, &[]).output().ok();
    assert_eq!(output, "0022\n755\n1777\n666\n");
}

/// The capabilities in the bit mask `field` of a status text, by number.
fn mask(status: &str, field: &str) -> u64 {
    u64::from_str_radix(&status_field(status, field), 16).unwrap()
}

/// linux/capability.h
const CHOWN: u64 = 1 << 0;
const KILL: u64 = 1 << 5;
const NET_BIND_SERVICE: u64 = 1 << 10;
const SYS_CHROOT: u64 = 1 << 18;

fn capability_sets() {
    let status = status_of(|bundle| {
        bundle.set(
            "/process/capabilities",
            json!({
                "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT"],
                "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_SYS_CHROOT"],
                "effective": ["CAP_KILL"],
                "inheritable": ["CAP_SYS_CHROOT"],
                "ambient": ["CAP_SYS_CHROOT"],
            }),
        );
        // So that execve gives root nothing of its own accord (capabilities(7), "securebits" aside).
        bundle.set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
    });
    assert_eq!(mask(&status, "CapBnd"), CHOWN | KILL | NET_BIND_SERVICE | SYS_CHROOT);
    assert_eq!(mask(&status, "CapInh"), SYS_CHROOT);
    assert_eq!(mask(&status, "CapAmb"), SYS_CHROOT);
    assert_eq!(mask(&status, "CapPrm"), SYS_CHROOT, "what execve leaves to an ordinary user");
    assert_eq!(mask(&status, "CapEff"), SYS_CHROOT);
}

fn no_capabilities_at_all() {
    for absent in [json!({}), Value::Null] {
        let status = status_of(|bundle| {
            if absent.is_null() {
                bundle.unset("/process", "capabilities");
            } else {
                bundle.set("/process/capabilities", absent.clone());
            }
        });
        for field in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(mask(&status, field), 0, "{field} with capabilities {absent}");
        }
    }
}

fn user_without_capabilities() {
    let status = status_of(|bundle| {
        bundle.set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
    });
    assert_eq!(mask(&status, "CapEff"), 0);
    assert_eq!(mask(&status, "CapInh"), 0);
    assert_ne!(mask(&status, "CapBnd"), 0);
}

fn ambient_capabilities_reach_the_user() {
    let mut bundle = Bundle::sh("chown 7:8 /tmp/file && stat -c %u:%g /tmp/file");
    let caps = json!(["CAP_CHOWN"]);
    let sets = json!({ "bounding": caps, "permitted": caps, "effective": caps, "inheritable": caps, "ambient": caps });
    bundle.set("/process/user", json!({ "uid": 1000, "gid": 1000 })).set("/process/capabilities", sets);
    fs::write(bundle.inside("/tmp/file"), "").unwrap();
    assert_eq!(bundle.print(), "7:8\n");
}

fn unknown_capability_is_ignored() {
    let status = status_of(|bundle| {
        for set in ["bounding", "effective", "permitted"] {
            bundle.set(&format!("/process/capabilities/{set}"), json!(["CAP_KILL", "CAP_OF_THE_FUTURE"]));
        }
    });
    assert_eq!(mask(&status, "CapBnd"), KILL);
}

fn no_new_privileges() {
    for (wanted, field) in [(true, "1"), (false, "0")] {
        let status = status_of(|bundle| {
            bundle.set("/process/noNewPrivileges", json!(wanted));
        });
        assert_eq!(status_field(&status, "NoNewPrivs"), field);
    }
}

/// The words of a line of /proc/PID/limits after its name: soft, hard, units.
fn limit(limits: &str, name: &str) -> Vec<String> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in {limits}"));
    line.split_whitespace().take(2).map(str::to_owned).collect()
}

fn rlimits() {
    let mut bundle = Bundle::args(&["/bin/cat", "/proc/self/limits"]);
    let rlimit = |name: &str, soft: u64, hard: u64| json!({ "type": name, "soft": soft, "hard": hard });
    bundle.set(
        "/process/rlimits",
        json!([
            rlimit("RLIMIT_NOFILE", 100, 200),
            rlimit("RLIMIT_CORE", 0, 4096),
            rlimit("RLIMIT_STACK", 1 << 20, 2 << 20),
            rlimit("RLIMIT_CPU", 30, 40),
            rlimit("RLIMIT_FSIZE", 5 << 20, 6 << 20),
            rlimit("RLIMIT_NPROC", 900, 1000),
        ]),
    );
    let limits = bundle.print();
    assert_eq!(limit(&limits, "Max open files"), ["100", "200"]);
    assert_eq!(limit(&limits, "Max core file size"), ["0", "4096"]);
    assert_eq!(limit(&limits, "Max stack size"), ["1048576", "2097152"]);
    assert_eq!(limit(&limits, "Max cpu time"), ["30", "40"]);
    assert_eq!(limit(&limits, "Max file size"), ["5242880", "6291456"]);
    assert_eq!(limit(&limits, "Max processes"), ["900", "1000"]);
}

fn rlimits_are_not_raised_by_themselves() {
    let bundle = Bundle::args(&["/bin/cat", "/proc/self/limits"]);
    let prefix = ["sh", "-c", "ulimit -n 300; exec \"$@\"", "sh"];
    let limits = bundle.run_through(&prefix, &[]).output().ok();
    assert_eq!(limit(&limits, "Max open files"), ["300", "300"]);
}

fn raised_rlimit() {
    let mut bundle = Bundle::args(&["/bin/cat", "/proc/self/limits"]);
    bundle.set("/process/rlimits", json!([{ "type": "RLIMIT_NOFILE", "soft": 900, "hard": 1000 }]));
    let prefix = ["sh", "-c", "ulimit -n 300; exec \"$@\"", "sh"];
    let limits = bundle.run_through(&prefix, &[]).output().ok();
    assert_eq!(limit(&limits, "Max open files"), ["900", "1000"]);
}

/// As Podman asks for it: in a user namespace the container's process itself has no right to raise a limit.
fn raised_rlimit_in_a_user_namespace() {
    let mut bundle = Bundle::args(&["/bin/sleep", "100"]);
    bundle.user_namespace(&[(0, 100_000, 1000)]);
    bundle.set("/process/rlimits", json!([{ "type": "RLIMIT_NOFILE", "soft": 900, "hard": 1000 }]));
    let prefix = ["sh", "-c", "ulimit -n 300; exec \"$@\"", "sh"];
    bundle.output_of(bundle.run_through(&prefix, &["--detach"])).ok();
    let container = bundle.container();
    let limits = fs::read_to_string(format!("/proc/{}/limits", container.pid())).unwrap();
    assert_eq!(limit(&limits, "Max open files"), ["900", "1000"]);
    let limits = Call::through(&prefix, &["exec", &container.id, "/bin/cat", "/proc/self/limits"]).output().ok();
    assert_eq!(limit(&limits, "Max open files"), ["900", "1000"], "exec");
}

fn oom_score_adj() {
    let mut bundle = Bundle::args(&["/bin/cat", "/proc/self/oom_score_adj"]);
    assert_eq!(bundle.print().trim(), fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim(), "the caller's");
    bundle.set("/process/oomScoreAdj", json!(321));
    assert_eq!(bundle.print(), "321\n");
}

fn oom_score_adj_below_the_callers() {
    let mut bundle = Bundle::args(&["/bin/cat", "/proc/self/oom_score_adj"]);
    bundle.set("/process/oomScoreAdj", json!(-500));
    assert_eq!(bundle.print(), "-500\n");
}

fn hostname_and_domainname() {
    let mut bundle = Bundle::sh("hostname; cat /proc/sys/kernel/domainname");
    bundle.set("/hostname", json!("some-host")).set("/domainname", json!("example.org"));
    assert_eq!(bundle.print(), "some-host\nexample.org\n");
}

fn hostname_of_the_host_is_untouched() {
    let before = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    Bundle::args(&["/bin/hostname"]).print();
    assert_eq!(fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), before);
    let mut bundle = Bundle::args(&["/bin/hostname"]);
    bundle.namespace("uts", Some("")).unset("", "hostname");
    assert_eq!(bundle.print(), before);
}

fn sysctl() {
    let values = [("net.ipv4.ip_unprivileged_port_start", "81"), ("kernel.msgmax", "4097"), ("fs.mqueue.msg_max", "11")];
    for (key, value) in values {
        let file = format!("/proc/sys/{}", key.replace('.', "/"));
        if !std::path::Path::new(&file).exists() {
            continue;
        }
        let before = fs::read_to_string(&file).unwrap();
        let mut bundle = Bundle::args(&["/bin/cat", &file]);
        bundle.set("/linux/sysctl", json!({ key: value }));
        assert_eq!(bundle.print().trim(), value, "{key}");
        assert_eq!(fs::read_to_string(&file).unwrap(), before, "the host's {key}");
    }
}

/// Fields 18, 19, 40 and 41 of /proc/PID/stat: priority, nice, rt_priority, policy (proc_pid_stat(5)).
fn scheduler_and_io_priority() {
    let mut bundle = Bundle::sh("ionice; cat /proc/$$/stat");
    bundle.set("/process/scheduler", json!({ "policy": "SCHED_BATCH", "nice": 7 }));
    bundle.set("/process/ioPriority", json!({ "class": "IOPRIO_CLASS_BE", "priority": 6 }));
    let output = bundle.print();
    let (io, stat) = output.split_once('\n').unwrap();
    assert_eq!(io, "best-effort: prio 6");
    let words: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let (nice, policy) = (words[16], words[38]);
    assert_eq!((nice, policy), ("7", "3"), "{stat}");
}

fn personality() {
    let mut bundle = Bundle::args(&["/bin/cat", "/proc/self/personality"]);
    bundle.set("/linux/personality", json!({ "domain": "LINUX32" }));
    assert_eq!(bundle.print(), "00000008\n");
    bundle.set("/process/args", json!(["/bin/sleep", "1000"]));
    let container = bundle.run_detached();
    let output = Call::new(&["exec", &container.id, "cat", "/proc/self/personality"]).output();
    assert_eq!(output.ok(), "00000008\n", "of an exec too");
}
