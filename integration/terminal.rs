// SPDX-License-Identifier: Apache-2.0
//! `process.terminal`: the console socket, the foreground terminal, and their misuse.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::{Winsize, openpty};
use nix::sys::termios::{LocalFlags, tcgetattr};
use serde_json::json;

use crate::harness::bundle::{folder, state_root};
use crate::harness::look::{self, eventually};
use crate::harness::receive::Receiver;
use crate::harness::{Bundle, Call, Container, Test, call};
use crate::test;

const SIZE_COMES_LATE: &[(&str, &str)] = &[
    ("runc", "passes the first size on only when the program may have started"),
    ("crun", "passes the first size on only when the program may have started"),
];

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(console_socket_gets_the_master),
    test!(stdio_is_the_terminal),
    test!(console_size),
    test!(console_size_of_an_exec),
    test!(resize),
    test!(input_and_interrupt),
    test!(controlling_terminal),
    test!(dev_console).differs(&[("crun", "makes a symlink instead of a bind mount")]),
    test!(terminal_belongs_to_the_user),
    test!(hangup_when_the_master_is_closed),
    test!(runtime_lets_go_of_its_stdio),
    test!(run_detached_with_a_console_socket),
    test!(foreground_terminal),
    test!(foreground_terminal_follows_the_size).differs(SIZE_COMES_LATE),
    test!(foreground_terminal_is_put_back),
    test!(foreground_that_fails_leaves_nothing).differs(&[("crun", "leaves a directory of its own in the state root")]),
    test!(terminal_without_a_socket_is_refused),
    test!(socket_without_a_terminal_is_refused).differs(&[("crun", "ignores the socket")]),
    test!(socket_in_the_foreground_is_refused).differs(&[("crun", "ignores the socket")]),
    test!(missing_socket_is_refused),
    test!(console_size_is_ignored_without_a_terminal),
];

/// The master of a terminal, which is read without blocking.
struct Master {
    file: File,
    text: String,
}

impl Master {
    fn new(fd: OwnedFd) -> Master {
        fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        Master { file: fd.into(), text: String::new() }
    }

    /// Reads until the text appears; returns all that was read so far.
    #[track_caller]
    fn wait_for(&mut self, wanted: &str) -> &str {
        let start = Instant::now();
        let mut buffer = [0; 4096];
        while !self.text.contains(wanted) {
            match self.file.read(&mut buffer) {
                Ok(length) if length > 0 => self.text.push_str(&String::from_utf8_lossy(&buffer[..length])),
                // EIO: nobody has the other end open, at the moment.
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock || error.raw_os_error() == Some(5) => {}
                Err(error) => panic!("{error}"),
            }
            assert!(start.elapsed() < Duration::from_secs(10), "no {wanted:?} on the terminal, only {:?}", self.text);
            sleep(Duration::from_millis(1));
        }
        &self.text
    }

    fn write(&mut self, text: &str) {
        self.file.write_all(text.as_bytes()).unwrap();
    }

    fn resize(&self, rows: u16, columns: u16) {
        let words = ["stty", "rows", &rows.to_string(), "cols", &columns.to_string()];
        Call::program(&words).stdin(self.file.try_clone().unwrap()).output().ok();
    }
}

/// A bundle with a terminal that runs a script.
fn bundle(script: &str) -> Bundle {
    let mut bundle = Bundle::sh(script);
    bundle.set("/process/terminal", json!(true));
    bundle
}

/// Creates the container with a console socket, takes the master and starts it.
#[track_caller]
fn start(bundle: &Bundle) -> (Container, Master) {
    let receiver = Receiver::new(&format!("console-{}", bundle.id));
    let container = bundle.create_with(&["--console-socket", receiver.path()]);
    let (_, master) = receiver.receive();
    container.start();
    (container, Master::new(master))
}

fn console_socket_gets_the_master() {
    let receiver = Receiver::new("console");
    let bundle = bundle("echo hello");
    let container = bundle.create_with(&["--console-socket", receiver.path()]);
    let (data, master) = receiver.receive();
    assert!(data.len() < 4096, "go-runc takes no longer name");
    let mut master = Master::new(master);
    container.start();
    master.wait_for("hello\r\n");
    assert_eq!(container.stdout(), "", "nothing goes to the caller's stdout");
}

fn stdio_is_the_terminal() {
    let (_container, mut master) = start(&bundle("for fd in 0 1 2; do test -t $fd && echo $fd; done; echo end >&2"));
    assert_eq!(master.wait_for("end\r\n"), "0\r\n1\r\n2\r\nend\r\n");
}

fn console_size() {
    let mut bundle = bundle("stty size; echo end");
    bundle.set("/process/consoleSize", json!({ "height": 33, "width": 77 }));
    let (_container, mut master) = start(&bundle);
    assert_eq!(master.wait_for("end\r\n"), "33 77\r\nend\r\n");
}

