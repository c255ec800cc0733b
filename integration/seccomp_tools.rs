// SPDX-License-Identifier: Apache-2.0
//! `seccomp explain` says what the kernel does; a profile that `seccomp record` wrote lets the same program run and stops another. Other
//! runtimes have neither.

use std::fs;

use serde_json::{Value, json};

use crate::harness::bundle::{folder, new_id};
use crate::harness::elf::{Convention, one_call};
use crate::harness::{Bundle, Call, Test};
use crate::test;

const OWN: &[(&str, &str)] = &[("runc", "has no seccomp command"), ("crun", "has no seccomp command")];

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(explain_tells_what_the_kernel_does).differs(OWN),
    test!(explain_reads_profiles_of_engines).differs(OWN),
    test!(explain_refuses_what_it_cannot_answer).differs(OWN),
    test!(recorded_profile_is_the_smallest).differs(OWN),
    test!(recorded_profile_lets_the_same_run_and_stops_another).differs(OWN),
    test!(recorded_profile_without_no_new_privileges).differs(OWN),
    test!(record_ends_as_the_program_does).differs(OWN),
    test!(record_adds_to_what_was_recorded).differs(OWN),
    test!(exec_in_a_recorded_container_is_as_configured).differs(OWN),
];

fn file() -> String {
    folder().join(format!("profile-{}.json", new_id())).to_str().unwrap().to_owned()
}

fn explain(words: &[&str]) -> String {
    Call::new(&[&["seccomp", "explain"], words].concat()).output().ok()
}

fn explain_tells_what_the_kernel_does() {
    let mut bundle = Bundle::sh("mkdir /tmp/new; ln -s a /tmp/b; echo $?");
    bundle.set(
        "/linux/seccomp",
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [
                { "names": ["reboot"], "action": "SCMP_ACT_KILL" },
                { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28 },
                { "names": ["personality"], "action": "SCMP_ACT_ERRNO", "args": [{ "index": 0, "value": 8, "op": "SCMP_CMP_NE" }] },
            ],
        }),
    );
    bundle.save();
    let config = bundle.dir.join("config.json");
    let config = config.to_str().unwrap();
    let said = explain(&[config, "mkdirat"]);
    assert!(said.ends_with(": SCMP_ACT_ERRNO ENOSPC (28) by linux.seccomp.syscalls[1]\n"), "{said}");
    let said = explain(&[config, "symlinkat"]);
    assert!(said.ends_with(": SCMP_ACT_ALLOW by linux.seccomp.defaultAction\n"), "{said}");
    let output = bundle.run();
    assert!(output.stderr.contains("No space left on device") && output.stdout == "0\n", "{output:?}");
    // Arguments decide, as far as they are given.
    let said = explain(&[config, "personality"]);
    assert!(
        said.contains(
            "depends on its arguments\n  SCMP_ACT_ERRNO EPERM (1) by linux.seccomp.syscalls[2], where args[0] != 0x8\n"
        ),
        "{said}"
    );
    assert!(explain(&[config, "personality", "8"]).contains(": SCMP_ACT_ALLOW by"));
    assert!(explain(&[config, "personality", "-1"]).contains(": SCMP_ACT_ERRNO EPERM (1) by"));
    let answer: Value = serde_json::from_str(&explain(&["--format", "json", config, "mkdirat"])).unwrap();
    assert_eq!(
        answer["cases"],
        json!([{ "action": "SCMP_ACT_ERRNO", "errno": 28, "errnoName": "ENOSPC", "by": "linux.seccomp.syscalls[1]", "where": [] }])
    );
    assert_eq!((&answer["decided"], &answer["syscall"]), (&json!(true), &json!("mkdirat")));
    bundle.unset("/linux", "seccomp");
    bundle.save();
    assert!(explain(&[config, "mkdirat"]).contains("every system call is allowed"));
}

