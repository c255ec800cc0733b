// SPDX-License-Identifier: Apache-2.0
//! `checkpoint` and `restore`: what goes on afterwards where it was, what keeps its place, and what is refused.
//!
//! They need criu(8) in PATH, or in the folder BERTH_TEST_CRIU (`hack/criu` fetches it), and a kernel that CRIU can work with: user-mode
//! Linux is none (no kcmp(2)), most others are. No network locking is asked for where nothing outside could send anything.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::harness::bundle::{folder, wait_orphan};
use crate::harness::look::{self, eventually};
use crate::harness::receive::Receiver;
use crate::harness::{Bundle, Call, Container, Need, Output, Test, call, skip};
use crate::test;

const NEEDS: &[Need] = &[Need::Criu];
const FLOCK: &[Need] = &[Need::Criu, Need::File("/usr/bin/flock")];
const NO_SUCH_FLAG: &[(&str, &str)] = &[("runc", "has no --network-lock"), ("crun", "has no such flag")];

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(goes_on_counting).needs(NEEDS).seconds(120),
    test!(leaves_running).needs(NEEDS).seconds(120),
    test!(memory_first_and_then_the_rest).needs(NEEDS).seconds(120),
    test!(again_and_again).needs(NEEDS).seconds(120),
    test!(restored_container_is_as_others).needs(NEEDS).seconds(120),
    test!(restore_in_the_foreground).needs(NEEDS).seconds(120),
    test!(mounts_of_the_host).needs(NEEDS).seconds(120).differs(&[("runc", "cannot dump mounts below a recursive bind")]),
    test!(places_of_mounts_are_made).needs(NEEDS).seconds(120),
    test!(limits_and_cgroup).needs(&[Need::Criu, Need::Controller("pids")]).seconds(120),
    test!(terminal).needs(NEEDS).seconds(120),
    test!(terminal_needs_a_socket).needs(NEEDS).seconds(120),
    test!(pipes_of_the_caller).needs(NEEDS).seconds(120),
    test!(tcp_connection_inside).needs(NEEDS).seconds(120).differs(NO_SUCH_FLAG),
    test!(tcp_connection_to_the_host).needs(NEEDS).seconds(120).differs(NO_SUCH_FLAG),
    test!(joined_network_namespace).needs(NEEDS).seconds(120),
    test!(joined_ipc_and_uts_namespaces).needs(NEEDS).seconds(120),
    test!(shell_job).needs(NEEDS).seconds(120),
    test!(file_locks).needs(FLOCK).seconds(120),
    test!(options_from_a_file).needs(FLOCK).seconds(120),
    test!(hooks).needs(NEEDS).seconds(120),
    test!(failing_hook_undoes_the_restore).needs(NEEDS).seconds(120),
    test!(existing_id_is_refused).needs(NEEDS).seconds(120),
    test!(only_what_runs_can_be_dumped),
    test!(missing_criu).differs(&[("runc", "says only that it is not there"), ("crun", "loads a library instead")]),
    test!(old_criu).differs(&[("runc", "speaks another version of the RPC"), ("crun", "loads a library instead")]),
    test!(criu_that_ends_at_once).differs(&[("runc", "prints an end of file"), ("crun", "loads a library instead")]),
    test!(no_image).needs(NEEDS),
    test!(damaged_image).needs(NEEDS).seconds(120),
    test!(hostile_descriptors).needs(NEEDS).seconds(120),
    test!(parent_path_is_relative).differs(&[("crun", "accepts it")]),
    test!(help_and_probe_of_engines).differs(&[("crun", "says that the option requires an argument")]),
];

/// A program that prints one number after the other.
const COUNT: &str = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done";

fn image(name: &str) -> String {
    folder().join(name).to_str().unwrap().to_owned()
}

/// With CRIU in PATH.
fn with_criu(call: Call) -> Call {
    let usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    match std::env::var("BERTH_TEST_CRIU") {
        Ok(dir) => call.env("PATH", &format!("{dir}:{usual}")),
        Err(_) => call,
    }
}

fn dump(container: &Container, image: &str, flags: &[&str]) -> Output {
    with_criu(container.call(&[&["checkpoint", "--image-path", image], flags].concat())).output()
}

fn restore_call(bundle: &Bundle, image: &str, flags: &[&str]) -> Call {
    bundle.save();
    let words = [&["restore", "--bundle", bundle.path(), "--image-path", image], flags, &[bundle.id.as_str()]].concat();
    with_criu(Call::new(&words))
}