/// The size of the process file, not of the container's own terminal.
fn console_size_of_an_exec() {
    let bundle = Bundle::new();
    let container = bundle.run_detached();
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/bin/sh", "-c", "stty size; echo end; exec sleep 1000"]);
    process["terminal"] = json!(true);
    process["consoleSize"] = json!({ "height": 44, "width": 111 });
    let file = crate::harness::bundle::folder().join("process.json");
    std::fs::write(&file, process.to_string()).unwrap();
    let receiver = Receiver::new("console");
    let pid_file = crate::harness::bundle::folder().join("exec-pid");
    let flags = ["--detach", "--process", file.to_str().unwrap(), "--console-socket", receiver.path()];
    let words = [&["exec"], &flags[..], &["--pid-file", pid_file.to_str().unwrap(), &container.id]].concat();
    Call::new(&words).output().ok();
    let mut master = Master::new(receiver.receive().1);
    assert_eq!(master.wait_for("end\r\n"), "44 111\r\nend\r\n");
    // It is left to us: while nobody reaps it, the container's pid namespace cannot end.
    let pid = std::fs::read_to_string(pid_file).unwrap().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    crate::harness::bundle::wait_orphan(pid);
}

fn resize() {
    let (_container, mut master) = start(&bundle("trap 'stty size' WINCH; echo ready; while true; do sleep 0.01; done"));
    master.wait_for("ready\r\n");
    master.resize(44, 55);
    master.wait_for("44 55\r\n");
}

fn input_and_interrupt() {
    let (container, mut master) =
        start(&bundle("trap 'echo interrupted; exit 5' INT; read x; echo got $x; while true; do sleep 0.01; done"));
    let pid = container.pid();
    master.write("a line\n");
    master.wait_for("got a line\r\n");
    master.write("\x03");
    master.wait_for("interrupted\r\n");
    eventually("it ends", || !look::alive(pid));
}

fn controlling_terminal() {
    let (_container, mut master) = start(&bundle("cat /proc/self/stat; echo to tty >/dev/tty; echo end"));
    let text = master.wait_for("end\r\n");
    assert!(text.contains("to tty\r\n"), "{text}");
    let words: Vec<&str> = text.rsplit(") ").next().unwrap().split(' ').collect();
    assert_eq!(words[3], "1", "a session of its own: {text}");
    assert_eq!(words[4], "34816", "device 136:0, pts/0: {text}");
}

/// /dev/console is the same device as stdin, mounted over a file.
fn dev_console() {
    let (_container, mut master) = start(&bundle(
        "stat -c '%F %t' /dev/console; echo hi >/dev/console; grep -c ' /dev/console ' /proc/self/mountinfo; echo end",
    ));
    assert_eq!(master.wait_for("end\r\n"), "character special file 88\r\nhi\r\n1\r\nend\r\n");
}

fn terminal_belongs_to_the_user() {
    let mut bundle = bundle("stat -L -c %u /proc/self/fd/0; echo again >/dev/pts/0; echo end");
    bundle.set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
    let (_container, mut master) = start(&bundle);
    assert_eq!(master.wait_for("end\r\n"), "1000\r\nagain\r\nend\r\n");
}

/// The kernel sends SIGHUP when the last descriptor of the master is closed: so ours was the last.
fn hangup_when_the_master_is_closed() {
    let bundle = bundle("trap 'touch /hangup; exit' HUP; echo ready; while true; do sleep 0.01; done");
    let (_container, mut master) = start(&bundle);
    master.wait_for("ready\r\n");
    drop(master);
    eventually("the program is told of the hangup", || bundle.inside("/hangup").exists());
}

/// Callers read the runtime's stdout and stderr to their ends, which come although the container runs on.
fn runtime_lets_go_of_its_stdio() {
    let receiver = Receiver::new("console");
    let bundle = bundle("exec sleep 1000");
    let container = bundle.container();
    bundle.create_call(&["--console-socket", receiver.path()]).output().ok();
    let _master = receiver.receive();
    container.start();
    assert_eq!(container.status(), "running");
}

fn run_detached_with_a_console_socket() {
    let receiver = Receiver::new("console");
    let bundle = bundle("echo hello; exec sleep 1000");
    let _container = bundle.container();
    bundle.run_call(&["--detach", "--console-socket", receiver.path()]).output().ok();
    Master::new(receiver.receive().1).wait_for("hello\r\n");
}