/// Docker's, containerd's and Podman's profiles say of each rule for which containers it is.
fn explain_reads_profiles_of_engines() {
    let path = file();
    let profile = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [{ "architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"] }],
        "syscalls": [
            { "names": ["read", "openat2"], "action": "SCMP_ACT_ALLOW", "comment": "", "args": null },
            { "names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": { "caps": ["CAP_SYS_ADMIN"] }, "excludes": {} },
            { "names": ["chroot"], "action": "SCMP_ACT_ALLOW", "includes": { "caps": ["CAP_SYS_CHROOT"] } },
            { "names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": { "minKernel": "99.0" } },
        ],
    });
    fs::write(&path, profile.to_string()).unwrap();
    let said = explain(&[&path, "mount", "--arch", "x86_64"]);
    assert!(said.contains(": SCMP_ACT_ERRNO EPERM (1) by defaultAction\n"), "{said}");
    assert!(said.contains("left out: syscalls[1] is not for this container: includes.caps has CAP_SYS_ADMIN"), "{said}");
    assert!(
        explain(&[&path, "mount", "--arch", "amd64", "--cap", "CAP_SYS_ADMIN"]).contains(": SCMP_ACT_ALLOW by syscalls[1]\n")
    );
    assert!(explain(&[&path, "chroot"]).contains(": SCMP_ACT_ALLOW by syscalls[2]\n"), "Docker gives that capability");
    assert!(explain(&[&path, "ptrace"]).contains("includes.minKernel is 99.0"));
    // i386 is among that machine's architectures, x32 is not.
    assert!(explain(&[&path, "read", "--arch", "x86"]).contains("(3 on SCMP_ARCH_X86): SCMP_ACT_ALLOW by syscalls[0]\n"));
    assert!(explain(&[&path, "read", "--arch", "SCMP_ARCH_RISCV64"]).contains("(63 on SCMP_ARCH_RISCV64): SCMP_ACT_ALLOW"));
}

