// SPDX-License-Identifier: Apache-2.0
//! What the program inherits of its caller: descriptors, stdio, signals, keyring; and what it must not.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use serde_json::json;

use crate::harness::bundle::{folder, state_root};
use crate::harness::look::eventually;
use crate::harness::receive::Receiver;
use crate::harness::{Bundle, Call, Need, Test, look};
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(too_few_descriptors_leave_nothing),
    test!(only_stdio_is_open),
    test!(callers_other_descriptors_are_closed),
    test!(preserved_descriptors),
    test!(preserved_descriptor_that_is_not_open)
        .differs(&[("runc", "leaves its state directory when it refuses this"), ("crun", "passes what there is")]),
    test!(listen_fds).differs(&[("crun", "sets no LISTEN_PID")]),
    test!(listen_fds_for_somebody_else).differs(&[("crun", "does not look at LISTEN_PID")]),
    test!(callers_environment_is_not_inherited),
    test!(closed_stdio_becomes_dev_null).differs(&[("crun", "leaves it closed")]),
    test!(stdio_is_given_to_the_user).differs(&[("crun", "gives it to the user's group as well")]),
    test!(ignored_and_blocked_signals_are_reset).differs(&[
        ("runc", "resets only what Go resets"),
        ("crun", "resets with sigaction(3), which cannot name signals 32 and 33, and posix_spawn(3) ignores these"),
    ]),
    test!(new_session_keyring).needs(&[Need::File("/proc/keys")]),
    test!(no_new_keyring).needs(&[Need::File("/proc/keys")]),
    test!(init_has_no_controlling_terminal),
    test!(pidfd_socket).differs(&[("crun", "has no --pidfd-socket")]),
];

/// `run` through bash, which redirects descriptors first.
fn run_redirected(bundle: &Bundle, redirections: &str, options: &[&str]) -> Call {
    bundle.run_through(&["bash", "-c", &format!("exec \"$@\" {redirections}"), "bash"], options)
}

/// The fourth descriptor is that of `ls` itself on the directory.
fn only_stdio_is_open() {
    assert_eq!(Bundle::args(&["/bin/ls", "/proc/self/fd"]).print(), "0\n1\n2\n3\n");
}

fn callers_other_descriptors_are_closed() {
    let bundle = Bundle::args(&["/bin/ls", "/proc/self/fd"]);
    let output = run_redirected(&bundle, "3</ 4</ 9</ 200</proc", &[]).output();
    assert_eq!(output.ok(), "0\n1\n2\n3\n");
}

fn preserved_descriptors() {
    let (three, four) = (folder().join("three"), folder().join("four"));
    fs::write(&three, "the third\n").unwrap();
    fs::write(&four, "the fourth\n").unwrap();
    let bundle = Bundle::sh("cat <&3; cat <&4; ls /proc/self/fd | tr '\\n' ' '");
    let redirections = format!("3<{} 4<{} 5</", three.display(), four.display());
    let output = run_redirected(&bundle, &redirections, &["--preserve-fds", "2"]).output();
    assert_eq!(output.ok(), "the third\nthe fourth\n0 1 2 3 4 5 ", "5 is that of `ls`");
}

fn preserved_descriptor_that_is_not_open() {
    let bundle = Bundle::args(&["/bin/true"]);
    run_redirected(&bundle, "3</dev/null 4<&-", &["--preserve-fds", "30"]).output().fails();
}

fn listen_fds() {
    let file = folder().join("file");
    fs::write(&file, "a socket of systemd's\n").unwrap();
    let bundle = Bundle::sh("echo $LISTEN_FDS $LISTEN_PID $$; cat <&3");
    let script = format!("LISTEN_FDS=1 LISTEN_PID=$$; export LISTEN_FDS LISTEN_PID; exec \"$@\" 3<{}", file.display());
    let output = bundle.run_through(&["sh", "-c", &script, "sh"], &[]).output();
    assert_eq!(output.ok(), "1 1 1\na socket of systemd's\n");
}

fn listen_fds_for_somebody_else() {
    let bundle = Bundle::sh("echo ${LISTEN_FDS-none}; ls /proc/self/fd | tr '\\n' ' '");
    let call = run_redirected(&bundle, "3</dev/null", &[]).env("LISTEN_FDS", "1").env("LISTEN_PID", "1");
    assert_eq!(call.output().ok(), "none\n0 1 2 3 ", "3 is that of `ls`");
}

