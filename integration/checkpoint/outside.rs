// SPDX-License-Identifier: Apache-2.0
//! What of a container lies outside of it, or leads out: mounts of the host, terminals, streams, connections, namespaces of others, locks.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::harness::receive::Receiver;
use crate::harness::{Test, call, look};
use crate::test;

const FLOCK: &[Need] = &[Need::Criu, Need::File("/usr/bin/flock")];
const NO_SUCH_FLAG: &[(&str, &str)] = &[("runc", "has no --network-lock"), ("crun", "has no such flag")];

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(mounts_of_the_host)
        .needs(NEEDS)
        .seconds(120)
        .differs(&[("runc", "does not let CRIU keep mounts that get what happens outside"), CRUN]),
    test!(places_of_mounts_are_made).needs(NEEDS).seconds(120).differs(&[CRUN]),
    test!(terminal).needs(NEEDS).seconds(120).differs(&[CRUN]),
    test!(terminal_needs_a_socket).needs(NEEDS).seconds(120).differs(&[("crun", "leaves the cgroup of a restore that failed")]),
    test!(pipes_of_the_caller).needs(NEEDS).seconds(120).differs(&[CRUN]),
    test!(tcp_connection_inside).needs(NEEDS).seconds(120).differs(NO_SUCH_FLAG),
    test!(tcp_connection_to_the_host).needs(NEEDS).seconds(120).differs(NO_SUCH_FLAG),
    test!(joined_network_namespace).needs(NEEDS).seconds(120).differs(&[CRUN]),
    test!(joined_ipc_and_uts_namespaces).needs(NEEDS).seconds(120).differs(&[CRUN]),
    test!(shell_job).needs(NEEDS).seconds(120).differs(&[
        ("runc", "quotes all of CRIU's log, and says no flag"),
        ("crun", "does not tell CRIU of the terminal's device, and says no flag"),
    ]),
    test!(file_locks).needs(FLOCK).seconds(120).differs(&[CRUN]),
    test!(options_from_a_file).needs(FLOCK).seconds(120).differs(&[
        ("runc", "takes the file in place of the one that keeps CRIU from locking the network here"),
        ("crun", "takes the file in place of the one that keeps CRIU from locking the network here"),
    ]),
];

fn mounts_of_the_host() {
    let (data, below) = (folder().join("data"), folder().join("data/below"));
    fs::create_dir_all(&below).unwrap();
    fs::write(data.join("file"), "first").unwrap();
    Call::program(&["mount", "-t", "tmpfs", "tmpfs", below.to_str().unwrap()]).output().ok();
    fs::write(below.join("file"), "below").unwrap();
    let mut bundle = Bundle::sh(COUNT);
    bundle.mount("/data", "bind", data.to_str().unwrap(), &["rbind", "ro", "nosuid"]);
    bundle.mount("/link/one", "bind", data.join("file").to_str().unwrap(), &["bind"]);
    fs::create_dir_all(bundle.inside("/real")).unwrap();
    std::os::unix::fs::symlink("real", bundle.inside("/link")).unwrap();
    bundle.set("/linux/maskedPaths", json!(["/proc/keys", "/proc/acpi", "/proc/none"]));
    bundle.set("/linux/readonlyPaths", json!(["/proc/sys"]));
    let container = there_and_back(&bundle, "1\n", &[]);
    counts_on(&container);
    fs::write(data.join("file"), "second").unwrap();
    let seen = inside(&container, "cat /data/file /link/one /data/below/file; wc -c </proc/keys; ls /proc/acpi | wc -l");
    assert_eq!(seen, "secondsecondbelow0\n0\n");
    let mounts = look::parse_mounts(&fs::read_to_string(format!("/proc/{}/mountinfo", container.pid())).unwrap());
    let data = look::mount_at(&mounts, "/data");
    assert!(data.has("ro") && data.has("nosuid"), "{}", data.line);
    assert!(look::mount_at(&mounts, "/proc/sys").has("ro"));
    assert!(!look::mount_at(&mounts, "/real/one").options.contains(&"ro".to_owned()));
    Call::program(&["umount", "-l", below.to_str().unwrap()]).output().ok();
}

/// An engine restores into a root filesystem that it has made anew from its image.
fn places_of_mounts_are_made() {
    let file = folder().join("file");
    fs::write(&file, "mine").unwrap();
    let mut bundle = Bundle::sh(COUNT);
    bundle.mount("/etc/deep/file", "bind", file.to_str().unwrap(), &["bind"]);
    let container = bundle.run_detached();
    counts_on(&container);
    dump(&container, &image("one"), &[]).ok();
    drop(container);
    fs::remove_dir_all(bundle.inside("/etc")).unwrap();
    fs::remove_dir(bundle.inside("/proc")).unwrap();
    let container = restore(&bundle, &image("one"), &[]);
    assert_eq!(inside(&container, "cat /etc/deep/file"), "mine");
}