/// Runs the container in the foreground of a terminal of ours; returns the runtime's process and both ends.
fn run_on_a_terminal(bundle: &Bundle) -> (std::process::Child, Master, OwnedFd) {
    let size = Winsize { ws_row: 25, ws_col: 81, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(&size, None).unwrap();
    let slave = || pty.slave.try_clone().unwrap();
    let run = bundle.run_through(&["setsid", "--ctty", "--wait"], &[]).stdin(slave()).spawn_with(slave(), slave());
    (run, Master::new(pty.master), pty.slave)
}

fn foreground_terminal() {
    let bundle = bundle("test -t 0 && echo terminal; read x; echo got $x; exit 9");
    let _container = bundle.container();
    let (mut run, mut master, _slave) = run_on_a_terminal(&bundle);
    master.wait_for("terminal\r\n");
    master.write("a line\n");
    master.wait_for("got a line\r\n");
    assert_eq!(call::wait(&mut run).code(), Some(9));
}

fn foreground_terminal_follows_the_size() {
    let bundle = bundle("stty size; trap 'stty size' WINCH; echo ready; while true; do sleep 0.01; done");
    let container = bundle.container();
    let (mut run, mut master, _slave) = run_on_a_terminal(&bundle);
    assert!(master.wait_for("ready\r\n").contains("25 81\r\n"));
    master.resize(30, 90);
    master.wait_for("30 90\r\n");
    container.kill("KILL");
    assert_eq!(call::wait(&mut run).code(), Some(137));
    std::mem::forget(container); // `run` has deleted it
}

/// While the container runs, the caller's terminal passes everything on; afterwards it is as it was before.
fn foreground_terminal_is_put_back() {
    let bundle = bundle("echo ready; read x");
    let _container = bundle.container();
    let (mut run, mut master, slave) = run_on_a_terminal(&bundle);
    master.wait_for("ready\r\n");
    let flags = || tcgetattr(&slave).unwrap().local_flags & (LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG);
    assert_eq!(flags(), LocalFlags::empty());
    master.write("\n");
    call::wait(&mut run);
    assert_eq!(flags(), LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG);
}

/// When the caller's terminal cannot be joined to the container's, whose program runs by then, `run` ends with an error and nothing is left.
/// The kernel is made to refuse the modes of terminals to this test and all that it starts.
fn foreground_that_fails_leaves_nothing() {
    use libseccomp::{ScmpAction, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
    let bundle = bundle("trap '' HUP; while true; do sleep 0.05; done");
    let size = Winsize { ws_row: 25, ws_col: 81, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(&size, None).unwrap();
    let mut filter = ScmpFilterContext::new(ScmpAction::Allow).unwrap();
    let ioctl = ScmpSyscall::from_name("ioctl").unwrap();
    // TCSETS, TCSETSW, TCSETSF, and the same with a speed.
    for request in [0x5402, 0x5403, 0x5404, 0x402c_542b, 0x402c_542c, 0x402c_542d] {
        let compare = ScmpArgCompare::new(1, ScmpCompareOp::Equal, request);
        filter.add_rule_conditional(ScmpAction::Errno(5), ioctl, &[compare]).unwrap();
    }
    filter.set_ctl_nnp(false).unwrap();
    filter.load().unwrap();
    let slave = || pty.slave.try_clone().unwrap();
    let errors = folder().join("errors");
    let call = bundle.run_through(&["setsid", "--ctty", "--wait"], &[]);
    let mut run = call.stdin(slave()).spawn_with(slave(), File::create(&errors).unwrap());
    assert!(!call::wait(&mut run).success());
    let message = fs::read_to_string(&errors).unwrap();
    let left: Vec<_> = fs::read_dir(state_root()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(left.is_empty() && !message.is_empty(), "it left {left:?}: {message}");
}

fn terminal_without_a_socket_is_refused() {
    bundle("echo ran").create_fails();
    let output = bundle("echo ran").run_call(&["--detach"]).output();
    assert_eq!(output.stdout, "");
    output.fails();
}

fn socket_without_a_terminal_is_refused() {
    let receiver = Receiver::new("console");
    let bundle = Bundle::new();
    bundle.output_of(bundle.create_call(&["--console-socket", receiver.path()])).fails();
}

fn socket_in_the_foreground_is_refused() {
    let receiver = Receiver::new("console");
    bundle("true").run_call(&["--console-socket", receiver.path()]).output().fails();
}

fn missing_socket_is_refused() {
    let missing = folder().join("missing");
    let plain = folder().join("plain");
    fs::write(&plain, "").unwrap();
    for path in [missing, plain] {
        let bundle = bundle("true");
        bundle.output_of(bundle.create_call(&["--console-socket", path.to_str().unwrap()])).fails();
    }
}

fn console_size_is_ignored_without_a_terminal() {
    let mut bundle = Bundle::sh("echo ran");
    bundle.set("/process/consoleSize", json!({ "height": 33, "width": 77 }));
    assert_eq!(bundle.print(), "ran\n");
}
