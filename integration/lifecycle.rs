// SPDX-License-Identifier: Apache-2.0
//! The life of a container: create, start, kill, delete, and what `state` and `list` say meanwhile (runtime.md).

use std::fs;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::harness::bundle::{folder, new_id, state_root, wait_orphan};
use crate::harness::look::{self, eventually};
use crate::harness::{Bundle, Call, Test, call};
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(create_stops_before_the_program),
    test!(start_runs_the_program),
    test!(state_fields),
    test!(state_of_a_stopped_container),
    test!(relative_bundle_becomes_absolute),
    test!(bundle_defaults_to_the_current_directory),
    test!(status_follows_the_process),
    test!(start_twice),
    test!(start_of_a_stopped_container),
    test!(kill_by_name_and_number),
    test!(kill_before_start),
    test!(kill_with_an_unknown_signal),
    test!(kill_of_a_stopped_container),
    test!(delete_of_a_running_container_is_refused),
    test!(delete_of_a_created_container_kills_it),
    test!(delete_by_force),
    test!(delete_by_force_of_an_unknown_container),
    test!(unknown_container),
    test!(create_twice),
    test!(concurrent_creates_of_one_id),
    test!(init_is_left_to_the_subreaper),
    test!(init_survives_the_death_signal_of_its_caller),
    test!(list_as_json),
    test!(empty_list_is_null).differs(&[("crun", "prints an empty array")]),
    test!(list_as_ids_and_table).differs(&[("crun", "heads the columns NAME and BUNDLE PATH")]),
    test!(root_directory_as_state_root_is_refused),
    test!(works_without_environment),
    test!(a_hook_that_never_ends_gives_way_to_force).differs(&[
        ("runc", "leaves the command that makes the container, and its hook"),
        ("crun", "leaves the command that makes the container, and its hook"),
    ]),
    test!(a_poststart_hook_that_never_ends_gives_way_to_force)
        .differs(&[("runc", "leaves the command that runs the hook"), ("crun", "leaves the command that runs the hook")]),
    test!(twenty_lives_at_once),
    test!(killed_in_the_middle_of_create).seconds(120).differs(&[
        ("runc", "makes the cgroup before it has written down that there is a container"),
        ("crun", "makes the cgroup before it has written down that there is a container"),
    ]),
];

fn a_hook_that_never_ends_gives_way_to_force() {
    let mut bundle = Bundle::sh("true");
    bundle.set("/hooks", json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "1000"]}]}));
    bundle.save();
    let mut making = bundle.create_call(&[]).spawn_to(&bundle.stdout_file(), &bundle.stderr_file());
    let container = bundle.container();
    eventually("it is being made", || {
        let seen = container.call(&["state"]).output();
        seen.code() == 0 && seen.ok().contains("creating")
    });
    container.call(&["delete", "--force"]).output().ok();
    assert!(!making.wait().unwrap().success());
    container.call(&["state"]).output().fails();
}

/// The command that runs them holds the container meanwhile, be it start or run.
fn a_poststart_hook_that_never_ends_gives_way_to_force() {
    let begun = folder().join("begun");
    let script = format!("echo $$ >{0}.tmp; mv {0}.tmp {0}; exec sleep 1000", begun.display());
    for detached in [false, true] {
        let _ = fs::remove_file(&begun);
        let mut bundle = Bundle::args(&["/bin/sleep", "1000"]);
        bundle
            .set("/hooks/poststart/-", json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] }));
        let container = bundle.container();
        let files = (bundle.dir.join("command-out"), bundle.dir.join("command-err"));
        let mut starting = if detached {
            bundle.run_call(&["--detach"]).spawn_to(&files.0, &files.1)
        } else {
            bundle.output_of(bundle.create_call(&[])).ok();
            container.call(&["start"]).spawn_to(&files.0, &files.1)
        };
        eventually("the hook runs", || begun.exists());
        let (pid, hook) = (container.pid(), fs::read_to_string(&begun).unwrap().trim().parse().unwrap());
        let started = std::time::Instant::now();
        container.call(&["delete", "--force"]).output().ok();
        assert!(started.elapsed() < Duration::from_secs(8) * call::patience(), "it has waited for the hook");
        assert!(!starting.wait().unwrap().success(), "what ran the hook says that all is well");
        assert!(!look::alive(pid));
        eventually("the hook is dead", || !look::alive(hook));
        container.call(&["state"]).output().fails();
    }
}