fn callers_environment_is_not_inherited() {
    let mut bundle = Bundle::args(&["/bin/env"]);
    bundle.set("/process/env", json!(["PATH=/bin", "ONE=1", "HOME=/somewhere"]));
    let output =
        bundle.run_call(&[]).env("FROM_CALLER", "1").env("GOMAXPROCS", "2").env("LD_LIBRARY_PATH", "/none").output().ok();
    let mut lines: Vec<&str> = output.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["HOME=/somewhere", "ONE=1", "PATH=/bin"]);
}

fn closed_stdio_becomes_dev_null() {
    let bundle = Bundle::sh("ls -l /proc/self/fd/0 >&2; cat; echo read $? >&2");
    bundle.save();
    let container = bundle.container();
    let arguments = ["create", "--bundle", bundle.path(), bundle.id.as_str()];
    bundle.output_of(Call::through(&["sh", "-c", "exec \"$@\" <&- >&-", "sh"], &arguments)).ok();
    container.start();
    eventually("cat ends", || container.stderr().contains("read 0"));
    assert!(container.stderr().contains("/dev/null"), "{}", container.stderr());
}

/// So that a program of an ordinary user can open /dev/stdout again: its owner becomes the user, not its group.
fn stdio_is_given_to_the_user() {
    let mut bundle = Bundle::sh("echo again >/proc/self/fd/1");
    bundle.set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
    let container = bundle.run_detached();
    container.wait_stdout("again\n");
    let owner = fs::metadata(bundle.stdout_file()).unwrap();
    assert_eq!((owner.uid(), owner.gid()), (1000, 0));
    assert_eq!(fs::metadata("/dev/null").unwrap().uid(), 0, "the caller's /dev/null is not given away");
}

fn ignored_and_blocked_signals_are_reset() {
    let bundle = Bundle::args(&["/bin/cat", "/proc/self/status"]);
    let prefix = ["env", "--ignore-signal=INT,TERM,HUP,PIPE,USR1", "--block-signal=USR2,CHLD,WINCH,RTMIN"];
    let status = bundle.run_through(&prefix, &[]).output().ok();
    for field in ["SigBlk", "SigIgn", "SigCgt", "SigPnd"] {
        assert_eq!(look::status_field(&status, field), "0000000000000000", "{field}");
    }
}

/// The keyrings that the container's program can see by name; its own session keyring is called after the container.
fn session_keyrings(options: &[&str]) -> String {
    let mut bundle = Bundle::sh("cat /proc/keys && echo read");
    bundle.set("/linux/maskedPaths", json!([]));
    let output = bundle.run_call(options).output().ok();
    assert!(output.ends_with("read\n"), "{output}");
    output.lines().filter(|line| line.contains("keyring") && line.contains(&bundle.id)).collect()
}

fn new_session_keyring() {
    assert_ne!(session_keyrings(&[]), "");
}

fn no_new_keyring() {
    assert_eq!(session_keyrings(&["--no-new-keyring"]), "");
}

/// Its session and process group are its own, and /proc/PID/stat field 7 (tty_nr) is 0.
fn init_has_no_controlling_terminal() {
    let stat = Bundle::args(&["/bin/cat", "/proc/self/stat"]).print();
    let words: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let (group, session, terminal) = (words[2], words[3], words[4]);
    assert_eq!((group, session, terminal), ("1", "1", "0"), "{stat}");
}

fn pidfd_socket() {
    let receiver = Receiver::new("pidfd");
    let container = Bundle::new().create_with(&["--pidfd-socket", receiver.path()]);
    let (_, pidfd) = receiver.receive();
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).unwrap();
    assert_eq!(look::status_field(&info, "Pid"), container.pid().to_string());
}

/// Wherever the runtime runs out of descriptors, it takes back what it has made with as few.
fn too_few_descriptors_leave_nothing() {
    let bundle = Bundle::args(&["/bin/true"]);
    bundle.save();
    let container = bundle.container();
    for words in [&["create"][..], &["run", "--detach"], &["run"]] {
        for most in 4..40 {
            let script = format!("ulimit -n {most}; exec \"$@\"");
            let words = [words, &["--bundle", bundle.path(), &bundle.id]].concat();
            let output = bundle.output_of(Call::through(&["sh", "-c", &script, "sh"], &words));
            if output.status.success() {
                container.call(&["delete", "--force"]).output().ok();
            }
            let left: Vec<_> = fs::read_dir(state_root()).unwrap().flatten().map(|entry| entry.file_name()).collect();
            let cgroups = look::cgroups_named(&bundle.id);
            assert!(left.is_empty() && cgroups.is_empty(), "{words:?} with {most} descriptors has left {left:?} {cgroups:?}");
        }
    }
}
