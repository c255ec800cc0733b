// SPDX-License-Identifier: Apache-2.0
//! The command lines that engines send, word for word, through the life of a container: containerd's shim with go-runc, conmon, conmon-rs,
//! CRI-O, Podman, buildah and BuildKit. Each is one sequence, with the environment and streams that its caller gives.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::harness::bundle::{end_orphan, folder, state_root, wait_orphan};
use crate::harness::look::{self, eventually};
use crate::harness::receive::Receiver;
use crate::harness::{Bundle, Call, Container, Test};
use crate::test;

const GRAMMAR: (&str, &str) = ("crun", "has GNU's grammar, not Go's");

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(containerd_with_go_runc).differs(&[("crun", "says in other words that there is no container")]),
    test!(containerd_with_a_terminal),
    test!(containerd_cleans_up_what_is_not_there),
    test!(containerd_kills_what_a_first_process_left).differs(&[("crun", "finds nobody to kill")]),
    test!(conmon).differs(&[("crun", "says in other words that there is no file")]),
    test!(conmon_rs_says_everything_twice),
    test!(crio).differs(&[("crun", "says in other words that it has ended")]),
    test!(podman_with_hardly_an_environment),
    test!(podman_without_cgroups).differs(&[("runc", "has no --cgroup-manager")]),
    test!(buildah),
    test!(buildkit).differs(&[("crun", "kills what does not exist")]),
    test!(docker_with_a_wrapper).differs(&[GRAMMAR]),
    test!(nvidias_wrapper_finds_its_words).differs(&[GRAMMAR]),
];

fn root() -> String {
    state_root().to_str().unwrap().to_owned()
}

fn path(name: &str) -> String {
    folder().join(name).to_str().unwrap().to_owned()
}

fn pid_in(file: &str) -> i32 {
    // strconv.Atoi takes nothing but digits.
    fs::read_to_string(file).unwrap().parse().unwrap()
}

fn process_file(args: &[&str]) -> String {
    let file = path("runc-process123");
    let process = json!({ "user": { "uid": 0, "gid": 0 }, "args": args, "env": ["PATH=/bin"], "cwd": "/" });
    fs::write(&file, process.to_string()).unwrap();
    file
}

/// `RT --root R --log L --log-format json …`
fn shim(words: &[&str]) -> Call {
    let (root, log) = (root(), path("log.json"));
    let mut all = vec!["--root", &root, "--log", &log, "--log-format", "json"];
    all.extend(words);
    Call::bare(&all).env("GOMAXPROCS", "4").env("OTEL_SERVICE_NAME", "containerd-shim-id")
}

fn last_error() -> String {
    let text = fs::read_to_string(path("log.json")).unwrap_or_default();
    let last = text.lines().last().map(|line| serde_json::from_str::<Value>(line).unwrap());
    last.map_or(String::new(), |entry| entry["msg"].as_str().unwrap().to_owned())
}

fn containerd_with_go_runc() {
    let bundle = Bundle::sh("trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done");
    bundle.save();
    let (container, id) = (bundle.container(), bundle.id.as_str());
    let (init_pid, exec_pid) = (path("init.pid"), path("exec.pid"));
    bundle.output_of(shim(&["create", "--bundle", bundle.path(), "--pid-file", &init_pid, id])).ok();
    assert_eq!(look::parent(pid_in(&init_pid)), i32::try_from(std::process::id()).unwrap());
    shim(&["start", id]).output().ok();
    container.wait_stdout("up");
    let process = process_file(&["sleep", "1000"]);
    bundle.output_of(shim(&["exec", "--process", &process, "--detach", "--pid-file", &exec_pid, id])).ok();
    fs::remove_file(process).unwrap();
    let pids: Vec<i32> = serde_json::from_str(&shim(&["ps", "--format", "json", id]).output().ok()).unwrap();
    assert!(pids.contains(&pid_in(&init_pid)) && pids.contains(&pid_in(&exec_pid)), "{pids:?}");
    shim(&["pause", id]).output().ok();
    shim(&["resume", id]).output().ok();
    let mut limits = fs::File::options().read(true).write(true).create_new(true).open(path("limits")).unwrap();
    limits.write_all(b"{\"unknown\":1,\"blockIO\":{}}\n").unwrap();
    std::io::Seek::rewind(&mut limits).unwrap();
    shim(&["update", "--resources=-", id]).stdin(limits).output().ok();
    shim(&["kill", id, "15"]).output().ok();
    // Its pid namespace ends with it, and so does what was executed in it.
    wait_orphan(pid_in(&exec_pid));
    assert_eq!(look_at_end(pid_in(&init_pid)), 7);
    shim(&["delete", id]).output().ok();
    assert_eq!(last_error(), "", "nothing is logged that is no error");
    shim(&["kill", id, "9"]).output().fails();
    assert!(last_error().contains("does not exist"), "{}", last_error());
}

