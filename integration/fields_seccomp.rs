// SPDX-License-Identifier: Apache-2.0
//! `linux.seccomp`, value by value (config-linux.md, "Seccomp"): each row of a table is one action, architecture or flag, and what then
//! becomes of a system call. Operators and the listener of the container's own process are in `seccomp`.

use std::os::fd::{AsFd, AsRawFd};

use nix::poll::{PollFd, PollFlags, poll};
use serde_json::{Value, json};

use crate::harness::bundle::folder;
use crate::harness::elf::{Convention, X32, one_call};
use crate::harness::receive::Receiver;
use crate::harness::{Bundle, Call, Test, skip};
use crate::test;

/// What this file tests.
pub const TESTS: &[Test] = &[
    test!(every_action).differs(&[("crun", "takes a compiled filter from its cache that had another errno")]),
    test!(every_default_action).differs(&[("runc", "makes more calls itself after the filter is loaded")]),
    test!(actions_that_are_wrong_are_refused)
        .differs(&[("runc", "takes an errnoRet that the action has no use for"), ("crun", "names the value and not the field")]),
    test!(calls_newer_than_the_profile_are_not_there).differs(&[
        ("crun", "answers them with the default action"),
        ("runc", "makes more calls itself after the filter is loaded"),
    ]),
    test!(every_convention_of_the_machine),
    test!(every_architecture_is_taken)
        .differs(&[("runc", "refuses those of the other byte order"), ("crun", "does not list them")]),
    test!(log_flag_is_the_kernels),
    test!(wait_killable_needs_a_listener)
        .differs(&[("crun", "loads the filter without it"), ("runc", "does not know the flag with this libseccomp")]),
    test!(exec_has_a_listener_of_its_own).differs(&[("crun", "tells 0 for the pid")]),
    test!(listener_by_annotation).differs(&[("runc", "does not know crun's annotation")]),
];

/// getpriority(2): no side effect, and busybox never makes it.
const GETPRIORITY: u32 = 140;
/// The same on i386.
const GETPRIORITY_I386: u32 = 96;
/// gettid(2) on i386.
const GETTID_I386: u32 = 224;
/// A number that no kernel has.
const NEVER: u32 = 4000;
/// 128 and SIGSYS.
const BAD_CALL: i32 = 128 + 31;
const EPERM: i32 = 1;
const ENOSYS: i32 = 38;

/// A bundle whose program is one call of getpriority under a profile.
fn bundle(profile: Value) -> Bundle {
    let mut bundle = Bundle::args(&["/call"]);
    bundle.set("/linux/seccomp", profile);
    one_call(&bundle, "/call", Convention::Syscall, GETPRIORITY, 0);
    bundle
}

/// How the program of one call ends: with its errno. The runtime's own failures, which end with 1 as well, have a message.
#[track_caller]
fn errno_of(bundle: &Bundle) -> i32 {
    let output = bundle.run();
    assert_eq!(output.stderr, "");
    output.code()
}

fn rule(action: &str, errno: Option<u32>) -> Value {
    let mut rule = json!({ "names": ["getpriority"], "action": action });
    if let Some(errno) = errno {
        rule["errnoRet"] = json!(errno);
    }
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] })
}

fn every_action() {
    assert_eq!(bundle(json!({ "defaultAction": "SCMP_ACT_ALLOW" })).run().code(), 0, "it succeeds by itself");
    for (action, errno, code) in [
        ("SCMP_ACT_ALLOW", None, 0),
        ("SCMP_ACT_LOG", None, 0),
        ("SCMP_ACT_ERRNO", None, EPERM),
        ("SCMP_ACT_ERRNO", Some(77), 77),
        // seccomp(2): without a tracer the call fails with ENOSYS.
        ("SCMP_ACT_TRACE", None, ENOSYS),
        ("SCMP_ACT_TRACE", Some(5), ENOSYS),
        ("SCMP_ACT_TRAP", None, BAD_CALL),
        ("SCMP_ACT_KILL", None, BAD_CALL),
        ("SCMP_ACT_KILL_THREAD", None, BAD_CALL),
        ("SCMP_ACT_KILL_PROCESS", None, BAD_CALL),
    ] {
        assert_eq!(errno_of(&bundle(rule(action, errno))), code, "{action} {errno:?}");
    }
    // An errno of 0 makes the call a success that has not been made.
    assert_eq!(bundle(rule("SCMP_ACT_ERRNO", Some(0))).run().code(), 0);
}

/// What a program of one call needs, and what a runtime may do between its filter and the program.
const NEEDED: [&str; 20] = [
    "execve",
    "execveat",
    "exit_group",
    "exit",
    "write",
    "read",
    "close",
    "futex",
    "prctl",
    "capset",
    "capget",
    "openat",
    "fstat",
    "newfstatat",
    "rt_sigaction",
    "rt_sigprocmask",
    "sched_yield",
    "nanosleep",
    "epoll_pwait",
    "faccessat2",
];