fn create_stops_before_the_program() {
    let bundle = Bundle::sh("touch /ran; sleep 1000");
    let container = bundle.create();
    assert!(look::alive(container.pid()));
    thread::sleep(Duration::from_millis(50));
    assert!(!bundle.inside("/ran").exists(), "the program ran before start");
    container.start();
    eventually("the program runs", || bundle.inside("/ran").exists());
}

fn start_runs_the_program() {
    let container = Bundle::args(&["/bin/sleep", "4321"]).create();
    let pid = container.pid();
    container.start();
    assert_eq!(container.pid(), pid, "the process that was created is the one that runs");
    eventually("the process executes the program", || {
        fs::read(format!("/proc/{pid}/cmdline")).unwrap() == b"/bin/sleep\x004321\x00"
    });
}

fn state_fields() {
    let mut bundle = Bundle::new();
    bundle.set("/annotations", json!({ "org.example.key": "a value" }));
    let container = bundle.create();
    let state = container.state();
    assert!(state["ociVersion"].as_str().unwrap().starts_with("1."), "{state}");
    assert_eq!(state["id"], json!(bundle.id));
    assert_eq!(state["status"], "created");
    assert_eq!(state["bundle"], json!(bundle.path()));
    assert_eq!(state["annotations"]["org.example.key"], "a value", "{state}");
    let pid = i32::try_from(state["pid"].as_i64().unwrap()).unwrap();
    assert_ne!(look::namespace(pid, "mnt"), look::namespace("self", "mnt"));
    assert!(is_rfc3339(state["created"].as_str().unwrap()), "{state}");
    assert!(state["owner"].is_string(), "{state}");
}

/// RFC 3339 as Go's time.Time is decoded: `2026-11-21T00:27:47.817517998Z`, or with an offset.
pub fn is_rfc3339(text: &str) -> bool {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let Some(rest) = shape.strip_prefix("0000-00-00T00:00:00") else { return false };
    let rest = rest.strip_prefix('.').map_or(rest, |fraction| fraction.trim_start_matches('0'));
    rest == "Z" || rest == "+00:00" || rest == "-00:00"
}

fn state_of_a_stopped_container() {
    let container = Bundle::args(&["/bin/true"]).run_detached();
    container.wait_status("stopped");
    let state = container.state();
    assert_eq!(state["pid"].as_i64().unwrap_or(0), 0, "{state}");
    assert!(state.get("annotations").is_none_or(|a| a.is_null() || *a == json!({})), "{state}");
}

fn relative_bundle_becomes_absolute() {
    let bundle = Bundle::new();
    bundle.save();
    let container = bundle.container();
    let name = bundle.dir.file_name().unwrap().to_str().unwrap();
    let parent = bundle.dir.parent().unwrap();
    bundle.output_of(Call::new(&["create", "--bundle", name, &bundle.id]).dir(parent)).ok();
    assert_eq!(container.state()["bundle"], json!(bundle.path()));
}

fn bundle_defaults_to_the_current_directory() {
    let bundle = Bundle::new();
    bundle.save();
    let container = bundle.container();
    bundle.output_of(Call::new(&["create", &bundle.id]).dir(&bundle.dir)).ok();
    assert_eq!(container.state()["bundle"], json!(bundle.path()));
}

fn status_follows_the_process() {
    let container = Bundle::new().create();
    assert_eq!(container.status(), "created");
    container.start();
    assert_eq!(container.status(), "running");
    let pid = container.pid();
    container.kill("KILL");
    wait_orphan(pid);
    assert_eq!(container.status(), "stopped");
    container.delete();
    container.call(&["state"]).output().fails();
}

fn start_twice() {
    let container = Bundle::new().create();
    container.start();
    container.call(&["start"]).output().fails();
    assert_eq!(container.status(), "running");
}

fn start_of_a_stopped_container() {
    let container = Bundle::new().create();
    let pid = container.pid();
    container.kill("KILL");
    wait_orphan(pid);
    container.call(&["start"]).output().fails();
    assert_eq!(container.status(), "stopped");
}