fn terminal_bundle() -> (Bundle, Receiver) {
    let mut bundle = Bundle::sh("while read -r line; do echo got $line; done");
    bundle.set("/process/terminal", json!(true));
    (bundle, Receiver::new("console-one"))
}

fn says(master: &mut fs::File, word: &str) {
    master.write_all(format!("{word}\n").as_bytes()).unwrap();
    let (mut text, mut buffer) = (String::new(), [0; 256]);
    eventually(&format!("the terminal answers {word}"), || {
        let length = master.read(&mut buffer).unwrap_or(0);
        text.push_str(&String::from_utf8_lossy(&buffer[..length]));
        text.contains(&format!("got {word}\r\n"))
    });
}

/// A container with a terminal, which has been dumped to the image `one` and deleted.
fn dumped_with_a_terminal() -> Bundle {
    let (bundle, receiver) = terminal_bundle();
    let container = bundle.create_with(&["--console-socket", receiver.path()]);
    let mut master = fs::File::from(receiver.receive().1);
    container.start();
    says(&mut master, "one");
    dump(&container, &image("one"), &[]).ok();
    drop(container);
    bundle
}

fn terminal() {
    let bundle = dumped_with_a_terminal();
    let receiver = Receiver::new("console-two");
    let container = restore(&bundle, &image("one"), &["--console-socket", receiver.path()]);
    let mut master = fs::File::from(receiver.receive().1);
    says(&mut master, "two");
    assert_eq!(container.status(), "running");
}

fn terminal_needs_a_socket() {
    let bundle = dumped_with_a_terminal();
    bundle.output_of(restore_call(&bundle, &image("one"), &["--detach"])).fails();
    bundle.container().call(&["state"]).output().fails();
}