fn look_at_end(pid: i32) -> i32 {
    match wait_orphan(pid) {
        nix::sys::wait::WaitStatus::Exited(_, code) => code,
        other => panic!("{other:?}"),
    }
}

fn containerd_with_a_terminal() {
    let mut bundle = Bundle::args(&["/bin/sleep", "1000"]);
    bundle.set("/process/terminal", json!(true));
    bundle.save();
    let (_container, id, console) = (bundle.container(), bundle.id.as_str(), Receiver::new("pty.sock"));
    let init_pid = path("init.pid");
    let words = ["create", "--bundle", bundle.path(), "--pid-file", &init_pid, "--console-socket", console.path(), id];
    // Both outputs are pipes that it reads to their end.
    shim(&words).output().ok();
    let (name, _master) = console.receive();
    assert!(name.len() < 4096);
    shim(&["start", id]).output().ok();
    shim(&["delete", "--force", id]).output().ok();
    wait_orphan(pid_in(&init_pid));
}

fn containerd_cleans_up_what_is_not_there() {
    shim(&["delete", "--force", "never-made"]).output().ok();
    // What is left of a create that did not get far.
    fs::create_dir_all(state_root().join("half")).unwrap();
    shim(&["delete", "--force", "half"]).output().ok();
    assert!(!state_root().join("half").exists());
}

/// The container shares the host's pid namespace: its first process is dead, and `kill --all` finds the others.
fn containerd_kills_what_a_first_process_left() {
    let mut bundle = Bundle::sh("sleep 1000 & exit 0");
    bundle.namespace("pid", Some(""));
    let (container, id) = (bundle.create(), bundle.id.as_str());
    container.start();
    container.wait_status("stopped");
    let left: Vec<i32> = serde_json::from_str(&shim(&["ps", "--format", "json", id]).output().ok()).unwrap();
    assert_eq!(left.len(), 1, "{left:?}");
    shim(&["kill", "--all", id, "9"]).output().ok();
    wait_orphan(left[0]);
    shim(&["kill", "--all", id, "9"]).output().ok();
    shim(&["delete", id]).output().ok();
}

/// `RT create|restore --bundle B --pid-file P … ID`; exec without --systemd-cgroup; the first 8191 bytes of stderr are the message.
fn conmon() {
    let bundle = Bundle::sh("echo out; echo err >&2; exec sleep 1000");
    bundle.save();
    let (container, id, pid_file) = (bundle.container(), bundle.id.as_str(), path("pidfile"));
    let root = format!("--root={}", root());
    let words =
        [&root, "create", "--bundle", bundle.path(), "--pid-file", &pid_file, "--no-new-keyring", "--preserve-fds", "0", id];
    bundle.output_of(Call::bare(&words)).ok();
    Call::bare(&[&root, "start", id]).output().ok();
    container.wait_stdout("out\n");
    let (process, exec_pid) = (process_file(&["sh", "-c", "exit 3"]), path("execpid"));
    let words = [&root, "exec", "--pid-file", &exec_pid, "--process", &process, "--detach", id];
    bundle.output_of(Call::bare(&words)).ok();
    assert_eq!(look_at_end(pid_in(&exec_pid)), 3);
    let process = process_file(&["/not/there"]);
    let failed = path("failedpid");
    let words = [&root, "exec", "--pid-file", &failed, "--process", &process, "--detach", id];
    let said = bundle.output_of(Call::bare(&words)).fails();
    assert!(said.len() < 8191 && said.contains("no such file or directory"), "{said}");
    assert!(!PathBuf::from(failed).exists(), "its absence is the failure");
    Call::bare(&[&root, "delete", "--force", id]).output().ok();
    wait_orphan(pid_in(&pid_file));
}