fn kill_by_name_and_number() {
    let traps = "for s in TERM USR1 USR2 HUP; do trap \"echo got $s\" $s; done; echo ready; while true; do sleep 0.01; done";
    let container = Bundle::sh(traps).run_detached();
    container.wait_stdout("ready");
    for (signal, name) in [("TERM", "TERM"), ("SIGUSR1", "USR1"), ("12", "USR2"), ("1", "HUP")] {
        container.kill(signal);
        container.wait_stdout(&format!("got {name}\n"));
    }
    container.call(&["kill"]).output().ok();
    eventually("kill sends TERM by default", || container.stdout().matches("got TERM").count() == 2);
}

fn kill_before_start() {
    let bundle = Bundle::sh("touch /ran");
    let container = bundle.create();
    let pid = container.pid();
    container.kill("KILL");
    assert_eq!(wait_orphan(pid), WaitStatus::Signaled(Pid::from_raw(pid), Signal::SIGKILL, false));
    assert_eq!(container.status(), "stopped");
    assert!(!bundle.inside("/ran").exists());
}

fn kill_with_an_unknown_signal() {
    let container = Bundle::new().run_detached();
    for signal in ["FOO", "SIG", "9999", "-9x"] {
        Call::new(&["kill", &container.id, signal]).output().fails();
    }
    assert_eq!(container.status(), "running");
}

fn kill_of_a_stopped_container() {
    let container = Bundle::args(&["/bin/true"]).run_detached();
    container.wait_status("stopped");
    Call::new(&["kill", &container.id, "TERM"]).output().fails();
}

fn delete_of_a_running_container_is_refused() {
    let container = Bundle::new().run_detached();
    container.call(&["delete"]).output().fails();
    assert_eq!(container.status(), "running");
}

fn delete_of_a_created_container_kills_it() {
    let bundle = Bundle::sh("touch /ran");
    let container = bundle.create();
    let pid = container.pid();
    container.delete();
    assert!(!look::alive(pid));
    assert!(!bundle.inside("/ran").exists());
    container.call(&["state"]).output().fails();
}

fn delete_by_force() {
    let container = Bundle::sh("sleep 1000 & sleep 1000 & wait").run_detached();
    let pid = container.pid();
    container.call(&["delete", "--force"]).output().ok();
    assert!(!look::alive(pid));
    assert_eq!(look::cgroups_named(&container.id), Vec::<std::path::PathBuf>::new());
    container.call(&["state"]).output().fails();
}

fn delete_by_force_of_an_unknown_container() {
    Call::new(&["delete", "--force", &new_id()]).output().ok();
}

fn unknown_container() {
    for command in [&["state"][..], &["start"], &["kill"], &["delete"]] {
        Call::new(&[command, &[new_id().as_str()]].concat()).output().fails();
    }
}

fn create_twice() {
    let bundle = Bundle::new();
    let container = bundle.create();
    let before = container.state();
    let message = bundle.output_of(bundle.create_call(&[])).fails();
    assert!(message.contains("exists"), "{message}");
    assert_eq!(container.state(), before, "the first container is left alone");
    assert!(look::alive(container.pid()));
    container.start();
    assert_eq!(container.status(), "running");
}

fn concurrent_creates_of_one_id() {
    let bundle = Bundle::new();
    bundle.save();
    let container = bundle.container();
    let logs = |n: usize| bundle.dir.join(format!("log{n}"));
    let mut calls: Vec<_> = (0..4).map(|n| bundle.create_call(&[]).spawn_to(&logs(n), &logs(n))).collect();
    let won = calls.iter_mut().map(call::wait).filter(|status| status.success()).count();
    assert_eq!(won, 1, "exactly one of four concurrent creates wins");
    assert_eq!(container.status(), "created");
    assert!(look::alive(container.pid()));
}

fn init_is_left_to_the_subreaper() {
    let container = Bundle::sh("exit 42").create();
    let pid = container.pid();
    assert_eq!(look::parent(pid), i32::try_from(std::process::id()).unwrap());
    assert_eq!(look::children_of_self(), [Pid::from_raw(pid)], "no other process remains of create");
    container.start();
    assert_eq!(wait_orphan(pid), WaitStatus::Exited(Pid::from_raw(pid), 42));
}

fn init_survives_the_death_signal_of_its_caller() {
    let bundle = Bundle::new();
    bundle.save();
    let container = bundle.container();
    let prefix = ["setpriv", "--pdeathsig", "KILL"];
    bundle.output_of(Call::through(&prefix, &["create", "--bundle", bundle.path(), &bundle.id])).ok();
    thread::sleep(Duration::from_millis(20));
    assert!(look::alive(container.pid()));
    container.start();
    assert_eq!(container.status(), "running");
}

