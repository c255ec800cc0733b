// SPDX-License-Identifier: Apache-2.0
//! A container's life across a checkpoint: it goes on where it was, and is afterwards a container as others are.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::harness::bundle::wait_orphan;
use crate::harness::{Test, call, look};
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(goes_on_counting).needs(NEEDS).seconds(120).differs(&[("crun", "says in other words that it does not exist")]),
    test!(a_dump_removes_the_container).needs(NEEDS).seconds(120).differs(&[
        ("runc", "runs the poststop hooks twice where it ran in the foreground"),
        ("crun", "fails to remove it a second time where it ran in the foreground"),
    ]),
    test!(leaves_running).needs(NEEDS).seconds(120),
    test!(again_and_again).needs(NEEDS).seconds(120).differs(&[CRUN]),
    test!(restored_container_is_as_others)
        .needs(NEEDS)
        .seconds(120)
        .differs(&[("runc", "shows the host's path of its cgroup where CRIU is to leave cgroups alone"), CRUN]),
    test!(restore_in_the_foreground).needs(NEEDS).seconds(120).differs(&[CRUN]),
    test!(limits_and_cgroup).needs(&[Need::Criu, Need::Controller("pids")]).seconds(120),
    test!(hooks).needs(NEEDS).seconds(120).differs(&[("runc", "tells the hooks of a restore that it is stopped"), CRUN]),
    test!(steps_are_told_and_traced).needs(NEEDS).seconds(120).differs(&[("runc", "has no --trace"), ("crun", "has no --trace")]),
    test!(failing_hook_undoes_the_restore).needs(NEEDS).seconds(120).differs(&[CRUN]),
    test!(existing_id_is_refused).needs(NEEDS).seconds(120),
    test!(only_what_runs_can_be_dumped).differs(&[("crun", "makes the directory of the image first")]),
];

fn goes_on_counting() {
    let bundle = Bundle::sh(COUNT);
    let container = bundle.run_detached();
    counts_on(&container);
    dump(&container, &image("one"), &[]).ok();
    gone(&container);
    let stopped_at = numbers(&container).len();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(numbers(&container).len(), stopped_at, "nothing runs any more");
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
}

/// Engines delete what they have dumped, with and without --force, and take it for done when it does not exist.
#[track_caller]
fn gone(container: &Container) {
    for verb in ["state", "delete"] {
        let error = container.call(&[verb]).output().fails();
        assert!(error.contains("container does not exist"), "{error}");
    }
    container.call(&["delete", "--force"]).output().ok();
}

/// It is over, as after a `delete`; the command that ran it in the foreground has nothing left to do.
fn a_dump_removes_the_container() {
    let (bundle, log) = with_hooks(false);
    let container = bundle.container();
    let mut running = bundle.run_call(&[]).spawn_to(&bundle.stdout_file(), &bundle.stderr_file());
    counts_on(&container);
    assert_eq!(dump(&container, &image("one"), &[]).ok(), "");
    assert_eq!(call::wait(&mut running).code(), Some(137));
    gone(&container);
    assert_eq!(look::cgroups_named(&bundle.id), Vec::<PathBuf>::new());
    let said = fs::read_to_string(log).unwrap();
    assert_eq!(said.matches("poststop \"status\":\"stopped\"").count(), 1, "{said}");
    assert_eq!(fs::read_to_string(bundle.stderr_file()).unwrap(), "");
}

fn leaves_running() {
    let bundle = Bundle::sh(COUNT);
    let container = bundle.run_detached();
    counts_on(&container);
    let pid = container.pid();
    dump(&container, &image("one"), &["--leave-running", "--leave-running"]).ok();
    assert_eq!((container.status(), container.pid()), ("running".to_owned(), pid));
    counts_on(&container);
    // One that is paused stays so.
    container.call(&["pause"]).output().ok();
    dump(&container, &image("two"), &["--leave-running"]).ok();
    assert_eq!(container.status(), "paused");
    container.call(&["resume"]).output().ok();
    counts_on(&container);
}