fn conmon_rs_says_everything_twice() {
    let bundle = Bundle::args(&["/bin/sleep", "1000"]);
    bundle.save();
    let (container, id, pid_file) = (bundle.container(), bundle.id.as_str(), path("pidfile"));
    let root = format!("--root={}", root());
    bundle.output_of(Call::bare(&[&root, &root, "create", "--bundle", bundle.path(), "--pid-file", &pid_file, id])).ok();
    container.start();
    let exec_pid = path("execpid");
    let pid_flag = format!("--pid-file={exec_pid}");
    bundle.output_of(Call::bare(&[&root, &root, "exec", "-d", &pid_flag, id, "sleep", "1000"])).ok();
    let pid = nix::unistd::Pid::from_raw(pid_in(&exec_pid));
    eventually("its program runs", || look::comm(pid) == "sleep");
    end_orphan(&PathBuf::from(exec_pid));
    container.call(&["delete", "--force"]).output().ok();
}

fn crio() {
    let bundle = Bundle::sh("trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done");
    let (container, id) = (bundle.create(), bundle.id.as_str());
    let root = root();
    let rt = |words: &[&str]| Call::bare(&[&["--root", &root], words].concat()).env("CRI_O_EXTERNAL", "1").output();
    rt(&["start", id]).ok();
    container.wait_stdout("up");
    let state: Value = serde_json::from_str(&rt(&["state", id]).ok()).unwrap();
    assert_eq!(state["status"], "running");
    for absent in ["started", "finished", "exitCode"] {
        assert!(state.get(absent).is_none(), "{state}");
    }
    let process = process_file(&["sh", "-c", "exit 9"]);
    assert_eq!(rt(&["exec", "--process", &process, id]).code(), 9);
    rt(&["kill", id, "15"]).ok();
    container.wait_status("stopped");
    let said = rt(&["kill", id, "KILL"]).fails();
    assert!(["container not running", "no such process", "invalid process"].iter().any(|text| said.contains(text)), "{said}");
    rt(&["delete", "--force", id]).ok();
    for words in [&["features"][..], &["--version"]] {
        let output = Call::bare(words).output();
        assert_eq!(output.stderr, "", "it reads both streams as one");
        output.ok();
    }
}

/// kill, delete, pause and resume get XDG_RUNTIME_DIR alone, and as root that is empty.
fn podman_with_hardly_an_environment() {
    let bundle = Bundle::args(&["/bin/sleep", "1000"]);
    let (container, id, log) = (bundle.create(), bundle.id.as_str(), path("oci-log"));
    container.start();
    let root = root();
    let rt = |words: &[&str]| {
        let all = [&["--root", &root, "--log-format=json", "--log", &log], words].concat();
        Call::bare(&all).no_env().env("XDG_RUNTIME_DIR", "").output()
    };
    rt(&["pause", id]).ok();
    rt(&["resume", id]).ok();
    let file = path("podman1");
    fs::write(&file, "{}").unwrap();
    rt(&["update", &format!("--resources={file}"), id]).ok();
    rt(&["kill", "--all", id, "9"]).ok();
    container.wait_status("stopped");
    rt(&["kill", id, "9"]).fails();
    // The file is one object, or it is not read at all.
    let entry: Value = serde_json::from_str(fs::read_to_string(&log).unwrap().trim_end()).unwrap();
    assert_eq!(entry["level"], "error");
    rt(&["delete", "--force", id]).ok();
}