fn list_as_json() {
    let list = || -> Value { serde_json::from_str(&Call::new(&["list", "--format", "json"]).output().ok()).unwrap() };
    let (one, two) = (Bundle::new().create(), Bundle::new().run_detached());
    let both = list();
    assert_eq!(both.as_array().unwrap().len(), 2, "{both}");
    for container in [&one, &two] {
        let entry = both.as_array().unwrap().iter().find(|entry| entry["id"] == json!(container.id)).unwrap();
        let state = container.state();
        for field in ["pid", "status", "bundle", "created"] {
            assert_eq!(entry[field], state[field], "{field} of {entry}");
        }
        assert_eq!(entry["owner"], "root", "{entry}");
    }
}

/// As go-runc and runc's other callers have always read it.
fn empty_list_is_null() {
    assert_eq!(Call::new(&["list", "--format", "json"]).output().ok().trim(), "null");
}

fn list_as_ids_and_table() {
    assert_eq!(Call::new(&["list", "-q"]).output().ok(), "");
    let container = Bundle::new().create();
    assert_eq!(Call::new(&["list", "-q"]).output().ok().trim(), container.id);
    let table = Call::new(&["list"]).output().ok();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 2, "{table}");
    let words: Vec<&str> = lines[0].split_whitespace().take(4).collect();
    assert_eq!(words, ["ID", "PID", "STATUS", "BUNDLE"]);
    let words: Vec<&str> = lines[1].split_whitespace().take(3).collect();
    assert_eq!(words, [container.id.as_str(), &container.pid().to_string(), "created"]);
}

fn root_directory_as_state_root_is_refused() {
    let id = new_id();
    Call::bare(&["--root", "/", "state", &id]).output().fails();
    Call::bare(&["--root", "/", "delete", &id]).output().fails();
}

fn works_without_environment() {
    let bundle = Bundle::new();
    let container = bundle.container();
    bundle.output_of(bundle.create_call(&[]).no_env()).ok();
    container.call(&["start"]).no_env().output().ok();
    assert!(container.call(&["state"]).no_env().output().ok().contains("\"running\""));
    for command in [&["kill"][..], &["delete", "--force"]] {
        container.call(command).no_env().output().ok();
    }
}

fn twenty_lives_at_once() {
    thread::scope(|scope| {
        let lives: Vec<_> = (0..20)
            .map(|_| Bundle::sh("echo alive; sleep 1000"))
            .map(|bundle| {
                scope.spawn(move || {
                    let container = bundle.create();
                    container.start();
                    container.wait_stdout("alive\n");
                    container.kill("KILL");
                    container.wait_status("stopped");
                    container.delete();
                })
            })
            .collect();
        lives.into_iter().for_each(|life| life.join().unwrap());
    });
    assert_eq!(look::cgroups_named(&std::env::var("BERTH_TEST_ID").unwrap()), Vec::<std::path::PathBuf>::new());
}

/// The runtime is killed at forty moments of a create, from its first to its last millisecond. Each time
/// `delete --force` must succeed and leave nothing: the id can then be used again.
fn killed_in_the_middle_of_create() {
    let bundle = Bundle::new();
    let started = std::time::Instant::now();
    drop(bundle.create());
    let whole = started.elapsed();
    for moment in 0..40u32 {
        let mut create = bundle.create_call(&[]).spawn_to(&bundle.stdout_file(), &bundle.stderr_file());
        thread::sleep(whole * moment / 40);
        create.kill().unwrap();
        create.wait().unwrap();
        let container = bundle.container();
        container.call(&["delete", "--force"]).output().ok();
        let cgroups = look::cgroups_named(&bundle.id);
        assert!(cgroups.is_empty(), "killed after {moment}/40 of a create, it leaves {cgroups:?}");
        eventually("no process is left", || look::children_of_self().iter().all(|child| !look::alive(child.as_raw())));
        let state = state_root().join(&bundle.id);
        assert!(!state.exists(), "killed after {moment}/40 of a create, it leaves {}", state.display());
    }
    assert_eq!(bundle.create().status(), "created", "the id can be used again");
}