fn again_and_again() {
    let bundle = Bundle::sh(COUNT);
    let mut container = bundle.run_detached();
    for name in ["one", "two"] {
        counts_on(&container);
        dump(&container, &image(name), &["--work-path", &image(&format!("logs-{name}"))]).ok();
        assert!(Path::new(&image(&format!("logs-{name}"))).join("dump.log").exists(), "the log is in the work path");
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
    let mut running = restore_call(&bundle, &image("one"), &[]).spawn_to(&bundle.stdout_file(), &bundle.stderr_file());
    eventually("it runs", || container.call(&["state"]).output().stdout.contains("running"));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(running.id()).unwrap()), nix::sys::signal::SIGTERM).unwrap();
    assert_eq!(call::wait(&mut running).code(), Some(7));
    container.call(&["state"]).output().fails();
}

fn limits_and_cgroup() {
    let mut bundle = Bundle::sh(COUNT);
    bundle.set("/linux/resources/pids/limit", json!(123));
    let container = there_and_back(&bundle, "1\n", &[]);
    counts_on(&container);
    let group = look::cgroup2_root().join(look::cgroup(container.pid()).trim_start_matches('/'));
    assert_eq!(fs::read_to_string(group.join("pids.max")).unwrap().trim(), "123");
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

/// As those of `create`: each with what it took, in the log and in the trace, where CRIU's and the hooks' parts lie within.
fn steps_are_told_and_traced() {
    let (bundle, _) = with_hooks(false);
    let container = bundle.run_detached();
    counts_on(&container);
    let (log, trace) = (folder().join("log"), folder().join("trace"));
    let (log, trace, images) = (log.to_str().unwrap(), trace.to_str().unwrap(), image("one"));
    with_criu(Call::new(&["--trace", trace, "checkpoint", "--image-path", &images, &container.id])).output().ok();
    drop(container);
    bundle.save();
    let words = ["--debug", "--log", log, "--trace", trace, "restore", "--detach", "--bundle", bundle.path(), "--image-path"];
    let pid_file = folder().join("pid");
    let words = [&words[..], &[&images, "--pid-file", pid_file.to_str().unwrap(), &bundle.id]].concat();
    let container = bundle.container();
    bundle.output_of(with_criu(Call::new(&words))).ok();
    counts_on(&container);
    let steps =
        ["save the journal", "make the cgroup", "make missing places", "open the namespaces", "start the process", "put it into"];
    let steps = [&steps[..], &["let it become CRIU", "have CRIU restore", "write the pid file"]].concat();
    let told = fs::read_to_string(log).unwrap();
    for (number, step) in (1..).zip(&steps) {
        let line = format!("runtime step {number} of {}: {step}", steps.len());
        assert!(told.lines().any(|said| said.contains(&line) && said.contains(" µs")), "{line} in {told}");
    }
    let events: Vec<serde_json::Value> = serde_json::from_slice(&fs::read(trace).unwrap()).unwrap();
    let find = |name: &str| {
        let found = events.iter().find(|event| event["ph"] == "X" && event["name"].as_str().unwrap().starts_with(name));
        let found = found.unwrap_or_else(|| panic!("no \"{name}\" in {events:#?}"));
        let begin = found["ts"].as_u64().unwrap();
        (begin, begin + found["dur"].as_u64().unwrap())
    };
    let within = |inner: &str, outer: &str| {
        let (inner, outer) = (find(inner), find(outer));
        assert!(outer.0 <= inner.0 && inner.1 <= outer.1, "{inner:?} in {outer:?}");
    };
    for step in &steps {
        within(step, "restore ");
    }
    let inner = ["criu until setup-namespaces", "prestart hook #0", "createRuntime hook #0", "criu until post-restore"];
    inner.into_iter().for_each(|part| within(part, "have CRIU restore"));
    ["find what of it", "start CRIU", "have CRIU dump"].into_iter().for_each(|part| within(part, "checkpoint "));
}

fn failing_hook_undoes_the_restore() {
    let (bundle, log) = with_hooks(false);
    let container = bundle.run_detached();
    counts_on(&container);
    dump(&container, &image("one"), &[]).ok();
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