/// Restores in the background, which must succeed.
#[track_caller]
fn restore(bundle: &Bundle, image: &str, flags: &[&str]) -> Container {
    let container = bundle.container();
    bundle.output_of(restore_call(bundle, image, &[&["--detach"], flags].concat())).ok();
    container
}

fn numbers(container: &Container) -> Vec<u32> {
    container.stdout().lines().filter_map(|line| line.parse().ok()).collect()
}

/// Waits until it has counted further, and that it began nowhere anew and left nothing out.
#[track_caller]
fn counts_on(container: &Container) {
    let before = numbers(container).len();
    eventually("it counts on", || numbers(container).len() >= before + 3);
    let all = numbers(container);
    let want: Vec<u32> = (1..).take(all.len()).collect();
    assert_eq!(all, want, "it goes on where it was");
}

fn goes_on_counting() {
    let bundle = Bundle::sh(COUNT);
    let container = bundle.run_detached();
    counts_on(&container);
    dump(&container, &image("one"), &[]).ok();
    assert_eq!(container.status(), "stopped");
    let stopped_at = numbers(&container).len();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(numbers(&container).len(), stopped_at, "nothing runs any more");
    container.delete();
    drop(container);
    let pid_file = folder().join("pid");
    let container = restore(&bundle, &image("one"), &["--pid-file", pid_file.to_str().unwrap(), "-no-subreaper"]);
    assert_eq!(container.status(), "running");
    assert_eq!(fs::read_to_string(pid_file).unwrap(), container.pid().to_string());
    counts_on(&container);
    assert!(numbers(&container).len() > stopped_at);
    let pid = container.pid();
    container.kill("KILL");
    wait_orphan(pid);
    container.wait_status("stopped");
    container.delete();
    drop(container);
}

fn leaves_running() {
    let bundle = Bundle::sh(COUNT);
    let container = bundle.run_detached();
    counts_on(&container);
    let pid = container.pid();
    dump(&container, &image("one"), &["--leave-running", "--leave-running"]).ok();
    assert_eq!((container.status(), container.pid()), ("running".to_owned(), pid));
    counts_on(&container);
}

/// Sizes of the memory in an image.
fn pages(image: &str) -> u64 {
    let files = fs::read_dir(image).unwrap().flatten();
    files.filter(|file| file.file_name().to_string_lossy().starts_with("pages-")).map(|file| file.metadata().unwrap().len()).sum()
}

fn memory_first_and_then_the_rest() {
    if !look::criu(&["check", "--feature", "mem_dirty_track"]) {
        skip("this kernel cannot tell which memory has changed");
    }
    let bundle = Bundle::sh(COUNT);
    let container = bundle.run_detached();
    counts_on(&container);
    dump(&container, &image("first"), &["--pre-dump"]).ok();
    assert_eq!(container.status(), "running");
    counts_on(&container);
    dump(&container, &image("last"), &["--parent-path", "../first"]).ok();
    assert_eq!(container.status(), "stopped");
    assert!(pages(&image("last")) < pages(&image("first")), "only what has changed is in the second image");
    container.delete();
    drop(container);
    counts_on(&restore(&bundle, &image("last"), &[]));
}

fn again_and_again() {
    let bundle = Bundle::sh(COUNT);
    let mut container = bundle.run_detached();
    for name in ["one", "two"] {
        counts_on(&container);
        dump(&container, &image(name), &["--work-path", &image(&format!("logs-{name}"))]).ok();
        assert!(Path::new(&image(&format!("logs-{name}"))).join("dump.log").exists(), "the log is in the work path");
        container.delete();
        drop(container);
        container = restore(&bundle, &image(name), &["--work-path", &image(&format!("logs-{name}"))]);
    }
    counts_on(&container);
}