fn podman_without_cgroups() {
    let mut bundle = Bundle::args(&["/bin/sleep", "1000"]);
    bundle.unset("/linux", "cgroupsPath");
    bundle.save();
    let (container, id, root) = (bundle.container(), bundle.id.as_str(), root());
    let rt = |words: &[&str]| Call::bare(&[&["--root", &root, "--cgroup-manager", "disabled"], words].concat());
    bundle.output_of(rt(&["create", "--bundle", bundle.path(), id])).ok();
    assert_eq!(look::cgroup(container.pid()), look::cgroup(i32::try_from(std::process::id()).unwrap()));
    let pid = container.pid();
    container.start();
    container.call(&["exec"]).output().fails();
    assert_eq!(Call::new(&["exec", id, "echo", "in"]).output().ok(), "in\n");
    container.kill("KILL");
    wait_orphan(pid);
    rt(&["delete", id]).output().ok();
}

/// `kill NAME` without a signal, `state` again and again, `delete` without force.
fn buildah() {
    let bundle = Bundle::sh("trap 'exit 4' TERM; echo up; while :; do sleep 0.05; done");
    bundle.save();
    let (container, id, pid_file, root) = (bundle.container(), bundle.id.as_str(), format!("{}/pid", bundle.path()), root());
    let rt = |words: &[&str]| Call::bare(&[&["--root", &root], words].concat());
    bundle.output_of(rt(&["create", "--bundle", bundle.path(), "--pid-file", &pid_file, id])).ok();
    rt(&["start", id]).output().ok();
    container.wait_stdout("up");
    for _ in 0..20 {
        let state: Value = serde_json::from_str(&rt(&["state", id]).output().ok()).unwrap();
        assert_eq!(state["status"], "running");
    }
    rt(&["kill", id]).output().ok();
    assert_eq!(look_at_end(pid_in(&pid_file)), 4);
    rt(&["delete", id]).output().ok();
}

/// A foreground `run --keep`, `state` until it runs, `exec`, and `kill ID 9` until it works, which it must not before there is something.
fn buildkit() {
    let bundle = Bundle::args(&["/bin/sleep", "1000"]);
    bundle.save();
    let (id, root, log) = (bundle.id.as_str(), root(), path("runc-log.json"));
    let container = bundle.container();
    let rt = |words: &[&str]| Call::bare(&[&["--root", &root, "--log", &log, "--log-format", "json"], words].concat());
    rt(&["kill", id, "9"]).output().fails();
    let run = rt(&["run", "--bundle", bundle.path(), "--keep", id]).spawn();
    eventually("it runs", || {
        let state = rt(&["state", id]).output();
        state.status.success() && serde_json::from_str::<Value>(&state.stdout).unwrap()["status"] == "running"
    });
    let rootfs = container.state()["rootfs"].as_str().unwrap().to_owned();
    assert!(rootfs.starts_with('/') && PathBuf::from(&rootfs).join("bin/busybox").exists(), "it looks users up there: {rootfs}");
    let process = process_file(&["sh", "-c", "exit 5"]);
    assert_eq!(rt(&["exec", "--process", &process, id]).output().code(), 5);
    rt(&["kill", id, "9"]).output().ok();
    assert_eq!(run.finish().code(), 137);
    // Its cgroup can be read until the delete, by the path of the configuration.
    let cgroup = look::cgroup2_root().join(id);
    assert!(cgroup.join("cgroup.events").exists(), "{}", cgroup.display());
    rt(&["delete", id]).output().ok();
    assert!(!cgroup.exists());
}

/// daemon.json's runtimeArgs: a script that puts its words before ours.
fn docker_with_a_wrapper() {
    let script = path("wrapper");
    let runtime = crate::harness::call::runtime();
    fs::write(&script, format!("#!/bin/sh\nexec {} --debug=false --root /old $@\n", runtime.display())).unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let container = Bundle::args(&["/bin/sleep", "1000"]).create();
    Call::program(&[&script, "--root", &root(), "state", &container.id]).output().ok();
    Call::program(&[&script, "features"]).output().ok();
}

/// It looks for the word `create` and for -b, -bundle or --bundle, and changes the file there before it executes us with the same words.
fn nvidias_wrapper_finds_its_words() {
    for flag in ["-b", "-bundle", "--bundle"] {
        let bundle = Bundle::new();
        bundle.save();
        let container: Container = bundle.container();
        bundle.output_of(Call::new(&["create", flag, bundle.path(), &bundle.id]).stdin(Stdio::null())).ok();
        assert_eq!(container.status(), "created");
    }
}
