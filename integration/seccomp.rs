// SPDX-License-Identifier: Apache-2.0
//! Seccomp: what the filter does to the program's system calls (config-linux.md "Seccomp", seccomp(2)).

use std::fs;
use std::os::fd::{AsFd, AsRawFd};

use nix::poll::{PollFd, PollFlags, poll};
use serde_json::{Value, json};

use crate::harness::look::status_field;
use crate::harness::receive::Receiver;
use crate::harness::{Bundle, Test};
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(filter_is_on),
    test!(no_filter_unless_asked),
    test!(denied_call_fails),
    test!(given_errno),
    test!(allow_list_of_an_engine),
    test!(arguments_are_compared),
    test!(several_conditions_must_all_hold),
    test!(kill_process),
    test!(trap),
    test!(log_allows),
    test!(unknown_calls_are_left_out),
    test!(other_architectures),
    test!(without_no_new_privileges),
    test!(flags),
    test!(unknown_flag_is_refused).differs(&[("crun", "ignores it")]),
    test!(listener),
];

/// The calls that an engine's default profile allows: about 370 names.
const ALLOWED: &str = include_str!("syscalls.txt");

/// A bundle whose program is a script under a profile.
fn bundle(script: &str, seccomp: Value) -> Bundle {
    let mut bundle = Bundle::sh(script);
    bundle.set("/linux/seccomp", seccomp);
    bundle
}

/// A profile that allows all but what one rule says.
fn but(rule: Value) -> Value {
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [rule] })
}

/// The calls by which mkdir(1) makes a directory, on any architecture.
const MKDIR: [&str; 2] = ["mkdir", "mkdirat"];

fn filter_is_on() {
    let mut bundle = bundle("", but(json!({ "names": MKDIR, "action": "SCMP_ACT_ERRNO" })));
    bundle.set("/process/args", json!(["/bin/cat", "/proc/self/status"]));
    let status = bundle.print();
    assert_eq!(status_field(&status, "Seccomp"), "2", "mode 2: a filter");
    assert_eq!(status_field(&status, "NoNewPrivs"), "1");
}

fn no_filter_unless_asked() {
    let before = status_field(&fs::read_to_string("/proc/self/status").unwrap(), "Seccomp_filters");
    let status = Bundle::args(&["/bin/cat", "/proc/self/status"]).print();
    assert_eq!(status_field(&status, "Seccomp_filters"), before);
}

fn denied_call_fails() {
    let output = bundle("mkdir /tmp/new; echo $?", but(json!({ "names": MKDIR, "action": "SCMP_ACT_ERRNO" }))).run();
    assert_eq!(output.stdout, "1\n");
    assert!(output.stderr.contains("Operation not permitted"), "EPERM is the default: {output:?}");
}

fn given_errno() {
    let rule = json!({ "names": MKDIR, "action": "SCMP_ACT_ERRNO", "errnoRet": 28 });
    let output = bundle("mkdir /tmp/new", but(rule)).run();
    assert!(output.stderr.contains("No space left on device"), "{output:?}");
    let mut profile = allow_list();
    profile["defaultErrnoRet"] = json!(28);
    let output = bundle("mkdir /tmp/new", profile).run();
    assert!(output.stderr.contains("No space left on device"), "{output:?}");
}