fn restored_container_is_as_others() {
    let mut bundle = Bundle::sh(COUNT);
    bundle.set("/annotations", json!({ "colour": "blue" })).set("/hostname", json!("restored"));
    let container = bundle.run_detached();
    counts_on(&container);
    let before = container.state();
    dump(&container, &image("one"), &[]).ok();
    container.delete();
    drop(container);
    let container = restore(&bundle, &image("one"), &[]);
    let after = container.state();
    for field in ["id", "bundle", "rootfs", "annotations", "status", "ociVersion"] {
        assert_eq!(before[field], if field == "status" { json!("running") } else { after[field].clone() }, "{field}");
    }
    assert_eq!(inside(&container, "hostname; grep ^0:: /proc/self/cgroup"), "restored\n0::/\n");
    assert!(look::cgroup(container.pid()).ends_with(&bundle.id), "{}", look::cgroup(container.pid()));
    container.call(&["pause"]).output().ok();
    assert_eq!(container.status(), "paused");
    container.call(&["resume"]).output().ok();
    counts_on(&container);
    let status = fs::read_to_string(format!("/proc/{}/status", container.pid())).unwrap();
    assert_eq!(look::status_field(&status, "NoNewPrivs"), "1");
    container.call(&["delete", "--force"]).output().ok();
    eventually("its cgroup is gone", || look::cgroups_named(&bundle.id).is_empty());
}

fn restore_in_the_foreground() {
    let bundle = Bundle::sh("trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done");
    let container = bundle.run_detached();
    container.wait_stdout("ready");
    dump(&container, &image("one"), &[]).ok();
    container.delete();
    let mut running = restore_call(&bundle, &image("one"), &[]).spawn_to(&bundle.stdout_file(), &bundle.stderr_file());
    eventually("it runs", || container.call(&["state"]).output().stdout.contains("running"));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(running.id()).unwrap()), nix::sys::signal::SIGTERM).unwrap();
    assert_eq!(call::wait(&mut running).code(), Some(7));
    container.call(&["state"]).output().fails();
}

/// Runs it, dumps it, deletes it and restores it.
#[track_caller]
fn there_and_back(bundle: &Bundle, ready: &str, flags: &[&str]) -> Container {
    let container = bundle.run_detached();
    container.wait_stdout(ready);
    dump(&container, &image("one"), flags).ok();
    container.delete();
    drop(container);
    restore(bundle, &image("one"), flags)
}

fn inside(container: &Container, script: &str) -> String {
    Call::new(&["exec", &container.id, "sh", "-c", script]).output().ok()
}

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
    container.delete();
    drop(container);
    fs::remove_dir_all(bundle.inside("/etc")).unwrap();
    fs::remove_dir(bundle.inside("/proc")).unwrap();
    let container = restore(&bundle, &image("one"), &[]);
    assert_eq!(inside(&container, "cat /etc/deep/file"), "mine");
}

fn limits_and_cgroup() {
    let mut bundle = Bundle::sh(COUNT);
    bundle.set("/linux/resources/pids/limit", json!(123));
    let container = there_and_back(&bundle, "1\n", &[]);
    counts_on(&container);
    let group = look::cgroup2_root().join(look::cgroup(container.pid()).trim_start_matches('/'));
    assert_eq!(fs::read_to_string(group.join("pids.max")).unwrap().trim(), "123");
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

fn terminal() {
    let (bundle, receiver) = terminal_bundle();
    let container = bundle.create_with(&["--console-socket", receiver.path()]);
    let mut master = fs::File::from(receiver.receive().1);
    container.start();
    says(&mut master, "one");
    dump(&container, &image("one"), &[]).ok();
    container.delete();
    drop(container);
    drop(master);
    let receiver = Receiver::new("console-two");
    let container = restore(&bundle, &image("one"), &["--console-socket", receiver.path()]);
    let mut master = fs::File::from(receiver.receive().1);
    says(&mut master, "two");
    assert_eq!(container.status(), "running");
}

fn terminal_needs_a_socket() {
    let (bundle, receiver) = terminal_bundle();
    let container = bundle.create_with(&["--console-socket", receiver.path()]);
    let mut master = fs::File::from(receiver.receive().1);
    container.start();
    says(&mut master, "one");
    dump(&container, &image("one"), &[]).ok();
    container.delete();
    bundle.output_of(restore_call(&bundle, &image("one"), &["--detach"])).fails();
    container.call(&["state"]).output().fails();
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
    container.delete();
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
    container.delete();
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
    container.delete();
    drop(container);
    let container = restore(&bundle, &image("one"), &flags);
    peer.write_all(b"after\n").unwrap();
    container.wait_stdout("after");
}

/// A process in new namespaces of its own, and the path of one of them.
struct Holder(std::process::Child);

impl Holder {
    fn new(flags: &[&str]) -> Holder {
        let child = Command::new("unshare").args(flags).args(["sleep", "1000"]).spawn().unwrap();
        let holder = Holder(child);
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        let ipc = fs::read_link("/proc/self/ns/ipc").unwrap();
        eventually("the namespaces are there", || {
            let link = |name| fs::read_link(holder.path(name)).unwrap_or_else(|_| own.clone());
            link("net") != own || link("ipc") != ipc
        });
        holder
    }

    fn path(&self, name: &str) -> String {
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
    container.delete();
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
    container.delete();
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
    container.delete();
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

fn with_hooks(failing: bool) -> (Bundle, PathBuf) {
    let log = folder().join("hooks");
    let mut bundle = Bundle::sh(COUNT);
    for kind in ["prestart", "createRuntime", "poststart", "poststop"] {
        let end = if failing && kind == "createRuntime" { "exit 3" } else { "exit 0" };
        let script = format!(
            "read -r state; echo {kind} $(echo \"$state\" | grep -o '\"status\":\"[a-z]*\"\\|\"pid\":[0-9]*') >>{}; {end}",
            log.display()
        );
        bundle.set(&format!("/hooks/{kind}"), json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }]));
    }
    (bundle, log)
}