fn explain_refuses_what_it_cannot_answer() {
    let path = file();
    fs::write(&path, r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#).unwrap();
    for (words, named) in [
        (&["explain", &path][..], "SYSCALL"),
        (&["explain", &path, "no_such_call"], "no_such_call"),
        (&["explain", &path, "read", "AT_FDCWD"], "AT_FDCWD"),
        (&["explain", &path, "read", "--arch", "z80"], "z80"),
        (&["explain", "/no/such/file", "read"], "/no/such/file"),
        (&["forget"], "forget"),
    ] {
        let said = Call::new(&[&["seccomp"], words].concat()).output().fails();
        assert!(said.contains(named), "{words:?}: {said}");
    }
    fs::write(&path, r#"{"defaultAction":"SCMP_ACT_NO"}"#).unwrap();
    assert!(Call::new(&["seccomp", "explain", &path, "read"]).output().fails().contains("SCMP_ACT_NO"));
    fs::write(&path, "{}").unwrap();
    assert!(Call::new(&["seccomp", "explain", &path, "read"]).output().fails().contains("defaultAction"));
}

/// Records a run of the bundle, with options and a program; returns the exit status and the profile.
#[track_caller]
fn record(bundle: &Bundle, options: &[&str], program: &[&str]) -> (i32, Value) {
    let path = file();
    let words = [&["seccomp", "record", "--bundle", bundle.path(), "--output", &path], options, &[&bundle.id], program].concat();
    bundle.save();
    let output = bundle.output_of(Call::new(&words));
    assert!(output.stderr.contains("system calls"), "{output:?}");
    assert!(Call::new(&["state", &bundle.id]).output().code() != 0, "the container is still there");
    (output.code(), serde_json::from_slice(&fs::read(&path).unwrap()).unwrap())
}

fn names(profile: &Value) -> Vec<&str> {
    assert_eq!(profile["syscalls"].as_array().unwrap().len(), 1, "{profile}");
    profile["syscalls"][0]["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
}

/// A program that is known to the last instruction.
fn recorded_profile_is_the_smallest() {
    const GETPRIORITY: u32 = 140;
    let mut bundle = Bundle::args(&["/call"]);
    one_call(&bundle, "/call", Convention::Syscall, GETPRIORITY, 0);
    let (_, profile) = record(&bundle, &[], &[]);
    assert_eq!(names(&profile), ["execve", "exit_group", "getpriority"]);
    assert_eq!((&profile["defaultAction"], &profile["architectures"]), (&json!("SCMP_ACT_ERRNO"), &json!(["SCMP_ARCH_X86_64"])));
    bundle.set("/linux/seccomp", profile);
    assert_eq!(bundle.run().code(), 0);
    // A 32-bit call, where this kernel takes those: user-mode Linux makes timer_gettime(2) of it, which fails.
    one_call(&bundle, "/call", Convention::Int80, 224, 0);
    bundle.unset("/linux", "seccomp");
    if bundle.run().status.code() == Some(0) {
        let (_, profile) = record(&bundle, &[], &[]);
        assert!(profile["architectures"].as_array().unwrap().contains(&json!("SCMP_ARCH_X86")), "{profile}");
        assert!(names(&profile).contains(&"gettid"), "{profile}");
    }
}

const WORK: &str = "echo one; cat /proc/self/comm; (sleep 0.01; echo two) & wait; ls / | wc -l";

fn recorded_profile_lets_the_same_run_and_stops_another() {
    let mut bundle = Bundle::sh(WORK);
    let expected = bundle.run().ok();
    let (status, profile) = record(&bundle, &[], &[]);
    assert_eq!(status, 0);
    // The program's own output was where a run has it.
    let wanted = names(&profile);
    assert!(wanted.contains(&"execve") && !wanted.iter().any(|name| name.contains("mkdir")), "{wanted:?}");
    bundle.set("/linux/seccomp", profile.clone());
    assert_eq!(bundle.run().ok(), expected);
    let mut other = Bundle::sh("mkdir /tmp/new && echo made");
    other.set("/linux/seccomp", profile);
    let output = other.run();
    assert!(output.stderr.contains("Operation not permitted") && !output.stdout.contains("made"), "{output:?}");
    // The program of the command line is run instead of the configuration's.
    let (_, profile) = record(&bundle, &[], &["--", "/bin/mkdir", "/tmp/new"]);
    assert!(names(&profile).iter().any(|name| name.starts_with("mkdir")), "{profile}");
    other.set("/linux/seccomp", profile);
    other.set("/process/args", json!(["/bin/mkdir", "/tmp/new"]));
    assert_eq!(other.run().code(), 0);
}

/// The filter is then loaded before capabilities are dropped, which is done under it.
fn recorded_profile_without_no_new_privileges() {
    let mut bundle = Bundle::sh("echo done");
    bundle.set("/process/noNewPrivileges", json!(false));
    let (_, profile) = record(&bundle, &[], &[]);
    assert!(names(&profile).contains(&"capset"), "{profile}");
    bundle.set("/linux/seccomp", profile);
    assert_eq!(bundle.run().ok(), "done\n");
}

fn record_ends_as_the_program_does() {
    // Processes that are killed with the first one are in nobody's way.
    let bundle = Bundle::sh("sleep 1000 & exit 7");
    assert_eq!(record(&bundle, &[], &[]).0, 7);
    let path = file();
    let missing = Bundle::args(&["/no/such/program"]);
    missing.save();
    let said = missing.output_of(Call::new(&["seccomp", "record", "--bundle", missing.path(), "-o", &path])).fails();
    assert!(said.contains("/no/such/program"), "{said}");
    assert!(!std::path::Path::new(&path).exists());
    // To stdout, after what the program prints.
    let bundle = Bundle::sh("echo first");
    bundle.save();
    let output = bundle.output_of(Call::new(&["seccomp", "record", "--bundle", bundle.path(), "--output=-"])).ok();
    let profile: Value = serde_json::from_str(output.strip_prefix("first\n").unwrap()).unwrap();
    assert!(names(&profile).contains(&"execve"));
}

fn record_adds_to_what_was_recorded() {
    let bundle = Bundle::sh("true");
    let path = file();
    bundle.save();
    let run = |options: &[&str], script: &str| {
        let words =
            [&["seccomp", "record", "-b", bundle.path(), "-o", &path], options, &["--", "/bin/sh", "-c", script]].concat();
        bundle.output_of(Call::new(&words)).ok();
        serde_json::from_slice::<Value>(&fs::read(&path).unwrap()).unwrap()
    };
    let has = |profile: &Value, call: &str| names(profile).iter().any(|name| name.starts_with(call));
    run(&[], "mkdir /tmp/a");
    let both = run(&["--add"], "ln -s x /tmp/b");
    assert!(has(&both, "mkdir") && has(&both, "symlink"), "{both}");
    let one = run(&[], "ln -s x /tmp/c");
    assert!(!has(&one, "mkdir") && has(&one, "symlink"), "{one}");
}

/// The recorder's filter is for the container's own program: what is executed beside it has the configuration's, and is not recorded.
fn exec_in_a_recorded_container_is_as_configured() {
    let mut bundle = Bundle::sh("echo up; while [ ! -e /tmp/go ]; do sleep 0.05; done");
    let rule = json!({ "names": ["symlink", "symlinkat"], "action": "SCMP_ACT_ERRNO" });
    bundle.set("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] }));
    bundle.save();
    let path = file();
    let words = ["seccomp", "record", "--bundle", bundle.path(), "--output", &path, &bundle.id];
    let _guard = bundle.container();
    let mut recorded = Call::new(&words).spawn();
    recorded.wait_for("up\n");
    let output = bundle.output_of(Call::new(&["exec", &bundle.id, "/bin/ln", "-s", "a", "/tmp/link"]));
    assert!(output.stderr.contains("Operation not permitted"), "{output:?}");
    bundle.output_of(Call::new(&["exec", &bundle.id, "/bin/touch", "/tmp/go"])).ok();
    assert_eq!(recorded.finish().code(), 0);
    let profile: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert!(!names(&profile).iter().any(|name| name.starts_with("symlink") || name.starts_with("utimensat")), "{profile}");
}