/// As engines write it: everything fails but a long list; clone without new namespaces; clone3 is not there at all.
fn allow_list() -> Value {
    let names: Vec<&str> = ALLOWED.split_whitespace().collect();
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            { "names": names, "action": "SCMP_ACT_ALLOW" },
            { "names": ["clone"], "action": "SCMP_ACT_ALLOW",
              "args": [{ "index": 0, "value": 2_114_060_288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" }] },
            { "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 },
        ],
    })
}

fn allow_list_of_an_engine() {
    let script = "mkdir /tmp/new; unshare -U true; (echo subshell); echo x | cat; touch /tmp/file && rm /tmp/file && echo done";
    let output = bundle(script, allow_list()).run();
    assert_eq!(output.stdout, "subshell\nx\ndone\n");
    assert_eq!(output.stderr.matches("Operation not permitted").count(), 2, "{output:?}");
}

/// Which of these numbers the shell may send itself as a signal.
fn allowed_signals(args: Value) -> Vec<u64> {
    let script = "for n in 10 12 17 18 23 28; do kill -$n $$ 2>/dev/null && echo $n; done; exit 0";
    let rule = json!({ "names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": args });
    bundle(script, but(rule)).print().lines().map(|line| line.parse().unwrap()).collect()
}

fn arguments_are_compared() {
    let all = [10, 12, 17, 18, 23, 28];
    let denies = |op: &str, value: u64, two: u64, signal: u64| match op {
        "SCMP_CMP_EQ" => signal == value,
        "SCMP_CMP_NE" => signal != value,
        "SCMP_CMP_LT" => signal < value,
        "SCMP_CMP_LE" => signal <= value,
        "SCMP_CMP_GE" => signal >= value,
        "SCMP_CMP_GT" => signal > value,
        _ => signal & value == two,
    };
    for (op, value, two) in [
        ("SCMP_CMP_EQ", 17, 0),
        ("SCMP_CMP_NE", 17, 0),
        ("SCMP_CMP_LT", 17, 0),
        ("SCMP_CMP_LE", 17, 0),
        ("SCMP_CMP_GE", 17, 0),
        ("SCMP_CMP_GT", 17, 0),
        ("SCMP_CMP_MASKED_EQ", 0x8, 0x8),
    ] {
        let args = json!([{ "index": 1, "value": value, "valueTwo": two, "op": op }]);
        let expected: Vec<u64> = all.into_iter().filter(|signal| !denies(op, value, two, *signal)).collect();
        assert_eq!(allowed_signals(args), expected, "{op} {value}");
    }
}

fn several_conditions_must_all_hold() {
    let args = json!([
        { "index": 0, "value": 1, "op": "SCMP_CMP_EQ" },
        { "index": 1, "value": 18, "op": "SCMP_CMP_EQ" },
    ]);
    assert_eq!(allowed_signals(args), [10, 12, 17, 23, 28]);
}

/// 128 and SIGSYS.
const BAD_CALL: i32 = 128 + 31;

fn kill_process() {
    let output =
        bundle("echo before; exec mkdir /tmp/new", but(json!({ "names": MKDIR, "action": "SCMP_ACT_KILL_PROCESS" }))).run();
    assert_eq!(output.stdout, "before\n");
    assert_eq!(output.code(), BAD_CALL);
}

fn trap() {
    let script = "sh -c 'exec mkdir /tmp/new'; echo $?";
    let output = bundle(script, but(json!({ "names": MKDIR, "action": "SCMP_ACT_TRAP" }))).run();
    assert_eq!(output.stdout, format!("{BAD_CALL}\n"), "{output:?}");
}

fn log_allows() {
    let output = bundle("mkdir /tmp/new && echo made", but(json!({ "names": MKDIR, "action": "SCMP_ACT_LOG" }))).run();
    assert_eq!(output.stdout, "made\n");
}

fn unknown_calls_are_left_out() {
    let rule = json!({ "names": ["call_of_the_future", "mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" });
    let output = bundle("mkdir /tmp/new; echo $?", but(rule)).run();
    assert_eq!(output.stdout, "1\n");
}

fn other_architectures() {
    let mut profile = but(json!({ "names": MKDIR, "action": "SCMP_ACT_ERRNO" }));
    profile["architectures"] =
        json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]);
    assert_eq!(bundle("mkdir /tmp/new 2>/dev/null; echo $?", profile.clone()).print(), "1\n");
    profile.as_object_mut().unwrap().remove("architectures");
    assert_eq!(bundle("mkdir /tmp/new 2>/dev/null; echo $?", profile).print(), "1\n", "the native one by default");
}

/// The filter is then installed with privileges that the program no longer has.
fn without_no_new_privileges() {
    let mut bundle = bundle("mkdir /tmp/new; grep -E 'NoNewPrivs|CapEff' /proc/self/status", allow_list());
    bundle.set("/process/noNewPrivileges", json!(false)).set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
    let output = bundle.run();
    assert_eq!(output.stdout, "CapEff:\t0000000000000000\nNoNewPrivs:\t0\n", "{output:?}");
    assert!(output.stderr.contains("Operation not permitted"), "{output:?}");
}

fn flags() {
    for flag in ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"] {
        let mut profile = but(json!({ "names": MKDIR, "action": "SCMP_ACT_ERRNO" }));
        profile["flags"] = json!([flag]);
        assert_eq!(bundle("mkdir /tmp/new 2>/dev/null; echo $?", profile).print(), "1\n", "{flag}");
    }
}

fn unknown_flag_is_refused() {
    let mut profile = but(json!({ "names": MKDIR, "action": "SCMP_ACT_ERRNO" }));
    profile["flags"] = json!(["SECCOMP_FILTER_FLAG_OF_THE_FUTURE"]);
    let message = bundle("true", profile).create_fails();
    assert!(message.contains("SECCOMP_FILTER_FLAG_OF_THE_FUTURE"), "{message}");
}

/// The listener's descriptor is sent to listenerPath with the container's state; the call waits for an answer.
fn listener() {
    let receiver = Receiver::new("listener");
    let mut profile = but(json!({ "names": MKDIR, "action": "SCMP_ACT_NOTIFY" }));
    profile["listenerPath"] = json!(receiver.path());
    profile["listenerMetadata"] = json!("what the engine wants to know");
    let bundle = bundle("echo before; mkdir /tmp/new; echo after", profile);
    let container = bundle.create();
    container.start();
    let (text, fd) = receiver.receive();
    let state: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(state["fds"], json!(["seccompFd"]));
    assert_eq!(state["metadata"], "what the engine wants to know");
    assert_eq!(state["pid"], json!(container.pid()));
    assert_eq!(state["state"]["id"], json!(bundle.id));
    assert_eq!(state["state"]["bundle"], json!(bundle.path()));
    let link = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
    assert_eq!(link.to_str().unwrap(), "anon_inode:seccomp notify");
    container.wait_stdout("before\n");
    let mut waiting = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut waiting, 10_000u16), Ok(1), "the call is announced");
    assert_eq!(container.stdout(), "before\n");
    drop(fd);
    // Without a listener the call fails with ENOSYS.
    container.wait_stdout("after\n");
}
