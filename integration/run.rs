// SPDX-License-Identifier: Apache-2.0
//! `run`: in the foreground and detached, exit statuses, signals, the pid file, `--keep`, readiness notification.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;

use crate::harness::bundle::{folder, state_root, wait_orphan};
use crate::harness::look::{self, eventually};
use crate::harness::{Bundle, Call, Test};
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(a_start_that_was_killed_leaves_no_obstacle)
        .differs(&[("runc", "finds the address in use"), ("crun", "keeps its socket elsewhere")]),
    test!(prints_what_the_program_prints),
    test!(reads_stdin),
    test!(returns_the_exit_status),
    test!(returns_128_and_the_signal),
    test!(forwards_signals),
    test!(leaves_nothing_when_it_ends),
    test!(fails_with_1_when_it_cannot_create),
    test!(waits_for_init_only),
    test!(detached_container_runs_on).differs(&[("crun", "leaves its zombie of `run --detach` to the subreaper")]),
    test!(keep),
    test!(pid_file_of_create),
    test!(pid_file_of_run_in_the_foreground).differs(&[("crun", "writes it when the program may have started")]),
    test!(pid_file_is_replaced_in_one_step).differs(&[("crun", "writes the pid file in place")]),
    test!(pid_file_after_a_killed_writer).differs(&[("runc", "fails for ever once a temporary pid file is left over")]),
    test!(notify_socket_of_run),
    test!(notify_socket_is_proxied).differs(&[("crun", "sends no MAINPID")]),
    test!(killed_runtime_leaves_a_container_that_can_be_deleted),
];

fn prints_what_the_program_prints() {
    let output = Bundle::sh("echo to stdout; echo to stderr >&2").run();
    assert_eq!(output.code(), 0);
    assert_eq!(output.stdout, "to stdout\n");
    assert_eq!(output.stderr, "to stderr\n");
}

fn reads_stdin() {
    let file = folder().join("stdin");
    fs::write(&file, "from the caller\n").unwrap();
    let output = Bundle::args(&["/bin/cat"]).run_call(&[]).stdin(fs::File::open(&file).unwrap()).output();
    assert_eq!(output.ok(), "from the caller\n");
}

fn returns_the_exit_status() {
    for status in [0, 1, 2, 77, 125, 126, 127, 128, 200, 255] {
        let output = Bundle::sh(&format!("exit {status}")).run();
        assert_eq!(output.code(), status);
    }
}

/// A first process of a pid namespace is not killed by its own signals, so these have none of their own.
fn returns_128_and_the_signal() {
    for (name, number) in [("HUP", 1), ("ABRT", 6), ("KILL", 9), ("SEGV", 11), ("TERM", 15)] {
        let mut bundle = Bundle::sh(&format!("kill -{name} $$"));
        bundle.namespace("pid", Some(""));
        assert_eq!(bundle.run().code(), 128 + number, "{name}");
    }
}

fn forwards_signals() {
    let script = "trap 'echo got TERM; exit 7' TERM; trap 'echo got USR1' USR1; echo ready; while true; do sleep 0.01; done";
    let bundle = Bundle::sh(script);
    let mut running = bundle.run_call(&[]).spawn();
    running.wait_for("ready");
    running.signal(Signal::SIGUSR1);
    running.wait_for("got USR1");
    running.signal(Signal::SIGTERM);
    let output = running.finish();
    assert!(output.stdout.contains("got TERM"), "{output:?}");
    assert_eq!(output.code(), 7);
}

fn leaves_nothing_when_it_ends() {
    let bundle = Bundle::args(&["/bin/true"]);
    bundle.run().ok();
    bundle.container().call(&["state"]).output().fails();
    assert!(look::cgroups_named(&bundle.id).is_empty());
}

fn fails_with_1_when_it_cannot_create() {
    let mut bundle = Bundle::new();
    bundle.set("/root/path", "missing".into());
    assert_eq!(bundle.run().code(), 1);
}

/// Others in the container's pid namespace die with it, and nobody waits for them.
fn waits_for_init_only() {
    let output = Bundle::sh("sleep 1000 & echo started").run();
    assert_eq!(output.ok(), "started\n");
}

fn detached_container_runs_on() {
    let container = Bundle::sh("echo started; sleep 1000").run_detached();
    container.wait_stdout("started");
    assert_eq!(container.status(), "running");
    let pid = container.pid();
    assert_eq!(look::children_of_self(), [Pid::from_raw(pid)], "no other process remains of run --detach");
    container.kill("KILL");
    assert_eq!(wait_orphan(pid), WaitStatus::Signaled(Pid::from_raw(pid), Signal::SIGKILL, false));
}

fn keep() {
    let bundle = Bundle::sh("exit 3");
    let container = bundle.container();
    assert_eq!(bundle.run_call(&["--keep"]).output().code(), 3);
    assert_eq!(container.status(), "stopped");
    if crate::harness::need::cgroup2() {
        assert_eq!(look::cgroups_named(&bundle.id).len(), 1, "its cgroup can still be read");
    }
    container.delete();
}