/// As runc: those that prepare the host for new namespaces run, those about a program that starts do not.
fn hooks() {
    let (bundle, log) = with_hooks(false);
    let container = bundle.run_detached();
    counts_on(&container);
    dump(&container, &image("one"), &[]).ok();
    container.delete();
    drop(container);
    fs::remove_file(&log).unwrap();
    let container = restore(&bundle, &image("one"), &[]);
    let pid = container.pid();
    container.call(&["delete", "--force"]).output().ok();
    let said = fs::read_to_string(log).unwrap();
    let words: Vec<&str> = said.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(words, ["prestart", "createRuntime", "poststop"], "{said}");
    assert!(said.contains(&format!("createRuntime \"status\":\"creating\" \"pid\":{pid}\n")), "{said}");
}

fn failing_hook_undoes_the_restore() {
    let (bundle, log) = with_hooks(false);
    let container = bundle.run_detached();
    counts_on(&container);
    dump(&container, &image("one"), &[]).ok();
    container.delete();
    fs::remove_file(&log).unwrap();
    let (mut failing, _) = with_hooks(true);
    failing.id = bundle.id.clone();
    failing.dir = bundle.dir.clone();
    let cgroups = failing.config["linux"]["cgroupsPath"].clone();
    let error = bundle_output(&failing, &["--detach"]).fails();
    assert!(error.contains("createRuntime hook"), "{error}");
    container.call(&["state"]).output().fails();
    let name = cgroups.as_str().unwrap().trim_start_matches('/').to_owned();
    eventually("its cgroup is gone", || look::cgroups_named(&name).is_empty());
    assert!(fs::read_to_string(log).unwrap().contains("poststop"));
}

fn bundle_output(bundle: &Bundle, flags: &[&str]) -> Output {
    bundle.output_of(restore_call(bundle, &image("one"), flags))
}

fn existing_id_is_refused() {
    let bundle = Bundle::sh(COUNT);
    let container = bundle.run_detached();
    counts_on(&container);
    dump(&container, &image("one"), &["--leave-running"]).ok();
    let error = bundle_output(&bundle, &["--detach"]).fails();
    assert!(error.contains("already exists"), "{error}");
    counts_on(&container);
}

fn only_what_runs_can_be_dumped() {
    let bundle = Bundle::sh("exit 0");
    let container = bundle.create();
    dump(&container, &image("one"), &[]).fails();
    assert_eq!(container.status(), "created");
    container.start();
    container.wait_status("stopped");
    dump(&container, &image("one"), &[]).fails();
    assert!(!Path::new(&image("one")).exists(), "nothing was made");
}

fn missing_criu() {
    let bundle = Bundle::sh(COUNT);
    let container = bundle.run_detached();
    let words = ["--criu", "/no/such/criu", "checkpoint", "--image-path", &image("one"), &container.id];
    let error = Call::new(&words).output().fails();
    assert!(error.contains("cannot start \"/no/such/criu\"") && error.contains("no such file or directory"), "{error}");
    assert!(error.contains("need the program criu"), "{error}");
    counts_on(&container);
}