fn every_default_action() {
    for (action, errno, code) in [
        ("SCMP_ACT_ERRNO", None, EPERM),
        ("SCMP_ACT_ERRNO", Some(77), 77),
        ("SCMP_ACT_TRAP", None, BAD_CALL),
        ("SCMP_ACT_KILL", None, BAD_CALL),
        ("SCMP_ACT_KILL_THREAD", None, BAD_CALL),
        ("SCMP_ACT_KILL_PROCESS", None, BAD_CALL),
        ("SCMP_ACT_TRACE", None, ENOSYS),
        ("SCMP_ACT_LOG", None, 0),
    ] {
        // A name with a large number, so that what is asked about is not newer than the profile.
        let names: Vec<&str> = NEEDED.into_iter().chain(["openat2"]).collect();
        let mut profile = json!({ "defaultAction": action, "syscalls": [{ "names": names, "action": "SCMP_ACT_ALLOW" }] });
        if let Some(errno) = errno {
            profile["defaultErrnoRet"] = json!(errno);
        }
        assert_eq!(errno_of(&bundle(profile)), code, "{action} {errno:?}");
    }
}

/// "When the action doesn't support an errno, the runtime MUST print an error and fail."
fn actions_that_are_wrong_are_refused() {
    for profile in [
        rule("SCMP_ACT_OF_THE_FUTURE", None),
        rule("SCMP_ACT_ALLOW", Some(5)),
        rule("SCMP_ACT_KILL", Some(5)),
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 5 }),
        json!({ "defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/run/x" }),
        json!({ "defaultAction": "" }),
        rule("SCMP_ACT_NOTIFY", None),
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_OF_THE_FUTURE"] }),
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "without a path" }),
    ] {
        let message = bundle(profile.clone()).create_fails();
        assert!(message.to_lowercase().contains("seccomp"), "{profile}: {message}");
    }
}

/// As runc does: a program that probes for what its libc knows must not take EPERM for an answer.
fn calls_newer_than_the_profile_are_not_there() {
    let names: Vec<&str> = NEEDED.to_vec();
    let profile =
        |default: &str| json!({ "defaultAction": default, "syscalls": [{ "names": names, "action": "SCMP_ACT_ALLOW" }] });
    // faccessat2 is 439 and the newest that the profile names.
    for (number, code) in [(GETPRIORITY, EPERM), (438, EPERM), (440, ENOSYS), (450, ENOSYS), (NEVER, ENOSYS)] {
        let bundle = bundle(profile("SCMP_ACT_ERRNO"));
        one_call(&bundle, "/call", Convention::Syscall, number, 0);
        assert_eq!(errno_of(&bundle), code, "{number}");
    }
    let killed = bundle(profile("SCMP_ACT_KILL_PROCESS"));
    one_call(&killed, "/call", Convention::Syscall, NEVER, 0);
    assert_eq!(errno_of(&killed), ENOSYS);
}