fn pid_file_of_create() {
    let bundle = Bundle::new();
    let file = folder().join("pid");
    let container = bundle.create_with(&["--pid-file", file.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(&file).unwrap(), container.pid().to_string(), "decimal, no newline");
}

fn pid_file_of_run_in_the_foreground() {
    let bundle = Bundle::sh("echo ready; exec sleep 1000");
    let file = folder().join("pid");
    let container = bundle.container();
    let mut running = bundle.run_call(&["--pid-file", file.to_str().unwrap()]).spawn();
    running.wait_for("ready");
    let pid: i32 = fs::read_to_string(&file).unwrap().parse().unwrap();
    assert_eq!(pid, container.pid());
    container.kill("KILL");
    assert_eq!(running.finish().code(), 137);
    std::mem::forget(container); // `run` has deleted it
}

/// A reader never sees an empty or half-written file: the new one takes the place of the old one.
fn pid_file_is_replaced_in_one_step() {
    let bundle = Bundle::new();
    let (file, link) = (folder().join("pid"), folder().join("old"));
    fs::write(&file, "what was there before").unwrap();
    fs::hard_link(&file, &link).unwrap();
    let container = bundle.create_with(&["--pid-file", file.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(&file).unwrap(), container.pid().to_string());
    assert_eq!(fs::read_to_string(&link).unwrap(), "what was there before");
    let beside: Vec<_> = fs::read_dir(folder()).unwrap().flatten().map(|e| e.file_name().into_string().unwrap()).collect();
    assert!(!beside.iter().any(|name| name.starts_with('.') || name.contains("tmp")), "{beside:?}");
}

fn pid_file_after_a_killed_writer() {
    let bundle = Bundle::new();
    let file = folder().join("pid");
    fs::write(folder().join(".pid"), "").unwrap();
    let container = bundle.create_with(&["--pid-file", file.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(&file).unwrap(), container.pid().to_string());
}

/// The program finds a socket of its own in NOTIFY_SOCKET; what it says there reaches the caller's socket, with the
/// main pid in the caller's terms (sd_notify(3)). `start` returns only then.
fn notify_socket_is_proxied() {
    let path = folder().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let bundle = Bundle::sh("echo $NOTIFY_SOCKET; exec sleep 1000");
    let container = bundle.container();
    let notify = |call: Call| call.env("NOTIFY_SOCKET", path.to_str().unwrap());
    bundle.output_of(notify(bundle.create_call(&[]))).ok();
    let pid = container.pid();
    let start = notify(container.call(&["start"])).spawn();
    let inside = container.wait_stdout("\n").trim().to_owned();
    assert!(inside.starts_with("/run/notify"), "{inside}");
    thread::sleep(Duration::from_millis(20));
    assert!(look::alive(start.pid()), "start returned before the program was ready");
    UnixDatagram::unbound().unwrap().send_to(b"READY=1\nSTATUS=warm\n", format!("/proc/{pid}/root{inside}")).unwrap();
    let mut heard = String::new();
    let mut buffer = [0; 4096];
    while !(heard.contains("READY=1\n") && heard.contains(&format!("MAINPID={pid}\n"))) {
        let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{error}; heard {heard:?}"));
        heard.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
    }
    // A receiver that takes no descriptors lets go of the barrier at once.
    let _ = socket.set_read_timeout(Some(Duration::from_millis(500)));
    let _ = socket.recv(&mut buffer);
    start.finish().ok();
    assert_eq!(container.status(), "running");
}

/// It was killed between making its notify socket and opening the gate.
fn a_start_that_was_killed_leaves_no_obstacle() {
    let path = folder().join("notify");
    let _socket = UnixDatagram::bind(&path).unwrap();
    let bundle = Bundle::sh("echo $NOTIFY_SOCKET; exec sleep 1000");
    let container = bundle.container();
    bundle.output_of(bundle.create_call(&[]).env("NOTIFY_SOCKET", path.to_str().unwrap())).ok();
    drop(UnixDatagram::bind(state_root().join(&bundle.id).join("notify/notify.sock")).unwrap());
    let start = container.call(&["start"]).env("NOTIFY_SOCKET", path.to_str().unwrap()).spawn();
    let inside = container.wait_stdout("\n").trim().to_owned();
    let pid = container.pid();
    UnixDatagram::unbound().unwrap().send_to(b"READY=1\n", format!("/proc/{pid}/root{inside}")).unwrap();
    drop((_socket, fs::remove_file(&path)));
    start.finish().ok();
    assert_eq!(container.status(), "running");
}

fn notify_socket_of_run() {
    let path = folder().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let bundle = Bundle::sh("trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done");
    let container = bundle.container();
    let mut run = bundle.run_call(&[]).env("NOTIFY_SOCKET", path.to_str().unwrap()).spawn();
    run.wait_for("ready");
    let pid = container.pid();
    let environment = std::fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    let inside = environment.split('\0').find_map(|entry| entry.strip_prefix("NOTIFY_SOCKET=")).unwrap().to_owned();
    UnixDatagram::unbound().unwrap().send_to(b"READY=1\n", format!("/proc/{pid}/root{inside}")).unwrap();
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).unwrap();
    assert_eq!(buffer[..length].trim_ascii_end(), b"READY=1");
    drop(socket);
    container.call(&["kill"]).output().ok();
    assert_eq!(run.finish().status.code(), Some(7));
}

fn killed_runtime_leaves_a_container_that_can_be_deleted() {
    let bundle = Bundle::sh("echo ready; exec sleep 1000");
    let container = bundle.container();
    let mut running = bundle.run_call(&[]).spawn();
    running.wait_for("ready");
    let pid = container.pid();
    running.signal(Signal::SIGKILL);
    container.call(&["delete", "--force"]).output().ok();
    eventually("init is gone", || !look::alive(pid));
    assert!(look::cgroups_named(&bundle.id).is_empty());
    running.finish();
}