/// As conmon and the shim have them: stdin empty, stdout a pipe.
fn pipes_of_the_caller() {
    let bundle = Bundle::sh(COUNT);
    let container = bundle.container();
    let (mut read, write) = std::io::pipe().unwrap();
    let mut running = bundle.run_call(&["--detach"]).spawn_with(write, Stdio::null());
    assert!(call::wait(&mut running).success());
    let mut take = move |text: &mut String| {
        let mut buffer = [0; 64];
        let length = read.read(&mut buffer).unwrap();
        text.push_str(&String::from_utf8_lossy(&buffer[..length]));
    };
    let mut first = String::new();
    while !first.contains("3\n") {
        take(&mut first);
    }
    dump(&container, &image("one"), &[]).ok();
    let list: Vec<String> =
        serde_json::from_slice(&fs::read(Path::new(&image("one")).join("descriptors.json")).unwrap()).unwrap();
    assert!(list.len() == 3 && list[1].starts_with("pipe:["), "{list:?}");
    let (mut read, write) = std::io::pipe().unwrap();
    let mut running = restore_call(&bundle, &image("one"), &["--detach"]).spawn_with(write, Stdio::null());
    assert!(call::wait(&mut running).success());
    let (mut text, mut buffer) = (String::new(), [0; 64]);
    while text.lines().count() < 4 {
        let length = read.read(&mut buffer).unwrap();
        assert!(length > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    let number: u32 = text.lines().nth(1).unwrap().parse().unwrap();
    assert!(number > 3, "{text}");
}

/// Both ends are in the container.
fn tcp_connection_inside() {
    let script = "sleep 1000 | nc -l -p 4444 >/dev/null & sleep 0.5; \
                  { i=0; while :; do i=$((i+1)); echo $i; echo $i >&2; sleep 0.05; done } 2>/count | nc 127.0.0.1 4444 >/dev/null & \
                  tail -f /count";
    let mut bundle = Bundle::sh(&format!("touch /count; {script}"));
    bundle.set("/root/readonly", json!(false));
    let container = bundle.run_detached();
    counts_on(&container);
    let refused = dump(&container, &image("none"), &[]).fails();
    assert!(refused.contains("tcp-established"), "it says which flag: {refused}");
    counts_on(&container);
    let flags = ["--tcp-established", "--network-lock", "skip"];
    dump(&container, &image("one"), &flags).ok();
    drop(container);
    let container = restore(&bundle, &image("one"), &flags);
    counts_on(&container);
    let connections = inside(&container, "cat /proc/net/tcp /proc/net/tcp6 | grep -c ' 01 '");
    assert_eq!(connections.trim(), "2", "the connection's two ends are established");
}

/// In the host's network namespace, to a server that is not dumped.
fn tcp_connection_to_the_host() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let mut bundle = Bundle::sh(&format!("exec nc 127.0.0.1 {port}"));
    bundle.namespace("network", Some(""));
    let container = bundle.run_detached();
    let (mut peer, _) = server.accept().unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    peer.write_all(b"before\n").unwrap();
    container.wait_stdout("before");
    let flags = ["--tcp-established", "--network-lock", "skip"];
    dump(&container, &image("one"), &flags).ok();
    drop(container);
    let container = restore(&bundle, &image("one"), &flags);
    peer.write_all(b"after\n").unwrap();
    container.wait_stdout("after");
}

/// A process in new namespaces of its own, and the path of one of them.
pub struct Holder(std::process::Child);

impl Holder {
    pub fn new(flags: &[&str]) -> Holder {
        Holder::running(flags, &["sleep", "1000"])
    }

    /// The same; a first process of a pid namespace has to take away what ends in there.
    pub fn running(flags: &[&str], program: &[&str]) -> Holder {
        let child = Command::new("unshare").args(flags).args(program).spawn().unwrap();
        let holder = Holder(child);
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        let ipc = fs::read_link("/proc/self/ns/ipc").unwrap();
        eventually("the namespaces are there", || {
            let link = |name| fs::read_link(holder.path(name)).unwrap_or_else(|_| own.clone());
            link("net") != own || link("ipc") != ipc
        });
        holder
    }

    pub fn path(&self, name: &str) -> String {
        format!("/proc/{}/ns/{name}", self.0.id())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
fn shares(container: &Container, holder: &Holder, name: &str) {
    assert_eq!(look::namespace(container.pid(), name), look::namespace(holder.0.id(), name), "{name}");
}

fn joined_network_namespace() {
    let first = Holder::new(&["--net"]);
    let mut bundle = Bundle::sh(COUNT);
    bundle.namespace("network", Some(&first.path("net")));
    let container = bundle.run_detached();
    counts_on(&container);
    dump(&container, &image("one"), &[]).ok();
    drop(container);
    drop(first);
    // A pod is restored with a network of its own.
    let second = Holder::new(&["--net"]);
    bundle.namespace("network", Some(&second.path("net")));
    let container = restore(&bundle, &image("one"), &[]);
    counts_on(&container);
    shares(&container, &second, "net");
}

fn joined_ipc_and_uts_namespaces() {
    let holder = Holder::new(&["--ipc", "--uts"]);
    let mut bundle = Bundle::sh(COUNT);
    bundle.unset("", "hostname");
    bundle.namespace("ipc", Some(&holder.path("ipc"))).namespace("uts", Some(&holder.path("uts")));
    let container = there_and_back(&bundle, "1\n", &[]);
    counts_on(&container);
    shares(&container, &holder, "ipc");
    shares(&container, &holder, "uts");
}

/// Its standard streams are a terminal of the caller's.
fn shell_job() {
    let bundle = Bundle::sh("while read -r line; do echo got $line; done");
    let container = bundle.container();
    let pty = nix::pty::openpty(None, None).unwrap();
    let slave = || pty.slave.try_clone().unwrap();
    let mut running = bundle.run_call(&["--detach"]).stdin(slave()).spawn_with(slave(), slave());
    assert!(call::wait(&mut running).success());
    let mut master = fs::File::from(pty.master.try_clone().unwrap());
    says(&mut master, "one");
    let refused = dump(&container, &image("none"), &[]).fails();
    assert!(refused.contains("--shell-job"), "it says which flag: {refused}");
    assert_eq!(container.status(), "running");
    dump(&container, &image("one"), &["--shell-job"]).ok();
    let mut running =
        restore_call(&bundle, &image("one"), &["--detach", "--shell-job"]).stdin(slave()).spawn_with(slave(), slave());
    assert!(call::wait(&mut running).success());
    says(&mut master, "two");
}

/// Holds a lock and counts. busybox has no flock(1), so it is the host's.
fn locking() -> Bundle {
    let mut bundle = Bundle::args(&["/usr/bin/flock", "/lock", "/bin/sh", "-c", COUNT]);
    for dir in ["lib", "lib64"] {
        std::os::unix::fs::symlink(format!("usr/{dir}"), bundle.inside(dir)).unwrap();
    }
    bundle.mount("/usr", "bind", "/usr", &["bind", "ro"]).set("/root/readonly", json!(false));
    bundle
}

fn is_locked(container: &Container) -> bool {
    inside(container, "/usr/bin/flock -n /lock echo free || echo held") == "held\n"
}

fn file_locks() {
    let bundle = locking();
    let container = bundle.run_detached();
    counts_on(&container);
    let refused = dump(&container, &image("none"), &[]).fails();
    assert!(refused.contains("--file-locks"), "it says which flag: {refused}");
    assert!(refused.contains("dump.log"), "it says where the log is: {refused}");
    counts_on(&container);
    dump(&container, &image("one"), &["--file-locks"]).ok();
    drop(container);
    let container = restore(&bundle, &image("one"), &["--file-locks"]);
    counts_on(&container);
    assert!(is_locked(&container));
}

fn options_from_a_file() {
    let file = folder().join("criu.conf");
    fs::write(&file, "file-locks\n").unwrap();
    let mut bundle = locking();
    bundle.set("/annotations", json!({ "org.criu.config": file }));
    let container = there_and_back(&bundle, "1\n", &[]);
    counts_on(&container);
    assert!(is_locked(&container));
}