/// A filter for one convention of the machine says nothing of the others: they are in the profile, or whoever uses them is killed.
fn every_convention_of_the_machine() {
    let with = |architectures: &[&str], convention: Convention, number: u32| {
        let mut profile = rule("SCMP_ACT_ERRNO", Some(77));
        profile["architectures"] = json!(architectures);
        let bundle = bundle(profile);
        one_call(&bundle, "/call", convention, number, 0);
        bundle.run().code()
    };
    let all = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"];
    assert_eq!(with(&all, Convention::Syscall, GETPRIORITY), 77);
    assert_eq!(with(&all, Convention::Syscall, GETPRIORITY | X32), 77);
    assert_eq!(with(&["SCMP_ARCH_X86_64"], Convention::Syscall, GETPRIORITY | X32), BAD_CALL);
    let plain = bundle(json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": all }));
    // In user-mode Linux it is a call of x86_64, where this number is timer_gettime(2), which fails.
    one_call(&plain, "/call", Convention::Int80, GETTID_I386, 0);
    if plain.run().code() != 0 {
        skip("all but int $0x80, which this kernel does not have");
    }
    assert_eq!(with(&all, Convention::Int80, GETPRIORITY_I386), 77);
    assert_eq!(with(&["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"], Convention::Int80, GETPRIORITY_I386), BAD_CALL);
}

/// All that `features` names, also those that never run here; the native one is in every profile.
fn every_architecture_is_taken() {
    let features: Value = serde_json::from_str(&Call::new(&["features"]).output().ok()).unwrap();
    let listed: Vec<String> = serde_json::from_value(features["linux"]["seccomp"]["archs"].clone()).unwrap();
    assert!(listed.len() >= 18, "{listed:?}");
    let mut all = rule("SCMP_ACT_ERRNO", Some(77));
    all["architectures"] = json!(listed);
    assert_eq!(bundle(all).run().code(), 77);
}

/// PTRACE_SECCOMP_GET_METADATA (ptrace(2)): the kernel tells of a filter whether it logs.
fn log_flag_is_the_kernels() {
    for (flags, expected) in [(json!([]), 0u64), (json!(["SECCOMP_FILTER_FLAG_LOG"]), 2)] {
        let mut profile = rule("SCMP_ACT_ERRNO", None);
        profile["flags"] = flags.clone();
        let mut bundle = Bundle::new();
        bundle.set("/linux/seccomp", profile);
        let container = bundle.run_detached();
        let pid = nix::unistd::Pid::from_raw(container.pid());
        nix::sys::ptrace::attach(pid).unwrap();
        nix::sys::wait::waitpid(pid, Some(nix::sys::wait::WaitPidFlag::__WALL)).unwrap();
        let mut metadata = [0u64; 2];
        // SAFETY: the kernel writes at most the given size into the array, a struct seccomp_metadata.
        let size = unsafe { libc::ptrace(0x420d, pid.as_raw(), std::mem::size_of_val(&metadata), metadata.as_mut_ptr()) };
        let error = std::io::Error::last_os_error();
        nix::sys::ptrace::detach(pid, None).unwrap();
        if size < 0 {
            skip(&format!("this kernel tells nothing of a filter: {error}"));
        }
        assert_eq!(metadata[1], expected, "{flags}");
    }
}

fn wait_killable_needs_a_listener() {
    let mut profile = rule("SCMP_ACT_ERRNO", None);
    profile["flags"] = json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]);
    let message = bundle(profile).create_fails();
    assert!(message.contains("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"), "{message}");
    let receiver = Receiver::new("killable");
    let mut profile = rule("SCMP_ACT_NOTIFY", None);
    profile["flags"] = json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]);
    profile["listenerPath"] = json!(receiver.path());
    let mut bundle = bundle(profile);
    bundle.set("/process/args", json!(["/bin/echo", "ran"]));
    assert_eq!(bundle.print(), "ran\n");
    drop(receiver.receive());
}

/// A profile whose listener is asked about getpriority.
fn notifying(receiver: &Receiver) -> Value {
    let mut profile = rule("SCMP_ACT_NOTIFY", None);
    profile["listenerPath"] = json!(receiver.path());
    profile["listenerMetadata"] = json!("told to each");
    profile
}

/// The process of an exec is told of with its own pid, and waits for its own listener.
fn exec_has_a_listener_of_its_own() {
    let receiver = Receiver::new("exec");
    let mut bundle = bundle(notifying(&receiver));
    bundle.set("/process/args", json!(["/bin/sleep", "1000"]));
    let container = bundle.run_detached();
    let (text, _first) = receiver.receive();
    let of_create: Value = serde_json::from_str(&text).unwrap();
    let pid_file = folder().join("exec-pid");
    let words = ["exec", "--pid-file", pid_file.to_str().unwrap(), &container.id, "/bin/sh", "-c", "echo ready; /call; echo $?"];
    let mut call = Call::new(&words).spawn();
    call.wait_for("ready");
    let (text, fd) = receiver.receive();
    let of_exec: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&of_create["pid"], &of_create["metadata"]), (&json!(container.pid()), &json!("told to each")));
    assert_eq!(of_exec["pid"].to_string(), std::fs::read_to_string(pid_file).unwrap().trim());
    assert_eq!((&of_exec["metadata"], &of_exec["fds"]), (&json!("told to each"), &json!(["seccompFd"])));
    assert_eq!(of_exec["state"]["id"], json!(bundle.id), "{of_exec}");
    let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
    assert_eq!(link.to_str().unwrap(), "anon_inode:seccomp notify");
    assert_eq!(
        poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], 10_000u16),
        Ok(1),
        "the call is announced to this listener"
    );
    drop(fd);
    assert_eq!(call.finish().ok(), format!("ready\n{ENOSYS}\n"));
}

fn listener_by_annotation() {
    let receiver = Receiver::new("annotated");
    let mut bundle = bundle(rule("SCMP_ACT_NOTIFY", None));
    bundle
        .set("/annotations", json!({ "run.oci.seccomp.receiver": receiver.path() }))
        .set("/process/args", json!(["/bin/echo", "ran"]));
    assert_eq!(bundle.print(), "ran\n");
    let (text, _fd) = receiver.receive();
    assert!(text.contains(&bundle.id), "{text}");
}