fn fake_criu(script: &str) -> String {
    let path = folder().join("criu");
    fs::write(&path, format!("#!/bin/bash\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn old_criu() {
    // A response: success, version with major 3 and minor 11. A newline in it would make printf write it in two pieces.
    let program = fake_criu(r"printf '\020\001\122\004\010\003\020\013' >&$2; sleep 1");
    let bundle = Bundle::sh(COUNT);
    let container = bundle.run_detached();
    let error = Call::new(&["--criu", &program, "checkpoint", "--image-path", &image("one"), &container.id]).output().fails();
    assert!(error.contains("CRIU 3.11 is too old") && error.contains("CRIU 3.15 or newer"), "{error}");
    counts_on(&container);
}

fn criu_that_ends_at_once() {
    let program = fake_criu("exit 0");
    let bundle = Bundle::sh(COUNT);
    let container = bundle.run_detached();
    let error = Call::new(&["--criu", &program, "checkpoint", "--image-path", &image("one"), &container.id]).output().fails();
    assert!(error.contains("has ended without an answer"), "{error}");
    counts_on(&container);
    fs::create_dir_all(image("two")).unwrap();
    fs::write(Path::new(&image("two")).join("inventory.img"), "").unwrap();
    let other = Bundle::sh(COUNT);
    other.save();
    let words = ["--criu", &program, "restore", "-d", "--bundle", other.path(), "--image-path", &image("two"), &other.id];
    let error = Call::new(&words).output().fails();
    assert!(error.contains("has ended without an answer"), "{error}");
    other.container().call(&["state"]).output().fails();
    eventually("its cgroup is gone", || look::cgroups_named(&other.id).is_empty());
}

fn no_image() {
    let bundle = Bundle::sh(COUNT);
    bundle.save();
    let error = bundle_output(&bundle, &["--detach"]).fails();
    assert!(error.contains("image directory") && error.contains("no such file or directory"), "{error}");
    fs::create_dir(image("one")).unwrap();
    let error = bundle_output(&bundle, &["--detach"]).fails();
    assert!(error.contains("there is no checkpoint in") && error.contains("inventory.img"), "{error}");
    bundle.container().call(&["state"]).output().fails();
}

fn damaged_image() {
    let bundle = Bundle::sh(COUNT);
    let container = bundle.run_detached();
    counts_on(&container);
    dump(&container, &image("one"), &[]).ok();
    container.delete();
    fs::write(Path::new(&image("one")).join("pstree.img"), "nothing that CRIU knows").unwrap();
    let error = bundle_output(&bundle, &["--detach"]).fails();
    assert!(error.contains("criu failed: type RESTORE") && error.contains("Error ("), "the log is quoted: {error}");
    assert!(error.contains("restore.log"), "{error}");
    container.call(&["state"]).output().fails();
    eventually("its cgroup is gone", || look::cgroups_named(&bundle.id).is_empty());
}

/// An image can ask for no descriptor but the caller's streams, and for no file in its place.
fn hostile_descriptors() {
    let bundle = Bundle::sh(COUNT);
    let container = bundle.run_detached();
    counts_on(&container);
    dump(&container, &image("one"), &[]).ok();
    container.delete();
    let file = Path::new(&image("one")).join("descriptors.json");
    for bad in ["{\"a\":1}", "not JSON", &format!("[{}]", "\"x\",".repeat(100_000))] {
        fs::write(&file, bad).unwrap();
        bundle_output(&bundle, &["--detach"]).fails();
        container.call(&["state"]).output().fails();
    }
    fs::remove_file(&file).unwrap();
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    bundle_output(&bundle, &["--detach"]).fails();
    container.call(&["state"]).output().fails();
    assert_eq!(fs::symlink_metadata(&file).unwrap().size(), 0);
}

fn parent_path_is_relative() {
    let bundle = Bundle::sh(COUNT);
    let container = bundle.run_detached();
    for path in [image("parent"), "../none".to_owned()] {
        dump(&container, &image("one"), &["--parent-path", &path]).fails();
    }
    counts_on(&container);
}

fn help_and_probe_of_engines() {
    for verb in ["checkpoint", "restore"] {
        assert!(Call::bare(&[verb, "--help"]).output().ok().contains("--image-path"));
    }
    let error = Call::bare(&["restore", "--lsm-mount-context"]).output().fails();
    assert!(error.contains("flag needs an argument"), "{error}");
}
